//! The plan: a schedule of launches over buffers, after fusion and layout and before code generation.
//!
//! A backend's lowering makes steps over unplaced buffers; [`memory::place`] puts the buffers into the arena; [`check::check_plan`]
//! proves the result again from scratch.

pub mod check;
pub mod memory;
pub mod print;

use graphc_ir::tape::Tape;
use graphc_ir::{Dim, Elem, Loc, Sym, Tensor, Type, VarId};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);
        impl $name { pub fn index(self) -> usize { self.0 as usize } }
    )* };
}
ids!(
    /// A buffer of a plan.
    Buf,
    /// A packed constant of a plan.
    ConstId,
    /// A fused loop of a plan.
    LoopId
);

/// One function, ready for code generation.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub name: String,
    /// Symbols of the signature, in the order in which an entry takes their values.
    pub syms: Vec<Sym>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub buffers: Vec<Buffer>,
    pub consts: Vec<Const>,
    pub loops: Vec<Loop>,
    /// In order; control flow is marked by steps that nest like brackets.
    pub steps: Vec<Step>,
    /// Bytes of the arena; a multiple of the ABI's alignment for every value of the symbols.
    pub arena: Dim,
}

/// An input or output of the function.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub ty: Type,
    pub buf: Buf,
}

#[derive(Clone, Debug)]
pub struct Buffer {
    /// Type of what it holds; its bytes are `ty.elements() * ty.elem.size()`.
    pub ty: Type,
    pub place: Place,
    pub loc: Loc,
}

/// Where a buffer lies.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// Not decided yet; `memory::place` decides.
    Unplaced,
    /// `offset` bytes into the arena.
    Arena { offset: Dim },
    /// The caller's input, by index. Never written.
    Input(usize),
    /// The caller's output, by index.
    Output(usize),
    /// A constant. Never written.
    Const(ConstId),
    /// A variable of the session.
    Var(VarId),
    /// Part of another buffer, `offset` elements of this buffer's type into it.
    View { of: Buf, offset: Dim },
}

/// A constant and the form in which kernels want it.
#[derive(Clone, Debug)]
pub struct Const {
    pub tensor: Tensor,
    pub layout: ConstLayout,
    pub loc: Loc,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ConstLayout {
    /// Row-major, as the tensor has it.
    Plain,
    /// `count` matrices of `k` x `n`, each as panels `[n / width][k][width]`, zero beyond `n`. Element `(c, i, j)` is found in the
    /// tensor at `c * strides[0] + i * strides[1] + j * strides[2]`.
    Panels { count: usize, k: usize, n: usize, width: usize, strides: [usize; 3] },
    /// A filter `[3, 3, input, out]` transformed for Winograd convolutions of `outputs` x `outputs` pixels:
    /// `[(outputs + 2)^2][out / width][input][width]`, zero beyond `out`.
    WinogradFilter { outputs: usize, input: usize, out: usize, width: usize },
    /// As `Panels`, of bf16 by pairs of rows or of integers of 8 bits by fours: `[n / width][k / p][width][p]`, zero beyond `k`.
    Words { count: usize, k: usize, n: usize, width: usize, strides: [usize; 3] },
    /// A filter `[kernel_h, kernel_w, out, in]` of a transposed convolution: panels of `out` columns and a row for each tap and input
    /// channel, taps that reach the same phase of the output together.
    TransposedFilter { kernel: [usize; 2], out: usize, input: usize, stride: [usize; 2], dilation: [usize; 2], width: usize },
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Step {
    pub kind: StepKind,
    /// Buffers read and written, for liveness and for `check_plan`; complete and without repetition.
    pub reads: Vec<Buf>,
    pub writes: Vec<Buf>,
    /// Pairs `(output, input)` of `writes` and `reads` that may be one memory: the kernel reads each element before it writes it.
    pub in_place: Vec<(Buf, Buf)>,
    pub loc: Loc,
}

#[derive(Clone, Debug)]
pub enum StepKind {
    /// A kernel of the library: its symbol, and its arguments by field name; what is absent is zero.
    Kernel {
        symbol: &'static str,
        args: Vec<(&'static str, Arg)>,
    },
    /// A fused loop over the given inputs and outputs.
    Loop {
        id: LoopId,
        inputs: Vec<Buf>,
        outputs: Vec<Buf>,
    },
    /// The steps up to `Else` run where the bool in `cond` is true, those from there to `EndIf` where it is false.
    If {
        cond: Buf,
    },
    Else,
    EndIf,
    /// The steps up to `EndWhile` run again and again, until `Test` finds the bool in `cond` false and goes on behind `EndWhile`.
    While,
    Test {
        cond: Buf,
    },
    EndWhile,
}

/// A kernel argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// Address of a buffer, `offset` elements into it.
    Buf {
        buf: Buf,
        offset: Dim,
    },
    Int(Dim),
    Real(f64),
}

/// A fused loop: the tape for each point of the iteration space.
#[derive(Clone, Debug, PartialEq)]
pub struct Loop {
    pub name: String,
    /// Extents of the axes, outermost first. The last `reduced` of them are reduced by `combine`.
    pub extents: Vec<Dim>,
    pub reduced: usize,
    pub combine: Combine,
    pub inputs: Vec<Access>,
    pub outputs: Vec<Access>,
    pub tape: Tape,
}

/// How the values of reduced axes are combined; unused without reduced axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Combine {
    #[default]
    Sum,
    Prod,
    Max,
    Min,
    Any,
    All,
}

/// How a loop walks a buffer: the element at `offset + sum(index[axis] * strides[axis])`.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    pub elem: Elem,
    pub offset: Dim,
    /// One for each axis, in elements; 0 where the buffer does not vary. Outputs have 0 on reduced axes.
    pub strides: Vec<Dim>,
}

impl Plan {
    /// Launches of kernels that multiply 8-bit integers.
    pub fn integer_launches(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s.kind, StepKind::Kernel { symbol, .. } if symbol.ends_with("_i8"))).count()
    }

    pub fn buffer(&self, b: Buf) -> &Buffer {
        &self.buffers[b.index()]
    }

    pub fn add_buffer(&mut self, ty: Type, place: Place, loc: Loc) -> Buf {
        self.buffers.push(Buffer { ty, place, loc });
        Buf(self.buffers.len() as u32 - 1)
    }

    pub fn add_const(&mut self, tensor: Tensor, layout: ConstLayout, loc: Loc) -> ConstId {
        self.consts.push(Const { tensor, layout, loc });
        ConstId(self.consts.len() as u32 - 1)
    }

    /// First and last step of each loop (`While` and its `EndWhile`), inner loops before those around them.
    pub fn loop_spans(&self) -> Vec<(usize, usize)> {
        let (mut open, mut spans) = (Vec::new(), Vec::new());
        for (i, s) in self.steps.iter().enumerate() {
            match s.kind {
                StepKind::While => open.push(i),
                StepKind::EndWhile => spans.extend(open.pop().map(|start| (start, i))),
                _ => {}
            }
        }
        spans
    }

    /// The buffer that `b` lies in: itself, or what it is a view of.
    pub fn root(&self, b: Buf) -> Buf {
        match self.buffer(b).place {
            Place::View { of, .. } => self.root(of),
            _ => b,
        }
    }
}

impl Buffer {
    /// Size in bytes.
    pub fn bytes(&self) -> Dim {
        &self.ty.elements() * &Dim::from(self.ty.elem.size())
    }
}

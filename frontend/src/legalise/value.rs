//! Values under legalisation, and the function that is built.

use super::content;
use super::dequantise::Quantised;
use super::error::LegaliseError;
use crate::dtype::DataType;
use crate::limits::Limits;
use graphc_ir::{Attrs, Builder, Dim, Elem, Func, Inst, Loc, Op, Tensor, TfStatus, Type, Value, VarId};
use std::sync::Arc;

/// Result of a rule: the node's outputs.
pub type Res<T = Vec<V>> = Result<T, LegaliseError>;

/// A value under legalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V(u32);

/// What is known of a value at compile time. Nothing is emitted for a known value until an instruction reads it.
#[derive(Clone, Debug)]
pub enum Known {
    /// Integers or bools as expressions of the symbols, row-major.
    Dims(Arc<[Dim]>),
    Tensor(Tensor),
    /// A handle to a variable, by index in [`Lowering::vars`].
    Var(usize),
    /// A tensor list, by index in [`Lowering::lists`].
    List(usize),
}

/// A tensor list.
#[derive(Clone)]
pub struct ListInfo {
    pub elem: Elem,
    /// Number of elements, or with a `count` the number that there is room for.
    pub len: Dim,
    /// The elements along the first axis; none while their shape is open.
    pub items: Option<V>,
    /// Number of elements, where only the run knows: an `i32`.
    pub count: Option<V>,
    /// What every element holds, where that is known; integers.
    pub each: Option<Vec<Dim>>,
    /// How many elements may be pushed at most.
    pub most: Option<i64>,
}

/// A variable that the graph refers to.
pub struct VarInfo {
    pub name: String,
    pub ty: Type,
    /// A reference variable of TF1: used as an operand it is read.
    pub reference: bool,
    pub place: Place,
    /// True if it has a value here: from the start, or from an assignment before.
    pub initialised: bool,
}

/// Where the value of a variable is.
#[derive(Clone, Copy)]
pub enum Place {
    /// Nothing assigns it.
    Constant(V),
    State(VarId),
}

struct Slot {
    ty: Type,
    known: Option<Known>,
    ssa: Option<Value>,
    /// The node that made it; a constant keeps it, whoever reads it first.
    loc: Loc,
}

/// The function under construction.
pub struct Lowering<'a> {
    pub func: Func,
    pub insts: Vec<Inst>,
    pub limits: &'a Limits,
    /// The node under legalisation.
    pub loc: Loc,
    pub vars: Vec<VarInfo>,
    /// The feed of each parameter.
    pub param_feeds: Vec<usize>,
    pub lists: Vec<ListInfo>,
    pub quantised: Vec<Quantised>,
    /// Variables that are read before anything here assigns them, and how TensorFlow fails where they have no value.
    pub reads: Vec<(VarId, TfStatus)>,
    /// Variables without a known value that only a branch reads or assigns.
    pub maybe: Vec<VarId>,
    /// How many branches are open that a run may not take.
    pub branches: usize,
    /// How many regions are open; what is known is emitted outside of them, into `prelude`.
    pub depth: usize,
    pub prelude: Vec<Inst>,
    /// What names of nodes begin with: the nodes whose bodies are open.
    pub scope: String,
    slots: Vec<Slot>,
}

/// Integer tensors up to this many elements are followed symbolically.
pub const CONTENT_LIMIT: usize = 1024;
/// Constants up to this many elements are computed with while legalising, so that what must be known is known.
pub const FOLD_LIMIT: i64 = 4096;

impl<'a> Lowering<'a> {
    pub fn new(name: &str, limits: &'a Limits) -> Lowering<'a> {
        Lowering {
            func: Func::new(name),
            insts: Vec::new(),
            limits,
            loc: Loc::default(),
            vars: Vec::new(),
            param_feeds: Vec::new(),
            lists: Vec::new(),
            quantised: Vec::new(),
            reads: Vec::new(),
            maybe: Vec::new(),
            branches: 0,
            depth: 0,
            prelude: Vec::new(),
            scope: String::new(),
            slots: Vec::new(),
        }
    }

    fn push(&mut self, ty: Type, known: Option<Known>, ssa: Option<Value>) -> V {
        self.slots.push(Slot { ty, known, ssa, loc: self.loc.clone() });
        V(self.slots.len() as u32 - 1)
    }

    /// A value that an instruction or a parameter defines.
    pub fn value(&mut self, v: Value) -> V {
        let ty = self.func.ty(v).clone();
        self.push(ty, None, Some(v))
    }

    pub fn constant(&mut self, t: Tensor) -> V {
        self.push(t.ty(), Some(Known::Tensor(t)), None)
    }

    /// A handle to a variable.
    pub fn handle(&mut self, var: usize) -> V {
        self.push(Type::scalar(Elem::Resource), Some(Known::Var(var)), None)
    }

    /// A tensor list.
    pub fn list(&mut self, list: ListInfo) -> V {
        self.lists.push(list);
        self.push(Type::scalar(Elem::Variant), Some(Known::List(self.lists.len() - 1)), None)
    }

    /// Integers or bools known as expressions; their number fits the shape.
    pub fn dims(&mut self, ty: Type, dims: Vec<Dim>) -> V {
        self.push(ty, Some(Known::Dims(dims.into())), None)
    }

    pub fn ty(&self, v: V) -> &Type {
        &self.slots[v.0 as usize].ty
    }

    /// The instruction's value, if `v` has been emitted.
    pub fn emitted(&self, v: V) -> Option<Value> {
        self.slots[v.0 as usize].ssa
    }

    pub fn known(&self, v: V) -> Option<&Known> {
        self.slots[v.0 as usize].known.as_ref()
    }

    /// The integers or bools of a value known at compile time, row-major.
    pub fn content(&self, v: V) -> Option<Vec<Dim>> {
        match self.known(v)? {
            Known::Dims(d) => Some(d.to_vec()),
            Known::Tensor(t) if t.len() <= CONTENT_LIMIT => Some(t.to_ints()?.into_iter().map(Dim::from).collect()),
            Known::Tensor(_) | Known::Var(_) | Known::List(_) => None,
        }
    }

    /// The tensor, if every element is known and constant.
    pub fn tensor(&self, v: V) -> Option<Tensor> {
        match self.known(v)? {
            Known::Tensor(t) => Some(t.clone()),
            Known::Dims(d) => {
                let ints: Option<Vec<i64>> = d.iter().map(Dim::as_const).collect();
                int_tensor(self.ty(v), &ints?)
            }
            Known::Var(_) | Known::List(_) => None,
        }
    }

    /// The instruction's value of `v`; emits a known one when it is first needed.
    pub fn ssa(&mut self, v: V) -> Result<Value, String> {
        if let Some(s) = self.slots[v.0 as usize].ssa {
            return Ok(s);
        }
        let ty = self.ty(v).clone();
        let tensor = self.tensor(v);
        let known = self.known(v).cloned();
        let loc = self.slots[v.0 as usize].loc.clone();
        let list = if self.depth > 0 { &mut self.prelude } else { &mut self.insts };
        let mut b = Builder { func: &mut self.func, loc, insts: std::mem::take(list) };
        let made = match (tensor, known) {
            (Some(t), _) => Ok(b.constant(t)),
            (None, Some(Known::Dims(d))) => emit_dims(&mut b, &ty, &d),
            _ => Err("a resource handle or a list is used as a tensor".to_owned()),
        };
        *list = b.insts;
        let made = made?;
        self.slots[v.0 as usize].ssa = Some(made);
        Ok(made)
    }
}

fn emit_dims(b: &mut Builder, ty: &Type, dims: &[Dim]) -> Result<Value, String> {
    let attrs = Attrs::new().with("dims", dims.to_vec()).with("elem", ty.elem).with("scalar", ty.rank() == 0);
    let v = b.op(Op::Dims, &[], attrs)?;
    b.reshape(v, &ty.shape)
}

/// A tensor of integers or bools; None if a value does not fit the type.
pub fn int_tensor(ty: &Type, v: &[i64]) -> Option<Tensor> {
    let shape = ty.const_shape()?;
    let fits = v.iter().all(|&x| content::fits(ty.elem, x));
    if !fits {
        return None;
    }
    let bytes = match ty.elem.size() {
        1 => v.iter().map(|&x| x as u8).collect(),
        2 => v.iter().flat_map(|&x| (x as i16).to_le_bytes()).collect(),
        4 => v.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect(),
        8 => v.iter().flat_map(|&x| x.to_le_bytes()).collect(),
        _ => return None,
    };
    Tensor::from_bytes(ty.elem, shape, bytes)
}

/// TensorFlow's type for one of the IR.
pub fn dtype_of(e: Elem) -> Option<DataType> {
    DataType::from_number(e.number())
}

/// The element type of the IR for one of TensorFlow's; None for types that the IR does not have.
pub fn elem_of(t: DataType) -> Option<Elem> {
    Elem::from_number(t.number())
}

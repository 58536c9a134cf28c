//! Lane code: what every emitter of loops reads. A straight-line SSA list over few machine types, made from a tape by `expand`.
//!
//! Integers of at most 32 bits live in 32-bit lanes, extended by their own sign; halves live in `F32` lanes, always rounded to their
//! format; so a lane is 32 bits wide unless 64-bit types occur, and then the code is scalar.

use hashbrown::HashMap;

/// A value: the index of its operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct V(pub u32);

impl V {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Type of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ty {
    /// A truth value.
    Mask,
    I32,
    I64,
    F32,
    F64,
}

impl Ty {
    pub fn is_float(self) -> bool {
        matches!(self, Ty::F32 | Ty::F64)
    }
}

/// How an element lies in memory. Narrow ones load into `I32`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mem {
    U8,
    S8,
    U16,
    S16,
    W32,
    W64,
}

impl Mem {
    pub fn bytes(self) -> i64 {
        match self {
            Mem::U8 | Mem::S8 => 1,
            Mem::U16 | Mem::S16 => 2,
            Mem::W32 => 4,
            Mem::W64 => 8,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rounding {
    Nearest,
    Down,
    Up,
    Zero,
}

/// A comparison; for floats all but `Ne` are false for NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cond {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// An operation. Operands have the type of the result unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Bits of the value, in the low bits.
    Const(u64),
    /// The element of access `k`.
    Load(u32),
    /// Index along an axis of the loop, in `I32` (low bits) or `I64`.
    Index(u32),
    Add(V, V),
    Sub(V, V),
    Mul(V, V),
    /// Floats only.
    Div(V, V),
    Sqrt(V),
    /// `a*b + c`, rounded once or twice.
    Fma(V, V, V),
    /// `c - a*b`, rounded once or twice.
    Fnma(V, V, V),
    /// Floats: `a < b ? a : b`, so `b` for NaN. Integers: signed.
    Min(V, V),
    /// Floats: `a > b ? a : b`, so `b` for NaN. Integers: signed.
    Max(V, V),
    Round(Rounding, V),
    /// `F32`: `a * 2^b` for a whole `b` in -300..=300, rounded once.
    Scale2(V, V),
    /// On bits of every type; on masks logical.
    And(V, V),
    Or(V, V),
    Xor(V, V),
    Shl(V, u32),
    /// Logical.
    Shr(V, u32),
    /// Arithmetic.
    Sar(V, u32),
    /// By the lanes of the second operand, which lie below the width.
    ShlV(V, V),
    ShrV(V, V),
    SarV(V, V),
    /// Signed division to zero, remainder; operands are not zero nor `MIN / -1`.
    Quot(V, V),
    Rest(V, V),
    UQuot(V, V),
    URest(V, V),
    /// Of operands of any type but masks; the result is a mask.
    Cmp(Cond, V, V),
    /// Unsigned, of integers; the result is a mask.
    UCmp(Cond, V, V),
    /// `Select(mask, a, b)`; not of masks.
    Select(V, V, V),
    /// Between `F32` and `I32`, `F64` and `I64`.
    Bits(V),
    /// Signed integer to float.
    Float(V),
    /// `I64` as unsigned to float.
    FloatU(V),
    /// Float to signed integer, to zero; NaN and overflow give the least value.
    Int(V),
    /// `F32` to `F64`, or signed `I32` to `I64`.
    Widen(V),
    /// Unsigned `I32` to `I64`.
    WidenU(V),
    /// `F64` to `F32`, or `I64` to its low half.
    Narrow(V),
    /// `F32` to the bits of an f16 in an `I32`, and back.
    ToHalf(V),
    FromHalf(V),
    /// A scalar function of the library of one or two arguments.
    Call(&'static str, V, Option<V>),
    /// Fails the loop with `DivisionByZero` if the mask holds anywhere. The value is the mask.
    Fail(V),
}

impl Op {
    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = V> {
        use Op::*;
        let (a, b, c) = match *self {
            Const(_) | Load(_) | Index(_) => (None, None, None),
            Sqrt(a)
            | Round(_, a)
            | Shl(a, _)
            | Shr(a, _)
            | Sar(a, _)
            | Bits(a)
            | Float(a)
            | FloatU(a)
            | Int(a)
            | Widen(a)
            | WidenU(a)
            | Narrow(a)
            | ToHalf(a)
            | FromHalf(a)
            | Fail(a) => (Some(a), None, None),
            Add(a, b)
            | Sub(a, b)
            | Mul(a, b)
            | Div(a, b)
            | Min(a, b)
            | Max(a, b)
            | Scale2(a, b)
            | And(a, b)
            | Or(a, b)
            | Xor(a, b)
            | ShlV(a, b)
            | ShrV(a, b)
            | SarV(a, b)
            | Quot(a, b)
            | Rest(a, b)
            | UQuot(a, b)
            | URest(a, b)
            | Cmp(_, a, b)
            | UCmp(_, a, b) => (Some(a), Some(b), None),
            Call(_, a, b) => (Some(a), b, None),
            Fma(a, b, c) | Fnma(a, b, c) | Select(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }
}

/// The code of one iteration.
#[derive(Clone, Debug, Default)]
pub struct Code {
    ops: Vec<(Op, Ty)>,
    known: HashMap<(Op, Ty), V>,
    /// For each output of the loop the value to combine or to store: `F32` also for halves, masks for bool.
    pub results: Vec<V>,
}

impl Code {
    pub fn ops(&self) -> &[(Op, Ty)] {
        &self.ops
    }

    pub fn op(&self, v: V) -> Op {
        self.ops[v.index()].0
    }

    pub fn ty(&self, v: V) -> Ty {
        self.ops[v.index()].1
    }

    pub fn push(&mut self, op: Op, ty: Ty) -> V {
        match op {
            // What was half stays half.
            Op::ToHalf(a) => {
                if let Op::FromHalf(b) = self.op(a) {
                    return b;
                }
            }
            Op::Bits(a) => {
                if let Op::Bits(b) = self.op(a) {
                    return b;
                }
            }
            _ => {}
        }
        let next = V(self.ops.len() as u32);
        let v = *self.known.entry((op, ty)).or_insert(next);
        if v == next {
            self.ops.push((op, ty));
        }
        v
    }

    /// True if the code runs in 32-bit lanes without calls, integer divisions and failures.
    pub fn is_vector(&self) -> bool {
        use Op::*;
        let ok = |op: &Op| !matches!(op, Call(..) | Fail(_) | Quot(..) | Rest(..) | UQuot(..) | URest(..));
        self.ops.iter().all(|(op, ty)| matches!(ty, Ty::Mask | Ty::I32 | Ty::F32) && ok(op))
    }

    pub fn f32(&mut self, v: f32) -> V {
        self.push(Op::Const(v.to_bits() as u64), Ty::F32)
    }

    /// A float constant of type `ty`.
    pub fn float(&mut self, v: f64, ty: Ty) -> V {
        let bits = if ty == Ty::F64 { v.to_bits() } else { (v as f32).to_bits() as u64 };
        self.push(Op::Const(bits), ty)
    }

    /// An integer constant of type `ty`.
    pub fn int(&mut self, v: i64, ty: Ty) -> V {
        let bits = if ty == Ty::I64 { v as u64 } else { v as u32 as u64 };
        self.push(Op::Const(bits), ty)
    }

    pub fn mask(&mut self, v: bool) -> V {
        self.push(Op::Const(v as u64), Ty::Mask)
    }

    pub fn add(&mut self, a: V, b: V) -> V {
        self.push(Op::Add(a, b), self.ty(a))
    }

    pub fn sub(&mut self, a: V, b: V) -> V {
        self.push(Op::Sub(a, b), self.ty(a))
    }

    pub fn mul(&mut self, a: V, b: V) -> V {
        self.push(Op::Mul(a, b), self.ty(a))
    }

    pub fn div(&mut self, a: V, b: V) -> V {
        self.push(Op::Div(a, b), self.ty(a))
    }

    pub fn fma(&mut self, a: V, b: V, c: V) -> V {
        self.push(Op::Fma(a, b, c), self.ty(a))
    }

    pub fn fnma(&mut self, a: V, b: V, c: V) -> V {
        self.push(Op::Fnma(a, b, c), self.ty(a))
    }

    pub fn min(&mut self, a: V, b: V) -> V {
        self.push(Op::Min(a, b), self.ty(a))
    }

    pub fn max(&mut self, a: V, b: V) -> V {
        self.push(Op::Max(a, b), self.ty(a))
    }

    pub fn and(&mut self, a: V, b: V) -> V {
        self.push(Op::And(a, b), self.ty(a))
    }

    pub fn or(&mut self, a: V, b: V) -> V {
        self.push(Op::Or(a, b), self.ty(a))
    }

    pub fn xor(&mut self, a: V, b: V) -> V {
        self.push(Op::Xor(a, b), self.ty(a))
    }

    pub fn shl(&mut self, a: V, by: u32) -> V {
        self.push(Op::Shl(a, by), self.ty(a))
    }

    pub fn shr(&mut self, a: V, by: u32) -> V {
        self.push(Op::Shr(a, by), self.ty(a))
    }

    pub fn sar(&mut self, a: V, by: u32) -> V {
        self.push(Op::Sar(a, by), self.ty(a))
    }

    pub fn cmp(&mut self, c: Cond, a: V, b: V) -> V {
        self.push(Op::Cmp(c, a, b), Ty::Mask)
    }

    pub fn ucmp(&mut self, c: Cond, a: V, b: V) -> V {
        self.push(Op::UCmp(c, a, b), Ty::Mask)
    }

    pub fn not(&mut self, m: V) -> V {
        let t = self.mask(true);
        self.xor(m, t)
    }

    /// `m ? a : b` of any type.
    pub fn select(&mut self, m: V, a: V, b: V) -> V {
        if a == b {
            return a;
        }
        if self.ty(a) == Ty::Mask {
            let n = self.not(m);
            let (x, y) = (self.and(m, a), self.and(n, b));
            return self.or(x, y);
        }
        self.push(Op::Select(m, a, b), self.ty(a))
    }

    pub fn is_nan(&mut self, a: V) -> V {
        self.cmp(Cond::Ne, a, a)
    }

    /// Floats and integers of equal width, by bits.
    pub fn bits(&mut self, a: V) -> V {
        let ty = match self.ty(a) {
            Ty::F32 => Ty::I32,
            Ty::I32 => Ty::F32,
            Ty::F64 => Ty::I64,
            _ => Ty::F64,
        };
        self.push(Op::Bits(a), ty)
    }

    pub fn neg(&mut self, a: V) -> V {
        let ty = self.ty(a);
        if ty.is_float() {
            let sign = self.float(-0.0, ty);
            return self.xor(a, sign);
        }
        let zero = self.int(0, ty);
        self.sub(zero, a)
    }

    /// Magnitude; integers wrap.
    pub fn abs(&mut self, a: V) -> V {
        match self.ty(a) {
            Ty::F32 => {
                let m = self.push(Op::Const(0x7fff_ffff), Ty::F32);
                self.and(a, m)
            }
            Ty::F64 => {
                let m = self.push(Op::Const(i64::MAX as u64), Ty::F64);
                self.and(a, m)
            }
            ty => {
                let zero = self.int(0, ty);
                let negative = self.cmp(Cond::Lt, a, zero);
                let minus = self.sub(zero, a);
                self.select(negative, minus, a)
            }
        }
    }

    /// Drops operations that neither a result nor a `Fail` needs.
    pub fn prune(&mut self) {
        let mut live = vec![false; self.ops.len()];
        for r in &self.results {
            live[r.index()] = true;
        }
        for i in (0..self.ops.len()).rev() {
            live[i] |= matches!(self.ops[i].0, Op::Fail(_));
            if live[i] {
                self.ops[i].0.operands().for_each(|o| live[o.index()] = true);
            }
        }
        let mut map = vec![V(0); self.ops.len()];
        let mut ops = Vec::new();
        for (i, (op, ty)) in self.ops.iter().enumerate() {
            if live[i] {
                map[i] = V(ops.len() as u32);
                ops.push((op.map(|v| map[v.index()]), *ty));
            }
        }
        self.results.iter_mut().for_each(|r| *r = map[r.index()]);
        self.known = ops.iter().enumerate().map(|(i, o)| (*o, V(i as u32))).collect();
        self.ops = ops;
    }
}

impl Op {
    /// The operation with its operands replaced.
    pub fn map(&self, f: impl Fn(V) -> V) -> Op {
        use Op::*;
        match *self {
            Const(_) | Load(_) | Index(_) => *self,
            Add(a, b) => Add(f(a), f(b)),
            Sub(a, b) => Sub(f(a), f(b)),
            Mul(a, b) => Mul(f(a), f(b)),
            Div(a, b) => Div(f(a), f(b)),
            Sqrt(a) => Sqrt(f(a)),
            Fma(a, b, c) => Fma(f(a), f(b), f(c)),
            Fnma(a, b, c) => Fnma(f(a), f(b), f(c)),
            Min(a, b) => Min(f(a), f(b)),
            Max(a, b) => Max(f(a), f(b)),
            Round(r, a) => Round(r, f(a)),
            Scale2(a, b) => Scale2(f(a), f(b)),
            And(a, b) => And(f(a), f(b)),
            Or(a, b) => Or(f(a), f(b)),
            Xor(a, b) => Xor(f(a), f(b)),
            Shl(a, n) => Shl(f(a), n),
            Shr(a, n) => Shr(f(a), n),
            Sar(a, n) => Sar(f(a), n),
            ShlV(a, b) => ShlV(f(a), f(b)),
            ShrV(a, b) => ShrV(f(a), f(b)),
            SarV(a, b) => SarV(f(a), f(b)),
            Quot(a, b) => Quot(f(a), f(b)),
            Rest(a, b) => Rest(f(a), f(b)),
            UQuot(a, b) => UQuot(f(a), f(b)),
            URest(a, b) => URest(f(a), f(b)),
            Cmp(c, a, b) => Cmp(c, f(a), f(b)),
            UCmp(c, a, b) => UCmp(c, f(a), f(b)),
            Select(a, b, c) => Select(f(a), f(b), f(c)),
            Bits(a) => Bits(f(a)),
            Float(a) => Float(f(a)),
            FloatU(a) => FloatU(f(a)),
            Int(a) => Int(f(a)),
            Widen(a) => Widen(f(a)),
            WidenU(a) => WidenU(f(a)),
            Narrow(a) => Narrow(f(a)),
            ToHalf(a) => ToHalf(f(a)),
            FromHalf(a) => FromHalf(f(a)),
            Call(n, a, b) => Call(n, f(a), b.map(f)),
            Fail(a) => Fail(f(a)),
        }
    }
}

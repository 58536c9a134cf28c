//! The tape: a straight-line SSA list over scalars, the body of one iteration of a fused loop.
//!
//! It is the one thing that every code generator and the interpreter lower. An elementwise op is defined by the tape it appends.

use crate::elem::Elem;

/// A value of a tape: the index of the entry that defines it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct T(pub u32);

impl T {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One-operand scalar operations. Arguments and result have one type, except the tests, which give bool, and the parts and the modulus of
/// a complex number, which are real.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Un {
    /// Integers wrap.
    Neg,
    /// Integers wrap: the least one stays negative.
    Abs,
    /// -1, 0 or 1; NaN stays NaN, zero keeps its sign.
    Sign,
    /// Bitwise for integers, logical for bool.
    Not,
    Sqrt,
    Floor,
    Ceil,
    /// To nearest, ties to even.
    Round,
    Trunc,
    Exp,
    Expm1,
    Log,
    Log1p,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Erfc,
    Lgamma,
    Digamma,
    IsNan,
    IsInf,
    IsFinite,
    /// Parts of a complex number.
    Real,
    Imag,
    /// Of complex numbers only.
    Conj,
}

/// Two-operand scalar operations on arguments of one type; the result has it too, except that of `Complex`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bin {
    /// Integers wrap, here and in `Sub` and `Mul`.
    Add,
    Sub,
    Mul,
    /// IEEE for floats. Integers: rounded to zero; a zero divisor fails the launch with `DivisionByZero`.
    Div,
    /// Rounded to minus infinity; integers as in `Div`.
    FloorDiv,
    /// Sign of the dividend; integers as in `Div`.
    Rem,
    /// Sign of the divisor; integers as in `Div`.
    Mod,
    Pow,
    Atan2,
    /// NaN if either argument is NaN.
    Max,
    /// NaN if either argument is NaN.
    Min,
    /// Bitwise for integers, logical for bool; so are `Or` and `Xor`.
    And,
    Or,
    Xor,
    /// A shift by at least the width gives 0.
    Shl,
    /// Arithmetic for signed integers; a shift by at least the width gives 0 or -1.
    Shr,
    /// The complex number of a real and an imaginary part, f32 or f64.
    Complex,
}

/// Comparisons; the result is bool. All but `Ne` are false for NaN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One entry of a tape.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Entry {
    /// The element of input `k` that belongs to this iteration.
    Load(u32),
    /// A real constant, rounded to the entry's type; integers hold it exactly up to 2^53, see `ConstInt`.
    Const(f64),
    ConstInt(i64),
    /// Index of this iteration along an axis of the iteration space.
    Index(u32),
    Un(Un, T),
    Bin(Bin, T, T),
    Cmp(Cmp, T, T),
    /// `Select(c, a, b)`: `a` where `c`, else `b`. Both are evaluated.
    Select(T, T, T),
    /// Conversion by value as TensorFlow's Cast does it: float to integer truncates, NaN and overflow give the least value; to bool
    /// is "not zero", and a complex number to another type its real part.
    Cast(T),
    /// `Fma(a, b, c)`: `a*b + c`, rounded once or twice, whichever is faster.
    Fma(T, T, T),
}

impl Entry {
    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = T> {
        let (a, b, c) = match *self {
            Entry::Load(_) | Entry::Const(_) | Entry::ConstInt(_) | Entry::Index(_) => (None, None, None),
            Entry::Un(_, a) | Entry::Cast(a) => (Some(a), None, None),
            Entry::Bin(_, a, b) | Entry::Cmp(_, a, b) => (Some(a), Some(b), None),
            Entry::Select(a, b, c) | Entry::Fma(a, b, c) => (Some(a), Some(b), Some(c)),
        };
        [a, b, c].into_iter().flatten()
    }
}

/// A tape and the type of each entry. Entries are unique: pushing an equal one returns the old.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tape {
    entries: Vec<(Entry, Elem)>,
    /// What each output of the loop receives.
    pub outputs: Vec<T>,
}

impl Tape {
    pub fn entries(&self) -> &[(Entry, Elem)] {
        &self.entries
    }

    pub fn entry(&self, t: T) -> Entry {
        self.entries[t.index()].0
    }

    pub fn elem(&self, t: T) -> Elem {
        self.entries[t.index()].1
    }

    pub fn push(&mut self, e: Entry, elem: Elem) -> T {
        if let Some(i) = self.entries.iter().position(|x| *x == (e, elem)) {
            return T(i as u32);
        }
        self.entries.push((e, elem));
        T(self.entries.len() as u32 - 1)
    }

    pub fn load(&mut self, input: u32, elem: Elem) -> T {
        self.push(Entry::Load(input), elem)
    }

    /// The constant `v` in the type of `like`.
    pub fn constant(&mut self, v: f64, like: T) -> T {
        let elem = self.elem(like);
        self.constant_of(v, elem)
    }

    pub fn constant_of(&mut self, v: f64, elem: Elem) -> T {
        let e = if elem.is_float() || elem.is_complex() { Entry::Const(v) } else { Entry::ConstInt(v as i64) };
        self.push(e, elem)
    }

    pub fn index(&mut self, axis: u32, elem: Elem) -> T {
        self.push(Entry::Index(axis), elem)
    }

    pub fn un(&mut self, op: Un, x: T) -> T {
        let elem = match (op, self.elem(x)) {
            (Un::IsNan | Un::IsInf | Un::IsFinite, _) => Elem::Bool,
            (Un::Abs | Un::Real | Un::Imag, elem) => elem.part(),
            (_, elem) => elem,
        };
        self.push(Entry::Un(op, x), elem)
    }

    pub fn bin(&mut self, op: Bin, x: T, y: T) -> T {
        let elem = match (op, self.elem(x)) {
            (Bin::Complex, elem) => elem.complex(),
            (_, elem) => elem,
        };
        self.push(Entry::Bin(op, x, y), elem)
    }

    pub fn cmp(&mut self, op: Cmp, x: T, y: T) -> T {
        self.push(Entry::Cmp(op, x, y), Elem::Bool)
    }

    pub fn select(&mut self, c: T, x: T, y: T) -> T {
        let elem = self.elem(x);
        self.push(Entry::Select(c, x, y), elem)
    }

    /// `x` as `elem`; `x` itself if it is that already.
    pub fn cast(&mut self, x: T, elem: Elem) -> T {
        if self.elem(x) == elem { x } else { self.push(Entry::Cast(x), elem) }
    }

    pub fn fma(&mut self, x: T, y: T, z: T) -> T {
        let elem = self.elem(x);
        self.push(Entry::Fma(x, y, z), elem)
    }

    pub fn add(&mut self, x: T, y: T) -> T {
        self.bin(Bin::Add, x, y)
    }

    pub fn sub(&mut self, x: T, y: T) -> T {
        self.bin(Bin::Sub, x, y)
    }

    pub fn mul(&mut self, x: T, y: T) -> T {
        self.bin(Bin::Mul, x, y)
    }

    pub fn div(&mut self, x: T, y: T) -> T {
        self.bin(Bin::Div, x, y)
    }
}

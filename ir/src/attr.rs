//! Attributes of instructions.

use crate::dim::{Dim, Sym};
use crate::elem::Elem;
use crate::func::{FuncId, VarId};
use crate::tensor::Tensor;

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    Int(i64),
    Real(f64),
    Bool(bool),
    /// A word of a fixed vocabulary (`"sum"`, `"relu"`) or free text.
    Str(String),
    Ints(Vec<i64>),
    Dims(Vec<Dim>),
    Elem(Elem),
    Tensor(Tensor),
    Sym(Sym),
    Func(FuncId),
    Var(VarId),
}

/// What kind of value an attribute takes; the text form is parsed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrKind {
    Int,
    Real,
    Bool,
    Str,
    Ints,
    Dims,
    Elem,
    Tensor,
    Sym,
    Func,
    Var,
}

impl Attr {
    pub fn kind(&self) -> AttrKind {
        match self {
            Attr::Int(_) => AttrKind::Int,
            Attr::Real(_) => AttrKind::Real,
            Attr::Bool(_) => AttrKind::Bool,
            Attr::Str(_) => AttrKind::Str,
            Attr::Ints(_) => AttrKind::Ints,
            Attr::Dims(_) => AttrKind::Dims,
            Attr::Elem(_) => AttrKind::Elem,
            Attr::Tensor(_) => AttrKind::Tensor,
            Attr::Sym(_) => AttrKind::Sym,
            Attr::Func(_) => AttrKind::Func,
            Attr::Var(_) => AttrKind::Var,
        }
    }
}

/// Attributes of one instruction, sorted by key. Keys are those of the op's definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(Vec<(&'static str, Attr)>);

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $t:ty : $variant:ident, |$v:ident| $get:expr, $default:expr;)*) => { $(
        $(#[$doc])*
        pub fn $name(&self, key: &str) -> $t {
            match self.get(key) { Some(Attr::$variant($v)) => $get, _ => $default }
        }
    )* };
}

impl Attrs {
    pub fn new() -> Attrs {
        Attrs::default()
    }

    /// The same with `key` set; for building: `Attrs::new().with("axis", Attr::Int(1))`.
    pub fn with(mut self, key: &'static str, value: impl Into<Attr>) -> Attrs {
        self.set(key, value);
        self
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Attr>) {
        match self.0.binary_search_by_key(&key, |(k, _)| k) {
            Ok(i) => self.0[i].1 = value.into(),
            Err(i) => self.0.insert(i, (key, value.into())),
        }
    }

    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| *k != key);
    }

    pub fn get(&self, key: &str) -> Option<&Attr> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Attr)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Attr)> {
        self.0.iter_mut().map(|(k, v)| (*k, v))
    }

    getters! {
        /// The integer, or 0 where absent.
        int -> i64 : Int, |v| *v, 0;
        /// The real number, or 0 where absent.
        real -> f64 : Real, |v| *v, 0.0;
        /// The flag, or false where absent.
        flag -> bool : Bool, |v| *v, false;
        /// The word, or "" where absent.
        str -> &str : Str, |v| v.as_str(), "";
        /// The integers, or none where absent.
        ints -> &[i64] : Ints, |v| v.as_slice(), &[];
        /// The dimensions, or none where absent.
        dims -> &[Dim] : Dims, |v| v.as_slice(), &[];
        elem -> Option<Elem> : Elem, |v| Some(*v), None;
        tensor -> Option<&Tensor> : Tensor, |v| Some(v), None;
        sym -> Option<&Sym> : Sym, |v| Some(v), None;
        func -> Option<FuncId> : Func, |v| Some(*v), None;
        var -> Option<VarId> : Var, |v| Some(*v), None;
    }

    /// The integers as axes or counts; negative ones (which the verifier rejects) become `usize::MAX`.
    pub fn sizes(&self, key: &str) -> Vec<usize> {
        self.ints(key).iter().map(|&v| usize::try_from(v).unwrap_or(usize::MAX)).collect()
    }

    /// The integer as an axis; see [`Attrs::sizes`].
    pub fn size(&self, key: &str) -> usize {
        usize::try_from(self.int(key)).unwrap_or(usize::MAX)
    }
}

macro_rules! from {
    ($($t:ty => $variant:ident),*) => { $( impl From<$t> for Attr { fn from(v: $t) -> Attr { Attr::$variant(v) } } )* };
}
from!(i64 => Int, f64 => Real, bool => Bool, String => Str, Vec<i64> => Ints, Vec<Dim> => Dims, Elem => Elem, Tensor => Tensor, Sym => Sym, FuncId => Func, VarId => Var);

impl From<usize> for Attr {
    fn from(v: usize) -> Attr {
        Attr::Int(i64::try_from(v).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Attr {
    fn from(v: &str) -> Attr {
        Attr::Str(v.to_owned())
    }
}

impl From<&[usize]> for Attr {
    fn from(v: &[usize]) -> Attr {
        Attr::Ints(v.iter().map(|&x| i64::try_from(x).unwrap_or(i64::MAX)).collect())
    }
}

impl From<Vec<usize>> for Attr {
    fn from(v: Vec<usize>) -> Attr {
        Attr::from(v.as_slice())
    }
}

//! Attributes of a node, as host functions see them: the file's, and the op's defaults for those that the file leaves out.

use crate::error::{HostError, invalid};
use crate::stored;
use graphc_ir::{Elem, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A function by name, with the attributes that it is instantiated with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    pub attrs: Attrs,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Attr {
    Int(i64),
    Float(f32),
    Bool(bool),
    Str(Vec<u8>),
    Elem(#[serde(with = "stored::elem")] Elem),
    /// None of an open rank; -1 of an open dimension is None.
    Shape(Option<Vec<Option<usize>>>),
    Tensor(#[serde(with = "stored::tensor")] Tensor),
    Function(Function),
    List(Vec<Attr>),
}

/// Attributes by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attrs(pub BTreeMap<String, Attr>);

type Result<T> = std::result::Result<T, HostError>;

/// A shape of which dimensions, or even the rank, may be open.
pub type PartialShape = Option<Vec<Option<usize>>>;

impl Attrs {
    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.get(name)
    }

    fn typed<T>(&self, name: &str, get: impl Fn(&Attr) -> Option<T>) -> Result<T> {
        self.get(name).and_then(get).ok_or_else(|| invalid(format!("attribute {name:?} is missing or of another kind")))
    }

    fn list<T>(&self, name: &str, get: impl Fn(&Attr) -> Option<T>) -> Result<Vec<T>> {
        self.typed(name, |a| if let Attr::List(l) = a { l.iter().map(&get).collect() } else { None })
    }

    pub fn int(&self, name: &str) -> Result<i64> {
        self.typed(name, int)
    }

    pub fn float(&self, name: &str) -> Result<f32> {
        self.typed(name, float)
    }

    pub fn bool(&self, name: &str) -> Result<bool> {
        self.typed(name, |a| if let Attr::Bool(v) = a { Some(*v) } else { None })
    }

    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.typed(name, bytes)
    }

    /// A string attribute that is UTF-8.
    pub fn text(&self, name: &str) -> Result<String> {
        String::from_utf8(self.bytes(name)?).map_err(|_| invalid(format!("attribute {name:?} is not UTF-8")))
    }

    pub fn elem(&self, name: &str) -> Result<Elem> {
        self.typed(name, elem)
    }

    pub fn shape(&self, name: &str) -> Result<PartialShape> {
        self.typed(name, shape)
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.typed(name, |a| if let Attr::Tensor(t) = a { Some(t.clone()) } else { None })
    }

    pub fn function(&self, name: &str) -> Result<Function> {
        self.typed(name, function)
    }

    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        self.list(name, int)
    }

    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        self.list(name, float)
    }

    pub fn strings(&self, name: &str) -> Result<Vec<Vec<u8>>> {
        self.list(name, bytes)
    }

    pub fn elems(&self, name: &str) -> Result<Vec<Elem>> {
        self.list(name, elem)
    }

    pub fn shapes(&self, name: &str) -> Result<Vec<PartialShape>> {
        self.list(name, shape)
    }

    pub fn functions(&self, name: &str) -> Result<Vec<Function>> {
        self.list(name, function)
    }
}

fn int(a: &Attr) -> Option<i64> {
    if let Attr::Int(v) = a { Some(*v) } else { None }
}

fn float(a: &Attr) -> Option<f32> {
    if let Attr::Float(v) = a { Some(*v) } else { None }
}

fn bytes(a: &Attr) -> Option<Vec<u8>> {
    if let Attr::Str(v) = a { Some(v.clone()) } else { None }
}

fn elem(a: &Attr) -> Option<Elem> {
    if let Attr::Elem(v) = a { Some(*v) } else { None }
}

fn shape(a: &Attr) -> Option<PartialShape> {
    if let Attr::Shape(v) = a { Some(v.clone()) } else { None }
}

fn function(a: &Attr) -> Option<Function> {
    if let Attr::Function(v) = a { Some(v.clone()) } else { None }
}

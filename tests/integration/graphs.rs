//! Small graphs as text GraphDefs.

use crate::support::Folder;
use std::fmt::Write;
use std::path::PathBuf;

/// A GraphDef under construction.
#[derive(Clone, Default)]
pub struct Graph(String);

/// An attribute of a node.
pub enum Attr<'a> {
    Type(&'a str, &'a str),
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Text(&'a str, &'a str),
    Shape(&'a str, &'a [i64]),
    /// A tensor: type, shape, and its values as the text of fields.
    Tensor(&'a str, &'a [i64], &'a str),
}
pub use Attr::{Int, Ints, Shape, Text, Type};

fn dims(shape: &[i64]) -> String {
    shape.iter().map(|d| format!("dim {{ size: {d} }} ")).collect()
}

impl Graph {
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds a node.
    pub fn node(mut self, name: &str, op: &str, inputs: &[&str], attrs: &[Attr]) -> Graph {
        write!(self.0, "node {{ name: {name:?} op: {op:?} ").unwrap();
        inputs.iter().for_each(|i| write!(self.0, "input: {i:?} ").unwrap());
        for a in attrs {
            let (key, value) = match a {
                Type(k, t) => (k, format!("type: {t}")),
                Int(k, i) => (k, format!("i: {i}")),
                Ints(k, v) => (k, format!("list {{ {} }}", v.iter().map(|i| format!("i: {i} ")).collect::<String>())),
                Text(k, s) => (k, format!("s: {s:?}")),
                Shape(k, s) => (k, format!("shape {{ {}}}", dims(s))),
                Attr::Tensor(t, s, values) => (&"value", format!("tensor {{ dtype: {t} tensor_shape {{ {}}} {values} }}", dims(s))),
            };
            write!(self.0, "attr {{ key: {key:?} value {{ {value} }} }} ").unwrap();
        }
        self.0.push_str("}\n");
        self
    }

    /// Asks for a device for the last node. (Not all tests that share this file do.)
    #[allow(dead_code)]
    pub fn on(mut self, device: &str) -> Graph {
        let end = self.0.trim_end().trim_end_matches('}').len();
        self.0.truncate(end);
        writeln!(self.0, "device: {device:?} }}").unwrap();
        self
    }

    /// Adds an input; -1 is an open dimension.
    pub fn input(self, name: &str, ty: &str, shape: &[i64]) -> Graph {
        self.node(name, "Placeholder", &[], &[Type("dtype", ty), Shape("shape", shape)])
    }

    /// Adds a constant whose values are the text of tensor fields.
    pub fn constant(self, name: &str, ty: &str, shape: &[i64], values: &str) -> Graph {
        self.node(name, "Const", &[], &[Type("dtype", ty), Attr::Tensor(ty, shape, values)])
    }

    /// Adds a constant vector of int64.
    pub fn ints(self, name: &str, values: &[i64]) -> Graph {
        let text: String = values.iter().map(|v| format!("int64_val: {v} ")).collect();
        self.constant(name, "DT_INT64", &[values.len() as i64], &text)
    }

    /// Adds a constant int64.
    pub fn int(self, name: &str, value: i64) -> Graph {
        self.constant(name, "DT_INT64", &[], &format!("int64_val: {value}"))
    }

    /// Writes the graph to a `.pbtxt` file.
    pub fn write(&self, folder: &Folder, name: &str) -> PathBuf {
        folder.file(&format!("{name}.pbtxt"), &self.0)
    }
}

pub const F32: &str = "DT_FLOAT";

/// Attributes of an op on float32.
pub fn float() -> [Attr<'static>; 1] {
    [Type("T", F32)]
}

/// Three ops that graphc does not have, one of them twice, behind one input.
pub fn unsupported() -> Graph {
    let x = Graph::new().input("x", F32, &[-1, 4]);
    let twice = x.node("a", "NoSuchOpA", &["x"], &float()).node("b", "NoSuchOpA", &["a"], &float());
    twice.node("c", "NoSuchOpB", &["b"], &float())
}

/// Rows of a table of 4 by the indices that are fed.
pub fn lookup() -> Graph {
    let values: String = (0..8).map(|i| format!("float_val: {i} ")).collect();
    let g = Graph::new().input("ids", "DT_INT32", &[-1]).constant("table", F32, &[4, 2], &values).int("axis", 0);
    let attrs = [Type("Tparams", F32), Type("Tindices", "DT_INT32"), Type("Taxis", "DT_INT64"), Int("batch_dims", 0)];
    g.node("embedding/lookup", "GatherV2", &["table", "ids", "axis"], &attrs)
}

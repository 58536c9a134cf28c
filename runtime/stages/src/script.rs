//! What runs, and in which order.

use graphc_host::{Attrs, Control, Function, StoredTensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the functions of a model run that are not compiled as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Script {
    /// Graphs: those of the model's functions, and what they call.
    pub bodies: Vec<Body>,
    /// Functions that host functions may call, and the body of each.
    pub functions: Vec<(Function, usize)>,
    /// The body that runs once when an instance is made.
    pub initialise: Option<usize>,
    /// First values of variables that no compiled part holds.
    pub variables: BTreeMap<String, StoredTensor>,
    /// Files that come with the model, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A graph. Its values have numbered places.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Number of places.
    pub places: usize,
    /// The place of each input.
    pub inputs: Vec<usize>,
    pub constants: Vec<(usize, StoredTensor)>,
    pub steps: Vec<Step>,
    pub outputs: Vec<Source>,
}

/// Where a step takes an operand from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// The value at a place.
    Place(usize),
    /// The value at a place; where that is a handle to a variable, the variable's value.
    Read(usize),
    /// The handle to a variable.
    Handle(String),
    /// The value of a variable.
    Variable(String),
}

/// One step of a body. Outputs are pairs of the number of an output and the place that it goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Compiled code: the unit that was compiled for the variables which the handles given stand for.
    Part { given: Vec<Source>, units: Vec<Unit>, places: Vec<usize> },
    /// A host function.
    Host { op: String, of_strings: bool, node: String, attrs: Attrs, inputs: Vec<Source>, outputs: Vec<(usize, usize)> },
    /// Control flow, which calls bodies.
    Control { node: String, control: Control<usize>, inputs: Vec<Source>, outputs: Vec<(usize, usize)> },
    /// Operands are handed on.
    Forward { inputs: Vec<Source>, outputs: Vec<(usize, usize)> },
    /// What could not be compiled ahead of time: TensorFlow's code of the error that it gives.
    Missing { status: i32, why: String },
}

/// A compiled part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// What each value given to the step is.
    pub given: Vec<Given>,
    /// Number of the model's part.
    pub part: usize,
    /// The strings of its constants; the first is empty.
    pub strings: Vec<Box<[u8]>>,
    /// Which outputs are numbers of strings.
    pub of_strings: Vec<bool>,
}

/// What a value given to compiled code is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Given {
    /// A tensor.
    Operand,
    /// A handle to this variable, which the code knows.
    Variable(String),
}

impl Script {
    /// The script as objects hold it.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn write(&self) -> Result<Vec<u8>, String> {
        postcard::to_allocvec(self).map_err(|e| e.to_string())
    }

    /// The script of an object; without bytes, an empty one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Script, String> {
        if bytes.is_empty() {
            return Ok(Script::default());
        }
        postcard::from_bytes(bytes).map_err(|e| e.to_string())
    }

    /// Host functions that it calls: names of ops, and whether strings go through the node.
    pub fn host_functions(&self) -> impl Iterator<Item = (&str, bool)> {
        self.bodies.iter().flat_map(|b| &b.steps).filter_map(|s| match s {
            Step::Host { op, of_strings, .. } => Some((op.as_str(), *of_strings)),
            _ => None,
        })
    }
}

//! The code of kernels.

use serde::{Deserialize, Serialize};

/// The code of one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Code {
    /// SPIR-V, the text of PTX, or what that was assembled to.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Name of the function in it.
    pub entry: String,
    pub bindings: Vec<Binding>,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Bytes of memory that each workgroup wants beside what the code declares.
    pub shared: u32,
}

/// A number of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Int {
    /// Built in.
    Known(i64),
    /// A parameter of the launch.
    Param(u32),
}

impl Int {
    /// Its value among `params`; zero for a parameter that is not there.
    pub fn value(self, params: &[i32]) -> i64 {
        match self {
            Int::Known(v) => v,
            Int::Param(k) => params.get(k as usize).copied().map_or(0, i64::from),
        }
    }
}

/// A tensor of f32 in a buffer, and the boxes of it that kernels bring to the memory of their workgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorMap {
    pub buffer: u32,
    /// Its first element.
    pub first: Int,
    /// Extents from the one whose elements lie side by side on; the strides of the others, in elements.
    pub extents: Vec<Int>,
    pub strides: Vec<Int>,
    pub tile: Vec<u32>,
    /// Whether pieces of 16 bytes are exchanged within rows of 128 bytes, as tensor cores read them; the tile's rows are as long then.
    pub swizzled: bool,
}

/// What a kernel is given, in the order of its bindings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    /// Buffer `k` of the launch.
    Buffer(u32),
    /// The words of the launch's parameters. Targets whose kernels have scalar arguments take the words themselves, one each.
    Params,
    /// Where a failing kernel says so, four words: the code of a status, the launch, a value and its bound.
    Status,
    /// A description of a tensor for the units that copy boxes of it.
    Map(TensorMap),
}

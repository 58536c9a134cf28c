//! The code of kernels.

use serde::{Deserialize, Serialize};

/// The code of one kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Code {
    /// SPIR-V, or the text of PTX.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Name of the function in it.
    pub entry: String,
    pub bindings: Vec<Binding>,
    /// Threads of a workgroup.
    pub threads: u32,
}

/// What a kernel is given, in the order of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    /// Buffer `k` of the launch.
    Buffer(u32),
    /// The words of the launch's parameters. Targets whose kernels have scalar arguments take the words themselves, one each.
    Params,
    /// Where a failing kernel says so, four words: the code of a status, the launch, a value and its bound.
    Status,
}

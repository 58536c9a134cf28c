//! A plan as kernels and launches of them, for no device in particular.

use crate::code::Code;
use graphc_cpu::Weights;
use graphc_ir::Dim;
use graphc_passes::plan::{Buf, Plan};
use std::fmt;
use std::sync::Arc;

/// One launch of a kernel.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Index of its kernel.
    pub kernel: usize,
    /// The buffers that the kernel's bindings count.
    pub buffers: Vec<Buf>,
    pub params: Vec<Dim>,
    /// Workgroups to start: more are not needed, and fewer will do.
    pub groups: Dim,
}

/// A plan with the kernels of its steps.
#[derive(Debug)]
pub struct Program {
    pub plan: Plan,
    pub kernels: Vec<Arc<Code>>,
    /// For each step its launch; none for marks of control flow.
    pub launches: Vec<Option<Launch>>,
    /// The constants of the plan, where they are packed already and the plan has none.
    pub packed: Option<Packed>,
}

/// Constants as kernels read them.
#[derive(Clone)]
pub struct Packed {
    pub layout: Weights,
    /// As many as the layout allocates, or fewer, then zeros follow.
    pub bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("layout", &self.layout).finish_non_exhaustive()
    }
}

//! Ops of the XLA bridge, which graphs have that were written for `jit_compile`.

mod control;
mod dot;
mod gather;
mod parts;
mod reduce;
mod slice;
mod sort;
pub(crate) mod wire;

use crate::Table;

pub(crate) const TABLES: &[Table] =
    &[control::TABLE, dot::TABLE, gather::TABLE, parts::TABLE, reduce::TABLE, slice::TABLE, sort::TABLE];

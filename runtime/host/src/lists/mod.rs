//! Values made of other values: tensor lists, maps, optionals, tensor arrays, stacks; and the movement of variants.

mod arrays;
mod composite;
mod list;
mod list_ops;
mod map;
pub(crate) mod movement;
mod numbers;
mod optional;
mod slicing;
mod stacks;
#[cfg(test)]
mod tests;

pub(crate) use list::LIST;
pub(crate) use map::MAP;
pub(crate) use numbers::{add_tensors, divided};
pub(crate) use optional::{OPTIONAL, Optional};

use crate::Table;

pub(crate) const TABLES: &[Table] =
    &[list_ops::TABLE, map::TABLE, optional::TABLE, composite::TABLE, arrays::TABLE, stacks::TABLE, movement::TABLE];

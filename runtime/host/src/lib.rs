//! Host functions: TensorFlow ops that have no generated code, because they work on strings or state, because only a run knows the shape
//! of their results, or because a well-kept library does the work.
//!
//! A host function takes whole values and gives whole values. [`function`] finds it by the name of the op; each family of ops has a
//! module with a table of its own.

mod attrs;
mod batching;
mod broadcast;
mod call;
mod control;
mod dataset;
mod dense;
mod devices;
mod elements;
mod error;
mod fft;
mod files;
mod grants;
mod handles;
mod image;
mod index;
mod inplace;
mod limits;
mod linalg;
mod lists;
mod misc;
mod neural;
mod parsing;
mod quantised;
mod queues;
mod ragged;
mod random;
mod readers;
mod resources;
mod segment;
mod sets;
mod shapes;
mod sparse;
mod sparse_matrix;
mod special;
mod stored;
mod strings;
mod stubs;
mod summaries;
mod tables;
mod tensor_message;
#[cfg(test)]
mod testing;
mod value;
mod values;
mod variables;
mod variants;
mod xla;

pub use attrs::{Attr, Attrs, Function, PartialShape};
pub use call::{Call, Caller, Host, Step, VariableStore, ints_of, strings_of, tensor_of};
pub use control::Control;
pub use error::{HostError, cancelled, failed_precondition, internal, invalid, not_found, out_of_range, unimplemented};
pub use grants::{Access, Grant};
pub use graphc_ir::TfStatus;
pub use handles::StringHandles;
pub use resources::{ResourceKey, Resources};
pub use stored::{StoredTensor, elem as stored_elem};
pub use value::{HandleTensor, Item, Resource, Value, VariantTensor};

use std::collections::HashMap;
use std::sync::OnceLock;

/// Result of a host function.
pub type Result<T = Vec<Value>> = std::result::Result<T, HostError>;

/// Computes one op: its outputs in order.
pub type HostFn = fn(&Call) -> Result;

/// Rows of one family: TensorFlow's name of the op, and its function.
pub type Table = &'static [(&'static str, HostFn)];

/// Host functions that belong together.
pub struct Family {
    pub tables: &'static [Table],
    /// Those that take the place of others where strings go through the node.
    pub of_strings: Table,
}

impl Family {
    /// Whether it has a function for an op; `of_strings` asks for one that takes the place of another.
    pub fn has(&self, op: &str, of_strings: bool) -> bool {
        let has = |t: Table| t.iter().any(|(name, _)| *name == op);
        if of_strings { has(self.of_strings) } else { self.tables.iter().any(|t| has(t)) }
    }
}

/// Hands the families to a macro: for each, the symbol that programs link it by, and its name in [`families`].
#[macro_export]
macro_rules! for_each_family {
    ($with:ident) => {
        $with! {
            gc_host_strings STRINGS, gc_host_parsing PARSING, gc_host_summaries SUMMARIES, gc_host_tables TABLES,
            gc_host_linalg LINALG, gc_host_fft FFT, gc_host_random RANDOM, gc_host_image IMAGE, gc_host_quantised QUANTISED,
            gc_host_sparse SPARSE, gc_host_sparse_matrix SPARSE_MATRIX, gc_host_ragged RAGGED, gc_host_sets SETS,
            gc_host_index INDEX, gc_host_segment SEGMENT, gc_host_special SPECIAL, gc_host_neural NEURAL, gc_host_files FILES,
            gc_host_misc MISC, gc_host_batching BATCHING, gc_host_devices DEVICES, gc_host_inplace INPLACE,
            gc_host_variables VARIABLES, gc_host_stubs STUBS, gc_host_readers READERS, gc_host_lists LISTS,
            gc_host_queues QUEUES, gc_host_xla XLA, gc_host_dataset DATASET
        }
    };
}

/// Every family.
pub mod families {
    use super::*;

    macro_rules! define {
        ($($name:ident = $tables:expr $(, of strings $of_strings:expr)?;)*) => {
            $(pub const $name: Family = Family { tables: $tables, of_strings: define!(@ $($of_strings)?) };)*
            static ALL: &[Family] = &[$($name),*];
        };
        (@) => { &[] };
        (@ $of_strings:expr) => { $of_strings };
    }
    define! {
        STRINGS = &[strings::TABLE], of strings strings::OF_STRINGS;
        PARSING = &[parsing::TABLE];
        SUMMARIES = &[summaries::TABLE];
        TABLES = &[tables::TABLE];
        LINALG = &[linalg::TABLE];
        FFT = &[fft::TABLE];
        RANDOM = &[random::TABLE];
        IMAGE = &[image::TABLE];
        QUANTISED = &[quantised::TABLE];
        SPARSE = &[sparse::TABLE];
        SPARSE_MATRIX = &[sparse_matrix::TABLE];
        RAGGED = &[ragged::TABLE];
        SETS = &[sets::TABLE];
        INDEX = &[index::TABLE];
        SEGMENT = &[segment::TABLE];
        SPECIAL = &[special::TABLE];
        NEURAL = &[neural::TABLE];
        FILES = &[files::TABLE];
        MISC = &[misc::TABLE];
        BATCHING = &[batching::TABLE];
        DEVICES = &[devices::TABLE];
        INPLACE = &[inplace::TABLE];
        VARIABLES = &[variables::TABLE];
        STUBS = &[stubs::TABLE];
        READERS = &[readers::TABLE];
        LISTS = lists::TABLES;
        QUEUES = queues::TABLES;
        XLA = xla::TABLES;
        DATASET = dataset::TABLES;
    }

    pub(super) fn tables() -> impl Iterator<Item = Table> {
        ALL.iter().flat_map(|f| f.tables.iter().copied())
    }
}

use families::tables;

/// The host function of an op; `of_strings` for a node that has strings.
pub fn function(op: &str, of_strings: bool) -> Option<HostFn> {
    static INDEX: OnceLock<HashMap<&'static str, HostFn>> = OnceLock::new();
    let only = || strings::OF_STRINGS.iter().find(|(name, _)| *name == op && of_strings).map(|(_, f)| *f);
    only().or_else(|| INDEX.get_or_init(|| tables().flat_map(|t| t.iter().copied()).collect()).get(op).copied())
}

/// Names of all ops that have a host function, in the order of the tables.
pub fn supported() -> impl Iterator<Item = &'static str> {
    tables().chain([strings::OF_STRINGS]).flat_map(|t| t.iter().map(|(name, _)| *name))
}

//! The generated messages, and their descriptors for the text parser and the wire scanner.

mod generated {
    #![allow(clippy::all, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/graphc.tf.rs"));
}

pub use generated::*;

/// A message as the text parser and the wire scanner see it.
pub(crate) struct Message {
    pub name: &'static str,
    pub fields: &'static [Field],
}

pub(crate) struct Field {
    pub name: &'static str,
    pub number: u32,
    pub kind: Kind,
    pub repeated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Index into `MESSAGES`.
    Message(usize),
    /// Index into `ENUMS`.
    Enum(usize),
    String,
    Bytes,
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Fixed32,
    Float,
    Double,
}

include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));

/// Names of the messages that files are made of.
pub(crate) mod name {
    pub const SAVED_MODEL: &str = "graphc.tf.SavedModel";
    pub const META_GRAPH: &str = "graphc.tf.MetaGraphDef";
    pub const GRAPH: &str = "graphc.tf.GraphDef";
    pub const OP_LIST: &str = "graphc.tf.OpList";
    pub const FUNCTION: &str = "graphc.tf.FunctionDef";
}

/// Index of a message by its full name.
pub(crate) fn message_index(name: &str) -> Option<usize> {
    MESSAGES.iter().position(|m| m.name == name)
}

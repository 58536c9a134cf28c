//! What can go wrong while a function runs.

use std::fmt;

/// The rule that an evaluation broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvalErrorKind {
    /// Operands or feeds do not fit in element type or shape.
    Shape,
    /// An index lies outside its axis.
    Index,
    /// An integer was divided by zero.
    DivisionByZero,
    /// An integer was raised to a negative power.
    NegativePower,
    /// The interpreter has no rule for this op on these element types.
    Unsupported,
    /// A symbolic dimension has no value.
    UnboundSymbol,
    /// A result would be too large, or calls nest too deep.
    Limit,
    /// The function or the module is not what the verifier accepts.
    Malformed,
}

/// A failed evaluation.
#[derive(Clone, PartialEq, Debug)]
pub struct EvalError {
    pub kind: EvalErrorKind,
    pub message: String,
    /// Name of the source node whose instruction failed; empty where unknown.
    pub node: String,
}

impl EvalError {
    pub fn new(kind: EvalErrorKind, message: impl Into<String>) -> EvalError {
        EvalError { kind, message: message.into(), node: String::new() }
    }

    pub(super) fn shape(message: impl Into<String>) -> EvalError {
        EvalError::new(EvalErrorKind::Shape, message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> EvalError {
        EvalError::new(EvalErrorKind::Unsupported, message)
    }

    pub(super) fn malformed(message: impl Into<String>) -> EvalError {
        EvalError::new(EvalErrorKind::Malformed, message)
    }

    pub(super) fn index(index: i64, extent: usize) -> EvalError {
        EvalError::new(EvalErrorKind::Index, format!("index {index} is outside the extent {extent}"))
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.node.is_empty() {
            write!(f, " (node {:?})", self.node)?;
        }
        Ok(())
    }
}

impl std::error::Error for EvalError {}

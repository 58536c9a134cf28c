//! Why a function cannot be compiled.

use std::fmt;

/// An instruction that the backend has no code for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the op.
    pub op: &'static str,
    /// Types of the operands.
    pub types: String,
    /// Name of the source node; empty if the compiler made the instruction.
    pub node: String,
    pub why: String,
}

/// Why a function cannot be compiled.
#[derive(Clone, Debug)]
pub enum CompileError {
    /// The module has no such function.
    NoFunction(String),
    /// Everything in the function that has no code.
    Unsupported(Vec<Unsupported>),
    /// The function breaks a rule of the IR.
    Invalid(String),
    /// Code generation failed.
    Codegen(String),
    /// The system refused memory or a file.
    System(String),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.op, self.types)?;
        if !self.node.is_empty() {
            write!(f, " at node {:?}", self.node)?;
        }
        write!(f, ": {}", self.why)
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::NoFunction(name) => write!(f, "no function named {name:?}"),
            CompileError::Unsupported(list) => {
                write!(f, "{} operation(s) cannot be compiled:", list.len())?;
                list.iter().enumerate().try_for_each(|(i, u)| write!(f, "{} {u}", if i == 0 { "" } else { ";" }))
            }
            CompileError::Invalid(why) => write!(f, "invalid function: {why}"),
            CompileError::Codegen(why) => write!(f, "code generation: {why}"),
            CompileError::System(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CompileError {}

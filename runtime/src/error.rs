//! What can go wrong between a model and its answers.

use graphc_abi::{ErrorRecord, Status};
use graphc_frontend::ErrorKind;
use graphc_frontend::legalise::LegaliseError;
use graphc_ir::interp::EvalError;
use std::fmt;
use std::path::PathBuf;

pub use graphc_frontend::legalise::TfStatus as StatusCode;

/// An error of a session.
#[derive(Debug)]
pub enum Error {
    /// The model's files cannot be read or are not valid.
    Model(graphc_frontend::Error),
    /// The graph of a file cannot be brought into the IR: unsupported ops, or a node that breaks a rule.
    Graph { file: PathBuf, error: LegaliseError },
    /// What graphc does not compile yet.
    Unsupported(String),
    /// A part of a graph must know more of its inputs to be compiled ahead of time.
    NeedsExample(String),
    /// A pass or code generation failed.
    Compile(String),
    /// A feed is missing, unknown or of another type or shape than the graph says.
    Feed { name: String, message: String },
    /// The caller's output does not fit.
    Output { name: String, message: String },
    /// The interpreter failed.
    Interpreter(EvalError),
    /// A variable is read that nothing has assigned yet.
    Uninitialised { variable: String, status: StatusCode },
    /// A run needs more memory than there is.
    Memory,
    /// A host function, or control flow, failed at a node.
    Host { node: String, status: StatusCode, message: String },
    /// A GPU is not there, or its driver failed.
    Device(String),
    /// A GPU has no kernel for what these nodes of the graph became.
    NoKernel { nodes: Vec<String>, message: String },
    /// A node cannot be on the device that the graph asks for.
    Placement(String),
    /// A run of code that was compiled ahead of time failed.
    Ahead(graphc_engine::Error),
    /// A package cannot be read or written, or is not for this machine.
    Package { file: PathBuf, message: String },
    /// The run failed at a node.
    Run { status: Status, node: String, record: ErrorRecord },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Stable code, listed in the reference of errors.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Model(e) => e.code(),
            Error::Graph { error, .. } => error.code(),
            Error::Compile(_) => "GC0601",
            Error::Unsupported(_) => "GC0602",
            Error::NeedsExample(_) => "GC0604",
            Error::Feed { .. } => "GC0701",
            Error::Output { .. } => "GC0702",
            Error::Run { .. } => "GC0703",
            Error::Interpreter(_) => "GC0704",
            Error::Uninitialised { .. } => "GC0705",
            Error::Memory => "GC0706",
            Error::Host { .. } => "GC0707",
            Error::Ahead(_) => "GC0708",
            Error::Device(_) | Error::NoKernel { .. } => "GC0709",
            Error::Placement(_) => "GC0710",
            Error::Package { .. } => "GC0603",
        }
    }

    /// The class that TensorFlow would give this error.
    pub fn status(&self) -> i32 {
        let class = match self {
            Error::Model(e) if e.code() == "GC0221" => StatusCode::Unimplemented,
            Error::Model(e) if matches!(e.kind(), ErrorKind::KernelRefuses { unimplemented: true, .. }) => {
                StatusCode::Unimplemented
            }
            Error::Model(_) | Error::Feed { .. } | Error::Output { .. } | Error::Interpreter(_) => StatusCode::InvalidArgument,
            Error::Graph { error, .. } => return error.status(),
            Error::Host { status, .. } => *status,
            Error::Ahead(e) => return e.kind as i32,
            Error::Package { .. } => StatusCode::DataLoss,
            Error::Device(_) => StatusCode::FailedPrecondition,
            Error::NoKernel { .. } => StatusCode::Unimplemented,
            Error::Placement(_) => StatusCode::InvalidArgument,
            Error::Uninitialised { status, .. } => *status,
            Error::Memory => StatusCode::ResourceExhausted,
            Error::Compile(_) | Error::Unsupported(_) | Error::NeedsExample(_) => StatusCode::Unimplemented,
            Error::Run { status, .. } => match status {
                Status::Cancelled => StatusCode::Cancelled,
                Status::IndexOutOfRange | Status::DivisionByZero | Status::ShapeGuard | Status::InvalidShape => {
                    StatusCode::InvalidArgument
                }
                Status::Ok | Status::Host => StatusCode::Internal,
            },
        };
        class as i32
    }

    /// True where the graph has ops that graphc does not compile yet, as against a graph that is wrong.
    pub fn is_unsupported(&self) -> bool {
        match self {
            Error::Model(e) => e.code() == "GC0221",
            Error::Graph { error, .. } => error.is_unsupported(),
            Error::Interpreter(e) => e.kind == graphc_ir::interp::EvalErrorKind::Unsupported,
            e => matches!(e, Error::Compile(_) | Error::Unsupported(_) | Error::NeedsExample(_)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Model(e) => return write!(f, "{e}"),
            Error::Graph { file, error } if file.as_os_str().is_empty() => return write!(f, "{error}"),
            Error::Graph { file, error } => return write!(f, "{}: {}: {}", error.code(), file.display(), error.message()),
            _ => write!(f, "{}: ", self.code())?,
        }
        match self {
            Error::Model(_) | Error::Graph { .. } => Ok(()),
            Error::Compile(m)
            | Error::Device(m)
            | Error::NoKernel { message: m, .. }
            | Error::Placement(m)
            | Error::NeedsExample(m) => write!(f, "{m}"),
            Error::Unsupported(m) => write!(f, "not supported yet: {m}"),
            Error::Interpreter(e) => write!(f, "{e}"),
            Error::Ahead(e) => write!(f, "{e}"),
            Error::Package { file, message } => write!(f, "{}: {message}", file.display()),
            Error::Uninitialised { variable, .. } => {
                write!(f, "variable {variable:?} is read before it has a value; run what initialises it first")
            }
            Error::Memory => f.write_str("the shapes of this run need more memory than there is"),
            Error::Host { node, message, .. } if node.is_empty() => f.write_str(message),
            Error::Host { node, message, .. } => write!(f, "node {node:?}: {message}"),
            Error::Feed { name, message } => write!(f, "feed {name:?}: {message}"),
            Error::Output { name, message } => write!(f, "output {name:?}: {message}"),
            Error::Run { status, node, record } => {
                let at = if node.is_empty() { String::new() } else { format!("node {node:?}: ") };
                let (value, bound) = (record.value, record.bound);
                match status {
                    Status::Cancelled => write!(f, "{at}the run was cancelled"),
                    Status::IndexOutOfRange => write!(f, "{at}index {value} is not in [0, {bound})"),
                    Status::DivisionByZero => write!(f, "{at}integer division by zero"),
                    Status::ShapeGuard => write!(f, "{at}dimensions that must agree do not: {value} and {bound}"),
                    Status::InvalidShape => write!(f, "{at}the shape {value} is not possible here"),
                    Status::Ok | Status::Host => write!(f, "{at}the run failed"),
                }
            }
        }
    }
}

impl std::error::Error for Error {}

impl From<graphc_engine::Error> for Error {
    fn from(e: graphc_engine::Error) -> Error {
        Error::Ahead(e)
    }
}

impl From<graphc_frontend::Error> for Error {
    fn from(e: graphc_frontend::Error) -> Error {
        Error::Model(e)
    }
}

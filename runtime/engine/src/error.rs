//! What can go wrong in a run.

use alloc::string::String;
use core::fmt;

/// The class of an error; the numbers are those of TensorFlow's status codes, which the C interface gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ErrorKind {
    Cancelled = 1,
    InvalidArgument = 3,
    NotFound = 5,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Internal = 13,
    /// The file of weights is not the one that belongs to the object.
    DataLoss = 15,
}

impl ErrorKind {
    /// The kind with this number, `Internal` for one that nothing here uses.
    pub fn from_code(code: usize) -> ErrorKind {
        match code {
            1 => ErrorKind::Cancelled,
            3 => ErrorKind::InvalidArgument,
            5 => ErrorKind::NotFound,
            8 => ErrorKind::ResourceExhausted,
            9 => ErrorKind::FailedPrecondition,
            15 => ErrorKind::DataLoss,
            _ => ErrorKind::Internal,
        }
    }
}

/// An error, with a message for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn memory() -> Error {
        Error::new(ErrorKind::ResourceExhausted, "there is no memory for this run")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Error {}

//! What can go wrong with a device.

use graphc_abi::Status;
use std::fmt;

/// Why a device does not do what it is asked.
#[derive(Clone, Debug)]
pub enum GpuError {
    /// There is no driver to open; what to install.
    NoDriver(String),
    /// There is no such device; which there are.
    NoDevice { index: usize, found: Vec<String> },
    /// The device lacks what a program needs.
    Lacks(String),
    /// A call of the driver failed.
    Driver { call: &'static str, why: String, node: String },
    /// A launch failed: its step, and the value and bound that it found.
    Launch { status: Status, step: usize, value: i64, bound: i64 },
}

const INSTALL: &str = "install the graphics driver of the GPU, or mesa-vulkan-drivers and libvulkan1 for one in software";

impl GpuError {
    /// The error, said of a source node if it was of none.
    pub(crate) fn at(self, name: &str) -> GpuError {
        match self {
            GpuError::Driver { call, why, node } if node.is_empty() => GpuError::Driver { call, why, node: name.to_owned() },
            GpuError::Lacks(what) if !name.is_empty() => GpuError::Lacks(format!("{what} (at node {name:?})")),
            e => e,
        }
    }
}

impl fmt::Display for GpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpuError::NoDriver(why) => write!(f, "no driver of a GPU: {why}; {INSTALL}"),
            GpuError::NoDevice { index, found } if found.is_empty() => {
                write!(f, "no device GPU:{index}: there is no GPU here; {INSTALL}")
            }
            GpuError::NoDevice { index, found } => write!(f, "no device GPU:{index}; there are {}", found.join(", ")),
            GpuError::Lacks(what) => write!(f, "the GPU lacks {what}"),
            GpuError::Driver { call, why, node } => {
                write!(f, "{call}: {why}")?;
                if node.is_empty() { Ok(()) } else { write!(f, " (at node {node:?})") }
            }
            GpuError::Launch { status, step, value, bound } => write!(f, "launch {step}: {status:?}, value {value}, bound {bound}"),
        }
    }
}

impl std::error::Error for GpuError {}

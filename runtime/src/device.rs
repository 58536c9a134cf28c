//! Devices by the names that TensorFlow gives them.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What a session computes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceName {
    #[default]
    Cpu,
    /// A GPU by its number.
    Gpu(usize),
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, index) = match self {
            DeviceName::Cpu => ("CPU", 0),
            DeviceName::Gpu(k) => ("GPU", *k),
        };
        write!(f, "/job:localhost/replica:0/task:0/device:{kind}:{index}")
    }
}

/// `GPU:0`, `/gpu:0`, `/device:GPU:0`, or the full name with job, replica and task of this process.
impl FromStr for DeviceName {
    type Err = String;

    fn from_str(s: &str) -> Result<DeviceName, String> {
        let parts: Vec<&str> = s.split('/').filter(|p| !p.is_empty()).collect();
        let wrong = || format!("{s:?} names no device of this process; names are CPU:0, GPU:0, GPU:1, …");
        let (last, before) = parts.split_last().ok_or_else(wrong)?;
        if before.iter().any(|p| !matches!(*p, "job:localhost" | "replica:0" | "task:0")) {
            return Err(wrong());
        }
        let last = last.strip_prefix("device:").unwrap_or(last);
        let (kind, index) = last.split_once(':').unwrap_or((last, "0"));
        let index: usize = index.parse().map_err(|_| wrong())?;
        match kind.to_ascii_uppercase().as_str() {
            "CPU" if index == 0 => Ok(DeviceName::Cpu),
            "GPU" => Ok(DeviceName::Gpu(index)),
            _ => Err(wrong()),
        }
    }
}

/// A device that a session can be opened on.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceDescription {
    /// TensorFlow's name for it.
    pub name: String,
    /// What it is, as its driver says.
    pub description: String,
    /// Bytes of its own memory; 0 for the CPU.
    pub memory: u64,
}

/// The devices of this process.
///
/// # Errors
/// If it was built for GPUs and there is no driver; the CPU is there all the same.
pub fn devices() -> (Vec<DeviceDescription>, Option<Error>) {
    let cpu = DeviceDescription { name: DeviceName::Cpu.to_string(), description: "this processor".into(), memory: 0 };
    let (more, error) = gpus();
    (std::iter::once(cpu).chain(more).collect(), error)
}

#[cfg(feature = "gpu")]
fn gpus() -> (Vec<DeviceDescription>, Option<Error>) {
    match graphc_gpu::devices() {
        Ok(found) => {
            let describe = |(k, d): (usize, graphc_gpu::DeviceInfo)| DeviceDescription {
                name: DeviceName::Gpu(k).to_string(),
                description: format!("{} ({})", d.name, d.api),
                memory: d.memory,
            };
            (found.into_iter().enumerate().map(describe).collect(), None)
        }
        Err(e) => (Vec::new(), Some(Error::Device(e.to_string()))),
    }
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> (Vec<DeviceDescription>, Option<Error>) {
    (Vec::new(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_forms_are_read() {
        for name in ["GPU:1", "/gpu:1", "/device:GPU:1", "/job:localhost/replica:0/task:0/device:GPU:1"] {
            assert_eq!(name.parse(), Ok(DeviceName::Gpu(1)), "{name}");
        }
        for name in ["cpu", "CPU:0", "/device:CPU:0"] {
            assert_eq!(name.parse(), Ok(DeviceName::Cpu), "{name}");
        }
        for name in ["", "CPU:1", "TPU:0", "GPU:x", "/job:worker/device:GPU:0"] {
            assert!(name.parse::<DeviceName>().is_err(), "{name}");
        }
        let name = DeviceName::Gpu(2).to_string();
        assert_eq!(name.parse(), Ok(DeviceName::Gpu(2)));
    }
}

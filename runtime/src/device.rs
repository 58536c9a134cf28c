//! Devices by the names that TensorFlow gives them.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// A device of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceName {
    #[default]
    Cpu,
    /// A GPU by its number.
    Gpu(usize),
}

impl DeviceName {
    /// The name without job, replica and task, for listings.
    pub fn short(self) -> String {
        match self {
            DeviceName::Cpu => "CPU:0".into(),
            DeviceName::Gpu(k) => format!("GPU:{k}"),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/job:localhost/replica:0/task:0/device:{}", self.short())
    }
}

/// `GPU:0`, `/gpu:0`, `/device:GPU:0`, or the full name with job, replica and task of this process; a kind without a number is its first.
impl FromStr for DeviceName {
    type Err = String;

    fn from_str(s: &str) -> Result<DeviceName, String> {
        let wrong = || format!("{s:?} names no device of this process; names are CPU:0, GPU:0, GPU:1, …");
        let spec: DeviceSpec = s.parse().map_err(|_| wrong())?;
        let name = match spec.kind.as_deref() {
            Some("CPU") => DeviceName::Cpu,
            Some("GPU") => DeviceName::Gpu(spec.index.unwrap_or(0)),
            _ => return Err(wrong()),
        };
        if spec.admits(name) { Ok(name) } else { Err(wrong()) }
    }
}

/// A device as a graph asks for it: each part that it leaves open may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSpec {
    job: Option<String>,
    replica: Option<usize>,
    task: Option<usize>,
    /// In capital letters.
    kind: Option<String>,
    index: Option<usize>,
}

impl DeviceSpec {
    /// Whether nothing is asked for.
    pub fn is_open(&self) -> bool {
        *self == DeviceSpec::default()
    }

    /// Whether a device of this process is such a one.
    pub fn admits(&self, device: DeviceName) -> bool {
        let (kind, index) = match device {
            DeviceName::Cpu => ("CPU", 0),
            DeviceName::Gpu(k) => ("GPU", k),
        };
        self.job.as_deref().is_none_or(|j| j == "localhost")
            && self.replica.is_none_or(|n| n == 0)
            && self.task.is_none_or(|n| n == 0)
            && self.kind.as_deref().is_none_or(|k| k == kind)
            && self.index.is_none_or(|n| n == index)
    }

    /// What satisfies both; `None` if nothing does.
    pub fn merged(&self, other: &DeviceSpec) -> Option<DeviceSpec> {
        fn part<T: Clone + PartialEq>(a: &Option<T>, b: &Option<T>) -> Option<Option<T>> {
            match (a, b) {
                (Some(x), Some(y)) if x != y => None,
                (x, y) => Some(x.clone().or_else(|| y.clone())),
            }
        }
        Some(DeviceSpec {
            job: part(&self.job, &other.job)?,
            replica: part(&self.replica, &other.replica)?,
            task: part(&self.task, &other.task)?,
            kind: part(&self.kind, &other.kind)?,
            index: part(&self.index, &other.index)?,
        })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(j) = &self.job {
            write!(f, "/job:{j}")?;
        }
        if let Some(n) = self.replica {
            write!(f, "/replica:{n}")?;
        }
        if let Some(n) = self.task {
            write!(f, "/task:{n}")?;
        }
        match (&self.kind, self.index) {
            (None, None) => Ok(()),
            (k, Some(n)) => write!(f, "/device:{}:{n}", k.as_deref().unwrap_or("*")),
            (Some(k), None) => write!(f, "/device:{k}:*"),
        }
    }
}

/// All forms that TensorFlow reads: `/job:worker/replica:0/task:1/device:GPU:0`, parts of it in any order, `*` for what is open, the old
/// `/gpu:0`, and `GPU:0`. The empty name asks for nothing.
impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(s: &str) -> Result<DeviceSpec, String> {
        let wrong =
            || format!("{s:?} is no name of a device; names are like /job:localhost/replica:0/task:0/device:GPU:0 or GPU:0");
        let number = |text: &str| match text {
            "*" => Ok(None),
            n => n.parse().map(Some).map_err(|_| wrong()),
        };
        let word = |text: &str| match text {
            "*" => Ok(None),
            w if !w.is_empty() && w.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => Ok(Some(w.to_owned())),
            _ => Err(wrong()),
        };
        let mut spec = DeviceSpec::default();
        for part in s.split('/').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once(':').unwrap_or((part, "*"));
            match key {
                "job" => spec.job = word(value)?,
                "replica" => spec.replica = number(value)?,
                "task" => spec.task = number(value)?,
                kind => {
                    let (kind, index) =
                        if kind == "device" { value.split_once(':').unwrap_or((value, "*")) } else { (kind, value) };
                    spec.kind = word(kind)?.map(|k| k.to_ascii_uppercase());
                    spec.index = number(index)?;
                }
            }
        }
        Ok(spec)
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

#[cfg(feature = "gpu-driver")]
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

#[cfg(not(feature = "gpu-driver"))]
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

    #[test]
    fn open_parts_admit_anything() {
        let spec = |s: &str| s.parse::<DeviceSpec>().unwrap_or_else(|e| panic!("{e}"));
        for name in ["", "/device:GPU:*", "/GPU:1", "/job:localhost", "/task:0/gpu:*", "/job:*/replica:*/task:*/device:*:1", "gpu"]
        {
            assert!(spec(name).admits(DeviceName::Gpu(1)), "{name}");
            assert_eq!(spec(name).is_open(), name.is_empty());
            assert_eq!(spec(&spec(name).to_string()), spec(name), "{name}");
        }
        for name in ["/cpu:0", "/device:GPU:0", "/job:ps/task:0/device:GPU:1", "/replica:1", "/device:XLA_GPU:1"] {
            assert!(!spec(name).admits(DeviceName::Gpu(1)), "{name}");
        }
        assert_eq!(spec("/job:localhost/gpu:*").merged(&spec("/device:GPU:1")), Some(spec("/job:localhost/device:GPU:1")));
        assert_eq!(spec("/gpu:0").merged(&spec("/gpu:1")), None);
        assert_eq!(spec("/gpu:0").merged(&spec("/cpu:0")), None);
        for name in ["/device:GPU:x", "/job:", "/task:-1", "GPU 0"] {
            assert!(name.parse::<DeviceSpec>().is_err(), "{name}");
        }
    }
}

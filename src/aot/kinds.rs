//! Kinds of code for GPUs in packages: PTX and SPIR-V, which drivers compile, and PTX that was assembled for one architecture.

use graphc_gpu::Flavour;
use std::fmt;
use std::str::FromStr;

/// A kind of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub flavour: Flavour,
    /// Whether it is assembled.
    pub cubin: bool,
}

/// What such code is told by, before the name of its architecture.
const CUBIN: &str = "cubin:";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.cubin { CUBIN } else { "" }, self.flavour)
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(s: &str) -> Result<Kind, String> {
        let (cubin, rest) = s.strip_prefix(CUBIN).map_or((false, s), |rest| (true, rest));
        let flavour = rest.parse()?;
        match flavour {
            Flavour::Spirv(_) if cubin => Err(format!("{s:?}: only code for architectures of NVIDIA's is assembled")),
            _ => Ok(Kind { flavour, cubin }),
        }
    }
}

impl Kind {
    /// How well it suits a device that asks for `device`: more is better, `None` if it does not run there. Assembled code runs on its
    /// generation alone, and needs no work of the driver.
    pub fn suits(self, device: Flavour) -> Option<u32> {
        let score = self.flavour.suits(device)?;
        if !self.cubin {
            return Some(score);
        }
        (generation(self.flavour) == generation(device)).then_some(score + ASSEMBLED)
    }
}

/// What assembled code has ahead of any other.
const ASSEMBLED: u32 = 1 << 16;

/// The major number of a compute capability.
fn generation(f: Flavour) -> Option<u32> {
    let name = f.to_string();
    let number: String = name.chars().filter(char::is_ascii_digit).collect();
    matches!(f, Flavour::Ptx(_)).then_some(number.parse::<u32>().ok()? / 10)
}

/// The best of what suits a device first.
pub fn in_order<T>(code: &[T], kind: impl Fn(&T) -> Option<Kind>, device: Flavour) -> Vec<&T> {
    let mut all: Vec<(u32, &T)> = code.iter().filter_map(|c| Some((kind(c)?.suits(device)?, c))).collect();
    all.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    all.into_iter().map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembled_code_comes_first_where_it_runs() {
        let kind = |s: &str| s.parse::<Kind>().unwrap_or_else(|e| panic!("{e}"));
        let all = ["sm_80", "cubin:sm_80", "cubin:sm_90", "sm_90", "spirv"].map(kind);
        assert!(all.iter().all(|k| kind(&k.to_string()) == *k));
        let order =
            |device: &str| in_order(&all, |k| Some(*k), kind(device).flavour).into_iter().map(Kind::to_string).collect::<Vec<_>>();
        assert_eq!(order("sm_90"), ["cubin:sm_90", "sm_90", "sm_80"]);
        assert_eq!(order("sm_86"), ["cubin:sm_80", "sm_80"]);
        assert_eq!(order("sm_120"), ["sm_90", "sm_80"]);
        assert_eq!(order("sm_75"), [""; 0]);
        assert_eq!(order("spirv"), ["spirv"]);
        assert!("cubin:spirv".parse::<Kind>().is_err() && "cubin:".parse::<Kind>().is_err());
    }
}

//! What kernels are made for, and what the passes ask of a GPU.

use graphc_cpu::tape::code::Ty;
use graphc_ir::Op;
use graphc_passes::precision::Precision;
use graphc_passes::target::Target;
use std::fmt;
use std::str::FromStr;

/// The language of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// For Vulkan.
    Spirv(Features),
    /// For NVIDIA's driver.
    Ptx(Chip),
}

/// An architecture of NVIDIA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chip {
    /// Compute capability 9.0 is 90.
    number: u32,
    /// Whether code has what this one alone has (`sm_90a`), and runs on no newer one.
    own: bool,
}

impl Chip {
    /// Architectures that PTX is made for, with the oldest version of PTX that has them and all that kernels use.
    const ALL: [(Chip, u32); 9] = [
        (Chip::numbered(70), 80),
        (Chip::numbered(75), 80),
        (Chip::COMMON, 80),
        (Chip::numbered(86), 80),
        (Chip::numbered(89), 80),
        (Chip::numbered(90), 80),
        (Chip::HOPPER, 80),
        (Chip::numbered(100), 86),
        (Chip::numbered(120), 87),
    ];

    /// What PTX is made for where nothing is known of the device: runs on all from it on.
    pub const COMMON: Chip = Chip::numbered(80);

    /// Compute capability 9.0 with its products of warpgroups, `sm_90a`.
    pub const HOPPER: Chip = Chip { number: 90, own: true };

    const fn numbered(number: u32) -> Chip {
        Chip { number, own: false }
    }

    /// The newest that a device of compute capability `capability` runs.
    pub fn of(capability: u32) -> Option<Chip> {
        let device = Chip { number: capability, own: true };
        Chip::ALL.iter().map(|(chip, _)| *chip).rev().find(|chip| chip.runs_on(device))
    }

    fn runs_on(self, device: Chip) -> bool {
        if self.own { self == device } else { self.number <= device.number }
    }

    pub fn number(self) -> u32 {
        self.number
    }

    /// Whether warpgroups multiply tiles in shared memory (`wgmma`).
    pub fn has_warpgroups(self) -> bool {
        self == Chip::HOPPER
    }

    /// The version of PTX, ten times.
    pub fn ptx(self) -> u32 {
        Chip::ALL.iter().find(|(chip, _)| *chip == self).map_or(80, |&(_, ptx)| ptx)
    }
}

/// As NVIDIA's tools name it: `sm_80`, `sm_90a`.
impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.number, if self.own { "a" } else { "" })
    }
}

/// In what numbers the factors of f32 products and convolutions are multiplied; sums are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Factors {
    #[default]
    F32,
    /// 11 significant bits: on tensor cores.
    Tf32,
    /// 8 significant bits: on tensor cores, at twice the rate.
    Bf16,
}

impl From<Precision> for Factors {
    fn from(p: Precision) -> Factors {
        match p {
            Precision::Tf32 => Factors::Tf32,
            Precision::Bf16 => Factors::Bf16,
            Precision::F32 | Precision::Int8 | Precision::Strassen => Factors::F32,
        }
    }
}

impl Factors {
    /// Those that kernels in `flavour` multiply: tensor cores for these are there from compute capability 8.0 on. Through Vulkan
    /// numbers are rounded all the same, and multiplied one by one.
    #[must_use]
    pub fn within(self, flavour: Flavour) -> Factors {
        match flavour {
            Flavour::Ptx(chip) if chip.number() < 80 => Factors::F32,
            _ => self,
        }
    }

    /// Numbers in 32 bits.
    pub fn per_word(self) -> i64 {
        if self == Factors::Bf16 { 2 } else { 1 }
    }
}

/// The name of a kind of code in packages: `sm_80`, `spirv`, or `spirv-basic` for devices that have nothing but what all have.
impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flavour::Ptx(chip) => chip.fmt(f),
            Flavour::Spirv(Features::ALL) => f.write_str("spirv"),
            Flavour::Spirv(Features::NONE) => f.write_str("spirv-basic"),
            Flavour::Spirv(other) => write!(f, "spirv {other:?}"),
        }
    }
}

impl FromStr for Flavour {
    type Err = String;

    fn from_str(s: &str) -> Result<Flavour, String> {
        let chip = Chip::ALL.iter().map(|(chip, _)| *chip).find(|chip| chip.to_string() == s);
        match s {
            "spirv" => Ok(Flavour::Spirv(Features::ALL)),
            "spirv-basic" => Ok(Flavour::Spirv(Features::NONE)),
            s => chip.map(Flavour::Ptx).ok_or_else(|| {
                let chips: Vec<String> = Chip::ALL.iter().map(|(chip, _)| chip.to_string()).collect();
                format!("{s:?} is nothing that kernels are made for; there are spirv, spirv-basic, {}", chips.join(", "))
            }),
        }
    }
}

impl Flavour {
    /// How well code of this kind suits a device that asks for `device`: more is better, `None` if it does not run there.
    pub fn suits(self, device: Flavour) -> Option<u32> {
        match (self, device) {
            (Flavour::Ptx(code), Flavour::Ptx(chip)) => Some(2 * code.number + u32::from(code.own)).filter(|_| code.runs_on(chip)),
            (Flavour::Spirv(used), Flavour::Spirv(there)) => used.are_in(there).then(|| used.count()),
            _ => None,
        }
    }
}

/// What a Vulkan device has besides what all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Buffers of bytes, and arithmetic on them.
    pub int8: bool,
    pub int16: bool,
    pub int64: bool,
    pub float64: bool,
}

impl Features {
    pub const ALL: Features = Features { int8: true, int16: true, int64: true, float64: true };
    pub const NONE: Features = Features { int8: false, int16: false, int64: false, float64: false };

    fn list(self) -> [bool; 4] {
        [self.int8, self.int16, self.int64, self.float64]
    }

    fn are_in(self, other: Features) -> bool {
        self.list().into_iter().zip(other.list()).all(|(used, there)| there || !used)
    }

    fn count(self) -> u32 {
        self.list().into_iter().map(u32::from).sum()
    }
}

/// How an element lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Cell {
    /// The type of its value in a kernel.
    pub fn lane(self) -> Ty {
        match self {
            Cell::I8 | Cell::I16 | Cell::I32 => Ty::I32,
            Cell::I64 => Ty::I64,
            Cell::F32 => Ty::F32,
            Cell::F64 => Ty::F64,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Cell::I8 => 1,
            Cell::I16 => 2,
            Cell::I32 | Cell::F32 => 4,
            Cell::I64 | Cell::F64 => 8,
        }
    }

    /// Elements of so many bytes, whatever they are.
    pub fn of_size(bytes: i64) -> Option<Cell> {
        Some(match bytes {
            1 => Cell::I8,
            2 => Cell::I16,
            4 => Cell::I32,
            8 => Cell::I64,
            _ => return None,
        })
    }
}

/// A GPU, to the passes: convolutions stay convolutions, and panels of weights are as wide as the tiles that read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuTarget;

impl Target for GpuTarget {
    fn panel_width(&self, _m: Option<usize>, n: usize, _k: usize) -> usize {
        match n {
            0..=16 => 16,
            17..=32 => 32,
            _ => 64,
        }
    }

    fn has_kernel(&self, op: Op) -> bool {
        op != Op::ConvTranspose2d
    }

    fn goes_by_images(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_a_package_is_chosen_for_the_device() {
        let flavour = |s: &str| s.parse::<Flavour>().unwrap_or_else(|e| panic!("{e}"));
        let all = ["sm_80", "sm_90", "spirv", "spirv-basic"].map(flavour);
        let best = |device: Flavour| all.into_iter().filter_map(|f| Some((f.suits(device)?, f))).max_by_key(|c| c.0).map(|c| c.1);
        assert!(all.iter().all(|f| flavour(&f.to_string()) == *f));
        assert_eq!(best(flavour("sm_86")), Some(flavour("sm_80")));
        assert_eq!(best(flavour("sm_120")), Some(flavour("sm_90")));
        assert_eq!(best(flavour("sm_75")), None);
        let hopper = flavour("sm_90a");
        assert_eq!(Chip::of(90).map(Flavour::Ptx), Some(hopper));
        assert_eq!(Chip::of(100).map(Flavour::Ptx), Some(flavour("sm_100")));
        assert!(flavour("sm_90").suits(hopper) < hopper.suits(hopper));
        assert_eq!(hopper.suits(flavour("sm_100")), None);
        assert_eq!(best(flavour("spirv")), Some(flavour("spirv")));
        assert_eq!(best(Flavour::Spirv(Features { int64: false, ..Features::ALL })), Some(flavour("spirv-basic")));
        assert!("sm_81".parse::<Flavour>().is_err() && "metal".parse::<Flavour>().is_err());
    }
}

//! What machine code is generated for.

use crate::emit::codegen;
use crate::error::CompileError;
use crate::tape::Variants;
use cranelift_codegen::isa::{OwnedTargetIsa, lookup_by_name};
use cranelift_codegen::settings::{self, Configurable};
use graphc_kernels::tier::{Tier, detect};
use std::fmt;

/// A processor and the system around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    system: &'static System,
    cpu: Cpu,
}

/// An architecture with an object format and calling convention.
#[derive(Debug, PartialEq, Eq)]
struct System {
    triple: &'static str,
    arch: &'static str,
    os: &'static str,
}

/// The systems for which objects are made.
static SYSTEMS: [System; 6] = [
    System { triple: "x86_64-unknown-linux-gnu", arch: "x86_64", os: "linux" },
    System { triple: "aarch64-unknown-linux-gnu", arch: "aarch64", os: "linux" },
    System { triple: "riscv64gc-unknown-linux-gnu", arch: "riscv64", os: "linux" },
    System { triple: "x86_64-apple-darwin", arch: "x86_64", os: "macos" },
    System { triple: "aarch64-apple-darwin", arch: "aarch64", os: "macos" },
    System { triple: "x86_64-pc-windows-msvc", arch: "x86_64", os: "windows" },
];

/// Which instructions code may use without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cpu {
    /// Those that every processor of the architecture has. Better ones are used where the machine that runs the code has them.
    #[default]
    Baseline,
    /// x86-64 with AVX2, FMA and BMI.
    X86V3,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    X86V4,
    /// Those of the machine that runs the compiler.
    Native,
}

impl Cpu {
    /// Every one, by name.
    pub const ALL: [(&'static str, Cpu); 4] =
        [("baseline", Cpu::Baseline), ("x86-64-v3", Cpu::X86V3), ("x86-64-v4", Cpu::X86V4), ("native", Cpu::Native)];

    /// The one named `name`.
    pub fn named(name: &str) -> Option<Cpu> {
        Cpu::ALL.iter().find(|(n, _)| *n == name).map(|(_, cpu)| *cpu)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Cpu::ALL.iter().find(|(_, cpu)| cpu == self).map_or("", |(name, _)| name))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.system.triple, self.cpu)
    }
}

impl Machine {
    /// The system called `triple`, as Rust's compiler names it, with processor `cpu`.
    ///
    /// # Errors
    /// If no code is made for it, or its processor is another.
    pub fn new(triple: &str, cpu: Cpu) -> Result<Machine, CompileError> {
        let system = SYSTEMS.iter().find(|s| s.triple == triple).ok_or_else(|| {
            CompileError::Invalid(format!(
                "no code is made for {triple:?}, only for {}",
                Machine::triples().collect::<Vec<_>>().join(", ")
            ))
        })?;
        let fits = match cpu {
            Cpu::Baseline => true,
            Cpu::X86V3 | Cpu::X86V4 => system.arch == "x86_64",
            Cpu::Native => system.is_here(),
        };
        match fits {
            true => Ok(Machine { system, cpu }),
            false => Err(CompileError::Invalid(format!("{triple} has no processor {cpu}"))),
        }
    }

    /// This system with processor `cpu`.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn here(cpu: Cpu) -> Result<Machine, CompileError> {
        let system = SYSTEMS.iter().find(|s| s.is_here());
        let system = system.ok_or_else(|| CompileError::Invalid(format!("no code is made for {}", std::env::consts::ARCH)))?;
        Machine::new(system.triple, cpu)
    }

    /// The names of all systems.
    pub fn triples() -> impl Iterator<Item = &'static str> {
        SYSTEMS.iter().map(|s| s.triple)
    }

    /// The system's name.
    pub fn triple(&self) -> &'static str {
        self.system.triple
    }

    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// True if its code runs on the system of this process.
    pub fn is_here(&self) -> bool {
        self.system.is_here()
    }

    /// The tier that a machine must have to run an object for it; what has less must not call the object's code.
    pub fn least_tier(&self) -> Tier {
        match self.cpu {
            Cpu::Baseline => Tier::Portable,
            Cpu::X86V3 => Tier::Avx2,
            Cpu::X86V4 => Tier::Avx512,
            Cpu::Native => detect(),
        }
    }

    /// The variants of loops that an object for it holds.
    pub fn variants(&self) -> Variants {
        Variants::AtLeast(self.least_tier())
    }

    /// Cranelift's target; `pic`: for code that a linker places.
    pub(crate) fn isa(&self, pic: bool) -> Result<OwnedTargetIsa, CompileError> {
        self.target(pic, &[("opt_level", "speed")])
    }

    /// The target of code for this process that is compiled fast.
    pub(crate) fn quick_isa(&self) -> Result<OwnedTargetIsa, CompileError> {
        self.target(false, &[("opt_level", "none"), ("regalloc_algorithm", "single_pass")])
    }

    fn target(&self, pic: bool, settings: &[(&str, &str)]) -> Result<OwnedTargetIsa, CompileError> {
        let mut flags = settings::builder();
        let mut set = |name: &str, value: &str| flags.set(name, value).map_err(codegen);
        settings.iter().try_for_each(|(name, value)| set(name, value))?;
        set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
        set("use_colocated_libcalls", "false")?;
        set("is_pic", if pic { "true" } else { "false" })?;
        let mut builder = match self.cpu {
            Cpu::Native => cranelift_native::builder().map_err(codegen)?,
            _ => lookup_by_name(self.system.triple).map_err(codegen)?,
        };
        // The presets leave out what others imply.
        let features: &[&str] = match self.cpu {
            Cpu::X86V3 => &["x86-64-v3", "has_avx"],
            Cpu::X86V4 => &["x86-64-v4", "has_avx", "has_avx512f"],
            Cpu::Baseline if self.system.arch == "riscv64" => &["has_c"],
            Cpu::Baseline | Cpu::Native => &[],
        };
        for feature in features {
            builder.enable(feature).map_err(codegen)?;
        }
        builder.finish(settings::Flags::new(flags)).map_err(codegen)
    }
}

impl System {
    fn is_here(&self) -> bool {
        self.arch == std::env::consts::ARCH && self.os == std::env::consts::OS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_has_code_and_its_processors_alone() {
        for triple in Machine::triples() {
            let machine = Machine::new(triple, Cpu::Baseline).unwrap();
            assert_eq!(machine.to_string(), format!("{triple} (baseline)"));
            assert!(machine.isa(true).is_ok(), "{triple}");
            for cpu in [Cpu::X86V3, Cpu::X86V4] {
                let machine = Machine::new(triple, cpu);
                assert_eq!(machine.is_ok(), triple.starts_with("x86_64"), "{triple} {cpu}");
                assert!(machine.is_err() || machine.unwrap().isa(true).is_ok(), "{triple} {cpu}");
            }
        }
        assert!(Machine::here(Cpu::Native).unwrap().isa(false).is_ok());
        assert!(Machine::new("pdp11-dec-unix", Cpu::Baseline).unwrap_err().to_string().contains("aarch64-unknown-linux-gnu"));
        assert_eq!(Cpu::named("x86-64-v3"), Some(Cpu::X86V3));
        assert_eq!(Cpu::named("z80"), None);
    }
}

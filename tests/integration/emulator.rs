//! Programs for other machines: linked by their C compilers, run by an emulator. `tests/cross.sh` installs both and builds the archives.
#![allow(dead_code)] // Two tests use parts of it.

use graphc_cpu::{Cpu, Machine};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What links and runs the programs of a system.
pub struct Emulator {
    pub triple: &'static str,
    cc: &'static str,
    command: [&'static str; 3],
}

pub const AARCH64: Emulator = Emulator {
    triple: "aarch64-unknown-linux-gnu",
    cc: "aarch64-linux-gnu-gcc",
    command: ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
};

pub const RISCV64: Emulator = Emulator {
    triple: "riscv64gc-unknown-linux-gnu",
    cc: "riscv64-linux-gnu-gcc",
    command: ["qemu-riscv64", "-L", "/usr/riscv64-linux-gnu"],
};

/// A processor without AVX.
pub const OLD_X86_64: Emulator =
    Emulator { triple: "x86_64-unknown-linux-gnu", cc: "cc", command: ["qemu-x86_64", "-cpu", "Nehalem"] };

impl Emulator {
    /// True on a machine whose own programs [`OLD_X86_64`] would run.
    pub fn links_here(&self) -> bool {
        self.triple != OLD_X86_64.triple || self.is_here()
    }

    fn is_here(&self) -> bool {
        Machine::here(Cpu::Baseline).is_ok_and(|m| m.triple() == self.triple)
    }

    /// `libgraphc_rt.a` of profile `rt`, in the target folder of this test.
    fn archive(&self) -> PathBuf {
        let exe = std::env::current_exe().unwrap();
        let target = exe.ancestors().nth(3).unwrap();
        let folder = if self.is_here() { target.to_owned() } else { target.join(self.triple) };
        folder.join("rt/libgraphc_rt.a")
    }

    /// Links `main.c` and `model.o` of a folder to the program `model`.
    pub fn link(&self, folder: &Path) -> Result<(), String> {
        let mut link = Command::new(self.cc);
        link.current_dir(folder).args(["-O1", "-Wall", "main.c", "model.o"]).arg(self.archive());
        ended(link.args(["-lm", "-lpthread", "-o", "model"]), "linking")
    }

    /// Runs the program `model` of a folder there.
    pub fn run(&self, folder: &Path, args: &[&Path]) -> Result<(), String> {
        let mut run = Command::new(self.command[0]);
        ended(run.current_dir(folder).args(&self.command[1..]).arg("./model").args(args), "running")
    }
}

fn ended(command: &mut Command, what: &str) -> Result<(), String> {
    let out = command.output().map_err(|e| format!("{what}: {command:?}: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{what}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim())),
    }
}

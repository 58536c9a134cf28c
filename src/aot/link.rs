//! From objects to libraries and programs, through the system's C compiler.

use super::{Machine, identifier};
use crate::Error;
use graphc_cpu::object::symbol;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The runtime's archives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Archive {
    /// `libgraphc_rt.a`, for functions that are compiled as a whole.
    Small,
    /// `libgraphc_rt_full.a`, for functions in stages too.
    Full,
}

impl Archive {
    /// Its name.
    pub fn file(self) -> &'static str {
        match self {
            Archive::Small => "libgraphc_rt.a",
            Archive::Full => "libgraphc_rt_full.a",
        }
    }

    /// The environment's variable with the path of another one, and the arguments of cargo that build it, with the folder it is left in.
    fn build(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Archive::Small => ("GRAPHC_RT", "--profile rt -p graphc-rt --no-default-features", "rt"),
            Archive::Full => ("GRAPHC_RT_FULL", "--release -p graphc-rt-full", "release"),
        }
    }

    /// The archive for a machine: that which the environment names; where cargo leaves it; beside this program or in `lib` beside its
    /// folder, for another system in a folder of its name there.
    pub fn find(self, machine: Machine) -> Option<PathBuf> {
        let (variable, _, profile) = self.build();
        if let Some(path) = std::env::var_os(variable) {
            return Some(path.into());
        }
        let exe = std::env::current_exe().ok()?;
        let (folder, file) = (exe.parent()?, self.file());
        // This program lies in `target/release`, a test in `target/release/deps`.
        let cargo = ["..", "../.."].map(|p| folder.join(p));
        let installed = [".", "../lib", "../../lib"].map(|p| folder.join(p));
        let own = |places: [PathBuf; 3]| places.map(|p| p.join(machine.triple()).join(file));
        let mut places: Vec<PathBuf> = cargo.iter().map(|p| p.join(machine.triple()).join(profile).join(file)).collect();
        places.extend(own(installed.clone()));
        if machine.is_here() {
            places.extend(cargo.iter().map(|p| p.join(profile).join(file)));
            places.extend(installed.map(|p| p.join(file)));
        }
        places.into_iter().find(|p| p.is_file())
    }
}

fn failed(what: &str, e: impl std::fmt::Display) -> Error {
    Error::Compile(format!("{what}: {e}"))
}

/// Files of one link, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("graphc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|e| failed("cannot make a folder for the object", e))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Links objects of one machine with the runtime.
pub struct Linker {
    archive: PathBuf,
    /// The C compiler, which knows the system's libraries.
    cc: OsString,
    /// Prefix of the names of the other tools.
    tools: &'static str,
    /// Whether symbols and line information stay.
    debug: bool,
}

/// What programs and shared libraries need of the system.
const LIBRARIES: [&str; 3] = ["-lm", "-lpthread", "-ldl"];

impl Linker {
    /// The linker of `machine`: `$CC`, or `cc`, or for another system the compiler that Debian has for it. With `debug` it keeps symbols and
    /// line information.
    ///
    /// # Errors
    /// If there is no runtime archive for the machine, or no known compiler.
    pub fn new(machine: Machine, archive: Archive, debug: bool) -> Result<Linker, Error> {
        let path = archive.find(machine).ok_or_else(|| {
            let other = if machine.is_here() { String::new() } else { format!(" --target {}", machine.triple()) };
            let (file, (variable, build, _)) = (archive.file(), archive.build());
            Error::Compile(format!(
                "{file} is not beside this program; build it with `cargo build {build}{other}`, or set {variable}"
            ))
        })?;
        let tools = tools(machine)?;
        let cc =
            std::env::var_os("CC").unwrap_or_else(|| if tools.is_empty() { "cc".into() } else { format!("{tools}gcc").into() });
        Ok(Linker { archive: path, cc, tools, debug })
    }

    fn cc(&self) -> Command {
        Command::new(&self.cc)
    }

    fn strip(&self) -> Option<&'static str> {
        (!self.debug).then_some("-s")
    }

    fn tool(&self, name: &str) -> Command {
        Command::new(format!("{}{name}", self.tools))
    }

    /// A program; its object has a main function.
    ///
    /// # Errors
    /// If it cannot be linked or written.
    pub fn program(&self, object: &[u8], to: &Path) -> Result<(), Error> {
        let scratch = Scratch::new()?;
        let model = write(&scratch, "model.o", object)?;
        let mut cc = self.cc();
        cc.arg("-o").arg(to).arg(model).arg(&self.archive).args(self.strip()).args(["-Wl,--gc-sections", "-Wl,--build-id=none"]);
        cc.args(LIBRARIES);
        run(&mut cc, "linking the program")
    }

    /// A shared library of the model called `name`, which exports its model and the functions of `graphc.h`, and nothing else.
    ///
    /// # Errors
    /// As [`Linker::program`].
    pub fn shared(&self, object: &[u8], name: &str, to: &Path) -> Result<(), Error> {
        let scratch = Scratch::new()?;
        let model = write(&scratch, "model.o", object)?;
        let exported = format!("{{ global: {}; {}; local: *; }};\n", symbol(name), INTERFACE.join("; "));
        let exports = write(&scratch, "exports", exported.as_bytes())?;
        let mut cc = self.cc();
        cc.arg("-shared").args(self.strip()).args(["-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-Bsymbolic"]);
        if let Some(file) = to.file_name() {
            let mut soname = OsString::from("-Wl,-soname,");
            soname.push(file);
            cc.arg(soname);
        }
        let mut script = OsString::from("-Wl,--version-script=");
        script.push(exports);
        cc.arg(script).args(roots()).arg("-o").arg(to).arg(model).arg(&self.archive).args(LIBRARIES);
        run(&mut cc, "linking the shared library")
    }

    /// A static library of the model called `name`, with what it needs of the runtime. Several may be linked into one program.
    ///
    /// # Errors
    /// As [`Linker::program`].
    pub fn static_library(&self, object: &[u8], name: &str, to: &Path) -> Result<(), Error> {
        let scratch = Scratch::new()?;
        let model = write(&scratch, "model.o", object)?;
        let whole = scratch.0.join(format!("{}.o", identifier(name)));
        let mut cc = self.cc();
        cc.args(["-r", "-nostdlib", "-Wl,--gc-sections"]).arg(format!("-Wl,-u,{}", symbol(name))).args(roots());
        cc.arg("-o").arg(&whole).arg(model).arg(&self.archive);
        run(&mut cc, "linking the static library")?;
        // Names of the runtime's inside stay inside; those of the interface may be there several times.
        let mut objcopy = self.tool("objcopy");
        objcopy.args(["--wildcard", "--keep-global-symbol=graphc_*"]);
        if !self.debug {
            objcopy.arg("--strip-debug");
        }
        // Bitcode of merged objects is read as one by tools that know it, and is not.
        objcopy.args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"]);
        objcopy.arg(format!("--keep-global-symbol={}", symbol(name)));
        objcopy.args(INTERFACE.iter().map(|f| format!("--weaken-symbol={f}"))).arg(&whole);
        run(&mut objcopy, "hiding the runtime's symbols")?;
        bundle(self.tools, &whole, to)
    }
}

/// A static library of an object alone, for programs that have the runtime from elsewhere.
///
/// # Errors
/// If there is no tool for it, or it cannot be written.
pub fn archive(object: &[u8], name: &str, machine: Machine, to: &Path) -> Result<(), Error> {
    let scratch = Scratch::new()?;
    let model = write(&scratch, &format!("{}.o", identifier(name)), object)?;
    bundle(tools(machine)?, &model, to)
}

fn bundle(tools: &str, object: &Path, to: &Path) -> Result<(), Error> {
    // An archive is added to, not replaced.
    let _ = fs::remove_file(to);
    let mut ar = Command::new(format!("{tools}ar"));
    ar.arg("rcsD").arg(to).arg(object);
    run(&mut ar, "writing the static library")
}

/// Prefix of the names of the tools that link for a machine: Debian's.
fn tools(machine: Machine) -> Result<&'static str, Error> {
    match machine.triple() {
        _ if machine.is_here() => Ok(""),
        "aarch64-unknown-linux-gnu" => Ok("aarch64-linux-gnu-"),
        "riscv64gc-unknown-linux-gnu" => Ok("riscv64-linux-gnu-"),
        other => Err(Error::Compile(format!("objects for {other} are linked on that system; write the object (-o NAME.o)"))),
    }
}

fn run(command: &mut Command, what: &str) -> Result<(), Error> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(|e| failed(&format!("cannot run {tool:?}, which links"), e))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(failed(what, String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// The functions of `graphc.h`.
pub const INTERFACE: [&str; 24] = [
    "graphc_version",
    "graphc_model_name",
    "graphc_function_count",
    "graphc_function_name",
    "graphc_input_count",
    "graphc_output_count",
    "graphc_input",
    "graphc_output",
    "graphc_create",
    "graphc_destroy",
    "graphc_reset",
    "graphc_call_create",
    "graphc_call_destroy",
    "graphc_set_input",
    "graphc_set_output",
    "graphc_set_workspace",
    "graphc_prepare",
    "graphc_workspace_bytes",
    "graphc_output_bytes",
    "graphc_output_dims",
    "graphc_run",
    "graphc_output_data",
    "graphc_cancel",
    "graphc_error",
];

/// What keeps the interface, which no object refers to.
fn roots() -> impl Iterator<Item = String> {
    INTERFACE.iter().map(|f| format!("-Wl,-u,{f}"))
}

fn write(scratch: &Scratch, name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    let path = scratch.0.join(name);
    fs::write(&path, bytes).map_err(|e| failed("cannot write the object", e))?;
    Ok(path)
}

//! Object files as a C program sees them: linked with `libgraphc_rt.a`, loaded, and run.

use crate::{Callable, Error, Tensor, View};
use graphc_abi::{Entry, ErrorRecord, Status};
use graphc_cpu::header::{c_header, identifier};
use graphc_cpu::object::{compile_object, sizes};
use graphc_cpu::{Cpu, EmitOptions, Machine};
use graphc_passes::plan::Plan;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An object file and the header that declares its functions.
pub struct Object {
    pub bytes: Vec<u8>,
    pub header: String,
    /// Prefix of the exported symbols.
    pub name: String,
}

/// Compiles an optimised plan ahead of time for `machine`, its exported symbols starting with `name`.
///
/// # Errors
/// If code generation fails.
pub fn object(plan: &Plan, machine: Machine, name: &str) -> Result<Object, Error> {
    let plans = [Plan { name: name.to_owned(), ..plan.clone() }];
    let bytes = compile_object(&plans, machine, &EmitOptions::default()).map_err(|e| Error::Compile(e.to_string()))?;
    Ok(Object { bytes, header: c_header(&plans), name: identifier(name) })
}

/// `libgraphc_rt.a`: `$GRAPHC_RT`, else beside this program, else in `lib` beside its folder.
pub fn runtime_archive() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("GRAPHC_RT") {
        return Some(path.into());
    }
    let exe = std::env::current_exe().ok()?;
    let folder = exe.parent()?;
    let places = [folder.join("libgraphc_rt.a"), folder.join("../lib/libgraphc_rt.a"), folder.join("../libgraphc_rt.a")];
    places.into_iter().find(|p| p.is_file())
}

fn failed(what: &str, e: impl std::fmt::Display) -> Error {
    Error::Compile(format!("{what}: {e}"))
}

/// Files of one link, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, Error> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("graphc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(|e| failed("cannot make a folder for the object", e))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Links `object` into a shared library.
fn link(object: &Object, folder: &Path) -> Result<PathBuf, Error> {
    let archive = runtime_archive().ok_or_else(|| {
        Error::Compile(
            "libgraphc_rt.a is not beside this program; build it with `cargo build --release -p graphc-rt`, or set GRAPHC_RT"
                .into(),
        )
    })?;
    let (o, so) = (folder.join("model.o"), folder.join("model.so"));
    std::fs::write(&o, &object.bytes).map_err(|e| failed("cannot write the object", e))?;
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(cc);
    command.arg("-shared").arg("-o").arg(&so).arg("-Wl,-u,graphc_run").arg(&o).arg(&archive).args(["-lm", "-lpthread", "-ldl"]);
    let out = command.output().map_err(|e| failed("cannot run the C linker `cc`", e))?;
    match out.status.success() {
        true => Ok(so),
        false => Err(failed("linking the object", String::from_utf8_lossy(&out.stderr).trim())),
    }
}

type Run =
    unsafe extern "C" fn(Entry, *const u8, *const *const u8, *const *mut u8, *mut u8, i64, *const *mut u8, *const i64) -> i32;
type Sizes = unsafe extern "C" fn(*const i64, *mut i64);

/// Compiles `callable` for these feeds to an object, links it, loads it, and runs it once on this thread.
///
/// # Errors
/// As [`Callable::run`], and if the object cannot be linked. Variables are not supported.
pub fn run(callable: &Callable, feeds: &[Tensor]) -> Result<Vec<Tensor>, Error> {
    let views: Vec<View> = feeds.iter().filter_map(|t| View::try_from(t).ok()).collect();
    let program = callable.prepare(&views)?;
    let plan = &callable.plan(Some(&views))?;
    if program.has_variables() {
        return Err(Error::Compile("an object with variables is not run here".into()));
    }
    let machine = Machine::here(Cpu::Baseline).map_err(|e| Error::Compile(e.to_string()))?;
    let object = object(plan, machine, "model")?;
    let scratch = Scratch::new()?;
    let library = link(&object, &scratch.0)?;
    let syms: Vec<i64> = program.symbols(&views).into_iter().map(|(_, v)| v).collect();
    let inputs: Vec<*const u8> = program.inputs_of(&views).iter().map(|v| v.bytes().as_ptr()).collect();
    let no = |e: libloading::Error| failed("loading the linked object", e);
    // SAFETY: the library was linked just now from an object and an archive of this build, whose symbols have these types; it stays
    // loaded to the end of the block, and inputs and outputs are as large as its own sizes say.
    let (code, outputs) = unsafe {
        let lib = libloading::Library::new(&library).map_err(no)?;
        let entry: Entry = *lib.get::<Entry>(b"model_entry").map_err(no)?;
        let weights = *lib.get::<*const u8>(b"model_weights").map_err(no)?;
        let size_of = *lib.get::<Sizes>(b"model_sizes").map_err(no)?;
        let graphc_run = *lib.get::<Run>(b"graphc_run").map_err(no)?;
        let mut numbers = vec![0i64; sizes(plan).len()];
        size_of(syms.as_ptr(), numbers.as_mut_ptr());
        let mut extents = numbers[1..].iter().map(|&n| usize::try_from(n).unwrap_or(0));
        let mut outputs = Vec::with_capacity(plan.outputs.len());
        for port in &plan.outputs {
            let shape: Vec<usize> = extents.by_ref().take(port.ty.rank()).collect();
            let bytes = shape.iter().product::<usize>() * port.ty.elem.size();
            outputs.push((port.ty.elem, shape, vec![0u8; bytes]));
        }
        let pointers: Vec<*mut u8> = outputs.iter_mut().map(|(_, _, b)| b.as_mut_ptr()).collect();
        let null = std::ptr::null_mut();
        let code = graphc_run(entry, weights, inputs.as_ptr(), pointers.as_ptr(), null, numbers[0], null.cast(), syms.as_ptr());
        (code, outputs)
    };
    match Status::from_code(code) {
        Status::Ok => Ok(outputs.into_iter().filter_map(|(elem, shape, bytes)| Tensor::from_bytes(elem, shape, bytes)).collect()),
        status => Err(Error::Run { status, node: String::new(), record: ErrorRecord::default() }),
    }
}

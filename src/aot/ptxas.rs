//! NVIDIA's assembler, where there is one.

use crate::Error;
use graphc_gpu::{Code, Flavour};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The path of ptxas: the one that is named, or the first in the search path.
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => path.is_file().then(|| path.to_owned()),
        None => std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join("ptxas")).find(|p| p.is_file()),
    }
}

/// Kernels in PTX as machine code of an architecture, on `threads` threads.
///
/// # Errors
/// If ptxas does not run, or does not take a kernel.
pub fn assembled(ptxas: &Path, kernels: &[Code], flavour: Flavour, threads: usize) -> Result<Vec<Code>, Error> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("graphc-ptxas-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    let file = |e: std::io::Error| Error::Compile(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(file)?;
    let made: Mutex<Vec<Option<Result<Code, Error>>>> = Mutex::new(kernels.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((k, code)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|k| Some((k, kernels.get(k)?))) {
            let one = assemble(ptxas, code, flavour, &folder.join(k.to_string()));
            made.lock().unwrap_or_else(PoisonError::into_inner)[k] = Some(one);
        }
    };
    std::thread::scope(|s| {
        (1..threads.min(kernels.len())).for_each(|_| drop(s.spawn(work)));
        work();
    });
    // What cannot be removed is left to the system.
    let _ = std::fs::remove_dir_all(&folder);
    made.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}

fn assemble(ptxas: &Path, code: &Code, flavour: Flavour, at: &Path) -> Result<Code, Error> {
    let (from, to) = (at.with_extension("ptx"), at.with_extension("cubin"));
    let file = |path: &Path, e: std::io::Error| Error::Compile(format!("{}: {e}", path.display()));
    std::fs::write(&from, &code.bytes).map_err(|e| file(&from, e))?;
    let mut command = Command::new(ptxas);
    command.arg(format!("-arch={flavour}")).arg("-o").args([&to, &from]);
    let ran = command.output().map_err(|e| file(ptxas, e))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(Error::Compile(format!("{} does not take kernel {}: {}", ptxas.display(), code.entry, said.trim())));
    }
    Ok(Code { bytes: std::fs::read(&to).map_err(|e| file(&to, e))?, ..code.clone() })
}

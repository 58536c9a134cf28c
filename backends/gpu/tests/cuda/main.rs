//! Code for NVIDIA's GPUs as text, and the CUDA driver on a stand-in for NVIDIA's library, which checks how it is used: see `standin/lib.rs`.
//!
//! A process opens the driver once, so each case runs in a process of its own, in which the stand-in is the driver.

mod inside;
mod ptx;
#[path = "../device/run.rs"]
mod run;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The folder of the stand-in, compiled.
static STAND_IN: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin");
    std::fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/standin/lib.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=cdylib", "-Copt-level=3", "-Clink-arg=-Wl,-soname,libcuda.so.1", "-o"])
        .args([&folder.join("libcuda.so.1"), &source])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
});

/// What a case of `inside` says on the stand-in with `settings`.
fn on_stand_in(case: &str, settings: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("inside::{case}"), "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", &*STAND_IN)
        .env("GRAPHC_STANDIN", settings)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{case} {settings}:\n{said}");
    said
}

#[test]
fn runs_use_the_driver_as_they_must() {
    let said = on_stand_in("runs", "");
    assert!(!said.contains("fault"), "{said}");
    assert!(said.contains("alive: 0 of memory, 0 pinned, 0 streams and events, 0 modules, 0 graphs, 0 contexts"), "{said}");
    for call in [
        "cuMemAllocAsync",
        "cuMemHostAlloc",
        "cuLaunchKernel",
        "cuGraphAddKernelNode",
        "cuGraphAddMemcpyNode",
        "cuGraphLaunch",
        "cuEventElapsedTime",
    ] {
        assert!(said.contains(&format!("\n{call}=")), "{call}: {said}");
    }
}

#[test]
fn mistakes_are_found() {
    let said = on_stand_in("mistakes", "");
    for fault in [
        "cuMemAllocAsync: no context is current",
        "cuModuleLoadDataEx: made for sm_120, and this is sm_90",
        "cuModuleGetFunction: no kernel other",
        "cuLaunchKernel: 8 bytes of arguments, too few for parameter 1 of copy",
        "cuLaunchKernel: 24 bytes of arguments, where copy has 20",
        "cuLaunchKernel: 64 threads, where copy is made for Some(128)",
        "cuLaunchKernel: 0 blocks of 128 threads of copy",
        "cuLaunchKernel: parameter 0 of copy is no address of memory that is alive",
        "cuMemcpyAsync: 65 bytes at the destination",
        "cuModuleLoadDataEx: unknown: \"vote.sync.all.pred %p1, %p1, -1\": all is not known",
        "cuLaunchKernel: outside: block 0: thread 0, instruction 2, ld.global.b32",
        "cuLaunchKernel: uneven: block 0: thread 0, instruction 2, ld.global.v2.b32",
        "cuLaunchKernel: apart: block 0: a barrier or an instruction of a warp that not all threads reach",
        "cuLaunchKernel: racing: block 0: thread 1, instruction 2, st.shared.b32",
        "cuLaunchKernel: crowded: block 0: thread 32, instruction 5, st.shared.b32",
        "cuLaunchKernel: waiting: block 0: threads that wait for what does not come",
        "cuLaunchKernel: early: block 0: thread 1, instruction 10, ld.shared.b32",
        "cuLaunchKernel: hasty: block 0: thread 1,",
        "cuGraphInstantiateWithFlags: nodes 0 and 1 touch the same memory in no order",
        "cuMemFree: ",
        "cuMemFreeAsync: ",
        "cuStreamDestroy: 1 allocations of the stream are left",
        "cuDevicePrimaryCtxRelease: 4 things of the context are left",
    ] {
        assert!(said.contains(&format!("fault: {fault}")), "{fault}: {said}");
    }
}

#[test]
fn errors_name_the_node_and_leave_nothing_behind() {
    // The kernels of the model, its launches as they are and in a graph, and memory of each kind.
    for (settings, text) in [
        ("cuModuleLoadDataEx=1", "cuModuleLoadDataEx: out of memory (CUDA_ERROR_OUT_OF_MEMORY) (at node \"the product\")"),
        ("cuLaunchKernel=1", "cuLaunchKernel: out of memory (CUDA_ERROR_OUT_OF_MEMORY) (at node \"the product\")"),
        ("cuGraphAddKernelNode=1", "cuGraphAddKernelNode: out of memory (CUDA_ERROR_OUT_OF_MEMORY) (at node \"the product\")"),
        ("cuMemAllocAsync=1", "cuMemAllocAsync: out of memory"),
        ("cuMemAllocAsync=3", "cuMemAllocAsync: out of memory"),
        ("cuMemHostAlloc=1", "cuMemHostAlloc: out of memory"),
        ("cuMemHostAlloc=2", "cuMemHostAlloc: out of memory"),
        ("cuStreamCreate=2", "cuStreamCreate: out of memory"),
        ("cuGraphInstantiateWithFlags=1", "cuGraphInstantiateWithFlags: out of memory"),
        ("cuStreamSynchronize=2", "cuStreamSynchronize: out of memory"),
    ] {
        let said = on_stand_in("failing", settings);
        assert!(said.contains(&format!("error: {text}")) || said.contains(&format!(": {text}")), "{settings}: {said}");
        assert!(!said.contains("fault"), "{settings}: {said}");
        assert!(
            said.contains("alive: 0 of memory, 0 pinned, 0 streams and events, 0 modules, 0 graphs, 0 contexts"),
            "{settings}: {said}"
        );
    }
}

#[test]
fn what_is_missing_is_said() {
    assert!(on_stand_in("listed", "").contains("Stand-in for an NVIDIA GPU (CUDA 12.4, compute capability 9.0)"));
    assert!(on_stand_in("missing", "version=11080").contains("the driver is of CUDA 11.8, and 12.0 is needed"));
    assert!(on_stand_in("missing", "devices=0").contains("NVIDIA's driver finds no device"));
    assert!(on_stand_in("missing", "capability=61").contains("the GPU lacks compute capability 7.0"));
}

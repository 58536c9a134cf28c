//! Cases that run in a process in which the stand-in is the driver.

use crate::run::run_on_device;
use cudarc::driver::sys::{self, CUresult};
use graphc_gpu::{Device, Factors, cuda};
use graphc_ir::{Module, Tensor};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// A product, a fused loop, and a loop whose condition the host reads.
const MODEL: &str = "
    module @test {
      func @f(%x: f32[?n, 20], %w: f32[20, 24]) -> (%y: f32[?n, 24], %z: i32[]) {
        %p = contract %x, %w {lhs = [1], rhs = [0]} ; \"the product\"
        %y = exp %p
        %zero = const <i32[] 0>
        %z = while %zero : i32[] (%i: i32[]) {
          %l = const <i32[] 5>
          %c = lt %i, %l
          yield %c
        } (%j: i32[]) {
          %one = const <i32[] 1>
          %d = add %j, %one
          yield %d
        }
        return %y, %z
      }
      func @straight(%x: f32[?n, 20], %w: f32[20, 24]) -> (%y: f32[?n, 24]) {
        %p = contract %x, %w {lhs = [1], rhs = [0]} ; \"the product\"
        %y = softmax %p
        return %y
      }
    }";

fn report() {
    let mut text = vec![0u8; 1 << 16];
    // SAFETY: the stand-in is the driver, and its function writes no more than there is room for.
    let n = unsafe {
        let report = sys::culib().get::<unsafe extern "C" fn(*mut u8, usize) -> usize>(b"standin_report").unwrap();
        report(text.as_mut_ptr(), text.len())
    };
    println!("{}", String::from_utf8_lossy(&text[..n]));
}

fn inputs(n: usize) -> Vec<Tensor> {
    vec![Tensor::from_slice(&[n, 20], &vec![1.0f32; n * 20]).unwrap(), Tensor::from_slice(&[20, 24], &[1.0f32; 480]).unwrap()]
}

fn run(func: &str) -> Result<(), String> {
    let m: Module = graphc_ir::text::parse(MODEL).unwrap();
    let device = Device::open(0).map_err(|e| e.to_string())?;
    assert!(device.info().api.starts_with("CUDA"));
    let program = graphc_gpu::compile(graphc_gpu::plan(&m, func).unwrap(), device.flavour(), Factors::F32, 1, None).unwrap();
    let x = device.load(program, 1).map_err(|e| e.to_string())?;
    let once = |n: usize| -> Result<(), String> {
        let outputs = run_on_device(&*x, &inputs(n)).map_err(|e| e.to_string())?;
        let expect = if func == "f" { 20f32.exp() } else { 1.0 / 24.0 };
        let close = |v: &f32| (v / expect - 1.0).abs() < 1e-5;
        assert!(outputs[0].as_slice::<f32>().unwrap().iter().all(close), "{:?}", outputs[0]);
        outputs.get(1).into_iter().for_each(|z| assert_eq!(*z.as_slice::<i32>().unwrap(), [5]));
        Ok(())
    };
    let two_at_once = |n: usize| {
        std::thread::scope(|s| {
            let other = s.spawn(|| once(n));
            once(n).and(other.join().unwrap())
        })
    };
    for n in [3, 3, 3, 7, 0, 7] {
        two_at_once(n)?;
    }
    let (mut y, mut z, mut times) = (vec![0; 3 * 24 * 4], vec![0; 4], Vec::new());
    let mut outputs: Vec<&mut [u8]> = vec![&mut y, &mut z];
    outputs.truncate(x.program().plan.outputs.len());
    let inputs = inputs(3);
    let feeds: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
    x.run_timed(&feeds, &mut outputs, &mut [], &[3], &mut |step, seconds| times.push((step, seconds)))
        .map_err(|e| e.to_string())?;
    assert!(times.len() >= 2 && times.iter().all(|(_, s)| *s >= 0.0), "{times:?}");
    x.trim();
    once(3)
}

#[test]
#[ignore = "needs the stand-in"]
fn runs() {
    run("f").unwrap();
    run("straight").unwrap();
    report();
}

#[test]
#[ignore = "needs the stand-in"]
fn failing() {
    println!("error: {}", run("straight").unwrap_err());
    report();
}

#[test]
#[ignore = "needs the stand-in"]
fn listed() {
    let d = &graphc_gpu::devices().unwrap()[0];
    println!("{} ({})", d.name, d.api);
}

#[test]
#[ignore = "needs the stand-in"]
fn missing() {
    println!("{}", cuda::Device::open(0).map(drop).unwrap_err());
}

const COPY: &std::ffi::CStr = c".version 8.0
.target sm_80
.address_size 64
.visible .entry copy(
    .param .u64 .ptr .global .align 1 copy_param_0,
    .param .u64 .ptr .global .align 1 copy_param_1,
    .param .u32 copy_param_2
)
.reqntid 128
{
    ret;
}
";

/// A kernel of 64 threads whose only parameter is an address.
fn kernel(name: &str, body: &str) -> String {
    format!(
        "\n.visible .entry {name}(.param .u64 .ptr .global .align 1 p)\n.maxntid 64, 1, 1\n{{
            .shared .align 4 .b8 words[256];
            ld.param.b64 %rd1, [p];
            mov.u32 %r1, %tid.x;
            {body}
            ret;\n}}\n"
    )
}

/// Kernels that a GPU would punish, late or never.
fn wrong_kernels() -> String {
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n".to_owned();
    [
        head,
        kernel("outside", "ld.global.b32 %r2, [%rd1+4096];"),
        kernel("uneven", "ld.global.v2.b32 {%r2, %r3}, [%rd1+4];"),
        kernel("apart", "setp.lt.u32 %p1, %r1, 3;\n@%p1 bra $L__1;\nbar.sync 0;\n$L__1:"),
        kernel("racing", "st.shared.b32 [words], %r1;\nld.shared.b32 %r2, [words];"),
        kernel(
            "crowded",
            "mul.wide.u32 %rd2, %r1, 8;\nmov.b64 %rd3, words;\nadd.s64 %rd3, %rd3, %rd2;\nst.shared.b32 [%rd3], %r1;",
        ),
        // A barrier of 65 threads, of which 64 are there.
        kernel(
            "waiting",
            "setp.ne.b32 %p1, %r1, 0;\n@%p1 bra $L__2;\nmov.b32 %r3, 65;\nmbarrier.init.shared.b64 [words], %r3;\n$L__2:
            bar.sync 0;\nmbarrier.arrive.shared.b64 %rd2, [words];\nmov.b32 %r4, 0;\n$L__3:
            mbarrier.try_wait.parity.shared.b64 %p2, [words], %r4, 100;\n@!%p2 bra $L__3;",
        ),
        // What one thread writes before it arrives is there for those that wait alone.
        kernel(
            "early",
            "setp.ne.b32 %p1, %r1, 0;\n@%p1 bra $L__4;\nmov.b32 %r3, 1;\nmbarrier.init.shared.b64 [words], %r3;\n$L__4:
            bar.sync 0;\n@%p1 bra $L__5;\nst.shared.b32 [words+16], %r1;\nmbarrier.arrive.shared.b64 %rd2, [words];\n$L__5:
            ld.shared.b32 %r5, [words+16];",
        ),
        // A copy of a piece is there when it is waited for.
        kernel("hasty", "cp.async.ca.shared.global [words], [%rd1], 4, 4;\nld.shared.b32 %r2, [words];\ncp.async.commit_group;\ncp.async.wait_group 0;"),
        kernel("unknown", "vote.sync.all.pred %p1, %p1, -1;"),
    ]
    .concat()
}

/// Everything here is wrong in one way.
#[test]
#[ignore = "needs the stand-in"]
fn mistakes() {
    let bad = |r: CUresult| assert_ne!(r, CUresult::CUDA_SUCCESS);
    let good = |r: CUresult| assert_eq!(r, CUresult::CUDA_SUCCESS);
    // SAFETY: the stand-in finds what is wrong before it does it.
    unsafe {
        let (mut device, mut context, mut stream, mut a, mut b, mut module, mut f) =
            (0, null_mut(), null_mut(), 0u64, 0u64, null_mut(), null_mut());
        good(sys::cuInit(0));
        good(sys::cuDeviceGet(&mut device, 0));
        good(sys::cuDevicePrimaryCtxRetain(&mut context, device));
        bad(sys::cuMemAllocAsync(&mut a, 64, stream));
        good(sys::cuCtxSetCurrent(context));
        good(sys::cuStreamCreate(&mut stream, 1));
        good(sys::cuMemAllocAsync(&mut a, 64, stream));
        good(sys::cuMemAlloc_v2(&mut b, 128));
        let load = |module: &mut _, text: &std::ffi::CStr| {
            sys::cuModuleLoadDataEx(module, text.as_ptr().cast(), 0, null_mut(), null_mut())
        };
        let newer = std::ffi::CString::new(COPY.to_str().unwrap().replace("sm_80", "sm_120")).unwrap();
        bad(load(&mut module, &newer));
        good(load(&mut module, COPY));
        bad(sys::cuModuleGetFunction(&mut f, module, c"other".as_ptr()));
        good(sys::cuModuleGetFunction(&mut f, module, c"copy".as_ptr()));
        let launch = |groups: u32, threads: u32, words: &[u64], mut bytes: usize| {
            let size: *mut c_void = std::ptr::from_mut(&mut bytes).cast();
            let mark = std::ptr::without_provenance_mut::<c_void>;
            let mut extra = [mark(1), words.as_ptr().cast_mut().cast(), mark(2), size, null_mut()];
            sys::cuLaunchKernel(f, groups, 1, 1, threads, 1, 1, 0, stream, null_mut(), extra.as_mut_ptr())
        };
        good(launch(1, 128, &[a, b, 5], 20));
        bad(launch(1, 128, &[a, b, 5], 8));
        bad(launch(1, 128, &[a, b, 5], 24));
        bad(launch(1, 64, &[a, b, 5], 20));
        bad(launch(0, 128, &[a, b, 5], 20));
        bad(launch(1, 128, &[3, b, 5], 20));
        bad(sys::cuMemcpyAsync(a, b, 65, stream));
        let (mut others, all) = (null_mut(), wrong_kernels());
        let without = std::ffi::CString::new(all.split("\n.visible .entry unknown").next().unwrap()).unwrap();
        bad(load(&mut others, &std::ffi::CString::new(all).unwrap()));
        good(load(&mut others, &without));
        for name in [c"outside", c"uneven", c"apart", c"racing", c"crowded", c"waiting", c"early", c"hasty"] {
            good(sys::cuModuleGetFunction(&mut f, others, name.as_ptr()));
            let (mut bytes, mark) = (8usize, std::ptr::without_provenance_mut::<c_void>);
            let mut extra = [mark(1), (&raw mut a).cast(), mark(2), (&raw mut bytes).cast(), null_mut()];
            bad(sys::cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 0, stream, null_mut(), extra.as_mut_ptr()));
        }
        // Two copies over the same memory, of which none waits.
        let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
        let c = copy.as_mut_ptr();
        (*c).srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
        (*c).dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_DEVICE;
        let mut copy = copy.assume_init();
        (copy.srcDevice, copy.dstDevice, copy.WidthInBytes, copy.Height, copy.Depth) = (a, b, 64, 1, 1);
        (copy.srcPitch, copy.srcHeight, copy.dstPitch, copy.dstHeight) = (64, 1, 64, 1);
        let (mut graph, mut node, mut exec) = (null_mut(), null_mut(), null_mut());
        good(sys::cuGraphCreate(&mut graph, 0));
        good(sys::cuGraphAddMemcpyNode(&mut node, graph, null(), 0, &copy, context));
        good(sys::cuGraphAddMemcpyNode(&mut node, graph, null(), 0, &copy, context));
        bad(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
        bad(sys::cuMemFree_v2(a));
        bad(sys::cuMemFreeAsync(b + 8, stream));
        bad(sys::cuStreamDestroy_v2(stream));
        bad(sys::cuDevicePrimaryCtxRelease_v2(device));
    }
    report();
}

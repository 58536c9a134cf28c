//! Times of the row and data kernels on one thread, as bandwidth against a copy measured in the same run, in the same level of memory.
//!
//! `cargo bench -p graphc-kernels --bench rows -- [regular expression of names]`. Bytes are those that must be read and written once.

mod common;

use common::Timer;
use core::ffi::c_void;
use graphc_abi::args::data::*;
use graphc_abi::args::rows::*;
use graphc_abi::{ALIGN, Body, Ctx, ErrorRecord, SCRATCH_BYTES};
use graphc_kernels::{data, math, rows};
use std::time::Instant;

unsafe extern "C" fn never(_: *const c_void, _: usize, _: Body, _: *const c_void) {}

/// Seconds a call, the best of many.
fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 0.15 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

fn zeroed<A: Copy>() -> A {
    // SAFETY: arguments consist of pointers and numbers.
    unsafe { core::mem::zeroed() }
}

fn main() {
    let mut scratch = vec![0u8; SCRATCH_BYTES + ALIGN];
    let mut error = ErrorRecord::default();
    let offset = scratch.as_ptr().align_offset(ALIGN);
    let ctx = Ctx {
        threads: 1,
        pool: core::ptr::null(),
        parallel_for: never,
        // SAFETY: within the allocation.
        scratch: unsafe { scratch.as_mut_ptr().add(offset) },
        cancel: core::ptr::null(),
        trace: None,
        trace_data: core::ptr::null_mut(),
        error: &mut error,
    };
    println!("tier {:?}", graphc_kernels::tier::tier());
    let x: Vec<f32> = (0..1 << 24).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 9) as f32 / (1 << 22) as f32 - 1.0).collect();
    let mut y = vec![0f32; 1 << 24];
    let (px, py) = (x.as_ptr(), y.as_mut_ptr());

    let mut timer = Timer::new();
    let mut report = |name: &str, elements_in: usize, elements_out: usize, call: &mut dyn FnMut()| {
        let Some(seconds) = timer.shortest(name, call) else { return };
        // A copy of the same number of bytes in all.
        let n = (elements_in + elements_out) / 2;
        // SAFETY: `n` elements in each array.
        let copy = best(|| unsafe { core::ptr::copy_nonoverlapping(px, py, n) });
        let bytes = 4.0 * (elements_in + elements_out) as f64;
        let each = elements_in.max(elements_out) as f64;
        println!(
            "{:24}best:   {:.2} µs  {:.1} GB/s  copy {:.1} GB/s  ratio {:.2}  {:.3} ns/element",
            "",
            seconds * 1e6,
            bytes / seconds * 1e-9,
            bytes / copy * 1e-9,
            copy / seconds,
            seconds * 1e9 / each
        );
    };

    for (name, strip) in [
        ("exp", math::gc_strip_exp_f32 as unsafe extern "C" fn(*const f32, *mut f32, usize)),
        ("log", math::gc_strip_log_f32),
        ("tanh", math::gc_strip_tanh_f32),
        ("sigmoid", math::gc_strip_sigmoid_f32),
        ("erf", math::gc_strip_erf_f32),
        ("gelu_erf", math::gc_strip_gelu_erf_f32),
        ("gelu_tanh", math::gc_strip_gelu_tanh_f32),
        ("sin", math::gc_strip_sin_f32),
    ] {
        // SAFETY: 4096 elements.
        report(&format!("strip {name} 4096"), 4096, 4096, &mut || unsafe { strip(px, py, 4096) });
    }
    // SAFETY: 4096 elements.
    report("strip pow 4096", 8192, 4096, &mut || unsafe { math::gc_strip_pow_f32(px, px, py, 4096) });

    for (r, n) in [(256, 128), (128, 512), (1536, 128), (64, 1000)] {
        let a = SoftmaxArgs { x: px, y: py, rows: r, n, ..zeroed() };
        // SAFETY: within the arrays.
        report(&format!("softmax {r} x {n}"), (r * n) as usize, (r * n) as usize, &mut || unsafe {
            rows::gc_softmax_f32(&ctx, &a);
        });
    }
    for (r, n) in [(128, 384), (128, 768), (4096, 768)] {
        let a = LayerNormArgs { x: px, y: py, gamma: px, beta: px, rows: r, n, eps: 1e-6, ..zeroed() };
        let n = (r * n) as usize;
        // SAFETY: within the arrays.
        report(&format!("layer norm {r} x {}", a.n), n, n, &mut || unsafe {
            rows::gc_layer_norm_f32(&ctx, &a);
        });
        let a = LayerNormArgs { residual: px, ..a };
        // SAFETY: within the arrays.
        report(&format!("layer norm {r} x {} + residual", a.n), 2 * n, n, &mut || unsafe {
            rows::gc_layer_norm_f32(&ctx, &a);
        });
    }
    for (d, mask) in [
        (&[49i64, 2048][..], 1),
        (&[8, 3136, 256], 2),
        (&[1, 49, 1280], 2),
        (&[1000, 1000], 2),
        (&[1 << 22], 1),
        (&[100_352, 64], 1),
        (&[4096, 768], 2),
        (&[1 << 20, 3], 1),
    ] {
        for (name, kind) in [("mean", reduce::MEAN), ("max", reduce::MAX)] {
            let mut a = ReduceArgs { x: px.cast(), y: py.cast(), kind, rank: d.len() as i64, mask, ..zeroed() };
            (a.d0, a.d1, a.d2) = (d[0], *d.get(1).unwrap_or(&0), *d.get(2).unwrap_or(&0));
            let n = d.iter().product::<i64>() as usize;
            // SAFETY: within the arrays.
            report(&format!("{name} of {d:?} over {mask:b}"), n, 0, &mut || unsafe {
                rows::gc_reduce_f32(&ctx, &a);
            });
        }
    }
    for (d, p) in [
        (&[512i64, 512][..], &[1i64, 0][..]),
        (&[1000, 3000], &[1, 0]),
        (&[2048, 2048], &[1, 0]),
        (&[8, 128, 12, 64], &[0, 2, 1, 3]),
        (&[8, 128, 12, 64], &[0, 2, 3, 1]),
        (&[1, 56, 56, 256], &[0, 3, 1, 2]),
        (&[1, 3, 224, 224], &[0, 2, 3, 1]),
        (&[1, 224, 224, 3], &[0, 3, 1, 2]),
        (&[32, 3, 3, 64], &[3, 1, 2, 0]),
    ] {
        let at = |s: &[i64], i: usize| s.get(i).copied().unwrap_or(0);
        let a = TransposeArgs {
            x: px.cast(),
            y: py.cast(),
            size: 4,
            rank: d.len() as i64,
            d0: at(d, 0),
            d1: at(d, 1),
            d2: at(d, 2),
            d3: at(d, 3),
            p0: at(p, 0),
            p1: at(p, 1),
            p2: at(p, 2),
            p3: at(p, 3),
            ..zeroed()
        };
        let n = d.iter().product::<i64>() as usize;
        // SAFETY: within the arrays.
        report(&format!("transpose {d:?} {p:?}"), n, n, &mut || unsafe {
            data::gc_transpose(&ctx, &a);
        });
    }
    for (r, c, whole) in [(3136i64, 64i64, 256i64), (3136, 24, 96), (784, 3, 8)] {
        let mut a = CopyStridedArgs { x: px.cast(), y: py.cast(), size: 4, rank: 2, d0: r, d1: c, ..zeroed() };
        (a.s0, a.s1, a.t0, a.t1) = (c, 1, whole, 1);
        let n = (r * c) as usize;
        // SAFETY: within the arrays.
        report(&format!("concat {r} runs of {c}"), n, n, &mut || unsafe {
            data::gc_copy_strided(&ctx, &a);
        });
    }
    for (name, kind, h, k, s, c) in
        [("max", pool::MAX, 112i64, 3i64, 2i64, 64i64), ("avg", pool::AVG, 28, 2, 2, 128), ("avg", pool::AVG, 35, 3, 1, 192)]
    {
        let out = (h - k) / s + 1;
        let mut a = Pool2dArgs { x: px, y: py, kind, n: 1, h, w: h, c, out_h: out, out_w: out, k_h: k, k_w: k, ..zeroed() };
        (a.stride_h, a.stride_w) = (s, s);
        // SAFETY: within the arrays.
        let t = &mut || unsafe {
            rows::gc_pool2d_f32(&ctx, &a);
        };
        report(&format!("{name} pool {k}x{k}/{s} of {h}x{h}x{c}"), (h * h * c) as usize, (out * out * c) as usize, t);
    }
    let mut a = ResizeBilinearArgs { x: px, y: py, n: 1, h: 32, w: 32, c: 64, out_h: 64, out_w: 64, ..zeroed() };
    a.half_pixel_centers = 1;
    // SAFETY: within the arrays.
    let t = &mut || unsafe {
        rows::gc_resize_bilinear_f32(&ctx, &a);
    };
    report("bilinear 32x32x64 to 64x64", 32 * 32 * 64, 64 * 64 * 64, t);
    let indices: Vec<i32> = (0..4096).map(|i| (i * 7919) % 10_000).collect();
    for inner in [1i64, 16, 768] {
        let a = GatherArgs {
            x: px.cast(),
            indices: indices.as_ptr().cast(),
            y: py.cast(),
            size: 4,
            index_bytes: 4,
            batch: 1,
            outer: 1,
            axis: 10_000,
            inner,
            count: 4096,
            outside: 0,
        };
        let n = 4096 * inner as usize;
        // SAFETY: within the arrays.
        report(&format!("gather 4096 of {inner}"), n, n, &mut || unsafe {
            data::gc_gather(&ctx, &a);
        });
    }
    let (mut values, mut places) = (vec![0f32; 1 << 16], vec![0i32; 1 << 16]);
    for k in [5i64, 100] {
        let mut a = TopKArgs { x: px.cast(), values: values.as_mut_ptr().cast(), indices: places.as_mut_ptr().cast(), ..zeroed() };
        (a.rows, a.n, a.k) = (16, 10_000, k);
        // SAFETY: within the arrays.
        report(&format!("top {k} of 16 x 10000"), 160_000, 0, &mut || unsafe {
            data::gc_topk(&ctx, &a);
        });
    }
}

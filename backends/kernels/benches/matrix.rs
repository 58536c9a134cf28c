//! Speed of the matrix kernels on one thread as a share of the fused multiply-add peak that the same run measures; of products
//! with few rows as a share of the bandwidth of reading.
//!
//! `cargo bench -p graphc-kernels --bench matrix -- [regular expression of names]`

mod common;

use common::Timer;
use core::ffi::c_void;
use graphc_abi::args::matrix::*;
use graphc_abi::{Body, Ctx, ErrorRecord, SCRATCH_BYTES};
use graphc_kernels::attention::gc_attention_f32;
use graphc_kernels::conv::forward::{gc_conv2d_bf16, gc_conv2d_f32, gc_conv2d_i8};
use graphc_kernels::conv::winograd::{filter as winograd, gc_winograd_f32};
use graphc_kernels::depthwise::gc_depthwise_f32;
use graphc_kernels::matrix::gemm::{gc_gemm_bf16, gc_gemm_f32, gc_gemm_i8};
use graphc_kernels::matrix::matmul::gc_matmul_f32;
use graphc_kernels::matrix::simd::Numbers;
use graphc_kernels::pack::{float_bytes, pack_panels, packed_len, panel_width, panels};
use graphc_kernels::peak::read_bandwidth;
use graphc_kernels::tier::tier;

/// Floats aligned to a cache line.
struct Buffer(Vec<[[f32; 16]; 4]>);

impl Buffer {
    fn new(n: usize) -> Buffer {
        let mut seed = 1u32;
        let mut b = Buffer(vec![[[0.0; 16]; 4]; n.div_ceil(64) + 64]);
        for x in b.0.as_flattened_mut().as_flattened_mut() {
            seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
            *x = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
        }
        b
    }
    /// Words that hold two numbers of bf16, or four integers.
    fn words(n: usize) -> Buffer {
        let mut b = Buffer::new(n);
        for x in b.0.as_flattened_mut().as_flattened_mut() {
            *x = f32::from_bits((x.to_bits() >> 16) * 0x1_0001);
        }
        b
    }
    fn at(&self) -> *const f32 {
        let p = self.0.as_ptr() as *const f32;
        p.wrapping_add(p.align_offset(64))
    }
    fn at_mut(&mut self) -> *mut f32 {
        self.at() as *mut f32
    }
}

unsafe extern "C" fn serial(_: *const c_void, chunks: usize, body: Body, data: *const c_void) {
    for i in 0..chunks {
        // SAFETY: the data is the caller's.
        unsafe { body(data, i, 0) };
    }
}

struct Bench {
    timer: Timer,
    peak: f64,
    scratch: Buffer,
    error: ErrorRecord,
}

impl Bench {
    /// Times launches with these arguments.
    fn time<A: Copy>(&mut self, name: &str, kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32, args: &A) -> Option<f64> {
        self.time_set(name, kernel, args, |_, _| ())
    }

    /// Times launches, each set up by `set` with its number.
    fn time_set<A: Copy>(
        &mut self,
        name: &str,
        kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32,
        args: &A,
        set: impl Fn(&mut A, usize),
    ) -> Option<f64> {
        let ctx = Ctx {
            threads: 1,
            pool: core::ptr::null(),
            parallel_for: serial,
            scratch: self.scratch.at_mut().cast(),
            cancel: core::ptr::null(),
            trace: None,
            trace_data: core::ptr::null_mut(),
            error: &mut self.error,
        };
        let (mut args, mut launches) = (*args, 0);
        self.timer.shortest(name, || {
            set(&mut args, launches);
            launches += 1;
            // SAFETY: the benchmarks give valid arguments.
            let status = unsafe { kernel(&ctx, &args) };
            assert_eq!(status, 0);
        })
    }

    /// Prints the share of the bandwidth at which these weights can be read at all; nothing where the name was left out.
    fn report_reading(&self, weights: &Buffer, seconds: Option<f64>) {
        let Some(seconds) = seconds else { return };
        let weights = weights.0.as_flattened().as_flattened();
        let (limit, reached) = (read_bandwidth(weights), size_of_val(weights) as f64 / seconds);
        let share = 100.0 * reached / limit;
        println!("{:24}best:   {:.2} µs  {share:.1}% of the {:.1} GB/s of reading", "", seconds * 1e6, limit / 1e9);
    }

    /// Prints what the shortest time is worth; nothing where the name was left out.
    fn report(&self, flops: f64, bytes: f64, seconds: Option<f64>) {
        let Some(seconds) = seconds else { return };
        let share = 100.0 * flops / seconds / self.peak;
        println!("{:24}best:   {:.2} µs  {share:.1}% of peak  {:.1} GB/s", "", seconds * 1e6, bytes / seconds / 1e9);
    }

    fn gemm(&mut self, m: usize, n: usize, k: usize, act: i64) {
        let name = format!("gemm {m}x{n}x{k} act {act}");
        let nr = std::env::var("NR").ok().and_then(|v| v.parse().ok()).unwrap_or_else(|| panel_width(Some(m), n, k));
        let (x, w, bias, mut y) = (Buffer::new(m * k), Buffer::new(packed_len(k, n, nr)), Buffer::new(n), Buffer::new(m * n));
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: GemmArgs = unsafe { core::mem::zeroed() };
        (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), bias.at());
        (args.m, args.n, args.k, args.nr, args.act) = (m as i64, n as i64, k as i64, nr as i64, act);
        let t = self.time(&name, gc_gemm_f32, &args);
        if m <= 4 {
            // A product with a vector or few: all of its time goes into reading the weights.
            return self.report_reading(&w, t);
        }
        self.report(2.0 * (m * n * k) as f64, 4.0 * (n * k) as f64, t);
    }

    /// The kernels over bf16 and 8-bit integers, as a share of the f32 peak.
    fn gemm_small(&mut self, m: usize, n: usize, k: usize, act: i64) {
        for numbers in [Numbers::Bf16, Numbers::I8] {
            let name = format!("gemm {numbers:?} {m}x{n}x{k} act {act}");
            let count = numbers.per_word();
            let nr = std::env::var("NR").ok().and_then(|v| v.parse().ok()).unwrap_or_else(|| panel_width(Some(m), n, k / count));
            let (x, w, columns) = (Buffer::words(m * k / count), Buffer::words(packed_len(k / count, n, nr)), Buffer::new(n));
            let mut y = Buffer::new(m * n);
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: GemmArgs = unsafe { core::mem::zeroed() };
            (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), columns.at());
            (args.m, args.n, args.k, args.nr, args.act) = (m as i64, n as i64, k as i64, nr as i64, act);
            (args.scale, args.shift, args.y_rate, args.y_hi) = (columns.at(), columns.at().cast(), 1.0, 255.0);
            args.act_hi = 6.0;
            let kernel = if numbers == Numbers::I8 { gc_gemm_i8 } else { gc_gemm_bf16 };
            let t = self.time(&name, kernel, &args);
            self.report(2.0 * (m * n * k) as f64, 4.0 * (n * k / count) as f64, t);
        }
    }

    /// The kernels over bf16 and 8-bit integers, as a share of the f32 peak.
    fn conv_small(&mut self, h: usize, c: usize, n: usize, k: usize, stride: usize) {
        for numbers in [Numbers::Bf16, Numbers::I8] {
            let name = format!("conv {numbers:?} {h}x{h}x{c} -> {n}, {k}x{k}/{stride}");
            let out = h.div_ceil(stride);
            let pad = ((out - 1) * stride + k).saturating_sub(h) / 2;
            let words = k * k * c / numbers.per_word();
            let nr = panel_width(Some(out * out), n, words);
            let (x, w, columns) =
                (Buffer::words(h * h * c / numbers.per_word()), Buffer::words(packed_len(words, n, nr)), Buffer::new(n));
            let mut y = Buffer::new(out * out * n);
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: Conv2dArgs = unsafe { core::mem::zeroed() };
            (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), columns.at());
            (args.batch, args.in_h, args.in_w, args.in_c) = (1, h as i64, h as i64, c as i64);
            (args.out_h, args.out_w, args.out_c) = (out as i64, out as i64, n as i64);
            (args.k_h, args.k_w, args.stride_h, args.stride_w) = (k as i64, k as i64, stride as i64, stride as i64);
            (args.pad_top, args.pad_left, args.nr, args.act) = (pad as i64, pad as i64, nr as i64, act::RELU);
            (args.scale, args.shift, args.y_rate, args.y_hi) = (columns.at(), columns.at().cast(), 1.0, 255.0);
            let kernel = if numbers == Numbers::I8 { gc_conv2d_i8 } else { gc_conv2d_bf16 };
            let t = self.time(&name, kernel, &args);
            self.report(2.0 * (out * out * n * k * k * c) as f64, 4.0 * (n * words) as f64, t);
        }
    }

    fn matmul(&mut self, batch: usize, m: usize, n: usize, k: usize, transposed: bool) {
        let name = format!("matmul {batch}x{m}x{n}x{k}{}", if transposed { "ᵀ" } else { "" });
        let (a, b, mut c) = (Buffer::new(batch * m * k), Buffer::new(batch * n * k), Buffer::new(batch * m * n));
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: MatmulArgs = unsafe { core::mem::zeroed() };
        (args.a, args.b, args.c) = (a.at(), b.at(), c.at_mut());
        (args.m, args.n, args.k, args.batch0) = (m as i64, n as i64, k as i64, batch as i64);
        (args.a_row, args.a_col, args.c_row, args.c_col) = (k as i64, 1, n as i64, 1);
        (args.b_row, args.b_col) = if transposed { (1, k as i64) } else { (n as i64, 1) };
        (args.a_batch0, args.b_batch0, args.c_batch0) = ((m * k) as i64, (n * k) as i64, (m * n) as i64);
        let t = self.time(&name, gc_matmul_f32, &args);
        self.report(2.0 * (batch * m * n * k) as f64, 4.0 * (batch * n * k) as f64, t);
    }

    fn conv(&mut self, h: usize, c: usize, n: usize, k: usize, stride: usize) {
        let name = format!("conv {h}x{h}x{c} -> {n}, {k}x{k}/{stride}");
        let out = h.div_ceil(stride);
        let pad = ((out - 1) * stride + k).saturating_sub(h) / 2;
        let nr =
            std::env::var("NR").ok().and_then(|v| v.parse().ok()).unwrap_or_else(|| panel_width(Some(out * out), n, k * k * c));
        // With COLD set, as many weights as do not fit into a cache.
        let len = packed_len(k * k * c, n, nr);
        let copies = if std::env::var_os("COLD").is_some() { (100 << 20) / (4 * len) + 1 } else { 1 };
        let (x, w, bias) = (Buffer::new(h * h * c), Buffer::new(copies * len), Buffer::new(n));
        let mut y = Buffer::new(out * out * n);
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: Conv2dArgs = unsafe { core::mem::zeroed() };
        (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), bias.at());
        (args.batch, args.in_h, args.in_w, args.in_c) = (1, h as i64, h as i64, c as i64);
        (args.out_h, args.out_w, args.out_c) = (out as i64, out as i64, n as i64);
        (args.k_h, args.k_w, args.stride_h, args.stride_w) = (k as i64, k as i64, stride as i64, stride as i64);
        (args.pad_top, args.pad_left, args.nr, args.act) = (pad as i64, pad as i64, nr as i64, act::RELU);
        let t = self.time_set(&name, gc_conv2d_f32, &args, |args, i| args.w = w.at().wrapping_add(i % copies * len));
        self.report(2.0 * (out * out * n * k * k * c) as f64, 4.0 * (n * k * k * c) as f64, t);
    }

    /// A 3x3 convolution of stride 1 by Winograd's algorithm; its share counts the operations of the direct way.
    fn winograd(&mut self, batch: usize, h: usize, c: usize, outputs: usize) {
        let name = format!("winograd {batch}x{h}x{h}x{c} F({outputs})");
        let nr = panel_width(Some(28), c, c);
        let len = winograd::packed_len(outputs, c, c, nr);
        let copies = if std::env::var_os("COLD").is_some() { (100 << 20) / (4 * len) + 1 } else { 1 };
        let (x, w, bias) = (Buffer::new(batch * h * h * c), Buffer::new(copies * len), Buffer::new(c));
        let mut y = Buffer::new(batch * h * h * c);
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: WinogradArgs = unsafe { core::mem::zeroed() };
        (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), bias.at());
        (args.batch, args.in_h, args.in_w, args.in_c) = (batch as i64, h as i64, h as i64, c as i64);
        (args.out_h, args.out_w, args.out_c) = (h as i64, h as i64, c as i64);
        (args.pad_top, args.pad_left, args.outputs) = (1, 1, outputs as i64);
        (args.nr, args.act) = (nr as i64, act::RELU);
        let t = self.time_set(&name, gc_winograd_f32, &args, |args, i| args.w = w.at().wrapping_add(i % copies * len));
        self.report(2.0 * (batch * h * h * c * 9 * c) as f64, 4.0 * len as f64, t);
    }

    /// The wide kernels and few channels of a pitch detector; all extents are (height, width).
    fn wide_conv(&mut self, (h, w, c): (usize, usize, usize), n: usize, (kh, kw): (usize, usize), (sh, sw): (usize, usize)) {
        let name = format!("wide conv {h}x{w}x{c} -> {n}, {kh}x{kw}/{sh}x{sw}");
        let (oh, ow) = (h.div_ceil(sh), w.div_ceil(sw));
        let nr = panel_width(Some(oh * ow), n, kh * kw * c);
        let (x, f, mut y) = (Buffer::new(h * w * c), Buffer::new(packed_len(kh * kw * c, n, nr)), Buffer::new(oh * ow * n));
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: Conv2dArgs = unsafe { core::mem::zeroed() };
        (args.x, args.w, args.y, args.act, args.nr) = (x.at(), f.at(), y.at_mut(), act::RELU, nr as i64);
        (args.batch, args.in_h, args.in_w, args.in_c) = (1, h as i64, w as i64, c as i64);
        (args.out_h, args.out_w, args.out_c, args.k_h, args.k_w) = (oh as i64, ow as i64, n as i64, kh as i64, kw as i64);
        (args.stride_h, args.stride_w) = (sh as i64, sw as i64);
        args.pad_top = (((oh - 1) * sh + kh).saturating_sub(h) / 2) as i64;
        args.pad_left = (((ow - 1) * sw + kw).saturating_sub(w) / 2) as i64;
        let t = self.time(&name, gc_conv2d_f32, &args);
        self.report(2.0 * (oh * ow * n * kh * kw * c) as f64, 4.0 * (h * w * c) as f64, t);
    }

    fn depthwise(&mut self, h: usize, c: usize, k: usize, stride: usize, act: i64) {
        let name = format!("depthwise {h}x{h}x{c} {k}x{k}/{stride} act {act}");
        let out = h.div_ceil(stride);
        let pad = ((out - 1) * stride + k).saturating_sub(h) / 2;
        let (x, w, bias, mut y) = (Buffer::new(h * h * c), Buffer::new(k * k * c), Buffer::new(c), Buffer::new(out * out * c));
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: DepthwiseArgs = unsafe { core::mem::zeroed() };
        (args.x, args.w, args.y, args.bias) = (x.at(), w.at(), y.at_mut(), bias.at());
        (args.batch, args.in_h, args.in_w, args.in_c) = (1, h as i64, h as i64, c as i64);
        (args.out_h, args.out_w, args.k_h, args.k_w) = (out as i64, out as i64, k as i64, k as i64);
        (args.stride_h, args.stride_w, args.pad_top, args.pad_left) = (stride as i64, stride as i64, pad as i64, pad as i64);
        (args.act, args.act_hi) = (act, 6.0);
        let t = self.time(&name, gc_depthwise_f32, &args);
        self.report(2.0 * (out * out * k * k * c) as f64, 4.0 * (h * h * c + out * out * c) as f64, t);
    }

    fn attention(&mut self, heads: usize, rows: usize, t: usize, d: usize) {
        let name = format!("attention {heads}x{rows}x{t}x{d}");
        let (qkv, mask, mut out) = (Buffer::new(t * 3 * heads * d), vec![0f32; t], Buffer::new(t * heads * d));
        let (wide, d_) = ((3 * heads * d) as i64, d as i64);
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: AttentionArgs = unsafe { core::mem::zeroed() };
        (args.q, args.k, args.v) = (qkv.at(), qkv.at().wrapping_add(heads * d), qkv.at().wrapping_add(2 * heads * d));
        (args.mask, args.out, args.batch, args.heads) = (mask.as_ptr(), out.at_mut(), 1, heads as i64);
        (args.t_q, args.t_k, args.d, args.scale) = (rows as i64, t as i64, d_, 0.125);
        (args.q_head, args.q_time, args.k_head, args.k_time) = (d_, wide, d_, wide);
        (args.v_head, args.v_time, args.out_head, args.out_time) = (d_, wide, d_, heads as i64 * d_);
        let t_ = self.time(&name, gc_attention_f32, &args);
        self.report(4.0 * (heads * rows * t * d) as f64, 4.0 * (2 * t * heads * d) as f64, t_);
    }

    fn pack(&mut self, k: usize, n: usize, transposed: bool) {
        let name = format!("pack {k}x{n}{}", if transposed { "ᵀ" } else { "" });
        let src = vec![1f32; k * n];
        let mut dst = vec![0f32; packed_len(k, n, 32)];
        let (row, col) = if transposed { (1, k) } else { (n, 1) };
        let t = self.timer.shortest(&name, || pack_panels(&mut dst, float_bytes(&src), k, n, row, col, 32, 0..panels(n, 32)));
        self.report(0.0, 4.0 * (k * n) as f64, t);
    }
}

fn main() {
    let mut b = Bench {
        timer: Timer::new(),
        peak: graphc_kernels::peak::fma_flops(),
        scratch: Buffer::new(SCRATCH_BYTES / 4),
        error: ErrorRecord::default(),
    };
    println!("{:?}: peak {:.1} GFLOP/s on one thread", tier(), b.peak / 1e9);
    for (m, n, k) in
        [(512, 512, 512), (196, 256, 2304), (49, 2048, 512), (128, 768, 768), (128, 3072, 768), (128, 768, 3072), (32, 1000, 2048)]
    {
        b.gemm(m, n, k, act::NONE);
        b.gemm_small(m, n, k, act::NONE);
    }
    b.gemm(128, 3072, 768, act::GELU_ERF);
    b.gemm_small(128, 3072, 768, act::GELU_ERF);
    for (m, n, k) in
        [(12544, 16, 32), (12544, 96, 16), (3136, 24, 144), (784, 192, 32), (196, 96, 576), (49, 160, 960), (49, 1280, 320)]
    {
        b.gemm(m, n, k, act::CLAMP);
        b.gemm_small(m, n, k, act::CLAMP);
    }
    for (m, n, k) in [(12544, 96, 16), (3136, 144, 24), (784, 240, 40), (196, 480, 80), (49, 1152, 192)] {
        b.gemm(m, n, k, act::SILU);
    }
    for (m, n, k) in [(1, 1000, 2048), (1, 4096, 4096), (2, 1000, 2048), (1, 128, 256), (4, 1000, 2048)] {
        b.gemm(m, n, k, act::NONE);
    }
    for transposed in [false, true] {
        b.matmul(1, 512, 512, 512, transposed);
        b.matmul(12, 128, 128, 64, transposed);
        b.matmul(12, 1, 128, 64, transposed);
        b.pack(2304, 256, transposed);
        b.pack(768, 3072, transposed);
    }
    b.attention(12, 128, 128, 64);
    b.attention(12, 512, 512, 64);
    b.attention(12, 128, 128, 32);
    b.attention(12, 64, 64, 64);
    b.attention(12, 1, 512, 64);
    b.conv(224, 3, 64, 7, 2);
    for (h, c) in [(56, 64), (28, 128), (14, 256), (7, 512)] {
        b.conv(h, c, c, 3, 1);
        b.conv_small(h, c, c, 3, 1);
        b.conv(h, 4 * c, c, 1, 1);
        b.conv_small(h, 4 * c, c, 1, 1);
        b.conv(h, c, 4 * c, 1, 1);
        b.conv_small(h, c, 4 * c, 1, 1);
        if c > 64 {
            b.conv(2 * h, c, c, 3, 2);
            b.conv(2 * h, 2 * c, 4 * c, 1, 2);
        }
    }
    for (h, c, outputs) in [(56, 16, 4), (28, 32, 4), (56, 64, 4), (28, 128, 4), (14, 256, 4), (7, 512, 2)] {
        b.winograd(1, h, c, outputs);
    }
    b.winograd(8, 7, 512, 4);
    for (h, c, stride) in
        [(112, 32, 1), (112, 96, 2), (56, 144, 1), (56, 144, 2), (28, 192, 1), (28, 192, 2), (14, 576, 1), (7, 960, 1)]
    {
        b.depthwise(h, c, 3, stride, act::CLAMP);
    }
    b.depthwise(28, 240, 5, 1, act::HARD_SWISH);
    b.depthwise(28, 240, 5, 2, act::CLAMP);
    for (h, c, stride) in [(112, 96, 2), (56, 144, 1), (14, 480, 1)] {
        b.depthwise(h, c, 3, stride, act::SILU);
    }
    b.depthwise(28, 240, 7, 1, act::CLAMP);
    b.conv(224, 3, 32, 3, 2);
    b.wide_conv((172, 264, 8), 8, (3, 39), (1, 1));
    b.wide_conv((172, 264, 8), 1, (5, 5), (1, 1));
    b.wide_conv((172, 264, 1), 32, (7, 7), (1, 3));
    b.wide_conv((172, 264, 8), 32, (5, 5), (1, 3));
    b.wide_conv((172, 88, 32), 1, (7, 3), (1, 1));
    b.wide_conv((172, 88, 33), 1, (3, 3), (1, 1));
    b.wide_conv((1, 43844, 1), 1, (1, 256), (1, 2));
    b.conv(28, 1, 32, 5, 1);
}

//! `gc_depthwise_f32` and `gc_depthwise_bf16`: one filter a channel.
//!
//! Kernels of 3x3 and 5x5 with strides 1 and 2 compute blocks of two lines by four pixels, channels innermost, so that a loaded
//! vector of the image serves up to eight sums; lines outside the image are read from zeros, pixels outside are skipped. All other
//! shapes go pixel by pixel.
//!
//! Images of bf16 are widened as they are loaded; filters, sums and epilogue are f32 all the same.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use crate::epilogue::{Activation, Epilogue, Stored, finish, finish_rows, hard_swish};
use crate::matrix::gemm::{or, sizes};
use crate::matrix::product::row_tiles;
#[cfg(target_arch = "aarch64")]
use crate::matrix::simd::Neon;
#[cfg(target_arch = "x86_64")]
use crate::matrix::simd::{Avx2, Avx512, NativePairs};
use crate::matrix::simd::{Dot, Numbers, Pairs, Portable, Simd, Singles};
#[allow(unused_imports)] // Some architectures have one tier.
use crate::tier::{Tier, has_bf16_dots, tier};
use crate::{Symbol, symbol_list};
use core::ops::Range;
use graphc_abi::args::matrix::DepthwiseArgs;
use graphc_abi::{Ctx, Status};

pub(crate) const SYMBOLS: &[Symbol] = symbol_list![gc_depthwise_f32, gc_depthwise_bf16];

struct Depthwise {
    x: *const f32,
    w: *const f32,
    y: *mut f32,
    in_h: usize,
    in_w: usize,
    in_c: usize,
    out_h: usize,
    out_w: usize,
    multiplier: usize,
    k: [usize; 2],
    stride: [usize; 2],
    dil: [usize; 2],
    pad: [usize; 2],
    ldx: usize,
    ldc: usize,
    epilogue: Epilogue,
}

// SAFETY: its inputs are read only, and each thread computes other lines of `y`.
unsafe impl Sync for Depthwise {}

/// Computes output lines of the flattened `[batch, out_h]`. Safe where the tensors are valid as the arguments say and the processor has
/// the tier's instructions; so for what is inlined into it below.
type LinesFn = unsafe fn(&Depthwise, Range<usize>);

/// See [`DepthwiseArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_depthwise_f32(ctx: *const Ctx, args: *const DepthwiseArgs) -> i32 {
    // SAFETY: by the contract.
    match unsafe { run(&*ctx, &*args, Stored::F32, kernel) } {
        Some(()) => Status::Ok as i32,
        None => Status::InvalidShape as i32,
    }
}

/// As [`gc_depthwise_f32`], over images of bf16.
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_depthwise_bf16(ctx: *const Ctx, args: *const DepthwiseArgs) -> i32 {
    // SAFETY: by the contract.
    match unsafe { run(&*ctx, &*args, Stored::Bf16, kernel_bf16) } {
        Some(()) => Status::Ok as i32,
        None => Status::InvalidShape as i32,
    }
}

/// `images`: how image, residual and result lie in memory, f32 or bf16. `kernel` chooses what computes lines; what never has images of
/// bf16 does not refer to their kernels.
unsafe fn run(ctx: &Ctx, g: &DepthwiseArgs, images: Stored, kernel: fn(&Depthwise) -> LinesFn) -> Option<()> {
    let [batch, in_h, in_w, in_c, out_h, out_w, multiplier] =
        sizes([g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.multiplier])?;
    let [k_h, k_w, stride_h, stride_w, dil_h, dil_w] = sizes([g.k_h, g.k_w, g.stride_h, g.stride_w, g.dil_h, g.dil_w])?;
    let [pad_top, pad_left, ldx, ldc, ldr] = sizes([g.pad_top, g.pad_left, g.ldx, g.ldc, g.ldr])?;
    let multiplier = or(multiplier, 1);
    if images == Stored::Bf16 && multiplier != 1 {
        return None;
    }
    let out_c = in_c * multiplier;
    let epilogue = Epilogue::new(g.bias, g.residual, or(ldr, out_c), g.residual_after, g.act, g.act_lo, g.act_hi)?;
    let epilogue = epilogue.stored(images, images);
    let (stride, dil) = ([or(stride_h, 1), or(stride_w, 1)], [or(dil_h, 1), or(dil_w, 1)]);
    let d = Depthwise {
        x: g.x,
        w: g.w,
        y: g.y,
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        multiplier,
        k: [k_h, k_w],
        stride,
        dil,
        pad: [pad_top, pad_left],
        ldx: or(ldx, in_c),
        ldc: or(ldc, out_c),
        epilogue,
    };
    let lines = batch * out_h;
    if lines * out_w * out_c == 0 {
        return Some(());
    }
    let kernel = kernel(&d);
    let line_work = out_w * out_c * k_h * k_w;
    let wanted = if ctx.threads > 1 { (lines * line_work / 64_000).clamp(1, 4 * ctx.threads) } else { 1 };
    // Whole pairs of lines.
    let group = lines.div_ceil(wanted).next_multiple_of(2);
    // SAFETY: chunks compute other lines; the tensors are valid by the contract.
    unsafe {
        ctx.parallel(lines.div_ceil(group), &|chunk, _| kernel(&d, chunk * group..((chunk + 1) * group).min(lines)));
    }
    Some(())
}

impl Depthwise {
    /// The sums would overwrite a residual that is wanted after them.
    fn needs_residual_at_once(&self) -> bool {
        !self.epilogue.in_registers() && core::ptr::eq(self.epilogue.residual, self.y)
    }
}

/// The fast kernels of a tier by kernel extent and stride.
macro_rules! choose {
    ($f:ident::<$dot:ty>, $d:expr) => {
        match ($d.k, $d.stride) {
            _ if $d.multiplier != 1 || $d.dil != [1, 1] || $d.needs_residual_at_once() => $f::<$dot, 0, 0>,
            ([3, 3], [1, 1]) => $f::<$dot, 3, 1>,
            ([3, 3], [2, 2]) => $f::<$dot, 3, 2>,
            ([5, 5], [1, 1]) => $f::<$dot, 5, 1>,
            ([5, 5], [2, 2]) => $f::<$dot, 5, 2>,
            _ => $f::<$dot, 0, 0>,
        }
    };
}

fn kernel(d: &Depthwise) -> LinesFn {
    match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => choose!(avx512::<Singles>, d),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => choose!(avx2::<Singles>, d),
        #[cfg(target_arch = "aarch64")]
        Tier::Neon => choose!(neon::<Singles>, d),
        _ => choose!(portable::<Singles>, d),
    }
}

fn kernel_bf16(d: &Depthwise) -> LinesFn {
    match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 if has_bf16_dots() => choose!(avx512_bf16::<NativePairs>, d),
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 | Tier::Avx2 => choose!(avx2::<Pairs>, d),
        #[cfg(target_arch = "aarch64")]
        Tier::Neon => choose!(neon::<Pairs>, d),
        _ => choose!(portable::<Pairs>, d),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<D: Dot<Avx512>, const K: usize, const S: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe { lines_of::<Avx512, D, K, S, 4>(d, lines) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn avx512_bf16<D: Dot<Avx512>, const K: usize, const S: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe { lines_of::<Avx512, D, K, S, 4>(d, lines) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<D: Dot<Avx2>, const K: usize, const S: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe { lines_of::<Avx2, D, K, S, 2>(d, lines) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn neon<D: Dot<Neon>, const K: usize, const S: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe { lines_of::<Neon, D, K, S, 4>(d, lines) }
}

unsafe fn portable<D: Dot<Portable>, const K: usize, const S: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe { lines_of::<Portable, D, K, S, 2>(d, lines) }
}

/// How the images of a kernel lie in memory.
const fn stored<V: Simd, D: Dot<V>>() -> Stored {
    match D::NUMBERS {
        Numbers::Bf16 => Stored::Bf16,
        _ => Stored::F32,
    }
}

/// `n` values of an image; `FULL`: a vector of them.
#[inline(always)]
unsafe fn values<V: Simd, D: Dot<V>, const FULL: bool>(p: *const f32, n: usize) -> V::V {
    unsafe { if D::BF16 { V::load_bf16(p.cast(), n) } else { load::<V, FULL>(p, n) } }
}

/// `K` 0: any kernel. Otherwise the extent of a square kernel of stride `S`, in blocks of `P` pixels.
#[inline(always)]
unsafe fn lines_of<V: Simd, D: Dot<V>, const K: usize, const S: usize, const P: usize>(d: &Depthwise, lines: Range<usize>) {
    unsafe {
        let mut line = lines.start;
        while line < lines.end {
            let (image, oy) = (line / d.out_h, line % d.out_h);
            if K == 0 {
                any_line::<V, D>(d, image, oy);
                line += 1;
            } else if line + 1 < lines.end && oy + 1 < d.out_h {
                fast_lines::<V, D, K, S, P, 2>(d, image, oy);
                line += 2;
            } else {
                fast_lines::<V, D, K, S, P, 1>(d, image, oy);
                line += 1;
            }
        }
    }
}

/// The epilogue over `count` pixels of an output line that hold sums, where it does not run in registers.
unsafe fn finish_pixels(d: &Depthwise, pixel: usize, count: usize) {
    let y = d.y.wrapping_add(pixel * d.ldc);
    // SAFETY: pixels of the output; `choose` made sure that the residual lies elsewhere.
    unsafe { finish_rows(&d.epilogue.at(pixel, 0), y, d.ldc, count, d.in_c, y, d.ldc) };
}

/// Most input lines of a block: two output lines of a 5x5 kernel with stride 2.
const MAX_LINES: usize = 7;

/// `R` output lines from `oy` on.
#[inline(always)]
unsafe fn fast_lines<V: Simd, D: Dot<V>, const K: usize, const S: usize, const P: usize, const R: usize>(
    d: &Depthwise,
    image: usize,
    oy: usize,
) {
    unsafe {
        // A line outside the image has no pixels.
        let mut lines = [core::ptr::null::<f32>(); MAX_LINES];
        for (i, line) in lines.iter_mut().enumerate().take(S * (R - 1) + K) {
            let y = (oy * S + i).wrapping_sub(d.pad[0]);
            if y < d.in_h {
                *line = stored::<V, D>().at(d.x, (image * d.in_h + y) * d.in_w * d.ldx);
            }
        }
        let row = (image * d.out_h + oy) * d.out_w;
        let whole_lines = lines[..S * (R - 1) + K].iter().all(|l| !l.is_null());
        for (ox, pixels) in row_tiles(d.out_w, P) {
            let x0 = (ox * S) as isize - d.pad[1] as isize;
            let inside = whole_lines && x0 >= 0 && x0 as usize + S * (pixels - 1) + K <= d.in_w;
            match pixels {
                _ if pixels == P && inside => block::<V, D, K, S, P, R, true>(d, &lines, x0, row + ox),
                _ if pixels == P => block::<V, D, K, S, P, R, false>(d, &lines, x0, row + ox),
                3 if inside => block::<V, D, K, S, 3, R, true>(d, &lines, x0, row + ox),
                3 => block::<V, D, K, S, 3, R, false>(d, &lines, x0, row + ox),
                2 => block::<V, D, K, S, 2, R, false>(d, &lines, x0, row + ox),
                _ => block::<V, D, K, S, 1, R, false>(d, &lines, x0, row + ox),
            }
        }
    }
}

/// `R` lines by `P` pixels of all channels. `INSIDE`: every pixel read is in the image.
#[inline(always)]
unsafe fn block<V: Simd, D: Dot<V>, const K: usize, const S: usize, const P: usize, const R: usize, const INSIDE: bool>(
    d: &Depthwise,
    lines: &[*const f32; MAX_LINES],
    x0: isize,
    row: usize,
) {
    unsafe {
        let mut c = 0;
        while c + V::LANES <= d.in_c {
            channels::<V, D, K, S, P, R, INSIDE, true>(d, lines, x0, row, c, V::LANES);
            c += V::LANES;
        }
        if c < d.in_c {
            channels::<V, D, K, S, P, R, INSIDE, false>(d, lines, x0, row, c, d.in_c - c);
        }
        if D::F32 && !d.epilogue.in_registers() {
            // While the block is in the first-level cache.
            for r in 0..R {
                finish_pixels(d, row + r * d.out_w, P);
            }
        }
    }
}

#[inline(always)]
unsafe fn load<V: Simd, const FULL: bool>(p: *const f32, n: usize) -> V::V {
    unsafe { if FULL { V::load(p) } else { V::load_n(p, n) } }
}

#[inline(always)]
unsafe fn channels<
    V: Simd,
    D: Dot<V>,
    const K: usize,
    const S: usize,
    const P: usize,
    const R: usize,
    const INSIDE: bool,
    const FULL: bool,
>(
    d: &Depthwise,
    lines: &[*const f32; MAX_LINES],
    x0: isize,
    row: usize,
    c: usize,
    n: usize,
) {
    /// Pixels of a line that four outputs of a 5x5 kernel with stride 2 read.
    const MAX_PIXELS: usize = 11;
    unsafe {
        let stored = stored::<V, D>();
        let mut acc = [[V::zero(); P]; R];
        let pixels = S * (P - 1) + K;
        for i in 0..S * (R - 1) + K {
            let mut v = [V::zero(); MAX_PIXELS];
            if INSIDE {
                let line = stored.at(lines[i], x0 as usize * d.ldx + c);
                for (q, v) in v.iter_mut().enumerate().take(pixels) {
                    *v = values::<V, D, FULL>(stored.at(line, q * d.ldx), n);
                }
            } else {
                if lines[i].is_null() {
                    continue;
                }
                let line = stored.at(stored.at(lines[i], (x0 * d.ldx as isize) as usize), c);
                for (q, v) in v.iter_mut().enumerate().take(pixels) {
                    if ((x0 + q as isize) as usize) < d.in_w {
                        *v = values::<V, D, FULL>(stored.at(line, q * d.ldx), n);
                    }
                }
            }
            for r in 0..R {
                if i >= S * r && i < S * r + K {
                    let w = d.w.add((i - S * r) * K * d.in_c + c);
                    for kx in 0..K {
                        let wv = load::<V, FULL>(w.add(kx * d.in_c), n);
                        for p in 0..P {
                            acc[r][p] = V::fma(v[S * p + kx], wv, acc[r][p]);
                        }
                    }
                }
            }
        }
        let e = &d.epilogue;
        let here = e.in_registers();
        if D::BF16 && !here {
            // The image has no room for sums.
            let mut sums = [0f32; 8 * 16];
            for r in 0..R {
                for p in 0..P {
                    V::store(sums.as_mut_ptr().add((r * P + p) * V::LANES), acc[r][p]);
                }
                let pixel = row + r * d.out_w;
                let (from, to) = (sums.as_ptr().add(r * P * V::LANES), stored.at_mut(d.y, pixel * d.ldc + c));
                finish_rows(&e.at(pixel, c), from, V::LANES, P, n, to, d.ldc);
            }
            return;
        }
        if here {
            let bias = if e.bias.is_null() { V::zero() } else { load::<V, FULL>(e.bias.add(c), n) };
            for r in 0..R {
                for p in 0..P {
                    acc[r][p] = V::add(acc[r][p], bias);
                    if !e.residual.is_null() {
                        let at = stored.at(e.residual, (row + r * d.out_w + p) * e.ldr + c);
                        acc[r][p] = V::add(acc[r][p], values::<V, D, FULL>(at, n));
                    }
                }
            }
            match e.activation {
                Activation::Clamp => {
                    let (lo, hi) = (V::splat(e.lo), V::splat(e.hi));
                    acc.iter_mut().flatten().for_each(|t| *t = V::min(hi, V::max(lo, *t)));
                }
                Activation::HardSwish => acc.iter_mut().flatten().for_each(|t| *t = hard_swish::<V>(*t)),
                _ => {}
            }
        }
        for r in 0..R {
            for p in 0..P {
                let y = stored.at_mut(d.y, (row + r * d.out_w + p) * d.ldc + c);
                if D::BF16 {
                    D::store_bf16(y.cast(), acc[r][p], n);
                } else if FULL {
                    V::store(y, acc[r][p])
                } else {
                    V::store_n(y, acc[r][p], n)
                }
            }
        }
    }
}

/// One output line of any kernel, with the whole epilogue.
#[inline(always)]
unsafe fn any_line<V: Simd, D: Dot<V>>(d: &Depthwise, image: usize, oy: usize) {
    /// Pixels whose sums are kept at once where all their taps are in the image.
    const P: usize = 8;
    unsafe {
        let mut ox = 0;
        while ox < d.out_w {
            let x0 = (ox * d.stride[1]).wrapping_sub(d.pad[1]);
            let reach = (P - 1) * d.stride[1] + (d.k[1] - 1) * d.dil[1];
            if d.multiplier == 1 && x0 < d.in_w && x0 + reach < d.in_w && ox + P <= d.out_w {
                pixels::<V, D, P, true>(d, image, oy, ox);
                ox += P;
            } else if ox + 4 <= d.out_w {
                pixels::<V, D, 4, false>(d, image, oy, ox);
                ox += 4;
            } else {
                pixels::<V, D, 1, false>(d, image, oy, ox);
                ox += 1;
            }
        }
    }
}

/// `P` pixels of an output line. `INSIDE`: no tap is left or right of the image, and a channel has one filter.
#[inline(always)]
unsafe fn pixels<V: Simd, D: Dot<V>, const P: usize, const INSIDE: bool>(d: &Depthwise, image: usize, oy: usize, ox: usize) {
    unsafe {
        let stored = stored::<V, D>();
        let out_c = d.in_c * d.multiplier;
        let e = &d.epilogue;
        let row = (image * d.out_h + oy) * d.out_w + ox;
        let mut o = 0;
        while o < out_c {
            let n = V::LANES.min(out_c - o);
            let mut sums = [V::zero(); P];
            for ky in 0..d.k[0] {
                let y = (oy * d.stride[0] + ky * d.dil[0]).wrapping_sub(d.pad[0]);
                if y >= d.in_h {
                    continue;
                }
                let line = stored.at(d.x, (image * d.in_h + y) * d.in_w * d.ldx);
                for kx in 0..d.k[1] {
                    let x = (ox * d.stride[1] + kx * d.dil[1]).wrapping_sub(d.pad[1]);
                    let w = d.w.add((ky * d.k[1] + kx) * out_c + o);
                    if INSIDE {
                        let (first, step) = (stored.at(line, x * d.ldx + o), d.stride[1] * d.ldx);
                        if n == V::LANES {
                            let w = V::load(w);
                            for p in 0..P {
                                sums[p] = V::fma(values::<V, D, true>(stored.at(first, p * step), n), w, sums[p]);
                            }
                        } else {
                            let w = V::load_n(w, n);
                            for p in 0..P {
                                sums[p] = V::fma(values::<V, D, false>(stored.at(first, p * step), n), w, sums[p]);
                            }
                        }
                    } else {
                        let w = V::load_n(w, n);
                        for p in 0..P {
                            let x = x.wrapping_add(p * d.stride[1]);
                            if x < d.in_w {
                                sums[p] = V::fma(any_channels::<V, D>(d, stored.at(line, x * d.ldx), o, n), w, sums[p]);
                            }
                        }
                    }
                }
            }
            let bias = if e.bias.is_null() { V::zero() } else { V::load_n(e.bias.add(o), n) };
            for p in 0..P {
                let pixel = row + p;
                let residual = stored.at(e.residual, pixel * e.ldr + o);
                let residual = if e.residual.is_null() { V::zero() } else { values::<V, D, false>(residual, n) };
                let (y, t) = (stored.at_mut(d.y, pixel * d.ldc + o), finish::<V>(e, sums[p], bias, residual));
                if D::BF16 { D::store_bf16(y.cast(), t, n) } else { V::store_n(y, t, n) }
            }
            o += n;
        }
    }
}

/// The image's values for output channels `o..o + n` of a pixel.
#[inline(always)]
unsafe fn any_channels<V: Simd, D: Dot<V>>(d: &Depthwise, pixel: *const f32, o: usize, n: usize) -> V::V {
    unsafe {
        if d.multiplier == 1 {
            values::<V, D, false>(stored::<V, D>().at(pixel, o), n)
        } else if d.in_c == 1 {
            V::splat(*pixel)
        } else {
            let mut lanes = [0f32; 16];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *pixel.add((o + i) / d.multiplier);
            }
            V::load(lanes.as_ptr())
        }
    }
}

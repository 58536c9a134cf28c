//! Convolutions with few output channels: vectors run along the lines of the image.
//!
//! A panel's columns would leave most lanes idle. Instead each input line is laid out once, plane by plane: a plane holds every
//! `stride`-th number of one channel, with the padding. A tap is then one vector of neighbouring pixels, which is multiplied with the
//! weights of all output lines and channels that it reaches. Sums of output lines wait in a ring until their last input line has come.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::forward::{Conv, folded_pixels};
use super::{Scratch, bytes_of};
use crate::data::transpose::tile;
use crate::epilogue::{Epilogue, finish_rows};
use crate::matrix::product::row_tiles;
use crate::matrix::simd::{Numbers, Portable, Simd};
#[allow(unused_imports)] // Some architectures have one tier.
use crate::tier::{Tier, tier};
use core::ops::Range;
use core::ptr::{null, null_mut};
use graphc_abi::SCRATCH_BYTES;

/// Most output channels.
const MAX_CHANNELS: usize = 4;
/// Fewest pixels of an output line, and fewest products a number of the input.
const MIN_LINE: usize = 24;
const MIN_REUSE: usize = 4;
/// Most output lines and channels that an input line reaches.
const MAX_REACHED: usize = 64;
/// Output lines and channels that a kernel serves at once.
const MAX_ROWS: usize = 4;

/// How a convolution's lines lie in scratch.
pub struct Planar {
    /// Floats of an output line of one channel, rounded up to whole vectors.
    sums: usize,
    /// Floats of a plane.
    plane: usize,
    /// Planes of a line, `stride` for each channel.
    planes: usize,
    /// Output lines whose sums are under way at once.
    ring: usize,
}

impl Planar {
    /// `None` where the convolution does not qualify.
    pub fn new(conv: &Conv, groups: usize) -> Option<Planar> {
        let ([k_h, k_w], n) = (conv.k, conv.product.n);
        let reached = k_h.checked_mul(n)?;
        if groups != 1
            || conv.product.factors.numbers != Numbers::F32
            || n > MAX_CHANNELS
            || reached > MAX_REACHED
            || conv.out_w < MIN_LINE
        {
            return None;
        }
        if folded_pixels(conv) > 0 {
            return None;
        }
        // Two output lines at least share a vector of the input, and pay for its place.
        if reached < 2 || reached * k_w < MIN_REUSE * conv.stride[0] * conv.stride[1] {
            return None;
        }
        let sums = conv.out_w.next_multiple_of(16);
        let plane = sums.checked_add((k_w - 1).checked_mul(conv.dil[1])? / conv.stride[1])?.next_multiple_of(16);
        let planes = conv.stride[1].checked_mul(conv.c)?;
        let ring = (k_h - 1).checked_mul(conv.dil[0])? / conv.stride[0] + 1;
        let planar = Planar { sums, plane, planes, ring };
        let floats = planes.checked_mul(plane)?.checked_add(ring.checked_mul(n)?.checked_mul(sums)?)?;
        let weights = reached.checked_mul(k_w)?.checked_mul(conv.c)?;
        let bytes = bytes_of::<f32>(floats).saturating_add(bytes_of::<f32>(weights)).saturating_add(bytes_of::<usize>(k_w));
        (bytes.saturating_add(bytes_of::<f32>(sums.checked_mul(n)?)) <= SCRATCH_BYTES).then_some(planar)
    }

    /// Computes the output lines `lines`, counted over all images.
    ///
    /// # Safety
    /// The operands are valid, and the scratch is this worker's alone.
    pub unsafe fn part(&self, conv: &Conv, lines: Range<usize>, mut scratch: Scratch) {
        let run = conv.k[1] * conv.c;
        let planes = scratch.take::<f32>(self.planes * self.plane);
        let sums = scratch.take::<f32>(self.ring * conv.product.n * self.sums);
        let weights = scratch.take::<f32>(conv.k[0] * conv.product.n * run);
        let shifts = scratch.take::<usize>(conv.k[1]);
        let mixed = scratch.take::<f32>(conv.product.n * self.sums);
        // SAFETY: `new` made sure that all of these fit; the weights are those of the only panel.
        unsafe {
            planes.write_bytes(0, self.planes * self.plane);
            let (b, ldb) = (conv.product.b, conv.product.ldb);
            for ky in 0..conv.k[0] {
                for (j, i) in (0..conv.product.n).flat_map(|j| (0..run).map(move |i| (j, i))) {
                    *weights.add((ky * conv.product.n + j) * run + i) = *b.add((ky * run + i) * ldb + j);
                }
            }
            for kx in 0..conv.k[1] {
                let x = kx * conv.dil[1];
                *shifts.add(kx) = x % conv.stride[1] * conv.c * self.plane + x / conv.stride[1];
            }
            let mut first = lines.start;
            while first < lines.end {
                let image = first / conv.out_h;
                let end = lines.end.min((image + 1) * conv.out_h);
                let at = Work { planes, sums, weights, shifts, mixed };
                self.lines_of_image(conv, image, first - image * conv.out_h..end - image * conv.out_h, &at);
                first = end;
            }
        }
    }

    /// Output lines of one image: each input line is laid out once and added to all output lines that it reaches.
    unsafe fn lines_of_image(&self, conv: &Conv, image: usize, lines: Range<usize>, at: &Work) {
        let ([k_h, k_w], n, run) = (conv.k, conv.product.n, conv.k[1] * conv.c);
        let (stride, reach) = (conv.stride[0], (k_h - 1) * conv.dil[0]);
        let sums_of = |oy: usize, j: usize| at.sums.wrapping_add((oy % self.ring * n + j) * self.sums);
        let kernels = kernels();
        // Input lines are counted from the top of the padding.
        for v in lines.start * stride..(lines.end - 1) * stride + reach + 1 {
            // SAFETY: places in scratch, lines of the image and rows of the output.
            unsafe {
                if v.is_multiple_of(stride) && v / stride < lines.end {
                    for j in 0..n {
                        let bias = if conv.product.epilogue.bias.is_null() { 0.0 } else { *conv.product.epilogue.bias.add(j) };
                        core::slice::from_raw_parts_mut(sums_of(v / stride, j), self.sums).fill(bias);
                    }
                }
                let y = v.wrapping_sub(conv.pad[0]);
                if y < conv.in_h {
                    let mut reached = [(null_mut(), null()); MAX_REACHED];
                    let mut count = 0;
                    for ky in 0..k_h {
                        let top = v.wrapping_sub(ky * conv.dil[0]);
                        if top <= v && top.is_multiple_of(stride) && lines.contains(&(top / stride)) {
                            for j in 0..n {
                                reached[count] =
                                    (sums_of(top / stride, j), at.weights.wrapping_add((ky * n + j) * run).cast_const());
                                count += 1;
                            }
                        }
                    }
                    if count > 0 {
                        self.lay_out(conv, image, y, at.planes);
                    }
                    for (from, rows) in row_tiles(count, MAX_ROWS) {
                        for (vector, vectors) in row_tiles(self.sums / kernels.lanes, kernels.vectors) {
                            let column = vector * kernels.lanes;
                            let line = Line {
                                x: at.planes.add(column),
                                shifts: at.shifts,
                                taps: k_w,
                                c: conv.c,
                                plane: self.plane,
                                column,
                                reached: &reached[from..from + rows],
                            };
                            (kernels.of)(rows, vectors)(&line);
                        }
                    }
                }
                if let Some(top) = v.checked_sub(reach)
                    && top.is_multiple_of(stride)
                    && lines.contains(&(top / stride))
                {
                    self.finish(conv, (image * conv.out_h + top / stride) * conv.out_w, sums_of(top / stride, 0), at.mixed);
                }
            }
        }
    }

    /// Lays line `y` of an image out in planes.
    unsafe fn lay_out(&self, conv: &Conv, image: usize, y: usize, planes: *mut f32) {
        let (stride, pad, c) = (conv.stride[1], conv.pad[1], conv.c);
        let line = conv.product.a.wrapping_add((image * conv.in_h + y) * conv.in_w * conv.ldx);
        for phase in 0..stride {
            // Pixel `x` goes to `(x + pad) / stride` of the planes of phase `(x + pad) % stride`.
            let first = (phase + stride - pad % stride) % stride;
            let to = (first + pad) / stride;
            let count = conv.in_w.saturating_sub(first).div_ceil(stride).min(self.plane.saturating_sub(to));
            let from = line.wrapping_add(first * conv.ldx);
            let planes = planes.wrapping_add(phase * c * self.plane + to);
            // SAFETY: pixels of the line and places of the planes.
            unsafe {
                if c == 1 && stride * conv.ldx == 1 {
                    core::ptr::copy_nonoverlapping(from, planes, count);
                } else {
                    tile(from, (stride * conv.ldx) as isize, planes, self.plane as isize, count, c);
                }
            }
        }
    }

    /// Stores an output line from pixel `pixel` on, whose sums have their bias.
    unsafe fn finish(&self, conv: &Conv, pixel: usize, sums: *const f32, mixed: *mut f32) {
        let (p, n) = (&conv.product, conv.product.n);
        let epilogue = Epilogue { bias: null(), ..p.epilogue.at(pixel, 0) };
        let dense = p.ldc == n && (p.epilogue.residual.is_null() || p.epilogue.ldr == n);
        let (rows, columns) = if dense { (1, conv.out_w * n) } else { (conv.out_w, n) };
        // SAFETY: the sums of a line, and its place in the output.
        unsafe {
            let from = if n == 1 {
                sums
            } else {
                for (x, j) in (0..conv.out_w).flat_map(|x| (0..n).map(move |j| (x, j))) {
                    *mixed.add(x * n + j) = *sums.add(j * self.sums + x);
                }
                mixed.cast_const()
            };
            finish_rows(&epilogue, from, n, rows, columns, p.c_at(pixel, 0), p.ldc);
        }
    }
}

/// Places in scratch.
struct Work {
    planes: *mut f32,
    sums: *mut f32,
    /// `[k_h][n][k_w][c]`.
    weights: *mut f32,
    /// Where the planes of a tap begin, a kernel column.
    shifts: *mut usize,
    /// A line of results, channels innermost.
    mixed: *mut f32,
}

/// What a kernel adds to sums: some vectors of an input line, from `column` on.
struct Line<'a> {
    x: *const f32,
    shifts: *const usize,
    taps: usize,
    c: usize,
    plane: usize,
    column: usize,
    /// Sums of an output line, and its weights `[taps][c]`.
    reached: &'a [(*mut f32, *const f32)],
}

/// Safe where the line's pointers are valid for its extents and the processor has the tier's instructions; so for `add_line`, which
/// is inlined.
type LineFn = unsafe fn(&Line);

#[inline(always)]
unsafe fn add_line<S: Simd, const R: usize, const T: usize>(g: &Line) {
    unsafe {
        let mut sums = [null_mut::<f32>(); R];
        let mut weights = [null::<f32>(); R];
        let mut acc = [[S::zero(); T]; R];
        for r in 0..R {
            let (s, w) = *g.reached.get_unchecked(r);
            (sums[r], weights[r]) = (s.add(g.column), w);
            for t in 0..T {
                acc[r][t] = S::load(sums[r].add(t * S::LANES));
            }
        }
        let mut q = 0;
        for tap in 0..g.taps {
            let mut x = g.x.add(*g.shifts.add(tap));
            for _ in 0..g.c {
                let mut v = [S::zero(); T];
                for t in 0..T {
                    v[t] = S::load(x.add(t * S::LANES));
                }
                for r in 0..R {
                    let w = S::splat(*weights[r].add(q));
                    for t in 0..T {
                        acc[r][t] = S::fma(v[t], w, acc[r][t]);
                    }
                }
                q += 1;
                x = x.add(g.plane);
            }
        }
        for r in 0..R {
            for t in 0..T {
                S::store(sums[r].add(t * S::LANES), acc[r][t]);
            }
        }
    }
}

/// The kernels of a tier.
struct Kernels {
    lanes: usize,
    /// Most vectors.
    vectors: usize,
    /// The one for so many rows and vectors, each at least 1.
    of: fn(usize, usize) -> LineFn,
}

macro_rules! kernels {
    ($name:ident, $simd:ty, [$($t:literal)*] $(, #[$feature:meta])?) => {
        fn $name(rows: usize, vectors: usize) -> LineFn {
            $(#[$feature])?
            unsafe fn line<const R: usize, const T: usize>(g: &Line) {
                unsafe { add_line::<$simd, R, T>(g) }
            }
            const ALL: [&[LineFn]; MAX_ROWS] =
                [&[$(line::<1, $t>),*], &[$(line::<2, $t>),*], &[$(line::<3, $t>),*], &[$(line::<4, $t>),*]];
            ALL[rows - 1][vectors - 1]
        }
    };
}

kernels!(portable, Portable, [1 2]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, crate::matrix::simd::Avx2, [1 2 3], #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernels!(avx512, crate::matrix::simd::Avx512, [1 2 3 4 5 6], #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]);
#[cfg(target_arch = "aarch64")]
kernels!(neon, crate::matrix::simd::Neon, [1 2 3 4 5 6]);

fn kernels() -> Kernels {
    match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => Kernels { lanes: 16, vectors: 6, of: avx512 },
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => Kernels { lanes: 8, vectors: 3, of: avx2 },
        #[cfg(target_arch = "aarch64")]
        Tier::Neon => Kernels { lanes: 4, vectors: 6, of: neon },
        _ => Kernels { lanes: 4, vectors: 2, of: portable },
    }
}

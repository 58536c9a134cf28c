//! `gc_conv_transpose_f32`: each phase of the output is a convolution with the taps that reach it.
//!
//! Pixel `oy` of the output meets input `iy` through tap `ky` where `oy + pad == iy * stride + ky * dil`. So the pixels with equal
//! `(oy + pad) % stride` share their taps, which the packed filter keeps together, and nothing is added to memory twice.

use super::{Scratch, bytes_of};
use crate::epilogue::{Epilogue, finish_rows};
use crate::matrix::gemm::{or, sizes};
use crate::matrix::product::{Product, Split, row_tiles};
use crate::matrix::tile::{Factors, micro};
use crate::pack::{PANEL_WIDTHS, pack_conv_transpose_raw, transposed_taps};
use core::ops::Range;
use graphc_abi::args::matrix::{ConvTransposeArgs, PackTransposeArgs};
use graphc_abi::{Ctx, SCRATCH_BYTES, Status};

/// Bytes of a block's pointers and of its sums.
const TABLE_BYTES: usize = 192 << 10;
const SUMS_BYTES: usize = 256 << 10;
/// Columns up to which pixels are brought together for the epilogue.
const DENSE_COLS: usize = 8;

struct Transposed {
    x: *const f32,
    input: [usize; 2],
    in_c: usize,
    output: [usize; 2],
    k: [usize; 2],
    stride: [usize; 2],
    dil: [usize; 2],
    pad: [usize; 2],
    w: *const f32,
    nr: usize,
    y: *mut f32,
    out_c: usize,
    epilogue: Epilogue,
}

// SAFETY: as `Product`.
unsafe impl Sync for Transposed {}

/// The output pixels that share their taps.
struct Phase {
    /// First pixel of each axis, and their numbers.
    first: [usize; 2],
    count: [usize; 2],
    /// Number of the phase along each axis: `(o + pad) % stride`.
    residue: [usize; 2],
    /// Taps before this phase's in the packed filter, and its own.
    tap: usize,
    taps: usize,
}

/// See [`ConvTransposeArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_conv_transpose_f32(ctx: *const Ctx, args: *const ConvTransposeArgs) -> i32 {
    // SAFETY: by the contract.
    match unsafe { run(&*ctx, &*args) } {
        Some(()) => Status::Ok as i32,
        None => Status::InvalidShape as i32,
    }
}

unsafe fn run(ctx: &Ctx, g: &ConvTransposeArgs) -> Option<()> {
    let [batch, in_h, in_w, in_c, out_h, out_w, out_c] = sizes([g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c])?;
    let [k_h, k_w, stride_h, stride_w, dil_h, dil_w] = sizes([g.k_h, g.k_w, g.stride_h, g.stride_w, g.dil_h, g.dil_w])?;
    let [pad_top, pad_left, nr] = sizes([g.pad_top, g.pad_left, g.nr])?;
    let epilogue = Epilogue::new(g.bias, g.residual, out_c, g.residual_after, g.act, g.act_lo, g.act_hi)?;
    let taps = k_h.saturating_mul(k_w);
    if !PANEL_WIDTHS.contains(&nr) || 2 * bytes_of::<*const f32>(taps) + bytes_of::<f32>(in_c) + SUMS_BYTES > SCRATCH_BYTES {
        return None;
    }
    if batch * out_h * out_w * out_c == 0 {
        return Some(());
    }
    let t = Transposed {
        x: g.x,
        input: [in_h, in_w],
        in_c,
        output: [out_h, out_w],
        k: [k_h, k_w],
        stride: [or(stride_h, 1), or(stride_w, 1)],
        dil: [or(dil_h, 1), or(dil_w, 1)],
        pad: [pad_top, pad_left],
        w: g.w,
        nr,
        y: g.y,
        out_c,
        epilogue,
    };
    let mut tap = 0;
    for py in 0..t.stride[0] {
        for px in 0..t.stride[1] {
            let phase = t.phase([py, px], tap);
            tap += phase.taps;
            let rows = batch * phase.count[0] * phase.count[1];
            let split = Split::new(ctx.threads, [rows, out_c, phase.taps * in_c], nr, 1);
            // SAFETY: chunks compute disjoint parts; each worker has its own scratch.
            unsafe {
                ctx.parallel(split.parts(), &|chunk, worker| {
                    let (rows, panels) = split.part(chunk);
                    t.part(&phase, rows, panels, Scratch::new(ctx.scratch_of(worker)));
                })
            }
        }
    }
    Some(())
}

impl Transposed {
    fn phase(&self, residue: [usize; 2], tap: usize) -> Phase {
        let axis = |i: usize| {
            let s = self.stride[i];
            let first = (residue[i] + s - self.pad[i] % s) % s;
            let count = self.output[i].saturating_sub(first).div_ceil(s);
            (first, count, (0..self.k[i]).filter(|k| k * self.dil[i] % s == residue[i]).count())
        };
        let ((y, rows, ky), (x, cols, kx)) = (axis(0), axis(1));
        Phase { first: [y, x], count: [rows, cols], residue, tap, taps: ky * kx }
    }

    unsafe fn part(&self, phase: &Phase, rows: Range<usize>, panels: Range<usize>, mut scratch: Scratch) {
        let max_rows = micro(self.nr).max_rows();
        let k = self.k[0] * self.k[1] * self.in_c;
        // SAFETY: the scratch is this worker's.
        let zeros = unsafe { scratch.zeros(self.in_c) };
        // Sums of a block of rows and panels lie in scratch until the epilogue takes them to their pixels.
        let wide = panels.len().min((SUMS_BYTES / (4 * self.nr * max_rows)).max(1));
        let by_sums = SUMS_BYTES / (4 * self.nr * wide);
        let by_table =
            (TABLE_BYTES / (8 * phase.taps).max(1)).max(max_rows).min((scratch.left - SUMS_BYTES) / (8 * phase.taps).max(1));
        let block = by_sums.min(by_table).min(rows.len()).max(1);
        let table = scratch.take::<*const f32>(block * phase.taps);
        let ldc = wide * self.nr;
        let sums = scratch.take::<f32>(block * ldc);
        for (first, count) in row_tiles(rows.len(), block) {
            let first = rows.start + first;
            // SAFETY: table and sums have room for a block; `fill` and `place` stay within the tensors.
            unsafe {
                self.fill(phase, table, first, count, max_rows, zeros);
                let mut p = panels.start;
                while p < panels.end {
                    let group = wide.min(panels.end - p);
                    let product = Product {
                        a: core::ptr::null(),
                        lda: 0,
                        table,
                        even_rows: false,
                        runs: phase.taps,
                        steps: self.in_c,
                        b: self.w.wrapping_add((p * k + phase.tap * self.in_c) * self.nr),
                        nr: self.nr,
                        ldb: self.nr,
                        panel_stride: k * self.nr,
                        c: sums,
                        ldc,
                        n: (group * self.nr).min(self.out_c - p * self.nr),
                        accumulate: false,
                        last: false,
                        factors: Factors::F32,
                        epilogue: Epilogue::NONE,
                    };
                    product.multiply(count, 0..group);
                    self.place(phase, first, count, p * self.nr, product.n, sums, ldc);
                    p += group;
                }
            }
        }
    }

    /// Image, line and pixel (of the phase) of a row.
    fn position(&self, phase: &Phase, row: usize) -> (usize, usize, usize) {
        let line = row / phase.count[1];
        (line / phase.count[0], line % phase.count[0], row % phase.count[1])
    }

    unsafe fn fill(
        &self,
        phase: &Phase,
        mut table: *mut *const f32,
        first: usize,
        count: usize,
        max_rows: usize,
        zeros: *const f32,
    ) {
        let line = self.input[1] * self.in_c;
        let mut row = first;
        for (_, rows) in row_tiles(count, max_rows) {
            // Walks the tile's pixels along each line that it touches, where a tap's pixels of the input are neighbours.
            let mut i = 0;
            while i < rows {
                let (image, oy, ox) = self.position(phase, row + i);
                let run = (phase.count[1] - ox).min(rows - i);
                let base = self.x.wrapping_add(image * self.input[0] * line);
                let oy = (phase.first[0] + oy * self.stride[0] + self.pad[0]) as isize;
                let ox = (phase.first[1] + ox * self.stride[1] + self.pad[1]) as isize;
                let mut tap = 0;
                for ky in (0..self.k[0]).filter(|ky| ky * self.dil[0] % self.stride[0] == phase.residue[0]) {
                    // Multiples of the stride: pixel and tap are of one residue.
                    let y = ((oy - (ky * self.dil[0]) as isize) / self.stride[0] as isize) as usize;
                    for kx in (0..self.k[1]).filter(|kx| kx * self.dil[1] % self.stride[1] == phase.residue[1]) {
                        let x0 = (ox - (kx * self.dil[1]) as isize) / self.stride[1] as isize;
                        for j in 0..run {
                            let x = (x0 + j as isize) as usize;
                            let inside = y < self.input[0] && x < self.input[1];
                            let pixel = if inside { base.wrapping_add(y * line + x * self.in_c) } else { zeros };
                            // SAFETY: one of `rows * taps` pointers of the tile.
                            unsafe { *table.add(tap * rows + i + j) = pixel };
                        }
                        tap += 1;
                    }
                }
                i += run;
            }
            row += rows;
            table = table.wrapping_add(rows * phase.taps);
        }
    }

    /// Takes the sums of rows `first..first + count` and `cols` columns from `col` on through the epilogue to their pixels.
    #[allow(clippy::too_many_arguments)]
    unsafe fn place(&self, phase: &Phase, first: usize, count: usize, col: usize, cols: usize, sums: *const f32, lds: usize) {
        let mut done = 0;
        while done < count {
            let (image, oy, ox) = self.position(phase, first + done);
            let run = (phase.count[1] - ox).min(count - done);
            let oy = phase.first[0] + oy * self.stride[0];
            let ox = phase.first[1] + ox * self.stride[1];
            let pixel = (image * self.output[0] + oy) * self.output[1] + ox;
            let epilogue = Epilogue { ldr: self.out_c * self.stride[1], ..self.epilogue.at(pixel, col) };
            let dst = self.y.wrapping_add(pixel * self.out_c + col);
            let ldd = self.out_c * self.stride[1];
            // SAFETY: pixels of one output line, `stride` apart.
            unsafe {
                let sums = sums.add(done * lds);
                if cols <= DENSE_COLS && epilogue.residual.is_null() {
                    place_dense(&epilogue, sums, lds, run, cols, dst, ldd);
                } else {
                    finish_rows(&epilogue, sums, lds, run, cols, dst, ldd);
                }
            }
            done += run;
        }
    }
}

/// As [`finish_rows`] without a residual and with few columns: several rows share a vector on their way through the epilogue.
unsafe fn place_dense(e: &Epilogue, sums: *const f32, lds: usize, rows: usize, cols: usize, dst: *mut f32, ldd: usize) {
    const ROWS: usize = 32;
    let mut dense = [0f32; ROWS * DENSE_COLS];
    let after_bias = Epilogue { bias: core::ptr::null(), ..*e };
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let dense = &mut dense[..count * cols];
        // SAFETY: rows of the caller's block, and the dense copy of them.
        unsafe {
            for (i, row) in dense.chunks_exact_mut(cols).enumerate() {
                for (j, x) in row.iter_mut().enumerate() {
                    let bias = if e.bias.is_null() { 0.0 } else { *e.bias.add(j) };
                    *x = *sums.add((first + i) * lds + j) + bias;
                }
            }
            let p = dense.as_mut_ptr();
            finish_rows(&after_bias, p, 0, 1, count * cols, p, 0);
            for (i, row) in dense.chunks_exact(cols).enumerate() {
                for (j, x) in row.iter().enumerate() {
                    *dst.add((first + i) * ldd + j) = *x;
                }
            }
        }
    }
}

/// See [`PackTransposeArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_pack_conv_transpose_f32(_ctx: *const Ctx, args: *const PackTransposeArgs) -> i32 {
    // SAFETY: by the contract.
    let g = unsafe { &*args };
    let words = [g.k_h, g.k_w, g.out_c, g.in_c, g.stride_h, g.stride_w, g.dil_h, g.dil_w, g.nr];
    let Some([k_h, k_w, out_c, in_c, stride_h, stride_w, dil_h, dil_w, nr]) = sizes(words) else {
        return Status::InvalidShape as i32;
    };
    if !PANEL_WIDTHS.contains(&nr) {
        return Status::InvalidShape as i32;
    }
    let (stride, dil) = ([or(stride_h, 1), or(stride_w, 1)], [or(dil_h, 1), or(dil_w, 1)]);
    debug_assert_eq!(transposed_taps([k_h, k_w], stride, dil).count(), k_h * k_w);
    // SAFETY: by the contract.
    unsafe { pack_conv_transpose_raw(g.dst, g.src, [k_h, k_w], out_c, in_c, stride, dil, nr) };
    Status::Ok as i32
}

//! `gc_winograd_f32`: convolutions of 3x3 taps and stride 1 by Winograd's algorithm.
//!
//! The output is cut into tiles of `outputs` by `outputs` pixels, `points = outputs + 2`. A block of tiles is transformed to
//! `V[points²][tile][c + 16]`, one product for each point gives `M[points²][tile][n + 16]` with weights
//! `U[points²][n / nr][c][nr]`, and the tiles of M are transformed to pixels, which get the epilogue on the way. The 16 floats between
//! rows keep them out of each other's cache sets. V and M lie in scratch.
//!
//! An extent that is no multiple of the tile is cut into tiles of nearly equal extents; those that lack a pixel take no part in the
//! products of the last point, infinity.

pub mod filter;
mod form;

use super::ZEROS;
use crate::epilogue::Epilogue;
use crate::matrix::gemm::{or, sizes};
use crate::matrix::product::{Product, row_tiles};
use crate::matrix::tile::Factors;
use crate::pack::{PANEL_WIDTHS, packed_len, panels};
use core::ops::Range;
use form::{MAX_POINTS, TileInput, TileOutput, Transforms};
use graphc_abi::args::matrix::WinogradArgs;
use graphc_abi::{Ctx, SCRATCH_BYTES, Status};

/// Most channels of the input and of a part of the output: a pixel outside the image reads as a static row of zeros.
pub const MAX_CHANNELS: usize = super::ZEROS_LEN;
/// Tiles of a block: two passes of the AVX-512 microkernel.
const BLOCK_TILES: usize = 28;
/// Tiles a thread below which threads share the tiles and divide the columns.
const OWN_TILES: usize = 20;
/// Multiply-adds below which one thread is as fast as many.
const SERIAL_WORK: usize = 400_000;
/// Floats between the rows of V and M.
const GAP: usize = 16;
const SCRATCH_LEN: usize = SCRATCH_BYTES / 4;

/// How an axis of the output is cut into tiles.
#[derive(Clone, Copy)]
struct Axis {
    tiles: usize,
    /// Pixels of every tile; the first `longer` have one more.
    base: usize,
    longer: usize,
}

impl Axis {
    fn new(extent: usize, outputs: usize) -> Axis {
        let tiles = extent.div_ceil(outputs).max(1);
        Axis { tiles, base: extent / tiles, longer: extent % tiles }
    }

    /// First pixel and number of pixels of tile `i`.
    fn tile(&self, i: usize) -> (usize, usize) {
        (i * self.base + i.min(self.longer), self.base + usize::from(i < self.longer))
    }
}

/// One tile: its image, and first pixel and extent along each axis.
#[derive(Clone, Copy)]
struct Tile {
    image: usize,
    y: (usize, usize),
    x: (usize, usize),
}

struct Winograd {
    x: *const f32,
    in_h: usize,
    in_w: usize,
    c: usize,
    ldx: usize,
    out_h: usize,
    out_w: usize,
    pad: [usize; 2],
    outputs: usize,
    points: usize,
    axes: [Axis; 2],
    transforms: Transforms,
    u: *const f32,
    n: usize,
    nr: usize,
    y: *mut f32,
    ldc: usize,
    epilogue: Epilogue,
}

// SAFETY: its operands are read only, and each thread computes other elements of `y`.
unsafe impl Sync for Winograd {}

/// See [`WinogradArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_winograd_f32(ctx: *const Ctx, args: *const WinogradArgs) -> i32 {
    // SAFETY: by the contract.
    let (ctx, g) = unsafe { (&*ctx, &*args) };
    // SAFETY: by the contract.
    match unsafe { convolve(ctx, g) } {
        Some(()) => Status::Ok as i32,
        None => Status::InvalidShape as i32,
    }
}

unsafe fn convolve(ctx: &Ctx, g: &WinogradArgs) -> Option<()> {
    let [batch, in_h, in_w, c, out_h, out_w, n] = sizes([g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c])?;
    let [pad_top, pad_left, outputs, nr, ldx, ldc, ldr] = sizes([g.pad_top, g.pad_left, g.outputs, g.nr, g.ldx, g.ldc, g.ldr])?;
    let (ldx, ldc, ldr) = (or(ldx, c), or(ldc, n), or(ldr, n));
    if !PANEL_WIDTHS.contains(&nr) || !matches!(outputs, 2 | 4) || c > MAX_CHANNELS {
        return None;
    }
    let epilogue = Epilogue::new(g.bias, g.residual, ldr, g.residual_after, g.act, g.act_lo, g.act_hi)?;
    if batch * out_h * out_w == 0 || n == 0 {
        return Some(());
    }
    let conv = Winograd {
        x: g.x,
        in_h,
        in_w,
        c,
        ldx,
        out_h,
        out_w,
        pad: [pad_top, pad_left],
        outputs,
        points: filter::points(outputs),
        axes: [Axis::new(out_h, outputs), Axis::new(out_w, outputs)],
        transforms: form::transforms(outputs),
        u: g.w,
        n,
        nr,
        y: g.y,
        ldc,
        epilogue,
    };
    let tiles = batch * conv.axes[0].tiles * conv.axes[1].tiles;
    let work = tiles.saturating_mul(conv.points * conv.points).saturating_mul(c.max(1)).saturating_mul(n);
    let threads = if work < SERIAL_WORK { 1 } else { ctx.threads };
    let block = conv.block_tiles().min(tiles);
    let all = 0..panels(n, nr);
    // SAFETY: chunks compute disjoint parts; each worker has its own scratch, and what is shared of the first is written before.
    unsafe {
        if threads == 1 || tiles >= OWN_TILES * threads {
            let blocks = tiles.div_ceil(block).next_multiple_of(threads);
            let part = |i: usize| tiles * i / blocks..tiles * (i + 1) / blocks;
            let run = |chunk: usize, worker: usize| {
                let block = Block::new(&conv, part(chunk));
                let scratch = ctx.scratch_of(worker).cast::<f32>();
                block.to_points(&conv, block.tiles.clone(), scratch);
                block.to_pixels(&conv, all.clone(), scratch, scratch.wrapping_add(block.v_len));
            };
            if threads == 1 {
                (0..blocks).for_each(|i| run(i, 0))
            } else {
                ctx.parallel(blocks, &run)
            }
            return Some(());
        }
        for (first, count) in row_tiles(tiles, block) {
            let block = Block::new(&conv, first..first + count);
            let shared = Shared(ctx.scratch_of(0).cast());
            let cut = |range: &Range<usize>, parts: usize, i: usize| {
                range.start + range.len() * i / parts..range.start + range.len() * (i + 1) / parts
            };
            let parts = threads.min(count);
            ctx.parallel(parts, &|i, _| block.to_points(&conv, cut(&block.tiles, parts, i), shared.get()));
            // As few parts as will do: each reads all of V.
            let parts = threads.min(all.len());
            ctx.parallel(parts, &|i, worker| {
                let m = ctx.scratch_of(worker).cast::<f32>().wrapping_add(block.v_len);
                block.to_pixels(&conv, cut(&all, parts, i), shared.get(), m);
            });
        }
    }
    Some(())
}

/// Scratch that all workers read.
struct Shared(*mut f32);

// SAFETY: workers write disjoint parts of it, and read it only when all is written.
unsafe impl Sync for Shared {}

impl Shared {
    fn get(&self) -> *mut f32 {
        self.0
    }
}

/// Pixels along an axis of the best tiles for a convolution of `c` input and `n` output channels; none where the direct kernel is
/// faster. An output extent that is not known counts as large, a batch as 1.
pub fn best_outputs(batch: Option<usize>, out: [Option<usize>; 2], c: usize, n: usize) -> Option<usize> {
    /// Rows of a product that take as long as reading its weights from memory.
    const WEIGHTS_ROWS: f64 = 13.0;
    /// What the transforms of a row cost for each of its channels, in rows of a product with one channel.
    const TRANSFORM: f64 = 16.0;
    /// Share of the direct way's cost that must be saved: the estimate is rough.
    const MARGIN: f64 = 0.9;
    if c == 0 || n == 0 || c > MAX_CHANNELS {
        return None;
    }
    let (batch, out) = (batch.unwrap_or(1), out.map(|e| e.unwrap_or(224)));
    // Costs in rows of a product with all channels.
    let cost = |outputs: usize| {
        let rows: usize = batch * out.iter().map(|e| e + 2 * e.div_ceil(outputs)).product::<usize>();
        let rows = rows as f64 * (1.0 + TRANSFORM * (1.0 / c as f64 + 1.0 / n as f64));
        rows.max(WEIGHTS_ROWS * filter::points(outputs).pow(2) as f64)
    };
    let direct = 9.0 * (batch * out[0] * out[1]) as f64;
    let best = if cost(4) < cost(2) { 4 } else { 2 };
    (cost(best) < MARGIN * direct).then_some(best)
}

impl Winograd {
    /// Floats from a row of V to the next.
    fn ldv(&self) -> usize {
        self.c.next_multiple_of(16) + GAP
    }

    /// Most tiles of a block: V takes up to five eighths of the scratch.
    fn block_tiles(&self) -> usize {
        (SCRATCH_LEN * 5 / 8 / (self.points * self.points * self.ldv())).clamp(1, BLOCK_TILES)
    }

    fn tile(&self, i: usize) -> Tile {
        let [rows, cols] = &self.axes;
        let (image, i) = (i / (rows.tiles * cols.tiles), i % (rows.tiles * cols.tiles));
        Tile { image, y: rows.tile(i / cols.tiles), x: cols.tile(i % cols.tiles) }
    }
}

/// Consecutive tiles that are computed together.
struct Block {
    tiles: Range<usize>,
    /// Floats of V.
    v_len: usize,
    /// Tiles that take part in a point, by whether the point is the last of each axis.
    counts: [[usize; 2]; 2],
}

/// The row of a tile in the products of a point, by whether the point is the last of each axis; none where it takes no part.
type Rows = [[Option<usize>; 2]; 2];

impl Block {
    fn new(conv: &Winograd, tiles: Range<usize>) -> Block {
        let v_len = conv.points * conv.points * tiles.len() * conv.ldv();
        let mut counts = [[0; 2]; 2];
        each_tile(conv, tiles.clone(), |_, _, rows| {
            for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                counts[y][x] = rows[y][x].map_or(counts[y][x], |row| row + 1);
            }
        });
        Block { tiles, v_len, counts }
    }

    /// Transforms some of the block's tiles to `v`.
    unsafe fn to_points(&self, conv: &Winograd, part: Range<usize>, v: *mut f32) {
        let (last, ld) = (conv.points - 1, conv.ldv());
        each_tile(conv, self.tiles.clone(), |i, tile, rows| {
            if !part.contains(&i) {
                return;
            }
            let mut t = TileInput {
                from: [[ZEROS.0.as_ptr(); MAX_POINTS]; MAX_POINTS],
                to: [[core::ptr::null_mut(); MAX_POINTS]; MAX_POINTS],
                channels: conv.c,
            };
            for i in 0..conv.points {
                let y = (tile.y.0 + i).wrapping_sub(conv.pad[0]);
                let line = conv.x.wrapping_add((tile.image * conv.in_h + y.min(conv.in_h)) * conv.in_w * conv.ldx);
                for j in 0..conv.points {
                    let x = (tile.x.0 + j).wrapping_sub(conv.pad[1]);
                    if y < conv.in_h && x < conv.in_w {
                        t.from[i][j] = line.wrapping_add(x * conv.ldx);
                    }
                    // Where the tile takes no part, the point before is written over it.
                    let row = |y: usize, x: usize| rows[usize::from(y == last)][usize::from(x == last)];
                    let (py, px) = (i - usize::from(row(i, 0).is_none()), j - usize::from(row(0, j).is_none()));
                    let row = row(py, px).unwrap_or(0);
                    t.to[i][j] = v.wrapping_add(((py * conv.points + px) * self.tiles.len() + row) * ld);
                }
            }
            // SAFETY: pixels of the image or zeros, and this tile's rows of V.
            unsafe { (conv.transforms.input)(&t) };
        });
    }

    /// Computes the products of `v` with the panels, and all of their output; `m` is the scratch behind the room for V.
    unsafe fn to_pixels(&self, conv: &Winograd, all: Range<usize>, v: *const f32, m: *mut f32) {
        let (points, ld) = (conv.points * conv.points, conv.ldv());
        let room = (SCRATCH_LEN - self.v_len) / (points * self.tiles.len());
        let most = ((room - GAP.min(room)).min(MAX_CHANNELS) / conv.nr).max(1);
        for (first, count) in row_tiles(all.len(), most) {
            let first = all.start + first;
            let ldm = count * conv.nr + GAP;
            for point in 0..points {
                let at_end = |i: usize| usize::from(i == conv.points - 1);
                let rows = self.counts[at_end(point / conv.points)][at_end(point % conv.points)];
                let len = packed_len(conv.c, conv.n, conv.nr);
                let product = Product {
                    a: v.wrapping_add(point * self.tiles.len() * ld),
                    lda: ld,
                    table: core::ptr::null(),
                    even_rows: false,
                    runs: 1,
                    steps: conv.c,
                    b: conv.u.wrapping_add(point * len + first * conv.c * conv.nr),
                    nr: conv.nr,
                    ldb: conv.nr,
                    panel_stride: conv.c * conv.nr,
                    c: m.wrapping_add(point * self.tiles.len() * ldm),
                    ldc: ldm,
                    n: count * conv.nr,
                    accumulate: false,
                    last: false,
                    factors: Factors::F32,
                    epilogue: Epilogue::NONE,
                };
                if rows > 0 {
                    // SAFETY: rows of V, panels of U and rows of M, which fits into the scratch.
                    unsafe { product.multiply_before(rows, 0..count, product.b.wrapping_add(len)) };
                }
            }
            // SAFETY: all products of these columns are there.
            unsafe { self.store(conv, first * conv.nr, m, ldm) };
        }
    }

    /// Transforms the products of the columns from `col` on to pixels.
    unsafe fn store(&self, conv: &Winograd, col: usize, m: *const f32, ldm: usize) {
        let columns = (ldm - GAP).min(conv.n - col);
        let last = conv.points - 1;
        each_tile(conv, self.tiles.clone(), |_, tile, rows| {
            let mut from = [[ZEROS.0.as_ptr(); MAX_POINTS]; MAX_POINTS];
            for (i, from) in from.iter_mut().enumerate().take(conv.points) {
                for (j, from) in from.iter_mut().enumerate().take(conv.points) {
                    if let Some(row) = rows[usize::from(i == last)][usize::from(j == last)] {
                        *from = m.wrapping_add(((i * conv.points + j) * self.tiles.len() + row) * ldm);
                    }
                }
            }
            let pixel = (tile.image * conv.out_h + tile.y.0) * conv.out_w + tile.x.0;
            let t = TileOutput {
                from,
                columns,
                y: conv.y.wrapping_add(pixel * conv.ldc + col),
                pixel: conv.ldc,
                line: conv.out_w * conv.ldc,
                rows: tile.y.1,
                cols: tile.x.1,
                epilogue: conv.epilogue.at(pixel, col),
                residual_line: conv.out_w * conv.epilogue.ldr,
            };
            // SAFETY: rows of M or zeros, and pixels of the output.
            unsafe { (conv.transforms.output)(&t) };
        });
    }
}

/// Calls `f` with each tile, its number and its rows.
fn each_tile(conv: &Winograd, tiles: Range<usize>, mut f: impl FnMut(usize, Tile, &Rows)) {
    let mut next = [[0usize; 2]; 2];
    for i in tiles {
        let tile = conv.tile(i);
        let full = [tile.y.1 == conv.outputs, tile.x.1 == conv.outputs];
        let mut rows: Rows = [[None; 2]; 2];
        for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            if (y == 0 || full[0]) && (x == 0 || full[1]) {
                rows[y][x] = Some(next[y][x]);
                next[y][x] += 1;
            }
        }
        f(i, tile, &rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_by_shape() {
        let best = |batch, extent, c, n| best_outputs(batch, [extent; 2], c, n);
        for (extent, channels) in [(56, 64), (28, 128), (14, 256)] {
            assert_eq!(best(None, Some(extent), channels, channels), Some(4));
        }
        assert_eq!(best(Some(1), Some(7), 512, 512), Some(2));
        assert_eq!(best(Some(8), Some(7), 512, 512), Some(4));
        assert_eq!(best(None, None, 64, 64), Some(4));
        for (extent, c, n) in [(224, 3, 32), (112, 8, 8), (4, 256, 256), (1, 64, 64), (56, 5000, 64), (0, 64, 64)] {
            assert_eq!(best(Some(1), Some(extent), c, n), None);
        }
    }

    #[test]
    fn tiles_cover_an_axis() {
        for outputs in [2, 4] {
            for extent in 1..40 {
                let axis = Axis::new(extent, outputs);
                let mut end = 0;
                for i in 0..axis.tiles {
                    let (start, len) = axis.tile(i);
                    assert!(start == end && (1..=outputs).contains(&len));
                    end = start + len;
                }
                assert_eq!(end, extent);
            }
        }
    }
}

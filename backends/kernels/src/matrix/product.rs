//! Loops over the tiles of a product, and its division among threads.

use super::simd::Numbers;
use super::tile::{Factors, Micro, Tile};
use crate::epilogue::{Epilogue, Stored, finish_rows};
use crate::pack::panels;
use core::mem::MaybeUninit;
use core::ops::Range;

/// Floats of the largest tile.
const TILE_LEN: usize = 14 * 64;

/// How many steps ahead a part of a panel is prefetched.
const STEPS_AHEAD: usize = 24;

/// Storage for one tile whose epilogue does not run in registers.
#[repr(align(64))]
struct TileBuffer(MaybeUninit<[f32; TILE_LEN]>);

/// A product of some rows with packed panels: `c = epilogue([c +] a * b)`.
#[derive(Clone, Copy)]
pub struct Product {
    /// Rows of the left operand: `lda` apart, or where it is not null through `table`, which holds for each tile of
    /// [`row_tiles`] `[runs][rows of the tile]` pointers; with `even_rows` only `[runs]` pointers of row 0, and rows are `lda` apart.
    pub a: *const f32,
    pub lda: usize,
    pub table: *const *const f32,
    pub even_rows: bool,
    pub runs: usize,
    /// Inner extent of a run.
    pub steps: usize,
    /// Panel 0; panels are `panel_stride` floats apart and `nr` wide, with `ldb` from a step to the next: `nr` where they are packed.
    pub b: *const f32,
    pub nr: usize,
    pub ldb: usize,
    pub panel_stride: usize,
    pub c: *mut f32,
    pub ldc: usize,
    /// Columns of the whole product.
    pub n: usize,
    /// Add what `c` holds.
    pub accumulate: bool,
    /// These are the last terms of the sums: apply the epilogue.
    pub last: bool,
    /// What both operands are. Their strides and extents count words of 32 bits, of several numbers where these are small.
    pub factors: Factors,
    pub epilogue: Epilogue,
}

// SAFETY: its operands are read only, and each thread computes other elements of `c`.
unsafe impl Sync for Product {}
unsafe impl Send for Product {}

/// Divides `m` rows into as few tiles of at most `max` as possible, of nearly equal heights: yields (first row, height), and tiles
/// of the greater height come first.
pub fn row_tiles(m: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = m.div_ceil(max).max(1);
    let (base, extra) = (m / count, m % count);
    (0..count).map(move |i| (i * base + i.min(extra), base + usize::from(i < extra))).filter(|t| t.1 > 0)
}

impl Product {
    pub fn micro(&self) -> &'static Micro {
        (self.factors.micros)(self.nr)
    }

    /// The place of result `row`, `col`.
    #[inline(always)]
    pub fn c_at(&self, row: usize, col: usize) -> *mut f32 {
        self.epilogue.stored.at_mut(self.c, row * self.ldc + col)
    }

    /// Computes rows `0..m` of the panels.
    ///
    /// # Safety
    /// Operands are valid for `m` rows and these panels; `c` overlaps neither operand.
    pub unsafe fn multiply(&self, m: usize, panels: Range<usize>) {
        let behind = self.b.wrapping_add(panels.end * self.panel_stride);
        // SAFETY: by the contract.
        unsafe { self.multiply_before(m, panels, behind) }
    }

    /// As [`Product::multiply`], where the panel at `next` is what the caller multiplies then: it comes in during the last panel.
    ///
    /// # Safety
    /// As there; nothing is asked of `next`.
    pub unsafe fn multiply_before(&self, m: usize, panels: Range<usize>, next: *const f32) {
        let last = panels.end;
        let direct = self.table.is_null() || self.even_rows;
        for p in panels {
            let panel = self.b.wrapping_add(p * self.panel_stride);
            let next = if p + 1 == last { next } else { panel.wrapping_add(self.panel_stride) };
            let columns = self.nr.min(self.n - p * self.nr);
            // The last panel may fill fewer vectors; a table is made for the tiles of whole panels.
            let micro = (self.factors.micros)(if direct { self.nr.min(columns.next_multiple_of(16)) } else { self.nr });
            for sub in (0..columns).step_by(micro.width) {
                let b = panel.wrapping_add(sub);
                let col = p * self.nr + sub;
                let mut table = self.table;
                let half_empty = matches!(columns % 16, 1..=8) && !micro.halves.is_empty() && direct;
                let kernels = match (half_empty, direct) {
                    (true, _) => micro.halves,
                    (_, true) => micro.direct,
                    (_, false) => micro.indirect,
                };
                let passes = m.div_ceil(kernels.len());
                // Lines of a step's weights; a single pass prefetches two a step, many passes one.
                let spread = self.nr / 16;
                let lines_a_step = if passes == 1 { spread.min(2) } else { 1 };
                for (pass, (row, rows)) in row_tiles(m, kernels.len()).enumerate() {
                    // The next panel comes in over the last passes.
                    let first = passes.saturating_sub(spread);
                    let ahead = micro.width == self.ldb && pass >= first;
                    let lines = (pass - first.min(pass)) * self.runs * self.steps;
                    let (prefetch, prefetch_step) = if ahead {
                        (next.wrapping_add(16 * lines), 16 * lines_a_step)
                    } else if micro.width < self.ldb {
                        // Lines of a part of a panel lie too far apart for the processor to see that they follow one another.
                        (b.wrapping_add(STEPS_AHEAD * self.ldb), self.ldb)
                    } else {
                        (b, 0)
                    };
                    let tile = Tile {
                        a: self.a.wrapping_add(row * self.lda),
                        lda: self.lda,
                        rows: table,
                        skip: row * self.lda,
                        runs: self.runs,
                        steps: self.steps,
                        b,
                        ldb: self.ldb,
                        c: self.c_at(row, col),
                        ldc: self.ldc,
                        cols: columns - sub,
                        accumulate: self.accumulate,
                        prefetch,
                        prefetch_other: if ahead { 16 * (lines_a_step - 1) } else { 0 },
                        prefetch_step,
                        ..Tile::EMPTY
                    };
                    if !direct {
                        table = table.wrapping_add(rows * self.runs);
                    }
                    // SAFETY: `rows` is at least 1 and at most the kernels' number; the tile lies in the operands.
                    unsafe { self.tile(micro, kernels[rows - 1], tile, row, col, rows) };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile(&self, micro: &Micro, kernel: super::tile::TileFn, mut tile: Tile, row: usize, col: usize, rows: usize) {
        // SAFETY: the tile is the caller's, or the buffer, which has room for every tile.
        unsafe {
            if !self.last {
                return kernel(&tile);
            }
            let epilogue = self.epilogue.at(row, col);
            if epilogue.in_registers() {
                tile.epilogue = &epilogue;
                return kernel(&tile);
            }
            // Sums of integers become reals in the kernel all the same.
            let scales = epilogue.scales();
            if self.factors.numbers == Numbers::I8 {
                tile.epilogue = &scales;
            }
            let (c, cols) = (tile.c, tile.cols.min(micro.width));
            if self.accumulate {
                kernel(&tile);
                finish_rows(&epilogue, c, self.ldc, rows, cols, c, self.ldc);
            } else {
                let mut buffer = TileBuffer(MaybeUninit::uninit());
                tile.c = buffer.0.as_mut_ptr().cast();
                tile.ldc = micro.width;
                kernel(&tile);
                finish_rows(&epilogue, tile.c, tile.ldc, rows, cols, c, self.ldc);
            }
        }
    }
}

/// Bytes of a panel above which the inner extent is divided, so that a panel stays in the second-level cache with a block of rows.
const PANEL_BYTES: usize = 400 << 10;
/// Bytes of a block of rows.
const ROWS_BYTES: usize = 640 << 10;

/// Floats of a page: rows a multiple of it apart fall into one set of the first-level cache, which cannot hold a tile's worth of them.
const PAGE_LEN: usize = 1024;
/// Floats of scratch for copied rows.
const COPY_LEN: usize = graphc_abi::SCRATCH_BYTES / 4;

/// A plain product: rows direct, panels over the whole inner extent.
impl Product {
    /// The number of blocks into which the inner extent of a product of `m` rows is divided. It decides the order of summation, so
    /// it must not depend on the number of threads: `m` is that of the whole product.
    pub fn depth_blocks(&self, m: usize) -> usize {
        // Partial sums lie in `c`, where a residual may lie too, or there is no room for them.
        if m <= 28
            || core::ptr::eq(self.epilogue.residual, self.c)
            || self.epilogue.stored != Stored::F32
            || self.factors.numbers == Numbers::I8
        {
            return 1;
        }
        (4 * self.steps * self.nr).div_ceil(PANEL_BYTES).min(self.steps / 768).max(1)
    }

    /// Computes rows `0..m` of the panels with blocks over rows, and `blocks` over the inner extent.
    ///
    /// # Safety
    /// As [`Product::multiply`]; the rows are direct; `scratch` is a worker's.
    pub unsafe fn multiply_blocked(&self, m: usize, panels: Range<usize>, blocks: usize, scratch: *mut f32) {
        let k = self.steps;
        let max_rows = self.micro().max_rows();
        for i in 0..blocks {
            let (k0, k1) = (k * i / blocks, k * (i + 1) / blocks);
            let row_blocks = (4 * m * (k1 - k0)).div_ceil(ROWS_BYTES).min(m / (4 * max_rows)).max(1);
            for (row, rows) in row_tiles(m, m.div_ceil(row_blocks).max(1)) {
                let part = Product {
                    a: self.a.wrapping_add(row * self.lda + k0),
                    steps: k1 - k0,
                    b: self.b.wrapping_add(k0 * self.nr),
                    c: self.c_at(row, 0),
                    accumulate: self.accumulate || i > 0,
                    last: self.last && i + 1 == blocks,
                    epilogue: self.epilogue.at(row, 0),
                    ..*self
                };
                // SAFETY: a part of the caller's product; a block of rows fits into scratch.
                unsafe {
                    if rows > 8
                        && panels.len() * self.nr >= 128
                        && self.lda.is_multiple_of(PAGE_LEN)
                        && rows * copied_row(k1 - k0) <= COPY_LEN
                    {
                        part.copy_rows(rows, scratch).multiply(rows, panels.clone());
                    } else {
                        part.multiply(rows, panels.clone());
                    }
                }
            }
        }
    }
}

/// Floats from a copied row of `len` to the next.
pub fn copied_row(len: usize) -> usize {
    let line = len.next_multiple_of(16);
    if line.is_multiple_of(64) { line + 16 } else { line }
}

impl Product {
    /// The same product of one run over rows that have been copied to `to`, one after the other.
    ///
    /// # Safety
    /// `to` has room for `rows` rows of [`copied_row`].
    pub unsafe fn copy_rows(&self, rows: usize, to: *mut f32) -> Product {
        let lda = copied_row(self.steps);
        for i in 0..rows {
            // SAFETY: by the contract.
            unsafe {
                let row = if self.table.is_null() { self.a.add(i * self.lda) } else { *self.table.add(i) };
                core::ptr::copy_nonoverlapping(row, to.add(i * lda), self.steps);
            }
        }
        Product { a: to, lda, table: core::ptr::null(), ..*self }
    }
}

/// How a product is divided among threads: a grid of row ranges and panel ranges.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    m: usize,
    panels: usize,
    row_parts: usize,
    panel_parts: usize,
}

/// Multiply-adds below which one thread is as fast as many.
const SERIAL_WORK: usize = 400_000;

impl Split {
    /// For `m` rows, `n` columns in panels of `nr`, and a depth of `k`; `copies` such products run at once.
    pub fn new(threads: usize, [m, n, k]: [usize; 3], nr: usize, copies: usize) -> Split {
        let panels = panels(n, nr);
        let work = m.saturating_mul(n).saturating_mul(k.max(1)).saturating_mul(copies);
        // Threads that keep their rows from one product to the next find them in their caches, but each reads all weights.
        let few_weights = k.saturating_mul(n) <= m.saturating_mul(k + n).saturating_mul(2);
        let wanted =
            if threads <= 1 || work < SERIAL_WORK { 1 } else { (4 * threads).div_ceil(copies).min(work / (SERIAL_WORK / 4)) };
        let (row_parts, panel_parts) = if m >= 400 {
            let rows = wanted.min(m / 56).max(1);
            (rows, wanted.div_ceil(rows).min(panels).max(1))
        } else if wanted > 1 && m >= 28 * threads && few_weights {
            (threads, (wanted / threads).clamp(1, panels))
        } else {
            let panel_parts = wanted.min(panels).max(1);
            let short = panel_parts < wanted && panel_parts < 2 * threads;
            (if short { wanted.div_ceil(panel_parts).min(m / 28).max(1) } else { 1 }, panel_parts)
        };
        Split { m, panels, row_parts, panel_parts }
    }

    pub fn parts(&self) -> usize {
        self.row_parts * self.panel_parts
    }

    /// As [`Split::new`], where every range of rows packs the panels anew.
    pub fn by_panels(threads: usize, m: usize, panels: usize, work: usize, copies: usize) -> Split {
        let wanted =
            if threads <= 1 || work < SERIAL_WORK { 1 } else { (2 * threads).div_ceil(copies).min(work / (SERIAL_WORK / 4)) };
        let panel_parts = wanted.min(panels).max(1);
        Split { m, panels, row_parts: wanted.div_ceil(panel_parts).min(m / 128).max(1), panel_parts }
    }

    /// Rows and panels of part `i`; those of neighbouring rows are neighbours.
    pub fn part(&self, i: usize) -> (Range<usize>, Range<usize>) {
        let (r, p) = (i / self.panel_parts, i % self.panel_parts);
        let cut = |n: usize, i: usize, parts: usize| n * i / parts..n * (i + 1) / parts;
        (cut(self.m, r, self.row_parts), cut(self.panels, p, self.panel_parts))
    }
}

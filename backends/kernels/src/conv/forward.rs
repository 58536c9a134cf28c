//! `gc_conv2d_f32`, `gc_conv2d_bf16` and `gc_conv2d_i8`.
//!
//! A pointwise convolution is a plain product. Otherwise a table holds, for each row of a block and each tap, a pointer to the
//! tap's channels (or to zeros), and serves all panels of weights. With few channels the taps of one kernel row, which are
//! contiguous in the image, count as one; lines that the kernel overhangs are copied with their padding first. Where they make one
//! panel, the pixels of a line go without a table: they are evenly spaced. Few output channels go by planes of the image, or where
//! kernels are long and low, neighbouring pixels become columns of one product.

use super::planar::Planar;
use super::{Scratch, bytes_of};
use crate::epilogue::{Epilogue, Steps, Stored};
use crate::matrix::gemm::{epilogue_of, or, run, sizes};
use crate::matrix::narrow;
use crate::matrix::product::{Product, Split, copied_row, row_tiles};
use crate::matrix::simd::Numbers;
use crate::matrix::tile::Factors;
use crate::pack::{PANEL_WIDTHS, packed_len, panels};
use core::ops::Range;
use graphc_abi::args::matrix::Conv2dArgs;
use graphc_abi::{Ctx, SCRATCH_BYTES, Status};

/// Channels up to which the taps of a kernel row are read as one run.
const MAX_RUN_CHANNELS: usize = 24;
/// Bytes of a pointer table, of the image part that a block of rows reads, and of padded lines.
const TABLE_BYTES: usize = 192 << 10;
const IMAGE_BYTES: usize = 400 << 10;
const LINES_BYTES: usize = 512 << 10;

/// Extents of a convolution: heights before widths, top before left.
pub(super) struct Conv {
    pub in_h: usize,
    pub in_w: usize,
    /// Channels of a group, and from a pixel to the next; in words where numbers are small, unless it goes by lines.
    pub c: usize,
    pub ldx: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub k: [usize; 2],
    pub stride: [usize; 2],
    pub dil: [usize; 2],
    pub pad: [usize; 2],
    /// The integer that stands for padding.
    zero: u8,
    /// The product of a group, from row 0 on; its left operand is the image.
    pub product: Product,
}

// SAFETY: as `Product`.
unsafe impl Sync for Conv {}

/// See [`Conv2dArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_conv2d_f32(ctx: *const Ctx, args: *const Conv2dArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { status(convolve(&*ctx, &*args, Factors::F32)) }
}

/// See [`Conv2dArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_conv2d_bf16(ctx: *const Ctx, args: *const Conv2dArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { status(convolve(&*ctx, &*args, Factors::BF16)) }
}

/// See [`Conv2dArgs`].
///
/// # Safety
/// The context and the arguments are those of the calling convention.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_conv2d_i8(ctx: *const Ctx, args: *const Conv2dArgs) -> i32 {
    // SAFETY: by the contract.
    unsafe { status(convolve(&*ctx, &*args, Factors::I8)) }
}

fn status(done: Option<()>) -> i32 {
    if done.is_some() { Status::Ok as i32 } else { Status::InvalidShape as i32 }
}

unsafe fn convolve(ctx: &Ctx, g: &Conv2dArgs, factors: Factors) -> Option<()> {
    let [batch, in_h, in_w, in_c, out_h, out_w, out_c] = sizes([g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c])?;
    let [k_h, k_w, stride_h, stride_w, dil_h, dil_w] = sizes([g.k_h, g.k_w, g.stride_h, g.stride_w, g.dil_h, g.dil_w])?;
    let [pad_top, pad_left, groups, nr, ldx, ldc, ldr] = sizes([g.pad_top, g.pad_left, g.groups, g.nr, g.ldx, g.ldc, g.ldr])?;
    let (groups, ldx, ldc, ldr) = (or(groups, 1), or(ldx, in_c), or(ldc, out_c), or(ldr, out_c));
    let (dil_h, dil_w, stride_h, stride_w) = (or(dil_h, 1), or(dil_w, 1), or(stride_h, 1), or(stride_w, 1));
    if !PANEL_WIDTHS.contains(&nr) || in_c % groups != 0 || out_c % groups != 0 {
        return None;
    }
    let epilogue = epilogue_of!(g, ldr, factors.numbers)?;
    let zero = u8::try_from(g.x_zero).ok()?;
    let (c, n, rows) = (in_c / groups, out_c / groups, batch * out_h * out_w);
    if rows == 0 || n == 0 {
        return Some(());
    }
    // From here on words take the place of numbers, but for the images of a convolution by lines.
    let per_word = factors.numbers.per_word();
    let k = k_h * (k_w * c).div_ceil(per_word);
    let product = Product {
        a: g.x,
        lda: ldx / per_word,
        table: core::ptr::null(),
        even_rows: false,
        runs: 1,
        steps: c / per_word,
        b: g.w,
        nr,
        ldb: nr,
        panel_stride: k * nr,
        c: g.y,
        ldc,
        n,
        accumulate: false,
        last: true,
        factors,
        epilogue,
    };
    let of_group = |i: usize| product.of_group(i, c / per_word, packed_len(k, n, nr));
    let pointwise = [k_h, k_w, stride_h, stride_w] == [1; 4] && pad_top == 0 && pad_left == 0 && (in_h, in_w) == (out_h, out_w);
    let whole = c % per_word == 0 && ldx % per_word == 0;
    if pointwise && whole {
        // SAFETY: by the contract.
        unsafe { run(ctx, rows, n, nr, k, groups, &of_group) };
        return Some(());
    }
    let (stride, dil, pad) = ([stride_h, stride_w], [dil_h, dil_w], [pad_top, pad_left]);
    let mut conv = Conv { in_h, in_w, c, ldx, out_h, out_w, k: [k_h, k_w], stride, dil, pad, zero, product };
    let split = Split::new(ctx.threads, [rows, n, k], nr, groups);
    if let Some(planar) = Planar::new(&conv, groups) {
        let (parts, lines) = (split.parts().min(batch * out_h), batch * out_h);
        // SAFETY: chunks compute disjoint lines; each worker has its own scratch.
        unsafe {
            ctx.parallel(parts, &|part, worker| {
                planar.part(&conv, lines * part / parts..lines * (part + 1) / parts, Scratch::new(ctx.scratch_of(worker)));
            })
        }
        return Some(());
    }
    let lines = Lines::new(&conv, groups);
    if lines.is_none() {
        if !whole {
            return None;
        }
        (conv.c, conv.ldx) = (c / per_word, ldx / per_word);
    }
    // The pointers of one pixel at least, a row of zeros and a copied row.
    if bytes_of::<*const f32>(k_h.saturating_mul(k_w)).saturating_add(3 * bytes_of::<f32>(c)) > SCRATCH_BYTES - TABLE_BYTES {
        return None;
    }
    // SAFETY: chunks compute disjoint parts; each worker has its own scratch.
    unsafe {
        ctx.parallel(split.parts() * groups, &|chunk, worker| {
            let group = chunk / split.parts();
            let (rows, panels) = split.part(chunk % split.parts());
            let conv = conv.with(of_group(group));
            let scratch = Scratch::new(ctx.scratch_of(worker));
            match &lines {
                Some(lines) => lines.part(&conv, rows, panels, scratch),
                None => conv.part(rows, panels, scratch),
            }
        })
    }
    Some(())
}

impl Product {
    /// The product of group `i`, with `c` input channels and `w` floats of weights a group.
    fn of_group(&self, i: usize, c: usize, w: usize) -> Product {
        let col = i * self.n;
        let (a, b) = (self.a.wrapping_add(i * c), self.b.wrapping_add(i * w));
        Product { a, b, c: self.c_at(0, col), epilogue: self.epilogue.at(0, col), ..*self }
    }
}

impl Conv {
    /// How the image lies in memory.
    fn image(&self) -> Stored {
        match self.product.factors.numbers {
            Numbers::F32 => Stored::F32,
            Numbers::Bf16 => Stored::Bf16,
            Numbers::I8 => Stored::U8,
        }
    }

    fn with(&self, product: Product) -> Conv {
        Conv { product, ..*self }
    }

    /// Computes a range of output pixels and panels.
    unsafe fn part(&self, rows: Range<usize>, panels: Range<usize>, mut scratch: Scratch) {
        let taps = self.k[0] * self.k[1];
        let max_rows = self.product.micro().max_rows();
        // SAFETY: the scratch is this worker's.
        let zeros = unsafe { scratch.padding(self.c, self.zero) };
        let footprint = 4 * self.c * (self.stride[0] * self.stride[1]).min(taps);
        let weights = 4 * panels.len() * self.product.panel_stride;
        let by_image = IMAGE_BYTES / footprint.max(1);
        // Heavy weights are worth more rows than the cache holds of the image.
        let wanted = if weights > IMAGE_BYTES { by_image.max(784) } else { by_image };
        let by_table = TABLE_BYTES.max(8 * taps * 56) / (8 * taps).max(1);
        let block = wanted.min(by_table).max(max_rows).min(scratch.left / (8 * taps).max(1)).min(rows.len());
        // A strided pointwise convolution of many columns gathers its rows: image lines lie a power of two apart.
        let gather = taps == 1 && panels.len() * self.product.nr >= 128;
        let block = if gather { block.min(((1 << 20) / (4 * copied_row(self.c))).max(1)) } else { block };
        let table = scratch.take::<*const f32>(block * taps);
        let copies = scratch.take::<f32>(if gather { block * copied_row(self.c) } else { 0 });
        for (first, count) in row_tiles(rows.len(), block) {
            let first = rows.start + first;
            // SAFETY: the table has room for a block; pixels and taps are within the image or replaced by zeros.
            unsafe {
                self.fill(table, first, count, max_rows, zeros);
                let p = &self.product;
                let product =
                    Product { table, runs: taps, steps: self.c, c: p.c_at(first, 0), epilogue: p.epilogue.at(first, 0), ..*p };
                if gather {
                    product.copy_rows(count, copies).multiply(count, panels.clone());
                } else {
                    product.multiply(count, panels.clone());
                }
            }
        }
    }

    /// The pointers of output pixels `first..first + count`, tile by tile.
    unsafe fn fill(&self, mut table: *mut *const f32, first: usize, count: usize, max_rows: usize, zeros: *const f32) {
        let (mut ox, mut oy, mut image) = (first % self.out_w, first / self.out_w % self.out_h, first / self.out_w / self.out_h);
        for (_, rows) in row_tiles(count, max_rows) {
            for i in 0..rows {
                let mut at = table.wrapping_add(i);
                let x0 = (ox * self.stride[1]) as isize - self.pad[1] as isize;
                for ky in 0..self.k[0] {
                    let y = (oy * self.stride[0] + ky * self.dil[0]).wrapping_sub(self.pad[0]);
                    let line = if y < self.in_h {
                        self.product.a.wrapping_add((image * self.in_h + y) * self.in_w * self.ldx)
                    } else {
                        core::ptr::null()
                    };
                    for kx in 0..self.k[1] {
                        let x = (x0 + (kx * self.dil[1]) as isize) as usize;
                        let inside = x < self.in_w && !line.is_null();
                        // SAFETY: one of `rows * taps` pointers of the tile.
                        unsafe { *at = if inside { line.wrapping_add(x * self.ldx) } else { zeros } };
                        at = at.wrapping_add(rows);
                    }
                }
                ox += 1;
                if ox == self.out_w {
                    ox = 0;
                    oy += 1;
                    if oy == self.out_h {
                        oy = 0;
                        image += 1;
                    }
                }
            }
            table = table.wrapping_add(rows * self.k[0] * self.k[1]);
        }
    }
}

/// Convolution of images with few channels, a kernel row a run.
struct Lines {
    /// Pixels of a line with its padding; 0 where lines are read in place.
    padded: usize,
    /// Output lines of a block.
    lines: usize,
    /// Lengths of a block's table and of its copied lines.
    table: usize,
    copies: usize,
    /// Floats of zeros that take the place of lines outside the image.
    zeros: usize,
    /// Floats of gathered weights where there are only a few output channels.
    narrow: Option<usize>,
    /// Output lines are computed one by one, without a table of all pixels.
    by_line: bool,
    /// So many neighbouring pixels of a line are the columns of a product, by weights that are made for it; 0 where they are not.
    folded: usize,
}

/// Lanes that pixels are folded into.
const FOLDED_LANES: usize = 16;
/// Fewest pixels of a line that is worth the weights of folded pixels.
const MIN_FOLDED: usize = 1024;

/// Pixels of an output line that make it worth products of its own.
const MIN_LINE: usize = 24;

impl Lines {
    /// `None` where the convolution does not qualify.
    fn new(conv: &Conv, groups: usize) -> Option<Lines> {
        let [k_h, k_w] = conv.k;
        let per_word = conv.product.factors.numbers.per_word();
        let narrow = if per_word > 1 { None } else { narrow::weights_len(conv.product.n, k_h, k_w * conv.c) };
        let folded = folded_pixels(conv);
        let narrow = narrow.filter(|_| folded == 0);
        if groups != 1
            || conv.dil[1] != 1
            || conv.ldx != conv.c
            || k_w == 1
            || (conv.c > MAX_RUN_CHANNELS && narrow.is_none() && folded == 0)
        {
            return None;
        }
        // The last columns may stand for pixels beyond the line.
        let reach = (conv.out_w.next_multiple_of(folded.max(1)) - 1) * conv.stride[1] + k_w;
        // A run that ends within a word is read with the numbers behind it, which meet weights of zero.
        let behind = if (k_w * conv.c).is_multiple_of(per_word) { 0 } else { per_word - 1 };
        let in_place = conv.pad[1] == 0 && reach <= conv.in_w && behind == 0;
        let padded = if in_place { 0 } else { reach.max(conv.pad[1] + conv.in_w) + behind };
        let line = conv.image().bytes(padded * conv.c);
        let span = (k_h - 1) * conv.dil[0] + 1;
        // Input lines that fit, less those that the first output line needs.
        let spare = LINES_BYTES.checked_div(line).unwrap_or(usize::MAX).checked_sub(span)?;
        let by_image = IMAGE_BYTES / (4 * conv.in_w * conv.c * conv.stride[0]).max(1);
        let by_table = TABLE_BYTES / (8 * k_h * conv.out_w).max(1);
        let lines = (spare / conv.stride[0]).min(by_image).min(by_table).max(1);
        let copies = padded * conv.c * (lines * conv.stride[0] + span);
        // Words of small numbers may begin anywhere, which no stride in words tells.
        let one_panel = panels(conv.product.n, conv.product.nr) == 1;
        let by_line = folded > 0 || narrow.is_none() && per_word == 1 && conv.out_w >= MIN_LINE && one_panel;
        let (table, zeros) = if by_line { (k_h, reach * conv.c) } else { (lines * conv.out_w * k_h, k_w * conv.c) };
        let bytes = bytes_of::<*const f32>(table)
            .saturating_add(bytes_of::<u8>(conv.image().bytes(copies)))
            .saturating_add(bytes_of::<f32>(zeros));
        let weights = if folded > 0 { FOLDED_LANES * (k_h * folded_steps(conv, folded) + 1) } else { narrow.unwrap_or(0) };
        let bytes = bytes.saturating_add(bytes_of::<f32>(weights));
        (bytes <= SCRATCH_BYTES).then_some(Lines { padded, lines, table, copies, zeros, narrow, by_line, folded })
    }

    unsafe fn part(&self, conv: &Conv, rows: Range<usize>, panels: Range<usize>, mut scratch: Scratch) {
        let [k_h, k_w] = conv.k;
        let max_rows = if self.narrow.is_some() { narrow::TILE_ROWS } else { conv.product.micro().max_rows() };
        let pixels = conv.out_w * conv.out_h;
        let run = k_w * conv.c;
        // SAFETY: the scratch is this worker's.
        let zeros = unsafe { scratch.padding(self.zeros, conv.zero) };
        let table = scratch.take::<*const f32>(self.table);
        let image_stored = conv.image();
        let copies = scratch.take::<u8>(image_stored.bytes(self.copies)).cast::<f32>();
        let weights = scratch.take::<f32>(self.narrow.unwrap_or(0));
        // SAFETY: `new` made sure that the weights fit.
        let folded = (self.folded > 0).then(|| unsafe { fold(conv, self.folded, &mut scratch) });
        // Which pixels fold together does not depend on the parts.
        let whole = |pixel: usize| pixel - pixel % conv.out_w % self.folded.max(1);
        let rows = whole(rows.start)..whole(rows.end);
        let mut first = rows.start;
        while first < rows.end {
            let (image, oy) = (first / pixels, first / conv.out_w % conv.out_h);
            // To the end of the part, of the image, or of the block's last line.
            let end = rows.end.min((image + 1) * pixels).min((image * conv.out_h + oy + self.lines) * conv.out_w);
            let count = end - first;
            // SAFETY: `new` made sure that the lines and pointers of a block fit; see `Conv::part`.
            unsafe {
                let source = self.lines_of(conv, image, oy, (end - 1) / conv.out_w % conv.out_h, copies);
                if self.by_line {
                    match &folded {
                        Some(folded) => Self::multiply_lines(folded, first..end, panels.clone(), &source, zeros, table),
                        None => Self::multiply_lines(&Folded::one_by_one(conv), first..end, panels.clone(), &source, zeros, table),
                    }
                    first = end;
                    continue;
                }
                let mut at = table;
                let (mut oy, mut ox) = (oy, first % conv.out_w);
                for (_, rows) in row_tiles(count, max_rows) {
                    for ky in 0..k_h {
                        // Walks the tile's pixels along each line that it touches.
                        let (mut oy, mut ox, mut i) = (oy, ox, 0);
                        while i < rows {
                            let run = (conv.out_w - ox).min(rows - i);
                            let y = (oy * conv.stride[0] + ky * conv.dil[0]).wrapping_sub(conv.pad[0]);
                            let (mut p, step) = if y < conv.in_h {
                                let step = conv.stride[1] * conv.c;
                                (image_stored.at(source.line(y, image_stored), ox * step), step)
                            } else {
                                (zeros, 0)
                            };
                            for q in i..i + run {
                                *at.add(ky * rows + q) = p;
                                p = image_stored.at(p, step);
                            }
                            i += run;
                            (oy, ox) = (oy + 1, 0);
                        }
                    }
                    ox += rows;
                    while ox >= conv.out_w {
                        (oy, ox) = (oy + 1, ox - conv.out_w);
                    }
                    at = at.add(rows * k_h);
                }
                let p = &conv.product;
                let product = Product {
                    table,
                    runs: k_h,
                    steps: run.div_ceil(p.factors.numbers.per_word()),
                    c: p.c_at(first, 0),
                    epilogue: p.epilogue.at(first, 0),
                    ..*p
                };
                if self.narrow.is_some() {
                    narrow::multiply(&product, count, weights);
                } else {
                    product.multiply(count, panels.clone());
                }
            }
            first = end;
        }
    }

    /// Computes pixels of one image line by line; `table` has room for a pointer a kernel row.
    unsafe fn multiply_lines(
        folded: &Folded,
        pixels: Range<usize>,
        panels: Range<usize>,
        source: &Source,
        zeros: *const f32,
        table: *mut *const f32,
    ) {
        let (conv, together) = (folded.conv, folded.pixels);
        let step = conv.stride[1] * conv.c;
        let mut first = pixels.start;
        while first < pixels.end {
            let (oy, ox) = (first / conv.out_w % conv.out_h, first % conv.out_w);
            let count = (conv.out_w - ox).min(pixels.end - first);
            // Whole rows of pixels, then the pixels that are left as columns of one row.
            let (rows, count) = if count >= together { (count / together, count / together * together) } else { (1, count) };
            for ky in 0..conv.k[0] {
                let y = (oy * conv.stride[0] + ky * conv.dil[0]).wrapping_sub(conv.pad[0]);
                // SAFETY: room by the contract.
                unsafe { *table.add(ky) = if y < conv.in_h { source.line(y, Stored::F32).wrapping_add(ox * step) } else { zeros } };
            }
            let p = &folded.product;
            let product = Product {
                lda: together * step,
                table,
                even_rows: true,
                runs: conv.k[0],
                c: conv.product.c_at(first, 0),
                n: if together > 1 { count / rows * conv.product.n } else { p.n },
                epilogue: Epilogue { bias: p.epilogue.bias, ..conv.product.epilogue.at(first, 0) }.rows_apart(together),
                ..*p
            };
            // SAFETY: pixels of a line are `step` floats apart, and so may those of the zeros be, which are as long as a line.
            unsafe { product.multiply(rows, panels.clone()) };
            first += count;
        }
    }

    /// The input lines that output lines `from..=to` of an image read, copied with their padding where that is needed.
    unsafe fn lines_of(&self, conv: &Conv, image: usize, from: usize, to: usize, copies: *mut f32) -> Source {
        let line = conv.in_w * conv.c;
        let stored = conv.image();
        let base = stored.at(conv.product.a, image * conv.in_h * line);
        if self.padded == 0 {
            return Source { base, first: 0, stride: line };
        }
        let stride = self.padded * conv.c;
        let first = (from * conv.stride[0]).saturating_sub(conv.pad[0]);
        let last = (to * conv.stride[0] + (conv.k[0] - 1) * conv.dil[0] + 1).saturating_sub(conv.pad[0]).min(conv.in_h);
        let left = conv.pad[1] * conv.c;
        for y in first..last {
            // SAFETY: lines of the image, and of the copies, which have room for these.
            unsafe {
                let (from, to) = (stored.at(base, y * line).cast::<u8>(), stored.at_mut(copies, (y - first) * stride).cast::<u8>());
                let [left, line, stride] = [left, line, stride].map(|n| stored.bytes(n));
                to.write_bytes(conv.zero, left);
                core::ptr::copy_nonoverlapping(from, to.add(left), line);
                to.add(left + line).write_bytes(conv.zero, stride - left - line);
            }
        }
        Source { base: copies, first, stride }
    }
}

/// Lines of an image: line `y` starts at `base + (y - first) * stride`.
struct Source {
    base: *const f32,
    first: usize,
    stride: usize,
}

impl Source {
    fn line(&self, y: usize, stored: Stored) -> *const f32 {
        stored.at(self.base, y.wrapping_sub(self.first).wrapping_mul(self.stride))
    }
}

/// Pixels of a line whose columns are computed together.
struct Folded<'a> {
    conv: &'a Conv,
    pixels: usize,
    /// Weights, steps and bias of a row of so many pixels.
    product: Product,
}

impl Folded<'_> {
    fn one_by_one(conv: &Conv) -> Folded<'_> {
        Folded { conv, pixels: 1, product: Product { steps: conv.k[1] * conv.c, ..conv.product } }
    }
}

/// How many neighbouring pixels fill a vector, where few of their weights would be zeros: a kernel is much longer than the pixels are
/// apart.
pub(super) fn folded_pixels(conv: &Conv) -> usize {
    let (n, e) = (conv.product.n, &conv.product.epilogue);
    let pixels = FOLDED_LANES / n;
    let dense = conv.product.ldc == n && (e.residual.is_null() || e.ldr == n);
    let long = conv.k[1] >= 3 * pixels * conv.stride[1];
    let f32 = conv.product.factors.numbers == Numbers::F32;
    if f32 && n <= 4 && dense && long && conv.out_w >= MIN_FOLDED && conv.dil[1] == 1 { pixels } else { 0 }
}

/// Inner extent of a kernel row for so many pixels.
fn folded_steps(conv: &Conv, pixels: usize) -> usize {
    (conv.k[1] + (pixels - 1) * conv.stride[1]) * conv.c
}

/// The product whose columns are `pixels` neighbouring pixels: the weights of each are those of the one before it, moved by a stride.
///
/// # Safety
/// The scratch has room for the weights and the bias.
unsafe fn fold<'a>(conv: &'a Conv, pixels: usize, scratch: &mut Scratch) -> Folded<'a> {
    let (p, steps, run) = (&conv.product, folded_steps(conv, pixels), conv.k[1] * conv.c);
    let lanes = FOLDED_LANES;
    let weights = scratch.take::<f32>(conv.k[0] * steps * lanes + lanes);
    let bias = weights.wrapping_add(conv.k[0] * steps * lanes);
    // SAFETY: by the contract; the weights are those of the only panel.
    unsafe {
        weights.write_bytes(0, conv.k[0] * steps * lanes + lanes);
        for (pixel, j) in (0..pixels).flat_map(|pixel| (0..p.n).map(move |j| (pixel, j))) {
            let column = pixel * p.n + j;
            for ky in 0..conv.k[0] {
                let to = weights.add((ky * steps + pixel * conv.stride[1] * conv.c) * lanes + column);
                for q in 0..run {
                    *to.add(q * lanes) = *p.b.add((ky * run + q) * p.ldb + j);
                }
            }
            if !p.epilogue.bias.is_null() {
                *bias.add(column) = *p.epilogue.bias.add(j);
            }
        }
    }
    let bias = if p.epilogue.bias.is_null() { core::ptr::null() } else { bias.cast_const() };
    let (panel_stride, epilogue) = (conv.k[0] * steps * lanes, Epilogue { bias, ..p.epilogue });
    let product =
        Product { steps, b: weights, nr: lanes, ldb: lanes, panel_stride, ldc: pixels * p.ldc, n: pixels * p.n, epilogue, ..*p };
    Folded { conv, pixels, product }
}

//! Products of matrices and convolutions as products: tiles through the memory of workgroups, each thread with a small tile of its own.

use super::epilogue::{Epilogue, Operands};
use super::pipelined::Along;
use super::warpgroups::{self, Axis, Box as Lie, Boxes};
use super::{indices, tensor, walk};
use crate::build::{Build, V};
use crate::code::TensorMap;
use crate::design::{Args, Buffer, Design, Int, Spec, Tile, Way};
use crate::target::{Cell, Factors, Flavour};
use graphc_ir::Dim;

/// Depth of a step.
const DEPTH: i64 = 16;
/// Threads along each side of a tile.
const SIDE: i64 = 16;
const THREADS: i64 = SIDE * SIDE;
/// What parts of a depth are multiples of: the steps of all kernels divide it.
const STEP: i64 = 32;
/// Rows up to which each element of the result is a thread's own sum.
const FEW: i64 = 4;

/// Where an element of a factor lies, and whether it is there; what is not there is zero.
pub struct At<'c> {
    pub at: V<'c>,
    pub there: V<'c>,
}

/// A product `[z][m][k] x [z][k][n]` as the kernel sees it.
pub trait Product {
    /// What is the same for all of a row of the first factor.
    fn row<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>) -> Vec<V<'c>>;
    /// The element of that row at depth `k`.
    fn left<'c>(&self, b: &mut Build<'c>, s: &Spec, row: &[V<'c>], k: V<'c>) -> At<'c>;
    /// What is the same for all of a column of the second factor.
    fn column<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, column: V<'c>) -> V<'c>;
    /// From an element of the second factor to the next of its column.
    fn step<'c>(&self, b: &mut Build<'c>, s: &Spec) -> V<'c>;
    /// Where the element of the result lies, and its bias and residual.
    fn out<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>, column: V<'c>) -> [V<'c>; 3];
    /// The factors as boxes for tiles of [`warpgroups::ROWS`] rows and `columns` columns, where they can be copied so.
    fn boxes(&self, _s: &Spec, _columns: i64) -> [Option<Boxes>; 2] {
        [None, None]
    }
    /// Where four numbers of either factor, from multiples of four on, are neighbours at a multiple of 16 bytes: of the first along the depth, of the
    /// second along what is given.
    fn pieces(&self, _s: &Spec) -> Option<Along> {
        None
    }
    /// The index of matrix `z` along each axis of the batch.
    fn batch<'c>(&self, _b: &mut Build<'c>, _s: &Spec, z: V<'c>) -> Vec<V<'c>> {
        vec![z]
    }
}

/// Whether all these are built in and multiples of four; so is then where a buffer begins.
fn even(s: &Spec, buffer: &str, names: &[&str]) -> bool {
    let even = |n: Int| matches!(n, Int::Known(v) if v % 4 == 0);
    s.place(buffer).is_some_and(|(_, first)| even(first)) && names.iter().all(|n| even(s.number(n)))
}

/// Boxes of a tensor by its axes, the one along which elements are neighbours first: the extent, the stride, what the box follows and how long it is. Axes
/// with a stride of zero are left out. None where the units that copy boxes cannot read them: they want strides that are multiples of 16 bytes.
fn boxes(s: &Spec, name: &str, lie: Lie, axes: &[(Int, Int, Axis, i64)]) -> Option<Boxes> {
    let (buffer, first) = s.place(name)?;
    let even = |n: &Int| matches!(n, Int::Known(v) if v % 4 == 0);
    let (inner, outer) = axes.split_first()?;
    let outer: Vec<_> = outer.iter().filter(|(_, stride, ..)| *stride != Int::Known(0)).collect();
    if inner.1 != Int::Known(1) || !even(&first) || !outer.iter().all(|(_, stride, ..)| even(stride)) {
        return None;
    }
    let all = || std::iter::once(inner).chain(outer.iter().copied());
    let map = TensorMap {
        buffer,
        first,
        extents: all().map(|a| a.0).collect(),
        strides: outer.iter().map(|a| a.1).collect(),
        tile: all().map(|a| a.3 as u32).collect(),
        swizzled: lie == Lie::Rows,
    };
    Some(Boxes { map, lie, axes: all().map(|a| a.2).collect() })
}

/// Packed weights as boxes of panels.
fn panel_boxes(s: &Spec, columns: i64) -> Option<Boxes> {
    let width = s.known("nr");
    if width == 0 || columns % width != 0 {
        return None;
    }
    let axes = [
        (s.number("nr"), Int::Known(1), Axis::Whole, width),
        (s.number("k"), s.number("nr"), Axis::Depth, warpgroups::DEPTH),
        (s.number("panels"), s.number("panel"), Axis::Row(width), columns / width),
        (s.number("z"), s.number("w_batch"), Axis::Batch(0), 1),
    ];
    boxes(s, "w", Lie::Panels(width), &axes)
}

/// A factor whose rows lie along its depth, as boxes of `rows` rows.
fn row_boxes(s: &Spec, name: &str, rows: (Int, Int, i64), depth: Int, batch: &[(Int, Int)]) -> Option<Boxes> {
    let mut axes = vec![(s.number("k"), depth, Axis::Depth, warpgroups::DEPTH), (rows.0, rows.1, Axis::Row(1), rows.2)];
    axes.extend((0..).zip(batch).map(|(k, &(extent, stride))| (extent, stride, Axis::Batch(k), 1)));
    boxes(s, name, Lie::Rows, &axes)
}

/// What all products have.
pub struct Common {
    pub cell: Cell,
    /// In what they are multiplied.
    pub factors: Factors,
    /// Names of the factors and of the result.
    names: [&'static str; 3],
    /// Columns of a workgroup's tile.
    pub columns: i64,
    epilogue: Epilogue,
    alpha: f64,
    /// Parts that the depth is divided in; of more than one the sums are stored as they are.
    parts: i64,
}

impl Common {
    /// Of an f32 product with packed weights and `n` columns.
    fn with_weights(a: &Args, n: &Dim) -> Result<Common, String> {
        let (names, columns) = (["x", "w", "y"], columns(n));
        Ok(Common { cell: Cell::F32, factors: a.factors, names, columns, epilogue: Epilogue::of(a)?, alpha: 1.0, parts: 1 })
    }
}

fn design(name: &str, a: &Args, mut c: Common, p: impl Product + Send + Sync + 'static, [z, m, n, k]: [Dim; 4]) -> Design {
    let tile = Tile::chosen(a.flavour, c.factors, [&z, &m, &n, &k], c.columns);
    let Tile { way, rows, columns, .. } = tile;
    c.columns = columns;
    c.parts = a.int("split").max(1);
    let parts = c.parts;
    let name =
        format!("{name} {:?} {:?} {} {:x} {way:?} {rows} {columns} {parts}", c.cell, c.factors, c.epilogue.name, c.alpha.to_bits());
    let sizes = [("z", z.clone()), ("m", m.clone()), ("n", n.clone()), ("k", k.clone())];
    let numbers = &(&z * &m) * &n;
    let few_rows = m.as_const().is_some_and(|m| m <= FEW);
    if few_rows {
        return Design::items(format!("{name} few"), numbers, move |b, s| few(b, s, &c, &p)).ints(sizes);
    }
    if a.int("sum") != 0 {
        let d = Design::items(format!("{name} sum"), numbers, move |b, s| sum_of_parts(b, s, &c, &p)).ints(sizes);
        return a.buffers(d, &["sums"]);
    }
    let (down, across) = (m.ceil_div(&Dim::from(rows)), n.ceil_div(&Dim::from(columns)));
    let count = &(&(&z * &down) * &across) * &Dim::from(parts);
    let wanted = (tile.parts > 1 && parts == 1 && c.cell == Cell::F32).then_some(tile.parts);
    let mut d = match way {
        Way::Threads => Design::tasks(name, THREADS, count, move |b, s| tiled(b, s, &c, &p, rows)),
        Way::Warps => Design::tasks(name, tensor::threads(rows), count, move |b, s| tensor::tiled(b, s, &c, &p, rows)),
        Way::Warpgroups => Design::tasks(name, warpgroups::THREADS, count, move |b, s| warpgroups::tiled(b, s, &c, &p)),
    };
    d.parts = wanted.zip(numbers.as_const());
    // Parts are whole steps of all kernels.
    let part = k.ceil_div(&Dim::from(STEP * parts));
    a.buffers(d.ints(sizes).ints([("down", down), ("across", across), ("part", &part * &Dim::from(STEP))]), &["sums"])
}

/// A task of a workgroup: the part of the depth, with its end, the matrix, and the first row and column of its tile.
#[derive(Clone, Copy)]
pub struct Task<'c> {
    part: V<'c>,
    pub z: V<'c>,
    pub row: V<'c>,
    pub column: V<'c>,
    pub begin: V<'c>,
    pub end: V<'c>,
}

impl<'c> Task<'c> {
    /// Task number `task` of tiles of `rows` rows.
    pub fn of(b: &mut Build<'c>, s: &Spec, c: &Common, rows: i64, task: V<'c>) -> Task<'c> {
        let [z, depth, down, across, part] = ["z", "k", "down", "across", "part"].map(|n| s.int(b, n));
        let (row, column) = (b.i32(rows), b.i32(c.columns));
        if c.parts == 1 {
            let at = indices(b, task, &[z, down, across]);
            return Task {
                part: b.i32(0),
                z: at[0],
                row: b.mul(at[1], row),
                column: b.mul(at[2], column),
                begin: b.i32(0),
                end: depth,
            };
        }
        let at = indices(b, task, &[b.i32(c.parts), z, down, across]);
        let begin = b.mul(at[0], part);
        let end = b.add(begin, part);
        let end = b.min(end, depth);
        Task { part: at[0], z: at[1], row: b.mul(at[2], row), column: b.mul(at[3], column), begin, end }
    }
}

/// Adds the parts of each number in their order.
fn sum_of_parts(b: &mut Build, s: &Spec, c: &Common, p: &impl Product) -> Result<(), String> {
    let m = buffers(b, s, c)?;
    let sums = s.buffer(b, "sums", c.cell)?;
    let [rows, columns, count] = ["m", "n", "count"].map(|n| s.int(b, n));
    let mut result = Ok(());
    b.items(count, |b, i| {
        let at = indices(b, i, &[count, rows, columns]);
        let mut sum = sums.load(b, i);
        for part in 1..c.parts {
            let from = b.mul(count, b.i32(part));
            let from = b.add(from, i);
            let v = sums.load(b, from);
            sum = b.add(sum, v);
        }
        result = stored(b, s, c, p, &m, [at[0], at[1], at[2]], sum);
    });
    result
}

pub struct Buffers<'c> {
    pub left: Buffer<'c>,
    pub right: Buffer<'c>,
    out: Buffer<'c>,
    operands: Operands<'c>,
}

pub fn buffers<'c>(b: &mut Build<'c>, s: &Spec, c: &Common) -> Result<Buffers<'c>, String> {
    let [left, right, out] = c.names;
    Ok(Buffers {
        left: s.buffer(b, left, c.cell)?,
        right: s.buffer(b, right, c.cell)?,
        out: s.buffer(b, out, c.cell)?,
        operands: c.epilogue.operands(b, s)?,
    })
}

/// The element of a factor, or zero.
pub fn fetch<'c>(b: &mut Build<'c>, m: &Buffer<'c>, at: &At<'c>, cell: Cell) -> V<'c> {
    let (first, zero) = (b.i32(0), b.constant(0, cell.lane()));
    let from = b.select(at.there, at.at, first);
    let v = m.load(b, from);
    b.select(at.there, v, zero)
}

/// Stores the sum of a row and column of a task's matrix: as the result, or as a part of it.
pub fn finish<'c>(
    b: &mut Build<'c>,
    s: &Spec,
    c: &Common,
    p: &impl Product,
    m: &Buffers<'c>,
    (task, row, column): (&Task<'c>, V<'c>, V<'c>),
    sum: V<'c>,
) -> Result<(), String> {
    if c.parts == 1 {
        return stored(b, s, c, p, m, [task.z, row, column], sum);
    }
    let [count, rows, columns] = ["z", "m", "n"].map(|n| s.int(b, n));
    let matrix = walk(b, &[task.part, task.z], &[count, b.i32(1)]);
    let line = walk(b, &[matrix, row], &[rows, b.i32(1)]);
    let at = walk(b, &[line, column], &[columns, b.i32(1)]);
    s.buffer(b, "sums", c.cell)?.store(b, at, sum);
    Ok(())
}

fn stored<'c>(
    b: &mut Build<'c>,
    s: &Spec,
    c: &Common,
    p: &impl Product,
    m: &Buffers<'c>,
    [z, row, column]: [V<'c>; 3],
    sum: V<'c>,
) -> Result<(), String> {
    let [to, bias, residual] = p.out(b, s, z, row, column);
    let mut v = sum;
    if c.alpha != 1.0 {
        let alpha = b.f32(c.alpha as f32);
        v = b.mul(v, alpha);
    }
    let v = c.epilogue.result(b, &m.operands, v, bias, residual)?;
    m.out.store(b, to, v);
    Ok(())
}

/// One item for each element of the result.
fn few(b: &mut Build, s: &Spec, c: &Common, p: &impl Product) -> Result<(), String> {
    let m = buffers(b, s, c)?;
    let [rows, columns, depth, count] = ["m", "n", "k", "count"].map(|n| s.int(b, n));
    let mut result = Ok(());
    b.items(count, |b, i| {
        let at = indices(b, i, &[count, rows, columns]);
        let row = p.row(b, s, at[0], at[1]);
        let (column, step) = (p.column(b, s, at[0], at[2]), p.step(b, s));
        let (zero, one, none) = (b.i32(0), b.i32(1), b.constant(0, c.cell.lane()));
        let sum = b.repeat(zero, depth, one, &[none], &mut |b, k, sum| {
            let at = p.left(b, s, &row, k);
            let x = fetch(b, &m.left, &at, c.cell);
            let from = b.mul(k, step);
            let from = b.add(column, from);
            let w = m.right.load(b, from);
            vec![b.fma(x, w, sum[0])]
        });
        result = stored(b, s, c, p, &m, [at[0], at[1], at[2]], sum[0]);
    });
    result
}

/// One workgroup for each tile of `tall` rows of the result.
fn tiled(b: &mut Build, s: &Spec, c: &Common, p: &impl Product, tall: i64) -> Result<(), String> {
    let m = buffers(b, s, c)?;
    let [rows, columns, depth, count] = ["m", "n", "k", "count"].map(|n| s.int(b, n));
    let own_columns = c.columns / SIDE;
    let own_rows = tall / SIDE;
    // One more row, so that a column of the tile lies in as many banks.
    let pitch = tall + 1;
    let (left, right) = (b.shared(c.cell, DEPTH * pitch), b.shared(c.cell, DEPTH * c.columns));
    let thread = b.thread();
    let side = b.i32(SIDE);
    let (tx, ty) = (b.rest(thread, side), b.quot(thread, side));
    // Which elements a thread brings: of the left tile one depth, of the right tile one column.
    let (left_k, left_row) = (b.rest(thread, b.i32(DEPTH)), b.quot(thread, b.i32(DEPTH)));
    let (right_column, right_k) = (b.rest(thread, b.i32(c.columns)), b.quot(thread, b.i32(c.columns)));
    let whole = |n: &str, by: i64| s.known(n) > 0 && s.known(n) % by == 0;
    let (whole_rows, whole_depth) = (whole("m", tall), whole("k", DEPTH));
    let mut result = Ok(());
    b.tasks(count, |b, task| {
        let task = Task::of(b, s, c, tall, task);
        let Task { z, row: row0, column: column0, .. } = task;
        let loads = tall * DEPTH / THREADS;
        let mut left_rows = Vec::new();
        for j in 0..loads {
            let r = b.add(left_row, b.i32(j * THREADS / DEPTH));
            let row = b.add(row0, r);
            let there = if whole_rows { b.bool(true) } else { b.lt(row, rows) };
            // Rows beyond the last are computed with the first, and not used.
            let row = b.select(there, row, b.i32(0));
            left_rows.push((p.row(b, s, z, row), there, r));
        }
        let column = b.add(column0, right_column);
        let in_columns = b.lt(column, columns);
        let column = b.select(in_columns, column, b.i32(0));
        let (right_base, step) = (p.column(b, s, z, column), p.step(b, s));
        let init = vec![b.constant(0, c.cell.lane()); (own_rows * own_columns) as usize];
        let step_k = b.i32(DEPTH);
        let sums = b.repeat(task.begin, task.end, step_k, &init, &mut |b, k0, sums| {
            let k = b.add(k0, left_k);
            let in_depth = if whole_depth { b.bool(true) } else { b.lt(k, depth) };
            for (row, there, r) in &left_rows {
                let at = p.left(b, s, row, k);
                let there = b.and(*there, at.there);
                let there = b.and(there, in_depth);
                let v = fetch(b, &m.left, &At { at: at.at, there }, c.cell);
                let to = walk(b, &[left_k, *r], &[b.i32(pitch), b.i32(1)]);
                b.store(left, to, v);
            }
            let each = THREADS / c.columns;
            for j in 0..DEPTH / each {
                let k = b.add(right_k, b.i32(j * each));
                let to = walk(b, &[k, right_column], &[b.i32(c.columns), b.i32(1)]);
                let k = b.add(k0, k);
                let there = if whole_depth { b.bool(true) } else { b.lt(k, depth) };
                let there = b.and(there, in_columns);
                let from = b.mul(k, step);
                let at = b.add(right_base, from);
                let v = fetch(b, &m.right, &At { at, there }, c.cell);
                b.store(right, to, v);
            }
            b.barrier();
            let sums = depths(b, c.cell, sums, &mut |b, k, sums| {
                let (mut xs, mut ws) = (Vec::new(), Vec::new());
                for i in 0..own_rows {
                    let r = walk(b, &[k, ty], &[b.i32(pitch), b.i32(own_rows)]);
                    let r = b.add(r, b.i32(i));
                    xs.push(b.load(left, r));
                }
                for j in 0..own_columns {
                    let w = walk(b, &[k, tx], &[b.i32(c.columns), b.i32(1)]);
                    let w = b.add(w, b.i32(j * SIDE));
                    ws.push(b.load(right, w));
                }
                let pairs = xs.iter().flat_map(|&x| ws.iter().map(move |&w| (x, w)));
                pairs.zip(sums).map(|((x, w), &sum)| b.fma(x, w, sum)).collect()
            });
            b.barrier();
            sums
        });
        for i in 0..own_rows {
            for j in 0..own_columns {
                let r = walk(b, &[ty, row0], &[b.i32(own_rows), b.i32(1)]);
                let r = b.add(r, b.i32(i));
                let q = b.add(column0, tx);
                let q = b.add(q, b.i32(j * SIDE));
                let (in_rows, in_columns) = (if whole_rows { b.bool(true) } else { b.lt(r, rows) }, b.lt(q, columns));
                let inside = b.and(in_rows, in_columns);
                let sum = sums[(i * own_columns + j) as usize];
                b.when(inside, |b| {
                    if let Err(e) = finish(b, s, c, p, &m, (&task, r, q), sum) {
                        result = Err(e);
                    }
                });
            }
        }
    });
    result
}

/// Emits what one depth adds to the sums.
type Depth<'s, 'c> = &'s mut dyn FnMut(&mut Build<'c>, V<'c>, &[V<'c>]) -> Vec<V<'c>>;

/// The depths of one step: written out for NVIDIA's compiler, a loop for Vulkan's, which take their time for long code, and for wide elements, of
/// which too many would be in registers.
fn depths<'c>(b: &mut Build<'c>, cell: Cell, sums: &[V<'c>], body: Depth<'_, 'c>) -> Vec<V<'c>> {
    match b.flavour {
        Flavour::Ptx(_) if cell.bytes() == 4 => (0..DEPTH).fold(sums.to_vec(), |sums, k| {
            let k = b.i32(k);
            body(b, k, &sums)
        }),
        _ => {
            let (zero, end, one) = (b.i32(0), b.i32(DEPTH), b.i32(1));
            b.repeat(zero, end, one, sums, body)
        }
    }
}

/// Columns of a tile for a result of `n`.
fn columns(n: &Dim) -> i64 {
    match n.as_const() {
        Some(0..=16) => 16,
        Some(17..=32) => 32,
        _ => 64,
    }
}

/// A second factor in panels: the place of column `column` in matrix `z`.
fn panel<'c>(b: &mut Build<'c>, s: &Spec, z: V<'c>, column: V<'c>) -> V<'c> {
    let [k, nr, batch] = ["k", "nr", "w_batch"].map(|n| s.int(b, n));
    let (panel, within) = (b.quot(column, nr), b.rest(column, nr));
    let size = b.mul(k, nr);
    let at = walk(b, &[z, panel], &[batch, size]);
    b.add(at, within)
}

struct Gemm;

impl Product for Gemm {
    fn row<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>) -> Vec<V<'c>> {
        vec![walk(b, &[z, row], &[s.int(b, "x_batch"), s.int(b, "lda")])]
    }

    fn left<'c>(&self, b: &mut Build<'c>, _s: &Spec, row: &[V<'c>], k: V<'c>) -> At<'c> {
        At { at: b.add(row[0], k), there: b.bool(true) }
    }

    fn column<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, column: V<'c>) -> V<'c> {
        panel(b, s, z, column)
    }

    fn step<'c>(&self, b: &mut Build<'c>, s: &Spec) -> V<'c> {
        s.int(b, "nr")
    }

    fn out<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>, column: V<'c>) -> [V<'c>; 3] {
        let y = walk(b, &[z, row, column], &[s.int(b, "y_batch"), s.int(b, "ldc"), b.i32(1)]);
        let bias = walk(b, &[z, column], &[s.int(b, "bias_batch"), b.i32(1)]);
        let residual = walk(b, &[z, row, column], &[s.int(b, "residual_batch"), s.int(b, "ldr"), b.i32(1)]);
        [y, bias, residual]
    }

    fn boxes(&self, s: &Spec, columns: i64) -> [Option<Boxes>; 2] {
        let rows = (s.number("m"), s.number("lda"), warpgroups::ROWS);
        let left = row_boxes(s, "x", rows, Int::Known(1), &[(s.number("z"), s.number("x_batch"))]);
        [left, panel_boxes(s, columns)]
    }

    fn pieces(&self, s: &Spec) -> Option<Along> {
        (even(s, "x", &["lda", "x_batch"]) && even(s, "w", &["nr", "w_batch"])).then_some(Along::Columns)
    }
}

pub fn gemm(a: &Args) -> Result<Design, String> {
    let [m, n, k] = ["m", "n", "k"].map(|name| a.dim(name));
    let c = Common::with_weights(a, &n)?;
    let d = design("gemm", a, c, Gemm, [a.dim_or("batch", &Dim::ONE), m, n.clone(), k.clone()]);
    let d = d.ints([("lda", a.dim_or("lda", &k)), ("ldc", a.dim_or("ldc", &n)), ("ldr", a.dim_or("ldr", &n)), ("nr", a.dim("nr"))]);
    let d = d.ints([("panel", &k * &a.dim("nr")), ("panels", n.ceil_div(&a.dim_or("nr", &Dim::ONE)))]);
    let d =
        ["x_batch", "w_batch", "y_batch", "bias_batch", "residual_batch"].into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    Ok(Epilogue::buffers(a, a.buffers(d, &["x", "w", "y"])))
}

struct Conv {
    /// A filter of one tap.
    single: bool,
}

impl Product for Conv {
    fn row<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>) -> Vec<V<'c>> {
        let [out_h, out_w, in_h, depth] = ["out_h", "out_w", "in_h", "depth"].map(|n| s.int(b, n));
        let at = indices(b, row, &[out_h, out_h, out_w]);
        let y = walk(b, &[at[1]], &[s.int(b, "stride_h")]);
        let x = walk(b, &[at[2]], &[s.int(b, "stride_w")]);
        let (y, x) = (b.sub(y, s.int(b, "pad_top")), b.sub(x, s.int(b, "pad_left")));
        let image = b.mul(at[0], in_h);
        vec![image, y, x, b.mul(z, depth)]
    }

    fn left<'c>(&self, b: &mut Build<'c>, s: &Spec, row: &[V<'c>], k: V<'c>) -> At<'c> {
        let [in_h, in_w, ldx, depth, k_w] = ["in_h", "in_w", "ldx", "depth", "k_w"].map(|n| s.int(b, n));
        let zero = b.i32(0);
        let (tap_y, tap_x, channel) = if self.single {
            (zero, zero, k)
        } else {
            let (tap, channel) = (b.quot(k, depth), b.rest(k, depth));
            (b.quot(tap, k_w), b.rest(tap, k_w), channel)
        };
        let y = walk(b, &[tap_y], &[s.int(b, "dil_h")]);
        let x = walk(b, &[tap_x], &[s.int(b, "dil_w")]);
        let (y, x) = (b.add(row[1], y), b.add(row[2], x));
        let (in_y, in_x) = (b.inside(y, in_h), b.inside(x, in_w));
        let line = b.add(row[0], y);
        let pixel = walk(b, &[line, x], &[in_w, b.i32(1)]);
        let at = walk(b, &[pixel, channel, row[3]], &[ldx, b.i32(1), b.i32(1)]);
        At { at, there: b.and(in_y, in_x) }
    }

    fn column<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, column: V<'c>) -> V<'c> {
        panel(b, s, z, column)
    }

    fn step<'c>(&self, b: &mut Build<'c>, s: &Spec) -> V<'c> {
        s.int(b, "nr")
    }

    fn out<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>, column: V<'c>) -> [V<'c>; 3] {
        let channel = walk(b, &[z, column], &[s.int(b, "n"), b.i32(1)]);
        let [ldc, ldr] = ["ldc", "ldr"].map(|n| s.int(b, n));
        [walk(b, &[row, channel], &[ldc, b.i32(1)]), channel, walk(b, &[row, channel], &[ldr, b.i32(1)])]
    }

    /// Under a filter of one tap and without steps or padding, pixels are the rows of a matrix.
    fn boxes(&self, s: &Spec, columns: i64) -> [Option<Boxes>; 2] {
        let is = |name: &str, v: i64| s.number(name) == Int::Known(v);
        let plain = self.single && is("z", 1) && is("stride_h", 1) && is("stride_w", 1) && is("pad_top", 0) && is("pad_left", 0);
        let same = s.number("in_h") == s.number("out_h") && s.number("in_w") == s.number("out_w");
        let rows = (s.number("m"), s.number("ldx"), warpgroups::ROWS);
        let left = if plain && same { row_boxes(s, "x", rows, Int::Known(1), &[]) } else { None };
        [left, panel_boxes(s, columns)]
    }

    fn pieces(&self, s: &Spec) -> Option<Along> {
        (even(s, "x", &["ldx", "depth"]) && even(s, "w", &["nr", "w_batch"])).then_some(Along::Columns)
    }
}

pub fn conv2d(a: &Args) -> Result<Design, String> {
    let one = Dim::ONE;
    let groups = a.dim_or("groups", &one);
    let [in_c, out_c, k_h, k_w, nr] = ["in_c", "out_c", "k_h", "k_w", "nr"].map(|n| a.dim(n));
    let (depth, n) = (in_c.floor_div(&groups), out_c.floor_div(&groups));
    let k = &(&k_h * &k_w) * &depth;
    let m = &(&a.dim("batch") * &a.dim("out_h")) * &a.dim("out_w");
    let w_batch = &(&n.ceil_div(&nr) * &k) * &nr;
    let single = k_h.is_one() && k_w.is_one();
    let c = Common::with_weights(a, &n)?;
    let (panel, panels) = (&k * &nr, n.ceil_div(&nr));
    let d = design(&format!("conv2d {single}"), a, c, Conv { single }, [groups, m, n, k]);
    let d = d.ints([("panel", panel), ("panels", panels)]);
    let d = ["in_h", "in_w", "out_h", "out_w", "k_w", "stride_h", "stride_w", "pad_top", "pad_left", "nr"]
        .into_iter()
        .fold(d, |d, name| d.int(name, a.dim(name)));
    let d =
        d.ints([("dil_h", a.dim_or("dil_h", &one)), ("dil_w", a.dim_or("dil_w", &one)), ("w_batch", w_batch), ("depth", depth)]);
    let d = d.ints([("ldx", a.dim_or("ldx", &in_c)), ("ldc", a.dim_or("ldc", &out_c)), ("ldr", a.dim_or("ldr", &out_c))]);
    Ok(Epilogue::buffers(a, a.buffers(d, &["x", "w", "y"])))
}

struct Matmul;

const BATCHES: [&str; 3] = ["batch0", "batch1", "batch2"];

/// The place of matrix `z`, and of the row and column in it.
fn element<'c>(b: &mut Build<'c>, s: &Spec, of: char, z: V<'c>, row: V<'c>, column: V<'c>) -> V<'c> {
    let extents = BATCHES.map(|n| s.int(b, n));
    let z = indices(b, z, &extents);
    let strides: Vec<V> = BATCHES.iter().map(|n| s.int(b, &format!("{of}_{n}"))).collect();
    let matrix = walk(b, &z, &strides);
    let within = walk(b, &[row, column], &[s.int(b, &format!("{of}_row")), s.int(b, &format!("{of}_col"))]);
    b.add(matrix, within)
}

impl Product for Matmul {
    fn row<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>) -> Vec<V<'c>> {
        let zero = b.i32(0);
        vec![element(b, s, 'a', z, row, zero)]
    }

    fn left<'c>(&self, b: &mut Build<'c>, s: &Spec, row: &[V<'c>], k: V<'c>) -> At<'c> {
        At { at: walk(b, &[row[0], k], &[b.i32(1), s.int(b, "a_col")]), there: b.bool(true) }
    }

    fn column<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, column: V<'c>) -> V<'c> {
        let zero = b.i32(0);
        element(b, s, 'b', z, zero, column)
    }

    fn step<'c>(&self, b: &mut Build<'c>, s: &Spec) -> V<'c> {
        s.int(b, "b_row")
    }

    fn out<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>, row: V<'c>, column: V<'c>) -> [V<'c>; 3] {
        [element(b, s, 'c', z, row, column), column, element(b, s, 'r', z, row, column)]
    }

    /// The second factor by its columns where these lie along the depth, else by its rows.
    fn boxes(&self, s: &Spec, columns: i64) -> [Option<Boxes>; 2] {
        let batch = |of: char| BATCHES.map(|n| (s.number(n), s.number(&format!("{of}_{n}"))));
        let left = row_boxes(s, "a", (s.number("m"), s.number("a_row"), warpgroups::ROWS), s.number("a_col"), &batch('a'));
        let right = row_boxes(s, "b", (s.number("n"), s.number("b_col"), columns), s.number("b_row"), &batch('b'));
        let flat = || {
            let mut axes = vec![
                (s.number("n"), s.number("b_col"), Axis::Row(1), columns),
                (s.number("k"), s.number("b_row"), Axis::Depth, warpgroups::DEPTH),
            ];
            axes.extend((0..).zip(batch('b')).map(|(k, (extent, stride))| (extent, stride, Axis::Batch(k), 1)));
            boxes(s, "b", Lie::Panels(columns), &axes)
        };
        [left, right.or_else(flat)]
    }

    fn pieces(&self, s: &Spec) -> Option<Along> {
        let one = |name: &str| s.number(name) == Int::Known(1);
        let left = one("a_col") && even(s, "a", &["a_row", "a_batch0", "a_batch1", "a_batch2"]);
        let right = even(s, "b", &["b_batch0", "b_batch1", "b_batch2"]);
        match () {
            () if !left || !right => None,
            () if one("b_row") && even(s, "b", &["b_col"]) => Some(Along::Depth),
            () if one("b_col") && even(s, "b", &["b_row"]) => Some(Along::Columns),
            () => None,
        }
    }

    fn batch<'c>(&self, b: &mut Build<'c>, s: &Spec, z: V<'c>) -> Vec<V<'c>> {
        let extents = BATCHES.map(|n| s.int(b, n));
        indices(b, z, &extents)
    }
}

pub fn matmul(a: &Args) -> Result<Design, String> {
    let cell = match a.symbol {
        "gc_matmul_f64" => Cell::F64,
        "gc_matmul_i32" => Cell::I32,
        "gc_matmul_i64" => Cell::I64,
        _ => Cell::F32,
    };
    let [m, n, k] = ["m", "n", "k"].map(|name| a.dim(name));
    let batches = BATCHES.map(|name| a.dim_or(name, &Dim::ONE));
    let alpha = if a.real("alpha") == 0.0 { 1.0 } else { a.real("alpha") };
    let factors = if cell == Cell::F32 { a.factors } else { Factors::F32 };
    let c = Common { cell, factors, names: ["a", "b", "c"], columns: columns(&n), epilogue: Epilogue::of(a)?, alpha, parts: 1 };
    let d = design("matmul", a, c, Matmul, [batches.iter().product(), m, n, k]);
    let d = BATCHES.iter().zip(batches).fold(d, |d, (&name, size)| d.int(name, size));
    let d =
        "abcr".chars().flat_map(|of| BATCHES.map(|n| format!("{of}_{n}"))).fold(d, |d, name| d.int(name.clone(), stride(a, &name)));
    let d = "abc"
        .chars()
        .flat_map(|of| [format!("{of}_row"), format!("{of}_col")])
        .fold(d, |d, name| d.int(name.clone(), stride(a, &name)));
    let d = d.int("r_row", a.dim("r_row")).int("r_col", Dim::ONE);
    Ok(Epilogue::buffers(a, a.buffers(d, &["a", "b", "c"])))
}

fn stride(a: &Args, name: &str) -> Dim {
    a.dim(name)
}

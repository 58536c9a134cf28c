//! Data movement without indices: copies between strided layouts, transposition, filling, padding, packing of weights.

use super::{indices, list, walk, with_list};
use crate::build::{Build, V};
use crate::design::{Args, Design};
use crate::target::Cell;
use graphc_cpu::tape::code::{Cond, Ty};
use graphc_ir::Dim;

const D: [&str; 8] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
const S: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
const T: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
const P: [&str; 8] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];
const A: [&str; 8] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
const B: [&str; 8] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];

/// Elements of `size` bytes as cells: what they are, and how many make up one element.
pub fn cells(a: &Args) -> Result<(Cell, i64), String> {
    match a.int("size") {
        16 => Ok((Cell::I64, 2)),
        n => Cell::of_size(n).map(|c| (c, 1)).ok_or_else(|| format!("elements of {n} bytes")),
    }
}

/// The first `rank` of eight fields.
pub fn fields(a: &Args, names: &[&str; 8]) -> Result<Vec<Dim>, String> {
    let rank = usize::try_from(a.int("rank")).ok().filter(|r| *r <= 8).ok_or("a rank beyond 8")?;
    Ok(names[..rank].iter().map(|n| a.dim(n)).collect())
}

/// `y[t·i + y_offset] = x[s·i + x_offset]` for the indices below `extents`, in elements of `parts` cells.
fn strided(
    a: &Args,
    (cell, parts): (Cell, i64),
    mut extents: Vec<Dim>,
    [mut from, mut to]: [Vec<Dim>; 2],
    [x_offset, y_offset]: [Dim; 2],
) -> Design {
    let parts = Dim::from(parts);
    if !parts.is_one() {
        from.iter_mut().chain(&mut to).for_each(|s| *s = &*s * &parts);
        extents.push(parts.clone());
        from.push(Dim::ONE);
        to.push(Dim::ONE);
    }
    let rank = extents.len();
    let d = Design::items(format!("copy {cell:?} {rank}"), extents.iter().product(), move |b, s| {
        let (x, y) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?);
        let (e, from, to) = (list(b, s, "e", rank), list(b, s, "s", rank), list(b, s, "t", rank));
        let (x_offset, y_offset, n) = (s.int(b, "x_offset"), s.int(b, "y_offset"), s.int(b, "count"));
        b.items(n, |b, i| {
            let index = indices(b, i, &e);
            let (at, to) = (walk(b, &index, &from), walk(b, &index, &to));
            let (at, to) = (b.add(at, x_offset), b.add(to, y_offset));
            let v = x.load(b, at);
            y.store(b, to, v);
        });
        Ok(())
    });
    let d = d.ints([("x_offset", &x_offset * &parts), ("y_offset", &y_offset * &parts)]);
    a.buffers(with_list(with_list(with_list(d, "e", &extents), "s", &from), "t", &to), &["x", "y"])
}

pub fn copy_strided(a: &Args) -> Result<Design, String> {
    let strides = [fields(a, &S)?, fields(a, &T)?];
    Ok(strided(a, cells(a)?, fields(a, &D)?, strides, [a.dim("x_offset"), a.dim("y_offset")]))
}

/// Strides of a row-major tensor.
pub fn row_major(extents: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::ONE; extents.len()];
    for i in (0..extents.len().saturating_sub(1)).rev() {
        strides[i] = &strides[i + 1] * &extents[i + 1];
    }
    strides
}

/// Side of the square of elements that a workgroup turns round in its memory.
const TILE: i64 = 16;

pub fn transpose(a: &Args) -> Result<Design, String> {
    let (extents, perm) = (fields(a, &D)?, fields(a, &P)?);
    let perm: Option<Vec<usize>> =
        perm.iter().map(|p| usize::try_from(p.as_const()?).ok().filter(|p| *p < extents.len())).collect();
    let perm = perm.ok_or("a permutation of axes that is none")?;
    let (cell, parts) = cells(a)?;
    if let ([0, 2, 1], 1) | ([1, 0], 1) = (perm.as_slice(), parts) {
        let [batch, rows, cols] = match extents.as_slice() {
            [n, r, c] => [n.clone(), r.clone(), c.clone()],
            [r, c] => [Dim::ONE, r.clone(), c.clone()],
            _ => return Err("a transposition of other axes".into()),
        };
        return Ok(transpose_matrices(a, cell, batch, rows, cols));
    }
    let source = row_major(&extents);
    let to: Vec<Dim> = perm.iter().map(|&p| extents[p].clone()).collect();
    let strides = [perm.iter().map(|&p| source[p].clone()).collect(), row_major(&to)];
    Ok(strided(a, (cell, parts), to, strides, [Dim::ZERO, Dim::ZERO]))
}

/// `y[n, c, r] = x[n, r, c]` by tiles, so that both sides are walked along their rows.
fn transpose_matrices(a: &Args, cell: Cell, batch: Dim, rows: Dim, cols: Dim) -> Design {
    let tile = Dim::from(TILE);
    let (down, across) = (rows.ceil_div(&tile), cols.ceil_div(&tile));
    let count = &(&batch * &down) * &across;
    let d = Design::tasks(format!("transpose {cell:?}"), TILE * TILE, count, move |b, s| {
        let (x, y) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?);
        let [rows, cols, down, across] = ["rows", "cols", "down", "across"].map(|n| s.int(b, n));
        // One more column, so that neighbours in a column lie in different banks.
        let lane = match cell {
            Cell::I8 | Cell::I16 => Cell::I32,
            c => c,
        };
        let tile = b.shared(lane, TILE * (TILE + 1));
        let (thread, side, pitch) = (b.thread(), b.i32(TILE), b.i32(TILE + 1));
        let (ty, tx) = (b.quot(thread, side), b.rest(thread, side));
        let n = s.int(b, "count");
        b.tasks(n, |b, task| {
            let at = indices(b, task, &[n, down, across]);
            let (r0, c0) = (b.mul(at[1], side), b.mul(at[2], side));
            let image = b.mul(rows, cols);
            let base = b.mul(at[0], image);
            let (r, c) = (b.add(r0, ty), b.add(c0, tx));
            let (in_rows, in_cols) = (b.lt(r, rows), b.lt(c, cols));
            let inside = b.and(in_rows, in_cols);
            b.when(inside, |b| {
                let from = walk(b, &[r, c], &[cols, b.i32(1)]);
                let from = b.add(base, from);
                let v = x.load(b, from);
                let to = walk(b, &[ty, tx], &[pitch, b.i32(1)]);
                b.store(tile, to, v);
            });
            b.barrier();
            let (r, c) = (b.add(r0, tx), b.add(c0, ty));
            let (in_rows, in_cols) = (b.lt(r, rows), b.lt(c, cols));
            let inside = b.and(in_rows, in_cols);
            b.when(inside, |b| {
                let from = walk(b, &[tx, ty], &[pitch, b.i32(1)]);
                let v = b.load(tile, from);
                let to = walk(b, &[c, r], &[rows, b.i32(1)]);
                let to = b.add(base, to);
                y.store(b, to, v);
            });
            b.barrier();
        });
        Ok(())
    });
    a.buffers(d.ints([("rows", rows), ("cols", cols), ("down", down), ("across", across)]), &["x", "y"])
}

pub fn fill(a: &Args) -> Result<Design, String> {
    let (cell, parts) = cells(a)?;
    if a.has("from") {
        let d = Design::items(format!("fill {cell:?} {parts} from"), &a.dim("n") * &Dim::from(parts), move |b, s| {
            let (x, y, n) = (s.buffer(b, "from", cell)?, s.buffer(b, "y", cell)?, s.int(b, "count"));
            b.items(n, |b, i| {
                let part = b.rest(i, b.i32(parts));
                let v = x.load(b, part);
                y.store(b, i, v);
            });
            Ok(())
        });
        return Ok(a.buffers(d, &["from", "y"]));
    }
    let value = a.dim("value");
    let Some(bits) = value.as_const() else {
        // The value of a size.
        let d = Design::items(format!("fill {cell:?} with a size"), a.dim("n"), move |b, s| {
            let (y, n, v) = (s.buffer(b, "y", cell)?, s.int(b, "count"), s.int(b, "value"));
            let v = if cell == Cell::I64 { b.wide(v) } else { v };
            b.items(n, |b, i| y.store(b, i, v));
            Ok(())
        });
        return Ok(a.buffers(d.int("value", value), &["y"]));
    };
    let high = a.int("value_high");
    let d = Design::items(format!("fill {cell:?} {parts} {bits:x} {high:x}"), &a.dim("n") * &Dim::from(parts), move |b, s| {
        let (y, n, ty) = (s.buffer(b, "y", cell)?, s.int(b, "count"), cell.lane());
        let (low, high) = (b.constant(bits as u64, ty), b.constant(high as u64, ty));
        b.items(n, |b, i| {
            let v = if parts == 1 {
                low
            } else {
                let part = b.rest(i, b.i32(2));
                let first = b.cmp(Cond::Eq, part, b.i32(0));
                b.select(first, low, high)
            };
            y.store(b, i, v);
        });
        Ok(())
    });
    Ok(a.buffers(d, &["y"]))
}

pub fn pad_mirror(a: &Args) -> Result<Design, String> {
    let (cell, parts) = cells(a)?;
    let (mut x, mut low, mut high) = (fields(a, &D)?, fields(a, &B)?, fields(a, &A)?);
    if parts != 1 {
        x.push(Dim::from(parts));
        low.push(Dim::ZERO);
        high.push(Dim::ZERO);
    }
    let y: Vec<Dim> = x.iter().zip(&low).zip(&high).map(|((d, l), h)| &(d + l) + h).collect();
    let (rank, symmetric) = (x.len(), a.int("symmetric") != 0);
    let d = Design::items(format!("mirror {cell:?} {rank} {symmetric}"), y.iter().product(), move |b, s| {
        let (from, to) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?);
        let (x, y, low, strides) = (list(b, s, "x", rank), list(b, s, "y", rank), list(b, s, "l", rank), list(b, s, "s", rank));
        let n = s.int(b, "count");
        b.items(n, |b, i| {
            let index = indices(b, i, &y);
            let mut source = Vec::new();
            for k in 0..rank {
                source.push(mirrored(b, index[k], low[k], x[k], symmetric));
            }
            let at = walk(b, &source, &strides);
            let v = from.load(b, at);
            to.store(b, i, v);
        });
        Ok(())
    });
    let d = with_list(with_list(with_list(with_list(d, "x", &x), "y", &y), "l", &low), "s", &row_major(&x));
    Ok(a.buffers(d, &["x", "y"]))
}

/// Where index `i` of a padded axis comes from: one reflection at each end.
fn mirrored<'c>(b: &mut Build<'c>, i: V<'c>, low: V<'c>, n: V<'c>, symmetric: bool) -> V<'c> {
    let at = b.sub(i, low);
    let (zero, edge) = (b.i32(0), b.i32(i64::from(symmetric)));
    let below = b.sub(zero, at);
    let below = b.sub(below, edge);
    let is_below = b.lt(at, zero);
    let at = b.select(is_below, below, at);
    // Beyond the end: 2 n - 2 - at, or one more.
    let (two, last) = (b.i32(2), b.i32(if symmetric { 1 } else { 2 }));
    let turn = b.mul(n, two);
    let turn = b.sub(turn, last);
    let beyond = b.sub(turn, at);
    let is_beyond = b.cmp(Cond::Ge, at, n);
    b.select(is_beyond, beyond, at)
}

/// `dst[batch][n / nr][k][nr]` of `src`, with zeros beyond `n`.
pub fn pack(a: &Args) -> Design {
    let one = Dim::ONE;
    let (k, n, nr) = (a.dim("k"), a.dim("n"), a.dim("nr"));
    let panels = n.ceil_div(&nr);
    let count = &(&(&a.dim_or("batch", &one) * &panels) * &k) * &nr;
    let d = Design::items("pack", count, |b, s| {
        let (src, dst) = (s.buffer(b, "src", Cell::F32)?, s.buffer(b, "dst", Cell::F32)?);
        let [n, k, nr, panels, batch] = ["n", "k", "nr", "panels", "batch"].map(|name| s.int(b, name));
        let strides = ["src_batch", "src_row", "src_col"].map(|name| s.int(b, name));
        let (count, dst_batch) = (s.int(b, "count"), s.int(b, "dst_batch"));
        b.items(count, |b, i| {
            let at = indices(b, i, &[batch, panels, k, nr]);
            let column = b.mul(at[1], nr);
            let column = b.add(column, at[3]);
            let inside = b.lt(column, n);
            let zero = b.f32(0.0);
            let v = b.choose(inside, zero, |b| {
                let from = walk(b, &[at[0], at[2], column], &strides);
                src.load(b, from)
            });
            let panel = b.mul(k, nr);
            let one = walk(b, &[at[1], at[2], at[3]], &[panel, nr, b.i32(1)]);
            let to = b.mul(at[0], dst_batch);
            let to = b.add(to, one);
            dst.store(b, to, v);
        });
        Ok(())
    });
    let d = d.ints([("n", n), ("k", k), ("nr", nr), ("panels", panels), ("batch", a.dim_or("batch", &one))]);
    let d = ["src_batch", "src_row", "src_col", "dst_batch"].into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    a.buffers(d, &["src", "dst"])
}

/// An index as `i32`, and whether it lies in `0..n`. Indices of 8 bytes are compared whole.
pub fn checked<'c>(b: &mut Build<'c>, index: V<'c>, n: V<'c>) -> (V<'c>, V<'c>) {
    if index.ty == Ty::I32 {
        return (index, b.inside(index, n));
    }
    let wide = b.wide(n);
    let inside = b.inside(index, wide);
    (b.unary("arith.trunci", index, Ty::I32), inside)
}

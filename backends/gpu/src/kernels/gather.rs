//! Gathers and scatters. An index out of range fails the run; nothing is read or written there.

use super::copy::{cells, checked};
use super::element::{Element, elem_of};
use super::{indices, list, with_list};
use crate::build::{Build, V};
use crate::design::{Args, Buffer, Design};
use crate::target::Cell;
use graphc_abi::Status;
use graphc_abi::args::data::{elem, outside, scatter};
use graphc_cpu::tape::code::Cond;
use graphc_ir::Dim;
use graphc_passes::plan::Combine;

fn index_cell(a: &Args) -> Cell {
    if a.int("index_bytes") == 4 { Cell::I32 } else { Cell::I64 }
}

const D: [&str; 8] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];

pub fn gather(a: &Args) -> Result<Design, String> {
    let ((cell, parts), index) = (cells(a)?, index_cell(a));
    let skip = a.int("outside") == outside::SKIP;
    let [batch, outer, axis, count] = ["batch", "outer", "axis", "count"].map(|n| a.dim(n));
    let inner = &a.dim("inner") * &Dim::from(parts);
    let items = [&batch, &outer, &count, &inner].into_iter().product::<Dim>();
    let d = Design::items(format!("gather {cell:?} {index:?} {skip}"), items, move |b, s| {
        let (x, y, at) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?, s.buffer(b, "indices", index)?);
        let [outer, axis, inner, n, items] = ["outer", "axis", "inner", "n", "count"].map(|n| s.int(b, n));
        b.items(items, |b, i| {
            // batch, outer, count, inner
            let p = indices(b, i, &[items, outer, n, inner]);
            let which = b.mul(p[0], n);
            let which = b.add(which, p[2]);
            let k = at.load(b, which);
            let (k, inside) = checked(b, k, axis);
            if !skip {
                let outside = b.cmp(Cond::Eq, inside, b.bool(false));
                b.fail(outside, Status::IndexOutOfRange, k, axis);
            }
            let zero = b.constant(0, cell.lane());
            let v = b.choose(inside, zero, |b| {
                let row = b.mul(p[0], outer);
                let row = b.add(row, p[1]);
                let row = b.mul(row, axis);
                let row = b.add(row, k);
                let from = b.mul(row, inner);
                let from = b.add(from, p[3]);
                x.load(b, from)
            });
            y.store(b, i, v);
        });
        Ok(())
    });
    Ok(a.buffers(d.ints([("outer", outer), ("axis", axis), ("inner", inner), ("n", count)]), &["x", "indices", "y"]))
}

/// The slice that an index tuple names, and whether all of its indices lie in their axes; those that do not fail the run.
fn slice<'c>(b: &mut Build<'c>, at: &Buffer<'c>, tuple: V<'c>, extents: &[V<'c>], skip: bool) -> (V<'c>, V<'c>) {
    let depth = b.i32(extents.len() as i64);
    let first = b.mul(tuple, depth);
    let (mut number, mut all) = (b.i32(0), b.bool(true));
    for (d, &n) in extents.iter().enumerate() {
        let word = b.add(first, b.i32(d as i64));
        let k = at.load(b, word);
        let (k, inside) = checked(b, k, n);
        if !skip {
            let outside = b.cmp(Cond::Eq, inside, b.bool(false));
            b.fail(outside, Status::IndexOutOfRange, k, n);
        }
        number = b.mul(number, n);
        number = b.add(number, k);
        all = b.and(all, inside);
    }
    (number, all)
}

fn depth_of(a: &Args) -> Result<(usize, Vec<Dim>), String> {
    let depth = usize::try_from(a.int("depth")).ok().filter(|d| *d <= 8).ok_or("index tuples of more than 8")?;
    Ok((depth, D[..depth].iter().map(|n| a.dim(n)).collect()))
}

pub fn gather_nd(a: &Args) -> Result<Design, String> {
    let ((cell, parts), index) = (cells(a)?, index_cell(a));
    let (depth, extents) = depth_of(a)?;
    let skip = a.int("outside") == outside::SKIP;
    let inner = &a.dim("inner") * &Dim::from(parts);
    let d = Design::items(format!("gather_nd {cell:?} {index:?} {depth} {skip}"), &a.dim("count") * &inner, move |b, s| {
        let (x, y, at) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?, s.buffer(b, "indices", index)?);
        let (extents, inner, items) = (list(b, s, "d", depth), s.int(b, "inner"), s.int(b, "count"));
        b.items(items, |b, i| {
            let (tuple, within) = (b.quot(i, inner), b.rest(i, inner));
            let (row, inside) = slice(b, &at, tuple, &extents, skip);
            let zero = b.constant(0, cell.lane());
            let v = b.choose(inside, zero, |b| {
                let from = b.mul(row, inner);
                let from = b.add(from, within);
                x.load(b, from)
            });
            y.store(b, i, v);
        });
        Ok(())
    });
    Ok(a.buffers(with_list(d.int("inner", inner), "d", &extents), &["x", "indices", "y"]))
}

/// How updates change elements.
enum Change {
    /// Cells are copied as they are.
    Set(Cell),
    /// Cells are parts of complex numbers, which are added or subtracted alone.
    Parts(Cell),
    Numbers(Box<Element>),
}

impl Change {
    fn of(code: i64, op: i64, size: usize) -> Result<(Change, i64), String> {
        if op == scatter::UPDATE {
            let cell = Cell::of_size(size.min(8) as i64).ok_or("elements of another size")?;
            return Ok((Change::Set(cell), size.div_ceil(8) as i64));
        }
        Ok(match (code, op) {
            (elem::C64, scatter::ADD | scatter::SUB) => (Change::Parts(Cell::F32), 2),
            (elem::C128, scatter::ADD | scatter::SUB) => (Change::Parts(Cell::F64), 2),
            _ => (Change::Numbers(Box::new(Element::of(elem_of(code)?, Combine::Sum)?)), 1),
        })
    }

    fn cell(&self) -> Cell {
        match self {
            Change::Set(c) | Change::Parts(c) => *c,
            Change::Numbers(e) => e.cell,
        }
    }

    /// Changes element `to` of `y` by element `from` of `u`.
    fn apply<'c>(&self, b: &mut Build<'c>, op: i64, [y, u]: [&Buffer<'c>; 2], [to, from]: [V<'c>; 2]) -> Result<(), String> {
        match self {
            Change::Set(_) => {
                let new = u.load(b, from);
                y.store(b, to, new);
            }
            Change::Parts(_) => {
                let (old, new) = (y.load(b, to), u.load(b, from));
                let v = if op == scatter::ADD { b.add(old, new) } else { b.sub(old, new) };
                y.store(b, to, v);
            }
            Change::Numbers(e) => {
                let (old, new) = (e.load(b, y, to)?, e.load(b, u, from)?);
                let v = match op {
                    scatter::ADD => b.add(old, new),
                    scatter::SUB => b.sub(old, new),
                    scatter::MUL => b.mul(old, new),
                    scatter::DIV => quotient(b, e, old, new),
                    _ => {
                        let better = e.cmp(b, if op == scatter::MIN { Cond::Lt } else { Cond::Gt }, new, old);
                        b.select(better, new, old)
                    }
                };
                e.store(b, y, to, v)?;
            }
        }
        Ok(())
    }
}

/// A quotient; integers by zero give zero, and wrap.
fn quotient<'c>(b: &mut Build<'c>, e: &Element, x: V<'c>, y: V<'c>) -> V<'c> {
    if x.ty.is_float() {
        return b.div(x, y);
    }
    let (zero, one) = (b.constant(0, x.ty), b.constant(1, x.ty));
    let none = b.cmp(Cond::Eq, y, zero);
    let safe = b.select(none, one, y);
    if e.elem.is_unsigned_int() {
        let q = b.arith("arith.divui", x, safe);
        return b.select(none, zero, q);
    }
    let minus = b.sub(zero, one);
    let turns = b.cmp(Cond::Eq, y, minus);
    let safe = b.select(turns, one, safe);
    let q = b.arith("arith.divsi", x, safe);
    let negative = b.sub(zero, x);
    let q = b.select(turns, negative, q);
    b.select(none, zero, q)
}

/// One item for each element of a slice: it goes through the updates in order, so that the result does not depend on the launch.
pub fn scatter_nd(a: &Args) -> Result<Design, String> {
    let (code, op, index) = (a.int("elem"), a.int("op"), index_cell(a));
    let (depth, extents) = depth_of(a)?;
    let (skip, shared) = (a.int("outside") == outside::SKIP, a.int("shared") != 0);
    let (change, parts) = Change::of(code, op, elem_of(code)?.size())?;
    let inner = &a.dim("inner") * &Dim::from(parts);
    let name = format!("scatter_nd {code} {op} {index:?} {depth} {skip} {shared}");
    let d = Design::items(name, inner.clone(), move |b, s| {
        let (y, u) = (s.buffer(b, "y", change.cell())?, s.buffer(b, "updates", change.cell())?);
        let at = s.buffer(b, "indices", index)?;
        let (extents, inner, n) = (list(b, s, "d", depth), s.int(b, "count"), s.int(b, "n"));
        let mut result = Ok(());
        b.items(inner, |b, i| {
            let (zero, one) = (b.i32(0), b.i32(1));
            b.each(zero, n, one, |b, k| {
                let (row, inside) = slice(b, &at, k, &extents, skip);
                b.when(inside, |b| {
                    let to = b.mul(row, inner);
                    let to = b.add(to, i);
                    let from = if shared { b.i32(0) } else { b.mul(k, inner) };
                    let from = b.add(from, i);
                    if let Err(e) = change.apply(b, op, [&y, &u], [to, from]) {
                        result = Err(e);
                    }
                });
            });
        });
        result
    });
    Ok(a.buffers(with_list(d.int("n", a.dim("count")), "d", &extents), &["indices", "updates", "y"]))
}

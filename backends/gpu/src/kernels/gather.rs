//! Gathers and scatters. An index out of range fails the run; nothing is read or written there.

use super::copy::{cells, checked};
use super::{indices, list, with_list};
use crate::build::{Build, V};
use crate::design::{Args, Buffer, Design};
use crate::target::Cell;
use graphc_abi::Status;
use graphc_abi::args::data::{elem, outside, scatter};
use graphc_cpu::tape::code::{Cond, Mem};
use graphc_ir::Dim;

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

/// The memory of numbers of a code of [`elem`], and whether they have a sign.
fn arithmetic(code: i64) -> Option<(Cell, bool)> {
    Some(match code {
        elem::F32 => (Cell::F32, true),
        elem::F64 => (Cell::F64, true),
        elem::I8 => (Cell::I8, true),
        elem::I16 => (Cell::I16, true),
        elem::I32 => (Cell::I32, true),
        elem::I64 => (Cell::I64, true),
        elem::U8 => (Cell::I8, false),
        elem::U16 => (Cell::I16, false),
        elem::U32 => (Cell::I32, false),
        elem::U64 => (Cell::I64, false),
        _ => return None,
    })
}

/// One item for each element of a slice: it goes through the updates in order, so that the result does not depend on the launch.
pub fn scatter_nd(a: &Args) -> Result<Design, String> {
    let (code, op, index) = (a.int("elem"), a.int("op"), index_cell(a));
    let (depth, extents) = depth_of(a)?;
    let (skip, shared) = (a.int("outside") == outside::SKIP, a.int("shared") != 0);
    let (cell, parts, signed) = match (arithmetic(code), op, code) {
        (Some((cell, signed)), ..) => (cell, 1i64, signed),
        (None, scatter::UPDATE, elem::F16 | elem::BF16) => (Cell::I16, 1, false),
        (None, scatter::UPDATE, elem::BOOL) => (Cell::I8, 1, false),
        (None, scatter::UPDATE | scatter::ADD | scatter::SUB, elem::C64) => (Cell::F32, 2, true),
        (None, scatter::UPDATE | scatter::ADD | scatter::SUB, elem::C128) => (Cell::F64, 2, true),
        _ => return Err("there is no GPU kernel for scatters of this type".into()),
    };
    let mem = match (cell, signed) {
        (Cell::I8, true) => Mem::S8,
        (Cell::I16, true) => Mem::S16,
        _ => Mem::U8,
    };
    let inner = &a.dim("inner") * &Dim::from(parts);
    let name = format!("scatter_nd {code} {op} {index:?} {depth} {skip} {shared}");
    let d = Design::items(name, inner.clone(), move |b, s| {
        let (y, at, u) = (s.buffer(b, "y", cell)?, s.buffer(b, "indices", index)?, s.buffer(b, "updates", cell)?);
        let (extents, inner, n) = (list(b, s, "d", depth), s.int(b, "count"), s.int(b, "n"));
        b.items(inner, |b, i| {
            let (zero, one) = (b.i32(0), b.i32(1));
            b.each(zero, n, one, |b, k| {
                let (row, inside) = slice(b, &at, k, &extents, skip);
                b.when(inside, |b| {
                    let to = b.mul(row, inner);
                    let to = b.add(to, i);
                    let from = if shared { i } else { b.mul(k, inner) };
                    let from = if shared { from } else { b.add(from, i) };
                    let new = u.load(b, from);
                    let v = if op == scatter::UPDATE {
                        new
                    } else {
                        let old = y.load(b, to);
                        let (old, new) = (crate::lanes::extended(b, old, mem), crate::lanes::extended(b, new, mem));
                        combined(b, op, old, new, signed)
                    };
                    y.store(b, to, v);
                });
            });
        });
        Ok(())
    });
    Ok(a.buffers(with_list(d.int("n", a.dim("count")), "d", &extents), &["indices", "updates", "y"]))
}

fn combined<'c>(b: &mut Build<'c>, op: i64, old: V<'c>, new: V<'c>, signed: bool) -> V<'c> {
    let float = old.ty.is_float();
    match op {
        scatter::ADD => b.add(old, new),
        scatter::SUB => b.sub(old, new),
        scatter::MUL => b.mul(old, new),
        scatter::DIV if float => b.div(old, new),
        scatter::DIV => {
            let zero = b.constant(0, new.ty);
            let none = b.cmp(Cond::Eq, new, zero);
            b.fail(none, Status::DivisionByZero, b.i32(0), b.i32(0));
            let one = b.constant(1, new.ty);
            let new = b.select(none, one, new);
            b.arith(if signed { "arith.divsi" } else { "arith.divui" }, old, new)
        }
        scatter::MIN | scatter::MAX => {
            let how = if op == scatter::MIN { Cond::Lt } else { Cond::Gt };
            let better = if float || signed { b.cmp(how, new, old) } else { b.ucmp(how, new, old) };
            b.select(better, new, old)
        }
        _ => new,
    }
}

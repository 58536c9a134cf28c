//! Sums and products of complex numbers that go along an axis; all else of them is done by parts in loops.

use super::reduce::line;
use super::{indices, list, walk, with_list};
use crate::build::{Build, V};
use crate::design::{Args, Buffer, Design};
use crate::target::Cell;
use graphc_ir::{Dim, Elem};
use graphc_passes::plan::Buf;

/// A real part and an imaginary one.
type Pair<'c> = [V<'c>; 2];

/// The cell of the parts of `elem`, a complex type.
fn part(elem: Elem) -> Cell {
    if elem == Elem::C128 { Cell::F64 } else { Cell::F32 }
}

fn one<'c>(b: &Build<'c>, cell: Cell) -> V<'c> {
    b.constant(if cell == Cell::F64 { 1f64.to_bits() } else { u64::from(1f32.to_bits()) }, cell.lane())
}

fn product<'c>(b: &mut Build<'c>, [a, i]: Pair<'c>, [c, j]: Pair<'c>) -> Pair<'c> {
    let (ac, ij, aj, ic) = (b.mul(a, c), b.mul(i, j), b.mul(a, j), b.mul(i, c));
    [b.sub(ac, ij), b.add(aj, ic)]
}

/// The number at `at`.
fn load<'c>(b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>) -> Pair<'c> {
    let at = b.add(at, at);
    let next = b.add(at, b.i32(1));
    [m.load(b, at), m.load(b, next)]
}

fn store<'c>(b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>, v: Pair<'c>) {
    let at = b.add(at, at);
    let next = b.add(at, b.i32(1));
    m.store(b, at, v[0]);
    m.store(b, next, v[1]);
}

/// Products over the axes `gone`, as extents and strides, of what lies along the axes `kept`; one item a result.
pub fn reduced(elem: Elem, [kept, gone]: [(Vec<Dim>, Vec<Dim>); 2], x: (Buf, Dim), y: (Buf, Dim)) -> Design {
    let cell = part(elem);
    let (count, many): (Dim, Dim) = (kept.0.iter().product(), gone.0.iter().product());
    let (outer, inner) = (kept.0.len(), gone.0.len());
    let d = Design::items(format!("product {elem} {outer} {inner}"), count, move |b, s| {
        let (x, y) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?);
        let [extents, strides, within, steps] =
            [("d", outer), ("s", outer), ("e", inner), ("t", inner)].map(|(n, k)| list(b, s, n, k));
        let (count, many) = (s.int(b, "count"), s.int(b, "many"));
        b.items(count, |b, i| {
            let index = indices(b, i, &extents);
            let from = walk(b, &index, &strides);
            let (zero, step, start) = (b.i32(0), b.i32(1), [one(b, cell), b.constant(0, cell.lane())]);
            let p = b.repeat(zero, many, step, &start, &mut |b, k, p| {
                let index = indices(b, k, &within);
                let at = walk(b, &index, &steps);
                let at = b.add(from, at);
                let v = load(b, &x, at);
                product(b, [p[0], p[1]], v).to_vec()
            });
            store(b, &y, i, [p[0], p[1]]);
        });
        Ok(())
    });
    let d = with_list(with_list(d.int("many", many), "d", &kept.0), "s", &kept.1);
    let d = with_list(with_list(d, "e", &gone.0), "t", &gone.1);
    // Parts are counted.
    let two = Dim::from(2i64);
    d.buffer("x", x.0, &x.1 * &two).buffer("y", y.0, &y.1 * &two)
}

/// Running sums or products, one item a line.
pub fn cumulate(a: &Args, elem: Elem, [prod, exclusive, reverse]: [bool; 3]) -> Design {
    let cell = part(elem);
    let [outer, n, inner] = ["outer", "n", "inner"].map(|name| a.dim(name));
    let d = Design::items(format!("cumulate {elem} {prod} {exclusive} {reverse}"), &outer * &inner, move |b, s| {
        let (x, y) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?);
        let [n, inner, count] = ["n", "inner", "count"].map(|name| s.int(b, name));
        b.items(count, |b, i| {
            let from = line(b, i, n, inner);
            let (zero, step) = (b.i32(0), b.i32(1));
            let none = b.constant(0, cell.lane());
            let start = [if prod { one(b, cell) } else { none }, none];
            b.repeat(zero, n, step, &start, &mut |b, k, before| {
                let last = b.sub(n, step);
                let k = if reverse { b.sub(last, k) } else { k };
                let at = walk(b, &[k], &[inner]);
                let at = b.add(from, at);
                let (before, v) = ([before[0], before[1]], load(b, &x, at));
                let next = if prod { product(b, before, v) } else { [b.add(before[0], v[0]), b.add(before[1], v[1])] };
                store(b, &y, at, if exclusive { before } else { next });
                next.to_vec()
            });
        });
        Ok(())
    });
    let two = Dim::from(2i64);
    let d = d.ints([("n", n), ("inner", inner)]);
    ["x", "y"].into_iter().fold(d, |d, name| match a.find(name) {
        Some(graphc_passes::plan::Arg::Buf { buf, offset }) => d.buffer(name, *buf, offset * &two),
        _ => d,
    })
}

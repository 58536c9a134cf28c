//! Reductions, and what goes along one axis: the place of the greatest element, running sums.

use super::copy::{fields, row_major};
use super::element::{Element, elem_of, plain};
use super::tape::reduction_design;
use super::{apply, complex, indices, walk};
use crate::build::{Build, V};
use crate::design::{Args, Design};
use crate::target::Cell;
use graphc_abi::args::rows::reduce as kind;
use graphc_cpu::tape::code::Cond;
use graphc_ir::{Dim, Elem};
use graphc_passes::plan::{Arg, Buf, Combine};

fn buffer(a: &Args, name: &str) -> Result<(Buf, Dim), String> {
    match a.find(name) {
        Some(Arg::Buf { buf, offset }) => Ok((*buf, offset.clone())),
        _ => Err(format!("no buffer {name}")),
    }
}

pub fn reduce(a: &Args) -> Result<Design, String> {
    let elem = elem_of(a.int("elem"))?;
    let (combine, mean) = match a.int("kind") {
        kind::SUM => (Combine::Sum, false),
        kind::MEAN => (Combine::Sum, true),
        kind::PROD => (Combine::Prod, false),
        kind::MAX => (Combine::Max, false),
        kind::MIN => (Combine::Min, false),
        kind::ANY => (Combine::Any, false),
        kind::ALL => (Combine::All, false),
        k => return Err(format!("reductions of kind {k}")),
    };
    let extents = fields(a, &["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"])?;
    let strides = match a.int("strided") {
        0 => row_major(&extents),
        _ => fields(a, &["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"])?,
    };
    let mask = a.int("mask");
    let (kept, gone): (Vec<usize>, Vec<usize>) = (0..extents.len()).partition(|i| mask >> i & 1 == 0);
    let order = [kept, gone.clone()].concat();
    let pick = |v: &[Dim]| order.iter().map(|&i| v[i].clone()).collect::<Vec<_>>();
    let (x, x_offset) = buffer(a, "x")?;
    let (y, y_offset) = buffer(a, "y")?;
    if elem.is_complex() && combine == Combine::Prod {
        let of = |axes: &[usize]| {
            (axes.iter().map(|&i| extents[i].clone()).collect(), axes.iter().map(|&i| strides[i].clone()).collect())
        };
        let kept = &order[..order.len() - gone.len()];
        return Ok(complex::reduced(elem, [of(kept), of(&gone)], (x, x_offset), (y, y_offset)));
    }
    let mut l = plain(elem, pick(&extents), gone.len(), combine, pick(&strides));
    l.inputs[0].offset = x_offset;
    l.outputs[0].offset = y_offset;
    reduction_design(&l, &[x], &[y], mean)
}

/// `(outer, inner)` of line `i`, and where the line begins in `[outer, n, inner]`.
pub fn line<'c>(b: &mut Build<'c>, i: V<'c>, n: V<'c>, inner: V<'c>) -> V<'c> {
    let at = indices(b, i, &[n, inner]);
    let outer = b.mul(at[0], n);
    let outer = b.mul(outer, inner);
    b.add(outer, at[1])
}

pub fn arg_reduce(a: &Args) -> Result<Design, String> {
    let min = a.int("min") != 0;
    let e = Element::of(elem_of(a.int("elem"))?, if min { Combine::Min } else { Combine::Max })?;
    let index = Cell::of_size(if a.int("index_bytes") == 0 { 8 } else { a.int("index_bytes") }).ok_or("indices of another size")?;
    let [outer, n, inner] = ["outer", "n", "inner"].map(|name| a.dim(name));
    let d = Design::items(format!("arg_reduce {} {min} {index:?}", e.elem), &outer * &inner, move |b, s| {
        let (x, y) = (s.buffer(b, "x", e.cell)?, s.buffer(b, "y", index)?);
        let [n, inner, count] = ["n", "inner", "count"].map(|name| s.int(b, name));
        let ty = e.ty();
        // Floats beyond the last finite value are never chosen.
        let start = match (e.elem, min) {
            (Elem::F64, _) => b.constant(if min { f64::MAX } else { f64::MIN }.to_bits(), ty),
            (Elem::F16, _) => b.f32(if min { 65504.0 } else { -65504.0 }),
            (Elem::BF16, _) => b.f32(f32::from_bits(if min { 0x7f7f_0000 } else { 0xff7f_0000 })),
            (Elem::F32, _) => b.f32(if min { f32::MAX } else { f32::MIN }),
            _ => b.constant(e.body.nest.identities[0], ty),
        };
        let how = if min { Cond::Lt } else { Cond::Gt };
        let mut result = Ok(());
        b.items(count, |b, i| {
            let from = line(b, i, n, inner);
            let (zero, one) = (b.i32(0), b.i32(1));
            let best = b.repeat(zero, n, one, &[start, zero], &mut |b, k, best| {
                let at = walk(b, &[k], &[inner]);
                let at = b.add(from, at);
                let v = match e.load(b, &x, at) {
                    Ok(v) => v,
                    Err(e) => {
                        result = Err(e);
                        return best.to_vec();
                    }
                };
                let better = e.cmp(b, how, v, best[0]);
                vec![b.select(better, v, best[0]), b.select(better, k, best[1])]
            });
            let at = if index == Cell::I64 { b.wide(best[1]) } else { best[1] };
            y.store(b, i, at);
        });
        result
    });
    Ok(a.buffers(d.ints([("n", n), ("inner", inner)]), &["x", "y"]))
}

pub fn cumulate(a: &Args) -> Result<Design, String> {
    let [prod, exclusive, reverse] = ["prod", "exclusive", "reverse"].map(|name| a.int(name) != 0);
    let elem = elem_of(a.int("elem"))?;
    if elem.is_complex() {
        return Ok(complex::cumulate(a, elem, [prod, exclusive, reverse]));
    }
    let e = Element::of(elem, if prod { Combine::Prod } else { Combine::Sum })?;
    let [outer, n, inner] = ["outer", "n", "inner"].map(|name| a.dim(name));
    let d = Design::items(format!("cumulate {} {prod} {exclusive} {reverse}", e.elem), &outer * &inner, move |b, s| {
        let (x, y) = (s.buffer(b, "x", e.cell)?, s.buffer(b, "y", e.cell)?);
        let [n, inner, count] = ["n", "inner", "count"].map(|name| s.int(b, name));
        let start = b.constant(e.body.nest.identities[0], e.ty());
        let mut result = Ok(());
        b.items(count, |b, i| {
            let from = line(b, i, n, inner);
            let (zero, one) = (b.i32(0), b.i32(1));
            b.repeat(zero, n, one, &[start], &mut |b, k, sum| {
                let last = b.sub(n, one);
                let k = if reverse { b.sub(last, k) } else { k };
                let at = walk(b, &[k], &[inner]);
                let at = b.add(from, at);
                let next = e.load(b, &x, at).and_then(|v| apply(b, &e.body.combines[0], &[sum[0], v]));
                match next.and_then(|next| e.store(b, &y, at, if exclusive { sum[0] } else { next }).map(|()| next)) {
                    Ok(next) => vec![next],
                    Err(e) => {
                        result = Err(e);
                        sum.to_vec()
                    }
                }
            });
        });
        result
    });
    Ok(a.buffers(d.ints([("n", n), ("inner", inner)]), &["x", "y"]))
}

/// One item for each element: it counts the elements that come before it, which is its place.
pub fn top_k(a: &Args) -> Result<Design, String> {
    let e = Element::of(elem_of(a.int("elem"))?, Combine::Max)?;
    let index = Cell::of_size(if a.int("index_bytes") == 0 { 4 } else { a.int("index_bytes") }).ok_or("indices of another size")?;
    let (rows, n, k) = (a.dim("rows"), a.dim("n"), a.dim("k"));
    let how = if a.int("ascending") != 0 { Cond::Lt } else { Cond::Gt };
    let d = Design::items(format!("topk {} {how:?} {index:?}", e.elem), &rows * &n, move |b, s| {
        let (x, values, indices) = (s.buffer(b, "x", e.cell)?, s.buffer(b, "values", e.cell)?, s.buffer(b, "indices", index)?);
        let [n, k, count] = ["n", "k", "count"].map(|name| s.int(b, name));
        let mut result = Ok(());
        b.items(count, |b, i| {
            let (row, own) = (b.quot(i, n), b.rest(i, n));
            let first = b.mul(row, n);
            let mut count = || -> Result<V, String> {
                let v = e.load(b, &x, i)?;
                let (zero, one) = (b.i32(0), b.i32(1));
                let mut inner = Ok(());
                let place = b.repeat(zero, n, one, &[zero], &mut |b, j, place| {
                    let at = b.add(first, j);
                    let other = match e.load(b, &x, at) {
                        Ok(v) => v,
                        Err(e) => {
                            inner = Err(e);
                            return place.to_vec();
                        }
                    };
                    let (before, behind) = (e.before(b, how, other, v), e.before(b, how, v, other));
                    let earlier = b.lt(j, own);
                    // Of equal ones the first comes first.
                    let first = b.select(earlier, one, zero);
                    let step = b.select(behind, zero, first);
                    let step = b.select(before, one, step);
                    vec![b.add(place[0], step)]
                });
                inner.map(|()| place[0])
            };
            match count() {
                Ok(place) => {
                    let wanted = b.lt(place, k);
                    b.when(wanted, |b| {
                        let to = b.mul(row, k);
                        let to = b.add(to, place);
                        let raw = x.load(b, i);
                        values.store(b, to, raw);
                        let own = if index == Cell::I64 { b.wide(own) } else { own };
                        indices.store(b, to, own);
                    });
                }
                Err(e) => result = Err(e),
            }
        });
        result
    });
    Ok(a.buffers(d.ints([("n", n), ("k", k)]), &["x", "values", "indices"]))
}

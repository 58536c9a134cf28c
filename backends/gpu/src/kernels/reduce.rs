//! Reductions, and what goes along one axis: the place of the greatest element, running sums.

use super::copy::{fields, row_major};
use super::tape::reduction_design;
use super::{apply, indices, walk};
use crate::build::{Build, V};
use crate::design::{Args, Buffer, Design};
use crate::lanes::{cell, extended};
use crate::target::Cell;
use graphc_abi::args::data::elem;
use graphc_abi::args::rows::reduce as kind;
use graphc_cpu::tape::Body;
use graphc_cpu::tape::code::{Cond, Mem, Ty};
use graphc_cpu::tape::expand::lane;
use graphc_ir::tape::Tape;
use graphc_ir::{Dim, Elem};
use graphc_passes::plan::{Access, Arg, Buf, Combine, Loop};

/// The element type of a code of [`elem`].
pub fn elem_of(code: i64) -> Result<Elem, String> {
    Ok(match code {
        elem::F32 => Elem::F32,
        elem::F64 => Elem::F64,
        elem::F16 => Elem::F16,
        elem::BF16 => Elem::BF16,
        elem::I8 => Elem::I8,
        elem::I16 => Elem::I16,
        elem::I32 => Elem::I32,
        elem::I64 => Elem::I64,
        elem::U8 => Elem::U8,
        elem::U16 => Elem::U16,
        elem::U32 => Elem::U32,
        elem::U64 => Elem::U64,
        elem::BOOL => Elem::Bool,
        elem::C64 => Elem::C64,
        elem::C128 => Elem::C128,
        _ => return Err(format!("elements of type {code}")),
    })
}

/// A loop that reduces the last `reduced` axes of elements as they are.
fn plain(elem: Elem, extents: Vec<Dim>, reduced: usize, combine: Combine, strides: Vec<Dim>) -> Loop {
    let mut tape = Tape::default();
    let x = tape.load(0, elem);
    tape.outputs.push(x);
    let mut to = row_major(&extents[..extents.len() - reduced]);
    to.resize(extents.len(), Dim::ZERO);
    let access = |strides| Access { elem, offset: Dim::ZERO, strides };
    Loop { name: String::new(), inputs: vec![access(strides)], outputs: vec![access(to)], extents, reduced, combine, tape }
}

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
    if mean && (elem.is_complex() || matches!(elem, Elem::U8 | Elem::U16 | Elem::U32 | Elem::U64)) {
        return Err(format!("means of {elem}"));
    }
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
    let mut l = plain(elem, pick(&extents), gone.len(), combine, pick(&strides));
    l.inputs[0].offset = x_offset;
    l.outputs[0].offset = y_offset;
    reduction_design(&l, &[x], &[y], mean)
}

/// How elements of a type are read, combined and written.
struct Element {
    elem: Elem,
    cell: Cell,
    mem: Mem,
    /// Of a reduction over them.
    body: Body,
}

impl Element {
    fn of(elem: Elem, combine: Combine) -> Result<Element, String> {
        if elem.is_complex() {
            return Err(format!("there is no GPU kernel for {elem}"));
        }
        let elem = if elem == Elem::Bool { Elem::U8 } else { elem };
        let lane = lane(elem).map_err(|e| e.to_string())?;
        let wide = matches!(lane.mem, Mem::W32 | Mem::W64);
        let l = plain(elem, vec![Dim::ONE], 1, combine, vec![Dim::ONE]);
        let body = Body::new(&l).map_err(|e| e.to_string())?;
        Ok(Element { elem, cell: cell(lane.mem, if wide { lane.ty } else { Ty::I32 }), mem: lane.mem, body })
    }

    fn load<'c>(&self, b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>) -> Result<V<'c>, String> {
        let v = m.load(b, at);
        let v = extended(b, v, self.mem);
        apply(b, &self.body.code, &[v])
    }

    fn store<'c>(&self, b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>, v: V<'c>) -> Result<(), String> {
        let v = apply(b, &self.body.finishes[0], &[v])?;
        m.store(b, at, v);
        Ok(())
    }
}

/// `(outer, inner)` of line `i`, and where the line begins in `[outer, n, inner]`.
fn line<'c>(b: &mut Build<'c>, i: V<'c>, n: V<'c>, inner: V<'c>) -> V<'c> {
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
        let ty = e.body.code.ty(e.body.code.results[0]);
        // Floats beyond the last finite value are never chosen.
        let start = match (e.elem, min) {
            (Elem::F64, _) => b.constant(if min { f64::MAX } else { f64::MIN }.to_bits(), ty),
            (Elem::F16, _) => b.f32(if min { 65504.0 } else { -65504.0 }),
            (Elem::BF16, _) => b.f32(f32::from_bits(if min { 0x7f7f_0000 } else { 0xff7f_0000 })),
            (Elem::F32, _) => b.f32(if min { f32::MAX } else { f32::MIN }),
            _ => b.constant(e.body.nest.identities[0], ty),
        };
        let how = if min { Cond::Lt } else { Cond::Gt };
        let unsigned = matches!(e.elem, Elem::U32 | Elem::U64);
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
                let better = if unsigned { b.ucmp(how, v, best[0]) } else { b.cmp(how, v, best[0]) };
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
    let e = Element::of(elem_of(a.int("elem"))?, if prod { Combine::Prod } else { Combine::Sum })?;
    let [outer, n, inner] = ["outer", "n", "inner"].map(|name| a.dim(name));
    let d = Design::items(format!("cumulate {} {prod} {exclusive} {reverse}", e.elem), &outer * &inner, move |b, s| {
        let (x, y) = (s.buffer(b, "x", e.cell)?, s.buffer(b, "y", e.cell)?);
        let [n, inner, count] = ["n", "inner", "count"].map(|name| s.int(b, name));
        let start = b.constant(e.body.nest.identities[0], e.body.code.ty(e.body.code.results[0]));
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

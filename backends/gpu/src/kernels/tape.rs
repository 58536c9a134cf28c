//! Fused loops: one item for each point of the axes that are not reduced, or a workgroup where there is much to reduce.

use super::{apply, indices, list, walk, wide, with_list};
use crate::build::{Build, Memory, V};
use crate::design::{Buffer, Design, Spec};
use crate::lanes::{self, cell, extended};
use crate::target::Cell;
use graphc_cpu::tape::code::{Cond, Mem, Op, Ty};
use graphc_cpu::tape::expand::lane;
use graphc_cpu::tape::{Body, complex};
use graphc_ir::Dim;
use graphc_passes::plan::{Access, Buf, Loop};
use std::sync::Arc;

/// Elements from which on a workgroup reduces them together.
const MANY: i64 = 256;
/// Threads of such a workgroup; a power of two.
pub const GROUP: i64 = 128;

/// An access of the loop: where it lies in memory, and in lanes.
pub struct Place {
    pub mem: Mem,
    ty: Ty,
    /// Whether it is walked as a row-major tensor of the loop's items.
    pub dense: bool,
}

pub struct Nest {
    body: Body,
    pub inputs: Vec<Place>,
    pub outputs: Vec<Place>,
    /// Axes of items, and reduced ones.
    pub outer: usize,
    inner: usize,
    /// The division of integer sums by the number of elements, where that is wanted.
    mean: Option<&'static str>,
    together: bool,
    /// Whether threads take several elements at a time.
    wide: bool,
}

pub fn design(l: &Loop, inputs: &[Buf], outputs: &[Buf]) -> Result<Design, String> {
    reduction_design(l, inputs, outputs, false)
}

/// A loop, with its sums divided by their number of elements if `mean`.
pub fn reduction_design(l: &Loop, inputs: &[Buf], outputs: &[Buf], mean: bool) -> Result<Design, String> {
    let split = complex::split(l).map_err(|e| e.to_string())?;
    let l = &split.l;
    let body = Body::new(l).map_err(|e| e.to_string())?;
    let bufs: Vec<Buf> = inputs.iter().chain(outputs).copied().collect();
    let outer = l.extents.len() - l.reduced;
    let reduced: Dim = l.extents[outer..].iter().product();
    let together = l.reduced > 0 && reduced.as_const().is_none_or(|n| n >= MANY);
    let count = l.extents[..outer].iter().product();
    let mut d = match together {
        true => Design::tasks(String::new(), GROUP, count, |_, _| Ok(())),
        false => Design::items(String::new(), count, |_, _| Ok(())),
    };
    d = d.int("reduced", reduced);
    d = with_list(d, "extent", &l.extents);
    let mut places = Vec::new();
    for (k, (a, &base)) in l.inputs.iter().chain(&l.outputs).zip(&split.bases).enumerate() {
        let lane = lane(a.elem).map_err(|e| e.to_string())?;
        let ty = if lane.mem == Mem::W32 || lane.mem == Mem::W64 { lane.ty } else { Ty::I32 };
        let dense = is_dense(a, &l.extents[..outer], l.reduced);
        // Parts of complex numbers are counted in parts.
        d = d.buffer(format!("b{k}"), bufs[base], a.offset.clone());
        if !dense {
            d = with_list(d, &format!("s{k}_"), &a.strides);
        }
        places.push(Place { mem: lane.mem, ty, dense });
    }
    let accesses: Vec<_> = places.iter().zip(l.inputs.iter().chain(&l.outputs)).map(|(p, a)| (p.dense, &a.strides[..])).collect();
    let wide = l.reduced == 0 && wide::fits(&l.extents, &accesses, &body.code);
    if wide {
        d.each = wide::WIDE;
    }
    let outputs = places.split_off(l.inputs.len());
    // The whole tape tells kernels apart; sizes are in the spec.
    let kinds: Vec<_> = l.inputs.iter().chain(&l.outputs).map(|a| a.elem).collect();
    d.name = format!(
        "loop {:?} {:?} {kinds:?} {} {:?} {mean} {together} {wide} ",
        l.tape.entries(),
        l.tape.outputs,
        l.reduced,
        l.combine
    );
    d.name.extend(places.iter().chain(&outputs).map(|p| if p.dense { 'd' } else { 's' }));
    let unsigned = l.outputs.iter().any(|a| a.elem.is_unsigned_int());
    let mean = mean.then_some(if unsigned { "arith.divui" } else { "arith.divsi" });
    let nest = Arc::new(Nest { body, inputs: places, outputs, outer, inner: l.reduced, mean, together, wide });
    d.write = Box::new(move |b, s| write(b, s, &nest));
    Ok(d)
}

fn is_dense(a: &Access, outer: &[Dim], reduced: usize) -> bool {
    let mut expect = Dim::ONE;
    let even = (0..outer.len()).rev().all(|k| {
        let even = outer[k].is_one() || a.strides[k] == expect;
        expect = &expect * &outer[k];
        even
    });
    even && a.strides[outer.len()..].iter().all(Dim::is_zero) && (reduced == 0 || !outer.is_empty())
}

fn write<'c>(b: &mut Build<'c>, s: &Spec, n: &Nest) -> Result<(), String> {
    let all = n.inputs.iter().chain(&n.outputs);
    let mut buffers = Vec::new();
    for (k, p) in all.enumerate() {
        buffers.push(s.buffer(b, &format!("b{k}"), cell(p.mem, p.ty))?);
    }
    if n.wide {
        return wide::write(b, s, n, &buffers);
    }
    let count = s.int(b, "count");
    let mut result = Ok(());
    if n.together {
        let thread = b.thread();
        let memory = n.body.combines.iter().map(|c| cell_of(c.ty(c.results[0]))).map(|cell| b.shared(cell, GROUP)).collect();
        let group = Group { thread, memory };
        b.tasks(count, |b, i| result = point(b, s, n, &buffers, i, Some(&group)));
    } else {
        b.items(count, |b, i| result = one(b, s, n, &buffers, i));
    }
    result
}

/// Point `i` of the axes that are not reduced, for a thread alone.
pub fn one<'c>(b: &mut Build<'c>, s: &Spec, n: &Nest, buffers: &[Buffer<'c>], i: V<'c>) -> Result<(), String> {
    point(b, s, n, buffers, i, None)
}

fn point<'c>(
    b: &mut Build<'c>,
    s: &Spec,
    n: &Nest,
    buffers: &[Buffer<'c>],
    i: V<'c>,
    group: Option<&Group<'c>>,
) -> Result<(), String> {
    let extents = list(b, s, "extent", n.outer + n.inner);
    let strides: Vec<Vec<V>> = (0..buffers.len()).map(|k| list(b, s, &format!("s{k}_"), n.outer + n.inner)).collect();
    let index = indices(b, i, &extents[..n.outer]);
    let places = n.inputs.iter().chain(&n.outputs).zip(&strides);
    let at: Vec<V> = places.map(|(p, s)| if p.dense { i } else { walk(b, &index, s) }).collect();
    let point = Point { n, buffers, at: &at, index: &index, extents: &extents, strides: &strides };
    if n.inner == 0 { store_all(b, &point) } else { reduction(b, s, &point, group) }
}

/// The threads that reduce together, with a word of memory each for every output.
struct Group<'c> {
    thread: V<'c>,
    memory: Vec<Memory<'c>>,
}

/// One point of the axes that are not reduced.
struct Point<'a, 'c> {
    n: &'a Nest,
    buffers: &'a [Buffer<'c>],
    /// Where each access is.
    at: &'a [V<'c>],
    index: &'a [V<'c>],
    extents: &'a [V<'c>],
    strides: &'a [Vec<V<'c>>],
}

/// A cell that holds lanes of type `ty`.
fn cell_of(ty: Ty) -> Cell {
    match ty {
        Ty::F32 => Cell::F32,
        Ty::F64 => Cell::F64,
        Ty::I64 => Cell::I64,
        Ty::I32 | Ty::Mask => Cell::I32,
    }
}

fn store_all<'c>(b: &mut Build<'c>, p: &Point<'_, 'c>) -> Result<(), String> {
    let values = iteration(b, p.n, p.buffers, p.at, p.index)?;
    (p.n.inputs.len()..).zip(values).for_each(|(k, v)| p.buffers[k].store(b, p.at[k], v));
    Ok(())
}

/// The values of one iteration whose elements lie at `at`.
fn iteration<'c>(b: &mut Build<'c>, n: &Nest, buffers: &[Buffer<'c>], at: &[V<'c>], index: &[V<'c>]) -> Result<Vec<V<'c>>, String> {
    let load = &mut |b: &mut Build<'c>, k: usize| {
        let v = buffers[k].load(b, at[k]);
        extended(b, v, n.inputs[k].mem)
    };
    value_of(b, n, load, index)
}

/// The values of the iteration at `index`, of which `load` gives the elements.
pub fn value_of<'c>(
    b: &mut Build<'c>,
    n: &Nest,
    load: &mut dyn FnMut(&mut Build<'c>, usize) -> V<'c>,
    index: &[V<'c>],
) -> Result<Vec<V<'c>>, String> {
    lanes::run(b, &n.body.code, &mut |b, op, ty| match *op {
        Op::Load(k) => load(b, k as usize),
        Op::Index(a) => {
            let i = index.get(a as usize).copied().unwrap_or_else(|| b.i32(0));
            if ty == Ty::I64 { b.wide(i) } else { i }
        }
        _ => b.constant(0, ty),
    })
}

/// Reduces what belongs to one point: alone and in order, or with the threads of a group, in an order that only the extents decide.
fn reduction<'c>(b: &mut Build<'c>, s: &Spec, p: &Point<'_, 'c>, group: Option<&Group<'c>>) -> Result<(), String> {
    let combines = &p.n.body.combines;
    let init: Vec<V> =
        p.n.body.nest.identities.iter().zip(combines).map(|(&bits, c)| b.constant(bits, c.ty(c.results[0]))).collect();
    let mut result = Ok(());
    let mut add = |b: &mut Build<'c>, inner: &[V<'c>], sums: &[V<'c>]| match added(b, p, inner, sums) {
        Ok(next) => next,
        Err(e) => {
            result = Err(e);
            sums.to_vec()
        }
    };
    let sums = match group {
        None => nested(b, p, &[], &init, &mut add),
        Some(g) => {
            let (count, step) = (s.int(b, "reduced"), b.i32(GROUP));
            let inner = &p.extents[p.n.outer..];
            b.repeat(g.thread, count, step, &init, &mut |b, i, sums| {
                let index = indices(b, i, inner);
                add(b, &index, sums)
            })
        }
    };
    result?;
    let mut finished = Vec::new();
    for (k, sum) in sums.into_iter().enumerate() {
        let sum = match group {
            None => sum,
            Some(g) => together(b, g.thread, &g.memory[k], sum, &mut |b, x, y| apply(b, &combines[k], &[x, y]))?,
        };
        let sum = match p.n.mean {
            Some(division) => mean(b, division, sum, s.int(b, "reduced")),
            None => sum,
        };
        finished.push(apply(b, &p.n.body.finishes[k], &[sum])?);
    }
    let first = match group {
        None => b.bool(true),
        Some(g) => b.cmp(Cond::Eq, g.thread, b.i32(0)),
    };
    b.when(first, |b| (p.n.inputs.len()..).zip(finished).for_each(|(k, v)| p.buffers[k].store(b, p.at[k], v)));
    Ok(())
}

/// `sums` with the element at the reduced indices `inner` of the point.
fn added<'c>(b: &mut Build<'c>, p: &Point<'_, 'c>, inner: &[V<'c>], sums: &[V<'c>]) -> Result<Vec<V<'c>>, String> {
    let mut at = Vec::new();
    for (&from, strides) in p.at.iter().zip(p.strides) {
        let step = walk(b, inner, &strides[p.n.outer..]);
        at.push(b.add(from, step));
    }
    let values = iteration(b, p.n, p.buffers, &at, &[p.index, inner].concat())?;
    sums.iter().zip(values).zip(&p.n.body.combines).map(|((&sum, v), combine)| apply(b, combine, &[sum, v])).collect()
}

/// What `combine` makes of the values of all [`GROUP`] threads, for each of them.
///
/// # Errors
/// Those of `combine`.
pub fn together<'c>(
    b: &mut Build<'c>,
    thread: V<'c>,
    memory: &Memory<'c>,
    v: V<'c>,
    combine: &mut dyn FnMut(&mut Build<'c>, V<'c>, V<'c>) -> Result<V<'c>, String>,
) -> Result<V<'c>, String> {
    b.store(*memory, thread, v);
    b.barrier();
    let (mut width, mut result) = (GROUP / 2, Ok(()));
    while width > 0 {
        let half = b.i32(width);
        let active = b.lt(thread, half);
        b.when(active, |b| {
            let other = b.add(thread, half);
            let (x, y) = (b.load(*memory, thread), b.load(*memory, other));
            match combine(b, x, y) {
                Ok(v) => b.store(*memory, thread, v),
                Err(e) => result = Err(e),
            }
        });
        b.barrier();
        width /= 2;
    }
    result?;
    let zero = b.i32(0);
    let v = b.load(*memory, zero);
    // The memory may be written again only when all have read.
    b.barrier();
    Ok(v)
}

/// A sum divided by a count; integers truncate, and nothing has the mean 0 in them.
fn mean<'c>(b: &mut Build<'c>, division: &str, sum: V<'c>, count: V<'c>) -> V<'c> {
    if sum.ty.is_float() {
        let n = b.unary("arith.sitofp", count, sum.ty);
        return b.div(sum, n);
    }
    let one = b.i32(1);
    let n = b.max(count, one);
    let n = if sum.ty == Ty::I64 { b.wide(n) } else { n };
    b.arith(division, sum, n)
}

type Inner<'a, 'c> = &'a mut dyn FnMut(&mut Build<'c>, &[V<'c>], &[V<'c>]) -> Vec<V<'c>>;

/// The loops over the reduced axes behind those with the indices `before`.
fn nested<'c>(b: &mut Build<'c>, p: &Point<'_, 'c>, before: &[V<'c>], init: &[V<'c>], inner: Inner<'_, 'c>) -> Vec<V<'c>> {
    if before.len() == p.n.inner {
        return inner(b, before, init);
    }
    let (zero, one, extent) = (b.i32(0), b.i32(1), p.extents[p.n.outer + before.len()]);
    b.repeat(zero, extent, one, init, &mut |b, i, sums| nested(b, p, &[before, &[i]].concat(), sums, inner))
}

//! Fused loops that take several neighbouring elements at a time, with one access to memory for all of them where they lie side by side.

use super::tape::{Nest, value_of};
use super::{indices, list, walk};
use crate::build::{Build, V};
use crate::design::{Buffer, Spec};
use crate::lanes::extended;
use graphc_cpu::tape::code::{Code, Op};
use graphc_ir::Dim;

/// Elements that a thread takes at a time: 16 bytes of f32.
pub const WIDE: i64 = 4;
/// Elements below which there are more threads than work.
const FEW: i64 = 4096;
/// Operations above which a loop computes more than it loads, and its code would be long. Functions of a library are longer than that.
const LONG: usize = 60;

/// Whether a loop over `extents` whose accesses have these strides goes so: in rows of a multiple of [`WIDE`] elements, or as one row where all
/// accesses are walked from end to end, or stay where they are.
pub fn fits(extents: &[Dim], accesses: &[(bool, &[Dim])], code: &Code) -> bool {
    let count: Dim = extents.iter().product();
    let Some(last) = extents.last() else { return false };
    let calls = code.ops().iter().any(|(op, _)| matches!(op, Op::Call(..)));
    if calls || code.ops().len() > LONG || count.as_const().is_some_and(|n| n < FEW) {
        return false;
    }
    let rows = last.as_const().is_some_and(|n| n % WIDE == 0);
    rows || flat(extents.len(), accesses.iter().map(|(dense, s)| *dense || s.iter().all(Dim::is_zero)), code)
}

fn flat(axes: usize, mut walked: impl Iterator<Item = bool>, code: &Code) -> bool {
    let by_index = code.ops().iter().any(|(op, _)| matches!(op, Op::Index(_)));
    walked.all(|w| w) && (axes == 1 || !by_index)
}

/// How the elements of an access lie.
enum Lie<'c> {
    /// All are one.
    Same,
    /// Side by side, from an even place on.
    Together,
    /// By their distance.
    Apart(V<'c>),
}

pub fn write<'c>(b: &mut Build<'c>, s: &Spec, n: &Nest, buffers: &[Buffer<'c>]) -> Result<(), String> {
    let (count, wide) = (s.int(b, "count"), b.i32(WIDE));
    let groups = b.quot(count, wide);
    let mut result = Ok(());
    b.items(groups, |b, group| {
        let first = b.mul(group, wide);
        result = group_of(b, s, n, buffers, first);
    });
    result?;
    let done = b.mul(groups, wide);
    let rest = b.sub(count, done);
    let mut result = Ok(());
    b.items(rest, |b, i| {
        let i = b.add(done, i);
        result = super::tape::one(b, s, n, buffers, i);
    });
    result
}

/// Elements `first` to `first + WIDE`.
fn group_of<'c>(b: &mut Build<'c>, s: &Spec, n: &Nest, buffers: &[Buffer<'c>], first: V<'c>) -> Result<(), String> {
    let extents = list(b, s, "extent", n.outer);
    let index = indices(b, first, &extents);
    let last = n.outer - 1;
    let mut places = Vec::new();
    for (k, p) in n.inputs.iter().chain(&n.outputs).enumerate() {
        let even = s.first(&format!("b{k}")).is_some_and(|v| v % WIDE == 0);
        if p.dense {
            let one = b.i32(1);
            places.push((first, if even { Lie::Together } else { Lie::Apart(one) }));
            continue;
        }
        let strides = list(b, s, &format!("s{k}_"), n.outer);
        let at = walk(b, &index, &strides);
        let even = even && (0..last).all(|a| extents[a].known() == Some(1) || strides[a].known().is_some_and(|s| s % WIDE == 0));
        let still = strides.iter().zip(&extents).all(|(s, e)| s.known() == Some(0) || e.known() == Some(1));
        places.push(match strides[last].known() {
            _ if still => (at, Lie::Same),
            Some(0) => (at, Lie::Same),
            Some(1) if even => (at, Lie::Together),
            _ => (at, Lie::Apart(strides[last])),
        });
    }
    let (inputs, outputs) = places.split_at(n.inputs.len());
    let mut loaded: Vec<Vec<V>> = Vec::new();
    for (k, (at, lie)) in inputs.iter().enumerate() {
        let values = match lie {
            Lie::Same => vec![buffers[k].load(b, *at); WIDE as usize],
            Lie::Together => buffers[k].load_side_by_side(b, *at, WIDE),
            Lie::Apart(step) => {
                let mut each = Vec::new();
                for l in 0..WIDE {
                    let at = away(b, *at, *step, l);
                    each.push(buffers[k].load(b, at));
                }
                each
            }
        };
        loaded.push(values.into_iter().map(|v| extended(b, v, n.inputs[k].mem)).collect());
    }
    let mut results: Vec<Vec<V>> = vec![Vec::new(); outputs.len()];
    for l in 0..WIDE {
        let mut index = index.clone();
        let lane = b.i32(l);
        index[last] = b.add(index[last], lane);
        let values = value_of(b, n, &mut |_, k| loaded[k][l as usize], &index)?;
        results.iter_mut().zip(values).for_each(|(r, v)| r.push(v));
    }
    for (k, ((at, lie), values)) in outputs.iter().zip(results).enumerate() {
        let buffer = &buffers[n.inputs.len() + k];
        match lie {
            Lie::Together => buffer.store_side_by_side(b, *at, &values),
            Lie::Same => values.iter().for_each(|&v| buffer.store(b, *at, v)),
            Lie::Apart(step) => {
                for (l, &v) in (0..).zip(&values) {
                    let at = away(b, *at, *step, l);
                    buffer.store(b, at, v);
                }
            }
        }
    }
    Ok(())
}

/// The place `l` steps from `at`.
fn away<'c>(b: &mut Build<'c>, at: V<'c>, step: V<'c>, l: i64) -> V<'c> {
    let lane = b.i32(l);
    let by = b.mul(step, lane);
    b.add(at, by)
}

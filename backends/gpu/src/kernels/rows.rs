//! Rows by workgroups: softmax and normalisation.

use super::apply;
use super::tape::{GROUP, together};
use crate::build::{Build, Memory, V};
use crate::design::{Args, Design, Spec};
use crate::target::Cell;
use graphc_cpu::tape::code::{Code, Ty};
use graphc_cpu::tape::expand::expand;
use graphc_ir::Elem;
use graphc_ir::tape::{Bin, Tape, Un};

/// Lane code of a function of one number.
///
/// # Errors
/// If there is none.
pub fn unary(op: Un, elem: Elem) -> Result<Code, String> {
    let mut t = Tape::default();
    let x = t.load(0, elem);
    let y = t.un(op, x);
    t.outputs.push(y);
    expand(&t).map_err(|e| e.to_string())
}

/// Lane code of a function of two numbers.
///
/// # Errors
/// If there is none.
pub fn binary(op: Bin, elem: Elem) -> Result<Code, String> {
    let mut t = Tape::default();
    let (x, y) = (t.load(0, elem), t.load(1, elem));
    let z = t.bin(op, x, y);
    t.outputs.push(z);
    expand(&t).map_err(|e| e.to_string())
}

/// One row, as a thread of its workgroup sees it.
struct Row<'c> {
    thread: V<'c>,
    n: V<'c>,
    /// Where it begins.
    first: V<'c>,
    memory: Memory<'c>,
}

impl<'c> Row<'c> {
    fn begin(b: &mut Build<'c>, s: &Spec, cell: Cell) -> Row<'c> {
        Row { thread: b.thread(), n: s.int(b, "n"), first: b.i32(0), memory: b.shared(cell, GROUP) }
    }

    fn at(&self, b: &mut Build<'c>, row: V<'c>) -> Row<'c> {
        Row { first: b.mul(row, self.n), ..*self }
    }

    /// What `combine` makes of the values at all places of the row, for all threads; `value` is given the place in the buffers.
    fn all(
        &self,
        b: &mut Build<'c>,
        init: V<'c>,
        value: &mut dyn FnMut(&mut Build<'c>, V<'c>) -> Result<V<'c>, String>,
        combine: &mut dyn FnMut(&mut Build<'c>, V<'c>, V<'c>) -> Result<V<'c>, String>,
    ) -> Result<V<'c>, String> {
        let (step, mut result) = (b.i32(GROUP), Ok(()));
        let part = b.repeat(self.thread, self.n, step, &[init], &mut |b, k, sum| {
            let at = b.add(self.first, k);
            match value(b, at).and_then(|v| combine(b, sum[0], v)) {
                Ok(v) => vec![v],
                Err(e) => {
                    result = Err(e);
                    sum.to_vec()
                }
            }
        });
        result?;
        together(b, self.thread, &self.memory, part[0], combine)
    }

    /// Runs `body` for each place of the row: the place in the buffers, and in the row.
    fn each(&self, b: &mut Build<'c>, body: impl FnOnce(&mut Build<'c>, V<'c>, V<'c>)) {
        let step = b.i32(GROUP);
        b.each(self.thread, self.n, step, |b, k| {
            let at = b.add(self.first, k);
            body(b, at, k);
        });
    }
}

pub fn softmax(a: &Args) -> Result<Design, String> {
    if a.has("mask") || a.real("scale") != 0.0 {
        return Err("there is no GPU kernel for softmax with a mask".into());
    }
    let wide = a.symbol == "gc_softmax_f64";
    let (cell, elem) = if wide { (Cell::F64, Elem::F64) } else { (Cell::F32, Elem::F32) };
    let log = a.int("log") != 0;
    let (exp, ln, max) = (unary(Un::Exp, elem)?, unary(Un::Log, elem)?, binary(Bin::Max, elem)?);
    let d = Design::tasks(format!("softmax {elem} {log}"), GROUP, a.dim("rows"), move |b, s| {
        let (x, y, rows) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?, s.int(b, "count"));
        let row = Row::begin(b, s, cell);
        let mut result = Ok(());
        b.tasks(rows, |b, r| {
            result = attempt(|| {
                let row = row.at(b, r);
                let lowest = b
                    .constant(if wide { f64::NEG_INFINITY.to_bits() } else { u64::from(f32::NEG_INFINITY.to_bits()) }, cell.lane());
                let zero = b.constant(0, cell.lane());
                let greatest = row.all(b, lowest, &mut |b, at| Ok(x.load(b, at)), &mut |b, x, y| apply(b, &max, &[x, y]))?;
                let sum = row.all(
                    b,
                    zero,
                    &mut |b, at| {
                        let v = x.load(b, at);
                        let v = b.sub(v, greatest);
                        apply(b, &exp, &[v])
                    },
                    &mut |b, x, y| Ok(b.add(x, y)),
                )?;
                let scale = if log {
                    apply(b, &ln, &[sum])?
                } else {
                    let one = b.constant(if wide { 1f64.to_bits() } else { u64::from(1f32.to_bits()) }, cell.lane());
                    b.div(one, sum)
                };
                let mut end = Ok(());
                row.each(b, |b, at, _| {
                    let v = x.load(b, at);
                    let v = b.sub(v, greatest);
                    let v = if log { Ok(b.sub(v, scale)) } else { apply(b, &exp, &[v]).map(|v| b.mul(v, scale)) };
                    match v {
                        Ok(v) => y.store(b, at, v),
                        Err(e) => end = Err(e),
                    }
                });
                end
            });
        });
        result
    });
    Ok(a.buffers(d.int("n", a.dim("n")), &["x", "y"]))
}

/// What `f` gives: for the operator `?` where only a callback is at hand.
fn attempt(f: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    f()
}

pub fn layer_norm(a: &Args) -> Result<Design, String> {
    if a.has("residual") || a.has("sum") {
        return Err("there is no GPU kernel for a normalisation with a residual".into());
    }
    let (rms, eps, cell) = (a.int("rms") != 0, a.real("eps") as f32, Cell::F32);
    let d = Design::tasks(
        format!("layer_norm {rms} {:x} {} {}", eps.to_bits(), a.has("gamma"), a.has("beta")),
        GROUP,
        a.dim("rows"),
        move |b, s| {
            let (x, y, rows) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?, s.int(b, "count"));
            let gamma = s.has("gamma").then(|| s.buffer(b, "gamma", cell)).transpose()?;
            let beta = s.has("beta").then(|| s.buffer(b, "beta", cell)).transpose()?;
            let row = Row::begin(b, s, cell);
            let n = b.unary("arith.sitofp", row.n, Ty::F32);
            let mut result = Ok(());
            b.tasks(rows, |b, r| {
                let row = row.at(b, r);
                let zero = b.f32(0.0);
                result = attempt(|| {
                    let mean = if rms {
                        zero
                    } else {
                        let sum = row.all(b, zero, &mut |b, at| Ok(x.load(b, at)), &mut |b, x, y| Ok(b.add(x, y)))?;
                        b.div(sum, n)
                    };
                    let squares = row.all(
                        b,
                        zero,
                        &mut |b, at| {
                            let v = x.load(b, at);
                            let v = b.sub(v, mean);
                            Ok(b.mul(v, v))
                        },
                        &mut |b, x, y| Ok(b.add(x, y)),
                    )?;
                    let variance = b.div(squares, n);
                    let variance = b.add(variance, b.f32(eps));
                    let root = b.unary("math.sqrt", variance, Ty::F32);
                    let scale = b.div(b.f32(1.0), root);
                    row.each(b, |b, at, k| {
                        let v = x.load(b, at);
                        let v = b.sub(v, mean);
                        let mut v = b.mul(v, scale);
                        if let Some(g) = gamma {
                            let g = g.load(b, k);
                            v = b.mul(v, g);
                        }
                        if let Some(t) = beta {
                            let t = t.load(b, k);
                            v = b.add(v, t);
                        }
                        y.store(b, at, v);
                    });
                    Ok(())
                });
            });
            result
        },
    );
    Ok(a.buffers(d.int("n", a.dim("n")), &["x", "gamma", "beta", "y"]))
}

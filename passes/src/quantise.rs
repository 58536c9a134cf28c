//! Matrix work in 8-bit integers, where a graph says how its numbers are quantised and that is asked for.

use crate::dce;
use crate::pass::{Diag, Pass, PassCx};
use crate::precision::{Precision, Readers, eligible, is_max_pool, readers};
use graphc_ir::builder::{Rewrite, rewrite};
use graphc_ir::{Attrs, Builder, Elem, Func, Inst, InstData, Loc, Module, Op, Tensor, Value};
use hashbrown::HashMap;

/// With [`Precision::Int8`] and a target that multiplies integers, gives contractions and convolutions integer factors where the first
/// factor is fake-quantised to at most 8 bits and the second is a constant on a grid of steps, one grid a column. A result that is
/// fake-quantised next leaves the work as integers.
///
/// Leaves none of that kind with f32 factors. Runs after epilogues are in place and before loops are fused.
pub struct Quantise;

impl Pass for Quantise {
    fn name(&self) -> &'static str {
        "quantise"
    }

    fn run(&self, m: &mut Module, cx: &PassCx) -> Result<usize, Diag> {
        if cx.precision != Precision::Int8 || !cx.target.has_int8_dots() {
            return Ok(0);
        }
        let mut changed = 0;
        for f in &mut m.funcs {
            changed += quantise(f).map_err(|message| Diag { pass: self.name(), loc: Loc::default(), message })?;
        }
        if changed > 0 {
            dce::Dce.run(m, cx)?;
        }
        Ok(changed)
    }
}

/// Numbers in a word of a factor.
const PER_WORD: i64 = 4;
/// Most terms of a sum, so that it fits.
const MOST_TERMS: usize = 60_000;

/// How reals become unsigned integers: `integer = real / step + zero`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Steps {
    step: f64,
    zero: f64,
    /// The greatest integer; the least is 0.
    most: f64,
    half_up: bool,
}

impl Steps {
    /// Of fake quantisation to at most 256 steps.
    fn of(d: &InstData) -> Option<Steps> {
        let step = d.attrs.real("step");
        let (lo, hi) = ((d.attrs.real("lo") / step).round(), (d.attrs.real("hi") / step).round());
        let s = Steps { step, zero: 0.0 - lo, most: hi - lo, half_up: d.attrs.flag("half_up") || d.attrs.flag("half_away") };
        (d.op == Op::FakeQuant && step > 0.0 && (1.0..=255.0).contains(&s.most) && (0.0..=s.most).contains(&s.zero)).then_some(s)
    }

    fn attrs(&self, a: Attrs) -> Attrs {
        let a = a.with("y_rate", f64::from((1.0 / self.step) as f32)).with("y_zero", self.zero);
        a.with("y_lo", 0.0).with("y_hi", self.most).with("y_half_up", self.half_up)
    }

    /// `q` as f32 again.
    fn reals(&self, b: &mut Builder, q: Value) -> Result<Value, String> {
        let x = b.cast(q, Elem::F32)?;
        let (zero, step) = (b.scalar(self.zero, Elem::F32)?, b.scalar(self.step, Elem::F32)?);
        let x = if self.zero == 0.0 { x } else { b.bin(Op::Sub, x, zero)? };
        b.bin(Op::Mul, x, step)
    }
}

/// True for ops that only move elements, so that what they give is quantised as what they take.
fn moves(d: &InstData) -> bool {
    matches!(d.op, Op::Reshape | Op::Transpose | Op::Slice)
}

/// The fake quantisation that `v` comes from.
fn root(f: &Func, mut v: Value) -> Option<(Inst, Steps)> {
    loop {
        let i = f.def_inst(v)?;
        let d = f.inst(i);
        if moves(d) || is_max_pool(d) {
            v = d.operands[0];
            continue;
        }
        return Steps::of(d).map(|s| (i, s));
    }
}

/// A constant factor in integers.
#[derive(Clone)]
struct Grid {
    integers: Tensor,
    /// Of each column.
    steps: Vec<f64>,
    sums: Vec<i64>,
}

/// The axis of the columns of a constant factor.
fn column_axis(d: &InstData) -> usize {
    match d.op {
        Op::Conv2d => 3,
        _ => 1 - d.attrs.sizes("rhs").first().copied().unwrap_or(0).min(1),
    }
}

/// The integers of a matrix or filter of which each column holds whole multiples of a step, at most 127 of them.
fn grid(t: &Tensor, axis: usize) -> Option<Grid> {
    let values = t.as_slice::<f32>()?;
    let columns = *t.shape().get(axis)?;
    let inner: usize = t.shape()[axis + 1..].iter().product();
    if columns == 0 || values.is_empty() || values.len() / columns > MOST_TERMS {
        return None;
    }
    let numbers = || (0..columns).flat_map(|c| std::iter::repeat_n(c, inner)).cycle().zip(values.iter().copied());
    let mut most = vec![0f32; columns];
    for (c, v) in numbers() {
        if v.abs() > most[c] || v.is_nan() {
            most[c] = v.abs();
        }
    }
    // The largest number of a column is the end of its range more often than not.
    let mut steps: Vec<f64> = most.iter().map(|&m| if m == 0.0 { 1.0 } else { f64::from(m) / 127.0 }).collect();
    let mut off = vec![false; columns];
    for (c, v) in numbers() {
        off[c] |= !is_near(f64::from(v) / steps[c]);
    }
    // Else all of them have the step of one.
    let mut other = None;
    for c in (0..columns).filter(|&c| off[c]) {
        let places = (0..values.len()).skip(c * inner).step_by(columns * inner).flat_map(|from| from..from + inner);
        let column: Vec<f64> = places.map(|i| f64::from(values[i])).collect();
        steps[c] = other.filter(|&step| fits(&column, step)).or_else(|| step_of(&column))?;
        other = Some(steps[c]);
    }
    let mut integers = Vec::with_capacity(values.len());
    let mut sums = vec![0i64; columns];
    for (c, v) in numbers() {
        let q = nearest(f64::from(v) / steps[c]) as i8;
        sums[c] += i64::from(q);
        integers.push(q);
    }
    Some(Grid { integers: Tensor::from_slice(t.shape(), &integers)?, steps, sums })
}

/// The nearest integer, of reals that are not huge.
fn nearest(v: f64) -> f64 {
    // Where halves are the last bit; no processor needs a function for this.
    const HALVES: f64 = 1.5 * (1u64 << 52) as f64;
    (v + HALVES) - HALVES
}

/// True for integers of 8 bits, but for what rounding to f32 adds.
fn is_near(v: f64) -> bool {
    let q = nearest(v);
    (v - q).abs() <= 4e-3 && (-128.0..=127.0).contains(&q)
}

/// True where all `values` are multiples of a step.
fn fits(values: &[f64], step: f64) -> bool {
    values.iter().all(|v| is_near(v / step))
}

/// The greatest step of which all `values` are multiples, -128 to 127 of them, but for what rounding to f32 adds.
fn step_of(values: &[f64]) -> Option<f64> {
    let most = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    if !most.is_finite() {
        return None;
    }
    if most == 0.0 {
        return Some(1.0);
    }
    let mut sorted: Vec<f64> = values.iter().copied().chain([0.0]).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let gaps = sorted.windows(2).map(|w| w[1] - w[0]).filter(|&g| g > most / 1000.0);
    let gap = gaps.fold(f64::INFINITY, f64::min);
    // The nearest two may be several steps apart.
    (1..=8).find_map(|parts| {
        // By the greatest first, since errors of a small gap add up.
        let count = (most / gap * f64::from(parts)).round();
        let step = most / count;
        (count >= 1.0 && fits(values, step)).then_some(step)
    })
}

/// What becomes of a function.
#[derive(Default)]
struct Plan {
    work: HashMap<Inst, Grid>,
    /// Fake quantisations that become integers.
    quantised: HashMap<Inst, Steps>,
    /// Work whose result is quantised by the only reader.
    direct: HashMap<Inst, Steps>,
}

fn plan(f: &Func) -> Plan {
    let mut p = Plan::default();
    let mut grids: HashMap<(Value, usize), Option<Grid>> = HashMap::new();
    f.walk(f.body, &mut |f, _, i| {
        let d = f.inst(i);
        if !eligible(f, d, PER_WORD) {
            return;
        }
        let Some((quantisation, steps)) = root(f, d.operands[0]) else { return };
        let (w, axis) = (d.operands[1], column_axis(d));
        let of = || f.const_of(w).and_then(|t| grid(t, axis));
        if let Some(grid) = grids.entry((w, axis)).or_insert_with(of) {
            p.work.insert(i, grid.clone());
            p.quantised.insert(quantisation, steps);
        }
    });
    let (readers, leaving): Readers = readers(f);
    for (&i, &steps) in &p.quantised {
        let x = f.inst(i).operands[0];
        let producer = f.def_inst(x).filter(|w| p.work.contains_key(w));
        if let Some(w) = producer.filter(|_| !leaving.contains(&x) && readers.get(&x).is_some_and(|all| all.len() == 1)) {
            p.direct.insert(w, steps);
        }
    }
    p
}

fn quantise(f: &mut Func) -> Result<usize, String> {
    let p = plan(f);
    if p.work.is_empty() {
        return Ok(0);
    }
    // Values as reals, and the same as integers; what nobody reads of the two goes.
    let mut integers: HashMap<Value, (Value, Steps)> = HashMap::new();
    let body = f.body;
    rewrite(f, body, &mut |b, i| {
        let d = b.func.inst(i).clone();
        let known = d.operands.first().and_then(|x| integers.get(x).copied());
        if let Some(&steps) = p.quantised.get(&i) {
            let x = d.operands[0];
            if known.is_some_and(|(_, s)| s == steps) {
                return Ok(Rewrite::Replace(vec![x]));
            }
            let q = b.op(Op::Quantise, &[x], steps.attrs(Attrs::new()))?;
            let y = steps.reals(b, q)?;
            integers.insert(y, (q, steps));
            return Ok(Rewrite::Replace(vec![y]));
        }
        let Some((q, steps)) = known else { return Ok(Rewrite::Keep) };
        if moves(&d) {
            let moved = b.op(d.op, &[q], d.attrs.clone())?;
            let y = b.op(d.op, &d.operands, d.attrs)?;
            integers.insert(y, (moved, steps));
            return Ok(Rewrite::Replace(vec![y]));
        }
        if is_max_pool(&d) {
            // The greatest of steps is one of them.
            let y = b.op(d.op, &d.operands, d.attrs)?;
            let q = b.op(Op::Quantise, &[y], steps.attrs(Attrs::new()))?;
            integers.insert(y, (q, steps));
            return Ok(Rewrite::Replace(vec![y]));
        }
        let Some(grid) = p.work.get(&i) else { return Ok(Rewrite::Keep) };
        let y = integer_work(b, d, q, steps, grid, p.direct.get(&i))?;
        let Some(&out) = p.direct.get(&i) else { return Ok(Rewrite::Replace(vec![y])) };
        let reals = out.reals(b, y)?;
        integers.insert(reals, (y, out));
        Ok(Rewrite::Replace(vec![reals]))
    })
}

/// The work `d` on integers; its result is `out`'s integers, or f32.
fn integer_work(
    b: &mut Builder,
    mut d: InstData,
    x: Value,
    steps: Steps,
    grid: &Grid,
    out: Option<&Steps>,
) -> Result<Value, String> {
    let columns = grid.steps.len();
    let scale: Vec<f32> = grid.steps.iter().map(|w| (w * steps.step) as f32).collect();
    let shift: Vec<i32> = grid.sums.iter().map(|s| (-steps.zero as i64 * s) as i32).collect();
    let too_large = || "a product of too many columns".to_owned();
    let scale = Tensor::from_slice(&[columns], &scale).ok_or_else(too_large)?;
    let shift = Tensor::from_slice(&[columns], &shift).ok_or_else(too_large)?;
    let mut operands = vec![x, b.constant(grid.integers.clone()), b.constant(scale), b.constant(shift)];
    operands.extend_from_slice(&d.operands[2..]);
    d.attrs.set("scaled", true);
    d.attrs.set("elem", if out.is_some() { Elem::U8 } else { Elem::F32 });
    if d.op == Op::Conv2d {
        d.attrs.set("x_zero", steps.zero as i64);
    }
    let attrs = match out {
        Some(out) => out.attrs(d.attrs),
        None => d.attrs,
    };
    b.op(d.op, &operands, attrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_and_noise_is_not() {
        let on = |step: f64, q: &[i32]| q.iter().map(|&q| f64::from((f64::from(q) * step) as f32)).collect::<Vec<_>>();
        for step in [0.0123, 3.1e-5, 7.0] {
            let found = step_of(&on(step, &[-127, -3, 0, 2, 5, 90, 127])).unwrap();
            assert!((found / step - 1.0).abs() < 1e-6, "{found} for {step}");
            // Multiples of two steps and of three have one step in common.
            let found = step_of(&on(step, &[-6, -3, 0, 2, 4, 100])).unwrap();
            assert!((found / step - 1.0).abs() < 1e-6, "{found} for {step}");
        }
        assert_eq!(step_of(&[0.0; 4]), Some(1.0));
        assert_eq!(step_of(&on(0.5, &[-128, 200, 1])), None);
        let noise: Vec<f64> = (0..64).map(|i| (f64::from(i) * 1.7).sin()).collect();
        assert_eq!(step_of(&noise), None);
        assert_eq!(step_of(&[f64::NAN, 1.0]), None);
        assert_eq!(step_of(&[f64::INFINITY, 1.0]), None);
    }

    #[test]
    fn columns_have_grids_of_their_own() {
        let t = Tensor::from_slice(&[3, 2], &[0.5f32, 30.0, -1.0, 10.0, 63.5, 0.0]).unwrap();
        let g = grid(&t, 1).unwrap();
        assert_eq!(*g.integers.as_slice::<i8>().unwrap(), [1, 3, -2, 1, 127, 0]);
        assert_eq!((g.steps, g.sums), (vec![0.5, 10.0], vec![126, 4]));
        let g = grid(&t, 0);
        assert!(g.is_some_and(|g| g.sums.len() == 3));
    }
}

//! Reductions by a function of the graph.

use crate::attrs::Function;
use crate::call::Call;
use crate::error::invalid;
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, values};

pub(crate) const TABLE: Table = &[
    ("XlaReduce", reduce),
    ("XlaVariadicReduce", variadic_reduce),
    ("XlaVariadicReduceV2", variadic_reduce),
    ("XlaReduceWindow", reduce_window),
];

/// Combines accumulators and elements, pair by pair. A function of numbers works element by element on vectors as well; where it does
/// not give as many results as it was given, it is called for each pair.
fn combined(call: &Call, f: &Function, acc: &[Value], x: &[Value]) -> Result<Vec<Value>> {
    let n = acc.first().map_or(0, |v| v.shape().first().copied().unwrap_or(1));
    if n == 0 {
        return Ok(acc.to_vec());
    }
    let args: Vec<Value> = acc.iter().chain(x).cloned().collect();
    if n > 1
        && let Ok(out) = call.caller.call(f, args.clone(), call.step)
        && out.len() == acc.len()
        && out.iter().zip(acc).all(|(o, a)| o.shape() == a.shape() && o.elem() == a.elem())
    {
        return Ok(out);
    }
    let mut columns: Vec<Vec<Value>> = vec![Vec::with_capacity(n); acc.len()];
    for i in 0..n {
        let scalars = args.iter().map(|v| values::row(v, i)).collect::<Result<Vec<_>>>()?;
        let out = call.caller.call(f, scalars, call.step)?;
        if out.len() != acc.len() || out.iter().any(|v| !v.shape().is_empty()) {
            return Err(invalid("a reducer must give one scalar for each operand"));
        }
        columns.iter_mut().zip(out).for_each(|(c, v)| c.push(v));
    }
    let stacked = columns.iter().zip(acc).map(|(c, a)| values::stack(a.elem(), &[], &c.iter().collect::<Vec<_>>()));
    stacked.collect()
}

/// `n` times the same scalar.
fn repeated(v: &Value, n: usize) -> Result<Value> {
    if !v.shape().is_empty() {
        return Err(invalid("init_value must be a scalar"));
    }
    values::take(v, vec![n], &vec![0; n])
}

/// Reduces all operands together.
fn reduced(call: &Call, xs: &[Value], inits: &[Value]) -> Result {
    let first = xs.first().ok_or_else(|| invalid("nothing to reduce"))?;
    let shape = first.shape();
    if xs.iter().any(|v| v.shape() != shape) || xs.len() != inits.len() {
        return Err(invalid("operands of a reduction must have one shape, and an initial value each"));
    }
    let mut gone = vec![false; shape.len()];
    for d in call.attrs.ints("dimensions_to_reduce")? {
        let slot = usize::try_from(d).ok().and_then(|d| gone.get_mut(d));
        match slot {
            Some(slot) if !*slot => *slot = true,
            _ => return Err(invalid(format!("dimension {d} cannot be reduced in the shape {shape:?}"))),
        }
    }
    let pick = |want: bool| shape.iter().zip(&gone).filter(|(_, g)| **g == want).map(|(d, _)| *d).collect::<Vec<_>>();
    let (kept, reduced) = (pick(false), pick(true));
    let (n, rounds) = (limits::count(&kept)?, limits::count(&reduced)?);
    // The positions of all elements, those that are reduced together one after another.
    let lines = values::positions(&[reduced.as_slice(), &kept].concat(), |at| {
        let (r, k) = at.split_at(reduced.len());
        let (mut r, mut k) = (r.iter(), k.iter());
        shape.iter().zip(&gone).fold(0, |flat, (d, g)| flat * d + if *g { r.next() } else { k.next() }.copied().unwrap_or(0))
    })?;
    let f = call.attrs.function("reducer")?;
    let mut acc = inits.iter().map(|v| repeated(v, n)).collect::<Result<Vec<_>>>()?;
    for line in lines.chunks(n.max(1)).take(rounds) {
        call.step.check()?;
        let x = xs.iter().map(|v| values::take(v, vec![n], line)).collect::<Result<Vec<_>>>()?;
        acc = combined(call, &f, &acc, &x)?;
    }
    acc.iter().map(|v| values::reshaped(v, kept.clone())).collect()
}

fn reduce(call: &Call) -> Result {
    reduced(call, call.inputs.get(..1).unwrap_or_default(), call.inputs.get(1..2).unwrap_or_default())
}

fn variadic_reduce(call: &Call) -> Result {
    let (xs, inits) = call.inputs.split_at(call.inputs.len() / 2);
    reduced(call, xs, inits)
}

fn reduce_window(call: &Call) -> Result {
    let (x, init) = (call.input(0)?, call.input(1)?);
    let rank = x.shape().len();
    let sizes = |k: usize, least: i64| -> Result<Vec<i64>> {
        let v = call.ints(k)?;
        let good = v.len() == rank && v.iter().all(|&d| d >= least && d < 1 << 31);
        if good { Ok(v) } else { Err(invalid(format!("{v:?} does not describe a window of rank {rank}"))) }
    };
    let (window, strides, base, dilation) = (sizes(2, 1)?, sizes(3, 1)?, sizes(4, 1)?, sizes(5, 1)?);
    let padding = call.ints(6)?;
    if call.tensor(6)?.shape() != [rank, 2] {
        return Err(invalid(format!("padding must have the shape [{rank}, 2]")));
    }
    let mut out = Vec::with_capacity(rank);
    for d in 0..rank {
        let (low, high) = (padding[2 * d], padding[2 * d + 1]);
        let n = x.shape()[d] as i64;
        let wide = if n == 0 { 0 } else { (n - 1).saturating_mul(base[d]) + 1 }.saturating_add(low).saturating_add(high);
        let reach = (window[d] - 1).saturating_mul(dilation[d]).saturating_add(1);
        out.push(if wide < reach { 0 } else { ((wide - reach) / strides[d] + 1) as usize });
    }
    let n = limits::count(&out)?;
    let f = call.attrs.function("computation")?;
    let mut acc = repeated(init, n)?;
    let offsets: Vec<usize> = window.iter().map(|&w| w as usize).collect();
    let mut windows: Vec<Vec<i64>> = Vec::new();
    values::positions(&offsets, |at| {
        windows.push(at.iter().map(|&i| i as i64).collect());
        0
    })?;
    for offset in windows {
        call.step.check()?;
        // Where the window's element lies on one of the operand; padding and the gaps between elements are left out.
        let from = values::positions(&out, |at| {
            let mut flat = 0usize;
            for d in 0..rank {
                let p = at[d] as i64 * strides[d] + offset[d] * dilation[d] - padding[2 * d];
                let n = x.shape()[d];
                match usize::try_from(p).ok().filter(|p| p % base[d] as usize == 0).map(|p| p / base[d] as usize) {
                    Some(p) if p < n => flat = flat * n + p,
                    _ => return usize::MAX,
                }
            }
            flat
        })?;
        let inside: Vec<usize> = (0..n).filter(|&i| from[i] != usize::MAX).collect();
        let picked: Vec<usize> = inside.iter().map(|&i| from[i]).collect();
        let (a, b) = (values::take(&acc, vec![inside.len()], &inside)?, values::take(x, vec![picked.len()], &picked)?);
        let now = combined(call, &f, &[a], &[b])?;
        let now = now.first().ok_or_else(|| invalid("a computation must have a result"))?;
        let both = values::join(acc.elem(), vec![n + inside.len()], &[&acc, now])?;
        let mut order: Vec<usize> = (0..n).collect();
        inside.iter().enumerate().for_each(|(k, &i)| order[i] = n + k);
        acc = values::take(&both, vec![n], &order)?;
    }
    Ok(vec![values::reshaped(&acc, out)?])
}

//! Sorts, by the order of numbers or by a function of the graph.

use crate::attrs::Function;
use crate::call::Call;
use crate::elements::by_real;
use crate::error::invalid;
use crate::limits;
use crate::value::Value;
use crate::{Result, Table, values};
use graphc_ir::Tensor;
use std::cmp::Ordering;

pub(crate) const TABLE: Table = &[("XlaSort", sort), ("XlaKeyValueSort", key_value_sort), ("XlaVariadicSort", variadic_sort)];

/// An order of all values of a type: a NaN is greater than every number, or less if it is negative.
trait Total: Copy {
    fn total(&self, o: &Self) -> Ordering;
}

macro_rules! total {
    (ints: $($i:ty)*; floats: $($f:ty)*) => {
        $(impl Total for $i { fn total(&self, o: &$i) -> Ordering { self.cmp(o) } })*
        $(impl Total for $f { fn total(&self, o: &$f) -> Ordering { self.total_cmp(o) } })*
    };
}
total!(ints: i8 i16 i32 i64 u8 u16 u32 u64; floats: f32 f64 half::f16 half::bf16);

/// For each position of the result, the position of the element that comes there: lines of `n` are each sorted.
fn ranks(keys: &Tensor, n: usize) -> Result<Vec<usize>> {
    by_real!(keys.elem(), T => {
        let keys = keys.as_slice::<T>().unwrap_or_default();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        for line in order.chunks_mut(n.max(1)) {
            line.sort_by(|&a, &b| keys[a].total(&keys[b]));
        }
        Ok(order)
    })
}

fn sort(call: &Call) -> Result {
    let keys = call.tensor(0)?;
    let n = *keys.shape().last().ok_or_else(|| invalid("a scalar cannot be sorted"))?;
    Ok(vec![values::take(call.input(0)?, keys.shape().to_vec(), &ranks(keys, n)?)?])
}

fn key_value_sort(call: &Call) -> Result {
    let (keys, v) = (call.tensor(0)?, call.input(1)?);
    let n = *keys.shape().last().ok_or_else(|| invalid("a scalar cannot be sorted"))?;
    if v.shape() != keys.shape() {
        return Err(invalid(format!("keys of shape {:?} and values of shape {:?}", keys.shape(), v.shape())));
    }
    let order = ranks(keys, n)?;
    let sorted = |v: &Value| values::take(v, v.shape().to_vec(), &order);
    Ok(vec![sorted(call.input(0)?)?, sorted(v)?])
}

/// The pairs of positions that a sorting network compares, step by step; those of one step do not touch each other.
fn network(n: usize) -> Vec<Vec<(usize, usize)>> {
    let mut steps = Vec::new();
    if n < 2 {
        return steps;
    }
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            steps.push((0..n.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)).collect());
            if q == p {
                break;
            }
            d = q - p;
            q /= 2;
            r = p;
        }
        p /= 2;
    }
    steps
}

/// Calls the comparator for pairs of elements.
struct Comparator<'a> {
    call: &'a Call<'a>,
    function: Function,
    operands: &'a [Value],
}

/// Up to how many pairs the comparator is called for one by one, as it is written.
const FEW: usize = 4096;

impl Comparator<'_> {
    fn pair(&self, a: usize, b: usize) -> Result<bool> {
        let mut args = Vec::with_capacity(2 * self.operands.len());
        for v in self.operands {
            args.push(values::take(v, Vec::new(), &[a])?);
            args.push(values::take(v, Vec::new(), &[b])?);
        }
        let out = self.call.caller.call(&self.function, args, self.call.step)?;
        let less = out.first().and_then(Value::as_tensor).and_then(Tensor::as_bools);
        match less.as_deref() {
            Some([less]) => Ok(*less),
            _ => Err(invalid("a comparator must give one bool")),
        }
    }

    /// Whether the first of each pair goes before the second. Functions of numbers work element by element on vectors as well; a sample
    /// shows whether this one does.
    fn pairs(&self, at: &[(usize, usize)]) -> Result<Vec<bool>> {
        let (left, right): (Vec<usize>, Vec<usize>) = at.iter().copied().unzip();
        let mut args = Vec::with_capacity(2 * self.operands.len());
        for v in self.operands {
            args.push(values::take(v, vec![at.len()], &left)?);
            args.push(values::take(v, vec![at.len()], &right)?);
        }
        if let Ok(out) = self.call.caller.call(&self.function, args, self.call.step)
            && let Some(less) = out.first().and_then(Value::as_tensor).and_then(Tensor::as_bools)
            && less.len() == at.len()
        {
            let step = (at.len() / 64).max(1);
            let mut same = true;
            for (&(a, b), l) in at.iter().zip(&less).step_by(step) {
                same &= self.pair(a, b)? == *l;
            }
            if same {
                return Ok(less);
            }
        }
        at.iter().map(|&(a, b)| self.pair(a, b)).collect()
    }
}

fn variadic_sort(call: &Call) -> Result {
    let (dim, operands) = call.inputs.split_last().ok_or_else(|| invalid("nothing to sort"))?;
    let first = operands.first().ok_or_else(|| invalid("nothing to sort"))?;
    if let Some(odd) = operands.iter().find(|v| v.shape() != first.shape()) {
        return Err(invalid(format!("operands of shapes {:?} and {:?}", first.shape(), odd.shape())));
    }
    if !dim.shape().is_empty() {
        return Err(invalid("the dimension to sort must be a scalar"));
    }
    let d = dim.as_tensor().and_then(Tensor::to_ints).and_then(|d| d.first().copied()).unwrap_or(0);
    let rank = first.shape().len();
    let at = usize::try_from(if d < 0 { d + rank as i64 } else { d }).ok().filter(|&d| d < rank);
    let at = at.ok_or_else(|| invalid(format!("dimension {d} of a value of rank {rank}")))?;
    let n = first.shape()[at];
    let after = limits::count(&first.shape()[at + 1..])?;
    let total = limits::count(first.shape())?;
    let compare = Comparator { call, function: call.attrs.function("comparator")?, operands };
    // order[i] is the element that comes to position i.
    let mut order: Vec<usize> = (0..total).collect();
    let starts: Vec<usize> = (0..total).filter(|p| p / after.max(1) % n.max(1) == 0).collect();
    let depth = n.max(2).ilog2() as usize + 1;
    if total.saturating_mul(depth) <= FEW {
        for &s in &starts {
            let mut line: Vec<usize> = (0..n).map(|i| s + i * after).collect();
            insert_sorted(&mut line, |a, b| compare.pair(a, b))?;
            for (i, from) in line.into_iter().enumerate() {
                order[s + i * after] = from;
            }
        }
    } else {
        for step in network(n) {
            call.step.check()?;
            let places: Vec<(usize, usize)> =
                starts.iter().flat_map(|s| step.iter().map(move |(i, j)| (s + i * after, s + j * after))).collect();
            let forth: Vec<(usize, usize)> = places.iter().map(|&(i, j)| (order[i], order[j])).collect();
            let back: Vec<(usize, usize)> = forth.iter().map(|&(a, b)| (b, a)).collect();
            let (less, greater) = (compare.pairs(&forth)?, compare.pairs(&back)?);
            for (k, &(i, j)) in places.iter().enumerate() {
                let equal = !less[k] && !greater[k];
                if greater[k] && !less[k] || equal && order[j] < order[i] {
                    order.swap(i, j);
                }
            }
        }
    }
    operands.iter().map(|v| values::take(v, v.shape().to_vec(), &order)).collect()
}

/// Sorts by binary insertion, which keeps the order of equals.
fn insert_sorted(line: &mut Vec<usize>, less: impl Fn(usize, usize) -> Result<bool>) -> Result<()> {
    let mut sorted: Vec<usize> = Vec::with_capacity(line.len());
    for &x in line.iter() {
        let (mut low, mut high) = (0, sorted.len());
        while low < high {
            let mid = (low + high) / 2;
            if less(x, sorted[mid])? { high = mid } else { low = mid + 1 }
        }
        sorted.insert(low, x);
    }
    *line = sorted;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_sorts() {
        for n in 0..20usize {
            let mut v: Vec<usize> = (0..n).map(|i| i * 7 % 11).collect();
            for step in network(n) {
                for (i, j) in step {
                    if v[j] < v[i] {
                        v.swap(i, j);
                    }
                }
            }
            assert!(v.is_sorted(), "{v:?}");
        }
    }

    #[test]
    fn nan_goes_last() {
        let t = Tensor::from_slice(&[4], &[f32::NAN, 1.0, -0.0, 0.0]).unwrap();
        assert_eq!(ranks(&t, 4).unwrap(), [2, 3, 1, 0]);
    }
}

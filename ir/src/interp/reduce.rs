//! Reductions, scans, and the row ops (softmax, layer normalisation). Sums of floats are kept in `f64` and rounded once.

use super::Outputs;
use super::array::{Array, C, Data, int_range, reals, rounded, widen, wrap};
use super::error::EvalError;
use super::scalar;
use crate::attr::Attrs;
use crate::elem::Elem;
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayD, ArrayViewMut1, Axis, IxDyn};
use std::cmp::Ordering;

/// The array as a matrix: a row for each index of the axes not in `axes`, a column for each of those in `axes`.
fn rows<T: Clone>(a: &ArrayD<T>, axes: &[usize]) -> Result<Array2<T>, EvalError> {
    let kept = (0..a.ndim()).filter(|i| !axes.contains(i));
    let order: Vec<usize> = kept.clone().chain(axes.iter().copied()).collect();
    let extent = |i: usize| a.shape()[i];
    let (m, n) = (kept.map(extent).product(), axes.iter().map(|&i| extent(i)).product());
    let flat = a.view().permuted_axes(IxDyn(&order)).iter().cloned().collect();
    Array2::from_shape_vec((m, n), flat).map_err(|e| EvalError::shape(e.to_string()))
}

fn fold_rows<T: Clone, R>(
    a: &ArrayD<T>,
    axes: &[usize],
    shape: &[usize],
    f: impl Fn(&mut dyn Iterator<Item = &T>) -> R,
) -> Result<ArrayD<R>, EvalError> {
    let m = rows(a, axes)?;
    ArrayD::from_shape_vec(IxDyn(shape), m.rows().into_iter().map(|r| f(&mut r.iter())).collect())
        .map_err(|e| EvalError::shape(e.to_string()))
}

pub fn reduce(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let (axes, kind, elem) = (a.sizes("axes"), a.str("kind"), x[0].elem());
    let count: usize = axes.iter().map(|&i| x[0].shape()[i]).product();
    let array = Array::of(&x[0])?;
    let no = || EvalError::unsupported(format!("no reduction {kind:?} of {elem}"));
    let data = match array.data {
        Data::Real(v) => {
            let f: fn(&mut dyn Iterator<Item = &f64>) -> f64 = match kind {
                "sum" | "mean" => |r| r.sum(),
                "prod" => |r| r.product(),
                "max" => |r| r.fold(f64::NEG_INFINITY, |m, &v| scalar::greater(m, v)),
                "min" => |r| r.fold(f64::INFINITY, |m, &v| scalar::lesser(m, v)),
                _ => return Err(no()),
            };
            let divisor = if kind == "mean" { count as f64 } else { 1.0 };
            Data::Real(fold_rows(&v, &axes, &out[0], |r| f(r) / divisor)?)
        }
        Data::Int(v) => {
            let (least, greatest) = int_range(elem);
            let wide = |r: &mut dyn Iterator<Item = &i64>, start: i128, f: fn(i128, i128) -> i128| {
                r.fold(start, |s, &v| widen(elem, wrap(elem, f(s, widen(elem, v)))))
            };
            let f = |r: &mut dyn Iterator<Item = &i64>| match kind {
                "sum" => Some(wide(r, 0, |a, b| a + b)),
                // TensorFlow divides an empty sum by zero; here it stays zero.
                "mean" => Some(wide(r, 0, |a, b| a + b) / (count as i128).max(1)),
                "prod" => Some(wide(r, 1, |a, b| a.wrapping_mul(b))),
                "max" => Some(wide(r, widen(elem, least), i128::max)),
                "min" => Some(wide(r, widen(elem, greatest), i128::min)),
                _ => None,
            };
            f(&mut [].iter()).ok_or_else(no)?;
            Data::Int(fold_rows(&v, &axes, &out[0], |r| wrap(elem, f(r).unwrap_or(0)))?)
        }
        Data::Complex(v) => {
            let f: fn(&mut dyn Iterator<Item = &C>) -> C = match kind {
                "sum" | "mean" => |r| r.sum(),
                "prod" => |r| r.product(),
                _ => return Err(no()),
            };
            let divisor = if kind == "mean" { count as f64 } else { 1.0 };
            Data::Complex(fold_rows(&v, &axes, &out[0], |r| f(r) / divisor)?)
        }
        Data::Bool(v) => {
            let f: fn(&mut dyn Iterator<Item = &bool>) -> bool = match kind {
                "any" | "max" => |r| r.fold(false, |m, &b| m | b),
                "all" | "min" => |r| r.fold(true, |m, &b| m & b),
                _ => return Err(no()),
            };
            Data::Bool(fold_rows(&v, &axes, &out[0], f)?)
        }
    };
    Array { elem, data }.to_tensor()
}

/// NaN is never chosen, unless there is nothing else; then the index is 0.
pub fn arg_reduce(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let axis = a.size("axis");
    if x[0].shape()[axis] == 0 {
        return Err(EvalError::shape(format!("axis {axis} is empty")));
    }
    let better = match a.str("kind") {
        "max" => Ordering::Greater,
        "min" => Ordering::Less,
        kind => return Err(EvalError::malformed(format!("no arg_reduce {kind:?}"))),
    };
    fn best<'a, T: PartialOrd + Copy + 'a>(r: &mut dyn Iterator<Item = &'a T>, better: Ordering, valid: fn(T) -> bool) -> i64 {
        let mut found: Option<(usize, T)> = None;
        for (i, &v) in r.enumerate().filter(|(_, v)| valid(**v)) {
            if found.is_none_or(|(_, f)| v.partial_cmp(&f) == Some(better)) {
                found = Some((i, v));
            }
        }
        found.map_or(0, |(i, _)| i as i64)
    }
    let array = Array::of(&x[0])?;
    let (elem, axes) = (array.elem, [axis]);
    let index = match &array.data {
        Data::Real(v) => fold_rows(v, &axes, &out[0], |r| best(r, better, |v| !v.is_nan()))?,
        Data::Int(v) => fold_rows(&v.mapv(|v| widen(elem, v)), &axes, &out[0], |r| best(r, better, |_| true))?,
        Data::Bool(v) => fold_rows(v, &axes, &out[0], |r| best(r, better, |_| true))?,
        Data::Complex(_) => return Err(EvalError::unsupported("complex numbers have no order")),
    };
    Array { elem: a.elem("elem").unwrap_or(Elem::I64), data: Data::Int(index) }.to_tensor()
}

pub fn cumulative(x: &[Tensor], a: &Attrs, _: Outputs) -> Result<Tensor, EvalError> {
    let axis = Axis(a.size("axis"));
    let (exclusive, reverse) = (a.flag("exclusive"), a.flag("reverse"));
    let product = match a.str("kind") {
        "sum" => false,
        "prod" => true,
        kind => return Err(EvalError::malformed(format!("no cumulative {kind:?}"))),
    };
    fn scan<T: Copy>(a: &mut ArrayD<T>, axis: Axis, exclusive: bool, reverse: bool, start: T, f: impl Fn(T, T) -> T) {
        for mut lane in a.lanes_mut(axis) {
            if reverse {
                lane.invert_axis(Axis(0));
            }
            let mut sum = start;
            for v in lane {
                let next = f(sum, *v);
                *v = if exclusive { sum } else { next };
                sum = next;
            }
        }
    }
    let mut array = Array::of(&x[0])?;
    let elem = array.elem;
    match &mut array.data {
        Data::Real(v) if product => scan(v, axis, exclusive, reverse, 1.0, |a, b| a * b),
        Data::Real(v) => scan(v, axis, exclusive, reverse, 0.0, |a, b| a + b),
        Data::Complex(v) if product => scan(v, axis, exclusive, reverse, 1.0.into(), |a, b| a * b),
        Data::Complex(v) => scan(v, axis, exclusive, reverse, 0.0.into(), |a, b| a + b),
        Data::Int(v) if product => scan(v, axis, exclusive, reverse, 1, |a, b| wrap(elem, (a as i128).wrapping_mul(b as i128))),
        Data::Int(v) => scan(v, axis, exclusive, reverse, 0, |a, b| wrap(elem, a as i128 + b as i128)),
        Data::Bool(_) => return Err(EvalError::unsupported("no running sum of bool")),
    }
    array.to_tensor()
}

pub fn top_k(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Vec<Tensor>, EvalError> {
    let k = *out[0].last().unwrap_or(&0);
    let n = *x[0].shape().last().unwrap_or(&0);
    if k > n {
        return Err(EvalError::shape(format!("the {k} greatest of {n} elements")));
    }
    fn pick<T: Clone>(m: &Array2<T>, k: usize, order: impl Fn(&T, &T) -> Ordering) -> (Vec<T>, Vec<i64>) {
        let (mut values, mut index) = (Vec::new(), Vec::new());
        for row in m.rows() {
            let mut at: Vec<usize> = (0..row.len()).collect();
            at.sort_by(|&i, &j| order(&row[j], &row[i]));
            values.extend(at[..k].iter().map(|&i| row[i].clone()));
            index.extend(at[..k].iter().map(|&i| i as i64));
        }
        (values, index)
    }
    let array = Array::of(&x[0])?;
    let (elem, last) = (array.elem, [x[0].rank() - 1]);
    let shape = |e: ndarray::ShapeError| EvalError::shape(e.to_string());
    let (data, index) = match &array.data {
        // NaN counts as less than every number.
        Data::Real(v) => {
            let rank = |v: &f64| if v.is_nan() { f64::NEG_INFINITY } else { *v };
            let order =
                |a: &f64, b: &f64| (!a.is_nan()).cmp(&!b.is_nan()).then(rank(a).partial_cmp(&rank(b)).unwrap_or(Ordering::Equal));
            let (v, i) = pick(&rows(v, &last)?, k, order);
            (Data::Real(ArrayD::from_shape_vec(IxDyn(&out[0]), v).map_err(shape)?), i)
        }
        Data::Int(v) => {
            let (v, i) = pick(&rows(v, &last)?, k, |&a, &b| widen(elem, a).cmp(&widen(elem, b)));
            (Data::Int(ArrayD::from_shape_vec(IxDyn(&out[0]), v).map_err(shape)?), i)
        }
        _ => return Err(EvalError::unsupported(format!("{elem} has no order"))),
    };
    let index = Data::Int(ArrayD::from_shape_vec(IxDyn(&out[1]), index).map_err(shape)?);
    Ok(vec![Array { elem, data }.to_tensor()?, Array { elem: a.elem("elem").unwrap_or(Elem::I32), data: index }.to_tensor()?])
}

/// Softmax of one row in place.
pub fn softmax_row(mut row: ArrayViewMut1<f64>, log: bool) {
    let top = row.iter().fold(f64::NEG_INFINITY, |m, &v| scalar::greater(m, v));
    row.mapv_inplace(|v| v - top);
    let sum: f64 = row.iter().map(|&v| libm::exp(v)).sum();
    if log {
        row.mapv_inplace(|v| v - libm::log(sum));
    } else {
        row.mapv_inplace(|v| libm::exp(v) / sum);
    }
}

fn last_axis(t: &Tensor) -> Result<Axis, EvalError> {
    t.rank().checked_sub(1).map(Axis).ok_or_else(|| EvalError::shape("a scalar has no last axis"))
}

pub fn softmax(x: &[Tensor], a: &Attrs, _: Outputs) -> Result<Tensor, EvalError> {
    let mut v = reals(&x[0])?;
    for row in v.lanes_mut(last_axis(&x[0])?) {
        softmax_row(row, a.flag("log"));
    }
    rounded(x[0].elem(), v)
}

pub fn layer_norm(x: &[Tensor], a: &Attrs, _: Outputs) -> Result<Tensor, EvalError> {
    let (mut v, gamma, beta) = (reals(&x[0])?, reals(&x[1])?, reals(&x[2])?);
    let eps = a.real("eps");
    for mut row in v.lanes_mut(last_axis(&x[0])?) {
        let n = row.len() as f64;
        let mean = row.sum() / n;
        let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        let scale = 1.0 / (variance + eps).sqrt();
        for ((v, g), b) in row.iter_mut().zip(&gamma).zip(&beta) {
            *v = (*v - mean) * scale * g + b;
        }
    }
    rounded(x[0].elem(), v)
}

//! Runs a tape entry by entry over whole arrays.

use super::array::{Array, C, Data, round, round_complex, widen, wrap};
use super::error::EvalError;
use super::{complex, scalar};
use crate::elem::Elem;
use crate::tape::{Bin, Cmp, Entry, Tape, Un};
use ndarray::{ArrayD, Axis, IxDyn, Zip};
use std::borrow::Cow;

/// Runs `tape` on inputs that broadcast to `shape` and gives its outputs, each of that shape.
///
/// # Errors
/// Shapes that do not broadcast, operations that a type does not have, integer division by zero.
pub fn eval(tape: &Tape, inputs: &[Array], shape: &[usize]) -> Result<Vec<Array>, EvalError> {
    let mut values: Vec<Cow<Array>> = Vec::with_capacity(tape.entries().len());
    for &(entry, elem) in tape.entries() {
        let at = |t: crate::tape::T| {
            values.get(t.index()).map(|v| &**v).ok_or_else(|| EvalError::malformed("a tape entry reads a later one"))
        };
        let value = match entry {
            Entry::Load(k) => {
                let x = inputs.get(k as usize).ok_or_else(|| EvalError::malformed(format!("the tape has no input {k}")))?;
                if x.elem != elem {
                    return Err(EvalError::shape(format!("input {k} of the tape is {}, not {elem}", x.elem)));
                }
                values.push(Cow::Borrowed(x));
                continue;
            }
            Entry::Const(v) => constant(elem, v, v as i64),
            Entry::ConstInt(v) => constant(elem, v as f64, v),
            Entry::Index(axis) => index(elem, axis as usize, shape)?,
            Entry::Un(op, x) => un(op, at(x)?)?,
            Entry::Bin(op, x, y) => bin(op, at(x)?, at(y)?)?,
            Entry::Cmp(op, x, y) => compare(op, at(x)?, at(y)?)?,
            Entry::Select(c, x, y) => select(at(c)?, at(x)?, at(y)?)?,
            Entry::Cast(x) => cast(at(x)?, elem),
            Entry::Fma(x, y, z) => fma(at(x)?, at(y)?, at(z)?)?,
        };
        values.push(Cow::Owned(value));
    }
    tape.outputs
        .iter()
        .map(|t| {
            values.get(t.index()).ok_or_else(|| EvalError::malformed("the tape has no such output")).and_then(|v| expand(v, shape))
        })
        .collect()
}

fn map<A: Copy, R>(a: &ArrayD<A>, f: impl FnMut(A) -> R) -> ArrayD<R> {
    a.mapv(f)
}

/// The shape that two concrete shapes broadcast to.
fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, EvalError> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(EvalError::shape(format!("shapes {a:?} and {b:?} do not broadcast"))),
        })
        .collect()
}

fn zip<A: Copy, B: Copy, R>(a: &ArrayD<A>, b: &ArrayD<B>, mut f: impl FnMut(A, B) -> R) -> Result<ArrayD<R>, EvalError> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let misfit = || EvalError::shape("shapes do not broadcast");
    let (a, b) = (a.broadcast(IxDyn(&shape)).ok_or_else(misfit)?, b.broadcast(IxDyn(&shape)).ok_or_else(misfit)?);
    Ok(Zip::from(a).and(b).map_collect(|&x, &y| f(x, y)))
}

fn expand(a: &Array, shape: &[usize]) -> Result<Array, EvalError> {
    if a.shape() == shape {
        return Ok(a.clone());
    }
    let misfit = || EvalError::shape(format!("a result of shape {:?} does not broadcast to {shape:?}", a.shape()));
    macro_rules! to {
        ($v:expr) => {
            $v.broadcast(IxDyn(shape)).ok_or_else(misfit)?.to_owned()
        };
    }
    let data = match &a.data {
        Data::Bool(v) => Data::Bool(to!(v)),
        Data::Int(v) => Data::Int(to!(v)),
        Data::Real(v) => Data::Real(to!(v)),
        Data::Complex(v) => Data::Complex(to!(v)),
    };
    Ok(Array { elem: a.elem, data })
}

fn constant(elem: Elem, real: f64, int: i64) -> Array {
    let scalar = IxDyn(&[]);
    let data = match elem {
        Elem::Bool => Data::Bool(ArrayD::from_elem(scalar, int != 0)),
        e if e.is_complex() => Data::Complex(ArrayD::from_elem(scalar, round_complex(e, real.into()))),
        e if e.is_float() => Data::Real(ArrayD::from_elem(scalar, round(e, real))),
        e => Data::Int(ArrayD::from_elem(scalar, wrap(e, int as i128))),
    };
    Array { elem, data }
}

/// The index along `axis`, with extent 1 elsewhere.
fn index(elem: Elem, axis: usize, shape: &[usize]) -> Result<Array, EvalError> {
    let extent = *shape.get(axis).ok_or_else(|| EvalError::malformed(format!("the iteration space has no axis {axis}")))?;
    let mut counter = ndarray::Array1::from_iter(0..extent as i64).into_dyn();
    for _ in 0..axis {
        counter = counter.insert_axis(Axis(0));
    }
    for k in axis + 1..shape.len() {
        counter = counter.insert_axis(Axis(k));
    }
    Ok(cast(&Array { elem: Elem::I64, data: Data::Int(counter) }, elem))
}

fn undefined(op: impl std::fmt::Debug, elem: Elem) -> EvalError {
    EvalError::unsupported(format!("{op:?} is not defined for {elem}"))
}

fn un(op: Un, x: &Array) -> Result<Array, EvalError> {
    let elem = x.elem;
    let no = || undefined(op, elem);
    let (elem, data) = match &x.data {
        Data::Real(a) => match scalar::test_real(op) {
            Some(test) => (Elem::Bool, Data::Bool(map(a, test))),
            None => {
                let f = scalar::un_real(op).ok_or_else(no)?;
                (elem, Data::Real(map(a, |v| round(elem, f(v)))))
            }
        },
        Data::Complex(a) => match complex::part(op) {
            Some(f) => (elem.part(), Data::Real(map(a, |v| round(elem.part(), f(v))))),
            None => {
                let f = complex::un(op).ok_or_else(no)?;
                (elem, Data::Complex(map(a, |v| round_complex(elem, f(v)))))
            }
        },
        Data::Int(a) => {
            scalar::un_int(op, elem, 0).ok_or_else(no)?;
            (elem, Data::Int(map(a, |v| scalar::un_int(op, elem, v).unwrap_or(0))))
        }
        Data::Bool(a) if op == Un::Not => (elem, Data::Bool(map(a, |v| !v))),
        Data::Bool(_) => return Err(no()),
    };
    Ok(Array { elem, data })
}

/// The two-operand operation `op` on arrays of one type, broadcast.
///
/// # Errors
/// As [`eval`].
pub fn bin(op: Bin, x: &Array, y: &Array) -> Result<Array, EvalError> {
    let elem = x.elem;
    let no = || undefined(op, elem);
    let data = match (&x.data, &y.data) {
        _ if y.elem != elem => return Err(EvalError::shape(format!("element types {elem} and {} differ", y.elem))),
        (Data::Real(a), Data::Real(b)) if op == Bin::Complex && elem.complex() != elem => {
            return Ok(Array { elem: elem.complex(), data: Data::Complex(zip(a, b, C::new)?) });
        }
        (Data::Real(a), Data::Real(b)) => {
            scalar::bin_real(op, elem, 1.0, 1.0).ok_or_else(no)?;
            // The frequent operations on the most frequent type, without a choice for each element.
            macro_rules! single {
                ($f:expr) => {
                    zip(a, b, |x: f64, y: f64| $f(x, y) as f32 as f64)?
                };
            }
            Data::Real(match (op, elem) {
                (Bin::Add, Elem::F32) => single!(|x, y| x + y),
                (Bin::Sub, Elem::F32) => single!(|x, y| x - y),
                (Bin::Mul, Elem::F32) => single!(|x, y| x * y),
                (Bin::Div, Elem::F32) => single!(|x, y| x / y),
                (Bin::Max, Elem::F32) => single!(scalar::greater),
                (Bin::Min, Elem::F32) => single!(scalar::lesser),
                _ => zip(a, b, |x, y| round(elem, scalar::bin_real(op, elem, x, y).unwrap_or(0.0)))?,
            })
        }
        (Data::Complex(a), Data::Complex(b)) => {
            complex::bin(op, 1.0.into(), 1.0.into()).ok_or_else(no)?;
            Data::Complex(zip(a, b, |x, y| round_complex(elem, complex::bin(op, x, y).unwrap_or_default()))?)
        }
        (Data::Int(a), Data::Int(b)) => {
            let mut failed = None;
            let out = zip(a, b, |x, y| {
                scalar::bin_int(op, elem, x, y).unwrap_or_else(|e| {
                    failed.get_or_insert(e);
                    0
                })
            })?;
            if let Some(e) = failed {
                return Err(e);
            }
            Data::Int(out)
        }
        (Data::Bool(a), Data::Bool(b)) => {
            scalar::bin_bool(op, true, true).ok_or_else(no)?;
            Data::Bool(zip(a, b, |x, y| scalar::bin_bool(op, x, y).unwrap_or(false))?)
        }
        _ => return Err(EvalError::malformed("arrays of one type but two classes")),
    };
    Ok(Array { elem, data })
}

fn compare(op: Cmp, x: &Array, y: &Array) -> Result<Array, EvalError> {
    let elem = x.elem;
    let out = match (&x.data, &y.data) {
        _ if y.elem != elem => return Err(EvalError::shape(format!("element types {elem} and {} differ", y.elem))),
        (Data::Real(a), Data::Real(b)) => zip(a, b, |x, y| scalar::compare(op, &x, &y))?,
        (Data::Int(a), Data::Int(b)) => zip(a, b, |x, y| scalar::compare(op, &widen(elem, x), &widen(elem, y)))?,
        (Data::Bool(a), Data::Bool(b)) => zip(a, b, |x, y| scalar::compare(op, &x, &y))?,
        (Data::Complex(a), Data::Complex(b)) if matches!(op, Cmp::Eq | Cmp::Ne) => zip(a, b, |x, y| (x == y) == (op == Cmp::Eq))?,
        _ => return Err(undefined(op, elem)),
    };
    Ok(Array { elem: Elem::Bool, data: Data::Bool(out) })
}

fn select(c: &Array, x: &Array, y: &Array) -> Result<Array, EvalError> {
    let Data::Bool(c) = &c.data else {
        return Err(EvalError::shape(format!("the condition is {}, not bool", c.elem)));
    };
    macro_rules! pick {
        ($class:ident, $a:expr, $b:expr) => {{
            let pairs = zip($a, $b, |x, y| (x, y))?;
            Data::$class(zip(c, &pairs, |c, (x, y)| if c { x } else { y })?)
        }};
    }
    let data = match (&x.data, &y.data) {
        (Data::Real(a), Data::Real(b)) => pick!(Real, a, b),
        (Data::Int(a), Data::Int(b)) => pick!(Int, a, b),
        (Data::Bool(a), Data::Bool(b)) => pick!(Bool, a, b),
        (Data::Complex(a), Data::Complex(b)) => pick!(Complex, a, b),
        _ => return Err(EvalError::shape(format!("element types {} and {} differ", x.elem, y.elem))),
    };
    Ok(Array { elem: x.elem, data })
}

/// Conversion by value.
pub fn cast(x: &Array, to: Elem) -> Array {
    let from = x.elem;
    macro_rules! convert {
        ($a:expr, $v:ident, bool $b:expr, int $i:expr, real $r:expr) => {
            match to {
                Elem::Bool => Data::Bool(map($a, |$v| $b)),
                e if e.is_complex() => Data::Complex(map($a, |$v| {
                    let re: f64 = $r(e.part());
                    re.into()
                })),
                e if e.is_float() => Data::Real(map($a, |$v| $r(e))),
                e => Data::Int(map($a, |$v| $i(e))),
            }
        };
    }
    let data = match &x.data {
        Data::Bool(a) => convert!(a, v, bool v, int |_| v as i64, real |_| v as i32 as f64),
        Data::Int(a) => {
            convert!(a, v, bool v != 0, int |e| wrap(e, widen(from, v)), real |e| scalar::int_to_real(e, widen(from, v)))
        }
        Data::Real(a) => convert!(a, v, bool v != 0.0, int |e| scalar::real_to_int(e, v), real |e| round(e, v)),
        Data::Complex(a) if to.is_complex() => Data::Complex(map(a, |v| round_complex(to, v))),
        Data::Complex(a) => {
            convert!(a, v, bool v.re != 0.0, int |e| scalar::real_to_int(e, v.re), real |e| round(e, v.re))
        }
    };
    Array { elem: to, data }
}

fn fma(x: &Array, y: &Array, z: &Array) -> Result<Array, EvalError> {
    match (&x.data, &y.data, &z.data) {
        (Data::Real(a), Data::Real(b), Data::Real(c)) if x.elem == y.elem && x.elem == z.elem => {
            let pairs = zip(a, b, |x, y| (x, y))?;
            let elem = x.elem;
            Ok(Array { elem, data: Data::Real(zip(&pairs, c, |(x, y), z| round(elem, x.mul_add(y, z)))?) })
        }
        _ => bin(Bin::Add, &bin(Bin::Mul, x, y)?, z),
    }
}

/// `into[i] = op(into[i], from[j])` for each pair of element positions, in order; the result is rounded once, at the end.
///
/// # Errors
/// If the type does not have the operation.
pub fn accumulate(op: Bin, into: &mut Array, from: &Array, pairs: impl Iterator<Item = (usize, usize)>) -> Result<(), EvalError> {
    let elem = into.elem;
    let no = || undefined(op, elem);
    let misfit = || EvalError::malformed("arrays are not in standard layout or differ in type");
    macro_rules! run {
        ($a:expr, $b:expr, $f:expr) => {{
            let (a, b) = ($a.as_slice_mut().ok_or_else(misfit)?, $b.as_slice().ok_or_else(misfit)?);
            for (i, j) in pairs {
                a[i] = $f(a[i], b[j]).ok_or_else(no)?;
            }
        }};
    }
    match (&mut into.data, &from.data) {
        (Data::Real(a), Data::Real(b)) => run!(a, b, |x, y| scalar::bin_real(op, Elem::F64, x, y)),
        (Data::Complex(a), Data::Complex(b)) => run!(a, b, |x, y| complex::bin(op, x, y)),
        (Data::Int(a), Data::Int(b)) => run!(a, b, |x, y| scalar::bin_int(op, elem, x, y).ok()),
        (Data::Bool(a), Data::Bool(b)) => run!(a, b, |x, y| scalar::bin_bool(op, x, y)),
        _ => return Err(misfit()),
    }
    Ok(())
}

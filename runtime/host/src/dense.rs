//! Operands and results as plain numbers.

use crate::limits::count_of;
use crate::{Call, HostError, TfStatus, invalid, tensor_of};
use graphc_ir::{Elem, Scalar, Tensor, element_count};
use half::{bf16, f16};

type Result<T = Tensor> = std::result::Result<T, HostError>;

/// Room for `n` results.
pub(crate) fn buffer<T: Scalar + Default>(n: usize) -> Result<Vec<T>> {
    count_of(T::ELEM, &[n])?;
    let mut v = Vec::new();
    v.try_reserve_exact(n)
        .map_err(|_| HostError::new(TfStatus::ResourceExhausted, format!("no memory for {n} elements of type {}", T::ELEM)))?;
    v.resize(n, T::default());
    Ok(v)
}

/// The shape that operand `k`, a vector of integers, says.
pub(crate) fn shape_operand(call: &Call, k: usize) -> Result<Vec<usize>> {
    let t = call.tensor(k)?;
    if t.rank() != 1 || !matches!(t.elem(), Elem::I32 | Elem::I64) {
        return Err(invalid(format!("the shape must be a vector of int32 or int64, not {} of shape {:?}", t.elem(), t.shape())));
    }
    let dims = call.ints(k)?;
    let shape: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    shape
        .filter(|s| s.len() <= 254 && element_count(s).is_some_and(|n| i64::try_from(n).is_ok()))
        .ok_or_else(|| invalid(format!("{dims:?} is no shape")))
}

/// The number that a C++ cast of a double to an integer gives: the least one for what does not fit.
pub(crate) fn cast(v: f64, low: i64, high: i64) -> i64 {
    if v.is_nan() || v < low as f64 || v >= high as f64 + 1.0 { low } else { v as i64 }
}

/// A tensor of the type `elem`, one of real numbers, of numbers that were computed as doubles.
pub(crate) fn converted(elem: Elem, shape: &[usize], v: &[f64]) -> Result {
    macro_rules! ints {
        ($t:ident) => {{
            let (low, high) = (i64::from($t::MIN), i64::from($t::MAX));
            tensor_of(shape, &v.iter().map(|&x| cast(x, low, high) as $t).collect::<Vec<_>>())
        }};
    }
    match elem {
        Elem::F16 => tensor_of(shape, &v.iter().map(|&x| f16::from_f32(x as f32)).collect::<Vec<_>>()),
        Elem::BF16 => tensor_of(shape, &v.iter().map(|&x| bf16::from_f32(x as f32)).collect::<Vec<_>>()),
        Elem::F32 => tensor_of(shape, &v.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        Elem::F64 => tensor_of(shape, v),
        Elem::U8 => ints!(u8),
        Elem::I8 => ints!(i8),
        Elem::U16 => ints!(u16),
        Elem::I16 => ints!(i16),
        Elem::U32 => ints!(u32),
        Elem::I32 => ints!(i32),
        Elem::I64 => ints!(i64),
        Elem::U64 => tensor_of(shape, &v.iter().map(|&x| x as u64).collect::<Vec<_>>()),
        e => Err(invalid(format!("elements of type {e} are no real numbers"))),
    }
}

/// The elements of operand `k` as doubles.
pub(crate) fn reals(call: &Call, k: usize) -> Result<Vec<f64>> {
    let t = call.tensor(k)?;
    t.to_reals().ok_or_else(|| invalid(format!("operand {k} has elements of type {}, not real numbers", t.elem())))
}

/// What one operation of arithmetic of an element type makes of the exact result.
pub(crate) fn rounding(elem: Elem) -> fn(f64) -> f64 {
    match elem {
        Elem::F16 => |v| f16::from_f32(v as f32).to_f64(),
        Elem::BF16 => |v| bf16::from_f32(v as f32).to_f64(),
        Elem::F32 => |v| f64::from(v as f32),
        _ => |v| v,
    }
}

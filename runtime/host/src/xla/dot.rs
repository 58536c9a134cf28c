//! Products with contracting and batch dimensions.

use super::wire::numbers;
use crate::call::{Call, tensor_of};
use crate::elements::{Number, by_number};
use crate::error::{invalid, unimplemented};
use crate::limits;
use crate::{Result, Table, values};
use graphc_ir::{Elem, Tensor};

pub(crate) const TABLE: Table = &[("XlaDot", dot), ("XlaDotV2", dot)];

/// An operand as a batch of matrices, its dimensions in that order.
struct Side {
    batch: Vec<usize>,
    free: Vec<usize>,
    contracted: Vec<usize>,
    order: Vec<usize>,
}

impl Side {
    fn of(t: &Tensor, batch: &[i64], contracted: &[i64]) -> Result<Side> {
        let shape = t.shape();
        let dims = |v: &[i64]| -> Result<Vec<usize>> {
            let one = |&d: &i64| usize::try_from(d).ok().filter(|&d| d < shape.len());
            v.iter().map(|d| one(d).ok_or_else(|| invalid(format!("dimension {d} of a value of shape {shape:?}")))).collect()
        };
        let (b, c) = (dims(batch)?, dims(contracted)?);
        let free: Vec<usize> = (0..shape.len()).filter(|d| !b.contains(d) && !c.contains(d)).collect();
        if b.len() + c.len() + free.len() != shape.len() {
            return Err(invalid("a dimension stands twice in dimension_numbers"));
        }
        let steps: Vec<usize> = (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect();
        let axes = [b.clone(), free.clone(), c.clone()].concat();
        let sizes = |v: &[usize]| v.iter().map(|&d| shape[d]).collect::<Vec<_>>();
        let order = values::positions(&sizes(&axes), |at| at.iter().zip(&axes).map(|(i, &a)| i * steps[a]).sum())?;
        Ok(Side { batch: sizes(&b), free: sizes(&free), contracted: sizes(&c), order })
    }
}

fn dot(call: &Call) -> Result {
    let (a, b) = (call.tensor(0)?, call.tensor(1)?);
    let dims = numbers(&call.attrs.bytes("dimension_numbers")?)?;
    let field = |k: u64| dims.get(&k).cloned().unwrap_or_default();
    let (x, y) = (Side::of(a, &field(3), &field(1))?, Side::of(b, &field(4), &field(2))?);
    if x.batch != y.batch || x.contracted != y.contracted {
        return Err(invalid(format!("dimensions of {:?} and {:?} do not fit in a product", a.shape(), b.shape())));
    }
    let out = call.attrs.elem("preferred_element_type").unwrap_or(a.elem());
    let narrow = |t: &Tensor| if t.elem() == out { Ok(t.clone()) } else { widened(t, out) };
    let (a, b) = (narrow(a)?, narrow(b)?);
    let count = |v: &[usize]| limits::count(v);
    let (m, n, k) = (count(&x.free)?, count(&y.free)?, count(&x.contracted)?);
    let shape = [x.batch.as_slice(), &x.free, &y.free].concat();
    let total = count(&shape)?;
    let result = by_number!(out, T => {
        let (p, q) = (a.as_slice::<T>().unwrap_or_default(), b.as_slice::<T>().unwrap_or_default());
        let mut v: Vec<T> = values::room(total)?;
        for batch in 0..count(&x.batch)? {
            for i in 0..m {
                call.step.check()?;
                for j in 0..n {
                    let (r, c) = ((batch * m + i) * k, (batch * n + j) * k);
                    let pairs = x.order[r..r + k].iter().zip(&y.order[c..c + k]);
                    v.push(pairs.fold(T::ZERO, |s, (&i, &j)| s.plus(p[i].times(q[j]))));
                }
            }
        }
        tensor_of(&shape, &v)
    })?;
    Ok(vec![result.into()])
}

/// The elements in a wider type.
fn widened(t: &Tensor, to: Elem) -> Result<Tensor> {
    match (to, t.to_ints(), t.to_reals()) {
        (Elem::I32, Some(v), _) => tensor_of(t.shape(), &v.iter().map(|&x| x as i32).collect::<Vec<_>>()),
        (Elem::F32, _, Some(v)) => tensor_of(t.shape(), &v.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        (Elem::F64, _, Some(v)) => tensor_of(t.shape(), &v),
        _ => Err(unimplemented(format!("a product of {} as {to}", t.elem()))),
    }
}

//! Updates of rows. TensorFlow makes them in place; values do not change here.

use crate::call::Call;
use crate::elements::{Builder, Number, by_number};
use crate::error::invalid;
use crate::{Result, Table};
use graphc_ir::Tensor;

pub(crate) const TABLE: Table = &[("DeepCopy", copy), ("InplaceUpdate", update), ("InplaceAdd", update), ("InplaceSub", update)];

fn copy(call: &Call) -> Result {
    Ok(vec![call.input(0)?.clone()])
}

/// Sets, adds or subtracts rows of operand 2 at the rows of operand 0 that operand 1 names, which wrap around.
fn update(call: &Call) -> Result {
    let (x, v) = (call.tensor(0)?, call.tensor(2)?);
    let at = call.ints(1)?;
    let (Some((&n, inner)), Some((&m, rest))) = (x.shape().split_first(), v.shape().split_first()) else {
        return Err(invalid("the operands of an update must be at least vectors"));
    };
    if call.tensor(1)?.rank() != 1 || at.len() != m || inner != rest || x.elem() != v.elem() {
        return Err(invalid(format!("{} rows of {} updated by {}", at.len(), x.ty(), v.ty())));
    }
    let width: usize = inner.iter().product();
    if n == 0 && !at.is_empty() {
        return Err(invalid("there are no rows to update"));
    }
    let rows: Vec<usize> = at.iter().map(|i| i.rem_euclid(n.max(1) as i64) as usize).collect();
    if call.op == "InplaceUpdate" {
        let mut b = Builder::empty(x.elem());
        b.push(x, 0, x.len());
        for (k, &r) in rows.iter().enumerate() {
            b.set(r * width, v, k * width, width);
        }
        return Ok(vec![b.finish(x.shape())?.into()]);
    }
    let adds = call.op == "InplaceAdd";
    let sum = by_number!(x.elem(), T => {
        let (old, new) = (x.as_slice::<T>().unwrap_or_default(), v.as_slice::<T>().unwrap_or_default());
        let mut out = old.to_vec();
        for (k, &r) in rows.iter().enumerate() {
            for (o, d) in out.iter_mut().skip(r * width).zip(&new[k * width..(k + 1) * width]) {
                *o = if adds { o.plus(*d) } else { o.minus(*d) };
            }
        }
        Tensor::from_slice(x.shape(), &out).ok_or_else(|| invalid("rows do not fit"))
    })?;
    Ok(vec![sum.into()])
}

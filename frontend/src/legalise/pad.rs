//! Padding.

use super::cx::{NodeCx, Res, V, with_flags};
use graphc_ir::{Attrs, Dim, Op};

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

pub fn pad(cx: Cx, with_value: bool) -> Res {
    let x = cx.x(0)?;
    let (low, high) = paddings(cx, x)?;
    let value = if with_value { cx.x(2)? } else { cx.like(0.0, x)? };
    let value = super::shape::scalar(cx, value, "constant_values")?;
    Ok(vec![cx.pad(x, value, low, high)?])
}

/// The [rank, 2] matrix of operand 1.
fn paddings(cx: &NodeCx, x: V) -> Res<(Vec<Dim>, Vec<Dim>)> {
    let rank = cx.rank(x);
    let want = [Dim::from(rank), Dim::from(2i64)];
    cx.same_shape(&cx.shape(cx.x(1)?), &want, "paddings must have a row of two for each axis of the input")?;
    let p = cx.need_dims(1, "paddings")?;
    if let Some(d) = p.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        return Err(cx.invalid(format!("Paddings must be non-negative: {d}")));
    }
    Ok((p.iter().step_by(2).cloned().collect(), p.iter().skip(1).step_by(2).cloned().collect()))
}

pub fn mirror_pad(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (low, high) = paddings(cx, x)?;
    let symmetric = match cx.word("mode")? {
        "SYMMETRIC" => true,
        "REFLECT" => false,
        m => return Err(cx.invalid(format!("mode must be either REFLECT or SYMMETRIC, not {m}"))),
    };
    let shape = cx.shape(x);
    for (p, d) in low.iter().chain(&high).zip(shape.iter().chain(&shape)) {
        let most = if symmetric { d.clone() } else { d - &Dim::ONE };
        if (&most - p).as_const().is_some_and(|c| c < 0) {
            return Err(cx.invalid(format!("paddings must be no greater than the dimension size: {p} greater than {most}")));
        }
    }
    if low.iter().chain(&high).all(Dim::is_zero) {
        return Ok(vec![x]);
    }
    Ok(vec![cx.op(
        Op::MirrorPad,
        &[x],
        with_flags(Attrs::new().with("low", low).with("high", high), &[("symmetric", symmetric)]),
    )?])
}

//! Moving blocks between space and depth or batch.

use super::cx::{NodeCx, Res, V};
use graphc_ir::Dim;

type Cx<'c, 'l, 'a> = &'c mut NodeCx<'l, 'a>;

/// Block size and axes [channels, height, width] of a space/depth op.
fn block(cx: &NodeCx, x: V) -> Res<(i64, bool)> {
    let b = cx.int("block_size")?;
    if b < 2 || cx.rank(x) != 4 {
        return Err(cx.invalid(format!("Block size should be > 1 and the input of rank 4, but was {b} and {}", cx.rank(x))));
    }
    match cx.word("data_format")? {
        "NHWC" => Ok((b, false)),
        "NCHW" => Ok((b, true)),
        f => Err(cx.unimplemented(format!("data format {f}"))),
    }
}

/// Runs `f` on the NHWC form of operand 0.
fn in_nhwc(cx: Cx, nchw: bool, f: impl FnOnce(&mut NodeCx, V) -> Res<V>) -> Res {
    let x = cx.x(0)?;
    if !nchw {
        return Ok(vec![f(cx, x)?]);
    }
    let x = cx.transpose(x, &[0, 2, 3, 1])?;
    let y = f(cx, x)?;
    Ok(vec![cx.transpose(y, &[0, 3, 1, 2])?])
}

pub fn space_to_depth(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (b, nchw) = block(cx, x)?;
    in_nhwc(cx, nchw, |cx, x| {
        let s = cx.shape(x);
        let b = Dim::from(b);
        let (h, w) = (cx.exact_quotient(&s[1], &b, "height")?, cx.exact_quotient(&s[2], &b, "width")?);
        let y = cx.reshape(x, &[s[0].clone(), h.clone(), b.clone(), w.clone(), b.clone(), s[3].clone()])?;
        let y = cx.transpose(y, &[0, 1, 3, 2, 4, 5])?;
        cx.reshape(y, &[s[0].clone(), h, w, &(&b * &b) * &s[3]])
    })
}

pub fn depth_to_space(cx: Cx) -> Res {
    let x = cx.x(0)?;
    let (b, nchw) = block(cx, x)?;
    in_nhwc(cx, nchw, |cx, x| {
        let s = cx.shape(x);
        let b = Dim::from(b);
        let c = cx.exact_quotient(&s[3], &(&b * &b), "depth")?;
        let y = cx.reshape(x, &[s[0].clone(), s[1].clone(), s[2].clone(), b.clone(), b.clone(), c.clone()])?;
        let y = cx.transpose(y, &[0, 1, 3, 2, 4, 5])?;
        cx.reshape(y, &[s[0].clone(), &s[1] * &b, &s[2] * &b, c])
    })
}

/// The block shape and the [axes, 2] paddings or crops; the ops without ND take a block size attribute and work on two axes.
fn blocks(cx: &NodeCx, nd: bool, what: &str) -> Res<(Vec<i64>, Vec<Dim>)> {
    let x = cx.x(0)?;
    let (block, at) = if nd { (cx.need_ints(1, "block_shape")?, 2) } else { (vec![cx.int("block_size")?; 2], 1) };
    let table = cx.need_dims(at, what)?;
    if cx.rank(x) < block.len() + 1 || table.len() != 2 * block.len() {
        return Err(cx.invalid(format!("input rank should be >= {} and {what} of shape [{}, 2]", block.len() + 1, block.len())));
    }
    if let Some(b) = block.iter().find(|&&b| b < 1) {
        return Err(cx.invalid(format!("All values in block_shape must be positive, got value, {b}")));
    }
    if let Some(d) = table.iter().find(|d| d.as_const().is_some_and(|c| c < 0)) {
        return Err(cx.invalid(format!("{what} must be non-negative, got {d}")));
    }
    Ok((block, table))
}

/// Number of elements of a block.
fn volume(block: &[i64]) -> Dim {
    block.iter().fold(Dim::ONE, |v, &b| &v * &Dim::from(b))
}

pub fn space_to_batch(cx: Cx, nd: bool) -> Res {
    let x = cx.x(0)?;
    let (block, paddings) = blocks(cx, nd, "paddings")?;
    let m = block.len();
    let rank = cx.rank(x);
    let (mut low, mut high) = (vec![Dim::ZERO; rank], vec![Dim::ZERO; rank]);
    for i in 0..m {
        (low[i + 1], high[i + 1]) = (paddings[2 * i].clone(), paddings[2 * i + 1].clone());
    }
    let zero = cx.like(0.0, x)?;
    let x = cx.pad(x, zero, low, high)?;
    let s = cx.shape(x);
    let (mut split, mut out) = (vec![s[0].clone()], vec![&s[0] * &volume(&block)]);
    for i in 0..m {
        let q = cx.exact_quotient(&s[i + 1], &Dim::from(block[i]), "padded shape and block_shape")?;
        split.extend([q.clone(), Dim::from(block[i])]);
        out.push(q);
    }
    split.extend_from_slice(&s[m + 1..]);
    out.extend_from_slice(&s[m + 1..]);
    let y = cx.reshape(x, &split)?;
    let perm: Vec<usize> =
        (0..m).map(|i| 2 * i + 2).chain([0]).chain((0..m).map(|i| 2 * i + 1)).chain(2 * m + 1..split.len()).collect();
    let y = cx.transpose(y, &perm)?;
    Ok(vec![cx.reshape(y, &out)?])
}

pub fn batch_to_space(cx: Cx, nd: bool) -> Res {
    let x = cx.x(0)?;
    let (block, crops) = blocks(cx, nd, "crops")?;
    let m = block.len();
    let s = cx.shape(x);
    let batch = cx.exact_quotient(&s[0], &volume(&block), "batch size and the product of block_shape")?;
    let split: Vec<Dim> = block.iter().map(|&b| Dim::from(b)).chain([batch.clone()]).chain(s[1..].iter().cloned()).collect();
    let y = cx.reshape(x, &split)?;
    let perm: Vec<usize> = [m].into_iter().chain((0..m).flat_map(|i| [m + 1 + i, i])).chain(2 * m + 1..split.len()).collect();
    let y = cx.transpose(y, &perm)?;
    let mut joined = vec![batch];
    joined.extend((0..m).map(|i| &s[i + 1] * &Dim::from(block[i])));
    joined.extend_from_slice(&s[m + 1..]);
    let y = cx.reshape(y, &joined)?;
    let mut start = vec![Dim::ZERO; joined.len()];
    let mut size = joined;
    for i in 0..m {
        start[i + 1] = crops[2 * i].clone();
        size[i + 1] = &(&size[i + 1] - &crops[2 * i]) - &crops[2 * i + 1];
        if size[i + 1].as_const().is_some_and(|c| c < 0) {
            return Err(cx.invalid("cropped size must be non-negative"));
        }
    }
    Ok(vec![cx.slice(y, start, size, &[])?])
}

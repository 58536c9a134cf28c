//! Slices reduced by segment: sorted, unsorted, and of slices that indices select.

use crate::call::{Call, tensor_of};
use crate::elements::{Builder, Number, Real, by_number, by_real, narrowed, natural, need, need_rank, widened};
use crate::error::{HostError, invalid};
use crate::limits::count_of;
use crate::{Result, Table};
use graphc_ir::{Elem, Tensor};
use std::collections::BTreeSet;

pub(crate) const TABLE: Table = &[
    ("SegmentSum", |c| sorted(c, Kind::Sum)),
    ("SegmentMean", |c| sorted(c, Kind::Mean)),
    ("SegmentProd", |c| sorted(c, Kind::Prod)),
    ("SegmentMin", |c| sorted(c, Kind::Min)),
    ("SegmentMax", |c| sorted(c, Kind::Max)),
    ("SegmentSumV2", |c| counted(c, Kind::Sum)),
    ("SegmentProdV2", |c| counted(c, Kind::Prod)),
    ("SegmentMinV2", |c| counted(c, Kind::Min)),
    ("SegmentMaxV2", |c| counted(c, Kind::Max)),
    ("UnsortedSegmentSum", |c| unsorted(c, Kind::Sum)),
    ("UnsortedSegmentProd", |c| unsorted(c, Kind::Prod)),
    ("UnsortedSegmentMin", |c| unsorted(c, Kind::Min)),
    ("UnsortedSegmentMax", |c| unsorted(c, Kind::Max)),
    ("SparseSegmentSum", |c| selected(c, Kind::Sum)),
    ("SparseSegmentMean", |c| selected(c, Kind::Mean)),
    ("SparseSegmentSqrtN", |c| selected(c, Kind::SqrtN)),
    ("SparseSegmentSumWithNumSegments", |c| selected(c, Kind::Sum)),
    ("SparseSegmentMeanWithNumSegments", |c| selected(c, Kind::Mean)),
    ("SparseSegmentSqrtNWithNumSegments", |c| selected(c, Kind::SqrtN)),
    ("SparseSegmentSumGrad", |c| gradient(c, Kind::Sum, false)),
    ("SparseSegmentMeanGrad", |c| gradient(c, Kind::Mean, false)),
    ("SparseSegmentSqrtNGrad", |c| gradient(c, Kind::SqrtN, false)),
    ("SparseSegmentSumGradV2", |c| gradient(c, Kind::Sum, true)),
    ("SparseSegmentMeanGradV2", |c| gradient(c, Kind::Mean, true)),
    ("SparseSegmentSqrtNGradV2", |c| gradient(c, Kind::SqrtN, true)),
];

type Fallible<T> = std::result::Result<T, HostError>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Sum,
    Mean,
    /// The sum over the root of the count.
    SqrtN,
    Prod,
    Min,
    Max,
}

/// What the maximum or minimum of no slices is.
#[derive(Clone, Copy, PartialEq)]
enum Empty {
    Zero,
    /// The neutral element: the lowest number of a maximum, the highest one of a minimum.
    Neutral,
}

/// Reduces slices of `block` elements of `data`: pairs of slice and segment, of which there are `segments`.
fn reduce(data: &Tensor, pairs: &[(usize, usize)], segments: usize, inner: &[usize], kind: Kind, empty: Empty) -> Fallible<Tensor> {
    let shape = [&[segments], inner].concat();
    count_of(data.elem(), &shape)?;
    count_of(Elem::I64, &[segments])?;
    let elem = data.elem();
    // Sums of halves are kept in f32; the ends of a type are its own.
    let data = if matches!(kind, Kind::Min | Kind::Max) { std::borrow::Cow::Borrowed(data) } else { widened(data) };
    let mut counts = vec![0usize; segments];
    pairs.iter().for_each(|p| counts[p.1] += 1);
    let block: usize = inner.iter().product();

    fn fold<T: Number>(v: &[T], start: T, pairs: &[(usize, usize)], n: usize, block: usize, with: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = vec![start; n * block];
        for &(slice, segment) in pairs {
            let to = &mut out[segment * block..(segment + 1) * block];
            to.iter_mut().zip(&v[slice * block..(slice + 1) * block]).for_each(|(o, &v)| *o = with(*o, v));
        }
        out
    }
    let neutral = if matches!(kind, Kind::Min | Kind::Max) {
        by_real!(data.elem(), T => {
            let v = data.as_slice::<T>().unwrap_or_default();
            let out = if kind == Kind::Min {
                fold(&v, T::HIGHEST, pairs, segments, block, |a, b| if b < a { b } else { a })
            } else {
                fold(&v, T::LOWEST, pairs, segments, block, |a, b| if a < b { b } else { a })
            };
            tensor_of(&shape, &out)
        })?
    } else {
        by_number!(data.elem(), T => {
            let v = data.as_slice::<T>().unwrap_or_default();
            let mut out = match kind {
                Kind::Prod => fold(&v, T::ONE, pairs, segments, block, T::times),
                _ => fold(&v, T::ZERO, pairs, segments, block, T::plus),
            };
            if matches!(kind, Kind::Mean | Kind::SqrtN) && block > 0 {
                for (row, &n) in out.chunks_exact_mut(block).zip(&counts) {
                    if n > 0 {
                        let by = divisor::<T>(kind, n)?;
                        row.iter_mut().for_each(|v| *v = v.over(by).unwrap_or(*v));
                    }
                }
            }
            tensor_of(&shape, &out)
        })?
    };
    let out = narrowed(neutral, elem)?;
    if empty == Empty::Neutral || !matches!(kind, Kind::Min | Kind::Max) || !counts.contains(&0) {
        return Ok(out);
    }
    let mut b = Builder::zeros(elem, &shape)?;
    for (k, _) in counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        b.set(k * block, &out, k * block, block);
    }
    b.finish(&shape)
}

/// What a sum of `n` slices is divided by.
fn divisor<T: Number>(kind: Kind, n: usize) -> Fallible<T> {
    if kind == Kind::Mean {
        return Ok(T::of(n as i64));
    }
    let root = (n as f64).sqrt();
    let t = match T::ELEM {
        Elem::F32 => Tensor::scalar(root as f32),
        Elem::F64 => Tensor::scalar(root),
        e => return Err(invalid(format!("no square roots of type {e}"))),
    };
    t.as_slice::<T>().and_then(|v| v.first().copied()).ok_or_else(|| invalid("no square root"))
}

/// The segment of each slice of a sorted list; the last one decides how many there are.
fn sorted_ids(c: &Call, k: usize, slices: usize) -> Fallible<Vec<usize>> {
    let t = c.tensor(k)?;
    need(t.rank() == 1, || "segment_ids should be a vector.".into())?;
    need(t.len() == slices, || "segment_ids should be the same size as dimension 0 of input.".into())?;
    let ids = c.ints(k)?;
    need(ids.iter().all(|&i| i >= 0), || "segment ids must be >= 0".into())?;
    need(ids.is_sorted(), || "segment ids are not increasing".into())?;
    Ok(ids.into_iter().map(|i| i as usize).collect())
}

fn sorted(c: &Call, kind: Kind) -> Result {
    let data = c.tensor(0)?;
    let Some((&n, inner)) = data.shape().split_first() else { return Err(invalid("input must be at least rank 1")) };
    let ids = sorted_ids(c, 1, n)?;
    let segments = ids.last().map_or(0, |&l| l + 1);
    count_of(data.elem(), &[&[segments], inner].concat())?;
    let pairs: Vec<_> = ids.into_iter().enumerate().collect();
    Ok(vec![reduce(data, &pairs, segments, inner, kind, Empty::Zero)?.into()])
}

fn segments_operand(c: &Call, k: usize) -> Fallible<usize> {
    let t = c.tensor(k)?;
    need(t.len() == 1 && t.rank() <= 1, || format!("num_segments should be a scalar, not shape {:?}", t.shape()))?;
    natural(c.int(k)?, "Input num_segments")
}

/// Sorted segments of which the number is given; slices of others are left out.
fn counted(c: &Call, kind: Kind) -> Result {
    scattered(c, kind, false)
}

fn unsorted(c: &Call, kind: Kind) -> Result {
    scattered(c, kind, true)
}

fn scattered(c: &Call, kind: Kind, strict: bool) -> Result {
    let (data, ids) = (c.tensor(0)?, c.tensor(1)?);
    let segments = segments_operand(c, 2)?;
    need(data.shape().starts_with(ids.shape()), || {
        format!("data.shape = {:?} does not start with segment_ids.shape = {:?}", data.shape(), ids.shape())
    })?;
    let inner = &data.shape()[ids.rank()..];
    count_of(data.elem(), &[&[segments], inner].concat())?;
    let mut pairs = Vec::with_capacity(ids.len());
    for (i, id) in c.ints(1)?.into_iter().enumerate() {
        match usize::try_from(id) {
            Ok(s) if s < segments => pairs.push((i, s)),
            Ok(s) if strict => return Err(invalid(format!("segment_ids[{i}] = {s} is out of range [0, {segments})"))),
            _ => {}
        }
    }
    Ok(vec![reduce(data, &pairs, segments, inner, kind, Empty::Neutral)?.into()])
}

/// The slices that indices select.
fn selected(c: &Call, kind: Kind) -> Result {
    let (data, indices) = (c.tensor(0)?, c.tensor(1)?);
    let Some((&n, inner)) = data.shape().split_first() else { return Err(invalid("Shape must be at least rank 1")) };
    need(indices.rank() == 1, || "indices should be a vector.".into())?;
    let given = if c.inputs.len() > 3 { Some(segments_operand(c, 3)?) } else { None };
    need(c.tensor(2)?.len() == indices.len(), || "segment_ids and indices should have same size.".into())?;
    let ids = sorted_ids(c, 2, indices.len())?;
    let needed = ids.last().map_or(0, |&l| l + 1);
    let segments = given.unwrap_or(needed);
    need(needed <= segments, || "segment ids must be < num_segments".into())?;
    count_of(data.elem(), &[&[segments], inner].concat())?;
    let mut pairs = Vec::with_capacity(ids.len());
    for (k, (i, id)) in c.ints(1)?.into_iter().zip(ids).enumerate() {
        let slice = usize::try_from(i).ok().filter(|&i| i < n);
        pairs.push((slice.ok_or_else(|| invalid(format!("Bad: indices[{k}] == {i} out of range [0, {n})")))?, id));
    }
    Ok(vec![reduce(data, &pairs, segments, inner, kind, Empty::Zero)?.into()])
}

/// Gradient of [`selected`] by its data: all slices, or those that are selected with their indices.
fn gradient(c: &Call, kind: Kind, compact: bool) -> Result {
    let (grad, indices, ids) = (c.tensor(0)?, c.tensor(1)?, c.tensor(2)?);
    let Some((&segments, inner)) = grad.shape().split_first() else { return Err(invalid("Shape must be at least rank 1")) };
    need_rank(indices, 1, "indices")?;
    need_rank(ids, 1, "segment_ids")?;
    need_rank(c.tensor(3)?, 0, "output_dim0")?;
    need(indices.len() == ids.len(), || "segment_ids and indices should have same size.".into())?;
    let rows = natural(c.int(3)?, "output_dim0")?;
    let mut pairs = Vec::with_capacity(ids.len());
    for (i, id) in c.ints(1)?.into_iter().zip(c.ints(2)?) {
        let row = usize::try_from(i).ok().filter(|&i| i < rows);
        let segment = usize::try_from(id).ok().filter(|&s| s < segments);
        let row = row.ok_or_else(|| invalid(format!("Index {i} out of range [0, {rows}).")))?;
        pairs.push((segment.ok_or_else(|| invalid(format!("Segment id {id} out of range [0, {segments}).")))?, row));
    }
    // Each slice of the gradient is scaled once.
    count_of(Elem::I64, &[segments])?;
    let mut counts = vec![0usize; segments];
    pairs.iter().for_each(|p| counts[p.0] += 1);
    let block: usize = inner.iter().product();
    let elem = grad.elem();
    let wide = widened(grad);
    let scaled = by_number!(wide.elem(), T => {
        let mut v = wide.as_slice::<T>().unwrap_or_default().into_owned();
        if kind != Kind::Sum && block > 0 {
            for (row, &n) in v.chunks_exact_mut(block).zip(&counts) {
                let by = divisor::<T>(kind, n.max(1))?;
                row.iter_mut().for_each(|v| *v = v.over(by).unwrap_or(*v));
            }
        }
        tensor_of(grad.shape(), &v)
    })?;
    if !compact {
        count_of(elem, &[&[rows], inner].concat())?;
        return Ok(vec![narrowed(reduce(&scaled, &pairs, rows, inner, Kind::Sum, Empty::Zero)?, elem)?.into()]);
    }
    let unique: Vec<usize> = pairs.iter().map(|p| p.1).collect::<BTreeSet<_>>().into_iter().collect();
    pairs.iter_mut().for_each(|p| p.1 = unique.partition_point(|&u| u < p.1));
    let out = narrowed(reduce(&scaled, &pairs, unique.len(), inner, Kind::Sum, Empty::Zero)?, elem)?;
    let rows: Vec<i64> = unique.into_iter().map(|u| u as i64).collect();
    Ok(vec![out.into(), crate::call::ints_of(indices.elem(), &[rows.len()], &rows)?.into()])
}

#[cfg(test)]
mod tests {
    use crate::testing::{run, t, v};

    #[test]
    fn segments_without_slices() {
        let data = || t(&[4], &[-3i32, -2, 4, 5]);
        let ids = || t(&[4], &[0i32, 0, 2, 2]);
        assert_eq!(v::<i32>(&run("SegmentMax", &[], &[data(), ids()]).unwrap()[0]), [-2, 0, 5]);
        assert_eq!(v::<i32>(&run("SegmentMean", &[], &[data(), ids()]).unwrap()[0]), [-2, 0, 4]);
        assert_eq!(v::<i32>(&run("SegmentProd", &[], &[data(), ids()]).unwrap()[0]), [6, 1, 20]);
        let out = run("UnsortedSegmentMax", &[], &[data(), ids(), t(&[], &[3i32])]).unwrap();
        assert_eq!(v::<i32>(&out[0]), [-2, i32::MIN, 5]);
    }

    #[test]
    fn compact_gradients_name_their_rows() {
        let operands = [t(&[2, 2], &[3f32, 4.0, 1.0, 2.0]), t(&[3], &[5i32, 2, 5]), t(&[3], &[0i32, 0, 1]), t(&[], &[7i32])];
        let out = run("SparseSegmentMeanGradV2", &[], &operands).unwrap();
        assert_eq!(v::<f32>(&out[0]), [1.5, 2.0, 2.5, 4.0]);
        assert_eq!(v::<i32>(&out[1]), [2, 5]);
    }
}

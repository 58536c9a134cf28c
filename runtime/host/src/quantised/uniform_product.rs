//! Products of uniformly quantised tensors, and of floats that are quantised on the way, one batch at a time.

use super::ranges::Kind;
use super::uniform::{Params, Rescale, axis, bounds, number, numbers};
use crate::dense::buffer;
use crate::limits::count;
use crate::{Call, HostError, Result, invalid, tensor_of};
use graphc_ir::{Elem, Tensor};

type Fallible<T> = std::result::Result<T, HostError>;

/// Two factors and what becomes of their sums of products.
pub(super) struct Factors {
    pub left: Vec<i32>,
    pub right: Vec<i32>,
    /// Per batch, where the left factor was floats.
    left_params: Params,
    /// Per output channel, or of all.
    right_params: Params,
    outcome: Outcome,
}

enum Outcome {
    /// Numbers of 32 bits: a rescaling of each channel.
    Numbers(Vec<Rescale>),
    Floats,
}

/// Where the scales of operands are.
pub(super) struct Axes {
    pub right: Option<usize>,
    pub out: Option<usize>,
}

impl Factors {
    /// The operands of a product of quantised numbers: factors, their scales and zero points, those of the result.
    pub fn quantised(call: &Call, axes: &Axes, shape: &[usize]) -> Fallible<Factors> {
        let left_params = Params::of(call, 2, call.tensor(0)?.shape(), None)?.positive()?;
        let right_params = Params::of(call, 4, call.tensor(1)?.shape(), axes.right)?.positive()?;
        let out = Params::of(call, 6, shape, axes.out)?.positive()?;
        if out.along && !right_params.along {
            return Err(invalid("the result of factors with one scale each must have one scale"));
        }
        let bounds = bounds(call, "output_")?;
        let by = |c| f64::from(left_params.scale(0)) * f64::from(right_params.scale(c)) / f64::from(out.scale(c));
        let channels = right_params.scales.len();
        let rescales = (0..channels).map(|c| Rescale::new(by(c), out.zero(c), bounds)).collect::<Fallible<Vec<_>>>()?;
        let (left, right) = (numbers(call, 0)?.1, numbers(call, 1)?.1);
        Ok(Factors { left, right, left_params, right_params, outcome: Outcome::Numbers(rescales) })
    }

    /// The operands of a product of floats, whose batches are those of `left`, and quantised numbers.
    pub fn hybrid(call: &Call, axes: &Axes, left: &[f32], batches: usize) -> Fallible<Factors> {
        let right_params = Params::of(call, 2, call.tensor(1)?.shape(), axes.right)?.positive()?;
        let (mut scales, mut zeros, mut quantised) = (Vec::new(), Vec::new(), Vec::new());
        let size = left.len().checked_div(batches).unwrap_or(0);
        for batch in 0..batches {
            let row = &left[batch * size..(batch + 1) * size];
            match own_scale(row) {
                Some((scale, inverse, zero)) => {
                    quantised.extend(row.iter().map(|&v| number(v, inverse, zero, BYTE)));
                    scales.push(scale);
                    zeros.push(zero);
                }
                None => {
                    quantised.resize(quantised.len() + size, 0);
                    scales.push(1.0);
                    zeros.push(0);
                }
            }
        }
        let left_params = Params { scales, zeros, along: true };
        Ok(Factors { left: quantised, right: numbers(call, 1)?.1, left_params, right_params, outcome: Outcome::Floats })
    }

    /// What a place outside of the left factor holds: its zero point, as a number of 8 bits.
    pub fn outside(&self, batch: usize) -> i32 {
        i32::from(self.left_params.zero(batch) as i8)
    }

    /// One term of a sum. Sums wrap.
    pub fn term(&self, left: i32, right: i32, batch: usize, channel: usize) -> i32 {
        let left = left.wrapping_sub(self.left_params.zero(batch));
        left.wrapping_mul(right.wrapping_sub(self.right_params.zero(channel)))
    }

    /// The result, of sums whose batches and channels are known.
    pub fn finish(&self, shape: &[usize], sums: &[i32], place: impl Fn(usize) -> [usize; 2]) -> Fallible<Tensor> {
        match &self.outcome {
            Outcome::Numbers(rescales) => {
                let one = |(k, &sum): (usize, &i32)| {
                    let c = if self.right_params.along { place(k)[1] } else { 0 };
                    i64::from(rescales[c].apply(sum))
                };
                Kind::of(Elem::QI32)?.tensor(shape, &sums.iter().enumerate().map(one).collect::<Vec<_>>())
            }
            Outcome::Floats => {
                let one = |(k, &sum): (usize, &i32)| {
                    let [batch, channel] = place(k);
                    sum as f32 * self.left_params.scale(batch) * self.right_params.scale(channel)
                };
                tensor_of(shape, &sums.iter().enumerate().map(one).collect::<Vec<f32>>())
            }
        }
    }
}

/// The bounds of numbers of 8 bits.
const BYTE: (i32, i32) = (-128, 127);

/// The scale that lays 8 bits over floats and zero, its inverse, and the zero point. None of floats too small for a scale.
fn own_scale(v: &[f32]) -> Option<(f32, f32, i32)> {
    let low = f64::from(v.iter().copied().fold(0.0, f32::min));
    let high = f64::from(v.iter().copied().fold(0.0, f32::max));
    let (least, most) = (f64::from(BYTE.0), f64::from(BYTE.1));
    let scale = ((high - low) / (most - least)) as f32;
    let inverse = if high - low == 0.0 { 0.0 } else { ((most - least) / (high - low)) as f32 };
    if scale == 0.0 || !inverse.is_finite() {
        return None;
    }
    let (below, above) = (low / f64::from(scale), high / f64::from(scale));
    // Of the ends of the range, the one that is off by less decides.
    let by_least = least.abs() + below.abs() < most.abs() + above.abs();
    let zero = if by_least { least - below } else { most - above };
    let nudged = if zero <= least { least } else { zero.round().min(most) };
    Some((scale, inverse, if zero.is_nan() { 0 } else { nudged as i32 }))
}

/// The batches, depth and channels of a product of matrices.
fn matrix_sizes(call: &Call) -> Fallible<[usize; 3]> {
    match (call.tensor(0)?.shape(), call.tensor(1)?.shape()) {
        (&[batches, depth], &[rows, channels]) if depth == rows => Ok([batches, depth, channels]),
        (l, r) => Err(invalid(format!("matrices of shapes {l:?} and {r:?} cannot be multiplied"))),
    }
}

/// # Errors
/// If an attribute names an axis that is not that of the channels.
fn columns_alone(call: &Call, names: &[&str]) -> Fallible<()> {
    for name in names {
        if axis(call, name)?.is_some_and(|a| a != 1) {
            return Err(invalid(format!("{name} must be -1 or 1")));
        }
    }
    Ok(())
}

fn matrices(call: &Call, factors: &Factors, [batches, depth, channels]: [usize; 3]) -> Result {
    let mut sums = buffer::<i32>(count(&[batches, channels])?)?;
    for (batch, row) in sums.chunks_mut(channels.max(1)).enumerate() {
        call.step.check()?;
        for d in 0..depth {
            let left = factors.left[batch * depth + d];
            let rights = &factors.right[d * channels..(d + 1) * channels];
            for (channel, (sum, &right)) in row.iter_mut().zip(rights).enumerate() {
                *sum = sum.wrapping_add(factors.term(left, right, batch, channel));
            }
        }
    }
    Ok(vec![factors.finish(&[batches, channels], &sums, |k| [k / channels, k % channels])?.into()])
}

/// The axis of the channels, where operand `k`, the scales, has more than one.
fn by_rank(call: &Call, k: usize) -> Fallible<Option<usize>> {
    Ok((call.tensor(k)?.rank() != 0).then_some(1))
}

pub(super) fn dot(call: &Call) -> Result {
    if axis(call, "lhs_quantization_axis")?.is_some() {
        return Err(invalid("lhs_quantization_axis must be -1"));
    }
    columns_alone(call, &["rhs_quantization_axis", "output_quantization_axis"])?;
    let sizes = matrix_sizes(call)?;
    let axes = Axes { right: by_rank(call, 4)?, out: by_rank(call, 6)? };
    matrices(call, &Factors::quantised(call, &axes, &[sizes[0], sizes[2]])?, sizes)
}

pub(super) fn dot_hybrid(call: &Call) -> Result {
    columns_alone(call, &["rhs_quantization_axis"])?;
    let sizes = matrix_sizes(call)?;
    let axes = Axes { right: by_rank(call, 2)?, out: None };
    matrices(call, &Factors::hybrid(call, &axes, &call.slice::<f32>(0)?, sizes[0])?, sizes)
}

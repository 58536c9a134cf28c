//! Convolutions of uniformly quantised tensors, over any number of spatial dimensions.

use super::uniform::axis;
use super::uniform_product::{Axes, Factors};
use crate::dense::buffer;
use crate::limits::checked_count;
use crate::parsing::proto::{Field, Malformed, Reader, fields};
use crate::{Call, HostError, Result, invalid};

type Fallible<T> = std::result::Result<T, HostError>;

/// Which dimensions of a tensor are what: batch, features, then the spatial ones; for a filter output features, input features, spatial.
type Order = Vec<usize>;

/// The orders of input, filter and result.
struct Orders([Order; 3]);

impl Orders {
    fn of(call: &Call, rank: usize) -> Fallible<Orders> {
        let message = call.attrs.bytes("dimension_numbers").unwrap_or_default();
        let [mut input, mut filter, mut result] = parsed(&message).map_err(|_| invalid("dimension_numbers is no message"))?;
        if input.len() == 2 {
            // Without spatial dimensions the message says nothing.
            [input, filter, result] = std::array::from_fn(|_| (0..rank as u64).collect());
        }
        let order = |v: Vec<u64>| {
            let known: Order = v.iter().filter_map(|&d| usize::try_from(d).ok()).collect();
            let complete = v.len() == rank && (0..rank).all(|d| known.contains(&d));
            if complete { Ok(known) } else { Err(invalid(format!("{v:?} does not order {rank} dimensions"))) }
        };
        Ok(Orders([order(input)?, order(filter)?, order(result)?]))
    }
}

/// The orders that a message gives.
fn parsed(message: &[u8]) -> std::result::Result<[Vec<u64>; 3], Malformed> {
    let mut orders = [(); 3].map(|()| vec![0, 0]);
    for field in fields(message) {
        let (number, value) = field?;
        let Some(order @ 0..3) = number.checked_sub(1).map(|n| n / 3) else { continue };
        // A filter names its input features first.
        let part = match (order, (number - 1) % 3) {
            (1, part @ 0..2) => 1 - part,
            (_, part) => part,
        };
        let order = &mut orders[order as usize];
        match (part, value) {
            (part @ 0..2, Field::Varint(d)) => order[part as usize] = d,
            (2, Field::Varint(d)) => order.push(d),
            (2, Field::Bytes(packed)) => {
                let mut reader = Reader(packed);
                while !reader.0.is_empty() {
                    order.push(reader.varint()?);
                }
            }
            _ => {}
        }
    }
    Ok(orders)
}

/// One spatial dimension.
struct Spatial {
    stride: usize,
    before: usize,
    input: usize,
    input_step: usize,
    filter: usize,
    filter_step: usize,
    result: usize,
}

impl Spatial {
    /// The place of the input that a place of the filter meets for one of the result; None where zeros stand.
    fn place(&self, result: usize, filter: usize) -> Option<usize> {
        let at = (result * self.stride + filter * self.filter_step).checked_sub(self.before)?;
        (at % self.input_step == 0).then_some(at / self.input_step).filter(|&p| p < self.input)
    }
}

/// A size with holes between its places.
fn spread(size: usize, step: usize) -> Option<usize> {
    let spread = size.checked_sub(1).map_or(Some(0), |n| n.checked_mul(step)?.checked_add(1));
    spread.filter(|&n| n < 1 << 48)
}

/// An attribute of one positive number for each spatial dimension; ones where it is empty.
fn steps(call: &Call, name: &str, n: usize) -> Fallible<Vec<usize>> {
    let v = call.attrs.ints(name).unwrap_or_default();
    if v.is_empty() {
        return Ok(vec![1; n]);
    }
    let v: Vec<usize> = v.iter().filter_map(|&s| usize::try_from(s).ok().filter(|&s| s > 0 && s <= i32::MAX as usize)).collect();
    if v.len() == n { Ok(v) } else { Err(invalid(format!("{name} must be {n} positive numbers"))) }
}

struct Convolution {
    orders: Orders,
    spatial: Vec<Spatial>,
    batches: usize,
    features: usize,
    channels: usize,
    feature_groups: usize,
    batch_groups: usize,
}

impl Convolution {
    fn of(call: &Call) -> Fallible<Convolution> {
        let (input, filter) = (call.tensor(0)?.shape(), call.tensor(1)?.shape());
        let rank = input.len();
        if rank != filter.len() || rank < 3 {
            return Err(invalid(format!("a filter of shape {filter:?} does not go with an input of shape {input:?}")));
        }
        let orders = Orders::of(call, rank)?;
        let count = |name: &str| {
            let n = call.attrs.int(name).unwrap_or(1);
            usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| invalid(format!("{name} must be positive, and is {n}")))
        };
        let (feature_groups, batch_groups) = (count("feature_group_count")?, count("batch_group_count")?);
        let [of_input, of_filter, _] = &orders.0;
        let (batches, depth) = (input[of_input[0]], input[of_input[1]]);
        let (channels, features) = (filter[of_filter[0]], filter[of_filter[1]]);
        let groups_fit = depth % feature_groups == 0 && depth / feature_groups == features && features > 0;
        if !groups_fit || channels % feature_groups != 0 || batches % batch_groups != 0 || channels % batch_groups != 0 {
            return Err(invalid(format!(
                "an input of shape {input:?} and a filter of shape {filter:?} do not fall into {feature_groups} groups of features and \
                 {batch_groups} of batches"
            )));
        }
        let n = rank - 2;
        let strides = steps(call, "window_strides", n)?;
        let (input_steps, filter_steps) = (steps(call, "lhs_dilation", n)?, steps(call, "rhs_dilation", n)?);
        let explicit = call.attrs.ints("explicit_padding").unwrap_or_default();
        let padding = call.attrs.text("padding")?;
        let known = matches!(&*padding, "EXPLICIT" | "SAME" | "VALID");
        let explicit: Vec<usize> = explicit.iter().map(|&p| i32::try_from(p).map_or(usize::MAX, |p| p as usize)).collect();
        let pads = if padding == "EXPLICIT" { 2 * n } else { 0 };
        if !known || explicit.len() != pads || explicit.iter().any(|&p| p > i32::MAX as usize) {
            return Err(invalid(format!("padding {padding:?} does not go with {} explicit numbers", explicit.len())));
        }
        let spatial = (0..n).map(|i| {
            let (size, window) = (input[of_input[i + 2]], filter[of_filter[i + 2]]);
            let (stride, input_step, filter_step) = (strides[i], input_steps[i], filter_steps[i]);
            let too_large = || invalid("a dimension is too large");
            let have = spread(size, input_step).ok_or_else(too_large)? as i64;
            let need = spread(window, filter_step).ok_or_else(too_large)? as i64;
            let (before, after) = match &*padding {
                "EXPLICIT" => (explicit[2 * i] as i64, explicit[2 * i + 1] as i64),
                "SAME" => {
                    let total = ((have + stride as i64 - 1) / stride as i64 - 1) * stride as i64 + need - have;
                    let total = total.max(0);
                    (total / 2, total - total / 2)
                }
                _ => (0, 0),
            };
            let result = (have + before + after - need + stride as i64) / stride as i64;
            let result =
                usize::try_from(result).map_err(|_| invalid(format!("a filter of {need} does not fit a size of {have}")))?;
            Ok(Spatial { stride, before: before as usize, input: size, input_step, filter: window, filter_step, result })
        });
        let spatial = spatial.collect::<Fallible<Vec<_>>>()?;
        Ok(Convolution { orders, spatial, batches, features, channels, feature_groups, batch_groups })
    }

    /// The shape of the result with its dimensions in the order batch, channels, spatial, and as the model wants it.
    fn shapes(&self) -> (Vec<usize>, Vec<usize>) {
        let mut plain = vec![self.batches / self.batch_groups, self.channels];
        plain.extend(self.spatial.iter().map(|s| s.result));
        let mut shape = vec![0; plain.len()];
        self.orders.0[2].iter().zip(&plain).for_each(|(&d, &size)| shape[d] = size);
        (plain, shape)
    }

    /// The axis of the channels, where an attribute names one.
    fn axis(&self, call: &Call, name: &str, channels: usize) -> Fallible<Option<usize>> {
        match axis(call, name)? {
            Some(a) if a != channels => Err(invalid(format!("{name} must be -1 or {channels}, the dimension of the channels"))),
            a => Ok(a),
        }
    }

    fn right_axis(&self, call: &Call) -> Fallible<Option<usize>> {
        self.axis(call, "rhs_quantization_axis", self.orders.0[1][0])
    }

    /// Adds up all products. The left factor is in the order batch, features, spatial already.
    fn run(&self, call: &Call, factors: &Factors) -> Result {
        let (plain, shape) = self.shapes();
        let total = checked_count(&plain, size_of::<i32>())?;
        let filter_shape = call.tensor(1)?.shape();
        let right = reordered(&factors.right, filter_shape, &self.orders.0[1]);
        let mut sums = buffer::<i32>(total)?;
        let inner: usize = self.spatial.iter().map(|s| s.result).product();
        let window: usize = self.spatial.iter().map(|s| s.filter).product();
        let area: usize = self.spatial.iter().map(|s| s.input).product();
        let batch_of = |row: usize| row / self.channels + row % self.channels / (self.channels / self.batch_groups) * plain[0];
        for (row, sums) in sums.chunks_mut(inner.max(1)).enumerate() {
            call.step.check()?;
            let (channel, batch) = (row % self.channels, batch_of(row));
            let first = channel / (self.channels / self.feature_groups) * self.features;
            let outside = factors.outside(batch);
            for (place, sum) in sums.iter_mut().enumerate() {
                for at in 0..window {
                    let source = self.source(place, at);
                    for feature in 0..self.features {
                        let start = (batch * self.features * self.feature_groups + first + feature) * area;
                        let left = source.map_or(outside, |s| factors.left[start + s]);
                        let right = right[(channel * self.features + feature) * window + at];
                        *sum = sum.wrapping_add(factors.term(left, right, batch, channel));
                    }
                }
            }
        }
        let back = inverse(&self.orders.0[2]);
        let rows: Vec<usize> = (0..total).map(|k| k / inner).collect();
        let (sums, rows) = (reordered(&sums, &plain, &back), reordered(&rows, &plain, &back));
        Ok(vec![factors.finish(&shape, &sums, |k| [batch_of(rows[k]), rows[k] % self.channels])?.into()])
    }

    /// The place of the input for one of the result and one of the filter, all counted row by row.
    fn source(&self, mut result: usize, mut filter: usize) -> Option<usize> {
        let (mut place, mut stride) = (0, 1);
        for s in self.spatial.iter().rev() {
            place += s.place(result % s.result, filter % s.filter)? * stride;
            (result, filter, stride) = (result / s.result, filter / s.filter, stride * s.input);
        }
        Some(place)
    }
}

/// The order that undoes another.
fn inverse(order: &[usize]) -> Order {
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &d)| back[d] = i);
    back
}

/// Elements with the dimensions in another order.
fn reordered<T: Copy>(v: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let stride = |d: usize| shape[d + 1..].iter().product::<usize>();
    let dims: Vec<(usize, usize)> = order.iter().map(|&d| (shape[d], stride(d))).collect();
    let from = |mut k: usize| {
        let mut at = 0;
        for &(size, stride) in dims.iter().rev() {
            at += k % size * stride;
            k /= size;
        }
        at
    };
    (0..v.len()).map(|k| v[from(k)]).collect()
}

pub(super) fn convolution(call: &Call) -> Result {
    if axis(call, "lhs_quantization_axis")?.is_some() {
        return Err(invalid("lhs_quantization_axis must be -1"));
    }
    let c = Convolution::of(call)?;
    let out = c.axis(call, "output_quantization_axis", c.orders.0[2][1])?;
    let axes = Axes { right: c.right_axis(call)?, out };
    let mut factors = Factors::quantised(call, &axes, &c.shapes().1)?;
    factors.left = reordered(&factors.left, call.tensor(0)?.shape(), &c.orders.0[0]);
    c.run(call, &factors)
}

pub(super) fn convolution_hybrid(call: &Call) -> Result {
    let c = Convolution::of(call)?;
    let axes = Axes { right: c.right_axis(call)?, out: None };
    let left = reordered(&call.slice::<f32>(0)?, call.tensor(0)?.shape(), &c.orders.0[0]);
    c.run(call, &Factors::hybrid(call, &axes, &left, c.batches)?)
}

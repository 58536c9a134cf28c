//! Resizing by fixed rules, and the gradients of that.

use super::{Images, pixel, shape_of, size_operand};
use crate::dense::{buffer, converted};
use crate::elements::{Number, by_real};
use crate::limits::count;
use crate::{Call, HostError, Result, invalid, tensor_of};
use graphc_ir::{Elem, Scalar, Tensor};

/// How places of the result map to places of the image.
#[derive(Clone, Copy)]
pub(crate) struct Mapping {
    align: bool,
    centres: bool,
}

impl Mapping {
    pub fn of(call: &Call) -> Mapping {
        Mapping {
            align: call.attrs.bool("align_corners").unwrap_or(false),
            centres: call.attrs.bool("half_pixel_centers").unwrap_or(false),
        }
    }

    fn checked(call: &Call) -> std::result::Result<Mapping, HostError> {
        let m = Mapping::of(call);
        if m.align && m.centres { Err(invalid("half_pixel_centers and align_corners exclude each other")) } else { Ok(m) }
    }

    fn scale(self, from: usize, to: usize) -> f32 {
        if self.align && from > 1 && to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { from as f32 / to as f32 }
    }

    fn place(self, x: usize, scale: f32) -> f32 {
        if self.centres { (x as f32 + 0.5) * scale - 0.5 } else { x as f32 * scale }
    }
}

/// Images to resize and the size that they are to have.
fn forward(call: &Call) -> std::result::Result<(Images, [usize; 4]), HostError> {
    let images = Images::of(call, 0)?;
    let [batch, height, width, channels] = images.shape;
    let [h, w] = size_operand(call, 1)?;
    if height == 0 || width == 0 || channels == 0 {
        return Err(invalid(format!("images of shape {:?} have no pixels", images.shape)));
    }
    Ok((images, [batch, h, w, channels]))
}

/// The gradient of a resizing, and the shape of the images that were resized.
fn backward(call: &Call) -> std::result::Result<(Images, [usize; 4]), HostError> {
    let gradient = Images::of(call, 0)?;
    let [batch, h, w, channels] = gradient.shape;
    let [_, height, width, _] = shape_of(call, 1)?;
    if h == 0 || w == 0 || height == 0 || width == 0 {
        return Err(invalid("images and their gradients must have a positive size"));
    }
    Ok((gradient, [batch, height, width, channels]))
}

/// For each place of the gradient along one dimension, the place of the image that it was taken from.
fn nearest(mapping: Mapping, from: usize, to: usize) -> Vec<usize> {
    let scale = mapping.scale(to, from);
    let place = |x: usize| if mapping.centres { (x as f32 + 0.5) * scale } else { x as f32 * scale };
    let whole = |v: f32| if mapping.align { v.round() } else { v.floor() };
    (0..from).map(|x| (whole(place(x)).max(0.0) as usize).min(to - 1)).collect()
}

fn scatter<T: Number + Default>(
    gradient: &Tensor,
    shape: [usize; 4],
    to: [usize; 4],
    mapping: Mapping,
) -> std::result::Result<Tensor, HostError> {
    let values = gradient.as_slice::<T>().ok_or_else(|| invalid("a gradient of another type"))?;
    let mut out = buffer::<T>(count(&to)?)?;
    if !out.is_empty() {
        let (ys, xs) = (nearest(mapping, shape[1], to[1]), nearest(mapping, shape[2], to[2]));
        for batch in 0..shape[0] {
            for (y, &to_y) in ys.iter().enumerate() {
                for (x, &to_x) in xs.iter().enumerate() {
                    let (source, target) = (pixel(&shape, batch, y, x), pixel(&to, batch, to_y, to_x));
                    for c in 0..shape[3] {
                        out[target + c] = out[target + c].plus(values[source + c]);
                    }
                }
            }
        }
    }
    tensor_of(&to, &out)
}

pub(super) fn nearest_grad(call: &Call) -> Result {
    let gradient = call.tensor(0)?;
    let shape = shape_of(call, 0)?;
    let [height, width] = size_operand(call, 1)?;
    let to = [shape[0], height, width, shape[3]];
    let mapping = Mapping::of(call);
    let t = by_real!(gradient.elem(), T => scatter::<T>(gradient, shape, to, mapping))?;
    Ok(vec![t.into()])
}

/// What a place of the result is interpolated from, along one dimension: the places around it, and the share of the latter.
pub(crate) fn neighbours(mapping: Mapping, from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    let scale = mapping.scale(from, to);
    (0..to)
        .map(|x| {
            let place = mapping.place(x, scale);
            let low = place.floor();
            ((low.max(0.0) as usize).min(from - 1), (place.ceil().max(0.0) as usize).min(from - 1), place - low)
        })
        .collect()
}

fn spread<T: Scalar + Default>(
    gradient: &Images,
    to: [usize; 4],
    mapping: Mapping,
    add: impl Fn(&mut T, f32),
) -> std::result::Result<Vec<T>, HostError> {
    let [batches, h, w, channels] = gradient.shape;
    let mut out = buffer::<T>(count(&to)?)?;
    let (ys, xs) = (neighbours(mapping, to[1], h), neighbours(mapping, to[2], w));
    for batch in 0..batches {
        for (y, &(top, bottom, down)) in ys.iter().enumerate() {
            for (x, &(left, right, along)) in xs.iter().enumerate() {
                let source = gradient.at(batch, y, x);
                for c in 0..channels {
                    let g = gradient.values[source + c];
                    for (row, share_y) in [(top, 1.0 - down), (bottom, down)] {
                        for (column, share_x) in [(left, 1.0 - along), (right, along)] {
                            add(&mut out[pixel(&to, batch, row, column) + c], g * share_y * share_x);
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

pub(super) fn bilinear_grad(call: &Call) -> Result {
    let mapping = Mapping::checked(call)?;
    let (gradient, to) = backward(call)?;
    let t = match call.tensor(1)?.elem() {
        Elem::F64 => tensor_of(&to, &spread::<f64>(&gradient, to, mapping, |sum, v| *sum += f64::from(v))?)?,
        elem => {
            let sums = spread::<f32>(&gradient, to, mapping, |sum, v| *sum += v)?;
            converted(elem, &to, &sums.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())?
        }
    };
    Ok(vec![t.into()])
}

/// Steps of the table of cubic weights.
const STEPS: usize = 1024;

/// Weights of the pixels at a distance of `k / STEPS`, and of one more than that.
fn cubic_table(a: f64) -> Vec<[f32; 2]> {
    (0..=STEPS)
        .map(|k| {
            let near = (k as f64 / STEPS as f64) as f32;
            let (x, far) = (f64::from(near), f64::from((f64::from(near) + 1.0) as f32));
            [(((a + 2.0) * x - (a + 3.0)) * x * x + 1.0) as f32, (((a * far - 5.0 * a) * far + 8.0 * a) * far - 4.0 * a) as f32]
        })
        .collect()
}

/// For each place of the result along one dimension, four places of the image and their weights.
fn cubic(mapping: Mapping, from: usize, to: usize) -> Vec<[(usize, f32); 4]> {
    let scale = mapping.scale(from, to);
    let table = cubic_table(if mapping.centres { -0.5 } else { -0.75 });
    (0..to)
        .map(|x| {
            let place = mapping.place(x, scale);
            let low = place.floor();
            let step = (((place - low) * STEPS as f32).round_ties_even() as usize).min(STEPS);
            let weights = [table[step][1], table[step][0], table[STEPS - step][0], table[STEPS - step][1]];
            let mut taps = [(0, 0.0); 4];
            for (k, (tap, weight)) in taps.iter_mut().zip(weights).enumerate() {
                let wanted = low as i64 + k as i64 - 1;
                let bound = wanted.clamp(0, from as i64 - 1);
                // With centred pixels, what lies outside has no weight.
                *tap = (bound as usize, if mapping.centres && bound != wanted { 0.0 } else { weight });
            }
            if mapping.centres {
                let sum = taps[0].1 + taps[1].1 + taps[2].1 + taps[3].1;
                if sum.abs() >= 1000.0 * f32::MIN_POSITIVE {
                    taps.iter_mut().for_each(|t| t.1 *= 1.0 / sum);
                }
            }
            taps
        })
        .collect()
}

pub(super) fn bicubic(call: &Call) -> Result {
    let mapping = Mapping::checked(call)?;
    let (images, to) = forward(call)?;
    let mut out = buffer::<f32>(count(&to)?)?;
    let (ys, xs) = (cubic(mapping, images.shape[1], to[1]), cubic(mapping, images.shape[2], to[2]));
    let sum = |taps: &[(usize, f32); 4], value: &dyn Fn(usize) -> f32| {
        value(taps[0].0) * taps[0].1 + value(taps[1].0) * taps[1].1 + value(taps[2].0) * taps[2].1 + value(taps[3].0) * taps[3].1
    };
    for batch in 0..to[0] {
        for (y, rows) in ys.iter().enumerate() {
            for (x, columns) in xs.iter().enumerate() {
                let target = pixel(&to, batch, y, x);
                for c in 0..to[3] {
                    let column = |x: usize| sum(rows, &|y| images.values[images.at(batch, y, x) + c]);
                    out[target + c] = sum(columns, &column);
                }
            }
        }
    }
    Ok(vec![tensor_of(&to, &out)?.into()])
}

pub(super) fn bicubic_grad(call: &Call) -> Result {
    let mapping = Mapping::checked(call)?;
    let (gradient, to) = backward(call)?;
    let (ys, xs) = (cubic(mapping, to[1], gradient.shape[1]), cubic(mapping, to[2], gradient.shape[2]));
    macro_rules! of {
        ($t:ty) => {{
            let mut out = buffer::<$t>(count(&to)?)?;
            for batch in 0..to[0] {
                for (y, rows) in ys.iter().enumerate() {
                    for (x, columns) in xs.iter().enumerate() {
                        let source = gradient.at(batch, y, x);
                        for c in 0..to[3] {
                            let g = <$t>::from(gradient.values[source + c]);
                            for &(row, down) in rows {
                                for &(column, along) in columns {
                                    out[pixel(&to, batch, row, column) + c] += g * <$t>::from(down) * <$t>::from(along);
                                }
                            }
                        }
                    }
                }
            }
            tensor_of(&to, &out)?
        }};
    }
    Ok(vec![if call.tensor(1)?.elem() == Elem::F64 { of!(f64) } else { of!(f32) }.into()])
}

/// For each place of the result along one dimension, the first place of the image that it covers, and how much of each it does.
fn cover(scale: f32, to: usize) -> Vec<(i64, Vec<f32>)> {
    (0..to)
        .map(|x| {
            let (low, high) = (x as f32 * scale, (x + 1) as f32 * scale);
            let (first, end) = (low.floor() as i64, high.ceil() as i64);
            let share = |k: i64| {
                let (start, next) = (k as f32, (k + 1) as f32);
                match (start < low, next > high) {
                    (true, true) => scale,
                    (true, false) => next - low,
                    (false, true) => high - start,
                    (false, false) => 1.0,
                }
            };
            (first, (first..end.max(first + 1)).map(share).collect())
        })
        .collect()
}

pub(super) fn area(call: &Call) -> Result {
    let mapping = Mapping { align: call.attrs.bool("align_corners").unwrap_or(false), centres: false };
    let (images, to) = forward(call)?;
    let [_, height, width, _] = images.shape;
    let (down, along) = (mapping.scale(height, to[1]), mapping.scale(width, to[2]));
    let mut out = buffer::<f32>(count(&to)?)?;
    let (ys, xs) = (cover(down, to[1]), cover(along, to[2]));
    let whole = (1.0 / f64::from(down * along)) as f32;
    let bound = |v: i64, limit: usize| v.clamp(0, limit as i64 - 1) as usize;
    for batch in 0..to[0] {
        for (y, (top, rows)) in ys.iter().enumerate() {
            for (x, (left, columns)) in xs.iter().enumerate() {
                let target = pixel(&to, batch, y, x);
                for c in 0..to[3] {
                    let mut sum = 0.0;
                    for (row, share_y) in (*top..).zip(rows) {
                        let mut line = 0.0;
                        for (column, share_x) in (*left..).zip(columns) {
                            line += images.values[images.at(batch, bound(row, height), bound(column, width)) + c] * share_x;
                        }
                        sum += line * share_y;
                    }
                    out[target + c] = sum * whole;
                }
            }
        }
    }
    Ok(vec![tensor_of(&to, &out)?.into()])
}

//! Normalisation of quantised images.

use super::ranges::{Kind, bound};
use crate::{Call, Result, invalid};
use graphc_ir::{Elem, Tensor};

/// By given means and variances of the channels, in fixed point.
pub(super) fn batch(call: &Call) -> Result {
    // Operand `k` as floats of the range in the two operands after it.
    let floats = |k: usize| {
        let (kind, numbers) = Kind::operand(call, k)?;
        let (low, high) = (bound(call, k + 1)?, bound(call, k + 2)?);
        Ok::<_, crate::HostError>(numbers.into_iter().map(|n| kind.float(n, low, high)).collect::<Vec<f32>>())
    };
    let shape = call.tensor(0)?.shape();
    let &[.., channels] = shape else { return Err(invalid("images must be of rank 4, not scalars")) };
    if shape.len() != 4 || channels == 0 {
        return Err(invalid(format!("images must be of rank 4 and have channels, and have shape {shape:?}")));
    }
    for k in [3, 6, 9, 12] {
        let of = call.tensor(k)?.shape();
        if *of != [channels] {
            return Err(invalid(format!("operand {k} of shape {of:?} does not go with images of shape {shape:?}")));
        }
    }
    let (means, variances, betas, gammas) = (floats(3)?, floats(6)?, floats(9)?, floats(12)?);
    let epsilon = call.attrs.float("variance_epsilon")?;
    let scaled = call.attrs.bool("scale_after_normalization")?;
    let to = Kind::of(call.attrs.elem("out_type").unwrap_or(Elem::QI32))?;
    // Room for common values without overflow, with ten bits after the point.
    let high = (1 << 20) as f32;
    let fixed = |v: f32| to.number(v, -high, high) as i32;
    let factors: Vec<[i32; 2]> = (0..channels)
        .map(|c| {
            let inverse = 1.0 / (variances[c] + epsilon).sqrt();
            let scale = if scaled { inverse * gammas[c] } else { inverse };
            [fixed(scale), fixed(-means[c] * scale + betas[c])]
        })
        .collect();
    let one = fixed(1.0);
    let normal = |(k, v): (usize, f32)| {
        let [scale, offset] = factors[k % channels];
        i64::from((fixed(v).wrapping_mul(scale) / one).wrapping_add(offset))
    };
    let out: Vec<i64> = floats(0)?.into_iter().enumerate().map(normal).collect();
    Ok(vec![to.tensor(shape, &out)?.into(), Tensor::scalar(-high).into(), Tensor::scalar(high).into()])
}

/// By the mean and variance of each channel of each image.
pub(super) fn instance(call: &Call) -> Result {
    let attr = |name: &str| call.attrs.float(name);
    let given = call.attrs.bool("output_range_given").unwrap_or(false);
    let (epsilon, separation) = (attr("variance_epsilon").unwrap_or(1e-5), attr("min_separation").unwrap_or(1e-3));
    let given = if given { Some((attr("given_y_min")?, attr("given_y_max")?)) } else { None };
    if given.is_some_and(|(low, high)| low >= high) {
        return Err(invalid("given_y_min must be less than given_y_max"));
    }
    let (low, high) = (bound(call, 1)?, bound(call, 2)?);
    if low >= high || low.is_nan() || high.is_nan() {
        return Err(invalid(format!("a range from {low} to {high} is empty")));
    }
    let shape = call.tensor(0)?.shape();
    let &[_, height, width, channels] = shape else {
        return Err(invalid(format!("images must be of rank 4, not of shape {shape:?}")));
    };
    let (kind, numbers) = Kind::operand(call, 0)?;
    let scale = (high - low) / 255.0;
    let mut out: Vec<f32> = numbers.into_iter().map(|n| n as f32).collect();
    let pixels = height * width;
    for image in out.chunks_mut((pixels * channels).max(1)) {
        let mean_of = |image: &[f32], c: usize, of: &dyn Fn(f32) -> f32| {
            image.iter().skip(c).step_by(channels).fold(0.0, |sum, &v| sum + of(v)) / pixels as f32
        };
        for c in 0..channels {
            let mean = mean_of(image, c, &|v| v);
            let variance = mean_of(image, c, &|v| (scale * (v - mean)).powi(2));
            let inverse = 1.0 / (variance + epsilon).sqrt();
            image.iter_mut().skip(c).step_by(channels).for_each(|v| *v = scale * (*v - mean) * inverse);
        }
    }
    let (low, mut high) = given.unwrap_or_else(|| {
        let least = out.iter().copied().fold(f32::INFINITY, f32::min);
        (least, out.iter().copied().fold(f32::NEG_INFINITY, f32::max))
    });
    if high - low < separation {
        high = low + separation;
    }
    let number = kind.numbers(low, high);
    let out: Vec<i64> = out.into_iter().map(number).collect();
    Ok(vec![kind.tensor(shape, &out)?.into(), Tensor::scalar(low).into(), Tensor::scalar(high).into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{run, t};
    use crate::{Attr, Value};

    fn bytes(shape: &[usize], v: impl Iterator<Item = i64>) -> Value {
        Kind::of(Elem::QU8).unwrap().tensor(shape, &v.collect::<Vec<_>>()).unwrap().into()
    }

    fn range(out: &[Value]) -> [f32; 2] {
        [1, 2].map(|k| crate::testing::v::<f32>(&out[k])[0])
    }

    fn numbers(v: &Value) -> Vec<i64> {
        super::super::uniform_tests::numbers(v)
    }

    // Expectations are TensorFlow's outputs.
    #[test]
    fn batches_are_normalised_in_fixed_point() {
        let of = |v: &[i64], low: f32, high: f32| [bytes(&[2], v.iter().copied()), t(&[], &[low]), t(&[], &[high])];
        let mut inputs = vec![bytes(&[1, 2, 3, 2], (0..12).map(|v| v * 23)), t(&[], &[-10.0f32]), t(&[], &[10.0f32])];
        inputs.extend(of(&[10, 200], -2.0, 5.0));
        inputs.extend(of(&[40, 250], 0.0, 4.0));
        inputs.extend(of(&[3, 100], -1.0, 2.0));
        inputs.extend(of(&[80, 255], 0.5, 3.0));
        let attrs = |scaled| {
            [
                ("variance_epsilon", Attr::Float(0.001)),
                ("scale_after_normalization", Attr::Bool(scaled)),
                ("out_type", Attr::Elem(Elem::QI32)),
            ]
        };
        let out = run("QuantizedBatchNormWithGlobalNormalization", &attrs(true), &inputs).unwrap();
        let expected = [-29288, -35756, -17317, -24564, -5346, -13374, 6624, -2183, 18595, 9009, 30566, 20200];
        assert_eq!((numbers(&out[0]), range(&out)), (expected.to_vec(), [-1048576.0, 1048576.0]));
        let out = run("QuantizedBatchNormWithGlobalNormalization", &attrs(false), &inputs).unwrap();
        let expected = [-23237, -11678, -13917, -7947, -4598, -4217, 4720, -487, 14039, 3243, 23359, 6974];
        assert_eq!(numbers(&out[0]), expected);
        inputs[3] = bytes(&[1, 2], [10, 200].into_iter());
        assert!(run("QuantizedBatchNormWithGlobalNormalization", &attrs(false), &inputs).is_err());
    }

    fn instances(images: Value, low: f32, high: f32, attrs: &[(&str, Attr)]) -> crate::Result {
        run("QuantizedInstanceNorm", attrs, &[images, t(&[], &[low]), t(&[], &[high])])
    }

    #[test]
    fn instances_are_normalised_to_the_range_that_they_take() {
        let images = || bytes(&[2, 2, 3, 2], (0..24).map(|v| v * 37 % 256));
        let out = instances(images(), -1.0, 4.0, &[]).unwrap();
        let expected =
            [6, 44, 89, 140, 172, 236, 255, 0, 51, 96, 134, 192, 191, 239, 4, 45, 80, 124, 156, 203, 232, 9, 45, 88].to_vec();
        assert_eq!(numbers(&out[0]), expected);
        assert!((range(&out)[0] + 1.449_807_2).abs() < 1e-6 && (range(&out)[1] - 1.684_102_2).abs() < 1e-6);
        let given =
            [("output_range_given", Attr::Bool(true)), ("given_y_min", Attr::Float(-1.5)), ("given_y_max", Attr::Float(1.0))];
        let out = instances(images(), -1.0, 4.0, &given).unwrap();
        let expected =
            [13, 60, 117, 181, 221, 255, 255, 5, 69, 125, 173, 246, 245, 255, 10, 62, 105, 161, 201, 255, 255, 17, 61, 115]
                .to_vec();
        assert_eq!((numbers(&out[0]), range(&out)), (expected, [-1.5, 1.0]));
        let out = instances(bytes(&[1, 2, 2, 1], [7; 4].into_iter()), 0.0, 4.0, &[]).unwrap();
        assert_eq!((numbers(&out[0]), range(&out)), (vec![0; 4], [0.0, 0.001]));
        assert!(instances(images(), 4.0, 4.0, &[]).is_err());
        assert!(instances(bytes(&[2, 2], 0..4), 0.0, 4.0, &[]).is_err());
        assert_eq!(range(&instances(bytes(&[1, 0, 2, 1], 0..0), 0.0, 4.0, &[]).unwrap()), [f32::INFINITY; 2]);
    }
}

//! Bilinear resizing of quantised images.

use super::ranges::bound;
use super::uniform::numbers;
use crate::image::resize::{Mapping, neighbours};
use crate::image::size_operand;
use crate::limits::checked_count;
use crate::{Call, Result, invalid, tensor_of};
use graphc_ir::{Elem, Tensor};

/// Bits after the point of a share of a neighbour.
fn resolution(elem: Elem) -> u32 {
    if elem == Elem::QI32 { 30 } else { 7 }
}

pub(super) fn bilinear(call: &Call) -> Result {
    let images = call.tensor(0)?;
    let range = [Tensor::scalar(bound(call, 2)?), Tensor::scalar(bound(call, 3)?)];
    let &[batches, height, width, channels] = images.shape() else {
        return Err(invalid(format!("images must be of rank 4, not of shape {:?}", images.shape())));
    };
    let [to_height, to_width] = size_operand(call, 1)?;
    if height == 0 || width == 0 || channels == 0 {
        return Err(invalid(format!("images of shape {:?} have no pixels", images.shape())));
    }
    let shape = [batches, to_height, to_width, channels];
    // Sizes without a batch are not bounded by the number of results.
    checked_count(&[batches.max(1), to_height, to_width, channels], images.elem().size())?;
    let done = |t: Tensor| {
        let [low, high] = range;
        Ok(vec![t.into(), low.into(), high.into()])
    };
    if [to_height, to_width] == [height, width] {
        return done(images.clone());
    }
    let mapping = Mapping::of(call);
    let (ys, xs) = (neighbours(mapping, height, to_height), neighbours(mapping, width, to_width));
    // Each result: the four places around it, top left first, and the shares of those to the right and below.
    let places = (0..batches).flat_map(|batch| {
        let (ys, xs) = (&ys, &xs);
        ys.iter().flat_map(move |&(top, bottom, down)| {
            xs.iter().flat_map(move |&(left, right, along)| {
                let corner = move |y: usize, x: usize| ((batch * height + y) * width + x) * channels;
                let corners = [corner(top, left), corner(top, right), corner(bottom, left), corner(bottom, right)];
                (0..channels).map(move |c| (corners.map(|k| k + c), along, down))
            })
        })
    });
    if images.elem() == Elem::F32 {
        let v = call.slice::<f32>(0)?;
        let between = |([a, b, c, d], along, down): ([usize; 4], f32, f32)| {
            let (top, bottom) = (v[a] + (v[b] - v[a]) * along, v[c] + (v[d] - v[c]) * along);
            top + (bottom - top) * down
        };
        return done(tensor_of(&shape, &places.map(between).collect::<Vec<_>>())?);
    }
    let (kind, v) = numbers(call, 0)?;
    let one = 1i64 << resolution(kind.elem);
    let share = |s: f32| (s * one as f32) as i64;
    let between = |(corners, along, down): ([usize; 4], f32, f32)| {
        let [a, b, c, d] = corners.map(|k| i64::from(v[k]));
        let (top, bottom) = (a * one + (b - a) * share(along), c * one + (d - c) * share(along));
        let sum = top + (bottom - top) / one * share(down);
        (sum + one / 2) / one
    };
    done(kind.tensor(&shape, &places.map(between).collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use super::super::uniform_tests::{numbers, of};
    use crate::testing::{run, t, v};
    use crate::{Attr, Result, Value};
    use graphc_ir::Elem;

    fn resize(images: Value, size: [i32; 2], attrs: &[(&str, Attr)]) -> Result {
        run("QuantizedResizeBilinear", attrs, &[images, t(&[2], &size), t(&[], &[-1.0f32]), t(&[], &[1.0f32])])
    }

    fn pattern() -> Vec<i64> {
        (0..24).map(|k| k * 37 % 256).collect()
    }

    // Expectations are TensorFlow's outputs, of the first image.
    #[test]
    fn numbers_between_numbers() {
        let images = || of(Elem::QU8, &[2, 2, 3, 2], &pattern());
        let out = resize(images(), [3, 5], &[]).unwrap();
        let expected = [
            0, 37, 44, 81, 88, 125, 133, 170, 148, 185, 147, 14, 90, 58, 66, 103, 110, 147, 125, 162, 222, 3, 114, 47, 54, 91, 99,
            136, 114, 151,
        ];
        assert_eq!(numbers(&out[0])[..30], expected);
        assert_eq!([v::<f32>(&out[1]), v::<f32>(&out[2])], [[-1.0], [1.0]]);
        let both = [("half_pixel_centers", Attr::Bool(true)), ("align_corners", Attr::Bool(true))];
        let expected = [
            0, 37, 19, 56, 56, 93, 93, 130, 130, 167, 56, 29, 58, 47, 63, 84, 84, 121, 121, 158, 167, 12, 137, 30, 78, 67, 67, 104,
            104, 141,
        ];
        assert_eq!(numbers(&resize(images(), [3, 5], &both).unwrap()[0])[..30], expected);
        assert_eq!(numbers(&resize(images(), [2, 3], &both).unwrap()[0]), pattern());
        let wide: Vec<i64> = pattern().iter().map(|v| v * 8_000_000 - (1 << 30)).collect();
        let out = resize(of(Elem::QI32, &[2, 2, 3, 2], &wide), [3, 2], &[]).unwrap();
        let expected = [
            -1073741823,
            -777741823,
            -185741823,
            110258176,
            110258211,
            -959075162,
            -367075162,
            -71075162,
            702258176,
            -1049741823,
            -457741823,
            -161741823,
        ];
        assert_eq!(numbers(&out[0])[..12], expected);
        assert!(resize(images(), [0, 3], &[]).is_err());
        assert!(resize(of(Elem::QU8, &[0, 2, 2, 1], &[]), [i32::MAX; 2], &[]).is_err());
        assert!(resize(of(Elem::QU8, &[1, 1], &[1]), [1, 3], &[]).is_err());
    }

    #[test]
    fn floats_between_floats() {
        let images: Vec<f32> = pattern().iter().map(|&v| (v - 100) as f32 * 0.1).collect();
        let out = resize(t(&[2, 2, 3, 2], &images), [1, 5], &[("half_pixel_centers", Attr::Bool(true))]).unwrap();
        let expected = [1.1, -8.0, -1.06, -5.04, -4.3, -0.6, 0.14, 3.84, 3.1, 6.8];
        assert!(v::<f32>(&out[0]).iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

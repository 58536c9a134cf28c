//! Uniform quantisation against outputs of TensorFlow.

use super::ranges::Kind;
use crate::testing::{run, t, v};
use crate::{Attr, HostError, Result, Value};
use graphc_ir::{Elem, Tensor};

/// A tensor of quantised numbers.
pub(super) fn of(elem: Elem, shape: &[usize], v: &[i64]) -> Value {
    Kind::of(elem).and_then(|k| k.tensor(shape, v)).unwrap_or_else(|e| panic!("{e}")).into()
}

/// The numbers of a quantised tensor.
pub(super) fn numbers(v: &Value) -> Vec<i64> {
    let bytes = v.as_tensor().map(Tensor::bytes).unwrap_or_default();
    match v.elem() {
        Elem::QI8 => bytes.iter().map(|&b| i64::from(b as i8)).collect(),
        Elem::QU8 => bytes.iter().map(|&b| i64::from(b)).collect(),
        Elem::QI32 => bytes.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        e => panic!("{e}"),
    }
}

const WIDE: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const BYTE: (i64, i64) = (-128, 127);

/// Attributes: bounds with a prefix.
fn bounds(prefix: &'static str, (low, high): (i64, i64)) -> [(String, Attr); 2] {
    [("min", low), ("max", high)].map(|(name, v)| (format!("{prefix}quantization_{name}_val"), Attr::Int(v)))
}

fn call(op: &str, attrs: &[(String, Attr)], more: &[(&str, Attr)], inputs: &[Value]) -> Result {
    let attrs: Vec<(&str, Attr)> = attrs.iter().map(|(k, v)| (&**k, v.clone())).chain(more.iter().cloned()).collect();
    run(op, &attrs, inputs)
}

/// Scales and zero points: scalars for one of each, else vectors.
fn params(scales: &[f32], zeros: &[i32]) -> [Value; 2] {
    let shape: &[usize] = if scales.len() == 1 { &[] } else { &[scales.len()] };
    [t(shape, scales), t(shape, zeros)]
}

fn first(out: Result) -> std::result::Result<Vec<i64>, HostError> {
    out.map(|out| numbers(&out[0]))
}

fn quantize(elem: Elem, b: (i64, i64), input: Value, (scales, zeros): (&[f32], &[i32]), axis: i64) -> Result {
    let [s, z] = params(scales, zeros);
    call("UniformQuantize", &bounds("", b), &[("Tout", Attr::Elem(elem)), ("quantization_axis", Attr::Int(axis))], &[input, s, z])
}

#[test]
fn floats_become_numbers() {
    let input = t(&[6], &[-27.0f32, -20.0, 0.5, 0.75, 24.0, 1000.0]);
    let out = quantize(Elem::QI8, BYTE, input.clone(), (&[0.25], &[-20]), -1);
    assert_eq!(first(out).unwrap(), [-128, -100, -18, -17, 76, 127]);
    let odd = t(&[4], &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e9]);
    assert_eq!(first(quantize(Elem::QI8, BYTE, odd.clone(), (&[1.0], &[2]), -1)).unwrap(), [-128; 4]);
    assert_eq!(first(quantize(Elem::QI32, WIDE, odd, (&[1.0], &[2]), -1)).unwrap(), [WIDE.0 + 2; 4]);
    let halves = t(&[4], &[-1.0f32, -0.5, 0.5, 300.0]);
    assert_eq!(first(quantize(Elem::QU8, (0, 255), halves, (&[1.0], &[2]), -1)).unwrap(), [1, 2, 3, 255]);
    let steps: Vec<f32> = (0..12).map(|k| k as f32 * 1.3 - 4.0).collect();
    let out = quantize(Elem::QI8, BYTE, t(&[2, 3, 2], &steps), (&[0.5, 1.0, 3.0], &[1, -2, 3]), 1);
    assert_eq!(first(out).unwrap(), [-7, -4, -3, -2, 3, 4, 9, 11, 4, 6, 6, 6]);
    for axis in [-2, 0, 1] {
        assert!(quantize(Elem::QI8, BYTE, input.clone(), (&[0.25, 0.5], &[1, 2]), axis).is_err());
    }
}

#[test]
fn numbers_become_floats() {
    let dequantize = |input: Value, (scales, zeros): (&[f32], &[i32]), axis: i64| {
        let [s, z] = params(scales, zeros);
        call("UniformDequantize", &[], &[("Tout", Attr::Elem(Elem::F32)), ("quantization_axis", Attr::Int(axis))], &[input, s, z])
    };
    let input = of(Elem::QI8, &[2, 2], &[-128, -100, 0, 127]);
    assert_eq!(v::<f32>(&dequantize(input.clone(), (&[0.25, 0.5], &[-20, 3]), 1).unwrap()[0]), [-27.0, -51.5, 5.0, 62.0]);
    // The differences wrap.
    let wide = of(Elem::QI32, &[2], &[WIDE.0, WIDE.1]);
    assert_eq!(v::<f32>(&dequantize(wide, (&[0.25], &[20]), -1).unwrap()[0]), [536_870_912.0; 2]);
    assert!(dequantize(input, (&[-0.25], &[20]), -1).is_err());
}

#[test]
fn numbers_move_to_other_scales() {
    let requantize = |input: Value, from: (&[f32], &[i32]), to: (&[f32], &[i32]), axes: (i64, i64)| {
        let ([a, b], [c, d]) = (params(from.0, from.1), params(to.0, to.1));
        let more = [
            ("Tout", Attr::Elem(Elem::QI8)),
            ("input_quantization_axis", Attr::Int(axes.0)),
            ("output_quantization_axis", Attr::Int(axes.1)),
        ];
        first(call("UniformRequantize", &bounds("output_", BYTE), &more, &[input, a, b, c, d]))
    };
    let wide = of(Elem::QI32, &[7], &[WIDE.0, -100, -5, 0, 5, 100, WIDE.1]);
    assert_eq!(requantize(wide, (&[0.3], &[2]), (&[0.7], &[-4]), (-1, -1)).unwrap(), [127, -48, -7, -5, -3, 38, 127]);
    let bytes = || of(Elem::QI8, &[2, 2], &[-50, 50, 3, 7]);
    assert_eq!(requantize(bytes(), (&[0.3], &[2]), (&[0.7, 0.1], &[-4, 5]), (-1, 1)).unwrap(), [-26, 127, -4, 20]);
    assert_eq!(requantize(bytes(), (&[0.3, 0.9], &[2, 1]), (&[0.7], &[5]), (1, -1)).unwrap(), [-17, 68, 5, 13]);
    assert_eq!(requantize(bytes(), (&[0.3, 0.9], &[2, 1]), (&[0.7, 1e20], &[5, 6]), (0, 0)).unwrap(), [-17, 26, 6, 6]);
    let bytes = of(Elem::QI8, &[2, 2], &[-50, 50, 3, 0]);
    assert_eq!(requantize(bytes.clone(), (&[1e20], &[0]), (&[1e-10], &[5]), (-1, -1)).unwrap(), [-128, -128, -128, 5]);
    assert!(requantize(bytes, (&[0.3, 0.9], &[2, 1]), (&[0.7, 0.2], &[5, 6]), (0, 1)).is_err());
}

/// An operand of a sum or its result: numbers, scales, zero points, axis.
type Part<'a> = (&'a [f32], &'a [i32], i64);

fn add(left: Value, right: Value, l: Part, r: Part, out: Part, b: (i64, i64)) -> std::result::Result<Vec<i64>, HostError> {
    let pairs = [l, r, out].map(|(s, z, _)| params(s, z)).concat();
    let more = [
        ("lhs_quantization_axis", Attr::Int(l.2)),
        ("rhs_quantization_axis", Attr::Int(r.2)),
        ("output_quantization_axis", Attr::Int(out.2)),
    ];
    first(call("UniformQuantizedAdd", &bounds("output_", b), &more, &[vec![left, right], pairs].concat()))
}

#[test]
fn sums_take_the_scales_of_the_result() {
    let left = || of(Elem::QI32, &[2, 3], &[-6, -4, -2, 0, 2, 4]);
    let right = || of(Elem::QI32, &[3], &[-100, 0, 200]);
    let (l, r, out): (Part, Part, Part) = ((&[2.0], &[3], -1), (&[1.0], &[-4], -1), (&[0.5], &[3], -1));
    assert_eq!(add(left(), right(), l, r, out, WIDE).unwrap(), [-225, -17, 391, -201, 7, 415]);
    let five = of(Elem::QI32, &[], &[5]);
    assert_eq!(add(left(), five, l, r, out, (-10, 20)).unwrap(), [-10, -7, 1, 9, 17, 20]);
    let many: Part = (&[2.0, 3.0, 1.0], &[3, 1, 2], 1);
    assert_eq!(add(left(), right(), many, r, out, WIDE).unwrap(), [-225, -19, 403, -201, 17, 415]);
    let (r3, out3): (Part, Part) = ((&[1.0, 0.5, 0.2], &[-4, 0, 1], 0), (&[0.5, 0.7, 0.9], &[3, 2, 1], 1));
    assert_eq!(add(left(), right(), many, r3, out3, WIDE).unwrap(), [-225, -19, 41, -201, 6, 47]);
    assert!(add(left(), of(Elem::QI32, &[2], &[1, 2]), l, r, out, WIDE).is_err());
    assert!(add(left(), right(), (&[1.0, 2.0], &[0, 0], 0), r, out3, WIDE).is_err());
    // Numbers of 32 bits go through floats.
    let (one, large) = ((&[1.0f32][..], &[0][..], -1), [(1 << 25) + 1, (1 << 25) + 3, (1 << 30) + 65, WIDE.1]);
    let out = add(of(Elem::QI32, &[4], &large), of(Elem::QI32, &[], &[1]), one, one, one, WIDE).unwrap();
    assert_eq!(out, [(1 << 25) + 1, (1 << 25) + 5, (1 << 30) + 129, WIDE.0 + 1]);
}

#[test]
fn clips_by_channel() {
    let clip = |(least, most): (&[i64], &[i64]), axis: i64| {
        let shape: &[usize] = if axis < 0 { &[] } else { &[least.len()] };
        let [s, z] = params(&vec![-1.0; least.len()], &vec![0; least.len()]);
        let bound = |v| of(Elem::QI32, shape, v);
        let operand = of(Elem::QI32, &[2, 3], &[-6, -4, -2, 0, 2, 4]);
        let axis = [("quantization_axis", Attr::Int(axis))];
        first(call("UniformQuantizedClipByValue", &[], &axis, &[operand, bound(least), bound(most), s, z]))
    };
    assert_eq!(clip((&[-5, -3, 0], &[-1, -5, 3]), 1).unwrap(), [-5, -5, 0, -1, -5, 3]);
    assert_eq!(clip((&[-5], &[3]), -1).unwrap(), [-5, -4, -2, 0, 2, 3]);
    assert!(clip((&[-5, 1], &[3, 2]), 1).is_err());
}

/// A product: `[]` or a vector of scales of the right factor and of the result.
fn product(op: &str, left: Value, right: Value, (l, r, out): (Part, Part, Part), more: &[(&str, Attr)]) -> Result {
    let pairs = [l, r, out].map(|(s, z, _)| params(s, z)).concat();
    let axes = [
        ("lhs_quantization_axis", Attr::Int(l.2)),
        ("rhs_quantization_axis", Attr::Int(r.2)),
        ("output_quantization_axis", Attr::Int(out.2)),
    ];
    call(op, &bounds("output_", WIDE), &[&axes[..], more].concat(), &[vec![left, right], pairs].concat())
}

#[test]
fn products_of_matrices() {
    let right = || of(Elem::QI8, &[2, 3], &[1, 2, 3, 4, -5, 6]);
    let dot = |l: Part, r: Part, out: Part| {
        let left = of(Elem::QI8, &[3, 2], &[1, 2, 3, -4, -128, 127]);
        first(product("UniformQuantizedDot", left, right(), (l, r, out), &[]))
    };
    let (l, r, out): (Part, Part, Part) = ((&[0.5], &[1], -1), (&[2.0], &[2], -1), (&[0.25], &[-20], -1));
    assert_eq!(dot(l, r, out).unwrap(), [-12, -48, -4, -68, 120, -92, 1504, -3548, 1480]);
    let r3: Part = (&[2.0, 4.0, 0.3], &[2, 4, 6], 1);
    assert_eq!(dot(l, r3, out).unwrap(), [-12, -92, -20, -68, 308, -24, 1504, -7028, 212]);
    let out3: Part = (&[0.25, 0.5, 0.1], &[4, 8, 12], 1);
    assert_eq!(dot(l, r3, out3).unwrap(), [12, -28, 12, -44, 172, 3, 1528, -3496, 593]);
    for (l, r, out) in [(l, r, out3), ((&[-0.5][..], &[1][..], -1), r, out), (l, (&[2.0][..], &[2][..], 0), out)] {
        assert!(dot(l, r, out).is_err());
    }
    let hybrid = |r: Part| {
        let [s, z] = params(r.0, r.1);
        let left = t(&[4, 2], &[1.0f32, 2.0, -3.0, 4.5, 0.0, 0.0, 5.0, 6.0]);
        let out = call("UniformQuantizedDotHybrid", &[], &[("rhs_quantization_axis", Attr::Int(r.2))], &[left, right(), s, z]);
        v::<f32>(&out.unwrap()[0])
    };
    let expected = [5.992157, -28.000002, 18.007845, 24.0, -63.0, 30.0, 0.0, 0.0, 0.0, 13.976471, -84.0, 58.02353];
    assert_eq!(hybrid(r), expected);
    let expected = [5.992157, -5.101_177, 2.097255, 24.0, -9.900001, 8.4, 0.0, 0.0, 0.0, 13.976471, -15.90353, 4.8917646];
    assert_eq!(hybrid((&[2.0, 0.3, 0.7], &[2, 3, 4], 1)), expected);
}

fn ints(v: &[i64]) -> Attr {
    Attr::List(v.iter().map(|&v| Attr::Int(v)).collect())
}

fn image(k: i64) -> i64 {
    k * 7 % 50 - 20
}

fn filter() -> Vec<i64> {
    (0..16).map(|k| k * 5 % 31 - 12).collect()
}

fn padding(name: &str) -> (&'static str, Attr) {
    ("padding", Attr::Str(name.as_bytes().to_vec()))
}

const LEFT: Part = (&[2.0], &[1], -1);
const RIGHT: Part = (&[3.0], &[3], -1);
const RIGHTS: (&[f32], &[i32]) = (&[1.0, 2.0, 3.0, 0.5], &[3, 4, 5, 6]);
const OUTS: (&[f32], &[i32]) = (&[0.5, 0.6, 0.7, 0.8], &[3, 2, 1, 0]);

fn convolution(left: Value, right: Value, parts: (Part, Part, Part), more: &[(&str, Attr)]) -> Result {
    product("UniformQuantizedConvolution", left, right, parts, more)
}

#[test]
fn convolutions_with_padding_holes_and_groups() {
    let left = || of(Elem::QI8, &[2, 2, 2, 3], &(0..24).map(image).collect::<Vec<_>>());
    let right = || of(Elem::QI8, &[4, 1, 2, 2], &filter());
    let more = [
        padding("EXPLICIT"),
        ("explicit_padding", ints(&[0, 1, 0, 2])),
        ("lhs_dilation", ints(&[2, 2])),
        ("rhs_dilation", ints(&[1, 2])),
        ("window_strides", ints(&[2, 1])),
        ("feature_group_count", Attr::Int(2)),
    ];
    let parts = (LEFT, (RIGHTS.0, RIGHTS.1, 0), (OUTS.0, OUTS.1, 1));
    let out = convolution(left(), right(), parts, &more).unwrap();
    assert_eq!(out[0].shape(), [2, 4, 2, 5]);
    let expected = [
        1823, 3, 1123, 3, 423, -277, 3, -977, 3, -837, -1398, 2, -791, 2, -185, 422, 2, 1029, 2, 375, -2159, 1, -1533, 1, 1030,
        575, 1, -85, 1, -410, -236, 0, 666, 0, -206, -91, 0, -126, 0, 82, -1577, 3, -2277, 3, -1617, 1323, 3, 623, 3, 123, 1549, 2,
        2155, 2, 722, -965, 2, -358, 2, -51, -650, 1, -1310, 1, -1302, -1345, 1, 1424, 1, 687, -156, 0, -191, 0, 261, 676, 0, -46,
        0, -137,
    ];
    assert_eq!(numbers(&out[0]), expected);
    // What pads is the zero point as a number of 8 bits.
    let out = convolution(left(), right(), ((&[2.0], &[300], -1), (&[3.0], &[4], -1), (&[50.0], &[1], -1)), &more).unwrap();
    let expected =
        [1244, 1045, 1221, 1045, 1141, 1176, 1045, 1153, 1045, 1101, -552, -460, -541, -460, -484, -519, -460, -508, -460, -474];
    assert_eq!(numbers(&out[0])[..20], expected);
    let valid = |window: i64, stride: i64| {
        let more =
            [padding("VALID"), ("rhs_dilation", ints(&[window, 1])), ("window_strides", ints(&[stride, 1])), more[5].clone()];
        convolution(left(), right(), (LEFT, RIGHT, RIGHT), &more)
    };
    assert_eq!(valid(3, 3).unwrap()[0].shape(), [2, 4, 0, 2]);
    assert!(valid(3, 1).is_err() && valid(1, 0).is_err());
    for bad in [&[padding("FOO"), more[5].clone()][..], &[padding("SAME"), more[1].clone(), more[5].clone()], &[padding("SAME")]] {
        assert!(convolution(left(), right(), (LEFT, RIGHT, RIGHT), bad).is_err());
    }
}

#[test]
fn convolutions_in_any_order_and_number_of_dimensions() {
    // Images as rows, columns, features; filters with output features last; the result has channels first and columns before rows.
    let numbers_of = [16, 3, 26, 2, 1, 2, 32, 2, 40, 3, 50, 2, 0, 1, 56, 1, 74, 2, 3, 2];
    let order = ("dimension_numbers", Attr::Str(numbers_of.to_vec()));
    let more = [padding("SAME"), ("window_strides", ints(&[1, 2])), ("feature_group_count", Attr::Int(2)), order];
    let left = (0..24).map(|k| image((k / 12) * 12 + (k % 2) * 6 + k % 12 / 2)).collect::<Vec<_>>();
    let right = (0..16).map(|k| filter()[(k % 4 * 4 + k / 4) as usize]).collect::<Vec<_>>();
    let (left, right) = (of(Elem::QI8, &[2, 2, 3, 2], &left), of(Elem::QI8, &[2, 2, 1, 4], &right));
    let parts = (LEFT, (RIGHTS.0, RIGHTS.1, 3), (OUTS.0, OUTS.1, 0));
    let out = convolution(left.clone(), right.clone(), parts, &more).unwrap();
    assert_eq!(out[0].shape(), [4, 2, 2, 2]);
    let expected = [
        1823, -277, 143, -837, -1257, 1323, -1577, 123, -1958, 422, 1122, 375, 775, -965, 535, -51, -2356, 575, 1132, -410, -1225,
        -1345, -1473, 687, -130, -91, -281, 82, -375, 676, 386, -137,
    ];
    assert_eq!(numbers(&out[0]), expected);
    let garbage = [padding("SAME"), ("dimension_numbers", Attr::Str(vec![0xff, 0xff]))];
    assert!(convolution(left, right, (LEFT, RIGHT, RIGHT), &garbage).is_err());
    let left = of(Elem::QI8, &[2, 4, 3], &(0..24).map(image).collect::<Vec<_>>());
    let out =
        convolution(left, of(Elem::QI8, &[2, 4, 2], &filter()), (LEFT, RIGHT, (&[0.5], &[3], -1)), &[padding("VALID")]).unwrap();
    assert_eq!(numbers(&out[0]), [8775, 1851, 2631, 9747, 4887, -5037, -5577, -1461]);
}

#[test]
fn convolutions_of_floats() {
    let hybrid = |(scales, zeros, axis): Part, more: &[(&str, Attr)]| {
        let [s, z] = params(scales, zeros);
        let left: Vec<f32> = (0..24).map(|k| (image(k) as f64 * 0.37 - 1.0) as f32).collect();
        let inputs = [t(&[2, 2, 2, 3], &left), of(Elem::QI8, &[4, 1, 2, 2], &filter()), s, z];
        let more = [more, &[("rhs_quantization_axis", Attr::Int(axis)), ("feature_group_count", Attr::Int(2))]].concat();
        v::<f32>(&call("UniformQuantizedConvolutionHybrid", &[], &more, &inputs).unwrap()[0])
    };
    let more = [padding("SAME"), ("window_strides", ints(&[2, 2])), ("batch_group_count", Attr::Int(2))];
    let expected = [187.34332, 25.239803, -237.75183, 101.812386, -154.37271, -179.27155, -49.82957, 56.820393];
    assert_eq!(hybrid((RIGHTS.0, RIGHTS.1, 0), &more), expected);
    let out = hybrid((&[3.0], &[4], -1), &[padding("VALID")]);
    assert_eq!(out[..6], [600.636_2, 335.93823, -356.62775, -236.54318, -263.63153, -138.85446]);
}

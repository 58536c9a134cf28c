//! Matrix work: contraction, convolutions, attention. Sums are kept in `f64`; the epilogue runs in `f64` and rounds once.

use super::Outputs;
use super::array::{Array, Data, reals, round, rounded};
use super::error::EvalError;
use super::movement::constants;
use super::{elementwise, reduce, tape};
use crate::attr::Attrs;
use crate::elem::Elem;
use crate::epilogue;
use crate::op::Op;
use crate::tape::Bin;
use crate::tensor::Tensor;
use ndarray::linalg::Dot;
use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView2, IxDyn, LinalgScalar, s};
use std::num::Wrapping;

/// Adds bias and residual and applies the activation, rounding once. `rest` are the operands after the two factors.
fn finish(elem: Elem, y: ArrayD<f64>, rest: &[Tensor], a: &Attrs) -> Result<Tensor, EvalError> {
    let elem = a.elem("elem").unwrap_or(elem);
    let mut rest = rest.iter();
    let mut operand = |flag: &str| match a.flag(flag) {
        true => rest.next().map(|t| Ok(Array::real(Elem::F64, reals(t)?))).transpose(),
        false => Ok(None),
    };
    let (bias, residual) = (operand("bias")?, operand("residual")?);
    let mut y = Array::real(Elem::F64, y);
    if let Some(b) = &bias {
        y = tape::bin(Bin::Add, &y, b)?;
    }
    let act = epilogue::activation(a).map_err(EvalError::malformed)?;
    let last = a.flag("residual_last");
    if let Some(r) = residual.as_ref().filter(|_| !last) {
        y = tape::bin(Bin::Add, &y, r)?;
    }
    if let Some((op, attrs)) = act {
        let shape = y.shape().to_vec();
        y = elementwise(op, &attrs, &[y], &shape)?;
    }
    if let Some(r) = residual.as_ref().filter(|_| last) {
        y = tape::bin(Bin::Add, &y, r)?;
    }
    let y = y.into_real()?;
    if elem == Elem::U8 {
        let shape = y.shape().to_vec();
        return elementwise(Op::Quantise, a, &[Array::of(&rounded(Elem::F32, y)?)?], &shape)?.to_tensor();
    }
    rounded(elem, y)
}

/// The same for integers and complex numbers, which have no activation.
fn finish_exact(mut y: Array, rest: &[Tensor], a: &Attrs) -> Result<Tensor, EvalError> {
    if epilogue::activation(a).map_err(EvalError::malformed)?.is_some() {
        return Err(EvalError::unsupported(format!("no activation of {}", y.elem)));
    }
    for t in rest {
        y = tape::bin(Bin::Add, &y, &Array::of(t)?)?;
    }
    y.to_tensor()
}

/// The array as a stack of matrices with the axes `first`, `second` and `third` each taken together.
fn stacked<T: Clone>(a: &ArrayD<T>, axes: [&[usize]; 3]) -> Result<Array3<T>, EvalError> {
    let extent = |list: &[usize]| list.iter().map(|&i| a.shape()[i]).product::<usize>();
    let shape = (extent(axes[0]), extent(axes[1]), extent(axes[2]));
    let flat = a.view().permuted_axes(IxDyn(&axes.concat())).iter().cloned().collect();
    Array3::from_shape_vec(shape, flat).map_err(|e| EvalError::shape(e.to_string()))
}

fn product<T: LinalgScalar>(a: &ArrayD<T>, b: &ArrayD<T>, at: &Attrs, out: &[usize]) -> Result<ArrayD<T>, EvalError> {
    let (l, r, lb, rb) = (at.sizes("lhs"), at.sizes("rhs"), at.sizes("lhs_batch"), at.sizes("rhs_batch"));
    let free =
        |rank: usize, x: &[usize], y: &[usize]| -> Vec<usize> { (0..rank).filter(|i| !x.contains(i) && !y.contains(i)).collect() };
    let a = stacked(a, [&lb, &free(a.ndim(), &l, &lb), &l])?;
    let b = stacked(b, [&rb, &r, &free(b.ndim(), &r, &rb)])?;
    let mut y = Array3::<T>::zeros((a.shape()[0], a.shape()[1], b.shape()[2]));
    for ((mut y, a), b) in y.outer_iter_mut().zip(a.outer_iter()).zip(b.outer_iter()) {
        y.assign(&a.dot(&b));
    }
    y.into_shape_with_order(IxDyn(out)).map_err(|e| EvalError::shape(e.to_string()))
}

/// Factors of integers, as reals.
fn integers(x: &Tensor) -> Result<ArrayD<f64>, EvalError> {
    tape::cast(&Array::of(x)?, Elem::F64).into_real()
}

/// The result of a product of integers from its sums; `rest` are the operands after the factors.
fn finish_scaled(y: ArrayD<f64>, rest: &[Tensor], a: &Attrs) -> Result<Tensor, EvalError> {
    let [scale, shift, rest @ ..] = rest else { return Err(EvalError::malformed("a product of integers without a scale")) };
    finish(Elem::F32, (y + integers(shift)?) * reals(scale)?, rest, a)
}

pub fn contract(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let elem = x[0].elem();
    if a.flag("scaled") {
        return finish_scaled(product(&integers(&x[0])?, &integers(&x[1])?, a, &out[0])?, &x[2..], a);
    }
    let alpha = Some(a.real("alpha")).filter(|&v| v != 0.0);
    match (Array::of(&x[0])?.data, Array::of(&x[1])?.data) {
        (Data::Real(l), Data::Real(r)) => {
            let mut y = product(&l, &r, a, &out[0])?;
            if let Some(alpha) = alpha {
                let alpha = round(if elem == Elem::F64 { Elem::F64 } else { Elem::F32 }, alpha);
                y.mapv_inplace(|v| v * alpha);
            }
            finish(elem, y, &x[2..], a)
        }
        _ if alpha.is_some() => Err(EvalError::unsupported(format!("no scaled product of {elem}"))),
        (Data::Int(l), Data::Int(r)) => {
            let y = product(&l.mapv(Wrapping), &r.mapv(Wrapping), a, &out[0])?;
            let y = Array { elem: Elem::I64, data: Data::Int(y.mapv(|v| v.0)) };
            finish_exact(tape::cast(&y, elem), &x[2..], a)
        }
        (Data::Complex(l), Data::Complex(r)) => {
            finish_exact(Array { elem, data: Data::Complex(product(&l, &r, a, &out[0])?) }, &x[2..], a)
        }
        _ => Err(EvalError::unsupported(format!("no product of {elem}"))),
    }
}

/// A two-dimensional window over NHWC images.
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    low: [i64; 2],
}

impl Window {
    fn new(kernel: &[usize], a: &Attrs) -> Window {
        let pair = |v: &[usize]| [v.first().copied().unwrap_or(1), v.get(1).copied().unwrap_or(1)];
        let low = constants(a, "low");
        Window {
            kernel: pair(kernel),
            strides: pair(&a.sizes("strides")),
            dilations: pair(&a.sizes("dilations")),
            low: [low.first().copied().unwrap_or(0), low.get(1).copied().unwrap_or(0)],
        }
    }

    /// Position on the input's axis (0 for height, 1 for width) that output `o` reads with tap `k`; `None` in the padding.
    fn at(&self, axis: usize, o: usize, k: usize, extent: usize) -> Option<usize> {
        let p = (o * self.strides[axis] + k * self.dilations[axis]) as i64 - self.low[axis];
        usize::try_from(p).ok().filter(|&p| p < extent)
    }

    /// Calls `f(oy, ox, ky, kx, y, x)` for each tap of each output that is not padding.
    fn for_each(&self, out: [usize; 2], extent: [usize; 2], mut f: impl FnMut(usize, usize, usize, usize, usize, usize)) {
        for oy in 0..out[0] {
            for ky in 0..self.kernel[0] {
                let Some(y) = self.at(0, oy, ky, extent[0]) else { continue };
                for ox in 0..out[1] {
                    for kx in 0..self.kernel[1] {
                        if let Some(x) = self.at(1, ox, kx, extent[1]) {
                            f(oy, ox, ky, kx, y, x);
                        }
                    }
                }
            }
        }
    }
}

fn images(t: &Tensor) -> Result<Array4<f64>, EvalError> {
    reals(t)?.into_dimensionality().map_err(|e| EvalError::shape(e.to_string()))
}

fn matrix(v: ArrayView2<f64>, w: ArrayView2<f64>) -> Array2<f64> {
    Dot::dot(&v, &w)
}

pub fn conv2d(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let four = |v: ArrayD<f64>| v.into_dimensionality().map_err(|e| EvalError::shape(e.to_string()));
    let scaled = a.flag("scaled");
    let (input, kernel): (Array4<f64>, Array4<f64>) = match scaled {
        true => (four(integers(&x[0])?)?, four(integers(&x[1])?)?),
        false => (images(&x[0])?, images(&x[1])?),
    };
    let (kh, kw, c, k) = kernel.dim();
    let (n, h, w, _) = input.dim();
    let groups = a.size("groups").max(1);
    let per_group = k / groups;
    let window = Window::new(&[kh, kw], a);
    let [oh, ow] = [out[0][1], out[0][2]];
    let filters = kernel.to_shape((kh * kw * c, k)).map_err(|e| EvalError::shape(e.to_string()))?;
    let mut y = Array4::<f64>::zeros((n, oh, ow, k));
    let mut patches = Array2::<f64>::zeros((oh * ow, kh * kw * c));
    for image in 0..n {
        for g in 0..groups {
            patches.fill(if scaled { a.int("x_zero") as f64 } else { 0.0 });
            window.for_each([oh, ow], [h, w], |oy, ox, ky, kx, py, px| {
                let tap = (ky * kw + kx) * c;
                patches.slice_mut(s![oy * ow + ox, tap..tap + c]).assign(&input.slice(s![image, py, px, g * c..(g + 1) * c]));
            });
            let channels = g * per_group..(g + 1) * per_group;
            let r = matrix(patches.view(), filters.slice(s![.., channels.clone()]));
            let r = r.into_shape_with_order((oh, ow, per_group)).map_err(|e| EvalError::shape(e.to_string()))?;
            y.slice_mut(s![image, .., .., channels]).assign(&r);
        }
    }
    if scaled {
        return finish_scaled(y.into_dyn(), &x[2..], a);
    }
    finish(x[0].elem(), y.into_dyn(), &x[2..], a)
}

pub fn depthwise(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let (input, kernel) = (images(&x[0])?, images(&x[1])?);
    let (kh, kw, c, m) = kernel.dim();
    let (n, h, w, _) = input.dim();
    let window = Window::new(&[kh, kw], a);
    let [oh, ow] = [out[0][1], out[0][2]];
    let mut y = Array4::<f64>::zeros((n, oh, ow, c * m));
    let missing = || EvalError::malformed("an array is not in standard layout");
    let (input, kernel) = (input.as_slice().ok_or_else(missing)?, kernel.as_slice().ok_or_else(missing)?);
    let sums = y.as_slice_mut().ok_or_else(missing)?;
    for image in 0..n {
        window.for_each([oh, ow], [h, w], |oy, ox, ky, kx, py, px| {
            let pixel = ((image * h + py) * w + px) * c;
            let (tap, at) = ((ky * kw + kx) * c * m, ((image * oh + oy) * ow + ox) * c * m);
            let (taps, to) = (&kernel[tap..tap + c * m], &mut sums[at..at + c * m]);
            for ((y, t), i) in to.iter_mut().zip(taps).zip(0..) {
                *y += input[pixel + i / m] * t;
            }
        });
    }
    finish(x[0].elem(), y.into_dyn(), &x[2..], a)
}

pub fn conv_transpose2d(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let (input, kernel) = (images(&x[0])?, images(&x[1])?);
    let (kh, kw, c, k) = kernel.dim();
    let (n, oh, ow, _) = input.dim();
    let window = Window::new(&[kh, kw], a);
    let [h, w] = [out[0][1], out[0][2]];
    let bad = |e: ndarray::ShapeError| EvalError::shape(e.to_string());
    let filters = kernel.to_shape((kh * kw * c, k)).map_err(bad)?;
    let pixels = input.to_shape((n * oh * ow, k)).map_err(bad)?;
    let spread = matrix(pixels.view(), filters.t());
    let mut y = Array4::<f64>::zeros((n, h, w, c));
    for image in 0..n {
        window.for_each([oh, ow], [h, w], |oy, ox, ky, kx, py, px| {
            let tap = (ky * kw + kx) * c;
            let mut to = y.slice_mut(s![image, py, px, ..]);
            to += &spread.slice(s![(image * oh + oy) * ow + ox, tap..tap + c]);
        });
    }
    finish(x[0].elem(), y.into_dyn(), &x[2..], a)
}

/// A window without any element gives the least value for max and NaN for avg.
pub fn pool2d(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let elem = x[0].elem();
    let array = Array::of(&x[0])?;
    let input: Array4<f64> = match tape::cast(&array, Elem::F64).into_real() {
        // 64-bit integers do not fit an f64.
        _ if elem.size() == 8 && elem.is_int() => return Err(EvalError::unsupported(format!("no pooling of {elem}"))),
        r => r?.into_dimensionality().map_err(|e| EvalError::shape(e.to_string()))?,
    };
    let (n, h, w, c) = input.dim();
    let window = Window::new(&a.sizes("window"), a);
    let [oh, ow] = [out[0][1], out[0][2]];
    let max = a.str("kind") == "max";
    let mut y = Array4::<f64>::from_elem((n, oh, ow, c), if max { f64::NEG_INFINITY } else { 0.0 });
    let mut count = Array2::<f64>::zeros((oh, ow));
    for image in 0..n {
        count.fill(0.0);
        window.for_each([oh, ow], [h, w], |oy, ox, _, _, py, px| {
            count[[oy, ox]] += 1.0;
            let from = input.slice(s![image, py, px, ..]);
            y.slice_mut(s![image, oy, ox, ..])
                .zip_mut_with(&from, |y, &v| *y = if max { super::scalar::greater(*y, v) } else { *y + v });
        });
        if !max {
            for ((oy, ox), &count) in count.indexed_iter() {
                y.slice_mut(s![image, oy, ox, ..]).mapv_inplace(|v| v / count);
            }
        }
    }
    tape::cast(&Array::real(Elem::F64, y.into_dyn()), elem).to_tensor()
}

pub fn attention(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let (q, k, v) = (images(&x[0])?, images(&x[1])?, images(&x[2])?);
    let (n, t, heads, _) = q.dim();
    let keys = k.dim().1;
    let mask = x.get(3).map(reals).transpose()?;
    let mask = match &mask {
        Some(m) => Some(m.broadcast(IxDyn(&[n, heads, t, keys])).ok_or_else(|| EvalError::shape("the mask does not broadcast"))?),
        None => None,
    };
    let mut y = ArrayD::<f64>::zeros(IxDyn(&out[0]));
    for image in 0..n {
        for head in 0..heads {
            let mut scores = matrix(q.slice(s![image, .., head, ..]), k.slice(s![image, .., head, ..]).t());
            scores *= a.real("scale");
            if let Some(mask) = &mask {
                scores += &mask.slice(s![image, head, .., ..]);
            }
            for row in scores.rows_mut() {
                reduce::softmax_row(row, false);
            }
            y.slice_mut(s![image, .., head, ..]).assign(&matrix(scores.view(), v.slice(s![image, .., head, ..])));
        }
    }
    rounded(x[0].elem(), y)
}

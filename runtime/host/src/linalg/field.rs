//! Real and complex numbers behind one interface, and matrices of them.

use graphc_ir::Scalar;
use num_complex::Complex;
use num_traits::{Float, Num, NumAssign};
use std::ops::{Index, IndexMut, Neg};

/// A real or complex number.
pub trait Field: Scalar + Num + NumAssign + Neg<Output = Self> + std::fmt::Debug {
    type Real: Field<Real = Self::Real> + Float;
    type Complex: Field<Real = Self::Real, Complex = Self::Complex>;
    const COMPLEX: bool;

    fn of(re: Self::Real, im: Self::Real) -> Self;
    fn re(self) -> Self::Real;
    fn im(self) -> Self::Real;

    fn real(re: Self::Real) -> Self {
        Self::of(re, Self::Real::zero_())
    }
    fn conj(self) -> Self {
        Self::of(self.re(), -self.im())
    }
    fn scale(self, by: Self::Real) -> Self {
        Self::of(self.re() * by, self.im() * by)
    }
    /// Divided by a real number: not the same bits as [`Field::scale`] by its reciprocal.
    fn over(self, by: Self::Real) -> Self {
        Self::of(self.re() / by, self.im() / by)
    }
    fn modulus(self) -> Self::Real {
        if Self::COMPLEX { self.re().hypot(self.im()) } else { self.re().abs() }
    }
    fn modulus2(self) -> Self::Real {
        self.re() * self.re() + self.im() * self.im()
    }
    /// Sum of the magnitudes of both parts.
    fn norm1(self) -> Self::Real {
        self.re().abs() + self.im().abs()
    }
    fn finite(self) -> bool {
        self.re().is_finite() && self.im().is_finite()
    }
    /// A real constant.
    fn num(v: f64) -> Self {
        Self::real(<Self::Real as Field>::from_f64(v))
    }
    fn not_a_number() -> Self {
        Self::num(f64::NAN)
    }

    // `Float` and `Num` both have `zero` on the way; these are free of that.
    fn zero_() -> Self {
        <Self as num_traits::Zero>::zero()
    }
    fn one_() -> Self {
        <Self as num_traits::One>::one()
    }
    fn from_f64(v: f64) -> Self;
    /// The real part as `f64`.
    fn as_f64(self) -> f64;

    fn complex(self) -> Self::Complex {
        Self::Complex::of(self.re(), self.im())
    }
    fn to_c128(self) -> Complex<f64> {
        Complex::new(self.re().as_f64(), self.im().as_f64())
    }
    /// Drops the imaginary part if this is real.
    fn from_c128(v: Complex<f64>) -> Self {
        Self::of(<Self::Real as Field>::from_f64(v.re), <Self::Real as Field>::from_f64(v.im))
    }
}

macro_rules! real {
    ($($t:ident)*) => { $(
        impl Field for $t {
            type Real = $t;
            type Complex = Complex<$t>;
            const COMPLEX: bool = false;
            fn of(re: $t, _: $t) -> $t { re }
            fn re(self) -> $t { self }
            fn im(self) -> $t { 0.0 }
            fn conj(self) -> $t { self }
            fn scale(self, by: $t) -> $t { self * by }
            fn over(self, by: $t) -> $t { self / by }
            fn from_f64(v: f64) -> $t { v as $t }
            fn as_f64(self) -> f64 { self as f64 }
        }
        impl Field for Complex<$t> {
            type Real = $t;
            type Complex = Complex<$t>;
            const COMPLEX: bool = true;
            fn of(re: $t, im: $t) -> Self { Complex::new(re, im) }
            fn re(self) -> $t { self.re }
            fn im(self) -> $t { self.im }
            fn from_f64(v: f64) -> Self { Complex::new(v as $t, 0.0) }
            fn as_f64(self) -> f64 { self.re as f64 }
        }
    )* };
}
real!(f32 f64);

/// The smallest positive normal number.
pub fn tiny<R: Float>() -> R {
    R::min_positive_value()
}

/// A matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Mat<T> {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<T>,
}

impl<T> Index<(usize, usize)> for Mat<T> {
    type Output = T;
    fn index(&self, (i, j): (usize, usize)) -> &T {
        &self.data[i * self.cols + j]
    }
}

impl<T> IndexMut<(usize, usize)> for Mat<T> {
    fn index_mut(&mut self, (i, j): (usize, usize)) -> &mut T {
        &mut self.data[i * self.cols + j]
    }
}

impl<T: Field> Mat<T> {
    pub fn zeros(rows: usize, cols: usize) -> Mat<T> {
        Mat { rows, cols, data: vec![T::zero_(); rows * cols] }
    }

    pub fn filled(rows: usize, cols: usize, v: T) -> Mat<T> {
        Mat { rows, cols, data: vec![v; rows * cols] }
    }

    pub fn identity(rows: usize, cols: usize) -> Mat<T> {
        Mat::from_fn(rows, cols, |i, j| if i == j { T::one_() } else { T::zero_() })
    }

    pub fn from_fn(rows: usize, cols: usize, f: impl Fn(usize, usize) -> T) -> Mat<T> {
        let mut data = Vec::with_capacity(rows * cols);
        for i in 0..rows {
            data.extend((0..cols).map(|j| f(i, j)));
        }
        Mat { rows, cols, data }
    }

    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    pub fn row_mut(&mut self, i: usize) -> &mut [T] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// Two different rows, to change both.
    pub fn two_rows(&mut self, i: usize, j: usize) -> (&mut [T], &mut [T]) {
        let n = self.cols;
        let (low, high) = (i.min(j), i.max(j));
        let (a, b) = self.data.split_at_mut(high * n);
        let (a, b) = (&mut a[low * n..(low + 1) * n], &mut b[..n]);
        if i < j { (a, b) } else { (b, a) }
    }

    pub fn swap_rows(&mut self, i: usize, j: usize) {
        if i != j {
            let (a, b) = self.two_rows(i, j);
            a.swap_with_slice(b);
        }
    }

    pub fn swap_cols(&mut self, i: usize, j: usize) {
        if i != j {
            for r in 0..self.rows {
                self.data.swap(r * self.cols + i, r * self.cols + j);
            }
        }
    }

    /// `row(i) += by * row(j)`.
    pub fn add_row(&mut self, i: usize, j: usize, by: T) {
        let (a, b) = self.two_rows(i, j);
        axpy(a, by, b);
    }

    pub fn transpose(&self) -> Mat<T> {
        Mat::from_fn(self.cols, self.rows, |i, j| self[(j, i)])
    }

    pub fn adjoint(&self) -> Mat<T> {
        Mat::from_fn(self.cols, self.rows, |i, j| self[(j, i)].conj())
    }

    pub fn mul(&self, o: &Mat<T>) -> Mat<T> {
        let mut r = Mat::zeros(self.rows, o.cols);
        for i in 0..self.rows {
            let out = &mut r.data[i * o.cols..(i + 1) * o.cols];
            for (k, &a) in self.row(i).iter().enumerate() {
                axpy(out, a, o.row(k));
            }
        }
        r
    }

    pub fn map<U: Field>(&self, f: impl Fn(T) -> U) -> Mat<U> {
        Mat { rows: self.rows, cols: self.cols, data: self.data.iter().map(|&x| f(x)).collect() }
    }

    /// The leading `rows` × `cols` part.
    pub fn top_left(&self, rows: usize, cols: usize) -> Mat<T> {
        Mat::from_fn(rows, cols, |i, j| self[(i, j)])
    }

    /// The elements on and above the diagonal; zero below it.
    pub fn upper(&self) -> Mat<T> {
        Mat::from_fn(self.rows, self.cols, |i, j| if i <= j { self[(i, j)] } else { T::zero_() })
    }

    /// The largest magnitude; NaN if an element is NaN.
    pub fn max_modulus(&self) -> T::Real {
        self.data.iter().fold(T::Real::zero_(), |m, x| {
            let a = x.modulus();
            if a.is_nan() || a > m { a } else { m }
        })
    }

    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|x| x.finite())
    }
}

/// `y += a * x`.
pub fn axpy<T: Field>(y: &mut [T], a: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// Sum of `x * y`.
pub fn dot<T: Field>(x: &[T], y: &[T]) -> T {
    x.iter().zip(y).fold(T::zero_(), |s, (&a, &b)| s + a * b)
}

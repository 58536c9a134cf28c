//! What a reduction does to elements: lifting, combining and finishing, on groups of lanes.

use crate::math::vector::Vector;
use core::marker::PhantomData;
use graphc_abi::args::rows::reduce as kind;
use half::{bf16, f16};

/// Elements of one type under one kind of accumulation: SUM, SUM_SQUARES, PROD, MAX or MIN.
///
/// `Group` is `LANES` partial results side by side.
pub(super) trait Fold: 'static {
    type Element: Copy;
    /// A partial result.
    type Partial: Copy + 'static;
    type Group: Copy;
    const LANES: usize;
    /// True for groups that are registers, of which a kernel is to have several at work.
    const SIMD: bool;
    /// # Safety
    /// The processor has what `Group` needs; the same holds for all methods.
    unsafe fn identity() -> Self::Group;
    /// # Safety
    /// `LANES` elements at `p`.
    unsafe fn load(p: *const Self::Element) -> Self::Group;
    /// The first `n < LANES` lanes from memory, the others the identity.
    ///
    /// # Safety
    /// `n` elements at `p`.
    unsafe fn load_n(p: *const Self::Element, n: usize) -> Self::Group;
    /// # Safety
    /// See `identity`.
    unsafe fn combine(a: Self::Group, b: Self::Group) -> Self::Group;
    /// All lanes combined, in a fixed order.
    ///
    /// # Safety
    /// See `identity`.
    unsafe fn across(a: Self::Group) -> Self::Partial;
    /// # Safety
    /// `LANES` places at `p`.
    unsafe fn store(a: Self::Group, p: *mut Self::Partial);
    fn identity_one() -> Self::Partial;
    fn lift_one(x: Self::Element) -> Self::Partial;
    fn combine_one(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// The result of `kind` for partial result `a` of `count` elements.
    fn finish(kind: i64, a: Self::Partial, count: usize) -> Self::Element;
}

/// A type that can be reduced: how it is accumulated.
pub(super) trait Element: Copy + 'static {
    type Partial: Number;
    fn lift(self) -> Self::Partial;
    fn lower(p: Self::Partial) -> Self;
}

/// A type that accumulates.
pub(super) trait Number: Copy + PartialEq + 'static {
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn add(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    /// NaN where one is.
    fn larger(self, o: Self) -> Self;
    /// NaN where one is.
    fn smaller(self, o: Self) -> Self;
    fn divided_by(self, n: usize) -> Self;
    fn root(self) -> Self;
    fn negated(self) -> Self;
}

macro_rules! float_number {
    ($($t:ty: $sqrt:path),*) => {$(
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = <$t>::NEG_INFINITY;
            const HIGHEST: Self = <$t>::INFINITY;
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self + o
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self * o
            }
            #[inline(always)]
            fn larger(self, o: Self) -> Self {
                if self > o || self.is_nan() { self } else { o }
            }
            #[inline(always)]
            fn smaller(self, o: Self) -> Self {
                if self < o || self.is_nan() { self } else { o }
            }
            #[inline(always)]
            fn divided_by(self, n: usize) -> Self {
                self / n as $t
            }
            #[inline(always)]
            fn root(self) -> Self {
                $sqrt(self)
            }
            #[inline(always)]
            fn negated(self) -> Self {
                -self
            }
        }
    )*};
}
float_number!(f32: libm::sqrtf, f64: libm::sqrt);

macro_rules! integer_number {
    ($($t:ty),*) => {$(
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
            #[inline(always)]
            fn add(self, o: Self) -> Self {
                self.wrapping_add(o)
            }
            #[inline(always)]
            fn mul(self, o: Self) -> Self {
                self.wrapping_mul(o)
            }
            #[inline(always)]
            fn larger(self, o: Self) -> Self {
                Ord::max(self, o)
            }
            #[inline(always)]
            fn smaller(self, o: Self) -> Self {
                Ord::min(self, o)
            }
            #[inline(always)]
            fn divided_by(self, n: usize) -> Self {
                // TensorFlow casts the count to the type, so that it may wrap to zero.
                self.checked_div(n as $t).unwrap_or(0)
            }
            #[inline(always)]
            fn root(self) -> Self {
                self
            }
            #[inline(always)]
            fn negated(self) -> Self {
                self.wrapping_neg()
            }
        }
    )*};
}
integer_number!(i8, i16, i32, i64, u8, u16, u32, u64);

/// A complex number: real and imaginary part. It has no order.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
pub(super) struct Complex<T>(T, T);

impl<T: Number> Number for Complex<T> {
    const ZERO: Self = Complex(T::ZERO, T::ZERO);
    const ONE: Self = Complex(T::ONE, T::ZERO);
    const LOWEST: Self = Self::ZERO;
    const HIGHEST: Self = Self::ZERO;
    fn add(self, o: Self) -> Self {
        Complex(self.0.add(o.0), self.1.add(o.1))
    }
    fn mul(self, o: Self) -> Self {
        Complex(self.0.mul(o.0).add(self.1.mul(o.1).negated()), self.0.mul(o.1).add(self.1.mul(o.0)))
    }
    fn larger(self, _: Self) -> Self {
        self
    }
    fn smaller(self, _: Self) -> Self {
        self
    }
    fn divided_by(self, n: usize) -> Self {
        Complex(self.0.divided_by(n), self.1.divided_by(n))
    }
    fn root(self) -> Self {
        self
    }
    fn negated(self) -> Self {
        Complex(self.0.negated(), self.1.negated())
    }
}

macro_rules! own_partial {
    ($($t:ty),*) => {$(
        impl Element for $t {
            type Partial = $t;
            #[inline(always)]
            fn lift(self) -> $t {
                self
            }
            #[inline(always)]
            fn lower(p: $t) -> $t {
                p
            }
        }
    )*};
}
own_partial!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, Complex<f32>, Complex<f64>);

impl Element for bf16 {
    type Partial = f32;
    #[inline(always)]
    fn lift(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }
    fn lower(p: f32) -> Self {
        bf16::from_f32(p)
    }
}

impl Element for f16 {
    type Partial = f32;
    #[inline(always)]
    fn lift(self) -> f32 {
        // The magnitude's bits moved to their places in an f32 are 2^-112 times the value, also where it is subnormal.
        let (sign, magnitude) = ((self.to_bits() as u32 & 0x8000) << 16, self.to_bits() as u32 & 0x7fff);
        let value = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
        let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(value.to_bits() | special | sign)
    }
    fn lower(p: f32) -> Self {
        f16::from_f32(p)
    }
}

/// `lift` of kind `KIND`, of an element.
#[inline(always)]
fn lift<T: Element, const KIND: i64>(x: T) -> T::Partial {
    let x = x.lift();
    if KIND == kind::SUM_SQUARES { x.mul(x) } else { x }
}

#[inline(always)]
fn identity<P: Number, const KIND: i64>() -> P {
    match KIND {
        kind::PROD => P::ONE,
        kind::MAX => P::LOWEST,
        kind::MIN => P::HIGHEST,
        _ => P::ZERO,
    }
}

#[inline(always)]
fn combine<P: Number, const KIND: i64>(a: P, b: P) -> P {
    match KIND {
        kind::PROD => a.mul(b),
        kind::MAX => a.larger(b),
        kind::MIN => a.smaller(b),
        _ => a.add(b),
    }
}

#[inline(always)]
fn finish<P: Number>(kind: i64, a: P, count: usize) -> P {
    match kind {
        kind::MEAN => a.divided_by(count),
        kind::NORM => a.root(),
        // The smallest of no bools is not a bool.
        kind::ANY | kind::ALL => {
            if a == P::ZERO {
                P::ZERO
            } else {
                P::ONE
            }
        }
        _ => a,
    }
}

/// Any type, `N` lanes in plain Rust; `N` is a power of two.
pub(super) struct Plain<T, const KIND: i64, const N: usize>(PhantomData<T>);

impl<T: Element, const KIND: i64, const N: usize> Fold for Plain<T, KIND, N> {
    type Element = T;
    type Partial = T::Partial;
    type Group = [T::Partial; N];
    const LANES: usize = N;
    const SIMD: bool = false;
    #[inline(always)]
    unsafe fn identity() -> Self::Group {
        [identity::<T::Partial, KIND>(); N]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self::Group {
        // SAFETY: `N` elements at `p`.
        core::array::from_fn(|i| lift::<T, KIND>(unsafe { p.add(i).read() }))
    }
    #[inline(always)]
    unsafe fn load_n(p: *const T, n: usize) -> Self::Group {
        // SAFETY: `n` elements at `p`.
        core::array::from_fn(|i| if i < n { lift::<T, KIND>(unsafe { p.add(i).read() }) } else { identity::<T::Partial, KIND>() })
    }
    #[inline(always)]
    unsafe fn combine(a: Self::Group, b: Self::Group) -> Self::Group {
        core::array::from_fn(|i| combine::<T::Partial, KIND>(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn across(a: Self::Group) -> T::Partial {
        let (mut a, mut n) = (a, N);
        while n > 1 {
            n /= 2;
            for i in 0..n {
                a[i] = combine::<T::Partial, KIND>(a[i], a[i + n]);
            }
        }
        a[0]
    }
    #[inline(always)]
    unsafe fn store(a: Self::Group, p: *mut T::Partial) {
        // SAFETY: `N` places at `p`.
        unsafe { p.cast::<Self::Group>().write_unaligned(a) }
    }
    #[inline(always)]
    fn identity_one() -> T::Partial {
        identity::<T::Partial, KIND>()
    }
    #[inline(always)]
    fn lift_one(x: T) -> T::Partial {
        lift::<T, KIND>(x)
    }
    #[inline(always)]
    fn combine_one(a: T::Partial, b: T::Partial) -> T::Partial {
        combine::<T::Partial, KIND>(a, b)
    }
    #[inline(always)]
    fn finish(kind: i64, a: T::Partial, count: usize) -> T {
        T::lower(finish(kind, a, count))
    }
}

/// f32 in vectors.
pub(super) struct Single<V, const KIND: i64>(PhantomData<V>);

/// Larger or smaller lanes that keep NaN: `pick` gives its second operand where either is NaN.
#[inline(always)]
fn keep_nan<V: Vector>(a: V, b: V, pick: impl Fn(V, V) -> V) -> V {
    // A NaN in `b` is picked; one in `a` is put back.
    a.select(a.is_nan(), pick(a, b))
}

impl<V: Vector, const KIND: i64> Single<V, KIND> {
    #[inline(always)]
    fn lift(v: V) -> V {
        if KIND == kind::SUM_SQUARES { v * v } else { v }
    }
}

impl<V: Vector, const KIND: i64> Fold for Single<V, KIND> {
    type Element = f32;
    type Partial = f32;
    type Group = V;
    const LANES: usize = V::LANES;
    const SIMD: bool = true;
    #[inline(always)]
    unsafe fn identity() -> V {
        // SAFETY: the caller's contract.
        unsafe { V::set(identity::<f32, KIND>()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the caller's contract.
        Self::lift(unsafe { V::load(p) })
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> V {
        // SAFETY: the caller's contract.
        unsafe { Self::lift(V::load_n(p, n)).keep(n, Self::identity()) }
    }
    #[inline(always)]
    unsafe fn combine(a: V, b: V) -> V {
        match KIND {
            kind::PROD => a * b,
            kind::MAX => keep_nan(a, b, V::max),
            kind::MIN => keep_nan(a, b, V::min),
            _ => a + b,
        }
    }
    #[inline(always)]
    unsafe fn across(a: V) -> f32 {
        match KIND {
            kind::PROD => a.product(),
            kind::MAX if !V::any(a.is_nan()) => a.max_lane(),
            kind::MIN if !V::any(a.is_nan()) => a.min_lane(),
            kind::MAX | kind::MIN => f32::NAN,
            _ => a.sum(),
        }
    }
    #[inline(always)]
    unsafe fn store(a: V, p: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { a.store(p) }
    }
    #[inline(always)]
    fn identity_one() -> f32 {
        identity::<f32, KIND>()
    }
    #[inline(always)]
    fn lift_one(x: f32) -> f32 {
        lift::<f32, KIND>(x)
    }
    #[inline(always)]
    fn combine_one(a: f32, b: f32) -> f32 {
        combine::<f32, KIND>(a, b)
    }
    #[inline(always)]
    fn finish(kind: i64, a: f32, count: usize) -> f32 {
        finish(kind, a, count)
    }
}

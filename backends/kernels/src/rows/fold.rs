//! What a reduction does to elements: lifting, combining and finishing, on groups of lanes.

use crate::math::vector::Vector;
use core::marker::PhantomData;
use graphc_abi::args::rows::reduce as kind;

/// Elements of one type under one kind of reduction.
///
/// `Group` is `LANES` partial results side by side.
pub(super) trait Fold: 'static {
    type Element: Copy;
    /// A partial result.
    type Partial: Copy + 'static;
    type Group: Copy;
    const LANES: usize;
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
    fn combine_one(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// The result for partial result `a` of `count` elements.
    fn finish(a: Self::Partial, count: usize) -> Self::Element;
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
    ($($t:ty),*) => {$(
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
                self.sqrt()
            }
            #[inline(always)]
            fn negated(self) -> Self {
                -self
            }
        }
    )*};
}
float_number!(f32, f64);

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

macro_rules! half_element {
    ($($t:ty),*) => {$(
        impl Element for $t {
            type Partial = f32;
            #[inline(always)]
            fn lift(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn lower(p: f32) -> Self {
                <$t>::from_f32(p)
            }
        }
    )*};
}
half_element!(half::f16, half::bf16);

/// `lift` of kind `KIND`, of an element.
#[inline(always)]
fn lift<T: Element, const KIND: i64>(x: T) -> T::Partial {
    let x = x.lift();
    if KIND == kind::SUM_SQUARES || KIND == kind::NORM { x.mul(x) } else { x }
}

#[inline(always)]
fn identity<P: Number, const KIND: i64>() -> P {
    match KIND {
        kind::PROD | kind::ALL => P::ONE,
        kind::MAX => P::LOWEST,
        kind::MIN => P::HIGHEST,
        _ => P::ZERO,
    }
}

#[inline(always)]
fn combine<P: Number, const KIND: i64>(a: P, b: P) -> P {
    match KIND {
        kind::PROD => a.mul(b),
        kind::MAX | kind::ANY => a.larger(b),
        kind::MIN | kind::ALL => a.smaller(b),
        _ => a.add(b),
    }
}

#[inline(always)]
fn finish<P: Number, const KIND: i64>(a: P, count: usize) -> P {
    match KIND {
        kind::MEAN => a.divided_by(count),
        kind::NORM => a.root(),
        _ => a,
    }
}

/// Any type, eight lanes in plain Rust.
pub(super) struct Plain<T, const KIND: i64>(PhantomData<T>);

impl<T: Element, const KIND: i64> Fold for Plain<T, KIND> {
    type Element = T;
    type Partial = T::Partial;
    type Group = [T::Partial; 8];
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn identity() -> Self::Group {
        [identity::<T::Partial, KIND>(); 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> Self::Group {
        // SAFETY: eight elements at `p`.
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
        let c = combine::<T::Partial, KIND>;
        c(c(c(a[0], a[4]), c(a[2], a[6])), c(c(a[1], a[5]), c(a[3], a[7])))
    }
    #[inline(always)]
    unsafe fn store(a: Self::Group, p: *mut T::Partial) {
        // SAFETY: eight places at `p`.
        unsafe { p.cast::<Self::Group>().write_unaligned(a) }
    }
    #[inline(always)]
    fn combine_one(a: T::Partial, b: T::Partial) -> T::Partial {
        combine::<T::Partial, KIND>(a, b)
    }
    #[inline(always)]
    fn finish(a: T::Partial, count: usize) -> T {
        T::lower(finish::<T::Partial, KIND>(a, count))
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
        if KIND == kind::SUM_SQUARES || KIND == kind::NORM { v * v } else { v }
    }
}

impl<V: Vector, const KIND: i64> Fold for Single<V, KIND> {
    type Element = f32;
    type Partial = f32;
    type Group = V;
    const LANES: usize = V::LANES;
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
            kind::MAX | kind::ANY => keep_nan(a, b, V::max),
            kind::MIN | kind::ALL => keep_nan(a, b, V::min),
            _ => a + b,
        }
    }
    #[inline(always)]
    unsafe fn across(a: V) -> f32 {
        match KIND {
            kind::PROD => a.product(),
            kind::MAX | kind::ANY if !V::any(a.is_nan()) => a.max_lane(),
            kind::MIN | kind::ALL if !V::any(a.is_nan()) => a.min_lane(),
            kind::MAX | kind::MIN | kind::ANY | kind::ALL => f32::NAN,
            _ => a.sum(),
        }
    }
    #[inline(always)]
    unsafe fn store(a: V, p: *mut f32) {
        // SAFETY: the caller's contract.
        unsafe { a.store(p) }
    }
    #[inline(always)]
    fn combine_one(a: f32, b: f32) -> f32 {
        combine::<f32, KIND>(a, b)
    }
    #[inline(always)]
    fn finish(a: f32, count: usize) -> f32 {
        finish::<f32, KIND>(a, count)
    }
}

//! [`Vector`] in plain Rust.

use super::vector::{Bits, Vector};
use core::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

const N: usize = 4;

/// Four lanes, of whatever registers the compilation target has.
#[derive(Clone, Copy, Debug)]
pub struct Portable(pub [f32; N]);

/// The bits of [`Portable`].
#[derive(Clone, Copy, Debug)]
pub struct PortableBits(pub [i32; N]);

/// A truth value a lane.
#[derive(Clone, Copy, Debug)]
pub struct PortableMask([bool; N]);

#[inline(always)]
fn zip<A: Copy, B: Copy, C>(a: [A; N], b: [B; N], f: impl Fn(A, B) -> C) -> [C; N] {
    core::array::from_fn(|i| f(a[i], b[i]))
}

macro_rules! operator {
    ($type:ident: $($trait:ident $method:ident $op:expr),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, o: Self) -> Self {
                $type(zip(self.0, o.0, $op))
            }
        }
    )*};
}
operator!(Portable: Add add |a, b| a + b, Sub sub |a, b| a - b, Mul mul |a, b| a * b, Div div |a, b| a / b);
operator!(PortableBits: Add add i32::wrapping_add, Sub sub i32::wrapping_sub, BitAnd bitand |a, b| a & b, BitOr bitor |a, b| a | b,
    BitXor bitxor |a, b| a ^ b);
operator!(PortableMask: BitAnd bitand |a, b| a & b, BitOr bitor |a, b| a | b);

impl Neg for Portable {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Portable(self.0.map(|a| -a))
    }
}

/// `2^n` for `n` in `-126..=127`.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

impl Vector for Portable {
    const LANES: usize = N;
    const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
    type Bits = PortableBits;
    type Mask = PortableMask;

    #[inline(always)]
    unsafe fn set(c: f32) -> Self {
        Portable([c; N])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: by contract; an array of `f32` has no more alignment than `f32`.
        unsafe { Portable(p.cast::<[f32; N]>().read()) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        // SAFETY: `i < n` elements are read.
        Portable(core::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: by contract.
        unsafe { p.cast::<[f32; N]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        for (i, &v) in self.0.iter().enumerate().take(n) {
            // SAFETY: `i < n`.
            unsafe { *p.add(i) = v }
        }
    }
    #[inline(always)]
    fn splat_bits(self, c: i32) -> PortableBits {
        PortableBits([c; N])
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        if Self::FUSED { Portable(core::array::from_fn(|i| libm::fmaf(self.0[i], a.0[i], b.0[i]))) } else { self * a + b }
    }
    #[inline(always)]
    fn neg_mul_add(self, a: Self, b: Self) -> Self {
        (-self).mul_add(a, b)
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        Portable(zip(self.0, o.0, |a, b| if a < b { a } else { b }))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        Portable(zip(self.0, o.0, |a, b| if a > b { a } else { b }))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Portable(self.0.map(libm::sqrtf))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Portable(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn round(self) -> Self {
        // Adding 1.5 * 2^23 leaves no fraction bits.
        let shift = self.splat(12582912.0);
        (self + shift) - shift
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        Portable(zip(self.0, n.0, |x, n| {
            let n = n as i32;
            let half = n >> 1;
            x * power(half) * power(n.wrapping_sub(half))
        }))
    }
    #[inline(always)]
    fn bits(self) -> PortableBits {
        PortableBits(self.0.map(|a| a.to_bits() as i32))
    }
    #[inline(always)]
    fn to_int(self) -> PortableBits {
        PortableBits(self.round().0.map(|a| a as i32))
    }
    #[inline(always)]
    fn lt(self, o: Self) -> PortableMask {
        PortableMask(zip(self.0, o.0, |a, b| a < b))
    }
    #[inline(always)]
    fn gt(self, o: Self) -> PortableMask {
        PortableMask(zip(self.0, o.0, |a, b| a > b))
    }
    #[inline(always)]
    fn eq(self, o: Self) -> PortableMask {
        PortableMask(zip(self.0, o.0, |a, b| a == b))
    }
    #[inline(always)]
    fn is_nan(self) -> PortableMask {
        PortableMask(self.0.map(|a| a.is_nan()))
    }
    #[inline(always)]
    fn keep(self, n: usize, o: Self) -> Self {
        Portable(core::array::from_fn(|i| if i < n { self.0[i] } else { o.0[i] }))
    }
    #[inline(always)]
    fn select(self, m: PortableMask, o: Self) -> Self {
        Portable(core::array::from_fn(|i| if m.0[i] { self.0[i] } else { o.0[i] }))
    }
    #[inline(always)]
    fn any(m: PortableMask) -> bool {
        m.0.iter().any(|&b| b)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a + c) + (b + d)
    }
    #[inline(always)]
    fn product(self) -> f32 {
        let [a, b, c, d] = self.0;
        (a * c) * (b * d)
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    fn min_lane(self) -> f32 {
        self.0.into_iter().fold(f32::INFINITY, f32::min)
    }
}

impl Bits for PortableBits {
    type Float = Portable;
    #[inline(always)]
    fn float(self) -> Portable {
        Portable(self.0.map(|a| f32::from_bits(a as u32)))
    }
    #[inline(always)]
    fn convert(self) -> Portable {
        Portable(self.0.map(|a| a as f32))
    }
    #[inline(always)]
    fn shl<const S: u32>(self) -> Self {
        PortableBits(self.0.map(|a| a << S))
    }
    #[inline(always)]
    fn sar<const S: u32>(self) -> Self {
        PortableBits(self.0.map(|a| a >> S))
    }
    #[inline(always)]
    fn eq_zero(self) -> PortableMask {
        PortableMask(self.0.map(|a| a == 0))
    }
}

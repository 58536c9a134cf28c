//! Vectors of `f32` of one tier, so that a kernel's body is written once.
//!
//! A value of a vector type is the proof that the processor has its instructions: the first one comes from an `unsafe` constructor
//! (`set`, `load`), all that is derived from it is safe. Bodies are `#[inline(always)]` and generic over [`Vector`];
//! `by_tier!` wraps them into functions with the tier's target features.

use core::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Lanes of `f32`.
pub trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self> + 'static
{
    const LANES: usize;
    /// True where `mul_add` rounds once.
    const FUSED: bool;
    type Bits: Bits<Float = Self>;
    type Mask: Copy + BitAnd<Output = Self::Mask> + BitOr<Output = Self::Mask>;

    /// All lanes `c`.
    ///
    /// # Safety
    /// The processor has the instructions of this type. The same holds for `load` and `load_n`.
    unsafe fn set(c: f32) -> Self;
    /// # Safety
    /// `LANES` readable elements at `p`.
    unsafe fn load(p: *const f32) -> Self;
    /// The first `n < LANES` lanes from memory, the others zero; reads nothing past them.
    ///
    /// # Safety
    /// `n` readable elements at `p`.
    unsafe fn load_n(p: *const f32, n: usize) -> Self;
    /// # Safety
    /// `LANES` writable elements at `p`.
    unsafe fn store(self, p: *mut f32);
    /// Stores the first `n < LANES` lanes.
    ///
    /// # Safety
    /// `n` writable elements at `p`.
    unsafe fn store_n(self, p: *mut f32, n: usize);

    /// All lanes `c`.
    #[inline(always)]
    fn splat(self, c: f32) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Self::set(c) }
    }
    /// All lanes the bits of `c`.
    fn splat_bits(self, c: i32) -> Self::Bits;
    /// `self * a + b`, in one rounding where `FUSED`.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `b - self * a`.
    fn neg_mul_add(self, a: Self, b: Self) -> Self;
    /// `self < o ? self : o`, so `o` when either is NaN.
    fn min(self, o: Self) -> Self;
    /// `self > o ? self : o`, so `o` when either is NaN.
    fn max(self, o: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// Nearest integer, ties to even, for `|self| < 2^22`.
    fn round(self) -> Self;
    /// `self * 2^n` for integral `n` of at most 252 in magnitude, with overflow to infinity and gradual underflow.
    fn scale2(self, n: Self) -> Self;
    fn bits(self) -> Self::Bits;
    /// Nearest integer for `|self| < 2^22`.
    fn to_int(self) -> Self::Bits;

    fn lt(self, o: Self) -> Self::Mask;
    fn gt(self, o: Self) -> Self::Mask;
    fn eq(self, o: Self) -> Self::Mask;
    fn is_nan(self) -> Self::Mask;
    /// The first `n < LANES` lanes of `self`, then those of `o`.
    fn keep(self, n: usize, o: Self) -> Self;
    /// `m ? self : o`.
    fn select(self, m: Self::Mask, o: Self) -> Self;
    fn any(m: Self::Mask) -> bool;

    /// Sum of the lanes, in a fixed tree.
    fn sum(self) -> f32;
    /// Product of the lanes, in a fixed tree.
    fn product(self) -> f32;
    /// Largest lane; unspecified where one is NaN.
    fn max_lane(self) -> f32;
    /// Smallest lane; unspecified where one is NaN.
    fn min_lane(self) -> f32;

    /// Magnitude of `self`, sign of `s`; `self` is not negative.
    #[inline(always)]
    fn with_sign_of(self, s: Self) -> Self {
        (self.bits() | (s.bits() & s.splat_bits(i32::MIN))).float()
    }
}

/// Lanes of `i32`, the bits of a [`Vector`].
pub trait Bits:
    Copy + Add<Output = Self> + Sub<Output = Self> + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self>
{
    type Float: Vector<Bits = Self>;
    /// The same bits as floats.
    fn float(self) -> Self::Float;
    /// The values as floats.
    fn convert(self) -> Self::Float;
    fn shl<const N: u32>(self) -> Self;
    /// Shift right keeping the sign.
    fn sar<const N: u32>(self) -> Self;
    fn eq_zero(self) -> <Self::Float as Vector>::Mask;
}

#[cfg(target_arch = "aarch64")]
pub use super::neon::{Neon, NeonBits};
pub use super::portable::{Portable, PortableBits};
#[cfg(target_arch = "x86_64")]
pub use super::x86::{Avx2, Avx2Bits, Avx512, Avx512Bits};

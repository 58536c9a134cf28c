//! [`Vector`] in the vectors of AArch64, which every processor of it has.

use super::vector::{Bits, Vector};
use core::arch::aarch64::*;
use core::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Four lanes.
#[derive(Clone, Copy, Debug)]
pub struct Neon(pub float32x4_t);
/// The bits of [`Neon`].
#[derive(Clone, Copy, Debug)]
pub struct NeonBits(pub int32x4_t);
/// Lanes of all ones or all zeros.
#[derive(Clone, Copy, Debug)]
pub struct NeonMask(uint32x4_t);

macro_rules! operator {
    ($type:ident: $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, o: Self) -> Self {
                // SAFETY: every processor has the instructions.
                unsafe { $type($intrinsic(self.0, o.0)) }
            }
        }
    )*};
}
operator!(Neon: Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);
operator!(NeonBits: Add add vaddq_s32, Sub sub vsubq_s32, BitAnd bitand vandq_s32, BitOr bitor vorrq_s32, BitXor bitxor veorq_s32);
operator!(NeonMask: BitAnd bitand vandq_u32, BitOr bitor vorrq_u32);

impl Neg for Neon {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: every processor has the instructions.
        unsafe { Neon(vnegq_f32(self.0)) }
    }
}

impl Neon {
    /// The lanes combined by `f` in the tree of the other tiers.
    #[inline(always)]
    fn fold(self, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0f32; 4];
        // SAFETY: four writable floats.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), self.0) };
        let [a, b, c, d] = lanes;
        f(f(a, c), f(b, d))
    }
}

/// Ones in the lanes below `n`.
#[inline(always)]
fn first(n: usize) -> uint32x4_t {
    const LANES: [u32; 4] = [0, 1, 2, 3];
    // SAFETY: four readable words.
    unsafe { vcltq_u32(vld1q_u32(LANES.as_ptr()), vdupq_n_u32(n as u32)) }
}

/// Methods whose body is one expression of intrinsics.
macro_rules! methods {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: every processor has the instructions.
            unsafe { $body }
        }
    )*};
}

impl Vector for Neon {
    const LANES: usize = 4;
    const FUSED: bool = true;
    type Bits = NeonBits;
    type Mask = NeonMask;

    #[inline(always)]
    unsafe fn set(c: f32) -> Self {
        // SAFETY: every processor has the instructions.
        unsafe { Neon(vdupq_n_f32(c)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { Neon(vld1q_f32(p)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        let mut lanes = [0f32; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: `i < n` elements are read.
            *lane = unsafe { *p.add(i) };
        }
        // SAFETY: four readable floats.
        unsafe { Self::load(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: by contract.
        unsafe { vst1q_f32(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        let mut lanes = [0f32; 4];
        // SAFETY: four writable floats; `i < n` elements are written.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.into_iter().enumerate().take(n) {
                *p.add(i) = lane;
            }
        }
    }
    methods! {
        fn splat_bits(self: Self, c: i32) -> NeonBits = NeonBits(vdupq_n_s32(c));
        fn mul_add(self: Self, a: Self, b: Self) -> Self = Neon(vfmaq_f32(b.0, self.0, a.0));
        fn neg_mul_add(self: Self, a: Self, b: Self) -> Self = Neon(vfmsq_f32(b.0, self.0, a.0));
        // The instructions for these give NaN where either is.
        fn min(self: Self, o: Self) -> Self = Neon(vbslq_f32(vcltq_f32(self.0, o.0), self.0, o.0));
        fn max(self: Self, o: Self) -> Self = Neon(vbslq_f32(vcgtq_f32(self.0, o.0), self.0, o.0));
        fn sqrt(self: Self) -> Self = Neon(vsqrtq_f32(self.0));
        fn abs(self: Self) -> Self = Neon(vabsq_f32(self.0));
        fn round(self: Self) -> Self = Neon(vrndnq_f32(self.0));
        fn bits(self: Self) -> NeonBits = NeonBits(vreinterpretq_s32_f32(self.0));
        fn to_int(self: Self) -> NeonBits = NeonBits(vcvtnq_s32_f32(self.0));
        fn lt(self: Self, o: Self) -> NeonMask = NeonMask(vcltq_f32(self.0, o.0));
        fn gt(self: Self, o: Self) -> NeonMask = NeonMask(vcgtq_f32(self.0, o.0));
        fn eq(self: Self, o: Self) -> NeonMask = NeonMask(vceqq_f32(self.0, o.0));
        fn is_nan(self: Self) -> NeonMask = NeonMask(vmvnq_u32(vceqq_f32(self.0, self.0)));
        fn keep(self: Self, n: usize, o: Self) -> Self = Neon(vbslq_f32(first(n), self.0, o.0));
        fn select(self: Self, m: NeonMask, o: Self) -> Self = Neon(vbslq_f32(m.0, self.0, o.0));
        fn any(m: NeonMask) -> bool = vmaxvq_u32(m.0) != 0;
        fn max_lane(self: Self) -> f32 = vmaxnmvq_f32(self.0);
        fn min_lane(self: Self) -> f32 = vminnmvq_f32(self.0);
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        let n = n.to_int();
        let half = n.sar::<1>();
        let bias = self.splat_bits(127);
        self * (half + bias).shl::<23>().float() * (n - half + bias).shl::<23>().float()
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self.fold(|a, b| a + b)
    }
    #[inline(always)]
    fn product(self) -> f32 {
        self.fold(|a, b| a * b)
    }
}

impl Bits for NeonBits {
    type Float = Neon;
    methods! {
        fn float(self: Self) -> Neon = Neon(vreinterpretq_f32_s32(self.0));
        fn convert(self: Self) -> Neon = Neon(vcvtq_f32_s32(self.0));
        fn eq_zero(self: Self) -> NeonMask = NeonMask(vceqzq_s32(self.0));
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        // SAFETY: every processor has the instructions.
        unsafe { NeonBits(vshlq_s32(self.0, vdupq_n_s32(N as i32))) }
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        // SAFETY: every processor has the instructions.
        unsafe { NeonBits(vshlq_s32(self.0, vdupq_n_s32(-(N as i32)))) }
    }
}

//! [`Simd`] in the vectors of AArch64, which every processor of it has.

use super::{Dot, Numbers, Quads, Simd};
use core::arch::aarch64::*;

/// Four lanes, in thirty-two registers.
#[derive(Clone, Copy)]
pub struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const STORES_APART: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> float32x4_t {
        unsafe {
            if n >= Self::LANES {
                return Self::load(p);
            }
            let mut lanes = [0f32; 4];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            Self::load(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: float32x4_t, n: usize) {
        unsafe {
            if n >= Self::LANES {
                return Self::store(p, v);
            }
            let mut lanes = [0f32; 4];
            Self::store(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.into_iter().enumerate().take(n) {
                *p.add(i) = lane;
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // The instruction for it gives NaN where either is.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
    }
    #[inline(always)]
    unsafe fn select_lt(a: float32x4_t, b: float32x4_t, x: float32x4_t, y: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), x, y) }
    }
    #[inline(always)]
    unsafe fn round(a: float32x4_t) -> float32x4_t {
        unsafe { vrndnq_f32(a) }
    }
    #[inline(always)]
    unsafe fn scale(a: float32x4_t, n: float32x4_t) -> float32x4_t {
        unsafe {
            let n = vcvtq_s32_f32(n);
            let half = vshrq_n_s32::<1>(n);
            let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
            vmulq_f32(vmulq_f32(a, power(half)), power(vsubq_s32(n, half)))
        }
    }
    #[inline(always)]
    unsafe fn lower_half(a: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_f32(a))) }
    }
    #[inline(always)]
    unsafe fn upper_half(a: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0xffff_0000))) }
    }
    #[inline(always)]
    unsafe fn add_ints(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), vreinterpretq_s32_f32(b))) }
    }
    #[inline(always)]
    unsafe fn from_ints(a: float32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(vreinterpretq_s32_f32(a)) }
    }
    #[inline(always)]
    unsafe fn sum(a: float32x4_t) -> f32 {
        unsafe { vpadds_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a))) }
    }
    #[inline(always)]
    unsafe fn largest(a: float32x4_t) -> f32 {
        unsafe { vmaxnmvq_f32(a) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> float32x4_t {
        unsafe {
            if n >= Self::LANES {
                return vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p)));
            }
            let mut lanes = [0u16; 4];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(lanes.as_ptr())))
        }
    }
}

impl Dot<Neon> for Quads {
    const NUMBERS: Numbers = Numbers::I8;

    #[inline(always)]
    unsafe fn dot(a: float32x4_t, b: float32x4_t, acc: float32x4_t) -> float32x4_t {
        unsafe {
            // A product of two bytes fits into 16 bits.
            let (a, b) = (vreinterpretq_u8_f32(a), vreinterpretq_s8_f32(b));
            let product = |a, b| vpaddlq_s16(vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(a)), vmovl_s8(b)));
            let low = product(vget_low_u8(a), vget_low_s8(b));
            let high = product(vget_high_u8(a), vget_high_s8(b));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(acc), vpaddq_s32(low, high)))
        }
    }
}

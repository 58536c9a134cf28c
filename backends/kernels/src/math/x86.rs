//! [`Vector`] in AVX-512 and in AVX2 with FMA.

use super::vector::{Bits, Vector};
use core::arch::x86_64::*;
use core::ops::{Add, BitAnd, BitOr, BitXor, Div, Mul, Neg, Sub};

/// Sixteen lanes.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(pub __m512);
/// The bits of [`Avx512`].
#[derive(Clone, Copy, Debug)]
pub struct Avx512Bits(pub __m512i);
/// Eight lanes.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(pub __m256);
/// The bits of [`Avx2`].
#[derive(Clone, Copy, Debug)]
pub struct Avx2Bits(pub __m256i);
/// Lanes of all ones or all zeros.
#[derive(Clone, Copy, Debug)]
pub struct Avx2Mask(__m256);

macro_rules! operator {
    ($type:ident: $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, o: Self) -> Self {
                // SAFETY: `self` proves the instructions.
                unsafe { $type($intrinsic(self.0, o.0)) }
            }
        }
    )*};
}
operator!(Avx512: Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);
operator!(Avx512Bits: Add add _mm512_add_epi32, Sub sub _mm512_sub_epi32, BitAnd bitand _mm512_and_si512, BitOr bitor _mm512_or_si512,
    BitXor bitxor _mm512_xor_si512);
operator!(Avx2: Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operator!(Avx2Bits: Add add _mm256_add_epi32, Sub sub _mm256_sub_epi32, BitAnd bitand _mm256_and_si256, BitOr bitor _mm256_or_si256,
    BitXor bitxor _mm256_xor_si256);
operator!(Avx2Mask: BitAnd bitand _mm256_and_ps, BitOr bitor _mm256_or_ps);

impl Neg for Avx512 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx512(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))) }
    }
}

impl Neg for Avx2 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx2(_mm256_xor_ps(self.0, _mm256_set1_ps(-0.0))) }
    }
}

/// Methods whose body is one expression of intrinsics.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name($($arg: $ty),*) -> $ret {
            // SAFETY: an argument proves the instructions.
            unsafe { $body }
        }
    )*};
}

impl Vector for Avx512 {
    const LANES: usize = 16;
    const FUSED: bool = true;
    type Bits = Avx512Bits;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn set(c: f32) -> Self {
        // SAFETY: by contract.
        unsafe { Avx512(_mm512_set1_ps(c)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { Avx512(_mm512_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        // SAFETY: masked lanes are not read.
        unsafe { Avx512(_mm512_maskz_loadu_ps(first(n), p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        // SAFETY: masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(p, first(n), self.0) }
    }
    methods! {
        fn splat_bits(self: Self, c: i32) -> Avx512Bits = Avx512Bits(_mm512_set1_epi32(c));
        fn mul_add(self: Self, a: Self, b: Self) -> Self = Avx512(_mm512_fmadd_ps(self.0, a.0, b.0));
        fn neg_mul_add(self: Self, a: Self, b: Self) -> Self = Avx512(_mm512_fnmadd_ps(self.0, a.0, b.0));
        fn min(self: Self, o: Self) -> Self = Avx512(_mm512_min_ps(self.0, o.0));
        fn max(self: Self, o: Self) -> Self = Avx512(_mm512_max_ps(self.0, o.0));
        fn sqrt(self: Self) -> Self = Avx512(_mm512_sqrt_ps(self.0));
        fn abs(self: Self) -> Self = Avx512(_mm512_abs_ps(self.0));
        fn round(self: Self) -> Self = Avx512(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0));
        fn scale2(self: Self, n: Self) -> Self = Avx512(_mm512_scalef_ps(self.0, n.0));
        fn bits(self: Self) -> Avx512Bits = Avx512Bits(_mm512_castps_si512(self.0));
        fn to_int(self: Self) -> Avx512Bits = Avx512Bits(_mm512_cvtps_epi32(self.0));
        fn lt(self: Self, o: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, o.0);
        fn gt(self: Self, o: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, o.0);
        fn eq(self: Self, o: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, o.0);
        fn is_nan(self: Self) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
        fn keep(self: Self, n: usize, o: Self) -> Self = Avx512(_mm512_mask_blend_ps(first(n), o.0, self.0));
        fn select(self: Self, m: __mmask16, o: Self) -> Self = Avx512(_mm512_mask_blend_ps(m, o.0, self.0));
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let (low, high) = halves(self);
        (low + high).sum()
    }
    #[inline(always)]
    fn product(self) -> f32 {
        let (low, high) = halves(self);
        (low * high).product()
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        let (low, high) = halves(self);
        low.max(high).max_lane()
    }
    #[inline(always)]
    fn min_lane(self) -> f32 {
        let (low, high) = halves(self);
        low.min(high).min_lane()
    }
    #[inline(always)]
    fn any(m: __mmask16) -> bool {
        m != 0
    }
}

/// Mask of the first `n < 16` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1u32 << (n as u32 & 15)) - 1) as __mmask16
}

#[inline(always)]
fn halves(v: Avx512) -> (Avx2, Avx2) {
    // SAFETY: `v` proves the instructions.
    unsafe { (Avx2(_mm512_castps512_ps256(v.0)), Avx2(_mm512_extractf32x8_ps::<1>(v.0))) }
}

impl Bits for Avx512Bits {
    type Float = Avx512;
    methods! {
        fn float(self: Self) -> Avx512 = Avx512(_mm512_castsi512_ps(self.0));
        fn convert(self: Self) -> Avx512 = Avx512(_mm512_cvtepi32_ps(self.0));
        fn eq_zero(self: Self) -> __mmask16 = _mm512_testn_epi32_mask(self.0, self.0);
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx512Bits(_mm512_slli_epi32::<N>(self.0)) }
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx512Bits(_mm512_srai_epi32::<N>(self.0)) }
    }
}

/// Eight lanes of ones, then eight of zeros: the mask of the first `n` lanes starts at `8 - n`.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn first8(n: usize) -> __m256i {
    // SAFETY: `8 - n` lies in `0..=8`; the caller has AVX2.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n.min(8)).cast()) }
}

impl Avx2 {
    #[inline(always)]
    fn fold(self, f: impl Fn(__m128, __m128) -> __m128) -> f32 {
        // SAFETY: `self` proves the instructions.
        unsafe {
            let four = f(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = f(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(f(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

impl Vector for Avx2 {
    const LANES: usize = 8;
    const FUSED: bool = true;
    type Bits = Avx2Bits;
    type Mask = Avx2Mask;

    #[inline(always)]
    unsafe fn set(c: f32) -> Self {
        // SAFETY: by contract.
        unsafe { Avx2(_mm256_set1_ps(c)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { Avx2(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self {
        // SAFETY: masked lanes are not read.
        unsafe { Avx2(_mm256_maskload_ps(p, first8(n))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn store_n(self, p: *mut f32, n: usize) {
        // SAFETY: masked lanes are not written.
        unsafe { _mm256_maskstore_ps(p, first8(n), self.0) }
    }
    methods! {
        fn splat_bits(self: Self, c: i32) -> Avx2Bits = Avx2Bits(_mm256_set1_epi32(c));
        fn mul_add(self: Self, a: Self, b: Self) -> Self = Avx2(_mm256_fmadd_ps(self.0, a.0, b.0));
        fn neg_mul_add(self: Self, a: Self, b: Self) -> Self = Avx2(_mm256_fnmadd_ps(self.0, a.0, b.0));
        fn min(self: Self, o: Self) -> Self = Avx2(_mm256_min_ps(self.0, o.0));
        fn max(self: Self, o: Self) -> Self = Avx2(_mm256_max_ps(self.0, o.0));
        fn sqrt(self: Self) -> Self = Avx2(_mm256_sqrt_ps(self.0));
        fn abs(self: Self) -> Self = Avx2(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0));
        fn round(self: Self) -> Self = Avx2(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0));
        fn bits(self: Self) -> Avx2Bits = Avx2Bits(_mm256_castps_si256(self.0));
        fn to_int(self: Self) -> Avx2Bits = Avx2Bits(_mm256_cvtps_epi32(self.0));
        fn lt(self: Self, o: Self) -> Avx2Mask = Avx2Mask(_mm256_cmp_ps::<_CMP_LT_OQ>(self.0, o.0));
        fn gt(self: Self, o: Self) -> Avx2Mask = Avx2Mask(_mm256_cmp_ps::<_CMP_GT_OQ>(self.0, o.0));
        fn eq(self: Self, o: Self) -> Avx2Mask = Avx2Mask(_mm256_cmp_ps::<_CMP_EQ_OQ>(self.0, o.0));
        fn is_nan(self: Self) -> Avx2Mask = Avx2Mask(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
        fn keep(self: Self, n: usize, o: Self) -> Self = Avx2(_mm256_blendv_ps(o.0, self.0, _mm256_castsi256_ps(first8(n))));
        fn select(self: Self, m: Avx2Mask, o: Self) -> Self = Avx2(_mm256_blendv_ps(o.0, self.0, m.0));
        fn any(m: Avx2Mask) -> bool = _mm256_movemask_ps(m.0) != 0;
        fn sum(self: Self) -> f32 = self.fold(|a, b| _mm_add_ps(a, b));
        fn product(self: Self) -> f32 = self.fold(|a, b| _mm_mul_ps(a, b));
        fn max_lane(self: Self) -> f32 = self.fold(|a, b| _mm_max_ps(a, b));
        fn min_lane(self: Self) -> f32 = self.fold(|a, b| _mm_min_ps(a, b));
    }
    #[inline(always)]
    fn scale2(self, n: Self) -> Self {
        let n = n.to_int();
        let half = n.sar::<1>();
        let bias = self.splat_bits(127);
        self * (half + bias).shl::<23>().float() * (n - half + bias).shl::<23>().float()
    }
}

impl Bits for Avx2Bits {
    type Float = Avx2;
    methods! {
        fn float(self: Self) -> Avx2 = Avx2(_mm256_castsi256_ps(self.0));
        fn convert(self: Self) -> Avx2 = Avx2(_mm256_cvtepi32_ps(self.0));
        fn eq_zero(self: Self) -> Avx2Mask = Avx2Mask(_mm256_castsi256_ps(_mm256_cmpeq_epi32(self.0, _mm256_setzero_si256())));
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx2Bits(_mm256_sll_epi32(self.0, _mm_cvtsi32_si128(N as i32))) }
    }
    #[inline(always)]
    fn sar<const N: u32>(self) -> Self {
        // SAFETY: `self` proves the instructions.
        unsafe { Avx2Bits(_mm256_sra_epi32(self.0, _mm_cvtsi32_si128(N as i32))) }
    }
}

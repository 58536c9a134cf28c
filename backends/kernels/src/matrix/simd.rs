//! The vectors of each tier behind one trait, so that a kernel is written once.
//!
//! Every method is `#[inline(always)]` and its instructions exist only where the caller enabled them: a generic body is instantiated
//! inside a function with the tier's `#[target_feature]`, and nowhere else.

/// Floating-point vectors of one tier.
///
/// # Safety
/// All methods: the processor has the tier's instructions. Those with pointers: the lanes that they touch are valid.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + 'static {
    type V: Copy;
    /// Lanes of a vector; a power of two, at most 16.
    const LANES: usize;
    /// Tiles are stored by a function of their own: the many parts of a store without masks are not unrolled, and sums that are indexed
    /// at run time would lie in memory while they are summed.
    const STORES_APART: bool = false;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` lanes (`n <= LANES`), the others zero; touches no memory beyond them.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`: the second operand where either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`: the second operand where either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? x : y` a lane.
    unsafe fn select_lt(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// To the nearest integer, ties to even, for `|a| < 2^22`.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `a * 2^n` with a whole `n` in -252..=254.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// The bf16 number in the lower half of each lane.
    unsafe fn lower_half(a: Self::V) -> Self::V;
    /// The bf16 number in the upper half of each lane.
    unsafe fn upper_half(a: Self::V) -> Self::V;
    /// The sums of lanes that hold i32; they wrap.
    unsafe fn add_ints(a: Self::V, b: Self::V) -> Self::V;
    /// Lanes that hold i32 as floats.
    unsafe fn from_ints(a: Self::V) -> Self::V;
    unsafe fn sum(a: Self::V) -> f32;
    /// The largest lane, in the sense of `max`.
    unsafe fn largest(a: Self::V) -> f32;

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        unsafe { Self::splat(0.0) }
    }

    /// As `load_n`, of bf16.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> Self::V {
        unsafe {
            let mut lanes = [0f32; 16];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = f32::from_bits((*p.add(i) as u32) << 16);
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// As `store_n`, rounded to the nearest bf16, ties to even.
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V, n: usize) {
        unsafe {
            let mut lanes = [0f32; 16];
            Self::store(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.iter().enumerate().take(n) {
                *p.add(i) = half::bf16::from_f32(*lane).to_bits();
            }
        }
    }

    /// As `store_n`, of lanes that are integers in 0..=255.
    #[inline(always)]
    unsafe fn store_u8(p: *mut u8, v: Self::V, n: usize) {
        unsafe {
            let mut lanes = [0f32; 16];
            Self::store(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.iter().enumerate().take(n) {
                *p.add(i) = *lane as u8;
            }
        }
    }

    /// Hints that the line at `p` is read soon; any address will do.
    #[inline(always)]
    fn prefetch(p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch never faults.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(p as *const i8)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
}

/// Four lanes of what the compilation target guarantees.
#[derive(Clone, Copy)]
pub struct Portable;

#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; 4] {
    [f(0), f(1), f(2), f(3)]
}

impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V {
        lanes(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            lanes(|i| libm::fmaf(a[i], b[i], c[i]))
        } else {
            lanes(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn select_lt(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 leaves no room for a fraction.
        let c = 12_582_912.0f32;
        lanes(|i| (a[i] + c) - c)
    }
    #[inline(always)]
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V {
        lanes(|i| {
            let n = n[i] as i32;
            let half = n >> 1;
            let power = |n: i32| f32::from_bits(((n.wrapping_add(127)) as u32) << 23);
            a[i] * power(half) * power(n.wrapping_sub(half))
        })
    }
    #[inline(always)]
    unsafe fn lower_half(a: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(a[i].to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn upper_half(a: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(a[i].to_bits() & 0xffff_0000))
    }
    #[inline(always)]
    unsafe fn add_ints(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| f32::from_bits(a[i].to_bits().wrapping_add(b[i].to_bits())))
    }
    #[inline(always)]
    unsafe fn from_ints(a: Self::V) -> Self::V {
        lanes(|i| a[i].to_bits() as i32 as f32)
    }
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    unsafe fn largest(a: Self::V) -> f32 {
        let m = |x: f32, y: f32| if x > y { x } else { y };
        m(m(a[0], a[1]), m(a[2], a[3]))
    }
}

/// What the factors of a product are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    F32,
    /// Pairs of bf16, of neighbouring steps, in the place of one f32.
    Bf16,
    /// Four integers of 8 bits in the place of one f32, unsigned on the left and signed on the right. Sums are i32.
    I8,
}

impl Numbers {
    /// Numbers in the place of one f32.
    pub const fn per_word(self) -> usize {
        match self {
            Numbers::F32 => 1,
            Numbers::Bf16 => 2,
            Numbers::I8 => 4,
        }
    }
}

/// How the two factors of a step are multiplied, and how results are stored.
///
/// # Safety
/// As [`Simd`].
#[allow(clippy::missing_safety_doc)]
pub trait Dot<S: Simd>: 'static {
    /// What a lane of a factor holds. Results may be of the same kind, or f32.
    const NUMBERS: Numbers;
    /// The same as conditions that are decided before any code is made: comparisons in a microkernel would keep its sums in memory.
    const F32: bool = matches!(Self::NUMBERS, Numbers::F32);
    const BF16: bool = matches!(Self::NUMBERS, Numbers::Bf16);
    const I8: bool = matches!(Self::NUMBERS, Numbers::I8);

    /// `acc` plus the products of each lane.
    unsafe fn dot(a: S::V, b: S::V, acc: S::V) -> S::V;

    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: S::V, n: usize) {
        unsafe { S::store_bf16(p, v, n) }
    }
}

/// Factors of f32.
pub struct Singles;

impl<S: Simd> Dot<S> for Singles {
    const NUMBERS: Numbers = Numbers::F32;

    #[inline(always)]
    unsafe fn dot(a: S::V, b: S::V, acc: S::V) -> S::V {
        unsafe { S::fma(a, b, acc) }
    }
}

/// Pairs of bf16, widened to f32.
pub struct Pairs;

impl<S: Simd> Dot<S> for Pairs {
    const NUMBERS: Numbers = Numbers::Bf16;

    #[inline(always)]
    unsafe fn dot(a: S::V, b: S::V, acc: S::V) -> S::V {
        unsafe {
            let acc = S::fma(S::lower_half(a), S::lower_half(b), acc);
            S::fma(S::upper_half(a), S::upper_half(b), acc)
        }
    }
}

/// Fours of integers.
pub struct Quads;

impl Dot<Portable> for Quads {
    const NUMBERS: Numbers = Numbers::I8;

    #[inline(always)]
    unsafe fn dot(a: [f32; 4], b: [f32; 4], acc: [f32; 4]) -> [f32; 4] {
        lanes(|i| {
            let (a, b) = (a[i].to_bits().to_le_bytes(), b[i].to_bits().to_le_bytes());
            let products = [0, 1, 2, 3].map(|q| i32::from(a[q]) * i32::from(b[q] as i8));
            let sum = products.iter().sum::<i32>();
            f32::from_bits(acc[i].to_bits().wrapping_add(sum as u32))
        })
    }
}

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, NativePairs, NativeQuads};

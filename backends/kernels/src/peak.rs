//! The limits of a core, which figures are compared with: its multiply-add peak and how fast it reads memory.

use crate::matrix::simd::Simd;
use crate::tier::by_tier;
use std::time::{Duration, Instant};

/// Best seconds of one call of `f` over a short while.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    let mut best = f64::MAX;
    while start.elapsed() < Duration::from_millis(40) {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

/// Floating-point operations a second that this core reaches now with the vectors of the tier in use, multiplies and adds counted apart.
pub fn fma_flops() -> f64 {
    let mut operations = 0;
    // SAFETY: needs nothing beyond the tier.
    let seconds = best(|| operations = unsafe { multiply_add() });
    operations as f64 / seconds
}

by_tier!(fn multiply_add() -> usize = multiply_add_of, matrix::simd);

/// Chains of multiply-adds, enough to hide their latency; how many operations that were.
#[inline(always)]
unsafe fn multiply_add_of<S: Simd>() -> usize {
    const STEPS: usize = 20_000;
    const CHAINS: usize = 12;
    // SAFETY: the caller's contract.
    unsafe {
        let (a, b) = (S::splat(0.5), S::splat(0.25));
        let mut acc = [S::zero(); CHAINS];
        for _ in 0..STEPS {
            for v in &mut acc {
                *v = S::fma(*v, a, b);
            }
        }
        std::hint::black_box(acc);
    }
    STEPS * CHAINS * S::LANES * 2
}

/// Bytes a second that this core reads of `data`, over and over: the bandwidth of the level of memory that holds it.
pub fn read_bandwidth(data: &[f32]) -> f64 {
    size_of_val(data) as f64
        / best(|| {
            // SAFETY: needs nothing beyond the tier.
            std::hint::black_box(unsafe { sum(data) });
        })
}

by_tier!(fn sum(data: &[f32]) -> f32 = sum_of, matrix::simd);

/// Several sums side by side, for the width of the vectors and the latency of an addition.
#[expect(clippy::extra_unused_type_parameters, reason = "what `by_tier` calls takes the tier's vectors")]
#[inline(always)]
unsafe fn sum_of<S: Simd>(data: &[f32]) -> f32 {
    let (blocks, _) = data.as_chunks::<128>();
    let mut sums = [0f32; 128];
    for block in blocks {
        for (s, x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    sums.iter().sum()
}

//! The machine's arithmetic peak, to set measured times against.

use graphc_kernels::tier::{Tier, tier};
use std::hint::black_box;
use std::time::Instant;

/// Steps of one burst: some tens of microseconds.
const STEPS: usize = 4096;

/// The f32 FMA peak of the core that runs this, with the vectors that the kernels use, in GFLOP/s: the best of several bursts.
pub fn fma_gflops() -> f64 {
    let mut best = 0.0f64;
    for _ in 0..60 {
        let start = Instant::now();
        let flop = burst();
        best = best.max(flop as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Runs one burst; the operations that it made.
fn burst() -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `tier` names only what the processor has.
    match tier() {
        Tier::Avx512 => return unsafe { x86::avx512() },
        Tier::Avx2 => return unsafe { x86::avx2() },
        Tier::Portable => {}
    }
    let _ = (tier(), Tier::Portable);
    portable()
}

fn portable() -> usize {
    let mut sums = [1.0f32; 32];
    let (a, b) = (black_box(0.999f32), black_box(0.001f32));
    for _ in 0..STEPS {
        sums.iter_mut().for_each(|s| *s = *s * a + b);
    }
    black_box(sums);
    STEPS * 32 * 2
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::STEPS;
    use core::arch::x86_64::*;
    use std::hint::black_box;

    /// # Safety
    /// The processor has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512() -> usize {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [_mm512_set1_ps(1.0); 24];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|s| *s = _mm512_fmadd_ps(*s, a, b));
        }
        black_box(sums);
        STEPS * 24 * 16 * 2
    }

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2() -> usize {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [_mm256_set1_ps(1.0); 12];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|s| *s = _mm256_fmadd_ps(*s, a, b));
        }
        black_box(sums);
        STEPS * 12 * 8 * 2
    }
}

//! The instruction set that the kernels of this process use.

use core::sync::atomic::{AtomicU8, Ordering};

/// A variant of the kernels. Later ones need what earlier ones need, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tier {
    /// What the compilation target guarantees.
    Portable = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
}

/// Zero until the first call of `tier`.
static TIER: AtomicU8 = AtomicU8::new(0);

/// The tier in use: the best one of this machine, or the one named in the environment variable `GRAPHC_TIER` (`portable`, `avx2`,
/// `avx512`) where the machine has it.
#[inline]
pub fn tier() -> Tier {
    match TIER.load(Ordering::Relaxed) {
        1 => Tier::Portable,
        2 => Tier::Avx2,
        3 => Tier::Avx512,
        _ => choose(),
    }
}

/// Makes `tier` answer `tier`, for tests. False, and nothing changes, where the machine lacks it.
pub fn force(tier: Tier) -> bool {
    let ok = tier <= detect();
    if ok {
        TIER.store(tier as u8, Ordering::Relaxed);
    }
    ok
}

/// Zero until the first call of `has_bf16_dots`, then 1 for no and 2 for yes.
static BF16_DOTS: AtomicU8 = AtomicU8::new(0);

/// True where the tier in use has instructions for dot products of bf16.
pub fn has_bf16_dots() -> bool {
    let known = match BF16_DOTS.load(Ordering::Relaxed) {
        0 => {
            #[cfg(target_arch = "x86_64")]
            let found = x86::features().avx512_bf16;
            #[cfg(not(target_arch = "x86_64"))]
            let found = false;
            let known = 1 + u8::from(found);
            BF16_DOTS.store(known, Ordering::Relaxed);
            known
        }
        known => known,
    };
    known == 2 && tier() == Tier::Avx512
}

/// The best tier of this machine.
pub fn detect() -> Tier {
    #[cfg(target_arch = "x86_64")]
    {
        let cpu = x86::features();
        if cpu.avx2 {
            return if cpu.avx512 { Tier::Avx512 } else { Tier::Avx2 };
        }
    }
    Tier::Portable
}

#[cfg(feature = "std")]
fn named() -> Option<Tier> {
    match std::env::var_os("GRAPHC_TIER")? {
        v if v == "portable" => Some(Tier::Portable),
        v if v == "avx2" => Some(Tier::Avx2),
        _ => None,
    }
}

#[cfg(not(feature = "std"))]
fn named() -> Option<Tier> {
    None
}

#[cold]
fn choose() -> Tier {
    let best = detect();
    let tier = named().unwrap_or(best).min(best);
    TIER.store(tier as u8, Ordering::Relaxed);
    tier
}

/// What `core` has no macro for: the features of this processor that the system lets programs use.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    #[derive(Clone, Copy, Default)]
    pub struct Features {
        /// With FMA.
        pub avx2: bool,
        /// F, BW, DQ and VL.
        pub avx512: bool,
        pub avx512_bf16: bool,
    }

    pub fn features() -> Features {
        let bit = |word: u32, k: u32| word >> k & 1 == 1;
        let first = __cpuid(1);
        let (fma, osxsave, avx) = (bit(first.ecx, 12), bit(first.ecx, 27), bit(first.ecx, 28));
        if __cpuid(0).eax < 7 || !(fma && osxsave && avx) {
            return Features::default();
        }
        // SAFETY: OSXSAVE says that the instruction is there.
        let kept = unsafe { kept_registers() };
        let (seventh, more) = (__cpuid_count(7, 0), __cpuid_count(7, 1));
        let avx2 = kept & 0b110 == 0b110 && bit(seventh.ebx, 5);
        // Masks, upper halves and upper registers.
        let wide = avx2 && kept >> 5 & 0b111 == 0b111;
        let avx512 = wide && [16, 17, 30, 31].into_iter().all(|k| bit(seventh.ebx, k));
        Features { avx2, avx512, avx512_bf16: avx512 && seventh.eax >= 1 && bit(more.eax, 5) }
    }

    /// The registers that the system keeps for each thread.
    #[target_feature(enable = "xsave")]
    unsafe fn kept_registers() -> u64 {
        // SAFETY: as the caller promises.
        unsafe { _xgetbv(0) }
    }

    #[cfg(test)]
    #[test]
    fn features_are_those_of_the_standard_library() {
        let f = features();
        assert_eq!(f.avx2, is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"));
        assert_eq!(
            f.avx512,
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        );
        assert_eq!(f.avx512_bf16, f.avx512 && is_x86_feature_detected!("avx512bf16"));
    }
}

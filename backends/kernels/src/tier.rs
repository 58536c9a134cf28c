//! The instruction set that the kernels of this process use.

use core::sync::atomic::{AtomicU8, Ordering};

/// A variant of the kernels. Among those of one architecture, later ones need what earlier ones need, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// What the compilation target guarantees, in plain Rust.
    Portable = 1,
    /// x86-64: AVX2 and FMA.
    Avx2 = 2,
    /// x86-64: AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
    /// AArch64: its vectors, which every processor has.
    Neon = 4,
}

impl Tier {
    /// Every tier, with its name in `GRAPHC_TIER`.
    pub const ALL: [(&'static str, Tier); 4] =
        [("portable", Tier::Portable), ("avx2", Tier::Avx2), ("avx512", Tier::Avx512), ("neon", Tier::Neon)];

    /// True if this machine can run it.
    pub fn is_here(self) -> bool {
        match self {
            Tier::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2 => x86::features().avx2,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 => x86::features().avx512,
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

/// Zero until the first call of `tier`.
static TIER: AtomicU8 = AtomicU8::new(0);

/// The tier in use: the best one of this machine, or the one named in the environment variable `GRAPHC_TIER` (`portable`, `avx2`,
/// `avx512`, `neon`) where the machine has it.
#[inline]
pub fn tier() -> Tier {
    match TIER.load(Ordering::Relaxed) {
        1 => Tier::Portable,
        2 => Tier::Avx2,
        3 => Tier::Avx512,
        4 => Tier::Neon,
        _ => choose(),
    }
}

/// Makes `tier` answer `tier`, for tests. False, and nothing changes, where the machine lacks it.
pub fn force(tier: Tier) -> bool {
    let ok = tier.is_here();
    if ok {
        TIER.store(tier as u8, Ordering::Relaxed);
    }
    ok
}

/// Zero until the first call of `dots`, then `KNOWN` and a bit for each kind of dot products.
static DOTS: AtomicU8 = AtomicU8::new(0);
const KNOWN: u8 = 1;
const BF16: u8 = 2;
const INT8: u8 = 4;
const INT8_AVX: u8 = 8;

/// The dot products for which the tier in use has instructions.
fn dots() -> u8 {
    let known = match DOTS.load(Ordering::Relaxed) {
        0 => {
            #[cfg(target_arch = "x86_64")]
            let found = x86::features();
            #[cfg(target_arch = "x86_64")]
            let found = [(found.avx512_bf16, BF16), (found.avx512_vnni, INT8), (found.avx_vnni, INT8_AVX)]
                .into_iter()
                .fold(0, |all, (here, bit)| if here { all | bit } else { all });
            #[cfg(not(target_arch = "x86_64"))]
            let found = 0;
            DOTS.store(KNOWN | found, Ordering::Relaxed);
            KNOWN | found
        }
        known => known,
    };
    let of_tier = match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => !INT8_AVX,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => INT8_AVX,
        _ => 0,
    };
    known & of_tier
}

/// True where the tier in use has instructions for dot products of bf16.
pub fn has_bf16_dots() -> bool {
    dots() & BF16 != 0
}

/// True where the tier in use has instructions for dot products of 8-bit integers.
pub fn has_int8_dots() -> bool {
    dots() & (INT8 | INT8_AVX) != 0
}

/// The best tier of this machine.
pub fn detect() -> Tier {
    Tier::ALL.into_iter().rev().map(|(_, tier)| tier).find(|tier| tier.is_here()).unwrap_or(Tier::Portable)
}

#[cfg(feature = "std")]
fn named() -> Option<Tier> {
    let name = std::env::var_os("GRAPHC_TIER")?;
    Tier::ALL.into_iter().find(|(n, _)| name == *n).map(|(_, tier)| tier)
}

#[cfg(not(feature = "std"))]
fn named() -> Option<Tier> {
    None
}

#[cold]
fn choose() -> Tier {
    let tier = named().filter(|tier| tier.is_here()).unwrap_or_else(detect);
    TIER.store(tier as u8, Ordering::Relaxed);
    tier
}

/// Defines `unsafe fn name(..)`, which runs the `#[inline(always)]` function `body::<V>(..)` compiled for the tier in use, with `V` that
/// tier's type in the given module; a type given behind it and a constant of `name` are handed on.
macro_rules! by_tier {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<const $g:ident: $kind:ty>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        = $body:path, $($module:ident)::+ $(, $more:ty)?) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name $(<const $g: $kind>)? ($($arg: $ty),*) $(-> $ret)? {
            use $body as body;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512 $(<const $g: $kind>)? ($($arg: $ty),*) $(-> $ret)? {
                use $body as body;
                // SAFETY: the caller's contract.
                unsafe { body::<$crate::$($module)::+::Avx512 $(, $more)? $(, $g)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2 $(<const $g: $kind>)? ($($arg: $ty),*) $(-> $ret)? {
                use $body as body;
                // SAFETY: the caller's contract.
                unsafe { body::<$crate::$($module)::+::Avx2 $(, $more)? $(, $g)?>($($arg),*) }
            }
            // SAFETY: the caller's contract; `tier` answers what the processor has, and every AArch64 has the vectors of `Neon`.
            unsafe {
                match $crate::tier::tier() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::tier::Tier::Avx512 => avx512 $(::<$g>)? ($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::tier::Tier::Avx2 => avx2 $(::<$g>)? ($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::tier::Tier::Neon => body::<$crate::$($module)::+::Neon $(, $more)? $(, $g)?>($($arg),*),
                    _ => body::<$crate::$($module)::+::Portable $(, $more)? $(, $g)?>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use by_tier;

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
        pub avx512_vnni: bool,
        pub avx_vnni: bool,
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
        let more = if seventh.eax >= 1 { more.eax } else { 0 };
        let (avx512_bf16, avx512_vnni) = (avx512 && bit(more, 5), avx512 && bit(seventh.ecx, 11));
        Features { avx2, avx512, avx512_bf16, avx512_vnni, avx_vnni: avx2 && bit(more, 4) }
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
        assert_eq!(f.avx512_vnni, f.avx512 && is_x86_feature_detected!("avx512vnni"));
        assert_eq!(f.avx_vnni, f.avx2 && is_x86_feature_detected!("avxvnni"));
    }
}

//! The microkernel: one tile of the output in registers.
//!
//! A tile is `MR` rows by `NV` vectors. Rows of the left operand are read element by element and broadcast, either with a row stride
//! (direct: a matrix, or pixels of one line of an image, run by run) or through a table of pointers, one for each run of consecutive
//! elements and row (indirect: a convolution's taps). The right operand is a panel of packed weights, `ldb` floats a step.
//!
//! The same microkernels multiply bf16 and 8-bit integers: two or four numbers of neighbouring steps lie in the place of one f32, in
//! both operands, so that extents, strides and pointers count such words.

// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use super::simd::{Dot, Numbers, Pairs, Portable, Quads, Simd, Singles};
use crate::epilogue::{Activation, Epilogue, Stored, hard_swish};
#[allow(unused_imports)] // Some architectures have one tier.
use crate::tier::{Tier, has_bf16_dots, has_int8_dots, tier};
use core::ptr::null;

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx512, NativePairs, NativeQuads};

/// What a microkernel works on.
#[derive(Clone, Copy)]
pub struct Tile {
    /// Direct: the first row of the only run; its `steps` elements are contiguous, rows are `lda` apart.
    pub a: *const f32,
    pub lda: usize,
    /// Indirect: `[runs][MR]` pointers to `steps` elements each. Direct: null, or for each run the pointer that takes the
    /// place of `a`, less `skip` floats.
    pub rows: *const *const f32,
    pub skip: usize,
    pub runs: usize,
    pub steps: usize,
    pub b: *const f32,
    pub ldb: usize,
    pub c: *mut f32,
    pub ldc: usize,
    /// Columns to store, at least one.
    pub cols: usize,
    /// Add what `c` holds.
    pub accumulate: bool,
    /// Applied where it is not null; must be one of those that `Epilogue::in_registers` admits.
    pub epilogue: *const Epilogue,
    /// Memory that is wanted soon: each step prefetches a line and the one `prefetch_other` floats behind it, and goes on by
    /// `prefetch_step` floats (0: none).
    pub prefetch: *const f32,
    pub prefetch_other: usize,
    pub prefetch_step: usize,
}

impl Tile {
    pub const EMPTY: Tile = Tile {
        a: null(),
        lda: 0,
        rows: null(),
        skip: 0,
        runs: 1,
        steps: 0,
        b: null(),
        ldb: 0,
        c: core::ptr::null_mut(),
        ldc: 0,
        cols: 0,
        accumulate: false,
        epilogue: null(),
        prefetch: null(),
        prefetch_other: 0,
        prefetch_step: 0,
    };
}

impl Tile {
    /// How `c` holds its numbers: an epilogue says so; bare sums are f32.
    #[inline(always)]
    fn stored<S: Simd, D: Dot<S>>(&self) -> Stored {
        // SAFETY: an epilogue that is not null is valid.
        if !D::F32 && !self.epilogue.is_null() { unsafe { (*self.epilogue).stored } } else { Stored::F32 }
    }
}

/// Computes a tile of a fixed number of rows.
///
/// # Safety
/// The processor has the tier's instructions. Rows (or pointers), panel, bias and residual are valid for the tile's rows, `cols` and
/// steps, the panel for whole vectors; `c` for `cols` floats a row.
pub type TileFn = unsafe fn(&Tile);

/// The microkernels for panels of one width in one tier.
#[derive(Clone, Copy)]
pub struct Micro {
    /// Columns that one call computes; divides the panel's width.
    pub width: usize,
    /// `direct[r - 1]` computes `r` rows.
    pub direct: &'static [TileFn],
    pub indirect: &'static [TileFn],
    /// `halves[r - 1]` computes `r` rows of which the last vector is at most half full, as `direct`. May be empty.
    pub halves: &'static [TileFn],
}

impl Micro {
    pub fn max_rows(&self) -> usize {
        self.direct.len()
    }
}

/// Most rows of a tile in the AVX-512 tier.
pub(crate) const fn avx512_rows(nr: usize) -> usize {
    match nr {
        64 => 6,
        48 => 9,
        _ => 14,
    }
}

/// Sums of the columns of `MR` rows.
pub(super) type Sums<S, const MR: usize, const NV: usize> = [[<S as Simd>::V; NV]; MR];

/// Safe as [`TileFn`] says, inlined into functions of a tier.
#[inline(always)]
unsafe fn tile<S: Simd, D: Dot<S>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe {
        let mut acc: Sums<S, MR, NV> = [[S::zero(); NV]; MR];
        let (mut b, mut soon) = (t.b, t.prefetch);
        let (ldb, soon_other, soon_step) = (t.ldb, t.prefetch_other, t.prefetch_step);
        let stored = t.stored::<S, D>();
        for i in 0..MR {
            S::prefetch(stored.at(t.c, i * t.ldc));
            S::prefetch(stored.at(t.c, i * t.ldc + NV * S::LANES - 1));
        }
        if INDIRECT {
            for run in 0..t.runs {
                let mut p = [null::<f32>(); MR];
                for i in 0..MR {
                    p[i] = *t.rows.add(run * MR + i);
                }
                for q in 0..t.steps {
                    S::prefetch(soon);
                    S::prefetch(soon.wrapping_add(soon_other));
                    soon = soon.wrapping_add(soon_step);
                    let mut bv = [S::zero(); NV];
                    for j in 0..NV {
                        bv[j] = S::load(b.add(S::LANES * j));
                    }
                    for i in 0..MR {
                        let av = S::splat(p[i].add(q).read_unaligned());
                        for j in 0..NV {
                            acc[i][j] = D::dot(av, bv[j], acc[i][j]);
                        }
                    }
                    b = b.add(ldb);
                }
            }
        } else {
            let lda = t.lda;
            for run in 0..t.runs {
                let mut a = if t.rows.is_null() { t.a } else { (*t.rows.add(run)).wrapping_add(t.skip) };
                let mut rest = t.steps;
                if MR == 1 && !D::F32 {
                    let whole = t.steps / CHAINS * CHAINS;
                    acc[0] = chains::<S, D, NV>(a, b, ldb, whole, acc[0]);
                    (a, b, rest) = (a.add(whole), b.add(whole * ldb), rest - whole);
                }
                for _ in 0..rest {
                    if NV > 1 {
                        // A lone vector leaves no slot for them among its loads.
                        S::prefetch(soon);
                        S::prefetch(soon.wrapping_add(soon_other));
                        soon = soon.wrapping_add(soon_step);
                    }
                    let mut bv = [S::zero(); NV];
                    for j in 0..NV {
                        bv[j] = S::load(b.add(S::LANES * j));
                    }
                    for i in 0..MR {
                        let av = S::splat(a.add(i * lda).read_unaligned());
                        for j in 0..NV {
                            acc[i][j] = D::dot(av, bv[j], acc[i][j]);
                        }
                    }
                    a = a.add(1);
                    b = b.add(ldb);
                }
            }
        }
        // Sums that a loop indexes lie in memory: were they these, then from the first step on.
        let mut sums: Sums<S, MR, NV> = [[S::zero(); NV]; MR];
        for i in 0..MR {
            for j in 0..NV {
                sums[i][j] = acc[i][j];
            }
        }
        if S::STORES_APART {
            store_apart::<S, D, MR, NV>(t, &mut sums);
        } else {
            store::<S, D, MR, NV>(t, &mut sums);
        }
    }
}

/// Sums that a lone row of words is divided into: one would wait for itself in each step. Rows of f32 have kernels of their own.
const CHAINS: usize = 4;

/// `sums` plus the products of one row and a panel over `steps`, a multiple of [`CHAINS`].
#[inline(always)]
unsafe fn chains<S: Simd, D: Dot<S>, const NV: usize>(
    a: *const f32,
    b: *const f32,
    ldb: usize,
    steps: usize,
    sums: [S::V; NV],
) -> [S::V; NV] {
    /// Words that the prefetch runs ahead; weights lie in reading order.
    const AHEAD: usize = 1024;
    unsafe {
        let mut acc = [[S::zero(); NV]; CHAINS];
        acc[0] = sums;
        for q in (0..steps).step_by(CHAINS) {
            for u in 0..CHAINS {
                let (av, row) = (S::splat(a.add(q + u).read_unaligned()), b.add((q + u) * ldb));
                for j in 0..NV {
                    S::prefetch(row.wrapping_add(AHEAD + S::LANES * j));
                    acc[u][j] = D::dot(av, S::load(row.add(S::LANES * j)), acc[u][j]);
                }
            }
        }
        let mut sums = acc[0];
        for u in 1..CHAINS {
            for j in 0..NV {
                sums[j] = if D::I8 { S::add_ints(sums[j], acc[u][j]) } else { S::add(sums[j], acc[u][j]) };
            }
        }
        sums
    }
}

/// As [`store`], for tiers whose instructions every processor has.
#[inline(never)]
unsafe fn store_apart<S: Simd, D: Dot<S>, const MR: usize, const NV: usize>(t: &Tile, acc: &mut Sums<S, MR, NV>) {
    unsafe { store::<S, D, MR, NV>(t, acc) }
}

/// Applies a tile's epilogue to its sums and stores them.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, D: Dot<S>, const MR: usize, const NV: usize>(t: &Tile, acc: &mut Sums<S, MR, NV>) {
    unsafe {
        if D::F32 && t.cols >= NV * S::LANES {
            store_part::<S, D, MR, NV, true>(t, acc)
        } else {
            store_part::<S, D, MR, NV, false>(t, acc)
        }
    }
}

#[inline(always)]
unsafe fn store_part<S: Simd, D: Dot<S>, const MR: usize, const NV: usize, const FULL: bool>(t: &Tile, acc: &mut Sums<S, MR, NV>) {
    unsafe {
        let mut n = [S::LANES; NV];
        if !FULL {
            for j in 0..NV {
                n[j] = t.cols.saturating_sub(S::LANES * j).min(S::LANES);
            }
        }
        if t.accumulate {
            for i in 0..MR {
                for j in 0..NV {
                    let p = t.c.wrapping_add(i * t.ldc + S::LANES * j);
                    let old = if FULL { S::load(p) } else { S::load_n(p, n[j]) };
                    acc[i][j] = S::add(acc[i][j], old);
                }
            }
        }
        if !t.epilogue.is_null() {
            let e = &*t.epilogue;
            if D::I8 {
                for j in 0..NV {
                    let (p, shift) = (e.scale.wrapping_add(S::LANES * j), e.shift.wrapping_add(S::LANES * j));
                    let (scale, shift) = (S::load_n(p, n[j]), S::load_n(shift.cast(), n[j]));
                    for i in 0..MR {
                        acc[i][j] = S::mul(S::from_ints(S::add_ints(acc[i][j], shift)), scale);
                    }
                }
            }
            if !e.bias.is_null() {
                for j in 0..NV {
                    let p = e.bias.wrapping_add(S::LANES * j);
                    let v = if FULL { S::load(p) } else { S::load_n(p, n[j]) };
                    for i in 0..MR {
                        acc[i][j] = S::add(acc[i][j], v);
                    }
                }
            }
            if !e.residual.is_null() {
                let halves = D::BF16 && e.residual_stored == Stored::Bf16;
                for i in 0..MR {
                    for j in 0..NV {
                        let at = i * e.ldr + S::LANES * j;
                        let p = e.residual.wrapping_add(at);
                        let v = if halves {
                            S::load_bf16(e.residual.cast::<u16>().wrapping_add(at), n[j])
                        } else if FULL {
                            S::load(p)
                        } else {
                            S::load_n(p, n[j])
                        };
                        acc[i][j] = S::add(acc[i][j], v);
                    }
                }
            }
            match e.activation {
                Activation::Clamp => {
                    let (lo, hi) = (S::splat(e.lo), S::splat(e.hi));
                    for i in 0..MR {
                        for j in 0..NV {
                            acc[i][j] = S::min(hi, S::max(lo, acc[i][j]));
                        }
                    }
                }
                Activation::HardSwish => {
                    for i in 0..MR {
                        for j in 0..NV {
                            acc[i][j] = hard_swish::<S>(acc[i][j]);
                        }
                    }
                }
                _ => {}
            }
        }
        if D::I8 && t.stored::<S, D>() == Stored::U8 {
            let steps = &(*t.epilogue).steps;
            for i in 0..MR {
                for j in 0..NV {
                    let v = steps.of::<S>(acc[i][j]);
                    S::store_u8(t.c.cast::<u8>().wrapping_add(i * t.ldc + S::LANES * j), v, n[j]);
                }
            }
            return;
        }
        if D::BF16 && t.stored::<S, D>() == Stored::Bf16 {
            for i in 0..MR {
                for j in 0..NV {
                    D::store_bf16(t.c.cast::<u16>().wrapping_add(i * t.ldc + S::LANES * j), acc[i][j], n[j]);
                }
            }
            return;
        }
        for i in 0..MR {
            for j in 0..NV {
                let p = t.c.wrapping_add(i * t.ldc + S::LANES * j);
                if FULL { S::store(p, acc[i][j]) } else { S::store_n(p, acc[i][j], n[j]) }
            }
        }
    }
}

/// The direct and indirect microkernels of a tier for `NV` vectors and the listed numbers of rows.
macro_rules! micro {
    ($f:ident::<$dot:ty>, $width:literal, $nv:literal, [$($r:literal)*]) => {
        Micro {
            width: $width,
            direct: &[$($f::<$dot, $r, $nv, false> as TileFn),*],
            indirect: &[$($f::<$dot, $r, $nv, true> as TileFn),*],
            halves: &[],
        }
    };
}

unsafe fn portable<D: Dot<Portable>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<Portable, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<D: Dot<super::simd::Avx2>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<super::simd::Avx2, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<D: Dot<Avx512>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<Avx512, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn avx512_bf16<D: Dot<Avx512>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<Avx512, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "aarch64")]
unsafe fn neon<D: Dot<super::simd::Neon>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<super::simd::Neon, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avxvnni")]
unsafe fn avx2_vnni<D: Dot<super::simd::Avx2>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<super::simd::Avx2, D, MR, NV, INDIRECT>(t) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn avx512_vnni<D: Dot<Avx512>, const MR: usize, const NV: usize, const INDIRECT: bool>(t: &Tile) {
    unsafe { tile::<Avx512, D, MR, NV, INDIRECT>(t) }
}

/// The microkernels of one kind of operand in every tier.
struct Kind {
    portable: Micro,
    #[cfg(target_arch = "x86_64")]
    avx2: Micro,
    /// For panels 16, 32, 48 and 64 wide.
    #[cfg(target_arch = "x86_64")]
    avx512: [Micro; 4],
    #[cfg(target_arch = "aarch64")]
    neon: Micro,
}

/// For panels of 16, 32, 48 and 64 columns.
#[cfg(target_arch = "x86_64")]
macro_rules! widths {
    ($f:ident::<$dot:ty>) => {
        [
            micro!($f::<$dot>, 16, 1, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
            micro!($f::<$dot>, 32, 2, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
            micro!($f::<$dot>, 48, 3, [1 2 3 4 5 6 7 8 9]),
            micro!($f::<$dot>, 64, 4, [1 2 3 4 5 6]),
        ]
    };
}

/// Sixteen 128-bit registers hold two rows of sixteen columns, thirty-two hold four.
#[cfg(target_arch = "x86_64")]
macro_rules! portable {
    ($dot:ty) => { micro!(portable::<$dot>, 16, 4, [1 2]) };
}
#[cfg(not(target_arch = "x86_64"))]
macro_rules! portable {
    ($dot:ty) => { micro!(portable::<$dot>, 16, 4, [1 2 3 4]) };
}

static SINGLES: Kind = Kind {
    portable: portable!(Singles),
    #[cfg(target_arch = "x86_64")]
    avx2: micro!(avx2::<Singles>, 16, 2, [1 2 3 4 5 6]),
    #[cfg(target_arch = "x86_64")]
    avx512: {
        let [one, two, three, four] = widths!(avx512::<Singles>);
        let two = Micro { halves: super::halves::BESIDE_ONE, ..two };
        [one, two, Micro { halves: super::halves::BESIDE_TWO, ..three }, four]
    },
    // Six rows of sixteen columns take twenty-four of thirty-two registers.
    #[cfg(target_arch = "aarch64")]
    neon: micro!(neon::<Singles>, 16, 4, [1 2 3 4 5 6]),
};

static PAIRS: Kind = Kind {
    portable: portable!(Pairs),
    #[cfg(target_arch = "x86_64")]
    avx2: micro!(avx2::<Pairs>, 16, 2, [1 2 3 4]),
    #[cfg(target_arch = "x86_64")]
    avx512: widths!(avx512_bf16::<NativePairs>),
    #[cfg(target_arch = "aarch64")]
    neon: micro!(neon::<Pairs>, 16, 4, [1 2 3 4]),
};

static QUADS: Kind = Kind {
    portable: portable!(Quads),
    #[cfg(target_arch = "x86_64")]
    avx2: micro!(avx2::<Quads>, 16, 2, [1 2 3 4]),
    #[cfg(target_arch = "x86_64")]
    avx512: widths!(avx512_vnni::<NativeQuads>),
    #[cfg(target_arch = "aarch64")]
    neon: micro!(neon::<Quads>, 16, 4, [1 2 3 4]),
};

#[cfg(target_arch = "x86_64")]
static AVX_QUADS: Micro = micro!(avx2_vnni::<NativeQuads>, 16, 2, [1 2 3 4 5 6]);

/// The microkernels of integers for panels `nr` wide in the tier in use.
fn quads(nr: usize) -> &'static Micro {
    match tier() {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 if has_int8_dots() => &AVX_QUADS,
        _ => QUADS.of(has_int8_dots(), nr),
    }
}

impl Kind {
    /// The microkernels for panels `nr` wide; `fast`: an AVX-512 tier has instructions for this kind.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    fn of(&'static self, fast: bool, nr: usize) -> &'static Micro {
        match tier() {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 if fast => self.avx512.get((nr / 16).wrapping_sub(1)).unwrap_or(&self.avx512[0]),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512 | Tier::Avx2 => &self.avx2,
            #[cfg(target_arch = "aarch64")]
            Tier::Neon => &self.neon,
            _ => &self.portable,
        }
    }
}

/// What the factors of a product are, and what multiplies them. A kernel names those that it needs: what never multiplies small numbers
/// does not refer to their microkernels, and a program without them is smaller.
#[derive(Clone, Copy)]
pub struct Factors {
    pub numbers: Numbers,
    /// The microkernels for panels of a width in the tier in use.
    pub micros: fn(usize) -> &'static Micro,
}

impl Factors {
    pub const F32: Factors = Factors { numbers: Numbers::F32, micros: micro };
    pub const BF16: Factors = Factors { numbers: Numbers::Bf16, micros: |nr| PAIRS.of(has_bf16_dots(), nr) };
    pub const I8: Factors = Factors { numbers: Numbers::I8, micros: quads };
}

/// The microkernels of f32 for panels `nr` wide in the tier in use.
pub fn micro(nr: usize) -> &'static Micro {
    SINGLES.of(true, nr)
}

//! ArgMax and ArgMin.

use super::{Shared, size, split};
use graphc_abi::args::data::elem;
use graphc_abi::args::rows::ArgReduceArgs;
use graphc_abi::{Ctx, Status};
use half::{bf16, f16};

/// Columns that are searched together.
const COLUMNS: usize = 64;

/// An ordered element.
trait Ordered: Copy + PartialOrd + Send + Sync + 'static {
    const LOWEST: Self;
    const HIGHEST: Self;
}

macro_rules! ordered {
    ($($t:ty),*) => {$(
        impl Ordered for $t {
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
        }
    )*};
}
ordered!(f32, f64, f16, bf16, i8, i16, i32, i64, u8, u16, u32, u64);

#[inline(always)]
unsafe fn put(y: *mut u8, bytes: usize, at: usize, index: u32) {
    // SAFETY: `at` lies within the result.
    unsafe {
        match bytes {
            2 => y.cast::<u16>().add(at).write(index as u16),
            4 => y.cast::<u32>().add(at).write(index),
            _ => y.cast::<u64>().add(at).write(index as u64),
        }
    }
}

unsafe fn search<T: Ordered, const MIN: bool>(ctx: &Ctx, a: &ArgReduceArgs) {
    let (outer, n, inner) = (size(a.outer), size(a.n), size(a.inner));
    let bytes = if a.index_bytes == 0 { 8 } else { size(a.index_bytes) };
    let (x, y) = (Shared(a.x.cast_mut().cast::<T>()), Shared(a.y));
    let better = |a: T, b: T| if MIN { a < b } else { a > b };
    let start = if MIN { T::HIGHEST } else { T::LOWEST };
    let blocks = inner.div_ceil(COLUMNS);
    let unit = |u: usize| {
        let (o, first) = (u / blocks, u % blocks * COLUMNS);
        let width = COLUMNS.min(inner - first);
        // SAFETY: block `first..first + width` of columns of image `o`.
        unsafe {
            let x = x.at(o * n * inner + first).cast_const();
            if inner == 1 {
                put(y.get(), bytes, o, row(x, n, start, better));
                return;
            }
            let mut best = [start; COLUMNS];
            let mut index = [0u32; COLUMNS];
            for i in 0..n {
                for c in 0..width {
                    let v = *x.add(i * inner + c);
                    let take = better(v, best[c]);
                    best[c] = if take { v } else { best[c] };
                    index[c] = if take { i as u32 } else { index[c] };
                }
            }
            for (c, &i) in index.iter().enumerate().take(width) {
                put(y.get(), bytes, o * inner + first + c, i);
            }
        }
    };
    // SAFETY: units write disjoint results.
    unsafe { split(ctx, outer * blocks, 2 * n * inner.min(COLUMNS), |r| r.for_each(unit)) }
}

/// The first best of a contiguous row. Lanes keep their own best; blocks of the row without anything better cost one comparison a
/// lane.
///
/// # Safety
/// `n` elements at `x`.
#[inline(always)]
unsafe fn row<T: Ordered>(x: *const T, n: usize, start: T, better: impl Fn(T, T) -> bool) -> u32 {
    const BLOCK: usize = 64;
    let (mut best, mut index) = (start, 0);
    let mut i = 0;
    while i < n {
        let width = BLOCK.min(n - i);
        // SAFETY: `i + width <= n`.
        let block = unsafe { core::slice::from_raw_parts(x.add(i), width) };
        if width < BLOCK || block.iter().fold(false, |any, &v| any | better(v, best)) {
            for (j, &v) in block.iter().enumerate() {
                if better(v, best) {
                    (best, index) = (v, i + j);
                }
            }
        }
        i += width;
    }
    index as u32
}

/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_arg_reduce(ctx: *const Ctx, args: *const ArgReduceArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    macro_rules! of {
        ($t:ty) => {
            // SAFETY: the arguments say that this is the type.
            if a.min != 0 { unsafe { search::<$t, true>(ctx, a) } } else { unsafe { search::<$t, false>(ctx, a) } }
        };
    }
    match a.elem {
        elem::F32 => of!(f32),
        elem::F64 => of!(f64),
        elem::F16 => of!(f16),
        elem::BF16 => of!(bf16),
        elem::I8 => of!(i8),
        elem::I16 => of!(i16),
        elem::I32 => of!(i32),
        elem::I64 => of!(i64),
        elem::U8 | elem::BOOL => of!(u8),
        elem::U16 => of!(u16),
        elem::U32 => of!(u32),
        elem::U64 => of!(u64),
        _ => return Status::InvalidShape as i32,
    }
    Status::Ok as i32
}

//! Kernels that move data.

mod copy;
mod cumulate;
mod fill;
mod gather;
mod mirror;
mod number;
mod scatter;
mod topk;
pub(crate) mod transpose;
mod wherever;

pub use copy::gc_copy_strided;
pub use cumulate::gc_cumulate;
pub use fill::gc_fill;
pub use gather::{gc_gather, gc_gather_nd};
pub use mirror::gc_pad_mirror;
pub use scatter::gc_scatter_nd;
pub use topk::gc_topk;
pub use transpose::gc_transpose;
pub use wherever::gc_where;

pub(crate) const SYMBOLS: &[crate::Symbol] = crate::symbol_list![
    gc_transpose,
    gc_copy_strided,
    gc_fill,
    gc_pad_mirror,
    gc_gather,
    gc_gather_nd,
    gc_scatter_nd,
    gc_cumulate,
    gc_topk,
    gc_where,
];

/// Copies `n` bytes; short runs without a call.
///
/// # Safety
/// `n` bytes at `from` and at `to`, disjoint.
#[inline(always)]
pub(crate) unsafe fn copy_bytes(from: *const u8, to: *mut u8, n: usize) {
    /// Two copies of `T`, from the front and from the back, which may overlap.
    #[inline(always)]
    unsafe fn ends<T: Copy>(from: *const u8, to: *mut u8, n: usize) {
        let last = n - size_of::<T>();
        // SAFETY: `n` is at least the size of `T`.
        unsafe {
            let (a, b) = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(a);
            to.add(last).cast::<T>().write_unaligned(b);
        }
    }
    // SAFETY: the caller's contract; each width fits in `n`.
    unsafe {
        match n {
            65.. => core::ptr::copy_nonoverlapping(from, to, n),
            32..=64 => ends::<[u64; 4]>(from, to, n),
            16..=31 => ends::<u128>(from, to, n),
            8..=15 => ends::<u64>(from, to, n),
            4..=7 => ends::<u32>(from, to, n),
            2..=3 => ends::<u16>(from, to, n),
            1 => to.write(from.read()),
            0 => {}
        }
    }
}

/// Runs `$run::<T>(..)` with `T` the unsigned integer, or block of them, of `$size` bytes.
macro_rules! by_size {
    ($size:expr, $run:ident($($arg:expr),* $(,)?)) => {
        match $size {
            1 => $run::<u8>($($arg),*),
            2 => $run::<u16>($($arg),*),
            4 => $run::<u32>($($arg),*),
            8 => $run::<u64>($($arg),*),
            16 => $run::<[u64; 2]>($($arg),*),
            _ => return graphc_abi::Status::InvalidShape as i32,
        }
    };
}
pub(crate) use by_size;

/// `[a.d0, .., a.d7]` for a letter `d`.
macro_rules! eight {
    ($a:ident, $d0:ident, $d1:ident, $d2:ident, $d3:ident, $d4:ident, $d5:ident, $d6:ident, $d7:ident) => {
        [$a.$d0, $a.$d1, $a.$d2, $a.$d3, $a.$d4, $a.$d5, $a.$d6, $a.$d7]
    };
}
pub(crate) use eight;

#[cfg(test)]
mod tests;

//! Convolutions over NHWC images as products whose left rows are found through pointers.

pub mod forward;
mod planar;
pub mod transpose;
pub mod winograd;

use crate::{Symbol, symbol_list};
use graphc_abi::SCRATCH_BYTES;

pub(crate) const SYMBOLS: &[Symbol] = symbol_list![
    forward::gc_conv2d_f32,
    forward::gc_conv2d_bf16,
    forward::gc_conv2d_i8,
    transpose::gc_conv_transpose_f32,
    transpose::gc_pack_conv_transpose_f32,
    winograd::filter::gc_transform_filter,
    winograd::gc_winograd_f32,
];

/// Floats of the static row that stands for padding.
const ZEROS_LEN: usize = 4096;

#[repr(align(64))]
struct Zeros([f32; ZEROS_LEN]);
static ZEROS: Zeros = Zeros([0.0; ZEROS_LEN]);

/// A worker's scratch, handed out piece by piece.
struct Scratch {
    at: *mut u8,
    left: usize,
}

impl Scratch {
    fn new(area: *mut u8) -> Scratch {
        Scratch { at: area, left: SCRATCH_BYTES }
    }

    /// Room for `count` values, aligned to 64. The caller made sure by [`bytes_of`] that all of its pieces fit.
    fn take<T>(&mut self, count: usize) -> *mut T {
        let bytes = bytes_of::<T>(count);
        debug_assert!(bytes <= self.left);
        let p = self.at;
        self.at = self.at.wrapping_add(bytes);
        self.left = self.left.saturating_sub(bytes);
        p.cast()
    }

    /// A row of `len` zeros.
    ///
    /// # Safety
    /// The scratch is this worker's.
    unsafe fn zeros(&mut self, len: usize) -> *const f32 {
        if len <= ZEROS_LEN {
            return ZEROS.0.as_ptr();
        }
        let p = self.take::<f32>(len);
        // SAFETY: `take` gave room for `len`.
        unsafe { p.write_bytes(0, len) };
        p
    }

    /// `len` words of bytes that are all `byte`.
    ///
    /// # Safety
    /// The scratch is this worker's.
    unsafe fn padding(&mut self, len: usize, byte: u8) -> *const f32 {
        if byte == 0 {
            // SAFETY: by the contract.
            return unsafe { self.zeros(len) };
        }
        let p = self.take::<f32>(len);
        // SAFETY: `take` gave room for `len`.
        unsafe { p.write_bytes(byte, len) };
        p
    }
}

/// Scratch that `count` values take.
fn bytes_of<T>(count: usize) -> usize {
    count.saturating_mul(size_of::<T>()).saturating_add(63) & !63
}

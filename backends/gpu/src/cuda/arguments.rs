//! Arguments of launches as kernels' parameters lie in memory.

use super::device::{Device, done};
use crate::error::GpuError;
use crate::run::{Argument, Tensor};
use cudarc::driver::sys::{self, CUdeviceptr, CUtensorMap};

/// Bytes of a tensor's description, which lies at a multiple of [`MAP_AT`].
const MAP: usize = 128;
const MAP_AT: usize = 64;

/// Arguments one after another, each where its size wants it.
///
/// # Errors
/// If the units that copy boxes cannot read a tensor, or the driver is too old to say how.
pub fn packed(arguments: &[Argument<Device>]) -> Result<Vec<u8>, GpuError> {
    let mut bytes: Vec<u8> = Vec::new();
    for a in arguments {
        match a {
            Argument::Memory(s) => {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes.extend((s.buffer.at + s.from).to_ne_bytes());
            }
            Argument::Words(words) => bytes.extend(words.iter().flat_map(|w| w.to_ne_bytes())),
            Argument::Tensor(s, tensor) => {
                bytes.resize(bytes.len().next_multiple_of(MAP_AT), 0);
                bytes.extend(described(s.buffer.at + s.from, tensor)?);
            }
        }
    }
    Ok(bytes)
}

/// The driver's description of a tensor of f32 at `at`.
fn described(at: CUdeviceptr, t: &Tensor) -> Result<[u8; MAP], GpuError> {
    let rank = t.extents.len();
    if !(1..=5).contains(&rank) || t.strides.len() + 1 != rank || t.tile.len() != rank {
        return Err(GpuError::Lacks(format!("boxes of tensors with {rank} axes")));
    }
    // What is empty is never copied, and has no description.
    let extents: Vec<u64> = t.extents.iter().map(|&n| n.max(1)).collect();
    let strides: Vec<u64> = t.strides.iter().map(|&n| 4 * n).collect();
    let (each, at) = (vec![1u32; rank], at + 4 * t.first);
    let swizzle = if t.swizzled {
        sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B
    } else {
        sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_NONE
    };
    let mut map = std::mem::MaybeUninit::<CUtensorMap>::zeroed();
    // SAFETY: all lists are as long as the rank says and valid for the call, and the description is written by the driver.
    unsafe {
        let encoded = sys::cuTensorMapEncodeTiled(
            map.as_mut_ptr(),
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
            rank as u32,
            std::ptr::with_exposed_provenance_mut(at as usize),
            extents.as_ptr(),
            strides.as_ptr(),
            t.tile.as_ptr(),
            each.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        );
        done("cuTensorMapEncodeTiled", encoded)?;
        let mut bytes = [0; MAP];
        std::ptr::copy_nonoverlapping(map.as_ptr().cast::<u8>(), bytes.as_mut_ptr(), MAP.min(size_of::<CUtensorMap>()));
        Ok(bytes)
    }
}

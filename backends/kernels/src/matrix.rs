//! Matrix products.

pub mod dot;
pub mod gemm;
pub mod gemv;
#[cfg(target_arch = "x86_64")]
mod halves;
pub mod matmul;
pub mod matmul_any;
pub mod narrow;
pub mod product;
pub mod simd;
pub mod tile;

use crate::{Symbol, symbol_list};

pub(crate) const SYMBOLS: &[Symbol] = symbol_list![
    gemm::gc_gemm_f32,
    gemm::gc_gemm_bf16,
    gemm::gc_gemm_i8,
    gemm::gc_pack_f32,
    matmul::gc_matmul_f32,
    matmul_any::gc_matmul_f64,
    matmul_any::gc_matmul_i32,
    matmul_any::gc_matmul_i64,
];

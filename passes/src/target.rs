//! What passes ask of the machine they compile for.

use graphc_ir::Op;

/// Facts of a target that the passes' choices depend on. A backend implements it.
pub trait Target {
    /// Columns of a panel of packed weights for a product of `m` rows (if known), `n` columns and depth `k`.
    fn panel_width(&self, m: Option<usize>, n: usize, k: usize) -> usize;

    /// Pixels along an axis of the tiles by which a 3x3 convolution of stride 1 with `c` input and `n` output channels is best computed
    /// by Winograd's algorithm; none where the direct way is better. Output extents and batch are given where they are known.
    fn winograd_outputs(&self, _batch: Option<usize>, _out: [Option<usize>; 2], _c: usize, _n: usize) -> Option<usize> {
        None
    }

    /// Whether a product of `m` rows or more, `n` columns and depth `k` is faster by Strassen's algorithm.
    fn divides_product(&self, _m: usize, _n: usize, _k: usize) -> bool {
        false
    }

    /// Whether batches that go through many depthwise convolutions do so faster image by image, for activations then stay in caches.
    fn goes_by_images(&self) -> bool {
        true
    }

    /// Whether there is a kernel for `op` on f32; an op without one is composed of others.
    fn has_kernel(&self, _op: Op) -> bool {
        true
    }

    /// Whether products of bf16 are faster than those of f32.
    fn has_bf16_dots(&self) -> bool {
        false
    }

    /// Whether products of 8-bit integers are faster than those of f32.
    fn has_int8_dots(&self) -> bool {
        false
    }
}

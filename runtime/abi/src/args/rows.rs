//! Arguments of the kernels over rows, windows and reduced axes. Tensors are row-major and dense unless strides are given.

/// Codes for the field `kind` of reductions.
pub mod reduce {
    /// Integers wrap. The empty sum is 0.
    pub const SUM: i64 = 0;
    /// The sum divided by the number of elements; integers truncate towards zero. Of nothing: NaN, or 0 for integers.
    pub const MEAN: i64 = 1;
    /// Integers wrap. The empty product is 1.
    pub const PROD: i64 = 2;
    /// NaN where an element is NaN. Of nothing: minus infinity, or the smallest integer.
    pub const MAX: i64 = 3;
    /// NaN where an element is NaN. Of nothing: infinity, or the largest integer.
    pub const MIN: i64 = 4;
    /// Bool: the logical or. Of nothing: false.
    pub const ANY: i64 = 5;
    /// Bool: the logical and. Of nothing: true.
    pub const ALL: i64 = 6;
    /// Square root of the sum of squares, of floats.
    pub const NORM: i64 = 7;
    /// Sum of squares, of floats.
    pub const SUM_SQUARES: i64 = 8;
}

/// Codes for the field `kind` of pooling.
pub mod pool {
    /// Mean of the elements of the window inside the image.
    pub const AVG: i64 = 0;
    /// Largest element of the window inside the image. As in TensorFlow NaN is passed over, and the result is at least the lowest finite
    /// value.
    pub const MAX: i64 = 1;
    /// Sum of the elements of the window inside the image divided by the size of the whole window.
    pub const AVG_WITH_PADDING: i64 = 2;
}

kernel_args! {
    /// `y[r] = softmax(scale * x[r] + mask[row of r])` for each of `rows` rows of `n` elements, or its logarithm.
    ///
    /// Row `r = (i * mask_mid + j) * mask_inner + k` adds the `n` elements at
    /// `mask + i * mask_outer_stride + j * mask_mid_stride + k * mask_inner_stride`. `y` may be `x`.
    pub struct SoftmaxArgs: "gc_softmax_f32" {
        x: In f32,
        /// Null for none.
        mask: In f32,
        y: Out f32,
        rows: Int,
        n: Int,
        /// 1 for the logarithm of the softmax.
        log: Int,
        /// 0 stands for 1.
        scale: Real,
        /// 0 stands for 1.
        mask_mid: Int,
        /// 0 stands for 1.
        mask_inner: Int,
        mask_outer_stride: Int,
        mask_mid_stride: Int,
        mask_inner_stride: Int,
    }

    /// `y[r] = softmax(x[r])` for each of `rows` rows of `n` elements, or its logarithm. `y` may be `x`.
    pub struct SoftmaxF64Args: "gc_softmax_f64" {
        x: In f64,
        y: Out f64,
        rows: Int,
        n: Int,
        /// 1 for the logarithm of the softmax.
        log: Int,
    }

    /// `y[r] = (v - mean(v)) / sqrt(var(v) + eps) * gamma + beta` with `v = x[r] + residual[r]`, for each of `rows` rows of `n`.
    ///
    /// With `rms`: `y[r] = v / sqrt(mean(v^2) + eps) * gamma + beta`. `y` and `sum` may be `x` or `residual`, not each other.
    pub struct LayerNormArgs: "gc_layer_norm_f32" {
        x: In f32,
        /// `[rows, n]`, or null.
        residual: In f32,
        /// `[n]`, or null for ones.
        gamma: In f32,
        /// `[n]`, or null for zeros.
        beta: In f32,
        y: Out f32,
        /// `[rows, n]`: where to keep `v`, or null.
        sum: Out f32,
        rows: Int,
        n: Int,
        rms: Int,
        eps: Real,
    }

    /// Reduces the axes of `mask` of a tensor of `rank` axes; `y` has the other axes in order, dense.
    ///
    /// The order of summation depends on the shape alone.
    pub struct ReduceArgs: "gc_reduce" | "gc_reduce_f32" {
        x: In u8,
        y: Out u8,
        /// Code of the element type, see [`elem`](super::data::elem).
        elem: Int,
        /// Code of [`reduce`].
        kind: Int,
        /// At most 8.
        rank: Int,
        /// Bit `i` set: axis `i` is reduced.
        mask: Int,
        /// 1 where the strides `s0..s7` say where elements lie; 0 where `x` is dense.
        strided: Int,
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        s0: Int, s1: Int, s2: Int, s3: Int, s4: Int, s5: Int, s6: Int, s7: Int,
    }

    /// Index along the middle axis of `x[outer, n, inner]` of the first largest or smallest element. NaN is never chosen, and elements
    /// not above the lowest finite value leave index 0 (TensorFlow's ArgMax and ArgMin).
    pub struct ArgReduceArgs: "gc_arg_reduce" {
        x: In u8,
        y: Out u8,
        /// Code of the element type.
        elem: Int,
        /// 1 for the smallest.
        min: Int,
        outer: Int,
        n: Int,
        inner: Int,
        /// Bytes of an index of `y`: 2, 4 or 8. 0 stands for 8.
        index_bytes: Int,
    }

    /// Pooling of `x[n, h, w, c]` into `y[n, out_h, out_w, c]`.
    ///
    /// Element `(i, j)` of the window of output `(r, s)` lies at row `r * stride_h + i * dil_h - pad_top` and column
    /// `s * stride_w + j * dil_w - pad_left`, where that is inside the image.
    pub struct Pool2dArgs: "gc_pool2d_f32" | "gc_pool2d_bf16" {
        x: In f32,
        y: Out f32,
        /// Code of [`pool`].
        kind: Int,
        n: Int,
        h: Int,
        w: Int,
        c: Int,
        out_h: Int,
        out_w: Int,
        k_h: Int,
        k_w: Int,
        stride_h: Int,
        stride_w: Int,
        pad_top: Int,
        pad_left: Int,
        /// 0 stands for 1.
        dil_h: Int,
        /// 0 stands for 1.
        dil_w: Int,
    }

    /// Bilinear interpolation of `x[n, h, w, c]` to `y[n, out_h, out_w, c]` (TensorFlow's ResizeBilinear).
    pub struct ResizeBilinearArgs: "gc_resize_bilinear_f32" {
        x: In f32,
        y: Out f32,
        n: Int,
        h: Int,
        w: Int,
        c: Int,
        out_h: Int,
        out_w: Int,
        align_corners: Int,
        half_pixel_centers: Int,
    }

    /// Nearest neighbour of `x[n, h, w, c]` in `y[n, out_h, out_w, c]` (TensorFlow's ResizeNearestNeighbor).
    pub struct ResizeNearestArgs: "gc_resize_nearest" {
        x: In u8,
        y: Out u8,
        /// Bytes of an element.
        size: Int,
        n: Int,
        h: Int,
        w: Int,
        c: Int,
        out_h: Int,
        out_w: Int,
        align_corners: Int,
        half_pixel_centers: Int,
    }
}

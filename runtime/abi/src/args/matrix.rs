//! Arguments of the matrix kernels: products, convolutions and attention.
//!
//! Tensors are row-major, images NHWC, filters HWIO. The epilogue is the same for every kernel, and in f32:
//!
//! ```text
//! t = sum + bias[column]                      where bias is given
//! y = activation(t + residual)                where residual is given and residual_after is 0
//! y = activation(t) + residual                where residual is given and residual_after is 1
//! ```
//!
//! `residual` may be the same address as the output with the same strides; it must not overlap it otherwise.
//!
//! Kernels over bf16 and 8-bit integers take the arguments of those over f32. Their weights are packed by two or four neighbouring steps
//! of the inner extent, and extents and strides count numbers, not such words. In a kernel over bf16 image, residual and result are bf16
//! where no flag says f32. In one over 8-bit integers `x` is unsigned and `w` signed, sums are exact, and
//!
//! ```text
//! sum = scale[column] * (shift[column] + sum of x * w)
//! y = min(max(round(t * y_rate + y_zero), y_lo), y_hi)     as unsigned integers, t being the y above, where y_f32 is 0
//! ```

/// Codes of the activations, for the field `act`. `act_lo` and `act_hi` are their parameters.
pub mod act {
    pub const NONE: i64 = 0;
    /// `max(x, 0)`.
    pub const RELU: i64 = 1;
    /// `min(max(x, act_lo), act_hi)`; relu6 with 0 and 6.
    pub const CLAMP: i64 = 2;
    /// `x < 0 ? act_lo * x : x`.
    pub const LEAKY_RELU: i64 = 3;
    /// `x / 2 * (1 + erf(x / sqrt 2))`.
    pub const GELU_ERF: i64 = 4;
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    pub const GELU_TANH: i64 = 5;
    /// `x * sigmoid(x)`.
    pub const SILU: i64 = 6;
    pub const SIGMOID: i64 = 7;
    pub const TANH: i64 = 8;
    /// `x * min(max(x + 3, 0), 6) / 6`.
    pub const HARD_SWISH: i64 = 9;
    /// `min(max(x + 3, 0), 6) / 6`.
    pub const HARD_SIGMOID: i64 = 10;
    /// `x < 0 ? exp(x) - 1 : x`.
    pub const ELU: i64 = 11;
}

kernel_args! {
    /// `y[b] = epilogue(x[b] * w[b])`, a matrix times packed weights, for each `b` of `batch`.
    pub struct GemmArgs: "gc_gemm_f32" | "gc_gemm_bf16" | "gc_gemm_i8" {
        /// `[m, k]`, row stride `lda`. Over bf16 `k`, `lda` and `x_batch` are even, over integers multiples of 4.
        x: In f32,
        /// `[ceil(n / nr)][k][nr]`, columns from `n` on zero; `[ceil(n / nr)][k / 2][nr][2]` of bf16, `[ceil(n / nr)][k / 4][nr][4]` of integers.
        w: In f32,
        /// `[m, n]`, row stride `ldc`.
        y: Out f32,
        m: Int,
        n: Int,
        k: Int,
        /// Width of the panels of `w`: 16, 32, 48 or 64.
        nr: Int,
        /// 0 stands for `k`.
        lda: Int,
        /// 0 stands for `n`.
        ldc: Int,
        /// 0 stands for 1.
        batch: Int,
        x_batch: Int,
        w_batch: Int,
        y_batch: Int,
        /// `[n]`, or null.
        bias: In f32,
        bias_batch: Int,
        /// `[m, n]` with row stride `ldr`, or null.
        residual: In f32,
        /// 0 stands for `n`.
        ldr: Int,
        residual_batch: Int,
        residual_after: Int,
        /// Of kernels over bf16. 1: `residual` is f32, not bf16.
        residual_f32: Int,
        /// Of kernels over bf16 and integers. 1: `y` is f32.
        y_f32: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
        /// Of kernels over integers, and of the result's column: what its sums are multiplied by, after `shift` has been added.
        scale: In f32,
        shift: In i32,
        /// Of a result of integers: steps a unit, the integer for 0, the least and the greatest.
        y_rate: Real,
        y_zero: Real,
        y_lo: Real,
        y_hi: Real,
        /// 1: halves are rounded up, not to even.
        y_half_up: Int,
    }

    /// Packs `src[k, n]` into the panels that the other kernels read: `dst[ceil(n / nr)][k][nr]`. For weights that are known at run
    /// time only.
    pub struct PackArgs: "gc_pack_f32" {
        src: In f32,
        dst: Out f32,
        k: Int,
        n: Int,
        nr: Int,
        /// Stride of `src` along `k`.
        src_row: Int,
        /// Stride of `src` along `n`.
        src_col: Int,
        /// 0 stands for 1.
        batch: Int,
        src_batch: Int,
        dst_batch: Int,
    }

    /// Packs a filter `src[k_h, k_w, out_c, in_c]` of a transposed convolution for `gc_conv_transpose_f32`.
    pub struct PackTransposeArgs: "gc_pack_conv_transpose_f32" {
        src: In f32,
        dst: Out f32,
        k_h: Int,
        k_w: Int,
        out_c: Int,
        in_c: Int,
        stride_h: Int,
        stride_w: Int,
        /// 0 stands for 1.
        dil_h: Int,
        /// 0 stands for 1.
        dil_w: Int,
        nr: Int,
    }

    /// `c = epilogue(alpha * a * b)` over up to three batch axes, both operands as they lie in memory. Strides are in elements, 0
    /// repeats the operand.
    pub struct MatmulArgs: "gc_matmul_f32" {
        a: In f32,
        b: In f32,
        c: Out f32,
        m: Int,
        n: Int,
        k: Int,
        a_row: Int,
        a_col: Int,
        b_row: Int,
        b_col: Int,
        c_row: Int,
        c_col: Int,
        /// Extents of the batch axes; 0 stands for 1.
        batch0: Int,
        batch1: Int,
        batch2: Int,
        a_batch0: Int,
        a_batch1: Int,
        a_batch2: Int,
        b_batch0: Int,
        b_batch1: Int,
        b_batch2: Int,
        c_batch0: Int,
        c_batch1: Int,
        c_batch2: Int,
        /// 0 stands for 1.
        alpha: Real,
        /// `[n]`, or null.
        bias: In f32,
        /// `[m, n]` with row stride `r_row` and column stride 1, or null.
        residual: In f32,
        r_row: Int,
        r_batch0: Int,
        r_batch1: Int,
        r_batch2: Int,
        residual_after: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
    }

    /// `c = a * b` as `gc_matmul_f32`, without an epilogue.
    pub struct MatmulF64Args: "gc_matmul_f64" {
        a: In f64, b: In f64, c: Out f64, m: Int, n: Int, k: Int,
        a_row: Int, a_col: Int, b_row: Int, b_col: Int, c_row: Int, c_col: Int,
        batch0: Int, batch1: Int, batch2: Int,
        a_batch0: Int, a_batch1: Int, a_batch2: Int,
        b_batch0: Int, b_batch1: Int, b_batch2: Int,
        c_batch0: Int, c_batch1: Int, c_batch2: Int,
    }

    /// `c = a * b` as `gc_matmul_f32`, without an epilogue; sums wrap.
    pub struct MatmulI32Args: "gc_matmul_i32" {
        a: In i32, b: In i32, c: Out i32, m: Int, n: Int, k: Int,
        a_row: Int, a_col: Int, b_row: Int, b_col: Int, c_row: Int, c_col: Int,
        batch0: Int, batch1: Int, batch2: Int,
        a_batch0: Int, a_batch1: Int, a_batch2: Int,
        b_batch0: Int, b_batch1: Int, b_batch2: Int,
        c_batch0: Int, c_batch1: Int, c_batch2: Int,
    }

    /// `c = a * b` as `gc_matmul_f32`, without an epilogue; sums wrap.
    pub struct MatmulI64Args: "gc_matmul_i64" {
        a: In i64, b: In i64, c: Out i64, m: Int, n: Int, k: Int,
        a_row: Int, a_col: Int, b_row: Int, b_col: Int, c_row: Int, c_col: Int,
        batch0: Int, batch1: Int, batch2: Int,
        a_batch0: Int, a_batch1: Int, a_batch2: Int,
        b_batch0: Int, b_batch1: Int, b_batch2: Int,
        c_batch0: Int, c_batch1: Int, c_batch2: Int,
    }

    /// Convolution of NHWC images, TensorFlow's `Conv2D`. Padding at the bottom and right follows from the output's extents.
    pub struct Conv2dArgs: "gc_conv2d_f32" | "gc_conv2d_bf16" | "gc_conv2d_i8" {
        /// `[batch, in_h, in_w, in_c]`. Over bf16 the channels of a group, and `ldx`, are even, over integers multiples of 4; or there
        /// are at most 24 channels without gaps in one group, the kernel is wider than 1 and has no horizontal dilation, and a line of
        /// an image has at most 12,000 numbers.
        x: In f32,
        /// `[groups][ceil(out_c / groups / nr)][k_h * k_w * in_c / groups][nr]`. Of bf16
        /// `[groups][ceil(out_c / groups / nr)][k_h * ceil(k_w * in_c / groups / 2)][nr][2]`: kernel rows of an odd length end with a
        /// zero; of integers the same with 4 for 2.
        w: In f32,
        /// `[batch, out_h, out_w, out_c]`.
        y: Out f32,
        batch: Int,
        in_h: Int,
        in_w: Int,
        in_c: Int,
        out_h: Int,
        out_w: Int,
        out_c: Int,
        k_h: Int,
        k_w: Int,
        stride_h: Int,
        stride_w: Int,
        /// 0 stands for 1.
        dil_h: Int,
        /// 0 stands for 1.
        dil_w: Int,
        pad_top: Int,
        pad_left: Int,
        /// 0 stands for 1.
        groups: Int,
        nr: Int,
        /// From a pixel of `x` to the next; 0 stands for `in_c`.
        ldx: Int,
        /// From a pixel of `y` to the next; 0 stands for `out_c`.
        ldc: Int,
        /// `[out_c]`, or null.
        bias: In f32,
        /// As `y`, with pixel stride `ldr`, or null.
        residual: In f32,
        /// 0 stands for `out_c`.
        ldr: Int,
        residual_after: Int,
        /// Of kernels over bf16. 1: `residual` is f32, not bf16.
        residual_f32: Int,
        /// Of kernels over bf16 and integers. 1: `y` is f32.
        y_f32: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
        /// Of kernels over integers, and of the result's column: what its sums are multiplied by, after `shift` has been added.
        scale: In f32,
        shift: In i32,
        /// The integer of `x` that stands for padding.
        x_zero: Int,
        /// Of a result of integers: steps a unit, the integer for 0, the least and the greatest.
        y_rate: Real,
        y_zero: Real,
        y_lo: Real,
        y_hi: Real,
        /// 1: halves are rounded up, not to even.
        y_half_up: Int,
    }

    /// Convolution of NHWC images with 3x3 taps and stride 1 by Winograd's algorithm, in tiles of `outputs` x `outputs` pixels. Padding
    /// at the bottom and right follows from the output's extents.
    pub struct WinogradArgs: "gc_winograd_f32" {
        /// `[batch, in_h, in_w, in_c]`, at most 4096 channels.
        x: In f32,
        /// The transformed filter, `[(outputs + 2)^2][ceil(out_c / nr)][in_c][nr]`.
        w: In f32,
        /// `[batch, out_h, out_w, out_c]`.
        y: Out f32,
        batch: Int,
        in_h: Int,
        in_w: Int,
        in_c: Int,
        out_h: Int,
        out_w: Int,
        out_c: Int,
        pad_top: Int,
        pad_left: Int,
        /// Pixels of a tile along an axis, 2 or 4.
        outputs: Int,
        nr: Int,
        /// From a pixel of `x` to the next; 0 stands for `in_c`.
        ldx: Int,
        /// From a pixel of `y` to the next; 0 stands for `out_c`.
        ldc: Int,
        /// `[out_c]`, or null.
        bias: In f32,
        /// As `y`, with pixel stride `ldr`, or null.
        residual: In f32,
        /// 0 stands for `out_c`.
        ldr: Int,
        residual_after: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
    }

    /// Depthwise convolution, TensorFlow's `DepthwiseConv2dNative`. The output has `in_c * multiplier` channels. Over bf16 the multiplier
    /// is 1, image, residual and result are bf16, filter and bias f32.
    pub struct DepthwiseArgs: "gc_depthwise_f32" | "gc_depthwise_bf16" {
        /// `[batch, in_h, in_w, in_c]`.
        x: In f32,
        /// `[k_h, k_w, in_c, multiplier]`, not packed.
        w: In f32,
        /// `[batch, out_h, out_w, in_c * multiplier]`.
        y: Out f32,
        batch: Int,
        in_h: Int,
        in_w: Int,
        in_c: Int,
        out_h: Int,
        out_w: Int,
        /// 0 stands for 1.
        multiplier: Int,
        k_h: Int,
        k_w: Int,
        stride_h: Int,
        stride_w: Int,
        /// 0 stands for 1.
        dil_h: Int,
        /// 0 stands for 1.
        dil_w: Int,
        pad_top: Int,
        pad_left: Int,
        /// From a pixel of `x` to the next; 0 stands for `in_c`.
        ldx: Int,
        /// From a pixel of `y` to the next; 0 stands for its channels.
        ldc: Int,
        bias: In f32,
        residual: In f32,
        /// 0 stands for the channels of `y`.
        ldr: Int,
        residual_after: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
    }

    /// Transposed convolution, TensorFlow's `Conv2DBackpropInput`: `y[oy, ox]` sums `x[iy, ix] * w[ky, kx]` over
    /// `oy = iy * stride_h - pad_top + ky * dil_h` and the same for x.
    pub struct ConvTransposeArgs: "gc_conv_transpose_f32" {
        /// `[batch, in_h, in_w, in_c]`, TensorFlow's `out_backprop`.
        x: In f32,
        /// Filter packed by `pack_conv_transpose` or `gc_pack_conv_transpose_f32`.
        w: In f32,
        /// `[batch, out_h, out_w, out_c]`.
        y: Out f32,
        batch: Int,
        in_h: Int,
        in_w: Int,
        in_c: Int,
        out_h: Int,
        out_w: Int,
        out_c: Int,
        k_h: Int,
        k_w: Int,
        stride_h: Int,
        stride_w: Int,
        /// 0 stands for 1.
        dil_h: Int,
        /// 0 stands for 1.
        dil_w: Int,
        pad_top: Int,
        pad_left: Int,
        nr: Int,
        bias: In f32,
        /// As `y`, or null.
        residual: In f32,
        residual_after: Int,
        act: Int,
        act_lo: Real,
        act_hi: Real,
    }

    /// `out = softmax(scale * q * transpose(k) + mask) * v` for each batch and head; the scores are never stored.
    pub struct AttentionArgs: "gc_attention_f32" {
        /// `[batch, heads, t_q, d]` through its strides; `d` is contiguous, here and below.
        q: In f32,
        /// `[batch, heads, t_k, d]`.
        k: In f32,
        /// `[batch, heads, t_k, d_v]`.
        v: In f32,
        /// Added to the scaled scores, `[batch, heads, t_q, t_k]` with the last axis contiguous; null where there is none.
        mask: In f32,
        /// `[batch, heads, t_q, d_v]`.
        out: Out f32,
        batch: Int,
        heads: Int,
        t_q: Int,
        t_k: Int,
        d: Int,
        /// 0 stands for `d`.
        d_v: Int,
        /// 0 stands for 1.
        scale: Real,
        q_batch: Int,
        q_head: Int,
        q_time: Int,
        k_batch: Int,
        k_head: Int,
        k_time: Int,
        v_batch: Int,
        v_head: Int,
        v_time: Int,
        out_batch: Int,
        out_head: Int,
        out_time: Int,
        /// Strides of the mask; 0 repeats it.
        mask_batch: Int,
        mask_head: Int,
        mask_row: Int,
    }
}

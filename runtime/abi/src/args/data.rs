//! Arguments of the kernels that move data. Tensors are row-major and dense unless strides are given; `size` is the bytes of an
//! element (1, 2, 4, 8 or 16), everything else counts elements. Operands do not overlap unless said otherwise.

/// Codes of the element types, for the fields `elem`.
pub mod elem {
    pub const F32: i64 = 0;
    pub const F64: i64 = 1;
    pub const F16: i64 = 2;
    pub const BF16: i64 = 3;
    pub const I8: i64 = 4;
    pub const I16: i64 = 5;
    pub const I32: i64 = 6;
    pub const I64: i64 = 7;
    pub const U8: i64 = 8;
    pub const U16: i64 = 9;
    pub const U32: i64 = 10;
    pub const U64: i64 = 11;
    /// One byte, 0 or 1.
    pub const BOOL: i64 = 12;
    /// Two f32.
    pub const C64: i64 = 13;
    /// Two f64.
    pub const C128: i64 = 14;
}

/// Codes for the field `op` of scatters.
pub mod scatter {
    /// The last update of a place wins.
    pub const UPDATE: i64 = 0;
    pub const ADD: i64 = 1;
    pub const SUB: i64 = 2;
    pub const MIN: i64 = 3;
    pub const MAX: i64 = 4;
    pub const MUL: i64 = 5;
    pub const DIV: i64 = 6;
}

/// What to do with an index outside its axis, for the fields `outside`.
pub mod outside {
    /// Fail with `IndexOutOfRange`.
    pub const FAIL: i64 = 0;
    /// Gathers give zeros, scatters skip the update.
    pub const SKIP: i64 = 1;
}

kernel_args! {
    /// `y`'s axis `i` is `x`'s axis `p<i>`.
    pub struct TransposeArgs: "gc_transpose" {
        x: In u8,
        y: Out u8,
        size: Int,
        /// At most 8.
        rank: Int,
        /// Extents of `x`.
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        p0: Int, p1: Int, p2: Int, p3: Int, p4: Int, p5: Int, p6: Int, p7: Int,
    }

    /// `y[t·i] = x[s·i]` for every index `i` below the extents: slices, concatenation, padding's interior, reversal, broadcasts.
    ///
    /// Strides may be negative, those of `x` zero.
    pub struct CopyStridedArgs: "gc_copy_strided" {
        x: In u8,
        y: Out u8,
        size: Int,
        /// At most 8.
        rank: Int,
        /// Where index zero lies in `x`.
        x_offset: Int,
        /// Where index zero lies in `y`.
        y_offset: Int,
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        /// Strides of `x`.
        s0: Int, s1: Int, s2: Int, s3: Int, s4: Int, s5: Int, s6: Int, s7: Int,
        /// Strides of `y`.
        t0: Int, t1: Int, t2: Int, t3: Int, t4: Int, t5: Int, t6: Int, t7: Int,
    }

    /// Sets `n` elements to one value.
    pub struct FillArgs: "gc_fill" {
        y: Out u8,
        size: Int,
        n: Int,
        /// The element's bytes, the first in the lowest byte.
        value: Int,
        /// Bytes 8 to 15 of elements of 16.
        value_high: Int,
        /// Where the value lies in memory; null for the two above.
        from: In u8,
    }

    /// `x` with a margin of mirror images (TensorFlow's MirrorPad).
    pub struct PadMirrorArgs: "gc_pad_mirror" {
        x: In u8,
        y: Out u8,
        size: Int,
        /// At most 8.
        rank: Int,
        /// 1: the mirror repeats the border (SYMMETRIC); 0: it does not (REFLECT).
        symmetric: Int,
        /// Extents of `x`.
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        /// Margin before.
        b0: Int, b1: Int, b2: Int, b3: Int, b4: Int, b5: Int, b6: Int, b7: Int,
        /// Margin after.
        a0: Int, a1: Int, a2: Int, a3: Int, a4: Int, a5: Int, a6: Int, a7: Int,
    }

    /// `y[batch, outer, count, inner] = x[batch, outer, index, inner]` with `index = indices[batch, count]` below `axis`.
    pub struct GatherArgs: "gc_gather" {
        /// `[batch, outer, axis, inner]`.
        x: In u8,
        /// `[batch, count]`.
        indices: In u8,
        y: Out u8,
        size: Int,
        /// Bytes of an index: 4 or 8. 0 stands for 8.
        index_bytes: Int,
        batch: Int,
        outer: Int,
        axis: Int,
        inner: Int,
        count: Int,
        /// Code of [`outside`].
        outside: Int,
    }

    /// `y[i] = x[indices[i]]` for `count` index tuples of `depth`, each naming a slice of `inner` elements of
    /// `x[d0, .., d<depth-1>, inner]`.
    pub struct GatherNdArgs: "gc_gather_nd" {
        x: In u8,
        /// `[count, depth]`.
        indices: In u8,
        y: Out u8,
        size: Int,
        /// Bytes of an index: 4 or 8. 0 stands for 8.
        index_bytes: Int,
        count: Int,
        /// At most 8.
        depth: Int,
        inner: Int,
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        /// Code of [`outside`].
        outside: Int,
    }

    /// Combines `count` slices of `inner` elements with the slices of `y[d0, .., d<depth-1>, inner]` that the index tuples name, in
    /// order. `y` holds the tensor to change. Indices are checked before anything is written.
    pub struct ScatterNdArgs: "gc_scatter_nd" {
        /// `[count, depth]`.
        indices: In u8,
        /// `[count, inner]`, or one slice for all with `shared`.
        updates: In u8,
        y: Out u8,
        /// Code of the element type. `scatter::UPDATE` takes all types, the others numbers; `MIN` and `MAX` none that are complex.
        elem: Int,
        /// Code of [`scatter`].
        op: Int,
        /// Bytes of an index: 4 or 8. 0 stands for 8.
        index_bytes: Int,
        count: Int,
        /// At most 8.
        depth: Int,
        inner: Int,
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
        /// 1: every index takes the same update.
        shared: Int,
        /// Code of [`outside`].
        outside: Int,
    }

    /// Running sum or product along the middle axis of `x[outer, n, inner]`. `y` may be `x`.
    pub struct CumulateArgs: "gc_cumulate" {
        x: In u8,
        y: Out u8,
        /// Code of the element type, a number.
        elem: Int,
        /// 1 for products.
        prod: Int,
        /// 1: element `i` is left out of result `i`.
        exclusive: Int,
        /// 1: from the end.
        reverse: Int,
        outer: Int,
        n: Int,
        inner: Int,
    }

    /// The `k` largest of each row of `n`, largest first, and where they were; of equal ones the first comes first. `k = n` sorts.
    pub struct TopKArgs: "gc_topk" {
        /// `[rows, n]`.
        x: In u8,
        /// `[rows, k]`.
        values: Out u8,
        /// `[rows, k]`.
        indices: Out u8,
        /// Code of the element type, a number that is not complex.
        elem: Int,
        /// Bytes of an index: 2, 4 or 8. 0 stands for 4.
        index_bytes: Int,
        rows: Int,
        n: Int,
        k: Int,
        /// 1: the smallest, smallest first.
        ascending: Int,
    }

    /// Indices of the elements of `x` that are not zero, in order.
    pub struct WhereArgs: "gc_where" {
        x: In u8,
        /// `[at most as many rows as x has elements, rank]`.
        y: Out i64,
        /// Number of rows written.
        count: Out i64,
        /// Code of the element type.
        elem: Int,
        /// At most 8.
        rank: Int,
        d0: Int, d1: Int, d2: Int, d3: Int, d4: Int, d5: Int, d6: Int, d7: Int,
    }
}

//! Data kernels against plain loops over indices.

use super::*;
use crate::testing::{Random, each_tier, launch, run, zeroed};
use graphc_abi::Status;
use graphc_abi::args::data::{scatter as op, *};

/// Sets the fields `a<letter>0..7` from a slice.
macro_rules! set_eight {
    ($a:ident, $values:expr, $d0:ident, $d1:ident, $d2:ident, $d3:ident, $d4:ident, $d5:ident, $d6:ident, $d7:ident) => {
        let v = |i: usize| $values.get(i).map_or(0, |&v| v as i64);
        ($a.$d0, $a.$d1, $a.$d2, $a.$d3, $a.$d4, $a.$d5, $a.$d6, $a.$d7) = (v(0), v(1), v(2), v(3), v(4), v(5), v(6), v(7));
    };
}

/// Row-major index of place `at`.
fn unravel(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for i in (0..dims.len()).rev() {
        index[i] = at % dims[i];
        at /= dims[i];
    }
    index
}

fn ravel(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (&i, &d)| at * d + i)
}

/// `n` elements of `size` bytes, all different where they can be.
fn elements(n: usize, size: usize) -> Vec<u64> {
    let mut random = Random::new(n as u64 + 1);
    (0..(n * size).div_ceil(8) + 1).map(|_| random.word()).collect()
}

fn bytes_of(v: &[u64]) -> &[u8] {
    // SAFETY: every u64 is eight bytes.
    unsafe { core::slice::from_raw_parts(v.as_ptr().cast(), v.len() * 8) }
}

#[test]
fn transposes_of_every_size() {
    let mut random = Random::new(10);
    let mut shapes: Vec<(Vec<usize>, Vec<usize>)> = vec![
        (vec![], vec![]),
        (vec![70, 130], vec![1, 0]),
        (vec![64, 64], vec![1, 0]),
        (vec![2, 12, 5, 16], vec![0, 2, 1, 3]),
        (vec![3, 17, 33], vec![0, 2, 1]),
        (vec![8, 9, 10, 11], vec![3, 1, 0, 2]),
        (vec![0, 4], vec![1, 0]),
        (vec![2, 2, 2, 2, 2, 2, 2, 2], vec![7, 6, 5, 4, 3, 2, 1, 0]),
    ];
    for _ in 0..40 {
        let rank = 1 + random.below(6);
        let dims: Vec<usize> = (0..rank).map(|_| 1 + random.below(9)).collect();
        let mut perm: Vec<usize> = (0..rank).collect();
        (1..rank).for_each(|i| perm.swap(i, random.below(i + 1)));
        shapes.push((dims, perm));
    }
    each_tier(|t| {
        for (dims, perm) in &shapes {
            let n: usize = dims.iter().product();
            for size in [1usize, 2, 4, 8, 16] {
                let x = elements(n, size);
                let mut y = vec![0u64; x.len()];
                let mut a = TransposeArgs {
                    x: x.as_ptr().cast(),
                    y: y.as_mut_ptr().cast(),
                    size: size as i64,
                    rank: dims.len() as i64,
                    ..zeroed()
                };
                set_eight!(a, dims, d0, d1, d2, d3, d4, d5, d6, d7);
                set_eight!(a, perm, p0, p1, p2, p3, p4, p5, p6, p7);
                run(2, gc_transpose, &a);
                let out: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
                for at in 0..n {
                    let index = unravel(at, &out);
                    let mut source = vec![0; dims.len()];
                    perm.iter().zip(&index).for_each(|(&p, &i)| source[p] = i);
                    let from = ravel(&source, dims);
                    let (got, want) = (&bytes_of(&y)[at * size..][..size], &bytes_of(&x)[from * size..][..size]);
                    assert_eq!(got, want, "{t:?} {dims:?} {perm:?} size {size} at {index:?}");
                }
                assert!(bytes_of(&y)[n * size..].iter().all(|&b| b == 0), "writes beyond its end");
            }
        }
    });
}

#[test]
fn strided_copies() {
    let mut random = Random::new(11);
    for case in 0..200 {
        let rank = random.below(5);
        let dims: Vec<usize> = (0..rank).map(|_| 1 + random.below(if case == 0 { 300 } else { 7 })).collect();
        let n: usize = dims.iter().product();
        // The source is read with steps of -2..3, the result has a margin of one on each side.
        let steps: Vec<i64> = (0..rank).map(|_| random.below(6) as i64 - 2).collect();
        let x_dims: Vec<usize> = dims.iter().map(|d| d * 3).collect();
        let y_dims: Vec<usize> = dims.iter().map(|d| d + 2).collect();
        let strides = |dims: &[usize]| (0..rank).map(|i| dims[i + 1..].iter().product::<usize>() as i64).collect::<Vec<_>>();
        let (xs, ys) = (strides(&x_dims), strides(&y_dims));
        let s: Vec<i64> = (0..rank).map(|i| steps[i] * xs[i]).collect();
        let start: Vec<usize> = (0..rank).map(|i| if steps[i] < 0 { x_dims[i] - 1 } else { 0 }).collect();
        for size in [1usize, 2, 4, 8, 16] {
            let x = elements(x_dims.iter().product(), size);
            let mut y = vec![0u64; elements(y_dims.iter().product(), size).len()];
            let mut a = CopyStridedArgs {
                x: x.as_ptr().cast(),
                y: y.as_mut_ptr().cast(),
                size: size as i64,
                rank: rank as i64,
                x_offset: ravel(&start, &x_dims) as i64,
                y_offset: ys.iter().sum(),
                ..zeroed()
            };
            set_eight!(a, dims, d0, d1, d2, d3, d4, d5, d6, d7);
            set_eight!(a, s, s0, s1, s2, s3, s4, s5, s6, s7);
            set_eight!(a, ys, t0, t1, t2, t3, t4, t5, t6, t7);
            run(2, gc_copy_strided, &a);
            let mut want = vec![0u8; y.len() * 8];
            for at in 0..n {
                let index = unravel(at, &dims);
                let from = (0..rank).fold(a.x_offset, |f, i| f + index[i] as i64 * s[i]) as usize;
                let to = (0..rank).fold(a.y_offset, |f, i| f + index[i] as i64 * ys[i]) as usize;
                want[to * size..][..size].copy_from_slice(&bytes_of(&x)[from * size..][..size]);
            }
            assert_eq!(bytes_of(&y), want, "{dims:?} {steps:?} size {size}");
        }
    }
}

#[test]
fn long_copies_are_cut() {
    let x: Vec<u32> = (0..100_000).collect();
    let mut y = vec![0u32; 100_002];
    let mut a = CopyStridedArgs { x: x.as_ptr().cast(), y: y.as_mut_ptr().cast(), size: 4, rank: 1, y_offset: 1, ..zeroed() };
    (a.d0, a.s0, a.t0) = (100_000, 1, 1);
    run(2, gc_copy_strided, &a);
    assert_eq!(y[1..100_001], x);
    assert_eq!((y[0], y[100_001]), (0, 0));
    (a.s0, a.x_offset) = (-1, 99_999);
    run(2, gc_copy_strided, &a);
    assert!(y[1..100_001].iter().eq(x.iter().rev()));
}

#[test]
fn fills() {
    for n in [0usize, 1, 63, 64, 65, 100_000] {
        let mut y = vec![0u16; n + 1];
        run(2, gc_fill, &FillArgs { y: y.as_mut_ptr().cast(), size: 2, n: n as i64, value: 0x1_2345, ..zeroed() });
        assert!(y[..n].iter().all(|&v| v == 0x2345) && y[n] == 0);
    }
    let mut y = [[0u64; 2]; 5];
    run(1, gc_fill, &FillArgs { y: y.as_mut_ptr().cast(), size: 16, n: 4, value: -1, value_high: 7, ..zeroed() });
    assert_eq!(y, [[u64::MAX, 7], [u64::MAX, 7], [u64::MAX, 7], [u64::MAX, 7], [0, 0]]);
    let value = 3.5f64;
    run(1, gc_fill, &FillArgs { y: y.as_mut_ptr().cast(), size: 8, n: 1, from: (&raw const value).cast(), ..zeroed() });
    assert_eq!(f64::from_bits(y[0][0]), 3.5);
}

#[test]
fn mirrored_margins() {
    let x = [1u8, 2, 3, 4, 5, 6];
    let pad = |symmetric, b: [i64; 2], a: [i64; 2]| {
        let (h, w) = ((2 + b[0] + a[0]) as usize, (3 + b[1] + a[1]) as usize);
        let mut y = vec![0u8; h * w];
        let args = PadMirrorArgs {
            x: x.as_ptr(),
            y: y.as_mut_ptr(),
            size: 1,
            rank: 2,
            symmetric,
            d0: 2,
            d1: 3,
            b0: b[0],
            b1: b[1],
            a0: a[0],
            a1: a[1],
            ..zeroed()
        };
        run(1, gc_pad_mirror, &args);
        y
    };
    // tf.pad([[1, 2, 3], [4, 5, 6]], [[1, 1], [2, 2]], "REFLECT")
    assert_eq!(pad(0, [1, 2], [1, 2]), [6, 5, 4, 5, 6, 5, 4, 3, 2, 1, 2, 3, 2, 1, 6, 5, 4, 5, 6, 5, 4, 3, 2, 1, 2, 3, 2, 1]);
    // tf.pad([[1, 2, 3], [4, 5, 6]], [[1, 0], [2, 3]], "SYMMETRIC")
    assert_eq!(pad(1, [1, 2], [0, 3]), [2, 1, 1, 2, 3, 3, 2, 1, 2, 1, 1, 2, 3, 3, 2, 1, 5, 4, 4, 5, 6, 6, 5, 4]);
}

#[test]
fn gathers() {
    let mut random = Random::new(12);
    for case in 0..60 {
        let (batch, outer, axis, inner) = (1 + random.below(3), 1 + random.below(4), 1 + random.below(9), 1 + random.below(40));
        let (count, size) = (random.below(12), [1usize, 2, 4, 8, 16][case % 5]);
        let x = elements(batch * outer * axis * inner, size);
        let wide: Vec<i64> = (0..batch * count).map(|_| random.below(axis) as i64).collect();
        let narrow: Vec<i32> = wide.iter().map(|&v| v as i32).collect();
        let mut y = vec![0u64; (batch * outer * count * inner * size).div_ceil(8)];
        let is_wide = case & 1 == 0;
        let a = GatherArgs {
            x: x.as_ptr().cast(),
            indices: if is_wide { wide.as_ptr().cast() } else { narrow.as_ptr().cast() },
            y: y.as_mut_ptr().cast(),
            size: size as i64,
            index_bytes: if is_wide { 0 } else { 4 },
            batch: batch as i64,
            outer: outer as i64,
            axis: axis as i64,
            inner: inner as i64,
            count: count as i64,
            outside: 0,
        };
        run(2, gc_gather, &a);
        let slice = inner * size;
        for at in 0..batch * outer * count {
            let (b, line, i) = (at / count / outer, at / count, at % count);
            let from = (line * axis + wide[b * count + i] as usize) * slice;
            assert_eq!(bytes_of(&y)[at * slice..][..slice], bytes_of(&x)[from..][..slice]);
        }
    }
}

#[test]
fn indices_outside_are_reported_or_skipped() {
    let x = [1i32, 2, 3];
    let mut y = [9i32; 4];
    let indices = [0i64, 2, 3, -1];
    let a = GatherArgs {
        x: x.as_ptr().cast(),
        indices: indices.as_ptr().cast(),
        y: y.as_mut_ptr().cast(),
        size: 4,
        index_bytes: 8,
        batch: 1,
        outer: 1,
        axis: 3,
        inner: 1,
        count: 4,
        outside: outside::FAIL,
    };
    let (status, error) = launch(1, gc_gather, &a);
    assert_eq!((status, error.value, error.bound), (Status::IndexOutOfRange as i32, 3, 3));
    assert_eq!(y, [9; 4]);
    run(1, gc_gather, &GatherArgs { outside: outside::SKIP, ..a });
    assert_eq!(y, [1, 3, 0, 0]);

    let nd = GatherNdArgs { x: a.x, indices: a.indices, y: a.y, size: 4, count: 2, depth: 2, inner: 1, d0: 1, d1: 3, ..zeroed() };
    let (status, error) = launch(1, gc_gather_nd, &nd);
    assert_eq!((status, error.value, error.bound), (Status::IndexOutOfRange as i32, 3, 1));
    run(1, gc_gather_nd, &GatherNdArgs { outside: outside::SKIP, ..nd });
    assert_eq!(y, [3, 0, 0, 0]);

    let mut z = [0i32; 3];
    let scatter = ScatterNdArgs {
        indices: a.indices,
        updates: a.x,
        y: z.as_mut_ptr().cast(),
        elem: elem::I32,
        op: op::ADD,
        count: 3,
        depth: 1,
        inner: 1,
        d0: 3,
        ..zeroed()
    };
    let (status, error) = launch(1, gc_scatter_nd, &scatter);
    assert_eq!((status, error.value, error.bound), (Status::IndexOutOfRange as i32, 3, 3));
    assert_eq!(z, [0; 3]);
    run(1, gc_scatter_nd, &ScatterNdArgs { outside: outside::SKIP, ..scatter });
    assert_eq!(z, [1, 0, 2]);
}

#[test]
fn scatters() {
    let mut random = Random::new(13);
    for code in [op::UPDATE, op::ADD, op::SUB, op::MIN, op::MAX, op::MUL] {
        for shared in [0, 1] {
            let (d0, d1, inner, count) = (4, 5, 700, 60);
            let indices: Vec<i32> = (0..count).flat_map(|_| [random.below(d0) as i32, random.below(d1) as i32]).collect();
            let updates: Vec<i64> = (0..count * inner).map(|_| random.word() as i64 >> 40).collect();
            let mut y: Vec<i64> = (0..d0 * d1 * inner).map(|_| random.word() as i64 >> 40).collect();
            let mut want = y.clone();
            for i in 0..count {
                let slice = (indices[2 * i] as usize * d1 + indices[2 * i + 1] as usize) * inner;
                for c in 0..inner {
                    let u = updates[if shared == 1 { c } else { i * inner + c }];
                    let w = &mut want[slice + c];
                    *w = match code {
                        op::UPDATE => u,
                        op::ADD => *w + u,
                        op::SUB => *w - u,
                        op::MIN => u.min(*w),
                        op::MAX => u.max(*w),
                        _ => w.wrapping_mul(u),
                    };
                }
            }
            let a = ScatterNdArgs {
                indices: indices.as_ptr().cast(),
                updates: updates.as_ptr().cast(),
                y: y.as_mut_ptr().cast(),
                elem: elem::I64,
                op: code,
                index_bytes: 4,
                count: count as i64,
                depth: 2,
                inner: inner as i64,
                d0: d0 as i64,
                d1: d1 as i64,
                shared,
                ..zeroed()
            };
            run(2, gc_scatter_nd, &a);
            assert_eq!(y, want, "op {code}");
        }
    }
}

#[test]
fn complex_numbers_accumulate() {
    let x = [[1.0f64, 2.0], [0.0, 1.0], [-1.0, 3.0]];
    for (prod, want) in [(0, [[1.0, 2.0], [1.0, 3.0], [0.0, 6.0]]), (1, [[1.0, 2.0], [-2.0, 1.0], [-1.0, -7.0]])] {
        let mut y = [[0.0f64; 2]; 3];
        let (from, to) = (x.as_ptr().cast(), y.as_mut_ptr().cast());
        let a = CumulateArgs { x: from, y: to, elem: elem::C128, prod, exclusive: 0, reverse: 0, outer: 1, n: 3, inner: 1 };
        run(1, gc_cumulate, &a);
        assert_eq!(y, want);
    }
    let indices = [1i32, 0, 1];
    let mut y = [[1.0f64; 2]; 2];
    let mut a = ScatterNdArgs {
        indices: indices.as_ptr().cast(),
        updates: x.as_ptr().cast(),
        y: y.as_mut_ptr().cast(),
        elem: elem::C128,
        op: op::ADD,
        index_bytes: 4,
        count: 3,
        depth: 1,
        inner: 1,
        d0: 2,
        ..zeroed()
    };
    run(1, gc_scatter_nd, &a);
    assert_eq!(y, [[1.0, 2.0], [1.0, 6.0]]);
    a.op = op::MAX;
    assert_eq!(launch(1, gc_scatter_nd, &a).0, Status::InvalidShape as i32);
}

#[test]
fn running_sums_and_products() {
    for (exclusive, reverse, want) in [
        (0, 0, [1.0f32, 3.0, 6.0, 10.0]),
        (1, 0, [0.0, 1.0, 3.0, 6.0]),
        (0, 1, [10.0, 9.0, 7.0, 4.0]),
        (1, 1, [9.0, 7.0, 4.0, 0.0]),
    ] {
        for inner in [1usize, 3, 100] {
            let mut x: Vec<f32> = (0..2 * 4 * inner).map(|i| (i / inner % 4 + 1) as f32).collect();
            let p: *mut u8 = x.as_mut_ptr().cast();
            let a = CumulateArgs { x: p, y: p, elem: 0, prod: 0, exclusive, reverse, outer: 2, n: 4, inner: inner as i64 };
            run(2, gc_cumulate, &a);
            assert!((0..x.len()).all(|i| x[i] == want[i / inner % 4]));
        }
    }
    let x = [2i32, 3, 4];
    let mut y = [0i32; 3];
    let (from, to) = (x.as_ptr().cast(), y.as_mut_ptr().cast());
    run(
        1,
        gc_cumulate,
        &CumulateArgs { x: from, y: to, elem: elem::I32, prod: 1, exclusive: 0, reverse: 0, outer: 1, n: 3, inner: 1 },
    );
    assert_eq!(y, [2, 6, 24]);
}

#[test]
fn top_k_and_sort() {
    let mut random = Random::new(14);
    for (rows, n, k) in [(1, 1, 1), (3, 10, 4), (2, 100, 100), (4, 1000, 7), (2, 5, 0)] {
        let x: Vec<i32> = (0..rows * n).map(|_| random.below(30) as i32 - 15).collect();
        for ascending in [0, 1] {
            let (mut values, mut indices) = (vec![0i32; rows * k], vec![0i64; rows * k]);
            let a = TopKArgs {
                x: x.as_ptr().cast(),
                values: values.as_mut_ptr().cast(),
                indices: indices.as_mut_ptr().cast(),
                elem: elem::I32,
                index_bytes: 8,
                rows: rows as i64,
                n: n as i64,
                k: k as i64,
                ascending,
            };
            run(2, gc_topk, &a);
            for r in 0..rows {
                let row = &x[r * n..(r + 1) * n];
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by_key(|&i| if ascending == 1 { row[i] } else { -row[i] });
                assert!(indices[r * k..(r + 1) * k].iter().zip(&order).all(|(&g, &w)| g as usize == w));
                assert!(values[r * k..(r + 1) * k].iter().zip(&order).all(|(&g, &w)| g == row[w]));
            }
        }
    }
    let x = [1.0f32, f32::NAN, 3.0, 2.0, f32::NEG_INFINITY];
    let (mut values, mut indices) = ([0f32; 4], [0u32; 4]);
    let a = TopKArgs {
        x: x.as_ptr().cast(),
        values: values.as_mut_ptr().cast(),
        indices: indices.as_mut_ptr().cast(),
        rows: 1,
        n: 5,
        k: 4,
        ..zeroed()
    };
    run(1, gc_topk, &a);
    assert_eq!((values, indices), ([3.0, 2.0, 1.0, f32::NEG_INFINITY], [2, 3, 0, 4]));
}

#[test]
fn places_that_are_not_zero() {
    let x = [0.0f32, -0.0, f32::NAN, 1.0, 0.0, 1e-45];
    let (mut y, mut count) = ([9i64; 12], 0);
    let mut a =
        WhereArgs { x: x.as_ptr().cast(), y: y.as_mut_ptr(), count: &mut count, elem: 0, rank: 2, d0: 2, d1: 3, ..zeroed() };
    run(1, gc_where, &a);
    assert_eq!((count, &y[..7]), (3, &[0, 2, 1, 0, 1, 2, 9][..]));
    let x = [1u8];
    (a.x, a.elem, a.rank) = (x.as_ptr(), elem::BOOL, 0);
    run(1, gc_where, &a);
    assert_eq!(count, 1);
}

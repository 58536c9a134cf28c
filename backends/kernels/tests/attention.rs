//! Attention against loops in f64.

mod support;

use graphc_abi::args::matrix::AttentionArgs;
use graphc_kernels::attention::gc_attention_f32;
use support::*;

struct Case {
    batch: usize,
    heads: usize,
    t_q: usize,
    t_k: usize,
    d: usize,
    d_v: usize,
    /// Heads lie beside each other in a row of time, as a projection leaves them.
    interleaved: bool,
    masked: bool,
    threads: usize,
}

fn check(c: &Case, r: &mut Rng) {
    let &Case { batch, heads, t_q, t_k, d, d_v, interleaved, masked, threads } = c;
    // (batch, head, time) strides.
    let strides = |t: usize, d: usize| if interleaved { (t * heads * d, d, heads * d) } else { (heads * t * d, t * d, d) };
    let (qs, ks, vs, os) = (strides(t_q, d), strides(t_k, d), strides(t_k, d_v), strides(t_q, d_v));
    let at = |s: (usize, usize, usize), b: usize, h: usize, t: usize| b * s.0 + h * s.1 + t * s.2;
    let q: Vec<f32> = r.floats(batch * heads * t_q * d).iter().map(|v| v * 4.0).collect();
    let (k, v) = (r.floats(batch * heads * t_k * d), r.floats(batch * heads * t_k * d_v));
    let ms = r.pick(&[(0, 0, 0), (t_k, 0, 0), (t_q * t_k, 0, t_k), (heads * t_q * t_k, t_q * t_k, t_k)]);
    let mask: Vec<f32> = (0..batch * heads * t_q * t_k)
        .map(|_| if r.below(0, 4) == 0 { r.pick(&[-100.0, f32::NEG_INFINITY, 1.5]) } else { 0.0 })
        .collect();
    let scale = 1.0 / (d as f64).sqrt();
    let mut want = vec![0f64; batch * heads * t_q * d_v];
    let mut lost = vec![];
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..t_q {
                let scores: Vec<f64> = (0..t_k)
                    .map(|j| {
                        let dot: f64 = (0..d).map(|c| q[at(qs, b, h, i) + c] as f64 * k[at(ks, b, h, j) + c] as f64).sum();
                        dot * scale + if masked { mask[at(ms, b, h, i) + j] as f64 } else { 0.0 }
                    })
                    .collect();
                let max = scores.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
                let e: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let sum: f64 = e.iter().sum();
                for c in 0..d_v {
                    let o = at(os, b, h, i) + c;
                    want[o] = (0..t_k).map(|j| e[j] / sum * v[at(vs, b, h, j) + c] as f64).sum();
                    if max == f64::NEG_INFINITY {
                        lost.push(o);
                        want[o] = 0.0;
                    }
                }
            }
        }
    }
    each_tier(|tier| {
        let mut out = vec![7e7f32; want.len() + 64];
        let args = AttentionArgs {
            q: q.as_ptr(),
            k: k.as_ptr(),
            v: v.as_ptr(),
            mask: if masked { mask.as_ptr() } else { core::ptr::null() },
            out: out.as_mut_ptr(),
            batch: batch as i64,
            heads: heads as i64,
            t_q: t_q as i64,
            t_k: t_k as i64,
            d: d as i64,
            d_v: d_v as i64,
            scale,
            q_batch: qs.0 as i64,
            q_head: qs.1 as i64,
            q_time: qs.2 as i64,
            k_batch: ks.0 as i64,
            k_head: ks.1 as i64,
            k_time: ks.2 as i64,
            v_batch: vs.0 as i64,
            v_head: vs.1 as i64,
            v_time: vs.2 as i64,
            out_batch: os.0 as i64,
            out_head: os.1 as i64,
            out_time: os.2 as i64,
            mask_batch: ms.0 as i64,
            mask_head: ms.1 as i64,
            mask_row: ms.2 as i64,
        };
        assert_eq!(launch(threads, gc_attention_f32, &args), 0);
        assert!(out[want.len()..].iter().all(|&v| v == 7e7), "wrote past the end");
        for &o in &lost {
            assert!(out[o].is_nan(), "a row without keys has no mean");
            out[o] = 0.0;
        }
        let err = error(&out[..want.len()], &want, 1);
        assert!(err < 1e-5, "{tier:?} {batch}x{heads} {t_q}x{t_k} d {d} {d_v} threads {threads}: error {err:e}");
    });
}

#[test]
fn attention_agrees_with_f64() {
    let mut r = Rng(31);
    for _ in 0..80 {
        let d = r.pick(&[1, 8, 16, 20, 64]);
        let case = Case {
            batch: r.pick(&[1, 2]),
            heads: r.pick(&[1, 3]),
            t_q: r.pick(&[1, 2, 3, 14, 15, 40]),
            t_k: r.pick(&[1, 2, 16, 31, 33, 70, 130]),
            d,
            d_v: r.pick(&[d, d, 5, 33, 64]),
            interleaved: r.below(0, 2) == 0,
            masked: r.below(0, 2) == 0,
            threads: r.pick(&[1, 3]),
        };
        check(&case, &mut r);
    }
}

#[test]
fn attention_in_blocks_of_keys() {
    let mut r = Rng(32);
    for (t_q, t_k, d, masked) in [(5, 1000, 512, true), (130, 3000, 100, false), (3, 20_000, 4, true), (1, 4000, 100, true)] {
        check(&Case { batch: 1, heads: 1, t_q, t_k, d, d_v: d, interleaved: true, masked, threads: 2 }, &mut r);
    }
}

#[test]
fn attention_without_keys_is_zero() {
    each_tier(|tier| {
        for t_q in [2, 20] {
            let q = vec![1f32; t_q * 8];
            let mut out = vec![5f32; t_q * 8];
            // SAFETY: all words zero is an argument list of absent operands.
            let mut args: AttentionArgs = unsafe { core::mem::zeroed() };
            (args.q, args.k, args.v, args.out) = (q.as_ptr(), q.as_ptr(), q.as_ptr(), out.as_mut_ptr());
            (args.batch, args.heads, args.t_q, args.d) = (1, 1, t_q as i64, 8);
            (args.q_time, args.k_time, args.v_time, args.out_time) = (8, 8, 8, 8);
            assert_eq!(launch(1, gc_attention_f32, &args), 0);
            assert!(out.iter().all(|&v| v == 0.0), "{tier:?}");
        }
    });
}

/// Keys that count for nothing in the first block must not hide those of a later one.
#[test]
fn attention_with_a_masked_first_block() {
    let (t_k, d) = (2000, 256);
    let mut r = Rng(33);
    let (q, k, v) = (r.floats(d), r.floats(t_k * d), r.floats(t_k * d));
    let mut mask = vec![f32::NEG_INFINITY; t_k];
    mask[t_k - 1] = 0.0;
    each_tier(|_| {
        let mut out = vec![0f32; d];
        // SAFETY: all words zero is an argument list of absent operands.
        let mut args: AttentionArgs = unsafe { core::mem::zeroed() };
        (args.q, args.k, args.v, args.mask, args.out) = (q.as_ptr(), k.as_ptr(), v.as_ptr(), mask.as_ptr(), out.as_mut_ptr());
        (args.batch, args.heads, args.t_q, args.t_k, args.d) = (1, 1, 1, t_k as i64, d as i64);
        (args.k_time, args.v_time) = (d as i64, d as i64);
        assert_eq!(launch(1, gc_attention_f32, &args), 0);
        for (o, v) in out.iter().zip(&v[(t_k - 1) * d..]) {
            assert!((o - v).abs() < 1e-6);
        }
    });
}

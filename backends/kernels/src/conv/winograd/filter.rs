//! Filters of Winograd convolutions, transformed and packed.
//!
//! `[points of both axes][ceil(n / nr)][c][nr]`: the panels of one product after another. The transform runs in f64 without fused
//! operations, so that the result is the same on every processor.

use super::form::{F2, F4, Form};
use crate::pack::panels;
use core::ops::Range;
use graphc_abi::model::Transform;

/// Columns that are transformed at a time.
const COLUMNS: usize = 16;

/// Points along an axis of the form with `outputs` outputs.
pub fn points(outputs: usize) -> usize {
    outputs + 2
}

/// Floats of a packed filter of `c` input channels and `n` output channels.
pub fn packed_len(outputs: usize, c: usize, n: usize, nr: usize) -> usize {
    points(outputs).pow(2) * crate::pack::packed_len(c, n, nr)
}

/// Packs rows `rows` of the points of the filter `src[3, 3, c, n]`, floats in native order: `rows.len()` parts of `packed_len / points`
/// floats.
///
/// Panics where a slice is too short, a row is none, or `nr` no multiple of 16.
pub fn pack_rows(dst: &mut [f32], src: &[u8], outputs: usize, c: usize, n: usize, nr: usize, rows: Range<usize>) {
    let points = points(outputs);
    let row = points * crate::pack::packed_len(c, n, nr);
    assert!(nr.is_multiple_of(COLUMNS) && nr > 0 && rows.end <= points && src.len() >= 9 * c * n * size_of::<f32>());
    assert!(dst.len() >= rows.len() * row);
    let filter = if outputs == F4::OUTPUTS { &F4::FILTER } else { &F2::FILTER };
    if row == 0 {
        return;
    }
    for (i, dst) in rows.zip(dst.chunks_exact_mut(row)) {
        #[cfg(target_arch = "x86_64")]
        {
            use crate::tier::{Tier, tier};
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn wide(dst: &mut [f32], src: &[u8], filter: &[[f64; 3]], row: usize, sizes: [usize; 3]) {
                transform(dst, src, filter, row, sizes);
            }
            if tier() == Tier::Avx512 {
                // SAFETY: the processor has the instructions.
                unsafe { wide(dst, src, &filter[..points], i, [c, n, nr]) };
                continue;
            }
        }
        transform(dst, src, &filter[..points], i, [c, n, nr]);
    }
}

/// Transforms a row of a filter as [`TransformFilter`](graphc_abi::model::TransformFilter) says.
///
/// # Safety
/// The filter is there, and so is the room for its transform.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_transform_filter(transform: *const Transform, stored: *const u8, made: *mut u8, row: usize) {
    // SAFETY: by the contract.
    let t = unsafe { &*transform };
    let part = packed_len(t.outputs, t.input, t.out, t.width) / points(t.outputs);
    // SAFETY: by the contract; rows are distinct parts of the transform, and aligned as panels are.
    unsafe {
        let src = core::slice::from_raw_parts(stored.add(t.from), 9 * t.input * t.out * size_of::<f32>());
        let dst = core::slice::from_raw_parts_mut(made.add(t.to).cast::<f32>().add(row * part), part);
        pack_rows(dst, src, t.outputs, t.input, t.out, t.width, row..row + 1);
    }
}

/// Up to `COLUMNS` floats, zeros behind them.
#[inline(always)]
fn floats(src: &[u8]) -> [f32; COLUMNS] {
    let (words, _) = src.as_chunks::<{ size_of::<f32>() }>();
    match words.as_chunks::<COLUMNS>().0 {
        [all] => all.map(f32::from_ne_bytes),
        _ => core::array::from_fn(|i| words.get(i).map_or(0.0, |w| f32::from_ne_bytes(*w))),
    }
}

/// Row `row` of the points, whose transform is `filter`, to all of `dst`.
#[inline(always)]
fn transform(dst: &mut [f32], src: &[u8], filter: &[[f64; 3]], row: usize, [c, n, nr]: [usize; 3]) {
    let point = panels(n, nr) * c * nr;
    for channel in 0..c {
        for first in (0..n.next_multiple_of(nr)).step_by(COLUMNS) {
            let count = COLUMNS.min(n.saturating_sub(first));
            // The taps of one column of the filter, times this row of the transform.
            let mut taps = [[0f64; COLUMNS]; 3];
            for (x, taps) in taps.iter_mut().enumerate() {
                for (y, &factor) in filter[row].iter().enumerate() {
                    let at = if count == 0 { 0 } else { ((y * 3 + x) * c + channel) * n + first };
                    let weights = floats(&src[at * size_of::<f32>()..][..count * size_of::<f32>()]);
                    for (t, w) in taps.iter_mut().zip(weights) {
                        *t += factor * w as f64;
                    }
                }
            }
            let at = (first / nr * c + channel) * nr + first % nr;
            for (p, factors) in filter.iter().enumerate() {
                for (i, to) in dst[p * point + at..][..COLUMNS].iter_mut().enumerate() {
                    *to = (factors[0] * taps[0][i] + factors[1] * taps[1][i] + factors[2] * taps[2][i]) as f32;
                }
            }
        }
    }
}

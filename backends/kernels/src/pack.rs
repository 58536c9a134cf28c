//! Weights in the order in which the microkernels read them.
//!
//! A matrix `[k, n]` becomes panels `[ceil(n / nr)][k][nr]`, columns from `n` on zero. The layout is the same for every tier, so that
//! packed weights in an object file serve every processor.

use core::ops::Range;

/// The widths of a panel.
pub const PANEL_WIDTHS: [usize; 4] = [16, 32, 48, 64];

/// Number of panels of `n` columns.
pub fn panels(n: usize, nr: usize) -> usize {
    n.div_ceil(nr)
}

/// Floats of a packed `[k, n]` matrix.
pub fn packed_len(k: usize, n: usize, nr: usize) -> usize {
    panels(n, nr) * k * nr
}

/// The width of panels for a product with `n` columns and inner extent `k`; `m_hint` is the number of rows where it is known.
///
/// Fewest cycles on AVX-512 by a simple model (padding, full accumulators, loads); 32 where nothing speaks for another.
pub fn panel_width(m_hint: Option<usize>, n: usize, k: usize) -> usize {
    let _ = k;
    let m = m_hint.unwrap_or(196).max(1);
    // Cycles a step of k over all rows of a panel of which `columns` are there: the last vectors are left out where they are empty, and
    // hold two steps of AVX-512 where they are half empty.
    let panel = |columns: usize| {
        let vectors = columns.div_ceil(16);
        let half = matches!(vectors, 2 | 3) && matches!(columns % 16, 1..=8);
        let passes = m.div_ceil(if half && vectors == 2 { 13 } else { crate::matrix::tile::avx512_rows(16 * vectors) });
        let rows = m as f64 / passes as f64;
        let vectors = vectors as f64 - if half { 0.4 } else { 0.0 };
        // Two fused multiply-adds or two loads a cycle, and at least the latency of a chain.
        passes as f64 * (rows * vectors / 2.0).max((rows + vectors + 1.0) / 2.0).max(4.0)
    };
    let cost = |nr: usize| (n / nr) as f64 * panel(nr) + if n.is_multiple_of(nr) { 0.0 } else { panel(n % nr) };
    let mut best = if n <= 16 { 16 } else { 32 };
    for nr in [48, 64].into_iter().filter(|&nr| nr < n + 16) {
        if cost(nr) < 0.995 * cost(best) {
            best = nr;
        }
    }
    best
}

/// Floats as the bytes from which [`pack_panels`] packs.
pub fn float_bytes(v: &[f32]) -> &[u8] {
    // SAFETY: floats are bytes without padding.
    unsafe { core::slice::from_raw_parts(v.as_ptr().cast(), size_of_val(v)) }
}

/// Packs the columns of `panels` of the matrix whose element `[i, j]` is `src[i * src_row_stride + j * src_col_stride]`.
///
/// `src` holds floats at any alignment; `dst` holds these panels alone, so that threads may pack ranges of one buffer. Panics where a
/// slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn pack_panels(
    dst: &mut [f32],
    src: &[u8],
    k: usize,
    n: usize,
    src_row_stride: usize,
    src_col_stride: usize,
    nr: usize,
    panels: Range<usize>,
) {
    assert!(nr > 0 && panels.end <= self::panels(n, nr) && dst.len() >= panels.len() * k * nr);
    if k == 0 || panels.is_empty() {
        return;
    }
    let last = (panels.end * nr).min(n) - 1;
    assert!(src.len() / size_of::<f32>() > (k - 1) * src_row_stride + last * src_col_stride);
    // SAFETY: the asserts bound every index below.
    unsafe {
        pack_raw(dst.as_mut_ptr(), src.as_ptr().cast(), k, n, src_row_stride as isize, src_col_stride as isize, nr, panels, 1.0)
    }
}

/// Small numbers, several of which take the place of an f32.
pub trait Small: Copy {
    const ZERO: Self;
    const PER_WORD: usize;
    /// From the bytes of one number.
    fn of(bytes: &[u8]) -> Self;
}

/// bf16.
impl Small for u16 {
    const ZERO: u16 = 0;
    const PER_WORD: usize = 2;
    fn of(bytes: &[u8]) -> u16 {
        u16::from_le_bytes([bytes[0], bytes[1]])
    }
}

/// Integers of 8 bits.
impl Small for u8 {
    const ZERO: u8 = 0;
    const PER_WORD: usize = 4;
    fn of(bytes: &[u8]) -> u8 {
        bytes[0]
    }
}

/// Packs small numbers by words of neighbouring steps: `[panels][ceil(k / PER_WORD)][nr][PER_WORD]`, zero beyond `k` and `n`. Otherwise
/// as [`pack_panels`].
#[allow(clippy::too_many_arguments)]
pub fn pack_words<T: Small>(
    dst: &mut [T],
    src: &[u8],
    k: usize,
    n: usize,
    src_row_stride: usize,
    src_col_stride: usize,
    nr: usize,
    panels: Range<usize>,
) {
    let (words, count, size) = (k.div_ceil(T::PER_WORD), T::PER_WORD, size_of::<T>());
    assert!(nr > 0 && panels.end <= self::panels(n, nr) && dst.len() >= panels.len() * words * count * nr);
    if k == 0 || panels.is_empty() {
        return;
    }
    for (p, panel) in panels.zip(dst.chunks_exact_mut(words * count * nr)) {
        let cols = nr.min(n - p * nr);
        for (i, row) in panel.chunks_exact_mut(count * nr).enumerate() {
            row.fill(T::ZERO);
            for q in 0..count.min(k - i * count) {
                let line = &src[size * ((i * count + q) * src_row_stride + p * nr * src_col_stride)..];
                let numbers = line.chunks(size * src_col_stride.max(1)).take(cols);
                row[q..].iter_mut().step_by(count).zip(numbers).for_each(|(to, number)| *to = T::of(number));
            }
        }
    }
}

/// Numbers of a `[k, n]` matrix packed by [`pack_words`].
pub fn packed_words_len<T: Small>(k: usize, n: usize, nr: usize) -> usize {
    T::PER_WORD * packed_len(k.div_ceil(T::PER_WORD), n, nr)
}

/// As [`pack_panels`], times `alpha`.
///
/// # Safety
/// `dst` holds the panels of the range; `src`, which need not be aligned, is valid at every element of their columns.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn pack_raw(
    dst: *mut f32,
    src: *const f32,
    k: usize,
    n: usize,
    row: isize,
    col: isize,
    nr: usize,
    panels: Range<usize>,
    alpha: f32,
) {
    /// Rows at a time: long runs of the source, few streams of the destination.
    const ROWS: usize = 16;
    for k0 in (0..k).step_by(ROWS) {
        let rows = ROWS.min(k - k0);
        for p in panels.clone() {
            let cols = nr.min(n - p * nr);
            // SAFETY: rows `k0..k0 + rows` of panel `p` and the same elements of the source, by the contract.
            unsafe {
                let d = dst.add(((p - panels.start) * k + k0) * nr);
                let s = src.offset(k0 as isize * row + (p * nr) as isize * col);
                if col == 1 {
                    copy_rows(d, s, rows, cols, row, nr, alpha);
                } else {
                    transpose_block(d, s, rows, cols, row, col, nr, alpha);
                }
                if cols < nr {
                    for i in 0..rows {
                        core::slice::from_raw_parts_mut(d.add(i * nr + cols), nr - cols).fill(0.0);
                    }
                }
            }
        }
    }
}

unsafe fn copy_rows(d: *mut f32, s: *const f32, rows: usize, cols: usize, row: isize, nr: usize, alpha: f32) {
    for i in 0..rows {
        // SAFETY: `cols` floats of row `i` on both sides, which do not overlap.
        unsafe {
            let (d, s) = (d.add(i * nr), s.offset(i as isize * row));
            if alpha == 1.0 {
                core::ptr::copy_nonoverlapping(s.cast::<u8>(), d.cast::<u8>(), cols * size_of::<f32>());
            } else {
                for j in 0..cols {
                    *d.add(j) = s.add(j).read_unaligned() * alpha;
                }
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
unsafe fn transpose_block(d: *mut f32, s: *const f32, rows: usize, cols: usize, row: isize, col: isize, nr: usize, alpha: f32) {
    #[cfg(target_arch = "x86_64")]
    if rows == 16 && row == 1 && crate::tier::tier() == crate::tier::Tier::Avx512 {
        let whole = cols / 16 * 16;
        for j in (0..whole).step_by(16) {
            // SAFETY: 16 columns of 16 contiguous floats, on a processor with AVX-512.
            unsafe { avx512::transpose_16x16(d.add(j), nr, s.offset(j as isize * col), col, alpha) };
        }
        // SAFETY: the columns that remain.
        return unsafe { transpose_scalar(d.add(whole), s.offset(whole as isize * col), rows, cols - whole, row, col, nr, alpha) };
    }
    // SAFETY: as the caller says.
    unsafe { transpose_scalar(d, s, rows, cols, row, col, nr, alpha) }
}

#[allow(clippy::too_many_arguments)]
unsafe fn transpose_scalar(d: *mut f32, s: *const f32, rows: usize, cols: usize, row: isize, col: isize, nr: usize, alpha: f32) {
    for j in 0..cols {
        for i in 0..rows {
            // SAFETY: element `[i, j]` of the block on both sides.
            unsafe { *d.add(i * nr + j) = s.offset(i as isize * row + j as isize * col).read_unaligned() * alpha };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use core::arch::x86_64::*;

    /// `d[i * ldd + j] = alpha * s[j * lds + i]` for a block of 16 by 16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn transpose_16x16(d: *mut f32, ldd: usize, s: *const f32, lds: isize, alpha: f32) {
        // SAFETY: 16 floats at each of 16 rows of both sides.
        unsafe {
            let scale = _mm512_set1_ps(alpha);
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_mul_ps(scale, _mm512_loadu_ps(s.offset(i as isize * lds)));
            }
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for b in [0, 4, 8, 12] {
                let pair = |hi: bool, x: __m512, y: __m512| {
                    let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
                    _mm512_castpd_ps(if hi { _mm512_unpackhi_pd(x, y) } else { _mm512_unpacklo_pd(x, y) })
                };
                r[b] = pair(false, t[b], t[b + 2]);
                r[b + 1] = pair(true, t[b], t[b + 2]);
                r[b + 2] = pair(false, t[b + 1], t[b + 3]);
                r[b + 3] = pair(true, t[b + 1], t[b + 3]);
            }
            for i in 0..4 {
                t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[4 + i]);
                t[4 + i] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[4 + i]);
                t[8 + i] = _mm512_shuffle_f32x4::<0x88>(r[8 + i], r[12 + i]);
                t[12 + i] = _mm512_shuffle_f32x4::<0xdd>(r[8 + i], r[12 + i]);
            }
            for i in 0..8 {
                _mm512_storeu_ps(d.add(i * ldd), _mm512_shuffle_f32x4::<0x88>(t[i], t[8 + i]));
                _mm512_storeu_ps(d.add((8 + i) * ldd), _mm512_shuffle_f32x4::<0xdd>(t[i], t[8 + i]));
            }
        }
    }
}

/// The order of a transposed convolution's taps: those that reach the same phase of the output lie together, phases in order of
/// `(ky * dil_h % stride_h, kx * dil_w % stride_w)`. Yields `(ky, kx)`.
pub fn transposed_taps(k: [usize; 2], stride: [usize; 2], dil: [usize; 2]) -> impl Iterator<Item = (usize, usize)> {
    (0..stride[0] * stride[1]).flat_map(move |phase| {
        let (py, px) = (phase / stride[1], phase % stride[1]);
        let rows = (0..k[0]).filter(move |y| y * dil[0] % stride[0] == py);
        rows.flat_map(move |y| (0..k[1]).filter(move |x| x * dil[1] % stride[1] == px).map(move |x| (y, x)))
    })
}

/// Packs a filter `[k_h, k_w, out_c, in_c]` of a transposed convolution: a matrix of `k_h * k_w * in_c` rows, taps in the order of
/// [`transposed_taps`], and `out_c` columns. `src` holds floats at any alignment. Panics where a slice is too short.
#[allow(clippy::too_many_arguments)]
pub fn pack_conv_transpose(
    dst: &mut [f32],
    src: &[u8],
    k: [usize; 2],
    out_c: usize,
    in_c: usize,
    stride: [usize; 2],
    dil: [usize; 2],
    nr: usize,
) {
    let taps = k[0] * k[1];
    assert!(nr > 0 && src.len() / size_of::<f32>() >= taps * in_c * out_c && dst.len() >= packed_len(taps * in_c, out_c, nr));
    // SAFETY: the asserts bound every index.
    unsafe { pack_conv_transpose_raw(dst.as_mut_ptr(), src.as_ptr().cast(), k, out_c, in_c, stride, dil, nr) }
}

/// # Safety
/// `dst` and `src` are as long as [`pack_conv_transpose`] asks; `src` need not be aligned.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn pack_conv_transpose_raw(
    dst: *mut f32,
    src: *const f32,
    k: [usize; 2],
    out_c: usize,
    in_c: usize,
    stride: [usize; 2],
    dil: [usize; 2],
    nr: usize,
) {
    let rows = k[0] * k[1] * in_c;
    for p in 0..panels(out_c, nr) {
        for (t, (y, x)) in transposed_taps(k, stride, dil).enumerate() {
            // SAFETY: `in_c` rows of one panel, and the tap's matrix `[out_c, in_c]`.
            unsafe {
                let cols = nr.min(out_c - p * nr);
                let s = src.add(((y * k[1] + x) * out_c + p * nr) * in_c);
                pack_raw(dst.add((p * rows + t * in_c) * nr), s, in_c, cols, 1, in_c as isize, nr, 0..1, 1.0);
            }
        }
    }
}

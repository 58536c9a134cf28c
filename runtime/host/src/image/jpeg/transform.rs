//! Inverse cosine transforms from 8 by 8 coefficients to squares of 8, 4, 2 or 1 samples a side, in fixed point.
//!
//! libjpeg's arithmetic with the widths of its vector code: coefficients times steps wrap at 16 bits, results saturate.

use std::num::Wrapping;

/// How a component's blocks become samples.
#[derive(Clone)]
pub(super) enum Transform {
    /// Arai, Agui and Nakajima's with constants of 8 bits. Its scales are part of the steps.
    Fast([i16; 64]),
    /// Loeffler, Ligtenberg and Moschytz's with constants of 13 bits.
    Accurate([i16; 64]),
    /// To 4, 2 or 1 samples a side, from the lower frequencies.
    Quarter([i16; 64]),
    Sixteenth([i16; 64]),
    Mean([i16; 64]),
}

impl Transform {
    /// To `side` samples a side (1, 2, 4 or 8) of coefficients in those steps; `accurate` has a say only for 8.
    pub fn new(side: usize, accurate: bool, steps: &[u16; 64]) -> Transform {
        let plain = steps.map(|s| s as i16);
        match side {
            1 => Transform::Mean(plain),
            2 => Transform::Sixteenth(plain),
            4 => Transform::Quarter(plain),
            _ if accurate => Transform::Accurate(plain),
            _ => Transform::Fast(fast_steps(steps)),
        }
    }

    /// The samples of a block, in the first columns of the first rows of `stride`.
    pub fn apply(&self, block: &[i16], out: &mut [u8], stride: usize) {
        let Ok(block) = <&[i16; 64]>::try_from(block) else { return };
        match self {
            Transform::Fast(s) => fast(&times(block, s), out, stride),
            Transform::Accurate(s) => accurate(&times(block, s), out, stride),
            Transform::Quarter(s) => quarter(&times(block, s), out, stride),
            Transform::Sixteenth(s) => sixteenth(&times(block, s), out, stride),
            Transform::Mean(s) => {
                // The one transform without vector code: what is far out of range comes round again.
                let v = (i32::from(block[0]) * i32::from(s[0] as u16) + 4) >> 3;
                if let Some(first) = out.first_mut() {
                    *first = ((v + 512).rem_euclid(1024) - 512 + 128).clamp(0, 255) as u8;
                }
            }
        }
    }
}

fn times(block: &[i16; 64], steps: &[i16; 64]) -> [i16; 64] {
    std::array::from_fn(|k| block[k].wrapping_mul(steps[k]))
}

/// Steps times the scales of the fast transform, 2 bits after the point.
fn fast_steps(steps: &[u16; 64]) -> [i16; 64] {
    // cos(k pi / 16) times the root of 2, but 1 for 0.
    let scale: [f64; 8] =
        std::array::from_fn(|k| if k == 0 { 1.0 } else { (k as f64 * std::f64::consts::PI / 16.0).cos() * 2f64.sqrt() });
    std::array::from_fn(|k| {
        let both = (scale[k / 8] * scale[k % 8] * 16384.0).round() as i64;
        ((i64::from(steps[k]) * both + 2048) >> 12) as i16
    })
}

/// A sample of a value around 0.
fn sample(v: i32) -> u8 {
    (v.clamp(-128, 127) + 128) as u8
}

/// Applies `line` to every column of 8 values, and then to every row.
fn fast(v: &[i16; 64], out: &mut [u8], stride: usize) {
    let mut between = [[0i16; 8]; 8];
    for column in 0..8 {
        let line = fast_line(std::array::from_fn(|k| v[8 * k + column]));
        for (row, value) in between.iter_mut().zip(line) {
            row[column] = value;
        }
    }
    for (row, out) in between.iter().zip(out.chunks_mut(stride)) {
        for (o, value) in out.iter_mut().zip(fast_line(*row)) {
            *o = sample(i32::from(value >> 5));
        }
    }
}

/// One dimension of the fast transform.
fn fast_line(v: [i16; 8]) -> [i16; 8] {
    let (add, sub) = (i16::wrapping_add, i16::wrapping_sub);
    // The factors' fractions have 8 bits; two more bits of the value go before it is cut to 16.
    let times = |v: i16, factor: i32| ((i32::from(v << 2) * (factor << 6)) >> 16) as i16;
    const ROOT_2: i32 = 362;
    let (a, b) = (add(v[0], v[4]), sub(v[0], v[4]));
    let c = add(v[2], v[6]);
    let d = sub(times(sub(v[2], v[6]), ROOT_2), c);
    let even = [add(a, c), add(b, d), sub(b, d), sub(a, c)];

    let (p, q) = (add(v[5], v[3]), sub(v[5], v[3]));
    let (r, s) = (add(v[1], v[7]), sub(v[1], v[7]));
    let odd_0 = add(r, p);
    let t = times(sub(r, p), ROOT_2);
    let u = times(add(q, s), 473);
    // 2.613 does not fit 16 bits with its fraction: 1.613 times, and once.
    let w = add(sub(times(q, 256 - 669), q), u);
    let x = sub(times(s, 277), u);
    let odd_1 = sub(w, odd_0);
    let odd_2 = sub(t, odd_1);
    let odd_3 = add(x, odd_2);
    [
        add(even[0], odd_0),
        add(even[1], odd_1),
        add(even[2], odd_2),
        sub(even[3], odd_3),
        add(even[3], odd_3),
        sub(even[2], odd_2),
        sub(even[1], odd_1),
        sub(even[0], odd_0),
    ]
}

/// A constant with 13 bits after the point.
pub(super) const fn fixed(v: f64) -> i32 {
    (v * 8192.0 + 0.5) as i32
}

/// Without the last bits, to nearest.
pub(super) fn descale(v: i32, bits: u32) -> i32 {
    v.wrapping_add(1 << (bits - 1)) >> bits
}

fn saturated(v: i32) -> i16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Whether a block is nothing but its first row. The vector code then does not saturate, and neither must this.
fn is_flat(v: &[i16; 64], but: Option<usize>) -> bool {
    v.chunks_exact(8).enumerate().skip(1).all(|(k, row)| Some(k) == but || *row == [0; 8])
}

fn accurate(v: &[i16; 64], out: &mut [u8], stride: usize) {
    separable(v, out, stride, None, 13, accurate_line);
}

/// A transform of columns, then of rows, both by `line`, which leaves out frequency `but` and gives its results with `bits` more bits.
fn separable<const N: usize>(
    v: &[i16; 64],
    out: &mut [u8],
    stride: usize,
    but: Option<usize>,
    bits: u32,
    line: impl Fn([i16; 8]) -> [i32; N],
) {
    let mut between = [[0i16; 8]; N];
    let flat = is_flat(v, but);
    if flat {
        between = [std::array::from_fn(|k| v[k] << 2); N];
    }
    for column in (0..8).filter(|&c| Some(c) != but && !flat) {
        let results = line(std::array::from_fn(|k| v[8 * k + column]));
        for (row, value) in between.iter_mut().zip(results) {
            row[column] = saturated(descale(value, bits - 2));
        }
    }
    for (row, out) in between.iter().zip(out.chunks_mut(stride)) {
        for (o, value) in out.iter_mut().zip(line(*row)) {
            *o = sample(descale(value, bits + 5));
        }
    }
}

/// One dimension of the accurate transform, its results with 13 more bits.
fn accurate_line(v: [i16; 8]) -> [i32; 8] {
    let wide = |v: i16| Wrapping(i32::from(v));
    let fixed = |v: f64| Wrapping(fixed(v));
    // Sums of two are of 16 bits, as their terms are.
    let add = |a: i16, b: i16| wide(a.wrapping_add(b));
    let sub = |a: i16, b: i16| wide(a.wrapping_sub(b));
    let w = v.map(wide);
    let shared = (w[2] + w[6]) * fixed(0.541196100);
    let (c, d) = (shared - w[6] * fixed(1.847759065), shared + w[2] * fixed(0.765366865));
    let (a, b) = (add(v[0], v[4]) << 13, sub(v[0], v[4]) << 13);
    let even = [a + d, b + c, b - c, a - d];

    let (p, q) = (add(v[7], v[3]), add(v[5], v[1]));
    let both = (p + q) * fixed(1.175875602);
    let p = both - p * fixed(1.961570560);
    let q = both - q * fixed(0.390180644);
    let r = (w[7] + w[1]) * fixed(0.899976223);
    let s = (w[5] + w[3]) * fixed(2.562915447);
    let odd = [
        w[1] * fixed(1.501321110) - r + q,
        w[3] * fixed(3.072711026) - s + p,
        w[5] * fixed(2.053119869) - s + q,
        w[7] * fixed(0.298631336) - r + p,
    ];
    std::array::from_fn(|k| if k < 4 { even[k] + odd[k] } else { even[7 - k] - odd[7 - k] }.0)
}

fn quarter(v: &[i16; 64], out: &mut [u8], stride: usize) {
    separable(v, out, stride, Some(4), 14, quarter_line);
}

/// Four samples of all frequencies but the fifth, with 14 more bits.
fn quarter_line(v: [i16; 8]) -> [i32; 4] {
    let w = v.map(i32::from);
    let a = w[0] << 14;
    let b = w[2] * fixed(1.847759065) - w[6] * fixed(0.765366865);
    let c = w[3] * -fixed(2.172734803) + w[1] * fixed(1.061594337) + w[5] * fixed(1.451774981) - w[7] * fixed(0.211164243);
    let d = w[3] * fixed(0.899976223) + w[1] * fixed(2.562915447) - w[5] * fixed(0.601344887) - w[7] * fixed(0.509795579);
    let (e, f) = (a.wrapping_add(b), a.wrapping_sub(b));
    [e.wrapping_add(d), f.wrapping_add(c), f.wrapping_sub(c), e.wrapping_sub(d)]
}

fn sixteenth(v: &[i16; 64], out: &mut [u8], stride: usize) {
    let mut between = [[0i32; 8]; 2];
    for column in [0, 1, 3, 5, 7] {
        let line = sixteenth_line(std::array::from_fn(|k| v[8 * k + column].into()));
        for (row, value) in between.iter_mut().zip(line) {
            row[column] = descale(value, 13);
        }
    }
    for (row, out) in between.iter().zip(out.chunks_mut(stride)) {
        for (o, value) in out.iter_mut().zip(sixteenth_line(row.map(|v| saturated(v).into()))) {
            *o = sample(descale(value, 20));
        }
    }
}

/// Two samples of the mean and the odd frequencies, with 15 more bits.
fn sixteenth_line(w: [i32; 8]) -> [i32; 2] {
    let a = w[0] << 15;
    let b = w[1] * fixed(3.624509785) - w[3] * fixed(1.272758580) + w[5] * fixed(0.850430095) - w[7] * fixed(0.720959822);
    [a.wrapping_add(b), a.wrapping_sub(b)]
}

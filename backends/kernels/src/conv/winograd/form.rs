//! The transforms of Winograd's algorithm for three taps: along one axis, and of the tiles of an image.
//!
//! A form computes `OUTPUTS` neighbouring outputs from `POINTS = OUTPUTS + 2` inputs with one product a point. Its last point is
//! infinity, which only the last output needs.
//!
//! The functions over [`Simd`] are inlined into a function of a tier, and as safe as the tier's instructions are there.
#![allow(clippy::missing_safety_doc)]
// Indices run over several arrays of registers at once.
#![allow(clippy::needless_range_loop)]

use crate::epilogue::{Activation, Epilogue, finish};
use crate::matrix::simd::Simd;
use crate::tier::by_tier;

/// Points of the largest form along an axis.
pub const MAX_POINTS: usize = 6;
/// Outputs of the largest form along an axis.
pub const MAX_OUTPUTS: usize = 4;

/// One value a point of a form; the rest is unused.
type Points<S> = [<S as Simd>::V; MAX_POINTS];
type Outputs<S> = [<S as Simd>::V; MAX_OUTPUTS];

/// The transforms of a form along one axis.
pub trait Form {
    const OUTPUTS: usize;
    const POINTS: usize = Self::OUTPUTS + 2;
    /// The transform of a filter: points by taps.
    const FILTER: [[f64; 3]; MAX_POINTS];

    unsafe fn points<S: Simd>(d: Points<S>) -> Points<S>;
    unsafe fn outputs<S: Simd>(m: Points<S>) -> Outputs<S>;
}

/// F(2, 3) with the points 0, 1, -1 and infinity.
pub struct F2;

impl Form for F2 {
    const OUTPUTS: usize = 2;
    const FILTER: [[f64; 3]; MAX_POINTS] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0], [0.0; 3], [0.0; 3]];

    #[inline(always)]
    unsafe fn points<S: Simd>(d: Points<S>) -> Points<S> {
        unsafe {
            let zero = S::zero();
            [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[3], d[1]), zero, zero]
        }
    }

    #[inline(always)]
    unsafe fn outputs<S: Simd>(m: Points<S>) -> Outputs<S> {
        unsafe {
            let (even, odd) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            [S::add(m[0], even), S::add(odd, m[3]), S::zero(), S::zero()]
        }
    }
}

/// F(4, 3) with the points 0, ±3/4, ±3/2 and infinity: of the symmetric ones with short constants those of the smallest error.
pub struct F4;

const A: f64 = 0.75;
const B: f64 = 1.5;

impl Form for F4 {
    const OUTPUTS: usize = 4;
    const FILTER: [[f64; 3]; MAX_POINTS] = {
        // 1 / the product of a point's differences from the others.
        let (a, b) = (1.0 / (2.0 * A * A * (A * A - B * B)), 1.0 / (2.0 * B * B * (B * B - A * A)));
        [
            [1.0 / (A * A * B * B), 0.0, 0.0],
            [a, a * A, a * A * A],
            [a, -a * A, a * A * A],
            [b, b * B, b * B * B],
            [b, -b * B, b * B * B],
            [0.0, 0.0, 1.0],
        ]
    };

    #[inline(always)]
    unsafe fn points<S: Simd>(d: Points<S>) -> Points<S> {
        unsafe {
            let times = |c: f64, x: S::V, y: S::V| S::fma(S::splat(c as f32), x, y);
            let (even_a, odd_a) = (times(-B * B, d[2], d[4]), times(-B * B, d[1], d[3]));
            let (even_b, odd_b) = (times(-A * A, d[2], d[4]), times(-A * A, d[1], d[3]));
            let ends = |x: S::V, y: S::V, z: S::V| times(A * A * B * B, x, times(-(A * A + B * B), y, z));
            [
                ends(d[0], d[2], d[4]),
                times(A, odd_a, even_a),
                times(-A, odd_a, even_a),
                times(B, odd_b, even_b),
                times(-B, odd_b, even_b),
                ends(d[1], d[3], d[5]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn outputs<S: Simd>(m: Points<S>) -> Outputs<S> {
        unsafe {
            let (even_a, odd_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (even_b, odd_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let both = |a: f64, x: S::V, b: f64, y: S::V| S::fma(S::splat(b as f32), y, S::mul(S::splat(a as f32), x));
            [
                S::add(m[0], S::add(even_a, even_b)),
                both(A, odd_a, B, odd_b),
                both(A * A, even_a, B * B, even_b),
                S::fma(S::splat((B * B * B) as f32), odd_b, S::fma(S::splat((A * A * A) as f32), odd_a, m[5])),
            ]
        }
    }
}

/// A tile of an image on its way to the points.
pub struct TileInput {
    /// The channels of each pixel that the tile reads, by row and column.
    pub from: [[*const f32; MAX_POINTS]; MAX_POINTS],
    /// Where each point's channels go, in whole vectors of 16. Points are written from the last to the first; one that is not wanted
    /// goes where another is written after it.
    pub to: [[*mut f32; MAX_POINTS]; MAX_POINTS],
    pub channels: usize,
}

/// A tile of the output on its way from the points.
pub struct TileOutput {
    /// The columns of each point, readable in whole vectors of 16.
    pub from: [[*const f32; MAX_POINTS]; MAX_POINTS],
    pub columns: usize,
    /// The tile's first pixel; pixels are `pixel` and lines `line` floats apart.
    pub y: *mut f32,
    pub pixel: usize,
    pub line: usize,
    /// Pixels of the tile, at most the form's.
    pub rows: usize,
    pub cols: usize,
    /// Begins at the tile's first pixel; its lines are `residual_line` apart.
    pub epilogue: Epilogue,
    pub residual_line: usize,
}

#[inline(always)]
unsafe fn load<S: Simd, const WHOLE: bool>(p: *const f32, n: usize) -> S::V {
    unsafe { if WHOLE { S::load(p) } else { S::load_n(p, n) } }
}

#[inline(always)]
unsafe fn scatter<S: Simd, F: Form, const WHOLE: bool>(t: &TileInput, at: usize) {
    unsafe {
        let n = t.channels - at;
        let mut w = [[S::zero(); MAX_POINTS]; MAX_POINTS];
        for j in 0..F::POINTS {
            let mut d = [S::zero(); MAX_POINTS];
            for i in 0..F::POINTS {
                d[i] = load::<S, WHOLE>(t.from[i][j].add(at), n);
            }
            let d = F::points::<S>(d);
            for i in 0..F::POINTS {
                w[i][j] = d[i];
            }
        }
        // Downwards: see `TileInput::to`.
        for i in (0..F::POINTS).rev() {
            let d = F::points::<S>(w[i]);
            for j in (0..F::POINTS).rev() {
                S::store(t.to[i][j].add(at), d[j]);
            }
        }
    }
}

#[inline(always)]
unsafe fn input<S: Simd, F: Form>(t: &TileInput) {
    unsafe {
        let whole = t.channels - t.channels % S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            scatter::<S, F, true>(t, at);
        }
        if whole < t.channels {
            scatter::<S, F, false>(t, whole);
        }
    }
}

#[inline(always)]
unsafe fn gather<S: Simd, F: Form, const SIMPLE: bool, const WHOLE: bool>(t: &TileOutput, at: usize) {
    unsafe {
        let (n, e) = (t.columns - at, &t.epilogue);
        let mut w = [[S::zero(); MAX_POINTS]; MAX_OUTPUTS];
        for j in 0..F::POINTS {
            let mut m = [S::zero(); MAX_POINTS];
            for i in 0..F::POINTS {
                m[i] = S::load(t.from[i][j].add(at));
            }
            let m = F::outputs::<S>(m);
            for i in 0..F::OUTPUTS {
                w[i][j] = m[i];
            }
        }
        let bias = if e.bias.is_null() { S::zero() } else { load::<S, WHOLE>(e.bias.add(at), n) };
        let clamp = e.activation == Activation::Clamp;
        let (lo, hi) = (S::splat(e.lo), S::splat(e.hi));
        for i in 0..F::OUTPUTS {
            if i >= t.rows {
                break;
            }
            let m = F::outputs::<S>(w[i]);
            let (y, residual) = (t.y.wrapping_add(i * t.line + at), e.residual.wrapping_add(i * t.residual_line + at));
            for j in 0..F::OUTPUTS {
                if j < t.cols {
                    let residual = residual.wrapping_add(j * e.ldr);
                    let r = if e.residual.is_null() { S::zero() } else { load::<S, WHOLE>(residual, n) };
                    let v = if SIMPLE {
                        let v = S::add(S::add(m[j], bias), r);
                        if clamp { S::min(hi, S::max(lo, v)) } else { v }
                    } else {
                        finish::<S>(e, m[j], bias, r)
                    };
                    let y = y.wrapping_add(j * t.pixel);
                    if WHOLE { S::store(y, v) } else { S::store_n(y, v, n) }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn output_as<S: Simd, F: Form, const SIMPLE: bool>(t: &TileOutput) {
    unsafe {
        let whole = t.columns - t.columns % S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            gather::<S, F, SIMPLE, true>(t, at);
        }
        if whole < t.columns {
            gather::<S, F, SIMPLE, false>(t, whole);
        }
    }
}

#[inline(always)]
unsafe fn output<S: Simd, F: Form>(t: &TileOutput) {
    let simple = t.epilogue.in_registers() && t.epilogue.activation != Activation::HardSwish;
    unsafe { if simple { output_as::<S, F, true>(t) } else { output_as::<S, F, false>(t) } }
}

/// The transforms of tiles of a form.
///
/// # Safety
/// Of both functions: all pointers are valid for what the tile says.
#[derive(Clone, Copy)]
pub struct Transforms {
    pub input: unsafe fn(&TileInput),
    pub output: unsafe fn(&TileOutput),
}

by_tier!(fn input_f2(t: &TileInput) = input, matrix::simd, F2);
by_tier!(fn output_f2(t: &TileOutput) = output, matrix::simd, F2);
by_tier!(fn input_f4(t: &TileInput) = input, matrix::simd, F4);
by_tier!(fn output_f4(t: &TileOutput) = output, matrix::simd, F4);

/// The transforms of the form with `outputs` outputs along an axis: 2 or 4.
pub fn transforms(outputs: usize) -> Transforms {
    if outputs == F4::OUTPUTS {
        return Transforms { input: input_f4, output: output_f4 };
    }
    Transforms { input: input_f2, output: output_f2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::simd::Portable;

    fn direct<F: Form>() {
        // One lane of the portable vectors, in f32: exact for small integers but for the filter's thirds.
        let d: [f32; MAX_POINTS] = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0];
        let g = [2.0f64, -7.0, 1.0];
        // SAFETY: needs nothing beyond the target.
        let m = unsafe { F::points::<Portable>(d.map(|x| [x; 4])) };
        let mut products = [[0f32; 4]; MAX_POINTS];
        for p in 0..F::POINTS {
            let u: f64 = (0..3).map(|t| F::FILTER[p][t] * g[t]).sum();
            products[p] = m[p].map(|x| (x as f64 * u) as f32);
        }
        // SAFETY: as above.
        let y = unsafe { F::outputs::<Portable>(products) };
        for o in 0..F::OUTPUTS {
            let want: f64 = (0..3).map(|t| d[o + t] as f64 * g[t]).sum();
            assert!((y[o][0] as f64 - want).abs() < 1e-4, "output {o}: {} for {want}", y[o][0]);
        }
    }

    #[test]
    fn forms_are_correlations() {
        direct::<F2>();
        direct::<F4>();
    }
}

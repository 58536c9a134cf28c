//! What happens to a sum before it is stored: bias, residual and activation.
//!
//! The functions over [`Simd`] are inlined into a kernel of a tier, and as safe as the tier's instructions are there.
#![allow(clippy::missing_safety_doc)]

use crate::matrix::simd::Simd;
use crate::tier::by_tier;
use core::ptr::null;
use graphc_abi::args::matrix::act;

/// The activations, see [`act`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Clamp,
    LeakyRelu,
    GeluErf,
    GeluTanh,
    Silu,
    Sigmoid,
    Tanh,
    HardSwish,
    HardSigmoid,
    Elu,
}

// The activations as constants, for code that is made for one of them.
const NONE: u8 = Activation::None as u8;
const CLAMP: u8 = Activation::Clamp as u8;
const LEAKY_RELU: u8 = Activation::LeakyRelu as u8;
const GELU_ERF: u8 = Activation::GeluErf as u8;
const GELU_TANH: u8 = Activation::GeluTanh as u8;
const SILU: u8 = Activation::Silu as u8;
const SIGMOID: u8 = Activation::Sigmoid as u8;
const TANH: u8 = Activation::Tanh as u8;
const HARD_SWISH: u8 = Activation::HardSwish as u8;
const HARD_SIGMOID: u8 = Activation::HardSigmoid as u8;
const ELU: u8 = Activation::Elu as u8;

/// How floats lie in memory. Pointers to them have the type of f32 everywhere; [`Stored::at`] steps over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    Bf16,
    /// Unsigned integers of 8 bits.
    U8,
}

impl Stored {
    /// Bytes of `n` numbers.
    #[inline(always)]
    pub fn bytes(self, n: usize) -> usize {
        n.wrapping_mul(match self {
            Stored::F32 => 4,
            Stored::Bf16 => 2,
            Stored::U8 => 1,
        })
    }

    /// The address of number `i` from `p` on.
    #[inline(always)]
    pub fn at<T>(self, p: *const T, i: usize) -> *const T {
        p.wrapping_byte_add(self.bytes(i))
    }

    /// As [`Stored::at`].
    #[inline(always)]
    pub fn at_mut<T>(self, p: *mut T, i: usize) -> *mut T {
        self.at(p, i).cast_mut()
    }
}

/// How reals become unsigned integers of 8 bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    /// Integers a unit, and the one for 0.
    pub rate: f32,
    pub zero: f32,
    /// The least and the greatest.
    pub lo: f32,
    pub hi: f32,
    /// Halves are rounded up, not to even.
    pub half_up: bool,
}

impl Steps {
    /// The integers nearest to `v`; the least of NaN.
    #[inline(always)]
    pub unsafe fn of<S: Simd>(&self, v: S::V) -> S::V {
        unsafe {
            let t = S::fma(v, S::splat(self.rate), S::splat(self.zero));
            let t = S::min(S::splat(self.hi), S::max(t, S::splat(self.lo)));
            if !self.half_up {
                return S::round(t);
            }
            let t = S::add(t, S::splat(0.5));
            let r = S::round(t);
            S::select_lt(t, r, S::sub(r, S::splat(1.0)), r)
        }
    }
}

/// The epilogue of a matrix kernel. See `graphc_abi::args::matrix` for its formula.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    /// One value a column, or null.
    pub bias: *const f32,
    /// Null, or laid out as the output with row stride `ldr`.
    pub residual: *const f32,
    pub ldr: usize,
    pub residual_after: bool,
    pub activation: Activation,
    /// Parameters of the activation: bounds of a clamp, the slope of a leaky relu in `lo`.
    pub lo: f32,
    pub hi: f32,
    /// How residual and result lie in memory; bf16 only in products of bf16, integers only in those of integers.
    pub residual_stored: Stored,
    pub stored: Stored,
    /// Of products of integers, a column: what is added to sums, and by what they are multiplied then.
    pub shift: *const i32,
    pub scale: *const f32,
    /// Of results that are integers.
    pub steps: Steps,
}

// SAFETY: its tensors are read by every worker and written by none.
unsafe impl Sync for Epilogue {}
unsafe impl Send for Epilogue {}

impl Epilogue {
    pub const NONE: Epilogue = Epilogue {
        bias: null(),
        residual: null(),
        ldr: 0,
        residual_after: false,
        activation: Activation::None,
        lo: 0.0,
        hi: 0.0,
        residual_stored: Stored::F32,
        stored: Stored::F32,
        shift: null(),
        scale: null(),
        steps: Steps { rate: 0.0, zero: 0.0, lo: 0.0, hi: 0.0, half_up: false },
    };

    /// From the words of a kernel's arguments; `None` for an unknown code.
    pub fn new(bias: *const f32, residual: *const f32, ldr: usize, after: i64, code: i64, lo: f64, hi: f64) -> Option<Epilogue> {
        let (activation, lo, hi) = match code {
            act::NONE => (Activation::None, 0.0, 0.0),
            act::RELU => (Activation::Clamp, 0.0, f32::INFINITY),
            act::CLAMP => (Activation::Clamp, lo as f32, hi as f32),
            act::LEAKY_RELU => (Activation::LeakyRelu, lo as f32, 0.0),
            act::GELU_ERF => (Activation::GeluErf, 0.0, 0.0),
            act::GELU_TANH => (Activation::GeluTanh, 0.0, 0.0),
            act::SILU => (Activation::Silu, 0.0, 0.0),
            act::SIGMOID => (Activation::Sigmoid, 0.0, 0.0),
            act::TANH => (Activation::Tanh, 0.0, 0.0),
            act::HARD_SWISH => (Activation::HardSwish, 0.0, 0.0),
            act::HARD_SIGMOID => (Activation::HardSigmoid, 0.0, 0.0),
            act::ELU => (Activation::Elu, 0.0, 0.0),
            _ => return None,
        };
        let residual_after = after != 0 && !residual.is_null() && activation != Activation::None;
        Some(Epilogue { bias, residual, ldr, residual_after, activation, lo, hi, ..Epilogue::NONE })
    }

    /// With this storage of residual and result.
    pub(crate) fn stored(self, residual_stored: Stored, stored: Stored) -> Epilogue {
        Epilogue { residual_stored, stored, ..self }
    }

    /// What makes reals of sums of integers, and nothing else.
    pub(crate) fn scales(&self) -> Epilogue {
        Epilogue { shift: self.shift, scale: self.scale, ..Epilogue::NONE }
    }

    pub fn with_residual(&self, residual: *const f32) -> Epilogue {
        Epilogue { residual, ..*self }
    }

    /// True where a microkernel applies it in registers.
    pub fn in_registers(&self) -> bool {
        !self.residual_after && matches!(self.activation, Activation::None | Activation::Clamp | Activation::HardSwish)
    }

    /// The same where a row takes the place of `rows`.
    pub(crate) fn rows_apart(self, rows: usize) -> Epilogue {
        Epilogue { ldr: self.ldr * rows, ..self }
    }

    /// The epilogue of the block that starts at `row`, `col`.
    #[inline(always)]
    pub fn at(&self, row: usize, col: usize) -> Epilogue {
        let shift = |p: *const f32, s: Stored, by: usize| if p.is_null() { p } else { s.at(p, by) };
        let residual = shift(self.residual, self.residual_stored, row * self.ldr + col);
        let (scale, ints) = (shift(self.scale, Stored::F32, col), shift(self.shift.cast(), Stored::F32, col).cast());
        Epilogue { bias: shift(self.bias, Stored::F32, col), residual, scale, shift: ints, ..*self }
    }
}

#[inline(always)]
unsafe fn poly<S: Simd, const N: usize>(x: S::V, c: [f32; N]) -> S::V {
    unsafe {
        let mut y = S::splat(c[0]);
        for &c in &c[1..] {
            y = S::fma(y, x, S::splat(c));
        }
        y
    }
}

/// `x` split into `n * ln 2 + r`: (n, exp(r) - 1).
#[inline(always)]
unsafe fn exp_parts<S: Simd>(x: S::V) -> (S::V, S::V) {
    unsafe {
        let x = S::min(S::splat(128.0), S::max(S::splat(-150.0), x));
        let n = S::round(S::mul(x, S::splat(core::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = poly::<S, 6>(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
        (n, S::fma(S::mul(r, r), p, r))
    }
}

/// `e^x`, or `e^-x` where `NEGATED`: 0 and infinity beyond the range of f32, NaN of NaN; relative error 2e-7.
#[inline(always)]
unsafe fn exp_of<S: Simd, const NEGATED: bool>(x: S::V) -> S::V {
    use core::f32::consts::{LN_2, LOG2_E};
    unsafe {
        // ±x = n ln 2 ± r. The f32 nearest to ln 2 is so near that one product does.
        let s = if NEGATED { -1.0 } else { 1.0 };
        let x = S::min(S::splat(150.0), S::max(S::splat(-150.0), x));
        let n = S::round(S::mul(x, S::splat(s * LOG2_E)));
        let r = S::fma(n, S::splat(-s * LN_2), x);
        let p = poly::<S, 6>(r, [s * 8.290_309e-3, 4.189_793e-2, s * 1.666_763_6e-1, 4.999_915e-1, s * 9.999_997e-1, 1.0]);
        S::scale(p, n)
    }
}

/// `e^x`: 0 and infinity beyond the range of f32, NaN of NaN.
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    unsafe { exp_of::<S, false>(x) }
}

#[inline(always)]
unsafe fn exp_minus_one<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let (n, p) = exp_parts::<S>(x);
        let s = S::scale(S::splat(1.0), n);
        S::fma(s, p, S::sub(s, S::splat(1.0)))
    }
}

/// `a / (1 + e^-x)`.
#[inline(always)]
unsafe fn times_sigmoid<S: Simd>(a: S::V, x: S::V) -> S::V {
    unsafe { S::div(a, S::add(S::splat(1.0), exp_of::<S, true>(x))) }
}

/// `min(max(x + 3, 0), 6) / 6`.
#[inline(always)]
unsafe fn hard_sigmoid<S: Simd>(x: S::V) -> S::V {
    unsafe { S::min(S::splat(1.0), S::max(S::zero(), S::fma(x, S::splat(1.0 / 6.0), S::splat(0.5)))) }
}

/// `x` times its hard sigmoid.
#[inline(always)]
pub unsafe fn hard_swish<S: Simd>(x: S::V) -> S::V {
    unsafe { S::mul(x, hard_sigmoid::<S>(x)) }
}

/// `limit` with the sign of `x` where `x` is beyond `far`, `y` elsewhere.
#[inline(always)]
unsafe fn saturate<S: Simd>(x: S::V, far: S::V, limit: S::V, y: S::V) -> S::V {
    unsafe {
        let y = S::select_lt(far, x, limit, y);
        S::select_lt(x, S::sub(S::zero(), far), S::sub(S::zero(), limit), y)
    }
}

#[allow(clippy::excessive_precision)]
#[inline(always)]
unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    unsafe {
        // The quotient stops a few units short of 1, which shows where a caller multiplies by a large x.
        let (one, far, given) = (S::splat(1.0), S::splat(9.0), x);
        let x = S::min(S::splat(7.905_311), S::max(S::splat(-7.905_311), x));
        let q = S::mul(x, x);
        let a = [-2.760_768_5e-16, 2.000_187_9e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_524_6e-3];
        let b = [1.198_258_4e-6, 1.185_347_06e-4, 2.268_434_6e-3, 4.893_525_2e-3];
        let y = S::div(S::mul(x, poly::<S, 7>(q, a)), poly::<S, 4>(q, b));
        saturate::<S>(given, far, one, y)
    }
}

#[allow(clippy::excessive_precision)]
#[inline(always)]
unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let (one, far, given) = (S::splat(1.0), S::splat(3.832_507), x);
        let x = S::min(far, S::max(S::sub(S::zero(), far), x));
        let q = S::mul(x, x);
        let a = [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2];
        let b = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_474e-2];
        let y = S::div(S::mul(x, poly::<S, 7>(q, a)), poly::<S, 5>(q, b));
        saturate::<S>(given, far, one, y)
    }
}

/// One vector through the activation `ACT`, an [`Activation`] as a number, with the parameters of `e`.
#[inline(always)]
unsafe fn activate<S: Simd, const ACT: u8>(e: &Epilogue, x: S::V) -> S::V {
    unsafe {
        match ACT {
            CLAMP => S::min(S::splat(e.hi), S::max(S::splat(e.lo), x)),
            LEAKY_RELU => S::select_lt(x, S::zero(), S::mul(x, S::splat(e.lo)), x),
            GELU_ERF => {
                let half = S::mul(x, S::splat(0.5));
                S::fma(half, erf::<S>(S::mul(x, S::splat(core::f32::consts::FRAC_1_SQRT_2))), half)
            }
            GELU_TANH => {
                let half = S::mul(x, S::splat(0.5));
                let cubic = S::fma(S::mul(S::mul(x, x), x), S::splat(0.044_715), x);
                S::fma(half, tanh::<S>(S::mul(cubic, S::splat(0.797_884_6))), half)
            }
            SILU => times_sigmoid::<S>(x, x),
            SIGMOID => times_sigmoid::<S>(S::splat(1.0), x),
            TANH => tanh::<S>(x),
            HARD_SWISH => hard_swish::<S>(x),
            HARD_SIGMOID => hard_sigmoid::<S>(x),
            ELU => S::select_lt(x, S::zero(), exp_minus_one::<S>(x), x),
            _ => x,
        }
    }
}

/// Calls `$f` with the activation of `$e` as a constant.
macro_rules! by_activation {
    ($e:expr, $f:ident::<$s:ty>($($a:expr),*)) => {
        match $e.activation {
            Activation::None => $f::<$s, NONE>($($a),*),
            Activation::Clamp => $f::<$s, CLAMP>($($a),*),
            Activation::LeakyRelu => $f::<$s, LEAKY_RELU>($($a),*),
            Activation::GeluErf => $f::<$s, GELU_ERF>($($a),*),
            Activation::GeluTanh => $f::<$s, GELU_TANH>($($a),*),
            Activation::Silu => $f::<$s, SILU>($($a),*),
            Activation::Sigmoid => $f::<$s, SIGMOID>($($a),*),
            Activation::Tanh => $f::<$s, TANH>($($a),*),
            Activation::HardSwish => $f::<$s, HARD_SWISH>($($a),*),
            Activation::HardSigmoid => $f::<$s, HARD_SIGMOID>($($a),*),
            Activation::Elu => $f::<$s, ELU>($($a),*),
        }
    };
}

#[inline(always)]
unsafe fn finish_as<S: Simd, const ACT: u8>(e: &Epilogue, sum: S::V, bias: S::V, residual: S::V) -> S::V {
    unsafe {
        let t = S::add(sum, bias);
        if e.residual_after {
            S::add(activate::<S, ACT>(e, t), residual)
        } else if e.residual.is_null() {
            activate::<S, ACT>(e, t)
        } else {
            activate::<S, ACT>(e, S::add(t, residual))
        }
    }
}

/// The epilogue of one vector of sums: `bias` and `residual` are the values of its lanes, zero where there are none.
#[inline(always)]
pub unsafe fn finish<S: Simd>(e: &Epilogue, sum: S::V, bias: S::V, residual: S::V) -> S::V {
    unsafe { by_activation!(e, finish_as::<S>(e, sum, bias, residual)) }
}

/// The rows and extents of [`finish_rows`].
#[derive(Clone, Copy)]
struct Rows {
    src: *const f32,
    lds: usize,
    rows: usize,
    cols: usize,
    dst: *mut f32,
    ldd: usize,
}

#[inline(always)]
unsafe fn load_as<S: Simd>(stored: Stored, p: *const f32, n: usize) -> S::V {
    unsafe {
        match stored {
            Stored::Bf16 => S::load_bf16(p.cast(), n),
            Stored::F32 if n == S::LANES => S::load(p),
            _ => S::load_n(p, n),
        }
    }
}

#[inline(always)]
unsafe fn rows_as<S: Simd, const ACT: u8>(e: &Epilogue, g: &Rows) {
    unsafe {
        for r in 0..g.rows {
            let (src, dst) = (g.src.add(r * g.lds), e.stored.at_mut(g.dst, r * g.ldd));
            let mut i = 0;
            while i < g.cols {
                let n = S::LANES.min(g.cols - i);
                let bias = if e.bias.is_null() { S::zero() } else { load_as::<S>(Stored::F32, e.bias.add(i), n) };
                let residual = e.residual_stored.at(e.residual, r * e.ldr + i);
                let residual = if e.residual.is_null() { S::zero() } else { load_as::<S>(e.residual_stored, residual, n) };
                let y = finish_as::<S, ACT>(e, load_as::<S>(Stored::F32, src.add(i), n), bias, residual);
                let to = e.stored.at_mut(dst, i);
                match e.stored {
                    Stored::Bf16 => S::store_bf16(to.cast(), y, n),
                    Stored::U8 => S::store_u8(to.cast(), e.steps.of::<S>(y), n),
                    Stored::F32 if n == S::LANES => S::store(to, y),
                    Stored::F32 => S::store_n(to, y, n),
                }
                i += S::LANES;
            }
        }
    }
}

#[inline(always)]
unsafe fn finish_rows_of<S: Simd>(e: &Epilogue, g: &Rows) {
    unsafe { by_activation!(e, rows_as::<S>(e, g)) }
}

/// Applies `e` to the sums `src[rows, cols]` and stores the results; `src` may be `dst` where both are f32.
///
/// # Safety
/// All rows are valid at their strides; `e`'s tensors start at the block's first element.
pub unsafe fn finish_rows(e: &Epilogue, src: *const f32, lds: usize, rows: usize, cols: usize, dst: *mut f32, ldd: usize) {
    // SAFETY: by the contract.
    unsafe { finish_in_tier(e, &Rows { src, lds, rows, cols, dst, ldd }) }
}

by_tier!(fn finish_in_tier(e: &Epilogue, g: &Rows) = finish_rows_of, matrix::simd);

//! The ops: a closed set, each defined once in `DEFS`.

use crate::attr::{AttrKind, Attrs};
use crate::elem::Elem;
use crate::infer;
use crate::tape::{Bin, Cmp, T, Tape, Un};
use crate::ty::Type;

/// Whether an op may be removed, repeated and reordered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A function of operands and attributes.
    Pure,
    /// Reads state: stays in order with writes.
    Read,
    /// Changes state, or may fail in a way that the program can see.
    Write,
}

/// How far a backend may be from the interpreter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tolerance {
    /// Equal, up to the sign of zero and the payload of a NaN.
    Exact,
    /// Relative error per element, in units of the type's epsilon.
    Ulps(u32),
    /// Error relative to the largest element of the result, in units of the type's epsilon: sums in another order.
    Scale(u32),
}

/// What an op computes.
#[derive(Clone, Copy)]
pub enum Body {
    /// Per element: appends its tape and returns the result. Operands broadcast as in NumPy.
    Elementwise(fn(&mut Tape, &[T], &Attrs) -> T),
    /// Defined by the interpreter's function of the same name; backends have a kernel or a loop for it.
    Structured,
    /// The body is in its regions.
    Regions,
}

/// One attribute that an op takes.
#[derive(Clone, Copy, Debug)]
pub struct AttrDef {
    pub key: &'static str,
    pub kind: AttrKind,
    /// Absent means zero, false or empty.
    pub optional: bool,
}

const fn req(key: &'static str, kind: AttrKind) -> AttrDef {
    AttrDef { key, kind, optional: false }
}

const fn opt(key: &'static str, kind: AttrKind) -> AttrDef {
    AttrDef { key, kind, optional: true }
}

/// Result types from operand types and attributes, or what is wrong.
pub type Infer = fn(&[&Type], &Attrs) -> Result<Vec<Type>, String>;

/// Definition of an op.
pub struct OpDef {
    pub op: Op,
    pub name: &'static str,
    pub doc: &'static str,
    /// Least and greatest number of operands.
    pub operands: (usize, usize),
    pub attrs: &'static [AttrDef],
    pub effect: Effect,
    pub tolerance: Tolerance,
    pub infer: Infer,
    pub body: Body,
}

/// No upper bound on the number of operands.
pub const MANY: usize = usize::MAX;

/// Attributes of an epilogue on matrix work: `act(x + bias + residual)`, or `act(x + bias) + residual` with `residual_last`.
/// Bias and residual are the last operands, in this order, where their flag is set. `act`: none, relu, clamp (act_lo, act_hi),
/// leaky_relu (act_lo = slope), gelu, gelu_tanh, silu, sigmoid, tanh, hard_swish, hard_sigmoid, elu.
/// `elem`: the factors (of `depthwise` the image alone) are bf16, sums and bias f32, the residual either of them, and the result is rounded once, to `elem`.
/// `scaled`: the factors are integers, u8 and i8; after them come an f32 and an i32 vector, and a column's sum of products is multiplied
/// by the first after the second has been added. Padding is `x_zero`. The result is `elem`: f32, or u8 as op `quantise` makes it.
macro_rules! with_epilogue {
    ($($attr:expr),* $(,)?) => {
        &[$($attr,)* opt("bias", AttrKind::Bool), opt("residual", AttrKind::Bool), opt("residual_last", AttrKind::Bool),
          opt("act", AttrKind::Str), opt("act_lo", AttrKind::Real), opt("act_hi", AttrKind::Real), opt("elem", AttrKind::Elem), opt("scaled", AttrKind::Bool), opt("x_zero", AttrKind::Int),
          opt("y_rate", AttrKind::Real), opt("y_zero", AttrKind::Real), opt("y_lo", AttrKind::Real), opt("y_hi", AttrKind::Real),
          opt("y_half_up", AttrKind::Bool)]
    };
}

macro_rules! ops {
    ($($op:ident $name:literal ($lo:expr, $hi:expr) $attrs:expr, $effect:ident, $tol:expr, $infer:expr, $body:expr, $doc:literal;)*) => {
        /// The ops of the tensor IR.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Op { $(#[doc = $doc] $op),* }

        /// The definition of every op, in declaration order.
        pub static DEFS: &[OpDef] = &[$(OpDef {
            op: Op::$op, name: $name, doc: $doc, operands: ($lo, $hi), attrs: $attrs, effect: Effect::$effect, tolerance: $tol,
            infer: $infer, body: $body,
        }),*];
    };
}

use AttrKind as A;
use Body::{Elementwise as El, Regions, Structured};
use Tolerance::{Exact, Scale, Ulps};

const NONE: &[AttrDef] = &[];

ops! {
    // Values without operands.
    Const "const" (0, 0) &[req("value", A::Tensor)], Pure, Exact, infer::constant, Structured, "A tensor known at compile time.";
    Dims "dims" (0, 0) &[req("dims", A::Dims), req("elem", A::Elem), opt("scalar", A::Bool)], Pure, Exact, infer::dims, Structured,
        "The values of symbolic dimensions as an integer vector, or as a scalar.";
    Iota "iota" (0, 0) &[req("shape", A::Dims), req("axis", A::Int), req("elem", A::Elem)], Pure, Exact, infer::iota, Structured,
        "The index along one axis.";

    // Elementwise, one operand.
    Neg "neg" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Neg, x[0])), "-x; integers wrap.";
    Abs "abs" (1, 1) NONE, Pure, Exact, infer::part, El(|t, x, _| t.un(Un::Abs, x[0])), "Absolute value; of a complex number its modulus.";
    Sign "sign" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Sign, x[0])), "-1, 0 or 1; NaN stays NaN.";
    Not "not" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Not, x[0])), "Logical for bool, bitwise for integers.";
    Sqrt "sqrt" (1, 1) NONE, Pure, Ulps(1), infer::same, El(|t, x, _| t.un(Un::Sqrt, x[0])), "Square root.";
    Rsqrt "rsqrt" (1, 1) NONE, Pure, Ulps(2), infer::same, El(|t, x, _| { let s = t.un(Un::Sqrt, x[0]); let one = t.constant(1.0, x[0]); t.div(one, s) }),
        "1 / sqrt(x).";
    Floor "floor" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Floor, x[0])), "Rounded to minus infinity.";
    Ceil "ceil" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Ceil, x[0])), "Rounded to plus infinity.";
    Round "round" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Round, x[0])), "Rounded to nearest, ties to even.";
    Trunc "trunc" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Trunc, x[0])), "Rounded to zero.";
    Exp "exp" (1, 1) NONE, Pure, Ulps(4), infer::same, El(|t, x, _| t.un(Un::Exp, x[0])), "e to the x.";
    Expm1 "expm1" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Expm1, x[0])), "exp(x) - 1, right near zero.";
    Log "log" (1, 1) NONE, Pure, Ulps(4), infer::same, El(|t, x, _| t.un(Un::Log, x[0])), "Natural logarithm.";
    Log1p "log1p" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Log1p, x[0])), "log(1 + x), right near zero.";
    Sin "sin" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Sin, x[0])), "Sine.";
    Cos "cos" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Cos, x[0])), "Cosine.";
    Tan "tan" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Tan, x[0])), "Tangent.";
    Asin "asin" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Asin, x[0])), "Inverse sine.";
    Acos "acos" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Acos, x[0])), "Inverse cosine.";
    Atan "atan" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Atan, x[0])), "Inverse tangent.";
    Sinh "sinh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Sinh, x[0])), "Hyperbolic sine.";
    Cosh "cosh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Cosh, x[0])), "Hyperbolic cosine.";
    Tanh "tanh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Tanh, x[0])), "Hyperbolic tangent.";
    Asinh "asinh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Asinh, x[0])), "Inverse hyperbolic sine.";
    Acosh "acosh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Acosh, x[0])), "Inverse hyperbolic cosine.";
    Atanh "atanh" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Atanh, x[0])), "Inverse hyperbolic tangent.";
    Erf "erf" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| t.un(Un::Erf, x[0])), "Error function.";
    Erfc "erfc" (1, 1) NONE, Pure, Ulps(16), infer::same, El(|t, x, _| t.un(Un::Erfc, x[0])), "1 - erf(x), right for large x.";
    Lgamma "lgamma" (1, 1) NONE, Pure, Ulps(32), infer::same, El(|t, x, _| t.un(Un::Lgamma, x[0])), "Logarithm of the absolute gamma function.";
    Digamma "digamma" (1, 1) NONE, Pure, Ulps(32), infer::same, El(|t, x, _| t.un(Un::Digamma, x[0])), "Derivative of lgamma.";
    IsNan "is_nan" (1, 1) NONE, Pure, Exact, infer::to_bool, El(|t, x, _| t.un(Un::IsNan, x[0])), "True for NaN.";
    IsInf "is_inf" (1, 1) NONE, Pure, Exact, infer::to_bool, El(|t, x, _| t.un(Un::IsInf, x[0])), "True for an infinity.";
    IsFinite "is_finite" (1, 1) NONE, Pure, Exact, infer::to_bool, El(|t, x, _| t.un(Un::IsFinite, x[0])), "False for infinities and NaN.";
    Real "real" (1, 1) NONE, Pure, Exact, infer::part, El(|t, x, _| t.un(Un::Real, x[0])), "Real part of a complex number.";
    Imag "imag" (1, 1) NONE, Pure, Exact, infer::part, El(|t, x, _| t.un(Un::Imag, x[0])), "Imaginary part of a complex number.";
    Conj "conj" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| t.un(Un::Conj, x[0])), "Complex conjugate.";
    Cast "cast" (1, 1) &[req("elem", A::Elem)], Pure, Exact, infer::cast, El(|t, x, a| { let e = a.elem("elem").unwrap_or(t.elem(x[0])); t.cast(x[0], e) }),
        "Conversion by value; float to integer truncates.";
    Relu "relu" (1, 1) NONE, Pure, Exact, infer::same, El(|t, x, _| { let z = t.constant(0.0, x[0]); t.bin(Bin::Max, x[0], z) }), "max(x, 0); NaN stays NaN.";
    Clamp "clamp" (1, 1) &[req("lo", A::Real), req("hi", A::Real)], Pure, Exact, infer::same, El(|t, x, a| {
        clamp(t, x[0], a.real("lo"), a.real("hi")) }),
        "min(max(x, lo), hi); NaN stays NaN.";
    LeakyRelu "leaky_relu" (1, 1) &[req("alpha", A::Real)], Pure, Ulps(1), infer::same, El(|t, x, a| {
        let (k, z) = (t.constant(a.real("alpha"), x[0]), t.constant(0.0, x[0])); let low = t.mul(x[0], k); let c = t.cmp(Cmp::Gt, x[0], z); t.select(c, x[0], low) }),
        "x where positive, else alpha * x.";
    Elu "elu" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| {
        let z = t.constant(0.0, x[0]); let low = t.un(Un::Expm1, x[0]); let c = t.cmp(Cmp::Lt, x[0], z); t.select(c, low, x[0]) }),
        "exp(x) - 1 where negative, else x.";
    FakeQuant "fake_quant" (1, 1) &[req("lo", A::Real), req("hi", A::Real), req("step", A::Real), opt("rate", A::Real), opt("base", A::Real),
        opt("offset", A::Real), opt("half_up", A::Bool), opt("half_away", A::Bool)], Pure, Ulps(1), infer::same, El(|t, x, a| fake_quant(t, x[0], a)),
        "round((min(max(x, lo), hi) - base) * rate - offset) * step, to even, halves up or away from zero, in f32; divided by step where rate is 0. NaN stays NaN.";
    Quantise "quantise" (1, 1) &[req("y_rate", A::Real), req("y_zero", A::Real), req("y_lo", A::Real), req("y_hi", A::Real), opt("y_half_up", A::Bool)],
        Pure, Exact, infer::quantise, El(|t, x, a| quantise(t, x[0], a)),
        "min(max(round(x * y_rate + y_zero), y_lo), y_hi) as u8, rounded to even or halves up, in f32.";
    Sigmoid "sigmoid" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| sigmoid(t, x[0])), "1 / (1 + exp(-x)).";
    Silu "silu" (1, 1) NONE, Pure, Ulps(8), infer::same, El(|t, x, _| { let s = sigmoid(t, x[0]); t.mul(x[0], s) }), "x * sigmoid(x).";
    Gelu "gelu" (1, 1) &[opt("tanh", A::Bool)], Pure, Scale(8), infer::same, El(|t, x, a| gelu(t, x[0], a.flag("tanh"))),
        "x times the normal distribution function of x, exact or by the tanh formula.";
    HardSwish "hard_swish" (1, 1) NONE, Pure, Ulps(4), infer::same, El(|t, x, _| { let s = hard_sigmoid(t, x[0]); t.mul(x[0], s) }), "x * min(max(x + 3, 0), 6) / 6.";
    HardSigmoid "hard_sigmoid" (1, 1) NONE, Pure, Ulps(4), infer::same, El(|t, x, _| hard_sigmoid(t, x[0])), "min(max(x + 3, 0), 6) / 6.";
    Softplus "softplus" (1, 1) NONE, Pure, Ulps(16), infer::same, El(|t, x, _| {
        // max(x, 0) + log1p(exp(-|x|)) overflows nowhere.
        let z = t.constant(0.0, x[0]); let m = t.bin(Bin::Max, x[0], z); let a = t.un(Un::Abs, x[0]); let n = t.un(Un::Neg, a);
        let e = t.un(Un::Exp, n); let l = t.un(Un::Log1p, e); t.add(m, l) }), "log(1 + exp(x)).";

    // Elementwise, two and three operands; shapes broadcast.
    Add "add" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Add, x[0], x[1])), "x + y; integers wrap.";
    Sub "sub" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Sub, x[0], x[1])), "x - y; integers wrap.";
    Mul "mul" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Mul, x[0], x[1])), "x * y; integers wrap.";
    Div "div" (2, 2) NONE, Pure, Ulps(1), infer::broadcast, El(|t, x, _| t.bin(Bin::Div, x[0], x[1])), "x / y; integers round to zero and fail on a zero divisor.";
    FloorDiv "floor_div" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::FloorDiv, x[0], x[1])), "x / y rounded to minus infinity.";
    Rem "rem" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Rem, x[0], x[1])), "Remainder with the sign of x.";
    Mod "mod" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Mod, x[0], x[1])), "Remainder with the sign of y.";
    Pow "pow" (2, 2) NONE, Pure, Ulps(16), infer::broadcast, El(|t, x, _| t.bin(Bin::Pow, x[0], x[1])), "x to the y.";
    Atan2 "atan2" (2, 2) NONE, Pure, Ulps(8), infer::broadcast, El(|t, x, _| t.bin(Bin::Atan2, x[0], x[1])), "Angle of the point (y, x).";
    Complex "complex" (2, 2) NONE, Pure, Exact, infer::complex, El(|t, x, _| t.bin(Bin::Complex, x[0], x[1])), "The complex number x + iy.";
    Max "max" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Max, x[0], x[1])), "The greater; NaN if either is NaN.";
    Min "min" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Min, x[0], x[1])), "The lesser; NaN if either is NaN.";
    And "and" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::And, x[0], x[1])), "Logical for bool, bitwise for integers.";
    Or "or" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Or, x[0], x[1])), "Logical for bool, bitwise for integers.";
    Xor "xor" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Xor, x[0], x[1])), "Logical for bool, bitwise for integers.";
    Shl "shl" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Shl, x[0], x[1])), "Shift left.";
    Shr "shr" (2, 2) NONE, Pure, Exact, infer::broadcast, El(|t, x, _| t.bin(Bin::Shr, x[0], x[1])), "Shift right, arithmetic for signed integers.";
    Eq "eq" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Eq, x[0], x[1])), "x == y.";
    Ne "ne" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Ne, x[0], x[1])), "x != y; true for NaN.";
    Lt "lt" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Lt, x[0], x[1])), "x < y.";
    Le "le" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Le, x[0], x[1])), "x <= y.";
    Gt "gt" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Gt, x[0], x[1])), "x > y.";
    Ge "ge" (2, 2) NONE, Pure, Exact, infer::compare, El(|t, x, _| t.cmp(Cmp::Ge, x[0], x[1])), "x >= y.";
    Select "select" (3, 3) NONE, Pure, Exact, infer::select, El(|t, x, _| t.select(x[0], x[1], x[2])), "The second operand where the first is true, else the third.";

    // Shape and data movement.
    Reshape "reshape" (1, 1) &[req("shape", A::Dims)], Pure, Exact, infer::reshape, Structured, "The same elements under another shape.";
    Transpose "transpose" (1, 1) &[req("perm", A::Ints)], Pure, Exact, infer::transpose, Structured, "Axis i of the result is axis `perm[i]` of x.";
    Broadcast "broadcast" (1, 1) &[req("shape", A::Dims)], Pure, Exact, infer::broadcast_to, Structured, "x repeated to a shape, axes aligned at the end.";
    Slice "slice" (1, 1) &[req("start", A::Dims), req("size", A::Dims), opt("stride", A::Ints)], Pure, Exact, infer::slice, Structured,
        "size elements of each axis from start, each stride-th (1 where absent).";
    Reverse "reverse" (1, 1) &[req("axes", A::Ints)], Pure, Exact, infer::reverse, Structured, "The order of elements along axes turned round.";
    Concat "concat" (1, MANY) &[req("axis", A::Int)], Pure, Exact, infer::concat, Structured, "Operands one after another along an axis.";
    Pad "pad" (2, 2) &[req("low", A::Dims), req("high", A::Dims)], Pure, Exact, infer::pad, Structured, "x with the scalar second operand around it.";
    MirrorPad "mirror_pad" (1, 1) &[req("low", A::Dims), req("high", A::Dims), opt("symmetric", A::Bool)], Pure, Exact, infer::pad, Structured,
        "x with its own elements mirrored around it, the border repeated if symmetric.";
    Gather "gather" (2, 2) &[req("axis", A::Int), opt("batch_dims", A::Int)], Pure, Exact, infer::gather, Structured,
        "Slices of the first operand along an axis at the indices of the second; an index out of range fails.";
    GatherNd "gather_nd" (2, 2) &[opt("batch_dims", A::Int)], Pure, Exact, infer::gather_nd, Structured,
        "Slices at the index tuples that the last axis of the second operand holds; an index out of range fails.";
    ScatterNd "scatter_nd" (3, 3) &[req("kind", A::Str)], Pure, Scale(64), infer::scatter_nd, Structured,
        "The first operand with updates (third) put at index tuples (second); kind: set, add, sub, mul, div, min, max.";

    // Reductions and scans.
    Reduce "reduce" (1, 1) &[req("kind", A::Str), req("axes", A::Ints), opt("keep", A::Bool)], Pure, Scale(64), infer::reduce, Structured,
        "Reduction over axes (kept with extent 1 if keep); kind: sum, mean, prod, max, min, any, all.";
    ArgReduce "arg_reduce" (1, 1) &[req("kind", A::Str), req("axis", A::Int), req("elem", A::Elem)], Pure, Exact, infer::arg_reduce, Structured,
        "Index of the first greatest (kind max) or least (min) element along an axis.";
    Cumulative "cumulative" (1, 1) &[req("kind", A::Str), req("axis", A::Int), opt("exclusive", A::Bool), opt("reverse", A::Bool)], Pure, Scale(64),
        infer::cumulative, Structured, "Running sum or prod along an axis.";
    TopK "top_k" (1, 1) &[req("k", A::Dims), opt("elem", A::Elem)], Pure, Exact, infer::top_k, Structured,
        "The k greatest elements of the last axis in order, and their indices (i32, or elem); the lower index first among equals.";
    Softmax "softmax" (1, 1) &[opt("log", A::Bool)], Pure, Scale(16), infer::softmax, Structured, "exp(x) over its sum along the last axis, or its logarithm.";
    LayerNorm "layer_norm" (3, 3) &[req("eps", A::Real)], Pure, Scale(64), infer::layer_norm, Structured,
        "(x - mean) / sqrt(variance + eps) * gamma + beta along the last axis; gamma and beta are vectors.";

    // Matrix work.
    Contract "contract" (2, 6) with_epilogue![req("lhs", A::Ints), req("rhs", A::Ints), opt("lhs_batch", A::Ints), opt("rhs_batch", A::Ints), opt("alpha", A::Real), opt("halved", A::Bool)],
        Pure, Scale(128), infer::contract, Structured,
        "Sum of products over the axes lhs of the first and rhs of the second operand; the result has batch axes, then the free axes of each. Times alpha unless that is 0. halved: by Strassen's algorithm, which does not divide it again.";
    Conv2d "conv2d" (2, 6) with_epilogue![req("strides", A::Ints), req("low", A::Dims), req("high", A::Dims), opt("dilations", A::Ints), opt("groups", A::Int)],
        Pure, Scale(128), infer::conv2d, Structured,
        "Convolution of x [n, h, w, c] with a kernel [kh, kw, c/groups, k]; low and high are the padding of h and w.";
    Depthwise "depthwise" (2, 4) with_epilogue![req("strides", A::Ints), req("low", A::Dims), req("high", A::Dims), opt("dilations", A::Ints)],
        Pure, Scale(128), infer::depthwise, Structured, "Each channel of x [n, h, w, c] with its own kernels [kh, kw, c, m]; output channel c*m.";
    ConvTranspose2d "conv_transpose2d" (2, 4) with_epilogue![req("strides", A::Ints), req("low", A::Dims), req("high", A::Dims), req("size", A::Dims), opt("dilations", A::Ints)],
        Pure, Scale(128), infer::conv_transpose2d, Structured,
        "Gradient of conv2d for its input: x [n, oh, ow, k], kernel [kh, kw, c, k], result [n, size.., c]; low and high are conv2d's.";
    Pool2d "pool2d" (1, 1) &[req("kind", A::Str), req("window", A::Ints), req("strides", A::Ints), req("low", A::Dims), req("high", A::Dims)],
        Pure, Scale(64), infer::pool2d, Structured, "Windows of x [n, h, w, c] reduced by max or by the mean of what is not padding.";
    Resize "resize" (1, 1) &[req("kind", A::Str), req("size", A::Dims), opt("align_corners", A::Bool), opt("half_pixel", A::Bool)],
        Pure, Scale(64), infer::resize, Structured, "x [n, h, w, c] at another size; kind: nearest, bilinear (gives f32).";
    Attention "attention" (3, 4) &[req("scale", A::Real)], Pure, Scale(128), infer::attention, Structured,
        "softmax(scale * q k^T + mask) v for q [n, t, h, d], k and v [n, s, h, d], mask (optional) broadcast to [n, h, t, s]; result [n, t, h, d].";

    // Regions, calls, state.
    Fused "fused" (0, MANY) NONE, Pure, Ulps(16), infer::given, Regions, "One loop over the elements of its results; the region holds elementwise ops.";
    Call "call" (0, MANY) &[req("func", A::Func)], Write, Exact, infer::given, Regions, "Calls a function of the module.";
    If "if" (1, MANY) NONE, Write, Exact, infer::given, Regions, "The first region where the scalar first operand is true, else the second.";
    While "while" (0, MANY) NONE, Write, Exact, infer::given, Regions, "The second region on the carried values while the first gives true.";
    VarRead "var.read" (0, 0) &[req("var", A::Var)], Read, Exact, infer::given, Structured, "The value of a variable.";
    VarAssign "var.assign" (1, 1) &[req("var", A::Var)], Write, Exact, infer::given, Structured, "Sets a variable.";
}

fn sigmoid(t: &mut Tape, x: T) -> T {
    let n = t.un(Un::Neg, x);
    let e = t.un(Un::Exp, n);
    let one = t.constant(1.0, x);
    let d = t.add(e, one);
    t.div(one, d)
}

fn hard_sigmoid(t: &mut Tape, x: T) -> T {
    let (three, zero, six) = (t.constant(3.0, x), t.constant(0.0, x), t.constant(6.0, x));
    let s = t.add(x, three);
    let s = t.bin(Bin::Max, s, zero);
    let s = t.bin(Bin::Min, s, six);
    let sixth = t.constant(1.0 / 6.0, x);
    t.mul(s, sixth)
}

/// To even, or halves up.
fn nearest(t: &mut Tape, x: T, half_up: bool) -> T {
    if !half_up {
        return t.un(Un::Round, x);
    }
    let half = t.constant(0.5, x);
    let x = t.add(x, half);
    t.un(Un::Floor, x)
}

/// The nearest whole number in f32, halves away from zero.
fn away(t: &mut Tape, x: T) -> T {
    // With the greatest number below a half 0.49999997 stays below 1, and a half still reaches it.
    let half = f64::from(0.5f32.next_down());
    let (zero, up, down) = (t.constant(0.0, x), t.constant(half, x), t.constant(-half, x));
    let negative = t.cmp(Cmp::Lt, x, zero);
    let half = t.select(negative, down, up);
    let x = t.add(x, half);
    t.un(Un::Trunc, x)
}

fn clamp(t: &mut Tape, x: T, lo: f64, hi: f64) -> T {
    let (lo, hi) = (t.constant(lo, x), t.constant(hi, x));
    let m = t.bin(Bin::Max, x, lo);
    t.bin(Bin::Min, m, hi)
}

fn fake_quant(t: &mut Tape, x: T, a: &Attrs) -> T {
    let elem = t.elem(x);
    let x = in_f32(t, x);
    let mut y = clamp(t, x, a.real("lo"), a.real("hi"));
    let (base, rate, offset, step) = (a.real("base"), a.real("rate"), a.real("offset"), t.constant(a.real("step"), x));
    if base != 0.0 {
        let base = t.constant(base, x);
        y = t.sub(y, base);
    }
    y = if rate == 0.0 {
        t.div(y, step)
    } else {
        let rate = t.constant(rate, x);
        t.mul(y, rate)
    };
    if offset != 0.0 {
        let offset = t.constant(offset, x);
        y = t.sub(y, offset);
    }
    y = if a.flag("half_away") { away(t, y) } else { nearest(t, y, a.flag("half_up")) };
    y = t.mul(y, step);
    if elem == Elem::F32 { y } else { t.cast(y, elem) }
}

fn in_f32(t: &mut Tape, x: T) -> T {
    if t.elem(x) == Elem::F32 { x } else { t.cast(x, Elem::F32) }
}

fn quantise(t: &mut Tape, x: T, a: &Attrs) -> T {
    let x = in_f32(t, x);
    let (rate, zero) = (t.constant(a.real("y_rate"), x), t.constant(a.real("y_zero"), x));
    let y = t.fma(x, rate, zero);
    let y = clamp(t, y, a.real("y_lo"), a.real("y_hi"));
    let y = nearest(t, y, a.flag("y_half_up"));
    t.cast(y, Elem::U8)
}

fn gelu(t: &mut Tape, x: T, tanh: bool) -> T {
    let (half, one) = (t.constant(0.5, x), t.constant(1.0, x));
    let cdf2 = if tanh {
        let (a, b) = (t.constant(0.044715, x), t.constant((2.0 / std::f64::consts::PI).sqrt(), x));
        let x2 = t.mul(x, x);
        let x3 = t.mul(x2, x);
        let cubic = t.mul(x3, a);
        let inner = t.add(x, cubic);
        let inner = t.mul(inner, b);
        let th = t.un(Un::Tanh, inner);
        t.add(th, one)
    } else {
        let r = t.constant(std::f64::consts::FRAC_1_SQRT_2, x);
        let z = t.mul(x, r);
        // 1 + erf(z) = erfc(-z), which keeps its digits in the left tail.
        let z = t.un(Un::Neg, z);
        t.un(Un::Erfc, z)
    };
    let h = t.mul(x, half);
    t.mul(h, cdf2)
}

impl Op {
    pub fn def(self) -> &'static OpDef {
        &DEFS[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// The op of that name in the text form.
    pub fn parse(name: &str) -> Option<Op> {
        DEFS.iter().find(|d| d.name == name).map(|d| d.op)
    }

    /// True for ops that compute each element of the result from the elements at the same place.
    pub fn is_elementwise(self) -> bool {
        matches!(self.def().body, Body::Elementwise(_))
    }

    /// True for ops that take an epilogue (bias, residual, activation).
    pub fn has_epilogue(self) -> bool {
        matches!(self, Op::Contract | Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d)
    }
}

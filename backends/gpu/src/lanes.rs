//! Lane code as operations of a kernel.

use crate::build::{Build, V};
use crate::functions;
use crate::target::{Cell, Flavour};
use graphc_abi::Status;
use graphc_cpu::tape::code::{Code, Cond, Mem, Op, Rounding, Ty};
use graphc_cpu::tape::legalize::{Features, legalize};

/// What lane code that GPUs get may have.
const FEATURES: Features = Features { half: false, scale: false, round: true, compare: true };

/// The memory of elements that lie as `mem` and have the lane type `ty`.
pub fn cell(mem: Mem, ty: Ty) -> Cell {
    match (mem, ty) {
        (Mem::U8 | Mem::S8, _) => Cell::I8,
        (Mem::U16 | Mem::S16, _) => Cell::I16,
        (Mem::W32, Ty::F32) => Cell::F32,
        (Mem::W32, _) => Cell::I32,
        (Mem::W64, Ty::F64) => Cell::F64,
        (Mem::W64, _) => Cell::I64,
    }
}

/// The bits of a narrow element in the lane's form.
pub fn extended<'c>(b: &mut Build<'c>, v: V<'c>, mem: Mem) -> V<'c> {
    let by = match mem {
        Mem::S8 => 24,
        Mem::S16 => 16,
        _ => return v,
    };
    let by = b.i32(by);
    let v = b.arith("arith.shli", v, by);
    b.arith("arith.shrsi", v, by)
}

/// The results of `code`, made legal for GPUs first; `leaf` gives the values of `Load` and `Index`.
///
/// # Errors
/// The operation that GPUs have no code for.
pub fn run<'c>(
    b: &mut Build<'c>,
    code: &Code,
    leaf: &mut dyn FnMut(&mut Build<'c>, &Op, Ty) -> V<'c>,
) -> Result<Vec<V<'c>>, String> {
    let code = legalize(code, FEATURES);
    let mut vals: Vec<V<'c>> = Vec::with_capacity(code.ops().len());
    for (op, ty) in code.ops() {
        let v = match op {
            Op::Load(_) | Op::Index(_) => leaf(b, op, *ty),
            _ => operation(b, op, *ty, &vals)?,
        };
        vals.push(v);
    }
    Ok(code.results.iter().map(|r| vals[r.index()]).collect())
}

/// The value of one operation.
fn operation<'c>(b: &mut Build<'c>, op: &Op, ty: Ty, vals: &[V<'c>]) -> Result<V<'c>, String> {
    use Op::*;
    let v = |x: graphc_cpu::tape::code::V| vals[x.index()];
    Ok(match *op {
        Const(bits) => b.constant(bits, ty),
        Load(_) | Index(_) => return Err("a leaf inside of lane code".into()),
        Add(x, y) => b.add(v(x), v(y)),
        Sub(x, y) => b.sub(v(x), v(y)),
        Mul(x, y) => b.mul(v(x), v(y)),
        Div(x, y) => b.div(v(x), v(y)),
        Sqrt(x) if ty == Ty::F64 && matches!(b.flavour, Flavour::Spirv(_)) => functions::sqrt(b, v(x)),
        Sqrt(x) => b.unary("math.sqrt", v(x), ty),
        Fma(x, y, z) => b.fma(v(x), v(y), v(z)),
        Fnma(x, y, z) => {
            let p = b.mul(v(x), v(y));
            b.sub(v(z), p)
        }
        Min(x, y) if !ty.is_float() => b.min(v(x), v(y)),
        Max(x, y) if !ty.is_float() => b.max(v(x), v(y)),
        Min(x, y) | Max(x, y) => {
            let how = if matches!(op, Min(..)) { Cond::Lt } else { Cond::Gt };
            let first = b.cmp(how, v(x), v(y));
            b.select(first, v(x), v(y))
        }
        Round(how, x) if ty == Ty::F64 && matches!(b.flavour, Flavour::Spirv(_)) => functions::round(b, how, v(x)),
        Round(how, x) => {
            let name = match how {
                Rounding::Nearest => "math.roundeven",
                Rounding::Down => "math.floor",
                Rounding::Up => "math.ceil",
                Rounding::Zero => {
                    let (down, up) = (b.unary("math.floor", v(x), ty), b.unary("math.ceil", v(x), ty));
                    let zero = b.constant(0, ty);
                    let negative = b.cmp(Cond::Lt, v(x), zero);
                    return Ok(b.select(negative, up, down));
                }
            };
            b.unary(name, v(x), ty)
        }
        And(x, y) | Or(x, y) | Xor(x, y) => {
            let name = match op {
                And(..) => "arith.andi",
                Or(..) => "arith.ori",
                _ => "arith.xori",
            };
            let (x, y) = (as_bits(b, v(x)), as_bits(b, v(y)));
            let r = b.arith(name, x, y);
            as_type(b, r, ty)
        }
        Shl(x, n) | Shr(x, n) | Sar(x, n) => {
            let n = b.constant(u64::from(n), ty);
            b.arith(shift(op), v(x), n)
        }
        ShlV(x, n) | ShrV(x, n) | SarV(x, n) => b.arith(shift(op), v(x), v(n)),
        Quot(x, y) => b.arith("arith.divsi", v(x), v(y)),
        Rest(x, y) => b.arith("arith.remsi", v(x), v(y)),
        UQuot(x, y) => b.arith("arith.divui", v(x), v(y)),
        URest(x, y) => b.arith("arith.remui", v(x), v(y)),
        Cmp(how, x, y) => b.cmp(how, v(x), v(y)),
        UCmp(how, x, y) => b.ucmp(how, v(x), v(y)),
        Select(m, x, y) => b.select(v(m), v(x), v(y)),
        Bits(x) => b.unary("arith.bitcast", v(x), ty),
        Float(x) => b.unary("arith.sitofp", v(x), ty),
        FloatU(x) => b.unary("arith.uitofp", v(x), ty),
        Int(x) => truncated(b, v(x), ty),
        Widen(x) if ty.is_float() => b.unary("arith.extf", v(x), ty),
        Widen(x) => b.unary("arith.extsi", v(x), ty),
        WidenU(x) => b.unary("arith.extui", v(x), ty),
        Narrow(x) if ty.is_float() => b.unary("arith.truncf", v(x), ty),
        Narrow(x) => b.unary("arith.trunci", v(x), ty),
        Scale2(..) | ToHalf(_) | FromHalf(_) => return Err("an operation that was not made legal".into()),
        Call(name, x, y) => functions::call(b, name, v(x), y.map(v))?,
        Fail(m) => {
            let zero = b.i32(0);
            b.fail(v(m), Status::DivisionByZero, zero, zero);
            v(m)
        }
    })
}

fn shift(op: &Op) -> &'static str {
    match op {
        Op::Shl(..) | Op::ShlV(..) => "arith.shli",
        Op::Shr(..) | Op::ShrV(..) => "arith.shrui",
        _ => "arith.shrsi",
    }
}

fn as_bits<'c>(b: &mut Build<'c>, v: V<'c>) -> V<'c> {
    match v.ty {
        Ty::F32 => b.unary("arith.bitcast", v, Ty::I32),
        Ty::F64 => b.unary("arith.bitcast", v, Ty::I64),
        _ => v,
    }
}

fn as_type<'c>(b: &mut Build<'c>, v: V<'c>, ty: Ty) -> V<'c> {
    if v.ty == ty { v } else { b.unary("arith.bitcast", v, ty) }
}

/// A float to a signed integer of its width, to zero; the least value for NaN and what does not fit.
fn truncated<'c>(b: &mut Build<'c>, x: V<'c>, ty: Ty) -> V<'c> {
    let float = |v: f64| if x.ty == Ty::F64 { v.to_bits() } else { u64::from((v as f32).to_bits()) };
    let (limit, least) = if ty == Ty::I64 { (9_223_372_036_854_775_808.0, i64::MIN as u64) } else { (2_147_483_648.0, 1 << 31) };
    let (low, high, zero) = (b.constant(float(-limit), x.ty), b.constant(float(limit), x.ty), b.constant(0, x.ty));
    let (above, below) = (b.cmp(Cond::Ge, x, low), b.cmp(Cond::Lt, x, high));
    let fits = b.and(above, below);
    let safe = b.select(fits, x, zero);
    let v = b.unary("arith.fptosi", safe, ty);
    let least = b.constant(least, ty);
    b.select(fits, v, least)
}

//! Replaces operations that a target lacks by sequences of those that every target has.

use super::code::{Code, Cond, Op, Rounding, Ty, V};

/// What a target can do besides the operations that all have.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    pub half: bool,
    pub scale: bool,
    pub round: bool,
    /// All comparisons of integers, not only equal and greater.
    pub compare: bool,
}

/// `code` without the operations that `f` lacks.
pub fn legalize(code: &Code, f: Features) -> Code {
    let mut c = Code::default();
    let mut map: Vec<V> = Vec::with_capacity(code.ops().len());
    for (op, ty) in code.ops() {
        let v = match op.map(|v| map[v.index()]) {
            Op::ToHalf(a) if !f.half => to_half(&mut c, a),
            Op::FromHalf(a) if !f.half => from_half(&mut c, a),
            Op::Scale2(a, n) if !f.scale => scale(&mut c, a, n),
            Op::Round(r, a) if !f.round => round(&mut c, r, a),
            Op::Cmp(how, a, b) if !f.compare && c.ty(a) == Ty::I32 => compare(&mut c, how, a, b),
            Op::UCmp(how, a, b) if !f.compare => {
                let sign = c.int(i32::MIN as i64, Ty::I32);
                let (a, b) = (c.xor(a, sign), c.xor(b, sign));
                compare(&mut c, how, a, b)
            }
            op => c.push(op, *ty),
        };
        map.push(v);
    }
    c.results = code.results.iter().map(|r| map[r.index()]).collect();
    c.prune();
    c
}

/// Signed comparison by equal and greater.
fn compare(c: &mut Code, how: Cond, a: V, b: V) -> V {
    let (gt, lt) = (|c: &mut Code| c.cmp(Cond::Gt, a, b), |c: &mut Code| c.cmp(Cond::Gt, b, a));
    let (m, negate) = match how {
        Cond::Eq => (c.cmp(Cond::Eq, a, b), false),
        Cond::Ne => (c.cmp(Cond::Eq, a, b), true),
        Cond::Gt => (gt(c), false),
        Cond::Le => (gt(c), true),
        Cond::Lt => (lt(c), false),
        Cond::Ge => (lt(c), true),
    };
    if negate { c.not(m) } else { m }
}

/// Two products, of which only the second can round.
fn scale(c: &mut Code, a: V, n: V) -> V {
    let bias = c.int(127, Ty::I32);
    let n = c.push(Op::Int(n), Ty::I32);
    let half = c.sar(n, 1);
    let rest = c.sub(n, half);
    let mut v = a;
    for part in [half, rest] {
        let e = c.add(part, bias);
        let e = c.shl(e, 23);
        let power = c.bits(e);
        v = c.mul(v, power);
    }
    v
}

/// By adding and taking away the power of two whose unit is one.
fn round(c: &mut Code, how: Rounding, x: V) -> V {
    let ty = c.ty(x);
    let magnitude = c.abs(x);
    let sign = c.float(-0.0, ty);
    let sign = c.and(x, sign);
    let unit = c.float(if ty == Ty::F64 { 4_503_599_627_370_496.0 } else { 8_388_608.0 }, ty);
    let one = c.float(1.0, ty);
    let up = c.add(magnitude, unit);
    let nearest = c.sub(up, unit);
    let fractional = c.cmp(Cond::Lt, magnitude, unit);
    let value = match how {
        Rounding::Nearest => c.or(nearest, sign),
        Rounding::Zero => {
            let over = c.cmp(Cond::Gt, nearest, magnitude);
            let less = c.sub(nearest, one);
            let t = c.select(over, less, nearest);
            c.or(t, sign)
        }
        Rounding::Down | Rounding::Up => {
            let r = c.or(nearest, sign);
            let (off, fixed) =
                if how == Rounding::Down { (c.cmp(Cond::Gt, r, x), c.sub(r, one)) } else { (c.cmp(Cond::Lt, r, x), c.add(r, one)) };
            let r = c.select(off, fixed, r);
            // What rounds to zero keeps the sign of `x`; elsewhere it has it already.
            c.or(r, sign)
        }
    };
    c.select(fractional, value, x)
}

/// Bits of an f16 in an `I32` to `F32`, exact.
fn from_half(c: &mut Code, h: V) -> V {
    let k = |c: &mut Code, v: i64| c.int(v, Ty::I32);
    let low = k(c, 0x7fff);
    let low = c.and(h, low);
    let shifted = c.shl(low, 13);
    let exponent_bits = k(c, 0x0f80_0000);
    let exponent = c.and(shifted, exponent_bits);
    let bias = k(c, 112 << 23);
    let normal = c.add(shifted, bias);
    let special = c.add(normal, bias);
    let is_special = c.cmp(Cond::Eq, exponent, exponent_bits);
    let value = c.select(is_special, special, normal);
    let value = c.bits(value);
    // Subnormal: one unit of the least normal's exponent more, taken away as a float.
    let unit = k(c, 1 << 23);
    let small = c.add(normal, unit);
    let small = c.bits(small);
    let least = c.f32(f32::from_bits(113 << 23));
    let small = c.sub(small, least);
    let zero = k(c, 0);
    let is_small = c.cmp(Cond::Eq, exponent, zero);
    let value = c.select(is_small, small, value);
    let sign_bit = k(c, 0x8000);
    let sign = c.and(h, sign_bit);
    let sign = c.shl(sign, 16);
    let sign = c.bits(sign);
    c.or(value, sign)
}

/// `F32` to the bits of the nearest f16, ties to even.
fn to_half(c: &mut Code, x: V) -> V {
    let k = |c: &mut Code, v: i64| c.int(v, Ty::I32);
    let bits = c.bits(x);
    let magnitude = c.abs(x);
    let m = c.bits(magnitude);
    // Subnormal halves: the float addition aligns the bits.
    let magic = c.f32(0.5);
    let aligned = c.add(magnitude, magic);
    let (aligned, magic_bits) = (c.bits(aligned), k(c, 0.5f32.to_bits() as i64));
    let small = c.sub(aligned, magic_bits);
    let one = k(c, 1);
    let odd = c.shr(m, 13);
    let odd = c.and(odd, one);
    let rebias = k(c, 0xfff - (112i64 << 23));
    let normal = c.add(m, rebias);
    let normal = c.add(normal, odd);
    let normal = c.shr(normal, 13);
    let least = c.f32(f32::from_bits(113 << 23));
    let is_small = c.cmp(Cond::Lt, magnitude, least);
    let v = c.select(is_small, small, normal);
    let limit = c.f32(65536.0);
    let (infinity, nan) = (k(c, 0x7c00), k(c, 0x7e00));
    let fits = c.cmp(Cond::Lt, magnitude, limit);
    let is_nan = c.is_nan(x);
    let v = c.select(fits, v, infinity);
    let v = c.select(is_nan, nan, v);
    let (sign_bit, sixteen) = (k(c, 0x8000), c.shr(bits, 16));
    let sign = c.and(sixteen, sign_bit);
    c.or(v, sign)
}

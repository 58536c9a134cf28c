//! Conversions between the types of lanes, and between lanes and memory.

use super::TapeError;
use super::code::{Code, Cond, Op, Ty, V};
use super::expand::{Expander, Lane, lane, wrap, wrapped};
use graphc_ir::Elem;

/// Rounds an `F32` lane to a half format.
pub fn round_to(c: &mut Code, v: V, elem: Elem) -> V {
    match elem {
        Elem::F16 => {
            let h = c.push(Op::ToHalf(v), Ty::I32);
            c.push(Op::FromHalf(h), Ty::F32)
        }
        Elem::BF16 => {
            let bits = c.bits(v);
            let (half, one, high) = (c.int(0x7fff, Ty::I32), c.int(1, Ty::I32), c.int(!0xffff, Ty::I32));
            let odd = c.shr(bits, 16);
            let odd = c.and(odd, one);
            let up = c.add(bits, half);
            let up = c.add(up, odd);
            let up = c.and(up, high);
            let up = c.bits(up);
            let nan = c.f32(f32::NAN);
            let is_nan = c.is_nan(v);
            c.select(is_nan, nan, up)
        }
        _ => v,
    }
}

/// The value in a lane as it goes to memory of `elem`: `I32` or wider bits, or a float of the element's width.
pub fn to_memory(c: &mut Code, v: V, elem: Elem) -> V {
    match elem {
        Elem::Bool => {
            let (one, zero) = (c.int(1, Ty::I32), c.int(0, Ty::I32));
            c.select(v, one, zero)
        }
        Elem::F16 => c.push(Op::ToHalf(v), Ty::I32),
        Elem::BF16 => {
            let bits = c.bits(v);
            c.shr(bits, 16)
        }
        _ => v,
    }
}

/// `v` rounded to a half format.
pub fn half_constant(v: f64, elem: Elem) -> f32 {
    let x = v as f32;
    if x.is_nan() {
        return x;
    }
    if elem == Elem::BF16 {
        let bits = x.to_bits();
        return f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000);
    }
    // Ten bits below the leading one, or multiples of 2^-24.
    let exponent = ((x.to_bits() >> 23) & 0xff) as i32 - 127;
    let unit = (exponent.max(-14) - 10) as f64;
    let r = (x as f64 / unit.exp2()).round_ties_even() * unit.exp2();
    if r.abs() >= 65520.0 { f32::INFINITY.copysign(x) } else { r as f32 }
}

impl Expander<'_> {
    /// `v` of type `from` as `to`.
    pub fn cast(&mut self, v: V, from: Elem, to: Elem) -> Result<V, TapeError> {
        if from == to {
            return Ok(v);
        }
        let (s, d) = (lane(from)?, lane(to)?);
        if s.ty == Ty::Mask {
            let (one, zero) = if d.ty.is_float() {
                (self.c.float(1.0, d.ty), self.c.float(0.0, d.ty))
            } else {
                (self.c.int(wrapped(1, d), d.ty), self.c.int(0, d.ty))
            };
            return Ok(self.c.select(v, one, zero));
        }
        if d.ty == Ty::Mask {
            return Ok(self.non_zero(v));
        }
        match (s.ty.is_float(), d.ty.is_float()) {
            (true, true) => {
                let v = match (s.ty, d.ty) {
                    (Ty::F32, Ty::F64) => self.c.push(Op::Widen(v), Ty::F64),
                    (Ty::F64, Ty::F32) => self.c.push(Op::Narrow(v), Ty::F32),
                    _ => v,
                };
                Ok(round_to(&mut self.c, v, to))
            }
            (false, true) => {
                let v = self.int_to_float(v, s, d.ty);
                Ok(round_to(&mut self.c, v, to))
            }
            (true, false) => Ok(self.float_to_int(v, d)),
            (false, false) => {
                let v = match (s.ty, d.ty) {
                    (Ty::I32, Ty::I64) => return Ok(self.as_i64(v, s)),
                    (Ty::I64, Ty::I32) => match self.c.op(v) {
                        Op::Index(axis) => self.c.push(Op::Index(axis), Ty::I32),
                        _ => self.c.push(Op::Narrow(v), Ty::I32),
                    },
                    _ => v,
                };
                Ok(wrap(&mut self.c, v, d))
            }
        }
    }

    fn int_to_float(&mut self, v: V, s: Lane, to: Ty) -> V {
        let c = &mut self.c;
        match (s.ty, s.signed || s.bits < 32) {
            (_, true) => c.push(Op::Float(v), to),
            (Ty::I64, false) => c.push(Op::FloatU(v), to),
            (_, false) => {
                // Two exact halves and one rounding.
                let low = c.int(0xffff, Ty::I32);
                let (high, low) = (c.shr(v, 16), c.and(v, low));
                let (high, low) = (c.push(Op::Float(high), to), c.push(Op::Float(low), to));
                let scale = c.float(65536.0, to);
                c.fma(high, scale, low)
            }
        }
    }

    /// To zero; NaN and overflow give the least value.
    fn float_to_int(&mut self, v: V, d: Lane) -> V {
        let ty = self.c.ty(v);
        let i = self.c.push(Op::Int(v), d.ty);
        let least = self.c.int(wrapped(if d.signed { -1 << (d.bits - 1) } else { 0 }, d), d.ty);
        if d.bits == 32 || d.bits == 64 {
            if d.signed {
                return i;
            }
            // The upper half of the range by way of the lower.
            let half = (d.bits as f64 - 1.0).exp2();
            let bias = self.c.float(half, ty);
            let moved = self.c.sub(v, bias);
            let upper = self.c.push(Op::Int(moved), d.ty);
            let sign = self.c.int(i64::MIN >> (64 - d.bits), d.ty);
            let upper = self.c.xor(upper, sign);
            let high = self.against(Cond::Ge, v, half);
            let value = self.c.select(high, upper, i);
            let (above, below) = (self.against(Cond::Gt, v, -1.0), self.against(Cond::Lt, v, 2.0 * half));
            let inside = self.c.and(above, below);
            return self.c.select(inside, value, least);
        }
        let (lo, hi) = if d.signed { (-1i64 << (d.bits - 1), (1i64 << (d.bits - 1)) - 1) } else { (0, (1 << d.bits) - 1) };
        let (lo, hi) = (self.c.int(lo, Ty::I32), self.c.int(hi, Ty::I32));
        let (above, below) = (self.c.cmp(Cond::Ge, i, lo), self.c.cmp(Cond::Le, i, hi));
        let inside = self.c.and(above, below);
        self.c.select(inside, i, least)
    }
}

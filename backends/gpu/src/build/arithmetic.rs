//! Arithmetic, comparisons and selections.

use super::{Build, V, What};
use crate::target::Flavour;
use graphc_cpu::tape::code::{Cond, Ty};
use melior::ir::Attribute;
use melior::ir::attribute::IntegerAttribute;
use melior::ir::r#type::IntegerType;

impl<'c> Build<'c> {
    fn folded(&self, a: V<'c>, b: V<'c>, f: impl Fn(i64, i64) -> Option<i64>) -> Option<V<'c>> {
        let v = f(a.known()?, b.known()?)?;
        Some(if a.ty == Ty::I64 { self.constant(v as u64, Ty::I64) } else { self.i32(v) })
    }

    pub fn add(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        if a.ty.is_float() {
            return self.float_op("arith.addf", a, b);
        }
        match (a.known(), b.known()) {
            (Some(0), _) => b,
            (_, Some(0)) => a,
            _ => self.folded(a, b, |x, y| Some(x.wrapping_add(y))).unwrap_or_else(|| self.one("arith.addi", &[a, b], a.ty)),
        }
    }

    pub fn sub(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        if a.ty.is_float() {
            return self.float_op("arith.subf", a, b);
        }
        if b.known() == Some(0) {
            return a;
        }
        self.folded(a, b, |x, y| Some(x.wrapping_sub(y))).unwrap_or_else(|| self.one("arith.subi", &[a, b], a.ty))
    }

    pub fn mul(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        if a.ty.is_float() {
            return self.float_op("arith.mulf", a, b);
        }
        match (a.known(), b.known()) {
            (Some(0), _) | (_, Some(1)) => a,
            (_, Some(0)) | (Some(1), _) => b,
            _ => self.folded(a, b, |x, y| Some(x.wrapping_mul(y))).unwrap_or_else(|| self.one("arith.muli", &[a, b], a.ty)),
        }
    }

    /// A product and a sum, which the target may round once.
    pub fn fma(&mut self, a: V<'c>, b: V<'c>, c: V<'c>) -> V<'c> {
        if a.ty == Ty::F32 && matches!(self.flavour, Flavour::Spirv(_)) {
            return self.one("math.fma", &[a, b, c], a.ty);
        }
        let p = self.mul(a, b);
        self.add(p, c)
    }

    fn float_op(&mut self, name: &str, a: V<'c>, b: V<'c>) -> V<'c> {
        match self.contract() {
            Some(flags) => self.one_with(name, &[a, b], a.ty, &[("fastmath", flags)]),
            None => self.one(name, &[a, b], a.ty),
        }
    }

    /// Products of f32 and sums may be one instruction in PTX; in SPIR-V all is exact, see [`crate::spirv`].
    fn contract(&self) -> Option<Attribute<'c>> {
        matches!(self.flavour, Flavour::Ptx(_)).then(|| Attribute::parse(self.cx, "#arith.fastmath<contract>")).flatten()
    }

    /// The quotient of floats.
    pub fn div(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        self.one("arith.divf", &[a, b], a.ty)
    }

    /// The quotient of integers that are not negative, rounded down.
    pub fn quot(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        if b.known() == Some(1) {
            return a;
        }
        self.folded(a, b, i64::checked_div).unwrap_or_else(|| self.one("arith.divui", &[a, b], a.ty))
    }

    /// The remainder of integers that are not negative.
    pub fn rest(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        if b.known() == Some(1) {
            return self.constant(0, a.ty);
        }
        self.folded(a, b, i64::checked_rem).unwrap_or_else(|| self.one("arith.remui", &[a, b], a.ty))
    }

    /// Any binary operation of the dialect `arith` that keeps the type.
    pub fn arith(&mut self, name: &str, a: V<'c>, b: V<'c>) -> V<'c> {
        self.one(name, &[a, b], a.ty)
    }

    /// Any unary operation that gives `ty`.
    pub fn unary(&mut self, name: &str, a: V<'c>, ty: Ty) -> V<'c> {
        let intrinsic = match name {
            "math.sqrt" => "sqrt",
            "math.roundeven" => "roundeven",
            "math.floor" => "floor",
            "math.ceil" => "ceil",
            "math.trunc" => "trunc",
            _ => return self.one(name, &[a], ty),
        };
        match self.flavour {
            Flavour::Spirv(_) => self.one(name, &[a], ty),
            // NVVM's lowering of these calls a library; the intrinsics are instructions.
            Flavour::Ptx(_) => {
                let bits = if ty == Ty::F64 { 64 } else { 32 };
                let t = self.ty(ty);
                match self.intrinsic(&format!("llvm.{intrinsic}.f{bits}"), &[a], t).first() {
                    Some(&v) => V { ty, what: What::Value(v) },
                    None => a,
                }
            }
        }
    }

    /// A comparison; of integers as signed ones, and of floats false for NaN but for `Ne`.
    pub fn cmp(&mut self, how: Cond, a: V<'c>, b: V<'c>) -> V<'c> {
        if !a.ty.is_float() {
            if let (Some(x), Some(y)) = (a.known(), b.known()) {
                let holds = match how {
                    Cond::Eq => x == y,
                    Cond::Ne => x != y,
                    Cond::Lt => x < y,
                    Cond::Le => x <= y,
                    Cond::Gt => x > y,
                    Cond::Ge => x >= y,
                };
                return self.bool(holds);
            }
            // eq, ne, slt, sle, sgt, sge
            let code = match how {
                Cond::Eq => 0,
                Cond::Ne => 1,
                Cond::Lt => 2,
                Cond::Le => 3,
                Cond::Gt => 4,
                Cond::Ge => 5,
            };
            return self.compare("arith.cmpi", code, a, b);
        }
        // oeq, une, olt, ole, ogt, oge
        let code = match how {
            Cond::Eq => 1,
            Cond::Ne => 13,
            Cond::Lt => 4,
            Cond::Le => 5,
            Cond::Gt => 2,
            Cond::Ge => 3,
        };
        self.compare("arith.cmpf", code, a, b)
    }

    /// A comparison of integers as unsigned ones.
    pub fn ucmp(&mut self, how: Cond, a: V<'c>, b: V<'c>) -> V<'c> {
        let code = match how {
            Cond::Eq => 0,
            Cond::Ne => 1,
            Cond::Lt => 6,
            Cond::Le => 7,
            Cond::Gt => 8,
            Cond::Ge => 9,
        };
        self.compare("arith.cmpi", code, a, b)
    }

    fn compare(&mut self, name: &str, code: i64, a: V<'c>, b: V<'c>) -> V<'c> {
        let predicate = IntegerAttribute::new(IntegerType::new(self.cx, 64).into(), code).into();
        self.one_with(name, &[a, b], Ty::Mask, &[("predicate", predicate)])
    }

    pub fn lt(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        self.cmp(Cond::Lt, a, b)
    }

    /// `0 <= a < n`.
    pub fn inside(&mut self, a: V<'c>, n: V<'c>) -> V<'c> {
        self.ucmp(Cond::Lt, a, n)
    }

    pub fn and(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        match (a.what, b.what, a.ty) {
            (What::Const(x), _, Ty::Mask) => {
                if x & 1 == 1 {
                    b
                } else {
                    a
                }
            }
            (_, What::Const(y), Ty::Mask) => {
                if y & 1 == 1 {
                    a
                } else {
                    b
                }
            }
            _ => self.one("arith.andi", &[a, b], a.ty),
        }
    }

    pub fn select(&mut self, m: V<'c>, a: V<'c>, b: V<'c>) -> V<'c> {
        match m.what {
            What::Const(bits) => {
                if bits & 1 == 1 {
                    a
                } else {
                    b
                }
            }
            What::Value(_) => self.one("arith.select", &[m, a, b], a.ty),
        }
    }

    /// The lesser of signed integers.
    pub fn min(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        self.folded(a, b, |x, y| Some(x.min(y))).unwrap_or_else(|| self.one("arith.minsi", &[a, b], a.ty))
    }

    pub fn max(&mut self, a: V<'c>, b: V<'c>) -> V<'c> {
        self.folded(a, b, |x, y| Some(x.max(y))).unwrap_or_else(|| self.one("arith.maxsi", &[a, b], a.ty))
    }

    /// `i32` as `i64`, by its sign.
    pub fn wide(&mut self, a: V<'c>) -> V<'c> {
        match a.known() {
            Some(v) => self.constant(v as u64, Ty::I64),
            None => self.unary("arith.extsi", a, Ty::I64),
        }
    }
}

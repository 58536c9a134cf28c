//! Operations of lane code as Cranelift IR, one element or four.

use super::code::{Code, Cond, Mem, Op, Rounding, Ty, V};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, F64, I8, I8X16, I16X8, I32, I32X4, I64};
use cranelift_codegen::ir::{Block, Endianness, FuncRef, InstBuilder, MemFlagsData, Type, Value};
use cranelift_frontend::FunctionBuilder;
use hashbrown::HashMap;

/// Lanes of a vector.
pub const WIDTH: usize = 4;

/// Memory of the loop's buffers: aligned to elements only.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// What the lowering needs of its surroundings.
pub struct Target<'a> {
    pub fma: bool,
    pub x64: bool,
    pub calls: &'a HashMap<&'static str, FuncRef>,
    /// Where a failing iteration goes.
    pub fail: Block,
}

/// Values of a given width.
pub struct Lower<'a, 'b, 'c> {
    pub b: &'a mut FunctionBuilder<'b>,
    pub target: &'a Target<'c>,
    /// 1 or `WIDTH`.
    pub width: usize,
}

/// Type of `ty` in values of `width`.
pub fn clif_type(ty: Ty, width: usize) -> Type {
    match (ty, width) {
        (Ty::Mask, 1) => I8,
        (Ty::I32, 1) => I32,
        (Ty::I64, 1) => I64,
        (Ty::F32, 1) => F32,
        (Ty::F64, 1) => F64,
        (Ty::F32, _) => F32X4,
        _ => I32X4,
    }
}

impl Lower<'_, '_, '_> {
    /// The values of all operations of `code`; `leaf` gives those of `Load` and `Index`.
    pub fn run(&mut self, code: &Code, leaf: &mut dyn FnMut(&mut Self, &Op, Ty) -> Value) -> Vec<Value> {
        let mut vals: Vec<Value> = Vec::with_capacity(code.ops().len());
        for (op, ty) in code.ops() {
            let v = match op {
                Op::Load(_) | Op::Index(_) => leaf(self, op, *ty),
                _ => self.op(code, op, *ty, &vals),
            };
            vals.push(v);
        }
        vals
    }

    fn scalar(&self) -> bool {
        self.width == 1
    }

    /// A constant of a lane type from its bits.
    pub fn constant(&mut self, bits: u64, ty: Ty) -> Value {
        let ins = self.b.ins();
        let v = match ty {
            Ty::Mask if self.width == 1 => return ins.iconst(I8, (bits & 1) as i64),
            Ty::Mask => ins.iconst(I32, if bits & 1 == 1 { 0xffff_ffff } else { 0 }),
            Ty::I32 => ins.iconst(I32, (bits as u32) as i64),
            Ty::I64 => ins.iconst(I64, bits as i64),
            Ty::F32 => ins.f32const(f32::from_bits(bits as u32)),
            Ty::F64 => ins.f64const(f64::from_bits(bits)),
        };
        self.splat(v, ty)
    }

    /// A scalar value in all lanes; `v` itself at width 1. Not of masks.
    pub fn splat(&mut self, v: Value, ty: Ty) -> Value {
        if self.scalar() { v } else { self.b.ins().splat(clif_type(ty, self.width), v) }
    }

    fn cast(&mut self, v: Value, to: Type) -> Value {
        if self.b.func.dfg.value_type(v) == to {
            return v;
        }
        self.b.ins().bitcast(to, MemFlagsData::new().with_endianness(Endianness::Little), v)
    }

    fn op(&mut self, code: &Code, op: &Op, ty: Ty, vals: &[Value]) -> Value {
        use Op::*;
        let v = |x: V| vals[x.index()];
        let float = ty.is_float();
        let t = clif_type(ty, self.width);
        match *op {
            Const(bits) => self.constant(bits, ty),
            Load(_) | Index(_) => unreachable!("leaves come from the caller"),
            Add(a, b) if float => self.b.ins().fadd(v(a), v(b)),
            Add(a, b) => self.b.ins().iadd(v(a), v(b)),
            Sub(a, b) if float => self.b.ins().fsub(v(a), v(b)),
            Sub(a, b) => self.b.ins().isub(v(a), v(b)),
            Mul(a, b) if float => self.b.ins().fmul(v(a), v(b)),
            Mul(a, b) => self.b.ins().imul(v(a), v(b)),
            Div(a, b) => self.b.ins().fdiv(v(a), v(b)),
            Sqrt(a) => self.b.ins().sqrt(v(a)),
            Fma(a, b, c) if self.target.fma => self.b.ins().fma(v(a), v(b), v(c)),
            Fma(a, b, c) => {
                let p = self.b.ins().fmul(v(a), v(b));
                self.b.ins().fadd(p, v(c))
            }
            Fnma(a, b, c) if self.target.fma => {
                let n = self.b.ins().fneg(v(a));
                self.b.ins().fma(n, v(b), v(c))
            }
            Fnma(a, b, c) => {
                let p = self.b.ins().fmul(v(a), v(b));
                self.b.ins().fsub(v(c), p)
            }
            Min(a, b) | Max(a, b) if float => {
                let less = matches!(op, Min(..));
                let m = self.b.ins().fcmp(if less { FloatCC::LessThan } else { FloatCC::GreaterThan }, v(a), v(b));
                self.pick(m, v(a), v(b))
            }
            Min(a, b) => self.b.ins().smin(v(a), v(b)),
            Max(a, b) => self.b.ins().smax(v(a), v(b)),
            Round(Rounding::Nearest, a) => self.b.ins().nearest(v(a)),
            Round(Rounding::Down, a) => self.b.ins().floor(v(a)),
            Round(Rounding::Up, a) => self.b.ins().ceil(v(a)),
            Round(Rounding::Zero, a) => self.b.ins().trunc(v(a)),
            And(a, b) | Or(a, b) | Xor(a, b) => {
                let bits = match ty {
                    Ty::F32 if self.scalar() => I32,
                    Ty::F64 => I64,
                    _ if self.scalar() => t,
                    _ => I32X4,
                };
                let (x, y) = (self.cast(v(a), bits), self.cast(v(b), bits));
                let r = match op {
                    And(..) => self.b.ins().band(x, y),
                    Or(..) => self.b.ins().bor(x, y),
                    _ => self.b.ins().bxor(x, y),
                };
                self.cast(r, t)
            }
            Shl(a, n) | Shr(a, n) | Sar(a, n) => {
                let n = self.b.ins().iconst(I32, n as i64);
                match op {
                    Shl(..) => self.b.ins().ishl(v(a), n),
                    Shr(..) => self.b.ins().ushr(v(a), n),
                    _ => self.b.ins().sshr(v(a), n),
                }
            }
            ShlV(a, n) => self.b.ins().ishl(v(a), v(n)),
            ShrV(a, n) => self.b.ins().ushr(v(a), v(n)),
            SarV(a, n) => self.b.ins().sshr(v(a), v(n)),
            Quot(a, b) => self.b.ins().sdiv(v(a), v(b)),
            Rest(a, b) => self.b.ins().srem(v(a), v(b)),
            UQuot(a, b) => self.b.ins().udiv(v(a), v(b)),
            URest(a, b) => self.b.ins().urem(v(a), v(b)),
            Cmp(how, a, b) if code.ty(a).is_float() => {
                let cc = match how {
                    Cond::Eq => FloatCC::Equal,
                    Cond::Ne => FloatCC::NotEqual,
                    Cond::Lt => FloatCC::LessThan,
                    Cond::Le => FloatCC::LessThanOrEqual,
                    Cond::Gt => FloatCC::GreaterThan,
                    Cond::Ge => FloatCC::GreaterThanOrEqual,
                };
                self.b.ins().fcmp(cc, v(a), v(b))
            }
            Cmp(how, a, b) => {
                let cc = match how {
                    Cond::Eq => IntCC::Equal,
                    Cond::Ne => IntCC::NotEqual,
                    Cond::Lt => IntCC::SignedLessThan,
                    Cond::Le => IntCC::SignedLessThanOrEqual,
                    Cond::Gt => IntCC::SignedGreaterThan,
                    Cond::Ge => IntCC::SignedGreaterThanOrEqual,
                };
                self.b.ins().icmp(cc, v(a), v(b))
            }
            UCmp(how, a, b) => {
                let cc = match how {
                    Cond::Eq => IntCC::Equal,
                    Cond::Ne => IntCC::NotEqual,
                    Cond::Lt => IntCC::UnsignedLessThan,
                    Cond::Le => IntCC::UnsignedLessThanOrEqual,
                    Cond::Gt => IntCC::UnsignedGreaterThan,
                    Cond::Ge => IntCC::UnsignedGreaterThanOrEqual,
                };
                self.b.ins().icmp(cc, v(a), v(b))
            }
            Select(m, a, b) => self.pick(v(m), v(a), v(b)),
            Bits(a) => self.cast(v(a), t),
            Float(a) => self.b.ins().fcvt_from_sint(t, v(a)),
            FloatU(a) => self.b.ins().fcvt_from_uint(t, v(a)),
            Int(a) => self.truncate(code.ty(a), ty, v(a)),
            Widen(a) if float => self.b.ins().fpromote(t, v(a)),
            Widen(a) => self.b.ins().sextend(t, v(a)),
            WidenU(a) => self.b.ins().uextend(t, v(a)),
            Narrow(a) if float => self.b.ins().fdemote(t, v(a)),
            Narrow(a) => self.b.ins().ireduce(t, v(a)),
            Scale2(..) | ToHalf(_) | FromHalf(_) => unreachable!("legalized"),
            Call(name, a, b) => {
                let args: Vec<Value> = std::iter::once(a).chain(b).map(v).collect();
                let call = self.b.ins().call(self.target.calls[name], &args);
                self.b.inst_results(call)[0]
            }
            Fail(m) => {
                let on = self.b.create_block();
                self.b.ins().brif(v(m), self.target.fail, &[], on, &[]);
                self.b.seal_block(on);
                self.b.switch_to_block(on);
                v(m)
            }
        }
    }

    /// `m ? x : y`.
    fn pick(&mut self, m: Value, x: Value, y: Value) -> Value {
        if self.scalar() {
            return self.b.ins().select(m, x, y);
        }
        let t = self.b.func.dfg.value_type(x);
        let m = self.cast(m, t);
        self.b.ins().bitselect(m, x, y)
    }

    /// Saturation gives the least value for what is too small; too large and NaN are mended.
    fn truncate(&mut self, from: Ty, to: Ty, x: Value) -> Value {
        let t = clif_type(to, self.width);
        if !self.scalar() && self.target.x64 {
            return self.b.ins().x86_cvtt2dq(t, x);
        }
        let v = self.b.ins().fcvt_to_sint_sat(t, x);
        let limit = if to == Ty::I64 { 9_223_372_036_854_775_808.0f64 } else { 2_147_483_648.0 };
        let limit = self.constant(if from == Ty::F64 { limit.to_bits() } else { (limit as f32).to_bits() as u64 }, from);
        let least = self.constant(if to == Ty::I64 { i64::MIN as u64 } else { i32::MIN as u32 as u64 }, to);
        let fits = self.b.ins().fcmp(FloatCC::LessThan, x, limit);
        self.pick(fits, v, least)
    }

    /// The elements of lane type `ty` from `at` on, contiguous.
    pub fn load(&mut self, mem: Mem, ty: Ty, at: Value, offset: i32) -> Value {
        if self.scalar() {
            return match mem {
                Mem::U8 => self.b.ins().uload8(I32, memory(), at, offset),
                Mem::S8 => self.b.ins().sload8(I32, memory(), at, offset),
                Mem::U16 => self.b.ins().uload16(I32, memory(), at, offset),
                Mem::S16 => self.b.ins().sload16(I32, memory(), at, offset),
                Mem::W32 | Mem::W64 => self.b.ins().load(clif_type(ty, 1), memory(), at, offset),
            };
        }
        match mem {
            Mem::U8 | Mem::S8 => {
                let four = self.b.ins().load(I32, memory(), at, offset);
                let four = self.b.ins().scalar_to_vector(I32X4, four);
                let bytes = self.cast(four, I8X16);
                if mem == Mem::U8 {
                    let words = self.b.ins().uwiden_low(bytes);
                    self.b.ins().uwiden_low(words)
                } else {
                    let words = self.b.ins().swiden_low(bytes);
                    self.b.ins().swiden_low(words)
                }
            }
            Mem::U16 => self.b.ins().uload16x4(memory(), at, offset),
            Mem::S16 => self.b.ins().sload16x4(memory(), at, offset),
            Mem::W32 | Mem::W64 => self.b.ins().load(clif_type(ty, self.width), memory(), at, offset),
        }
    }

    /// Stores contiguous elements.
    pub fn store(&mut self, mem: Mem, v: Value, at: Value, offset: i32) {
        if self.scalar() {
            match mem {
                Mem::U8 | Mem::S8 => self.b.ins().istore8(memory(), v, at, offset),
                Mem::U16 | Mem::S16 => self.b.ins().istore16(memory(), v, at, offset),
                Mem::W32 | Mem::W64 => self.b.ins().store(memory(), v, at, offset),
            };
            return;
        }
        match mem {
            Mem::W32 | Mem::W64 => {
                self.b.ins().store(memory(), v, at, offset);
            }
            Mem::U16 | Mem::S16 => {
                let words = self.low_words(v);
                let two = self.cast(words, cranelift_codegen::ir::types::I64X2);
                let four = self.b.ins().extractlane(two, 0u8);
                self.b.ins().store(memory(), four, at, offset);
            }
            Mem::U8 | Mem::S8 => {
                // Words without their high bytes, so that saturation changes nothing.
                let mask = self.constant(0xff, Ty::I32);
                let v = self.b.ins().band(v, mask);
                let words = self.b.ins().snarrow(v, v);
                let bytes = self.b.ins().unarrow(words, words);
                let four = self.cast(bytes, I32X4);
                let four = self.b.ins().extractlane(four, 0u8);
                self.b.ins().store(memory(), four, at, offset);
            }
        }
    }

    /// The low half of each lane, twice.
    fn low_words(&mut self, v: Value) -> Value {
        let n = self.b.ins().iconst(I32, 16);
        let v = self.b.ins().ishl(v, n);
        let v = self.b.ins().sshr(v, n);
        let words = self.b.ins().snarrow(v, v);
        self.cast(words, I16X8)
    }
}

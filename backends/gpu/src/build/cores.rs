//! Intrinsics of LLVM, and what tensor cores do.

use super::{Build, V, What};
use crate::target::{Factors, Flavour};
use graphc_cpu::tape::code::{Cond, Ty};
use melior::ir::attribute::{DenseI32ArrayAttribute, DenseI64ArrayAttribute, StringAttribute};
use melior::ir::{Type, Value};

impl<'c> Build<'c> {
    /// A call of an intrinsic of LLVM's that gives `t`.
    pub(super) fn intrinsic(&mut self, name: &str, operands: &[V<'c>], t: Type<'c>) -> Vec<Value<'c, 'c>> {
        let values: Vec<_> = operands.iter().map(|&v| self.value(v)).collect();
        let attrs = [
            ("intrin", StringAttribute::new(self.cx, name).into()),
            ("op_bundle_sizes", DenseI32ArrayAttribute::new(self.cx, &[]).into()),
            ("operandSegmentSizes", DenseI32ArrayAttribute::new(self.cx, &[values.len() as i32, 0]).into()),
        ];
        self.op("llvm.call_intrinsic", &values, &[t], &attrs)
    }

    /// The bits of `x` rounded to 11 significant ones, halves away from zero.
    pub fn tf32(&mut self, x: V<'c>) -> V<'c> {
        if matches!(self.flavour, Flavour::Ptx(_)) {
            let t = self.ty(Ty::I32);
            return match self.intrinsic("llvm.nvvm.f2tf32.rna", &[x], t).first() {
                Some(&v) => V { ty: Ty::I32, what: What::Value(v) },
                None => x,
            };
        }
        let bits = self.unary("arith.bitcast", x, Ty::I32);
        let rounded = self.add(bits, self.i32(0x1000));
        let rounded = self.arith("arith.andi", rounded, self.i32(!0x1fff));
        let number = self.cmp(Cond::Eq, x, x);
        self.select(number, rounded, bits)
    }

    /// Two numbers rounded to bf16, the first in the low half.
    pub fn bf16_pair(&mut self, low: V<'c>, high: V<'c>) -> V<'c> {
        if matches!(self.flavour, Flavour::Ptx(_)) {
            let (word, pair) = (self.ty(Ty::I32), Type::vector(&[2], Type::bfloat16(self.cx)));
            let pair = self.intrinsic("llvm.nvvm.ff2bf16x2.rn", &[high, low], pair);
            return self.result("llvm.bitcast", &pair, word, Ty::I32, &[]);
        }
        let [low, high] = [low, high].map(|x| {
            let bits = self.unary("arith.bitcast", x, Ty::I32);
            let upper = self.arith("arith.shrui", bits, self.i32(16));
            let odd = self.arith("arith.andi", upper, self.i32(1));
            let more = self.add(odd, self.i32(0x7fff));
            let rounded = self.add(bits, more);
            let rounded = self.arith("arith.shrui", rounded, self.i32(16));
            let number = self.cmp(Cond::Eq, x, x);
            self.select(number, rounded, self.i32(0x7fc0))
        });
        let high = self.arith("arith.shli", high, self.i32(16));
        self.arith("arith.ori", high, low)
    }

    /// `sums` with the product of a fragment of 16 rows and one of 8 columns, 8 words deep, by all threads of a warp; which registers hold what:
    /// see `kernels::tensor`. For PTX.
    pub fn mma(&mut self, factors: Factors, left: &[V<'c>], right: &[V<'c>], sums: &[V<'c>]) -> Vec<V<'c>> {
        let name = match factors {
            Factors::Bf16 => "llvm.nvvm.mma.m16n8k16.row.col.bf16",
            _ => "llvm.nvvm.mma.m16n8k8.row.col.tf32",
        };
        let (f32, Some(four)) = (self.ty(Ty::F32), Type::parse(self.cx, "!llvm.struct<(f32, f32, f32, f32)>")) else {
            return sums.to_vec();
        };
        let result = self.intrinsic(name, &[left, right, sums].concat(), four);
        let part = |b: &mut Build<'c>, k: i64| {
            let position = DenseI64ArrayAttribute::new(b.cx, &[k]).into();
            b.result("llvm.extractvalue", &result, f32, Ty::F32, &[("position", position)])
        };
        (0..4).map(|k| part(self, k)).collect()
    }
}

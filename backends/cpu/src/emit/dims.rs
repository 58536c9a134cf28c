//! Code that evaluates dimensions.

use super::codegen;
use crate::error::CompileError;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types::I64};
use cranelift_frontend::FunctionBuilder;
use graphc_ir::Sym;
use graphc_ir::dim::{Atom, Dim};
use hashbrown::HashMap;

/// Evaluates expressions of the symbols, each once. Values are made in the current block, which must dominate all later uses.
pub struct DimCode<'a> {
    syms: &'a [Sym],
    /// Address of the symbols' values.
    base: Value,
    dims: HashMap<Dim, Value>,
    atoms: HashMap<Atom, Value>,
}

/// What was computed up to a point of the code.
#[derive(Clone)]
pub struct Computed {
    dims: HashMap<Dim, Value>,
    atoms: HashMap<Atom, Value>,
}

impl<'a> DimCode<'a> {
    pub fn new(syms: &'a [Sym], base: Value) -> DimCode<'a> {
        DimCode { syms, base, dims: HashMap::new(), atoms: HashMap::new() }
    }

    /// What is known here, for [`DimCode::restore`].
    pub fn computed(&self) -> Computed {
        Computed { dims: self.dims.clone(), atoms: self.atoms.clone() }
    }

    /// Forgets what was computed since, in blocks that do not dominate what comes now.
    pub fn restore(&mut self, c: Computed) {
        (self.dims, self.atoms) = (c.dims, c.atoms);
    }

    /// The value of `d`; arithmetic wraps, and a quotient by zero is zero.
    pub fn value(&mut self, b: &mut FunctionBuilder, d: &Dim) -> Result<Value, CompileError> {
        if let Some(c) = d.as_const() {
            return Ok(b.ins().iconst(I64, c));
        }
        if let Some(&v) = self.dims.get(d) {
            return Ok(v);
        }
        let mut sum: Option<Value> = None;
        for t in d.terms() {
            let mut product: Option<Value> = None;
            for a in &t.atoms {
                let v = self.atom(b, a)?;
                product = Some(product.map_or(v, |p| b.ins().imul(p, v)));
            }
            let term = match product {
                Some(p) if t.coef == 1 => p,
                Some(p) => {
                    let c = b.ins().iconst(I64, t.coef);
                    b.ins().imul(p, c)
                }
                None => b.ins().iconst(I64, t.coef),
            };
            sum = Some(sum.map_or(term, |s| b.ins().iadd(s, term)));
        }
        let v = sum.unwrap_or_else(|| b.ins().iconst(I64, 0));
        self.dims.insert(d.clone(), v);
        Ok(v)
    }

    fn atom(&mut self, b: &mut FunctionBuilder, a: &Atom) -> Result<Value, CompileError> {
        if let Some(&v) = self.atoms.get(a) {
            return Ok(v);
        }
        let v = match a {
            Atom::Sym(s) => {
                let at = self.syms.iter().position(|x| x == s).ok_or_else(|| codegen(format!("the symbol {s} has no value")))?;
                let offset = i32::try_from(at * 8).map_err(codegen)?;
                b.ins().load(I64, MemFlagsData::trusted(), self.base, offset)
            }
            Atom::FloorDiv(x, y) => {
                let (x, y) = (self.value(b, x)?, self.value(b, y)?);
                floor_div(b, x, y)
            }
            Atom::Mod(x, y) => {
                let (x, y) = (self.value(b, x)?, self.value(b, y)?);
                let q = floor_div(b, x, y);
                let back = b.ins().imul(q, y);
                let r = b.ins().isub(x, back);
                let zero = b.ins().iconst(I64, 0);
                let by_zero = b.ins().icmp(IntCC::Equal, y, zero);
                b.ins().select(by_zero, zero, r)
            }
            Atom::Min(x, y) => {
                let (x, y) = (self.value(b, x)?, self.value(b, y)?);
                b.ins().smin(x, y)
            }
            Atom::Max(x, y) => {
                let (x, y) = (self.value(b, x)?, self.value(b, y)?);
                b.ins().smax(x, y)
            }
        };
        self.atoms.insert(a.clone(), v);
        Ok(v)
    }
}

/// `x / y` rounded down, 0 for a zero `y`; traps on nothing.
fn floor_div(b: &mut FunctionBuilder, x: Value, y: Value) -> Value {
    let zero = b.ins().iconst(I64, 0);
    let one = b.ins().iconst(I64, 1);
    // With a divisor above zero the quotient cannot overflow.
    let negative = b.ins().icmp(IntCC::SignedLessThan, y, zero);
    let (neg_x, neg_y) = (b.ins().ineg(x), b.ins().ineg(y));
    let n = b.ins().select(negative, neg_x, x);
    let magnitude = b.ins().select(negative, neg_y, y);
    let d = b.ins().umax(magnitude, one);
    let safe = b.ins().icmp(IntCC::SignedGreaterThan, d, zero);
    let d = b.ins().select(safe, d, one);
    let q = b.ins().sdiv(n, d);
    let back = b.ins().imul(q, d);
    let r = b.ins().isub(n, back);
    let below = b.ins().icmp(IntCC::SignedLessThan, r, zero);
    let lower = b.ins().isub(q, one);
    let q = b.ins().select(below, lower, q);
    let by_zero = b.ins().icmp(IntCC::Equal, y, zero);
    b.ins().select(by_zero, zero, q)
}

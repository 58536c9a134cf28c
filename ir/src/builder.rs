//! Making instructions, and the sweep that passes rewrite functions with.

use crate::attr::{Attr, Attrs};
use crate::dim::Dim;
use crate::elem::Elem;
use crate::func::{Func, Inst, Loc, Region, Value};
use crate::op::Op;
use crate::tensor::Tensor;
use crate::ty::Type;
use hashbrown::HashMap;

/// Appends instructions to a list; the types of results are inferred.
pub struct Builder<'f> {
    pub func: &'f mut Func,
    /// Source location of what is made from here on.
    pub loc: Loc,
    /// The instructions made, in order; the caller places them.
    pub insts: Vec<Inst>,
}

impl<'f> Builder<'f> {
    pub fn new(func: &'f mut Func, loc: Loc) -> Builder<'f> {
        Builder { func, loc, insts: Vec::new() }
    }

    /// Makes an instruction of any op and returns its results.
    ///
    /// # Errors
    /// What is wrong with the operands or attributes.
    pub fn inst(&mut self, op: Op, operands: &[Value], attrs: Attrs) -> Result<Vec<Value>, String> {
        let def = op.def();
        if operands.len() < def.operands.0 || operands.len() > def.operands.1 {
            return Err(format!("{} does not take {} operands", def.name, operands.len()));
        }
        let types: Vec<&Type> = operands.iter().map(|&v| self.func.ty(v)).collect();
        let results = (def.infer)(&types, &attrs).map_err(|e| format!("{}: {e}", def.name))?;
        Ok(self.inst_of(op, operands, attrs, Vec::new(), results))
    }

    /// Makes an instruction whose result types are given.
    pub fn inst_of(&mut self, op: Op, operands: &[Value], attrs: Attrs, regions: Vec<Region>, types: Vec<Type>) -> Vec<Value> {
        let i = self.func.make_inst(op, operands.to_vec(), attrs, regions, types, self.loc.clone());
        self.insts.push(i);
        self.func.inst(i).results.clone()
    }

    /// Makes an instruction with one result.
    ///
    /// # Errors
    /// As [`Builder::inst`].
    pub fn op(&mut self, op: Op, operands: &[Value], attrs: Attrs) -> Result<Value, String> {
        self.inst(op, operands, attrs)?.first().copied().ok_or_else(|| format!("{} has no result", op.name()))
    }

    /// An op of one operand without attributes.
    ///
    /// # Errors
    /// As [`Builder::inst`].
    pub fn un(&mut self, op: Op, x: Value) -> Result<Value, String> {
        self.op(op, &[x], Attrs::new())
    }

    /// An op of two operands without attributes; shapes broadcast.
    ///
    /// # Errors
    /// As [`Builder::inst`].
    pub fn bin(&mut self, op: Op, x: Value, y: Value) -> Result<Value, String> {
        self.op(op, &[x, y], Attrs::new())
    }

    pub fn constant(&mut self, t: Tensor) -> Value {
        let ty = t.ty();
        self.inst_of(Op::Const, &[], Attrs::new().with("value", t), Vec::new(), vec![ty])[0]
    }

    /// The scalar `v` rounded to `elem`.
    ///
    /// # Errors
    /// If `elem` is not a real type or bool.
    pub fn scalar(&mut self, v: f64, elem: Elem) -> Result<Value, String> {
        let t = scalar_tensor(v, elem).ok_or_else(|| format!("no scalar of type {elem} from a number"))?;
        Ok(self.constant(t))
    }

    /// `x` under another shape; `x` itself if it has it already.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&mut self, x: Value, shape: &[Dim]) -> Result<Value, String> {
        if self.func.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Reshape, &[x], Attrs::new().with("shape", shape.to_vec()))
    }

    /// # Errors
    /// If `perm` is no permutation of the axes of `x`.
    pub fn transpose(&mut self, x: Value, perm: &[usize]) -> Result<Value, String> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) && perm.len() == self.func.ty(x).rank() {
            return Ok(x);
        }
        self.op(Op::Transpose, &[x], Attrs::new().with("perm", perm))
    }

    /// `x` repeated to `shape`; `x` itself if it has it already.
    ///
    /// # Errors
    /// If the shapes do not broadcast.
    pub fn broadcast(&mut self, x: Value, shape: &[Dim]) -> Result<Value, String> {
        if self.func.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Broadcast, &[x], Attrs::new().with("shape", shape.to_vec()))
    }

    /// # Errors
    /// As [`Builder::inst`].
    pub fn cast(&mut self, x: Value, elem: Elem) -> Result<Value, String> {
        if self.func.ty(x).elem == elem {
            return Ok(x);
        }
        self.op(Op::Cast, &[x], Attrs::new().with("elem", elem))
    }

    /// # Errors
    /// If an axis is out of range or `kind` does not fit the type.
    pub fn reduce(&mut self, kind: &str, x: Value, axes: &[usize], keep: bool) -> Result<Value, String> {
        self.op(Op::Reduce, &[x], Attrs::new().with("kind", kind).with("axes", axes).with("keep", keep))
    }
}

/// The scalar `v` rounded to `elem`; `None` if `elem` is not a real type or bool.
pub fn scalar_tensor(v: f64, elem: Elem) -> Option<Tensor> {
    use half::{bf16, f16};
    Some(match elem {
        Elem::F32 => Tensor::scalar(v as f32),
        Elem::F64 => Tensor::scalar(v),
        Elem::F16 => Tensor::scalar(f16::from_f64(v)),
        Elem::BF16 => Tensor::scalar(bf16::from_f64(v)),
        Elem::I8 => Tensor::scalar(v as i8),
        Elem::I16 => Tensor::scalar(v as i16),
        Elem::I32 => Tensor::scalar(v as i32),
        Elem::I64 => Tensor::scalar(v as i64),
        Elem::U8 => Tensor::scalar(v as u8),
        Elem::U16 => Tensor::scalar(v as u16),
        Elem::U32 => Tensor::scalar(v as u32),
        Elem::U64 => Tensor::scalar(v as u64),
        Elem::Bool => Tensor::from_bools(&[], &[v != 0.0])?,
        _ => return None,
    })
}

/// What a rewrite does with one instruction.
pub enum Rewrite {
    /// Leave it as it is.
    Keep,
    /// Its results become these values; instructions made in the builder come before it, and it goes.
    Replace(Vec<Value>),
}

/// Sweeps over `region` and the regions inside it, in order. `f` sees each instruction with its operands already rewritten and may make
/// instructions before it. Returns how many instructions were replaced.
///
/// # Errors
/// The first error of `f`.
pub fn rewrite<E>(
    func: &mut Func,
    region: Region,
    f: &mut dyn FnMut(&mut Builder, Inst) -> Result<Rewrite, E>,
) -> Result<usize, E> {
    let mut forward = HashMap::new();
    let n = sweep(func, region, &mut forward, f)?;
    func.replace_uses(&forward);
    Ok(n)
}

fn sweep<E>(
    func: &mut Func,
    region: Region,
    forward: &mut HashMap<Value, Value>,
    f: &mut dyn FnMut(&mut Builder, Inst) -> Result<Rewrite, E>,
) -> Result<usize, E> {
    let old = std::mem::take(&mut func.region_mut(region).insts);
    let mut new = Vec::with_capacity(old.len());
    let mut replaced = 0;
    for i in old {
        for k in 0..func.inst(i).operands.len() {
            let mut v = func.inst(i).operands[k];
            while let Some(&w) = forward.get(&v) {
                v = w;
            }
            func.inst_mut(i).operands[k] = v;
        }
        for inner in func.inst(i).regions.clone() {
            replaced += sweep(func, inner, forward, f)?;
        }
        let loc = func.inst(i).loc.clone();
        let mut b = Builder::new(func, loc);
        let outcome = f(&mut b, i)?;
        new.append(&mut b.insts);
        match outcome {
            Rewrite::Keep => new.push(i),
            Rewrite::Replace(values) => {
                replaced += 1;
                let results = func.inst(i).results.clone();
                debug_assert_eq!(results.len(), values.len());
                forward.extend(results.into_iter().zip(values).filter(|(a, b)| a != b));
            }
        }
    }
    func.region_mut(region).insts = new;
    Ok(replaced)
}

impl From<&Tensor> for Attr {
    fn from(t: &Tensor) -> Attr {
        Attr::Tensor(t.clone())
    }
}

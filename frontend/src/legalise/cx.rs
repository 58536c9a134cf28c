//! What a legalisation rule sees: one node, its operands, and a builder that keeps track of values known at compile time.

use super::content;
use super::error::{LegaliseError, TfStatus};
use crate::dtype::DataType;
use crate::graph::Node;
use crate::limits::Limits;
use graphc_ir::builder::scalar_tensor;
use graphc_ir::tensor::Scalar;
use graphc_ir::{Attrs, Builder, Dim, Elem, Func, Inst, Loc, Op, Sym, Tensor, Type, Value, VarId};
use std::sync::Arc;

/// Result of a rule: the node's outputs.
pub type Res<T = Vec<V>> = Result<T, LegaliseError>;

/// A value under legalisation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V(u32);

/// What is known of a value at compile time. Nothing is emitted for a known value until an instruction reads it.
#[derive(Clone, Debug)]
pub enum Known {
    /// Integers or bools as expressions of the symbols, row-major.
    Dims(Arc<[Dim]>),
    Tensor(Tensor),
    /// A handle to a variable, by index in [`Lowering::vars`].
    Var(usize),
}

/// A variable that the graph refers to.
pub struct VarInfo {
    pub name: String,
    pub ty: Type,
    /// A reference variable of TF1: used as an operand it is read.
    pub reference: bool,
    pub place: Place,
    /// True if it has a value here: from the start, or from an assignment before.
    pub initialised: bool,
}

/// Where the value of a variable is.
#[derive(Clone, Copy)]
pub enum Place {
    /// Nothing assigns it.
    Constant(V),
    State(VarId),
}

struct Slot {
    ty: Type,
    known: Option<Known>,
    ssa: Option<Value>,
}

/// The function under construction.
pub struct Lowering<'a> {
    pub func: Func,
    pub insts: Vec<Inst>,
    pub limits: &'a Limits,
    pub vars: Vec<VarInfo>,
    /// The feed of each parameter.
    pub param_feeds: Vec<usize>,
    slots: Vec<Slot>,
}

/// Integer tensors up to this many elements are followed symbolically.
const CONTENT_LIMIT: usize = 1024;
/// Constants up to this many elements are computed with while legalising, so that what must be known is known.
const FOLD_LIMIT: i64 = 4096;

impl<'a> Lowering<'a> {
    pub fn new(name: &str, limits: &'a Limits) -> Lowering<'a> {
        Lowering { func: Func::new(name), insts: Vec::new(), limits, vars: Vec::new(), param_feeds: Vec::new(), slots: Vec::new() }
    }

    fn push(&mut self, ty: Type, known: Option<Known>, ssa: Option<Value>) -> V {
        self.slots.push(Slot { ty, known, ssa });
        V(self.slots.len() as u32 - 1)
    }

    /// A value that an instruction or a parameter defines.
    pub fn value(&mut self, v: Value) -> V {
        let ty = self.func.ty(v).clone();
        self.push(ty, None, Some(v))
    }

    pub fn constant(&mut self, t: Tensor) -> V {
        self.push(t.ty(), Some(Known::Tensor(t)), None)
    }

    /// A handle to a variable.
    pub fn handle(&mut self, var: usize) -> V {
        self.push(Type::scalar(Elem::Resource), Some(Known::Var(var)), None)
    }

    /// Integers or bools known as expressions; their number fits the shape.
    pub fn dims(&mut self, ty: Type, dims: Vec<Dim>) -> V {
        self.push(ty, Some(Known::Dims(dims.into())), None)
    }

    pub fn ty(&self, v: V) -> &Type {
        &self.slots[v.0 as usize].ty
    }

    pub fn known(&self, v: V) -> Option<&Known> {
        self.slots[v.0 as usize].known.as_ref()
    }

    /// The integers or bools of a value known at compile time, row-major.
    pub fn content(&self, v: V) -> Option<Vec<Dim>> {
        match self.known(v)? {
            Known::Dims(d) => Some(d.to_vec()),
            Known::Tensor(t) if t.len() <= CONTENT_LIMIT => Some(t.to_ints()?.into_iter().map(Dim::from).collect()),
            Known::Tensor(_) | Known::Var(_) => None,
        }
    }

    /// The tensor, if every element is known and constant.
    pub fn tensor(&self, v: V) -> Option<Tensor> {
        match self.known(v)? {
            Known::Tensor(t) => Some(t.clone()),
            Known::Dims(d) => {
                let ints: Option<Vec<i64>> = d.iter().map(Dim::as_const).collect();
                int_tensor(self.ty(v), &ints?)
            }
            Known::Var(_) => None,
        }
    }

    /// The instruction's value of `v`; emits a known one when it is first needed.
    pub fn ssa(&mut self, v: V, loc: &Loc) -> Result<Value, String> {
        if let Some(s) = self.slots[v.0 as usize].ssa {
            return Ok(s);
        }
        let ty = self.ty(v).clone();
        let tensor = self.tensor(v);
        let known = self.known(v).cloned();
        let mut b = Builder { func: &mut self.func, loc: loc.clone(), insts: std::mem::take(&mut self.insts) };
        let made = match (tensor, known) {
            (Some(t), _) => Ok(b.constant(t)),
            (None, Some(Known::Dims(d))) => emit_dims(&mut b, &ty, &d),
            _ => Err("a resource handle is used as a tensor".to_owned()),
        };
        self.insts = b.insts;
        let made = made?;
        self.slots[v.0 as usize].ssa = Some(made);
        Ok(made)
    }
}

fn emit_dims(b: &mut Builder, ty: &Type, dims: &[Dim]) -> Result<Value, String> {
    let attrs = Attrs::new().with("dims", dims.to_vec()).with("elem", ty.elem).with("scalar", ty.rank() == 0);
    let v = b.op(Op::Dims, &[], attrs)?;
    b.reshape(v, &ty.shape)
}

/// A tensor of integers or bools; None if a value does not fit the type.
pub fn int_tensor(ty: &Type, v: &[i64]) -> Option<Tensor> {
    let shape = ty.const_shape()?;
    let fits = v.iter().all(|&x| content::fits(ty.elem, x));
    if !fits {
        return None;
    }
    let bytes = match ty.elem.size() {
        1 => v.iter().map(|&x| x as u8).collect(),
        2 => v.iter().flat_map(|&x| (x as i16).to_le_bytes()).collect(),
        4 => v.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect(),
        8 => v.iter().flat_map(|&x| x.to_le_bytes()).collect(),
        _ => return None,
    };
    Tensor::from_bytes(ty.elem, shape, bytes)
}

/// The element type of the IR for one of TensorFlow's; None for types that the IR does not have.
pub fn elem_of(t: DataType) -> Option<Elem> {
    use DataType as D;
    Some(match t {
        D::Bool => Elem::Bool,
        D::Int4 => Elem::I4,
        D::Int8 => Elem::I8,
        D::Int16 => Elem::I16,
        D::Int32 => Elem::I32,
        D::Int64 => Elem::I64,
        D::Uint4 => Elem::U4,
        D::Uint8 => Elem::U8,
        D::Uint16 => Elem::U16,
        D::Uint32 => Elem::U32,
        D::Uint64 => Elem::U64,
        D::Float8E4m3fn => Elem::F8E4M3FN,
        D::Float8E5m2 => Elem::F8E5M2,
        D::Half => Elem::F16,
        D::Bfloat16 => Elem::BF16,
        D::Float => Elem::F32,
        D::Double => Elem::F64,
        D::Complex64 => Elem::C64,
        D::Complex128 => Elem::C128,
        D::Qint8 => Elem::QI8,
        D::Quint8 => Elem::QU8,
        D::Qint16 => Elem::QI16,
        D::Quint16 => Elem::QU16,
        D::Qint32 => Elem::QI32,
        D::String => Elem::Str,
        D::Resource => Elem::Resource,
        D::Variant => Elem::Variant,
        _ => return None,
    })
}

/// One node under legalisation.
pub struct NodeCx<'l, 'a> {
    pub low: &'l mut Lowering<'a>,
    pub node: &'l Node,
    pub inputs: Vec<V>,
    pub loc: Loc,
}

impl NodeCx<'_, '_> {
    // Operands.

    /// Operand `k`.
    pub fn x(&self, k: usize) -> Res<V> {
        self.inputs.get(k).copied().ok_or_else(|| self.malformed(format!("operand {k} is missing")))
    }

    pub fn ty(&self, v: V) -> &Type {
        self.low.ty(v)
    }

    pub fn shape(&self, v: V) -> Vec<Dim> {
        self.low.ty(v).shape.clone()
    }

    pub fn rank(&self, v: V) -> usize {
        self.low.ty(v).rank()
    }

    pub fn elem(&self, v: V) -> Elem {
        self.low.ty(v).elem
    }

    /// The integers of operand `k` as expressions of the symbols.
    pub fn need_dims(&self, k: usize, what: &str) -> Res<Vec<Dim>> {
        let v = self.x(k)?;
        self.low.content(v).ok_or_else(|| self.needs_value(v, what))
    }

    /// The integers of operand `k`, which must not depend on symbols.
    pub fn need_ints(&self, k: usize, what: &str) -> Res<Vec<i64>> {
        let dims = self.need_dims(k, what)?;
        dims.iter().map(|d| d.as_const().ok_or_else(|| self.needs_shape(dims.iter(), format!("{what} must be constant")))).collect()
    }

    /// The one integer of operand `k`: a scalar or a tensor of one element.
    pub fn need_int(&self, k: usize, what: &str) -> Res<i64> {
        match self.need_ints(k, what)?.as_slice() {
            &[v] => Ok(v),
            v => Err(self.invalid(format!("{what} must be a scalar, got {} values", v.len()))),
        }
    }

    /// The real numbers of operand `k`.
    pub fn need_reals(&self, k: usize, what: &str) -> Res<Vec<f64>> {
        let v = self.x(k)?;
        self.low.tensor(v).and_then(|t| t.to_reals()).ok_or_else(|| self.needs_value(v, what))
    }

    /// Operand `k` as axes of a value of that rank, negative ones counted from the end.
    pub fn need_axes(&self, k: usize, rank: usize, what: &str) -> Res<Vec<usize>> {
        self.need_ints(k, what)?.into_iter().map(|a| self.axis(a, rank)).collect()
    }

    /// Operand `k` as one axis.
    pub fn need_axis(&self, k: usize, rank: usize, what: &str) -> Res<usize> {
        self.axis(self.need_int(k, what)?, rank)
    }

    /// `a` as an axis of a value of that rank.
    pub fn axis(&self, a: i64, rank: usize) -> Res<usize> {
        let r = rank as i64;
        match a {
            a if (-r..r).contains(&a) => Ok(if a < 0 { (a + r) as usize } else { a as usize }),
            _ => Err(self.invalid(format!("axis {a} is not in the range [{}, {r})", -r))),
        }
    }

    // Attributes.

    fn attr<T>(&self, r: crate::Result<T>) -> Res<T> {
        r.map_err(|e| self.malformed(e.kind().to_string()))
    }

    pub fn int(&self, name: &str) -> Res<i64> {
        self.attr(self.node.attr_i64(name))
    }

    pub fn ints(&self, name: &str) -> Res<Vec<i64>> {
        self.attr(self.node.attr_i64s(name)).map(<[i64]>::to_vec)
    }

    pub fn flag(&self, name: &str) -> Res<bool> {
        self.attr(self.node.attr_bool(name))
    }

    pub fn real(&self, name: &str) -> Res<f64> {
        self.attr(self.node.attr_f32(name)).map(f64::from)
    }

    pub fn word(&self, name: &str) -> Res<&str> {
        self.attr(self.node.attr_str(name))
    }

    pub fn elem_attr(&self, name: &str) -> Res<Elem> {
        let t = self.attr(self.node.attr_type(name))?;
        elem_of(t).ok_or_else(|| self.unimplemented(format!("element type {t}")))
    }

    // Errors.

    fn fail(&self, code: &'static str, status: TfStatus, message: String) -> LegaliseError {
        LegaliseError::Node { code, node: self.node.name.clone(), op: self.node.op.clone(), message, status }
    }

    /// An operand or attribute breaks a rule of the op.
    pub fn invalid(&self, message: impl Into<String>) -> LegaliseError {
        self.fail("GC0501", TfStatus::InvalidArgument, message.into())
    }

    /// The op does not cover this case.
    pub fn unimplemented(&self, message: impl Into<String>) -> LegaliseError {
        self.fail("GC0502", TfStatus::Unimplemented, message.into())
    }

    pub fn malformed(&self, message: impl Into<String>) -> LegaliseError {
        self.fail("GC0504", TfStatus::InvalidArgument, message.into())
    }

    /// Operand `v` must be known: names the feeds that it comes from, if it comes from feeds alone.
    pub fn needs_value(&self, v: V, what: &str) -> LegaliseError {
        match self.feeds_of(v) {
            Some(feeds) if !feeds.is_empty() => LegaliseError::NeedsValue { feeds, node: self.node.name.clone() },
            _ => self.fail(
                "GC0503",
                TfStatus::Unimplemented,
                format!("{what} must be known at compile time, but it is computed at run time"),
            ),
        }
    }

    /// Parameters that `v` is computed from; None if it depends on state, or on large data, which is not worth a compilation each time.
    fn feeds_of(&self, v: V) -> Option<Vec<usize>> {
        let func = &self.low.func;
        let mut seen = vec![false; func.value_count()];
        let mut stack: Vec<Value> = self.low.slots[v.0 as usize].ssa.into_iter().collect();
        let mut feeds = Vec::new();
        while let Some(s) = stack.pop() {
            if std::mem::replace(&mut seen[s.index()], true) {
                continue;
            }
            match func.value(s).def {
                graphc_ir::Def::Param(_, k) => {
                    if func.ty(s).elem.is_float() && func.ty(s).rank() > 1 {
                        return None;
                    }
                    feeds.push(self.low.param_feeds.get(k as usize).copied()?);
                }
                graphc_ir::Def::Result(i, _) => {
                    let inst = func.inst(i);
                    if inst.op.def().effect != graphc_ir::op::Effect::Pure {
                        return None;
                    }
                    stack.extend(&inst.operands);
                }
            }
        }
        feeds.sort_unstable();
        Some(feeds)
    }

    /// The symbols of `dims` must be replaced by what is fed.
    pub fn needs_shape<'d>(&self, dims: impl Iterator<Item = &'d Dim>, message: impl Into<String>) -> LegaliseError {
        let mut syms: Vec<Sym> = Vec::new();
        dims.for_each(|d| d.for_each_sym(&mut |s| syms.push(s.clone())));
        syms.sort();
        syms.dedup();
        if syms.is_empty() {
            self.invalid(message)
        } else {
            LegaliseError::NeedsShape { syms, node: self.node.name.clone(), message: message.into() }
        }
    }

    /// Two dimensions that must be equal.
    ///
    /// # Errors
    /// What to assume, or that they differ.
    pub fn same_dim(&self, a: &Dim, b: &Dim, what: &str) -> Res<Dim> {
        let diff = a - b;
        if diff.is_zero() {
            return Ok(a.clone());
        }
        if diff.as_const().is_some() {
            return Err(self.invalid(format!("{what}: {a} and {b} differ")));
        }
        match content::solve(&diff) {
            Some((sym, dim)) => Err(LegaliseError::Assume { sym, dim, node: self.node.name.clone() }),
            None => Err(self.needs_shape([a, b].into_iter(), format!("{what}: {a} and {b} may differ"))),
        }
    }

    /// `total / part`, which must be exact.
    pub fn exact_quotient(&self, total: &Dim, part: &Dim, what: &str) -> Res<Dim> {
        let q = total.floor_div(part);
        if &q * part == *total {
            return Ok(q);
        }
        if total.as_const().is_some() && part.as_const().is_some() {
            return Err(self.invalid(format!("{what}: {total} is not a multiple of {part}")));
        }
        Err(self.needs_shape([total, part].into_iter(), format!("{what}: {total} may not be a multiple of {part}")))
    }

    pub fn same_shape(&self, a: &[Dim], b: &[Dim], what: &str) -> Res<Vec<Dim>> {
        if a.len() != b.len() {
            return Err(self.invalid(format!("{what}: shapes {a:?} and {b:?} differ in rank")));
        }
        a.iter().zip(b).map(|(a, b)| self.same_dim(a, b, what)).collect()
    }

    /// The shape that two shapes broadcast to. A symbol beside another or a constant is assumed to equal it.
    pub fn broadcast_shape(&self, a: &[Dim], b: &[Dim]) -> Res<Vec<Dim>> {
        let rank = a.len().max(b.len());
        let at = |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(Dim::ONE, |k| s[k].clone());
        (0..rank)
            .map(|i| match (at(a, i), at(b, i)) {
                (x, y) if y.is_one() => Ok(x),
                (x, y) if x.is_one() => Ok(y),
                (x, y) => self.same_dim(&x, &y, &format!("Incompatible shapes: {a:?} vs. {b:?}")),
            })
            .collect()
    }

    // Building.

    /// An instruction of any op. Values known at compile time are computed now where that is cheap.
    pub fn ops(&mut self, op: Op, xs: &[V], attrs: Attrs) -> Res {
        let types: Vec<&Type> = xs.iter().map(|&x| self.low.ty(x)).collect();
        let results = (op.def().infer)(&types, &attrs).map_err(|m| self.invalid(m))?;
        if let Some(known) = self.evaluate(op, xs, &attrs, &results) {
            return Ok(known);
        }
        let loc = self.loc.clone();
        let operands = xs.iter().map(|&x| self.low.ssa(x, &loc)).collect::<Result<Vec<_>, _>>().map_err(|m| self.malformed(m))?;
        let low = &mut *self.low;
        let mut b = Builder { func: &mut low.func, loc, insts: std::mem::take(&mut low.insts) };
        let made = b.inst_of(op, &operands, attrs, Vec::new(), results);
        low.insts = b.insts;
        Ok(made.into_iter().map(|v| low.value(v)).collect())
    }

    fn evaluate(&mut self, op: Op, xs: &[V], attrs: &Attrs, results: &[Type]) -> Option<Vec<V>> {
        let [ty] = results else { return None };
        if let Some(n) = ty.elements().as_const()
            && n <= CONTENT_LIMIT as i64
            && ty.const_shape().is_some()
            && let Some(operands) = xs.iter().map(|&x| Some((self.ty(x).clone(), self.low.content(x)?))).collect::<Option<Vec<_>>>()
            && let Some(dims) = content::eval(op, &operands, attrs, ty)
        {
            return Some(vec![self.low.dims(ty.clone(), dims)]);
        }
        self.fold(op, xs, attrs, ty)
    }

    /// Computes an op on small constants with the interpreter. What fails there fails at run time, as in TensorFlow.
    fn fold(&mut self, op: Op, xs: &[V], attrs: &Attrs, ty: &Type) -> Option<Vec<V>> {
        if let (Op::Reshape, Some(Known::Tensor(t)), Some(shape)) = (op, self.low.known(*xs.first()?), ty.const_shape()) {
            return t.reshaped(&shape).map(|t| vec![self.low.constant(t)]);
        }
        let small = |t: &Type| t.elements().as_const().is_some_and(|n| n <= FOLD_LIMIT);
        if !small(ty) || ty.const_shape().is_none() || xs.iter().any(|&x| !small(self.ty(x)) || self.low.known(x).is_none()) {
            return None;
        }
        let inputs = xs.iter().map(|&x| self.low.tensor(x)).collect::<Option<Vec<_>>>()?;
        let out = graphc_ir::interp::eval_inst(op, attrs, &inputs, &|_| None).ok()?;
        Some(out.into_iter().map(|t| self.low.constant(t)).collect())
    }

    /// An op with one result.
    pub fn op(&mut self, op: Op, xs: &[V], attrs: Attrs) -> Res<V> {
        self.ops(op, xs, attrs)?.first().copied().ok_or_else(|| self.malformed("the op has no result"))
    }

    pub fn un(&mut self, op: Op, x: V) -> Res<V> {
        self.op(op, &[x], Attrs::new())
    }

    /// An elementwise op of two operands; shapes broadcast.
    pub fn bin(&mut self, op: Op, x: V, y: V) -> Res<V> {
        let (a, b) = (self.shape(x), self.shape(y));
        if a != b {
            self.broadcast_shape(&a, &b)?;
        }
        self.op(op, &[x, y], Attrs::new())
    }

    pub fn add(&mut self, x: V, y: V) -> Res<V> {
        self.bin(Op::Add, x, y)
    }

    pub fn sub(&mut self, x: V, y: V) -> Res<V> {
        self.bin(Op::Sub, x, y)
    }

    pub fn mul(&mut self, x: V, y: V) -> Res<V> {
        self.bin(Op::Mul, x, y)
    }

    pub fn div(&mut self, x: V, y: V) -> Res<V> {
        self.bin(Op::Div, x, y)
    }

    /// `x` where `c`, else `y`; shapes broadcast.
    pub fn select(&mut self, c: V, x: V, y: V) -> Res<V> {
        let values = self.broadcast_shape(&self.shape(x), &self.shape(y))?;
        self.broadcast_shape(&self.shape(c), &values)?;
        self.op(Op::Select, &[c, x, y], Attrs::new())
    }

    pub fn constant(&mut self, t: Tensor) -> V {
        self.low.constant(t)
    }

    pub fn scalar_of<T: Scalar>(&mut self, v: T) -> V {
        self.low.constant(Tensor::scalar(v))
    }

    /// The scalar `v` rounded to `elem`.
    pub fn num(&mut self, v: f64, elem: Elem) -> Res<V> {
        let t = match elem {
            Elem::C64 => Some(Tensor::scalar(num_complex::Complex::new(v as f32, 0.0))),
            Elem::C128 => Some(Tensor::scalar(num_complex::Complex::new(v, 0.0))),
            _ => scalar_tensor(v, elem),
        };
        t.map(|t| self.low.constant(t)).ok_or_else(|| self.unimplemented(format!("element type {elem}")))
    }

    /// A vector of integers known as expressions.
    pub fn dims_vector(&mut self, elem: Elem, dims: Vec<Dim>) -> V {
        self.low.dims(Type::of(elem, &[dims.len()]), dims)
    }

    pub fn dim_scalar(&mut self, elem: Elem, d: Dim) -> V {
        self.low.dims(Type::scalar(elem), vec![d])
    }

    pub fn cast(&mut self, x: V, elem: Elem) -> Res<V> {
        if self.elem(x) == elem {
            return Ok(x);
        }
        self.op(Op::Cast, &[x], Attrs::new().with("elem", elem))
    }

    pub fn reshape(&mut self, x: V, shape: &[Dim]) -> Res<V> {
        if self.ty(x).shape == shape {
            return Ok(x);
        }
        self.op(Op::Reshape, &[x], Attrs::new().with("shape", shape.to_vec()))
    }

    pub fn transpose(&mut self, x: V, perm: &[usize]) -> Res<V> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) && perm.len() == self.rank(x) {
            return Ok(x);
        }
        self.op(Op::Transpose, &[x], Attrs::new().with("perm", perm))
    }

    /// `x` repeated to `shape`.
    pub fn broadcast(&mut self, x: V, shape: &[Dim]) -> Res<V> {
        let from = self.shape(x);
        if from == shape {
            return Ok(x);
        }
        if from.len() > shape.len() {
            return Err(self.invalid(format!("Incompatible shapes: {from:?} does not broadcast to {shape:?}")));
        }
        let skip = shape.len() - from.len();
        for (d, to) in from.iter().zip(&shape[skip..]).filter(|(d, _)| !d.is_one()) {
            self.same_dim(d, to, &format!("Incompatible shapes: {from:?} does not broadcast to {shape:?}"))?;
        }
        self.op(Op::Broadcast, &[x], Attrs::new().with("shape", shape.to_vec()))
    }

    /// `size` elements of each axis from `start`, each `stride`-th.
    pub fn slice(&mut self, x: V, start: Vec<Dim>, size: Vec<Dim>, stride: &[i64]) -> Res<V> {
        if start.iter().all(Dim::is_zero) && size == self.ty(x).shape && stride.iter().all(|&s| s == 1) {
            return Ok(x);
        }
        let mut attrs = Attrs::new().with("start", start).with("size", size);
        if stride.iter().any(|&s| s != 1) {
            attrs.set("stride", stride.to_vec());
        }
        self.op(Op::Slice, &[x], attrs)
    }

    /// Elements `from .. from + n` of one axis.
    pub fn slice_axis(&mut self, x: V, axis: usize, from: Dim, n: Dim) -> Res<V> {
        let mut size = self.shape(x);
        let mut start = vec![Dim::ZERO; size.len()];
        (start[axis], size[axis]) = (from, n);
        self.slice(x, start, size, &[])
    }

    /// Operands one after another; beside the axis their shapes must agree.
    pub fn concat(&mut self, xs: &[V], axis: usize) -> Res<V> {
        let Some((&first, rest)) = xs.split_first() else { return Err(self.malformed("no operands")) };
        let shape = self.shape(first);
        for &x in rest {
            let other = self.shape(x);
            if other.len() != shape.len() {
                return Err(self.invalid(format!("shapes {shape:?} and {other:?} differ in rank")));
            }
            for i in (0..shape.len()).filter(|&i| i != axis) {
                self.same_dim(&shape[i], &other[i], "dimensions beside the concatenated axis")?;
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        self.op(Op::Concat, xs, Attrs::new().with("axis", axis))
    }

    /// `x` with the scalar `value` around it.
    pub fn pad(&mut self, x: V, value: V, low: Vec<Dim>, high: Vec<Dim>) -> Res<V> {
        if low.iter().chain(&high).all(Dim::is_zero) {
            return Ok(x);
        }
        self.op(Op::Pad, &[x, value], Attrs::new().with("low", low).with("high", high))
    }

    pub fn reduce(&mut self, kind: &str, x: V, axes: &[usize], keep: bool) -> Res<V> {
        if axes.is_empty() {
            return Ok(x);
        }
        self.op(Op::Reduce, &[x], Attrs::new().with("kind", kind).with("axes", axes).with("keep", keep))
    }

    /// The index along one axis of a tensor of that shape.
    pub fn iota(&mut self, shape: &[Dim], axis: usize, elem: Elem) -> Res<V> {
        self.op(Op::Iota, &[], Attrs::new().with("shape", shape.to_vec()).with("axis", axis).with("elem", elem))
    }

    pub fn gather(&mut self, x: V, indices: V, axis: usize, batch_dims: usize) -> Res<V> {
        self.op(Op::Gather, &[x, indices], Attrs::new().with("axis", axis).with("batch_dims", batch_dims))
    }

    /// A tensor of that shape with all elements `v`.
    pub fn filled(&mut self, v: f64, elem: Elem, shape: &[Dim]) -> Res<V> {
        let s = self.num(v, elem)?;
        self.broadcast(s, shape)
    }

    /// The instruction value of `v`.
    pub fn ssa(&mut self, v: V) -> Res<Value> {
        let loc = self.loc.clone();
        self.low.ssa(v, &loc).map_err(|m| self.malformed(m))
    }
}

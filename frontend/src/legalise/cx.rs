//! What a legalisation rule sees: one node, its operands, and a builder that keeps track of values known at compile time.

use super::content;
use super::error::{LegaliseError, TfStatus};
use super::value::{CONTENT_LIMIT, FOLD_LIMIT, Lowering, elem_of};
pub use super::value::{Known, Res, V};
use crate::graph::Node;
use graphc_ir::builder::scalar_tensor;
use graphc_ir::tensor::Scalar;
use graphc_ir::verify::MAX_RANK;
use graphc_ir::{Attrs, Builder, Dim, Elem, Op, Sym, Tensor, Type, Value};

/// `attrs` with the flags that are set.
pub fn with_flags(attrs: Attrs, flags: &[(&'static str, bool)]) -> Attrs {
    flags.iter().filter(|(_, on)| *on).fold(attrs, |a, (k, _)| a.with(k, true))
}

/// One node under legalisation.
pub struct NodeCx<'l, 'a> {
    pub low: &'l mut Lowering<'a>,
    pub node: &'l Node,
    pub inputs: Vec<V>,
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
        dims.iter()
            .map(|d| d.as_const().ok_or_else(|| self.needs_shape([d].into_iter(), format!("{what} must be constant"))))
            .collect()
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

    /// TensorFlow does not cover this case either: it says that it is not implemented.
    pub fn refused(&self, message: impl Into<String>) -> LegaliseError {
        self.fail("GC0501", TfStatus::Unimplemented, message.into())
    }

    /// A name stands for nothing.
    pub fn not_found(&self, message: impl Into<String>) -> LegaliseError {
        self.fail("GC0501", TfStatus::NotFound, message.into())
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
        let mut stack: Vec<Value> = self.low.emitted(v).into_iter().collect();
        let mut feeds = Vec::new();
        while let Some(s) = stack.pop() {
            if std::mem::replace(&mut seen[s.index()], true) {
                continue;
            }
            match func.value(s).def {
                graphc_ir::Def::Param(r, _) if r != func.body => return None,
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
        // Where both have a factor, it is enough that what is left of them is equal.
        let left = |sym: &Sym| {
            let factor = Dim::sym(sym.clone());
            content::solve(&(&exact(a, &factor)? - &exact(b, &factor)?))
        };
        let mut syms: Vec<Sym> = Vec::new();
        a.for_each_sym(&mut |s| syms.push(s.clone()));
        match content::solve(&diff).or_else(|| syms.iter().find_map(left)) {
            Some((sym, dim)) => Err(LegaliseError::Assume { sym, dim, node: self.node.name.clone() }),
            None => Err(self.needs_shape([a, b].into_iter(), format!("{what}: {a} and {b} may differ"))),
        }
    }

    /// `total / part`, which must be exact.
    pub fn exact_quotient(&self, total: &Dim, part: &Dim, what: &str) -> Res<Dim> {
        if let Some(q) = exact(total, part) {
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
        for ty in &results {
            let most = i64::try_from(self.low.limits.max_elements).unwrap_or(i64::MAX);
            if ty.elements().as_const().is_some_and(|n| n > most) {
                return Err(self.invalid(format!("a result of type {ty} has too many elements")));
            }
            if ty.rank() > MAX_RANK {
                return Err(self.unimplemented(format!("a result of rank {}", ty.rank())));
            }
        }
        if let Some(known) = self.evaluate(op, xs, &attrs, &results) {
            return Ok(known);
        }
        let operands = xs.iter().map(|&x| self.low.ssa(x)).collect::<Result<Vec<_>, _>>().map_err(|m| self.unimplemented(m))?;
        let low = &mut *self.low;
        let mut b = Builder { func: &mut low.func, loc: low.loc.clone(), insts: std::mem::take(&mut low.insts) };
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
        // The interpreter visits each place of a window, padding too.
        if matches!(op, Op::Pool2d | Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d) {
            return None;
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
        let attrs = Attrs::new().with("kind", kind).with("axes", axes);
        self.op(Op::Reduce, &[x], with_flags(attrs, &[("keep", keep)]))
    }

    /// The index along one axis of a tensor of that shape.
    pub fn iota(&mut self, shape: &[Dim], axis: usize, elem: Elem) -> Res<V> {
        self.op(Op::Iota, &[], Attrs::new().with("shape", shape.to_vec()).with("axis", axis).with("elem", elem))
    }

    pub fn gather(&mut self, x: V, indices: V, axis: usize, batch_dims: usize) -> Res<V> {
        let mut attrs = Attrs::new().with("axis", axis);
        if batch_dims > 0 {
            attrs.set("batch_dims", batch_dims);
        }
        self.op(Op::Gather, &[x, indices], attrs)
    }

    /// A tensor of that shape with all elements `v`.
    pub fn filled(&mut self, v: f64, elem: Elem, shape: &[Dim]) -> Res<V> {
        let s = self.num(v, elem)?;
        self.broadcast(s, shape)
    }

    /// The instruction value of `v`.
    pub fn ssa(&mut self, v: V) -> Res<Value> {
        // A list that meets what is no rule of lists is one for the host functions.
        self.low.ssa(v).map_err(|m| self.unimplemented(m))
    }
}

/// `total / part`, if that is a polynomial.
fn exact(total: &Dim, part: &Dim) -> Option<Dim> {
    let q = total.floor_div(part);
    (&q * part == *total).then_some(q)
}

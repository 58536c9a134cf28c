//! Ops that move data: concatenation, padding, gathers and scatters, dimension values, variables.

use super::kernel::{A, B, D, Kernel, elem_code};
use super::layout::Layout;
use super::{Fail, Lowering};
use graphc_abi::args::data::scatter;
use graphc_ir::{Dim, InstData, Op, Region, Tensor, Value};
use graphc_passes::plan::Place;

impl Lowering<'_> {
    pub(super) fn reshape(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = d.operands[0];
        let shape = &self.ty(d.results[0]).shape;
        let l = match self.layout(x)?.reshaped(shape) {
            Some(l) => l,
            None => {
                let l = self.dense(x)?;
                l.reshaped(shape).ok_or("a dense tensor does not reshape")?
            }
        };
        self.alias(d, l)
    }

    /// The values of dimensions: one small store each.
    pub(super) fn dims(&mut self, d: &InstData) -> Result<(), Fail> {
        let out = self.result(d.results[0]);
        for (i, value) in d.attrs.dims("dims").iter().enumerate() {
            let at = Layout { offset: Dim::from(i), ..out.clone() };
            let mut k = Kernel::new("gc_fill").buf("y", &at).int("size", out.elem.size() as i64).int("n", 1).dim("value", value);
            if i > 0 {
                k = k.updates(&at);
            }
            self.launch(k, &d.loc)?;
        }
        Ok(())
    }

    /// Finds concatenations of a region whose operands can be computed in place, outer ones first.
    pub(super) fn plan_concats(&mut self, r: Region) {
        let func = self.func;
        if !func.region(r).insts.iter().any(|&i| func.inst(i).op == Op::Concat) {
            return;
        }
        let uses = func.use_counts();
        for &i in func.region(r).insts.iter().rev() {
            let d = func.inst(i);
            let (Op::Concat, Some(&result)) = (d.op, d.results.first()) else { continue };
            let strided =
                |v: Value| func.def_inst(v).is_some_and(|i| func.inst(i).op.is_elementwise() || writes_strided(func.inst(i).op));
            let movable = |v: Value| uses[v.index()] == 1 && !self.to_output.contains_key(&v) && strided(v);
            let parts: Vec<bool> = d.operands.iter().map(|&v| movable(v)).collect();
            if !parts.contains(&true) || !self.ty(result).elem.is_plain() {
                continue;
            }
            let out = match self.parts.remove(&result) {
                Some(l) => l,
                None => self.result(result),
            };
            let (axis, mut at) = (d.attrs.size("axis"), Dim::ZERO);
            for (&v, movable) in d.operands.iter().zip(parts) {
                let part = self.part(&out, axis, &at, v);
                at = &at + &part.shape[axis];
                if movable {
                    self.parts.insert(v, part);
                }
            }
            self.layouts[result.index()] = None;
            self.concats.insert(result, out);
        }
    }

    pub(super) fn concat(&mut self, d: &InstData) -> Result<(), Fail> {
        let result = d.results[0];
        let out = match self.concats.remove(&result) {
            Some(l) => l,
            None => self.result_strided(result),
        };
        self.layouts[result.index()] = Some(out.clone());
        let axis = d.attrs.size("axis");
        let mut at = Dim::ZERO;
        for &v in &d.operands {
            let part = self.part(&out, axis, &at, v);
            at = &at + &part.shape[axis];
            let from = self.layout(v)?;
            if from != part {
                self.copy(&from, &part, &d.loc)?;
            }
        }
        Ok(())
    }

    /// Where operand `v` of a concatenation goes.
    fn part(&self, out: &Layout, axis: usize, at: &Dim, v: Value) -> Layout {
        let mut start = vec![Dim::ZERO; out.shape.len()];
        start[axis] = at.clone();
        out.sliced(&start, &[], &self.ty(v).shape)
    }

    pub(super) fn pad(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = self.layout(d.operands[0])?;
        let out = self.result(d.results[0]);
        match self.func.const_of(d.operands[1]).map(bits) {
            Some(value) => self.fill(&out, value, &d.loc)?,
            None => {
                let value = self.dense(d.operands[1])?;
                let n: Dim = out.shape.iter().product();
                let k = Kernel::new("gc_fill").buf("y", &out).int("size", out.elem.size() as i64).dim("n", &n).buf("from", &value);
                self.launch(k, &d.loc)?;
            }
        }
        let interior = out.sliced(d.attrs.dims("low"), &[], &x.shape);
        self.copy(&x, &interior, &d.loc)
    }

    pub(super) fn mirror_pad(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = self.dense(d.operands[0])?;
        let rank = x.shape.len();
        if rank > 8 {
            return Err(format!("mirror padding of {rank} axes"));
        }
        let out = self.result(d.results[0]);
        let k = Kernel::new("gc_pad_mirror").buf("x", &x).buf("y", &out).int("size", x.elem.size() as i64).int("rank", rank as i64);
        let k = k.flag("symmetric", d.attrs.flag("symmetric")).dims(&D, &x.shape);
        self.launch(k.dims(&B, d.attrs.dims("low")).dims(&A, d.attrs.dims("high")), &d.loc)
    }

    pub(super) fn gather(&mut self, d: &InstData) -> Result<(), Fail> {
        let (x, indices) = (self.dense(d.operands[0])?, self.dense(d.operands[1])?);
        let out = self.result(d.results[0]);
        let (axis, batch) = (d.attrs.size("axis"), d.attrs.size("batch_dims"));
        let product = |s: &[Dim]| s.iter().product::<Dim>();
        let k = Kernel::new("gc_gather")
            .buf("x", &x)
            .buf("indices", &indices)
            .buf("y", &out)
            .int("size", x.elem.size() as i64)
            .int("index_bytes", indices.elem.size() as i64)
            .dim("batch", &product(&x.shape[..batch]))
            .dim("outer", &product(&x.shape[batch..axis]))
            .dim("axis", &x.shape[axis])
            .dim("inner", &product(&x.shape[axis + 1..]))
            .dim("count", &product(&indices.shape[batch..]));
        self.launch(k, &d.loc)
    }

    pub(super) fn gather_nd(&mut self, d: &InstData) -> Result<(), Fail> {
        let batch = d.attrs.size("batch_dims");
        let (x, indices) = (self.dense(d.operands[0])?, self.dense(d.operands[1])?);
        let Some((depth, rows)) = indices.shape.split_last().map(|(k, rows)| (super::known(k).unwrap_or(usize::MAX), rows)) else {
            return Err("indices without an axis".into());
        };
        if depth > 8 || batch > 0 {
            return Err(format!("index tuples of {depth} with {batch} batch axes"));
        }
        let out = self.result(d.results[0]);
        let k = Kernel::new("gc_gather_nd")
            .buf("x", &x)
            .buf("indices", &indices)
            .buf("y", &out)
            .int("size", x.elem.size() as i64)
            .int("index_bytes", indices.elem.size() as i64)
            .dim("count", &rows.iter().product())
            .int("depth", depth as i64)
            .dim("inner", &x.shape[depth..].iter().product())
            .dims(&D, &x.shape[..depth]);
        self.launch(k, &d.loc)
    }

    pub(super) fn scatter_nd(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = self.layout(d.operands[0])?;
        let (indices, updates) = (self.dense(d.operands[1])?, self.dense(d.operands[2])?);
        let Some((depth, rows)) = indices.shape.split_last().map(|(k, rows)| (super::known(k).unwrap_or(usize::MAX), rows)) else {
            return Err("indices without an axis".into());
        };
        if depth > 8 || depth > x.shape.len() {
            return Err(format!("index tuples of {depth}"));
        }
        let op = match d.attrs.str("kind") {
            "set" => scatter::UPDATE,
            "add" => scatter::ADD,
            "sub" => scatter::SUB,
            "min" => scatter::MIN,
            "max" => scatter::MAX,
            "mul" => scatter::MUL,
            "div" => scatter::DIV,
            k => return Err(format!("no scatter {k:?}")),
        };
        let out = self.result(d.results[0]);
        self.copy(&x, &out, &d.loc)?;
        let k = Kernel::new("gc_scatter_nd")
            .buf("indices", &indices)
            .buf("updates", &updates)
            .buf("y", &out)
            .updates(&out)
            .int("elem", elem_code(x.elem)?)
            .int("op", op)
            .int("index_bytes", indices.elem.size() as i64)
            .dim("count", &rows.iter().product())
            .int("depth", depth as i64)
            .dim("inner", &x.shape[depth..].iter().product())
            .dims(&D, &x.shape[..depth]);
        self.launch(k, &d.loc)
    }

    pub(super) fn var_read(&mut self, d: &InstData) -> Result<(), Fail> {
        let Some(var) = d.attrs.var("var") else { return Err("no variable".into()) };
        if self.ty(d.results[0]) != &self.module.var(var).ty {
            return Err("read as another type than the variable's".into());
        }
        let ty = self.ty(d.results[0]).clone();
        let buf = self.plan.add_buffer(ty.clone(), Place::Var(var), d.loc.clone());
        let l = Layout::dense(buf, &ty);
        let mut assigned = false;
        self.func.walk(self.func.body, &mut |f, _, i| {
            let i = f.inst(i);
            assigned |= i.op == Op::VarAssign && i.attrs.var("var") == Some(var);
        });
        if assigned {
            let out = self.result(d.results[0]);
            return self.copy(&l, &out, &d.loc);
        }
        self.alias(d, l)
    }

    pub(super) fn var_assign(&mut self, d: &InstData) -> Result<(), Fail> {
        let Some(var) = d.attrs.var("var") else { return Err("no variable".into()) };
        let x = self.layout(d.operands[0])?;
        let ty = self.module.var(var).ty.clone();
        if x.ty() != ty {
            return Err(format!("{} assigned to a variable of type {ty}", x.ty()));
        }
        let buf = self.plan.add_buffer(ty.clone(), Place::Var(var), d.loc.clone());
        self.copy(&x, &Layout::dense(buf, &ty), &d.loc)
    }
}

/// Ops that can write rows apart from each other.
fn writes_strided(op: Op) -> bool {
    matches!(op, Op::Fused | Op::Contract | Op::Conv2d | Op::Depthwise | Op::Concat)
}

/// The bytes of a scalar, the first lowest.
fn bits(t: &Tensor) -> u128 {
    t.bytes().iter().take(t.elem().size()).rev().fold(0, |v, &b| v << 8 | u128::from(b))
}

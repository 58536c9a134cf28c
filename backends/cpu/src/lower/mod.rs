//! Tensor IR to plan steps.
//!
//! One function an op family. Values are [`Layout`]s: reshapes, transposes, slices, broadcasts and reversals only make another layout
//! of the same buffer, and are copied where a consumer cannot walk them. Everything else becomes launches over new buffers, which
//! `memory::place` puts into the arena afterwards.

mod control;
mod conv;
mod data;
mod elementwise;
pub(crate) mod kernel;
pub mod layout;
pub mod legalise;
mod matrix;
mod rows;

use crate::error::{CompileError, Unsupported};
use graphc_ir::{Def, Dim, Elem, Func, Inst, InstData, Loc, Module, Op, Region, Sym, Tensor, Type, Value};
use graphc_passes::plan::{Buf, ConstId, ConstLayout, Place, Plan, Port, Step, StepKind};
use graphc_passes::target::Target;
use hashbrown::{HashMap, HashSet};
use layout::Layout;

/// What is wrong with an instruction.
type Fail = String;

pub(crate) struct Lowering<'a> {
    module: &'a Module,
    func: &'a Func,
    target: &'a dyn Target,
    plan: Plan,
    /// Where each value lies, once it is known.
    layouts: Vec<Option<Layout>>,
    /// Values that are computed straight into an output of the function.
    to_output: HashMap<Value, usize>,
    consts: HashMap<Value, Vec<(ConstId, Buf)>>,
    /// Where concatenations lie whose parts are written straight into them, and where those parts are to go.
    concats: HashMap<Value, Layout>,
    parts: HashMap<Value, Layout>,
    /// Copies that were made inside a branch or loop of values from outside, and where those lay before.
    moved: Vec<(Value, Layout)>,
    unsupported: Vec<Unsupported>,
    /// Elementwise work that the reduction after it does.
    deferred: HashSet<Inst>,
}

/// Lowers `func` of `module`, which must hold no calls, to a plan with all buffers placed.
///
/// # Errors
/// `Unsupported` lists every instruction that has no lowering.
pub fn lower(module: &Module, func: &Func, target: &dyn Target) -> Result<Plan, CompileError> {
    let mut func = func.clone();
    legalise::run(&mut func, target).map_err(CompileError::Invalid)?;
    let mut cx = Lowering {
        module,
        func: &func,
        target,
        plan: Plan { name: func.name.clone(), ..Plan::default() },
        layouts: vec![None; func.value_count()],
        to_output: HashMap::new(),
        consts: HashMap::new(),
        concats: HashMap::new(),
        parts: HashMap::new(),
        moved: Vec::new(),
        unsupported: Vec::new(),
        deferred: deferred(&func),
    };
    cx.signature();
    cx.region(func.body);
    let mut unsupported = std::mem::take(&mut cx.unsupported);
    if unsupported.is_empty() {
        unsupported.extend(cx.odd_results());
    }
    if unsupported.is_empty() {
        cx.results().map_err(CompileError::Invalid)?;
        cx.check_symbols(&mut unsupported);
    }
    if !unsupported.is_empty() {
        return Err(CompileError::Unsupported(unsupported));
    }
    let mut plan = cx.plan;
    graphc_passes::plan::memory::place(&mut plan);
    Ok(plan)
}

/// Longest reduction that a loop does; longer ones have a kernel that sums in blocks, to keep the error small.
const LOOP_REDUCTION: i64 = 4096;

/// Elementwise instructions whose only reader is a short reduction that comes next: nothing in between can change what they read.
fn deferred(func: &Func) -> HashSet<Inst> {
    let uses = func.use_counts();
    let mut found = HashSet::new();
    let mut last: Option<(Region, Inst)> = None;
    func.walk(func.body, &mut |f, region, inst| {
        let d = f.inst(inst);
        if d.op == Op::Const {
            return;
        }
        if let Some((r, producer)) = last
            && r == region
            && d.op == Op::Reduce
            && f.inst(producer).results == d.operands
            && uses[d.operands[0].index()] == 1
            && loops_over(f, producer)
            && is_short(f.ty(d.operands[0]), d)
        {
            found.insert(producer);
        }
        last = Some((region, inst));
    });
    found
}

/// True for an elementwise op, or a fused body of nothing else: no index of an axis, which a reduction would move.
fn loops_over(f: &Func, inst: Inst) -> bool {
    let d = f.inst(inst);
    let plain = |op: Op| op.is_elementwise() || matches!(op, Op::Const | Op::Broadcast);
    match d.op {
        Op::Fused => d.regions.iter().all(|&r| f.region(r).insts.iter().all(|&i| plain(f.inst(i).op))),
        op => op.is_elementwise(),
    }
}

fn is_short(x: &Type, d: &InstData) -> bool {
    let extents = d.attrs.sizes("axes").into_iter().map(|a| x.shape.get(a).and_then(Dim::as_const));
    let count = extents.into_iter().try_fold(1i64, |n, d| n.checked_mul(d?));
    let known = matches!(d.attrs.str("kind"), "sum" | "mean" | "prod" | "max" | "min");
    known && x.elem == Elem::F32 && !d.attrs.ints("axes").is_empty() && count.is_some_and(|n| (1..=LOOP_REDUCTION).contains(&n))
}

impl<'a> Lowering<'a> {
    /// The instructions of one region, in order.
    fn region(&mut self, r: Region) {
        self.plan_concats(r);
        for &inst in &self.func.region(r).insts {
            if let Err(why) = self.inst(inst) {
                let report = self.unsupported(inst, why);
                self.unsupported.push(report);
                self.stand_in(inst);
            }
        }
    }

    /// Symbols, inputs and outputs, and which values go straight to an output.
    fn signature(&mut self) {
        let func = self.func;
        for (i, &p) in func.params().iter().enumerate() {
            let ty = func.ty(p);
            for d in &ty.shape {
                d.for_each_sym(&mut |s: &Sym| {
                    if !self.plan.syms.contains(s) {
                        self.plan.syms.push(s.clone());
                    }
                });
            }
            let buf = self.plan.add_buffer(ty.clone(), Place::Input(i), func.value(p).loc.clone());
            let name = func.param_names.get(i).cloned().unwrap_or_default();
            self.plan.inputs.push(Port { name, ty: ty.clone(), buf });
            self.layouts[p.index()] = Some(Layout::dense(buf, ty));
        }
        for (i, &r) in func.results().iter().enumerate() {
            let buf = self.plan.add_buffer(func.ty(r).clone(), Place::Output(i), func.value(r).loc.clone());
            let name = func.result_names.get(i).cloned().unwrap_or_default();
            self.plan.outputs.push(Port { name, ty: func.ty(r).clone(), buf });
            // The same elements under another shape are the same memory.
            let mut v = r;
            while let Some(d) = func.def_op(v, Op::Reshape) {
                v = d.operands[0];
            }
            if matches!(func.value(v).def, Def::Result(..)) {
                self.to_output.entry(v).or_insert(i);
            }
        }
    }

    /// Copies to the outputs what was not computed there.
    fn results(&mut self) -> Result<(), Fail> {
        for (i, &r) in self.func.results().iter().enumerate() {
            let out = Layout::dense(self.plan.outputs[i].buf, self.func.ty(r));
            let from = self.layout(r)?;
            if from.buf != out.buf {
                let loc = self.func.value(r).loc.clone();
                self.copy(&from, &out, &loc)?;
            }
        }
        Ok(())
    }

    /// Results that are handed through but cannot be copied.
    fn odd_results(&self) -> Vec<Unsupported> {
        let odd = self.func.results().iter().filter(|&&r| !self.ty(r).elem.is_plain());
        let report = |&r: &Value| Unsupported {
            op: "result",
            types: self.ty(r).to_string(),
            node: self.func.value(r).loc.name().to_owned(),
            why: format!("no code for elements of type {}", self.ty(r).elem),
        };
        odd.map(report).collect()
    }

    fn unsupported(&self, inst: Inst, why: String) -> Unsupported {
        let d = self.func.inst(inst);
        let types: Vec<String> = d.operands.iter().map(|&v| self.func.ty(v).to_string()).collect();
        Unsupported { op: d.op.name(), types: types.join(", "), node: d.loc.name().to_owned(), why }
    }

    /// Lets lowering go on after an instruction that failed, to find the others.
    fn stand_in(&mut self, inst: Inst) {
        for &r in &self.func.inst(inst).results {
            let ty = self.func.ty(r).clone();
            let buf = self.plan.add_buffer(ty.clone(), Place::Unplaced, Loc::default());
            self.layouts[r.index()] = Some(Layout::dense(buf, &ty));
        }
    }

    /// Finds sizes that the signature's symbols do not determine.
    fn check_symbols(&self, unsupported: &mut Vec<Unsupported>) {
        let mut unknown: Vec<(Sym, Loc)> = Vec::new();
        for b in &self.plan.buffers {
            for d in &b.ty.shape {
                d.for_each_sym(&mut |s| {
                    if !self.plan.syms.contains(s) && !unknown.iter().any(|(u, _)| u == s) {
                        unknown.push((s.clone(), b.loc.clone()));
                    }
                });
            }
        }
        unsupported.extend(unknown.into_iter().map(|(s, loc)| Unsupported {
            op: "dim",
            types: s.to_string(),
            node: loc.name().to_owned(),
            why: "its value is not known from the shapes of the inputs".into(),
        }));
    }

    fn inst(&mut self, inst: Inst) -> Result<(), Fail> {
        if self.deferred.contains(&inst) {
            return Ok(());
        }
        let func = self.func;
        let d = func.inst(inst);
        for &v in d.operands.iter().chain(&d.results) {
            let ty = func.ty(v);
            if !ty.elem.is_plain() {
                return Err(format!("no code for elements of type {}", ty.elem));
            }
        }
        match d.op {
            op if op.is_elementwise() => self.elementwise(inst),
            Op::Fused => self.fused(inst),
            Op::Iota => self.elementwise(inst),
            // Constants get a place when something reads them.
            Op::Const => Ok(()),
            Op::Dims => self.dims(d),
            Op::Reshape => self.reshape(d),
            Op::Transpose => {
                let l = self.layout(d.operands[0])?.transposed(&d.attrs.sizes("perm"));
                self.alias(d, l)
            }
            Op::Broadcast => {
                let l = self.layout(d.operands[0])?.broadcast(d.attrs.dims("shape"));
                self.alias(d, l)
            }
            Op::Slice => {
                let l = self.layout(d.operands[0])?.sliced(d.attrs.dims("start"), d.attrs.ints("stride"), d.attrs.dims("size"));
                self.alias(d, l)
            }
            Op::Reverse => {
                let l = self.layout(d.operands[0])?.reversed(&d.attrs.sizes("axes"));
                self.alias(d, l)
            }
            Op::Concat => self.concat(d),
            Op::Pad => self.pad(d),
            Op::MirrorPad => self.mirror_pad(d),
            Op::Gather => self.gather(d),
            Op::GatherNd => self.gather_nd(d),
            Op::ScatterNd => self.scatter_nd(d),
            Op::Reduce => self.reduce(d),
            Op::ArgReduce => self.arg_reduce(d),
            Op::Cumulative => self.cumulative(d),
            Op::TopK => self.top_k(d),
            Op::Softmax => self.softmax(d),
            Op::LayerNorm => self.layer_norm(d),
            Op::Contract => self.contract(d),
            Op::Conv2d => self.conv2d(d),
            Op::Depthwise => self.depthwise(d),
            Op::ConvTranspose2d => self.conv_transpose2d(d),
            Op::Pool2d => self.pool2d(d),
            Op::Resize => self.resize(d),
            Op::Attention => self.attention(d),
            Op::VarRead => self.var_read(d),
            Op::VarAssign => self.var_assign(d),
            Op::If => self.branch(d),
            Op::While => self.repeat(d),
            Op::Call => Err("calls must be resolved before lowering".into()),
            _ => Err("no lowering".into()),
        }
    }

    /// Makes the instruction's only result lie as `l` says.
    fn alias(&mut self, d: &InstData, l: Layout) -> Result<(), Fail> {
        self.layouts[d.results[0].index()] = Some(l);
        Ok(())
    }

    /// Where `v` lies; a constant gets a place in the weights.
    fn layout(&mut self, v: Value) -> Result<Layout, Fail> {
        if let Some(l) = &self.layouts[v.index()] {
            return Ok(l.clone());
        }
        let Some(tensor) = self.func.const_of(v) else {
            return Err("an operand is used before it is defined".into());
        };
        let buf = self.constant(v, tensor, ConstLayout::Plain);
        let l = Layout::dense(buf, &tensor.ty());
        self.layouts[v.index()] = Some(l.clone());
        Ok(l)
    }

    /// The buffer of constant `v` in the given form.
    fn constant(&mut self, v: Value, tensor: &Tensor, layout: ConstLayout) -> Buf {
        let known = self.consts.entry(v).or_default();
        if let Some(&(_, buf)) = known.iter().find(|(id, _)| self.plan.consts[id.index()].layout == layout) {
            return buf;
        }
        let loc = self.func.value(v).loc.clone();
        let id = self.plan.add_const(tensor.clone(), layout, loc.clone());
        let buf = self.plan.add_buffer(tensor.ty(), Place::Const(id), loc);
        known.push((id, buf));
        buf
    }

    /// `v` row-major without gaps.
    fn dense(&mut self, v: Value) -> Result<Layout, Fail> {
        let l = self.layout(v)?;
        if l.is_dense() {
            return Ok(l);
        }
        let loc = self.func.value(v).loc.clone();
        let out = match self.to_output.get(&v) {
            Some(_) => self.result(v),
            None => self.temporary(l.ty(), &loc),
        };
        self.copy(&l, &out, &loc)?;
        self.layouts[v.index()] = Some(out.clone());
        self.moved.push((v, l));
        Ok(out)
    }

    /// A new buffer.
    fn temporary(&mut self, ty: Type, loc: &Loc) -> Layout {
        let buf = self.plan.add_buffer(ty.clone(), Place::Unplaced, loc.clone());
        Layout::dense(buf, &ty)
    }

    /// The place for `v`, which the caller computes: an output of the function or a new buffer, dense.
    fn result(&mut self, v: Value) -> Layout {
        let ty = self.func.ty(v).clone();
        let l = match self.to_output.get(&v) {
            Some(&i) => Layout::dense(self.plan.outputs[i].buf, &ty),
            None => self.temporary(ty, &self.func.value(v).loc.clone()),
        };
        self.layouts[v.index()] = Some(l.clone());
        l
    }

    /// The place for `v`, for a caller that can write with strides on the outer axes: perhaps part of a concatenation.
    fn result_strided(&mut self, v: Value) -> Layout {
        match self.parts.remove(&v) {
            Some(l) => {
                self.layouts[v.index()] = Some(l.clone());
                l
            }
            None => self.result(v),
        }
    }

    fn push_step(&mut self, kind: StepKind, reads: Vec<Buf>, writes: Vec<Buf>, in_place: Vec<(Buf, Buf)>, loc: &Loc) {
        self.plan.steps.push(Step { kind, reads, writes, in_place, loc: loc.clone() });
    }

    fn ty(&self, v: Value) -> &'a Type {
        self.func.ty(v)
    }
}

/// Adds `b` unless it is there.
fn push_unique(list: &mut Vec<Buf>, b: Buf) {
    if !list.contains(&b) {
        list.push(b);
    }
}

/// A dimension as a count known at compile time.
fn known(d: &Dim) -> Option<usize> {
    d.as_const().and_then(|c| usize::try_from(c).ok())
}

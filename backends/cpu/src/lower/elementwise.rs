//! Fused bodies and single elementwise ops: loops over a tape.

use super::layout::{Layout, collapse};
use super::{Fail, Lowering, push_unique};
use graphc_ir::op::Body;
use graphc_ir::tape::{Entry, T, Tape};
use graphc_ir::{Dim, Elem, Inst, InstData, Loc, Op, Tensor, Value};
use graphc_passes::plan::{Access, Buf, Combine, Loop, LoopId, StepKind};
use hashbrown::HashMap;

/// A loop body being built over the index space `shape`.
struct TapeBuilder {
    tape: Tape,
    shape: Vec<Dim>,
    /// Operands, broadcast to `shape`.
    inputs: Vec<Layout>,
    values: HashMap<Value, T>,
}

/// A loop before its axes are merged. Layouts have the rank of `extents`; the last `reduced` axes are reduced.
pub(super) struct RawLoop {
    pub name: String,
    pub extents: Vec<Dim>,
    pub reduced: usize,
    pub combine: Combine,
    pub inputs: Vec<Layout>,
    pub outputs: Vec<Layout>,
    pub tape: Tape,
}

impl Lowering<'_> {
    /// One elementwise op (or an iota) as a loop of its own.
    pub(super) fn elementwise(&mut self, inst: Inst) -> Result<(), Fail> {
        let d = self.func.inst(inst);
        let results = d.results.clone();
        self.pointwise(d.op.name(), &[inst], &HashMap::new(), &results, &results, &d.loc)
    }

    pub(super) fn fused(&mut self, inst: Inst) -> Result<(), Fail> {
        let d = self.func.inst(inst);
        let region = d.regions.first().ok_or("a fused op has no region")?;
        let region = self.func.region(*region);
        let params: HashMap<Value, Value> = region.params.iter().copied().zip(d.operands.iter().copied()).collect();
        let names: Vec<&str> = region.insts.iter().map(|&i| self.func.inst(i).op.name()).take(4).collect();
        let name = format!("fused_{}", names.join("_"));
        // Results of one shape share a loop.
        let mut done = vec![false; d.results.len()];
        for k in 0..d.results.len() {
            if done[k] {
                continue;
            }
            let shape = &self.ty(d.results[k]).shape;
            let group: Vec<usize> = (k..d.results.len()).filter(|&j| !done[j] && self.ty(d.results[j]).shape == *shape).collect();
            group.iter().for_each(|&j| done[j] = true);
            let pick = |v: &[Value]| group.iter().map(|&j| v[j]).collect::<Vec<_>>();
            self.pointwise(&name, &region.insts, &params, &pick(&region.results), &pick(&d.results), &d.loc)?;
        }
        Ok(())
    }

    /// A loop that computes `inner` (values that `insts` define, or parameters) into `results`.
    fn pointwise(
        &mut self,
        name: &str,
        insts: &[Inst],
        params: &HashMap<Value, Value>,
        inner: &[Value],
        results: &[Value],
        loc: &Loc,
    ) -> Result<(), Fail> {
        let Some(&first) = results.first() else { return Ok(()) };
        let mut b =
            TapeBuilder { tape: Tape::default(), shape: self.ty(first).shape.clone(), inputs: Vec::new(), values: HashMap::new() };
        let needed = self.needed(insts, inner);
        for &i in insts.iter().filter(|i| needed.contains(i)) {
            self.tape_of(&mut b, i, params)?;
        }
        let outs = inner.iter().map(|&v| self.operand(&mut b, v, params)).collect::<Result<Vec<_>, _>>()?;
        b.tape.outputs = outs;
        let outputs = results.iter().map(|&r| self.result_strided(r)).collect();
        let raw = RawLoop {
            name: name.into(),
            extents: b.shape,
            reduced: 0,
            combine: Combine::Sum,
            inputs: b.inputs,
            outputs,
            tape: b.tape,
        };
        self.push_loop(raw, loc)
    }

    /// A reduction and the elementwise op or fused body that makes its operand, as one loop that stores no operand.
    pub(super) fn reduced(&mut self, producer: Inst, d: &InstData) -> Result<(), Fail> {
        let p = self.func.inst(producer);
        let shape = self.ty(d.operands[0]).shape.clone();
        let (insts, params, inner) = match p.regions.first() {
            Some(&r) => {
                let region = self.func.region(r);
                (region.insts.clone(), region.params.iter().copied().zip(p.operands.iter().copied()).collect(), region.results[0])
            }
            None => (vec![producer], HashMap::new(), p.results[0]),
        };
        let mut b = TapeBuilder { tape: Tape::default(), shape: shape.clone(), inputs: Vec::new(), values: HashMap::new() };
        let needed = self.needed(&insts, &[inner]);
        for &i in insts.iter().filter(|i| needed.contains(i)) {
            self.tape_of(&mut b, i, &params)?;
        }
        let mut out = self.operand(&mut b, inner, &params)?;
        let (kept, axes): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|a| !d.attrs.sizes("axes").contains(a));
        let combine = match d.attrs.str("kind") {
            "mean" => {
                let count = axes.iter().filter_map(|&a| shape[a].as_const()).product::<i64>();
                let share = b.tape.constant(1.0 / count as f64, out);
                out = b.tape.mul(out, share);
                Combine::Sum
            }
            "sum" => Combine::Sum,
            "prod" => Combine::Prod,
            "max" => Combine::Max,
            "min" => Combine::Min,
            k => return Err(format!("no loop for the reduction {k:?}")),
        };
        b.tape.outputs = vec![out];
        let mut output = self.result(d.results[0]);
        if d.attrs.flag("keep") {
            output.strides = kept.iter().map(|&a| output.strides[a].clone()).collect();
        }
        output.shape = [&kept, &axes].into_iter().flatten().map(|&a| shape[a].clone()).collect();
        output.strides.resize(shape.len(), Dim::ZERO);
        let order = [kept, axes.clone()].concat();
        let raw = RawLoop {
            name: format!("{}_{}", d.attrs.str("kind"), p.op.name()),
            extents: output.shape.clone(),
            reduced: axes.len(),
            combine,
            inputs: b.inputs.iter().map(|l| l.transposed(&order)).collect(),
            outputs: vec![output],
            tape: b.tape,
        };
        self.push_loop(raw, &d.loc)
    }

    /// Those of `insts` that `values` depend on.
    fn needed(&self, insts: &[Inst], values: &[Value]) -> Vec<Inst> {
        let mut needed: Vec<Inst> = Vec::new();
        let mut stack = values.to_vec();
        while let Some(v) = stack.pop() {
            if let Some(i) = self.func.def_inst(v).filter(|i| insts.contains(i) && !needed.contains(i)) {
                needed.push(i);
                stack.extend(&self.func.inst(i).operands);
            }
        }
        needed
    }

    fn tape_of(&mut self, b: &mut TapeBuilder, inst: Inst, params: &HashMap<Value, Value>) -> Result<(), Fail> {
        let d = self.func.inst(inst);
        let result = d.results[0];
        let t = match (d.op, d.op.def().body) {
            (_, Body::Elementwise(body)) => {
                let x = d.operands.iter().map(|&v| self.operand(b, v, params)).collect::<Result<Vec<_>, _>>()?;
                let t = body(&mut b.tape, &x, &d.attrs);
                let want = self.ty(result).elem;
                if b.tape.elem(t) != want {
                    return Err(format!("no code for {} that gives {want}", d.op.name()));
                }
                t
            }
            (Op::Broadcast, _) => self.operand(b, d.operands[0], params)?,
            (Op::Iota, _) => {
                let ty = self.ty(result);
                let axis = d.attrs.size("axis");
                let skip = b.shape.len().checked_sub(ty.rank()).ok_or("an iota of higher rank than its loop")?;
                match ty.shape.get(axis) {
                    Some(n) if *n == b.shape[axis + skip] => b.tape.index((axis + skip) as u32, ty.elem),
                    _ => b.tape.constant_of(0.0, ty.elem),
                }
            }
            // Constants are read where they are used.
            (Op::Const, _) => return Ok(()),
            (op, _) => return Err(format!("{} cannot be part of a fused body", op.name())),
        };
        b.values.insert(result, t);
        Ok(())
    }

    /// The tape's value for `v`: computed already, a constant, or an element of an operand.
    fn operand(&mut self, b: &mut TapeBuilder, v: Value, params: &HashMap<Value, Value>) -> Result<T, Fail> {
        if let Some(&t) = b.values.get(&v) {
            return Ok(t);
        }
        let outer = params.get(&v).copied().unwrap_or(v);
        let elem = self.ty(outer).elem;
        let t = match self.func.const_of(outer).and_then(splat) {
            Some(e) => b.tape.push(e, elem),
            None => {
                let mut l = self.layout(outer)?;
                let inner = l.inner_stride();
                if !inner.is_one() && !inner.is_zero() {
                    l = self.dense(outer)?;
                }
                let l = l.broadcast(&b.shape);
                let k = b.inputs.iter().position(|i| *i == l).unwrap_or_else(|| {
                    b.inputs.push(l);
                    b.inputs.len() - 1
                });
                b.tape.load(k as u32, elem)
            }
        };
        b.values.insert(v, t);
        Ok(t)
    }

    /// Adds a loop to the schedule, its axes merged as far as they go.
    pub(super) fn push_loop(&mut self, raw: RawLoop, loc: &Loc) -> Result<(), Fail> {
        let RawLoop { name, mut extents, mut reduced, combine, inputs, outputs, tape } = raw;
        let rank = extents.len();
        let kept: Vec<usize> =
            (0..rank).filter(|&a| tape.entries().iter().any(|(e, _)| matches!(e, Entry::Index(k) if *k as usize == a))).collect();
        let mut strides: Vec<Vec<Dim>> = inputs.iter().chain(&outputs).map(|l| l.strides.clone()).collect();
        let map = if reduced > 0 {
            // Reduced axes merge among themselves only.
            let first = rank - reduced;
            let (mut head, mut tail) = (extents[..first].to_vec(), extents[first..].to_vec());
            let mut heads: Vec<Vec<Dim>> = strides.iter().map(|s| s[..first].to_vec()).collect();
            let mut tails: Vec<Vec<Dim>> = strides.iter().map(|s| s[first..].to_vec()).collect();
            collapse(&mut head, &mut heads, &[]);
            collapse(&mut tail, &mut tails, &[]);
            reduced = tail.len();
            extents = [head, tail].concat();
            strides = heads.into_iter().zip(tails).map(|(h, t)| [h, t].concat()).collect();
            Vec::new()
        } else {
            collapse(&mut extents, &mut strides, &kept)
        };
        let tape = renumber(&tape, &map)?;
        let layouts: Vec<&Layout> = inputs.iter().chain(&outputs).collect();
        let mut accesses: Vec<Access> =
            layouts.iter().zip(strides).map(|(l, strides)| Access { elem: l.elem, offset: l.offset.clone(), strides }).collect();
        let out_accesses = accesses.split_off(inputs.len());
        let in_place = if reduced > 0 { Vec::new() } else { self.in_place_pairs(&inputs, &accesses, &outputs, &out_accesses) };
        let (mut reads, mut writes): (Vec<Buf>, Vec<Buf>) = Default::default();
        inputs.iter().for_each(|l| push_unique(&mut reads, l.buf));
        outputs.iter().for_each(|l| push_unique(&mut writes, l.buf));
        let l = Loop { name, extents, reduced, combine, inputs: accesses, outputs: out_accesses, tape };
        let alike = |o: &Loop| {
            (&o.extents, o.reduced, o.combine, &o.inputs, &o.outputs, &o.tape)
                == (&l.extents, l.reduced, l.combine, &l.inputs, &l.outputs, &l.tape)
        };
        let id = match self.plan.loops.iter().position(alike) {
            Some(i) => LoopId(i as u32),
            None => {
                let id = LoopId(self.plan.loops.len() as u32);
                self.plan.loops.push(Loop { name: format!("{}_{}", l.name, id.0), ..l });
                id
            }
        };
        let kind =
            StepKind::Loop { id, inputs: inputs.iter().map(|l| l.buf).collect(), outputs: outputs.iter().map(|l| l.buf).collect() };
        self.push_step(kind, reads, writes, in_place, loc);
        Ok(())
    }

    /// Outputs and inputs that are walked alike, where nothing else walks the input.
    fn in_place_pairs(&self, inputs: &[Layout], ins: &[Access], outputs: &[Layout], outs: &[Access]) -> Vec<(Buf, Buf)> {
        let mut pairs = Vec::new();
        for (o, oa) in outputs.iter().zip(outs) {
            for (i, ia) in inputs.iter().zip(ins) {
                let alone = inputs.iter().filter(|l| l.buf == i.buf).count() == 1;
                if alone && ia.offset == oa.offset && ia.strides == oa.strides && ia.elem.size() == oa.elem.size() && i.buf != o.buf
                {
                    pairs.push((o.buf, i.buf));
                }
            }
        }
        pairs
    }
}

/// The tape with its axes renumbered.
fn renumber(tape: &Tape, map: &[Option<usize>]) -> Result<Tape, Fail> {
    let mut out = Tape::default();
    let mut new: Vec<T> = Vec::with_capacity(tape.entries().len());
    for &(e, elem) in tape.entries() {
        let at = |t: T| new[t.index()];
        let e = match e {
            Entry::Index(a) => {
                let axis = map.get(a as usize).copied().flatten().ok_or("the index of an axis that was merged")?;
                Entry::Index(axis as u32)
            }
            Entry::Load(_) | Entry::Const(_) | Entry::ConstInt(_) => e,
            Entry::Un(op, a) => Entry::Un(op, at(a)),
            Entry::Cast(a) => Entry::Cast(at(a)),
            Entry::Bin(op, a, b) => Entry::Bin(op, at(a), at(b)),
            Entry::Cmp(op, a, b) => Entry::Cmp(op, at(a), at(b)),
            Entry::Select(a, b, c) => Entry::Select(at(a), at(b), at(c)),
            Entry::Fma(a, b, c) => Entry::Fma(at(a), at(b), at(c)),
        };
        new.push(out.push(e, elem));
    }
    out.outputs = tape.outputs.iter().map(|t| new[t.index()]).collect();
    Ok(out)
}

/// The tape's constant for a tensor whose elements are all the same.
fn splat(t: &Tensor) -> Option<Entry> {
    // Looking at large tensors costs time, and they are rarely constant.
    let one = if t.len() == 1 { t.reshaped(&[])? } else { t.splat_value()? };
    match one.elem() {
        e if e.is_int() || e == Elem::Bool => Some(Entry::ConstInt(*one.to_ints()?.first()?)),
        Elem::F64 | Elem::F32 | Elem::F16 | Elem::BF16 => Some(Entry::Const(*one.to_reals()?.first()?)),
        _ => None,
    }
}

//! Branches and loops.
//!
//! What a branch gives, and what a loop carries, has a buffer of its own that outlives the region. Values are computed straight into it
//! where nothing else needs its old content by then, and copied at the end of the region otherwise.

use super::kernel::{S, T};
use super::layout::Layout;
use super::{Fail, Lowering, push_unique};
use graphc_ir::{InstData, Loc, Op, Region, Value};
use graphc_passes::plan::{Arg, Buf, Place, Step, StepKind};

/// Where a region began: what it made since is its own.
struct Mark {
    steps: usize,
    buffers: usize,
    moved: usize,
}

impl Lowering<'_> {
    pub(super) fn branch(&mut self, d: &InstData) -> Result<(), Fail> {
        let &[then, otherwise] = d.regions.as_slice() else { return Err("a branch is missing".into()) };
        let cond = self.condition(d.operands[0], &d.loc)?;
        let results: Vec<Layout> = d.results.iter().map(|&v| self.result(v)).collect();
        for (region, begin) in [(then, StepKind::If { cond }), (otherwise, StepKind::Else)] {
            let reads = if matches!(begin, StepKind::If { .. }) { vec![cond] } else { Vec::new() };
            self.push_step(begin, reads, Vec::new(), Vec::new(), &d.loc);
            let mark = self.mark();
            for (&p, &x) in self.func.region(region).params.iter().zip(&d.operands[1..]) {
                self.layouts[p.index()] = Some(self.layout(x)?);
            }
            self.region(region);
            self.deliver(region, &results, &mark, &d.loc)?;
            self.leave(&mark);
        }
        self.push_step(StepKind::EndIf, Vec::new(), Vec::new(), Vec::new(), &d.loc);
        Ok(())
    }

    pub(super) fn repeat(&mut self, d: &InstData) -> Result<(), Fail> {
        let &[test, body] = d.regions.as_slice() else { return Err("a region of a loop is missing".into()) };
        let start: Vec<Layout> = d.operands.iter().map(|&v| self.layout(v)).collect::<Result<_, _>>()?;
        let carried: Vec<Layout> = d.results.iter().map(|&v| self.result(v)).collect();
        for (from, to) in start.iter().zip(&carried) {
            self.copy(from, to, &d.loc)?;
        }
        self.lay_out_sequences(&[test, body])?;
        self.push_step(StepKind::While, Vec::new(), Vec::new(), Vec::new(), &d.loc);
        let mark = self.mark();
        self.enter(test, &carried);
        let &[verdict] = self.func.region(test).results.as_slice() else { return Err("a loop without a condition".into()) };
        let cond = self.condition(verdict, &d.loc)?;
        self.leave(&mark);
        self.push_step(StepKind::Test { cond }, vec![cond], Vec::new(), Vec::new(), &d.loc);
        let mark = self.mark();
        self.enter(body, &carried);
        self.deliver(body, &carried, &mark, &d.loc)?;
        self.leave(&mark);
        self.push_step(StepKind::EndWhile, Vec::new(), Vec::new(), Vec::new(), &d.loc);
        Ok(())
    }

    /// Makes what rounds of a loop pick items from dense before the loop, or each round would copy all of it.
    fn lay_out_sequences(&mut self, regions: &[Region]) -> Result<(), Fail> {
        for &r in regions {
            for &i in &self.func.region(r).insts {
                let d = self.func.inst(i);
                // What the loop computes has no place yet.
                if matches!(d.op, Op::Gather | Op::GatherNd) && self.layouts[d.operands[0].index()].is_some() {
                    self.dense(d.operands[0])?;
                }
                self.lay_out_sequences(&d.regions)?;
            }
        }
        Ok(())
    }

    /// A region of a loop, its parameters where `carried` says.
    fn enter(&mut self, r: Region, carried: &[Layout]) {
        for (&p, l) in self.func.region(r).params.iter().zip(carried) {
            self.layouts[p.index()] = Some(l.clone());
        }
        self.region(r);
    }

    fn mark(&self) -> Mark {
        Mark { steps: self.plan.steps.len(), buffers: self.plan.buffers.len(), moved: self.moved.len() }
    }

    /// Copies that the region made of values from outside may not be there after it.
    fn leave(&mut self, mark: &Mark) {
        for (v, l) in self.moved.split_off(mark.moved).into_iter().rev() {
            self.layouts[v.index()] = Some(l);
        }
    }

    /// A buffer that holds nothing but the condition.
    fn condition(&mut self, v: Value, loc: &Loc) -> Result<Buf, Fail> {
        let l = self.layout(v)?;
        if l.offset.is_zero() {
            return Ok(l.buf);
        }
        let to = self.temporary(l.ty(), loc);
        self.copy(&l, &to, loc)?;
        Ok(to.buf)
    }

    /// Brings the results of a region to `targets`, which hold the region's parameters if it is the body of a loop.
    fn deliver(&mut self, r: Region, targets: &[Layout], mark: &Mark, loc: &Loc) -> Result<(), Fail> {
        let mut sources = self.func.region(r).results.iter().map(|&v| self.layout(v)).collect::<Result<Vec<_>, _>>()?;
        let mut joined = vec![false; targets.len()];
        for k in 0..targets.len() {
            let (from, to) = (sources[k].clone(), &targets[k]);
            // Another result that hands on what the target held before must find it there.
            let wanted = sources.iter().enumerate().any(|(j, s)| j != k && s.buf == to.buf);
            if from.buf != to.buf && !wanted && self.joins(&from, to, mark) {
                self.rename(from.buf, to.buf, mark.steps);
                joined[k] = true;
                for s in sources.iter_mut().filter(|s| s.buf == from.buf) {
                    s.buf = to.buf;
                }
            }
        }
        // The others are copied, all of them read before any is written.
        let stays =
            |k: usize, s: &Layout| s.buf == targets[k].buf && s.offset == targets[k].offset && s.strides == targets[k].strides;
        for k in (0..targets.len()).filter(|&k| !joined[k]) {
            let overwritten = targets.iter().enumerate().any(|(j, t)| !joined[j] && t.buf == sources[k].buf);
            if overwritten && !stays(k, &sources[k]) {
                let copy = self.temporary(sources[k].ty(), loc);
                self.copy(&sources[k], &copy, loc)?;
                sources[k] = copy;
            }
        }
        for (k, to) in targets.iter().enumerate() {
            if !joined[k] && !stays(k, &sources[k]) {
                self.copy(&sources[k], to, loc)?;
            }
        }
        Ok(())
    }

    /// Whether what the region computes into `from` can be computed into `to` from the start: `from` is the region's own and as large,
    /// and nothing reads `to` after that begins.
    fn joins(&self, from: &Layout, to: &Layout, mark: &Mark) -> bool {
        let (source, target) = (self.plan.buffer(from.buf), self.plan.buffer(to.buf));
        let own = from.buf.index() >= mark.buffers && source.place == Place::Unplaced && from.offset.is_zero() && from.is_dense();
        if !own || source.bytes() != target.bytes() || source.ty.elem.size() != target.ty.elem.size() {
            return false;
        }
        let steps = &self.plan.steps[mark.steps..];
        let Some(first) = steps.iter().position(|s| s.writes.contains(&from.buf)) else { return false };
        let in_place = steps[first].in_place.contains(&(from.buf, to.buf));
        let mut depth = 0;
        for (i, s) in steps.iter().enumerate() {
            let uses = s.writes.contains(&to.buf) || s.reads.contains(&to.buf);
            // What an inner loop reads, it reads again.
            depth += usize::from(matches!(s.kind, StepKind::While));
            depth -= usize::from(matches!(s.kind, StepKind::EndWhile));
            let repeats = depth > 0 && i < first && {
                let end = close(&steps[i..]).map(|e| i + e);
                end.is_some_and(|e| e >= first)
            };
            if uses && (i > first || i == first && !in_place || repeats) {
                return false;
            }
        }
        true
    }

    /// Makes the steps from `start` use `to` in the place of `from`.
    fn rename(&mut self, from: Buf, to: Buf, start: usize) {
        let put = |b: &mut Buf| {
            if *b == from {
                *b = to;
            }
        };
        for s in &mut self.plan.steps[start..] {
            if !s.reads.contains(&from) && !s.writes.contains(&from) {
                continue;
            }
            for list in [&mut s.reads, &mut s.writes] {
                let old = std::mem::take(list);
                old.into_iter().for_each(|b| push_unique(list, if b == from { to } else { b }));
            }
            s.in_place.iter_mut().for_each(|(a, b)| {
                put(a);
                put(b);
            });
            s.in_place.retain(|(a, b)| a != b);
            match &mut s.kind {
                StepKind::Kernel { args, .. } => args.iter_mut().for_each(|(_, a)| {
                    if let Arg::Buf { buf, .. } = a {
                        put(buf);
                    }
                }),
                StepKind::Loop { inputs, outputs, .. } => inputs.iter_mut().chain(outputs).for_each(put),
                StepKind::If { cond } | StepKind::Test { cond } => put(cond),
                StepKind::Else | StepKind::EndIf | StepKind::While | StepKind::EndWhile => {}
            }
        }
        let mut k = 0;
        self.plan.steps.retain(|s| {
            k += 1;
            k <= start || !copies_itself(s)
        });
    }
}

/// The end of the loop that is open where `steps` begin.
fn close(steps: &[Step]) -> Option<usize> {
    let mut depth = 1;
    steps.iter().skip(1).position(|s| {
        depth += i32::from(matches!(s.kind, StepKind::While));
        depth -= i32::from(matches!(s.kind, StepKind::EndWhile));
        depth == 0
    })
}

/// A copy from a buffer to itself.
fn copies_itself(s: &Step) -> bool {
    let StepKind::Kernel { symbol: "gc_copy_strided", args } = &s.kind else { return false };
    let arg = |name: &str| args.iter().find(|(n, _)| *n == name).map(|(_, a)| a);
    let walks = |names: [&'static str; 8]| names.map(|n| arg(n).cloned());
    arg("x") == arg("y") && arg("x_offset") == arg("y_offset") && walks(S) == walks(T)
}

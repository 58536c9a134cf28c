//! Proof of a plan, made again from the steps alone and sharing nothing with the planner.

use super::{Access, Arg, Buf, Loop, Place, Plan, StepKind};
use graphc_ir::{Dim, Sym};

/// Bytes to which buffers of the arena are aligned.
const ALIGN: i64 = 64;

/// One choice of values for the plan's symbols.
type Values = Vec<i64>;

struct Checker<'p> {
    plan: &'p Plan,
    /// Symbol values for what cannot be decided for all of them.
    samples: Vec<Values>,
    errors: Vec<String>,
}

/// Proves that every launch reads what was written before, writes only what it may, stays inside its buffers, and that no two buffers
/// that live at one time share memory, except where a step says that it works in place. What does not follow for all values of
/// the symbols by their signs is checked for a number of values.
///
/// # Errors
/// Every rule that the plan breaks.
pub fn check_plan(plan: &Plan) -> Result<(), Vec<String>> {
    let mut c = Checker { plan, samples: Vec::new(), errors: Vec::new() };
    if c.references() {
        c.samples = samples(plan);
        c.dataflow();
        c.views();
        c.loops();
        c.memory();
    }
    if c.errors.is_empty() { Ok(()) } else { Err(c.errors) }
}

/// Values to try: equal ones, and unequal ones in several arrangements; none that make an extent negative.
fn samples(plan: &Plan) -> Vec<Values> {
    let n = plan.syms.len();
    let mut all: Vec<Values> =
        if n == 0 { Vec::new() } else { [0, 1, 2, 3, 5, 16, 33, 127, 1000].iter().map(|&v| vec![v; n]).collect() };
    let primes = [1, 7, 3, 64, 13, 2, 31, 5];
    for shift in 0..if n == 0 { 1 } else { 6 } {
        all.push((0..n).map(|i| primes[(i * 3 + shift) % primes.len()]).collect());
    }
    let fits = |v: &Values| plan.buffers.iter().all(|b| b.ty.shape.iter().all(|d| value(plan, d, v).is_some_and(|n| n >= 0)));
    all.retain(fits);
    all
}

fn value(plan: &Plan, d: &Dim, v: &Values) -> Option<i64> {
    d.eval(&|s: &Sym| plan.syms.iter().position(|x| x == s).map(|i| v[i]))
}

impl Checker<'_> {
    fn fail(&mut self, message: String) {
        self.errors.push(message);
    }

    /// True if `d >= 0`, for all values where the signs show it, else for the samples.
    fn never_negative(&self, d: &Dim) -> bool {
        d.never_negative() || d.as_const().is_none() && self.samples.iter().all(|v| value(self.plan, d, v).is_some_and(|n| n >= 0))
    }

    /// All ids are in range, views end at a buffer, and steps declare all buffers that they name.
    fn references(&mut self) -> bool {
        let p = self.plan;
        let known = |b: Buf| b.index() < p.buffers.len();
        for (i, b) in p.buffers.iter().enumerate() {
            match &b.place {
                Place::View { of, .. } if !known(*of) || of.index() >= i => self.fail(format!("%{i} is a view of a later buffer")),
                Place::Input(k) if *k >= p.inputs.len() => self.fail(format!("%{i} is input {k}, which there is not")),
                Place::Output(k) if *k >= p.outputs.len() => self.fail(format!("%{i} is output {k}, which there is not")),
                Place::Const(k) if k.index() >= p.consts.len() => {
                    self.fail(format!("%{i} is constant {}, which there is not", k.0))
                }
                _ => {}
            }
        }
        for (i, port) in p.inputs.iter().chain(&p.outputs).enumerate() {
            if !known(port.buf) || p.buffer(port.buf).bytes() != &Dim::from(port.ty.elem.size()) * &port.ty.elements() {
                self.fail(format!("port {i} {:?} and its buffer differ in size", port.name));
            }
        }
        for (i, s) in p.steps.iter().enumerate() {
            let named: Vec<Buf> = match &s.kind {
                StepKind::Kernel { args, .. } => args
                    .iter()
                    .filter_map(|(_, a)| match a {
                        Arg::Buf { buf, .. } => Some(*buf),
                        _ => None,
                    })
                    .collect(),
                StepKind::Loop { inputs, outputs, .. } => [inputs.as_slice(), outputs].concat(),
                StepKind::If { cond } | StepKind::Test { cond } => vec![*cond],
                StepKind::Else | StepKind::EndIf | StepKind::While | StepKind::EndWhile => Vec::new(),
            };
            if let Some(b) = named.iter().chain(&s.reads).chain(&s.writes).find(|&&b| !known(b)) {
                self.fail(format!("step {i} names buffer {}, which there is not", b.0));
            }
            if let Some(b) = named.iter().find(|b| !s.reads.contains(b) && !s.writes.contains(b)) {
                self.fail(format!("step {i} uses %{} without saying so", b.0));
            }
            if let StepKind::Loop { id, inputs, outputs } = &s.kind {
                match p.loops.get(id.index()) {
                    None => self.fail(format!("step {i} runs loop {}, which there is not", id.0)),
                    Some(l) if l.inputs.len() != inputs.len() || l.outputs.len() != outputs.len() => {
                        self.fail(format!("step {i} gives loop {} another number of buffers", l.name));
                    }
                    Some(_) => {}
                }
                if outputs.iter().any(|b| !s.writes.contains(b)) || inputs.iter().any(|b| !s.reads.contains(b)) {
                    self.fail(format!("step {i} does not declare what its loop reads and writes"));
                }
            }
        }
        self.nesting();
        self.errors.is_empty()
    }

    /// Control flow nests like brackets.
    fn nesting(&mut self) {
        let mut open: Vec<&StepKind> = Vec::new();
        for (i, s) in self.plan.steps.iter().enumerate() {
            let expected = match &s.kind {
                StepKind::If { .. } | StepKind::While => {
                    open.push(&s.kind);
                    true
                }
                StepKind::Else => matches!(open.pop(), Some(StepKind::If { .. })),
                StepKind::EndIf => matches!(open.pop(), Some(StepKind::Else)),
                StepKind::Test { .. } => matches!(open.pop(), Some(StepKind::While)),
                StepKind::EndWhile => matches!(open.pop(), Some(StepKind::Test { .. })),
                StepKind::Kernel { .. } | StepKind::Loop { .. } => true,
            };
            if matches!(s.kind, StepKind::Else | StepKind::Test { .. }) {
                open.push(&s.kind);
            }
            if !expected {
                self.fail(format!("step {i} does not close what is open"));
            }
        }
        if !open.is_empty() {
            self.fail("a branch or loop has no end".into());
        }
    }

    /// Nothing is read before it is written on every way there, and inputs and constants are not written.
    fn dataflow(&mut self) {
        let p = self.plan;
        let mut written = vec![false; p.buffers.len()];
        // What was written where a branch or loop body began, and after the first branch.
        let mut open: Vec<Vec<bool>> = Vec::new();
        for (i, s) in p.steps.iter().enumerate() {
            match s.kind {
                StepKind::Else => {
                    let before = open.pop().unwrap_or_default();
                    open.push(std::mem::replace(&mut written, before));
                }
                StepKind::EndIf => {
                    let then = open.pop().unwrap_or_default();
                    written.iter_mut().zip(then).for_each(|(w, t)| *w &= t);
                }
                StepKind::EndWhile => written = open.pop().unwrap_or_default(),
                _ => {}
            }
            for &b in &s.reads {
                let root = p.root(b);
                let given = matches!(p.buffer(root).place, Place::Input(_) | Place::Const(_) | Place::Var(_));
                if !given && !written[root.index()] {
                    self.fail(format!("step {i} reads %{} before anything wrote it", b.0));
                }
            }
            for &b in &s.writes {
                let root = p.root(b);
                match p.buffer(root).place {
                    Place::Input(_) | Place::Const(_) => {
                        self.fail(format!("step {i} writes %{}, which is not the plan's to write", b.0))
                    }
                    Place::Unplaced => self.fail(format!("step {i} writes %{}, which has no place", b.0)),
                    _ => written[root.index()] = true,
                }
            }
            if matches!(s.kind, StepKind::If { .. } | StepKind::Test { .. }) {
                open.push(written.clone());
            }
        }
        for (i, port) in p.outputs.iter().enumerate() {
            if !written[p.root(port.buf).index()] {
                self.fail(format!("output {i} {:?} is never written", port.name));
            }
            if !matches!(p.buffer(port.buf).place, Place::Output(k) if k == i) {
                self.fail(format!("output {i} {:?} lies elsewhere", port.name));
            }
        }
    }

    fn views(&mut self) {
        let p = self.plan;
        for (i, b) in p.buffers.iter().enumerate() {
            if let Place::View { of, offset } = &b.place {
                let from = offset * &Dim::from(b.ty.elem.size());
                let room = &(&p.buffer(*of).bytes() - &from) - &b.bytes();
                if !self.never_negative(&from) || !self.never_negative(&room) {
                    self.fail(format!("%{i} leaves the buffer %{} that it is a view of", of.0));
                }
            }
        }
    }

    /// Loops stay inside their buffers.
    fn loops(&mut self) {
        let p = self.plan;
        for (i, s) in p.steps.iter().enumerate() {
            let StepKind::Loop { id, inputs, outputs } = &s.kind else { continue };
            let l = &p.loops[id.index()];
            for (access, &buf) in l.inputs.iter().zip(inputs).chain(l.outputs.iter().zip(outputs)) {
                let b = p.buffer(buf);
                if access.elem.size() != b.ty.elem.size() || access.strides.len() != l.extents.len() {
                    self.fail(format!("step {i}: loop {} walks %{} as another type or rank", l.name, buf.0));
                } else if let Some(v) = self.samples.iter().find(|v| !inside(p, l, access, &b.ty.elements(), v)) {
                    self.fail(format!("step {i}: loop {} leaves %{} for symbols {v:?}", l.name, buf.0));
                }
            }
        }
    }

    /// Buffers of the arena are aligned, inside it, and apart from all others that live at the same time.
    fn memory(&mut self) {
        let p = self.plan;
        if !self.never_negative(&p.arena) {
            self.fail("the arena's size can be negative".into());
        }
        // (buffer, offset, bytes, first step, last step) of every buffer of the arena that a step uses.
        let mut live: Vec<(Buf, &Dim, Dim, usize, usize)> = Vec::new();
        let mut place = vec![usize::MAX; p.buffers.len()];
        for (i, s) in p.steps.iter().enumerate() {
            for &b in s.reads.iter().chain(&s.writes) {
                let root = p.root(b);
                let Place::Arena { offset } = &p.buffer(root).place else { continue };
                match live.get_mut(place[root.index()]) {
                    Some(l) => l.4 = i,
                    None => {
                        place[root.index()] = live.len();
                        live.push((root, offset, p.buffer(root).bytes().at_least(&Dim::ZERO), i, i));
                    }
                }
            }
        }
        self.stretch(&mut live);
        for (buf, offset, bytes, ..) in &live {
            let aligned = offset.rem(&Dim::from(ALIGN)).is_zero()
                || self.samples.iter().all(|v| value(p, offset, v).is_some_and(|o| o % ALIGN == 0));
            let room = &(&p.arena - offset) - bytes;
            if !aligned || !self.never_negative(offset) || !self.never_negative(&room) {
                self.fail(format!(
                    "%{} at {offset} with {bytes} bytes is not aligned or not inside the arena of {}",
                    buf.0, p.arena
                ));
            }
        }
        // Live buffers as the steps go by: each new one against all that are still alive.
        let mut active: Vec<usize> = Vec::new();
        for k in 0..live.len() {
            let (buf, offset, bytes, first, last) = live[k].clone();
            active.retain(|&o| live[o].4 >= first);
            for &o in &active {
                let (other, other_offset, other_bytes, _, other_last) = &live[o];
                let in_place = *other_last == first
                    && p.steps[first].in_place.contains(&(buf, *other))
                    && *other_offset == offset
                    && *other_bytes == bytes;
                if !in_place && !self.apart(offset, &bytes, other_offset, other_bytes) {
                    self.fail(format!(
                        "%{} (steps {first} to {last}) overlaps %{}, which lives to step {other_last}",
                        buf.0, other.0
                    ));
                }
            }
            active.push(k);
        }
    }

    /// What is made before a loop and used in it is needed until the loop ends.
    fn stretch(&self, live: &mut [(Buf, &Dim, Dim, usize, usize)]) {
        let steps = &self.plan.steps;
        let mut starts = Vec::new();
        for (end, s) in steps.iter().enumerate() {
            match s.kind {
                StepKind::While => starts.push(end),
                StepKind::EndWhile => {
                    let start = starts.pop().unwrap_or(end);
                    let needed = |l: &&mut (Buf, &Dim, Dim, usize, usize)| l.3 < start && (start..end).contains(&l.4);
                    live.iter_mut().filter(needed).for_each(|l| l.4 = end);
                }
                _ => {}
            }
        }
    }

    /// True if two ranges of bytes do not meet: for all symbols by their signs, else for each sample.
    fn apart(&self, a: &Dim, a_bytes: &Dim, b: &Dim, b_bytes: &Dim) -> bool {
        let after = |x: &Dim, bytes: &Dim, y: &Dim| &(y - x) - bytes;
        let (ab, ba) = (after(a, a_bytes, b), after(b, b_bytes, a));
        if ab.never_negative() || ba.never_negative() {
            return true;
        }
        if ab.as_const().is_some() && ba.as_const().is_some() {
            return false;
        }
        self.samples.iter().all(|v| {
            let at = |d: &Dim| value(self.plan, d, v);
            let empty = at(a_bytes) == Some(0) || at(b_bytes) == Some(0);
            empty || at(&ab).is_some_and(|n| n >= 0) || at(&ba).is_some_and(|n| n >= 0)
        })
    }
}

/// True if a loop's walk over a buffer of `elements` stays inside, for these symbol values.
fn inside(p: &Plan, l: &Loop, a: &Access, elements: &Dim, v: &Values) -> bool {
    let walk = || -> Option<bool> {
        let (mut low, mut high) = (value(p, &a.offset, v)?, value(p, &a.offset, v)?);
        for (extent, stride) in l.extents.iter().zip(&a.strides) {
            let (n, s) = (value(p, extent, v)?, value(p, stride, v)?);
            if n <= 0 {
                return Some(true);
            }
            let reach = (n - 1).checked_mul(s)?;
            low = low.checked_add(reach.min(0))?;
            high = high.checked_add(reach.max(0))?;
        }
        Some(low >= 0 && high < value(p, elements, v)?)
    };
    walk().unwrap_or(false)
}

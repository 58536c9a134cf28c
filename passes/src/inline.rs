//! Calls of module functions become their bodies.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::{Attr, Attrs, Dim, Func, FuncId, Inst, Loc, Module, Op, Region, Sym, Type, Value};
use hashbrown::{HashMap, HashSet};

/// Instructions that one function may grow to; calls beyond it stay.
const MAX_INSTS: usize = 1 << 20;

/// Replaces each `call` by the body of the function, innermost first.
///
/// Leaves calls of recursive functions only, and calls whose operand types do not fit the parameters.
pub struct Inline;

impl Pass for Inline {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut changed = 0;
        let mut state = vec![State::New; m.funcs.len()];
        for k in 0..m.funcs.len() {
            changed += inline_into(m, k, &mut state);
        }
        Ok(changed)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    /// Its callees are being inlined: a call of it is recursive.
    Open,
    Done,
}

fn callees(f: &Func) -> Vec<FuncId> {
    let mut out = Vec::new();
    f.walk(f.body, &mut |f, _, i| {
        let d = f.inst(i);
        out.extend(d.attrs.func("func").filter(|_| d.op == Op::Call));
    });
    out
}

fn inline_into(m: &mut Module, k: usize, state: &mut [State]) -> usize {
    if state[k] != State::New {
        return 0;
    }
    state[k] = State::Open;
    let calls = callees(&m.funcs[k]);
    let mut changed = 0;
    for &c in &calls {
        if c.index() < m.funcs.len() {
            changed += inline_into(m, c.index(), state);
        }
    }
    if calls.iter().any(|c| state.get(c.index()) == Some(&State::Done)) {
        let mut f = std::mem::replace(&mut m.funcs[k], Func::new(""));
        let body = f.body;
        let mut forward = HashMap::new();
        changed += inline_region(&mut f, body, m, state, &mut forward);
        f.replace_uses(&forward);
        m.funcs[k] = f;
    }
    state[k] = State::Done;
    changed
}

fn inline_region(f: &mut Func, r: Region, m: &Module, state: &[State], forward: &mut HashMap<Value, Value>) -> usize {
    let old = std::mem::take(&mut f.region_mut(r).insts);
    let mut new = Vec::with_capacity(old.len());
    let mut changed = 0;
    for i in old {
        for k in 0..f.inst(i).operands.len() {
            let mut v = f.inst(i).operands[k];
            while let Some(&w) = forward.get(&v) {
                v = w;
            }
            f.inst_mut(i).operands[k] = v;
        }
        for inner in f.inst(i).regions.clone() {
            changed += inline_region(f, inner, m, state, forward);
        }
        let callee =
            f.inst(i).attrs.func("func").filter(|c| f.inst(i).op == Op::Call && state.get(c.index()) == Some(&State::Done));
        let copy = callee.and_then(|c| copy_body(f, i, &m.funcs[c.index()]));
        match copy {
            Some((insts, results)) => {
                changed += 1;
                new.extend(insts);
                forward.extend(f.inst(i).results.clone().into_iter().zip(results));
            }
            None => new.push(i),
        }
    }
    f.region_mut(r).insts = new;
    changed
}

/// Copies the body of `callee` for the call `i`; `None` if types do not fit.
fn copy_body(f: &mut Func, i: Inst, callee: &Func) -> Option<(Vec<Inst>, Vec<Value>)> {
    let call = f.inst(i).clone();
    if callee.params().len() != call.operands.len()
        || callee.results().len() != call.results.len()
        || f.inst_count() + callee.inst_count() > MAX_INSTS
    {
        return None;
    }
    let mut dims = HashMap::new();
    for (&p, &a) in callee.params().iter().zip(&call.operands) {
        unify(callee.ty(p), f.ty(a), &mut dims)?;
    }
    fresh_symbols(f, callee, &mut dims);
    let mut copier = Copier { callee, dims, values: HashMap::new() };
    copier.values.extend(callee.params().iter().copied().zip(call.operands.iter().copied()));
    let insts = copier.insts(f, callee.body, &call.loc);
    let results = copier.mapped(callee.results())?;
    let same = results.iter().zip(&call.results).all(|(&a, &b)| f.ty(a) == f.ty(b));
    same.then_some((insts, results))
}

/// Binds the symbols of a parameter's type to the dimensions of an operand's.
fn unify(param: &Type, arg: &Type, dims: &mut HashMap<Sym, Dim>) -> Option<()> {
    if param.elem != arg.elem || param.rank() != arg.rank() {
        return None;
    }
    for (p, a) in param.shape.iter().zip(&arg.shape) {
        match p.as_sym() {
            Some(s) => match dims.get(s) {
                Some(d) if d != a => return None,
                Some(_) => {}
                None => {
                    dims.insert(s.clone(), a.clone());
                }
            },
            None if p.substitute(&|s| dims.get(s).cloned()) == *a => {}
            None => return None,
        }
    }
    Some(())
}

/// Symbols that ops of the callee define at run time get names of their own in the caller.
fn fresh_symbols(f: &Func, callee: &Func, dims: &mut HashMap<Sym, Dim>) {
    let defined = |f: &Func| {
        let mut out = Vec::new();
        f.walk(f.body, &mut |f, _, i| {
            out.extend(f.inst(i).attrs.iter().filter_map(|(_, a)| match a {
                Attr::Sym(s) => Some(s.clone()),
                _ => None,
            }))
        });
        out
    };
    let wanted = defined(callee);
    if wanted.is_empty() {
        return;
    }
    let mut taken: HashSet<Sym> = defined(f).into_iter().collect();
    for &p in f.params() {
        for d in &f.ty(p).shape {
            d.for_each_sym(&mut |s| {
                taken.insert(s.clone());
            });
        }
    }
    for s in wanted {
        let mut name = s.clone();
        for k in 1.. {
            if taken.insert(name.clone()) {
                break;
            }
            name = Sym::new(&format!("{}_{k}", s.name()));
        }
        dims.insert(s, Dim::sym(name));
    }
}

struct Copier<'c> {
    callee: &'c Func,
    dims: HashMap<Sym, Dim>,
    values: HashMap<Value, Value>,
}

impl Copier<'_> {
    fn mapped(&self, values: &[Value]) -> Option<Vec<Value>> {
        values.iter().map(|v| self.values.get(v).copied()).collect()
    }

    fn ty(&self, t: &Type) -> Type {
        t.with_shape(t.shape.iter().map(|d| self.dim(d)).collect::<Vec<_>>())
    }

    fn dim(&self, d: &Dim) -> Dim {
        d.substitute(&|s| self.dims.get(s).cloned())
    }

    fn attrs(&self, attrs: &Attrs) -> Attrs {
        let mut attrs = attrs.clone();
        for (_, a) in attrs.iter_mut() {
            match a {
                Attr::Dims(list) => list.iter_mut().for_each(|d| *d = self.dim(d)),
                Attr::Sym(s) => {
                    if let Some(to) = self.dims.get(s).and_then(Dim::as_sym) {
                        *s = to.clone();
                    }
                }
                _ => {}
            }
        }
        attrs
    }

    fn insts(&mut self, f: &mut Func, r: Region, at: &Loc) -> Vec<Inst> {
        let callee = self.callee;
        let mut out = Vec::with_capacity(callee.region(r).insts.len());
        for &i in &callee.region(r).insts {
            let d = callee.inst(i);
            let loc = if d.loc.is_known() { d.loc.clone() } else { at.clone() };
            let operands = self.mapped(&d.operands).unwrap_or_default();
            let regions: Vec<Region> = d.regions.iter().map(|&inner| self.region(f, inner, at)).collect();
            let types = d.results.iter().map(|&v| self.ty(callee.ty(v))).collect();
            let new = f.make_inst(d.op, operands, self.attrs(&d.attrs), regions, types, loc);
            self.values.extend(d.results.iter().copied().zip(f.inst(new).results.iter().copied()));
            out.push(new);
        }
        out
    }

    fn region(&mut self, f: &mut Func, r: Region, at: &Loc) -> Region {
        let new = f.add_region();
        for &p in &self.callee.region(r).params {
            let v = f.add_param(new, self.ty(self.callee.ty(p)), self.callee.value(p).loc.clone());
            self.values.insert(p, v);
        }
        let insts = self.insts(f, r, at);
        f.region_mut(new).insts = insts;
        f.region_mut(new).results = self.mapped(&self.callee.region(r).results).unwrap_or_default();
        new
    }
}

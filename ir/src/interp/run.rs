//! Runs functions: regions, calls, variables, symbols.

use super::error::{EvalError, EvalErrorKind};
use super::eval_inst;
use crate::dim::Sym;
use crate::elem::Elem;
use crate::func::{Func, FuncId, Inst, Module, Region, Value, VarId};
use crate::op::Op;
use crate::tensor::Tensor;
use crate::ty::Type;
use hashbrown::HashMap;

/// How deep calls may nest.
const MAX_DEPTH: usize = 100;

/// Runs functions of a module and keeps its variables between runs.
pub struct Interp<'m> {
    module: &'m Module,
    vars: Vec<Option<Tensor>>,
    depth: usize,
}

/// Values and symbols of one activation of a function.
#[derive(Default)]
struct Frame {
    values: HashMap<Value, Tensor>,
    syms: HashMap<Sym, i64>,
}

impl Frame {
    /// Enters `v`, whose shape gives symbols that have no value yet and must agree with the rest of the type.
    fn define(&mut self, f: &Func, v: Value, t: Tensor) -> Result<(), EvalError> {
        let data = f.value(v);
        self.check(&data.ty, &t).map_err(|message| EvalError { node: data.loc.name().to_owned(), ..EvalError::shape(message) })?;
        self.values.insert(v, t);
        Ok(())
    }

    fn check(&mut self, ty: &Type, t: &Tensor) -> Result<(), String> {
        if t.elem() != ty.elem || t.rank() != ty.rank() {
            return Err(format!("a value of type {} where {ty} is expected", t.ty()));
        }
        for (d, &n) in ty.shape.iter().zip(t.shape()) {
            if let Some(s) = d.as_sym().filter(|s| !self.syms.contains_key(*s)) {
                self.syms.insert(s.clone(), n as i64);
            }
        }
        for (d, &n) in ty.shape.iter().zip(t.shape()) {
            match d.eval(&|s| self.syms.get(s).copied()) {
                Some(v) if v == n as i64 => {}
                Some(v) => return Err(format!("a value of type {} where {ty} is expected, with {d} = {v}", t.ty())),
                None => return Err(format!("the dimension {d} of {ty} has no value")),
            }
        }
        Ok(())
    }

    fn get(&self, v: Value) -> Result<Tensor, EvalError> {
        self.values.get(&v).cloned().ok_or_else(|| EvalError::malformed("a value is used before it is defined"))
    }

    fn get_all(&self, list: &[Value]) -> Result<Vec<Tensor>, EvalError> {
        list.iter().map(|&v| self.get(v)).collect()
    }
}

/// The values that an instruction and the regions inside it use.
fn uses(f: &Func, i: Inst, out: &mut Vec<Value>) {
    out.extend(&f.inst(i).operands);
    for &r in &f.inst(i).regions {
        out.extend(&f.region(r).results);
        f.region(r).insts.iter().for_each(|&inner| uses(f, inner, out));
    }
}

/// For each instruction of the body, the values that nothing needs after it.
fn last_uses(f: &Func) -> HashMap<Inst, Vec<Value>> {
    let mut last: HashMap<Value, Inst> = HashMap::new();
    for &i in &f.region(f.body).insts {
        let mut used = f.inst(i).results.clone();
        uses(f, i, &mut used);
        last.extend(used.into_iter().map(|v| (v, i)));
    }
    f.results().iter().for_each(|v| _ = last.remove(v));
    let mut by_inst: HashMap<Inst, Vec<Value>> = HashMap::new();
    last.into_iter().for_each(|(v, i)| by_inst.entry(i).or_default().push(v));
    by_inst
}

fn truth(t: Option<&Tensor>) -> Result<bool, EvalError> {
    match t.filter(|t| t.elem() == Elem::Bool && t.rank() == 0) {
        Some(t) => Ok(t.bytes().first() == Some(&1)),
        None => Err(EvalError::shape("a condition is not one bool")),
    }
}

impl<'m> Interp<'m> {
    /// An interpreter whose variables have their initial values.
    pub fn new(module: &'m Module) -> Interp<'m> {
        Interp { module, vars: module.vars.iter().map(|v| v.init.clone()).collect(), depth: 0 }
    }

    /// The value of a variable, if it has one.
    pub fn var(&self, v: VarId) -> Option<&Tensor> {
        self.vars.get(v.index())?.as_ref()
    }

    /// Sets a variable, whatever its type says.
    pub fn set_var(&mut self, v: VarId, t: Tensor) {
        if let Some(slot) = self.vars.get_mut(v.index()) {
            *slot = Some(t);
        }
    }

    /// Runs the function called `name` and gives its results.
    ///
    /// # Errors
    /// Whatever [`eval_inst`] reports, with the node; inputs that do not fit the parameters.
    pub fn run(&mut self, name: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
        let f = self.module.func(name).ok_or_else(|| EvalError::malformed(format!("no function {name:?}")))?;
        self.run_func(f, inputs)
    }

    /// Runs `f`, a function of the module (or one that refers to its functions and variables).
    ///
    /// # Errors
    /// As [`Interp::run`].
    pub fn run_func(&mut self, f: &Func, inputs: &[Tensor]) -> Result<Vec<Tensor>, EvalError> {
        if self.depth >= MAX_DEPTH {
            return Err(EvalError::new(EvalErrorKind::Limit, format!("calls nest deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let results = self.region(f, &mut Frame::default(), f.body, inputs.to_vec());
        self.depth -= 1;
        results
    }

    fn region(&mut self, f: &Func, frame: &mut Frame, r: Region, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EvalError> {
        let region = f.region(r);
        if inputs.len() != region.params.len() {
            return Err(EvalError::shape(format!("{} values for {} parameters", inputs.len(), region.params.len())));
        }
        // Symbols first, so that a parameter may be typed by one that a later parameter gives.
        for (&p, t) in region.params.iter().zip(&inputs) {
            for (d, &n) in f.ty(p).shape.iter().zip(t.shape()) {
                if let Some(s) = d.as_sym().filter(|s| !frame.syms.contains_key(*s)) {
                    frame.syms.insert(s.clone(), n as i64);
                }
            }
        }
        for (&p, t) in region.params.iter().zip(inputs) {
            frame.define(f, p, t)?;
        }
        let mut last_uses = if r == f.body { last_uses(f) } else { HashMap::new() };
        for &i in &region.insts {
            let node = f.inst(i).loc.name();
            let located = |e: EvalError| if e.node.is_empty() { EvalError { node: node.to_owned(), ..e } } else { e };
            let values = self.inst(f, frame, i).map_err(located)?;
            let results = &f.inst(i).results;
            if values.len() != results.len() {
                return Err(located(EvalError::malformed(format!("{} values for {} results", values.len(), results.len()))));
            }
            for (&v, t) in results.iter().zip(values) {
                frame.define(f, v, t)?;
            }
            for v in last_uses.remove(&i).unwrap_or_default() {
                frame.values.remove(&v);
            }
        }
        frame.get_all(&region.results)
    }

    /// A region whose own symbols are bound anew each time it runs.
    fn nested(&mut self, f: &Func, frame: &mut Frame, r: Region, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EvalError> {
        let outer = frame.syms.clone();
        let results = self.region(f, frame, r, inputs);
        frame.syms = outer;
        results
    }

    fn inst(&mut self, f: &Func, frame: &mut Frame, i: Inst) -> Result<Vec<Tensor>, EvalError> {
        let inst = f.inst(i);
        let inputs = frame.get_all(&inst.operands)?;
        let region = |k: usize| inst.regions.get(k).copied().ok_or_else(|| EvalError::malformed("a region is missing"));
        let var = || {
            inst.attrs
                .var("var")
                .filter(|v| v.index() < self.module.vars.len())
                .ok_or_else(|| EvalError::malformed("no such variable"))
        };
        match inst.op {
            Op::Fused => self.nested(f, frame, region(0)?, inputs),
            Op::If => {
                let branch = region(if truth(inputs.first())? { 0 } else { 1 })?;
                self.nested(f, frame, branch, inputs[1..].to_vec())
            }
            Op::While => {
                let mut carried = inputs;
                while truth(self.nested(f, frame, region(0)?, carried.clone())?.first())? {
                    carried = self.nested(f, frame, region(1)?, carried)?;
                }
                Ok(carried)
            }
            Op::Call => {
                let missing = || EvalError::malformed("no such function");
                let FuncId(id) = inst.attrs.func("func").ok_or_else(missing)?;
                let module = self.module;
                let callee = module.funcs.get(id as usize).ok_or_else(missing)?;
                self.run_func(callee, &inputs)
            }
            Op::VarRead => {
                let v = var()?;
                let name = || self.module.var(v).name.clone();
                Ok(vec![self.var(v).cloned().ok_or_else(|| EvalError::malformed(format!("variable {:?} has no value", name())))?])
            }
            Op::VarAssign => {
                let v = var()?;
                let value = inputs.into_iter().next().ok_or_else(|| EvalError::malformed("var.assign without a value"))?;
                self.set_var(v, value);
                Ok(Vec::new())
            }
            op => eval_inst(op, &inst.attrs, &inputs, &|s| frame.syms.get(s).copied()),
        }
    }
}

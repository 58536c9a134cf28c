//! The verifier: what every pass may rely on and must keep.

use crate::attr::{Attr, Attrs};
use crate::dim::{Dim, Sym};
use crate::elem::Elem;
use crate::epilogue;
use crate::func::{Def, Func, Inst, InstData, Module, Region, Value};
use crate::interp;
use crate::op::{Body, Op};
use crate::tape::Tape;
use crate::ty::Type;
use hashbrown::HashSet;
use std::fmt;

/// Dimensions are below this.
pub const MAX_DIM: i64 = 1 << 48;
/// Most axes of a type.
pub const MAX_RANK: usize = 64;

/// The rule that a function breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// Names of functions, variables, parameters and results are there and unique; symbols are identifiers.
    Names,
    /// Instructions, values and regions are linked as they say, each placed once.
    Structure,
    /// A value is defined before its use, in the same region or around it.
    Dominance,
    /// An op has as many operands as it takes.
    Operands,
    /// Attributes are those of the op, of the right kind, and all required ones are there.
    Attributes,
    /// Result types are those that inference gives; the op is defined for the operand types.
    Types,
    /// Regions take and give what their op says.
    Regions,
    /// Functions and variables that are referred to exist and fit.
    References,
    /// A symbol is a parameter's dimension, or that of a call's, branch's, loop's or variable's result.
    Symbols,
    /// Dimensions lie between 0 and 2^48; ranks are at most 64.
    Dimensions,
}

impl Rule {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Names => "names",
            Rule::Structure => "structure",
            Rule::Dominance => "dominance",
            Rule::Operands => "operands",
            Rule::Attributes => "attributes",
            Rule::Types => "types",
            Rule::Regions => "regions",
            Rule::References => "references",
            Rule::Symbols => "symbols",
            Rule::Dimensions => "dimensions",
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyError {
    pub rule: Rule,
    /// The function, empty for the module itself.
    pub func: String,
    /// Name of the source node, empty where unknown.
    pub node: String,
    pub message: String,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] ", self.rule.name())?;
        if !self.func.is_empty() {
            write!(f, "in {:?}: ", self.func)?;
        }
        if !self.node.is_empty() {
            write!(f, "node {:?}: ", self.node)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for VerifyError {}

/// Checks a module.
///
/// # Errors
/// Everything that is wrong with it.
pub fn verify(m: &Module) -> Result<(), Vec<VerifyError>> {
    let errors = module(m);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Everything that is wrong with a module; nothing if it is right.
pub fn module(m: &Module) -> Vec<VerifyError> {
    let mut errors = Vec::new();
    let mut report = |rule, message: String| errors.push(VerifyError { rule, func: String::new(), node: String::new(), message });
    for (what, names) in
        [("function", m.funcs.iter().map(|f| &f.name).collect::<Vec<_>>()), ("variable", m.vars.iter().map(|v| &v.name).collect())]
    {
        if let Some(n) = first_repeated(&names) {
            report(Rule::Names, format!("two {what}s are called {n:?}"));
        }
    }
    for v in &m.vars {
        if let Err(e) = check_type(&v.ty) {
            report(Rule::Dimensions, format!("variable {:?}: {e}", v.name));
        }
        if let Some(t) = v.init.as_ref().filter(|t| !could_hold(&v.ty, &t.ty())) {
            report(Rule::Types, format!("variable {:?} of type {} starts as {}", v.name, v.ty, t.ty()));
        }
    }
    errors.extend(m.funcs.iter().flat_map(|f| func(m, f)));
    errors
}

/// Everything that is wrong with a function of `m`.
pub fn func(m: &Module, f: &Func) -> Vec<VerifyError> {
    let mut v = Verifier {
        m,
        f,
        errors: Vec::new(),
        visible: HashSet::new(),
        defined: HashSet::new(),
        placed: HashSet::new(),
        regions: HashSet::new(),
        syms: HashSet::new(),
    };
    v.signature();
    v.region(f.body);
    v.errors
}

fn first_repeated<T: std::hash::Hash + Eq + Copy>(list: &[T]) -> Option<T> {
    let mut seen = HashSet::new();
    list.iter().copied().find(|&x| !seen.insert(x))
}

/// True if a value of type `have` may be stored where `want` is declared: symbolic dimensions take any extent.
fn could_hold(want: &Type, have: &Type) -> bool {
    let fits = |(w, h): (&Dim, &Dim)| w == h || w.as_const().is_none() || h.as_const().is_none();
    want.elem == have.elem && want.rank() == have.rank() && want.shape.iter().zip(&have.shape).all(fits)
}

fn in_range(d: &Dim) -> bool {
    let small = |c: i64| c.unsigned_abs() < MAX_DIM as u64;
    d.as_const().is_none_or(small) && d.terms().iter().all(|t| small(t.coef))
}

fn check_type(ty: &Type) -> Result<(), String> {
    if ty.rank() > MAX_RANK {
        return Err(format!("a type with {} axes, more than {MAX_RANK}", ty.rank()));
    }
    match ty.shape.iter().find(|d| !in_range(d) || d.sign() == Some(-1)) {
        Some(d) => Err(format!("the dimension {d} of {ty} is negative or too large")),
        None => Ok(()),
    }
}

struct Verifier<'a> {
    m: &'a Module,
    f: &'a Func,
    errors: Vec<VerifyError>,
    /// Values that may be used here.
    visible: HashSet<Value>,
    /// Values that have a definition anywhere so far.
    defined: HashSet<Value>,
    placed: HashSet<Inst>,
    regions: HashSet<Region>,
    /// Symbols that have a value here.
    syms: HashSet<Sym>,
}

impl Verifier<'_> {
    fn report(&mut self, rule: Rule, node: &str, message: impl Into<String>) {
        self.errors.push(VerifyError { rule, func: self.f.name.clone(), node: node.to_owned(), message: message.into() });
    }

    fn signature(&mut self) {
        let f = self.f;
        for (what, names, count) in
            [("parameter", &f.param_names, f.params().len()), ("result", &f.result_names, f.results().len())]
        {
            let unnamed_results = what == "result" && names.is_empty();
            if names.len() != count && !unnamed_results {
                self.report(Rule::Names, "", format!("{} {what} names for {count} {what}s", names.len()));
            }
            if let Some(n) = first_repeated(&names.iter().collect::<Vec<_>>()) {
                self.report(Rule::Names, "", format!("two {what}s are called {n:?}"));
            }
        }
        for &p in f.params() {
            if p.index() < f.value_count() {
                self.bind(f.ty(p));
            }
        }
    }

    /// Takes the symbols that a shape of this type gives a value to.
    fn bind(&mut self, ty: &Type) {
        self.syms.extend(ty.shape.iter().filter_map(Dim::as_sym).cloned());
    }

    fn check_syms(&mut self, node: &str, d: &Dim) {
        let (mut unbound, mut strange) = (None, None);
        d.for_each_sym(&mut |s| {
            if s.name().is_empty() || !s.name().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
                strange = Some(s.clone());
            }
            if !self.syms.contains(s) {
                unbound = Some(s.clone());
            }
        });
        if let Some(s) = strange {
            self.report(Rule::Names, node, format!("{s:?} is no name for a symbol: letters, digits, `_` and `.` only"));
        }
        if let Some(s) = unbound {
            self.report(Rule::Symbols, node, format!("{s} has no value here: no parameter has it as a dimension"));
        }
    }

    /// Checks the type of a value and enters the value.
    fn define(&mut self, v: Value, def: Def, node: &str) {
        if v.index() >= self.f.value_count() || self.f.value(v).def != def || !self.defined.insert(v) {
            return self.report(Rule::Structure, node, format!("value {} is not defined where it says, or twice", v.0));
        }
        self.visible.insert(v);
        let ty = self.f.ty(v);
        if let Err(e) = check_type(ty) {
            self.report(Rule::Dimensions, node, e);
        }
        for d in &ty.shape {
            self.check_syms(node, d);
        }
    }

    fn region(&mut self, r: Region) {
        let f = self.f;
        if r.index() >= f.region_count() || !self.regions.insert(r) {
            return self.report(Rule::Structure, "", format!("region {} does not exist or belongs to two instructions", r.0));
        }
        let (outer_values, outer_syms) = (self.visible.clone(), self.syms.clone());
        let region = f.region(r);
        for &p in &region.params {
            if p.index() < f.value_count() {
                self.bind(f.ty(p));
            }
        }
        for (k, &p) in region.params.iter().enumerate() {
            let node = if p.index() < f.value_count() { f.value(p).loc.name() } else { "" };
            self.define(p, Def::Param(r, k as u32), node);
        }
        for &i in &region.insts {
            if i.index() >= f.inst_count() || !self.placed.insert(i) {
                self.report(Rule::Structure, "", format!("instruction {} does not exist or is placed twice", i.0));
                continue;
            }
            self.inst(i);
        }
        for &v in &region.results {
            self.check_use(v, "", "a region's result");
        }
        self.visible = outer_values;
        self.syms = outer_syms;
    }

    fn check_use(&mut self, v: Value, node: &str, what: &str) -> bool {
        let ok = self.visible.contains(&v);
        if !ok {
            let from = if v.index() < self.f.value_count() { self.f.value(v).loc.name().to_owned() } else { String::new() };
            self.report(Rule::Dominance, node, format!("{what} (value {}, from node {from:?}) is not defined before its use", v.0));
        }
        ok
    }

    fn inst(&mut self, i: Inst) {
        let f = self.f;
        let inst = f.inst(i);
        let node = inst.loc.name();
        let def = inst.op.def();
        let mut fit = true;
        for &v in &inst.operands {
            fit &= self.check_use(v, node, &format!("an operand of {}", def.name));
        }
        if inst.operands.len() < def.operands.0 || inst.operands.len() > def.operands.1 {
            self.report(Rule::Operands, node, format!("{} does not take {} operands", def.name, inst.operands.len()));
            fit = false;
        }
        fit &= self.attrs(inst, node);
        if fit && inst.results.iter().all(|v| v.index() < f.value_count()) {
            self.types(inst, node);
        }
        let region_count = match inst.op {
            Op::Fused => 1,
            Op::If | Op::While => 2,
            _ => 0,
        };
        if inst.regions.len() != region_count {
            self.report(Rule::Regions, node, format!("{} has {region_count} regions, not {}", def.name, inst.regions.len()));
        }
        let kept = (inst.op == Op::Fused).then(|| std::mem::take(&mut self.visible));
        for &r in &inst.regions {
            self.region(r);
        }
        if let Some(visible) = kept {
            self.visible = visible;
        }
        if matches!(inst.op, Op::Call | Op::If | Op::While | Op::VarRead) {
            for &v in inst.results.iter().filter(|v| v.index() < f.value_count()) {
                self.bind(f.ty(v));
            }
        }
        for (k, &v) in inst.results.iter().enumerate() {
            self.define(v, Def::Result(i, k as u32), node);
        }
    }

    fn attrs(&mut self, inst: &InstData, node: &str) -> bool {
        let before = self.errors.len();
        let def = inst.op.def();
        for (key, value) in inst.attrs.iter() {
            match def.attrs.iter().find(|d| d.key == key) {
                None => self.report(Rule::Attributes, node, format!("{} has no attribute {key}", def.name)),
                Some(d) if d.kind != value.kind() => {
                    self.report(
                        Rule::Attributes,
                        node,
                        format!("attribute {key} of {} is {:?}, not {:?}", def.name, value.kind(), d.kind),
                    );
                }
                Some(_) => {}
            }
            if let Attr::Dims(dims) = value {
                for d in dims {
                    if !in_range(d) {
                        self.report(Rule::Dimensions, node, format!("the dimension {d} in attribute {key} is too large"));
                    }
                    self.check_syms(node, d);
                }
            }
        }
        for d in def.attrs.iter().filter(|d| !d.optional && inst.attrs.get(d.key).is_none()) {
            self.report(Rule::Attributes, node, format!("{} needs the attribute {}", def.name, d.key));
        }
        if inst.op.has_epilogue()
            && let Err(e) = epilogue::activation(&inst.attrs)
        {
            self.report(Rule::Attributes, node, e);
        }
        self.errors.len() == before
    }

    fn types(&mut self, inst: &InstData, node: &str) {
        let f = self.f;
        let of = |list: &[Value]| list.iter().map(|&v| f.ty(v)).collect::<Vec<_>>();
        let (operands, results) = (of(&inst.operands), of(&inst.results));
        let outcome = match inst.op {
            Op::Fused => self.fused(inst, &operands, &results),
            Op::If => self.branches(inst, &operands, &results),
            Op::While => self.repeats(inst, &operands, &results),
            Op::Call => self.call(&inst.attrs, &operands, &results),
            Op::VarRead | Op::VarAssign => self.state(inst, &operands, &results),
            _ => {
                let inferred = (inst.op.def().infer)(&operands, &inst.attrs);
                inferred.and_then(|t| {
                    let same = t.len() == results.len() && t.iter().zip(&results).all(|(a, b)| a == *b);
                    if same { Ok(()) } else { Err(format!("the result is {results:?}, but {t:?} is inferred")) }
                })
            }
        };
        if let Err(e) = outcome.and_then(|()| defined_for(inst.op, &inst.attrs, &operands)) {
            let rule = match inst.op {
                Op::Fused | Op::If | Op::While => Rule::Regions,
                Op::Call | Op::VarRead | Op::VarAssign => Rule::References,
                _ => Rule::Types,
            };
            self.report(rule, node, format!("{}: {e}", inst.op.name()));
        }
    }

    /// The types of a region's parameters and results; an error if the region is broken in a way that is reported elsewhere.
    fn region_types(&self, inst: &InstData, k: usize) -> Result<[Vec<&Type>; 2], String> {
        let f = self.f;
        let r = inst.regions.get(k).filter(|r| r.index() < f.region_count()).ok_or_else(|| format!("region {k} is missing"))?;
        let of = |list: &[Value]| list.iter().map(|&v| (v.index() < f.value_count()).then(|| f.ty(v))).collect::<Option<Vec<_>>>();
        match (of(&f.region(*r).params), of(&f.region(*r).results)) {
            (Some(p), Some(y)) => Ok([p, y]),
            _ => Err(format!("region {k} names values that do not exist")),
        }
    }

    fn fused(&self, inst: &InstData, operands: &[&Type], results: &[&Type]) -> Result<(), String> {
        let [params, yields] = self.region_types(inst, 0)?;
        equal("operands", operands, "parameters", &params)?;
        equal("yielded values", &yields, "results", results)?;
        if let Some(t) = results.iter().find(|t| t.shape != results[0].shape) {
            return Err(format!("one loop cannot give both {} and {t}", results[0]));
        }
        for &i in &self.f.region(inst.regions[0]).insts {
            let inner = self.f.inst(i);
            let scalar = inner.attrs.tensor("value").is_some_and(|t| t.rank() == 0);
            if !(inner.op.is_elementwise() || matches!(inner.op, Op::Iota | Op::Broadcast) || inner.op == Op::Const && scalar) {
                return Err(format!("{} (node {:?}) does not belong into a loop over elements", inner.op.name(), inner.loc.name()));
            }
        }
        Ok(())
    }

    /// Each of `to` takes what `from` gives: equal types, except that a symbol new here takes any extent.
    fn flows(&self, what: &str, from: &[&Type], to: &[&Type]) -> Result<(), String> {
        let fresh = |d: &Dim| d.as_sym().is_some_and(|s| !self.syms.contains(s));
        let fits = |a: &Type, b: &Type| {
            a.elem == b.elem && a.rank() == b.rank() && a.shape.iter().zip(&b.shape).all(|(x, y)| x == y || fresh(y))
        };
        if from.len() != to.len() || from.iter().zip(to).any(|(a, b)| !fits(a, b)) {
            return Err(format!("{what} {from:?} do not fit {to:?}"));
        }
        Ok(())
    }

    fn branches(&self, inst: &InstData, operands: &[&Type], results: &[&Type]) -> Result<(), String> {
        let [condition, rest @ ..] = operands else { return Err("a condition is missing".into()) };
        if **condition != Type::scalar(Elem::Bool) {
            return Err(format!("the condition is {condition}, not bool[]"));
        }
        for k in 0..2 {
            let [params, yields] = self.region_types(inst, k)?;
            self.flows("operands", rest, &params)?;
            self.flows("yielded values", &yields, results)?;
        }
        Ok(())
    }

    fn repeats(&self, inst: &InstData, operands: &[&Type], results: &[&Type]) -> Result<(), String> {
        let ([test, verdict], [params, next]) = (self.region_types(inst, 0)?, self.region_types(inst, 1)?);
        self.flows("operands", operands, &test)?;
        self.flows("operands", operands, &params)?;
        self.flows("yielded values", &next, &params)?;
        self.flows("carried values", &params, results)?;
        match verdict.as_slice() {
            [t] if **t == Type::scalar(Elem::Bool) => Ok(()),
            other => Err(format!("the first region gives {other:?}, not bool[]")),
        }
    }

    fn call(&self, attrs: &Attrs, operands: &[&Type], results: &[&Type]) -> Result<(), String> {
        let callee = attrs.func("func").and_then(|id| self.m.funcs.get(id.index())).ok_or("no such function")?;
        let of = |list: &[Value]| -> Option<Vec<Type>> {
            list.iter().map(|&v| (v.index() < callee.value_count()).then(|| callee.ty(v).clone())).collect()
        };
        let (params, yields) = of(callee.params()).zip(of(callee.results())).ok_or("the function is broken")?;
        // The callee's symbols in the caller's terms.
        let mut by: Vec<(Sym, Dim)> = Vec::new();
        for (p, x) in params.iter().zip(operands) {
            by.extend(p.shape.iter().zip(&x.shape).filter_map(|(d, e)| Some((d.as_sym()?.clone(), e.clone()))));
        }
        let substitute = |t: &Type| {
            t.with_shape(
                t.shape
                    .iter()
                    .map(|d| d.substitute(&|s| by.iter().find(|(n, _)| n == s).map(|(_, e)| e.clone())))
                    .collect::<Vec<_>>(),
            )
        };
        let params: Vec<Type> = params.iter().map(substitute).collect();
        let yields: Vec<Type> = yields.iter().map(substitute).collect();
        equal("operands", operands, "parameters", &params.iter().collect::<Vec<_>>())?;
        self.flows("results of the function", &yields.iter().collect::<Vec<_>>(), results)
    }

    fn state(&self, inst: &InstData, operands: &[&Type], results: &[&Type]) -> Result<(), String> {
        let var = inst.attrs.var("var").and_then(|id| self.m.vars.get(id.index())).ok_or("no such variable")?;
        let (value, other) = if inst.op == Op::VarRead { (results, operands) } else { (operands, results) };
        match value {
            [t] if other.is_empty() && could_hold(&var.ty, t) => Ok(()),
            _ => Err(format!("variable {:?} is {}, not {value:?}", var.name, var.ty)),
        }
    }
}

fn equal(what: &str, a: &[&Type], other: &str, b: &[&Type]) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what} {a:?} are not {other} {b:?}")) }
}

/// Whether the tape of an elementwise op has a meaning for these element types.
fn defined_for(op: Op, attrs: &Attrs, operands: &[&Type]) -> Result<(), String> {
    let Body::Elementwise(body) = op.def().body else { return Ok(()) };
    if op == Op::Select || op == Op::Cast && operands[0].elem == attrs.elem("elem").unwrap_or(Elem::Str) {
        return Ok(());
    }
    let mut t = Tape::default();
    let loads: Vec<_> = operands.iter().enumerate().map(|(k, ty)| t.load(k as u32, ty.elem)).collect();
    body(&mut t, &loads, attrs);
    interp::check_tape(&t)
}

//! Modules, functions, regions and instructions.
//!
//! A function is SSA over tensors. A region is a list of instructions with parameters and results; an instruction may hold regions
//! (the branches of an `if`, the body of a loop, a fused body). Effectful instructions of a region run in list order.

use crate::attr::Attrs;
use crate::op::Op;
use crate::tensor::Tensor;
use crate::ty::Type;
use hashbrown::HashMap;
use std::sync::Arc;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);
        impl $name { pub fn index(self) -> usize { self.0 as usize } }
    )* };
}
ids!(
    /// A value of a function.
    Value,
    /// An instruction of a function.
    Inst,
    /// A region of a function.
    Region,
    /// A function of a module.
    FuncId,
    /// A variable of a module.
    VarId
);

/// Where a value came from: the name of the node in the source graph; empty if the compiler made it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Loc(Option<Arc<str>>);

impl Loc {
    pub fn new(node: &str) -> Loc {
        Loc(Some(node.into()))
    }

    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Clone, Debug)]
pub struct ValueData {
    pub ty: Type,
    pub def: Def,
    pub loc: Loc,
}

/// What defines a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Def {
    Param(Region, u32),
    Result(Inst, u32),
}

#[derive(Clone, Debug)]
pub struct InstData {
    pub op: Op,
    pub operands: Vec<Value>,
    pub attrs: Attrs,
    pub results: Vec<Value>,
    pub regions: Vec<Region>,
    pub loc: Loc,
}

#[derive(Clone, Debug, Default)]
pub struct RegionData {
    pub params: Vec<Value>,
    pub insts: Vec<Inst>,
    pub results: Vec<Value>,
}

/// A function: one region of its own, named parameters and results.
#[derive(Clone, Debug)]
pub struct Func {
    pub name: String,
    /// Names of parameters and results, as the signature has them.
    pub param_names: Vec<String>,
    pub result_names: Vec<String>,
    pub body: Region,
    values: Vec<ValueData>,
    insts: Vec<InstData>,
    regions: Vec<RegionData>,
}

/// State that outlives a run.
#[derive(Clone, Debug)]
pub struct Var {
    pub name: String,
    pub ty: Type,
    /// Value at session start, if a checkpoint or initialiser gives one.
    pub init: Option<Tensor>,
}

#[derive(Clone, Debug, Default)]
pub struct Module {
    pub name: String,
    pub vars: Vec<Var>,
    pub funcs: Vec<Func>,
}

impl Module {
    pub fn func(&self, name: &str) -> Option<&Func> {
        self.funcs.iter().find(|f| f.name == name)
    }

    pub fn var(&self, v: VarId) -> &Var {
        &self.vars[v.index()]
    }
}

impl Func {
    pub fn new(name: &str) -> Func {
        Func {
            name: name.to_owned(),
            param_names: Vec::new(),
            result_names: Vec::new(),
            body: Region(0),
            values: Vec::new(),
            insts: Vec::new(),
            regions: vec![RegionData::default()],
        }
    }

    pub fn value(&self, v: Value) -> &ValueData {
        &self.values[v.index()]
    }

    pub fn ty(&self, v: Value) -> &Type {
        &self.values[v.index()].ty
    }

    pub fn value_mut(&mut self, v: Value) -> &mut ValueData {
        &mut self.values[v.index()]
    }

    pub fn inst(&self, i: Inst) -> &InstData {
        &self.insts[i.index()]
    }

    pub fn inst_mut(&mut self, i: Inst) -> &mut InstData {
        &mut self.insts[i.index()]
    }

    pub fn region(&self, r: Region) -> &RegionData {
        &self.regions[r.index()]
    }

    pub fn region_mut(&mut self, r: Region) -> &mut RegionData {
        &mut self.regions[r.index()]
    }

    pub fn params(&self) -> &[Value] {
        &self.region(self.body).params
    }

    pub fn results(&self) -> &[Value] {
        &self.region(self.body).results
    }

    /// Number of values ever made, dead ones included; the size of a side table indexed by value.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Number of instructions ever made, dead ones included.
    pub fn inst_count(&self) -> usize {
        self.insts.len()
    }

    /// Number of regions ever made.
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// The instruction that defines `v`, unless it is a parameter.
    pub fn def_inst(&self, v: Value) -> Option<Inst> {
        match self.value(v).def {
            Def::Result(i, _) => Some(i),
            Def::Param(..) => None,
        }
    }

    /// The instruction that defines `v`, if it is an `op`.
    pub fn def_op(&self, v: Value, op: Op) -> Option<&InstData> {
        self.def_inst(v).map(|i| self.inst(i)).filter(|d| d.op == op)
    }

    /// The tensor, if `v` is a constant.
    pub fn const_of(&self, v: Value) -> Option<&Tensor> {
        self.def_op(v, Op::Const)?.attrs.tensor("value")
    }

    pub fn add_region(&mut self) -> Region {
        self.regions.push(RegionData::default());
        Region(self.regions.len() as u32 - 1)
    }

    pub fn add_param(&mut self, r: Region, ty: Type, loc: Loc) -> Value {
        let index = self.region(r).params.len() as u32;
        let v = self.make_value(ty, Def::Param(r, index), loc);
        self.region_mut(r).params.push(v);
        v
    }

    /// Adds a parameter of the function itself.
    pub fn add_func_param(&mut self, name: &str, ty: Type) -> Value {
        self.param_names.push(name.to_owned());
        self.add_param(self.body, ty, Loc::new(name))
    }

    /// Makes an instruction without placing it in a region; its results have the given types.
    pub fn make_inst(
        &mut self,
        op: Op,
        operands: Vec<Value>,
        attrs: Attrs,
        regions: Vec<Region>,
        types: Vec<Type>,
        loc: Loc,
    ) -> Inst {
        let inst = Inst(self.insts.len() as u32);
        self.insts.push(InstData { op, operands, attrs, results: Vec::new(), regions, loc: loc.clone() });
        let results =
            types.into_iter().enumerate().map(|(k, ty)| self.make_value(ty, Def::Result(inst, k as u32), loc.clone())).collect();
        self.insts[inst.index()].results = results;
        inst
    }

    fn make_value(&mut self, ty: Type, def: Def, loc: Loc) -> Value {
        self.values.push(ValueData { ty, def, loc });
        Value(self.values.len() as u32 - 1)
    }

    /// Every instruction of `r` and of the regions inside it, outer before inner.
    pub fn walk(&self, r: Region, f: &mut dyn FnMut(&Func, Region, Inst)) {
        for &i in &self.region(r).insts {
            f(self, r, i);
            for &inner in &self.inst(i).regions {
                self.walk(inner, f);
            }
        }
    }

    /// How often each value is used, by operands and by region results.
    pub fn use_counts(&self) -> Vec<u32> {
        let mut n = vec![0; self.values.len()];
        let mut count_results = |r: Region| self.region(r).results.iter().for_each(|v| n[v.index()] += 1);
        count_results(self.body);
        self.walk(self.body, &mut |f, _, i| f.inst(i).regions.iter().for_each(|&r| count_results(r)));
        self.walk(self.body, &mut |f, _, i| f.inst(i).operands.iter().for_each(|v| n[v.index()] += 1));
        n
    }

    /// Replaces uses by `map`, in the regions' instructions and results, following chains.
    pub fn replace_uses(&mut self, map: &HashMap<Value, Value>) {
        if map.is_empty() {
            return;
        }
        let resolve = |mut v: Value| {
            while let Some(&w) = map.get(&v) {
                v = w;
            }
            v
        };
        for i in &mut self.insts {
            i.operands.iter_mut().for_each(|v| *v = resolve(*v));
        }
        for r in &mut self.regions {
            r.results.iter_mut().for_each(|v| *v = resolve(*v));
        }
    }
}

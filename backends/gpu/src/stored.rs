//! Programs in a form for files: what a run needs of a plan, without its constants and without the code of its kernels.

use crate::code::Code;
use crate::program::{Launch, Packed, Program};
use graphc_cpu::Weights;
use graphc_ir::text::parse_dim;
use graphc_ir::{Dim, Elem, Loc, Sym, Type, VarId};
use graphc_passes::plan::{Buf, Buffer, ConstId, Place, Plan, Port, Step, StepKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A program without kernels and weights. Dimensions are text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    name: String,
    syms: Vec<String>,
    inputs: Vec<StoredPort>,
    outputs: Vec<StoredPort>,
    buffers: Vec<StoredBuffer>,
    steps: Vec<StoredStep>,
    arena: String,
    /// Where each constant begins among the packed ones, and the bytes of all.
    offsets: Vec<usize>,
    weights: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredPort {
    name: String,
    buf: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredBuffer {
    elem: i32,
    shape: Vec<String>,
    place: StoredPlace,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum StoredPlace {
    Arena(String),
    Input(usize),
    Output(usize),
    Const(u32),
    /// A variable, by its number in the function.
    Var(u32),
    View(u32, String),
    None,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredStep {
    kind: StoredKind,
    reads: Vec<u32>,
    writes: Vec<u32>,
    node: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum StoredKind {
    Launch { kernel: usize, buffers: Vec<u32>, params: Vec<String>, groups: String },
    If(u32),
    Else,
    EndIf,
    While,
    Test(u32),
    EndWhile,
}

fn numbers(bufs: &[Buf]) -> Vec<u32> {
    bufs.iter().map(|b| b.0).collect()
}

impl Stored {
    /// What is stored of a program whose plan has its constants; `None` if a step of it has no launch.
    pub fn of(program: &Program) -> Option<Stored> {
        let plan = &program.plan;
        let layout = Weights::of(plan);
        let port = |p: &Port| StoredPort { name: p.name.clone(), buf: p.buf.0 };
        let buffer = |b: &Buffer| {
            let place = match &b.place {
                Place::Arena { offset } => StoredPlace::Arena(offset.to_string()),
                Place::Input(k) => StoredPlace::Input(*k),
                Place::Output(k) => StoredPlace::Output(*k),
                Place::Const(c) => StoredPlace::Const(c.0),
                Place::View { of, offset } => StoredPlace::View(of.0, offset.to_string()),
                // Another buffer took its part.
                Place::Unplaced => StoredPlace::None,
                Place::Var(v) => StoredPlace::Var(v.0),
            };
            StoredBuffer { elem: b.ty.elem.number(), shape: b.ty.shape.iter().map(Dim::to_string).collect(), place }
        };
        let step = |(s, l): (&Step, &Option<Launch>)| {
            let kind = match (&s.kind, l) {
                (_, Some(l)) => StoredKind::Launch {
                    kernel: l.kernel,
                    buffers: numbers(&l.buffers),
                    params: l.params.iter().map(Dim::to_string).collect(),
                    groups: l.groups.to_string(),
                },
                (StepKind::If { cond }, _) => StoredKind::If(cond.0),
                (StepKind::Else, _) => StoredKind::Else,
                (StepKind::EndIf, _) => StoredKind::EndIf,
                (StepKind::While, _) => StoredKind::While,
                (StepKind::Test { cond }, _) => StoredKind::Test(cond.0),
                (StepKind::EndWhile, _) => StoredKind::EndWhile,
                (StepKind::Kernel { .. } | StepKind::Loop { .. }, None) => return None,
            };
            let node = s.loc.name().to_owned();
            Some(StoredStep { kind, reads: numbers(&s.reads), writes: numbers(&s.writes), node })
        };
        Some(Stored {
            name: plan.name.clone(),
            syms: plan.syms.iter().map(|s| s.name().to_owned()).collect(),
            inputs: plan.inputs.iter().map(port).collect(),
            outputs: plan.outputs.iter().map(port).collect(),
            buffers: plan.buffers.iter().map(buffer).collect(),
            steps: plan.steps.iter().zip(&program.launches).map(step).collect::<Option<_>>()?,
            arena: plan.arena.to_string(),
            offsets: (0..layout.count()).map(|k| layout.offset(ConstId(k as u32)) as usize).collect(),
            weights: layout.bytes(),
        })
    }

    /// Bytes of the packed weights.
    pub fn weights(&self) -> usize {
        self.weights
    }

    /// The program with these kernels and weights; `None` if they do not belong together.
    pub fn program(&self, kernels: Vec<Arc<Code>>, weights: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Option<Program> {
        let dim = |text: &String| parse_dim(text).ok();
        let buf = |k: &u32| ((*k as usize) < self.buffers.len()).then_some(Buf(*k));
        let bufs = |list: &[u32]| list.iter().map(buf).collect::<Option<Vec<Buf>>>();
        let mut plan = Plan {
            name: self.name.clone(),
            syms: self.syms.iter().map(|s| Sym::new(s)).collect(),
            arena: dim(&self.arena)?,
            ..Plan::default()
        };
        for b in &self.buffers {
            let shape = b.shape.iter().map(dim).collect::<Option<Vec<Dim>>>()?;
            let place = match &b.place {
                StoredPlace::Arena(offset) => Place::Arena { offset: dim(offset)? },
                StoredPlace::Input(k) => Place::Input(Some(*k).filter(|k| *k < self.inputs.len())?),
                StoredPlace::Output(k) => Place::Output(Some(*k).filter(|k| *k < self.outputs.len())?),
                StoredPlace::Const(c) => Place::Const(Some(ConstId(*c)).filter(|c| c.index() < self.offsets.len())?),
                StoredPlace::Var(v) => Place::Var(VarId(*v)),
                StoredPlace::View(of, offset) => Place::View { of: buf(of)?, offset: dim(offset)? },
                StoredPlace::None => Place::Unplaced,
            };
            plan.add_buffer(Type::new(Elem::from_number(b.elem)?, shape), place, Loc::default());
        }
        // Views end somewhere.
        let of = |b: Buf| if let Place::View { of, .. } = plan.buffer(b).place { Some(of) } else { None };
        let ends = |b: u32| std::iter::successors(Some(Buf(b)), |&b| of(b)).nth(plan.buffers.len()).is_none();
        (0..plan.buffers.len() as u32).all(ends).then_some(())?;
        let port = |p: &StoredPort| {
            let buf = buf(&p.buf)?;
            Some(Port { name: p.name.clone(), ty: plan.buffer(buf).ty.clone(), buf })
        };
        let (inputs, outputs) =
            (self.inputs.iter().map(port).collect::<Option<_>>()?, self.outputs.iter().map(port).collect::<Option<_>>()?);
        (plan.inputs, plan.outputs) = (inputs, outputs);
        let mut launches = Vec::with_capacity(self.steps.len());
        for s in &self.steps {
            let mut launch = None;
            let kind = match &s.kind {
                StoredKind::Launch { kernel, buffers, params, groups } => {
                    let code = kernels.get(*kernel)?;
                    let counted = code.bindings.iter().filter_map(|b| match b {
                        crate::Binding::Buffer(k) => Some(*k),
                        crate::Binding::Map(m) => Some(m.buffer),
                        crate::Binding::Params | crate::Binding::Status => None,
                    });
                    counted.max().is_none_or(|most| (most as usize) < buffers.len()).then_some(())?;
                    let params = params.iter().map(dim).collect::<Option<Vec<Dim>>>()?;
                    launch = Some(Launch { kernel: *kernel, buffers: bufs(buffers)?, params, groups: dim(groups)? });
                    // What it was before it became a launch matters no more.
                    StepKind::Kernel { symbol: "", args: Vec::new() }
                }
                StoredKind::If(c) => StepKind::If { cond: buf(c)? },
                StoredKind::Else => StepKind::Else,
                StoredKind::EndIf => StepKind::EndIf,
                StoredKind::While => StepKind::While,
                StoredKind::Test(c) => StepKind::Test { cond: buf(c)? },
                StoredKind::EndWhile => StepKind::EndWhile,
            };
            launches.push(launch);
            plan.steps.push(Step {
                kind,
                reads: bufs(&s.reads)?,
                writes: bufs(&s.writes)?,
                in_place: Vec::new(),
                loc: Loc::new(&s.node),
            });
        }
        let ordered = self.offsets.windows(2).all(|w| w[0] <= w[1]) && self.offsets.last().is_none_or(|o| *o <= self.weights);
        let whole = (*weights).as_ref().len() >= self.weights;
        let layout = Weights::known(self.offsets.clone(), self.weights);
        let packed = Some(Packed { layout, bytes: weights });
        (ordered && whole).then_some(Program { plan, kernels, launches, packed })
    }
}

//! The function of a plan: one launch after another.

use super::control::Open;
use super::dims::DimCode;
use super::{Definer, EmitOptions, codegen, status_signature};
use crate::error::CompileError;
use crate::tape::dim_words;
use crate::weights::Weights;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    AbiParam, Block, FuncRef, InstBuilder, MemFlagsData, SigRef, Signature, SourceLoc, StackSlot, StackSlotData, StackSlotKind,
    Value,
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use graphc_abi::args::{self, FieldKind};
use graphc_abi::{Ctx, ErrorRecord, Status};
use graphc_ir::Dim;
use graphc_passes::plan::{Arg, Buf, LoopId, Place, Plan, StepKind};
use hashbrown::HashMap;
use std::mem::offset_of;
use std::ops::Range;

/// What a word of an argument block holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Int(Dim),
    /// Bits of a real number.
    Real(u64),
    /// Address: a base and bytes from it.
    Address(Base, Dim),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    Arena,
    Weights,
    Input(usize),
    Output(usize),
    Var(usize),
}

/// An argument block on the stack. Kernels do not change it, so what it holds is known and only what differs is stored.
#[derive(Clone)]
pub(super) struct ArgBlock {
    pub(super) slot: StackSlot,
    pub(super) holds: Vec<Option<Word>>,
}

pub(super) struct Schedule<'a, 'f, M: Definer> {
    module: &'a mut M,
    pub(super) b: &'a mut FunctionBuilder<'f>,
    plan: &'a Plan,
    weights: &'a Weights,
    pub(super) dims: DimCode<'a>,
    pub(super) ctx: Value,
    /// Parameters: inputs, outputs, arena, weights, vars.
    params: [Value; 5],
    pub(super) bases: HashMap<Base, Value>,
    pub(super) blocks: HashMap<String, ArgBlock>,
    kernels: HashMap<&'static str, FuncRef>,
    loops: HashMap<LoopId, FuncRef>,
    loop_ids: &'a [FuncId],
    /// Calls kernels and loops; see [`define_launcher`].
    launcher: FuncRef,
    /// Takes the status of a launch that failed, and returns it.
    pub(super) fail: Block,
    /// Whether runs can be cancelled.
    pub(super) hooks: bool,
    /// Branches and loops around the code at hand.
    pub(super) open: Vec<Open>,
}

/// Steps of one function, more or less: functions are compiled in parallel, and some passes of the compiler take more than linear time
/// of long ones.
const MOST_STEPS: usize = 64;

/// Defines the function of a plan; that of a long one calls others, each for some of the steps.
pub fn define<M: Definer>(
    module: &mut M,
    id: FuncId,
    sig: Signature,
    plan: &Plan,
    weights: &Weights,
    loop_ids: &[FuncId],
    opts: &EmitOptions,
) -> Result<(), CompileError> {
    let hooks = !opts.no_hooks;
    let launcher = define_launcher(module, id, hooks)?;
    let source = Source { plan, weights, loop_ids, launcher, hooks };
    let parts = parts(plan);
    if let [whole] = parts.as_slice() {
        return define_steps(module, id, sig, &source, whole.clone());
    }
    let mut called = Vec::with_capacity(parts.len());
    for (k, part) in parts.into_iter().enumerate() {
        let name = format!("{}.part{k}", module.declarations().get_function_decl(id).linkage_name(id));
        let part_id = module.declare_function(&name, Linkage::Local, &sig)?;
        define_steps(module, part_id, sig.clone(), &source, part)?;
        called.push(part_id);
    }
    define_calls(module, id, sig, &called)
}

/// The steps in runs of about [`MOST_STEPS`], cut outside of branches and loops. Never none.
fn parts(plan: &Plan) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for (i, step) in plan.steps.iter().enumerate() {
        match step.kind {
            StepKind::If { .. } | StepKind::While => depth += 1,
            StepKind::EndIf | StepKind::EndWhile => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && i + 1 - start >= MOST_STEPS {
            parts.push(start..i + 1);
            start = i + 1;
        }
    }
    if start < plan.steps.len() || parts.is_empty() {
        parts.push(start..plan.steps.len());
    }
    parts
}

/// Defines a function; `body` emits its code from the entry block on, given the parameters.
pub(super) fn define_function<M: Definer>(
    module: &mut M,
    id: FuncId,
    sig: Signature,
    body: impl FnOnce(&mut M, &mut FunctionBuilder, &[Value]) -> Result<(), CompileError>,
) -> Result<(), CompileError> {
    let mut context = module.make_context();
    context.func.signature = sig;
    let mut fcx = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut context.func, &mut fcx);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params: Vec<Value> = b.block_params(entry).to_vec();
    body(module, &mut b, &params)?;
    b.seal_all_blocks();
    b.finalize(module.target_config());
    Ok(module.define_quickly(id, &mut context)?)
}

/// Calls functions of one signature in order, until one fails.
fn define_calls<M: Definer>(module: &mut M, id: FuncId, sig: Signature, called: &[FuncId]) -> Result<(), CompileError> {
    define_function(module, id, sig, |module, b, p| {
        let end = b.create_block();
        b.append_block_param(end, I32);
        for &f in called {
            let f = module.declare_func_in_func(f, b.func);
            let call = b.ins().call(f, p);
            let status = b.inst_results(call)[0];
            let next = b.create_block();
            b.ins().brif(status, end, &[status.into()], next, &[]);
            b.switch_to_block(next);
        }
        let ok = b.ins().iconst(I32, 0);
        b.ins().jump(end, &[ok.into()]);
        b.switch_to_block(end);
        let status = b.block_params(end)[0];
        b.ins().return_(&[status]);
        Ok(())
    })
}

/// What the code of steps refers to.
struct Source<'a> {
    plan: &'a Plan,
    weights: &'a Weights,
    loop_ids: &'a [FuncId],
    launcher: FuncId,
    hooks: bool,
}

/// Defines a function of some of the steps.
fn define_steps<M: Definer>(
    module: &mut M,
    id: FuncId,
    sig: Signature,
    source: &Source,
    steps: Range<usize>,
) -> Result<(), CompileError> {
    let Source { plan, weights, loop_ids, launcher, hooks } = *source;
    define_function(module, id, sig, |module, b, p| {
        let fail = b.create_block();
        b.set_cold_block(fail);
        b.append_block_param(fail, I32);
        let launcher = module.declare_func_in_func(launcher, b.func);
        let mut s = Schedule {
            module,
            b,
            plan,
            weights,
            dims: DimCode::new(&plan.syms, p[6]),
            ctx: p[0],
            params: [p[1], p[2], p[3], p[4], p[5]],
            bases: HashMap::new(),
            blocks: HashMap::new(),
            kernels: HashMap::new(),
            loops: HashMap::new(),
            loop_ids,
            launcher,
            fail,
            hooks,
            open: Vec::new(),
        };
        for i in steps {
            s.step(i)?;
        }
        let ok = b.ins().iconst(I32, Status::Ok as i64);
        b.ins().return_(&[ok]);
        b.switch_to_block(fail);
        let status = b.block_params(fail)[0];
        b.ins().return_(&[status]);
        Ok(())
    })
}

/// The function that finds the symbols' values in the extents of the inputs, and checks all extents; then the sizes.
pub fn define_bind<M: Definer>(module: &mut M, id: FuncId, sig: Signature, plan: &Plan, sizes: &[Dim]) -> Result<(), CompileError> {
    let flags = MemFlagsData::trusted();
    define_function(module, id, sig, |_, b, p| {
        let mut extents: Vec<Vec<Value>> = Vec::with_capacity(plan.inputs.len());
        for (i, port) in plan.inputs.iter().enumerate() {
            let at = b.ins().load(I64, flags, p[0], (i * 8) as i32);
            extents.push((0..port.ty.rank()).map(|axis| b.ins().load(I64, flags, at, (axis * 8) as i32)).collect());
        }
        for (k, sym) in plan.syms.iter().enumerate() {
            let told = plan.inputs.iter().zip(&extents).find_map(|(port, e)| {
                let axis = port.ty.shape.iter().position(|d| d.as_sym() == Some(sym))?;
                Some(e[axis])
            });
            let value = told.ok_or_else(|| codegen(format!("no input tells the extent {sym}")))?;
            b.ins().store(flags, value, p[1], (k * 8) as i32);
        }
        let fail = b.create_block();
        b.set_cold_block(fail);
        b.append_block_param(fail, I64);
        let mut dims = DimCode::new(&plan.syms, p[1]);
        for (i, (port, e)) in plan.inputs.iter().zip(&extents).enumerate() {
            for (d, &extent) in port.ty.shape.iter().zip(e) {
                let expected = dims.value(b, d)?;
                let fits = b.ins().icmp(IntCC::Equal, expected, extent);
                let (next, number) = (b.create_block(), b.ins().iconst(I64, i as i64 + 1));
                b.ins().brif(fits, next, &[], fail, &[number.into()]);
                b.switch_to_block(next);
            }
        }
        for (i, d) in sizes.iter().enumerate() {
            let v = dims.value(b, d)?;
            b.ins().store(flags, v, p[2], (i * 8) as i32);
        }
        let fits = b.ins().iconst(I64, 0);
        b.ins().return_(&[fits]);
        b.switch_to_block(fail);
        let number = b.block_params(fail)[0];
        b.ins().return_(&[number]);
        Ok(())
    })
}

/// Defines `fn(ctx, launch, callee, args, sizes) -> status`, which calls a kernel with its arguments, or a loop with its pointers and
/// sizes; a kernel takes no notice of the last. Of a run that is cancelled it gives `Cancelled` instead, and a tracer hears of launches
/// before and after. A launch that fails is written into the run's record.
///
/// Schedules have no checks of their own: they are long, and compiled before anything runs.
fn define_launcher<M: Definer>(module: &mut M, of: FuncId, hooks: bool) -> Result<FuncId, CompileError> {
    let sig = status_signature(module, 5);
    let name = format!("{}.launch", module.declarations().get_function_decl(of).linkage_name(of));
    let id = module.declare_function(&name, Linkage::Local, &sig)?;
    let flags = MemFlagsData::trusted();
    define_function(module, id, sig, |module, b, p| {
        let &[ctx, launch, callee, args, sizes] = p else { return Err(codegen("a launcher of other parameters")) };
        let load = |b: &mut FunctionBuilder, at: usize| b.ins().load(I64, flags, ctx, at as i32);
        let fail = b.create_block();
        b.set_cold_block(fail);
        b.append_block_param(fail, I32);
        let hooks = hooks.then(|| {
            let [cancel, trace] = [offset_of!(Ctx, cancel), offset_of!(Ctx, trace)].map(|at| load(b, at));
            let mut signature = module.make_signature();
            signature.params.extend([I64, I64, I32].map(AbiParam::new));
            (cancel, trace, b.import_signature(signature))
        });
        // Goes on in a new block, having told the tracer.
        let tell = |b: &mut FunctionBuilder, trace: Value, signature: SigRef, end: bool| {
            let [tell, told] = [(); 2].map(|()| b.create_block());
            b.set_cold_block(tell);
            b.ins().brif(trace, tell, &[], told, &[]);
            b.switch_to_block(tell);
            let (data, end) = (load(b, offset_of!(Ctx, trace_data)), b.ins().iconst(I32, end as i64));
            b.ins().call_indirect(signature, trace, &[data, launch, end]);
            b.ins().jump(told, &[]);
            b.switch_to_block(told);
        };
        if let Some((cancel, trace, signature)) = hooks {
            let [watched, go] = [(); 2].map(|()| b.create_block());
            b.set_cold_block(watched);
            let any = b.ins().bor(cancel, trace);
            b.ins().brif(any, watched, &[], go, &[]);
            b.switch_to_block(watched);
            tell(b, trace, signature, false);
            let check = b.create_block();
            b.ins().brif(cancel, check, &[], go, &[]);
            b.switch_to_block(check);
            let set = b.ins().atomic_load(I32, flags, cancel);
            let cancelled = b.ins().iconst(I32, Status::Cancelled as i64);
            b.ins().brif(set, fail, &[cancelled.into()], go, &[]);
            b.switch_to_block(go);
        }
        let signature = status_signature(module, 3);
        let signature = b.import_signature(signature);
        let call = b.ins().call_indirect(signature, callee, &[ctx, args, sizes]);
        let status = b.inst_results(call)[0];
        let done = b.create_block();
        b.ins().brif(status, fail, &[status.into()], done, &[]);
        b.switch_to_block(done);
        if let Some((_, trace, signature)) = hooks {
            tell(b, trace, signature, true);
        }
        let ok = b.ins().iconst(I32, Status::Ok as i64);
        b.ins().return_(&[ok]);
        b.switch_to_block(fail);
        let status = b.block_params(fail)[0];
        record_launch(b, ctx, launch);
        b.ins().return_(&[status]);
        Ok(())
    })?;
    Ok(id)
}

/// Writes into the run's record which launch failed.
pub(super) fn record_launch(b: &mut FunctionBuilder, ctx: Value, launch: Value) {
    let record = b.ins().load(I64, MemFlagsData::trusted(), ctx, offset_of!(Ctx, error) as i32);
    b.ins().store(MemFlagsData::trusted(), launch, record, offset_of!(ErrorRecord, launch) as i32);
}

impl<M: Definer> Schedule<'_, '_, M> {
    /// One launch, skipped where its result is empty.
    fn step(&mut self, i: usize) -> Result<(), CompileError> {
        // Line information is made of it.
        self.b.set_srcloc(SourceLoc::new(i as u32));
        let step = &self.plan.steps[i];
        let (callee, [args, sizes]) = match &step.kind {
            StepKind::Kernel { symbol, args } => {
                if self.copies_itself(symbol, args)? {
                    return Ok(());
                }
                let args = self.kernel_args(symbol, args)?;
                (self.kernel(symbol)?, [args, args])
            }
            StepKind::Loop { id, inputs, outputs } => (self.loop_ref(*id)?, self.loop_args(*id, inputs, outputs)?),
            kind => return self.control(kind, i),
        };
        let number = self.b.ins().iconst(I64, i as i64);
        let guard = self.not_empty(i)?;
        let next = self.b.create_block();
        if let Some(not_empty) = guard {
            let launch = self.b.create_block();
            self.b.ins().brif(not_empty, launch, &[], next, &[]);
            self.b.switch_to_block(launch);
        }
        let callee = self.b.ins().func_addr(I64, callee);
        let call = self.b.ins().call(self.launcher, &[self.ctx, number, callee, args, sizes]);
        let status = self.b.inst_results(call)[0];
        self.b.ins().brif(status, self.fail, &[status.into()], next, &[]);
        self.b.switch_to_block(next);
        Ok(())
    }

    /// Whether what the step writes has elements, where that is not known: an extent of zero must not reach kernels that take 0 as
    /// a default.
    fn not_empty(&mut self, i: usize) -> Result<Option<Value>, CompileError> {
        let Some(&out) = self.plan.steps[i].writes.first() else { return Ok(None) };
        let elements = self.plan.buffer(out).ty.elements();
        match elements.sign() {
            Some(1) => Ok(None),
            _ => {
                let n = self.dims.value(self.b, &elements)?;
                let zero = self.b.ins().iconst(I64, 0);
                Ok(Some(self.b.ins().icmp(IntCC::SignedGreaterThan, n, zero)))
            }
        }
    }

    /// True for a copy whose source and target were given one place.
    fn copies_itself(&self, symbol: &str, args: &[(&'static str, Arg)]) -> Result<bool, CompileError> {
        if symbol != "gc_copy_strided" {
            return Ok(false);
        }
        let arg = |name: &str| args.iter().find(|(n, _)| *n == name).map(|(_, a)| a);
        let at = |name: &str| match arg(name) {
            Some(Arg::Buf { buf, offset }) => self.address(*buf, offset).map(Some),
            _ => Ok(None),
        };
        let walks = |names: [&str; 8], offset: &str| {
            let names: Vec<&str> = names.into_iter().chain([offset]).collect();
            names.into_iter().map(|n| arg(n).cloned()).collect::<Vec<_>>()
        };
        let alike = walks(crate::lower::kernel::S, "x_offset") == walks(crate::lower::kernel::T, "y_offset");
        Ok(alike && at("x")? == at("y")?)
    }

    fn kernel(&mut self, symbol: &'static str) -> Result<FuncRef, CompileError> {
        if let Some(&f) = self.kernels.get(symbol) {
            return Ok(f);
        }
        let sig = status_signature(self.module, 2);
        let id = self.module.declare_function(symbol, Linkage::Import, &sig)?;
        let f = self.module.declare_func_in_func(id, self.b.func);
        self.kernels.insert(symbol, f);
        Ok(f)
    }

    fn loop_ref(&mut self, id: LoopId) -> Result<FuncRef, CompileError> {
        if let Some(&f) = self.loops.get(&id) {
            return Ok(f);
        }
        let func = *self.loop_ids.get(id.index()).ok_or_else(|| codegen("a loop that the plan does not have"))?;
        let f = self.module.declare_func_in_func(func, self.b.func);
        self.loops.insert(id, f);
        Ok(f)
    }

    /// Stores the arguments; the address of their block.
    fn kernel_args(&mut self, symbol: &str, given: &[(&'static str, Arg)]) -> Result<Value, CompileError> {
        let sig = args::signature(symbol).ok_or_else(|| codegen(format!("no kernel {symbol}")))?;
        let mut words: Vec<Word> =
            sig.fields.iter().map(|f| if f.kind == FieldKind::Real { Word::Real(0) } else { Word::Int(Dim::ZERO) }).collect();
        for (name, arg) in given {
            let at = sig.fields.iter().position(|f| f.name == *name).ok_or_else(|| codegen(format!("{symbol} takes no {name}")))?;
            words[at] = match arg {
                Arg::Int(d) => Word::Int(d.clone()),
                Arg::Real(r) => Word::Real(r.to_bits()),
                Arg::Buf { buf, offset } => self.address(*buf, offset)?,
            };
        }
        self.store(symbol, &words)
    }

    fn loop_args(&mut self, id: LoopId, inputs: &[Buf], outputs: &[Buf]) -> Result<[Value; 2], CompileError> {
        let pointers = inputs.iter().chain(outputs).map(|&b| self.address(b, &Dim::ZERO)).collect::<Result<Vec<_>, _>>()?;
        let plan = self.plan;
        let l = plan.loops.get(id.index()).ok_or_else(|| codegen("a loop that the plan does not have"))?;
        let dims: Vec<Word> = dim_words(l).into_iter().map(Word::Int).collect();
        let pointers = self.store(&format!("ptrs{}", pointers.len()), &pointers)?;
        // Blocks are kept apart by length, and never empty.
        let dims = if dims.is_empty() { pointers } else { self.store(&format!("dims{}", dims.len()), &dims)? };
        Ok([pointers, dims])
    }

    /// Makes the argument block `name` hold `words`.
    fn store(&mut self, name: &str, words: &[Word]) -> Result<Value, CompileError> {
        let mut block = match self.blocks.remove(name) {
            Some(b) => b,
            None => {
                let bytes = u32::try_from(words.len() * 8).map_err(codegen)?;
                let slot = self.b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3));
                ArgBlock { slot, holds: vec![None; words.len()] }
            }
        };
        for (i, (word, holds)) in words.iter().zip(&mut block.holds).enumerate() {
            if holds.as_ref() == Some(word) {
                continue;
            }
            let v = self.word(word)?;
            self.b.ins().stack_store(I64, v, block.slot, (i * 8) as i32);
            *holds = Some(word.clone());
        }
        let at = self.b.ins().stack_addr(I64, block.slot, 0);
        self.blocks.insert(name.to_owned(), block);
        Ok(at)
    }

    fn word(&mut self, word: &Word) -> Result<Value, CompileError> {
        Ok(match word {
            Word::Int(d) => self.dims.value(self.b, d)?,
            Word::Real(bits) => self.b.ins().iconst(I64, *bits as i64),
            Word::Address(base, offset) => {
                let base = self.base(*base);
                if offset.is_zero() {
                    base
                } else {
                    let offset = self.dims.value(self.b, offset)?;
                    self.b.ins().iadd(base, offset)
                }
            }
        })
    }

    /// The address of the first element of `buf`.
    pub(super) fn start_of(&mut self, buf: Buf) -> Result<Value, CompileError> {
        let at = self.address(buf, &Dim::ZERO)?;
        self.word(&at)
    }

    /// The address of element `offset` of `buf`.
    fn address(&self, buf: Buf, offset: &Dim) -> Result<Word, CompileError> {
        let b = self.plan.buffer(buf);
        let bytes = offset * &Dim::from(b.ty.elem.size());
        Ok(match &b.place {
            Place::Arena { offset } => Word::Address(Base::Arena, offset + &bytes),
            Place::Input(i) => Word::Address(Base::Input(*i), bytes),
            Place::Output(i) => Word::Address(Base::Output(*i), bytes),
            Place::Const(c) => Word::Address(Base::Weights, &Dim::from(self.weights.offset(*c)) + &bytes),
            Place::Var(v) => Word::Address(Base::Var(v.index()), bytes),
            Place::View { of, offset } => {
                let from = offset * &Dim::from(b.ty.elem.size());
                match self.address(*of, &Dim::ZERO)? {
                    Word::Address(base, at) => Word::Address(base, &(&at + &from) + &bytes),
                    other => other,
                }
            }
            Place::Unplaced => return Err(codegen(format!("buffer {} has no place", buf.0))),
        })
    }

    fn base(&mut self, base: Base) -> Value {
        if let Some(&v) = self.bases.get(&base) {
            return v;
        }
        let [inputs, outputs, arena, weights, vars] = self.params;
        let (table, i) = match base {
            Base::Arena => return arena,
            Base::Weights => return weights,
            Base::Input(i) => (inputs, i),
            Base::Output(i) => (outputs, i),
            Base::Var(i) => (vars, i),
        };
        let v = self.b.ins().load(I64, MemFlagsData::trusted(), table, (i * 8) as i32);
        self.bases.insert(base, v);
        v
    }
}

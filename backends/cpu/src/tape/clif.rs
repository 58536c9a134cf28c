//! The general emitter: loops as Cranelift IR, scalar or in 128-bit vectors.

use super::TapeError;
use super::body::Body;
use super::code::{Code, Op, Ty};
use super::legalize::Features;
use super::lower::{Lower, Target, WIDTH, clif_type};
use super::nest::Lanes;
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I32, I32X4, I64};
use cranelift_codegen::ir::{AbiParam, Block, BlockArg, FuncRef, Function, InstBuilder, MemFlagsData, Signature, Value};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use graphc_abi::Status;
use hashbrown::HashMap;

/// Copies of a vector that are computed together, to hide latencies.
const COPIES: usize = 4;

/// True if the target has the named CPU feature.
fn has(isa: &dyn TargetIsa, flag: &str) -> bool {
    isa.isa_flags().iter().any(|f| f.name == flag && f.as_bool() == Some(true))
}

/// `fn(frame: *const i64) -> i32`. On x86-64 of the System V convention, on every system: that of the vector emitters.
pub fn kernel_signature<M: Module>(module: &M) -> Signature {
    let mut s = module.make_signature();
    if module.isa().name() == "x64" {
        s.call_conv = CallConv::SystemV;
    }
    s.params.push(AbiParam::new(I64));
    s.returns.push(AbiParam::new(I32));
    s
}

/// Defines the kernel of `body` as function `name`: a walk over the part of the nest that its frame describes.
pub fn define_kernel<M: Module>(module: &mut M, body: &Body, name: &str) -> Result<FuncId, TapeError> {
    let isa = module.isa();
    let x64 = isa.name() == "x64";
    let round = !x64 || has(isa, "has_sse41");
    let fma = !x64 || has(isa, "has_fma");
    let vectors = isa.name() != "riscv64" || has(isa, "has_v");
    let body = body.legalize(Features { half: false, scale: false, round, compare: true });
    let mut ctx = Context::new();
    ctx.func.signature = kernel_signature(module);
    let calls = declare_calls(module, &body.code, &mut ctx.func)?;
    let mut fc = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut ctx.func, &mut fc);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let frame = b.block_params(entry)[0];
    let fail = b.create_block();
    let by_lanes = |op: &Op| matches!(op, Op::ShlV(..) | Op::ShrV(..) | Op::SarV(..));
    let strided = (0..body.nest.inputs).any(|k| body.nest.strided(k));
    let suits = vectors && !strided && !body.code.ops().iter().any(|(op, _)| by_lanes(op));
    let vector = body.nest.lanes != Lanes::None && body.code.is_vector() && suits;
    let target = Target { fma, x64, calls: &calls, fail };
    let mut e = Emitter { b, body: &body, frame, target, vector };
    e.emit();
    e.b.seal_block(fail);
    e.b.finalize(module.target_config());
    let id = module.declare_function(name, Linkage::Local, &ctx.func.signature)?;
    module.define_function(id, &mut ctx)?;
    Ok(id)
}

/// Declares the library functions that `code` calls.
fn declare_calls<M: Module>(module: &mut M, code: &Code, func: &mut Function) -> Result<HashMap<&'static str, FuncRef>, TapeError> {
    let mut calls = HashMap::new();
    for (op, ty) in code.ops() {
        let Op::Call(name, _, second) = *op else { continue };
        let mut s = module.make_signature();
        for _ in 0..1 + second.is_some() as usize {
            s.params.push(AbiParam::new(clif_type(*ty, 1)));
        }
        s.returns.push(AbiParam::new(clif_type(*ty, 1)));
        let id = module.declare_function(name, Linkage::Import, &s)?;
        calls.insert(name, module.declare_func_in_func(id, func));
    }
    Ok(calls)
}

/// A counted loop that is open for its body.
struct Open {
    head: Block,
    exit: Block,
    counter: Value,
    /// Values of the carried variables, in the body and after the loop.
    carried: Vec<Value>,
}

/// What is done at a place of a strip: the place, the width, the copies, the accumulators; gives the new accumulators.
type Strip<'f, E> = &'f mut dyn FnMut(&mut E, &At, usize, usize, &[Value]) -> Vec<Value>;

/// Where an iteration is: the address of each access and the index along each axis.
#[derive(Clone)]
struct At {
    pointers: Vec<Value>,
    indices: Vec<Option<Value>>,
}

struct Emitter<'a> {
    b: FunctionBuilder<'a>,
    body: &'a Body,
    frame: Value,
    target: Target<'a>,
    vector: bool,
}

impl<'a> Emitter<'a> {
    fn word(&mut self, w: usize) -> Value {
        self.b.ins().load(I64, MemFlagsData::trusted().with_readonly(), self.frame, 8 * w as i32)
    }

    fn open(&mut self, count: Value, carried: &[Value]) -> Open {
        let (head, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let zero = self.b.ins().iconst(I64, 0);
        let mut args: Vec<BlockArg> = vec![zero.into()];
        self.b.append_block_param(head, I64);
        for v in carried {
            let ty = self.b.func.dfg.value_type(*v);
            self.b.append_block_param(head, ty);
            args.push((*v).into());
        }
        self.b.ins().jump(head, &args);
        self.b.switch_to_block(head);
        let params = self.b.block_params(head).to_vec();
        let more = self.b.ins().icmp(IntCC::SignedLessThan, params[0], count);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        Open { head, exit, counter: params[0], carried: params[1..].to_vec() }
    }

    fn close(&mut self, open: Open, next: &[Value]) {
        let counter = self.b.ins().iadd_imm_s(open.counter, 1);
        let mut args: Vec<BlockArg> = vec![counter.into()];
        args.extend(next.iter().map(|v| BlockArg::from(*v)));
        self.b.ins().jump(open.head, &args);
        self.b.seal_block(open.head);
        self.b.switch_to_block(open.exit);
        self.b.seal_block(open.exit);
    }

    fn emit(&mut self) {
        let nest = &self.body.nest;
        let at = At {
            pointers: (0..nest.places.len()).map(|k| self.word(nest.pointer_word(k))).collect(),
            indices: vec![None; nest.axes.len()],
        };
        let outer: Vec<usize> = (0..nest.axes.len())
            .filter(|&a| !nest.axes[a].reduced && (nest.lanes != Lanes::Parallel || a + 1 != nest.axes.len()))
            .collect();
        self.parallel(&outer, &at);
        let ok = self.b.ins().iconst(I32, 0);
        self.b.ins().return_(&[ok]);
        self.b.switch_to_block(self.target.fail);
        let failed = self.b.ins().iconst(I32, Status::DivisionByZero as i64);
        self.b.ins().return_(&[failed]);
    }

    /// Opens the level of `axis`, `step` indices at a time, `count` times; `at` moves along.
    fn enter(&mut self, axis: usize, count: Value, step: i64, at: &At, more: &[Value]) -> (Open, At) {
        let mut carried = at.pointers.clone();
        carried.extend(more);
        let open = self.open(count, &carried);
        let mut inner = At { pointers: open.carried[..at.pointers.len()].to_vec(), indices: at.indices.clone() };
        let base = match at.indices[axis] {
            Some(i) => i,
            None => self.word(self.body.nest.start_word(axis)),
        };
        let moved = self.b.ins().imul_imm_s(open.counter, step);
        inner.indices[axis] = Some(self.b.ins().iadd(base, moved));
        (open, inner)
    }

    /// Closes a level; returns the carried values beyond the pointers.
    fn leave(&mut self, axis: usize, step: i64, open: Open, at: &At, more: &[Value]) -> Vec<Value> {
        let mut next = self.advance(axis, step, at);
        next.extend(more);
        let rest = open.carried[at.pointers.len()..].to_vec();
        self.close(open, &next);
        rest
    }

    fn advance(&mut self, axis: usize, step: i64, at: &At) -> Vec<Value> {
        let nest = &self.body.nest;
        (0..at.pointers.len())
            .map(|k| match nest.const_stride(axis, k) {
                Some(0) => at.pointers[k],
                Some(s) => self.b.ins().iadd_imm_s(at.pointers[k], s.wrapping_mul(step)),
                None => {
                    let s = self.word(nest.stride_word(axis, k));
                    self.b.ins().iadd(at.pointers[k], s)
                }
            })
            .collect()
    }

    fn parallel(&mut self, axes: &[usize], at: &At) {
        let [axis, inner @ ..] = axes else { return self.row(at) };
        let count = self.word(self.body.nest.extent_word(*axis));
        let (open, inside) = self.enter(*axis, count, 1, at, &[]);
        self.parallel(inner, &inside);
        self.leave(*axis, 1, open, &inside, &[]);
    }

    /// Everything at one index of the outer parallel axes.
    fn row(&mut self, at: &At) {
        let nest = &self.body.nest;
        if nest.lanes == Lanes::Parallel {
            let axis = nest.axes.len() - 1;
            self.strips(axis, at, &[], &[], &mut |e, at, width, copies, _| {
                e.points(at, width, copies);
                Vec::new()
            });
        } else {
            self.points(at, 1, 1);
        }
    }

    /// Walks `axis` in groups of vectors, single vectors and elements. `f` gets its place, width, copies and the accumulators, each of
    /// which it returns anew: `vectors` are carried through the vector part, `scalars` through the rest. Returns both.
    fn strips(
        &mut self,
        axis: usize,
        at: &At,
        vectors: &[Value],
        scalars: &[Value],
        f: Strip<'_, Self>,
    ) -> (Vec<Value>, Vec<Value>) {
        let extent = self.word(self.body.nest.extent_word(axis));
        let mut at = at.clone();
        let mut rest = extent;
        let mut vectors = vectors.to_vec();
        if self.vector {
            for copies in [COPIES, 1] {
                let step = (WIDTH * copies) as i64;
                let shift = step.trailing_zeros() as i64;
                let count = self.b.ins().ushr_imm_u(rest, shift);
                let (open, inside) = self.enter(axis, count, step, &at, &vectors);
                let carried = open.carried[at.pointers.len()..].to_vec();
                let next = f(self, &inside, WIDTH, copies, &carried);
                let after = open.carried[..at.pointers.len()].to_vec();
                vectors = self.leave(axis, step, open, &inside, &next);
                at.pointers = after;
                let done = self.b.ins().ishl_imm_u(count, shift);
                let base = match at.indices[axis] {
                    Some(i) => i,
                    None => self.word(self.body.nest.start_word(axis)),
                };
                at.indices[axis] = Some(self.b.ins().iadd(base, done));
                rest = self.b.ins().band_imm_s(rest, step - 1);
            }
        }
        let (open, inside) = self.enter(axis, rest, 1, &at, scalars);
        let carried = open.carried[at.pointers.len()..].to_vec();
        let next = f(self, &inside, 1, 1, &carried);
        let scalars = self.leave(axis, 1, open, &inside, &next);
        (vectors, scalars)
    }

    /// `copies` vectors of points: one iteration each, or the reduction of it; then the stores.
    fn points(&mut self, at: &At, width: usize, copies: usize) {
        let nest = &self.body.nest;
        if nest.combine.is_none() {
            let results: Vec<Vec<Value>> = (0..copies).map(|u| self.iteration(at, width, u)).collect();
            for (u, values) in results.iter().enumerate() {
                self.store(at, values, width, u);
            }
            return;
        }
        let lanes_reduced = nest.lanes == Lanes::Reduced;
        let last = nest.axes.len() - 1;
        let levels: Vec<usize> = (0..nest.axes.len()).filter(|&a| nest.axes[a].reduced && !(lanes_reduced && a == last)).collect();
        if lanes_reduced {
            let vectors = if self.vector { self.identities(WIDTH, COPIES) } else { Vec::new() };
            let scalars = self.identities(1, 1);
            let (vectors, mut scalars) = self.reduce_lanes(&levels, at, vectors, scalars);
            if self.vector {
                self.fold(&vectors, &mut scalars);
            }
            self.finish(at, &scalars, 1, 1);
        } else {
            let accs = self.identities(width, copies);
            let accs = self.reduce(&levels, at, accs, width, copies);
            self.finish(at, &accs, width, copies);
        }
    }

    /// Identities of the combination, copy by copy, output by output.
    fn identities(&mut self, width: usize, copies: usize) -> Vec<Value> {
        let body = self.body;
        let mut out = Vec::new();
        for _ in 0..copies {
            for (bits, v) in body.nest.identities.iter().zip(&body.code.results) {
                out.push(self.lower(width).constant(*bits, body.code.ty(*v)));
            }
        }
        out
    }

    fn reduce(&mut self, levels: &[usize], at: &At, accs: Vec<Value>, width: usize, copies: usize) -> Vec<Value> {
        let [axis, inner @ ..] = levels else {
            return self.accumulate(at, &accs, width, copies);
        };
        let count = self.word(self.body.nest.extent_word(*axis));
        let (open, inside) = self.enter(*axis, count, 1, at, &accs);
        let carried = open.carried[at.pointers.len()..].to_vec();
        let next = self.reduce(inner, &inside, carried, width, copies);
        self.leave(*axis, 1, open, &inside, &next)
    }

    fn accumulate(&mut self, at: &At, accs: &[Value], width: usize, copies: usize) -> Vec<Value> {
        let outputs = self.body.nest.outputs();
        let mut next = accs.to_vec();
        for u in 0..copies {
            let values = self.iteration(at, width, u);
            for o in 0..outputs {
                next[u * outputs + o] = self.combine(o, accs[u * outputs + o], values[o], width);
            }
        }
        next
    }

    fn reduce_lanes(&mut self, levels: &[usize], at: &At, vectors: Vec<Value>, scalars: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
        let Some((axis, inner)) = levels.split_first() else {
            let axis = self.body.nest.axes.len() - 1;
            return self
                .strips(axis, at, &vectors, &scalars, &mut |e, at, width, copies, accs| e.accumulate(at, accs, width, copies));
        };
        let count = self.word(self.body.nest.extent_word(*axis));
        let split = vectors.len();
        let (open, inside) = self.enter(*axis, count, 1, at, &[vectors, scalars].concat());
        let carried = open.carried[at.pointers.len()..].to_vec();
        let (v, s) = self.reduce_lanes(inner, &inside, carried[..split].to_vec(), carried[split..].to_vec());
        let all = self.leave(*axis, 1, open, &inside, &[v, s].concat());
        (all[..split].to_vec(), all[split..].to_vec())
    }

    /// Combines the vector accumulators into the scalar ones, in a fixed order.
    fn fold(&mut self, vectors: &[Value], scalars: &mut [Value]) {
        let outputs = self.body.nest.outputs();
        for o in 0..outputs {
            let copy = |u: usize| vectors[u * outputs + o];
            let (a, b) = (self.combine(o, copy(0), copy(1), WIDTH), self.combine(o, copy(2), copy(3), WIDTH));
            let all = self.combine(o, a, b, WIDTH);
            let ty = self.body.code.ty(self.body.code.results[o]);
            for lane in 0..WIDTH as u8 {
                let mut x = self.b.ins().extractlane(all, lane);
                if ty == Ty::Mask {
                    x = self.b.ins().ireduce(I8, x);
                    x = self.b.ins().band_imm_s(x, 1);
                }
                scalars[o] = self.combine(o, scalars[o], x, 1);
            }
        }
    }

    fn combine(&mut self, output: usize, a: Value, b: Value, width: usize) -> Value {
        let body = self.body;
        let code = &body.combines[output];
        let values = self.lower(width).run(code, &mut |_, op, _| if *op == Op::Load(0) { a } else { b });
        values[code.results[0].index()]
    }

    /// Stores accumulators in memory form.
    fn finish(&mut self, at: &At, accs: &[Value], width: usize, copies: usize) {
        let body = self.body;
        let outputs = body.nest.outputs();
        for u in 0..copies {
            let values: Vec<Value> = (0..outputs)
                .map(|o| {
                    let code = &body.finishes[o];
                    let values = self.lower(width).run(code, &mut |_, _, _| accs[u * outputs + o]);
                    values[code.results[0].index()]
                })
                .collect();
            self.store(at, &values, width, u);
        }
    }

    /// The results of one iteration, in copy `u` of the vector at `at`.
    fn iteration(&mut self, at: &At, width: usize, u: usize) -> Vec<Value> {
        let body = self.body;
        let nest = &body.nest;
        let last = nest.axes.len() - 1;
        let first = (u * width) as i64;
        let values = self.lower(width).run(&body.code, &mut |low, op, ty| match *op {
            Op::Load(k) => {
                let (k, mem) = (k as usize, nest.places[k as usize].mem);
                if width > 1 && nest.uniform(k) {
                    let mut one = Lower { b: &mut *low.b, target: low.target, width: 1 };
                    let v = one.load(mem, ty, at.pointers[k], 0);
                    return low.splat(v, ty);
                }
                low.load(mem, ty, at.pointers[k], (first * mem.bytes()) as i32)
            }
            Op::Index(source) => {
                let axis = nest.axes.iter().position(|a| a.source == source).unwrap_or(last);
                let base = at.indices[axis].unwrap_or(at.pointers[0]);
                if ty == Ty::I64 {
                    return base;
                }
                let i = low.b.ins().ireduce(I32, base);
                let i = low.splat(i, ty);
                if width == 1 || axis != last {
                    return i;
                }
                let lanes: Vec<u8> = (0..WIDTH as i32).flat_map(|l| (l + first as i32).to_le_bytes()).collect();
                let lanes = low.b.func.dfg.constants.insert(lanes.into());
                let lanes = low.b.ins().vconst(I32X4, lanes);
                low.b.ins().iadd(i, lanes)
            }
            _ => unreachable!("no leaf"),
        });
        body.code.results.iter().map(|r| values[r.index()]).collect()
    }

    fn store(&mut self, at: &At, values: &[Value], width: usize, u: usize) {
        let nest = &self.body.nest;
        for (o, v) in values.iter().enumerate() {
            let k = nest.inputs + o;
            let mem = nest.places[k].mem;
            self.lower(width).store(mem, *v, at.pointers[k], ((u * width) as i64 * mem.bytes()) as i32);
        }
    }

    fn lower(&mut self, width: usize) -> Lower<'_, 'a, 'a> {
        Lower { b: &mut self.b, target: &self.target, width }
    }
}

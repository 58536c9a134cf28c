//! The function of a loop: sizes from `dims`, the split over threads, the choice of variant, the frames of the kernels.

use super::body::Body;
use super::code::Op;
use super::complex::Split;
use super::nest::Lanes;
use super::{TapeError, dim_words};
use crate::emit::Definer;
use cranelift_codegen::Context;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Value};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Linkage, Module};
use graphc_abi::Ctx;
use graphc_ir::Dim;
use graphc_kernels::tier::Tier;
use std::mem::offset_of;

/// Time that a chunk should take at least, in picoseconds; little in tests, so that small loops are split too.
const CHUNK_PS: i64 = if cfg!(test) { 2_000 } else { 16_000_000 };
/// Chunks for each thread, so that a late thread costs little.
const CHUNKS_A_THREAD: i64 = 4;

/// What `parallel_for` hands to the chunks: words.
const PTRS: i32 = 0;
const DIMS: i32 = 8;
const STEP: i32 = 16;
const STATUS: i32 = 24;

fn words() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// A function under construction that reads `dims`.
struct Sizes<'a, 'b> {
    b: &'a mut FunctionBuilder<'b>,
    /// Expressions in the order of `dims`.
    known: &'a [Dim],
    dims: Value,
}

impl Sizes<'_, '_> {
    fn dim(&mut self, d: &Dim) -> Value {
        match (d.as_const(), self.known.iter().position(|k| k == d)) {
            (Some(c), _) => self.b.ins().iconst(I64, c),
            (None, Some(i)) => self.b.ins().load(I64, words(), self.dims, 8 * i as i32),
            // Strides are taken over from the loop, so this is its word.
            (None, None) => self.b.ins().iconst(I64, 0),
        }
    }

    fn product(&mut self, factors: &[Dim]) -> Value {
        let mut p: Option<Value> = None;
        for f in factors {
            let v = self.dim(f);
            p = Some(match p {
                Some(p) => self.b.ins().imul(p, v),
                None => v,
            });
        }
        p.unwrap_or_else(|| self.b.ins().iconst(I64, 1))
    }

    fn smaller(&mut self, a: Value, b: Value) -> Value {
        let less = self.b.ins().icmp(IntCC::SignedLessThan, a, b);
        self.b.ins().select(less, a, b)
    }

    /// Quotient rounded up, for positive values.
    fn ceil_div(&mut self, a: Value, b: Value) -> Value {
        let s = self.b.ins().iadd(a, b);
        let s = self.b.ins().iadd_imm_s(s, -1);
        self.b.ins().sdiv(s, b)
    }
}

/// The parallel axis whose indices are spread over threads.
fn split_axis(body: &Body) -> usize {
    let parallel: Vec<usize> = (0..body.nest.axes.len()).filter(|&a| !body.nest.axes[a].reduced).collect();
    let extent = |a: usize| body.nest.axes[a].extent();
    let wide = |a: &&usize| extent(**a).is_none_or(|e| e >= 64);
    let longest = || parallel.iter().max_by_key(|&&a| extent(a).unwrap_or(i64::MAX));
    parallel.iter().find(wide).or_else(longest).copied().unwrap_or(0)
}

/// Estimated time of an iteration in picoseconds.
fn cost(body: &Body) -> i64 {
    let bytes: i64 = body.nest.places.iter().map(|p| p.mem.bytes()).sum();
    let calls = body.code.ops().iter().filter(|(op, _)| matches!(op, Op::Call(..))).count() as i64;
    let ops = body.code.ops().len() as i64;
    let vector = body.nest.lanes != Lanes::None && body.code.is_vector();
    if vector { 15 * ops + 15 * bytes } else { 250 * ops + 10_000 * calls }
}

/// `fn(data, chunk, worker)`: one chunk.
fn chunk_signature<M: Definer>(module: &M) -> Signature {
    let mut s = module.make_signature();
    s.params.extend([AbiParam::new(I64); 3]);
    s
}

/// Defines `symbol` over the kernels, best tier first, the last for every machine.
pub fn define<M: Definer>(
    module: &mut M,
    loops: &Split,
    body: &Body,
    symbol: &str,
    kernels: &[(Tier, FuncId)],
) -> Result<FuncId, TapeError> {
    let chunk = define_chunk(module, loops, body, symbol, kernels)?;
    let known = dim_words(&loops.l);
    let nest = &body.nest;
    let mut ctx = Context::new();
    let mut signature = module.make_signature();
    signature.params.extend([AbiParam::new(I64); 3]);
    signature.returns.push(AbiParam::new(I32));
    ctx.func.signature = signature;
    let chunk_ref = module.declare_func_in_func(chunk, &mut ctx.func);
    let mut fc = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut ctx.func, &mut fc);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let (run, ptrs, dims) = match b.block_params(entry) {
        [run, ptrs, dims] => (*run, *ptrs, *dims),
        _ => return Err(TapeError::Invalid("signature".into())),
    };
    let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 32, 4));
    let data = b.ins().stack_addr(I64, slot, 0);
    let zero = b.ins().iconst(I64, 0);
    for (value, at) in [(ptrs, PTRS), (dims, DIMS), (zero, STATUS)] {
        b.ins().store(words(), value, data, at);
    }
    let mut s = Sizes { b: &mut b, known: &known, dims };
    let split = split_axis(body);
    let mut points = s.b.ins().iconst(I64, 1);
    let mut work = points;
    let mut extent = points;
    for (i, a) in nest.axes.iter().enumerate() {
        let e = s.product(&a.factors);
        work = s.b.ins().imul(work, e);
        if !a.reduced {
            points = s.b.ins().imul(points, e);
        }
        if i == split {
            extent = e;
        }
    }
    let (some, none) = (s.b.create_block(), s.b.create_block());
    s.b.ins().brif(points, some, &[], none, &[]);
    s.b.seal_block(some);
    s.b.switch_to_block(some);
    let threads = s.b.ins().load(I64, words(), run, offset_of!(Ctx, threads) as i32);
    let grain = s.b.ins().iconst(I64, (CHUNK_PS / cost(body).max(1)).max(1));
    let wanted = s.b.ins().sdiv(work, grain);
    let most = s.b.ins().imul_imm_s(threads, CHUNKS_A_THREAD);
    let wanted = s.smaller(wanted, most);
    let (many, serial, parallel) = (s.b.create_block(), s.b.create_block(), s.b.create_block());
    // One thread gets one chunk.
    let alone = s.b.ins().icmp_imm_s(IntCC::SignedLessThan, threads, 2);
    let little = s.b.ins().icmp_imm_s(IntCC::SignedLessThan, wanted, 2);
    let single = s.b.ins().bor(alone, little);
    s.b.ins().store(words(), extent, data, STEP);
    s.b.ins().brif(single, serial, &[], many, &[]);
    s.b.seal_block(many);
    s.b.switch_to_block(many);
    let mut step = s.ceil_div(extent, wanted);
    if nest.lanes == Lanes::Parallel && split + 1 == nest.axes.len() {
        step = s.b.ins().iadd_imm_s(step, 63);
        step = s.b.ins().band_imm_s(step, -64);
    }
    s.b.ins().store(words(), step, data, STEP);
    let chunks = s.ceil_div(extent, step);
    let one = s.b.ins().icmp_imm_s(IntCC::SignedLessThan, chunks, 2);
    s.b.ins().brif(one, serial, &[], parallel, &[]);
    s.b.seal_block(serial);
    s.b.seal_block(parallel);

    let done = b.create_block();
    b.switch_to_block(serial);
    b.ins().call(chunk_ref, &[data, zero, zero]);
    b.ins().jump(done, &[]);
    b.switch_to_block(parallel);
    let pool = b.ins().load(I64, words(), run, offset_of!(Ctx, pool) as i32);
    let spread = b.ins().load(I64, words(), run, offset_of!(Ctx, parallel_for) as i32);
    let mut sig = module.make_signature();
    sig.params.extend([AbiParam::new(I64); 4]);
    let sig = b.import_signature(sig);
    let address = b.ins().func_addr(I64, chunk_ref);
    b.ins().call_indirect(sig, spread, &[pool, chunks, address, data]);
    b.ins().jump(done, &[]);
    b.seal_block(done);
    b.switch_to_block(done);
    let status = b.ins().load(I32, words(), data, STATUS);
    b.ins().return_(&[status]);
    b.seal_block(none);
    b.switch_to_block(none);
    let ok = b.ins().iconst(I32, 0);
    b.ins().return_(&[ok]);
    b.finalize(module.target_config());
    let id = module.declare_function(symbol, Linkage::Local, &ctx.func.signature)?;
    module.define_quickly(id, &mut ctx)?;
    Ok(id)
}

/// The function of one chunk: fills the frame for its part of the split axis and calls the kernel.
fn define_chunk<M: Definer>(
    module: &mut M,
    loops: &Split,
    body: &Body,
    symbol: &str,
    kernels: &[(Tier, FuncId)],
) -> Result<FuncId, TapeError> {
    let known = dim_words(&loops.l);
    let nest = &body.nest;
    let split = split_axis(body);
    let mut ctx = Context::new();
    ctx.func.signature = chunk_signature(module);
    let refs: Vec<_> = kernels.iter().map(|(tier, id)| (*tier, module.declare_func_in_func(*id, &mut ctx.func))).collect();
    let tier = match refs.len() {
        1 => None,
        _ => {
            let mut sig = module.make_signature();
            sig.returns.push(AbiParam::new(I32));
            let id = module.declare_function("gc_tier", Linkage::Import, &sig)?;
            Some(module.declare_func_in_func(id, &mut ctx.func))
        }
    };
    let mut fc = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut ctx.func, &mut fc);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let (data, chunk) = (b.block_params(entry)[0], b.block_params(entry)[1]);
    let ptrs = b.ins().load(I64, words(), data, PTRS);
    let dims = b.ins().load(I64, words(), data, DIMS);
    let step = b.ins().load(I64, words(), data, STEP);
    let slot = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * nest.frame_words() as u32, 4));
    let mut s = Sizes { b: &mut b, known: &known, dims };
    let start = s.b.ins().imul(chunk, step);
    let zero = s.b.ins().iconst(I64, 0);
    let set = |s: &mut Sizes, v: Value, word: usize| {
        s.b.ins().stack_store(I64, v, slot, 8 * word as i32);
    };
    let mut extents = Vec::new();
    for (i, a) in nest.axes.iter().enumerate() {
        let mut e = s.product(&a.factors);
        if i == split {
            let rest = s.b.ins().isub(e, start);
            e = s.smaller(rest, step);
        }
        set(&mut s, e, nest.extent_word(i));
        set(&mut s, if i == split { start } else { zero }, nest.start_word(i));
        extents.push(e);
    }
    let accesses = loops.l.inputs.iter().chain(&loops.l.outputs);
    for (k, (p, access)) in nest.places.iter().zip(accesses).enumerate() {
        let base = s.b.ins().load(I64, words(), ptrs, 8 * loops.bases[k] as i32);
        let mut element = s.dim(&access.offset);
        for (i, a) in nest.axes.iter().enumerate() {
            let stride = s.dim(&a.strides[k]);
            if i == split {
                let moved = s.b.ins().imul(start, stride);
                element = s.b.ins().iadd(element, moved);
            }
            let bytes = s.b.ins().imul_imm_s(stride, p.mem.bytes());
            set(&mut s, bytes, nest.stride_word(i, k));
            let span = s.b.ins().imul(bytes, extents[i]);
            set(&mut s, span, nest.span_word(i, k));
        }
        let bytes = s.b.ins().imul_imm_s(element, p.mem.bytes());
        let pointer = s.b.ins().iadd(base, bytes);
        set(&mut s, pointer, nest.pointer_word(k));
    }
    let frame = b.ins().stack_addr(I64, slot, 0);
    let done = b.create_block();
    b.append_block_param(done, I32);
    let have = tier.map(|f| {
        let call = b.ins().call(f, &[]);
        b.inst_results(call)[0]
    });
    for (i, (tier, kernel)) in refs.iter().enumerate() {
        let last = i + 1 == refs.len();
        let (take, next) = (b.create_block(), b.create_block());
        match have {
            Some(have) if !last => {
                let able = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, have, *tier as i64);
                b.ins().brif(able, take, &[], next, &[]);
            }
            _ => {
                b.ins().jump(take, &[]);
            }
        }
        b.seal_block(take);
        b.switch_to_block(take);
        let call = b.ins().call(*kernel, &[frame]);
        let status = b.inst_results(call)[0];
        b.ins().jump(done, &[status.into()]);
        if last {
            break;
        }
        b.seal_block(next);
        b.switch_to_block(next);
    }
    b.seal_block(done);
    b.switch_to_block(done);
    let status = b.block_params(done)[0];
    let (failed, end) = (b.create_block(), b.create_block());
    b.ins().brif(status, failed, &[], end, &[]);
    b.seal_block(failed);
    b.switch_to_block(failed);
    // Chunks that fail at the same time store the same word.
    b.ins().store(words(), status, data, STATUS);
    b.ins().jump(end, &[]);
    b.seal_block(end);
    b.switch_to_block(end);
    b.ins().return_(&[]);
    b.finalize(module.target_config());
    let id = module.declare_function(&format!("{symbol}.chunk"), Linkage::Local, &ctx.func.signature)?;
    module.define_quickly(id, &mut ctx)?;
    Ok(id)
}

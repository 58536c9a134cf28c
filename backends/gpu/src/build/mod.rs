//! Writing a kernel as MLIR: scalars, loops, memory, without a word of which target it is for.
//!
//! A value is a constant or an SSA value; integer arithmetic on constants is done here, so that sizes known at compile time leave no
//! operations. Indices are `i32`: no buffer has more than 2^31 elements.

mod arithmetic;
mod cores;
mod memory;
pub mod warpgroups;

use crate::code::Binding;
use crate::target::{Cell, Flavour};
use graphc_cpu::tape::code::{Cond, Ty};
use melior::Context;
use melior::ir::attribute::{DenseI32ArrayAttribute, FloatAttribute, IntegerAttribute, StringAttribute, TypeAttribute};
use melior::ir::operation::{OperationBuilder, OperationLike, OperationMutLike};
use melior::ir::r#type::{FunctionType, IntegerType};
use melior::ir::{Attribute, Block, BlockLike, BlockRef, Identifier, Location, Module, Region, RegionLike, Type, Value, ValueLike};

/// A value of a kernel.
#[derive(Clone, Copy)]
pub struct V<'c> {
    pub ty: Ty,
    what: What<'c>,
}

#[derive(Clone, Copy)]
enum What<'c> {
    /// Bits of a constant, in the low bits.
    Const(u64),
    Value(Value<'c, 'c>),
}

impl V<'_> {
    /// The value of an integer constant, extended by its sign.
    pub fn known(&self) -> Option<i64> {
        match (self.what, self.ty) {
            (What::Const(bits), Ty::I32) => Some(i64::from(bits as u32 as i32)),
            (What::Const(bits), Ty::I64) => Some(bits as i64),
            _ => None,
        }
    }
}

/// Memory of a kernel: a buffer that it is given, or its workgroup's own.
#[derive(Clone, Copy)]
pub struct Memory<'c> {
    value: Value<'c, 'c>,
    cell: Cell,
    shared: bool,
}

/// A kernel being written.
pub struct Build<'c> {
    cx: &'c Context,
    loc: Location<'c>,
    pub flavour: Flavour,
    /// Threads of a workgroup.
    pub threads: i64,
    /// Where operations go.
    block: BlockRef<'c, 'c>,
    entry: BlockRef<'c, 'c>,
    bindings: Vec<Binding>,
    arguments: Vec<Type<'c>>,
    buffers: Vec<Option<Memory<'c>>>,
    params: Vec<V<'c>>,
    status: Option<Memory<'c>>,
    shared: Vec<Type<'c>>,
    /// Arguments that are descriptions of tensors.
    maps: Vec<usize>,
    /// Bytes of memory that a launch gives to each workgroup.
    dynamic: u32,
    /// Whether registers matter more than workgroups beside one another: NVIDIA's assembler else spills to make room for those.
    pub alone: bool,
}

/// A body: appends to the kernel and gives the values that go on.
type Body<'a, 'c> = &'a mut dyn FnMut(&mut Build<'c>, V<'c>, &[V<'c>]) -> Vec<V<'c>>;

/// Writes a kernel named `name` with `buffers` buffers and `params` parameters as the only one of a module, and gives its bindings and
/// the bytes of memory that launches give to its workgroups.
///
/// # Errors
/// What `body` finds to have no code.
pub fn kernel<'c>(
    cx: &'c Context,
    flavour: Flavour,
    name: &str,
    threads: i64,
    (buffers, params): (usize, usize),
    body: impl FnOnce(&mut Build<'c>) -> Result<(), String>,
) -> Result<(Module<'c>, Vec<Binding>, u32), String> {
    let loc = Location::unknown(cx);
    let region = Region::new();
    let entry = region.append_block(Block::new(&[]));
    // SAFETY: the block lives as long as the module that it becomes part of; no value of it leaves this function.
    let entry = unsafe { BlockRef::from_raw(entry.to_raw()) };
    let mut b = Build {
        cx,
        loc,
        flavour,
        threads,
        block: entry,
        entry,
        bindings: Vec::new(),
        arguments: Vec::new(),
        buffers: vec![None; buffers],
        params: Vec::new(),
        status: None,
        shared: Vec::new(),
        maps: Vec::new(),
        dynamic: 0,
        alone: false,
    };
    b.take_params(params);
    body(&mut b)?;
    b.op("gpu.return", &[], &[], &[]);
    let (argument_attributes, symbol) = (b.argument_attributes(), if b.dynamic > 0 { b.memory_symbol() } else { None });
    let Build { bindings, arguments, shared, alone, maps, dynamic, .. } = b;
    let attribute = |text: &str| Attribute::parse(cx, text).ok_or_else(|| format!("MLIR does not read the attribute {text}"));
    let id = |s: &str| Identifier::new(cx, s);
    let entry_point = attribute(&format!("#spirv.entry_point_abi<workgroup_size = [{threads}, 1, 1]>"))?;
    let mut attributes = vec![
        (id("sym_name"), StringAttribute::new(cx, name).into()),
        (id("function_type"), TypeAttribute::new(FunctionType::new(cx, &arguments, &[]).into()).into()),
        (id("gpu.kernel"), Attribute::unit(cx)),
        (id("workgroup_attributions"), IntegerAttribute::new(IntegerType::new(cx, 64).into(), shared.len() as i64).into()),
    ];
    match flavour {
        Flavour::Spirv(_) => attributes.push((id("spirv.entry_point_abi"), entry_point)),
        Flavour::Ptx(_) => {
            attributes.push((id("known_block_size"), DenseI32ArrayAttribute::new(cx, &[threads as i32, 1, 1]).into()));
            if !maps.is_empty() {
                attributes.push((id("arg_attrs"), argument_attributes));
            }
            if alone {
                attributes.push((id("nvvm.minctasm"), IntegerAttribute::new(IntegerType::new(cx, 32).into(), 1).into()));
            }
        }
    }
    let built = |b: OperationBuilder<'c>| b.build().map_err(|e| e.to_string());
    let func = built(OperationBuilder::new("gpu.func", loc).add_attributes(&attributes).add_regions([region]))?;
    let inner = Region::new();
    let inside = inner.append_block(Block::new(&[]));
    if let Some(symbol) = symbol {
        inside.append_operation(symbol);
    }
    inside.append_operation(func);
    let name = [(id("sym_name"), StringAttribute::new(cx, "kernels").into())];
    let gpu_module = built(OperationBuilder::new("gpu.module", loc).add_attributes(&name).add_regions([inner]))?;
    let mut module = Module::new(loc);
    module.body().append_operation(gpu_module);
    module.as_operation_mut().set_attribute("gpu.container_module", Attribute::unit(cx));
    Ok((module, bindings, dynamic))
}

impl<'c> Build<'c> {
    // Operations.

    fn op(
        &mut self,
        name: &str,
        operands: &[Value<'c, 'c>],
        results: &[Type<'c>],
        attrs: &[(&str, Attribute<'c>)],
    ) -> Vec<Value<'c, 'c>> {
        self.op_with(name, operands, results, attrs, Vec::new())
    }

    fn op_with(
        &mut self,
        name: &str,
        operands: &[Value<'c, 'c>],
        results: &[Type<'c>],
        attrs: &[(&str, Attribute<'c>)],
        regions: Vec<Region<'c>>,
    ) -> Vec<Value<'c, 'c>> {
        let attrs: Vec<_> = attrs.iter().map(|&(k, a)| (Identifier::new(self.cx, k), a)).collect();
        let op = OperationBuilder::new(name, self.loc)
            .add_operands(operands)
            .add_results(results)
            .add_attributes(&attrs)
            .add_regions_vec(regions)
            .build();
        // Building fails only where result types are left to inference.
        let Ok(op) = op else { return Vec::new() };
        let op = self.block.append_operation(op);
        op.results().map(|r| unowned(r.to_raw())).collect()
    }

    fn one(&mut self, name: &str, operands: &[V<'c>], ty: Ty) -> V<'c> {
        self.one_with(name, operands, ty, &[])
    }

    fn one_with(&mut self, name: &str, operands: &[V<'c>], ty: Ty, attrs: &[(&str, Attribute<'c>)]) -> V<'c> {
        let operands: Vec<_> = operands.iter().map(|&v| self.value(v)).collect();
        let t = self.ty(ty);
        self.result(name, &operands, t, ty, attrs)
    }

    fn result(&mut self, name: &str, operands: &[Value<'c, 'c>], t: Type<'c>, ty: Ty, attrs: &[(&str, Attribute<'c>)]) -> V<'c> {
        match self.op(name, operands, &[t], attrs).first() {
            Some(&v) => V { ty, what: What::Value(v) },
            None => self.constant(0, ty),
        }
    }

    fn ty(&self, ty: Ty) -> Type<'c> {
        match ty {
            Ty::Mask => IntegerType::new(self.cx, 1).into(),
            Ty::I32 => IntegerType::new(self.cx, 32).into(),
            Ty::I64 => IntegerType::new(self.cx, 64).into(),
            Ty::F32 => Type::float32(self.cx),
            Ty::F64 => Type::float64(self.cx),
        }
    }

    fn cell_ty(&self, cell: Cell) -> Type<'c> {
        match cell {
            Cell::I8 => IntegerType::new(self.cx, 8).into(),
            Cell::I16 => IntegerType::new(self.cx, 16).into(),
            Cell::I32 => self.ty(Ty::I32),
            Cell::I64 => self.ty(Ty::I64),
            Cell::F32 => self.ty(Ty::F32),
            Cell::F64 => self.ty(Ty::F64),
        }
    }

    /// The SSA value of `v`; a constant becomes an operation here.
    fn value(&mut self, v: V<'c>) -> Value<'c, 'c> {
        let bits = match v.what {
            What::Value(v) => return v,
            What::Const(bits) => bits,
        };
        let t = self.ty(v.ty);
        let attribute: Attribute = match v.ty {
            Ty::F32 => FloatAttribute::new(self.cx, t, f64::from(f32::from_bits(bits as u32))).into(),
            Ty::F64 => FloatAttribute::new(self.cx, t, f64::from_bits(bits)).into(),
            Ty::Mask => IntegerAttribute::new(t, (bits & 1) as i64).into(),
            Ty::I32 => IntegerAttribute::new(t, i64::from(bits as u32 as i32)).into(),
            Ty::I64 => IntegerAttribute::new(t, bits as i64).into(),
        };
        match self.op("arith.constant", &[], &[t], &[("value", attribute)]).first() {
            Some(&v) => v,
            // `op` gives as many results as types.
            None => unowned(mlir_sys::MlirValue { ptr: std::ptr::null() }),
        }
    }

    // Constants.

    /// A constant of type `ty` from its bits.
    pub fn constant(&self, bits: u64, ty: Ty) -> V<'c> {
        V { ty, what: What::Const(bits) }
    }

    pub fn i32(&self, v: i64) -> V<'c> {
        self.constant(v as i32 as u32 as u64, Ty::I32)
    }

    pub fn f32(&self, v: f32) -> V<'c> {
        self.constant(u64::from(v.to_bits()), Ty::F32)
    }

    pub fn bool(&self, v: bool) -> V<'c> {
        self.constant(v as u64, Ty::Mask)
    }

    // Work and its threads.

    fn id(&mut self, op: &str) -> V<'c> {
        let Some(dimension) = Attribute::parse(self.cx, "#gpu<dim x>") else { return self.i32(0) };
        let index = Type::index(self.cx);
        let v = self.op(op, &[], &[index], &[("dimension", dimension)]);
        let t = self.ty(Ty::I32);
        self.result("arith.index_cast", &v, t, Ty::I32, &[])
    }

    /// This thread's number in its workgroup.
    pub fn thread(&mut self) -> V<'c> {
        self.id("gpu.thread_id")
    }

    /// Runs `body` for each of `n` items, one a thread.
    pub fn items(&mut self, n: V<'c>, body: impl FnOnce(&mut Build<'c>, V<'c>)) {
        let (block, thread, blocks) = (self.id("gpu.block_id"), self.thread(), self.id("gpu.grid_dim"));
        let threads = self.i32(self.threads);
        let first = self.mul(block, threads);
        let first = self.add(first, thread);
        let step = self.mul(blocks, threads);
        self.each(first, n, step, body);
    }

    /// Runs `body` for each of `n` tasks, one a workgroup.
    pub fn tasks(&mut self, n: V<'c>, body: impl FnOnce(&mut Build<'c>, V<'c>)) {
        let (block, blocks) = (self.id("gpu.block_id"), self.id("gpu.grid_dim"));
        self.each(block, n, blocks, body);
    }

    /// As [`Build::tasks`], with carried values.
    pub fn tasks_with(&mut self, n: V<'c>, init: &[V<'c>], body: Body<'_, 'c>) {
        let (block, blocks) = (self.id("gpu.block_id"), self.id("gpu.grid_dim"));
        self.repeat(block, n, blocks, init, body);
    }

    /// A loop without carried values.
    pub fn each(&mut self, lo: V<'c>, hi: V<'c>, step: V<'c>, body: impl FnOnce(&mut Build<'c>, V<'c>)) {
        let mut body = Some(body);
        self.repeat(lo, hi, step, &[], &mut |b, i, _| {
            if let Some(body) = body.take() {
                body(b, i);
            }
            Vec::new()
        });
    }

    /// `for i in (lo..hi).step_by(step)` with carried values, which `body` is given and gives anew. `body` is called once.
    pub fn repeat(&mut self, lo: V<'c>, hi: V<'c>, step: V<'c>, init: &[V<'c>], body: Body<'_, 'c>) -> Vec<V<'c>> {
        if let (Some(l), Some(h), Some(s)) = (lo.known(), hi.known(), step.known()) {
            if l >= h {
                return init.to_vec();
            }
            if l + s >= h {
                return body(self, lo, init);
            }
        }
        let types: Vec<Type> = init.iter().map(|v| self.ty(v.ty)).collect();
        let mut operands = vec![self.value(lo), self.value(hi), self.value(step)];
        for &v in init {
            operands.push(self.value(v));
        }
        let arguments: Vec<_> = std::iter::once(self.ty(Ty::I32)).chain(types.iter().copied()).map(|t| (t, self.loc)).collect();
        let region = self.region(&arguments, &mut |b, args| {
            let carried: Vec<_> = args[1..].iter().zip(init).map(|(&v, i)| V { ty: i.ty, what: What::Value(v) }).collect();
            body(b, V { ty: Ty::I32, what: What::Value(args[0]) }, &carried)
        });
        let results = self.op_with("scf.for", &operands, &types, &[], vec![region]);
        let results: Vec<_> = results.into_iter().zip(init).map(|(v, i)| V { ty: i.ty, what: What::Value(v) }).collect();
        if init.is_empty() || matches!(self.flavour, Flavour::Ptx(_)) {
            return results;
        }
        // MLIR's lowering to SPIR-V keeps results in variables that only an iteration writes.
        let some = self.lt(lo, hi);
        results.into_iter().zip(init).map(|(v, &i)| self.select(some, v, i)).collect()
    }

    /// Runs `body` where `cond` holds.
    pub fn when(&mut self, cond: V<'c>, body: impl FnOnce(&mut Build<'c>)) {
        match cond.what {
            What::Const(bits) if bits & 1 == 1 => return body(self),
            What::Const(_) => return,
            What::Value(_) => {}
        }
        let mut body = Some(body);
        let region = self.region(&[], &mut |b, _| {
            if let Some(body) = body.take() {
                body(b);
            }
            Vec::new()
        });
        let cond = self.value(cond);
        self.op_with("scf.if", &[cond], &[], &[], vec![region, Region::new()]);
    }

    /// What `body` gives where `cond` holds, else `other`.
    pub fn choose(&mut self, cond: V<'c>, other: V<'c>, body: impl FnOnce(&mut Build<'c>) -> V<'c>) -> V<'c> {
        match cond.what {
            What::Const(bits) if bits & 1 == 1 => return body(self),
            What::Const(_) => return other,
            What::Value(_) => {}
        }
        let mut body = Some(body);
        let yes = self.region(&[], &mut |b, _| body.take().map(|body| body(b)).into_iter().collect());
        let no = self.region(&[], &mut |_, _| vec![other]);
        let t = self.ty(other.ty);
        let cond = self.value(cond);
        let v = self.op_with("scf.if", &[cond], &[t], &[], vec![yes, no]);
        v.first().map_or(other, |&v| V { ty: other.ty, what: What::Value(v) })
    }

    /// A region of one block, which yields what `body` gives.
    fn region(
        &mut self,
        arguments: &[(Type<'c>, Location<'c>)],
        body: &mut dyn FnMut(&mut Build<'c>, &[Value<'c, 'c>]) -> Vec<V<'c>>,
    ) -> Region<'c> {
        let region = Region::new();
        let block = region.append_block(Block::new(arguments));
        // SAFETY: as for the entry block.
        let block: BlockRef<'c, 'c> = unsafe { BlockRef::from_raw(block.to_raw()) };
        let outer = std::mem::replace(&mut self.block, block);
        let args: Vec<_> = (0..arguments.len()).filter_map(|i| block.argument(i).ok()).map(|a| unowned(a.to_raw())).collect();
        let results = body(self, &args);
        let results: Vec<_> = results.into_iter().map(|v| self.value(v)).collect();
        self.op("scf.yield", &results, &[], &[]);
        self.block = outer;
        region
    }

    /// Waits for all threads of the workgroup, and makes what they wrote visible.
    pub fn barrier(&mut self) {
        self.op("gpu.barrier", &[], &[], &[]);
    }

    /// Where `cond` holds: ends the run with `code`, a [`graphc_abi::Status`], and the value and bound of its message. The kernel itself
    /// goes on. The last parameter is the number of the launch.
    pub fn fail(&mut self, cond: V<'c>, code: graphc_abi::Status, value: V<'c>, bound: V<'c>) {
        let status = match self.status {
            Some(m) => m,
            None => {
                self.bindings.push(Binding::Status);
                let m = self.buffer_argument(Cell::I32);
                self.status = Some(m);
                m
            }
        };
        let launch = self.params.last().copied().unwrap_or_else(|| self.i32(0));
        self.when(cond, |b| {
            // The first launch that fails is the one that is told of; of its threads any.
            let (zero, words) = (b.i32(0), [b.i32(code as i64), launch, value, bound]);
            let before = b.load(status, zero);
            let free = b.cmp(Cond::Eq, before, zero);
            let one = b.i32(1);
            let holder = b.load(status, one);
            let own = b.cmp(Cond::Eq, holder, launch);
            let write = b.one("arith.ori", &[free, own], Ty::Mask);
            b.when(write, |b| {
                for (k, v) in words.into_iter().enumerate() {
                    let at = b.i32(k as i64);
                    b.store(status, at, v);
                }
            });
        });
    }
}

fn unowned<'c>(raw: mlir_sys::MlirValue) -> Value<'c, 'c> {
    // SAFETY: values live as long as the operations that define them, which are in the module that is being built; `Build` hands none
    // out that outlives it.
    unsafe { Value::from_raw(raw) }
}

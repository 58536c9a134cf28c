//! Arguments of kernels, and memory: a buffer's or a workgroup's.

use super::{Build, Memory, V, What, unowned};
use crate::code::Binding;
use crate::target::{Cell, Flavour};
use graphc_cpu::tape::code::Ty;
use melior::ir::attribute::{DenseI32ArrayAttribute, IntegerAttribute, TypeAttribute};
use melior::ir::r#type::IntegerType;
use melior::ir::{Attribute, BlockLike, Type, Value, ValueLike};

impl<'c> Build<'c> {
    pub(super) fn argument(&mut self, t: Type<'c>) -> Value<'c, 'c> {
        self.arguments.push(t);
        let position = self.arguments.len() - 1;
        // Before the memory of workgroups, which comes last.
        let v = self.entry.insert_argument(position, t, self.loc);
        unowned(v.to_raw())
    }

    pub(super) fn take_params(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.bindings.push(Binding::Params);
        match self.flavour {
            Flavour::Spirv(_) => {
                let words = self.buffer_argument(Cell::I32);
                for k in 0..count {
                    let at = self.i32(k as i64);
                    let v = self.load(words, at);
                    self.params.push(v);
                }
            }
            Flavour::Ptx(_) => {
                for _ in 0..count {
                    let t = self.ty(Ty::I32);
                    let v = self.argument(t);
                    self.params.push(V { ty: Ty::I32, what: What::Value(v) });
                }
            }
        }
    }

    /// Parameter `k`.
    pub fn param(&self, k: u32) -> V<'c> {
        self.params.get(k as usize).copied().unwrap_or_else(|| self.i32(0))
    }

    pub(super) fn buffer_argument(&mut self, cell: Cell) -> Memory<'c> {
        let element = self.cell_ty(cell);
        let t = match self.flavour {
            Flavour::Spirv(_) => Type::parse(self.cx, &format!("memref<?x{element}, #spirv.storage_class<StorageBuffer>>")),
            Flavour::Ptx(_) => Type::parse(self.cx, "!llvm.ptr<1>"),
        };
        let value = self.argument(t.unwrap_or(element));
        Memory { value, cell, shared: false }
    }

    /// Buffer `k` of the launch as elements `cell`.
    ///
    /// # Errors
    /// If it is wanted as elements of two types.
    pub fn buffer(&mut self, k: u32, cell: Cell) -> Result<Memory<'c>, String> {
        if let Some(m) = self.buffers.get(k as usize).copied().flatten() {
            return if m.cell == cell { Ok(m) } else { Err("a buffer of two types of elements".into()) };
        }
        self.bindings.push(Binding::Buffer(k));
        let m = self.buffer_argument(cell);
        if let Some(slot) = self.buffers.get_mut(k as usize) {
            *slot = Some(m);
        }
        Ok(m)
    }

    /// Memory of the workgroup.
    pub fn shared(&mut self, cell: Cell, len: i64) -> Memory<'c> {
        let element = self.cell_ty(cell);
        let value = match self.flavour {
            Flavour::Spirv(_) => {
                let t =
                    Type::parse(self.cx, &format!("memref<{len}x{element}, #spirv.storage_class<Workgroup>>")).unwrap_or(element);
                let none = DenseI32ArrayAttribute::new(self.cx, &[0, 0]).into();
                self.op("memref.alloc", &[], &[t], &[("operandSegmentSizes", none)]).first().copied()
            }
            Flavour::Ptx(_) => {
                let t = Type::parse(self.cx, &format!("memref<{len}x{element}, #gpu.address_space<workgroup>>")).unwrap_or(element);
                self.shared.push(t);
                Some(unowned(self.entry.add_argument(t, self.loc).to_raw()))
            }
        };
        // `op` gives as many results as types.
        let value = value.unwrap_or_else(|| unowned(mlir_sys::MlirValue { ptr: std::ptr::null() }));
        Memory { value, cell, shared: true }
    }

    fn index(&mut self, at: V<'c>) -> Value<'c, 'c> {
        let t = Type::index(self.cx);
        if let Some(k) = at.known() {
            let k = IntegerAttribute::new(t, k).into();
            if let Some(&v) = self.op("arith.constant", &[], &[t], &[("value", k)]).first() {
                return v;
            }
        }
        let v = self.value(at);
        self.op("arith.index_cast", &[v], &[t], &[]).first().copied().unwrap_or(v)
    }

    /// The address of an element, where memory is addresses.
    pub(super) fn address(&mut self, m: Memory<'c>, at: V<'c>) -> Value<'c, 'c> {
        let at = self.wide(at);
        let at = self.value(at);
        let (cell, address) = (self.cell_ty(m.cell), Type::parse(self.cx, "!llvm.ptr<1>"));
        let address = address.unwrap_or(cell);
        let dynamic = DenseI32ArrayAttribute::new(self.cx, &[i32::MIN]).into();
        let attrs = [("rawConstantIndices", dynamic), ("elem_type", TypeAttribute::new(cell).into())];
        self.op("llvm.getelementptr", &[m.value, at], &[address], &attrs).first().copied().unwrap_or(at)
    }

    /// Element `at`: narrow integers by their bits in the low ones of an `i32`, above which is nothing.
    pub fn load(&mut self, m: Memory<'c>, at: V<'c>) -> V<'c> {
        let (t, ty) = (self.cell_ty(m.cell), m.cell.lane());
        let v = if m.shared || matches!(self.flavour, Flavour::Spirv(_)) {
            let at = self.index(at);
            self.result("memref.load", &[m.value, at], t, ty, &[])
        } else {
            let at = self.address(m, at);
            self.result("llvm.load", &[at], t, ty, &[])
        };
        if matches!(m.cell, Cell::I8 | Cell::I16) { self.unary("arith.extui", v, Ty::I32) } else { v }
    }

    /// Stores an element of the cell's lane type; of a narrow integer the low bits.
    pub fn store(&mut self, m: Memory<'c>, at: V<'c>, v: V<'c>) {
        let value = self.cell_value(m.cell, v);
        if m.shared || matches!(self.flavour, Flavour::Spirv(_)) {
            let at = self.index(at);
            self.op("memref.store", &[value, m.value, at], &[], &[]);
        } else {
            let at = self.address(m, at);
            self.op("llvm.store", &[value, at], &[], &[]);
        }
    }

    /// Elements `at` to `at + n`, as by [`Build::load`]; `n` is a power of two, of which `at` is a multiple.
    pub fn load_side_by_side(&mut self, m: Memory<'c>, at: V<'c>, n: i64) -> Vec<V<'c>> {
        if !self.has_vectors(m) {
            return self.side_by_side(at, n).into_iter().map(|at| self.load(m, at)).collect();
        }
        let (t, ty, address) = (self.cell_ty(m.cell), m.cell.lane(), self.address(m, at));
        let (vector, attrs) = self.vector(m.cell, n);
        let v = self.op("llvm.load", &[address], &[vector], &attrs);
        let narrow = matches!(m.cell, Cell::I8 | Cell::I16);
        let element = |b: &mut Build<'c>, k| {
            let k = b.i32(k);
            let operands: Vec<_> = v.iter().copied().chain([b.value(k)]).collect();
            let v = b.result("llvm.extractelement", &operands, t, ty, &[]);
            if narrow { b.unary("arith.extui", v, Ty::I32) } else { v }
        };
        (0..n).map(|k| element(self, k)).collect()
    }

    /// Stores elements from `at` on, as by [`Build::store`]; their number is a power of two, of which `at` is a multiple.
    pub fn store_side_by_side(&mut self, m: Memory<'c>, at: V<'c>, v: &[V<'c>]) {
        let n = v.len() as i64;
        if !self.has_vectors(m) {
            return self.side_by_side(at, n).into_iter().zip(v).for_each(|(at, &v)| self.store(m, at, v));
        }
        let (address, (vector, attrs)) = (self.address(m, at), self.vector(m.cell, n));
        let mut whole = self.op("llvm.mlir.poison", &[], &[vector], &[]);
        for (k, &v) in (0..).zip(v) {
            let v = self.cell_value(m.cell, v);
            let k = self.i32(k);
            let operands: Vec<_> = whole.iter().copied().chain([v, self.value(k)]).collect();
            whole = self.op("llvm.insertelement", &operands, &[vector], &[]);
        }
        whole.push(address);
        self.op("llvm.store", &whole, &[], &attrs);
    }

    /// Whether several elements of `m` are one access.
    fn has_vectors(&self, m: Memory<'c>) -> bool {
        !m.shared && matches!(self.flavour, Flavour::Ptx(_))
    }

    fn side_by_side(&mut self, at: V<'c>, n: i64) -> Vec<V<'c>> {
        (0..n).map(|k| self.add(at, self.i32(k))).collect()
    }

    /// The type of `n` elements together, and what says that they lie at a multiple of their size.
    fn vector(&self, cell: Cell, n: i64) -> (Type<'c>, [(&'static str, Attribute<'c>); 1]) {
        let bytes = (n * cell.bytes() as i64).min(16);
        let alignment = IntegerAttribute::new(IntegerType::new(self.cx, 64).into(), bytes).into();
        (Type::vector(&[n as u64], self.cell_ty(cell)), [("alignment", alignment)])
    }

    /// A value in the form in which it lies in memory.
    fn cell_value(&mut self, cell: Cell, v: V<'c>) -> Value<'c, 'c> {
        let value = self.value(v);
        match cell {
            Cell::I8 | Cell::I16 => {
                let t = self.cell_ty(cell);
                self.op("arith.trunci", &[value], &[t], &[]).first().copied().unwrap_or(value)
            }
            _ => value,
        }
    }
}

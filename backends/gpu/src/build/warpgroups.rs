//! What warpgroups have from `sm_90a` on: barriers in shared memory, boxes of tensors that are copied by units of their own, and products of tiles
//! there. For PTX alone.
//!
//! All of it lies in the memory that a launch gives to a workgroup ([`Build::take_memory`]), in which places are counted in bytes.

use super::{Build, Memory, V, unowned};
use crate::code::{Binding, TensorMap};
use crate::mlir::DESCRIPTION;
use crate::target::Factors;
use graphc_cpu::tape::code::Ty;
use melior::ir::attribute::{
    ArrayAttribute, DenseI32ArrayAttribute, DenseI64ArrayAttribute, FlatSymbolRefAttribute, IntegerAttribute, StringAttribute,
    TypeAttribute,
};
use melior::ir::operation::OperationBuilder;
use melior::ir::r#type::IntegerType;
use melior::ir::{Attribute, Identifier, Operation, Region, Type, Value};

/// The symbol of the memory that a launch gives.
pub(super) const DYNAMIC: &str = "memory";

/// The memory that the launch gives to each workgroup. It begins at a multiple of 1024.
#[derive(Clone, Copy)]
pub struct Given<'c> {
    base: Value<'c, 'c>,
    /// Where it begins in shared memory.
    address: V<'c>,
}

/// A tensor's description among the arguments.
#[derive(Clone, Copy)]
pub struct Map<'c>(Value<'c, 'c>);

/// How a tile of an operand lies: rows of 128 or 64 bytes with as many bytes of depth, eight rows a block, and pieces of 16 bytes exchanged within a
/// row: piece `p` of row `r` is at `p ^ (r % 8)` in rows of 128 bytes, and at `p ^ (r / 2 % 4)` in rows of 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rows {
    Of128,
    Of64,
}

impl Rows {
    pub fn bytes(self) -> i64 {
        match self {
            Rows::Of128 => 128,
            Rows::Of64 => 64,
        }
    }

    /// Pieces of 16 bytes in a row.
    pub fn pieces(self) -> i64 {
        self.bytes() / 16
    }

    /// Where piece `piece` of row `row` of a tile begins, in bytes.
    pub fn place<'c>(self, b: &mut Build<'c>, row: V<'c>, piece: V<'c>) -> V<'c> {
        let (by, mask) = match self {
            Rows::Of128 => (0, 7),
            Rows::Of64 => (1, 3),
        };
        let turn = if by == 0 { row } else { b.arith("arith.shrui", row, b.i32(by)) };
        let turn = b.arith("arith.andi", turn, b.i32(mask));
        let piece = b.arith("arith.xori", piece, turn);
        let (row, piece) = (b.mul(row, b.i32(self.bytes())), b.mul(piece, b.i32(16)));
        b.add(row, piece)
    }

    /// All of a tile's descriptor but where it begins, which is in bits 0 to 13, in units of 16 bytes:
    ///
    /// | bits | what | here |
    /// |---|---|---|
    /// | 16–29 | from a column of blocks to the next, in units of 16 bytes | 1: not read where rows are exchanged |
    /// | 32–45 | from a block of eight rows to the next, in units of 16 bytes | 64 or 32 |
    /// | 49–51 | the row in which the pattern begins | 0: tiles begin at multiples of eight rows |
    /// | 62–63 | the pattern: 0 none, 1 rows of 128 bytes, 2 of 64, 3 of 32 | 1 or 2 |
    pub const fn descriptor(self) -> u64 {
        let (stride, pattern) = match self {
            Rows::Of128 => (8 * 128 / 16, 1u64),
            Rows::Of64 => (8 * 64 / 16, 2),
        };
        1 << 16 | stride << 32 | pattern << 62
    }
}

impl<'c> Build<'c> {
    fn pointer(&self, space: u32) -> Type<'c> {
        // The dialect is loaded, and the text is one of its types.
        Type::parse(self.cx, &format!("!llvm.ptr<{space}>")).unwrap_or_else(|| Type::none(self.cx))
    }

    /// A constant attribute of a dialect that is loaded.
    fn attribute(&self, text: &str) -> Attribute<'c> {
        Attribute::parse(self.cx, text).unwrap_or_else(|| Attribute::unit(self.cx))
    }

    fn int_attribute(&self, bits: u32, v: i64) -> Attribute<'c> {
        IntegerAttribute::new(IntegerType::new(self.cx, bits).into(), v).into()
    }

    /// Asks for `bytes` bytes with each launch.
    pub fn take_memory(&mut self, bytes: i64) -> Given<'c> {
        self.dynamic = bytes as u32;
        let (pointer, word) = (self.pointer(3), self.ty(Ty::I32));
        let name = [("global_name", FlatSymbolRefAttribute::new(self.cx, DYNAMIC).into())];
        let base = self.op("llvm.mlir.addressof", &[], &[pointer], &name);
        let address = self.result("llvm.ptrtoint", &base, word, Ty::I32, &[]);
        let base = base.first().copied().unwrap_or_else(|| unowned(mlir_sys::MlirValue { ptr: std::ptr::null() }));
        Given { base, address }
    }

    /// The symbol of [`Build::take_memory`].
    pub(super) fn memory_symbol(&self) -> Option<Operation<'c>> {
        let t = Type::parse(self.cx, "!llvm.array<0 x i8>")?;
        let attrs = [
            ("sym_name", StringAttribute::new(self.cx, DYNAMIC).into()),
            ("global_type", TypeAttribute::new(t).into()),
            ("linkage", self.attribute("#llvm.linkage<external>")),
            ("addr_space", self.int_attribute(32, 3)),
            ("alignment", self.int_attribute(64, 1024)),
        ];
        let attrs: Vec<_> = attrs.map(|(k, a)| (Identifier::new(self.cx, k), a)).into();
        OperationBuilder::new("llvm.mlir.global", self.loc).add_attributes(&attrs).add_regions([Region::new()]).build().ok()
    }

    /// A tensor's description as an argument.
    pub fn map(&mut self, map: TensorMap) -> Map<'c> {
        self.bindings.push(Binding::Map(map));
        let t = self.pointer(0);
        let v = self.argument(t);
        self.maps.push(self.arguments.len() - 1);
        Map(v)
    }

    /// For each argument its attributes; [`crate::mlir`] says more of those that are descriptions.
    pub(super) fn argument_attributes(&self) -> Attribute<'c> {
        let (map, none) = (self.attribute(&format!("{{{DESCRIPTION}}}")), self.attribute("{}"));
        let all = self.arguments.len() + self.shared.len();
        let each: Vec<_> = (0..all).map(|k| if self.maps.contains(&k) { map } else { none }).collect();
        ArrayAttribute::new(self.cx, &each).into()
    }

    fn spot(&mut self, m: Given<'c>, at: V<'c>) -> Value<'c, 'c> {
        let (pointer, at) = (self.pointer(3), self.value(at));
        let byte = IntegerType::new(self.cx, 8).into();
        let dynamic = DenseI32ArrayAttribute::new(self.cx, &[i32::MIN]).into();
        let attrs = [("rawConstantIndices", dynamic), ("elem_type", TypeAttribute::new(byte).into())];
        self.op("llvm.getelementptr", &[m.base, at], &[pointer], &attrs).first().copied().unwrap_or(m.base)
    }

    /// Four words at `at`, a multiple of 16.
    pub fn load_piece(&mut self, m: Given<'c>, at: V<'c>, ty: Ty) -> Vec<V<'c>> {
        let (spot, t) = (self.spot(m, at), self.ty(ty));
        let vector = Type::vector(&[4], t);
        let v = self.op("llvm.load", &[spot], &[vector], &[("alignment", self.int_attribute(64, 16))]);
        let part = |b: &mut Build<'c>, k: i64| {
            let k = b.i32(k);
            let operands: Vec<_> = v.iter().copied().chain([b.value(k)]).collect();
            b.result("llvm.extractelement", &operands, t, ty, &[])
        };
        (0..4).map(|k| part(self, k)).collect()
    }

    pub fn store_piece(&mut self, m: Given<'c>, at: V<'c>, v: &[V<'c>]) {
        let Some(ty) = v.first().map(|v| v.ty) else { return };
        let spot = self.spot(m, at);
        let vector = Type::vector(&[v.len() as u64], self.ty(ty));
        let mut whole = self.op("llvm.mlir.poison", &[], &[vector], &[]);
        for (k, &v) in (0..).zip(v) {
            let (k, v) = (self.i32(k), self.value(v));
            let operands: Vec<_> = whole.iter().copied().chain([v, self.value(k)]).collect();
            whole = self.op("llvm.insertelement", &operands, &[vector], &[]);
        }
        whole.push(spot);
        self.op("llvm.store", &whole, &[], &[("alignment", self.int_attribute(64, 16))]);
    }

    /// A number of f32 at `at`.
    pub fn load_number(&mut self, m: Given<'c>, at: V<'c>) -> V<'c> {
        let (spot, t) = (self.spot(m, at), self.ty(Ty::F32));
        self.result("llvm.load", &[spot], t, Ty::F32, &[])
    }

    /// Makes a barrier, whose phases end when `count` arrivals and all announced bytes are there.
    pub fn init_barrier(&mut self, m: Given<'c>, at: i64, count: i64) {
        let (at, count) = (self.i32(at), self.i32(count));
        let (spot, count) = (self.spot(m, at), self.value(count));
        self.op("nvvm.mbarrier.init", &[spot, count], &[], &[]);
    }

    /// Makes barriers that were made known to the units that copy.
    pub fn announce_barriers(&mut self) {
        self.op("nvvm.fence.mbarrier.init", &[], &[], &[]);
    }

    pub fn arrive(&mut self, m: Given<'c>, at: V<'c>) {
        let spot = self.spot(m, at);
        self.op("nvvm.mbarrier.arrive", &[spot], &[], &[]);
    }

    /// Arrives, and announces `bytes` bytes, which copies bring.
    pub fn arrive_and_expect(&mut self, m: Given<'c>, at: V<'c>, bytes: i64) {
        let bytes = self.i32(bytes);
        let (spot, bytes) = (self.spot(m, at), self.value(bytes));
        self.op("nvvm.mbarrier.arrive.expect_tx", &[spot, bytes], &[], &[]);
    }

    /// Waits for the end of a phase of that parity. The phase before the first has parity 1 and has ended.
    pub fn wait_barrier(&mut self, m: Given<'c>, at: V<'c>, parity: V<'c>) {
        let ticks = self.i32(10_000_000);
        let operands = [self.spot(m, at), self.value(parity), self.value(ticks)];
        self.op("nvvm.mbarrier.try_wait.parity", &operands, &[], &[]);
    }

    /// Starts to copy the box at `coordinates` to `to`, and tells the barrier at `barrier` when it is there. What is outside of the tensor is zero.
    pub fn copy_box(&mut self, m: Given<'c>, to: V<'c>, map: Map<'c>, coordinates: &[V<'c>], barrier: V<'c>) {
        let cluster = self.pointer(7);
        let to = self.spot(m, to);
        let Some(&to) = self.op("llvm.addrspacecast", &[to], &[cluster], &[]).first() else { return };
        let mut operands = vec![to, map.0];
        for &c in coordinates {
            operands.push(self.value(c));
        }
        operands.push(self.spot(m, barrier));
        let sizes = DenseI32ArrayAttribute::new(self.cx, &[1, 1, coordinates.len() as i32, 1, 0, 0, 0, 0]).into();
        self.op("nvvm.cp.async.bulk.tensor.shared.cluster.global", &operands, &[], &[("operandSegmentSizes", sizes)]);
    }

    /// Makes what this thread wrote to shared memory visible to the units that copy and multiply.
    pub fn fence_for_units(&mut self) {
        let kind = self.attribute("#nvvm.proxy_kind<async.shared>");
        let space = self.attribute("#nvvm.shared_space<cta>");
        self.op("nvvm.fence.proxy", &[], &[], &[("kind", kind), ("space", space)]);
    }

    /// True for one thread of a warp, all of whose threads ask.
    pub fn elected(&mut self) -> V<'c> {
        let t = self.ty(Ty::Mask);
        self.result("nvvm.elect.sync", &[], t, Ty::Mask, &[])
    }

    /// The descriptor of the tile at `at`.
    pub fn tile_descriptor(&mut self, m: Given<'c>, at: V<'c>, rows: Rows) -> V<'c> {
        let at = self.add(m.address, at);
        let at = self.arith("arith.shrui", at, self.i32(4));
        let at = self.arith("arith.andi", at, self.i32(0x3fff));
        let at = self.unary("arith.extui", at, Ty::I64);
        let rest = self.constant(rows.descriptor(), Ty::I64);
        self.arith("arith.ori", at, rest)
    }

    /// `sums` with the products of tiles of 64 rows and `columns` columns, by the 128 threads of a warpgroup: `steps` steps of 32 bytes of depth from the
    /// beginning of rows on. Waits for the end. Register `4 j + i` of a thread has the sum that register `i` of `mma.sync` has of columns `8 j` and on, and
    /// warp `w` the 16 rows from `16 w` on.
    pub fn multiply_tiles(
        &mut self,
        factors: Factors,
        columns: i64,
        steps: i64,
        [left, right]: [V<'c>; 2],
        sums: &[V<'c>],
    ) -> Vec<V<'c>> {
        let f32 = self.ty(Ty::F32);
        let list = vec!["f32"; sums.len()].join(", ");
        let Some(all) = Type::parse(self.cx, &format!("!llvm.struct<({list})>")) else { return sums.to_vec() };
        let mut whole = self.op("llvm.mlir.poison", &[], &[all], &[]);
        for (k, &v) in (0..).zip(sums) {
            whole.push(self.value(v));
            let position = [("position", DenseI64ArrayAttribute::new(self.cx, &[k]).into())];
            whole = self.op("llvm.insertvalue", &whole, &[all], &position);
        }
        self.op("nvvm.wgmma.fence.aligned", &[], &[], &[]);
        let (ty, depth) = match factors {
            Factors::Bf16 => ("bf16", 16),
            _ => ("tf32", 8),
        };
        let attrs = [
            ("shape", format!("#nvvm.shape<m = 64, n = {columns}, k = {depth}>")),
            ("typeA", format!("#nvvm.wgmma_type<{ty}>")),
            ("typeB", format!("#nvvm.wgmma_type<{ty}>")),
            ("typeD", "#nvvm.wgmma_type<f32>".into()),
            ("scaleD", "#nvvm.wgmma_scale_out<one>".into()),
            ("scaleA", "#nvvm.wgmma_scale_in<one>".into()),
            ("scaleB", "#nvvm.wgmma_scale_in<one>".into()),
            ("layoutA", "#nvvm.mma_layout<row>".into()),
            ("layoutB", "#nvvm.mma_layout<col>".into()),
        ];
        let attrs: Vec<_> = attrs.iter().map(|(k, text)| (*k, self.attribute(text))).collect();
        for step in 0..steps {
            // 32 bytes in units of 16.
            let by = self.constant(2 * step as u64, Ty::I64);
            let (x, w) = (self.add(left, by), self.add(right, by));
            let (x, w) = (self.value(x), self.value(w));
            whole.extend([x, w]);
            whole = self.op("nvvm.wgmma.mma_async", &whole, &[all], &attrs);
        }
        self.op("nvvm.wgmma.commit.group.sync.aligned", &[], &[], &[]);
        self.op("nvvm.wgmma.wait.group.sync.aligned", &[], &[], &[("group", self.int_attribute(64, 0))]);
        let part = |b: &mut Build<'c>, k: i64| {
            let position = DenseI64ArrayAttribute::new(b.cx, &[k]).into();
            b.result("llvm.extractvalue", &whole, f32, Ty::F32, &[("position", position)])
        };
        (0..sums.len() as i64).map(|k| part(self, k)).collect()
    }

    /// Starts to copy the first `bytes` of 16 bytes from element `at` of `from` on, and zeros for the rest.
    pub fn copy_piece(&mut self, from: Memory<'c>, at: V<'c>, (m, to): (Given<'c>, V<'c>), bytes: V<'c>) {
        let operands = [self.spot(m, to), self.address(from, at), self.value(bytes)];
        let attrs = [("size", self.int_attribute(32, 16)), ("modifier", self.attribute("#nvvm<load_cache_modifier cg>"))];
        self.op("nvvm.cp.async.shared.global", &operands, &[], &attrs);
    }

    /// Ends a group of copies.
    pub fn commit_copies(&mut self) {
        self.op("nvvm.cp.async.commit.group", &[], &[], &[]);
    }

    /// Waits for this thread's copies but those of the newest `left` groups.
    pub fn wait_copies(&mut self, left: i64) {
        let left = self.int_attribute(32, left);
        self.op("nvvm.cp.async.wait.group", &[], &[], &[("n", left)]);
    }

    /// Four matrices of eight rows of 16 bytes, the rows of matrix `k` where threads `8 k` to `8 k + 7` of the warp say; each thread is given word
    /// `lane % 4` of row `lane / 4` of each.
    pub fn load_matrices(&mut self, m: Given<'c>, at: V<'c>) -> Vec<V<'c>> {
        let (spot, word) = (self.spot(m, at), self.ty(Ty::I32));
        let Some(four) = Type::parse(self.cx, "!llvm.struct<(i32, i32, i32, i32)>") else { return Vec::new() };
        let attrs = [
            ("num", self.int_attribute(32, 4)),
            ("layout", self.attribute("#nvvm.mma_layout<row>")),
            ("shape", self.attribute("#nvvm.ld_st_matrix_shape<m = 8, n = 8>")),
            ("eltType", self.attribute("#nvvm.ld_st_matrix_elt_type<b16>")),
        ];
        let whole = self.op("nvvm.ldmatrix", &[spot], &[four], &attrs);
        let part = |b: &mut Build<'c>, k: i64| {
            let position = DenseI64ArrayAttribute::new(b.cx, &[k]).into();
            b.result("llvm.extractvalue", &whole, word, Ty::I32, &[("position", position)])
        };
        (0..4).map(|k| part(self, k)).collect()
    }
}

//! Lane code in vector registers: the assembler with its constants, and register allocation for one straight line of operations.

use super::code::{Code as Lanes, Op, Ty, V};
use hashbrown::HashMap;
use iced_x86::code_asm::CodeAssembler;
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// Why a loop is left to the general emitter.
#[derive(Debug)]
pub struct TooBig;

impl From<iced_x86::IcedError> for TooBig {
    fn from(_: iced_x86::IcedError) -> TooBig {
        TooBig
    }
}

pub type Done = Result<(), TooBig>;

/// A value in one of the copies that are computed together.
pub type Key = (V, u8);

/// A source operand.
#[derive(Clone, Copy)]
pub enum Source {
    Reg(Register),
    Mem(MemoryOperand),
}

/// An instruction set: its registers and the encoding of its operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    Avx2,
    Avx512,
}

impl Set {
    pub fn lanes(self) -> usize {
        if self == Set::Avx512 { 16 } else { 8 }
    }

    pub fn bytes(self) -> usize {
        4 * self.lanes()
    }

    pub fn registers(self) -> usize {
        if self == Set::Avx512 { 32 } else { 16 }
    }

    pub fn reg(self, r: u8) -> Register {
        let first = if self == Set::Avx512 { Register::ZMM0 } else { Register::YMM0 };
        first + r as u32
    }

    /// The low half, or its half for AVX2.
    pub fn half(self, r: u8) -> Register {
        let first = if self == Set::Avx512 { Register::YMM0 } else { Register::XMM0 };
        first + r as u32
    }
}

/// Mask registers for values; `k1` holds the lanes of a tail, `k7` is used up by gathers.
const MASKS: std::ops::RangeInclusive<u8> = 2..=6;
/// Indices above this denote mask registers in allocation tables.
const MASK_BASE: u8 = 32;

/// The assembler with what outlives a straight line: constants, spill slots, reserved registers.
pub struct Asm {
    pub a: CodeAssembler,
    pub set: Set,
    /// Words of the constant pool; vectors of `AVX2` constants are repeated.
    pub pool: Vec<u32>,
    known: HashMap<u32, usize>,
    /// Index vectors in the pool, by stride.
    steps: HashMap<i64, usize>,
    /// Vector-sized slots that are in use for good, and the most ever used.
    pub kept_slots: usize,
    pub most_slots: usize,
    /// Byte offset of the slots from `rsp`.
    pub slot_base: i64,
    /// Registers that a straight line must leave alone.
    pub reserved: u32,
}

pub const POOL: Register = Register::RSI;

pub fn mem(base: Register, offset: i64) -> MemoryOperand {
    MemoryOperand::with_base_displ_size(base, offset, 1)
}

impl Asm {
    pub fn new(set: Set, slot_base: i64) -> Result<Asm, TooBig> {
        Ok(Asm {
            a: CodeAssembler::new(64)?,
            set,
            pool: (0..16).collect(),
            known: HashMap::new(),
            steps: HashMap::new(),
            kept_slots: 0,
            most_slots: 0,
            slot_base,
            reserved: 0,
        })
    }

    pub fn put(&mut self, i: Result<Instruction, iced_x86::IcedError>) -> Done {
        Ok(self.a.add_instruction(i?)?)
    }

    /// Byte offset of a constant in the pool.
    pub fn constant(&mut self, bits: u32) -> i64 {
        let copies = if self.set == Set::Avx512 { 1 } else { 8 };
        let at = *self.known.entry(bits).or_insert_with(|| {
            self.pool.extend(std::iter::repeat_n(bits, copies));
            self.pool.len() - copies
        });
        4 * at as i64
    }

    pub fn slot(&self, i: usize) -> MemoryOperand {
        mem(Register::RSP, self.slot_base + (i * self.set.bytes()) as i64)
    }

    /// The vector of multiples of `stride` in the pool.
    pub fn multiples(&mut self, stride: i64) -> MemoryOperand {
        let at = *self.steps.entry(stride).or_insert_with(|| {
            self.pool.extend((0..16).map(|i| (i * stride) as u32));
            self.pool.len() - 16
        });
        mem(POOL, 4 * at as i64)
    }

    /// The vector 0, 1, 2, … in the pool; the pool's first words.
    pub fn iota(&self) -> MemoryOperand {
        mem(POOL, 0)
    }

    pub fn pool_bytes(&self) -> Vec<u8> {
        self.pool.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// Code for the wider set, or its like for the narrower.
    pub fn pick(&self, wide: Code, narrow: Code) -> Code {
        if self.set == Set::Avx512 { wide } else { narrow }
    }

    pub fn reg(&self, r: u8) -> Register {
        self.set.reg(r)
    }

    pub fn load_full(&mut self, r: u8, m: MemoryOperand) -> Done {
        let code = self.pick(Code::EVEX_Vmovups_zmm_k1z_zmmm512, Code::VEX_Vmovups_ymm_ymmm256);
        self.put(Instruction::with2(code, self.reg(r), m))
    }

    pub fn store_full(&mut self, m: MemoryOperand, r: u8) -> Done {
        let code = self.pick(Code::EVEX_Vmovups_zmmm512_k1z_zmm, Code::VEX_Vmovups_ymmm256_ymm);
        self.put(Instruction::with2(code, m, self.reg(r)))
    }

    pub fn copy(&mut self, to: u8, from: u8) -> Done {
        if to == from {
            return Ok(());
        }
        let code = self.pick(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, Code::VEX_Vmovaps_ymm_ymmm256);
        self.put(Instruction::with2(code, self.reg(to), self.reg(from)))
    }

    /// A 32-bit constant in all lanes of a register.
    pub fn load_constant(&mut self, r: u8, bits: u32) -> Done {
        let at = mem(POOL, self.constant(bits));
        let code = self.pick(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32);
        self.put(Instruction::with2(code, self.reg(r), at))
    }
}

/// What a straight line needs of its surroundings.
pub trait Leaves {
    /// Emits the load of a leaf (`Load` or `Index`) into vector register `r`; `u` is the copy.
    fn leaf(&mut self, asm: &mut Asm, op: &Op, u: u8, r: u8) -> Done;
}

/// The allocation state while one straight line is emitted.
pub struct Line<'a> {
    pub asm: &'a mut Asm,
    pub code: &'a Lanes,
    copies: u8,
    /// Computed once for all copies.
    shared: &'a [bool],
    pub loc: HashMap<Key, u8>,
    slots: HashMap<Key, usize>,
    holders: [Option<Key>; 40],
    /// Values that a register keeps throughout.
    pub pinned: HashMap<V, u8>,
    /// Values that have a slot for good.
    homes: HashMap<V, usize>,
    uses: Vec<Vec<usize>>,
    now: usize,
    locked: u64,
    next_slot: usize,
}

impl<'a> Line<'a> {
    /// A line over the operations `list` of `code`; `live` are wanted at the end.
    pub fn new(asm: &'a mut Asm, code: &'a Lanes, list: &[usize], live: &[V], copies: u8, shared: &'a [bool]) -> Line<'a> {
        let mut uses = vec![Vec::new(); code.ops().len()];
        for (at, &i) in list.iter().enumerate() {
            code.ops()[i].0.operands().for_each(|v| uses[v.index()].push(at));
        }
        live.iter().for_each(|v| uses[v.index()].push(usize::MAX));
        let next_slot = asm.kept_slots;
        Line {
            asm,
            code,
            copies,
            shared,
            loc: HashMap::new(),
            slots: HashMap::new(),
            holders: [None; 40],
            pinned: HashMap::new(),
            homes: HashMap::new(),
            uses,
            now: 0,
            locked: 0,
            next_slot,
        }
    }

    pub fn pin(&mut self, v: V, r: u8) {
        self.pinned.insert(v, r);
    }

    pub fn home(&mut self, v: V, slot: usize) {
        self.homes.insert(v, slot);
    }

    /// Lets the next operation use every register that holds nothing.
    pub fn unlock(&mut self) {
        self.locked = 0;
    }

    /// Runs `f` with the registers and slots of this line out of its reach.
    pub fn within(&mut self, f: impl FnOnce(&mut Asm) -> Done) -> Done {
        let (reserved, kept) = (self.asm.reserved, self.asm.kept_slots);
        for r in 0..32u8 {
            if self.holders[r as usize].is_some() || self.locked >> r & 1 == 1 {
                self.asm.reserved |= 1 << r;
            }
        }
        self.asm.kept_slots = self.next_slot;
        let done = f(self.asm);
        (self.asm.reserved, self.asm.kept_slots) = (reserved, kept);
        done
    }

    /// Says that `v` of copy `u` is in `r`, which is reserved.
    pub fn bind(&mut self, v: V, u: u8, r: u8) {
        self.loc.insert((v, u), r);
    }

    pub fn key(&self, v: V, u: u8) -> Key {
        if self.shared[v.index()] { (v, 0) } else { (v, u) }
    }

    pub fn is_mask(&self, v: V) -> bool {
        self.asm.set == Set::Avx512 && self.code.ty(v) == Ty::Mask
    }

    pub fn constant(&self, v: V) -> Option<u32> {
        match (self.code.op(v), self.code.ty(v)) {
            (Op::Const(b), Ty::Mask) => Some(if b & 1 == 1 { u32::MAX } else { 0 }),
            (Op::Const(b), _) => Some(b as u32),
            _ => None,
        }
    }

    fn next_use(&self, v: V) -> Option<usize> {
        self.uses[v.index()].iter().copied().find(|&p| p >= self.now)
    }

    pub fn register(&self, r: u8) -> Register {
        if r >= MASK_BASE { Register::K0 + (r - MASK_BASE) as u32 } else { self.asm.reg(r) }
    }

    /// A register for a vector or a mask; the value in it with the farthest use gives way.
    pub fn take(&mut self, mask: bool) -> Result<u8, TooBig> {
        let range = if mask { MASK_BASE + *MASKS.start()..MASK_BASE + *MASKS.end() + 1 } else { 0..self.asm.set.registers() as u8 };
        let usable = |l: &Self, r: u8| l.locked >> r & 1 == 0 && (r >= 32 || l.asm.reserved >> r & 1 == 0);
        let mut best: Option<(usize, u8)> = None;
        for r in range {
            if !usable(self, r) {
                continue;
            }
            match self.holders[r as usize] {
                None => {
                    self.locked |= 1 << r;
                    return Ok(r);
                }
                Some((v, _)) => {
                    let next = self.next_use(v).unwrap_or(usize::MAX);
                    if best.is_none_or(|(b, _)| next > b) {
                        best = Some((next, r));
                    }
                }
            }
        }
        let (_, r) = best.ok_or(TooBig)?;
        let key = self.holders[r as usize].take().ok_or(TooBig)?;
        self.loc.remove(&key);
        let again = self.constant(key.0).is_some() || self.homes.contains_key(&key.0) || self.slots.contains_key(&key);
        if !again {
            let slot = self.next_slot;
            self.next_slot += 1;
            self.asm.most_slots = self.asm.most_slots.max(self.next_slot);
            self.slots.insert(key, slot);
            let at = self.asm.slot(slot);
            if mask {
                self.asm.put(Instruction::with2(Code::VEX_Kmovw_m16_kr, at, self.register(r)))?;
            } else {
                self.asm.store_full(at, r)?;
            }
        }
        self.locked |= 1 << r;
        Ok(r)
    }

    fn hold(&mut self, key: Key, r: u8) {
        self.holders[r as usize] = Some(key);
        self.loc.insert(key, r);
    }

    /// The value in a register, locked for this operation.
    pub fn in_register(&mut self, key: Key) -> Result<u8, TooBig> {
        if let Some(&r) = self.pinned.get(&key.0).or(self.loc.get(&key)) {
            self.locked |= 1 << r;
            return Ok(r);
        }
        let mask = self.is_mask(key.0);
        let r = self.take(mask)?;
        if let Some(bits) = self.constant(key.0) {
            if mask {
                let code = if bits == 0 { Code::VEX_Kxorw_kr_kr_kr } else { Code::VEX_Kxnorw_kr_kr_kr };
                let k = self.register(r);
                self.asm.put(Instruction::with3(code, k, k, k))?;
            } else {
                self.asm.load_constant(r, bits)?;
            }
        } else {
            let slot = *self.homes.get(&key.0).or(self.slots.get(&key)).ok_or(TooBig)?;
            let at = self.asm.slot(slot);
            if mask {
                self.asm.put(Instruction::with2(Code::VEX_Kmovw_kr_km16, self.register(r), at))?;
            } else {
                self.asm.load_full(r, at)?;
            }
        }
        self.hold(key, r);
        Ok(r)
    }

    /// The vector value in a register or in memory.
    pub fn source(&mut self, v: V, u: u8) -> Result<Source, TooBig> {
        let key = self.key(v, u);
        let there = self.pinned.contains_key(&v) || self.loc.contains_key(&key);
        if !there && !self.is_mask(v) {
            if let Some(bits) = self.constant(v) {
                let at = self.asm.constant(bits);
                return Ok(Source::Mem(match self.asm.set {
                    Set::Avx512 => MemoryOperand::with_base_displ_size_bcst_seg(POOL, at, 1, true, Register::None),
                    Set::Avx2 => mem(POOL, at),
                }));
            }
            if let Some(&slot) = self.homes.get(&v).or(self.slots.get(&key)) {
                return Ok(Source::Mem(self.asm.slot(slot)));
            }
        }
        let r = self.in_register(key)?;
        Ok(Source::Reg(self.register(r)))
    }

    /// True if the value is not needed after this operation, of this and later copies, and its register may be written.
    pub fn dies(&self, v: V, u: u8) -> bool {
        let kept = self.pinned.contains_key(&v) || self.constant(v).is_some();
        let key = self.key(v, u);
        let bound = self.loc.get(&key).is_none_or(|&r| self.holders[r as usize] != Some(key));
        let later = self.uses[v.index()].iter().any(|&p| p > self.now);
        let sharing = self.shared[v.index()] && u + 1 < self.copies;
        !kept && !bound && !later && !sharing
    }

    /// Frees the registers of operands that are done with.
    fn release(&mut self, op: &Op, u: u8) {
        for v in op.operands() {
            if self.dies(v, u) {
                let key = self.key(v, u);
                if let Some(r) = self.loc.remove(&key) {
                    self.holders[r as usize] = None;
                }
            }
        }
    }

    /// A register for the result, if possible that of an operand in `from` which dies here.
    pub fn result(&mut self, from: &[V], u: u8, mask: bool) -> Result<u8, TooBig> {
        for &v in from {
            let key = self.key(v, u);
            if self.is_mask(v) == mask
                && self.dies(v, u)
                && let Some(&r) = self.loc.get(&key)
            {
                return Ok(r);
            }
        }
        self.take(mask)
    }

    /// Emits the operations of `list`, copy by copy.
    pub fn run(&mut self, list: &[usize], leaves: &mut dyn Leaves) -> Done {
        for (at, &i) in list.iter().enumerate() {
            self.now = at;
            let (op, ty) = self.code.ops()[i];
            let v = V(i as u32);
            if matches!(op, Op::Const(_)) || self.pinned.contains_key(&v) || self.homes.contains_key(&v) {
                continue;
            }
            let copies = if self.shared[i] { 1 } else { self.copies };
            for u in 0..copies {
                let key = (v, u);
                if self.loc.contains_key(&key) {
                    continue;
                }
                self.locked = 0;
                let r = match op {
                    Op::Load(_) | Op::Index(_) => {
                        let r = self.take(false)?;
                        leaves.leaf(self.asm, &op, u, r)?;
                        r
                    }
                    _ => self.op(&op, ty, u)?,
                };
                // Operands of shared operations serve all copies at once.
                let last = if self.shared[i] { self.copies - 1 } else { u };
                self.release(&op, last);
                self.hold(key, r);
                if self.uses[i].is_empty() {
                    self.holders[r as usize] = None;
                    self.loc.remove(&key);
                }
            }
        }
        self.now = usize::MAX;
        self.locked = 0;
        Ok(())
    }

    /// The register of a vector value at the end, locked until the line is dropped.
    pub fn take_result(&mut self, v: V, u: u8) -> Result<u8, TooBig> {
        let key = self.key(v, u);
        self.in_register(key)
    }
}

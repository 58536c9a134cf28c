//! Kernels in AVX-512 or AVX2 machine code: the loops of a nest around the straight lines of `vector`.

use super::body::Body;
use super::code::{Code as LaneCode, Mem, Op, Ty, V};
use super::legalize::Features;
use super::nest::Lanes;
use super::point::{GATHER, GATHER_LANES, Layout, POINTERS, Point, SCRATCH, TAIL, base, spread, stack, store, word};
use super::vector::{Asm, Done, Leaves, Line, Set, TooBig, mem};
use graphc_passes::plan::Combine;
use hashbrown::HashMap;
use iced_x86::code_asm::{self as asm, CodeLabel, qword_ptr};
use iced_x86::{Code, Instruction, Register};

const FRAME: Register = Register::RDI;
/// Longest lane code that is worth unrolling into machine code of our own.
const MOST_OPS: usize = 1200;
const MOST_SLOTS: usize = 120;
struct Walk<'a> {
    a: Asm,
    body: &'a Body,
    layout: Layout,
    copies: u8,
    shared: Vec<bool>,
    /// Operations computed before a walk along the lanes, and those of each point.
    before: Vec<usize>,
    inside: Vec<usize>,
    homes: HashMap<V, usize>,
    pins: Vec<(V, u8)>,
    /// Accumulators, copy by copy, output by output.
    accs: Vec<u8>,
}

/// Machine code of the kernel of `body`, position independent, or an error if it does not suit.
pub fn kernel(body: &Body, set: Set) -> Result<Vec<u8>, TooBig> {
    let body = body.legalize(Features { half: true, scale: set == Set::Avx512, round: true, compare: set == Set::Avx512 });
    let small = body.code.ops().len() <= MOST_OPS && body.nest.places.len() <= 40;
    if body.nest.lanes == Lanes::None || !body.code.is_vector() || !small {
        return Err(TooBig);
    }
    // The frame's size is known after a first pass.
    let (_, slots) = Walk::new(&body, set)?.emit(0)?;
    if slots > MOST_SLOTS {
        return Err(TooBig);
    }
    Ok(Walk::new(&body, set)?.emit(slots)?.0)
}

/// The greatest number of vectors alive at once, with `copies` of what is not shared.
fn pressure(code: &LaneCode, list: &[usize], live: &[V], shared: &[bool], copies: usize) -> usize {
    let mut last = vec![0; code.ops().len()];
    let mut inside = vec![false; code.ops().len()];
    for (at, &i) in list.iter().enumerate() {
        inside[i] = true;
        code.ops()[i].0.operands().for_each(|v| last[v.index()] = at + 1);
    }
    live.iter().for_each(|v| last[v.index()] = usize::MAX);
    let counts = |i: usize| inside[i] && !matches!(code.ops()[i].0, Op::Const(_)) && code.ops()[i].1 != Ty::Mask;
    let weight = |i: usize| if shared[i] { 1 } else { copies };
    let (mut now, mut most) = (0usize, 0);
    for (at, &i) in list.iter().enumerate() {
        if counts(i) {
            now += weight(i);
        }
        most = most.max(now);
        let mut done: Vec<V> = code.ops()[i].0.operands().filter(|v| last[v.index()] == at + 1).collect();
        done.sort();
        done.dedup();
        now -= done.into_iter().filter(|v| counts(v.index())).map(|v| weight(v.index())).sum::<usize>();
    }
    most
}

impl<'a> Walk<'a> {
    fn new(body: &'a Body, set: Set) -> Result<Walk<'a>, TooBig> {
        let nest = &body.nest;
        let code = &body.code;
        let layout = Layout { axes: nest.axes.len(), accesses: nest.places.len() };
        let last = nest.axes.len() - 1;
        let mut shared: Vec<bool> = Vec::new();
        for (op, _) in code.ops() {
            let s = match *op {
                Op::Load(k) => nest.uniform(k as usize),
                Op::Index(source) => nest.axes[last].source != source,
                _ => op.operands().all(|v| shared[v.index()]),
            };
            shared.push(s);
        }
        // Between reduced levels and lanes, what is constant along the lanes still varies.
        let hoists = nest.combine.is_none() || nest.lanes == Lanes::Reduced;
        let vector = |i: usize| set == Set::Avx2 || code.ops()[i].1 != Ty::Mask;
        let is_const = |i: usize| matches!(code.ops()[i].0, Op::Const(_));
        let early = |i: usize| hoists && shared[i] && vector(i) && !is_const(i);
        let mut needed = vec![false; code.ops().len()];
        code.results.iter().for_each(|v| needed[v.index()] = true);
        let mut inside: Vec<usize> = Vec::new();
        let mut exported: Vec<usize> = Vec::new();
        for i in (0..code.ops().len()).rev() {
            if !needed[i] {
                continue;
            }
            if early(i) {
                exported.push(i);
            } else {
                inside.push(i);
                code.ops()[i].0.operands().for_each(|v| needed[v.index()] = true);
            }
        }
        inside.reverse();
        let mut a = Asm::new(set, layout.slots())?;
        let mut homes = HashMap::new();
        let mut wanted = vec![false; code.ops().len()];
        for i in exported {
            homes.insert(V(i as u32), a.kept_slots);
            a.kept_slots += 1;
            wanted[i] = true;
        }
        a.most_slots = a.kept_slots;
        let mut before: Vec<usize> = Vec::new();
        for i in (0..code.ops().len()).rev() {
            if wanted[i] {
                before.push(i);
                code.ops()[i].0.operands().for_each(|v| wanted[v.index()] = true);
            }
        }
        before.reverse();
        if set == Set::Avx2 {
            a.reserved |= 1 << TAIL | 1 << SCRATCH;
        }
        if (0..nest.inputs).any(|k| nest.strided(k)) {
            a.reserved |= 1 << GATHER | 1 << GATHER_LANES;
        }
        let outputs = if nest.combine.is_some() { nest.outputs() } else { 0 };
        let free = set.registers() - a.reserved.count_ones() as usize;
        let need = |c: usize| pressure(code, &inside, &code.results, &shared, c) + outputs * c;
        let copies = [4, 2, 1].into_iter().find(|&c| need(c) + 3 <= free && inside.len() * c <= 600).unwrap_or(1);
        if outputs * copies + 6 > free {
            return Err(TooBig);
        }
        let mut next = set.registers() as u8;
        let mut claim = |a: &mut Asm| {
            next -= 1;
            while a.reserved >> next & 1 == 1 {
                next -= 1;
            }
            a.reserved |= 1 << next;
            next
        };
        let accs: Vec<u8> = (0..outputs * copies).map(|_| claim(&mut a)).collect();
        // Constants and hoisted values that are used most get the registers that are left.
        let mut uses: HashMap<V, usize> = HashMap::new();
        for &i in &inside {
            for v in code.ops()[i].0.operands() {
                let vector = code.ty(v) != Ty::Mask && (is_const(v.index()) || homes.contains_key(&v));
                if vector {
                    *uses.entry(v).or_default() += 1;
                }
            }
        }
        let mut popular: Vec<(V, usize)> = uses.into_iter().collect();
        popular.sort_by_key(|(v, n)| (usize::MAX - n, v.0));
        let spare = free.saturating_sub(need(copies) + 3);
        let pins: Vec<(V, u8)> = popular.into_iter().take(spare).map(|(v, _)| (v, claim(&mut a))).collect();
        Ok(Walk { a, body, layout, copies: copies as u8, shared, before, inside, homes, pins, accs })
    }

    fn emit(mut self, slots: usize) -> Result<(Vec<u8>, usize), TooBig> {
        let nest = &self.body.nest;
        let saved = [asm::rbx, asm::rbp, asm::r12, asm::r13, asm::r14, asm::r15];
        let mut pool = self.a.a.create_label();
        for r in saved {
            self.a.a.push(r)?;
        }
        self.a.a.mov(asm::r11, asm::rsp)?;
        self.a.a.and(asm::rsp, -64)?;
        let size = self.layout.slots() as usize + slots * self.a.set.bytes();
        self.a.a.sub(asm::rsp, ((size + 63) & !63) as i32)?;
        self.a.a.mov(stack(0), asm::r11)?;
        self.a.a.lea(asm::rsi, qword_ptr(pool))?;
        for k in 0..nest.places.len() {
            match POINTERS.get(k) {
                Some(r) => self.a.put(Instruction::with2(Code::Mov_r64_rm64, *r, mem(FRAME, 8 * nest.pointer_word(k) as i64)))?,
                None => {
                    self.a.a.mov(asm::r11, word(nest.pointer_word(k)))?;
                    self.a.a.mov(stack(self.layout.pointer(k)), asm::r11)?;
                }
            }
        }
        let last = nest.axes.len() - 1;
        self.a.a.mov(asm::rcx, word(nest.extent_word(last)))?;
        for (v, r) in self.pins.clone() {
            if let Op::Const(bits) = self.body.code.op(v) {
                self.a.load_constant(r, bits as u32)?;
            }
        }
        let outer: Vec<usize> =
            (0..last + 1).filter(|&x| !nest.axes[x].reduced && (nest.lanes != Lanes::Parallel || x != last)).collect();
        self.levels(&outer, &mut |w| w.row())?;
        self.a.a.mov(asm::rsp, stack(0))?;
        for r in saved.into_iter().rev() {
            self.a.a.pop(r)?;
        }
        self.a.a.xor(asm::eax, asm::eax)?;
        self.a.a.vzeroupper()?;
        self.a.a.ret()?;
        // The pool follows the code, aligned for its vectors by the function's own alignment or not at all: loads are unaligned.
        let bytes: Vec<u8> = self.a.pool_bytes();
        self.a.a.set_label(&mut pool)?;
        self.a.a.db(&bytes)?;
        let code = self.a.a.assemble(0)?;
        Ok((code, self.a.most_slots))
    }

    /// Loops over `axes`, outermost first, around `f`; addresses are afterwards what they were.
    fn levels(&mut self, axes: &[usize], f: &mut dyn FnMut(&mut Self) -> Done) -> Done {
        let Some((&axis, inner)) = axes.split_first() else { return f(self) };
        let nest = &self.body.nest;
        let layout = self.layout;
        let indexed = self.body.code.ops().iter().any(|(op, _)| *op == Op::Index(nest.axes[axis].source));
        let mut top = self.a.a.create_label();
        let mut end = self.a.a.create_label();
        self.a.a.mov(asm::r11, word(nest.extent_word(axis)))?;
        self.a.a.test(asm::r11, asm::r11)?;
        self.a.a.jle(end)?;
        self.a.a.mov(stack(layout.counter(axis)), asm::r11)?;
        if indexed {
            self.a.a.mov(asm::r11, word(nest.start_word(axis)))?;
            self.a.a.mov(stack(layout.index(axis)), asm::r11)?;
        }
        self.a.a.set_label(&mut top)?;
        self.levels(inner, f)?;
        for k in 0..nest.places.len() {
            self.advance(axis, k, false)?;
        }
        if indexed {
            self.a.a.inc(stack(layout.index(axis)))?;
        }
        self.a.a.dec(stack(layout.counter(axis)))?;
        self.a.a.jnz(top)?;
        for k in 0..nest.places.len() {
            self.advance(axis, k, true)?;
        }
        self.a.a.set_label(&mut end)?;
        self.a.a.zero_bytes()?;
        Ok(())
    }

    /// Moves the address of access `k` by one index of `axis`, or back by its whole extent.
    fn advance(&mut self, axis: usize, k: usize, back: bool) -> Done {
        let nest = &self.body.nest;
        let stride = nest.const_stride(axis, k);
        if stride == Some(0) {
            return Ok(());
        }
        let step = mem(FRAME, 8 * (if back { nest.span_word(axis, k) } else { nest.stride_word(axis, k) }) as i64);
        let imm = if back { None } else { stride.and_then(|s| i32::try_from(s).ok()) };
        match (POINTERS.get(k), imm) {
            (Some(r), Some(s)) => self.a.put(Instruction::with2(Code::Add_rm64_imm32, *r, s)),
            (Some(r), None) => self.a.put(Instruction::with2(if back { Code::Sub_r64_rm64 } else { Code::Add_r64_rm64 }, *r, step)),
            (None, _) => {
                self.a.put(Instruction::with2(Code::Mov_r64_rm64, Register::R11, step))?;
                let at = stack(self.layout.pointer(k));
                if back {
                    self.a.a.sub(at, asm::r11)?
                } else {
                    self.a.a.add(at, asm::r11)?
                };
                Ok(())
            }
        }
    }

    fn row(&mut self) -> Done {
        let nest = &self.body.nest;
        let last = nest.axes.len() - 1;
        match (nest.combine, nest.lanes) {
            (None, _) => {
                self.hoist()?;
                self.lanes(&mut |w, copies, tail| w.points(copies, tail))
            }
            (Some(_), Lanes::Parallel) => {
                let levels: Vec<usize> = (0..last).filter(|&x| nest.axes[x].reduced).collect();
                self.lanes(&mut |w, copies, tail| {
                    w.identities(copies)?;
                    w.levels(&levels, &mut |w| w.accumulate(copies, false, tail))?;
                    w.finish(copies, tail)
                })
            }
            (Some(_), _) => {
                let levels: Vec<usize> = (0..last).filter(|&x| nest.axes[x].reduced).collect();
                self.identities(self.copies)?;
                self.levels(&levels, &mut |w| {
                    w.hoist()?;
                    w.lanes(&mut |w, copies, tail| w.accumulate(copies, tail, tail))
                })?;
                self.fold()?;
                self.finish_scalar()
            }
        }
    }

    /// Computes what is constant along the lanes.
    fn hoist(&mut self) -> Done {
        if self.before.is_empty() {
            return Ok(());
        }
        let mut homes: Vec<(V, usize)> = self.homes.iter().map(|(v, s)| (*v, *s)).collect();
        homes.sort();
        let live: Vec<V> = homes.iter().map(|(v, _)| *v).collect();
        let shared = vec![true; self.shared.len()];
        let mut point = Point { nest: &self.body.nest, layout: self.layout, tail: false };
        // Registers of values pinned here are filled at the end.
        let mut line = Line::new(&mut self.a, &self.body.code, &self.before, &live, 1, &shared);
        line.run(&self.before, &mut point)?;
        for (v, slot) in homes {
            let r = line.take_result(v, 0)?;
            let at = line.asm.slot(slot);
            line.asm.store_full(at, r)?;
            line.unlock();
        }
        for (v, r) in &self.pins {
            if let Some(&slot) = self.homes.get(v) {
                let at = self.a.slot(slot);
                self.a.load_full(*r, at)?;
            }
        }
        Ok(())
    }

    /// Walks the lanes: groups of copies, single vectors, the tail. `f` gets the copies and whether it is the tail.
    fn lanes(&mut self, f: &mut dyn FnMut(&mut Self, u8, bool) -> Done) -> Done {
        let width = self.a.set.lanes() as i32;
        self.a.a.xor(asm::eax, asm::eax)?;
        let mut steps = vec![self.copies];
        if self.copies > 1 {
            steps.push(1);
        }
        for copies in steps {
            let step = width * copies as i32;
            let (mut top, mut end): (CodeLabel, CodeLabel) = (self.a.a.create_label(), self.a.a.create_label());
            self.a.a.lea(asm::rdx, qword_ptr(asm::rax + step))?;
            self.a.a.cmp(asm::rdx, asm::rcx)?;
            self.a.a.jg(end)?;
            self.a.a.set_label(&mut top)?;
            f(self, copies, false)?;
            self.a.a.add(asm::rax, step)?;
            self.a.a.lea(asm::rdx, qword_ptr(asm::rax + step))?;
            self.a.a.cmp(asm::rdx, asm::rcx)?;
            self.a.a.jle(top)?;
            self.a.a.set_label(&mut end)?;
        }
        let mut end = self.a.a.create_label();
        self.a.a.cmp(asm::rax, asm::rcx)?;
        self.a.a.jge(end)?;
        self.a.a.mov(asm::r11, asm::rcx)?;
        self.a.a.sub(asm::r11, asm::rax)?;
        if self.a.set == Set::Avx512 {
            self.a.a.mov(asm::r10d, -1)?;
            self.a.a.bzhi(asm::r10d, asm::r10d, asm::r11d)?;
            self.a.put(Instruction::with2(Code::VEX_Kmovw_kr_r32, Register::K1, Register::R10D))?;
        } else {
            spread(&mut self.a, TAIL)?;
            let iota = self.a.iota();
            self.a.put(Instruction::with3(Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, self.a.reg(TAIL), self.a.reg(TAIL), iota))?;
        }
        f(self, 1, true)?;
        self.a.a.set_label(&mut end)?;
        self.a.a.zero_bytes()?;
        Ok(())
    }

    fn line<'w>(
        a: &'w mut Asm,
        code: &'w LaneCode,
        inside: &[usize],
        copies: u8,
        shared: &'w [bool],
        pins: &[(V, u8)],
        homes: &HashMap<V, usize>,
    ) -> Line<'w> {
        let mut line = Line::new(a, code, inside, &code.results, copies, shared);
        pins.iter().for_each(|(v, r)| line.pin(*v, *r));
        homes.iter().for_each(|(v, s)| line.home(*v, *s));
        line
    }

    fn points(&mut self, copies: u8, tail: bool) -> Done {
        let nest = &self.body.nest;
        let mut point = Point { nest, layout: self.layout, tail };
        let mut line = Self::line(&mut self.a, &self.body.code, &self.inside, copies, &self.shared, &self.pins, &self.homes);
        line.run(&self.inside, &mut point)?;
        for u in 0..copies {
            for (o, v) in self.body.code.results.iter().enumerate() {
                let r = line.take_result(*v, u)?;
                store(line.asm, nest, self.layout, o, u, r, tail)?;
                line.unlock();
            }
        }
        Ok(())
    }

    fn identities(&mut self, copies: u8) -> Done {
        let outputs = self.body.nest.outputs();
        for i in 0..copies as usize * outputs {
            self.a.load_constant(self.accs[i], self.body.nest.identities[i % outputs] as u32)?;
        }
        Ok(())
    }

    /// Adds the point to the accumulators; with `masked`, only the lanes of the tail. `partial` says that loads are those of a tail.
    fn accumulate(&mut self, copies: u8, masked: bool, partial: bool) -> Done {
        let nest = &self.body.nest;
        let outputs = nest.outputs();
        let mut point = Point { nest, layout: self.layout, tail: partial };
        let mut line = Self::line(&mut self.a, &self.body.code, &self.inside, copies, &self.shared, &self.pins, &self.homes);
        line.run(&self.inside, &mut point)?;
        for u in 0..copies {
            for (o, v) in self.body.code.results.iter().enumerate() {
                let r = line.take_result(*v, u)?;
                line.within(|asm| combine(asm, self.body, o, self.accs[u as usize * outputs + o], r, masked))?;
                line.unlock();
            }
        }
        Ok(())
    }

    /// Combines copies and lanes into lane 0 of the first accumulators, in a fixed order.
    fn fold(&mut self) -> Done {
        let outputs = self.body.nest.outputs();
        for o in 0..outputs {
            let acc = self.accs[o];
            for u in 1..self.copies as usize {
                combine(&mut self.a, self.body, o, acc, self.accs[u * outputs + o], false)?;
            }
            let wide = self.a.set == Set::Avx512;
            let lanes: &[(u8, u32)] =
                if wide { &[(1, 0x4e), (1, 0xb1), (0, 0x4e), (0, 0xb1)] } else { &[(1, 0x01), (0, 0x4e), (0, 0xb1)] };
            for &(across, imm) in lanes {
                let (t, r) = (self.a.reg(0), self.a.reg(acc));
                if across == 1 {
                    let code =
                        self.a.pick(Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8, Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8);
                    self.a.put(Instruction::with4(code, t, r, r, imm))?;
                } else {
                    let code = self.a.pick(Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8, Code::VEX_Vpermilps_ymm_ymmm256_imm8);
                    self.a.put(Instruction::with3(code, t, r, imm))?;
                }
                combine(&mut self.a, self.body, o, acc, 0, false)?;
            }
        }
        Ok(())
    }

    /// Stores the accumulators of a reduction over other axes than the lanes'.
    fn finish(&mut self, copies: u8, tail: bool) -> Done {
        let (layout, nest) = (self.layout, &self.body.nest);
        let outputs = nest.outputs();
        for u in 0..copies {
            for o in 0..outputs {
                let acc = self.accs[u as usize * outputs + o];
                finished(&mut self.a, self.body, o, acc, &mut |asm, r| store(asm, nest, layout, o, u, r, tail))?;
            }
        }
        Ok(())
    }

    /// Stores lane 0 of the accumulators.
    fn finish_scalar(&mut self) -> Done {
        let (layout, nest) = (self.layout, &self.body.nest);
        for o in 0..nest.outputs() {
            let acc = self.accs[o];
            let k = nest.inputs + o;
            finished(&mut self.a, self.body, o, acc, &mut |asm, r| {
                let r = if r >= 16 {
                    asm.copy(0, r)?;
                    0
                } else {
                    r
                };
                asm.put(Instruction::with2(Code::VEX_Vmovd_rm32_xmm, Register::R11D, Register::XMM0 + r as u32))?;
                let at = mem(base(asm, layout, k)?, 0);
                asm.put(match nest.places[k].mem {
                    Mem::U8 | Mem::S8 => Instruction::with2(Code::Mov_rm8_r8, at, Register::R11L),
                    Mem::U16 | Mem::S16 => Instruction::with2(Code::Mov_rm16_r16, at, Register::R11W),
                    _ => Instruction::with2(Code::Mov_rm32_r32, at, Register::R11D),
                })
            })?;
        }
        Ok(())
    }
}

/// `acc = combine(acc, r)`; with `masked`, only in the lanes of the tail.
fn combine(a: &mut Asm, body: &Body, o: usize, acc: u8, r: u8, masked: bool) -> Done {
    let code = &body.combines[o];
    let reserved = a.reserved;
    a.reserved |= 1 << r | 1 << acc;
    let list: Vec<usize> = (0..code.ops().len()).collect();
    let shared = vec![false; list.len()];
    let direct = match (body.nest.combine, code.ty(code.results[0])) {
        (Some(Combine::Sum), Ty::F32) => Some((Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, Code::VEX_Vaddps_ymm_ymm_ymmm256)),
        _ => None,
    };
    if let (Some((wide, narrow)), false) = (direct, masked) {
        let code = a.pick(wide, narrow);
        a.put(Instruction::with3(code, a.reg(acc), a.reg(acc), a.reg(r)))?;
        a.reserved = reserved;
        return Ok(());
    }
    let mut line = Line::new(a, code, &list, &code.results, 1, &shared);
    let leaf = |k: u32| code.ops().iter().position(|(op, _)| *op == Op::Load(k)).map(|i| V(i as u32));
    for (k, r) in [(0, acc), (1, r)] {
        if let Some(v) = leaf(k) {
            line.bind(v, 0, r);
        }
    }
    line.run(&list, &mut NoLeaves)?;
    let new = line.take_result(code.results[0], 0)?;
    let (x, y) = (a.reg(acc), a.reg(new));
    match (masked, a.set) {
        (false, _) => a.copy(acc, new)?,
        (true, Set::Avx512) => {
            let mut i = Instruction::with2(Code::EVEX_Vmovaps_zmm_k1z_zmmm512, x, y)?;
            i.set_op_mask(Register::K1);
            a.put(Ok(i))?;
        }
        (true, Set::Avx2) => a.put(Instruction::with4(Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, x, x, y, a.reg(TAIL)))?,
    }
    a.reserved = reserved;
    Ok(())
}

/// The memory form of an accumulator, handed to `f` in a register.
fn finished(a: &mut Asm, body: &Body, o: usize, acc: u8, f: &mut dyn FnMut(&mut Asm, u8) -> Done) -> Done {
    let code = &body.finishes[o];
    let list: Vec<usize> = (0..code.ops().len()).collect();
    let shared = vec![false; list.len()];
    let mut line = Line::new(a, code, &list, &code.results, 1, &shared);
    if let Some(i) = code.ops().iter().position(|(op, _)| *op == Op::Load(0)) {
        line.bind(V(i as u32), 0, acc);
    }
    line.run(&list, &mut NoLeaves)?;
    let r = line.take_result(code.results[0], 0)?;
    f(line.asm, r)
}

/// For code whose leaves are bound to registers.
struct NoLeaves;

impl Leaves for NoLeaves {
    fn leaf(&mut self, _: &mut Asm, _: &Op, _: u8, _: u8) -> Done {
        Err(TooBig)
    }
}

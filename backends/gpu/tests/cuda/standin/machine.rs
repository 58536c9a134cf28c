//! Runs PTX, as much of it as graphc's kernels have: slowly, thread by thread, and with an eye on what a GPU would punish.
//!
//! A block's threads go in turns, each up to the next barrier or instruction of a warp, or until it asks in vain for a phase to end. Memory outside of what is
//! allocated, addresses that are not a multiple of an access's size, barriers and warps that not all threads reach, shared memory that two threads, or
//! a thread and a unit, touch in no order, one of them writing ([`super::races`]), waiting for what does not come, and unknown instructions are
//! faults. What units do is in [`super::units`].

use super::numbers::{Kind, compared, converted, f32_of, floating, integer, mask, permuted, signed};
use super::program::{Instruction, Kernel, Operand};
use super::races::Races;
use super::units::Units;

/// Memory that kernels reach by address.
pub trait Memory {
    /// Whether `bytes` bytes from `at` on are there.
    fn holds(&self, at: u64, bytes: usize) -> bool;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Ready,
    /// At the barrier or the instruction of a warp that is its next.
    Waits,
    Done,
}

pub struct Thread {
    registers: Vec<u64>,
    next: usize,
    state: State,
    pub number: u64,
}

/// Addresses of parameters are behind this one.
pub const PARAMS: u64 = 1 << 60;

pub struct Machine<'a> {
    kernel: &'a Kernel,
    pub arguments: &'a [u8],
    pub memory: &'a dyn Memory,
    pub shared: Vec<u8>,
    pub races: Races,
    pub units: Units,
    block: u64,
    blocks: u64,
    /// Counts what lets others go on.
    pub progress: u64,
}

/// Runs a kernel over a grid, with `given` bytes of memory for each block beside what the kernel declares.
pub fn run(kernel: &Kernel, arguments: &[u8], [grid, block, given]: [u32; 3], memory: &dyn Memory) -> Result<(), String> {
    for b in 0..grid {
        // Words that are read before they are written are no numbers.
        let shared = vec![0xff; kernel.shared + given as usize];
        let mut m = Machine {
            kernel,
            arguments,
            memory,
            races: Races::new(block as usize, shared.len()),
            units: Units::new(block as usize),
            shared,
            block: u64::from(b),
            blocks: u64::from(grid),
            progress: 0,
        };
        let thread = |number| Thread { registers: vec![0; kernel.registers], next: 0, state: State::Ready, number };
        let mut threads: Vec<Thread> = (0..u64::from(block)).map(thread).collect();
        m.block(&mut threads).map_err(|e| format!("block {b}: {e}"))?;
    }
    Ok(())
}

impl Machine<'_> {
    fn block(&mut self, threads: &mut [Thread]) -> Result<(), String> {
        let mut before = None;
        loop {
            for t in threads.iter_mut().filter(|t| t.state == State::Ready) {
                self.advance(t).map_err(|e| {
                    let i = self.kernel.code.get(t.next).map(|i| format!("{} {:?}", i.name.join("."), i.operands));
                    format!("thread {}, instruction {}, {}: {e}", t.number, t.next, i.unwrap_or_default())
                })?;
            }
            if threads.iter().all(|t| t.state == State::Done) {
                return Ok(());
            }
            let mut went = false;
            for (size, names) in [(32, &["mma", "ldmatrix"][..]), (128, &["wgmma"])] {
                for group in threads.chunks_mut(size) {
                    let next = group[0].next;
                    let together = group.iter().all(|t| t.state == State::Waits && t.next == next);
                    let Some(i) = self.kernel.code.get(next).filter(|i| together && names.contains(&i.name[0].as_str())) else { continue };
                    match i.name[0].as_str() {
                        "mma" => self.mma(group, next)?,
                        "ldmatrix" => self.load_matrix(group, i)?,
                        _ => self.multiply(group, i)?,
                    }
                    group.iter_mut().for_each(|t| (t.next, t.state) = (next + 1, State::Ready));
                    went = true;
                }
            }
            // Those that asked in vain ask again when something has happened.
            if went || threads.iter().any(|t| t.state == State::Ready) {
                if !went && before == Some(self.progress) {
                    return Err("threads that wait for what does not come".into());
                }
                before = Some(self.progress);
                continue;
            }
            let at_barrier = |t: &Thread| t.state == State::Waits && self.kernel.code[t.next].name[0] == "bar";
            if !threads.iter().all(|t| at_barrier(t) && t.next == threads[0].next) {
                return Err("a barrier or an instruction of a warp that not all threads reach".into());
            }
            threads.iter_mut().for_each(|t| (t.next, t.state) = (t.next + 1, State::Ready));
            self.races.barrier();
            self.progress += 1;
        }
    }

    /// Up to where it waits or ends.
    fn advance(&mut self, t: &mut Thread) -> Result<(), String> {
        let kernel = self.kernel;
        loop {
            let Some(i) = kernel.code.get(t.next) else { return Err("the code ends".into()) };
            if let Some((p, holds)) = i.guard
                && (t.registers[p] & 1 == 1) != holds
            {
                t.next += 1;
                continue;
            }
            match i.name[0].as_str() {
                "ret" => {
                    t.state = State::Done;
                    self.progress += 1;
                    return Ok(());
                }
                "mbarrier" if i.name[1] == "try_wait" => {
                    let ended = self.try_wait(t, i)?;
                    t.next += 1;
                    if !ended {
                        return Ok(());
                    }
                }
                "wgmma" if i.name[1] == "mma_async" => {
                    t.state = State::Waits;
                    return Ok(());
                }
                "bar" | "mma" | "ldmatrix" => {
                    t.state = State::Waits;
                    return Ok(());
                }
                "bra" => match i.operands.first() {
                    Some(Operand::Target(to)) => t.next = *to,
                    _ => return Err("a branch to nowhere".into()),
                },
                _ => {
                    self.step(t, i)?;
                    t.next += 1;
                }
            }
        }
    }

    pub fn value(&self, t: &Thread, o: &Operand) -> Result<u64, String> {
        Ok(match o {
            Operand::Register(r) => t.registers[*r],
            Operand::Constant(v) | Operand::Shared(v) => *v,
            Operand::Thread => t.number,
            Operand::Block => self.block,
            Operand::Blocks => self.blocks,
            Operand::Address(base, offset) => self.value(t, base)?.wrapping_add(*offset as u64),
            Operand::Param(k) => {
                let from = *self.kernel.params.get(*k).ok_or("a parameter that is not there")?;
                let mut bytes = [0; 8];
                let rest = self.arguments.get(from..).ok_or("too few arguments")?;
                let n = rest.len().min(8);
                bytes[..n].copy_from_slice(&rest[..n]);
                u64::from_le_bytes(bytes)
            }
            Operand::ParamAddress(k) => PARAMS + *self.kernel.params.get(*k).ok_or("a parameter that is not there")? as u64,
            Operand::List(_) | Operand::Box(..) | Operand::Target(_) | Operand::Nowhere => return Err(format!("no value: {o:?}")),
        })
    }

    pub fn put(t: &mut Thread, o: &Operand, v: u64) -> Result<(), String> {
        match o {
            Operand::Register(r) => t.registers[*r] = v,
            Operand::Nowhere => {}
            o => return Err(format!("no place for a result: {o:?}")),
        }
        Ok(())
    }

    fn step(&mut self, t: &mut Thread, i: &Instruction) -> Result<(), String> {
        let has = |w: &str| i.name.iter().any(|n| n == w);
        let (ty, ops) = (i.ty, &i.operands[..]);
        let arg = |m: &Self, t: &Thread, k: usize| m.value(t, ops.get(k).ok_or("an operand is missing")?);
        match i.name[0].as_str() {
            "ld" if has("param") => {
                let v = arg(self, t, 1)?;
                let v = if ty.kind == Kind::Signed { signed(v, ty.bits) as u64 } else { v & mask(ty.bits) };
                return Self::put(t, &ops[0], v);
            }
            "ld" | "st" => return self.access(t, i),
            "mbarrier" | "fence" | "elect" | "cp" | "wgmma" => return self.of_units(t, i),
            "mov" => match ops {
                [Operand::List(parts), from] => {
                    let (v, bits) = (self.value(t, from)?, ty.bits / parts.len() as u32);
                    for (k, p) in (0..).zip(parts) {
                        Self::put(t, p, v >> (k * bits) & mask(bits))?;
                    }
                    return Ok(());
                }
                [to, Operand::List(parts)] => {
                    let bits = ty.bits / parts.len() as u32;
                    let mut v = 0;
                    for (k, p) in (0..).zip(parts) {
                        v |= (self.value(t, p)? & mask(bits)) << (k * bits);
                    }
                    return Self::put(t, to, v);
                }
                _ => {}
            },
            _ => {}
        }
        let mut v = [0u64; 4];
        for (k, o) in ops.iter().enumerate().skip(1).take(4) {
            v[k - 1] = self.value(t, o)?;
        }
        let [a, b, c, _] = v;
        let r = match i.name[0].as_str() {
            "mov" => a & mask(ty.bits),
            // Addresses are the same in all spaces.
            "cvta" => a,
            "setp" => u64::from(compared(&i.name[1], ty, a, b)?),
            "selp" => {
                if c & 1 == 1 {
                    a
                } else {
                    b
                }
            }
            "cvt" => converted(&i.name, a, b)?,
            "bfe" => (a & mask(ty.bits)) >> (b & 255).min(63) & mask(c as u32 & 255),
            "prmt" => permuted(a, b, c),
            // Two narrow numbers in a register.
            _ if has("s16x2") || has("u16x2") => {
                let [low, high] = [0, 16].map(|by| integer(&i.name, ty, a >> by, b >> by, c >> by));
                low? | high? << 16
            }
            _ if ty.kind == Kind::Float => floating(&i.name, ty.bits, a, b, c)?,
            _ => integer(&i.name, ty, a, b, c)?,
        };
        Self::put(t, &ops[0], r)
    }

    /// Loads and stores, of several elements too.
    fn access(&mut self, t: &mut Thread, i: &Instruction) -> Result<(), String> {
        let shared = i.name[1] == "shared";
        let (data, place) = if i.name[0] == "ld" { (&i.operands[0], &i.operands[1]) } else { (&i.operands[1], &i.operands[0]) };
        let single = [data.clone()];
        let parts = if let Operand::List(parts) = data { &parts[..] } else { &single[..] };
        let (at, size) = (self.value(t, place)?, i.ty.bits as usize / 8);
        let whole = size * parts.len();
        if at % whole as u64 != 0 {
            return Err(format!("{at:#x} is no multiple of {whole}"));
        }
        let there = if shared { at as usize + whole <= self.shared.len() } else { self.memory.holds(at, whole) };
        if !there {
            return Err(format!("{whole} bytes at {at:#x} are not there, shared: {shared}"));
        }
        if shared {
            self.races.touch(t.number as usize, at as usize, whole, i.name[0] == "st")?;
        }
        for (k, p) in parts.iter().enumerate() {
            let at = at as usize + k * size;
            // SAFETY: memory of the host that is there, as was found; blocks and threads run one after another.
            let memory = unsafe {
                if shared { &mut self.shared[at..at + size] } else { std::slice::from_raw_parts_mut(at as *mut u8, size) }
            };
            if i.name[0] == "ld" {
                let mut bytes = [0; 8];
                bytes[..size].copy_from_slice(memory);
                let v = u64::from_le_bytes(bytes);
                Self::put(t, p, if i.ty.kind == Kind::Signed { signed(v, i.ty.bits) as u64 } else { v })?;
            } else {
                let v = match p {
                    Operand::Register(r) => t.registers[*r],
                    Operand::Constant(v) => *v,
                    p => return Err(format!("no value: {p:?}")),
                };
                memory.copy_from_slice(&v.to_le_bytes()[..size]);
            }
        }
        Ok(())
    }

    /// A product of fragments, by where the instruction's definition says that their elements are.
    fn mma(&self, warp: &mut [Thread], at: usize) -> Result<(), String> {
        let i = &self.kernel.code[at];
        let bf16 = i.name.iter().any(|n| n == "bf16");
        let [Operand::List(d), Operand::List(a), Operand::List(b), Operand::List(c)] = &i.operands[..] else {
            return Err("mma of other operands".into());
        };
        if warp.len() != 32 || (d.len(), a.len(), b.len(), c.len()) != (4, 4, 2, 4) {
            return Err("mma of another shape".into());
        }
        let depth = if bf16 { 16 } else { 8 };
        let (mut left, mut right) = (vec![[0f32; 16]; 16], vec![[0f32; 8]; 16]);
        // The numbers in a register: one of tf32, whose low bits are not seen, or two of bf16.
        let numbers = |v: u64| -> Vec<f32> {
            if bf16 { vec![f32_of((v & 0xffff) << 16), f32_of(v & 0xffff_0000)] } else { vec![f32_of(v & !0x1fff)] }
        };
        for (lane, t) in warp.iter().enumerate() {
            let (group, thread) = (lane >> 2, lane % 4);
            for (r, o) in a.iter().enumerate() {
                for (half, x) in numbers(self.value(t, o)?).into_iter().enumerate() {
                    let (row, column) = if bf16 {
                        let e = 2 * r + half;
                        let row = if e < 2 || (4..6).contains(&e) { group } else { group + 8 };
                        (row, thread * 2 + (e & 1) + if e >= 4 { 8 } else { 0 })
                    } else {
                        (if r == 0 || r == 2 { group } else { group + 8 }, if r < 2 { thread } else { thread + 4 })
                    };
                    left[row][column] = x;
                }
            }
            for (r, o) in b.iter().enumerate() {
                for (half, x) in numbers(self.value(t, o)?).into_iter().enumerate() {
                    let e = 2 * r + half;
                    let row = match bf16 {
                        true => thread * 2 + (e & 1) + if e >= 2 { 8 } else { 0 },
                        false => thread + 4 * r,
                    };
                    right[row][group] = x;
                }
            }
        }
        for (lane, t) in warp.iter_mut().enumerate() {
            let (group, thread) = (lane >> 2, lane % 4);
            let mut results = Vec::new();
            for (r, o) in c.iter().enumerate() {
                let (row, column) = (if r < 2 { group } else { group + 8 }, thread * 2 + (r & 1));
                let sum = f32_of(self.value(t, o)?);
                results.push((0..depth).fold(sum, |sum, k| sum + left[row][k] * right[k][column]));
            }
            for (o, v) in d.iter().zip(results) {
                Self::put(t, o, u64::from(v.to_bits()))?;
            }
        }
        Ok(())
    }
}

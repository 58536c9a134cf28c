//! Runs PTX, as much of it as graphc's kernels have: slowly, thread by thread, and with an eye on what a GPU would punish.
//!
//! A block's threads go in turns, each up to the next barrier or instruction of a warp. Memory outside of what is allocated, addresses that are not a multiple
//! of an access's size, barriers and warps that not all threads reach, shared memory that two
//! threads touch without a barrier between, one of them writing, and unknown instructions are faults.

use super::numbers::{Kind, Ty, compared, converted, f32_of, floating, integer, mask, permuted, signed, ty};
use std::collections::HashMap;

/// Kernels by name.
pub type Kernels = HashMap<String, Kernel>;

#[derive(Clone, Debug)]
enum Operand {
    Register(usize),
    Constant(u64),
    Thread,
    Block,
    Blocks,
    /// Bytes into the memory of the workgroup.
    Shared(u64),
    Address(Box<Operand>, i64),
    Param(usize),
    List(Vec<Operand>),
    Target(usize),
    /// Of a list, what is not wanted.
    Nowhere,
}

#[derive(Debug)]
struct Instruction {
    /// A register, and what it must hold.
    guard: Option<(usize, bool)>,
    /// The words of the name, as `ld`, `global`, `v4`, `b32`.
    name: Vec<String>,
    ty: Ty,
    operands: Vec<Operand>,
}

pub struct Kernel {
    code: Vec<Instruction>,
    registers: usize,
    shared: usize,
    /// Where each parameter begins among the arguments.
    params: Vec<usize>,
}

/// Memory that kernels reach by address.
pub trait Memory {
    /// Whether `bytes` bytes from `at` on are there.
    fn holds(&self, at: u64, bytes: usize) -> bool;
}

/// Words of names besides the first and types.
const MODIFIERS: &[&str] = &[
    "global", "shared", "param", "v2", "v4", "lo", "hi", "wide", "uni", "sync", "aligned", "row", "col", "m16n8k8", "m16n8k16",
    "rn", "rni", "rzi", "rmi", "rpi", "rna", "tf32", "bf16", "bf16x2", "s16x2", "u16x2", "eq", "ne", "lt", "le", "gt", "ge", "equ",
    "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// The kernels of a module.
pub fn parse(text: &str) -> Result<Kernels, String> {
    let text: String = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut kernels = HashMap::new();
    for part in text.split(".entry ").skip(1) {
        let (head, body) = part.split_once('{').ok_or("an entry without a body")?;
        let (name, params) = head.split_once('(').ok_or("an entry without parameters")?;
        let name = name.trim().to_owned();
        let body = body.rsplit_once('}').ok_or("a body without an end")?.0;
        let kernel = Parser::default().kernel(params.split(')').next().unwrap_or(""), body).map_err(|e| format!("{name}: {e}"))?;
        kernels.insert(name, kernel);
    }
    Ok(kernels)
}

#[derive(Default)]
struct Parser {
    registers: HashMap<String, usize>,
    shared: HashMap<String, u64>,
    shared_bytes: u64,
    params: HashMap<String, usize>,
    labels: HashMap<String, usize>,
}

impl Parser {
    fn kernel(mut self, params: &str, body: &str) -> Result<Kernel, String> {
        let mut places = Vec::new();
        let mut at = 0usize;
        for p in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let words: Vec<&str> = p.split_whitespace().collect();
            let size =
                words.get(1).and_then(|t| ty(t.trim_start_matches('.'))).ok_or(format!("parameter {p:?}"))?.bits as usize / 8;
            at = at.next_multiple_of(size);
            self.params.insert(words.last().ok_or("a parameter without a name")?.to_string(), places.len());
            places.push(at);
            at += size;
        }
        // Labels first: statements refer to later ones.
        let mut statements = Vec::new();
        for s in body.split(';') {
            let mut s = s.trim();
            while let Some((label, rest)) = s.split_once(':').filter(|(l, _)| l.trim().starts_with('$')) {
                self.labels.insert(label.trim().to_owned(), statements.len());
                s = rest.trim();
            }
            if let Some(rest) = s.strip_prefix(".shared") {
                // .align 4 .b8 NAME[BYTES]
                let words: Vec<&str> = rest.split_whitespace().collect();
                let (name, bytes) = words.last().and_then(|w| w.split_once('[')).ok_or(format!("{s:?}"))?;
                let bytes: u64 = bytes.trim_end_matches(']').parse().map_err(|_| format!("{s:?}"))?;
                self.shared_bytes = self.shared_bytes.next_multiple_of(16);
                self.shared.insert(name.to_owned(), self.shared_bytes);
                self.shared_bytes += bytes;
            } else if !s.is_empty() && !s.starts_with('.') {
                statements.push(s.to_owned());
            }
        }
        let code = statements.iter().map(|s| self.instruction(s).map_err(|e| format!("{s:?}: {e}"))).collect::<Result<_, _>>()?;
        Ok(Kernel { code, registers: self.registers.len(), shared: self.shared_bytes as usize, params: places })
    }

    fn register(&mut self, name: &str) -> usize {
        let next = self.registers.len();
        *self.registers.entry(name.to_owned()).or_insert(next)
    }

    fn instruction(&mut self, text: &str) -> Result<Instruction, String> {
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (p, rest) = rest.split_once(char::is_whitespace).ok_or("a guard alone")?;
                let (holds, p) = p.strip_prefix('!').map_or((true, p), |p| (false, p));
                (Some((self.register(p), holds)), rest.trim())
            }
            None => (None, text),
        };
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name: Vec<String> = name.split('.').map(str::to_owned).collect();
        if let Some(w) = name.iter().skip(1).find(|w| ty(w).is_none() && !MODIFIERS.contains(&w.as_str())) {
            return Err(format!("{w} is not known"));
        }
        let pair = name.iter().find_map(|w| w.strip_suffix("x2").and_then(ty));
        let found = pair.or_else(|| name.iter().rev().find_map(|w| ty(w)));
        let ty = found.unwrap_or(Ty { kind: Kind::Bits, bits: 32 });
        let (mut operands, mut depth, mut from) = (Vec::new(), 0, 0);
        let ends = rest.char_indices().chain([(rest.len(), ',')]);
        for (i, c) in ends {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    if !rest[from..i].trim().is_empty() {
                        operands.push(self.operand(rest[from..i].trim())?);
                    }
                    from = i + 1;
                }
                _ => {}
            }
        }
        Ok(Instruction { guard, name, ty, operands })
    }

    fn operand(&mut self, text: &str) -> Result<Operand, String> {
        if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return Ok(Operand::List(inner.split(',').map(|t| self.operand(t.trim())).collect::<Result<_, _>>()?));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
            let offset = offset.parse().map_err(|_| format!("offset {offset:?}"))?;
            return Ok(match self.params.get(base) {
                Some(&k) => Operand::Param(k),
                None => Operand::Address(Box::new(self.operand(base)?), offset),
            });
        }
        let bits = |text: &str, radix| u64::from_str_radix(text, radix).map_err(|_| format!("constant {text:?}"));
        Ok(match text {
            "%tid.x" => Operand::Thread,
            "%ctaid.x" => Operand::Block,
            "%nctaid.x" => Operand::Blocks,
            "_" => Operand::Nowhere,
            t if t.starts_with('%') => Operand::Register(self.register(t)),
            t if t.starts_with('$') => Operand::Target(*self.labels.get(t).ok_or("a label that is not there")?),
            t if t.starts_with("0f") || t.starts_with("0d") => Operand::Constant(bits(&t[2..], 16)?),
            t if t.starts_with("0x") => Operand::Constant(bits(t[2..].trim_end_matches('U'), 16)?),
            t => match self.shared.get(t) {
                Some(&at) => Operand::Shared(at),
                None => Operand::Constant(
                    t.parse::<i64>().map(|v| v as u64).or_else(|_| t.parse::<u64>()).map_err(|_| format!("operand {t:?}"))?,
                ),
            },
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ready,
    /// At the barrier or the instruction of a warp that is its next.
    Waits,
    Done,
}

struct Thread {
    registers: Vec<u64>,
    next: usize,
    state: State,
    number: u64,
}

/// Threads by their numbers and one more; 0 for none, and for several readers [`SEVERAL`].
#[derive(Clone, Copy, Default)]
struct Touch {
    wrote: u32,
    read: u32,
}

const SEVERAL: u32 = u32::MAX;

struct Machine<'a> {
    kernel: &'a Kernel,
    arguments: &'a [u8],
    memory: &'a dyn Memory,
    shared: Vec<u8>,
    /// Who wrote and who read each byte of it since the last barrier.
    touched: Vec<Touch>,
    block: u64,
    blocks: u64,
}

/// Runs a kernel over a grid.
pub fn run(kernel: &Kernel, arguments: &[u8], grid: u32, block: u32, memory: &dyn Memory) -> Result<(), String> {
    for b in 0..grid {
        // Words that are read before they are written are no numbers.
        let shared = vec![0xff; kernel.shared];
        let mut m = Machine {
            kernel,
            arguments,
            memory,
            shared,
            touched: vec![Touch::default(); kernel.shared],
            block: u64::from(b),
            blocks: u64::from(grid),
        };
        let thread = |number| Thread { registers: vec![0; kernel.registers], next: 0, state: State::Ready, number };
        let mut threads: Vec<Thread> = (0..u64::from(block)).map(thread).collect();
        m.block(&mut threads).map_err(|e| format!("block {b}: {e}"))?;
    }
    Ok(())
}

impl Machine<'_> {
    fn block(&mut self, threads: &mut [Thread]) -> Result<(), String> {
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
            for warp in threads.chunks_mut(32) {
                let next = warp[0].next;
                if warp.iter().all(|t| t.state == State::Waits && t.next == next) && self.kernel.code[next].name[0] == "mma" {
                    self.mma(warp, next)?;
                    warp.iter_mut().for_each(|t| (t.next, t.state) = (next + 1, State::Ready));
                    went = true;
                }
            }
            if went {
                continue;
            }
            let at_barrier = |t: &Thread| t.state == State::Waits && self.kernel.code[t.next].name[0] == "bar";
            if !threads.iter().all(|t| at_barrier(t) && t.next == threads[0].next) {
                return Err("a barrier or an instruction of a warp that not all threads reach".into());
            }
            threads.iter_mut().for_each(|t| (t.next, t.state) = (t.next + 1, State::Ready));
            self.touched.fill(Touch::default());
        }
    }

    /// Whether thread `t` may touch bytes that others have touched since the last barrier.
    fn touch(&mut self, t: u64, at: usize, bytes: usize, writes: bool) -> Result<(), String> {
        let own = t as u32 + 1;
        for touch in &mut self.touched[at..at + bytes] {
            let other = |who: u32| who != 0 && who != own;
            if other(touch.wrote) || writes && other(touch.read) {
                let what = if writes { "writes" } else { "reads" };
                return Err(format!(
                    "{what} byte {at} of shared memory, which thread {} touched without a barrier",
                    touch.wrote.max(touch.read) - 1
                ));
            }
            match (writes, touch.read) {
                (true, _) => touch.wrote = own,
                (false, 0) => touch.read = own,
                (false, r) if r != own => touch.read = SEVERAL,
                (false, _) => {}
            }
        }
        Ok(())
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
                    return Ok(());
                }
                "bar" | "mma" => {
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

    fn value(&self, t: &Thread, o: &Operand) -> Result<u64, String> {
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
            Operand::List(_) | Operand::Target(_) | Operand::Nowhere => return Err(format!("no value: {o:?}")),
        })
    }

    fn put(t: &mut Thread, o: &Operand, v: u64) -> Result<(), String> {
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
            self.touch(t.number, at as usize, whole, i.name[0] == "st")?;
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

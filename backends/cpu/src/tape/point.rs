//! One vector of points: where its elements lie, how they come into lanes and go back to memory.

use super::code::{Mem, Op};
use super::nest::Nest;
use super::vector::{Asm, Done, Leaves, Set, TooBig, mem};
use iced_x86::code_asm::{self as asm, qword_ptr};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// Registers of the first accesses' addresses; further ones lie in stack words.
pub const POINTERS: [Register; 8] =
    [Register::RBX, Register::RBP, Register::R8, Register::R9, Register::R12, Register::R13, Register::R14, Register::R15];
/// AVX2 only: the lanes of a tail, and a register for narrow stores.
pub const TAIL: u8 = 15;
pub const SCRATCH: u8 = 14;
/// With gathers: their indices, and for AVX2 their lanes.
pub const GATHER: u8 = 13;
pub const GATHER_LANES: u8 = 12;

/// Where things lie on the stack, in bytes from `rsp`, which is aligned to 64.
#[derive(Clone, Copy)]
pub struct Layout {
    pub axes: usize,
    pub accesses: usize,
}

impl Layout {
    pub fn counter(&self, axis: usize) -> i64 {
        8 * (1 + axis) as i64
    }

    pub fn index(&self, axis: usize) -> i64 {
        8 * (1 + self.axes + axis) as i64
    }

    pub fn pointer(&self, k: usize) -> i64 {
        8 * (1 + 2 * self.axes + k) as i64
    }

    /// 64 bytes to move partial vectors through.
    fn buffer(&self) -> i64 {
        (8 * (1 + 2 * self.axes + self.accesses) as i64 + 63) & !63
    }

    pub fn slots(&self) -> i64 {
        self.buffer() + 64
    }
}

/// The loads and indices of one vector iteration at `rax`.
pub struct Point<'a> {
    pub nest: &'a Nest,
    pub layout: Layout,
    pub tail: bool,
}

pub fn word(w: usize) -> asm::AsmMemoryOperand {
    qword_ptr(asm::rdi + 8 * w as i32)
}

pub fn stack(at: i64) -> asm::AsmMemoryOperand {
    qword_ptr(asm::rsp + at as i32)
}

/// The register that holds the address of access `k`, `r10` if it is in memory.
pub fn base(a: &mut Asm, layout: Layout, k: usize) -> Result<Register, TooBig> {
    match POINTERS.get(k) {
        Some(r) => Ok(*r),
        None => {
            a.a.mov(asm::r10, stack(layout.pointer(k)))?;
            Ok(Register::R10)
        }
    }
}

/// The element of access `k` for lane 0 of copy `u`.
fn address(a: &mut Asm, layout: Layout, k: usize, m: Mem, u: u8) -> Result<MemoryOperand, TooBig> {
    let r = base(a, layout, k)?;
    let offset = m.bytes() * (u as usize * a.set.lanes()) as i64;
    Ok(MemoryOperand::with_base_index_scale_displ_size(r, Register::RAX, m.bytes() as u32, offset, 1))
}

/// Copies the bytes of the tail's elements (`rcx - rax` of them) between the buffer and memory; uses `rdx`, `r10` and `r11`.
fn move_tail(a: &mut Asm, layout: Layout, k: usize, m: Mem, out: bool) -> Done {
    let from = address(a, layout, k, m, 0)?;
    a.put(Instruction::with2(Code::Lea_r64_m, Register::R10, from))?;
    a.a.mov(asm::rdx, asm::rcx)?;
    a.a.sub(asm::rdx, asm::rax)?;
    if m.bytes() == 2 {
        a.a.add(asm::rdx, asm::rdx)?;
    }
    let mut top = a.a.create_label();
    a.a.set_label(&mut top)?;
    let (there, here) = (asm::byte_ptr(asm::r10 + asm::rdx - 1), asm::byte_ptr(asm::rsp + asm::rdx + (layout.buffer() - 1) as i32));
    if out {
        a.a.mov(asm::r11b, here)?;
        a.a.mov(there, asm::r11b)?;
    } else {
        a.a.mov(asm::r11b, there)?;
        a.a.mov(here, asm::r11b)?;
    }
    a.a.dec(asm::rdx)?;
    a.a.jnz(top)?;
    Ok(())
}

/// `r11d` in all lanes of `r`.
pub fn spread(a: &mut Asm, r: u8) -> Done {
    if a.set == Set::Avx512 {
        return a.put(Instruction::with2(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, a.reg(r), Register::R11D));
    }
    let x = a.set.half(r);
    a.put(Instruction::with2(Code::VEX_Vmovd_xmm_rm32, x, Register::R11D))?;
    a.put(Instruction::with2(Code::VEX_Vpbroadcastd_ymm_xmmm32, a.reg(r), x))
}

impl Leaves for Point<'_> {
    fn leaf(&mut self, a: &mut Asm, op: &Op, u: u8, r: u8) -> Done {
        match *op {
            Op::Load(k) => {
                let k = k as usize;
                let m = self.nest.places[k].mem;
                if self.nest.uniform(k) {
                    let at = mem(base(a, self.layout, k)?, 0);
                    let narrow = match m {
                        Mem::U8 => Code::Movzx_r32_rm8,
                        Mem::S8 => Code::Movsx_r32_rm8,
                        Mem::U16 => Code::Movzx_r32_rm16,
                        Mem::S16 => Code::Movsx_r32_rm16,
                        _ => {
                            let code = a.pick(Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32, Code::VEX_Vbroadcastss_ymm_m32);
                            return a.put(Instruction::with2(code, a.reg(r), at));
                        }
                    };
                    a.put(Instruction::with2(narrow, Register::R11D, at))?;
                    return spread(a, r);
                }
                if self.nest.strided(k) {
                    return self.gather(a, k, u, r);
                }
                if self.tail && a.set == Set::Avx2 {
                    if m == Mem::W32 {
                        let at = address(a, self.layout, k, m, u)?;
                        return a.put(Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, a.reg(r), a.reg(TAIL), at));
                    }
                    move_tail(a, self.layout, k, m, false)?;
                    return a.load_lanes(r, m, mem(Register::RSP, self.layout.buffer()), false);
                }
                let at = address(a, self.layout, k, m, u)?;
                a.load_lanes(r, m, at, self.tail)
            }
            Op::Index(source) => {
                let axis = self.nest.axes.iter().position(|x| x.source == source).ok_or(TooBig)?;
                let lane = axis + 1 == self.nest.axes.len();
                if lane {
                    a.a.mov(asm::r11, word(self.nest.start_word(axis)))?;
                    a.a.add(asm::r11, asm::rax)?;
                    if u > 0 {
                        a.a.add(asm::r11, (u as usize * a.set.lanes()) as i32)?;
                    }
                } else {
                    a.a.mov(asm::r11, stack(self.layout.index(axis)))?;
                }
                spread(a, r)?;
                if lane {
                    let at = a.iota();
                    let code = a.pick(Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, Code::VEX_Vpaddd_ymm_ymm_ymmm256);
                    a.put(Instruction::with3(code, a.reg(r), a.reg(r), at))?;
                }
                Ok(())
            }
            _ => Err(TooBig),
        }
    }
}

impl Point<'_> {
    /// Words at a constant stride. Lanes beyond a tail keep what the register held.
    fn gather(&self, a: &mut Asm, k: usize, u: u8, r: u8) -> Done {
        let last = self.nest.axes.len() - 1;
        let stride = self.nest.axes[last].strides[k].as_const().ok_or(TooBig)?;
        let from = base(a, self.layout, k)?;
        a.put(Instruction::with3(Code::Imul_r64_rm64_imm32, Register::R11, Register::RAX, (4 * stride) as i32))?;
        a.put(Instruction::with2(Code::Add_r64_rm64, Register::R11, from))?;
        let steps = a.multiples(stride);
        a.load_full(GATHER, steps)?;
        let offset = 4 * stride * (u as usize * a.set.lanes()) as i64;
        let at = MemoryOperand::with_base_index_scale_displ_size(Register::R11, a.reg(GATHER), 4, offset, 1);
        if a.set == Set::Avx512 {
            let k7 = Register::K7;
            if self.tail {
                a.put(Instruction::with2(Code::VEX_Kmovw_kr_km16, k7, Register::K1))?;
            } else {
                a.put(Instruction::with3(Code::VEX_Kxnorw_kr_kr_kr, k7, k7, k7))?;
            }
            let mut i = Instruction::with2(Code::EVEX_Vgatherdps_zmm_k1_vm32z, a.reg(r), at)?;
            i.set_op_mask(k7);
            return a.put(Ok(i));
        }
        let lanes = a.reg(GATHER_LANES);
        if self.tail {
            a.copy(GATHER_LANES, TAIL)?;
        } else {
            a.put(Instruction::with3(Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, lanes, lanes, lanes))?;
        }
        a.put(Instruction::with3(Code::VEX_Vgatherdps_ymm_vm32y_ymm, a.reg(r), at, lanes))
    }
}

/// Stores output `o` of copy `u` from `r`.
pub fn store(a: &mut Asm, nest: &Nest, layout: Layout, o: usize, u: u8, r: u8, tail: bool) -> Done {
    let k = nest.inputs + o;
    let m = nest.places[k].mem;
    if tail && a.set == Set::Avx2 {
        if m == Mem::W32 {
            let at = address(a, layout, k, m, u)?;
            return a.put(Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, at, a.reg(TAIL), a.reg(r)));
        }
        a.store_lanes(mem(Register::RSP, layout.buffer()), m, r, SCRATCH, false)?;
        return move_tail(a, layout, k, m, true);
    }
    let at = address(a, layout, k, m, u)?;
    a.store_lanes(at, m, r, SCRATCH, tail)
}

//! Instruction selection: each operation of lane code in AVX-512 or AVX2 instructions, and moves between lanes and memory.

use super::code::{Cond, Mem, Op, Rounding, Ty, V};
use super::vector::{Asm, Done, Line, POOL, Set, Source, TooBig, mem};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

impl Line<'_> {
    fn emit3(&mut self, code: Code, d: Register, a: Register, b: Source) -> Done {
        match b {
            Source::Reg(b) => self.asm.put(Instruction::with3(code, d, a, b)),
            Source::Mem(b) => self.asm.put(Instruction::with3(code, d, a, b)),
        }
    }

    fn emit2(&mut self, code: Code, d: Register, a: Source) -> Done {
        match a {
            Source::Reg(a) => self.asm.put(Instruction::with2(code, d, a)),
            Source::Mem(a) => self.asm.put(Instruction::with2(code, d, a)),
        }
    }

    /// A source without the form `{1to16}`, for instructions that lack it.
    fn whole(&mut self, v: V, u: u8) -> Result<Register, TooBig> {
        let key = self.key(v, u);
        let r = self.in_register(key)?;
        Ok(self.register(r))
    }

    /// `d = code(a, b)`; with `swap` the operands may change places.
    fn two(&mut self, wide: Code, narrow: Code, a: V, b: V, u: u8, swap: bool) -> Result<u8, TooBig> {
        let (mut a, mut b) = (a, b);
        let loaded = |l: &Self, v: V| l.pinned.contains_key(&v) || l.loc.contains_key(&l.key(v, u));
        if swap && !loaded(self, a) && loaded(self, b) {
            std::mem::swap(&mut a, &mut b);
        }
        let x = self.whole(a, u)?;
        let y = self.source(b, u)?;
        let d = self.result(&[a, b], u, false)?;
        let code = self.asm.pick(wide, narrow);
        self.emit3(code, self.asm.reg(d), x, y)?;
        Ok(d)
    }

    fn one(&mut self, wide: Code, narrow: Code, a: V, u: u8) -> Result<u8, TooBig> {
        let x = self.source(a, u)?;
        let d = self.result(&[a], u, false)?;
        let code = self.asm.pick(wide, narrow);
        self.emit2(code, self.asm.reg(d), x)?;
        Ok(d)
    }

    fn with_imm(&mut self, wide: Code, narrow: Code, a: V, imm: u32, u: u8) -> Result<u8, TooBig> {
        let x = self.whole(a, u)?;
        let d = self.result(&[a], u, false)?;
        let code = self.asm.pick(wide, narrow);
        self.asm.put(Instruction::with3(code, self.asm.reg(d), x, imm))?;
        Ok(d)
    }

    pub fn op(&mut self, op: &Op, ty: Ty, u: u8) -> Result<u8, TooBig> {
        use Code::*;
        let float = ty == Ty::F32;
        if ty == Ty::Mask {
            return self.mask_op(op, u);
        }
        match *op {
            Op::Add(a, b) if float => self.two(EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vaddps_ymm_ymm_ymmm256, a, b, u, true),
            Op::Add(a, b) => self.two(EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, VEX_Vpaddd_ymm_ymm_ymmm256, a, b, u, true),
            Op::Sub(a, b) if float => self.two(EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vsubps_ymm_ymm_ymmm256, a, b, u, false),
            Op::Sub(a, b) => self.two(EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsubd_ymm_ymm_ymmm256, a, b, u, false),
            Op::Mul(a, b) if float => self.two(EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vmulps_ymm_ymm_ymmm256, a, b, u, true),
            Op::Mul(a, b) => self.two(EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, VEX_Vpmulld_ymm_ymm_ymmm256, a, b, u, true),
            Op::Div(a, b) => self.two(EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, VEX_Vdivps_ymm_ymm_ymmm256, a, b, u, false),
            Op::Min(a, b) if float => self.two(EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vminps_ymm_ymm_ymmm256, a, b, u, false),
            Op::Max(a, b) if float => self.two(EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, VEX_Vmaxps_ymm_ymm_ymmm256, a, b, u, false),
            Op::Min(a, b) => self.two(EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32, VEX_Vpminsd_ymm_ymm_ymmm256, a, b, u, true),
            Op::Max(a, b) => self.two(EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32, VEX_Vpmaxsd_ymm_ymm_ymmm256, a, b, u, true),
            Op::And(a, b) => self.two(EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32, VEX_Vpand_ymm_ymm_ymmm256, a, b, u, true),
            Op::Or(a, b) => self.two(EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, VEX_Vpor_ymm_ymm_ymmm256, a, b, u, true),
            Op::Xor(a, b) => self.two(EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, VEX_Vpxor_ymm_ymm_ymmm256, a, b, u, true),
            Op::ShlV(a, b) => self.two(EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsllvd_ymm_ymm_ymmm256, a, b, u, false),
            Op::ShrV(a, b) => self.two(EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsrlvd_ymm_ymm_ymmm256, a, b, u, false),
            Op::SarV(a, b) => self.two(EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32, VEX_Vpsravd_ymm_ymm_ymmm256, a, b, u, false),
            Op::Scale2(a, b) if self.asm.set == Set::Avx512 => {
                self.two(EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er, EVEX_Vscalefps_ymm_k1z_ymm_ymmm256b32, a, b, u, false)
            }
            Op::Sqrt(a) => self.one(EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er, VEX_Vsqrtps_ymm_ymmm256, a, u),
            Op::Float(a) => self.one(EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, VEX_Vcvtdq2ps_ymm_ymmm256, a, u),
            Op::Int(a) => self.one(EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae, VEX_Vcvttps2dq_ymm_ymmm256, a, u),
            Op::Shl(a, n) => self.with_imm(EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, VEX_Vpslld_ymm_ymm_imm8, a, n, u),
            Op::Shr(a, n) => self.with_imm(EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8, VEX_Vpsrld_ymm_ymm_imm8, a, n, u),
            Op::Sar(a, n) => self.with_imm(EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, VEX_Vpsrad_ymm_ymm_imm8, a, n, u),
            Op::Round(how, a) => {
                let imm = match how {
                    Rounding::Nearest => 8,
                    Rounding::Down => 9,
                    Rounding::Up => 10,
                    Rounding::Zero => 11,
                };
                self.with_imm(EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae, VEX_Vroundps_ymm_ymmm256_imm8, a, imm, u)
            }
            Op::Bits(a) => {
                let x = self.whole(a, u)?;
                let d = self.result(&[a], u, false)?;
                let r = self.asm.reg(d);
                if r != x {
                    let code = self.asm.pick(EVEX_Vmovaps_zmm_k1z_zmmm512, VEX_Vmovaps_ymm_ymmm256);
                    self.asm.put(Instruction::with2(code, r, x))?;
                }
                Ok(d)
            }
            Op::Fma(a, b, c) => self.fused(a, b, c, u, false),
            Op::Fnma(a, b, c) => self.fused(a, b, c, u, true),
            Op::Select(m, a, b) => {
                let k = self.whole(m, u)?;
                let y = self.whole(b, u)?;
                let x = self.source(a, u)?;
                let d = self.result(&[b, a], u, false)?;
                let r = self.asm.reg(d);
                if self.asm.set == Set::Avx512 {
                    let mut i = match x {
                        Source::Reg(x) => Instruction::with3(EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, r, y, x)?,
                        Source::Mem(x) => Instruction::with3(EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32, r, y, x)?,
                    };
                    i.set_op_mask(k);
                    self.asm.put(Ok(i))?;
                } else {
                    self.asm.put(match x {
                        Source::Reg(x) => Instruction::with4(VEX_Vblendvps_ymm_ymm_ymmm256_ymm, r, y, x, k),
                        Source::Mem(x) => Instruction::with4(VEX_Vblendvps_ymm_ymm_ymmm256_ymm, r, y, x, k),
                    })?;
                }
                Ok(d)
            }
            Op::FromHalf(a) => {
                let x = self.in_register(self.key(a, u))?;
                let d = self.take(false)?;
                let (r, h) = (self.asm.reg(d), self.asm.set.half(d));
                self.asm.low_words(d, x)?;
                let code = self.asm.pick(EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae, VEX_Vcvtph2ps_ymm_xmmm128);
                self.asm.put(Instruction::with2(code, r, h))?;
                Ok(d)
            }
            Op::ToHalf(a) => {
                let x = self.whole(a, u)?;
                let d = self.result(&[a], u, false)?;
                let (r, h) = (self.asm.reg(d), self.asm.set.half(d));
                let code = self.asm.pick(EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae, VEX_Vcvtps2ph_xmmm128_ymm_imm8);
                self.asm.put(Instruction::with3(code, h, x, 0u32))?;
                let code = self.asm.pick(EVEX_Vpmovzxwd_zmm_k1z_ymmm256, VEX_Vpmovzxwd_ymm_xmmm128);
                self.asm.put(Instruction::with2(code, r, h))?;
                Ok(d)
            }
            _ => Err(TooBig),
        }
    }

    /// `a*b + c` or `c - a*b`, over the register of an operand that dies.
    fn fused(&mut self, a: V, b: V, c: V, u: u8, negate: bool) -> Result<u8, TooBig> {
        use Code::*;
        let code231 = match (negate, self.asm.set) {
            (false, Set::Avx512) => EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
            (false, Set::Avx2) => VEX_Vfmadd231ps_ymm_ymm_ymmm256,
            (true, Set::Avx512) => EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
            (true, Set::Avx2) => VEX_Vfnmadd231ps_ymm_ymm_ymmm256,
        };
        let code213 = match (negate, self.asm.set) {
            (false, Set::Avx512) => EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
            (false, Set::Avx2) => VEX_Vfmadd213ps_ymm_ymm_ymmm256,
            (true, Set::Avx512) => EVEX_Vfnmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
            (true, Set::Avx2) => VEX_Vfnmadd213ps_ymm_ymm_ymmm256,
        };
        let in_reg = |l: &Self, v: V| l.pinned.contains_key(&v) || l.loc.contains_key(&l.key(v, u));
        // The factor in a register comes first.
        let (a, b) = if !in_reg(self, a) && in_reg(self, b) { (b, a) } else { (a, b) };
        let owned = |l: &Self, v: V| l.loc.contains_key(&l.key(v, u)) && l.dies(v, u);
        if owned(self, c) && c != a && c != b {
            let d = self.in_register(self.key(c, u))?;
            let x = self.whole(a, u)?;
            let y = self.source(b, u)?;
            self.emit3(code231, self.asm.reg(d), x, y)?;
            return Ok(d);
        }
        for (over, other) in [(a, b), (b, a)] {
            if owned(self, over) && over != c {
                let d = self.in_register(self.key(over, u))?;
                let x = self.whole(other, u)?;
                let y = self.source(c, u)?;
                self.emit3(code213, self.asm.reg(d), x, y)?;
                return Ok(d);
            }
        }
        let x = self.whole(a, u)?;
        let z = self.source(c, u)?;
        let y = self.source(b, u)?;
        let d = self.take(false)?;
        let r = self.asm.reg(d);
        match (z, self.constant(c)) {
            (Source::Mem(_), Some(bits)) => self.asm.load_constant(d, bits)?,
            (Source::Mem(m), None) => self.asm.load_full(d, m)?,
            (Source::Reg(z), _) => {
                let code = self.asm.pick(EVEX_Vmovaps_zmm_k1z_zmmm512, VEX_Vmovaps_ymm_ymmm256);
                self.asm.put(Instruction::with2(code, r, z))?;
            }
        }
        self.emit3(code231, r, x, y)?;
        Ok(d)
    }

    fn mask_op(&mut self, op: &Op, u: u8) -> Result<u8, TooBig> {
        use Code::*;
        let wide = self.asm.set == Set::Avx512;
        match *op {
            Op::And(a, b) | Op::Or(a, b) | Op::Xor(a, b) => {
                let (w, n) = match op {
                    Op::And(..) => (VEX_Kandw_kr_kr_kr, VEX_Vpand_ymm_ymm_ymmm256),
                    Op::Or(..) => (VEX_Korw_kr_kr_kr, VEX_Vpor_ymm_ymm_ymmm256),
                    _ => (VEX_Kxorw_kr_kr_kr, VEX_Vpxor_ymm_ymm_ymmm256),
                };
                let (x, y) = (self.whole(a, u)?, self.source(b, u)?);
                let d = self.result(&[a, b], u, wide)?;
                self.emit3(if wide { w } else { n }, self.register(d), x, y)?;
                Ok(d)
            }
            Op::Cmp(how, a, b) if self.code.ty(a) == Ty::F32 => {
                let imm: u32 = match how {
                    Cond::Eq => 0,
                    Cond::Ne => 4,
                    Cond::Lt => 0x11,
                    Cond::Le => 0x12,
                    Cond::Gt => 0x1e,
                    Cond::Ge => 0x1d,
                };
                self.compare(EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae, VEX_Vcmpps_ymm_ymm_ymmm256_imm8, a, b, imm, u)
            }
            Op::Cmp(how, a, b) | Op::UCmp(how, a, b) if wide => {
                let imm: u32 = match how {
                    Cond::Eq => 0,
                    Cond::Lt => 1,
                    Cond::Le => 2,
                    Cond::Ne => 4,
                    Cond::Ge => 5,
                    Cond::Gt => 6,
                };
                let code = if matches!(op, Op::UCmp(..)) {
                    EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8
                } else {
                    EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8
                };
                self.compare(code, code, a, b, imm, u)
            }
            Op::Cmp(Cond::Eq, a, b) => self.two(VEX_Vpcmpeqd_ymm_ymm_ymmm256, VEX_Vpcmpeqd_ymm_ymm_ymmm256, a, b, u, true),
            Op::Cmp(Cond::Gt, a, b) => self.two(VEX_Vpcmpgtd_ymm_ymm_ymmm256, VEX_Vpcmpgtd_ymm_ymm_ymmm256, a, b, u, false),
            _ => Err(TooBig),
        }
    }

    fn compare(&mut self, wide: Code, narrow: Code, a: V, b: V, imm: u32, u: u8) -> Result<u8, TooBig> {
        let x = self.whole(a, u)?;
        let y = self.source(b, u)?;
        let masks = self.asm.set == Set::Avx512;
        let d = if masks { self.take(true)? } else { self.result(&[a, b], u, false)? };
        let code = if masks { wide } else { narrow };
        let r = self.register(d);
        self.asm.put(match y {
            Source::Reg(y) => Instruction::with4(code, r, x, y, imm),
            Source::Mem(y) => Instruction::with4(code, r, x, y, imm),
        })?;
        Ok(d)
    }
}

impl Asm {
    /// The low words of the lanes of `x`, packed into the half register of `d`; `d` is not `x`. For AVX2 the words are below 2^16.
    pub fn low_words(&mut self, d: u8, x: u8) -> Done {
        use Code::*;
        if self.set == Set::Avx512 {
            return self.put(Instruction::with2(EVEX_Vpmovdw_ymmm256_k1z_zmm, self.set.half(d), self.reg(x)));
        }
        self.put(Instruction::with3(VEX_Vpackusdw_ymm_ymm_ymmm256, self.reg(d), self.reg(x), self.reg(x)))?;
        self.put(Instruction::with3(VEX_Vpermq_ymm_ymmm256_imm8, self.reg(d), self.reg(d), 8u32))
    }

    /// Loads contiguous elements into the lanes of `r`; with `tail`, only those of `k1`.
    pub fn load_lanes(&mut self, r: u8, m: Mem, at: MemoryOperand, tail: bool) -> Done {
        use Code::*;
        let code = match m {
            Mem::U8 => self.pick(EVEX_Vpmovzxbd_zmm_k1z_xmmm128, VEX_Vpmovzxbd_ymm_xmmm64),
            Mem::S8 => self.pick(EVEX_Vpmovsxbd_zmm_k1z_xmmm128, VEX_Vpmovsxbd_ymm_xmmm64),
            Mem::U16 => self.pick(EVEX_Vpmovzxwd_zmm_k1z_ymmm256, VEX_Vpmovzxwd_ymm_xmmm128),
            Mem::S16 => self.pick(EVEX_Vpmovsxwd_zmm_k1z_ymmm256, VEX_Vpmovsxwd_ymm_xmmm128),
            _ => self.pick(EVEX_Vmovups_zmm_k1z_zmmm512, VEX_Vmovups_ymm_ymmm256),
        };
        let mut i = Instruction::with2(code, self.reg(r), at)?;
        if tail && self.set == Set::Avx512 {
            i.set_op_mask(Register::K1);
            i.set_zeroing_masking(true);
        }
        self.put(Ok(i))
    }

    /// Stores the lanes of `r`, which may be overwritten; `free` is a register to work in.
    pub fn store_lanes(&mut self, at: MemoryOperand, m: Mem, r: u8, free: u8, tail: bool) -> Done {
        use Code::*;
        if self.set == Set::Avx512 {
            let code = match m {
                Mem::U8 | Mem::S8 => EVEX_Vpmovdb_xmmm128_k1z_zmm,
                Mem::U16 | Mem::S16 => EVEX_Vpmovdw_ymmm256_k1z_zmm,
                _ => EVEX_Vmovups_zmmm512_k1z_zmm,
            };
            let mut i = Instruction::with2(code, at, self.reg(r))?;
            if tail {
                i.set_op_mask(Register::K1);
            }
            return self.put(Ok(i));
        }
        match m {
            Mem::U8 | Mem::S8 | Mem::U16 | Mem::S16 => {
                let bytes = matches!(m, Mem::U8 | Mem::S8);
                let limit = mem(POOL, self.constant(if bytes { 0xff } else { 0xffff }));
                self.put(Instruction::with3(VEX_Vpand_ymm_ymm_ymmm256, self.reg(free), self.reg(r), limit))?;
                self.put(Instruction::with3(VEX_Vpackusdw_ymm_ymm_ymmm256, self.reg(free), self.reg(free), self.reg(free)))?;
                self.put(Instruction::with3(VEX_Vpermq_ymm_ymmm256_imm8, self.reg(free), self.reg(free), 8u32))?;
                let x = self.set.half(free);
                if bytes {
                    self.put(Instruction::with3(VEX_Vpackuswb_xmm_xmm_xmmm128, x, x, x))?;
                    return self.put(Instruction::with2(VEX_Vmovq_xmmm64_xmm, at, x));
                }
                self.put(Instruction::with2(VEX_Vmovdqu_xmmm128_xmm, at, x))
            }
            _ => self.put(Instruction::with2(VEX_Vmovups_ymmm256_ymm, at, self.reg(r))),
        }
    }
}

//! A slow evaluator of loops over bytes: each value a real or an integer, rounded or wrapped after each entry.

use graphc_ir::Elem;
use graphc_ir::tape::{Bin, Cmp, Entry, Tape, Un};
use graphc_passes::plan::{Combine, Loop};

/// A value: `i` for integers and bool, `f` for floats.
#[derive(Clone, Copy, Debug)]
pub struct Val {
    pub f: f64,
    pub i: i128,
}

pub fn real(f: f64) -> Val {
    Val { f, i: 0 }
}

pub fn int(i: i128) -> Val {
    Val { f: 0.0, i }
}

/// A division by zero.
#[derive(Debug, PartialEq)]
pub struct ZeroDivisor;

fn bits(e: Elem) -> u32 {
    match e {
        Elem::Bool => 1,
        e => 8 * e.size() as u32,
    }
}

/// Integers wrapped to `e`.
fn wrap(e: Elem, v: i128) -> i128 {
    let by = 128 - bits(e);
    if e.is_signed_int() { (v << by) >> by } else { ((v as u128) << by >> by) as i128 }
}

fn range(e: Elem) -> (i128, i128) {
    let b = bits(e);
    if e.is_signed_int() { (-(1 << (b - 1)), (1 << (b - 1)) - 1) } else { (0, (1 << b) - 1) }
}

/// `v` to the nearest of a format with `digits` digits, least exponent `low`, greatest finite magnitude below `limit`.
fn nearest(v: f64, digits: i32, low: i32, limit: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let e = ((v.abs().to_bits() >> 52) as i32 - 1023).max(low) - (digits - 1);
    let unit = (e as f64).exp2();
    let r = (v / unit).round_ties_even() * unit;
    if r.abs() >= limit { f64::INFINITY.copysign(v) } else { r }
}

pub fn round(e: Elem, v: f64) -> f64 {
    match e {
        Elem::F32 => v as f32 as f64,
        Elem::F16 => nearest(v, 11, -14, 65520.0),
        Elem::BF16 => nearest(v, 8, -126, f32::MAX as f64 * 1.001),
        _ => v,
    }
}

pub fn read(e: Elem, bytes: &[u8], at: usize) -> Val {
    let b = &bytes[at * e.size()..][..e.size()];
    let raw = b.iter().rev().fold(0u64, |v, x| v << 8 | *x as u64);
    match e {
        Elem::F64 => real(f64::from_bits(raw)),
        Elem::F32 => real(f32::from_bits(raw as u32) as f64),
        Elem::BF16 => real(f32::from_bits((raw as u32) << 16) as f64),
        Elem::F16 => {
            let (m, x) = ((raw & 0x3ff) as f64, (raw >> 10 & 0x1f) as i32);
            let v = match x {
                0 => m * (-24f64).exp2(),
                31 if m == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                x => (1024.0 + m) * ((x - 25) as f64).exp2(),
            };
            real(if raw >> 15 == 1 { -v } else { v })
        }
        Elem::Bool => int((raw != 0) as i128),
        e => int(wrap(e, raw as i128)),
    }
}

/// The bytes of a value in `e`.
pub fn write(e: Elem, v: Val) -> Vec<u8> {
    let raw = match e {
        Elem::F64 => v.f.to_bits(),
        Elem::F32 => (v.f as f32).to_bits() as u64,
        Elem::BF16 => ((round(e, v.f) as f32).to_bits() >> 16) as u64,
        Elem::F16 => {
            let f = round(e, v.f);
            let sign = (f.is_sign_negative() as u64) << 15;
            let a = f.abs();
            sign | if a.is_nan() {
                0x7e00
            } else if a.is_infinite() {
                0x7c00
            } else if a < (-14f64).exp2() {
                (a * 24f64.exp2()) as u64
            } else {
                let x = (a.to_bits() >> 52) as i64 - 1023;
                ((x + 15) as u64) << 10 | ((a / ((x - 10) as f64).exp2()) as u64 & 0x3ff)
            }
        }
        _ => v.i as u64,
    };
    raw.to_le_bytes()[..e.size()].to_vec()
}

fn un(op: Un, e: Elem, x: Val) -> Val {
    if e.is_float() {
        let f = x.f;
        return match op {
            Un::IsNan => int(f.is_nan() as i128),
            Un::IsInf => int(f.is_infinite() as i128),
            Un::IsFinite => int(f.is_finite() as i128),
            _ => real(match op {
                Un::Neg => -f,
                Un::Abs => f.abs(),
                Un::Sign => {
                    if f > 0.0 {
                        1.0
                    } else if f < 0.0 {
                        -1.0
                    } else {
                        f
                    }
                }
                Un::Sqrt => f.sqrt(),
                Un::Floor => f.floor(),
                Un::Ceil => f.ceil(),
                Un::Round => f.round_ties_even(),
                Un::Trunc => f.trunc(),
                Un::Exp => f.exp(),
                Un::Expm1 => f.exp_m1(),
                Un::Log => f.ln(),
                Un::Log1p => f.ln_1p(),
                Un::Sin => f.sin(),
                Un::Cos => f.cos(),
                Un::Tan => f.tan(),
                Un::Asin => f.asin(),
                Un::Acos => f.acos(),
                Un::Atan => f.atan(),
                Un::Sinh => f.sinh(),
                Un::Cosh => f.cosh(),
                Un::Tanh => f.tanh(),
                Un::Asinh => f.asinh(),
                Un::Acosh => f.acosh(),
                Un::Atanh => f.atanh(),
                Un::Erf => call1("gc_scalar_erf_f64", f),
                Un::Erfc => call1("gc_scalar_erfc_f64", f),
                Un::Lgamma => call1("gc_scalar_lgamma_f64", f),
                _ => call1("gc_scalar_digamma_f64", f),
            }),
        };
    }
    int(match op {
        Un::Neg => wrap(e, -x.i),
        Un::Abs => wrap(e, x.i.abs()),
        Un::Sign => x.i.signum(),
        Un::Not if e == Elem::Bool => 1 - x.i,
        Un::Not => wrap(e, !x.i),
        _ => x.i,
    })
}

fn call1(name: &str, x: f64) -> f64 {
    let s = graphc_kernels::symbols().find(|s| s.name == name).unwrap();
    // SAFETY: a function of one f64 of the library.
    unsafe { std::mem::transmute::<*const u8, extern "C" fn(f64) -> f64>(s.address)(x) }
}

fn bin(op: Bin, e: Elem, x: Val, y: Val) -> Result<Val, ZeroDivisor> {
    if e.is_float() {
        let (a, b) = (x.f, y.f);
        let modulo = |a: f64, b: f64| {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        };
        return Ok(real(match op {
            Bin::Add => a + b,
            Bin::Sub => a - b,
            Bin::Mul => a * b,
            Bin::Div => a / b,
            Bin::FloorDiv => round(e, a / b).floor(),
            Bin::Rem => a % b,
            Bin::Mod => modulo(a, b),
            Bin::Pow => a.powf(b),
            Bin::Atan2 => a.atan2(b),
            Bin::Max if a.is_nan() || b.is_nan() => f64::NAN,
            Bin::Max => a.max(b),
            Bin::Min if a.is_nan() || b.is_nan() => f64::NAN,
            _ => a.min(b),
        }));
    }
    let (a, b) = (x.i, y.i);
    let inside = (0..bits(e) as i128).contains(&b);
    if b == 0 && matches!(op, Bin::Div | Bin::FloorDiv | Bin::Rem | Bin::Mod) {
        return Err(ZeroDivisor);
    }
    Ok(int(wrap(
        e,
        match op {
            Bin::Add if e == Elem::Bool => a | b,
            Bin::Add => a + b,
            Bin::Sub => a - b,
            Bin::Mul => a.wrapping_mul(b),
            Bin::Div => a / b,
            Bin::FloorDiv => a / b - (a % b != 0 && (a < 0) != (b < 0)) as i128,
            Bin::Rem => a % b,
            Bin::Mod => (a % b + b) % b,
            Bin::Pow => (0..b).fold(1, |p, _| wrap(e, i128::wrapping_mul(p, a))),
            Bin::Atan2 | Bin::Complex => 0,
            Bin::Max => a.max(b),
            Bin::Min => a.min(b),
            Bin::And => a & b,
            Bin::Or => a | b,
            Bin::Xor => a ^ b,
            Bin::Shl if inside => a << b,
            Bin::Shl => 0,
            Bin::Shr if inside => a >> b,
            Bin::Shr => {
                if a < 0 {
                    -1
                } else {
                    0
                }
            }
        },
    )))
}

pub fn cast(v: Val, from: Elem, to: Elem) -> Val {
    match (from.is_float(), to.is_float()) {
        (true, true) => real(round(to, if to.size() == 2 { v.f as f32 as f64 } else { v.f })),
        (false, true) if to.size() == 2 => real(round(to, v.i as f32 as f64)),
        (false, true) if to == Elem::F32 => real(v.i as f32 as f64),
        (false, true) => real(v.i as f64),
        (true, false) if to == Elem::Bool => int((v.f != 0.0) as i128),
        (true, false) => {
            let (lo, hi) = range(to);
            let t = v.f.trunc();
            int(if t >= lo as f64 && t < hi as f64 + 1.0 { t as i128 } else { lo })
        }
        (false, false) if to == Elem::Bool => int((v.i != 0) as i128),
        (false, false) => int(wrap(to, v.i)),
    }
}

/// The values of all entries of a tape.
fn point(t: &Tape, load: &dyn Fn(usize) -> Val, index: &[usize]) -> Result<Vec<Val>, ZeroDivisor> {
    let mut vals: Vec<Val> = Vec::new();
    for (entry, e) in t.entries() {
        let v = |x: &graphc_ir::tape::T| vals[x.index()];
        let r = match entry {
            Entry::Load(k) => load(*k as usize),
            Entry::Const(c) if e.is_float() => real(*c),
            Entry::Const(c) => int(wrap(*e, *c as i128)),
            Entry::ConstInt(c) if e.is_float() => real(*c as f64),
            Entry::ConstInt(c) => int(wrap(*e, *c as i128)),
            Entry::Index(a) if e.is_float() => real(index[*a as usize] as f64),
            Entry::Index(a) => int(wrap(*e, index[*a as usize] as i128)),
            Entry::Un(op, a) => un(*op, t.elem(*a), v(a)),
            Entry::Bin(op, a, b) => bin(*op, *e, v(a), v(b))?,
            Entry::Cmp(op, a, b) => {
                let (a, b, f) = (v(a), v(b), t.elem(*a).is_float());
                int(match op {
                    Cmp::Eq => {
                        if f {
                            a.f == b.f
                        } else {
                            a.i == b.i
                        }
                    }
                    Cmp::Ne => {
                        if f {
                            a.f != b.f
                        } else {
                            a.i != b.i
                        }
                    }
                    Cmp::Lt => {
                        if f {
                            a.f < b.f
                        } else {
                            a.i < b.i
                        }
                    }
                    Cmp::Le => {
                        if f {
                            a.f <= b.f
                        } else {
                            a.i <= b.i
                        }
                    }
                    Cmp::Gt => {
                        if f {
                            a.f > b.f
                        } else {
                            a.i > b.i
                        }
                    }
                    Cmp::Ge => {
                        if f {
                            a.f >= b.f
                        } else {
                            a.i >= b.i
                        }
                    }
                } as i128)
            }
            Entry::Select(c, a, b) => {
                if v(c).i != 0 {
                    v(a)
                } else {
                    v(b)
                }
            }
            Entry::Cast(a) => cast(v(a), t.elem(*a), *e),
            Entry::Fma(a, b, c) if e.is_float() => real(v(a).f * v(b).f + v(c).f),
            Entry::Fma(a, b, c) => int(wrap(*e, v(a).i * v(b).i + v(c).i)),
        };
        vals.push(if e.is_float() { real(round(*e, r.f)) } else { r });
    }
    Ok(vals)
}

/// What the outputs of `l`, whose sizes are constant, become.
pub fn run(l: &Loop, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<(), ZeroDivisor> {
    let extents: Vec<usize> = l.extents.iter().map(|d| d.as_const().unwrap() as usize).collect();
    let parallel = extents.len() - l.reduced;
    let mut outer = vec![0; parallel];
    if extents[..parallel].contains(&0) {
        return Ok(());
    }
    loop {
        let mut sums: Vec<Option<Val>> = vec![None; l.outputs.len()];
        let mut index = outer.clone();
        index.resize(extents.len(), 0);
        while !extents[parallel..].contains(&0) {
            let at = |a: &graphc_passes::plan::Access| {
                let strides = a.strides.iter().zip(&index).map(|(s, i)| s.as_const().unwrap() * *i as i64);
                (a.offset.as_const().unwrap() + strides.sum::<i64>()) as usize
            };
            let vals = point(&l.tape, &|k| read(l.inputs[k].elem, &inputs[k], at(&l.inputs[k])), &index)?;
            for ((sum, t), a) in sums.iter_mut().zip(&l.tape.outputs).zip(&l.outputs) {
                let v = vals[t.index()];
                *sum = Some(match sum {
                    None => v,
                    Some(s) => merge(l.combine, a.elem, *s, v),
                });
            }
            if !next(&mut index[parallel..], &extents[parallel..]) {
                break;
            }
        }
        for ((sum, a), out) in sums.iter().zip(&l.outputs).zip(outputs.iter_mut()) {
            let strides = a.strides.iter().zip(&outer).map(|(s, i)| s.as_const().unwrap() * *i as i64);
            let at = (a.offset.as_const().unwrap() + strides.sum::<i64>()) as usize;
            let bytes = write(a.elem, sum.unwrap_or_else(|| empty(l.combine, a.elem)));
            out[at * a.elem.size()..][..a.elem.size()].copy_from_slice(&bytes);
        }
        if !next(&mut outer, &extents[..parallel]) {
            return Ok(());
        }
    }
}

fn merge(how: Combine, e: Elem, a: Val, b: Val) -> Val {
    let op = match how {
        Combine::Sum => Bin::Add,
        Combine::Prod => Bin::Mul,
        Combine::Max => Bin::Max,
        Combine::Min => Bin::Min,
        Combine::Any => Bin::Or,
        Combine::All => Bin::And,
    };
    bin(op, e, a, b).unwrap()
}

fn empty(how: Combine, e: Elem) -> Val {
    match how {
        Combine::Sum | Combine::Any => Val { f: 0.0, i: 0 },
        Combine::Prod | Combine::All => Val { f: 1.0, i: 1 },
        Combine::Max => Val { f: f64::NEG_INFINITY, i: range(e).0 },
        Combine::Min => Val { f: f64::INFINITY, i: range(e).1 },
    }
}

/// The next index in row-major order; false after the last.
fn next(index: &mut [usize], extents: &[usize]) -> bool {
    for (i, n) in index.iter_mut().zip(extents).rev() {
        *i += 1;
        if *i < *n {
            return true;
        }
        *i = 0;
    }
    false
}

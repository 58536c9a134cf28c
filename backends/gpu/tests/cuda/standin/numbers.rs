//! Arithmetic of PTX on the bits of registers.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Bits,
    Signed,
    Unsigned,
    Float,
    Pred,
}

/// A type by its suffix.
#[derive(Clone, Copy, Debug)]
pub struct Ty {
    pub kind: Kind,
    pub bits: u32,
}

pub fn ty(text: &str) -> Option<Ty> {
    if text == "pred" {
        return Some(Ty { kind: Kind::Pred, bits: 1 });
    }
    let (kind, bits) = text.split_at_checked(1)?;
    let kind = match kind {
        "b" => Kind::Bits,
        "s" => Kind::Signed,
        "u" => Kind::Unsigned,
        "f" => Kind::Float,
        _ => return None,
    };
    Some(Ty { kind, bits: bits.parse().ok().filter(|b| [8, 16, 32, 64].contains(b))? })
}

pub fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

pub fn signed(v: u64, bits: u32) -> i64 {
    let by = 64 - bits;
    (v << by) as i64 >> by
}

pub fn f32_of(v: u64) -> f32 {
    f32::from_bits(v as u32)
}

pub fn f64_of(v: u64) -> f64 {
    f64::from_bits(v)
}

pub fn compared(how: &str, ty: Ty, a: u64, b: u64) -> Result<bool, String> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let (a, b) = (a & mask(ty.bits), b & mask(ty.bits));
    let order = match (ty.kind, ty.bits) {
        (Kind::Float, 64) => f64_of(a).partial_cmp(&f64_of(b)),
        (Kind::Float, _) => f32_of(a).partial_cmp(&f32_of(b)),
        (Kind::Signed, bits) => Some(signed(a, bits).cmp(&signed(b, bits))),
        _ => Some(a.cmp(&b)),
    };
    // With `u` a comparison holds for what has no order.
    let (how, unordered) = match how {
        "equ" | "neu" | "ltu" | "leu" | "gtu" | "geu" => (&how[..2], true),
        how => (how, false),
    };
    Ok(match (how, order) {
        ("nan", o) => o.is_none(),
        ("num", o) => o.is_some(),
        (_, None) => unordered,
        ("eq", o) => o == Some(Equal),
        ("ne", o) => o != Some(Equal),
        ("lt", o) => o == Some(Less),
        ("le", o) => o != Some(Greater),
        ("gt", o) => o == Some(Greater),
        ("ge", o) => o != Some(Less),
        _ => return Err(format!("comparison {how}")),
    })
}

pub fn integer(name: &[String], ty: Ty, a: u64, b: u64, c: u64) -> Result<u64, String> {
    let has = |w: &str| name.iter().any(|n| n == w);
    let (bits, m) = (ty.bits, mask(ty.bits));
    let (a, b, c) = (a & m, b & m, c & m);
    let (sa, sb) = (signed(a, bits), signed(b, bits));
    let by_sign = ty.kind == Kind::Signed;
    let wide = |x: u64| if by_sign { i128::from(signed(x, bits)) } else { i128::from(x) };
    Ok(match name[0].as_str() {
        "add" => a.wrapping_add(b) & m,
        "sub" => a.wrapping_sub(b) & m,
        "mul" if has("wide") => (wide(a) * wide(b)) as u64 & mask(2 * bits),
        "mul" if has("hi") => (wide(a) * wide(b) >> bits) as u64 & m,
        "mul" if has("lo") => a.wrapping_mul(b) & m,
        "mad" if has("lo") => a.wrapping_mul(b).wrapping_add(c) & m,
        "div" | "rem" if b == 0 => return Err("a division by zero".into()),
        "div" if by_sign => sa.wrapping_div(sb) as u64 & m,
        "div" => a / b,
        "rem" if by_sign => sa.wrapping_rem(sb) as u64 & m,
        "rem" => a % b,
        "min" if by_sign => sa.min(sb) as u64 & m,
        "max" if by_sign => sa.max(sb) as u64 & m,
        "min" => a.min(b),
        "max" => a.max(b),
        "neg" => a.wrapping_neg() & m,
        "abs" => sa.wrapping_abs() as u64 & m,
        "and" => a & b,
        "or" => a | b,
        "xor" => a ^ b,
        "not" => !a & m,
        // Too far shifts all out.
        "shl" => {
            if b >= u64::from(bits) {
                0
            } else {
                a << b & m
            }
        }
        "shr" if by_sign => (sa >> b.min(u64::from(bits - 1))) as u64 & m,
        "shr" => {
            if b >= u64::from(bits) {
                0
            } else {
                a >> b
            }
        }
        _ => return Err("an instruction that this machine does not have".into()),
    })
}

pub fn floating(name: &[String], bits: u32, a: u64, b: u64, c: u64) -> Result<u64, String> {
    macro_rules! by {
        ($of:expr, $to:expr) => {{
            let (x, y, z) = ($of(a), $of(b), $of(c));
            $to(match name[0].as_str() {
                "add" => x + y,
                "sub" => x - y,
                "mul" => x * y,
                "fma" => x.mul_add(y, z),
                "div" => x / y,
                "rcp" => 1.0 / x,
                "sqrt" => x.sqrt(),
                "neg" => -x,
                "abs" => x.abs(),
                "min" => x.min(y),
                "max" => x.max(y),
                // The sign of the first, the magnitude of the second.
                "copysign" => y.copysign(x),
                _ => return Err("an instruction that this machine does not have".into()),
            })
        }};
    }
    Ok(if bits == 64 { by!(f64_of, |v: f64| v.to_bits()) } else { by!(f32_of, |v: f32| u64::from(v.to_bits())) })
}

pub fn permuted(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = (a & mask(32)) | b << 32;
    (0..4).fold(0, |v, k| {
        let s = selector >> (4 * k) & 15;
        let byte = bytes >> (8 * (s & 7)) & 255;
        let byte = if s & 8 == 0 {
            byte
        } else if byte & 128 == 0 {
            0
        } else {
            255
        };
        v | byte << (8 * k)
    })
}

/// bf16 by the nearest, halves to even.
pub fn bf16(v: u64) -> u64 {
    let x = f32_of(v);
    if x.is_nan() { 0x7fff } else { (u64::from(x.to_bits()) + 0x7fff + (v >> 16 & 1)) >> 16 & 0xffff }
}

pub fn converted(name: &[String], a: u64, b: u64) -> Result<u64, String> {
    let words: Vec<&str> = name[1..].iter().map(String::as_str).collect();
    match words[..] {
        ["rn", "bf16x2", "f32"] => return Ok(bf16(a & mask(32)) << 16 | bf16(b & mask(32))),
        // Halves away from zero.
        ["rna", "tf32", "f32"] => {
            return Ok(if f32_of(a).is_nan() { a & mask(32) } else { ((a & mask(32)) + 0x1000) & 0xffff_e000 });
        }
        _ => {}
    }
    let [.., to, from] = words[..] else { return Err("a conversion of one type".into()) };
    let (Some(to), Some(from)) = (ty(to), ty(from)) else { return Err("a conversion of other types".into()) };
    let rounded = |x: f64| match words[0] {
        "rni" => x.round_ties_even(),
        "rzi" => x.trunc(),
        "rmi" => x.floor(),
        "rpi" => x.ceil(),
        _ => x,
    };
    let number = if from.bits == 64 { f64_of(a) } else { f64::from(f32_of(a)) };
    Ok(match (to.kind == Kind::Float, from.kind == Kind::Float) {
        (false, false) => {
            let v = if from.kind == Kind::Signed { signed(a, from.bits) as u64 } else { a & mask(from.bits) };
            // Registers of narrow types are wider than those.
            if to.kind == Kind::Signed { signed(v, to.bits) as u64 } else { v & mask(to.bits) }
        }
        // Numbers that do not fit saturate, as Rust's do.
        (false, true) => match (to.kind, to.bits) {
            (Kind::Signed, 64) => rounded(number) as i64 as u64,
            (Kind::Signed, 32) => rounded(number) as i32 as u32 as u64,
            (Kind::Unsigned, 64) => rounded(number) as u64,
            (Kind::Unsigned, 32) => u64::from(rounded(number) as u32),
            _ => return Err("a conversion to a narrow integer".into()),
        },
        (true, false) => {
            let v = if from.kind == Kind::Signed { signed(a, from.bits) } else { (a & mask(from.bits)) as i64 };
            let large = from.kind == Kind::Unsigned && from.bits == 64;
            match (to.bits, large) {
                (64, false) => (v as f64).to_bits(),
                (64, true) => (a as f64).to_bits(),
                (_, false) => u64::from((v as f32).to_bits()),
                (_, true) => u64::from((a as f32).to_bits()),
            }
        }
        (true, true) => {
            let x = rounded(number);
            if to.bits == 64 { x.to_bits() } else { u64::from((x as f32).to_bits()) }
        }
    })
}

//! Names, strings and constant tensors as text.

use crate::elem::Elem;
use crate::tensor::{Data, Tensor};
use half::{bf16, f16};
use std::fmt::Write;

/// `name` after its sigil: bare if it can be, else quoted.
pub fn name(name: &str) -> String {
    if !name.is_empty() && name.chars().all(super::lexer::is_name_char) { name.to_owned() } else { quoted(name) }
}

/// Text in quotes; characters beyond ASCII stay as they are.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 32 || c as u32 == 127 => _ = write!(out, "\\x{:02x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Bytes in quotes, everything beyond printable ASCII escaped.
fn quoted_bytes(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &b in bytes {
        match b {
            b'"' | b'\\' => out.extend(['\\', b as char]),
            32..127 => out.push(b as char),
            b => _ = write!(out, "\\x{b:02x}"),
        }
    }
    out.push('"');
    out
}

/// A hash of element type, shape and contents, stable across runs and machines.
pub fn hash(t: &Tensor) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |v: u64| h = (h ^ v).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    t.elem().name().bytes().for_each(|b| add(b as u64));
    t.shape().iter().for_each(|&d| add(d as u64));
    let mut bytes = |bytes: &[u8]| {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|w| add(u64::from_le_bytes(*w)));
        rest.iter().for_each(|&b| add(b as u64));
    };
    match t.data() {
        Data::Bytes(b) => bytes(b.bytes()),
        Data::Strings(s) => s.iter().for_each(|s| {
            bytes(&(s.len() as u64).to_le_bytes());
            bytes(s);
        }),
    }
    h
}

/// Each element as text.
fn elements(t: &Tensor) -> Vec<String> {
    let bits = |b: &[u8]| b.iter().rev().fold(String::from("0x"), |s, b| s + &format!("{b:02x}"));
    let size = t.elem().size().max(1);
    let chunks = t.bytes().chunks_exact(size);
    let real = |v: f64, shown: String, canonical: bool, b: &[u8]| match () {
        () if v.is_nan() && canonical => "nan".to_owned(),
        () if v.is_nan() => bits(b),
        () => shown,
    };
    macro_rules! floats {
        ($t:ty, $v:ident => $shown:expr) => {
            chunks
                .map(|b| {
                    let $v = <$t>::from_le_bytes(b.try_into().unwrap_or_default());
                    real(f64::from($v), $shown, $v.to_bits() == <$t>::NAN.to_bits(), b)
                })
                .collect()
        };
    }
    macro_rules! ints {
        ($t:ty) => {
            chunks.map(|b| <$t>::from_le_bytes(b.try_into().unwrap_or_default()).to_string()).collect()
        };
    }
    match t.elem() {
        Elem::Bool => t.bytes().iter().map(|&b| if b > 1 { format!("0x{b:02x}") } else { (b == 1).to_string() }).collect(),
        Elem::F16 => floats!(f16, v => format!("{:?}", v.to_f32())),
        Elem::BF16 => floats!(bf16, v => format!("{:?}", v.to_f32())),
        Elem::F32 => floats!(f32, v => format!("{v:?}")),
        Elem::F64 => floats!(f64, v => format!("{v:?}")),
        Elem::I8 | Elem::I4 | Elem::QI8 => ints!(i8),
        Elem::I16 | Elem::QI16 => ints!(i16),
        Elem::I32 | Elem::QI32 => ints!(i32),
        Elem::I64 => ints!(i64),
        Elem::U8 | Elem::U4 | Elem::QU8 => ints!(u8),
        Elem::U16 | Elem::QU16 => ints!(u16),
        Elem::U32 => ints!(u32),
        Elem::U64 => ints!(u64),
        Elem::Str => t.strings().unwrap_or_default().iter().map(|s| quoted_bytes(s)).collect(),
        // The 8-bit floats and the complex numbers by their bits.
        _ => chunks.map(bits).collect(),
    }
}

/// The part of a literal after its type: the element of a scalar, a list, or `splat` and the element that fills it.
pub fn inline(t: &Tensor) -> String {
    if t.rank() == 0 {
        return elements(t).concat();
    }
    match t.splat_value().filter(|_| t.len() > 8) {
        Some(v) => format!("splat {}", elements(&v).concat()),
        None => format!("[{}]", elements(t).join(", ")),
    }
}

/// The part of a literal after its type, as the bytes in memory order; a list for strings.
pub fn hex(t: &Tensor) -> String {
    if t.strings().is_some() {
        return inline(t);
    }
    let mut out = String::with_capacity(t.bytes().len() * 2 + 6);
    out.push_str("hex \"");
    for &b in t.bytes() {
        let digit = |d: u8| char::from_digit(d as u32, 16).unwrap_or('0');
        out.extend([digit(b >> 4), digit(b & 15)]);
    }
    out.push('"');
    out
}

/// One element parsed from `text` (a number with its sign, or a word), as bytes.
pub fn element(elem: Elem, text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("0x").filter(|d| d.len() == elem.size() * 2 && d.is_ascii()) {
        let byte = |i: usize| u8::from_str_radix(&digits[i * 2..i * 2 + 2], 16).ok();
        return (0..elem.size()).rev().map(byte).collect();
    }
    macro_rules! parsed {
        ($t:ty) => {
            text.parse::<$t>().ok().map(|v| v.to_le_bytes().to_vec())
        };
    }
    match elem {
        Elem::Bool => text.parse::<bool>().ok().map(|b| vec![b as u8]),
        Elem::F16 if text == "nan" => Some(f16::NAN.to_le_bytes().to_vec()),
        Elem::F16 => text.parse().ok().map(f16::from_f32).map(|v| v.to_le_bytes().to_vec()),
        Elem::BF16 if text == "nan" => Some(bf16::NAN.to_le_bytes().to_vec()),
        Elem::BF16 => text.parse().ok().map(bf16::from_f32).map(|v| v.to_le_bytes().to_vec()),
        Elem::F32 if text == "nan" => Some(f32::NAN.to_le_bytes().to_vec()),
        Elem::F64 if text == "nan" => Some(f64::NAN.to_le_bytes().to_vec()),
        Elem::F32 => parsed!(f32),
        Elem::F64 => parsed!(f64),
        Elem::I8 | Elem::I4 | Elem::QI8 => parsed!(i8),
        Elem::I16 | Elem::QI16 => parsed!(i16),
        Elem::I32 | Elem::QI32 => parsed!(i32),
        Elem::I64 => parsed!(i64),
        Elem::U8 | Elem::U4 | Elem::QU8 => parsed!(u8),
        Elem::U16 | Elem::QU16 => parsed!(u16),
        Elem::U32 => parsed!(u32),
        Elem::U64 => parsed!(u64),
        _ => None,
    }
}

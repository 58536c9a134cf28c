//! The 8-bit floats, which have no Rust type.

use crate::elem::Elem;

/// Mantissa bits, exponent bias, greatest finite value.
fn format(elem: Elem) -> (i32, i32, f64) {
    if elem == Elem::F8E4M3FN { (3, 7, 448.0) } else { (2, 15, 57344.0) }
}

/// The number that a byte stands for. E4M3FN has NaN but no infinities.
pub fn decode(elem: Elem, b: u8) -> f64 {
    let (mantissa_bits, bias, _) = format(elem);
    let magnitude = b & 0x7f;
    let (e, m) = ((magnitude >> mantissa_bits) as i32, (magnitude & ((1 << mantissa_bits) - 1)) as f64);
    let unit = |e: i32| 2f64.powi(e - bias - mantissa_bits);
    let v = match elem {
        Elem::F8E4M3FN if magnitude == 0x7f => f64::NAN,
        Elem::F8E5M2 if magnitude == 0x7c => f64::INFINITY,
        Elem::F8E5M2 if magnitude > 0x7c => f64::NAN,
        _ if e == 0 => m * unit(1),
        _ => (m + (1 << mantissa_bits) as f64) * unit(e),
    };
    if b & 0x80 != 0 { -v } else { v }
}

/// The nearest byte, ties to even. Overflow gives NaN in E4M3FN and an infinity in E5M2.
pub fn encode(elem: Elem, x: f64) -> u8 {
    let (mantissa_bits, bias, greatest) = format(elem);
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    if x.is_nan() {
        return sign | if elem == Elem::F8E4M3FN { 0x7f } else { 0x7e };
    }
    let a = x.abs();
    let overflow = sign | if elem == Elem::F8E4M3FN { 0x7f } else { 0x7c };
    if a.is_infinite() {
        return overflow;
    }
    // Exponent field of the binade that `a` is in; 1 also serves the subnormal numbers.
    let binade = (((a.to_bits() >> 52) as i32 - 1023) + bias).max(1);
    let steps = (a / 2f64.powi(binade - bias - mantissa_bits)).round_ties_even();
    if steps * 2f64.powi(binade - bias - mantissa_bits) > greatest {
        return overflow;
    }
    // A carry into the next binade falls out of the addition.
    sign | (((binade - 1) << mantissa_bits) + steps as i32) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        for elem in [Elem::F8E4M3FN, Elem::F8E5M2] {
            for b in 0..=255u8 {
                let v = decode(elem, b);
                assert!(v.is_nan() || encode(elem, v) == b, "{elem} {b:#x} {v}");
            }
        }
        assert_eq!(encode(Elem::F8E4M3FN, 460.0), 0x7e);
        assert_eq!(encode(Elem::F8E4M3FN, 465.0), 0x7f);
        assert_eq!(decode(Elem::F8E5M2, encode(Elem::F8E5M2, 1e9)), f64::INFINITY);
    }
}

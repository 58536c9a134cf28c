//! Comparison of a result with its reference.

use graphc_ir::Tensor;
use serde::Serialize;

/// How far a tensor is from its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Greatest absolute difference of two elements; infinite where one is NaN or infinite and the other is not the same.
    pub max_abs: f64,
    /// `max_abs` over `scale`.
    pub relative: f64,
    /// Greatest absolute finite value of the reference.
    pub scale: f64,
    /// Why the two cannot be compared element by element, if they cannot.
    pub mismatch: Option<String>,
}

impl Difference {
    /// True if no element is further away than `atol + rtol * scale`.
    pub fn within(&self, rtol: f64, atol: f64) -> bool {
        self.mismatch.is_none() && self.max_abs <= atol + rtol * self.scale
    }
}

/// Compares element by element. Element types must be equal; integers, bools and strings differ or do not.
pub fn compare(got: &Tensor, want: &Tensor) -> Difference {
    let mismatch = |why: String| Difference { max_abs: f64::INFINITY, relative: f64::INFINITY, scale: 0.0, mismatch: Some(why) };
    if got.elem() != want.elem() || got.shape() != want.shape() {
        return mismatch(format!("{} where the reference has {}", got.ty(), want.ty()));
    }
    let (Some(a), Some(b)) = (parts(got), parts(want)) else {
        return match got == want {
            true => Difference { max_abs: 0.0, relative: 0.0, scale: 0.0, mismatch: None },
            false => mismatch("the elements differ".into()),
        };
    };
    let (mut max_abs, mut scale) = (0f64, 0f64);
    for (&x, &y) in a.iter().zip(&b) {
        let same = x == y || x.is_nan() && y.is_nan();
        let d = (x - y).abs();
        max_abs = max_abs.max(if same {
            0.0
        } else if d.is_nan() {
            f64::INFINITY
        } else {
            d
        });
        scale = scale.max(if y.is_finite() { y.abs() } else { 0.0 });
    }
    let relative = if max_abs == 0.0 { 0.0 } else { max_abs / scale };
    Difference { max_abs, relative, scale, mismatch: None }
}

/// The elements as real numbers, complex ones as two each; `None` for strings.
pub fn parts(t: &Tensor) -> Option<Vec<f64>> {
    use graphc_ir::Elem;
    use half::{bf16, f16};
    let bytes = t.bytes();
    Some(match t.elem() {
        Elem::C64 => bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]) as f64).collect(),
        Elem::C128 => bytes.chunks_exact(8).filter_map(|c| Some(f64::from_le_bytes(c.try_into().ok()?))).collect(),
        Elem::F16 => t.as_slice::<f16>()?.iter().map(|v| v.to_f64()).collect(),
        Elem::BF16 => t.as_slice::<bf16>()?.iter().map(|v| v.to_f64()).collect(),
        Elem::F32 | Elem::F64 => t.to_reals()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_matches_nan_only() {
        let t = |v: &[f32]| Tensor::from_slice(&[v.len()], v).unwrap();
        assert!(compare(&t(&[1.0, f32::NAN]), &t(&[1.0, f32::NAN])).within(0.0, 0.0));
        assert!(!compare(&t(&[1.0, 2.0]), &t(&[1.0, f32::NAN])).within(1.0, 1.0));
        assert!(!compare(&t(&[f32::INFINITY]), &t(&[1.0])).within(1.0, 1.0));
        assert!(compare(&t(&[1.0, 100.0]), &t(&[1.001, 100.0])).within(1e-4, 0.0));
        assert!(!compare(&t(&[1.0]), &t(&[1.0, 1.0])).within(1.0, 1.0));
    }
}

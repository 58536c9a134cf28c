//! Resizing images as TensorFlow's ResizeBilinear and ResizeNearestNeighbor do it, positions in `f32` like there.

use super::Outputs;
use super::array::{Array, Data, rounded};
use super::error::EvalError;
use super::tape;
use crate::attr::Attrs;
use crate::elem::Elem;
use crate::tensor::Tensor;
use ndarray::{ArrayD, IxDyn};

#[derive(Clone, Copy)]
struct Grid {
    align_corners: bool,
    half_pixel: bool,
}

impl Grid {
    fn scale(self, from: usize, to: usize) -> f32 {
        if self.align_corners && to > 1 { (from as f32 - 1.0) / (to as f32 - 1.0) } else { from as f32 / to as f32 }
    }

    fn nearest(self, from: usize, to: usize) -> Vec<usize> {
        let scale = self.scale(from, to);
        (0..to)
            .map(|i| {
                let p = if self.half_pixel { (i as f32 + 0.5) * scale } else { i as f32 * scale };
                let p = if self.align_corners { p.round() } else { p.floor() };
                (p as usize).min(from.saturating_sub(1))
            })
            .collect()
    }

    /// The two neighbours and the weight of the upper one.
    fn linear(self, from: usize, to: usize) -> Vec<(usize, usize, f32)> {
        let scale = self.scale(from, to);
        (0..to)
            .map(|i| {
                let p = if self.half_pixel { (i as f32 + 0.5) * scale - 0.5 } else { i as f32 * scale };
                let low = (p.floor().max(0.0) as usize).min(from.saturating_sub(1));
                (low, (p.ceil().max(0.0) as usize).min(from.saturating_sub(1)), p - p.floor())
            })
            .collect()
    }
}

pub fn resize(x: &[Tensor], a: &Attrs, out: Outputs) -> Result<Tensor, EvalError> {
    let [n, h, w, c] = *x[0].shape() else { return Err(EvalError::shape("images have four axes")) };
    let [_, oh, ow, _] = *out[0].as_slice() else { return Err(EvalError::shape("images have four axes")) };
    if (h == 0 || w == 0) && n * oh * ow * c > 0 {
        return Err(EvalError::shape("cannot resize an empty image"));
    }
    let grid = Grid { align_corners: a.flag("align_corners"), half_pixel: a.flag("half_pixel") };
    if a.str("kind") == "nearest" {
        let (rows, columns) = (grid.nearest(h, oh), grid.nearest(w, ow));
        return super::movement::select_pixels(&x[0], [n, h, w, c], &rows, &columns);
    }
    let Data::Real(image) = tape::cast(&Array::of(&x[0])?, Elem::F32).data else {
        return Err(EvalError::unsupported(format!("no interpolation of {}", x[0].elem())));
    };
    let image: Vec<f32> = image.iter().map(|&v| v as f32).collect();
    let mut y = Vec::with_capacity(n * oh * ow * c);
    let (rows, columns) = (grid.linear(h, oh), grid.linear(w, ow));
    for b in 0..n {
        for &(top, bottom, dy) in &rows {
            for &(left, right, dx) in &columns {
                for k in 0..c {
                    let at = |r: usize, q: usize| image[((b * h + r) * w + q) * c + k];
                    let upper = at(top, left) + (at(top, right) - at(top, left)) * dx;
                    let lower = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * dx;
                    y.push((upper + (lower - upper) * dy) as f64);
                }
            }
        }
    }
    rounded(Elem::F32, ArrayD::from_shape_vec(IxDyn(&out[0]), y).map_err(|e| EvalError::shape(e.to_string()))?)
}

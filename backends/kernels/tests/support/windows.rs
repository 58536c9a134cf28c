//! Convolutions by loops in f64, and the arguments that say the same to kernels.

use super::{Rng, TestEpilogue};
use core::mem::zeroed;
use graphc_abi::args::matrix::{Conv2dArgs, DepthwiseArgs};
use graphc_kernels::pack::PANEL_WIDTHS;

/// A convolution; heights come before widths.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub batch: usize,
    pub input: [usize; 2],
    pub in_c: usize,
    pub out_c: usize,
    pub k: [usize; 2],
    pub stride: [usize; 2],
    pub dil: [usize; 2],
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
    pub groups: usize,
    pub nr: usize,
    pub threads: usize,
}

impl Case {
    /// A case of few channels, as first layers have.
    pub fn of_few_channels(r: &mut Rng) -> Case {
        Case {
            batch: r.pick(&[1, 1, 2]),
            input: [r.pick(&[1, 3, 10, 17]), r.pick(&[4, 9, 14, 40])],
            in_c: r.pick(&[1, 2, 3, 5, 8, 24]),
            out_c: r.pick(&[1, 8, 16, 33, 64]),
            k: [r.pick(&[1, 2, 3, 7]), r.pick(&[2, 3, 7, 11])],
            stride: [r.pick(&[1, 2, 3]), r.pick(&[1, 2, 3])],
            dil: [r.pick(&[1, 1, 2]), 1],
            pad: [r.pick(&[0, 1, 3]), r.pick(&[0, 1, 2]), r.pick(&[0, 1, 4]), r.pick(&[0, 2, 5])],
            groups: 1,
            nr: r.pick(&PANEL_WIDTHS),
            threads: r.pick(&[1, 1, 3]),
        }
    }

    /// Extents of the output, unless the kernel does not fit.
    pub fn output(&self) -> Option<[usize; 2]> {
        let axis = |i: usize| {
            let span = (self.k[i] - 1) * self.dil[i] + 1;
            (self.input[i] + self.pad[i] + self.pad[i + 2]).checked_sub(span).map(|s| s / self.stride[i] + 1)
        };
        Some([axis(0)?, axis(1)?])
    }

    /// Pixels of the outputs.
    pub fn rows(&self) -> usize {
        self.output().map_or(0, |[h, w]| self.batch * h * w)
    }

    /// Calls `f(tap, pixel)` for the taps of output pixel `row`; in the padding `pixel` is none.
    pub fn taps(&self, row: usize, mut f: impl FnMut(usize, Option<usize>)) {
        let Some([oh, ow]) = self.output() else { return };
        let (b, oy, ox) = (row / oh / ow, row / ow % oh, row % ow);
        for ky in 0..self.k[0] {
            for kx in 0..self.k[1] {
                let y = (oy * self.stride[0] + ky * self.dil[0]).wrapping_sub(self.pad[0]);
                let x = (ox * self.stride[1] + kx * self.dil[1]).wrapping_sub(self.pad[1]);
                let inside = y < self.input[0] && x < self.input[1];
                f(ky * self.k[1] + kx, inside.then(|| (b * self.input[0] + y) * self.input[1] + x));
            }
        }
    }

    /// The sums of all pixels and columns. `x` has a number of the image, of which pixels are `ldx` apart, `w` one of the filter
    /// `[k_h, k_w, in_c / groups, out_c]`; `outside` is what padding holds.
    pub fn sums(&self, ldx: usize, x: impl Fn(usize) -> f64, w: impl Fn(usize) -> f64, outside: f64) -> Vec<f64> {
        let (cg, ng) = (self.in_c / self.groups, self.out_c / self.groups);
        let mut sums = vec![0f64; self.rows() * self.out_c];
        for (row, sums) in sums.chunks_mut(self.out_c).enumerate() {
            self.taps(row, |tap, pixel| {
                for (o, sum) in sums.iter_mut().enumerate() {
                    for c in 0..cg {
                        let a = pixel.map_or(outside, |p| x(p * ldx + o / ng * cg + c));
                        *sum += a * w((tap * cg + c) * self.out_c + o);
                    }
                }
            });
        }
        sums
    }

    /// The sums of a depthwise convolution of `in_c` channels with filters `[k_h, k_w, out_c]`.
    pub fn depthwise_sums(&self, ldx: usize, x: impl Fn(usize) -> f64, w: impl Fn(usize) -> f64) -> Vec<f64> {
        let multiplier = self.out_c / self.in_c;
        let mut sums = vec![0f64; self.rows() * self.out_c];
        for (row, sums) in sums.chunks_mut(self.out_c).enumerate() {
            self.taps(row, |tap, pixel| {
                for (o, sum) in sums.iter_mut().enumerate() {
                    *sum += pixel.map_or(0.0, |p| x(p * ldx + o / multiplier)) * w(tap * self.out_c + o);
                }
            });
        }
        sums
    }

    /// Extents and epilogue; operands, strides and the rest are zero.
    pub fn args(&self, e: &TestEpilogue) -> Conv2dArgs {
        let [oh, ow] = self.output().unwrap_or_default();
        let int = |v: usize| v as i64;
        Conv2dArgs {
            batch: int(self.batch),
            in_h: int(self.input[0]),
            in_w: int(self.input[1]),
            in_c: int(self.in_c),
            out_h: int(oh),
            out_w: int(ow),
            out_c: int(self.out_c),
            k_h: int(self.k[0]),
            k_w: int(self.k[1]),
            stride_h: int(self.stride[0]),
            stride_w: int(self.stride[1]),
            dil_h: int(self.dil[0]),
            dil_w: int(self.dil[1]),
            pad_top: int(self.pad[0]),
            pad_left: int(self.pad[1]),
            groups: int(self.groups),
            nr: int(self.nr),
            bias: e.bias(),
            residual: e.residual(),
            ldr: int(e.ldr),
            residual_after: e.after,
            act: e.act,
            act_lo: e.lo,
            act_hi: e.hi,
            // SAFETY: all words zero is an argument list of absent operands.
            ..unsafe { zeroed() }
        }
    }

    /// As [`Case::args`], of a depthwise convolution.
    pub fn depthwise_args(&self, e: &TestEpilogue) -> DepthwiseArgs {
        let g = self.args(e);
        DepthwiseArgs {
            batch: g.batch,
            in_h: g.in_h,
            in_w: g.in_w,
            in_c: g.in_c,
            out_h: g.out_h,
            out_w: g.out_w,
            multiplier: (self.out_c / self.in_c) as i64,
            k_h: g.k_h,
            k_w: g.k_w,
            stride_h: g.stride_h,
            stride_w: g.stride_w,
            dil_h: g.dil_h,
            dil_w: g.dil_w,
            pad_top: g.pad_top,
            pad_left: g.pad_left,
            bias: g.bias,
            residual: g.residual,
            ldr: g.ldr,
            residual_after: g.residual_after,
            act: g.act,
            act_lo: g.act_lo,
            act_hi: g.act_hi,
            // SAFETY: all words zero is an argument list of absent operands.
            ..unsafe { zeroed() }
        }
    }

    /// A depthwise convolution at random.
    pub fn depthwise(r: &mut Rng, k: [usize; 2], stride: [usize; 2], dil: [usize; 2], c: usize, multiplier: usize) -> Case {
        Case {
            batch: r.pick(&[1, 1, 3]),
            input: [r.pick(&[1, 5, 8, 13]), r.pick(&[1, 4, 9, 20, 40])],
            in_c: c,
            out_c: c * multiplier,
            k,
            stride,
            dil,
            pad: [r.below(0, 3), r.below(0, 3), r.below(0, 3), r.below(0, 3)],
            groups: 1,
            nr: 16,
            threads: r.pick(&[1, 3]),
        }
    }
}

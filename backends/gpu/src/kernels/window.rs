//! Windows over images: depthwise convolutions, pooling, resizing. One item for each element of the result.

use super::copy::cells;
use super::epilogue::Epilogue;
use super::{indices, walk};
use crate::build::{Build, V};
use crate::design::{Args, Design, Spec};
use crate::target::Cell;
use graphc_abi::args::rows::pool;
use graphc_cpu::tape::code::{Cond, Ty};
use graphc_ir::Dim;

/// The names of window sizes, and those that are 1 where they are absent.
const SIZES: [&str; 6] = ["k_h", "k_w", "stride_h", "stride_w", "pad_top", "pad_left"];

fn sizes(a: &Args, d: Design) -> Design {
    let d = SIZES.into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    ["dil_h", "dil_w"].into_iter().fold(d, |d, name| d.int(name, a.dim_or(name, &Dim::ONE)))
}

/// Emits what one element of the window adds.
type Tap<'s, 'c> = &'s mut dyn FnMut(&mut Build<'c>, [V<'c>; 2], [V<'c>; 2], V<'c>, &[V<'c>]) -> Vec<V<'c>>;

/// Adds up over the window of output pixel `(y, x)`: `tap` is given the row and column of the window and of the image, and whether the
/// latter lies in the image.
fn over_window<'c>(
    b: &mut Build<'c>,
    s: &Spec,
    [y, x]: [V<'c>; 2],
    [h, w]: [V<'c>; 2],
    init: &[V<'c>],
    tap: Tap<'_, 'c>,
) -> Vec<V<'c>> {
    let [k_h, k_w, stride_h, stride_w, pad_top, pad_left] = SIZES.map(|n| s.int(b, n));
    let (dil_h, dil_w) = (s.int(b, "dil_h"), s.int(b, "dil_w"));
    let (top, left) = (b.mul(y, stride_h), b.mul(x, stride_w));
    let (top, left) = (b.sub(top, pad_top), b.sub(left, pad_left));
    let (zero, one) = (b.i32(0), b.i32(1));
    b.repeat(zero, k_h, one, init, &mut |b, i, sums| {
        let down = b.mul(i, dil_h);
        let r = b.add(top, down);
        let in_rows = b.inside(r, h);
        b.repeat(zero, k_w, one, sums, &mut |b, j, sums| {
            let across = b.mul(j, dil_w);
            let q = b.add(left, across);
            let in_columns = b.inside(q, w);
            let there = b.and(in_rows, in_columns);
            tap(b, [i, j], [r, q], there, sums)
        })
    })
}

/// The element of an image, or `other` where it is not there.
fn pixel<'c>(b: &mut Build<'c>, from: &crate::design::Buffer<'c>, at: V<'c>, there: V<'c>, other: V<'c>) -> V<'c> {
    let at = b.select(there, at, b.i32(0));
    let v = from.load(b, at);
    b.select(there, v, other)
}

pub fn depthwise(a: &Args) -> Result<Design, String> {
    let epilogue = Epilogue::of(a)?;
    let one = Dim::ONE;
    let multiplier = a.dim_or("multiplier", &one);
    let out_c = &a.dim("in_c") * &multiplier;
    let count = [&a.dim("batch"), &a.dim("out_h"), &a.dim("out_w"), &out_c].into_iter().product();
    let name = format!("depthwise {}", epilogue.name);
    let d = Design::items(name, count, move |b, s| {
        let [x, w, y] = ["x", "w", "y"].map(|n| s.buffer(b, n, Cell::F32));
        let (x, w, y) = (x?, w?, y?);
        let operands = epilogue.operands(b, s)?;
        let [in_h, in_w, out_h, out_w, out_c] = ["in_h", "in_w", "out_h", "out_w", "out_c"].map(|n| s.int(b, n));
        let [ldx, ldc, ldr, multiplier, k_w, count] = ["ldx", "ldc", "ldr", "multiplier", "k_w", "count"].map(|n| s.int(b, n));
        let mut result = Ok(());
        b.items(count, |b, i| {
            let at = indices(b, i, &[count, out_h, out_w, out_c]);
            let channel = b.quot(at[3], multiplier);
            let image = b.mul(at[0], in_h);
            let zero = b.f32(0.0);
            let sum = over_window(b, s, [at[1], at[2]], [in_h, in_w], &[zero], &mut |b, [i, j], [r, q], there, sums| {
                let line = b.add(image, r);
                let line = b.mul(line, in_w);
                let p = b.add(line, q);
                let p = b.mul(p, ldx);
                let p = b.add(p, channel);
                let v = pixel(b, &x, p, there, zero);
                let tap = b.mul(i, k_w);
                let tap = b.add(tap, j);
                let tap = b.mul(tap, out_c);
                let tap = b.add(tap, at[3]);
                let f = w.load(b, tap);
                vec![b.fma(v, f, sums[0])]
            });
            let p = b.quot(i, out_c);
            let (to, from) = (b.mul(p, ldc), b.mul(p, ldr));
            let (to, from) = (b.add(to, at[3]), b.add(from, at[3]));
            match epilogue.result(b, &operands, sum[0], at[3], from) {
                Ok(v) => y.store(b, to, v),
                Err(e) => result = Err(e),
            }
        });
        result
    });
    let d = ["in_h", "in_w", "out_h", "out_w"].into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    let d = d.ints([("ldx", a.dim_or("ldx", &a.dim("in_c"))), ("ldc", a.dim_or("ldc", &out_c)), ("ldr", a.dim_or("ldr", &out_c))]);
    let d = sizes(a, d.ints([("multiplier", multiplier), ("out_c", out_c)]));
    Ok(Epilogue::buffers(a, a.buffers(d, &["x", "w", "y"])))
}

pub fn pool2d(a: &Args) -> Design {
    let kind = a.int("kind");
    let count = ["n", "out_h", "out_w", "c"].map(|n| a.dim(n)).iter().product();
    let d = Design::items(format!("pool2d {kind}"), count, move |b, s| {
        let (x, y) = (s.buffer(b, "x", Cell::F32)?, s.buffer(b, "y", Cell::F32)?);
        let [h, w, c, out_h, out_w, count] = ["h", "w", "c", "out_h", "out_w", "count"].map(|n| s.int(b, n));
        b.items(count, |b, i| {
            let at = indices(b, i, &[count, out_h, out_w, c]);
            let image = b.mul(at[0], h);
            let other = b.f32(if kind == pool::MAX { f32::MIN } else { 0.0 });
            let (zero, one) = (b.f32(0.0), b.f32(1.0));
            let sums = over_window(b, s, [at[1], at[2]], [h, w], &[other, zero], &mut |b, _, [r, q], there, sums| {
                let line = b.add(image, r);
                let line = b.mul(line, w);
                let p = b.add(line, q);
                let p = b.mul(p, c);
                let p = b.add(p, at[3]);
                let v = pixel(b, &x, p, there, other);
                if kind == pool::MAX {
                    // False for NaN, which is passed over.
                    let greater = b.cmp(Cond::Gt, v, sums[0]);
                    return vec![b.select(greater, v, sums[0]), sums[1]];
                }
                let n = b.select(there, one, zero);
                vec![b.add(sums[0], v), b.add(sums[1], n)]
            });
            let v = match kind {
                pool::MAX => sums[0],
                pool::AVG => b.div(sums[0], sums[1]),
                _ => {
                    let whole = b.mul(s.int(b, "k_h"), s.int(b, "k_w"));
                    let whole = b.unary("arith.sitofp", whole, Ty::F32);
                    b.div(sums[0], whole)
                }
            };
            y.store(b, i, v);
        });
        Ok(())
    });
    let d = ["h", "w", "c", "out_h", "out_w"].into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    a.buffers(sizes(a, d), &["x", "y"])
}

/// Which pixels of an axis of `from` pixels make a pixel of one of `to`.
#[derive(Clone, Copy)]
struct Resize {
    align: bool,
    half: bool,
}

impl Resize {
    fn of(a: &Args) -> Resize {
        Resize { align: a.int("align_corners") != 0, half: a.int("half_pixel_centers") != 0 }
    }

    /// Where pixel `i` comes from, in pixels; `shift` is taken off with half pixel centers.
    fn place<'c>(&self, b: &mut Build<'c>, i: V<'c>, from: V<'c>, to: V<'c>, shift: f32) -> V<'c> {
        let float = |b: &mut Build<'c>, v| b.unary("arith.sitofp", v, Ty::F32);
        let one = b.i32(1);
        let (whole_from, whole_to) = (float(b, from), float(b, to));
        let mut scale = b.div(whole_from, whole_to);
        if self.align {
            let (less_from, less_to) = (b.sub(from, one), b.sub(to, one));
            let many = b.cmp(Cond::Gt, to, one);
            let less_to = b.max(less_to, one);
            let (less_from, less_to) = (float(b, less_from), float(b, less_to));
            let aligned = b.div(less_from, less_to);
            scale = b.select(many, aligned, scale);
        }
        let at = float(b, i);
        if !self.half {
            return b.mul(at, scale);
        }
        let at = b.add(at, b.f32(0.5));
        let at = b.mul(at, scale);
        if shift == 0.0 { at } else { b.sub(at, b.f32(shift)) }
    }

    /// The two pixels that pixel `i` lies between, and the weight of the second.
    fn between<'c>(&self, b: &mut Build<'c>, i: V<'c>, from: V<'c>, to: V<'c>) -> (V<'c>, V<'c>, V<'c>) {
        let at = self.place(b, i, from, to, 0.5);
        let (floor, ceil) = (b.unary("math.floor", at, Ty::F32), b.unary("math.ceil", at, Ty::F32));
        (clamped(b, floor, from), clamped(b, ceil, from), b.sub(at, floor))
    }

    fn nearest<'c>(&self, b: &mut Build<'c>, i: V<'c>, from: V<'c>, to: V<'c>) -> V<'c> {
        let at = self.place(b, i, from, to, 0.0);
        // Halves are rounded away from zero; places are not negative.
        let at = if self.align { b.add(at, b.f32(0.5)) } else { at };
        let at = b.unary("math.floor", at, Ty::F32);
        clamped(b, at, from)
    }
}

/// `u` where `t` is 0, `v` where it is 1.
fn mix<'c>(b: &mut Build<'c>, u: V<'c>, v: V<'c>, t: V<'c>) -> V<'c> {
    let d = b.sub(v, u);
    b.fma(d, t, u)
}

/// A place as the pixel there, within `0..n`.
fn clamped<'c>(b: &mut Build<'c>, at: V<'c>, n: V<'c>) -> V<'c> {
    let zero = b.f32(0.0);
    let positive = b.cmp(Cond::Gt, at, zero);
    let at = b.select(positive, at, zero);
    let at = b.unary("arith.fptosi", at, Ty::I32);
    let last = b.sub(n, b.i32(1));
    b.min(at, last)
}

const IMAGE: [&str; 5] = ["h", "w", "c", "out_h", "out_w"];

pub fn resize_bilinear(a: &Args) -> Design {
    let resize = Resize::of(a);
    let count = ["n", "out_h", "out_w", "c"].map(|n| a.dim(n)).iter().product();
    let d = Design::items(format!("bilinear {} {}", resize.align, resize.half), count, move |b, s| {
        let (x, y, count) = (s.buffer(b, "x", Cell::F32)?, s.buffer(b, "y", Cell::F32)?, s.int(b, "count"));
        let [h, w, c, out_h, out_w] = IMAGE.map(|n| s.int(b, n));
        b.items(count, |b, i| {
            let at = indices(b, i, &[count, out_h, out_w, c]);
            let (top, bottom, dy) = resize.between(b, at[1], h, out_h);
            let (left, right, dx) = resize.between(b, at[2], w, out_w);
            let mut lines = Vec::new();
            for r in [top, bottom] {
                let mut ends = Vec::new();
                for q in [left, right] {
                    let p = walk(b, &[at[0], r], &[h, b.i32(1)]);
                    let p = walk(b, &[p, q], &[w, b.i32(1)]);
                    let p = walk(b, &[p, at[3]], &[c, b.i32(1)]);
                    ends.push(x.load(b, p));
                }
                lines.push(mix(b, ends[0], ends[1], dx));
            }
            let v = mix(b, lines[0], lines[1], dy);
            y.store(b, i, v);
        });
        Ok(())
    });
    a.buffers(IMAGE.into_iter().fold(d, |d, name| d.int(name, a.dim(name))), &["x", "y"])
}

pub fn resize_nearest(a: &Args) -> Result<Design, String> {
    let ((cell, parts), resize) = (cells(a)?, Resize::of(a));
    let c = &a.dim("c") * &Dim::from(parts);
    let count = [&a.dim("n"), &a.dim("out_h"), &a.dim("out_w"), &c].into_iter().product();
    let d = Design::items(format!("nearest {cell:?} {} {}", resize.align, resize.half), count, move |b, s| {
        let (x, y, count) = (s.buffer(b, "x", cell)?, s.buffer(b, "y", cell)?, s.int(b, "count"));
        let [h, w, c, out_h, out_w] = IMAGE.map(|n| s.int(b, n));
        b.items(count, |b, i| {
            let at = indices(b, i, &[count, out_h, out_w, c]);
            let (r, q) = (resize.nearest(b, at[1], h, out_h), resize.nearest(b, at[2], w, out_w));
            let p = walk(b, &[at[0], r], &[h, b.i32(1)]);
            let p = walk(b, &[p, q], &[w, b.i32(1)]);
            let p = walk(b, &[p, at[3]], &[c, b.i32(1)]);
            let v = x.load(b, p);
            y.store(b, i, v);
        });
        Ok(())
    });
    let d = ["h", "w", "out_h", "out_w"].into_iter().fold(d, |d, name| d.int(name, a.dim(name)));
    Ok(a.buffers(d.int("c", c), &["x", "y"]))
}

//! Convolutions, pooling and resizing of NHWC images.

use super::elementwise::RawLoop;
use super::kernel::Kernel;
use super::layout::Layout;
use super::matrix::{Epilogue, gemm_symbol, numbers};
use super::{Fail, Lowering, known};
use graphc_abi::args::rows::pool;
use graphc_ir::tape::Tape;
use graphc_ir::{Dim, Elem, InstData, Tensor, Type};
use graphc_kernels::matrix::simd::Numbers;
use graphc_passes::plan::{Combine, ConstLayout, Place};

/// Strides, dilations and padding of a windowed op.
struct Window {
    stride: [i64; 2],
    dilation: [i64; 2],
    low: [Dim; 2],
    high: [Dim; 2],
}

impl Window {
    fn of(d: &InstData) -> Result<Window, Fail> {
        let pair = |v: &[i64]| match v {
            [] => Ok([1, 1]),
            &[a, b] => Ok([a, b]),
            _ => Err("a window has two axes"),
        };
        let dims = |key| match d.attrs.dims(key) {
            [a, b] => Ok([a.clone(), b.clone()]),
            _ => Err("a window has two axes"),
        };
        Ok(Window {
            stride: pair(d.attrs.ints("strides"))?,
            dilation: pair(d.attrs.ints("dilations"))?,
            low: dims("low")?,
            high: dims("high")?,
        })
    }

    fn padded(&self) -> bool {
        self.low.iter().chain(&self.high).any(|d| !d.is_zero())
    }
}

impl Lowering<'_> {
    pub(super) fn conv2d(&mut self, d: &InstData) -> Result<(), Fail> {
        let w = Window::of(d)?;
        let numbers = numbers(d);
        if numbers == Numbers::F32 && self.ty(d.operands[0]).elem != Elem::F32 {
            return self.conv_loop(d, &w);
        }
        let epilogue = Epilogue::of(d)?;
        let x = self.dense(d.operands[0])?;
        let filter = self.ty(d.operands[1]);
        let groups = d.attrs.int("groups").max(1);
        let out = self.result_strided(d.results[0]);
        let ldc = pixel_stride(&out);
        let out = if ldc.is_some() { out } else { self.result(d.results[0]) };
        let ldc = ldc.unwrap_or_default();
        if let Some((f, outputs)) = self.winograd_filter(d, &w, &x, &out) {
            return self.winograd(d, &w, &f, outputs, [&x, &out], &ldc);
        }
        let [f_h, f_w, depth, columns] = [0, 1, 2, 3].map(|a| filter.shape[a].clone());
        let k = &(&f_h * &f_w) * &depth;
        let n = columns.floor_div(&Dim::from(groups));
        let m: Dim = out.shape[..3].iter().product();
        let per_word = numbers.per_word();
        let steps = known(&k).map(|k| k / per_word);
        let width = self.target.panel_width(known(&m), known(&n).unwrap_or(64), steps.unwrap_or(64));
        let constant = match (self.func.const_of(d.operands[1]), known(&k), known(&n)) {
            (Some(t), Some(k), Some(n)) => Some((t.clone(), k, n)),
            _ => None,
        };
        let weights = match constant {
            Some((t, k, n)) => {
                let count = groups as usize;
                let strides = [n, n * count, 1];
                let row = (known(&f_w).unwrap_or(0) * known(&depth).unwrap_or(0)).max(1);
                let whole = row.next_multiple_of(per_word);
                let (t, k) = if whole == row { (t, k) } else { (with_rows_of(&t, row, whole)?, k / row * whole) };
                let layout = match numbers {
                    Numbers::F32 => ConstLayout::Panels { count, k, n, width, strides },
                    _ => ConstLayout::Words { count, k, n, width, strides },
                };
                self.constant(d.operands[1], &t, layout)
            }
            None if numbers != Numbers::F32 => return Err("a convolution of small numbers whose filter is not constant".into()),
            None => {
                let f = self.dense(d.operands[1])?;
                self.pack(&f, [&Dim::from(groups), &k, &n], [&n, &columns, &Dim::ONE], width, &d.loc)?
            }
        };
        let pointwise = f_h.is_one() && f_w.is_one() && w.stride == [1, 1] && !w.padded() && groups == 1;
        let pointwise = pointwise && known(&depth).is_none_or(|c| c.is_multiple_of(per_word));
        let g = if pointwise {
            let g = Kernel::new(gemm_symbol(numbers)).buf("x", &x).whole("w", weights).buf("y", &out);
            g.dim("m", &m).dim("n", &n).dim("k", &k).int("nr", width as i64)
        } else {
            let symbol = match numbers {
                Numbers::F32 => "gc_conv2d_f32",
                Numbers::Bf16 => "gc_conv2d_bf16",
                Numbers::I8 => "gc_conv2d_i8",
            };
            let g = Kernel::new(symbol).buf("x", &x).whole("w", weights).buf("y", &out).int("x_zero", d.attrs.int("x_zero"));
            let g = images(g, &x, &out, ["batch", "in_h", "in_w", "in_c"]).dim("out_c", &columns);
            window(g, &w, &f_h, &f_w).int("groups", groups).int("nr", width as i64)
        };
        let g = self.epilogue(g.dim("ldc", &ldc), &epilogue, &out, numbers)?;
        self.launch(g, &d.loc)
    }

    /// The filter of a convolution that Winograd's algorithm computes, and the pixels of its tiles along an axis.
    fn winograd_filter(&self, d: &InstData, w: &Window, x: &Layout, out: &Layout) -> Option<(Tensor, usize)> {
        let filter = self.func.const_of(d.operands[1])?;
        let &[3, 3, c, n] = filter.shape() else { return None };
        if numbers(d) != Numbers::F32 || w.stride != [1, 1] || w.dilation != [1, 1] || d.attrs.int("groups") > 1 {
            return None;
        }
        let extents = [known(&out.shape[1]), known(&out.shape[2])];
        let outputs = self.target.winograd_outputs(known(&x.shape[0]), extents, c, n)?;
        Some((filter.clone(), outputs))
    }

    fn winograd(
        &mut self,
        d: &InstData,
        w: &Window,
        filter: &Tensor,
        outputs: usize,
        [x, out]: [&Layout; 2],
        ldc: &Dim,
    ) -> Result<(), Fail> {
        /// Tiles that a product has where there are many.
        const BLOCK: usize = 28;
        let epilogue = Epilogue::of(d)?;
        let (c, n) = (filter.shape()[2], filter.shape()[3]);
        let width = self.target.panel_width(Some(BLOCK), n, c);
        let layout = ConstLayout::WinogradFilter { outputs, input: c, out: n, width };
        let weights = self.constant(d.operands[1], filter, layout);
        let g = Kernel::new("gc_winograd_f32").buf("x", x).whole("w", weights).buf("y", out);
        let g = images(g, x, out, ["batch", "in_h", "in_w", "in_c"]).int("out_c", n as i64);
        let g = g.dim("pad_top", &w.low[0]).dim("pad_left", &w.low[1]).int("outputs", outputs as i64).int("nr", width as i64);
        let g = self.epilogue(g.dim("ldc", ldc), &epilogue, out, Numbers::F32)?;
        self.launch(g, &d.loc)
    }

    pub(super) fn depthwise(&mut self, d: &InstData) -> Result<(), Fail> {
        let w = Window::of(d)?;
        let bf16 = numbers(d) == Numbers::Bf16;
        if !bf16 && self.ty(d.operands[0]).elem != Elem::F32 {
            return self.conv_loop(d, &w);
        }
        let epilogue = Epilogue::of(d)?;
        let (x, f) = (self.dense(d.operands[0])?, self.dense(d.operands[1])?);
        let out = self.result_strided(d.results[0]);
        let ldc = pixel_stride(&out);
        let out = if ldc.is_some() { out } else { self.result(d.results[0]) };
        let ldc = ldc.unwrap_or_default();
        let g = Kernel::new(if bf16 { "gc_depthwise_bf16" } else { "gc_depthwise_f32" });
        let g = images(g.buf("x", &x).buf("w", &f).buf("y", &out), &x, &out, ["batch", "in_h", "in_w", "in_c"]);
        let g = if bf16 { g } else { g.dim("multiplier", &f.shape[3]) };
        let g = window(g, &w, &f.shape[0], &f.shape[1]).dim("ldc", &ldc);
        let g = self.epilogue(g, &epilogue, &out, Numbers::F32)?;
        self.launch(g, &d.loc)
    }

    pub(super) fn conv_transpose2d(&mut self, d: &InstData) -> Result<(), Fail> {
        let w = Window::of(d)?;
        let epilogue = Epilogue::of(d)?;
        let x = self.dense(d.operands[0])?;
        if x.elem != Elem::F32 {
            return Err("a transposed convolution of this type".into());
        }
        let filter = self.ty(d.operands[1]).clone();
        let [f_h, f_w, out_c, in_c] = [0, 1, 2, 3].map(|a| filter.shape[a].clone());
        let out = self.result(d.results[0]);
        let rows: Dim = x.shape[..3].iter().product();
        let width = self.target.panel_width(known(&rows), known(&out_c).unwrap_or(64), known(&in_c).unwrap_or(64));
        let sizes = (known(&f_h), known(&f_w), known(&out_c), known(&in_c));
        let weights = match (self.func.const_of(d.operands[1]).cloned(), sizes) {
            (Some(t), (Some(h), Some(v), Some(o), Some(i))) => {
                let size = |s: [i64; 2]| s.map(|v| v as usize);
                let (stride, dilation) = (size(w.stride), size(w.dilation));
                let layout = ConstLayout::TransposedFilter { kernel: [h, v], out: o, input: i, stride, dilation, width };
                self.constant(d.operands[1], &t, layout)
            }
            _ => {
                let f = self.dense(d.operands[1])?;
                let nr = Dim::from(width);
                let len = &(&(&out_c.ceil_div(&nr) * &nr) * &(&f_h * &f_w)) * &in_c;
                let dst = self.plan.add_buffer(Type::new(Elem::F32, vec![len]), Place::Unplaced, d.loc.clone());
                let p =
                    Kernel::new("gc_pack_conv_transpose_f32").buf("src", &f).whole("dst", dst).dim("k_h", &f_h).dim("k_w", &f_w);
                let p = p.dim("out_c", &out_c).dim("in_c", &in_c).int("stride_h", w.stride[0]).int("stride_w", w.stride[1]);
                let p = p.int("dil_h", w.dilation[0]).int("dil_w", w.dilation[1]).int("nr", width as i64);
                self.launch(p, &d.loc)?;
                dst
            }
        };
        let g = Kernel::new("gc_conv_transpose_f32").buf("x", &x).whole("w", weights).buf("y", &out);
        let g = images(g, &x, &out, ["batch", "in_h", "in_w", "in_c"]).dim("out_c", &out_c);
        let g = window(g, &w, &f_h, &f_w).int("nr", width as i64);
        let g = self.epilogue(g, &epilogue, &out, Numbers::F32)?;
        self.launch(g, &d.loc)
    }

    /// A convolution of any type over an image without padding, as a loop with reduced axes.
    fn conv_loop(&mut self, d: &InstData, w: &Window) -> Result<(), Fail> {
        if w.padded() || !Epilogue::of(d)?.is_none() {
            return Err("padding or an epilogue on a convolution of this type".into());
        }
        let (x, f) = (self.layout(d.operands[0])?, self.layout(d.operands[1])?);
        let y = self.result(d.results[0]);
        let depthwise = d.op == graphc_ir::Op::Depthwise;
        let groups = Dim::from(d.attrs.int("groups").max(1));
        // Axes: n, h, w, group, column of the group | filter row, filter column, input channel of the group.
        let (group, column, depth) = if depthwise {
            (f.shape[2].clone(), f.shape[3].clone(), Dim::ONE)
        } else {
            (groups.clone(), f.shape[3].floor_div(&groups), f.shape[2].clone())
        };
        let shape =
            [&y.shape[0], &y.shape[1], &y.shape[2], &group, &column, &f.shape[0], &f.shape[1], &depth].map(Dim::clone).to_vec();
        let scale = |s: &Dim, by: i64| s * &Dim::from(by);
        let xs = vec![
            x.strides[0].clone(),
            scale(&x.strides[1], w.stride[0]),
            scale(&x.strides[2], w.stride[1]),
            &x.strides[3] * &depth,
            Dim::ZERO,
            scale(&x.strides[1], w.dilation[0]),
            scale(&x.strides[2], w.dilation[1]),
            x.strides[3].clone(),
        ];
        let [group_stride, column_stride, depth_stride] = match depthwise {
            true => [f.strides[2].clone(), f.strides[3].clone(), Dim::ZERO],
            false => [&f.strides[3] * &column, f.strides[3].clone(), f.strides[2].clone()],
        };
        let zero = || Dim::ZERO;
        let fs =
            vec![zero(), zero(), zero(), group_stride, column_stride, f.strides[0].clone(), f.strides[1].clone(), depth_stride];
        let mut ys = y.strides[..3].to_vec();
        ys.extend([column.clone(), Dim::ONE, zero(), zero(), zero()]);
        let lay = |l: Layout, strides| Layout { shape: shape.clone(), strides, ..l };
        let (x, f, y) = (lay(x, xs), lay(f, fs), lay(y, ys));
        self.sum_of_products(d.op.name(), shape.clone(), 3, [x, f], y, &d.loc)
    }

    pub(super) fn pool2d(&mut self, d: &InstData) -> Result<(), Fail> {
        let w = Window::of(d)?;
        let &[k_h, k_w] = d.attrs.ints("window") else { return Err("a window has two axes".into()) };
        let symbol = match self.ty(d.operands[0]).elem {
            Elem::F32 if d.attrs.str("kind") != "sum" => "gc_pool2d_f32",
            Elem::BF16 if d.attrs.str("kind") != "sum" => "gc_pool2d_bf16",
            _ => return self.pool_loop(d, &w, [k_h, k_w]),
        };
        let kind = match d.attrs.str("kind") {
            "max" => pool::MAX,
            "avg" => pool::AVG,
            k => return Err(format!("no pooling {k:?}")),
        };
        let x = self.dense(d.operands[0])?;
        let out = self.result(d.results[0]);
        let g = Kernel::new(symbol).buf("x", &x).buf("y", &out).int("kind", kind);
        let g = images(g, &x, &out, ["n", "h", "w", "c"]);
        self.launch(window(g, &w, &Dim::from(k_h), &Dim::from(k_w)), &d.loc)
    }

    /// Pooling of any type by `max` or `sum` over an image without padding.
    fn pool_loop(&mut self, d: &InstData, w: &Window, window: [i64; 2]) -> Result<(), Fail> {
        let combine = match d.attrs.str("kind") {
            "max" => Combine::Max,
            "sum" => Combine::Sum,
            _ => return Err("this pooling of this type".into()),
        };
        if w.padded() {
            return Err("padding on a pooling of this type".into());
        }
        let x = self.layout(d.operands[0])?;
        let y = self.result(d.results[0]);
        let mut shape = y.shape.clone();
        shape.extend(window.map(Dim::from));
        let scale = |s: &Dim, by: i64| s * &Dim::from(by);
        let mut strides = vec![x.strides[0].clone(), scale(&x.strides[1], w.stride[0]), scale(&x.strides[2], w.stride[1])];
        strides.extend([3, 1, 2].map(|a| x.strides[a].clone()));
        let mut tape = Tape::default();
        let t = tape.load(0, x.elem);
        tape.outputs.push(t);
        let ys = [y.strides.clone(), vec![Dim::ZERO; 2]].concat();
        let raw = RawLoop {
            name: format!("pool_{}", d.attrs.str("kind")),
            extents: shape.clone(),
            reduced: 2,
            combine,
            inputs: vec![Layout { shape: shape.clone(), strides, ..x }],
            outputs: vec![Layout { shape, strides: ys, ..y }],
            tape,
        };
        self.push_loop(raw, &d.loc)
    }

    pub(super) fn resize(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = self.dense(d.operands[0])?;
        let out = self.result(d.results[0]);
        let g = match d.attrs.str("kind") {
            "nearest" => Kernel::new("gc_resize_nearest").int("size", x.elem.size() as i64),
            "bilinear" if x.elem == Elem::F32 => Kernel::new("gc_resize_bilinear_f32"),
            k => return Err(format!("resize {k:?} of {}", x.elem)),
        };
        let g = images(g.buf("x", &x).buf("y", &out), &x, &out, ["n", "h", "w", "c"]);
        let g = g.flag("align_corners", d.attrs.flag("align_corners")).flag("half_pixel_centers", d.attrs.flag("half_pixel"));
        self.launch(g, &d.loc)
    }
}

/// A filter of small numbers and one group whose kernel rows, of `row` numbers a column, are filled with zeros to `whole`.
fn with_rows_of(t: &Tensor, row: usize, whole: usize) -> Result<Tensor, Fail> {
    let columns = t.shape().last().copied().unwrap_or(0) * t.elem().size();
    let (from, line) = (t.clone(), row * columns);
    let zeros = (whole - row) * columns;
    let shape = vec![t.bytes_len() / line.max(1), whole, t.shape().last().copied().unwrap_or(0)];
    let padded = Tensor::deferred(t.elem(), shape, move || {
        from.bytes().chunks(line.max(1)).flat_map(|r| r.iter().copied().chain(std::iter::repeat_n(0, zeros))).collect()
    });
    padded.ok_or_else(|| "a filter that is too large".into())
}

/// From a pixel to the next, where the pixels of an image are evenly spaced and its channels contiguous.
fn pixel_stride(y: &Layout) -> Option<Dim> {
    let stride = |a: usize| (!y.shape[a].is_one()).then(|| y.strides[a].clone());
    if !stride(3).is_none_or(|s| s.is_one()) {
        return None;
    }
    let pixel = y.strides[2].clone();
    let row = &pixel * &y.shape[2];
    let even = stride(1).is_none_or(|s| s == row) && stride(0).is_none_or(|s| s == &row * &y.shape[1]);
    even.then_some(pixel)
}

/// Extents of an image and of the output's rows and columns.
fn images(k: Kernel, x: &Layout, y: &Layout, names: [&'static str; 4]) -> Kernel {
    let k = names.iter().zip(&x.shape).fold(k, |k, (n, d)| k.dim(n, d));
    k.dim("out_h", &y.shape[1]).dim("out_w", &y.shape[2])
}

fn window(k: Kernel, w: &Window, f_h: &Dim, f_w: &Dim) -> Kernel {
    let k = k.dim("k_h", f_h).dim("k_w", f_w).int("stride_h", w.stride[0]).int("stride_w", w.stride[1]);
    let k = k.int("dil_h", w.dilation[0]).int("dil_w", w.dilation[1]);
    k.dim("pad_top", &w.low[0]).dim("pad_left", &w.low[1])
}

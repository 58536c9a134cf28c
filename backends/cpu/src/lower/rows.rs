//! Ops over rows and reduced axes.

use super::kernel::{D, Kernel, S, elem_code};
use super::layout::{collapse, row_major};
use super::{Fail, Lowering};
use graphc_abi::args::rows::reduce;
use graphc_ir::{Dim, Elem, InstData, Type};

impl Lowering<'_> {
    pub(super) fn softmax(&mut self, d: &InstData) -> Result<(), Fail> {
        let symbol = match self.ty(d.operands[0]).elem {
            Elem::F32 => "gc_softmax_f32",
            Elem::F64 => "gc_softmax_f64",
            e => return Err(format!("softmax of {e}")),
        };
        let x = self.dense(d.operands[0])?;
        let Some((n, rows)) = x.shape.split_last() else { return Err("softmax of a scalar".into()) };
        let out = self.result(d.results[0]);
        let k = Kernel::new(symbol).buf("x", &x).buf("y", &out).dim("rows", &rows.iter().product()).dim("n", n);
        self.launch(k.flag("log", d.attrs.flag("log")).in_place(&out, &x), &d.loc)
    }

    pub(super) fn layer_norm(&mut self, d: &InstData) -> Result<(), Fail> {
        if self.ty(d.operands[0]).elem != Elem::F32 {
            return Err("layer_norm of this type".into());
        }
        let [x, gamma, beta] = [self.dense(d.operands[0])?, self.dense(d.operands[1])?, self.dense(d.operands[2])?];
        let Some((n, rows)) = x.shape.split_last() else { return Err("layer_norm of a scalar".into()) };
        let out = self.result(d.results[0]);
        let k = Kernel::new("gc_layer_norm_f32").buf("x", &x).buf("gamma", &gamma).buf("beta", &beta).buf("y", &out);
        let k = k.dim("rows", &rows.iter().product()).dim("n", n).real("eps", d.attrs.real("eps"));
        self.launch(k.in_place(&out, &x), &d.loc)
    }

    pub(super) fn reduce(&mut self, d: &InstData) -> Result<(), Fail> {
        if let Some(producer) = self.func.def_inst(d.operands[0]).filter(|p| self.deferred.contains(p)) {
            return self.reduced(producer, d);
        }
        let kind = match d.attrs.str("kind") {
            "sum" => reduce::SUM,
            "mean" => reduce::MEAN,
            "prod" => reduce::PROD,
            "max" => reduce::MAX,
            "min" => reduce::MIN,
            "any" => reduce::ANY,
            "all" => reduce::ALL,
            k => return Err(format!("no reduction {k:?}")),
        };
        let x = self.layout(d.operands[0])?;
        let out = self.result(d.results[0]);
        let axes = d.attrs.sizes("axes");
        // A stand-in for the result's strides keeps reduced and other axes apart.
        let kept: Vec<Dim> = (0..x.shape.len()).filter(|a| !axes.contains(a)).map(|a| x.shape[a].clone()).collect();
        let mut outer = row_major(&kept).into_iter();
        let marks =
            (0..x.shape.len()).map(|a| if axes.contains(&a) { Dim::ZERO } else { outer.next().unwrap_or(Dim::ONE) }).collect();
        let mut extents = x.shape.clone();
        let mut strides = [x.strides.clone(), marks];
        collapse(&mut extents, &mut strides, &[]);
        if extents.len() > 8 {
            return Err(format!("a reduction over {} axes that do not merge", extents.len()));
        }
        let mask = strides[1].iter().enumerate().filter(|(_, s)| s.is_zero()).fold(0, |m, (i, _)| m | 1 << i);
        // The kernel for all other types is large: programs that reduce f32 alone go without it.
        let symbol = if x.elem == Elem::F32 { "gc_reduce_f32" } else { "gc_reduce" };
        let k = Kernel::new(symbol).buf("x", &x).buf("y", &out).int("elem", elem_code(x.elem)?).int("kind", kind);
        let mut k = k.int("rank", extents.len() as i64).int("mask", mask).dims(&D, &extents);
        if !x.is_dense() {
            k = k.int("strided", 1).dims(&S, &strides[0]);
        }
        self.launch(k, &d.loc)
    }

    /// Extents before, at and after an axis.
    fn around(shape: &[Dim], axis: usize) -> Result<[Dim; 3], Fail> {
        let n = shape.get(axis).ok_or("the axis is out of range")?;
        Ok([shape[..axis].iter().product(), n.clone(), shape[axis + 1..].iter().product()])
    }

    pub(super) fn arg_reduce(&mut self, d: &InstData) -> Result<(), Fail> {
        let min = match d.attrs.str("kind") {
            "max" => false,
            "min" => true,
            k => return Err(format!("no arg_reduce {k:?}")),
        };
        let x = self.dense(d.operands[0])?;
        let out = self.result(d.results[0]);
        let [outer, n, inner] = Self::around(&x.shape, d.attrs.size("axis"))?;
        let k = Kernel::new("gc_arg_reduce").buf("x", &x).buf("y", &out).int("elem", elem_code(x.elem)?).flag("min", min);
        let k = k.dim("outer", &outer).dim("n", &n).dim("inner", &inner).int("index_bytes", out.elem.size() as i64);
        self.launch(k, &d.loc)
    }

    pub(super) fn cumulative(&mut self, d: &InstData) -> Result<(), Fail> {
        let prod = match d.attrs.str("kind") {
            "sum" => false,
            "prod" => true,
            k => return Err(format!("no running {k:?}")),
        };
        let x = self.dense(d.operands[0])?;
        let out = self.result(d.results[0]);
        let [outer, n, inner] = Self::around(&x.shape, d.attrs.size("axis"))?;
        let k = Kernel::new("gc_cumulate").buf("x", &x).buf("y", &out).int("elem", elem_code(x.elem)?).flag("prod", prod);
        let k = k.flag("exclusive", d.attrs.flag("exclusive")).flag("reverse", d.attrs.flag("reverse"));
        self.launch(k.dim("outer", &outer).dim("n", &n).dim("inner", &inner).in_place(&out, &x), &d.loc)
    }

    pub(super) fn top_k(&mut self, d: &InstData) -> Result<(), Fail> {
        let x = self.dense(d.operands[0])?;
        let Some((n, rows)) = x.shape.split_last() else { return Err("top_k of a scalar".into()) };
        let (values, indices) = (self.result(d.results[0]), self.result(d.results[1]));
        let count = d.attrs.dims("k").first().ok_or("no k")?;
        let k = Kernel::new("gc_topk").buf("x", &x).buf("values", &values).buf("indices", &indices).int("elem", elem_code(x.elem)?);
        let k = k.int("index_bytes", indices.elem.size() as i64).dim("rows", &rows.iter().product()).dim("n", n).dim("k", count);
        self.launch(k, &d.loc)
    }

    pub(super) fn attention(&mut self, d: &InstData) -> Result<(), Fail> {
        if self.ty(d.operands[0]).elem != Elem::F32 {
            return Err("attention of this type".into());
        }
        // [batch, time, heads, d]; the kernel walks all axes but the last with strides.
        let mut factors = Vec::new();
        for &v in &d.operands[..3] {
            let l = self.layout(v)?;
            let contiguous = l.shape[3].is_one() || l.strides[3].is_one();
            factors.push(if contiguous { l } else { self.dense(v)? });
        }
        let [q, k, v] = &factors[..] else { return Err("attention takes q, k and v".into()) };
        let out = self.result(d.results[0]);
        let mut a = Kernel::new("gc_attention_f32").buf("q", q).buf("k", k).buf("v", v).buf("out", &out);
        a = a.dim("batch", &q.shape[0]).dim("heads", &q.shape[2]).dim("t_q", &q.shape[1]).dim("t_k", &k.shape[1]);
        a = a.dim("d", &q.shape[3]).dim("d_v", &v.shape[3]).real("scale", d.attrs.real("scale"));
        let names = [
            ["q_batch", "q_time", "q_head"],
            ["k_batch", "k_time", "k_head"],
            ["v_batch", "v_time", "v_head"],
            ["out_batch", "out_time", "out_head"],
        ];
        for (l, names) in factors.iter().chain([&out]).zip(names) {
            a = (0..3).fold(a, |a, i| a.dim(names[i], &l.strides[i]));
        }
        if let Some(&mask) = d.operands.get(3) {
            let scores = [&q.shape[0], &q.shape[2], &q.shape[1], &k.shape[1]].map(Dim::clone);
            let mut m = self.layout(mask)?.broadcast(&scores);
            if !m.strides[3].is_one() && !m.shape[3].is_one() {
                // Only the last axis has to be written out.
                let mut l = self.layout(mask)?;
                let last = l.shape.len().saturating_sub(1);
                if let Some(axis) = l.shape.get(last) {
                    let mut shape = l.shape.clone();
                    if *axis != scores[3] {
                        shape[last] = scores[3].clone();
                    }
                    l = l.broadcast(&shape);
                } else {
                    l = l.broadcast(&scores[3..]);
                }
                let dense = self.temporary(Type::new(l.elem, l.shape.clone()), &d.loc);
                self.copy(&l, &dense, &d.loc)?;
                m = dense.broadcast(&scores);
            }
            a = a.buf("mask", &m).dim("mask_batch", &m.strides[0]).dim("mask_head", &m.strides[1]).dim("mask_row", &m.strides[2]);
        }
        self.launch(a, &d.loc)
    }
}

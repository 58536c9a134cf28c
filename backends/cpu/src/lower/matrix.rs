//! Matrix products.

use super::elementwise::RawLoop;
use super::kernel::Kernel;
use super::layout::{Layout, collapse};
use super::{Fail, Lowering, known};
use graphc_abi::args::matrix::act;
use graphc_ir::tape::{Bin, Tape};
use graphc_ir::{Attrs, Dim, Elem, InstData, Loc, Tensor, Type, Value};
use graphc_kernels::matrix::simd::Numbers;
use graphc_passes::plan::{Buf, Combine, ConstLayout, Place};

/// What happens to sums before they are stored.
pub(super) struct Epilogue {
    pub bias: Option<Value>,
    pub residual: Option<Value>,
    residual_last: bool,
    act: i64,
    lo: f64,
    hi: f64,
    /// Of sums of integers: scale and shift.
    scales: Option<[Value; 2]>,
    /// How the result becomes integers: fields and their values.
    steps: [(&'static str, f64); 4],
    half_up: bool,
}

impl Epilogue {
    /// From the attributes, and the operands after the two factors.
    pub fn of(d: &InstData) -> Result<Epilogue, Fail> {
        let a: &Attrs = &d.attrs;
        let (scales, skipped) = match d.operands.get(2..4) {
            Some(&[scale, shift]) if a.flag("scaled") => (Some([scale, shift]), 4),
            _ => (None, 2),
        };
        let mut rest = d.operands.iter().skip(skipped).copied();
        let bias = if a.flag("bias") { rest.next() } else { None };
        let residual = if a.flag("residual") { rest.next() } else { None };
        let act = match a.str("act") {
            "" | "none" => act::NONE,
            "relu" => act::RELU,
            "clamp" => act::CLAMP,
            "leaky_relu" => act::LEAKY_RELU,
            "gelu" => act::GELU_ERF,
            "gelu_tanh" => act::GELU_TANH,
            "silu" => act::SILU,
            "sigmoid" => act::SIGMOID,
            "tanh" => act::TANH,
            "hard_swish" => act::HARD_SWISH,
            "hard_sigmoid" => act::HARD_SIGMOID,
            "elu" => act::ELU,
            k => return Err(format!("no activation {k:?}")),
        };
        let steps = ["y_rate", "y_zero", "y_lo", "y_hi"].map(|key| (key, a.real(key)));
        let (residual_last, half_up) = (a.flag("residual_last"), a.flag("y_half_up"));
        Ok(Epilogue { bias, residual, residual_last, act, lo: a.real("act_lo"), hi: a.real("act_hi"), scales, steps, half_up })
    }

    pub fn is_none(&self) -> bool {
        self.bias.is_none() && self.residual.is_none() && self.act == act::NONE
    }
}

/// One role of axes (batch, rows, columns or depth) after merging: extents, and strides in the tensors that have it.
struct Role {
    extents: Vec<Dim>,
    strides: Vec<Vec<Dim>>,
}

impl Role {
    fn new(axes: &[(&Layout, Vec<usize>)]) -> Role {
        let (first, numbers) = &axes[0];
        let mut extents = numbers.iter().map(|&a| first.shape[a].clone()).collect();
        let mut strides: Vec<Vec<Dim>> = axes.iter().map(|(l, n)| n.iter().map(|&a| l.strides[a].clone()).collect()).collect();
        collapse(&mut extents, &mut strides, &[]);
        Role { extents, strides }
    }

    /// Extent and strides of the axis, if there is at most one.
    fn single(&self) -> Option<(Dim, Vec<Dim>)> {
        match self.extents.as_slice() {
            [] => Some((Dim::ONE, vec![Dim::ZERO; self.strides.len()])),
            [e] => Some((e.clone(), self.strides.iter().map(|s| s[0].clone()).collect())),
            _ => None,
        }
    }
}

/// A product after the axes of each role are merged into one; batch axes are up to three.
struct Product {
    m: Dim,
    n: Dim,
    k: Dim,
    /// Row and column strides.
    a: [Dim; 2],
    b: [Dim; 2],
    c: [Dim; 2],
    batch: Vec<Dim>,
    /// Strides of a, b and c along each batch axis.
    batch_strides: [Vec<Dim>; 3],
}

impl Lowering<'_> {
    pub(super) fn contract(&mut self, d: &InstData) -> Result<(), Fail> {
        if numbers(d) != Numbers::F32 {
            return self.contract_words(d);
        }
        let elem = self.ty(d.operands[0]).elem;
        let symbol = match elem {
            Elem::F32 => "gc_matmul_f32",
            Elem::F64 => "gc_matmul_f64",
            Elem::I32 => "gc_matmul_i32",
            Elem::I64 => "gc_matmul_i64",
            _ => return self.contract_loop(d),
        };
        let epilogue = Epilogue::of(d)?;
        let alpha = d.attrs.real("alpha");
        let mut a = self.layout(d.operands[0])?;
        // A constant factor is packed, so it needs no place of its own.
        let constant = self.func.const_of(d.operands[1]).filter(|_| elem == Elem::F32).cloned();
        let mut b = match &constant {
            Some(t) => Layout::dense(Buf(u32::MAX), &t.ty()),
            None => self.layout(d.operands[1])?,
        };
        let c = self.result_strided(d.results[0]);
        let product = match merged(d, &a, &b, &c) {
            Some(p) => p,
            None => {
                a = self.canonical(d, a, true)?;
                b = match &constant {
                    Some(_) => self.layout(d.operands[1])?,
                    None => b,
                };
                b = self.canonical(d, b, false)?;
                merged(d, &a, &b, &c).ok_or("too many batch axes")?
            }
        };
        if let Some(t) = constant.filter(|_| b.buf == Buf(u32::MAX))
            && let Some(packed) = self.packed(d, &product, &t, alpha)
        {
            return self.gemm(d, &a, packed, &c, &product, &epilogue);
        }
        if b.buf == Buf(u32::MAX) {
            b.buf = self.layout(d.operands[1])?.buf;
        }
        let p = &product;
        let mut k = Kernel::new(symbol).buf("a", &a).buf("b", &b).buf("c", &c).dim("m", &p.m).dim("n", &p.n).dim("k", &p.k);
        k = k.dim("a_row", &p.a[0]).dim("a_col", &p.a[1]).dim("b_row", &p.b[0]).dim("b_col", &p.b[1]);
        k = k.dim("c_row", &p.c[0]).dim("c_col", &p.c[1]);
        const FIELDS: [[&str; 4]; 3] = [
            ["batch0", "a_batch0", "b_batch0", "c_batch0"],
            ["batch1", "a_batch1", "b_batch1", "c_batch1"],
            ["batch2", "a_batch2", "b_batch2", "c_batch2"],
        ];
        for (i, names) in FIELDS.iter().enumerate().take(p.batch.len()) {
            k = k.dim(names[0], &p.batch[i]);
            k = (0..3).fold(k, |k, t| k.dim(names[t + 1], &p.batch_strides[t][i]));
        }
        if elem == Elem::F32 {
            if alpha != 0.0 && alpha != 1.0 {
                k = k.real("alpha", alpha);
            }
            k = self.bias_and_act(k, &epilogue)?;
            if let Some(r) = epilogue.residual {
                let r = self.dense(r)?;
                // Laid out as a dense result is.
                let y = merged(d, &a, &b, &Layout::dense(c.buf, &c.ty())).ok_or("too many batch axes")?;
                if y.batch != p.batch {
                    return Err("a residual that is not laid out as the result".into());
                }
                k = k.buf("residual", &r).dim("r_row", &y.c[0]).flag("residual_after", epilogue.residual_last);
                for (i, f) in ["r_batch0", "r_batch1", "r_batch2"].iter().enumerate().take(p.batch.len()) {
                    k = k.dim(f, &y.batch_strides[2][i]);
                }
            }
        }
        self.launch(k, &d.loc)
    }

    /// A product of small numbers with constant weights and an inner extent of whole words.
    fn contract_words(&mut self, d: &InstData) -> Result<(), Fail> {
        let epilogue = Epilogue::of(d)?;
        let alpha = d.attrs.real("alpha");
        let weights =
            self.func.const_of(d.operands[1]).cloned().ok_or("a product of small numbers whose weights are not constant")?;
        let mut a = self.layout(d.operands[0])?;
        let b = Layout::dense(Buf(u32::MAX), &weights.ty());
        let c = self.result_strided(d.results[0]);
        let mut packed = None;
        if let Some(p) = merged(d, &a, &b, &c) {
            packed = self.packed(d, &p, &weights, alpha).map(|w| (p, w));
        }
        if packed.is_none() {
            a = self.canonical(d, a, true)?;
            let p = merged(d, &a, &b, &c).ok_or("too many batch axes")?;
            packed = self.packed(d, &p, &weights, alpha).map(|w| (p, w));
        }
        let (p, packed) = packed.ok_or("a product of small numbers that is not one of a matrix with weights")?;
        self.gemm(d, &a, packed, &c, &p, &epilogue)
    }

    /// Copies a factor so that its free axes and its contracted axes each merge into one.
    fn canonical(&mut self, d: &InstData, l: Layout, lhs: bool) -> Result<Layout, Fail> {
        let (batch, free, depth) = roles(d, &l, lhs);
        let order = if lhs { [batch, free, depth].concat() } else { [batch, depth, free].concat() };
        let copy = self.temporary(l.transposed(&order).ty(), &d.loc);
        self.copy(&l.transposed(&order), &copy, &d.loc)?;
        let mut inverse = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
        Ok(copy.transposed(&inverse))
    }

    /// The packed second factor, where the product is one that `gc_gemm_f32` computes.
    fn packed(&mut self, d: &InstData, p: &Product, t: &Tensor, alpha: f64) -> Option<(Buf, usize)> {
        if alpha != 0.0 && alpha != 1.0 || !p.c[1].is_one() && !p.n.is_one() {
            return None;
        }
        let (k, n) = (known(&p.k)?, known(&p.n)?);
        let strides = [known(&p.b[0])?, known(&p.b[1])?];
        // One batch axis at most, over which the factor may repeat.
        let count = match p.batch.as_slice() {
            [] => 1,
            [_] if p.batch_strides[1][0].is_zero() => 1,
            [e] => known(e)?,
            _ => return None,
        };
        let batch_stride = if count > 1 { known(&p.batch_strides[1][0])? } else { 0 };
        let strides = [batch_stride, strides[0], strides[1]];
        let per_word = numbers(d).per_word();
        let (width, layout) = if per_word > 1 {
            if k % per_word != 0 {
                return None;
            }
            let width = self.target.panel_width(known(&p.m), n, k / per_word);
            (width, ConstLayout::Words { count, k, n, width, strides })
        } else {
            let width = self.target.panel_width(known(&p.m), n, k);
            (width, ConstLayout::Panels { count, k, n, width, strides })
        };
        Some((self.constant(d.operands[1], t, layout), width))
    }

    fn gemm(
        &mut self,
        d: &InstData,
        a: &Layout,
        (weights, width): (Buf, usize),
        c: &Layout,
        p: &Product,
        epilogue: &Epilogue,
    ) -> Result<(), Fail> {
        let (mut a, mut p_a, mut a_batch) = (a.clone(), p.a.clone(), p.batch_strides[0].clone());
        let numbers = numbers(d);
        let odd = |s: &Dim| !s.rem(&Dim::from(numbers.per_word())).is_zero();
        // The kernel reads whole rows, of words where numbers are small, and takes 0 as the row stride for "dense".
        if odd(&p_a[0])
            || a_batch.iter().any(odd)
            || !p_a[1].is_one() && !p.k.is_one()
            || p_a[0].is_zero()
            || !p_a[0].never_negative()
        {
            a = self.canonical(d, a, true)?;
            p_a = [p.k.clone(), Dim::ONE];
            a_batch = vec![&p.m * &p.k; a_batch.len()];
        }
        let (k, n, m) = (known(&p.k).unwrap_or(0), known(&p.n).unwrap_or(0), &p.m);
        let mut g = Kernel::new(gemm_symbol(numbers)).buf("x", &a).whole("w", weights).buf("y", c);
        g = g.dim("m", m).dim("n", &p.n).dim("k", &p.k).int("nr", width as i64).dim("lda", &p_a[0]).dim("ldc", &p.c[0]);
        if let [batch] = p.batch.as_slice() {
            g = g.dim("batch", batch).dim("x_batch", &a_batch[0]).dim("y_batch", &p.batch_strides[2][0]);
            if !p.batch_strides[1][0].is_zero() {
                g = g.int("w_batch", (n.div_ceil(width) * k * width) as i64);
            }
        }
        g = self.bias_and_act(g, epilogue)?;
        if let Some(r) = epilogue.residual {
            let r = self.dense(r)?;
            g = g.buf("residual", &r).dim("ldr", &p.n).flag("residual_after", epilogue.residual_last);
            if numbers == Numbers::Bf16 {
                g = g.flag("residual_f32", r.elem == Elem::F32);
            }
            if !p.batch.is_empty() {
                g = g.dim("residual_batch", &(m * &p.n));
            }
            if c.is_dense() && r.elem == c.elem {
                g = g.in_place(c, &r);
            }
        }
        if numbers != Numbers::F32 {
            g = g.flag("y_f32", c.elem == Elem::F32);
        }
        self.launch(g, &d.loc)
    }

    /// Bias and activation of an epilogue, and what it does for integers.
    pub(super) fn bias_and_act(&mut self, mut k: Kernel, e: &Epilogue) -> Result<Kernel, Fail> {
        if let Some(b) = e.bias {
            let bias = self.dense(b)?;
            k = k.buf("bias", &bias);
        }
        if e.act != act::NONE {
            k = k.int("act", e.act).real("act_lo", e.lo).real("act_hi", e.hi);
        }
        if let Some([scale, shift]) = e.scales {
            let (scale, shift) = (self.dense(scale)?, self.dense(shift)?);
            k = k.buf("scale", &scale).buf("shift", &shift).flag("y_half_up", e.half_up);
            k = e.steps.iter().fold(k, |k, &(field, v)| k.real(field, v));
        }
        Ok(k)
    }

    /// Bias, activation and residual of an epilogue whose residual lies as the output `y` with pixel stride `ldr`.
    ///
    /// `numbers`: what the kernel's factors are.
    pub(super) fn epilogue(&mut self, k: Kernel, e: &Epilogue, y: &Layout, numbers: Numbers) -> Result<Kernel, Fail> {
        let mut k = self.bias_and_act(k, e)?;
        if numbers != Numbers::F32 {
            k = k.flag("y_f32", y.elem == Elem::F32);
        }
        if let Some(r) = e.residual {
            let r = self.dense(r)?;
            k = k.buf("residual", &r).flag("residual_after", e.residual_last);
            if numbers == Numbers::Bf16 {
                k = k.flag("residual_f32", r.elem == Elem::F32);
            }
            if y.is_dense() && r.elem == y.elem {
                k = k.in_place(y, &r);
            }
        }
        Ok(k)
    }

    /// A product of any type as a loop with reduced axes.
    fn contract_loop(&mut self, d: &InstData) -> Result<(), Fail> {
        if !Epilogue::of(d)?.is_none() || ![0.0, 1.0].contains(&d.attrs.real("alpha")) {
            return Err("an epilogue on a product of this type".into());
        }
        let (a, b) = (self.layout(d.operands[0])?, self.layout(d.operands[1])?);
        let (a_batch, a_free, a_depth) = roles(d, &a, true);
        let (b_batch, b_free, b_depth) = roles(d, &b, false);
        // Axes: batch, free of a, free of b, depth. A layout with extent 1 there is repeated.
        let widen = |l: &Layout, groups: [&[usize]; 4], shape: &[Dim], sizes: [usize; 4]| {
            let mut strides = Vec::new();
            for (g, n) in groups.iter().zip(sizes) {
                strides.extend(if g.is_empty() { vec![Dim::ZERO; n] } else { g.iter().map(|&i| l.strides[i].clone()).collect() });
            }
            Layout { shape: shape.to_vec(), strides, ..l.clone() }
        };
        let pick = |l: &Layout, g: &[usize]| g.iter().map(|&i| l.shape[i].clone()).collect::<Vec<_>>();
        let shape = [pick(&a, &a_batch), pick(&a, &a_free), pick(&b, &b_free), pick(&a, &a_depth)].concat();
        let sizes = [a_batch.len(), a_free.len(), b_free.len(), a_depth.len()];
        let a = widen(&a, [&a_batch, &a_free, &[], &a_depth], &shape, sizes);
        let b = widen(&b, [&b_batch, &[], &b_free, &b_depth], &shape, sizes);
        let mut c = self.result(d.results[0]);
        c.strides.extend(vec![Dim::ZERO; sizes[3]]);
        c.shape = shape.clone();
        self.sum_of_products("contract", shape, sizes[3], [a, b], c, &d.loc)
    }

    /// `c = sum(a * b)` over the last `reduced` axes.
    pub(super) fn sum_of_products(
        &mut self,
        name: &str,
        extents: Vec<Dim>,
        reduced: usize,
        [a, b]: [Layout; 2],
        c: Layout,
        loc: &Loc,
    ) -> Result<(), Fail> {
        let mut tape = Tape::default();
        let (x, y) = (tape.load(0, a.elem), tape.load(1, b.elem));
        let t = tape.bin(Bin::Mul, x, y);
        tape.outputs.push(t);
        let raw =
            RawLoop { name: name.into(), extents, reduced, combine: Combine::Sum, inputs: vec![a, b], outputs: vec![c], tape };
        self.push_loop(raw, loc)
    }

    /// A filter or matrix that is not constant, packed at run time: `count` matrices of `k` x `n`.
    pub(super) fn pack(
        &mut self,
        src: &Layout,
        [count, k, n]: [&Dim; 3],
        strides: [&Dim; 3],
        width: usize,
        loc: &Loc,
    ) -> Result<Buf, Fail> {
        let nr = Dim::from(width);
        let one = &(&n.ceil_div(&nr) * &nr) * k;
        let dst = self.plan.add_buffer(Type::new(Elem::F32, vec![count * &one]), Place::Unplaced, loc.clone());
        let p = Kernel::new("gc_pack_f32").buf("src", src).whole("dst", dst).dim("k", k).dim("n", n).int("nr", width as i64);
        let p = p.dim("src_row", strides[1]).dim("src_col", strides[2]).dim("batch", count).dim("src_batch", strides[0]);
        self.launch(p.dim("dst_batch", &one), loc)?;
        Ok(dst)
    }
}

/// What the factors of matrix work are, or of the kernel that computes it.
pub(super) fn numbers(d: &InstData) -> Numbers {
    match d.attrs.elem("elem") {
        _ if d.attrs.flag("scaled") => Numbers::I8,
        Some(_) => Numbers::Bf16,
        None => Numbers::F32,
    }
}

pub(super) fn gemm_symbol(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::F32 => "gc_gemm_f32",
        Numbers::Bf16 => "gc_gemm_bf16",
        Numbers::I8 => "gc_gemm_i8",
    }
}

/// Batch, free and contracted axes of a factor.
fn roles(d: &InstData, l: &Layout, lhs: bool) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let (depth, batch) = if lhs { ("lhs", "lhs_batch") } else { ("rhs", "rhs_batch") };
    let (depth, batch) = (d.attrs.sizes(depth), d.attrs.sizes(batch));
    let free = (0..l.shape.len()).filter(|a| !depth.contains(a) && !batch.contains(a)).collect();
    (batch, free, depth)
}

/// The product with its axes merged; `None` if a factor has to be copied first.
fn merged(d: &InstData, a: &Layout, b: &Layout, c: &Layout) -> Option<Product> {
    let (a_batch, a_free, a_depth) = roles(d, a, true);
    let (b_batch, b_free, b_depth) = roles(d, b, false);
    let nb = a_batch.len();
    let c_axes = |from: usize, n: usize| (from..from + n).collect::<Vec<_>>();
    let depth = Role::new(&[(a, a_depth), (b, b_depth)]);
    let rows = Role::new(&[(a, a_free.clone()), (c, c_axes(nb, a_free.len()))]);
    let cols = Role::new(&[(b, b_free.clone()), (c, c_axes(nb + a_free.len(), b_free.len()))]);
    let batch = Role::new(&[(a, a_batch), (b, b_batch), (c, c_axes(0, nb))]);
    let (k, k_strides) = depth.single()?;
    let (n, n_strides) = cols.single()?;
    let mut batch_strides = [batch.strides[0].clone(), batch.strides[1].clone(), batch.strides[2].clone()];
    let mut batch = batch.extents;
    // Rows that do not merge into one axis become batches that share the second factor.
    let (m, m_strides) = match rows.single() {
        Some(r) => r,
        None => {
            let inner = rows.extents.len() - 1;
            for i in 0..inner {
                batch.push(rows.extents[i].clone());
                batch_strides[0].push(rows.strides[0][i].clone());
                batch_strides[1].push(Dim::ZERO);
                batch_strides[2].push(rows.strides[1][i].clone());
            }
            (rows.extents[inner].clone(), vec![rows.strides[0][inner].clone(), rows.strides[1][inner].clone()])
        }
    };
    // Kernels take 0 for "absent" in places where an extent of 1 makes the stride meaningless.
    let stride = |s: &Dim, extent: &Dim, default: &Dim| if extent.is_one() { default.clone() } else { s.clone() };
    let one = Dim::ONE;
    let product = Product {
        a: [stride(&m_strides[0], &m, &k), stride(&k_strides[0], &k, &one)],
        b: [stride(&k_strides[1], &k, &n), stride(&n_strides[0], &n, &one)],
        c: [stride(&m_strides[1], &m, &n), stride(&n_strides[1], &n, &one)],
        m,
        n,
        k,
        batch,
        batch_strides,
    };
    (product.batch.len() <= 3).then_some(product)
}

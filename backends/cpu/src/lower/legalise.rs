//! Rewrites ops on types that the kernel library has no kernel for into ops it has.
//!
//! Half precision matrix and row work runs in f32 between casts. Wide and integer convolutions lose their padding and epilogue, so that
//! they become plain loops with reduced axes; row ops on f64 are taken apart.

use graphc_ir::builder::{Rewrite, rewrite, scalar_tensor};
use graphc_ir::epilogue::activation;
use graphc_ir::{Attrs, Builder, Dim, Elem, Func, Inst, InstData, Op, Tensor, Type, Value};
use graphc_passes::target::Target;

type Step = Result<Option<Vec<Value>>, String>;

/// Rewrites the whole function.
///
/// # Errors
/// If the function is not valid IR.
pub fn run(f: &mut Func, target: &dyn Target) -> Result<(), String> {
    let body = f.body;
    for _ in 0..8 {
        let n = rewrite(f, body, &mut |b: &mut Builder, i: Inst| -> Result<Rewrite, String> {
            let d = b.func.inst(i).clone();
            Ok(legalise(b, &d, target)?.map_or(Rewrite::Keep, Rewrite::Replace))
        })?;
        if n == 0 {
            return Ok(());
        }
    }
    Err("an op is rewritten without end".into())
}

fn legalise(b: &mut Builder, d: &InstData, target: &dyn Target) -> Step {
    let Some(&first) = d.operands.first() else { return Ok(None) };
    let elem = b.func.ty(first).elem;
    if d.op.has_epilogue() && d.attrs.elem("elem").is_some() {
        return Ok(None);
    }
    // The kernel's sums are f32.
    if d.op == Op::Pool2d && elem == Elem::BF16 && d.attrs.str("kind") != "sum" {
        return Ok(None);
    }
    let half = matches!(elem, Elem::F16 | Elem::BF16 | Elem::F8E4M3FN | Elem::F8E5M2);
    match d.op {
        // TensorFlow rounds to f16 between the product, the bias and the activation; bf16 it computes in one go.
        Op::Contract | Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d if elem == Elem::F16 && rounds_between(d) => {
            split_epilogue(b, d)
        }
        Op::Contract
        | Op::Conv2d
        | Op::Depthwise
        | Op::ConvTranspose2d
        | Op::Pool2d
        | Op::Softmax
        | Op::LayerNorm
        | Op::Attention
            if half =>
        {
            in_f32(b, d).map(Some)
        }
        Op::Resize if d.attrs.str("kind") == "bilinear" && elem != Elem::F32 => {
            let x = cast(b, first, Elem::F32)?;
            b.inst(Op::Resize, &[x], d.attrs.clone()).map(Some)
        }
        Op::Contract | Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d
            if (elem != Elem::F32 || !target.has_kernel(d.op)) && has_epilogue(d) =>
        {
            split_epilogue(b, d)
        }
        Op::Conv2d | Op::Depthwise if elem != Elem::F32 && padded(d) => {
            let x = pad_image(b, first, d, 0.0)?;
            let y = with_operands(b, d, &[x, d.operands[1]], without_padding(d))?;
            Ok(Some(vec![y]))
        }
        Op::ConvTranspose2d if elem != Elem::F32 || !target.has_kernel(d.op) => conv_of_transposed(b, d).map(|y| Some(vec![y])),
        Op::Pool2d if elem != Elem::F32 => pool(b, d, elem),
        Op::LayerNorm if elem == Elem::F64 => layer_norm(b, d).map(|y| Some(vec![y])),
        Op::Attention if elem == Elem::F64 || !target.has_kernel(d.op) => attention(b, d).map(|y| Some(vec![y])),
        Op::Gather | Op::GatherNd | Op::ScatterNd if !matches!(b.func.ty(d.operands[1]).elem, Elem::I32 | Elem::I64) => {
            wide_indices(b, d)
        }
        Op::GatherNd if d.attrs.int("batch_dims") > 0 => batch_as_indices(b, d),
        Op::Cast if elem == b.func.ty(d.results[0]).elem => Ok(Some(vec![first])),
        _ => Ok(None),
    }
}

/// `x` as `elem`; constants are converted here and now.
fn cast(b: &mut Builder, x: Value, elem: Elem) -> Result<Value, String> {
    if elem == Elem::F32
        && let Some(t) = b.func.const_of(x).filter(|t| matches!(t.elem(), Elem::F16 | Elem::BF16))
        && let Some(v) = t.to_reals()
    {
        let v: Vec<f32> = v.into_iter().map(|v| v as f32).collect();
        let t = Tensor::from_slice(t.shape(), &v).ok_or("a constant of another size")?;
        return Ok(b.constant(t));
    }
    b.cast(x, elem)
}

/// The op on f32, and its results cast back.
fn in_f32(b: &mut Builder, d: &InstData) -> Result<Vec<Value>, String> {
    let elem = b.func.ty(d.operands[0]).elem;
    let operands = d.operands.iter().map(|&v| cast(b, v, Elem::F32)).collect::<Result<Vec<_>, _>>()?;
    let types = d.results.iter().map(|&r| b.func.ty(r).with_elem(Elem::F32)).collect();
    let wide = b.inst_of(d.op, &operands, d.attrs.clone(), Vec::new(), types);
    wide.into_iter().map(|v| b.cast(v, elem)).collect()
}

fn has_epilogue(d: &InstData) -> bool {
    let a = &d.attrs;
    let act = !matches!(a.str("act"), "" | "none");
    act || a.flag("bias") || a.flag("residual") || ![0.0, 1.0].contains(&a.real("alpha"))
}

/// True if an epilogue gives something else when its operand is rounded first.
fn rounds_between(d: &InstData) -> bool {
    let a = &d.attrs;
    a.flag("bias") || a.flag("residual") || !matches!(a.str("act"), "" | "none" | "relu")
}

/// The bare op, and its epilogue as ops of their own.
fn split_epilogue(b: &mut Builder, d: &InstData) -> Step {
    let a = &d.attrs;
    let mut bare = a.clone();
    for key in ["bias", "residual", "residual_last", "act", "act_lo", "act_hi", "alpha"] {
        bare.remove(key);
    }
    let elem = b.func.ty(d.operands[0]).elem;
    let mut y = with_operands(b, d, &d.operands[..2], bare)?;
    if ![0.0, 1.0].contains(&a.real("alpha")) {
        let alpha = b.scalar(a.real("alpha"), elem)?;
        y = b.bin(Op::Mul, y, alpha)?;
    }
    let mut rest = d.operands[2..].iter();
    if let Some(&bias) = rest.next().filter(|_| a.flag("bias")) {
        y = b.bin(Op::Add, y, bias)?;
    }
    let residual = if a.flag("residual") { d.operands.last().copied() } else { None };
    if let Some(r) = residual.filter(|_| !a.flag("residual_last")) {
        y = b.bin(Op::Add, y, r)?;
    }
    if let Some((op, attrs)) = activation(a)? {
        y = b.op(op, &[y], attrs)?;
    }
    if let Some(r) = residual.filter(|_| a.flag("residual_last")) {
        y = b.bin(Op::Add, y, r)?;
    }
    Ok(Some(vec![y]))
}

fn with_operands(b: &mut Builder, d: &InstData, operands: &[Value], attrs: Attrs) -> Result<Value, String> {
    let ty = b.func.ty(d.results[0]).clone();
    Ok(b.inst_of(d.op, operands, attrs, Vec::new(), vec![ty])[0])
}

fn padded(d: &InstData) -> bool {
    d.attrs.dims("low").iter().chain(d.attrs.dims("high")).any(|p| !p.is_zero())
}

fn without_padding(d: &InstData) -> Attrs {
    d.attrs.clone().with("low", vec![Dim::ZERO; 2]).with("high", vec![Dim::ZERO; 2])
}

/// Rows and columns of an image padded as the op says.
fn pad_image(b: &mut Builder, x: Value, d: &InstData, value: f64) -> Result<Value, String> {
    let value = b.scalar(value, b.func.ty(x).elem)?;
    let side = |v: &[Dim]| [&[Dim::ZERO], v, &[Dim::ZERO]].concat();
    let attrs = Attrs::new().with("low", side(d.attrs.dims("low"))).with("high", side(d.attrs.dims("high")));
    b.op(Op::Pad, &[x, value], attrs)
}

/// A transposed convolution as a convolution of the image with zeros between its pixels.
fn conv_of_transposed(b: &mut Builder, d: &InstData) -> Result<Value, String> {
    let (x, f) = (d.operands[0], d.operands[1]);
    let shape = b.func.ty(x).shape.clone();
    let (elem, filter) = (b.func.ty(x).elem, b.func.ty(f).shape.clone());
    let strides = d.attrs.ints("strides").to_vec();
    let dilations = if d.attrs.ints("dilations").is_empty() { vec![1, 1] } else { d.attrs.ints("dilations").to_vec() };
    let zero = b.scalar(0.0, elem)?;
    let one = Dim::ONE;
    // [n, h, w, c] -> [n, h, s, w, s, c], where all but the first of each s are zero.
    let [n, h, w, c] = [0, 1, 2, 3].map(|i| shape[i].clone());
    let split = b.reshape(x, &[n.clone(), h.clone(), one.clone(), w.clone(), one.clone(), c.clone()])?;
    let [s_h, s_w] = [0, 1].map(|i| Dim::from(strides[i]));
    let high = vec![Dim::ZERO, Dim::ZERO, &s_h - &one, Dim::ZERO, &s_w - &one, Dim::ZERO];
    let spread = b.op(Op::Pad, &[split, zero], Attrs::new().with("low", vec![Dim::ZERO; 6]).with("high", high))?;
    let spread = b.reshape(spread, &[n.clone(), &h * &s_h, &w * &s_w, c.clone()])?;
    // What conv2d must see: (k - 1) * dilation more rows than the result has.
    let (mut low, mut high, mut size) = (vec![Dim::ZERO; 4], vec![Dim::ZERO; 4], vec![n, Dim::ZERO, Dim::ZERO, c]);
    for i in 0..2 {
        let reach = &(&filter[i] - &one) * &Dim::from(dilations[i]);
        let used = &(&(&shape[i + 1] - &one) * &Dim::from(strides[i])) + &one;
        low[i + 1] = &reach - &d.attrs.dims("low")[i];
        high[i + 1] = &(&(&d.attrs.dims("size")[i] + &reach) - &low[i + 1]) - &used;
        size[i + 1] = used;
    }
    let cut = b.op(Op::Slice, &[spread], Attrs::new().with("start", vec![Dim::ZERO; 4]).with("size", size))?;
    let padded = b.op(Op::Pad, &[cut, zero], Attrs::new().with("low", low).with("high", high))?;
    let turned = match b.func.const_of(f).and_then(turned_filter) {
        Some(t) => b.constant(t),
        None => {
            let turned = b.op(Op::Reverse, &[f], Attrs::new().with("axes", vec![0i64, 1]))?;
            b.transpose(turned, &[0, 1, 3, 2])?
        }
    };
    let attrs = Attrs::new().with("strides", vec![1i64, 1]).with("dilations", dilations);
    let attrs = attrs.with("low", vec![Dim::ZERO; 2]).with("high", vec![Dim::ZERO; 2]);
    let ty = b.func.ty(d.results[0]).clone();
    Ok(b.inst_of(Op::Conv2d, &[padded, turned], attrs, Vec::new(), vec![ty])[0])
}

/// A constant filter with its taps in the opposite order and its last axes swapped.
fn turned_filter(t: &Tensor) -> Option<Tensor> {
    let &[h, w, rows, columns] = t.shape() else { return None };
    let (bytes, size) = (t.bytes(), t.elem().size());
    let mut turned = Vec::with_capacity(bytes.len());
    for tap in (0..h * w).rev() {
        for c in 0..columns {
            for r in 0..rows {
                let at = ((tap * rows + r) * columns + c) * size;
                turned.extend_from_slice(bytes.get(at..at + size)?);
            }
        }
    }
    Tensor::from_bytes(t.elem(), vec![h, w, columns, rows], turned)
}

/// Pooling as reductions of windows without padding.
fn pool(b: &mut Builder, d: &InstData, elem: Elem) -> Step {
    let x = d.operands[0];
    let ty = b.func.ty(d.results[0]).clone();
    let reduce = |b: &mut Builder, x: Value, kind: &str, ty: Type| {
        b.inst_of(Op::Pool2d, &[x], without_padding(d).with("kind", kind), Vec::new(), vec![ty])[0]
    };
    match d.attrs.str("kind") {
        "max" if padded(d) => {
            let lowest = lowest(elem).ok_or_else(|| format!("no pooling of {elem}"))?;
            let x = pad_image(b, x, d, lowest)?;
            Ok(Some(vec![reduce(b, x, "max", ty)]))
        }
        "avg" => {
            let (shape, ones) =
                (b.func.ty(x).shape.clone(), scalar_tensor(1.0, elem).ok_or_else(|| format!("no pooling of {elem}"))?);
            let ones = b.constant(ones);
            let ones = b.broadcast(ones, &[Dim::ONE, shape[1].clone(), shape[2].clone(), Dim::ONE])?;
            let (x, ones) = if padded(d) { (pad_image(b, x, d, 0.0)?, pad_image(b, ones, d, 0.0)?) } else { (x, ones) };
            let count_ty = ty.with_shape(vec![Dim::ONE, ty.shape[1].clone(), ty.shape[2].clone(), Dim::ONE]);
            let (sum, count) = (reduce(b, x, "sum", ty), reduce(b, ones, "sum", count_ty));
            Ok(Some(vec![b.bin(Op::Div, sum, count)?]))
        }
        _ => Ok(None),
    }
}

fn lowest(elem: Elem) -> Option<f64> {
    Some(match elem {
        Elem::F64 => f64::NEG_INFINITY,
        Elem::I8 => i8::MIN as f64,
        Elem::I16 => i16::MIN as f64,
        Elem::I32 => i32::MIN as f64,
        Elem::I64 => i64::MIN as f64,
        Elem::U8 | Elem::U16 | Elem::U32 | Elem::U64 => 0.0,
        _ => return None,
    })
}

fn layer_norm(b: &mut Builder, d: &InstData) -> Result<Value, String> {
    let x = d.operands[0];
    let last = b.func.ty(x).rank().checked_sub(1).ok_or("layer_norm of a scalar")?;
    let elem = b.func.ty(x).elem;
    let mean = b.reduce("mean", x, &[last], true)?;
    let centred = b.bin(Op::Sub, x, mean)?;
    let square = b.bin(Op::Mul, centred, centred)?;
    let variance = b.reduce("mean", square, &[last], true)?;
    let eps = b.scalar(d.attrs.real("eps"), elem)?;
    let variance = b.bin(Op::Add, variance, eps)?;
    let scale = b.un(Op::Rsqrt, variance)?;
    let y = b.bin(Op::Mul, centred, scale)?;
    let y = b.bin(Op::Mul, y, d.operands[1])?;
    b.bin(Op::Add, y, d.operands[2])
}

fn attention(b: &mut Builder, d: &InstData) -> Result<Value, String> {
    let [q, k, v] = [d.operands[0], d.operands[1], d.operands[2]];
    let elem = b.func.ty(q).elem;
    let pairs = |lhs: i64, rhs: i64, lb: Vec<i64>, rb: Vec<i64>| {
        Attrs::new().with("lhs", vec![lhs]).with("rhs", vec![rhs]).with("lhs_batch", lb).with("rhs_batch", rb)
    };
    // [n, t, h, d] x [n, s, h, d] -> [n, h, t, s]
    let scores = b.op(Op::Contract, &[q, k], pairs(3, 3, vec![0, 2], vec![0, 2]))?;
    let scale = b.scalar(d.attrs.real("scale"), elem)?;
    let mut scores = b.bin(Op::Mul, scores, scale)?;
    if let Some(&mask) = d.operands.get(3) {
        scores = b.bin(Op::Add, scores, mask)?;
    }
    let p = b.un(Op::Softmax, scores)?;
    // [n, h, t, s] x [n, s, h, d] -> [n, h, t, d]
    let y = b.op(Op::Contract, &[p, v], pairs(3, 1, vec![0, 1], vec![0, 2]))?;
    b.transpose(y, &[0, 2, 1, 3])
}

/// Indices as i32 or i64, which the kernels take.
fn wide_indices(b: &mut Builder, d: &InstData) -> Step {
    let mut operands = d.operands.clone();
    operands[1] = b.cast(operands[1], Elem::I64)?;
    with_operands(b, d, &operands, d.attrs.clone()).map(|y| Some(vec![y]))
}

/// Index tuples that begin with the position along each batch axis.
fn batch_as_indices(b: &mut Builder, d: &InstData) -> Step {
    let ty = b.func.ty(d.operands[1]).clone();
    let mut shape = ty.shape.clone();
    *shape.last_mut().ok_or("indices without an axis")? = Dim::ONE;
    let mut columns = Vec::new();
    for axis in 0..d.attrs.int("batch_dims") {
        columns.push(b.op(Op::Iota, &[], Attrs::new().with("shape", shape.clone()).with("axis", axis).with("elem", ty.elem))?);
    }
    columns.push(d.operands[1]);
    let tuples = b.op(Op::Concat, &columns, Attrs::new().with("axis", ty.rank() - 1))?;
    with_operands(b, d, &[d.operands[0], tuples], Attrs::new()).map(|y| Some(vec![y]))
}

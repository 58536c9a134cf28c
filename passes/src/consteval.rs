//! Values of pure ops on constants: fast paths for what weights go through, the interpreter for the rest.

use graphc_ir::op::Body;
use graphc_ir::tape::{Bin, Cmp, Entry, T, Tape, Un};
use graphc_ir::{Attrs, Dim, Elem, Op, Tensor, Type};

/// The result of `op` on constants of one result of type `out`; `None` where no fast path fits.
pub fn fast(op: Op, x: &[&Tensor], attrs: &Attrs, out: &Type) -> Option<Tensor> {
    let shape = out.const_shape()?;
    match op {
        Op::Reshape => x[0].reshaped(&shape),
        Op::Transpose => {
            let strides = row_major(x[0].shape());
            let strides: Vec<usize> = attrs.sizes("perm").iter().map(|&p| strides.get(p).copied()).collect::<Option<_>>()?;
            gather_strided(x[0], &shape, 0, &strides)
        }
        Op::Broadcast => {
            let strides = broadcast_strides(x[0].shape(), &shape)?;
            gather_strided(x[0], &shape, 0, &strides)
        }
        Op::Slice => slice(x[0], &shape, attrs),
        Op::Concat => concat(x, &shape, attrs.size("axis")),
        Op::Cast if attrs.elem("elem") == Some(Elem::F32) && matches!(x[0].elem(), Elem::F16 | Elem::BF16) => {
            let v: Vec<f32> = match x[0].elem() {
                Elem::F16 => x[0].as_slice::<half::f16>()?.iter().map(|v| v.to_f32()).collect(),
                _ => x[0].as_slice::<half::bf16>()?.iter().map(|v| v.to_f32()).collect(),
            };
            Tensor::from_slice(&shape, &v)
        }
        _ => elementwise_f32(op, x, attrs, &shape),
    }
}

/// Element strides of a row-major shape.
fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    strides
}

/// Strides that walk `from` as if repeated to `to`.
fn broadcast_strides(from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let skip = to.len().checked_sub(from.len())?;
    let own = row_major(from);
    (0..to.len())
        .map(|i| match i.checked_sub(skip) {
            Some(k) if from[k] == to[i] => Some(own[k]),
            Some(k) if from[k] != 1 => None,
            _ => Some(0),
        })
        .collect()
}

/// The elements of `x` at `offset + sum(index * strides)` for each index of `shape`. The caller keeps them inside `x`.
fn gather_strided(x: &Tensor, shape: &[usize], offset: usize, strides: &[usize]) -> Option<Tensor> {
    fn walk<const N: usize>(src: &[u8], out: &mut Vec<u8>, shape: &[usize], strides: &[usize], at: usize) -> Option<()> {
        let ([n, shape @ ..], [step, strides @ ..]) = (shape, strides) else {
            out.extend_from_slice(src.get(at * N..at * N + N)?);
            return Some(());
        };
        if shape.is_empty() {
            if *step == 1 {
                out.extend_from_slice(src.get(at * N..(at + n) * N)?);
                return Some(());
            }
            for i in 0..*n {
                let k = (at + i * step) * N;
                let e: &[u8; N] = src.get(k..k + N)?.try_into().ok()?;
                out.extend_from_slice(e);
            }
            return Some(());
        }
        (0..*n).try_for_each(|i| walk::<N>(src, out, shape, strides, at + i * step))
    }
    let elements = graphc_ir::tensor::element_count(shape)?;
    let size = x.elem().size();
    let mut out = Vec::with_capacity(elements.checked_mul(size)?);
    if elements > 0 {
        let walk = match size {
            1 => walk::<1>,
            2 => walk::<2>,
            4 => walk::<4>,
            8 => walk::<8>,
            16 => walk::<16>,
            _ => return None,
        };
        walk(x.bytes(), &mut out, shape, strides, offset)?;
    }
    Tensor::from_bytes(x.elem(), shape.to_vec(), out)
}

fn slice(x: &Tensor, shape: &[usize], attrs: &Attrs) -> Option<Tensor> {
    let own = row_major(x.shape());
    let mut offset = 0;
    let mut strides = Vec::with_capacity(shape.len());
    for (k, start) in attrs.dims("start").iter().enumerate() {
        let start = usize::try_from(start.as_const()?).ok()?;
        let step = usize::try_from(attrs.ints("stride").get(k).copied().unwrap_or(1)).ok()?;
        if shape[k] > 0 && start.checked_add((shape[k] - 1).checked_mul(step)?)? >= x.shape()[k] {
            return None;
        }
        offset += start * own[k];
        strides.push(own[k] * step);
    }
    gather_strided(x, shape, offset, &strides)
}

fn concat(x: &[&Tensor], shape: &[usize], axis: usize) -> Option<Tensor> {
    let size = x[0].elem().size();
    if size == 0 {
        return None;
    }
    let outer: usize = shape.get(..axis)?.iter().product();
    let mut out = Vec::with_capacity(graphc_ir::tensor::element_count(shape)? * size);
    for i in 0..outer {
        for t in x {
            let n = t.bytes().len() / outer;
            out.extend_from_slice(t.bytes().get(i * n..(i + 1) * n)?);
        }
    }
    Tensor::from_bytes(x[0].elem(), shape.to_vec(), out)
}

/// Ops whose f32 result is the rounded exact one (or a sum of such steps), so that the interpreter gives the same.
fn is_cheap(e: &Entry) -> bool {
    match e {
        Entry::Load(_) | Entry::Const(_) | Entry::Select(..) | Entry::Cmp(..) | Entry::Fma(..) => true,
        Entry::Un(op, _) => matches!(op, Un::Neg | Un::Abs | Un::Sqrt | Un::Floor | Un::Ceil | Un::Round | Un::Trunc),
        Entry::Bin(op, ..) => matches!(op, Bin::Add | Bin::Sub | Bin::Mul | Bin::Div | Bin::Max | Bin::Min),
        _ => false,
    }
}

/// Runs the tape of an op on f32 operands, block by block.
fn elementwise_f32(op: Op, x: &[&Tensor], attrs: &Attrs, shape: &[usize]) -> Option<Tensor> {
    const BLOCK: usize = 512;
    let Body::Elementwise(body) = op.def().body else { return None };
    if x.iter().any(|t| t.elem() != Elem::F32) {
        return None;
    }
    let mut tape = Tape::default();
    let loads: Vec<T> = (0..x.len()).map(|k| tape.load(k as u32, Elem::F32)).collect();
    let result = body(&mut tape, &loads, attrs);
    if tape.elem(result) != Elem::F32
        || !tape.entries().iter().all(|(e, elem)| is_cheap(e) && matches!(elem, Elem::F32 | Elem::Bool))
    {
        return None;
    }
    let n = graphc_ir::tensor::element_count(shape)?;
    if let (Entry::Bin(op @ (Bin::Mul | Bin::Add), ..), [a, b], 3) = (tape.entry(result), x, tape.entries().len())
        && a.len() == n
        && shape.ends_with(b.shape())
        && b.len() >= 8
    {
        let (a, b) = ((*a).clone(), (*b).clone());
        return Tensor::deferred(Elem::F32, shape.to_vec(), move || match op {
            Bin::Mul => rows_f32(&a, &b, |x, y| x * y),
            _ => rows_f32(&a, &b, |x, y| x + y),
        });
    }
    // Operands as walks over blocks: whole, one value, or repeated along the leading axes; anything else is spread out first.
    let spread: Vec<Option<Tensor>> = x
        .iter()
        .map(|t| {
            let suffix = t.shape().iter().skip_while(|d| **d == 1).copied().collect::<Vec<_>>();
            match t.len() == 1 || shape.ends_with(&suffix) {
                true => Some(None),
                false => gather_strided(t, shape, 0, &broadcast_strides(t.shape(), shape)?).map(Some),
            }
        })
        .collect::<Option<_>>()?;
    let inputs = x.iter().zip(&spread).map(|(t, s)| s.as_ref().unwrap_or(t).as_slice::<f32>()).collect::<Option<Vec<_>>>()?;
    let mut regs = vec![[0f32; BLOCK]; tape.entries().len()];
    let mut out = Vec::with_capacity(n * size_of::<f32>());
    let mut bytes = [0; BLOCK * size_of::<f32>()];
    let mut at = 0;
    while at < n {
        let len = BLOCK.min(n - at);
        for (k, (e, _)) in tape.entries().iter().enumerate() {
            let (done, rest) = regs.split_at_mut(k);
            run(e, &inputs, at, done, &mut rest[0][..len]);
        }
        for (b, v) in bytes.chunks_exact_mut(size_of::<f32>()).zip(&regs[result.index()][..len]) {
            b.copy_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&bytes[..len * size_of::<f32>()]);
        at += len;
    }
    Tensor::from_bytes(Elem::F32, shape.to_vec(), out)
}

/// `f` of each row of `a` with `b`, both f32: the scaling of weights, which must not cost more than reading them.
fn rows_f32(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32) -> Vec<u8> {
    const SIZE: usize = size_of::<f32>();
    let (a, b) = (a.bytes(), b.as_slice::<f32>().unwrap_or_default());
    // Not zeroed first: that would be another pass over fresh memory.
    let mut out = Vec::with_capacity(a.len());
    for row in a.chunks_exact(b.len().max(1) * SIZE) {
        let at = out.len();
        out.extend_from_slice(row);
        for (x, y) in out[at..].chunks_exact_mut(SIZE).zip(b.iter()) {
            x.copy_from_slice(&f(f32::from_le_bytes([x[0], x[1], x[2], x[3]]), *y).to_le_bytes());
        }
    }
    out
}

/// One entry over a block that starts at element `at`. Bools are held as 0 and 1.
fn run(e: &Entry, inputs: &[std::borrow::Cow<[f32]>], at: usize, done: &[[f32; 512]], out: &mut [f32]) {
    let reg = |t: T| done[t.index()].iter();
    let mut un = |x: T, f: fn(f32) -> f32| out.iter_mut().zip(reg(x)).for_each(|(o, x)| *o = f(*x));
    match *e {
        Entry::Un(Un::Neg, x) => un(x, |x| -x),
        Entry::Un(Un::Abs, x) => un(x, f32::abs),
        Entry::Un(Un::Sqrt, x) => un(x, f32::sqrt),
        Entry::Un(Un::Floor, x) => un(x, f32::floor),
        Entry::Un(Un::Ceil, x) => un(x, f32::ceil),
        Entry::Un(Un::Round, x) => un(x, f32::round_ties_even),
        Entry::Un(_, x) => un(x, f32::trunc),
        Entry::Const(v) => out.fill(v as f32),
        Entry::Load(k) => {
            let src = &inputs[k as usize];
            match src.len() {
                1 => out.fill(src[0]),
                n if at + out.len() <= n => out.copy_from_slice(&src[at..at + out.len()]),
                n => {
                    let (mut k, mut done) = (at % n, 0);
                    while done < out.len() {
                        let len = (n - k).min(out.len() - done);
                        out[done..done + len].copy_from_slice(&src[k..k + len]);
                        (done, k) = (done + len, 0);
                    }
                }
            }
        }
        Entry::Bin(op, x, y) => {
            let f: fn(f32, f32) -> f32 = match op {
                Bin::Add => |x, y| x + y,
                Bin::Sub => |x, y| x - y,
                Bin::Mul => |x, y| x * y,
                Bin::Div => |x, y| x / y,
                Bin::Max => |x, y| if x >= y || x.is_nan() { x } else { y },
                _ => |x, y| if x <= y || x.is_nan() { x } else { y },
            };
            out.iter_mut().zip(reg(x)).zip(reg(y)).for_each(|((o, x), y)| *o = f(*x, *y));
        }
        Entry::Cmp(op, x, y) => {
            let f: fn(f32, f32) -> bool = match op {
                Cmp::Eq => |x, y| x == y,
                Cmp::Ne => |x, y| x != y,
                Cmp::Lt => |x, y| x < y,
                Cmp::Le => |x, y| x <= y,
                Cmp::Gt => |x, y| x > y,
                Cmp::Ge => |x, y| x >= y,
            };
            out.iter_mut().zip(reg(x)).zip(reg(y)).for_each(|((o, x), y)| *o = f(*x, *y) as u8 as f32);
        }
        Entry::Select(c, x, y) => {
            out.iter_mut().zip(reg(c)).zip(reg(x)).zip(reg(y)).for_each(|(((o, c), x), y)| *o = if *c != 0.0 { *x } else { *y });
        }
        Entry::Fma(x, y, z) => out.iter_mut().zip(reg(x)).zip(reg(y)).zip(reg(z)).for_each(|(((o, x), y), z)| *o = x * y + z),
        Entry::ConstInt(_) | Entry::Index(_) | Entry::Cast(_) => {}
    }
}

/// Elements of a shape that is constant.
pub fn const_elements(shape: &[Dim]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(d.as_const()?).ok()?))
}

/// The results of `op` by the interpreter; `None` where it fails, so that the failure stays one of the program's run.
pub fn oracle(op: Op, x: &[&Tensor], attrs: &Attrs) -> Option<Vec<Tensor>> {
    let x: Vec<Tensor> = x.iter().map(|&t| t.clone()).collect();
    graphc_ir::interp::eval_inst(op, attrs, &x, &|_| None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_slice(shape, &(0..n).map(|i| (i as f32 * 0.37 + 0.1).sin() * 3.0).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn fast_paths_agree_with_the_interpreter() {
        let (big, row, column, one) = (ramp(&[30, 7, 11]), ramp(&[11]), ramp(&[7, 1]), ramp(&[]));
        let two = [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Max, Op::Min];
        let mut cases: Vec<(Op, Vec<&Tensor>, Attrs)> = Vec::new();
        for op in two {
            for y in [&big, &row, &column, &one] {
                cases.push((op, vec![&big, y], Attrs::new()));
                cases.push((op, vec![y, &big], Attrs::new()));
            }
        }
        for op in [Op::Neg, Op::Abs, Op::Floor, Op::Ceil, Op::Round, Op::Trunc, Op::Relu] {
            cases.push((op, vec![&big], Attrs::new()));
        }
        let squares = ramp(&[40]);
        let squares = fast(Op::Mul, &[&squares, &squares], &Attrs::new(), &squares.ty()).unwrap();
        cases.push((Op::Sqrt, vec![&squares], Attrs::new()));
        cases.push((Op::Clamp, vec![&big], Attrs::new().with("lo", -0.5).with("hi", 1.0)));
        cases.push((Op::LeakyRelu, vec![&big], Attrs::new().with("alpha", 0.25)));
        cases.push((Op::Transpose, vec![&big], Attrs::new().with("perm", vec![2usize, 0, 1])));
        cases.push((Op::Concat, vec![&big, &big], Attrs::new().with("axis", 1i64)));
        let dims = |v: &[i64]| v.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        let part = Attrs::new().with("start", dims(&[3, 1, 0])).with("size", dims(&[9, 6, 4])).with("stride", vec![3i64, 1, 2]);
        cases.push((Op::Slice, vec![&big], part));
        cases.push((Op::Broadcast, vec![&column], Attrs::new().with("shape", dims(&[2, 7, 3]))));
        cases.push((Op::Reshape, vec![&big], Attrs::new().with("shape", dims(&[21, 110]))));
        for (op, x, attrs) in cases {
            let types: Vec<Type> = x.iter().map(|t| t.ty()).collect();
            let out = (op.def().infer)(&types.iter().collect::<Vec<_>>(), &attrs).unwrap().remove(0);
            let have = fast(op, &x, &attrs, &out).unwrap_or_else(|| panic!("no fast path for {}", op.name()));
            let want = oracle(op, &x, &attrs).unwrap().remove(0);
            assert!(have.ty() == want.ty() && have.as_slice::<f32>() == want.as_slice::<f32>(), "{}", op.name());
        }
    }
}

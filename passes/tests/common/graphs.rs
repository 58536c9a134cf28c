//! Random graphs, in f64, so that reordered sums do not blur a comparison.

use super::{batch, conv_attrs, module, noise64};
use graphc_ir::{Attrs, Builder, Dim, Elem, Module, Op, Value};

/// Adds one instruction that the numbers choose, on values made before. Choices that do not fit are skipped.
fn step(b: &mut Builder, values: &[Value], (op, which, other, extra): (u8, u8, u8, u8)) -> Option<Value> {
    let at = |k: u8| values[values.len() - 1 - k as usize % values.len().min(5)];
    let (x, y) = (at(which), at(other));
    let ty = b.func.ty(x).clone();
    let rank = ty.rank();
    let seed = op as u64 * 7 + extra as u64;
    let axis = extra as usize % rank.max(1);
    let fixed = |d: &Dim| d.as_const().map(|d| d as usize);
    let last = ty.shape.last().and_then(fixed);
    let scalar = |b: &mut Builder, v: f64| b.scalar(v, Elem::F64).ok();
    match op % 36 {
        0 | 1 => b.bin([Op::Add, Op::Sub, Op::Mul, Op::Max][extra as usize % 4], x, y).ok(),
        2 => b.un(Op::Relu, x).ok(),
        3 => b.un([Op::Tanh, Op::Sigmoid, Op::Neg, Op::Abs][extra as usize % 4], x).ok(),
        4 | 5 => {
            let c = b.constant(noise64(&[last?], seed));
            b.bin([Op::Add, Op::Mul, Op::Sub, Op::Min][extra as usize % 4], x, c).ok()
        }
        6 => {
            let c = scalar(b, [0.0, 1.0, -1.0, 0.5, 2.0, 6.0][extra as usize % 6])?;
            let op = [Op::Add, Op::Mul, Op::Sub, Op::Max, Op::Min][which as usize % 5];
            if other.is_multiple_of(2) { b.bin(op, x, c).ok() } else { b.bin(op, c, x).ok() }
        }
        7..=9 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.rotate_left(axis);
            if other.is_multiple_of(2) && rank > 1 {
                perm.swap(0, rank - 1);
            }
            b.transpose(x, &perm).ok()
        }
        10 if extra.is_multiple_of(2) && rank >= 2 => {
            let rows: Dim = ty.shape[..rank - 1].iter().product();
            b.reshape(x, &[Dim::ONE, rows, ty.shape[rank - 1].clone(), Dim::ONE]).ok()
        }
        10 => {
            let flat = &ty.shape[..rank - rank.min(1)];
            let rows: Dim = flat.iter().product();
            b.reshape(x, &[rows, ty.shape.last()?.clone()]).ok()
        }
        11 => b.reshape(x, &[&ty.shape[..axis], &[Dim::ONE], &ty.shape[axis..]].concat()).ok().filter(|_| rank < 5),
        12 if rank == 4 && other.is_multiple_of(2) => {
            let w = b.constant(noise64(&[1, 1, last?, 4], seed));
            b.op(Op::Conv2d, &[x, w], conv_attrs(1 + (which % 2) as i64, 0, 0)).ok()
        }
        12 => {
            let shape: Vec<Dim> = ty.shape.iter().filter(|d| !d.is_one()).cloned().collect();
            b.reshape(x, &shape).ok().filter(|_| !shape.is_empty())
        }
        13 | 14 if rank == 4 => {
            let w = b.constant(noise64(&[1 + extra as usize % 3, 3, last?, 4], seed));
            b.op(Op::Conv2d, &[x, w], conv_attrs(1 + (which % 2) as i64, 1, 1)).ok()
        }
        15 if rank == 4 => {
            let w = b.constant(noise64(&[3, 3, last?, 1 + extra as usize % 2], seed));
            b.op(Op::Depthwise, &[x, w], conv_attrs(1, 1, 1)).ok()
        }
        16 if rank == 4 => {
            let kind = ["max", "avg"][extra as usize % 2];
            b.op(Op::Pool2d, &[x], conv_attrs(1, 0, 0).with("kind", kind).with("window", vec![2i64, 2])).ok()
        }
        17 => {
            let w = b.constant(noise64(&[last?, 8], seed));
            b.op(Op::Contract, &[x, w], Attrs::new().with("lhs", vec![rank - 1]).with("rhs", vec![0usize])).ok()
        }
        18 if rank >= 3 && last == Some(4) => {
            let w = b.constant(noise64(&[4, 2, 4], seed));
            b.op(Op::Contract, &[x, w], Attrs::new().with("lhs", vec![rank - 1]).with("rhs", vec![2 * (extra as usize % 2)])).ok()
        }
        19 if rank >= 2 => {
            // x · yᵀ over the last axis, with the leading ones as batch.
            let batch: Vec<usize> = (0..rank - 2).collect();
            let a = Attrs::new().with("lhs", vec![rank - 1]).with("rhs", vec![rank - 1]);
            b.op(Op::Contract, &[x, y], a.with("lhs_batch", batch.clone()).with("rhs_batch", batch)).ok()
        }
        20 | 21 => {
            b.reduce(["sum", "mean", "max"][which as usize % 3], x, &[axis], other.is_multiple_of(2)).ok().filter(|_| rank > 1)
        }
        22 => {
            let n = fixed(&ty.shape[axis])?;
            let mut start = vec![Dim::ZERO; rank];
            let mut size = ty.shape.clone();
            start[axis] = Dim::from(n / 3);
            size[axis] = Dim::from(n.div_ceil(2));
            b.op(Op::Slice, &[x], Attrs::new().with("start", start).with("size", size)).ok()
        }
        23 => b.op(Op::Concat, &[x, y], Attrs::new().with("axis", axis)).ok(),
        24 => {
            let zero = scalar(b, 0.0)?;
            let mut low = vec![Dim::ZERO; rank];
            let mut high = low.clone();
            for k in (1..rank.saturating_sub(1)).chain((extra > 200).then_some(rank - 1)) {
                low[k] = Dim::from((other % 2) as i64);
                high[k] = Dim::ONE;
            }
            b.op(Op::Pad, &[x, zero], Attrs::new().with("low", low).with("high", high)).ok()
        }
        25 => b.un(Op::Softmax, x).ok(),
        26 => {
            let mean = b.reduce("mean", x, &[rank - 1], true).ok()?;
            let d = b.bin(Op::Sub, x, mean).ok()?;
            let sq = b.bin(Op::Mul, d, d).ok()?;
            let var = b.reduce("mean", sq, &[rank - 1], true).ok()?;
            let eps = scalar(b, 0.1)?;
            let v = b.bin(Op::Add, var, eps).ok()?;
            let r = b.un(Op::Rsqrt, v).ok()?;
            b.bin(Op::Mul, d, r).ok()
        }
        27 => {
            let (zero, c) = (scalar(b, 0.0)?, scalar(b, 0.3)?);
            let (p, low) = (b.bin(Op::Gt, x, zero).ok()?, b.bin(Op::Mul, x, c).ok()?);
            b.op(Op::Select, &[p, x, low], Attrs::new()).ok()
        }
        28 => {
            let s = b.un(Op::Sigmoid, x).ok()?;
            b.bin(Op::Mul, s, x).ok()
        }
        29 => {
            let six = scalar(b, 6.0)?;
            let (r, three) = (b.un(Op::Relu, x).ok()?, scalar(b, 3.0)?);
            let r = b.bin(Op::Min, r, six).ok()?;
            b.bin(Op::Div, r, three).ok()
        }
        30 => b.broadcast(x, &b.func.ty(y).shape.clone()).ok(),
        31 => {
            let same = b.cast(x, Elem::F64).ok()?;
            b.un(Op::Softplus, same).ok()
        }
        32 => {
            let shape = [&[Dim::ONE], &ty.shape[1..rank.max(1)]].concat();
            let zeros = vec![Dim::ZERO; rank];
            let part = b.op(Op::Slice, &[x], Attrs::new().with("start", zeros).with("size", shape)).ok()?;
            b.bin(Op::Add, x, part).ok()
        }
        33 => b.op(Op::Reverse, &[x], Attrs::new().with("axes", vec![axis])).ok(),
        _ => {
            let c = b.constant(noise64(&[fixed(&ty.shape[axis])?], seed));
            let mut shape = vec![Dim::ONE; rank];
            shape[axis] = ty.shape[axis].clone();
            let c = b.reshape(c, &shape).ok()?;
            b.bin([Op::Add, Op::Mul][which as usize % 2], x, c).ok()
        }
    }
}

/// A function of two f64 inputs with an open batch, one instruction for each step that fits.
pub fn graph(steps: &[(u8, u8, u8, u8)]) -> Module {
    module(&[batch(&[5, 6, 4]), batch(&[6, 4])].map(|t| t.with_elem(Elem::F64)), |b, x| {
        let mut values = x.to_vec();
        for &s in steps {
            let made = b.insts.len();
            match step(b, &values, s)
                .filter(|&v| b.func.ty(v).elements().eval(&|_| Some(3)).is_some_and(|n| (1..5000).contains(&n)))
            {
                Some(v) => values.push(v),
                None => b.insts.truncate(made),
            }
        }
        let n = values.len();
        Ok(values[n.saturating_sub(2)..].to_vec())
    })
}

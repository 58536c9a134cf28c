//! Symbolic content of integer values: what an op gives when its operands are known as expressions of the symbols.

use graphc_ir::dim::Atom;
use graphc_ir::{Attrs, Dim, Elem, Op, Sym, Type};

/// Whether an integer type (or bool) holds `v`.
pub fn fits(elem: Elem, v: i64) -> bool {
    let bits = match elem {
        Elem::Bool => return v == 0 || v == 1,
        Elem::I64 => return true,
        Elem::U64 => return v >= 0,
        Elem::I8 | Elem::U8 => 8,
        Elem::I16 | Elem::U16 => 16,
        Elem::I32 | Elem::U32 => 32,
        _ => return false,
    };
    if elem.is_unsigned_int() { (0..1i64 << bits).contains(&v) } else { (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&v) }
}

/// Operands of an evaluation: their types and contents.
type Operand = (Type, Vec<Dim>);

/// The content of the result `ty` of an op on known operands; None if it is not an expression of the symbols (or would wrap).
pub fn eval(op: Op, xs: &[Operand], attrs: &Attrs, ty: &Type) -> Option<Vec<Dim>> {
    if !(ty.elem.is_int() || ty.elem == Elem::Bool) {
        return None;
    }
    let shape = ty.const_shape()?;
    let out = match op {
        Op::Reshape => xs[0].1.clone(),
        Op::Cast => xs[0].1.iter().map(|d| cast(d, ty.elem)).collect::<Option<_>>()?,
        Op::Neg | Op::Abs | Op::Not | Op::Relu | Op::Sign => {
            xs[0].1.iter().map(|d| unary(op, d, ty.elem)).collect::<Option<_>>()?
        }
        Op::Reduce => reduce(&xs[0], attrs, &shape)?,
        Op::Concat => concat(xs, attrs.size("axis"))?,
        Op::Iota => indices(&shape).map(|i| Dim::from(i[attrs.size("axis")])).collect(),
        Op::Select => {
            let x: Vec<_> = xs.iter().map(|x| broadcast(x, &shape)).collect::<Option<_>>()?;
            (0..x[0].len()).map(|i| choose(&x[0][i], &x[1][i], &x[2][i])).collect::<Option<_>>()?
        }
        Op::Transpose | Op::Broadcast | Op::Slice | Op::Reverse | Op::Gather => {
            let source = source_index(op, xs, attrs)?;
            let from = xs[0].0.const_shape()?;
            indices(&shape).map(|i| xs[0].1.get(flat(&from, &source(&i)?)).cloned()).collect::<Option<_>>()?
        }
        _ if xs.len() == 2 && op.is_elementwise() => {
            let (x, y) = (broadcast(&xs[0], &shape)?, broadcast(&xs[1], &shape)?);
            x.iter().zip(&y).map(|(x, y)| binary(op, x, y, xs[0].0.elem)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let symbolic = matches!(ty.elem, Elem::I32 | Elem::I64);
    // Arithmetic that reaches the ends of i64 may have saturated; the op itself wraps.
    let computes = op.is_elementwise() && op != Op::Cast || op == Op::Reduce;
    let ends = |c: i64| computes && ty.elem == Elem::I64 && (c == i64::MIN || c == i64::MAX);
    out.iter().all(|d| d.as_const().map_or(symbolic, |c| fits(ty.elem, c) && !ends(c))).then_some(out)
}

fn truth(b: bool) -> Option<Dim> {
    Some(Dim::from(b as i64))
}

fn cast(d: &Dim, to: Elem) -> Option<Dim> {
    match (to, d.as_const()) {
        (Elem::Bool, Some(c)) => truth(c != 0),
        (Elem::Bool, None) if d.sign() == Some(1) => truth(true),
        (Elem::Bool, None) => None,
        _ => Some(d.clone()),
    }
}

fn unary(op: Op, d: &Dim, elem: Elem) -> Option<Dim> {
    match op {
        Op::Neg => Some(&Dim::ZERO - d),
        Op::Abs if d.never_negative() => Some(d.clone()),
        Op::Abs => Some(Dim::from(d.as_const()?.checked_abs()?)),
        Op::Relu => Some(d.at_least(&Dim::ZERO)),
        Op::Sign => Some(Dim::from(d.as_const()?.signum())),
        Op::Not if elem == Elem::Bool => truth(d.as_const()? == 0),
        Op::Not => Some(Dim::from(!d.as_const()?)),
        _ => None,
    }
}

fn binary(op: Op, x: &Dim, y: &Dim, elem: Elem) -> Option<Dim> {
    let diff = || {
        let d = x - y;
        (d.sign(), (y - x).sign(), d.is_zero())
    };
    // Rounded to zero is rounded down where both are positive or zero.
    let natural = || (x.never_negative() && y.sign() == Some(1)).then_some(());
    let nonzero = || (y.sign().is_some_and(|s| s != 0)).then_some(());
    let constants = || Some((x.as_const()?, y.as_const()?));
    match op {
        Op::Add => Some(x + y),
        Op::Sub => Some(x - y),
        Op::Mul => Some(x * y),
        Op::Div => match constants() {
            Some((x, y)) => x.checked_div(y).map(Dim::from),
            None => natural().map(|()| x.floor_div(y)),
        },
        Op::FloorDiv => nonzero().map(|()| x.floor_div(y)),
        Op::Mod => nonzero().map(|()| x.rem(y)),
        Op::Rem => match constants() {
            Some((x, y)) => x.checked_rem(y).map(Dim::from),
            None => natural().map(|()| x.rem(y)),
        },
        Op::Max => Some(x.at_least(y)),
        Op::Min => Some(x.at_most(y)),
        Op::Pow => {
            let (x, y) = constants()?;
            x.checked_pow(u32::try_from(y).ok()?).map(Dim::from)
        }
        Op::Eq | Op::Ne => match diff() {
            (_, _, true) => truth(op == Op::Eq),
            (Some(1 | -1), _, _) | (_, Some(1 | -1), _) => truth(op == Op::Ne),
            _ => None,
        },
        Op::Ge | Op::Lt => match diff() {
            (Some(0 | 1), ..) => truth(op == Op::Ge),
            (Some(_), ..) | (_, Some(1), _) => truth(op == Op::Lt),
            _ => None,
        },
        Op::Le | Op::Gt => match diff() {
            (_, Some(0 | 1), _) => truth(op == Op::Le),
            (_, Some(_), _) | (Some(1), ..) => truth(op == Op::Gt),
            _ => None,
        },
        // Bools and integers are held alike, so the bitwise forms serve both.
        Op::And => match constants() {
            Some((x, y)) => Some(Dim::from(x & y)),
            None => (elem == Elem::Bool && (x.is_zero() || y.is_zero())).then_some(Dim::ZERO),
        },
        Op::Or => constants().map(|(x, y)| Dim::from(x | y)),
        Op::Xor => constants().map(|(x, y)| Dim::from(x ^ y)),
        _ => None,
    }
}

fn choose(c: &Dim, x: &Dim, y: &Dim) -> Option<Dim> {
    match c.as_const() {
        Some(0) => Some(y.clone()),
        Some(_) => Some(x.clone()),
        None => (x == y).then(|| x.clone()),
    }
}

fn reduce((ty, x): &Operand, attrs: &Attrs, shape: &[usize]) -> Option<Vec<Dim>> {
    let from = ty.const_shape()?;
    let axes = attrs.sizes("axes");
    let keep = attrs.flag("keep");
    let fold: fn(&Dim, &Dim) -> Dim = match attrs.str("kind") {
        "sum" => |a, b| a + b,
        "prod" => |a, b| a * b,
        "max" => |a, b| a.at_least(b),
        "min" => |a, b| a.at_most(b),
        "all" => |a, b| a * b,
        "any" => |a, b| a.at_least(b),
        _ => return None,
    };
    let empty = match attrs.str("kind") {
        "sum" | "any" => Some(Dim::ZERO),
        "prod" | "all" => Some(Dim::ONE),
        _ => None,
    };
    let mut out: Vec<Option<Dim>> = vec![None; shape.iter().product()];
    for (k, i) in indices(&from).enumerate() {
        let at: Vec<usize> = i
            .iter()
            .enumerate()
            .filter(|(a, _)| keep || !axes.contains(a))
            .map(|(a, &v)| if axes.contains(&a) { 0 } else { v })
            .collect();
        let slot = out.get_mut(flat(shape, &at))?;
        *slot = Some(match slot.take() {
            Some(d) => fold(&d, x.get(k)?),
            None => x.get(k)?.clone(),
        });
    }
    out.into_iter().map(|d| d.or_else(|| empty.clone())).collect()
}

fn concat(xs: &[Operand], axis: usize) -> Option<Vec<Dim>> {
    let shapes: Vec<Vec<usize>> = xs.iter().map(|(t, _)| t.const_shape()).collect::<Option<_>>()?;
    let outer: usize = shapes[0].get(..axis)?.iter().product();
    let mut out = Vec::new();
    for o in 0..outer {
        for ((_, d), s) in xs.iter().zip(&shapes) {
            let n: usize = s[axis..].iter().product();
            out.extend_from_slice(d.get(o * n..(o + 1) * n)?);
        }
    }
    Some(out)
}

/// From an index of the result to an index of an operand.
type Source<'a> = Box<dyn Fn(&[usize]) -> Option<Vec<usize>> + 'a>;

/// Where the element at an index of the result comes from in the first operand.
fn source_index<'a>(op: Op, xs: &'a [Operand], attrs: &'a Attrs) -> Option<Source<'a>> {
    let from = xs[0].0.const_shape()?;
    Some(match op {
        Op::Transpose => {
            let perm = attrs.sizes("perm");
            Box::new(move |i| {
                let mut at = vec![0; i.len()];
                perm.iter().zip(i).for_each(|(&p, &v)| at[p] = v);
                Some(at)
            })
        }
        Op::Broadcast => Box::new(move |i| {
            let skip = i.len() - from.len();
            Some(i[skip..].iter().zip(&from).map(|(&v, &d)| if d == 1 { 0 } else { v }).collect())
        }),
        Op::Slice => {
            let start: Vec<usize> =
                attrs.dims("start").iter().map(|d| usize::try_from(d.as_const()?).ok()).collect::<Option<_>>()?;
            let stride = attrs.sizes("stride");
            Box::new(move |i| {
                Some(i.iter().enumerate().map(|(a, &v)| start[a] + v * stride.get(a).copied().unwrap_or(1)).collect())
            })
        }
        Op::Reverse => {
            let axes = attrs.sizes("axes");
            Box::new(move |i| {
                Some(i.iter().enumerate().map(|(a, &v)| if axes.contains(&a) { from[a] - 1 - v } else { v }).collect())
            })
        }
        Op::Gather if attrs.int("batch_dims") == 0 => {
            let axis = attrs.size("axis");
            let index_shape = xs[1].0.const_shape()?;
            Box::new(move |i| {
                let k = index_shape.len();
                let at = usize::try_from(xs[1].1.get(flat(&index_shape, &i[axis..axis + k]))?.as_const()?).ok()?;
                (at < from[axis]).then(|| [&i[..axis], &[at], &i[axis + k..]].concat())
            })
        }
        _ => return None,
    })
}

/// Content repeated to a shape.
fn broadcast((ty, x): &Operand, shape: &[usize]) -> Option<Vec<Dim>> {
    let from = ty.const_shape()?;
    if from == shape {
        return Some(x.clone());
    }
    debug_assert!(from.len() <= shape.len());
    let skip = shape.len() - from.len();
    indices(shape)
        .map(|i| {
            let at: Vec<usize> = i[skip..].iter().zip(&from).map(|(&v, &d)| if d == 1 { 0 } else { v }).collect();
            x.get(flat(&from, &at)).cloned()
        })
        .collect()
}

/// All indices of a shape, row-major.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let n: usize = shape.iter().product();
    (0..n).map(|mut k| {
        let mut i = vec![0; shape.len()];
        for (a, &d) in shape.iter().enumerate().rev() {
            i[a] = k % d;
            k /= d;
        }
        i
    })
}

fn flat(shape: &[usize], i: &[usize]) -> usize {
    shape.iter().zip(i).fold(0, |k, (&d, &v)| k * d + v)
}

/// A symbol and what it must be for `zero` to be 0: one that stands in a single term, alone, and whose coefficient divides the others.
/// Prefers a constant, then the last symbol by name.
pub fn solve(zero: &Dim) -> Option<(Sym, Dim)> {
    let mut best: Option<(Sym, Dim)> = None;
    for t in zero.terms() {
        let [Atom::Sym(s)] = t.atoms.as_slice() else { continue };
        let term = &Dim::sym(s.clone()) * &Dim::from(t.coef);
        let rest = &term - zero;
        let mut elsewhere = false;
        rest.for_each_sym(&mut |o| elsewhere |= o == s);
        if elsewhere {
            continue;
        }
        let coef = Dim::from(t.coef);
        let q = rest.floor_div(&coef);
        if &q * &coef != rest || q.sign() == Some(-1) {
            continue;
        }
        let better = best.as_ref().is_none_or(|(b, d)| (q.as_const().is_some(), s) > (d.as_const().is_some(), b));
        if better {
            best = Some((s.clone(), q));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sym(name: &str) -> Dim {
        Dim::sym(Sym::new(name))
    }

    #[test]
    fn equations_are_solved_for_one_symbol() {
        let (n, m) = (sym("n"), sym("m"));
        assert_eq!(solve(&(&n - &Dim::from(3i64))), Some((Sym::new("n"), Dim::from(3i64))));
        assert_eq!(solve(&(&n - &m)), Some((Sym::new("n"), m.clone())));
        assert_eq!(solve(&(&(&n * &Dim::from(2i64)) - &Dim::from(7i64))), None);
        assert_eq!(solve(&(&n + &Dim::from(7i64))), None);
        assert_eq!(solve(&(&(&n * &m) - &Dim::from(7i64))), None);
    }

    #[test]
    fn shape_arithmetic() {
        let n = sym("n");
        let vector = |d: &[Dim]| (Type::of(Elem::I32, &[d.len()]), d.to_vec());
        let shape = vector(&[n.clone(), Dim::from(4i64)]);
        let a = Attrs::new().with("kind", "prod").with("axes", vec![0i64]);
        assert_eq!(eval(Op::Reduce, std::slice::from_ref(&shape), &a, &Type::scalar(Elem::I32)), Some(vec![&n * &Dim::from(4i64)]));
        let a = Attrs::new().with("start", vec![Dim::ONE]).with("size", vec![Dim::ONE]);
        assert_eq!(eval(Op::Slice, std::slice::from_ref(&shape), &a, &Type::of(Elem::I32, &[1])), Some(vec![Dim::from(4i64)]));
        let minus = vector(&[Dim::from(-1i64), Dim::from(-1i64)]);
        let eq = eval(Op::Eq, &[shape.clone(), minus], &Attrs::new(), &Type::of(Elem::Bool, &[2]));
        assert_eq!(eq, Some(vec![Dim::ZERO, Dim::ZERO]));
    }
}

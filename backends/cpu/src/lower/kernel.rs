//! Launches of library kernels.

use super::layout::{Layout, collapse};
use super::{Fail, Lowering, push_unique};
use graphc_abi::args::{self, FieldKind, data::elem};
use graphc_ir::{Dim, Elem, Loc};
use graphc_passes::plan::{Arg, Buf, StepKind};

/// Fields `d0..d7` and the like.
pub const D: [&str; 8] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];
pub const S: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
pub const T: [&str; 8] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"];
pub const P: [&str; 8] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];
pub const A: [&str; 8] = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7"];
pub const B: [&str; 8] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];

/// A launch being put together.
pub struct Kernel {
    symbol: &'static str,
    args: Vec<(&'static str, Arg)>,
    in_place: Vec<(Buf, Buf)>,
    /// Outputs that are changed rather than overwritten.
    updates: Vec<Buf>,
}

impl Kernel {
    pub fn new(symbol: &'static str) -> Kernel {
        Kernel { symbol, args: Vec::new(), in_place: Vec::new(), updates: Vec::new() }
    }

    /// The address of `l`'s first element.
    pub fn buf(mut self, field: &'static str, l: &Layout) -> Kernel {
        self.args.push((field, Arg::Buf { buf: l.buf, offset: l.offset.clone() }));
        self
    }

    /// A whole buffer.
    pub fn whole(mut self, field: &'static str, buf: Buf) -> Kernel {
        self.args.push((field, Arg::Buf { buf, offset: Dim::ZERO }));
        self
    }

    pub fn dim(mut self, field: &'static str, d: &Dim) -> Kernel {
        self.args.push((field, Arg::Int(d.clone())));
        self
    }

    pub fn int(self, field: &'static str, v: i64) -> Kernel {
        self.dim(field, &Dim::from(v))
    }

    pub fn flag(self, field: &'static str, v: bool) -> Kernel {
        self.int(field, v as i64)
    }

    pub fn real(mut self, field: &'static str, v: f64) -> Kernel {
        self.args.push((field, Arg::Real(v)));
        self
    }

    pub fn dims(self, fields: &[&'static str; 8], values: &[Dim]) -> Kernel {
        fields.iter().zip(values).fold(self, |k, (&f, d)| k.dim(f, d))
    }

    /// `out` may be the same memory as `input`, which must hold as many bytes.
    pub fn in_place(mut self, out: &Layout, input: &Layout) -> Kernel {
        if out.buf != input.buf && out.offset.is_zero() && input.offset.is_zero() {
            self.in_place.push((out.buf, input.buf));
        }
        self
    }

    /// The kernel reads what the output `l` held before.
    pub fn updates(mut self, l: &Layout) -> Kernel {
        self.updates.push(l.buf);
        self
    }
}

/// The code of an element type in kernel arguments.
pub fn elem_code(e: Elem) -> Result<i64, Fail> {
    Ok(match e {
        Elem::F32 => elem::F32,
        Elem::F64 => elem::F64,
        Elem::F16 => elem::F16,
        Elem::BF16 => elem::BF16,
        Elem::I8 | Elem::I4 | Elem::QI8 => elem::I8,
        Elem::I16 | Elem::QI16 => elem::I16,
        Elem::I32 | Elem::QI32 => elem::I32,
        Elem::I64 => elem::I64,
        Elem::U8 | Elem::U4 | Elem::QU8 => elem::U8,
        Elem::U16 | Elem::QU16 => elem::U16,
        Elem::U32 => elem::U32,
        Elem::U64 => elem::U64,
        Elem::Bool => elem::BOOL,
        Elem::C64 => elem::C64,
        Elem::C128 => elem::C128,
        _ => return Err(format!("no kernel for elements of type {e}")),
    })
}

impl Lowering<'_> {
    /// Adds the launch to the schedule; reads and writes follow from the kernel's signature.
    pub(super) fn launch(&mut self, k: Kernel, loc: &Loc) -> Result<(), Fail> {
        let sig = args::signature(k.symbol).ok_or_else(|| format!("the library has no kernel {}", k.symbol))?;
        let (mut reads, mut writes) = (k.updates, Vec::new());
        for (name, arg) in &k.args {
            let field = sig.fields.iter().find(|f| f.name == *name).ok_or_else(|| format!("{} takes no {name}", k.symbol))?;
            match (arg, field.kind) {
                (Arg::Buf { buf, .. }, FieldKind::In) => push_unique(&mut reads, *buf),
                (Arg::Buf { buf, .. }, FieldKind::Out) => push_unique(&mut writes, *buf),
                (Arg::Int(_), FieldKind::Int) | (Arg::Real(_), FieldKind::Real) => {}
                _ => return Err(format!("{} takes another kind of {name}", k.symbol)),
            }
        }
        // A buffer that is read in two ways cannot be overwritten on the way.
        let in_place = k
            .in_place
            .into_iter()
            .filter(|(_, input)| k.args.iter().filter(|(_, a)| matches!(a, Arg::Buf { buf, .. } if buf == input)).count() == 1)
            .collect();
        self.push_step(StepKind::Kernel { symbol: k.symbol, args: k.args }, reads, writes, in_place, loc);
        Ok(())
    }

    /// Copies `from` to `to`, which has the same shape and element size.
    pub(super) fn copy(&mut self, from: &Layout, to: &Layout, loc: &Loc) -> Result<(), Fail> {
        let size = from.elem.size() as i64;
        let rank = from.shape.len();
        if to.is_dense()
            && rank > 1
            && let Some((source, perm)) = as_transpose(from)
        {
            let mut extents = source.shape.clone();
            let perm = merge_transpose(&mut extents, &perm);
            if extents.len() <= 8 && extents.len() > 1 {
                let perm: Vec<Dim> = perm.into_iter().map(Dim::from).collect();
                let k = Kernel::new("gc_transpose").buf("x", from).buf("y", to).int("size", size).int("rank", extents.len() as i64);
                return self.launch(k.dims(&D, &extents).dims(&P, &perm), loc);
            }
        }
        let mut extents = from.shape.clone();
        let mut strides = [from.strides.clone(), to.strides.clone()];
        collapse(&mut extents, &mut strides, &[]);
        if extents.len() > 8 {
            return Err(format!("a copy over {} axes that do not merge", extents.len()));
        }
        let k = Kernel::new("gc_copy_strided")
            .whole("x", from.buf)
            .whole("y", to.buf)
            .int("size", size)
            .int("rank", extents.len() as i64)
            .dim("x_offset", &from.offset)
            .dim("y_offset", &to.offset);
        let whole = from.is_dense() && to.is_dense() && self.plan.buffer(from.buf).bytes() == self.plan.buffer(to.buf).bytes();
        let k = if whole { k.in_place(to, from) } else { k };
        self.launch(k.dims(&D, &extents).dims(&S, &strides[0]).dims(&T, &strides[1]), loc)
    }

    /// Sets all of the dense `to` to the bits `value`.
    pub(super) fn fill(&mut self, to: &Layout, value: u128, loc: &Loc) -> Result<(), Fail> {
        let n: Dim = to.shape.iter().product();
        let k = Kernel::new("gc_fill").buf("y", to).int("size", to.elem.size() as i64).dim("n", &n);
        self.launch(k.int("value", value as i64).int("value_high", (value >> 64) as i64), loc)
    }
}

/// If `l` is a dense tensor with its axes permuted: that tensor, and which of its axes each axis of `l` is.
fn as_transpose(l: &Layout) -> Option<(Layout, Vec<usize>)> {
    let rank = l.shape.len();
    // Order the axes so that each one's stride is the product of the extents behind it.
    let mut order: Vec<usize> = Vec::new();
    let mut expect = Dim::ONE;
    for _ in 0..rank {
        let free = |a: &usize| !order.contains(a);
        let next = (0..rank).rev().filter(free).find(|&a| l.shape[a].is_one());
        let a = next.or_else(|| (0..rank).rev().filter(free).find(|&a| l.strides[a] == expect))?;
        expect = &expect * &l.shape[a];
        order.push(a);
    }
    order.reverse();
    let source = l.transposed(&order);
    let mut perm = vec![0; rank];
    order.iter().enumerate().for_each(|(i, &a)| perm[a] = i);
    Some((source, perm))
}

/// Drops axes of extent 1 and joins source axes that stay neighbours; returns the permutation of what is left.
fn merge_transpose(extents: &mut Vec<Dim>, perm: &[usize]) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &p in perm.iter().filter(|&&p| !extents[p].is_one()) {
        match groups.last_mut() {
            Some(g) if g.last().is_some_and(|&l| (l + 1..p).all(|a| extents[a].is_one()) && l < p) => g.push(p),
            _ => groups.push(vec![p]),
        }
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&g| groups[g][0]);
    let merged: Vec<Dim> = order.iter().map(|&g| groups[g].iter().map(|&a| &extents[a]).product()).collect();
    *extents = merged;
    (0..groups.len()).map(|g| order.iter().position(|&o| o == g).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc_ir::Type;

    #[test]
    fn recognises_transposes() {
        let l = Layout::dense(Buf(0), &Type::of(Elem::F32, &[2, 3, 4, 1, 5])).transposed(&[0, 4, 3, 1, 2]);
        let (source, perm) = as_transpose(&l).unwrap();
        let mut e = source.shape;
        assert_eq!(merge_transpose(&mut e, &perm), [0, 2, 1]);
        assert_eq!(e, [2i64, 12, 5].map(Dim::from));
        assert!(as_transpose(&l.sliced(&[Dim::ZERO; 5], &[2, 1, 1, 1, 1], &l.shape)).is_none());
    }
}

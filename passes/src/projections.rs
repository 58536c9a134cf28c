//! Products of a sequence's items move in front of the loop over them.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::{Attrs, Builder, Dim, Func, Inst, InstData, Module, Op, Region, Value};
use hashbrown::{HashMap, HashSet};

/// Where a loop counts through a sequence and multiplies each item by the same matrix, multiplies the whole sequence in front of the loop:
/// the input projections of a recurrent network, of which each would read all weights for a few rows.
///
/// ```text
/// while i < n { x = gather xs, i; p = contract x, w; … }    =>    ps = contract xs, w; while i < n { p = gather ps, i; … }
/// ```
///
/// A matrix that multiplies the item and the state one behind the other is cut in two, as TensorFlow 1's cells have it:
/// `contract concat(x, h), w` is `contract x, w_x` and `contract h, w_h`.
///
/// Leaves no such product. Runs after [`crate::regions`], which moves what does not change out of loops, and before epilogues.
pub struct Projections;

impl Pass for Projections {
    fn name(&self) -> &'static str {
        "projections"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        let mut changed = 0;
        for f in &mut m.funcs {
            let mut forward = HashMap::new();
            let n = region(f, f.body, &mut forward);
            f.replace_uses(&forward);
            if n > 0 {
                crate::dce::run_func(f);
            }
            changed += n;
        }
        Ok(changed)
    }
}

/// Moves the products of loops in a region and in those inside it; the values they become are in `forward`.
fn region(f: &mut Func, r: Region, forward: &mut HashMap<Value, Value>) -> usize {
    let mut changed = 0;
    let mut new = Vec::new();
    for i in std::mem::take(&mut f.region_mut(r).insts) {
        for inner in f.inst(i).regions.clone() {
            changed += region(f, inner, forward);
        }
        if let Some(before) = Loop::of(f, i).and_then(|l| l.project(f, forward)) {
            changed += 1;
            new.extend(before);
        }
        new.push(i);
    }
    f.region_mut(r).insts = new;
    changed
}

/// A loop with counters.
struct Loop {
    body: Region,
    /// Parameters of the body that count up to the dimension, from zero in steps of one.
    counters: Vec<(Value, Dim)>,
}

impl Loop {
    /// The loop that an instruction is, if it has counters.
    fn of(f: &Func, i: Inst) -> Option<Loop> {
        let d = f.inst(i);
        let (Op::While, &[test, body]) = (d.op, d.regions.as_slice()) else { return None };
        let [test, inside] = [f.region(test), f.region(body)];
        let is = |v: Value, n: i64| f.const_of(v).and_then(|t| t.to_ints()).is_some_and(|t| t == [n]);
        let mut counters = Vec::new();
        for &i in &test.insts {
            let bound = f.inst(i);
            let (Op::Lt, &[at, end]) = (bound.op, bound.operands.as_slice()) else { continue };
            let Some(k) = test.params.iter().position(|&p| p == at) else { continue };
            let counts = f.def_op(inside.results[k], Op::Add).is_some_and(|next| {
                let [x, y] = [next.operands[0], next.operands[1]];
                x == inside.params[k] && is(y, 1) || y == inside.params[k] && is(x, 1)
            });
            if let Some(end) = extent(f, end).filter(|_| counts && is(d.operands[k], 0)) {
                counters.push((inside.params[k], end));
            }
        }
        (!counters.is_empty()).then_some(Loop { body, counters })
    }

    /// Moves products out of the body; what comes before the loop then.
    fn project(&self, f: &mut Func, forward: &mut HashMap<Value, Value>) -> Option<Vec<Inst>> {
        let mut inside: HashSet<Value> = f.region(self.body).params.iter().copied().collect();
        inside.extend(f.region(self.body).insts.iter().flat_map(|&i| f.inst(i).results.clone()));
        let (mut before, mut new) = (Vec::new(), Vec::new());
        for i in std::mem::take(&mut f.region_mut(self.body).insts) {
            let made = self.projected(f, i, &inside);
            if let Some(Projected { outside, here, value }) = made {
                forward.insert(f.inst(i).results[0], value);
                before.extend(outside);
                new.extend(here);
            } else {
                new.push(i);
            }
        }
        f.region_mut(self.body).insts = new;
        (!before.is_empty()).then_some(before)
    }

    /// What takes the place of a product of an item and a matrix from outside, of which `inside` is nothing.
    fn projected(&self, f: &mut Func, i: Inst, inside: &HashSet<Value>) -> Option<Projected> {
        let d = f.inst(i).clone();
        let (Op::Contract, &[x, w]) = (d.op, d.operands.as_slice()) else { return None };
        let plain = ["lhs_batch", "rhs_batch", "alpha", "act"].iter().all(|name| d.attrs.get(name).is_none());
        let &[axis] = d.attrs.ints("lhs") else { return None };
        if !plain || inside.contains(&w) {
            return None;
        }
        let axis = usize::try_from(axis).ok()?;
        if let Some(item) = self.item(f, x, inside) {
            return item.times(f, &d, axis, w);
        }
        // The item with other values behind or before it.
        let all = f.def_op(x, Op::Concat).filter(|c| c.attrs.int("axis") == axis as i64)?.clone();
        let at = all.operands.iter().position(|&v| self.item(f, v, inside).is_some())?;
        let &[along] = d.attrs.ints("rhs") else { return None };
        let along = usize::try_from(along).ok()?;
        let mut sum: Option<Projected> = None;
        let mut start = Dim::ZERO;
        for (k, &part) in all.operands.iter().enumerate() {
            let size = f.ty(part).shape[axis].clone();
            let mut b = Builder::new(f, d.loc.clone());
            let shape = b.func.ty(w).shape.clone();
            let (mut from, mut extent) = (vec![Dim::ZERO; shape.len()], shape);
            (from[along], extent[along]) = (start.clone(), size.clone());
            let attrs = Attrs::new().with("start", from).with("size", extent);
            let rows = b.op(Op::Slice, &[w], attrs).ok()?;
            let mut outside = std::mem::take(&mut b.insts);
            let one = if k == at {
                let product = self.item(f, part, inside)?.times(f, &d, axis, rows)?;
                outside.extend(product.outside);
                Projected { outside, ..product }
            } else {
                let mut b = Builder::new(f, d.loc.clone());
                let value = b.op(Op::Contract, &[part, rows], d.attrs.clone()).ok()?;
                Projected { outside, here: b.insts, value }
            };
            sum = Some(match sum {
                None => one,
                Some(sum) => sum.plus(f, one, &d)?,
            });
            start = &start + &size;
        }
        sum
    }

    /// The item that a value is of a sequence from outside, through which the loop counts.
    fn item(&self, f: &Func, x: Value, inside: &HashSet<Value>) -> Option<Item> {
        let d = f.def_op(x, Op::Gather)?;
        let &[sequence, at] = d.operands.as_slice() else { return None };
        let first = d.attrs.int("axis") == 0;
        let through = self.counters.iter().any(|(counter, end)| *counter == at && f.ty(sequence).shape.first() == Some(end));
        (first && through && !inside.contains(&sequence)).then(|| Item { sequence, at, attrs: d.attrs.clone() })
    }
}

/// An item of a sequence.
struct Item {
    sequence: Value,
    at: Value,
    attrs: Attrs,
}

impl Item {
    /// The product of the item's axis with a matrix, which the contraction `d` describes.
    fn times(&self, f: &mut Func, d: &InstData, axis: usize, w: Value) -> Option<Projected> {
        let mut b = Builder::new(f, d.loc.clone());
        let attrs = d.attrs.clone().with("lhs", vec![axis as i64 + 1]);
        let all = b.op(Op::Contract, &[self.sequence, w], attrs).ok()?;
        let outside = std::mem::take(&mut b.insts);
        let value = b.op(Op::Gather, &[all, self.at], self.attrs.clone()).ok()?;
        Some(Projected { outside, here: b.insts, value })
    }
}

/// What takes the place of a product.
struct Projected {
    /// In front of the loop.
    outside: Vec<Inst>,
    /// In the product's place.
    here: Vec<Inst>,
    value: Value,
}

impl Projected {
    fn plus(mut self, f: &mut Func, other: Projected, d: &InstData) -> Option<Projected> {
        self.outside.extend(other.outside);
        self.here.extend(other.here);
        let mut b = Builder::new(f, d.loc.clone());
        let value = b.bin(Op::Add, self.value, other.value).ok()?;
        self.here.extend(b.insts);
        Some(Projected { value, ..self })
    }
}

/// The number that a scalar is: a constant or a size.
fn extent(f: &Func, v: Value) -> Option<Dim> {
    if let Some(t) = f.const_of(v) {
        return t.to_ints()?.first().map(|&n| Dim::from(n));
    }
    match f.def_op(v, Op::Dims)?.attrs.dims("dims") {
        [one] => Some(one.clone()),
        _ => None,
    }
}

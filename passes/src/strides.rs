//! Strides move back to where the work is.

use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::{Attrs, Dim, Func, Inst, Module, Op, Region, Type, Value};
use hashbrown::HashMap;

/// Where all readers of a convolution are 1x1 convolutions of one stride, which skip most of what it computes, the convolution takes the
/// stride and they have none. Its residual is taken with that stride. (ResNet's stages begin like that.)
///
/// Leaves no such convolution. Runs after epilogues are in place.
pub struct Strides;

impl Pass for Strides {
    fn name(&self) -> &'static str {
        "strides"
    }

    fn run(&self, m: &mut Module, _: &PassCx) -> Result<usize, Diag> {
        Ok(m.funcs.iter_mut().map(|f| run_region(f, f.body)).sum())
    }
}

/// Readers of each value as operand 0 of an instruction of the region; `None` where it is read in any other way.
fn readers(f: &Func, r: Region) -> HashMap<Value, Option<Vec<Inst>>> {
    let mut out: HashMap<Value, Option<Vec<Inst>>> = HashMap::new();
    for &i in &f.region(r).insts {
        for (k, &v) in f.inst(i).operands.iter().enumerate() {
            let entry = out.entry(v).or_insert_with(|| Some(Vec::new()));
            match entry {
                Some(list) if k == 0 => list.push(i),
                _ => *entry = None,
            }
        }
        for &inner in &f.inst(i).regions {
            let mut block = |v: Value| drop(out.insert(v, None));
            f.region(inner).results.iter().for_each(|&v| block(v));
            f.walk(inner, &mut |f, _, i| {
                let d = f.inst(i);
                let results = d.regions.iter().flat_map(|&r| &f.region(r).results);
                d.operands.iter().chain(results).for_each(|&v| block(v));
            });
        }
    }
    for &v in &f.region(r).results {
        out.insert(v, None);
    }
    out
}

/// The strides of a 1x1 convolution without padding that skips elements.
fn skips(f: &Func, i: Inst) -> Option<[i64; 2]> {
    let d = f.inst(i);
    let window = f.ty(*d.operands.get(1)?).shape.get(..2)?;
    let padded = d.attrs.dims("low").iter().chain(d.attrs.dims("high")).any(|p| !p.is_zero());
    let strides: [i64; 2] = d.attrs.ints("strides").try_into().ok()?;
    (d.op == Op::Conv2d && window.iter().all(Dim::is_one) && !padded && strides != [1, 1]).then_some(strides)
}

fn run_region(f: &mut Func, r: Region) -> usize {
    let readers = readers(f, r);
    let insts = f.region(r).insts.clone();
    let mut sliced: HashMap<Inst, Inst> = HashMap::new();
    let mut changed = 0;
    // From the end, so that a stride moves through a whole chain.
    for &i in insts.iter().rev() {
        if !matches!(f.inst(i).op, Op::Conv2d | Op::Depthwise) {
            continue;
        }
        let Some(Some(list)) = readers.get(&f.inst(i).results[0]) else { continue };
        let Some(strides) = list.first().and_then(|&c| skips(f, c)) else { continue };
        if list.iter().all(|&c| skips(f, c) == Some(strides))
            && let Some(slice) = take_stride(f, i, list, strides)
        {
            changed += 1;
            sliced.extend(slice.map(|s| (i, s)));
        }
    }
    if !sliced.is_empty() {
        f.region_mut(r).insts = insts.iter().flat_map(|i| sliced.get(i).copied().into_iter().chain([*i])).collect();
    }
    changed
}

/// Gives the stride of `list` to `i`. The slice of its residual, if it has one; `None` if types do not come out equal.
fn take_stride(f: &mut Func, i: Inst, list: &[Inst], [sh, sw]: [i64; 2]) -> Option<Option<Inst>> {
    let d = f.inst(i).clone();
    let &[h, w] = d.attrs.ints("strides") else { return None };
    let attrs = d.attrs.clone().with("strides", vec![h.checked_mul(sh)?, w.checked_mul(sw)?]);
    let infer = |op: Op, types: &[&Type], a: &Attrs| (op.def().infer)(types, a).ok()?.pop();
    // The type of the result, from the bare op.
    let bare = {
        let mut a = attrs.clone();
        ["bias", "residual"].into_iter().for_each(|key| a.remove(key));
        infer(d.op, &[f.ty(d.operands[0]), f.ty(d.operands[1])], &a)?
    };
    for &c in list {
        let reader = f.inst(c);
        let a = reader.attrs.clone().with("strides", vec![1i64, 1]);
        let types: Vec<&Type> = std::iter::once(&bare).chain(reader.operands[1..].iter().map(|&v| f.ty(v))).collect();
        if infer(reader.op, &types, &a)? != *f.ty(reader.results[0]) {
            return None;
        }
    }
    let slice = if d.attrs.flag("residual") {
        let a = Attrs::new().with("start", vec![Dim::ZERO; 4]).with("size", bare.shape.clone()).with("stride", vec![1, sh, sw, 1]);
        let residual = *d.operands.last()?;
        let s = f.make_inst(Op::Slice, vec![residual], a, Vec::new(), vec![bare.clone()], d.loc.clone());
        let v = f.inst(s).results[0];
        *f.inst_mut(i).operands.last_mut()? = v;
        Some(s)
    } else {
        None
    };
    f.inst_mut(i).attrs = attrs;
    f.value_mut(d.results[0]).ty = bare;
    for &c in list {
        f.inst_mut(c).attrs.set("strides", vec![1i64, 1]);
    }
    Some(slice)
}

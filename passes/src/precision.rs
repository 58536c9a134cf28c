//! Matrix work in bf16, where that is asked for.

use crate::cse::Cse;
use crate::pass::{Diag, Pass, PassCx};
use graphc_ir::builder::{Rewrite, rewrite};
use graphc_ir::{Builder, Dim, Elem, Func, Inst, InstData, Loc, Module, Op, Region, Tensor, Value};
use half::bf16;
use hashbrown::{HashMap, HashSet};

/// In what numbers an f32 model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// Factors of products and convolutions with constant weights are rounded to bf16 (8 significant bits), and so is what goes from
    /// one of them to the next. Sums, and everything else, are f32. Needs a processor that multiplies bf16. On GPUs all factors of products
    /// and convolutions are rounded, and nothing else.
    Bf16,
    /// Factors of products and convolutions may be rounded to tf32 (11 significant bits), as GPUs do; sums, and everything else, are f32.
    Tf32,
    /// As the model says, but products and convolutions whose factors it fake-quantises to 8 bits multiply integers. Needs a processor
    /// that does so fast.
    Int8,
    /// f32, but large products by one level of Strassen's algorithm: faster, with errors about twice as large and 7/4 of the weights.
    Strassen,
}

/// With [`Precision::Bf16`] and a target that multiplies bf16, gives f32 contractions and convolutions of constant weights bf16 factors.
/// Results that only such work reads, perhaps after elementwise ops, are bf16 too.
///
/// Leaves none with f32 factors that the kernels for bf16 compute: an even inner extent, and enough columns. Depthwise
/// convolutions between them read and write bf16. Runs after epilogues are in
/// place and before loops are fused, which take up the casts.
pub struct Precise;

impl Pass for Precise {
    fn name(&self) -> &'static str {
        "precision"
    }

    fn run(&self, m: &mut Module, cx: &PassCx) -> Result<usize, Diag> {
        if cx.precision != Precision::Bf16 || !cx.target.has_bf16_dots() {
            return Ok(0);
        }
        let mut changed = 0;
        for f in &mut m.funcs {
            changed += narrow(f).map_err(|message| Diag { pass: self.name(), loc: Loc::default(), message })?;
        }
        if changed > 0 {
            Cse.run(m, cx)?;
            m.funcs.iter_mut().for_each(|f| widen_apart(f, f.body));
        }
        Ok(changed)
    }
}

/// Least inner extent (of one tap and group), and least number of columns, that are worth it.
const LEAST_DEPTH: i64 = 16;
const LEAST_COLUMNS: i64 = 16;
/// Most channels of an image that is convolved line by line, and most numbers of such a line.
const FEW_CHANNELS: i64 = 24;
const LONGEST_LINE: i64 = 12_000;
/// Elementwise ops through which a result is followed.
const CHAIN: usize = 8;

/// True for f32 work that the kernels compute over small numbers, `per_word` of them in the place of an f32.
pub(crate) fn eligible(f: &Func, d: &InstData, per_word: i64) -> bool {
    let (Op::Contract | Op::Conv2d, [x, w, ..]) = (d.op, d.operands.as_slice()) else { return false };
    let (x, shape) = (f.ty(*x), &f.ty(*w).shape);
    if x.elem != Elem::F32 || d.attrs.elem("elem").is_some() || f.const_of(*w).is_none() {
        return false;
    }
    let (depth, columns) = match (d.op, shape.as_slice()) {
        (Op::Conv2d, [height, width, depth, columns]) => {
            let groups = d.attrs.int("groups").max(1);
            let dilated = d.attrs.ints("dilations").get(1).is_some_and(|&v| v != 1);
            let sizes = [height, width, depth, &x.shape[2]].map(Dim::as_const);
            // One channel is a signal as it was recorded: no other rounds its errors away, and it costs little.
            if per_word == 2 && sizes[2] == Some(1) && groups == 1 {
                return false;
            }
            // The taps of a kernel row count as one of all their channels.
            if let ([Some(height), Some(width), Some(depth), Some(line)], 1, false) = (sizes, groups, dilated)
                && width > 1
                && depth <= FEW_CHANNELS
                && line * depth <= LONGEST_LINE
            {
                return height * width * depth >= LEAST_DEPTH && columns.as_const().is_some_and(|n| n >= LEAST_COLUMNS);
            }
            (depth, columns.floor_div(&Dim::from(groups)))
        }
        (Op::Contract, _) => match plain_product(f, d) {
            Some(product) => (product.depth, product.columns.clone()),
            None => return false,
        },
        _ => return false,
    };
    let deep = depth.as_const().is_some_and(|k| k >= LEAST_DEPTH && k % per_word == 0);
    deep && columns.as_const().is_some_and(|n| n >= LEAST_COLUMNS)
}

/// A contraction of the last axis of the first factor with one axis of a matrix.
pub(crate) struct PlainProduct<'f> {
    pub depth: &'f Dim,
    pub columns: &'f Dim,
    /// The matrix lies `[columns, depth]`.
    pub turned: bool,
}

pub(crate) fn plain_product<'f>(f: &'f Func, d: &InstData) -> Option<PlainProduct<'f>> {
    let (Op::Contract, &[x, w, ..]) = (d.op, d.operands.as_slice()) else { return None };
    let [rows, columns] = f.ty(w).shape.as_slice() else { return None };
    let plain = d.attrs.ints("lhs_batch").is_empty() && [0.0, 1.0].contains(&d.attrs.real("alpha"));
    let last = f.ty(x).rank().checked_sub(1).is_some_and(|last| d.attrs.sizes("lhs") == [last]);
    match d.attrs.ints("rhs") {
        [0] if plain && last => Some(PlainProduct { depth: rows, columns, turned: false }),
        [1] if plain && last => Some(PlainProduct { depth: columns, columns: rows, turned: true }),
        _ => None,
    }
}

pub(crate) fn is_max_pool(d: &InstData) -> bool {
    d.op == Op::Pool2d && d.attrs.str("kind") == "max"
}

/// True for an f32 depthwise convolution of a result of `work`, as the kernel for bf16 computes it.
fn follows(f: &Func, work: &HashSet<Inst>, d: &InstData) -> bool {
    let (Op::Depthwise, [x, w, ..]) = (d.op, d.operands.as_slice()) else { return false };
    let single = f.ty(*w).shape.get(3).is_some_and(Dim::is_one);
    let plain = single && f.ty(*x).elem == Elem::F32 && !d.attrs.flag("residual") && d.attrs.elem("elem").is_none();
    plain && f.def_inst(*x).is_some_and(|i| work.contains(&i))
}

/// Who reads each value, and as which operand; values that leave a region are in the set.
pub(crate) type Readers = (HashMap<Value, Vec<(Inst, usize)>>, HashSet<Value>);

pub(crate) fn readers(f: &Func) -> Readers {
    let (mut readers, mut leaving): Readers = Default::default();
    leaving.extend(f.results().iter().copied());
    f.walk(f.body, &mut |f, _, i| {
        let d = f.inst(i);
        d.operands.iter().enumerate().for_each(|(k, &v)| readers.entry(v).or_default().push((i, k)));
        d.regions.iter().for_each(|&r| leaving.extend(f.region(r).results.iter().copied()));
    });
    (readers, leaving)
}

/// True if `v` goes nowhere but into work on bf16, through at most `depth` elementwise ops and maxima
/// of windows.
fn stays_narrow(f: &Func, work: &HashSet<Inst>, all: &Readers, v: Value, depth: usize) -> bool {
    let (readers, leaving) = all;
    let inner = |&(i, k): &(Inst, usize)| {
        let d = f.inst(i);
        let residual = d.attrs.flag("residual") && k + 1 == d.operands.len();
        if work.contains(&i) {
            return k == 0 || residual;
        }
        let float = |v: &Value| f.ty(*v).elem == Elem::F32;
        depth > 0
            && (d.op.is_elementwise() || is_max_pool(d))
            && d.results.iter().all(|r| float(r) && stays_narrow(f, work, all, *r, depth - 1))
    };
    !leaving.contains(&v) && readers.get(&v).is_some_and(|all| all.iter().all(inner))
}

/// `x` as bf16: what it was widened from, or a cast of it.
fn narrowed(b: &mut Builder, x: Value) -> Result<Value, String> {
    match widened_from(b.func, x) {
        Some(narrow) => Ok(narrow),
        None => b.cast(x, Elem::BF16),
    }
}

/// The bf16 value of which `v` is the f32.
fn widened_from(f: &Func, v: Value) -> Option<Value> {
    let x = f.def_op(v, Op::Cast)?.operands[0];
    (f.ty(v).elem == Elem::F32 && f.ty(x).elem == Elem::BF16).then_some(x)
}

/// The constant rounded to bf16, when it is read.
fn rounded(t: &Tensor) -> Option<Tensor> {
    let wide = t.clone();
    Tensor::deferred(Elem::BF16, t.shape().to_vec(), move || {
        let words = wide.bytes().chunks_exact(4).map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        words.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect()
    })
}

/// Adds the depthwise convolutions between the others: those whose results only bf16 work reads.
fn add_depthwise(f: &Func, work: &mut HashSet<Inst>, all: &Readers) {
    // From the first to the last by what they read, then back by who reads them.
    let (mut chain, mut found) = (work.clone(), Vec::new());
    f.walk(f.body, &mut |f, _, i| {
        if follows(f, &chain, f.inst(i)) {
            chain.insert(i);
            found.push(i);
        }
    });
    for &i in found.iter().rev() {
        if stays_narrow(f, work, all, f.inst(i).results[0], CHAIN) {
            work.insert(i);
        }
    }
}

fn narrow(f: &mut Func) -> Result<usize, String> {
    let mut work = HashSet::new();
    f.walk(f.body, &mut |f, _, i| {
        if eligible(f, f.inst(i), 2) {
            work.insert(i);
        }
    });
    if work.is_empty() {
        return Ok(0);
    }
    let all = readers(f);
    add_depthwise(f, &mut work, &all);
    let elem_of = |&i: &Inst| (i, if stays_narrow(f, &work, &all, f.inst(i).results[0], CHAIN) { Elem::BF16 } else { Elem::F32 });
    let results: HashMap<Inst, Elem> = work.iter().map(elem_of).collect();
    // One rounded copy of weights that several share.
    let mut weights: HashMap<Value, Tensor> = HashMap::new();
    let body = f.body;
    rewrite(f, body, &mut |b, i| {
        let mut d = b.func.inst(i).clone();
        // The greatest of rounded numbers is one of them.
        if is_max_pool(&d)
            && let Some(x) = widened_from(b.func, d.operands[0])
        {
            let y = b.op(d.op, &[x], d.attrs)?;
            return Ok(Rewrite::Replace(vec![b.cast(y, Elem::F32)?]));
        }
        let Some(&elem) = results.get(&i) else { return Ok(Rewrite::Keep) };
        d.operands[0] = narrowed(b, d.operands[0])?;
        if d.op != Op::Depthwise {
            let w = d.operands[1];
            let known = weights.get(&w).cloned().or_else(|| rounded(b.func.const_of(w)?));
            let tensor = known.ok_or("weights that cannot be rounded")?;
            weights.insert(w, tensor.clone());
            d.operands[1] = b.constant(tensor);
        }
        if d.attrs.flag("residual")
            && let Some(r) = d.operands.last_mut()
        {
            *r = widened_from(b.func, *r).unwrap_or(*r);
        }
        d.attrs.set("elem", elem);
        let y = b.op(d.op, &d.operands, d.attrs)?;
        Ok(Rewrite::Replace(vec![if elem == Elem::F32 { y } else { b.cast(y, Elem::F32)? }]))
    })
}

/// Gives each instruction that reads a widened value a cast of its own: one that many loops share would be computed by the first of
/// them and stored.
fn widen_apart(f: &mut Func, r: Region) {
    let old = std::mem::take(&mut f.region_mut(r).insts);
    let mut new = Vec::with_capacity(old.len());
    let mut taken = HashSet::new();
    for i in old {
        for inner in f.inst(i).regions.clone() {
            widen_apart(f, inner);
        }
        for k in 0..f.inst(i).operands.len() {
            let v = f.inst(i).operands[k];
            let Some(x) = widened_from(f, v) else { continue };
            if taken.insert(v) {
                continue;
            }
            let Some(cast) = f.def_inst(v) else { continue };
            let d = f.inst(cast).clone();
            let ty = f.ty(v).clone();
            let copy = f.make_inst(Op::Cast, vec![x], d.attrs, Vec::new(), vec![ty], d.loc);
            f.inst_mut(i).operands[k] = f.inst(copy).results[0];
            new.push(copy);
        }
        new.push(i);
    }
    f.region_mut(r).insts = new;
}

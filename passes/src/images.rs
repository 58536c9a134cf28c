//! Batches go through networks of depthwise convolutions image by image.

use crate::pass::{Diag, Pass, PassCx};
use crate::schedule::needs;
use graphc_ir::attr::Attr;
use graphc_ir::builder::Builder;
use graphc_ir::dim::Sym;
use graphc_ir::{Attrs, Dim, Elem, Func, Inst, InstData, Loc, Module, Op, Region, Type, Value};
use hashbrown::{HashMap, HashSet};

/// Depthwise convolutions that make a network one that is bound by its activations.
const MIN_DEPTHWISE: usize = 3;
/// Bytes of all values that one image makes, below which a batch of them stays in a cache as it is.
const MIN_IMAGE_BYTES: i64 = 4 << 20;
/// Bytes of weights that are read again for each image: they have to stay in the last-level cache.
const MAX_WEIGHT_BYTES: i64 = 24 << 20;
/// Bytes of results of an image, which are copied into those of the batch.
const MAX_RESULT_BYTES: i64 = 256 << 10;

/// Where a batch of unknown size goes through convolutions of which many are depthwise, computes them in a loop over the images, from
/// the first instruction that works on images to the last that makes a smaller image of one: activations of one image stay in the
/// caches where those of a batch would not.
///
/// Leaves no such network outside a loop.
pub struct Images;

impl Pass for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    fn run(&self, m: &mut Module, cx: &PassCx) -> Result<usize, Diag> {
        if !cx.target.goes_by_images() {
            return Ok(0);
        }
        let mut changed = 0;
        for f in &mut m.funcs {
            while let Some(segment) = Segment::find(f) {
                let loc = f.inst(segment.last).loc.clone();
                segment.make_loop(f).map_err(|message| Diag { pass: "images", loc, message })?;
                changed += 1;
            }
        }
        Ok(changed)
    }
}

/// Instructions of a function's body that treat each image of a batch alike.
struct Segment {
    batch: Sym,
    insts: Vec<Inst>,
    last: Inst,
    /// Values of the batch that the instructions read and do not make.
    inputs: Vec<Value>,
    /// Values that they make and others read.
    results: Vec<Value>,
}

/// Whether `batch` occurs in the dimension.
fn has(d: &Dim, batch: &Sym) -> bool {
    let mut found = false;
    d.for_each_sym(&mut |s| found |= s == batch);
    found
}

/// True for one image a step of the leading axis.
fn leads(t: &Type, batch: &Sym) -> bool {
    t.shape.first().and_then(Dim::as_sym) == Some(batch) && !t.shape[1..].iter().any(|d| has(d, batch))
}

/// The same for each image.
fn is_free(t: &Type, batch: &Sym) -> bool {
    !t.shape.iter().any(|d| has(d, batch))
}

fn of_one(d: &Dim, batch: &Sym) -> Dim {
    d.substitute(&|s| (s == batch).then_some(Dim::ONE))
}

/// The type of one image.
fn image_type(t: &Type, batch: &Sym) -> Type {
    t.with_shape(t.shape.iter().map(|d| of_one(d, batch)).collect::<Vec<_>>())
}

fn image_bytes(t: &Type, batch: &Sym) -> Option<i64> {
    image_type(t, batch).elements().as_const().map(|n| n.saturating_mul(t.elem.size() as i64))
}

/// True for an instruction that makes each image of its results from the same images of its operands.
fn by_image(f: &Func, i: Inst, batch: &Sym) -> bool {
    let d = f.inst(i);
    let ty = |v: &Value| f.ty(*v);
    let (Some(&result), true) = (d.results.first(), d.results.iter().all(|v| leads(ty(v), batch))) else { return false };
    let rank = f.ty(result).rank();
    if !d.operands.iter().all(|v| leads(ty(v), batch) || is_free(ty(v), batch)) || !attributes_follow(d, batch) {
        return false;
    }
    let first_leads = d.operands.first().is_some_and(|v| leads(ty(v), batch));
    let others_free = || d.operands[1..].iter().all(|v| is_free(ty(v), batch));
    // Images meet images: where shapes are broadcast, the leading axes are the same.
    let aligned = |vs: &[Value]| vs.iter().all(|v| is_free(ty(v), batch) || ty(v).rank() == rank);
    match d.op {
        Op::Fused => d.regions.iter().all(|&r| {
            f.region(r).params.iter().chain(&f.region(r).results).all(|v| is_free(ty(v), batch) || ty(v).rank() == rank)
                && f.region(r).insts.iter().all(|&i| {
                    let d = f.inst(i);
                    let plain = d.results.iter().all(|v| is_free(ty(v), batch) || leads(ty(v), batch) && ty(v).rank() == rank);
                    let counts_images =
                        d.op == Op::Iota && d.attrs.int("axis") == 0 && !d.results.iter().all(|v| is_free(ty(v), batch));
                    plain && !counts_images && d.regions.is_empty() && attributes_follow(d, batch)
                })
        }),
        // The second operand of a convolution is its filter; a residual may follow.
        Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d => first_leads && is_free(ty(&d.operands[1]), batch),
        Op::Contract => {
            first_leads
                && is_free(ty(&d.operands[1]), batch)
                && d.attrs.ints("lhs_batch").is_empty()
                && !d.attrs.ints("lhs").contains(&0)
        }
        Op::Pool2d | Op::Resize | Op::Reshape => first_leads,
        Op::Reduce => first_leads && !d.attrs.ints("axes").contains(&0),
        Op::Pad => {
            let padded = |key| d.attrs.dims(key).first().is_none_or(|d| !d.is_zero());
            first_leads && others_free() && !padded("low") && !padded("high")
        }
        Op::Slice => {
            let whole =
                d.attrs.dims("start").first().is_some_and(Dim::is_zero) && d.attrs.ints("stride").first().is_none_or(|&s| s == 1);
            first_leads && whole && d.attrs.dims("size").first().and_then(Dim::as_sym) == Some(batch)
        }
        Op::Concat => d.attrs.int("axis") > 0 && d.operands.iter().all(|v| leads(ty(v), batch)),
        Op::Broadcast => aligned(&d.operands),
        op => op.is_elementwise() && aligned(&d.operands),
    }
}

/// True where the batch occurs in attributes only as the leading dimension of a result's shape.
fn attributes_follow(d: &InstData, batch: &Sym) -> bool {
    let shape = if d.op == Op::Slice { "size" } else { "shape" };
    d.attrs.iter().all(|(key, a)| match a {
        Attr::Dims(dims) => {
            let leading = usize::from(key == shape && dims.first().and_then(Dim::as_sym) == Some(batch));
            !dims[leading..].iter().any(|d| has(d, batch))
        }
        _ => true,
    })
}

/// True for what works on the pixels of images of more than one.
fn is_spatial(f: &Func, i: Inst) -> bool {
    let d = f.inst(i);
    matches!(d.op, Op::Conv2d | Op::Depthwise | Op::ConvTranspose2d | Op::Pool2d | Op::Resize | Op::Reduce)
        && d.operands.first().is_some_and(|&v| matches!(f.ty(v).shape.as_slice(), [_, h, w, _] if !h.is_one() || !w.is_one()))
}

impl Segment {
    fn find(f: &Func) -> Option<Segment> {
        let body = &f.region(f.body).insts;
        let start = body.iter().find(|&&i| f.inst(i).op == Op::Depthwise)?;
        let batch = f.ty(*f.inst(*start).operands.first()?).shape.first()?.as_sym()?.clone();
        let mut insts = Vec::new();
        let mut made: HashSet<Value> = HashSet::new();
        for &i in body {
            if by_image(f, i, &batch) {
                made.extend(&f.inst(i).results);
                insts.push(i);
            } else if needs(f, i).iter().any(|v| made.contains(v)) {
                break;
            }
        }
        insts.truncate(1 + insts.iter().rposition(|&i| is_spatial(f, i))?);
        let last = *insts.last()?;
        let here: HashSet<Inst> = insts.iter().copied().collect();
        let within = |v: Value| f.def_inst(v).is_some_and(|i| here.contains(&i));
        let mut segment = Segment { batch, insts, last, inputs: Vec::new(), results: Vec::new() };
        let (mut depthwise, mut image, mut weights) = (0, 0i64, 0i64);
        for &i in &segment.insts {
            let d = f.inst(i);
            depthwise += usize::from(d.op == Op::Depthwise);
            for &v in &d.results {
                image = image.saturating_add(image_bytes(f.ty(v), &segment.batch)?);
            }
            for &v in d.operands.iter().filter(|&&v| !within(v)) {
                if is_free(f.ty(v), &segment.batch) {
                    weights = weights.saturating_add(image_bytes(f.ty(v), &segment.batch)?);
                } else if !segment.inputs.contains(&v) {
                    segment.inputs.push(v);
                }
            }
        }
        let mut read: HashSet<Value> = f.results().iter().copied().collect();
        for &i in body.iter().filter(|i| !here.contains(*i)) {
            read.extend(needs(f, i));
        }
        segment.results = segment.insts.iter().flat_map(|&i| &f.inst(i).results).copied().filter(|v| read.contains(v)).collect();
        let mut result = 0i64;
        for &v in &segment.results {
            result = result.saturating_add(image_bytes(f.ty(v), &segment.batch)?);
        }
        let plain = segment.results.iter().all(|&v| f.ty(v).elem.is_real());
        let pays =
            depthwise >= MIN_DEPTHWISE && image >= MIN_IMAGE_BYTES && weights <= MAX_WEIGHT_BYTES && result <= MAX_RESULT_BYTES;
        (pays && plain && !segment.results.is_empty()).then_some(segment)
    }

    /// Puts the loop in the place of the instructions.
    fn make_loop(self, f: &mut Func) -> Result<(), String> {
        let loc = f.inst(self.last).loc.clone();
        let mut before = Builder::new(f, loc.clone());
        let mut start = vec![before.scalar(0.0, Elem::I64)?];
        let count = Attrs::new().with("dims", vec![Dim::sym(self.batch.clone())]).with("elem", Elem::I64).with("scalar", true);
        let count = before.op(Op::Dims, &[], count)?;
        for &v in &self.results {
            let ty = before.func.ty(v).clone();
            let zero = before.scalar(0.0, ty.elem)?;
            start.push(before.broadcast(zero, &ty.shape)?);
        }
        let before = before.insts;
        let types: Vec<Type> = start.iter().map(|&v| f.ty(v).clone()).collect();

        let test = f.add_region();
        let at = add_params(f, test, &types, &loc);
        let mut b = Builder::new(f, loc.clone());
        let more = b.bin(Op::Lt, at[0], count)?;
        let insts = b.insts;
        (f.region_mut(test).insts, f.region_mut(test).results) = (insts, vec![more]);

        let body = f.add_region();
        let at = add_params(f, body, &types, &loc);
        let mut map = HashMap::new();
        let mut b = Builder::new(f, loc.clone());
        let here = b.reshape(at[0], &[Dim::ONE])?;
        for &v in &self.inputs {
            let image = b.op(Op::Gather, &[v, here], Attrs::new().with("axis", 0i64))?;
            map.insert(v, image);
        }
        let mut insts = std::mem::take(&mut b.insts);
        for &i in &self.insts {
            insts.push(self.of_one_image(f, i, &mut map));
        }
        let mut b = Builder::new(f, loc.clone());
        let one = b.scalar(1.0, Elem::I64)?;
        let mut next = vec![b.bin(Op::Add, at[0], one)?];
        let row = b.reshape(at[0], &[Dim::ONE, Dim::ONE])?;
        for (&v, &whole) in self.results.iter().zip(&at[1..]) {
            next.push(b.op(Op::ScatterNd, &[whole, row, map[&v]], Attrs::new().with("kind", "set"))?);
        }
        insts.append(&mut b.insts);
        (f.region_mut(body).insts, f.region_mut(body).results) = (insts, next);

        let all = f.make_inst(Op::While, start, Attrs::new(), vec![test, body], types, loc);
        let new = f.inst(all).results[1..].to_vec();
        let here: HashSet<Inst> = self.insts.iter().copied().collect();
        let mut list = Vec::new();
        // What stands between the instructions does not read them.
        for i in std::mem::take(&mut f.region_mut(f.body).insts) {
            if i == self.last {
                list.extend(&before);
                list.push(all);
            } else if !here.contains(&i) {
                list.push(i);
            }
        }
        f.region_mut(f.body).insts = list;
        f.replace_uses(&self.results.iter().copied().zip(new).collect());
        Ok(())
    }

    /// A copy of an instruction for one image.
    fn of_one_image(&self, f: &mut Func, i: Inst, map: &mut HashMap<Value, Value>) -> Inst {
        let mut d = f.inst(i).clone();
        let operands = d.operands.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect();
        for (_, a) in d.attrs.iter_mut() {
            if let Attr::Dims(dims) = a {
                dims.iter_mut().for_each(|d| *d = of_one(d, &self.batch));
            }
        }
        let regions = d.regions.iter().map(|&r| self.region_of_one_image(f, r, map)).collect();
        let types = d.results.iter().map(|&v| image_type(f.ty(v), &self.batch)).collect();
        let new = f.make_inst(d.op, operands, d.attrs, regions, types, d.loc);
        map.extend(d.results.iter().copied().zip(f.inst(new).results.clone()));
        new
    }

    fn region_of_one_image(&self, f: &mut Func, r: Region, map: &mut HashMap<Value, Value>) -> Region {
        let data = f.region(r).clone();
        let new = f.add_region();
        for &v in &data.params {
            let (ty, loc) = (image_type(f.ty(v), &self.batch), f.value(v).loc.clone());
            map.insert(v, f.add_param(new, ty, loc));
        }
        let insts = data.insts.iter().map(|&i| self.of_one_image(f, i, map)).collect();
        f.region_mut(new).insts = insts;
        f.region_mut(new).results = data.results.iter().map(|v| map.get(v).copied().unwrap_or(*v)).collect();
        new
    }
}

/// Parameters of the given types.
fn add_params(f: &mut Func, r: Region, types: &[Type], loc: &Loc) -> Vec<Value> {
    types.iter().map(|t| f.add_param(r, t.clone(), loc.clone())).collect()
}

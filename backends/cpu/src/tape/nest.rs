//! The iteration space of a loop in the form that is emitted: axes merged where every access allows it, and one axis chosen to run
//! in vector lanes.

use super::TapeError;
use super::code::{Code, Mem, Op};
use super::expand::{identity, lane};
use graphc_ir::Dim;
use graphc_ir::tape::Entry;
use graphc_passes::plan::{Combine, Loop};

/// One loop level.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The extent is their product.
    pub factors: Vec<Dim>,
    pub reduced: bool,
    /// The loop's axes that were merged into this one; only one if its index is used.
    pub source: u32,
    /// Elements from one index to the next, for each access.
    pub strides: Vec<Dim>,
}

/// What an access is, apart from its offset and strides.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub mem: Mem,
}

/// Which axis runs in the lanes of vectors; it is the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// No axis can: some access is neither contiguous nor constant along each.
    None,
    /// A parallel axis, inside of the reduced ones.
    Parallel,
    /// A reduced axis.
    Reduced,
}

#[derive(Clone, Debug)]
pub struct Nest {
    /// Outermost first: parallel axes, reduced axes, then the axis in lanes whichever it is.
    pub axes: Vec<Axis>,
    pub lanes: Lanes,
    /// Inputs, then outputs.
    pub places: Vec<Place>,
    pub inputs: usize,
    /// How outputs are combined; none without reduced axes.
    pub combine: Option<Combine>,
    /// For each output what an empty reduction gives, as bits of the lane.
    pub identities: Vec<u64>,
}

impl Axis {
    pub fn extent(&self) -> Option<i64> {
        self.factors.iter().try_fold(1i64, |p, d| p.checked_mul(d.as_const()?))
    }
}

impl Nest {
    pub fn outputs(&self) -> usize {
        self.places.len() - self.inputs
    }

    /// The stride of access `k` along `axis` in bytes, if constant.
    pub fn const_stride(&self, axis: usize, k: usize) -> Option<i64> {
        self.axes[axis].strides[k].as_const().map(|s| s.wrapping_mul(self.places[k].mem.bytes()))
    }

    /// True if access `k` is strided along the last axis: neither contiguous nor constant.
    pub fn strided(&self, k: usize) -> bool {
        self.axes.last().is_some_and(|a| !a.strides[k].is_zero() && !a.strides[k].is_one())
    }

    /// True if access `k` is the same along the last axis.
    pub fn uniform(&self, k: usize) -> bool {
        self.axes.last().is_some_and(|a| a.strides[k].is_zero())
    }
}

/// The words of the argument of a kernel, `extern "C" fn(frame: *const i64) -> i32`: the part of a nest that one call walks.
///
/// For each axis its extent and its first index; for each access its address; for each axis and access the stride in bytes and the
/// product of stride and extent.
impl Nest {
    pub fn extent_word(&self, axis: usize) -> usize {
        axis
    }

    pub fn start_word(&self, axis: usize) -> usize {
        self.axes.len() + axis
    }

    pub fn pointer_word(&self, k: usize) -> usize {
        2 * self.axes.len() + k
    }

    pub fn stride_word(&self, axis: usize, k: usize) -> usize {
        2 * self.axes.len() + (1 + axis) * self.places.len() + k
    }

    pub fn span_word(&self, axis: usize, k: usize) -> usize {
        2 * self.axes.len() + (1 + self.axes.len() + axis) * self.places.len() + k
    }

    pub fn frame_words(&self) -> usize {
        2 * self.axes.len() + (1 + 2 * self.axes.len()) * self.places.len()
    }
}

fn invalid<T>(why: impl Into<String>) -> Result<T, TapeError> {
    Err(TapeError::Invalid(why.into()))
}

fn check(l: &Loop) -> Result<(), TapeError> {
    if l.reduced > l.extents.len() {
        return invalid("more reduced axes than axes");
    }
    if l.tape.outputs.len() != l.outputs.len() {
        return invalid("the tape has another number of outputs");
    }
    if l.extents.iter().any(|d| d.as_const().is_some_and(|c| c < 0)) {
        return invalid("a negative extent");
    }
    let parallel = l.extents.len() - l.reduced;
    for a in l.inputs.iter().chain(&l.outputs) {
        if a.strides.len() != l.extents.len() {
            return invalid("an access has another number of strides than the loop has axes");
        }
    }
    for (a, t) in l.outputs.iter().zip(&l.tape.outputs) {
        if a.strides[parallel..].iter().any(|s| !s.is_zero()) {
            return invalid("an output varies along a reduced axis");
        }
        if t.index() >= l.tape.entries().len() || l.tape.elem(*t) != a.elem {
            return invalid("an output has another type than its value");
        }
    }
    for (e, elem) in l.tape.entries() {
        match *e {
            Entry::Load(k) if l.inputs.get(k as usize).is_none_or(|a| a.elem != *elem) => {
                return invalid("the tape loads what the loop does not have");
            }
            Entry::Index(axis) if axis as usize >= l.extents.len() => return invalid("an index of an axis that does not exist"),
            _ => {}
        }
    }
    Ok(())
}

/// The nest of `l`, whose lane code is `code`.
pub fn nest(l: &Loop, code: &Code) -> Result<Nest, TapeError> {
    check(l)?;
    let accesses: Vec<_> = l.inputs.iter().chain(&l.outputs).collect();
    let used = |axis: u32| code.ops().iter().any(|(op, _)| *op == Op::Index(axis));
    let parallel = l.extents.len() - l.reduced;
    let mut axes: Vec<Axis> = Vec::new();
    for (i, extent) in l.extents.iter().enumerate() {
        let indexed = used(i as u32);
        if extent.is_one() && !indexed {
            continue;
        }
        let axis = Axis {
            factors: vec![extent.clone()],
            reduced: i >= parallel,
            source: i as u32,
            strides: accesses.iter().map(|a| a.strides[i].clone()).collect(),
        };
        match axes.last_mut() {
            Some(outer)
                if outer.reduced == axis.reduced
                    && !indexed
                    && !used(outer.source)
                    && outer.strides.iter().zip(&axis.strides).all(|(o, s)| *o == s * extent) =>
            {
                outer.factors.push(extent.clone());
                outer.strides = axis.strides;
            }
            _ => axes.push(axis),
        }
    }
    if axes.iter().all(|a| a.reduced) {
        let strides = vec![Dim::ZERO; accesses.len()];
        axes.insert(0, Axis { factors: vec![Dim::ONE], reduced: false, source: u32::MAX, strides });
    }
    let places = accesses.iter().map(|a| Ok(Place { mem: lane(a.elem)?.mem })).collect::<Result<Vec<_>, TapeError>>()?;
    let lanes = choose_lanes(&mut axes, &places, l.inputs.len());
    let combine = (l.reduced > 0).then_some(l.combine);
    let identities = match combine {
        Some(how) => l.outputs.iter().map(|a| identity(how, a.elem)).collect::<Result<_, _>>()?,
        None => vec![0; l.outputs.len()],
    };
    Ok(Nest { axes, lanes, places, inputs: l.inputs.len(), combine, identities })
}

/// Greatest stride that vectors gather over, in elements.
const FAR: i64 = 1 << 20;

/// Moves the axis that suits lanes best to the end: one along which outputs are contiguous and as many inputs as possible are, the
/// others constant or, if need be, strided with words to gather.
fn choose_lanes(axes: &mut Vec<Axis>, places: &[Place], inputs: usize) -> Lanes {
    let mut best: Option<(usize, (bool, usize, bool, i64))> = None;
    for (i, a) in axes.iter().enumerate() {
        let near = |s: &Dim| s.is_zero() || s.is_one();
        let gathers = |(s, p): (&Dim, &Place)| p.mem == Mem::W32 && s.as_const().is_some_and(|s| s.abs() <= FAR);
        let plain = a.strides.iter().all(near);
        let fits = a.strides.iter().zip(places).take(inputs).all(|(s, p)| near(s) || gathers((s, p)));
        let stores = a.reduced || a.strides[inputs..].iter().all(|s| s.is_one());
        let contiguous = a.strides.iter().filter(|s| s.is_one()).count();
        if !fits || !stores || (contiguous == 0 && !a.reduced) {
            continue;
        }
        let score = (plain, contiguous, !a.reduced, a.extent().unwrap_or(i64::MAX));
        if best.is_none_or(|(_, s)| score >= s) {
            best = Some((i, score));
        }
    }
    let Some((i, _)) = best else { return Lanes::None };
    let axis = axes.remove(i);
    let lanes = if axis.reduced { Lanes::Reduced } else { Lanes::Parallel };
    axes.push(axis);
    lanes
}

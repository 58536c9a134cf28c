//! Complex numbers as pairs of real ones: a loop over them becomes a loop over their parts, so that no emitter knows of them.
//!
//! In memory the parts are neighbours, the real one first: an access becomes two with twice the strides.

use super::TapeError;
use super::complex_math as math;
use graphc_ir::tape::{Bin, Cmp, Entry, T, Tape, Un};
use graphc_ir::{Dim, Elem};
use graphc_passes::plan::{Access, Combine, Loop};
use std::borrow::Cow;

/// A loop without complex numbers.
pub struct Split<'a> {
    pub l: Cow<'a, Loop>,
    /// For each of its accesses, inputs first, the one of the original loop whose base address it has.
    pub bases: Vec<usize>,
}

/// The accesses to the parts of what `accesses` reach, and the number of the original of each, counted from `first`.
fn parts(accesses: &[Access], first: usize) -> (Vec<Access>, Vec<usize>) {
    let (mut out, mut bases) = (Vec::new(), Vec::new());
    let two = Dim::from(2i64);
    for (i, a) in accesses.iter().enumerate() {
        if !a.elem.is_complex() {
            out.push(a.clone());
            bases.push(first + i);
            continue;
        }
        let strides: Vec<Dim> = a.strides.iter().map(|s| s * &two).collect();
        let offset = &a.offset * &two;
        for offset in [offset.clone(), &offset + &Dim::ONE] {
            out.push(Access { elem: a.elem.part(), offset, strides: strides.clone() });
            bases.push(first + i);
        }
    }
    (out, bases)
}

/// The accesses of `l` with those to complex numbers as two.
pub fn accesses(l: &Loop) -> Vec<Access> {
    [parts(&l.inputs, 0).0, parts(&l.outputs, 0).0].concat()
}

/// `l` over real numbers.
///
/// # Errors
/// Operations that complex numbers do not have, and a malformed tape.
pub fn split(l: &Loop) -> Result<Split<'_>, TapeError> {
    let mut elems = l.inputs.iter().chain(&l.outputs).map(|a| a.elem).chain(l.tape.entries().iter().map(|(_, e)| *e));
    if !elems.any(Elem::is_complex) {
        return Ok(Split { l: Cow::Borrowed(l), bases: (0..l.inputs.len() + l.outputs.len()).collect() });
    }
    if l.reduced > 0 && l.combine != Combine::Sum && l.outputs.iter().any(|a| a.elem.is_complex()) {
        return Err(TapeError::Unsupported(format!("{:?} of complex numbers in loops", l.combine)));
    }
    let (inputs, mut bases) = parts(&l.inputs, 0);
    let (outputs, more) = parts(&l.outputs, l.inputs.len());
    let tape = split_tape(&l.tape, &bases)?;
    bases.extend(more);
    Ok(Split { l: Cow::Owned(Loop { inputs, outputs, tape, ..l.clone() }), bases })
}

/// What became of a value of the original tape.
#[derive(Clone, Copy)]
enum Val {
    One(T),
    Pair(T, T),
}

/// The tape of a loop whose inputs were split into those with the originals `bases`.
fn split_tape(tape: &Tape, bases: &[usize]) -> Result<Tape, TapeError> {
    let mut s = Splitter { bases, t: Tape::default(), values: Vec::new() };
    for (entry, elem) in tape.entries() {
        let v = s.entry(entry, *elem)?;
        s.values.push(v);
    }
    for out in &tape.outputs {
        match s.value(*out)? {
            Val::One(v) => s.t.outputs.push(v),
            Val::Pair(re, im) => s.t.outputs.extend([re, im]),
        }
    }
    Ok(s.t)
}

struct Splitter<'a> {
    bases: &'a [usize],
    t: Tape,
    values: Vec<Val>,
}

impl Splitter<'_> {
    fn value(&self, v: T) -> Result<Val, TapeError> {
        self.values.get(v.index()).copied().ok_or_else(|| TapeError::Invalid("the tape reads a later entry".into()))
    }

    fn entry(&mut self, e: &Entry, elem: Elem) -> Result<Val, TapeError> {
        use Val::{One, Pair};
        let part = elem.part();
        let unsupported = || TapeError::Unsupported(format!("{e:?} of complex numbers"));
        let operands = e.operands().map(|o| self.value(o)).collect::<Result<Vec<_>, _>>()?;
        Ok(match (e, operands.as_slice()) {
            (Entry::Load(k), _) => {
                let base = *k as usize;
                // A pair of accesses has the same base twice.
                let at = self.bases.iter().position(|b| *b == base);
                let at = at.filter(|at| (self.bases.get(at + 1) == Some(&base)) == elem.is_complex());
                let at = at.ok_or_else(|| TapeError::Invalid("the tape loads what the loop does not have".into()))? as u32;
                if elem.is_complex() { Pair(self.t.load(at, part), self.t.load(at + 1, part)) } else { One(self.t.load(at, elem)) }
            }
            (Entry::Const(_) | Entry::ConstInt(_) | Entry::Index(_), _) if elem.is_complex() => {
                let e = if let Entry::ConstInt(v) = e { Entry::Const(*v as f64) } else { *e };
                Pair(self.t.push(e, part), self.t.constant_of(0.0, part))
            }
            (Entry::Const(_) | Entry::ConstInt(_) | Entry::Index(_), _) => One(self.t.push(*e, elem)),
            (Entry::Un(op, _), [One(x)]) => One(self.t.push(Entry::Un(*op, *x), elem)),
            (Entry::Un(op, _), [Pair(a, b)]) => self.un(*op, (*a, *b)).ok_or_else(unsupported)?,
            (Entry::Bin(Bin::Complex, ..), [One(x), One(y)]) => Pair(*x, *y),
            (Entry::Bin(op, ..), [One(x), One(y)]) => One(self.t.push(Entry::Bin(*op, *x, *y), elem)),
            (Entry::Bin(op, ..), [Pair(a, b), Pair(c, d)]) => {
                let (re, im) = self.bin(*op, (*a, *b), (*c, *d)).ok_or_else(unsupported)?;
                Pair(re, im)
            }
            (Entry::Cmp(op, ..), [One(x), One(y)]) => One(self.t.cmp(*op, *x, *y)),
            (Entry::Cmp(op, ..), [Pair(a, b), Pair(c, d)]) => {
                let join = match op {
                    Cmp::Eq => Bin::And,
                    Cmp::Ne => Bin::Or,
                    _ => return Err(unsupported()),
                };
                let (x, y) = (self.t.cmp(*op, *a, *c), self.t.cmp(*op, *b, *d));
                One(self.t.bin(join, x, y))
            }
            (Entry::Select(..), [One(m), One(x), One(y)]) => One(self.t.select(*m, *x, *y)),
            (Entry::Select(..), [One(m), Pair(a, b), Pair(c, d)]) => Pair(self.t.select(*m, *a, *c), self.t.select(*m, *b, *d)),
            (Entry::Cast(_), [One(x)]) if elem.is_complex() => Pair(self.t.cast(*x, part), self.t.constant_of(0.0, part)),
            (Entry::Cast(_), [One(x)]) => One(self.t.cast(*x, elem)),
            (Entry::Cast(_), [Pair(a, b)]) if elem.is_complex() => Pair(self.t.cast(*a, part), self.t.cast(*b, part)),
            (Entry::Cast(_), [Pair(a, _)]) => One(self.t.cast(*a, elem)),
            (Entry::Fma(..), [One(x), One(y), One(z)]) => One(self.t.fma(*x, *y, *z)),
            (Entry::Fma(..), [Pair(a, b), Pair(c, d), Pair(x, y)]) => {
                let (re, im) = math::mul(&mut self.t, (*a, *b), (*c, *d));
                Pair(self.t.add(re, *x), self.t.add(im, *y))
            }
            _ => return Err(TapeError::Invalid("real and complex operands".into())),
        })
    }

    /// `f` of parts as f64, rounded to the type of `like`: so single precision neither overflows nor cancels on the way.
    fn wide(&mut self, like: T, x: &[math::Pair], f: impl FnOnce(&mut Tape, &[math::Pair]) -> math::Pair) -> math::Pair {
        let elem = self.t.elem(like);
        let x: Vec<_> = x.iter().map(|p| (self.t.cast(p.0, Elem::F64), self.t.cast(p.1, Elem::F64))).collect();
        let (re, im) = f(&mut self.t, &x);
        (self.t.cast(re, elem), self.t.cast(im, elem))
    }

    fn un(&mut self, op: Un, x: math::Pair) -> Option<Val> {
        let (a, b) = x;
        let simple = match op {
            Un::Real => Some(Val::One(a)),
            Un::Imag => Some(Val::One(b)),
            Un::Neg => Some(Val::Pair(self.t.un(Un::Neg, a), self.t.un(Un::Neg, b))),
            Un::Conj => Some(Val::Pair(a, self.t.un(Un::Neg, b))),
            Un::Abs => {
                let (r, _) = self.wide(a, &[x], |t, x| {
                    let r = math::abs(t, x[0]);
                    (r, r)
                });
                Some(Val::One(r))
            }
            _ => None,
        };
        if simple.is_some() {
            return simple;
        }
        let f = math::function(op)?;
        let (re, im) = self.wide(a, &[x], |t, x| f(t, x[0]));
        Some(Val::Pair(re, im))
    }

    fn bin(&mut self, op: Bin, x: math::Pair, y: math::Pair) -> Option<math::Pair> {
        Some(match op {
            Bin::Add => (self.t.add(x.0, y.0), self.t.add(x.1, y.1)),
            Bin::Sub => (self.t.sub(x.0, y.0), self.t.sub(x.1, y.1)),
            Bin::Mul => math::mul(&mut self.t, x, y),
            Bin::Div => self.wide(x.0, &[x, y], |t, x| math::div(t, x[0], x[1])),
            Bin::Pow => self.wide(x.0, &[x, y], |t, x| math::pow(t, x[0], x[1])),
            _ => return None,
        })
    }
}

//! Elements of a type: how they are read, compared, combined and written.

use super::apply;
use super::copy::row_major;
use crate::build::{Build, V};
use crate::design::Buffer;
use crate::lanes::{cell, extended};
use crate::target::Cell;
use graphc_abi::args::data::elem;
use graphc_cpu::tape::Body;
use graphc_cpu::tape::code::{Cond, Mem, Ty};
use graphc_cpu::tape::expand::lane;
use graphc_ir::tape::Tape;
use graphc_ir::{Dim, Elem};
use graphc_passes::plan::{Access, Combine, Loop};

/// The element type of a code of [`elem`].
pub fn elem_of(code: i64) -> Result<Elem, String> {
    Ok(match code {
        elem::F32 => Elem::F32,
        elem::F64 => Elem::F64,
        elem::F16 => Elem::F16,
        elem::BF16 => Elem::BF16,
        elem::I8 => Elem::I8,
        elem::I16 => Elem::I16,
        elem::I32 => Elem::I32,
        elem::I64 => Elem::I64,
        elem::U8 => Elem::U8,
        elem::U16 => Elem::U16,
        elem::U32 => Elem::U32,
        elem::U64 => Elem::U64,
        elem::BOOL => Elem::Bool,
        elem::C64 => Elem::C64,
        elem::C128 => Elem::C128,
        _ => return Err(format!("elements of type {code}")),
    })
}

/// A loop that reduces the last `reduced` axes of elements as they are.
pub fn plain(elem: Elem, extents: Vec<Dim>, reduced: usize, combine: Combine, strides: Vec<Dim>) -> Loop {
    let mut tape = Tape::default();
    let x = tape.load(0, elem);
    tape.outputs.push(x);
    let mut to = row_major(&extents[..extents.len() - reduced]);
    to.resize(extents.len(), Dim::ZERO);
    let access = |strides| Access { elem, offset: Dim::ZERO, strides };
    Loop { name: String::new(), inputs: vec![access(strides)], outputs: vec![access(to)], extents, reduced, combine, tape }
}

/// How elements of a type are read, combined and written.
pub struct Element {
    pub elem: Elem,
    pub cell: Cell,
    mem: Mem,
    /// Of a reduction over them.
    pub body: Body,
}

impl Element {
    /// Elements that `combine` combines; truth values are numbers.
    ///
    /// # Errors
    /// If there is no code for them.
    pub fn of(elem: Elem, combine: Combine) -> Result<Element, String> {
        if elem.is_complex() {
            return Err(format!("there is no GPU kernel for {elem}"));
        }
        let elem = if elem == Elem::Bool { Elem::U8 } else { elem };
        let lane = lane(elem).map_err(|e| e.to_string())?;
        let wide = matches!(lane.mem, Mem::W32 | Mem::W64);
        let l = plain(elem, vec![Dim::ONE], 1, combine, vec![Dim::ONE]);
        let body = Body::new(&l).map_err(|e| e.to_string())?;
        Ok(Element { elem, cell: cell(lane.mem, if wide { lane.ty } else { Ty::I32 }), mem: lane.mem, body })
    }

    /// The type of an element's value.
    pub fn ty(&self) -> Ty {
        self.body.code.ty(self.body.code.results[0])
    }

    /// A comparison by the sign of the type; of floats false for NaN but for `Ne`.
    pub fn cmp<'c>(&self, b: &mut Build<'c>, how: Cond, x: V<'c>, y: V<'c>) -> V<'c> {
        if matches!(self.elem, Elem::U32 | Elem::U64) { b.ucmp(how, x, y) } else { b.cmp(how, x, y) }
    }

    /// Whether `x` comes before `y` in the order `how`, in which NaN is below everything.
    pub fn before<'c>(&self, b: &mut Build<'c>, how: Cond, x: V<'c>, y: V<'c>) -> V<'c> {
        let m = self.cmp(b, how, x, y);
        if !x.ty.is_float() {
            return m;
        }
        let (more, less) = if how == Cond::Gt { (x, y) } else { (y, x) };
        let (some, none) = (b.cmp(Cond::Eq, more, more), b.cmp(Cond::Ne, less, less));
        let by_nan = b.and(some, none);
        b.arith("arith.ori", m, by_nan)
    }

    /// The value at `at`.
    ///
    /// # Errors
    /// If its conversion has no code.
    pub fn load<'c>(&self, b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>) -> Result<V<'c>, String> {
        let v = m.load(b, at);
        let v = extended(b, v, self.mem);
        apply(b, &self.body.code, &[v])
    }

    /// Rounds a value to the type and stores it.
    ///
    /// # Errors
    /// If its conversion has no code.
    pub fn store<'c>(&self, b: &mut Build<'c>, m: &Buffer<'c>, at: V<'c>, v: V<'c>) -> Result<(), String> {
        let v = apply(b, &self.body.finishes[0], &[v])?;
        m.store(b, at, v);
        Ok(())
    }
}

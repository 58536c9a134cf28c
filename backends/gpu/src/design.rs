//! What a launch needs of its kernel: sizes that are built in, sizes that are parameters, buffers, and how much work there is.
//!
//! A step of the plan becomes a [`Design`]; a design whose expressions are sorted into constants and parameters is a [`Spec`], from
//! which the kernel is written. Equal specs are one kernel, in one program and in the cache.

use crate::build::{Build, Memory, V};
pub use crate::code::Int;
use crate::target::{Cell, Factors, Flavour};
use graphc_ir::Dim;
use graphc_passes::plan::{Arg, Buf, Place, Plan};
use std::fmt::Write;

/// Writes a kernel.
pub type Writer = Box<dyn for<'c> Fn(&mut Build<'c>, &Spec) -> Result<(), String> + Send + Sync>;

/// How the work of a launch is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// By threads.
    Item,
    /// By workgroups.
    Task,
}

/// A launch and its kernel, before sizes are sorted.
pub struct Design {
    /// Tells this kernel from all that are written otherwise.
    pub name: String,
    pub threads: i64,
    pub unit: Unit,
    /// Items or tasks. The kernel finds it as `count`.
    pub count: Dim,
    /// Items that a thread takes at a time.
    pub each: i64,
    ints: Vec<(String, Dim)>,
    reals: Vec<(&'static str, f64)>,
    buffers: Vec<(String, Buf, Dim)>,
    pub write: Writer,
}

/// Threads of a workgroup in kernels in which each works for itself.
pub const ITEM_THREADS: i64 = 128;

impl Design {
    /// A kernel that works item by item.
    pub fn items(
        name: impl Into<String>,
        count: Dim,
        write: impl for<'c> Fn(&mut Build<'c>, &Spec) -> Result<(), String> + Send + Sync + 'static,
    ) -> Design {
        Design {
            name: name.into(),
            threads: ITEM_THREADS,
            unit: Unit::Item,
            count,
            each: 1,
            ints: Vec::new(),
            reals: Vec::new(),
            buffers: Vec::new(),
            write: Box::new(write),
        }
    }

    /// A kernel of which `threads` threads work together on each task.
    pub fn tasks(
        name: impl Into<String>,
        threads: i64,
        count: Dim,
        write: impl for<'c> Fn(&mut Build<'c>, &Spec) -> Result<(), String> + Send + Sync + 'static,
    ) -> Design {
        Design { threads, unit: Unit::Task, ..Design::items(name, count, write) }
    }

    pub fn int(mut self, name: impl Into<String>, d: Dim) -> Design {
        self.ints.push((name.into(), d));
        self
    }

    pub fn ints<'a>(self, values: impl IntoIterator<Item = (&'a str, Dim)>) -> Design {
        values.into_iter().fold(self, |d, (name, v)| d.int(name, v))
    }

    pub fn real(mut self, name: &'static str, v: f64) -> Design {
        self.reals.push((name, v));
        self
    }

    /// A buffer, from `offset` elements on.
    pub fn buffer(mut self, name: impl Into<String>, buf: Buf, offset: Dim) -> Design {
        self.buffers.push((name.into(), buf, offset));
        self
    }

    /// Workgroups of the launch.
    pub fn groups(&self) -> Dim {
        match self.unit {
            Unit::Item => self.count.ceil_div(&Dim::from(self.threads * self.each)),
            Unit::Task => self.count.clone(),
        }
    }

    /// Sorts what is known from what a run brings. `launch` is the number of the step, which a failing kernel gives.
    pub fn specify(&self, plan: &Plan, launch: usize) -> (Spec, Vec<Dim>, Vec<Buf>) {
        let (mut params, mut slots): (Vec<Dim>, Vec<Buf>) = Default::default();
        let mut int = |d: &Dim| match d.as_const().filter(|c| i32::try_from(*c).is_ok()) {
            Some(c) => Int::Known(c),
            None => match params.iter().position(|p| p == d) {
                Some(k) => Int::Param(k as u32),
                None => {
                    params.push(d.clone());
                    Int::Param(params.len() as u32 - 1)
                }
            },
        };
        let count = [("count".to_owned(), int(&self.count))];
        let ints = count.into_iter().chain(self.ints.iter().map(|(n, d)| (n.clone(), int(d)))).collect();
        let mut buffers = Vec::new();
        for (name, buf, offset) in &self.buffers {
            let (root, before) = root(plan, *buf);
            let offset = int(&(&before + offset));
            let slot = slots.iter().position(|&s| same_memory(plan, s, root)).unwrap_or_else(|| {
                slots.push(root);
                slots.len() - 1
            });
            buffers.push((name.clone(), slot as u32, offset));
        }
        params.push(Dim::from(launch + 1));
        let spec = Spec { ints, reals: self.reals.clone(), buffers, slots: slots.len(), params: params.len() };
        (spec, params, slots)
    }
}

/// The buffer that `buf` is part of, and the elements before it.
fn root(plan: &Plan, buf: Buf) -> (Buf, Dim) {
    match &plan.buffer(buf).place {
        Place::View { of, offset } => {
            let (root, before) = root(plan, *of);
            (root, &before + offset)
        }
        _ => (buf, Dim::ZERO),
    }
}

/// Whether two buffers are one for a kernel: the same place, and elements of one size and kind.
fn same_memory(plan: &Plan, a: Buf, b: Buf) -> bool {
    let (x, y) = (plan.buffer(a), plan.buffer(b));
    a == b || (x.place == y.place && x.place != Place::Unplaced && x.ty.elem == y.ty.elem && x.bytes() == y.bytes())
}

/// All that a kernel is written from, apart from its writer.
#[derive(Clone, Debug)]
pub struct Spec {
    ints: Vec<(String, Int)>,
    reals: Vec<(&'static str, f64)>,
    /// Name, slot and first element.
    buffers: Vec<(String, u32, Int)>,
    pub slots: usize,
    /// Their number; the last is the number of the launch.
    pub params: usize,
}

/// A buffer of a kernel, from its first element on.
#[derive(Clone, Copy)]
pub struct Buffer<'c> {
    memory: Memory<'c>,
    first: V<'c>,
}

impl<'c> Buffer<'c> {
    pub fn load(&self, b: &mut Build<'c>, at: V<'c>) -> V<'c> {
        let at = b.add(self.first, at);
        b.load(self.memory, at)
    }

    pub fn store(&self, b: &mut Build<'c>, at: V<'c>, v: V<'c>) {
        let at = b.add(self.first, at);
        b.store(self.memory, at, v);
    }

    /// The `n` elements from `at` on, an even place of the buffer's memory.
    pub fn load_side_by_side(&self, b: &mut Build<'c>, at: V<'c>, n: i64) -> Vec<V<'c>> {
        let at = b.add(self.first, at);
        b.load_side_by_side(self.memory, at, n)
    }

    pub fn store_side_by_side(&self, b: &mut Build<'c>, at: V<'c>, v: &[V<'c>]) {
        let at = b.add(self.first, at);
        b.store_side_by_side(self.memory, at, v);
    }
}

impl Spec {
    /// Text that is equal for equal kernels of one writer.
    pub fn key(&self) -> String {
        let mut key = String::new();
        let mut push = |name: &str, i: &Int| {
            let _ = match i {
                Int::Known(v) => write!(key, " {name}={v}"),
                Int::Param(k) => write!(key, " {name}=p{k}"),
            };
        };
        self.ints.iter().for_each(|(n, i)| push(n, i));
        self.buffers.iter().for_each(|(n, slot, offset)| push(&format!("{n}@{slot}"), offset));
        for (n, v) in &self.reals {
            let _ = write!(key, " {n}={:x}", v.to_bits());
        }
        key
    }

    fn find(&self, name: &str) -> Option<Int> {
        self.ints.iter().find(|(n, _)| n == name).map(|(_, i)| *i)
    }

    /// An integer as a value; absent ones are zero.
    pub fn int<'c>(&self, b: &Build<'c>, name: &str) -> V<'c> {
        match self.find(name) {
            Some(Int::Known(v)) => b.i32(v),
            Some(Int::Param(k)) => b.param(k),
            None => b.i32(0),
        }
    }

    /// An integer that is built in, or zero.
    pub fn known(&self, name: &str) -> i64 {
        match self.find(name) {
            Some(Int::Known(v)) => v,
            _ => 0,
        }
    }

    pub fn real(&self, name: &str) -> f64 {
        self.reals.iter().find(|(n, _)| *n == name).map_or(0.0, |(_, v)| *v)
    }

    pub fn has(&self, name: &str) -> bool {
        self.buffers.iter().any(|(n, ..)| n == name)
    }

    /// The slot and the first element of a buffer.
    pub fn place(&self, name: &str) -> Option<(u32, Int)> {
        self.buffers.iter().find(|(n, ..)| n == name).map(|(_, slot, first)| (*slot, *first))
    }

    /// An integer as it is; absent ones are zero.
    pub fn number(&self, name: &str) -> Int {
        self.find(name).unwrap_or(Int::Known(0))
    }

    /// The first element of a buffer, if it is built in.
    pub fn first(&self, name: &str) -> Option<i64> {
        match self.buffers.iter().find(|(n, ..)| n == name) {
            Some((.., Int::Known(v))) => Some(*v),
            _ => None,
        }
    }

    /// A buffer as elements `cell`.
    ///
    /// # Errors
    /// If it is not there, or wanted as elements of two types.
    pub fn buffer<'c>(&self, b: &mut Build<'c>, name: &str, cell: Cell) -> Result<Buffer<'c>, String> {
        let (_, slot, first) = self.buffers.iter().find(|(n, ..)| n == name).ok_or_else(|| format!("no buffer {name}"))?;
        let memory = b.buffer(*slot, cell)?;
        let first = match first {
            Int::Known(v) => b.i32(*v),
            Int::Param(k) => b.param(*k),
        };
        Ok(Buffer { memory, first })
    }
}

/// Arguments of a library kernel by name.
pub struct Args<'a> {
    pub symbol: &'static str,
    pub flavour: Flavour,
    /// In what f32 products are multiplied.
    pub factors: Factors,
    args: &'a [(&'static str, Arg)],
}

impl<'a> Args<'a> {
    pub fn new(symbol: &'static str, args: &'a [(&'static str, Arg)], flavour: Flavour, factors: Factors) -> Args<'a> {
        Args { symbol, flavour, factors, args }
    }

    /// The argument of that name.
    pub fn find(&self, name: &str) -> Option<&'a Arg> {
        self.args.iter().find(|(n, _)| *n == name).map(|(_, a)| a)
    }

    /// Zero where it is absent.
    pub fn dim(&self, name: &str) -> Dim {
        match self.find(name) {
            Some(Arg::Int(d)) => d.clone(),
            _ => Dim::ZERO,
        }
    }

    /// `other` where it is absent or zero.
    pub fn dim_or(&self, name: &str, other: &Dim) -> Dim {
        let d = self.dim(name);
        if d.is_zero() { other.clone() } else { d }
    }

    /// A code or flag, which plans give as constants.
    pub fn int(&self, name: &str) -> i64 {
        self.dim(name).as_const().unwrap_or(0)
    }

    pub fn real(&self, name: &str) -> f64 {
        match self.find(name) {
            Some(Arg::Real(v)) => *v,
            _ => 0.0,
        }
    }

    pub fn has(&self, name: &str) -> bool {
        matches!(self.find(name), Some(Arg::Buf { .. }))
    }

    /// `d` with each of the buffers that is there, by the same names.
    pub fn buffers(&self, d: Design, names: &[&'static str]) -> Design {
        names.iter().fold(d, |d, &name| match self.find(name) {
            Some(Arg::Buf { buf, offset }) => d.buffer(name, *buf, offset.clone()),
            _ => d,
        })
    }
}

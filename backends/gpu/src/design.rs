//! What a launch needs of its kernel: sizes that are built in, sizes that are parameters, buffers, and how much work there is.
//!
//! A step of the plan becomes a [`Design`]; a design whose expressions are sorted into constants and parameters is a [`Spec`], from
//! which the kernel is written. Equal specs are one kernel, in one program and in the cache.

use crate::build::warpgroups::Given;
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
    /// In how many parts the depth of a product had better be divided, and the numbers of its result.
    pub parts: Option<(i64, i64)>,
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
            parts: None,
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

impl<'c> Buffer<'c> {
    /// Starts to copy the first `bytes` of 16 bytes from element `at` on, and zeros for the rest, to `to` of a workgroup's memory.
    pub fn copy_piece(&self, b: &mut Build<'c>, at: V<'c>, to: (Given<'c>, V<'c>), bytes: V<'c>) {
        let at = b.add(self.first, at);
        b.copy_piece(self.memory, at, to, bytes);
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

/// How a product is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By the arithmetic of threads.
    Threads,
    /// By fragments of warps (`mma.sync`).
    Warps,
    /// By tiles of warpgroups (`wgmma`).
    Warpgroups,
}

/// The tile of a workgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tile {
    pub way: Way,
    pub rows: i64,
    pub columns: i64,
    /// Parts that the depth is divided in, each a workgroup's.
    pub parts: i64,
}

impl Tile {
    /// The one with which `z` products of `m` rows, `n` columns and depth `k` are expected to take the least time; sizes that are open count as large.
    /// `width` is the number of columns that lie together where the second factor is packed, or would.
    pub fn chosen(flavour: Flavour, factors: Factors, [z, m, n, k]: [&Dim; 4], width: i64) -> Tile {
        let size = |d: &Dim, open: i64| d.as_const().unwrap_or(open).max(1);
        let sizes = [size(z, 1), size(m, 4096), size(n, 4096), size(k, 1024)];
        let narrower = [16, 32, 64].into_iter().filter(|c| *c <= width);
        let way = if factors == Factors::F32 { Way::Threads } else { Way::Warps };
        let heights: &[i64] = if way == Way::Threads { &[32, 64] } else { &[32, 64, 128] };
        let mut tiles: Vec<Tile> =
            narrower.flat_map(|columns| heights.iter().map(move |&rows| Tile { way, rows, columns, parts: 1 })).collect();
        if way == Way::Warps && matches!(flavour, Flavour::Ptx(chip) if chip.has_warpgroups()) {
            // Panels are brought whole, one or two.
            let columns = [width].into_iter().chain((width == 64).then_some(128));
            tiles.extend(columns.map(|columns| Tile { way: Way::Warpgroups, rows: 128, columns, parts: 1 }));
        }
        // What is divided has a place for its parts, whose size is known.
        if [z, m, n, k].iter().all(|d| d.as_const().is_some()) {
            let parts = |t: &Tile| [2, 4, 8, 16].map(|parts| Tile { parts, ..*t });
            tiles.extend(tiles.clone().iter().flat_map(parts));
        }
        // Of equal costs the largest tile, which reads least, and the fewest parts.
        let order = |t: &Tile| (t.cost(factors, sizes), -t.rows * t.columns, t.parts);
        tiles.into_iter().min_by(|x, y| order(x).partial_cmp(&order(y)).unwrap_or(std::cmp::Ordering::Equal)).unwrap_or(Tile {
            way,
            rows: 64,
            columns: width,
            parts: 1,
        })
    }

    /// The cycles of a multiprocessor that products are expected to take. It is there to tell good tiles from bad ones; the numbers are of no GPU in
    /// particular.
    fn cost(self, factors: Factors, [z, m, n, k]: [i64; 4]) -> f64 {
        /// Multiprocessors.
        const PROCESSORS: i64 = 100;
        /// Depth of a step.
        const STEP: i64 = 32;
        /// Bytes that reach a multiprocessor in a cycle.
        const BROUGHT: f64 = 40.0;
        /// Cycles until the first step of a tile has its numbers.
        const START: f64 = 1000.0;
        /// Cycles of a launch.
        const LAUNCH: f64 = 5000.0;
        let up = |a: i64, b: i64| (a + b - 1) / b;
        let rounds = up(z * up(m, self.rows) * up(n, self.columns) * self.parts, PROCESSORS);
        // Products in a cycle, and cycles that a step takes besides.
        let (rate, between) = match self.way {
            Way::Threads => (100.0, 60.0),
            Way::Warps => (400.0, 60.0),
            Way::Warpgroups => (800.0, 60.0),
        };
        let rate = rate * factors.per_word() as f64;
        let products = (self.rows * self.columns * STEP) as f64 / rate;
        let bytes = 4.0 * ((self.rows + self.columns) * STEP) as f64 / BROUGHT;
        let step = products.max(bytes) + between;
        let stored = 4.0 * (self.rows * self.columns) as f64 / BROUGHT;
        // Another launch, which reads all parts.
        let sum =
            if self.parts > 1 { LAUNCH + 4.0 * (z * m * n * (self.parts + 1)) as f64 / (BROUGHT * PROCESSORS as f64) } else { 0.0 };
        rounds as f64 * (START + up(up(k, STEP), self.parts) as f64 * step + stored) + sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Chip, Features};

    fn tile(flavour: Flavour, factors: Factors, sizes: [i64; 4]) -> Tile {
        let width = match sizes[2] {
            0..=16 => 16,
            17..=32 => 32,
            _ => 64,
        };
        let sizes = sizes.map(Dim::from);
        Tile::chosen(flavour, factors, sizes.each_ref(), width)
    }

    #[test]
    fn tiles_are_as_large_as_there_are_products_for() {
        let (spirv, common, hopper) = (Flavour::Spirv(Features::ALL), Flavour::Ptx(Chip::COMMON), Flavour::Ptx(Chip::HOPPER));
        let large = [1, 4096, 4096, 4096];
        assert_eq!(tile(spirv, Factors::F32, large), Tile { way: Way::Threads, rows: 64, columns: 64, parts: 1 });
        assert_eq!(tile(common, Factors::Tf32, large), Tile { way: Way::Warps, rows: 128, columns: 64, parts: 1 });
        assert_eq!(tile(hopper, Factors::Bf16, large), Tile { way: Way::Warpgroups, rows: 128, columns: 128, parts: 1 });
        // f32 is never on tensor cores.
        assert_eq!(tile(hopper, Factors::F32, large), tile(spirv, Factors::F32, large));
        for (flavour, factors) in [(spirv, Factors::F32), (common, Factors::Tf32), (hopper, Factors::Bf16)] {
            // What a workgroup computes, as a share of the depth.
            let area = |t: Tile| t.rows * t.columns / t.parts;
            let (small, whole) = (tile(flavour, factors, [1, 128, 128, 4096]), tile(flavour, factors, large));
            assert!(area(small) < area(whole), "{small:?} {whole:?}");
            // What is deep and has few tiles is divided; what is flat is not.
            let deep = tile(flavour, factors, [1, 64, 64, 1 << 16]);
            assert!(deep.parts > 1 && tile(flavour, factors, [1, 64, 64, 256]).parts == 1, "{deep:?}");
            // Few rows are not padded to many.
            assert_eq!(tile(flavour, factors, [1, 32, 4096, 512]).rows, 32);
            // Many small products are as good as a large one.
            assert!(area(tile(flavour, factors, [512, 128, 128, 4096])) > area(small));
            assert_eq!(tile(flavour, factors, [1, 4096, 10, 512]).columns, 16);
        }
    }

    #[test]
    fn open_sizes_count_as_large() {
        let open = Dim::sym(graphc_ir::Sym::new("m"));
        let (one, n, k) = (Dim::ONE, Dim::from(4096i64), Dim::from(1024i64));
        let chosen = Tile::chosen(Flavour::Ptx(Chip::HOPPER), Factors::Tf32, [&one, &open, &n, &k], 64);
        assert_eq!((chosen.way, chosen.rows), (Way::Warpgroups, 128));
    }
}

//! Products on tensor cores of `sm_90a`: tiles that warpgroups multiply where they lie in shared memory.
//!
//! Warps have roles. One thread of the *bringing* warp has boxes of the factors copied, as they are, by the units for that. The *rounding* warps bring
//! what arrived to tf32 or bf16 and into the order of operands; what no box can describe, the pixels under a filter for instance, they read from
//! memory themselves. Each *multiplying* warpgroup has 64 rows of sums. All go through the same ring of [`STAGES`] steps of depth, and meet at
//! three barriers a stage: `raw` (boxes are there), `ready` (operands are there), `free` (the step is multiplied).

use super::matrix::{At, Buffers, Common, Product, Task, buffers, fetch, finish};
use crate::build::warpgroups::{Given, Map, Rows};
use crate::build::{Build, V};
use crate::code::TensorMap;
use crate::design::Spec;
use crate::target::Factors;
use graphc_cpu::tape::code::{Cond, Ty};

/// Rows of a tile: 64 for each multiplying warpgroup.
pub const ROWS: i64 = 128;
const WARPGROUPS: i64 = ROWS / 64;
/// Threads of a warpgroup; as many round.
const GROUP: i64 = 128;
const WARP: i64 = 32;
pub const THREADS: i64 = (WARPGROUPS + 1) * GROUP + WARP;
/// Numbers of f32 of depth in a step: a row of 128 bytes.
pub const DEPTH: i64 = 32;
/// Steps under way; a power of two.
const STAGES: i64 = 4;
/// Bytes of a barrier.
const BARRIER: i64 = 8;

/// How boxes of a factor lie where they arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Box {
    /// A row of the operand after another, exchanged as operands are.
    Rows,
    /// Panels of so many of the operand's rows: their numbers of one depth side by side, one depth after another.
    Panels(i64),
}

/// A factor as boxes, and where the one of a task and a depth begins: of the axes in order.
pub struct Boxes {
    pub map: TensorMap,
    pub lie: Box,
    pub axes: Vec<Axis>,
}

/// What a coordinate of a box follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Axis {
    Depth,
    /// The first row of the operand's tile, in units of so many.
    Row(i64),
    /// The index along one axis of the batch.
    Batch(usize),
    /// A box has all of it.
    Whole,
}

/// One factor of the kernel.
struct Operand<'c> {
    /// Rows of its tile.
    rows: i64,
    boxes: Option<(Map<'c>, Boxes)>,
    /// Where it lies within a stage: as it arrives, and as it is multiplied.
    raw: i64,
    ready: i64,
}

/// What all roles know.
struct Ring<'c> {
    memory: Given<'c>,
    stage: i64,
    factors: Factors,
    rows: Rows,
    left: Operand<'c>,
    right: Operand<'c>,
    depth: V<'c>,
}

#[derive(Clone, Copy)]
enum Barrier {
    Raw,
    Ready,
    Free,
}

/// A step of a task: its depth, the number of steps before it, and what is carried.
type Step<'a, 'c> = &'a mut dyn FnMut(&mut Build<'c>, Task<'c>, V<'c>, V<'c>, &[V<'c>]) -> Vec<V<'c>>;

/// One workgroup for each tile of [`ROWS`] rows and `c.columns` columns.
pub fn tiled<'c>(b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product) -> Result<(), String> {
    b.alone = true;
    let m = buffers(b, s, c)?;
    let ring = Ring::new(b, s, c, p);
    let thread = b.thread();
    let first = b.cmp(Cond::Eq, thread, b.i32(0));
    b.when(first, |b| ring.init(b));
    b.barrier();
    let role = b.quot(thread, b.i32(GROUP));
    let (multiplies, rounds) = (b.lt(role, b.i32(WARPGROUPS)), b.cmp(Cond::Eq, role, b.i32(WARPGROUPS)));
    let brings = b.cmp(Cond::Eq, role, b.i32(WARPGROUPS + 1));
    if ring.left.boxes.is_some() || ring.right.boxes.is_some() {
        b.when(brings, |b| {
            let one = b.elected();
            b.when(one, |b| ring.bring(b, s, c, p));
        });
    }
    b.when(rounds, |b| ring.round(b, s, c, p, &m));
    let mut result = Ok(());
    b.when(multiplies, |b| result = ring.multiply(b, s, c, p, &m));
    result
}

/// Runs `step` for each depth of each task; it is given the number of steps before it, over all tasks, and carries what `init` begins with. `end` is
/// given what was carried to the end of a task.
fn steps<'c>(
    b: &mut Build<'c>,
    s: &Spec,
    c: &Common,
    init: &[V<'c>],
    begin: &mut dyn FnMut(&mut Build<'c>, Task<'c>),
    step: Step<'_, 'c>,
    end: &mut dyn FnMut(&mut Build<'c>, Task<'c>, &[V<'c>]),
) {
    let count = s.int(b, "count");
    let (zero, one, by) = (b.i32(0), b.i32(1), b.i32(DEPTH));
    b.tasks_with(count, &[zero], &mut |b, task, done| {
        let task = Task::of(b, s, c, ROWS, task);
        begin(b, task);
        let carried = b.repeat(task.begin, task.end, by, &[&[done[0]], init].concat(), &mut |b, k0, carried| {
            let next = b.add(carried[0], one);
            [vec![next], step(b, task, k0, carried[0], &carried[1..])].concat()
        });
        end(b, task, &carried[1..]);
        vec![carried[0]]
    });
}

impl<'c> Ring<'c> {
    fn new(b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product) -> Ring<'c> {
        let factors = c.factors;
        let rows = if factors == Factors::Bf16 { Rows::Of64 } else { Rows::Of128 };
        let [left, right] = p.boxes(s, c.columns);
        let mut at = 0;
        let mut take = |bytes: i64| {
            at += bytes.max(0);
            at - bytes.max(0)
        };
        let mut operand = |b: &mut Build<'c>, count: i64, boxes: Option<Boxes>| {
            let raw = take(if boxes.is_some() { (count * DEPTH * 4).max(1024) } else { 0 });
            // Rows that arrive as operands lie are rounded in their place.
            let in_place = rows == Rows::Of128 && boxes.as_ref().is_some_and(|b| b.lie == Box::Rows);
            let ready = if in_place { raw } else { take((count * rows.bytes() + 1023) / 1024 * 1024) };
            let boxes = boxes.map(|boxes| (b.map(boxes.map.clone()), boxes));
            Operand { rows: count, boxes, raw, ready }
        };
        let (left, right) = (operand(b, ROWS, left), operand(b, c.columns, right));
        let memory = b.take_memory(STAGES * at + 3 * STAGES * BARRIER);
        Ring { memory, stage: at, factors, rows, left, right, depth: s.int(b, "k") }
    }

    fn init(&self, b: &mut Build<'c>) {
        let counts = [1, GROUP, WARPGROUPS * GROUP];
        for (kind, count) in (0..).zip(counts) {
            for stage in 0..STAGES {
                b.init_barrier(self.memory, STAGES * self.stage + (kind * STAGES + stage) * BARRIER, count);
            }
        }
        b.announce_barriers();
    }

    /// Where stage `done % STAGES` begins.
    fn stage(&self, b: &mut Build<'c>, done: V<'c>) -> V<'c> {
        let stage = b.arith("arith.andi", done, b.i32(STAGES - 1));
        b.mul(stage, b.i32(self.stage))
    }

    fn barrier(&self, b: &mut Build<'c>, which: Barrier, done: V<'c>) -> V<'c> {
        let stage = b.arith("arith.andi", done, b.i32(STAGES - 1));
        let at = b.mul(stage, b.i32(BARRIER));
        b.add(at, b.i32(STAGES * (self.stage + which as i64 * BARRIER)))
    }

    /// Waits for a barrier in the round of step `done`; for what is free, that of the round before.
    fn wait(&self, b: &mut Build<'c>, which: Barrier, done: V<'c>) {
        let round = b.arith("arith.shrui", done, b.i32(i64::from(STAGES.trailing_zeros())));
        let mut parity = b.arith("arith.andi", round, b.i32(1));
        if matches!(which, Barrier::Free) {
            parity = b.arith("arith.xori", parity, b.i32(1));
        }
        let at = self.barrier(b, which, done);
        b.wait_barrier(self.memory, at, parity);
    }

    /// One thread: has the boxes of each step copied.
    fn bring(&self, b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product) {
        let operands = [&self.left, &self.right];
        let bytes = operands.iter().filter(|o| o.boxes.is_some()).map(|o| o.rows * DEPTH * 4).sum();
        steps(
            b,
            s,
            c,
            &[],
            &mut |_, _| {},
            &mut |b, Task { z, row, column, .. }, k0, done, _| {
                self.wait(b, Barrier::Free, done);
                let (stage, barrier) = (self.stage(b, done), self.barrier(b, Barrier::Raw, done));
                b.arrive_and_expect(self.memory, barrier, bytes);
                for (o, first) in operands.into_iter().zip([row, column]) {
                    let Some((map, boxes)) = &o.boxes else { continue };
                    let batch = p.batch(b, s, z);
                    let mut at = Vec::new();
                    for axis in &boxes.axes {
                        at.push(match *axis {
                            Axis::Depth => k0,
                            Axis::Row(unit) => b.quot(first, b.i32(unit)),
                            Axis::Batch(k) => batch.get(k).copied().unwrap_or(z),
                            Axis::Whole => b.i32(0),
                        });
                    }
                    let to = b.add(stage, b.i32(o.raw));
                    b.copy_box(self.memory, to, *map, &at, barrier);
                }
                Vec::new()
            },
            &mut |_, _, _| {},
        );
    }

    /// [`GROUP`] threads: round what arrived, and read what does not arrive by itself.
    fn round(&self, b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product, m: &Buffers<'c>) {
        let thread = b.thread();
        let thread = b.sub(thread, b.i32(WARPGROUPS * GROUP));
        let brought = self.left.boxes.is_some() || self.right.boxes.is_some();
        // Of the row and of the column that a thread reads, what is the same for all depths.
        let known = std::cell::RefCell::new((Vec::new(), b.bool(false), b.i32(0), b.bool(false)));
        steps(
            b,
            s,
            c,
            &[],
            &mut |b, Task { z, row: row0, column: column0, .. }| {
                let [rows, columns] = ["m", "n"].map(|n| s.int(b, n));
                let own = b.rest(thread, b.i32(self.right.rows));
                let (row, column) = (b.add(row0, thread), b.add(column0, own));
                let (in_rows, in_columns) = (b.lt(row, rows), b.lt(column, columns));
                let (row, column) = (b.select(in_rows, row, b.i32(0)), b.select(in_columns, column, b.i32(0)));
                let left = if self.left.boxes.is_none() { p.row(b, s, z, row) } else { Vec::new() };
                let right = if self.right.boxes.is_none() { p.column(b, s, z, column) } else { b.i32(0) };
                known.replace((left, in_rows, right, in_columns));
            },
            &mut |b, _, k0, done, _| {
                self.wait(b, if brought { Barrier::Raw } else { Barrier::Free }, done);
                let stage = self.stage(b, done);
                let (left, in_rows, right, in_columns) = known.borrow().clone();
                let step = p.step(b, s);
                self.operand(b, &self.left, stage, thread, &mut |b, k| {
                    let k = b.add(k0, k);
                    let (at, in_depth) = (p.left(b, s, &left, k), b.lt(k, self.depth));
                    let there = b.and(in_rows, at.there);
                    let there = b.and(there, in_depth);
                    fetch(b, &m.left, &At { at: at.at, there }, c.cell)
                });
                self.operand(b, &self.right, stage, thread, &mut |b, k| {
                    let k = b.add(k0, k);
                    let in_depth = b.lt(k, self.depth);
                    let there = b.and(in_columns, in_depth);
                    let from = b.mul(k, step);
                    let at = b.add(right, from);
                    fetch(b, &m.right, &At { at, there }, c.cell)
                });
                b.fence_for_units();
                let ready = self.barrier(b, Barrier::Ready, done);
                b.arrive(self.memory, ready);
                Vec::new()
            },
            &mut |_, _, _| {},
        );
    }

    /// Makes the tile of an operand: each thread some pieces of 16 bytes, of which `read` gives the numbers by their depth in the step where they do not
    /// arrive by themselves.
    fn operand(
        &self,
        b: &mut Build<'c>,
        o: &Operand<'c>,
        stage: V<'c>,
        thread: V<'c>,
        read: &mut dyn FnMut(&mut Build<'c>, V<'c>) -> V<'c>,
    ) {
        let (all, each) = (o.rows * self.rows.pieces(), 4 * self.factors.per_word());
        for from in (0..all).step_by(GROUP as usize) {
            let id = b.add(thread, b.i32(from));
            let some = if all - from < GROUP { b.lt(thread, b.i32(all - from)) } else { b.bool(true) };
            b.when(some, |b| {
                let (row, piece) = (b.rest(id, b.i32(o.rows)), b.quot(id, b.i32(o.rows)));
                let raw = b.add(stage, b.i32(o.raw));
                let mut numbers = Vec::new();
                match o.boxes.as_ref().map(|(_, boxes)| boxes.lie) {
                    Some(Box::Rows) => {
                        for k in 0..each / 4 {
                            let piece = b.mul(piece, b.i32(each / 4));
                            let piece = b.add(piece, b.i32(k));
                            let at = Rows::Of128.place(b, row, piece);
                            let at = b.add(raw, at);
                            numbers.extend(b.load_piece(self.memory, at, Ty::F32));
                        }
                    }
                    Some(Box::Panels(width)) => {
                        let (panel, within) = (b.quot(row, b.i32(width)), b.rest(row, b.i32(width)));
                        let (panel, first) = (b.mul(panel, b.i32(DEPTH)), b.mul(piece, b.i32(each)));
                        let first = b.add(panel, first);
                        let first = b.mul(first, b.i32(width));
                        let first = b.add(first, within);
                        for k in 0..each {
                            let at = b.add(first, b.i32(k * width));
                            let at = b.mul(at, b.i32(4));
                            let at = b.add(raw, at);
                            numbers.push(b.load_number(self.memory, at));
                        }
                    }
                    None => {
                        for k in 0..each {
                            let depth = b.mul(piece, b.i32(each));
                            let depth = b.add(depth, b.i32(k));
                            numbers.push(read(b, depth));
                        }
                    }
                }
                let words: Vec<V> = match self.factors {
                    Factors::Bf16 => numbers.chunks(2).map(|pair| b.bf16_pair(pair[0], pair[pair.len() - 1])).collect(),
                    _ => numbers.into_iter().map(|x| b.tf32(x)).collect(),
                };
                let at = self.rows.place(b, row, piece);
                let at = b.add(stage, at);
                let at = b.add(at, b.i32(o.ready));
                b.store_piece(self.memory, at, &words);
            });
        }
    }

    /// [`WARPGROUPS`] warpgroups: multiply, and store what comes of it.
    fn multiply(&self, b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product, m: &Buffers<'c>) -> Result<(), String> {
        let thread = b.thread();
        let (group, warp, lane) = (b.quot(thread, b.i32(GROUP)), b.quot(thread, b.i32(WARP)), b.rest(thread, b.i32(WARP)));
        let none = vec![b.f32(0.0); (c.columns / 2) as usize];
        let mut result = Ok(());
        steps(
            b,
            s,
            c,
            &none,
            &mut |_, _| {},
            &mut |b, _, _, done, sums| {
                self.wait(b, Barrier::Ready, done);
                let stage = self.stage(b, done);
                let own = b.mul(group, b.i32(64 * self.rows.bytes()));
                let left = b.add(stage, own);
                let (left, right) = (b.add(left, b.i32(self.left.ready)), b.add(stage, b.i32(self.right.ready)));
                let tiles = [left, right].map(|at| b.tile_descriptor(self.memory, at, self.rows));
                let sums = b.multiply_tiles(self.factors, c.columns, self.rows.bytes() / 32, tiles, sums);
                let free = self.barrier(b, Barrier::Free, done);
                b.arrive(self.memory, free);
                sums
            },
            &mut |b, task, sums| {
                let [rows, columns] = ["m", "n"].map(|n| s.int(b, n));
                let (down, across) = (b.mul(warp, b.i32(16)), b.rest(lane, b.i32(4)));
                let (g, t) = (b.quot(lane, b.i32(4)), b.mul(across, b.i32(2)));
                let (row, column) = (b.add(task.row, down), b.add(task.column, t));
                let row = b.add(row, g);
                for (k, &sum) in (0..).zip(sums) {
                    let (row, column) = (b.add(row, b.i32(k / 2 % 2 * 8)), b.add(column, b.i32(k / 4 * 8 + k % 2)));
                    let (in_rows, in_columns) = (b.lt(row, rows), b.lt(column, columns));
                    let inside = b.and(in_rows, in_columns);
                    b.when(inside, |b| {
                        if let Err(e) = finish(b, s, c, p, m, (&task, row, column), sum) {
                            result = Err(e);
                        }
                    });
                }
            },
        );
        result
    }
}

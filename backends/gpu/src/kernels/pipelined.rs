//! Products on tensor cores whose factors come as pieces of 16 bytes: threads have them copied to shared memory (`cp.async`) some steps ahead, and warps
//! load fragments of them (`ldmatrix`), which are rounded in registers. For PTX.
//!
//! A tile has rows of 128 bytes along the depth, with pieces exchanged as in [`Rows::Of128`], so that the eight rows of a matrix lie in banks of their own;
//! or, of the second factor where its columns are neighbours, a row a depth, longer than its columns by [`GAP`].

use super::matrix::{Buffers, Common, Product, Task, buffers, finish};
use super::tensor::{FRAGMENT, GAP, Part, SUMS, WARP, WARP_ROWS, threads, total};
use crate::build::warpgroups::{Given, Rows};
use crate::build::{Build, V};
use crate::design::Spec;
use crate::target::Factors;
use graphc_cpu::tape::code::{Cond, Ty};

/// Numbers of depth in a step.
const DEPTH: i64 = 32;
/// Numbers of a piece.
const PIECE: i64 = 4;
/// Steps under way.
const STAGES: i64 = 3;

/// Along what four numbers of a factor are neighbours, from multiples of four on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Along {
    Depth,
    /// The other side, of the second factor alone.
    Columns,
}

struct Pipeline<'c> {
    memory: Given<'c>,
    factors: Factors,
    right: Along,
    rows: i64,
    columns: i64,
    threads: i64,
    /// Bytes of a stage, and of the left tile in it.
    stage: i64,
    left: i64,
    thread: V<'c>,
    depth: V<'c>,
}

/// What the pieces of a thread belong to: of the left tile rows, of the right one columns, each with what is known of it, whether it is there, the place
/// in the tile, and the depth of the piece in a step.
struct Pieces<'c> {
    left: Vec<(Vec<V<'c>>, V<'c>, V<'c>, V<'c>)>,
    right: Vec<(V<'c>, V<'c>, V<'c>, V<'c>)>,
    step: V<'c>,
}

/// One workgroup for each tile of `rows` rows of the result, whose second factor has its neighbours along `right`.
pub fn tiled<'c>(b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product, rows: i64, right: Along) -> Result<(), String> {
    b.alone = true;
    let m = buffers(b, s, c)?;
    let count = s.int(b, "count");
    let right_bytes = if right == Along::Depth { c.columns * DEPTH * 4 } else { DEPTH * (c.columns + GAP) * 4 };
    let (left, stage) =
        (rows * DEPTH * 4, rows * DEPTH * 4 + right_bytes.div_euclid(1024) * 1024 + 1024 * i64::from(right_bytes % 1024 > 0));
    let memory = b.take_memory(STAGES * stage);
    let thread = b.thread();
    let x = Pipeline {
        memory,
        factors: c.factors,
        right,
        rows,
        columns: c.columns,
        threads: threads(rows),
        stage,
        left,
        thread,
        depth: s.int(b, "k"),
    };
    let part = Part::of(b, thread, c.columns);
    let mut result = Ok(());
    b.tasks(count, |b, task| {
        let task = Task::of(b, s, c, rows, task);
        let pieces = x.pieces(b, s, p, &task);
        for stage in 0..STAGES - 1 {
            let (k0, stage) = (b.add(task.begin, b.i32(stage * DEPTH)), b.i32(stage));
            x.start(b, s, p, &m, &pieces, k0, stage);
        }
        let none = vec![b.f32(0.0); (WARP_ROWS / 16 * (c.columns / 2 / 8)) as usize * SUMS.len()];
        let (by, first) = (b.i32(DEPTH), b.i32(0));
        let last = b.repeat(task.begin, task.end, by, &[&[first][..], &none].concat(), &mut |b, k0, carried| {
            let (stage, sums) = (carried[0], &carried[1..]);
            // All but the newest copies are there, for all threads, and what was read in the step before may be overwritten.
            b.wait_copies(STAGES - 2);
            b.barrier();
            let ahead = b.add(k0, b.i32((STAGES - 1) * DEPTH));
            let free = x.after(b, stage, STAGES - 1);
            x.start(b, s, p, &m, &pieces, ahead, free);
            let sums = x.multiply(b, &part, stage, sums);
            [vec![x.after(b, stage, 1)], sums].concat()
        });
        b.wait_copies(0);
        b.barrier();
        let [rows, columns] = ["m", "n"].map(|n| s.int(b, n));
        for (k, &sum) in last[1..].iter().enumerate() {
            let [row, column] = part.place(b, [task.row, task.column], c.columns, k);
            let (in_rows, in_columns) = (b.lt(row, rows), b.lt(column, columns));
            let inside = b.and(in_rows, in_columns);
            b.when(inside, |b| {
                if let Err(e) = finish(b, s, c, p, &m, (&task, row, column), sum) {
                    result = Err(e);
                }
            });
        }
    });
    result
}

impl<'c> Pipeline<'c> {
    /// The stage `n` steps after `stage`.
    fn after(&self, b: &mut Build<'c>, stage: V<'c>, n: i64) -> V<'c> {
        let next = b.add(stage, b.i32(n));
        let (less, end) = (b.sub(next, b.i32(STAGES)), b.i32(STAGES));
        let over = b.cmp(Cond::Ge, next, end);
        b.select(over, less, next)
    }

    fn pieces(&self, b: &mut Build<'c>, s: &Spec, p: &impl Product, task: &Task<'c>) -> Pieces<'c> {
        let Task { z, row: row0, column: column0, .. } = *task;
        let [rows, columns] = ["m", "n"].map(|n| s.int(b, n));
        let in_row = b.i32(DEPTH / PIECE);
        let mut left = Vec::new();
        for from in (0..self.rows * DEPTH / PIECE).step_by(self.threads as usize) {
            let id = b.add(self.thread, b.i32(from));
            let (r, piece) = (b.quot(id, in_row), b.rest(id, in_row));
            let row = b.add(row0, r);
            let there = b.lt(row, rows);
            let row = b.select(there, row, b.i32(0));
            let place = Rows::Of128.place(b, r, piece);
            let depth = b.mul(piece, b.i32(PIECE));
            left.push((p.row(b, s, z, row), there, place, depth));
        }
        let mut right = Vec::new();
        let all = self.columns * DEPTH / PIECE;
        for from in (0..all).step_by(self.threads as usize) {
            let id = b.add(self.thread, b.i32(from));
            let (own, depth, place) = match self.right {
                Along::Depth => {
                    let (own, piece) = (b.quot(id, in_row), b.rest(id, in_row));
                    let place = Rows::Of128.place(b, own, piece);
                    (own, b.mul(piece, b.i32(PIECE)), place)
                }
                Along::Columns => {
                    let side = b.i32(self.columns / PIECE);
                    let (depth, group) = (b.quot(id, side), b.rest(id, side));
                    let own = b.mul(group, b.i32(PIECE));
                    let line = b.mul(depth, b.i32(self.columns + GAP));
                    let at = b.add(line, own);
                    (own, depth, b.mul(at, b.i32(4)))
                }
            };
            let column = b.add(column0, own);
            let there = b.lt(column, columns);
            // Fewer pieces than threads: the others copy nothing.
            let mine = if all - from < self.threads { b.lt(self.thread, b.i32(all - from)) } else { b.bool(true) };
            // Bytes that are there along columns.
            let left = b.sub(columns, column);
            let left = b.min(left, b.i32(PIECE));
            let bytes = if self.right == Along::Columns { b.mul(left, b.i32(4)) } else { b.i32(16) };
            let bytes = b.select(there, bytes, b.i32(0));
            let column = b.select(there, column, b.i32(0));
            let base = p.column(b, s, z, column);
            let place = b.add(place, b.i32(self.left));
            let place = b.select(mine, place, b.i32(-1));
            right.push((base, bytes, place, depth));
        }
        Pieces { left, right, step: p.step(b, s) }
    }

    /// Has the pieces of the step at depth `k0` copied to a stage; zeros beyond the end.
    #[expect(clippy::too_many_arguments)]
    fn start(&self, b: &mut Build<'c>, s: &Spec, p: &impl Product, m: &Buffers<'c>, pieces: &Pieces<'c>, k0: V<'c>, stage: V<'c>) {
        let base = b.mul(stage, b.i32(self.stage));
        // Bytes of a piece along the depth.
        let along = |b: &mut Build<'c>, k: V<'c>| {
            let left = b.sub(self.depth, k);
            let left = b.min(left, b.i32(PIECE));
            let left = b.max(left, b.i32(0));
            b.mul(left, b.i32(4))
        };
        let zero = b.i32(0);
        for (row, there, place, depth) in &pieces.left {
            let k = b.add(k0, *depth);
            let at = p.left(b, s, row, k);
            let (bytes, there) = (along(b, k), b.and(*there, at.there));
            let bytes = b.select(there, bytes, zero);
            let some = b.cmp(Cond::Gt, bytes, zero);
            let from = b.select(some, at.at, zero);
            let to = b.add(base, *place);
            m.left.copy_piece(b, from, (self.memory, to), bytes);
        }
        for (column, bytes, place, depth) in &pieces.right {
            let k = b.add(k0, *depth);
            let bytes = match self.right {
                Along::Depth => {
                    let along = along(b, k);
                    b.min(along, *bytes)
                }
                Along::Columns => {
                    let inside = b.lt(k, self.depth);
                    b.select(inside, *bytes, zero)
                }
            };
            let from = b.mul(k, pieces.step);
            let from = b.add(*column, from);
            let some = b.cmp(Cond::Gt, bytes, zero);
            let from = b.select(some, from, zero);
            let mine = b.cmp(Cond::Ge, *place, zero);
            let to = b.add(base, *place);
            if self.columns * DEPTH / PIECE % self.threads == 0 {
                m.right.copy_piece(b, from, (self.memory, to), bytes);
            } else {
                b.when(mine, |b| m.right.copy_piece(b, from, (self.memory, to), bytes));
            }
        }
        b.commit_copies();
    }

    /// Four matrices of eight rows and four numbers: rows from `row` on and, where `down`, the eight below them, at `piece` and the next; else `row` at four
    /// pieces.
    fn matrices(&self, b: &mut Build<'c>, tile: V<'c>, row: V<'c>, piece: i64, down: bool) -> Vec<V<'c>> {
        let lane = b.rest(self.thread, b.i32(WARP));
        let (matrix, within) = (b.quot(lane, b.i32(8)), b.rest(lane, b.i32(8)));
        let row = b.add(row, within);
        let (row, piece) = if down {
            let below = b.rest(matrix, b.i32(2));
            let below = b.mul(below, b.i32(8));
            let next = b.quot(matrix, b.i32(2));
            (b.add(row, below), b.add(next, b.i32(piece)))
        } else {
            (row, b.add(matrix, b.i32(piece)))
        };
        let at = Rows::Of128.place(b, row, piece);
        let at = b.add(tile, at);
        b.load_matrices(self.memory, at)
    }

    /// Words of fragments: of tf32 a number each; of bf16 pairs of numbers four apart, for both factors alike, as the order of depths does not matter.
    fn rounded(&self, b: &mut Build<'c>, numbers: &[[V<'c>; 2]]) -> Vec<V<'c>> {
        let mut words = Vec::new();
        for &[x, y] in numbers {
            let [x, y] = [x, y].map(|v| if v.ty == Ty::I32 { b.unary("arith.bitcast", v, Ty::F32) } else { v });
            words.push(match self.factors {
                Factors::Bf16 => b.bf16_pair(x, y),
                _ => b.tf32(x),
            });
        }
        words
    }

    /// `sums` with the products of a stage's tiles.
    fn multiply(&self, b: &mut Build<'c>, part: &Part<'c>, stage: V<'c>, sums: &[V<'c>]) -> Vec<V<'c>> {
        let (down, across) = (WARP_ROWS / 16, self.columns / 2 / 8);
        let left = b.mul(stage, b.i32(self.stage));
        let right = b.add(left, b.i32(self.left));
        let per = self.factors.per_word();
        let mut sums = sums.to_vec();
        for fragment in 0..DEPTH / (FRAGMENT * per) {
            let piece = fragment * FRAGMENT * per / PIECE;
            let mut rows = Vec::new();
            for i in 0..down {
                let row = total(b, &[part.row], 16 * i);
                let x = self.matrices(b, left, row, piece, true);
                let words = if self.factors == Factors::Bf16 {
                    let y = self.matrices(b, left, row, piece + 2, true);
                    [[x[0], x[2]], [x[1], x[3]], [y[0], y[2]], [y[1], y[3]]]
                } else {
                    [[x[0]; 2], [x[1]; 2], [x[2]; 2], [x[3]; 2]]
                };
                rows.push(self.rounded(b, &words));
            }
            for j in 0..across {
                let numbers = match self.right {
                    Along::Depth => {
                        let column = total(b, &[part.column], 8 * j);
                        // Of tf32 two fragments are loaded at a time, and the other is of the step before or next.
                        let first = if self.factors == Factors::Bf16 { piece } else { piece / 4 * 4 };
                        let w = self.matrices(b, right, column, first, false);
                        if self.factors == Factors::Bf16 {
                            [[w[0], w[1]], [w[2], w[3]]]
                        } else {
                            let k = (piece - first) as usize;
                            [[w[k]; 2], [w[k + 1]; 2]]
                        }
                    }
                    Along::Columns => {
                        let load = |b: &mut Build<'c>, depth: i64| {
                            let line = total(b, &[part.t], piece * PIECE + depth);
                            let line = b.mul(line, b.i32(self.columns + GAP));
                            let at = total(b, &[line, part.column, part.g], 8 * j);
                            let at = b.mul(at, b.i32(4));
                            let at = b.add(right, at);
                            b.load_number(self.memory, at)
                        };
                        if self.factors == Factors::Bf16 {
                            [[load(b, 0), load(b, 4)], [load(b, 8), load(b, 12)]]
                        } else {
                            [[load(b, 0); 2], [load(b, 4); 2]]
                        }
                    }
                };
                let right = self.rounded(b, &numbers);
                for (i, left) in (0..down).zip(&rows) {
                    let at = (i * across + j) as usize * SUMS.len();
                    let next = b.mma(self.factors, left, &right, &sums[at..at + SUMS.len()]);
                    sums[at..at + SUMS.len()].copy_from_slice(&next);
                }
            }
        }
        sums
    }
}

//! Products on tensor cores: tiles of factors that are rounded to fewer bits, with sums in f32.
//!
//! A word of a tile holds one number of tf32, or two of bf16 at neighbouring depths. So the fragments of `mma.sync` are the same for both,
//! counted in words: 16 rows by 8 words, 8 words by 8 columns, 16 by 8 sums. Through Vulkan, which has no such instruction here, each
//! thread computes the sums that it has of a fragment from the tiles, so that all around the instruction is run by the tests.

use super::matrix::{At, Buffers, Common, Product, Task, buffers, fetch, finish};
use super::{pipelined, walk};
use crate::build::{Build, Memory, V};
use crate::design::Spec;
use crate::target::{Cell, Factors, Flavour};
use graphc_cpu::tape::code::Ty;

/// Words of depth that are in a workgroup's tiles, and of a fragment.
const WORDS: i64 = 16;
pub const FRAGMENT: i64 = 8;
/// Words from a row of the left tile to the next, so that the rows of a fragment lie in banks of their own.
const PITCH: i64 = WORDS + 4;
/// Words by which a row of the right tile is longer than its columns, for the same reason.
pub const GAP: i64 = 8;
/// Rows of a warp's tile. Its columns are half of the workgroup's.
pub const WARP_ROWS: i64 = 32;
pub const WARP: i64 = 32;

/// What registers of a fragment hold, in rows, words and columns, for the thread that is `g`, of eight, along one side and `t`, of four, along the
/// other: of the left factor row `g` and word `t` with these added, of the right one word `t` and column `g`, and of the sums row `g` and column
/// `2 t`.
const LEFT: [(i64, i64); 4] = [(0, 0), (8, 0), (0, 4), (8, 4)];
const RIGHT: [i64; 2] = [0, 4];
pub const SUMS: [(i64, i64); 4] = [(0, 0), (0, 1), (8, 0), (8, 1)];

/// Threads of a workgroup whose tile has so many rows.
pub fn threads(rows: i64) -> i64 {
    2 * rows
}

/// Tiles in the memory of the workgroup.
struct Tiles<'c> {
    factors: Factors,
    left: Memory<'c>,
    right: Memory<'c>,
    columns: i64,
}

/// Which words of the tiles a thread brings: of the left one a word of several rows, of the right one several words of a column.
struct Share<'c> {
    left_word: V<'c>,
    /// Of each row what the product knows of it, whether it is there, and its number in the tile.
    rows: Vec<(Vec<V<'c>>, V<'c>, V<'c>)>,
    right_words: Vec<V<'c>>,
    column: V<'c>,
    in_columns: V<'c>,
    right_base: V<'c>,
    step: V<'c>,
    depth: V<'c>,
}

/// The part of a thread in its warp's fragments.
pub struct Part<'c> {
    /// First row and column of the warp.
    pub row: V<'c>,
    pub column: V<'c>,
    pub g: V<'c>,
    pub t: V<'c>,
}

impl<'c> Part<'c> {
    /// Of `thread` in a tile of `columns` columns.
    pub fn of(b: &mut Build<'c>, thread: V<'c>, columns: i64) -> Part<'c> {
        let [warp, two, four, rows, side] = [WARP, 2, 4, WARP_ROWS, columns / 2].map(|n| b.i32(n));
        let (warp, lane) = (b.quot(thread, warp), b.rest(thread, warp));
        let (down, across) = (b.quot(warp, two), b.rest(warp, two));
        Part { row: b.mul(down, rows), column: b.mul(across, side), g: b.quot(lane, four), t: b.rest(lane, four) }
    }

    /// Row and column of sum `k` in a result whose tile begins at `first`.
    pub fn place(&self, b: &mut Build<'c>, first: [V<'c>; 2], columns: i64, k: usize) -> [V<'c>; 2] {
        let (tile, (down, right)) = (k / SUMS.len(), SUMS[k % SUMS.len()]);
        let across = (columns / 2 / 8) as usize;
        let (down, right) = (down + 16 * (tile / across) as i64, right + 8 * (tile % across) as i64);
        let t = b.mul(self.t, b.i32(2));
        [total(b, &[first[0], self.row, self.g], down), total(b, &[first[1], self.column, t], right)]
    }
}

/// One workgroup for each tile of `rows` rows of the result.
pub fn tiled<'c>(b: &mut Build<'c>, s: &Spec, c: &Common, p: &impl Product, rows: i64) -> Result<(), String> {
    let factors = c.factors;
    if let (Flavour::Ptx(_), Some(right)) = (b.flavour, p.pieces(s)) {
        return pipelined::tiled(b, s, c, p, rows, right);
    }
    b.alone = true;
    let m = buffers(b, s, c)?;
    let [all_rows, all_columns, depth, count] = ["m", "n", "k", "count"].map(|n| s.int(b, n));
    let threads = threads(rows);
    let tiles = Tiles {
        factors,
        left: b.shared(Cell::I32, rows * PITCH),
        right: b.shared(Cell::I32, WORDS * (c.columns + GAP)),
        columns: c.columns,
    };
    let thread = b.thread();
    let [words, columns] = [WORDS, c.columns].map(|n| b.i32(n));
    let part = Part::of(b, thread, c.columns);
    let (left_word, left_row) = (b.rest(thread, words), b.quot(thread, words));
    let (own_column, right_word) = (b.rest(thread, columns), b.quot(thread, columns));
    let mut result = Ok(());
    b.tasks(count, |b, task| {
        let task = Task::of(b, s, c, rows, task);
        let Task { z, row: row0, column: column0, .. } = task;
        let mut left_rows = Vec::new();
        for j in 0..rows * WORDS / threads {
            let r = b.add(left_row, b.i32(j * threads / WORDS));
            let row = b.add(row0, r);
            let there = b.lt(row, all_rows);
            // Rows beyond the last are computed with the first, and not used.
            let row = b.select(there, row, b.i32(0));
            left_rows.push((p.row(b, s, z, row), there, r));
        }
        let column = b.add(column0, own_column);
        let in_columns = b.lt(column, all_columns);
        let column = b.select(in_columns, column, b.i32(0));
        let each = threads / c.columns;
        let share = Share {
            left_word,
            rows: left_rows,
            right_words: (0..WORDS / each).map(|j| b.add(right_word, b.i32(j * each))).collect(),
            column: own_column,
            in_columns,
            right_base: p.column(b, s, z, column),
            step: p.step(b, s),
            depth,
        };
        // What the next step needs is on its way while this one computes.
        let step = b.i32(WORDS * factors.per_word());
        let first = share.bring(b, s, c, p, &m, factors, task.begin);
        let none = b.f32(0.0);
        let brought = first.len();
        let sums = vec![none; (WARP_ROWS / 16 * (c.columns / 2 / 8)) as usize * SUMS.len()];
        let last = b.repeat(task.begin, task.end, step, &[first, sums].concat(), &mut |b, k0, carried| {
            let (words, sums) = carried.split_at(brought);
            share.put(b, &tiles, words);
            b.barrier();
            let next = b.add(k0, step);
            let next = share.bring(b, s, c, p, &m, factors, next);
            let sums = tiles.multiply(b, &part, sums);
            b.barrier();
            [next, sums].concat()
        });
        let sums = &last[brought..];
        for (k, &sum) in sums.iter().enumerate() {
            let [row, column] = part.place(b, [row0, column0], c.columns, k);
            let (in_rows, in_columns) = (b.lt(row, all_rows), b.lt(column, all_columns));
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

pub fn total<'c>(b: &mut Build<'c>, values: &[V<'c>], more: i64) -> V<'c> {
    let sum = values.iter().fold(b.i32(0), |sum, &v| b.add(sum, v));
    b.add(sum, b.i32(more))
}

impl<'c> Share<'c> {
    /// The numbers of this thread's words at depth `k0`, as they lie in memory; zeros beyond the end.
    #[expect(clippy::too_many_arguments)]
    fn bring(
        &self,
        b: &mut Build<'c>,
        s: &Spec,
        c: &Common,
        p: &impl Product,
        m: &Buffers<'c>,
        factors: Factors,
        k0: V<'c>,
    ) -> Vec<V<'c>> {
        let per = factors.per_word();
        let mut numbers = Vec::new();
        // The depth of number `half` of a word.
        let depth_of = |b: &mut Build<'c>, word: V<'c>, half: i64| {
            let k = b.mul(word, b.i32(per));
            total(b, &[k0, k], half)
        };
        for half in 0..per {
            let k = depth_of(b, self.left_word, half);
            let in_depth = b.lt(k, self.depth);
            for (row, there, _) in &self.rows {
                let at = p.left(b, s, row, k);
                let there = b.and(*there, at.there);
                let there = b.and(there, in_depth);
                numbers.push(fetch(b, &m.left, &At { at: at.at, there }, c.cell));
            }
            for &word in &self.right_words {
                let k = depth_of(b, word, half);
                let in_depth = b.lt(k, self.depth);
                let there = b.and(in_depth, self.in_columns);
                let from = b.mul(k, self.step);
                let at = b.add(self.right_base, from);
                numbers.push(fetch(b, &m.right, &At { at, there }, c.cell));
            }
        }
        numbers
    }

    /// Rounds numbers and puts them into the tiles.
    fn put(&self, b: &mut Build<'c>, tiles: &Tiles<'c>, numbers: &[V<'c>]) {
        let words = numbers.len() / tiles.factors.per_word() as usize;
        for k in 0..words {
            let word = match tiles.factors {
                Factors::Bf16 => b.bf16_pair(numbers[k], numbers[k + words]),
                _ => b.tf32(numbers[k]),
            };
            match self.rows.get(k) {
                Some((.., row)) => {
                    let at = walk(b, &[*row, self.left_word], &[b.i32(PITCH), b.i32(1)]);
                    b.store(tiles.left, at, word);
                }
                None => {
                    let own = self.right_words[k - self.rows.len()];
                    let at = walk(b, &[own, self.column], &[b.i32(tiles.columns + GAP), b.i32(1)]);
                    b.store(tiles.right, at, word);
                }
            }
        }
    }
}

impl<'c> Tiles<'c> {
    /// A word of the left tile.
    fn left(&self, b: &mut Build<'c>, row: V<'c>, word: V<'c>) -> V<'c> {
        let at = walk(b, &[row, word], &[b.i32(PITCH), b.i32(1)]);
        b.load(self.left, at)
    }

    fn right(&self, b: &mut Build<'c>, word: V<'c>, column: V<'c>) -> V<'c> {
        let at = walk(b, &[word, column], &[b.i32(self.columns + GAP), b.i32(1)]);
        b.load(self.right, at)
    }

    /// `sums` with the products of the tiles: fragments of 16 rows one below another, in each those of 8 columns side by side.
    fn multiply(&self, b: &mut Build<'c>, part: &Part<'c>, sums: &[V<'c>]) -> Vec<V<'c>> {
        let (down, across) = (WARP_ROWS / 16, self.columns / 2 / 8);
        let mut sums = sums.to_vec();
        for word in (0..WORDS).step_by(FRAGMENT as usize) {
            if matches!(b.flavour, Flavour::Spirv(_)) {
                self.multiply_alone(b, part, word, &mut sums);
                continue;
            }
            let mut left = Vec::new();
            for i in 0..down {
                let registers = LEFT.map(|(row, k)| {
                    let row = total(b, &[part.row, part.g], 16 * i + row);
                    let k = total(b, &[part.t], word + k);
                    self.left(b, row, k)
                });
                left.push(registers);
            }
            for j in 0..across {
                let right = RIGHT.map(|k| {
                    let k = total(b, &[part.t], word + k);
                    let column = total(b, &[part.column, part.g], 8 * j);
                    self.right(b, k, column)
                });
                for (i, left) in (0..down).zip(&left) {
                    let at = (i * across + j) as usize * SUMS.len();
                    let next = b.mma(self.factors, left, &right, &sums[at..at + SUMS.len()]);
                    sums[at..at + SUMS.len()].copy_from_slice(&next);
                }
            }
        }
        sums
    }

    /// What a fragment of depth adds to the sums, number by number.
    fn multiply_alone(&self, b: &mut Build<'c>, part: &Part<'c>, word: i64, sums: &mut [V<'c>]) {
        let across = (self.columns / 2 / 8) as usize;
        let (zero, end, one, two) = (b.i32(0), b.i32(FRAGMENT), b.i32(1), b.i32(2));
        let next = b.repeat(zero, end, one, sums, &mut |b, k, sums| {
            let k = total(b, &[k], word);
            let mut next = Vec::new();
            for (n, &sum) in sums.iter().enumerate() {
                let (tile, (down, right)) = (n / SUMS.len(), SUMS[n % SUMS.len()]);
                let t = b.mul(part.t, two);
                let row = total(b, &[part.row, part.g], down + 16 * (tile / across) as i64);
                let column = total(b, &[part.column, t], right + 8 * (tile % across) as i64);
                let (x, w) = (self.left(b, row, k), self.right(b, k, column));
                let pairs = match self.factors {
                    Factors::Bf16 => vec![(low(b, x), low(b, w)), (high(b, x), high(b, w))],
                    _ => vec![(b.unary("arith.bitcast", x, Ty::F32), b.unary("arith.bitcast", w, Ty::F32))],
                };
                next.push(pairs.into_iter().fold(sum, |sum, (x, w)| b.fma(x, w, sum)));
            }
            next
        });
        sums.copy_from_slice(&next);
    }
}

/// The first number of a pair of bf16.
fn low<'c>(b: &mut Build<'c>, pair: V<'c>) -> V<'c> {
    let bits = b.arith("arith.shli", pair, b.i32(16));
    b.unary("arith.bitcast", bits, Ty::F32)
}

fn high<'c>(b: &mut Build<'c>, pair: V<'c>) -> V<'c> {
    let bits = b.arith("arith.andi", pair, b.i32(-65536));
    b.unary("arith.bitcast", bits, Ty::F32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where register `i` of thread `lane` belongs, by the definition of the instruction: for tf32 (m16n8k8), and for pairs of bf16 (m16n8k16) the
    /// first number of the pair.
    fn defined_left(lane: i64, i: i64, bf16: bool) -> (i64, i64) {
        let (group, thread) = (lane >> 2, lane % 4);
        if !bf16 {
            let row = if i == 0 || i == 2 { group } else { group + 8 };
            return (row, if i < 2 { thread } else { thread + 4 });
        }
        let i = 2 * i;
        let row = if (0..2).contains(&i) || (4..6).contains(&i) { group } else { group + 8 };
        (row, thread * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
    }

    fn defined_right(lane: i64, i: i64, bf16: bool) -> (i64, i64) {
        let (group, thread) = (lane >> 2, lane % 4);
        if !bf16 {
            return (if i == 0 { thread } else { thread + 4 }, group);
        }
        let i = 2 * i;
        (thread * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, group)
    }

    fn defined_sum(lane: i64, i: i64) -> (i64, i64) {
        let (group, thread) = (lane >> 2, lane % 4);
        (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
    }

    #[test]
    fn registers_hold_what_the_instruction_defines() {
        for (lane, bf16) in (0..WARP).flat_map(|lane| [(lane, false), (lane, true)]) {
            let (g, t, per) = (lane / 4, lane % 4, if bf16 { 2 } else { 1 });
            for (i, (row, word)) in (0..).zip(LEFT) {
                assert_eq!(defined_left(lane, i, bf16), (g + row, per * (t + word)), "left {i} of {lane}, bf16: {bf16}");
            }
            for (i, word) in (0..).zip(RIGHT) {
                assert_eq!(defined_right(lane, i, bf16), (per * (t + word), g), "right {i} of {lane}, bf16: {bf16}");
            }
            for (i, (row, column)) in (0..).zip(SUMS) {
                assert_eq!(defined_sum(lane, i), (g + row, 2 * t + column), "sum {i} of {lane}");
            }
        }
    }

    /// All of a fragment is held, and by one register alone.
    #[test]
    fn fragments_are_whole() {
        let mut held = [[0; FRAGMENT as usize]; 16];
        let mut sums = [[0; 8]; 16];
        for lane in 0..WARP {
            let (g, t) = (lane / 4, lane % 4);
            LEFT.iter().for_each(|(row, word)| held[(g + row) as usize][(t + word) as usize] += 1);
            SUMS.iter().for_each(|(row, column)| sums[(g + row) as usize][(2 * t + column) as usize] += 1);
        }
        assert_eq!(held, [[1; FRAGMENT as usize]; 16]);
        assert_eq!(sums, [[1; 8]; 16]);
    }

    /// Threads of a warp that read a register of a fragment read from 32 banks, and so do those that write words of a row.
    #[test]
    fn words_of_a_fragment_lie_in_banks_of_their_own() {
        let banks = |at: &dyn Fn(i64) -> i64| {
            let mut seen: Vec<i64> = (0..WARP).map(|lane| at(lane) % 32).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len()
        };
        for (row, word) in LEFT {
            assert_eq!(banks(&|lane| (lane / 4 + row) * PITCH + lane % 4 + word), 32);
        }
        for (columns, word) in [16, 32, 64].into_iter().flat_map(|c| RIGHT.map(|w| (c, w))) {
            assert_eq!(banks(&|lane| (lane % 4 + word) * (columns + GAP) + lane / 4), 32, "{columns} columns");
        }
    }
}

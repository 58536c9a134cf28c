//! Draws from weighted classes.

use super::philox::Singles;
use crate::{Call, HostError, invalid};
use std::collections::HashMap;

/// Weights of one each, and one more for each time that a class was learned. They are the leaves of a tree of sums, of which only what
/// learning added is stored.
pub(super) struct Learned {
    size: i32,
    levels: u32,
    total: i32,
    added: HashMap<(u32, i64), i32>,
}

impl Learned {
    pub fn new(size: i32) -> Learned {
        Learned { size, levels: (size.max(1) as u32).next_power_of_two().trailing_zeros(), total: size, added: HashMap::new() }
    }

    pub fn total(&self) -> i32 {
        self.total
    }

    /// The sum of the weights under a node of the tree.
    fn sum(&self, level: u32, index: i64) -> i32 {
        let width = 1i64 << (self.levels - level);
        let leaves = (i64::from(self.size) - index * width).clamp(0, width);
        leaves as i32 + self.added.get(&(level, index)).copied().unwrap_or(0)
    }

    pub fn weight(&self, class: i64) -> i32 {
        self.sum(self.levels, class)
    }

    pub fn pick(&self, numbers: &mut Singles) -> i64 {
        let mut position = numbers.uniform(self.total.max(0) as u32) as i32;
        let mut index = 0;
        for level in 1..=self.levels {
            let left = self.sum(level, 2 * index);
            index = 2 * index + i64::from(position >= left);
            if position >= left {
                position -= left;
            }
        }
        index
    }

    /// Adds to the weights of the classes, as far as their sum is still a number of 32 bits.
    pub fn learn(&mut self, classes: &[i64]) {
        for &class in classes.iter().take((i32::MAX - self.total).max(0) as usize) {
            self.total += 1;
            for level in 0..=self.levels {
                *self.added.entry((level, class >> (self.levels - level))).or_insert(0) += 1;
            }
        }
    }
}

/// Fixed weights, as a table of pairs of classes of equal total weight.
pub(super) struct Table {
    weights: Vec<f32>,
    total: f32,
    /// For each class, the chance of itself in its pair, and the other.
    pairs: Vec<(f32, usize)>,
}

impl Table {
    /// The table that the attributes of a node say.
    ///
    /// # Errors
    /// If they contradict one another or the file cannot be read.
    pub fn of(call: &Call) -> Result<Table, HostError> {
        let attrs = call.attrs;
        let (file, unigrams) = (attrs.bytes("vocab_file").unwrap_or_default(), attrs.floats("unigrams").unwrap_or_default());
        if file.is_empty() == unigrams.is_empty() {
            return Err(invalid("either vocab_file or unigrams must be given, and not both"));
        }
        let unigrams = if file.is_empty() { unigrams } else { read(call, &file)? };
        let distortion = attrs.float("distortion").unwrap_or(1.0);
        let (reserved, shards, shard) = (
            attrs.int("num_reserved_ids").unwrap_or(0).max(0),
            attrs.int("num_shards").unwrap_or(1),
            attrs.int("shard").unwrap_or(0),
        );
        let range = attrs.int("range_max")?;
        let ours = |id: i64| id.checked_rem(shards) == Some(shard);
        if reserved > range.max(0).saturating_mul(shards.max(1)) {
            return Err(invalid(format!("{reserved} reserved classes exceed a range of {range}")));
        }
        let mut weights: Vec<f32> = (0..reserved).filter(|&id| ours(id)).map(|_| 0.0).collect();
        let mut total = 0.0;
        for (id, w) in (weights.len() as i64..).zip(unigrams) {
            if ours(id) {
                let w = w.powf(distortion);
                total += w;
                weights.push(w);
            }
        }
        if i64::try_from(weights.len()) != Ok(range) {
            return Err(invalid(format!("{} weights do not go with a range of {range}", weights.len())));
        }
        Ok(Table { pairs: pairs(&weights), weights, total })
    }

    pub fn probability(&self, class: i64) -> f32 {
        usize::try_from(class).ok().and_then(|c| self.weights.get(c)).map_or(0.0, |w| w / self.total)
    }

    pub fn pick(&self, numbers: &mut Singles) -> i64 {
        let chance = numbers.float();
        let index = numbers.uniform(self.pairs.len() as u32) as usize;
        match self.pairs.get(index) {
            Some(&(own, _)) if chance < own => index as i64,
            Some(&(_, other)) => other as i64,
            None => 0,
        }
    }
}

/// Pairs each class of less than the mean weight with one of more, whose weight fills the pair.
fn pairs(weights: &[f32]) -> Vec<(f32, usize)> {
    let n = weights.len();
    let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let mut chances: Vec<f64> = weights.iter().map(|&w| f64::from(w * n as f32) / sum).collect();
    let mut others: Vec<usize> = (0..n).collect();
    let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..n).partition(|&k| chances[k] < 1.0);
    while let (Some(&h), Some(&l)) = (high.last(), low.last()) {
        high.pop();
        low.pop();
        others[l] = h;
        chances[h] -= 1.0 - chances[l];
        if chances[h] < 1.0 { low.push(h) } else { high.push(h) }
    }
    // What rounding left without a partner fills its pair itself.
    for k in low.into_iter().chain(high) {
        chances[k] = 1.0;
        others[k] = k;
    }
    chances.into_iter().map(|c| c as f32).zip(others).collect()
}

/// The last field of each line of a file of comma-separated values.
fn read(call: &Call, file: &[u8]) -> Result<Vec<f32>, HostError> {
    let text = call.contents(file)?;
    let text = std::str::from_utf8(&text).map_err(|_| invalid("the file of weights is not UTF-8"))?;
    let weight = |line: &str| line.rsplit(',').next().and_then(|w| w.trim().parse().ok());
    text.lines().map(|l| weight(l).ok_or_else(|| invalid(format!("the line {l:?} does not end with a weight")))).collect()
}

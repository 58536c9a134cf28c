//! What the scans of a file that is written say, before it is known with which codes.

use super::encode::{Block, Component};
use super::markers::ZIGZAG;

/// A part of the coefficients: of some components, some frequencies, some bits.
pub(super) struct Scan {
    pub components: Vec<usize>,
    /// Frequencies, in zigzag order.
    pub first: usize,
    pub last: usize,
    /// The bit to which the coefficients are known already, or 0, and that to which they are after this scan.
    pub high: u32,
    pub low: u32,
}

/// A symbol, if there is one, and the bits that follow it.
pub(super) struct Item {
    /// Whether it is of an AC coefficient, its table, and itself.
    pub symbol: Option<(bool, usize, u8)>,
    pub extra: u16,
    pub count: u32,
}

impl Scan {
    /// All at once.
    pub fn whole(components: usize) -> Scan {
        Scan { components: (0..components).collect(), first: 0, last: 63, high: 0, low: 0 }
    }

    /// The order of a progressive file that libjpeg takes for the usual one.
    pub fn progressive(components: usize) -> Vec<Scan> {
        let dc = |high, low| Scan { components: (0..components).collect(), first: 0, last: 0, high, low };
        let ac = |c, first, last, high, low| Scan { components: vec![c], first, last, high, low };
        if components == 1 {
            return vec![dc(0, 1), ac(0, 1, 5, 0, 2), ac(0, 6, 63, 0, 2), ac(0, 1, 63, 2, 1), dc(1, 0), ac(0, 1, 63, 1, 0)];
        }
        vec![
            dc(0, 1),
            ac(0, 1, 5, 0, 2),
            ac(2, 1, 63, 0, 1),
            ac(1, 1, 63, 0, 1),
            ac(0, 6, 63, 0, 2),
            ac(0, 1, 63, 2, 1),
            dc(1, 0),
            ac(2, 1, 63, 1, 0),
            ac(1, 1, 63, 1, 0),
            ac(0, 1, 63, 1, 0),
        ]
    }

    /// The Huffman tables that it needs: whether for AC coefficients, and which.
    pub fn tables(&self, components: &[Component]) -> Vec<(bool, usize)> {
        let mut tables = Vec::new();
        for &c in &self.components {
            let dc = (self.first == 0 && self.high == 0).then_some((false, components[c].table()));
            let ac = (self.last > 0).then_some((true, components[c].table()));
            for t in dc.into_iter().chain(ac) {
                if !tables.contains(&t) {
                    tables.push(t);
                }
            }
        }
        tables
    }

    /// `units` are the columns and rows of coding units.
    pub fn items(&self, components: &[Component], units: (usize, usize)) -> Vec<Item> {
        let mut out = Items { list: Vec::new(), table: 0, ends: 0, corrections: Vec::new() };
        if let (&[c], true) = (&self.components[..], self.first > 0) {
            // A scan of one component has only the blocks that have a part of the picture.
            let component = &components[c];
            out.table = component.table();
            for y in 0..component.inside.1 {
                for block in &component.blocks[y * component.across..][..component.inside.0] {
                    if self.high == 0 { out.rough(block, self) } else { out.refined(block, self) }
                }
            }
            out.end_blocks();
            return out.list;
        }
        let mut before = vec![0; components.len()];
        for unit in 0..units.0 * units.1 {
            let (x, y) = (unit % units.0, unit / units.0);
            for (component, before) in components.iter().zip(&mut before) {
                out.table = component.table();
                let f = component.factor;
                for k in 0..f * f {
                    let block = &component.blocks[(y * f + k / f) * component.across + x * f + k % f];
                    let dc = block[0] >> self.low;
                    if self.high > 0 {
                        out.bits(dc as u16 & 1, 1);
                        continue;
                    }
                    out.value(false, 0, dc - *before);
                    *before = dc;
                    if self.last > 0 {
                        out.sequential(block);
                    }
                }
            }
        }
        out.list
    }
}

/// Corrections that are held back at most, less those of a block.
const MOST_CORRECTIONS: usize = 1000 - 63;

struct Items {
    list: Vec<Item>,
    table: usize,
    /// Blocks that have nothing more and of which nothing is written yet, and the corrections of what they have.
    ends: u16,
    corrections: Vec<bool>,
}

impl Items {
    fn bits(&mut self, extra: u16, count: u32) {
        self.list.push(Item { symbol: None, extra, count });
    }

    fn symbol(&mut self, ac: bool, symbol: u8, extra: u16, count: u32) {
        self.list.push(Item { symbol: Some((ac, self.table, symbol)), extra, count });
    }

    /// A value after zeros, as its number of bits and those.
    fn value(&mut self, ac: bool, zeros: u8, v: i16) {
        let count = 16 - v.unsigned_abs().leading_zeros();
        self.symbol(ac, (zeros << 4) | count as u8, if v < 0 { v - 1 } else { v } as u16, count);
    }

    /// All but the first coefficient, in full.
    fn sequential(&mut self, block: &Block) {
        let mut zeros = 0;
        for at in &ZIGZAG[1..] {
            let v = block[usize::from(*at)];
            if v == 0 {
                zeros += 1;
                continue;
            }
            self.skip(&mut zeros);
            self.value(true, zeros, v);
            zeros = 0;
        }
        if zeros > 0 {
            self.symbol(true, 0, 0, 0);
        }
    }

    /// Runs of 16 zeros.
    fn skip(&mut self, zeros: &mut u8) {
        while *zeros > 15 {
            self.symbol(true, 0xf0, 0, 0);
            *zeros -= 16;
        }
    }

    /// The upper bits of coefficients.
    fn rough(&mut self, block: &Block, scan: &Scan) {
        let mut zeros = 0;
        for at in &ZIGZAG[scan.first..=scan.last] {
            let v = block[usize::from(*at)];
            let size = (v.unsigned_abs() >> scan.low) as i16;
            if size == 0 {
                zeros += 1;
                continue;
            }
            self.end_blocks();
            self.skip(&mut zeros);
            self.value(true, zeros, if v < 0 { -size } else { size });
            zeros = 0;
        }
        if zeros > 0 {
            self.ends += 1;
            if self.ends == 0x7fff {
                self.end_blocks();
            }
        }
    }

    /// One more bit of coefficients.
    fn refined(&mut self, block: &Block, scan: &Scan) {
        let at = |k: usize| block[usize::from(ZIGZAG[k])];
        let size = |k: usize| at(k).unsigned_abs() >> scan.low;
        let last_new = (scan.first..=scan.last).rev().find(|&k| size(k) == 1).unwrap_or(0);
        let mut zeros = 0;
        let mut corrections = Vec::new();
        for k in scan.first..=scan.last {
            if size(k) == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 && k <= last_new {
                self.end_blocks();
                self.symbol(true, 0xf0, 0, 0);
                self.correct(&mut corrections);
                zeros -= 16;
            }
            if size(k) > 1 {
                corrections.push(size(k) & 1 == 1);
                continue;
            }
            self.end_blocks();
            self.symbol(true, (zeros << 4) | 1, u16::from(at(k) > 0), 1);
            self.correct(&mut corrections);
            zeros = 0;
        }
        if zeros > 0 || !corrections.is_empty() {
            self.ends += 1;
            self.corrections.append(&mut corrections);
            if self.ends == 0x7fff || self.corrections.len() > MOST_CORRECTIONS {
                self.end_blocks();
            }
        }
    }

    fn correct(&mut self, corrections: &mut Vec<bool>) {
        for c in corrections.drain(..) {
            self.bits(c.into(), 1);
        }
    }

    /// Says how many blocks have ended.
    fn end_blocks(&mut self) {
        if let Some(log) = self.ends.checked_ilog2() {
            self.symbol(true, (log as u8) << 4, self.ends, log);
            self.ends = 0;
            let mut corrections = std::mem::take(&mut self.corrections);
            self.correct(&mut corrections);
        }
    }
}

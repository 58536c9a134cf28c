//! Huffman codes for writing, and the bits of a scan's data.

/// Numbers of codes of each length from 1, and symbols in order of their codes.
pub(super) struct Codes {
    pub counts: [u8; 16],
    pub symbols: Vec<u8>,
}

impl Codes {
    /// The shortest codes of at most 16 bits, as T.81's annex K.2 makes them.
    pub fn best(symbols: impl Iterator<Item = u8>) -> Codes {
        let mut often = [0u64; 257];
        // No code is all ones: the last symbol has that one.
        often[256] = 1;
        for s in symbols {
            often[usize::from(s)] += 1;
        }
        let mut length = [0usize; 257];
        // Symbols that share the beginning of their codes.
        let mut trees: Vec<Vec<usize>> = (0..257).map(|s| vec![s]).collect();
        loop {
            let rarest = |but: Option<usize>| (0..257).rev().filter(|&s| often[s] > 0 && Some(s) != but).min_by_key(|&s| often[s]);
            let Some(first) = rarest(None) else { break };
            let Some(second) = rarest(Some(first)) else { break };
            often[first] += std::mem::take(&mut often[second]);
            let joined = std::mem::take(&mut trees[second]);
            trees[first].extend(joined);
            for &s in &trees[first] {
                length[s] += 1;
            }
        }
        let mut counts = [0usize; 258];
        for &l in length.iter().filter(|&&l| l > 0) {
            counts[l] += 1;
        }
        // Two codes that are too long go: one is shortened by a bit, the other hangs beside a shorter one.
        for l in (17..258).rev() {
            while counts[l] > 0 {
                let Some(shorter) = (1..l - 1).rev().find(|&k| counts[k] > 0) else { break };
                counts[l] -= 2;
                counts[l - 1] += 1;
                counts[shorter + 1] += 2;
                counts[shorter] -= 1;
            }
        }
        if let Some(last) = (1..17).rev().find(|&l| counts[l] > 0) {
            counts[last] -= 1;
        }
        let mut order: Vec<u8> = (0..=255).filter(|&s| length[usize::from(s)] > 0).collect();
        order.sort_by_key(|&s| length[usize::from(s)]);
        Codes { counts: std::array::from_fn(|k| counts[k + 1] as u8), symbols: order }
    }

    /// Each symbol's code and its length.
    pub fn by_symbol(&self) -> [(u32, u32); 256] {
        let mut codes = [(0, 0); 256];
        let (mut code, mut symbols) = (0, self.symbols.iter());
        for (length, &n) in (1..).zip(&self.counts) {
            for &s in symbols.by_ref().take(n.into()) {
                codes[usize::from(s)] = (code, length);
                code += 1;
            }
            code <<= 1;
        }
        codes
    }
}

/// Bits from the highest of each byte on; a zero follows a byte of ones.
pub(super) struct Bits<'a> {
    out: &'a mut Vec<u8>,
    buffer: u32,
    count: u32,
}

impl Bits<'_> {
    pub fn new(out: &mut Vec<u8>) -> Bits<'_> {
        Bits { out, buffer: 0, count: 0 }
    }

    /// The lowest `count` of `bits`, at most 16.
    pub fn put(&mut self, bits: u32, count: u32) {
        self.buffer = self.buffer << count | bits & ((1 << count) - 1);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.buffer >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                self.out.push(0);
            }
        }
        self.buffer &= (1 << self.count) - 1;
    }
}

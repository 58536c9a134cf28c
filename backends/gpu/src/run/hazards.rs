//! Which commands must wait for which: those that touch the same memory, unless both only read.

/// Bytes of a buffer, which is known by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    pub buffer: usize,
    pub from: u64,
    pub to: u64,
}

impl Bytes {
    fn overlaps(&self, o: &Bytes) -> bool {
        self.buffer == o.buffer && self.from < o.to && o.from < self.to
    }

    fn contains(&self, o: &Bytes) -> bool {
        self.buffer == o.buffer && self.from <= o.from && o.to <= self.to
    }
}

/// What the commands so far have touched.
#[derive(Default)]
pub struct Hazards {
    /// By which command, and whether it wrote.
    touched: Vec<(Bytes, usize, bool)>,
    commands: usize,
}

impl Hazards {
    /// Adds a command; gives the earlier ones that it waits for, in order. What those wait for is not repeated.
    pub fn add(&mut self, reads: &[Bytes], writes: &[Bytes]) -> Vec<usize> {
        let conflicts = |(bytes, _, wrote): &&(Bytes, usize, bool)| {
            writes.iter().any(|w| w.overlaps(bytes)) || *wrote && reads.iter().any(|r| r.overlaps(bytes))
        };
        let mut after: Vec<usize> = self.touched.iter().filter(conflicts).map(|(_, k, _)| *k).collect();
        after.sort_unstable();
        after.dedup();
        // Whoever would wait for what is overwritten here waits for this command.
        self.touched.retain(|(bytes, ..)| !writes.iter().any(|w| w.contains(bytes)));
        let this = self.commands;
        self.touched.extend(reads.iter().map(|&b| (b, this, false)).chain(writes.iter().map(|&b| (b, this, true))));
        self.commands += 1;
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(from: u64, to: u64) -> Bytes {
        Bytes { buffer: 1, from, to }
    }

    #[test]
    fn readers_wait_for_writers_and_writers_for_both() {
        let mut h = Hazards::default();
        assert_eq!(h.add(&[], &[bytes(0, 8)]), []);
        assert_eq!(h.add(&[], &[bytes(8, 16)]), []);
        assert_eq!(h.add(&[bytes(4, 8)], &[bytes(16, 24)]), [0]);
        assert_eq!(h.add(&[bytes(0, 16)], &[bytes(24, 32)]), [0, 1]);
        // Over what 0 wrote and 2 and 3 read, but not over all that 3 read.
        assert_eq!(h.add(&[], &[bytes(0, 8)]), [0, 2, 3]);
        assert_eq!(h.add(&[bytes(0, 4)], &[]), [4]);
        assert_eq!(h.add(&[], &[bytes(8, 12)]), [1, 3]);
    }

    #[test]
    fn other_buffers_are_other_memory() {
        let mut h = Hazards::default();
        h.add(&[], &[bytes(0, 8)]);
        assert_eq!(h.add(&[Bytes { buffer: 2, ..bytes(0, 8) }], &[Bytes { buffer: 2, ..bytes(8, 9) }]), []);
    }
}

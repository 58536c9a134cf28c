//! Whether accesses to shared memory are in an order: barriers of blocks order all, and a barrier in memory what comes before an arrival before what comes
//! after a wait. A copy by a unit is ordered by the barrier that is told of it, and what threads write is seen by units after a fence.

use std::collections::HashMap;

/// An access: who, and the time of theirs. Times begin with 1.
#[derive(Clone, Copy, Default, PartialEq)]
struct Epoch {
    who: u32,
    time: u32,
}

#[derive(Clone, Copy, Default)]
struct Byte {
    wrote: Epoch,
    read: Epoch,
    /// Whether there are more readers, in `Races::readers`.
    several: bool,
    /// Whether what a thread wrote is not yet seen by units.
    unfenced: bool,
}

/// The times of all that one has seen.
pub type Clock = Vec<u32>;

pub fn join(to: &mut Clock, from: &[u32]) {
    to.iter_mut().zip(from).for_each(|(x, y)| *x = (*x).max(*y));
}

pub struct Races {
    threads: usize,
    clocks: Vec<Clock>,
    bytes: Vec<Byte>,
    readers: HashMap<usize, Vec<Epoch>>,
    /// What each thread wrote since its last fence.
    writes: Vec<Vec<(usize, usize)>>,
    /// Barriers in memory, which tell of copies, by their addresses.
    barriers: Vec<u64>,
}

/// Barriers that tell of copies.
const BARRIERS: usize = 64;

impl Races {
    pub fn new(threads: usize, bytes: usize) -> Races {
        let clock = |t: usize| {
            let mut c = vec![0; threads + BARRIERS];
            c[t] = 1;
            c
        };
        Races {
            threads,
            clocks: (0..threads + BARRIERS).map(clock).collect(),
            bytes: vec![Byte::default(); bytes],
            readers: HashMap::new(),
            writes: vec![Vec::new(); threads],
            barriers: Vec::new(),
        }
    }

    /// All threads have met.
    pub fn barrier(&mut self) {
        for b in &mut self.bytes {
            *b = Byte { unfenced: b.unfenced, ..Byte::default() };
        }
        self.readers.clear();
    }

    pub fn clock(&self, thread: usize) -> &Clock {
        &self.clocks[thread]
    }

    /// What the thread does from here on comes later than what it has told of.
    pub fn release(&mut self, thread: usize) {
        self.clocks[thread][thread] += 1;
    }

    pub fn acquire(&mut self, thread: usize, seen: &[u32]) {
        join(&mut self.clocks[thread], seen);
    }

    pub fn fence(&mut self, thread: usize) {
        for (at, n) in std::mem::take(&mut self.writes[thread]) {
            self.bytes[at..at + n].iter_mut().for_each(|b| b.unfenced = false);
        }
    }

    /// An access by a thread.
    pub fn touch(&mut self, thread: usize, at: usize, bytes: usize, writes: bool) -> Result<(), String> {
        let epoch = Epoch { who: thread as u32, time: self.clocks[thread][thread] };
        self.access(thread, epoch, at, bytes, writes)?;
        if writes {
            self.bytes[at..at + bytes].iter_mut().for_each(|b| b.unfenced = true);
            self.writes[thread].push((at, bytes));
            // Kernels without units have no fences.
            if self.writes[thread].len() > 1 << 14 {
                self.writes[thread].clear();
            }
        }
        Ok(())
    }

    /// A unit reads what `thread` is to see.
    pub fn unit_reads(&mut self, thread: usize, at: usize, bytes: usize) -> Result<(), String> {
        if self.bytes[at..at + bytes].iter().any(|b| b.unfenced) {
            return Err(format!("a unit reads bytes at {at} of shared memory, which no fence made visible to it"));
        }
        let epoch = Epoch { who: thread as u32, time: self.clocks[thread][thread] };
        self.access(thread, epoch, at, bytes, false)
    }

    /// A copy that `thread` started writes; the barrier at `barrier` is told. Gives what it tells.
    pub fn unit_writes(&mut self, thread: usize, barrier: u64, at: usize, bytes: usize) -> Result<Clock, String> {
        if self.bytes[at..at + bytes].iter().any(|b| b.unfenced) {
            return Err(format!("a unit writes bytes at {at} of shared memory over what no fence made visible to it"));
        }
        let k = match self.barriers.iter().position(|b| *b == barrier) {
            Some(k) => k,
            None => {
                self.barriers.push(barrier);
                self.barriers.len() - 1
            }
        };
        if k >= BARRIERS {
            return Err("too many barriers".into());
        }
        let who = self.threads + k;
        self.clocks[who][who] += 1;
        let epoch = Epoch { who: who as u32, time: self.clocks[who][who] };
        self.access(thread, epoch, at, bytes, true)?;
        let mut told = self.clocks[thread].clone();
        told[who] = epoch.time;
        Ok(told)
    }

    /// An access that is known as `epoch` and sees what `thread` sees.
    fn access(&mut self, thread: usize, epoch: Epoch, at: usize, bytes: usize, writes: bool) -> Result<(), String> {
        let clock = &self.clocks[thread];
        let seen = |e: &Epoch| e.time == 0 || e.who == epoch.who || clock[e.who as usize] >= e.time;
        for (k, b) in self.bytes[at..at + bytes].iter_mut().enumerate() {
            let others = if b.several { self.readers.get(&(at + k)).map_or(&[][..], Vec::as_slice) } else { &[] };
            let unseen = Some(&b.wrote).into_iter().chain(others).chain([&b.read]).find(|e| !seen(e));
            let unseen = unseen.filter(|e| writes || **e == b.wrote);
            if let Some(e) = unseen {
                let what = if writes { "writes" } else { "reads" };
                return Err(format!("{what} byte {} of shared memory, which thread {} touched without a barrier", at + k, e.who));
            }
            if writes {
                (b.wrote, b.read) = (epoch, Epoch::default());
                if b.several {
                    self.readers.remove(&(at + k));
                    b.several = false;
                }
            } else if seen(&b.read) {
                b.read = epoch;
            } else {
                let list = self.readers.entry(at + k).or_default();
                list.retain(|e| !seen(e));
                list.push(b.read);
                (b.several, b.read) = (true, epoch);
            }
        }
        Ok(())
    }
}

//! What the stand-in keeps, and how it judges work.

use super::program::{self, Param};
use super::{INVALID, machine};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Threads of a block and blocks of a grid.
pub const MOST: (u32, u32) = (1024, i32::MAX as u32);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Device,
    /// Allocated in the order of a stream.
    Ordered(usize),
    Pinned,
}

pub struct Kernel {
    pub module: usize,
    pub name: String,
    pub params: Vec<Param>,
    /// Threads that the kernel wants in a block.
    pub threads: Option<u32>,
    /// Bytes that a launch may give to a block.
    pub most_shared: u32,
    pub code: Arc<program::Kernel>,
}

#[derive(Clone)]
pub enum Work {
    Copy { to: u64, from: u64, bytes: usize },
    Launch { kernel: usize, grid: u32, block: u32, shared: u32, arguments: Vec<u8> },
}

#[derive(Clone)]
pub struct Node {
    pub work: Work,
    pub after: Vec<usize>,
}

#[derive(Default)]
pub struct State {
    pub started: bool,
    pub contexts: i32,
    /// The device of each handle and of each address that belongs to one.
    pub homes: BTreeMap<u64, usize>,
    /// Pairs of devices of which the first may use the second's memory.
    pub peers: Vec<(usize, usize)>,
    /// Bytes copied up, down, within a device, and from device to device, with the number of such copies.
    pub copied: [(u64, u64); 4],
    pub memory: BTreeMap<u64, (usize, Kind)>,
    pub streams: Vec<usize>,
    /// When they were recorded last.
    pub events: BTreeMap<usize, Option<Instant>>,
    pub modules: Vec<usize>,
    pub kernels: BTreeMap<usize, Kernel>,
    pub graphs: BTreeMap<usize, Vec<Node>>,
    pub execs: BTreeMap<usize, Vec<Node>>,
    pub calls: BTreeMap<&'static str, u32>,
    pub faults: Vec<String>,
    /// Handles are numbers that are never used again.
    pub last: usize,
}

pub static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

thread_local! {
    /// The device whose context is current.
    pub static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

pub fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn setting(key: &str) -> Option<u32> {
    let all = std::env::var("GRAPHC_STANDIN").ok()?;
    all.split(',').find_map(|s| s.split_once('=').filter(|(k, _)| *k == key)?.1.parse().ok())
}

impl State {
    pub fn handle(&mut self) -> usize {
        self.last += 16;
        self.last
    }

    /// Notes that something is of the device whose context is current.
    pub fn belongs(&mut self, what: u64) {
        self.homes.insert(what, CURRENT.get().unwrap_or_default());
    }

    pub fn fault(&mut self, call: &str, what: impl Into<String>) -> u32 {
        self.faults.push(format!("{call}: {}", what.into()));
        INVALID
    }

    /// Whether `bytes` bytes from `at` on are within one piece of memory.
    pub fn alive(&self, at: u64, bytes: usize) -> bool {
        self.memory.range(..=at).next_back().is_some_and(|(&from, (n, _))| at + bytes as u64 <= from + *n as u64)
    }

    /// The device of an address within memory, if it is a device's.
    pub fn home(&self, at: u64) -> Option<usize> {
        let (from, _) = self.memory.range(..=at).next_back()?;
        self.homes.get(from).copied()
    }

    /// Whether work of `device` may use memory.
    fn sees(&self, device: usize, at: u64) -> bool {
        self.home(at).is_none_or(|home| home == device || self.peers.contains(&(device, home)))
    }

    /// What is wrong with a piece of work of a device.
    pub fn wrong(&self, work: &Work, device: usize) -> Option<String> {
        let foreign = |(at, _): &(u64, usize)| !self.sees(device, *at);
        if let Some((at, _)) = self.touches(work).iter().find(|t| self.alive(t.0, 1) && foreign(t)) {
            return Some(format!("{at:#x} is memory of another device, which may not be used"));
        }
        match work {
            Work::Copy { to, from, bytes } => {
                let end = |what: &str, at: u64| {
                    (!self.alive(at, *bytes)).then(|| format!("{bytes} bytes {what} {at:#x} are not memory that is alive"))
                };
                end("at the source", *from).or_else(|| end("at the destination", *to))
            }
            Work::Launch { kernel, grid, block, shared, arguments } => {
                let Some(k) = self.kernels.get(kernel) else { return Some("a kernel that is not loaded".into()) };
                if *grid == 0 || *block == 0 || *block > MOST.0 || *grid > MOST.1 {
                    return Some(format!("{grid} blocks of {block} threads of {}", k.name));
                }
                if k.threads.is_some_and(|t| t != *block) {
                    return Some(format!("{block} threads, where {} is made for {:?}", k.name, k.threads));
                }
                if *shared > k.most_shared {
                    return Some(format!("{shared} bytes for a block of {}, which may have {}", k.name, k.most_shared));
                }
                let mut at = 0usize;
                for (i, &Param { size, alignment, address, .. }) in k.params.iter().enumerate() {
                    at = at.next_multiple_of(alignment);
                    let Some(bytes) = arguments.get(at..at + size) else {
                        return Some(format!("{} bytes of arguments, too few for parameter {i} of {}", arguments.len(), k.name));
                    };
                    if address && !self.alive(address_of(bytes), 1) {
                        return Some(format!("parameter {i} of {} is no address of memory that is alive", k.name));
                    }
                    at += size;
                }
                (at != arguments.len()).then(|| format!("{} bytes of arguments, where {} has {at}", arguments.len(), k.name))
            }
        }
    }

    /// Memory that a piece of work is given, as far as can be seen: of kernels only where it begins.
    pub fn touches(&self, work: &Work) -> Vec<(u64, usize)> {
        match work {
            Work::Copy { to, from, bytes } => vec![(*to, *bytes), (*from, *bytes)],
            Work::Launch { kernel, arguments, .. } => {
                let (mut at, mut found) = (0usize, Vec::new());
                for &Param { size, alignment, address, .. } in self.kernels.get(kernel).map_or(&[][..], |k| &k.params) {
                    at = at.next_multiple_of(alignment);
                    if address {
                        found.push((arguments.get(at..at + size).map_or(0, address_of), 1));
                    }
                    at += size;
                }
                found
            }
        }
    }

    /// Two nodes, of which one copies, that touch the same memory and of which neither waits for the other.
    pub fn unordered(&self, nodes: &[Node]) -> Option<String> {
        // Nodes wait only for earlier ones.
        let mut before: Vec<Vec<bool>> = Vec::new();
        for n in nodes {
            let mut b = vec![false; nodes.len()];
            for &k in &n.after {
                b[k] = true;
                b.iter_mut().zip(&before[k]).for_each(|(x, y)| *x |= y);
            }
            before.push(b);
        }
        for (i, a) in nodes.iter().enumerate() {
            for (j, b) in nodes.iter().enumerate().take(i) {
                let both_compute = matches!((&a.work, &b.work), (Work::Launch { .. }, Work::Launch { .. }));
                let meet = |x: &(u64, usize), y: &(u64, usize)| x.0 < y.0 + y.1 as u64 && y.0 < x.0 + x.1 as u64;
                let (x, y) = (self.touches(&a.work), self.touches(&b.work));
                let mut met = x.iter().flat_map(|x| y.iter().filter(|y| meet(x, y)).map(move |y| [*x, *y]));
                if !both_compute && !before[i][j] && met.any(|m| !self.only_read(nodes, &before, [i, j], m)) {
                    return Some(format!("nodes {j} and {i} touch the same memory in no order"));
                }
            }
        }
        None
    }

    /// Whether two nodes, one a copy and one a kernel, may both read what they touch: the copy does, and what a kernel before both has
    /// touched counts as written by that one. (What a kernel writes cannot be seen from outside.)
    fn only_read(&self, nodes: &[Node], before: &[Vec<bool>], pair: [usize; 2], memory: [(u64, usize); 2]) -> bool {
        let meets = |a: (u64, usize), b: (u64, usize)| a.0 < b.0 + b.1 as u64 && b.0 < a.0 + a.1 as u64;
        let reads = |k: usize, m: (u64, usize)| match &nodes[k].work {
            Work::Copy { to, bytes, .. } => !meets((*to, *bytes), m),
            Work::Launch { .. } => true,
        };
        let [a, b] = pair;
        let wrote = |k: usize| {
            let touched = || self.touches(&nodes[k].work);
            matches!(nodes[k].work, Work::Launch { .. }) && touched().iter().any(|t| meets(*t, memory[0]) && meets(*t, memory[1]))
        };
        let launches = |k: usize| matches!(nodes[k].work, Work::Launch { .. });
        launches(a) != launches(b)
            && reads(a, memory[0])
            && reads(b, memory[1])
            && (0..nodes.len()).any(|k| before[a][k] && before[b][k] && wrote(k))
    }

    /// Does a piece of work that is right.
    pub fn perform(&mut self, work: &Work) -> Result<(), String> {
        match work {
            Work::Copy { to, from, bytes } => {
                let way = match (self.home(*from), self.home(*to)) {
                    (None, _) => 0,
                    (_, None) => 1,
                    (a, b) => 2 + usize::from(a != b),
                };
                self.copied[way].0 += *bytes as u64;
                self.copied[way].1 += 1;
                // SAFETY: both ends are memory of this library that is alive.
                unsafe { std::ptr::copy(*from as usize as *const u8, *to as usize as *mut u8, *bytes) };
                Ok(())
            }
            Work::Launch { kernel, grid, block, shared, arguments } => match self.kernels.get(kernel) {
                Some(k) => machine::run(&k.code, arguments, [*grid, *block, *shared], self).map_err(|e| format!("{}: {e}", k.name)),
                None => Ok(()),
            },
        }
    }
}

impl machine::Memory for State {
    fn holds(&self, at: u64, bytes: usize) -> bool {
        self.alive(at, bytes)
    }
}

pub fn address_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}

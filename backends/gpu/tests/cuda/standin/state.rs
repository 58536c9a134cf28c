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
    pub static CURRENT: Cell<bool> = const { Cell::new(false) };
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

    pub fn fault(&mut self, call: &str, what: impl Into<String>) -> u32 {
        self.faults.push(format!("{call}: {}", what.into()));
        INVALID
    }

    /// Whether `bytes` bytes from `at` on are within one piece of memory.
    pub fn alive(&self, at: u64, bytes: usize) -> bool {
        self.memory.range(..=at).next_back().is_some_and(|(&from, (n, _))| at + bytes as u64 <= from + *n as u64)
    }

    /// What is wrong with a piece of work.
    pub fn wrong(&self, work: &Work) -> Option<String> {
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
                if !both_compute && !before[i][j] && x.iter().any(|x| y.iter().any(|y| meet(x, y))) {
                    return Some(format!("nodes {j} and {i} touch the same memory in no order"));
                }
            }
        }
        None
    }

    /// Does a piece of work that is right.
    pub fn perform(&self, work: &Work) -> Result<(), String> {
        match work {
            Work::Copy { to, from, bytes } => {
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

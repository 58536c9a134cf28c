//! Parts on several devices at one time: a lane for each device, whose parts follow one another, and wait for those of other lanes that
//! they must.

use super::env::Env;
use super::{Run, Staged, Todo, locked};
use crate::device::DeviceName;
use crate::error::Error;
use graphc_frontend::{NodeId, RawGraph, Value as Port, variables};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

/// How the steps of a run go side by side.
pub struct Lanes {
    /// The steps of each device, in their order.
    of: BTreeMap<DeviceName, Vec<usize>>,
    /// The earlier steps that each waits for.
    after: Vec<Vec<usize>>,
}

/// Why lanes ended early, and the steps that are left, of which the first is the one that failed.
pub struct Failure {
    pub why: Error,
    pub left: Vec<usize>,
}

struct Progress {
    done: Vec<bool>,
    /// The first step that failed, so far.
    failed: Option<(usize, Error)>,
}

impl Progress {
    fn has_failed_before(&self, step: usize) -> bool {
        self.failed.as_ref().is_some_and(|(k, _)| *k <= step)
    }
}

impl Lanes {
    /// The lanes of these steps; `None` where nothing runs at one time anyway.
    pub fn of(graph: &RawGraph, steps: &[Todo]) -> Option<Lanes> {
        let mut of: BTreeMap<DeviceName, Vec<usize>> = BTreeMap::new();
        for (k, t) in steps.iter().enumerate() {
            of.entry(t.device()).or_default().push(k);
        }
        if of.len() < 2 {
            return None;
        }
        let after = waits(graph, steps);
        let lanes = Lanes { of, after };
        lanes.go_side_by_side(steps).then_some(lanes)
    }

    /// Whether two parts of different lanes wait for one another in no way.
    fn go_side_by_side(&self, steps: &[Todo]) -> bool {
        // A bit for each step that a step comes after, by whatever way, and for itself.
        let words = steps.len().div_ceil(64);
        let mut before: Vec<Vec<u64>> = Vec::with_capacity(steps.len());
        let mut last: HashMap<DeviceName, usize> = HashMap::new();
        let mut work = vec![0u64; words];
        for (k, t) in steps.iter().enumerate() {
            let mut own = vec![0u64; words];
            for &j in self.after[k].iter().chain(last.get(&t.device())) {
                own.iter_mut().zip(&before[j]).for_each(|(o, b)| *o |= b);
            }
            if matches!(t, Todo::Segment(_) | Todo::Single(_)) {
                if work.iter().zip(&own).any(|(w, o)| w & !o != 0) {
                    return true;
                }
                work[k / 64] |= 1 << (k % 64);
            }
            own[k / 64] |= 1 << (k % 64);
            last.insert(t.device(), k);
            before.push(own);
        }
        false
    }

    /// Runs the steps; gives the first failure in the order of the steps, whichever happened first.
    pub fn run(&self, staged: &Staged, steps: &[Todo], env: &Env, stay: &HashSet<Port>, run: Run) -> Option<Failure> {
        let (progress, moved) = (Mutex::new(Progress { done: vec![false; steps.len()], failed: None }), Condvar::new());
        let lane = |own: &[usize]| {
            for &k in own {
                let waiting = |p: &mut Progress| !p.has_failed_before(k) && self.after[k].iter().any(|&j| !p.done[j]);
                let ready = moved.wait_while(locked(&progress), waiting).unwrap_or_else(PoisonError::into_inner);
                if ready.has_failed_before(k) {
                    return;
                }
                drop(ready);
                let result = staged.step(&steps[k], env, stay, run);
                let mut p = locked(&progress);
                match result {
                    Ok(()) => p.done[k] = true,
                    Err(e) if !p.has_failed_before(k) => p.failed = Some((k, e)),
                    Err(_) => {}
                }
                moved.notify_all();
            }
        };
        std::thread::scope(|s| {
            let (here, others): (Vec<_>, Vec<_>) = self.of.iter().partition(|(d, _)| **d == DeviceName::Cpu);
            let lane = &lane;
            others.into_iter().for_each(|(_, own)| drop(s.spawn(move || lane(own))));
            here.into_iter().for_each(|(_, own)| lane(own));
        });
        let Progress { done, failed } = progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (first, why) = failed?;
        let others = (0..steps.len()).filter(|&k| !done[k] && k != first);
        Some(Failure { why, left: std::iter::once(first).chain(others).collect() })
    }
}

/// The earlier steps that each step waits for: those that make what it reads, those that its nodes wait for, and those that touch a
/// variable which one of the two may change.
fn waits(graph: &RawGraph, steps: &[Todo]) -> Vec<Vec<usize>> {
    let mut holders: HashMap<NodeId, Vec<usize>> = HashMap::new();
    let mut touched: HashMap<String, Vec<(usize, bool)>> = HashMap::new();
    let mut after = Vec::with_capacity(steps.len());
    for (k, t) in steps.iter().enumerate() {
        let nodes: &[NodeId] = match t {
            Todo::Segment(s) => &s.cut.nodes,
            Todo::Single(id) => std::slice::from_ref(id),
            Todo::Send(_) | Todo::Recv(_) => &[],
        };
        let mut own: Vec<usize> = Vec::new();
        let mut reads = |id: NodeId| own.extend(holders.get(&id).into_iter().flatten());
        if let Todo::Send(t) | Todo::Recv(t) = t {
            reads(t.value.node);
        }
        let inside: HashSet<NodeId> = nodes.iter().copied().collect();
        let mut names: HashSet<String> = HashSet::new();
        for &id in nodes {
            let n = graph.node(id);
            let operands = n.inputs.iter().map(|v| v.node);
            operands.clone().chain(n.controls.iter().copied()).filter(|i| !inside.contains(i)).for_each(&mut reads);
            names.extend(operands.chain([id]).filter_map(|i| variables::name(graph.node(i))));
        }
        let changes = match t {
            Todo::Segment(s) => !s.cut.targets.is_empty(),
            Todo::Single(_) => true,
            Todo::Send(_) | Todo::Recv(_) => false,
        };
        for name in names {
            let all = touched.entry(name).or_default();
            own.extend(all.iter().filter(|(_, changed)| changes || *changed).map(|(j, _)| *j));
            all.push((k, changes));
        }
        nodes.iter().for_each(|id| holders.entry(*id).or_default().push(k));
        // Who reads a value where it goes waits for its arrival.
        if let Todo::Recv(t) = t {
            holders.entry(t.value.node).or_default().push(k);
        }
        own.sort_unstable();
        own.dedup();
        after.push(own);
    }
    after
}

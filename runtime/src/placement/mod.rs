//! Which device each node of a graph runs on.
//!
//! What a graph asks for comes first: devices that its nodes name, and colocation (`_class: loc:@x`), whose groups are on one device.
//! What has no code for GPUs (strings, tables, host functions, what the compiler refused) is on the CPU. The rest falls into regions of
//! nodes that read one another. A region that touches nothing on the CPU is on the session's device; any other where [`cost`] expects
//! less time, its transfers included.

pub mod cost;
mod groups;
#[cfg(test)]
mod tests;

use crate::device::{DeviceName, DeviceSpec};
use crate::error::{Error, Result};
use crate::staged::partition;
use cost::Costs;
use graphc_frontend::{Limits, Model, Node, NodeId, RawGraph, Value as Port};
use groups::Groups;
use hashbrown::{HashMap, HashSet};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How the nodes that no one has a wish for are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaceBy {
    /// Where a model of costs expects less time.
    #[default]
    Cost,
    /// On the session's device, whatever it takes.
    Device,
}

/// What a session says of places.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The session's device: where nodes go that can be anywhere.
    pub session: DeviceName,
    /// All devices of this process.
    pub present: Vec<DeviceName>,
    /// Whether wishes that cannot be met are passed over.
    pub soft: bool,
    pub by: PlaceBy,
    /// Whether values of f32 cross between devices as bf16.
    pub lossy: bool,
}

impl Policy {
    /// One device, and nothing to choose.
    pub fn of_cpu() -> Policy {
        Policy { session: DeviceName::Cpu, present: vec![DeviceName::Cpu], soft: true, by: PlaceBy::Cost, lossy: false }
    }
}

/// What is known of a node before it is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has no place: an input, a constant, a handle, or nothing that runs.
    None,
    /// Compiled code, for any device.
    Code,
    /// On the CPU alone; why.
    Host(&'static str),
}

/// Why a node is where it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    NoPlace,
    Host(&'static str),
    /// A node of its group names the device.
    Asked {
        by: String,
    },
    /// Colocated with a node that can only be there.
    With {
        node: String,
    },
    /// What it asks for cannot be met.
    Soft(String),
    Session,
    /// Seconds that its region takes where it is, and on the session's device or, if it is there, on the CPU.
    Cost {
        here: f64,
        other: DeviceName,
        there: f64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoPlace => Ok(()),
            Reason::Host(why) => f.write_str(why),
            Reason::Asked { by } => write!(f, "asked for by {by:?}"),
            Reason::With { node } => write!(f, "colocated with {node:?}"),
            Reason::Soft(why) => write!(f, "soft placement: {why}"),
            Reason::Session => f.write_str("the session's device"),
            Reason::Cost { here, other, there } => {
                write!(f, "cost: {:.1} us, on {} {:.1} us", here * 1e6, other.short(), there * 1e6)
            }
        }
    }
}

/// A device for each node of a graph, and why.
#[derive(Clone, Debug)]
pub struct Placement {
    of: Vec<(DeviceName, Reason)>,
}

impl Placement {
    pub fn device(&self, id: NodeId) -> DeviceName {
        self.of[id.index()].0
    }

    pub fn reason(&self, id: NodeId) -> &Reason {
        &self.of[id.index()].1
    }

    /// Everything on the CPU.
    pub fn of_cpu(graph: &RawGraph) -> Placement {
        Placement { of: vec![(DeviceName::Cpu, Reason::Session); graph.len()] }
    }
}

/// What a placement is made from.
pub struct Places<'a> {
    pub graph: &'a RawGraph,
    pub limits: &'a Limits,
    /// By the number of the node.
    pub roles: &'a [Role],
    /// Devices that the functions of a node ask for, beside its own, with the node that asks.
    pub inner: &'a dyn Fn(&Node) -> Vec<(String, DeviceSpec)>,
    /// Whether what enters and leaves the graph does so while something else runs: it is the body of control flow that runs one by one.
    pub nested: bool,
}

fn refused(message: String) -> Error {
    Error::Placement(message)
}

/// The devices that nodes of functions ask for.
pub struct Functions<'m> {
    model: &'m Model,
    known: RefCell<HashMap<String, Vec<(String, DeviceSpec)>>>,
}

impl<'m> Functions<'m> {
    pub fn new(model: &'m Model) -> Functions<'m> {
        Functions { model, known: RefCell::default() }
    }

    /// What the functions that a node calls ask for, and which node of them does. Names of no device are passed over: whoever places the
    /// function reports them.
    pub fn of(&self, node: &Node) -> Vec<(String, DeviceSpec)> {
        if !partition::calls(&node.op) {
            return Vec::new();
        }
        partition::functions(node).iter().flat_map(|f| self.function(&f.name, &f.attr)).collect()
    }

    /// Whether a node and the functions that it calls ask for more than one device.
    pub fn split(&self, node: &Node) -> bool {
        let own = asked(node).unwrap_or_default();
        self.of(node).iter().try_fold(own, |all, (_, s)| all.merged(s)).is_none()
    }

    fn function(&self, name: &str, attrs: &graphc_frontend::graph::Attrs) -> Vec<(String, DeviceSpec)> {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        // One that calls itself asks for nothing more.
        self.known.borrow_mut().insert(name.to_owned(), Vec::new());
        let mut found: Vec<(String, DeviceSpec)> = Vec::new();
        if let Ok(body) = self.model.function_inlined(name, attrs) {
            for (_, node) in body.nodes() {
                let own = asked(node).ok().filter(|s| !s.is_open()).map(|s| (format!("{name}/{}", node.name), s));
                for (by, spec) in own.into_iter().chain(self.of(node)) {
                    if found.iter().all(|(_, s)| *s != spec) {
                        found.push((by, spec));
                    }
                }
            }
        }
        self.known.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }
}

/// The device that a node asks for.
///
/// # Errors
/// If it is no name of a device.
pub fn asked(node: &Node) -> Result<DeviceSpec> {
    node.device.parse().map_err(|e| refused(format!("node {:?}: {e}", node.name)))
}

impl Places<'_> {
    /// Places every node.
    ///
    /// # Errors
    /// Without soft placement, the first wish that cannot be met: two devices for one colocation group, a device that is not there, or one
    /// that has no code for the op.
    pub fn place(&self, policy: &Policy) -> Result<Placement> {
        if policy.session == DeviceName::Cpu {
            return Ok(Placement::of_cpu(self.graph));
        }
        let groups = Groups::new(self.graph, self.roles, policy.soft, self.inner)?;
        let mut of: Vec<Option<(DeviceName, Reason)>> = vec![None; self.graph.len()];
        let mut order = vec![0; self.graph.len()];
        self.graph.topological_order().iter().enumerate().for_each(|(k, id)| order[id.index()] = k);
        for (id, node) in self.graph.nodes() {
            let group = groups.of(id);
            let role = &self.roles[id.index()];
            of[id.index()] = match role {
                Role::None => Some((DeviceName::Cpu, Reason::NoPlace)),
                _ if group.spec.is_open() => match (role, &group.host) {
                    (Role::Host(why), _) => Some((DeviceName::Cpu, Reason::Host(why))),
                    (_, Some(host)) => Some((DeviceName::Cpu, Reason::With { node: host.clone() })),
                    _ => None,
                },
                role => Some(self.wish(node, role, group, policy)?),
            };
        }
        self.regions(&groups, policy, &mut of);
        // What only waits does so where the last of what it waits for runs.
        for &id in self.graph.topological_order() {
            let node = self.graph.node(id);
            if node.op == "NoOp" && self.roles[id.index()] == Role::Code && groups.of(id).spec.is_open() {
                let placed = |c: &&NodeId| self.roles[c.index()] != Role::None;
                let last = node.controls.iter().filter(placed).max_by_key(|c| order[c.index()]);
                if let Some((device, _)) = last.and_then(|c| of[c.index()].clone()) {
                    of[id.index()] = Some((device, Reason::NoPlace));
                }
            }
        }
        Ok(Placement { of: of.into_iter().map(|p| p.unwrap_or((policy.session, Reason::Session))).collect() })
    }

    /// The device of a node whose group asks for one.
    fn wish(&self, node: &Node, role: &Role, group: &groups::Group, policy: &Policy) -> Result<(DeviceName, Reason)> {
        let by = group.asks.clone().unwrap_or_default();
        let fits = |d: &&DeviceName| group.spec.admits(**d);
        // The session's device first: `/device:GPU:*` is that one.
        let found = std::iter::once(&policy.session).chain(&policy.present).find(fits).copied();
        let host = match (role, &group.host) {
            (Role::Host(why), _) => Some(format!("it can only be on the CPU: {why}")),
            (_, Some(with)) => Some(format!("it is colocated with {with:?}, which can only be on the CPU")),
            _ => None,
        };
        let why = match (found, host) {
            (Some(DeviceName::Cpu), _) => return Ok((DeviceName::Cpu, Reason::Asked { by })),
            (Some(device), None) => return Ok((device, Reason::Asked { by })),
            (Some(_), Some(why)) => why,
            (None, _) => {
                let present: Vec<String> = policy.present.iter().map(|d| d.short()).collect();
                format!("there are {}", present.join(", "))
            }
        };
        // What does nothing itself is where it has to be.
        let light = node.op == "NoOp" || partition::forwards(&node.op) || partition::calls(&node.op);
        if policy.soft || light && found.is_some() {
            let device = if group.host.is_some() || matches!(role, Role::Host(_)) { DeviceName::Cpu } else { policy.session };
            return Ok((device, Reason::Soft(format!("{by:?} asks for {}, but {why}", group.spec))));
        }
        let asks = if by == node.name { "asks for".into() } else { format!("is colocated with {by:?}, which asks for") };
        Err(refused(format!(
            "node {:?} ({}) {asks} {}, but {why}; change its device, or allow soft placement",
            node.name, node.op, group.spec
        )))
    }

    /// Places what is left, region by region.
    fn regions(&self, groups: &Groups, policy: &Policy, of: &mut [Option<(DeviceName, Reason)>]) {
        let members = self.members(groups, of);
        if members.is_empty() {
            return;
        }
        let costs = Costs::new(self.graph, self.limits);
        let outputs: HashSet<Port> = self.graph.outputs.iter().map(|o| o.value).collect();
        let mut readers: BTreeMap<NodeId, Vec<(Port, NodeId)>> = BTreeMap::new();
        for (id, node) in self.graph.nodes().filter(|(id, _)| self.roles[id.index()] != Role::None) {
            node.inputs.iter().for_each(|&v| readers.entry(v.node).or_default().push((v, id)));
        }
        let inputs: HashSet<NodeId> = self.graph.inputs.iter().map(|i| i.node).collect();
        for region in members.into_values() {
            let inside: HashSet<NodeId> = region.iter().copied().collect();
            // Values that cross the border, with the devices at the other side; each is brought to a device once.
            let mut crossing: BTreeSet<(Port, DeviceName)> = BTreeSet::new();
            let mut bound = self.nested;
            for &id in &region {
                for &v in &self.graph.node(id).inputs {
                    if inputs.contains(&v.node) {
                        crossing.insert((v, DeviceName::Cpu));
                    } else if !inside.contains(&v.node)
                        && self.roles[v.node.index()] != Role::None
                        && let Some((d, _)) = &of[v.node.index()]
                    {
                        crossing.insert((v, *d));
                        bound |= *d == DeviceName::Cpu;
                    }
                }
                for (v, reader) in readers.get(&id).into_iter().flatten().filter(|(_, r)| !inside.contains(r)) {
                    if let Some((d, _)) = &of[reader.index()] {
                        crossing.insert((*v, *d));
                        bound |= *d == DeviceName::Cpu;
                    }
                }
                crossing.extend(outputs.iter().filter(|v| v.node == id).map(|v| (*v, DeviceName::Cpu)));
            }
            let choice = if !bound || policy.by == PlaceBy::Device {
                (policy.session, Reason::Session)
            } else {
                let seconds = |device: DeviceName| {
                    let work: f64 = region.iter().map(|&id| costs.node(id, device)).sum();
                    work + crossing.iter().filter(|(_, d)| *d != device).map(|(v, _)| costs.transfer(*v)).sum::<f64>()
                };
                let mut candidates = vec![policy.session, DeviceName::Cpu];
                candidates.extend(crossing.iter().map(|(_, d)| *d));
                let timed = candidates.into_iter().map(|d| (d, seconds(d)));
                let best = timed.reduce(|a, b| if b.1 < a.1 { b } else { a }).unwrap_or((policy.session, 0.0));
                let other = if best.0 == policy.session { DeviceName::Cpu } else { policy.session };
                (best.0, Reason::Cost { here: best.1, other, there: seconds(other) })
            };
            for id in region {
                of[id.index()] = Some(choice.clone());
            }
        }
    }

    /// The nodes that have no place yet, by region: those that read one another, or are of one group.
    fn members(&self, groups: &Groups, of: &[Option<(DeviceName, Reason)>]) -> BTreeMap<usize, Vec<NodeId>> {
        let free = |id: NodeId| of[id.index()].is_none();
        let mut regions = groups.sets.clone();
        for (id, node) in self.graph.nodes().filter(|(id, _)| free(*id)) {
            for v in node.inputs.iter().filter(|v| free(v.node)) {
                regions.join(id.index(), v.node.index());
            }
        }
        let mut members: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
        for (id, _) in self.graph.nodes().filter(|(id, _)| free(*id)) {
            members.entry(regions.root(id.index())).or_default().push(id);
        }
        members
    }
}

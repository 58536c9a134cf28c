//! Colocation: groups of nodes that are on one device, and what each asks for.

use super::{Role, asked, refused};
use crate::device::DeviceSpec;
use crate::error::Result;
use graphc_frontend::proto::attr_value::Value as Attr;
use graphc_frontend::{Node, NodeId, RawGraph};
use hashbrown::HashMap;

/// Disjoint sets of numbers.
#[derive(Clone, Debug)]
pub struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Sets {
        Sets((0..n).collect())
    }

    /// The number that stands for a set.
    pub fn root(&self, mut k: usize) -> usize {
        while self.0[k] != k {
            k = self.0[k];
        }
        k
    }

    /// Makes one set of two. The smallest number of a set stands for it, so that the order of joining changes nothing.
    pub fn join(&mut self, a: usize, b: usize) {
        let (low, high) = (self.root(a).min(self.root(b)), self.root(a).max(self.root(b)));
        self.0[high] = low;
        for mut k in [a, b] {
            while self.0[k] != low {
                k = std::mem::replace(&mut self.0[k], low);
            }
        }
    }
}

/// What the nodes of a group have in common.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub spec: DeviceSpec,
    /// The first node that asks for a device.
    pub asks: Option<String>,
    /// A node that can only be on the CPU.
    pub host: Option<String>,
}

/// The groups of a graph. A node that is colocated with none is one of its own.
pub struct Groups {
    pub sets: Sets,
    groups: HashMap<usize, Group>,
    none: Group,
}

impl Groups {
    /// # Errors
    /// If a device is no name of one, or, unless `soft`, a group asks for two.
    pub fn new(graph: &RawGraph, roles: &[Role], soft: bool, inner: &dyn Fn(&Node) -> Vec<(String, DeviceSpec)>) -> Result<Groups> {
        let mut sets = Sets::new(graph.len());
        let mut named: HashMap<String, NodeId> = HashMap::new();
        for (id, node) in graph.nodes() {
            for name in locations(node) {
                let scoped = scopes(&node.name).map(|s| format!("{s}/{name}")).find_map(|n| graph.find(&n));
                // A node that was pruned still holds those together that name it.
                let with = scoped.or_else(|| graph.find(name)).unwrap_or_else(|| *named.entry(name.to_owned()).or_insert(id));
                sets.join(id.index(), with.index());
            }
        }
        let mut groups: HashMap<usize, Group> = HashMap::new();
        for (id, node) in graph.nodes() {
            let own = asked(node)?;
            let mut asks = if own.is_open() { Vec::new() } else { vec![(node.name.clone(), own)] };
            if roles[id.index()] == Role::Code {
                asks.extend(inner(node));
            }
            let host = matches!(roles[id.index()], Role::Host(_));
            if asks.is_empty() && !host {
                continue;
            }
            let group = groups.entry(sets.root(id.index())).or_default();
            if host {
                group.host.get_or_insert_with(|| node.name.clone());
            }
            for (by, spec) in asks {
                match group.spec.merged(&spec) {
                    Some(both) => {
                        group.spec = both;
                        group.asks.get_or_insert(by);
                    }
                    None if soft => {}
                    None => {
                        let first = group.asks.as_deref().unwrap_or_default();
                        return Err(refused(format!(
                            "nodes {first:?} and {by:?} have to be on one device ({}), but ask for {} and {spec}; give both the same \
                             device, or allow soft placement",
                            if by == node.name { "_class puts them together" } else { "code calls the functions that they are in" },
                            group.spec
                        )));
                    }
                }
            }
        }
        Ok(Groups { sets, groups, none: Group::default() })
    }

    pub fn of(&self, id: NodeId) -> &Group {
        self.groups.get(&self.sets.root(id.index())).unwrap_or(&self.none)
    }
}

/// The names of `loc:@name` in `_class`.
fn locations(node: &Node) -> impl Iterator<Item = &str> {
    let list = match node.attrs.get("_class").and_then(|a| a.value.as_ref()) {
        Some(Attr::List(l)) => l.s.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|s| std::str::from_utf8(s).ok()?.strip_prefix("loc:@"))
}

/// What stands before the slashes of a name, the longest first: a node that came out of a call is named after it, what it names is not.
fn scopes(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('/').map(|(at, _)| &name[..at])
}

//! Replaces calls by the bodies of the functions they call.
//!
//! Bodies are laid out flat, one slot a node; a call's slot becomes a forwarder to the values that its body returns. Nothing
//! recurses: calls wait in a queue, each with the chain of functions it is inside of.

use super::build::finish;
use super::library::Library;
use super::node::{Attrs, Node, NodeId, Value};
use super::{GraphInput, GraphOutput, RawGraph};
use crate::error::{Error, ErrorKind, Result};
use crate::ops;
use crate::proto::AttrValue;
use crate::proto::attr_value::Value as Attr;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a graph keeps after inlining, in terms of the graph before.
pub(super) struct Roots {
    pub inputs: Vec<GraphInput>,
    pub outputs: Vec<GraphOutput>,
    pub targets: Vec<NodeId>,
}

enum Slot {
    Node(Node),
    /// A call: what its outputs are, and the node that stands for the call having run.
    Call {
        outputs: Vec<Value>,
        done: NodeId,
    },
    /// An argument of an inlined body.
    Alias(Value),
}

/// The functions that a call is inside of, innermost first.
struct Chain {
    function: String,
    depth: usize,
    /// Whether XLA compiles one of them; its nodes are marked then.
    xla: bool,
    outer: Option<Arc<Chain>>,
}

/// A call that still has to be inlined.
struct Pending {
    slot: NodeId,
    function: String,
    node: Node,
    chain: Option<Arc<Chain>>,
}

struct Inliner<'a> {
    library: &'a Library,
    slots: Vec<Slot>,
    /// Names of the slots' nodes.
    names: HashSet<String>,
    pending: VecDeque<Pending>,
    /// Effects of inlined functions, in slots.
    effects: Vec<NodeId>,
    /// Nodes of bodies looked at, and bytes of names made, so far.
    visited: usize,
    name_bytes: usize,
    /// Whether the graph has TF1 control flow, where a node without inputs runs in every branch unless a control edge ties it.
    switches: bool,
}

const MUST_COMPILE: &str = "_XlaMustCompile";

/// Whether the attributes of a function, or of a node of one, say that XLA compiles it.
pub(super) fn compiled_by_xla(attrs: &Attrs) -> bool {
    matches!(attrs.get(MUST_COMPILE).and_then(|a| a.value.as_ref()), Some(Attr::B(true)))
}

/// The function that a node calls and that inlining may replace it by.
pub(super) fn callee(node: &Node, library: &Library) -> Option<String> {
    match node.op.as_str() {
        "PartitionedCall" | "StatefulPartitionedCall" => match node.attr("f") {
            Some(Attr::Func(f)) => Some(f.name.clone()),
            _ => None,
        },
        op => library.get(op).map(|f| f.name().to_string()),
    }
}

/// Lays out the nodes of `graph` for which `keep` holds, inlines their calls, and prunes what neither outputs, targets nor effects need.
pub(super) fn inline(graph: &RawGraph, keep: &[bool], roots: Roots, library: &Library) -> Result<RawGraph> {
    let mut inliner = Inliner {
        library,
        slots: Vec::new(),
        names: graph.nodes().zip(keep).filter(|(_, k)| **k).map(|((_, n), _)| n.name.clone()).collect(),
        pending: VecDeque::new(),
        effects: Vec::new(),
        visited: 0,
        name_bytes: 0,
        switches: false,
    };
    let map = inliner.lay_out(graph, keep, "", &HashMap::new(), None, None)?;
    while let Some(call) = inliner.pending.pop_front() {
        let name = call.node.name.clone();
        inliner.expand(call).map_err(|e| e.at_node(&name))?;
    }
    let at = |id: NodeId| map[id.index()];
    let roots = Roots {
        inputs: roots.inputs.into_iter().map(|i| GraphInput { node: at(i.node), ..i }).collect(),
        outputs: roots
            .outputs
            .into_iter()
            .map(|o| GraphOutput { value: Value { node: at(o.value.node), port: o.value.port }, ..o })
            .collect(),
        targets: roots.targets.into_iter().map(at).collect(),
    };
    inliner.finish(graph.name.clone(), roots)
}

/// The body of a function with the calls inside it inlined.
pub(crate) fn inline_body(body: &RawGraph, library: &Library) -> Result<RawGraph> {
    let (inputs, outputs, targets) = (body.inputs.clone(), body.outputs.clone(), body.targets.clone());
    let roots = outputs.iter().map(|o| o.value.node).chain(inputs.iter().map(|i| i.node)).chain(targets.iter().copied());
    let keep = needed(body, roots);
    inline(body, &keep, Roots { inputs, outputs, targets }, library)
}

impl Inliner<'_> {
    /// Copies the kept nodes of a graph into new slots and queues its calls. Returns the slot of each node of the graph.
    fn lay_out(
        &mut self,
        graph: &RawGraph,
        keep: &[bool],
        prefix: &str,
        args: &HashMap<NodeId, Value>,
        entry: Option<NodeId>,
        chain: Option<&Arc<Chain>>,
    ) -> Result<Vec<NodeId>> {
        self.switches |= graph.nodes().any(|(_, n)| matches!(n.op.as_str(), "Switch" | "RefSwitch" | "_SwitchN"));
        let mut map = Vec::with_capacity(graph.len());
        let mut next = self.slots.len();
        for kept in keep {
            map.push(NodeId::new(next));
            next += usize::from(*kept);
        }
        let limits = self.library.limits();
        if next > limits.max_nodes {
            let limit = limits.max_nodes;
            return Err(ErrorKind::TooMany { what: "nodes after inlining", count: next, limit, name: "max_nodes" }.into());
        }
        for ((id, node), _) in graph.nodes().zip(keep).filter(|(_, k)| **k) {
            if let Some(value) = args.get(&id) {
                self.slots.push(Slot::Alias(*value));
                continue;
            }
            let mut node = node.clone();
            if !prefix.is_empty() {
                node.name = self.unique(format!("{prefix}/{}", node.name))?;
            }
            if chain.is_some_and(|c| c.xla) {
                Arc::make_mut(&mut node.attrs).insert(MUST_COMPILE.to_owned(), AttrValue { value: Some(Attr::B(true)) });
            }
            node.inputs.iter_mut().for_each(|v| v.node = map[v.node.index()]);
            node.controls.iter_mut().for_each(|c| *c = map[c.index()]);
            let call = callee(&node, self.library);
            if let Some(entry) = entry {
                let source = self.switches && node.inputs.is_empty() && node.controls.is_empty();
                if source || call.is_some() || ops::observes_effects(&node.op, node.def.as_deref()) {
                    node.controls.push(entry);
                }
            }
            match call {
                Some(function) => {
                    let slot = NodeId::new(self.slots.len());
                    self.slots.push(Slot::Call { outputs: Vec::new(), done: slot });
                    self.pending.push_back(Pending { slot, function, node, chain: chain.cloned() });
                }
                None => self.slots.push(Slot::Node(node)),
            }
        }
        Ok(map)
    }

    /// The name, or the name with a number where it is taken.
    fn unique(&mut self, name: String) -> Result<String> {
        self.name_bytes = self.name_bytes.saturating_add(name.len());
        let limit = self.library.limits().max_name_bytes;
        if self.name_bytes > limit {
            let count = self.name_bytes;
            return Err(ErrorKind::TooMany { what: "bytes of names after inlining", count, limit, name: "max_name_bytes" }.into());
        }
        if self.names.insert(name.clone()) {
            return Ok(name);
        }
        let free = (1u64..).map(|i| format!("{name}_{i}")).find(|n| !self.names.contains(n)).unwrap_or(name);
        self.names.insert(free.clone());
        Ok(free)
    }

    /// Lays out the body of one call and makes the call's slot forward to it.
    fn expand(&mut self, call: Pending) -> Result<()> {
        let Pending { slot, function, node, chain } = call;
        let depth = chain.as_ref().map_or(0, |c| c.depth) + 1;
        let recursive = std::iter::successors(chain.as_deref(), |c| c.outer.as_deref()).any(|c| c.function == function);
        if recursive {
            let outer = std::iter::successors(chain.as_deref(), |c| c.outer.as_deref()).map(|c| c.function.clone());
            let mut names: Vec<String> = std::iter::once(function).chain(outer).collect();
            names.reverse();
            return Err(ErrorKind::RecursiveFunction { chain: names }.into());
        }
        if depth > self.library.limits().max_call_depth {
            return Err(ErrorKind::CallDepth { limit: self.library.limits().max_call_depth }.into());
        }
        let body = self.library.body(&function, &call_attrs(&node))?;
        self.visited = self.visited.saturating_add(body.len());
        if self.visited > self.library.limits().max_nodes {
            let (count, limit) = (self.visited, self.library.limits().max_nodes);
            return Err(ErrorKind::TooMany { what: "nodes of called functions", count, limit, name: "max_nodes" }.into());
        }
        if body.inputs.len() != node.inputs.len() {
            let (expected, found) = (body.inputs.len(), node.inputs.len());
            return Err(ErrorKind::FunctionArguments { function, expected, found }.into());
        }
        let entry = self.entry(&node)?;
        let args = body.inputs.iter().zip(&node.inputs).map(|(arg, value)| (arg.node, *value)).collect();
        let keep = needed_in_body(&body);
        let xla = compiled_by_xla(&node.attrs) || self.library.get(&function).is_some_and(|f| compiled_by_xla(f.attrs()));
        let chain = Arc::new(Chain { function, depth, xla, outer: chain });
        let map = self.lay_out(&body, &keep, &node.name, &args, entry, Some(&chain)).map_err(|e| e.in_function(&body.name))?;

        let outputs: Vec<Value> =
            body.outputs.iter().map(|o| Value { node: map[o.value.node.index()], port: o.value.port }).collect();
        let effects = body.targets.iter().filter(|t| !harmless(body.node(**t))).map(|t| map[t.index()]);
        let before = self.effects.len();
        self.effects.extend(effects);
        // A body may give back an argument untouched: having run then means that the call's own inputs have.
        let mut controls: Vec<NodeId> = outputs.iter().map(|v| v.node).collect();
        controls.extend(body.targets.iter().map(|t| map[t.index()]));
        controls.extend_from_slice(&self.effects[before..]);
        controls.extend(entry);
        let done = self.no_op(node.name.clone(), &node.device, controls);
        self.slots[slot.index()] = Slot::Call { outputs, done };
        Ok(())
    }

    /// The node that stands for everything a call waits for.
    fn entry(&mut self, node: &Node) -> Result<Option<NodeId>> {
        let mut before = node.controls.clone();
        if self.switches {
            before.extend(node.inputs.iter().map(|v| v.node));
        }
        before.sort_unstable();
        before.dedup();
        Ok(match before.as_slice() {
            [] => None,
            [one] => Some(*one),
            _ => {
                let name = self.unique(format!("{}/entry", node.name))?;
                Some(self.no_op(name, &node.device, before))
            }
        })
    }

    fn no_op(&mut self, name: String, device: &str, controls: Vec<NodeId>) -> NodeId {
        self.slots.push(Slot::Node(Node {
            name,
            op: "NoOp".into(),
            device: device.to_string(),
            attrs: Arc::default(),
            inputs: Vec::new(),
            controls,
            def: ops::builtin("NoOp"),
        }));
        NodeId::new(self.slots.len() - 1)
    }

    /// Follows aliases and calls to the node that makes a value.
    fn resolve(&self, mut value: Value) -> Result<Value> {
        // A chain longer than the slots would be a cycle of forwarders, which only a malformed graph can have.
        for _ in 0..=self.slots.len() {
            match &self.slots[value.node.index()] {
                Slot::Node(_) => return Ok(value),
                Slot::Alias(v) => value = *v,
                Slot::Call { outputs, .. } => {
                    let found = outputs.get(value.port as usize).copied();
                    let input = || format!("output {} of an inlined call", value.port);
                    value = found.ok_or_else(|| ErrorKind::NoSuchOutput { input: input(), outputs: outputs.len() })?;
                }
            }
        }
        Err(ErrorKind::Cycle { nodes: vec!["calls that return each other's arguments".into()] }.into())
    }

    /// The node to wait for so that a slot has run.
    fn resolve_control(&self, id: NodeId) -> Result<NodeId> {
        match &self.slots[id.index()] {
            Slot::Node(_) => Ok(id),
            Slot::Call { done, .. } => Ok(*done),
            Slot::Alias(value) => self.resolve(*value).map(|v| v.node),
        }
    }

    fn finish(mut self, name: String, roots: Roots) -> Result<RawGraph> {
        let mut resolved: Vec<Option<Node>> = Vec::with_capacity(self.slots.len());
        for i in 0..self.slots.len() {
            let Slot::Node(node) = &self.slots[i] else {
                resolved.push(None);
                continue;
            };
            let at = |e: Error| e.at_node(&node.name);
            let inputs = node.inputs.iter().map(|v| self.resolve(*v)).collect::<Result<Vec<_>>>().map_err(at)?;
            let controls = node.controls.iter().map(|c| self.resolve_control(*c)).collect::<Result<Vec<_>>>().map_err(at)?;
            let Slot::Node(node) = &mut self.slots[i] else { continue };
            let mut node = std::mem::replace(node, Node { inputs: Vec::new(), ..empty_node() });
            node.inputs = inputs;
            node.controls = controls;
            resolved.push(Some(node));
        }
        let mut outputs = roots.outputs;
        for output in &mut outputs {
            output.value = self.resolve(output.value).map_err(|e| e.at_node(&output.name))?;
        }
        let mut targets = roots.targets.iter().map(|t| self.resolve_control(*t)).collect::<Result<Vec<_>>>()?;
        // An effect that was itself a call is represented by the effects of its body.
        targets.extend(self.effects.iter().filter(|e| matches!(self.slots[e.index()], Slot::Node(_))));
        targets.sort_unstable();
        targets.dedup();
        prune(name, resolved, Roots { inputs: roots.inputs, outputs, targets }, self.library)
    }
}

fn empty_node() -> Node {
    let (name, op, device) = (String::new(), String::new(), String::new());
    Node { name, op, device, attrs: Arc::default(), inputs: Vec::new(), controls: Vec::new(), def: None }
}

/// The attributes that a call instantiates its function with.
fn call_attrs(node: &Node) -> Attrs {
    match node.attr("f") {
        Some(Attr::Func(f)) if node.op.ends_with("PartitionedCall") => f.attr.clone(),
        _ => (*node.attrs).clone(),
    }
}

/// A control return that changes nothing: a read.
fn harmless(node: &Node) -> bool {
    !node.has_effect() && node.def.as_ref().is_some_and(|d| d.is_stateful) && node.controls.is_empty()
}

/// The nodes of a body that a call of it runs.
pub(crate) fn needed_in_body(body: &RawGraph) -> Vec<bool> {
    needed(body, body.outputs.iter().map(|o| o.value.node).chain(body.targets.iter().copied()))
}

/// The nodes that the roots need, through data and control edges.
pub(crate) fn needed(graph: &RawGraph, roots: impl Iterator<Item = NodeId>) -> Vec<bool> {
    let mut keep = vec![false; graph.len()];
    let mut stack: Vec<NodeId> = roots.collect();
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut keep[id.index()], true) {
            continue;
        }
        let node = graph.node(id);
        stack.extend(node.inputs.iter().map(|v| v.node).chain(node.controls.iter().copied()));
    }
    keep
}

/// Keeps what outputs, targets and inputs need and numbers the nodes anew.
fn prune(name: String, mut nodes: Vec<Option<Node>>, mut roots: Roots, library: &Library) -> Result<RawGraph> {
    let mut keep = vec![false; nodes.len()];
    let mut stack: Vec<NodeId> = roots.outputs.iter().map(|o| o.value.node).chain(roots.targets.iter().copied()).collect();
    stack.extend(roots.inputs.iter().map(|i| i.node));
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut keep[id.index()], true) {
            continue;
        }
        if let Some(node) = &nodes[id.index()] {
            stack.extend(node.inputs.iter().map(|v| v.node).chain(node.controls.iter().copied()));
        }
    }
    let mut map = vec![NodeId::end(); nodes.len()];
    let mut kept = Vec::new();
    for (i, slot) in nodes.iter_mut().enumerate() {
        if keep[i]
            && let Some(node) = slot.take()
        {
            map[i] = NodeId::new(kept.len());
            kept.push(node);
        }
    }
    let at = |id: NodeId| map[id.index()];
    for node in &mut kept {
        node.inputs.iter_mut().for_each(|v| v.node = at(v.node));
        node.controls.iter_mut().for_each(|c| *c = at(*c));
        node.controls.sort_unstable();
        node.controls.dedup();
    }
    let mut graph = finish(name, kept, library.limits())?;
    roots.inputs.iter_mut().for_each(|i| i.node = at(i.node));
    roots.outputs.iter_mut().for_each(|o| o.value.node = at(o.value.node));
    roots.targets.iter_mut().for_each(|t| *t = at(*t));
    graph.inputs = roots.inputs;
    graph.outputs = roots.outputs;
    graph.targets = roots.targets;
    Ok(graph)
}

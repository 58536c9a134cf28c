//! Which nodes of a graph are compiled together, and which run one by one between.
//!
//! Every node gets a level: compiled nodes of one level are one segment, and the nodes that run one by one follow the segment of
//! their level. A compiled node is above every node run one by one that it waits for, so the order of segments is an order of the graph.

use super::Choices;
use super::transfer::{self, Transfer, Values};
use crate::device::DeviceName;
use crate::error::Result;
use crate::placement::{Functions, Placement, Places, Policy, Role};
use graphc_frontend::{Cut, DataType, Limits, Model, Node, NodeId, RawGraph, Value as Port, legalise, variables};
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};

/// What a node is to a staged run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Given from outside.
    Input,
    /// A constant; every segment that reads it has its own.
    Constant,
    /// A handle to a variable; likewise.
    Variable,
    Compiled,
    /// Run one by one: a host function or control flow.
    Single,
}

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Piece {
    Segment(Cut, DeviceName),
    Single(NodeId),
    /// Sends a value to another device.
    Send(Transfer),
    /// Waits for a value that another device sends.
    Recv(Transfer),
}

/// Control flow and calls, whose functions a staged run can call itself.
pub fn calls(op: &str) -> bool {
    matches!(
        op,
        "If" | "StatelessIf"
            | "Case"
            | "StatelessCase"
            | "While"
            | "StatelessWhile"
            | "For"
            | "PartitionedCall"
            | "StatefulPartitionedCall"
            | "RemoteCall"
    )
}

/// Ops that hand their operands on, handles too.
pub fn forwards(op: &str) -> bool {
    matches!(op, "Identity" | "IdentityN" | "RefIdentity" | "StopGradient" | "PreventGradient" | "Snapshot")
}

/// The host function of a node.
pub fn host_function(node: &Node) -> Option<graphc_host::HostFn> {
    graphc_host::function(&node.op, of_strings(node))
}

/// Whether strings go through a node.
pub fn of_strings(node: &Node) -> bool {
    of_type(node, DataType::String)
}

/// Whether a node can run by itself.
pub fn runs_alone(node: &Node) -> bool {
    calls(&node.op) || forwards(&node.op) || node.op == "NoOp" || host_function(node).is_some()
}

/// Whether the compiler has rules for a node, the bodies of its functions included. The same function is looked at once.
pub struct Compilable<'m> {
    model: &'m Model,
    functions: HashMap<String, bool>,
}

impl<'m> Compilable<'m> {
    pub fn new(model: &'m Model) -> Compilable<'m> {
        Compilable { model, functions: HashMap::new() }
    }

    pub fn node(&mut self, node: &Node) -> bool {
        legalise::compiles(node) && (!calls(&node.op) || self.functions_of(node))
    }

    fn functions_of(&mut self, node: &Node) -> bool {
        functions(node).iter().all(|f| self.function(&f.name, &f.attr))
    }

    fn function(&mut self, name: &str, attrs: &graphc_frontend::graph::Attrs) -> bool {
        if let Some(&known) = self.functions.get(name) {
            return known;
        }
        // A function that calls itself is not compiled.
        self.functions.insert(name.to_owned(), false);
        // One that cannot be read fails in the compiler, which says why.
        let compiles = self.model.function_inlined(name, attrs).map_or(true, |g| {
            let wanted = legalise::wanted(&g);
            let mut nodes = g.nodes().filter(|(id, n)| wanted[id.index()] && n.op != "_Arg");
            // A dead value lies in a branch that is mostly known not to be taken; where it is not, the compiler refuses.
            nodes.all(|(_, n)| !holds_strings(n) && (matches!(n.op.as_str(), "Const" | "_DeadTensor") || self.node(n)))
        });
        self.functions.insert(name.to_owned(), compiles);
        compiles
    }
}

/// Whether strings go through a node; the message of an `Assert` does not count.
fn holds_strings(node: &Node) -> bool {
    node.op != "Assert" && of_strings(node)
}

/// Whether an element type stands in a node's attributes.
fn of_type(node: &Node, dtype: DataType) -> bool {
    use graphc_frontend::proto::attr_value::Value as Attr;
    let is = |t: i32| DataType::from_number(t) == Some(dtype);
    node.attrs.values().any(|a| match &a.value {
        Some(Attr::Type(t)) => is(*t),
        Some(Attr::List(l)) => l.r#type.iter().any(|&t| is(t)),
        _ => false,
    })
}

/// Whether a graph has anything that a compiled function cannot have: a node without a rule, or a value without a memory form that
/// enters or leaves.
pub fn needs_stages(model: &Model, graph: &RawGraph) -> bool {
    let mut compilable = Compilable::new(model);
    let wanted = legalise::wanted(graph);
    let inputs: HashSet<NodeId> = graph.inputs.iter().map(|i| i.node).collect();
    let handle = |d: Option<DataType>| matches!(d, Some(DataType::String | DataType::Resource | DataType::Variant));
    graph.inputs.iter().any(|i| handle(i.dtype))
        || graph.outputs.iter().any(|o| handle(o.dtype))
        || graph.nodes().any(|(id, n)| {
            wanted[id.index()] && !inputs.contains(&id) && n.op != "Const" && (holds_strings(n) || !compilable.node(n))
        })
}

/// The graph with handles and references taken straight from where they are made: operands that are handles pass over ops that only
/// forward them, and what reads an assigned reference reads the variable after the assignment.
///
/// # Errors
/// If the graph cannot be rebuilt.
pub fn with_direct_handles(graph: &RawGraph, limits: &Limits) -> graphc_frontend::Result<RawGraph> {
    let source = |mut v: Port, controls: &mut Vec<NodeId>| {
        for _ in 0..graph.len() {
            let n = graph.node(v.node);
            let reference = n.def.as_ref().is_some_and(|d| {
                d.output_arg.get(v.port as usize).is_some_and(|o| o.is_ref) && d.input_arg.first().is_some_and(|i| i.is_ref)
            });
            let handle = || matches!(graph.value_type(v, limits), Ok(Some(DataType::Resource | DataType::Variant)));
            let from = if reference && !n.op.starts_with("Ref") || n.op == "RefIdentity" {
                controls.push(v.node);
                n.inputs.first()
            } else if forwards(&n.op) && handle() {
                controls.extend(&n.controls);
                n.inputs.get(v.port as usize)
            } else {
                None
            };
            match from {
                Some(&f) => v = f,
                None => break,
            }
        }
        v
    };
    // Constants and handles to variables have no place in the order of a run, so what they wait for is left to those that read them or
    // wait for them.
    let placeless = |id: &NodeId| {
        let n = graph.node(*id);
        n.op == "Const" || variables::name(n).is_some()
    };
    graph.edited(limits, |_, node| {
        let mut controls = std::mem::take(&mut node.controls);
        node.inputs.iter_mut().for_each(|v| *v = source(*v, &mut controls));
        controls.extend(node.inputs.iter().map(|v| v.node).filter(placeless));
        let mut at = 0;
        let mut seen: HashSet<NodeId> = controls.iter().copied().collect();
        while let Some(&c) = controls.get(at) {
            at += 1;
            if placeless(&c) {
                controls.extend(graph.node(c).controls.iter().filter(|c| seen.insert(**c)));
            }
        }
        controls.retain(|c| !placeless(c));
        controls.sort_unstable();
        controls.dedup();
        node.controls = controls;
    })
}

/// The graph with what ops wait for that only forward tensors left to those that read them, so that a value which is there need not
/// wait on one device for what happens on another. What an output waits for becomes a target.
///
/// # Errors
/// If the graph cannot be rebuilt.
pub fn with_free_forwards(graph: &RawGraph, limits: &Limits) -> graphc_frontend::Result<RawGraph> {
    // What forwards a variable reads it, at its time.
    let free = |id: NodeId| {
        let n = graph.node(id);
        let tensor = |v: &Port| !matches!(graph.value_type(*v, limits), Ok(Some(DataType::Resource | DataType::Variant)));
        let read = |v: &Port| variables::name(graph.node(v.node)).is_some();
        forwards(&n.op) && n.inputs.iter().all(|v| tensor(v) && !read(v))
    };
    let mut edited = graph.edited(limits, |id, node| {
        if free(id) {
            node.controls.clear();
            return;
        }
        let (mut left, mut seen) = (node.inputs.clone(), HashSet::new());
        left.extend(node.controls.iter().map(|&node| Port { node, port: 0 }));
        while let Some(v) = left.pop() {
            if seen.insert(v.node) && free(v.node) {
                let n = graph.node(v.node);
                node.controls.extend(&n.controls);
                left.extend(n.inputs.iter().copied().chain(n.controls.iter().map(|&node| Port { node, port: 0 })));
            }
        }
        node.controls.sort_unstable();
        node.controls.dedup();
    })?;
    let (mut left, mut seen): (Vec<NodeId>, HashSet<NodeId>) = Default::default();
    left.extend(graph.outputs.iter().map(|o| o.value.node).filter(|id| free(*id)));
    let outputs = left.clone();
    while let Some(id) = left.pop() {
        let n = graph.node(id);
        match seen.insert(id) {
            true if free(id) => left.extend(n.controls.iter().copied().chain(n.inputs.iter().map(|v| v.node).filter(|i| free(*i)))),
            true if n.op == "NoOp" => left.extend(&n.controls),
            true if !outputs.contains(&id) && !edited.targets.contains(&id) => edited.targets.push(id),
            _ => {}
        }
    }
    Ok(edited)
}

/// A staged view of a graph.
pub struct Partition<'g> {
    graph: &'g RawGraph,
    limits: &'g Limits,
    kinds: Vec<Kind>,
    reached: Vec<bool>,
    /// Compiled nodes that say what a constant or a variable holds that no run changes. Every segment that reads one has its own, so that
    /// the compiler knows the value there.
    fixed: Vec<bool>,
    /// Those of them whose values something else than a segment reads.
    shown: HashSet<NodeId>,
    placement: Placement,
    lossy: bool,
    nested: bool,
}

impl<'g> Partition<'g> {
    /// Decides what each node is. Nodes that neither compile nor run alone count as compiled: the compiler says what they lack.
    /// `state` are the variables that a run may change; a `nested` graph is the body of what runs one by one.
    ///
    /// # Errors
    /// If a node asks for a device where it cannot be.
    pub fn new(
        model: &'g Model,
        graph: &'g RawGraph,
        choices: &Choices,
        state: &BTreeSet<String>,
        policy: &Policy,
        nested: bool,
    ) -> Result<Partition<'g>> {
        let limits = model.limits();
        let mut compilable = Compilable::new(model);
        let functions = Functions::new(model);
        let several = policy.session != DeviceName::Cpu;
        let inputs: HashSet<NodeId> = graph.inputs.iter().map(|i| i.node).collect();
        let reached = reached(graph, &inputs);
        let mut kinds: Vec<Kind> = graph
            .nodes()
            .map(|(id, n)| {
                if inputs.contains(&id) {
                    Kind::Input
                } else if n.op == "Const" {
                    Kind::Constant
                } else if variables::name(n).is_some() {
                    Kind::Variable
                } else if runs_alone(n) && (choices.single.contains(&id) || !compilable.node(n) || several && functions.split(n)) {
                    Kind::Single
                } else {
                    Kind::Compiled
                }
            })
            .collect();
        spread(graph, limits, &reached, &mut kinds);
        let fixed = fixed(graph, &kinds, state);
        let mut shown: HashSet<NodeId> = graph.targets.iter().copied().chain(graph.outputs.iter().map(|o| o.value.node)).collect();
        for (_, n) in graph.nodes().filter(|(id, _)| reached[id.index()] && kinds[id.index()] == Kind::Single) {
            shown.extend(n.inputs.iter().map(|v| v.node));
        }
        shown.retain(|id| fixed[id.index()]);
        let role = |(id, n): (NodeId, &Node)| match kinds[id.index()] {
            Kind::Single if calls(&n.op) => Role::Host("its functions run node by node"),
            Kind::Single => Role::Host("it is a host function"),
            Kind::Compiled if fixed[id.index()] || !reached[id.index()] => Role::None,
            Kind::Compiled if choices.on_cpu.contains(&id) => Role::Host("GPUs have no kernel for it"),
            Kind::Compiled if holds_strings(n) => Role::Host("GPUs have no strings"),
            Kind::Compiled => Role::Code,
            Kind::Input | Kind::Constant | Kind::Variable => Role::None,
        };
        let roles: Vec<Role> = graph.nodes().map(role).collect();
        let places = Places { graph, limits, roles: &roles, inner: &|n| functions.of(n), nested };
        let placement = places.place(policy)?;
        Ok(Partition { graph, limits, kinds, reached, fixed, shown, placement, lossy: policy.lossy, nested })
    }

    /// Where each node that runs is.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The one device of all that is compiled, if there is one; the CPU where nothing is.
    pub fn one_device(&self) -> Option<DeviceName> {
        let compiled = |id: &NodeId| self.reached[id.index()] && self.kind(*id) == Kind::Compiled && !self.fixed[id.index()];
        let nodes = self.graph.topological_order().iter().copied().filter(compiled);
        let mut devices = nodes.map(|id| self.placement.device(id));
        let first = devices.next().unwrap_or_default();
        devices.all(|d| d == first).then_some(first)
    }

    pub fn kind(&self, id: NodeId) -> Kind {
        self.kinds[id.index()]
    }

    /// The steps of these nodes, in order. What other nodes make is there already.
    pub fn pieces(&self, nodes: &[NodeId], choices: &Choices) -> Vec<Piece> {
        let here: HashSet<NodeId> = nodes.iter().copied().filter(|id| self.reached[id.index()]).collect();
        let mut levels: HashMap<NodeId, usize> = HashMap::new();
        type Level = (BTreeMap<DeviceName, Vec<NodeId>>, Vec<NodeId>);
        let mut by_level: BTreeMap<usize, Level> = BTreeMap::new();
        for &id in self.graph.topological_order() {
            let compiled = match self.kind(id) {
                Kind::Compiled => true,
                Kind::Single => false,
                Kind::Input | Kind::Constant | Kind::Variable => continue,
            };
            if !here.contains(&id) || self.fixed[id.index()] && !self.shown.contains(&id) {
                continue;
            }
            let node = self.graph.node(id);
            let apart = choices.apart.contains(&id);
            let device = self.placement.device(id);
            let before = node.inputs.iter().map(|v| v.node).chain(node.controls.iter().copied());
            let level = before.filter_map(|p| {
                let l = *levels.get(&p)?;
                let away = !self.fixed[p.index()] && self.placement.device(p) != device;
                let above = compiled && (self.kind(p) == Kind::Single || apart || away);
                Some(l + usize::from(above))
            });
            let level = level.max().unwrap_or(0);
            levels.insert(id, level);
            let (segments, singles) = by_level.entry(level).or_default();
            if compiled { segments.entry(device).or_default().push(id) } else { singles.push(id) }
        }
        let mut pieces = Vec::new();
        for (segments, singles) in by_level.into_values() {
            pieces.extend(segments.into_iter().map(|(device, nodes)| Piece::Segment(self.cut(nodes), device)));
            pieces.extend(singles.into_iter().map(Piece::Single));
        }
        transfer::insert(
            pieces,
            self.graph,
            &Values { home: &|v| self.home(v), lossy: &|v| self.goes_narrow(v), nested: self.nested },
        )
    }

    /// Whether a value is of f32, and such may cross as bf16.
    fn goes_narrow(&self, v: Port) -> bool {
        self.lossy && self.graph.value_type(v, self.limits).ok().flatten() == Some(DataType::Float)
    }

    /// The device on which a value is made; none of what has no place, or is no tensor.
    fn home(&self, v: Port) -> Option<DeviceName> {
        let tensor = || !matches!(self.graph.value_type(v, self.limits), Ok(Some(DataType::Resource | DataType::Variant)));
        match self.kind(v.node) {
            Kind::Constant | Kind::Variable => None,
            Kind::Input | Kind::Single => tensor().then_some(DeviceName::Cpu),
            Kind::Compiled => Some(self.placement.device(v.node)),
        }
    }

    /// What a segment takes and gives.
    fn cut(&self, mut nodes: Vec<NodeId>) -> Cut {
        let inside: HashSet<NodeId> = nodes.iter().copied().collect();
        let mut cut = Cut::default();
        let mut own: Vec<NodeId> = Vec::new();
        let mut seen: HashSet<Port> = HashSet::new();
        let mut left = nodes.clone();
        left.reverse();
        while let Some(id) = left.pop() {
            for &v in &self.graph.node(id).inputs {
                if inside.contains(&v.node) || !seen.insert(v) {
                    continue;
                }
                match self.kind(v.node) {
                    // Code holds no strings: a variable of them is read before it.
                    Kind::Variable if holds_strings(self.graph.node(v.node)) => cut.given.push(v),
                    Kind::Constant | Kind::Variable => own.push(v.node),
                    _ if self.fixed[v.node.index()] => {
                        own.push(v.node);
                        left.push(v.node);
                    }
                    _ => cut.given.push(v),
                }
            }
        }
        let outputs: HashSet<Port> = self.graph.outputs.iter().map(|o| o.value).collect();
        let mut wanted: HashSet<Port> = outputs.into_iter().filter(|v| inside.contains(&v.node)).collect();
        for (id, n) in self.graph.nodes().filter(|(id, _)| self.reached[id.index()] && !inside.contains(id)) {
            let has_own = |v: &Port| self.kind(id) == Kind::Compiled && self.fixed[v.node.index()];
            wanted.extend(n.inputs.iter().filter(|v| inside.contains(&v.node) && !has_own(v)));
        }
        cut.wanted = wanted.into_iter().collect();
        cut.wanted.sort_unstable();
        let targets: HashSet<NodeId> = self.graph.targets.iter().copied().collect();
        let acts = |id: &NodeId| targets.contains(id) || self.graph.node(*id).has_effect();
        cut.targets = nodes.iter().copied().filter(acts).collect();
        own.sort_unstable();
        own.dedup();
        nodes.splice(0..0, own);
        cut.nodes = nodes;
        cut
    }

    /// All nodes that outputs and targets need.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.graph.topological_order().iter().copied().filter(|id| self.reached[id.index()]).collect()
    }

    /// The values that are given at the start: outputs of constants.
    pub fn constants(&self) -> impl Iterator<Item = NodeId> {
        self.graph.topological_order().iter().copied().filter(|&id| self.reached[id.index()] && self.kind(id) == Kind::Constant)
    }
}

/// Compiled nodes that only hand on a constant, or a variable that is not among `state`.
fn fixed(graph: &RawGraph, kinds: &[Kind], state: &BTreeSet<String>) -> Vec<bool> {
    let mut fixed = vec![false; graph.len()];
    for &id in graph.topological_order() {
        let node = graph.node(id);
        let hands_on = node.op == "ReadVariableOp" || forwards(&node.op) && node.inputs.len() == 1;
        if kinds[id.index()] != Kind::Compiled || !hands_on || holds_strings(node) {
            continue;
        }
        fixed[id.index()] = node.inputs.iter().all(|v| match kinds[v.node.index()] {
            Kind::Constant => true,
            Kind::Variable => variables::name(graph.node(v.node)).is_some_and(|n| !state.contains(&n)),
            _ => fixed[v.node.index()],
        });
    }
    fixed
}

/// What outputs, targets and effects need.
fn reached(graph: &RawGraph, inputs: &HashSet<NodeId>) -> Vec<bool> {
    let mut reached = vec![false; graph.len()];
    let mut stack: Vec<NodeId> = graph.outputs.iter().map(|o| o.value.node).chain(graph.targets.iter().copied()).collect();
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut reached[id.index()], true) || inputs.contains(&id) {
            continue;
        }
        let node = graph.node(id);
        stack.extend(node.inputs.iter().map(|p| p.node).chain(node.controls.iter().copied()));
    }
    reached
}

/// Handles other than variables stay with what runs one by one: where one end of an edge of handles or variants does, the other must.
fn spread(graph: &RawGraph, limits: &Limits, reached: &[bool], kinds: &mut [Kind]) {
    let mut edges: Vec<(NodeId, NodeId)> = Vec::new();
    for (id, n) in graph.nodes().filter(|(id, _)| reached[id.index()]) {
        for v in &n.inputs {
            let dtype = graph.value_type(*v, limits).ok().flatten();
            let list = dtype == Some(DataType::Variant);
            // A handle that a node makes which is compiled otherwise, such as a loop, may be a variable's.
            let object = dtype == Some(DataType::Resource) && !matches!(kinds[v.node.index()], Kind::Variable | Kind::Input);
            if list || object {
                edges.push((v.node, id));
            }
        }
    }
    let leaves: HashSet<NodeId> = graph
        .outputs
        .iter()
        .filter(|o| matches!(graph.value_type(o.value, limits), Ok(Some(DataType::Variant | DataType::Resource))))
        .map(|o| o.value.node)
        .collect();
    for id in leaves {
        if kinds[id.index()] == Kind::Compiled && runs_alone(graph.node(id)) {
            kinds[id.index()] = Kind::Single;
        }
    }
    loop {
        let mut changed = false;
        for &(a, b) in &edges {
            let outside = |k: Kind| matches!(k, Kind::Single | Kind::Input | Kind::Constant);
            for (this, other) in [(a, b), (b, a)] {
                let id = other.index();
                if outside(kinds[this.index()]) && kinds[id] == Kind::Compiled && runs_alone(graph.node(other)) {
                    kinds[id] = Kind::Single;
                    changed = true;
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// The functions that a node calls.
pub fn functions(node: &Node) -> Vec<graphc_frontend::proto::NameAttrList> {
    let single = ["then_branch", "else_branch", "cond", "body", "f"].into_iter().filter_map(|a| node.attr_func(a).ok());
    single.chain(node.attr_funcs("branches").unwrap_or_default()).cloned().collect()
}

//! `Switch` and `Merge` become `If` and `Case` nodes.
//!
//! Every node has a condition under which it runs, over the predicates of switches. Nodes that need each other's values under a
//! condition stay together; what lies on a way between nodes of one group joins it. A group becomes one node that chooses by its first
//! predicate, and in each branch, where that is known, the same is done again. So each branch has all that runs in it, and what runs in
//! any case but between two parts of a group is in every branch.

use super::body::{Captures, Draft, function_attr, function_list, is_copied, made, scalar, types};
use super::live::{Form, Forms, TooLarge, Var};
use super::{is_merge, is_switch, pruned, source, unsupported};
use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::graph::{GraphInput, GraphOutput, Library, Node, NodeId, RawGraph, Value, finish};
use crate::proto::attr_value::Value as Attr;
use hashbrown::{HashMap, HashSet};
use petgraph::graph::DiGraph;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// A fetched value that may be dead; made here and gone at the end.
const FETCH: &str = "_FetchIfLive";
/// Fails as a fetch of a dead value does.
const DEAD: &str = "_DeadTensor";

impl From<TooLarge> for Error {
    fn from(_: TooLarge) -> Error {
        unsupported("conditions of too many predicates")
    }
}

pub fn raise(graph: RawGraph, library: &Library) -> Result<RawGraph> {
    let graph = with_fetches(graph, library)?;
    let mut branches = Branches::of(&graph, library)?;
    let items: Vec<NodeId> = graph.topological_order().to_vec();
    let mut level = Level::default();
    branches.level(&mut level, &items, &[], &mut Vec::new())?;

    let mut outputs = Vec::with_capacity(graph.outputs.len());
    for o in &graph.outputs {
        let value = level.find(o.value).ok_or_else(|| unsupported("a value that no branch makes").at_node(&o.name))?;
        outputs.push(GraphOutput { value, ..o.clone() });
    }
    let mut inputs = Vec::with_capacity(graph.inputs.len());
    for i in &graph.inputs {
        let value = level.find(Value { node: i.node, port: 0 }).ok_or_else(|| unsupported("an input that is gone"))?;
        inputs.push(GraphInput { node: value.node, ..i.clone() });
    }
    let mut targets: Vec<NodeId> = graph.targets.iter().filter_map(|t| level.done.get(t)).flatten().copied().collect();
    targets.sort_unstable();
    targets.dedup();
    let mut out = finish(graph.name.clone(), level.draft.nodes, library.limits())?;
    (out.inputs, out.outputs, out.targets) = (inputs, outputs, targets);
    pruned(out, library)
}

/// The graph with a node for each fetch, which says what becomes of a dead value.
fn with_fetches(mut graph: RawGraph, library: &Library) -> Result<RawGraph> {
    let mut nodes: Vec<Node> = graph.nodes().map(|(_, n)| n.clone()).collect();
    let mut draft_names: HashSet<String> = nodes.iter().map(|n| n.name.clone()).collect();
    let mut fetches: HashMap<Value, NodeId> = HashMap::new();
    for o in &mut graph.outputs {
        let node = *fetches.entry(o.value).or_insert_with(|| {
            let name = (0u64..).map(|i| format!("{}/fetch_{i}", o.name)).find(|n| !draft_names.contains(n)).unwrap_or_default();
            draft_names.insert(name.clone());
            nodes.push(made(&name, FETCH, [], vec![o.value], Vec::new()));
            NodeId::new(nodes.len() - 1)
        });
        o.value = Value { node, port: 0 };
    }
    let mut out = finish(graph.name.clone(), nodes, library.limits())?;
    (out.inputs, out.outputs, out.targets) = (graph.inputs, graph.outputs, graph.targets);
    Ok(out)
}

/// A predicate of switches.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Predicate {
    value: Value,
    /// How many values it has.
    values: u32,
    /// A number that chooses among outputs, and not a bool.
    is_index: bool,
}

struct Branches<'a> {
    graph: &'a RawGraph,
    library: &'a Library,
    forms: Forms,
    predicates: Vec<Predicate>,
    /// When each node runs.
    runs: Vec<Form>,
    /// For switches, when each output is live.
    ports: HashMap<NodeId, Vec<Form>>,
    /// Nodes that another node waits for.
    awaited: Vec<bool>,
    /// Merges whose index of the live input is read.
    indexed: HashSet<NodeId>,
    /// How many items levels may still take.
    left: usize,
}

/// What is known of predicates, outermost first.
type Path = Vec<(Var, u32)>;

/// A graph or branch in the making.
#[derive(Default)]
struct Level {
    draft: Draft,
    values: HashMap<Value, Value>,
    /// Values that are others: outputs of switches and merges that are decided here.
    aliases: HashMap<Value, Value>,
    /// What to wait for so that a node of the graph has run.
    done: HashMap<NodeId, Vec<NodeId>>,
    /// Values from outside of a branch; none for the graph itself.
    captures: Option<Captures>,
}

impl Level {
    /// A value that is here.
    fn find(&self, mut value: Value) -> Option<Value> {
        for _ in 0..=self.aliases.len() {
            match self.values.get(&value) {
                Some(&v) => return Some(v),
                None => value = *self.aliases.get(&value)?,
            }
        }
        None
    }

    /// The value that a value is another name of, as far as that is known here.
    fn aliased(&self, mut value: Value) -> Value {
        for _ in 0..=self.aliases.len() {
            match self.aliases.get(&value) {
                Some(&v) => value = v,
                None => break,
            }
        }
        value
    }

    fn waits(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let set: BTreeSet<NodeId> = nodes.filter_map(|n| self.done.get(&n)).flatten().copied().collect();
        set.into_iter().collect()
    }
}

/// How the nodes of a level are put together.
struct Groups {
    /// The group or lone node of each item, as positions in `order`.
    order: Vec<Vec<usize>>,
    /// The predicate that a group chooses by; none for a lone node.
    chooses: Vec<Option<Var>>,
}

impl<'a> Branches<'a> {
    fn of(graph: &'a RawGraph, library: &'a Library) -> Result<Branches<'a>> {
        let mut awaited = vec![false; graph.len()];
        graph.nodes().flat_map(|(_, n)| &n.controls).for_each(|c| awaited[c.index()] = true);
        let mut b = Branches {
            graph,
            library,
            forms: Forms::default(),
            predicates: Vec::new(),
            runs: vec![Form::ALWAYS; graph.len()],
            ports: HashMap::new(),
            awaited,
            left: library.limits().max_nodes,
            indexed: graph.nodes().flat_map(|(_, n)| &n.inputs).filter(|v| v.port == 1).map(|v| v.node).collect(),
        };
        let mut index: HashMap<Predicate, Var> = HashMap::new();
        for &id in graph.topological_order() {
            let node = graph.node(id);
            let runs = match node.op.as_str() {
                op if is_merge(op) => {
                    let inputs = node.inputs.iter().map(|v| b.live(*v)).collect::<Vec<_>>();
                    inputs.into_iter().try_fold(Form::NEVER, |a, f| b.forms.or(a, f))?
                }
                "ControlTrigger" | FETCH => Form::ALWAYS,
                _ => {
                    let data = node.inputs.iter().map(|v| b.live(*v));
                    let before: BTreeSet<Form> = data.chain(node.controls.iter().map(|c| b.runs[c.index()])).collect();
                    before.into_iter().try_fold(Form::ALWAYS, |a, f| b.forms.and(a, f))?
                }
            };
            b.runs[id.index()] = runs;
            if is_switch(&node.op) {
                let ports = b.switch(node, runs, &mut index)?;
                b.ports.insert(id, ports);
            }
        }
        Ok(b)
    }

    /// When the outputs of a switch are live.
    fn switch(&mut self, node: &Node, runs: Form, index: &mut HashMap<Predicate, Var>) -> Result<Vec<Form>> {
        let limits = self.library.limits();
        let is_index = node.op == "_SwitchN";
        let values = if is_index { u32::try_from(node.attr_i64("num_outs")?).unwrap_or(0) } else { 2 };
        if values == 0 || values as usize > limits.max_ports {
            return Err(unsupported(format!("a switch with {values} outputs")).at_node(&node.name));
        }
        let mut value = source(self.graph, node.input(1)?);
        let mut negated = false;
        // A switch hands on the same value, and the opposite of a predicate is no other predicate.
        for _ in 0..self.graph.len() {
            let from = self.graph.node(value.node);
            match (from.op.as_str(), from.inputs.first()) {
                ("LogicalNot", Some(_)) if !is_index => negated = !negated,
                (op, Some(_)) if is_switch(op) && op != "RefSwitch" => {}
                _ => break,
            }
            let Some(&v) = from.inputs.first() else { break };
            value = source(self.graph, v);
        }
        let constant = self.graph.node(value.node);
        let constant = constant.attr_tensor("value", limits).ok().filter(|t| constant.op == "Const" && t.shape.is_empty());
        let known = constant.and_then(|t| t.to_i64s().ok()).and_then(|v| v.first().copied());
        let known = known.map(|k| match is_index {
            true => u32::try_from(k).ok().filter(|k| *k < values).unwrap_or(values - 1),
            false => u32::from(k != 0),
        });
        let predicate = Predicate { value, values, is_index };
        let next = self.predicates.len() as Var;
        let var = *index.entry(predicate.clone()).or_insert(next);
        if var == next {
            self.predicates.push(predicate);
        }
        (0..values)
            .map(|k| {
                let k = if negated { 1 - k.min(1) } else { k };
                let is = match known {
                    Some(v) if v == k => Form::ALWAYS,
                    Some(_) => Form::NEVER,
                    None => self.forms.equals(var, k, values)?,
                };
                Ok(self.forms.and(runs, is)?)
            })
            .collect()
    }

    fn live(&self, v: Value) -> Form {
        match self.ports.get(&v.node) {
            Some(ports) => ports.get(v.port as usize).copied().unwrap_or(Form::NEVER),
            None => self.runs[v.node.index()],
        }
    }

    fn now(&mut self, form: Form, path: &Path) -> Result<Form> {
        path.iter().try_fold(form, |f, &(var, k)| Ok(self.forms.given(f, var, k)?))
    }

    fn live_now(&mut self, v: Value, path: &Path) -> Result<Form> {
        self.now(self.live(v), path)
    }

    /// Whether a node takes one of its inputs, whichever is live.
    fn selects(&self, id: NodeId) -> bool {
        let op = &self.graph.node(id).op;
        is_merge(op) || op == FETCH
    }

    /// The input that a selecting node takes, if that is decided.
    fn selected(&mut self, id: NodeId, path: &Path) -> Result<Option<usize>> {
        let node = self.graph.node(id);
        for (k, v) in node.inputs.iter().enumerate() {
            if self.live_now(*v, path)? == Form::ALWAYS {
                return Ok(Some(k));
            }
        }
        Ok(None)
    }

    /// Puts items into a level: those that run where the path is known. `exports` are values that are read after.
    fn level(&mut self, out: &mut Level, items: &[NodeId], exports: &[Value], path: &mut Path) -> Result<()> {
        if path.len() > super::MOST_NESTED {
            return Err(unsupported("branches that nest too deep"));
        }
        // What lies between parts of a group is in each of its branches, which may double with every group.
        let left = self.left.checked_sub(items.len());
        self.left = left.ok_or_else(|| unsupported("branches that depend on each other in too many ways"))?;
        let mut alive = Vec::with_capacity(items.len());
        for &id in items {
            if self.now(self.runs[id.index()], path)? != Form::NEVER {
                alive.push(id);
            }
        }
        let groups = self.groups(&alive, path)?;
        // Who reads values of whom decides what a group gives back.
        let mut home: HashMap<NodeId, usize> = HashMap::new();
        for (g, members) in groups.order.iter().enumerate() {
            members.iter().for_each(|&i| {
                home.insert(alive[i], g);
            });
        }
        for &id in &alive {
            let node = self.graph.node(id);
            if is_switch(&node.op) {
                if self.now(self.runs[id.index()], path)? == Form::ALWAYS {
                    let data = node.input(0)?;
                    let ports = self.ports.get(&id).map_or(0, Vec::len) as u32;
                    (0..ports).for_each(|port| {
                        out.aliases.insert(Value { node: id, port }, data);
                    });
                }
            } else if self.selects(id)
                && let Some(k) = self.selected(id, path)?
            {
                out.aliases.insert(Value { node: id, port: 0 }, node.input(k)?);
            }
        }
        let mut given: BTreeMap<usize, BTreeSet<Value>> = BTreeMap::new();
        let mut reads: Vec<(Option<usize>, Value)> = exports.iter().map(|v| (None, *v)).collect();
        for &id in &alive {
            let node = self.graph.node(id);
            let (g, first) = (home.get(&id).copied(), Value { node: id, port: 0 });
            if node.op == FETCH {
                reads.push((None, first));
            }
            if out.aliases.contains_key(&first) {
                continue;
            }
            reads.extend(node.inputs.iter().map(|v| (g, *v)));
        }
        for (var, g) in groups.chooses.iter().zip(0..).filter_map(|(c, g)| c.map(|c| (c, g))) {
            if let Some(p) = self.predicates.get(var as usize) {
                reads.push((Some(g), p.value));
            }
        }
        for (reader, value) in reads {
            let value = out.aliased(value);
            let Some(&g) = home.get(&value.node).filter(|g| groups.chooses[**g].is_some() && reader != Some(**g)) else { continue };
            if self.live_now(value, path)? == Form::ALWAYS {
                given.entry(g).or_default().insert(value);
            }
        }
        for (g, members) in groups.order.iter().enumerate() {
            let members: Vec<NodeId> = members.iter().map(|&i| alive[i]).collect();
            match (groups.chooses[g], members.as_slice()) {
                (None, &[id]) => self.emit(out, id, path)?,
                (Some(var), _) => {
                    let exports: Vec<Value> = given.remove(&g).unwrap_or_default().into_iter().collect();
                    self.emit_group(out, var, &members, &exports, path)?;
                }
                (None, _) => return Err(unsupported("nodes that wait for each other")),
            }
        }
        Ok(())
    }

    /// Finds which items belong together, and the order of groups.
    fn groups(&mut self, alive: &[NodeId], path: &Path) -> Result<Groups> {
        let n = alive.len();
        let index: HashMap<NodeId, usize> = alive.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut sets = Sets::new(n);
        // The first open condition that an item meets.
        let mut opens: Vec<Option<Form>> = vec![None; n];
        let mut edges: Vec<(usize, usize)> = Vec::new();
        for (i, &id) in alive.iter().enumerate() {
            let node = self.graph.node(id);
            let taken = if self.selects(id) { self.selected(id, path)? } else { None };
            let is_trigger = node.op == "ControlTrigger";
            for (k, v) in node.inputs.iter().enumerate() {
                let form = self.live_now(*v, path)?;
                if form == Form::NEVER || taken.is_some_and(|t| t != k) {
                    continue;
                }
                let from = index.get(&v.node);
                edges.extend(from.map(|&p| (p, i)));
                if form.is_open() {
                    opens[i].get_or_insert(form);
                    if let Some(&p) = from.filter(|&&p| opens[p].is_some()) {
                        sets.join(p, i);
                    }
                }
            }
            for c in &node.controls {
                let form = self.now(self.runs[c.index()], path)?;
                if form == Form::NEVER {
                    continue;
                }
                let from = index.get(c);
                edges.extend(from.map(|&p| (p, i)));
                if form.is_open() && (!self.selects(id) || is_trigger) {
                    opens[i].get_or_insert(form);
                    if let Some(&p) = from.filter(|&&p| opens[p].is_some()) {
                        sets.join(p, i);
                    }
                }
            }
        }
        if opens.iter().all(Option::is_none) {
            return Ok(Groups { order: (0..n).map(|i| vec![i]).collect(), chooses: vec![None; n] });
        }
        // What lies between members of a group joins it.
        let components = sets.components();
        let mut quotient: DiGraph<(), (), u32> = DiGraph::with_capacity(n, edges.len());
        (0..n).for_each(|_| {
            quotient.add_node(());
        });
        for &(a, b) in &edges {
            if components[a] != components[b] {
                quotient.add_edge(NodeId::new(components[a]), NodeId::new(components[b]), ());
            }
        }
        for strong in petgraph::algo::kosaraju_scc(&quotient) {
            if let [first, rest @ ..] = strong.as_slice() {
                rest.iter().for_each(|r| sets.join(first.index(), r.index()));
            }
        }
        // Each group chooses by the first predicate of its first open member.
        let mut components = sets.components();
        let mut chooses: Vec<Option<Var>> = vec![None; n];
        for i in 0..n {
            let (Some(form), None) = (opens[i], chooses[components[i]]) else { continue };
            let vars = self.forms.vars(form);
            let mut found = None;
            for var in vars {
                let Some(value) = self.predicates.get(var as usize).map(|p| p.value) else { continue };
                let inside = index.get(&value.node).is_some_and(|&p| components[p] == components[i]);
                if !inside && self.live_now(value, path)? == Form::ALWAYS {
                    found = Some(var);
                    break;
                }
            }
            let name = &self.graph.node(alive[i]).name;
            chooses[components[i]] =
                Some(found.ok_or_else(|| unsupported("a branch whose predicate is inside of it").at_node(name))?);
        }
        // Groups that choose by the same predicate, none after another, are one.
        let mut by_var: BTreeMap<Var, Vec<usize>> = BTreeMap::new();
        for (c, var) in chooses.iter().enumerate().filter_map(|(c, v)| v.map(|v| (c, v))) {
            by_var.entry(var).or_default().push(c);
        }
        for (_, groups) in by_var.into_iter().filter(|(_, g)| g.len() > 1) {
            let order = ordered(n, &components, &edges);
            let mut stage: HashMap<usize, usize> = HashMap::new();
            let mut place = vec![0usize; n];
            order.iter().enumerate().for_each(|(k, c)| place[*c] = k);
            let mut out: Vec<Vec<usize>> = vec![Vec::new(); n];
            for &(a, b) in edges.iter().filter(|(a, b)| components[*a] != components[*b]) {
                out[components[a]].push(components[b]);
            }
            let own: HashSet<usize> = groups.iter().map(|g| components[*g]).collect();
            for c in order {
                let s = stage.get(&c).copied().unwrap_or(0);
                let after = s + usize::from(own.contains(&c));
                for &next in &out[c] {
                    let e = stage.entry(next).or_insert(0);
                    *e = (*e).max(after);
                }
            }
            let mut first: HashMap<usize, usize> = HashMap::new();
            for g in groups {
                let c = components[g];
                let s = stage.get(&c).copied().unwrap_or(0);
                let with = *first.entry(s).or_insert(c);
                sets.join(with, c);
            }
            let merged = sets.components();
            let mut moved = vec![None; n];
            for (c, v) in chooses.iter().enumerate().filter_map(|(c, v)| v.map(|v| (c, v))) {
                moved[merged[c]] = Some(v);
            }
            (components, chooses) = (merged, moved);
        }
        let order = ordered(n, &components, &edges);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); n];
        (0..n).for_each(|i| members[components[i]].push(i));
        let chooses = order.iter().map(|&c| chooses[c]).collect();
        let order: Vec<Vec<usize>> = order.iter().map(|&c| std::mem::take(&mut members[c])).collect();
        if order.iter().map(Vec::len).sum::<usize>() != n {
            return Err(unsupported("branches that wait for each other"));
        }
        Ok(Groups { order, chooses })
    }

    /// Puts one node into a level.
    fn emit(&mut self, out: &mut Level, id: NodeId, path: &Path) -> Result<()> {
        let node = self.graph.node(id);
        let first = Value { node: id, port: 0 };
        if is_switch(&node.op) || out.aliases.contains_key(&first) {
            let taken = if self.selects(id) { self.selected(id, path)? } else { None };
            if let Some(k) = taken.filter(|_| self.indexed.contains(&id)) {
                let index = out.draft.push(scalar(&format!("{}/value_index", node.name), DataType::Int32, k as i32));
                out.values.insert(Value { node: id, port: 1 }, Value { node: index, port: 0 });
            }
            if self.awaited[id.index()] {
                let data = node.inputs.iter().enumerate().filter(|(k, _)| taken.is_none_or(|t| t == *k)).map(|(_, v)| v.node);
                let waits = out.waits(data.chain(node.controls.iter().copied()));
                out.done.insert(id, waits);
            }
            return Ok(());
        }
        let controls = out.waits(node.controls.iter().copied());
        let new = match node.op.as_str() {
            FETCH => made(&node.name, DEAD, [("T", Attr::Type(self.dtype(first)?.number()))], Vec::new(), controls),
            "ControlTrigger" => made(&node.name, "NoOp", [], Vec::new(), controls),
            _ => {
                let inputs = node.inputs.iter().map(|v| self.value(out, *v)).collect::<Result<_>>()?;
                Node { inputs, controls, ..node.clone() }
            }
        };
        let new = out.draft.push(new);
        // Outputs are numbered as before; unknown ops may have any.
        let ports = node.output_types(self.library.limits())?.map_or(1, |t| t.len());
        (0..ports.max(1) as u32).for_each(|port| {
            out.values.insert(Value { node: id, port }, Value { node: new, port });
        });
        out.done.insert(id, vec![new]);
        Ok(())
    }

    /// Puts a group into a level, as a node that chooses.
    fn emit_group(&mut self, out: &mut Level, var: Var, members: &[NodeId], exports: &[Value], path: &mut Path) -> Result<()> {
        let Some(predicate) = self.predicates.get(var as usize).cloned() else { return Err(unsupported("an unknown predicate")) };
        let mut named = members.iter().map(|&m| self.graph.node(m));
        let named =
            named.clone().find(|n| is_merge(&n.op)).or_else(|| named.clone().find(|n| n.op != FETCH)).or_else(|| named.next_back());
        let name = named.map(|n| n.name.clone()).unwrap_or_default();
        let mut branches: Vec<(Level, Vec<Value>)> = Vec::with_capacity(predicate.values as usize);
        for k in 0..predicate.values {
            let mut branch = Level { captures: Some(Captures::default()), ..Level::default() };
            path.push((var, k));
            self.level(&mut branch, members, exports, path)?;
            path.pop();
            let outputs = exports.iter().map(|v| self.value(&mut branch, *v)).collect::<Result<Vec<_>>>()?;
            branches.push((branch, outputs));
        }
        let waits = out.waits(members.iter().flat_map(|&m| self.graph.node(m).controls.iter().copied()));
        if exports.is_empty() && !branches.iter().any(|(b, _)| b.draft.has_effect()) {
            members.iter().for_each(|m| {
                out.done.insert(*m, waits.clone());
            });
            return Ok(());
        }
        // Arguments are what any branch needs.
        let mut captured: Vec<Value> = Vec::new();
        let mut seen: HashSet<Value> = HashSet::new();
        for (branch, outputs) in &branches {
            let values = branch.captures.as_ref().map_or(&[][..], |c| &c.values);
            let needed = branch.draft.needed_args(outputs).into_iter().filter_map(|k| values.get(k).copied());
            captured.extend(needed.filter(|v| seen.insert(*v)));
        }
        let kinds = captured.iter().map(|v| self.dtype(*v)).collect::<Result<Vec<_>>>()?;
        let given = exports.iter().map(|v| self.dtype(*v)).collect::<Result<Vec<_>>>()?;
        let stateful = branches.iter().any(|(b, _)| b.draft.is_stateful());
        let mut functions = Vec::with_capacity(branches.len());
        for (k, (mut branch, outputs)) in branches.into_iter().enumerate() {
            let mut args = Vec::with_capacity(captured.len());
            for (v, kind) in captured.iter().zip(&kinds) {
                let k = branch.captures.get_or_insert_default().add(*v);
                args.push((k, self.graph.node(v.node).name.clone(), *kind));
            }
            let outputs: Vec<_> = outputs.into_iter().zip(given.iter().copied()).collect();
            let role = match (predicate.is_index, k) {
                (true, k) => format!("{name}/branch_{k}"),
                (false, 0) => format!("{name}/else"),
                (false, _) => format!("{name}/then"),
            };
            let function = branch.draft.function(role, &outputs, &args, self.library)?;
            functions.push(self.library.add(function));
        }
        let condition = self.value(out, predicate.value)?;
        let mut inputs = vec![condition];
        for v in &captured {
            inputs.push(self.value(out, *v)?);
        }
        let node = match functions.as_slice() {
            [otherwise, then] if !predicate.is_index => {
                let op = if stateful { "If" } else { "StatelessIf" };
                let attrs = [
                    ("Tcond", Attr::Type(self.dtype(predicate.value)?.number())),
                    ("Tin", types(&kinds)),
                    ("Tout", types(&given)),
                    ("then_branch", function_attr(then.clone())),
                    ("else_branch", function_attr(otherwise.clone())),
                    ("_raised", Attr::B(true)),
                ];
                made(&name, op, attrs, inputs, waits)
            }
            _ => {
                let op = if stateful { "Case" } else { "StatelessCase" };
                let attrs = [
                    ("Tin", types(&kinds)),
                    ("Tout", types(&given)),
                    ("branches", function_list(functions)),
                    ("_raised", Attr::B(true)),
                ];
                made(&name, op, attrs, inputs, waits)
            }
        };
        let node = out.draft.push(node);
        for (port, v) in exports.iter().enumerate() {
            out.values.insert(*v, Value { node, port: port as u32 });
        }
        members.iter().for_each(|m| {
            out.done.insert(*m, vec![node]);
        });
        Ok(())
    }

    /// The value in the level; from outside of a branch it becomes an argument.
    fn value(&self, out: &mut Level, value: Value) -> Result<Value> {
        if let Some(v) = out.find(value) {
            return Ok(v);
        }
        let value = out.aliased(value);
        let node = self.graph.node(value.node);
        let Some(captures) = &mut out.captures else {
            return Err(unsupported("a value that no branch makes").at_node(&node.name));
        };
        let made = if is_copied(node) {
            let node = out.draft.push(Node { inputs: Vec::new(), controls: Vec::new(), ..node.clone() });
            Value { node, port: value.port }
        } else {
            let k = captures.add(value);
            out.draft.arg(k, &node.name, self.dtype(value)?)
        };
        out.values.insert(value, made);
        Ok(made)
    }

    fn dtype(&self, v: Value) -> Result<DataType> {
        let node = self.graph.node(v.node);
        if let (FETCH, Some(&from)) = (node.op.as_str(), node.inputs.first()) {
            return self.dtype(from);
        }
        let known = self.graph.value_type(v, self.library.limits())?;
        known.ok_or_else(|| unsupported("a value of unknown type in a branch").at_node(&node.name))
    }
}

/// Components one after another, producers first, otherwise in the order of their first items.
fn ordered(n: usize, components: &[usize], edges: &[(usize, usize)]) -> Vec<usize> {
    let mut first = vec![usize::MAX; n];
    for (i, &c) in components.iter().enumerate() {
        first[c] = first[c].min(i);
    }
    let mut waits = vec![0usize; n];
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (a, b) in edges.iter().map(|&(a, b)| (components[a], components[b])).filter(|(a, b)| a != b) {
        waits[b] += 1;
        out[a].push(b);
    }
    let mut ready: BinaryHeap<Reverse<(usize, usize)>> =
        (0..n).filter(|&c| first[c] < usize::MAX && waits[c] == 0).map(|c| Reverse((first[c], c))).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(Reverse((_, c))) = ready.pop() {
        order.push(c);
        for &next in &out[c] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(Reverse((first[next], next)));
            }
        }
    }
    order
}

/// Disjoint sets of numbers.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Sets {
        Sets((0..n).collect())
    }

    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }

    fn components(&mut self) -> Vec<usize> {
        (0..self.0.len()).map(|i| self.find(i)).collect()
    }
}

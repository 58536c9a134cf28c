//! Frames become `While` nodes, from the outermost inwards.
//!
//! A loop's variables are the `Merge` nodes of an `Enter` and a `NextIteration`; its condition is what `LoopCond` needs, and its body what
//! the `NextIteration` nodes need. What a body needs of the condition's part is computed again in it. In a body `LoopCond` is true, so
//! that the switches on it vanish with those of branches.

use super::body::{Captures, Draft, function_attr, is_copied, is_stateful, made, scalar, types};
use super::{frame_error, is_enter, is_exit, is_merge, is_next, is_switch, raised, source, unsupported};
use crate::dtype::DataType;
use crate::error::Result;
use crate::graph::{GraphInput, GraphOutput, Library, Node, NodeId, RawGraph, Value, finish};
use crate::proto::attr_value::Value as Attr;
use hashbrown::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};

/// Index of a frame; the first is the graph itself.
type FrameId = usize;

struct Frame {
    name: String,
    parent: FrameId,
    depth: usize,
}

struct Frames {
    frames: Vec<Frame>,
    /// The frame that the outputs of each node are in.
    of: Vec<FrameId>,
    /// The frame in which each node runs.
    runs: Vec<FrameId>,
}

pub fn raise(graph: RawGraph, library: &Library, depth: usize) -> Result<RawGraph> {
    let frames = Frames::of(&graph)?;
    if frames.frames.len() == 1 {
        if let Some((_, n)) = graph.nodes().find(|(_, n)| is_exit(&n.op) || is_next(&n.op)) {
            return Err(frame_error(format!("{} outside of a frame", n.op)).at_node(&n.name));
        }
        return Ok(graph);
    }
    Outer { graph: &graph, frames: &frames, library, depth }.build()
}

impl Frames {
    fn of(graph: &RawGraph) -> Result<Frames> {
        let root = Frame { name: String::new(), parent: 0, depth: 0 };
        let mut all = Frames { frames: vec![root], of: vec![0; graph.len()], runs: vec![0; graph.len()] };
        let mut index: HashMap<(FrameId, Vec<u8>), FrameId> = HashMap::new();
        for &id in graph.topological_order() {
            let node = graph.node(id);
            let runs = all.of_inputs(graph, node)?;
            all.runs[id.index()] = runs;
            all.of[id.index()] = if is_enter(&node.op) {
                let name = node.attr_bytes("frame_name")?;
                let depth = all.frames[runs].depth + 1;
                let next = all.frames.len();
                let frame = *index.entry((runs, name.to_vec())).or_insert(next);
                if frame == next {
                    let name = String::from_utf8_lossy(name).into_owned();
                    all.frames.push(Frame { name, parent: runs, depth });
                }
                frame
            } else if is_exit(&node.op) {
                if runs == 0 {
                    return Err(frame_error("an Exit outside of a frame").at_node(&node.name));
                }
                all.frames[runs].parent
            } else {
                runs
            };
        }
        Ok(all)
    }

    /// The frame of what a node reads; edges that close a loop do not count.
    fn of_inputs(&self, graph: &RawGraph, node: &Node) -> Result<FrameId> {
        let open = |id: &NodeId| !is_next(&graph.node(*id).op);
        let mut data = node.inputs.iter().map(|v| v.node).filter(open).map(|p| self.of[p.index()]);
        let first = data.next();
        if let Some(first) = first {
            if let Some(other) = data.find(|f| *f != first) {
                let name = |f: FrameId| self.frames[f].name.clone();
                let detail = format!("it has inputs from different frames: \"{}\" and \"{}\"", name(first), name(other));
                return Err(frame_error(detail).at_node(&node.name));
            }
            return Ok(first);
        }
        // Of nodes that it only waits for, those further inside count as their loops.
        let mut frame = None;
        for c in node.controls.iter().filter(|c| open(c)).map(|c| self.of[c.index()]) {
            frame = Some(match frame {
                None => c,
                Some(f) if self.is_inside(c, f) => f,
                Some(f) if self.is_inside(f, c) => c,
                Some(_) => return Err(frame_error("it waits for nodes of different frames").at_node(&node.name)),
            });
        }
        Ok(frame.unwrap_or(0))
    }

    fn is_inside(&self, mut inner: FrameId, outer: FrameId) -> bool {
        while self.frames[inner].depth > self.frames[outer].depth {
            inner = self.frames[inner].parent;
        }
        inner == outer
    }

    /// The frame right inside of the graph that a frame is in; the graph itself for itself.
    fn outermost(&self, mut frame: FrameId) -> FrameId {
        while self.frames[frame].depth > 1 {
            frame = self.frames[frame].parent;
        }
        frame
    }
}

/// A graph whose outermost frames are made loops.
struct Outer<'a> {
    graph: &'a RawGraph,
    frames: &'a Frames,
    library: &'a Library,
    depth: usize,
}

/// The nodes of one frame, by what they do.
struct Loop {
    frame: FrameId,
    /// Nodes inside, those of frames further inside too.
    members: Vec<NodeId>,
    condition: Option<NodeId>,
    /// `Merge` nodes with what enters and what the next round gets.
    variables: Vec<(NodeId, Value, Value)>,
    /// Which nodes, of the whole graph, run only if another round does.
    in_body: Vec<bool>,
}

/// A `While` node in the making.
struct Made {
    node: Node,
    /// Outer values it takes, before they are numbered anew.
    inputs: Vec<Value>,
    controls: Vec<NodeId>,
}

/// Where something of the old graph is in the new one.
#[derive(Clone, Copy)]
enum Place {
    Node(NodeId),
    /// Inside of the loop with that number.
    Loop(usize),
}

impl Outer<'_> {
    fn build(&self) -> Result<RawGraph> {
        let graph = self.graph;
        let tops: Vec<FrameId> = (1..self.frames.frames.len()).filter(|&f| self.frames.frames[f].parent == 0).collect();
        let mut loops: Vec<Option<(Loop, Made)>> = Vec::new();
        let mut number: HashMap<FrameId, usize> = HashMap::new();
        for &frame in &tops {
            number.insert(frame, loops.len());
            let l = self.collect(frame)?;
            loops.push(match l.condition {
                Some(_) => Some(self.make(&l).map(|m| (l, m)).map_err(|e| e.at_node(&self.frames.frames[frame].name))?),
                None if l.variables.is_empty() => None,
                None => {
                    let e = unsupported("a loop without a condition");
                    return Err(e.at_node(&self.frames.frames[frame].name));
                }
            });
        }
        // A frame without a loop is dissolved: its nodes stay, Enter and Exit become identities.
        let mut places: Vec<Place> = Vec::with_capacity(graph.len());
        let mut draft = Draft::default();
        let mut from: Vec<Option<NodeId>> = Vec::new();
        for (id, node) in graph.nodes() {
            let frame = self.frames.outermost(self.frames.of[id.index()]);
            let inside = number.get(&frame).filter(|&&k| loops[k].is_some());
            if let Some(&k) = inside {
                places.push(Place::Loop(k));
                continue;
            }
            places.push(Place::Node(draft.push(node.clone())));
            from.push(Some(id));
        }
        let mut while_nodes: Vec<Option<NodeId>> = Vec::with_capacity(loops.len());
        for l in &loops {
            while_nodes.push(l.as_ref().map(|(_, m)| {
                from.push(None);
                draft.push(m.node.clone())
            }));
        }
        let at = |id: NodeId| -> Result<NodeId> {
            match places[id.index()] {
                Place::Node(n) => Ok(n),
                Place::Loop(k) => while_nodes[k].ok_or_else(|| unsupported("a node inside of a loop")),
            }
        };
        let outside = |v: Value| -> Result<Value> {
            match places[v.node.index()] {
                Place::Node(node) => Ok(Value { node, port: v.port }),
                Place::Loop(_) => {
                    let name = &graph.node(v.node).name;
                    Err(frame_error("its value is inside of a loop and cannot be read from outside").at_node(name))
                }
            }
        };
        let mut nodes = std::mem::take(&mut draft.nodes);
        for (new, old) in nodes.iter_mut().zip(&from) {
            let Some(old) = old else { continue };
            let node = graph.node(*old);
            let runs = self.frames.runs[old.index()];
            let k = number.get(&self.frames.outermost(runs)).copied().filter(|_| is_exit(&node.op));
            new.controls = node.controls.iter().map(|c| at(*c)).collect::<Result<_>>()?;
            match k.and_then(|k| Some((k, loops[k].as_ref()?))) {
                Some((k, (l, _))) => {
                    new.inputs = vec![match self.exit(l, node).map_err(|e| e.at_node(&node.name))? {
                        Left::Variable(i) => Value { node: while_nodes[k].unwrap_or_default(), port: i as u32 },
                        Left::Outside(v) => outside(v)?,
                    }];
                    identity(new);
                }
                None => {
                    new.inputs = node.inputs.iter().map(|v| outside(*v)).collect::<Result<_>>()?;
                    let (into, out_of) = (self.frames.of[old.index()], runs);
                    if is_enter(&node.op) && self.frames.frames[into].depth == 1
                        || is_exit(&node.op) && self.frames.frames[out_of].depth == 1
                    {
                        identity(new);
                    }
                }
            }
        }
        for (l, id) in loops.iter().zip(&while_nodes) {
            let (Some((_, made)), Some(id)) = (l, id) else { continue };
            let node = &mut nodes[id.index()];
            node.inputs = made.inputs.iter().map(|v| outside(*v)).collect::<Result<_>>()?;
            node.controls =
                made.controls.iter().map(|c| at(*c)).filter(|c| !matches!(c, Ok(c) if c == id)).collect::<Result<_>>()?;
            node.controls.sort_unstable();
            node.controls.dedup();
        }
        let mut out = finish(graph.name.clone(), nodes, self.library.limits())?;
        let input = |i: &GraphInput| Ok(GraphInput { node: at(i.node)?, ..i.clone() });
        out.inputs = graph.inputs.iter().map(input).collect::<Result<_>>()?;
        let output = |o: &GraphOutput| Ok(GraphOutput { value: outside(o.value)?, ..o.clone() });
        out.outputs = graph.outputs.iter().map(output).collect::<Result<_>>()?;
        out.targets = graph.targets.iter().map(|t| at(*t)).collect::<Result<_>>()?;
        out.targets.sort_unstable();
        out.targets.dedup();
        Ok(out)
    }

    fn collect(&self, frame: FrameId) -> Result<Loop> {
        let graph = self.graph;
        let is_member = |id: NodeId| self.frames.outermost(self.frames.of[id.index()]) == frame;
        let members: Vec<NodeId> = graph.topological_order().iter().copied().filter(|&id| is_member(id)).collect();
        let mut l = Loop { frame, members, condition: None, variables: Vec::new(), in_body: vec![false; graph.len()] };
        for &id in &l.members {
            let node = graph.node(id);
            if self.frames.of[id.index()] != frame || is_enter(&node.op) || is_exit(&node.op) {
                continue;
            }
            if node.op == "LoopCond" && l.condition.replace(id).is_some() {
                return Err(unsupported("a loop with two conditions").at_node(&node.name));
            }
            if is_merge(&node.op) && node.inputs.iter().any(|v| is_next(&graph.node(v.node).op)) {
                let next = |v: &&Value| is_next(&graph.node(v.node).op);
                let (Some(&enter), Some(&again), 2) =
                    (node.inputs.iter().find(|v| !next(v)), node.inputs.iter().find(next), node.inputs.len())
                else {
                    return Err(unsupported("a loop variable that is not made of one start and one next value").at_node(&node.name));
                };
                let (enter, again) = (source(graph, enter), graph.node(again.node).input(0)?);
                let start = graph.node(enter.node);
                if !is_enter(&start.op) || self.frames.of[enter.node.index()] != frame {
                    return Err(unsupported("a loop variable that does not start outside of the loop").at_node(&node.name));
                }
                l.variables.push((id, start.input(0)?, again));
            }
        }
        let Some(condition) = l.condition else { return Ok(l) };
        let mut gates = vec![false; graph.len()];
        for &id in &l.members {
            let node = graph.node(id);
            let on = |v: &Value| source(graph, *v).node == condition;
            gates[id.index()] = is_switch(&node.op) && node.inputs.get(1).is_some_and(on);
            let before = node.inputs.iter().map(|v| v.node).chain(node.controls.iter().copied());
            let mut before = before.filter(|p| !is_next(&graph.node(*p).op));
            l.in_body[id.index()] = before.any(|p| gates[p.index()] || l.in_body[p.index()]);
        }
        Ok(l)
    }

    /// What leaves a loop by an Exit.
    fn exit(&self, l: &Loop, exit: &Node) -> Result<Left> {
        let graph = self.graph;
        let gate = exit.input(0)?;
        let switch = graph.node(gate.node);
        let on_condition = || switch.inputs.get(1).is_some_and(|v| Some(source(graph, *v).node) == l.condition);
        let value = if is_switch(&switch.op) && gate.port == 0 && on_condition() { switch.input(0)? } else { gate };
        let value = source(graph, value);
        if let Some(i) = l.variables.iter().position(|(m, ..)| *m == value.node && value.port == 0 && value != gate) {
            return Ok(Left::Variable(i));
        }
        let node = graph.node(value.node);
        if is_enter(&node.op) && self.frames.of[value.node.index()] == l.frame {
            return Ok(Left::Outside(node.input(0)?));
        }
        Err(unsupported("an Exit of a value that is no variable of the loop"))
    }

    fn make(&self, l: &Loop) -> Result<Made> {
        let graph = self.graph;
        let limits = self.library.limits();
        let frame = &self.frames.frames[l.frame];
        let dtype = |v: Value| {
            let unknown = || unsupported("a value of unknown type in a loop").at_node(&graph.node(v.node).name);
            graph.value_type(v, limits)?.ok_or_else(unknown)
        };
        let condition = l.condition.ok_or_else(|| unsupported("a loop without a condition"))?;
        let mut captures = Captures::default();
        let mut test = Part::new(self, l, &mut captures, false);
        let verdict = test.build(&[graph.node(condition).input(0)?])?;
        let test = test.draft;
        let mut round = Part::new(self, l, &mut captures, true);
        let nexts = round.build(&l.variables.iter().map(|(_, _, next)| *next).collect::<Vec<_>>())?;
        let mut body = round.draft;

        let mut args: Vec<(usize, String, DataType)> = Vec::new();
        for (i, (merge, ..)) in l.variables.iter().enumerate() {
            let node = graph.node(*merge);
            args.push((i, node.name.clone(), dtype(Value { node: *merge, port: 0 })?));
        }
        for (i, v) in captures.values.iter().enumerate() {
            args.push((l.variables.len() + i, graph.node(v.node).name.clone(), dtype(*v)?));
        }
        let mut outputs: Vec<(Value, DataType)> = nexts.into_iter().zip(args.iter().map(|a| a.2)).collect();
        for (k, name, dtype) in &args[l.variables.len()..] {
            outputs.push((body.arg(*k, name, *dtype), *dtype));
        }
        let verdict: Vec<(Value, DataType)> = verdict.into_iter().map(|v| (v, DataType::Bool)).collect();
        let test = test.function(format!("{}/cond", frame.name), &verdict, &args, self.library)?;
        let body = body.function(format!("{}/body", frame.name), &outputs, &args, self.library)?;
        let (test, body) = (raised(test, self.library, self.depth + 1)?, raised(body, self.library, self.depth + 1)?);
        let stateful = is_stateful(test.nodes().chain(body.nodes()).map(|(_, n)| n));
        let op = if stateful { "While" } else { "StatelessWhile" };
        let kinds: Vec<DataType> = args.iter().map(|a| a.2).collect();
        let attrs = [
            ("T", types(&kinds)),
            ("cond", function_attr(self.library.add(test))),
            ("body", function_attr(self.library.add(body))),
            ("_raised", Attr::B(true)),
        ];
        let node = made(&frame.name, op, attrs, Vec::new(), Vec::new());
        let inputs = l.variables.iter().map(|(_, start, _)| *start).chain(captures.values).collect();
        let is_outside = |c: &NodeId| self.frames.outermost(self.frames.of[c.index()]) != l.frame;
        let controls: BTreeSet<NodeId> =
            l.members.iter().flat_map(|m| &graph.node(*m).controls).copied().filter(is_outside).collect();
        Ok(Made { node, inputs, controls: controls.into_iter().collect() })
    }
}

/// What leaves a loop.
enum Left {
    Variable(usize),
    Outside(Value),
}

fn identity(node: &mut Node) {
    let t = node.attr("T").cloned();
    let attrs = t.map(|t| [("T", t)]);
    let new = match attrs {
        Some(attrs) => made(&node.name, "Identity", attrs, Vec::new(), Vec::new()),
        None => made(&node.name, "Identity", [], Vec::new(), Vec::new()),
    };
    (node.op, node.attrs, node.def) = (new.op, new.attrs, new.def);
}

/// The condition or the body of a loop in the making.
struct Part<'a> {
    outer: &'a Outer<'a>,
    l: &'a Loop,
    captures: &'a mut Captures,
    draft: Draft,
    is_body: bool,
    variables: BTreeMap<NodeId, usize>,
    /// Where nodes of the graph have been copied to.
    copies: HashMap<NodeId, NodeId>,
    stack: Vec<NodeId>,
}

/// What stands for a value in a part.
enum Stands {
    Variable(usize),
    Captured(Value),
    Copy,
}

impl<'a> Part<'a> {
    fn new(outer: &'a Outer<'a>, l: &'a Loop, captures: &'a mut Captures, is_body: bool) -> Part<'a> {
        let variables = l.variables.iter().enumerate().map(|(i, (m, ..))| (*m, i)).collect();
        let (draft, copies, stack) = (Draft::default(), HashMap::new(), Vec::new());
        Part { outer, l, captures, draft, is_body, variables, copies, stack }
    }

    /// Copies what the values and the effects of this part need; the values in the copy.
    fn build(&mut self, roots: &[Value]) -> Result<Vec<Value>> {
        let graph = self.outer.graph;
        for &id in &self.l.members {
            if self.is_copied(id) && graph.node(id).has_effect() && self.l.in_body[id.index()] == self.is_body {
                self.copy(id);
            }
        }
        let mut wired: HashSet<NodeId> = HashSet::new();
        let mut outputs = Vec::with_capacity(roots.len());
        for &root in roots {
            outputs.push(self.value(root)?);
        }
        while let Some(id) = self.stack.pop() {
            if !wired.insert(id) {
                continue;
            }
            let node = graph.node(id);
            let again = self.is_body && node.has_effect() && !self.l.in_body[id.index()];
            if again {
                return Err(unsupported("a loop whose body needs what has an effect in its condition").at_node(&node.name));
            }
            let inputs = node.inputs.iter().map(|v| self.value(*v)).collect::<Result<Vec<_>>>()?;
            let mut controls = Vec::new();
            for &c in &node.controls {
                let skipped = self.is_body && !self.l.in_body[c.index()];
                if self.is_copied(c) && !skipped {
                    controls.push(self.copy(c));
                }
            }
            let Some(&new) = self.copies.get(&id) else { continue };
            if let Some(n) = self.draft.nodes.get_mut(new.index()) {
                (n.inputs, n.controls) = (inputs, controls);
            }
        }
        Ok(outputs)
    }

    /// Whether a node of the graph can be a node of this part.
    fn is_copied(&self, id: NodeId) -> bool {
        let node = self.outer.graph.node(id);
        let frames = self.outer.frames;
        let inside = frames.outermost(frames.of[id.index()]) == self.l.frame;
        let own = frames.of[id.index()] == self.l.frame;
        inside && !(own && (is_enter(&node.op) || is_next(&node.op))) && !self.variables.contains_key(&id) && node.op != "LoopCond"
            || inside && node.op == "LoopCond" && self.l.condition != Some(id)
    }

    fn copy(&mut self, id: NodeId) -> NodeId {
        if let Some(&new) = self.copies.get(&id) {
            return new;
        }
        let new = self.draft.push(Node { inputs: Vec::new(), controls: Vec::new(), ..self.outer.graph.node(id).clone() });
        self.copies.insert(id, new);
        self.stack.push(id);
        new
    }

    fn stands(&self, value: Value) -> Result<Stands> {
        let graph = self.outer.graph;
        let node = graph.node(value.node);
        if let Some(&i) = self.variables.get(&value.node) {
            return match value.port {
                0 => Ok(Stands::Variable(i)),
                _ => Err(unsupported("the index output of a loop variable's Merge").at_node(&node.name)),
            };
        }
        let own = self.outer.frames.of[value.node.index()] == self.l.frame;
        if own && is_enter(&node.op) {
            if !node.attr_bool("is_constant")? {
                return Err(unsupported("a value that enters a loop for its first round only").at_node(&node.name));
            }
            return Ok(Stands::Captured(node.input(0)?));
        }
        if own && is_next(&node.op) {
            return Err(unsupported("a NextIteration that leads to no loop variable").at_node(&node.name));
        }
        Ok(if self.outer.frames.outermost(self.outer.frames.of[value.node.index()]) == self.l.frame {
            Stands::Copy
        } else {
            Stands::Captured(value)
        })
    }

    fn value(&mut self, value: Value) -> Result<Value> {
        let graph = self.outer.graph;
        let limits = self.outer.library.limits();
        if Some(value.node) == self.l.condition {
            if !self.is_body {
                return self.value(graph.node(value.node).input(0)?);
            }
            let node = *self.copies.entry(value.node).or_insert_with(|| {
                let name = &graph.node(value.node).name;
                self.draft.push(scalar(name, DataType::Bool, 1))
            });
            return Ok(Value { node, port: 0 });
        }
        match self.stands(value)? {
            Stands::Variable(k) => {
                let name = &graph.node(value.node).name;
                let dtype = graph.value_type(value, limits)?.ok_or_else(|| unsupported("a loop variable of unknown type"))?;
                Ok(self.draft.arg(k, name, dtype))
            }
            Stands::Captured(outer) => {
                let node = graph.node(outer.node);
                if is_copied(node) {
                    let node = *self
                        .copies
                        .entry(outer.node)
                        .or_insert_with(|| self.draft.push(Node { inputs: Vec::new(), controls: Vec::new(), ..node.clone() }));
                    return Ok(Value { node, port: outer.port });
                }
                let dtype = graph.value_type(outer, limits)?;
                let dtype = dtype.ok_or_else(|| unsupported("a value of unknown type in a loop").at_node(&node.name))?;
                let k = self.l.variables.len() + self.captures.add(outer);
                Ok(self.draft.arg(k, &node.name, dtype))
            }
            Stands::Copy => Ok(Value { node: self.copy(value.node), port: value.port }),
        }
    }
}

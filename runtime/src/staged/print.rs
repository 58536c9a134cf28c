//! Placements and partitions as text.

use super::partition::{Kind, Partition, Piece};
use super::transfer::Transfer;
use super::{Choices, Staged, locked, prepared};
use crate::error::Result;
use crate::shared::Shared;
use graphc_frontend::{NodeId, RawGraph, Value as Port};
use std::fmt::Write as _;

/// What of a graph is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Each node with its device, and why it is there.
    Placement,
    /// What runs, in order, and what it takes and gives.
    Partition,
}

/// A graph that was not cut yet, as text.
///
/// # Errors
/// If a node asks for a device where it cannot be.
pub fn graph(shared: &Shared, graph: &RawGraph, view: View) -> Result<String> {
    let (graph, state) = prepared(shared, graph)?;
    let choices = Choices::default();
    let partition = Partition::new(shared.model()?, &graph, &choices, &state, &shared.policy, false)?;
    Ok(text(&graph, &partition, &choices, view))
}

impl Staged {
    /// The graph as it is cut by now, as text.
    ///
    /// # Errors
    /// As [`graph`].
    pub fn text(&self, view: View) -> Result<String> {
        let choices = locked(&self.plan).choices.clone();
        let (model, nested) = (self.shared.model()?, !self.scope.is_empty());
        let partition = Partition::new(model, &self.graph, &choices, &self.state, &self.shared.policy, nested)?;
        Ok(text(&self.graph, &partition, &choices, view))
    }
}

fn text(graph: &RawGraph, partition: &Partition, choices: &Choices, view: View) -> String {
    match view {
        View::Placement => placement(graph, partition),
        View::Partition => {
            let pieces = partition.pieces(&partition.nodes(), choices);
            pieces.iter().map(|p| piece(graph, p)).collect()
        }
    }
}

fn placement(graph: &RawGraph, partition: &Partition) -> String {
    let mut out = String::new();
    for id in partition.nodes() {
        let (node, place) = (graph.node(id), partition.placement());
        if matches!(partition.kind(id), Kind::Compiled | Kind::Single) {
            let reason = place.reason(id).to_string();
            let reason = if reason.is_empty() { String::new() } else { format!("  ; {reason}") };
            // Writing to memory does not fail.
            let _ = writeln!(out, "{} {} {:?}{reason}", place.device(id).short(), node.op, node.name);
        }
    }
    out
}

fn piece(graph: &RawGraph, piece: &Piece) -> String {
    let name = |id: &NodeId| &graph.node(*id).name;
    let way = |t: &Transfer| {
        let narrow = if t.narrow { " as bf16" } else { "" };
        format!("{} {} -> {}{narrow}", graph.value_name(t.value), t.from.short(), t.to.short())
    };
    let values = |what: &str, values: &[Port]| {
        let names: Vec<String> = values.iter().map(|&v| graph.value_name(v)).collect();
        if names.is_empty() { String::new() } else { format!("  {what} {}\n", names.join(", ")) }
    };
    match piece {
        Piece::Single(id) => format!("CPU:0 {} {:?}\n", graph.node(*id).op, name(id)),
        Piece::Send(t) => format!("send {}\n", way(t)),
        Piece::Recv(t) => format!("recv {}\n", way(t)),
        Piece::Segment(cut, device) => {
            let nodes: Vec<&str> = cut.nodes.iter().map(|id| name(id).as_str()).collect();
            let (given, wanted) = (values("takes", &cut.given), values("gives", &cut.wanted));
            format!("{} segment of {}\n{given}{wanted}", device.short(), nodes.join(", "))
        }
    }
}

//! Values that cross from one device to another: each is sent once to each device that reads it.
//!
//! A send follows what makes the value, a receive precedes the first step that reads it; what is between them runs meanwhile.

use super::partition::Piece;
use crate::device::DeviceName;
use graphc_frontend::{NodeId, RawGraph, Value as Port};
use hashbrown::{HashMap, HashSet};

/// A value on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    pub value: Port,
    pub from: DeviceName,
    pub to: DeviceName,
}

/// Puts sends and receives between pieces. `home` is the device on which a value is made, if it is a tensor that has one. What no piece
/// makes is there at the start; outputs end on the CPU.
pub fn insert(pieces: Vec<Piece>, graph: &RawGraph, home: &dyn Fn(Port) -> Option<DeviceName>) -> Vec<Piece> {
    let mut maker: HashMap<NodeId, usize> = HashMap::new();
    for (k, p) in pieces.iter().enumerate() {
        match p {
            Piece::Segment(cut, _) => maker.extend(cut.wanted.iter().map(|v| (v.node, k))),
            Piece::Single(id) => {
                maker.insert(*id, k);
            }
            Piece::Send(_) | Piece::Recv(_) => {}
        }
    }
    let count = pieces.len();
    let (mut sends, mut receives): (Vec<Vec<Transfer>>, Vec<Vec<Transfer>>) =
        (vec![Vec::new(); count + 1], vec![Vec::new(); count + 1]);
    let mut sent: HashSet<(Port, DeviceName)> = HashSet::new();
    let mut read = |v: Port, to: DeviceName, by: usize| {
        let Some(from) = home(v).filter(|d| *d != to) else { return };
        if sent.insert((v, to)) {
            let transfer = Transfer { value: v, from, to };
            // Behind its maker; of what was there before, in front of all.
            sends[maker.get(&v.node).map_or(0, |k| k + 1)].push(transfer);
            receives[by].push(transfer);
        }
    };
    for (k, p) in pieces.iter().enumerate() {
        match p {
            Piece::Segment(cut, device) => cut.given.iter().for_each(|&v| read(v, *device, k)),
            Piece::Single(id) => graph.node(*id).inputs.iter().for_each(|&v| read(v, DeviceName::Cpu, k)),
            Piece::Send(_) | Piece::Recv(_) => {}
        }
    }
    // What is left of an output that was made before these pieces has arrived with it.
    let outputs = graph.outputs.iter().map(|o| o.value).filter(|v| maker.contains_key(&v.node));
    outputs.for_each(|v| read(v, DeviceName::Cpu, count));
    let mut all = Vec::with_capacity(count);
    for (k, piece) in pieces.into_iter().map(Some).chain([None]).enumerate() {
        all.extend(sends[k].drain(..).map(Piece::Send));
        all.extend(receives[k].drain(..).map(Piece::Recv));
        all.extend(piece);
    }
    all
}

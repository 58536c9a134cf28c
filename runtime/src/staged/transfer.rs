//! Values that cross from one device to another: each is sent once to each device that reads it.
//!
//! A send follows what makes the value, a receive precedes the first step that reads it; what is between them runs meanwhile.

use super::partition::Piece;
use crate::device::DeviceName;
use graphc_frontend::{Cut, NodeId, RawGraph, Value as Port};
use graphc_ir::Tensor;
use half::bf16;
use hashbrown::{HashMap, HashSet};

/// A value on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    pub value: Port,
    pub from: DeviceName,
    pub to: DeviceName,
    /// Whether it goes as bf16.
    pub narrow: bool,
    /// Whether more than one part reads it where it goes.
    pub shared: bool,
}

/// What is known of the values of a graph.
pub struct Values<'a> {
    /// The device on which a value is made, if it is a tensor that has one.
    pub home: &'a dyn Fn(Port) -> Option<DeviceName>,
    /// Whether a value goes as bf16 where nothing on its own device needs it as it is.
    pub lossy: &'a dyn Fn(Port) -> bool,
    /// Whether outputs stay where they are: whoever called the graph reads them there.
    pub nested: bool,
}

/// Puts sends and receives between pieces. What no piece makes is there at the start; outputs end on the CPU, unless the graph is nested.
pub fn insert(mut pieces: Vec<Piece>, graph: &RawGraph, values: &Values) -> Vec<Piece> {
    let home = values.home;
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
    // Values of GPUs that a later segment on the same one reads.
    let stay: HashSet<Port> =
        segments(&pieces).flat_map(|(cut, d)| cut.given.iter().copied().filter(move |v| home(*v) == Some(d))).collect();
    let mut readers: HashMap<(Port, DeviceName), usize> = HashMap::new();
    for (cut, d) in segments(&pieces) {
        cut.given.iter().for_each(|&v| *readers.entry((v, d)).or_default() += 1);
    }
    let mut read = |v: Port, to: DeviceName, by: usize| {
        let Some(from) = home(v).filter(|d| *d != to) else { return };
        if sent.insert((v, to)) {
            let narrow = (values.lossy)(v) && !stay.contains(&v);
            let shared = readers.get(&(v, to)).is_some_and(|&n| n > 1);
            let transfer = Transfer { value: v, from, to, narrow, shared };
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
    outputs.filter(|_| !values.nested).for_each(|v| read(v, DeviceName::Cpu, count));
    let crossing = sends.iter().flatten().filter(|t| t.narrow).copied().collect::<Vec<Transfer>>();
    for p in &mut pieces {
        if let Piece::Segment(cut, device) = p
            && *device != DeviceName::Cpu
        {
            let here = |t: &&Transfer| {
                t.to == *device && cut.given.contains(&t.value) || t.from == *device && cut.wanted.contains(&t.value)
            };
            cut.narrow = crossing.iter().filter(here).map(|t| t.value).collect();
        }
    }
    let mut all = Vec::with_capacity(count);
    for (k, piece) in pieces.into_iter().map(Some).chain([None]).enumerate() {
        all.extend(sends[k].drain(..).map(Piece::Send));
        all.extend(receives[k].drain(..).map(Piece::Recv));
        all.extend(piece);
    }
    all
}

fn segments(pieces: &[Piece]) -> impl Iterator<Item = (&Cut, DeviceName)> {
    pieces.iter().filter_map(|p| if let Piece::Segment(cut, d) = p { Some((cut, *d)) } else { None })
}

/// Values that parts on GPUs make and parts on GPUs read: they stay there. Of a nested graph outputs do, too.
pub fn staying(pieces: &[Piece], graph: &RawGraph, nested: bool) -> HashSet<Port> {
    let on_gpus = || segments(pieces).filter(|(_, d)| *d != DeviceName::Cpu).map(|(cut, _)| cut);
    let made: HashSet<Port> = on_gpus().flat_map(|cut| cut.wanted.iter().copied()).collect();
    let outputs = graph.outputs.iter().map(|o| o.value).filter(|_| nested);
    on_gpus().flat_map(|cut| cut.given.iter().copied()).chain(outputs).filter(|v| made.contains(v)).collect()
}

/// A tensor of f32 as bf16, rounded to nearest; `None` of another type.
pub fn narrowed(t: &Tensor) -> Option<Tensor> {
    let wide = t.as_slice::<f32>()?;
    Tensor::from_slice(t.shape(), &wide.iter().map(|&v| bf16::from_f32(v)).collect::<Vec<_>>())
}

/// A tensor of bf16 as f32; `None` of another type.
pub fn widened(t: &Tensor) -> Option<Tensor> {
    let narrow = t.as_slice::<bf16>()?;
    Tensor::from_slice(t.shape(), &narrow.iter().map(|v| v.to_f32()).collect::<Vec<_>>())
}

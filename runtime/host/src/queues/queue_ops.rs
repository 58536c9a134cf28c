//! The ops on queues.

use super::queue::{Config, Order, Queue};
use crate::attrs::PartialShape;
use crate::call::Call;
use crate::error::invalid;
use crate::value::{Resource, Value};
use crate::{Result, Table, shapes, values};
use graphc_ir::Elem;
use std::sync::Arc;

pub(crate) const TABLE: Table = &[
    ("FIFOQueueV2", fifo),
    ("FIFOQueue", fifo),
    ("PaddingFIFOQueueV2", padding),
    ("PaddingFIFOQueue", padding),
    ("RandomShuffleQueueV2", shuffle),
    ("RandomShuffleQueue", shuffle),
    ("PriorityQueueV2", priority),
    ("PriorityQueue", priority),
    ("QueueEnqueueV2", enqueue),
    ("QueueEnqueue", enqueue),
    ("QueueEnqueueManyV2", enqueue_many),
    ("QueueEnqueueMany", enqueue_many),
    ("QueueDequeueV2", dequeue),
    ("QueueDequeue", dequeue),
    ("QueueDequeueManyV2", dequeue_many),
    ("QueueDequeueMany", dequeue_many),
    ("QueueDequeueUpToV2", dequeue_up_to),
    ("QueueDequeueUpTo", dequeue_up_to),
    ("QueueSizeV2", size),
    ("QueueSize", size),
    ("QueueCloseV2", close),
    ("QueueClose", close),
    ("QueueIsClosedV2", is_closed),
    ("QueueIsClosed", is_closed),
];

/// The queue that this node makes or shares.
fn queue(call: &Call, order: Order) -> Result {
    let mut types = call.attrs.elems("component_types")?;
    let mut shapes: Vec<PartialShape> = call.attrs.shapes("shapes").unwrap_or_default();
    if order == Order::Least {
        types.insert(0, Elem::I64);
        shapes.insert(0, shapes::known(&[]));
    }
    if !shapes.is_empty() && shapes.len() != types.len() || order == Order::Padded && shapes.is_empty() {
        return Err(invalid(format!("{} shapes for {} components", shapes.len(), types.len())));
    }
    if order != Order::Padded && shapes.iter().any(|s| shapes::full(s).is_none()) {
        return Err(invalid("the shapes of this queue's components must be fully defined"));
    }
    let number = |name: &str| call.attrs.int(name).unwrap_or(0);
    let capacity = usize::try_from(call.attrs.int("capacity").unwrap_or(-1)).ok();
    let config = Config { order, types, shapes, capacity, seeds: (number("seed"), number("seed2")) };
    let made = call.shared("queue", || Ok(Queue::new(call.node, config.clone())))?;
    let shared: Option<Arc<Queue>> = if let Value::Resource(r) = &made { r.downcast() } else { None };
    match shared {
        Some(q) if q.config != config => {
            Err(invalid(format!("shared queue {:?} is {:?}, and node {:?} asks for {config:?}", q.name, q.config, call.node)))
        }
        _ => Ok(vec![made]),
    }
}

fn fifo(call: &Call) -> Result {
    queue(call, Order::First)
}

fn padding(call: &Call) -> Result {
    queue(call, Order::Padded)
}

fn shuffle(call: &Call) -> Result {
    let kept = call.attrs.int("min_after_dequeue").unwrap_or(0);
    let capacity = call.attrs.int("capacity").unwrap_or(-1);
    let kept = usize::try_from(kept).map_err(|_| invalid(format!("min_after_dequeue {kept} must be >= 0")))?;
    if usize::try_from(capacity).is_ok_and(|c| kept >= c) {
        return Err(invalid(format!("min_after_dequeue {kept} must be < capacity {capacity}")));
    }
    queue(call, Order::Shuffled(kept))
}

fn priority(call: &Call) -> Result {
    queue(call, Order::Least)
}

fn operand(call: &Call) -> Result<Arc<Queue>> {
    match call.resource(0)? {
        Resource::Object { .. } => call.object(0),
        r => Err(invalid(format!("{:?} is no queue", r.name()))),
    }
}

/// There are no timeouts but the run's own.
fn without_timeout(call: &Call) -> Result<()> {
    match call.attrs.int("timeout_ms").unwrap_or(-1) {
        -1 => Ok(()),
        _ => Err(invalid("timeout not supported yet")),
    }
}

fn enqueue(call: &Call) -> Result {
    without_timeout(call)?;
    operand(call)?.enqueue(call.inputs.get(1..).unwrap_or_default().to_vec(), call.step)?;
    Ok(Vec::new())
}

fn enqueue_many(call: &Call) -> Result {
    without_timeout(call)?;
    operand(call)?.enqueue_many(call.inputs.get(1..).unwrap_or_default(), call.step)?;
    Ok(Vec::new())
}

/// The queue, of the components that the node names.
fn source(call: &Call) -> Result<Arc<Queue>> {
    without_timeout(call)?;
    let q = operand(call)?;
    let types = call.attrs.elems("component_types")?;
    if types != q.config.types {
        return Err(invalid(format!("queue {:?} has components {:?}, not {types:?}", q.name, q.config.types)));
    }
    Ok(q)
}

fn dequeue(call: &Call) -> Result {
    source(call)?.dequeue(call.step)
}

fn many(call: &Call, up_to: bool) -> Result {
    let q = source(call)?;
    if call.tensor(1)?.rank() != 0 {
        return Err(invalid("the number of elements to dequeue must be a scalar"));
    }
    q.dequeue_many(call.int(1)?, up_to, call.step)
}

fn dequeue_many(call: &Call) -> Result {
    many(call, false)
}

fn dequeue_up_to(call: &Call) -> Result {
    many(call, true)
}

fn size(call: &Call) -> Result {
    Ok(vec![values::scalar_i32(operand(call)?.size())?])
}

fn close(call: &Call) -> Result {
    operand(call)?.close(call.attrs.bool("cancel_pending_enqueues").unwrap_or(false), call.step)?;
    Ok(Vec::new())
}

fn is_closed(call: &Call) -> Result {
    Ok(vec![values::scalar_bool(operand(call)?.is_closing())?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Step;
    use graphc_ir::{Tensor, TfStatus};

    fn number(v: i64) -> Value {
        Tensor::scalar(v).into()
    }

    fn one_type(order: Order) -> Queue {
        let config = Config { order, types: vec![Elem::I64], shapes: vec![shapes::known(&[])], capacity: Some(4), seeds: (1, 2) };
        Queue::new("q", config)
    }

    fn ints(v: &Value) -> Vec<i64> {
        v.as_tensor().and_then(Tensor::to_ints).unwrap_or_default()
    }

    #[test]
    fn a_closed_queue_gives_what_is_left() {
        let (q, step) = (one_type(Order::First), Step::default());
        for v in [3, 1, 2] {
            q.enqueue(vec![number(v)], &step).unwrap();
        }
        q.close(false, &step).unwrap();
        assert_eq!(q.enqueue(vec![number(4)], &step).unwrap_err().status, TfStatus::Cancelled);
        assert_eq!(q.dequeue_many(4, false, &step).unwrap_err().status, TfStatus::OutOfRange);
        assert_eq!(ints(&q.dequeue_many(2, false, &step).unwrap()[0]), [3, 1]);
        assert_eq!(ints(&q.dequeue_many(2, true, &step).unwrap()[0]), [2]);
        assert_eq!(q.dequeue(&step).unwrap_err().status, TfStatus::OutOfRange);
    }

    #[test]
    fn the_least_comes_first() {
        let (q, step) = (one_type(Order::Least), Step::default());
        for v in [3, 1, 2] {
            q.enqueue(vec![number(v)], &step).unwrap();
        }
        assert_eq!(ints(&q.dequeue_many(3, false, &step).unwrap()[0]), [1, 2, 3]);
    }
}

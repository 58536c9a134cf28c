//! A run's memory, for one set of sizes, and the commands that were recorded over it.

use super::executable::Executable;
use super::flow::{Piece, parts};
use super::memory::{Buffers, Ends, Layout, Order};
use super::value::unseen;
use super::{Command, Driver, Memory, Span, What};
use crate::error::GpuError;
use graphc_ir::Sym;
use graphc_passes::plan::Buf;
use std::collections::HashMap;
use std::sync::Arc;

/// Recordings that are kept: as many ways as inputs come from the same few places.
const MOST_RECORDINGS: usize = 4;

/// Memory of a run and what is recorded over it. Of one run at a time.
pub struct Recorded<D: Driver> {
    pub syms: Vec<i64>,
    /// Commands for the ends that the last runs had, the newest last.
    recordings: Vec<Recording<D>>,
    /// Copies of outputs to the host, where they were asked for after a run.
    reads: HashMap<usize, D::Sequence>,
    /// After what refers to it, as fields are dropped in their order.
    pub memory: Buffers<D>,
    pub queue: D::Queue,
}

/// The commands of a run between given ends.
pub struct Recording<D: Driver> {
    /// Copies from the host's memory, where there are any that no block begins with.
    pub before: Option<D::Sequence>,
    pub after: Option<D::Sequence>,
    /// By the first step.
    pub blocks: HashMap<usize, D::Sequence>,
    /// By the first step of a block, the step of each of its commands; none for copies.
    pub steps: HashMap<usize, Vec<Option<usize>>>,
    /// Each copies a condition to [`Buffers::cond`].
    pub conds: HashMap<Buf, D::Sequence>,
    ends: Ends<D>,
}

impl<D: Driver> Recorded<D> {
    /// Memory for sizes `syms`.
    ///
    /// # Errors
    /// If the device has not enough.
    pub fn new(x: &Executable<D>, syms: &[i64]) -> Result<Recorded<D>, GpuError> {
        let queue = x.device.queue()?;
        let memory = Buffers::new(x, &queue, &|s| x.symbol(s, syms))?;
        Ok(Recorded { syms: syms.to_vec(), recordings: Vec::new(), reads: HashMap::new(), memory, queue })
    }

    /// Makes sure that there are commands between `ends`; gives their number.
    ///
    /// # Errors
    /// If the device has not enough memory, or a buffer is larger than kernels can see.
    pub fn record(&mut self, x: &Executable<D>, ends: &Ends<D>) -> Result<usize, GpuError> {
        if let Some(k) = self.recordings.iter().position(|r| r.ends.same(ends)) {
            return Ok(k);
        }
        let syms = &self.syms;
        let of = |s: &Sym| x.symbol(s, syms);
        self.memory.prepare(x, &self.queue, ends, &of)?;
        let made = Recording::new(x, &self.queue, &self.memory, ends.clone(), &of)?;
        if self.recordings.len() >= MOST_RECORDINGS {
            self.recordings.remove(0);
        }
        self.recordings.push(made);
        Ok(self.recordings.len() - 1)
    }

    pub fn recording(&self, k: usize) -> &Recording<D> {
        &self.recordings[k]
    }

    /// Forgets failures.
    pub fn clear_status(&mut self) {
        if let Some(words) = self.memory.status.host_mut() {
            words.fill(0);
        }
    }

    /// Copies an output that a run left on the device.
    ///
    /// # Errors
    /// Those of the driver.
    pub fn read_output(&mut self, device: &Arc<D>, output: usize, to: &mut [u8]) -> Result<(), GpuError> {
        let from = self.memory.outputs.get_mut(output).ok_or_else(unseen)?;
        from.stage(device, &self.queue)?;
        let from = &*from;
        if let Some((there, host)) = from.copy(false) {
            let made = match self.reads.remove(&output) {
                Some(made) => made,
                None => {
                    let what = What::Copy { from: there, to: host };
                    device.record(&self.queue, &[Command { what, after: Vec::new(), node: "" }])?
                }
            };
            let ran = device.run(&self.queue, &[&made]);
            self.reads.insert(output, made);
            ran?;
        }
        to.copy_from_slice(from.host()?.get(..to.len()).ok_or_else(unseen)?);
        Ok(())
    }
}

impl<D: Driver> Recording<D> {
    fn new(
        x: &Executable<D>,
        queue: &D::Queue,
        memory: &Buffers<D>,
        ends: Ends<D>,
        of: &dyn Fn(&Sym) -> Option<i64>,
    ) -> Result<Recording<D>, GpuError> {
        let layout = Layout { x, memory, ends: &ends };
        let record = |order: Order<D>| x.device.record(queue, &order.commands);
        let (mut ranges, mut tested) = (Vec::new(), Vec::new());
        parts(&x.pieces, &mut |range| ranges.push(range.clone()), &mut |c| tested.push(c));
        // Transfers are part of the blocks beside them, so that a driver may let them overlap with launches.
        let outermost = |p: Option<&Piece>| match p {
            Some(Piece::Block(range)) => Some(range.start),
            _ => None,
        };
        let (first, last) = (outermost(x.pieces.first()), outermost(x.pieces.last()));
        let (mut blocks, mut steps_of) = (HashMap::new(), HashMap::new());
        for range in ranges {
            let (start, mut order) = (range.start, Order::new());
            if first == Some(start) {
                order.copies(layout.transfers(true).into_iter());
            }
            layout.launches(range, of, &mut order)?;
            if last == Some(start) {
                order.copies(layout.transfers(false).into_iter());
            }
            steps_of.insert(start, std::mem::take(&mut order.steps));
            let sequence = if ends.timed { x.device.record_timed(queue, &order.commands) } else { record(order) };
            blocks.insert(start, sequence?);
        }
        let alone = |up: bool| {
            let mut order = Order::new();
            order.copies(layout.transfers(up).into_iter());
            if order.commands.is_empty() { Ok(None) } else { record(order).map(Some) }
        };
        let before = if first.is_none() { alone(true)? } else { None };
        let after = if last.is_none() { alone(false)? } else { None };
        let mut conds = HashMap::new();
        tested.sort_unstable();
        tested.dedup();
        for c in tested {
            let (from, to) = (layout.span(c, of)?, Span::of(&memory.cond, 1));
            let mut order = Order::new();
            order.copies(std::iter::once((Span { bytes: 1, ..from }, to)));
            conds.insert(c, record(order)?);
        }
        Ok(Recording { before, after, blocks, steps: steps_of, conds, ends })
    }
}

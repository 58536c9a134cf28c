//! Placement of buffers in the arena.
//!
//! Sizes may be symbolic. Buffers whose sizes are multiples of one *unit* (an expression that is a multiple of the alignment for all
//! symbol values) share a region of the arena, in which offsets are whole numbers of units; so whether two buffers overlap does not
//! depend on the symbols. The regions lie one after another.

use super::{Buf, Place, Plan};
use graphc_ir::Dim;
use hashbrown::HashMap;

/// Bytes to which every buffer is aligned.
const ALIGN: i64 = 64;

/// Buffers of this many bytes a unit and more are rounded up to whole alignments of the common unit; smaller ones get a unit of their own.
const COMMON_UNIT: i64 = 1024;

/// Last step that uses a buffer which is never read.
type Interval = (usize, usize);

/// One piece of arena memory: a buffer, with those that take over its memory in place.
struct Slot {
    members: Vec<Buf>,
    live: Interval,
    units: i64,
    unit: Dim,
}

/// Gives every unplaced buffer that a step uses its place in the arena, and the plan the arena's size.
pub fn place(plan: &mut Plan) {
    let live = intervals(plan);
    let (mut regions, slots) = slots(plan, &live);
    let mut base = Dim::ZERO;
    for (unit, members) in &mut regions {
        members.sort_by_key(|&s| (std::cmp::Reverse(slots[s].units), slots[s].live.0));
        let (offsets, height) = pack(members, &slots);
        for (&s, &offset) in members.iter().zip(&offsets) {
            let offset = &base + &(&Dim::from(offset) * unit);
            for &b in &slots[s].members {
                plan.buffers[b.index()].place = Place::Arena { offset: offset.clone() };
            }
        }
        base = &base + &(&Dim::from(height) * unit);
    }
    plan.arena = base;
}

/// First and last step at which each buffer or a view of it is needed; `None` for buffers no step uses.
fn intervals(plan: &Plan) -> Vec<Option<Interval>> {
    let mut live: Vec<Option<Interval>> = vec![None; plan.buffers.len()];
    for (i, step) in plan.steps.iter().enumerate() {
        for &b in step.reads.iter().chain(&step.writes) {
            let at = &mut live[plan.root(b).index()];
            *at = Some(at.map_or((i, i), |(first, _)| (first, i)));
        }
    }
    // What comes into a loop must be there in every iteration.
    for (start, end) in plan.loop_spans() {
        for step in &plan.steps[start..end] {
            for &b in step.reads.iter().chain(&step.writes) {
                if let Some((first, last)) = &mut live[plan.root(b).index()]
                    && *first < start
                {
                    *last = end.max(*last);
                }
            }
        }
    }
    live
}

/// The unit of a size in bytes, and how many units it takes.
fn units(bytes: &Dim) -> (Dim, i64) {
    let bytes = bytes.at_least(&Dim::ZERO);
    let align = Dim::from(ALIGN);
    let round = |c: i64| c.saturating_add(ALIGN - 1) / ALIGN;
    if let Some(c) = bytes.as_const() {
        return (align, round(c));
    }
    let (content, primitive) = bytes.split_content();
    if content % ALIGN == 0 || content >= COMMON_UNIT {
        (&primitive * &align, round(content))
    } else {
        (&bytes.ceil_div(&align) * &align, 1)
    }
}

/// Joins buffers that may be one memory, and sorts the slots into regions by unit.
fn slots(plan: &Plan, live: &[Option<Interval>]) -> (Vec<(Dim, Vec<usize>)>, Vec<Slot>) {
    let mut slots: Vec<Slot> = Vec::new();
    let mut slot_of: HashMap<Buf, usize> = HashMap::new();
    let unplaced = |b: Buf| plan.buffer(b).place == Place::Unplaced;
    for (i, step) in plan.steps.iter().enumerate() {
        for &out in &step.writes {
            let root = plan.root(out);
            let Some(interval) = live[root.index()].filter(|l| l.0 == i && unplaced(root) && !slot_of.contains_key(&root)) else {
                continue;
            };
            let bytes = plan.buffer(root).bytes();
            let donor = step.in_place.iter().filter(|(o, _)| *o == out && root == out).find_map(|&(_, input)| {
                let &slot = slot_of.get(&input)?;
                let last_use = live[input.index()].is_some_and(|l| l.1 == i);
                (last_use && slots[slot].live.1 == i && plan.buffer(input).bytes() == bytes).then_some(slot)
            });
            if let Some(s) = donor {
                slots[s].members.push(root);
                slots[s].live.1 = interval.1;
                slot_of.insert(root, s);
                // The donor's own last use is this step: nothing else may take its memory at this step.
                continue;
            }
            let (unit, units) = units(&bytes);
            slots.push(Slot { members: vec![root], live: interval, units, unit });
            slot_of.insert(root, slots.len() - 1);
        }
    }
    let mut regions: Vec<(Dim, Vec<usize>)> = Vec::new();
    for (i, s) in slots.iter().enumerate() {
        match regions.iter_mut().find(|(unit, _)| *unit == s.unit) {
            Some((_, members)) => members.push(i),
            None => regions.push((s.unit.clone(), vec![i])),
        }
    }
    (regions, slots)
}

/// Offsets in units of `members` (largest first) so that no two that live at one time overlap, and the height of the whole.
fn pack(members: &[usize], slots: &[Slot]) -> (Vec<i64>, i64) {
    let mut offsets: Vec<i64> = Vec::with_capacity(members.len());
    // Placed slots, lowest first: (offset, index into `members`).
    let mut placed: Vec<(i64, usize)> = Vec::with_capacity(members.len());
    let mut height = 0;
    for (i, &s) in members.iter().enumerate() {
        let slot = &slots[s];
        let (mut end, mut best): (i64, Option<(i64, i64)>) = (0, None);
        for &(offset, j) in &placed {
            let other = &slots[members[j]];
            if other.live.1 < slot.live.0 || slot.live.1 < other.live.0 {
                continue;
            }
            let gap = offset - end;
            if gap >= slot.units && best.is_none_or(|(size, _)| gap < size) {
                best = Some((gap, end));
            }
            end = end.max(offset.saturating_add(other.units));
        }
        let offset = best.map_or(end, |(_, at)| at);
        offsets.push(offset);
        let at = placed.partition_point(|&(o, _)| o <= offset);
        placed.insert(at, (offset, i));
        height = height.max(offset.saturating_add(slot.units));
    }
    (offsets, height)
}

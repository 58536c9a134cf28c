//! Packed constants of a plan, in one piece of memory in execution order.

use crate::error::CompileError;
use crate::pages::{self, Pages};
use graphc_abi::{ALIGN, TAIL_BYTES};
use graphc_ir::{Elem, Tensor};
use graphc_kernels::conv::winograd::filter;
use graphc_kernels::pack;
use graphc_passes::plan::{Arg, Const, ConstId, ConstLayout, Place, Plan, StepKind};
use memmap2::{Mmap, MmapMut};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Where each constant of a plan lies.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    offsets: Vec<usize>,
    /// Bytes of the whole, without the readable tail.
    bytes: usize,
    /// Filters of Winograd convolutions are as they are in the model, which is up to four times smaller.
    raw_filters: bool,
    /// Constants that are used where they lie, and their distances from the start of the weights.
    apart: Vec<(usize, i64)>,
}

/// What whoever loads stored weights does to have them as code wants them.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// From and to, bytes from the start, and how many.
    pub copies: Vec<[usize; 3]>,
    pub filters: Vec<Filter>,
}

/// A filter of a Winograd convolution that is stored as it is in the model.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    pub from: usize,
    pub to: usize,
    pub outputs: usize,
    pub input: usize,
    pub out: usize,
    pub width: usize,
}

impl Weights {
    /// Lays out the constants of `plan`.
    pub fn of(plan: &Plan) -> Weights {
        Weights::without(plan, &[])
    }

    /// A layout that was made before: where each constant begins, and the bytes of all.
    pub fn known(offsets: Vec<usize>, bytes: usize) -> Weights {
        Weights { offsets, bytes, ..Weights::default() }
    }

    /// How many constants there are.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Lays out the constants of `plan` but those that are used where they lie.
    fn without(plan: &Plan, apart: &[(usize, i64)]) -> Weights {
        let mut w = Weights { apart: apart.to_vec(), ..Weights::default() };
        for (k, c) in plan.consts.iter().enumerate() {
            w.offsets.push(w.bytes);
            if apart.iter().all(|(apart, _)| *apart != k) {
                w.bytes += packed_bytes(&c.tensor, &c.layout).next_multiple_of(ALIGN);
            }
        }
        w
    }

    /// Bytes from the start of the weights to constant `c`; below zero, or beyond the weights, where it is used as it lies.
    pub fn offset(&self, c: ConstId) -> i64 {
        let apart = self.apart.iter().find(|(k, _)| *k == c.index());
        apart.map_or(self.offsets[c.index()] as i64, |(_, distance)| *distance)
    }

    /// Lays out the constants of `plan`, which this is the layout of, for an object: filters of Winograd convolutions stay as they are.
    /// With it comes how this layout is made of that; `None` if there is no such filter.
    pub fn stored(&self, plan: &Plan) -> Option<(Weights, Placement)> {
        let (mut w, mut placement) = (Weights { raw_filters: true, ..Weights::default() }, Placement::default());
        for (c, &to) in plan.consts.iter().zip(&self.offsets) {
            let from = w.bytes;
            w.offsets.push(from);
            match c.layout {
                ConstLayout::WinogradFilter { outputs, input, out, width } => {
                    placement.filters.push(Filter { from, to, outputs, input, out, width });
                    w.bytes += c.tensor.bytes_len().next_multiple_of(ALIGN);
                }
                _ => {
                    let bytes = packed_bytes(&c.tensor, &c.layout).next_multiple_of(ALIGN);
                    w.bytes += bytes;
                    match placement.copies.last_mut() {
                        Some([f, t, n]) if *f + *n == from && *t + *n == to => *n += bytes,
                        _ => placement.copies.push([from, to, bytes]),
                    }
                }
            }
        }
        (!placement.filters.is_empty()).then_some((w, placement))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes to allocate: kernels may read past the end.
    pub fn allocated(&self) -> usize {
        self.bytes + TAIL_BYTES
    }

    /// Packs `consts`, those of the plan, into `dst`, which is zero and `allocated()` bytes long, on as many threads. Each constant is
    /// let go as soon as it is packed, so that one copy of the weights is in memory, not two.
    ///
    /// # Errors
    /// If a constant does not hold what its layout says.
    pub fn pack(&self, consts: Vec<Const>, dst: &mut [u8], threads: usize) -> Result<(), CompileError> {
        if dst.len() < self.bytes {
            return Err(CompileError::Invalid("the weights do not fit".into()));
        }
        self.pack_at(consts, Base(dst.as_mut_ptr()), None, threads)
    }

    /// Packs to `base`, which as many bytes follow as there are weights and which nobody else uses meanwhile.
    fn pack_at(&self, consts: Vec<Const>, base: Base, pages: Option<&Pages>, threads: usize) -> Result<(), CompileError> {
        let mut jobs = self.jobs(consts)?;
        // The largest first, while there is room for it beside what is packed.
        jobs.sort_by_key(|j| std::cmp::Reverse(j.tensor.bytes_len()));
        let threads = threads.clamp(1, jobs.len().max(1));
        let jobs = Mutex::new(jobs.into_iter());
        let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            let base = &base;
            while let Some(job) = next() {
                // SAFETY: jobs write disjoint ranges of the bytes that follow `base`, which are ours.
                let dst = unsafe { std::slice::from_raw_parts_mut(base.0.add(job.at), job.bytes) };
                if let Some(pages) = pages {
                    pages.prepare(job.at..job.at + job.bytes, &mut |at| dst[at - job.at] = 0);
                }
                job.run(dst);
            }
        };
        std::thread::scope(|s| {
            (1..threads).for_each(|_| drop(s.spawn(work)));
            work();
        });
        Ok(())
    }

    fn jobs(&self, consts: Vec<Const>) -> Result<Vec<Job>, CompileError> {
        /// A job is about this many bytes of a large constant; a smaller one is one job, so that threads do not wait for one another
        /// where its elements are computed first.
        const CHUNK: usize = 1 << 20;
        let mut jobs = Vec::new();
        for (k, (c, &at)) in consts.into_iter().zip(&self.offsets).enumerate() {
            let Const { tensor, layout, .. } = c;
            if self.apart.iter().any(|(apart, _)| *apart == k) {
                continue;
            }
            let layout = match layout {
                ConstLayout::WinogradFilter { .. } if self.raw_filters => ConstLayout::Plain,
                layout => layout,
            };
            let wanted = match layout {
                ConstLayout::Plain => tensor.elem(),
                ConstLayout::Words { .. } if tensor.elem() == Elem::I8 => Elem::I8,
                ConstLayout::Words { .. } => Elem::BF16,
                _ => Elem::F32,
            };
            if tensor.elem() != wanted {
                return Err(CompileError::Invalid("a packed constant is of another type".into()));
            }
            match layout {
                ConstLayout::Plain => {
                    let bytes = tensor.bytes_len();
                    for from in (0..bytes).step_by(CHUNK) {
                        let len = CHUNK.min(bytes - from);
                        jobs.push(Job { at: at + from, bytes: len, tensor: tensor.clone(), kind: JobKind::Copy { from } });
                    }
                }
                ConstLayout::Panels { count, k, n, width, strides } | ConstLayout::Words { count, k, n, width, strides } => {
                    let panels = pack::panels(n, width);
                    let panel = match wanted {
                        Elem::BF16 => k.next_multiple_of(2) * width * size_of::<u16>(),
                        Elem::I8 => k.next_multiple_of(4) * width,
                        _ => k * width * size_of::<f32>(),
                    };
                    if panel == 0 || panels == 0 || count == 0 {
                        continue;
                    }
                    let last = (count - 1) * strides[0] + (k - 1) * strides[1] + (n - 1) * strides[2];
                    if last >= tensor.len() {
                        return Err(CompileError::Invalid("a packed constant is smaller than its panels".into()));
                    }
                    let step = (CHUNK / panel).clamp(1, panels);
                    for i in 0..count {
                        for from in (0..panels).step_by(step) {
                            let to = (from + step).min(panels);
                            let kind = JobKind::Panels {
                                from: i * strides[0],
                                k,
                                n,
                                strides: [strides[1], strides[2]],
                                width,
                                panels: from..to,
                            };
                            let (at, bytes) = (at + (i * panels + from) * panel, (to - from) * panel);
                            jobs.push(Job { at, bytes, tensor: tensor.clone(), kind });
                        }
                    }
                }
                ConstLayout::WinogradFilter { outputs, input, out, width } => {
                    if 9 * input * out > tensor.len() {
                        return Err(CompileError::Invalid("a filter is smaller than its extents".into()));
                    }
                    let all = filter::points(outputs);
                    let bytes = packed_bytes(&tensor, &layout) / all;
                    let step = if tensor.bytes_len() < CHUNK { all } else { 1 };
                    for row in (0..all).step_by(step) {
                        let kind = JobKind::Winograd { outputs, input, out, width, rows: row..row + step };
                        jobs.push(Job { at: at + row * bytes, bytes: step * bytes, tensor: tensor.clone(), kind });
                    }
                }
                ConstLayout::TransposedFilter { kernel, out, input, stride, dilation, width } => {
                    let bytes = packed_bytes(&tensor, &layout);
                    jobs.push(Job { at, bytes, tensor, kind: JobKind::Transposed { kernel, out, input, stride, dilation, width } });
                }
            }
        }
        Ok(jobs)
    }
}

/// The packed weights of a plan.
pub struct PackedWeights {
    memory: Memory,
    /// Where they lie in the memory, with their tail.
    range: Range<usize>,
    /// Constants that code reads where they lie.
    _apart: Vec<Tensor>,
}

enum Memory {
    Anonymous(MmapMut),
    Mapped(Mmap),
}

impl PackedWeights {
    /// Allocates memory for the constants of a plan and packs them on `threads` threads; see [`Weights::pack`].
    ///
    /// # Errors
    /// If the system has no memory, or a constant does not hold what its layout says.
    pub fn new(consts: Vec<Const>, layout: &Weights, threads: usize) -> Result<PackedWeights, CompileError> {
        Room::for_weights(layout)?.fill(consts, layout, threads)
    }

    /// Packed weights in a file, from this byte on.
    pub fn mapped(file: Mmap, from: usize) -> PackedWeights {
        PackedWeights { range: from..file.len(), memory: Memory::Mapped(file), _apart: Vec::new() }
    }

    /// The weights with the tail that kernels may read.
    pub fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Anonymous(m) => &m[self.range.clone()],
            Memory::Mapped(m) => &m[self.range.clone()],
        }
    }
}

/// Memory for packed weights, before they are there.
pub struct Room {
    map: MmapMut,
    from: usize,
}

impl Room {
    /// # Errors
    /// If the system has no memory.
    pub fn for_weights(layout: &Weights) -> Result<Room, CompileError> {
        let (map, from) = pages::map(layout.allocated()).map_err(|e| CompileError::System(format!("memory for weights: {e}")))?;
        Ok(Room { map, from })
    }

    /// Room for the constants of `plan`, and their layout, in which large ones that are only looked up in stay where they are: in the
    /// file of the model. It holds for this room alone.
    ///
    /// # Errors
    /// If the system has no memory.
    pub fn beside_tables(plan: &Plan) -> Result<(Room, Weights), CompileError> {
        let mut apart: Vec<(usize, i64)> = tables(plan).into_iter().map(|k| (k, 0)).collect();
        let room = Room::for_weights(&Weights::without(plan, &apart))?;
        let base = room.map[room.from..].as_ptr() as i64;
        for (k, distance) in &mut apart {
            *distance = (plan.consts[*k].tensor.bytes().as_ptr() as i64).wrapping_sub(base);
        }
        Ok((room, Weights::without(plan, &apart)))
    }

    /// Packs the constants of the plan on `threads` threads; see [`Weights::pack`].
    ///
    /// # Errors
    /// If a constant does not hold what its layout says.
    pub fn fill(mut self, consts: Vec<Const>, layout: &Weights, threads: usize) -> Result<PackedWeights, CompileError> {
        let apart = layout.apart.iter().filter_map(|(k, _)| Some(consts.get(*k)?.tensor.clone())).collect();
        let base = Base(self.map[self.from..].as_mut_ptr());
        let pages = Pages::new(&self.map, self.from, layout.bytes());
        layout.pack_at(consts, base, Some(&pages), threads)?;
        pages::gather(&self.map);
        let range = self.from..self.from + layout.allocated();
        Ok(PackedWeights { memory: Memory::Anonymous(self.map), range, _apart: apart })
    }
}

/// The constants that are large, and read by gathers alone, which take any address and only some of the rows.
fn tables(plan: &Plan) -> Vec<usize> {
    /// From this size on, a table is worth a reference to the file.
    const TABLE: usize = 1 << 20;
    let large = |c: &Const| c.layout == ConstLayout::Plain && !c.tensor.is_deferred() && c.tensor.bytes_len() >= TABLE;
    let mut apart: Vec<bool> = plan.consts.iter().map(large).collect();
    if !apart.contains(&true) {
        return Vec::new();
    }
    let const_of = |buf| match plan.buffer(plan.root(buf)).place {
        Place::Const(c) => Some(c.index()),
        _ => None,
    };
    for step in &plan.steps {
        let looked_up = match &step.kind {
            StepKind::Kernel { symbol: "gc_gather", args } => {
                let mut buffers = args.iter().filter_map(|(name, a)| match a {
                    Arg::Buf { buf, .. } => Some((*name, const_of(*buf)?)),
                    _ => None,
                });
                match (buffers.next(), buffers.next()) {
                    (Some(("x", c)), None) => Some(c),
                    _ => None,
                }
            }
            _ => None,
        };
        step.reads.iter().filter_map(|&b| const_of(b)).filter(|&c| Some(c) != looked_up).for_each(|c| apart[c] = false);
    }
    plan.outputs.iter().filter_map(|p| const_of(p.buf)).for_each(|c| apart[c] = false);
    (0..apart.len()).filter(|&k| apart[k]).collect()
}

fn packed_bytes(tensor: &Tensor, layout: &ConstLayout) -> usize {
    let floats = match *layout {
        ConstLayout::Plain => return tensor.bytes_len(),
        ConstLayout::Words { count, k, n, width, .. } if tensor.elem() == Elem::I8 => {
            return count * pack::packed_words_len::<u8>(k, n, width);
        }
        ConstLayout::Words { count, k, n, width, .. } => {
            return count * pack::packed_words_len::<u16>(k, n, width) * size_of::<u16>();
        }
        ConstLayout::Panels { count, k, n, width, .. } => count * pack::packed_len(k, n, width),
        ConstLayout::WinogradFilter { outputs, input, out, width } => filter::packed_len(outputs, input, out, width),
        ConstLayout::TransposedFilter { kernel: [h, w], out, input, width, .. } => pack::packed_len(h * w * input, out, width),
    };
    floats * size_of::<f32>()
}

struct Base(*mut u8);

// SAFETY: threads write disjoint ranges.
unsafe impl Sync for Base {}

/// One range of the packed weights, and the constant that it comes from.
struct Job {
    at: usize,
    bytes: usize,
    tensor: Tensor,
    kind: JobKind,
}

enum JobKind {
    Copy { from: usize },
    Panels { from: usize, k: usize, n: usize, strides: [usize; 2], width: usize, panels: Range<usize> },
    Winograd { outputs: usize, input: usize, out: usize, width: usize, rows: Range<usize> },
    Transposed { kernel: [usize; 2], out: usize, input: usize, stride: [usize; 2], dilation: [usize; 2], width: usize },
}

impl Job {
    fn run(self, dst: &mut [u8]) {
        let src = self.tensor.bytes();
        match self.kind {
            JobKind::Copy { from } => dst.copy_from_slice(&src[from..from + dst.len()]),
            JobKind::Panels { from, k, n, strides: [row, col], width, panels } if self.tensor.elem() == Elem::BF16 => {
                pack::pack_words::<u16>(words_mut(dst), &src[from * size_of::<u16>()..], k, n, row, col, width, panels);
            }
            JobKind::Panels { from, k, n, strides: [row, col], width, panels } if self.tensor.elem() == Elem::I8 => {
                pack::pack_words::<u8>(dst, &src[from..], k, n, row, col, width, panels);
            }
            JobKind::Panels { from, k, n, strides: [row, col], width, panels } => {
                pack::pack_panels(words_mut(dst), &src[from * size_of::<f32>()..], k, n, row, col, width, panels);
            }
            JobKind::Winograd { outputs, input, out, width, rows } => {
                filter::pack_rows(words_mut(dst), src, outputs, input, out, width, rows);
            }
            JobKind::Transposed { kernel, out, input, stride, dilation, width } => {
                pack::pack_conv_transpose(words_mut(dst), src, kernel, out, input, stride, dilation, width);
            }
        }
    }
}

/// Panels start at multiples of the alignment, so nothing is left over.
fn words_mut<T: Word>(dst: &mut [u8]) -> &mut [T] {
    // SAFETY: any bytes are words.
    let (head, words, tail) = unsafe { dst.align_to_mut::<T>() };
    debug_assert!(head.is_empty() && tail.is_empty());
    words
}

/// Types of which every pattern of bits is a value.
trait Word {}
impl Word for f32 {}
impl Word for u16 {}

//! Packed constants of a plan, in one piece of memory in execution order.

use crate::error::CompileError;
use graphc_abi::{ALIGN, TAIL_BYTES};
use graphc_kernels::pack;
use graphc_passes::plan::{Const, ConstId, ConstLayout, Plan};
use memmap2::{Advice, MmapMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where each constant of a plan lies.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    offsets: Vec<usize>,
    /// Bytes of the whole, without the readable tail.
    bytes: usize,
}

impl Weights {
    /// Lays out the constants of `plan`.
    pub fn of(plan: &Plan) -> Weights {
        let mut w = Weights::default();
        for c in &plan.consts {
            w.offsets.push(w.bytes);
            w.bytes += packed_bytes(c).next_multiple_of(ALIGN);
        }
        w
    }

    /// Bytes from the start of the weights to constant `c`.
    pub fn offset(&self, c: ConstId) -> usize {
        self.offsets[c.index()]
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes to allocate: kernels may read past the end.
    pub fn allocated(&self) -> usize {
        self.bytes + TAIL_BYTES
    }

    /// Packs all constants into `dst`, which is zero and `allocated()` bytes long, on as many threads.
    ///
    /// # Errors
    /// If a constant does not hold what its layout says.
    pub fn pack(&self, plan: &Plan, dst: &mut [u8], threads: usize) -> Result<(), CompileError> {
        if dst.len() < self.bytes {
            return Err(CompileError::Invalid("the weights do not fit".into()));
        }
        let jobs = self.jobs(plan)?;
        let (next, base) = (AtomicUsize::new(0), Base(dst.as_mut_ptr()));
        let work = || {
            let base = &base;
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                // SAFETY: jobs write disjoint ranges inside `dst`, which is borrowed for the whole of this.
                let dst = unsafe { std::slice::from_raw_parts_mut(base.0.add(job.at), job.bytes) };
                job.run(dst);
            }
        };
        let threads = threads.clamp(1, jobs.len().max(1));
        std::thread::scope(|s| {
            (1..threads).for_each(|_| drop(s.spawn(work)));
            work();
        });
        Ok(())
    }

    fn jobs<'p>(&self, plan: &'p Plan) -> Result<Vec<Job<'p>>, CompileError> {
        /// A job is about this many bytes.
        const CHUNK: usize = 1 << 18;
        let mut jobs = Vec::new();
        for (c, &at) in plan.consts.iter().zip(&self.offsets) {
            let floats = || {
                let slice = c.tensor.as_slice::<f32>();
                slice.map(Floats::from).ok_or_else(|| CompileError::Invalid("a packed constant is not f32".into()))
            };
            match c.layout {
                ConstLayout::Plain => {
                    for (i, part) in c.tensor.bytes().chunks(CHUNK).enumerate() {
                        jobs.push(Job { at: at + i * CHUNK, bytes: part.len(), kind: JobKind::Copy(part) });
                    }
                }
                ConstLayout::Panels { count, k, n, width, strides } => {
                    let panels = pack::panels(n, width);
                    let panel = k * width * 4;
                    if panel == 0 || panels == 0 || count == 0 {
                        continue;
                    }
                    let last = (count - 1) * strides[0] + (k - 1) * strides[1] + (n - 1) * strides[2];
                    if last >= c.tensor.len() {
                        return Err(CompileError::Invalid("a packed constant is smaller than its panels".into()));
                    }
                    let step = (CHUNK / panel).clamp(1, panels);
                    let src = floats()?;
                    for i in 0..count {
                        for from in (0..panels).step_by(step) {
                            let to = (from + step).min(panels);
                            let kind = JobKind::Panels {
                                src: src.clone(),
                                from: i * strides[0],
                                k,
                                n,
                                strides: [strides[1], strides[2]],
                                width,
                                panels: from..to,
                            };
                            jobs.push(Job { at: at + (i * panels + from) * panel, bytes: (to - from) * panel, kind });
                        }
                    }
                }
                ConstLayout::TransposedFilter { kernel, out, input, stride, dilation, width } => {
                    let kind = JobKind::Transposed { src: floats()?, kernel, out, input, stride, dilation, width };
                    jobs.push(Job { at, bytes: packed_bytes(c), kind });
                }
            }
        }
        Ok(jobs)
    }
}

/// The weights of a plan in anonymous memory.
pub struct PackedWeights {
    memory: MmapMut,
}

impl PackedWeights {
    /// Allocates and packs the constants of `plan` on `threads` threads.
    ///
    /// # Errors
    /// If the system has no memory, or a constant does not hold what its layout says.
    pub fn new(plan: &Plan, layout: &Weights, threads: usize) -> Result<PackedWeights, CompileError> {
        let mut memory =
            MmapMut::map_anon(layout.allocated()).map_err(|e| CompileError::System(format!("memory for weights: {e}")))?;
        if layout.bytes() >= 2 << 20 {
            // A hint; without huge pages everything works, only slower.
            let _ = memory.advise(Advice::HugePage);
        }
        layout.pack(plan, &mut memory, threads)?;
        Ok(PackedWeights { memory })
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    pub fn bytes(&self) -> usize {
        self.memory.len()
    }
}

fn packed_bytes(c: &Const) -> usize {
    match c.layout {
        ConstLayout::Plain => c.tensor.bytes().len(),
        ConstLayout::Panels { count, k, n, width, .. } => count * pack::packed_len(k, n, width) * 4,
        ConstLayout::TransposedFilter { kernel: [h, w], out, input, width, .. } => pack::packed_len(h * w * input, out, width) * 4,
    }
}

struct Base(*mut u8);

// SAFETY: threads write disjoint ranges.
unsafe impl Sync for Base {}

/// Elements of a constant, shared by the jobs that pack it.
#[derive(Clone)]
enum Floats<'p> {
    Borrowed(&'p [f32]),
    Owned(std::sync::Arc<[f32]>),
}

impl<'p> From<std::borrow::Cow<'p, [f32]>> for Floats<'p> {
    fn from(v: std::borrow::Cow<'p, [f32]>) -> Floats<'p> {
        match v {
            std::borrow::Cow::Borrowed(v) => Floats::Borrowed(v),
            std::borrow::Cow::Owned(v) => Floats::Owned(v.into()),
        }
    }
}

impl Floats<'_> {
    fn get(&self) -> &[f32] {
        match self {
            Floats::Borrowed(v) => v,
            Floats::Owned(v) => v,
        }
    }
}

struct Job<'p> {
    at: usize,
    bytes: usize,
    kind: JobKind<'p>,
}

enum JobKind<'p> {
    Copy(&'p [u8]),
    Panels {
        src: Floats<'p>,
        from: usize,
        k: usize,
        n: usize,
        strides: [usize; 2],
        width: usize,
        panels: std::ops::Range<usize>,
    },
    Transposed {
        src: Floats<'p>,
        kernel: [usize; 2],
        out: usize,
        input: usize,
        stride: [usize; 2],
        dilation: [usize; 2],
        width: usize,
    },
}

impl Job<'_> {
    fn run(&self, dst: &mut [u8]) {
        match &self.kind {
            JobKind::Copy(src) => dst.copy_from_slice(src),
            JobKind::Panels { src, from, k, n, strides, width, panels } => {
                pack::pack_panels(floats_mut(dst), &src.get()[*from..], *k, *n, strides[0], strides[1], *width, panels.clone());
            }
            JobKind::Transposed { src, kernel, out, input, stride, dilation, width } => {
                pack::pack_conv_transpose(floats_mut(dst), src.get(), *kernel, *out, *input, *stride, *dilation, *width);
            }
        }
    }
}

/// Panels start at multiples of the alignment, so nothing is left over.
fn floats_mut(dst: &mut [u8]) -> &mut [f32] {
    // SAFETY: any bytes are floats.
    let (head, floats, tail) = unsafe { dst.align_to_mut::<f32>() };
    debug_assert!(head.is_empty() && tail.is_empty());
    floats
}

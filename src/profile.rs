//! Where the time of a run goes.

use crate::{Callable, Error, Tracer, View};
use graphc_ir::tape::Entry;
use graphc_ir::{Dim, Sym};
use graphc_passes::plan::{Arg, StepKind};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Times of each launch over several runs; give it to `RunOptions::trace`.
pub struct Profile {
    launches: Vec<Launch>,
    touched: f64,
    started: Instant,
}

struct Launch {
    kernel: String,
    node: String,
    flop: f64,
    bytes: f64,
    best: Duration,
}

/// What a launch cannot be faster than: the figures of all threads together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// FMA peak.
    pub gflops: f64,
    /// Bandwidth of reading memory as large as what a run touches.
    pub gbytes: f64,
}

impl Limits {
    /// Of a device of which no limit is known: shares of it are 0.
    pub const UNKNOWN: Limits = Limits { gflops: f64::INFINITY, gbytes: f64::INFINITY };
}

/// One launch of a run.
#[derive(Clone, Debug, Serialize)]
pub struct KernelShare {
    pub kernel: String,
    /// Name of the source node.
    pub node: String,
    /// Best time of the launch.
    pub micros: f64,
    /// Share of the sum of all best times.
    pub time_share: f64,
    /// Operations, in 10^9: of matrix work the nominal ones (a multiply and an add are two), of a fused loop its instructions.
    pub gflop: f64,
    /// Bytes of all buffers that it reads and writes, in 10^6, each counted once.
    pub mbytes: f64,
    /// Share of the limit that is nearer: the FMA peak for its operations, or the bandwidth for its bytes. Above 1 where less is done than the
    /// nominal operations, or where data lies nearer than the average.
    pub limit_share: f64,
}

impl Profile {
    /// A profile of the program that takes these feeds.
    ///
    /// # Errors
    /// If no program takes them.
    pub fn new(callable: &Callable, feeds: &[View]) -> Result<Profile, Error> {
        let program = callable.prepare(feeds)?;
        let plan = &callable.plan(Some(feeds))?;
        let syms = program.symbols(feeds);
        let of = |s: &Sym| syms.iter().find(|(t, _)| t == s).map(|(_, v)| *v);
        let value = |d: &Dim| d.eval(&of).unwrap_or(0).max(0) as f64;
        let launches = plan
            .steps
            .iter()
            .map(|step| {
                let (kernel, flop) = match &step.kind {
                    StepKind::Kernel { symbol, args } => ((*symbol).trim_start_matches("gc_").to_owned(), flop(symbol, args, &of)),
                    StepKind::Loop { id, .. } => {
                        let l = &plan.loops[id.index()];
                        let done = l.tape.entries().iter().filter(|(e, _)| !matches!(e, Entry::Load(_) | Entry::Const(_))).count();
                        (l.name.clone(), done as f64 * l.extents.iter().map(value).product::<f64>())
                    }
                    // Never launched.
                    _ => (String::new(), 0.0),
                };
                let buffers: BTreeSet<_> = step.reads.iter().chain(&step.writes).collect();
                let bytes = buffers.into_iter().map(|&b| value(&plan.buffer(b).bytes())).sum();
                Launch { kernel, node: step.loc.name().to_owned(), flop, bytes, best: Duration::MAX }
            })
            .collect();
        let touched = program.weights().len() as f64 + value(&plan.arena);
        Ok(Profile { launches, touched, started: Instant::now() })
    }

    /// Operations of matrix work in a run, in 10^9.
    pub fn gflop(&self) -> f64 {
        self.launches.iter().map(|l| l.flop).sum::<f64>() / 1e9
    }

    /// The limits of `threads` cores, measured now.
    pub fn limits(&self, threads: usize) -> Limits {
        const SMALLEST: f64 = 16e3;
        const LARGEST: f64 = 256e6;
        let memory = vec![1f32; (self.touched.clamp(SMALLEST, LARGEST) / 4.0) as usize];
        let cores = threads as f64;
        let bandwidth = graphc_kernels::peak::read_bandwidth(&memory);
        Limits { gflops: graphc_kernels::peak::fma_flops() / 1e9 * cores, gbytes: bandwidth / 1e9 * cores }
    }

    /// The launches, most time first.
    pub fn shares(&self, limits: Limits) -> Vec<KernelShare> {
        let launched = || self.launches.iter().filter(|l| l.best < Duration::MAX);
        let total: f64 = launched().map(|l| l.best.as_secs_f64()).sum();
        let share = |l: &Launch| {
            let seconds = l.best.as_secs_f64().max(1e-9);
            let least = (l.flop / 1e9 / limits.gflops).max(l.bytes / 1e9 / limits.gbytes);
            KernelShare {
                kernel: l.kernel.clone(),
                node: l.node.clone(),
                micros: seconds * 1e6,
                time_share: seconds / total.max(1e-12),
                gflop: l.flop / 1e9,
                mbytes: l.bytes / 1e6,
                limit_share: least / seconds,
            }
        };
        let mut out: Vec<KernelShare> = launched().map(share).collect();
        out.sort_by(|a, b| b.micros.total_cmp(&a.micros));
        out
    }
}

impl Tracer for Profile {
    fn begin(&mut self, _launch: usize) {
        self.started = Instant::now();
    }

    fn end(&mut self, launch: usize) {
        self.took(launch, self.started.elapsed());
    }

    fn took(&mut self, launch: usize, t: Duration) {
        if let Some(l) = self.launches.get_mut(launch) {
            l.best = l.best.min(t);
        }
    }
}

/// Nominal operations of a launch of matrix work; 0 for everything else.
fn flop(symbol: &str, args: &[(&'static str, Arg)], of: &dyn Fn(&Sym) -> Option<i64>) -> f64 {
    // A size that is absent or 0 stands for 1.
    let size = |key: &str| {
        let arg = args.iter().find(|(k, _)| *k == key).map(|(_, a)| a);
        if let Some(Arg::Int(d)) = arg { d.eval(of).unwrap_or(1).max(1) as f64 } else { 1.0 }
    };
    let product = |keys: &[&str]| 2.0 * keys.iter().map(|k| size(k)).product::<f64>();
    match symbol {
        "gc_gemm_f32" | "gc_gemm_bf16" | "gc_gemm_i8" => product(&["batch", "m", "n", "k"]),
        s if s.starts_with("gc_matmul_") => product(&["batch0", "batch1", "batch2", "m", "n", "k"]),
        "gc_conv2d_f32" | "gc_conv2d_bf16" | "gc_conv2d_i8" => {
            product(&["batch", "out_h", "out_w", "out_c", "k_h", "k_w", "in_c"]) / size("groups")
        }
        "gc_winograd_f32" => product(&["batch", "out_h", "out_w", "out_c", "in_c"]) * 9.0,
        "gc_depthwise_f32" | "gc_depthwise_bf16" => product(&["batch", "out_h", "out_w", "in_c", "multiplier", "k_h", "k_w"]),
        "gc_conv_transpose_f32" => product(&["batch", "in_h", "in_w", "in_c", "out_c", "k_h", "k_w"]),
        "gc_attention_f32" => product(&["batch", "heads", "t_q", "t_k", "d"]) * 2.0,
        _ => 0.0,
    }
}

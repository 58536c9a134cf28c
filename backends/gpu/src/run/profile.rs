//! How long launches take on the device, and how much they move and compute.

use super::executable::{Executable, Input, Io, Output, Run};
use super::memory::{Layout, Order};
use super::{Command, Driver, Purpose, Span, What};
use crate::error::GpuError;
use graphc_ir::{Dim, Sym};
use graphc_passes::plan::{Arg, Place, StepKind};
use std::sync::Arc;
use std::time::Instant;

/// One launch of a run.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its step in the plan.
    pub step: usize,
    /// What one more launch takes, where many follow one another.
    pub seconds: f64,
    /// Bytes of all buffers that it reads or writes, each once.
    pub bytes: u64,
    /// Multiplications and additions of products and convolutions; 0 for all else.
    pub operations: u64,
}

/// Times that each is taken; the least counts.
const TRIES: usize = 5;

/// Runs once and then each launch alone, `repeats` times in a row.
pub(super) fn profile<D: Driver>(
    x: &Executable<D>,
    inputs: &[&[u8]],
    syms: &[i64],
    repeats: usize,
) -> Result<Vec<Profile>, GpuError> {
    let plan = &x.program().plan;
    let of = |s: &Sym| plan.syms.iter().position(|t| t == s).and_then(|k| syms.get(k).copied());
    let bytes = |d: &Dim| d.eval(&of).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let mut outputs: Vec<Vec<u8>> = plan.outputs.iter().map(|p| vec![0; bytes(&plan.buffer(p.buf).bytes())]).collect();
    let mut outputs: Vec<Output> = outputs.iter_mut().map(|o| Output::Host(o)).collect();
    let inputs: Vec<Input> = inputs.iter().map(|i| Input::Host(i)).collect();
    let zeroed = |(_, n): (usize, usize)| x.value(n).and_then(|v| v.write(&vec![0; n]).map(|()| v));
    let vars = x.variables().into_iter().map(zeroed).collect::<Result<Vec<_>, _>>()?;
    let mut io = Io { inputs: &inputs, outputs: &mut outputs, vars: &vars, syms };
    x.execute(&mut io, None)?;
    let ends = x.ends(&io, false)?;
    let mut r = x.memory(syms)?;
    r.record(x, &ends)?;
    let mut found = Vec::new();
    for (step, launch) in x.program.launches.iter().enumerate() {
        let Some(launch) = launch else { continue };
        let times = |count: usize| -> Result<Option<f64>, GpuError> {
            let mut order = Order::new();
            for _ in 0..count {
                Layout { x, memory: &r.memory, ends: &ends }.launch(&plan.steps[step], launch, &of, &mut order)?;
            }
            if order.commands.is_empty() { Ok(None) } else { seconds(&x.device, &r.queue, &order.commands).map(Some) }
        };
        let (Some(once), Some(often)) = (times(1)?, times(1 + repeats.max(1))?) else { continue };
        let seconds = (often - once).max(0.0) / repeats.max(1) as f64;
        let layout = Layout { x, memory: &r.memory, ends: &ends };
        let (bytes, operations) = (moved(layout, step, &of)?, operations(&plan.steps[step].kind, &of));
        found.push(Profile { step, seconds, bytes, operations });
    }
    // What failed on repeated data is not of a run.
    r.clear_status();
    x.give_back(r);
    Ok(found)
}

/// The least that commands take, with the way to the device and back.
fn seconds<D: Driver>(device: &Arc<D>, queue: &D::Queue, commands: &[Command<D>]) -> Result<f64, GpuError> {
    let sequence = device.record(queue, commands)?;
    let mut least = f64::INFINITY;
    // The first times are of getting ready.
    for k in 0..TRIES + 2 {
        let start = Instant::now();
        device.run(queue, &[&sequence])?;
        if k >= 2 {
            least = least.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(least)
}

/// Bytes a second that copies of `bytes` bytes read and write.
///
/// # Errors
/// Those of the driver.
pub fn bandwidth<D: Driver>(device: &Arc<D>, bytes: u64) -> Result<f64, GpuError> {
    const REPEATS: usize = 10;
    let queue = device.queue()?;
    let (from, to) = (device.buffer(&queue, bytes, Purpose::Device)?, device.buffer(&queue, bytes, Purpose::Device)?);
    let times = |count: usize| {
        let copy = |k: usize| {
            let what = What::Copy { from: Span::of(&from, bytes), to: Span::of(&to, bytes) };
            Command { what, after: k.checked_sub(1).into_iter().collect(), node: "" }
        };
        seconds(device, &queue, &(0..count).map(copy).collect::<Vec<_>>())
    };
    let (once, often) = (times(1)?, times(1 + REPEATS)?);
    Ok(2.0 * (bytes as usize * REPEATS) as f64 / (often - once).max(f64::MIN_POSITIVE))
}

fn moved<D: Driver>(layout: Layout<D>, step: usize, of: &dyn Fn(&Sym) -> Option<i64>) -> Result<u64, GpuError> {
    let plan = &layout.x.program.plan;
    let step = &plan.steps[step];
    let mut places: Vec<(usize, u64, u64)> = Vec::new();
    for &b in step.reads.iter().chain(&step.writes) {
        let Span { buffer, from, bytes } = layout.span(b, of)?;
        // Packed constants are as large as their tensors, but for padding.
        let bytes = match plan.buffer(b).place {
            Place::Const(_) => plan.buffer(b).bytes().eval(&of).and_then(|n| u64::try_from(n).ok()).unwrap_or(bytes),
            _ => bytes,
        };
        places.push((std::ptr::from_ref(buffer).addr(), from, bytes));
    }
    places.sort_unstable();
    places.dedup();
    Ok(places.iter().map(|p| p.2).sum())
}

fn operations(kind: &StepKind, of: &dyn Fn(&Sym) -> Option<i64>) -> u64 {
    let StepKind::Kernel { symbol, args } = kind else { return 0 };
    let names: &[&str] = match *symbol {
        "gc_gemm_f32" => &["batch", "m", "n", "k"],
        "gc_conv2d_f32" => &["batch", "out_h", "out_w", "out_c", "k_h", "k_w", "in_c"],
        s if s.starts_with("gc_matmul_") => &["batch0", "batch1", "batch2", "m", "n", "k"],
        _ => return 0,
    };
    // A size that is absent or 0 stands for 1.
    let size = |name: &&str| match args.iter().find(|(n, _)| n == name) {
        Some((_, Arg::Int(d))) => d.eval(&of).and_then(|n| u64::try_from(n).ok()).unwrap_or(0).max(1),
        _ => 1,
    };
    let products: u64 = names.iter().map(size).product();
    let groups = if *symbol == "gc_conv2d_f32" { size(&"groups") } else { 1 };
    2 * products / groups
}

//! What a device can do at most: to compare kernels with.

use crate::build::{Build, V};
use crate::compile;
use crate::design::{Design, Spec};
use crate::device::Device;
use crate::error::GpuError;
use crate::target::{Cell, Factors, Flavour};
use graphc_cpu::CompileError;
use graphc_cpu::tape::code::Ty;
use graphc_ir::{Dim, Elem, Loc, Type};
use graphc_passes::plan::{Buf, Buffer, Place, Plan, Port, Step, StepKind};

/// Threads of a workgroup, and how many of those there are: more than any device runs at a time.
const THREADS: i64 = 256;
const GROUPS: i64 = 1024;
/// Sums that a thread has in flight, or of which its warp has fragments, and how often each grows.
const CHAINS: usize = 8;
const ROUNDS: i64 = 2048;
const FEW_ROUNDS: i64 = 16;
const REPEATS: usize = 4;

/// Multiplications and additions a second of factors in registers, as tensor cores do them where `factors` asks for that and they are there;
/// with `small` in so short a time that it says nothing.
///
/// # Errors
/// Those of the driver.
pub fn peak(device: &Device, factors: Factors, small: bool) -> Result<f64, CompileError> {
    let system = |e: GpuError| CompileError::System(e.to_string());
    let (flavour, ty) = (device.flavour(), Type::new(Elem::F32, vec![Dim::from(THREADS * GROUPS)]));
    let on_cores = factors != Factors::F32 && factors.within(flavour) == factors && matches!(flavour, Flavour::Ptx(_));
    let out = Buf(0);
    let kind = StepKind::Kernel { symbol: "gc_fill", args: Vec::new() };
    let step = Step { kind, reads: Vec::new(), writes: vec![out], in_place: Vec::new(), loc: Loc::default() };
    let plan = Plan {
        outputs: vec![Port { name: "y".into(), ty: ty.clone(), buf: out }],
        buffers: vec![Buffer { ty, place: Place::Output(0), loc: Loc::default() }],
        steps: vec![step],
        ..Plan::default()
    };
    let rounds = if small { FEW_ROUNDS } else { ROUNDS };
    let name = format!("peak {rounds} {:?} ", if on_cores { factors } else { Factors::F32 });
    let write = move |b: &mut Build<'_>, s: &Spec| sums(b, s, rounds, on_cores.then_some(factors));
    let design = Design::tasks(name, THREADS, Dim::from(GROUPS), write).buffer("y", out, Dim::ZERO);
    let program = compile::of_design(plan, &design, flavour)?;
    let x = device.load(program, 1)?;
    let seconds = x.profile(&[], &[], REPEATS).map_err(system)?.first().map_or(f64::NAN, |p| p.seconds);
    let each = match on_cores {
        // A fragment of sums a warp: 16 by 8, 8 words deep.
        true => 2.0 * (16 * 8 * 8 * factors.per_word()) as f64 / 32.0,
        false => 2.0,
    };
    Ok(each * (THREADS * GROUPS * rounds) as f64 * CHAINS as f64 / seconds)
}

/// Each thread's sums of products, and their total.
fn sums<'c>(b: &mut Build<'c>, s: &Spec, rounds: i64, factors: Option<Factors>) -> Result<(), String> {
    let out = s.buffer(b, "y", Cell::F32)?;
    let (thread, threads) = (b.thread(), b.i32(THREADS));
    let count = s.int(b, "count");
    b.tasks(count, |b, task| {
        let first = b.mul(task, threads);
        let at = b.add(first, thread);
        let x = b.unary("arith.sitofp", thread, Ty::F32);
        let (zero, end, one) = (b.i32(0), b.i32(rounds), b.i32(1));
        let registers = if factors.is_some() { 4 * CHAINS } else { CHAINS };
        let init: Vec<V> = (0..registers).map(|k| b.f32(k as f32)).collect();
        let sums = b.repeat(zero, end, one, &init, &mut |b, _, sums| match factors {
            Some(f) => {
                // Any bits do.
                let word = b.unary("arith.bitcast", x, Ty::I32);
                sums.chunks(4).flat_map(|sums| b.mma(f, &[word; 4], &[word; 2], sums)).collect()
            }
            None => {
                let half = b.f32(0.5);
                sums.iter().map(|&sum| b.fma(sum, half, x)).collect()
            }
        });
        let total = sums.iter().skip(1).fold(sums[0], |total, &v| b.add(total, v));
        out.store(b, at, total);
    });
    Ok(())
}

//! Programs on a device.

use super::flow::{Piece, pieces};
use super::memory::{Ends, STATUS_WORDS};
use super::profile::{Profile, profile};
use super::recorded::{Recorded, Recording};
use super::value::{DeviceValue, Lease, Traffic};
use super::{Command, Driver, Memory, Purpose, Span, What, kernels};
use crate::error::GpuError;
use crate::program::Program;
use graphc_abi::Status;
use graphc_cpu::{CompileError, Weights};
use graphc_ir::Sym;
use graphc_passes::plan::{Buf, ConstId, Place};
use std::sync::{Arc, Mutex, PoisonError};

/// Hears of launches: their steps, and the seconds that they took.
pub type Heard<'a> = &'a mut dyn FnMut(usize, f64);

/// A walk over the pieces of a run.
struct Walk<'r, 'h, D: Driver> {
    /// What is to run before anything is waited for.
    pending: Vec<&'r D::Sequence>,
    heard: Option<Heard<'h>>,
}

/// An input of a run.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Host(&'a [u8]),
    /// Read where it lies if that is on the device; else brought there.
    Device(&'a DeviceValue),
}

/// Where an output of a run goes.
pub enum Output<'a> {
    Host(&'a mut [u8]),
    /// It stays on the device.
    Device(&'a mut Option<DeviceValue>),
}

/// What a run reads and writes.
pub struct Io<'a, 'i, 'o> {
    /// In the order of the plan's ports, of the sizes that `syms` give; outputs too.
    pub inputs: &'a [Input<'i>],
    pub outputs: &'a mut [Output<'o>],
    /// In the order of [`Run::variables`], on the device; read and written.
    pub vars: &'a [DeviceValue],
    pub syms: &'a [i64],
}

/// A program on a device, whatever drives it. Any number of threads may run it at once.
pub trait Run: Send + Sync {
    fn program(&self) -> &Program;

    /// The variables that the program uses, by number, and the bytes of each.
    fn variables(&self) -> Vec<(usize, usize)>;

    /// Gives memory that no run uses back to the device.
    fn trim(&self);

    /// Memory for a value on the program's device, of unknown content.
    ///
    /// # Errors
    /// If there is not enough.
    fn value(&self, bytes: usize) -> Result<DeviceValue, GpuError>;

    /// Whether a value is on the program's device.
    fn holds(&self, value: &DeviceValue) -> bool;

    /// What has moved to and from the device since it was opened, by all that use it.
    fn traffic(&self) -> Traffic;

    /// Runs; tells of each launch, by its step, how many seconds it took by the device's clock, where that is wanted and the driver has one.
    ///
    /// # Errors
    /// If the device has not enough memory, the driver fails, or a launch does.
    fn execute(&self, io: &mut Io, heard: Option<Heard>) -> Result<(), GpuError>;

    /// As [`Run::execute`], from and to the host; `vars` are read and written.
    ///
    /// # Errors
    /// As there.
    fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], vars: &mut [&mut [u8]], syms: &[i64]) -> Result<(), GpuError> {
        self.run_on_host(inputs, outputs, vars, syms, None)
    }

    /// As [`Run::run`], timed.
    ///
    /// # Errors
    /// As there.
    fn run_timed(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        vars: &mut [&mut [u8]],
        syms: &[i64],
        heard: Heard,
    ) -> Result<(), GpuError> {
        self.run_on_host(inputs, outputs, vars, syms, Some(heard))
    }

    #[doc(hidden)]
    fn run_on_host(
        &self,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        vars: &mut [&mut [u8]],
        syms: &[i64],
        heard: Option<Heard>,
    ) -> Result<(), GpuError> {
        let inputs: Vec<Input> = inputs.iter().map(|i| Input::Host(i)).collect();
        let mut outputs: Vec<Output> = outputs.iter_mut().map(|o| Output::Host(o)).collect();
        let there = vars.iter().map(|v| self.value(v.len()).and_then(|there| there.write(v).map(|()| there)));
        let there = there.collect::<Result<Vec<DeviceValue>, _>>()?;
        self.execute(&mut Io { inputs: &inputs, outputs: &mut outputs, vars: &there, syms }, heard)?;
        vars.iter_mut().zip(&there).try_for_each(|(v, there)| there.read(v))
    }

    /// Runs once, and then measures each launch, repeated on what the run has left.
    ///
    /// # Errors
    /// As [`Run::run`].
    fn profile(&self, inputs: &[&[u8]], syms: &[i64], repeats: usize) -> Result<Vec<Profile>, GpuError>;
}

/// What sequences of commands refer to.
pub struct Loaded<D: Driver> {
    pub kernels: Vec<D::Kernel>,
    pub weights: D::Buffer,
}

/// A program with its kernels and weights on a device.
pub struct Executable<D: Driver> {
    pub(super) device: Arc<D>,
    pub(super) program: Program,
    pub(super) pieces: Vec<Piece>,
    pub(super) layout: Weights,
    /// Bytes of each constant.
    pub(super) packed: Vec<usize>,
    /// Memory of runs that ended; as many as there were runs at one time. Dropped before what it refers to.
    idle: Arc<Mutex<Vec<Recorded<D>>>>,
    pub(super) loaded: Arc<Loaded<D>>,
}

/// A run's memory, and the commands over it.
type Recall<'r, D> = (&'r Recorded<D>, &'r Recording<D>);

/// Offsets of buffers in the arena and among the weights are multiples of this.
const ALIGNMENT: u64 = graphc_abi::ALIGN as u64;

impl<D: Driver> Executable<D> {
    /// Loads kernels on `threads` threads and brings the weights to the device.
    ///
    /// # Errors
    /// If the device lacks what the program needs, or a constant does not hold what its layout says.
    pub fn new(device: Arc<D>, mut program: Program, threads: usize) -> Result<Executable<D>, CompileError> {
        let system = |e: GpuError| CompileError::System(e.to_string());
        let alignment = device.limits().alignment;
        if alignment > ALIGNMENT {
            return Err(CompileError::System(format!("the GPU wants buffers at multiples of {alignment} bytes")));
        }
        let pieces = pieces(&program.plan).map_err(CompileError::Invalid)?;
        let kernels = kernels(&device, &program, threads).map_err(system)?;
        let constants = program.packed.take();
        let layout = constants.as_ref().map_or_else(|| Weights::of(&program.plan), |c| c.layout.clone());
        let consts = std::mem::take(&mut program.plan.consts);
        let starts: Vec<usize> = (0..layout.count()).map(|k| layout.offset(ConstId(k as u32)) as usize).collect();
        let ends = starts.iter().skip(1).copied().chain([layout.bytes()]);
        let packed = starts.iter().zip(ends).map(|(from, to)| to - from).collect();
        let bytes = layout.allocated() as u64;
        let write = |host: &mut [u8]| match constants {
            Some(c) => {
                let all = (*c.bytes).as_ref();
                let n = host.len().min(all.len());
                host[..n].copy_from_slice(&all[..n]);
                host[n..].fill(0);
                Ok(())
            }
            None => {
                host.fill(0);
                layout.pack(consts, host, threads)
            }
        };
        let queue = device.queue().map_err(system)?;
        let mut weights = device.buffer(&queue, bytes, Purpose::Device).map_err(system)?;
        match weights.host_mut() {
            Some(host) => write(host)?,
            None => {
                let mut staging = device.buffer(&queue, bytes, Purpose::Host).map_err(system)?;
                let host =
                    staging.host_mut().ok_or_else(|| CompileError::System("the GPU has no memory that the host sees".into()))?;
                write(host)?;
                let what = What::Copy { from: Span::of(&staging, bytes), to: Span::of(&weights, bytes) };
                let upload = device.record(&queue, &[Command { what, after: Vec::new(), node: "" }]);
                upload.and_then(|upload| device.run(&queue, &[&upload])).map_err(system)?;
            }
        }
        let loaded = Arc::new(Loaded { kernels, weights });
        Ok(Executable { device, program, pieces, layout, packed, idle: Arc::default(), loaded })
    }

    /// Memory for a run of these sizes; goes back by [`Executable::give_back`].
    pub(super) fn memory(&self, syms: &[i64]) -> Result<Recorded<D>, GpuError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(k) = idle.iter().position(|r| r.syms == syms) {
            return Ok(idle.swap_remove(k));
        }
        // What was sized for others makes room.
        idle.clear();
        drop(idle);
        Recorded::new(self, syms)
    }

    pub(super) fn give_back(&self, r: Recorded<D>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(r);
    }

    /// The value of a symbol of the plan.
    pub(super) fn symbol(&self, s: &Sym, syms: &[i64]) -> Option<i64> {
        self.program.plan.syms.iter().position(|t| t == s).and_then(|k| syms.get(k).copied())
    }

    /// What inputs, outputs and variables of a run are on the device.
    ///
    /// # Errors
    /// If a variable is elsewhere.
    pub(super) fn ends(&self, io: &Io, timed: bool) -> Result<Ends<D>, GpuError> {
        let input = |i: &Input| match i {
            Input::Device(v) => v.on(&self.device).map(|p| p.buffer.clone()),
            Input::Host(_) => None,
        };
        let elsewhere = || GpuError::Lacks("a variable that is on it".into());
        let var =
            |((k, _), v): ((usize, usize), &DeviceValue)| v.on(&self.device).map(|p| (k, p.buffer.clone())).ok_or_else(elsewhere);
        Ok(Ends {
            inputs: io.inputs.iter().map(input).collect(),
            vars: self.variables().into_iter().zip(io.vars).map(var).collect::<Result<_, _>>()?,
            stay: io.outputs.iter().map(|o| matches!(o, Output::Device(_))).collect(),
            timed,
        })
    }

    fn run_in(&self, r: &mut Recorded<D>, ends: &Ends<D>, io: &mut Io, heard: Option<Heard>) -> Result<(), GpuError> {
        let k = r.record(self, ends)?;
        for ((own, from), _) in r.memory.inputs.iter_mut().zip(io.inputs).zip(&ends.inputs).filter(|(_, bound)| bound.is_none()) {
            let Some(to) = own else { continue };
            self.device.counters().up.add(to.bytes);
            match from {
                Input::Host(from) => fill(to.host_mut()?, from),
                Input::Device(from) => from.read(to.host_mut()?)?,
            }
        }
        r.clear_status();
        let recording = r.recording(k);
        let mut walk = Walk { pending: recording.before.iter().collect(), heard };
        self.pieces(&self.pieces, (r, recording), &mut walk)?;
        walk.pending.extend(&recording.after);
        self.wait((r, recording), &mut walk)?;
        for (from, to) in r.memory.outputs.iter().zip(io.outputs.iter_mut()) {
            if let Output::Host(to) = to {
                self.device.counters().down.add(to.len());
                fill(to, from.host()?);
            }
        }
        Ok(())
    }

    fn pieces<'r>(&self, pieces: &[Piece], r: Recall<'r, D>, walk: &mut Walk<'r, '_, D>) -> Result<(), GpuError> {
        for p in pieces {
            match p {
                Piece::Block(range) => walk.pending.extend(r.1.blocks.get(&range.start)),
                Piece::If { cond, yes, no } => {
                    let way = if self.is_true(*cond, r, walk)? { yes } else { no };
                    self.pieces(way, r, walk)?;
                }
                Piece::While { test, cond, body } => loop {
                    self.pieces(test, r, walk)?;
                    if !self.is_true(*cond, r, walk)? {
                        break;
                    }
                    self.pieces(body, r, walk)?;
                },
            }
        }
        Ok(())
    }

    /// How long the launches of these sequences took.
    fn tell(&self, r: &Recording<D>, sequences: &[&D::Sequence], heard: &mut dyn FnMut(usize, f64)) -> Result<(), GpuError> {
        for s in sequences {
            let block = r.blocks.iter().find(|(_, b)| std::ptr::eq(*b, *s));
            let Some(steps) = block.and_then(|(start, _)| r.steps.get(start)) else { continue };
            let times = self.device.times(s)?;
            steps.iter().zip(times).filter_map(|(step, t)| Some(((*step)?, t))).for_each(|(step, t)| heard(step, t));
        }
        Ok(())
    }

    /// Runs what is pending, and reads a condition.
    fn is_true<'r>(&self, cond: Buf, r: Recall<'r, D>, walk: &mut Walk<'r, '_, D>) -> Result<bool, GpuError> {
        walk.pending.extend(r.1.conds.get(&cond));
        self.wait(r, walk)?;
        Ok(r.0.memory.cond.host().and_then(|h| h.first()).is_some_and(|&b| b != 0))
    }

    /// Runs what is pending, and finds out whether a launch failed.
    fn wait(&self, r: Recall<D>, walk: &mut Walk<D>) -> Result<(), GpuError> {
        if !walk.pending.is_empty() {
            self.device.run(&r.0.queue, &walk.pending)?;
            if let Some(heard) = &mut walk.heard {
                self.tell(r.1, &walk.pending, heard)?;
            }
            walk.pending.clear();
        }
        let word = |k: usize| {
            let bytes = r.0.memory.status.host().and_then(|h| h.get(4 * k..4 * k + 4)).and_then(|b| b.try_into().ok());
            i32::from_le_bytes(bytes.unwrap_or_default())
        };
        let words: [i32; STATUS_WORDS] = std::array::from_fn(word);
        match words {
            [0, ..] => Ok(()),
            [code, launch, value, bound] => Err(GpuError::Launch {
                status: Status::from_code(code),
                step: usize::try_from(launch - 1).unwrap_or(0),
                value: i64::from(value),
                bound: i64::from(bound),
            }),
        }
    }
}

impl<D: Driver> Run for Executable<D> {
    fn program(&self) -> &Program {
        &self.program
    }

    fn variables(&self) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for b in &self.program.plan.buffers {
            if let Place::Var(v) = b.place
                && found.iter().all(|(n, _)| *n != v.index())
            {
                found.push((v.index(), b.bytes().as_const().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)));
            }
        }
        found
    }

    fn trim(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn value(&self, bytes: usize) -> Result<DeviceValue, GpuError> {
        super::value(&self.device, bytes)
    }

    fn holds(&self, value: &DeviceValue) -> bool {
        value.on(&self.device).is_some()
    }

    fn traffic(&self) -> Traffic {
        self.device.counters().traffic()
    }

    fn execute(&self, io: &mut Io, heard: Option<Heard>) -> Result<(), GpuError> {
        let ends = self.ends(io, heard.is_some())?;
        let stay = ends.stay.contains(&true);
        // Timed commands are of this run alone.
        let mut r = if ends.timed { Recorded::new(self, io.syms)? } else { self.memory(io.syms)? };
        let result = self.run_in(&mut r, &ends, io, heard);
        if stay && result.is_ok() {
            let outputs: Vec<_> = r.memory.outputs.iter().map(|t| (t.device.clone(), t.bytes)).collect();
            let lease = Lease::new(r, &self.idle, self.loaded.clone());
            for (k, (to, (buffer, bytes))) in io.outputs.iter_mut().zip(outputs).enumerate() {
                if let Output::Device(to) = to {
                    **to = Some(Lease::output(&lease, &self.device, buffer, k, bytes));
                }
            }
        } else if !ends.timed {
            self.give_back(r);
        }
        result
    }

    fn profile(&self, inputs: &[&[u8]], syms: &[i64], repeats: usize) -> Result<Vec<Profile>, GpuError> {
        profile(self, inputs, syms, repeats)
    }
}

/// As much of `from` as there is room for.
fn fill(to: &mut [u8], from: &[u8]) {
    let n = to.len().min(from.len());
    to[..n].copy_from_slice(&from[..n]);
}

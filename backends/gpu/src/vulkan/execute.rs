//! Programs on a device.

use super::device::Device;
use super::flow::{Piece, pieces};
use super::memory::{Buffer, Purpose};
use super::pipeline::{Pipeline, pipelines};
use super::record::{Recorded, STATUS_WORDS};
use crate::error::GpuError;
use crate::program::Program;
use ash::vk;
use graphc_abi::Status;
use graphc_cpu::{CompileError, Weights};
use graphc_passes::plan::{Buf, Place};
use std::sync::{Arc, Mutex, PoisonError};

/// A plan that runs on a device, with its weights there. Any number of threads may run it at once.
pub struct Executable {
    pub(super) device: Arc<Device>,
    pub(super) program: Program,
    pub(super) pieces: Vec<Piece>,
    pub(super) pipelines: Vec<Pipeline>,
    pub(super) weights: Buffer,
    pub(super) layout: Weights,
    /// Bytes of each constant.
    pub(super) packed: Vec<usize>,
    /// Memory of runs that ended; as many as there were runs at one time.
    idle: Mutex<Vec<Recorded>>,
}

/// Offsets of buffers in the arena and among the weights are multiples of this.
const ALIGNMENT: u64 = graphc_abi::ALIGN as u64;

impl Executable {
    /// Makes pipelines on `threads` threads and brings the weights to the device.
    ///
    /// # Errors
    /// If the device lacks what the program needs, or a constant does not hold what its layout says.
    pub fn new(device: Arc<Device>, mut program: Program, threads: usize) -> Result<Executable, CompileError> {
        let system = |e: GpuError| CompileError::System(e.to_string());
        if device.limits.alignment > ALIGNMENT {
            return Err(CompileError::System(format!("the GPU wants buffers at multiples of {} bytes", device.limits.alignment)));
        }
        let pieces = pieces(&program.plan).map_err(CompileError::Invalid)?;
        let pipelines = pipelines(&device, &program.kernels, threads).map_err(system)?;
        let layout = Weights::of(&program.plan);
        let consts = std::mem::take(&mut program.plan.consts);
        let mut ends: Vec<usize> =
            (1..consts.len()).map(|k| layout.offset(graphc_passes::plan::ConstId(k as u32)) as usize).collect();
        ends.push(layout.bytes());
        let starts = (0..consts.len()).map(|k| layout.offset(graphc_passes::plan::ConstId(k as u32)) as usize);
        let packed = starts.zip(ends).map(|(from, to)| to - from).collect();
        let mut weights = Buffer::new(&device, layout.allocated() as u64, Purpose::Device).map_err(system)?;
        match weights.host_mut() {
            Some(host) => {
                host.fill(0);
                layout.pack(consts, host, threads)?;
            }
            None => {
                let mut staging = Buffer::new(&device, layout.allocated() as u64, Purpose::Host).map_err(system)?;
                let host =
                    staging.host_mut().ok_or_else(|| CompileError::System("the GPU has no memory that the host sees".into()))?;
                host.fill(0);
                layout.pack(consts, host, threads)?;
                copy(&device, &staging, &weights).map_err(system)?;
            }
        }
        Ok(Executable { device, program, pieces, pipelines, weights, layout, packed, idle: Mutex::default() })
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The variables that the program uses, by number, and the bytes of each.
    pub fn variables(&self) -> Vec<(usize, usize)> {
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

    /// Gives memory that no run uses back to the device.
    pub fn trim(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs: inputs and outputs in the order of the plan's ports, of the sizes that `syms` give; `vars` in the order of
    /// [`Executable::variables`], read and written.
    ///
    /// # Errors
    /// If the device has not enough memory, the driver fails, or a launch does.
    pub fn run(&self, inputs: &[&[u8]], outputs: &mut [&mut [u8]], vars: &mut [&mut [u8]], syms: &[i64]) -> Result<(), GpuError> {
        let mut r = self.memory(syms)?;
        let result = self.run_in(&mut r, inputs, outputs, vars);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(r);
        result
    }

    fn memory(&self, syms: &[i64]) -> Result<Recorded, GpuError> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(k) = idle.iter().position(|r| r.syms == syms) {
            return Ok(idle.swap_remove(k));
        }
        // What was sized for others makes room.
        idle.clear();
        drop(idle);
        Recorded::new(self, syms)
    }

    fn run_in(
        &self,
        r: &mut Recorded,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        vars: &mut [&mut [u8]],
    ) -> Result<(), GpuError> {
        for (to, from) in r.inputs.iter_mut().zip(inputs) {
            fill(to.host_mut(), from);
        }
        for ((_, to), from) in r.vars.iter_mut().zip(vars.iter()) {
            fill(to.host_mut(), from);
        }
        if let Some(words) = r.status.host_mut() {
            words.fill(0);
        }
        let mut pending: Vec<vk::CommandBuffer> = r.before.into_iter().collect();
        self.pieces(&self.pieces, r, &mut pending)?;
        pending.extend(r.after);
        self.wait(r, &mut pending)?;
        for (from, to) in r.outputs.iter().zip(outputs) {
            fill(to, from.host());
        }
        for ((_, from), to) in r.vars.iter().zip(vars) {
            fill(to, from.host());
        }
        Ok(())
    }

    fn pieces(&self, pieces: &[Piece], r: &Recorded, pending: &mut Vec<vk::CommandBuffer>) -> Result<(), GpuError> {
        for p in pieces {
            match p {
                Piece::Block(range) => pending.extend(r.blocks.get(&range.start)),
                Piece::If { cond, yes, no } => {
                    let way = if self.holds(*cond, r, pending)? { yes } else { no };
                    self.pieces(way, r, pending)?;
                }
                Piece::While { test, cond, body } => loop {
                    self.pieces(test, r, pending)?;
                    if !self.holds(*cond, r, pending)? {
                        break;
                    }
                    self.pieces(body, r, pending)?;
                },
            }
        }
        Ok(())
    }

    /// Runs what is pending, and reads a condition.
    fn holds(&self, cond: Buf, r: &Recorded, pending: &mut Vec<vk::CommandBuffer>) -> Result<bool, GpuError> {
        pending.extend(r.conds.get(&cond));
        self.wait(r, pending)?;
        Ok(r.cond.host().and_then(|h| h.first()).is_some_and(|&b| b != 0))
    }

    /// Runs what is pending, and finds out whether a launch failed.
    fn wait(&self, r: &Recorded, pending: &mut Vec<vk::CommandBuffer>) -> Result<(), GpuError> {
        if !pending.is_empty() {
            self.device.submit(pending, r.fence)?;
            pending.clear();
        }
        let word = |k: usize| {
            let bytes = r.status.host().and_then(|h| h.get(4 * k..4 * k + 4)).and_then(|b| b.try_into().ok());
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

/// As much of `from` as there is room for.
fn fill(to: &mut [u8], from: &[u8]) {
    let n = to.len().min(from.len());
    to[..n].copy_from_slice(&from[..n]);
}

/// Copies all of a buffer, and waits for it.
fn copy(device: &Arc<Device>, from: &Buffer, to: &Buffer) -> Result<(), GpuError> {
    super::record::once(device, |d, c| {
        let copy = vk::BufferCopy { src_offset: 0, dst_offset: 0, size: from.bytes().min(to.bytes()) };
        // SAFETY: both buffers are alive until the copy is done, and as large.
        unsafe { d.cmd_copy_buffer(c, from.buffer, to.buffer, &[copy]) };
    })
}

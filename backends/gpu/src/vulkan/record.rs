//! A run's memory and its recorded commands, for one set of sizes.

use super::device::{Device, failed};
use super::execute::Executable;
use super::flow::parts;
use super::memory::{Buffer, Purpose};
use crate::build::Binding;
use crate::error::GpuError;
use ash::vk;
use graphc_ir::{Dim, Sym};
use graphc_passes::plan::{Buf, Place};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Words that a failing kernel writes: see [`Binding::Status`].
pub const STATUS_WORDS: usize = 4;

/// Memory of a run and what is recorded over it. Of one run at a time.
pub struct Recorded {
    pub syms: Vec<i64>,
    arena: Buffer,
    pub inputs: Vec<Transfer>,
    pub outputs: Vec<Transfer>,
    /// Variables by their numbers.
    pub vars: Vec<(usize, Transfer)>,
    params: Buffer,
    pub status: Buffer,
    /// A condition, where the host reads it.
    pub cond: Buffer,
    commands: Commands,
    /// Copies from the host's memory, where there are any.
    pub before: Option<vk::CommandBuffer>,
    pub after: Option<vk::CommandBuffer>,
    pub blocks: HashMap<usize, vk::CommandBuffer>,
    pub conds: HashMap<Buf, vk::CommandBuffer>,
    pub fence: vk::Fence,
}

/// A buffer of the device that the host fills or reads: straight, or through one that it sees.
pub struct Transfer {
    pub device: Buffer,
    staging: Option<Buffer>,
    pub bytes: usize,
}

impl Transfer {
    fn new(device: &Arc<Device>, bytes: usize) -> Result<Transfer, GpuError> {
        let on_device = Buffer::new(device, bytes as u64, Purpose::Device)?;
        let staging = match on_device.host() {
            Some(_) => None,
            None => Some(Buffer::new(device, bytes as u64, Purpose::Host)?),
        };
        Ok(Transfer { device: on_device, staging, bytes })
    }

    pub fn host(&self) -> &[u8] {
        let all = self.staging.as_ref().unwrap_or(&self.device).host().unwrap_or_default();
        &all[..self.bytes.min(all.len())]
    }

    pub fn host_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        let all = self.staging.as_mut().unwrap_or(&mut self.device).host_mut().unwrap_or_default();
        let bytes = bytes.min(all.len());
        &mut all[..bytes]
    }
}

/// Pools of descriptors and commands.
struct Commands {
    device: Arc<Device>,
    sets: vk::DescriptorPool,
    commands: vk::CommandPool,
    fence: vk::Fence,
}

impl Drop for Commands {
    fn drop(&mut self) {
        // SAFETY: a run has ended before its memory is dropped; null handles are ignored.
        unsafe {
            let d = &self.device.device;
            d.destroy_fence(self.fence, None);
            d.destroy_descriptor_pool(self.sets, None);
            d.destroy_command_pool(self.commands, None);
        }
    }
}

/// Bytes of the memory that a kernel sees of a buffer.
#[derive(Clone, Copy, Debug)]
struct Span {
    buffer: vk::Buffer,
    from: u64,
    bytes: u64,
}

impl Span {
    fn overlaps(&self, o: &Span) -> bool {
        self.buffer == o.buffer && self.from < o.from + o.bytes && o.from < self.from + self.bytes
    }
}

impl Recorded {
    /// Memory and commands for sizes `syms`.
    ///
    /// # Errors
    /// If the device has not enough memory, or a buffer is larger than kernels can see.
    pub fn new(x: &Executable, syms: &[i64]) -> Result<Recorded, GpuError> {
        let (plan, device) = (&x.program.plan, &x.device);
        let of = |s: &Sym| plan.syms.iter().position(|t| t == s).and_then(|k| syms.get(k).copied());
        let size = |d: &Dim| {
            let n = d.eval(&of).and_then(|n| u64::try_from(n).ok());
            n.ok_or_else(|| GpuError::Lacks("memory for sizes that are beyond all bounds".into()))
        };
        let bytes_of = |b: Buf| size(&plan.buffer(b).bytes()).map(|n| n as usize);
        let arena = Buffer::new(device, size(&plan.arena)?, Purpose::Device)?;
        let port = |buf: Buf| Transfer::new(device, bytes_of(buf)?);
        let inputs = plan.inputs.iter().map(|p| port(p.buf)).collect::<Result<Vec<_>, _>>()?;
        let outputs = plan.outputs.iter().map(|p| port(p.buf)).collect::<Result<Vec<_>, _>>()?;
        let mut vars: Vec<(usize, Transfer)> = Vec::new();
        for (k, b) in plan.buffers.iter().enumerate() {
            if let Place::Var(v) = b.place
                && vars.iter().all(|(n, _)| *n != v.index())
            {
                vars.push((v.index(), port(Buf(k as u32))?));
            }
        }
        let launches = || x.program.launches.iter().flatten();
        let words: usize = launches().map(|l| params_bytes(l.params.len(), device)).sum();
        let params = Buffer::new(device, words as u64, Purpose::Host)?;
        let status = Buffer::new(device, 4 * STATUS_WORDS as u64, Purpose::Host)?;
        let cond = Buffer::new(device, 16, Purpose::Host)?;
        let bindings = launches().map(|l| x.program.kernels[l.kernel].bindings.len()).sum();
        let commands = Commands::new(device, launches().count(), bindings)?;
        let fence = commands.fence;
        let (before, after, blocks, conds) = (None, None, HashMap::new(), HashMap::new());
        let syms = syms.to_vec();
        let mut r =
            Recorded { syms, arena, inputs, outputs, vars, params, status, cond, commands, before, after, blocks, conds, fence };
        r.before = r.transfers(true)?;
        r.after = r.transfers(false)?;
        let (mut ranges, mut conds) = (Vec::new(), Vec::new());
        parts(&x.pieces, &mut |range| ranges.push(range.clone()), &mut |c| conds.push(c));
        let mut next_params = 0;
        for range in ranges {
            let (start, commands) = (range.start, r.block(x, range, &of, &mut next_params)?);
            r.blocks.insert(start, commands);
        }
        for c in conds {
            if !r.conds.contains_key(&c) {
                let span = r.span(x, c, &of)?;
                let copy = vk::BufferCopy { src_offset: span.from, dst_offset: 0, size: 1 };
                let commands = r.commands.record(|d, c| {
                    barrier(d, c);
                    // SAFETY: both buffers are alive and as large.
                    unsafe { d.cmd_copy_buffer(c, span.buffer, r.cond.buffer, &[copy]) };
                    to_host(d, c);
                })?;
                r.conds.insert(c, commands);
            }
        }
        Ok(r)
    }

    /// Where a buffer of the plan lies.
    fn span(&self, x: &Executable, b: Buf, of: &dyn Fn(&Sym) -> Option<i64>) -> Result<Span, GpuError> {
        let plan = &x.program.plan;
        let buffer = plan.buffer(b);
        let unknown = || GpuError::Lacks(format!("a size for the result of node {:?}", buffer.loc.name()));
        let value = |d: &Dim| d.eval(of).and_then(|n| u64::try_from(n).ok()).ok_or_else(unknown);
        let bytes = value(&buffer.bytes())?;
        let (memory, from) = match &buffer.place {
            Place::Arena { offset } => (&self.arena, value(offset)?),
            Place::Input(k) => (&self.inputs[*k].device, 0),
            Place::Output(k) => (&self.outputs[*k].device, 0),
            Place::Const(c) => (&x.weights, u64::try_from(x.layout.offset(*c)).map_err(|_| unknown())?),
            Place::Var(v) => {
                let found = self.vars.iter().find(|(n, _)| *n == v.index()).ok_or_else(unknown)?;
                (&found.1.device, 0)
            }
            Place::View { of: outer, offset } => {
                let span = self.span(x, *outer, of)?;
                let from = span.from + value(offset)? * buffer.ty.elem.size() as u64;
                return Ok(Span { from, bytes, ..span });
            }
            Place::Unplaced => return Err(unknown()),
        };
        let bytes = match &buffer.place {
            // Packed constants are larger than their tensors.
            Place::Const(c) => x.packed[c.index()] as u64,
            _ => bytes,
        };
        Ok(Span { buffer: memory.buffer, from, bytes })
    }

    /// Copies between the host's memory and the device's; none if they are the same.
    fn transfers(&self, up: bool) -> Result<Option<vk::CommandBuffer>, GpuError> {
        let ports = if up { &self.inputs } else { &self.outputs };
        let all = ports.iter().chain(self.vars.iter().map(|(_, t)| t));
        let copies: Vec<_> = all.filter_map(|t| Some((t.staging.as_ref()?, &t.device, t.bytes))).filter(|c| c.2 > 0).collect();
        if copies.is_empty() {
            return Ok(None);
        }
        let commands = self.commands.record(|d, c| {
            barrier(d, c);
            for (host, device, bytes) in copies {
                let (from, to) = if up { (host, device) } else { (device, host) };
                let copy = vk::BufferCopy { src_offset: 0, dst_offset: 0, size: bytes as u64 };
                // SAFETY: both buffers are alive and as large.
                unsafe { d.cmd_copy_buffer(c, from.buffer, to.buffer, &[copy]) };
            }
            if !up {
                to_host(d, c);
            }
        })?;
        Ok(Some(commands))
    }

    /// The commands of the launches of some steps.
    fn block(
        &mut self,
        x: &Executable,
        steps: Range<usize>,
        of: &dyn Fn(&Sym) -> Option<i64>,
        next: &mut usize,
    ) -> Result<vk::CommandBuffer, GpuError> {
        /// A launch with all that its recording needs.
        struct Ready {
            kernel: usize,
            set: vk::DescriptorSet,
            groups: u32,
            /// Whether it waits for what is before it.
            waits: bool,
        }
        let (plan, device) = (&x.program.plan, x.device.clone());
        let mut ready = Vec::new();
        // What was read and written since the last barrier.
        let (mut reads, mut writes): (Vec<Span>, Vec<Span>) = Default::default();
        for i in steps {
            let (step, Some(l)) = (&plan.steps[i], &x.program.launches[i]) else { continue };
            let at_node = |e: GpuError| match e {
                GpuError::Driver { call, why, .. } => GpuError::Driver { call, why, node: step.loc.name().to_owned() },
                GpuError::Lacks(what) => GpuError::Lacks(format!("{what} (at node {:?})", step.loc.name())),
                e => e,
            };
            let value = |d: &Dim| d.eval(of).ok_or_else(|| at_node(GpuError::Lacks("a size that is known".into())));
            let groups = value(&l.groups)?;
            if groups <= 0 {
                continue;
            }
            let groups = groups.min(i64::from(x.device.limits.groups)) as u32;
            let span = |b: Buf| self.span(x, b, of).map_err(at_node);
            let spans = |bufs: &[Buf]| bufs.iter().map(|&b| span(b)).collect::<Result<Vec<_>, _>>();
            let (reading, writing, seen) = (spans(&step.reads)?, spans(&step.writes)?, spans(&l.buffers)?);
            for (s, &b) in seen.iter().zip(&l.buffers) {
                if s.bytes > x.device.limits.range || s.bytes / plan.buffer(b).ty.elem.size().max(1) as u64 > i32::MAX as u64 {
                    return Err(at_node(GpuError::Lacks(format!("kernels over {} bytes of one buffer", s.bytes))));
                }
            }
            let waits = writing.iter().any(|w| reads.iter().chain(&writes).any(|o| o.overlaps(w)))
                || reading.iter().any(|r| writes.iter().any(|o| o.overlaps(r)));
            if waits {
                reads.clear();
                writes.clear();
            }
            reads.extend(reading);
            writes.extend(writing);
            // Parameters.
            let from = *next;
            *next += params_bytes(l.params.len(), &device);
            for (k, p) in l.params.iter().enumerate() {
                let v = value(p)?;
                let word = i32::try_from(v).map_err(|_| at_node(GpuError::Lacks(format!("sizes beyond 32 bits: {v}"))))?;
                let at = from + 4 * k;
                let bytes = self.params.host_mut().and_then(|h| h.get_mut(at..at + 4));
                bytes.ok_or_else(|| GpuError::Lacks("memory for parameters".into()))?.copy_from_slice(&word.to_le_bytes());
            }
            let code = &x.program.kernels[l.kernel];
            let set = self.commands.set(x.pipelines[l.kernel].set).map_err(at_node)?;
            let infos: Vec<[vk::DescriptorBufferInfo; 1]> = code
                .bindings
                .iter()
                .map(|b| {
                    let span = match b {
                        Binding::Buffer(k) => seen[*k as usize],
                        Binding::Params => Span { buffer: self.params.buffer, from: from as u64, bytes: 4 * l.params.len() as u64 },
                        Binding::Status => Span { buffer: self.status.buffer, from: 0, bytes: 4 * STATUS_WORDS as u64 },
                    };
                    [vk::DescriptorBufferInfo {
                        buffer: span.buffer,
                        offset: span.from,
                        range: span.bytes.max(4).next_multiple_of(4),
                    }]
                })
                .collect();
            let updates: Vec<_> = (0u32..)
                .zip(&infos)
                .map(|(k, info)| {
                    let w = vk::WriteDescriptorSet::default().dst_set(set).dst_binding(k);
                    w.descriptor_type(vk::DescriptorType::STORAGE_BUFFER).buffer_info(info)
                })
                .collect();
            // SAFETY: the set is not in use, and what it refers to lives as long as `self` and `x`.
            unsafe { device.device.update_descriptor_sets(&updates, &[]) };
            ready.push(Ready { kernel: l.kernel, set, groups, waits });
        }
        self.commands.record(|d, c| {
            barrier(d, c);
            for l in &ready {
                if l.waits {
                    barrier(d, c);
                }
                let p = &x.pipelines[l.kernel];
                // SAFETY: the pipeline, its layout and the set are alive as long as the commands, and fit one another.
                unsafe {
                    d.cmd_bind_pipeline(c, vk::PipelineBindPoint::COMPUTE, p.pipeline);
                    d.cmd_bind_descriptor_sets(c, vk::PipelineBindPoint::COMPUTE, p.layout, 0, &[l.set], &[]);
                    d.cmd_dispatch(c, l.groups, 1, 1);
                }
            }
            to_host(d, c);
        })
    }
}

/// Bytes of the parameters of a launch, so that the next begin where a buffer may.
fn params_bytes(count: usize, device: &Device) -> usize {
    (4 * count).next_multiple_of(device.limits.alignment.max(16) as usize)
}

/// What comes after sees all that was written before.
fn barrier(d: &ash::Device, c: vk::CommandBuffer) {
    let stages = vk::PipelineStageFlags::COMPUTE_SHADER | vk::PipelineStageFlags::TRANSFER;
    let all = vk::AccessFlags::SHADER_READ
        | vk::AccessFlags::SHADER_WRITE
        | vk::AccessFlags::TRANSFER_READ
        | vk::AccessFlags::TRANSFER_WRITE;
    let memory = [vk::MemoryBarrier::default().src_access_mask(all).dst_access_mask(all)];
    // SAFETY: the command buffer is being recorded.
    unsafe { d.cmd_pipeline_barrier(c, stages, stages, vk::DependencyFlags::empty(), &memory, &[], &[]) };
}

/// The host sees all that was written before, once it has waited.
fn to_host(d: &ash::Device, c: vk::CommandBuffer) {
    let stages = vk::PipelineStageFlags::COMPUTE_SHADER | vk::PipelineStageFlags::TRANSFER;
    let written = vk::AccessFlags::SHADER_WRITE | vk::AccessFlags::TRANSFER_WRITE;
    let memory = [vk::MemoryBarrier::default().src_access_mask(written).dst_access_mask(vk::AccessFlags::HOST_READ)];
    // SAFETY: as above.
    unsafe { d.cmd_pipeline_barrier(c, stages, vk::PipelineStageFlags::HOST, vk::DependencyFlags::empty(), &memory, &[], &[]) };
}

/// Runs commands once, and waits for them.
///
/// # Errors
/// Those of the driver.
pub fn once(device: &Arc<Device>, body: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Result<(), GpuError> {
    let commands = Commands::new(device, 1, 1)?;
    let c = commands.record(body)?;
    device.submit(&[c], commands.fence)
}

impl Commands {
    /// Pools with room for so many sets and bindings.
    fn new(device: &Arc<Device>, sets: usize, bindings: usize) -> Result<Commands, GpuError> {
        let d = &device.device;
        let mut made = Commands {
            device: device.clone(),
            sets: vk::DescriptorPool::null(),
            commands: vk::CommandPool::null(),
            fence: vk::Fence::null(),
        };
        let sizes = [vk::DescriptorPoolSize { ty: vk::DescriptorType::STORAGE_BUFFER, descriptor_count: bindings.max(1) as u32 }];
        let pool = vk::DescriptorPoolCreateInfo::default().max_sets(sets.max(1) as u32).pool_sizes(&sizes);
        let commands = vk::CommandPoolCreateInfo::default().queue_family_index(device.family);
        // SAFETY: the structures are valid for the calls; what was made belongs to `made`.
        unsafe {
            made.sets = d.create_descriptor_pool(&pool, None).map_err(failed("vkCreateDescriptorPool"))?;
            made.commands = d.create_command_pool(&commands, None).map_err(failed("vkCreateCommandPool"))?;
            made.fence = d.create_fence(&vk::FenceCreateInfo::default(), None).map_err(failed("vkCreateFence"))?;
        }
        Ok(made)
    }

    fn set(&self, layout: vk::DescriptorSetLayout) -> Result<vk::DescriptorSet, GpuError> {
        let layouts = [layout];
        let allocate = vk::DescriptorSetAllocateInfo::default().descriptor_pool(self.sets).set_layouts(&layouts);
        // SAFETY: the pool is alive and used by nobody else meanwhile.
        let sets = unsafe { self.device.device.allocate_descriptor_sets(&allocate) }.map_err(failed("vkAllocateDescriptorSets"))?;
        Ok(sets.first().copied().unwrap_or_default())
    }

    /// A command buffer that can be submitted again and again.
    fn record(&self, body: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Result<vk::CommandBuffer, GpuError> {
        let d = &self.device.device;
        let allocate = vk::CommandBufferAllocateInfo::default().command_pool(self.commands).command_buffer_count(1);
        // SAFETY: the pool is alive and used by nobody else meanwhile.
        unsafe {
            let c = d.allocate_command_buffers(&allocate).map_err(failed("vkAllocateCommandBuffers"))?[0];
            d.begin_command_buffer(c, &vk::CommandBufferBeginInfo::default()).map_err(failed("vkBeginCommandBuffer"))?;
            body(d, c);
            d.end_command_buffer(c).map_err(failed("vkEndCommandBuffer"))?;
            Ok(c)
        }
    }
}

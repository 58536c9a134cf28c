//! Commands, recorded into command buffers.

use super::device::{Device, failed};
use super::memory::Buffer;
use super::pipeline::Pipeline;
use crate::code::Code;
use crate::error::GpuError;
use crate::run::{Argument, Command, Counters, Driver, Limits, Memory, Purpose, What};
use ash::vk;
use std::sync::Arc;

/// What waits for a run's commands.
pub struct Queue {
    device: Arc<Device>,
    fence: vk::Fence,
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: nothing is submitted with the fence.
        unsafe { self.device.device.destroy_fence(self.fence, None) };
    }
}

/// A command buffer that can be submitted again and again, and what it needs.
pub struct Sequence {
    device: Arc<Device>,
    sets: vk::DescriptorPool,
    pool: vk::CommandPool,
    commands: vk::CommandBuffer,
    /// Times before and after each command, if they are wanted.
    clock: Option<Clock>,
    /// The parameters of its launches.
    _params: Option<Buffer>,
}

/// Times that a sequence writes: two a command.
#[derive(Clone, Copy)]
struct Clock {
    pool: vk::QueryPool,
    count: u32,
}

impl Drop for Sequence {
    fn drop(&mut self) {
        // SAFETY: a run has ended before its sequences are dropped; null handles are ignored.
        unsafe {
            let d = &self.device.device;
            d.destroy_query_pool(self.clock.map_or(vk::QueryPool::null(), |c| c.pool), None);
            d.destroy_descriptor_pool(self.sets, None);
            d.destroy_command_pool(self.pool, None);
        }
    }
}

impl Driver for Device {
    type Buffer = Buffer;
    type Kernel = Pipeline;
    type Queue = Queue;
    type Sequence = Sequence;

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn queue(self: &Arc<Self>) -> Result<Queue, GpuError> {
        // SAFETY: the structure is valid for the call.
        let fence = unsafe { self.device.create_fence(&vk::FenceCreateInfo::default(), None) };
        Ok(Queue { device: self.clone(), fence: fence.map_err(failed("vkCreateFence"))? })
    }

    fn buffer(self: &Arc<Self>, _queue: &Queue, bytes: u64, purpose: Purpose) -> Result<Buffer, GpuError> {
        Buffer::new(self, bytes, purpose)
    }

    fn kernel(self: &Arc<Self>, code: &Code) -> Result<Pipeline, GpuError> {
        Pipeline::new(self, code)
    }

    fn record(self: &Arc<Self>, _queue: &Queue, commands: &[Command<Self>]) -> Result<Sequence, GpuError> {
        self.recorded(commands, false)
    }

    fn record_timed(self: &Arc<Self>, _queue: &Queue, commands: &[Command<Self>]) -> Result<Sequence, GpuError> {
        self.recorded(commands, true)
    }

    fn times(&self, sequence: &Sequence) -> Result<Vec<f64>, GpuError> {
        let Some(Clock { pool, count }) = sequence.clock else { return Ok(Vec::new()) };
        let mut ticks = vec![0u64; count as usize];
        let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
        // SAFETY: the pool has so many queries, which the last run wrote.
        unsafe { self.device.get_query_pool_results(pool, 0, &mut ticks, flags) }.map_err(failed("vkGetQueryPoolResults"))?;
        Ok(ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0]) as f64 * self.tick).collect())
    }

    fn run(&self, queue: &Queue, sequences: &[&Sequence]) -> Result<(), GpuError> {
        let commands: Vec<vk::CommandBuffer> = sequences.iter().map(|s| s.commands).collect();
        self.submit(&commands, queue.fence)
    }
}

impl Device {
    fn recorded(self: &Arc<Self>, commands: &[Command<Self>], timed: bool) -> Result<Sequence, GpuError> {
        let mut made = Sequence::new(self, commands)?;
        if timed && self.tick > 0.0 && !commands.is_empty() {
            let count = 2 * commands.len() as u32;
            let create = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(count);
            // SAFETY: the structure is valid for the call; the pool belongs to `made`.
            let pool = unsafe { self.device.create_query_pool(&create, None) }.map_err(failed("vkCreateQueryPool"))?;
            made.clock = Some(Clock { pool, count });
        }
        let mut sets = Vec::new();
        let mut params = Params::new(self, commands)?;
        for c in commands {
            sets.push(match &c.what {
                What::Copy { .. } => None,
                What::Launch { kernel, arguments, .. } => Some(made.set(kernel, arguments, &mut params).map_err(|e| e.at(c.node))?),
            });
        }
        made.record(commands, &sets)?;
        made._params = params.buffer;
        Ok(made)
    }
}

/// The parameters of launches, each where a buffer may begin.
struct Params {
    buffer: Option<Buffer>,
    next: usize,
    alignment: usize,
}

impl Params {
    /// Room for the parameters of all of `commands`.
    fn new(device: &Arc<Device>, commands: &[Command<Device>]) -> Result<Params, GpuError> {
        let alignment = device.limits.alignment.max(16) as usize;
        let arguments = commands.iter().flat_map(|c| match &c.what {
            What::Launch { arguments, .. } => arguments.as_slice(),
            What::Copy { .. } => &[],
        });
        let words = arguments.filter_map(|a| match a {
            Argument::Words(w) => Some((4 * w.len()).next_multiple_of(alignment)),
            Argument::Memory(_) | Argument::Tensor(..) => None,
        });
        let bytes: usize = words.sum();
        let buffer = if bytes > 0 { Some(Buffer::new(device, bytes as u64, Purpose::Host)?) } else { None };
        Ok(Params { buffer, next: 0, alignment })
    }

    fn push(&mut self, words: &[i32]) -> Result<vk::DescriptorBufferInfo, GpuError> {
        let lacks = || GpuError::Lacks("memory for parameters".into());
        let buffer = self.buffer.as_mut().ok_or_else(lacks)?;
        let (from, bytes) = (self.next, 4 * words.len());
        let host = buffer.host_mut().and_then(|h| h.get_mut(from..from + bytes)).ok_or_else(lacks)?;
        host.chunks_exact_mut(4).zip(words).for_each(|(to, w)| to.copy_from_slice(&w.to_le_bytes()));
        self.next += bytes.next_multiple_of(self.alignment);
        Ok(vk::DescriptorBufferInfo { buffer: buffer.buffer, offset: from as u64, range: bytes.max(4) as u64 })
    }
}

impl Sequence {
    /// Pools with room for `commands`.
    fn new(device: &Arc<Device>, commands: &[Command<Device>]) -> Result<Sequence, GpuError> {
        let d = &device.device;
        let launches = commands.iter().filter_map(|c| match &c.what {
            What::Launch { arguments, .. } => Some(arguments.len()),
            What::Copy { .. } => None,
        });
        let (sets, bindings) = launches.fold((0, 0), |(n, bindings), b| (n + 1, bindings + b));
        let mut made = Sequence {
            device: device.clone(),
            sets: vk::DescriptorPool::null(),
            pool: vk::CommandPool::null(),
            commands: vk::CommandBuffer::null(),
            clock: None,
            _params: None,
        };
        let sizes = [vk::DescriptorPoolSize { ty: vk::DescriptorType::STORAGE_BUFFER, descriptor_count: bindings.max(1) as u32 }];
        let pool = vk::DescriptorPoolCreateInfo::default().max_sets(sets.max(1)).pool_sizes(&sizes);
        let commands = vk::CommandPoolCreateInfo::default().queue_family_index(device.family);
        // SAFETY: the structures are valid for the calls; what was made belongs to `made`.
        unsafe {
            made.sets = d.create_descriptor_pool(&pool, None).map_err(failed("vkCreateDescriptorPool"))?;
            made.pool = d.create_command_pool(&commands, None).map_err(failed("vkCreateCommandPool"))?;
        }
        Ok(made)
    }

    /// The arguments of a launch as a set of descriptors.
    fn set(&self, kernel: &Pipeline, arguments: &[Argument<Device>], params: &mut Params) -> Result<vk::DescriptorSet, GpuError> {
        let d = &self.device.device;
        let layouts = [kernel.set];
        let allocate = vk::DescriptorSetAllocateInfo::default().descriptor_pool(self.sets).set_layouts(&layouts);
        // SAFETY: the pool is alive and used by nobody else meanwhile.
        let sets = unsafe { d.allocate_descriptor_sets(&allocate) }.map_err(failed("vkAllocateDescriptorSets"))?;
        let set = sets.first().copied().unwrap_or_default();
        let mut infos = Vec::new();
        for a in arguments {
            infos.push([match a {
                Argument::Words(words) => params.push(words)?,
                Argument::Tensor(..) => return Err(GpuError::Lacks("units that copy boxes of tensors".into())),
                Argument::Memory(s) => {
                    vk::DescriptorBufferInfo { buffer: s.buffer.buffer, offset: s.from, range: s.bytes.max(4).next_multiple_of(4) }
                }
            }]);
        }
        let writes = (0u32..).zip(&infos).map(|(k, info)| {
            let w = vk::WriteDescriptorSet::default().dst_set(set).dst_binding(k);
            w.descriptor_type(vk::DescriptorType::STORAGE_BUFFER).buffer_info(info)
        });
        let writes: Vec<_> = writes.collect();
        // SAFETY: the set is not in use, and what it refers to outlives the sequence.
        unsafe { d.update_descriptor_sets(&writes, &[]) };
        Ok(set)
    }

    fn record(&mut self, commands: &[Command<Device>], sets: &[Option<vk::DescriptorSet>]) -> Result<(), GpuError> {
        let d = &self.device.device;
        let allocate = vk::CommandBufferAllocateInfo::default().command_pool(self.pool).command_buffer_count(1);
        // SAFETY: the pool is alive and used by nobody else meanwhile; buffers, pipelines, layouts and sets outlive the commands, fit one
        // another, and copies stay inside of their buffers.
        unsafe {
            let buffers = d.allocate_command_buffers(&allocate).map_err(failed("vkAllocateCommandBuffers"))?;
            self.commands = buffers.first().copied().unwrap_or_default();
            let c = self.commands;
            d.begin_command_buffer(c, &vk::CommandBufferBeginInfo::default()).map_err(failed("vkBeginCommandBuffer"))?;
            if let Some(clock) = self.clock {
                d.cmd_reset_query_pool(c, clock.pool, 0, clock.count);
            }
            let note = |query: usize| {
                if let Some(clock) = self.clock {
                    d.cmd_write_timestamp(c, vk::PipelineStageFlags::BOTTOM_OF_PIPE, clock.pool, query as u32);
                }
            };
            barrier(d, c);
            // What came before this command has been waited for.
            let mut settled = 0;
            for (k, (command, set)) in commands.iter().zip(sets).enumerate() {
                if self.clock.is_some() || command.after.iter().any(|&before| before >= settled) {
                    barrier(d, c);
                    settled = k;
                }
                note(2 * k);
                match (&command.what, set) {
                    (What::Launch { kernel, groups, .. }, Some(set)) => {
                        d.cmd_bind_pipeline(c, vk::PipelineBindPoint::COMPUTE, kernel.pipeline);
                        d.cmd_bind_descriptor_sets(c, vk::PipelineBindPoint::COMPUTE, kernel.layout, 0, &[*set], &[]);
                        d.cmd_dispatch(c, *groups, 1, 1);
                    }
                    (What::Copy { from, to }, _) => {
                        let copy = vk::BufferCopy { src_offset: from.from, dst_offset: to.from, size: from.bytes };
                        d.cmd_copy_buffer(c, from.buffer.buffer, to.buffer.buffer, &[copy]);
                    }
                    (What::Launch { .. }, None) => {}
                }
                note(2 * k + 1);
            }
            to_host(d, c);
            d.end_command_buffer(c).map_err(failed("vkEndCommandBuffer"))
        }
    }
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

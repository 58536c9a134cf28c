//! Device memory.

use super::device::{Device, failed};
use crate::error::GpuError;
use crate::run::{Mapped, Memory, Purpose, allocated};
use ash::vk;
use std::ptr::NonNull;
use std::sync::Arc;

/// A buffer with memory of its own.
pub struct Buffer {
    device: Arc<Device>,
    pub(super) buffer: vk::Buffer,
    memory: vk::DeviceMemory,
    /// Where the host sees it.
    mapped: Option<Mapped>,
}

impl Buffer {
    /// A buffer of at least `bytes` bytes, of unknown content.
    ///
    /// # Errors
    /// If the device has no such memory.
    pub fn new(device: &Arc<Device>, bytes: u64, purpose: Purpose) -> Result<Buffer, GpuError> {
        let d = &device.device;
        let bytes = allocated(bytes);
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER | vk::BufferUsageFlags::TRANSFER_SRC | vk::BufferUsageFlags::TRANSFER_DST;
        // SAFETY: the structures are valid for the calls, and what was made is destroyed where a later call fails.
        unsafe {
            let buffer = d
                .create_buffer(&vk::BufferCreateInfo::default().size(bytes).usage(usage), None)
                .map_err(failed("vkCreateBuffer"))?;
            let needs = d.get_buffer_memory_requirements(buffer);
            let (kind, visible) = device.memory_type(needs.memory_type_bits, purpose);
            let allocate = vk::MemoryAllocateInfo::default().allocation_size(needs.size).memory_type_index(kind);
            let memory = d.allocate_memory(&allocate, None).map_err(|e| {
                d.destroy_buffer(buffer, None);
                failed("vkAllocateMemory")(e)
            })?;
            let mut made = Buffer { device: device.clone(), buffer, memory, mapped: None };
            d.bind_buffer_memory(buffer, memory, 0).map_err(failed("vkBindBufferMemory"))?;
            if visible {
                let at = d.map_memory(memory, 0, vk::WHOLE_SIZE, vk::MemoryMapFlags::empty()).map_err(failed("vkMapMemory"))?;
                // The mapping is as long as the buffer, lives as long, and is coherent.
                made.mapped = NonNull::new(at.cast()).map(|p| Mapped::new(p, bytes));
            }
            Ok(made)
        }
    }
}

impl Memory for Buffer {
    fn mapped(&self) -> &Option<Mapped> {
        &self.mapped
    }

    fn mapped_mut(&mut self) -> &mut Option<Mapped> {
        &mut self.mapped
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: runs end before the buffers that they use are dropped.
        unsafe {
            self.device.device.destroy_buffer(self.buffer, None);
            self.device.device.free_memory(self.memory, None);
        }
    }
}

impl Device {
    /// A memory type among `allowed`, and whether the host sees it.
    fn memory_type(&self, allowed: u32, purpose: Purpose) -> (u32, bool) {
        const HOST: vk::MemoryPropertyFlags = vk::MemoryPropertyFlags::from_raw(
            vk::MemoryPropertyFlags::HOST_VISIBLE.as_raw() | vk::MemoryPropertyFlags::HOST_COHERENT.as_raw(),
        );
        let types = &self.memory.memory_types[..self.memory.memory_type_count as usize];
        let usable = |k: &usize| allowed >> k & 1 == 1;
        let with = |f: vk::MemoryPropertyFlags| (0..types.len()).filter(usable).find(|&k| types[k].property_flags.contains(f));
        let local = vk::MemoryPropertyFlags::DEVICE_LOCAL;
        let kind = match purpose {
            Purpose::Device => with(local | HOST).or_else(|| with(local)),
            Purpose::Host => with(HOST | vk::MemoryPropertyFlags::HOST_CACHED).or_else(|| with(HOST)),
        };
        let kind = kind.or_else(|| (0..types.len()).find(usable)).unwrap_or(0);
        (kind as u32, types[kind].property_flags.contains(HOST))
    }
}

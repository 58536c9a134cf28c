//! Vulkan devices: found, opened, and asked what they can do.

use crate::device::Opened;
use crate::error::GpuError;
use crate::run::{Counters, Limits};
use crate::target::{Features, Flavour};
use ash::vk;
use std::ffi::CStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// NVIDIA's number as a vendor.
const NVIDIA: u32 = 0x10de;

/// The loader and an instance; there is one in the process while anything uses it.
pub struct Instance {
    _entry: ash::Entry,
    instance: ash::Instance,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: devices hold the instance, so there are none left.
        unsafe { self.instance.destroy_instance(None) };
    }
}

/// A physical device, before it is opened.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The driver's name for it.
    pub name: String,
    /// Whether it is a processor that plays a GPU.
    pub software: bool,
    /// Whether it is NVIDIA's.
    pub nvidia: bool,
    /// Bytes of its own memory.
    pub memory: u64,
    pub api: [u32; 3],
}

impl DeviceInfo {
    /// The device, as those of all drivers are described.
    pub fn describe(&self) -> crate::DeviceInfo {
        let [major, minor, patch] = self.api;
        crate::DeviceInfo { name: self.name.clone(), api: format!("Vulkan {major}.{minor}.{patch}"), memory: self.memory }
    }
}

/// An open device with one queue for compute.
pub struct Device {
    pub info: DeviceInfo,
    pub limits: Limits,
    pub(super) counters: Counters,
    pub features: Features,
    pub(super) device: ash::Device,
    pub(super) memory: vk::PhysicalDeviceMemoryProperties,
    pub(super) family: u32,
    /// Seconds of a tick of the device's clock; 0 if it has none.
    pub(super) tick: f64,
    pub(super) cache: vk::PipelineCache,
    queue: Mutex<vk::Queue>,
    /// After the device, which is destroyed first.
    _instance: Arc<Instance>,
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: what was made from the device holds it, so nothing of it is left, and nothing runs.
        unsafe {
            self.device.destroy_pipeline_cache(self.cache, None);
            self.device.destroy_device(None);
        }
    }
}

/// An error of a call.
pub(super) fn failed(call: &'static str) -> impl Fn(vk::Result) -> GpuError {
    move |e| GpuError::Driver { call, why: e.to_string(), node: String::new() }
}

fn instance() -> Result<Arc<Instance>, GpuError> {
    static OPEN: LazyLock<Mutex<Weak<Instance>>> = LazyLock::new(Mutex::default);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(i) = open.upgrade() {
        return Ok(i);
    }
    // SAFETY: the loader is the system's; nothing of it outlives `_entry`.
    let entry = unsafe { ash::Entry::load() }.map_err(|e| GpuError::NoDriver(e.to_string()))?;
    let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_2);
    let create = vk::InstanceCreateInfo::default().application_info(&app);
    // SAFETY: the structures are valid for the call.
    let instance = unsafe { entry.create_instance(&create, None) }.map_err(|e| GpuError::NoDriver(e.to_string()))?;
    let made = Arc::new(Instance { _entry: entry, instance });
    *open = Arc::downgrade(&made);
    Ok(made)
}

/// Physical devices that compute, those with memory of their own first, software last.
fn physical(i: &Instance) -> Result<Vec<(vk::PhysicalDevice, DeviceInfo)>, GpuError> {
    // SAFETY: the instance is alive.
    let all = unsafe { i.instance.enumerate_physical_devices() }.map_err(failed("vkEnumeratePhysicalDevices"))?;
    let mut found = Vec::new();
    for device in all {
        // SAFETY: the device is of this instance.
        let (p, m) = unsafe {
            (i.instance.get_physical_device_properties(device), i.instance.get_physical_device_memory_properties(device))
        };
        let version =
            [vk::api_version_major(p.api_version), vk::api_version_minor(p.api_version), vk::api_version_patch(p.api_version)];
        if version[..2] < [1, 2][..] || family(i, device).is_none() {
            continue;
        }
        let name = p.device_name_as_c_str().map_or("", |n: &CStr| n.to_str().unwrap_or("")).to_owned();
        let heaps = m.memory_heaps.iter().take(m.memory_heap_count as usize);
        let memory = heaps.filter(|h| h.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL)).map(|h| h.size).max().unwrap_or(0);
        let rank = match p.device_type {
            vk::PhysicalDeviceType::DISCRETE_GPU => 0,
            vk::PhysicalDeviceType::INTEGRATED_GPU => 1,
            vk::PhysicalDeviceType::VIRTUAL_GPU => 2,
            _ => 3,
        };
        found.push((rank, device, DeviceInfo { name, software: rank == 3, nvidia: p.vendor_id == NVIDIA, memory, api: version }));
    }
    found.sort_by_key(|(rank, ..)| *rank);
    Ok(found.into_iter().map(|(_, device, info)| (device, info)).collect())
}

fn family(i: &Instance, device: vk::PhysicalDevice) -> Option<u32> {
    // SAFETY: the device is of this instance.
    let families = unsafe { i.instance.get_physical_device_queue_family_properties(device) };
    families.iter().position(|f| f.queue_flags.contains(vk::QueueFlags::COMPUTE)).map(|k| k as u32)
}

/// Whether queues of a family tell the time.
fn has_clock(i: &Instance, device: vk::PhysicalDevice, family: u32) -> bool {
    // SAFETY: the device is of this instance.
    let families = unsafe { i.instance.get_physical_device_queue_family_properties(device) };
    families.get(family as usize).is_some_and(|f| f.timestamp_valid_bits > 0)
}

/// The devices of this machine, in the order of their numbers.
///
/// # Errors
/// If there is no driver.
pub fn devices() -> Result<Vec<DeviceInfo>, GpuError> {
    Ok(physical(&*instance()?)?.into_iter().map(|(_, info)| info).collect())
}

impl Device {
    /// Device number `index`, opened; one that is open already is shared.
    ///
    /// # Errors
    /// If there is no driver or no such device, or it cannot be opened.
    pub fn open(index: usize) -> Result<Arc<Device>, GpuError> {
        static OPENED: Opened<Device> = Opened::new();
        OPENED.device(index, || {
            let instance = instance()?;
            let all = physical(&instance)?;
            let found = all.iter().enumerate().map(|(k, (_, d))| format!("GPU:{k} ({})", d.name)).collect();
            let (physical, info) = all.into_iter().nth(index).ok_or(GpuError::NoDevice { index, found })?;
            Device::create(instance, physical, info)
        })
    }

    fn create(instance: Arc<Instance>, physical: vk::PhysicalDevice, info: DeviceInfo) -> Result<Device, GpuError> {
        let i = &instance.instance;
        let family = family(&instance, physical).ok_or_else(|| GpuError::Lacks("a queue for compute".into()))?;
        let (mut has11, mut has12) = (vk::PhysicalDeviceVulkan11Features::default(), vk::PhysicalDeviceVulkan12Features::default());
        let mut has = vk::PhysicalDeviceFeatures2::default().push_next(&mut has11).push_next(&mut has12);
        // SAFETY: the device is of this instance, and the chain is valid for the call.
        unsafe { i.get_physical_device_features2(physical, &mut has) };
        let core = has.features;
        let features = Features {
            int8: has12.shader_int8 != 0 && has12.storage_buffer8_bit_access != 0,
            int16: core.shader_int16 != 0 && has11.storage_buffer16_bit_access != 0,
            int64: core.shader_int64 != 0,
            float64: core.shader_float64 != 0,
        };
        let wanted = vk::PhysicalDeviceFeatures::default()
            .shader_int16(features.int16)
            .shader_int64(features.int64)
            .shader_float64(features.float64);
        let mut want11 = vk::PhysicalDeviceVulkan11Features::default().storage_buffer16_bit_access(features.int16);
        let mut want12 =
            vk::PhysicalDeviceVulkan12Features::default().shader_int8(features.int8).storage_buffer8_bit_access(features.int8);
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(family).queue_priorities(&[1.0])];
        let create = vk::DeviceCreateInfo::default().queue_create_infos(&queues).enabled_features(&wanted);
        let create = create.push_next(&mut want11).push_next(&mut want12);
        // SAFETY: as above.
        let (device, memory, properties) = unsafe {
            let device = i.create_device(physical, &create, None).map_err(failed("vkCreateDevice"))?;
            (device, i.get_physical_device_memory_properties(physical), i.get_physical_device_properties(physical))
        };
        // SAFETY: the queue was asked for, and the device is alive.
        let (queue, cache) = unsafe {
            let cache = device.create_pipeline_cache(&vk::PipelineCacheCreateInfo::default(), None);
            (device.get_device_queue(family, 0), cache.map_err(failed("vkCreatePipelineCache"))?)
        };
        let l = &properties.limits;
        let limits = Limits {
            range: u64::from(l.max_storage_buffer_range),
            groups: l.max_compute_work_group_count[0],
            alignment: l.min_storage_buffer_offset_alignment,
        };
        if l.max_compute_work_group_invocations < 256 || l.max_compute_shared_memory_size < 16 << 10 {
            return Err(GpuError::Lacks("workgroups of 256 threads with 16 KiB of memory".into()));
        }
        let tick = if has_clock(&instance, physical, family) { f64::from(l.timestamp_period) * 1e-9 } else { 0.0 };
        let (queue, counters) = (Mutex::new(queue), Counters::default());
        Ok(Device { info, limits, counters, features, device, memory, family, tick, cache, queue, _instance: instance })
    }

    /// The language of kernels for this device.
    pub fn flavour(&self) -> Flavour {
        Flavour::Spirv(self.features)
    }

    /// Runs command buffers, one after another, and waits until they are done.
    pub(super) fn submit(&self, buffers: &[vk::CommandBuffer], fence: vk::Fence) -> Result<(), GpuError> {
        let submit = [vk::SubmitInfo::default().command_buffers(buffers)];
        // SAFETY: the command buffers are recorded, not in use, and of this device; the queue is locked.
        unsafe {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            self.device.queue_submit(*queue, &submit, fence).map_err(failed("vkQueueSubmit"))?;
        }
        // SAFETY: the fence is of this device.
        unsafe {
            self.device.wait_for_fences(&[fence], true, u64::MAX).map_err(failed("vkWaitForFences"))?;
            self.device.reset_fences(&[fence]).map_err(failed("vkResetFences"))
        }
    }
}

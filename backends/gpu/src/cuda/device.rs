//! NVIDIA's devices: found, opened, and asked what they can do.

use crate::device::{DeviceInfo, Opened};
use crate::error::GpuError;
use crate::run::{Counters, Limits};
use crate::target::{Chip, Flavour};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute as Attribute, CUresult};
use std::ffi::CStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The oldest driver that reads the PTX that is made: that of CUDA 12.0.
const OLDEST: i32 = 12_000;

/// An open device, by its primary context, which other users of CUDA in the process share.
pub struct Device {
    pub info: DeviceInfo,
    pub limits: Limits,
    pub(super) counters: Counters,
    pub chip: Chip,
    device: CUdevice,
    /// The devices whose memory copies to this one may read, and those of which they may not.
    peers: Mutex<Vec<(CUdevice, bool)>>,
    pub(super) context: CUcontext,
    /// Whether memory is allocated in the order of a stream.
    pub(super) pools: bool,
}

// SAFETY: the driver's functions may be called from any thread that has made the context its own, as `enter` does.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: what was made in the context holds the device, so nothing of it is left.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// What a call gave, as an error of that call.
pub(super) fn done(call: &'static str, result: CUresult) -> Result<(), GpuError> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = std::ptr::null();
    // SAFETY: the driver gives a string of its own, or leaves the pointer.
    let known = unsafe { sys::cuGetErrorString(result, &mut text) } == CUresult::CUDA_SUCCESS && !text.is_null();
    // SAFETY: such strings are never freed.
    let text = if known { unsafe { CStr::from_ptr(text) }.to_string_lossy() } else { "an unknown error".into() };
    Err(GpuError::Driver { call, why: format!("{text} ({result:?})"), node: String::new() })
}

/// Opens the driver, once in a process; says what is missing where that fails.
fn start() -> Result<(), GpuError> {
    static STARTED: LazyLock<Result<(), String>> = LazyLock::new(|| {
        // SAFETY: opening the library runs its own constructors alone.
        if !unsafe { sys::is_culib_present() } {
            return Err("libcuda.so.1 was not found".into());
        }
        let mut version = 0;
        // SAFETY: the library is there, and both functions are in every version of it; the pointer is valid for the call.
        let (known, started) = unsafe { (sys::cuDriverGetVersion(&mut version), sys::cuInit(0)) };
        if started == CUresult::CUDA_ERROR_NO_DEVICE {
            return Err("NVIDIA's driver finds no device".into());
        }
        done("cuDriverGetVersion", known).and(done("cuInit", started)).map_err(|e| e.to_string())?;
        if version < OLDEST {
            return Err(format!("the driver is of CUDA {}.{}, and 12.0 is needed", version / 1000, version % 1000 / 10));
        }
        Ok(())
    });
    STARTED.clone().map_err(GpuError::NoDriver)
}

fn attribute(device: CUdevice, which: Attribute) -> Result<u32, GpuError> {
    let mut value = 0;
    // SAFETY: the pointer is valid for the call.
    done("cuDeviceGetAttribute", unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) })?;
    Ok(u32::try_from(value).unwrap_or(0))
}

/// A device with its capability.
fn describe(device: CUdevice) -> Result<(DeviceInfo, u32), GpuError> {
    let (mut name, mut memory, mut version) = ([0 as std::ffi::c_char; 256], 0, 0);
    // SAFETY: the pointers are valid for the calls, and the name is as long as is said.
    unsafe {
        done("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, device))?;
        done("cuDeviceTotalMem", sys::cuDeviceTotalMem_v2(&mut memory, device))?;
        done("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version))?;
    }
    let bytes: Vec<u8> = name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    let major = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let api = format!("CUDA {}.{}, compute capability {major}.{minor}", version / 1000, version % 1000 / 10);
    Ok((DeviceInfo { name: String::from_utf8_lossy(&bytes).into_owned(), api, memory: memory as u64 }, 10 * major + minor))
}

fn ordinals() -> Result<Vec<CUdevice>, GpuError> {
    start()?;
    let mut count = 0;
    // SAFETY: the pointer is valid for the call.
    done("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) })?;
    let device = |k| {
        let mut device = 0;
        // SAFETY: as above.
        done("cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, k) })?;
        Ok(device)
    };
    (0..count).map(device).collect()
}

/// The devices of this machine, in the driver's order.
///
/// # Errors
/// If there is no driver, or one that is too old.
pub fn devices() -> Result<Vec<DeviceInfo>, GpuError> {
    ordinals()?.into_iter().map(|d| describe(d).map(|(info, _)| info)).collect()
}

impl Device {
    /// Device number `index`, opened; one that is open already is shared.
    ///
    /// # Errors
    /// If there is no driver or no such device, or it cannot be opened.
    pub fn open(index: usize) -> Result<Arc<Device>, GpuError> {
        static OPENED: Opened<Device> = Opened::new();
        OPENED.device(index, || {
            let ordinal = ordinals()?.get(index).copied().ok_or(GpuError::NoDevice { index, found: Vec::new() })?;
            Device::create(ordinal)
        })
    }

    fn create(device: CUdevice) -> Result<Device, GpuError> {
        let (info, capability) = describe(device)?;
        let chip = Chip::of(capability).ok_or_else(|| GpuError::Lacks(format!("compute capability 7.0: it is {}", info.api)))?;
        let groups = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?;
        let pools = attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? != 0;
        let mut context = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call; the context is released with the device.
        done("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        let limits = Limits { range: u64::MAX, groups, alignment: 1 };
        Ok(Device { info, limits, counters: Counters::default(), chip, device, peers: Mutex::default(), context, pools })
    }

    /// The language of kernels for this device.
    pub fn flavour(&self) -> Flavour {
        Flavour::Ptx(self.chip)
    }

    /// Whether copies to this device may read another one's memory, which is arranged when it is first asked for.
    pub(super) fn reads(&self, other: &Device) -> bool {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, may)) = peers.iter().find(|(d, _)| *d == other.device) {
            return *may;
        }
        let may = self.arrange(other).unwrap_or(false);
        peers.push((other.device, may));
        may
    }

    fn arrange(&self, other: &Device) -> Result<bool, GpuError> {
        let mut can = 0;
        // SAFETY: the pointer is valid for the call.
        done("cuDeviceCanAccessPeer", unsafe { sys::cuDeviceCanAccessPeer(&mut can, self.device, other.device) })?;
        if can == 0 {
            return Ok(false);
        }
        if !other.pools {
            self.enter()?;
            // SAFETY: both contexts are alive.
            let enabled = unsafe { sys::cuCtxEnablePeerAccess(other.context, 0) };
            return Ok(matches!(enabled, CUresult::CUDA_SUCCESS | CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED));
        }
        let mut pool = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        done("cuDeviceGetDefaultMemPool", unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, other.device) })?;
        // SAFETY: zeros are numbers, and the enumerations are set.
        let access: sys::CUmemAccessDesc = unsafe {
            let mut access = std::mem::MaybeUninit::<sys::CUmemAccessDesc>::zeroed();
            (*access.as_mut_ptr()).location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
            (*access.as_mut_ptr()).location.__bindgen_anon_1.id = self.device;
            (*access.as_mut_ptr()).flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            access.assume_init()
        };
        // SAFETY: the pool is the device's own, and the description is valid for the call.
        done("cuMemPoolSetAccess", unsafe { sys::cuMemPoolSetAccess(pool, &access, 1) })?;
        Ok(true)
    }

    /// Makes the device's context that of this thread, as every call wants.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        // SAFETY: the context lives as long as the device.
        done("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }
}

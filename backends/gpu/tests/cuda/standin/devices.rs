//! The stand-in's devices, their contexts, and who may use whose memory.

use super::state::{CURRENT, MOST, setting};
use super::{OK, call};
use std::ffi::{c_char, c_int, c_uint};

/// The number that the driver gives the first device.
const FIRST: c_int = 7;
/// The context of the first device, and its pool of memory; those of the others follow.
const CONTEXT: usize = 0xc0;
const POOL: usize = 0xb0;

/// How many devices there are.
pub fn devices() -> usize {
    setting("devices").unwrap_or(1) as usize
}

/// Which of the devices has a number.
pub fn number(device: c_int) -> Option<usize> {
    usize::try_from(device - FIRST).ok().filter(|k| *k < devices())
}

/// The device of a context.
pub fn context_of(context: usize) -> Option<usize> {
    context.checked_sub(CONTEXT).filter(|k| *k < devices())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> u32 {
    call("cuDeviceGetCount", false, |_| {
        unsafe { *count = devices() as c_int };
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut c_int, k: c_int) -> u32 {
    call("cuDeviceGet", false, |s| {
        unsafe { *device = FIRST + k };
        if (0..devices() as c_int).contains(&k) { OK } else { s.fault("cuDeviceGet", "no such device") }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, room: c_int, _device: c_int) -> u32 {
    let text = c"Stand-in for an NVIDIA GPU".to_bytes_with_nul();
    let n = text.len().min(room as usize);
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, n) };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: c_int) -> u32 {
    unsafe { *bytes = 1 << 30 };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, which: c_uint, device: c_int) -> u32 {
    call("cuDeviceGetAttribute", false, |s| {
        let capability = setting("capability").unwrap_or(90) as c_int;
        let v = match which {
            5 => MOST.1 as c_int,
            75 => capability / 10,
            76 => capability % 10,
            115 => 1,
            _ => return s.fault("cuDeviceGetAttribute", format!("attribute {which}")),
        };
        unsafe { *value = v };
        if number(device).is_some() { OK } else { s.fault("cuDeviceGetAttribute", "no such device") }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRetain", false, |s| {
        let Some(k) = number(device) else { return s.fault("cuDevicePrimaryCtxRetain", "no such device") };
        s.contexts += 1;
        unsafe { *context = CONTEXT + k };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDevicePrimaryCtxRelease_v2(_device: c_int) -> u32 {
    call("cuDevicePrimaryCtxRelease", false, |s| {
        s.contexts -= 1;
        let left = s.memory.len() + s.streams.len() + s.events.len() + s.modules.len() + s.execs.len();
        if s.contexts == 0 && left > 0 {
            return s.fault("cuDevicePrimaryCtxRelease", format!("{left} things of the context are left"));
        }
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(context: usize) -> u32 {
    call("cuCtxSetCurrent", false, |s| {
        CURRENT.set(context_of(context).filter(|_| s.contexts > 0));
        if CURRENT.get().is_some() || context == 0 { OK } else { s.fault("cuCtxSetCurrent", "no such context") }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceCanAccessPeer(can: *mut c_int, device: c_int, peer: c_int) -> u32 {
    call("cuDeviceCanAccessPeer", false, |s| {
        unsafe { *can = c_int::from(device != peer && setting("peers") != Some(0)) };
        if number(device).and(number(peer)).is_some() { OK } else { s.fault("cuDeviceCanAccessPeer", "no such device") }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut usize, device: c_int) -> u32 {
    call("cuDeviceGetDefaultMemPool", false, |s| match number(device) {
        Some(k) => {
            unsafe { *pool = POOL + k };
            OK
        }
        None => s.fault("cuDeviceGetDefaultMemPool", "no such device"),
    })
}

/// Who may use a pool, and how: the kind of place, its number, and the rights.
#[repr(C)]
pub struct Access {
    kind: c_uint,
    device: c_int,
    rights: c_uint,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolSetAccess(pool: usize, access: *const Access, count: usize) -> u32 {
    call("cuMemPoolSetAccess", false, |s| {
        // SAFETY: the caller gives so many.
        let access = unsafe { std::slice::from_raw_parts(access, count) };
        for a in access {
            let owner = pool.checked_sub(POOL).filter(|k| *k < devices());
            match (owner, number(a.device)) {
                (Some(owner), Some(k)) if a.kind == 1 && a.rights == 3 => s.peers.push((k, owner)),
                _ => return s.fault("cuMemPoolSetAccess", "no such pool, device or right"),
            }
        }
        OK
    })
}

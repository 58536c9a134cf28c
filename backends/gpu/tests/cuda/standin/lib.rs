//! A driver of NVIDIA's that is slow and forgives nothing: the functions that graphc calls, over memory of the host, and kernels run by a machine
//! for PTX.
//!
//! It checks what the real one would punish late or never: that a context is current, that memory is alive and large enough, that arguments are
//! those of the kernel's PTX, that launches are within limits, that a graph orders copies and kernels over the same memory, and that
//! what was made is given back once. Each fault fails its call and is kept for `standin_report`. All work is done at once.
//!
//! `GRAPHC_STANDIN` sets `KEY=VALUE` pairs: `version` (of CUDA, as the driver counts), `devices` (how many), `peers` (0 where none reads
//! another's memory), `capability` (90 for 9.0), and any function's name
//! with the number of the call that shall fail. It is compiled by itself, as a library named as the driver's.
#![allow(non_snake_case, clippy::missing_safety_doc)]

mod devices;
mod graphs;
mod machine;
mod numbers;
mod program;
mod races;
mod state;
mod units;

use devices::context_of;
use state::{CURRENT, Kernel, Kind, State, Work, setting, state};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::time::Instant;

const OK: u32 = 0;
const INVALID: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const NOT_INITIALIZED: u32 = 3;
const NO_DEVICE: u32 = 100;
const INVALID_PTX: u32 = 218;
const NO_CONTEXT: u32 = 201;
/// What a driver says of machine code for other devices, as all is here.
const NO_BINARY: u32 = 209;

/// A call: counted, failed if that is wanted, and refused where no context is current.
fn call(name: &'static str, context: bool, body: impl FnOnce(&mut State) -> u32) -> u32 {
    let mut s = state();
    let count = s.calls.entry(name).or_default();
    *count += 1;
    let n = *count;
    if !s.started {
        s.fault(name, "before cuInit");
        return NOT_INITIALIZED;
    }
    if context && CURRENT.get().is_none() {
        s.fault(name, "no context is current");
        return NO_CONTEXT;
    }
    if setting(name) == Some(n) {
        return OUT_OF_MEMORY;
    }
    body(&mut s)
}

/// Writes what is alive, the calls and the faults as text, and gives its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn standin_report(to: *mut u8, room: usize) -> usize {
    let s = state();
    let pinned = s.memory.values().filter(|(_, k)| *k == Kind::Pinned).count();
    let mut text = format!(
        "alive: {} of memory, {pinned} pinned, {} streams and events, {} modules, {} graphs, {} contexts\n",
        s.memory.len() - pinned,
        s.streams.len() + s.events.len(),
        s.modules.len(),
        s.graphs.len() + s.execs.len(),
        s.contexts
    );
    for ((bytes, copies), way) in s.copied.iter().zip(["up", "down", "within", "across"]) {
        text += &format!("copied {way}: {bytes} bytes in {copies}\n");
    }
    s.calls.iter().for_each(|(name, n)| text += &format!("{name}={n}\n"));
    s.faults.iter().for_each(|f| text += &format!("fault: {f}\n"));
    let n = text.len().min(room);
    // SAFETY: the caller gives room for so many bytes.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), to, n) };
    n
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> u32 {
    if setting("devices") == Some(0) {
        return NO_DEVICE;
    }
    state().started = true;
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> u32 {
    unsafe { *version = setting("version").unwrap_or(12_040) as c_int };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: u32, text: *mut *const c_char) -> u32 {
    let s = match error {
        OK => c"no error",
        OUT_OF_MEMORY => c"out of memory",
        NO_CONTEXT => c"invalid device context",
        INVALID_PTX => c"a PTX JIT compilation failed",
        _ => c"invalid argument",
    };
    unsafe { *text = s.as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut usize, _flags: c_uint) -> u32 {
    call("cuStreamCreate", true, |s| {
        let h = s.handle();
        s.streams.push(h);
        s.belongs(h as u64);
        unsafe { *stream = h };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: usize) -> u32 {
    call("cuStreamDestroy", true, |s| {
        if !s.streams.contains(&stream) {
            return s.fault("cuStreamDestroy", "no such stream");
        }
        s.streams.retain(|&h| h != stream);
        let left = s.memory.values().filter(|(_, k)| *k == Kind::Ordered(stream)).count();
        if left > 0 { s.fault("cuStreamDestroy", format!("{left} allocations of the stream are left")) } else { OK }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: usize) -> u32 {
    call("cuStreamSynchronize", true, |s| {
        if s.streams.contains(&stream) { OK } else { s.fault("cuStreamSynchronize", "no such stream") }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut usize, _flags: c_uint) -> u32 {
    call("cuEventCreate", true, |s| {
        let h = s.handle();
        s.events.insert(h, None);
        unsafe { *event = h };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: usize) -> u32 {
    call("cuEventDestroy", true, |s| match s.events.remove(&event) {
        Some(_) => OK,
        None => s.fault("cuEventDestroy", "no such event"),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: usize, stream: usize) -> u32 {
    call("cuEventRecord", true, |s| {
        if !s.events.contains_key(&event) || !s.streams.contains(&stream) {
            return s.fault("cuEventRecord", "no such event or stream");
        }
        s.events.insert(event, Some(Instant::now()));
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime(ms: *mut f32, from: usize, to: usize) -> u32 {
    call("cuEventElapsedTime", true, |s| match (s.events.get(&from), s.events.get(&to)) {
        (Some(Some(from)), Some(Some(to))) => {
            unsafe { *ms = to.duration_since(*from).as_secs_f32() * 1e3 };
            OK
        }
        _ => s.fault("cuEventElapsedTime", "events that were not recorded"),
    })
}

fn allocate(name: &'static str, at: *mut u64, bytes: usize, kind: Kind) -> u32 {
    call(name, true, |s| {
        if bytes == 0 || matches!(kind, Kind::Ordered(h) if !s.streams.contains(&h)) {
            return s.fault(name, "nothing to allocate, or no stream");
        }
        // Words of 16 bytes, as aligned, of bits that no result has.
        let memory = vec![u128::from_ne_bytes([0xa5; 16]); bytes.div_ceil(16)].into_boxed_slice();
        let address = Box::into_raw(memory).cast::<u8>() as usize as u64;
        s.memory.insert(address, (bytes, kind));
        if kind == Kind::Pinned {
            s.homes.remove(&address);
        } else {
            s.belongs(address);
        }
        unsafe { *at = address };
        OK
    })
}

fn free(name: &'static str, at: u64, kind: Kind) -> u32 {
    call(name, true, |s| match s.memory.get(&at).copied() {
        Some((bytes, k)) if std::mem::discriminant(&k) == std::mem::discriminant(&kind) => {
            s.memory.remove(&at);
            let words = std::ptr::slice_from_raw_parts_mut(at as usize as *mut u128, bytes.div_ceil(16));
            // SAFETY: `allocate` made it, and it is forgotten here.
            drop(unsafe { Box::from_raw(words) });
            OK
        }
        found => s.fault(name, format!("{at:#x} is {found:?}")),
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(at: *mut u64, bytes: usize) -> u32 {
    allocate("cuMemAlloc", at, bytes, Kind::Device)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(at: *mut u64, bytes: usize, stream: usize) -> u32 {
    allocate("cuMemAllocAsync", at, bytes, Kind::Ordered(stream))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(at: *mut u64, bytes: usize, _flags: c_uint) -> u32 {
    allocate("cuMemHostAlloc", at, bytes, Kind::Pinned)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(at: u64) -> u32 {
    free("cuMemFree", at, Kind::Device)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(at: u64, stream: usize) -> u32 {
    free("cuMemFreeAsync", at, Kind::Ordered(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(at: u64) -> u32 {
    free("cuMemFreeHost", at, Kind::Pinned)
}

/// The kernels of a PTX module.
fn read_ptx(text: &str, module: usize) -> Result<Vec<Kernel>, String> {
    let after = |mark: &str| text.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next());
    after(".version").ok_or("no .version")?;
    let target = after(".target sm_").ok_or("no .target")?.trim_end_matches(',');
    let chip: u32 = target.trim_end_matches('a').parse().map_err(|_| "no .target")?;
    let capability = setting("capability").unwrap_or(90);
    if chip > capability || target.ends_with('a') && chip != capability {
        return Err(format!("made for sm_{target}, and this is sm_{capability}"));
    }
    let mut codes = program::parse(text)?;
    let mut kernels = Vec::new();
    for part in text.split(".entry ").skip(1) {
        let (head, _) = part.split_once('{').ok_or("an entry without a body")?;
        let (name, params) = head.split_once('(').ok_or("an entry without parameters")?;
        let (params, directives) = params.split_once(')').ok_or("parameters without an end")?;
        let mut list = Vec::new();
        for p in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            list.push(program::Param::of(p)?);
        }
        let word = |mark: &str| directives.split_once(mark).and_then(|(_, t)| t.split([',', '\n']).next()?.trim().parse().ok());
        let threads = word(".reqntid").or_else(|| word(".maxntid"));
        let name = name.trim().to_owned();
        let code = Arc::new(codes.remove(&name).ok_or("an entry that was not read")?);
        kernels.push(Kernel { module, name, params: list, threads, most_shared: USUAL_SHARED, code });
    }
    Ok(kernels)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut usize,
    image: *const c_char,
    count: c_uint,
    options: *const c_uint,
    values: *const *mut c_void,
) -> u32 {
    call("cuModuleLoadDataEx", true, |s| {
        let h = s.handle();
        // SAFETY: PTX is a string, and machine code begins as one.
        if unsafe { CStr::from_ptr(image) }.to_bytes().starts_with(b"\x7fELF") {
            return NO_BINARY;
        }
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(image) }.to_string_lossy();
        match read_ptx(&text, h) {
            Ok(kernels) => {
                s.modules.push(h);
                for k in kernels {
                    let f = s.handle();
                    s.kernels.insert(f, k);
                }
                unsafe { *module = h };
                OK
            }
            Err(why) => {
                let option =
                    |which| (0..count as usize).find(|&i| unsafe { *options.add(i) } == which).map(|i| unsafe { *values.add(i) });
                if let (Some(log), Some(room)) = (option(5), option(6)) {
                    let n = why.len().min(room.addr());
                    // SAFETY: the caller gives a log of that size.
                    unsafe { std::ptr::copy_nonoverlapping(why.as_ptr(), log.cast(), n) };
                }
                s.fault("cuModuleLoadDataEx", why);
                INVALID_PTX
            }
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: usize) -> u32 {
    call("cuModuleUnload", true, |s| {
        if !s.modules.contains(&module) {
            return s.fault("cuModuleUnload", "no such module");
        }
        s.modules.retain(|&m| m != module);
        s.kernels.retain(|_, k| k.module != module);
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(function: *mut usize, module: usize, name: *const c_char) -> u32 {
    call("cuModuleGetFunction", true, |s| {
        // SAFETY: a name is a string.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        match s.kernels.iter().find(|(_, k)| k.module == module && k.name == name) {
            Some((&f, _)) => {
                unsafe { *function = f };
                OK
            }
            None => s.fault("cuModuleGetFunction", format!("no kernel {name}")),
        }
    })
}

/// Bytes of memory that a launch gives to a block without being allowed more, and the most that it can be allowed.
const USUAL_SHARED: u32 = 48 << 10;
const MOST_SHARED: u32 = 227 << 10;

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: usize, which: c_uint, value: c_int) -> u32 {
    call("cuFuncSetAttribute", true, |s| match s.kernels.get_mut(&function) {
        // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        Some(k) if which == 8 && (0..=MOST_SHARED as c_int).contains(&value) => {
            k.most_shared = value as u32;
            OK
        }
        _ => s.fault("cuFuncSetAttribute", format!("attribute {which} as {value}")),
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuTensorMapEncodeTiled(
    map: *mut [u8; 128],
    ty: c_uint,
    rank: c_uint,
    at: u64,
    extents: *const u64,
    strides: *const u64,
    tile: *const u32,
    each: *const u32,
    interleave: c_uint,
    swizzle: c_uint,
    _promotion: c_uint,
    fill: c_uint,
) -> u32 {
    call("cuTensorMapEncodeTiled", true, |s| {
        let n = rank as usize;
        if !(1..=5).contains(&n) {
            return s.fault("cuTensorMapEncodeTiled", format!("{n} axes"));
        }
        // SAFETY: the caller gives lists of these lengths.
        let (extents, strides, tile, each) = unsafe {
            let list = std::slice::from_raw_parts(extents, n).to_vec();
            let strides = if n > 1 { std::slice::from_raw_parts(strides, n - 1).to_vec() } else { Vec::new() };
            (list, strides, std::slice::from_raw_parts(tile, n).to_vec(), std::slice::from_raw_parts(each, n).to_vec())
        };
        let row = 4 * u64::from(tile[0]);
        // 7: f32; 0 and 3: no pattern, and that of 128 bytes.
        let right = ty == 7
            && interleave == 0
            && fill == 0
            && [0, 3].contains(&swizzle)
            && at % 16 == 0
            && row % 16 == 0
            && (swizzle == 0 || row <= 128)
            && extents.iter().all(|e| (1..=1 << 32).contains(e))
            && strides.iter().all(|s| s % 16 == 0 && *s > 0 && *s < 1 << 40)
            && tile.iter().all(|t| (1..=256).contains(t))
            && each.iter().all(|e| *e == 1);
        if !right {
            let what = format!("{ty} at {at:#x}: {extents:?} by {strides:?} in boxes of {tile:?}, pattern {swizzle}");
            return s.fault("cuTensorMapEncodeTiled", what);
        }
        let described = units::Map { at, extents, strides, tile, swizzled: swizzle == 3 };
        // SAFETY: a description has 128 bytes.
        unsafe { *map = described.encoded() };
        OK
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: usize) -> u32 {
    start("cuMemcpyAsync", stream, Work::Copy { to, from, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyPeerAsync(to: u64, here: usize, from: u64, there: usize, bytes: usize, stream: usize) -> u32 {
    let homes = [(to, here), (from, there)];
    let wrong = |s: &State| homes.iter().any(|&(at, context)| s.home(at) != context_of(context));
    let code =
        call("cuMemcpyPeerAsync", true, |s| if wrong(s) { s.fault("cuMemcpyPeerAsync", "memory of other contexts") } else { OK });
    if code == OK { start("cuMemcpyPeerAsync (the copy)", stream, Work::Copy { to, from, bytes }) } else { code }
}

/// The bytes of arguments that `extra` gives.
unsafe fn arguments(extra: *const *const c_void) -> Option<Vec<u8>> {
    let (mut at, mut bytes, mut size) = (extra, std::ptr::null::<u8>(), None);
    if extra.is_null() {
        return None;
    }
    // SAFETY: the list ends with a null pointer, and what it says of the arguments is true.
    unsafe {
        while !(*at).is_null() {
            match (*at).addr() {
                1 => bytes = (*at.add(1)).cast(),
                2 => size = Some(*(*at.add(1)).cast::<usize>()),
                _ => return None,
            }
            at = at.add(2);
        }
        size.map(|n| std::slice::from_raw_parts(bytes, n).to_vec())
    }
}

fn start(name: &'static str, stream: usize, work: Work) -> u32 {
    call(name, true, |s| {
        if !s.streams.contains(&stream) {
            return s.fault(name, "no such stream");
        }
        let device = s.homes.get(&(stream as u64)).copied().unwrap_or_default();
        if CURRENT.get() != Some(device) {
            return s.fault(name, "the stream is of another context");
        }
        if let Some(why) = s.wrong(&work, device) {
            return s.fault(name, why);
        }
        match s.perform(&work) {
            Ok(()) => OK,
            Err(why) => s.fault(name, why),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    grid: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: usize,
    _params: *mut *mut c_void,
    extra: *const *const c_void,
) -> u32 {
    if (grid_y, grid_z, block_y, block_z) != (1, 1, 1, 1) {
        return call("cuLaunchKernel", true, |s| s.fault("cuLaunchKernel", "more than one dimension"));
    }
    let arguments = unsafe { arguments(extra) }.unwrap_or_default();
    start("cuLaunchKernel", stream, Work::Launch { kernel: function, grid, block, shared, arguments })
}

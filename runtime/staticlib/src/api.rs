//! The C interface; `include/graphc.h` says what each function does and what it asks of the caller.

use crate::file::{File, Mapped};
use crate::{Call, Instance};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use graphc_abi::{ParallelFor, model as raw};
use graphc_engine::{Compute, Error, ErrorKind, Function, Model, Options, Port};

/// `graphc_port`.
#[repr(C)]
pub struct CPort {
    name: *const c_char,
    dtype: i32,
    /// -1 where open.
    rank: i32,
    dims: *const i64,
    element_bytes: usize,
}

/// `graphc_options`.
#[repr(C)]
pub struct COptions {
    size: usize,
    threads: usize,
    parallel_for: Option<ParallelFor>,
    pool: *const c_void,
    weights_path: *const c_char,
    weights: *const u8,
    weights_bytes: usize,
    error: *mut c_char,
    error_bytes: usize,
    files: *const *const c_char,
    files_count: usize,
}

/// `graphc_instance`.
pub struct CInstance {
    instance: Instance,
    _weights: Option<Mapped>,
}

/// `graphc_call`.
pub struct CCall {
    /// What only the thread that uses the call touches.
    own: UnsafeCell<Own>,
    cancel: AtomicU32,
}

struct Own {
    call: Call<'static>,
    /// The last error's message, which ends with a zero byte.
    error: Vec<u8>,
}

const OK: i32 = 0;

fn status(e: &Error) -> i32 {
    e.kind as i32
}

/// # Safety
/// As `graphc.h` says of `model`.
unsafe fn function(model: *const raw::Model, index: usize) -> Option<Function> {
    // SAFETY: by this function's contract.
    unsafe { Model::new(model) }.ok()?.function(index).ok()
}

#[unsafe(no_mangle)]
pub extern "C" fn graphc_version() -> u32 {
    raw::MODEL_VERSION as u32
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_model_name(model: *const raw::Model) -> *const c_char {
    // SAFETY: as the caller promises.
    unsafe { model.as_ref() }.map_or(ptr::null(), |m| m.name)
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_function_count(model: *const raw::Model) -> usize {
    // SAFETY: as the caller promises.
    unsafe { Model::new(model) }.map_or(0, |m| m.functions().len())
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_function_name(model: *const raw::Model, index: usize) -> *const c_char {
    // SAFETY: as the caller promises; the name is text of the tables, which ends with a zero byte.
    unsafe { function(model, index) }.map_or(ptr::null(), |f| f.name().as_ptr().cast())
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_input_count(model: *const raw::Model, index: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe { function(model, index) }.map_or(0, |f| f.inputs().len())
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_output_count(model: *const raw::Model, index: usize) -> usize {
    // SAFETY: as the caller promises.
    unsafe { function(model, index) }.map_or(0, |f| f.outputs().len())
}

/// Describes a port.
///
/// # Safety
/// `to` may be written.
unsafe fn describe(port: Option<Port>, to: *mut CPort) -> i32 {
    let (Some(port), false) = (port, to.is_null()) else { return ErrorKind::InvalidArgument as i32 };
    let (rank, dims) = port.dims().map_or((-1, ptr::null()), |d| (d.len() as i32, d.as_ptr()));
    let name = port.name().as_ptr().cast();
    // SAFETY: by this function's contract.
    unsafe { *to = CPort { name, dtype: port.elem() as i32, rank, dims, element_bytes: port.elem_bytes() } };
    OK
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_input(model: *const raw::Model, index: usize, input: usize, to: *mut CPort) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { describe(function(model, index).and_then(|f| f.inputs().nth(input)), to) }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_output(model: *const raw::Model, index: usize, output: usize, to: *mut CPort) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { describe(function(model, index).and_then(|f| f.outputs().nth(output)), to) }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_create(model: *const raw::Model, options: *const COptions, to: *mut *mut CInstance) -> i32 {
    // SAFETY: as the caller promises.
    let (Ok(options), false) = (unsafe { known_options(options) }, to.is_null()) else {
        return ErrorKind::InvalidArgument as i32;
    };
    let options = options.as_ref();
    // SAFETY: as above.
    match unsafe { create(model, options) } {
        Ok(instance) => {
            // SAFETY: as the caller promises.
            unsafe { *to = Box::into_raw(Box::new(instance)) };
            OK
        }
        Err(e) => {
            // SAFETY: as the caller promises.
            unsafe { *to = ptr::null_mut() };
            if let Some(o) = options.filter(|o| !o.error.is_null() && o.error_bytes > 0) {
                let text = e.message.as_bytes();
                let n = text.len().min(o.error_bytes - 1);
                // SAFETY: the caller's buffer of so many bytes.
                unsafe {
                    ptr::copy_nonoverlapping(text.as_ptr().cast(), o.error, n);
                    *o.error.add(n) = 0;
                }
            }
            status(&e)
        }
    }
}

/// The options that a caller gave; those that its version does not know are zero. An error if it did not say how large they are.
///
/// # Safety
/// `options` is null, or has as many bytes as its first field says.
unsafe fn known_options(options: *const COptions) -> Result<Option<COptions>, ()> {
    if options.is_null() {
        return Ok(None);
    }
    // SAFETY: by this function's contract; every field may be zero.
    unsafe {
        let size = (&raw const (*options).size).read();
        let mut known: COptions = core::mem::zeroed();
        if size < size_of::<usize>() {
            return Err(());
        }
        ptr::copy_nonoverlapping(options.cast::<u8>(), (&raw mut known).cast(), size.min(size_of::<COptions>()));
        Ok(Some(known))
    }
}

/// # Safety
/// As for [`graphc_create`].
unsafe fn create(model: *const raw::Model, options: Option<&COptions>) -> Result<CInstance, Error> {
    // SAFETY: by this function's contract.
    let model = unsafe { Model::new(model)? };
    let mut mapped = None;
    let mut given = None;
    if let Some(o) = options {
        if !o.weights_path.is_null() {
            // SAFETY: text that ends with a zero byte.
            let path = unsafe { CStr::from_ptr(o.weights_path) };
            mapped = File::open(path).and_then(|f| f.map());
            if mapped.is_none() {
                let message = alloc::format!("cannot read the file of weights {}", path.to_string_lossy());
                return Err(Error { kind: ErrorKind::NotFound, message });
            }
        }
        if !o.weights.is_null() {
            // SAFETY: the caller's memory of so many bytes.
            given = Some(unsafe { core::slice::from_raw_parts(o.weights, o.weights_bytes) });
        }
    }
    let mut files = Vec::new();
    if let Some(o) = options.filter(|o| !o.files.is_null()) {
        for k in 0..o.files_count {
            // SAFETY: the caller's array of so many texts that end with a zero byte.
            let folder = unsafe { CStr::from_ptr(*o.files.add(k)) };
            let bad = |_| Error::invalid("a folder's name is not UTF-8");
            files.push(folder.to_str().map_err(bad)?);
        }
    }
    let threads = options.map_or(1, |o| o.threads.max(1));
    let compute = match options.and_then(|o| Some((o.parallel_for?, o.pool))) {
        Some((parallel_for, pool)) => Compute::Caller { threads, pool, parallel_for },
        None => Compute::Threads(threads),
    };
    let weights = mapped.as_ref().map(Mapped::bytes).or(given);
    // SAFETY: the mapping lives as long as the instance, and the caller promises as much for what it gave.
    let instance = unsafe { Instance::new(model, Options { compute, weights, files: &files })? };
    Ok(CInstance { instance, _weights: mapped })
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_destroy(instance: *mut CInstance) {
    if !instance.is_null() {
        // SAFETY: made by `graphc_create`, given up by the caller.
        drop(unsafe { Box::from_raw(instance) });
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_reset(instance: *const CInstance) -> i32 {
    // SAFETY: as the caller promises.
    match unsafe { instance.as_ref() } {
        Some(i) => i.instance.reset().map_or_else(|e| status(&e), |()| OK),
        None => ErrorKind::InvalidArgument as i32,
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_call_create(instance: *const CInstance, index: usize, to: *mut *mut CCall) -> i32 {
    // SAFETY: as the caller promises: the instance outlives its calls.
    let instance: Option<&'static CInstance> = unsafe { instance.as_ref() };
    let (Some(instance), false) = (instance, to.is_null()) else { return ErrorKind::InvalidArgument as i32 };
    let (call, code) = match Call::new(&instance.instance, index) {
        Ok(call) => {
            let own = UnsafeCell::new(Own { call, error: Vec::from([0]) });
            (Box::into_raw(Box::new(CCall { own, cancel: AtomicU32::new(0) })), OK)
        }
        Err(e) => (ptr::null_mut(), status(&e)),
    };
    // SAFETY: as the caller promises.
    unsafe { *to = call };
    code
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_call_destroy(call: *mut CCall) {
    if !call.is_null() {
        // SAFETY: made by `graphc_call_create`, given up by the caller.
        drop(unsafe { Box::from_raw(call) });
    }
}

/// Does something with a call, and keeps the message of an error.
///
/// # Safety
/// `call` is null or a call that no other thread uses.
unsafe fn with(call: *const CCall, f: impl FnOnce(&mut Call<'static>) -> Result<(), Error>) -> i32 {
    // SAFETY: by this function's contract.
    let Some(own) = (unsafe { call.as_ref().and_then(|c| c.own.get().as_mut()) }) else {
        return ErrorKind::InvalidArgument as i32;
    };
    match f(&mut own.call) {
        Ok(()) => OK,
        Err(e) => {
            own.error.clear();
            own.error.extend(e.message.bytes().filter(|&b| b != 0));
            own.error.push(0);
            status(&e)
        }
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_set_input(
    call: *mut CCall,
    input: usize,
    data: *const c_void,
    dims: *const i64,
    rank: usize,
) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        let dims = if rank == 0 || dims.is_null() { &[] } else { core::slice::from_raw_parts(dims, rank) };
        with(call, |c| c.set_input(input, data.cast(), dims))
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_set_output(call: *mut CCall, output: usize, data: *mut c_void, bytes: usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { with(call, |c| c.set_output(output, data.cast(), bytes)) }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_set_workspace(call: *mut CCall, data: *mut c_void, bytes: usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        with(call, |c| {
            c.set_workspace(data.cast(), bytes);
            Ok(())
        })
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_prepare(call: *mut CCall) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { with(call, |c| c.prepare()) }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_workspace_bytes(call: *mut CCall, to: *mut usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        with(call, |c| {
            *to = c.workspace_bytes()?;
            Ok(())
        })
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_output_dims(call: *mut CCall, output: usize, dims: *mut *const i64, rank: *mut usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        with(call, |c| {
            let found = c.output_dims(output)?;
            (*dims, *rank) = (found.as_ptr(), found.len());
            Ok(())
        })
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_output_bytes(call: *mut CCall, output: usize, to: *mut usize) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        with(call, |c| {
            *to = c.output_bytes(output)?;
            Ok(())
        })
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_output_data(call: *const CCall, output: usize) -> *const c_void {
    // SAFETY: as the caller promises.
    let own = unsafe { call.as_ref().and_then(|c| c.own.get().as_ref()) };
    own.map_or(ptr::null(), |own| own.call.output_data(output).cast())
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_run(call: *mut CCall) -> i32 {
    // SAFETY: as the caller promises.
    unsafe {
        with(call, |c| {
            let cancel = &(*call).cancel;
            let result = c.run(Some(cancel));
            cancel.store(0, Ordering::Relaxed);
            result
        })
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_cancel(call: *const CCall) {
    // SAFETY: as the caller promises; only the flag is touched.
    if let Some(c) = unsafe { call.as_ref() } {
        c.cancel.store(1, Ordering::Relaxed);
    }
}

/// # Safety
/// See `graphc.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_error(call: *const CCall) -> *const c_char {
    // SAFETY: as the caller promises.
    let own = unsafe { call.as_ref().and_then(|c| c.own.get().as_ref()) };
    own.map_or(c"no call".as_ptr(), |own| own.error.as_ptr().cast())
}

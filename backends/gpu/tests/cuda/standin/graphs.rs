//! Graphs: commands in an order of their own.

use super::devices::context_of;
use super::state::{CURRENT, Kind, Node, Work, state};
use super::{OK, arguments, call};
use std::ffi::{c_uint, c_void};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphCreate(graph: *mut usize, _flags: c_uint) -> u32 {
    call("cuGraphCreate", true, |s| {
        let h = s.handle();
        s.graphs.insert(h, Vec::new());
        unsafe { *graph = h };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: usize) -> u32 {
    call("cuGraphDestroy", true, |s| match s.graphs.remove(&graph) {
        Some(_) => OK,
        None => s.fault("cuGraphDestroy", "no such graph"),
    })
}

/// Adds a node; nodes are handed out as their numbers, from 1 on.
unsafe fn add(name: &'static str, node: *mut usize, graph: usize, after: *const usize, count: usize, work: Work) -> u32 {
    call(name, true, |s| {
        // SAFETY: the caller gives so many nodes.
        let after: Vec<usize> = (0..count).map(|k| unsafe { *after.add(k) }.wrapping_sub(1)).collect();
        if let Some(why) = s.wrong(&work, CURRENT.get().unwrap_or_default()) {
            return s.fault(name, why);
        }
        let n = s.graphs.get(&graph).map_or(0, Vec::len);
        if after.iter().any(|&k| k >= n) {
            return s.fault(name, "a node that is not there");
        }
        match s.graphs.get_mut(&graph) {
            Some(nodes) => nodes.push(Node { work, after }),
            None => return s.fault(name, "no such graph"),
        }
        unsafe { *node = n + 1 };
        OK
    })
}

#[repr(C)]
pub struct KernelNode {
    function: usize,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    params: *mut *mut c_void,
    extra: *const *const c_void,
    kernel: usize,
    context: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphAddKernelNode_v2(
    node: *mut usize,
    graph: usize,
    after: *const usize,
    count: usize,
    launch: *const KernelNode,
) -> u32 {
    // SAFETY: the structure is as the driver's.
    unsafe {
        let l = &*launch;
        let work = Work::Launch {
            kernel: l.function,
            grid: l.grid[0],
            block: l.block[0],
            shared: l.shared,
            arguments: arguments(l.extra).unwrap_or_default(),
        };
        add("cuGraphAddKernelNode", node, graph, after, count, work)
    }
}

#[repr(C)]
pub struct End {
    x: usize,
    y: usize,
    z: usize,
    lod: usize,
    kind: c_uint,
    host: u64,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

#[repr(C)]
pub struct Copy3d {
    from: End,
    to: End,
    width: usize,
    height: usize,
    depth: usize,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphAddMemcpyNode(
    node: *mut usize,
    graph: usize,
    after: *const usize,
    count: usize,
    copy: *const Copy3d,
    context: usize,
) -> u32 {
    // SAFETY: the structure is as the driver's.
    let c = unsafe { &*copy };
    let place = |e: &End| match e.kind {
        1 => Some((e.host, Kind::Pinned)),
        2 => Some((e.device, Kind::Device)),
        _ => None,
    };
    let right = |e: &End| {
        let s = state();
        place(e).is_some_and(|(at, kind)| {
            let found = s.memory.range(..=at).next_back().map(|(_, (_, k))| *k == Kind::Pinned);
            found == Some(kind == Kind::Pinned) && e.pitch >= c.width && e.height >= 1
        })
    };
    if !right(&c.from) || !right(&c.to) || (c.height, c.depth, context_of(context)) != (1, 1, CURRENT.get()) {
        return call("cuGraphAddMemcpyNode", true, |s| s.fault("cuGraphAddMemcpyNode", "a copy of other memory than is said"));
    }
    let at = |e: &End| place(e).map_or(0, |(at, _)| at);
    let work = Work::Copy { to: at(&c.to), from: at(&c.from), bytes: c.width };
    unsafe { add("cuGraphAddMemcpyNode", node, graph, after, count, work) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(exec: *mut usize, graph: usize, _flags: u64) -> u32 {
    call("cuGraphInstantiateWithFlags", true, |s| {
        let Some(nodes) = s.graphs.get(&graph).cloned() else {
            return s.fault("cuGraphInstantiateWithFlags", "no such graph");
        };
        if let Some(why) = s.unordered(&nodes) {
            return s.fault("cuGraphInstantiateWithFlags", why);
        }
        let h = s.handle();
        s.execs.insert(h, nodes);
        unsafe { *exec = h };
        OK
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: usize) -> u32 {
    call("cuGraphExecDestroy", true, |s| match s.execs.remove(&exec) {
        Some(_) => OK,
        None => s.fault("cuGraphExecDestroy", "no such graph"),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: usize, stream: usize) -> u32 {
    call("cuGraphLaunch", true, |s| {
        let Some(nodes) = s.execs.get(&exec).cloned() else { return s.fault("cuGraphLaunch", "no such graph") };
        if !s.streams.contains(&stream) {
            return s.fault("cuGraphLaunch", "no such stream");
        }
        for n in &nodes {
            let device = s.homes.get(&(stream as u64)).copied().unwrap_or_default();
            if let Some(why) = s.wrong(&n.work, device) {
                return s.fault("cuGraphLaunch", why);
            }
            if let Err(why) = s.perform(&n.work) {
                return s.fault("cuGraphLaunch", why);
            }
        }
        OK
    })
}

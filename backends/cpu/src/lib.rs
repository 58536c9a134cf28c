//! Code generation for CPUs: plans to machine code.
//!
//! [`plan`] lowers a function of the tensor IR to a plan ([`lower`]) and places its buffers; [`compile_plan`] emits machine code for this
//! process ([`jit`]); the schedule and the fused loops ([`tape`]) go through the same code for JIT and for objects ([`emit`]).

pub mod emit;
pub mod error;
pub mod header;
pub mod image;
pub mod jit;
pub mod loader;
pub mod lower;
pub mod machine;
pub mod object;
pub mod pages;
pub mod perf;
pub mod tape;
pub mod target;
pub mod tune;
pub mod weights;

pub use emit::EmitOptions;
pub use error::{CompileError, Unsupported};
pub use image::{Image, compile_image};
pub use jit::{JitCode, compile_jit};
pub use loader::Loaded;
pub use machine::{Cpu, Machine};
pub use object::compile_object;
pub use target::CpuTarget;
pub use tune::TunedCpu;
pub use weights::{PackedWeights, Room, Weights};

use graphc_ir::Module;
use graphc_passes::plan::Plan;
use graphc_passes::target::Target;

/// A function compiled for this process, with its weights.
pub struct Compiled {
    /// The plan without its constants, which are in `weights`.
    pub plan: Plan,
    pub code: Code,
    pub weights: PackedWeights,
}

/// Executable code.
pub enum Code {
    Jit(Box<JitCode>),
    Image(Image),
}

impl Code {
    /// The function; see [`graphc_abi::Entry`]. It must not be called after `self` is dropped.
    pub fn entry(&self) -> graphc_abi::Entry {
        match self {
            Code::Jit(c) => c.entry(),
            Code::Image(c) => c.entry(),
        }
    }
}

/// Lowers `func` of `module` to a plan with all buffers placed.
///
/// # Errors
/// If there is no such function, or some of its operations have no code.
pub fn plan(module: &Module, func: &str) -> Result<Plan, CompileError> {
    plan_for(module, func, &CpuTarget)
}

/// As [`plan`], for a CPU of which `target` knows more.
///
/// # Errors
/// As [`plan`].
pub fn plan_for(module: &Module, func: &str, target: &dyn Target) -> Result<Plan, CompileError> {
    let f = module.func(func).ok_or_else(|| CompileError::NoFunction(func.to_owned()))?;
    lower::lower(module, f, target)
}

/// Compiles `func` of `module` for this process on `threads` threads.
///
/// # Errors
/// As [`plan`] and [`compile_plan`].
pub fn compile(module: &Module, func: &str, threads: usize, opts: &EmitOptions) -> Result<Compiled, CompileError> {
    compile_plan(plan(module, func)?, threads, opts)
}

/// Compiles a plan for this process; weights are packed on `threads` threads while code is generated. Large tables stay in the tensors of
/// the plan, which may be views of a file.
///
/// # Errors
/// As [`compile_jit`].
pub fn compile_plan(plan: Plan, threads: usize, opts: &EmitOptions) -> Result<Compiled, CompileError> {
    let (room, layout) = Room::beside_tables(&plan)?;
    let opts = &EmitOptions { threads, ..*opts };
    let (plan, code, weights) = generate(plan, room, &layout, threads, |plan| compile_jit(plan, &layout, opts))?;
    Ok(Compiled { plan, code: Code::Jit(Box::new(code)), weights })
}

/// As [`compile_plan`], with the object that [`Image::load`] takes another time.
///
/// # Errors
/// As [`compile_image`] and [`Image::load`].
pub fn compile_kept(plan: Plan, threads: usize, opts: &EmitOptions) -> Result<(Compiled, Vec<u8>), CompileError> {
    let layout = Weights::of(&plan);
    let opts = &EmitOptions { threads, ..*opts };
    let room = Room::for_weights(&layout)?;
    let (plan, object, weights) = generate(plan, room, &layout, threads, |plan| compile_image(plan, &layout, opts))?;
    // SAFETY: made just now.
    let code = unsafe { Image::load(&object)? };
    Ok((Compiled { plan, code: Code::Image(code), weights }, object))
}

/// What `emit` makes of a plan, and its constants, packed at the same time.
fn generate<T>(
    mut plan: Plan,
    room: Room,
    layout: &Weights,
    threads: usize,
    emit: impl FnOnce(&Plan) -> Result<T, CompileError>,
) -> Result<(Plan, T, PackedWeights), CompileError> {
    let consts = std::mem::take(&mut plan.consts);
    if threads <= 1 {
        // One thread means the caller's alone.
        let code = emit(&plan)?;
        let weights = room.fill(consts, layout, 1)?;
        return Ok((plan, code, weights));
    }
    let (weights, code) = std::thread::scope(|s| {
        let packing = s.spawn(|| room.fill(consts, layout, threads));
        let code = emit(&plan);
        let weights = packing.join().map_err(|_| CompileError::System("packing of weights panicked".into()))?;
        Ok::<_, CompileError>((weights?, code?))
    })?;
    Ok((plan, code, weights))
}

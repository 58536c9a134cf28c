//! From Cranelift's functions to code in a module.

// The trait of modules gives such results.
#![allow(clippy::result_large_err)]

use crate::error::CompileError;
use crate::machine::{Cpu, Machine};
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::{CodegenError, Context};
use cranelift_module::{
    DataDescription, DataId, FuncId, Linkage, Module, ModuleDeclarations, ModuleError, ModuleReloc, ModuleResult,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A module that takes functions to be compiled later, on several threads, and defined in the order in which they came: its code does
/// not depend on the number of threads.
pub(crate) struct Queue<'m, M: Module> {
    module: &'m mut M,
    threads: usize,
    waiting: Vec<(FuncId, Work)>,
    defined: Vec<Defined>,
}

/// A function of the code.
pub struct Defined {
    pub id: FuncId,
    pub size: usize,
    /// Where code of a step of the plan begins: bytes from the start, and the step.
    pub steps: Vec<(u32, usize)>,
}

/// A function that is not defined yet.
enum Work {
    Compile { context: Box<Context>, quickly: bool },
    Code(Code),
}

/// Machine code of a function.
struct Code {
    align: u64,
    bytes: Vec<u8>,
    relocs: Vec<ModuleReloc>,
    steps: Vec<(u32, usize)>,
}

impl Code {
    fn of(id: FuncId, context: &mut Context, isa: &dyn TargetIsa) -> ModuleResult<Code> {
        let code = context.compile(isa, &mut ControlPlane::default()).map_err(|e| ModuleError::Compilation(e.inner))?;
        let (align, bytes, relocs) = (u64::from(code.buffer.alignment), code.code_buffer().to_vec(), code.buffer.relocs().to_vec());
        let steps = code.buffer.get_srclocs_sorted().iter().filter(|p| !p.loc.is_default());
        let steps = steps.map(|p| (p.start, p.loc.bits() as usize)).collect();
        let relocs = relocs.iter().map(|r| ModuleReloc::from_mach_reloc(r, &context.func, id)).collect();
        Ok(Code { align, bytes, relocs, steps })
    }

    fn define<M: Module>(self, module: &mut M, id: FuncId) -> ModuleResult<Defined> {
        module.define_function_bytes(id, self.align, &self.bytes, &self.relocs)?;
        Ok(Defined { id, size: self.bytes.len(), steps: self.steps })
    }
}

/// The target of functions that run a few times in a run: those of the schedule, and what leads to the kernel of a loop. In this process
/// compiling them quickly matters more than their own speed; in an object, which is compiled once and linked, they are compiled as all else.
fn quick_isa(isa: &dyn TargetIsa) -> ModuleResult<&dyn TargetIsa> {
    static QUICK: OnceLock<Result<OwnedTargetIsa, CompileError>> = OnceLock::new();
    if isa.flags().is_pic() {
        return Ok(isa);
    }
    match QUICK.get_or_init(|| Machine::here(Cpu::Native)?.quick_isa()) {
        Ok(quick) => Ok(&**quick),
        Err(e) => Err(ModuleError::Compilation(CodegenError::Unsupported(e.to_string()))),
    }
}

/// A module that knows functions which run a few times in a run.
pub(crate) trait Definer: Module {
    /// Takes such a function.
    fn define_quickly(&mut self, id: FuncId, context: &mut Context) -> ModuleResult<()>;
}

impl<M: Module> Definer for Queue<'_, M> {
    fn define_quickly(&mut self, id: FuncId, context: &mut Context) -> ModuleResult<()> {
        self.take(id, context, true)
    }
}

impl<'m, M: Module> Queue<'m, M> {
    /// To be compiled on `threads` threads with the caller's; on one thread at once.
    pub fn new(module: &'m mut M, threads: usize) -> Queue<'m, M> {
        Queue { module, threads, waiting: Vec::new(), defined: Vec::new() }
    }

    fn take(&mut self, id: FuncId, context: &mut Context, quickly: bool) -> ModuleResult<()> {
        if self.threads > 1 {
            let context = Box::new(std::mem::replace(context, Context::new()));
            self.waiting.push((id, Work::Compile { context, quickly }));
            return Ok(());
        }
        let isa = self.module.isa();
        let code = Code::of(id, context, if quickly { quick_isa(isa)? } else { isa })?;
        self.defined.push(code.define(self.module, id)?);
        Ok(())
    }

    /// Compiles what waits and defines it; all functions, in their order.
    ///
    /// # Errors
    /// The first function that cannot be compiled or defined.
    pub fn finish(mut self) -> ModuleResult<Vec<Defined>> {
        let isa = self.module.isa();
        let quick = quick_isa(isa)?;
        let compiled = self.waiting.iter().filter(|(_, w)| matches!(w, Work::Compile { .. })).count();
        let jobs: Vec<_> = self.waiting.into_iter().map(|(id, w)| (id, Mutex::new(Some(w)), OnceLock::new())).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((id, work, done)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let code = match work.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    Some(Work::Compile { mut context, quickly }) => Code::of(*id, &mut context, if quickly { quick } else { isa }),
                    Some(Work::Code(code)) => Ok(code),
                    None => continue,
                };
                let _ = done.set(code);
            }
        };
        std::thread::scope(|s| {
            for _ in 1..self.threads.min(compiled) {
                s.spawn(work);
            }
            work();
        });
        for (id, _, done) in jobs {
            let lost = || Err(ModuleError::Compilation(CodegenError::Unsupported("a thread of the compiler was lost".into())));
            let code = done.into_inner().unwrap_or_else(lost)?;
            self.defined.push(code.define(self.module, id)?);
        }
        Ok(self.defined)
    }
}

impl<M: Module> Module for Queue<'_, M> {
    fn isa(&self) -> &dyn TargetIsa {
        self.module.isa()
    }

    fn declarations(&self) -> &ModuleDeclarations {
        self.module.declarations()
    }

    fn declare_function(&mut self, name: &str, linkage: Linkage, signature: &Signature) -> ModuleResult<FuncId> {
        self.module.declare_function(name, linkage, signature)
    }

    fn declare_anonymous_function(&mut self, signature: &Signature) -> ModuleResult<FuncId> {
        self.module.declare_anonymous_function(signature)
    }

    fn declare_data(&mut self, name: &str, linkage: Linkage, writable: bool, tls: bool) -> ModuleResult<DataId> {
        self.module.declare_data(name, linkage, writable, tls)
    }

    fn declare_anonymous_data(&mut self, writable: bool, tls: bool) -> ModuleResult<DataId> {
        self.module.declare_anonymous_data(writable, tls)
    }

    fn define_function_with_control_plane(&mut self, id: FuncId, context: &mut Context, _: &mut ControlPlane) -> ModuleResult<()> {
        self.take(id, context, false)
    }

    fn define_function_bytes(&mut self, id: FuncId, align: u64, bytes: &[u8], relocs: &[ModuleReloc]) -> ModuleResult<()> {
        let code = Code { align, bytes: bytes.to_vec(), relocs: relocs.to_vec(), steps: Vec::new() };
        if self.threads <= 1 {
            self.defined.push(code.define(self.module, id)?);
        } else {
            self.waiting.push((id, Work::Code(code)));
        }
        Ok(())
    }

    fn define_data(&mut self, id: DataId, data: &DataDescription) -> ModuleResult<()> {
        self.module.define_data(id, data)
    }
}

//! MLIR: contexts, pass pipelines, and the code that comes out of them.

use crate::spirv;
use crate::target::{Features, Flavour};
use melior::dialect::DialectRegistry;
use melior::ir::operation::OperationLike;
use melior::ir::{Attribute, AttributeLike, BlockLike, Module};
use melior::pass::PassManager;
use melior::utility::{parse_pass_pipeline, register_all_dialects, register_all_llvm_translations, register_all_passes};
use melior::{Context, StringRef};
use mlir_sys::{
    mlirArrayAttrGetElement, mlirArrayAttrGetNumElements, mlirAttributeIsAGPUObjectAttr, mlirBlockAppendOwnedOperation,
    mlirBlockGetFirstOperation, mlirGPUObjectAttrGetObject, mlirModuleGetBody, mlirOperationGetAttributeByName,
    mlirOperationGetNextInBlock, mlirOperationGetRegion, mlirOperationRemoveFromParent, mlirRegionGetFirstBlock,
};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// Told of a module after each stage of lowering: the stage's name and the module's text.
pub type Watch<'a> = Option<&'a mut dyn FnMut(&str, &str)>;

/// What arguments that are descriptions of tensors are known by.
pub const DESCRIPTION: &str = "llvm.align = 64 : i64";

/// The stages of lowering for `flavour`, in order, as they are named for [`Watch`].
pub fn stages(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::Spirv(_) => &["kernel", "canonical", "spirv"],
        Flavour::Ptx(_) => &["kernel", "canonical", "nvvm"],
    }
}

/// One context, with all that kernels need. Making one takes milliseconds; a thread makes one and keeps it.
pub struct Compiler {
    cx: Context,
    /// What MLIR said last.
    said: Arc<Mutex<String>>,
}

impl Default for Compiler {
    fn default() -> Compiler {
        static PASSES: Once = Once::new();
        PASSES.call_once(register_all_passes);
        let registry = DialectRegistry::new();
        register_all_dialects(&registry);
        let cx = Context::new();
        cx.append_dialect_registry(&registry);
        register_all_llvm_translations(&cx);
        for dialect in ["arith", "gpu", "llvm", "math", "memref", "nvvm", "scf", "spirv"] {
            cx.get_or_load_dialect(dialect);
        }
        cx.enable_multi_threading(false);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        cx.attach_diagnostic_handler(move |d| {
            let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_empty() {
                *said = d.to_string();
            }
            true
        });
        Compiler { cx, said }
    }
}

impl Compiler {
    pub fn context(&self) -> &Context {
        &self.cx
    }

    /// Lowers a module of one kernel to code.
    ///
    /// # Errors
    /// What MLIR says is wrong with it.
    pub fn lower(&self, mut module: Module, flavour: Flavour, mut watch: Watch) -> Result<Vec<u8>, String> {
        let mut tell = |stage: &str, m: &Module| {
            if let Some(watch) = &mut watch {
                watch(stage, &m.as_operation().to_string());
            }
        };
        tell("kernel", &module);
        self.pass(&mut module, "builtin.module(canonicalize,cse,loop-invariant-code-motion)")?;
        tell("canonical", &module);
        match flavour {
            Flavour::Spirv(features) => {
                let caps = capabilities(features);
                self.pass(
                    &mut module,
                    &format!(
                        "builtin.module(spirv-attach-target{{ver=v1.3 caps={caps} exts=SPV_KHR_storage_buffer_storage_class,SPV_KHR_16bit_storage,SPV_KHR_8bit_storage \
                         client_api=Vulkan}},convert-math-to-spirv,convert-gpu-to-spirv,spirv.module(spirv-lower-abi-attrs,spirv-update-vce))"
                    ),
                )?;
                tell("spirv", &module);
                let mut wrapped = self.wrapped(&module)?;
                self.pass(&mut wrapped, "builtin.module(gpu-module-to-binary)")?;
                self.object(&wrapped).map(|bytes| spirv::exact(&bytes))
            }
            Flavour::Ptx(chip) => {
                let ptx = chip.ptx();
                self.pass(
                    &mut module,
                    &format!(
                        "builtin.module(nvvm-attach-target{{chip={chip} features=+ptx{ptx} O=3}},gpu.module(convert-scf-to-cf,\
                         convert-gpu-to-nvvm{{use-bare-ptr-memref-call-conv=1}},convert-nvvm-to-llvm,canonicalize,cse,reconcile-unrealized-casts))"
                    ),
                )?;
                self.keep_arguments(&module);
                tell("nvvm", &module);
                self.pass(&mut module, "builtin.module(gpu-module-to-binary{format=isa})")?;
                let mut text = self.object(&module)?;
                while text.last() == Some(&0) {
                    text.pop();
                }
                Ok(text)
            }
        }
    }

    /// Says of arguments that are descriptions of tensors, known by their alignment, that they are passed whole and read where they are: the lowering of
    /// functions keeps that of no argument.
    fn keep_arguments(&self, m: &Module) {
        let name = StringRef::new("arg_attrs").to_raw();
        // SAFETY: the module is alive, and blocks are walked while nothing changes them; attributes are checked for being there.
        unsafe {
            let mut outer = mlirBlockGetFirstOperation(mlirModuleGetBody(m.to_raw()));
            while !outer.ptr.is_null() {
                let mut op = mlir_sys::MlirOperation { ptr: std::ptr::null_mut() };
                if mlir_sys::mlirOperationGetNumRegions(outer) > 0 {
                    let block = mlirRegionGetFirstBlock(mlirOperationGetRegion(outer, 0));
                    if !block.ptr.is_null() {
                        op = mlirBlockGetFirstOperation(block);
                    }
                }
                while !op.ptr.is_null() {
                    let attributes = mlirOperationGetAttributeByName(op, name);
                    if !attributes.ptr.is_null() {
                        let text = Attribute::from_raw(attributes).to_string();
                        let kept = text.replace(
                            DESCRIPTION,
                            &format!("{DESCRIPTION}, llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant"),
                        );
                        if let Some(kept) = Attribute::parse(&self.cx, &kept) {
                            mlir_sys::mlirOperationSetAttributeByName(op, name, kept.to_raw());
                        }
                    }
                    op = mlirOperationGetNextInBlock(op);
                }
                outer = mlirOperationGetNextInBlock(outer);
            }
        }
    }

    fn pass(&self, module: &mut Module, pipeline: &str) -> Result<(), String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let manager = PassManager::new(&self.cx);
        parse_pass_pipeline(manager.as_operation_pass_manager(), pipeline).map_err(|e| e.to_string())?;
        manager.enable_verifier(true);
        manager.run(module).map_err(|e| self.why(&e.to_string()))
    }

    fn why(&self, otherwise: &str) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_empty() { otherwise.to_owned() } else { said.clone() }
    }

    /// The SPIR-V module of `m` in a module that serialisation takes.
    fn wrapped(&self, m: &Module) -> Result<Module<'_>, String> {
        const TARGET: &str = "#spirv.target_env<#spirv.vce<v1.3, [Shader], [SPV_KHR_storage_buffer_storage_class]>, api=Vulkan, #spirv.resource_limits<>>";
        let text = format!("module attributes {{gpu.container_module}} {{ gpu.module @kernels [{TARGET}] {{ }} }}");
        let wrapped = Module::parse(&self.cx, &text).ok_or_else(|| self.why("no module to serialise"))?;
        let op = m.body().first_operation();
        let mut op = op.map_or(mlir_sys::MlirOperation { ptr: std::ptr::null_mut() }, |o| o.to_raw());
        // SAFETY: both modules are alive, the first operation of `wrapped` is the `gpu.module` above with its one region and block, and
        // an operation that is removed from one block has no owner until it is appended to the other.
        unsafe {
            let inner = mlirBlockGetFirstOperation(mlirModuleGetBody(wrapped.to_raw()));
            let block = mlirRegionGetFirstBlock(mlirOperationGetRegion(inner, 0));
            while !op.ptr.is_null() {
                let next = mlirOperationGetNextInBlock(op);
                let name = mlir_sys::mlirIdentifierStr(mlir_sys::mlirOperationGetName(op));
                if StringRef::from_raw(name).as_str() == Ok("spirv.module") {
                    mlirOperationRemoveFromParent(op);
                    mlirBlockAppendOwnedOperation(block, op);
                }
                op = next;
            }
        }
        Ok(wrapped)
    }

    /// The payload of the only `gpu.binary`.
    fn object(&self, m: &Module) -> Result<Vec<u8>, String> {
        let mut op = m.body().first_operation();
        while let Some(o) = op {
            if o.name().as_string_ref().as_str() == Ok("gpu.binary") {
                // SAFETY: the module is alive; attributes are checked for being there and of their kind, and the bytes are copied.
                unsafe {
                    let objects = mlirOperationGetAttributeByName(o.to_raw(), StringRef::new("objects").to_raw());
                    if !objects.ptr.is_null() && mlirArrayAttrGetNumElements(objects) > 0 {
                        let object = mlirArrayAttrGetElement(objects, 0);
                        if mlirAttributeIsAGPUObjectAttr(object) {
                            let bytes = mlirGPUObjectAttrGetObject(object);
                            return Ok(std::slice::from_raw_parts(bytes.data.cast::<u8>(), bytes.length).to_vec());
                        }
                    }
                }
            }
            op = o.next_in_block();
        }
        Err(self.why("lowering gave no code"))
    }
}

fn capabilities(f: Features) -> String {
    let mut caps = vec!["Shader"];
    for (has, names) in [
        (f.int8, &["Int8", "StorageBuffer8BitAccess"][..]),
        (f.int16, &["Int16", "StorageBuffer16BitAccess"]),
        (f.int64, &["Int64"]),
        (f.float64, &["Float64"]),
    ] {
        if has {
            caps.extend(names);
        }
    }
    caps.join(",")
}

//! From a plan to kernels and launches of them, for no device in particular.

use crate::build;
use crate::cache::KernelCache;
use crate::code::Code;
use crate::design::{Design, Spec};
use crate::kernels;
use crate::mlir::{Compiler, Watch};
use crate::program::{Launch, Program};
use crate::split::divided;
use crate::target::{Factors, Flavour};
use graphc_cpu::{CompileError, Unsupported};
use graphc_ir::Elem;
use graphc_passes::plan::{Plan, Step, StepKind};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

type Made = Result<Arc<Code>, Refusal>;

/// Why a kernel has no code.
enum Refusal {
    /// Something in it that GPUs have no code for.
    Unsupported(String),
    Codegen(String),
}

/// A kernel to be made, and the step that first asks for it.
struct Order {
    key: String,
    design: Design,
    spec: Spec,
    step: usize,
}

type Kernels = HashMap<(Flavour, String), Arc<Code>>;

/// Kernels of this process by what they are made from.
static MADE: LazyLock<Mutex<Kernels>> = LazyLock::new(Mutex::default);

/// Makes the kernels of a placed plan, in which f32 products multiply `factors`, on `threads` threads; those that `cache` holds are taken from
/// there.
///
/// # Errors
/// `Unsupported` lists every step that has no kernel.
pub fn compile(
    plan: Plan,
    flavour: Flavour,
    factors: Factors,
    threads: usize,
    cache: Option<&KernelCache>,
) -> Result<Program, CompileError> {
    let factors = factors.within(flavour);
    let plan = divided(plan, flavour, factors);
    let (orders, launches) = orders(&plan, flavour, factors)?;
    let results: Vec<Mutex<Option<Made>>> = orders.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut compiler = None;
        while let Some(k) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|k| *k < orders.len()) {
            let made = made(&orders[k], flavour, cache, &mut compiler);
            *results[k].lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    std::thread::scope(|s| {
        (1..threads.min(orders.len())).for_each(|_| drop(s.spawn(work)));
        work();
    });
    let (mut kernels, mut unsupported) = (Vec::new(), Vec::new());
    for (order, result) in orders.iter().zip(results) {
        let step = &plan.steps[order.step];
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(code)) => kernels.push(code),
            Some(Err(Refusal::Unsupported(why))) => unsupported.push(refused(step, why)),
            Some(Err(Refusal::Codegen(why))) => match absent(&plan, step, flavour) {
                Some(elem) => unsupported.push(refused(step, format!("{elem} on devices that lack such numbers"))),
                None => {
                    return Err(CompileError::Codegen(format!("kernel {} of node {:?}: {why}", order.key, step.loc.name())));
                }
            },
            None => return Err(CompileError::Codegen("a kernel was not made".into())),
        }
    }
    if !unsupported.is_empty() {
        return Err(CompileError::Unsupported(unsupported));
    }
    Ok(Program { plan, kernels, launches, packed: None })
}

/// The kernels of a plan, each once, and the launches.
fn orders(plan: &Plan, flavour: Flavour, factors: Factors) -> Result<(Vec<Order>, Vec<Option<Launch>>), CompileError> {
    let (mut orders, mut launches, mut unsupported) = (Vec::<Order>::new(), Vec::new(), Vec::new());
    let mut known: HashMap<String, usize> = HashMap::new();
    for (i, step) in plan.steps.iter().enumerate() {
        let design = match kernels::design(plan, &step.kind, flavour, factors) {
            Ok(Some(d)) => d,
            Ok(None) => {
                launches.push(None);
                continue;
            }
            Err(why) => {
                unsupported.push(refused(step, why));
                continue;
            }
        };
        let (spec, params, buffers) = design.specify(plan, i);
        let key = format!("{}{}", design.name, spec.key());
        let groups = design.groups();
        let kernel = *known.entry(key.clone()).or_insert(orders.len());
        if kernel == orders.len() {
            orders.push(Order { key, design, spec, step: i });
        }
        launches.push(Some(Launch { kernel, buffers, params, groups }));
    }
    if unsupported.is_empty() { Ok((orders, launches)) } else { Err(CompileError::Unsupported(unsupported)) }
}

/// A type of numbers that a step reads or writes and devices of a flavour may lack.
fn absent(plan: &Plan, step: &Step, flavour: Flavour) -> Option<Elem> {
    let Flavour::Spirv(has) = flavour else { return None };
    let lacks = |e: &Elem| match (e.is_int(), e.size()) {
        (true, 1) => !has.int8,
        (true, 2) => !has.int16,
        (true, 8) => !has.int64,
        _ => *e == Elem::F64 && !has.float64,
    };
    step.reads.iter().chain(&step.writes).map(|&b| plan.buffer(b).ty.elem).find(lacks)
}

fn refused(step: &Step, why: String) -> Unsupported {
    let op = match &step.kind {
        StepKind::Kernel { symbol, .. } => symbol.trim_start_matches("gc_"),
        _ => "loop",
    };
    Unsupported { op, types: String::new(), node: step.loc.name().to_owned(), why }
}

/// A kernel of this process or of the cache, or a new one.
fn made(
    order: &Order,
    flavour: Flavour,
    cache: Option<&KernelCache>,
    compiler: &mut Option<Compiler>,
) -> Result<Arc<Code>, Refusal> {
    let key = (flavour, order.key.clone());
    if let Some(code) = MADE.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(code.clone());
    }
    let name = format!("{flavour:?} {}", order.key);
    let code = match cache.and_then(|c| c.load(&name)) {
        Some(code) => code,
        None => {
            let code = generate(order, flavour, compiler.get_or_insert_default(), None)?;
            if let Some(c) = cache {
                c.save(&name, &code);
            }
            code
        }
    };
    let code = Arc::new(code);
    MADE.lock().unwrap_or_else(PoisonError::into_inner).insert(key, code.clone());
    Ok(code)
}

fn generate(order: &Order, flavour: Flavour, compiler: &Compiler, watch: Watch) -> Result<Code, Refusal> {
    written(&order.design, &order.spec, flavour, compiler, watch)
}

fn written(design: &Design, spec: &Spec, flavour: Flavour, compiler: &Compiler, watch: Watch) -> Result<Code, Refusal> {
    let entry: String = design.name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let sizes = (spec.slots, spec.params);
    let built = build::kernel(compiler.context(), flavour, &entry, design.threads, sizes, |b| (design.write)(b, spec));
    let (module, bindings, shared) = built.map_err(Refusal::Unsupported)?;
    let bytes = compiler.lower(module, flavour, watch).map_err(Refusal::Codegen)?;
    Ok(Code { bytes, entry, bindings, threads: design.threads as u32, shared })
}

/// A plan of one step, which `design` computes.
///
/// # Errors
/// As [`compile`].
pub fn of_design(plan: Plan, design: &Design, flavour: Flavour) -> Result<Program, CompileError> {
    let (spec, params, buffers) = design.specify(&plan, 0);
    let code = written(design, &spec, flavour, &Compiler::default(), None).map_err(|r| match r {
        Refusal::Unsupported(why) | Refusal::Codegen(why) => CompileError::Codegen(format!("kernel {}: {why}", design.name)),
    })?;
    let launch = Launch { kernel: 0, buffers, params, groups: design.groups() };
    Ok(Program { plan, kernels: vec![Arc::new(code)], launches: vec![Some(launch)], packed: None })
}

/// A kernel and how it came about, for people to read.
pub struct Listing {
    pub key: String,
    /// The source node that first asks for it.
    pub node: String,
    /// MLIR after each stage, by its name.
    pub stages: Vec<(String, String)>,
    pub code: Code,
}

/// The kernels of a plan with all stages of their lowering.
///
/// # Errors
/// As [`compile`].
pub fn list(plan: &Plan, flavour: Flavour, factors: Factors) -> Result<Vec<Listing>, CompileError> {
    let compiler = Compiler::default();
    let factors = factors.within(flavour);
    let plan = &divided(plan.clone(), flavour, factors);
    let (orders, _) = orders(plan, flavour, factors)?;
    let mut listings = Vec::new();
    for order in orders {
        let step = &plan.steps[order.step];
        let mut stages = Vec::new();
        let mut watch = |stage: &str, text: &str| stages.push((stage.to_owned(), text.to_owned()));
        let code = generate(&order, flavour, &compiler, Some(&mut watch)).map_err(|r| match r {
            Refusal::Unsupported(why) => CompileError::Unsupported(vec![refused(step, why)]),
            Refusal::Codegen(why) => CompileError::Codegen(format!("kernel {}: {why}", order.key)),
        })?;
        listings.push(Listing { key: order.key, node: step.loc.name().to_owned(), stages, code });
    }
    Ok(listings)
}

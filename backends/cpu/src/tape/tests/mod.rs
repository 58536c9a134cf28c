//! Loops compiled in every variant of this machine against the oracle.

mod functions;
mod loops;
mod oracle;

use super::*;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use graphc_ir::Elem;
use graphc_ir::tape::Tape;
use graphc_passes::plan::{Access, Combine};
use std::ffi::c_void;

/// A module that resolves the library's symbols in this process.
pub fn module() -> JITModule {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed").unwrap();
    flags.set("is_pic", "false").unwrap();
    let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
    let mut b = JITBuilder::with_isa(isa, cranelift_module::default_libcall_names());
    graphc_kernels::symbols().for_each(|s| {
        b.symbol(s.name, s.address);
    });
    JITModule::new(b)
}

/// Runs the chunks one after the other, the last first.
unsafe extern "C" fn backwards(_: *const c_void, chunks: usize, body: graphc_abi::Body, data: *const c_void) {
    for c in (0..chunks).rev() {
        // SAFETY: as the caller of a `ParallelFor` promises.
        unsafe { body(data, c, 0) }
    }
}

pub fn ctx(threads: usize) -> Ctx {
    Ctx {
        threads,
        pool: std::ptr::null(),
        parallel_for: backwards,
        scratch: std::ptr::null_mut(),
        cancel: std::ptr::null(),
        trace: None,
        trace_data: std::ptr::null_mut(),
        error: std::ptr::null_mut(),
    }
}

/// The tiers to test here.
pub fn tiers() -> Vec<Tier> {
    Tier::ALL.into_iter().map(|(_, tier)| tier).filter(|tier| tier.is_here()).collect()
}

/// A loop in one variant, and the module that owns its code.
pub struct Compiled {
    _module: JITModule,
    f: LoopFn,
}

pub fn compile(l: &Loop, variants: Variants) -> Result<Compiled, TapeError> {
    let mut module = module();
    let id = define_loop(&mut module, l, "loop", &TapeOptions { variants })?;
    module.finalize_definitions().unwrap();
    // SAFETY: the code is a function of this signature.
    let f = unsafe { std::mem::transmute::<*const u8, LoopFn>(module.get_finalized_function(id)) };
    Ok(Compiled { _module: module, f })
}

impl Compiled {
    /// The status; `sizes` gives the words of `dims`.
    pub fn run(&self, threads: usize, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>], sizes: &[i64]) -> i32 {
        let ctx = ctx(threads);
        let mut ptrs: Vec<*mut u8> = inputs.iter().map(|b| b.as_ptr() as *mut u8).collect();
        ptrs.extend(outputs.iter_mut().map(|b| b.as_mut_ptr()));
        // SAFETY: the buffers are as large as the loop's accesses reach.
        unsafe { (self.f)(&ctx, ptrs.as_ptr(), sizes.as_ptr()) }
    }
}

pub fn consts(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|d| Dim::from(*d)).collect()
}

pub fn access(elem: Elem, offset: i64, strides: &[i64]) -> Access {
    Access { elem, offset: Dim::from(offset), strides: consts(strides) }
}

/// Row-major strides of `shape`, zero along axes where `keep` is false.
pub fn strides_of(shape: &[i64], keep: &dyn Fn(usize) -> bool) -> Vec<i64> {
    let mut s = vec![0; shape.len()];
    let mut n = 1;
    for a in (0..shape.len()).rev() {
        if keep(a) {
            s[a] = n;
            n *= shape[a];
        }
    }
    s
}

/// Elements that an access reaches.
pub fn reach(a: &Access, extents: &[Dim]) -> usize {
    let far = a.strides.iter().zip(extents).map(|(s, e)| s.as_const().unwrap() * (e.as_const().unwrap() - 1).max(0)).sum::<i64>();
    (a.offset.as_const().unwrap() + far + 1) as usize
}

/// A loop over one axis of `n` elements, all inputs and outputs contiguous.
pub fn flat(n: i64, tape: Tape, inputs: &[Elem]) -> Loop {
    let outputs = tape.outputs.iter().map(|t| access(tape.elem(*t), 0, &[1])).collect();
    Loop {
        name: "flat".into(),
        extents: consts(&[n]),
        reduced: 0,
        combine: Combine::Sum,
        inputs: inputs.iter().map(|e| access(*e, 0, &[1])).collect(),
        outputs,
        tape,
    }
}

/// A fixed sequence of pseudo-random words.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<X: Copy>(&mut self, of: &[X]) -> X {
        of[self.below(of.len())]
    }

    /// An element: often small, sometimes special.
    pub fn value(&mut self, e: Elem) -> oracle::Val {
        if e.is_float() {
            let special =
                [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-40, -65520.0, 3e38, 2147483648.0, 0.5, -1.5, 1e-9];
            let f = match self.below(8) {
                0 => self.pick(&special),
                1 => (self.next() as i64 as f64 / 1e15).trunc(),
                2 => self.below(9) as f64 - 4.0,
                _ => (self.next() >> 11) as f64 / (1u64 << 50) as f64 - 4.0,
            };
            return oracle::real(oracle::round(e, f));
        }
        let i = match self.below(4) {
            0 => self.next() as i128,
            _ => self.below(20) as i128 - 6,
        };
        oracle::cast(oracle::int(i), Elem::I64, e)
    }

    pub fn buffer(&mut self, e: Elem, n: usize) -> Vec<u8> {
        (0..n)
            .flat_map(|_| {
                let v = self.value(e);
                oracle::write(e, v)
            })
            .collect()
    }
}

/// True if two values of `e` agree to `tolerance`, relative to `scale` or to the value.
pub fn agree(e: Elem, got: oracle::Val, want: oracle::Val, tolerance: f64, scale: f64) -> bool {
    if !e.is_float() {
        return got.i == want.i;
    }
    let (g, w) = (got.f, want.f);
    if w.is_nan() || g.is_nan() {
        return w.is_nan() && g.is_nan();
    }
    g == w || (g - w).abs() <= tolerance * w.abs().max(scale)
}

//! Fused loops against AVX-512 intrinsics of the same body, both on data in the L2 cache: time of the loop over time of the intrinsics.
//!
//! `cargo bench -p graphc-cpu --bench tape`

#[cfg(target_arch = "x86_64")]
fn main() {
    if graphc_kernels::tier::detect() == graphc_kernels::tier::Tier::Avx512 {
        x64::main();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {}

#[cfg(target_arch = "x86_64")]
mod x64 {
    use cranelift_codegen::settings::{self, Configurable};
    use cranelift_jit::{JITBuilder, JITModule};
    use graphc_abi::Ctx;
    use graphc_cpu::tape::{LoopFn, TapeOptions, Variants, define_loop};
    use graphc_ir::tape::{Bin, T, Tape, Un};
    use graphc_ir::{Dim, Elem};
    use graphc_kernels::tier::Tier;
    use graphc_passes::plan::{Access, Combine, Loop};
    use std::arch::x86_64::*;
    use std::ffi::c_void;
    use std::time::Instant;

    unsafe extern "C" fn serial(_: *const c_void, chunks: usize, body: graphc_abi::Body, data: *const c_void) {
        for c in 0..chunks {
            // SAFETY: the caller's contract.
            unsafe { body(data, c, 0) }
        }
    }

    fn compile(l: &Loop, tier: Tier) -> (JITModule, LoopFn) {
        let mut flags = settings::builder();
        flags.set("opt_level", "speed").unwrap();
        let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
        let mut b = JITBuilder::with_isa(isa, cranelift_module::default_libcall_names());
        graphc_kernels::symbols().for_each(|s| {
            b.symbol(s.name, s.address);
        });
        let mut m = JITModule::new(b);
        let start = Instant::now();
        let id = define_loop(&mut m, l, "bench", &TapeOptions { variants: Variants::Only(tier) }).unwrap();
        m.finalize_definitions().unwrap();
        println!("  {tier:?}: compiled in {:.0} us", start.elapsed().as_secs_f64() * 1e6);
        // SAFETY: the function has this signature.
        let f = unsafe { std::mem::transmute::<*const u8, LoopFn>(m.get_finalized_function(id)) };
        (m, f)
    }

    /// Best time of many runs in seconds.
    fn best(mut f: impl FnMut()) -> f64 {
        let mut best = f64::MAX;
        for _ in 0..400 {
            let start = Instant::now();
            f();
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    }

    fn access(strides: &[i64]) -> Access {
        Access { elem: Elem::F32, offset: Dim::ZERO, strides: strides.iter().map(|s| Dim::from(*s)).collect() }
    }

    fn tape(f: impl Fn(&mut Tape, T) -> T) -> Tape {
        let mut t = Tape::default();
        let x = t.load(0, Elem::F32);
        let y = f(&mut t, x);
        t.outputs.push(y);
        t
    }

    fn gelu(t: &mut Tape, x: T) -> T {
        let k = t.constant(std::f64::consts::FRAC_1_SQRT_2, x);
        let (half, one) = (t.constant(0.5, x), t.constant(1.0, x));
        let u = t.mul(x, k);
        let e = t.un(Un::Erf, u);
        let e = t.add(e, one);
        let h = t.mul(x, half);
        t.mul(h, e)
    }

    fn tanh_gelu(t: &mut Tape, x: T) -> T {
        let (c, k) = (t.constant(0.044715, x), t.constant(0.7978845608, x));
        let (half, one) = (t.constant(0.5, x), t.constant(1.0, x));
        let x2 = t.mul(x, x);
        let x3 = t.mul(x2, x);
        let inner = t.fma(x3, c, x);
        let u = t.mul(inner, k);
        let e = t.un(Un::Tanh, u);
        let e = t.add(e, one);
        let h = t.mul(x, half);
        t.mul(h, e)
    }

    fn chain(t: &mut Tape, x: T) -> T {
        let mut v = x;
        for q in 0..12 {
            let c = t.constant(0.5 + q as f64, x);
            v = match q % 4 {
                0 => t.fma(v, x, c),
                1 => t.add(v, c),
                2 => t.bin(Bin::Max, v, c),
                _ => t.mul(v, x),
            };
        }
        v
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn relu_axpb(x: *const f32, y: *mut f32, n: usize) {
        let (a, b, z) = (_mm512_set1_ps(1.5), _mm512_set1_ps(0.5), _mm512_setzero_ps());
        for i in (0..n).step_by(64) {
            for u in 0..4 {
                // SAFETY: `n` is a multiple of 64.
                unsafe {
                    let v = _mm512_fmadd_ps(_mm512_loadu_ps(x.add(i + 16 * u)), a, b);
                    _mm512_storeu_ps(y.add(i + 16 * u), _mm512_max_ps(z, v));
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512dq")]
    unsafe fn chain_intrinsics(x: *const f32, y: *mut f32, n: usize) {
        for i in (0..n).step_by(64) {
            for u in 0..4 {
                // SAFETY: `n` is a multiple of 64.
                unsafe {
                    let x = _mm512_loadu_ps(x.add(i + 16 * u));
                    let mut v = x;
                    for q in 0..12 {
                        let c = _mm512_set1_ps(0.5 + q as f32);
                        v = match q % 4 {
                            0 => _mm512_fmadd_ps(v, x, c),
                            1 => _mm512_add_ps(v, c),
                            2 => _mm512_max_ps(c, v),
                            _ => _mm512_mul_ps(v, x),
                        };
                    }
                    _mm512_storeu_ps(y.add(i + 16 * u), v);
                }
            }
        }
    }

    type Reference = unsafe fn(*const f32, *mut f32, usize);

    pub fn main() {
        let n = 32_768usize;
        let ctx = Ctx {
            threads: 1,
            pool: std::ptr::null(),
            parallel_for: serial,
            scratch: std::ptr::null_mut(),
            cancel: std::ptr::null(),
            trace: None,
            trace_data: std::ptr::null_mut(),
            error: std::ptr::null_mut(),
        };
        let x: Vec<f32> = (0..n).map(|i| (i % 977) as f32 / 100.0 - 4.0).collect();
        let mut y = vec![0f32; n];
        let relu = |t: &mut Tape, x: T| {
            let (a, b, z) = (t.constant(1.5, x), t.constant(0.5, x), t.constant(0.0, x));
            let v = t.fma(x, a, b);
            t.bin(Bin::Max, v, z)
        };
        let strip = |name: &str| {
            let s = graphc_kernels::symbols().find(|s| s.name == name).map(|s| s.address);
            // SAFETY: a strip function of one input.
            s.map(|a| unsafe { std::mem::transmute::<*const u8, Reference>(a) })
        };
        let cases: [(&str, Tape, Option<Reference>); 5] = [
            ("relu(x*a+b)", tape(relu), Some(relu_axpb)),
            ("12-op chain", tape(chain), Some(chain_intrinsics)),
            ("gelu (erf)", tape(gelu), strip("gc_strip_gelu_erf_f32")),
            ("gelu (tanh)", tape(tanh_gelu), strip("gc_strip_gelu_tanh_f32")),
            ("exp", tape(|t, x| t.un(Un::Exp, x)), strip("gc_strip_exp_f32")),
        ];
        for (name, tape, reference) in cases {
            let l = Loop {
                name: "bench".into(),
                extents: vec![Dim::from(n)],
                reduced: 0,
                combine: Combine::Sum,
                inputs: vec![access(&[1])],
                outputs: vec![access(&[1])],
                tape,
            };
            println!("{name}");
            // SAFETY: `n` elements in both buffers.
            let base = reference.map(|r| best(|| unsafe { r(x.as_ptr(), y.as_mut_ptr(), n) }));
            for tier in [Tier::Portable, Tier::Avx2, Tier::Avx512] {
                let (_m, f) = compile(&l, tier);
                let ptrs = [x.as_ptr() as *mut u8, y.as_mut_ptr() as *mut u8];
                // SAFETY: as above.
                let t = best(|| unsafe {
                    f(&ctx, ptrs.as_ptr(), std::ptr::null());
                });
                let ratio = base.map_or(String::new(), |b| format!(", {:.2} of the intrinsics' time", t / b));
                println!("  {tier:?}: {:.3} ns an element{ratio}", t / n as f64 * 1e9);
            }
        }
        rows(&ctx);
    }

    /// Short rows with a bias, and reductions.
    fn rows(ctx: &Ctx) {
        for (name, extents, reduced, xs, bs, os) in [
            ("bias over rows of 3", [10_000i64, 3], 0, [3i64, 1], [0i64, 1], [3i64, 1]),
            ("bias over rows of 64", [512, 64], 0, [64, 1], [0, 1], [64, 1]),
            ("sum of rows of 768", [40, 768], 1, [768, 1], [0, 1], [1, 0]),
            ("sum over 512 rows", [64, 512], 1, [1, 64], [1, 0], [1, 0]),
        ] {
            let mut t = Tape::default();
            let (x, b) = (t.load(0, Elem::F32), t.load(1, Elem::F32));
            let s = t.add(x, b);
            t.outputs.push(s);
            let n = (extents[0] * extents[1]) as usize;
            let l = Loop {
                name: "rows".into(),
                extents: extents.iter().map(|e| Dim::from(*e)).collect(),
                reduced,
                combine: Combine::Sum,
                inputs: vec![access(&xs), access(&bs)],
                outputs: vec![access(&os)],
                tape: t,
            };
            println!("{name}");
            let (x, b, mut y) = (vec![1f32; n], vec![2f32; 1024], vec![0f32; n]);
            for tier in [Tier::Portable, Tier::Avx2, Tier::Avx512] {
                let (_m, f) = compile(&l, tier);
                let ptrs = [x.as_ptr() as *mut u8, b.as_ptr() as *mut u8, y.as_mut_ptr() as *mut u8];
                // SAFETY: the buffers are as large as the loop's accesses reach.
                let t = best(|| unsafe {
                    f(ctx, ptrs.as_ptr(), std::ptr::null());
                });
                println!("  {tier:?}: {:.3} ns an element", t / n as f64 * 1e9);
            }
        }
    }
}

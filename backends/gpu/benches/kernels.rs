//! Kernels on a GPU as a share of its measured bandwidth, or of the measured peak of its arithmetic.
//!
//!     cargo bench -p graphc-gpu --features mlir --bench kernels -- [--device K] [--small] [--json FILE] [NAME…]
//!
//! Names choose kernels by their parts. Bandwidth is that of copies on the device, the peak that of sums in registers. With `--small` sizes are
//! those of a test, which say nothing of speed.

use graphc_gpu::{Device, Factors, measure};
use graphc_ir::{Elem, Sym};
use std::io::Write;
use std::process::ExitCode;

/// A function, in which `$M`, `$N` and `$K` are sizes.
struct Case {
    name: &'static str,
    factors: Factors,
    sizes: [usize; 3],
    /// Sizes for `--small`.
    small: [usize; 3],
    body: &'static str,
}

const fn case(name: &'static str, sizes: [usize; 3], small: [usize; 3], body: &'static str) -> Case {
    Case { name, factors: Factors::F32, sizes, small, body }
}

const PRODUCT: &str = "func @f(%x: f32[$M, $K], %w: f32[$K, $N]) -> (%y: f32[$M, $N]) {
    %y = contract %x, %w {lhs = [1], rhs = [0]}
    return %y
}";
const CONVOLUTION: &str = "func @f(%x: f32[$M, 56, 56, $K], %w: f32[3, 3, $K, $N]) -> (%y: f32[$M, 56, 56, $N]) {
    %y = conv2d %x, %w {strides = [1, 1], low = [1, 1], high = [1, 1]}
    return %y
}";
const SQUARE: [usize; 3] = [4096, 4096, 4096];
const IMAGES: [usize; 3] = [64, 32, 64];

const CASES: &[Case] = &[
    case(
        "add a row",
        [4096, 16384, 0],
        [256, 64, 0],
        "func @f(%x: f32[$M, $N], %b: f32[$N]) -> (%y: f32[$M, $N]) { %y = add %x, %b return %y }",
    ),
    case("exponential", [4096, 16384, 0], [256, 64, 0], "func @f(%x: f32[$M, $N]) -> (%y: f32[$M, $N]) { %y = exp %x return %y }"),
    case("softmax", [4096, 16384, 0], [64, 64, 0], "func @f(%x: f32[$M, $N]) -> (%y: f32[$M, $N]) { %y = softmax %x return %y }"),
    case(
        "sum of rows",
        [4096, 16384, 0],
        [64, 64, 0],
        "func @f(%x: f32[$M, $N]) -> (%y: f32[$M]) { %y = reduce %x {axes = [1], kind = \"sum\"} return %y }",
    ),
    case(
        "sum of columns",
        [4096, 16384, 0],
        [64, 64, 0],
        "func @f(%x: f32[$M, $N]) -> (%y: f32[$N]) { %y = reduce %x {axes = [0], kind = \"sum\"} return %y }",
    ),
    case(
        "transposition",
        [8192, 8192, 0],
        [64, 64, 0],
        "func @f(%x: f32[$M, $N]) -> (%y: f32[$N, $M]) { %y = transpose %x {perm = [1, 0]} return %y }",
    ),
    case("product f32", SQUARE, [64, 64, 64], PRODUCT),
    Case { name: "product tf32", factors: Factors::Tf32, sizes: SQUARE, small: [64, 64, 64], body: PRODUCT },
    Case { name: "product bf16", factors: Factors::Bf16, sizes: SQUARE, small: [64, 64, 64], body: PRODUCT },
    case("convolution f32", IMAGES, [1, 8, 4], CONVOLUTION),
    Case { name: "convolution tf32", factors: Factors::Tf32, sizes: IMAGES, small: [1, 8, 4], body: CONVOLUTION },
    Case { name: "convolution bf16", factors: Factors::Bf16, sizes: IMAGES, small: [1, 8, 4], body: CONVOLUTION },
];

struct Options {
    device: usize,
    small: bool,
    json: Option<String>,
    names: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { device: 0, small: false, json: None, names: Vec::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(a) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{a} wants a value"));
        match a.as_str() {
            "--device" => options.device = value()?.parse().map_err(|_| "--device wants a number")?,
            "--json" => options.json = Some(value()?),
            "--small" => options.small = true,
            // Of cargo.
            "--bench" => {}
            a if a.starts_with("--") => return Err(format!("unknown option {a}; there are --device, --small and --json")),
            name => options.names.push(name.to_owned()),
        }
    }
    Ok(options)
}

/// Numbers between -1 and 1, without order.
fn numbers(n: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).flat_map(|_| next().to_le_bytes()).collect()
}

/// Seconds of all launches of a case, their bytes and operations.
fn measured(c: &Case, small: bool, device: &Device) -> Result<(f64, u64, u64), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let [m, n, k] = if small { c.small } else { c.sizes };
    let sized =
        ["$M", "$N", "$K"].iter().zip([m, n, k]).fold(c.body.to_owned(), |t, (name, size)| t.replace(name, &size.to_string()));
    let text = format!("module @bench {{ {} }}", sized.replace("return", "\nreturn").replace("%y =", "\n%y ="));
    let module = graphc_ir::text::parse(&text).map_err(|e| format!("{e}\n{text}"))?;
    let plan = graphc_gpu::plan(&module, "f").map_err(|e| said(&e))?;
    let inputs: Vec<Vec<u8>> = plan
        .inputs
        .iter()
        .map(|p| {
            let count = p.ty.elements().eval(&|_: &Sym| None).unwrap_or(0);
            if p.ty.elem == Elem::F32 { numbers(count as usize) } else { vec![0; count as usize * p.ty.elem.size()] }
        })
        .collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let program = graphc_gpu::compile(plan, device.flavour(), c.factors, 1, None).map_err(|e| said(&e))?;
    let x = device.load(program, 1).map_err(|e| said(&e))?;
    let launches = x.profile(&inputs, &[], if small { 2 } else { 10 }).map_err(|e| said(&e))?;
    Ok(launches.iter().fold((0.0, 0, 0), |(s, b, o), p| (s + p.seconds, b + p.bytes, o + p.operations)))
}

fn run() -> Result<(), String> {
    let options = options()?;
    let device = Device::open(options.device).map_err(|e| e.to_string())?;
    let info = device.info();
    println!("GPU:{}: {} ({})", options.device, info.name, info.api);
    if options.small {
        println!("small sizes: these figures say nothing of speed");
    }
    let bandwidth = device.bandwidth(if options.small { 1 << 20 } else { 1 << 28 }).map_err(|e| e.to_string())?;
    println!("copies on the device: {:.1} GB/s, read and written", bandwidth / 1e9);
    let mut peaks = Vec::new();
    for f in [Factors::F32, Factors::Tf32, Factors::Bf16] {
        let peak = measure::peak(&device, f, options.small).map_err(|e| e.to_string())?;
        println!("sums of {f:?} products: {:.2} TFLOP/s", peak / 1e12);
        peaks.push((f, peak));
    }
    let mut lines = vec![format!(
        "{{\"device\": {:?}, \"api\": {:?}, \"small\": {}, \"bandwidth\": {bandwidth:e}, \"peaks\": {{{}}}, \"kernels\": [",
        info.name,
        info.api,
        options.small,
        peaks.iter().map(|(f, p)| format!("\"{f:?}\": {p:e}")).collect::<Vec<_>>().join(", ")
    )];
    let chosen = |c: &&Case| options.names.is_empty() || options.names.iter().any(|n| c.name.contains(n.as_str()));
    for c in CASES.iter().filter(chosen) {
        let (seconds, bytes, operations) = match measured(c, options.small, &device) {
            Ok(m) => m,
            Err(why) => {
                println!("{:<18} {why}", c.name);
                continue;
            }
        };
        let peak = peaks.iter().find(|(f, _)| *f == c.factors).map_or(f64::NAN, |p| p.1);
        let (moved, computed) = (bytes as f64 / seconds / bandwidth, operations as f64 / seconds / peak);
        let share = if operations > 0 {
            format!("{:5.1}% of the peak", 100.0 * computed)
        } else {
            format!("{:5.1}% of copies", 100.0 * moved)
        };
        println!("{:<18} {:10.1} us  {share}", c.name, seconds * 1e6);
        let comma = if lines.len() > 1 { "," } else { "" };
        lines.push(format!(
            "{comma}{{\"name\": {:?}, \"seconds\": {seconds:e}, \"bytes\": {bytes}, \"operations\": {operations}}}",
            c.name
        ));
    }
    lines.push("]}\n".into());
    if let Some(path) = &options.json {
        let written = std::fs::File::create(path).and_then(|mut f| f.write_all(lines.join("\n").as_bytes()));
        written.map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

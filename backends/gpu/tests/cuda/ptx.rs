//! What the PTX of kernels looks like.

use graphc_gpu::{Chip, Factors, Flavour};

/// The PTX of the only kernel of a function.
fn ptx(body: &str) -> String {
    ptx_with(Factors::F32, body)
}

fn ptx_with(factors: Factors, body: &str) -> String {
    ptx_for(Chip::COMMON, factors, body)
}

fn ptx_for(chip: Chip, factors: Factors, body: &str) -> String {
    let m = graphc_ir::text::parse(&format!("module @test {{ {body} }}")).unwrap_or_else(|e| panic!("{e}"));
    let program = graphc_gpu::compile(graphc_gpu::plan(&m, "f").unwrap(), Flavour::Ptx(chip), factors, 1, None).unwrap();
    let [kernel] = &program.kernels[..] else { panic!("{} kernels", program.kernels.len()) };
    String::from_utf8(kernel.bytes.clone()).unwrap()
}

fn count(text: &str, what: &str) -> usize {
    text.lines().filter(|l| l.trim_start().starts_with(what)).count()
}

/// A bias along rows, and a tensor of the same shape: three accesses of 128 bits, and of each only its address is computed.
#[test]
fn fused_loops_move_128_bits() {
    let text = ptx("func @f(%x: f32[?n, 256], %b: f32[256]) -> (%y: f32[?n, 256]) {
        %y = add %x, %b
        return %y
    }");
    // The first loop takes four elements at a time.
    let inner = text.split("$L__BB0_").find(|part| part.contains(".v4")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((count(inner, "ld.global.v4"), count(inner, "st.global.v4")), (2, 1), "{text}");
    assert_eq!((count(inner, "ld.global.b"), count(inner, "st.global.b")), (0, 0), "{text}");
    let integers = ["add.s", "mul", "shl", "shr", "and.b", "or.b", "sub", "rem", "div", "mad", "cvt"];
    let total: usize = integers.iter().map(|op| count(inner, op)).sum();
    // Two counters, the place in the row, and an offset and an address where they are not those of another access.
    assert!(total <= 8, "{total} integer operations: {text}");
}

#[test]
fn loops_over_one_row_are_even_where_their_memory_is() {
    let text = ptx("func @f(%x: f32[?n]) -> (%y: f32[?n]) {
        %y = neg %x
        return %y
    }");
    assert_eq!((count(&text, "ld.global.v4"), count(&text, "st.global.v4")), (1, 1), "{text}");
    // What is left over.
    assert_eq!((count(&text, "ld.global.b32"), count(&text, "st.global.b32")), (1, 1), "{text}");
    let text = ptx("func @f(%x: f32[7000]) -> (%y: f32[6997]) {
        %s = slice %x {start = [3], size = [6997]}
        %y = neg %s
        return %y
    }");
    // From its fourth element on, memory is not even for four.
    assert_eq!((count(&text, "ld.global.v4"), count(&text, "st.global.v4")), (0, 1), "{text}");
}

/// Each warp of a tile of 64 columns has two by four fragments of sums, and four or two fragments of depth a step, loaded as matrices out of pieces that
/// are copied two steps ahead.
#[test]
fn products_of_few_bits_are_on_tensor_cores() {
    let body = "func @f(%x: f32[?n, 1024], %w: f32[1024, 128]) -> (%y: f32[?n, 128]) {
        %y = contract %x, %w {lhs = [1], rhs = [0]}
        return %y
    }";
    for (factors, instruction, products) in [
        (Factors::Tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", 32),
        (Factors::Bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", 16),
    ] {
        let text = ptx_with(factors, body);
        assert_eq!((count(&text, instruction), count(&text, "ldmatrix.sync.aligned.m8n8.x4.shared.b16")), (products, 8), "{text}");
        // Two steps before the loop and one in it.
        assert!(count(&text, "cp.async.cg.shared.global") >= 3 * 6 && count(&text, "cp.async.wait_group") == 2, "{text}");
    }
    // Rows that begin anywhere are not copied by pieces.
    let odd = ptx_with(Factors::Tf32, &body.replace("1024", "1021"));
    assert_eq!((count(&odd, "cp.async"), count(&odd, "mma.sync")), (0, 16), "{odd}");
    // Of a wide result on sm_90a: a step of 128 columns is four or two products of a warpgroup, and both factors are brought as boxes.
    for (factors, instruction, steps) in [
        (Factors::Tf32, "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32", 4),
        (Factors::Bf16, "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16", 2),
    ] {
        let text = ptx_for(Chip::HOPPER, factors, &body.replace("128]", "4096]"));
        let (boxes, products) =
            (count(&text, "cp.async.bulk.tensor.2d") + count(&text, "cp.async.bulk.tensor.3d"), count(&text, instruction));
        // LLVM writes the loop over steps out more than once.
        assert!(products > 0 && products % steps == 0 && boxes > 0 && boxes % 2 == 0, "{products} products, {boxes} boxes: {text}");
        assert!(text.contains(".target sm_90a") && count(&text, "mma.sync") == 0, "{text}");
    }
    assert_eq!(count(&ptx(body), "mma.sync"), 0);
    let old = Flavour::Ptx(Chip::of(75).unwrap());
    assert_eq!((Factors::Tf32.within(old), Factors::Tf32.within(Flavour::Ptx(Chip::COMMON))), (Factors::F32, Factors::Tf32));
}

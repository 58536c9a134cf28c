//! Kernels, a family a file: from a step of the plan to a [`Design`].

mod attention;
mod complex;
mod copy;
mod element;
mod epilogue;
mod gather;
mod matrix;
mod pipelined;
mod reduce;
mod rows;
mod tape;
mod tensor;
mod warpgroups;
mod wide;
mod window;

use crate::build::{Build, V};
use crate::design::{Args, Design, Spec};
use crate::target::{Factors, Flavour};
use graphc_cpu::tape::code::Code;
use graphc_ir::Dim;
use graphc_passes::plan::{Plan, StepKind};

/// The design of a launch for `flavour`, in which f32 products multiply `factors`; `None` for marks of control flow.
///
/// # Errors
/// What has no GPU kernel.
pub fn design(plan: &Plan, step: &StepKind, flavour: Flavour, factors: Factors) -> Result<Option<Design>, String> {
    Ok(Some(match step {
        StepKind::Loop { id, inputs, outputs } => tape::design(&plan.loops[id.index()], inputs, outputs)?,
        StepKind::Kernel { symbol, args } => {
            let a = Args::new(symbol, args, flavour, factors);
            match *symbol {
                "gc_gemm_f32" => matrix::gemm(&a)?,
                "gc_conv2d_f32" => matrix::conv2d(&a)?,
                "gc_matmul_f32" | "gc_matmul_f64" | "gc_matmul_i32" | "gc_matmul_i64" => matrix::matmul(&a)?,
                "gc_pack_f32" => copy::pack(&a),
                "gc_depthwise_f32" => window::depthwise(&a)?,
                "gc_pool2d_f32" => window::pool2d(&a),
                "gc_resize_bilinear_f32" => window::resize_bilinear(&a),
                "gc_resize_nearest" => window::resize_nearest(&a)?,
                "gc_softmax_f32" | "gc_softmax_f64" => rows::softmax(&a)?,
                "gc_layer_norm_f32" => rows::layer_norm(&a)?,
                "gc_attention_f32" => attention::attention(&a)?,
                "gc_reduce" | "gc_reduce_f32" => reduce::reduce(&a)?,
                "gc_arg_reduce" => reduce::arg_reduce(&a)?,
                "gc_topk" => reduce::top_k(&a)?,
                "gc_cumulate" => reduce::cumulate(&a)?,
                "gc_copy_strided" => copy::copy_strided(&a)?,
                "gc_transpose" => copy::transpose(&a)?,
                "gc_fill" => copy::fill(&a)?,
                "gc_pad_mirror" => copy::pad_mirror(&a)?,
                "gc_gather" => gather::gather(&a)?,
                "gc_gather_nd" => gather::gather_nd(&a)?,
                "gc_scatter_nd" => gather::scatter_nd(&a)?,
                name => return Err(format!("there is no GPU kernel for {}", name.trim_start_matches("gc_"))),
            }
        }
        StepKind::If { .. } | StepKind::Else | StepKind::EndIf | StepKind::While | StepKind::Test { .. } | StepKind::EndWhile => {
            return Ok(None);
        }
    }))
}

/// The index along each axis of row-major element `i` of `extents`.
fn indices<'c>(b: &mut Build<'c>, i: V<'c>, extents: &[V<'c>]) -> Vec<V<'c>> {
    let mut left = i;
    let mut out = vec![i; extents.len()];
    for a in (0..extents.len()).rev() {
        out[a] = if a == 0 { left } else { b.rest(left, extents[a]) };
        if a > 0 {
            left = b.quot(left, extents[a]);
        }
    }
    out
}

/// `sum(index * stride)`.
fn walk<'c>(b: &mut Build<'c>, index: &[V<'c>], strides: &[V<'c>]) -> V<'c> {
    index.iter().zip(strides).fold(b.i32(0), |at, (&i, &s)| {
        let step = b.mul(i, s);
        b.add(at, step)
    })
}

/// The integers `name0`, `name1`, … of a spec.
fn list<'c>(b: &Build<'c>, s: &Spec, name: &str, n: usize) -> Vec<V<'c>> {
    (0..n).map(|i| s.int(b, &format!("{name}{i}"))).collect()
}

/// `d` with integers `name0`, `name1`, ….
fn with_list(d: Design, name: &str, values: &[Dim]) -> Design {
    values.iter().enumerate().fold(d, |d, (i, v)| d.int(format!("{name}{i}"), v.clone()))
}

/// `code` of one argument for `x`.
fn apply<'c>(b: &mut Build<'c>, code: &Code, x: &[V<'c>]) -> Result<V<'c>, String> {
    use graphc_cpu::tape::code::Op;
    let r = crate::lanes::run(b, code, &mut |b, op, _| match op {
        Op::Load(k) => x.get(*k as usize).copied().unwrap_or_else(|| b.i32(0)),
        _ => b.i32(0),
    })?;
    r.first().copied().ok_or_else(|| "lane code without a result".into())
}

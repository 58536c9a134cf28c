//! The reference interpreter: what every op means, written to be right and not to be fast.
//!
//! It is the oracle of the tests and the constant folder of the passes. No release build runs a model on it.

mod array;
mod check;
mod complex;
mod error;
mod float8;
mod matrix;
mod movement;
mod reduce;
mod resize;
mod run;
mod scalar;
mod tape;

pub use check::check_tape;
pub use error::{EvalError, EvalErrorKind};
pub use run::Interp;

use crate::attr::{Attr, Attrs};
use crate::dim::{Dim, Sym};
use crate::op::{Body, Op};
use crate::tape::Tape;
use crate::tensor::{Tensor, element_count};
use crate::ty::Type;
use array::{Array, Data};
use ndarray::ArrayD;

/// The concrete shapes of an op's results.
type Outputs<'a> = &'a [Vec<usize>];

/// Most elements that a result may have.
const MAX_ELEMENTS: usize = 1 << 31;

/// Evaluates one instruction without regions and state. Symbols in attributes take their values from `syms`.
///
/// # Errors
/// Operands that do not fit, indices out of range, integer division by zero, unbound symbols, types that the op is not defined for.
pub fn eval_inst(op: Op, attrs: &Attrs, inputs: &[Tensor], syms: &dyn Fn(&Sym) -> Option<i64>) -> Result<Vec<Tensor>, EvalError> {
    let def = op.def();
    if inputs.len() < def.operands.0 || inputs.len() > def.operands.1 {
        return Err(EvalError::malformed(format!("{} does not take {} operands", def.name, inputs.len())));
    }
    let named = |e: EvalError| EvalError { message: format!("{}: {}", def.name, e.message), ..e };
    let attrs = concrete(attrs, syms).map_err(named)?;
    let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
    let results = (def.infer)(&types.iter().collect::<Vec<_>>(), &attrs).map_err(|e| named(EvalError::shape(e)))?;
    let shapes = results.iter().map(result_shape).collect::<Result<Vec<_>, _>>().map_err(named)?;
    let out = match def.body {
        Body::Elementwise(_) => {
            let arrays = inputs.iter().map(Array::of).collect::<Result<Vec<_>, _>>();
            arrays.and_then(|x| elementwise(op, &attrs, &x, &shapes[0])).and_then(|y| Ok(vec![y.to_tensor()?]))
        }
        Body::Structured => structured(op, &attrs, inputs, &results, &shapes),
        Body::Regions => Err(EvalError::malformed("an op with regions is not evaluated alone")),
    }
    .map_err(named)?;
    match out.iter().zip(&results).find(|(t, ty)| t.ty() != **ty) {
        Some((t, ty)) => Err(named(EvalError::malformed(format!("computed {} where {ty} was inferred", t.ty())))),
        None => Ok(out),
    }
}

/// Runs a tape over tensors that broadcast to `shape`, the iteration space, and gives its outputs.
///
/// # Errors
/// As [`eval_inst`].
pub fn eval_tape(tape: &Tape, inputs: &[Tensor], shape: &[usize]) -> Result<Vec<Tensor>, EvalError> {
    let arrays = inputs.iter().map(Array::of).collect::<Result<Vec<_>, _>>()?;
    tape::eval(tape, &arrays, shape)?.iter().map(Array::to_tensor).collect()
}

/// Attributes with constants for symbolic dimensions.
fn concrete(attrs: &Attrs, syms: &dyn Fn(&Sym) -> Option<i64>) -> Result<Attrs, EvalError> {
    let mut attrs = attrs.clone();
    for (_, value) in attrs.iter_mut() {
        if let Attr::Dims(dims) = value {
            for d in dims {
                let v = d
                    .eval(syms)
                    .ok_or_else(|| EvalError::new(EvalErrorKind::UnboundSymbol, format!("dimension {d} has no value")))?;
                *d = Dim::from(v);
            }
        }
    }
    Ok(attrs)
}

fn result_shape(ty: &Type) -> Result<Vec<usize>, EvalError> {
    let shape = ty.const_shape().ok_or_else(|| EvalError::shape(format!("a result of type {ty}")))?;
    match element_count(&shape) {
        Some(n) if n <= MAX_ELEMENTS => Ok(shape),
        _ => Err(EvalError::new(EvalErrorKind::Limit, format!("a result of type {ty} is too large"))),
    }
}

/// An elementwise op by its tape.
fn elementwise(op: Op, attrs: &Attrs, x: &[Array], shape: &[usize]) -> Result<Array, EvalError> {
    let Body::Elementwise(body) = op.def().body else {
        return Err(EvalError::malformed(format!("{} is not elementwise", op.name())));
    };
    let mut t = Tape::default();
    let loads: Vec<_> = x.iter().enumerate().map(|(k, a)| t.load(k as u32, a.elem)).collect();
    let y = body(&mut t, &loads, attrs);
    t.outputs.push(y);
    tape::eval(&t, x, shape)?.pop().ok_or_else(|| EvalError::malformed("a tape without output"))
}

fn structured(op: Op, a: &Attrs, x: &[Tensor], types: &[Type], out: Outputs) -> Result<Vec<Tensor>, EvalError> {
    let one = |t: Result<Tensor, EvalError>| Ok(vec![t?]);
    match op {
        Op::Const => one(a.tensor("value").cloned().ok_or_else(|| EvalError::malformed("missing attribute value"))),
        Op::Dims => one(dims(a, &types[0], &out[0])),
        Op::Iota => one(iota(a, &types[0], &out[0])),
        Op::Reshape => one(movement::reshape(x, a, out)),
        Op::Transpose => one(movement::transpose(x, a, out)),
        Op::Broadcast => one(movement::broadcast(x, a, out)),
        Op::Slice => one(movement::slice(x, a, out)),
        Op::Reverse => one(movement::reverse(x, a, out)),
        Op::Concat => one(movement::concat(x, a, out)),
        Op::Pad => one(movement::pad(x, a, out)),
        Op::MirrorPad => one(movement::mirror_pad(x, a, out)),
        Op::Gather => one(movement::gather(x, a, out)),
        Op::GatherNd => one(movement::gather_nd(x, a, out)),
        Op::ScatterNd => one(movement::scatter_nd(x, a, out)),
        Op::Reduce => one(reduce::reduce(x, a, out)),
        Op::ArgReduce => one(reduce::arg_reduce(x, a, out)),
        Op::Cumulative => one(reduce::cumulative(x, a, out)),
        Op::TopK => reduce::top_k(x, a, out),
        Op::Softmax => one(reduce::softmax(x, a, out)),
        Op::LayerNorm => one(reduce::layer_norm(x, a, out)),
        Op::Contract => one(matrix::contract(x, a, out)),
        Op::Conv2d => one(matrix::conv2d(x, a, out)),
        Op::Depthwise => one(matrix::depthwise(x, a, out)),
        Op::ConvTranspose2d => one(matrix::conv_transpose2d(x, a, out)),
        Op::Pool2d => one(matrix::pool2d(x, a, out)),
        Op::Resize => one(resize::resize(x, a, out)),
        Op::Attention => one(matrix::attention(x, a, out)),
        _ => Err(EvalError::unsupported("the interpreter has no rule for this op")),
    }
}

fn dims(a: &Attrs, ty: &Type, shape: &[usize]) -> Result<Tensor, EvalError> {
    let values = movement::constants(a, "dims");
    if let Some(v) = values.iter().find(|&&v| array::wrap(ty.elem, v as i128) != v) {
        return Err(EvalError::shape(format!("the dimension {v} does not fit {}", ty.elem)));
    }
    let values = ArrayD::from_shape_vec(shape, values).map_err(|e| EvalError::shape(e.to_string()))?;
    Array { elem: ty.elem, data: Data::Int(values) }.to_tensor()
}

fn iota(a: &Attrs, ty: &Type, shape: &[usize]) -> Result<Tensor, EvalError> {
    let mut t = Tape::default();
    let y = t.index(a.size("axis") as u32, ty.elem);
    t.outputs.push(y);
    eval_tape(&t, &[], shape)?.pop().ok_or_else(|| EvalError::malformed("a tape without output"))
}

//! The epilogue of matrix work: what happens to each element of the result before it is stored.

use crate::attr::Attrs;
use crate::op::Op;

/// The words that the attribute `act` takes.
pub const ACTIVATIONS: &[&str] =
    &["none", "relu", "clamp", "leaky_relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "hard_swish", "hard_sigmoid", "elu"];

/// The activation of an epilogue as an elementwise op and its attributes; `None` if there is none.
///
/// # Errors
/// If `act` is no known word.
pub fn activation(attrs: &Attrs) -> Result<Option<(Op, Attrs)>, String> {
    let (lo, hi) = (attrs.real("act_lo"), attrs.real("act_hi"));
    let plain = |op| Ok(Some((op, Attrs::new())));
    match attrs.str("act") {
        "" | "none" => Ok(None),
        "relu" => plain(Op::Relu),
        "clamp" => Ok(Some((Op::Clamp, Attrs::new().with("lo", lo).with("hi", hi)))),
        "leaky_relu" => Ok(Some((Op::LeakyRelu, Attrs::new().with("alpha", lo)))),
        "gelu" => plain(Op::Gelu),
        "gelu_tanh" => Ok(Some((Op::Gelu, Attrs::new().with("tanh", true)))),
        "silu" => plain(Op::Silu),
        "sigmoid" => plain(Op::Sigmoid),
        "tanh" => plain(Op::Tanh),
        "hard_swish" => plain(Op::HardSwish),
        "hard_sigmoid" => plain(Op::HardSigmoid),
        "elu" => plain(Op::Elu),
        other => Err(format!("no activation {other:?}; it is one of {}", ACTIVATIONS.join(", "))),
    }
}

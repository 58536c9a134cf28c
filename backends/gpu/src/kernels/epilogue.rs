//! What happens to a sum before it is stored: bias, residual, activation.

use super::apply;
use crate::build::{Build, V};
use crate::design::{Args, Buffer, Design, Spec};
use crate::target::Cell;
use graphc_cpu::tape::code::Code;
use graphc_cpu::tape::expand::expand;
use graphc_ir::epilogue::{self, ACTIVATIONS};
use graphc_ir::op::Body;
use graphc_ir::tape::Tape;
use graphc_ir::{Attrs, Elem};

/// The epilogue of a launch, before it is written.
#[derive(Clone)]
pub struct Epilogue {
    activation: Option<Code>,
    residual_last: bool,
    /// Tells it from others, apart from which buffers there are.
    pub name: String,
}

/// The buffers of an epilogue within a kernel.
#[derive(Clone, Copy)]
pub struct Operands<'c> {
    bias: Option<Buffer<'c>>,
    residual: Option<Buffer<'c>>,
}

impl Epilogue {
    /// # Errors
    /// If the activation is unknown.
    pub fn of(a: &Args) -> Result<Epilogue, String> {
        let (code, lo, hi) = (a.int("act"), a.real("act_lo"), a.real("act_hi"));
        let residual_last = a.int("residual_after") != 0;
        let name =
            format!("act {code} {:x} {:x} {residual_last} {} {}", lo.to_bits(), hi.to_bits(), a.has("bias"), a.has("residual"));
        Ok(Epilogue { activation: activation(code, lo, hi)?, residual_last, name })
    }

    /// `d` with the buffers of the epilogue.
    pub fn buffers(a: &Args, d: Design) -> Design {
        a.buffers(d, &["bias", "residual"])
    }

    /// # Errors
    /// If a buffer holds something else in another role.
    pub fn operands<'c>(&self, b: &mut Build<'c>, s: &Spec) -> Result<Operands<'c>, String> {
        let mut of = |name: &str| s.has(name).then(|| s.buffer(b, name, Cell::F32)).transpose();
        Ok(Operands { bias: of("bias")?, residual: of("residual")? })
    }

    /// The result for `sum`, with the bias at `bias_at` and the residual at `residual_at`.
    ///
    /// # Errors
    /// If the activation has no code.
    pub fn result<'c>(
        &self,
        b: &mut Build<'c>,
        o: &Operands<'c>,
        sum: V<'c>,
        bias_at: V<'c>,
        residual_at: V<'c>,
    ) -> Result<V<'c>, String> {
        let mut v = sum;
        if let Some(bias) = o.bias {
            let w = bias.load(b, bias_at);
            v = b.add(v, w);
        }
        let residual = |b: &mut Build<'c>, v| match o.residual {
            Some(r) => {
                let r = r.load(b, residual_at);
                b.add(v, r)
            }
            None => v,
        };
        if !self.residual_last {
            v = residual(b, v);
        }
        if let Some(code) = &self.activation {
            v = apply(b, code, &[v])?;
        }
        Ok(if self.residual_last { residual(b, v) } else { v })
    }
}

/// An activation as lane code of one argument: the same tape that the op of that name has.
fn activation(code: i64, lo: f64, hi: f64) -> Result<Option<Code>, String> {
    // Codes are numbered as the words are.
    let word = usize::try_from(code).ok().and_then(|k| ACTIVATIONS.get(k)).ok_or_else(|| format!("activation {code}"))?;
    let attrs = Attrs::new().with("act", *word).with("act_lo", lo).with("act_hi", hi);
    let Some((op, attrs)) = epilogue::activation(&attrs)? else { return Ok(None) };
    let Body::Elementwise(body) = op.def().body else { return Err("an activation that is not elementwise".into()) };
    let mut tape = Tape::default();
    let x = tape.load(0, Elem::F32);
    let y = body(&mut tape, &[x], &attrs);
    tape.outputs.push(y);
    expand(&tape).map(Some).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc_abi::args::matrix::act;

    #[test]
    fn codes_are_numbered_as_words() {
        for (code, word) in
            [(act::NONE, "none"), (act::LEAKY_RELU, "leaky_relu"), (act::GELU_ERF, "gelu"), (act::SILU, "silu"), (act::ELU, "elu")]
        {
            assert_eq!(ACTIVATIONS[code as usize], word);
        }
        assert_eq!(ACTIVATIONS.len() as i64, act::ELU + 1);
    }
}

//! Control flow whose functions are called one by one.

use crate::call::Step;
use crate::error::{HostError, invalid};
use crate::value::Value;
use graphc_ir::Tensor;
use serde::{Deserialize, Serialize};

/// A node of control flow, with its functions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Control<F> {
    If {
        then: F,
        otherwise: F,
    },
    /// An index that is out of range chooses the last branch.
    Case(Vec<F>),
    While {
        cond: F,
        body: F,
    },
    For(F),
    /// A call that leaves out so many operands.
    Call {
        function: F,
        skipped: usize,
    },
}

impl<F> Control<F> {
    /// The control flow of an op whose functions are in these attributes; None for any other op.
    ///
    /// # Errors
    /// Those of `function` and `functions`, which look an attribute up.
    pub fn of<E>(
        op: &str,
        function: impl Fn(&str) -> Result<F, E>,
        functions: impl Fn(&str) -> Result<Vec<F>, E>,
    ) -> Result<Option<Control<F>>, E> {
        Ok(Some(match op {
            "If" | "StatelessIf" => Control::If { then: function("then_branch")?, otherwise: function("else_branch")? },
            "Case" | "StatelessCase" => Control::Case(functions("branches")?),
            "While" | "StatelessWhile" => Control::While { cond: function("cond")?, body: function("body")? },
            "For" => Control::For(function("body")?),
            "PartitionedCall" | "StatefulPartitionedCall" => Control::Call { function: function("f")?, skipped: 0 },
            // There is one device, so the target that comes first says nothing.
            "RemoteCall" => Control::Call { function: function("f")?, skipped: 1 },
            _ => return Ok(None),
        }))
    }

    /// Its functions.
    pub fn functions(&self) -> Vec<&F> {
        match self {
            Control::If { then, otherwise } => vec![then, otherwise],
            Control::Case(branches) => branches.iter().collect(),
            Control::While { cond, body } => vec![cond, body],
            Control::For(function) | Control::Call { function, .. } => vec![function],
        }
    }

    /// The same with other functions.
    ///
    /// # Errors
    /// The first of `f`.
    pub fn try_map<G, E>(&self, mut f: impl FnMut(&F) -> Result<G, E>) -> Result<Control<G>, E> {
        Ok(match self {
            Control::If { then, otherwise } => Control::If { then: f(then)?, otherwise: f(otherwise)? },
            Control::Case(branches) => Control::Case(branches.iter().map(f).collect::<Result<_, E>>()?),
            Control::While { cond, body } => Control::While { cond: f(cond)?, body: f(body)? },
            Control::For(function) => Control::For(f(function)?),
            Control::Call { function, skipped } => Control::Call { function: f(function)?, skipped: *skipped },
        })
    }

    /// Runs the node: what its functions give, which `call` calls. `own` makes an error of the caller's of one that is the node's own.
    ///
    /// # Errors
    /// If an operand is not what the op takes, a function fails, or the run is cancelled.
    pub fn run<E>(
        &self,
        mut inputs: Vec<Value>,
        step: &Step,
        mut call: impl FnMut(&F, Vec<Value>) -> Result<Vec<Value>, E>,
        own: impl Fn(HostError) -> E,
    ) -> Result<Vec<Value>, E> {
        let wrong = |message: &str| own(invalid(message));
        match self {
            Control::If { then, otherwise } => {
                let args = inputs.split_off(1.min(inputs.len()));
                let cond = inputs.pop().ok_or_else(|| wrong("no condition"))?;
                call(if truth(&cond) { then } else { otherwise }, args)
            }
            Control::Case(branches) => {
                let args = inputs.split_off(1.min(inputs.len()));
                let index = inputs.first().and_then(Value::as_tensor).and_then(one_int).ok_or_else(|| wrong("no index"))?;
                let chosen = usize::try_from(index).ok().and_then(|k| branches.get(k)).or(branches.last());
                call(chosen.ok_or_else(|| wrong("no branches"))?, args)
            }
            Control::While { cond, body } => loop {
                let goes_on = call(cond, inputs.clone())?;
                if !goes_on.first().is_some_and(truth) {
                    return Ok(inputs);
                }
                inputs = call(body, inputs)?;
                step.check().map_err(&own)?;
            },
            Control::For(body) => {
                let mut args = inputs.split_off(3.min(inputs.len()));
                let bounds: Option<Vec<i64>> = inputs.iter().map(|v| one_int(v.as_tensor()?)).collect();
                let Some(&[start, limit, delta]) = bounds.as_deref() else {
                    return Err(wrong("start, limit and delta are integers"));
                };
                if delta == 0 || (delta > 0 && start > limit) || (delta < 0 && start < limit) {
                    return Err(wrong("delta does not lead from start to limit"));
                }
                let mut i = start;
                while if delta > 0 { i < limit } else { i > limit } {
                    let counter = Tensor::scalar(i32::try_from(i).map_err(|_| wrong("the counter is no int32"))?);
                    args = call(body, std::iter::once(Value::Tensor(counter)).chain(args).collect())?;
                    i += delta;
                    step.check().map_err(&own)?;
                }
                Ok(args)
            }
            Control::Call { function, skipped } => call(function, inputs.split_off((*skipped).min(inputs.len()))),
        }
    }
}

/// TensorFlow's truth of a value: a scalar other than zero or the empty string, a tensor with elements.
fn truth(v: &Value) -> bool {
    let Value::Tensor(t) = v else { return true };
    match (t.rank(), t.strings()) {
        (0, Some(s)) => s.iter().any(|s| !s.is_empty()),
        (0, None) => t.to_reals().map_or_else(|| t.bytes().iter().any(|&b| b != 0), |r| r.iter().any(|&x| x != 0.0)),
        _ => !t.is_empty(),
    }
}

fn one_int(t: &Tensor) -> Option<i64> {
    t.to_ints()?.first().copied()
}

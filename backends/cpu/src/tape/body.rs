//! A loop made ready for the emitters: the nest and the lane code of its parts.

use super::TapeError;
use super::code::{Code, Op, Ty};
use super::convert::{round_to, to_memory};
use super::expand::{combine, expand, lane};
use super::legalize::{Features, legalize};
use super::nest::{Nest, nest};
use graphc_ir::Elem;
use graphc_passes::plan::{Combine, Loop};

/// A loop in lane code.
#[derive(Clone, Debug)]
pub struct Body {
    pub nest: Nest,
    /// One iteration; the results are in memory form if nothing is reduced.
    pub code: Code,
    /// For each output of a reduction the combination of `Load(0)` and `Load(1)`.
    pub combines: Vec<Code>,
    /// For each output of a reduction the memory form of `Load(0)`.
    pub finishes: Vec<Code>,
}

fn bool_combine(how: Combine) -> Result<Code, TapeError> {
    let mut c = Code::default();
    let (x, y) = (c.push(Op::Load(0), Ty::I32), c.push(Op::Load(1), Ty::I32));
    let v = match how {
        Combine::Any | Combine::Max => c.or(x, y),
        Combine::All | Combine::Min => c.and(x, y),
        _ => return Err(TapeError::Invalid(format!("{how:?} of bool"))),
    };
    c.results.push(v);
    Ok(c)
}

fn as_it_is() -> Code {
    let mut c = Code::default();
    let v = c.push(Op::Load(0), Ty::I32);
    c.results.push(v);
    c
}

impl Body {
    pub fn new(l: &Loop) -> Result<Body, TapeError> {
        let mut code = expand(&l.tape)?;
        let nest = nest(l, &code)?;
        let (mut combines, mut finishes) = (Vec::new(), Vec::new());
        match nest.combine {
            Some(how) => {
                for (i, a) in l.outputs.iter().enumerate() {
                    if a.elem == Elem::Bool {
                        // Truth values are combined as 0 and 1.
                        let v = code.results[i];
                        code.results[i] = to_memory(&mut code, v, a.elem);
                        combines.push(bool_combine(how)?);
                        finishes.push(as_it_is());
                        continue;
                    }
                    let ty = lane(a.elem)?.ty;
                    let mut c = Code::default();
                    let (x, y) = (c.push(Op::Load(0), ty), c.push(Op::Load(1), ty));
                    let v = combine(&mut c, how, x, y, a.elem)?;
                    c.results.push(v);
                    combines.push(c);
                    let mut c = Code::default();
                    let v = c.push(Op::Load(0), ty);
                    let v = round_to(&mut c, v, a.elem);
                    let v = to_memory(&mut c, v, a.elem);
                    c.results.push(v);
                    finishes.push(c);
                }
            }
            None => {
                for (i, a) in l.outputs.iter().enumerate() {
                    let v = code.results[i];
                    code.results[i] = to_memory(&mut code, v, a.elem);
                }
                code.prune();
            }
        }
        Ok(Body { nest, code, combines, finishes })
    }

    /// The same for a target with features `f`.
    pub fn legalize(&self, f: Features) -> Body {
        let all = |codes: &[Code]| codes.iter().map(|c| legalize(c, f)).collect();
        Body {
            nest: self.nest.clone(),
            code: legalize(&self.code, f),
            combines: all(&self.combines),
            finishes: all(&self.finishes),
        }
    }
}

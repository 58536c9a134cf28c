//! A loop made ready for the emitters: the nest and the lane code of its parts.

use super::TapeError;
use super::code::{Code, Op};
use super::expand::{combine, expand, lane, round_to, to_memory};
use super::legalize::{Features, legalize};
use super::nest::{Nest, nest};
use graphc_passes::plan::Loop;

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

impl Body {
    pub fn new(l: &Loop) -> Result<Body, TapeError> {
        let mut code = expand(&l.tape)?;
        let nest = nest(l, &code)?;
        let (mut combines, mut finishes) = (Vec::new(), Vec::new());
        match nest.combine {
            Some(how) => {
                for a in &l.outputs {
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

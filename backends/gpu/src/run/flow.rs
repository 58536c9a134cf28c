//! The control flow of a plan: what the host decides between pieces that the device runs in one go.

use graphc_passes::plan::{Buf, Plan, StepKind};
use std::ops::Range;

/// A piece of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Launches, by their steps.
    Block(Range<usize>),
    If {
        cond: Buf,
        yes: Vec<Piece>,
        no: Vec<Piece>,
    },
    /// `test` and, while the bool holds that it computes, `body`.
    While {
        test: Vec<Piece>,
        cond: Buf,
        body: Vec<Piece>,
    },
}

/// The pieces of a plan, in order.
///
/// # Errors
/// If the marks of control flow do not nest.
pub fn pieces(plan: &Plan) -> Result<Vec<Piece>, String> {
    let mut at = 0;
    let list = list(plan, &mut at)?;
    if at == plan.steps.len() { Ok(list) } else { Err("control flow ends that did not begin".into()) }
}

/// Pieces up to a mark that belongs to what is around them.
fn list(plan: &Plan, at: &mut usize) -> Result<Vec<Piece>, String> {
    let mut list = Vec::new();
    let mut from = *at;
    let close = |list: &mut Vec<Piece>, from: usize, to: usize| {
        if from < to {
            list.push(Piece::Block(from..to));
        }
    };
    while let Some(step) = plan.steps.get(*at) {
        match step.kind {
            StepKind::Kernel { .. } | StepKind::Loop { .. } => {
                *at += 1;
                continue;
            }
            StepKind::Else | StepKind::EndIf | StepKind::Test { .. } | StepKind::EndWhile => break,
            StepKind::If { cond } => {
                close(&mut list, from, *at);
                *at += 1;
                let yes = self::list(plan, at)?;
                let no = match plan.steps.get(*at).map(|s| &s.kind) {
                    Some(StepKind::Else) => {
                        *at += 1;
                        self::list(plan, at)?
                    }
                    _ => Vec::new(),
                };
                expect(plan, at, &|k| matches!(k, StepKind::EndIf))?;
                list.push(Piece::If { cond, yes, no });
            }
            StepKind::While => {
                close(&mut list, from, *at);
                *at += 1;
                let test = self::list(plan, at)?;
                let cond = match plan.steps.get(*at).map(|s| &s.kind) {
                    Some(StepKind::Test { cond }) => *cond,
                    _ => return Err("a loop without a test".into()),
                };
                *at += 1;
                let body = self::list(plan, at)?;
                expect(plan, at, &|k| matches!(k, StepKind::EndWhile))?;
                list.push(Piece::While { test, cond, body });
            }
        }
        from = *at;
    }
    close(&mut list, from, *at);
    Ok(list)
}

fn expect(plan: &Plan, at: &mut usize, is: &dyn Fn(&StepKind) -> bool) -> Result<(), String> {
    match plan.steps.get(*at) {
        Some(s) if is(&s.kind) => {
            *at += 1;
            Ok(())
        }
        _ => Err("control flow that does not end".into()),
    }
}

/// All blocks and conditions of `pieces`, in order.
pub fn parts(pieces: &[Piece], block: &mut dyn FnMut(&Range<usize>), cond: &mut dyn FnMut(Buf)) {
    for p in pieces {
        match p {
            Piece::Block(r) => block(r),
            Piece::If { cond: c, yes, no } => {
                cond(*c);
                parts(yes, block, cond);
                parts(no, block, cond);
            }
            Piece::While { test, cond: c, body } => {
                parts(test, block, cond);
                cond(*c);
                parts(body, block, cond);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphc_ir::Loc;
    use graphc_passes::plan::Step;

    fn plan(kinds: Vec<StepKind>) -> Plan {
        let step = |kind| Step { kind, reads: Vec::new(), writes: Vec::new(), in_place: Vec::new(), loc: Loc::default() };
        Plan { steps: kinds.into_iter().map(step).collect(), ..Plan::default() }
    }

    fn launch() -> StepKind {
        StepKind::Kernel { symbol: "gc_fill", args: Vec::new() }
    }

    #[test]
    fn marks_nest() {
        let cond = Buf(7);
        let p = plan(vec![
            launch(),
            StepKind::While,
            launch(),
            StepKind::Test { cond },
            StepKind::If { cond },
            launch(),
            launch(),
            StepKind::Else,
            StepKind::EndIf,
            StepKind::EndWhile,
            launch(),
        ]);
        let inner = Piece::If { cond, yes: vec![Piece::Block(5..7)], no: Vec::new() };
        let whole = Piece::While { test: vec![Piece::Block(2..3)], cond, body: vec![inner] };
        assert_eq!(pieces(&p), Ok(vec![Piece::Block(0..1), whole, Piece::Block(10..11)]));
    }

    #[test]
    fn marks_that_do_not_nest_are_refused() {
        for kinds in
            [vec![StepKind::EndIf], vec![StepKind::While, launch()], vec![StepKind::If { cond: Buf(0) }, StepKind::EndWhile]]
        {
            assert!(pieces(&plan(kinds)).is_err());
        }
    }
}

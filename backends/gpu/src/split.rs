//! Products that are divided along their depth: where there are few tiles and each is deep, workgroups sum parts of the depth, and a second step adds the
//! parts in their order. So a result depends on its sizes alone.

use crate::kernels;
use crate::target::{Factors, Flavour};
use graphc_ir::{Dim, Elem, Type};
use graphc_passes::plan::{Arg, Place, Plan, Step, StepKind};

/// What offsets in the arena are multiples of.
const ALIGNMENT: i64 = graphc_abi::ALIGN as i64;

/// The plan with the products that gain from it divided; sums of parts lie behind all else in the arena.
#[must_use]
pub fn divided(mut plan: Plan, flavour: Flavour, factors: Factors) -> Plan {
    let parts = |step: &Step| kernels::design(&plan, &step.kind, flavour, factors).ok().flatten().and_then(|d| d.parts);
    let parts: Vec<_> = plan.steps.iter().map(parts).collect();
    let Some(most) = parts.iter().flatten().map(|(n, of)| n * of).max() else { return plan };
    let offset = &plan.arena.ceil_div(&Dim::from(ALIGNMENT)) * &Dim::from(ALIGNMENT);
    let bytes = (4 * most + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    plan.arena = &offset + &Dim::from(bytes);
    for (step, parts) in std::mem::take(&mut plan.steps).into_iter().zip(parts) {
        let (StepKind::Kernel { symbol, args }, Some((n, of))) = (&step.kind, parts) else {
            plan.steps.push(step);
            continue;
        };
        let ty = Type::new(Elem::F32, vec![Dim::from(n), Dim::from(of)]);
        let sums = plan.add_buffer(ty, Place::Arena { offset: offset.clone() }, step.loc.clone());
        let with = |sum: i64| {
            let more = [("split", Arg::Int(Dim::from(n))), ("sum", Arg::Int(Dim::from(sum)))];
            let place = ("sums", Arg::Buf { buf: sums, offset: Dim::ZERO });
            StepKind::Kernel { symbol, args: args.iter().cloned().chain(more).chain([place]).collect() }
        };
        let first = Step { kind: with(0), writes: vec![sums], in_place: Vec::new(), ..step.clone() };
        let mut second = Step { kind: with(1), in_place: Vec::new(), ..step };
        second.reads.push(sums);
        plan.steps.extend([first, second]);
    }
    plan
}

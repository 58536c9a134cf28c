//! Placement of random schedules, proved by the checker, and schedules that the checker must refuse.

use graphc_ir::{Dim, Elem, Loc, Sym, Type};
use graphc_passes::plan::check::check_plan;
use graphc_passes::plan::memory::place;
use graphc_passes::plan::{Arg, Buf, Place, Plan, Port, Step, StepKind};
use proptest::prelude::*;

fn sym(name: &str) -> Dim {
    Dim::sym(Sym::new(name))
}

/// A shape from a number: constant and symbolic, small and large, and with expressions.
fn shape(kind: u8, size: u8) -> Vec<Dim> {
    let (n, m, c) = (sym("n"), sym("m"), Dim::from(i64::from(size)));
    match kind % 7 {
        0 => vec![c],
        1 => vec![n, c],
        2 => vec![n, m, c],
        3 => vec![(&n + &Dim::ONE).floor_div(&Dim::from(2i64)), c],
        4 => vec![&n + &c, Dim::from(3i64)],
        5 => vec![n.at_least(&m), c],
        _ => vec![(&n - &Dim::from(2i64)).at_least(&Dim::ZERO), &c * &Dim::from(16i64)],
    }
}

fn kernel(p: &mut Plan, reads: Vec<Buf>, writes: Vec<Buf>, in_place: Vec<(Buf, Buf)>) {
    let all = reads.iter().chain(&writes);
    let args = all.map(|&buf| ("x", Arg::Buf { buf, offset: Dim::ZERO })).collect();
    p.steps.push(Step { kind: StepKind::Kernel { symbol: "gc_test", args }, reads, writes, in_place, loc: Loc::default() });
}

/// A plan whose steps each make a buffer from some of those before; the last goes to an output.
fn plan_of(spec: &[(u8, u8, Vec<usize>, bool)]) -> Plan {
    let mut p = Plan { name: "p".into(), syms: vec![Sym::new("n"), Sym::new("m")], ..Plan::default() };
    let ty = Type::new(Elem::F32, shape(1, 4));
    let input = p.add_buffer(ty.clone(), Place::Input(0), Loc::default());
    p.inputs.push(Port { name: "x".into(), ty, buf: input });
    let mut made = vec![input];
    for (kind, size, from, reuse) in spec {
        let ty = Type::new(Elem::F32, shape(*kind, *size));
        let out = p.add_buffer(ty, Place::Unplaced, Loc::default());
        let mut reads: Vec<Buf> = from.iter().map(|f| made[f % made.len()]).collect();
        reads.dedup();
        reads.sort();
        reads.dedup();
        let pairs = if *reuse { reads.iter().map(|&r| (out, r)).collect() } else { Vec::new() };
        kernel(&mut p, reads, vec![out], pairs);
        made.push(out);
    }
    let ty = Type::new(Elem::F32, shape(0, 1));
    let out = p.add_buffer(ty.clone(), Place::Output(0), Loc::default());
    p.outputs.push(Port { name: "y".into(), ty, buf: out });
    kernel(&mut p, vec![made[made.len() - 1]], vec![out], Vec::new());
    p
}

proptest! {
    #[test]
    fn placed_plans_are_proved(spec in prop::collection::vec((any::<u8>(), 1u8..200, prop::collection::vec(0usize..40, 0..3), any::<bool>()), 1..40)) {
        let mut p = plan_of(&spec);
        place(&mut p);
        prop_assert_eq!(check_plan(&p), Ok(()));
    }

    /// Moving a buffer onto one that lives at the same time is found.
    #[test]
    fn overlaps_are_found(size in 16u8..200, kind in any::<u8>()) {
        let mut p = plan_of(&[(kind, size, vec![0], false), (kind, size, vec![1], false), (kind, size, vec![1, 2], false)]);
        place(&mut p);
        p.buffers[2].place = p.buffers[1].place.clone();
        prop_assert!(check_plan(&p).is_err());
    }
}

#[test]
fn a_chain_needs_two_buffers_or_one_in_place() {
    let chain = |reuse: bool| {
        let spec: Vec<_> = (0..10).map(|i| (1, 64, vec![i], reuse && i > 0)).collect();
        let mut p = plan_of(&spec);
        place(&mut p);
        check_plan(&p).unwrap();
        p.arena
    };
    assert_eq!(chain(false), &sym("n") * &Dim::from(512i64));
    assert_eq!(chain(true), &sym("n") * &Dim::from(256i64));
}

#[test]
fn broken_plans_are_refused() {
    let good = || {
        let mut p = plan_of(&[(1, 8, vec![0], false), (0, 8, vec![1], false)]);
        place(&mut p);
        check_plan(&p).unwrap();
        p
    };
    type Break = fn(&mut Plan);
    let breaks: [(&str, Break); 6] = [
        ("the arena is too small", |p| p.arena = Dim::from(64i64)),
        ("a step writes an input", |p| p.steps[1].writes = vec![Buf(0), Buf(2)]),
        ("a step reads what was not written", |p| p.steps.swap(0, 1)),
        ("an output is not written", |p| drop(p.steps.pop())),
        ("a buffer has no place", |p| p.buffers[1].place = Place::Unplaced),
        ("a view leaves its buffer", |p| p.buffers[2].place = Place::View { of: Buf(1), offset: Dim::from(4i64) }),
    ];
    for (what, f) in breaks {
        let mut p = good();
        f(&mut p);
        assert!(check_plan(&p).is_err(), "{what}");
    }
}

//! Random graphs through the pipeline to machine code: plans are proved, and answers are those of the interpreter.

#[path = "../../../../passes/tests/common/mod.rs"]
mod passes;

use crate::support;
use graphc_cpu::{CpuTarget, EmitOptions};
use graphc_passes::pass::PassCx;
use graphc_passes::pipeline::{self, Unobserved};
use graphc_passes::plan::check::check_plan;
use graphc_passes::precision::Precision;
use passes::{graphs, inputs};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

proptest! {
    // One seed, so that a run can be repeated.
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn compiled_code_answers_as_the_interpreter_does(steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..24)) {
        let mut module = graphs::graph(&steps);
        let cx = PassCx { target: &CpuTarget, precision: Precision::F32 };
        pipeline::run(&mut module, &pipeline::standard(), &cx, &mut Unobserved).unwrap();
        let plan = graphc_cpu::plan(&module, "f").unwrap();
        prop_assert_eq!(check_plan(&plan), Ok(()));
        let compiled = graphc_cpu::compile_plan(plan, 2, &EmitOptions::default()).unwrap();
        for n in [3, 1, 8] {
            let feeds = inputs(&module, n);
            let want = passes::run(&module, &feeds);
            for threads in [1, 2] {
                let got = support::run(&compiled, &feeds, &mut [], threads).unwrap();
                passes::assert_close(&want, &got, &|| format!("n = {n}, {threads} threads\n{}", graphc_ir::text::print(&module)));
            }
        }
    }
}

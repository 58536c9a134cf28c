//! Random graphs through the pipeline to machine code: plans are proved, and answers are those of the interpreter.

#[path = "../../passes/tests/common/mod.rs"]
mod passes;
#[path = "../../backends/cpu/tests/jit/support.rs"]
mod support;

use graphc::ir::op::Tolerance;
use graphc::passes::pipeline::Unobserved;
use passes::{graphs, inputs};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_code_answers_as_the_interpreter_does(steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..24)) {
        let mut module = graphs::graph(&steps);
        graphc::optimise(&mut module, &mut Unobserved).unwrap();
        let cases: Vec<_> = [3, 1, 8].iter().map(|&n| inputs(&module, n)).collect();
        // Long chains of exponentials and products amplify the last bits.
        support::check(&module, &cases, Tolerance::Scale(1 << 20), "a random graph");
    }
}

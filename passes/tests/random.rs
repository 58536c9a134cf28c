//! The pipeline on random graphs: the interpreter gives the same after each pass.

mod common;

use common::*;
use graphc_passes::pipeline::standard;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passes_keep_the_meaning(steps in prop::collection::vec(any::<(u8, u8, u8, u8)>(), 1..24)) {
        let mut m = graphs::graph(&steps);
        check_passes(&mut m, &standard(), 3);
    }
}

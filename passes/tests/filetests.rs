//! The filetests of the passes: IR before and after, with runs.

mod common;

use graphc_passes::pass::PassCx;
use graphc_passes::pipeline;
use graphc_passes::precision::Precision;
use std::path::Path;

#[test]
fn filetests() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/passes");
    let outcome = graphc_ir::filetest::run_dir(&dir, &|name, m| {
        let precision = match name {
            "quantise" => Precision::Int8,
            "strassen" => Precision::Strassen,
            _ => Precision::Bf16,
        };
        let cx = PassCx { target: &common::AnyTarget, precision };
        let passes = match name {
            "standard" => pipeline::standard(),
            _ => vec![pipeline::find(name).ok_or_else(|| format!("no pass {name:?}"))?],
        };
        pipeline::run(m, &passes, &cx, &mut pipeline::Unobserved).map(drop).map_err(|e| e.to_string())
    });
    match outcome {
        Ok(n) => assert!(n > 0),
        Err(report) => panic!("{report}"),
    }
}

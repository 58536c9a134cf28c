//! Runs the filetests of the text form, the verifier and the interpreter.

use std::path::Path;

#[test]
fn filetests() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/ir");
    let no_passes = |name: &str, _: &mut graphc_ir::Module| Err(format!("no pass {name:?}"));
    match graphc_ir::filetest::run_dir(&dir, &no_passes) {
        Ok(count) => assert!(count > 0),
        Err(report) => panic!("{report}"),
    }
}

#![cfg_attr(fuzzing, no_main)]

#[macro_use]
#[path = "target.rs"]
mod target;

/// Text of the IR: what parses can be verified and printed.
fn ir_text(bytes: &[u8]) {
    let Ok(module) = graphc_ir::text::parse(&String::from_utf8_lossy(bytes)) else { return };
    // A module that breaks a rule is what is looked for here, too.
    let _ = graphc_ir::verify::module(&module);
    graphc_ir::text::print(&module);
}

target!(ir_text);

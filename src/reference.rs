//! Pages of `docs/` that are made from the code's own tables. A test keeps them up to date; `BLESS=1 cargo test --release reference`
//! rewrites them.

use graphc_frontend::{ErrorKind, legalise};
use std::fmt::Write;

/// Codes of a session's own errors, and what they mean.
const SESSION: &[(&str, &str)] = &[
    ("GC0601", "code generation failed, or an operation has no code for its types; each is listed with its node"),
    ("GC0602", "something that graphc does not support yet"),
    ("GC0701", "a feed is missing, unknown, or of another type or shape than the graph declares"),
    ("GC0702", "the caller's output has not the size that is written"),
    ("GC0703", "the run failed at a node: an index out of range, a division by zero, a cancelled run"),
    ("GC0704", "the reference interpreter failed"),
    ("GC0705", "a variable is read before it has a value"),
    ("GC0706", "a run needs more memory than there is"),
];

/// The name of an error kind as words: `ChecksumMismatch` is "checksum mismatch".
fn words(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `docs/errors.md`.
pub fn errors_page() -> String {
    let mut out = String::from(
        "# Error codes\n\nEvery error starts with its code, then names the file, the node and the rule. This page is made from the code's tables.\n\n\
         GC01 files, GC02 graphs, GC03 constants, GC04 checkpoints, GC05 ops, GC06 compilation, GC07 runs.\n\n| code | meaning |\n|---|---|\n",
    );
    let kinds = ErrorKind::ALL.iter().map(|(code, name)| (*code, words(name)));
    let rest = legalise::CODES.iter().chain(SESSION).map(|(code, text)| (*code, (*text).to_owned()));
    for (code, text) in kinds.chain(rest) {
        // Writing to a string does not fail.
        let _ = writeln!(out, "| {code} | {text} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, errors_page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), errors_page(), "run with BLESS=1 to rewrite docs/errors.md");
    }
}

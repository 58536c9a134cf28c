//! Pages of `docs/` that are made from the code's own tables. A test keeps them up to date; `BLESS=1 cargo test --release reference`
//! rewrites them.

use crate::ops::{self, How};
use graphc_frontend::{ErrorKind, legalise};
use std::fmt::Write;

/// Codes of a session's own errors, and what they mean.
const SESSION: &[(&str, &str)] = &[
    ("GC0601", "code generation failed, or an operation has no code for its types; each is listed with its node"),
    ("GC0602", "something that graphc does not support yet"),
    ("GC0603", "a package cannot be read or written, is damaged, or was made for another machine or version"),
    ("GC0604", "a part of a graph must know more of its inputs to be compiled ahead of time; give an example"),
    ("GC0701", "a feed is missing, unknown, or of another type or shape than the graph declares"),
    ("GC0702", "the caller's output has not the size that is written"),
    ("GC0703", "the run failed at a node: an index out of range, a division by zero, a cancelled run"),
    ("GC0704", "the reference interpreter failed"),
    ("GC0705", "a variable is read before it has a value"),
    ("GC0706", "a run needs more memory than there is"),
    ("GC0707", "a host function or control flow failed at a node; the class is TensorFlow's"),
    ("GC0708", "a run of code that was compiled ahead of time failed; the class is TensorFlow's"),
    ("GC0709", "a GPU is not there, has no kernel for something of the model, or its driver failed"),
    ("GC0710", "a node cannot be on the device that the graph names for it"),
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

/// `docs/ops.md`. `results` has a line an op: its name, the conformance cases with it that pass, and all of them.
pub fn ops_page(results: &str) -> String {
    let result = |op: &str| {
        let fields = results.lines().map(|l| l.split('\t').collect::<Vec<_>>()).find(|f| f.first() == Some(&op));
        fields.map_or(String::new(), |f| format!("{} of {}", f.get(1).unwrap_or(&""), f.get(2).unwrap_or(&"")))
    };
    let (run, not): (Vec<_>, Vec<_>) = ops::all().into_iter().partition(|s| s.how != How::Unsupported);
    let mut out = format!(
        "# TensorFlow's ops\n\nOf the {} ops that TensorFlow 2.21 registers, {} run. This page is made from the code's tables; `graphc ops` prints them.\n\n\
         *compiled*: part of generated code. *host*: a function of the runtime between compiled parts. *compiled or host*: compiled where shapes and\n\
         values allow. *control*: control flow and calls. Strings go through compiled ops that only move elements.\n\n\
         The last column counts conformance cases (single ops, functions, whole graphs) in which the op occurs: how many of them pass. A graph that\n\
         fails for another op counts too.\n\n| op | runs as | not on | cases |\n|---|---|---|---|\n",
        run.len() + not.len(),
        run.len(),
    );
    for s in &run {
        let _ = writeln!(out, "| {} | {} | {} | {} |", s.op, s.how.name(), s.not_taken.join(", "), result(&s.op));
    }
    let _ = write!(out, "\n## Not supported\n\n");
    let names: Vec<&str> = not.iter().map(|s| s.op.as_str()).collect();
    for line in names.chunks(6) {
        let _ = writeln!(out, "{},", line.join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_reference_is_up_to_date() {
        let root = env!("CARGO_MANIFEST_DIR");
        let path = format!("{root}/docs/ops.md");
        let page = ops_page(&std::fs::read_to_string(format!("{root}/tests/conformance/ops.tsv")).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap() == page, "run with BLESS=1 to rewrite docs/ops.md");
    }

    #[test]
    fn error_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, errors_page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), errors_page(), "run with BLESS=1 to rewrite docs/errors.md");
    }
}

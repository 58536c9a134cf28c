//! What the cases show: tallies, the JSON of all verdicts, and the list of cases that must pass.

use crate::Backend;
use crate::pool::Record;
use crate::run::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

#[derive(Default, Clone, Copy)]
struct Tally {
    passed: usize,
    failed: usize,
    unsupported: usize,
    crashed: usize,
}

impl Tally {
    fn count(&mut self, o: Outcome) {
        match o {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unsupported => self.unsupported += 1,
            Outcome::Crashed => self.crashed += 1,
        }
    }
}

/// Prints a row an op (single-op cases under their op, others under their kind), and the sum.
pub fn print(results: &[Record], verbose: bool) {
    let mut rows: BTreeMap<String, Tally> = BTreeMap::new();
    let mut sum = Tally::default();
    for r in results {
        let row = if r.op.is_empty() { format!("({})", r.kind) } else { r.op.clone() };
        rows.entry(row).or_default().count(r.verdict.outcome);
        sum.count(r.verdict.outcome);
        if verbose && r.verdict.outcome != Outcome::Passed {
            println!("{:?} {} {} {}: {}", r.verdict.outcome, r.verdict.id, r.op, r.test, r.verdict.detail);
        }
    }
    println!("{:<36} {:>7} {:>7} {:>11} {:>8}", "op", "passed", "failed", "unsupported", "crashed");
    for (op, t) in &rows {
        println!("{op:<36} {:>7} {:>7} {:>11} {:>8}", t.passed, t.failed, t.unsupported, t.crashed);
    }
    println!("{} passed, {} failed, {} unsupported, {} crashed", sum.passed, sum.failed, sum.unsupported, sum.crashed);
}

pub fn write_json(path: &Path, results: &[Record]) -> io::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(results)?)
}

/// Writes a line an op: its name, the cases with it that passed, all of them.
pub fn write_ops(path: &Path, results: &[Record]) -> io::Result<()> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for r in results {
        let mut ops: BTreeSet<&str> = r.ops.iter().map(String::as_str).collect();
        ops.extend(Some(r.op.as_str()).filter(|o| !o.is_empty()));
        for op in ops {
            let (passed, all) = counts.entry(op).or_default();
            *passed += usize::from(r.verdict.outcome == Outcome::Passed);
            *all += 1;
        }
    }
    let lines: Vec<String> = counts.iter().map(|(op, (passed, all))| format!("{op}\t{passed}\t{all}\n")).collect();
    std::fs::write(path, lines.concat())
}

/// Writes a line a case that did not pass: its id, its test, and what happened.
pub fn write_rest(path: &Path, results: &[Record]) -> io::Result<()> {
    let rest = results.iter().filter(|r| r.verdict.outcome != Outcome::Passed);
    let line = |r: &Record| {
        let detail: String = r.verdict.detail.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        format!("{}\t{}\t{:?}: {detail}\n", r.verdict.id, r.test, r.verdict.outcome)
    };
    std::fs::write(path, rest.map(line).collect::<String>())
}

/// Ids of the `--passing` file, one a line; `#` starts a comment.
fn passing(path: &Path) -> io::Result<BTreeSet<String>> {
    let text = match std::fs::read_to_string(path) {
        Ok(t) => t,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    Ok(text.lines().map(|l| l.split('#').next().unwrap_or("").trim().to_owned()).filter(|l| !l.is_empty()).collect())
}

/// Prints the cases of the list that ran and did not pass; true if there are none. The list is of code in memory: other backends may
/// refuse a case.
pub fn regressions(path: &Path, results: &[Record], backend: Backend) -> io::Result<bool> {
    let mut must = passing(path)?;
    let exceptions = match backend {
        Backend::Object => Some("not_in_objects.tsv"),
        Backend::Gpu => Some("not_on_gpu.tsv"),
        Backend::Jit | Backend::Interp => None,
    };
    if let Some(file) = exceptions {
        let cannot = std::fs::read_to_string(path.with_file_name(file))?;
        cannot.lines().filter_map(|l| l.split('\t').next()).for_each(|id| {
            must.remove(id);
        });
    }
    let fails = |o: Outcome| o != Outcome::Passed && (backend != Backend::Interp || o != Outcome::Unsupported);
    let broken: Vec<&Record> = results.iter().filter(|r| fails(r.verdict.outcome) && must.contains(&r.verdict.id)).collect();
    for r in &broken {
        println!("REGRESSION {:?} {} {} {}: {}", r.verdict.outcome, r.verdict.id, r.op, r.test, r.verdict.detail);
    }
    println!(
        "{} of the cases that must pass ran, {} regressed",
        results.iter().filter(|r| must.contains(&r.verdict.id)).count(),
        broken.len()
    );
    Ok(broken.is_empty())
}

/// Adds what passed to the list; nothing leaves it.
pub fn grow(path: &Path, results: &[Record]) -> io::Result<()> {
    let mut ids = passing(path)?;
    let before = ids.len();
    ids.extend(results.iter().filter(|r| r.verdict.outcome == Outcome::Passed).map(|r| r.verdict.id.clone()));
    println!("{} cases added to {}", ids.len() - before, path.display());
    std::fs::write(path, ids.into_iter().fold(String::new(), |s, id| s + &id + "\n"))
}

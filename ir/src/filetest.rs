//! Runs filetests: files of IR with what is expected of it.
//!
//! ```text
//! ; test pass fold-transpose
//!
//! ; Two transposes that undo each other go.
//! module @inverse {
//!   func @main(%x: f32[2, 1]) -> (f32[2, 1]) {
//!     %a = transpose %x {perm = [1, 0]}
//!     %b = transpose %a {perm = [1, 0]}
//!     return %b
//!   }
//! }
//! ; run main(<f32[2, 1] [1.0, 2.0]>) == <f32[2, 1] [1.0, 2.0]>
//! ;> module @inverse {
//! ;> ..
//! ```
//!
//! The first line says what is done with each module: `pass NAME, NAME..` runs passes and expects the module printed after them, `print`
//! expects the module printed, `verify` expects the verifier's errors, `interp` expects nothing but what the `run` lines say. Modules
//! start with `module` and end with `}` at the first column. Lines `; run f(constants) == constants` call a function, before and after the
//! passes; `; run f(constants) fails text` expects an error that contains the text. With `BLESS=1` in the environment, expectations are
//! rewritten.

use crate::func::Module;
use crate::interp::Interp;
use crate::tensor::Tensor;
use crate::{text, verify};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Runs a pass by name.
pub type RunPass<'a> = &'a dyn Fn(&str, &mut Module) -> Result<(), String>;

/// Executes a function of a module: module, function, arguments.
pub type Execute<'a> = &'a dyn Fn(&Module, &str, &[Tensor]) -> Result<Vec<Tensor>, String>;

/// What filetests need from the crate that they test.
pub struct Hooks<'a> {
    pub pass: RunPass<'a>,
    /// Backends by name that `run` lines go through, beside the interpreter, with the module as the passes left it.
    pub backends: &'a [(&'a str, Execute<'a>)],
}

/// Runs every file of `dir` (and its folders) that ends in `.ir`; gives the number of modules tested.
///
/// # Errors
/// A report of everything that differs.
pub fn run_dir(dir: &Path, pass: RunPass) -> Result<usize, String> {
    run_dir_with(dir, &Hooks { pass, backends: &[] })
}

/// As [`run_dir`], with more hooks.
///
/// # Errors
/// As [`run_dir`].
pub fn run_dir_with(dir: &Path, hooks: &Hooks) -> Result<usize, String> {
    let mut files = Vec::new();
    collect(dir, &mut files)?;
    files.sort();
    let (mut count, mut report) = (0, String::new());
    for file in &files {
        match run_file(file, hooks) {
            Ok(n) => count += n,
            Err(e) => _ = writeln!(report, "{}:\n{e}", file.display()),
        }
    }
    if report.is_empty() { Ok(count) } else { Err(report + "run again with BLESS=1 to accept what was computed") }
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("{}: {e}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            collect(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "ir") {
            out.push(path);
        }
    }
    Ok(())
}

/// Runs one file; gives the number of modules tested, and rewrites the file if `BLESS=1` is set.
///
/// # Errors
/// A report of everything that differs.
pub fn run_file(path: &Path, hooks: &Hooks) -> Result<usize, String> {
    let content = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let bless = std::env::var_os("BLESS").is_some_and(|v| v == "1");
    let outcome = run_text(&content, hooks)?;
    if outcome.text == content {
        return Ok(outcome.modules);
    }
    if bless {
        std::fs::write(path, &outcome.text).map_err(|e| e.to_string())?;
        return Ok(outcome.modules);
    }
    Err(difference(&content, &outcome.text))
}

/// A filetest as it would be with all expectations fulfilled.
pub struct Outcome {
    pub text: String,
    /// Number of modules tested.
    pub modules: usize,
}

enum Test {
    Passes(Vec<String>),
    Print,
    Verify,
    Interp,
}

/// Runs a filetest given as text.
///
/// # Errors
/// If its header, a module or a `run` line is broken, or if executions disagree with each other.
pub fn run_text(content: &str, hooks: &Hooks) -> Result<Outcome, String> {
    let header = content.lines().find_map(|l| l.strip_prefix("; test ")).ok_or("no line `; test ..`")?;
    let test = match header.trim().split_once(' ') {
        Some(("pass", names)) => Test::Passes(names.split(',').map(|n| n.trim().to_owned()).collect()),
        None if header.trim() == "print" => Test::Print,
        None if header.trim() == "verify" => Test::Verify,
        None if header.trim() == "interp" => Test::Interp,
        _ => return Err(format!("unknown test {header:?}")),
    };
    let lines: Vec<&str> = content.lines().collect();
    let (mut out, mut modules, mut k) = (String::new(), 0, 0);
    while k < lines.len() {
        if !lines[k].starts_with("module") {
            _ = writeln!(out, "{}", lines[k]);
            k += 1;
            continue;
        }
        let start = k;
        let end = (k..lines.len()).find(|&e| lines[e] == "}").ok_or_else(|| format!("line {}: the module does not end", k + 1))?;
        k = end + 1;
        let mut runs = Vec::new();
        while let Some(line) = lines.get(k).filter(|l| l.starts_with("; run ") || l.starts_with(";>")) {
            runs.extend(line.strip_prefix("; run ").map(|call| (k + 1, call)));
            k += 1;
        }
        modules += 1;
        for line in &lines[start..=end] {
            _ = writeln!(out, "{line}");
        }
        case(&test, &lines[start..=end], start, &runs, hooks, &mut out)?;
    }
    Ok(Outcome { text: out, modules })
}

/// Tests one module and writes its `run` lines and its expectation.
fn case(test: &Test, module: &[&str], first: usize, runs: &[(usize, &str)], hooks: &Hooks, out: &mut String) -> Result<(), String> {
    let at = |line: usize| format!("line {line}: ");
    let before =
        text::parse(&module.join("\n")).map_err(|e| format!("line {}:{}: {}", first + e.line as usize, e.column, e.message))?;
    let verified = |m: &Module, when: &str| match verify::module(m).as_slice() {
        [] => Ok(()),
        errors => {
            let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(format!("{}the module is broken {when}\n{}\n{}", at(first + 1), list.join("\n"), text::print(m)))
        }
    };
    let mut after = before.clone();
    let expected = match test {
        Test::Verify => {
            let errors: Vec<String> = verify::module(&before).iter().map(ToString::to_string).collect();
            Some(if errors.is_empty() { "ok".to_owned() } else { errors.join("\n") })
        }
        Test::Interp => verified(&before, "as it is").map(|()| None)?,
        Test::Print => Some(text::print(&before)),
        Test::Passes(names) => {
            verified(&before, "as it is")?;
            let mut failure = None;
            for name in names {
                if let Err(e) = (hooks.pass)(name, &mut after) {
                    failure = Some(format!("{name} fails: {e}"));
                    break;
                }
                verified(&after, &format!("after {name}"))?;
            }
            Some(failure.unwrap_or_else(|| text::print(&after)))
        }
    };
    for &(line, call) in runs {
        let said = run_line(call, &before, &after, hooks).map_err(|e| at(line) + &e)?;
        _ = writeln!(out, "; run {said}");
    }
    for line in expected.iter().flat_map(|e| e.lines()) {
        _ = writeln!(out, "{}", format!(";> {line}").trim_end());
    }
    Ok(())
}

/// Executes a `run` line and gives it back with the results that were computed, unchanged if they are close to what it says.
fn run_line(call: &str, before: &Module, after: &Module, hooks: &Hooks) -> Result<String, String> {
    let open = call.find('(').ok_or("expected `f(arguments)`")?;
    let name = call[..open].trim();
    // Arguments are tensors in angle brackets: the call ends at the first `)` outside of quotes.
    let mut quoted = false;
    let close = call[open..].char_indices().find(|&(i, c)| {
        if c == '"' && !call[open..open + i].ends_with('\\') {
            quoted = !quoted;
        }
        c == ')' && !quoted
    });
    let (close, _) = close.ok_or("the call is not closed")?;
    let arguments = text::parse_tensors(&call[open + 1..open + close]).map_err(|e| e.message)?;
    let said = call[open + close + 1..].trim();
    let head = &call[..=open + close];
    let run = |m: &Module| Interp::new(m).run(name, &arguments).map_err(|e| e.to_string());
    let reference = run(before);
    let passed = ("interpreter after the passes", run(after));
    let others = hooks.backends.iter().map(|(backend, execute)| (*backend, execute(after, name, &arguments)));
    for (who, result) in std::iter::once(passed).chain(others) {
        match (&reference, &result) {
            (Ok(a), Ok(b)) if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close_to(a, b)) => {}
            (Err(_), Err(_)) => {}
            _ => return Err(format!("{head}: {who} gives {}, the interpreter {}", shown(&result), shown(&reference))),
        }
    }
    let computed = match &reference {
        Ok(results) => {
            let expected = said.strip_prefix("==").and_then(|s| text::parse_tensors(s).ok());
            let same = |e: &Vec<Tensor>| e.len() == results.len() && e.iter().zip(results).all(|(a, b)| close_to(a, b));
            if expected.as_ref().is_some_and(same) { said.to_owned() } else { format!("== {}", shown(&reference)) }
        }
        Err(e) => match said.strip_prefix("fails").map(str::trim) {
            Some(part) if !part.is_empty() && e.contains(part) => said.to_owned(),
            _ => format!("fails {e}"),
        },
    };
    Ok(format!("{head} {computed}"))
}

fn shown(result: &Result<Vec<Tensor>, String>) -> String {
    match result {
        Ok(list) => list.iter().map(text::print_tensor).collect::<Vec<_>>().join(", "),
        Err(e) => format!("the error {e:?}"),
    }
}

/// True if both have the same type and floats differ by no more than a few rounding errors of the greatest element.
pub fn close_to(a: &Tensor, b: &Tensor) -> bool {
    use crate::Elem;
    let epsilon = match a.elem() {
        Elem::F32 => 1e-5,
        Elem::F64 => 1e-12,
        Elem::F16 => 4e-3,
        Elem::BF16 => 3e-2,
        _ => return a == b,
    };
    if a.ty() != b.ty() {
        return false;
    }
    let (Some(a), Some(b)) = (a.to_reals(), b.to_reals()) else { return false };
    let scale = a.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    a.iter().zip(&b).all(|(&x, &y)| x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= epsilon * scale)
}

/// The lines around each difference.
fn difference(have: &str, want: &str) -> String {
    let (have, want): (Vec<&str>, Vec<&str>) = (have.lines().collect(), want.lines().collect());
    let same = have.iter().zip(&want).take_while(|(a, b)| a == b).count();
    let tail = have[same..].iter().rev().zip(want[same..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut out = format!("from line {} on\n", same + 1);
    for line in &have[same.saturating_sub(2)..same] {
        _ = writeln!(out, "  {line}");
    }
    for line in &have[same..have.len() - tail] {
        _ = writeln!(out, "- {line}");
    }
    for line in &want[same..want.len() - tail] {
        _ = writeln!(out, "+ {line}");
    }
    out
}

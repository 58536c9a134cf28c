//! Ops of no family: printing, assertions, handles.

use crate::error::invalid;
use crate::{Call, Result, Table};
use graphc_ir::{Elem, Tensor};

pub(crate) const TABLE: Table = &[
    ("Assert", assert),
    ("CheckNumerics", check_numerics),
    ("CheckNumericsV2", check_numerics),
    ("HostConst", |call| Ok(vec![call.attrs.tensor("value")?.into()])),
    ("Print", print),
    ("PrintV2", print_text),
    ("_DeadTensor", dead),
];

/// Fails with its data unless all of the condition holds.
fn assert(call: &Call) -> Result {
    let cond = call.tensor(0)?;
    if cond.bytes().iter().all(|&b| b != 0) {
        return Ok(Vec::new());
    }
    let most = call.attrs.int("summarize").unwrap_or(3);
    let data: Vec<String> = call.tensors(1)?.into_iter().map(|t| format!("[{}]", summary(t, most))).collect();
    Err(invalid(format!("assertion failed: {}", data.join(" "))))
}

/// Stands for a value that the branch taken does not have.
fn dead(call: &Call) -> Result {
    Err(invalid(format!("{} is fetched, but does not have a value: it is in a branch that was not taken", call.node)))
}

/// Hands its operand on, unless an element is infinite or no number.
fn check_numerics(call: &Call) -> Result {
    let t = call.tensor(0)?;
    let values = t.to_reals().unwrap_or_default();
    let (nan, inf) = (values.iter().any(|v| v.is_nan()), values.iter().any(|v| v.is_infinite()));
    let what = match (nan, inf) {
        (false, false) => return Ok(vec![call.input(0)?.clone()]),
        (true, true) => "Inf and NaN",
        (true, false) => "NaN",
        (false, true) => "Inf",
    };
    Err(invalid(format!("{} : Tensor had {what} values", call.attrs.text("message").unwrap_or_default())))
}

/// Hands its first operand on and writes the others to standard error, the first `first_n` times (always if negative).
fn print(call: &Call) -> Result {
    let first = call.attrs.int("first_n").unwrap_or(-1);
    let count = call.own_state(|| Ok(std::sync::atomic::AtomicI64::new(0)))?;
    if first < 0 || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < first {
        let most = call.attrs.int("summarize").unwrap_or(3);
        let data: Vec<String> = call.tensors(1)?.into_iter().map(|t| format!("[{}]", summary(t, most))).collect();
        eprintln!("{}{}", call.attrs.text("message").unwrap_or_default(), data.concat());
    }
    Ok(vec![call.input(0)?.clone()])
}

/// Writes one string, to standard output where `output_stream` says so, else to standard error.
fn print_text(call: &Call) -> Result {
    let text = String::from_utf8_lossy(call.string(0)?).into_owned() + &call.attrs.text("end").unwrap_or_else(|_| "\n".into());
    match call.attrs.text("output_stream").unwrap_or_default().as_str() {
        "stdout" => print!("{text}"),
        _ => eprint!("{text}"),
    }
    Ok(Vec::new())
}

/// The first elements of a tensor as text; all where `most` is negative.
pub(crate) fn summary(t: &Tensor, most: i64) -> String {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut items: Vec<String> = match (t.strings(), t.elem()) {
        (Some(s), _) => s.iter().take(most).map(|s| String::from_utf8_lossy(s).into_owned()).collect(),
        (None, Elem::Bool) => t.bytes().iter().take(most).map(|b| (*b != 0).to_string()).collect(),
        (None, e) if e.is_float() => t.to_reals().unwrap_or_default().iter().take(most).map(f64::to_string).collect(),
        (None, _) => t.to_ints().unwrap_or_default().iter().take(most).map(i64::to_string).collect(),
    };
    if t.len() > items.len() && !items.is_empty() {
        items.push("...".into());
    }
    items.join(" ")
}

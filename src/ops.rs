//! What is supported of TensorFlow: every registered op, how it runs here, and which of its types are not taken.

use graphc_frontend::proto::attr_value::Value as Attr;
use graphc_frontend::{DataType, legalise, ops};
use serde::Serialize;

/// How an op runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Legalised into the tensor IR and compiled.
    Compiled,
    /// Compiled where shapes and values allow, else a host function.
    Both,
    /// A host function between compiled parts.
    Host,
    /// A function call or control flow: regions of compiled code, or run by branches and rounds.
    Control,
    Unsupported,
}

impl How {
    /// One word for tables.
    pub fn name(self) -> &'static str {
        match self {
            How::Compiled => "compiled",
            How::Both => "compiled or host",
            How::Host => "host",
            How::Control => "control",
            How::Unsupported => "no",
        }
    }
}

/// What is known of one op.
#[derive(Clone, Debug, Serialize)]
pub struct Support {
    pub op: String,
    pub how: How,
    /// Element types that TensorFlow registers for the op and that are not taken; of the compiled rule.
    pub not_taken: Vec<&'static str>,
}

/// Every op that TensorFlow registers, in alphabetical order.
pub fn all() -> Vec<Support> {
    ops::names().map(support).collect()
}

/// Whether an op runs at all; sources of values, such as placeholders, do.
pub fn runs(op: &str) -> bool {
    support(op).how != How::Unsupported
}

fn support(op: &str) -> Support {
    let compiled = legalise::has_rule(op);
    let host = graphc_runtime::has_host_function(op);
    let how = match (compiled, host) {
        _ if graphc_runtime::is_control_flow(op) => How::Control,
        (true, true) => How::Both,
        (true, false) => How::Compiled,
        (false, true) => How::Host,
        (false, false) => How::Unsupported,
    };
    let not_taken = if how == How::Compiled { not_taken(op) } else { Vec::new() };
    Support { op: op.to_owned(), how, not_taken }
}

/// Types among the allowed values of the op's type attributes that its compiled rule does not take.
fn not_taken(op: &str) -> Vec<&'static str> {
    let Some(def) = ops::builtin(op) else { return Vec::new() };
    let mut out: Vec<&'static str> = Vec::new();
    for a in def.attr.iter().filter(|a| a.r#type == "type") {
        let Some(Attr::List(l)) = a.allowed_values.as_ref().and_then(|v| v.value.as_ref()) else { continue };
        let types = l.r#type.iter().filter_map(|&t| DataType::from_number(t));
        out.extend(types.filter(|&d| !legalise::rule_takes(op, d)).map(DataType::name));
    }
    out.sort_unstable();
    out.dedup();
    out
}

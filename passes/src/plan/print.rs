//! The text of a plan.

use super::{Access, Arg, Buf, Combine, ConstLayout, Loop, Place, Plan, Step, StepKind};
use graphc_ir::Dim;
use graphc_ir::tape::{Entry, Tape};
use std::fmt::{self, Write};

/// The plan as text, for people.
pub fn print_plan(p: &Plan) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_plan(&mut out, p);
    out
}

fn write_plan(f: &mut String, p: &Plan) -> fmt::Result {
    let syms: Vec<String> = p.syms.iter().map(|s| s.to_string()).collect();
    writeln!(f, "plan @{}({}) arena = {} {{", p.name, syms.join(", "), p.arena)?;
    for (i, port) in p.inputs.iter().enumerate() {
        writeln!(f, "  {} = input {i} {:?} : {}", name(port.buf), port.name, port.ty)?;
    }
    for (i, port) in p.outputs.iter().enumerate() {
        writeln!(f, "  {} = output {i} {:?} : {}", name(port.buf), port.name, port.ty)?;
    }
    for (i, c) in p.consts.iter().enumerate() {
        let layout = match &c.layout {
            ConstLayout::Plain => String::new(),
            ConstLayout::Panels { count, k, n, width, .. } => {
                format!(" panels {{count = {count}, k = {k}, n = {n}, width = {width}}}")
            }
            ConstLayout::WinogradFilter { outputs, width, .. } => {
                format!(" winograd filter {{outputs = {outputs}, width = {width}}}")
            }
            ConstLayout::Words { count, k, n, width, .. } => {
                format!(" words {{count = {count}, k = {k}, n = {n}, width = {width}}}")
            }
            ConstLayout::TransposedFilter { width, .. } => format!(" transposed filter {{width = {width}}}"),
        };
        writeln!(f, "  @{i} = const {}{layout}{}", c.tensor.ty(), comment(c.loc.name()))?;
    }
    for (i, b) in p.buffers.iter().enumerate() {
        match &b.place {
            Place::Arena { offset } => writeln!(f, "  %{i} = slice arena[{offset}, {}] : {}", b.bytes(), b.ty)?,
            Place::View { of, offset } => writeln!(f, "  %{i} = view {} + {offset} : {}", name(*of), b.ty)?,
            Place::Var(v) => writeln!(f, "  %{i} = var {} : {}", v.0, b.ty)?,
            Place::Const(c) => writeln!(f, "  %{i} = @{} : {}", c.0, b.ty)?,
            Place::Unplaced | Place::Input(_) | Place::Output(_) => {}
        }
    }
    let mut depth = 0usize;
    for (i, s) in p.steps.iter().enumerate() {
        let closes = matches!(s.kind, StepKind::Else | StepKind::EndIf | StepKind::Test { .. } | StepKind::EndWhile);
        depth -= usize::from(closes && depth > 0);
        write!(f, "{:1$}", "", 2 * depth)?;
        write_step(f, p, i, s)?;
        depth += usize::from(matches!(s.kind, StepKind::If { .. } | StepKind::Else | StepKind::While | StepKind::Test { .. }));
    }
    writeln!(f, "}}")?;
    p.loops.iter().try_for_each(|l| write_loop(f, l))
}

fn name(b: Buf) -> String {
    format!("%{}", b.0)
}

fn comment(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!("  ; {node:?}") }
}

fn write_step(f: &mut String, p: &Plan, i: usize, s: &Step) -> fmt::Result {
    let node = comment(s.loc.name());
    match &s.kind {
        StepKind::Kernel { symbol, args } => {
            let short = symbol.strip_prefix("gc_").unwrap_or(symbol);
            let is_out = |a: &Arg| matches!(a, Arg::Buf { buf, .. } if s.writes.contains(buf) && !s.reads.contains(buf));
            let operand = |(k, a): &(&str, Arg)| match a {
                Arg::Buf { buf, offset } if offset.is_zero() => Some(format!("{k} {}", name(*buf))),
                Arg::Buf { buf, offset } => Some(format!("{k} {}+{offset}", name(*buf))),
                _ => None,
            };
            let (outs, ins): (Vec<_>, Vec<_>) = args.iter().partition(|(_, a)| is_out(a));
            let ins: Vec<String> = ins.into_iter().filter_map(operand).collect();
            let outs: Vec<String> = outs.into_iter().filter_map(operand).collect();
            let numbers: Vec<String> = args
                .iter()
                .filter_map(|(k, a)| match a {
                    Arg::Int(d) if !d.is_zero() => Some(format!("{k} = {d}")),
                    Arg::Real(r) if *r != 0.0 => Some(format!("{k} = {r:?}")),
                    _ => None,
                })
                .collect();
            writeln!(f, "  [{i}] {short} {} -> {} {{{}}}{node}", ins.join(", "), outs.join(", "), numbers.join(", "))
        }
        StepKind::Loop { id, inputs, outputs } => {
            let list = |v: &[Buf]| v.iter().map(|&b| name(b)).collect::<Vec<_>>().join(", ");
            let name = p.loops.get(id.index()).map_or("?", |l| l.name.as_str());
            writeln!(f, "  [{i}] loop @{name} {} -> {}{node}", list(inputs), list(outputs))
        }
        StepKind::If { cond } => writeln!(f, "  [{i}] if {}{node}", name(*cond)),
        StepKind::Else => writeln!(f, "  [{i}] else"),
        StepKind::EndIf => writeln!(f, "  [{i}] end if"),
        StepKind::While => writeln!(f, "  [{i}] while{node}"),
        StepKind::Test { cond } => writeln!(f, "  [{i}] do where {}", name(*cond)),
        StepKind::EndWhile => writeln!(f, "  [{i}] end while"),
    }
}

/// Names of the iteration axes: i, j, k, ...
fn axis(a: usize) -> String {
    match u8::try_from(a).ok().filter(|&a| a < 8) {
        Some(a) => ((b'i' + a) as char).to_string(),
        None => format!("i{a}"),
    }
}

fn index(a: &Access) -> String {
    let mut terms: Vec<String> = Vec::new();
    if !a.offset.is_zero() {
        terms.push(a.offset.to_string());
    }
    for (k, s) in a.strides.iter().enumerate().filter(|(_, s)| !s.is_zero()) {
        terms.push(match s {
            s if s.is_one() => axis(k),
            s if s.terms().len() > 1 => format!("({s})*{}", axis(k)),
            s => format!("{s}*{}", axis(k)),
        });
    }
    if terms.is_empty() { "0".into() } else { terms.join(" + ") }
}

fn write_loop(f: &mut String, l: &Loop) -> fmt::Result {
    let axes: Vec<String> = l.extents.iter().enumerate().map(|(i, d): (usize, &Dim)| format!("{} < {d}", axis(i))).collect();
    write!(f, "loop @{} [{}]", l.name, axes.join(", "))?;
    if l.reduced > 0 {
        let combine = match l.combine {
            Combine::Sum => "sum",
            Combine::Prod => "prod",
            Combine::Max => "max",
            Combine::Min => "min",
            Combine::Any => "any",
            Combine::All => "all",
        };
        write!(f, " {combine} over the last {}", l.reduced)?;
    }
    f.push_str(" {\n");
    write_tape(f, l, &l.tape)?;
    f.push_str("}\n");
    Ok(())
}

/// Letters for inputs and outputs: a, b, c, ...
fn operand(k: usize) -> String {
    match u8::try_from(k).ok().filter(|&k| k < 26) {
        Some(k) => ((b'a' + k) as char).to_string(),
        None => format!("x{k}"),
    }
}

fn write_tape(f: &mut String, l: &Loop, t: &Tape) -> fmt::Result {
    for (i, (e, elem)) in t.entries().iter().enumerate() {
        let args: Vec<String> = e.operands().map(|t| format!("t{}", t.0)).collect();
        let args = args.join(", ");
        let text = match e {
            Entry::Load(k) => {
                let at = l.inputs.get(*k as usize).map_or_else(|| "?".into(), index);
                format!("load {}[{at}]", operand(*k as usize))
            }
            Entry::Const(v) => format!("{v:?}"),
            Entry::ConstInt(v) => v.to_string(),
            Entry::Index(a) => format!("index {}", axis(*a as usize)),
            Entry::Un(op, _) => format!("{} {args}", word(op)),
            Entry::Bin(op, ..) => format!("{} {args}", word(op)),
            Entry::Cmp(op, ..) => format!("{} {args}", word(op)),
            Entry::Select(..) => format!("select {args}"),
            Entry::Cast(_) => format!("cast {args}"),
            Entry::Fma(..) => format!("fma {args}"),
        };
        writeln!(f, "  t{i} = {text} : {elem}")?;
    }
    for (k, (a, t)) in l.outputs.iter().zip(&t.outputs).enumerate() {
        writeln!(f, "  store {}[{}], t{}", operand(l.inputs.len() + k), index(a), t.0)?;
    }
    Ok(())
}

/// A variant's name in snake case.
fn word(v: &dyn fmt::Debug) -> String {
    let mut s = String::new();
    for (i, c) in format!("{v:?}").chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            s.push('_');
        }
        s.extend(c.to_lowercase());
    }
    s
}

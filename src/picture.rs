//! Pictures of a module: Graphviz's dot, and SVG drawn from it.

use graphc_ir::{Attr, Func, Inst, Module, Op, Region, Value};
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};
use std::fmt::Write;

/// Longest label line.
const WIDTH: usize = 48;

/// The functions of a module in Graphviz's dot language: one box an instruction, types on the edges, constants left out.
pub fn dot(m: &Module) -> String {
    let mut out = String::from(
        "digraph graphc {\n  node [shape=box, fontname=\"monospace\", fontsize=10];\n  edge [fontname=\"monospace\", fontsize=9];\n",
    );
    let scope = graphc_ir::text::scope(m);
    for (k, f) in m.funcs.iter().enumerate() {
        write_func(&mut out, k, f, &scope);
    }
    out.push_str("}\n");
    out
}

fn escape(s: &str) -> String {
    s.replace('\\', "\\\\").replace('"', "\\\"")
}

fn short(s: &str) -> String {
    match s.char_indices().rev().nth(WIDTH) {
        Some((i, _)) => format!("…{}", &s[i..]),
        None => s.to_owned(),
    }
}

fn write_func(out: &mut String, k: usize, f: &Func, scope: &str) {
    let id = |v: Value| match f.def_inst(v) {
        Some(i) => format!("f{k}i{}", i.index()),
        None => format!("f{k}v{}", v.index()),
    };
    for (&v, name) in f.params().iter().zip(&f.param_names) {
        let _ = writeln!(out, "  {} [shape=ellipse, label=\"{}\\n{}\"];", id(v), escape(name), f.ty(v));
    }
    for &i in &f.region(f.body).insts {
        let d = f.inst(i);
        if d.op == Op::Const {
            continue;
        }
        let text = escape(&label(f, i, scope)).replace('\n', "\\n");
        let _ = writeln!(out, "  f{k}i{} [label=\"{text}\", style=filled, fillcolor=\"{}\"];", i.index(), colour(d.op));
        for &v in d.operands.iter().filter(|&&v| f.const_of(v).is_none()) {
            let _ = writeln!(out, "  {} -> f{k}i{} [label=\"{}\"];", id(v), i.index(), f.ty(v));
        }
    }
    for (j, (&v, name)) in f.results().iter().zip(&f.result_names).enumerate() {
        let _ = writeln!(out, "  f{k}r{j} [shape=ellipse, label=\"{}\\n{}\"];", escape(name), f.ty(v));
        let _ = writeln!(out, "  {} -> f{k}r{j};", id(v));
    }
}

/// One colour a kind of work: matrix, rows and reductions, loops, everything that moves data.
fn colour(op: Op) -> &'static str {
    match op {
        _ if op.has_epilogue() => "#f4c7a1",
        Op::Attention => "#f4c7a1",
        Op::Softmax | Op::LayerNorm | Op::Reduce | Op::Pool2d | Op::ArgReduce | Op::Cumulative | Op::TopK => "#cfe3c4",
        Op::Fused => "#c9dcf0",
        _ if op.is_elementwise() => "#c9dcf0",
        _ => "#eeeeee",
    }
}

/// Op, attributes worth seeing, the ops inside, and the source node.
fn label(f: &Func, i: Inst, scope: &str) -> String {
    let d = f.inst(i);
    let mut text = d.op.name().to_owned();
    for (key, value) in d.attrs.iter() {
        match value {
            Attr::Bool(true) => write!(text, " {key}"),
            Attr::Str(s) if !s.is_empty() => write!(text, " {s}"),
            Attr::Ints(v) if v.len() <= 4 && !v.is_empty() => write!(text, " {key}={v:?}"),
            _ => Ok(()),
        }
        .unwrap_or_default();
    }
    for &r in &d.regions {
        let _ = write!(text, "\n{}", inside(f, r));
    }
    for v in d.operands.iter().filter(|&&v| f.const_of(v).is_some_and(|t| t.rank() > 0)) {
        let _ = write!(text, "\nconst {}", f.ty(*v));
    }
    if d.loc.is_known() {
        let name = d.loc.name();
        let inside = Some(name).filter(|_| !scope.is_empty()).and_then(|n| n.strip_prefix(scope)?.strip_prefix('/'));
        let _ = write!(text, "\n{}", short(inside.unwrap_or(name)));
    }
    text
}

/// Names of the ops of a fused body, wrapped.
fn inside(f: &Func, r: Region) -> String {
    let mut lines = vec![String::new()];
    for &i in f.region(r).insts.iter().filter(|&&i| f.inst(i).op != Op::Const) {
        let name = f.inst(i).op.name();
        if lines.last().is_some_and(|l| l.len() + name.len() > WIDTH) {
            lines.push(String::new());
        }
        if let Some(l) = lines.last_mut() {
            let _ = write!(l, "{}{name}", if l.is_empty() { "" } else { " " });
        }
    }
    lines.join("\n")
}

/// The same picture as SVG. Empty if the graph cannot be drawn.
pub fn svg(m: &Module) -> String {
    let source = dot(m);
    let Ok(graph) = DotParser::new(&source).process() else { return String::new() };
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&graph);
    let mut drawing = builder.get();
    let mut svg = SVGWriter::new();
    drawing.do_it(false, false, false, &mut svg);
    svg.finalize()
}

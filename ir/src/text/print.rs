//! Writing the text form.

use super::literal::{self, name, quoted};
use crate::attr::{Attr, AttrKind};
use crate::func::{Func, Inst, Loc, Module, Region, Value};
use crate::op::Op;
use crate::tensor::Tensor;
use hashbrown::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io;

/// What becomes of constants with more elements than [`Options::inline`].
#[derive(Default)]
pub enum Constants<'a> {
    /// Left out, with a hash; such a text parses only with a resolver.
    #[default]
    Elided,
    /// Written out as hexadecimal bytes.
    Full,
    /// Appended to `out`, a file that the text calls `name`, each from a multiple of 64 bytes. `len` is how much it holds already.
    File { name: &'a str, out: &'a mut dyn io::Write, len: u64 },
}

pub struct Options<'a> {
    pub constants: Constants<'a>,
    /// Constants of up to so many elements, and those with all elements equal, are written as numbers.
    pub inline: usize,
    /// Write source locations.
    pub locs: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { constants: Constants::Elided, inline: 8, locs: true }
    }
}

/// The text of a module, with large constants left out.
pub fn print(m: &Module) -> String {
    print_with(m, &mut Options::default()).unwrap_or_default()
}

/// The text of a module.
///
/// # Errors
/// Those of the constants' file.
pub fn print_with(m: &Module, options: &mut Options) -> io::Result<String> {
    let mut p = Printer::new(m, options);
    p.module()?;
    Ok(p.text)
}

/// The text of one function of `m`, with large constants left out.
pub fn print_func(m: &Module, f: &Func) -> String {
    let mut options = Options::default();
    let mut p = Printer::new(m, &mut options);
    match p.func(f, 0) {
        Ok(()) => p.text,
        Err(_) => String::new(),
    }
}

/// A constant with all its elements: `<f32[2] [1.0, 2.0]>`.
pub fn print_tensor(t: &Tensor) -> String {
    format!("<{} {}>", t.ty(), literal::inline(t))
}

struct Printer<'a, 'b> {
    module: &'a Module,
    options: &'a mut Options<'b>,
    text: String,
    /// What source locations are relative to; empty where they are not.
    scope: String,
    names: HashMap<Value, String>,
    taken: HashSet<String>,
    /// The next suffix to try for a name that is taken.
    suffix: HashMap<String, usize>,
    next: usize,
}

impl<'a, 'b> Printer<'a, 'b> {
    fn new(module: &'a Module, options: &'a mut Options<'b>) -> Self {
        Printer {
            module,
            options,
            text: String::new(),
            scope: String::new(),
            names: HashMap::new(),
            taken: HashSet::new(),
            suffix: HashMap::new(),
            next: 0,
        }
    }

    fn push(&mut self, s: &str) {
        self.text.push_str(s);
    }

    fn indent(&mut self, depth: usize) {
        (0..depth).for_each(|_| self.push("  "));
    }

    fn module(&mut self) -> io::Result<()> {
        let m = self.module;
        _ = writeln!(self.text, "module @{} {{", name(&m.name));
        self.scope = if self.options.locs { scope(m) } else { String::new() };
        if !self.scope.is_empty() {
            _ = writeln!(self.text, "  scope {}", quoted(&self.scope));
        }
        for v in &m.vars {
            _ = write!(self.text, "  var @{} : {}", name(&v.name), v.ty);
            if let Some(t) = &v.init {
                self.push(" = ");
                self.tensor(t)?;
            }
            self.push("\n");
        }
        for f in &m.funcs {
            self.func(f, 1)?;
        }
        self.push("}\n");
        Ok(())
    }

    /// A source location, relative to the scope where it lies in it.
    fn source(&self, loc: &Loc) -> String {
        let inside =
            Some(loc.name()).filter(|_| !self.scope.is_empty()).and_then(|n| n.strip_prefix(&self.scope)?.strip_prefix('/'));
        match inside {
            Some(rest) => quoted(&format!("~/{rest}")),
            None => quoted(loc.name()),
        }
    }

    fn func(&mut self, f: &Func, depth: usize) -> io::Result<()> {
        self.names.clear();
        self.taken.clear();
        self.suffix.clear();
        self.next = 0;
        self.indent(depth);
        _ = write!(self.text, "func @{}(", name(&f.name));
        for (k, &p) in f.params().iter().enumerate() {
            let own = f.param_names.get(k).map_or("", String::as_str);
            let shown = self.unique(own);
            if k > 0 {
                self.push(", ");
            }
            _ = write!(self.text, "%{}: {}", name(&shown), f.ty(p));
            match &f.value(p).loc {
                loc if !self.options.locs || loc.is_known() && loc.name() == shown => {}
                loc if loc.is_known() => _ = write!(self.text, " {}", self.source(loc)),
                _ => self.push(" unknown"),
            }
            self.names.insert(p, shown);
        }
        self.push(") -> (");
        for (k, &r) in f.results().iter().enumerate() {
            if k > 0 {
                self.push(", ");
            }
            if let Some(own) = f.result_names.get(k) {
                _ = write!(self.text, "%{}: ", name(own));
            }
            _ = write!(self.text, "{}", f.ty(r));
        }
        self.push(") {\n");
        self.block(f, f.body, "return", depth)?;
        self.push("}\n");
        Ok(())
    }

    /// The instructions of a region and its last line, up to the indentation of the closing brace.
    fn block(&mut self, f: &Func, r: Region, last: &str, depth: usize) -> io::Result<()> {
        for &i in &f.region(r).insts {
            self.inst(f, i, depth + 1)?;
        }
        self.indent(depth + 1);
        self.push(last);
        self.values(&f.region(r).results);
        self.push("\n");
        self.indent(depth);
        Ok(())
    }

    /// A name derived from `base` that no other value of the function has; `base` itself if it is free.
    fn unique(&mut self, base: &str) -> String {
        if self.taken.insert(base.to_owned()) {
            return base.to_owned();
        }
        let mut k = self.suffix.get(base).copied().unwrap_or(1);
        let fresh = loop {
            let candidate = format!("{base}_{k}");
            k += 1;
            if self.taken.insert(candidate.clone()) {
                break candidate;
            }
        };
        self.suffix.insert(base.to_owned(), k);
        fresh
    }

    /// Names a value after the last part of its location, or by number.
    fn define(&mut self, v: Value, loc: &Loc) -> String {
        let part = loc.name().rsplit('/').next().unwrap_or("");
        let mut base: String = part.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        if base.starts_with(|c: char| c.is_ascii_digit()) {
            base.insert(0, '_');
        }
        let shown = if base.is_empty() {
            loop {
                let candidate = self.next.to_string();
                self.next += 1;
                if self.taken.insert(candidate.clone()) {
                    break candidate;
                }
            }
        } else {
            self.unique(&base)
        };
        self.names.insert(v, shown.clone());
        shown
    }

    fn values(&mut self, list: &[Value]) {
        for (k, v) in list.iter().enumerate() {
            self.push(if k == 0 { " " } else { ", " });
            match self.names.get(v) {
                Some(n) => _ = write!(self.text, "%{}", name(n)),
                // The verifier rejects this; a dump of a broken function must still be readable.
                None => _ = write!(self.text, "%undefined_{}", v.0),
            }
        }
    }

    fn inst(&mut self, f: &Func, i: Inst, depth: usize) -> io::Result<()> {
        let inst = f.inst(i);
        self.indent(depth);
        let shown: Vec<String> = inst.results.iter().map(|&v| self.define(v, &inst.loc)).collect();
        for (k, n) in shown.iter().enumerate() {
            _ = write!(self.text, "{}%{}", if k == 0 { "" } else { ", " }, name(n));
        }
        if !shown.is_empty() {
            self.push(" = ");
        }
        self.push(inst.op.name());
        let global = |kind| matches!(kind, AttrKind::Func | AttrKind::Var);
        let mut separator = " ";
        for (_, attr) in inst.attrs.iter().filter(|(_, a)| global(a.kind())) {
            self.push(separator);
            self.attr(attr)?;
            separator = ", ";
        }
        if separator == ", " && !inst.operands.is_empty() {
            self.push(",");
        }
        self.values(&inst.operands);
        if inst.op == Op::Const && inst.attrs.tensor("value").is_some() {
            self.push(" ");
            if let Some(t) = inst.attrs.tensor("value") {
                self.tensor(t)?;
            }
        } else {
            self.attrs(inst.attrs.iter().filter(|(_, a)| !global(a.kind())))?;
            for (k, &v) in inst.results.iter().enumerate() {
                _ = write!(self.text, "{}{}", if k == 0 { " : " } else { ", " }, f.ty(v));
            }
        }
        for &r in &inst.regions {
            self.push(" (");
            for (k, &p) in f.region(r).params.iter().enumerate() {
                let loc = f.value(p).loc.clone();
                let shown = self.define(p, &loc);
                _ = write!(self.text, "{}%{}: {}", if k == 0 { "" } else { ", " }, name(&shown), f.ty(p));
                if self.options.locs && loc.is_known() && loc.name() != shown {
                    _ = write!(self.text, " {}", self.source(&loc));
                }
            }
            self.push(") {\n");
            self.block(f, r, "yield", depth)?;
            self.push("}");
        }
        let by_name = shown.first().is_some_and(|n| n == inst.loc.name());
        if self.options.locs && inst.loc.is_known() && !by_name {
            _ = write!(self.text, " ; {}", self.source(&inst.loc));
        }
        self.push("\n");
        Ok(())
    }

    fn attrs<'x>(&mut self, list: impl Iterator<Item = (&'static str, &'x Attr)>) -> io::Result<()> {
        let mut opened = false;
        for (key, attr) in list {
            self.push(if opened { ", " } else { " {" });
            opened = true;
            self.push(key);
            self.push(" = ");
            self.attr(attr)?;
        }
        if opened {
            self.push("}");
        }
        Ok(())
    }

    fn attr(&mut self, attr: &Attr) -> io::Result<()> {
        match attr {
            Attr::Int(v) => _ = write!(self.text, "{v}"),
            Attr::Real(v) if v.is_nan() => self.push("nan"),
            Attr::Real(v) => _ = write!(self.text, "{v:?}"),
            Attr::Bool(v) => _ = write!(self.text, "{v}"),
            Attr::Str(s)
                if s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
            {
                self.push(s);
            }
            Attr::Str(s) => self.push(&quoted(s)),
            Attr::Ints(v) => _ = write!(self.text, "{v:?}"),
            Attr::Dims(v) => _ = write!(self.text, "{v:?}"),
            Attr::Elem(e) => self.push(e.name()),
            Attr::Tensor(t) => self.tensor(t)?,
            Attr::Sym(s) => _ = write!(self.text, "{s}"),
            Attr::Func(id) => match self.module.funcs.get(id.index()) {
                Some(f) => _ = write!(self.text, "@{}", name(&f.name)),
                None => _ = write!(self.text, "@undefined_{}", id.0),
            },
            Attr::Var(id) => match self.module.vars.get(id.index()) {
                Some(v) => _ = write!(self.text, "@{}", name(&v.name)),
                None => _ = write!(self.text, "@undefined_{}", id.0),
            },
        }
        Ok(())
    }

    fn tensor(&mut self, t: &Tensor) -> io::Result<()> {
        let small = t.len() <= self.options.inline || t.splat_value().is_some();
        let body = match &mut self.options.constants {
            _ if small => literal::inline(t),
            Constants::Full => literal::hex(t),
            Constants::File { name, out, len } if t.strings().is_none() => {
                let start = len.next_multiple_of(64);
                out.write_all(&vec![0; (start - *len) as usize])?;
                out.write_all(t.bytes())?;
                *len = start + t.bytes().len() as u64;
                format!("file {} @{start}", quoted(name))
            }
            Constants::File { .. } => literal::inline(t),
            Constants::Elided => format!("elided 0x{:016x}", literal::hash(t)),
        };
        _ = write!(self.text, "<{} {body}>", t.ty());
        Ok(())
    }
}

/// The longest scope (`a/b` of `a/b/c`) that most source locations of a module lie in; empty if there is none worth naming.
pub fn scope(m: &Module) -> String {
    let mut locs: Vec<&str> = Vec::new();
    for f in &m.funcs {
        let mut regions = vec![f.body];
        while let Some(r) = regions.pop() {
            for &i in &f.region(r).insts {
                locs.push(f.inst(i).loc.name());
                regions.extend(&f.inst(i).regions);
            }
        }
    }
    // Such a name could not be told from a relative one.
    if locs.iter().any(|l| l.starts_with("~/")) {
        return String::new();
    }
    let known = locs.iter().filter(|l| l.contains('/')).count();
    if known < 4 {
        return String::new();
    }
    let mut scope = String::new();
    loop {
        let next = |l: &&str| l.strip_prefix(scope.as_str())?.split_once('/').map(|(part, _)| part.to_owned() + "/");
        let mut counts: HashMap<String, usize> = HashMap::new();
        locs.iter().filter_map(next).for_each(|part| *counts.entry(part).or_default() += 1);
        match counts.into_iter().max_by(|a, b| (a.1, &b.0).cmp(&(b.1, &a.0))) {
            Some((part, n)) if n * 5 >= known * 4 => scope += &part,
            _ => break,
        }
    }
    scope.pop();
    scope
}

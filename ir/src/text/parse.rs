//! Reading the text form. Any input gives a module or an error with its place; nothing is verified beyond names and syntax.

use super::Resolver;
use super::lexer::{At, Lexed, Token, lex};
use crate::attr::{Attr, AttrKind, Attrs};
use crate::dim::{Dim, Sym};
use crate::func::{Func, FuncId, Loc, Module, Region, Value, Var, VarId};
use crate::op::{MANY, Op};
use crate::tensor::Tensor;
use crate::ty::Type;
use hashbrown::HashMap;
use std::fmt;

/// How deep regions and dimension expressions may nest.
pub(super) const MAX_DEPTH: usize = 48;
/// Most bytes that the `splat` literals of a module may stand for.
const MAX_SPLAT: usize = 1 << 28;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// Counted from 1; the column in bytes.
    pub line: u32,
    pub column: u32,
    pub message: String,
}

impl ParseError {
    pub(super) fn new(at: At, message: impl Into<String>) -> ParseError {
        ParseError { line: at.line, column: at.column, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}

pub(super) type Parsed<T> = Result<T, ParseError>;

/// Parses a module whose constants are all written out.
///
/// # Errors
/// The first thing that is wrong; an elided constant, too.
pub fn parse(text: &str) -> Parsed<Module> {
    parse_with(text, &|_| None)
}

/// Parses a module; `resolver` finds the constants that are elided or in files.
///
/// # Errors
/// The first thing that is wrong; a constant that the resolver does not find.
pub fn parse_with(text: &str, resolver: Resolver) -> Parsed<Module> {
    let mut p = Parser::new(text, resolver)?;
    p.collect_functions()?;
    let m = p.module()?;
    match p.peek() {
        Token::End => Ok(m),
        _ => Err(p.error("text after the module")),
    }
}

/// Parses a dimension: `3*?n + floordiv(?m, 2) - 1`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_dim(text: &str) -> Parsed<Dim> {
    let mut p = Parser::new(text, &|_| None)?;
    let d = p.dim(0)?;
    match p.peek() {
        Token::End => Ok(d),
        _ => Err(p.error("text after the dimension")),
    }
}

/// Parses constants, separated by commas: `<f32[2] [1.0, 2.0]>, <i64[] 3>`.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse_tensors(text: &str) -> Parsed<Vec<Tensor>> {
    let mut p = Parser::new(text, &|_| None)?;
    let mut out = Vec::new();
    while *p.peek() != Token::End {
        if !out.is_empty() {
            p.expect(',')?;
        }
        out.push(p.tensor()?);
    }
    Ok(out)
}

pub(super) struct Parser<'t, 'r> {
    pub(super) tokens: Vec<Lexed<'t>>,
    pub(super) pos: usize,
    pub(super) resolver: Resolver<'r>,
    funcs: HashMap<String, FuncId>,
    vars: HashMap<String, VarId>,
    /// What names of source nodes that start with `~/` are relative to.
    scope: String,
    /// Values by name, the innermost region last.
    scopes: Vec<HashMap<String, Value>>,
    /// Bytes that `splat` literals may still make.
    pub(super) splat_left: usize,
}

/// The location that a value's name stands for: none if it is a number.
fn loc_of_name(name: &str) -> Loc {
    if name.bytes().all(|b| b.is_ascii_digit()) { Loc::default() } else { Loc::new(name) }
}

impl<'t, 'r> Parser<'t, 'r> {
    fn new(text: &'t str, resolver: Resolver<'r>) -> Parsed<Self> {
        Ok(Parser {
            tokens: lex(text)?,
            pos: 0,
            resolver,
            funcs: HashMap::new(),
            scope: String::new(),
            vars: HashMap::new(),
            scopes: Vec::new(),
            splat_left: MAX_SPLAT,
        })
    }

    pub(super) fn peek(&self) -> &Token<'t> {
        &self.tokens[self.pos].token
    }

    pub(super) fn next(&mut self) -> Token<'t> {
        let token = self.tokens[self.pos].token.clone();
        self.pos = (self.pos + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.tokens[self.pos].at, message)
    }

    /// An error at the token just taken.
    pub(super) fn error_before(&self, message: impl Into<String>) -> ParseError {
        ParseError::new(self.tokens[self.pos.saturating_sub(1)].at, message)
    }

    pub(super) fn eat(&mut self, c: char) -> bool {
        let found = *self.peek() == Token::Punct(c);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Parsed<()> {
        if self.eat(c) { Ok(()) } else { Err(self.error(format!("expected {c:?}"))) }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if *w == word);
        if found {
            self.next();
        }
        found
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.error(format!("expected {word:?}"))) }
    }

    pub(super) fn word(&mut self) -> Parsed<&'t str> {
        match *self.peek() {
            Token::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => Err(self.error("expected a word")),
        }
    }

    pub(super) fn global(&mut self) -> Parsed<String> {
        match self.next() {
            Token::Global(n) => Ok(n),
            _ => Err(self.error_before("expected a name with @")),
        }
    }

    fn value_name(&mut self) -> Parsed<String> {
        match self.next() {
            Token::Value(n) => Ok(n),
            _ => Err(self.error_before("expected a value with %")),
        }
    }

    pub(super) fn string(&mut self) -> Parsed<String> {
        match self.next() {
            Token::Str(s) => String::from_utf8(s).map_err(|_| self.error_before("the string is not UTF-8")),
            _ => Err(self.error_before("expected a string")),
        }
    }

    /// Items up to `close`, separated by commas.
    pub(super) fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut out = Vec::new();
        if self.eat(close) {
            return Ok(out);
        }
        loop {
            out.push(item(self)?);
            if self.eat(close) {
                return Ok(out);
            }
            self.expect(',')?;
        }
    }

    /// Numbers the functions by their headers, so that calls may come before definitions.
    fn collect_functions(&mut self) -> Parsed<()> {
        let mut depth = 0i64;
        for w in self.tokens.windows(2) {
            match (&w[0].token, &w[1].token) {
                (Token::Punct('{'), _) => depth += 1,
                (Token::Punct('}'), _) => depth -= 1,
                (Token::Word("func"), Token::Global(name)) if depth == 1 => {
                    let id = FuncId(self.funcs.len() as u32);
                    if self.funcs.insert(name.clone(), id).is_some() {
                        return Err(ParseError::new(w[1].at, format!("a second function {name:?}")));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn module(&mut self) -> Parsed<Module> {
        self.expect_word("module")?;
        let mut m = Module { name: self.global()?, ..Module::default() };
        self.expect('{')?;
        while !self.eat('}') {
            if self.eat_word("scope") {
                self.scope = self.string()?;
            } else if self.eat_word("var") {
                let name = self.global()?;
                if self.vars.insert(name.clone(), VarId(m.vars.len() as u32)).is_some() {
                    return Err(self.error_before(format!("a second variable {name:?}")));
                }
                self.expect(':')?;
                let ty = self.ty()?;
                let init = if self.eat('=') { Some(self.tensor()?) } else { None };
                m.vars.push(Var { name, ty, init });
            } else if self.eat_word("func") {
                m.funcs.push(self.func()?);
            } else {
                return Err(self.error("expected scope, var, func or }"));
            }
        }
        Ok(m)
    }

    /// The source location of that name, which may be relative to the module's scope.
    fn located(&self, name: &str) -> Loc {
        match name.strip_prefix("~/").filter(|_| !self.scope.is_empty()) {
            Some(rest) => Loc::new(&format!("{}/{rest}", self.scope)),
            None => Loc::new(name),
        }
    }

    fn source(&mut self) -> Parsed<Loc> {
        let name = self.string()?;
        Ok(self.located(&name))
    }

    fn func(&mut self) -> Parsed<Func> {
        let mut f = Func::new(&self.global()?);
        self.scopes.push(HashMap::new());
        self.expect('(')?;
        self.list(')', |p| {
            let name = p.value_name()?;
            p.expect(':')?;
            let ty = p.ty()?;
            let v = f.add_func_param(&name, ty);
            if matches!(p.peek(), Token::Str(_)) {
                f.value_mut(v).loc = p.source()?;
            } else if p.eat_word("unknown") {
                f.value_mut(v).loc = Loc::default();
            }
            p.define(name, v)
        })?;
        match self.next() {
            Token::Arrow => {}
            _ => return Err(self.error_before("expected \"->\"")),
        }
        self.expect('(')?;
        let results = self.list(')', |p| match p.peek() {
            Token::Value(_) => {
                let name = p.value_name()?;
                p.expect(':')?;
                Ok((Some(name), p.ty()?))
            }
            _ => Ok((None, p.ty()?)),
        })?;
        self.expect('{')?;
        let body = f.body;
        self.block(&mut f, body, "return", 0)?;
        let given = results.iter().map(|(_, ty)| ty);
        if f.results().len() != results.len() || given.zip(f.results()).any(|(ty, &v)| ty != f.ty(v)) {
            return Err(self.error_before(format!("the results of {:?} have other types than its signature says", f.name)));
        }
        if results.iter().any(|(n, _)| n.is_some()) {
            f.result_names = results.into_iter().map(|(n, _)| n.unwrap_or_default()).collect();
        }
        self.scopes.pop();
        Ok(f)
    }

    fn define(&mut self, name: String, v: Value) -> Parsed<()> {
        if self.scopes.iter().any(|s| s.contains_key(&name)) {
            return Err(self.error_before(format!("a second value %{name}")));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, v);
        }
        Ok(())
    }

    fn value(&mut self) -> Parsed<Value> {
        let name = self.value_name()?;
        let found = self.scopes.iter().rev().find_map(|s| s.get(&name)).copied();
        found.ok_or_else(|| self.error_before(format!("no value %{name} here")))
    }

    /// Instructions, the last line, and the closing brace.
    fn block(&mut self, f: &mut Func, r: Region, last: &str, depth: usize) -> Parsed<()> {
        if depth > MAX_DEPTH {
            return Err(self.error("regions nest too deep"));
        }
        while !self.eat_word(last) {
            self.inst(f, r, depth)?;
        }
        let mut results = Vec::new();
        if matches!(self.peek(), Token::Value(_)) {
            results.push(self.value()?);
            while self.eat(',') {
                results.push(self.value()?);
            }
        }
        f.region_mut(r).results = results;
        self.expect('}')
    }

    fn inst(&mut self, f: &mut Func, r: Region, depth: usize) -> Parsed<()> {
        let mut names = Vec::new();
        if matches!(self.peek(), Token::Value(_)) {
            names.push(self.value_name()?);
            while self.eat(',') {
                names.push(self.value_name()?);
            }
            self.expect('=')?;
        }
        let at = self.tokens[self.pos].at;
        let word = self.word()?;
        let op = Op::parse(word).ok_or_else(|| ParseError::new(at, format!("no op {word:?}")))?;
        let mut attrs = Attrs::new();
        let operands = self.operands(op, &mut attrs)?;
        if op == Op::Const && *self.peek() == Token::Punct('<') {
            attrs.set("value", self.tensor()?);
        }
        if self.eat('{') {
            self.list('}', |p| p.attr(op, &mut attrs))?;
        }
        let types = match self.eat(':') {
            true => {
                let mut types = vec![self.ty()?];
                while self.eat(',') {
                    types.push(self.ty()?);
                }
                types
            }
            false => self.inferred(f, op, &operands, &attrs, at)?,
        };
        if types.len() != names.len() {
            return Err(ParseError::new(at, format!("{} names for {} results", names.len(), types.len())));
        }
        let mut regions = Vec::new();
        while self.eat('(') {
            regions.push(self.region(f, depth)?);
        }
        let comment = self.tokens[self.pos.saturating_sub(1)].loc.clone();
        let loc = match (comment, names.first()) {
            (Some(s), _) => self.located(&s),
            (None, Some(name)) => loc_of_name(name),
            (None, None) => Loc::default(),
        };
        let inst = f.make_inst(op, operands, attrs, regions, types, loc);
        f.region_mut(r).insts.push(inst);
        for (name, v) in names.into_iter().zip(f.inst(inst).results.clone()) {
            self.define(name, v)?;
        }
        Ok(())
    }

    /// Operands, and among them the function or variable that the op refers to.
    fn operands(&mut self, op: Op, attrs: &mut Attrs) -> Parsed<Vec<Value>> {
        let mut operands = Vec::new();
        loop {
            match self.peek() {
                Token::Value(_) => operands.push(self.value()?),
                Token::Global(_) => {
                    let def = op.def().attrs.iter().find(|d| matches!(d.kind, AttrKind::Func | AttrKind::Var));
                    let def = def.ok_or_else(|| self.error(format!("{} refers to no function or variable", op.name())))?;
                    let attr = self.attr_value(def.kind)?;
                    attrs.set(def.key, attr);
                }
                _ if operands.is_empty() && attrs.iter().next().is_none() => return Ok(operands),
                _ => return Err(self.error("expected an operand")),
            }
            if !self.eat(',') {
                return Ok(operands);
            }
        }
    }

    fn inferred(&self, f: &Func, op: Op, operands: &[Value], attrs: &Attrs, at: At) -> Parsed<Vec<Type>> {
        let def = op.def();
        let error = |m: String| ParseError::new(at, m);
        if op == Op::VarAssign || std::ptr::fn_addr_eq(def.infer, crate::infer::given as crate::op::Infer) {
            return Ok(Vec::new());
        }
        if operands.len() < def.operands.0 || def.operands.1 != MANY && operands.len() > def.operands.1 {
            return Err(error(format!("{} does not take {} operands", def.name, operands.len())));
        }
        let types: Vec<&Type> = operands.iter().map(|&v| f.ty(v)).collect();
        (def.infer)(&types, attrs).map_err(|e| error(format!("{}: {e}", def.name)))
    }

    fn region(&mut self, f: &mut Func, depth: usize) -> Parsed<Region> {
        let r = f.add_region();
        self.scopes.push(HashMap::new());
        self.list(')', |p| {
            let name = p.value_name()?;
            p.expect(':')?;
            let ty = p.ty()?;
            let loc = if matches!(p.peek(), Token::Str(_)) { p.source()? } else { loc_of_name(&name) };
            let v = f.add_param(r, ty, loc);
            p.define(name, v)
        })?;
        self.expect('{')?;
        self.block(f, r, "yield", depth + 1)?;
        self.scopes.pop();
        Ok(r)
    }

    fn attr(&mut self, op: Op, attrs: &mut Attrs) -> Parsed<()> {
        let key = self.word()?;
        let def = op.def().attrs.iter().find(|d| d.key == key);
        let def = def.ok_or_else(|| self.error_before(format!("{} has no attribute {key}", op.name())))?;
        if attrs.get(key).is_some() {
            return Err(self.error_before(format!("attribute {key} is given twice")));
        }
        self.expect('=')?;
        let value = self.attr_value(def.kind)?;
        attrs.set(def.key, value);
        Ok(())
    }

    fn attr_value(&mut self, kind: AttrKind) -> Parsed<Attr> {
        Ok(match kind {
            AttrKind::Int => Attr::Int(self.int()?),
            AttrKind::Real => {
                let text = self.signed()?;
                Attr::Real(text.parse().map_err(|_| self.error_before(format!("{text} is no number")))?)
            }
            AttrKind::Bool => match self.word()? {
                "true" => Attr::Bool(true),
                "false" => Attr::Bool(false),
                _ => return Err(self.error_before("expected true or false")),
            },
            AttrKind::Str => match *self.peek() {
                Token::Str(_) => Attr::Str(self.string()?),
                _ => Attr::Str(self.word()?.to_owned()),
            },
            AttrKind::Ints => {
                self.expect('[')?;
                Attr::Ints(self.list(']', Self::int)?)
            }
            AttrKind::Dims => {
                self.expect('[')?;
                Attr::Dims(self.list(']', |p| p.dim(0))?)
            }
            AttrKind::Elem => Attr::Elem(self.elem()?),
            AttrKind::Tensor => Attr::Tensor(self.tensor()?),
            AttrKind::Sym => match self.next() {
                Token::Sym(s) => Attr::Sym(Sym::new(s)),
                _ => return Err(self.error_before("expected a symbol with ?")),
            },
            AttrKind::Func => {
                let name = self.global()?;
                Attr::Func(*self.funcs.get(&name).ok_or_else(|| self.error_before(format!("no function {name:?}")))?)
            }
            AttrKind::Var => {
                let name = self.global()?;
                Attr::Var(*self.vars.get(&name).ok_or_else(|| self.error_before(format!("no variable {name:?}")))?)
            }
        })
    }
}

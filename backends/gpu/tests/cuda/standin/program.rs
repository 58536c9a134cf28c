//! PTX as instructions.

use super::numbers::{Kind, Ty, ty};
use std::collections::HashMap;

/// Kernels by name.
pub type Kernels = HashMap<String, Kernel>;

#[derive(Clone, Debug)]
pub enum Operand {
    Register(usize),
    Constant(u64),
    Thread,
    Block,
    Blocks,
    /// Bytes into the memory of the workgroup.
    Shared(u64),
    Address(Box<Operand>, i64),
    Param(usize),
    /// Where a parameter is.
    ParamAddress(usize),
    /// A tensor's description, and coordinates in the tensor.
    Box(Box<Operand>, Vec<Operand>),
    List(Vec<Operand>),
    Target(usize),
    /// Of a list, what is not wanted.
    Nowhere,
}

#[derive(Debug)]
pub struct Instruction {
    /// A register, and what it must hold.
    pub guard: Option<(usize, bool)>,
    /// The words of the name, as `ld`, `global`, `v4`, `b32`.
    pub name: Vec<String>,
    pub ty: Ty,
    pub operands: Vec<Operand>,
}

pub struct Kernel {
    pub code: Vec<Instruction>,
    pub registers: usize,
    /// Bytes of memory of the workgroup that the code declares, and where that of the launch begins.
    pub shared: usize,
    /// Where each parameter begins among the arguments.
    pub params: Vec<usize>,
}

/// Words of names besides the first and types.
const MODIFIERS: &[&str] = &[
    "global", "shared", "param", "v2", "v4", "lo", "hi", "wide", "uni", "sync", "aligned", "row", "col", "m16n8k8", "m16n8k16",
    "rn", "rni", "rzi", "rmi", "rpi", "rna", "tf32", "bf16", "bf16x2", "s16x2", "u16x2", "eq", "ne", "lt", "le", "gt", "ge", "equ",
    "neu", "ltu", "leu", "gtu", "geu", "num", "nan", "init", "arrive", "expect_tx", "try_wait", "parity", "mbarrier_init", "release",
    "cluster", "proxy", "async", "shared::cta", "shared::cluster", "to", "async", "bulk", "tensor", "2d", "3d", "4d", "5d", "tile",
    "mbarrier::complete_tx::bytes", "mma_async", "commit_group", "wait_group", "fence", "cg", "ca", "x1", "x2", "x4", "m8n8",
];

/// A parameter of a kernel.
pub struct Param {
    pub name: String,
    pub size: usize,
    pub alignment: usize,
    pub address: bool,
}

impl Param {
    /// `.param .u64 .ptr .global .align 1 NAME`, or `.param .align 64 .b8 NAME[128]`.
    pub fn of(text: &str) -> Result<Param, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = || format!("a parameter {text:?}");
        let last = *words.last().ok_or_else(wrong)?;
        if let Some((name, bytes)) = last.split_once('[') {
            let size = bytes.trim_end_matches(']').parse().map_err(|_| wrong())?;
            let alignment = words.iter().position(|w| *w == ".align").and_then(|k| words.get(k + 1)?.parse().ok()).ok_or_else(wrong)?;
            return Ok(Param { name: name.into(), size, alignment, address: false });
        }
        let size = words.get(1).and_then(|t| ty(t.trim_start_matches('.'))).ok_or_else(wrong)?.bits as usize / 8;
        Ok(Param { name: last.into(), size, alignment: size, address: words.contains(&".ptr") })
    }
}

/// The kernels of a module.
pub fn parse(text: &str) -> Result<Kernels, String> {
    let text: String = text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut kernels = HashMap::new();
    // .extern .shared .align N .b8 NAME[]
    let given = text.lines().find_map(|l| l.trim().strip_prefix(".extern .shared")?.split_whitespace().last()?.strip_suffix("[];"));
    let given = given.map(str::to_owned);
    for part in text.split(".entry ").skip(1) {
        let (head, body) = part.split_once('{').ok_or("an entry without a body")?;
        let (name, params) = head.split_once('(').ok_or("an entry without parameters")?;
        let name = name.trim().to_owned();
        let body = &scoped(body.rsplit_once('}').ok_or("a body without an end")?.0)?;
        let parser = Parser { given: given.clone(), ..Parser::default() };
        let kernel = parser.kernel(params.split(')').next().unwrap_or(""), body).map_err(|e| format!("{name}: {e}"))?;
        kernels.insert(name, kernel);
    }
    Ok(kernels)
}

/// A body without blocks: names that a block declares become names of their own. Braces of blocks are lines of their own.
fn scoped(body: &str) -> Result<String, String> {
    let (mut out, mut block, mut number): (String, Option<Vec<&str>>, u32) = (String::new(), None, 0);
    for line in body.lines() {
        match (line.trim(), &mut block) {
            ("{", None) => block = Some(Vec::new()),
            ("{", Some(_)) => return Err("a block in a block".into()),
            ("}", open) => {
                let lines = open.take().ok_or("the end of no block")?;
                number += 1;
                let declared = |l: &&str| -> Option<(String, String)> {
                    let l = l.trim();
                    if let Some(rest) = l.strip_prefix(".reg") {
                        let name = rest.trim_end_matches(';').split_whitespace().last()?;
                        return Some((name.into(), format!("%block{number}_{name}")));
                    }
                    let label = l.split_once(':').map(|(l, _)| l.trim()).filter(|l| l.chars().all(|c| c.is_alphanumeric() || c == '_'))?;
                    Some((label.into(), format!("$block{number}_{label}")))
                };
                let names: HashMap<String, String> = lines.iter().filter_map(declared).collect();
                for l in lines.iter().filter(|l| !l.trim().starts_with(".reg")) {
                    let mut word = String::new();
                    for c in l.chars().chain(['\n']) {
                        if c.is_alphanumeric() || c == '_' || c == '%' || c == '$' {
                            word.push(c);
                            continue;
                        }
                        out += names.get(&word).unwrap_or(&word);
                        word.clear();
                        out.push(c);
                    }
                }
            }
            (_, Some(lines)) => lines.push(line),
            (_, None) => {
                out += line;
                out.push('\n');
            }
        }
    }
    Ok(out)
}

#[derive(Default)]
struct Parser {
    /// The symbol of the memory that a launch gives.
    given: Option<String>,
    registers: HashMap<String, usize>,
    shared: HashMap<String, u64>,
    shared_bytes: u64,
    params: HashMap<String, usize>,
    labels: HashMap<String, usize>,
}

impl Parser {
    fn kernel(mut self, params: &str, body: &str) -> Result<Kernel, String> {
        let mut places = Vec::new();
        let mut at = 0usize;
        for p in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let p = Param::of(p)?;
            at = at.next_multiple_of(p.alignment);
            self.params.insert(p.name, places.len());
            places.push(at);
            at += p.size;
        }
        // Labels first: statements refer to later ones.
        let mut statements = Vec::new();
        for s in body.split(';') {
            let mut s = s.trim();
            while let Some((label, rest)) = s.split_once(':').filter(|(l, _)| l.trim().starts_with('$')) {
                self.labels.insert(label.trim().to_owned(), statements.len());
                s = rest.trim();
            }
            if let Some(rest) = s.strip_prefix(".shared") {
                // .align 4 .b8 NAME[BYTES]
                let words: Vec<&str> = rest.split_whitespace().collect();
                let (name, bytes) = words.last().and_then(|w| w.split_once('[')).ok_or(format!("{s:?}"))?;
                let bytes: u64 = bytes.trim_end_matches(']').parse().map_err(|_| format!("{s:?}"))?;
                self.shared_bytes = self.shared_bytes.next_multiple_of(16);
                self.shared.insert(name.to_owned(), self.shared_bytes);
                self.shared_bytes += bytes;
            } else if !s.is_empty() && !s.starts_with('.') {
                statements.push(s.to_owned());
            }
        }
        // Memory of the launch lies behind what is declared.
        if let Some(given) = self.given.take() {
            self.shared_bytes = self.shared_bytes.next_multiple_of(1024);
            self.shared.insert(given, self.shared_bytes);
        }
        let code = statements.iter().map(|s| self.instruction(s).map_err(|e| format!("{s:?}: {e}"))).collect::<Result<_, _>>()?;
        Ok(Kernel { code, registers: self.registers.len(), shared: self.shared_bytes as usize, params: places })
    }

    fn register(&mut self, name: &str) -> usize {
        let next = self.registers.len();
        *self.registers.entry(name.to_owned()).or_insert(next)
    }

    fn instruction(&mut self, text: &str) -> Result<Instruction, String> {
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                let (p, rest) = rest.split_once(char::is_whitespace).ok_or("a guard alone")?;
                let (holds, p) = p.strip_prefix('!').map_or((true, p), |p| (false, p));
                (Some((self.register(p), holds)), rest.trim())
            }
            None => (None, text),
        };
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let name: Vec<String> = name.split('.').map(str::to_owned).collect();
        let shape = |w: &str| w.starts_with("m64n");
        if let Some(w) = name.iter().skip(1).find(|w| ty(w).is_none() && !MODIFIERS.contains(&w.as_str()) && !shape(w)) {
            return Err(format!("{w} is not known"));
        }
        let pair = name.iter().find_map(|w| w.strip_suffix("x2").and_then(ty));
        let found = pair.or_else(|| name.iter().rev().find_map(|w| ty(w)));
        let ty = found.unwrap_or(Ty { kind: Kind::Bits, bits: 32 });
        let (mut operands, mut depth, mut from) = (Vec::new(), 0, 0);
        let ends = rest.char_indices().chain([(rest.len(), ',')]);
        for (i, c) in ends {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    if !rest[from..i].trim().is_empty() {
                        operands.push(self.operand(rest[from..i].trim())?);
                    }
                    from = i + 1;
                }
                _ => {}
            }
        }
        Ok(Instruction { guard, name, ty, operands })
    }

    fn operand(&mut self, text: &str) -> Result<Operand, String> {
        if let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return Ok(Operand::List(inner.split(',').map(|t| self.operand(t.trim())).collect::<Result<_, _>>()?));
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            if let Some((map, at)) = inner.split_once(',') {
                let Operand::List(at) = self.operand(at.trim())? else { return Err(format!("coordinates {at:?}")) };
                return Ok(Operand::Box(Box::new(self.operand(map.trim())?), at));
            }
            let (base, offset) = inner.split_once('+').unwrap_or((inner, "0"));
            let offset = offset.parse().map_err(|_| format!("offset {offset:?}"))?;
            return Ok(match self.params.get(base) {
                Some(&k) => Operand::Param(k),
                None => Operand::Address(Box::new(self.operand(base)?), offset),
            });
        }
        let bits = |text: &str, radix| u64::from_str_radix(text, radix).map_err(|_| format!("constant {text:?}"));
        Ok(match text {
            "%tid.x" => Operand::Thread,
            "%ctaid.x" => Operand::Block,
            "%nctaid.x" => Operand::Blocks,
            "_" => Operand::Nowhere,
            t if t.contains('|') => Operand::List(t.split('|').map(|t| self.operand(t.trim())).collect::<Result<_, _>>()?),
            t if self.params.contains_key(t) => Operand::ParamAddress(self.params[t]),
            t if t.starts_with('%') => Operand::Register(self.register(t)),
            t if t.starts_with('$') => Operand::Target(*self.labels.get(t).ok_or("a label that is not there")?),
            t if t.starts_with("0f") || t.starts_with("0d") => Operand::Constant(bits(&t[2..], 16)?),
            t if t.starts_with("0x") => Operand::Constant(bits(t[2..].trim_end_matches('U'), 16)?),
            t => match self.shared.get(t) {
                Some(&at) => Operand::Shared(at),
                None => Operand::Constant(
                    t.parse::<i64>().map(|v| v as u64).or_else(|_| t.parse::<u64>()).map_err(|_| format!("operand {t:?}"))?,
                ),
            },
        })
    }
}

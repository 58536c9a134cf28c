//! The Rust module of a model, for programs that link its object.

use graphc_cpu::header::{Names, identifier};
use graphc_cpu::object::{FunctionSource, ModelSource, PortSource, symbol};
use graphc_ir::{Dim, Elem};
use std::fmt::{self, Write};

/// Words that are not free in Rust.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum",
    "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
    "override", "priv", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait", "true", "try", "type",
    "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// A module with the type `Model`, a method for each function, and typed inputs and outputs; it is written with `graphc-model`.
pub fn module(source: &ModelSource) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, source);
    out
}

/// `name` as an identifier of Rust that is not taken yet.
fn take(names: &mut Names, name: &str) -> String {
    let mut base = identifier(name).trim_end_matches('_').to_owned();
    if base.is_empty() || KEYWORDS.contains(&base.as_str()) {
        base.push('_');
    }
    names.take_base(base)
}

/// `serving_default` as `ServingDefault`.
fn camel(name: &str) -> String {
    let parts = name.split('_').filter(|p| !p.is_empty());
    parts.map(|p| p[..1].to_ascii_uppercase() + &p[1..]).collect()
}

fn write(out: &mut String, source: &ModelSource) -> fmt::Result {
    let name = identifier(&source.name);
    writeln!(
        out,
        "/// The model {name:?}, made by graphc.\n#[allow(clippy::all, non_snake_case, non_camel_case_types, dead_code, unused_imports)]"
    )?;
    writeln!(out, "pub mod {name} {{\n    use graphc_model::{{AnyInput, AnyOutput, Error, Input, Options, Output, generated}};\n")?;
    writeln!(
        out,
        "    unsafe extern \"C\" {{\n        #[link_name = {:?}]\n        static TABLE: generated::Table;\n    }}\n",
        symbol(&source.name)
    )?;
    writeln!(out, "    /// The model, with state of its own.\n    pub struct Model<'w>(graphc_model::Instance<'w>);\n")?;
    writeln!(out, "    impl<'w> Model<'w> {{")?;
    writeln!(out, "        pub fn new(options: Options<'w>) -> Result<Self, Error> {{")?;
    writeln!(out, "            // SAFETY: the table is that of the object which was compiled with this module.")?;
    writeln!(out, "            unsafe {{ graphc_model::Instance::new(&raw const TABLE, options) }}.map(Model)\n        }}\n")?;
    writeln!(
        out,
        "        /// Gives every variable its first value again.\n        pub fn reset(&self) -> Result<(), Error> {{\n            self.0.reset()\n        }}"
    )?;
    let mut methods = Names(vec!["new".to_owned(), "reset".to_owned()]);
    let mut types = Names(["Model", "AnyInput", "AnyOutput", "Error", "Input", "Options", "Output"].map(str::to_owned).to_vec());
    let mut functions = Vec::new();
    for (k, f) in source.functions.iter().enumerate() {
        let (method, ty) = (take(&mut methods, &f.name), take(&mut types, &camel(&identifier(&f.name))));
        let outputs = take(&mut types, &format!("{ty}Outputs"));
        writeln!(out, "\n        /// The function {:?}.\n        pub fn {method}(&self) -> Result<{ty}<'_>, Error> {{", f.name)?;
        writeln!(out, "            self.0.function({k}).map({ty})\n        }}")?;
        functions.push((f, ty, outputs));
    }
    writeln!(out, "    }}")?;
    for (f, ty, outputs) in functions {
        function(out, f, &ty, &outputs)?;
    }
    writeln!(out, "}}")
}

fn function(out: &mut String, f: &FunctionSource, ty: &str, outputs: &str) -> fmt::Result {
    let mut names = Names(Vec::new());
    let results: Vec<(String, &PortSource)> = f.outputs.iter().map(|p| (take(&mut names, &p.name), p)).collect();
    writeln!(out, "\n    /// What a run of {:?} gives.\n    pub struct {outputs}<'c> {{", f.name)?;
    if results.is_empty() {
        writeln!(out, "        _call: std::marker::PhantomData<&'c ()>,")?;
    }
    for (name, p) in &results {
        writeln!(out, "        /// {}\n        pub {name}: {},", shape(p), type_of(p, "Output", "'c"))?;
    }
    writeln!(out, "    }}\n\n    /// The function {:?}, with memory that is kept from run to run.", f.name)?;
    writeln!(out, "    pub struct {ty}<'m>(graphc_model::Function<'m>);\n\n    impl {ty}<'_> {{")?;
    let mut names = Names(vec!["self".to_owned()]);
    let params: Vec<(String, &PortSource)> = f.inputs.iter().map(|p| (take(&mut names, &p.name), p)).collect();
    writeln!(out, "        /// Runs the function.\n        ///")?;
    for (name, p) in &params {
        writeln!(out, "        /// `{name}`: {}", shape(p))?;
    }
    write!(out, "        pub fn run(&mut self")?;
    for (name, p) in &params {
        write!(out, ", {name}: {}", type_of(p, "Input", "'_"))?;
    }
    let bound: Vec<String> = params.iter().map(|(name, _)| format!("(&{name}).into()")).collect();
    writeln!(out, ") -> Result<{outputs}<'_>, Error> {{\n            self.0.run(&[{}])?;", bound.join(", "))?;
    writeln!(out, "            Ok({outputs} {{")?;
    if results.is_empty() {
        writeln!(out, "                _call: std::marker::PhantomData,")?;
    }
    for (k, (name, p)) in results.iter().enumerate() {
        let (kind, get) = if p.shape.is_some() { ("Output", "output") } else { ("AnyOutput", "any_output") };
        writeln!(out, "                {name}: {kind}::new(self.0.{get}({k})?),")?;
    }
    writeln!(out, "            }})\n        }}\n    }}")
}

/// The type of a port: an input or output of its rank, or of any.
fn type_of(p: &PortSource, kind: &str, lifetime: &str) -> String {
    match &p.shape {
        Some(s) => format!("{kind}<{lifetime}, {}, {}>", element(p.elem, lifetime), s.len()),
        None => format!("Any{kind}<{lifetime}, {}>", element(p.elem, lifetime)),
    }
}

fn shape(p: &PortSource) -> String {
    let dims = p.shape.as_ref().map_or("...".to_owned(), |s| s.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "));
    format!("{} `[{dims}]`", p.elem)
}

fn element(e: Elem, lifetime: &str) -> String {
    let name = match e {
        Elem::Str => return format!("graphc_model::Text<{lifetime}>"),
        Elem::Bool => "bool",
        Elem::I8 | Elem::I4 | Elem::QI8 => "i8",
        Elem::I16 | Elem::QI16 => "i16",
        Elem::I32 | Elem::QI32 => "i32",
        Elem::I64 => "i64",
        Elem::U16 | Elem::QU16 => "u16",
        Elem::U32 => "u32",
        Elem::U64 => "u64",
        Elem::F16 => "graphc_model::F16",
        Elem::BF16 => "graphc_model::BF16",
        Elem::F32 => "f32",
        Elem::F64 => "f64",
        Elem::C64 => "graphc_model::Complex<f32>",
        Elem::C128 => "graphc_model::Complex<f64>",
        _ => "u8",
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_of_rust() {
        let mut n = Names(Vec::new());
        assert_eq!([take(&mut n, "match"), take(&mut n, "x:0"), take(&mut n, "x:0")], ["match_", "x_0", "x_0_2"]);
        assert_eq!(camel("serving_default"), "ServingDefault");
    }
}

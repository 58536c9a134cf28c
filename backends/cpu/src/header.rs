//! The C header of an object.

use crate::object::{ModelSource, PortSource};
use graphc_ir::{Dim, Elem};
use std::fmt::{self, Write};

/// Words that are not free in C or C++.
const KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "asm",
    "auto",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "class",
    "const",
    "continue",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "not",
    "operator",
    "or",
    "private",
    "protected",
    "public",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "true",
    "try",
    "typedef",
    "typename",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "xor",
];

/// `name` as a C identifier.
pub fn identifier(name: &str) -> String {
    let mut s: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if s.starts_with(|c: char| c.is_ascii_digit()) || s.is_empty() {
        s.insert(0, '_');
    }
    if KEYWORDS.contains(&s.as_str()) {
        s.push('_');
    }
    s
}

/// A C header for the object that [`crate::object::compile_object`] makes of a model: what it exports, and for each input a function
/// that binds it with its type and open extents as arguments. Usable from C99 and C++.
pub fn c_header(source: &ModelSource) -> String {
    let prefix = identifier(&source.name);
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = header(&mut out, source, &prefix);
    out
}

fn header(out: &mut String, source: &ModelSource, prefix: &str) -> fmt::Result {
    let guard = prefix.to_ascii_uppercase();
    writeln!(out, "/* Made by graphc: the model {prefix}. graphc.h says how it is run. */")?;
    writeln!(out, "#ifndef {guard}_GRAPHC_H\n#define {guard}_GRAPHC_H\n\n#include \"graphc.h\"\n")?;
    writeln!(out, "#ifdef __cplusplus\nextern \"C\" {{\n#endif\n")?;
    writeln!(out, "extern const graphc_model {}_model;\n", prefix)?;
    let mut names = Names(vec![format!("{prefix}_model")]);
    for (k, f) in source.functions.iter().enumerate() {
        let name = names.take(&format!("{prefix}_{}", f.name));
        writeln!(out, "/* The function {:?}. */", comment(&f.name))?;
        writeln!(out, "enum {{ {name} = {k} }};")?;
        for (i, port) in f.inputs.iter().enumerate() {
            let setter = names.take(&format!("{name}_set_{}", port.name));
            writeln!(out, "/* {} {} */", comment(&port.name), shape(port))?;
            binder(out, &setter, i, port)?;
        }
        for (i, port) in f.outputs.iter().enumerate() {
            let getter = names.take(&format!("{name}_get_{}", port.name));
            let c = c_type(port.elem);
            writeln!(out, "/* {} {}, after a run. */", comment(&port.name), shape(port))?;
            writeln!(out, "static inline const {c} *{getter}(const graphc_call *call) {{")?;
            writeln!(out, "  return (const {c} *)graphc_output_data(call, {i});\n}}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "#ifdef __cplusplus\n}}\n#endif\n#endif")
}

/// The function that binds an input.
fn binder(out: &mut String, name: &str, index: usize, port: &PortSource) -> fmt::Result {
    let c = c_type(port.elem);
    let Some(shape) = &port.shape else {
        writeln!(
            out,
            "static inline graphc_status {name}(graphc_call *call, const {c} *data, const int64_t *dims, size_t rank) {{"
        )?;
        return writeln!(out, "  return graphc_set_input(call, {index}, data, dims, rank);\n}}");
    };
    let mut names = Names(["call", "data", "dims"].map(str::to_owned).to_vec());
    let mut params = String::new();
    let mut dims = Vec::new();
    for (axis, d) in shape.iter().enumerate() {
        match (d.as_const(), d.as_sym()) {
            (Some(c), _) => dims.push(c.to_string()),
            (None, sym) => {
                let name = names.take(&sym.map_or_else(|| format!("dim{axis}"), |s| s.name().to_owned()));
                write!(params, ", int64_t {name}")?;
                dims.push(name);
            }
        }
    }
    writeln!(out, "static inline graphc_status {name}(graphc_call *call, const {c} *data{params}) {{")?;
    // An empty array is no C.
    let list = if dims.is_empty() { "0".to_owned() } else { dims.join(", ") };
    writeln!(out, "  const int64_t dims[] = {{{list}}};")?;
    writeln!(out, "  return graphc_set_input(call, {index}, data, dims, {});\n}}", dims.len())
}

/// The C type of an element.
fn c_type(e: Elem) -> &'static str {
    match e {
        Elem::F32 | Elem::C64 => "float",
        Elem::F64 | Elem::C128 => "double",
        Elem::I16 | Elem::QI16 => "int16_t",
        Elem::I32 | Elem::QI32 => "int32_t",
        Elem::I64 => "int64_t",
        Elem::U16 | Elem::QU16 | Elem::F16 | Elem::BF16 => "uint16_t",
        Elem::U32 => "uint32_t",
        Elem::U64 => "uint64_t",
        Elem::I8 | Elem::I4 | Elem::QI8 => "int8_t",
        Elem::Str => "graphc_string",
        _ => "uint8_t",
    }
}

/// Names that are taken in some scope of generated text.
pub struct Names(pub Vec<String>);

impl Names {
    /// `name` as a C identifier that is not taken yet.
    pub fn take(&mut self, name: &str) -> String {
        self.take_base(identifier(name))
    }

    /// `base`, with a number behind it if it is taken.
    pub fn take_base(&mut self, base: String) -> String {
        let mut s = base.clone();
        let mut k = 2;
        while self.0.contains(&s) {
            s = format!("{base}_{k}");
            k += 1;
        }
        self.0.push(s.clone());
        s
    }
}

/// Text in a comment; nothing in it ends the comment.
fn comment(text: &str) -> String {
    text.replace("*/", "* /")
}

fn shape(p: &PortSource) -> String {
    let dims = p.shape.as_ref().map_or("...".to_owned(), |s| s.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "));
    comment(&format!("{} [{dims}]", p.elem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        assert_eq!(identifier("serving/default:0"), "serving_default_0");
        assert_eq!(identifier("3d"), "_3d");
        assert_eq!(identifier("class"), "class_");
        let mut n = Names(Vec::new());
        assert_eq!([n.take("x"), n.take("x"), n.take("x")], ["x", "x_2", "x_3"]);
    }
}

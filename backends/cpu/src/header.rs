//! The C header of an object.

use graphc_ir::{Dim, Elem, Type};
use graphc_passes::plan::{Place, Plan};
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

/// A C header for the object that [`crate::object::compile_object`] makes of `plans`. Usable from C99 and C++.
pub fn c_header(plans: &[Plan]) -> String {
    let mut out = String::from(PROLOGUE);
    for p in plans {
        // Writing to a string does not fail.
        let _ = function(&mut out, p);
    }
    out.push_str(EPILOGUE);
    out
}

const PROLOGUE: &str = "\
/* Made by graphc. Link the object and libgraphc_rt.a (with -lm -lpthread -ldl).
 *
 * For each function NAME there is a struct NAME_io, to be zeroed and then filled in, and
 *
 *     int NAME(NAME_io *io);                     runs it: GRAPHC_OK, or why not
 *     int64_t NAME_arena_bytes(const NAME_io *io);   bytes of working memory for these extents
 *
 * Tensors are row-major. Extents that the model leaves open are fields of the struct. io->arena may be NULL, then memory is
 * allocated for the run; else it holds NAME_arena_bytes + GRAPHC_TAIL bytes and is aligned to 64. Any number of threads may run a
 * function at once, each with an io of its own.
 */
#ifndef GRAPHC_HEADER
#define GRAPHC_HEADER
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern \"C\" {
#endif

#define GRAPHC_TAIL 256
enum {
  GRAPHC_OK = 0,
  GRAPHC_CANCELLED = 1,
  GRAPHC_INDEX_OUT_OF_RANGE = 2,
  GRAPHC_DIVISION_BY_ZERO = 3,
  GRAPHC_SHAPE_GUARD = 4,
  GRAPHC_INVALID_SHAPE = 5,
  GRAPHC_HOST = 6,
  GRAPHC_OUT_OF_MEMORY = 100
};
typedef int32_t graphc_entry(const void *ctx, const void *const *inputs, void *const *outputs, void *arena, const void *weights,
                             void *const *vars, const int64_t *symbols);
/* In libgraphc_rt.a: runs an entry on the calling thread. */
int32_t graphc_run(graphc_entry *entry, const void *weights, const void *const *inputs, void *const *outputs, void *arena,
                   int64_t arena_bytes, void *const *vars, const int64_t *symbols);

#ifdef __cplusplus
}
#endif
#endif
#ifdef __cplusplus
extern \"C\" {
#endif
";

const EPILOGUE: &str = "\n#ifdef __cplusplus\n}\n#endif\n";

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
        _ => "uint8_t",
    }
}

/// Names of struct members, each once.
struct Names(Vec<String>);

impl Names {
    fn take(&mut self, name: &str) -> String {
        let base = identifier(name);
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

/// A shape in a comment; nothing in it ends the comment.
fn shape(t: &Type) -> String {
    let dims: Vec<String> = t.shape.iter().map(Dim::to_string).collect();
    format!("{} [{}]", t.elem, dims.join(", "))
}

fn function(f: &mut String, p: &Plan) -> fmt::Result {
    let name = identifier(&p.name);
    let mut names = Names(Vec::new());
    let arena = names.take("arena");
    let syms: Vec<String> = p.syms.iter().map(|s| names.take(s.name())).collect();
    let inputs: Vec<String> = p.inputs.iter().map(|i| names.take(&i.name)).collect();
    let outputs: Vec<String> = p.outputs.iter().map(|o| names.take(&o.name)).collect();
    let vars = p.buffers.iter().filter_map(|b| match b.place {
        Place::Var(v) => Some(v.index() + 1),
        _ => None,
    });
    let vars = vars.max().unwrap_or(0);

    writeln!(f, "\ntypedef struct {name}_io {{")?;
    for (s, field) in p.syms.iter().zip(&syms) {
        writeln!(f, "  int64_t {field}; /* the extent {s} */")?;
    }
    for (port, field) in p.inputs.iter().zip(&inputs) {
        writeln!(f, "  const {} *{field}; /* input, {} */", c_type(port.ty.elem), shape(&port.ty))?;
    }
    for (port, field) in p.outputs.iter().zip(&outputs) {
        writeln!(f, "  {} *{field}; /* output, {} */", c_type(port.ty.elem), shape(&port.ty))?;
    }
    if vars > 0 {
        writeln!(f, "  void *vars[{vars}]; /* the values of the variables, kept by the caller */")?;
    }
    writeln!(f, "  void *{arena}; /* working memory, or NULL */\n}} {name}_io;\n")?;

    let sizes: usize = 1 + p.outputs.iter().map(|o| o.ty.rank()).sum::<usize>();
    writeln!(f, "graphc_entry {name}_entry;")?;
    writeln!(f, "/* Stores {sizes} numbers: bytes of working memory, then the extents of each output. */")?;
    writeln!(f, "void {name}_sizes(const int64_t *symbols, int64_t *sizes);")?;
    writeln!(f, "extern const unsigned char {name}_weights[];\n")?;

    let list = |fields: &[String]| match fields {
        [] => "0".to_owned(),
        _ => fields.iter().map(|s| format!("io->{s}")).collect::<Vec<_>>().join(", "),
    };
    writeln!(f, "static inline int64_t {name}_arena_bytes(const {name}_io *io) {{")?;
    writeln!(f, "  const int64_t symbols[] = {{{}}};\n  int64_t sizes[{sizes}];", list(&syms))?;
    writeln!(f, "  (void)io;\n  {name}_sizes(symbols, sizes);\n  return sizes[0];\n}}\n")?;
    writeln!(f, "static inline int {name}({name}_io *io) {{")?;
    writeln!(f, "  const int64_t symbols[] = {{{}}};", list(&syms))?;
    writeln!(f, "  const void *const inputs[] = {{{}}};\n  void *const outputs[] = {{{}}};", list(&inputs), list(&outputs))?;
    let vars = if vars > 0 { "io->vars" } else { "NULL" };
    writeln!(
        f,
        "  return graphc_run({name}_entry, {name}_weights, inputs, outputs, io->{arena}, {name}_arena_bytes(io), {vars}, symbols);"
    )?;
    writeln!(f, "}}")
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

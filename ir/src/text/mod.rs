//! The text form: what `print` writes, `parse` reads, and printing again gives the same text.
//!
//! ```text
//! module @mnist {
//!   var @w : f32[784, 10]
//!   func @predict(%x: f32[?n, 784]) -> (%output: f32[?n, 10]) {
//!     %ReadVariableOp = var.read @w : f32[784, 10] ; "dense/MatMul/ReadVariableOp"
//!     %h = contract %x, %ReadVariableOp {lhs = [1], rhs = [0]} : f32[?n, 10]
//!     %0 = const <f32[] 0.5>
//!     %y = fused %h, %0 : f32[?n, 10] (%1: f32[?n, 10], %2: f32[]) {
//!       %3 = mul %1, %2 : f32[?n, 10]
//!       yield %3
//!     }
//!     return %y
//!   }
//! }
//! ```
//!
//! A comment runs from `;` to the end of the line. A comment that is one quoted string, after an instruction, is the source location
//! of that instruction; without it the location is the name of the first result, or unknown if that is a number.

mod lexer;
mod literal;
mod parse;
mod parse_type;
mod print;
#[cfg(test)]
mod tests;

pub use parse::{ParseError, parse, parse_dim, parse_tensors, parse_with};
pub use print::{Constants, Options, print, print_func, print_tensor, print_with, scope};

use crate::func::Module;
use crate::tensor::Tensor;
use crate::ty::Type;
use hashbrown::HashMap;

/// A constant that the text names but does not hold.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// Left out; the hash of its bytes is known.
    Elided { ty: &'a Type, hash: u64 },
    /// In a file, from a byte offset.
    File { ty: &'a Type, name: &'a str, offset: u64 },
}

/// Finds the constants that a text refers to.
pub type Resolver<'a> = &'a dyn Fn(Reference) -> Option<Tensor>;

/// The constants and initial values of `m` by hash, to parse a text of `m` (or of what a pass made of it) that elides them.
pub fn constants_by_hash(m: &Module) -> HashMap<u64, Tensor> {
    let mut found = HashMap::new();
    let mut add = |t: &Tensor| found.insert(literal::hash(t), t.clone());
    m.vars.iter().filter_map(|v| v.init.as_ref()).for_each(|t| drop(add(t)));
    for f in &m.funcs {
        f.walk(f.body, &mut |f, _, i| {
            if let Some(t) = f.inst(i).attrs.tensor("value") {
                add(t);
            }
        });
    }
    found
}

/// A fuzz target: any bytes parse or give an error, and what parses prints to a text that parses and prints the same.
///
/// # Panics
/// If that is not so.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let none = |r: Reference| match r {
        Reference::Elided { ty, .. } | Reference::File { ty, .. } => Tensor::zeros(
            ty.elem,
            &ty.const_shape().filter(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n < 1 << 16))?,
        ),
    };
    let Ok(m) = parse_with(text, &none) else { return };
    let _ = crate::verify::module(&m);
    let once = print_full(&m);
    match parse(&once) {
        Ok(again) => assert_eq!(print_full(&again), once),
        Err(e) => panic!("printed text does not parse: {e}\n{once}"),
    }
}

fn print_full(m: &Module) -> String {
    print_with(m, &mut Options { constants: Constants::Full, ..Options::default() }).unwrap_or_default()
}

//! Which scalar operations have a meaning for which element types.

use super::{complex, scalar};
use crate::elem::Elem;
use crate::tape::{Bin, Cmp, Entry, Tape, Un};

/// Checks that every entry of a tape is defined for the types of its operands.
///
/// # Errors
/// The first operation that is not.
pub fn check_tape(t: &Tape) -> Result<(), String> {
    for (entry, _) in t.entries() {
        let Some(first) = entry.operands().next() else { continue };
        if entry.operands().any(|x| x.index() >= t.entries().len()) {
            return Err("a tape entry reads one that does not exist".into());
        }
        let elem = t.elem(first);
        let (defined, shown) = match *entry {
            Entry::Un(op, _) => (un(op, elem), format!("{op:?}")),
            Entry::Bin(op, ..) => (bin(op, elem), format!("{op:?}")),
            Entry::Cmp(op, ..) => (cmp(op, elem), format!("{op:?}")),
            Entry::Fma(..) => (bin(Bin::Mul, elem) && bin(Bin::Add, elem), "Fma".into()),
            Entry::Cast(_) => (computable(elem), "Cast".into()),
            Entry::Select(..) => (elem == Elem::Bool, "Select".into()),
            _ => (true, String::new()),
        };
        if !defined {
            return Err(format!("{shown} is not defined for {elem}"));
        }
    }
    Ok(())
}

fn computable(elem: Elem) -> bool {
    elem == Elem::Bool || elem.is_real() || elem.is_complex()
}

fn un(op: Un, elem: Elem) -> bool {
    match elem {
        Elem::Bool => op == Un::Not,
        e if e.is_int() => scalar::un_int(op, e, 0).is_some(),
        e if e.is_complex() => complex::part(op).is_some() || complex::un(op).is_some(),
        e if e.is_float() => scalar::un_real(op).is_some() || scalar::test_real(op).is_some(),
        _ => false,
    }
}

fn bin(op: Bin, elem: Elem) -> bool {
    match elem {
        Elem::Bool => scalar::bin_bool(op, true, true).is_some(),
        e if e.is_int() => scalar::bin_int(op, e, 1, 1).is_ok(),
        e if e.is_complex() => complex::bin(op, 1.0.into(), 1.0.into()).is_some(),
        Elem::F32 | Elem::F64 if op == Bin::Complex => true,
        e if e.is_float() => scalar::bin_real(op, e, 1.0, 1.0).is_some(),
        _ => false,
    }
}

fn cmp(op: Cmp, elem: Elem) -> bool {
    computable(elem) && (!elem.is_complex() || matches!(op, Cmp::Eq | Cmp::Ne))
}

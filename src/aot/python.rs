//! The Python module of a shared library.

use super::identifier;

/// A Python module that loads the shared library `library` of the model called `name`, which lies beside it. It needs NumPy.
pub fn wrapper(name: &str, library: &str) -> String {
    include_str!("wrapper.py").replace("@NAME@", &identifier(name)).replace("@LIBRARY@", library)
}

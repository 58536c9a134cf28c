//! Tensor types.

use crate::dim::Dim;
use crate::elem::Elem;
use std::fmt;

/// Type of a value: element type and symbolic shape. The rank is always known; a graph whose ranks are open is compiled again for each
/// rank that it is fed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Type {
    pub elem: Elem,
    pub shape: Vec<Dim>,
}

impl Type {
    pub fn new(elem: Elem, shape: impl Into<Vec<Dim>>) -> Type {
        Type { elem, shape: shape.into() }
    }

    pub fn scalar(elem: Elem) -> Type {
        Type { elem, shape: Vec::new() }
    }

    /// A type of constant shape.
    pub fn of(elem: Elem, shape: &[usize]) -> Type {
        Type { elem, shape: shape.iter().map(|&d| Dim::from(d)).collect() }
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn elements(&self) -> Dim {
        self.shape.iter().product()
    }

    /// The shape, if no dimension is symbolic.
    pub fn const_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.as_const().and_then(|c| usize::try_from(c).ok())).collect()
    }

    pub fn with_elem(&self, elem: Elem) -> Type {
        Type { elem, shape: self.shape.clone() }
    }

    pub fn with_shape(&self, shape: impl Into<Vec<Dim>>) -> Type {
        Type { elem: self.elem, shape: shape.into() }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.elem)?;
        for (i, d) in self.shape.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{d}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

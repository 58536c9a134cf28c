//! Borrowed tensors: what callers hand in and get written.

use graphc_ir::{Elem, Scalar, Tensor};
use ndarray::{ArrayBase, ArrayView, Data, Dimension, IxDyn};

/// A tensor that a caller lends for reading: row-major, elements of fixed size.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    elem: Elem,
    shape: &'a [usize],
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// A view of an array; `None` if its elements do not lie in row-major order (use `as_standard_layout`).
    pub fn of<T: Scalar, S: Data<Elem = T>, D: Dimension>(array: &'a ArrayBase<S, D>) -> Option<View<'a>> {
        let elements = array.as_slice()?;
        // SAFETY: a `Scalar` has no padding, so all its bytes may be read.
        let bytes = unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) };
        Some(View { elem: T::ELEM, shape: array.shape(), bytes })
    }

    /// A view of raw bytes; `None` if they are not as many as the shape says.
    pub fn new(elem: Elem, shape: &'a [usize], bytes: &'a [u8]) -> Option<View<'a>> {
        let n = graphc_ir::tensor::element_count(shape)?.checked_mul(elem.size())?;
        (elem.is_plain() && n == bytes.len()).then_some(View { elem, shape, bytes })
    }

    pub fn elem(&self) -> Elem {
        self.elem
    }

    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy of what is lent.
    pub fn to_tensor(&self) -> Option<Tensor> {
        Tensor::from_bytes(self.elem, self.shape.to_vec(), self.bytes.to_vec())
    }
}

/// A view of a tensor; strings have no bytes to view, and give `None`.
impl<'a> TryFrom<&'a Tensor> for View<'a> {
    type Error = ();

    fn try_from(t: &'a Tensor) -> Result<View<'a>, ()> {
        View::new(t.elem(), t.shape(), t.bytes()).ok_or(())
    }
}

/// The elements of an answer as an `ndarray` view, without a copy; `None` if they are of another type.
pub fn array_of<T: Scalar>(t: &Tensor) -> Option<ArrayView<'_, T, IxDyn>> {
    match t.as_slice::<T>()? {
        std::borrow::Cow::Borrowed(s) => ArrayView::from_shape(t.shape(), s).ok(),
        std::borrow::Cow::Owned(_) => None,
    }
}

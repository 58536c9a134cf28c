//! Borrowed tensors: what callers hand in and get written.

use graphc_ir::{Elem, Scalar, Tensor};
use ndarray::{ArrayBase, ArrayView, Data, Dimension, IxDyn};

/// A tensor that a caller lends for reading, row-major.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    elem: Elem,
    shape: &'a [usize],
    data: Elements<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Elements<'a> {
    /// Elements of fixed size.
    Bytes(&'a [u8]),
    Strings(&'a [Box<[u8]>]),
    /// Elements that may be on a device.
    Elsewhere(&'a Tensor),
}

impl<'a> View<'a> {
    /// A view of an array; `None` if its elements do not lie in row-major order (use `as_standard_layout`).
    pub fn of<T: Scalar, S: Data<Elem = T>, D: Dimension>(array: &'a ArrayBase<S, D>) -> Option<View<'a>> {
        let elements = array.as_slice()?;
        // SAFETY: a `Scalar` has no padding, so all its bytes may be read.
        let bytes = unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) };
        Some(View { elem: T::ELEM, shape: array.shape(), data: Elements::Bytes(bytes) })
    }

    /// A view of raw bytes; `None` if they are not as many as the shape says.
    pub fn new(elem: Elem, shape: &'a [usize], bytes: &'a [u8]) -> Option<View<'a>> {
        let n = graphc_ir::tensor::element_count(shape)?.checked_mul(elem.size())?;
        (elem.is_plain() && n == bytes.len()).then_some(View { elem, shape, data: Elements::Bytes(bytes) })
    }

    /// A view of strings; `None` if they are not as many as the shape says.
    pub fn of_strings(shape: &'a [usize], strings: &'a [Box<[u8]>]) -> Option<View<'a>> {
        let fits = graphc_ir::tensor::element_count(shape)? == strings.len();
        fits.then_some(View { elem: Elem::Str, shape, data: Elements::Strings(strings) })
    }

    pub fn elem(&self) -> Elem {
        self.elem
    }

    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The raw bytes; empty for strings.
    pub fn bytes(&self) -> &'a [u8] {
        match self.data {
            Elements::Bytes(b) => b,
            Elements::Strings(_) => &[],
            Elements::Elsewhere(t) => t.bytes(),
        }
    }

    /// The strings; `None` for elements of another type.
    pub fn strings(&self) -> Option<&'a [Box<[u8]>]> {
        match self.data {
            Elements::Strings(s) => Some(s),
            Elements::Bytes(_) | Elements::Elsewhere(_) => None,
        }
    }

    /// The tensor whose elements are elsewhere, if this is one.
    pub fn elsewhere(&self) -> Option<&'a Tensor> {
        match self.data {
            Elements::Elsewhere(t) => Some(t),
            _ => None,
        }
    }

    /// A copy of what is lent.
    pub fn to_tensor(&self) -> Option<Tensor> {
        match self.data {
            Elements::Bytes(b) => Tensor::from_bytes(self.elem, self.shape.to_vec(), b.to_vec()),
            Elements::Strings(s) => Tensor::from_strings(self.shape, s.to_vec()),
            Elements::Elsewhere(t) => Some(t.clone()),
        }
    }
}

/// A view of a tensor; `None` of one whose elements have no memory form.
impl<'a> TryFrom<&'a Tensor> for View<'a> {
    type Error = ();

    fn try_from(t: &'a Tensor) -> Result<View<'a>, ()> {
        if t.is_elsewhere() {
            return Ok(View { elem: t.elem(), shape: t.shape(), data: Elements::Elsewhere(t) });
        }
        match t.strings() {
            Some(s) => View::of_strings(t.shape(), s).ok_or(()),
            None => View::new(t.elem(), t.shape(), t.bytes()).ok_or(()),
        }
    }
}

/// The elements of an answer as an `ndarray` view, without a copy; `None` if they are of another type.
pub fn array_of<T: Scalar>(t: &Tensor) -> Option<ArrayView<'_, T, IxDyn>> {
    match t.as_slice::<T>()? {
        std::borrow::Cow::Borrowed(s) => ArrayView::from_shape(t.shape(), s).ok(),
        std::borrow::Cow::Owned(_) => None,
    }
}

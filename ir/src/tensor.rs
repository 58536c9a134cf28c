//! Constant tensors: element type, shape, and bytes that are shared, not copied.

use crate::elem::Elem;
use crate::ty::Type;
use half::{bf16, f16};
use num_complex::Complex;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes with shared ownership: a vector, part of a memory-mapped file, or what is computed when first read.
#[derive(Clone)]
pub struct Buffer {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
    deferred: bool,
    /// The owner once more, where it has them elsewhere until they are read.
    elsewhere: Option<Arc<dyn Any + Send + Sync>>,
}

impl Buffer {
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Buffer {
        let len = (*owner).as_ref().len();
        Buffer { owner, range: 0..len, deferred: false, elsewhere: None }
    }

    /// Part of `owner`; `None` if it does not have these bytes.
    pub fn part(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Buffer> {
        (*owner).as_ref().get(range.clone())?;
        Some(Buffer { owner, range, deferred: false, elsewhere: None })
    }

    pub fn bytes(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

/// Bytes that are computed when first read.
struct Deferred<F> {
    bytes: OnceLock<Vec<u8>>,
    compute: F,
    len: usize,
}

impl<F: Fn() -> Vec<u8>> AsRef<[u8]> for Deferred<F> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get_or_init(|| {
            let mut bytes = (self.compute)();
            bytes.resize(self.len, 0);
            bytes
        })
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(v: Vec<u8>) -> Buffer {
        Buffer::new(Arc::new(v))
    }
}

/// The elements of a tensor, row-major.
#[derive(Clone)]
pub enum Data {
    /// Little endian elements of fixed size.
    Bytes(Buffer),
    Strings(Arc<[Box<[u8]>]>),
}

/// A tensor with known elements. Cloning is cheap.
#[derive(Clone)]
pub struct Tensor {
    elem: Elem,
    shape: Vec<usize>,
    data: Data,
}

/// A Rust type that is the memory form of an element type.
///
/// # Safety
/// Every bit pattern is a valid value, and `size_of::<Self>() == Self::ELEM.size()`.
pub unsafe trait Scalar: Copy + Send + Sync + 'static {
    const ELEM: Elem;
}

macro_rules! scalar {
    ($($t:ty => $e:ident),*) => { $(
        // SAFETY: plain numbers of the stated size.
        unsafe impl Scalar for $t { const ELEM: Elem = Elem::$e; }
    )* };
}
scalar!(i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64, f16 => F16, bf16 => BF16,
    f32 => F32, f64 => F64, Complex<f32> => C64, Complex<f64> => C128);

/// Number of elements of a shape; `None` on overflow.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

fn byte_view<T: Scalar>(v: &[T]) -> &[u8] {
    // SAFETY: a `Scalar` has no padding and any byte may be read.
    unsafe { std::slice::from_raw_parts(v.as_ptr().cast(), std::mem::size_of_val(v)) }
}

impl Tensor {
    /// A tensor over `data`; `None` if its length does not fit the shape and element type.
    pub fn new(elem: Elem, shape: Vec<usize>, data: Data) -> Option<Tensor> {
        let n = element_count(&shape)?;
        let fits = match &data {
            Data::Bytes(b) => elem.is_plain() && n.checked_mul(elem.size()) == Some(b.bytes().len()),
            Data::Strings(s) => elem == Elem::Str && s.len() == n,
        };
        fits.then_some(Tensor { elem, shape, data })
    }

    /// A tensor of `elem` (which may be bool, quantised or a small float) over raw little endian bytes.
    pub fn from_bytes(elem: Elem, shape: Vec<usize>, bytes: Vec<u8>) -> Option<Tensor> {
        Tensor::new(elem, shape, Data::Bytes(bytes.into()))
    }

    /// A tensor of numbers whose bytes `compute` gives when they are first read: a large constant that is made from another one exists
    /// only while it is used. `None` if the size of such a tensor overflows.
    pub fn deferred(elem: Elem, shape: Vec<usize>, compute: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Option<Tensor> {
        let len = element_count(&shape)?.checked_mul(elem.size())?;
        let owner = Arc::new(Deferred { bytes: OnceLock::new(), compute, len });
        Some(Tensor { elem, shape, data: Data::Bytes(Buffer { owner, range: 0..len, deferred: true, elsewhere: None }) })
    }

    /// A tensor of numbers whose bytes `owner` has elsewhere, `len` of them, until they are read; `None` if these are not as many as the
    /// shape says.
    pub fn elsewhere<O>(elem: Elem, shape: Vec<usize>, len: usize, owner: Arc<O>) -> Option<Tensor>
    where
        O: AsRef<[u8]> + Send + Sync + 'static,
    {
        let fits = elem.is_plain() && element_count(&shape)?.checked_mul(elem.size()) == Some(len);
        let elsewhere = Some(owner.clone() as Arc<dyn Any + Send + Sync>);
        fits.then(|| Tensor { elem, shape, data: Data::Bytes(Buffer { owner, range: 0..len, deferred: true, elsewhere }) })
    }

    /// Whether the elements are elsewhere; see [`Tensor::elsewhere`].
    pub fn is_elsewhere(&self) -> bool {
        matches!(&self.data, Data::Bytes(b) if b.elsewhere.is_some())
    }

    /// What has the elements, if they are elsewhere and it is an `O`.
    pub fn owner<O: 'static>(&self) -> Option<&O> {
        match &self.data {
            Data::Bytes(b) => b.elsewhere.as_deref()?.downcast_ref(),
            Data::Strings(_) => None,
        }
    }

    /// A tensor of numbers; `None` if the count does not fit the shape.
    pub fn from_slice<T: Scalar>(shape: &[usize], v: &[T]) -> Option<Tensor> {
        Tensor::from_bytes(T::ELEM, shape.to_vec(), byte_view(v).to_vec())
    }

    pub fn scalar<T: Scalar>(v: T) -> Tensor {
        Tensor { elem: T::ELEM, shape: Vec::new(), data: Data::Bytes(byte_view(&[v]).to_vec().into()) }
    }

    pub fn from_bools(shape: &[usize], v: &[bool]) -> Option<Tensor> {
        Tensor::from_bytes(Elem::Bool, shape.to_vec(), v.iter().map(|&b| b as u8).collect())
    }

    pub fn from_strings(shape: &[usize], v: Vec<Box<[u8]>>) -> Option<Tensor> {
        Tensor::new(Elem::Str, shape.to_vec(), Data::Strings(v.into()))
    }

    /// All elements zero (false, the empty string).
    pub fn zeros(elem: Elem, shape: &[usize]) -> Option<Tensor> {
        let n = element_count(shape)?;
        match elem {
            Elem::Str => Tensor::from_strings(shape, vec![Box::default(); n]),
            _ => Tensor::from_bytes(elem, shape.to_vec(), vec![0; n.checked_mul(elem.size())?]),
        }
    }

    pub fn elem(&self) -> Elem {
        self.elem
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn ty(&self) -> Type {
        Type::of(self.elem, &self.shape)
    }

    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The raw bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(b) => b.bytes(),
            Data::Strings(_) => &[],
        }
    }

    /// Whether the elements are computed only when they are read; see [`Tensor::deferred`].
    pub fn is_deferred(&self) -> bool {
        matches!(&self.data, Data::Bytes(b) if b.deferred)
    }

    /// Whether both have the same bytes in the same memory.
    pub fn shares(&self, other: &Tensor) -> bool {
        match (&self.data, &other.data) {
            (Data::Bytes(a), Data::Bytes(b)) => Arc::ptr_eq(&a.owner, &b.owner) && a.range == b.range,
            (Data::Strings(a), Data::Strings(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Length of [`Tensor::bytes`], without making them.
    pub fn bytes_len(&self) -> usize {
        match &self.data {
            Data::Bytes(b) => b.range.len(),
            Data::Strings(_) => 0,
        }
    }

    pub fn strings(&self) -> Option<&[Box<[u8]>]> {
        match &self.data {
            Data::Strings(s) => Some(s),
            Data::Bytes(_) => None,
        }
    }

    /// The elements as numbers, borrowed where the bytes are aligned for `T`; `None` if the element type is another.
    pub fn as_slice<T: Scalar>(&self) -> Option<Cow<'_, [T]>> {
        if self.elem != T::ELEM {
            return None;
        }
        let bytes = self.bytes();
        let n = bytes.len() / size_of::<T>();
        if bytes.as_ptr().cast::<T>().is_aligned() {
            // SAFETY: aligned, `n` elements long, and any bit pattern is a `T`.
            return Some(Cow::Borrowed(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), n) }));
        }
        let mut v: Vec<T> = Vec::with_capacity(n);
        // SAFETY: `n * size_of::<T>()` bytes are copied into the capacity just made.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), v.as_mut_ptr().cast(), n * size_of::<T>());
            v.set_len(n);
        }
        Some(Cow::Owned(v))
    }

    /// The bools; `None` if the element type is another.
    pub fn as_bools(&self) -> Option<Vec<bool>> {
        (self.elem == Elem::Bool).then(|| self.bytes().iter().map(|&b| b != 0).collect())
    }

    /// The elements of any integer or bool type as `i64` (u64 wraps); `None` for other types.
    pub fn to_ints(&self) -> Option<Vec<i64>> {
        macro_rules! ints {
            ($($e:ident $t:ty),*) => {
                match self.elem {
                    Elem::Bool => Some(self.bytes().iter().map(|&b| (b != 0) as i64).collect()),
                    Elem::I4 => Some(self.bytes().iter().map(|&b| b as i8 as i64).collect()),
                    Elem::U4 => Some(self.bytes().iter().map(|&b| b as i64).collect()),
                    $(Elem::$e => Some(self.as_slice::<$t>()?.iter().map(|&v| v as i64).collect()),)*
                    _ => None,
                }
            };
        }
        ints!(I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
    }

    /// The elements of any real type as `f64`; `None` for other types.
    pub fn to_reals(&self) -> Option<Vec<f64>> {
        match self.elem {
            Elem::F32 => Some(self.as_slice::<f32>()?.iter().map(|&v| v as f64).collect()),
            Elem::F64 => Some(self.as_slice::<f64>()?.to_vec()),
            Elem::F16 => Some(self.as_slice::<f16>()?.iter().map(|v| v.to_f64()).collect()),
            Elem::BF16 => Some(self.as_slice::<bf16>()?.iter().map(|v| v.to_f64()).collect()),
            _ => Some(self.to_ints()?.into_iter().map(|v| v as f64).collect()),
        }
    }

    /// The same elements under another shape; `None` if the count differs.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Tensor> {
        (element_count(shape)? == self.len()).then(|| Tensor { elem: self.elem, shape: shape.to_vec(), data: self.data.clone() })
    }

    /// The one element repeated over the whole tensor, as a tensor of rank 0, if all elements have the same bits.
    pub fn splat_value(&self) -> Option<Tensor> {
        let size = self.elem.size();
        let bytes = self.bytes();
        let first = bytes.get(..size).filter(|_| size > 0)?;
        bytes.chunks_exact(size).all(|c| c == first).then(|| Tensor {
            elem: self.elem,
            shape: Vec::new(),
            data: Data::Bytes(first.to_vec().into()),
        })
    }
}

/// Equal element type, shape and bits (a NaN equals itself).
impl PartialEq for Tensor {
    fn eq(&self, o: &Tensor) -> bool {
        self.elem == o.elem && self.shape == o.shape && self.bytes() == o.bytes() && self.strings() == o.strings()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.ty())
    }
}

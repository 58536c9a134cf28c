//! What a host function is given: operands, attributes, and the session that it runs in.

use crate::attrs::{Attrs, Function};
use crate::error::{HostError, cancelled, failed_precondition, internal, invalid};
use crate::files::file_error;
use crate::grants::{Access, Grant, granted};
use crate::resources::{ResourceKey, Resources};
use crate::value::{Resource, Value, VariantTensor};
use graphc_ir::{Elem, Scalar, Tensor};
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

type Result<T> = std::result::Result<T, HostError>;

/// The variables of the session.
pub trait VariableStore: Send + Sync {
    /// The value; None before the first assignment.
    fn read(&self, name: &str) -> Option<Value>;
    /// Replaces the value.
    ///
    /// # Errors
    /// If the variable is unknown, or of another type or shape.
    fn assign(&self, name: &str, value: Value) -> Result<()>;
    /// Forgets the value; false if there is none.
    fn forget(&self, name: &str) -> bool;
}

/// Calls functions of the graph's library.
pub trait Caller: Send + Sync {
    /// The results of a function.
    ///
    /// # Errors
    /// If there is no such function, or it fails.
    fn call(&self, function: &Function, inputs: Vec<Value>, step: &Step<'_>) -> Result<Vec<Value>>;
}

/// What the host functions of one session share.
#[derive(Default)]
pub struct Host {
    pub resources: Resources,
    /// Objects that belong to a node: the state of its random generator.
    pub nodes: Resources,
    /// Folders whose files may be touched. Empty grants nothing.
    pub grants: Vec<Grant>,
    /// Files that a compiled model brings along, by path; they may be read whole.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// One run.
#[derive(Default)]
pub struct Step<'a> {
    /// Objects that end with the run: tensor arrays, stacks.
    pub resources: Resources,
    /// Set to non-zero by another thread to stop the run.
    pub cancel: Option<&'a AtomicU32>,
}

impl Step<'_> {
    /// # Errors
    /// `Cancelled` once the run is cancelled. What blocks asks again and again.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_none_or(|c| c.load(Ordering::Relaxed) == 0) { Ok(()) } else { Err(cancelled("the run was cancelled")) }
    }
}

/// One execution of one node.
pub struct Call<'a> {
    pub op: &'a str,
    /// Unique name of the node.
    pub node: &'a str,
    pub attrs: &'a Attrs,
    pub inputs: &'a [Value],
    pub host: &'a Host,
    pub step: &'a Step<'a>,
    pub variables: &'a dyn VariableStore,
    pub caller: &'a dyn Caller,
}

impl Call<'_> {
    pub fn input(&self, k: usize) -> Result<&Value> {
        self.inputs.get(k).ok_or_else(|| internal(format!("operand {k} is missing")))
    }

    pub fn tensor(&self, k: usize) -> Result<&Tensor> {
        self.input(k)?.as_tensor().ok_or_else(|| invalid(format!("operand {k} is a handle where a tensor is expected")))
    }

    /// All operands from `k` on, as tensors.
    pub fn tensors(&self, k: usize) -> Result<Vec<&Tensor>> {
        (k..self.inputs.len()).map(|k| self.tensor(k)).collect()
    }

    /// The elements of operand `k`, which must be of type `T`.
    pub fn slice<T: Scalar>(&self, k: usize) -> Result<Cow<'_, [T]>> {
        let t = self.tensor(k)?;
        t.as_slice::<T>().ok_or_else(|| invalid(format!("operand {k} has elements of type {}, not {}", t.elem(), T::ELEM)))
    }

    /// The strings of operand `k`.
    pub fn strings(&self, k: usize) -> Result<&[Box<[u8]>]> {
        let t = self.tensor(k)?;
        t.strings().ok_or_else(|| invalid(format!("operand {k} has elements of type {}, not string", t.elem())))
    }

    /// The elements of operand `k` of any integer type.
    pub fn ints(&self, k: usize) -> Result<Vec<i64>> {
        let t = self.tensor(k)?;
        t.to_ints().ok_or_else(|| invalid(format!("operand {k} has elements of type {}, not integers", t.elem())))
    }

    /// The only element of operand `k`, an integer.
    pub fn int(&self, k: usize) -> Result<i64> {
        one(&self.ints(k)?, k)
    }

    /// The only element of operand `k`, a real number.
    pub fn real(&self, k: usize) -> Result<f64> {
        let t = self.tensor(k)?;
        one(&t.to_reals().ok_or_else(|| invalid(format!("operand {k} has elements of type {}, not real numbers", t.elem())))?, k)
    }

    /// The only element of operand `k`, a string.
    pub fn string(&self, k: usize) -> Result<&[u8]> {
        match self.strings(k)? {
            [s] => Ok(s),
            s => Err(invalid(format!("operand {k} must be one string, and has {}", s.len()))),
        }
    }

    /// The handle in operand `k`; the first one, where there are more.
    pub fn resource(&self, k: usize) -> Result<&Resource> {
        let v = self.input(k)?;
        match v.as_handles().and_then(<[Resource]>::first) {
            Some(r) => Ok(r),
            None => Err(invalid(format!("operand {k} is of type {}, not a resource", v.elem()))),
        }
    }

    /// The object that operand `k` is a handle to.
    pub fn object<T: Any + Send + Sync>(&self, k: usize) -> Result<Arc<T>> {
        let r = self.resource(k)?;
        r.downcast().ok_or_else(|| invalid(format!("the resource {:?} is of another type", r.name())))
    }

    /// The variable that operand `k` is a handle to, and its value, which is a tensor.
    pub fn variable(&self, k: usize) -> Result<(Arc<str>, Tensor)> {
        match self.variable_value(k)? {
            (name, Value::Tensor(t)) => Ok((name, t)),
            (name, v) => Err(invalid(format!("variable {name:?} has a value of type {}", v.elem()))),
        }
    }

    /// The variable that operand `k` is a handle to, and its value.
    pub fn variable_value(&self, k: usize) -> Result<(Arc<str>, Value)> {
        match self.resource(k)? {
            Resource::Variable(name) => {
                let value = self.variables.read(name);
                let none = || failed_precondition(format!("variable {name:?} is read before it has a value"));
                Ok((name.clone(), value.ok_or_else(none)?))
            }
            r => Err(invalid(format!("the resource {:?} is no variable", r.name()))),
        }
    }

    pub fn variant(&self, k: usize) -> Result<&VariantTensor> {
        match self.input(k)? {
            Value::Variant(v) => Ok(v),
            v => Err(invalid(format!("operand {k} is of type {}, not variant", v.elem()))),
        }
    }

    /// The scalar variant in operand `k`.
    pub fn variant_of<T: Any + Send + Sync>(&self, k: usize) -> Result<Arc<T>> {
        self.variant(k)?.downcast().ok_or_else(|| invalid(format!("operand {k} is a variant that holds something else")))
    }

    /// The object that this node makes or shares, by its attributes `container` and `shared_name`, else by its own name.
    pub fn shared<T: Any + Send + Sync>(&self, kind: &'static str, make: impl FnOnce() -> Result<T>) -> Result<Value> {
        let text = |name: &str| self.attrs.text(name).unwrap_or_default();
        let shared = text("shared_name");
        let name = if shared.is_empty() { self.node.to_owned() } else { shared };
        let key = ResourceKey { container: text("container"), kind, name };
        let object = self.host.resources.get_or_make(&key, make)?;
        Ok(Value::Resource(Resource::Object { name: key.name.into(), object }))
    }

    /// State of this node that lasts from run to run.
    pub fn own_state<T: Any + Send + Sync>(&self, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let key = ResourceKey { container: String::new(), kind: "node", name: self.node.to_owned() };
        self.host.nodes.get_or_make(&key, make)
    }

    /// A file path that the session may read.
    ///
    /// # Errors
    /// `PermissionDenied` if no granted folder contains it, links and detours followed.
    pub fn readable(&self, path: &[u8]) -> Result<PathBuf> {
        granted(&self.host.grants, path, Access::Read)
    }

    /// The content of a file that the session may read.
    ///
    /// # Errors
    /// As [`Call::readable`], and if the file cannot be read.
    pub fn contents(&self, path: &[u8]) -> Result<Cow<'_, [u8]>> {
        if let Some(bytes) = std::str::from_utf8(path).ok().and_then(|p| self.host.files.get(p)) {
            return Ok(Cow::Borrowed(bytes));
        }
        let path = self.readable(path)?;
        std::fs::read(&path).map(Cow::Owned).map_err(|e| file_error(&path, &e))
    }

    /// A file path that the session may write, move and delete.
    ///
    /// # Errors
    /// `PermissionDenied` as for reading, also in folders that are granted for reading alone.
    pub fn writable(&self, path: &[u8]) -> Result<PathBuf> {
        granted(&self.host.grants, path, Access::Write)
    }
}

fn one<T: Copy>(v: &[T], k: usize) -> Result<T> {
    match v {
        [x] => Ok(*x),
        _ => Err(invalid(format!("operand {k} must be one number, and has {}", v.len()))),
    }
}

/// A tensor of numbers of that shape.
///
/// # Errors
/// If the count does not fit; a mistake of the caller.
pub fn tensor_of<T: Scalar>(shape: &[usize], v: &[T]) -> Result<Tensor> {
    Tensor::from_slice(shape, v).ok_or_else(|| internal(format!("{} elements do not fit the shape {shape:?}", v.len())))
}

/// A tensor of strings of that shape.
///
/// # Errors
/// As [`tensor_of`].
pub fn strings_of(shape: &[usize], v: Vec<Box<[u8]>>) -> Result<Tensor> {
    let n = v.len();
    Tensor::from_strings(shape, v).ok_or_else(|| internal(format!("{n} strings do not fit the shape {shape:?}")))
}

/// A tensor of integers of the type `elem`.
///
/// # Errors
/// If the type is not one of integers, or the count does not fit.
pub fn ints_of(elem: Elem, shape: &[usize], v: &[i64]) -> Result<Tensor> {
    macro_rules! convert {
        ($($e:ident $t:ty),*) => {
            match elem {
                $(Elem::$e => tensor_of(shape, &v.iter().map(|&x| x as $t).collect::<Vec<_>>()),)*
                _ => Err(invalid(format!("elements of type {elem} are no integers"))),
            }
        };
    }
    convert!(I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
}

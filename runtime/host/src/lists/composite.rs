//! Composite tensors (values of extension types) as one variant.

use crate::call::Call;
use crate::error::invalid;
use crate::value::Value;
use crate::xla::wire::varint;
use crate::{Result, Table};

pub(crate) const TABLE: Table =
    &[("CompositeTensorVariantFromComponents", from_components), ("CompositeTensorVariantToComponents", to_components)];

/// The tensors of a composite, and which class of type describes it.
struct Composite {
    class: u64,
    components: Vec<Value>,
}

/// Number of the class of type that a `CompositeTensorVariantMetadata` message names.
fn class(metadata: &[u8]) -> Result<u64> {
    let broken = || invalid("the metadata of a composite tensor is no valid message");
    if metadata.is_empty() {
        return Ok(0);
    }
    let (tag, rest) = varint(metadata).ok_or_else(broken)?;
    let (len, rest) = varint(rest).filter(|_| tag == 0x0a).ok_or_else(broken)?;
    let spec = usize::try_from(len).ok().and_then(|n| rest.get(..n)).ok_or_else(broken)?;
    match varint(spec) {
        Some((0x08, rest)) => varint(rest).map(|(class, _)| class).ok_or_else(broken),
        _ => Ok(0),
    }
}

fn from_components(call: &Call) -> Result {
    let class = class(&call.attrs.bytes("metadata")?)?;
    Ok(vec![Value::variant(Composite { class, components: call.inputs.to_vec() })])
}

fn to_components(call: &Call) -> Result {
    let v = call.variant(0)?;
    if !v.shape.is_empty() {
        return Err(invalid(format!("an encoded composite tensor must be a scalar, and has shape {:?}", v.shape)));
    }
    let composite = v.downcast::<Composite>().ok_or_else(|| invalid("the variant holds no composite tensor"))?;
    let expected = class(&call.attrs.bytes("metadata")?)?;
    if composite.class != expected {
        return Err(invalid(format!("expected a composite tensor of class {expected}, got one of class {}", composite.class)));
    }
    let types = call.attrs.elems("Tcomponents")?;
    if types.len() != composite.components.len() {
        let n = composite.components.len();
        return Err(invalid(format!("encoded value has {n} tensor components; expected {}", types.len())));
    }
    for (i, (v, want)) in composite.components.iter().zip(&types).enumerate() {
        if v.elem() != *want {
            return Err(invalid(format!("tensor component {i} had dtype {}; expected dtype {want}", v.elem())));
        }
    }
    Ok(composite.components.clone())
}

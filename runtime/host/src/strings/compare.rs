//! Equality of strings.

use crate::Result;
use crate::broadcast::Broadcast;
use crate::call::Call;
use crate::error::internal;
use graphc_ir::Tensor;

/// `Equal` of strings.
pub fn equal(call: &Call) -> Result {
    compare(call, true)
}

/// `NotEqual` of strings.
pub fn not_equal(call: &Call) -> Result {
    compare(call, false)
}

fn compare(call: &Call, wanted: bool) -> Result {
    let (a, b) = (call.strings(0)?, call.strings(1)?);
    let (sa, sb) = (call.tensor(0)?.shape(), call.tensor(1)?.shape());
    let strict = call.attrs.bool("incompatible_shape_error").unwrap_or(true);
    let pairs = match Broadcast::new([sa, sb]) {
        // Python's `==` of tensors whose shapes have nothing in common.
        Err(_) if !strict => return Ok(vec![Tensor::from_bools(&[], &[!wanted]).ok_or_else(|| internal("a scalar"))?.into()]),
        p => p?,
    };
    // Empty strings have no address that may be read: comparing nothing there costs the processor a hundred times what a length does.
    let same = |a: &[u8], b: &[u8]| a.len() == b.len() && (a.is_empty() || a == b);
    let out: Vec<bool> = match (a, b) {
        // Most texts are compared with the empty one.
        (many, [one]) | ([one], many) => many.iter().map(|s| same(s, one) == wanted).collect(),
        _ => pairs.places().map(|[i, j]| same(&a[i], &b[j]) == wanted).collect(),
    };
    Ok(vec![Tensor::from_bools(pairs.shape(), &out).ok_or_else(|| internal("bools of a broadcast shape"))?.into()])
}

//! Ragged tensors: values in rows of different lengths, given by where the rows start.

mod convert;
mod count;
mod rows;
pub(crate) mod variants;

use crate::Table;
use crate::call::Call;
use crate::elements::need;
use crate::error::HostError;

pub use rows::{bools, filled_values};

pub(crate) const TABLE: Table = &[
    ("RaggedRange", rows::range),
    ("RaggedGather", rows::gather),
    ("RaggedFillEmptyRows", rows::fill_empty_rows),
    ("RaggedFillEmptyRowsGrad", crate::sparse::fill_empty_rows_grad),
    ("RaggedTensorToTensor", convert::to_tensor),
    ("RaggedTensorToSparse", convert::to_sparse),
    ("RaggedTensorToVariant", variants::to_variant),
    ("RaggedTensorFromVariant", variants::from_variant),
    ("RaggedTensorToVariantGradient", variants::to_variant_gradient),
    ("RaggedCountSparseOutput", count::ragged),
    ("SparseCountSparseOutput", count::sparse),
    ("DenseCountSparseOutput", count::dense),
];

/// The row splits in operands `from..to`: vectors, of which each is the next one's rows, down to `values` values.
///
/// # Errors
/// If they do not start with 0, decrease, or end elsewhere than at the number of rows of the next one.
fn nested_splits(c: &Call, from: usize, to: usize, values: usize) -> Result<Vec<Vec<i64>>, HostError> {
    let mut all = Vec::with_capacity(to - from);
    for k in from..to {
        let t = c.tensor(k)?;
        need(t.rank() == 1, || format!("Invalid ragged splits: ragged splits must be rank 1 but is rank {}", t.rank()))?;
        all.push(c.ints(k)?);
    }
    for (k, s) in all.iter().enumerate() {
        let below = all.get(k + 1).map_or(values, |s| s.len().saturating_sub(1)) as i64;
        need(!s.is_empty(), || "ragged splits may not be empty.".into())?;
        need(s[0] == 0, || "First value of ragged splits must be 0.".into())?;
        need(s.is_sorted(), || "Ragged splits should be non decreasing".into())?;
        need(s.last() == Some(&below), || {
            format!("Final value of ragged splits must match the length {below} of the ragged values")
        })?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use crate::testing::{run, t, v};
    use crate::{Attr, TfStatus};
    use graphc_ir::Elem;

    #[test]
    fn ranges_count_by_adding() {
        let attrs = [("Tsplits", Attr::Elem(Elem::I64))];
        let one = |x: f32| t(&[], &[x]);
        let out = run("RaggedRange", &attrs, &[one(0.0), one(1000.0), one(0.1)]).unwrap();
        let values = v::<f32>(&out[1]);
        assert!((values[9998] - 999.8).abs() > 1e-3);
        let error = run("RaggedRange", &attrs, &[one(0.0), one(f32::INFINITY), one(0.1)]).err().unwrap();
        assert_eq!(error.status, TfStatus::InvalidArgument);
    }

    #[test]
    fn rows_pass_through_variants() {
        let splits = Attr::Elem(Elem::I64);
        let attrs = [("batched_input", Attr::Bool(true)), ("Tsplits", splits.clone()), ("Tvalues", Attr::Elem(Elem::I32))];
        let rows = run("RaggedTensorToVariant", &attrs, &[t(&[4], &[0i64, 2, 2, 3]), t(&[3], &[1i32, 2, 3])]).unwrap();
        assert_eq!(rows[0].shape(), [3]);
        let back = [
            ("input_ragged_rank", Attr::Int(-1)),
            ("output_ragged_rank", Attr::Int(1)),
            ("Tsplits", splits),
            ("Tvalues", Attr::Elem(Elem::I32)),
        ];
        let out = run("RaggedTensorFromVariant", &back, &rows).unwrap();
        assert_eq!(v::<i64>(&out[0]), [0, 2, 2, 3]);
        assert_eq!(v::<i32>(&out[1]), [1, 2, 3]);
    }

    #[test]
    fn row_ids_that_return_start_their_row_again() {
        let types = [b"FIRST_DIM_SIZE".to_vec(), b"VALUE_ROWIDS".to_vec()].map(Attr::Str);
        let attrs = [("row_partition_types", Attr::List(types.to_vec()))];
        let operands = [t(&[2], &[-1i64, -1]), t(&[3], &[1i32, 2, 3]), t(&[], &[0i32]), t(&[], &[4i64]), t(&[3], &[0i64, 2, 1])];
        let out = run("RaggedTensorToTensor", &attrs, &operands).unwrap();
        assert_eq!(v::<i32>(&out[0]), [1, 3, 2, 0]);
    }
}

//! Sparse tensors: a matrix of indices, a vector of values and the dense shape.

mod arithmetic;
mod cross;
mod dense;
mod distance;
mod fill;
mod layout;
mod reduce;
mod serialized;
mod tensors_map;

use crate::call::{Call, tensor_of};
use crate::elements::{longs, need, pick};
use crate::error::{HostError, invalid};
use crate::{Table, Value};
use graphc_ir::Tensor;
use std::borrow::Cow;

pub use fill::{FilledRows, fill_empty_rows_grad, fill_rows};

pub(crate) const TABLE: Table = &[
    ("SparseReorder", layout::reorder),
    ("SparseReshape", layout::reshape),
    ("SparseSlice", layout::slice),
    ("SparseSliceGrad", layout::slice_grad),
    ("SparseSplit", layout::split),
    ("SparseConcat", layout::concat),
    ("SparseFillEmptyRows", fill::fill_empty_rows),
    ("SparseFillEmptyRowsGrad", fill::fill_empty_rows_grad),
    ("SparseAdd", arithmetic::add),
    ("SparseAddGrad", arithmetic::add_grad),
    ("SparseSparseMaximum", arithmetic::maximum),
    ("SparseSparseMinimum", arithmetic::minimum),
    ("SparseDenseCwiseAdd", arithmetic::cwise),
    ("SparseDenseCwiseMul", arithmetic::cwise),
    ("SparseDenseCwiseDiv", arithmetic::cwise),
    ("SparseTensorDenseAdd", dense::dense_add),
    ("SparseTensorDenseMatMul", dense::dense_mat_mul),
    ("SparseToDense", dense::to_dense),
    ("SparseMatMul", dense::mat_mul),
    ("SparseSoftmax", reduce::softmax),
    ("SparseReduceSum", reduce::sum),
    ("SparseReduceSumSparse", reduce::sum_sparse),
    ("SparseReduceMax", reduce::max),
    ("SparseReduceMaxSparse", reduce::max_sparse),
    ("SerializeSparse", serialized::serialize),
    ("SerializeManySparse", serialized::serialize_many),
    ("DeserializeSparse", serialized::deserialize),
    ("DeserializeManySparse", serialized::deserialize_many),
    ("AddSparseToTensorsMap", tensors_map::add),
    ("AddManySparseToTensorsMap", tensors_map::add_many),
    ("TakeManySparseFromTensorsMap", tensors_map::take_many),
    ("SparseCross", cross::sparse_cross),
    ("SparseCrossV2", cross::sparse_cross_v2),
    ("SparseCrossHashed", cross::sparse_cross_hashed),
    ("RaggedCross", cross::ragged_cross),
    ("EditDistance", distance::edit_distance),
];

type Fallible<T> = Result<T, HostError>;

/// A sparse tensor.
#[derive(Clone)]
pub struct Sparse<'a> {
    /// Rows of `rank` indices.
    pub indices: Vec<i64>,
    pub values: Cow<'a, Tensor>,
    pub shape: Vec<i64>,
}

impl<'a> Sparse<'a> {
    /// The sparse tensor in the operands `k`, `k + 1` and `k + 2`.
    ///
    /// # Errors
    /// If the operands are of the wrong rank or do not fit each other.
    pub fn operand(c: &'a Call, k: usize) -> Fallible<Sparse<'a>> {
        Sparse::operands(c, [k, k + 1, k + 2])
    }

    /// The sparse tensor whose indices, values and shape are in those operands.
    pub fn operands(c: &'a Call, [i, v, s]: [usize; 3]) -> Fallible<Sparse<'a>> {
        let (indices, values, shape) = (c.tensor(i)?, c.tensor(v)?, c.tensor(s)?);
        Sparse::of(indices, Cow::Borrowed(values), shape)
    }

    /// As [`Sparse::operand`], of tensors.
    pub fn of(indices: &Tensor, values: Cow<'a, Tensor>, shape: &Tensor) -> Fallible<Sparse<'a>> {
        need(indices.rank() == 2, || format!("Input indices should be a matrix but received shape {:?}", indices.shape()))?;
        need(values.rank() == 1, || format!("Input values should be a vector but received shape {:?}", values.shape()))?;
        need(shape.rank() == 1, || format!("Input shape should be a vector but received shape {:?}", shape.shape()))?;
        let (rows, columns) = (indices.shape()[0], indices.shape()[1]);
        need(rows == values.len(), || format!("Number of indices {rows} does not match the number of values {}", values.len()))?;
        need(columns == shape.len(), || {
            format!("Indices of {columns} columns do not match a shape of {} dimensions", shape.len())
        })?;
        let whole = |t: &Tensor| t.to_ints().ok_or_else(|| invalid("indices and shapes must be integers"));
        Ok(Sparse { indices: whole(indices)?, shape: whole(shape)?, values })
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The indices of value `k`.
    pub fn at(&self, k: usize) -> &[i64] {
        &self.indices[k * self.rank()..(k + 1) * self.rank()]
    }

    /// The indices of all values in turn.
    pub fn rows(&self) -> impl Iterator<Item = &[i64]> {
        (0..self.len()).map(|k| self.at(k))
    }

    /// # Errors
    /// If a dimension is negative or the dense tensor would have too many elements to number.
    pub fn check_shape(&self) -> Fallible<()> {
        let size = self.shape.iter().try_fold(1i64, |n, &d| n.checked_mul(d).filter(|_| d >= 0));
        need(size.is_some(), || format!("the dense shape {:?} is not valid", self.shape))
    }

    /// # Errors
    /// If an index is outside of the shape.
    pub fn check_bounds(&self) -> Fallible<()> {
        for (k, row) in self.rows().enumerate() {
            let inside = row.iter().zip(&self.shape).all(|(&i, &d)| (0..d).contains(&i));
            need(inside, || format!("indices[{k}] = {row:?} is out of bounds: need 0 <= index < {:?}", self.shape))?;
        }
        Ok(())
    }

    /// # Errors
    /// If an index is outside of the shape, out of order or repeated.
    pub fn check_order(&self) -> Fallible<()> {
        check_order(&self.indices, &self.shape)
    }

    /// The values at those places with their indices, as one sparse tensor.
    pub fn picked(&self, places: &[usize]) -> Fallible<Sparse<'static>> {
        let values = pick(&self.values, 1, places.iter().copied(), &[places.len()])?;
        let indices = places.iter().flat_map(|&k| self.at(k)).copied().collect();
        Ok(Sparse { indices, values: Cow::Owned(values), shape: self.shape.clone() })
    }

    /// Indices, values and shape.
    pub fn outputs(self) -> Fallible<[Value; 3]> {
        let indices = tensor_of(&[self.len(), self.rank()], &self.indices)?;
        let shape = longs(&self.shape)?;
        Ok([indices.into(), self.values.into_owned().into(), shape.into()])
    }
}

/// # Errors
/// If a row of indices is outside of the shape, out of order or repeated.
pub fn check_order(indices: &[i64], shape: &[i64]) -> Fallible<()> {
    if shape.is_empty() {
        return Ok(());
    }
    let mut last: Option<&[i64]> = None;
    for (k, row) in indices.chunks_exact(shape.len()).enumerate() {
        let inside = row.iter().zip(shape).all(|(&i, &d)| (0..d).contains(&i));
        need(inside, || format!("indices[{k}] = {row:?} is out of bounds: need 0 <= index < {shape:?}"))?;
        if let Some(last) = last {
            need(last <= row, || format!("indices[{k}] = {row:?} is out of order. Many sparse ops require sorted indices."))?;
            need(last != row, || format!("indices[{k}] = {row:?} is repeated"))?;
        }
        last = Some(row);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{run, t, v};

    #[test]
    fn only_sums_of_two_values_must_reach_the_threshold() {
        let shape = || t(&[1], &[3i64]);
        let a = [t(&[2, 1], &[0i64, 1]), t(&[2], &[1i32, 2]), shape()];
        let b = [t(&[1, 1], &[1i64]), t(&[1], &[1i32]), shape()];
        let out = run("SparseAdd", &[], &[&a[..], &b[..], &[t(&[], &[5i32])]].concat()).unwrap();
        assert_eq!(v::<i64>(&out[0]), [0]);
        assert_eq!(v::<i32>(&out[1]), [1]);
    }

    #[test]
    fn empty_rows_are_filled_in_order() {
        let operands = [t(&[3, 2], &[2i64, 0, 0, 1, 2, 3]), t(&[3], &[1i32, 2, 3]), t(&[2], &[4i64, 5]), t(&[], &[9i32])];
        let out = run("SparseFillEmptyRows", &[], &operands).unwrap();
        assert_eq!(v::<i64>(&out[0]), [0, 1, 1, 0, 2, 0, 2, 3, 3, 0]);
        assert_eq!(v::<i32>(&out[1]), [2, 9, 1, 3, 9]);
        assert_eq!(v::<i64>(&out[3]), [2, 0, 3]);
    }
}

//! Ops that find, count and rearrange positions: where, unique elements, ranges, partitions, bins, the largest.

mod bins;
mod order;
mod partition;
mod ranges;
mod unique;

use crate::Table;

pub(crate) const TABLE: Table = &[
    ("Where", ranges::where_),
    ("Range", ranges::range),
    ("BroadcastArgs", ranges::broadcast_args),
    ("BroadcastGradientArgs", ranges::broadcast_gradient_args),
    ("InvertPermutation", ranges::invert_permutation),
    ("UnravelIndex", ranges::unravel_index),
    ("LinSpace", ranges::lin_space),
    ("ConcatOffset", ranges::concat_offset),
    ("Unique", unique::unique),
    ("UniqueV2", unique::unique_v2),
    ("UniqueWithCounts", unique::unique),
    ("UniqueWithCountsV2", unique::unique_v2),
    ("ListDiff", unique::list_diff),
    ("DynamicPartition", partition::dynamic_partition),
    ("DynamicStitch", partition::dynamic_stitch),
    ("ParallelDynamicStitch", partition::dynamic_stitch),
    ("Bincount", bins::bincount),
    ("DenseBincount", bins::dense_bincount),
    ("SparseBincount", bins::sparse_bincount),
    ("RaggedBincount", bins::ragged_bincount),
    ("Bucketize", bins::bucketize),
    ("LowerBound", bins::lower_bound),
    ("UpperBound", bins::upper_bound),
    ("TopK", order::top_k),
    ("TopKV2", order::top_k_v2),
    ("ApproxTopK", order::approx_top_k),
    ("NthElement", order::nth_element),
    ("InTopK", order::in_top_k),
    ("InTopKV2", order::in_top_k_v2),
];

#[cfg(test)]
mod tests {
    use crate::Attr;
    use crate::testing::{run, t, v};
    use graphc_ir::Elem;

    #[test]
    fn nan_is_not_zero_and_equals_nothing() {
        let x = t(&[4], &[f32::NAN, -0.0, f32::NAN, 0.0]);
        assert_eq!(v::<i64>(&run("Where", &[], std::slice::from_ref(&x)).unwrap()[0]), [0, 2]);
        let out = run("Unique", &[("out_idx", Attr::Elem(Elem::I32))], &[x]).unwrap();
        assert_eq!(v::<i32>(&out[1]), [0, 1, 2, 1]);
    }

    #[test]
    fn ranges_count_by_multiplying() {
        let one = |x: f32| t(&[], &[x]);
        let out = run("Range", &[], &[one(0.0), one(1000.0), one(0.1)]).unwrap();
        assert_eq!(v::<f32>(&out[0]).last(), Some(&999.9));
        assert!(run("Range", &[], &[one(5.0), one(3.0), one(1.0)]).is_err());
    }

    #[test]
    fn equal_shapes_reduce_nothing() {
        let out = run("BroadcastGradientArgs", &[], &[t(&[2], &[1i32, 3]), t(&[2], &[1i32, 3])]).unwrap();
        assert!(v::<i32>(&out[0]).is_empty());
        let out = run("BroadcastGradientArgs", &[], &[t(&[3], &[2i32, 1, 3]), t(&[2], &[1i32, 1])]).unwrap();
        assert_eq!(v::<i32>(&out[0]), [1]);
        assert_eq!(v::<i32>(&out[1]), [0, 1, 2]);
    }
}

//! Sums of products in the order in which Eigen's kernel of matrix products adds them on AVX without fused operations, as TensorFlow's
//! builds have it: an inverse that loses half of its digits is then wrong by the same amounts.

use super::field::{Field, Mat, axpy};
use std::ops::Range;

/// Real numbers in a register.
const fn lanes<T>() -> usize {
    32 / size_of::<T>()
}

/// Rows of a triangle that are solved one by one, before the others are updated by the kernel.
pub fn panel<T: Field>() -> usize {
    if T::COMPLEX { 4 } else { 2 * lanes::<T>() }
}

/// `m[target] -= Σ_k factors[k] · m[from + k]` on `cols`. The order of the sums depends on the place of a column among all that are
/// updated, and on whether the row is one of four that the kernel takes together.
pub fn subtract<T: Field>(m: &mut Mat<T>, target: usize, cols: Range<usize>, factors: &[T], from: usize, in_four: bool) {
    let (n, depth) = (cols.len(), factors.len());
    let mut sums = vec![T::zero_(); n];
    let chain = |sums: &mut [T], first: usize, steps: &mut dyn Iterator<Item = usize>| {
        let start = cols.start + first;
        for k in steps {
            axpy(sums, factors[k], &m.row(from + k)[start..start + sums.len()]);
        }
    };
    if T::COMPLEX || !in_four {
        chain(&mut sums, 0, &mut (0..depth));
    } else {
        let w = lanes::<T>();
        let pairs = n - n % (2 * w);
        let halves = n - n % (w / 2);
        chain(&mut sums[..pairs], 0, &mut (0..depth));
        // Whole and half registers: one chain of even and one of odd steps, but for what is left of blocks of eight.
        let blocks = depth - depth % 8;
        let mut odd = vec![T::zero_(); halves - pairs];
        let even = &mut sums[pairs..halves];
        chain(even, pairs, &mut (0..blocks).step_by(2));
        chain(&mut odd, pairs, &mut (1..blocks).step_by(2));
        axpy(even, T::one_(), &odd);
        chain(even, pairs, &mut (blocks..depth));
        for j in halves..n {
            sums[j] = across(factors, |k| m[(from + k, cols.start + j)]);
        }
    }
    axpy(&mut m.row_mut(target)[cols], -T::one_(), &sums);
}

/// The sum of a column that fills no register: the steps lie across four registers, each with as many steps as fit beside the rows.
fn across<T: Field>(factors: &[T], other: impl Fn(usize) -> T) -> T {
    let depth = factors.len();
    let beside = lanes::<T>() / 4;
    let term = |k: usize| factors[k] * other(k);
    let mut sums = [[T::zero_(); 4]; 2];
    let blocks = depth - depth % (4 * beside);
    for k in 0..blocks {
        sums[k % beside][k / beside % 4] += term(k);
    }
    let mut sums = sums.map(|s| (s[0] + s[1]) + (s[2] + s[3]));
    let whole = depth - depth % beside;
    for k in blocks..whole {
        sums[k % beside] += term(k);
    }
    (whole..depth).fold(sums[0] + sums[1], |s, k| s + term(k))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_gives_the_sum() {
        for (n, depth) in [(1, 1), (3, 8), (4, 7), (7, 17), (23, 8), (40, 33)] {
            let start = Mat::from_fn(depth + 2, n + 1, |i, j| ((i * 7 + j * 5) % 11) as f64 - 5.0);
            let factors: Vec<f64> = (0..depth).map(|k| (k * 3 % 7) as f64 - 3.0).collect();
            for in_four in [true, false] {
                let mut m = start.clone();
                subtract(&mut m, depth + 1, 1..n + 1, &factors, 1, in_four);
                for j in 0..n + 1 {
                    let sum: f64 = if j == 0 { 0.0 } else { (0..depth).map(|k| factors[k] * start[(k + 1, j)]).sum() };
                    assert_eq!(m[(depth + 1, j)], start[(depth + 1, j)] - sum);
                }
                let rest: Mat<f32> = start.map(|x| x as f32);
                let mut m = rest.clone();
                subtract(&mut m, 0, 0..n, &factors.iter().map(|&x| x as f32).collect::<Vec<_>>(), 1, in_four);
                let sum: f32 = (0..depth).map(|k| factors[k] as f32 * rest[(k + 1, n - 1)]).sum();
                assert_eq!(m[(0, n - 1)], rest[(0, n - 1)] - sum);
            }
        }
    }
}

//! Triangular factors: LU and Cholesky, and systems with triangular matrices.

use super::field::{Field, Mat, axpy, dot};
use super::product;
use num_traits::Float;

/// `A[p] = L U` with partial pivoting, both factors in one matrix.
pub struct Lu<T> {
    pub factors: Mat<T>,
    /// Row `i` of the product is row `rows[i]` of the matrix.
    pub rows: Vec<usize>,
    /// Whether the number of exchanges is odd.
    pub odd: bool,
}

impl<T: Field> Lu<T> {
    pub fn new(a: Mat<T>) -> Lu<T> {
        let (rows, end) = ((0..a.rows).collect(), a.cols);
        let mut lu = Lu { factors: a, rows, odd: false };
        lu.factor(0, end, 256);
        lu
    }

    /// Factors what lies below row `at` in the columns from `at` to `end`, in blocks of columns as Eigen chooses them.
    fn factor(&mut self, at: usize, end: usize, largest: usize) {
        let (rows, size) = (self.factors.rows, self.factors.rows.min(end).saturating_sub(at));
        if size <= 16 {
            return self.eliminate(at, end);
        }
        let width = (size / 8 / 16 * 16).max(8).min(largest);
        for k in (at..at + size).step_by(width) {
            let next = (k + width).min(at + size);
            self.factor(k, next, 16);
            let a = &mut self.factors;
            for i in k..next {
                for j in k..i {
                    let by = -a[(i, j)];
                    let (row, other) = a.two_rows(i, j);
                    axpy(&mut row[next..end], by, &other[next..end]);
                }
            }
            // Small products are plain sums.
            let fours = if next - k + rows - next + end - next < 20 { 0 } else { (rows - next) / 4 * 4 };
            for i in next..rows {
                let factors = a.row(i)[k..next].to_vec();
                product::subtract(a, i, next..end, &factors, k, i - next < fours);
            }
        }
    }

    /// Factors the columns from `at` to `end` one by one.
    fn eliminate(&mut self, at: usize, end: usize) {
        let a = &mut self.factors;
        for k in at..end.min(a.rows) {
            let mut pivot = k;
            let mut most = a[(k, k)].modulus();
            for i in k + 1..a.rows {
                let m = a[(i, k)].modulus();
                if m > most {
                    (pivot, most) = (i, m);
                }
            }
            if pivot != k {
                a.swap_rows(k, pivot);
                self.rows.swap(k, pivot);
                self.odd = !self.odd;
            }
            let head = a[(k, k)];
            if head == T::zero_() {
                continue;
            }
            for i in k + 1..a.rows {
                let l = a[(i, k)] / head;
                a[(i, k)] = l;
                let (below, pivot_row) = a.two_rows(i, k);
                axpy(&mut below[k + 1..end], -l, &pivot_row[k + 1..end]);
            }
        }
    }

    fn diagonal(&self) -> impl Iterator<Item = T> {
        (0..self.factors.rows.min(self.factors.cols)).map(|i| self.factors[(i, i)])
    }

    /// Whether no pivot is zero. A leading NaN counts as zero, as it does in TensorFlow.
    pub fn invertible(&self) -> bool {
        let mut pivots = self.diagonal().map(|d| d.modulus());
        let Some(first) = pivots.next() else { return true };
        pivots.fold(first, |m, d| if d < m { d } else { m }) > T::Real::zero_()
    }

    /// `A⁻¹ B`.
    pub fn solve(&self, b: &Mat<T>) -> Mat<T> {
        let mut x = Mat::zeros(b.rows, b.cols);
        for (i, &from) in self.rows.iter().enumerate() {
            x.row_mut(i).copy_from_slice(b.row(from));
        }
        solve_triangular(&self.factors, Part { lower: true, adjoint: false, unit: true }, &mut x);
        solve_triangular(&self.factors, Part { lower: false, adjoint: false, unit: false }, &mut x);
        x
    }

    /// The determinant as its phase (sign) and the logarithm of its magnitude.
    pub fn log_determinant(&self) -> (T, T) {
        let mut sign = if self.odd { -T::one_() } else { T::one_() };
        let mut log = T::Real::zero_();
        for d in self.diagonal() {
            let m = d.modulus();
            log += m.ln();
            sign *= if m == T::Real::zero_() { T::zero_() } else { d.scale(T::Real::one_() / m) };
        }
        (sign, T::real(log))
    }
}

/// Which part of a matrix a triangular system is about.
#[derive(Clone, Copy)]
pub struct Part {
    pub lower: bool,
    /// Solve with the adjoint of that part.
    pub adjoint: bool,
    /// The diagonal is taken as ones.
    pub unit: bool,
}

/// Replaces `b` by the solution of a triangular system. What lies outside the triangle is not read.
pub fn solve_triangular<T: Field>(a: &Mat<T>, part: Part, b: &mut Mat<T>) {
    let n = a.rows.min(a.cols).min(b.rows);
    let at = |i: usize, j: usize| if part.adjoint { a[(j, i)].conj() } else { a[(i, j)] };
    // With the adjoint, the triangle is on the other side.
    let down = part.lower != part.adjoint;
    let width = product::panel::<T>();
    let panels = n.div_ceil(width);
    for p in 0..panels {
        let start = if down { p } else { panels - 1 - p } * width;
        let end = (start + width).min(n);
        // First what is known is taken out of the whole panel, then its rows are solved one by one.
        let known = if down { 0..start } else { end..n };
        for i in start..end {
            let factors: Vec<T> = known.clone().map(|j| at(i, j)).collect();
            product::subtract(b, i, 0..b.cols, &factors, known.start, i - start < (end - start) / 4 * 4);
        }
        for step in 0..end - start {
            let i = if down { start + step } else { end - 1 - step };
            for j in if down { start..i } else { i + 1..end } {
                b.add_row(i, j, -at(i, j));
            }
            if !part.unit {
                let by = T::one_() / at(i, i);
                for x in b.row_mut(i) {
                    *x *= by;
                }
            }
        }
    }
}

/// The lower triangular `L` with `L Lᴴ = A`, from the lower part of `A`; None if `A` is not positive definite.
pub fn cholesky<T: Field>(a: &Mat<T>) -> Option<Mat<T>> {
    let n = a.rows;
    let mut l = Mat::<T>::zeros(n, n);
    for i in 0..n {
        for j in 0..i {
            let (row_i, row_j) = l.two_rows(i, j);
            let s = if T::COMPLEX {
                row_i[..j].iter().zip(&row_j[..j]).fold(T::zero_(), |s, (&x, y)| s + x * y.conj())
            } else {
                dot(&row_i[..j], &row_j[..j])
            };
            row_i[j] = (a[(i, j)] - s) / row_j[j];
        }
        let s = l.row(i)[..i].iter().fold(T::Real::zero_(), |s, x| s + x.modulus2());
        let d = a[(i, i)].re() - s;
        if d.is_nan() || d <= T::Real::zero_() {
            return None;
        }
        l[(i, i)] = T::real(d.sqrt());
    }
    Some(l)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    fn mat(rows: usize, cols: usize, v: &[f64]) -> Mat<f64> {
        Mat { rows, cols, data: v.to_vec() }
    }

    fn close(a: &Mat<f64>, b: &Mat<f64>) {
        assert!(a.data.iter().zip(&b.data).all(|(x, y)| (x - y).abs() < 1e-12), "{a:?} is not {b:?}");
    }

    #[test]
    fn lu_solves_and_finds_singular_matrices() {
        let a = mat(3, 3, &[0., 2., 1., 3., 1., 4., 1., 1., 1.]);
        let lu = Lu::new(a.clone());
        assert!(lu.invertible());
        close(&a.mul(&lu.solve(&Mat::identity(3, 3))), &Mat::identity(3, 3));
        let (sign, log) = lu.log_determinant();
        assert!((sign * log.exp() - 4.0).abs() < 1e-12);
        assert!(!Lu::new(mat(2, 2, &[1., 2., 2., 4.])).invertible());
        assert!(Lu::new(mat(0, 0, &[])).invertible());
    }

    #[test]
    fn triangular_systems_in_all_four_forms() {
        type C = Complex<f64>;
        let a = Mat::from_fn(3, 3, |i, j| C::new(1.0 + (i * 3 + j) as f64, i as f64 - 2.0 * j as f64));
        let b = Mat::from_fn(3, 2, |i, j| C::new(i as f64, j as f64 + 1.0));
        for (lower, adjoint) in [(true, false), (true, true), (false, false), (false, true)] {
            let t = Mat::from_fn(3, 3, |i, j| if (lower && j <= i) || (!lower && j >= i) { a[(i, j)] } else { C::new(0.0, 0.0) });
            let t = if adjoint { t.adjoint() } else { t };
            let mut x = b.clone();
            solve_triangular(&a, Part { lower, adjoint, unit: false }, &mut x);
            assert!(t.mul(&x).data.iter().zip(&b.data).all(|(x, y)| (x - y).norm() < 1e-9));
        }
    }

    #[test]
    fn cholesky_reads_the_lower_part_only() {
        let l = cholesky(&mat(2, 2, &[4., 99., 2., 5.])).unwrap();
        close(&l, &mat(2, 2, &[2., 0., 1., 2.]));
        assert!(cholesky(&mat(2, 2, &[1., 0., 2., 1.])).is_none());
    }

    #[test]
    fn bits_of_inverses_are_those_of_tensorflow() {
        let sample = |n: usize| Mat::from_fn(n, n, |i, j| ((i * i * 5 + i * j * j + j * 7) % 37) as f32 * 0.1 - 1.4);
        let inverse = |n: usize| Lu::new(sample(n)).solve(&Mat::identity(n, n));
        let ends = |m: Mat<f32>| [m.data[0], m.data[1], m.data[m.data.len() - 2], m.data[m.data.len() - 1]].map(f32::to_bits);
        assert_eq!(ends(inverse(23)), [0xbf31ea5b, 0xbf03a84c, 0xbf5b6ddf, 0xbe655053]);
        assert_eq!(ends(inverse(31)), [0x3dbe85b6, 0x3da36d45, 0x3f1942b4, 0xc00c823a]);
        let inverse = |n: usize| Lu::new(sample(n).map(|x| x as f64)).solve(&Mat::identity(n, n));
        let ends = |m: Mat<f64>| [m.data[0], m.data[m.data.len() - 1]].map(f64::to_bits);
        assert_eq!(ends(inverse(23)), [13827807083287741739, 13820608283412103440]);
        assert_eq!(ends(inverse(31)), [4591367965973359006, 13835498143677302735]);
    }
}

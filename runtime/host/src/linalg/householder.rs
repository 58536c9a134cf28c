//! Householder reflections, and the QR factors that they give. The signs are those of Eigen, which TensorFlow uses: the head of a
//! reflected vector gets the sign opposite to the one it had. So is the order of operations, which makes the rounding the same too.

use super::field::{Field, Mat, axpy, tiny};
use num_traits::Float;

/// `H = I - tau v vᴴ` with `v = (1, tail)`, which takes a vector to `(beta, 0, …)`.
pub struct Reflector<T: Field> {
    pub tail: Vec<T>,
    pub tau: T,
    pub beta: T::Real,
}

impl<T: Field> Reflector<T> {
    /// For the vector `(head, tail)`.
    pub fn new(head: T, mut tail: Vec<T>) -> Reflector<T> {
        let zero = T::Real::zero_();
        let squares = tail.iter().fold(zero, |s, x| s + x.modulus2());
        if squares <= tiny() && head.im() * head.im() <= tiny() {
            tail.fill(T::zero_());
            return Reflector { tail, tau: T::zero_(), beta: head.re() };
        }
        let norm = (head.modulus2() + squares).sqrt();
        let beta = if head.re() >= zero { -norm } else { norm };
        let by = head - T::real(beta);
        for x in &mut tail {
            *x /= by;
        }
        Reflector { tail, tau: (T::real(beta) - head).over(beta).conj(), beta }
    }

    /// The reflection that takes the rest of column `col` from row `row` on.
    pub fn of_column(a: &Mat<T>, row: usize, col: usize) -> Reflector<T> {
        Reflector::new(a[(row, col)], (row + 1..a.rows).map(|i| a[(i, col)]).collect())
    }

    /// `H A` on the rows from `row` and the columns from `col` on.
    pub fn apply_left(&self, a: &mut Mat<T>, row: usize, col: usize) {
        self.reflect_rows(a, row, col, self.tau);
    }

    /// `Hᴴ A`, likewise.
    pub fn apply_left_adjoint(&self, a: &mut Mat<T>, row: usize, col: usize) {
        self.reflect_rows(a, row, col, self.tau.conj());
    }

    fn reflect_rows(&self, a: &mut Mat<T>, row: usize, col: usize, tau: T) {
        if tau == T::zero_() || col >= a.cols {
            return;
        }
        let head = a.row(row)[col..].to_vec();
        // Complex numbers are not followed to the last bit: their division and roots differ between libraries.
        let mut sums = if T::COMPLEX { head.clone() } else { vec![T::zero_(); head.len()] };
        for (k, v) in self.tail.iter().enumerate() {
            axpy(&mut sums, v.conj(), &a.row(row + 1 + k)[col..]);
        }
        let by = if T::COMPLEX {
            sums.iter_mut().for_each(|s| *s *= tau);
            T::one_()
        } else {
            axpy(&mut sums, T::one_(), &head);
            tau
        };
        axpy(&mut a.row_mut(row)[col..], -by, &sums);
        for (k, &v) in self.tail.iter().enumerate() {
            axpy(&mut a.row_mut(row + 1 + k)[col..], -(by * v), &sums);
        }
    }

    /// `A H` on the columns from `col` on.
    pub fn apply_right(&self, a: &mut Mat<T>, col: usize) {
        if self.tau == T::zero_() {
            return;
        }
        for i in 0..a.rows {
            let row = &mut a.row_mut(i)[col..];
            let Some((head, rest)) = row.split_first_mut() else { return };
            let sum = rest.iter().zip(&self.tail).fold(*head, |s, (&x, &v)| s + x * v) * self.tau;
            *head -= sum;
            for (x, v) in rest.iter_mut().zip(&self.tail) {
                *x -= sum * v.conj();
            }
        }
    }
}

/// `A = Q R`, or `A P = Q R`.
pub struct Qr<T: Field> {
    reflectors: Vec<Reflector<T>>,
    r: Mat<T>,
    /// Column `j` of `A P` is column `columns[j]` of `A`.
    pub columns: Vec<usize>,
}

impl<T: Field> Qr<T> {
    pub fn new(mut a: Mat<T>) -> Qr<T> {
        let reflectors = (0..a.rows.min(a.cols)).map(|k| step(&mut a, k)).collect();
        Qr { reflectors, columns: (0..a.cols).collect(), r: a }
    }

    /// With the columns in the order of decreasing norms of what is left of them.
    pub fn pivoted(mut a: Mat<T>) -> Qr<T> {
        let norm =
            |a: &Mat<T>, from: usize, j: usize| (from..a.rows).fold(T::Real::zero_(), |s, i| s + a[(i, j)].modulus2()).sqrt();
        let one = T::Real::one_();
        let coarse = <T::Real as Float>::epsilon().sqrt();
        let mut columns: Vec<usize> = (0..a.cols).collect();
        // Norms are updated from step to step, and computed afresh once too much of them has cancelled.
        let mut exact: Vec<T::Real> = (0..a.cols).map(|j| norm(&a, 0, j)).collect();
        let mut norms = exact.clone();
        let mut reflectors = Vec::new();
        for k in 0..a.rows.min(a.cols) {
            let mut most = k;
            for j in k + 1..a.cols {
                if norms[j] > norms[most] {
                    most = j;
                }
            }
            a.swap_cols(k, most);
            columns.swap(k, most);
            norms.swap(k, most);
            exact.swap(k, most);
            reflectors.push(step(&mut a, k));
            for j in k + 1..a.cols {
                if norms[j] == T::Real::zero_() {
                    continue;
                }
                let part = a[(k, j)].modulus() / norms[j];
                let left = ((one + part) * (one - part)).max(T::Real::zero_());
                let ratio = norms[j] / exact[j];
                if left * (ratio * ratio) <= coarse {
                    exact[j] = norm(&a, k + 1, j);
                    norms[j] = exact[j];
                } else {
                    norms[j] *= left.sqrt();
                }
            }
        }
        Qr { reflectors, columns, r: a }
    }

    /// The first `cols` columns of `Q`.
    pub fn q(&self, cols: usize) -> Mat<T> {
        let mut q = Mat::identity(self.r.rows, cols);
        for (k, h) in self.reflectors.iter().enumerate().rev() {
            h.apply_left_adjoint(&mut q, k, k);
        }
        q
    }

    /// The first `rows` rows of `R`.
    pub fn r(&self, rows: usize) -> Mat<T> {
        self.r.top_left(rows, self.r.cols).upper()
    }
}

/// Reflects column `k` and those after it.
fn step<T: Field>(a: &mut Mat<T>, k: usize) -> Reflector<T> {
    let h = Reflector::of_column(a, k, k);
    a[(k, k)] = T::real(h.beta);
    h.apply_left(a, k, k + 1);
    h
}

/// `A = Q H Qᴴ` with `H` zero below the first subdiagonal.
pub fn hessenberg<T: Field>(mut a: Mat<T>) -> (Mat<T>, Mat<T>) {
    let n = a.rows;
    let mut reflectors = Vec::new();
    for k in 0..n.saturating_sub(1) {
        let h = Reflector::of_column(&a, k + 1, k);
        a[(k + 1, k)] = T::real(h.beta);
        for i in k + 2..n {
            a[(i, k)] = T::zero_();
        }
        h.apply_left(&mut a, k + 1, k + 1);
        let back = Reflector { tail: h.tail.clone(), tau: h.tau.conj(), beta: h.beta };
        back.apply_right(&mut a, k + 1);
        reflectors.push(h);
    }
    let mut q = Mat::identity(n, n);
    for (k, h) in reflectors.iter().enumerate().rev() {
        h.apply_left_adjoint(&mut q, k + 1, k + 1);
    }
    (q, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    type C = Complex<f64>;

    fn sample(rows: usize, cols: usize) -> Mat<C> {
        Mat::from_fn(rows, cols, |i, j| C::new(((i * 7 + j * 3) % 5) as f64 - 1.5, ((i * 2 + j * 5) % 7) as f64 - 3.0))
    }

    fn close(a: &Mat<C>, b: &Mat<C>) {
        assert!(
            a.rows == b.rows && a.cols == b.cols && a.data.iter().zip(&b.data).all(|(x, y)| (x - y).norm() < 1e-12),
            "{a:?}\n{b:?}"
        );
    }

    #[test]
    fn factors_multiply_to_the_matrix() {
        for (m, n) in [(4, 3), (3, 4), (3, 3), (1, 2), (0, 2)] {
            let a = sample(m, n);
            let f = Qr::new(a.clone());
            close(&f.q(m).mul(&f.r(m)), &a);
            close(&f.q(m).adjoint().mul(&f.q(m)), &Mat::identity(m, m));
            let f = Qr::pivoted(a.clone());
            let permuted = Mat::from_fn(m, n, |i, j| a[(i, f.columns[j])]);
            close(&f.q(m.min(n)).mul(&f.r(m.min(n))), &permuted);
        }
    }

    #[test]
    fn hessenberg_form_is_similar() {
        let a = sample(5, 5);
        let (q, h) = hessenberg(a.clone());
        close(&q.mul(&h).mul(&q.adjoint()), &a);
        close(&q.mul(&q.adjoint()), &Mat::identity(5, 5));
    }
}

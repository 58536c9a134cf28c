//! Singular values and vectors by two-sided Jacobi rotations after a pivoted QR step: slower than bidiagonal methods for large matrices,
//! and accurate for all. The order of rotations is Eigen's, so the vectors of matrices with fewer than 16 columns get the signs that
//! TensorFlow gives them.

use super::field::{Field, Mat, tiny};
use super::householder::Qr;
use super::rotation::Rotation;
use num_traits::Float;

/// `A = U diag(s) Vᴴ`, with `s` in decreasing order.
pub struct Svd<T: Field> {
    pub s: Vec<T::Real>,
    pub u: Mat<T>,
    pub v: Mat<T>,
}

/// Which singular vectors are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    None,
    /// As many as there are singular values.
    Thin,
    /// A basis of the whole space.
    Full,
}

/// Factors `a`; all is NaN if an element is not finite. Without [`Vectors`], `u` and `v` are empty.
pub fn svd<T: Field>(a: &Mat<T>, vectors: Vectors) -> Svd<T> {
    let (m, n) = (a.rows, a.cols);
    let k = m.min(n);
    let wanted = vectors != Vectors::None;
    let width = |whole: usize| match vectors {
        Vectors::None => 0,
        Vectors::Thin => k,
        Vectors::Full => whole,
    };
    let (u_cols, v_cols) = (width(m), width(n));
    let most = a.max_modulus();
    if !most.is_finite() {
        let nan = |rows: usize, cols: usize| Mat::filled(rows, cols, T::not_a_number());
        return Svd { s: vec![T::Real::not_a_number(); k], u: nan(m, u_cols), v: nan(n, v_cols) };
    }
    let scale = if most == T::Real::zero_() { T::Real::one_() } else { most };
    let scaled = a.map(|x| x.over(scale));
    // Both are kept transposed, so that a rotation of two vectors is one of two rows.
    let (mut work, mut ut, mut vt);
    if m > n {
        let qr = Qr::pivoted(scaled);
        work = qr.r(n);
        ut = qr.q(u_cols).transpose();
        vt = permutation(&qr.columns, v_cols).transpose();
    } else if n > m {
        let qr = Qr::pivoted(scaled.adjoint());
        work = qr.r(m).adjoint();
        vt = qr.q(v_cols).transpose();
        ut = permutation(&qr.columns, u_cols).transpose();
    } else {
        work = scaled;
        ut = Mat::identity(u_cols, m);
        vt = Mat::identity(v_cols, n);
    }
    diagonalise(&mut work, &mut ut, &mut vt, wanted);
    let mut s = Vec::with_capacity(k);
    for i in 0..k {
        let d = work[(i, i)];
        let size = d.modulus();
        s.push(size * scale);
        if wanted && size > T::Real::zero_() {
            let phase = if d.im().abs() > tiny() { d.over(size) } else { T::real(d.re().signum()) };
            if phase != T::one_() {
                for x in ut.row_mut(i) {
                    *x *= phase;
                }
            }
        }
    }
    for i in 0..k {
        let mut most = i;
        for j in i + 1..k {
            if s[j] > s[most] {
                most = j;
            }
        }
        if s[most] == T::Real::zero_() {
            break;
        }
        if most != i {
            s.swap(i, most);
            if wanted {
                ut.swap_rows(i, most);
                vt.swap_rows(i, most);
            }
        }
    }
    Svd { s, u: ut.transpose(), v: vt.transpose() }
}

/// The permutation with a one in row `columns[j]` of column `j`; none of it if no vectors are wanted.
fn permutation<T: Field>(columns: &[usize], cols: usize) -> Mat<T> {
    let mut p = Mat::zeros(columns.len(), cols);
    for (j, &i) in columns.iter().enumerate().take(cols) {
        p[(i, j)] = T::one_();
    }
    p
}

/// Sweeps of rotations until everything off the diagonal is negligible.
fn diagonalise<T: Field>(work: &mut Mat<T>, ut: &mut Mat<T>, vt: &mut Mat<T>, vectors: bool) {
    let n = work.rows;
    let epsilon = <T::Real as Float>::epsilon();
    let precision = epsilon + epsilon;
    let mut largest = (0..n).fold(T::Real::zero_(), |m, i| m.max(work[(i, i)].modulus()));
    // Convergence is quadratic; the bound is for what rounding keeps from converging.
    for _ in 0..100 {
        let mut done = true;
        for p in 1..n {
            for q in 0..p {
                let least = tiny::<T::Real>().max(precision * largest);
                if work[(p, q)].modulus() <= least && work[(q, p)].modulus() <= least {
                    continue;
                }
                done = false;
                if T::COMPLEX && !make_real(work, ut, vt, (p, q), vectors, &mut largest) {
                    continue;
                }
                let (left, right) = two_by_two(work, p, q);
                left.left(work, p, q, 0);
                right.right(work, p, q, n);
                if vectors {
                    left.left_conjugate(ut, p, q);
                    right.transpose().left(vt, p, q, 0);
                }
                largest = largest.max(work[(p, p)].modulus()).max(work[(q, q)].modulus());
            }
        }
        if done {
            return;
        }
    }
}

impl<T: Field> Rotation<T> {
    /// Of the transposed left vectors: `U Jᴴ` transposed.
    fn left_conjugate(self, ut: &mut Mat<T>, p: usize, q: usize) {
        Rotation { c: self.c.conj(), s: self.s.conj() }.left(ut, p, q, 0);
    }
}

fn scale_row<T: Field>(a: &mut Mat<T>, i: usize, by: T) {
    for x in a.row_mut(i) {
        *x *= by;
    }
}

/// Makes the block of a complex matrix at `(p, q)` real. False if it is then diagonal already.
fn make_real<T: Field>(
    work: &mut Mat<T>,
    ut: &mut Mat<T>,
    vt: &mut Mat<T>,
    (p, q): (usize, usize),
    vectors: bool,
    largest: &mut T::Real,
) -> bool {
    let unit = |x: T| x.conj().scale(x.modulus()).over(x.modulus2());
    let complex = |x: T| x.im().abs() > tiny();
    let turn_row = |work: &mut Mat<T>, ut: &mut Mat<T>, i: usize, z: T| {
        scale_row(work, i, z);
        if vectors {
            scale_row(ut, i, z.conj());
        }
    };
    let n = (work[(p, p)].modulus2() + work[(q, p)].modulus2()).sqrt();
    if n == T::Real::zero_() {
        work[(p, p)] = T::zero_();
        work[(q, p)] = T::zero_();
        if complex(work[(p, q)]) {
            let z = unit(work[(p, q)]);
            turn_row(work, ut, p, z);
        }
    } else {
        let rot = Rotation { c: work[(p, p)].conj().over(n), s: work[(q, p)].over(n) };
        rot.left(work, p, q, 0);
        if vectors {
            rot.left_conjugate(ut, p, q);
        }
        if complex(work[(p, q)]) {
            let z = unit(work[(p, q)]);
            for i in 0..work.rows {
                work[(i, q)] *= z;
            }
            if vectors {
                scale_row(vt, q, z);
            }
        }
    }
    if complex(work[(q, q)]) {
        let z = unit(work[(q, q)]);
        turn_row(work, ut, q, z);
    }
    *largest = largest.max(work[(p, p)].modulus()).max(work[(q, q)].modulus());
    let least = tiny::<T::Real>().max(<T::Real as Float>::epsilon() * *largest);
    work[(p, q)].modulus() > least || work[(q, p)].modulus() > least
}

/// Rotations from both sides that make the real block at `(p, q)` diagonal.
fn two_by_two<T: Field>(work: &Mat<T>, p: usize, q: usize) -> (Rotation<T>, Rotation<T>) {
    let (a, b, c, d) = (work[(p, p)].re(), work[(p, q)].re(), work[(q, p)].re(), work[(q, q)].re());
    let one = T::Real::one_();
    let skew = c - b;
    let first = if skew.abs() < tiny() {
        Rotation { c: one, s: T::Real::zero_() }
    } else {
        let u = (a + d) / skew;
        let norm = (one + u * u).sqrt();
        Rotation { c: u / norm, s: one / norm }
    };
    // What the first rotation makes symmetric.
    let (x, y, z) = (first.c * a + first.s * c, first.c * b + first.s * d, first.c * d - first.s * b);
    let right = Rotation::jacobi(x, y, z);
    let left = first.then(right.transpose());
    let lift = |r: Rotation<T::Real>| Rotation { c: T::real(r.c), s: T::real(r.s) };
    (lift(left), lift(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    fn check<T: Field>(a: &Mat<T>) {
        for vectors in [Vectors::Thin, Vectors::Full] {
            let f = svd(a, vectors);
            let k = f.s.len();
            let us = Mat::from_fn(a.rows, k, |i, j| f.u[(i, j)].scale(f.s[j]));
            let back = us.mul(&f.v.top_left(a.cols, k).adjoint());
            assert!(back.data.iter().zip(&a.data).all(|(x, y)| (*x - *y).modulus().as_f64() < 1e-10), "{back:?}\n{a:?}");
            assert!(f.s.windows(2).all(|w| w[0] >= w[1]));
            let unit = f.v.adjoint().mul(&f.v);
            let one = Mat::<T>::identity(unit.rows, unit.cols);
            assert!(unit.data.iter().zip(&one.data).all(|(x, y)| (*x - *y).modulus().as_f64() < 1e-10));
        }
    }

    #[test]
    fn factors_multiply_to_the_matrix() {
        for (m, n) in [(4, 4), (5, 3), (3, 5), (1, 3), (2, 1), (0, 2), (20, 20)] {
            check(&Mat::from_fn(m, n, |i, j| ((i * 7 + j * 11) % 13) as f64 - 5.0));
            check(&Mat::from_fn(m, n, |i, j| {
                Complex::new(((i * 7 + j * 11) % 13) as f64 - 5.0, ((i * 5 + j * 3) % 7) as f64 - 2.0)
            }));
        }
        check(&Mat::from_fn(3, 3, |_, _| 0.0));
    }

    #[test]
    fn signs_are_those_of_eigen() {
        let f = svd(&Mat { rows: 2, cols: 2, data: vec![1.0, 2.0, 2.0, 4.0f64] }, Vectors::Thin);
        assert!(f.u[(0, 0)] > 0.0 && f.u[(1, 1)] < 0.0 && f.v[(0, 0)] > 0.0 && f.v[(1, 1)] < 0.0);
    }

    #[test]
    fn bits_of_small_matrices_are_those_of_tensorflow() {
        let sample = |m, n| Mat::from_fn(m, n, |i, j| ((i * 7 + j * 11) % 13) as f32 * 0.3 - 1.7);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let f = svd(&sample(5, 3), Vectors::Thin);
        assert_eq!(bits(&f.s), [0x40755dd7, 0x4029bb60, 0x3ef48e86]);
        assert_eq!(bits(f.u.row(4)), [0x3e2b7cb3, 0x3f714749, 0x3c16cdee]);
        assert_eq!(bits(f.v.row(2)), [0x3f0a0bef, 0x3f001ae5, 0x3f2d66e5]);
        let f = svd(&sample(3, 5), Vectors::Thin);
        assert_eq!(bits(&f.s), [0x407e8bce, 0x400c3dfc, 0x3ee4b053]);
        assert_eq!(bits(f.u.row(2)), [0x3f2d3127, 0xbe991fe0, 0xbf2c4675]);
        assert_eq!(bits(f.v.row(4)), [0xbe4a11fe, 0xbf4ae7fc, 0xbebe0171]);
    }
}

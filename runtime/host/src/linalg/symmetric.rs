//! Eigenvalues and vectors of self-adjoint matrices: Householder reduction to a real tridiagonal matrix, then implicit QR steps with
//! Wilkinson's shift.

use super::field::{Field, Mat, tiny};
use super::householder::Reflector;
use super::rotation::Rotation;
use num_traits::Float;

/// Ascending eigenvalues and the vectors in the columns of a matrix, from the lower part of `a`; None if the iteration does not converge.
/// The matrix is empty if no vectors are wanted.
pub fn eigen<T: Field>(a: &Mat<T>, vectors: bool) -> Option<(Vec<T::Real>, Mat<T>)> {
    let n = a.rows;
    if n <= 1 {
        let size = if vectors { n } else { 0 };
        return Some(((0..n).map(|i| a[(i, i)].re()).collect(), Mat::identity(size, size)));
    }
    let mut work = Mat::from_fn(n, n, |i, j| if i >= j { a[(i, j)] } else { a[(j, i)].conj() });
    let most = work.max_modulus();
    if !most.is_finite() {
        return None;
    }
    let scale = if most == T::Real::zero_() { T::Real::one_() } else { most };
    for x in &mut work.data {
        *x = x.over(scale);
    }
    let (mut diag, mut sub, q) = tridiagonal(work, vectors);
    // Kept transposed, so that a rotation of two vectors is one of two rows.
    let mut qt = q.transpose();
    iterate(&mut diag, &mut sub, &mut qt, vectors)?;
    for i in 0..n {
        let mut least = i;
        for j in i + 1..n {
            if diag[j] < diag[least] {
                least = j;
            }
        }
        if least != i {
            diag.swap(i, least);
            if vectors {
                qt.swap_rows(i, least);
            }
        }
    }
    Some((diag.into_iter().map(|d| d * scale).collect(), qt.transpose()))
}

/// `A = Q T Qᴴ`: the diagonal and subdiagonal of `T`, and `Q`.
fn tridiagonal<T: Field>(mut a: Mat<T>, vectors: bool) -> (Vec<T::Real>, Vec<T::Real>, Mat<T>) {
    let n = a.rows;
    let half = T::num(-0.5);
    let mut reflectors = Vec::with_capacity(n);
    let mut sub = Vec::with_capacity(n);
    for k in 0..n - 1 {
        let h = Reflector::of_column(&a, k + 1, k);
        sub.push(h.beta);
        let m = n - k - 1;
        // H A Hᴴ as a rank-two update: A - v wᴴ - w vᴴ.
        let v: Vec<T> = std::iter::once(T::one_()).chain(h.tail.iter().copied()).collect();
        let tau = h.tau.conj();
        let mut w: Vec<T> =
            (0..m).map(|i| a.row(k + 1 + i)[k + 1..].iter().zip(&v).fold(T::zero_(), |s, (&x, &v)| s + x * v) * tau).collect();
        let inner = w.iter().zip(&v).fold(T::zero_(), |s, (w, &v)| s + w.conj() * v);
        let by = tau * half * inner;
        for (w, &v) in w.iter_mut().zip(&v) {
            *w += by * v;
        }
        for i in 0..m {
            let (vi, wi) = (v[i], w[i]);
            for (x, (vj, wj)) in a.row_mut(k + 1 + i)[k + 1..].iter_mut().zip(v.iter().zip(&w)) {
                *x -= vi * wj.conj() + wi * vj.conj();
            }
        }
        reflectors.push(h);
    }
    let diag = (0..n).map(|i| a[(i, i)].re()).collect();
    let mut q = Mat::identity(if vectors { n } else { 0 }, if vectors { n } else { 0 });
    if vectors {
        for (k, h) in reflectors.iter().enumerate().rev() {
            h.apply_left_adjoint(&mut q, k + 1, k + 1);
        }
    }
    (diag, sub, q)
}

/// QR steps until the subdiagonal is zero.
fn iterate<T: Field>(diag: &mut [T::Real], sub: &mut [T::Real], qt: &mut Mat<T>, vectors: bool) -> Option<()> {
    let zero = T::Real::zero_();
    let n = diag.len();
    let inverse = T::Real::one_() / <T::Real as Float>::epsilon();
    let (mut start, mut end) = (0, n - 1);
    let mut steps = 0;
    while end > 0 {
        for i in start..end {
            let scaled = inverse * sub[i];
            if sub[i].abs() < tiny() || scaled * scaled <= diag[i].abs() + diag[i + 1].abs() {
                sub[i] = zero;
            }
        }
        while end > 0 && sub[end - 1] == zero {
            end -= 1;
        }
        if end == 0 {
            break;
        }
        steps += 1;
        if steps > 30 * n {
            return None;
        }
        start = end - 1;
        while start > 0 && sub[start - 1] != zero {
            start -= 1;
        }
        step(diag, sub, start, end, qt, vectors);
    }
    Some(())
}

/// One implicit QR step on the block from `start` to `end`.
fn step<T: Field>(diag: &mut [T::Real], sub: &mut [T::Real], start: usize, end: usize, qt: &mut Mat<T>, vectors: bool) {
    let zero = T::Real::zero_();
    let td = (diag[end - 1] - diag[end]) * T::Real::from_f64(0.5);
    let e = sub[end - 1];
    let mut mu = diag[end];
    if td == zero {
        mu -= e.abs();
    } else if e != zero {
        let h = td.hypot(e).copysign(td);
        let squared = e * e;
        mu -= if squared == zero { e / ((td + h) / e) } else { squared / (td + h) };
    }
    let mut x = diag[start] - mu;
    let mut z = sub[start];
    for k in start..end {
        if z == zero {
            break;
        }
        let (rot, _) = Rotation::<T::Real>::givens(x, z);
        let (c, s) = (rot.c, rot.s);
        let sdk = s * diag[k] + c * sub[k];
        let next = s * sub[k] + c * diag[k + 1];
        diag[k] = c * (c * diag[k] - s * sub[k]) - s * (c * sub[k] - s * diag[k + 1]);
        diag[k + 1] = s * sdk + c * next;
        sub[k] = c * sdk - s * next;
        if k > start {
            sub[k - 1] = c * sub[k - 1] - s * z;
        }
        x = sub[k];
        if k + 1 < end {
            z = -s * sub[k + 1];
            sub[k + 1] = c * sub[k + 1];
        }
        if vectors {
            Rotation { c: T::real(c), s: T::real(s) }.transpose().left(qt, k, k + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    #[test]
    fn vectors_are_scaled_by_their_values() {
        type C = Complex<f64>;
        for n in [1, 2, 3, 6, 17] {
            let a = Mat::from_fn(n, n, |i, j| C::new(((i * j + i + j) % 5) as f64, if i == j { 0.0 } else { i as f64 - j as f64 }));
            let (values, q) = eigen(&a, true).unwrap();
            let aq = a.mul(&q);
            let ql = Mat::from_fn(n, n, |i, j| q[(i, j)] * values[j]);
            assert!(aq.data.iter().zip(&ql.data).all(|(x, y)| (x - y).norm() < 1e-10));
            assert!(values.windows(2).all(|w| w[0] <= w[1]));
            let alone = eigen(&a, false).unwrap().0;
            assert!(alone.iter().zip(&values).all(|(x, y)| (x - y).abs() < 1e-10));
        }
        assert!(eigen(&Mat { rows: 2, cols: 2, data: vec![f64::NAN; 4] }, true).is_none());
    }

    #[test]
    fn signs_are_those_of_eigen() {
        let (_, q) = eigen(&Mat { rows: 2, cols: 2, data: vec![1.0, 0.0, 2.0, 4.0f64] }, true).unwrap();
        assert!(q[(0, 0)] < 0.0 && q[(1, 0)] > 0.0 && q[(0, 1)] < 0.0 && q[(1, 1)] < 0.0);
    }
}

//! Plane rotations, computed in Eigen's order of operations.

use super::field::{Field, Mat, tiny};
use num_traits::Float;

/// `J = [[c, conj(s)], [-s, conj(c)]]`.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<T> {
    pub c: T,
    pub s: T,
}

impl<T: Field> Rotation<T> {
    /// `J` that makes the self-adjoint `[[x, y], [conj(y), z]]` diagonal: `Jᴴ B J`.
    pub fn jacobi(x: T::Real, y: T, z: T::Real) -> Rotation<T> {
        let one = T::Real::one_();
        let twice = y.modulus() + y.modulus();
        if twice < tiny() {
            return Rotation { c: T::one_(), s: T::zero_() };
        }
        let tau = (x - z) / twice;
        let w = (tau * tau + one).sqrt();
        let t = if tau > T::Real::zero_() { one / (tau + w) } else { one / (tau - w) };
        let sign = if t > T::Real::zero_() { one } else { -one };
        let n = one / (t * t + one).sqrt();
        Rotation { c: T::real(n), s: y.conj().over(y.modulus()).scale(-sign).scale(t.abs()).scale(n) }
    }

    /// `G` such that `Gᴴ (p, q)ᵀ = (r, 0)ᵀ`, and `r`. The cosine is real.
    pub fn givens(p: T, q: T) -> (Rotation<T>, T) {
        let (zero, one) = (T::Real::zero_(), T::Real::one_());
        if q == T::zero_() {
            let c = if p.re() < zero { -T::one_() } else { T::one_() };
            return (Rotation { c, s: T::zero_() }, c * p);
        }
        if p == T::zero_() {
            let m = q.modulus();
            return (Rotation { c: T::zero_(), s: -q.over(m) }, T::real(m));
        }
        if !T::COMPLEX {
            let (p, q) = (p.re(), q.re());
            let (c, s, r);
            if p.abs() > q.abs() {
                let t = q / p;
                let u = (one + t * t).sqrt().copysign(p);
                c = one / u;
                (s, r) = (-t * c, p * u);
            } else {
                let t = p / q;
                let u = (one + t * t).sqrt().copysign(q);
                s = -one / u;
                (c, r) = (-t * s, q * u);
            }
            return (Rotation { c: T::real(c), s: T::real(s) }, T::real(r));
        }
        // Scaled by the larger of both, against overflow.
        let (p1, q1) = (p.norm1(), q.norm1());
        let by = p1.max(q1);
        let (ps, qs) = (p.over(by), q.over(by));
        let (p2, q2) = (ps.modulus2(), qs.modulus2());
        let signed = |u: T::Real| if p.re() < zero { -u } else { u };
        if p1 >= q1 {
            let u = signed((one + q2 / p2).sqrt());
            let c = one / u;
            (Rotation { c: T::real(c), s: (-qs * ps.conj()).scale(c / p2) }, p.scale(u))
        } else {
            let u = signed(by * (p2 + q2).sqrt());
            let m = p.modulus();
            let unit = p.over(m);
            (Rotation { c: T::real(m / u), s: -unit.conj() * q.over(u) }, unit.scale(u))
        }
    }

    /// First `o`, then this.
    pub fn then(self, o: Rotation<T>) -> Rotation<T> {
        Rotation { c: self.c * o.c - self.s.conj() * o.s, s: (self.c * o.s.conj() + self.s.conj() * o.c.conj()).conj() }
    }

    pub fn transpose(self) -> Rotation<T> {
        Rotation { c: self.c, s: -self.s.conj() }
    }

    pub fn adjoint(self) -> Rotation<T> {
        Rotation { c: self.c.conj(), s: -self.s }
    }

    /// `J` on a pair of rows.
    pub fn turn(self, x: &mut [T], y: &mut [T]) {
        let (cc, cs) = (self.c.conj(), self.s.conj());
        for (x, y) in x.iter_mut().zip(y) {
            let (a, b) = (*x, *y);
            *x = self.c * a + cs * b;
            *y = cc * b - self.s * a;
        }
    }

    /// `J A` on the rows `p` and `q`, from column `from` on.
    pub fn left(self, a: &mut Mat<T>, p: usize, q: usize, from: usize) {
        let (x, y) = a.two_rows(p, q);
        self.turn(&mut x[from..], &mut y[from..]);
    }

    /// `A J` on the columns `p` and `q` of the first `rows` rows.
    pub fn right(self, a: &mut Mat<T>, p: usize, q: usize, rows: usize) {
        let t = self.transpose();
        let (cc, cs) = (t.c.conj(), t.s.conj());
        for i in 0..rows {
            let row = a.row_mut(i);
            let (x, y) = (row[p], row[q]);
            row[p] = t.c * x + cs * y;
            row[q] = cc * y - t.s * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_complex::Complex;

    #[test]
    fn givens_puts_a_zero() {
        type C = Complex<f64>;
        for (p, q) in [((1., 2.), (3., -4.)), ((-5., 1.), (0.5, 2.)), ((0., 0.), (1., 1.)), ((-1., 1.), (0., 0.))] {
            let (p, q) = (C::new(p.0, p.1), C::new(q.0, q.1));
            let (g, r) = Rotation::givens(p, q);
            let (mut x, mut y) = ([p], [q]);
            g.adjoint().turn(&mut x, &mut y);
            assert!((x[0] - r).norm() < 1e-12 && y[0].norm() < 1e-12, "{p} {q}: {g:?} {r} {x:?} {y:?}");
        }
        for (p, q) in [(3.0, 4.0), (-3.0, 4.0), (5.0, -1.0), (-5.0, -1.0)] {
            let (g, r) = Rotation::givens(p, q);
            let (mut x, mut y) = ([p], [q]);
            g.adjoint().turn(&mut x, &mut y);
            assert!((x[0] - r).abs() < 1e-12 && y[0].abs() < 1e-12);
        }
    }
}

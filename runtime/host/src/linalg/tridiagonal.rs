//! Ops on tridiagonal matrices.

use super::batch::{Gather, by_field, matrices, same_outer};
use super::field::{Field, Mat, axpy, tiny};
use crate::Result;
use crate::call::Call;
use crate::error::invalid;
use num_traits::Float;

pub fn mat_mul(call: &Call) -> Result {
    by_field!(call, 0, mat_mul_of(call))
}

fn mat_mul_of<T: Field>(call: &Call) -> Result {
    let x = matrices::<T>(call, 3)?;
    let mut diagonals = Vec::new();
    for (k, name) in ["superdiagonal", "main diagonal", "subdiagonal"].iter().enumerate() {
        let d = matrices::<T>(call, k)?;
        if d.rows != 1 || d.cols != x.rows {
            return Err(invalid(format!("invalid {name} shape")));
        }
        same_outer(&d, &x)?;
        diagonals.push(d);
    }
    let [up, main, down] = &diagonals[..] else { return Err(invalid("three diagonals are needed")) };
    let n = x.rows;
    let mut out = Gather::new(x.shape(&[n, x.cols]))?;
    for b in 0..x.len() {
        let (up, main, down, x) = (up.get(b), main.get(b), down.get(b), x.get(b));
        let mut y = Mat::zeros(n, x.cols);
        for i in 0..n {
            let row = y.row_mut(i);
            axpy(row, main.data[i], x.row(i));
            if i > 0 {
                axpy(row, down.data[i], x.row(i - 1));
            }
            if i + 1 < n {
                axpy(row, up.data[i], x.row(i + 1));
            }
        }
        out.push(&y);
    }
    Ok(vec![out.tensor()?.into()])
}

pub fn solve(call: &Call) -> Result {
    by_field!(call, 0, solve_of(call))
}

fn solve_of<T: Field>(call: &Call) -> Result {
    let d = matrices::<T>(call, 0)?;
    let b = matrices::<T>(call, 1)?;
    same_outer(&d, &b)?;
    if d.rows != 3 {
        return Err(invalid(format!("expected 3 diagonals, got {}", d.rows)));
    }
    if d.cols != b.rows {
        return Err(invalid(format!("the diagonals and the right-hand side must have the same length: {} and {}", d.cols, b.rows)));
    }
    let pivoting = call.attrs.bool("partial_pivoting").unwrap_or(true);
    let perturb = call.attrs.bool("perturb_singular").unwrap_or(false);
    if perturb && !pivoting {
        return Err(invalid("perturb_singular requires partial_pivoting"));
    }
    let mut out = Gather::new(b.shape(&[b.rows, b.cols]))?;
    for (d, mut x) in d.iter().zip(b.iter()) {
        // A singular matrix has the answer NaN.
        if eliminate(&d, &mut x, pivoting, perturb).is_none() {
            x.data.fill(T::not_a_number());
        }
        out.push(&x);
    }
    Ok(vec![out.tensor()?.into()])
}

/// Rows of the upper factor: the diagonal and two elements after it.
type Upper<T> = Vec<[T; 3]>;

/// The diagonals above, on and below the main one: element `i` of a diagonal is in row `i`.
struct Diagonals<'a, T>(&'a Mat<T>);

impl<T: Field> Diagonals<'_, T> {
    fn above(&self, i: usize) -> T {
        if i + 1 < self.0.cols { self.0[(0, i)] } else { T::zero_() }
    }

    fn row(&self, i: usize) -> [T; 3] {
        [self.0[(2, i)], self.0[(1, i)], self.above(i)]
    }
}

/// Gaussian elimination; None on a pivot of zero.
fn eliminate<T: Field>(d: &Mat<T>, x: &mut Mat<T>, pivoting: bool, perturb: bool) -> Option<()> {
    let n = d.cols;
    let diagonals = Diagonals(d);
    let size = |v: &[T]| v.iter().fold(T::Real::zero_(), |s, x| s + x.modulus());
    let mut u: Upper<T> = Vec::with_capacity(n);
    if n > 0 {
        u.push([d[(1, 0)], diagonals.above(0), T::zero_()]);
    }
    // With perturbation rows are compared relative to their size, as in LAPACK's lagtf.
    let first = u.first().copied().unwrap_or([T::zero_(); 3]);
    let mut scale = size(&first);
    for i in 0..n.saturating_sub(1) {
        let below = diagonals.row(i + 1);
        let (here, there) = (u[i][0].modulus(), below[0].modulus());
        let exchange = if perturb {
            let scale_below = size(&below);
            let relative = |v: T::Real, scale: T::Real| if v == T::Real::zero_() { v } else { v / scale };
            let exchange = relative(there, scale_below) > relative(here, scale);
            if !exchange {
                scale = scale_below;
            }
            exchange
        } else {
            pivoting && there > here
        };
        if exchange {
            let old = u[i];
            let by = old[0] / below[0];
            u[i] = below;
            // A zero has its sign, to which a raised pivot keeps.
            u.push([old[1] - by * below[1], -by * below[2], T::zero_()]);
            x.swap_rows(i, i + 1);
            x.add_row(i + 1, i, -by);
        } else if below[0] == T::zero_() && perturb {
            u.push([below[1], below[2], T::zero_()]);
        } else {
            if u[i][0] == T::zero_() {
                return None;
            }
            let by = below[0] / u[i][0];
            u.push([below[1] - by * u[i][1], below[2] - by * u[i][2], T::zero_()]);
            x.add_row(i + 1, i, -by);
        }
    }
    // Of the last two rows TensorFlow looks at the last pivot only.
    let seen = first.iter().chain(u.iter().take(n.saturating_sub(2)).flatten()).chain(u.last().map(|u| &u[0]));
    let least = seen.fold(T::Real::zero_(), |m, x| m.max(x.modulus())) * <T::Real as Float>::epsilon();
    for i in (0..n).rev() {
        for (k, &above) in u[i].iter().enumerate().skip(1) {
            if i + k < n {
                x.add_row(i, i + k, -above);
            }
        }
        if perturb {
            raise_pivot(&mut u[i][0], x.row_mut(i), least);
            let by = T::one_() / u[i][0];
            x.row_mut(i).iter_mut().for_each(|x| *x *= by);
        } else if u[i][0] == T::zero_() {
            return None;
        } else {
            x.row_mut(i).iter_mut().for_each(|x| *x /= u[i][0]);
        }
    }
    Some(())
}

/// Moves a pivot away from zero by `least`, then by twice as much, and so on, until `row` can be divided by it without overflow, as in
/// LAPACK's lagts. A row and a pivot that are both denormal are scaled up instead.
fn raise_pivot<T: Field>(pivot: &mut T, row: &mut [T], least: T::Real) {
    let one = T::Real::one_();
    let large = one / tiny();
    let most = row.iter().fold(T::Real::zero_(), |m, x| m.max(x.modulus()));
    let least = least.max(tiny());
    let mut step = least.copysign(pivot.re());
    while pivot.modulus() < one {
        let size = pivot.modulus();
        if size < tiny() {
            if size > T::Real::zero_() && most * tiny() <= size {
                *pivot = pivot.scale(large);
                row.iter_mut().for_each(|x| *x = x.scale(large));
                return;
            }
        } else if most <= size * large {
            return;
        }
        *pivot += T::real(step);
        step += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elimination_swaps_rows_where_it_must() {
        let d = Mat { rows: 3, cols: 4, data: vec![1.0, 2.0, 3.0, 9.0, 0.0, 5.0, 1.0, 7.0, 9.0, 4.0, 6.0, 2.0f64] };
        let a = Mat::from_fn(4, 4, |i, j| match j as i64 - i as i64 {
            1 => d[(0, i)],
            0 => d[(1, i)],
            -1 => d[(2, i)],
            _ => 0.0,
        });
        let b = Mat { rows: 4, cols: 1, data: vec![1.0, 2.0, 3.0, 4.0] };
        let mut x = b.clone();
        eliminate(&d, &mut x, true, false).unwrap();
        assert!(a.mul(&x).data.iter().zip(&b.data).all(|(x, y)| (x - y).abs() < 1e-12));
        assert!(eliminate(&d, &mut b.clone(), false, false).is_none());
        let mut x = Mat { rows: 2, cols: 1, data: vec![1.0, 1.0] };
        eliminate(&Mat { rows: 3, cols: 2, data: vec![0.0, 0.0, 1.0, 0.0, 0.0, 3.0] }, &mut x, true, true).unwrap();
        assert_eq!(x.data[1], -2.0 / f64::EPSILON);
    }

    #[test]
    fn pivots_are_raised_only_where_a_row_would_overflow() {
        let solve = |d: &[f64], b: &[f64]| {
            let mut x = Mat { rows: b.len(), cols: 1, data: b.to_vec() };
            eliminate(&Mat { rows: 3, cols: b.len(), data: d.to_vec() }, &mut x, true, true).unwrap();
            x.data
        };
        assert_eq!(solve(&[4.0, 0.0, 2.0, 2.0, 0.0, 1.0], &[1.0, 3.0]), [-5629499534213120.0, 2814749767106560.0]);
        assert_eq!(solve(&[0.0, 0.0, 0.0], &[1.0]), [1.0 / f64::MIN_POSITIVE]);
        assert_eq!(solve(&[0.0, -0.0, 0.0], &[1.0]), [-1.0 / f64::MIN_POSITIVE]);
        assert_eq!(solve(&[0.0, 2f64.powi(-1000), 0.0], &[2f64.powi(-40)]), [2f64.powi(960)]);
        let d = [-20.0, -10.0, 0.0, -10.0, 0.0, -20.0, 20.0, 0.0, 20.0, -10.0, 10.0, -20.0, 20.0, 10.0, 20.0f32];
        let mut x = Mat { rows: 5, cols: 1, data: vec![20.0, -20.0, 20.0, 0.0, 20.0] };
        eliminate(&Mat { rows: 3, cols: 5, data: d.to_vec() }, &mut x, true, true).unwrap();
        assert_eq!(x.data, [-2.0, 1.0, -3.2, -2.0971518e7, -4.194304e7]);
        let x = solve(&[0.0, 20.0, 0.0, 0.0, -20.0, 10.0, 0.0, 10.0, 20.0], &[10.0, -20.0, -10.0]);
        assert!(x[2] < 0.0, "{x:?}");
    }
}

//! Strided layouts: how the elements of a tensor lie in a buffer.
//!
//! Transposes, slices, broadcasts and reversals are layouts until something needs them in another form, so they are free wherever
//! their consumer can walk strides.

use graphc_ir::{Dim, Elem, Type};
use graphc_passes::plan::Buf;

/// Where a tensor lies: its element `i` at `offset + sum(i[a] * strides[a])` elements into `buf`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub buf: Buf,
    pub elem: Elem,
    pub offset: Dim,
    pub shape: Vec<Dim>,
    pub strides: Vec<Dim>,
}

/// Strides of a row-major tensor.
pub fn row_major(shape: &[Dim]) -> Vec<Dim> {
    let mut strides = vec![Dim::ONE; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = &strides[i + 1] * &shape[i + 1];
    }
    strides
}

impl Layout {
    /// `ty` row-major from the start of `buf`.
    pub fn dense(buf: Buf, ty: &Type) -> Layout {
        Layout { buf, elem: ty.elem, offset: Dim::ZERO, shape: ty.shape.clone(), strides: row_major(&ty.shape) }
    }

    pub fn ty(&self) -> Type {
        Type::new(self.elem, self.shape.clone())
    }

    /// True if the elements lie row-major without gaps.
    pub fn is_dense(&self) -> bool {
        let dense = row_major(&self.shape);
        (0..self.shape.len()).all(|a| self.shape[a].is_one() || self.strides[a] == dense[a])
    }

    /// Stride of the last axis whose extent is not 1; `ONE` if there is none.
    pub fn inner_stride(&self) -> Dim {
        let axis = (0..self.shape.len()).rev().find(|&a| !self.shape[a].is_one());
        axis.map_or(Dim::ONE, |a| self.strides[a].clone())
    }

    pub fn transposed(&self, perm: &[usize]) -> Layout {
        let pick = |v: &[Dim]| perm.iter().map(|&p| v[p].clone()).collect();
        Layout { shape: pick(&self.shape), strides: pick(&self.strides), ..self.clone() }
    }

    /// Repeated to `shape`, axes aligned at the end.
    pub fn broadcast(&self, shape: &[Dim]) -> Layout {
        let skip = shape.len().saturating_sub(self.shape.len());
        let strides = (0..shape.len())
            .map(|a| match a.checked_sub(skip) {
                Some(k) if self.shape[k] == shape[a] => self.strides[k].clone(),
                _ => Dim::ZERO,
            })
            .collect();
        Layout { shape: shape.to_vec(), strides, ..self.clone() }
    }

    pub fn sliced(&self, start: &[Dim], step: &[i64], size: &[Dim]) -> Layout {
        let mut offset = self.offset.clone();
        let mut strides = self.strides.clone();
        for a in 0..strides.len() {
            offset = &offset + &(&start[a] * &strides[a]);
            strides[a] = &strides[a] * &Dim::from(step.get(a).copied().unwrap_or(1));
        }
        Layout { offset, strides, shape: size.to_vec(), ..self.clone() }
    }

    pub fn reversed(&self, axes: &[usize]) -> Layout {
        let mut l = self.clone();
        for &a in axes {
            l.offset = &l.offset + &(&(&l.shape[a] - &Dim::ONE) * &l.strides[a]);
            l.strides[a] = &Dim::ZERO - &l.strides[a];
        }
        l
    }

    /// The same elements in the same order under another shape, if strides can express it.
    pub fn reshaped(&self, shape: &[Dim]) -> Option<Layout> {
        if self.is_dense() {
            return Some(Layout { shape: shape.to_vec(), strides: row_major(shape), ..self.clone() });
        }
        let (mut old, mut old_strides) = (self.shape.clone(), vec![self.strides.clone()]);
        collapse(&mut old, &mut old_strides, &[]);
        let old_strides = old_strides.pop()?;
        let mut strides = vec![Dim::ZERO; shape.len()];
        let mut new = 0;
        for (extent, stride) in old.iter().zip(&old_strides) {
            // The new axes that together make up this one.
            let from = new;
            let mut product = Dim::ONE;
            while product != *extent || shape.get(new).is_some_and(Dim::is_one) {
                product = &product * shape.get(new)?;
                new += 1;
                if !extent.rem(&product).is_zero() {
                    return None;
                }
            }
            let mut s = stride.clone();
            for a in (from..new).rev() {
                strides[a] = s.clone();
                s = &s * &shape[a];
            }
        }
        shape[new..].iter().all(Dim::is_one).then(|| Layout { shape: shape.to_vec(), strides, ..self.clone() })
    }
}

/// Removes axes of extent 1 and merges neighbours that all of `strides` walk as one, except for the axes in `keep`.
///
/// Returns the new number of each old axis, where it still stands for itself alone.
pub fn collapse(extents: &mut Vec<Dim>, strides: &mut [Vec<Dim>], keep: &[usize]) -> Vec<Option<usize>> {
    let old = std::mem::take(extents);
    let olds: Vec<Vec<Dim>> = strides.iter_mut().map(std::mem::take).collect();
    let mut map = vec![None; old.len()];
    // The last axis made may take in the next one.
    let mut open = false;
    for a in 0..old.len() {
        let fixed = keep.contains(&a);
        if old[a].is_one() && !fixed {
            continue;
        }
        let merges = open && !fixed && strides.iter().zip(&olds).all(|(new, old_s)| new.last() == Some(&(&old_s[a] * &old[a])));
        match extents.last_mut().filter(|_| merges) {
            Some(last) => {
                *last = &*last * &old[a];
                for (new, old_s) in strides.iter_mut().zip(&olds) {
                    if let Some(s) = new.last_mut() {
                        *s = old_s[a].clone();
                    }
                }
            }
            None => {
                if fixed {
                    map[a] = Some(extents.len());
                }
                extents.push(old[a].clone());
                strides.iter_mut().zip(&olds).for_each(|(new, old_s)| new.push(old_s[a].clone()));
                open = !fixed;
            }
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(v: &[i64]) -> Vec<Dim> {
        v.iter().map(|&v| Dim::from(v)).collect()
    }

    fn layout(shape: &[i64], strides: &[i64]) -> Layout {
        Layout { buf: Buf(0), elem: Elem::F32, offset: Dim::ZERO, shape: c(shape), strides: c(strides) }
    }

    #[test]
    fn merges_what_is_walked_as_one() {
        let (mut e, mut s) = (c(&[2, 3, 1, 4]), vec![c(&[12, 4, 4, 1]), c(&[0, 0, 0, 1])]);
        collapse(&mut e, &mut s, &[]);
        assert_eq!((e, s), (c(&[6, 4]), vec![c(&[4, 1]), c(&[0, 1])]));
        let (mut e, mut s) = (c(&[2, 3]), vec![c(&[3, 1])]);
        assert_eq!(collapse(&mut e, &mut s, &[1]), [None, Some(1)]);
        assert_eq!(e, c(&[2, 3]));
    }

    #[test]
    fn reshapes_without_a_copy_where_strides_allow() {
        // A column slice [4, 6] of rows of 10 splits and merges only inside axes.
        let l = layout(&[4, 6], &[10, 1]);
        let strides = l.reshaped(&c(&[2, 2, 1, 3, 2])).map(|l| l.strides);
        // An axis of extent 1 may have any stride.
        let walked = strides.map(|s| [0, 1, 3, 4].map(|k| s[k].clone()).to_vec());
        assert_eq!(walked, Some(c(&[20, 10, 2, 1])));
        assert_eq!(l.reshaped(&c(&[24])), None);
        assert_eq!(l.reshaped(&c(&[8, 3])), None);
    }
}

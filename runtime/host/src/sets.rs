//! Sets in the last dimension of tensors, dense and sparse.

use crate::call::Call;
use crate::elements::{Builder, need};
use crate::error::{internal, invalid};
use crate::limits::count_of;
use crate::{HostError, Result, Table, Value, tensor_of};
use graphc_ir::{Elem, Tensor};
use std::collections::BTreeMap;

pub(crate) const TABLE: Table = &[
    ("SetSize", set_size),
    ("DenseToDenseSetOperation", dense_to_dense),
    ("DenseToSparseSetOperation", dense_to_sparse),
    ("SparseToSparseSetOperation", sparse_to_sparse),
];

type Fallible<T> = std::result::Result<T, HostError>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Member<'a> {
    Number(i64),
    Text(&'a [u8]),
}

/// The members of a tensor.
fn members(t: &Tensor) -> Fallible<Vec<Member<'_>>> {
    if let Some(s) = t.strings() {
        return Ok(s.iter().map(|s| Member::Text(s)).collect());
    }
    let of = matches!(t.elem(), Elem::I8 | Elem::I16 | Elem::I32 | Elem::I64 | Elem::U8 | Elem::U16);
    let numbers = t.to_ints().filter(|_| of).ok_or_else(|| invalid(format!("sets of elements of type {}", t.elem())))?;
    Ok(numbers.into_iter().map(Member::Number).collect())
}

/// A set: each member, and where an element with its value is.
type Set<'a> = BTreeMap<Member<'a>, (&'a Tensor, usize)>;

/// A tensor whose innermost rows are sets, which are visited in order.
struct Rows<'a> {
    values: &'a Tensor,
    members: Vec<Member<'a>>,
    /// The shape without the last dimension.
    groups: Vec<usize>,
    place: Place,
}

enum Place {
    /// Every row has so many members.
    Dense(usize),
    Sparse {
        indices: Vec<i64>,
        shape: Vec<i64>,
    },
}

impl<'a> Rows<'a> {
    fn dense(c: &'a Call, k: usize) -> Fallible<Rows<'a>> {
        let values = c.tensor(k)?;
        let Some((&last, groups)) = values.shape().split_last().filter(|_| values.rank() >= 2) else {
            return Err(invalid(format!("Shape {:?} has rank {} < 2", values.shape(), values.rank())));
        };
        Ok(Rows { values, members: members(values)?, groups: groups.to_vec(), place: Place::Dense(last) })
    }

    /// The sparse tensor in operands `k`, `k + 1` and `k + 2`.
    fn sparse(c: &'a Call, k: usize) -> Fallible<Rows<'a>> {
        let (at, values, dims) = (c.tensor(k)?, c.tensor(k + 1)?, c.tensor(k + 2)?);
        need(at.rank() == 2, || format!("Expected indices to be a matrix, got shape {:?}", at.shape()))?;
        need(values.rank() == 1, || format!("Expected values to be a vector, got shape {:?}", values.shape()))?;
        need(dims.rank() == 1, || format!("Expected shape to be a vector, got shape {:?}", dims.shape()))?;
        let (indices, shape) = (c.ints(k)?, c.ints(k + 2)?);
        need(at.shape()[1] == shape.len(), || "Order length must be SparseTensor rank.".into())?;
        need(at.shape()[0] == values.len(), || "indices and values rows (indexing dimension) must match.".into())?;
        need(shape.iter().all(|&d| d >= 0), || "Expected shape dimensions to be non-negative".into())?;
        need(shape.len() >= 2, || format!("Invalid rank {}.", shape.len()))?;
        if c.attrs.bool("validate_indices")? {
            crate::sparse::check_order(&indices, &shape)?;
        }
        let groups = shape[..shape.len() - 1].iter().map(|&d| d as usize).collect();
        Ok(Rows { values, members: members(values)?, groups, place: Place::Sparse { indices, shape } })
    }

    /// All sets with where they are. Those of a dense tensor have every place in turn; of a sparse tensor, each run of equal places.
    fn sets(&self) -> Fallible<Vec<(Vec<i64>, Set<'_>)>> {
        let set = |range: std::ops::Range<usize>| -> Set<'_> {
            range.rev().filter_map(|i| Some((*self.members.get(i)?, (self.values, i)))).collect()
        };
        match &self.place {
            // Rows of no columns are as good as none.
            Place::Dense(0) => Ok(Vec::new()),
            Place::Dense(n) => {
                let count = count_of(Elem::I64, &self.groups)?;
                Ok((0..count).map(|g| (coordinates(g, &self.groups), set(g * n..(g + 1) * n))).collect())
            }
            Place::Sparse { indices, shape } => {
                let rank = shape.len();
                let rows: Vec<&[i64]> = indices.chunks_exact(rank).collect();
                let mut out = Vec::new();
                let mut start = 0;
                for run in rows.chunk_by(|a, b| a[..rank - 1] == b[..rank - 1]) {
                    for (i, &d) in run.iter().flat_map(|r| r.iter().zip(shape)) {
                        if *i < 0 || *i >= d {
                            return Err(internal(format!("indices expected < {d}, got {i}.")));
                        }
                    }
                    out.push((run[0][..rank - 1].to_vec(), set(start..start + run.len())));
                    start += run.len();
                }
                Ok(out)
            }
        }
    }
}

fn coordinates(mut flat: usize, shape: &[usize]) -> Vec<i64> {
    let mut at = vec![0; shape.len()];
    for (i, &d) in at.iter_mut().zip(shape).rev() {
        (*i, flat) = ((flat % d) as i64, flat / d);
    }
    at
}

fn set_size(c: &Call) -> Result {
    let rows = Rows::sparse(c, 0)?;
    let mut sizes = vec![0i32; count_of(Elem::I32, &rows.groups)?];
    for (at, set) in rows.sets()? {
        let flat = at.iter().zip(&rows.groups).fold(0, |n, (&i, &d)| n * d + i as usize);
        if let Some(size) = sizes.get_mut(flat) {
            *size = set.len() as i32;
        }
    }
    Ok(vec![tensor_of(&rows.groups, &sizes)?.into()])
}

#[derive(Clone, Copy)]
enum Operation {
    AMinusB,
    BMinusA,
    Intersection,
    Union,
}

impl Operation {
    fn of(c: &Call) -> Fallible<Operation> {
        match c.attrs.text("set_operation")?.to_ascii_lowercase().as_str() {
            "a-b" => Ok(Operation::AMinusB),
            "b-a" => Ok(Operation::BMinusA),
            "intersection" => Ok(Operation::Intersection),
            "union" => Ok(Operation::Union),
            o => Err(invalid(format!("Invalid set_operation {o}."))),
        }
    }

    fn apply<'a>(self, mut a: Set<'a>, mut b: Set<'a>) -> Set<'a> {
        match self {
            Operation::AMinusB => a.retain(|k, _| !b.contains_key(k)),
            Operation::Intersection => a.retain(|k, _| b.contains_key(k)),
            Operation::Union => a.append(&mut b),
            Operation::BMinusA => {
                b.retain(|k, _| !a.contains_key(k));
                return b;
            }
        }
        a
    }
}

/// Checks that both operands have the same groups and elements.
fn same_groups(a: &Rows, b: &Rows) -> Fallible<()> {
    need(a.groups == b.groups, || format!("Mismatched shapes {:?} vs {:?}", a.groups, b.groups))?;
    need(a.values.elem() == b.values.elem(), || "sets of different types".into())
}

/// The results as a sparse tensor, whose last dimension is the size of the largest set.
fn sparse_of(groups: &[usize], elem: Elem, sets: Vec<(Vec<i64>, Set)>) -> Result {
    let mut indices: Vec<i64> = Vec::new();
    let mut values = Builder::empty(elem);
    let (mut n, mut widest) = (0, 0);
    for (at, set) in sets {
        for (i, (t, k)) in set.values().enumerate() {
            indices.extend_from_slice(&at);
            indices.push(i as i64);
            values.push(t, *k, 1);
        }
        n += set.len();
        widest = widest.max(set.len());
    }
    let shape: Vec<i64> = groups.iter().copied().chain([widest]).map(|d| d as i64).collect();
    let out: [Value; 3] =
        [tensor_of(&[n, shape.len()], &indices)?.into(), values.finish(&[n])?.into(), tensor_of(&[shape.len()], &shape)?.into()];
    Ok(out.into())
}

fn dense_to_dense(c: &Call) -> Result {
    let operation = Operation::of(c)?;
    let (a, b) = (Rows::dense(c, 0)?, Rows::dense(c, 1)?);
    same_groups(&a, &b)?;
    sparse_of(&a.groups, a.values.elem(), merged(operation, a.sets()?, b.sets()?))
}

fn dense_to_sparse(c: &Call) -> Result {
    let operation = Operation::of(c)?;
    let (a, b) = (Rows::dense(c, 0)?, Rows::sparse(c, 1)?);
    same_groups(&a, &b)?;
    let (own, others) = (a.sets()?, b.sets()?);
    if own.is_empty() {
        return sparse_of(&a.groups, a.values.elem(), merged(operation, own, others));
    }
    let mut others = others.into_iter().peekable();
    let mut sets = Vec::new();
    for (at, set) in own {
        let other = others.next_if(|(o, _)| *o == at).map(|(_, s)| s).unwrap_or_default();
        sets.push((at, operation.apply(set, other)));
    }
    sparse_of(&a.groups, a.values.elem(), sets)
}

fn sparse_to_sparse(c: &Call) -> Result {
    let operation = Operation::of(c)?;
    let (a, b) = (Rows::sparse(c, 0)?, Rows::sparse(c, 3)?);
    same_groups(&a, &b)?;
    sparse_of(&a.groups, a.values.elem(), merged(operation, a.sets()?, b.sets()?))
}

/// The results of all places of either operand. Places of both are in order; each is taken once.
fn merged<'a>(operation: Operation, a: Vec<(Vec<i64>, Set<'a>)>, b: Vec<(Vec<i64>, Set<'a>)>) -> Vec<(Vec<i64>, Set<'a>)> {
    let (mut left, mut right) = (a.into_iter().peekable(), b.into_iter().peekable());
    let mut sets = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((l, _)), Some((r, _))) => l.cmp(r),
        };
        let l = if order.is_le() { left.next() } else { None };
        let r = if order.is_ge() { right.next() } else { None };
        let at = l.as_ref().or(r.as_ref()).map(|(at, _)| at.clone()).unwrap_or_default();
        let set = |s: Option<(Vec<i64>, _)>| s.map(|(_, s)| s).unwrap_or_default();
        sets.push((at, operation.apply(set(l), set(r))));
    }
    sets
}

#[cfg(test)]
mod tests {
    use crate::Attr;
    use crate::testing::{run, t, v};

    #[test]
    fn operations_give_sorted_members_without_repetition() {
        let attrs = [("set_operation", Attr::Str(b"Union".to_vec())), ("validate_indices", Attr::Bool(true))];
        let out = run("DenseToDenseSetOperation", &attrs, &[t(&[1, 3], &[1i32, 2, 2]), t(&[1, 3], &[9i32, 2, 3])]).unwrap();
        assert_eq!(v::<i32>(&out[1]), [1, 2, 3, 9]);
        assert_eq!(v::<i64>(&out[2]), [1, 4]);
    }

    #[test]
    fn a_place_out_of_order_is_taken_where_it_comes() {
        let attrs = [("set_operation", Attr::Str(b"union".to_vec())), ("validate_indices", Attr::Bool(false))];
        let shape = || t(&[2], &[4i64, 2]);
        let a = [t(&[2, 2], &[3i64, 0, 0, 1]), t(&[2], &[1i32, 2]), shape()];
        let b = [t(&[2, 2], &[0i64, 0, 1, 1]), t(&[2], &[1i32, 8]), shape()];
        let out = run("SparseToSparseSetOperation", &attrs, &[a, b].concat()).unwrap();
        assert_eq!(v::<i64>(&out[0]), [0, 0, 1, 0, 3, 0, 0, 0]);
        assert_eq!(v::<i32>(&out[1]), [1, 8, 1, 2]);
    }
}

//! Slices of partitioned variables: their text form in graphs, their keys in the index, and copying between them.

use crate::proto::TensorSliceProto;
use crate::proto::tensor_slice_proto::extent::HasLength;

/// A box in a tensor: start and length of each dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub start: Vec<usize>,
    pub length: Vec<usize>,
}

impl Slice {
    /// The whole of a shape.
    pub fn whole(shape: &[usize]) -> Slice {
        Slice { start: vec![0; shape.len()], length: shape.to_vec() }
    }

    /// Resolves a stored slice against the full shape. None if it does not lie inside.
    pub(crate) fn from_proto(proto: &TensorSliceProto, shape: &[usize]) -> Option<Slice> {
        if proto.extent.len() != shape.len() {
            return None;
        }
        let mut slice = Slice::whole(shape);
        for (d, extent) in proto.extent.iter().enumerate() {
            if let Some(HasLength::Length(length)) = extent.has_length {
                slice.start[d] = usize::try_from(extent.start).ok()?;
                slice.length[d] = usize::try_from(length).ok()?;
            }
        }
        slice.lies_in(shape).then_some(slice)
    }

    /// Parses the `shape_and_slices` string of a restore op: full shape and extents, `"10 4 0,5:-"`. Gives the full shape too.
    pub fn parse(spec: &str) -> Option<(Vec<usize>, Slice)> {
        let mut words: Vec<&str> = spec.split(' ').collect();
        let extents = words.pop()?;
        let shape = words.iter().map(|w| w.parse().ok()).collect::<Option<Vec<usize>>>()?;
        let extents: Vec<&str> = extents.split(':').collect();
        if extents.len() != shape.len() {
            return None;
        }
        let mut slice = Slice::whole(&shape);
        for (d, extent) in extents.iter().enumerate().filter(|(_, e)| **e != "-") {
            let (start, length) = extent.split_once(',')?;
            slice.start[d] = start.parse().ok()?;
            slice.length[d] = length.parse().ok()?;
        }
        slice.lies_in(&shape).then_some((shape, slice))
    }

    fn lies_in(&self, shape: &[usize]) -> bool {
        let ends = self.start.iter().zip(&self.length).map(|(s, l)| s.checked_add(*l));
        ends.zip(shape).all(|(end, dim)| end.is_some_and(|e| e <= *dim))
    }

    /// Whether the slice is all of a tensor of this shape.
    pub fn is_whole(&self, shape: &[usize]) -> bool {
        self.length == shape
    }

    /// The part that two slices of one tensor share.
    pub(crate) fn intersect(&self, other: &Slice) -> Option<Slice> {
        let mut out = self.clone();
        for d in 0..self.start.len() {
            let start = self.start[d].max(*other.start.get(d)?);
            let end = (self.start[d] + self.length[d]).min(other.start[d] + *other.length.get(d)?);
            out.start[d] = start;
            out.length[d] = end.checked_sub(start).filter(|&n| n > 0)?;
        }
        Some(out)
    }

    /// Number of elements, saturating.
    pub(crate) fn elements(&self) -> usize {
        self.length.iter().fold(1, |n, &d| n.saturating_mul(d))
    }

    /// The key under which an index stores the slice of a tensor.
    pub(crate) fn key(tensor: &str, proto: &TensorSliceProto) -> Vec<u8> {
        let mut key = Vec::new();
        unsigned(0, &mut key);
        string(tensor.as_bytes(), &mut key);
        unsigned(proto.extent.len() as u64, &mut key);
        for extent in &proto.extent {
            let (start, length) = match extent.has_length {
                Some(HasLength::Length(length)) => (extent.start, length),
                None => (0, -1),
            };
            signed(start, &mut key);
            signed(length, &mut key);
        }
        key
    }
}

/// Copies what two slices of one tensor share, from the elements of `from` into those of `to`.
pub(crate) fn copy_shared(from: &Slice, source: &[u8], to: &Slice, target: &mut [u8], element: usize) -> Option<()> {
    let Some(shared) = from.intersect(to) else { return Some(()) };
    let rank = shared.start.len();
    // Rows of the last dimension are contiguous in both.
    let row = shared.length.last().copied().unwrap_or(1).checked_mul(element)?;
    let rows = shared.length[..rank.saturating_sub(1)].iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let mut position = vec![0usize; rank];
    let offset = |slice: &Slice, position: &[usize]| -> Option<usize> {
        let mut flat = 0usize;
        for (d, at) in position.iter().enumerate() {
            flat = flat.checked_mul(slice.length[d])?.checked_add(shared.start[d] + at - slice.start[d])?;
        }
        flat.checked_mul(element)
    };
    for _ in 0..rows {
        let (s, t) = (offset(from, &position)?, offset(to, &position)?);
        target.get_mut(t..t.checked_add(row)?)?.copy_from_slice(source.get(s..s.checked_add(row)?)?);
        for d in (0..rank.saturating_sub(1)).rev() {
            position[d] += 1;
            if position[d] < shared.length[d] {
                break;
            }
            position[d] = 0;
        }
    }
    Some(())
}

/// Order-preserving encoding of an unsigned number: its length in bytes, then its bytes, most significant first.
fn unsigned(value: u64, out: &mut Vec<u8>) {
    let skip = value.leading_zeros() as usize / 8;
    out.push(8 - skip as u8);
    out.extend_from_slice(&value.to_be_bytes()[skip..]);
}

/// Order-preserving encoding of a string: 00 and FF escaped, 00 01 at the end.
fn string(value: &[u8], out: &mut Vec<u8>) {
    for &b in value {
        match b {
            0x00 => out.extend_from_slice(&[0x00, 0xff]),
            0xff => out.extend_from_slice(&[0xff, 0x00]),
            b => out.push(b),
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

/// Order-preserving encoding of a signed number: the length in unary in the leading bits, complemented for negative numbers.
fn signed(value: i64, out: &mut Vec<u8>) {
    let magnitude = if value < 0 { !value } else { value } as u64;
    let bits = 64 - magnitude.leading_zeros() as usize;
    let len = bits / 7 + 1;
    let mut buffer = [if value < 0 { 0xff } else { 0 }; 10];
    buffer[2..].copy_from_slice(&value.to_be_bytes());
    let header: [u8; 2] = match len {
        1..=8 => [0xffu8 << (8 - len), 0],
        9 => [0xff, 0x80],
        _ => [0xff, 0xc0],
    };
    let start = buffer.len() - len;
    buffer[start] ^= header[0];
    if len > 1 {
        buffer[start + 1] ^= header[1];
    }
    out.extend_from_slice(&buffer[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_parse() {
        let (shape, slice) = Slice::parse("10 4 0,5:-").unwrap();
        assert_eq!((shape, slice.start, slice.length), (vec![10, 4], vec![0, 0], vec![5, 4]));
        for bad in ["", "10 0,11", "10 4 0,5", "x -", "10 0,18446744073709551615", "10 1"] {
            assert!(Slice::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_their_order() {
        let encode = |v: i64| {
            let mut out = Vec::new();
            signed(v, &mut out);
            out
        };
        assert_eq!(encode(0), [0x80]);
        assert_eq!(encode(-1), [0x7f]);
        assert_eq!(encode(64), [0xc0, 0x40]);
        let values = [i64::MIN, -100_000, -65, -64, -1, 0, 1, 63, 64, 8191, 8192, 1 << 40, i64::MAX];
        assert!(values.windows(2).all(|w| encode(w[0]) < encode(w[1])));
    }

    #[test]
    fn shared_parts_are_copied() {
        // Columns 1..3 of a 2x4 tensor, from its two rows.
        let to = Slice { start: vec![0, 1], length: vec![2, 2] };
        let mut out = [0u8; 4];
        for (row, data) in [[0u8, 1, 2, 3], [4, 5, 6, 7]].iter().enumerate() {
            let from = Slice { start: vec![row, 0], length: vec![1, 4] };
            copy_shared(&from, data, &to, &mut out, 1).unwrap();
        }
        assert_eq!(out, [1, 2, 5, 6]);
    }
}

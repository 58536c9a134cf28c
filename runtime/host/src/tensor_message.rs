//! Tensors in the wire form of the `TensorProto` message.

use crate::limits::count_of;
use graphc_ir::{Elem, Tensor};

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// A field of bytes.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// TensorFlow's number of an element type; 0 for what no message holds.
pub fn number_of(elem: Elem) -> u64 {
    if matches!(elem, Elem::Resource | Elem::Variant) { 0 } else { elem.number() as u64 }
}

/// The element type with TensorFlow's number.
pub fn elem_of(number: u64) -> Option<Elem> {
    Elem::from_number(i32::try_from(number).ok()?).filter(|e| number_of(*e) > 0)
}

/// A `TensorShapeProto`.
pub fn encode_shape(shape: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    for &d in shape {
        let mut dim = Vec::new();
        if d > 0 {
            put_varint(&mut dim, 1 << 3);
            put_varint(&mut dim, d as u64);
        }
        put_bytes(&mut out, 2, &dim);
    }
    out
}

/// Type and shape.
fn header(t: &Tensor) -> Vec<u8> {
    let mut out = Vec::new();
    if let n @ 1.. = number_of(t.elem()) {
        put_varint(&mut out, 1 << 3);
        put_varint(&mut out, n);
    }
    put_bytes(&mut out, 2, &encode_shape(t.shape()));
    out
}

/// The message, with strings in `string_val` and other elements in `tensor_content`.
pub fn encode_with_string_values(t: &Tensor) -> Vec<u8> {
    let Some(strings) = t.strings() else { return encode(t) };
    let mut out = header(t);
    strings.iter().for_each(|s| put_bytes(&mut out, 8, s));
    out
}

/// The message, with the elements in `tensor_content`.
pub fn encode(t: &Tensor) -> Vec<u8> {
    let mut out = header(t);
    let content = match t.strings() {
        Some(s) => {
            let mut content = Vec::new();
            s.iter().for_each(|s| put_varint(&mut content, s.len() as u64));
            s.iter().for_each(|s| content.extend_from_slice(s));
            content
        }
        None => t.bytes().to_vec(),
    };
    if !content.is_empty() {
        put_bytes(&mut out, 4, &content);
    }
    out
}

/// One field of a message.
enum Field<'a> {
    /// A varint or fixed number, as bits.
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads the fields of a message in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut v = 0;
        for shift in (0..64).step_by(7) {
            let (&b, rest) = self.0.split_first()?;
            self.0 = rest;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Some(v);
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    /// The next field's number and value; the outer None is a malformed message, the inner one its end.
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.varint()?;
        let fixed = |b: &[u8]| b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
        let value = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Number(fixed(self.take(8)?)),
            2 => {
                let n = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(n)?)
            }
            5 => Field::Number(fixed(self.take(4)?)),
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }
}

/// The tensor in a message; None if it is malformed.
pub fn decode(message: &[u8]) -> Option<Tensor> {
    let mut elem = None;
    let mut shape = Vec::new();
    let mut content: &[u8] = &[];
    let mut strings: Vec<Box<[u8]>> = Vec::new();
    // The typed values as little endian bits of what the field holds.
    let mut values: Vec<u64> = Vec::new();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Field::Number(n)) => elem = Some(elem_of(n)?),
            (2, Field::Bytes(b)) => shape = read_shape(b)?,
            (4, Field::Bytes(b)) => content = b,
            (8, Field::Bytes(b)) => strings.push(b.into()),
            (5..=7 | 9..=13 | 16 | 17, Field::Number(n)) => values.push(n),
            (field @ (5..=7 | 9..=13 | 16 | 17), Field::Bytes(b)) => {
                let width = match field {
                    5 | 9 => 4,
                    6 | 12 => 8,
                    _ => 0,
                };
                let mut packed = Fields(b);
                while !packed.0.is_empty() {
                    values.push(match width {
                        0 => packed.varint()?,
                        n => packed.take(n)?.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)),
                    });
                }
            }
            _ => {}
        }
    }
    let elem = elem?;
    let n = count_of(elem, &shape).ok()?;
    if elem == Elem::Str {
        if !content.is_empty() {
            strings = decode_strings(content, n)?;
        }
        let last = strings.last().cloned().unwrap_or_default();
        strings.resize(n, last);
        return Tensor::from_strings(&shape, strings);
    }
    if !content.is_empty() || n == 0 {
        return Tensor::from_bytes(elem, shape, content.to_vec());
    }
    let part = elem.part().size();
    let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(part)).collect();
    let last: Vec<u8> = match bytes.len().checked_sub(elem.size()) {
        Some(start) => bytes.get(start..)?.to_vec(),
        None => vec![0; elem.size()],
    };
    bytes.truncate(n * elem.size());
    while bytes.len() < n * elem.size() {
        bytes.extend_from_slice(&last);
    }
    Tensor::from_bytes(elem, shape, bytes)
}

/// The shape in a `TensorShapeProto`; None if it is malformed or not known.
pub fn read_shape(message: &[u8]) -> Option<Vec<usize>> {
    let mut shape = Vec::new();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (2, Field::Bytes(b)) => {
                let mut size = 0;
                let mut dim = Fields(b);
                while let Some((field, value)) = dim.next()? {
                    if let (1, Field::Number(n)) = (field, value) {
                        size = usize::try_from(n as i64).ok()?;
                    }
                }
                shape.push(size);
            }
            (3, Field::Number(1)) => return None,
            _ => {}
        }
    }
    Some(shape)
}

/// All lengths, then all strings.
fn decode_strings(content: &[u8], n: usize) -> Option<Vec<Box<[u8]>>> {
    let mut fields = Fields(content);
    let mut lengths = Vec::new();
    for _ in 0..n {
        lengths.push(usize::try_from(fields.varint()?).ok()?);
    }
    let strings = lengths.into_iter().map(|n| fields.take(n).map(Box::from)).collect::<Option<_>>()?;
    fields.0.is_empty().then_some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{strings_of, tensor_of};

    #[test]
    fn messages_are_as_tensorflow_writes_them() {
        let t = tensor_of(&[1, 2], &[0i64, 300]).unwrap();
        let m = encode(&t);
        assert_eq!(
            m,
            b"\x08\t\x12\x08\x12\x02\x08\x01\x12\x02\x08\x02\"\x10\x00\x00\x00\x00\x00\x00\x00\x00,\x01\x00\x00\x00\x00\x00\x00"
        );
        assert_eq!(decode(&m), Some(t));
        let s = strings_of(&[1], vec![b"abc".as_slice().into()]).unwrap();
        assert_eq!(encode(&s), b"\x08\x07\x12\x04\x12\x02\x08\x01\"\x04\x03abc");
        assert_eq!(decode(&encode(&s)), Some(s));
    }

    #[test]
    fn the_last_value_repeats_and_garbage_is_refused() {
        let m = b"\x08\x03\x12\x04\x12\x02\x08\x03\x3a\x02\x05\x07";
        assert_eq!(decode(m), tensor_of(&[3], &[5i32, 7, 7]).ok());
        assert_eq!(decode(b"a"), None);
        assert_eq!(decode(b""), None);
    }
}

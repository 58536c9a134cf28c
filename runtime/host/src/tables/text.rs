//! Keys and values from the lines of a text file.

use crate::Result;
use crate::call::{Call, strings_of, tensor_of};
use crate::error::{HostError, invalid, out_of_range};
use crate::strings::number::{parse_float, parse_int};
use graphc_ir::{Elem, Scalar, Tensor};

/// What of a line is meant.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Line,
    Number,
    Column(usize),
}

impl Part {
    fn of(index: i64, what: &str) -> Result<Part> {
        match index {
            -2 => Ok(Part::Line),
            -1 => Ok(Part::Number),
            0.. => Ok(Part::Column(index as usize)),
            _ => Err(invalid(format!("{what} must be at least -2, and is {index}"))),
        }
    }

    fn check(self, elem: Elem, what: &str) -> Result<()> {
        match (self, elem) {
            (Part::Number, Elem::I64) => Ok(()),
            (Part::Number, e) => {
                Err(invalid(format!("{what} index for line number requires table {what} dtype of int64, got {e}")))
            }
            (_, Elem::I32 | Elem::I64 | Elem::F32 | Elem::F64 | Elem::Str) => Ok(()),
            (_, e) => Err(invalid(format!("{what}s of type {e} cannot be read from a file"))),
        }
    }
}

/// The keys and values that attributes of the node choose from the file in its second operand.
pub fn read(call: &Call, key: Elem, value: Elem) -> Result<(Tensor, Tensor)> {
    let keys = Part::of(call.attrs.int("key_index")?, "key_index")?;
    let values = Part::of(call.attrs.int("value_index")?, "value_index")?;
    let [delimiter] = call.attrs.bytes("delimiter")?[..] else { return Err(invalid("delimiter should be only 1 char")) };
    let size = call.attrs.int("vocab_size")?;
    let offset = call.attrs.int("offset").unwrap_or(0);
    if call.tensor(1)?.rank() > 0 && call.tensor(1)?.len() != 1 {
        return Err(invalid(format!("filename should be a single string, but got shape {:?}", call.tensor(1)?.shape())));
    }
    let name = call.string(1)?;
    if name.is_empty() {
        return Err(invalid("filename cannot be empty"));
    }
    keys.check(key, "key")?;
    values.check(value, "value")?;
    let path = String::from_utf8_lossy(name);
    let text: Vec<u8> = call.contents(name)?.iter().copied().filter(|&b| b != b'\r').collect();
    let lines = lines(&text, size, &path)?;
    let columns = [keys, values].iter().map(|p| if let Part::Column(k) = p { k + 1 } else { 0 }).max().unwrap_or(0);
    for (n, line) in lines.iter().enumerate() {
        let found = line.split(|&b| b == delimiter).count();
        if columns > found {
            return Err(invalid(format!("invalid number of columns in {path} line {n}: expected at least {columns} got {found}")));
        }
    }
    Ok((column(&lines, keys, key, delimiter, offset)?, column(&lines, values, value, delimiter, offset)?))
}

/// The lines of the file: `size` of them, all if that is -1.
fn lines<'a>(text: &'a [u8], size: i64, path: &str) -> Result<Vec<&'a [u8]>> {
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|l| l.is_empty()) {
        lines.pop();
    }
    if lines.is_empty() || size == 0 {
        return Err(out_of_range(format!("no line was read from {path}")));
    }
    if let Ok(size) = usize::try_from(size) {
        if lines.len() < size {
            return Err(invalid(format!("invalid vocab_size in {path}: expected {size} but got {}", lines.len())));
        }
        lines.truncate(size);
    }
    match lines.iter().position(|l| l.is_empty()) {
        Some(at) => Err(invalid(format!("invalid content in {path}: empty line found at position {at}"))),
        None => Ok(lines),
    }
}

fn column(lines: &[&[u8]], part: Part, elem: Elem, delimiter: u8, offset: i64) -> Result<Tensor> {
    if part == Part::Number {
        return tensor_of(&[lines.len()], &(0..lines.len() as i64).map(|n| n.wrapping_add(offset)).collect::<Vec<_>>());
    }
    let fields: Vec<&[u8]> = lines
        .iter()
        .map(|line| match part {
            Part::Column(k) => line.split(|&b| b == delimiter).nth(k).unwrap_or_default(),
            _ => line,
        })
        .collect();
    fn numbers<T: Scalar>(fields: &[&[u8]], parse: fn(&[u8]) -> Option<T>) -> Result<Tensor> {
        let parsed = fields.iter().enumerate().map(|(n, f)| {
            let bad = || invalid(format!("field {} in line {n} is not a valid {}", String::from_utf8_lossy(f), T::ELEM));
            parse(f).ok_or_else(bad)
        });
        tensor_of(&[fields.len()], &parsed.collect::<std::result::Result<Vec<T>, HostError>>()?)
    }
    match elem {
        Elem::I32 => numbers(&fields, parse_int::<i32>),
        Elem::I64 => numbers(&fields, parse_int::<i64>),
        Elem::F32 => numbers(&fields, parse_float::<f32>),
        Elem::F64 => numbers(&fields, parse_float::<f64>),
        _ => strings_of(&[fields.len()], fields.into_iter().map(Into::into).collect()),
    }
}

//! NumPy's npy and npz files. The crates for them need the standard library, which is larger than a small model's whole program.

use super::zip;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use graphc_abi::model::STRING;

/// An array of a file.
pub struct Array {
    pub name: String,
    /// Number in TensorFlow's `DataType`.
    pub dtype: usize,
    pub dims: Vec<i64>,
    /// Row-major, little-endian; none of strings.
    pub bytes: Vec<u8>,
    pub strings: Vec<Vec<u8>>,
}

/// NumPy's name of a type, its number in TensorFlow's `DataType`, and bytes of an element.
const TYPES: [(&str, usize, usize); 14] = [
    ("<f4", 1, 4),
    ("<f8", 2, 8),
    ("<i4", 3, 4),
    ("|u1", 4, 1),
    ("<i2", 5, 2),
    ("|i1", 6, 1),
    ("<c8", 8, 8),
    ("<i8", 9, 8),
    ("|b1", 10, 1),
    ("<u2", 17, 2),
    ("<c16", 18, 16),
    ("<f2", 19, 2),
    ("<u4", 22, 4),
    ("<u8", 23, 8),
];

const MAGIC: &[u8] = b"\x93NUMPY";

/// The arrays of a file, an npz or one npy, which is called `name`.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8], name: &str) -> Result<Vec<Array>, String> {
    if bytes.starts_with(MAGIC) {
        return Ok(Vec::from([parse(bytes, name)?]));
    }
    let members = zip::read(bytes)?;
    members.iter().map(|(name, content)| parse(content, name.strip_suffix(".npy").unwrap_or(name))).collect()
}

/// What follows a key of the header's dictionary.
fn value<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let at = header.find(key)? + key.len();
    Some(header.get(at..)?.trim_start_matches(['\'', ':', ' ']))
}

fn parse(bytes: &[u8], name: &str) -> Result<Array, String> {
    let bad = |what: &str| format!("array {name:?}: {what}");
    let length = match bytes.get(..12) {
        Some([b'\x93', b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..]) => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        Some([b'\x93', b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d]) => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => return Err(bad("no npy file")),
    };
    let data = length.0 + length.1;
    let header =
        bytes.get(length.0..data).and_then(|h| core::str::from_utf8(h).ok()).ok_or_else(|| bad("its header is cut off"))?;
    let descr = value(header, "descr").and_then(|v| v.split('\'').next()).unwrap_or("");
    let text = width(descr);
    let found = TYPES.iter().find(|(n, ..)| *n == descr || descr.strip_prefix('=').is_some_and(|d| n.ends_with(d)));
    let (dtype, size) = match (text, found) {
        (Some((width, _)), _) => (STRING, width),
        (None, Some(&(_, dtype, size))) => (dtype, size),
        (None, None) => return Err(bad(&format!("type {descr:?} cannot be fed"))),
    };
    if value(header, "fortran_order").is_none_or(|v| v.starts_with("True")) {
        return Err(bad("it is in Fortran's order; save it with numpy.ascontiguousarray"));
    }
    let shape =
        value(header, "shape").and_then(|v| v.strip_prefix('(')?.split(')').next()).ok_or_else(|| bad("it has no shape"))?;
    let mut dims = Vec::new();
    for d in shape.split(',').map(str::trim).filter(|d| !d.is_empty()) {
        dims.push(d.parse::<i64>().ok().filter(|&d| d >= 0).ok_or_else(|| bad("its shape is no shape"))?);
    }
    let len = dims.iter().try_fold(size, |n, &d| n.checked_mul(usize::try_from(d).ok()?)).ok_or_else(|| bad("it is too large"))?;
    let content = bytes.get(data..).and_then(|b| b.get(..len)).ok_or_else(|| bad("it is cut off"))?;
    let count = dims.iter().map(|&d| d as usize).product();
    let name = name.into();
    Ok(match text {
        Some((width, decode)) => {
            let piece = |k: usize| content.get(k * width..(k + 1) * width).unwrap_or_default();
            Array { name, dtype, dims, bytes: Vec::new(), strings: (0..count).map(|k| decode(piece(k))).collect() }
        }
        None => Array { name, dtype, dims, bytes: content.to_vec(), strings: Vec::new() },
    })
}

type Decode = fn(&[u8]) -> Vec<u8>;

/// Bytes of an element of a type of strings, and what makes a string of them.
fn width(descr: &str) -> Option<(usize, Decode)> {
    let (kind, count) = descr.split_at_checked(2)?;
    let count: usize = count.parse().ok()?;
    match kind {
        "|S" => Some((count, |s| s[..s.iter().rposition(|&b| b != 0).map_or(0, |k| k + 1)].to_vec())),
        // Little-endian UTF-32, padded with zeros.
        "<U" => Some((count.checked_mul(4)?, |s| {
            let code = |c: &[u8]| c.iter().rev().fold(0u32, |n, &b| n << 8 | u32::from(b));
            let text: String = s.chunks_exact(4).map(|c| char::from_u32(code(c)).unwrap_or('\u{fffd}')).collect();
            text.trim_end_matches('\0').as_bytes().to_vec()
        })),
        _ => None,
    }
}

/// An npz file of arrays.
///
/// # Errors
/// The first array whose type NumPy has no name for.
pub fn write(arrays: &[Array]) -> Result<Vec<u8>, String> {
    let mut members = Vec::new();
    for a in arrays {
        let longest = a.strings.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let descr = match TYPES.iter().find(|(_, dtype, _)| *dtype == a.dtype) {
            Some((descr, ..)) => String::from(*descr),
            None if a.dtype == STRING => format!("|S{longest}"),
            None => return Err(format!("output {:?} has a type that NumPy does not know", a.name)),
        };
        let dims: Vec<String> = a.dims.iter().map(|d| format!("{d}")).collect();
        let comma = if dims.len() == 1 { "," } else { "" };
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", dims.join(", "));
        // Data starts at a multiple of 64.
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut content = Vec::with_capacity(10 + header.len() + a.bytes.len());
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&[1, 0]);
        content.extend_from_slice(&(header.len() as u16).to_le_bytes());
        content.extend_from_slice(header.as_bytes());
        content.extend_from_slice(&a.bytes);
        for s in &a.strings {
            content.extend_from_slice(s);
            content.resize(content.len() + longest - s.len(), 0);
        }
        members.push((format!("{}.npy", a.name), content));
    }
    Ok(zip::write(&members))
}

//! Datasets of the records of files, and how records lie in them.

use super::{Cardinality, Context, Element, derived};
use crate::call::{Call, strings_of};
use crate::error::{HostError, invalid, not_found};
use crate::{Result, Table};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use graphc_ir::TfStatus;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub(crate) const TABLE: Table = &[
    ("TFRecordDataset", records),
    ("TFRecordDatasetV2", records),
    ("TextLineDataset", lines),
    ("FixedLengthRecordDataset", fixed),
    ("FixedLengthRecordDatasetV2", fixed),
];

/// The longest record that is read.
const LONGEST: u64 = 1 << 31;

pub(crate) type Reader = Box<dyn BufRead + Send>;

/// How a file is compressed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zlib,
}

impl Compression {
    fn of(call: &Call, k: usize) -> Result<Compression> {
        Compression::named(call.string(k)?)
    }

    pub(crate) fn named(name: &[u8]) -> Result<Compression> {
        match name {
            b"" => Ok(Compression::None),
            b"GZIP" => Ok(Compression::Gzip),
            b"ZLIB" => Ok(Compression::Zlib),
            other => Err(invalid(format!("unsupported compression_type {:?}", String::from_utf8_lossy(other)))),
        }
    }
}

pub(crate) fn failed(path: &Path, e: &std::io::Error) -> HostError {
    let message = format!("{}: {e}", path.display());
    match e.kind() {
        std::io::ErrorKind::NotFound => not_found(message),
        _ => HostError::new(TfStatus::DataLoss, message),
    }
}

pub(crate) fn open(path: &Path, compression: Compression) -> Result<Reader> {
    let file = File::open(path).map_err(|e| failed(path, &e))?;
    Ok(match compression {
        Compression::None => Box::new(BufReader::new(file)),
        Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(file))),
        Compression::Zlib => Box::new(BufReader::new(ZlibDecoder::new(file))),
    })
}

/// One record of a file; None at its end.
type ReadOne = fn(&mut Reader, &Layout) -> std::io::Result<Option<Vec<u8>>>;

/// Of files of records of one length.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Layout {
    pub header: u64,
    pub record: u64,
    pub footer: u64,
}

fn dataset(call: &Call, compression: Compression, layout: Layout, one: ReadOne) -> Result {
    let names = call.strings(0)?;
    let paths = names.iter().map(|n| call.readable(n)).collect::<Result<Vec<PathBuf>>>()?;
    derived(Cardinality::Unknown, move || {
        let mut left = paths.clone().into_iter();
        let mut current: Option<(PathBuf, Reader)> = None;
        move |_: Context| {
            loop {
                let Some((path, reader)) = &mut current else {
                    let Some(path) = left.next() else { return Ok(None) };
                    let mut reader = open(&path, compression)?;
                    if layout.record > 0 {
                        reader = trimmed(&path, reader, compression, layout, true)?;
                    }
                    current = Some((path, reader));
                    continue;
                };
                match one(reader, &layout).map_err(|e| failed(path, &e))? {
                    Some(record) => {
                        let element: Element = vec![strings_of(&[], vec![record.into()])?.into()];
                        return Ok(Some(element));
                    }
                    None => current = None,
                }
            }
        }
    })
}

/// The body of a file of records of one length, without its header and footer; if `whole_records`, nothing else may be in it.
pub(crate) fn trimmed(
    path: &Path,
    mut reader: Reader,
    compression: Compression,
    layout: Layout,
    whole_records: bool,
) -> Result<Reader> {
    let whole = match compression {
        Compression::None => std::fs::metadata(path).map_err(|e| failed(path, &e))?.len(),
        // Only reading tells the length; then it is read once more.
        _ => {
            let n = std::io::copy(&mut reader, &mut std::io::sink()).map_err(|e| failed(path, &e))?;
            reader = open(path, compression)?;
            n
        }
    };
    let body = whole.checked_sub(layout.header.saturating_add(layout.footer));
    let body = body.filter(|b| !whole_records || b % layout.record == 0);
    let body = body.ok_or_else(|| {
        let (record, header) = (layout.record, layout.header);
        invalid(format!("{}: {whole} bytes do not make a header of {header} and records of {record} bytes", path.display()))
    })?;
    std::io::copy(&mut (&mut reader).take(layout.header), &mut std::io::sink()).map_err(|e| failed(path, &e))?;
    Ok(Box::new(BufReader::new(reader.take(body))))
}

/// As many bytes as asked; None if the file ends before the first.
pub(crate) fn exactly(r: &mut Reader, n: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut v = Vec::new();
    let got = r.take(n).read_to_end(&mut v)? as u64;
    match got {
        0 if n > 0 => Ok(None),
        g if g == n => Ok(Some(v)),
        _ => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "truncated record")),
    }
}

fn number(b: &[u8]) -> u64 {
    b.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

/// The checksum that records carry.
fn checksum(data: &[u8]) -> u64 {
    let crc = crc32c(data);
    u64::from(crc.rotate_right(15).wrapping_add(0xa282_ead8))
}

fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, &b: &u8| (0..8).fold(crc ^ u32::from(b), |c, _| c >> 1 ^ if c & 1 == 1 { 0x82f6_3b78 } else { 0 });
    !data.iter().fold(!0, step)
}

pub(crate) fn record(r: &mut Reader, _: &Layout) -> std::io::Result<Option<Vec<u8>>> {
    let corrupt = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("corrupted record: {what}"));
    let Some(head) = exactly(r, 12)? else { return Ok(None) };
    let (len, sum) = head.split_at(8);
    if checksum(len) != number(sum) || number(len) > LONGEST {
        return Err(corrupt("its length"));
    }
    let data = exactly(r, number(len))?.ok_or_else(|| corrupt("truncated"))?;
    let sum = exactly(r, 4)?.ok_or_else(|| corrupt("truncated"))?;
    if checksum(&data) != number(&sum) { Err(corrupt("its data")) } else { Ok(Some(data)) }
}

fn records(call: &Call) -> Result {
    dataset(call, Compression::of(call, 1)?, Layout::default(), record)
}

pub(crate) fn line(r: &mut Reader, _: &Layout) -> std::io::Result<Option<Vec<u8>>> {
    let mut v = Vec::new();
    if r.take(LONGEST).read_until(b'\n', &mut v)? == 0 {
        return Ok(None);
    }
    if v.last() == Some(&b'\n') {
        v.pop();
        if v.last() == Some(&b'\r') {
            v.pop();
        }
    }
    Ok(Some(v))
}

fn lines(call: &Call) -> Result {
    dataset(call, Compression::of(call, 1)?, Layout::default(), line)
}

fn fixed(call: &Call) -> Result {
    let size = |k: usize, what: &str, least: i64| {
        let v = super::scalar(call, k, what)?;
        u64::try_from(v).ok().filter(|_| v >= least).ok_or_else(|| invalid(format!("{what} must be >= {least}")))
    };
    let layout =
        Layout { header: size(1, "header_bytes", 0)?, record: size(2, "record_bytes", 1)?, footer: size(3, "footer_bytes", 0)? };
    let compression = if call.op == "FixedLengthRecordDatasetV2" { Compression::of(call, 5)? } else { Compression::None };
    dataset(call, compression, layout, |r, layout| exactly(r, layout.record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_masked_crc() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let masked = 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(b"123456789"), u64::from(masked));
    }
}

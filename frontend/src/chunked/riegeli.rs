//! Reads the records of a Riegeli file: simple chunks, plain, brotli or snappy.
//!
//! The hashes of chunks are not checked; what is read is decoded and validated as untrusted bytes anyway.

use bytes::{Buf, Bytes};
use std::io::Read as _;

/// Each block of this many bytes starts with a header that interrupts whatever lies across it.
const BLOCK: usize = 1 << 16;
const BLOCK_HEADER: usize = 24;
const CHUNK_HEADER: usize = 40;

/// All records, or what is wrong. `max_bytes` bounds the records together.
pub(super) fn records(file: &Bytes, max_bytes: u64) -> Result<Vec<Bytes>, String> {
    let mut at = 0usize;
    let mut records = Vec::new();
    let mut budget = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    while at < file.len() {
        let start = at;
        let mut header = logical(file, &mut at, CHUNK_HEADER)?;
        header.advance(8);
        let data_size = usize::try_from(header.get_u64_le()).map_err(|_| "a chunk is too large")?;
        header.advance(8);
        let kind_and_count = header.get_u64_le();
        let (kind, count) = (kind_and_count as u8, usize::try_from(kind_and_count >> 8).map_err(|_| "too many records")?);
        let data = logical(file, &mut at, data_size)?;
        match kind {
            b'r' => simple_chunk(data, count, &mut budget, &mut records)?,
            b's' | b'm' | b'p' => {}
            b't' => return Err("it has transposed chunks, which cannot be read".into()),
            other => return Err(format!("chunk type {other} is unknown")),
        }
        // Every record has a position of its own, so a chunk takes at least as many bytes as it has records.
        let past_records = start.checked_add(count).ok_or("too many records")?;
        if past_records > at {
            at = past_records.max(past_records / BLOCK * BLOCK + if past_records % BLOCK == 0 { 0 } else { BLOCK_HEADER });
        }
    }
    Ok(records)
}

/// The next bytes of a chunk, without the block headers among them.
fn logical(file: &Bytes, at: &mut usize, mut len: usize) -> Result<Bytes, String> {
    let cut = || "a chunk is cut off".to_string();
    if len > file.len() {
        return Err(cut());
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    let mut out = Vec::new();
    loop {
        if at.is_multiple_of(BLOCK) {
            *at += BLOCK_HEADER;
        }
        let here = len.min(BLOCK - *at % BLOCK);
        let end = at.checked_add(here).filter(|e| *e <= file.len()).ok_or_else(cut)?;
        if out.is_empty() && here == len {
            let piece = file.slice(*at..end);
            *at = end;
            return Ok(piece);
        }
        out.extend_from_slice(&file[*at..end]);
        *at = end;
        len -= here;
        if len == 0 {
            return Ok(out.into());
        }
    }
}

fn simple_chunk(mut data: Bytes, count: usize, budget: &mut usize, records: &mut Vec<Bytes>) -> Result<(), String> {
    let compression = data.try_get_u8().map_err(|_| "a chunk is empty")?;
    let sizes_len = varint(&mut data)?;
    if sizes_len > data.len() {
        return Err("a chunk's record sizes are cut off".into());
    }
    let sizes = data.split_to(sizes_len);
    let mut sizes = decompress(compression, sizes, *budget)?;
    let mut values = decompress(compression, data, *budget)?;
    *budget = budget.checked_sub(values.len()).ok_or("its records take more than Limits::max_file_bytes")?;
    for _ in 0..count {
        let size = varint(&mut sizes)?;
        if size > values.len() {
            return Err("a record is cut off".into());
        }
        records.push(values.split_to(size));
    }
    if values.is_empty() { Ok(()) } else { Err("bytes follow the last record of a chunk".into()) }
}

fn varint(bytes: &mut Bytes) -> Result<usize, String> {
    let n = prost::encoding::decode_varint(bytes).map_err(|_| "a size is cut off")?;
    usize::try_from(n).map_err(|_| "a size is out of range".into())
}

/// Decompresses a buffer that starts with its decompressed size, unless it is plain.
fn decompress(compression: u8, mut data: Bytes, budget: usize) -> Result<Bytes, String> {
    if compression == 0 {
        return Ok(data);
    }
    let size = varint(&mut data)?;
    if size > budget {
        return Err("its records take more than Limits::max_file_bytes".into());
    }
    let out = match compression {
        b'b' => {
            // Grows with what is really decompressed, not with what the header claims.
            let mut out = Vec::new();
            let reader = brotli_decompressor::Decompressor::new(&data[..], 4096);
            reader.take(size as u64 + 1).read_to_end(&mut out).map_err(|e| format!("brotli: {e}"))?;
            out
        }
        b's' => {
            if snap::raw::decompress_len(&data).map_err(|e| format!("snappy: {e}"))? != size || size / 64 > data.len() {
                return Err("a snappy buffer claims an impossible size".into());
            }
            snap::raw::Decoder::new().decompress_vec(&data).map_err(|e| format!("snappy: {e}"))?
        }
        b'z' => return Err("it is compressed with zstd, which cannot be read".into()),
        other => return Err(format!("compression {other} is unknown")),
    };
    if out.len() == size { Ok(out.into()) } else { Err("a buffer decompresses to another size than it claims".into()) }
}

//! The sorted string table that a checkpoint index is: blocks of prefix-compressed entries, snappy or plain, each with a checksum.

use std::collections::BTreeMap;

const FOOTER: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Compression byte and checksum after each block.
const TRAILER: usize = 5;
/// Blocks are written at 256 KiB at most, apart from one oversized entry; this only stops absurd snappy headers.
const MAX_BLOCK: usize = 1 << 30;

/// TensorFlow's masked form of a CRC-32C, stored wherever the checksum lies among the data that it covers.
pub(crate) fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// All entries of a table, or what is wrong with it.
pub(crate) fn read(table: &[u8], max_entries: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let footer_at = table.len().checked_sub(FOOTER).ok_or("it is shorter than a footer")?;
    let footer = &table[footer_at..];
    let (handles, magic) = footer.split_at(FOOTER - 8);
    if magic != MAGIC.to_le_bytes() {
        return Err("the magic number at its end is missing".into());
    }
    let mut rest = handles;
    let _metaindex = handle(&mut rest)?;
    let index = handle(&mut rest)?;
    let mut entries = BTreeMap::new();
    let mut bytes = 0usize;
    let mut blocks = Vec::new();
    block_entries(&block(table, index)?, &mut |_, value| {
        let mut value = value;
        blocks.push(handle(&mut value)?);
        if blocks.len() > max_entries { Err("more blocks than Limits::max_checkpoint_entries".into()) } else { Ok(()) }
    })?;
    for at in blocks {
        block_entries(&block(table, at)?, &mut |key, value| {
            bytes = bytes.saturating_add(key.len() + value.len());
            if bytes > MAX_BLOCK {
                return Err("its entries take more than 1 GiB".into());
            }
            entries.insert(key.to_vec(), value.to_vec());
            if entries.len() > max_entries { Err("more entries than Limits::max_checkpoint_entries".into()) } else { Ok(()) }
        })?;
    }
    Ok(entries)
}

/// Offset and size of a block.
fn handle(rest: &mut &[u8]) -> Result<(usize, usize), String> {
    let mut number = || -> Result<usize, String> {
        let n = prost::encoding::decode_varint(rest).map_err(|_| "a block handle is cut off")?;
        usize::try_from(n).map_err(|_| "a block handle is out of range".into())
    };
    Ok((number()?, number()?))
}

/// The contents of a block, checked and decompressed.
fn block(table: &[u8], (offset, size): (usize, usize)) -> Result<Vec<u8>, String> {
    let end = offset.checked_add(size).and_then(|e| e.checked_add(TRAILER));
    let whole = end.and_then(|end| table.get(offset..end)).ok_or("a block lies outside the file")?;
    let (data, trailer) = whole.split_at(size);
    let stored = u32::from_le_bytes([trailer[1], trailer[2], trailer[3], trailer[4]]);
    if mask(crc32c::crc32c(&whole[..=size])) != stored {
        return Err("the checksum of a block does not match".into());
    }
    match trailer[0] {
        0 => Ok(data.to_vec()),
        1 => {
            let len = snap::raw::decompress_len(data).map_err(|e| format!("snappy: {e}"))?;
            // Snappy cannot expand more than about 21 times.
            if len > MAX_BLOCK || len / 64 > data.len() {
                return Err("a snappy block claims an impossible size".into());
            }
            snap::raw::Decoder::new().decompress_vec(data).map_err(|e| format!("snappy: {e}"))
        }
        other => Err(format!("block compression {other} is unknown")),
    }
}

/// Calls `each` with every key and value of a block.
fn block_entries(block: &[u8], each: &mut impl FnMut(&[u8], &[u8]) -> Result<(), String>) -> Result<(), String> {
    let tail = block.len().checked_sub(4).ok_or("a block is too short")?;
    let restarts = u32::from_le_bytes([block[tail], block[tail + 1], block[tail + 2], block[tail + 3]]) as usize;
    let end = restarts.checked_mul(4).and_then(|n| tail.checked_sub(n)).ok_or("a block has an impossible number of restarts")?;
    let mut rest = &block[..end];
    let mut key = Vec::new();
    while !rest.is_empty() {
        let mut number = || -> Result<usize, String> {
            let n = prost::encoding::decode_varint(&mut rest).map_err(|_| "an entry is cut off")?;
            usize::try_from(n).map_err(|_| "an entry length is out of range".into())
        };
        let (shared, unshared, value_len) = (number()?, number()?, number()?);
        if shared > key.len() {
            return Err("an entry shares more of its key than there is".into());
        }
        let (suffix, tail) = rest.split_at_checked(unshared).ok_or("an entry's key is cut off")?;
        let (value, tail) = tail.split_at_checked(value_len).ok_or("an entry's value is cut off")?;
        key.truncate(shared);
        key.extend_from_slice(suffix);
        rest = tail;
        each(&key, value)?;
    }
    Ok(())
}

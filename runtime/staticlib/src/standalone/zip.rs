//! Zip archives as NumPy makes them: stored or deflated members, read through the directory at the end.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

fn u16_at(b: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?)))
}

fn u32_at(b: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?) as usize)
}

const LOCAL: u32 = 0x0403_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;

/// Names and contents of the members.
///
/// # Errors
/// What is wrong with the file.
pub fn read(b: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let end = (0..b.len().saturating_sub(21)).rev().take(1 << 16).find(|&at| u32_at(b, at) == Some(END as usize));
    let end = end.ok_or("neither an npy nor an npz file")?;
    let cut = || String::from("the npz file is cut off");
    let count = u16_at(b, end + 10).ok_or_else(cut)?;
    let mut at = u32_at(b, end + 16).ok_or_else(cut)?;
    let mut members = Vec::new();
    for _ in 0..count {
        let entry = Entry::at(b, at).ok_or_else(cut)?;
        at = entry.next;
        let content = entry.content()?;
        members.push((entry.name, content));
    }
    Ok(members)
}

/// A member as the directory has it.
struct Entry<'b> {
    name: String,
    method: usize,
    crc: usize,
    size: usize,
    packed: &'b [u8],
    /// Where the next entry is.
    next: usize,
}

impl<'b> Entry<'b> {
    /// The entry at `at`; `None` if the file is too short.
    fn at(b: &'b [u8], at: usize) -> Option<Entry<'b>> {
        if u32_at(b, at)? != ENTRY as usize {
            return None;
        }
        let (method, crc) = (u16_at(b, at + 10)?, u32_at(b, at + 16)?);
        let (packed, size) = (u32_at(b, at + 20)?, u32_at(b, at + 24)?);
        let (name_len, extra, comment) = (u16_at(b, at + 28)?, u16_at(b, at + 30)?, u16_at(b, at + 32)?);
        let name = String::from_utf8_lossy(b.get(at + 46..at + 46 + name_len)?).into_owned();
        let local = u32_at(b, at + 42)?;
        let data = local + 30 + u16_at(b, local + 26)? + u16_at(b, local + 28)?;
        let packed = b.get(data..data.checked_add(packed)?)?;
        Some(Entry { name, method, crc, size, packed, next: at + 46 + name_len + extra + comment })
    }

    fn content(&self) -> Result<Vec<u8>, String> {
        let name = &self.name;
        let damaged = || format!("{name:?} in the npz file is damaged");
        let content = match self.method {
            0 => self.packed.to_vec(),
            8 => miniz_oxide::inflate::decompress_to_vec_with_limit(self.packed, self.size).map_err(|_| damaged())?,
            _ => return Err(format!("{name:?} in the npz file is compressed in a way that NumPy does not use")),
        };
        if content.len() == self.size && crc32(&content) as usize == self.crc { Ok(content) } else { Err(damaged()) }
    }
}

/// An archive of stored members.
pub fn write(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let at = out.len() as u32;
        // Version 2.0, no flags, stored, the first of January 1980.
        let mut common = Vec::new();
        for word in [20u16, 0, 0, 0, 0x21] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        for word in [crc32(content), content.len() as u32, content.len() as u32] {
            common.extend_from_slice(&word.to_le_bytes());
        }
        common.extend_from_slice(&(name.len() as u16).to_le_bytes());
        out.extend_from_slice(&LOCAL.to_le_bytes());
        out.extend_from_slice(&common);
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(content);
        directory.extend_from_slice(&ENTRY.to_le_bytes());
        directory.extend_from_slice(&20u16.to_le_bytes());
        directory.extend_from_slice(&common);
        // No extra field, comment, disk or attributes.
        directory.extend_from_slice(&[0; 12]);
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (start, count) = (out.len() as u32, members.len() as u16);
    out.extend_from_slice(&directory);
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}

/// The checksum of zip archives.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &b in bytes {
        crc ^= u32::from(b);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let members = [("x.npy".to_owned(), vec![1, 2, 3]), ("in/y.npy".to_owned(), Vec::new())];
        let file = write(&members);
        assert_eq!(read(&file).unwrap(), members);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        for cut in 0..file.len() {
            assert!(read(&file[..cut]).is_err(), "{cut}");
        }
    }
}

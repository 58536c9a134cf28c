//! Files through the C library.

use alloc::vec::Vec;
use core::ffi::{CStr, c_int};
use core::ptr;

/// An open file.
pub struct File(c_int);

/// A file in memory, for reading.
pub struct Mapped {
    start: *mut u8,
    len: usize,
}

impl File {
    pub fn open(path: &CStr) -> Option<File> {
        // SAFETY: a path that ends with a zero byte.
        let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        (file >= 0).then_some(File(file))
    }

    /// A new file, or an old one emptied.
    pub fn create(path: &CStr) -> Option<File> {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        // SAFETY: as above.
        let file = unsafe { libc::open(path.as_ptr(), flags, 0o666 as libc::c_uint) };
        (file >= 0).then_some(File(file))
    }

    fn len(&self) -> Option<usize> {
        // SAFETY: the structure is plain numbers, which the call fills.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: an open file.
        let ok = unsafe { libc::fstat(self.0, &mut stat) } == 0;
        ok.then(|| usize::try_from(stat.st_size).ok())?
    }

    pub fn read_all(&self) -> Option<Vec<u8>> {
        let len = self.len()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0);
        let mut at = 0;
        while at < len {
            // SAFETY: the rest of `bytes`.
            let n = unsafe { libc::read(self.0, bytes[at..].as_mut_ptr().cast(), len - at) };
            match usize::try_from(n) {
                Ok(0) | Err(_) => return None,
                Ok(n) => at += n,
            }
        }
        Some(bytes)
    }

    /// Whether all was written.
    pub fn write_all(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            // SAFETY: bytes that are there.
            let n = unsafe { libc::write(self.0, bytes.as_ptr().cast(), bytes.len()) };
            match usize::try_from(n) {
                Ok(0) | Err(_) => return false,
                Ok(n) => bytes = &bytes[n..],
            }
        }
        true
    }

    pub fn map(&self) -> Option<Mapped> {
        let len = self.len().filter(|&n| n > 0)?;
        // SAFETY: a new mapping, which nothing else refers to.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, self.0, 0) };
        (start != libc::MAP_FAILED).then(|| Mapped { start: start.cast(), len })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: opened by this.
        unsafe { libc::close(self.0) };
    }
}

impl Mapped {
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as this lives.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `File::map`.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

//! Kernels in a folder of files, for the next process.
//!
//! A file holds one kernel: a line for each fact of it, its key, then its code. Its name is a hash of the key and of the build that made
//! it; a file that does not say the same key is not read. Files are written beside and renamed, so that readers see a whole one or none.

use crate::code::{Binding, Code};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

const MAGIC: &str = "graphc kernel 1";
/// Largest file that is read.
const MOST: u64 = 64 << 20;

/// A folder of kernels.
#[derive(Clone, Debug)]
pub struct KernelCache {
    folder: PathBuf,
    /// What made them: kernels of another build are not read.
    origin: String,
}

impl KernelCache {
    pub fn new(folder: &Path, origin: String) -> KernelCache {
        KernelCache { folder: folder.to_owned(), origin }
    }

    fn file(&self, key: &str) -> PathBuf {
        let hash = |salt: u8| {
            let mut h = DefaultHasher::new();
            (salt, &self.origin, key).hash(&mut h);
            h.finish()
        };
        self.folder.join(format!("{:016x}{:016x}.kernel", hash(0), hash(1)))
    }

    /// The kernel of that key, if it is there and whole.
    pub fn load(&self, key: &str) -> Option<Code> {
        let path = self.file(key);
        if path.metadata().ok()?.len() > MOST {
            return None;
        }
        let file = std::fs::read(path).ok()?;
        let head = self.head(key);
        let mut rest = file.strip_prefix(head.as_bytes())?;
        let mut line = || {
            let end = rest.iter().position(|&b| b == b'\n')?;
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            std::str::from_utf8(line).ok()
        };
        let entry = line()?.to_owned();
        let threads = line()?.parse().ok()?;
        let bindings = line()?.split_whitespace().map(binding).collect::<Option<Vec<_>>>()?;
        let (size, check): (usize, u32) = (line()?.parse().ok()?, line()?.parse().ok()?);
        (rest.len() == size && sum(rest) == check).then(|| Code { bytes: rest.to_vec(), entry, bindings, threads })
    }

    /// Keeps a kernel; one that cannot be written is made again.
    pub fn save(&self, key: &str, code: &Code) {
        let mut head = self.head(key);
        let bindings: Vec<String> = code.bindings.iter().map(text).collect();
        // Writing to memory does not fail.
        let _ =
            write!(head, "{}\n{}\n{}\n{}\n{}\n", code.entry, code.threads, bindings.join(" "), code.bytes.len(), sum(&code.bytes));
        let path = self.file(key);
        let beside = path.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(&beside, [head.as_bytes(), &code.bytes].concat()))
            .and_then(|()| std::fs::rename(&beside, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
    }

    fn head(&self, key: &str) -> String {
        format!("{MAGIC}\n{}\n{}\n{}\n{key}\n", self.origin.len(), self.origin, key.len())
    }
}

fn text(b: &Binding) -> String {
    match b {
        Binding::Buffer(k) => k.to_string(),
        Binding::Params => "params".into(),
        Binding::Status => "status".into(),
    }
}

fn binding(text: &str) -> Option<Binding> {
    Some(match text {
        "params" => Binding::Params,
        "status" => Binding::Status,
        k => Binding::Buffer(k.parse().ok()?),
    })
}

/// A checksum (FNV-1a) against files that were cut or changed.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |h, &b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_come_back_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("graphc-kernels-{}", std::process::id()));
        let cache = KernelCache::new(&folder, "this build".into());
        let bindings = vec![Binding::Params, Binding::Buffer(1), Binding::Buffer(0), Binding::Status];
        let code = Code { bytes: vec![3, 2, 35, 7, b'\n', 0], entry: "loop".into(), bindings, threads: 128 };
        assert!(cache.load("a key\nof two lines").is_none());
        cache.save("a key\nof two lines", &code);
        let back = cache.load("a key\nof two lines").unwrap();
        assert_eq!(
            (back.bytes, back.entry, back.bindings, back.threads),
            (code.bytes.clone(), "loop".into(), code.bindings.clone(), 128)
        );
        assert!(KernelCache::new(&folder, "another build".into()).load("a key\nof two lines").is_none());
        let path = cache.file("a key\nof two lines");
        let mut file = std::fs::read(&path).unwrap();
        *file.last_mut().unwrap() ^= 1;
        std::fs::write(&path, file).unwrap();
        assert!(cache.load("a key\nof two lines").is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

//! Kernels in a folder of files, for the next process.
//!
//! A file holds one kernel: a line for each fact of it, its key, then its code. Its name is a hash of the key and of the build that made
//! it; a file that does not say the same key is not read. Files are written beside and renamed, so that readers see a whole one or none.

use crate::code::{Binding, Code, Int, TensorMap};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

const MAGIC: &str = "graphc kernel 2";
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
        let shared = line()?.parse().ok()?;
        let bindings = line()?.split_whitespace().map(binding).collect::<Option<Vec<_>>>()?;
        let (size, check): (usize, u32) = (line()?.parse().ok()?, line()?.parse().ok()?);
        (rest.len() == size && sum(rest) == check).then(|| Code { bytes: rest.to_vec(), entry, bindings, threads, shared })
    }

    /// Keeps a kernel; one that cannot be written is made again.
    pub fn save(&self, key: &str, code: &Code) {
        let mut head = self.head(key);
        let bindings: Vec<String> = code.bindings.iter().map(text).collect();
        // Writing to memory does not fail.
        let (bindings, sizes) = (bindings.join(" "), (code.bytes.len(), sum(&code.bytes)));
        let _ = write!(head, "{}\n{}\n{}\n{bindings}\n{}\n{}\n", code.entry, code.threads, code.shared, sizes.0, sizes.1);
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
        Binding::Map(m) => {
            let ints = |list: &[Int]| list.iter().map(int_text).collect::<Vec<_>>().join(",");
            let tile = m.tile.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let (first, extents, strides) = (int_text(&m.first), ints(&m.extents), ints(&m.strides));
            format!("map:{}:{first}:{extents}:{strides}:{tile}:{}", m.buffer, m.swizzled)
        }
    }
}

fn int_text(i: &Int) -> String {
    match i {
        Int::Known(v) => v.to_string(),
        Int::Param(k) => format!("p{k}"),
    }
}

fn int(text: &str) -> Option<Int> {
    Some(match text.strip_prefix('p') {
        Some(k) => Int::Param(k.parse().ok()?),
        None => Int::Known(text.parse().ok()?),
    })
}

fn map(text: &str) -> Option<TensorMap> {
    let parts: Vec<&str> = text.split(':').collect();
    let [buffer, first, extents, strides, tile, swizzled] = parts[..] else { return None };
    let ints = |list: &str| list.split(',').filter(|t| !t.is_empty()).map(int).collect::<Option<Vec<_>>>();
    Some(TensorMap {
        buffer: buffer.parse().ok()?,
        first: int(first)?,
        extents: ints(extents)?,
        strides: ints(strides)?,
        tile: tile.split(',').map(|t| t.parse().ok()).collect::<Option<_>>()?,
        swizzled: swizzled.parse().ok()?,
    })
}

fn binding(text: &str) -> Option<Binding> {
    Some(match text {
        "params" => Binding::Params,
        "status" => Binding::Status,
        text => match text.strip_prefix("map:") {
            Some(rest) => Binding::Map(map(rest)?),
            None => Binding::Buffer(text.parse().ok()?),
        },
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
        let boxes = TensorMap {
            buffer: 1,
            first: Int::Known(4),
            extents: vec![Int::Param(2), Int::Known(7)],
            strides: vec![Int::Known(-8)],
            tile: vec![32, 128],
            swizzled: true,
        };
        let bindings = vec![Binding::Params, Binding::Buffer(1), Binding::Buffer(0), Binding::Status, Binding::Map(boxes)];
        let code = Code { bytes: vec![3, 2, 35, 7, b'\n', 0], entry: "loop".into(), bindings, threads: 128, shared: 49152 };
        assert!(cache.load("a key\nof two lines").is_none());
        cache.save("a key\nof two lines", &code);
        let back = cache.load("a key\nof two lines").unwrap();
        assert_eq!(
            (back.bytes, back.entry, back.bindings, back.threads, back.shared),
            (code.bytes.clone(), "loop".into(), code.bindings.clone(), 128, 49152)
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

//! Checkpoints (tensor bundles): an index of tensors, and data shards that stay mapped.

mod slice;
pub(crate) mod sstable;

pub use slice::Slice;

use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::bundle_header_proto::Endianness;
use crate::proto::{BundleEntryProto, BundleHeaderProto};
use crate::source::{MappedFile, map_file, map_part};
use crate::tensor::{RawTensor, TensorData, element_count, full_shape};
use bytes::{Buf, Bytes};
use prost::Message as _;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Bytes from which a tensor gets a mapping of its own.
const OWN_MAPPING: usize = 1 << 18;

/// An open checkpoint. Values are read, and checked against their checksums, when asked for.
#[derive(Debug)]
pub struct Checkpoint {
    prefix: PathBuf,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    shards: Vec<OnceLock<MappedFile>>,
    check_crc: bool,
    limits: Limits,
}

/// What the index says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorEntry {
    pub dtype: DataType,
    pub shape: Vec<usize>,
}

impl Checkpoint {
    /// Opens the checkpoint `prefix.index` with its data `prefix.data-?????-of-?????`.
    pub fn open(prefix: &Path, check_crc: bool, limits: &Limits) -> Result<Checkpoint> {
        let index = with_suffix(prefix, ".index");
        if !index.exists() && prefix.is_file() {
            return Err(Error::from(ErrorKind::CheckpointV1 {}).in_file(prefix));
        }
        let bytes = map_file(&index, limits.max_file_bytes)?.bytes;
        Checkpoint::from_index(&bytes, prefix, check_crc, limits).map_err(|e| e.in_file(&index))
    }

    /// Reads the bytes of an index; the shards lie beside `prefix`.
    pub fn from_index(index: &[u8], prefix: &Path, check_crc: bool, limits: &Limits) -> Result<Checkpoint> {
        let not = |detail: String| Error::from(ErrorKind::NotACheckpoint { detail });
        let mut entries = sstable::read(index, limits.max_checkpoint_entries).map_err(not)?;
        let header = entries.remove(b"".as_slice()).ok_or_else(|| not("it has no header".into()))?;
        let header = BundleHeaderProto::decode(header.as_slice()).map_err(|e| not(format!("header: {e}")))?;
        if header.endianness != Endianness::Little as i32 {
            return Err(ErrorKind::BigEndian {}.into());
        }
        let shards = usize::try_from(header.num_shards).ok().filter(|n| *n <= limits.max_shards);
        let shards = shards.ok_or_else(|| not(format!("{} data shards", header.num_shards)))?;
        let shards = (0..shards).map(|_| OnceLock::new()).collect();
        Ok(Checkpoint { prefix: prefix.to_path_buf(), entries, shards, check_crc, limits: limits.clone() })
    }

    /// Names of all tensors; the parts of partitioned ones are not listed.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        // Keys of slices begin with a zero byte.
        self.entries.keys().filter(|k| k.first() != Some(&0)).filter_map(|k| std::str::from_utf8(k).ok())
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key.as_bytes())
    }

    /// Type and full shape of a tensor.
    pub fn entry(&self, key: &str) -> Result<TensorEntry> {
        let (_, entry) = self.decoded(key.as_bytes(), key)?;
        Ok(entry)
    }

    /// The value of a tensor: a view of its shard where it is stored in one piece.
    pub fn read(&self, key: &str) -> Result<RawTensor> {
        let (proto, entry) = self.decoded(key.as_bytes(), key)?;
        if proto.slices.is_empty() {
            return self.read_piece(key, &proto, entry.dtype, entry.shape);
        }
        let whole = Slice::whole(&entry.shape);
        self.assemble(key, &proto, &entry, &whole)
    }

    /// A slice of a tensor, whether or not that is how it is stored.
    pub fn read_slice(&self, key: &str, slice: &Slice) -> Result<RawTensor> {
        let (proto, entry) = self.decoded(key.as_bytes(), key)?;
        if slice.length.len() != entry.shape.len() || (!slice.lies_in(&entry.shape) && slice.elements() > 0) {
            return Err(self.bad(key, format!("slice {slice:?} is not inside shape {:?}", entry.shape)));
        }
        if slice.is_whole(&entry.shape) {
            return self.read(key);
        }
        self.assemble(key, &proto, &entry, slice)
    }

    fn bad(&self, key: &str, detail: impl Into<String>) -> Error {
        let kind = ErrorKind::CheckpointEntry { key: key.to_string(), detail: detail.into() };
        Error::from(kind).in_file(&with_suffix(&self.prefix, ".index"))
    }

    fn decoded(&self, index_key: &[u8], key: &str) -> Result<(BundleEntryProto, TensorEntry)> {
        let bytes = self.entries.get(index_key);
        let missing = || Error::from(ErrorKind::NoSuchKey { key: key.to_string() }).in_file(&with_suffix(&self.prefix, ".index"));
        let proto = BundleEntryProto::decode(bytes.ok_or_else(missing)?.as_slice()).map_err(|e| self.bad(key, e.to_string()))?;
        let dtype = DataType::from_number(proto.dtype).ok_or_else(|| self.bad(key, "its element type is unknown"))?;
        let shape = full_shape(proto.shape.as_ref(), &self.limits).map_err(|e| self.bad(key, e.kind().to_string()))?;
        element_count(&shape, &self.limits).map_err(|e| self.bad(key, e.kind().to_string()))?;
        Ok((proto, TensorEntry { dtype, shape }))
    }

    /// A tensor stored in one piece.
    fn read_piece(&self, key: &str, entry: &BundleEntryProto, dtype: DataType, shape: Vec<usize>) -> Result<RawTensor> {
        let count = element_count(&shape, &self.limits)?;
        let data = if dtype == DataType::String {
            TensorData::Strings(self.strings(key, entry, self.stored_bytes(key, entry)?, count)?)
        } else {
            let size = dtype.size().ok_or_else(|| self.bad(key, format!("values of type {dtype} cannot be read")))?;
            let data = self.stored_bytes(key, entry)?;
            if count.checked_mul(size) != Some(data.len()) {
                return Err(self.bad(key, format!("{} bytes for {count} elements of {dtype}", data.len())));
            }
            TensorData::Dense(self.verified(key, entry, data)?)
        };
        Ok(RawTensor { dtype, shape, data }.normalised())
    }

    /// Its data takes no memory until it is read again.
    pub(crate) fn forget_pages(&self) {
        self.shards.iter().filter_map(OnceLock::get).for_each(MappedFile::forget_pages);
    }

    fn shard_path(&self, entry: &BundleEntryProto) -> PathBuf {
        with_suffix(&self.prefix, &format!(".data-{:05}-of-{:05}", entry.shard_id, self.shards.len()))
    }

    /// The bytes that the index points to, mapped.
    fn stored_bytes(&self, key: &str, entry: &BundleEntryProto) -> Result<Bytes> {
        let shard = usize::try_from(entry.shard_id).ok().and_then(|i| self.shards.get(i));
        let shard = shard.ok_or_else(|| self.bad(key, format!("it lies in data shard {}, which there is not", entry.shard_id)))?;
        let MappedFile { bytes, .. } = match shard.get() {
            Some(mapped) => mapped,
            None => {
                let mapped = map_file(&self.shard_path(entry), u64::MAX)?;
                shard.get_or_init(|| mapped)
            }
        };
        let range = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.size).ok());
        let range = range.and_then(|(at, len)| Some(at..at.checked_add(len)?)).filter(|r| r.end <= bytes.len());
        let outside = || {
            let detail = format!("bytes {}+{} lie outside its data shard of {} bytes", entry.offset, entry.size, bytes.len());
            self.bad(key, detail)
        };
        Ok(bytes.slice(range.ok_or_else(outside)?))
    }

    /// Checks the bytes of an entry against its checksum. A large tensor gets a mapping of its own, so that its memory is free when it is
    /// dropped.
    fn verified(&self, key: &str, entry: &BundleEntryProto, data: Bytes) -> Result<Bytes> {
        let path = self.shard_path(entry);
        let check = |data: &[u8]| match self.check_crc && sstable::mask(crc32c::crc32c(data)) != entry.crc32c {
            true => Err(Error::from(ErrorKind::ChecksumMismatch { what: key.to_string() }).in_file(&path)),
            false => Ok(()),
        };
        if data.len() < OWN_MAPPING {
            return check(&data).map(|()| data);
        }
        map_part(&path, entry.offset as u64, data.len(), &check)
    }

    /// Splits stored strings: all lengths, a checksum of the lengths, all contents.
    fn strings(&self, key: &str, entry: &BundleEntryProto, stored: Bytes, count: usize) -> Result<Vec<Bytes>> {
        if count > stored.len() {
            return Err(self.bad(key, format!("{} bytes for {count} strings", stored.len())));
        }
        let mut rest = stored;
        let mut lengths = Vec::with_capacity(count);
        let mut crc = 0u32;
        for _ in 0..count {
            let n = prost::encoding::decode_varint(&mut rest).map_err(|_| self.bad(key, "its string lengths are cut off"))?;
            // The checksum covers lengths as 4 bytes, or 8 where they need them.
            crc = match u32::try_from(n) {
                Ok(short) => crc32c::crc32c_append(crc, &short.to_le_bytes()),
                Err(_) => crc32c::crc32c_append(crc, &n.to_le_bytes()),
            };
            lengths.push(usize::try_from(n).map_err(|_| self.bad(key, "a string length is out of range"))?);
        }
        let mismatch = || Error::from(ErrorKind::ChecksumMismatch { what: key.to_string() }).in_file(&self.shard_path(entry));
        if rest.len() < 4 {
            return Err(self.bad(key, "its strings are cut off"));
        }
        let stored_crc = rest.get_u32_le();
        if self.check_crc {
            crc = crc32c::crc32c_append(sstable_extend(crc, stored_crc).ok_or_else(mismatch)?, &rest);
            if sstable::mask(crc) != entry.crc32c {
                return Err(mismatch());
            }
        }
        let mut strings = Vec::with_capacity(count);
        for n in lengths {
            if n > rest.len() {
                return Err(self.bad(key, "its strings are cut off"));
            }
            strings.push(rest.split_to(n));
        }
        if rest.is_empty() { Ok(strings) } else { Err(self.bad(key, "bytes follow its last string")) }
    }

    /// Puts a slice together from a tensor's stored pieces.
    fn assemble(&self, key: &str, proto: &BundleEntryProto, entry: &TensorEntry, wanted: &Slice) -> Result<RawTensor> {
        let size = entry.dtype.size().ok_or_else(|| self.bad(key, format!("slices of type {} cannot be read", entry.dtype)))?;
        let whole = Slice::whole(&entry.shape);
        let mut out = Vec::new();
        let mut covered = 0usize;
        let mut pieces = Vec::new();
        if proto.slices.is_empty() {
            pieces.push((whole, self.read_piece(key, proto, entry.dtype, entry.shape.clone())?));
        }
        for stored in &proto.slices {
            let slice =
                slice::from_proto(stored, &entry.shape).ok_or_else(|| self.bad(key, "a stored slice is outside its shape"))?;
            let Some(shared) = slice.intersect(wanted) else { continue };
            covered = covered.saturating_add(shared.elements());
            let (piece, found) = self.decoded(&slice.key(key.as_bytes()), key)?;
            if found.dtype != entry.dtype || found.shape != slice.length {
                return Err(self.bad(key, "a stored slice has another type or shape than its index says"));
            }
            let tensor = self.read_piece(key, &piece, found.dtype, found.shape)?;
            pieces.push((slice, tensor));
        }
        if !proto.slices.is_empty() && covered != wanted.elements() {
            return Err(self.bad(key, "its stored slices do not cover it exactly once"));
        }
        // Only now, when the pieces are known to exist, is the room taken: several of them may be the same bytes of the file.
        let mapped = self.shards.iter().filter_map(OnceLock::get).map(|m| m.bytes.len()).fold(0, usize::saturating_add);
        let most = self.limits.max_constant_bytes.max(mapped);
        let total = wanted.elements().checked_mul(size).filter(|n| *n <= most);
        let total = total.ok_or_else(|| self.bad(key, "its slices take more than Limits::max_constant_bytes"))?;
        out.resize(total, 0);
        for (slice, tensor) in &pieces {
            let copied = slice::copy_shared(slice, &tensor.bytes(&self.limits)?, wanted, &mut out, size);
            copied.ok_or_else(|| self.bad(key, "a stored slice is too short"))?;
        }
        Ok(RawTensor { dtype: entry.dtype, shape: wanted.length.clone(), data: TensorData::Dense(out.into()) })
    }
}

/// Continues the checksum over the stored checksum of the lengths, if that one is right.
fn sstable_extend(lengths: u32, stored: u32) -> Option<u32> {
    (sstable::mask(lengths) == stored).then(|| crc32c::crc32c_append(lengths, &stored.to_le_bytes()))
}

/// `prefix` with something appended to its last component.
pub(crate) fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// The newest checkpoint that the `checkpoint` file of a directory names, else the only index there.
pub fn latest_in(dir: &Path) -> Option<PathBuf> {
    let has_index = |prefix: &PathBuf| with_suffix(prefix, ".index").is_file();
    let state = std::fs::read_to_string(dir.join("checkpoint")).unwrap_or_default();
    let line = state.lines().find_map(|l| l.trim().strip_prefix("model_checkpoint_path:"));
    let named = line.map(|l| l.trim().trim_matches('"')).and_then(|name| {
        // The directory may have been moved since: the same last component is then looked for here.
        let last = name.rsplit('/').next().unwrap_or_default();
        [dir.join(name), dir.join(last)].into_iter().find(has_index)
    });
    if named.is_some() {
        return named;
    }
    let names = std::fs::read_dir(dir).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut prefixes = names.filter_map(|n| n.strip_suffix(".index").map(|p| dir.join(p)));
    prefixes.next().filter(|_| prefixes.next().is_none())
}

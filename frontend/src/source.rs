//! Opens what a path names: SavedModel, MetaGraph or GraphDef, binary or text.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::{GraphDef, MetaGraphDef, SavedModel, message_index, name};
use crate::{chunked, textproto, wire};
use bytes::Bytes;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model as decoded from its file.
pub(crate) enum Source {
    /// With the directory that holds `variables/` and `assets/`.
    SavedModel(SavedModel, PathBuf),
    MetaGraph(Box<MetaGraphDef>),
    Graph(GraphDef),
}

/// A whole file in memory, whose pages can be given back.
#[derive(Debug, Default)]
pub(crate) struct MappedFile {
    pub bytes: Bytes,
    /// What `bytes` refers to; none for an empty file.
    map: Option<Arc<memmap2::Mmap>>,
}

impl MappedFile {
    /// Bytes of a mapping below which it is not worth a call of the system.
    const LEAST: usize = 1 << 20;

    /// Its pages take no memory until they are read again.
    pub fn forget_pages(&self) {
        if let Some(map) = self.map.as_ref().filter(|m| m.len() >= MappedFile::LEAST) {
            // A hint that may fail. SAFETY: nothing writes to the mapping, so that the file has what it holds.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

/// Keeps a mapping while bytes refer to it.
struct Owner(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file into memory, read only. The pages are shared with the file and counted only as they are touched.
pub(crate) fn map_file(path: &Path, limit: u64) -> Result<MappedFile> {
    let io = |e: std::io::Error| Error::from(ErrorKind::Io { message: e.to_string() }).in_file(path);
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(Error::from(ErrorKind::NotAModel { found: "not a regular file".into() }).in_file(path));
    }
    if metadata.len() > limit {
        return Err(Error::from(ErrorKind::FileTooLarge { bytes: metadata.len(), limit }).in_file(path));
    }
    if metadata.len() == 0 {
        return Ok(MappedFile::default());
    }
    // SAFETY: the mapping is read only. As for every mapped file, another process that truncates the file while it is
    // open ends this one with SIGBUS, and one that writes into it changes values; neither breaks the type, bytes are always valid.
    let map = Arc::new(unsafe { memmap2::Mmap::map(&file) }.map_err(io)?);
    Ok(MappedFile { bytes: Bytes::from_owner(Owner(map.clone())), map: Some(map) })
}

/// Maps `len` bytes at `offset` of a file that [`map_file`] accepted and passes them to `check`. After that they take no memory until they
/// are read again.
pub(crate) fn map_part(path: &Path, offset: u64, len: usize, check: &dyn Fn(&[u8]) -> Result<()>) -> Result<Bytes> {
    let io = |e: std::io::Error| Error::from(ErrorKind::Io { message: e.to_string() }).in_file(path);
    let file = File::open(path).map_err(io)?;
    let held = file.metadata().map_err(io)?.len();
    if offset.checked_add(len as u64).is_none_or(|end| end > held) {
        return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    // SAFETY: as in `map_file`; the part lies inside the file.
    let map = unsafe { memmap2::MmapOptions::new().offset(offset).len(len).populate().map(&file) }.map_err(io)?;
    check(&map)?;
    // A hint that may fail. SAFETY: nothing wrote to the mapping, so that the file has what it holds.
    let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    Ok(Bytes::from_owner(map))
}

/// Opens a SavedModel directory, or a `.pb`, `.pbtxt`, `.meta` or `.cpb` file. Tells which file that is.
pub(crate) fn open(path: &Path, limits: &Limits) -> Result<(Source, PathBuf, MappedFile)> {
    let is_dir = std::fs::metadata(path).map_err(|e| Error::from(ErrorKind::Io { message: e.to_string() }).in_file(path))?.is_dir();
    let file = if is_dir { saved_model_file(path)? } else { path.to_path_buf() };
    let mapped = map_file(&file, limits.max_file_bytes)?;
    let source = decode(mapped.bytes.clone(), &file, limits).map_err(|e| e.in_file(&file))?;
    Ok((source, file, mapped))
}

fn saved_model_file(dir: &Path) -> Result<PathBuf> {
    let names = ["saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"];
    let found = names.iter().map(|n| dir.join(n)).find(|p| p.is_file());
    found.ok_or_else(|| {
        let found = "a directory without saved_model.pb, saved_model.pbtxt or saved_model.cpb".to_string();
        Error::from(ErrorKind::NotAModel { found }).in_file(dir)
    })
}

/// Decodes the content of a file.
fn decode(bytes: Bytes, file: &Path, limits: &Limits) -> Result<Source> {
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let extension = file.extension().and_then(|s| s.to_str()).unwrap_or_default();
    let dir = file.parent().unwrap_or(Path::new(".")).to_path_buf();
    match extension {
        "cpb" => return Ok(Source::SavedModel(chunked::read_saved_model(bytes, limits)?, dir)),
        "pbtxt" | "prototxt" | "txt" | "textproto" => return from_text(&bytes, stem, dir, limits),
        "meta" if !looks_like_text(&bytes) => {
            return Ok(Source::MetaGraph(Box::new(wire::decode(bytes, name::META_GRAPH, limits)?)));
        }
        "meta" => return from_text(&bytes, "meta", dir, limits),
        _ => {}
    }
    if bytes.is_empty() {
        return Err(ErrorKind::NotAModel { found: "an empty file".into() }.into());
    }
    // A SavedModel starts with its version, a varint field 1, or with a MetaGraph, field 2; a GraphDef with a node or its library.
    if stem == "saved_model" || bytes.starts_with(&[0x08]) {
        return Ok(Source::SavedModel(wire::decode(bytes, name::SAVED_MODEL, limits)?, dir));
    }
    if looks_like_text(&bytes) {
        return from_text(&bytes, stem, dir, limits);
    }
    Ok(Source::Graph(wire::decode(bytes, name::GRAPH, limits)?))
}

/// Whether the file is text: it starts with a printable character, space or comment, and has no control characters near its start.
fn looks_like_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(512)];
    let text = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    head.iter().all(text) && std::str::from_utf8(&head[..head.len().min(64)]).is_ok_and(|h| h.contains([':', '{', '#']))
}

fn from_text(bytes: &[u8], stem: &str, dir: PathBuf, limits: &Limits) -> Result<Source> {
    let first = textproto::first_field(bytes);
    let message = match first {
        Some("saved_model_schema_version" | "meta_graphs") => name::SAVED_MODEL,
        Some("meta_info_def" | "graph_def" | "saver_def" | "collection_def" | "signature_def") => name::META_GRAPH,
        _ if stem == "saved_model" => name::SAVED_MODEL,
        _ if stem == "meta" => name::META_GRAPH,
        _ => name::GRAPH,
    };
    let index = message_index(message).ok_or(ErrorKind::Protobuf { message: "known", detail: message.into() })?;
    let binary = Bytes::from(textproto::parse(bytes, index, limits)?);
    Ok(match message {
        name::SAVED_MODEL => Source::SavedModel(wire::decode(binary, message, limits)?, dir),
        name::META_GRAPH => Source::MetaGraph(Box::new(wire::decode(binary, message, limits)?)),
        _ => Source::Graph(wire::decode(binary, message, limits)?),
    })
}

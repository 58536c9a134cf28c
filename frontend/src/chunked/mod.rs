//! Chunked models (`.cpb`): a message cut into records because protobuf cannot hold more than 2 GiB, put together again.

mod riegeli;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::proto::field_index::map_key::Type as MapKeyType;
use crate::proto::field_index::{Kind as Tag, MapKey};
use crate::proto::{ChunkMetadata, ChunkedMessage, Field, FieldIndex, Kind, MESSAGES, SavedModel, message_index, name};
use crate::wire;
use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{decode_varint, encode_varint};

/// Reads a chunked SavedModel.
pub(crate) fn read_saved_model(file: Bytes, limits: &Limits) -> Result<SavedModel> {
    wire::decode(join(&file, name::SAVED_MODEL, limits)?, name::SAVED_MODEL, limits)
}

/// The binary form of the message that a chunked file holds.
pub(crate) fn join(file: &Bytes, message: &str, limits: &Limits) -> Result<Bytes> {
    let damaged = |detail: String| Error::from(ErrorKind::Chunked { detail });
    let mut chunks = riegeli::records(file, limits.max_file_bytes).map_err(damaged)?;
    let metadata = chunks.pop().ok_or_else(|| damaged("it has no records".into()))?;
    let metadata = ChunkMetadata::decode(metadata).map_err(|e| damaged(format!("chunk metadata: {e}")))?;
    let sizes = metadata.chunks.iter().map(|c| c.size).eq(chunks.iter().map(|c| c.len() as u64));
    if !sizes {
        return Err(damaged("its records are not those that its metadata lists".into()));
    }
    let root = message_index(message).ok_or_else(|| damaged(format!("{message} is unknown")))?;
    let mut tree = Tree { message: root, fields: Vec::new() };
    let mut joiner = Joiner { chunks: &chunks, budget: limits.max_file_bytes };
    joiner.merge(&mut tree, &metadata.message.unwrap_or_default()).map_err(damaged)?;
    let mut out = Vec::new();
    tree.write(&mut out);
    Ok(out.into())
}

/// A message, taken apart only as far as chunks go into it.
struct Tree {
    message: usize,
    fields: Vec<Part>,
}

enum Part {
    /// Fields as they are on the wire, of one number each.
    Raw {
        number: u32,
        field: Bytes,
    },
    Message {
        number: u32,
        tree: Tree,
    },
}

impl Part {
    fn number(&self) -> u32 {
        match self {
            Part::Raw { number, .. } | Part::Message { number, .. } => *number,
        }
    }
}

struct Joiner<'a> {
    chunks: &'a [Bytes],
    /// Bytes that may still be merged: one chunk may be named often.
    budget: u64,
}

impl Joiner<'_> {
    fn chunk(&mut self, index: u64) -> Result<Bytes, String> {
        let chunk = usize::try_from(index).ok().and_then(|i| self.chunks.get(i)).ok_or("it names a chunk that it does not have")?;
        self.budget = self.budget.checked_sub(chunk.len() as u64).ok_or("its chunks take more than Limits::max_file_bytes")?;
        Ok(chunk.clone())
    }

    /// Merges a chunked message into a tree. The depth is bounded by that of the metadata, which prost bounds.
    fn merge(&mut self, tree: &mut Tree, message: &ChunkedMessage) -> Result<(), String> {
        if let Some(index) = message.chunk_index {
            tree.merge(&self.chunk(index)?)?;
        }
        // A field that lies inside another must come after it.
        let mut fields: Vec<_> = message.chunked_fields.iter().collect();
        fields.sort_by_key(|f| f.field_tag.len());
        for field in fields {
            let content = field.message.clone().unwrap_or_default();
            if field.field_tag.is_empty() {
                // More of the message itself.
                self.merge(tree, &content)?;
                continue;
            }
            let mut tags = field.field_tag.as_slice();
            let mut at = &mut *tree;
            loop {
                let (target, rest) = at.descend(tags)?;
                match target {
                    Target::Message(inner) if rest.is_empty() => {
                        self.merge(inner, &content)?;
                        break;
                    }
                    Target::Message(inner) => {
                        at = inner;
                        tags = rest;
                    }
                    Target::Bytes(parent, number) if rest.is_empty() => {
                        let chunk = self.chunk(content.chunk_index.ok_or("a bytes field without a chunk")?)?;
                        parent.fields.push(Part::Raw { number, field: delimited(number, &chunk) });
                        break;
                    }
                    Target::Bytes(..) => return Err("a path leads into a bytes field".into()),
                }
            }
        }
        Ok(())
    }
}

enum Target<'a> {
    Message(&'a mut Tree),
    /// The message whose bytes field of this number is meant.
    Bytes(&'a mut Tree, u32),
}

fn delimited(number: u32, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 12);
    encode_varint(u64::from(number) << 3 | 2, &mut out);
    encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out.into()
}

/// The payload of a whole length-delimited field.
fn payload(field: &Bytes) -> Option<Bytes> {
    let mut rest = field.clone();
    decode_varint(&mut rest).ok()?;
    let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    (len == rest.len()).then_some(rest)
}

impl Tree {
    fn parse(message: usize, bytes: &Bytes) -> Result<Tree, String> {
        let mut tree = Tree { message, fields: Vec::new() };
        tree.merge(bytes)?;
        Ok(tree)
    }

    /// Appends the fields of an encoded message, which is how protobuf merges.
    fn merge(&mut self, bytes: &Bytes) -> Result<(), String> {
        let mut rest: &[u8] = bytes;
        while !rest.is_empty() {
            let start = bytes.len() - rest.len();
            let number = wire::next_field(&mut rest)?.number;
            self.fields.push(Part::Raw { number, field: bytes.slice(start..bytes.len() - rest.len()) });
        }
        Ok(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        for part in &self.fields {
            match part {
                Part::Raw { field, .. } => out.extend_from_slice(field),
                Part::Message { number, tree } => {
                    let mut body = Vec::new();
                    tree.write(&mut body);
                    encode_varint(u64::from(*number) << 3 | 2, out);
                    encode_varint(body.len() as u64, out);
                    out.extend_from_slice(&body);
                }
            }
        }
    }

    /// Follows a field number, with the index or map key behind it, and gives the tags that are left.
    fn descend<'t, 'a>(&'t mut self, tags: &'a [FieldIndex]) -> Result<(Target<'t>, &'a [FieldIndex]), String> {
        let (first, mut rest) = tags.split_first().ok_or("an empty field path")?;
        let Some(Tag::Field(number)) = first.kind else { return Err("a field path that does not start with a field".into()) };
        let message = &MESSAGES[self.message];
        let field: &Field = message
            .fields
            .iter()
            .find(|f| f.number == number)
            .ok_or_else(|| format!("field {number} of {} is not known", message.name.trim_start_matches("graphc.tf.")))?;
        let selector = match rest.first().and_then(|t| t.kind.as_ref()) {
            Some(Tag::Index(i)) if field.repeated => Some(Selector::Index(*i)),
            Some(Tag::MapKey(key)) if field.repeated => Some(Selector::Key(map_key(key)?)),
            _ => None,
        };
        if selector.is_some() {
            rest = &rest[1..];
        }
        match field.kind {
            Kind::Message(inner) => {
                let part = match &selector {
                    Some(Selector::Index(i)) => self.element(number, inner, *i)?,
                    Some(Selector::Key(key)) => self.entry(number, inner, key)?,
                    None if field.repeated => {
                        self.fields.push(Part::Message { number, tree: Tree { message: inner, fields: Vec::new() } });
                        self.fields.len() - 1
                    }
                    None => self.only(number, inner)?,
                };
                let is_entry = matches!(selector, Some(Selector::Key(_)));
                let tree = self.open(part, inner)?;
                if !is_entry {
                    return Ok((Target::Message(tree), rest));
                }
                // A map key stands for the value of its entry, field 2.
                match MESSAGES[inner].fields.iter().find(|f| f.number == 2).map(|f| f.kind) {
                    Some(Kind::Message(value)) => {
                        let at = tree.only(2, value)?;
                        Ok((Target::Message(tree.open(at, value)?), rest))
                    }
                    Some(Kind::Bytes | Kind::String) => Ok((Target::Bytes(tree, 2), rest)),
                    _ => Err("a chunk for a map value that is neither message nor bytes".into()),
                }
            }
            Kind::Bytes | Kind::String => Ok((Target::Bytes(self, number), rest)),
            _ => Err("a chunk for a field that is neither message nor bytes".into()),
        }
    }

    /// Position of an element of a repeated field; one past the last is added.
    fn element(&mut self, number: u32, inner: usize, index: u64) -> Result<usize, String> {
        let same = || self.fields.iter().enumerate().filter(|(_, p)| p.number() == number);
        if let Some((at, _)) = usize::try_from(index).ok().and_then(|i| same().nth(i)) {
            return Ok(at);
        }
        let count = same().count() as u64;
        if index != count {
            return Err(format!("element {index} of a repeated field of {count}"));
        }
        self.fields.push(Part::Message { number, tree: Tree { message: inner, fields: Vec::new() } });
        Ok(self.fields.len() - 1)
    }

    /// Position of a singular message, all parts of it gathered into one.
    fn only(&mut self, number: u32, inner: usize) -> Result<usize, String> {
        let mut tree = Tree { message: inner, fields: Vec::new() };
        let mut kept = Vec::with_capacity(self.fields.len() + 1);
        for part in std::mem::take(&mut self.fields) {
            match part {
                Part::Raw { number: n, field } if n == number => {
                    tree.merge(&payload(&field).ok_or("a message field of another wire type")?)?;
                }
                Part::Message { number: n, tree: t } if n == number => tree.fields.extend(t.fields),
                other => kept.push(other),
            }
        }
        kept.push(Part::Message { number, tree });
        self.fields = kept;
        Ok(self.fields.len() - 1)
    }

    /// Position of the map entry with this key; it is added if there is none.
    fn entry(&mut self, number: u32, entry: usize, key: &Bytes) -> Result<usize, String> {
        for at in 0..self.fields.len() {
            if self.fields[at].number() != number {
                continue;
            }
            let tree = self.open(at, entry)?;
            let same = |p: &Part| matches!(p, Part::Raw { number: 1, field } if field == key);
            if tree.fields.iter().any(same) {
                return Ok(at);
            }
        }
        let fields = vec![Part::Raw { number: 1, field: key.clone() }];
        self.fields.push(Part::Message { number, tree: Tree { message: entry, fields } });
        Ok(self.fields.len() - 1)
    }

    /// The tree of a message field, taken apart if it is not yet.
    fn open(&mut self, at: usize, message: usize) -> Result<&mut Tree, String> {
        let part = self.fields.get_mut(at).ok_or("a field that is not there")?;
        if let Part::Raw { number, field } = part {
            let bytes = payload(field).ok_or("a message field of another wire type")?;
            *part = Part::Message { number: *number, tree: Tree::parse(message, &bytes)? };
        }
        match part {
            Part::Message { tree, .. } => Ok(tree),
            Part::Raw { .. } => Err("a field that is no message".into()),
        }
    }
}

enum Selector {
    Index(u64),
    /// The key as the field of the entry that it is.
    Key(Bytes),
}

/// A map key in the form that it has in an entry: field 1.
fn map_key(key: &MapKey) -> Result<Bytes, String> {
    let number = |n: u64| {
        let mut out = vec![0x08];
        encode_varint(n, &mut out);
        Bytes::from(out)
    };
    Ok(match key.r#type.as_ref().ok_or("an empty map key")? {
        MapKeyType::S(s) => delimited(1, s.as_bytes()),
        MapKeyType::Boolean(b) => number(u64::from(*b)),
        MapKeyType::Ui32(n) => number(u64::from(*n)),
        MapKeyType::Ui64(n) => number(*n),
        MapKeyType::I32(n) => number(i64::from(*n) as u64),
        MapKeyType::I64(n) => number(*n as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::attr_value::Value as Attr;
    use crate::proto::chunk_info::Type;
    use crate::proto::{ChunkInfo, ChunkedField, GraphDef};
    use std::path::Path;

    /// A Riegeli file of one plain chunk with these records, long enough to cross blocks.
    fn riegeli(records: &[Vec<u8>]) -> Bytes {
        let mut sizes = Vec::new();
        records.iter().for_each(|r| encode_varint(r.len() as u64, &mut sizes));
        let mut data = vec![0u8];
        encode_varint(sizes.len() as u64, &mut data);
        data.extend(sizes);
        data.extend(records.concat());
        let mut stream = Vec::new();
        for (kind, count, data) in [(b's', 0, &[][..]), (b'r', records.len() as u64, &data)] {
            stream.extend([0; 8]);
            stream.extend((data.len() as u64).to_le_bytes());
            stream.extend([0; 8]);
            stream.extend((u64::from(kind) | count << 8).to_le_bytes());
            stream.extend([0; 8]);
            stream.extend(data);
        }
        let mut file = Vec::new();
        for piece in stream.chunks((1 << 16) - 24) {
            file.extend([0; 24]);
            file.extend(piece);
        }
        file.into()
    }

    #[test]
    fn chunks_go_where_the_metadata_says() {
        let tag = |kind| FieldIndex { kind: Some(kind) };
        let key = MapKey { r#type: Some(MapKeyType::S("value".into())) };
        let path = [Tag::Field(1), Tag::Index(1), Tag::Field(5), Tag::MapKey(key), Tag::Field(8), Tag::Field(4)];
        let content = |i| Some(ChunkedMessage { chunk_index: Some(i), chunked_fields: vec![] });
        let message = ChunkedMessage {
            chunk_index: Some(0),
            chunked_fields: vec![
                ChunkedField { field_tag: path.into_iter().map(tag).collect(), message: content(2) },
                ChunkedField { field_tag: vec![tag(Tag::Field(1)), tag(Tag::Index(1))], message: content(1) },
            ],
        };
        let mut base = GraphDef::default();
        base.node.push(crate::proto::NodeDef { name: "first".into(), ..Default::default() });
        let node = crate::proto::NodeDef { name: "second".into(), op: "Const".into(), ..Default::default() };
        let chunks = [base.encode_to_vec(), node.encode_to_vec(), vec![7u8; 100_000]];
        let info = |c: &Vec<u8>| ChunkInfo { r#type: Type::Bytes.into(), size: c.len() as u64, offset: 0 };
        let metadata = ChunkMetadata { chunks: chunks.iter().map(info).collect(), message: Some(message) };
        let mut records = chunks.to_vec();
        records.push(metadata.encode_to_vec());
        let file = riegeli(&records);

        let graph = GraphDef::decode(join(&file, name::GRAPH, &Limits::default()).unwrap()).unwrap();
        assert_eq!(graph.node.len(), 2);
        assert_eq!(graph.node[1].name, "second");
        let Some(Attr::Tensor(t)) = &graph.node[1].attr["value"].value else { panic!("no tensor") };
        assert_eq!(t.tensor_content, vec![7u8; 100_000]);

        for cut in (0..file.len()).step_by(997) {
            assert!(join(&file.slice(..cut), name::GRAPH, &Limits::default()).is_err());
        }
    }

    #[test]
    fn files_of_tensorflow_are_joined() {
        let dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/tf_testdata/tensorflow/tools/proto_splitter/testdata");
        if !dir.is_dir() {
            println!("skipped: {} is not there", dir.display());
            return;
        }
        let read = |stem: &str, extension: &str| Bytes::from(std::fs::read(dir.join(stem).with_extension(extension)).unwrap());
        // The files of one stem come from different runs of a random generator: names and sizes agree, values do not.
        let layout = |nodes: &[crate::proto::NodeDef]| -> Vec<(String, usize)> {
            nodes.iter().map(|n| (n.name.clone(), n.encoded_len())).collect()
        };
        for stem in ["split-large-nodes", "split-large-constant", "split-lots-nodes"] {
            let joined = GraphDef::decode(join(&read(stem, "cpb"), name::GRAPH, &Limits::default()).unwrap()).unwrap();
            let whole = GraphDef::decode(read(stem, "pb")).unwrap();
            assert_eq!(layout(&joined.node), layout(&whole.node), "{stem}");
        }
        let graph = |m: SavedModel| m.meta_graphs.into_iter().next().and_then(|m| m.graph_def).unwrap();
        let joined = graph(read_saved_model(read("split-standard", "cpb"), &Limits::default()).unwrap());
        let whole = graph(SavedModel::decode(read("split-standard", "pb")).unwrap());
        assert_eq!(layout(&joined.node), layout(&whole.node));
    }
}

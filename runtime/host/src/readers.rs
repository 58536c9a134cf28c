//! Readers of TF1's input pipelines: records of the files that a queue names, one after the other.

use crate::call::{Call, Step, strings_of};
use crate::dataset::records::{Compression, Layout, Reader as Source, exactly, failed, line, open, record, trimmed};
use crate::error::{internal, invalid};
use crate::queues::Queue;
use crate::value::Value;
use crate::{Result, Table};
use graphc_ir::{Elem, Tensor};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) const TABLE: Table = &[
    ("WholeFileReaderV2", whole_file),
    ("WholeFileReader", whole_file),
    ("TextLineReaderV2", text_lines),
    ("TextLineReader", text_lines),
    ("TFRecordReaderV2", records),
    ("TFRecordReader", records),
    ("FixedLengthRecordReaderV2", fixed_length),
    ("FixedLengthRecordReader", fixed_length),
    ("IdentityReaderV2", identity),
    ("IdentityReader", identity),
    ("ReaderReadV2", read),
    ("ReaderRead", read),
    ("ReaderReadUpToV2", read_up_to),
    ("ReaderReadUpTo", read_up_to),
    ("ReaderNumRecordsProducedV2", records_produced),
    ("ReaderNumRecordsProduced", records_produced),
    ("ReaderNumWorkUnitsCompletedV2", files_completed),
    ("ReaderNumWorkUnitsCompleted", files_completed),
    ("ReaderResetV2", reset),
    ("ReaderReset", reset),
];

/// What the records of a file are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Its name.
    Identity,
    /// All of it.
    Whole,
    /// Its lines, after some that are skipped.
    Lines {
        skipped: u64,
    },
    Records(Compression),
    /// Pieces of one length, each `hop` bytes after the one before.
    Pieces {
        compression: Compression,
        layout: Layout,
        hop: u64,
    },
}

struct Reader {
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Open>,
    records: i64,
    files: i64,
}

/// A file that is being read.
struct Open {
    name: Box<[u8]>,
    source: Source,
    /// Bytes, lines or pieces before the next record, whatever its key counts.
    at: u64,
    /// What the next piece shares with the one before.
    kept: Vec<u8>,
}

/// A key and a record.
type Pair = (Box<[u8]>, Box<[u8]>);

fn reader(call: &Call, kind: Kind) -> Result {
    Ok(vec![call.shared("reader", || Ok(Reader { kind, state: Mutex::default() }))?])
}

fn whole_file(call: &Call) -> Result {
    reader(call, Kind::Whole)
}

fn identity(call: &Call) -> Result {
    reader(call, Kind::Identity)
}

fn size(call: &Call, name: &str, least: i64) -> Result<u64> {
    let n = call.attrs.int(name).unwrap_or(0);
    u64::try_from(n).ok().filter(|_| n >= least).ok_or_else(|| invalid(format!("{name} must be >= {least} but got {n}")))
}

fn text_lines(call: &Call) -> Result {
    reader(call, Kind::Lines { skipped: size(call, "skip_header_lines", 0)? })
}

fn compression(call: &Call, attr: &str) -> Result<Compression> {
    Compression::named(call.attrs.text(attr).unwrap_or_default().as_bytes())
}

fn records(call: &Call) -> Result {
    reader(call, Kind::Records(compression(call, "compression_type")?))
}

fn fixed_length(call: &Call) -> Result {
    let layout = Layout {
        header: size(call, "header_bytes", 0)?,
        record: size(call, "record_bytes", 1)?,
        footer: size(call, "footer_bytes", 0)?,
    };
    let hop = match size(call, "hop_bytes", 0)? {
        0 => layout.record,
        n => n,
    };
    reader(call, Kind::Pieces { compression: compression(call, "encoding")?, layout, hop })
}

/// The name of a record: that of its file, and where it is in there.
fn key(file: &[u8], at: u64) -> Box<[u8]> {
    [file, format!(":{at}").as_bytes()].concat().into()
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, call: &Call, name: Box<[u8]>) -> Result<Open> {
        let path = call.readable(&name)?;
        let source: Source = match self.kind {
            Kind::Whole | Kind::Lines { .. } => open(&path, Compression::None)?,
            Kind::Records(c) => open(&path, c)?,
            Kind::Pieces { compression, layout, .. } => trimmed(&path, open(&path, compression)?, compression, layout, false)?,
            Kind::Identity => Box::new(std::io::empty()),
        };
        let mut file = Open { name, source, at: 0, kept: Vec::new() };
        if let Kind::Lines { skipped } = self.kind {
            while file.at < skipped && line(&mut file.source, &Layout::default()).map_err(|e| failed(&path, &e))?.is_some() {
                file.at += 1;
            }
        }
        Ok(file)
    }

    /// The next record of a file; None at its end.
    fn next(&self, file: &mut Open) -> Result<Option<Pair>> {
        let text = String::from_utf8_lossy(&file.name).into_owned();
        let broken = |e: std::io::Error| failed(Path::new(&text), &e);
        let none = Layout::default();
        let at = file.at;
        Ok(match self.kind {
            Kind::Identity | Kind::Whole if at > 0 => None,
            Kind::Identity => {
                file.at = 1;
                Some((file.name.clone(), file.name.clone()))
            }
            Kind::Whole => {
                file.at = 1;
                let mut all = Vec::new();
                file.source.read_to_end(&mut all).map_err(broken)?;
                Some((file.name.clone(), all.into()))
            }
            Kind::Lines { .. } => line(&mut file.source, &none).map_err(broken)?.map(|text| {
                file.at += 1;
                (key(&file.name, file.at), text.into())
            }),
            Kind::Records(_) => record(&mut file.source, &none).map_err(broken)?.map(|data| {
                // A length and a checksum before the data, and a checksum behind it.
                file.at += 16 + data.len() as u64;
                (key(&file.name, at), data.into())
            }),
            Kind::Pieces { layout, hop, .. } => {
                let missing = layout.record - file.kept.len() as u64;
                let mut piece = std::mem::take(&mut file.kept);
                match exactly(&mut file.source, missing) {
                    Ok(Some(more)) => piece.extend(more),
                    // What is too short for a piece is left.
                    Ok(None) => return Ok(None),
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
                    Err(e) => return Err(broken(e)),
                }
                if hop < layout.record {
                    file.kept = piece.get(usize::try_from(hop).unwrap_or(usize::MAX)..).unwrap_or_default().to_vec();
                } else {
                    let gap = &mut std::io::Read::take(&mut file.source, hop - layout.record);
                    std::io::copy(gap, &mut std::io::sink()).map_err(broken)?;
                }
                file.at += 1;
                Some((key(&file.name, at), piece.into()))
            }
        })
    }

    /// Up to `n` records, at least one, all of the same file.
    fn take(&self, call: &Call, queue: &Queue, n: usize) -> Result<Vec<Pair>> {
        let mut state = self.lock();
        loop {
            let mut file = match state.file.take() {
                Some(f) => f,
                None => self.open(call, next_name(queue, call.step)?)?,
            };
            let mut pairs = Vec::new();
            let mut ended = false;
            while pairs.len() < n && !ended {
                match self.next(&mut file)? {
                    Some(pair) => pairs.push(pair),
                    None => ended = true,
                }
            }
            // What is one record ends with it.
            if ended || matches!(self.kind, Kind::Identity | Kind::Whole) {
                state.files += 1;
            } else {
                state.file = Some(file);
            }
            if !pairs.is_empty() {
                state.records += i64::try_from(pairs.len()).unwrap_or(i64::MAX);
                return Ok(pairs);
            }
        }
    }
}

/// The file that a queue names next; waits for it.
fn next_name(queue: &Queue, step: &Step) -> Result<Box<[u8]>> {
    if queue.config.types != [Elem::Str] {
        return Err(invalid(format!("expected a queue of single strings, and got {:?}", queue.config.types)));
    }
    let element = queue.dequeue(step)?;
    let name = element.first().and_then(Value::as_tensor).and_then(Tensor::strings).and_then(<[_]>::first);
    name.cloned().ok_or_else(|| internal("a queue of strings has none"))
}

fn operands(call: &Call) -> Result<(Arc<Reader>, Arc<Queue>)> {
    Ok((call.object(0)?, call.object(1)?))
}

fn read(call: &Call) -> Result {
    let (reader, queue) = operands(call)?;
    let mut found = reader.take(call, &queue, 1)?;
    let (key, value) = found.pop().ok_or_else(|| internal("no record was read"))?;
    Ok(vec![strings_of(&[], vec![key])?.into(), strings_of(&[], vec![value])?.into()])
}

fn read_up_to(call: &Call) -> Result {
    let (reader, queue) = operands(call)?;
    let n = usize::try_from(call.int(2)?).ok().filter(|&n| n > 0);
    let n = n.ok_or_else(|| invalid("num_records must be positive"))?;
    let (keys, values): (Vec<_>, Vec<_>) = reader.take(call, &queue, n)?.into_iter().unzip();
    let n = keys.len();
    Ok(vec![strings_of(&[n], keys)?.into(), strings_of(&[n], values)?.into()])
}

fn records_produced(call: &Call) -> Result {
    Ok(vec![Tensor::scalar(call.object::<Reader>(0)?.lock().records).into()])
}

fn files_completed(call: &Call) -> Result {
    Ok(vec![Tensor::scalar(call.object::<Reader>(0)?.lock().files).into()])
}

fn reset(call: &Call) -> Result {
    *call.object::<Reader>(0)?.lock() = State::default();
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use crate::attrs::Attr;
    use crate::testing::{Bench, text};
    use crate::value::Value;

    fn number(v: &Value) -> i64 {
        v.as_tensor().and_then(graphc_ir::Tensor::to_ints).unwrap()[0]
    }

    /// What a reader gives of files of these contents, read one by one, until the closed queue has no more.
    fn all(op: &str, attrs: &[(&str, Attr)], files: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let folder = std::env::temp_dir().join(format!("graphc-readers-{}-{op}-{}", std::process::id(), attrs.len()));
        std::fs::create_dir_all(&folder).unwrap();
        let bench = Bench::granted(&folder);
        let types = Attr::List(vec![Attr::Elem(graphc_ir::Elem::Str)]);
        let queue = bench.run("FIFOQueueV2", &[("component_types", types)], &[]).unwrap().remove(0);
        for (k, content) in files.iter().enumerate() {
            let path = folder.join(k.to_string());
            std::fs::write(&path, content).unwrap();
            bench.run("QueueEnqueueV2", &[], &[queue.clone(), text(&[], &[path.to_str().unwrap()])]).unwrap();
        }
        bench.run("QueueCloseV2", &[], std::slice::from_ref(&queue)).unwrap();
        let reader = bench.run(op, attrs, &[]).unwrap().remove(0);
        let mut out = Vec::new();
        while let Ok(pair) = bench.run("ReaderReadV2", &[], &[reader.clone(), queue.clone()]) {
            let string = |v: &Value| v.as_tensor().unwrap().strings().unwrap()[0].to_vec();
            let key = String::from_utf8(string(&pair[0])).unwrap();
            out.push((key.rsplit('/').next().unwrap().to_owned(), string(&pair[1])));
        }
        let made = bench.run("ReaderNumRecordsProducedV2", &[], std::slice::from_ref(&reader)).unwrap();
        assert_eq!(number(&made[0]), out.len() as i64);
        let done = bench.run("ReaderNumWorkUnitsCompletedV2", &[], std::slice::from_ref(&reader)).unwrap();
        assert_eq!(number(&done[0]), files.len() as i64);
        bench.run("ReaderResetV2", &[], std::slice::from_ref(&reader)).unwrap();
        assert_eq!(number(&bench.run("ReaderNumRecordsProducedV2", &[], &[reader]).unwrap()[0]), 0);
        std::fs::remove_dir_all(&folder).unwrap();
        out
    }

    fn pairs(v: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        v.iter().map(|(k, s)| ((*k).to_owned(), s.as_bytes().to_vec())).collect()
    }

    #[test]
    fn whole_files() {
        assert_eq!(all("WholeFileReaderV2", &[], &[b"a\nb", b""]), pairs(&[("0", "a\nb"), ("1", "")]));
    }

    #[test]
    fn lines_after_headers() {
        let attrs = [("skip_header_lines", Attr::Int(1))];
        let files: [&[u8]; 3] = [b"h\na\nb\n", b"", b"h\r\nc"];
        assert_eq!(all("TextLineReaderV2", &attrs, &files), pairs(&[("0:2", "a"), ("0:3", "b"), ("2:2", "c")]));
    }

    #[test]
    fn pieces_that_overlap() {
        let size = |name, n| (name, Attr::Int(n));
        let attrs = [size("header_bytes", 1), size("record_bytes", 2), size("footer_bytes", 1), size("hop_bytes", 1)];
        assert_eq!(all("FixedLengthRecordReaderV2", &attrs, &[b"Habcf"]), pairs(&[("0:0", "ab"), ("0:1", "bc")]));
        assert_eq!(all("FixedLengthRecordReaderV2", &attrs[1..2], &[b"abcd"]), pairs(&[("0:0", "ab"), ("0:1", "cd")]));
    }
}

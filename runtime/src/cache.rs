//! Compiled programs in a folder of files, for the next process.
//!
//! A file holds one program: a line of JSON that says what it is, the object with its code, and its packed weights, which are mapped into
//! memory as they lie. Its name is a hash of what it was compiled from: the model's files (by path, size and times), the functions asked
//! for, this build of graphc, and the processor. Files are written beside and renamed, so that readers see a whole one or none; what does
//! not agree with its checksums is compiled again. Programs with variables and graphs that run in stages are not kept.

use crate::callable::{Port, Wanted};
use crate::program::{Interface, Program};
use crate::session::SessionOptions;
use graphc_cpu::{Code, Image, PackedWeights};
use graphc_ir::text::parse_dim;
use graphc_ir::{Dim, Elem, Sym, Type};
use graphc_passes::plan;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const MAGIC: &[u8; 8] = b"graphc1\n";
/// Where weights may start: pages.
const PAGE: usize = 4096;
/// Longest description that is read.
const MOST_HEADER: u64 = 64 << 20;
/// Variants of one function that are kept.
const MOST_VARIANTS: usize = 16;

/// A folder of compiled programs, for one model.
pub struct Cache {
    folder: PathBuf,
    origin: String,
}

/// The place of one function's programs.
pub struct Entry {
    folder: PathBuf,
    key: String,
}

/// What was kept of a function.
pub struct Kept {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub programs: Vec<Program>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    inputs: Vec<PortText>,
    outputs: Vec<PortText>,
    program: ProgramText,
    object: usize,
    weights: usize,
    /// CRC32C of the object and of the weights.
    checksums: [u32; 2],
}

/// A [`Port`]: name, element type, and sizes unless the rank is open.
#[derive(Serialize, Deserialize)]
struct PortText(String, String, Option<Vec<String>>);

#[derive(Serialize, Deserialize)]
struct ProgramText {
    syms: Vec<String>,
    inputs: Vec<PortText>,
    outputs: Vec<PortText>,
    arena: String,
    launches: Vec<String>,
    feed_of: Vec<usize>,
}

impl Cache {
    /// The programs in `folder` of the model at `path`; `None` if the files of the model cannot be told.
    pub fn open(folder: &Path, path: &Path, options: &SessionOptions) -> Option<Cache> {
        let mut origin = this_build()?;
        writeln!(origin, "{:?}", graphc_kernels::tier::tier()).ok()?;
        let mut files = Vec::new();
        model_files(path, &mut files)?;
        if let Some(prefix) = &options.checkpoint {
            let name = prefix.file_name()?.to_str()?;
            let beside = std::fs::read_dir(prefix.parent()?).ok()?.flatten().map(|e| e.path());
            files.extend(beside.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(name))));
        }
        files.sort();
        files.iter().try_for_each(|f| identify(f, &mut origin))?;
        let SessionOptions { tags, limits, check_crc, precision, tune, .. } = options;
        write!(origin, "{tags:?} {limits:?} {check_crc} {precision:?} {tune}").ok()?;
        Some(Cache { folder: folder.to_owned(), origin })
    }

    pub fn entry(&self, wanted: &Wanted) -> Entry {
        Entry { folder: self.folder.clone(), key: format!("{}\n{wanted:?}", self.origin) }
    }
}

/// What tells this build of graphc from others.
pub fn this_build() -> Option<String> {
    let mut text = format!("graphc {}\n", env!("CARGO_PKG_VERSION"));
    identify(&std::env::current_exe().ok()?, &mut text)?;
    Some(text)
}

/// The graph's file and those of its variables. A SavedModel's assets are read at run time.
fn model_files(path: &Path, files: &mut Vec<PathBuf>) -> Option<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Some(());
    }
    for folder in [path.to_owned(), path.join("variables")] {
        let entries = std::fs::read_dir(&folder).ok().into_iter().flatten().flatten();
        files.extend(entries.filter(|e| e.file_type().is_ok_and(|t| !t.is_dir())).map(|e| e.path()));
    }
    (!files.is_empty()).then_some(())
}

/// Adds what tells one state of a file from another.
fn identify(path: &Path, text: &mut String) -> Option<()> {
    let path = path.canonicalize().ok()?;
    let m = path.metadata().ok()?;
    let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
    writeln!(text, "{path:?} {} {} {} {times:?}", m.dev(), m.ino(), m.len()).ok()
}

impl Entry {
    fn file(&self, variant: usize) -> PathBuf {
        let hash = |salt: u8| {
            let mut h = DefaultHasher::new();
            (salt, &self.key).hash(&mut h);
            h.finish()
        };
        self.folder.join(format!("{:016x}{:016x}-{variant}.graphc", hash(0), hash(1)))
    }

    /// All programs that were kept; `None` if there is none, or none that can be trusted.
    pub fn load(&self) -> Option<Kept> {
        let mut kept: Option<Kept> = None;
        for variant in 0..MOST_VARIANTS {
            let Some((header, program)) = self.read(&self.file(variant)) else { break };
            match &mut kept {
                Some(k) => k.programs.push(program),
                None => {
                    let ports = |p: &[PortText]| p.iter().map(port).collect::<Option<Vec<_>>>();
                    let (inputs, outputs) = (ports(&header.inputs)?, ports(&header.outputs)?);
                    kept = Some(Kept { inputs, outputs, programs: vec![program] });
                }
            }
        }
        kept
    }

    fn read(&self, path: &Path) -> Option<(Header, Program)> {
        let mut file = File::open(path).ok()?;
        let mut fixed = [0; 20];
        file.read_exact(&mut fixed).ok()?;
        let length = u64::from_le_bytes(fixed[8..16].try_into().ok()?);
        if &fixed[..8] != MAGIC || length > MOST_HEADER {
            return None;
        }
        let mut text = vec![0; length as usize];
        file.read_exact(&mut text).ok()?;
        let checksum = u32::from_le_bytes(fixed[16..].try_into().ok()?);
        let header: Header = (crc32c::crc32c(&text) == checksum).then(|| serde_json::from_slice(&text).ok())??;
        let object_at = fixed.len() + text.len();
        let weights_at = object_at.checked_add(header.object)?.checked_next_multiple_of(PAGE)?;
        let end = weights_at.checked_add(header.weights)?;
        if header.key != self.key || file.metadata().ok()?.len() != end as u64 {
            return None;
        }
        // SAFETY: files of the cache are renamed into place whole and never written again.
        let map = unsafe { memmap2::MmapOptions::new().len(end).populate().map(&file) }.ok()?;
        let object = map.get(object_at..object_at + header.object)?;
        if [crc32c::crc32c(object), crc32c::crc32c(&map[weights_at..])] != header.checksums {
            return None;
        }
        // SAFETY: the key names this very build and processor, and the checksum says that the object is as it was written.
        let code = Code::Image(unsafe { Image::load(object) }.ok()?);
        let p = &header.program;
        let ports = |list: &[PortText]| list.iter().map(plan_port).collect::<Option<Vec<_>>>();
        let interface = Interface {
            syms: p.syms.iter().map(|s| Sym::new(s)).collect(),
            inputs: ports(&p.inputs)?,
            outputs: ports(&p.outputs)?,
            arena: parse_dim(&p.arena).ok()?,
            launches: p.launches.clone(),
        };
        let program = Program::kept(interface, code, PackedWeights::mapped(map, weights_at), p.feed_of.clone());
        Some((header, program))
    }

    /// Keeps a program with its object. What cannot be written is not kept: the cache is a help, never a need.
    pub fn save(&self, inputs: &[Port], outputs: &[Port], program: &Program, object: &[u8]) {
        let Some(path) = (0..MOST_VARIANTS).map(|v| self.file(v)).find(|p| !p.exists()) else { return };
        // What is computed for targets alone would be taken for outputs.
        if program.is_plain() && program.interface().outputs.len() == outputs.len() {
            let _ = self.write(&path, inputs, outputs, program, object);
        }
    }

    fn write(&self, path: &Path, inputs: &[Port], outputs: &[Port], program: &Program, object: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (interface, weights) = (program.interface(), program.weights());
        let text = |ports: &[plan::Port]| ports.iter().map(|p| port_text(&p.name, p.ty.elem, Some(&p.ty.shape))).collect();
        let header = Header {
            key: self.key.clone(),
            inputs: inputs.iter().map(|p| port_text(&p.name, p.elem, p.shape.as_deref())).collect(),
            outputs: outputs.iter().map(|p| port_text(&p.name, p.elem, p.shape.as_deref())).collect(),
            program: ProgramText {
                syms: interface.syms.iter().map(|s| s.name().to_owned()).collect(),
                inputs: text(&interface.inputs),
                outputs: text(&interface.outputs),
                arena: interface.arena.to_string(),
                launches: interface.launches.clone(),
                feed_of: program.feed_of().to_vec(),
            },
            object: object.len(),
            weights: weights.len(),
            checksums: [crc32c::crc32c(object), crc32c::crc32c(weights)],
        };
        let header = serde_json::to_vec(&header)?;
        std::fs::create_dir_all(&self.folder)?;
        let part = path.with_extension(format!("{}-{}.part", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let written = File::create_new(&part).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&crc32c::crc32c(&header).to_le_bytes())?;
            file.write_all(&header)?;
            file.write_all(object)?;
            let at = file.stream_position()?.next_multiple_of(PAGE as u64);
            file.seek(SeekFrom::Start(at))?;
            file.write_all(weights)?;
            std::fs::rename(&part, path)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

fn port_text(name: &str, elem: Elem, shape: Option<&[Dim]>) -> PortText {
    PortText(name.to_owned(), elem.name().to_owned(), shape.map(|s| s.iter().map(ToString::to_string).collect()))
}

fn port(PortText(name, elem, shape): &PortText) -> Option<Port> {
    let dims = |s: &Vec<String>| s.iter().map(|d| parse_dim(d).ok()).collect::<Option<Vec<Dim>>>();
    let elem = *Elem::ALL.iter().find(|e| e.name() == elem)?;
    let shape = match shape {
        Some(s) => Some(dims(s)?),
        None => None,
    };
    Some(Port { name: name.clone(), elem, shape })
}

/// A port of a program; the buffer that it had in the plan means nothing any more.
fn plan_port(text: &PortText) -> Option<plan::Port> {
    let Port { name, elem, shape } = port(text)?;
    Some(plan::Port { name, ty: Type::new(elem, shape?), buf: plan::Buf(0) })
}

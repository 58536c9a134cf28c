//! The files of a case. TensorFlow's tests kept theirs in a folder that is not here; a case that names it gets one of its own instead,
//! empty at first, with a name of the same length, so that it may stand inside messages too. What a case saves it can restore; what a test
//! wrote before is missing.

use crate::case::Case;
use graphc::frontend::proto::attr_value::Value;
use graphc::frontend::proto::{NodeDef, TensorProto};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where the tests kept their files when the cases were recorded.
const RECORDED: &[u8] = b"/tmp/w/corpus/";

/// A folder for one case, gone with this.
pub struct Scratch {
    folder: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over lies in the system's folder for such things.
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Scratch {
    /// The folder, and the case with every path into the recorded folder leading there. `None` if it has no such path.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn of(case: &Case) -> io::Result<Option<(Scratch, Case)>> {
        let mut hasher = DefaultHasher::new();
        (std::process::id(), &case.id).hash(&mut hasher);
        let to = format!("/tmp/{:08x}/", hasher.finish() as u32);
        let folder = PathBuf::from(&to);
        let mut moved = case.clone();
        if !(Paths { to: to.into_bytes() }).case(&mut moved) {
            return Ok(None);
        }
        fs::create_dir_all(&folder)?;
        Ok(Some((Scratch { folder }, moved)))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Changes paths; each function says whether there were any.
struct Paths {
    to: Vec<u8>,
}

impl Paths {
    fn case(&self, case: &mut Case) -> bool {
        let graph = case.graph.as_mut().is_some_and(|g| {
            let functions = g.library.iter_mut().flat_map(|l| &mut l.function);
            let inner = functions.fold(false, |any, f| any | self.string(f));
            inner | self.nodes(g.node.iter_mut())
        });
        let feeds = case.steps.iter_mut().flat_map(|s| &mut s.feeds).filter_map(|f| f.value.as_mut());
        let fed = self.tensors(feeds);
        let answers = self.tensors(case.steps.iter_mut().flat_map(|s| &mut s.expected));
        graph | fed | answers
    }

    fn nodes<'n>(&self, nodes: impl Iterator<Item = &'n mut NodeDef>) -> bool {
        let values = nodes.flat_map(|n| n.attr.values_mut()).filter_map(|a| a.value.as_mut());
        values.fold(false, |any, v| {
            any | match v {
                Value::S(s) => self.string(s),
                Value::Tensor(t) => self.tensors(std::iter::once(t.as_mut())),
                Value::List(l) => l.s.iter_mut().fold(false, |any, s| any | self.string(s)),
                _ => false,
            }
        })
    }

    fn tensors<'t>(&self, tensors: impl Iterator<Item = &'t mut TensorProto>) -> bool {
        tensors.flat_map(|t| &mut t.string_val).fold(false, |any, s| any | self.string(s))
    }

    fn string<S: AsRef<[u8]> + From<Vec<u8>>>(&self, s: &mut S) -> bool {
        let mut text = s.as_ref().to_vec();
        let places: Vec<usize> = text.windows(RECORDED.len()).enumerate().filter(|(_, w)| *w == RECORDED).map(|(i, _)| i).collect();
        for &at in &places {
            text[at..at + RECORDED.len()].copy_from_slice(&self.to);
        }
        if places.is_empty() {
            return false;
        }
        *s = text.into();
        true
    }
}

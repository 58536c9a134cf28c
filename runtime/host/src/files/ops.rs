//! Whole files, and their errors.

use super::matching;
use crate::Result;
use crate::call::{Call, strings_of};
use crate::error::{HostError, failed_precondition, internal, invalid, not_found, unimplemented};
use crate::limits::count_of;
use graphc_ir::{Elem, Tensor, TfStatus};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// The failure of work on a file.
pub fn file_error(path: &Path, e: &Error) -> HostError {
    let message = format!("{}; {e}", path.display());
    match e.kind() {
        ErrorKind::NotFound => not_found(message),
        ErrorKind::PermissionDenied => HostError::new(TfStatus::PermissionDenied, message),
        ErrorKind::IsADirectory | ErrorKind::NotADirectory => failed_precondition(message),
        _ => HostError::new(TfStatus::Unknown, message),
    }
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| file_error(path, &e))
}

/// Writes a file, and the folders above it.
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| file_error(folder, &e))?;
    }
    std::fs::write(path, contents).map_err(|e| file_error(path, &e))
}

/// The string of an operand that must be of rank 0.
pub fn scalar<'a>(call: &'a Call, k: usize, what: &str) -> Result<&'a [u8]> {
    match call.tensor(k)?.rank() {
        0 => call.string(k),
        _ => Err(invalid(format!("{what} must be a scalar, got shape {:?}", call.tensor(k)?.shape()))),
    }
}

/// `ReadFile`.
pub fn read_file(call: &Call) -> Result {
    let bytes = call.contents(scalar(call, 0, "the filename")?)?;
    Ok(vec![strings_of(&[], vec![bytes.into()])?.into()])
}

/// `ImmutableConst`: a tensor whose elements are the first bytes of a file.
pub fn immutable_const(call: &Call) -> Result {
    let elem = call.attrs.elem("dtype")?;
    let shape: Option<Vec<usize>> = call.attrs.shape("shape")?.and_then(|s| s.into_iter().collect());
    let shape = shape.ok_or_else(|| invalid("the shape of a constant must be known"))?;
    let path = call.attrs.bytes("memory_region_name")?;
    if elem == Elem::Str {
        return Err(unimplemented("a file of strings is no constant"));
    }
    let size = count_of(elem, &shape)? * elem.size();
    let mut bytes = call.contents(&path)?.into_owned();
    if bytes.len() < size {
        let path = String::from_utf8_lossy(&path);
        return Err(internal(format!("{path} has {} bytes, fewer than the {size} of the constant", bytes.len())));
    }
    bytes.truncate(size);
    let t = Tensor::from_bytes(elem, shape, bytes).ok_or_else(|| invalid(format!("elements of type {elem} have no bytes")))?;
    Ok(vec![t.into()])
}

/// `WriteFile`.
pub fn write_file(call: &Call) -> Result {
    let path = call.writable(scalar(call, 0, "the filename")?)?;
    write(&path, scalar(call, 1, "the contents")?)?;
    Ok(Vec::new())
}

/// `MatchingFiles`: the paths that match any of the patterns, in order.
pub fn matching_files(call: &Call) -> Result {
    if call.tensor(0)?.rank() > 1 {
        return Err(invalid(format!("the patterns must be a scalar or a vector, got shape {:?}", call.tensor(0)?.shape())));
    }
    let mut found = Vec::new();
    for pattern in call.strings(0)? {
        found.extend(matching::files(call, pattern)?);
    }
    found.sort();
    let paths = found.into_iter().map(|p| p.into_os_string().into_encoded_bytes().into_boxed_slice()).collect::<Vec<_>>();
    Ok(vec![strings_of(&[paths.len()], paths)?.into()])
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, run, text, v};
    use crate::{Attr, Grant, TfStatus};
    use graphc_ir::{Elem, Tensor};

    #[test]
    fn constants_come_from_files_and_attributes() {
        let folder = std::env::temp_dir().join(format!("graphc-constants-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("numbers");
        std::fs::write(&file, [1, 0, 2, 0, 3]).unwrap();
        let name = file.to_str().unwrap().as_bytes().to_vec();
        let constant = |elem: Elem, n: usize| {
            let shape = Attr::Shape(Some(vec![Some(n)]));
            let attrs = [("dtype", Attr::Elem(elem)), ("shape", shape), ("memory_region_name", Attr::Str(name.clone()))];
            Bench::with(&[Grant::reading(&folder)]).run("ImmutableConst", &attrs, &[])
        };
        assert_eq!(v::<i16>(&constant(Elem::I16, 2).unwrap()[0]), [1, 2]);
        assert_eq!(constant(Elem::I16, 3).unwrap_err().status, TfStatus::Internal);
        assert_eq!(constant(Elem::Str, 1).unwrap_err().status, TfStatus::Unimplemented);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(constant(Elem::I16, 2).unwrap_err().status, TfStatus::NotFound);
        let out = run("HostConst", &[("value", Attr::Tensor(Tensor::scalar(7i32)))], &[]).unwrap();
        assert_eq!(v::<i32>(&out[0]), [7]);
    }

    #[test]
    fn files_below_assets_are_written_only_where_that_is_granted() {
        let folder = std::env::temp_dir().join(format!("graphc-assets-{}", std::process::id()));
        let assets = folder.join("assets");
        std::fs::create_dir_all(&assets).unwrap();
        let file = assets.join("vocabulary").to_str().map(|f| text(&[], &[f])).unwrap();
        let write = |grants: &[Grant]| Bench::with(grants).run("WriteFile", &[], &[file.clone(), text(&[], &["word"])]);
        let read = Grant::reading(&assets);
        assert_eq!(write(std::slice::from_ref(&read)).unwrap_err().status, TfStatus::PermissionDenied);
        write(&[read.clone(), Grant::writing(&folder)]).unwrap();
        let out = Bench::with(&[read]).run("ReadFile", &[], &[file]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().strings().unwrap()[0][..], *b"word");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

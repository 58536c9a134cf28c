//! The main function of a program that is one model: inputs from npy and npz files, outputs to an npz file.

mod npy;
mod zip;

use crate::file::File;
use crate::{Call, Instance};
use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ffi::{CStr, c_char, c_int};
use graphc_abi::model as raw;
use graphc_abi::model::{STRING, Text};
use graphc_engine::{Compute, Error, Function, Model, Options};
use npy::Array;

/// Why a program did not succeed, with its exit code; the codes are those of `graphc` itself.
struct Failure {
    code: c_int,
    message: String,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure { code: 2, message: message.into() }
}

fn input(message: impl Into<String>) -> Failure {
    Failure { code: 3, message: message.into() }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure { code: 5, message: e.message }
    }
}

/// The main function: `main` of an object that was compiled as a program calls it with its model.
///
/// # Safety
/// The arguments are those of `main`, and a model of an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn graphc_main(argc: c_int, argv: *const *const c_char, model: *const raw::Model) -> c_int {
    let mut args = Vec::new();
    for k in 0..usize::try_from(argc).unwrap_or(0) {
        // SAFETY: `main` is given so many texts.
        args.push(unsafe { CStr::from_ptr(*argv.add(k)) }.to_string_lossy().into_owned());
    }
    // SAFETY: by this function's contract.
    let result = unsafe { Model::new(model) }.map_err(Failure::from).and_then(|m| run(m, &args));
    match result {
        Ok(text) => {
            put(1, &text);
            0
        }
        Err(f) => {
            put(2, &format!("error: {}\n", f.message));
            f.code
        }
    }
}

/// Writes text to standard output or error.
fn put(to: c_int, text: &str) {
    // SAFETY: bytes that are there. What cannot be written is lost, as everywhere.
    let _ = unsafe { libc::write(to, text.as_ptr().cast(), text.len()) };
}

const USAGE: &str = "\
Runs the model once.

Options:
  -i, --input FILE      an npz file with the inputs by name, or NAME=FILE.npy; may be given several times.
                        Without any, inputs are zero or empty strings, and extents that the model leaves open are 1
  -o, --output FILE     writes the outputs to an npz file
  -f, --function NAME   the signature to run [default: the first]
  -t, --threads N       threads that compute [default: 1]
      --weights FILE    the file of weights, for a model that has one
      --files FOLDER    a folder in which the model may read and write files
      --describe        prints the signatures
  -h, --help            prints this

Exit codes: 0 done, 2 wrong usage, 3 an input file is not valid, 5 the run failed, 6 a file cannot be written
";

#[derive(Default)]
struct Args {
    inputs: Vec<String>,
    output: Option<String>,
    function: Option<String>,
    threads: usize,
    weights: Option<String>,
    files: Option<String>,
}

fn run(model: Model, words: &[String]) -> Result<String, Failure> {
    let mut args = Args::default();
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((n, v)) if n.starts_with("--") => (n, Some(v.into())),
            _ => (word.as_str(), None),
        };
        let mut value = || joined.clone().or_else(|| words.next().cloned()).ok_or_else(|| usage(format!("{name} takes a value")));
        match name {
            "-h" | "--help" => return Ok(format!("{}\n\n{USAGE}", model.name())),
            "--describe" => return Ok(describe(model)),
            "-i" | "--input" => args.inputs.push(value()?),
            "-o" | "--output" => args.output = Some(value()?),
            "-f" | "--function" => args.function = Some(value()?),
            "-t" | "--threads" => args.threads = value()?.parse().map_err(|_| usage("--threads takes a number"))?,
            "--files" => args.files = Some(value()?),
            "--weights" => args.weights = Some(value()?),
            _ => return Err(usage(format!("{word:?} is no option; --help lists them"))),
        }
    }
    compute(model, &args)
}

fn open(path: &str) -> Result<File, Failure> {
    let file = CString::new(path).ok().and_then(|p| File::open(&p));
    file.ok_or_else(|| input(format!("{path}: cannot be opened")))
}

fn compute(model: Model, args: &Args) -> Result<String, Failure> {
    let function = match &args.function {
        None => 0,
        Some(name) => {
            let at = model.functions().position(|f| f.name() == name);
            at.ok_or_else(|| usage(format!("no signature {name:?}; --describe lists them")))?
        }
    };
    let weights = match &args.weights {
        Some(path) => Some(open(path)?.map().ok_or_else(|| input(format!("{path}: cannot be mapped")))?),
        None => None,
    };
    let given = given(&args.inputs)?;
    let files: Vec<&str> = args.files.iter().map(String::as_str).collect();
    let weights = weights.as_ref().map(|m| m.bytes());
    let options = Options { compute: Compute::Threads(args.threads), weights, files: &files };
    // SAFETY: the weights are mapped until this function returns.
    let instance = unsafe { Instance::new(model, options)? };
    let mut call = Call::new(&instance, function)?;
    let inputs = inputs(call.function(), given)?;
    let texts = |a: &Array| a.strings.iter().map(|s| Text { data: s.as_ptr(), size: s.len() }).collect::<Vec<_>>();
    let strings: Vec<Vec<Text>> = inputs.iter().map(texts).collect();
    for (k, (a, s)) in inputs.iter().zip(&strings).enumerate() {
        let data = if a.dtype == STRING { s.as_ptr().cast() } else { a.bytes.as_ptr() };
        // SAFETY: `inputs` outlives the run, with as many elements as the extents say.
        unsafe { call.set_input(k, data, &a.dims)? };
    }
    call.run(None)?;
    let mut outputs = Vec::new();
    for (k, port) in call.function().outputs().enumerate() {
        let (dims, len) = (call.output_dims(k)?.to_vec(), call.output_bytes(k)?);
        let mut output = Array { name: port.name().into(), dtype: port.elem(), dims, bytes: Vec::new(), strings: Vec::new() };
        if port.elem() == STRING {
            // SAFETY: the run left so many strings there.
            let texts: &[Text] = unsafe { slice(call.output_data(k).cast(), len / size_of::<Text>()) };
            // SAFETY: as above.
            output.strings = texts.iter().map(|t| unsafe { slice(t.data, t.size) }.to_vec()).collect();
        } else {
            // SAFETY: the run wrote so many bytes there.
            output.bytes = unsafe { slice(call.output_data(k), len) }.to_vec();
        }
        outputs.push(output);
    }
    match &args.output {
        Some(path) => save(path, &outputs).map(|()| String::new()),
        None => Ok(outputs.iter().map(summary).collect()),
    }
}

/// # Safety
/// There are so many items.
unsafe fn slice<'a, T>(data: *const T, count: usize) -> &'a [T] {
    // SAFETY: by this function's contract.
    if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(data, count) } }
}

/// The arrays of the input files.
fn given(files: &[String]) -> Result<Vec<Array>, Failure> {
    let mut arrays = Vec::new();
    for f in files {
        let (name, path) = f.split_once('=').unwrap_or(("", f));
        let bytes = open(path)?.read_all().ok_or_else(|| input(format!("{path}: cannot be read")))?;
        let mut found = npy::read(&bytes, name).map_err(|e| input(format!("{path}: {e}")))?;
        if let ([a], false) = (found.as_mut_slice(), name.is_empty()) {
            a.name = name.into();
        }
        arrays.append(&mut found);
    }
    Ok(arrays)
}

/// An array for each input of a function.
fn inputs(function: Function, mut given: Vec<Array>) -> Result<Vec<Array>, Failure> {
    let (any, single) = (!given.is_empty(), given.len() == 1 && function.inputs().len() == 1);
    let mut arrays = Vec::new();
    for port in function.inputs() {
        let named = |a: &Array| single || a.name.strip_prefix("in/").unwrap_or(&a.name) == port.name();
        let array = match given.iter().position(named) {
            Some(at) => given.swap_remove(at),
            None if any => return Err(input(format!("no array {:?} in the input files", port.name()))),
            None => {
                let dims = port.dims().ok_or_else(|| usage(format!("input {:?} has no known rank; give it", port.name())))?;
                let dims: Vec<i64> = dims.iter().map(|&d| if d < 0 { 1 } else { d }).collect();
                let count = dims.iter().map(|&d| d as usize).product::<usize>();
                let (bytes, strings) = match port.elem() {
                    STRING => (Vec::new(), vec![Vec::new(); count]),
                    _ => (vec![0; count * port.elem_bytes()], Vec::new()),
                };
                Array { name: port.name().into(), dtype: port.elem(), dims, bytes, strings }
            }
        };
        if array.dtype != port.elem() {
            let message = format!("array {:?} has another type than the input {:?}", array.name, port.name());
            return Err(input(message));
        }
        arrays.push(array);
    }
    Ok(arrays)
}

fn save(path: &str, outputs: &[Array]) -> Result<(), Failure> {
    let unwritable = |why: String| Failure { code: 6, message: format!("{path}: {why}") };
    let bytes = npy::write(outputs).map_err(unwritable)?;
    let file = CString::new(path).ok().and_then(|p| File::create(&p));
    let written = file.is_some_and(|f| f.write_all(&bytes));
    if written { Ok(()) } else { Err(unwritable("cannot be written".into())) }
}

/// An output in a line: its extents, and its first numbers.
fn summary(a: &Array) -> String {
    const SHOWN: usize = 5;
    let numbers: Vec<String> = match a.dtype {
        1 => a.bytes.chunks_exact(4).take(SHOWN).map(|b| format!("{}", f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        3 => a.bytes.chunks_exact(4).take(SHOWN).map(|b| format!("{}", i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
        STRING => a.strings.iter().take(SHOWN).map(|s| format!("{:?}", String::from_utf8_lossy(s))).collect(),
        _ => Vec::new(),
    };
    format!("{}: {:?} {}\n", a.name, a.dims, numbers.join(", "))
}

fn describe(model: Model) -> String {
    let mut text = format!("{}\n", model.name());
    for f in model.functions() {
        text += &format!("{}\n", f.name());
        let (ins, outs) = (f.inputs().map(|p| ("input", p)), f.outputs().map(|p| ("output", p)));
        for (what, p) in ins.chain(outs) {
            let dims = p.dims().map_or_else(|| "of any rank".into(), |d| format!("{d:?}"));
            text += &format!("  {what} {}: type {} {dims}\n", p.name(), p.elem());
        }
    }
    text
}

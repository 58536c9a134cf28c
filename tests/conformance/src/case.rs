//! Conformance cases: the messages of a `.tfcases.gz` file.

use flate2::read::MultiGzDecoder;
use graphc::Tensor;
use graphc::frontend::proto::{GraphDef, TensorProto};
use graphc::frontend::{Limits, RawTensor, legalise};
use prost::Message;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// One graph with what was fed and what TensorFlow answered.
#[derive(Clone, PartialEq, Message)]
pub struct Case {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub source_test: String,
    #[prost(string, tag = "4")]
    pub kind: String,
    /// The op that a single-op case is about.
    #[prost(string, tag = "5")]
    pub op: String,
    #[prost(message, optional, tag = "6")]
    pub graph: Option<GraphDef>,
    #[prost(message, repeated, tag = "7")]
    pub steps: Vec<Step>,
    #[prost(string, repeated, tag = "8")]
    pub ops: Vec<String>,
    /// Compare types and shapes only.
    #[prost(bool, tag = "10")]
    pub random: bool,
    /// How far TensorFlow was from itself when the case was run again.
    #[prost(double, tag = "12")]
    pub replay_max_abs: f64,
    #[prost(bool, tag = "15")]
    pub has_error: bool,
}

/// One run of the graph.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    #[prost(message, repeated, tag = "1")]
    pub feeds: Vec<Feed>,
    #[prost(string, repeated, tag = "2")]
    pub targets: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub fetches: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub expected: Vec<TensorProto>,
    /// If set, the step must fail with this status.
    #[prost(message, optional, tag = "5")]
    pub error: Option<StepError>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Feed {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StepError {
    #[prost(string, tag = "1")]
    pub class_name: String,
    #[prost(int32, tag = "2")]
    pub code: i32,
    #[prost(string, tag = "3")]
    pub message: String,
}

/// Reads all cases of a file.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn read(path: &Path) -> io::Result<Vec<Case>> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    let mut rest = bytes.as_slice();
    let mut cases = Vec::new();
    while !rest.is_empty() {
        cases.push(Case::decode_length_delimited(&mut rest)?);
    }
    Ok(cases)
}

/// A tensor of a case as the compiler's.
///
/// # Errors
/// If the message is damaged or holds what no tensor has.
pub fn tensor(proto: &TensorProto) -> Result<Tensor, String> {
    let raw = RawTensor::from_proto(proto, &Limits::default()).map_err(|e| e.to_string())?;
    legalise::tensor(&raw, &Limits::default())
}

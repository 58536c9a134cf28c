//! Records as tensors: raw bytes, CSV, `tf.Example` and its sequences, serialised tensors.

mod compressed;
mod csv;
mod example;
mod features;
mod json;
pub(crate) mod proto;
mod raw;
mod sequence;
mod tensor;

use crate::Table;

pub(crate) const TABLE: Table = &[
    ("DecodeRaw", raw::decode_raw),
    ("DecodePaddedRaw", raw::decode_padded_raw),
    ("DecodeCompressed", compressed::decode_compressed),
    ("DecodeCSV", csv::decode_csv),
    ("DecodeJSONExample", json::decode_json_example),
    ("ParseTensor", tensor::parse_tensor),
    ("SerializeTensor", tensor::serialize_tensor),
    ("ParseExample", example::parse_example),
    ("ParseExampleV2", example::parse_example_v2),
    ("ParseSingleExample", example::parse_single_example),
    ("ParseSequenceExample", sequence::parse_sequence_example),
    ("ParseSequenceExampleV2", sequence::parse_sequence_example_v2),
    ("ParseSingleSequenceExample", sequence::parse_single_sequence_example),
];

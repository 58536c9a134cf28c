//! Strings: joining, splitting, formatting, matching, hashing and encodings.

pub(crate) mod base64;
mod compare;
mod edit;
mod encoding;
mod format;
pub(crate) mod hash;
mod join;
mod names;
mod ngrams;
pub(crate) mod number;
mod regex;
mod scatter;
mod script;
mod split;
pub(crate) mod summary;
mod unicode;

use crate::call::{Call, strings_of, tensor_of};
use crate::error::{HostError, invalid, unimplemented};
use crate::{Result, Table};
use graphc_ir::{Scalar, Tensor};

pub(crate) const TABLE: Table = &[
    ("StringJoin", join::string_join),
    ("ReduceJoin", join::reduce_join),
    ("UnsortedSegmentJoin", join::unsorted_segment_join),
    ("StringSplit", split::string_split),
    ("StringSplitV2", split::string_split_v2),
    ("StringNGrams", ngrams::string_ngrams),
    ("AsString", format::as_string),
    ("StringFormat", format::string_format),
    ("StringToNumber", number::string_to_number),
    ("Substr", edit::substr),
    ("StringLength", edit::string_length),
    ("StringLower", edit::string_lower),
    ("StringUpper", edit::string_upper),
    ("StringStrip", edit::string_strip),
    ("RegexFullMatch", regex::regex_full_match),
    ("StaticRegexFullMatch", regex::static_regex_full_match),
    ("RegexReplace", regex::regex_replace),
    ("StaticRegexReplace", regex::static_regex_replace),
    ("StringToHashBucket", hash::string_to_hash_bucket),
    ("StringToHashBucketFast", hash::string_to_hash_bucket_fast),
    ("StringToHashBucketStrong", hash::string_to_hash_bucket_strong),
    ("Fingerprint", hash::fingerprint),
    ("UnicodeDecode", unicode::unicode_decode),
    ("UnicodeDecodeWithOffsets", unicode::unicode_decode_with_offsets),
    ("UnicodeEncode", unicode::unicode_encode),
    ("UnicodeTranscode", unicode::unicode_transcode),
    ("UnicodeScript", script::unicode_script),
    ("EncodeBase64", base64::encode_base64),
    ("DecodeBase64", base64::decode_base64),
    ("ShardedFilename", names::sharded_filename),
    ("ShardedFilespec", names::sharded_filespec),
];

/// Ops on numbers that take strings too: these functions are for nodes of strings alone.
pub(crate) const OF_STRINGS: Table = &[
    ("Add", join::add),
    ("Equal", compare::equal),
    ("NotEqual", compare::not_equal),
    ("ScatterNd", scatter::scatter_nd),
    ("Cast", no_cast),
    ("Placeholder", unfed),
];

/// TensorFlow has no cast from strings or to them.
fn no_cast(call: &Call) -> Result {
    Err(unimplemented(format!("Cast {} to {} is not supported", call.input(0)?.elem(), call.attrs.elem("DstT")?)))
}

fn unfed(call: &Call) -> Result {
    Err(invalid(format!("You must feed a value for placeholder tensor '{}'", call.node)))
}

/// The strings of operand `k`, each replaced by what `f` makes of it.
fn map_strings(call: &Call, k: usize, f: impl Fn(&[u8]) -> std::result::Result<Vec<u8>, HostError>) -> Result {
    let out = call.strings(k)?.iter().map(|s| f(s).map(Vec::into_boxed_slice)).collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(vec![strings_of(call.tensor(k)?.shape(), out)?.into()])
}

/// Numbers of the shape of operand `k`, one from each of its strings.
fn map_numbers<T: Scalar>(call: &Call, k: usize, f: impl Fn(&[u8]) -> std::result::Result<T, HostError>) -> Result {
    let out = call.strings(k)?.iter().map(|s| f(s)).collect::<std::result::Result<Vec<T>, _>>()?;
    Ok(vec![tensor_of(call.tensor(k)?.shape(), &out)?.into()])
}

/// A tensor of rank 0.
fn scalar(s: Vec<u8>) -> std::result::Result<Tensor, HostError> {
    strings_of(&[], vec![s.into()])
}

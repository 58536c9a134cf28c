//! Summaries for people to look at, as messages.

use crate::call::{Call, strings_of};
use crate::error::invalid;
use crate::parsing::proto::{Field, fields, put_bytes, put_varint};
use crate::tensor_message::encode_with_string_values;
use crate::{Result, Table};
use std::collections::HashSet;

pub(crate) const TABLE: Table = &[
    ("ScalarSummary", scalar_summary),
    ("HistogramSummary", histogram_summary),
    ("TensorSummary", tensor_summary),
    ("TensorSummaryV2", tensor_summary_v2),
    ("MergeSummary", merge_summary),
];

/// A message with those values.
fn summary(values: &[Vec<u8>]) -> Result {
    let mut out = Vec::new();
    values.iter().for_each(|v| put_bytes(&mut out, 1, v));
    Ok(vec![strings_of(&[], vec![out.into()])?.into()])
}

fn tagged(tag: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, tag);
    out
}

fn scalar_tag<'a>(call: &'a Call) -> Result<&'a [u8]> {
    match call.tensor(0)?.rank() {
        0 => call.string(0),
        _ => Err(invalid(format!("the tag must be scalar, got shape {:?}", call.tensor(0)?.shape()))),
    }
}

fn reals(call: &Call, k: usize) -> Result<Vec<f64>> {
    let t = call.tensor(k)?;
    t.to_reals().ok_or_else(|| invalid(format!("elements of type {} cannot be summarised", t.elem())))
}

fn scalar_summary(call: &Call) -> Result {
    let (tags, values) = (call.tensor(0)?, call.tensor(1)?);
    if tags.shape() != values.shape() {
        return Err(invalid(format!("tags and values are not the same shape: {:?} and {:?}", tags.shape(), values.shape())));
    }
    let values = call.strings(0)?.iter().zip(reals(call, 1)?).map(|(tag, v)| {
        let mut value = tagged(tag);
        put_varint(&mut value, 2 << 3 | 5);
        value.extend((v as f32).to_le_bytes());
        value
    });
    summary(&values.collect::<Vec<_>>())
}

fn tensor_summary(call: &Call) -> Result {
    let mut value = Vec::new();
    put_bytes(&mut value, 7, call.node.as_bytes());
    put_bytes(&mut value, 8, &encode_with_string_values(call.tensor(0)?));
    summary(&[value])
}

fn tensor_summary_v2(call: &Call) -> Result {
    let mut value = tagged(scalar_tag(call)?);
    if call.tensor(2)?.rank() != 0 {
        return Err(invalid("serialized_summary_metadata must be scalar"));
    }
    put_bytes(&mut value, 8, &encode_with_string_values(call.tensor(1)?));
    let metadata = call.string(2)?;
    put_bytes(&mut value, 9, if fields(metadata).all(|f| f.is_ok()) { metadata } else { &[] });
    summary(&[value])
}

/// `MergeSummary`: the values of all, of which no two may have one tag.
fn merge_summary(call: &Call) -> Result {
    let (mut values, mut tags) = (Vec::new(), HashSet::new());
    for k in 0..call.inputs.len() {
        for message in call.strings(k)? {
            for field in fields(message) {
                let field = field.map_err(|_| invalid("could not parse one of the summary inputs"))?;
                let (1, Field::Bytes(value)) = field else { continue };
                let tag = fields(value).flatten().find_map(|f| if let (1, Field::Bytes(tag)) = f { Some(tag) } else { None });
                if let Some(tag) = tag.filter(|t| !t.is_empty())
                    && !tags.insert(tag.to_vec())
                {
                    return Err(invalid(format!("duplicate tag {} found in summary inputs", String::from_utf8_lossy(tag))));
                }
                values.push(value.to_vec());
            }
        }
    }
    summary(&values)
}

fn histogram_summary(call: &Call) -> Result {
    let tag = scalar_tag(call)?;
    let values = reals(call, 1)?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err(invalid(format!("a value that is not finite in the summary histogram {}", String::from_utf8_lossy(tag))));
    }
    let mut value = tagged(tag);
    put_bytes(&mut value, 5, &histogram(&values));
    summary(&[value])
}

/// Upper limits of buckets, each a tenth larger than the one before, on both sides of zero.
fn limits() -> Vec<f64> {
    let positive = std::iter::successors(Some(1e-12), |v| Some(v * 1.1)).take_while(|v| *v < 1e20).chain([f64::MAX]);
    let positive: Vec<f64> = positive.collect();
    positive.iter().rev().map(|v| -v).chain([0.0]).chain(positive.iter().copied()).collect()
}

/// A `HistogramProto`, in which a run of empty buckets is one.
fn histogram(values: &[f64]) -> Vec<u8> {
    let limits = limits();
    let mut counts = vec![0f64; limits.len()];
    for v in values {
        counts[limits.partition_point(|l| l <= v).min(limits.len() - 1)] += 1.0;
    }
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for (&limit, &count) in limits.iter().zip(&counts) {
        match buckets.last_mut() {
            Some(last) if last.1 == 0.0 && count == 0.0 => last.0 = limit,
            _ => buckets.push((limit, count)),
        }
    }
    let numbers = [
        values.iter().copied().fold(f64::MAX, f64::min),
        values.iter().copied().fold(-f64::MAX, f64::max),
        values.len() as f64,
        values.iter().fold(0.0, |sum, v| sum + v),
        values.iter().fold(0.0, |sum, v| sum + v * v),
    ];
    let mut out = Vec::new();
    for (field, v) in (1..).zip(numbers).filter(|(_, v)| v.to_bits() != 0) {
        put_varint(&mut out, field << 3 | 1);
        out.extend(v.to_le_bytes());
    }
    put_bytes(&mut out, 6, &buckets.iter().flat_map(|b| b.0.to_le_bytes()).collect::<Vec<_>>());
    put_bytes(&mut out, 7, &buckets.iter().flat_map(|b| b.1.to_le_bytes()).collect::<Vec<_>>());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_tensorflow_writes_histograms() {
        let none = b"\t\xff\xff\xff\xff\xff\xff\xef\x7f\x11\xff\xff\xff\xff\xff\xff\xef\xff2\x08\xff\xff\xff\xff\xff\xff\xef\x7f:\x08\0\0\0\0\0\0\0\0";
        assert_eq!(histogram(&[]), none);
        let some = histogram(&[1.0, 2.0, -3.0, 0.0]);
        let start = b"\t\0\0\0\0\0\0\x08\xc0\x11\0\0\0\0\0\0\0@\x19\0\0\0\0\0\0\x10@)\0\0\0\0\0\0,@2H\r\x9c\xc5\xa0)U\t\xc0h\xbc\x105\x9a\x07\x07\xc0";
        assert!(some.starts_with(start));
        assert_eq!(some.len(), 0xb8);
    }
}

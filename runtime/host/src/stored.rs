//! Types of elements and tensors in files.

use graphc_ir::{Elem, Tensor};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A tensor that files hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredTensor(#[serde(with = "tensor")] pub Tensor);

/// Element types by TensorFlow's number.
pub mod elem {
    use super::*;

    pub fn serialize<S: Serializer>(elem: &Elem, to: S) -> Result<S::Ok, S::Error> {
        elem.number().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Elem, D::Error> {
        let number = i32::deserialize(from)?;
        Elem::from_number(number).ok_or_else(|| D::Error::custom(format_args!("no element type {number}")))
    }
}

/// Tensors: type, shape, and the elements as bytes; of strings, their lengths and all their bytes.
pub mod tensor {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Form<'a> {
        elem: i32,
        shape: Vec<usize>,
        lengths: Option<Vec<usize>>,
        #[serde(borrow, with = "serde_bytes")]
        bytes: std::borrow::Cow<'a, [u8]>,
    }

    pub fn serialize<S: Serializer>(t: &Tensor, to: S) -> Result<S::Ok, S::Error> {
        let lengths = t.strings().map(|s| s.iter().map(|s| s.len()).collect());
        let bytes = match t.strings() {
            Some(s) => s.concat().into(),
            None => t.bytes().into(),
        };
        Form { elem: t.elem().number(), shape: t.shape().to_vec(), lengths, bytes }.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Tensor, D::Error> {
        let Form { elem, shape, lengths, bytes } = Form::deserialize(from)?;
        let tensor = match (Elem::from_number(elem), lengths) {
            (Some(Elem::Str), Some(lengths)) => strings(&bytes, &lengths).and_then(|s| Tensor::from_strings(&shape, s)),
            (Some(elem), None) => Tensor::from_bytes(elem, shape, bytes.into_owned()),
            _ => None,
        };
        tensor.ok_or_else(|| D::Error::custom("a tensor whose elements do not fit its shape"))
    }

    fn strings(mut bytes: &[u8], lengths: &[usize]) -> Option<Vec<Box<[u8]>>> {
        let mut all = Vec::new();
        for &n in lengths {
            let (string, rest) = bytes.split_at_checked(n)?;
            all.push(string.into());
            bytes = rest;
        }
        bytes.is_empty().then_some(all)
    }
}

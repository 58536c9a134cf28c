//! Signatures: named inputs and outputs of one way to run a model.

use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Feed, Fetch, Request};
use crate::limits::Limits;
use crate::proto::tensor_info::Encoding;
use crate::proto::{SignatureDef, TensorInfo};
use crate::tensor::{PartialShape, RawTensor, partial_shape};
use std::collections::BTreeMap;

/// One way to run a model.
#[derive(Clone, Debug)]
pub struct Signature {
    pub name: String,
    /// Such as `tensorflow/serving/predict`; may be empty.
    pub method: String,
    /// Sorted by name.
    pub inputs: Vec<TensorSpec>,
    /// Sorted by name.
    pub outputs: Vec<TensorSpec>,
}

/// An input or output of a signature.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The caller's name. The parts of a sparse tensor are `name/indices`, `name/values` and `name/dense_shape`; those of another
    /// composite tensor `name/0`, `name/1` and so on.
    pub name: String,
    /// `node:k` in the main graph.
    pub tensor: String,
    /// None where the file does not say.
    pub dtype: Option<DataType>,
    pub shape: PartialShape,
    /// Value that an input takes when it is not given.
    pub default: Option<RawTensor>,
}

impl Signature {
    /// The signature as feeds and fetches.
    pub fn request(&self) -> Request {
        let feed = |s: &TensorSpec| Feed { name: s.name.clone(), tensor: s.tensor.clone(), dtype: s.dtype, shape: s.shape.clone() };
        let fetch =
            |s: &TensorSpec| Fetch { name: s.name.clone(), tensor: s.tensor.clone(), dtype: s.dtype, shape: s.shape.clone() };
        Request {
            feeds: self.inputs.iter().map(feed).collect(),
            // An output of an operation alone, without a number, is something to run; only the initialisation op has one.
            fetches: self.outputs.iter().map(fetch).collect(),
            targets: Vec::new(),
        }
    }
}

pub(crate) fn read_signatures(defs: &BTreeMap<String, SignatureDef>, limits: &Limits) -> Result<BTreeMap<String, Signature>> {
    let signature = |(name, def): (&String, &SignatureDef)| -> Result<(String, Signature)> {
        let mut inputs = specs(&def.inputs, limits)?;
        for input in &mut inputs {
            if let Some(value) = def.defaults.get(&input.name) {
                input.default = Some(RawTensor::from_proto(value, limits).map_err(|e| e.at_node(&input.tensor))?);
            }
        }
        let outputs = specs(&def.outputs, limits)?;
        Ok((name.clone(), Signature { name: name.clone(), method: def.method_name.clone(), inputs, outputs }))
    };
    defs.iter().map(signature).collect()
}

fn specs(infos: &BTreeMap<String, TensorInfo>, limits: &Limits) -> Result<Vec<TensorSpec>> {
    let mut out = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        push_specs(name.clone(), info, 0, limits, &mut out)?;
    }
    Ok(out)
}

fn push_specs(name: String, info: &TensorInfo, depth: usize, limits: &Limits, out: &mut Vec<TensorSpec>) -> Result<()> {
    let shape = info.tensor_shape.as_ref().map_or(Ok(None), |s| partial_shape(s, limits)).map_err(|e| e.at_node(&name))?;
    let dtype = DataType::from_number(info.dtype);
    let part = |suffix: &str, tensor: &str, dtype, shape| TensorSpec {
        name: format!("{name}{suffix}"),
        tensor: tensor.to_string(),
        dtype,
        shape,
        default: None,
    };
    match &info.encoding {
        Some(Encoding::Name(tensor)) => out.push(part("", tensor, dtype, shape)),
        Some(Encoding::CooSparse(s)) => {
            let rank = shape.as_ref().map(Vec::len);
            let int64 = Some(DataType::Int64);
            out.push(part("/indices", &s.indices_tensor_name, int64, Some(vec![None, rank])));
            out.push(part("/values", &s.values_tensor_name, dtype, Some(vec![None])));
            out.push(part("/dense_shape", &s.dense_shape_tensor_name, int64, Some(vec![rank])));
        }
        Some(Encoding::CompositeTensor(c)) if depth < limits.max_nesting => {
            for (i, component) in c.components.iter().enumerate() {
                push_specs(format!("{name}/{i}"), component, depth + 1, limits, out)?;
            }
        }
        _ => return Err(Error::from(ErrorKind::NoSuchTensor { name: String::new() }).at_node(&name)),
    }
    Ok(())
}

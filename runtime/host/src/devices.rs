//! Ops about types and devices. There is one device, the CPU.

use crate::call::{Call, strings_of};
use crate::error::invalid;
use crate::{Result, Table, values};
use graphc_ir::Elem;

pub(crate) const TABLE: Table = &[
    ("DeviceIndex", device_index),
    ("DevicePlacementOp", device),
    ("DtypeWithDefaultOp", type_name),
    ("NcclAllReduce", no_kernel),
    ("NcclReduce", no_kernel),
    ("NcclBroadcast", no_kernel),
];

fn device_index(call: &Call) -> Result {
    let names = call.attrs.strings("device_names")?;
    let at = names.iter().position(|n| n == b"CPU").unwrap_or(names.len());
    Ok(vec![values::scalar_i32(at)?])
}

fn device(_: &Call) -> Result {
    let name: &[u8] = b"/job:localhost/replica:0/task:0/device:CPU:0";
    Ok(vec![strings_of(&[], vec![name.into()])?.into()])
}

fn type_name(call: &Call) -> Result {
    let name = match call.input(0)?.elem() {
        Elem::F16 => "half",
        Elem::BF16 => "bfloat16",
        Elem::F32 => "float",
        Elem::F64 => "double",
        Elem::C64 => "complex64",
        Elem::C128 => "complex128",
        Elem::I4 => "int4",
        Elem::I8 => "int8",
        Elem::I16 => "int16",
        Elem::I32 => "int32",
        Elem::I64 => "int64",
        Elem::U4 => "uint4",
        Elem::U8 => "uint8",
        Elem::U16 => "uint16",
        Elem::U32 => "uint32",
        Elem::U64 => "uint64",
        Elem::QI8 => "qint8",
        Elem::QU8 => "quint8",
        Elem::QI16 => "qint16",
        Elem::QU16 => "quint16",
        Elem::QI32 => "qint32",
        Elem::F8E4M3FN => "float8_e4m3fn",
        Elem::F8E5M2 => "float8_e5m2",
        Elem::F8E4M3FNUZ => "float8_e4m3fnuz",
        Elem::F8E4M3B11FNUZ => "float8_e4m3b11fnuz",
        Elem::F8E5M2FNUZ => "float8_e5m2fnuz",
        e => e.name(),
    };
    Ok(vec![strings_of(&[], vec![name.as_bytes().into()])?.into()])
}

/// TensorFlow has no kernel of these ops for the CPU.
fn no_kernel(call: &Call) -> Result {
    Err(invalid(format!("no OpKernel was registered to support op {:?} on the CPU", call.op)))
}

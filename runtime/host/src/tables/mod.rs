//! Lookup tables: from keys to values, shared by name.

mod dense;
mod hashed;
mod order;
mod rows;
mod table;
mod text;

use crate::attrs::PartialShape;
use crate::call::{Call, tensor_of};
use crate::error::invalid;
use crate::shapes;
use crate::value::{Resource, Value};
use crate::values;
use crate::{Result, Table};
use dense::Dense;
use graphc_ir::Elem;
use std::sync::Arc;
use table::{Contents, LookupTable};

pub(crate) const TABLE: Table = &[
    ("HashTable", hash_table),
    ("HashTableV2", hash_table),
    ("AnonymousHashTable", hash_table),
    ("MutableHashTable", mutable_hash_table),
    ("MutableHashTableV2", mutable_hash_table),
    ("AnonymousMutableHashTable", mutable_hash_table),
    ("MutableHashTableOfTensors", mutable_hash_table_of_tensors),
    ("MutableHashTableOfTensorsV2", mutable_hash_table_of_tensors),
    ("AnonymousMutableHashTableOfTensors", mutable_hash_table_of_tensors),
    ("MutableDenseHashTable", mutable_dense_hash_table),
    ("MutableDenseHashTableV2", mutable_dense_hash_table),
    ("AnonymousMutableDenseHashTable", mutable_dense_hash_table),
    ("IsResourceHandleRefCounting", is_ref_counting),
    ("InitializeTable", initialize_table),
    ("InitializeTableV2", initialize_table),
    ("InitializeTableFromTextFile", initialize_table_from_text_file),
    ("InitializeTableFromTextFileV2", initialize_table_from_text_file),
    ("LookupTableFind", lookup_table_find),
    ("LookupTableFindV2", lookup_table_find),
    ("LookupTableInsert", lookup_table_insert),
    ("LookupTableInsertV2", lookup_table_insert),
    ("LookupTableRemove", lookup_table_remove),
    ("LookupTableRemoveV2", lookup_table_remove),
    ("LookupTableSize", lookup_table_size),
    ("LookupTableSizeV2", lookup_table_size),
    ("LookupTableExport", lookup_table_export),
    ("LookupTableExportV2", lookup_table_export),
    ("LookupTableImport", lookup_table_import),
    ("LookupTableImportV2", lookup_table_import),
];

/// Whether an object lives as long as its handles, not as long as the session knows its name.
fn is_ref_counting(call: &Call) -> Result {
    let handle = call.resource(0)?;
    let counted = matches!(handle, Resource::Object { .. }) && !call.host.resources.holds(handle);
    Ok(vec![values::scalar_bool(counted)?])
}

/// A handle to the table that this node names, or to one of its own.
fn handle(call: &Call, make: impl FnOnce(Elem, Elem) -> Result<LookupTable>) -> Result {
    let (key, value) = (call.attrs.elem("key_dtype")?, call.attrs.elem("value_dtype")?);
    if !matches!(key, Elem::I32 | Elem::I64 | Elem::Str) {
        return Err(invalid(format!("there is no table with keys of type {key}")));
    }
    if call.op.starts_with("Anonymous") {
        let object = Arc::new(make(key, value)?);
        return Ok(vec![Value::Resource(Resource::Object { name: call.node.into(), object })]);
    }
    let handle = call.shared("table", || make(key, value))?;
    if let Value::Resource(r) = &handle
        && let Some(table) = r.downcast::<LookupTable>()
    {
        table.check_types(key, value)?;
    }
    Ok(vec![handle])
}

fn hash_table(call: &Call) -> Result {
    handle(call, |key, value| {
        // The pairs of types that TensorFlow has such tables of.
        let exists = match value {
            Elem::F32 | Elem::F64 | Elem::I32 | Elem::Str => true,
            Elem::I64 => key != Elem::I32,
            Elem::Bool => key == Elem::Str,
            _ => false,
        };
        if !exists {
            return Err(invalid(format!("there is no table with keys of type {key} and values of type {value}")));
        }
        LookupTable::new(key, value, Vec::new(), Contents::fixed(key, value)?)
    })
}

fn mutable_hash_table(call: &Call) -> Result {
    handle(call, |key, value| LookupTable::new(key, value, Vec::new(), Contents::growing(key, value, 1)?))
}

fn mutable_hash_table_of_tensors(call: &Call) -> Result {
    handle(call, |key, value| {
        let shape = call.attrs.shape("value_shape")?;
        match known(&shape)?[..] {
            [n] => LookupTable::new(key, value, vec![n], Contents::growing(key, value, n)?),
            ref s => Err(invalid(format!("default value must be a vector, got shape {s:?}"))),
        }
    })
}

fn mutable_dense_hash_table(call: &Call) -> Result {
    handle(call, |key, value| {
        let shape = known(&call.attrs.shape("value_shape")?)?;
        if shape.len() > 1 {
            return Err(invalid(format!("empty value must be a scalar or a vector, got shape {shape:?}")));
        }
        let empty = call.tensor(0)?;
        // The first version of the op knows no deleted key.
        let deleted = if call.inputs.len() > 1 { Some(call.tensor(1)?) } else { None };
        let (buckets, load) = (call.attrs.int("initial_num_buckets")?, call.attrs.float("max_load_factor")?);
        let dense = Dense::new(key, value, shape.iter().product(), (empty, deleted), buckets, load)?;
        LookupTable::new(key, value, shape, Contents::Dense(dense)).map(|t| t.with_key_shape(empty.shape()))
    })
}

fn known(shape: &PartialShape) -> Result<Vec<usize>> {
    shapes::full(shape).ok_or_else(|| invalid("the shape of values of a table must be known"))
}

fn table(call: &Call) -> Result<Arc<LookupTable>> {
    call.object::<LookupTable>(0)
}

fn initialize_table(call: &Call) -> Result {
    let (keys, values) = (call.tensor(1)?, call.input(2)?);
    for (what, shape) in [("keys", keys.shape()), ("values", values.shape())] {
        if shape.len() != 1 {
            return Err(invalid(format!("{what} must be a vector, but received shape {shape:?}")));
        }
    }
    if keys.len() != values.shape().iter().product::<usize>() {
        return Err(invalid(format!("keys and values must have the same size: {} and {:?}", keys.len(), values.shape())));
    }
    table(call)?.initialise(keys, values)?;
    Ok(Vec::new())
}

fn initialize_table_from_text_file(call: &Call) -> Result {
    let table = table(call)?;
    let (keys, values) = text::read(call, table.key_elem(), table.value_elem())?;
    table.initialise(&keys, &values.into())?;
    Ok(Vec::new())
}

fn lookup_table_find(call: &Call) -> Result {
    Ok(vec![table(call)?.find(call.tensor(1)?, call.input(2)?)?])
}

fn lookup_table_insert(call: &Call) -> Result {
    table(call)?.insert(call.tensor(1)?, call.input(2)?)?;
    Ok(Vec::new())
}

fn lookup_table_remove(call: &Call) -> Result {
    table(call)?.remove(call.tensor(1)?)?;
    Ok(Vec::new())
}

fn lookup_table_import(call: &Call) -> Result {
    table(call)?.import(call.tensor(1)?, call.input(2)?)?;
    Ok(Vec::new())
}

fn lookup_table_size(call: &Call) -> Result {
    Ok(vec![tensor_of(&[], &[table(call)?.len() as i64])?.into()])
}

fn lookup_table_export(call: &Call) -> Result {
    let table = table(call)?;
    table.check_types(call.attrs.elem("Tkeys")?, call.attrs.elem("Tvalues")?)?;
    let (keys, values) = table.export()?;
    Ok(vec![keys.into(), values])
}

//! Facts of TensorFlow's ops: arguments, attributes, defaults, statefulness.

use crate::dtype::DataType;
use crate::proto::OpDef;
use prost::Message as _;
use std::sync::{Arc, OnceLock};

/// A serialised `OpList`, one record an op, in the order of names; `data/make_ops.py` writes it.
const LIST: &[u8] = include_bytes!("../data/ops.bin");
static RECORDS: &[u8] = LIST;

/// Number of the records.
const COUNT: usize = count(LIST);

/// Where the content of each record begins and ends.
static PLACES: [(u32, u32); COUNT] = places(LIST);

/// The definitions that were asked for, by position.
static DEFS: [OnceLock<Option<Arc<OpDef>>>; COUNT] = [const { OnceLock::new() }; COUNT];

/// The definition of a registered TensorFlow op. Each is decoded when first asked for.
pub fn builtin(name: &str) -> Option<Arc<OpDef>> {
    let i = position(name)?;
    DEFS[i].get_or_init(|| OpDef::decode(record(PLACES[i])).ok().map(Arc::new)).clone()
}

/// Whether TensorFlow registers an op of this name.
pub fn is_builtin(name: &str) -> bool {
    position(name).is_some()
}

fn position(name: &str) -> Option<usize> {
    PLACES.binary_search_by(|&place| name_of(place).cmp(name.as_bytes())).ok()
}

/// Names of all registered ops, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    PLACES.iter().filter_map(|&p| std::str::from_utf8(name_of(p)).ok())
}

fn record((from, to): (u32, u32)) -> &'static [u8] {
    RECORDS.get(from as usize..to as usize).unwrap_or_default()
}

/// The name, which is the first field of a record.
fn name_of(place: (u32, u32)) -> &'static [u8] {
    let record = record(place);
    let (from, to) = delimited(record, 0);
    record.get(from..to).unwrap_or_default()
}

/// Where the content of a field of number 1 that begins at `at` begins and ends; nothing behind the end if there is none.
const fn delimited(bytes: &[u8], mut at: usize) -> (usize, usize) {
    if at >= bytes.len() || bytes[at] != 0x0a {
        return (bytes.len(), bytes.len());
    }
    at += 1;
    let (mut len, mut shift) = (0usize, 0);
    while at < bytes.len() && shift < 28 {
        len |= ((bytes[at] & 0x7f) as usize) << shift;
        shift += 7;
        at += 1;
        if bytes[at - 1] < 0x80 {
            break;
        }
    }
    (at, at + len)
}

const fn count(bytes: &[u8]) -> usize {
    let (mut at, mut n) = (0, 0);
    while at < bytes.len() {
        at = delimited(bytes, at).1;
        n += 1;
    }
    n
}

const fn places(bytes: &[u8]) -> [(u32, u32); COUNT] {
    let mut places = [(0, 0); COUNT];
    let (mut at, mut n) = (0, 0);
    while n < COUNT {
        let (from, to) = delimited(bytes, at);
        places[n] = (from as u32, to as u32);
        at = to;
        n += 1;
    }
    places
}

/// Stateful ops that only create a handle, read state or draw numbers: running one that nobody uses changes nothing that can be seen.
const READS: &[&str] = &[
    "VarHandleOp",
    "ReadVariableOp",
    "_ReadVariablesOp",
    "VarIsInitializedOp",
    "IsVariableInitialized",
    "VariableV2",
    "Variable",
    "VariableShape",
    "ResourceGather",
    "ResourceGatherNd",
    "HashTableV2",
    "HashTable",
    "MutableHashTableV2",
    "MutableHashTable",
    "MutableDenseHashTableV2",
    "LookupTableFindV2",
    "LookupTableSizeV2",
    "LookupTableExportV2",
    "RandomUniform",
    "RandomUniformInt",
    "RandomStandardNormal",
    "TruncatedNormal",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
    "Multinomial",
    "ParameterizedTruncatedNormal",
    "Placeholder",
    "_Arg",
    "RefIdentity",
    "RefSelect",
    "RefSwitch",
    "RefMerge",
    "RefEnter",
    "RefExit",
    "RefNextIteration",
    "IsVariableInitialized",
];

/// Whether running the op can change anything besides its outputs. An op without a definition may.
pub fn has_effect(op: &str, def: Option<&OpDef>) -> bool {
    def.is_none_or(|d| d.is_stateful || d.input_arg.iter().any(|a| a.is_ref)) && !READS.contains(&op)
}

/// Whether the op may see the effect of another: it is stateful, or takes a resource or a reference.
pub fn observes_effects(op: &str, def: Option<&OpDef>) -> bool {
    if matches!(op, "VarHandleOp" | "VariableV2" | "Variable" | "Placeholder" | "_Arg" | "HashTableV2") {
        return false;
    }
    def.is_none_or(|d| {
        let resource = DataType::Resource.number();
        d.is_stateful || d.input_arg.iter().any(|a| a.is_ref || a.r#type == resource)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_decodes() {
        assert!(COUNT > 1900 && names().count() == COUNT, "{COUNT}");
        assert!(names().is_sorted_by(|a, b| a < b));
        for (name, place) in names().zip(PLACES) {
            let def = OpDef::decode(record(place)).unwrap();
            assert_eq!((def.name.as_str(), builtin(name).unwrap().name.as_str()), (name, name));
        }
        let conv = builtin("Conv2D").unwrap();
        assert_eq!(conv.input_arg.len(), 2);
        assert!(conv.attr.iter().any(|a| a.name == "data_format" && a.default_value.is_some()));
        assert!(builtin("NoSuchOp").is_none());
    }

    #[test]
    fn effects_follow_statefulness() {
        let has = |op: &str| has_effect(op, builtin(op).as_deref());
        assert!(has("AssignVariableOp") && has("Print") && has("NoSuchOp"));
        assert!(!has("ReadVariableOp") && !has("Add") && !has("VarHandleOp"));
    }
}

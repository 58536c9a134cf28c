//! Entry points for fuzzing: each takes any bytes and must neither panic nor take more than bounded time and memory.

use crate::checkpoint::{Checkpoint, Slice};
use crate::model::{Model, OpenOptions};
use crate::proto::{MESSAGES, message_index, name};
use crate::tensor::RawTensor;
use crate::{Limits, Request, chunked, textproto, wire};
use bytes::Bytes;
use std::path::Path;

/// Limits under which one input takes milliseconds.
pub fn limits() -> Limits {
    Limits {
        max_file_bytes: 1 << 22,
        max_messages: 1 << 16,
        max_nodes: 1 << 14,
        max_edges: 1 << 16,
        max_name_bytes: 1 << 20,
        max_functions: 1 << 10,
        max_ports: 1 << 10,
        max_elements: 1 << 24,
        max_constant_bytes: 1 << 22,
        max_call_depth: 16,
        max_checkpoint_entries: 1 << 12,
        max_shards: 16,
        ..Limits::default()
    }
}

/// Everything that can be asked of a model.
fn exercise(model: &Model) {
    let all = model.graph().nodes().map(|(_, n)| n.name.clone()).collect();
    let everything = Request { targets: all, ..Request::default() };
    let _ = model.check_supported(&everything, &|op| op.len() % 2 == 0);
    let mut graphs: Vec<_> = model.signatures().filter_map(|s| model.signature_graph(&s.name).ok()).collect();
    graphs.extend(model.run_graph(&everything));
    graphs.extend(model.init_graph().ok().flatten());
    let functions = model.library().functions();
    graphs.extend(functions.filter_map(|f| model.function_inlined(f.name(), &Default::default()).ok()));
    for graph in &graphs {
        let _ = model.assigned_variables(graph);
        for (_, node) in graph.nodes() {
            let _ = node.output_types(model.limits());
            for attr in node.attrs.keys() {
                let _ = (node.attr_shape(attr), node.attr_shapes(attr), node.attr_types(attr), node.attr_str(attr));
                if let Ok(tensor) = node.attr_tensor(attr, model.limits()) {
                    read(&tensor);
                }
            }
        }
    }
    for variable in model.variables() {
        let _ = model.variable_value(variable);
    }
}

fn read(tensor: &RawTensor) {
    if tensor.elements() < 1 << 16 {
        let _ = (tensor.to_i64s(), tensor.to_f64s(), tensor.to_bools(), tensor.strings().map(<[Bytes]>::len));
    }
}

/// The bytes of a GraphDef.
pub fn graph_def(bytes: &[u8]) {
    let options = OpenOptions { limits: limits(), ..OpenOptions::default() };
    let Ok(graph) = wire::decode(Bytes::copy_from_slice(bytes), name::GRAPH, &options.limits) else { return };
    if let Ok(model) = Model::from_graph_def(graph, &options) {
        exercise(&model);
    }
}

/// The bytes of `saved_model.pb`.
pub fn saved_model(bytes: &[u8]) {
    let options = OpenOptions { limits: limits(), ..OpenOptions::default() };
    let Ok(saved) = wire::decode(Bytes::copy_from_slice(bytes), name::SAVED_MODEL, &options.limits) else { return };
    if let Ok(model) = Model::from_saved_model(saved, Path::new("/nonexistent"), &options) {
        exercise(&model);
    }
}

/// Text of a GraphDef or a SavedModel, and of every other message.
pub fn text_proto(bytes: &[u8]) {
    let limits = limits();
    for message in 0..MESSAGES.len() {
        let Ok(binary) = textproto::parse(bytes, message, &limits) else { continue };
        if Some(message) == message_index(name::GRAPH) {
            graph_def(&binary);
        } else if Some(message) == message_index(name::SAVED_MODEL) {
            saved_model(&binary);
        }
    }
}

/// The bytes of `saved_model.cpb`.
pub fn chunked_model(bytes: &[u8]) {
    let limits = limits();
    let _ = chunked::read_saved_model(Bytes::copy_from_slice(bytes), &limits);
}

/// The bytes of a checkpoint index; `prefix` is where its data shards are looked for.
pub fn checkpoint_index(bytes: &[u8], prefix: &Path) {
    let Ok(checkpoint) = Checkpoint::from_index(bytes, prefix, true, &limits()) else { return };
    for key in checkpoint.keys() {
        let Ok(entry) = checkpoint.entry(key) else { continue };
        if let Ok(tensor) = checkpoint.read(key) {
            read(&tensor);
        }
        let mut slice = Slice::whole(&entry.shape);
        if let Some(first) = slice.length.first_mut() {
            *first /= 2;
        }
        let _ = checkpoint.read_slice(key, &slice);
    }
}

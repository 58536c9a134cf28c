//! Compiles the `.proto` files with protox (no protoc) and writes a small descriptor table beside the generated code.

use prost_build::Config;
use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, EnumDescriptorProto};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

const PROTOS: [&str; 4] = ["graph.proto", "checkpoint.proto", "saved_model.proto", "chunk.proto"];

/// Messages that are decoded by hand where they are needed at all.
const LAZY: [(&str, &str); 2] = [("MetaInfoDef", "stripped_op_list"), ("FunctionDefLibrary", "function")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.rs"), descriptors(&files))?;
    files.file.iter_mut().flat_map(|f| &mut f.message_type).for_each(leave_bytes);
    Config::new()
        .btree_map(["."])
        .bytes([
            ".graphc.tf.TensorProto.tensor_content",
            ".graphc.tf.TensorProto.string_val",
            ".graphc.tf.MetaGraphDef.MetaInfoDef.stripped_op_list",
            ".graphc.tf.FunctionDefLibrary.function",
        ])
        .boxed(".graphc.tf.AttrValue.value.tensor")
        .boxed(".graphc.tf.AttrValue.value.list")
        .boxed(".graphc.tf.AttrValue.value.func")
        .compile_fds(files)?;
    Ok(())
}

/// Makes the lazy fields of a message, and of those inside it, plain bytes, which on the wire they are.
fn leave_bytes(m: &mut DescriptorProto) {
    m.nested_type.iter_mut().for_each(leave_bytes);
    let message = m.name().to_owned();
    for f in m.field.iter_mut().filter(|f| LAZY.contains(&(message.as_str(), f.name()))) {
        f.set_type(Type::Bytes);
        f.type_name = None;
    }
}

/// Rust source of `MESSAGES` and `ENUMS`: what the text parser and the wire scanner need to know of each message.
fn descriptors(files: &FileDescriptorSet) -> String {
    let mut messages = Vec::new();
    let mut enums = Vec::new();
    for file in &files.file {
        let package = format!(".{}", file.package());
        file.message_type.iter().for_each(|m| collect(&package, m, &mut messages, &mut enums));
        file.enum_type.iter().for_each(|e| enums.push((format!("{package}.{}", e.name()), e)));
    }
    let message_index: BTreeMap<&str, usize> = messages.iter().enumerate().map(|(i, (n, _))| (n.as_str(), i)).collect();
    let enum_index: BTreeMap<&str, usize> = enums.iter().enumerate().map(|(i, (n, _))| (n.as_str(), i)).collect();
    let mut s = String::from("pub(crate) static MESSAGES: &[Message] = &[\n");
    for (name, m) in &messages {
        let _ = writeln!(s, "Message {{ name: {:?}, fields: &[", name.trim_start_matches('.'));
        for f in &m.field {
            let kind = match f.r#type() {
                Type::Message => format!("Kind::Message({})", message_index[f.type_name()]),
                Type::Enum => format!("Kind::Enum({})", enum_index[f.type_name()]),
                other => format!("Kind::{other:?}"),
            };
            let repeated = f.label() == Label::Repeated;
            let _ = writeln!(s, "Field {{ name: {:?}, number: {}, kind: {kind}, repeated: {repeated} }},", f.name(), f.number());
        }
        s.push_str("] },\n");
    }
    s.push_str("];\npub(crate) static ENUMS: &[&[(&str, i32)]] = &[\n");
    for (_, e) in &enums {
        let values: Vec<_> = e.value.iter().map(|v| (v.name(), v.number())).collect();
        let _ = writeln!(s, "&{values:?},");
    }
    s.push_str("];\n");
    s
}

fn collect<'a>(
    scope: &str,
    m: &'a DescriptorProto,
    messages: &mut Vec<(String, &'a DescriptorProto)>,
    enums: &mut Vec<(String, &'a EnumDescriptorProto)>,
) {
    let name = format!("{scope}.{}", m.name());
    m.nested_type.iter().for_each(|n| collect(&name, n, messages, enums));
    m.enum_type.iter().for_each(|e| enums.push((format!("{name}.{}", e.name()), e)));
    messages.push((name, m));
}

//! The functions and op definitions that a graph comes with.

use super::build::{NamedNode, Resolver, finish, instantiate, nested_placeholder, resolve_nodes};
use super::node::{Attrs, arg_count, find_attr};
use super::{GraphInput, GraphOutput, RawGraph};
use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::ops;
use crate::proto::attr_value::{ListValue, Value as Attr};
use crate::proto::function_def::ArgAttrs;
use crate::proto::op_def::ArgDef;
use crate::proto::{AttrValue, FunctionDef, FunctionDefLibrary, NodeDef, OpDef, OpList, name};
use crate::tensor::{PartialShape, partial_shape};
use crate::wire::{self, WireField};
use bytes::Bytes;
use hashbrown::HashMap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A function of the library, its body still unresolved.
#[derive(Debug)]
pub struct Function {
    signature: Arc<OpDef>,
    nodes: Vec<NamedNode>,
    ret: BTreeMap<String, String>,
    control_ret: BTreeMap<String, String>,
    arg_attr: BTreeMap<u32, ArgAttrs>,
    attrs: Attrs,
    polymorphic: bool,
}

impl Function {
    pub fn name(&self) -> &str {
        &self.signature.name
    }

    /// The function seen as an op: arguments, results, attributes.
    pub fn signature(&self) -> &Arc<OpDef> {
        &self.signature
    }

    /// Attributes of the function itself, such as `_noinline` or `_XlaMustCompile`.
    pub fn attrs(&self) -> &Attrs {
        &self.attrs
    }

    /// Ops of the body, one entry a node.
    pub fn ops(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().map(|n| (n.op.as_str(), n.name.as_str()))
    }

    /// Op, name and attributes of each node of the body.
    pub(crate) fn named_nodes(&self) -> impl Iterator<Item = (&str, &str, &Attrs)> {
        self.nodes.iter().map(|n| (n.op.as_str(), n.name.as_str(), &*n.attrs))
    }

    fn new(def: FunctionDef) -> Function {
        let nodes: Vec<NamedNode> = def.node_def.into_iter().map(NamedNode::from).collect();
        let open = |a: &AttrValue| matches!(a.value, Some(Attr::Placeholder(_))) || nested_placeholder(a);
        let signature = Arc::new(def.signature.unwrap_or_default());
        let generic_arg = |a: &ArgDef| !a.type_attr.is_empty() || !a.number_attr.is_empty() || !a.type_list_attr.is_empty();
        let polymorphic = signature.input_arg.iter().chain(&signature.output_arg).any(generic_arg)
            || nodes.iter().any(|n| n.attrs.values().any(open));
        Function {
            signature,
            nodes,
            ret: def.ret,
            control_ret: def.control_ret,
            arg_attr: def.arg_attr,
            attrs: def.attr,
            polymorphic,
        }
    }
}

/// A function as the file has it, decoded when it is first asked for: most models have some for training and saving that nothing calls.
#[derive(Debug)]
struct Stored {
    bytes: Bytes,
    function: OnceLock<Option<Function>>,
}

impl Stored {
    fn decode(&self, limits: &Limits) -> Result<Function> {
        wire::decode(self.bytes.clone(), name::FUNCTION, limits).map(Function::new)
    }

    /// The function; `None` if it is not valid.
    fn function(&self, limits: &Limits) -> Option<&Function> {
        self.function.get_or_init(|| self.decode(limits).ok()).as_ref()
    }
}

/// The name of a serialised function, which its signature has.
fn name_of(mut function: &[u8]) -> Option<&str> {
    let mut name: &[u8] = b"";
    while !function.is_empty() {
        let WireField { number: 1, payload: Some(mut signature) } = wire::next_field(&mut function).ok()? else { continue };
        while !signature.is_empty() {
            if let WireField { number: 1, payload: Some(text) } = wire::next_field(&mut signature).ok()? {
                name = text;
            }
        }
    }
    std::str::from_utf8(name).ok()
}

/// The functions of a graph, and the definitions of ops that TensorFlow 2.21 does not have.
#[derive(Debug, Default)]
pub struct Library {
    functions: BTreeMap<String, Stored>,
    extra_ops: HashMap<String, Arc<OpDef>>,
    /// Definitions that were asked for.
    op_defs: Mutex<HashMap<String, Option<Arc<OpDef>>>>,
    limits: Limits,
    bodies: Mutex<HashMap<String, Arc<RawGraph>>>,
    /// Functions that the compiler made itself, by name.
    made: Mutex<HashMap<String, Arc<RawGraph>>>,
}

impl Library {
    pub(crate) fn new(library: FunctionDefLibrary, ops: Bytes, limits: &Limits) -> Result<Library> {
        if library.function.len() > limits.max_functions {
            let (count, limit) = (library.function.len(), limits.max_functions);
            return Err(ErrorKind::TooMany { what: "functions", count, limit, name: "max_functions" }.into());
        }
        let mut functions = BTreeMap::new();
        for bytes in library.function {
            let stored = Stored { bytes, function: OnceLock::new() };
            let name = match name_of(&stored.bytes) {
                Some(name) => name.to_owned(),
                None => stored.decode(limits)?.name().to_owned(),
            };
            if functions.insert(name.clone(), stored).is_some() {
                return Err(ErrorKind::DuplicateFunction { name }.into());
            }
        }
        let extra_ops = unknown_ops(ops, limits)?;
        Ok(Library { functions, extra_ops, limits: limits.clone(), ..Library::default() })
    }

    /// All valid functions, by name.
    pub fn functions(&self) -> impl Iterator<Item = &Function> {
        self.functions.values().filter_map(|f| f.function(&self.limits))
    }

    /// A function, if there is one of this name and it is valid.
    pub fn get(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)?.function(&self.limits)
    }

    /// Definition of an op: a function of that name, TensorFlow's op, or one that the file defines.
    pub fn op_def(&self, name: &str) -> Option<Arc<OpDef>> {
        // A poisoned lock only means that another thread panicked between two complete insertions.
        let mut known = self.op_defs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(def) = known.get(name) {
            return def.clone();
        }
        let def = match self.get(name) {
            Some(f) => Some(f.signature.clone()),
            None => ops::builtin(name).or_else(|| self.extra_ops.get(name).cloned()),
        };
        known.insert(name.to_owned(), def.clone());
        def
    }

    /// The body of a function as a graph: arguments are `_Arg` nodes and `inputs`, returned values `outputs`, and nodes that must
    /// run for their effect `targets`. `attrs` are those of the call, for functions that leave types open.
    pub fn body(&self, name: &str, attrs: &Attrs) -> Result<Arc<RawGraph>> {
        let Some(function) = self.get(name) else {
            if let Some(invalid) = self.functions.get(name) {
                // Once more, for the error.
                return Err(invalid
                    .decode(&self.limits)
                    .err()
                    .unwrap_or_else(|| ErrorKind::NoSuchFunction { name: name.to_string() }.into()));
            }
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
            return made.ok_or_else(|| ErrorKind::NoSuchFunction { name: name.to_string() }.into());
        };
        if function.polymorphic {
            return build_body(function, attrs, self).map(Arc::new).map_err(|e| e.in_function(name));
        }
        // A poisoned lock only means that another thread panicked between two complete insertions.
        if let Some(body) = self.bodies.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(body.clone());
        }
        let body = Arc::new(build_body(function, attrs, self).map_err(|e| e.in_function(name))?);
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), body.clone());
        Ok(body)
    }

    /// Takes a function that the compiler made and gives the name it has from now on: the one asked for, with a number where another
    /// function has it. Making the same function again gives the same name.
    pub(crate) fn add(&self, mut body: RawGraph) -> String {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = std::mem::take(&mut body.name);
        for i in 0u64.. {
            let name = if i == 0 { wanted.clone() } else { format!("{wanted}_{i}") };
            body.name.clone_from(&name);
            match made.get(&name) {
                Some(there) if there.same(&body) => return name,
                Some(_) => {}
                None if self.get(&name).is_some() || ops::is_builtin(&name) => {}
                None => {
                    made.insert(name.clone(), Arc::new(body));
                    return name;
                }
            }
        }
        wanted
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Definitions of ops that TensorFlow 2.21 does not have, from a serialised list. Most lists hold none, and are not decoded.
fn unknown_ops(list: Bytes, limits: &Limits) -> Result<HashMap<String, Arc<OpDef>>> {
    let known = |mut record: &[u8]| match wire::next_field(&mut record) {
        Ok(WireField { number: 1, payload: Some(name) }) => std::str::from_utf8(name).is_ok_and(ops::is_builtin),
        _ => false,
    };
    let all_known = |mut rest: &[u8]| {
        while !rest.is_empty() {
            match wire::next_field(&mut rest) {
                Ok(WireField { number: 1, payload: Some(record) }) if known(record) => {}
                _ => return false,
            }
        }
        true
    };
    if all_known(&list) {
        return Ok(HashMap::new());
    }
    let list: OpList = wire::decode(list, name::OP_LIST, limits)?;
    let unknown = list.op.into_iter().filter(|op| !ops::is_builtin(&op.name));
    Ok(unknown.map(|op| (op.name.clone(), Arc::new(op))).collect())
}

/// Resolves the nodes of a main graph.
pub(crate) fn main_graph(nodes: Vec<NodeDef>, library: &Library) -> Result<RawGraph> {
    let nodes: Vec<NamedNode> = nodes.into_iter().map(NamedNode::from).collect();
    let mut resolver = Resolver::new(&nodes, library, &library.limits)?;
    let nodes = resolve_nodes(&nodes, &mut resolver, false)?;
    finish(String::new(), nodes, &library.limits)
}

fn build_body(function: &Function, call: &Attrs, library: &Library) -> Result<RawGraph> {
    let limits = &library.limits;
    let signature = &*function.signature;
    let mut nodes = Vec::with_capacity(signature.input_arg.len() + function.nodes.len());
    let mut inputs = Vec::with_capacity(signature.input_arg.len());
    for (i, arg) in signature.input_arg.iter().enumerate() {
        let dtype = arg_type(arg, call, signature, limits)?;
        let mut attrs = u32::try_from(i).ok().and_then(|i| function.arg_attr.get(&i)).map(|a| a.attr.clone()).unwrap_or_default();
        inputs.push((arg.name.clone(), dtype, hinted_shape(&attrs, limits)?));
        attrs.insert("T".into(), AttrValue { value: Some(Attr::Type(dtype.number())) });
        attrs.insert("index".into(), AttrValue { value: Some(Attr::I(i as i64)) });
        let (name, op) = (arg.name.clone(), "_Arg".to_string());
        let arg = NamedNode { name, op, device: String::new(), attrs: Arc::new(attrs), inputs: Vec::new() };
        nodes.push(Cow::Owned(arg));
    }
    for node in &function.nodes {
        let mut node = Cow::Borrowed(node);
        if function.polymorphic {
            instantiate(node.to_mut(), call, signature)?;
        }
        nodes.push(node);
    }
    let mut resolver = Resolver::new(&nodes, library, limits)?;
    let resolved = resolve_nodes(&nodes, &mut resolver, true)?;
    let mut outputs = Vec::with_capacity(signature.output_arg.len());
    for arg in &signature.output_arg {
        let dtype = Some(arg_type(arg, call, signature, limits)?);
        let source = function.ret.get(&arg.name).ok_or_else(|| ErrorKind::FunctionReturn { output: arg.name.clone() })?;
        let value = resolver.value(source, true).map_err(|e| e.at_node(&arg.name))?;
        outputs.push(GraphOutput { name: arg.name.clone(), value, dtype, shape: None });
    }
    let mut targets = Vec::with_capacity(function.control_ret.len());
    for node in function.control_ret.values() {
        targets.push(resolver.node(node)?);
    }
    let mut graph = finish(function.name().to_string(), resolved, limits)?;
    if targets.is_empty() {
        targets.extend(graph.nodes().filter(|(_, n)| n.has_effect()).map(|(id, _)| id));
    }
    targets.sort_unstable();
    targets.dedup();
    for (i, (name, dtype, shape)) in inputs.into_iter().enumerate() {
        graph.inputs.push(GraphInput { name, node: super::NodeId::new(i), dtype: Some(dtype), shape });
    }
    graph.outputs = outputs;
    graph.targets = targets;
    Ok(graph)
}

/// Element type of one argument or result of a function.
fn arg_type(arg: &ArgDef, call: &Attrs, signature: &OpDef, limits: &Limits) -> Result<DataType> {
    let attr = |name: &str| find_attr(call, Some(signature), name);
    if arg_count(arg, &attr, limits).map_err(|e| e.at_node(&arg.name))? != 1 || !arg.type_list_attr.is_empty() {
        let detail = "an argument of a function that stands for several tensors cannot be taken".to_string();
        return Err(Error::from(ErrorKind::AttrValue { attr: arg.name.clone(), detail }));
    }
    let number = match attr(&arg.type_attr) {
        _ if arg.type_attr.is_empty() => arg.r#type,
        Some(Attr::Type(t)) => *t,
        _ => return Err(ErrorKind::MissingAttr { op: signature.name.clone(), attr: arg.type_attr.clone() }.into()),
    };
    DataType::from_number(number).ok_or_else(|| Error::from(ErrorKind::TensorDtype { dtype: number }).at_node(&arg.name))
}

/// The shape that `_output_shapes` gives to an argument.
fn hinted_shape(attrs: &Attrs, limits: &Limits) -> Result<PartialShape> {
    match attrs.get("_output_shapes").and_then(|a| a.value.as_ref()) {
        Some(Attr::List(l)) => shape_of_list(l, limits),
        _ => Ok(None),
    }
}

fn shape_of_list(l: &ListValue, limits: &Limits) -> Result<PartialShape> {
    l.shape.first().map_or(Ok(None), |s| partial_shape(s, limits))
}

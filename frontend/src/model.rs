//! A loaded model: its graph, functions, signatures, variables and what initialises it.

use crate::checkpoint::{Checkpoint, latest_in, with_suffix};
use crate::dtype::DataType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Attrs, Library, Node, RawGraph, Request, check, extract, main_graph};
use crate::inspect;
use crate::limits::Limits;
use crate::proto::attr_value::Value as Attr;
use crate::proto::{AttrValue, GraphDef, MetaGraphDef, SavedModel, TensorProto};
use crate::raise::raise;
use crate::signature::{Signature, read_signatures};
use crate::source::{self, MappedFile, Source};
use crate::tensor::RawTensor;
use crate::variables::{self, Variable};
use bytes::Bytes;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to open a model.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Tags of the MetaGraph to take. None takes the one tagged `serve`, else the only one.
    pub tags: Option<Vec<String>>,
    pub limits: Limits,
    /// Whether checkpoint values are checked against their checksums when they are read.
    pub check_crc: bool,
    /// Checkpoint prefix (`dir/model.ckpt`) or directory, for a graph that comes without one or to override a SavedModel's.
    pub checkpoint: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { tags: None, limits: Limits::default(), check_crc: true, checkpoint: None }
    }
}

/// A file that the model reads when it initialises (vocabularies and such).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// `node:k` of the string tensor that holds the path.
    pub tensor: String,
    /// Where the file is now.
    pub path: PathBuf,
}

/// A model as loaded. It holds the graph and maps, but no weights in memory of its own.
#[derive(Debug)]
pub struct Model {
    pub(crate) file: PathBuf,
    /// The file in memory, to which constants of the graph refer.
    mapped: MappedFile,
    pub(crate) graph: RawGraph,
    pub(crate) library: Library,
    pub(crate) variables: Vec<Variable>,
    /// Position of each variable by its key.
    variable_index: HashMap<String, usize>,
    pub(crate) checkpoint: Option<Checkpoint>,
    signatures: BTreeMap<String, Signature>,
    tags: Vec<String>,
    init_op: Option<String>,
    assets: Vec<Asset>,
    producer: i32,
    tensorflow_version: String,
}

/// The signature that TensorFlow writes for initialising a model; no user calls it.
const INIT_SIGNATURE: &str = "__saved_model_init_op";

impl Model {
    /// Opens a SavedModel directory, a GraphDef (`.pb`, `.pbtxt`), a MetaGraphDef (`.meta`) or one file of a SavedModel.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Model> {
        let (source, file, mapped) = source::open(path.as_ref(), &options.limits)?;
        let model = Model::from_source(source, &file, options).map_err(|e| e.in_file(&file))?;
        Ok(Model { mapped, ..model })
    }

    /// A model of a graph alone, without a file.
    pub fn from_graph_def(graph: GraphDef, options: &OpenOptions) -> Result<Model> {
        Model::from_source(Source::Graph(graph), Path::new(""), options)
    }

    /// A decoded SavedModel; `dir` is where its variables and assets lie.
    pub(crate) fn from_saved_model(saved: SavedModel, dir: &Path, options: &OpenOptions) -> Result<Model> {
        Model::from_source(Source::SavedModel(saved, dir.to_path_buf()), dir, options)
    }

    fn from_source(source: Source, file: &Path, options: &OpenOptions) -> Result<Model> {
        let (meta, dir) = match source {
            Source::SavedModel(saved, dir) => (choose(saved, options.tags.as_deref())?, Some(dir)),
            Source::MetaGraph(meta) => (*meta, None),
            Source::Graph(graph) => (MetaGraphDef { graph_def: Some(graph), ..MetaGraphDef::default() }, None),
        };
        Model::from_meta_graph(meta, dir, file, options)
    }

    fn from_meta_graph(meta: MetaGraphDef, dir: Option<PathBuf>, file: &Path, options: &OpenOptions) -> Result<Model> {
        let limits = &options.limits;
        let info = meta.meta_info_def.unwrap_or_default();
        let graph_def = meta.graph_def.unwrap_or_default();
        let producer = graph_def.versions.as_ref().map_or(graph_def.version, |v| v.producer);
        let library = Library::new(graph_def.library.unwrap_or_default(), info.stripped_op_list, limits)?;
        let assets = assets(&meta.asset_file_def, dir.as_deref());
        let mut nodes = graph_def.node;
        if !assets.is_empty() {
            bind_assets(&mut nodes, &assets);
        }
        let graph = main_graph(nodes, &library)?;
        let signatures = read_signatures(&meta.signature_def, limits)?;
        let init_op = init_op(&meta.signature_def, &meta.collection_def);
        let checkpoint = open_checkpoint(dir.as_deref(), options)?;
        let mut variables = variables::declared(&graph)?;
        let saver = meta.saver_def.as_ref();
        variables::find_values(&mut variables, &graph, &library, saver, checkpoint.as_ref())?;
        let variable_index = variables.iter().enumerate().map(|(i, v)| (v.key.clone(), i)).collect();
        Ok(Model {
            file: file.to_path_buf(),
            mapped: MappedFile::default(),
            graph,
            library,
            variables,
            variable_index,
            checkpoint,
            signatures,
            tags: info.tags,
            init_op,
            assets,
            producer,
            tensorflow_version: info.tensorflow_version,
        })
    }

    /// What was read of files takes no memory until it is read again. For when constants and variables are in use elsewhere.
    pub fn forget_pages(&self) {
        self.mapped.forget_pages();
        self.checkpoint.iter().for_each(Checkpoint::forget_pages);
    }

    /// The file that was read.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Tags of the MetaGraph that was taken.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// GraphDef version of the program that wrote the graph; some old versions give ops another meaning.
    pub fn producer(&self) -> i32 {
        self.producer
    }

    /// Version of the TensorFlow that wrote the model; empty where the file does not say.
    pub fn tensorflow_version(&self) -> &str {
        &self.tensorflow_version
    }

    pub fn limits(&self) -> &Limits {
        self.library.limits()
    }

    /// The whole main graph, calls not inlined.
    pub fn graph(&self) -> &RawGraph {
        &self.graph
    }

    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The body of a function, calls not inlined. `attrs` are those of the call or of the function attribute.
    pub fn function(&self, name: &str, attrs: &Attrs) -> Result<Arc<RawGraph>> {
        self.library.body(name, attrs).map_err(|e| e.in_file(&self.file))
    }

    /// The body of a function with the calls inside it inlined and control flow made functional.
    pub fn function_inlined(&self, name: &str, attrs: &Attrs) -> Result<RawGraph> {
        let body = self.library.body(name, attrs).map_err(|e| e.in_file(&self.file))?;
        let body = crate::graph::inline_body(&body, &self.library).map_err(|e| e.in_file(&self.file))?;
        raise(body, &self.library).map_err(|e| e.in_function(name).in_file(&self.file))
    }

    /// All signatures by name, that of the initialisation op left out.
    pub fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.signatures.values().filter(|s| s.name != INIT_SIGNATURE)
    }

    pub fn signature(&self, name: &str) -> Result<&Signature> {
        self.signatures.get(name).ok_or_else(|| {
            let available = self.signatures().map(|s| s.name.clone()).collect();
            Error::from(ErrorKind::NoSuchSignature { name: name.to_string(), available }).in_file(&self.file)
        })
    }

    /// `serving_default`, else the only signature.
    pub fn default_signature(&self) -> Option<&Signature> {
        let mut all = self.signatures();
        self.signatures.get("serving_default").or_else(|| all.next().filter(|_| all.next().is_none()))
    }

    /// What a signature runs: calls inlined, pruned to what its outputs and the effects of the functions it calls need. Inputs are
    /// placeholders; whatever computed them in the main graph is cut off.
    pub fn signature_graph(&self, name: &str) -> Result<RawGraph> {
        self.run_graph(&self.signature(name)?.request())
    }

    /// What one run with these feeds, fetches and targets executes: calls inlined, and control flow made functional, with loops and
    /// branches as functions of the library.
    pub fn run_graph(&self, request: &Request) -> Result<RawGraph> {
        let graph = extract(&self.graph, &self.library, request).map_err(|e| e.in_file(&self.file))?;
        raise(graph, &self.library).map_err(|e| e.in_file(&self.file))
    }

    /// As [`Model::run_graph`], but only what TensorFlow would run.
    ///
    /// # Errors
    /// If types along an edge differ, TensorFlow has no kernel for a node, or its kernel refuses the node's attributes.
    pub fn checked_run_graph(&self, request: &Request) -> Result<RawGraph> {
        let graph = extract(&self.graph, &self.library, request).map_err(|e| e.in_file(&self.file))?;
        check(&graph, &self.library).map_err(|e| e.in_file(&self.file))?;
        raise(graph, &self.library).map_err(|e| e.in_file(&self.file))
    }

    /// Name of the node that initialises tables and other state after the variables have their values.
    pub fn init_op(&self) -> Option<&str> {
        self.init_op.as_deref()
    }

    /// What the initialisation op runs; None if the model has none.
    pub fn init_graph(&self) -> Result<Option<RawGraph>> {
        let request = |op: &str| Request { targets: vec![op.to_string()], ..Request::default() };
        self.init_op.as_deref().map(|op| self.run_graph(&request(op))).transpose()
    }

    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// The variables of the main graph.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    /// The variable that a `VarHandleOp`, `VariableV2` or `Variable` node stands for.
    pub fn variable(&self, node: &Node) -> Option<&Variable> {
        self.variables.get(*self.variable_index.get(&variables::key(node)?)?)
    }

    /// Value of a variable from the checkpoint: a view of the mapped file unless it is assembled from slices.
    pub fn variable_value(&self, variable: &Variable) -> Result<RawTensor> {
        variables::read_value(variable, self.checkpoint.as_ref()).map_err(|e| e.in_file(&self.file))
    }

    /// Names of the variables (see [`Variable::name`]) that a graph may change, functions that it refers to included. All others are
    /// constants of it.
    pub fn assigned_variables(&self, graph: &RawGraph) -> Result<BTreeSet<String>> {
        variables::assigned(graph, &self.library).map_err(|e| e.in_file(&self.file))
    }

    /// Names of the variables that a run of this request may change. A request whose graph cannot be built changes none.
    pub fn assigned_by(&self, request: &Request) -> BTreeSet<String> {
        match inspect::may_assign(&self.graph, &self.library, request) {
            true => self.run_graph(request).and_then(|g| self.assigned_variables(&g)).unwrap_or_default(),
            false => BTreeSet::new(),
        }
    }

    /// How often each op occurs in the main graph and the whole library, calls counted once.
    pub fn op_histogram(&self) -> BTreeMap<&str, usize> {
        inspect::histogram(&self.graph, &self.library)
    }

    /// Fails with every op that `supported` does not take, all at once, among what a request can reach: the main graph and the
    /// functions that it calls or refers to. It needs no inlining, so that nothing else fails first.
    pub fn check_supported(&self, request: &Request, supported: &dyn Fn(&str) -> bool) -> Result<()> {
        let unsupported = inspect::unsupported(&self.graph, &self.library, request, supported);
        unsupported.map_err(|e| e.in_file(&self.file))
    }

    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }
}

/// The MetaGraph with exactly the wanted tags; by default `serve`, else the only one.
fn choose(saved: SavedModel, tags: Option<&[String]>) -> Result<MetaGraphDef> {
    let tags_of = |m: &MetaGraphDef| m.meta_info_def.as_ref().map(|i| i.tags.clone()).unwrap_or_default();
    let available: Vec<Vec<String>> = saved.meta_graphs.iter().map(tags_of).collect();
    let serve = ["serve".to_string()];
    let wanted: BTreeSet<&String> = tags.unwrap_or(&serve).iter().collect();
    let exact = |t: &&Vec<String>| t.iter().collect::<BTreeSet<_>>() == wanted;
    let mut fitting = available.iter().enumerate().filter(|(_, t)| exact(t)).map(|(i, _)| i);
    let chosen = match (fitting.next(), fitting.next()) {
        (Some(i), None) => Some(i),
        (Some(_), Some(_)) => return Err(ErrorKind::AmbiguousMetaGraph { available }.into()),
        (None, _) if tags.is_none() && available.len() == 1 => Some(0),
        (None, _) => None,
    };
    let meta = chosen.and_then(|i| saved.meta_graphs.into_iter().nth(i));
    meta.ok_or_else(|| ErrorKind::NoMetaGraph { wanted: wanted.into_iter().cloned().collect(), available }.into())
}

fn open_checkpoint(dir: Option<&Path>, options: &OpenOptions) -> Result<Option<Checkpoint>> {
    let prefix = match (&options.checkpoint, dir) {
        (Some(given), _) if given.is_dir() => latest_in(given).unwrap_or_else(|| given.join("checkpoint")),
        (Some(given), _) if given.extension().is_some_and(|e| e == "index") => given.with_extension(""),
        (Some(given), _) => given.clone(),
        (None, Some(dir)) => {
            let prefix = dir.join("variables").join("variables");
            if !with_suffix(&prefix, ".index").is_file() {
                return Ok(None);
            }
            prefix
        }
        (None, None) => return Ok(None),
    };
    Checkpoint::open(&prefix, options.check_crc, &options.limits).map(Some)
}

type Signatures = BTreeMap<String, crate::proto::SignatureDef>;
type Collections = BTreeMap<String, crate::proto::CollectionDef>;

fn init_op(signatures: &Signatures, collections: &Collections) -> Option<String> {
    use crate::proto::collection_def::Kind;
    use crate::proto::tensor_info::Encoding;
    let node = |tensor: &str| tensor.split(':').next().unwrap_or_default().trim_start_matches('^').to_string();
    let signature = signatures.get(INIT_SIGNATURE).and_then(|s| s.outputs.get(INIT_SIGNATURE));
    if let Some(Encoding::Name(name)) = signature.and_then(|i| i.encoding.as_ref()) {
        return Some(node(name));
    }
    let collection = ["saved_model_main_op", "legacy_init_op"].iter().find_map(|k| collections.get(*k));
    match collection.and_then(|c| c.kind.as_ref()) {
        Some(Kind::NodeList(l)) => l.value.first().map(|n| node(n)),
        _ => None,
    }
}

/// The assets with their paths now, which need not be those of when the model was saved.
fn assets(defs: &[crate::proto::AssetFileDef], dir: Option<&Path>) -> Vec<Asset> {
    use crate::proto::tensor_info::Encoding;
    let asset = |d: &crate::proto::AssetFileDef| {
        let Some(Encoding::Name(tensor)) = d.tensor_info.as_ref().and_then(|i| i.encoding.as_ref()) else { return None };
        // Only the last component is taken: a file name in a model must not lead out of its directory.
        let file = Path::new(&d.filename).file_name()?;
        Some(Asset { tensor: tensor.clone(), path: dir?.join("assets").join(file) })
    };
    defs.iter().filter_map(asset).collect()
}

/// Makes the tensors of assets constants that hold their paths.
fn bind_assets(nodes: &mut [crate::proto::NodeDef], assets: &[Asset]) {
    let by_node: BTreeMap<&str, &Asset> = assets.iter().map(|a| (a.tensor.split(':').next().unwrap_or_default(), a)).collect();
    for node in nodes {
        let Some(asset) = by_node.get(node.name.as_str()) else { continue };
        let path = Bytes::from(asset.path.as_os_str().as_encoded_bytes().to_vec());
        let dtype = DataType::String.number();
        let value = TensorProto { dtype, string_val: vec![path], ..TensorProto::default() };
        node.op = "Const".into();
        node.input.clear();
        node.attr.retain(|name, _| name.starts_with('_'));
        node.attr.insert("dtype".into(), AttrValue { value: Some(Attr::Type(dtype)) });
        node.attr.insert("value".into(), AttrValue { value: Some(Attr::Tensor(Box::new(value))) });
    }
}

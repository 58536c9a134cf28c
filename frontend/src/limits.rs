//! Bounds on what a file may ask for.

/// Bounds that keep a hostile or broken file from exhausting memory, stack or time.
///
/// The defaults admit every model that TensorFlow itself can write in one protobuf; a caller that serves strangers lowers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a graph file (`.pb`, `.pbtxt`, `.meta`, `.cpb`) and of a checkpoint index. Data shards are mapped and not bounded by this.
    pub max_file_bytes: u64,
    /// Protobuf messages in one file. Each may take a few hundred bytes of memory however few bytes it has in the file.
    pub max_messages: usize,
    /// Nodes of one graph after inlining.
    pub max_nodes: usize,
    /// Edges of one graph after inlining.
    pub max_edges: usize,
    /// Bytes of the names that inlining makes, which grow with the depth of calls.
    pub max_name_bytes: usize,
    /// Functions in a library.
    pub max_functions: usize,
    /// Outputs of one node, and length of one list attribute that decides a number of inputs or outputs.
    pub max_ports: usize,
    /// Dimensions of a tensor.
    pub max_rank: usize,
    /// Elements of one tensor.
    pub max_elements: usize,
    /// Bytes that one constant may take when a short value is repeated to fill its shape. Slices of a partitioned variable may take
    /// this many together, or as many as their data shards have.
    pub max_constant_bytes: usize,
    /// Depth of calls that inlining follows.
    pub max_call_depth: usize,
    /// Nesting of messages in a text or binary protobuf.
    pub max_nesting: usize,
    /// Tensors in a checkpoint.
    pub max_checkpoint_entries: usize,
    /// Data shards of a checkpoint.
    pub max_shards: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_file_bytes: 4 << 30,
            max_messages: 16 << 20,
            max_nodes: 2 << 20,
            max_edges: 16 << 20,
            max_name_bytes: 512 << 20,
            max_functions: 1 << 20,
            max_ports: 1 << 20,
            max_rank: 254,
            max_elements: 1 << 40,
            max_constant_bytes: 1 << 30,
            max_call_depth: 128,
            max_nesting: 100,
            max_checkpoint_entries: 4 << 20,
            max_shards: 1 << 16,
        }
    }
}

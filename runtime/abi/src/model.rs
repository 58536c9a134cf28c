//! What an object says of the model in it: tables in its read-only data, which the engine reads and a package holds too.
//!
//! Every field is a word of 8 bytes, so that a compiler writes them as numbers and addresses without a layout of its own. Text is UTF-8
//! and ends with a zero byte. An object exports one [`Model`], under the name that its user chose.

use crate::Entry;
use core::ffi::{c_char, c_void};

/// Version of these tables and of [`Entry`]; an engine refuses any other.
pub const MODEL_VERSION: usize = 2;

/// What a file of weights begins with; the CRC-32C of its content follows as 8 bytes, and the content starts at [`WEIGHTS_START`].
pub const WEIGHTS_MAGIC: [u8; 8] = *b"GRAPHCW1";

/// Where the content of a file of weights starts: pages of it are mapped as they are.
pub const WEIGHTS_START: usize = 4096;

/// A table.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct List<T> {
    pub items: *const T,
    pub count: usize,
}

impl<T> List<T> {
    /// The items.
    ///
    /// # Safety
    /// The table is one that a compiler of this version wrote, and is not changed while the slice is used.
    pub unsafe fn as_slice<'a>(&self) -> &'a [T] {
        if self.count == 0 {
            return &[];
        }
        // SAFETY: by this function's contract.
        unsafe { core::slice::from_raw_parts(self.items, self.count) }
    }
}

/// An element of a tensor of strings: `size` bytes, which need not end with a zero byte.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub data: *const u8,
    pub size: usize,
}

/// Number of strings in TensorFlow's `DataType`.
pub const STRING: usize = 7;

/// A compiled model.
#[repr(C)]
#[derive(Debug)]
pub struct Model {
    /// [`MODEL_VERSION`].
    pub version: usize,
    pub name: *const c_char,
    /// Number of the kernel library's tier that a processor must have to run the code.
    pub least_tier: usize,
    pub functions: List<Function>,
    /// Runs once, without inputs and outputs, when an instance is made; may be null.
    pub initialise: *const Function,
    pub variables: List<Variable>,
    /// Bytes of the file of weights that goes with the object; 0 where weights are in the object. See [`WEIGHTS_MAGIC`].
    pub weights_file: usize,
    /// CRC-32C of that file from [`WEIGHTS_START`] on.
    pub weights_crc: usize,
    /// How functions run that are not compiled as a whole, as `graphc-stages` writes it; empty where there are none.
    pub script: List<u8>,
    /// The compiled parts that the script calls by their numbers.
    pub parts: List<Function>,
    /// The tables of host functions that the script needs: symbols of the runtime, which only it can read.
    pub families: List<*const c_void>,
}

/// One signature of a model.
#[repr(C)]
#[derive(Debug)]
pub struct Function {
    pub name: *const c_char,
    pub inputs: List<Port>,
    pub outputs: List<Port>,
    /// Code, each for some ranks and extents of the inputs; the first that fits runs.
    pub variants: List<Variant>,
    /// 0 if the code is all there is; else one more than the number of the script's body that runs.
    pub body: usize,
}

/// An input or output.
#[repr(C)]
#[derive(Debug)]
pub struct Port {
    pub name: *const c_char,
    /// Number of the element type in TensorFlow's `DataType`.
    pub elem: usize,
    /// Bytes of an element; those of a [`Text`] for strings.
    pub elem_bytes: usize,
    /// Extents, -1 where open.
    pub dims: List<i64>,
    /// 1 where even the rank is open; `dims` is empty then.
    pub any_rank: usize,
}

/// Checks the extents of inputs and works out sizes: the extents of each input of the code, in; the values of the symbols, and bytes of
/// the arena followed by the extents of each output, out. 0, or 1 and the number of the input that does not fit.
pub type Bind = unsafe extern "C" fn(dims: *const *const i64, syms: *mut i64, sizes: *mut i64) -> i64;

/// Code of a function.
#[repr(C)]
#[derive(Debug)]
pub struct Variant {
    pub entry: Entry,
    pub bind: Bind,
    /// Packed weights; null where they are in the file of weights.
    pub weights: *const u8,
    /// Where the weights lie in the file of weights.
    pub weights_at: usize,
    /// Bytes of the weights that the code takes, if they are made of those that are stored, by the copies and transforms that follow; 0
    /// if the stored ones are taken as they are.
    pub placed_bytes: usize,
    pub copies: List<Copy>,
    pub transforms: List<Transform>,
    /// Number of symbols.
    pub symbols: usize,
    /// For each input of the code, the number of the function's input.
    pub feeds: List<usize>,
    /// The rank of each of these.
    pub feed_ranks: List<usize>,
    /// Inputs of the function whose values were compiled in.
    pub baked: List<Baked>,
    pub output_ranks: List<usize>,
    /// The source node of each launch.
    pub nodes: List<Node>,
    /// For each variable that the code takes, its number in the model.
    pub variables: List<usize>,
    /// Variables of the model that are read before they are assigned.
    pub reads: List<Read>,
    /// Variables of the model that the code assigns.
    pub assigns: List<usize>,
}

/// Weights that are taken as they are stored.
#[repr(C)]
#[derive(Debug)]
pub struct Copy {
    pub from: usize,
    pub to: usize,
    pub bytes: usize,
}

/// A filter of a Winograd convolution, which is up to four times as large once transformed.
#[repr(C)]
#[derive(Debug)]
pub struct Transform {
    pub run: TransformFilter,
    /// Bytes from the start of the stored weights to the filter, `[3, 3, input, out]`.
    pub from: usize,
    /// Bytes from the start of the weights that are made.
    pub to: usize,
    /// Outputs along an axis of a tile: 2 or 4.
    pub outputs: usize,
    pub input: usize,
    pub out: usize,
    /// Columns of a panel.
    pub width: usize,
}

/// Transforms row `row`, one of `outputs + 2`, of a filter, from the stored weights to those that are made. Rows may be transformed at once.
pub type TransformFilter = unsafe extern "C" fn(transform: *const Transform, stored: *const u8, made: *mut u8, row: usize);

/// A node of the graph that a launch comes from.
#[repr(C)]
#[derive(Debug)]
pub struct Node {
    pub name: *const c_char,
    /// TensorFlow's status where it divides an integer by zero.
    pub zero_status: usize,
}

/// The value that an input must have.
#[repr(C)]
#[derive(Debug)]
pub struct Baked {
    /// Number of the function's input.
    pub input: usize,
    pub dims: List<i64>,
    pub bytes: List<u8>,
}

/// A variable that a run needs a value of.
#[repr(C)]
#[derive(Debug)]
pub struct Read {
    pub variable: usize,
    /// TensorFlow's status where it has none.
    pub status: usize,
}

/// A variable of the model; each instance has its own.
#[repr(C)]
#[derive(Debug)]
pub struct Variable {
    pub name: *const c_char,
    pub elem: usize,
    pub dims: List<i64>,
    /// Bytes of its value.
    pub bytes: usize,
    /// Its first value; null where the model has none.
    pub init: *const u8,
}

// SAFETY: tables are read-only data.
unsafe impl Sync for Model {}

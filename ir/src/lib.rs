//! The typed tensor IR of graphc.
//!
//! A [`Module`] holds functions over tensors with symbolic shapes ([`Dim`]) and the variables that outlive a run. Every op is
//! defined once, in [`op::DEFS`]; the builder, the verifier, the text form and the interpreter follow from that table.

pub mod attr;
pub mod builder;
pub mod dim;
pub mod elem;
pub mod epilogue;
pub mod filetest;
pub mod func;
pub mod infer;
pub mod interp;
pub mod op;
pub mod quantise;
pub mod slice;
pub mod status;
pub mod tape;
pub mod tensor;
pub mod text;
pub mod ty;
pub mod verify;

pub use attr::{Attr, AttrKind, Attrs};
pub use builder::Builder;
pub use dim::{Dim, Sym};
pub use elem::Elem;
pub use func::{Def, Func, FuncId, Inst, InstData, Loc, Module, Region, Value, Var, VarId};
pub use op::Op;
pub use status::TfStatus;
pub use tensor::{Buffer, Data, Scalar, Tensor, element_count};
pub use ty::Type;

//! Arguments of the kernel library: one `#[repr(C)]` struct of 8-byte words a kernel, and its field names for the code that fills it.
//!
//! A plan names a kernel and gives its operands and parameters by name; the backend looks the names up in `FIELDS` and stores the
//! words in that order. A field that the plan leaves out is zero (a null pointer, `0`, `0.0`), so zero must mean "absent" or "default".

/// What one word of a kernel's arguments holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A pointer to data that the kernel reads.
    In,
    /// A pointer to data that the kernel writes.
    Out,
    /// A size, stride, flag or code, as `i64`.
    Int,
    /// A real parameter, as `f64`.
    Real,
}

/// One word of a kernel's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: FieldKind,
}

/// A kernel as code generation sees it.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The symbols' names, `gc_...`: kernels that differ in the types that they take.
    pub symbols: &'static [&'static str],
    pub fields: &'static [Field],
}

/// Defines the argument struct of a kernel, or of several of one kind, together with its [`Signature`]. Pointers have the type of the
/// first of several.
///
/// ```text
/// kernel_args! {
///     /// y = x * w
///     pub struct GemmArgs: "gc_gemm_f32" { x: In f32, w: In f32, y: Out f32, m: Int, alpha: Real }
/// }
/// ```
macro_rules! kernel_args {
    (@ty In $t:ty) => { *const $t };
    (@ty Out $t:ty) => { *mut $t };
    (@ty Int) => { i64 };
    (@ty Real) => { f64 };
    ($($(#[$doc:meta])* pub struct $name:ident : $($symbol:literal)|+ { $($(#[$fdoc:meta])* $field:ident : $kind:ident $($t:ty)?),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub struct $name { $($(#[$fdoc])* pub $field: $crate::args::kernel_args!(@ty $kind $($t)?)),* }
            impl $name {
                pub const SIGNATURE: $crate::args::Signature = $crate::args::Signature {
                    symbols: &[$($symbol),+],
                    fields: &[$($crate::args::Field { name: stringify!($field), kind: $crate::args::FieldKind::$kind }),*],
                };
            }
            // SAFETY: the struct is a bundle of addresses and numbers; whoever dereferences them answers for it.
            unsafe impl Sync for $name {}
        )*
        /// Signatures of the kernels of this file.
        pub const SIGNATURES: &[$crate::args::Signature] = &[$($name::SIGNATURE),*];
    };
}
pub(crate) use kernel_args;

pub mod data;
pub mod matrix;
pub mod rows;

/// The signature of the kernel `symbol`.
pub fn signature(symbol: &str) -> Option<&'static Signature> {
    [matrix::SIGNATURES, rows::SIGNATURES, data::SIGNATURES].into_iter().flatten().find(|s| s.symbols.contains(&symbol))
}

//! The archive that an ahead-of-time object links: the kernel library and the ABI, nothing else.
pub use graphc_kernels as kernels;

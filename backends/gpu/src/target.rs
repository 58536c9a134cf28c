//! What kernels are made for, and what the passes ask of a GPU.

use graphc_cpu::tape::code::Ty;
use graphc_ir::Op;
use graphc_passes::target::Target;

/// The language of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// For Vulkan.
    Spirv(Features),
    /// For NVIDIA's driver.
    Ptx,
}

/// What a Vulkan device has besides what all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// Buffers of bytes, and arithmetic on them.
    pub int8: bool,
    pub int16: bool,
    pub int64: bool,
    pub float64: bool,
}

/// How an element lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cell {
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

impl Cell {
    /// The type of its value in a kernel.
    pub fn lane(self) -> Ty {
        match self {
            Cell::I8 | Cell::I16 | Cell::I32 => Ty::I32,
            Cell::I64 => Ty::I64,
            Cell::F32 => Ty::F32,
            Cell::F64 => Ty::F64,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Cell::I8 => 1,
            Cell::I16 => 2,
            Cell::I32 | Cell::F32 => 4,
            Cell::I64 | Cell::F64 => 8,
        }
    }

    /// Elements of so many bytes, whatever they are.
    pub fn of_size(bytes: i64) -> Option<Cell> {
        Some(match bytes {
            1 => Cell::I8,
            2 => Cell::I16,
            4 => Cell::I32,
            8 => Cell::I64,
            _ => return None,
        })
    }
}

/// A GPU, to the passes: convolutions stay convolutions, and panels of weights are as wide as the tiles that read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct GpuTarget;

impl Target for GpuTarget {
    fn panel_width(&self, _m: Option<usize>, n: usize, _k: usize) -> usize {
        match n {
            0..=16 => 16,
            17..=32 => 32,
            _ => 64,
        }
    }

    fn has_kernel(&self, op: Op) -> bool {
        op != Op::ConvTranspose2d
    }

    fn goes_by_images(&self) -> bool {
        false
    }
}

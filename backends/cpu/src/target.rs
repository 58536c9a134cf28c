//! What passes and lowering know of the CPU.

use graphc_kernels::conv::winograd;
use graphc_kernels::{pack, tier};
use graphc_passes::target::Target;

/// A CPU with the kernel library.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTarget;

impl Target for CpuTarget {
    fn panel_width(&self, m: Option<usize>, n: usize, k: usize) -> usize {
        pack::panel_width(m, n, k)
    }

    fn winograd_outputs(&self, batch: Option<usize>, out: [Option<usize>; 2], c: usize, n: usize) -> Option<usize> {
        winograd::best_outputs(batch, out, c, n)
    }

    fn divides_product(&self, m: usize, n: usize, k: usize) -> bool {
        // Below, the sums cost what the missing product saves; halves of whole vectors leave the kernels no tails.
        m >= 96 && n >= 512 && k >= 512 && n.is_multiple_of(32)
    }

    fn has_bf16_dots(&self) -> bool {
        tier::has_bf16_dots()
    }

    fn has_int8_dots(&self) -> bool {
        tier::has_int8_dots()
    }
}

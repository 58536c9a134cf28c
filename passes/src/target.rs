//! What passes ask of the machine they compile for.

/// Facts of a target that the passes' choices depend on. A backend implements it.
pub trait Target {
    /// Columns of a panel of packed weights for a product of `m` rows (if known), `n` columns and depth `k`.
    fn panel_width(&self, m: Option<usize>, n: usize, k: usize) -> usize;
}

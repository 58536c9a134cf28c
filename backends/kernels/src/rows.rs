pub(crate) const SYMBOLS: &[crate::Symbol] = &[];

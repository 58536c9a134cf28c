//! What MLIR cannot say in SPIR-V: that floating-point arithmetic is meant as it is written.
//!
//! Without the decoration `NoContraction` drivers take `(1 + x) - 1` for `x`, and with it the digits that sums of errors are there for.

/// Words of a module before its instructions.
const HEADER: usize = 5;
const DECORATE: u32 = 71;
const NO_CONTRACTION: u32 = 42;

/// Additions, subtractions, products, quotients and negations of floats.
fn is_arithmetic(opcode: u32) -> bool {
    matches!(opcode, 127 | 129 | 131 | 133 | 136)
}

/// Instructions that come before annotations: capabilities, extensions, imports, the memory model, entry points, modes, names.
fn is_before_annotations(opcode: u32) -> bool {
    matches!(opcode, 3..=7 | 10..=17 | 330 | 331)
}

/// The module with all floating-point arithmetic decorated as exact; bytes that are no module come back as they are.
pub fn exact(bytes: &[u8]) -> Vec<u8> {
    let words: Vec<u32> = bytes.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    let (mut at, mut annotations, mut decorations) = (HEADER, None, Vec::new());
    while let Some(&first) = words.get(at) {
        let (opcode, length) = (first & 0xffff, (first >> 16) as usize);
        if length == 0 || at + length > words.len() {
            return bytes.to_vec();
        }
        if annotations.is_none() && !is_before_annotations(opcode) {
            annotations = Some(at);
        }
        // Type, result, operands.
        if is_arithmetic(opcode) && length > 2 {
            decorations.extend([3 << 16 | DECORATE, words[at + 2], NO_CONTRACTION]);
        }
        at += length;
    }
    let Some(annotations) = annotations else { return bytes.to_vec() };
    let (head, tail) = words.split_at(annotations);
    [head, &decorations, tail].concat().into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(opcode: u32, operands: &[u32]) -> Vec<u32> {
        [&[(operands.len() as u32 + 1) << 16 | opcode], operands].concat()
    }

    #[test]
    fn arithmetic_is_decorated_before_types() {
        let header = vec![0x0723_0203, 0x0001_0300, 0, 20, 0];
        let (capability, name, binding, float) =
            (instruction(17, &[1]), instruction(5, &[7, 0x0061]), instruction(DECORATE, &[7, 33, 0]), instruction(22, &[3, 32]));
        let (sum, load) = (instruction(129, &[3, 9, 7, 8]), instruction(61, &[3, 10, 7]));
        let decoration = instruction(DECORATE, &[9, NO_CONTRACTION]);
        let bytes = |parts: &[&Vec<u32>]| -> Vec<u8> { parts.iter().copied().flatten().flat_map(|w| w.to_le_bytes()).collect() };
        let before = bytes(&[&header, &capability, &name, &binding, &float, &load, &sum]);
        let after = bytes(&[&header, &capability, &name, &decoration, &binding, &float, &load, &sum]);
        assert_eq!(exact(&before), after);
    }

    #[test]
    fn what_is_no_module_stays() {
        let cut = [0x0723_0203u32, 0x0001_0300, 0, 20, 0, 9 << 16 | 129].map(u32::to_le_bytes).concat();
        assert_eq!(exact(&cut), cut);
        assert_eq!(exact(&[1, 2, 3]), [1, 2, 3]);
    }
}

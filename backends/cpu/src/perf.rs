//! Names of code in memory, for profilers: the map of symbols that `perf` reads.

use std::fs::OpenOptions;
use std::io::Write;

/// A function in memory.
pub struct Function {
    pub name: String,
    pub address: u64,
    pub size: u64,
}

/// True under `perf record`, which sets this variable. The JIT of Cranelift goes by it too.
pub fn wanted() -> bool {
    std::env::var_os("PERF_BUILDID_DIR").is_some()
}

/// Adds functions to `/tmp/perf-PID.map`, which `perf report` reads. What cannot be written is left out: the names are a help.
pub fn tell(functions: &[Function]) {
    let path = format!("/tmp/perf-{}.map", std::process::id());
    let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) else { return };
    let lines: String = functions.iter().map(|f| format!("{:x} {:x} {}\n", f.address, f.size, f.name)).collect();
    let _ = file.write_all(lines.as_bytes());
}

/// `node` as a part of a symbol: what linkers read as a version, and what is no text, is replaced.
pub fn symbol_part(node: &str) -> String {
    const MOST: usize = 120;
    let part: String = node.chars().map(|c| if c == '@' || c.is_control() || c.is_whitespace() { '_' } else { c }).collect();
    let end = (0..=MOST.min(part.len())).rev().find(|&k| part.is_char_boundary(k)).unwrap_or(0);
    part[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_no_versions() {
        assert_eq!(symbol_part("dense/Relu:0"), "dense/Relu:0");
        assert_eq!(symbol_part("a@b c\n"), "a_b_c_");
        assert_eq!(symbol_part(&"ä".repeat(100)).len(), 120);
    }
}

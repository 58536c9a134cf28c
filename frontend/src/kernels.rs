//! Which of TensorFlow's kernels there are. A node that none covers, by its element types or its layout, is an error in TensorFlow before
//! anything runs.

use crate::graph::Node;
use crate::proto::attr_value::Value as Attr;
use std::cmp::Ordering;

/// A line an op, in the order of names: name, kernels for the CPU, kernels in XLA's compiler for the CPU; `data/make_kernels.py` writes
/// it and says how.
const LINES: &str = include_str!("../data/kernels.txt");

/// What would run a node in TensorFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// XLA's compiler: nodes of functions that must be compiled.
    Xla,
}

/// Ops that TensorFlow rewrites before it looks for kernels, so that having none says nothing.
const REWRITTEN: &[&str] = &["XlaClusterOutput", "XlaLaunch", "Const"];
/// Control flow of TF1, which XLA makes functional first.
const RAISED_BY_XLA: &[&str] =
    &["Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "LoopCond"];

/// Whether TensorFlow has a kernel for a node. An op that it does not define is none of its business, nor is a node that asks for a
/// kernel by its label.
pub fn covers(node: &Node, device: Device) -> bool {
    let op = node.op.as_str();
    let exempt = REWRITTEN.contains(&op) || device == Device::Xla && RAISED_BY_XLA.contains(&op);
    if exempt || node.attrs.contains_key("_kernel") || !crate::ops::is_builtin(op) {
        return true;
    }
    let Some([cpu, xla]) = kernels(op) else { return false };
    match if device == Device::Cpu { cpu } else { xla } {
        "-" => false,
        "*" => true,
        kernels => kernels.split('|').any(|k| k.split(';').all(|c| meets(node, c))),
    }
}

/// The kernels of an op for both devices. The lines are searched as they are: a graph has few ops, and a table of all would take longer to
/// make than to do without.
fn kernels(op: &str) -> Option<[&'static str; 2]> {
    let order = |line: &str| line.bytes().take_while(|&c| c != b'\t').cmp(op.bytes());
    let (mut low, mut high) = (0, COUNT);
    while low < high {
        let middle = low + (high - low) / 2;
        match order(line(middle)) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => {
                let mut fields = line(middle).trim_end_matches('\n').split('\t').skip(1);
                return Some([fields.next()?, fields.next()?]);
            }
            Ordering::Greater => high = middle,
        }
    }
    None
}

/// A line with its end; nothing behind the last line.
fn line(k: usize) -> &'static str {
    let bounds = STARTS.get(k).zip(STARTS.get(k + 1));
    bounds.and_then(|(&from, &to)| LINES.get(from as usize..to as usize)).unwrap_or_default()
}

const TEXT: &[u8] = LINES.as_bytes();

/// Number of the lines.
const COUNT: usize = {
    let (mut at, mut n) = (0, 0);
    while at < TEXT.len() {
        n += (TEXT[at] == b'\n') as usize;
        at += 1;
    }
    n
};

/// Where each line begins, and the end of the last.
static STARTS: [u32; COUNT + 1] = {
    let mut starts = [0; COUNT + 1];
    let (mut at, mut n) = (0, 0);
    while at < TEXT.len() {
        at += 1;
        if TEXT[at - 1] == b'\n' {
            n += 1;
            starts[n] = at as u32;
        }
    }
    starts
};

/// Whether a node's attribute has one of the values of a constraint `name=value,value`; a list must have them alone.
fn meets(node: &Node, constraint: &str) -> bool {
    let Some((name, values)) = constraint.split_once('=') else { return true };
    let holds = |value: &[u8]| values.as_bytes().split(|&c| c == b',').any(|v| v == value);
    // The number of a type has at most two digits, and that of a reference to it is 100 more.
    let holds_type = |t: i32| match if t > 100 { t - 100 } else { t } {
        t @ 0..10 => holds(&[b'0' + t as u8]),
        t @ 10..100 => holds(&[b'0' + (t / 10) as u8, b'0' + (t % 10) as u8]),
        _ => false,
    };
    match node.attr(name) {
        Some(Attr::Type(t)) => holds_type(*t),
        Some(Attr::List(l)) => l.r#type.iter().all(|&t| holds_type(t)),
        Some(Attr::S(s)) => holds(s),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::AttrValue;
    use std::sync::Arc;

    fn node(op: &str, attrs: &[(&str, Attr)]) -> Node {
        let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), AttrValue { value: Some(v.clone()) })).collect();
        let (name, device) = (String::from("n"), String::new());
        let def = crate::ops::builtin(op);
        Node { name, op: op.to_owned(), device, attrs: Arc::new(attrs), inputs: Vec::new(), controls: Vec::new(), def }
    }

    #[test]
    fn every_line_is_of_a_known_form_and_found() {
        let names: Vec<&str> = LINES.lines().filter_map(|l| l.split('\t').next()).collect();
        assert!(names.len() > 1300 && names.is_sorted_by(|a, b| a < b));
        for (name, line) in names.iter().zip(LINES.lines()) {
            let found = kernels(name).unwrap();
            assert_eq!(line, format!("{name}\t{}\t{}", found[0], found[1]));
            for kernels in found.iter().filter(|k| !matches!(**k, "-" | "*")) {
                assert!(kernels.split('|').flat_map(|k| k.split(';')).all(|c| c.contains('=')), "{kernels}");
            }
        }
        for absent in ["", "A", "Abc", "NoSuchOp", "zzz"] {
            assert!(names.contains(&absent) || kernels(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn types_layouts_and_devices_matter() {
        let (half, float, int8) = (Attr::Type(19), Attr::Type(1), Attr::Type(6));
        let covered = |op: &str, attrs: &[(&str, Attr)], d| covers(&node(op, attrs), d);
        assert!(covered("Rint", &[("T", float.clone())], Device::Cpu));
        assert!(!covered("Rint", &[("T", half.clone())], Device::Cpu));
        assert!(covered("Rint", &[("T", half)], Device::Xla));
        let layout = |f: &str| Attr::S(f.as_bytes().to_vec());
        let moved = |f: &str, d| covered("DepthToSpace", &[("T", float.clone()), ("data_format", layout(f))], d);
        assert!(moved("NHWC", Device::Cpu) && !moved("NCHW", Device::Cpu) && moved("NCHW", Device::Xla));
        // The layout has a default.
        assert!(covered("DepthToSpace", &[("T", float.clone())], Device::Cpu));
        assert!(!covered("BatchMatMulV2", &[("T", int8)], Device::Cpu));
        assert!(!covered("StringFormat", &[], Device::Xla) && covered("StringFormat", &[], Device::Cpu));
        assert!(covered("NoSuchOp", &[], Device::Cpu) && !covered("SegmentMaxV2", &[("T", float)], Device::Cpu));
        // A reference is of the type that it refers to.
        assert!(covered("RefSwitch", &[("T", Attr::Type(101))], Device::Cpu));
    }
}

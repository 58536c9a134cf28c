//! Inputs of a run: from NumPy files, or random.

use super::Failure;
use graphc::{Elem, Port, Tensor};
use std::path::PathBuf;

/// Where inputs come from.
#[derive(clap::Args)]
pub struct InputArgs {
    /// npz file with the inputs by name (or `in/<name>`), or `NAME=FILE.npy`; may be given several times
    #[arg(short, long = "input", value_name = "FILE")]
    inputs: Vec<String>,
    /// Value of open dimensions of inputs that are made at random: one for all, or `input=2x128`
    #[arg(long, value_name = "N", value_delimiter = ',')]
    shape: Vec<String>,
    /// Seed of random inputs
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl InputArgs {
    /// One tensor for each input: from the files where they have it, else random.
    pub fn tensors(&self, ports: &[Port]) -> Result<Vec<Tensor>, Failure> {
        let mut given = Vec::new();
        for arg in &self.inputs {
            let (name, path) = match arg.split_once('=') {
                Some((name, path)) => (Some(name), PathBuf::from(path)),
                None => (None, PathBuf::from(arg)),
            };
            let arrays = graphc::npz::read(&path).map_err(|e| Failure::input(format!("{}: {e}", path.display())))?;
            given.extend(arrays.into_iter().map(|(n, t)| (name.map_or(n, str::to_owned), t)));
        }
        let any = !given.is_empty();
        // One array for the one input needs no name.
        if let ([port], [(name, _)]) = (ports, given.as_mut_slice()) {
            name.clone_from(&port.name);
        }
        ports
            .iter()
            .enumerate()
            .map(|(i, port)| match given.iter().find(|(n, _)| same_tensor(n.strip_prefix("in/").unwrap_or(n), &port.name)) {
                Some((_, t)) => Ok(t.clone()),
                None if any => {
                    Err(Failure::usage(format!("no array {:?} in the input files; they have {}", port.name, names(&given))))
                }
                None => self.random(port, self.seed.wrapping_add(i as u64)),
            })
            .collect()
    }

    fn random(&self, port: &Port, seed: u64) -> Result<Tensor, Failure> {
        let Some(dims) = &port.shape else {
            return Err(Failure::usage(format!("input {:?} has no known rank; give it with --input", port.name)));
        };
        let sizes = self.sizes(&port.name, dims.len())?;
        let mut open = 0;
        let shape: Vec<usize> = dims
            .iter()
            .enumerate()
            .map(|(i, d)| {
                d.as_const().map_or_else(
                    || {
                        sizes.get(i).copied().unwrap_or_else(|| {
                            open += 1;
                            1
                        })
                    },
                    |c| c.max(0) as usize,
                )
            })
            .collect();
        random_tensor(port.elem, &shape, seed).ok_or_else(|| {
            Failure::usage(format!("no random {}{shape:?} for input {:?}; give it with --input", port.elem, port.name))
        })
    }

    /// Sizes from `--shape` for an input of the given rank: `name=2x3`, or one number for every open dimension.
    fn sizes(&self, name: &str, rank: usize) -> Result<Vec<usize>, Failure> {
        let wrong = |s: &str| Failure::usage(format!("--shape {s}: expected a number, or input=2x128"));
        for s in &self.shape {
            match s.split_once('=') {
                Some((n, dims)) if n == name => return dims.split('x').map(|d| d.parse().map_err(|_| wrong(s))).collect(),
                Some(_) => {}
                None => return Ok(vec![s.parse().map_err(|_| wrong(s))?; rank]),
            }
        }
        Ok(Vec::new())
    }
}

/// Whether two names mean one tensor: `x` is `x:0`.
fn same_tensor(a: &str, b: &str) -> bool {
    a.strip_suffix(":0").unwrap_or(a) == b.strip_suffix(":0").unwrap_or(b)
}

fn names(given: &[(String, Tensor)]) -> String {
    given.iter().map(|(n, _)| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

/// Most elements that are made at random; whoever has a use for more has them in a file.
const MAX_RANDOM: usize = 1 << 28;

/// Numbers in [0, 1) for floats and 0 or 1 for integers and bools: in range for an index, too. A word or two for strings. `None` for other
/// types, and too many.
fn random_tensor(elem: Elem, shape: &[usize], seed: u64) -> Option<Tensor> {
    let n = graphc::ir::tensor::element_count(shape).filter(|&n| n <= MAX_RANDOM)?;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    if elem == Elem::Str {
        const WORDS: [&str; 8] = ["one", "small step", "for", "a compiler", "and", "another", "for its", "graph"];
        let word = |_| WORDS[(next() * WORDS.len() as f64) as usize].as_bytes().into();
        return Tensor::from_strings(shape, (0..n).map(word).collect());
    }
    let values: Vec<f64> = (0..n).map(|_| next()).collect();
    let values: Vec<f64> = if elem.is_float() { values } else { values.into_iter().map(|v| (v < 0.5) as u8 as f64).collect() };
    graphc::tensor_from_reals(elem, shape, &values)
}

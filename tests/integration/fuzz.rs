//! Short seeded runs of the fuzz targets over damaged copies of good files: no input may panic.

use crate::support::*;
use graphc::frontend::fuzz;

/// `rounds` damaged copies of `good`, and the copies cut off at 40 places.
pub fn damaged(good: &[u8], seed: u64, rounds: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cuts = (0..good.len()).step_by(good.len() / 40 + 1).map(|cut| good[..cut].to_vec());
    let mut random = Random(seed | 1);
    cuts.chain((0..rounds).map(move |_| {
        let mut bad = good.to_vec();
        for _ in 0..=random.below(6) {
            let at = random.below(bad.len());
            match random.below(6) {
                0 | 1 => bad[at] ^= 1 << random.below(8),
                2 => bad[at] = [0, 1, 0xff, 0x7f, 0x80][random.below(5)],
                3 => drop(bad.drain(at..(at + random.below(16)).min(bad.len()))),
                4 => bad.insert(at, random.next() as u8),
                _ => {
                    // Move a piece: lengths and contents then disagree.
                    let piece: Vec<u8> = bad[at..(at + random.below(64)).min(bad.len())].to_vec();
                    let to = random.below(bad.len());
                    bad.splice(to..to, piece);
                }
            }
            if bad.is_empty() {
                break;
            }
        }
        bad
    }))
}

#[test]
fn graph_bytes() {
    for name in GOLDEN {
        let good = std::fs::read(golden(name).join("saved_model/saved_model.pb")).unwrap();
        for bad in damaged(&good, 1, 60) {
            fuzz::saved_model(&bad);
            fuzz::graph_def(&bad);
        }
    }
}

#[test]
fn checkpoint_indexes() {
    for name in GOLDEN {
        let index = golden(name).join("saved_model/variables/variables.index");
        let good = std::fs::read(&index).unwrap();
        for bad in damaged(&good, 2, 400) {
            fuzz::checkpoint_index(&bad, &index.with_extension(""));
        }
    }
}

#[test]
fn texts_of_the_ir() {
    for name in GOLDEN {
        let module = golden_callable(name, 1).module(None).unwrap();
        let good = graphc::ir_text(&module, false);
        for bad in damaged(&good.as_bytes()[..good.len().min(20_000)], 3, 150) {
            let Ok(module) = graphc::ir::text::parse(&String::from_utf8_lossy(&bad)) else { continue };
            // What parses can be verified and printed.
            let _ = graphc::ir::verify::module(&module);
            graphc::ir_text(&module, true);
        }
    }
}

//! Filetests of placement and partition: graphs as text, a line that says what the session has, and what is to come of them in comments
//! behind. `BLESS=1` writes what came.

use super::*;
use crate::callable::Wanted;
use crate::session::SessionOptions;
use crate::shared::Shared;
use crate::staged::print::{self, View};
use graphc_frontend::{Model, OpenOptions};
use std::path::Path;

/// `# session GPU:0 of CPU:0 GPU:0, soft, by device`
fn policy(line: &str) -> Policy {
    let mut parts = line.trim_start_matches("# session ").split(", ");
    let (session, present) = parts.next().and_then(|p| p.split_once(" of ")).expect("`# session DEVICE of DEVICES`");
    let device = |s: &str| s.parse::<DeviceName>().expect(s);
    let mut policy =
        Policy { soft: false, session: device(session), present: present.split(' ').map(device).collect(), ..Policy::of_cpu() };
    for p in parts {
        match p {
            "soft" => policy.soft = true,
            "by device" => policy.by = PlaceBy::Device,
            "lossy" => policy.lossy = true,
            other => panic!("unknown option {other}"),
        }
    }
    policy
}

/// What comes of a file, as comments.
fn outcome(path: &Path, first: &str) -> String {
    let model = Model::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut shared = Shared::of(model, &SessionOptions::default());
    shared.policy = policy(first);
    let model = shared.model().unwrap();
    let graph = model.checked_run_graph(&Wanted::Signature(None).request(model).unwrap()).unwrap();
    let mut out = String::new();
    for (title, view) in [("placement", View::Placement), ("partition", View::Partition)] {
        match print::graph(&shared, &graph, view) {
            Ok(text) => {
                out.push_str(&format!("# ---- {title}\n"));
                text.lines().for_each(|l| out.push_str(&format!("# {l}\n")));
            }
            Err(e) => return format!("# ---- error\n# {e}\n"),
        }
    }
    out
}

#[test]
fn filetests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/filetests/placement");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().find(|l| l.starts_with("# session ")).unwrap_or_else(|| panic!("{}: no session", path.display()));
        let input = text.find("# ----").map_or(text.as_str(), |at| &text[..at]);
        let now = format!("{}\n\n{}", input.trim_end(), outcome(&path, first));
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, now).unwrap();
        } else if now != text {
            wrong.push(format!("{}:\n{now}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn costs_tell_small_from_large() {
    let folder = std::env::temp_dir().join(format!("graphc-costs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("product.pbtxt");
    let seconds = |n: usize| {
        let dims = |d: usize| format!("shape {{ dim {{ size: -1 }} dim {{ size: {d} }} }}");
        let input = |name: &str, shape: String| {
            format!(
                "node {{ name: '{name}' op: 'Placeholder' attr {{ key: 'dtype' value {{ type: DT_FLOAT }} }} attr {{ key: 'shape' value {{ {shape} }} }} }}\n"
            )
        };
        let square = format!("shape {{ dim {{ size: {n} }} dim {{ size: {n} }} }}");
        let product = "node { name: 'y' op: 'MatMul' input: 'x' input: 'w' attr { key: 'T' value { type: DT_FLOAT } } }";
        std::fs::write(&path, input("x", dims(n)) + &input("w", square) + product).unwrap();
        let model = Model::open(&path, &OpenOptions::default()).unwrap();
        let graph = model.graph();
        let costs = Costs::new(graph, model.limits());
        let (x, y) = (graph.find("x").unwrap(), graph.find("y").unwrap());
        let transfer = costs.transfer(Port { node: x, port: 0 });
        (costs.node(y, DeviceName::Cpu), costs.node(y, DeviceName::Gpu(0)), transfer)
    };
    let (cpu, gpu, transfer) = seconds(16);
    assert!(cpu < gpu && gpu < transfer && transfer < 50e-6, "{cpu} {gpu} {transfer}");
    let (cpu, gpu, transfer) = seconds(4096);
    // Two operations a term, of 256 rows; and four bytes an element.
    assert!((cpu / (2.0 * 256.0 * 4096.0 * 4096.0 / 100e9) - 1.0).abs() < 1e-6, "{cpu}");
    assert!(gpu + 3.0 * transfer < cpu, "{cpu} {gpu} {transfer}");
    std::fs::remove_dir_all(folder).unwrap();
}

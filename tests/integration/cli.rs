//! The command line: what it prints where, and its exit codes.

use crate::graphs::{lookup, unsupported};
use crate::support::*;
use graphc::Tensor;

fn model(name: &str) -> String {
    golden(name).join("saved_model").display().to_string()
}

fn io(name: &str) -> String {
    golden(name).join("io_0.npz").display().to_string()
}

#[test]
fn exit_codes_are_as_documented() {
    let folder = Folder::new("cli");
    let path = |p: std::path::PathBuf| p.display().to_string();
    let (mlp, mlp_io, transformer) = (model("mlp"), io("mlp"), model("transformer"));
    let wrong = Tensor::from_slice(&[1, 2], &[0f32; 2]).unwrap();
    let wrong_shape = path(folder.0.join("wrong.npz"));
    graphc::npz::write(wrong_shape.as_ref(), &[("x".into(), wrong)]).unwrap();
    let ids = path(folder.0.join("ids.npz"));
    graphc::npz::write(ids.as_ref(), &[("ids:0".into(), Tensor::from_slice(&[2], &[1i32, 7]).unwrap())]).unwrap();
    let garbage = path(folder.file("garbage.pb", b"\xff\xff\xff\xff\xff"));
    let (unsupported, lookup) = (path(unsupported().write(&folder, "unsupported")), path(lookup().write(&folder, "lookup")));
    let nowhere = path(folder.0.join("no/such/folder/out.npz"));
    let cases: &[(i32, &str, &[&str])] = &[
        (0, "", &["run", &mlp]),
        (0, "", &["check", &mlp, &mlp_io]),
        (1, "", &["check", &mlp, &mlp_io, "--rtol", "0", "--atol", "0"]),
        (2, "", &["no-such-command"]),
        (2, "", &["run", &mlp, "--threads", "x"]),
        (2, "--shape", &["run", &mlp, "--shape", "x"]),
        (2, "\"mask\"", &["run", &transformer, "--input", &ids]),
        (2, "", &["opt", &mlp, "--print-after", "nope"]),
        (3, "nope", &["run", "/nope"]),
        (3, "garbage.pb", &["inspect", &garbage]),
        (3, "nope", &["run", &mlp, "--signature", "nope"]),
        (3, "nope", &["run", &mlp, "--tags", "nope"]),
        (3, "nope", &["run", &mlp, "--fetch", "nope:0"]),
        (3, "/nope.npz", &["run", &mlp, "--input", "/nope.npz"]),
        (3, "\"x\"", &["run", &mlp, "--input", &wrong_shape]),
        (3, "in/", &["check", &mlp, &ids]),
        (4, "NoSuchOpA", &["run", &unsupported]),
        (5, "embedding/lookup", &["run", &lookup, "--input", &ids]),
        (6, &nowhere, &["run", &mlp, "--output", &nowhere]),
    ];
    for (code, words, args) in cases {
        let ended = graphc(args);
        assert_eq!(ended.code, Some(*code), "{args:?}: {ended:?}");
        assert!(ended.err.contains(words), "{args:?}: {ended:?}");
        // Wrong use of options is explained at length.
        if *code >= 3 {
            assert!(
                ended.err.starts_with("error: ") && ended.err.lines().count() == 1 && ended.out.is_empty(),
                "{args:?}: {ended:?}"
            );
        }
    }
}

#[test]
fn what_run_writes_is_what_check_expects() {
    let folder = Folder::new("roundtrip");
    for name in ["mlp", "transformer"] {
        let out = folder.0.join("out.npz");
        let ended =
            graphc(&["run", &model(name), "--input", &io(name), "--output", out.to_str().unwrap(), "--threads", "2", "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out.trim_start().starts_with('{'), "{}", ended.out);
        let session = open(&golden(name).join("saved_model"), 1);
        let callable = session.signature(None).unwrap();
        let got: Vec<Tensor> = graphc::npz::read(&out).unwrap().into_iter().map(|(_, t)| t).collect();
        let wrong = references(&golden(name))[0].differences(&callable, &got, 1e-4, "run");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn every_command_explains_itself() {
    for command in ["inspect", "run", "opt", "compile", "bench", "check"] {
        let ended = graphc(&[command, "--help"]);
        assert_eq!(ended.code, Some(0));
        assert!(ended.out.contains("Usage: graphc ") && ended.out.contains(&format!("graphc {command} ")), "{}", ended.out);
    }
    assert!(graphc(&["--help"]).out.contains("Exit codes:"));
    assert!(graphc(&["completions", "bash"]).out.contains("graphc"));
}

#[test]
fn commands_that_show_a_model_succeed() {
    let folder = Folder::new("show");
    let path = |name: &str| folder.0.join(name).display().to_string();
    let (svg, dot, object) = (path("m.svg"), path("m.dot"), path("m.o"));
    for name in GOLDEN {
        let m = model(name);
        let runs: &[&[&str]] = &[
            &["inspect", &m],
            &["inspect", &m, "--json"],
            &["opt", &m, "--verify", "--print-after", "all"],
            &["opt", &m, "--print-after", "plan"],
            &["opt", &m, "--timing", "--json"],
            &["opt", &m, "--format", "dot", "-o", &dot],
            &["compile", &m, "-o", &object],
        ];
        for args in runs {
            let ended = graphc(args);
            assert!(ended.code == Some(0) && ended.err.is_empty(), "{args:?}: {ended:?}");
        }
        let header = std::fs::read_to_string(path("m.h")).unwrap();
        assert!(header.contains("extern const graphc_model m_model;"), "{header}");
        // The same plan gives the same object.
        let first = std::fs::read(&object).unwrap();
        assert_eq!(graphc(&["compile", &m, "-o", &object]).code, Some(0));
        assert!(std::fs::read(&object).unwrap() == first, "{name}: two objects of one model differ");
    }
    let ended = graphc(&["opt", &model("mlp"), "--format", "svg", "-o", &svg]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));
    let ended = graphc(&["bench", &model("mlp"), "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn bursts_are_answered_line_by_line() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let folder = Folder::new("bursts");
    let saved = folder.0.join("out.npz");
    let mut child = Command::new(env!("CARGO_BIN_EXE_graphc"))
        .args(["bench", &model("mlp"), "--input", &io("mlp"), "--interactive", "--output"])
        .arg(&saved)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"0.01\n0.01\n").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let text = String::from_utf8(ended.stdout).unwrap();
    let keys: Vec<bool> = text.lines().map(|l| l.contains("\"first_run_ms\":") || l.contains("\"median_ms\":")).collect();
    assert_eq!(keys, [true; 3], "{text}");
    assert_eq!(graphc::npz::read(&saved).unwrap().len(), 1);
}

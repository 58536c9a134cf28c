//! An object with its header, linked by the system's C compiler.

use crate::support::{Rng, compare, module, sym};
use graphc_cpu::{Cpu, EmitOptions, Machine, c_header, compile_object, plan};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Elem, Op, Tensor, Type};
use std::path::PathBuf;
use std::process::Command;

const MAIN: &str = r#"
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
  int n = atoi(argv[1]);
  float *x = (float *)malloc(sizeof(float) * n * 20 + 1), *y = (float *)malloc(sizeof(float) * n * 10 + 1);
  FILE *in = fopen(argv[2], "rb"), *out = fopen(argv[3], "wb");
  if (fread(x, 4, n * 20, in) != (size_t)n * 20) return 2;
  for (int round = 0; round < 2; round++) {
    f_io io = {0};
    io.n = n; io.p0 = x; io.r0 = y;
    void *arena = NULL;
    if (round == 1) { arena = aligned_alloc(64, (size_t)f_arena_bytes(&io) + GRAPHC_TAIL); io.arena = arena; }
    int status = f(&io);
    if (status != GRAPHC_OK) { fprintf(stderr, "status %d\n", status); return 1; }
    free(arena);
  }
  fwrite(y, 4, n * 10, out);
  fclose(out);
  return argc == 4 ? 0 : 3;
}
"#;

/// The archive beside this test's own build.
fn archive() -> Option<PathBuf> {
    let dir = std::env::current_exe().ok()?;
    let profile = dir.parent()?.parent()?.to_owned();
    let lib = profile.join("libgraphc_rt.a");
    if !lib.exists() {
        let target = profile.parent()?;
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-p", "graphc-rt", "--target-dir"]).arg(target);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().ok()?.success(), "the archive does not build");
    }
    Some(lib)
}

#[test]
fn c_program_links_an_object() {
    let mut rng = Rng(7);
    let [w1, b1, w2] = [&[20, 33][..], &[33], &[33, 10]].map(|s| rng.tensor(Elem::F32, s));
    let m = module(&[Type::new(Elem::F32, vec![sym("n"), 20i64.into()])], |b, p| {
        let [w1, b1, w2] = [w1, b1, w2].map(|t| b.constant(t));
        let product = || Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]);
        let h = b.op(Op::Contract, &[p[0], w1, b1], product().with("bias", true).with("act", "relu"))?;
        let y = b.op(Op::Contract, &[h, w2], product())?;
        let y = b.un(Op::Tanh, y)?;
        Ok(vec![b.un(Op::Softmax, y)?])
    });
    let plans = [plan(&m, "f").unwrap()];
    let compiled = || compile_object(&plans, Machine::here(Cpu::Baseline).unwrap(), &EmitOptions::default()).unwrap();
    let object = compiled();
    assert_eq!(object, compiled(), "the same plan gives another object");
    let dir = std::env::temp_dir().join(format!("graphc-object-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("net.o"), &object).unwrap();
    std::fs::write(dir.join("net.h"), c_header(&plans)).unwrap();
    std::fs::write(dir.join("main.c"), MAIN).unwrap();
    let lib = archive().unwrap();
    for (compiler, language) in [("cc", "c"), ("c++", "c++")] {
        if language == "c++" && Command::new(compiler).arg("--version").output().is_err() {
            println!("no C++ compiler here: the header is tried in C alone");
            continue;
        }
        let mut link = Command::new(compiler);
        link.current_dir(&dir).args(["-Wall", "-Werror", "-x", language, "main.c", "-x", "none", "net.o"]).arg(&lib);
        let out = link.args(["-lm", "-lpthread", "-ldl", "-o", "net"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for n in [1usize, 5, 33] {
            let x = rng.tensor(Elem::F32, &[n, 20]);
            std::fs::write(dir.join("x"), x.bytes()).unwrap();
            let run = Command::new(dir.join("net")).current_dir(&dir).args([&n.to_string(), "x", "y"]).output().unwrap();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
            let got = Tensor::from_bytes(Elem::F32, vec![n, 10], std::fs::read(dir.join("y")).unwrap()).unwrap();
            let want = Interp::new(&m).run("f", &[x]).unwrap();
            compare(&got, &want[0], Tolerance::Scale(64), "object");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

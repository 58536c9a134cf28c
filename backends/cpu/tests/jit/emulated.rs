//! Every elementwise op and cast, and a few kernels, in the code of other architectures, against the interpreter.

use crate::elementwise::{Case, casts, ops};
use crate::emulator::{AARCH64, Emulator, OLD_X86_64, RISCV64};
use crate::object::{options, source};
use crate::support::{Rng, compare, module, sym};
use graphc_cpu::{Cpu, Machine, compile_object};
use graphc_ir::interp::Interp;
use graphc_ir::op::Tolerance;
use graphc_ir::{Attrs, Elem, Op, Tensor, Type};
use std::fmt::Write;
use std::path::Path;

/// Most inputs of a function.
const INPUTS: usize = 3;

/// Reads the inputs of one function after another, and writes the result of each.
const MAIN: &str = r#"
#include "graphc.h"
#include <stdio.h>
#include <stdlib.h>
extern const graphc_model net_model;
struct input { size_t bytes, rank; int64_t dims[3]; };
static const struct input inputs[][3] = INPUTS;
int main(void) {
  FILE *in = fopen("in", "rb"), *out = fopen("out", "wb");
  graphc_instance *instance;
  if (!in || !out || graphc_create(&net_model, NULL, &instance)) return 2;
  for (size_t f = 0; f < graphc_function_count(&net_model); f++) {
    graphc_call *call;
    if (graphc_call_create(instance, f, &call)) return 3;
    for (size_t k = 0; k < graphc_input_count(&net_model, f); k++) {
      const struct input *i = &inputs[f][k];
      void *data = malloc(i->bytes + 1);
      if (fread(data, 1, i->bytes, in) != i->bytes) return 4;
      if (graphc_set_input(call, k, data, i->dims, i->rank)) return 5;
    }
    size_t bytes;
    if (graphc_run(call) || graphc_output_bytes(call, 0, &bytes)) {
      fprintf(stderr, "function %zu: %s", f, graphc_error(call));
      return 6;
    }
    if (fwrite(graphc_output_data(call, 0), 1, bytes, out) != bytes) return 7;
    graphc_call_destroy(call);
  }
  return fclose(out);
}
"#;

/// The sizes of the inputs of each function, in C.
fn sizes(cases: &[Case]) -> String {
    let mut c = String::from("{");
    for case in cases {
        c.push_str("\n  {");
        for t in &case.inputs[0] {
            let dims: Vec<String> = t.shape().iter().map(usize::to_string).collect();
            let _ = write!(c, "{{{}, {}, {{{}}}}}, ", t.bytes().len(), dims.len(), dims.join(", "));
        }
        c.push_str("},");
    }
    c.push_str("\n}");
    c
}

/// A product with a bias and an activation, and what makes rows probabilities: kernels.
fn layer() -> Case {
    let mut rng = Rng(11);
    let (w, b) = (rng.tensor(Elem::F32, &[20, 33]), rng.tensor(Elem::F32, &[33]));
    let m = module(&[Type::new(Elem::F32, vec![sym("n"), 20i64.into()])], |f, p| {
        let (w, b) = (f.constant(w), f.constant(b));
        let product = Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]).with("bias", true).with("act", "relu");
        let h = f.op(Op::Contract, &[p[0], w, b], product)?;
        Ok(vec![f.un(Op::Softmax, h)?])
    });
    let inputs = vec![vec![rng.tensor(Elem::F32, &[7, 20])]];
    Case { module: m, inputs, tolerance: Tolerance::Scale(64), what: "a layer".to_owned() }
}

fn check(emulator: &Emulator, cases: &[Case]) {
    assert!(cases.iter().all(|c| c.inputs[0].len() <= INPUTS));
    let folder = std::env::temp_dir().join(format!("graphc-emulated-{}-{}", emulator.triple, std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let machine = Machine::new(emulator.triple, Cpu::Baseline).unwrap();
    let object = compile_object(source(cases.iter().map(|c| &c.module)), &options(machine)).unwrap();
    write("model.o", &object.write().unwrap());
    write("main.c", MAIN.replace("INPUTS", &sizes(cases)).as_bytes());
    write(
        "graphc.h",
        &std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/staticlib/include/graphc.h")).unwrap(),
    );
    write("in", &cases.iter().flat_map(|c| &c.inputs[0]).flat_map(|t| t.bytes().to_vec()).collect::<Vec<u8>>());
    emulator.link(&folder).and_then(|()| emulator.run(&folder, &[])).unwrap_or_else(|e| panic!("{}: {e}", emulator.triple));
    let out = std::fs::read(folder.join("out")).unwrap();
    let mut rest = out.as_slice();
    for case in cases {
        let want = Interp::new(&case.module).run("f", &case.inputs[0]).unwrap().remove(0);
        let what = format!("{}, {}", case.what, emulator.triple);
        let (bytes, after) = rest.split_at(want.bytes().len());
        rest = after;
        let got = Tensor::from_bytes(want.elem(), want.shape().to_vec(), bytes.to_vec()).unwrap();
        compare(&got, &want, case.tolerance, &what);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
#[ignore = "tests/cross.sh builds what it needs"]
fn every_op_on_other_architectures() {
    let mut cases = ops(|_| true);
    cases.extend(casts());
    cases.push(layer());
    for emulator in [AARCH64, RISCV64, OLD_X86_64].iter().filter(|e| e.links_here()) {
        check(emulator, &cases);
    }
}

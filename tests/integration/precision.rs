//! Models in bf16 and in integers: near the answers in f32, on processors that multiply such numbers; refused on others.

use crate::support::*;
use graphc::compare::compare;
use graphc::{Precision, Session, SessionOptions};

#[test]
fn bf16_is_near_f32_or_refused() {
    for name in GOLDEN {
        let model = golden(name).join("saved_model");
        let options = SessionOptions { precision: Precision::Bf16, threads: 2, ..SessionOptions::default() };
        let session = match Session::open(&model, options) {
            Ok(s) => s,
            Err(e) => {
                assert_eq!(e.code(), "GC0602");
                assert!(e.to_string().contains("avx512_bf16"), "{e}");
                return;
            }
        };
        let wide = golden_callable(name, 1);
        let narrow = session.signature(None).unwrap();
        for reference in references(&golden(name)) {
            let inputs = reference.inputs(&wide);
            let (want, got) = (wide.run_tensors(&inputs).unwrap(), narrow.run_tensors(&inputs).unwrap());
            for (g, w) in got.iter().zip(&want) {
                let d = compare(g, w);
                assert!(d.within(2e-2, 1e-6), "{}: {d:?}", reference.file);
            }
        }
    }
}

#[test]
fn fake_quantised_models_run_in_integers() {
    let folder = golden("quantised");
    let open = |precision| Session::open(&folder.join("saved_model"), SessionOptions { precision, ..SessionOptions::default() });
    let precisions: &[Precision] = match open(Precision::Int8) {
        Ok(_) => &[Precision::F32, Precision::Int8],
        Err(e) => {
            assert_eq!(e.code(), "GC0602");
            assert!(e.to_string().contains("avx512_vnni"), "{e}");
            &[Precision::F32]
        }
    };
    for &precision in precisions {
        let session = open(precision).unwrap();
        let callable = session.signature(None).unwrap();
        for reference in references(&folder) {
            let got = callable.run_tensors(&reference.inputs(&callable)).unwrap();
            // A sum that is rounded in another order may fall on the next of 256 steps.
            let wrong = reference.differences(&callable, &got, 1e-2, "quantised");
            assert!(wrong.is_empty(), "{precision:?}: {wrong:?}");
        }
    }
}

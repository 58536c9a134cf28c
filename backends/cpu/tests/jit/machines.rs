//! Objects for other machines: read again, not run. `tests/cross.sh` runs those for Linux in an emulator.

use crate::object::{options, source};
use crate::support::{Rng, module, sym};
use cranelift_object::object::{
    Architecture, BinaryFormat, File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind,
};
use graphc_cpu::{Cpu, Machine, compile_object};
use graphc_ir::{Attrs, Elem, Module, Op, Type};
use graphc_kernels::tier::{Tier, force, tier};

/// A product with an activation that is a loop, and another loop over numbers of 16 bits.
fn model() -> Module {
    let mut rng = Rng(11);
    let (w, b) = (rng.tensor(Elem::F32, &[20, 33]), rng.tensor(Elem::F32, &[33]));
    let types = [Type::new(Elem::F32, vec![sym("n"), 20i64.into()]), Type::new(Elem::F16, vec![sym("n")])];
    module(&types, |f, p| {
        let (w, b) = (f.constant(w), f.constant(b));
        let product = Attrs::new().with("lhs", vec![1i64]).with("rhs", vec![0i64]).with("bias", true);
        let h = f.op(Op::Contract, &[p[0], w, b], product)?;
        let y = f.un(Op::Tanh, h)?;
        let wide = f.un(Op::Exp, p[1])?;
        Ok(vec![f.un(Op::Softmax, y)?, wide])
    })
}

fn compiled(m: &Module, machine: Machine) -> Vec<u8> {
    let object = compile_object(source([m]), &options(machine)).and_then(|o| o.write());
    object.unwrap_or_else(|e| panic!("{machine}: {e}"))
}

#[test]
fn objects_are_of_the_machine_that_is_asked_for() {
    let m = model();
    for triple in Machine::triples() {
        let machine = Machine::new(triple, Cpu::Baseline).unwrap();
        let bytes = compiled(&m, machine);
        let file = File::parse(bytes.as_slice()).unwrap();
        let (format, prefix) = match triple.rsplit('-').next() {
            Some("darwin") => (BinaryFormat::MachO, "_"),
            Some("msvc") => (BinaryFormat::Coff, ""),
            _ => (BinaryFormat::Elf, ""),
        };
        let architecture = match triple.split('-').next() {
            Some("x86_64") => Architecture::X86_64,
            Some("aarch64") => Architecture::Aarch64,
            _ => Architecture::Riscv64,
        };
        assert_eq!((file.format(), file.architecture()), (format, architecture), "{triple}");

        let root =
            file.symbols().find(|s| s.name() == Ok(&format!("{prefix}net_model"))).unwrap_or_else(|| panic!("{triple}: no model"));
        assert!(root.is_global() && root.is_definition(), "{triple}");
        let exported = file.symbols().filter(|s| s.is_global() && s.is_definition()).count();
        assert_eq!(exported, 1, "{triple} exports more than the model");
        let vector = file.symbols().filter(|s| s.name().is_ok_and(|n| n.contains(".avx"))).count();
        assert_eq!(vector > 0, architecture == Architecture::X86_64, "{triple}: {vector} loops for AVX");
        let imports: Vec<&str> = file.symbols().filter(|s| s.is_undefined()).filter_map(|s| s.name().ok()).collect();
        let kernel = |name: &str| graphc_kernels::symbols().any(|s| name.strip_prefix(prefix) == Some(s.name));
        for name in imports.iter().filter(|n| !n.is_empty() && **n != "_GLOBAL_OFFSET_TABLE_") {
            assert!(kernel(name), "{triple}: {name} is no kernel");
        }
        assert!(imports.len() > 1, "{triple}: {imports:?}");

        let text = file.sections().find(|s| s.kind() == SectionKind::Text).unwrap();
        assert!(text.relocations().count() > 0, "{triple}");
        for (at, r) in text.relocations() {
            assert!(at < text.size(), "{triple}: {r:?}");
            match r.target() {
                RelocationTarget::Symbol(s) => assert!(file.symbol_by_index(s).is_ok(), "{triple}: {r:?}"),
                RelocationTarget::Section(s) => assert!(file.section_by_index(s).is_ok(), "{triple}: {r:?}"),
                other => panic!("{triple}: {other:?}"),
            }
        }
    }
}

#[test]
fn processors_decide_about_variants_of_loops() {
    let m = model();
    let variants = |cpu: Cpu| {
        let machine = Machine::new("x86_64-unknown-linux-gnu", cpu).unwrap();
        let bytes = compiled(&m, machine);
        let file = File::parse(bytes.as_slice()).unwrap();
        let names: Vec<String> = file.symbols().filter_map(|s| s.name().ok().map(str::to_owned)).collect();
        [".avx512", ".avx2", ".portable"].map(|v| names.iter().any(|n| n.ends_with(v)))
    };
    assert_eq!(variants(Cpu::Baseline), [true, true, true]);
    assert_eq!(variants(Cpu::X86V3), [true, true, false]);
    assert_eq!(variants(Cpu::X86V4), [true, false, false]);
    assert!(!compiled(&m, Machine::here(Cpu::Native).unwrap()).is_empty());
}

#[test]
fn objects_do_not_depend_on_the_machine_that_compiles() {
    let m = model();
    let before = tier();
    for triple in Machine::triples() {
        let machine = Machine::new(triple, Cpu::Baseline).unwrap();
        let first = compiled(&m, machine);
        for (_, t) in Tier::ALL {
            if force(t) {
                assert!(compiled(&m, machine) == first, "{triple}: another object on a machine with {t:?}");
            }
        }
    }
    force(before);
}

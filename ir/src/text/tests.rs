use super::*;
use crate::{Elem, Type};

const EXAMPLE: &str = r#"module @mnist {
  var @w : f32[784, 10]
  var @"odd name" : i64[] = <i64[] 3>
  func @predict(%x: f32[?n, 784], %"a:0": bool[] "node/a") -> (%output: f32[?n, 10]) {
    %ReadVariableOp = var.read @w : f32[784, 10] ; "dense/MatMul/ReadVariableOp"
    %h = contract %x, %ReadVariableOp {lhs = [1], rhs = [0]} : f32[?n, 10]
    %0 = const <f32[] 0.5>
    %c = const <f32[10] splat -0.0>
    %y = fused %h, %0 : f32[?n, 10] (%1: f32[?n, 10], %2: f32[]) {
      %3 = mul %1, %2 : f32[?n, 10]
      yield %3
    } ; "act/y"
    %if = if %"a:0", %y : f32[?n, 10] (%p: f32[?n, 10]) {
      yield %p
    } (%p_1: f32[?n, 10] "p") {
      %4 = call @helper, %p_1, %c : f32[?n, 10]
      yield %4
    }
    var.assign @w, %ReadVariableOp ; "assign"
    %values, %values_1 = top_k %x {k = [min(?n, 4)]} : f32[?n, min(4, ?n)], i32[?n, min(4, ?n)]
    return %if
  }
  func @helper(%x: f32[?m, 10], %b: f32[10]) -> (f32[?m, 10]) {
    %0 = add %x, %b : f32[?m, 10]
    return %0
  }
}
"#;

fn parsed(text: &str) -> Module {
    match parse(text) {
        Ok(m) => m,
        Err(e) => panic!("{e}\n{text}"),
    }
}

#[test]
fn a_printed_module_prints_the_same() {
    let m = parsed(EXAMPLE);
    let text = print(&m);
    assert_eq!(print(&parsed(&text)), text);
    // `min` is in normal form, the second region's parameter is renamed, nothing else changes.
    let expected = EXAMPLE.replace("k = [min(?n, 4)]", &format!("k = [{}]", parse_dim("min(?n, 4)").unwrap()));
    let expected = expected.replace("min(4, ?n)]", &format!("{}]", parse_dim("min(?n, 4)").unwrap()));
    assert_eq!(text, expected);
}

#[test]
fn errors_have_a_place() {
    for (text, place) in [
        ("", "1:1: expected \"module\""),
        ("module @m {\n  func @f() -> () {\n    %x = relu %y : f32[]\n    return\n  }\n}", "3:15: no value %y here"),
        ("module @m {\n  func @f() -> () {\n    frob\n", "3:5: no op \"frob\""),
        ("module @m {\n  func @f(%x: f32[2]) -> () {\n    %y = reduce %x {axis = [0]}\n", "3:21: reduce has no attribute axis"),
        ("module @m { var @v : f32[4] = <f32[4] [1.0, 2.0]> }", "1:32: the elements do not fill the shape"),
        ("module @m { var @v : f32[9] = <f32[9] elided 0x00>\n }", "1:32: the text leaves this constant out"),
        ("module @m { func @f(%x: f32[]) -> (f32[2]) { return %x } }", "1:56: the results of \"f\""),
        ("module @\"open", "1:14: a string is not closed"),
    ] {
        let e = parse(text).unwrap_err().to_string();
        assert!(e.starts_with(place), "{e} is not {place}");
    }
}

#[test]
fn constants_survive_in_every_style() {
    let mut text = String::from("module @m {\n");
    for (elem, list) in [
        ("f32", "0.1, -0.0, nan, -inf, 1e-45, 0x7fc00001, 3.4028235e38, 1e16, 2.5"),
        ("f16", "0.1, -0.0, nan, inf, 65504.0, 6e-8, 1.0, 2.0, 0x7e01"),
        ("bf16", "0.1, -0.0, nan, inf, 3e38, 1e-40, 1.0, 2.0, 0x7fc1"),
        ("f64", "0.1, -0.0, nan, inf, 1e300, 5e-324, 1.0, 2.0, 0x7ff8000000000001"),
        ("u64", "18446744073709551615, 0, 1, 2, 3, 4, 5, 6, 7"),
        ("i8", "-128, 127, 1, 2, 3, 4, 5, 6, 7"),
        ("bool", "true, false, true, true, true, true, true, true, true"),
        (
            "c64",
            "0x3f80000040000000, 0x0000000000000000, 0x0000000000000001, 0x0000000000000000, 0x0000000000000000, 0x0000000000000000, 0x0000000000000000, 0x0000000000000000, 0x0000000000000000",
        ),
        ("string", "\"a\\\"\\\\\\x00\\xff\", \"\", \"b\", \"\", \"\", \"\", \"\", \"\", \"\""),
    ] {
        text.push_str(&format!("  var @{elem} : {elem}[9] = <{elem}[9] [{list}]>\n"));
    }
    text.push_str("}\n");
    let m = parsed(&text);
    let inline = print_with(&m, &mut Options { inline: 9, ..Options::default() }).unwrap();
    let full = print_with(&m, &mut Options { constants: Constants::Full, ..Options::default() }).unwrap();
    let mut file = Vec::new();
    let mut options = Options { constants: Constants::File { name: "w.bin", out: &mut file, len: 0 }, ..Options::default() };
    let by_file = print_with(&m, &mut options).unwrap();
    let in_file = |r: Reference| match r {
        Reference::File { ty, name: "w.bin", offset } => {
            let shape = ty.const_shape()?;
            let n = shape.iter().product::<usize>() * ty.elem.size();
            Tensor::from_bytes(ty.elem, shape, file.get(offset as usize..offset as usize + n)?.to_vec())
        }
        _ => None,
    };
    let by_hash = constants_by_hash(&m);
    let elided = |r: Reference| match r {
        Reference::Elided { hash, .. } => by_hash.get(&hash).cloned(),
        _ => None,
    };
    for (text, resolver) in [(&inline, &elided as Resolver), (&full, &elided), (&by_file, &in_file), (&print(&m), &elided)] {
        let again = parse_with(text, resolver).unwrap_or_else(|e| panic!("{e}\n{text}"));
        for (a, b) in m.vars.iter().zip(&again.vars) {
            assert_eq!(a.init, b.init, "{} in\n{text}", a.name);
        }
    }
}

#[test]
fn dimensions_parse_as_they_print() {
    for text in ["3*?m*?n - 2", "floordiv(?n + 1, 2)", "-?n + 4", "max(0, ?n - 3)", "mod(?n, 4)*?m", "-9223372036854775807"] {
        let d = parse_dim(text).unwrap();
        assert_eq!(parse_dim(&d.to_string()).unwrap(), d, "{text}");
    }
    assert_eq!(parse_dim("(?n + 1)*(?n - 1)").unwrap().to_string(), "?n*?n - 1");
    assert!(parse_dim(&"(".repeat(100_000)).is_err());
    assert!(parse_dim(&["(?a + ?b + ?c + ?d)"; 40].join("*")).is_err());
}

#[test]
fn broken_text_gives_errors() {
    let bytes = EXAMPLE.as_bytes();
    for k in 0..bytes.len() {
        fuzz(&bytes[..k]);
        let mut flipped = bytes.to_vec();
        flipped[k] ^= 1 << (k % 7);
        fuzz(&flipped);
        flipped.remove(k);
        fuzz(&flipped);
    }
    let m = parsed(EXAMPLE);
    assert_eq!(m.funcs[0].ty(m.funcs[0].params()[1]), &Type::scalar(Elem::Bool));
}

#[test]
fn spliced_text_gives_errors() {
    const PIECES: &[&str] = &[
        "?n",
        "1",
        "-1",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "f32[4]",
        "*",
        "floordiv(",
        "%x",
        "%y",
        "9223372036854775807",
        "-9223372036854775808",
        "0",
        "conv2d",
        "fused",
        "while",
        "<",
        "splat",
        "i4",
        "\"",
        "@helper",
        "=",
        ":",
        "4294967296",
        "slice %x {start = [-9223372036854775808, 0], size = [1, 9223372036854775807]}",
        "pool2d",
        "strides = [9223372036854775807, 1]",
        "mod(-9223372036854775808, -1)",
        "resize",
        "pad %x, %0 {low = [9223372036854775807, 0], high = [9223372036854775807, 1]}",
    ];
    let mut state = 0x9e37_79b9_u64;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    for _ in 0..20_000 {
        let mut text = EXAMPLE.as_bytes().to_vec();
        for _ in 0..=random(3) {
            let from = random(text.len());
            let to = (from + random(20)).min(text.len());
            text.splice(from..to, PIECES[random(PIECES.len())].bytes());
        }
        fuzz(&text);
    }
}

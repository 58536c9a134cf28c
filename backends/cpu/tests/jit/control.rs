//! Branches and loops: what they compute, what they do in place, and that they can be left.

use crate::support::{check, run, run_with};
use graphc_abi::Status;
use graphc_cpu::{Compiled, EmitOptions, compile};
use graphc_ir::op::Tolerance::Exact;
use graphc_ir::{Module, Tensor};
use graphc_passes::plan::StepKind;
use graphc_passes::plan::print::print_plan;
use std::sync::atomic::AtomicU32;

fn parse(body: &str) -> Module {
    let text = format!("module @test {{\n{body}\n}}\n");
    let m = graphc_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    if let Err(e) = graphc_ir::verify::verify(&m) {
        panic!("{e:?}");
    }
    m
}

fn compiled(m: &Module) -> Compiled {
    compile(m, "f", 2, &EmitOptions::default()).unwrap()
}

fn ints(shape: &[usize], v: &[i32]) -> Tensor {
    Tensor::from_slice(shape, v).unwrap()
}

fn copies(c: &Compiled) -> usize {
    c.plan.steps.iter().filter(|s| matches!(&s.kind, StepKind::Kernel { symbol: "gc_copy_strided", .. })).count()
}

#[test]
fn branches() {
    // Both branches read %t, transposed inside of them and again after them.
    let m = parse(
        "func @f(%x: i32[?n, 3], %c: bool[]) -> (%y: i32[3, ?n], %z: i32[?n, 3]) {
            %t = transpose %x {perm = [1, 0]}
            %a, %b = if %c, %x : i32[3, ?n], i32[?n, 3] (%p: i32[?n, 3]) {
              %u = add %t, %t
              %v = concat %t, %t {axis = 0}
              %w = slice %v {start = [3, 0], size = [3, ?n]}
              %s = add %u, %w
              yield %s, %p
            } (%q: i32[?n, 3]) {
              %k = const <i32[] 7>
              %r = mul %q, %k
              yield %t, %r
            }
            %d = concat %a, %t {axis = 1}
            %e = slice %d {start = [0, ?n], size = [3, ?n]}
            %y = add %a, %e
            return %y, %b
        }",
    );
    let x = |n: usize| ints(&[n, 3], &(0..3 * n as i32).collect::<Vec<_>>());
    let cases: Vec<Vec<Tensor>> = [(4, true), (4, false), (1, true), (1, false), (0, true)]
        .into_iter()
        .map(|(n, c)| vec![x(n), Tensor::from_bools(&[], &[c]).unwrap()])
        .collect();
    check(&m, &cases, Exact, "a branch");
}

#[test]
fn loops_swap_and_keep_what_they_carry() {
    let m = parse(
        "func @f(%n: i32[], %x: i32[4], %y: i32[4]) -> (%a: i32[4], %b: i32[4], %c: i32[4]) {
            %zero = const <i32[] 0>
            %i, %a, %b, %c = while %zero, %x, %y, %x : i32[], i32[4], i32[4], i32[4] (%i1: i32[], %a1: i32[4], %b1: i32[4], %c1: i32[4]) {
              %more = lt %i1, %n
              yield %more
            } (%i2: i32[], %a2: i32[4], %b2: i32[4], %c2: i32[4]) {
              %one = const <i32[] 1>
              %next = add %i2, %one
              %s = add %a2, %i2
              %r = reverse %c2 {axes = [0]}
              yield %next, %b2, %s, %r
            }
            return %a, %b, %c
        }",
    );
    let case = |n: i32| vec![ints(&[], &[n]), ints(&[4], &[1, 2, 3, 4]), ints(&[4], &[50, 60, 70, 80])];
    check(&m, &[case(0), case(1), case(2), case(5)], Exact, "a swapping loop");
}

const COLLECTS: &str = "func @f(%n: i32[], %x: f32[8, ?k]) -> (%y: f32[8, ?k]) {
    %zero = const <i32[] 0>
    %start = const <f32[] 0.0>
    %empty = broadcast %start {shape = [8, ?k]}
    %i, %y = while %zero, %empty : i32[], f32[8, ?k] (%i1: i32[], %y1: f32[8, ?k]) {
      %more = lt %i1, %n
      yield %more
    } (%i2: i32[], %y2: f32[8, ?k]) {
      %one = const <i32[] 1>
      %row = gather %x, %i2 {axis = 0}
      %twice = add %row, %row
      %at = reshape %i2 {shape = [1]}
      %put = scatter_nd %y2, %at, %twice {kind = set}
      %next = add %i2, %one
      yield %next, %put
    }
    return %y
}";

#[test]
fn a_loop_sets_items_in_place() {
    let m = parse(COLLECTS);
    let x = Tensor::from_slice(&[8, 5], &(0..40).map(|v| v as f32).collect::<Vec<_>>()).unwrap();
    let case = |n: i32| vec![ints(&[], &[n]), x.clone()];
    check(&m, &[case(0), case(3), case(8)], Exact, "a loop over a buffer");
    let c = compiled(&m);
    let inside = c.plan.steps.iter().skip_while(|s| !matches!(s.kind, StepKind::Test { .. }));
    let copied = inside.filter(|s| matches!(&s.kind, StepKind::Kernel { symbol: "gc_copy_strided", .. })).count();
    assert_eq!(copied, 0, "{}", print_plan(&c.plan));
}

#[test]
fn what_is_read_after_it_is_set_is_copied() {
    let m = parse(
        "func @f(%n: i32[], %x: i32[4]) -> (%y: i32[4], %s: i32[]) {
            %zero = const <i32[] 0>
            %i, %y, %s = while %zero, %x, %zero : i32[], i32[4], i32[] (%i1: i32[], %y1: i32[4], %s1: i32[]) {
              %more = lt %i1, %n
              yield %more
            } (%i2: i32[], %y2: i32[4], %s2: i32[]) {
              %one = const <i32[] 1>
              %at = reshape %i2 {shape = [1]}
              %put = scatter_nd %y2, %at, %s2 {kind = set}
              %old = gather %y2, %i2 {axis = 0}
              %sum = add %s2, %old
              %next = add %i2, %one
              yield %next, %put, %sum
            }
            return %y, %s
        }",
    );
    let case = |n: i32| vec![ints(&[], &[n]), ints(&[4], &[5, 6, 7, 8])];
    check(&m, &[case(0), case(2), case(4)], Exact, "a loop that reads what it sets");
}

#[test]
fn loops_nest_in_loops_branches_and_conditions() {
    let m = parse(
        "func @f(%n: i32[], %x: i32[3]) -> (%y: i32[3], %i: i32[]) {
            %zero = const <i32[] 0>
            %one = const <i32[] 1>
            %i, %y = while %zero, %x : i32[], i32[3] (%i1: i32[], %y1: i32[3]) {
              %j, %t = while %zero, %i1 : i32[], i32[] (%j1: i32[], %t1: i32[]) {
                %two = const <i32[] 2>
                %m = lt %j1, %two
                yield %m
              } (%j2: i32[], %t2: i32[]) {
                %k = add %t2, %one
                %l = add %j2, %one
                yield %l, %k
              }
              %more = lt %t, %n
              yield %more
            } (%i2: i32[], %y2: i32[3]) {
              %next = add %i2, %one
              %bit = and %i2, %one
              %odd = eq %bit, %one
              %v = if %odd : i32[3] () {
                %p, %q = while %zero, %y2 : i32[], i32[3] (%p1: i32[], %q1: i32[3]) {
                  %m = lt %p1, %i2
                  yield %m
                } (%p2: i32[], %q2: i32[3]) {
                  %w = add %q2, %y2
                  %u = add %p2, %one
                  yield %u, %w
                }
                yield %q
              } () {
                %neg = neg %y2
                yield %neg
              }
              %z = add %v, %x
              yield %next, %z
            }
            return %y, %i
        }",
    );
    let case = |n: i32| vec![ints(&[], &[n]), ints(&[3], &[1, -2, 3])];
    check(&m, &[case(0), case(3), case(4), case(9)], Exact, "nested loops");
}

#[test]
fn variables_in_regions_keep_their_order() {
    let m = parse(
        "var @v : i32[2] = <i32[2] [1, 2]>
        func @f(%n: i32[]) -> (%a: i32[2], %b: i32[2]) {
            %zero = const <i32[] 0>
            %one = const <i32[] 1>
            %a = var.read @v : i32[2]
            %i = while %zero : i32[] (%i1: i32[]) {
              %more = lt %i1, %n
              yield %more
            } (%i2: i32[]) {
              %old = var.read @v : i32[2]
              %new = add %old, %old
              var.assign @v, %new
              %next = add %i2, %one
              yield %next
            }
            %b = var.read @v : i32[2]
            return %a, %b
        }",
    );
    let c = compiled(&m);
    let mut vars = vec![[1i32, 2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()];
    let got = run(&c, &[ints(&[], &[3])], &mut vars, 1).unwrap();
    assert_eq!(got[0].as_slice::<i32>().unwrap().as_ref(), [1, 2]);
    assert_eq!(got[1].as_slice::<i32>().unwrap().as_ref(), [8, 16]);
}

#[test]
fn an_endless_loop_can_be_left() {
    let m = parse(
        "func @f(%x: i32[]) -> (%y: i32[]) {
            %y = while %x : i32[] (%x1: i32[]) {
              %always = const <bool[] true>
              yield %always
            } (%x2: i32[]) {
              yield %x2
            }
            return %y
        }",
    );
    let c = compiled(&m);
    let flag = AtomicU32::new(0);
    let error = std::thread::scope(|s| {
        let flag = &flag;
        s.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            flag.store(1, std::sync::atomic::Ordering::Relaxed);
        });
        run_with(&c, &[ints(&[], &[3])], &mut [], 1, &|ctx| ctx.cancel = flag)
    });
    assert_eq!(error.map(drop).map_err(|e| e.0), Err(Status::Cancelled as i32));
    assert!(copies(&c) > 0);
}

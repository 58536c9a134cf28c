//! Choices among kernels by their time on this machine, instead of by rules.

use crate::target::CpuTarget;
use graphc_abi::args::matrix::{Conv2dArgs, GemmArgs, WinogradArgs};
use graphc_abi::{Body, Ctx, ErrorRecord, SCRATCH_BYTES};
use graphc_kernels::conv::forward::gc_conv2d_f32;
use graphc_kernels::conv::winograd::{filter, gc_winograd_f32};
use graphc_kernels::matrix::gemm::gc_gemm_f32;
use graphc_kernels::pack::{PANEL_WIDTHS, packed_len};
use graphc_passes::target::Target;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A CPU whose choices are timed, once each: the width of weights' panels, and the algorithm of 3x3 convolutions. Times are those of one
/// thread, on f32, with weights that come from memory as they do within a network.
#[derive(Debug, Default)]
pub struct TunedCpu {
    /// What was chosen, by the question.
    choices: Mutex<BTreeMap<String, usize>>,
}

/// Share of the time of the rule's choice below which another one is taken: times are noisy, rules are not.
const BETTER: f64 = 0.97;
/// How long a candidate is timed, and how often at least.
const PATIENCE: Duration = Duration::from_millis(4);
const LEAST_RUNS: usize = 4;
/// Floats of weights, or copies of them, that a candidate walks through: more than caches hold for it.
const WEIGHTS: usize = 8 << 20;
/// Rows of a product that stand for more of them.
const MOST_ROWS: usize = 1568;
/// Rows where their number is open, as the rules have it.
const OPEN_ROWS: usize = 196;
/// Most floats of an operand that are set up to be timed.
const LARGEST: usize = 64 << 20;

impl TunedCpu {
    /// With choices that [`TunedCpu::to_text`] wrote; what cannot be read is chosen again.
    pub fn from_text(text: &str) -> TunedCpu {
        let choices = text.lines().filter_map(|l| {
            let (question, answer) = l.split_once(" = ")?;
            Some((question.to_owned(), answer.parse().ok()?))
        });
        TunedCpu { choices: Mutex::new(choices.collect()) }
    }

    /// All choices so far, a line each.
    pub fn to_text(&self) -> String {
        let choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
        choices.iter().fold(String::new(), |mut text, (question, answer)| {
            let _ = writeln!(text, "{question} = {answer}");
            text
        })
    }

    /// The answer to a question: what was chosen before, or the fastest of `candidates` now, of which the first is the rule's choice.
    fn choose(&self, question: String, candidates: &[usize], mut seconds: impl FnMut(usize) -> Option<f64>) -> usize {
        let known = self.choices.lock().unwrap_or_else(PoisonError::into_inner).get(&question).copied();
        if let Some(choice) = known.filter(|c| candidates.contains(c)) {
            return choice;
        }
        let mut choice = candidates[0];
        let mut least = seconds(choice).map_or(0.0, |t| t * BETTER);
        for &other in &candidates[1..] {
            if let Some(t) = seconds(other).filter(|&t| t < least) {
                (choice, least) = (other, t);
            }
        }
        self.choices.lock().unwrap_or_else(PoisonError::into_inner).insert(question, choice);
        choice
    }
}

impl Target for TunedCpu {
    fn panel_width(&self, m: Option<usize>, n: usize, k: usize) -> usize {
        let rule = CpuTarget.panel_width(m, n, k);
        let m = m.unwrap_or(OPEN_ROWS).min(MOST_ROWS);
        if m * n * k == 0 {
            return rule;
        }
        let others = PANEL_WIDTHS.into_iter().filter(|&nr| nr != rule && nr < n + 16);
        let candidates: Vec<usize> = std::iter::once(rule).chain(others).collect();
        self.choose(format!("panel width of {m}x{n}x{k}"), &candidates, |nr| gemm_seconds([m, n, k], nr))
    }

    fn winograd_outputs(&self, batch: Option<usize>, out: [Option<usize>; 2], c: usize, n: usize) -> Option<usize> {
        let rule = CpuTarget.winograd_outputs(batch, out, c, n);
        let (batch, [Some(h), Some(w)]) = (batch.unwrap_or(1), out) else { return rule };
        if batch * h * w * c * n == 0 || graphc_kernels::conv::winograd::MAX_CHANNELS < c {
            return rule;
        }
        // The direct way has no number of its own.
        let rule = rule.unwrap_or(0);
        let candidates: Vec<usize> = std::iter::once(rule).chain([0, 2, 4].into_iter().filter(|&o| o != rule)).collect();
        let question = format!("outputs of a 3x3 convolution {batch}x{h}x{w}x{c} to {n}");
        let choice = self.choose(question, &candidates, |outputs| {
            let rows = if outputs == 0 { batch * h * w } else { 28 };
            let nr = CpuTarget.panel_width(Some(rows), n, if outputs == 0 { 9 * c } else { c });
            convolution_seconds([batch, h, w, c, n], outputs, nr)
        });
        Some(choice).filter(|&o| o > 0)
    }

    fn divides_product(&self, m: usize, n: usize, k: usize) -> bool {
        CpuTarget.divides_product(m, n, k)
    }

    fn has_bf16_dots(&self) -> bool {
        CpuTarget.has_bf16_dots()
    }

    fn has_int8_dots(&self) -> bool {
        CpuTarget.has_int8_dots()
    }
}

unsafe extern "C" fn serial(_: *const c_void, chunks: usize, body: Body, data: *const c_void) {
    for i in 0..chunks {
        // SAFETY: the data is the caller's.
        unsafe { body(data, i, 0) };
    }
}

/// The least time of a launch; `set` names the weights of the next one. None where the kernel refuses it.
fn seconds<A>(
    kernel: unsafe extern "C" fn(*const Ctx, *const A) -> i32,
    args: &mut A,
    mut set: impl FnMut(&mut A, usize),
) -> Option<f64> {
    let mut scratch = vec![Line([0.0; 16]); SCRATCH_BYTES / size_of::<Line>()];
    let mut error = ErrorRecord::default();
    let ctx = Ctx {
        threads: 1,
        pool: std::ptr::null(),
        parallel_for: serial,
        scratch: scratch.as_mut_ptr().cast(),
        cancel: std::ptr::null(),
        trace: None,
        trace_data: std::ptr::null_mut(),
        error: &mut error,
    };
    let (start, mut least, mut runs) = (Instant::now(), None, 0);
    while runs < LEAST_RUNS || start.elapsed() < PATIENCE {
        set(args, runs);
        let begin = Instant::now();
        // SAFETY: the callers give operands of the sizes that the arguments say.
        if unsafe { kernel(&ctx, args) } != 0 {
            return None;
        }
        let t = begin.elapsed().as_secs_f64();
        if runs > 0 && least.is_none_or(|l| t < l) {
            least = Some(t);
        }
        runs += 1;
    }
    least
}

/// Floats of a cache line, where kernels' operands begin.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Floats to compute with, and some behind them.
struct Operand(Vec<Line>);

impl Operand {
    fn at(&self, float: usize) -> *const f32 {
        self.0.as_ptr().cast::<f32>().wrapping_add(float)
    }

    fn at_mut(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

fn operand(len: usize) -> Option<Operand> {
    (len <= LARGEST).then(|| Operand(vec![Line([0.5; 16]); len / 16 + 5]))
}

/// Weights of `len` floats, copied so often that they do not stay in a cache, and how often.
fn weights(len: usize) -> Option<(Operand, usize)> {
    let copies = (WEIGHTS / len.max(1)).max(1);
    Some((operand(copies * len)?, copies))
}

fn gemm_seconds([m, n, k]: [usize; 3], nr: usize) -> Option<f64> {
    let len = packed_len(k, n, nr);
    let (x, (w, copies), mut y) = (operand(m.checked_mul(k)?)?, weights(len)?, operand(m.checked_mul(n)?)?);
    // SAFETY: all words zero is an argument list of absent operands.
    let mut args: GemmArgs = unsafe { std::mem::zeroed() };
    (args.x, args.y) = (x.at(0), y.at_mut());
    (args.m, args.n, args.k, args.nr) = (m as i64, n as i64, k as i64, nr as i64);
    seconds(gc_gemm_f32, &mut args, |args, i| args.w = w.at(i % copies * len))
}

/// Of a 3x3 convolution of stride 1 that keeps the extents; `outputs` 0: the direct way.
fn convolution_seconds([batch, h, w, c, n]: [usize; 5], outputs: usize, nr: usize) -> Option<f64> {
    let pixels = batch.checked_mul(h)?.checked_mul(w)?;
    let len = if outputs == 0 { packed_len(9 * c, n, nr) } else { filter::packed_len(outputs, c, n, nr) };
    let (x, (f, copies), mut y) = (operand(pixels.checked_mul(c)?)?, weights(len)?, operand(pixels.checked_mul(n)?)?);
    macro_rules! run {
        ($kernel:ident, $args:ty, |$a:ident| $more:expr) => {{
            // SAFETY: all words zero is an argument list of absent operands.
            let mut $a: $args = unsafe { std::mem::zeroed() };
            ($a.x, $a.y, $a.nr) = (x.at(0), y.at_mut(), nr as i64);
            ($a.batch, $a.in_h, $a.in_w, $a.in_c) = (batch as i64, h as i64, w as i64, c as i64);
            ($a.out_h, $a.out_w, $a.out_c) = (h as i64, w as i64, n as i64);
            ($a.pad_top, $a.pad_left) = (1, 1);
            $more;
            seconds($kernel, &mut $a, |args, i| args.w = f.at(i % copies * len))
        }};
    }
    if outputs == 0 {
        run!(gc_conv2d_f32, Conv2dArgs, |a| (a.k_h, a.k_w, a.stride_h, a.stride_w) = (3, 3, 1, 1))
    } else {
        run!(gc_winograd_f32, WinogradArgs, |a| a.outputs = outputs as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_is_chosen_once_and_kept() {
        let cpu = TunedCpu::default();
        let mut asked = 0;
        let mut ask = |cpu: &TunedCpu, times: [f64; 3]| {
            cpu.choose("which of three".into(), &[7, 8, 9], |c| {
                asked += 1;
                Some(times[c - 7])
            })
        };
        assert_eq!(ask(&cpu, [2.0, 1.99, 1.5]), 9);
        assert_eq!(ask(&cpu, [1.0, 2.0, 3.0]), 9, "it is chosen already");
        let again = TunedCpu::from_text(&(cpu.to_text() + "nothing\nwhich = of\n"));
        assert_eq!(ask(&again, [1.0, 2.0, 3.0]), 9);
        assert_eq!(again.to_text(), cpu.to_text());
        assert_eq!(ask(&TunedCpu::default(), [2.0, 1.99, 1.98]), 7, "a rule is kept where little is gained");
        assert_eq!(ask(&TunedCpu::from_text("which of three = 5"), [2.0, 1.0, 3.0]), 8, "what is no candidate");
        assert_eq!(asked, 9);
    }

    #[test]
    fn kernels_are_timed() {
        let cpu = TunedCpu::default();
        let widths = [(Some(5), 40, 8), (Some(30), 17, 3), (Some(3), 100, 40)].map(|(m, n, k)| cpu.panel_width(m, n, k));
        assert!(widths.iter().all(|w| PANEL_WIDTHS.contains(w)));
        assert_eq!(cpu.panel_width(None, 0, 8), CpuTarget.panel_width(None, 0, 8));
        let outputs = cpu.winograd_outputs(Some(1), [Some(12), Some(9)], 16, 16);
        assert!(matches!(outputs, None | Some(2 | 4)));
        assert_eq!(cpu.to_text().lines().count(), 4);
        assert_eq!(cpu.winograd_outputs(Some(1), [Some(12), Some(9)], 16, 16), outputs);
    }
}

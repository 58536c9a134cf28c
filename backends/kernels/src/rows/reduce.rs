//! Reductions over any set of axes.
//!
//! Axes are collapsed first. What remains is one of three: the innermost axis is reduced and contiguous (rows), it is kept and
//! contiguous (columns, a few vectors of them at a time), or nothing is contiguous. Sums go through a cascade of partial sums, so that
//! the error grows with the logarithm of the length. Few results of much data are computed in pieces, which depend on the shape alone.

use super::fold::{Complex, Element, Fold, Plain, Single};
use super::{GRAIN, Shared, size, split};
use crate::math::vector::Vector;
use crate::tier::by_tier;
use graphc_abi::args::data::elem;
use graphc_abi::args::rows::{ReduceArgs, reduce as kind};
use graphc_abi::{Ctx, SCRATCH_BYTES, Status};
use half::{bf16, f16};

/// Partial results that a level of the cascade takes before it goes into the next.
const LEVEL: usize = 64;
/// Columns of a unit of work; a multiple of eight groups of every fold.
const COLUMNS: usize = 128;

#[derive(Clone, Copy, Default)]
struct Axis {
    extent: usize,
    stride: isize,
}

/// Axes from the outermost to the innermost.
#[derive(Clone, Copy, Default)]
struct Axes {
    axis: [Axis; 8],
    len: usize,
}

impl Axes {
    fn push(&mut self, extent: usize, stride: isize) {
        self.axis[self.len] = Axis { extent, stride };
        self.len += 1;
    }
    fn list(&self) -> &[Axis] {
        &self.axis[..self.len]
    }
    fn count(&self) -> usize {
        self.list().iter().map(|a| a.extent).product()
    }
    /// Takes away the innermost axis, or an axis of one element.
    fn pop(&mut self) -> Axis {
        if self.len == 0 {
            return Axis { extent: 1, stride: 0 };
        }
        self.len -= 1;
        self.axis[self.len]
    }
    /// Where index `i`, counted row-major, lies.
    fn offset(&self, mut i: usize) -> isize {
        let mut at = 0;
        for a in self.list().iter().rev() {
            at += (i % a.extent) as isize * a.stride;
            i /= a.extent;
        }
        at
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Inner {
    Reduced,
    Kept,
    Strided,
}

/// A collapsed reduction.
#[derive(Clone, Copy)]
struct Space {
    kept: Axes,
    reduced: Axes,
    inner: Inner,
}

impl Space {
    fn of(a: &ReduceArgs) -> Space {
        let extents = [a.d0, a.d1, a.d2, a.d3, a.d4, a.d5, a.d6, a.d7].map(size);
        let mut strides = [a.s0, a.s1, a.s2, a.s3, a.s4, a.s5, a.s6, a.s7].map(|s| s as isize);
        let rank = size(a.rank).min(8);
        if a.strided == 0 {
            let mut stride = 1;
            for i in (0..rank).rev() {
                strides[i] = stride;
                stride *= extents[i] as isize;
            }
        }
        let mut axes: [(Axis, bool); 8] = Default::default();
        let mut len = 0;
        for i in (0..rank).filter(|&i| extents[i] != 1) {
            let (axis, reduced) = (Axis { extent: extents[i], stride: strides[i] }, a.mask >> i & 1 == 1);
            let outer = axes[len.max(1) - 1];
            if len > 0 && outer.1 == reduced && outer.0.stride == axis.extent as isize * axis.stride {
                axes[len - 1].0 = Axis { extent: outer.0.extent * axis.extent, stride: axis.stride };
            } else {
                axes[len] = (axis, reduced);
                len += 1;
            }
        }
        let mut space = Space { kept: Axes::default(), reduced: Axes::default(), inner: Inner::Strided };
        for &(axis, reduced) in &axes[..len] {
            if reduced { &mut space.reduced } else { &mut space.kept }.push(axis.extent, axis.stride);
            space.inner = match (axis.stride, reduced) {
                (1, true) => Inner::Reduced,
                (1, false) => Inner::Kept,
                _ => Inner::Strided,
            };
        }
        space
    }

    /// Number of independent pieces of the result: of single elements, or of blocks of `COLUMNS`.
    fn units(&self) -> usize {
        match self.inner {
            Inner::Kept => {
                let mut outer = self.kept;
                let inner = outer.pop();
                outer.count() * inner.extent.div_ceil(COLUMNS)
            }
            _ => self.kept.count(),
        }
    }
}

/// Where results go.
#[derive(Clone, Copy)]
enum Sink {
    /// Finished elements.
    Final(*mut u8),
    /// Partial results.
    Partial(*mut u8),
}

/// A part of a reduction that one thread computes.
#[derive(Clone, Copy)]
struct Part<'a> {
    space: &'a Space,
    kind: i64,
    x: *const u8,
    sink: Sink,
    /// Elements of a result, all parts together.
    count: usize,
    from: usize,
    to: usize,
}

// SAFETY: threads compute disjoint units.
unsafe impl Sync for Part<'_> {}

/// Sums of sums of sums, see the module.
struct Cascade<F: Fold, const W: usize> {
    levels: [[F::Group; W]; 3],
    taken: [usize; 2],
}

impl<F: Fold, const W: usize> Cascade<F, W> {
    #[inline(always)]
    unsafe fn new() -> Self {
        // SAFETY: the caller has the instructions; the same holds below.
        unsafe { Cascade { levels: [[F::identity(); W]; 3], taken: [0; 2] } }
    }
    #[inline(always)]
    unsafe fn push(&mut self, groups: [F::Group; W]) {
        for (l, g) in self.levels[0].iter_mut().zip(groups) {
            // SAFETY: see `new`.
            *l = unsafe { F::combine(*l, g) };
        }
        self.taken[0] += 1;
        if self.taken[0] == LEVEL {
            // SAFETY: see `new`.
            unsafe { self.carry() }
        }
    }
    #[inline(always)]
    unsafe fn carry(&mut self) {
        // SAFETY: see `new`.
        unsafe {
            for w in 0..W {
                self.levels[1][w] = F::combine(self.levels[1][w], self.levels[0][w]);
                self.levels[0][w] = F::identity();
            }
            self.taken[0] = 0;
            self.taken[1] += 1;
            if self.taken[1] == LEVEL {
                for w in 0..W {
                    self.levels[2][w] = F::combine(self.levels[2][w], self.levels[1][w]);
                    self.levels[1][w] = F::identity();
                }
                self.taken[1] = 0;
            }
        }
    }
    #[inline(always)]
    unsafe fn total(&self) -> [F::Group; W] {
        // SAFETY: see `new`.
        core::array::from_fn(|w| unsafe { F::combine(F::combine(self.levels[2][w], self.levels[1][w]), self.levels[0][w]) })
    }
}

/// Takes in `n` contiguous elements.
#[inline(always)]
unsafe fn run<F: Fold>(cascade: &mut Cascade<F, 1>, x: *const F::Element, n: usize) {
    let block = LEVEL * 4 * F::LANES;
    let mut i = 0;
    // SAFETY: `n` elements at `x`.
    unsafe {
        while n - i >= 4 * F::LANES {
            let end = i + (n - i).min(block) / (4 * F::LANES) * (4 * F::LANES);
            let mut s = [F::identity(); 4];
            while i < end {
                for (j, s) in s.iter_mut().enumerate() {
                    *s = F::combine(*s, F::load(x.add(i + j * F::LANES)));
                }
                i += 4 * F::LANES;
            }
            cascade.push([F::combine(F::combine(s[0], s[1]), F::combine(s[2], s[3]))]);
        }
        while n - i >= F::LANES {
            cascade.push([F::load(x.add(i))]);
            i += F::LANES;
        }
        if i < n {
            cascade.push([F::load_n(x.add(i), n - i)]);
        }
    }
}

/// Results `[p, p + n)` of the columns at `x`, `W` groups of them or, with `W = 1`, `n < LANES` columns.
#[inline(always)]
unsafe fn columns<F: Fold, const W: usize>(reduced: &Axes, x: *const F::Element, n: usize, out: *mut F::Partial) {
    let mut outer = *reduced;
    let inner = outer.pop();
    // SAFETY: `n` columns at `x`, along the axes given; `W * LANES` places at `out`.
    unsafe {
        let mut cascade = Cascade::<F, W>::new();
        for o in 0..outer.count() {
            let mut p = x.offset(outer.offset(o));
            let mut left = inner.extent;
            while left > 0 {
                let rows = left.min(LEVEL - cascade.taken[0]);
                let mut acc = cascade.levels[0];
                for _ in 0..rows {
                    for (w, a) in acc.iter_mut().enumerate() {
                        let g = if W > 1 || n == F::LANES { F::load(p.add(w * F::LANES)) } else { F::load_n(p, n) };
                        *a = F::combine(*a, g);
                    }
                    p = p.wrapping_offset(inner.stride);
                }
                cascade.levels[0] = acc;
                cascade.taken[0] += rows;
                if cascade.taken[0] == LEVEL {
                    cascade.carry();
                }
                left -= rows;
            }
        }
        for (w, g) in cascade.total().into_iter().enumerate() {
            F::store(g, out.add(w * F::LANES));
        }
    }
}

/// Writes results `first..` from partial ones.
#[inline(always)]
unsafe fn emit<F: Fold>(part: &Part, first: usize, results: &[F::Partial]) {
    // SAFETY: the results lie within the part.
    unsafe {
        match part.sink {
            Sink::Final(y) => {
                let y = y.cast::<F::Element>().add(first);
                for (i, &r) in results.iter().enumerate() {
                    y.add(i).write(F::finish(part.kind, r, part.count));
                }
            }
            Sink::Partial(p) => core::ptr::copy_nonoverlapping(results.as_ptr(), p.cast::<F::Partial>().add(first), results.len()),
        }
    }
}

/// Computes units `from..to`.
#[inline(always)]
unsafe fn compute<F: Fold>(part: &Part) {
    let x = part.x.cast::<F::Element>();
    let space = part.space;
    // SAFETY: the axes describe `x`; the results lie within the part.
    unsafe {
        match space.inner {
            Inner::Reduced => {
                let mut outer = space.reduced;
                let inner = outer.pop();
                let runs = outer.count();
                for unit in part.from..part.to {
                    let x = x.offset(space.kept.offset(unit));
                    let mut cascade = Cascade::<F, 1>::new();
                    for o in 0..runs {
                        run::<F>(&mut cascade, x.offset(outer.offset(o)), inner.extent);
                    }
                    emit::<F>(part, unit, &[F::across(cascade.total()[0])]);
                }
            }
            Inner::Kept => {
                let mut outer = space.kept;
                let inner = outer.pop();
                let blocks = inner.extent.div_ceil(COLUMNS);
                let mut room = [core::mem::MaybeUninit::<F::Partial>::uninit(); COLUMNS];
                let out = room.as_mut_ptr().cast::<F::Partial>();
                for unit in part.from..part.to {
                    let column = unit % blocks * COLUMNS;
                    let n = COLUMNS.min(inner.extent - column);
                    let x = x.offset(outer.offset(unit / blocks)).add(column);
                    let mut i = 0;
                    while i < n {
                        let (x, out, left) = (x.add(i), out.add(i), n - i);
                        i += if F::SIMD && left >= 8 * F::LANES {
                            (columns::<F, 8>(&space.reduced, x, 8 * F::LANES, out), 8 * F::LANES).1
                        } else if left >= 2 * F::LANES {
                            (columns::<F, 2>(&space.reduced, x, 2 * F::LANES, out), 2 * F::LANES).1
                        } else {
                            let n = left.min(F::LANES);
                            (columns::<F, 1>(&space.reduced, x, n, out), n).1
                        };
                    }
                    emit::<F>(part, unit / blocks * inner.extent + column, core::slice::from_raw_parts(out, n));
                }
            }
            Inner::Strided => {
                let mut outer = space.reduced;
                let inner = outer.pop();
                for unit in part.from..part.to {
                    let x = x.offset(space.kept.offset(unit));
                    let mut levels = [F::identity_one(); 3];
                    let mut taken = 0usize;
                    for o in 0..outer.count() {
                        let x = x.offset(outer.offset(o));
                        for i in 0..inner.extent {
                            levels[0] = F::combine_one(levels[0], F::lift_one(*x.offset(i as isize * inner.stride)));
                            taken += 1;
                            for level in 1..3 {
                                if taken.is_multiple_of(LEVEL.pow(level as u32)) {
                                    levels[level] = F::combine_one(levels[level], levels[level - 1]);
                                    levels[level - 1] = F::identity_one();
                                }
                            }
                        }
                    }
                    emit::<F>(part, unit, &[F::combine_one(F::combine_one(levels[2], levels[1]), levels[0])]);
                }
            }
        }
    }
}

/// Runs `$run::<Single<$t, KIND>>` or `$run::<Plain<$t, KIND, $lanes>>` with the accumulation that the kind of reduction needs.
macro_rules! by_kind {
    ($kind:expr, [$($k:ident),*], Single<$t:ty>, $run:ident $args:tt) => {
        match accumulation($kind) {
            $(kind::$k => $run::<Single<$t, { kind::$k }>> $args,)*
            _ => {}
        }
    };
    ($kind:expr, [$($k:ident),*], Plain<$t:ty, $lanes:literal>, $run:ident $args:tt) => {
        match accumulation($kind) {
            $(kind::$k => $run::<Plain<$t, { kind::$k }, $lanes>> $args,)*
            _ => {}
        }
    };
}

/// The kind of accumulation under a kind of reduction.
fn accumulation(kind: i64) -> i64 {
    match kind {
        kind::MEAN => kind::SUM,
        kind::NORM => kind::SUM_SQUARES,
        kind::ANY => kind::MAX,
        kind::ALL => kind::MIN,
        other => other,
    }
}

by_tier!(fn compute_f32(part: &Part) = compute_f32_body, math::vector);

#[inline(always)]
unsafe fn compute_f32_body<V: Vector>(part: &Part) {
    // SAFETY: the caller's contract.
    unsafe { by_kind!(part.kind, [SUM, SUM_SQUARES, PROD, MAX, MIN], Single<V>, compute(part)) }
}

/// Combines `pieces` rows of partial results, in a tree, into the first, and finishes it.
unsafe fn settle<F: Fold>(kind: i64, partial: *mut u8, pieces: usize, results: usize, y: *mut u8, count: usize) {
    let p = partial.cast::<F::Partial>();
    // SAFETY: `pieces * results` places at `partial`, `results` at `y`.
    unsafe {
        let mut step = 1;
        while step < pieces {
            for i in (0..pieces - step).step_by(2 * step) {
                for r in 0..results {
                    let a = p.add(i * results + r);
                    *a = F::combine_one(*a, *p.add((i + step) * results + r));
                }
            }
            step *= 2;
        }
        for r in 0..results {
            y.cast::<F::Element>().add(r).write(F::finish(kind, *p.add(r), count));
        }
    }
}

/// A whole reduction of elements of `T`. `compute` does the units of a part, `settle` what the function of that name does.
unsafe fn whole<T: Element>(
    ctx: &Ctx,
    a: &ReduceArgs,
    compute: unsafe fn(&Part),
    settle: unsafe fn(i64, *mut u8, usize, usize, *mut u8, usize),
) {
    let space = Space::of(a);
    let (results, count) = (space.kept.count(), space.reduced.count());
    if results == 0 {
        return;
    }
    let units = space.units();
    let base = Part { space: &space, kind: a.kind, x: a.x, sink: Sink::Final(a.y), count, from: 0, to: units };
    let total = results.saturating_mul(count);
    let room = SCRATCH_BYTES / (results * size_of::<T::Partial>());
    let longest = (0..space.reduced.len).max_by_key(|&i| (space.reduced.axis[i].extent, usize::MAX - i));
    let pieces = (total / GRAIN).min(room).min(256);
    // SAFETY: parts write disjoint results; scratch of worker 0 is used for partial results alone.
    unsafe {
        match longest {
            Some(axis) if units < 16 && pieces > 1 && space.reduced.axis[axis].extent >= pieces => {
                let partial = Shared(ctx.scratch_of(0));
                let x = Shared(a.x.cast_mut());
                let Axis { extent, stride } = space.reduced.axis[axis];
                ctx.parallel(pieces, &|piece, _| {
                    let (from, to) = (extent * piece / pieces, extent * (piece + 1) / pieces);
                    let mut part = space;
                    part.reduced.axis[axis].extent = to - from;
                    let x = x.get().cast_const().offset(from as isize * stride * size_of::<T>() as isize);
                    let sink = Sink::Partial(partial.get().add(piece * results * size_of::<T::Partial>()));
                    compute(&Part { space: &part, kind: a.kind, x, sink, count, from: 0, to: units });
                });
                settle(a.kind, partial.0, pieces, results, a.y, count);
            }
            _ => {
                let base = &base;
                split(ctx, units, total / units, |r| compute(&Part { from: r.start, to: r.end, ..*base }));
            }
        }
    }
}

macro_rules! plain {
    ($ctx:expr, $a:expr, $t:ty, $lanes:literal, $kinds:tt) => {{
        unsafe fn compute_all(part: &Part) {
            // SAFETY: the caller's contract.
            unsafe { by_kind!(part.kind, $kinds, Plain<$t, $lanes>, compute(part)) }
        }
        unsafe fn settle_all(kind: i64, partial: *mut u8, pieces: usize, results: usize, y: *mut u8, count: usize) {
            // SAFETY: the caller's contract.
            unsafe { by_kind!(kind, $kinds, Plain<$t, $lanes>, settle(kind, partial, pieces, results, y, count)) }
        }
        // SAFETY: the caller's contract.
        unsafe { whole::<$t>($ctx, $a, compute_all, settle_all) }
    }};
}

unsafe fn settle_f32(kind: i64, partial: *mut u8, pieces: usize, results: usize, y: *mut u8, count: usize) {
    // SAFETY: the caller's contract.
    unsafe { by_kind!(kind, [SUM, SUM_SQUARES, PROD, MAX, MIN], Plain<f32, 1>, settle(kind, partial, pieces, results, y, count)) }
}

/// See [`ReduceArgs`]; of f32, whatever its `elem` says.
///
/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_reduce_f32(ctx: *const Ctx, args: *const ReduceArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    unsafe { whole::<f32>(&*ctx, &*args, compute_f32, settle_f32) };
    Status::Ok as i32
}

/// See [`ReduceArgs`]; of every type but f32.
///
/// # Safety
/// `args` describes valid arrays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gc_reduce(ctx: *const Ctx, args: *const ReduceArgs) -> i32 {
    // SAFETY: by the calling convention of kernels.
    let (ctx, a) = unsafe { (&*ctx, &*args) };
    match a.elem {
        elem::F64 => plain!(ctx, a, f64, 8, [SUM, SUM_SQUARES, PROD, MAX, MIN]),
        elem::F16 => plain!(ctx, a, f16, 8, [SUM, SUM_SQUARES, PROD, MAX, MIN]),
        elem::BF16 => plain!(ctx, a, bf16, 8, [SUM, SUM_SQUARES, PROD, MAX, MIN]),
        elem::I8 => plain!(ctx, a, i8, 1, [SUM, PROD, MAX, MIN]),
        elem::I16 => plain!(ctx, a, i16, 1, [SUM, PROD, MAX, MIN]),
        elem::I32 => plain!(ctx, a, i32, 8, [SUM, PROD, MAX, MIN]),
        elem::I64 => plain!(ctx, a, i64, 8, [SUM, PROD, MAX, MIN]),
        elem::U8 | elem::BOOL => plain!(ctx, a, u8, 8, [SUM, PROD, MAX, MIN]),
        elem::U16 => plain!(ctx, a, u16, 1, [SUM, PROD, MAX, MIN]),
        elem::U32 => plain!(ctx, a, u32, 1, [SUM, PROD, MAX, MIN]),
        elem::U64 => plain!(ctx, a, u64, 1, [SUM, PROD, MAX, MIN]),
        elem::C64 => plain!(ctx, a, Complex<f32>, 1, [SUM, PROD]),
        elem::C128 => plain!(ctx, a, Complex<f64>, 1, [SUM, PROD]),
        _ => return Status::InvalidShape as i32,
    }
    Status::Ok as i32
}

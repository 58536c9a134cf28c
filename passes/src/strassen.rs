//! Large products in seven eighths of the multiplications.

use crate::cse::Cse;
use crate::epilogue::{activation_of, has_act};
use crate::pass::{Diag, Pass, PassCx};
use crate::precision::{Precision, plain_product};
use crate::rewriting::{At, rewrite_once};
use crate::target::Target;
use graphc_ir::{Attrs, Dim, Elem, Func, InstData, Module, Op, Tensor, Value};

/// With [`Precision::Strassen`], computes a large f32 product with constant weights by one level of Strassen's algorithm, in Winograd's form:
/// seven products of halves instead of eight, and 15 sums, of which the four of weights are made once and most others are residuals of
/// the products.
///
/// ```text
/// S1 = A21 + A22   S2 = S1 - A11   S3 = A11 - A21   S4 = A12 - S2
/// T1 = B12 - B11   T2 = B22 - T1   T3 = B22 - B12   T4 = B21 - T2
/// U1 = A11 B11   U2 = U1 + S2 T2   U3 = U2 + S3 T3   P = S1 T1
/// C11 = U1 + A12 B21   C12 = U2 + P + S4 B22   C21 = U3 + A22 T4   C22 = U3 + P
/// ```
///
/// Errors grow to about twice those of the plain product; weights take 7/4 of the memory. Leaves no such product that the target wants
/// divided. Runs after epilogues are in place and before loops are fused, which take up the sums.
pub struct Strassen;

impl Pass for Strassen {
    fn name(&self) -> &'static str {
        "strassen"
    }

    fn run(&self, m: &mut Module, cx: &PassCx) -> Result<usize, Diag> {
        if cx.precision != Precision::Strassen {
            return Ok(0);
        }
        // A sweep suffices: what a product becomes is not divided again.
        let changed = m.funcs.iter_mut().map(|f| rewrite_once(f, &mut |at| divide(at, cx.target))).sum();
        if changed > 0 {
            // Products of one matrix have its blocks and their sums in common.
            Cse.run(m, cx)?;
        }
        Ok(changed)
    }
}

/// Rows, columns and depth of a product that the target wants divided.
fn sizes(f: &Func, d: &InstData, target: &dyn Target) -> Option<(Dim, [usize; 2])> {
    let product = plain_product(f, d).filter(|_| !d.attrs.flag("halved") && !d.attrs.flag("residual_last"))?;
    let x = f.ty(d.operands[0]);
    if x.elem != Elem::F32 || f.const_of(d.operands[1]).is_none() {
        return None;
    }
    let known = |d: &Dim| usize::try_from(d.as_const()?).ok();
    let rows: Dim = x.shape[..x.rank() - 1].iter().product();
    let [columns, depth] = [known(product.columns)?, known(product.depth)?];
    // Unless there are none, there are as many rows as divide their number.
    let least_rows = usize::try_from(rows.split_content().0).ok()?;
    let even = [least_rows, columns, depth].iter().all(|v| v % 2 == 0);
    (even && target.divides_product(least_rows, columns, depth)).then_some((rows, [columns, depth]))
}

/// The halves of a product's operands, and how to multiply them.
struct Halves<'a, 'b, 'f> {
    at: &'a mut At<'b, 'f>,
    /// Columns and depth of a half.
    half: [usize; 2],
    weights: Tensor,
    /// The weights lie `[columns, depth]`.
    turned: bool,
}

impl Halves<'_, '_, '_> {
    /// The block `i`, `j` of a matrix with blocks of `rows` by `columns`.
    fn block(&mut self, x: Value, [rows, columns]: &[Dim; 2], [i, j]: [usize; 2]) -> Option<Value> {
        let start = vec![rows * &Dim::from(i), columns * &Dim::from(j)];
        let attrs = Attrs::new().with("start", start).with("size", vec![rows.clone(), columns.clone()]);
        self.at.emit(Op::Slice, &[x], attrs.with("stride", vec![1i64, 1]))
    }

    /// The sum of the blocks of the weights, each times its sign, computed when it is packed.
    fn weights(&mut self, signs: [[f64; 2]; 2]) -> Option<Value> {
        let (weights, turned) = (self.weights.clone(), self.turned);
        let [columns, depth] = self.half;
        let [height, width] = if turned { [columns, depth] } else { [depth, columns] };
        let sums = move || {
            let all = weights.as_slice::<f32>().unwrap_or_default();
            let mut bytes = Vec::with_capacity(4 * height * width);
            let mut sums = vec![0.0f64; width];
            for row in 0..height {
                sums.fill(0.0);
                for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let sign = if turned { signs[j][i] } else { signs[i][j] };
                    let from = &all[(row + i * height) * 2 * width + j * width..][..width];
                    sums.iter_mut().zip(from).for_each(|(sum, &v)| *sum += sign * f64::from(v));
                }
                // Rounded once.
                bytes.extend(sums.iter().flat_map(|&v| (v as f32).to_ne_bytes()));
            }
            bytes
        };
        let t = Tensor::deferred(Elem::F32, vec![height, width], sums)?;
        Some(self.at.b.constant(t))
    }

    /// A product of halves; after the factors come a bias and a residual, as the attributes say.
    fn product(&mut self, x: Value, w: Value, rest: &[Value], attrs: Attrs) -> Option<Value> {
        let attrs = attrs.with("lhs", vec![1i64]).with("rhs", vec![self.turned as i64]).with("halved", true);
        self.at.emit(Op::Contract, &[&[x, w], rest].concat(), attrs)
    }
}

fn divide(at: &mut At, target: &dyn Target) -> Option<Value> {
    let d = at.data().clone();
    let (m, [n, k]) = sizes(at.b.func, &d, target)?;
    let activation = activation_of(&d.attrs).filter(|_| has_act(&d));
    if has_act(&d) != activation.is_some() {
        return None;
    }
    let turned = plain_product(at.b.func, &d)?.turned;
    let weights = at.constant(d.operands[1])?.clone();
    let (whole, shape) = ([m.clone(), Dim::from(n)], at.out().shape.clone());
    let x = at.b.reshape(d.operands[0], &[m.clone(), Dim::from(k)]).ok()?;
    let mut rest = d.operands[2..].iter().copied();
    let bias = if d.attrs.flag("bias") { rest.next() } else { None };
    let residual = if d.attrs.flag("residual") { Some(at.b.reshape(rest.next()?, &whole).ok()?) } else { None };

    let mut h = Halves { at, half: [n / 2, k / 2], weights, turned };
    let rows = m.floor_div(&Dim::from(2i64));
    let (of_x, of_y) = ([rows.clone(), Dim::from(k / 2)], [rows, Dim::from(n / 2)]);
    let a = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|place| h.block(x, &of_x, place));
    let [a11, a12, a21, a22] = [a[0]?, a[1]?, a[2]?, a[3]?];
    let s1 = h.at.bin(Op::Add, a21, a22)?;
    let s2 = h.at.bin(Op::Sub, s1, a11)?;
    let s3 = h.at.bin(Op::Sub, a11, a21)?;
    let s4 = h.at.bin(Op::Sub, a12, s2)?;

    let add = || Attrs::new().with("residual", true);
    let b11 = h.weights([[1.0, 0.0], [0.0, 0.0]])?;
    let u1 = h.product(a11, b11, &[], Attrs::new())?;
    let t2 = h.weights([[1.0, -1.0], [0.0, 1.0]])?;
    let u2 = h.product(s2, t2, &[u1], add())?;
    let t3 = h.weights([[0.0, -1.0], [0.0, 1.0]])?;
    let u3 = h.product(s3, t3, &[u2], add())?;
    let t1 = h.weights([[-1.0, 1.0], [0.0, 0.0]])?;
    let p = h.product(s1, t1, &[], Attrs::new())?;

    // The blocks of the result: sums so far, with the bias, the residual and the activation of the whole.
    let column = |h: &mut Halves, j: usize| match bias {
        Some(b) => {
            let attrs = Attrs::new().with("start", vec![Dim::from(j * n / 2)]).with("size", vec![Dim::from(n / 2)]);
            Some(Some(h.at.emit(Op::Slice, &[b], attrs.with("stride", vec![1i64]))?))
        }
        None => Some(None),
    };
    let sums = |h: &mut Halves, sums: Value, place: [usize; 2]| match residual {
        Some(r) => {
            let r = h.block(r, &of_y, place)?;
            h.at.bin(Op::Add, sums, r)
        }
        None => Some(sums),
    };
    let finish = |h: &mut Halves, x: Value, w: Value, so_far: Value, place: [usize; 2]| {
        let so_far = sums(h, so_far, place)?;
        let mut attrs = add();
        for key in ["act", "act_lo", "act_hi"] {
            d.attrs.get(key).into_iter().for_each(|v| attrs.set(key, v.clone()));
        }
        match column(h, place[1])? {
            Some(bias) => h.product(x, w, &[bias, so_far], attrs.with("bias", true)),
            None => h.product(x, w, &[so_far], attrs),
        }
    };
    let b21 = h.weights([[0.0, 0.0], [1.0, 0.0]])?;
    let c11 = finish(&mut h, a12, b21, u1, [0, 0])?;
    let u4 = h.at.bin(Op::Add, u2, p)?;
    let b22 = h.weights([[0.0, 0.0], [0.0, 1.0]])?;
    let c12 = finish(&mut h, s4, b22, u4, [0, 1])?;
    let t4 = h.weights([[-1.0, 1.0], [1.0, -1.0]])?;
    let c21 = finish(&mut h, a22, t4, u3, [1, 0])?;
    let c22 = h.at.bin(Op::Add, u3, p)?;
    let c22 = sums(&mut h, c22, [1, 1])?;
    let c22 = match column(&mut h, 1)? {
        Some(bias) => {
            let row = h.at.b.broadcast(bias, &of_y).ok()?;
            h.at.bin(Op::Add, c22, row)?
        }
        None => c22,
    };
    let c22 = match activation {
        Some((op, attrs)) => h.at.emit(op, &[c22], attrs)?,
        None => c22,
    };

    let mut rows = Vec::with_capacity(2);
    for row in [[c11, c12], [c21, c22]] {
        rows.push(at.emit(Op::Concat, &row, Attrs::new().with("axis", 1i64))?);
    }
    let y = at.emit(Op::Concat, &rows, Attrs::new().with("axis", 0i64))?;
    at.b.reshape(y, &shape).ok()
}

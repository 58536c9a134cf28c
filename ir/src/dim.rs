//! Symbolic dimensions.
//!
//! A dimension is a polynomial with integer coefficients over atoms: symbols, and the quotients, remainders, minima and maxima that
//! do not simplify. Polynomials are kept in a normal form, so equal expressions compare equal: `(?n*8)/4 - ?n == ?n`.

use std::fmt;
use std::ops;
use std::sync::Arc;

/// A symbol of the signature (`?batch`) or one that an op defines at run time. Its value is never negative.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(Arc<str>);

impl Sym {
    /// A symbol; `name` is an identifier without the question mark.
    pub fn new(name: &str) -> Sym {
        Sym(name.into())
    }

    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "?{}", self.0)
    }
}

impl fmt::Debug for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "?{}", self.0)
    }
}

/// A factor of a term that cannot be taken apart further.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    Sym(Sym),
    /// Quotient rounded towards minus infinity.
    FloorDiv(Dim, Dim),
    /// Remainder with the sign of the divisor.
    Mod(Dim, Dim),
    Min(Dim, Dim),
    Max(Dim, Dim),
}

/// `coef` times the product of `atoms` (sorted, repeated for powers; empty for the constant term).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term {
    pub atoms: Vec<Atom>,
    pub coef: i64,
}

/// A dimension: a constant or an expression of symbols, in normal form. Constant arithmetic saturates; sizes near the ends of `i64`
/// are rejected by the verifier.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    Poly(Arc<[Term]>),
}

impl Dim {
    pub const ZERO: Dim = Dim(Repr::Const(0));
    pub const ONE: Dim = Dim(Repr::Const(1));

    pub fn sym(s: Sym) -> Dim {
        Dim::atom(Atom::Sym(s))
    }

    fn atom(a: Atom) -> Dim {
        Dim(Repr::Poly([Term { atoms: vec![a], coef: 1 }].into()))
    }

    /// The value, if no symbol is left.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(c) => Some(c),
            Repr::Poly(_) => None,
        }
    }

    /// The symbol, if the expression is exactly one.
    pub fn as_sym(&self) -> Option<&Sym> {
        match self.terms() {
            [Term { atoms, coef: 1 }] => match atoms.as_slice() {
                [Atom::Sym(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn is_one(&self) -> bool {
        self.as_const() == Some(1)
    }

    pub fn is_zero(&self) -> bool {
        self.as_const() == Some(0)
    }

    /// The terms of a non-constant expression, in normal order; empty for a constant.
    pub fn terms(&self) -> &[Term] {
        match &self.0 {
            Repr::Const(_) => &[],
            Repr::Poly(t) => t,
        }
    }

    /// All terms, the constant one included.
    fn to_terms(&self) -> Vec<Term> {
        match &self.0 {
            Repr::Const(0) => Vec::new(),
            Repr::Const(c) => vec![Term { atoms: Vec::new(), coef: *c }],
            Repr::Poly(t) => t.to_vec(),
        }
    }

    fn from_terms(mut terms: Vec<Term>) -> Dim {
        terms.sort_by(|a, b| a.atoms.cmp(&b.atoms));
        let mut out: Vec<Term> = Vec::with_capacity(terms.len());
        for t in terms {
            match out.last_mut() {
                Some(last) if last.atoms == t.atoms => last.coef = last.coef.saturating_add(t.coef),
                _ => out.push(t),
            }
        }
        out.retain(|t| t.coef != 0);
        match out.as_slice() {
            [] => Dim::ZERO,
            [t] if t.atoms.is_empty() => Dim(Repr::Const(t.coef)),
            _ => Dim(Repr::Poly(out.into())),
        }
    }

    /// Terms in normal order, each `factor` times, which is not zero: the order stays.
    fn scaled(terms: &Arc<[Term]>, factor: i64) -> Dim {
        if factor == 1 {
            return Dim(Repr::Poly(terms.clone()));
        }
        let scale = |t: &Term| Term { atoms: t.atoms.clone(), coef: t.coef.saturating_mul(factor) };
        Dim(Repr::Poly(terms.iter().map(scale).collect()))
    }

    /// Quotient rounded down. A zero divisor gives zero.
    pub fn floor_div(&self, d: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_const(), d.as_const()) {
            return Dim::from(if b == 0 { 0 } else { floor_div(a, b) });
        }
        if d.is_one() || self.is_zero() {
            return self.clone();
        }
        if self == d {
            return Dim::ONE;
        }
        // floor((q*d + r) / d) = q + floor(r / d): take out whatever divides.
        let [divisor] = d.to_terms().try_into().unwrap_or([Term { atoms: Vec::new(), coef: 0 }]);
        if divisor.coef == 0 {
            return match exact_poly_quotient(self, d) {
                Some(q) => q,
                None => Dim::atom(Atom::FloorDiv(self.clone(), d.clone())),
            };
        }
        let (mut quotient, mut rest) = (Vec::new(), Vec::new());
        for t in self.to_terms() {
            match divide_term(&t, &divisor) {
                Some(q) => quotient.push(q),
                None => rest.push(t),
            }
        }
        let rest = Dim::from_terms(rest);
        let tail = match (rest.as_const(), d.as_const()) {
            (Some(r), Some(d)) => Dim::from(floor_div(r, d)),
            _ if rest.is_zero() => Dim::ZERO,
            _ => Dim::atom(Atom::FloorDiv(rest, d.clone())),
        };
        &Dim::from_terms(quotient) + &tail
    }

    /// Quotient rounded up, for a positive divisor.
    pub fn ceil_div(&self, d: &Dim) -> Dim {
        (&(self + d) - &Dim::ONE).floor_div(d)
    }

    /// Remainder with the sign of the divisor. A zero divisor gives zero.
    pub fn rem(&self, d: &Dim) -> Dim {
        if let (Some(a), Some(b)) = (self.as_const(), d.as_const()) {
            return Dim::from(if b == 0 { 0 } else { a.wrapping_sub(floor_div(a, b).wrapping_mul(b)) });
        }
        let q = self.floor_div(d);
        let exact = &q * d == *self;
        if exact { Dim::ZERO } else { Dim::atom(Atom::Mod(self.clone(), d.clone())) }
    }

    /// The greater of two dimensions.
    pub fn at_least(&self, o: &Dim) -> Dim {
        match (self - o).sign() {
            Some(s) if s >= 0 => self.clone(),
            Some(_) => o.clone(),
            None if (o - self).sign().is_some_and(|s| s >= 0) => o.clone(),
            None => {
                let (a, b) = if self <= o { (self, o) } else { (o, self) };
                Dim::atom(Atom::Max(a.clone(), b.clone()))
            }
        }
    }

    /// The lesser of two dimensions.
    pub fn at_most(&self, o: &Dim) -> Dim {
        match (self - o).sign() {
            Some(s) if s >= 0 => o.clone(),
            Some(_) => self.clone(),
            None if (o - self).sign().is_some_and(|s| s >= 0) => self.clone(),
            None => {
                let (a, b) = if self <= o { (self, o) } else { (o, self) };
                Dim::atom(Atom::Min(a.clone(), b.clone()))
            }
        }
    }

    /// `Some(1)` if positive, `Some(0)` if never negative, `Some(-1)` if negative, for all values of the symbols; `None` if unknown.
    pub fn sign(&self) -> Option<i32> {
        let terms = match &self.0 {
            Repr::Const(c) => return Some(c.signum() as i32),
            Repr::Poly(terms) => terms,
        };
        let constant = terms.iter().find(|t| t.atoms.is_empty()).map_or(0, |t| t.coef);
        let rest = || terms.iter().filter(|t| !t.atoms.is_empty());
        if rest().all(|t| t.coef > 0 && t.atoms.iter().all(Atom::never_negative)) && constant >= 0 {
            return Some((constant > 0) as i32);
        }
        if rest().all(|t| t.coef < 0 && t.atoms.iter().all(Atom::never_negative)) && constant < 0 {
            return Some(-1);
        }
        None
    }

    /// True if the value cannot be negative whatever the symbols are.
    pub fn never_negative(&self) -> bool {
        self.sign().is_some_and(|s| s >= 0)
    }

    /// Value for the given symbols; `None` if one is unknown or the arithmetic overflows.
    pub fn eval(&self, of: &dyn Fn(&Sym) -> Option<i64>) -> Option<i64> {
        match &self.0 {
            Repr::Const(c) => Some(*c),
            Repr::Poly(terms) => terms.iter().try_fold(0i64, |sum, t| {
                let product = t.atoms.iter().try_fold(t.coef, |p, a| p.checked_mul(a.eval(of)?))?;
                sum.checked_add(product)
            }),
        }
    }

    /// The expression with symbols replaced.
    pub fn substitute(&self, by: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        match &self.0 {
            Repr::Const(_) => self.clone(),
            Repr::Poly(terms) => terms.iter().fold(Dim::ZERO, |sum, t| {
                let product = t.atoms.iter().fold(Dim::from(t.coef), |p, a| &p * &a.substitute(by));
                &sum + &product
            }),
        }
    }

    /// Calls `f` for each symbol that occurs, with repetition.
    pub fn for_each_sym(&self, f: &mut dyn FnMut(&Sym)) {
        for a in self.terms().iter().flat_map(|t| &t.atoms) {
            match a {
                Atom::Sym(s) => f(s),
                Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                    a.for_each_sym(f);
                    b.for_each_sym(f);
                }
            }
        }
    }

    /// The greatest common divisor of the coefficients and the expression divided by it; `(0, 0)` for zero.
    pub fn split_content(&self) -> (i64, Dim) {
        if let Some(c) = self.as_const() {
            return (gcd(0, c), Dim::from(c.signum()));
        }
        let terms = self.to_terms();
        let g = terms.iter().fold(0i64, |g, t| gcd(g, t.coef));
        if g == 0 {
            return (0, Dim::ZERO);
        }
        (g, Dim::from_terms(terms.into_iter().map(|t| Term { coef: t.coef / g, ..t }).collect()))
    }
}

impl Atom {
    fn never_negative(&self) -> bool {
        match self {
            Atom::Sym(_) => true,
            Atom::FloorDiv(a, b) => a.never_negative() && b.never_negative(),
            Atom::Mod(_, b) => b.never_negative(),
            Atom::Min(a, b) => a.never_negative() && b.never_negative(),
            Atom::Max(a, b) => a.never_negative() || b.never_negative(),
        }
    }

    fn eval(&self, of: &dyn Fn(&Sym) -> Option<i64>) -> Option<i64> {
        match self {
            Atom::Sym(s) => of(s),
            Atom::FloorDiv(a, b) => {
                let (a, b) = (a.eval(of)?, b.eval(of)?);
                Some(if b == 0 { 0 } else { floor_div(a, b) })
            }
            Atom::Mod(a, b) => {
                let (a, b) = (a.eval(of)?, b.eval(of)?);
                Some(if b == 0 { 0 } else { a.wrapping_sub(floor_div(a, b).wrapping_mul(b)) })
            }
            Atom::Min(a, b) => Some(a.eval(of)?.min(b.eval(of)?)),
            Atom::Max(a, b) => Some(a.eval(of)?.max(b.eval(of)?)),
        }
    }

    fn substitute(&self, by: &dyn Fn(&Sym) -> Option<Dim>) -> Dim {
        match self {
            Atom::Sym(s) => by(s).unwrap_or_else(|| Dim::sym(s.clone())),
            Atom::FloorDiv(a, b) => a.substitute(by).floor_div(&b.substitute(by)),
            Atom::Mod(a, b) => a.substitute(by).rem(&b.substitute(by)),
            Atom::Min(a, b) => a.substitute(by).at_most(&b.substitute(by)),
            Atom::Max(a, b) => a.substitute(by).at_least(&b.substitute(by)),
        }
    }
}

fn floor_div(a: i64, b: i64) -> i64 {
    let q = a.wrapping_div(b);
    if a.wrapping_rem(b) != 0 && ((a < 0) != (b < 0)) { q - 1 } else { q }
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.min(i64::MAX as u64) as i64
}

/// `t / d` if `d` divides it without remainder.
fn divide_term(t: &Term, d: &Term) -> Option<Term> {
    if d.coef == 0 || t.coef.checked_rem(d.coef)? != 0 {
        return None;
    }
    let mut atoms = t.atoms.clone();
    for a in &d.atoms {
        let at = atoms.iter().position(|x| x == a)?;
        atoms.remove(at);
    }
    Some(Term { atoms, coef: t.coef / d.coef })
}

/// `a / d` for a divisor of several terms, if there is no remainder (`(?n+1)*?m / (?n+1)`).
fn exact_poly_quotient(a: &Dim, d: &Dim) -> Option<Dim> {
    let lead = d.to_terms().pop()?;
    let (mut rest, mut quotient) = (a.clone(), Dim::ZERO);
    for _ in 0..8 {
        if rest.is_zero() {
            return Some(quotient);
        }
        let q = rest.to_terms().iter().rev().find_map(|t| divide_term(t, &lead))?;
        let q = Dim::from_terms(vec![q]);
        quotient = &quotient + &q;
        rest = &rest - &(&q * d);
    }
    None
}

impl Default for Dim {
    fn default() -> Dim {
        Dim::ZERO
    }
}

impl From<i64> for Dim {
    fn from(c: i64) -> Dim {
        Dim(Repr::Const(c))
    }
}

impl From<usize> for Dim {
    fn from(c: usize) -> Dim {
        Dim(Repr::Const(i64::try_from(c).unwrap_or(i64::MAX)))
    }
}

impl ops::Add for &Dim {
    type Output = Dim;
    fn add(self, o: &Dim) -> Dim {
        match (&self.0, &o.0) {
            (Repr::Const(a), Repr::Const(b)) => return Dim::from(a.saturating_add(*b)),
            (Repr::Const(0), _) => return o.clone(),
            (_, Repr::Const(0)) => return self.clone(),
            _ => {}
        }
        let mut t = self.to_terms();
        t.extend(o.to_terms());
        Dim::from_terms(t)
    }
}

impl ops::Sub for &Dim {
    type Output = Dim;
    fn sub(self, o: &Dim) -> Dim {
        match (&self.0, &o.0) {
            (Repr::Const(a), Repr::Const(b)) => return Dim::from(a.saturating_add(b.saturating_neg())),
            (_, Repr::Const(0)) => return self.clone(),
            _ => {}
        }
        let mut t = self.to_terms();
        t.extend(o.to_terms().into_iter().map(|t| Term { coef: t.coef.saturating_neg(), ..t }));
        Dim::from_terms(t)
    }
}

impl ops::Mul for &Dim {
    type Output = Dim;
    fn mul(self, o: &Dim) -> Dim {
        match (&self.0, &o.0) {
            (Repr::Const(a), Repr::Const(b)) => return Dim::from(a.saturating_mul(*b)),
            (Repr::Const(0), _) | (_, Repr::Const(0)) => return Dim::ZERO,
            (Repr::Const(c), Repr::Poly(terms)) | (Repr::Poly(terms), Repr::Const(c)) => return Dim::scaled(terms, *c),
            _ => {}
        }
        let (a, b) = (self.to_terms(), o.to_terms());
        let mut out = Vec::with_capacity(a.len() * b.len());
        for x in &a {
            for y in &b {
                let mut atoms = [x.atoms.as_slice(), y.atoms.as_slice()].concat();
                atoms.sort();
                out.push(Term { atoms, coef: x.coef.saturating_mul(y.coef) });
            }
        }
        Dim::from_terms(out)
    }
}

impl<'a> std::iter::Product<&'a Dim> for Dim {
    fn product<I: Iterator<Item = &'a Dim>>(it: I) -> Dim {
        it.fold(Dim::ONE, |p, d| &p * d)
    }
}

impl<'a> std::iter::Sum<&'a Dim> for Dim {
    fn sum<I: Iterator<Item = &'a Dim>>(it: I) -> Dim {
        it.fold(Dim::ZERO, |p, d| &p + d)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Sym(s) => write!(f, "{s}"),
            Atom::FloorDiv(a, b) => write!(f, "floordiv({a}, {b})"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(c) = self.as_const() {
            return write!(f, "{c}");
        }
        // The constant term sorts first and reads better last.
        let terms = self.terms();
        let (constant, rest) = match terms {
            [t, rest @ ..] if t.atoms.is_empty() => (Some(t.coef), rest),
            _ => (None, terms),
        };
        for (i, t) in rest.iter().enumerate() {
            let magnitude = t.coef.unsigned_abs();
            match (i, t.coef < 0) {
                (0, false) => {}
                (0, true) => f.write_str("-")?,
                (_, false) => f.write_str(" + ")?,
                (_, true) => f.write_str(" - ")?,
            }
            if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (j, a) in t.atoms.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                write!(f, "{a}")?;
            }
        }
        match constant {
            Some(c) if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            Some(c) => write!(f, " + {c}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n() -> Dim {
        Dim::sym(Sym::new("n"))
    }

    fn m() -> Dim {
        Dim::sym(Sym::new("m"))
    }

    fn c(v: i64) -> Dim {
        Dim::from(v)
    }

    #[test]
    fn equal_expressions_have_one_form() {
        assert_eq!(&(&n() * &c(8)).floor_div(&c(4)) - &n(), n());
        assert_eq!((&(&n() * &c(2)) + &c(1)).floor_div(&c(2)), n());
        assert_eq!((&(&n() * &m()) * &c(12)).floor_div(&(&n() * &c(4))), &m() * &c(3));
        let n1 = &n() + &c(1);
        assert_eq!((&n1 * &m()).floor_div(&n1), m());
        assert_eq!((&n() * &c(6)).rem(&c(3)), Dim::ZERO);
        assert_eq!(n().at_least(&Dim::ZERO), n());
        assert_eq!((&n() + &c(2)).at_least(&n()), &n() + &c(2));
    }

    #[test]
    fn prints_as_one_reads_it() {
        assert_eq!((&(&(&n() * &m()) * &c(3)) - &c(2)).to_string(), "3*?m*?n - 2");
        assert_eq!(n().floor_div(&c(2)).to_string(), "floordiv(?n, 2)");
    }

    #[test]
    fn evaluates() {
        let d = &(&n() + &c(1)).floor_div(&c(2)) * &m();
        let of = |s: &Sym| Some(if s.name() == "n" { 6 } else { 5 });
        assert_eq!(d.eval(&of), Some(15));
        assert_eq!(c(-7).floor_div(&c(2)).as_const(), Some(-4));
    }
}

//! The parser's part for numbers, dimensions, types and constant tensors.

use super::lexer::Token;
use super::parse::{MAX_DEPTH, ParseError, Parsed, Parser};
use super::{Reference, literal};
use crate::dim::{Dim, Sym};
use crate::elem::Elem;
use crate::tensor::{Tensor, element_count};
use crate::ty::Type;

/// Most terms of a dimension, and most factors of a term.
const MAX_TERMS: usize = 64;

impl Parser<'_, '_> {
    /// A number with its sign, or a word, as text.
    pub(super) fn signed(&mut self) -> Parsed<String> {
        let sign = if self.eat('-') { "-" } else { "" };
        match self.next() {
            Token::Number(n) => Ok(format!("{sign}{n}")),
            Token::Word(w) => Ok(format!("{sign}{w}")),
            _ => Err(self.error_before("expected a number")),
        }
    }

    pub(super) fn int(&mut self) -> Parsed<i64> {
        let text = self.signed()?;
        text.parse().map_err(|_| self.error_before(format!("{text} is no 64-bit integer")))
    }

    pub(super) fn elem(&mut self) -> Parsed<Elem> {
        let word = self.word()?;
        word.parse().map_err(|()| self.error_before(format!("no element type {word:?}")))
    }

    pub(super) fn ty(&mut self) -> Parsed<Type> {
        let elem = self.elem()?;
        self.expect('[')?;
        Ok(Type::new(elem, self.list(']', |p| p.dim(0))?))
    }

    pub(super) fn dim(&mut self, depth: usize) -> Parsed<Dim> {
        if depth > MAX_DEPTH {
            return Err(self.error("a dimension nests too deep"));
        }
        let mut negative = self.eat('-');
        let mut sum = Dim::ZERO;
        loop {
            let product = self.product(depth, negative)?;
            sum = &sum + &product;
            self.check_size(&sum)?;
            negative = match self.peek() {
                Token::Punct('+') => false,
                Token::Punct('-') => true,
                _ => return Ok(sum),
            };
            self.next();
        }
    }

    fn check_size(&self, d: &Dim) -> Parsed<()> {
        if d.terms().len() > MAX_TERMS || d.terms().iter().any(|t| t.atoms.len() > MAX_TERMS) {
            return Err(self.error_before("a dimension has too many terms"));
        }
        Ok(())
    }

    fn product(&mut self, depth: usize, negative: bool) -> Parsed<Dim> {
        let mut product = self.factor(depth, negative)?;
        while self.eat('*') {
            product = &product * &self.factor(depth, false)?;
            self.check_size(&product)?;
        }
        Ok(product)
    }

    fn factor(&mut self, depth: usize, negative: bool) -> Parsed<Dim> {
        let d = match self.next() {
            Token::Number(n) => {
                let text = if negative { format!("-{n}") } else { n.to_owned() };
                let v: i64 = text.parse().map_err(|_| self.error_before(format!("{text} is no 64-bit integer")))?;
                return Ok(Dim::from(v));
            }
            Token::Sym(s) => Dim::sym(Sym::new(s)),
            Token::Punct('(') => {
                let d = self.dim(depth + 1)?;
                self.expect(')')?;
                d
            }
            Token::Word(f @ ("floordiv" | "mod" | "min" | "max")) => {
                self.expect('(')?;
                let a = self.dim(depth + 1)?;
                self.expect(',')?;
                let b = self.dim(depth + 1)?;
                self.expect(')')?;
                match f {
                    "floordiv" => a.floor_div(&b),
                    "mod" => a.rem(&b),
                    "min" => a.at_most(&b),
                    _ => a.at_least(&b),
                }
            }
            _ => return Err(self.error_before("expected a dimension")),
        };
        Ok(if negative { &Dim::ZERO - &d } else { d })
    }

    /// A constant tensor: `<f32[2] [1.0, 2.0]>`.
    pub(super) fn tensor(&mut self) -> Parsed<Tensor> {
        self.expect('<')?;
        let at = self.tokens[self.pos].at;
        let ty = self.ty()?;
        let error = |m: &str| ParseError::new(at, m);
        let shape = ty.const_shape().ok_or_else(|| error("a constant has a constant shape"))?;
        let count = element_count(&shape).ok_or_else(|| error("a constant of this shape is too large"))?;
        let found = match *self.peek() {
            Token::Word("elided") => {
                self.next();
                let text = self.signed()?;
                let hash = text.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok());
                let hash = hash.ok_or_else(|| self.error_before("expected a hash"))?;
                let t = (self.resolver)(Reference::Elided { ty: &ty, hash });
                Some(t.ok_or_else(|| error("the text leaves this constant out; write constants out in full to parse it back"))?)
            }
            Token::Word("file") => {
                self.next();
                let name = self.string()?;
                let at = self.global()?;
                let offset = at.parse().map_err(|_| self.error_before("expected a byte offset"))?;
                let t = (self.resolver)(Reference::File { ty: &ty, name: &name, offset });
                Some(t.ok_or_else(|| error("the file of this constant is not at hand"))?)
            }
            Token::Word("hex") => {
                self.next();
                let digits = match self.next() {
                    Token::Str(s) => s,
                    _ => return Err(self.error_before("expected a string of hexadecimal digits")),
                };
                let (pairs, rest) = digits.as_chunks::<2>();
                let nibble = |d: u8| (d as char).to_digit(16).map(|d| d as u8);
                let bytes: Option<Vec<u8>> = pairs.iter().map(|[a, b]| Some(nibble(*a)? << 4 | nibble(*b)?)).collect();
                bytes.filter(|_| rest.is_empty()).and_then(|b| Tensor::from_bytes(ty.elem, shape.clone(), b))
            }
            Token::Word("splat") => {
                self.next();
                let bytes = self.element(ty.elem)?;
                let left = count.checked_mul(bytes.len()).and_then(|n| self.splat_left.checked_sub(n));
                self.splat_left = left.ok_or_else(|| error("a constant of this shape is too large"))?;
                Tensor::from_bytes(ty.elem, shape.clone(), bytes.repeat(count))
            }
            Token::Punct('[') => {
                self.next();
                self.elements(ty.elem, &shape)?
            }
            _ if ty.elem == Elem::Str => {
                let s = self.bytes()?;
                Tensor::from_strings(&shape, vec![s.into()])
            }
            _ => Tensor::from_bytes(ty.elem, shape.clone(), self.element(ty.elem)?),
        };
        self.expect('>')?;
        match found {
            Some(t) if t.ty() == ty => Ok(t),
            _ => Err(error("the elements do not fill the shape")),
        }
    }

    fn bytes(&mut self) -> Parsed<Vec<u8>> {
        match self.next() {
            Token::Str(s) => Ok(s),
            _ => Err(self.error_before("expected a string")),
        }
    }

    fn elements(&mut self, elem: Elem, shape: &[usize]) -> Parsed<Option<Tensor>> {
        if elem == Elem::Str {
            let v = self.list(']', |p| p.bytes().map(Vec::into_boxed_slice))?;
            return Ok(Tensor::from_strings(shape, v));
        }
        let v = self.list(']', |p| p.element(elem))?.concat();
        Ok(Tensor::from_bytes(elem, shape.to_vec(), v))
    }

    fn element(&mut self, elem: Elem) -> Parsed<Vec<u8>> {
        let text = self.signed()?;
        literal::element(elem, &text).ok_or_else(|| self.error_before(format!("{text} is no {elem}")))
    }
}

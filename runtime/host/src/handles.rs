//! Strings as compiled code sees them: numbers, of which it only moves whole ones.

use crate::Result;
use crate::call::tensor_of;
use crate::error::internal;
use graphc_ir::Tensor;

/// The strings that the numbers of one part stand for: those of the part's constants, then those that a run brought.
pub struct StringHandles<'k> {
    known: &'k [Box<[u8]>],
    more: Vec<Box<[u8]>>,
}

impl<'k> StringHandles<'k> {
    /// `known` are the strings of the part's constants; the first one is empty.
    pub fn new(known: &'k [Box<[u8]>]) -> StringHandles<'k> {
        StringHandles { known, more: Vec::new() }
    }

    /// The tensor; of strings, their numbers.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn numbers(&mut self, t: &Tensor) -> Result<Tensor> {
        let Some(strings) = t.strings() else { return Ok(t.clone()) };
        let mut numbers = Vec::with_capacity(strings.len());
        for s in strings {
            if s.is_empty() {
                numbers.push(0i64);
            } else {
                numbers.push((self.known.len() + self.more.len()) as i64);
                self.more.push(s.clone());
            }
        }
        tensor_of(t.shape(), &numbers)
    }

    /// The strings of numbers.
    ///
    /// # Errors
    /// If one stands for nothing.
    pub fn strings(&self, t: &Tensor) -> Result<Tensor> {
        let string = |&n: &i64| {
            let n = usize::try_from(n).ok()?;
            self.known.get(n).or_else(|| self.more.get(n.checked_sub(self.known.len())?)).cloned()
        };
        let strings: Option<Vec<Box<[u8]>>> = t.to_ints().unwrap_or_default().iter().map(string).collect();
        strings.and_then(|s| Tensor::from_strings(t.shape(), s)).ok_or_else(|| internal("a string handle stands for nothing"))
    }
}

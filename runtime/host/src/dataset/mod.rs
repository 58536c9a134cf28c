//! Datasets: sequences of elements that iterators walk through.

mod batch;
mod functional;
mod iterators;
pub(crate) mod records;
mod shuffle;
mod sources;
mod transforms;

use crate::attrs::Function;
use crate::call::{Call, Caller, Step};
use crate::error::invalid;
use crate::value::Value;
use crate::{Result, Table};
use std::sync::Arc;

pub(crate) const TABLES: &[Table] =
    &[sources::TABLE, transforms::TABLE, functional::TABLE, batch::TABLE, shuffle::TABLE, records::TABLE, iterators::TABLE];

/// One element: a value for each component.
type Element = Vec<Value>;

/// What walking through a dataset needs of the run that does it.
#[derive(Clone, Copy)]
struct Context<'a> {
    caller: &'a dyn Caller,
    step: &'a Step<'a>,
}

impl<'a> Context<'a> {
    fn of(call: &Call<'a>) -> Context<'a> {
        Context { caller: call.caller, step: call.step }
    }

    fn call(&self, f: &Function, args: Vec<Value>) -> Result<Element> {
        self.step.check()?;
        self.caller.call(f, args, self.step)
    }
}

/// A sequence that can be walked through any number of times.
trait Dataset: Send + Sync {
    fn walk(&self) -> Box<dyn Walk>;

    /// How many elements there are.
    fn cardinality(&self) -> Cardinality;
}

/// One walk through a dataset.
trait Walk: Send {
    /// The next element; None at the end and ever after.
    fn next(&mut self, cx: Context) -> Result<Option<Element>>;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cardinality {
    Infinite,
    Unknown,
    Exactly(u64),
}

impl Cardinality {
    /// TensorFlow's number for it.
    fn code(self) -> i64 {
        match self {
            Cardinality::Infinite => -1,
            Cardinality::Unknown => -2,
            Cardinality::Exactly(n) => i64::try_from(n).unwrap_or(i64::MAX),
        }
    }

    fn map(self, f: impl FnOnce(u64) -> u64) -> Cardinality {
        if let Cardinality::Exactly(n) = self { Cardinality::Exactly(f(n)) } else { self }
    }

    /// That of a sequence which ends with the shorter of two.
    fn min(self, o: Cardinality) -> Cardinality {
        use Cardinality::*;
        match (self, o) {
            (Infinite, x) | (x, Infinite) => x,
            (Exactly(a), Exactly(b)) => Exactly(a.min(b)),
            _ => Unknown,
        }
    }
}

/// What a variant holds that is a dataset.
struct Handle(Arc<dyn Dataset>);

fn made(d: impl Dataset + 'static) -> Result {
    Ok(vec![Value::variant(Handle(Arc::new(d)))])
}

fn dataset_of(v: &Value) -> Result<Arc<dyn Dataset>> {
    let handle = if let Value::Variant(v) = v { v.downcast::<Handle>() } else { None };
    Ok(handle.ok_or_else(|| invalid("the given variant is no dataset"))?.0.clone())
}

/// The dataset in operand `k`.
fn input(call: &Call, k: usize) -> Result<Arc<dyn Dataset>> {
    dataset_of(call.input(k)?)
}

fn scalar(call: &Call, k: usize, what: &str) -> Result<i64> {
    match call.tensor(k)?.rank() {
        0 => call.int(k),
        _ => Err(invalid(format!("{what} must be a scalar"))),
    }
}

fn flag(call: &Call, k: usize, what: &str) -> Result<bool> {
    match call.tensor(k)?.as_bools().as_deref() {
        Some([b]) => Ok(*b),
        _ => Err(invalid(format!("{what} must be one bool"))),
    }
}

/// A dataset that another makes differently each time it is walked through.
struct Derived<F> {
    cardinality: Cardinality,
    start: F,
}

impl<F, W> Dataset for Derived<F>
where
    F: Fn() -> W + Send + Sync,
    W: FnMut(Context) -> Result<Option<Element>> + Send + 'static,
{
    fn walk(&self) -> Box<dyn Walk> {
        Box::new(Stepper((self.start)()))
    }

    fn cardinality(&self) -> Cardinality {
        self.cardinality
    }
}

struct Stepper<W>(W);

impl<W: FnMut(Context) -> Result<Option<Element>> + Send> Walk for Stepper<W> {
    fn next(&mut self, cx: Context) -> Result<Option<Element>> {
        (self.0)(cx)
    }
}

/// A dataset whose walks are made by `start`.
fn derived<F, W>(cardinality: Cardinality, start: F) -> Result
where
    F: Fn() -> W + Send + Sync + 'static,
    W: FnMut(Context) -> Result<Option<Element>> + Send + 'static,
{
    made(Derived { cardinality, start })
}

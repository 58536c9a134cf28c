//! Datasets in another order, drawn as TensorFlow draws it.

use super::{Cardinality, Dataset, Element, Walk, input};
use crate::call::Call;
use crate::error::invalid;
use crate::random::philox::{Philox, Singles, entropy};
use crate::value::{Resource, Value};
use crate::{Result, Table};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TABLE: Table = &[
    ("ShuffleDataset", shuffle),
    ("ShuffleDatasetV2", shuffle_v2),
    ("ShuffleDatasetV3", shuffle_v3),
    ("ShuffleAndRepeatDataset", shuffle_and_repeat),
    ("ShuffleAndRepeatDatasetV2", shuffle_and_repeat_v2),
    ("AnonymousSeedGenerator", seed_generator),
    ("AnonymousRandomSeedGenerator", seed_generator),
    ("DummySeedGenerator", dummy_generator),
    ("DeleteSeedGenerator", nothing),
    ("DeleteRandomSeedGenerator", nothing),
    ("AnonymousMemoryCache", memory_cache),
    ("DummyMemoryCache", dummy_generator),
    ("DeleteMemoryCache", nothing),
];

/// Where the seeds of each walk come from.
struct Seeds {
    /// Those of the dataset.
    fixed: (u64, u64),
    /// Draws new ones for each walk; None for the same again.
    fresh: Option<Mutex<Singles>>,
}

impl Seeds {
    fn new((seed, seed2): (i64, i64), reshuffle: bool) -> Seeds {
        let fixed = if (seed, seed2) == (0, 0) { (entropy(), entropy()) } else { (seed as u64, seed2 as u64) };
        let generator = || Mutex::new(Singles::new(Philox::from_seeds(fixed.0, fixed.1)));
        Seeds { fixed, fresh: reshuffle.then(generator) }
    }

    fn next(&self) -> (u64, u64) {
        match &self.fresh {
            None => self.fixed,
            Some(s) => {
                let mut s = s.lock().unwrap_or_else(PoisonError::into_inner);
                let first = u64::from(s.next());
                (first, u64::from(s.next()))
            }
        }
    }
}

struct Shuffled {
    source: Arc<dyn Dataset>,
    buffer: usize,
    seeds: Arc<Seeds>,
    /// How many times the source is walked through; None for ever.
    times: Option<u64>,
}

struct Shuffling {
    source: Arc<dyn Dataset>,
    walk: Option<Box<dyn Walk>>,
    left: Option<u64>,
    buffer: usize,
    /// The elements in the buffer, those of each round by themselves.
    rounds: VecDeque<VecDeque<Element>>,
    random: Singles,
}

impl Dataset for Shuffled {
    fn walk(&self) -> Box<dyn Walk> {
        let (a, b) = self.seeds.next();
        Box::new(Shuffling {
            source: self.source.clone(),
            walk: None,
            left: self.times,
            buffer: self.buffer,
            rounds: VecDeque::new(),
            random: Singles::new(Philox::from_seeds(a, b)),
        })
    }

    fn cardinality(&self) -> Cardinality {
        match (self.source.cardinality(), self.times) {
            (Cardinality::Exactly(0), _) => Cardinality::Exactly(0),
            (Cardinality::Exactly(_), None) => Cardinality::Infinite,
            (c, t) => c.map(|n| n.saturating_mul(t.unwrap_or(1))),
        }
    }
}

impl Walk for Shuffling {
    fn next(&mut self, cx: super::Context) -> Result<Option<Element>> {
        loop {
            let held: usize = self.rounds.iter().map(VecDeque::len).sum();
            if held >= self.buffer {
                break;
            }
            if self.walk.is_none() {
                if self.left == Some(0) {
                    break;
                }
                self.left = self.left.map(|n| n - 1);
                self.walk = Some(self.source.walk());
                self.rounds.push_back(VecDeque::new());
            }
            let Some(walk) = &mut self.walk else { break };
            match (walk.next(cx)?, self.rounds.back_mut()) {
                (Some(e), Some(round)) => round.push_back(e),
                (_, round) => {
                    // Without end, an empty source would never give anything.
                    if self.left.is_none() && held == 0 && round.is_some_and(|r| r.is_empty()) {
                        self.left = Some(0);
                    }
                    self.walk = None;
                    cx.step.check()?;
                }
            }
        }
        while self.rounds.front().is_some_and(VecDeque::is_empty) && (self.rounds.len() > 1 || self.walk.is_none()) {
            self.rounds.pop_front();
        }
        let Some(round) = self.rounds.front_mut().filter(|r| !r.is_empty()) else { return Ok(None) };
        let i = u64::from(self.random.next()) % round.len() as u64;
        Ok(round.swap_remove_front(i as usize))
    }
}

fn shuffled(call: &Call, seeds: Arc<Seeds>, times: Option<u64>) -> Result {
    let buffer = super::scalar(call, 1, "buffer_size")?;
    let source = input(call, 0)?;
    let buffer = match buffer {
        -1 => usize::MAX,
        n => usize::try_from(n).ok().filter(|&n| n > 0).ok_or_else(|| invalid("buffer_size must be greater than zero"))?,
    };
    super::made(Shuffled { source, buffer, seeds, times })
}

fn own_seeds(call: &Call, k: usize, default: bool) -> Result<Arc<Seeds>> {
    let reshuffle = call.attrs.bool("reshuffle_each_iteration").unwrap_or(default);
    Ok(Arc::new(Seeds::new((super::scalar(call, k, "seed")?, super::scalar(call, k + 1, "seed2")?), reshuffle)))
}

fn shuffle(call: &Call) -> Result {
    shuffled(call, own_seeds(call, 2, true)?, Some(1))
}

/// The seeds that an object gives, if operand `k` is one.
fn given_seeds(call: &Call, k: usize) -> Result<Option<Arc<Seeds>>> {
    match call.input(k)? {
        Value::Resource(r @ Resource::Object { .. }) => Ok(r.downcast::<Arc<Seeds>>().map(|s| (*s).clone())),
        _ => Ok(None),
    }
}

fn shuffle_v2(call: &Call) -> Result {
    let seeds = given_seeds(call, 2)?.ok_or_else(|| invalid("operand 2 is no seed generator"))?;
    shuffled(call, seeds, Some(1))
}

fn shuffle_v3(call: &Call) -> Result {
    let seeds = match given_seeds(call, 4)? {
        Some(seeds) => seeds,
        None => own_seeds(call, 2, true)?,
    };
    shuffled(call, seeds, Some(1))
}

fn times(call: &Call, k: usize) -> Result<Option<u64>> {
    Ok(u64::try_from(super::scalar(call, k, "count")?).ok())
}

fn shuffle_and_repeat(call: &Call) -> Result {
    shuffled(call, own_seeds(call, 2, true)?, times(call, 4)?)
}

fn shuffle_and_repeat_v2(call: &Call) -> Result {
    let seeds = match given_seeds(call, 5)? {
        Some(seeds) => seeds,
        None => own_seeds(call, 2, true)?,
    };
    shuffled(call, seeds, times(call, 4)?)
}

fn object<T: std::any::Any + Send + Sync>(name: &str, object: T) -> Value {
    Value::Resource(Resource::Object { name: name.into(), object: Arc::new(object) })
}

/// What a handle is deleted by, where there is nothing to do: objects end when nothing refers to them.
struct Deleter;

fn with_deleter(call: &Call, handle: Value) -> Result {
    let deleter = matches!(call.op, "AnonymousSeedGenerator" | "AnonymousRandomSeedGenerator" | "AnonymousMemoryCache");
    Ok(if deleter { vec![handle, Value::variant(Deleter)] } else { vec![handle] })
}

fn seed_generator(call: &Call) -> Result {
    let reshuffle = if call.op == "AnonymousSeedGenerator" { super::flag(call, 2, "reshuffle")? } else { true };
    let seeds = Seeds::new((super::scalar(call, 0, "seed")?, super::scalar(call, 1, "seed2")?), reshuffle);
    with_deleter(call, object("seed generator", Arc::new(seeds)))
}

fn dummy_generator(_: &Call) -> Result {
    Ok(vec![object("dummy", Deleter)])
}

fn memory_cache(call: &Call) -> Result {
    with_deleter(call, object("memory cache", Deleter))
}

fn nothing(_: &Call) -> Result {
    Ok(Vec::new())
}

//! Datasets made of other datasets without looking at elements.

use super::{Cardinality, Context, Dataset, Element, Walk, dataset_of, derived, input, scalar};
use crate::call::Call;
use crate::error::{failed_precondition, invalid};
use crate::value::Value;
use crate::{Result, Table, values};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TABLE: Table = &[
    ("RepeatDataset", repeat),
    ("TakeDataset", take),
    ("SkipDataset", skip),
    ("ShardDataset", shard),
    ("ZipDataset", zip),
    ("ConcatenateDataset", concatenate),
    ("CacheDataset", cache),
    ("CacheDatasetV2", cache),
    ("UnbatchDataset", unbatch),
    ("WindowDataset", window),
    ("UniqueDataset", unique),
    ("DirectedInterleaveDataset", directed),
    ("AssertCardinalityDataset", assert_cardinality),
    ("PrefetchDataset", same),
    ("OptionsDataset", same),
    ("ModelDataset", same),
    ("OptimizeDataset", same),
    ("OptimizeDatasetV2", same),
    ("FinalizeDataset", same),
    ("AutoShardDataset", same),
    ("MaxIntraOpParallelismDataset", same),
    ("PrivateThreadPoolDataset", same),
    ("ThreadPoolDataset", same),
    ("NonSerializableDataset", same),
    ("LatencyStatsDataset", same),
    ("BytesProducedStatsDataset", same),
    ("SetStatsAggregatorDataset", same),
    ("AssertNextDataset", same),
    ("AssertPrevDataset", same),
    ("ExperimentalMaxIntraOpParallelismDataset", same),
    ("ExperimentalPrivateThreadPoolDataset", same),
    ("IgnoreErrorsDataset", ignore_errors),
];

/// What only says how to run does not change a dataset.
fn same(call: &Call) -> Result {
    Ok(vec![call.input(0)?.clone()])
}

fn count(call: &Call) -> Result<Option<u64>> {
    Ok(u64::try_from(scalar(call, 1, "count")?).ok())
}

fn repeat(call: &Call) -> Result {
    let (d, times) = (input(call, 0)?, count(call)?);
    let cardinality = match (times, d.cardinality()) {
        (Some(0), _) | (_, Cardinality::Exactly(0)) => Cardinality::Exactly(0),
        (None, Cardinality::Exactly(_)) => Cardinality::Infinite,
        (None, c) => c,
        (Some(t), c) => c.map(|n| n.saturating_mul(t)),
    };
    derived(cardinality, move || {
        let (d, mut left) = (d.clone(), times);
        let mut walk: Option<Box<dyn Walk>> = None;
        move |cx: Context| {
            loop {
                if left == Some(0) {
                    return Ok(None);
                }
                let fresh = walk.is_none();
                if let Some(e) = walk.get_or_insert_with(|| d.walk()).next(cx)? {
                    return Ok(Some(e));
                }
                walk = None;
                match &mut left {
                    Some(n) => *n -= 1,
                    // Without end, an empty dataset would never give anything.
                    None if fresh => left = Some(0),
                    None => {}
                }
                cx.step.check()?;
            }
        }
    })
}

fn take(call: &Call) -> Result {
    let (d, most) = (input(call, 0)?, count(call)?);
    let cardinality = match (most, d.cardinality()) {
        (None, c) => c,
        (Some(m), Cardinality::Infinite) => Cardinality::Exactly(m),
        (Some(m), c) => c.map(|n| n.min(m)),
    };
    derived(cardinality, move || {
        let (mut walk, mut left) = (d.walk(), most);
        move |cx: Context| {
            match &mut left {
                Some(0) => return Ok(None),
                Some(n) => *n -= 1,
                None => {}
            }
            walk.next(cx)
        }
    })
}

fn skip(call: &Call) -> Result {
    let (d, n) = (input(call, 0)?, count(call)?);
    let cardinality = match n {
        None => Cardinality::Exactly(0),
        Some(s) => d.cardinality().map(|n| n.saturating_sub(s)),
    };
    derived(cardinality, move || {
        let (mut walk, mut left) = (d.walk(), n);
        move |cx: Context| {
            let Some(left) = &mut left else { return Ok(None) };
            while *left > 0 {
                if walk.next(cx)?.is_none() {
                    *left = 0;
                    return Ok(None);
                }
                *left -= 1;
            }
            walk.next(cx)
        }
    })
}

fn shard(call: &Call) -> Result {
    let (d, n, i) = (input(call, 0)?, scalar(call, 1, "num_shards")?, scalar(call, 2, "index")?);
    if n <= 0 || i < 0 || i >= n {
        return Err(invalid(format!("index {i} must be between 0 and {}", n - 1)));
    }
    let (n, i) = (n as u64, i as u64);
    let cardinality = d.cardinality().map(|c| c / n + u64::from(i < c % n));
    derived(cardinality, move || {
        let (mut walk, mut at) = (d.walk(), 0u64);
        move |cx: Context| {
            while let Some(e) = walk.next(cx)? {
                at += 1;
                if (at - 1) % n == i {
                    return Ok(Some(e));
                }
            }
            Ok(None)
        }
    })
}

fn zip(call: &Call) -> Result {
    let all = call.inputs.iter().map(dataset_of).collect::<Result<Vec<_>>>()?;
    let cardinality = all.iter().fold(Cardinality::Infinite, |c, d| c.min(d.cardinality()));
    derived(cardinality, move || {
        let mut walks: Vec<_> = all.iter().map(|d| d.walk()).collect();
        move |cx: Context| {
            let mut element = Element::new();
            for w in &mut walks {
                match w.next(cx)? {
                    Some(part) => element.extend(part),
                    None => return Ok(None),
                }
            }
            Ok((!walks.is_empty()).then_some(element))
        }
    })
}

fn concatenate(call: &Call) -> Result {
    let (a, b) = (input(call, 0)?, input(call, 1)?);
    let cardinality = match (a.cardinality(), b.cardinality()) {
        (Cardinality::Exactly(m), Cardinality::Exactly(n)) => Cardinality::Exactly(m.saturating_add(n)),
        (Cardinality::Infinite, _) | (_, Cardinality::Infinite) => Cardinality::Infinite,
        _ => Cardinality::Unknown,
    };
    derived(cardinality, move || {
        let (mut walk, mut then) = (a.walk(), Some(b.clone()));
        move |cx: Context| {
            loop {
                if let Some(e) = walk.next(cx)? {
                    return Ok(Some(e));
                }
                match then.take() {
                    Some(d) => walk = d.walk(),
                    None => return Ok(None),
                }
            }
        }
    })
}

/// Keeps the elements of the first walk that comes to the end.
fn cache(call: &Call) -> Result {
    let d = input(call, 0)?;
    if call.inputs.len() > 1 && !call.string(1)?.is_empty() {
        return Err(crate::error::unimplemented("a dataset that is cached in a file"));
    }
    let kept: Arc<Mutex<Option<Arc<Vec<Element>>>>> = Arc::default();
    derived(d.cardinality(), move || {
        let kept = kept.clone();
        let done = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut walk, mut seen, mut at) = (done.is_none().then(|| d.walk()), Vec::new(), 0);
        move |cx: Context| {
            if let Some(done) = &done {
                at += 1;
                return Ok(done.get(at - 1).cloned());
            }
            let Some(w) = &mut walk else { return Ok(None) };
            let next = w.next(cx)?;
            match &next {
                Some(e) => seen.push(e.clone()),
                None => {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(std::mem::take(&mut seen)));
                    walk = None;
                }
            }
            Ok(next)
        }
    })
}

fn unbatch(call: &Call) -> Result {
    let d = input(call, 0)?;
    derived(Cardinality::Unknown, move || {
        let mut walk = d.walk();
        let (mut batch, mut at, mut n) = (Element::new(), 0, 0);
        move |cx: Context| {
            while at >= n {
                let Some(next) = walk.next(cx)? else { return Ok(None) };
                let rows = next.first().and_then(|v| v.shape().first().copied()).unwrap_or(0);
                if next.iter().any(|v| v.shape().first() != Some(&rows)) {
                    return Err(invalid("input element must have the same batch size in each component"));
                }
                (batch, at, n) = (next, 0, rows);
            }
            at += 1;
            batch.iter().map(|v| values::row(v, at - 1)).collect::<Result<Vec<_>>>().map(Some)
        }
    })
}

/// A dataset of elements that are there already.
struct Fixed(Vec<Element>);

impl Dataset for Fixed {
    fn walk(&self) -> Box<dyn Walk> {
        let mut left: VecDeque<Element> = self.0.clone().into();
        Box::new(super::Stepper(move |_: Context| Ok(left.pop_front())))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::Exactly(self.0.len() as u64)
    }
}

/// Datasets of neighbouring elements, one dataset for each component.
fn window(call: &Call) -> Result {
    let d = input(call, 0)?;
    let positive = |k: usize, what: &str| {
        let v = scalar(call, k, what)?;
        usize::try_from(v).ok().filter(|&v| v > 0).ok_or_else(|| invalid(format!("{what} must be greater than zero")))
    };
    let (size, shift, stride) = (positive(1, "window size")?, positive(2, "window shift")?, positive(3, "window stride")?);
    let whole = super::flag(call, 4, "drop_remainder")?;
    let reach = (size - 1).saturating_mul(stride).saturating_add(1);
    derived(Cardinality::Unknown, move || {
        let (mut walk, mut buffer, mut ended) = (Some(d.walk()), VecDeque::<Element>::new(), false);
        let mut gap = 0;
        move |cx: Context| {
            while !ended && buffer.len() < reach {
                match walk.as_mut().map(|w| w.next(cx)).transpose()?.flatten() {
                    Some(_) if gap > 0 => gap -= 1,
                    Some(e) => buffer.push_back(e),
                    None => {
                        ended = true;
                        walk = None;
                    }
                }
            }
            if buffer.is_empty() || whole && buffer.len() < reach {
                return Ok(None);
            }
            let picked: Vec<Element> = buffer.iter().step_by(stride).take(size).cloned().collect();
            gap = shift.saturating_sub(buffer.len());
            buffer.drain(..shift.min(buffer.len()));
            let width = picked.first().map_or(0, Vec::len);
            let component = |k: usize| {
                let rows = picked.iter().filter_map(|e| e.get(k)).map(|v| vec![v.clone()]).collect();
                Value::variant(super::Handle(Arc::new(Fixed(rows))))
            };
            Ok(Some((0..width).map(component).collect()))
        }
    })
}

fn unique(call: &Call) -> Result {
    let d = input(call, 0)?;
    derived(Cardinality::Unknown, move || {
        let (mut walk, mut seen) = (d.walk(), HashSet::new());
        move |cx: Context| {
            while let Some(e) = walk.next(cx)? {
                let key: Vec<_> =
                    e.iter().filter_map(Value::as_tensor).map(|t| (t.bytes().to_vec(), t.strings().map(<[_]>::to_vec))).collect();
                if seen.insert(key) {
                    return Ok(Some(e));
                }
            }
            Ok(None)
        }
    })
}

/// Elements of several datasets in the order in which the first names them.
fn directed(call: &Call) -> Result {
    let (selector, rest) = call.inputs.split_first().ok_or_else(|| invalid("no selector"))?;
    let selector = dataset_of(selector)?;
    let all = rest.iter().map(dataset_of).collect::<Result<Vec<_>>>()?;
    let stops = call.attrs.bool("stop_on_empty_dataset").unwrap_or(false);
    derived(Cardinality::Unknown, move || {
        let mut selector = selector.walk();
        let mut walks: Vec<Option<Box<dyn Walk>>> = all.iter().map(|d| Some(d.walk())).collect();
        move |cx: Context| {
            loop {
                if walks.iter().all(Option::is_none) {
                    return Ok(None);
                }
                let Some(choice) = selector.next(cx)? else { return Ok(None) };
                let i = choice.first().and_then(Value::as_tensor).and_then(|t| t.to_ints()).and_then(|v| v.first().copied());
                let slot = i.and_then(|i| usize::try_from(i).ok()).and_then(|i| walks.get_mut(i));
                let slot = slot.ok_or_else(|| invalid(format!("selector index {i:?} is out of range")))?;
                if let Some(w) = slot {
                    match w.next(cx)? {
                        Some(e) => return Ok(Some(e)),
                        None if stops => return Ok(None),
                        None => *slot = None,
                    }
                }
                cx.step.check()?;
            }
        }
    })
}

fn assert_cardinality(call: &Call) -> Result {
    let (d, want) = (input(call, 0)?, scalar(call, 1, "cardinality")?);
    let cardinality = match want {
        -1 => Cardinality::Infinite,
        n => u64::try_from(n).map_or(Cardinality::Unknown, Cardinality::Exactly),
    };
    derived(cardinality, move || {
        let (mut walk, mut n) = (d.walk(), 0i64);
        move |cx: Context| {
            let next = walk.next(cx)?;
            n += i64::from(next.is_some());
            let wrong = if next.is_some() { want >= 0 && n > want } else { want == -1 || want >= 0 && n < want };
            if wrong {
                return Err(failed_precondition(format!("input dataset was expected to contain {want} elements but has {n}")));
            }
            Ok(next)
        }
    })
}

fn ignore_errors(call: &Call) -> Result {
    let d = input(call, 0)?;
    derived(Cardinality::Unknown, move || {
        let mut walk = d.walk();
        move |cx: Context| {
            loop {
                cx.step.check()?;
                if let Ok(next) = walk.next(cx) {
                    return Ok(next);
                }
            }
        }
    })
}

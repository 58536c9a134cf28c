//! State that steps hand values to each other through: queues, barriers, staging areas, accumulators, locks.

mod accumulator;
mod accumulator_ops;
mod barrier;
mod lock;
mod queue;
mod queue_ops;
mod stage;

pub(crate) use queue::Queue;

use crate::call::Step;
use crate::{Result, Table};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) const TABLES: &[Table] = &[queue_ops::TABLE, barrier::TABLE, stage::TABLE, accumulator_ops::TABLE, lock::TABLE];

/// State that a run may have to wait for.
struct Monitor<T> {
    state: Mutex<T>,
    changed: Condvar,
}

/// How long a run waits before it looks whether it was cancelled.
const PATIENCE: Duration = Duration::from_millis(10);

impl<T> Monitor<T> {
    fn new(state: T) -> Monitor<T> {
        Monitor { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The state. Who changes it calls `notify` afterwards.
    fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits until `ready` answers. It is asked again whenever the state changes.
    ///
    /// # Errors
    /// Those of `ready`; `Cancelled` if the run is cancelled.
    fn wait<R>(&self, step: &Step, mut ready: impl FnMut(&mut T) -> Result<Option<R>>) -> Result<R> {
        let mut state = self.lock();
        loop {
            let answer = ready(&mut state).transpose();
            if let Some(answer) = answer {
                drop(state);
                self.notify();
                return answer;
            }
            step.check()?;
            state = self.changed.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

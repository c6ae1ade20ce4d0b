//! Scheduled weights: read ahead of their use, in the order of use, under a byte budget.
//!
//! Readers take leaves from the schedule strictly in order and wait until the budget has room, so
//! the phase that computes can always be completed: everything before it has been released.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sli_kernels::{Compute, PackedWeights};

use super::load::{self, Staging, resident_bytes};
use super::stream::Passage;
use super::{LeafKey, Weight};
use crate::error::EngineError;
use crate::model::Model;

/// The store. One thread computes; any number of reader threads run [`WeightStore::read_ahead`].
pub(crate) struct WeightStore<'m> {
    model: &'m Model,
    compute: Compute,
    budget: u64,
    schedule: Vec<LeafKey>,
    sizes: Vec<u64>,
    /// First and one past the last position of the (cyclic) schedule that is run.
    end: usize,
    /// Nothing is ever released: a leaf that is there already need not be read again.
    keep: bool,
    /// Tiles of the projection to logits, where they stay in memory.
    head: Option<Mutex<Vec<PackedWeights>>>,
    passage: Passage,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: usize,
    live: u64,
    ready: HashMap<LeafKey, Option<Arc<Weight>>>,
    pool: Vec<PackedWeights>,
    failed: Option<EngineError>,
    stop: bool,
}

impl State {
    fn pooled(&self) -> u64 {
        self.pool.iter().map(|packed| packed.bytes() as u64).sum()
    }
}

impl<'m> WeightStore<'m> {
    /// A store that will read `schedule` over and over, from position `start` to `end` (positions
    /// count on through the repetitions), holding at most `budget` bytes. With `keep` nothing is
    /// released, so every leaf is read once.
    pub fn new(
        model: &'m Model,
        compute: Compute,
        budget: u64,
        schedule: Vec<LeafKey>,
        start: usize,
        end: usize,
        keep: bool,
    ) -> Result<Self, EngineError> {
        let sizes = schedule
            .iter()
            .map(|key| {
                Ok(resident_bytes(
                    &model.binding.resolve(key.leaf(model))?,
                    compute,
                ))
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let state = State {
            next: start,
            live: 0,
            ready: HashMap::new(),
            pool: Vec::new(),
            failed: None,
            stop: false,
        };
        Ok(Self {
            model,
            compute,
            budget,
            schedule,
            sizes,
            end,
            keep,
            head: None,
            passage: Passage::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Keeps the projection to logits in memory as well, once it has passed by.
    pub fn keeping_head(mut self, keep: bool) -> Self {
        self.head = keep.then(Mutex::default);
        self
    }

    /// The tiles of the projection to logits, where they stay: all, or none yet.
    pub fn kept_head(&self) -> Option<MutexGuard<'_, Vec<PackedWeights>>> {
        let head = self.head.as_ref()?;
        Some(head.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The buffers of weights that are not scheduled but pass by.
    pub fn passage(&self) -> &Passage {
        &self.passage
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, guard: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads ahead until the schedule ends, a read fails or the store is stopped.
    pub fn read_ahead(&self) {
        let mut staging = Staging::default();
        while let Some((key, reuse)) = self.claim() {
            match load::whole(self.model, key, self.compute, &mut staging, reuse) {
                Ok(weight) => {
                    self.lock().ready.insert(key, Some(Arc::new(weight)));
                }
                Err(error) => {
                    let mut state = self.lock();
                    state.failed.get_or_insert(error);
                    state.stop = true;
                }
            }
            self.changed.notify_all();
        }
    }

    /// The next leaf to read, once there is room for it, and a matrix to reuse.
    fn claim(&self) -> Option<(LeafKey, Option<PackedWeights>)> {
        let mut state = self.lock();
        loop {
            if state.stop || state.next >= self.end || self.schedule.is_empty() {
                return None;
            }
            let slot = state.next % self.schedule.len();
            let (key, size) = (self.schedule[slot], self.sizes[slot]);
            if self.keep && state.ready.contains_key(&key) {
                state.next += 1;
                continue;
            }
            let fits = state.live + size <= self.budget || state.live == 0;
            if fits && !state.ready.contains_key(&key) {
                state.next += 1;
                state.live += size;
                state.ready.insert(key, None);
                let same = state
                    .pool
                    .iter()
                    .position(|packed| packed.bytes() as u64 == size);
                let reuse = same.map(|index| state.pool.swap_remove(index));
                while state.live + state.pooled() > self.budget && state.pool.pop().is_some() {}
                return Some((key, reuse));
            }
            state = self.wait(state);
        }
    }

    /// Waits for a scheduled leaf.
    pub fn get(&self, key: LeafKey) -> Result<Arc<Weight>, EngineError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if let Some(Some(weight)) = state.ready.get(&key) {
                return Ok(Arc::clone(weight));
            }
            if state.stop {
                return Err(EngineError::Internal(
                    "the weight readers have stopped".into(),
                ));
            }
            state = self.model.clock.waiting(|| self.wait(state));
        }
    }

    /// Gives up leaves that the current phase no longer needs.
    pub fn release(&self, keys: &[LeafKey]) {
        if self.keep {
            return;
        }
        let mut state = self.lock();
        for &key in keys {
            let Some(Some(weight)) = state.ready.remove(&key) else {
                continue;
            };
            let size = self.size_of(key);
            state.live -= size;
            if let Some(Weight::Matrix(packed)) = Arc::into_inner(weight) {
                state.pool.push(packed);
            }
        }
        while state.live + state.pooled() > self.budget && state.pool.pop().is_some() {}
        drop(state);
        self.changed.notify_all();
    }

    fn size_of(&self, key: LeafKey) -> u64 {
        self.schedule
            .iter()
            .position(|&other| other == key)
            .map_or(0, |slot| self.sizes[slot])
    }

    /// Ends the readers.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

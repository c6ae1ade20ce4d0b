//! Scheduled weights: read ahead of their use, in the order of use, under a byte budget.
//!
//! Readers take leaves from the schedule strictly in order and wait until the budget has room, so
//! the phase that computes can always be completed: everything before it has been released.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
    /// Nothing is ever released: a leaf that is there already need not be read again, by a later pass or a later layer of this one.
    keep: bool,
    /// Tiles of the projection to logits, where they stay in memory.
    head: Option<Mutex<Vec<PackedWeights>>>,
    passage: Passage,
    state: Mutex<State>,
    changed: Condvar,
}

/// A leaf that was claimed.
enum Berth {
    /// A reader is at it.
    Reading,
    /// A reader is at it and nobody waits for it any more.
    Abandoned,
    /// It is there.
    Ready(Arc<Weight>),
}

struct State {
    /// Position in the schedule; positions count on through its repetitions.
    next: usize,
    /// Passes that have begun.
    passes: usize,
    /// One past the last position that is read.
    end: usize,
    /// No further pass comes.
    is_last: bool,
    live: u64,
    slots: HashMap<LeafKey, Berth>,
    /// How often leaves were released before a reader came to them: so often a reader passes over them.
    passed: HashMap<LeafKey, usize>,
    pool: Vec<PackedWeights>,
    failed: Option<EngineError>,
    stop: bool,
}

impl State {
    fn pooled(&self) -> u64 {
        self.pool.iter().map(|packed| packed.bytes() as u64).sum()
    }

    /// Whether this leaf was released before a reader came to it.
    fn passes_over(&mut self, key: LeafKey) -> bool {
        let Entry::Occupied(mut times) = self.passed.entry(key) else {
            return false;
        };
        *times.get_mut() -= 1;
        if *times.get() == 0 {
            times.remove();
        }
        true
    }
}

impl<'m> WeightStore<'m> {
    /// A store that reads `schedule` for every pass, in the first one from position `start` on, holding at most `budget`
    /// bytes. Nothing is read before [`Self::begin_pass`]. With `keep` nothing is released, so every leaf is read once.
    pub fn new(
        model: &'m Model,
        compute: Compute,
        budget: u64,
        schedule: Vec<LeafKey>,
        start: usize,
        keep: bool,
    ) -> Self {
        let sizes = schedule.iter();
        let sizes = sizes.map(|key| resident_bytes(key.bound(model), compute));
        let sizes = sizes.collect();
        let state = State {
            next: start,
            passes: 0,
            end: 0,
            is_last: false,
            live: 0,
            slots: HashMap::new(),
            passed: HashMap::new(),
            pool: Vec::new(),
            failed: None,
            stop: false,
        };
        Self {
            model,
            compute,
            budget,
            schedule,
            sizes,
            keep,
            head: None,
            passage: Passage::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
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

    /// A pass begins; unless it is the last one, weights are read ahead for the next.
    pub fn begin_pass(&self, is_last: bool) {
        let mut state = self.lock();
        state.passes += 1;
        state.is_last = is_last;
        state.end = (state.passes + usize::from(!is_last)) * self.schedule.len();
        self.changed.notify_all();
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
                Ok(weight) => self.arrived(key, weight),
                Err(error) => {
                    let mut state = self.lock();
                    state.failed.get_or_insert(error);
                    state.stop = true;
                }
            }
            self.changed.notify_all();
        }
    }

    /// A reader has a leaf.
    fn arrived(&self, key: LeafKey, weight: Weight) {
        let mut state = self.lock();
        if matches!(state.slots.get(&key), Some(Berth::Abandoned)) {
            state.slots.remove(&key);
            state.live -= self.size_of(key);
        } else {
            state.slots.insert(key, Berth::Ready(Arc::new(weight)));
        }
    }

    /// The next leaf to read, once there is room for it, and a matrix to reuse.
    fn claim(&self) -> Option<(LeafKey, Option<PackedWeights>)> {
        let mut state = self.lock();
        loop {
            let is_behind = state.next >= state.end;
            if state.stop || self.schedule.is_empty() || is_behind && state.is_last {
                return None;
            }
            if is_behind {
                state = self.wait(state);
                continue;
            }
            let slot = state.next % self.schedule.len();
            let (key, size) = (self.schedule[slot], self.sizes[slot]);
            if state.passes_over(key) || (self.keep && state.slots.contains_key(&key)) {
                state.next += 1;
                continue;
            }
            let fits = state.live + size <= self.budget || state.live == 0;
            if fits && !state.slots.contains_key(&key) {
                state.next += 1;
                state.live += size;
                state.slots.insert(key, Berth::Reading);
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
            if let Some(Berth::Ready(weight)) = state.slots.get(&key) {
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

    /// Gives up leaves that the current phase no longer needs: those that it got and those that it had
    /// no use for, which may be under way or not even begun.
    pub fn release(&self, keys: &[LeafKey]) {
        if self.keep {
            return;
        }
        let mut state = self.lock();
        for &key in keys {
            match state.slots.remove(&key) {
                Some(Berth::Ready(weight)) => {
                    state.live -= self.size_of(key);
                    if let Some(Weight::Matrix(packed)) = Arc::into_inner(weight) {
                        state.pool.push(packed);
                    }
                }
                Some(Berth::Reading) => {
                    state.slots.insert(key, Berth::Abandoned);
                }
                other => {
                    state.slots.extend(other.map(|slot| (key, slot)));
                    *state.passed.entry(key).or_default() += 1;
                }
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

    /// Frees all that is there, when the readers have ended.
    pub fn give_up(&self) {
        let mut state = self.lock();
        state.slots.clear();
        state.pool = Vec::new();
        state.live = 0;
        drop(state);
        if let Some(head) = &self.head {
            *head.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
        self.passage.clear();
    }

    /// Ends the readers.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use sli_testing::{Golden, Stored};

    use super::*;
    use crate::open_options::OpenOptions;
    use crate::plan::end_keys;
    use crate::weights::Section;

    /// The keys of the ends of a small encoder, twice over, read with the least budget.
    fn with_store(check: impl FnOnce(&WeightStore<'_>, &[LeafKey])) {
        let folder = tempfile::tempdir().unwrap();
        Golden::open("bert").write(folder.path(), Stored::F32);
        let model = Model::open(folder.path(), &OpenOptions::default()).unwrap();
        let parts = [Section::Embedding, Section::Head];
        let keys: Vec<_> = parts
            .into_iter()
            .flat_map(|part| end_keys(&model, 0, part))
            .collect();
        assert!(keys.len() > 3);
        let store = WeightStore::new(&model, Compute::F32, 1, keys.clone(), 0, false);
        store.begin_pass(false);
        store.begin_pass(true);
        check(&store, &keys);
    }

    fn read(store: &WeightStore<'_>, key: LeafKey, reuse: Option<PackedWeights>) {
        let mut staging = Staging::default();
        let weight = load::whole(store.model, key, store.compute, &mut staging, reuse);
        store.arrived(key, weight.unwrap());
    }

    /// Runs all that is left of the schedule as a phase that gets everything does.
    fn finish(store: &WeightStore<'_>, keys: &[LeafKey]) {
        for &key in keys {
            let (claimed, reuse) = store.claim().unwrap();
            assert_eq!(claimed, key);
            read(store, key, reuse);
            store.get(key).unwrap();
            store.release(&[key]);
        }
        assert!(store.claim().is_none());
        let state = store.lock();
        assert_eq!((state.live, state.slots.len()), (0, 0));
        assert!(state.passed.is_empty());
    }

    #[test]
    fn what_is_released_while_a_reader_is_at_it_does_not_stay() {
        with_store(|store, keys| {
            let (first, reuse) = store.claim().unwrap();
            store.release(&[first]);
            read(store, first, reuse);
            finish(store, &[&keys[1..], keys].concat());
        });
    }

    #[test]
    fn what_is_released_before_a_reader_comes_to_it_is_not_read() {
        with_store(|store, keys| {
            let (first, reuse) = store.claim().unwrap();
            // Nobody had a use for any of them.
            store.release(keys);
            read(store, first, reuse);
            finish(store, keys);
        });
        with_store(|store, keys| {
            let (first, reuse) = store.claim().unwrap();
            store.release(keys);
            // Two rounds behind.
            store.release(keys);
            read(store, first, reuse);
            finish(store, &[]);
        });
    }
}

//! What was read of the weights, by content: so that it is seen when they change.
//!
//! Rows of a weight are hashed as they are read, in groups that depend on the checkpoint alone, not on how
//! much is read at a time. The first time a group is whole its hash is kept, later it is compared: in another
//! super-batch, and in another process, which has the ledger from the journal. Rows that are looked up singly
//! have hashes of their own.
//!
//! The hash is XXH3 with 64 bits: it is there for files that are swapped, copied half or flipped, not against
//! somebody who forges them, and costs a fourth of BLAKE3.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hasher as _;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use twox_hash::XxHash3_64;

use crate::sample::first_bytes;

/// Bytes of a group at least.
const LEAST_GROUP: u64 = 64 << 10;
/// Groups of a checkpoint, about, where its weights are large.
const GROUPS: u64 = 1 << 15;
/// Groups that are read in part at a time, at most; beyond, some go unseen.
const MOST_OPEN: usize = 64;
/// How a saved ledger begins.
const FORMAT: u64 = u64::from_le_bytes(*b"ledger 2");

/// A weight was read that is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed;

/// The rows of one matrix that are in a buffer.
#[derive(Clone, Debug)]
pub(crate) struct ReadRows<'a> {
    /// Which weight, and which slice of it.
    pub weight: (u64, usize),
    /// Rows of the matrix.
    pub total: usize,
    pub rows: Range<usize>,
    /// Bytes that a row takes where it is stored: the groups of a checkpoint depend on these.
    pub stored_row: usize,
    /// What they are in the buffer.
    pub bytes: &'a [u8],
}

/// Hashes of what was read so far.
#[derive(Debug)]
pub struct Ledger {
    group_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: HashMap<u64, u64>,
    /// Groups of which the first rows were read.
    open: HashMap<(u64, usize), Open>,
    /// Of rows that were looked up singly; 0: not yet.
    rows: HashMap<u64, Vec<u32>>,
    /// Whether something is new since the ledger was saved.
    is_new: bool,
}

struct Open {
    /// The row that comes next.
    next: usize,
    hasher: XxHash3_64,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Ledger {
    /// An empty ledger of a checkpoint of so many bytes.
    pub fn new(stored_bytes: u64) -> Self {
        Self {
            group_bytes: (stored_bytes / GROUPS).next_power_of_two().max(LEAST_GROUP),
            state: Mutex::default(),
        }
    }

    /// What it holds at most, with one saved copy, for this many tensors and rows that are looked up; bytes.
    pub fn bytes(stored_bytes: u64, tensors: u64, rows: u64) -> u64 {
        let groups = stored_bytes / Self::new(stored_bytes).group_bytes + tensors;
        groups * 56 + rows * 8
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group_rows(&self, stored_row: usize) -> usize {
        (self.group_bytes as usize / stored_row.max(1)).max(1)
    }

    /// Hashes rows that were read one after another, and compares the groups that are whole with them.
    pub(crate) fn read(&self, read: &ReadRows<'_>) -> Result<(), Changed> {
        let row_bytes = read.bytes.len() / read.rows.len().max(1);
        let group_rows = self.group_rows(read.stored_row);
        let mut row = read.rows.start;
        while row < read.rows.end {
            let group = row / group_rows;
            let end = ((group + 1) * group_rows).min(read.total);
            let stop = end.min(read.rows.end);
            let bytes = &read.bytes
                [(row - read.rows.start) * row_bytes..(stop - read.rows.start) * row_bytes];
            let begins = row == group * group_rows;
            if begins && stop == end {
                self.whole(group_key(read.weight, group), XxHash3_64::oneshot(bytes))?;
            } else {
                let open = self.lock().open.remove(&read.weight);
                let open = if begins {
                    let hasher = XxHash3_64::new();
                    Some(Open { next: row, hasher })
                } else {
                    open.filter(|open| open.next == row)
                };
                if let Some(mut open) = open {
                    open.hasher.write(bytes);
                    open.next = stop;
                    if stop == end {
                        let key = group_key(read.weight, group);
                        self.whole(key, open.hasher.finish())?;
                    } else {
                        let mut state = self.lock();
                        if state.open.len() >= MOST_OPEN {
                            state.open.clear();
                        }
                        state.open.insert(read.weight, open);
                    }
                }
            }
            row = stop;
        }
        Ok(())
    }

    fn whole(&self, key: u64, digest: u64) -> Result<(), Changed> {
        let mut state = self.lock();
        match state.groups.entry(key) {
            Entry::Occupied(known) if *known.get() != digest => return Err(Changed),
            Entry::Occupied(_) => {}
            Entry::Vacant(vacant) => {
                vacant.insert(digest);
                state.is_new = true;
            }
        }
        Ok(())
    }

    /// Hashes rows that were looked up singly, one after another in `bytes`, and compares them.
    pub(crate) fn looked_up(
        &self,
        weight: (u64, usize),
        total: usize,
        rows: &[usize],
        bytes: &[u8],
    ) -> Result<(), Changed> {
        let row_bytes = (bytes.len() / rows.len().max(1)).max(1);
        let digest = |bytes: &[u8]| (XxHash3_64::oneshot(bytes) as u32).max(1);
        let digests: Vec<u32> = bytes.chunks_exact(row_bytes).map(digest).collect();
        let mut state = self.lock();
        let state = &mut *state;
        let known = state.rows.entry(group_key(weight, 0)).or_default();
        if known.len() < total {
            known.resize(total, 0);
        }
        for (&row, &digest) in rows.iter().zip(&digests) {
            match known.get_mut(row) {
                Some(known) if *known == 0 => {
                    *known = digest;
                    state.is_new = true;
                }
                Some(known) if *known != digest => return Err(Changed),
                _ => {}
            }
        }
        Ok(())
    }

    /// One hash of all groups of a matrix; `None` if not all of them were read.
    pub(crate) fn fold(
        &self,
        weight: (u64, usize),
        total: usize,
        stored_row: usize,
        into: &mut blake3::Hasher,
    ) -> Option<()> {
        let state = self.lock();
        for group in 0..total.div_ceil(self.group_rows(stored_row)) {
            let digest = state.groups.get(&group_key(weight, group))?;
            into.update(&digest.to_le_bytes());
        }
        Some(())
    }

    /// Everything in it, if something is new since it was last saved.
    pub fn save(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.is_new) {
            return None;
        }
        let mut words = vec![FORMAT, self.group_bytes, state.groups.len() as u64];
        words.extend(
            state
                .groups
                .iter()
                .flat_map(|(&key, &digest)| [key, digest]),
        );
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        for (key, digests) in &state.rows {
            bytes.extend(key.to_le_bytes());
            bytes.extend((digests.len() as u64).to_le_bytes());
            bytes.extend(digests.iter().flat_map(|digest| digest.to_le_bytes()));
        }
        Some(bytes)
    }

    /// Goes on with a saved ledger of the same checkpoint; one of another form is left aside, and `false`
    /// the result.
    pub fn restore(&self, saved: &[u8]) -> bool {
        let mut rest = saved;
        let mut word = || -> Option<u64> {
            let (word, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u64::from_le_bytes(*word))
        };
        let mut read = || -> Option<State> {
            if word()? != FORMAT || word()? != self.group_bytes {
                return None;
            }
            let mut state = State::default();
            for _ in 0..word()? {
                state.groups.insert(word()?, word()?);
            }
            Some(state)
        };
        let Some(mut state) = read() else {
            return false;
        };
        while !rest.is_empty() {
            let Some(([key, count], after)) = rest
                .split_first_chunk::<16>()
                .map(|(head, after)| (words(head), after))
            else {
                return false;
            };
            let Some((digests, after)) = usize::try_from(count)
                .ok()
                .and_then(|count| after.split_at_checked(count.checked_mul(4)?))
            else {
                return false;
            };
            let (digests, _) = digests.as_chunks::<4>();
            let digests = digests.iter().map(|digest| u32::from_le_bytes(*digest));
            state.rows.insert(key, digests.collect());
            rest = after;
        }
        *self.lock() = state;
        true
    }
}

fn words(head: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*head);
    [both as u64, (both >> 64) as u64]
}

fn group_key((weight, slice): (u64, usize), group: usize) -> u64 {
    let mut key = [0; 24];
    for (into, part) in key
        .chunks_exact_mut(8)
        .zip([weight, slice as u64, group as u64])
    {
        into.copy_from_slice(&part.to_le_bytes());
    }
    first_bytes(&blake3::hash(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: usize = 1000;
    const TOTAL: usize = 400;

    fn rows() -> Vec<u8> {
        (0..ROW * TOTAL).map(|at| (at * at / 7) as u8).collect()
    }

    /// Reads all rows in pieces of `step`.
    fn read(ledger: &Ledger, bytes: &[u8], step: usize) -> Result<(), Changed> {
        let mut start = 0;
        while start < TOTAL {
            let end = (start + step).min(TOTAL);
            ledger.read(&ReadRows {
                weight: (1, 0),
                total: TOTAL,
                rows: start..end,
                stored_row: ROW,
                bytes: &bytes[start * ROW..end * ROW],
            })?;
            start = end;
        }
        Ok(())
    }

    #[test]
    fn any_pieces_are_the_same_rows() {
        let (ledger, bytes) = (Ledger::new(1 << 20), rows());
        for step in [TOTAL, 1, 64, 65, 66, 399] {
            read(&ledger, &bytes, step).unwrap();
        }
        assert_eq!(ledger.lock().groups.len(), TOTAL.div_ceil(65));
        assert!(ledger.lock().open.is_empty());
        let again = Ledger::new(1 << 20);
        assert!(again.restore(&ledger.save().unwrap()));
        assert_eq!(ledger.save(), None);
        for step in [TOTAL, 1, 70] {
            for byte in [0, ROW * 65 - 1, ROW * 65, ROW * TOTAL - 1] {
                let mut other = bytes.clone();
                other[byte] ^= 1;
                assert_eq!(read(&again, &other, step), Err(Changed), "{step}, {byte}");
            }
            read(&again, &bytes, step).unwrap();
        }
    }

    #[test]
    fn rows_that_are_looked_up() {
        let (ledger, bytes) = (Ledger::new(1 << 20), rows());
        let look = |ledger: &Ledger, rows: &[usize], bytes: &[u8]| {
            let found: Vec<u8> = (rows.iter())
                .flat_map(|row| &bytes[row * ROW..(row + 1) * ROW])
                .copied()
                .collect();
            ledger.looked_up((2, 0), TOTAL, rows, &found)
        };
        look(&ledger, &[3, 399, 3], &bytes).unwrap();
        let again = Ledger::new(1 << 20);
        assert!(again.restore(&ledger.save().unwrap()));
        let mut other = bytes.clone();
        other[ROW * 399] ^= 1;
        look(&again, &[3, 4], &other).unwrap();
        assert_eq!(look(&again, &[4, 399], &other), Err(Changed));
        look(&again, &[4, 399], &bytes).unwrap();
    }

    #[test]
    fn what_is_no_ledger_is_left_aside() {
        let ledger = Ledger::new(1 << 20);
        read(&ledger, &rows(), 100).unwrap();
        ledger.looked_up((2, 0), 2, &[1], &[7; 8]).unwrap();
        let saved = ledger.save().unwrap();
        for end in 0..saved.len() {
            assert!(
                !Ledger::new(1 << 20).restore(&saved[..end]) || end == saved.len() - 24,
                "{end}"
            );
        }
        assert!(!Ledger::new(1 << 40).restore(&saved));
    }
}

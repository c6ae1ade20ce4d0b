//! What may be held before the first weight is read: by the tokenizer and by the record at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is so small that the program's own share covers it, bytes.
const SMALL: u64 = 2 << 20;
/// What texts and records may use in any case while they become tokens, bytes: a run takes more later on.
pub const WORKING_BYTES: u64 = 16 << 20;

/// The memory that preparation may take, and what it holds of it.
#[derive(Clone, Debug)]
pub struct Allowance {
    given: u64,
    held: u64,
    /// The smallest budget that holds what was asked for so far; shared with the copies.
    needed: Arc<AtomicU64>,
}

impl Allowance {
    /// Of a budget, beside what the program itself holds; both in bytes.
    pub fn new(given: u64, program: u64) -> Self {
        Self {
            given,
            held: program,
            needed: Arc::default(),
        }
    }

    /// No limit.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, 0)
    }

    /// `--memory`, bytes.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// The smallest budget with which all that was asked for, of this and its copies, would have been
    /// allowed, bytes; 0 if any would.
    pub fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// What the process may hold while it prepares records, bytes: the budget, or what every budget holds
    /// with which a run works.
    pub fn ceiling(&self) -> u64 {
        self.given.max(self.held.saturating_add(WORKING_BYTES / 2))
    }

    /// Holds `bytes` more from now on, beside what records are prepared in; if they do not fit, the budget
    /// that would hold them.
    pub fn take(&mut self, bytes: u64) -> Result<(), u64> {
        let held = self.held.saturating_add(bytes);
        let needed = held.saturating_add(WORKING_BYTES);
        // What is small is for the plan to judge, which knows the rest of the run too.
        if bytes > SMALL {
            self.ask(needed)?;
        }
        self.held = held;
        Ok(())
    }

    /// Whether records and texts may hold `bytes` for a while; if they may not, the budget that would hold
    /// them.
    pub fn check(&self, bytes: u64) -> Result<(), u64> {
        let needed = self.held.saturating_add(bytes);
        if bytes > WORKING_BYTES {
            self.ask(needed)?;
        }
        Ok(())
    }

    fn ask(&self, needed: u64) -> Result<(), u64> {
        self.needed.fetch_max(needed, Ordering::Relaxed);
        if needed > self.given {
            return Err(needed);
        }
        Ok(())
    }

    /// The most that [`Self::check`] allows, bytes.
    pub fn most(&self) -> u64 {
        self.given.saturating_sub(self.held).max(WORKING_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::{Allowance, WORKING_BYTES};

    #[test]
    fn what_fits() {
        let mut allowance = Allowance::new(100 << 20, 50 << 20);
        let copy = allowance.clone();
        assert_eq!(allowance.take(1 << 20), Ok(()));
        assert_eq!(copy.needed(), 0);
        assert_eq!(allowance.take(29 << 20), Ok(()));
        assert_eq!(copy.needed(), (80 << 20) + WORKING_BYTES);
        assert_eq!(allowance.check(20 << 20), Ok(()));
        assert_eq!(allowance.check(allowance.most()), Ok(()));
        assert_eq!(copy.needed(), 100 << 20);
        assert_eq!(allowance.check(allowance.most() + 1), Err((100 << 20) + 1));
        assert_eq!(allowance.take(21 << 20), Err((101 << 20) + WORKING_BYTES));
        let mut tiny = Allowance::new(1, 50 << 20);
        assert_eq!(tiny.check(WORKING_BYTES), Ok(()));
        assert_eq!(tiny.take(1 << 20), Ok(()));
        assert_eq!(Allowance::unlimited().check(u64::MAX), Ok(()));
    }
}

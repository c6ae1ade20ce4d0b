//! Who has something done: a command line, an interpreter.

use sli_engine::{EngineError, Observer};
use sli_remote::Progress;

use crate::error::Error;

/// Is told how the work gets on, and may end it ([`Observer::interrupted`]).
///
/// Nothing of [`crate::job`], `place` and [`crate::calls`] prints: what people should know is said to the host.
pub trait Host: Observer {
    /// So many records of the dataset have become so many tokens.
    fn preparing(&self, records: u64, tokens: u64);
    /// So much of what is elsewhere has arrived, which is waited for.
    fn arriving(&self, progress: Progress);
    /// What was prepared or waited for is there.
    fn settled(&self) {}
    /// These bytes of a model that is elsewhere are to come.
    fn fetching(&self, bytes: u64, place: &str);
    /// From here on the same call goes on where this one ends early; so many records of all are done already, where it goes
    /// on itself.
    fn begun(&self, done: Option<(u64, u64)>);
    /// Bytes that the process holds for other purposes, which the budget covers too.
    fn bytes(&self) -> u64 {
        0
    }
}

/// Ends what is done where the host says so.
pub fn check(host: &dyn Host) -> Result<(), Error> {
    if host.interrupted() {
        return Err(EngineError::Interrupted.into());
    }
    Ok(())
}

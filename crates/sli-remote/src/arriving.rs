//! Bytes as they arrive on a line.

use std::io::{self, Read};

use crate::client::Trouble;
use crate::error::RemoteError;
use crate::store::{Entry, Store};

/// Fetches a range of a file and keeps nothing of it.
pub(crate) fn past(
    store: &dyn Store,
    entry: &Entry,
    offset: u64,
    out: &mut [u8],
) -> Result<(), RemoteError> {
    let place = store.describe();
    let mut waits = store.client().waits(&place);
    let end = offset + out.len() as u64;
    let mut filled = 0;
    while filled < out.len() {
        let before = filled;
        let tried = store
            .open(entry, offset + filled as u64..end)
            .and_then(|mut arriving| {
                while filled < out.len() {
                    let count = some(&mut arriving, &mut out[filled..])?;
                    filled += count;
                    store.client().note_received(count as u64);
                }
                Ok(())
            });
        if filled > before {
            waits.progress();
        }
        if let Err(trouble) = tried {
            waits.after(trouble)?;
        }
    }
    Ok(())
}

/// At least one byte more.
pub(crate) fn some(arriving: &mut impl Read, out: &mut [u8]) -> Result<usize, Trouble> {
    loop {
        match arriving.read(out) {
            Ok(0) => return Err(Trouble::passing("the connection ended early")),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::passing(format!("the connection failed: {error}"))),
        }
    }
}

//! What commands that go on with earlier work have in common.

use std::path::Path;

use crate::error::Error;
use crate::host::Host;

/// Does something, `fresh` or going on with what is there; where that was replaced, the host hears that `what` starts over.
pub(super) fn or_afresh<T>(
    fresh: bool,
    what: &str,
    host: &dyn Host,
    mut work: impl FnMut(bool) -> Result<T, Error>,
) -> Result<T, Error> {
    match work(fresh) {
        Err(error) if error.is_replaced() => {
            host.warning(&format!("{error}; {what} starts over"));
            work(true)
        }
        outcome => outcome,
    }
}

/// The error of a file or folder with which something failed.
pub(super) fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        what,
        path: path.clone(),
        source,
    }
}

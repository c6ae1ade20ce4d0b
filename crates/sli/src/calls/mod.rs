//! What commands do, without a word on the terminal: what the program and the Python package have in common.

mod again;
mod architectures;
mod batch;
mod diff;
mod export;
mod inspect;
mod plan;
mod run;
mod verify;

pub use architectures::{Listed, architectures, facts};
pub use batch::{Answered, batch};
pub use diff::diff;
pub use export::export;
pub use inspect::{Coverage, Inspected, Inspection, inspect};
pub use plan::{Laid, lay, report};
pub use run::{Done, Ran, run};
pub use verify::verify;

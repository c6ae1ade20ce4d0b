//! `sli export`: hidden states of a finished run in the files of other tools.
//!
//! speculators trains drafting models on a file of hidden states a record beside a dataset of token ids; `SAELens` trains sparse
//! autoencoders on a dataset of activations a hook. Both say which records they are of by their order. Files are complete when they
//! have their names; those that are there are not made again.

mod asked;
mod dataset;
pub mod error;
mod mark;
mod new_file;
mod records;
mod saelens;
mod speculators;
mod states;

pub use self::asked::{Export, Exported, Format};
pub use self::error::ExportError;
use self::states::States;

/// Writes the files, or those that are missing.
pub fn export(asked: &Export<'_>) -> Result<Exported, ExportError> {
    let states = States::open(asked.results)?;
    // Nothing is begun of results that have not everything.
    records::table(asked.results)?;
    match asked.format {
        Format::Speculators => speculators::write(asked, &states),
        Format::SaeLens => saelens::write(asked, &states),
    }
}

//! Hidden states in the files of other tools.

use crate::cli::{ExportArgs, FormatArg};
use crate::error::Error;
use crate::export::{Export, Exported, Format, export as write};

/// Exports results, or goes on with it.
pub fn export(arguments: &ExportArgs) -> Result<Exported, Error> {
    let asked = Export {
        results: &arguments.results,
        format: match arguments.format {
            FormatArg::Speculators => Format::Speculators,
            FormatArg::Saelens => Format::SaeLens,
        },
        context_size: arguments.context_size,
        out: &arguments.out,
    };
    Ok(write(&asked)?)
}

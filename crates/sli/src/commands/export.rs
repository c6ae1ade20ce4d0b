//! `sli export`: hidden states in the files of other tools.

use crate::cli::ExportArgs;
use crate::error::Error;
use crate::export::Exported;
use crate::progress::count;
use crate::{calls, interrupt, terminal};

/// Exports, or goes on with it.
pub fn export(arguments: &ExportArgs) -> Result<(), Error> {
    interrupt::resumable();
    let Exported {
        rows,
        kept,
        left_out,
    } = calls::export(arguments)?;
    let there = match kept {
        0 => String::new(),
        kept => format!(", {} files were there", count(kept)),
    };
    terminal::say(&format!(
        "{} {} rows into {}{there}",
        terminal::bold("exported"),
        count(rows),
        arguments.out.display(),
    ));
    if left_out > 0 {
        terminal::say(&format!(
            "{} records, or their ends, have no place in these files",
            count(left_out)
        ));
    }
    Ok(())
}

//! `sli report`: a page about results.

use crate::cli::ReportArgs;
use crate::error::Error;
use crate::{report, terminal};

/// Writes the page.
pub fn report(arguments: &ReportArgs) -> Result<(), Error> {
    let path = report::write(&arguments.results, arguments.out.as_deref())?;
    terminal::say(&format!(
        "{} {}",
        terminal::bold("report  "),
        path.display()
    ));
    Ok(())
}

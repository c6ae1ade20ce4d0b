//! `sli batch`: the requests of a batch file, answered in one pass over the model.

use super::run::close;
use crate::calls::{self, Answered};
use crate::cli::BatchArgs;
use crate::error::Error;
use crate::progress::{Screen, count};
use crate::terminal;

/// Answers every request of a file.
pub fn batch(arguments: &BatchArgs) -> Result<(), Error> {
    let screen = Screen::default();
    let Answered {
        lines,
        refused,
        done,
    } = calls::batch(arguments, &screen)?;
    drop(screen);
    if let Some(done) = done {
        close(&done);
    }
    let kind = if lines == 1 { "line" } else { "lines" };
    terminal::say(&format!(
        "{} {} {kind} in {}",
        terminal::bold("answers "),
        count(lines),
        arguments.output.display()
    ));
    if refused > 0 {
        let refused = count(refused);
        terminal::warn(format_args!(
            "{refused} of them are no requests that can be answered; their lines say why"
        ));
    }
    Ok(())
}

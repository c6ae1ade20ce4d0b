//! What the program says: data on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::ProgressBar;

use crate::error::Error;

/// The bar on the screen, so that messages appear above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes data to stdout. A reader that has gone away (`| head`) ends the program without a word.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.map_err(Error::Stdout),
    }
}

/// Writes a value as indented JSON to stdout.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Stdout(io::Error::other(error)))?;
    print(&(text + "\n"))
}

/// Says something to the people at the terminal.
pub fn say(text: &str) {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let write = || {
        let _ = writeln!(io::stderr().lock(), "{text}");
    };
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Says what may be wrong.
pub fn warn(text: impl Display) {
    say(&format!("{} {text}", styled("warning:", AnsiColor::Yellow)));
}

/// Says what went wrong, why, and what to do about it.
pub fn report(error: &Error) {
    let mut text = format!("{} {error}", styled("error:", AnsiColor::Red));
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let message = error.to_string();
        if !said.contains(&message) {
            text = format!("{text}\n  because: {message}");
            said = message;
        }
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        text = format!("{text}\n{} {hint}", styled("hint:", AnsiColor::Cyan));
    }
    say(&text);
}

/// A heading or a number that stands out.
pub fn bold(text: &str) -> String {
    paint(text, Style::new().bold())
}

fn styled(text: &str, color: AnsiColor) -> String {
    paint(text, color.on_default().bold())
}

fn paint(text: &str, style: Style) -> String {
    if has_colors() {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// Whether stderr shows colours: a terminal, and nobody said no.
fn has_colors() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !set("NO_COLOR") && !dumb
}

/// Shows a bar until the result is dropped.
pub fn show_bar(bar: ProgressBar) -> ShownBar {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    ShownBar
}

/// A bar that is on the screen.
pub struct ShownBar;

impl Drop for ShownBar {
    fn drop(&mut self) {
        clear_bar();
    }
}

/// Removes the bar from the screen.
pub fn clear_bar() {
    if let Some(bar) = BAR.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

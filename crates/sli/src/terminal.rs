//! What the program says: data on stdout, everything else on stderr.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use clap::builder::styling::{AnsiColor, Style};
use clap::error::ErrorKind;
use indicatif::ProgressBar;

use crate::error::Error;

/// The bar on the screen, so that messages appear above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes data to stdout, control characters of other people's names escaped. A reader that has gone
/// away (`| head`) ends the program without a word.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(printable(text).as_bytes())
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
    let text = text.to_string();
    say(&format!(
        "{} {}",
        styled("warning:", AnsiColor::Yellow),
        printable(&text)
    ));
}

/// Says what is good to know.
pub fn note(text: impl Display) {
    let text = text.to_string();
    say(&format!(
        "{} {}",
        styled("note:", AnsiColor::Cyan),
        printable(&text)
    ));
}

/// Says what went wrong, why, and what to do about it.
pub fn report(error: &Error) {
    say(&format!(
        "{} {}\n{} {}",
        styled("error:", AnsiColor::Red),
        printable(&error.explained()),
        styled("hint:", AnsiColor::Cyan),
        printable(&error.hint())
    ));
}

/// Ends the program for a command line that asks for help or makes no sense.
pub fn refuse(error: &clap::Error) -> ! {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        error.exit();
    }
    let text = error.render();
    let text = if has_colors() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    let text = match text.rfind("For more information") {
        Some(end) => &text[..end],
        None => &text,
    };
    say(&format!(
        "{}\n{} `sli COMMAND --help` explains every flag",
        text.trim_end(),
        styled("hint:", AnsiColor::Cyan)
    ));
    std::process::exit(error.exit_code());
}

/// A text without control characters: names in files of other people must not command the terminal.
fn printable(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(commands) {
        return text.into();
    }
    let mut printable = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if commands(c) {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable.into()
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

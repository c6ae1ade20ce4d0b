//! Where a command is, for the people watching it.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use sli_engine::bytes::human;
use sli_engine::{Event, Observer};

use crate::host::Host;
use crate::interrupt;
use crate::terminal::{self, ShownBar};

const TEMPLATE: &str = "{msg} {wide_bar:.cyan/dim} {percent:>3} %  {left}";
/// Where there is no room for a bar: what matters most comes first, the rest is cut off.
const NARROW_TEMPLATE: &str = "{percent:>3} % · {left} · {wide_msg}";
/// While the dataset becomes tokens nobody knows how much of it there is.
const SPINNER_TEMPLATE: &str = "{spinner} {wide_msg}";
/// Columns from which on there is room for a bar.
const WIDE: u16 = 110;

/// What the process holds beside the program, bytes.
static HOST_BYTES: AtomicU64 = AtomicU64::new(0);

/// Says what the process holds beside the program, bytes; once, before a command begins.
pub fn set_host_bytes(bytes: u64) {
    HOST_BYTES.store(bytes, Ordering::Relaxed);
}

/// The terminal as host of a command: one bar at a time where people watch, messages above it.
#[derive(Default)]
pub struct Screen(Mutex<Option<Bar>>);

/// What is on the screen.
enum Bar {
    Arriving(Download),
    Preparing(Spinner),
    Running(Progress),
}

impl Screen {
    /// The bar, which `make` makes where it is another one that is shown.
    fn show(
        &self,
        is_it: impl Fn(&Bar) -> bool,
        make: impl FnOnce() -> Bar,
        say: impl FnOnce(&Bar),
    ) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.as_ref().is_some_and(is_it) {
            // The old one takes what is on the screen with it.
            *shown = None;
            *shown = Some(make());
        }
        shown.as_ref().map(say);
    }
}

impl Observer for Screen {
    fn event(&self, event: &Event<'_>) {
        let is_it = |bar: &Bar| matches!(bar, Bar::Running(_));
        self.show(
            is_it,
            || Bar::Running(Progress::new()),
            |bar| {
                if let Bar::Running(bar) = bar {
                    bar.show(event);
                }
            },
        );
    }

    fn warning(&self, text: &str) {
        terminal::warn(text);
    }

    fn note(&self, text: &str) {
        terminal::note(text);
    }
}

impl Host for Screen {
    fn preparing(&self, records: u64, tokens: u64) {
        let is_it = |bar: &Bar| matches!(bar, Bar::Preparing(_));
        self.show(
            is_it,
            || Bar::Preparing(Spinner::new()),
            |bar| {
                if let Bar::Preparing(bar) = bar {
                    bar.show(records, tokens);
                }
            },
        );
    }

    fn arriving(&self, progress: sli_remote::Progress) {
        let is_it = |bar: &Bar| matches!(bar, Bar::Arriving(_));
        self.show(
            is_it,
            || Bar::Arriving(Download::new()),
            |bar| {
                if let Bar::Arriving(bar) = bar {
                    bar.show(progress);
                }
            },
        );
    }

    fn settled(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fetching(&self, bytes: u64, place: &str) {
        terminal::say(&format!(
            "{} {} of {place}",
            terminal::bold("fetching"),
            human(bytes)
        ));
    }

    fn begun(&self, done: Option<(u64, u64)>) {
        interrupt::resumable();
        if let Some((done, records)) = done {
            terminal::say(&format!(
                "going on after {} of {} records",
                count(done),
                count(records)
            ));
        }
    }

    fn bytes(&self) -> u64 {
        HOST_BYTES.load(Ordering::Relaxed)
    }
}

/// A bar on a terminal, and nothing elsewhere.
struct Progress {
    bar: ProgressBar,
    /// When the first event came, and the work that was done by then.
    start: Mutex<Option<(Instant, u64)>>,
    _shown: ShownBar,
}

impl Progress {
    /// Shows the bar.
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), target());
        let left = |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{} left", duration(state.eta()));
        };
        let wide = console::Term::stderr().size().1 >= WIDE;
        let template = if wide { TEMPLATE } else { NARROW_TEMPLATE };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.with_key("left", left).progress_chars("━╸─"));
        }
        let shown = terminal::show_bar(bar.clone());
        Self {
            bar,
            start: Mutex::new(None),
            _shown: shown,
        }
    }

    /// Tokens a second since the first event.
    fn rate(&self, event: &Event<'_>) -> Option<f64> {
        let mut start = self.start.lock().ok()?;
        let (time, done) = *start.get_or_insert_with(|| (Instant::now(), event.token_layers_done));
        let layers = event.token_layers as f64 / event.tokens.max(1) as f64;
        let seconds = time.elapsed().as_secs_f64();
        (seconds > 0.5 && layers > 0.0).then(|| {
            (event.token_layers_done - done.min(event.token_layers_done)) as f64 / layers / seconds
        })
    }

    /// Updates the bar.
    fn show(&self, event: &Event<'_>) {
        let rate = self.rate(event);
        if self.bar.is_hidden() {
            return;
        }
        let rate = rate.map_or_else(String::new, |rate| {
            format!(" · {} tokens/s", count(rate as u64))
        });
        self.bar.set_length(event.token_layers);
        self.bar.set_position(event.token_layers_done);
        self.bar.set_message(format!(
            "{} layer {}/{} · {}/{} records{rate} · {} read",
            event.stack,
            event.layer,
            event.layers,
            count(event.records_done as u64),
            count(event.records as u64),
            human(event.bytes_read),
        ));
    }
}

/// Shows on a terminal how much of a model has arrived.
struct Download {
    bar: ProgressBar,
    began: Instant,
    _shown: ShownBar,
}

impl Download {
    /// Shows the bar, unless the environment says that none is wanted.
    fn new() -> Self {
        let target = if sli_remote::Settings::from_env().is_ok_and(|settings| settings.without_bars)
        {
            ProgressDrawTarget::hidden()
        } else {
            target()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar:.cyan/dim} {percent:>3} %")
        {
            bar.set_style(style.progress_chars("━╸─"));
        }
        let shown = terminal::show_bar(bar.clone());
        Self {
            bar,
            began: Instant::now(),
            _shown: shown,
        }
    }

    /// Updates the bar.
    fn show(&self, progress: sli_remote::Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let rate = progress.received as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_length(progress.wanted);
        self.bar.set_position(progress.there);
        let (there, wanted) = (human(progress.there), human(progress.wanted));
        self.bar
            .set_message(format!("{there} of {wanted} · {}/s", human(rate as u64)));
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows on a terminal how much of the dataset has become tokens.
struct Spinner {
    bar: ProgressBar,
    _shown: ShownBar,
}

impl Spinner {
    /// Shows the line.
    fn new() -> Self {
        Self::on(target())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template(SPINNER_TEMPLATE) {
            bar.set_style(style);
        }
        let shown = terminal::show_bar(bar.clone());
        Self { bar, _shown: shown }
    }

    /// Updates the line.
    fn show(&self, records: u64, tokens: u64) {
        if !self.bar.is_hidden() {
            let (records, tokens) = (count(records), count(tokens));
            self.bar.set_message(format!(
                "reading the input: {records} records, {tokens} tokens"
            ));
            self.bar.tick();
        }
    }
}

/// Stderr if people watch it, on a terminal that can take a line back.
fn target() -> ProgressDrawTarget {
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    if io::stderr().is_terminal() && !dumb {
        ProgressDrawTarget::stderr_with_hz(5)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// A whole number with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as people say it: `40 ms`, `1.5 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis().max(1)),
        1..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::{Spinner, count, duration};

    /// A terminal that keeps what is written on it.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn reading_the_input_says_how_far_it_is() {
        let screen = Screen::default();
        let spinner = Spinner::on(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        spinner.show(1200, 34_567);
        drop(spinner);
        let written = screen.0.lock().unwrap();
        let says = "reading the input: 1,200 records, 34,567 tokens";
        assert!(written.contains(says), "{written}");
    }

    #[test]
    fn numbers_read_well() {
        let counts = [0, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "1,234,567"]);
        let times = [40, 9_940, 59_900, 185_000, 7_620_000]
            .map(Duration::from_millis)
            .map(duration);
        assert_eq!(
            times,
            ["40 ms", "9.9 s", "59 s", "3 min 05 s", "2 h 07 min"]
        );
    }
}

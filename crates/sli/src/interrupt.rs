//! Ctrl-C: results up to the last checkpoint are on the device at any moment, so the program just ends.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::terminal;

/// Exit code after Ctrl-C.
const INTERRUPTED: i32 = 130;

static RESUMABLE: AtomicBool = AtomicBool::new(false);

/// Ends the program with 130 on SIGINT; for the start of `main`.
pub fn install() {
    let handler = || {
        terminal::clear_bar();
        if RESUMABLE.load(Ordering::Relaxed) {
            terminal::say(
                "interrupted; run the same command again to go on from the last checkpoint",
            );
        } else {
            terminal::say("interrupted");
        }
        std::process::exit(INTERRUPTED);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        terminal::warn(format_args!(
            "Ctrl-C ends the program without a message: {error}"
        ));
    }
}

/// From here on the same command goes on where this one is interrupted.
pub fn resumable() {
    RESUMABLE.store(true, Ordering::Relaxed);
}

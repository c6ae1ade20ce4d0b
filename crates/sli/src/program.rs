//! The `sli` program: from a command line to an exit code.

use std::ffi::OsString;
use std::sync::Once;

use clap::Parser;

use crate::cli::Cli;
use crate::{commands, guard, interrupt, progress, terminal};

/// Does what the command line says, whose first argument is the program's name. `host_bytes`: what the process holds beside
/// the program, if that is not all of it.
pub fn main(arguments: impl IntoIterator<Item = OsString>, host_bytes: u64) -> i32 {
    settle();
    progress::set_host_bytes(host_bytes);
    interrupt::install();
    let cli = Cli::try_parse_from(arguments).unwrap_or_else(|error| terminal::refuse(&error));
    match commands::execute(cli) {
        Ok(()) => 0,
        Err(error) => {
            terminal::clear_bar();
            terminal::report(&error);
            error.exit_code()
        }
    }
}

/// What a process needs before anything runs in it; only the first call does something.
pub fn settle() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sli_kernels::return_large_blocks();
        sli_kernels::survive_file_size_limit();
        guard::install_hook();
    });
}

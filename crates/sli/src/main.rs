//! The `sli` program.

use std::process::exit;

use clap::Parser;
use sli::cli::Cli;
use sli::{commands, guard, interrupt, terminal};

fn main() {
    sli_kernels::return_large_blocks();
    sli_kernels::survive_file_size_limit();
    guard::install_hook();
    interrupt::install();
    let cli = Cli::try_parse().unwrap_or_else(|error| terminal::refuse(&error));
    if let Err(error) = commands::execute(cli) {
        terminal::clear_bar();
        terminal::report(&error);
        exit(error.exit_code());
    }
}

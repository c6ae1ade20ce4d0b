//! The subcommands, one file each.

mod architectures;
mod batch;
mod bench;
mod cache;
mod diff;
mod download;
mod export;
mod inspect;
mod merge;
mod plan;
mod reading;
mod report;
mod run;
mod table;
mod verify;

use clap::CommandFactory;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::terminal;

/// Does what the command line says.
pub fn execute(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Batch(arguments) => batch::batch(&arguments),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Merge(arguments) => merge::merge(&arguments),
        Command::Report(arguments) => report::report(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Bench(arguments) => bench::bench(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Download(arguments) => download::download(&arguments),
        Command::Cache(arguments) => cache::cache(&arguments),
        Command::Architectures(arguments) => architectures::architectures(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sli", &mut script);
            terminal::print(&String::from_utf8_lossy(&script))
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(Error::Stdout)?;
            terminal::print(&String::from_utf8_lossy(&page))
        }
    }
}

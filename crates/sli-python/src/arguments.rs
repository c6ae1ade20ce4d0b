//! Arguments of the command line, as the command's own table of flags understands them.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;
use pyo3::prelude::*;
use sli::cli::{
    BatchArgs, Cli, Command, DiffArgs, ExportArgs, InspectArgs, MergeArgs, PlanArgs, ReportArgs,
    RunArgs, VerifyArgs,
};

use crate::errors;

fn parse(py: Python<'_>, command: &str, arguments: Vec<OsString>) -> PyResult<Command> {
    let begin = ["sli", command].map(OsString::from);
    Cli::try_parse_from(begin.into_iter().chain(arguments))
        .map(|cli| cli.command)
        .map_err(|error| errors::usage(py, &problem(&error)))
}

/// What is wrong, without the lines for people at a terminal.
fn problem(error: &clap::Error) -> String {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return "`help` and `version` are for the command line".to_owned();
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = ["\n\nUsage:", "\n\nFor more information"]
        .iter()
        .filter_map(|mark| text.find(mark))
        .min()
        .unwrap_or(text.len());
    text[..end].trim_end().to_owned()
}

/// A function for the arguments of each command.
macro_rules! commands {
    ($($name:ident: $command:ident($arguments:ident), $what:literal;)*) => {$(
        #[doc = concat!("`sli ", stringify!($name), "`.")]
        pub fn $name(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<$arguments> {
            match parse(py, stringify!($name), arguments)? {
                Command::$command(arguments) => Ok(arguments),
                _ => Err(errors::usage(py, concat!("not the arguments of ", $what))),
            }
        }
    )*};
}

commands! {
    run: Run(RunArgs), "a run";
    diff: Diff(DiffArgs), "a comparison";
    plan: Plan(PlanArgs), "a plan";
    inspect: Inspect(InspectArgs), "an inspection";
    batch: Batch(BatchArgs), "a batch";
    merge: Merge(MergeArgs), "a merge";
    report: Report(ReportArgs), "a report";
    export: Export(ExportArgs), "an export";
    verify: Verify(VerifyArgs), "a verification";
}

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

/// `sli run`.
pub fn run(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<RunArgs> {
    match parse(py, "run", arguments)? {
        Command::Run(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a run")),
    }
}

/// `sli diff`.
pub fn diff(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<DiffArgs> {
    match parse(py, "diff", arguments)? {
        Command::Diff(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a comparison")),
    }
}

/// `sli plan`.
pub fn plan(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<PlanArgs> {
    match parse(py, "plan", arguments)? {
        Command::Plan(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a plan")),
    }
}

/// `sli inspect`.
pub fn inspect(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<InspectArgs> {
    match parse(py, "inspect", arguments)? {
        Command::Inspect(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of an inspection")),
    }
}

/// `sli batch`.
pub fn batch(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<BatchArgs> {
    match parse(py, "batch", arguments)? {
        Command::Batch(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a batch")),
    }
}

/// `sli merge`.
pub fn merge(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<MergeArgs> {
    match parse(py, "merge", arguments)? {
        Command::Merge(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a merge")),
    }
}

/// `sli report`.
pub fn report(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<ReportArgs> {
    match parse(py, "report", arguments)? {
        Command::Report(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a report")),
    }
}

/// `sli export`.
pub fn export(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<ExportArgs> {
    match parse(py, "export", arguments)? {
        Command::Export(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of an export")),
    }
}

/// `sli verify`.
pub fn verify(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<VerifyArgs> {
    match parse(py, "verify", arguments)? {
        Command::Verify(arguments) => Ok(arguments),
        _ => Err(errors::usage(py, "not the arguments of a verification")),
    }
}

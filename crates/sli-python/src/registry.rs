//! What there is: model types, and arguments.

use clap::{ArgAction, CommandFactory};
use pyo3::prelude::*;
use sli::cli::Cli;

use crate::errors;

/// `sli architectures`, as JSON.
#[pyfunction]
pub fn architectures(py: Python<'_>) -> PyResult<String> {
    let all = sli::calls::architectures().map_err(|error| errors::raised(py, &error))?;
    serde_json::to_string(&all).map_err(|error| errors::internal(py, &error.to_string()))
}

/// The flags of a command: name, whether it takes a value, whether it may be repeated, the values that it takes where those are
/// listed, and what it is for.
#[pyfunction]
pub fn flags(command: &str) -> Vec<(String, bool, bool, Vec<String>, String)> {
    let mut cli = Cli::command();
    cli.build();
    let Some(command) = cli.find_subcommand(command) else {
        return Vec::new();
    };
    let flags = command.get_arguments().filter_map(|argument| {
        let name = argument.get_long()?;
        let takes = argument.get_action().takes_values();
        let repeats = matches!(argument.get_action(), ArgAction::Append);
        let possible = argument.get_possible_values();
        let values = possible.iter().map(|value| value.get_name().to_owned());
        let values = if takes { values.collect() } else { Vec::new() };
        let help = argument.get_help().map(ToString::to_string);
        Some((
            name.to_owned(),
            takes,
            repeats,
            values,
            help.unwrap_or_default(),
        ))
    });
    flags.filter(|(name, ..)| name != "help").collect()
}

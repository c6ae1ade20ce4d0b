//! `crates/sli-python/python/sli/_flags.py`: the flags of the commands as keyword arguments. `UPDATE_DOCS=1` writes it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, ArgAction, CommandFactory};
use sli::cli::Cli;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../sli-python/python/sli/_flags.py"
);

const HEAD: &str = r#""""Keyword arguments that are flags of the commands. Written by a test: ``UPDATE_DOCS=1 cargo test -p sli --test python_flags``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union
"#;

/// What the functions have in another form, or what means nothing in them.
const OWN: [&str; 5] = ["help", "input", "out", "output", "json"];
/// What they name themselves.
const OF_A_RUN: &[&str] = &["take", "memory", "threads", "compute", "max-length"];

const OF_A_VERIFICATION: &[&str] = &[
    "against",
    "receipt",
    "tolerance",
    "memory",
    "threads",
    "compute",
    // Refused there.
    "max-length",
];

/// Commands, their classes, and what their functions name themselves.
const CLASSES: [(&str, &str, &[&str]); 5] = [
    ("run", "RunFlags", OF_A_RUN),
    ("batch", "BatchFlags", OF_A_RUN),
    ("diff", "DiffFlags", OF_A_RUN),
    ("inspect", "InspectFlags", &[]),
    ("verify", "VerifyFlags", OF_A_VERIFICATION),
];

/// The type of a keyword argument.
fn kind(name: &str, argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if !argument.get_action().takes_values() {
        "bool".into()
    } else if !values.is_empty() {
        let values = values.iter().map(|value| format!("{:?}", value.get_name()));
        format!("Literal[{}]", values.collect::<Vec<_>>().join(", "))
    } else if matches!(argument.get_action(), ArgAction::Append) {
        "Union[str, Sequence[str], Mapping[str, Any]]".into()
    } else if name == "shard" {
        "Union[str, tuple[int, int]]".into()
    } else {
        "Union[str, int, float]".into()
    }
}

/// A text as a comment, in lines of 112 characters.
fn comment(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.replace('\\', "\\\\").split_whitespace() {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.len() + word.len() >= 112 {
            lines.push(word.to_owned());
        } else {
            let space = if line.is_empty() { "" } else { " " };
            write!(line, "{space}{word}").unwrap();
        }
    }
    format!("    \"\"\"{}.\"\"\"\n", lines.join("\n    "))
}

fn generated() -> String {
    let mut cli = Cli::command();
    cli.build();
    let mut file = HEAD.to_owned();
    for (command, class, named) in CLASSES {
        write!(file, "\n\nclass {class}(TypedDict, total=False):\n").unwrap();
        write!(file, "    \"\"\"Flags of ``sli {command}``.\"\"\"\n\n").unwrap();
        let command = cli.find_subcommand(command).unwrap();
        let flags = command.get_arguments();
        let mut flags: Vec<(&str, &Arg)> = flags
            .filter_map(|argument| Some((argument.get_long()?, argument)))
            .filter(|(name, _)| !OWN.contains(name) && !named.contains(name))
            .collect();
        flags.sort_by_key(|(name, _)| *name);
        for (name, argument) in flags {
            let help = argument.get_help().map(ToString::to_string);
            let keyword = name.replace('-', "_");
            writeln!(file, "    {keyword}: {}", kind(name, argument)).unwrap();
            file += &comment(&help.unwrap_or_default());
        }
    }
    file
}

#[test]
fn the_flags_of_the_python_package_are_those_of_the_commands() {
    let (path, expected) = (Path::new(FILE), generated());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(path, &expected).unwrap();
    }
    let found = fs_err::read_to_string(path).unwrap();
    assert!(
        found == expected,
        "_flags.py is stale: UPDATE_DOCS=1 cargo test -p sli --test python_flags"
    );
}

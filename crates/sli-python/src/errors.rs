//! Errors as the exceptions of `sli._errors`.

use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use sli::Error;
use sli::finished_table::TableError;
use sli_engine::EngineError;
use sli_spec::SpecError;

/// Where the classes are.
const MODULE: &str = "sli._errors";

/// The exception for an error of a command.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.explained();
    if matches!(error, Error::Engine(EngineError::Interrupted)) {
        return PyKeyboardInterrupt::new_err(message);
    }
    make(
        py,
        class(error),
        &message,
        &error.hint(),
        error.exit_code(),
        needed(error),
    )
}

/// What was asked for makes no sense.
pub fn usage(py: Python<'_>, problem: &str) -> PyErr {
    let hint = "help(sli.run) names every argument, and `sli run --help` explains each";
    make(py, "UsageError", problem, hint, 2, None)
}

/// A mistake of the program.
pub fn internal(py: Python<'_>, problem: &str) -> PyErr {
    let hint = "this is a mistake of the program: please report it with config.json and the call";
    make(py, "SLIError", problem, hint, 3, None)
}

/// A file that cannot be read or written, or is not what it should be.
pub fn file(py: Python<'_>, problem: &str) -> PyErr {
    let hint = "check the path, its permissions and the space on its disk";
    make(py, "FileError", problem, hint, 5, None)
}

/// A table that cannot be read.
pub fn table(py: Python<'_>, error: &TableError) -> PyErr {
    let hint = match error {
        TableError::Damaged { .. } => "run again with --fresh to make the results anew",
        TableError::File { .. } => "check the path and its permissions",
    };
    make(py, "FileError", &error.to_string(), hint, 5, None)
}

/// Data that cannot be used.
pub fn input(py: Python<'_>, problem: &str, hint: &str) -> PyErr {
    make(py, "InputError", problem, hint, 3, None)
}

/// The class by what the caller can do about it.
fn class(error: &Error) -> &'static str {
    match error.exit_code() {
        2 => return "UsageError",
        4 => return "BudgetError",
        5 => return "FileError",
        _ => {}
    }
    match error {
        Error::Engine(EngineError::Config { source, .. }) => match source {
            SpecError::UnknownModelType { .. } => "UnsupportedArchitectureError",
            SpecError::Unsupported { key, .. }
                if matches!(key.as_str(), "architectures" | "model_type") =>
            {
                "UnsupportedArchitectureError"
            }
            _ => "ModelError",
        },
        Error::Input(_)
        | Error::Engine(EngineError::Record { .. } | EngineError::OtherTokens { .. }) => {
            "InputError"
        }
        Error::Engine(
            EngineError::Checkpoint(_)
            | EngineError::Unusable { .. }
            | EngineError::File { .. }
            | EngineError::NonFinite { .. }
            | EngineError::NoExpert { .. }
            | EngineError::LooksAhead { .. }
            | EngineError::Overflow { .. }
            | EngineError::Unlike { .. },
        )
        | Error::Tokenizer(_)
        | Error::Remote(_) => "ModelError",
        _ => "SLIError",
    }
}

/// The budget that would do, bytes.
fn needed(error: &Error) -> Option<u64> {
    match error {
        Error::Engine(EngineError::Budget { needed, .. }) => Some(*needed),
        _ => None,
    }
}

fn make(
    py: Python<'_>,
    class: &str,
    message: &str,
    hint: &str,
    exit_code: i32,
    needed: Option<u64>,
) -> PyErr {
    let made = py
        .import(MODULE)
        .and_then(|module| module.getattr("made"))
        .and_then(|make| make.call1((class, message, hint, exit_code, needed)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Hands something to the callable that attends.
pub fn tell<'py>(
    attend: &Bound<'py, PyAny>,
    kind: &str,
    value: impl IntoPyObject<'py>,
) -> PyResult<()> {
    let value = value.into_bound_py_any(attend.py())?;
    let arguments = PyTuple::new(attend.py(), [kind.into_bound_py_any(attend.py())?, value])?;
    attend.call1(arguments).map(drop)
}

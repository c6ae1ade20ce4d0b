//! The native module of the Python package: a thin user of the `sli` crate.
//!
//! Commands come as the arguments of the command line, so that every flag has one definition. The work is done in a thread of its
//! own that never calls the interpreter; the calling thread waits without the lock, hears what there is to say, and answers signals.

mod arguments;
mod attended;
mod errors;
mod registry;
mod table;

use std::ffi::OsString;

use pyo3::prelude::*;

/// What a program of its own holds when it begins, bytes; the engine counts it by itself.
const OWN_BYTES: u64 = 6 << 20;

/// The engine of the `sli` package.
#[pymodule]
mod _sli {
    #[pymodule_export]
    use super::registry::{architectures, flags, is_alike, layer_weights, weights};
    #[pymodule_export]
    use super::table::{ParquetTable, write_parquet};
    #[pymodule_export]
    use super::{batch, diff, export, inspect, main, merge, plan, report, run, verify, version};
}

/// The version of the package.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The `sli` program: does what the arguments say, the first of which is its name; the exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<OsString>) -> i32 {
    let interpreter = sli_engine::resident_memory().saturating_sub(OWN_BYTES);
    py.detach(|| sli::program::main(arguments, interpreter))
}

/// `sli run` with these arguments; whether it was finished before. What there is to say goes to `attend`.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn run(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<bool> {
    let arguments = arguments::run(py, arguments)?;
    attended::attended(py, attend, move |host| {
        let ran = sli::calls::run(&arguments, host)?;
        if arguments.report {
            sli::report::write(&arguments.out, None)?;
        }
        Ok(matches!(ran, sli::calls::Ran::Finished { .. }))
    })
}

/// `sli diff` with these arguments; whether it was finished before. What there is to say goes to `attend`.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn diff(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<bool> {
    let arguments = arguments::diff(py, arguments)?;
    attended::attended(py, attend, move |host| {
        let ran = sli::calls::diff(&arguments, host)?;
        if arguments.report {
            sli::report::write(&arguments.out, None)?;
        }
        Ok(matches!(ran, sli::calls::Ran::Finished { .. }))
    })
}

/// `sli plan` with these arguments: the plan, as JSON.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn plan(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<String> {
    let arguments = arguments::plan(py, arguments)?;
    attended::attended(py, attend, move |host| {
        let laid = sli::calls::lay(&arguments.job, host)?;
        Ok(sli::calls::report(&laid)?.to_string())
    })
}

/// `sli batch` with these arguments: how many requests there are, and how many of them cannot be answered.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn batch(
    py: Python<'_>,
    arguments: Vec<OsString>,
    attend: &Bound<'_, PyAny>,
) -> PyResult<(u64, u64)> {
    let arguments = arguments::batch(py, arguments)?;
    attended::attended(py, attend, move |host| {
        let answered = sli::calls::batch(&arguments, host)?;
        Ok((answered.lines, answered.refused))
    })
}

/// `sli merge` with these arguments; whether it was finished before.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn merge(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<bool> {
    let arguments = arguments::merge(py, arguments)?;
    attended::attended(py, attend, move |_| {
        let merged = sli_engine::merge(&arguments.parts, &arguments.out, arguments.fresh)?;
        Ok(matches!(merged, sli_engine::Merged::Finished(_)))
    })
}

/// `sli export` with these arguments: rows, files that were there, and what has no place in the format.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn export(
    py: Python<'_>,
    arguments: Vec<OsString>,
    attend: &Bound<'_, PyAny>,
) -> PyResult<(u64, u64, u64)> {
    let arguments = arguments::export(py, arguments)?;
    attended::attended(py, attend, move |_| {
        let exported = sli::calls::export(&arguments)?;
        Ok((exported.rows, exported.kept, exported.left_out))
    })
}

/// `sli report` with these arguments; the path of the page.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn report(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<String> {
    let arguments = arguments::report(py, arguments)?;
    attended::attended(py, attend, move |_| {
        let path = sli::report::write(&arguments.results, arguments.out.as_deref())?;
        Ok(path.to_string_lossy().into_owned())
    })
}

/// `sli verify` with these arguments: the receipt, as JSON.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn verify(py: Python<'_>, arguments: Vec<OsString>, attend: &Bound<'_, PyAny>) -> PyResult<String> {
    let arguments = arguments::verify(py, arguments)?;
    let receipt = attended::attended(py, attend, move |host| {
        let receipt = sli::calls::verify(&arguments, host)?;
        Ok(serde_json::to_string(&receipt))
    })?;
    receipt.map_err(|error| errors::internal(py, &error.to_string()))
}

/// `sli inspect` with these arguments: what the model is made of, as JSON.
#[pyfunction]
#[pyo3(signature = (arguments, attend: "collections.abc.Callable[[str, typing.Any], object]"))]
fn inspect(
    py: Python<'_>,
    arguments: Vec<OsString>,
    attend: &Bound<'_, PyAny>,
) -> PyResult<String> {
    let arguments = arguments::inspect(py, arguments)?;
    let inspected = attended::attended(py, attend, move |host| {
        let inspected = sli::calls::inspect(&arguments, host)?;
        Ok(serde_json::to_string(&inspected.inspection))
    })?;
    inspected.map_err(|error| errors::internal(py, &error.to_string()))
}

//! Result tables: Parquet files as Arrow streams, and as Python's own values; tables of others as Parquet files.

use std::path::PathBuf;

use arrow::array::{Array, AsArray, RecordBatchReader};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, IntervalUnit, SchemaRef, UInt32Type, UInt64Type,
};
use arrow::ffi::FFI_ArrowSchema;
use arrow::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use fs_err::File;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyException, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyList};

use sli::finished_table::{ArrowBatches, Batches, FinishedTable, TableError};

use crate::errors;

/// Rows that are in memory together.
const ROWS: usize = 1024;
/// Names that the protocol gives to its capsules.
const STREAM: &std::ffi::CStr = c"arrow_array_stream";
const SCHEMA: &std::ffi::CStr = c"arrow_schema";

/// A Parquet file.
#[pyclass(frozen, module = "sli._sli")]
pub struct ParquetTable {
    path: PathBuf,
    schema: SchemaRef,
    rows: usize,
    /// Of every column.
    bytes: Vec<u64>,
}

#[pymethods]
impl ParquetTable {
    /// Opens the file.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let table = FinishedTable::open(&path).map_err(|error| errors::table(py, &error))?;
        let schema = SchemaRef::clone(table.schema());
        let bytes = schema
            .fields()
            .iter()
            .map(|field| table.bytes(field.name()));
        Ok(Self {
            bytes: bytes.collect(),
            rows: table.rows(),
            schema,
            path,
        })
    }

    /// The names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }

    /// The types of the columns.
    #[getter]
    fn types(&self) -> Vec<String> {
        let fields = self.schema.fields().iter();
        fields.map(|field| field.data_type().to_string()).collect()
    }

    /// Bytes of a column, not compressed.
    fn bytes(&self, name: &str) -> PyResult<u64> {
        let index = self.schema.index_of(name);
        let bytes = index.ok().and_then(|index| self.bytes.get(index).copied());
        bytes.ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __len__(&self) -> usize {
        self.rows
    }

    /// The first rows of a column as Python's own values; all without `rows`.
    #[pyo3(signature = (name, rows=None) -> "list[typing.Any]")]
    fn column<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        rows: Option<usize>,
    ) -> PyResult<Bound<'py, PyList>> {
        if self.schema.index_of(name).is_err() {
            return Err(PyKeyError::new_err(name.to_owned()));
        }
        let failed = |error: TableError| errors::table(py, &error);
        let reader = self.reader(Some(&[name])).map_err(failed)?;
        let values = PyList::empty(py);
        let mut left = rows.unwrap_or(usize::MAX);
        for batch in reader {
            if left == 0 {
                break;
            }
            let batch = batch.map_err(failed)?;
            let column = batch.column(0);
            let rows = column.len().min(left);
            left -= rows;
            for value in self::values(py, &column.slice(0, rows))? {
                values.append(value)?;
            }
        }
        Ok(values)
    }

    /// The schema, by the Arrow PyCapsule protocol.
    #[pyo3(signature = () -> "object")]
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(&*self.schema)
            .map_err(|error| errors::internal(py, &error.to_string()))?;
        PyCapsule::new_with_value(py, schema, SCHEMA)
    }

    /// The rows, a batch at a time, by the Arrow PyCapsule protocol.
    #[pyo3(signature = (requested_schema=None) -> "object")]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // The protocol lets a producer give what it has, and its consumer cast.
        drop(requested_schema);
        let batches = self
            .reader(None)
            .map_err(|error| errors::table(py, &error))?;
        let reader = ArrowBatches {
            schema: SchemaRef::clone(&self.schema),
            batches,
        };
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), STREAM)
    }
}

impl ParquetTable {
    /// Reads all columns, or some.
    fn reader(&self, columns: Option<&[&str]>) -> Result<Batches, TableError> {
        FinishedTable::open(&self.path)?.batches(columns, ROWS)
    }
}

/// The values of an array of the types that results have.
fn values<'py>(py: Python<'py>, array: &dyn Array) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let all = 0..array.len();
    let one = |index: usize| -> PyResult<Bound<'py, PyAny>> {
        if array.is_null(index) {
            return Ok(py.None().into_bound(py));
        }
        match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(index).into_bound_py_any(py),
            DataType::Int64 => array
                .as_primitive::<Int64Type>()
                .value(index)
                .into_bound_py_any(py),
            DataType::UInt32 => array
                .as_primitive::<UInt32Type>()
                .value(index)
                .into_bound_py_any(py),
            DataType::UInt64 => array
                .as_primitive::<UInt64Type>()
                .value(index)
                .into_bound_py_any(py),
            DataType::Float32 => array
                .as_primitive::<Float32Type>()
                .value(index)
                .into_bound_py_any(py),
            DataType::Float64 => array
                .as_primitive::<Float64Type>()
                .value(index)
                .into_bound_py_any(py),
            DataType::Boolean => array.as_boolean().value(index).into_bound_py_any(py),
            DataType::List(_) => list(py, &array.as_list::<i32>().value(index)),
            DataType::FixedSizeList(..) => list(py, &array.as_fixed_size_list().value(index)),
            other => {
                let problem = format!("a column of type {other} is none of a result");
                Err(errors::file(py, &problem))
            }
        }
    };
    all.map(one).collect()
}

fn list<'py>(py: Python<'py>, array: &dyn Array) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyList::new(py, values(py, array)?)?.into_any())
}

/// Writes the rows of an object with `__arrow_c_stream__` into a Parquet file; how many there are.
#[pyfunction]
pub fn write_parquet(py: Python<'_>, table: &Bound<'_, PyAny>, path: PathBuf) -> PyResult<u64> {
    let given = table.call_method0("__arrow_c_stream__");
    let given = given.and_then(|given| Ok(given.cast_into::<PyCapsule>()?));
    let capsule = given.map_err(|cause| {
        if !cause.is_instance_of::<PyException>(py) {
            return cause;
        }
        let error = errors::input(
            py,
            &format!("the table cannot be read: {}", cause.value(py)),
            "give a table whose columns are of one type each, with a name of its own",
        );
        error.set_cause(py, Some(cause));
        error
    })?;
    let pointer = capsule.pointer_checked(Some(STREAM))?;
    // SAFETY: a capsule of this name holds an Arrow stream, which is moved out: what is left in its place is a released one.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr().cast()) };
    let unreadable = |problem: String| {
        errors::input(
            py,
            &format!("the table cannot be read: {problem}"),
            "give an Arrow table of records",
        )
    };
    let mut reader =
        RecordBatchStreamReader::try_new(stream).map_err(|error| unreadable(error.to_string()))?;
    let failed = |problem: String| errors::file(py, &problem);
    let schema = reader.schema();
    for field in schema.fields() {
        if !is_kept(field.data_type()) {
            let problem = format!(
                "the column `{}` is of type {}, which no Parquet file holds",
                field.name(),
                field.data_type()
            );
            return Err(errors::input(py, &problem, "leave the column out"));
        }
    }
    let file = File::create(path).map_err(|error| failed(error.to_string()))?;
    // Only what the records are: of which library the types came is nothing.
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(file, schema, options)
        .map_err(|error| unreadable(error.to_string()))?;
    let mut rows = 0;
    // The stream may be made by Python, so the lock stays; signals are answered between batches.
    for batch in &mut reader {
        let batch = batch.map_err(|error| unreadable(error.to_string()))?;
        rows += batch.num_rows() as u64;
        writer
            .write(&batch)
            .map_err(|error| failed(error.to_string()))?;
        py.check_signals()?;
    }
    writer.close().map_err(|error| failed(error.to_string()))?;
    Ok(rows)
}

/// Whether Parquet has a form for values of a type; its writer panics or fails late at those that it has none for.
fn is_kept(kind: &DataType) -> bool {
    match kind {
        DataType::Union(..) | DataType::Interval(IntervalUnit::MonthDayNano) => false,
        DataType::Struct(fields) => {
            !fields.is_empty() && fields.iter().all(|field| is_kept(field.data_type()))
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => is_kept(field.data_type()),
        DataType::Dictionary(_, kind) => is_kept(kind),
        _ => true,
    }
}

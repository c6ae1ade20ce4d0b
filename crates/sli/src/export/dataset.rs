//! A dataset as `save_to_disk` of the `datasets` package leaves it: Arrow streams, and two small files that name them.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::writer::StreamWriter;
use serde_json::{Value, json};

use super::error::ExportError;
use super::new_file::write_new;

/// The name of a file of rows.
pub fn data_file(index: usize, count: usize) -> String {
    format!("data-{index:05}-of-{count:05}.arrow")
}

/// The columns with what `datasets` wants to know of them.
pub fn schema(fields: Vec<arrow::datatypes::Field>, features: &Value) -> SchemaRef {
    let info = json!({"info": {"features": features}}).to_string();
    let metadata = HashMap::from([("huggingface".to_owned(), info)]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// Rows of a file as they come.
pub struct Rows<'w> {
    writer: StreamWriter<&'w mut dyn Write>,
}

impl<'w> Rows<'w> {
    /// Begins a file.
    pub fn new(out: &'w mut dyn Write, schema: &SchemaRef) -> Result<Self, ExportError> {
        let writer = StreamWriter::try_new(out, schema).map_err(failed)?;
        Ok(Self { writer })
    }

    /// Writes rows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), ExportError> {
        self.writer.write(batch).map_err(failed)
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<(), ExportError> {
        self.writer.finish().map_err(failed)
    }
}

pub fn failed(error: ArrowError) -> ExportError {
    match error {
        ArrowError::IoError(_, error) => error.into(),
        other => std::io::Error::other(other).into(),
    }
}

/// Writes the small files; with them the dataset is complete. `format`: as what its values come to readers, `None` as Python's own. `content`: of what it is made; `datasets` keeps what it computes of a dataset under it.
pub fn finish(
    folder: &Path,
    (features, format): (&Value, Option<&str>),
    files: usize,
    content: &blake3::Hasher,
) -> Result<(), ExportError> {
    let info = json!({"citation": "", "description": "", "features": features, "homepage": "", "license": ""});
    let names = (0..files).map(|index| json!({"filename": data_file(index, files)}));
    let mut content = content.clone();
    content.update(features.to_string().as_bytes());
    let content = content.finalize().to_hex();
    let state = json!({
        "_data_files": names.collect::<Vec<_>>(),
        "_fingerprint": &content[..16],
        "_format_columns": null,
        "_format_kwargs": {},
        "_format_type": format,
        "_output_all_columns": false,
        "_split": null,
    });
    for (name, value) in [("dataset_info.json", info), ("state.json", state)] {
        write_new(&folder.join(name), |out| Ok(writeln!(out, "{value:#}")?))?;
    }
    Ok(())
}

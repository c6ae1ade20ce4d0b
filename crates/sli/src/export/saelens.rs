//! Of `SAELens`: for every boundary a dataset of pieces of as many tokens each, in a folder that is named by the hook.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Int32Array, ListArray, RecordBatch,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use half::{bf16, f16};
use serde_json::{Value, json};
use sli_checkpoint::Dtype;

use super::asked::{Export, Exported};
use super::dataset::{self, Rows};
use super::error::ExportError;
use super::mark::mark;
use super::new_file::write_new;
use super::records::{Listed, each_record, update};
use super::states::{Boundary, States};

/// Bytes of a file of rows, about.
const FILE_BYTES: usize = 512 << 20;

/// Writes the datasets of all boundaries.
pub fn write(asked: &Export<'_>, states: &States) -> Result<Exported, ExportError> {
    let mut lengths: Vec<usize> = Vec::new();
    let mut content = blake3::Hasher::new();
    each_record(asked.results, |Listed { tokens, .. }| {
        lengths.push(tokens.len());
        update(&mut content, tokens);
        Ok(())
    })?;
    let size = match (asked.context_size, &lengths[..]) {
        (Some(size), _) => size,
        (None, [first, rest @ ..]) if *first > 0 && rest.iter().all(|length| length == first) => {
            *first
        }
        (None, _) => {
            return Err(ExportError::Usage {
                problem: "records have different lengths, and SAELens reads pieces of one length"
                    .into(),
                hint: "give --context-size N: records are cut into pieces of N tokens, what is left of each is left out",
            });
        }
    };
    let pieces: usize = lengths.iter().map(|length| length / size.max(1)).sum();
    if size == 0 || pieces == 0 {
        return Err(ExportError::Usage {
            problem: format!("no record has {size} tokens"),
            hint: "give a smaller --context-size",
        });
    }
    if size * (states.columns + 1) > i32::MAX as usize {
        return Err(ExportError::Usage {
            problem: format!(
                "a piece of {size} tokens has more numbers than a row of a dataset holds"
            ),
            hint: "give a smaller --context-size",
        });
    }
    mark(asked, states, Some(size))?;
    let cut = lengths.iter().filter(|length| *length % size > 0);
    let mut exported = Exported {
        rows: pieces as u64,
        kept: 0,
        left_out: cut.count() as u64,
    };
    content.update(&(size as u64).to_le_bytes());
    for (number, boundary) in &states.boundaries {
        let hook = match number {
            0 => "blocks.0.hook_resid_pre".to_owned(),
            layer => format!("blocks.{}.hook_resid_post", layer - 1),
        };
        let piece = Pieces {
            results: asked.results,
            states,
            boundary,
            hook: &hook,
            size,
        };
        exported.kept += piece.write(&asked.out.join(&hook), pieces, &content)?;
    }
    Ok(exported)
}

/// The pieces of all records at a boundary.
struct Pieces<'a> {
    results: &'a Path,
    states: &'a States,
    boundary: &'a Boundary,
    hook: &'a str,
    size: usize,
}

impl Pieces<'_> {
    fn features(&self) -> Value {
        let shape = [self.size, self.states.columns];
        json!({
            self.hook: {"shape": shape, "dtype": "float32", "_type": "Array2D"},
            "token_ids": {
                "feature": {"dtype": "int32", "_type": "Value"},
                "length": self.size,
                "_type": "Sequence",
            },
        })
    }

    fn fields(&self) -> Vec<Field> {
        let rows = DataType::List(Arc::new(Field::new("item", row_type(), true)));
        let shape = json!([[self.size, self.states.columns], "float32"]).to_string();
        let extension = [
            (
                "ARROW:extension:name",
                "datasets.features.features.Array2DExtensionType".to_owned(),
            ),
            ("ARROW:extension:metadata", shape),
        ];
        let extension = extension.map(|(key, value)| (key.to_owned(), value));
        let token = Arc::new(Field::new("item", DataType::Int32, true));
        vec![
            Field::new(self.hook, rows, true).with_metadata(HashMap::from(extension)),
            Field::new(
                "token_ids",
                DataType::FixedSizeList(token, self.size as i32),
                true,
            ),
        ]
    }

    /// Writes the files that are not there; how many were.
    fn write(
        &self,
        folder: &Path,
        pieces: usize,
        content: &blake3::Hasher,
    ) -> Result<u64, ExportError> {
        let features = self.features();
        let schema = dataset::schema(self.fields(), &features);
        let bytes = 4 * self.size * (self.states.columns + 1);
        let in_file = (FILE_BYTES / bytes.max(1)).max(1);
        let files = pieces.div_ceil(in_file);
        let mut kept = 0;
        for file in 0..files {
            let wanted = file * in_file..pieces.min((file + 1) * in_file);
            let is_new = write_new(&folder.join(dataset::data_file(file, files)), |out| {
                let mut rows = Rows::new(out, &schema)?;
                let mut next = 0;
                each_record(self.results, |Listed { id, tokens, .. }| {
                    let own = next..next + tokens.len() / self.size;
                    next = own.end;
                    if own.end <= wanted.start || own.start >= wanted.end {
                        return Ok(());
                    }
                    let states = self.states.rows(self.boundary, id, tokens.len())?;
                    let values = floats(self.states.dtype, &states);
                    for piece in own.clone().filter(|piece| wanted.contains(piece)) {
                        let first = (piece - own.start) * self.size;
                        let tokens = &tokens[first..first + self.size];
                        let columns = self.states.columns;
                        let values = &values[first * columns..(first + self.size) * columns];
                        let row = self.row(tokens, values)?;
                        let batch = RecordBatch::try_new(schema.clone(), row);
                        rows.push(&batch.map_err(dataset::failed)?)?;
                    }
                    Ok(())
                })?;
                rows.finish()
            })?;
            kept += u64::from(!is_new);
        }
        dataset::finish(folder, (&features, None), files, content)?;
        Ok(kept)
    }

    /// A row of the dataset.
    fn row(&self, tokens: &[u32], values: &[f32]) -> Result<Vec<ArrayRef>, ExportError> {
        let lists = |lengths: Vec<usize>, values: ArrayRef| {
            let item = Arc::new(Field::new("item", values.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths(lengths);
            ListArray::try_new(item, offsets, values, None).map_err(dataset::failed)
        };
        let values: ArrayRef = Arc::new(Float32Array::from(values.to_vec()));
        let rows = lists(vec![self.states.columns; self.size], values)?;
        let states = lists(vec![self.size], Arc::new(rows))?;
        let ids = tokens.iter().map(|token| token.cast_signed());
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(ids));
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        let ids = FixedSizeListArray::try_new(item, self.size as i32, ids, None);
        Ok(vec![
            Arc::new(states),
            Arc::new(ids.map_err(dataset::failed)?),
        ])
    }
}

/// The type of a row of a state.
fn row_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Float32, true)))
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let halves = |of: fn(u16) -> f32| {
        let values = bytes.as_chunks().0.iter();
        values.map(|value| of(u16::from_le_bytes(*value))).collect()
    };
    match dtype {
        Dtype::F16 => halves(|bits| f16::from_bits(bits).to_f32()),
        Dtype::Bf16 => halves(|bits| bf16::from_bits(bits).to_f32()),
        _ => {
            let values = bytes.as_chunks().0.iter();
            values.map(|value| f32::from_le_bytes(*value)).collect()
        }
    }
}

//! Of speculators: a dataset of token ids, and beside its files `hidden_states/hs_<i>.safetensors`, i the row.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Int64Array, ListArray, RecordBatch};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use serde_json::{Value, json};

use super::asked::{Export, Exported};
use super::dataset::{self, Rows};
use super::error::ExportError;
use super::mark::mark;
use super::new_file::write_new;
use super::records::{Listed, each_record, update};
use super::states::States;

/// Rows of the dataset that are written together.
const ROWS: usize = 256;

/// Writes a file for each record that has tokens.
pub fn write(asked: &Export<'_>, states: &States) -> Result<Exported, ExportError> {
    if asked.context_size.is_some() {
        return Err(ExportError::Usage {
            problem: "speculators reads whole records; --context-size is for saelens".into(),
            hint: "leave --context-size out; `sli run --max-length` cuts records",
        });
    }
    let last = states.boundaries.last().map(|(number, _)| *number);
    if states.layers > 0 && last != Some(states.layers) {
        return Err(ExportError::Lacking {
            folder: asked.results.to_owned(),
            what: "the output of the last layer, which speculators wants in the last place",
            hint: "run with --take hidden:LAYERS,last: of n layers speculators reads 2, n/2, n-3 and the last by default",
        });
    }
    mark(asked, states, None)?;
    let mut exported = Exported::default();
    let (field, features) = columns();
    let mut content = blake3::Hasher::new();
    write_rows(asked, field, &features, &mut content)?;
    each_record(asked.results, |Listed { id, tokens, .. }| {
        if tokens.is_empty() {
            exported.left_out += 1;
            return Ok(());
        }
        let name = format!("hidden_states/hs_{}.safetensors", exported.rows);
        exported.rows += 1;
        let is_new = write_new(&asked.out.join(name), |out| {
            write_record(states, id, tokens, out)
        })?;
        exported.kept += u64::from(!is_new);
        Ok(())
    })?;
    // Who finds it finds everything.
    dataset::finish(asked.out, (&features, Some("torch")), 1, &content)?;
    Ok(exported)
}

/// Token ids, and the states `[tokens, boundaries, columns]`.
fn write_record(
    states: &States,
    id: &str,
    tokens: &[u32],
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let rows = states.boundaries.iter();
    let rows = rows.map(|(_, boundary)| states.rows(boundary, id, tokens.len()));
    let rows: Vec<Vec<u8>> = rows.collect::<Result<_, _>>()?;
    let ids = 8 * tokens.len();
    let bytes = ids + rows.len() * tokens.len() * states.row_bytes();
    let header = json!({
        "token_ids": {"dtype": "I64", "shape": [tokens.len()], "data_offsets": [0, ids]},
        "hidden_states": {
            "dtype": states.dtype.name(),
            "shape": [tokens.len(), rows.len(), states.columns],
            "data_offsets": [ids, bytes],
        },
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for token in tokens {
        out.write_all(&i64::from(*token).to_le_bytes())?;
    }
    for token in 0..tokens.len() {
        let own = token * states.row_bytes()..(token + 1) * states.row_bytes();
        for rows in &rows {
            out.write_all(&rows[own.clone()])?;
        }
    }
    Ok(())
}

/// Takes what the dataset says of a record into what it is known by.
fn note(content: &mut blake3::Hasher, listed: &Listed<'_>) {
    update(content, listed.tokens);
    let spans = listed.completion.map(<[_]>::as_flattened);
    content.update(&[u8::from(spans.is_some())]);
    update(content, spans.unwrap_or_default());
}

/// A row of the dataset.
struct Row {
    tokens: Vec<i64>,
    /// 1 for the tokens that count.
    mask: Vec<i64>,
}

impl Row {
    fn of(listed: &Listed<'_>) -> Self {
        let everywhere = i64::from(listed.completion.is_none());
        let mut mask = vec![everywhere; listed.tokens.len()];
        for [start, end] in listed.completion.unwrap_or_default() {
            let own = (*start as usize).min(mask.len())..(*end as usize).min(mask.len());
            mask[own.start.min(own.end)..own.end].fill(1);
        }
        Self {
            tokens: listed
                .tokens
                .iter()
                .map(|token| i64::from(*token))
                .collect(),
            mask,
        }
    }
}

/// The dataset's columns, and what `datasets` calls them.
fn columns() -> (Vec<Field>, Value) {
    let list = || DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let number = json!({"dtype": "int64", "_type": "Value"});
    let lists = json!({"feature": number, "_type": "Sequence"});
    let fields = vec![
        Field::new("input_ids", list(), true),
        Field::new("loss_mask", list(), true),
        Field::new("seq_len", DataType::Int64, true),
    ];
    let features = json!({"input_ids": lists, "loss_mask": lists, "seq_len": number});
    (fields, features)
}

/// The token ids of every record and which of them count: those of the completion, or all.
fn write_rows(
    asked: &Export<'_>,
    fields: Vec<Field>,
    features: &Value,
    content: &mut blake3::Hasher,
) -> Result<(), ExportError> {
    let schema = dataset::schema(fields, features);
    let path = asked.out.join(dataset::data_file(0, 1));
    let mut is_read = false;
    write_new(&path, |out| {
        is_read = true;
        let mut rows = Rows::new(out, &schema)?;
        let mut waiting: Vec<Row> = Vec::new();
        let batch = |waiting: &mut Vec<Row>| {
            let lengths = || waiting.iter().map(|row| row.tokens.len());
            let lists = |values: Vec<i64>| {
                let item = Arc::new(Field::new("item", DataType::Int64, true));
                let offsets = OffsetBuffer::from_lengths(lengths());
                Arc::new(ListArray::new(
                    item,
                    offsets,
                    Arc::new(Int64Array::from(values)),
                    None,
                ))
            };
            let sizes: Vec<i64> = lengths().map(|length| length as i64).collect();
            let columns: Vec<arrow::array::ArrayRef> = vec![
                lists(
                    waiting
                        .iter()
                        .flat_map(|row| &row.tokens)
                        .copied()
                        .collect(),
                ),
                lists(waiting.iter().flat_map(|row| &row.mask).copied().collect()),
                Arc::new(Int64Array::from(sizes)),
            ];
            waiting.clear();
            RecordBatch::try_new(schema.clone(), columns).map_err(dataset::failed)
        };
        each_record(asked.results, |listed| {
            note(content, listed);
            if !listed.tokens.is_empty() {
                waiting.push(Row::of(listed));
            }
            if waiting.len() == ROWS {
                rows.push(&batch(&mut waiting)?)?;
            }
            Ok(())
        })?;
        if !waiting.is_empty() {
            rows.push(&batch(&mut waiting)?)?;
        }
        rows.finish()
    })?;
    if !is_read {
        each_record(asked.results, |listed| {
            note(content, listed);
            Ok(())
        })?;
    }
    Ok(())
}

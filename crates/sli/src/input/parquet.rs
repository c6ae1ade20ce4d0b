//! Parquet files: the keys of a JSON Lines record as columns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use fs_err::File;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use serde_json::Value;
use sli_engine::bytes::human;

use super::columns::{json_text, string, type_name};
use super::costs::Costs;
use super::error::InputError;
use super::images::Image;
use super::labels::{Found, Labels};
use super::numbering::Numbering;
use super::place::{Place, Position};
use super::raw::{Fields, INPUTS, KNOWN, RENDERING, RawRecord, Selection, UNSUPPORTED, elsewhere};
use super::renames::Renames;
use super::shape::Shape;
use crate::guard::guarded;
use crate::memory::Allowance;

/// The records of a Parquet file.
pub struct ParquetReader {
    path: Arc<PathBuf>,
    reader: ParquetRecordBatchReader,
    shapes: BTreeMap<String, Shape>,
    /// A column of another form of datasets.
    other: Option<&'static str>,
    columns: Columns,
    numbering: Rc<RefCell<Numbering>>,
    renames: Arc<Renames>,
    selection: Selection,
    /// Row of the batch that is next.
    next: usize,
    /// Rows before this batch.
    before: u64,
    /// A broken file is not read further.
    broken: bool,
}

impl ParquetReader {
    /// Opens a Parquet file; fewer rows are decoded at a time where the allowance asks for it.
    pub fn open(
        path: Arc<PathBuf>,
        allowance: &Allowance,
        selection: Selection,
        (numbering, renames): (Rc<RefCell<Numbering>>, Arc<Renames>),
    ) -> Result<Self, InputError> {
        let file = File::open(path.as_path()).map_err(|source| InputError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let broken = |problem: String| broken_file(&path, &problem);
        let exactly = allowance.most() < u64::MAX;
        let opened = guarded(|| {
            let (metadata, views) = metadata(&file)?;
            let roots: Vec<usize> = metadata
                .schema()
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, field)| renames.key_of(field.name()).is_some_and(is_known))
                .map(|(index, _)| index)
                .collect();
            let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
            let costs = Costs::of(&file, metadata.metadata(), &mask, views, exactly);
            let shapes = Shape::of_columns(metadata.schema(), metadata.parquet_schema());
            let shapes = shapes.into_iter().filter_map(|(name, shape)| {
                let key = renames.key_of(&name)?.to_owned();
                Some((key, shape))
            });
            let shapes: BTreeMap<String, Shape> = shapes.collect();
            let mut fields = metadata.schema().fields().iter();
            let other = fields.find_map(|field| elsewhere(renames.key_of(field.name())?));
            Ok::<_, ParquetError>((metadata, mask, costs, (shapes, other)))
        });
        let (metadata, mask, costs, (shapes, other)) = opened
            .map_err(broken)?
            .map_err(|error| broken(error.to_string()))?;
        let judge = |bytes: u64, row: u64, what: &str| {
            allowance.check(bytes).map_err(|needed| InputError::Budget {
                what: format!("{what}, {}", human(bytes)),
                place: Place {
                    file: Arc::clone(&path),
                    position: Position::Row(row),
                },
                given: allowance.given(),
                // What comes next has to fit too.
                needed: costs
                    .largest
                    .and_then(|(bytes, _)| allowance.check(bytes).err())
                    .map_or(needed, |row| row.max(needed)),
                before_tokenizer: costs.holds_text,
            })
        };
        judge(
            costs.pages,
            costs.first_row,
            "the Parquet pages of these rows",
        )?;
        if let Some((bytes, row)) = costs.largest {
            judge(bytes, row, "a row and its Parquet pages")?;
        }
        let reader = guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file.into_file(), metadata)
                .with_projection(mask)
                .with_batch_size(costs.rows(allowance.most()))
                .build()
        });
        let reader = reader
            .map_err(broken)?
            .map_err(|error| broken(error.to_string()))?;
        let columns = Columns::default();
        Ok(Self {
            path,
            reader,
            shapes,
            other,
            columns,
            numbering,
            renames,
            selection,
            next: 0,
            before: 0,
            broken: false,
        })
    }

    fn next_record(&mut self) -> Result<Option<RawRecord>, InputError> {
        while self.next == self.columns.rows {
            self.before += self.columns.rows as u64;
            self.next = 0;
            // What the last rows hold of their pages is not needed beside the next ones.
            self.columns = Columns::default();
            let batch =
                guarded(|| self.reader.next()).map_err(|error| broken_file(&self.path, &error))?;
            let Some(batch) = batch else {
                return Ok(None);
            };
            let batch = batch.map_err(|error| broken_file(&self.path, &error.to_string()))?;
            let columns = Columns::new(&batch, &self.shapes, &self.renames);
            self.columns = columns.map_err(|problem| InputError::File {
                path: self.path.to_path_buf(),
                problem,
                hint: "columns are `id`, and `text`, `input_ids` or `messages`".into(),
            })?;
        }
        let row = self.next;
        self.next += 1;
        let number = self.before + row as u64;
        let place = Place {
            file: Arc::clone(&self.path),
            position: Position::Row(number),
        };
        let mut fields = self
            .columns
            .fields(row, &self.shapes)
            .map_err(|problem| InputError::record(&place, problem))?;
        fields.elsewhere = self.other;
        let numbering = &mut self.numbering.borrow_mut();
        fields
            .into_record(place, numbering, self.selection)
            .map(Some)
    }
}

impl Iterator for ParquetReader {
    type Item = Result<RawRecord, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let record = self.next_record().transpose();
        self.broken = matches!(record, Some(Err(_)));
        record
    }
}

/// The schema of a file, with its strings as views: they share a page, or an entry of a dictionary, instead of
/// copying it for every row.
///
/// What a file says of its own schema can stand against that: then strings are copied, and the second value is
/// false.
fn metadata(file: &File) -> Result<(ArrowReaderMetadata, bool), ParquetError> {
    let plain = ArrowReaderMetadata::load(file.file(), ArrowReaderOptions::new())?;
    let options = ArrowReaderOptions::new().with_schema(with_views(plain.schema()));
    match ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options) {
        Ok(views) => Ok((views, true)),
        Err(_) => Ok((plain, false)),
    }
}

fn with_views(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let field = field.as_ref().clone();
        if is_string(field.data_type()) {
            field.with_data_type(DataType::Utf8View)
        } else {
            field
        }
    });
    let fields: Vec<_> = fields.collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn broken_file(path: &Arc<PathBuf>, problem: &str) -> InputError {
    InputError::File {
        path: path.to_path_buf(),
        problem: format!("not a readable Parquet file: {problem}"),
        hint: "write it again, for instance with pyarrow.parquet.write_table".into(),
    }
}

/// Columns that may hold truth values for 1 and 0.
const MASKS: [&str; 3] = ["attention_mask", "completion_mask", "assistant_masks"];

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || UNSUPPORTED.contains(&name) || RENDERING.contains(&name)
}

/// The columns of a batch, in the few types that records are made from.
#[derive(Default)]
struct Columns {
    rows: usize,
    id: Option<ArrayRef>,
    text: Option<ArrayRef>,
    text_pair: Option<ArrayRef>,
    input_ids: Option<ArrayRef>,
    token_type_ids: Option<ArrayRef>,
    attention_mask: Option<ArrayRef>,
    messages: Option<ArrayRef>,
    tools: Option<ArrayRef>,
    documents: Option<ArrayRef>,
    chat_template_kwargs: Option<ArrayRef>,
    prompt: Option<ArrayRef>,
    completion: Option<ArrayRef>,
    labels: Option<ArrayRef>,
    completion_mask: Option<ArrayRef>,
    assistant_masks: Option<ArrayRef>,
    decoder_text: Option<ArrayRef>,
    decoder_input_ids: Option<ArrayRef>,
    tensors: Option<ArrayRef>,
    tensor_prefix: Option<ArrayRef>,
    images: Option<ArrayRef>,
    inputs: Vec<(&'static str, ArrayRef)>,
    rendering: Vec<(&'static str, ArrayRef)>,
    unsupported: Vec<(&'static str, ArrayRef)>,
}

impl Columns {
    fn new(
        batch: &RecordBatch,
        shapes: &BTreeMap<String, Shape>,
        renames: &Renames,
    ) -> Result<Self, String> {
        let mut columns = Self {
            rows: batch.num_rows(),
            ..Self::default()
        };
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            let Some(name) = renames.key_of(field.name()) else {
                continue;
            };
            let slot = match name {
                "id" => &mut columns.id,
                "text" => &mut columns.text,
                "text_pair" => &mut columns.text_pair,
                "input_ids" => &mut columns.input_ids,
                "token_type_ids" => &mut columns.token_type_ids,
                "attention_mask" => &mut columns.attention_mask,
                "messages" => &mut columns.messages,
                "tools" => &mut columns.tools,
                "documents" => &mut columns.documents,
                "chat_template_kwargs" => &mut columns.chat_template_kwargs,
                "prompt" => &mut columns.prompt,
                "completion" => &mut columns.completion,
                // Those of a classifier are a number, names, ...
                "labels" if item_type(array.data_type()).is_none() => continue,
                "labels" => &mut columns.labels,
                "completion_mask" => &mut columns.completion_mask,
                "assistant_masks" => &mut columns.assistant_masks,
                "decoder_text" => &mut columns.decoder_text,
                "decoder_input_ids" => &mut columns.decoder_input_ids,
                "tensors" => &mut columns.tensors,
                "tensor_prefix" => &mut columns.tensor_prefix,
                "images" => &mut columns.images,
                _ => {
                    let input = INPUTS.iter().find(|&&known| known == name);
                    columns
                        .inputs
                        .extend(input.map(|&known| (known, Arc::clone(array))));
                    let renders = RENDERING.iter().find(|&&known| known == name);
                    columns
                        .rendering
                        .extend(renders.map(|&known| (known, Arc::clone(array))));
                    let known = UNSUPPORTED.iter().find(|&&known| known == name);
                    columns
                        .unsupported
                        .extend(known.map(|&known| (known, Arc::clone(array))));
                    continue;
                }
            };
            if slot.is_some() {
                return Err(format!("there are two columns `{name}`"));
            }
            let wrong = |expected: &str| {
                format!(
                    "column `{name}` holds {}, expected {expected}",
                    type_name(array.data_type())
                )
            };
            let is_json = shapes.get(name) == Some(&Shape::Json);
            let array = match (name, array.data_type()) {
                ("labels", kind) if item_type(kind).is_some_and(|item| !item.is_integer()) => {
                    Some(Arc::clone(array))
                }
                // Decoded row by row.
                ("id" | "text" | "text_pair" | "decoder_text" | "messages", _) if is_json => {
                    Some(Arc::clone(array))
                }
                (_, kind) if kind.is_floating() && array.null_count() == array.len() => {
                    Some(new_null_array(&DataType::Null, array.len()))
                }
                ("id" | "text" | "text_pair" | "decoder_text", kind) if is_binary(kind) => {
                    cast(array, &DataType::BinaryView).ok()
                }
                (_, DataType::Null)
                | (
                    "images"
                    | "tools"
                    | "documents"
                    | "chat_template_kwargs"
                    | "prompt"
                    | "completion",
                    _,
                ) => Some(Arc::clone(array)),
                ("id", kind) if is_string(kind) || kind.is_integer() => {
                    cast(array, &DataType::Utf8View).ok()
                }
                ("id", _) => return Err(wrong("strings or integers")),
                ("text" | "text_pair" | "decoder_text", kind) if is_string(kind) => {
                    cast(array, &DataType::Utf8View).ok()
                }
                ("text" | "text_pair" | "decoder_text", _) => return Err(wrong("strings")),
                ("messages", _) if item_type(array.data_type()).is_some() => {
                    Some(Arc::clone(array))
                }
                ("messages", _) => return Err(wrong("lists of messages")),
                (_, kind)
                    if item_type(kind).is_some_and(|item| {
                        item.is_integer()
                            || item.is_null()
                            || MASKS.contains(&name) && *item == DataType::Boolean
                    }) =>
                {
                    let item = arrow::datatypes::Field::new_list_field(DataType::Int64, true);
                    cast(array, &DataType::LargeList(Arc::new(item))).ok()
                }
                _ => return Err(wrong("lists of integers")),
            };
            *slot = Some(array.ok_or_else(|| format!("column `{name}` cannot be read"))?);
        }
        Ok(columns)
    }

    fn fields(&self, row: usize, shapes: &BTreeMap<String, Shape>) -> Result<Fields, String> {
        let present = |array: &Option<ArrayRef>| {
            array
                .as_ref()
                .filter(|array| !array.is_null(row) && !array.data_type().is_null())
                .cloned()
        };
        let json = |name: &str, array: &Option<ArrayRef>| {
            let shape = shapes.get(name).unwrap_or(&Shape::Plain);
            let text = present(array)
                .map(|array| json_text(&array, row, shape))
                .transpose();
            // A JSON text may be that of a null.
            let text = text.map(|text| text.filter(|text| text != "null"));
            text.map_err(|problem| format!("`{name}`: {problem}"))
        };
        let text = |name: &str, array: &Option<ArrayRef>| match shapes.get(name) {
            Some(Shape::Json) => json(name, array)?
                .map(|text| match serde_json::from_str(&text) {
                    Ok(Value::String(text)) => Ok(text),
                    Ok(Value::Number(number)) if name == "id" && !number.is_f64() => {
                        Ok(number.to_string())
                    }
                    _ => Err(format!("`{name}`: {text} is not a string")),
                })
                .transpose(),
            _ => present(array)
                .map(|array| string(&array, row).map_err(|problem| format!("`{name}`: {problem}")))
                .transpose(),
        };
        let (id, own_text) = (text("id", &self.id)?, text("text", &self.text)?);
        let messages = json("messages", &self.messages)?;
        if messages
            .as_ref()
            .is_some_and(|messages| !messages.starts_with('['))
        {
            return Err("`messages`: expected a list of messages".into());
        }
        let contents = [
            ("id", &self.id, id.is_none()),
            ("text", &self.text, own_text.is_none()),
            (
                "input_ids",
                &self.input_ids,
                present(&self.input_ids).is_none(),
            ),
            ("messages", &self.messages, messages.is_none()),
            ("prompt", &self.prompt, present(&self.prompt).is_none()),
        ];
        let nulls = contents
            .into_iter()
            .filter(|(_, array, is_null)| array.is_some() && *is_null);
        let mut inputs = Vec::new();
        for (name, array) in &self.inputs {
            let own = Some(Arc::clone(array));
            inputs.extend(json(name, &own)?.map(|text| (*name, text)));
        }
        Ok(Fields {
            elsewhere: None,
            inputs,
            nulls: nulls.map(|(name, ..)| name).collect(),
            id,
            text: own_text,
            text_pair: text("text_pair", &self.text_pair)?,
            input_ids: present(&self.input_ids)
                .map(|array| ids("input_ids", &array, row))
                .transpose()?,
            token_type_ids: present(&self.token_type_ids)
                .map(|array| ids("token_type_ids", &array, row))
                .transpose()?,
            attention_mask: present(&self.attention_mask)
                .map(|array| ids("attention_mask", &array, row))
                .transpose()?,
            messages,
            tools: json("tools", &self.tools)?,
            documents: json("documents", &self.documents)?,
            chat_template_kwargs: json("chat_template_kwargs", &self.chat_template_kwargs)?,
            prompt: json("prompt", &self.prompt)?,
            completion: json("completion", &self.completion)?,
            labels: present(&self.labels).and_then(|array| labels(&array, row)),
            completion_mask: present(&self.completion_mask)
                .map(|array| ids("completion_mask", &array, row))
                .transpose()?,
            assistant_masks: present(&self.assistant_masks)
                .map(|array| ids("assistant_masks", &array, row))
                .transpose()?,
            decoder_text: text("decoder_text", &self.decoder_text)?,
            tensors: text("tensors", &self.tensors)?,
            tensor_prefix: text("tensor_prefix", &self.tensor_prefix)?,
            images: present(&self.images)
                .map(|array| images(&array, row))
                .transpose()
                .map_err(|problem| format!("`images`: {problem}"))?
                .unwrap_or_default(),
            decoder_input_ids: present(&self.decoder_input_ids)
                .map(|array| ids("decoder_input_ids", &array, row))
                .transpose()?,
            rendering: self
                .rendering
                .iter()
                .find(|(_, array)| renders(array, row))
                .map(|(name, _)| *name),
            unsupported: self
                .unsupported
                .iter()
                .find(|(_, array)| !array.is_null(row) && !array.data_type().is_null())
                .map(|(name, _)| *name),
        })
    }
}

/// Lists of integers come as such of the widest type, any others as they are in the file.
fn labels(array: &ArrayRef, row: usize) -> Option<Labels> {
    let list = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        DataType::ListView(_) => array.as_list_view::<i32>().value(row),
        DataType::LargeListView(_) => array.as_list_view::<i64>().value(row),
        _ => return None,
    };
    let integers = list.as_primitive_opt::<Int64Type>();
    let other = match integers {
        Some(integers) => integers.iter().position(|label| label.is_none()),
        None => (!list.is_empty()).then_some(0),
    };
    Some(match other {
        Some(at) => Labels::Other {
            length: list.len(),
            at,
            found: json_text(&list, at, &Shape::Plain).map_or_else(
                |_| Found::Other(format!("one of {}", type_name(list.data_type()))),
                |text| Found::of(&text),
            ),
        },
        None => Labels::Integers(integers.map_or_else(Vec::new, |list| list.values().to_vec())),
    })
}

/// Pictures of a cell: paths, bytes, or structures of both as those of `datasets.Image`; one, or a list.
fn images(array: &ArrayRef, row: usize) -> Result<Vec<Image>, String> {
    let list = match array.data_type() {
        DataType::List(_) => array.as_list::<i32>().value(row),
        DataType::LargeList(_) => array.as_list::<i64>().value(row),
        DataType::FixedSizeList(..) => array.as_fixed_size_list().value(row),
        _ => array.slice(row, 1),
    };
    (0..list.len()).map(|at| image(&list, at)).collect()
}

fn image(array: &ArrayRef, row: usize) -> Result<Image, String> {
    let none = || "a picture is null".to_owned();
    if array.is_null(row) {
        return Err(none());
    }
    match array.data_type() {
        kind if is_string(kind) => string(array, row).map(Image::Named),
        kind if is_binary(kind) => {
            let bytes = cast(&array.slice(row, 1), &DataType::Binary);
            let bytes = bytes.map_err(|error| error.to_string())?;
            Ok(Image::Bytes(bytes.as_binary::<i32>().value(0).to_vec()))
        }
        DataType::Struct(_) => {
            let parts = array.as_struct();
            let part = |name: &str| {
                let column = parts.column_by_name(name);
                column.filter(|column| !column.data_type().is_null() && !column.is_null(row))
            };
            let found = part("bytes").or_else(|| part("path")).ok_or_else(none)?;
            match found.data_type() {
                kind if is_string(kind) || is_binary(kind) => image(found, row),
                kind => Err(format!("a picture holds {}", type_name(kind))),
            }
        }
        kind => Err(format!(
            "a picture is a path or bytes, not {}",
            type_name(kind)
        )),
    }
}

fn ids(name: &str, array: &ArrayRef, row: usize) -> Result<Vec<u32>, String> {
    let list = array.as_list::<i64>().value(row);
    list.as_primitive::<Int64Type>()
        .iter()
        .map(|id| match id {
            Some(id) => u32::try_from(id).map_err(|_| match id {
                ..0 => format!("`{name}`: {id} is negative"),
                _ => format!("`{name}`: {id} is beyond any vocabulary"),
            }),
            None => Err(format!("`{name}`: an element is null")),
        })
        .collect()
}

/// Whether a cell is there, and not false.
fn renders(array: &ArrayRef, row: usize) -> bool {
    match array.data_type() {
        DataType::Null => false,
        DataType::Boolean => !array.is_null(row) && array.as_boolean().value(row),
        _ => !array.is_null(row),
    }
}

fn is_string(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_string(value),
        _ => false,
    }
}

fn is_binary(kind: &DataType) -> bool {
    match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, value) => is_binary(value),
        _ => false,
    }
}

fn item_type(kind: &DataType) -> Option<&DataType> {
    match kind {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item.data_type()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sli_jinja::{Template, Variables};

    use crate::input::{Content, Dataset, RawRecord, Selection};
    use crate::memory::Allowance;

    fn records(path: &Path) -> Vec<RawRecord> {
        let records = Dataset::file(path)
            .unwrap()
            .open(&Allowance::unlimited(), Selection::default())
            .unwrap();
        records
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// JSON as a template prints it.
    fn spelled(text: &str) -> String {
        let mut variables = Variables::default();
        variables.set_json("value", text).unwrap();
        let template = Template::compile("{{ value | tojson }}").unwrap();
        let rendered = template.render(variables, chrono::NaiveDateTime::default(), 1_000_000);
        rendered.unwrap().text
    }

    /// What a template gets of a record, without the space in it; of any other, nothing.
    fn parts(content: &Content) -> Vec<Option<String>> {
        let Content::Messages(conversation) = content else {
            return Vec::new();
        };
        let more = [
            &conversation.tools,
            &conversation.documents,
            &conversation.arguments,
        ];
        let texts = std::iter::once(Some(&conversation.messages))
            .chain(more.into_iter().map(Option::as_ref));
        texts.map(|text| text.map(|text| spelled(text))).collect()
    }

    /// Beside each file there is what `datasets` and transformers make of it (tools/records).
    #[test]
    fn cells_are_what_the_reference_makes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
        let mut compared = 0;
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_none_or(|extension| extension != "parquet")
            {
                continue;
            }
            let (ours, theirs) = (records(&path), records(&path.with_extension("jsonl")));
            assert_eq!(ours.len(), theirs.len(), "{}", path.display());
            for (mut our, their) in ours.into_iter().zip(theirs) {
                assert_eq!(
                    parts(&our.content),
                    parts(&their.content),
                    "{}",
                    path.display()
                );
                our.place = their.place.clone();
                if let Content::Messages(_) = our.content {
                    our.content = their.content.clone();
                }
                assert_eq!(our, their, "{}", path.display());
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared} records");
    }
}

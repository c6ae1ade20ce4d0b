//! Cells of nested Arrow columns as JSON texts, for conversations: what `datasets` makes of them in Python.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use serde_json::{Number, Value};

use super::shape::Shape;

/// The cell `row` of a column, as Python would write it: `NaN` and `Infinity` are numbers; fields of a structure that
/// are null are nulls in it.
pub fn json_text(array: &ArrayRef, row: usize, shape: &Shape) -> Result<String, String> {
    let mut text = String::new();
    write(array, row, shape, &mut text)?;
    Ok(text)
}

fn write(array: &ArrayRef, row: usize, shape: &Shape, text: &mut String) -> Result<(), String> {
    if array.is_null(row) {
        text.push_str("null");
        return Ok(());
    }
    if *shape == Shape::Json {
        let cell = string(array, row)?;
        // Not as Python reads it: of a `NaN` in such a text `datasets` makes a null.
        serde_json::from_str::<Value>(&cell)
            .map_err(|error| format!("a JSON text is broken: {error}"))?;
        text.push_str(cell.trim_ascii());
        return Ok(());
    }
    let converted =
        |to: &DataType| cast(&array.slice(row, 1), to).map_err(|error| error.to_string());
    match array.data_type() {
        DataType::Null => text.push_str("null"),
        DataType::Boolean => text.push_str(if array.as_boolean().value(row) {
            "true"
        } else {
            "false"
        }),
        DataType::UInt64 => {
            text.push_str(&array.as_primitive::<UInt64Type>().value(row).to_string());
        }
        kind if kind.is_integer() => {
            let integer = converted(&DataType::Int64)?;
            text.push_str(&integer.as_primitive::<Int64Type>().value(0).to_string());
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let number = converted(&DataType::Float64)?;
            number_text(number.as_primitive::<Float64Type>().value(0), text);
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            text.push_str(&quoted(&string(array, row)?));
        }
        DataType::Dictionary(_, kind) => write(&converted(kind)?, 0, shape, text)?,
        DataType::List(_) => list(&array.as_list::<i32>().value(row), shape, text)?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), shape, text)?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), shape, text)?,
        DataType::ListView(_) => list(&array.as_list_view::<i32>().value(row), shape, text)?,
        DataType::LargeListView(_) => list(&array.as_list_view::<i64>().value(row), shape, text)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            text.push('{');
            for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
                separate(index, text);
                text.push_str(&quoted(field.name()));
                text.push(':');
                write(column, row, shape.part(index), text)?;
            }
            text.push('}');
        }
        DataType::Map(..) => mapping(
            &ArrayRef::from(Box::new(array.as_map().value(row)) as Box<dyn Array>),
            shape,
            text,
        )?,
        kind => match placeholder(kind) {
            Some(name) => text.push_str(&quoted(name)),
            None => return Err(format!("{} cannot be part of a message", type_name(kind))),
        },
    }
    Ok(())
}

/// A number as Python's `json.dumps` spells it.
fn number_text(number: f64, text: &mut String) {
    match Number::from_f64(number) {
        Some(number) => text.push_str(&number.to_string()),
        None if number.is_nan() => text.push_str("NaN"),
        None if number > 0.0 => text.push_str("Infinity"),
        None => text.push_str("-Infinity"),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn separate(index: usize, text: &mut String) {
    if index > 0 {
        text.push(',');
    }
}

/// What a template gets of a value that JSON has not: transformers 5 hands it `<name of the Python type>`.
///
/// `datasets` gives times of nanoseconds as those of pandas.
fn placeholder(kind: &DataType) -> Option<&'static str> {
    Some(match kind {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "<Timestamp>",
        DataType::Timestamp(..) => "<datetime>",
        DataType::Date32 | DataType::Date64 => "<date>",
        DataType::Time32(_) | DataType::Time64(_) => "<time>",
        DataType::Duration(TimeUnit::Nanosecond) => "<Timedelta>",
        DataType::Duration(_) => "<timedelta>",
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "<Decimal>",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "<bytes>",
        _ => return None,
    })
}

/// A string, or bytes that are one.
pub fn string(array: &ArrayRef, row: usize) -> Result<String, String> {
    if let Some(strings) = array.as_string_view_opt() {
        return Ok(strings.value(row).to_owned());
    }
    let cell =
        cast(&array.slice(row, 1), &DataType::BinaryView).map_err(|error| error.to_string())?;
    String::from_utf8(cell.as_binary_view().value(0).to_vec())
        .map_err(|error| format!("byte {} is not UTF-8", error.utf8_error().valid_up_to()))
}

fn list(items: &ArrayRef, shape: &Shape, text: &mut String) -> Result<(), String> {
    text.push('[');
    for row in 0..items.len() {
        separate(row, text);
        write(items, row, shape.part(0), text)?;
    }
    text.push(']');
    Ok(())
}

/// A mapping, whose entries are structures of a key and a value.
fn mapping(entries: &ArrayRef, shape: &Shape, text: &mut String) -> Result<(), String> {
    let (columns, shape) = (entries.as_struct().columns(), shape.part(0));
    let [keys, values] = columns else {
        return Err("a mapping has no keys and values".into());
    };
    let mut seen = HashSet::new();
    text.push('{');
    for row in 0..entries.len() {
        separate(row, text);
        let key = json_text(keys, row, shape.part(0))?;
        if !key.starts_with('"') {
            return Err("a key of a mapping is not a string".into());
        }
        text.push_str(&key);
        text.push(':');
        write(values, row, shape.part(1), text)?;
        if let Some(key) = seen.replace(key) {
            return Err(format!("a mapping has the key {key} twice"));
        }
    }
    text.push('}');
    Ok(())
}

/// A type in words.
pub fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "strings".into(),
        DataType::Boolean => "booleans".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".into(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => {
            format!("lists of {}", type_name(item.data_type()))
        }
        DataType::Dictionary(_, kind) => type_name(kind),
        DataType::Struct(_) => "structures".into(),
        DataType::Map(..) => "mappings".into(),
        kind if kind.is_integer() => "integers".into(),
        kind if kind.is_floating() => {
            "floating-point numbers (pandas makes them of integers beside missing values; .astype(\"Int64\") does not)".into()
        }
        other => other.to_string(),
    }
}

//! Cells of nested Arrow columns as JSON values, for conversations: what `datasets` makes of them in Python.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, UInt64Type};
use serde_json::{Map, Number, Value};

use super::shape::Shape;

/// The cell `row` of a column; fields of a structure that are null are nulls in it.
pub fn json_value(array: &ArrayRef, row: usize, shape: &Shape) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    if *shape == Shape::Json {
        let text = string(array, row)?;
        return serde_json::from_str(&text)
            .map_err(|error| format!("a JSON text is broken: {error}"));
    }
    let converted =
        |to: &DataType| cast(&array.slice(row, 1), to).map_err(|error| error.to_string());
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::UInt64 => Value::from(array.as_primitive::<UInt64Type>().value(row)),
        kind if kind.is_integer() => Value::from(
            converted(&DataType::Int64)?
                .as_primitive::<Int64Type>()
                .value(0),
        ),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let number = converted(&DataType::Float64)?
                .as_primitive::<Float64Type>()
                .value(0);
            let number = Number::from_f64(number);
            Value::Number(number.ok_or("a number is not finite")?)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Value::from(string(array, row)?)
        }
        DataType::Dictionary(_, kind) => json_value(&converted(kind)?, 0, shape)?,
        DataType::List(_) => list(&array.as_list::<i32>().value(row), shape)?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), shape)?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), shape)?,
        DataType::ListView(_) => list(&array.as_list_view::<i32>().value(row), shape)?,
        DataType::LargeListView(_) => list(&array.as_list_view::<i64>().value(row), shape)?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut map = Map::with_capacity(fields.len());
            for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
                let value = json_value(column, row, shape.part(index))?;
                map.insert(field.name().clone(), value);
            }
            Value::Object(map)
        }
        DataType::Map(..) => mapping(
            &ArrayRef::from(Box::new(array.as_map().value(row)) as Box<dyn Array>),
            shape,
        )?,
        kind => match placeholder(kind) {
            Some(name) => Value::from(name),
            None => return Err(format!("{} cannot be part of a message", type_name(kind))),
        },
    })
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

fn list(items: &ArrayRef, shape: &Shape) -> Result<Value, String> {
    (0..items.len())
        .map(|row| json_value(items, row, shape.part(0)))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

/// A mapping, whose entries are structures of a key and a value.
fn mapping(entries: &ArrayRef, shape: &Shape) -> Result<Value, String> {
    let (columns, shape) = (entries.as_struct().columns(), shape.part(0));
    let [keys, values] = columns else {
        return Err("a mapping has no keys and values".into());
    };
    let mut map = Map::with_capacity(entries.len());
    for row in 0..entries.len() {
        let Value::String(key) = json_value(keys, row, shape.part(0))? else {
            return Err("a key of a mapping is not a string".into());
        };
        let value = json_value(values, row, shape.part(1))?;
        if map.insert(key.clone(), value).is_some() {
            return Err(format!("a mapping has the key `{key}` twice"));
        }
    }
    Ok(Value::Object(map))
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

//! Cells of nested Arrow columns as JSON values, for conversations.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use serde_json::{Map, Number, Value};

/// The cell `row` of a column; fields of a structure that are null are nulls in it.
pub fn json_value(array: &ArrayRef, row: usize) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let converted = |to: &DataType| {
        cast(&array.slice(row, 1), to).map_err(|error| format!("`messages`: {error}"))
    };
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
            Value::Number(number.ok_or("`messages`: a number is not finite")?)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => {
            Value::from(converted(&DataType::Utf8)?.as_string::<i32>().value(0))
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut map = Map::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(columns) {
                map.insert(field.name().clone(), json_value(column, row)?);
            }
            Value::Object(map)
        }
        other => {
            return Err(format!(
                "`messages`: {} cannot be part of a message",
                type_name(other)
            ));
        }
    })
}

fn list(items: &ArrayRef) -> Result<Value, String> {
    (0..items.len())
        .map(|row| json_value(items, row))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

/// A type in words.
pub fn type_name(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "strings".into(),
        DataType::Boolean => "booleans".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".into(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            format!("lists of {}", type_name(item.data_type()))
        }
        DataType::Struct(_) => "structures".into(),
        kind if kind.is_integer() => "integers".into(),
        kind if kind.is_floating() => "floating-point numbers".into(),
        other => other.to_string(),
    }
}

//! Which parts of Parquet columns are JSON texts.
//!
//! `datasets` keeps values of mixed types in columns of the logical type JSON (Arrow's extension `arrow.json`) and
//! gives their values back, not their texts. Arrow's own types do not tell them from strings.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::LogicalType;
use parquet::schema::types::SchemaDescriptor;

/// A column or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// A value.
    #[default]
    Plain,
    /// A value as JSON text.
    Json,
    /// The parts of a structure, or the one of a list or mapping.
    Of(Vec<Shape>),
}

/// The name under which Arrow's metadata has the type.
const EXTENSION: (&str, &str) = ("ARROW:extension:name", "arrow.json");

impl Shape {
    /// The shapes of a file's columns by name: the leaves of both schemas come in the same order.
    pub fn of_columns(schema: &Schema, file: &SchemaDescriptor) -> BTreeMap<String, Self> {
        let mut leaves = file
            .columns()
            .iter()
            .map(|leaf| matches!(leaf.logical_type_ref(), Some(LogicalType::Json)));
        let fields = schema.fields().iter();
        fields
            .map(|field| (field.name().clone(), Self::new(field, &mut leaves)))
            .collect()
    }

    fn new(field: &Field, leaves: &mut impl Iterator<Item = bool>) -> Self {
        match field.data_type() {
            DataType::Struct(fields) => Self::Of(
                fields
                    .iter()
                    .map(|field| Self::new(field, leaves))
                    .collect(),
            ),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::Map(item, _) => Self::Of(vec![Self::new(item, leaves)]),
            _ => {
                let is_json = leaves.next().unwrap_or(false);
                let named = field.metadata().get(EXTENSION.0);
                if is_json || named.is_some_and(|name| name == EXTENSION.1) {
                    Self::Json
                } else {
                    Self::Plain
                }
            }
        }
    }

    /// The shape of a part.
    pub fn part(&self, index: usize) -> &Self {
        match self {
            Self::Of(parts) => parts.get(index).unwrap_or(&Self::Plain),
            Self::Plain | Self::Json => &Self::Plain,
        }
    }
}

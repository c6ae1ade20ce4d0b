//! Rows into a Parquet file: one row group in memory at a time, whose end depends on the rows alone; of a long row, which
//! is a row group by itself, one cell at a time.

use std::io::{self, Read, Write};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListBuilder, Float32Builder, Float64Builder, Int64Builder, ListBuilder,
    StringBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::ResultsError;
use super::rows::{CellReader, EncodedRow, LONG_ROW, RowDecoder};
use crate::durable::DiskError;
use crate::journal::{OutputFolder, ResultWriter};

/// A row group ends before the row that would bring its encoded rows over this many bytes. A long row has one of its own.
const GROUP_BYTES: usize = LONG_ROW;
/// Encoded rows that become arrays together, bytes; more only if one row has more. While arrays are encoded,
/// indices and levels of their values take several times their own memory.
const BATCH_BYTES: usize = 256 << 10;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Text of which few values occur.
    Name,
    /// A list of such texts.
    Names,
    U32,
    OptionalU32,
    /// A count that fits 63 bits.
    I64,
    U64,
    F64,
    OptionalF64,
    ListU32,
    /// The first value may be null.
    ListF32,
    MatrixU32,
    MatrixF32,
    /// Lists of two values each, or null.
    OptionalPairs,
    /// A fixed number of values, or null.
    Vector(usize),
}

/// The columns of a table.
pub(super) type Columns<'a> = [(&'a str, Kind)];

impl Kind {
    fn data_type(self) -> DataType {
        let list = |inner| DataType::List(Arc::new(Field::new_list_field(inner, true)));
        match self {
            Self::Text | Self::Name => DataType::Utf8,
            Self::Names => list(DataType::Utf8),
            Self::U32 | Self::OptionalU32 => DataType::UInt32,
            Self::I64 => DataType::Int64,
            Self::U64 => DataType::UInt64,
            Self::F64 | Self::OptionalF64 => DataType::Float64,
            Self::ListU32 => list(DataType::UInt32),
            Self::ListF32 => list(DataType::Float32),
            Self::MatrixU32 | Self::OptionalPairs => list(list(DataType::UInt32)),
            Self::MatrixF32 => list(list(DataType::Float32)),
            Self::Vector(length) => {
                let inner = Arc::new(Field::new_list_field(DataType::Float32, true));
                DataType::FixedSizeList(inner, length as i32)
            }
        }
    }

    /// What a column of a finished table holds, where texts are not of the kind of which few values occur; `None`: it is
    /// none of this program's.
    pub fn of(field: &Field) -> Option<Self> {
        let kind = match (field.data_type(), field.is_nullable()) {
            (DataType::Utf8, false) => Self::Text,
            (DataType::UInt32, false) => Self::U32,
            (DataType::UInt32, true) => Self::OptionalU32,
            (DataType::Int64, false) => Self::I64,
            (DataType::UInt64, false) => Self::U64,
            (DataType::Float64, false) => Self::F64,
            (DataType::Float64, true) => Self::OptionalF64,
            (DataType::List(inner), nullable) => match (inner.data_type(), nullable) {
                (DataType::Utf8, false) => Self::Names,
                (DataType::UInt32, false) => Self::ListU32,
                (DataType::Float32, false) => Self::ListF32,
                (DataType::List(inner), nullable) => match (inner.data_type(), nullable) {
                    (DataType::UInt32, false) => Self::MatrixU32,
                    (DataType::UInt32, true) => Self::OptionalPairs,
                    (DataType::Float32, false) => Self::MatrixF32,
                    _ => return None,
                },
                _ => return None,
            },
            (DataType::FixedSizeList(_, length), true) => {
                Self::Vector(usize::try_from(*length).ok()?)
            }
            _ => return None,
        };
        // As it is written, inner fields included.
        (kind.data_type() == *field.data_type()).then_some(kind)
    }

    /// The bytes of the next cell of this kind.
    fn cell(self, cells: &mut CellReader<impl Read>) -> io::Result<Vec<u8>> {
        match self {
            Self::Text | Self::Name => cells.list(0, 1),
            Self::Names => cells.texts(),
            Self::U32 => cells.fixed(4),
            Self::OptionalU32 | Self::I64 | Self::U64 | Self::F64 => cells.fixed(8),
            Self::OptionalF64 => cells.fixed(12),
            Self::ListU32 | Self::ListF32 | Self::Vector(_) => cells.list(0, 4),
            Self::MatrixU32 | Self::MatrixF32 | Self::OptionalPairs => cells.list(4, 4),
        }
    }

    fn nullable(self) -> bool {
        matches!(
            self,
            Self::OptionalU32 | Self::OptionalF64 | Self::OptionalPairs | Self::Vector(_)
        )
    }
}

/// The cells of a column in the batch at hand.
enum Builder {
    Text(StringBuilder),
    Names(ListBuilder<StringBuilder>),
    U32(UInt32Builder),
    OptionalU32(UInt32Builder),
    I64(Int64Builder),
    U64(UInt64Builder),
    F64(Float64Builder),
    OptionalF64(Float64Builder),
    ListU32(ListBuilder<UInt32Builder>),
    ListF32(ListBuilder<Float32Builder>),
    MatrixU32(ListBuilder<ListBuilder<UInt32Builder>>),
    MatrixF32(ListBuilder<ListBuilder<Float32Builder>>),
    OptionalPairs(ListBuilder<ListBuilder<UInt32Builder>>),
    Vector(FixedSizeListBuilder<Float32Builder>),
}

impl Builder {
    fn new(kind: Kind) -> Self {
        let u32s = UInt32Builder::new;
        let f32s = Float32Builder::new;
        match kind {
            Kind::Text | Kind::Name => Self::Text(StringBuilder::new()),
            Kind::Names => Self::Names(ListBuilder::new(StringBuilder::new())),
            Kind::U32 => Self::U32(u32s()),
            Kind::OptionalU32 => Self::OptionalU32(u32s()),
            Kind::I64 => Self::I64(Int64Builder::new()),
            Kind::U64 => Self::U64(UInt64Builder::new()),
            Kind::F64 => Self::F64(Float64Builder::new()),
            Kind::OptionalF64 => Self::OptionalF64(Float64Builder::new()),
            Kind::ListU32 => Self::ListU32(ListBuilder::new(u32s())),
            Kind::ListF32 => Self::ListF32(ListBuilder::new(f32s())),
            Kind::MatrixU32 => Self::MatrixU32(ListBuilder::new(ListBuilder::new(u32s()))),
            Kind::MatrixF32 => Self::MatrixF32(ListBuilder::new(ListBuilder::new(f32s()))),
            Kind::OptionalPairs => Self::OptionalPairs(ListBuilder::new(ListBuilder::new(u32s()))),
            Kind::Vector(length) => Self::Vector(FixedSizeListBuilder::new(f32s(), length as i32)),
        }
    }

    /// Appends the next cell of a row; `None` if the row is damaged.
    fn append(&mut self, row: &mut RowDecoder<'_>) -> Option<()> {
        let u32_of = |value: &[u8; 4]| Some(u32::from_le_bytes(*value));
        let f32_of = |value: &[u8; 4]| Some(f32::from_le_bytes(*value));
        match self {
            Self::Text(builder) => builder.append_value(row.text()?),
            Self::Names(builder) => {
                for _ in 0..row.u32()? {
                    builder.values().append_value(row.text()?);
                }
                builder.append(true);
            }
            Self::U32(builder) => builder.append_value(row.u32()?),
            Self::OptionalU32(builder) => {
                let there = row.u32()? != 0;
                builder.append_option(Some(row.u32()?).filter(|_| there));
            }
            Self::I64(builder) => builder.append_value(row.u64()?.cast_signed()),
            Self::U64(builder) => builder.append_value(row.u64()?),
            Self::F64(builder) => builder.append_value(row.f64()?),
            Self::OptionalF64(builder) => {
                let there = row.u32()? != 0;
                builder.append_option(Some(row.f64()?).filter(|_| there));
            }
            Self::ListU32(builder) => {
                builder.append_value(row.list()?.values.iter().map(u32_of));
            }
            Self::ListF32(builder) => {
                let list = row.list()?;
                let null = list.after_null.then_some(None);
                builder.append_value(null.into_iter().chain(list.values.iter().map(f32_of)));
            }
            Self::MatrixU32(builder) => {
                let width = row.u32()?.max(1) as usize;
                for values in row.list()?.values.chunks(width) {
                    builder.values().append_value(values.iter().map(u32_of));
                }
                builder.append(true);
            }
            Self::MatrixF32(builder) => {
                let width = row.u32()?.max(1) as usize;
                for values in row.list()?.values.chunks(width) {
                    builder.values().append_value(values.iter().map(f32_of));
                }
                builder.append(true);
            }
            Self::OptionalPairs(builder) => {
                let there = row.u32()? != 0;
                for pair in row.list()?.values.chunks(2) {
                    builder.values().append_value(pair.iter().map(u32_of));
                }
                builder.append(there);
            }
            Self::Vector(builder) => {
                let length = builder.value_length() as usize;
                let list = row.list()?;
                if list.after_null {
                    builder.values().append_nulls(length);
                } else if list.values.len() == length {
                    list.values
                        .iter()
                        .for_each(|value| builder.values().append_option(f32_of(value)));
                } else {
                    return None;
                }
                builder.append(!list.after_null);
            }
        }
        Some(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Names(builder) => Arc::new(builder.finish()),
            Self::U32(builder) | Self::OptionalU32(builder) => Arc::new(builder.finish()),
            Self::I64(builder) => Arc::new(builder.finish()),
            Self::U64(builder) => Arc::new(builder.finish()),
            Self::F64(builder) | Self::OptionalF64(builder) => Arc::new(builder.finish()),
            Self::ListU32(builder) => Arc::new(builder.finish()),
            Self::ListF32(builder) => Arc::new(builder.finish()),
            Self::MatrixU32(builder) | Self::OptionalPairs(builder) => Arc::new(builder.finish()),
            Self::MatrixF32(builder) => Arc::new(builder.finish()),
            Self::Vector(builder) => Arc::new(builder.finish()),
        }
    }
}

/// A Parquet file that is being written.
struct TableWriter<'a> {
    name: &'a str,
    schema: SchemaRef,
    kinds: Vec<Kind>,
    builders: Vec<Builder>,
    /// Encoded bytes of the row group at hand.
    group: usize,
    /// Encoded bytes and rows of the batch at hand.
    bytes: usize,
    rows: usize,
    /// The columns of the row group at hand, where it has batches.
    columns: Vec<ArrowColumnWriter>,
    factory: ArrowRowGroupWriterFactory,
    file: SerializedFileWriter<ResultWriter>,
}

/// Writes and publishes the table `name`. `next` gives the encoded rows in order, `false` after the last.
pub(super) fn write_table(
    folder: &mut OutputFolder,
    name: &str,
    columns: &Columns<'_>,
    mut next: impl FnMut(&mut EncodedRow) -> Result<bool, ResultsError>,
) -> Result<(), ResultsError> {
    let damaged = ResultsError::Damaged {
        path: folder.work_dir().join(name),
        problem: "a row of this table is not as it was written".into(),
    };
    folder.publish_new(name, |writer| {
        let opened = TableWriter::new(columns, (name, writer));
        let mut table = opened.map_err(|error| failed(name, error))?;
        let mut row = EncodedRow::default();
        while next(&mut row)? {
            let length = row.length();
            let appended = if length > LONG_ROW {
                table.append_alone(&mut row)?
            } else {
                table.append(&row.bytes)?
            };
            if appended.is_none() {
                return Err(damaged);
            }
            if length > BATCH_BYTES {
                // Its arrays are as large again, and more when they are written.
                row = EncodedRow::default();
                table.write_batch()?;
            }
        }
        table.finish()
    })
}

impl<'a> TableWriter<'a> {
    fn new(
        columns: &Columns<'_>,
        (name, writer): (&'a str, ResultWriter),
    ) -> Result<Self, ParquetError> {
        let field =
            |&(name, kind): &(&str, Kind)| Field::new(name, kind.data_type(), kind.nullable());
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let mut properties = WriterProperties::builder()
            .set_created_by("sli".into())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(None);
        for &(name, kind) in columns {
            let column = match kind {
                Kind::Name => name.into(),
                Kind::Names => vec![name.to_owned(), "list".to_owned(), "item".to_owned()].into(),
                _ => continue,
            };
            properties = properties.set_column_dictionary_enabled(column, true);
        }
        let writer = ArrowWriter::try_new(writer, Arc::clone(&schema), Some(properties.build()))?;
        let (file, factory) = writer.into_serialized_writer()?;
        let kinds: Vec<Kind> = columns.iter().map(|&(_, kind)| kind).collect();
        Ok(Self {
            name,
            schema,
            builders: kinds.iter().copied().map(Builder::new).collect(),
            kinds,
            group: 0,
            bytes: 0,
            rows: 0,
            columns: Vec::new(),
            factory,
            file,
        })
    }

    fn append(&mut self, row: &[u8]) -> Result<Option<()>, ResultsError> {
        if self.group > 0 && self.group + row.len() > GROUP_BYTES {
            self.end_group()?;
        } else if self.rows > 0 && self.bytes + row.len() > BATCH_BYTES {
            self.write_batch()?;
        }
        let mut cells = RowDecoder(row);
        self.group += row.len();
        self.bytes += row.len();
        self.rows += 1;
        let appended = self
            .builders
            .iter_mut()
            .try_for_each(|builder| builder.append(&mut cells));
        Ok(appended.filter(|()| cells.0.is_empty()))
    }

    /// Appends a row as a row group of its own, a column after the other.
    fn append_alone(&mut self, row: &mut EncodedRow) -> Result<Option<()>, ResultsError> {
        self.end_group()?;
        let failed = |error| failed(self.name, error);
        let group = self.file.flushed_row_groups().len();
        let columns = self.factory.create_column_writers(group).map_err(failed)?;
        let mut group = self.file.next_row_group().map_err(failed)?;
        let mut cells = CellReader(row.cells());
        for ((&kind, field), mut column) in self.kinds.iter().zip(self.schema.fields()).zip(columns)
        {
            let mut builder = Builder::new(kind);
            let cell = kind.cell(&mut cells).map_err(DiskError::from)?;
            let mut decoder = RowDecoder(&cell);
            if builder.append(&mut decoder).is_none() || !decoder.0.is_empty() {
                return Ok(None);
            }
            drop(cell);
            write_column(field, builder, &mut column)
                .and_then(|()| column.close()?.append_to_row_group(&mut group))
                .map_err(failed)?;
        }
        group.close().map_err(failed)?;
        let rest = cells.fixed(1).map_err(DiskError::from)?;
        Ok(rest.is_empty().then_some(()))
    }

    fn end_group(&mut self) -> Result<(), ResultsError> {
        self.write_batch()?;
        self.group = 0;
        let columns = std::mem::take(&mut self.columns);
        if columns.is_empty() {
            return Ok(());
        }
        let write = || {
            let mut group = self.file.next_row_group()?;
            for column in columns {
                column.close()?.append_to_row_group(&mut group)?;
            }
            group.close().map(drop)
        };
        write().map_err(|error| failed(self.name, error))
    }

    fn write_batch(&mut self) -> Result<(), ResultsError> {
        if self.rows == 0 {
            return Ok(());
        }
        (self.bytes, self.rows) = (0, 0);
        // What a long row made a builder grow to is not kept.
        let empty = self.kinds.iter().copied().map(Builder::new).collect();
        let builders = std::mem::replace(&mut self.builders, empty);
        self.write_columns(builders)
            .map_err(|error| failed(self.name, error))
    }

    fn write_columns(&mut self, builders: Vec<Builder>) -> Result<(), ParquetError> {
        if self.columns.is_empty() {
            let group = self.file.flushed_row_groups().len();
            self.columns = self.factory.create_column_writers(group)?;
        }
        let columns = self.schema.fields().iter().zip(&mut self.columns);
        for ((field, column), builder) in columns.zip(builders) {
            write_column(field, builder, column)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<ResultWriter, ResultsError> {
        self.end_group()?;
        let mut writer = self
            .file
            .into_inner()
            .map_err(|error| failed(self.name, error))?;
        writer.flush().map_err(DiskError::from)?;
        Ok(writer)
    }
}

/// Writes cells of a column, each of whose kinds has one leaf.
fn write_column(
    field: &Field,
    mut builder: Builder,
    column: &mut ArrowColumnWriter,
) -> Result<(), ParquetError> {
    let cells = builder.finish();
    drop(builder);
    let leaves = compute_leaves(field, &cells)?;
    leaves.iter().try_for_each(|leaf| column.write(leaf))
}

/// A full disk comes back as an error of the Parquet library.
fn failed(name: &str, error: ParquetError) -> ResultsError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => DiskError::from(*error).into(),
            Err(inner) => ResultsError::Parquet {
                name: name.to_owned(),
                source: ParquetError::External(inner),
            },
        },
        source => ResultsError::Parquet {
            name: name.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests;

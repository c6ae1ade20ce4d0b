//! How large the largest row of a Parquet column of lists is, before any row is decoded.
//!
//! The repetition levels in front of a page's values say where rows begin; a row can go on over many pages. Pages are
//! decompressed for it one by one, as they will be once more when rows are read.

use std::sync::Arc;

use fs_err::File;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

/// The values of a row in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSize {
    /// Number of the row in its row group.
    pub row: u64,
    /// Its values, nulls included.
    pub values: u64,
    /// Bytes of its strings; those of their pages where the encoding is of differences.
    pub bytes: u64,
}

/// The largest row by `cost`.
pub fn largest(
    file: &File,
    chunk: &ColumnChunkMetaData,
    rows: u64,
    cost: impl Fn(&RowSize) -> u64,
) -> Result<RowSize, ParquetError> {
    let descriptor = chunk.column_descr();
    let reader = Arc::new(file.file().try_clone()?);
    let mut pages = SerializedPageReader::new(reader, chunk, rows as usize, None)?;
    let (mut row, mut largest) = (RowSize::default(), RowSize::default());
    let (mut begun, mut longest_entry) = (false, 0);
    let broken = || ParquetError::General("the levels of a page are broken".into());
    while let Some(page) = pages.get_next_page()? {
        if let Page::DictionaryPage {
            buf, num_values, ..
        } = &page
        {
            longest_entry = (0..*num_values)
                .scan(&buf[..], |rest, _| next_string(rest))
                .max()
                .unwrap_or(0);
            continue;
        }
        let strings = chunk.column_type() == PhysicalType::BYTE_ARRAY;
        let parts = Parts::of(
            &page,
            descriptor.max_rep_level(),
            descriptor.max_def_level(),
        );
        let Parts {
            repetition,
            definition,
            mut values,
        } = parts.ok_or_else(broken)?;
        let whole = values.len() as u64;
        let mut charged = false;
        let defined = u8::try_from(descriptor.max_def_level()).map_err(|_| broken())?;
        for (repeated, level) in repetition.zip(definition).take(page.num_values() as usize) {
            if repeated == 0 {
                if begun && cost(&row) > cost(&largest) {
                    largest = row;
                }
                let number = if begun { row.row + 1 } else { 0 };
                row = RowSize {
                    row: number,
                    ..RowSize::default()
                };
                (begun, charged) = (true, false);
            }
            row.values += 1;
            row.bytes += match page.encoding() {
                _ if !strings || level < defined => 0,
                Encoding::PLAIN => next_string(&mut values).unwrap_or(0),
                Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY => longest_entry,
                _ if charged => 0,
                _ => {
                    charged = true;
                    whole
                }
            };
        }
    }
    if begun && cost(&row) > cost(&largest) {
        largest = row;
    }
    Ok(largest)
}

/// The length of the string at the front, which is taken off.
fn next_string(rest: &mut &[u8]) -> Option<u64> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    *rest = after.get(length as usize..).unwrap_or_default();
    Some(u64::from(length))
}

/// What a data page consists of.
struct Parts<'a> {
    repetition: Levels<'a>,
    definition: Levels<'a>,
    values: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(page: &'a Page, repetition: i16, definition: i16) -> Option<Self> {
        let widths = [width(repetition), width(definition)];
        match page {
            Page::DataPage {
                buf,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let mut rest = &buf[..];
                let mut levels = [&[][..]; 2];
                let encodings = [rep_level_encoding, def_level_encoding];
                for ((levels, width), encoding) in levels.iter_mut().zip(widths).zip(encodings) {
                    if width > 0 {
                        if *encoding != Encoding::RLE {
                            return None;
                        }
                        let (length, after) = rest.split_first_chunk::<4>()?;
                        let length = u32::from_le_bytes(*length) as usize;
                        (*levels, rest) = after.split_at_checked(length)?;
                    }
                }
                Some(Self {
                    repetition: Levels::new(levels[0], widths[0]),
                    definition: Levels::new(levels[1], widths[1]),
                    values: rest,
                })
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let (repetition, rest) = buf.split_at_checked(*rep_levels_byte_len as usize)?;
                let (definition, values) = rest.split_at_checked(*def_levels_byte_len as usize)?;
                Some(Self {
                    repetition: Levels::new(repetition, widths[0]),
                    definition: Levels::new(definition, widths[1]),
                    values,
                })
            }
            Page::DictionaryPage { .. } => None,
        }
    }
}

/// Bits of a level that is at most `most`.
fn width(most: i16) -> u32 {
    i16::BITS - most.max(0).leading_zeros()
}

/// Levels in Parquet's hybrid of runs and packed bits; those of a width of 0 are zeros without end.
struct Levels<'a> {
    bytes: &'a [u8],
    width: u32,
    /// Level and how often it still comes.
    run: (u8, u64),
    /// Packed levels: their bytes, the next bit, how many still come.
    packed: (&'a [u8], usize, u64),
}

impl<'a> Levels<'a> {
    fn new(bytes: &'a [u8], width: u32) -> Self {
        let run = (0, if width == 0 { u64::MAX } else { 0 });
        Self {
            bytes,
            width,
            run,
            packed: (&[], 0, 0),
        }
    }

    /// Reads the header of the next run.
    fn next_run(&mut self) -> Option<()> {
        let (mut header, mut shift) = (0_u64, 0);
        loop {
            let (&byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            header |= u64::from(byte & 127).checked_shl(shift)?;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        if self.width > 8 {
            return None;
        }
        if header & 1 == 0 {
            let (&level, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            self.run = (level, header >> 1);
        } else {
            let groups = header >> 1;
            let bytes = groups.checked_mul(u64::from(self.width))?;
            // The last group may be cut off at the end of the page.
            let bytes = usize::try_from(bytes).ok()?.min(self.bytes.len());
            let (packed, rest) = self.bytes.split_at_checked(bytes)?;
            self.bytes = rest;
            self.packed = (packed, 0, groups.checked_mul(8)?);
        }
        Some(())
    }
}

impl Iterator for Levels<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            if self.run.1 > 0 {
                self.run.1 -= 1;
                return Some(self.run.0);
            }
            if self.packed.2 > 0 {
                let (bytes, bit, left) = &mut self.packed;
                let mut level = 0;
                for place in 0..self.width {
                    let byte = bytes.get(*bit / 8).copied().unwrap_or(0);
                    level |= (byte >> (*bit % 8) & 1) << place;
                    *bit += 1;
                }
                *left -= 1;
                return Some(level);
            }
            self.next_run()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::file::properties::{WriterProperties, WriterVersion};

    use super::{Encoding, Levels, RowSize, largest};

    /// The largest row of each column of 50 rows, of which the 31st has 700 numbers and strings.
    fn rows(version: WriterVersion, dictionary: bool) -> Vec<RowSize> {
        let mut numbers = ListBuilder::new(Int64Builder::new());
        let mut strings = ListBuilder::new(StringBuilder::new());
        for row in 0..50 {
            let count = if row == 31 { 700 } else { row % 3 };
            for value in 0..count {
                numbers.values().append_value(value);
                strings
                    .values()
                    .append_option((value % 7 != 1).then_some("four"));
            }
            numbers.append(row != 8);
            strings.append(true);
        }
        let columns: [(&str, ArrayRef); 2] = [
            ("numbers", Arc::new(numbers.finish())),
            ("strings", Arc::new(strings.finish())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_dictionary_enabled(dictionary)
            .set_encoding(Encoding::PLAIN)
            .set_data_page_row_count_limit(10)
            .set_write_batch_size(10)
            .build();
        let mut writer =
            ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.reopen().unwrap()).unwrap();
        let opened = fs_err::File::open(file.path()).unwrap();
        let columns = builder.metadata().row_group(0).columns();
        columns
            .iter()
            .map(|chunk| largest(&opened, chunk, 50, |row| row.values).unwrap())
            .collect()
    }

    #[test]
    fn the_largest_row() {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let found = rows(version, dictionary);
                assert_eq!(
                    (found[0].row, found[0].values, found[0].bytes),
                    (31, 700, 0)
                );
                assert_eq!(
                    (found[1].row, found[1].values, found[1].bytes),
                    (31, 700, 2400)
                );
            }
        }
    }

    #[test]
    fn runs_and_packed_levels() {
        // Five twos, then 0 1 2 3 0 1 2 3, packed in two bits each.
        let levels = Levels::new(&[10, 2, 3, 0b1110_0100, 0b1110_0100], 2);
        let expected = [2, 2, 2, 2, 2, 0, 1, 2, 3, 0, 1, 2, 3];
        assert_eq!(levels.collect::<Vec<_>>(), expected);
        assert_eq!(Levels::new(&[], 0).take(3).collect::<Vec<_>>(), [0; 3]);
        for broken in [
            &[0xff; 20][..],
            &[10],
            &[],
            &[0xff, 0xff, 0xff, 0xff, 0x0f, 1],
        ] {
            assert!(Levels::new(broken, 2).take(1000).count() <= 1000);
        }
    }
}

//! How large the pages of a Parquet column are: a page is decompressed as a whole, whatever is read of it.
//!
//! The headers of the pages stand in front of them, as Thrift structures in the compact protocol
//! (`PageHeader` of parquet-format); nothing but these headers is read.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use fs_err::File;
use parquet::file::metadata::ColumnChunkMetaData;

/// Bytes that are read for a header at first; most are shorter.
const HEADER_BYTES: usize = 256;
/// Structures within structures in a header, at most; the format has four.
const MOST_NESTING: usize = 16;

/// The largest pages of a column chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageSizes {
    /// The dictionary, decompressed, bytes; 0 where there is none.
    pub dictionary: u64,
    /// The largest data page, decompressed, bytes.
    pub data: u64,
    /// The largest page as it is stored, bytes.
    pub stored: u64,
    /// The most values of a data page.
    pub values: u64,
}

impl PageSizes {
    /// Reads the headers of a chunk; where they make no sense, the chunk counts as one page, and the decoder
    /// will say what is wrong with it.
    pub fn of(file: &File, chunk: &ColumnChunkMetaData) -> Self {
        Self::survey(file, chunk).unwrap_or_else(|_| Self {
            dictionary: 0,
            data: chunk.uncompressed_size().max(0).unsigned_abs(),
            stored: chunk.compressed_size().max(0).unsigned_abs(),
            values: chunk.num_values().max(0).unsigned_abs(),
        })
    }

    fn survey(file: &File, chunk: &ColumnChunkMetaData) -> io::Result<Self> {
        let start = chunk.dictionary_page_offset();
        let start = unsigned(start.unwrap_or(chunk.data_page_offset()))?;
        let end = start.saturating_add(unsigned(chunk.compressed_size())?);
        let mut reader = BufReader::with_capacity(HEADER_BYTES, file);
        let (mut sizes, mut at) = (Self::default(), start);
        while at < end {
            reader.seek(SeekFrom::Start(at))?;
            let mut header = Compact { reader, read: 0 };
            let page = header.page()?;
            at = at.saturating_add(header.read).saturating_add(page.stored);
            reader = header.reader;
            sizes.stored = sizes.stored.max(page.stored);
            if page.is_dictionary {
                sizes.dictionary = sizes.dictionary.max(page.size);
            } else {
                sizes.data = sizes.data.max(page.size);
                sizes.values = sizes.values.max(page.values);
            }
        }
        Ok(sizes)
    }
}

/// What matters of a `PageHeader`.
#[derive(Debug, Default)]
struct Page {
    is_dictionary: bool,
    size: u64,
    stored: u64,
    values: u64,
}

/// A reader of the compact protocol that counts its bytes.
struct Compact<R> {
    reader: R,
    read: u64,
}

/// Types of the compact protocol.
mod kind {
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const I8: u8 = 3;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const SET: u8 = 10;
    pub const STRUCT: u8 = 12;
}

impl<R: BufRead> Compact<R> {
    fn page(&mut self) -> io::Result<Page> {
        let mut page = Page::default();
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (1, kind::I32) => page.is_dictionary = self.integer()? == 2,
                (2, kind::I32) => page.size = unsigned(self.integer()?)?,
                (3, kind::I32) => page.stored = unsigned(self.integer()?)?,
                // The headers of data pages, of both versions, begin with the number of values.
                (5 | 8, kind::STRUCT) => page.values = self.values()?,
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(page)
    }

    fn values(&mut self) -> io::Result<u64> {
        let (mut values, mut field) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            match (field, kind) {
                (1, kind::I32) => values = unsigned(self.integer()?)?,
                _ => self.skip(kind, 1)?,
            }
        }
        Ok(values)
    }

    /// The type of the next field, whose number replaces that of the one before; `None` at the end.
    fn field(&mut self, number: &mut i64) -> io::Result<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *number = match byte >> 4 {
            0 => self.integer()?,
            more => number.saturating_add(i64::from(more)),
        };
        Ok(Some(byte & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        if depth > MOST_NESTING {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match kind {
            kind::TRUE | kind::FALSE => Ok(()),
            kind::I8 => self.pass(1),
            kind::I16 | kind::I32 | kind::I64 => self.varint().map(|_| ()),
            kind::DOUBLE => self.pass(8),
            kind::BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            kind::LIST | kind::SET => {
                let byte = self.byte()?;
                let length = match byte >> 4 {
                    15 => self.varint()?,
                    length => u64::from(length),
                };
                for _ in 0..length {
                    match byte & 15 {
                        kind::TRUE | kind::FALSE => self.pass(1)?,
                        item => self.skip(item, depth + 1)?,
                    }
                }
                Ok(())
            }
            kind::STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// A signed number, whose sign is its lowest bit.
    fn integer(&mut self) -> io::Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        self.read += passed;
        if passed == bytes {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn unsigned(value: i64) -> io::Result<u64> {
    u64::try_from(value).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::metadata::RowGroupMetaData;
    use parquet::file::properties::WriterProperties;

    use super::{Compact, PageSizes};

    fn sizes(texts: &[&str], dictionary: bool) -> Vec<PageSizes> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let column: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_dictionary_enabled(dictionary)
            .set_data_page_row_count_limit(10)
            .set_write_batch_size(10)
            .build();
        let mut writer =
            ArrowWriter::try_new(file.reopen().unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.reopen().unwrap()).unwrap();
        let opened = fs_err::File::open(file.path()).unwrap();
        let groups = builder.metadata().row_groups();
        groups
            .iter()
            .flat_map(RowGroupMetaData::columns)
            .map(|chunk| PageSizes::survey(&opened, chunk).unwrap())
            .collect()
    }

    #[test]
    fn sizes_of_pages() {
        let long = "a".repeat(1000);
        let mut texts = vec!["short"; 95];
        texts[33] = &long;
        let plain = sizes(&texts, false)[0];
        assert_eq!((plain.dictionary, plain.values), (0, 10));
        assert!((1045..1100).contains(&plain.data), "{plain:?}");
        assert!(plain.stored < 200, "{plain:?}");
        let with_dictionary = sizes(&texts, true)[0];
        assert_eq!(with_dictionary.dictionary, 4 + 5 + 4 + 1000);
        assert!(with_dictionary.data < 50, "{with_dictionary:?}");
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            &b""[..],
            &[0x15, 0xff, 0xff],
            &[0x15; 300],
            &[0x1c; 300],
            &[
                0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x15, 0, 0x15, 1, 0x15, 1, 0],
            &[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            b"PAR1",
        ] {
            let mut header = Compact {
                reader: bytes,
                read: 0,
            };
            assert!(header.page().is_err(), "{bytes:?}");
        }
    }
}

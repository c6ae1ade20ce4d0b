//! A long row, written a cell at a time, gives the bytes of one that is in memory.

use super::super::rows::{RowEncoder, RowSpool};
use super::*;
use crate::durable::Disk;
use crate::journal::{Opened, RunKey};

const COLUMNS: &Columns<'static> = &[
    ("row", Kind::I64),
    ("id", Kind::Text),
    ("site", Kind::Name),
    ("number", Kind::U32),
    ("share", Kind::OptionalF64),
    ("count", Kind::OptionalU32),
    ("ids", Kind::ListU32),
    ("scores", Kind::ListF32),
    ("best", Kind::MatrixU32),
    ("weights", Kind::MatrixF32),
    ("offsets", Kind::OptionalPairs),
    ("vector", Kind::Vector(3)),
    ("labels", Kind::Names),
    ("sum", Kind::F64),
];

/// Tokens of the rows: long ones beside short ones, at the beginning and the end too, and one between the two bounds.
const TOKENS: [usize; 7] = [150_000, 3, 0, 30_000, 150_001, 200_000, 7];

fn encode(row: usize, cells: &mut RowEncoder<'_>) {
    let tokens = TOKENS[row];
    let value = |place: usize| ((place * 7919 + row) % 50_021) as f32 / 3.0 - 7.0;
    let bytes = |place: usize| value(place).to_le_bytes();
    let pairs: Vec<[u32; 2]> = (0..tokens as u32).map(|token| [token, token + 2]).collect();
    cells.u64(row as u64);
    cells.text(&format!("record {row}"));
    cells.text("hidden");
    cells.u32(tokens as u32);
    cells.optional_f64((row != 1).then_some(0.5));
    cells.optional_u32((row != 4).then_some(9));
    cells.list_u32((0..tokens as u32).map(|token| token * 31 % 1000));
    let scores: Vec<f32> = (0..tokens).map(value).collect();
    if row.is_multiple_of(2) {
        cells.list_f32_after_null(&scores);
    } else {
        cells.list_f32(scores.iter().copied());
    }
    let ids = (0..2 * tokens).map(|place| (place as u32 % 77).to_le_bytes());
    cells.matrix(2, 2 * tokens, ids);
    cells.matrix(2, 2 * tokens, (0..2 * tokens).map(bytes));
    cells.optional_pairs((row != 5).then_some(&pairs));
    cells.vector((row != 2).then_some(&[1.0, 2.0, 3.0]));
    cells.names(&["yes".to_owned(), "no".to_owned()]);
    cells.f64(1.0 / 3.0);
}

fn open(folder: &std::path::Path) -> OutputFolder {
    let disk = Disk::limited(u64::MAX);
    match OutputFolder::open_on(&disk, folder, RunKey::new(), false).unwrap() {
        Opened::New(folder) => folder,
        _ => panic!("the folder is new"),
    }
}

/// The table from a spool, as results are written.
fn from_spool(folder: &std::path::Path) -> Vec<u8> {
    let mut output = open(folder);
    let spool = RowSpool::open(&output, "rows", "table").unwrap();
    for row in 0..TOKENS.len() {
        spool.push(|cells| encode(row, cells)).unwrap();
    }
    let mut reader = spool.reader().unwrap();
    write_table(&mut output, "table", COLUMNS, |row| reader.next(row)).unwrap();
    fs_err::read(folder.join("table")).unwrap()
}

/// The same with all rows in memory; `alone`: long ones are written a cell at a time.
fn from_memory(folder: &std::path::Path, alone: bool) -> Vec<u8> {
    let mut output = open(folder);
    let write = |writer| {
        let mut table = TableWriter::new(COLUMNS, ("table", writer)).unwrap();
        for row in 0..TOKENS.len() {
            let mut encoded = EncodedRow::default();
            encoded.encode(|cells| encode(row, cells));
            if alone && encoded.length() > LONG_ROW {
                table.append_alone(&mut encoded)?.unwrap();
            } else {
                table.append(&encoded.bytes)?.unwrap();
                if encoded.length() > BATCH_BYTES {
                    table.write_batch()?;
                }
            }
        }
        table.finish()
    };
    output.publish_new("table", write).unwrap();
    fs_err::read(folder.join("table")).unwrap()
}

#[test]
fn long_rows_are_written_as_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let whole = from_memory(&folder.path().join("whole"), false);
    assert!(whole.starts_with(b"PAR1"));
    assert_eq!(whole, from_memory(&folder.path().join("cells"), true));
    assert_eq!(whole, from_spool(&folder.path().join("spool")));
}

/// What ends early, or does not end, is no row.
#[test]
fn a_long_row_that_is_cut_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    for (number, change) in [-1, 1, -5_000_000].into_iter().enumerate() {
        let mut output = open(&folder.path().join(number.to_string()));
        let mut rows = 0..1;
        let written = write_table(&mut output, "table", COLUMNS, |row| {
            row.encode(|cells| encode(0, cells));
            let length = row.bytes.len().saturating_add_signed(change);
            row.bytes.resize(length, 0);
            Ok(rows.next().is_some())
        });
        assert!(
            matches!(written, Err(ResultsError::Damaged { .. })),
            "{change}"
        );
    }
}

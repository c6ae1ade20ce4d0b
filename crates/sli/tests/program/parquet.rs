//! Parquet datasets: the columns of JSON Lines, in the types that writers use, and damaged files.

use std::path::Path;
use std::sync::Arc;

use crate::place::{Outcome, Place, has};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int8Array, Int64Array, LargeStringArray, ListBuilder,
    RecordBatch, StringArray, StringBuilder, StringViewArray, StructBuilder, UInt32Builder,
};
use arrow::array::{
    BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, LargeListBuilder, NullArray,
};
use arrow::datatypes::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde_json::Value;

pub fn parquet(columns: &[(&str, ArrayRef)], compression: Compression, rows: usize) -> Vec<u8> {
    let columns = columns
        .iter()
        .map(|(name, array)| (*name, Arc::clone(array), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let numbers = ColumnPath::new(["input_ids", "list", "item"].map(String::from).into());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(rows))
        // Pages and dictionaries of any size, as other writers make them.
        .set_data_page_size_limit(1 << 30)
        .set_dictionary_page_size_limit(1 << 30)
        .set_column_dictionary_enabled(numbers, false)
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

fn plan(place: &Place, columns: &[(&str, ArrayRef)]) -> Outcome {
    place.write("in.parquet", parquet(columns, Compression::SNAPPY, 1000));
    place.sli(&["plan", "model", "--json", "--input", "in.parquet"])
}

#[track_caller]
fn counts(outcome: &Outcome) -> (u64, u64) {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let json: Value = serde_json::from_str(&outcome.stdout).unwrap();
    (
        json["records"].as_u64().unwrap(),
        json["tokens"].as_u64().unwrap(),
    )
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Lists of `i64`, `None` for a null list.
pub fn lists(values: &[Option<&[i64]>]) -> ArrayRef {
    let mut lists = ListBuilder::new(Int64Builder::new());
    for value in values {
        lists.append_option(value.map(|list| list.iter().copied().map(Some)));
    }
    Arc::new(lists.finish())
}

#[test]
fn columns_of_every_type() {
    let place = Place::with_llama();
    let texts = ["the cat", "a dog ran"];
    let all: [ArrayRef; 3] = [
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(LargeStringArray::from_iter_values(texts)),
        Arc::new(StringViewArray::from_iter_values(texts)),
    ];
    for text in all {
        let ids: [ArrayRef; 5] = [
            Arc::new(Int8Array::from(vec![-1, 2])),
            Arc::new(Int64Array::from(vec![None, None])),
            Arc::new(Int64Array::from(vec![0, 1 << 60])),
            strings(&[Some("x/y"), Some("")]),
            Arc::new(NullArray::new(2)),
        ];
        for id in ids {
            let other: ArrayRef = Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
            let outcome = plan(
                &place,
                &[("label", other), ("text", Arc::clone(&text)), ("id", id)],
            );
            assert_eq!(counts(&outcome), (2, 3 + 4));
        }
    }
    let mut narrow = LargeListBuilder::new(UInt32Builder::new());
    let mut wide = ListBuilder::new(Int32Builder::new());
    for list in [&[3_u32, 4, 5][..], &[]] {
        narrow.append_value(list.iter().copied().map(Some));
        wide.append_value(list.iter().map(|&id| Some(id as i32)));
    }
    let all: [ArrayRef; 3] = [
        Arc::new(narrow.finish()),
        Arc::new(wide.finish()),
        lists(&[Some(&[3, 4, 5]), Some(&[])]),
    ];
    for ids in all {
        assert_eq!(counts(&plan(&place, &[("input_ids", ids)])), (2, 3));
    }
    // Each row may use another column.
    let mixed = plan(
        &place,
        &[
            ("text", strings(&[Some("the cat"), None])),
            ("input_ids", lists(&[None, Some(&[3])])),
        ],
    );
    assert_eq!(counts(&mixed), (2, 4));
}

#[test]
fn conversations() {
    let place = Place::with_llama();
    let fields = Fields::from(vec![
        Field::new("role", DataType::Utf8, true),
        Field::new("content", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
    ]);
    let message = StructBuilder::from_fields(fields, 2);
    let mut messages = ListBuilder::new(message);
    for (role, content) in [("user", "the cat"), ("assistant", "sat")] {
        let message = messages.values();
        for (index, value) in [Some(role), Some(content), None].into_iter().enumerate() {
            message
                .field_builder::<StringBuilder>(index)
                .unwrap()
                .append_option(value);
        }
        message.append(true);
    }
    messages.append(true);
    let messages: ArrayRef = Arc::new(messages.finish());
    assert_eq!(counts(&plan(&place, &[("messages", messages)])), (1, 7));
}

#[test]
fn row_groups_and_compressions() {
    let place = Place::with_llama();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..1000).map(|_| "the cat sat"),
    ));
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
    ] {
        place.write(
            "in.parquet",
            parquet(&[("text", Arc::clone(&texts))], compression, 77),
        );
        let outcome = place.sli(&["plan", "model", "--json", "--input", "in.parquet"]);
        assert_eq!(counts(&outcome), (1000, 4000));
    }
}

#[test]
fn broken_records_are_3_and_named() {
    let place = Place::with_llama();
    let refused = |columns: &[(&str, ArrayRef)], says: &[&str]| {
        plan(&place, columns).failure(3, &[&["in.parquet"], says].concat());
    };
    refused(
        &[("label", strings(&[Some("x")]))],
        &["none of `text`", "row 0"],
    );
    refused(
        &[("text", strings(&[Some("the"), None]))],
        &["`text` is null", "row 1", "--skip-empty"],
    );
    refused(
        &[
            ("text", strings(&[Some("the"), Some("a")])),
            ("id", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ],
        &["the id is null", "row 1"],
    );
    refused(
        &[("input_ids", lists(&[Some(&[3]), Some(&[-4])]))],
        &["-4 is negative", "row 1"],
    );
    refused(&[("input_ids", lists(&[Some(&[20])]))], &["token id 20"]);
    refused(
        &[("input_ids", lists(&[Some(&[1 << 40])]))],
        &["beyond any vocabulary"],
    );
    refused(
        &[("input_ids", strings(&[Some("1 2")]))],
        &["`input_ids` holds strings"],
    );
    refused(
        &[("text", Arc::new(BooleanArray::from(vec![true])))],
        &["`text` holds booleans"],
    );
    refused(
        &[
            ("id", Arc::new(Float64Array::from(vec![1.0]))),
            ("text", strings(&[Some("the")])),
        ],
        &["`id` holds floating-point numbers"],
    );
    refused(
        &[
            ("id", strings(&[Some("a"), Some("a")])),
            ("text", strings(&[Some("the"), Some("the")])),
        ],
        &["same id, row 0", "row 1"],
    );
    refused(
        &[
            ("images", strings(&[Some("a.png")])),
            ("text", strings(&[Some("the")])),
        ],
        &["takes no `images`"],
    );
    let masked = |mask: &[i64]| {
        [
            ("input_ids", lists(&[Some(&[3, 4])])),
            ("attention_mask", lists(&[Some(mask)])),
        ]
    };
    plan(&place, &masked(&[1, 1])).success();
    assert_eq!(counts(&plan(&place, &masked(&[1, 0]))), (1, 1));
    refused(&masked(&[0, 1]), &["`attention_mask` is 0 at position 0"]);
    refused(
        &masked(&[1]),
        &["`attention_mask` has 1 values for 2 tokens"],
    );
    let mut holes = ListBuilder::new(Int64Builder::new());
    holes.append_value([Some(3), None]);
    refused(
        &[("input_ids", Arc::new(holes.finish()))],
        &["an element is null"],
    );
    refused(&[("text", strings(&[]))], &["no records"]);
}

#[test]
fn damaged_files_are_errors() {
    let place = Place::with_llama();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..50).map(|n| format!("the {n}")),
    ));
    let file = parquet(&[("text", texts)], Compression::SNAPPY, 20);
    let run = |content: &[u8]| {
        place.write("in.parquet", content);
        place.sli(&["plan", "model", "--json", "--input", "in.parquet"])
    };
    assert_eq!(run(&file).code, 0);
    for length in [0, 3, 4, 8, 11, file.len() / 2, file.len() - 1] {
        run(&file[..length]).failure(3, &["in.parquet"]);
    }
    // Any single byte may be anything: the file is refused or, where the byte does not matter, read.
    for (step, index) in (0..file.len()).step_by(file.len() / 60).enumerate() {
        let mut damaged = file.clone();
        damaged[index] ^= 1 << (step % 8);
        let outcome = run(&damaged);
        assert!(
            outcome.code == 0 || outcome.code == 3,
            "byte {index}: {outcome:?}"
        );
    }
}

fn within(place: &Place, memory: &str) -> Outcome {
    let run = [
        "run",
        "model",
        "--input",
        "in.parquet",
        "--out",
        "out",
        "--fresh",
    ];
    let take = ["--take", "scores", "--max-length", "4", "--memory", memory];
    place.sli(&[&run[..], &take].concat())
}

#[test]
fn rows_that_share_an_entry_of_a_dictionary_share_its_memory() {
    let place = Place::with_llama();
    let long = "the cat sat ".repeat(200_000);
    let texts: ArrayRef = Arc::new(StringArray::from(vec![long.as_str(); 64]));
    let compression = Compression::ZSTD(ZstdLevel::default());
    place.write("in.parquet", parquet(&[("text", texts)], compression, 64));
    within(&place, "90MiB").success();
    let manifest = fs_err::read(place.path("out/run.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let peak = manifest["peak_memory"].as_u64().unwrap();
    assert!(peak < 90 << 20, "{peak}");
}

#[test]
fn pages_beyond_the_budget_are_4_before_they_are_read() {
    let place = Place::with_llama();
    let tokens: Vec<i64> = (0..100_000).map(|token| token * token % 19).collect();
    let ids = lists(&[Some(&tokens[..]); 40]);
    let compression = Compression::ZSTD(ZstdLevel::default());
    // One page of 32 MB that compresses to little.
    place.write(
        "in.parquet",
        parquet(&[("input_ids", ids)], compression, 40),
    );
    let outcome = within(&place, "50MiB").failure(4, &["Parquet pages", "in.parquet, row 0"]);
    assert!(!has(&place.path("out"), "run.json"));
    let (_, enough) = outcome.stderr.split_once("--memory ").unwrap();
    within(&place, enough.trim()).success();
}

#[test]
fn one_large_row_is_4_before_it_is_decoded() {
    let place = Place::with_llama();
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records/large");
    for (file, row, memory) in [
        ("ids.parquet", 17, "80MiB"),
        ("messages.parquet", 23, "50MiB"),
    ] {
        fs_err::copy(records.join(file), place.path("in.parquet")).unwrap();
        let says = format!("in.parquet, row {row}");
        let outcome = within(&place, memory).failure(4, &["a row and its Parquet pages", &says]);
        let (_, enough) = outcome.stderr.split_once("--memory ").unwrap();
        within(&place, enough.trim()).success();
        let manifest = fs_err::read(place.path("out/run.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let peak = manifest["peak_memory"].as_u64().unwrap();
        let mebibytes: u64 = enough.trim().trim_end_matches("MiB").parse().unwrap();
        assert!(peak <= mebibytes << 20, "{peak} of {enough}");
    }
}

#[test]
fn labels_and_masks_of_other_types() {
    let place = Place::with_llama();
    let ids = lists(&[Some(&[1, 2])]);
    let mut floats = ListBuilder::new(Float64Builder::new());
    floats.append_value([Some(-100.0), Some(2.0)]);
    let floats: ArrayRef = Arc::new(floats.finish());
    let columns = [("input_ids", Arc::clone(&ids)), ("labels", floats)];
    place.write("in.parquet", parquet(&columns, Compression::SNAPPY, 1000));
    let run = ["run", "model", "--input", "in.parquet", "--out", "out"];
    let run = [&run[..], &["--take", "scores"]].concat();
    place
        .sli(&run)
        .failure(3, &["`labels` holds -100.0 at position 0"]);
    let mut mask = ListBuilder::new(BooleanBuilder::new());
    mask.append_value([Some(false), Some(true)]);
    let mask: ArrayRef = Arc::new(mask.finish());
    let columns = [("input_ids", ids), ("completion_mask", mask)];
    place.write("in.parquet", parquet(&columns, Compression::SNAPPY, 1000));
    place.sli(&run).success();
}

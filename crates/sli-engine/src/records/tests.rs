use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;

use super::ids::*;
use super::layout::*;
use super::*;
use crate::annotation::{Annotation, Completion, TextSpans};
use crate::durable::Disk;
use crate::prefix::LEAST;
use crate::results::ResultsError;

fn record(id: &str, tokens: &[u32]) -> Record {
    Record {
        asked: Vec::new(),
        id: id.into(),
        row: (id.len() as u64) << 33 | 3,
        tokens: tokens.into(),
        token_types: None,
        labels: None,
        inputs: None,
        features: None,
    }
}

fn spool_of(folder: &Path, records: &[Record]) -> RecordSpool {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    for record in records {
        writer.push(record).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn reads_back_any_range() {
    let folder = tempfile::tempdir().unwrap();
    let mut records: Vec<Record> = (0..300_u32)
        .map(|i| {
            record(
                &format!("id \u{1F600} {i}"),
                &(0..i % 7).collect::<Vec<_>>(),
            )
        })
        .collect();
    records[130].token_types = Some(vec![1; records[130].tokens.len()]);
    records[140].token_types = Some(Vec::new());
    records[140].tokens.clear();
    let made = spool_of(folder.path(), &records);
    let opened = RecordSpool::open(folder.path()).unwrap().unwrap();
    for spool in [made, opened] {
        assert_eq!(spool.len(), 300);
        assert_eq!(spool.longest(), 6);
        let total: usize = records.iter().map(|record| record.tokens.len()).sum();
        assert_eq!(spool.total_tokens(), total as u64);
        assert_eq!(spool.token_start(300), total as u64);
        assert!(spool.has_token_types());
        for range in [0..300, 63..64, 64..64, 100..200, 130..131, 299..300] {
            assert_eq!(spool.read(range.clone()).unwrap(), records[range]);
        }
        assert_eq!(spool.tokens_of(130), records[130].tokens.len());
        let mut seen = Vec::new();
        spool
            .for_each_id::<ResultsError>(10..300, |index, id| {
                assert_eq!(index, 10 + seen.len());
                seen.push(id.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, spool.ids(10..300).unwrap());
        assert!(spool.bytes_in_memory() <= 16 * 300);
    }
}

#[test]
fn what_is_known_of_a_record_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let text = |offsets: &[[u32; 2]]| TextSpans {
        bytes: 9,
        offsets: offsets.to_vec(),
    };
    let completion = |tokens: &[bool], bytes| Completion {
        tokens: tokens.to_vec(),
        bytes,
    };
    let records = [
        (record("none", &[1, 2]), Annotation::default()),
        (
            record("text", &[3, 4, 5]),
            Annotation {
                text: Some(text(&[[0, 0], [0, 4], [4, 9]])),
                completion: None,
            },
        ),
        (record("between", &[6]), Annotation::default()),
        (
            record("both", &[7, 8]),
            Annotation {
                text: Some(text(&[[0, 2], [2, 9]])),
                completion: Some(completion(&[false, true], Some(0))),
            },
        ),
        (
            record("labels", &[7]),
            Annotation {
                text: None,
                completion: Some(completion(&[true], None)),
            },
        ),
        (
            record("empty", &[]),
            Annotation {
                text: Some(text(&[])),
                completion: None,
            },
        ),
    ];
    let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
    for (record, annotation) in &records {
        writer.push_annotated(record, annotation).unwrap();
    }
    let wrong = Annotation {
        text: Some(text(&[[0, 1]])),
        completion: None,
    };
    assert!(
        writer
            .push_annotated(&record("wrong", &[]), &wrong)
            .is_err()
    );
    writer.set_needed(77);
    let made = writer.finish().unwrap();
    let opened = RecordSpool::open(folder.path()).unwrap().unwrap();
    for spool in [made, opened] {
        for (index, (record, annotation)) in records.iter().enumerate() {
            assert_eq!(
                &spool.annotation(index).unwrap(),
                annotation,
                "{}",
                record.id
            );
        }
        let names = spool.names(1..3).unwrap();
        assert_eq!(
            names,
            [
                (4 << 33 | 3, "text".into()),
                (7 << 33 | 3, "between".into())
            ]
        );
        assert_eq!(spool.needed(), 77);
        assert_eq!(
            [0, 1, 2, 4, 5, 6, 7, 8].map(|token| spool.record_of(token)),
            [0, 0, 1, 1, 2, 3, 3, 4]
        );
    }
}

#[test]
fn common_beginnings_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let long = |id: &str, last: &[u32]| record(id, &[&[7; LEAST], last].concat());
    let records = [
        long("a", &[1, 2, 3, 4]),
        long("b", &[1, 2, 5]),
        long("c", &[1, 2, 3, 4, 6]),
        record("d", &[7, 7]),
        long("e", &[1, 2, 3]),
        Record {
            token_types: Some([&[0; LEAST + 1][..], &[1]].concat()),
            ..long("f", &[1, 2])
        },
    ];
    let spool = spool_of(folder.path(), &records);
    let shared: Vec<usize> = (0..6)
        .map(|index| spool.shared_with_previous(index))
        .collect();
    assert_eq!(shared, [0, LEAST + 2, LEAST + 2, 0, 0, LEAST + 1]);
    assert_eq!(spool.longest_shared(), LEAST + 4);
}

#[test]
fn an_empty_spool_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = spool_of(folder.path(), &[]);
    assert!(spool.is_empty());
    assert_eq!(spool.read(0..0).unwrap(), []);
    assert!(RecordSpool::open(folder.path()).unwrap().is_some());
}

#[test]
fn refuses_ids_that_cannot_name_a_result() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
    for (id, fine) in [
        ("0", true),
        ("2", true),
        ("2", false),
        ("00", true),
        ("0", false),
        ("5", true),
        ("5", false),
        ("a/../b", true),
        ("", true),
        ("", false),
        ("__metadata__", false),
        ("7", true),
        ("8", true),
        ("8", false),
    ] {
        let outcome = writer.push(&record(id, &[1]));
        assert_eq!(outcome.is_ok(), fine, "{id}");
        if let Err(error) = outcome {
            assert_eq!(error.exit_code(), 3);
        }
    }
    assert!(writer.push(&record(&"x".repeat(70_000), &[])).is_err());
}

#[test]
fn numbers_as_ids_cost_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
    for index in 0..10_000 {
        writer.push(&record(&index.to_string(), &[])).unwrap();
    }
    let ids = writer.ids.as_ref().expect("ids are looked at");
    assert!(ids.bytes_in_memory() < 4096);
    for index in 0..1000 {
        writer.push(&record(&format!("x{index}"), &[])).unwrap();
    }
    assert!(writer.bytes_in_memory() >= 16 * 1000);
}

#[test]
fn a_spool_that_is_not_whole_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    assert!(RecordSpool::open(folder.path()).unwrap().is_none());
    let records = [record("a", &[1, 2, 3]), record("b", &[4])];
    let mut writer = RecordSpoolWriter::create(folder.path()).unwrap();
    writer.push(&records[0]).unwrap();
    drop(writer);
    assert!(RecordSpool::open(folder.path()).unwrap().is_none());
    for file in FILES.iter().chain([&HEADER]) {
        spool_of(folder.path(), &records);
        let path = folder.path().join(file);
        let mut bytes = fs_err::read(&path).unwrap();
        match bytes.first_mut() {
            Some(byte) => *byte ^= 1,
            None => bytes.push(0),
        }
        fs_err::write(&path, bytes).unwrap();
        assert!(
            RecordSpool::open(folder.path()).unwrap().is_none(),
            "{file}"
        );
    }
}

#[test]
fn a_crash_or_a_full_disk_leaves_nothing_that_opens_wrongly() {
    let records = [record("a", &[1, 2, 3]), record("b", &[4])];
    let write = |disk: &Disk, folder: &Path| -> Result<RecordSpool, ResultsError> {
        let mut writer = RecordSpoolWriter::create_on(disk, folder)?;
        records.iter().try_for_each(|record| writer.push(record))?;
        writer.finish()
    };
    for steps in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let done = write(&Disk::crashing_after(steps), &folder.path().join("s")).is_ok();
        let opened = RecordSpool::open(&folder.path().join("s")).unwrap();
        if let Some(spool) = &opened {
            assert_eq!(spool.read(0..2).unwrap(), records);
        }
        if done {
            assert!(opened.is_some());
            break;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let error = write(&Disk::limited(40), folder.path()).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("no space left"), "{error}");
    assert!(write(&Disk::real(), folder.path()).is_ok());
}

proptest! {
    #[test]
    fn duplicates_are_found(ids in proptest::collection::vec("[0-9]{1,2}|[ab]", 0..80)) {
        let mut seen = SeenIds::default();
        let mut reference = HashSet::new();
        for id in &ids {
            // A refused record ends the run, so nothing follows a repetition.
            let new = reference.insert(id.clone());
            prop_assert_eq!(seen.insert(id), new);
            if !new {
                break;
            }
        }
    }
}

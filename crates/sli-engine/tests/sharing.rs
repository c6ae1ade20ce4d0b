//! Common beginnings of records are computed once, and nobody can tell: every result file has the same
//! bytes with and without, for every type, budget and interruption.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read or write its files has failed"
)]

#[path = "support/pictures.rs"]
mod pictures;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::{LayerSelection, Take};
use sli_engine::{
    Compute, EngineError, Event, Model, Observer, OpenOptions, Quiet, Settings, Spill, Summary,
    available_takes, plan, run,
};
use sli_spec::registry::MODEL_TYPES;
use sli_spec::{Input, LengthLimit, ModelSpec, Stack};
use sli_testing::{Golden, Stored, golden_names};

use pictures::{pictures_of, positions_of};
use support::{Files, files, open};

/// Goldens that are checked at a time.
const SIDE_BY_SIDE: usize = 8;

fn settings() -> Settings {
    Settings {
        takes: vec![
            Take::Hidden(LayerSelection::all()),
            Take::Logits,
            Take::Scores,
            Take::TopK(3),
            Take::Embedding(None),
            Take::Router,
            Take::Profile,
        ],
        memory: 8 << 30,
        spill_room: 1 << 30,
        chunk_tokens: Some(24),
        ..Settings::default()
    }
}

/// A sequence of numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Records that go on from parts of earlier ones, or begin anew; some have no tokens, some occur twice.
fn tree(random: &mut Random, spec: &ModelSpec, count: usize) -> Vec<Record> {
    let Input::Tokens(embedding) = &spec.output_stack().input else {
        panic!("a decoder of tokens");
    };
    let longest = match spec.output_stack().limit {
        LengthLimit::Table(limit) => limit.min(60),
        LengthLimit::Trained(_) | LengthLimit::None => 60,
    };
    let table = embedding.token_types.as_ref();
    let types = table.map_or(0, |table| table.types);
    let mut records: Vec<Record> = Vec::new();
    for id in 0..count {
        let (mut tokens, mut token_types) = (Vec::new(), None);
        let earlier = random.below(records.len() + 1);
        if let Some(earlier) = records.get(earlier) {
            let kept = earlier.tokens.len() - random.below(earlier.tokens.len() / 2 + 1);
            tokens.extend(&earlier.tokens[..kept]);
            token_types = earlier
                .token_types
                .as_ref()
                .map(|types| types[..kept].to_vec());
        }
        let most = longest - tokens.len();
        let more = match random.below(8) {
            0 => 0,
            1..7 => random.below(most.min(12) + 1),
            _ => random.below(most + 1),
        };
        tokens.extend((0..more).map(|_| random.below(spec.vocab_size.min(90)) as u32));
        if types > 1 && (token_types.is_some() || random.below(3) == 0) {
            let types = token_types.get_or_insert_default();
            let missing = tokens.len() - types.len();
            types.extend((0..missing).map(|_| random.below(2) as u32));
        }
        records.push(Record {
            id: id.to_string(),
            tokens,
            token_types,
            ..Record::default()
        });
    }
    records
}

fn spool(records: &[Record], folder: &Path) -> RecordSpool {
    let mut writer = RecordSpoolWriter::create(folder).unwrap();
    for record in records {
        writer.push(record).unwrap();
    }
    writer.finish().unwrap()
}

/// The records with what a decoder gets of them: of each as much as the one on the other side has, and labels.
fn spool_pairs(records: &[Record], folder: &Path) -> RecordSpool {
    let writer = RecordSpoolWriter::create(folder).unwrap();
    let mut writer = writer.with_decoder().unwrap();
    for (record, other) in records.iter().zip(records.iter().rev()) {
        writer.push(record).unwrap();
        let decoder = Record {
            tokens: other.tokens.clone(),
            labels: (record.row % 2 == 0).then(|| other.tokens.clone()),
            token_types: None,
            ..record.clone()
        };
        let annotation = sli_engine::Annotation::default();
        writer.push_decoder(&decoder, &annotation).unwrap();
    }
    writer.finish().unwrap()
}

/// Runs to the end in a folder of its own.
fn results(
    model: &Model,
    records: &RecordSpool,
    settings: &Settings,
) -> Result<(Files, Summary), EngineError> {
    let out = tempfile::tempdir().unwrap();
    let summary = run(model, records, settings, open(out.path()), &Quiet)?;
    Ok((files(out.path()), summary))
}

/// Names of the files that differ.
fn different(found: &Files, expected: &Files) -> Vec<PathBuf> {
    let names: BTreeSet<&PathBuf> = found.keys().chain(expected.keys()).collect();
    let differs = |name: &&&PathBuf| found.get(**name) != expected.get(**name);
    names
        .iter()
        .filter(differs)
        .map(|&name| name.clone())
        .collect()
}

/// Records of a golden with pictures: its own, with other texts behind the same pictures, other pictures in front of the same texts,
/// and texts alone.
fn questions(random: &mut Random, golden: &Golden, model: &Model) -> Vec<(Record, Record)> {
    let spec = &model.spec;
    let longest = match spec.input_stack().limit {
        LengthLimit::Table(limit) => limit,
        LengthLimit::Trained(_) | LengthLimit::None => usize::MAX,
    };
    let own = golden.records();
    let placeholder = spec.scattered().map(|(scattered, _)| scattered.token);
    let first = own.iter().find(|record| record.pictures.is_some());
    let first = first.expect("a record with pictures");
    let mut asked = Vec::new();
    for id in 0..18 {
        // Two at least have the same pictures.
        let base = match id {
            0 | 1 => first,
            _ => &own[random.below(own.len())],
        };
        let mut tokens = base.input_ids.clone();
        if !tokens.is_empty() {
            let more = random.below(9).min(longest.saturating_sub(tokens.len()));
            tokens.extend((0..more).map(|_| 4 + random.below(80) as u32));
            let place = random.below(tokens.len());
            if random.below(3) == 0 && Some(tokens[place]) != placeholder {
                tokens[place] = 4 + random.below(80) as u32;
            }
        }
        let mut pictures = pictures_of(base, model).unwrap_or_default();
        pictures.id = id.to_string();
        if let Some(values) = pictures.features.as_mut()
            && id > 1
            && random.below(4) == 0
        {
            let place = random.below(values.len());
            values[place] += 0.5;
        }
        let mut record = Record {
            id: id.to_string(),
            tokens,
            ..Record::default()
        };
        record.inputs = positions_of(&record, (None, &pictures), model);
        asked.push((record, pictures));
    }
    asked
}

fn spool_questions(asked: &[(Record, Record)], model: &Model, folder: &Path) -> RecordSpool {
    let writer = RecordSpoolWriter::create(folder).unwrap();
    let mut writer = writer.with_sequences(&model.spec).unwrap();
    for (record, pictures) in asked {
        writer.push(record).unwrap();
        writer.push_pictures(pictures).unwrap();
        if let Some(decoder) = model.spec.decoder_input() {
            let own = record.tokens.iter().copied().map(Some);
            let record = Record {
                id: record.id.clone(),
                tokens: decoder.of_labels(own).unwrap(),
                ..Record::default()
            };
            let annotation = sli_engine::Annotation::default();
            writer.push_decoder(&record, &annotation).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// The same bytes with the rows of pictures once and for every record, whatever the budget, the chunks and the threads, and
/// killed again and again; why no beginnings are shared.
fn check_pictures(golden: &Golden, seed: u64) -> Result<Option<&'static str>, String> {
    let subject = Subject::of(golden);
    let model = &subject.model;
    let mut random = Random(seed);
    let work = tempfile::tempdir().unwrap();
    let asked = questions(&mut random, golden, model);
    let records = spool_questions(&asked, model, work.path());
    let alone = Settings {
        share_prefixes: false,
        ..subject.settings.clone()
    };
    let fail = |error: EngineError| format!("{} {seed}: {error}", golden.name);
    let (expected, plain) = results(model, &records, &alone).map_err(fail)?;
    let (found, summary) = results(model, &records, &subject.settings).map_err(fail)?;
    let mut all = vec![("at once".to_owned(), found)];
    // A picture may have no layers of its own.
    let layers = model.spec.stacks.iter();
    let mut layers = layers.filter(|stack| stack.sequence.is_of_pictures());
    let saves = summary.plan.not_shared.is_none() || layers.any(|stack| !stack.layers.is_empty());
    let saved = summary.token_layers < plain.token_layers;
    if !summary.plan.shared_pictures || saves != saved {
        return Err(format!("{} {seed}: {summary:?}", golden.name));
    }
    for spill in [Spill::Never, Spill::Always] {
        let mut settings = Settings {
            spill,
            threads: 1 + random.below(2),
            chunk_tokens: Some(1 + random.below(40)),
            ..subject.settings.clone()
        };
        settings.memory = least(model, &records, &settings) + random.below(256 << 10) as u64;
        let what = format!("{settings:?}");
        all.push((what, results(model, &records, &settings).map_err(fail)?.0));
        let after = 3 + random.below(20);
        let killed = interrupted(model, &records, |_| settings.clone(), after);
        all.push((format!("killed, {settings:?}"), killed));
    }
    for (what, found) in all {
        let names = different(&found, &expected);
        if !names.is_empty() {
            return Err(format!("{} {seed}: {what}: {names:?}", golden.name));
        }
    }
    Ok(summary.plan.not_shared)
}

/// Goldens whose records have pictures beside their tokens.
fn goldens_with_pictures() -> Vec<Golden> {
    let mut all = goldens();
    all.retain(|golden| {
        let mut records = golden.records().into_iter();
        records.any(|record| record.pictures.is_some())
            && Subject::of(golden).model.spec.has_pictures_beside()
    });
    all
}

#[test]
fn equal_pictures_run_once() {
    let seeds = std::env::var("SEEDS").map_or(1, |seeds| seeds.parse().unwrap());
    let goldens = goldens_with_pictures();
    let check = |golden: &Golden| {
        let mut outcomes = (1..=seeds).map(|seed| check_pictures(golden, seed));
        outcomes.try_fold(None, |_, outcome| outcome)
    };
    let reasons = check_side_by_side(&goldens, check);
    println!("{reasons:#?}");
    assert!(reasons.contains_key("shared"), "no beginnings were shared");
}

/// Checks goldens; their names by the reason why nothing is shared.
fn check_side_by_side(
    goldens: &[Golden],
    check: impl Fn(&Golden) -> Result<Option<&'static str>, String> + Sync,
) -> BTreeMap<&'static str, Vec<&str>> {
    assert!(!goldens.is_empty(), "no golden was selected");
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(golden) = goldens.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = check(golden);
                    outcomes
                        .lock()
                        .unwrap()
                        .push((golden.name.as_str(), outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    let mut failures = Vec::new();
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(reason) => reasons
                .entry(reason.unwrap_or("shared"))
                .or_default()
                .push(name),
            Err(problem) => failures.push(problem),
        }
    }
    for names in reasons.values_mut() {
        names.sort_unstable();
    }
    failures.sort();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    reasons
}

struct Subject {
    _folder: tempfile::TempDir,
    model: Model,
    settings: Settings,
}

impl Subject {
    fn of(golden: &Golden) -> Self {
        let folder = tempfile::tempdir().unwrap();
        golden.write(folder.path(), Stored::F32);
        let model = Model::open(folder.path(), &OpenOptions::default()).unwrap();
        let mut settings = settings();
        settings.takes = available_takes(&model, &settings.takes).unwrap().0;
        Self {
            _folder: folder,
            model,
            settings,
        }
    }
}

/// Goldens of registered types whose records may have any tokens.
fn goldens() -> Vec<Golden> {
    let only = std::env::var("ONLY").unwrap_or_default();
    let known: BTreeSet<&str> = MODEL_TYPES.iter().map(|row| row.model_type).collect();
    let supported = |golden: &Golden| {
        if golden.folder.join("params.json").exists() {
            return true;
        }
        let text = fs_err::read_to_string(golden.folder.join("config.json")).unwrap();
        let model_type = sli_spec::Config::parse(&text).and_then(|config| config.model_type());
        known.contains(model_type.unwrap().as_str())
    };
    golden_names()
        .into_iter()
        .filter(|name| only.split(',').any(|prefix| name.starts_with(prefix)))
        .map(|name| Golden::open(&name))
        .filter(supported)
        .collect()
}

/// What was found about one golden: why nothing is shared, or whether sharing saved anything.
fn check(golden: &Golden) -> Result<Option<&'static str>, String> {
    let subject = Subject::of(golden);
    let spec = &subject.model.spec;
    if spec.output_stack().positions.divides() {
        return Ok(Some("not any tokens"));
    }
    let of_tokens = |stack: &Stack| matches!(stack.input, Input::Tokens(_));
    if !spec.stacks.iter().all(of_tokens) {
        return Ok(Some("it reads more than tokens"));
    }
    let work = tempfile::tempdir().unwrap();
    let records = tree(&mut Random(7), spec, 14);
    let records = if spec.decoder_input().is_some() {
        spool_pairs(&records, work.path())
    } else {
        spool(&records, work.path())
    };
    let alone = Settings {
        share_prefixes: false,
        ..subject.settings.clone()
    };
    let fail = |error: EngineError| format!("{}: {error}", golden.name);
    let (expected, _) = results(&subject.model, &records, &alone).map_err(fail)?;
    let (found, summary) = results(&subject.model, &records, &subject.settings).map_err(fail)?;
    let names = different(&found, &expected);
    if !names.is_empty() {
        return Err(format!("{}: {names:?} differ", golden.name));
    }
    let saved = summary.token_layers < summary.token_layers_alone;
    if saved != summary.plan.not_shared.is_none() {
        return Err(format!("{}: {summary:?}", golden.name));
    }
    Ok(summary.plan.not_shared)
}

#[test]
fn every_type_gives_the_same_bytes() {
    println!("{:#?}", check_side_by_side(&goldens(), check));
}

/// Ends the run after so many boundaries.
struct Interrupter {
    after: usize,
    seen: AtomicUsize,
}

impl Observer for Interrupter {
    fn event(&self, _event: &Event<'_>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn warning(&self, _text: &str) {}

    fn interrupted(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.after
    }
}

/// Runs with an interruption every few boundaries; `settings` says how each process runs.
fn interrupted(
    model: &Model,
    records: &RecordSpool,
    settings: impl Fn(usize) -> Settings,
    after: usize,
) -> Files {
    let out = tempfile::tempdir().unwrap();
    for process in 0.. {
        let observer = Interrupter {
            after,
            seen: AtomicUsize::new(0),
        };
        let settings = settings(process);
        match run(model, records, &settings, open(out.path()), &observer) {
            Ok(_) => break,
            Err(EngineError::Interrupted) => assert!(process < 1000, "no progress"),
            Err(error) => panic!("{error}"),
        }
    }
    files(out.path())
}

/// The least memory with which a run works.
fn least(model: &Model, records: &RecordSpool, settings: &Settings) -> u64 {
    let nothing = Settings {
        memory: 0,
        ..settings.clone()
    };
    match plan(model, records, &nothing) {
        Err(EngineError::Budget { needed, .. }) => needed,
        other => panic!("a budget of nothing gave {other:?}"),
    }
}

/// Types with windows, chunks, carried state, experts, latents, slopes, tables, pairs of heads, and every mechanism that
/// goes along a record with a state.
const THOROUGHLY: [&str; 29] = [
    "llama",
    "mistral-window-5",
    "llama4_text-temperature",
    "gemma3n_text",
    "gemma4_text",
    "mixtral-16-experts",
    "jetmoe",
    "deepseek_v3",
    "deepseek_v32",
    "longcat_flash",
    "bloom",
    "falcon-alibi",
    "gpt2",
    "diffllama",
    "mamba",
    "mamba2-flags",
    "lfm2",
    "minimax",
    "qwen3_next",
    "recurrent_gemma",
    "remote-mamba2-attention",
    "remote-rwkv5",
    "remote-rwkv6",
    "remote-rwkv7",
    "rwkv",
    "xlstm-flags",
    "zamba-flags",
    "zamba2-adapters",
    "zaya-flags",
];

fn check_thoroughly(name: &str, seed: u64) {
    let subject = Subject::of(&Golden::open(name));
    let place = THOROUGHLY.iter().position(|other| *other == name).unwrap() as u64;
    let mut random = Random(1000 * seed + place);
    let work = tempfile::tempdir().unwrap();
    let count = 20 + random.below(30);
    let records = tree(&mut random, &subject.model.spec, count);
    let records = spool(&records, work.path());
    let model = &subject.model;
    for compute in [Compute::F32, Compute::Bf16] {
        let shared = Settings {
            compute,
            ..subject.settings.clone()
        };
        let alone = Settings {
            share_prefixes: false,
            chunk_tokens: None,
            ..shared.clone()
        };
        let (expected, _) = results(model, &records, &alone).unwrap();
        // Bytes above the least.
        let more = [
            random.below(96 << 10) as u64,
            random.below(256 << 10) as u64,
        ];
        let manners = [
            (0, Spill::Auto),
            (more[0], Spill::Never),
            (more[1], Spill::Never),
            (8 << 30, Spill::Always),
        ];
        for (more, spill) in manners {
            let mut settings = Settings {
                spill,
                threads: 1 + random.below(2),
                chunk_tokens: Some(1 + random.below(40)),
                ..shared.clone()
            };
            settings.memory = least(model, &records, &settings) + more;
            let what = format!("{name} {seed} {settings:?}");
            let (found, _) = results(model, &records, &settings).unwrap();
            let names = different(&found, &expected);
            assert!(names.is_empty(), "{what}: {names:?}");
        }
    }
}

/// Killed and resumed, with sharing and sometimes without.
fn check_interruptions(name: &str, seed: u64) {
    let mut subject = Subject::of(&Golden::open(name));
    // Making many files durable takes most of the time.
    let last = "hidden:last".parse().unwrap();
    subject
        .settings
        .takes
        .retain(|take| !matches!(take, Take::Hidden(_) | Take::Logits));
    subject.settings.takes.push(last);
    let mut random = Random(77 + seed);
    let work = tempfile::tempdir().unwrap();
    let records = tree(&mut random, &subject.model.spec, 20);
    let records = spool(&records, work.path());
    let model = &subject.model;
    let alone = Settings {
        share_prefixes: false,
        ..subject.settings.clone()
    };
    let (expected, _) = results(model, &records, &alone).unwrap();
    for spill in [Spill::Never, Spill::Always] {
        for toggled in [false, true] {
            let mut settings = Settings {
                spill,
                checkpoint_interval: Duration::ZERO,
                ..subject.settings.clone()
            };
            settings.memory = least(model, &records, &settings) + random.below(64 << 10) as u64;
            let after = 1 + random.below(5);
            let what = format!("{name} {seed} {after} {toggled} {settings:?}");
            let settings = |process: usize| Settings {
                share_prefixes: !toggled || process.is_multiple_of(2),
                memory: settings.memory + (process as u64 % 3) * (16 << 10),
                ..settings.clone()
            };
            let found = interrupted(model, &records, settings, after);
            let names = different(&found, &expected);
            assert!(names.is_empty(), "{what}: {names:?}");
        }
    }
}

/// Every way in which layers or rows hand something on.
const INTERRUPTED: [&str; 15] = [
    "llama",
    "gemma3n_text",
    "qwen2_moe-window",
    "mamba",
    "mamba2",
    "lfm2",
    "minimax",
    "qwen3_next",
    "recurrent_gemma",
    "remote-rwkv6",
    "remote-rwkv7",
    "rwkv",
    "xlstm-flags",
    "zamba2-adapters",
    "zaya-flags",
];

/// Seeds to try: `SEEDS=10` in the environment for more than one.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("SEEDS").map_or(1, |text| text.parse().unwrap())
}

#[test]
fn trees_of_records_in_any_manner() {
    let work: Vec<_> = seeds()
        .flat_map(|seed| THOROUGHLY.map(|name| (name, seed)))
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((name, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check_thoroughly(name, *seed);
                }
            });
        }
    });
}

#[test]
fn interruptions_change_no_byte() {
    for seed in seeds() {
        for name in INTERRUPTED {
            check_interruptions(name, seed);
        }
    }
}

/// 64 questions with four answers each, behind one of four beginnings of 600 tokens.
fn multiple_choice() -> Vec<Record> {
    let mut random = Random(3);
    let mut text = |length| -> Vec<u32> { (0..length).map(|_| random.below(90) as u32).collect() };
    let beginnings: Vec<Vec<u32>> = (0..4).map(|_| text(600)).collect();
    let mut records = Vec::new();
    for question in 0..64 {
        // All questions and answers begin differently.
        let asked = [vec![question as u32], text(59)].concat();
        for answer in 0..4 {
            let answered = [vec![answer], text(9)].concat();
            records.push(Record {
                id: format!("{question}.{answer}"),
                tokens: [&beginnings[question / 16][..], &asked, &answered].concat(),
                ..Record::default()
            });
        }
    }
    records
}

#[test]
fn questions_with_common_examples_take_a_fifth() {
    let subject = Subject::of(&Golden::open("llama"));
    let settings = Settings {
        takes: vec![Take::Scores],
        threads: 2,
        chunk_tokens: None,
        ..subject.settings.clone()
    };
    let layers = subject.model.spec.output_stack().layers.len() as u64;
    let mut records = multiple_choice();
    for order in ["as asked", "shuffled"] {
        let work = tempfile::tempdir().unwrap();
        let spooled = spool(&records, work.path());
        let (_, summary) = results(&subject.model, &spooled, &settings).unwrap();
        let (computed, alone) = (summary.token_layers, summary.token_layers_alone);
        assert!(5 * computed <= alone, "{order}: {computed} of {alone}");
        assert_eq!(alone, layers * 256 * 670, "{order}");
        // The plan knows of what stands side by side.
        let planned = summary.plan.rows * layers;
        assert!(computed <= planned, "{order}: {computed}, not {planned}");
        if order == "as asked" {
            assert_eq!(computed, planned);
            assert_eq!(computed, layers * (4 * 600 + 64 * 60 + 256 * 10));
        }
        let mut random = Random(11);
        for last in (1..records.len()).rev() {
            records.swap(last, random.below(last + 1));
        }
    }
}

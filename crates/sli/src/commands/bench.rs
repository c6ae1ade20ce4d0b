//! `sli bench`: what this machine does at best, and where the time of a pass goes.

use std::path::Path;

use serde::Serialize;
use sli_engine::bytes::human;
use sli_engine::ceilings::{CeilingsCache, DiskCeilings, ProcessorCeilings};
use sli_engine::durable::DiskError;
use sli_engine::journal::RunKey;
use sli_engine::records::RecordSpool;
use sli_engine::take::Take;
use sli_engine::{
    Model, Quiet, Session, SessionOptions, Stages, Start, Summary, forget_peak_memory, lacking,
    processors,
};
use sli_remote::Keep;
use sli_spec::LengthLimit;

use super::table::table;
use crate::cli::BenchArgs;
use crate::code_pages;
use crate::error::Error;
use crate::job::Job;
use crate::machine::{self, limited_by};
use crate::place::NamedModel;
use crate::progress::{Screen, count};
use crate::terminal;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    processor: &'a ProcessorCeilings,
    disk: Option<&'a DiskCeilings>,
    /// Where that is remembered.
    cache: Option<&'a Path>,
    pass: Option<&'a Summary>,
}

/// Measures and says so.
pub fn bench(arguments: &BenchArgs) -> Result<(), Error> {
    let threads = arguments.threads.unwrap_or_else(processors);
    let cache = machine::cache();
    let work = match &arguments.model {
        Some(path) => {
            let named = NamedModel::find(path, Keep::Everything, &Screen::default())?;
            let session = open(arguments, &named, cache.clone())?;
            Some(Work::new(arguments, session, named)?)
        }
        None => None,
    };
    let model = work.as_ref().map(|work| work.session().model());
    let processor = ProcessorCeilings::measure(threads);
    let disk = disk(model, cache.as_ref())?;
    let cache = cache.filter(|cache| {
        let saved = save(cache, &processor, disk.as_ref());
        if let Err(error) = &saved {
            terminal::warn(format_args!("this is not remembered: {error}"));
        }
        saved.is_ok()
    });
    let pass = work.as_ref().map(Work::pass).transpose()?;
    if arguments.json {
        return terminal::print_json(&Report {
            processor: &processor,
            disk: disk.as_ref(),
            cache: cache.as_ref().map(CeilingsCache::folder),
            pass: pass.as_ref(),
        });
    }
    let mut text = describe(&processor, disk.as_ref());
    if let Some(pass) = &pass {
        text += "\n";
        text += &describe_pass(arguments, pass);
    }
    terminal::print(&text)
}

/// What a pass is over.
enum Work {
    /// Records of random tokens.
    Random {
        session: Box<Session>,
        records: usize,
        tokens: usize,
    },
    /// A dataset.
    Dataset(Box<Job>),
}

impl Work {
    fn new(arguments: &BenchArgs, session: Session, named: NamedModel) -> Result<Self, Error> {
        if let Some(input) = &arguments.input {
            return Ok(Self::Dataset(Box::new(Job::of(session, named, input)?)));
        }
        let (records, tokens) = (arguments.records, arguments.tokens);
        if let LengthLimit::Table(limit) = session.model().spec.input_stack().limit
            && tokens > limit
        {
            return Err(Error::Usage {
                problem: format!("the model has positions for {limit} tokens"),
                hint: format!("--tokens {limit} is the most"),
            });
        }
        Ok(Self::Random {
            session: Box::new(session),
            records,
            tokens,
        })
    }

    fn session(&self) -> &Session {
        match self {
            Self::Random { session, .. } => session,
            Self::Dataset(job) => &job.session,
        }
    }

    fn spool(&self, folder: &Path) -> Result<RecordSpool, Error> {
        match self {
            Self::Dataset(job) => job.spool(folder, &Screen::default()),
            Self::Random {
                session,
                records,
                tokens,
            } => {
                let vocabulary = session.model().spec.input_stack().usable_tokens();
                Ok(session.spool(folder, random(vocabulary, *records, *tokens))?)
            }
        }
    }

    /// Runs a pass; the results are thrown away.
    fn pass(&self) -> Result<Summary, Error> {
        let folder = tempfile::tempdir().map_err(|source| Error::File {
            what: "cannot make a temporary folder",
            path: std::env::temp_dir(),
            source,
        })?;
        let results = folder.path().join("results");
        let Start::Begun(begun) = self.session().begin(&results, RunKey::new(), false)? else {
            return Err(Error::Usage {
                problem: "the temporary folder is not empty".into(),
                hint: "another program writes there; set TMPDIR to a folder of your own".into(),
            });
        };
        let run = begun.read(|folder| self.spool(folder))?;
        code_pages::forget();
        forget_peak_memory();
        Ok(run.finish(&Quiet)?)
    }
}

/// The disk of the model, or of the cache.
fn disk(
    model: Option<&Model>,
    cache: Option<&CeilingsCache>,
) -> Result<Option<DiskCeilings>, Error> {
    if let Some(model) = model
        && let Some(disk) = DiskCeilings::measure_model(model)?
    {
        return Ok(Some(disk));
    }
    // A model that is too small to tell says nothing about its disk.
    let Some(cache) = cache else {
        terminal::warn("the disk is not measured: neither XDG_CACHE_HOME nor HOME is set");
        return Ok(None);
    };
    let folder = cache.folder();
    let measured = fs_err::create_dir_all(folder)
        .map_err(|error| error.to_string())
        .and_then(|()| DiskCeilings::measure_folder(folder).map_err(|error| error.to_string()));
    match measured {
        Ok(disk) => Ok(Some(disk)),
        Err(error) => {
            terminal::warn(format_args!("the disk is not measured: {error}"));
            Ok(None)
        }
    }
}

fn save(
    cache: &CeilingsCache,
    processor: &ProcessorCeilings,
    disk: Option<&DiskCeilings>,
) -> Result<(), DiskError> {
    cache.save_processor(processor)?;
    disk.map_or(Ok(()), |disk| cache.save_disk(disk))
}

/// The model, and what a pass takes of it: scores, or the embedding where it has none.
fn open(
    arguments: &BenchArgs,
    named: &NamedModel,
    cache: Option<CeilingsCache>,
) -> Result<Session, Error> {
    let mut options = SessionOptions {
        open: arguments.open.options(),
        takes: arguments.takes.clone(),
        memory: arguments.memory,
        threads: arguments.threads,
        compute: arguments.compute.asked(),
        allow_long: true,
        cache,
        ..SessionOptions::default()
    };
    let model = Model::open(&named.place, &options.open)?;
    if options.takes.is_empty() {
        options.takes = vec![match lacking(&model, &Take::Scores) {
            None => Take::Scores,
            Some(_) => Take::Embedding(None),
        }];
    }
    Ok(Session::new(model, &options, &Screen::default())?)
}

/// Records of random tokens that have no beginnings in common.
fn random(vocabulary: usize, records: usize, tokens: usize) -> impl Iterator<Item = Vec<u32>> {
    let vocabulary = vocabulary.max(1) as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..records).map(move |_| {
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocabulary) as u32
        };
        (0..tokens).map(|_| next()).collect()
    })
}

fn describe(processor: &ProcessorCeilings, disk: Option<&DiskCeilings>) -> String {
    let flops = |rate: f64| format!("{:.0} GFLOP/s", rate / 1e9);
    let bytes = |rate: f64| format!("{:.2} GB/s", rate / 1e9);
    let product = |gemm: f64, peak: f64| {
        format!(
            "{} on registers, {} in a product ({:.0} %)",
            flops(peak),
            flops(gemm),
            gemm / peak * 100.0
        )
    };
    let mut rows = vec![
        [
            "processor".to_owned(),
            format!(
                "{}, {}, {} threads",
                processor.name, processor.isa, processor.threads
            ),
        ],
        [
            "bf16".to_owned(),
            product(processor.gemm_bf16, processor.peak_bf16),
        ],
        [
            "f32".to_owned(),
            product(processor.gemm_f32, processor.peak_f32),
        ],
        ["memory".to_owned(), bytes(processor.memory)],
    ];
    if let Some(disk) = disk {
        let direct = disk.direct.map_or_else(
            || "no direct reads".to_owned(),
            |rate| format!("{} around it (O_DIRECT)", bytes(rate)),
        );
        let buffered = bytes(disk.buffered);
        rows.push([
            "disk".to_owned(),
            format!("{buffered} through the page cache, {direct}"),
        ]);
    }
    table(&rows)
}

fn describe_pass(arguments: &BenchArgs, pass: &Summary) -> String {
    let plan = &pass.plan;
    let tokens = match arguments.input {
        None => format!("of {} tokens", count(arguments.tokens as u64)),
        Some(_) => format!("with {} tokens", count(pass.tokens)),
    };
    let mut text = format!(
        "{} records {tokens}, {} passes, {} of {} read, {} at most in memory\n",
        count(pass.records as u64),
        count(plan.super_batches as u64),
        pass.compute,
        human(pass.bytes_read),
        human(pass.peak_memory),
    );
    let rate = pass.tokens as f64 / pass.seconds.max(1e-9);
    let of_roofline = match (&pass.roofline, pass.roofline_fraction) {
        (Some(roofline), Some(fraction)) => format!(
            "; {:.0} % of the roofline of {:.2} s ({})",
            fraction * 100.0,
            roofline.seconds,
            limited_by(roofline)
        ),
        _ => String::new(),
    };
    text += &stages(&pass.stages);
    text + &format!(
        "\n{:.2} s, {} tokens/s{of_roofline}\n",
        pass.seconds,
        count(rate as u64)
    )
}

/// Seconds and share of every stage.
fn stages(stages: &Stages) -> String {
    let row = |name: &str, seconds: f64, note: &str| {
        [
            name.to_owned(),
            format!("{seconds:8.3} s"),
            format!("{:5.1} %", seconds / stages.total.max(1e-9) * 100.0),
            note.to_owned(),
        ]
    };
    let others = [
        ("norms", stages.norm),
        ("scans", stages.scan),
        ("rotary", stages.rotary),
        ("activations", stages.activation),
        ("vocabulary", stages.vocabulary),
        ("element-wise", stages.elementwise),
        ("the rest", stages.other),
    ];
    let other: f64 = others.iter().map(|(_, seconds)| seconds).sum();
    let mut rows = vec![
        row(
            "tokenise",
            stages.prepare,
            "before the rest, records read and spooled",
        ),
        row("GEMM", stages.gemm, ""),
        row("attention", stages.attention, ""),
        row("other", other, ""),
    ];
    rows.extend(others.map(|(name, seconds)| row(&format!("  {name}"), seconds, "")));
    rows.push(row("wait", stages.wait, "for weights"));
    rows.push(row("total", stages.total, ""));
    let beside = "beside the rest, summed over threads";
    rows.push(row("read", stages.read, beside));
    rows.push(row("pack", stages.pack, beside));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use sli_engine::Machine;

    use super::{Stages, stages};

    #[test]
    fn shares_are_of_the_computing_thread() {
        let text = stages(&Stages {
            gemm: 3.0,
            wait: 1.0,
            read: 8.0,
            total: 4.0,
            ..Stages::default()
        });
        let line = |name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .unwrap_or("")
        };
        assert!(line("GEMM").contains("75.0 %"), "{text}");
        assert!(line("wait").contains("25.0 %"), "{text}");
        assert!(line("read").contains("200.0 %"), "{text}");
        assert!(Machine::default().limits.is_none());
    }
}

//! A model beside what a reference computed of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use fs_err::File;
use serde_json::json;
use sha2::{Digest, Sha256};
use sli_engine::EngineError;
use sli_engine::take::{LayerSelection, Take};
use sli_spec::ModelSpec;

use super::again::{failed, or_afresh};
use super::run::{Done, Ran, carry_out};
use crate::appearing::{appear, is_taken};
use crate::cli::{ComputeArg, JobArgs, VerifyArgs};
use crate::error::Error;
use crate::host::{self, Host};
use crate::job::Job;
use crate::verify::{
    BEGIN, Dtype, Expected, ModelFile, Place, Receipt, Side, Tolerance, VerifyError, compare,
    located,
};

/// Runs the model over what the reference ran over, and writes what was found. That the numbers differ is no error here.
pub fn verify(arguments: &VerifyArgs, host: &dyn Host) -> Result<Receipt, Error> {
    let path = &arguments.receipt;
    if is_taken(path, BEGIN) {
        return Err(Error::Usage {
            problem: format!("{} is there already, and is no receipt", path.display()),
            hint: "give another --receipt".into(),
        });
    }
    if arguments.means.max_length.is_some() {
        return Err(Error::Usage {
            problem: "--max-length would cut what the reference ran over".into(),
            hint: "leave it out".into(),
        });
    }
    let expected = Expected::open(&arguments.against)?;
    let mut work = OsString::from(path);
    work.push(".work");
    let work = Path::new(&work);
    if !work.is_dir() {
        fs_err::create_dir(work)
            .map_err(failed("cannot make a folder beside the receipt", work))?;
    }
    let receipt = or_afresh(arguments.fresh, "the run", host, |fresh| {
        receipt(arguments, &expected, work, fresh, host)
    })?;
    let text = serde_json::to_string_pretty(&receipt).map_err(std::io::Error::from);
    text.and_then(|text| appear(path, (text + "\n").as_bytes()))
        .and_then(|()| fs_err::remove_dir_all(work))
        .map_err(failed("cannot write the receipt", path))?;
    Ok(receipt)
}

fn receipt(
    arguments: &VerifyArgs,
    expected: &Expected,
    work: &Path,
    fresh: bool,
    host: &dyn Host,
) -> Result<Receipt, Error> {
    let records = work.join("records.jsonl");
    write_records(expected, &records).map_err(failed("cannot write the records", &records))?;
    let mut takes = vec![Take::Hidden(LayerSelection::all())];
    let mut places = expected
        .names()
        .filter_map(|name| expected.place(name).ok());
    if places.any(|(_, place)| place == Place::Logits) {
        takes.push(Take::Logits);
    }
    let mut means = arguments.means.clone();
    if means.compute == ComputeArg::Auto {
        means.compute = ComputeArg::F32;
    }
    means.allow_long = true;
    let job = Job::open(
        &JobArgs::of(arguments.model.clone(), records.clone(), takes, means),
        host,
    )?;
    check(&job.session.model().spec, expected)?;
    let files = files(&job, expected, arguments.other_weights, host)?;
    let out = work.join("run");
    let ran =
        carry_out(job, &out, fresh, host).map_err(|error| of_records(error, expected, &records))?;
    let (job, ours) = match ran {
        Ran::Done(done) => {
            let Done { job, summary } = *done;
            (job, ours(summary.compute, summary.isa))
        }
        Ran::Finished { job, manifest } => {
            let text = |key: &str| manifest.json()[key].as_str().unwrap_or_default().to_owned();
            (*job, ours(text("compute"), text("isa")))
        }
    };
    let spec = &job.session.model().spec;
    let found = compare(spec, expected, &out)?;
    let facts = &expected.facts;
    let tolerance = tolerance(facts.dtype, &ours.dtype, arguments.tolerance);
    let tokens = facts.records.iter().map(|record| record.input_ids.len());
    Ok(Receipt {
        sli: env!("CARGO_PKG_VERSION"),
        passed: found.worst.relative_error <= tolerance.relative_error,
        model_type: spec.model_type.clone(),
        files,
        reference: Side {
            dtype: facts.dtype.name().into(),
            by: facts.class.clone(),
            versions: facts.versions.clone(),
        },
        ours,
        tolerance,
        records: facts.records.len(),
        tokens: tokens.sum(),
        values: found.values,
        worst: found.worst,
        places: found.places,
    })
}

/// That what is expected is of such a model.
fn check(spec: &ModelSpec, expected: &Expected) -> Result<(), VerifyError> {
    let theirs = &expected.facts.model_type;
    if spec.model_type != *theirs {
        let problem = format!(
            "it is of the type `{theirs}`, the model is of `{}`",
            spec.model_type
        );
        return Err(other(expected, problem));
    }
    for name in expected.names() {
        let located = expected
            .place(name)
            .and_then(|(_, place)| located(spec, &place));
        if let Err(problem) = located {
            return Err(VerifyError::Expected {
                path: expected.path.clone(),
                problem: format!("`{name}`: {problem}"),
            });
        }
    }
    Ok(())
}

fn other(expected: &Expected, problem: String) -> VerifyError {
    let path = expected.path.clone();
    VerifyError::Other { path, problem }
}

/// An error of the records is one of the file that they are from.
fn of_records(error: Error, expected: &Expected, records: &Path) -> Error {
    match error {
        Error::Input(_) | Error::Engine(EngineError::Record { .. }) if error.exit_code() == 3 => {
            let path = expected.path.clone();
            let problem = error
                .to_string()
                .replace(&records.display().to_string(), "its records");
            VerifyError::Expected { path, problem }.into()
        }
        other => other,
    }
}

/// How this program ran.
fn ours(compute: impl Into<String>, isa: String) -> Side {
    let version = ("sli".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Side {
        dtype: compute.into(),
        by: isa,
        versions: BTreeMap::from([version]),
    }
}

/// What is allowed, unless it was said.
fn tolerance(theirs: Dtype, ours: &str, asked: Option<f64>) -> Tolerance {
    let (relative_error, from) = match (asked, theirs, ours) {
        (Some(asked), ..) => (asked, "asked for"),
        (None, Dtype::Float32 | Dtype::Float64, "f32") => (
            1e-4,
            "both in f32: the bound that every model type is held to against transformers",
        ),
        (None, Dtype::Float16, "f32") => (1e-2, "the reference ran in f16, whose unit is 2^-11"),
        _ => (5e-2, "one of the two ran in bf16, whose unit is 2^-8"),
    };
    Tolerance {
        relative_error,
        from,
    }
}

/// The records as a dataset, named by their numbers.
fn write_records(expected: &Expected, path: &Path) -> std::io::Result<()> {
    let facts = &expected.facts;
    let against = fs_err::canonicalize(&expected.path)?;
    let mut file = BufWriter::new(File::create(path)?);
    for (number, record) in facts.records.iter().enumerate() {
        let mut line = json!({"id": number, "input_ids": record.input_ids});
        if let Some(types) = &record.token_type_ids {
            line["token_type_ids"] = json!(types);
        }
        if let Some(ids) = &record.decoder_input_ids {
            line["decoder_input_ids"] = json!(ids);
        }
        if let Some(prefix) = expected.given(&record.id) {
            line["tensors"] = json!(against);
            line["tensor_prefix"] = json!(prefix);
        }
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// The weight files of a model, which are those that the reference read.
fn files(
    job: &Job,
    expected: &Expected,
    other_weights: bool,
    host: &dyn Host,
) -> Result<Vec<ModelFile>, Error> {
    let model = job.session.model();
    let theirs = &expected.facts.files;
    let mut files = Vec::new();
    for file in model.checkpoint.files() {
        let path = match model.folder.path() {
            folder if folder.is_dir() => folder.join(&file.name),
            single => single.to_owned(),
        };
        let failed = |source| Error::File {
            what: "cannot add up a weight file, which has to be on this machine",
            path: path.clone(),
            source,
        };
        let (bytes, sha256) = hash(&path, host, &failed)?;
        let named = theirs.get(&file.name);
        let is_expected = named.map(|named| named.bytes == bytes && named.sha256 == sha256);
        if is_expected != Some(true) && !other_weights {
            let problem = match named {
                Some(named) => format!(
                    "`{}` has the sha256 {sha256}, the reference read {}",
                    file.name, named.sha256
                ),
                None => format!("the reference read no `{}`", file.name),
            };
            return Err(other(expected, problem).into());
        }
        files.push(ModelFile {
            name: file.name.clone(),
            bytes,
            sha256,
            is_expected,
        });
    }
    Ok(files)
}

/// Length and hash of a file.
fn hash(
    path: &Path,
    host: &dyn Host,
    failed: &dyn Fn(std::io::Error) -> Error,
) -> Result<(u64, String), Error> {
    let mut file = File::open(path).map_err(failed)?;
    let (mut sum, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        host::check(host)?;
        match file.read(&mut piece).map_err(failed)? {
            0 => break,
            read => {
                sum.update(&piece[..read]);
                bytes += read as u64;
            }
        }
    }
    let digest = sum.finalize();
    let text = digest.iter().map(|byte| format!("{byte:02x}"));
    Ok((bytes, text.collect()))
}

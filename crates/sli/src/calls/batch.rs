//! A batch file: its requests answered in one pass over the model.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde_json::Value;
use sli_engine::journal::{Occupied, occupy};
use sli_engine::take::Take;
use sli_engine::{EngineError, TextRules, lacking};

use super::again::{failed, or_afresh};
use super::run::{Done, Ran, carry_out};
use crate::batch::{Answers, Ask, Asked, Reader, refusal_line};
use crate::cli::{BatchArgs, JobArgs};
use crate::error::Error;
use crate::host::Host;
use crate::input::Image;
use crate::job::Job;
use crate::prepared::Prepared;
use crate::tokenizer::Contents;

/// What was answered.
pub struct Answered {
    /// Lines.
    pub lines: u64,
    /// Lines that are no requests which can be answered.
    pub refused: u64,
    /// What it took, where this call ran something.
    pub done: Option<Box<Done>>,
}

/// What a file of requests asks for.
#[derive(Default)]
struct Survey {
    embeds: bool,
    scores: bool,
    /// The largest number of most probable tokens.
    best: usize,
    records: u64,
}

impl Survey {
    fn add(&mut self, ask: &Ask) {
        self.records += ask.records().len() as u64;
        match ask {
            Ask::Embeddings { .. } => self.embeds = true,
            Ask::Completions { logprobs, .. } => {
                self.scores = true;
                self.best = self.best.max(logprobs.unwrap_or(0));
            }
            Ask::Chat { logprobs, .. } => {
                self.scores = true;
                self.best = self.best.max(*logprobs);
            }
        }
    }

    fn takes(&self) -> Vec<Take> {
        let embeds = self.embeds.then_some(Take::Embedding(None));
        let scores = self.scores.then_some(Take::Scores);
        let best = (self.best > 0).then_some(Take::TopK(self.best));
        [embeds, scores, best].into_iter().flatten().collect()
    }
}

/// The folder beside the answers where the batch is at work.
struct Work(PathBuf);

impl Work {
    /// What of it is in the folder.
    const NAMES: [&str; 5] = [
        "lock",
        "records.jsonl",
        "prepared.json",
        "answers.jsonl",
        "run",
    ];

    /// Makes the folder and takes it for this process. What else is in one that is there already is somebody's own, and would go with the batch.
    fn occupy(&self, output: &Path) -> Result<Occupied, Error> {
        let unmade = failed("cannot make the folder of the batch", &self.0);
        fs_err::create_dir_all(&self.0).map_err(&unmade)?;
        for entry in fs_err::read_dir(&self.0).map_err(&unmade)? {
            let name = entry.map_err(&unmade)?.file_name();
            if !Self::NAMES.iter().any(|own| name == *own) {
                let (folder, name) = (self.0.display(), name.display());
                return Err(Error::Usage {
                    problem: format!("{folder} has `{name}`, which is of no batch"),
                    hint: "move that folder away, or give another file for the answers".into(),
                });
            }
        }
        Ok(occupy(output, &self.0)?)
    }

    fn of(output: &Path) -> Self {
        let mut name = OsString::from(output);
        name.push(".work");
        Self(name.into())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// Answers every request of a file.
pub fn batch(arguments: &BatchArgs, host: &dyn Host) -> Result<Answered, Error> {
    for (path, option) in [
        (&arguments.input, "--input"),
        (&arguments.output, "--output"),
    ] {
        if path.as_os_str() == "-" {
            return Err(Error::Usage {
                problem: format!("{option} is `-`, and a batch goes from file to file"),
                hint: "give files: what was interrupted goes on with them".into(),
            });
        }
    }
    if arguments.output.exists() && !arguments.fresh {
        return Err(Error::Usage {
            problem: format!("{} is there already", arguments.output.display()),
            hint: "--fresh answers again and replaces it".into(),
        });
    }
    let places = [&arguments.input, &arguments.output].map(fs_err::canonicalize);
    if let [Ok(input), Ok(output)] = &places
        && input == output
    {
        return Err(Error::Usage {
            problem: format!("{} is the file of the requests", arguments.output.display()),
            hint: "give another file for the answers".into(),
        });
    }
    // A wrong path leaves nothing behind.
    drop(Reader::open(&arguments.input)?);
    let work = Work::of(&arguments.output);
    let _occupied = work.occupy(&arguments.output)?;
    or_afresh(arguments.fresh, "the run", host, |fresh| {
        answer(arguments, &work, fresh, host)
    })
}

fn answer(
    arguments: &BatchArgs,
    work: &Work,
    fresh: bool,
    host: &dyn Host,
) -> Result<Answered, Error> {
    let records = work.file("records.jsonl");
    let survey = write_records(&arguments.input, &records)?;
    let partial = work.file("answers.jsonl");
    let answered = if survey.records == 0 {
        write_answers(&arguments.input, &partial, |_| Ok(None))?
    } else {
        let (model, means) = (arguments.model.clone(), arguments.means.clone());
        let mut job = Job::open(&JobArgs::of(model, records, survey.takes(), means), host)?;
        job.noted = Some(work.file("prepared.json"));
        job.chat.contents = Contents::AsTaken;
        let results = work.file("run");
        let ran = carry_out(job, &results, fresh, host)?;
        let job = match &ran {
            Ran::Done(done) => &done.job,
            Ran::Finished { job, .. } => job,
        };
        let prepared = Prepared::read(&work.file("prepared.json"))?;
        // Only tokens that were given can be without one.
        let tokenizer = job.tokenizer().ok().filter(|_| survey.scores);
        let mut answers =
            Answers::open(&results, tokenizer, prepared).map_err(EngineError::from)?;
        let is_mixed = survey.embeds && survey.scores && changes_texts(&job.texts);
        let answered = write_answers(&arguments.input, &partial, |asked| {
            let problem = unanswerable(job, &asked.request.ask, is_mixed);
            answers.line(asked, problem).map(Some)
        })?;
        let done = match ran {
            Ran::Done(done) => Some(done),
            Ran::Finished { .. } => None,
        };
        Answered { done, ..answered }
    };
    fs_err::rename(&partial, &arguments.output)
        .and_then(|()| fs_err::remove_dir_all(&work.0))
        .map_err(failed("cannot finish the answers", &arguments.output))?;
    Ok(answered)
}

/// Why no request of a kind can be answered.
fn unanswerable(job: &Job, ask: &Ask, is_mixed: bool) -> Option<String> {
    let model = job.session.model();
    match ask {
        Ask::Embeddings { .. } => lacking(model, &Take::Embedding(None)),
        Ask::Completions { .. } | Ask::Chat { .. } if is_mixed => Some(
            "the files of this model change texts that are embedded: give requests for scores in a file of their own"
                .into(),
        ),
        Ask::Chat { conversation, .. }
            if has_pictures(conversation) && !model.spec.has_pictures_beside() =>
        {
            Some("`messages` have pictures, and the model reads texts only".into())
        }
        Ask::Completions { .. } | Ask::Chat { .. } => lacking(model, &Take::Scores),
    }
}

/// Whether a message has a part that is a picture.
fn has_pictures(conversation: &Value) -> bool {
    let messages = conversation["messages"].as_array().into_iter().flatten();
    let mut parts = messages.filter_map(|message| message["content"].as_array());
    parts.any(|parts| parts.iter().any(Image::is_part))
}

/// Writes the records of all requests as a dataset.
fn write_records(input: &Path, records: &Path) -> Result<Survey, Error> {
    let unwritten = failed("cannot write the records of the batch", records);
    let mut survey = Survey::default();
    let mut reader = Reader::open(input)?;
    let file = File::create(records).map_err(&unwritten)?;
    let mut file = BufWriter::new(file);
    while let Some(line) = reader.next()? {
        let Ok(request) = line else { continue };
        for (record, id) in request.ask.records().iter().zip(survey.records..) {
            let mut record = record.clone();
            record["id"] = Value::from(id.to_string());
            let written = serde_json::to_writer(&mut file, &record).map_err(std::io::Error::from);
            written
                .and_then(|()| file.write_all(b"\n"))
                .map_err(&unwritten)?;
        }
        survey.add(&request.ask);
    }
    file.flush().map_err(&unwritten)?;
    Ok(survey)
}

/// Writes a line for every line of the input.
fn write_answers(
    input: &Path,
    output: &Path,
    mut answer: impl FnMut(Asked<'_>) -> Result<Option<(Vec<u8>, bool)>, Error>,
) -> Result<Answered, Error> {
    let unwritten = failed("cannot write the answers", output);
    let mut reader = Reader::open(input)?;
    let mut file = BufWriter::new(File::create(output).map_err(&unwritten)?);
    let (mut lines, mut refused) = (0, 0);
    while let Some(line) = reader.next()? {
        let answer = match line {
            Ok(request) => {
                let asked = Asked {
                    number: lines,
                    request: &request,
                };
                answer(asked)?
            }
            Err((id, problem)) => Some((refusal_line(lines, id.as_deref(), &problem)?, true)),
        };
        if let Some((bytes, is_refusal)) = answer {
            refused += u64::from(is_refusal);
            file.write_all(&bytes).map_err(&unwritten)?;
        }
        lines += 1;
    }
    let file = file
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).map_err(&unwritten)?;
    Ok(Answered {
        lines,
        refused,
        done: None,
    })
}

/// Whether texts become other ones before they are tokens.
fn changes_texts(rules: &TextRules) -> bool {
    rules.lower_case
        || rules.truncate_left.is_some()
        || rules.prompt.is_some()
        || rules.as_message.is_some()
}

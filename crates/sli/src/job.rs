//! A model, a dataset and what to do with them: what `run` and `plan` have in common.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use sli_engine::records::{RecordSpool, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{HiddenDtype, Model, Session, SessionOptions, Spill, TextRules, program_bytes};
use sli_remote::Keep;

use crate::cli::{HiddenDtypeArg, JobArgs, ScoreArg, SpillArg, UseArg};
use crate::error::Error;
use crate::host::Host;
use crate::input::{Dataset, InputError, Renames, Selection};
use crate::memory::Allowance;
use crate::place::NamedModel;
use crate::prepare::Preparer;
use crate::rules::Rules;
use crate::seq2seq::DecoderRules;
use crate::shard::ShardArg;
use crate::tokenizer::{ChatOptions, Reading, Tokenizer, TokenizerError};
use crate::{machine, place, tokenizer};

/// What to run on what.
pub struct Job {
    /// The model and what to compute of it.
    pub session: Session,
    /// Where the model comes from.
    pub named: NamedModel,
    /// The dataset.
    pub input: Dataset,
    /// Longer records are cut to this many tokens.
    pub max_length: Option<usize>,
    /// What of a record becomes its tokens.
    pub selection: Selection,
    /// What happens to texts before they are tokens.
    pub texts: TextRules,
    /// What the command line says of chat templates.
    pub chat: ChatOptions,
    allow_long: bool,
    /// How the tokenizer is read.
    pub reading: Reading,
    /// What of a conversation is its completion.
    pub score: ScoreArg,
    /// The part of the dataset, where it is not all of it.
    pub shard: Option<ShardArg>,
    /// Records that cannot be run are left out, and what became of each is written to this file.
    pub noted: Option<PathBuf>,
    /// What the tokenizer and the records at hand may hold.
    allowance: Allowance,
}

impl Job {
    /// Opens the model and settles what is left open.
    pub fn open(arguments: &JobArgs, host: &dyn Host) -> Result<Self, Error> {
        let means = &arguments.means;
        // A wrong path should not have to wait for the model.
        let selection = Selection {
            content: arguments.use_.map(UseArg::content),
            null_is_empty: arguments.skip_empty,
            labels_of_decoder: false,
        };
        let renames = Renames::new(&arguments.columns).map_err(|problem| Error::Usage {
            problem,
            hint: "give --column KEY=NAME, for instance --column text=content".into(),
        })?;
        let input = Dataset::find(&place::fetched(&arguments.input, host)?, renames)?;
        drop(input.open(&Allowance::unlimited(), selection)?);
        let template = means.chat_template.as_deref();
        let chat = ChatOptions::new(template, &means.chat_arguments)?;
        let keep = if means.stream {
            Keep::Nothing
        } else {
            Keep::Everything
        };
        let named = NamedModel::find(&arguments.model, keep, host)?;
        let session = Session::open(&named.place, &options(arguments, host), host)?;
        let (model, settings) = (session.model(), session.settings());
        let takes = &settings.takes;
        if arguments.score == ScoreArg::Assistant && !takes.contains(&Take::Scores) {
            return Err(Error::Usage {
                problem: "--score is about scores, which are not taken".into(),
                hint: "add --take scores".into(),
            });
        }
        if arguments.score == ScoreArg::Assistant && model.spec.decoder_input().is_some() {
            return Err(Error::Usage {
                problem: "--score assistant is about conversations of a decoder alone; this model's decoder stands behind \
                          an encoder"
                    .into(),
                hint: "give what is to be scored as `decoder_text`".into(),
            });
        }
        let mut texts = text_rules(means.prompt.as_deref(), model, takes)?;
        if means.allow_long || means.max_length.is_some() {
            texts.limit = None;
        }
        for note in &texts.notes {
            host.warning(note);
        }
        let allowance = allowance(&session);
        Ok(Self {
            allowance,
            named,
            session,
            input,
            max_length: means.max_length,
            texts,
            allow_long: means.allow_long,
            score: arguments.score,
            shard: arguments.shard,
            selection,
            reading: Reading::new(means.tokenizer_file, means.tokenizer_arguments.clone()),
            chat,
            noted: None,
        })
    }

    /// Settles that the model is compared with that of another job, as [`Session::compare_with`] does.
    pub fn compare_with(&mut self, reference: &mut Self) -> Result<(), Error> {
        self.session.compare_with(&mut reference.session)?;
        for job in [self, reference] {
            job.allowance = allowance(&job.session);
        }
        Ok(())
    }

    /// The dataset for a model that is open already, read as `sli run` reads it by default.
    pub fn of(session: Session, named: NamedModel, input: &Path) -> Result<Self, Error> {
        let selection = Selection::default();
        let input = Dataset::file(input)?;
        drop(input.open(&Allowance::unlimited(), selection)?);
        let settings = session.settings();
        let texts = text_rules(None, session.model(), &settings.takes)?;
        Ok(Self {
            allowance: allowance(&session),
            session,
            named,
            input,
            max_length: None,
            selection,
            texts,
            chat: ChatOptions::default(),
            allow_long: false,
            reading: Reading::default(),
            score: ScoreArg::All,
            shard: None,
            noted: None,
        })
    }

    /// Turns the dataset into a spool of tokens in `folder`.
    pub fn spool(&self, folder: &Path, host: &dyn Host) -> Result<RecordSpool, Error> {
        let pool = self.pool()?;
        let model = self.session.model();
        let noted = RefCell::default();
        let preparer = Preparer {
            noted: self.noted.as_ref().map(|_| &noted),
            input: &self.input,
            selection: Selection {
                labels_of_decoder: model.spec.decoder_input().is_some(),
                ..self.selection
            },
            skip_empty: self.selection.null_is_empty,
            shard: self.shard,
            tokenizer_folder: model.folder.clone(),
            reading: &self.reading,
            rules: Rules {
                scores: self.session.settings().takes.contains(&Take::Scores),
                assistant: self.score == ScoreArg::Assistant,
                decoder: DecoderRules::of(&model.spec).map(|decoder| DecoderRules {
                    is_shown: !matches!(self.session.settings().takes[..], [Take::Embedding(_)]),
                    ..decoder
                }),
                ..Rules::new(&model.spec, self.max_length, self.allow_long)
            },
            chat: &self.chat,
            texts: &self.texts,
            pool: &pool,
            allowance: self.allowance.clone(),
        };
        let writer = RecordSpoolWriter::create(folder)?;
        let mut writer = writer.with_sequences(&model.spec)?;
        let prepared = preparer.run(&mut writer, host);
        host.settled();
        let counts = prepared.map_err(|error| self.with_room_for_the_rest(error))?;
        if let Some(path) = &self.noted {
            noted.borrow().write(path)?;
        }
        writer.set_skipped(counts.skipped);
        writer.set_needed(self.allowance.needed());
        Ok(writer.finish()?)
    }

    /// Where the cut records were cut, and who says so.
    pub fn cut_at(&self) -> Option<String> {
        let (length, from) = match (self.max_length, self.texts.limit) {
            (Some(length), _) => (length, "--max-length"),
            (None, Some(length)) => (length, self.texts.limit_from.as_str()),
            (None, None) => return None,
        };
        let tokens = if length == 1 { "token" } else { "tokens" };
        Some(format!("{length} {tokens} ({from})"))
    }

    /// Names a budget that holds what comes later too, not only what did not fit before it.
    fn with_room_for_the_rest(&self, mut error: Error) -> Error {
        if let Error::Input(InputError::Budget {
            needed,
            before_tokenizer: true,
            ..
        }) = &mut error
        {
            *needed += tokenizer::bytes(&self.session.model().folder, &self.reading).unwrap_or(0);
        }
        if let Error::Tokenizer(TokenizerError::Budget { needed, .. })
        | Error::Input(InputError::Budget { needed, .. }) = &mut error
        {
            *needed = self.smallest_run().unwrap_or(0).max(*needed);
        }
        error
    }

    /// The smallest budget for a run over one short record, bytes.
    fn smallest_run(&self) -> Option<u64> {
        let folder = tempfile::tempdir().ok()?;
        self.session.smallest_run(folder.path()).ok()
    }

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let model = &self.session.model().folder;
        Tokenizer::load(model, None, self.reading.clone(), self.allowance.clone())
    }

    fn pool(&self) -> Result<ThreadPool, Error> {
        let threads = self.session.settings().threads;
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(|error| Error::Usage {
            problem: format!("cannot start {threads} threads: {error}"),
            hint: "give a smaller --threads".into(),
        })
    }
}

/// What tokenizer and records at hand may hold while nothing runs.
fn allowance(session: &Session) -> Allowance {
    let settings = session.settings();
    let program = program_bytes(session.model()) + settings.host_bytes;
    Allowance::new(settings.memory, program)
}

/// What the command line asks of the engine.
fn options(arguments: &JobArgs, host: &dyn Host) -> SessionOptions {
    let means = &arguments.means;
    SessionOptions {
        open: means.open.options(),
        takes: arguments.takes.clone(),
        memory: means.memory,
        threads: means.threads,
        compute: means.compute.asked(),
        hidden_dtype: match arguments.hidden_dtype {
            HiddenDtypeArg::F32 => HiddenDtype::F32,
            HiddenDtypeArg::Bf16 => HiddenDtype::Bf16,
            HiddenDtypeArg::F16 => HiddenDtype::F16,
        },
        spill: match means.spill {
            SpillArg::Auto => Spill::Auto,
            SpillArg::Always => Spill::Always,
            SpillArg::Never => Spill::Never,
        },
        share_prefixes: !means.no_share,
        checkpoint_interval: Duration::from_secs_f64(means.checkpoint_interval),
        allow_long: means.allow_long,
        cache: machine::cache(),
        host_bytes: host.bytes(),
    }
}

/// What happens to the texts of a run: as sentence-transformers has it where the run takes the embeddings that it
/// gives, dense or sparse, nothing where it does not.
fn text_rules(prompt: Option<&str>, model: &Model, takes: &[Take]) -> Result<TextRules, Error> {
    let embeds = takes.contains(&Take::Embedding(None));
    let sparse = takes.contains(&Take::Sparse) && !embeds;
    if !embeds && !sparse {
        return match prompt {
            None => Ok(TextRules::default()),
            Some(_) => Err(Error::Usage {
                problem: "--prompt is for the embeddings of a model's own files".into(),
                hint: "add `--take embedding` or `sparse`, or write the prompt into the texts"
                    .into(),
            }),
        };
    }
    let mut rules = sli_engine::text_rules(model, prompt, sparse)?;
    // Where other results are taken too, they are about the same texts, and embeddings of a rendering are not expected.
    if rules.has_template && takes.len() == 1 {
        rules.notes.push(
            "texts are embedded as they are; sentence-transformers 6 would have the chat template render them: \
             for that, give `messages`"
                .into(),
        );
    }
    Ok(rules)
}

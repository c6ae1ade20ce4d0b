//! A model, a dataset and what to do with them: what `run` and `plan` have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};
use sli_checkpoint::{Choice, HeadOrigin};
use sli_engine::records::{Record, RecordSpool, RecordSpoolWriter};
use sli_engine::take::Take;
use sli_engine::{
    EngineError, HiddenDtype, Model, OpenOptions, Settings, Spill, TextRules, left_out,
    program_bytes,
};
use sli_kernels::Compute;
use sli_spec::Instead;

use crate::cli::{HiddenDtypeArg, JobArgs, ScoreArg, SpillArg, UseArg};
use crate::error::Error;
use crate::input::{InputError, Selection};
use crate::memory::Allowance;
use crate::precision::{self, Precision};
use crate::prepare::{Preparer, Rules};
use crate::progress::Spinner;
use crate::tokenizer::{ChatOptions, TokenizerError};
use crate::{input, system_memory, takes, terminal, tokenizer};

/// What to run on what.
pub struct Job {
    /// The model.
    pub model: Model,
    /// The dataset.
    pub input: PathBuf,
    /// What to compute and with which means.
    pub settings: Settings,
    /// The precision of the products, and why.
    pub precision: Precision,
    /// Longer records are cut to this many tokens.
    pub max_length: Option<usize>,
    /// What of a record becomes its tokens.
    pub selection: Selection,
    /// What happens to texts before they are tokens.
    pub texts: TextRules,
    /// What the command line says of chat templates.
    pub chat: ChatOptions,
    allow_long: bool,
    /// `tokenizer.json` is taken as it is.
    pub tokenizer_file: bool,
    /// What of a conversation is its completion.
    pub score: ScoreArg,
    /// What the tokenizer and the records at hand may hold.
    allowance: Allowance,
}

impl Job {
    /// Opens the model and settles the settings; `begun`: the precision of the run that goes on.
    pub fn open(arguments: &JobArgs, begun: Option<Compute>) -> Result<Self, Error> {
        // A wrong path should not have to wait for the model.
        let selection = Selection {
            content: arguments.use_.map(UseArg::content),
            null_is_empty: arguments.skip_empty,
        };
        drop(input::open(
            &arguments.input,
            &Allowance::unlimited(),
            selection,
        )?);
        let template = arguments.chat_template.as_deref();
        let chat = ChatOptions::new(template, &arguments.chat_arguments)?;
        let options = OpenOptions {
            allow_unread: arguments.allow_unread.clone(),
            allow_unused: arguments.allow_unused.clone(),
        };
        let model = Model::open(&arguments.model, &options)?;
        if !model.unread.is_empty() {
            let keys = model.unread.join(", ");
            terminal::warn(format_args!(
                "nothing reads these keys of config.json: {keys}"
            ));
        }
        say_names(&model, &arguments.allow_unused);
        if model.binding.head() == HeadOrigin::Stored {
            terminal::warn(
                "config.json ties the head to the token table, but the weights have another head: that one is used",
            );
        }
        if let Some(choice) = model.checkpoint.choice() {
            terminal::warn(describe_choice(choice));
        }
        let takes = takes::choose(&arguments.takes, &model, |text| terminal::warn(text))?;
        if arguments.score == ScoreArg::Assistant && !takes.contains(&Take::Scores) {
            return Err(Error::Usage {
                problem: "--score is about scores, which are not taken".into(),
                hint: "add --take scores".into(),
            });
        }
        let texts = text_rules(arguments, &model, &takes)?;
        for note in &texts.notes {
            terminal::warn(note);
        }
        let threads = threads(arguments.threads);
        let precision = precision::choose(arguments.compute, begun, &model, threads);
        let settings = Settings {
            takes,
            memory: budget(arguments.memory)?,
            threads,
            compute: precision.compute,
            hidden_dtype: match arguments.hidden_dtype {
                HiddenDtypeArg::F32 => HiddenDtype::F32,
                HiddenDtypeArg::Bf16 => HiddenDtype::Bf16,
                HiddenDtypeArg::F16 => HiddenDtype::F16,
            },
            spill: match arguments.spill {
                SpillArg::Auto => Spill::Auto,
                SpillArg::Always => Spill::Always,
                SpillArg::Never => Spill::Never,
            },
            share_prefixes: !arguments.no_share,
            checkpoint_interval: Duration::from_secs_f64(arguments.checkpoint_interval),
            ..Settings::default()
        };
        let allowance = Allowance::new(settings.memory, program_bytes(&model));
        Ok(Self {
            allowance,
            model,
            input: arguments.input.clone(),
            settings,
            precision,
            max_length: arguments.max_length,
            texts,
            allow_long: arguments.allow_long,
            score: arguments.score,
            selection,
            tokenizer_file: arguments.tokenizer_file,
            chat,
        })
    }

    /// Turns the dataset into a spool of tokens in `folder`.
    pub fn spool(&self, folder: &Path) -> Result<RecordSpool, Error> {
        let pool = self.pool()?;
        let preparer = Preparer {
            input: &self.input,
            selection: self.selection,
            skip_empty: self.selection.null_is_empty,
            tokenizer_folder: self.model.folder.clone(),
            tokenizer_file: self.tokenizer_file,
            rules: Rules {
                scores: self.settings.takes.contains(&Take::Scores),
                assistant: self.score == ScoreArg::Assistant,
                ..Rules::new(&self.model.spec, self.max_length, self.allow_long)
            },
            chat: &self.chat,
            texts: &self.texts,
            pool: &pool,
            allowance: self.allowance.clone(),
        };
        let mut writer = RecordSpoolWriter::create(folder)?;
        let spinner = Spinner::new();
        let prepared = preparer.run(
            &mut writer,
            |text| terminal::warn(text),
            |counts| spinner.show(counts),
        );
        let counts = prepared.map_err(|error| self.with_room_for_the_rest(error))?;
        drop(spinner);
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
            *needed += tokenizer::bytes(&self.model.folder, self.tokenizer_file).unwrap_or(0);
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
        let mut writer = RecordSpoolWriter::create(folder.path()).ok()?;
        let record = Record {
            id: "0".into(),
            tokens: vec![0],
            ..Record::default()
        };
        writer.push(&record).ok()?;
        match sli_engine::plan(&self.model, &writer.finish().ok()?, &self.settings) {
            Ok(plan) => Some(plan.smallest_memory),
            Err(EngineError::Budget { needed, .. }) => Some(needed),
            Err(_) => None,
        }
    }

    fn pool(&self) -> Result<ThreadPool, Error> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.settings.threads)
            .build();
        pool.map_err(|error| Error::Usage {
            problem: format!("cannot start {} threads: {error}", self.settings.threads),
            hint: "give a smaller --threads".into(),
        })
    }
}

/// Which weights were taken, and which were left.
pub(crate) fn describe_choice(choice: &Choice) -> String {
    let left: Vec<String> = choice.left.iter().map(|file| format!("`{file}`")).collect();
    format!(
        "the weights are those of `{}`; {} in the same folder is not looked at",
        choice.taken,
        left.join(" and ")
    )
}

/// Names of one reason that are listed.
const NAMES_SAID: usize = 6;

/// Says which class is run instead of the one named, which tensors have other names in the files, and
/// which are left out.
pub(crate) fn say_names(model: &Model, allowed: &[String]) {
    if let Some(Instead { named, run, reason }) = &model.instead {
        terminal::note(format_args!(
            "config.json names the class `{named}`; `{run}` is run: {reason}"
        ));
    }
    if let Some(naming) = &model.naming {
        terminal::warn(format_args!(
            "the names of {} tensors are not the model's own: {naming}",
            naming.renamed
        ));
    }
    let report = model.binding.report();
    for (reason, names) in left_out(report) {
        let more = match names.len().saturating_sub(NAMES_SAID) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let said: Vec<String> = names.into_iter().take(NAMES_SAID).collect();
        terminal::note(format_args!(
            "not used: {}{more} ({reason})",
            said.join(", ")
        ));
    }
    for pattern in report.idle(allowed) {
        terminal::warn(idle(pattern));
    }
}

/// That a pattern of `--allow-unused` does nothing.
pub(crate) fn idle(pattern: &str) -> String {
    format!("--allow-unused '{pattern}' leaves nothing out: no tensor of that name is without use")
}

/// What happens to the texts of a run: as sentence-transformers has it where the run takes the embeddings that it
/// gives, nothing where it does not. A length that the user gives wins, and so does the wish to run long records.
fn text_rules(arguments: &JobArgs, model: &Model, takes: &[Take]) -> Result<TextRules, Error> {
    let prompt = arguments.prompt.as_deref();
    if !takes.contains(&Take::Embedding(None)) {
        return match prompt {
            None => Ok(TextRules::default()),
            Some(_) => Err(Error::Usage {
                problem: "--prompt is for the embeddings of a model's own files".into(),
                hint: "add `--take embedding`, or write the prompt into the texts".into(),
            }),
        };
    }
    let mut rules = sli_engine::text_rules(model, prompt)?;
    if arguments.allow_long || arguments.max_length.is_some() {
        rules.limit = None;
    }
    Ok(rules)
}

/// The threads that were asked for, or all there are.
pub(crate) fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// The memory that was asked for, or most of what is free.
pub(crate) fn budget(asked: Option<u64>) -> Result<u64, Error> {
    asked
        .or_else(system_memory::default_budget)
        .ok_or_else(|| Error::Usage {
            problem: "the system does not say how much memory is free".into(),
            hint: "give --memory, for instance --memory 8GiB".into(),
        })
}

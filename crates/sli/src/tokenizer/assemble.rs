//! From the files of a folder to the tokenizer that `AutoTokenizer` of transformers 5.23 builds.

use std::io::BufReader;

use serde_json::{Map, Value};
use sli_checkpoint::ModelFolder;

use super::arguments::{Arguments, NAMES, is_true};
use super::auto::{self, CLASSES, Choice, GENERIC};
use super::build::{Built, Source};
use super::class::{Build, Class, REFUSED};
use super::compare::{self, Pipeline};
use super::error::TokenizerError;
use super::files::{FILE_LIMIT, read_object};
use super::load::{Notes, Parts, load, load_parts};
use super::mistral;
use super::own::Own;
use super::pipelines;
use super::reading::Reading;
use super::special_token::SpecialToken;
use super::survey::Survey;
use super::vocabulary::{
    Merges, Ranks, SentencePiece, Tekken, json_entries, merge_lines, word_lines,
};
use crate::guard::guarded;
use crate::memory::Allowance;

/// Mistral's own vocabulary.
const TEKKEN: &str = "tekken.json";

/// A folder's tokenizer.
pub struct Assembled {
    /// The library's tokenizer and its special tokens.
    pub built: Built,
    /// What its vocabulary holds.
    pub survey: Survey,
    /// Long texts lose their beginning.
    pub truncates_left: bool,
    /// Token types are given to the model.
    pub types: bool,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A folder's files, and what is known of them before the vocabulary is read.
pub struct Folder<'a> {
    path: &'a ModelFolder,
    config: Map<String, Value>,
    /// `tokenizer.json`, or the file that stands for it.
    tokenizer_file: Option<String>,
    choice: Choice,
    class: Option<&'static Class>,
    /// The class that says whether the model gets token types.
    of_types: String,
    /// The class builds its pipeline, rather than taking it from the file.
    builds: bool,
    /// The class is Python code in the reference.
    own: Option<Own>,
    /// Of two tokenizers it is that of texts that are to be said.
    said: bool,
}

impl<'a> Folder<'a> {
    /// Looks at a model folder.
    pub fn open(path: &'a ModelFolder, reading: &Reading) -> Result<Self, TokenizerError> {
        let literal = reading.literal;
        let mut config = read_object(path, "tokenizer_config.json")?.unwrap_or_default();
        config.extend(reading.arguments.iter().cloned());
        let file = tokenizer_file_name(&config);
        let tokenizer_file = path.has(&file)?.then_some(file);
        if literal && tokenizer_file.is_none() {
            return Err(TokenizerError::Absent {
                folder: path.path().to_path_buf(),
            });
        }
        let chosen = auto::choose(path, &config, tokenizer_file.as_deref());
        let (choice, of_types) = if literal {
            let generic = Choice {
                class: GENERIC.into(),
                named: None,
            };
            (
                generic,
                chosen.map_or_else(|_| String::new(), |choice| choice.class),
            )
        } else {
            let choice = chosen?;
            let class = choice.class.clone();
            (choice, class)
        };
        let kind = CLASSES
            .kinds
            .get(&choice.class)
            .map_or("python", String::as_str);
        let refused = REFUSED.iter().find(|(name, _)| *name == choice.class);
        let own = Own::find(&choice.class);
        let why = match (kind, refused) {
            ("python", _) if own.is_some() => None,
            ("python", _) => Some("the reference runs it as Python code"),
            (_, Some((_, why))) => Some(*why),
            _ => None,
        };
        if let Some(why) = why {
            return Err(TokenizerError::Class {
                folder: path.path().to_path_buf(),
                class: format!("`{}`", choice.class),
                problem: format!("{why}, which is not supported"),
            });
        }
        let class = match kind {
            "file" => None,
            "builds" => Class::find(&choice.class),
            parent => Class::find(parent),
        };
        let folder = Self {
            path,
            config,
            tokenizer_file,
            choice,
            class,
            of_types,
            builds: kind == "builds",
            own,
            said: reading.said,
        };
        let named = reading.arguments.iter().map(|(name, _)| name);
        named
            .into_iter()
            .try_for_each(|name| folder.check_argument(name))?;
        Ok(folder)
    }

    /// Refuses an argument that nothing would read.
    fn check_argument(&self, argument: &str) -> Result<(), TokenizerError> {
        const EVERYWHERE: [&str; 2] = ["split_special_tokens", "truncation_side"];
        const BUILT: [&str; 2] = ["add_bos_token", "add_eos_token"];
        let known = match (self.own, self.class) {
            (Some(own), _) => [&own.settings(), &EVERYWHERE[..]].concat(),
            (None, class) => {
                let settings = class.map_or(&[][..], |class| class.settings);
                let tokens = class.map_or(&[][..], |class| class.tokens);
                let settings = settings.iter().map(|setting| setting.key);
                let of_class = settings.chain(tokens.iter().map(|token| token.name));
                let others = [&BUILT[..], &EVERYWHERE, &NAMES].concat();
                of_class.chain(others).collect()
            }
        };
        if known.contains(&argument) {
            return Ok(());
        }
        let mut known = known;
        known.sort_unstable();
        known.dedup();
        Err(TokenizerError::Argument {
            folder: self.path.path().to_path_buf(),
            class: self.choice.class.clone(),
            argument: argument.to_owned(),
            known: known.join(", "),
        })
    }

    /// The memory that the vocabulary takes, bytes at most; `None` where that is not known yet.
    pub fn bytes(&self) -> Option<u64> {
        let name = self.tokenizer_file.as_deref()?;
        let file = self.path.open(name, FILE_LIMIT).ok()??;
        let survey: Survey = serde_json::from_reader(BufReader::new(file)).ok()?;
        Some(survey.bytes())
    }

    /// Builds the tokenizer.
    pub fn assemble(self, allowance: &mut Allowance) -> Result<Assembled, TokenizerError> {
        if let Some(own) = self.own {
            return self.of_own(own, allowance);
        }
        match &self.tokenizer_file {
            Some(file) => self.of_file(file, allowance),
            None => self.of_vocabulary(allowance),
        }
    }

    fn of_file(&self, name: &str, allowance: &mut Allowance) -> Result<Assembled, TokenizerError> {
        let broken = |problem| TokenizerError::Broken {
            path: self.path.join(name),
            problem,
        };
        let absent = || TokenizerError::Absent {
            folder: self.path.path().to_path_buf(),
        };
        let mut file = self.path.open(name, FILE_LIMIT)?.ok_or_else(absent)?;
        let survey: Survey = serde_json::from_reader(BufReader::new(&mut file))
            .map_err(|error| broken(error.to_string()))?;
        take(allowance, survey.bytes(), survey.vocabulary.values)?;
        file.rewind();
        if !self.builds {
            let (backend, notes) = guarded(|| load(BufReader::new(&mut file)))
                .and_then(|loaded| loaded)
                .map_err(broken)?;
            let arguments = self.arguments(&notes, true)?;
            let finish =
                || Build::of_backend(self.class, &arguments, backend, notes.clone())?.finish();
            let built = self.guarded(finish)?;
            return Ok(self.assembled(&arguments, &notes, built, survey, None));
        }
        let parts = guarded(|| load_parts(BufReader::new(&mut file)))
            .and_then(|loaded| loaded)
            .map_err(broken)?;
        let Some(class) = self.class else {
            return Err(absent());
        };
        let notes = parts.notes.clone();
        let arguments = self.arguments(&notes, true)?;
        let of_file = Pipeline::of_parts(&parts);
        let source = source_of(parts);
        let finish = || Build::of_class(class, &arguments, source, notes.clone())?.finish();
        let built = self.guarded(finish)?;
        Ok(self.assembled(&arguments, &notes, built, survey, Some(of_file)))
    }

    /// Whether texts that are to be said have a tokenizer of their own.
    pub fn has_two_sides(&self) -> bool {
        self.own.is_some_and(Own::has_two_sides)
    }

    /// Of a class that the reference runs as Python code.
    fn of_own(&self, own: Own, allowance: &mut Allowance) -> Result<Assembled, TokenizerError> {
        let names = own.files(self.said);
        let mut files = Vec::new();
        for name in &names {
            let file = self.path.read(name, FILE_LIMIT)?;
            files.push(
                file.ok_or_else(|| self.refused(format!("it needs `{name}`, which is not there")))?,
            );
        }
        let bytes = files.iter().map(|file| file.len() as u64).sum();
        take(allowance, bytes, 0)?;
        let mut survey = Survey::default();
        let read = own.read(&files, &mut survey);
        let build = read.map_err(|(place, problem)| TokenizerError::Broken {
            path: self.path.join(names[place]),
            problem,
        })?;
        drop(files);
        take(allowance, survey.bytes(), survey.vocabulary.values)?;
        let notes = Notes::default();
        let mut arguments = self.arguments(&notes, false)?;
        // What their constructors do not know.
        for key in ["add_bos_token", "add_eos_token"] {
            arguments.values.shift_remove(key);
        }
        if let Some(token) = arguments.added.values().find(|token| token.single_word) {
            let text = &token.content;
            return Err(self.refused(format!(
                "`{text}` is to be found as a word of its own (`single_word`), which is not supported"
            )));
        }
        let built = self.guarded(|| build(&mut arguments))?;
        Ok(self.assembled(&arguments, &notes, built, survey, None))
    }

    /// Without a `tokenizer.json`.
    fn of_vocabulary(&self, allowance: &mut Allowance) -> Result<Assembled, TokenizerError> {
        let absent = || TokenizerError::Absent {
            folder: self.path.path().to_path_buf(),
        };
        let name = self.vocabulary_file()?.ok_or_else(absent)?;
        let path = self.path.join(&name);
        let broken = |problem| TokenizerError::Broken {
            path: path.clone(),
            problem,
        };
        let notes = Notes::default();
        let mut arguments = self.arguments(&notes, false)?;
        let bytes = self.path.read(&name, FILE_LIMIT)?.ok_or_else(absent)?;
        take(allowance, bytes.len() as u64, 0)?;
        let mut survey = Survey::default();
        if name == TEKKEN {
            let tekken = Tekken::read(&bytes).map_err(broken)?;
            drop(bytes);
            count(&tekken.ranks, &mut survey, allowance, &broken)?;
            let build = || pipelines::of_tekken(&tekken, &mut arguments);
            let backend = self.guarded(build)?;
            let finish = || Build::of_backend(None, &arguments, backend, notes.clone())?.finish();
            let built = self.guarded(finish)?;
            return Ok(self.assembled(&arguments, &notes, built, survey, None));
        }
        let is_model = path
            .extension()
            .is_some_and(|extension| extension == "model");
        let backend;
        if is_model {
            let is_ranks = path
                .file_name()
                .is_some_and(|name| name == "tiktoken.model");
            let model = if is_ranks {
                Err(String::new())
            } else {
                SentencePiece::read(&bytes)
            };
            let model = match model {
                Ok(model) => model,
                Err(problem) => {
                    let ranks =
                        Ranks::read(&bytes).map_err(|other| broken(either(&problem, &other)))?;
                    let built =
                        self.of_ranks(&ranks, &mut arguments, &mut survey, allowance, &broken)?;
                    return Ok(self.assembled(&arguments, &notes, built, survey, None));
                }
            };
            let unigram = match self.class.filter(|_| self.builds) {
                Some(class) if class.is_free() => model.unigram,
                Some(class) => matches!(class.model, super::class::Model::Unigram(_)),
                None => model.unigram,
            };
            for piece in &model.pieces {
                survey.count_entry(&piece.text, unigram);
            }
            if !unigram {
                survey.count_merges(model.count_merges().map_err(broken)?);
            }
            take(allowance, survey.bytes(), survey.vocabulary.values)?;
            let source = pipelines::pieces(
                self.class.filter(|_| self.builds),
                &model,
                unigram,
                &mut arguments,
            );
            let source = source.map_err(broken)?;
            drop(bytes);
            match self.class.filter(|_| self.builds) {
                Some(class) => {
                    let finish =
                        || Build::of_class(class, &arguments, source, notes.clone())?.finish();
                    let built = self.guarded(finish)?;
                    return Ok(self.assembled(&arguments, &notes, built, survey, None));
                }
                None => {
                    let build = || pipelines::of_pieces(&model, source, &mut arguments);
                    backend = self.guarded(build)?;
                }
            }
            let finish =
                || Build::of_backend(self.class, &arguments, backend, notes.clone())?.finish();
            let built = self.guarded(finish)?;
            return Ok(self.assembled(&arguments, &notes, built, survey, None));
        }
        let Some(class) = self.class else {
            return Err(absent());
        };
        let (vocabulary, merges) = self.entries(class, &name, &bytes)?;
        for entry in vocabulary.keys() {
            survey.count_entry(entry, false);
        }
        survey.count_merges(merges.len() as u64);
        take(allowance, survey.bytes(), survey.vocabulary.values)?;
        drop(bytes);
        let source = Source {
            vocabulary: super::load::Vocabulary::Ids(vocabulary),
            merges,
            post_processor: Value::Null,
            characters: None,
        };
        let finish = || Build::of_class(class, &arguments, source, notes.clone())?.finish();
        let built = self.guarded(finish)?;
        Ok(self.assembled(&arguments, &notes, built, survey, None))
    }

    /// Entries by id, and the pairs of a class that merges.
    fn entries(
        &self,
        class: &Class,
        name: &str,
        bytes: &[u8],
    ) -> Result<(::tokenizers::models::bpe::Vocab, Merges), TokenizerError> {
        let broken = |name: &str, problem| TokenizerError::Broken {
            path: self.path.join(name),
            problem,
        };
        if class.model == super::class::Model::WordPiece {
            let words = word_lines(bytes).map_err(|problem| broken(name, problem))?;
            return Ok((words, Vec::new()));
        }
        let merges = class.merges.unwrap_or_default();
        let lines = match class.merges {
            Some(_) => self.path.read(merges, FILE_LIMIT)?,
            None => None,
        };
        let Some(lines) = lines else {
            return Err(self.refused("its vocabulary comes without merges.txt".into()));
        };
        let vocabulary = json_entries(bytes).map_err(|problem| broken(name, problem))?;
        let merges_of = merge_lines(&lines).map_err(|problem| broken(merges, problem))?;
        Ok((vocabulary, merges_of))
    }

    fn of_ranks(
        &self,
        ranks: &Ranks,
        arguments: &mut Arguments,
        survey: &mut Survey,
        allowance: &mut Allowance,
        broken: &dyn Fn(String) -> TokenizerError,
    ) -> Result<Built, TokenizerError> {
        count(ranks, survey, allowance, broken)?;
        let build = || pipelines::of_ranks(ranks, arguments);
        let backend = self.guarded(build)?;
        let class = self.class;
        let finish = || {
            let build = Build::of_backend(class, arguments, backend, Notes::default())?;
            build.with_extra()?.finish()
        };
        self.guarded(finish)
    }

    /// The file of the vocabulary where there is no `tokenizer.json`.
    fn vocabulary_file(&self) -> Result<Option<String>, TokenizerError> {
        const OTHERS: [&str; 3] = [TEKKEN, "tokenizer.model", "tiktoken.model"];
        let mut others = Vec::new();
        for name in OTHERS {
            if self.path.has(name)? {
                others.push(name);
            }
        }
        let own = self
            .class
            .map_or(Some("tokenizer.model"), |class| class.vocabulary);
        let name = match others[..] {
            [] => own,
            [other] => Some(other),
            _ => {
                let several = others.join(", ");
                return Err(self.refused(format!("its vocabulary could be any of {several}")));
            }
        };
        let Some(name) = name else {
            return Ok(None);
        };
        Ok(self.path.has(name)?.then(|| name.to_owned()))
    }

    fn arguments(&self, notes: &Notes, has_file: bool) -> Result<Arguments, TokenizerError> {
        let tokens = || Ok::<Vec<(i64, SpecialToken)>, TokenizerError>(notes.added.clone());
        Arguments::read(self.path, &self.config, has_file, tokens)
    }

    /// Runs what may panic or refuse.
    fn guarded<T>(&self, f: impl FnOnce() -> Result<T, String>) -> Result<T, TokenizerError> {
        guarded(f)
            .and_then(|result| result)
            .map_err(|problem| self.refused(problem))
    }

    /// What the class does not do here.
    fn refused(&self, problem: String) -> TokenizerError {
        TokenizerError::Class {
            folder: self.path.path().to_path_buf(),
            class: format!("`{}`", self.choice.class),
            problem,
        }
    }

    fn assembled(
        &self,
        arguments: &Arguments,
        notes: &Notes,
        mut built: Built,
        survey: Survey,
        of_file: Option<Pipeline>,
    ) -> Assembled {
        let mut warnings = Vec::new();
        if let Some(of_file) = of_file {
            warnings.extend(compare::differences(&self.choice, &of_file, &built.backend));
        }
        warnings.extend(compare::flags(arguments, &built));
        mistral::fix(self.path, &arguments.values, &mut built.backend);
        let side = arguments
            .values
            .get("truncation_side")
            .and_then(Value::as_str);
        let names = arguments
            .values
            .get("model_input_names")
            .and_then(Value::as_array);
        let asked = arguments
            .values
            .get("return_token_type_ids")
            .is_some_and(is_true);
        let may_ask = self
            .class
            .is_some_and(|class| class.reads("return_token_type_ids"));
        let own = CLASSES.types.contains(&self.of_types) || asked && may_ask;
        Assembled {
            survey,
            truncates_left: side
                .map_or(notes.truncates_left.unwrap_or(false), |side| side == "left"),
            types: names.map_or(own, |names| {
                names.iter().any(|name| name == "token_type_ids")
            }),
            built,
            warnings,
        }
    }
}

/// Takes the memory of ranks and of what is made of them.
fn count(
    ranks: &Ranks,
    survey: &mut Survey,
    allowance: &mut Allowance,
    broken: &dyn Fn(String) -> TokenizerError,
) -> Result<(), TokenizerError> {
    survey.vocabulary.values = ranks.len() as u64;
    survey.vocabulary.long_text = ranks.bytes();
    survey.count_merges(ranks.count_merges().map_err(broken)?);
    survey.crosses_words = true;
    take(allowance, survey.bytes(), survey.vocabulary.values)
}

/// Both problems of a file that may be of two kinds.
fn either(pieces: &str, ranks: &str) -> String {
    if pieces.is_empty() {
        return ranks.to_owned();
    }
    format!("neither a SentencePiece model ({pieces}) nor ranks of bytes ({ranks})")
}

fn source_of(parts: Parts) -> Source {
    let steps = match parts
        .normalizer
        .get("normalizers")
        .and_then(Value::as_array)
    {
        Some(steps) => steps.clone(),
        None => vec![parts.normalizer],
    };
    let map = steps
        .iter()
        .find_map(|step| step.get("precompiled_charsmap")?.as_str());
    Source {
        characters: map.map(str::to_owned),
        vocabulary: parts.vocabulary,
        merges: parts.merges.unwrap_or_default(),
        post_processor: parts.post_processor,
    }
}

fn take(allowance: &mut Allowance, bytes: u64, entries: u64) -> Result<(), TokenizerError> {
    let given = allowance.given();
    allowance
        .take(bytes)
        .map_err(|needed| TokenizerError::Budget {
            what: format!("the tokenizer's {entries} entries"),
            given,
            needed,
        })
}

/// The newest file that transformers 5.23 may read, of those that the configuration lists.
fn tokenizer_file_name(config: &Map<String, Value>) -> String {
    let newest = (5, 23);
    let listed = config.get("fast_tokenizer_files").and_then(Value::as_array);
    let mut versions: Vec<(&str, &str)> = listed
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter_map(|name| {
            let (_, rest) = name.split_once("tokenizer.")?;
            Some((rest.strip_suffix(".json")?, name))
        })
        .collect();
    versions.sort_unstable();
    let mut chosen = "tokenizer.json";
    for (version, name) in versions {
        let mut numbers = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version > newest {
            break;
        }
        chosen = name;
    }
    chosen.to_owned()
}

//! Records to token sequences that the model can run.
//!
//! The stream is read once, tokenised in small parallel batches and handed on record by record, so
//! memory does not grow with the dataset. What the model
//! demands of a record is checked here, before any weight is read: ids within the vocabulary, types
//! within their table, lengths within its limit.

use std::cell::RefCell;

use rayon::ThreadPool;
use sli_checkpoint::ModelFolder;
use sli_engine::TextRules;
use sli_engine::records::{REPEATED, RecordSpoolWriter};
use sli_engine::results::ResultsError;
use sli_engine::{Annotation, Completion};
use sli_pictures::DescriptionError;

use crate::completion::labelled;
use crate::error::Error;
use crate::host::{self, Host};
use crate::input::{
    self, BYTE_ORDER_MARK, Content, Dataset, DecoderContent, InputError, Place, RawRecord,
    Selection,
};
use crate::memory::Allowance;
use crate::pictures::PictureRules;
use crate::prepared::Prepared;
use crate::rules::Rules;
use crate::seeing::{PictureReader, images, may_have_pictures, usual_parts};
use crate::seen::Seen;
use crate::sentences;
use crate::seq2seq::{self};
use crate::shard::{Part, ShardArg, Stretch, Unweighable, Weight};
use crate::tensors::TensorReader;
use crate::tokenise::{Asked, Tokenised, tokenise};
use crate::tokenizer::{ChatOptions, Encoded, Reading, Tokenizer, TokenizerError};

/// Bytes of text that are tokenised together.
const BATCH_BYTES: usize = 128 << 10;
/// Records that are tokenised together.
const BATCH_RECORDS: usize = 512;
/// What is said of a text that begins with a mark, which becomes tokens as in Python.
const MARKED: &str = "the first text begins with a byte order mark (U+FEFF), which is part of it as for Python's \
                      open() and load_dataset(\"text\"); to be rid of it: sed -i '1s/^\\xef\\xbb\\xbf//' FILE";
/// Records without tokens that get a warning of their own.
const NAMED_WARNINGS: u64 = 3;

/// What was prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Tokens.
    pub tokens: u64,
    /// Records without tokens.
    pub empty: u64,
    /// Records that were left out, as nothing is in them.
    pub skipped: u64,
    /// Records that are shorter than their texts.
    pub cut: u64,
    /// Records given as tokens that are longer than the texts of the model.
    pub long: u64,
}

/// Turns the records of a file into tokens.
pub struct Preparer<'a> {
    /// The dataset.
    pub input: &'a Dataset,
    /// What of a record becomes its tokens.
    pub selection: Selection,
    /// Leave out records with nothing in them.
    pub skip_empty: bool,
    /// The part of the dataset, where it is not all of it.
    pub shard: Option<ShardArg>,
    /// The folder with the tokenizer; it is loaded when a record needs it.
    pub tokenizer_folder: ModelFolder,
    /// How its files are read.
    pub reading: &'a Reading,
    /// What the command line says of chat templates.
    pub chat: &'a ChatOptions,
    /// What records must fulfil.
    pub rules: Rules<'a>,
    /// What happens to texts before.
    pub texts: &'a TextRules,
    /// Where the tokenizer runs.
    pub pool: &'a ThreadPool,
    /// Records that cannot be run are left out and noted here, with the tokens of the others; without it the first ends
    /// everything.
    pub noted: Option<&'a RefCell<Prepared>>,
    /// What the tokenizer and the records at hand may hold.
    pub allowance: Allowance,
}

impl Preparer<'_> {
    /// Hands every record to `spool`, in the order of the file; the host hears what the user should know, and how much is
    /// done so far.
    pub fn run(&self, spool: &mut RecordSpoolWriter, host: &dyn Host) -> Result<Counts, Error> {
        let mut warn = |text: &str| host.warning(text);
        let mut counts = Counts::default();
        let mut tokenizer = None;
        let mut template_end = Vec::new();
        let mut tensors = TensorReader::default();
        let mut reader = None;
        let (mut records, stretch) = self.records(spool)?;
        let mut batch = Vec::new();
        let mut notes = Notes::default();
        let mut choice_is_said = self.selection.content.is_some();
        loop {
            let skipped = self.skip_empty.then_some(&mut counts.skipped);
            let bytes = fill(&mut batch, &mut records, skipped, self.sees())?;
            let is_end = batch.is_empty();
            self.see(&mut batch, &mut reader)?;
            if !choice_is_said
                && let Some(record) = batch.iter().find(|record| !record.set_aside.is_empty())
            {
                choice_is_said = true;
                warn(&choice(record));
            }
            host.preparing(counts.records, counts.tokens);
            host::check(host)?;
            if is_end {
                break;
            }
            if counts.records == 0
                && let Some(RawRecord {
                    content: Content::Text(text),
                    ..
                }) = batch.first()
                && text.starts_with(BYTE_ORDER_MARK)
            {
                warn(MARKED);
            }
            if self.rules.decoder.is_some() {
                batch.iter_mut().for_each(seq2seq::divide);
            }
            let mut texts = sentences::prepare(self.texts, &mut batch)?;
            if bytes > 0 && tokenizer.is_none() {
                let mut loaded = sentences::load_tokenizer(
                    &self.tokenizer_folder,
                    self.rules.max_length,
                    self.reading,
                    self.texts,
                    self.allowance.clone(),
                )?;
                loaded.warnings().iter().for_each(|text| warn(text));
                loaded.set_chat_options(self.chat.clone());
                spool.set_prompt_tokens(sentences::prompt_tokens(self.texts, &loaded)?);
                template_end = sentences::template_end(self.texts, &mut loaded)?;
                tokenizer = Some(if self.rules.scores {
                    loaded.with_places()
                } else {
                    loaded
                });
            }
            let longest = longest(&batch);
            let asked = Asked {
                // Behind an encoder it is the decoder that is scored.
                scores: self.rules.scores && self.rules.decoder.is_none(),
                assistant: self.rules.assistant,
            };
            let kept = self.noted.map(|_| batch.clone());
            let tokenised = tokenise(&mut batch, tokenizer.as_mut(), self.pool, asked);
            let tokenised = match (tokenised, kept, self.noted) {
                (Err(_), Some(kept), Some(noted)) => {
                    let mut fine = Vec::new();
                    let all = kept.into_iter().zip(std::mem::take(&mut texts));
                    batch.clear();
                    for (mut record, is_text) in all {
                        let alone = std::slice::from_mut(&mut record);
                        match tokenise(alone, tokenizer.as_mut(), self.pool, asked) {
                            Ok(tokens) => {
                                fine.extend(tokens);
                                texts.push(is_text);
                                batch.push(record);
                            }
                            Err(error) => noted.borrow_mut().refuse(record.row, &error),
                        }
                    }
                    fine
                }
                (tokenised, ..) => tokenised.map_err(|error| of_longest(error, longest.clone()))?,
            };
            let decoder_texts = self
                .decoder_texts(&batch, tokenizer.as_mut())
                .map_err(|error| of_longest(error, longest))?;
            let batch = batch.drain(..).zip(decoder_texts);
            for (((mut raw, decoder_text), mut tokenised), is_text) in
                batch.zip(tokenised).zip(texts)
            {
                let place = raw.place.clone();
                seq2seq::check(self.rules.decoder, &raw)?;
                let pictures = self.rules.pictures;
                let pictures = pictures.map(|rules| rules.read(&mut tensors, &raw));
                let mut pictures = pictures.transpose()?;
                let values = match pictures {
                    Some(_) => None,
                    None => self.features(&mut tensors, &raw)?,
                };
                let said = self.rules.decoder.map(|_| seq2seq::Said::take(&mut raw));
                let said = said.transpose()?;
                if is_text {
                    let limit = self.rules.max_length.or(self.texts.limit);
                    let before = (!template_end.is_empty()).then(|| tokenised.encoded.ids.clone());
                    sentences::end_rendered(&template_end, limit, &mut tokenised.encoded);
                    if before.is_some_and(|before| before != tokenised.encoded.ids) {
                        // The end of the template is not where the text was cut.
                        tokenised.encoded.text = None;
                    }
                } else if matches!(raw.content, Content::Messages(_)) {
                    let tokens = tokenised.encoded.ids.len();
                    let checked = sentences::check_conversation(self.texts, &raw, tokens);
                    if self.is_refused(raw.row, checked)?.is_none() {
                        continue;
                    }
                }
                let front = front_of(&raw, tokenizer.as_ref(), self.rules.max_length);
                let Some(front) = self.is_refused(raw.row, front)? else {
                    continue;
                };
                if let Some((token, count)) = front {
                    tokenised.put_in_front(token, count);
                }
                let tokens = tokenised.encoded.ids.len();
                let longer = |limit: Option<usize>| limit.is_some_and(|limit| tokens > limit);
                let cut = tokenised.encoded.cut || longer(self.rules.max_length);
                counts.cut += u64::from(cut);
                counts.long += u64::from(!cut && longer(self.texts.limit));
                if tokenised.completion.is_none() && asked.scores {
                    tokenised.completion = completion_by_labels(&raw, &tokenised, &mut notes)?;
                }
                if tokenised.diverges {
                    notes.diverging.get_or_insert_with(|| place.clone());
                }
                if let Some((_, rows)) = &values {
                    tokenised.encoded.ids = vec![0; *rows];
                }
                let alone = self.rules.pictures.is_some_and(|rules| !rules.beside);
                let mut patches = pictures.take_if(|_| alone);
                if let Some(patches) = &mut patches {
                    tokenised.encoded.ids = std::mem::take(&mut patches.record.tokens);
                }
                let sight = raw
                    .seen
                    .as_ref()
                    .and_then(|seen| seen.sight(tokenizer.as_ref()?));
                let row = raw.row;
                let prepared = self.rules.prepare(raw, tokenised, tokenizer.as_ref());
                let Some((mut record, mut annotation)) = self.is_refused(row, prepared)? else {
                    continue;
                };
                if let Some(noted) = self.noted {
                    let by_files = cut && self.rules.max_length.is_none();
                    noted.borrow_mut().push(row, record.tokens.len(), by_files);
                }
                record.features = values.map(|(values, _)| values);
                if let Some(patches) = patches {
                    let own = patches.record;
                    (record.inputs, record.features) = (own.inputs, own.features);
                }
                if let Some((rules, pictures)) = self.rules.pictures.zip(pictures.as_ref()) {
                    rules.check(&record, &pictures.record, &place)?;
                    let beside = rules.beside_tokens(&record, (pictures, sight), &place)?;
                    record.inputs = beside.or(record.inputs);
                }
                let decoder = match self.rules.decoder.zip(said) {
                    None => None,
                    Some((rules, said)) => {
                        let own = (&record, &annotation);
                        let most = self.rules.max_length;
                        let part = seq2seq::prepare(rules, own, said, decoder_text, most)?;
                        self.rules.check_decoder(rules, &part.record, &place)?;
                        counts.tokens += part.record.tokens.len() as u64;
                        if part.is_missing {
                            notes.without_decoder.get_or_insert_with(|| place.clone());
                        }
                        // What is scored is the decoder's.
                        annotation = Annotation::default();
                        Some(part)
                    }
                };
                counts.records += 1;
                counts.tokens += record.tokens.len() as u64;
                let sees = pictures
                    .as_ref()
                    .is_some_and(|own| !own.record.tokens.is_empty());
                if record.tokens.is_empty() && !sees {
                    counts.empty += 1;
                    if counts.empty <= NAMED_WARNINGS {
                        let id = &record.id;
                        warn(&format!(
                            "record `{id}` has no tokens; its result is empty ({place})"
                        ));
                    }
                }
                spool
                    .push_annotated(&record, &annotation)
                    .map_err(|error| self.placed(error, &record.id, &place))?;
                if let Some(pictures) = &pictures {
                    spool.push_pictures(&pictures.record)?;
                }
                if let Some(part) = decoder {
                    spool.push_decoder(&part.record, &part.annotation)?;
                }
                if cut {
                    spool.count_cut();
                }
            }
        }
        let mut in_all = (counts.records, counts.skipped);
        if let Some(stretch) = stretch {
            spool.set_shard(stretch.shard());
            in_all = (stretch.all.rows - stretch.all.skipped, stretch.all.skipped);
            if counts.records == 0 && in_all.0 > 0 {
                warn("no record of the dataset is in this part; its results are empty");
            }
        }
        let (records, skipped) = in_all;
        if records == 0 && self.noted.is_none() {
            let (path, mut problem) = (
                self.input.first().to_path_buf(),
                "the input has no records".to_owned(),
            );
            let mut hint =
                "an empty line is no record; {\"text\": \"\"} is one without text".to_owned();
            if skipped > 0 {
                problem = format!("all {skipped} records are null or empty");
                hint = "without --skip-empty empty ones are records without tokens".into();
            }
            return Err(InputError::File {
                path,
                problem,
                hint,
            }
            .into());
        }
        // Tables of a large vocabulary are millions of small blocks; the run needs their place.
        drop(tokenizer);
        sli_kernels::return_free_memory();
        let shown = self.rules.decoder.is_some_and(|decoder| decoder.is_shown);
        notes.say(&mut warn, shown);
        if counts.empty > NAMED_WARNINGS {
            warn(&format!("{} records have no tokens in all", counts.empty));
        }
        if let Some(limit) = self
            .texts
            .limit
            .filter(|_| counts.long > 0 && self.rules.max_length.is_none())
        {
            let (long, from) = (counts.long, &self.texts.limit_from);
            warn(&format!(
                "records given as tokens are longer than {limit} tokens ({from}) ({long} in all): only texts are cut"
            ));
        }
        Ok(counts)
    }

    /// What was made of a record; `None`: it cannot be run, which is noted.
    fn is_refused<T>(
        &self,
        row: u64,
        made: Result<T, InputError>,
    ) -> Result<Option<T>, InputError> {
        match (made, self.noted) {
            (Err(error), Some(noted)) => {
                noted.borrow_mut().refuse(row, &error.into());
                Ok(None)
            }
            (made, _) => made.map(Some),
        }
    }

    /// Tokens of the texts for the decoder of a batch, in its order.
    fn decoder_texts(
        &self,
        batch: &[RawRecord],
        tokenizer: Option<&mut Tokenizer>,
    ) -> Result<Vec<Option<Encoded>>, Error> {
        let text = |record: &'_ RawRecord| match &record.decoder {
            Some(DecoderContent::Text(text)) => Some(text.clone()),
            Some(DecoderContent::Ids(_)) | None => None,
        };
        let texts: Vec<Option<String>> = batch.iter().map(text).collect();
        let given: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
        let Some(tokenizer) = tokenizer.filter(|_| !given.is_empty()) else {
            return Ok(vec![None; batch.len()]);
        };
        let mut encoded = self
            .pool
            .install(|| tokenizer.encode_labels(given))?
            .into_iter();
        let of = |text: &Option<String>| text.as_ref().and_then(|_| encoded.next());
        Ok(texts.iter().map(of).collect())
    }

    /// Whether the model may read pictures.
    fn sees(&self) -> bool {
        self.rules.features.is_some() || self.rules.pictures.is_some()
    }

    /// Prepares the pictures of the last record of a batch, if it has any: they become its tensors. The other records learn
    /// what the model's processor writes around texts.
    fn see(
        &self,
        batch: &mut Vec<RawRecord>,
        reader: &mut Option<Result<PictureReader, DescriptionError>>,
    ) -> Result<(), Error> {
        if !self.sees() || batch.is_empty() {
            return Ok(());
        }
        let reader = match reader {
            Some(reader) => reader,
            none => {
                let opened = PictureReader::open(&self.tokenizer_folder, self.allowance.clone());
                none.insert(opened.map_err(sli_engine::EngineError::from)?)
            }
        };
        // A description that is not understood is a matter of pictures only.
        if let Ok(reader) = reader {
            for record in &mut *batch {
                reader.around(record);
            }
        }
        let last = batch.last();
        let Some(record) = last.filter(|record| may_have_pictures(record)) else {
            return Ok(());
        };
        let refused = |problem: String, hint: &str| {
            let problem = format!("record `{}`: {problem}", record.id);
            InputError::record(&record.place, problem).with_hint(hint)
        };
        let prepared = match images(record) {
            Err(error) => Err(error),
            Ok(images) if images.is_empty() => return Ok(()),
            Ok(_) if record.tensors.is_some() => {
                let problem = "it has `tensors` beside pictures".to_owned();
                Err(refused(problem, "remove one of them"))
            }
            Ok(images) => {
                let reader = reader.as_mut().map_err(|error| {
                    let problem = format!("pictures cannot be prepared for this model: {error}");
                    let hint = "give what its processor makes of them as `tensors`";
                    refused(problem, hint)
                })?;
                let asked = self.rules.pictures.and_then(PictureRules::asked);
                reader.prepare(record, &images, asked)
            }
        };
        let prepared = self.is_refused(record.row, prepared)?;
        let Some(mut record) = batch.pop() else {
            return Ok(());
        };
        if let Some((tensors, seen)) = prepared {
            record.tensors = Some(tensors);
            record.seen = Some(seen);
            usual_parts(&mut record.content);
            batch.push(record);
        }
        Ok(())
    }

    /// The numbers that a record brings along, and the rows that they become.
    fn features(
        &self,
        tensors: &mut TensorReader,
        record: &RawRecord,
    ) -> Result<Option<(Vec<f32>, usize)>, InputError> {
        let refused = |problem: &str, hint: &str| {
            let problem = format!("record `{}`: {problem}", record.id);
            Err(InputError::record(&record.place, problem).with_hint(hint))
        };
        let Some(features) = self.rules.features else {
            return match record.tensors {
                None if record.images.is_empty() => Ok(None),
                None => refused("the model takes no `images`", "remove the key"),
                Some(_) => refused("the model takes no `tensors`", "remove the key"),
            };
        };
        if record.content != Content::None && record.tensors.is_some() {
            let problem = format!(
                "its encoder reads `tensors`, not `{}`",
                record.content.key()
            );
            return refused(
                &problem,
                "what the decoder is to say is `decoder_text` or `labels`",
            );
        }
        let (values, frames) = tensors.read(features, record)?;
        Ok(Some((values, features.rows(frames))))
    }

    /// The records to read, and where among all of them they are if they are a part.
    fn records(
        &self,
        spool: &mut RecordSpoolWriter,
    ) -> Result<(input::Records, Option<Stretch>), Error> {
        let Some(shard) = self.shard else {
            return Ok((self.open()?, None));
        };
        let all = Weight::of(self.open()?, self.skip_empty).map_err(|error| match error {
            Unweighable::Input(error) => Error::from(error),
            Unweighable::Twice(id, place) => {
                let (shown, problem) = (id.clone(), REPEATED);
                self.placed(ResultsError::Id { id: shown, problem }, &id, &place)
            }
        })?;
        // They have just been looked at, those of other parts too.
        spool.trust_ids();
        let (part, stretch) = Part::new(self.open()?, shard, all);
        Ok((Box::new(part), Some(stretch)))
    }

    fn open(&self) -> Result<input::Records, InputError> {
        self.input.open(&self.allowance, self.selection)
    }

    /// An error of the spool; what is wrong with an id gets the places where it is used.
    fn placed(&self, error: ResultsError, id: &str, place: &Place) -> Error {
        let ResultsError::Id { problem, .. } = &error else {
            return error.into();
        };
        let hint = error.hint();
        let mut problem = format!("id `{}`: {problem}", shortened(id));
        let earlier = self.open().ok().and_then(|records| {
            let before = records
                .map_while(Result::ok)
                .take_while(|earlier| earlier.place != *place);
            before.into_iter().find(|earlier| earlier.id == id)
        });
        if let Some(earlier) = earlier {
            problem = format!("{problem}, {}", earlier.place.position);
        }
        InputError::Record {
            place: place.clone(),
            problem,
            hint,
        }
        .into()
    }
}

/// Says what of a record was taken, where it has several contents.
fn choice(record: &RawRecord) -> String {
    let used = record.content.key();
    let others = record.set_aside.iter().map(|key| format!("`{key}`"));
    let others = others.collect::<Vec<_>>().join(", ");
    format!(
        "records have `{used}` and {others}: `{used}` is used, the rest is not looked at ({}; --use decides otherwise)",
        record.place
    )
}

/// Says which text of a batch does not fit the budget: the longest costs the most.
fn of_longest(error: Error, longest: Option<Place>) -> Error {
    match (error, longest) {
        (
            Error::Tokenizer(TokenizerError::Budget {
                what,
                given,
                needed,
            }),
            Some(place),
        ) => InputError::Budget {
            what,
            place,
            given,
            needed,
            before_tokenizer: false,
        }
        .into(),
        (error, _) => error,
    }
}

/// Where the longest text of a batch is.
fn longest(batch: &[RawRecord]) -> Option<Place> {
    let length = |record: &&RawRecord| match &record.content {
        Content::Text(text) => text.len(),
        Content::Pair(text, pair) => text.len() + pair.len(),
        Content::Prompted(prompted) => prompted.bytes(),
        Content::Messages(_) => 1,
        Content::Ids(_) | Content::None => 0,
    };
    let record = batch.iter().max_by_key(length)?;
    Some(record.place.clone())
}

/// What is said once, however many records it is about.
#[derive(Default)]
struct Notes {
    /// The first record whose prompt has tokens that the whole does not begin with.
    diverging: Option<Place>,
    /// The first record with labels that are not those of its tokens.
    misfit: Option<Place>,
    /// The first record of which the decoder gets nothing.
    without_decoder: Option<Place>,
}

impl Notes {
    fn say(&self, warn: &mut impl FnMut(&str), shows_decoder: bool) {
        if let Some(place) = &self.diverging {
            warn(&format!(
                "the tokens of a prompt are not the first ones of prompt and completion together: the completion \
                 begins where they differ, as in TRL (first: {place})"
            ));
        }
        if let Some(place) = self.without_decoder.as_ref().filter(|_| shows_decoder) {
            warn(&format!(
                "records have neither `decoder_text` nor `decoder_input_ids`: the decoder's results of them are empty \
                 (first: {place})"
            ));
        }
        if let Some(place) = &self.misfit {
            warn(&format!(
                "`labels` that are not those of the record's tokens are not used (first: {place})"
            ));
        }
    }
}

/// What a record's labels say of its tokens.
///
/// Those beside `input_ids` must fit them. Those beside a text may be classes, which have nothing to do with it.
fn completion_by_labels(
    record: &RawRecord,
    tokenised: &Tokenised,
    notes: &mut Notes,
) -> Result<Option<Completion>, InputError> {
    if record.labels.is_empty() {
        return Ok(None);
    }
    let marks = record.labels.marks(&tokenised.encoded.ids);
    if record
        .labels
        .are_about_something_else(tokenised.encoded.ids.len())
    {
        notes.misfit.get_or_insert_with(|| record.place.clone());
    }
    match (&record.content, marks) {
        (_, Ok(marks)) => Ok(marks.map(labelled)),
        (Content::Ids(_) | Content::None, Err(problem)) => {
            let problem = format!("record `{}`: {problem}", record.id);
            let hint = "labels are the record's own tokens, or -100 where one does not count; rename the key if it is \
                        something else";
            Err(InputError::record(&record.place, problem).with_hint(hint))
        }
        (
            Content::Text(_) | Content::Pair(..) | Content::Messages(_) | Content::Prompted(_),
            Err(_),
        ) => {
            notes.misfit.get_or_insert_with(|| record.place.clone());
            Ok(None)
        }
    }
}

/// Reads the next batch; the result is 0 if nothing in it needs the tokenizer. With a count in `skipped`, records
/// with nothing in them are counted there instead. Where the model `sees`, it ends behind a record with pictures.
fn fill(
    batch: &mut Vec<RawRecord>,
    records: &mut input::Records,
    mut skipped: Option<&mut u64>,
    sees: bool,
) -> Result<usize, InputError> {
    let (mut bytes, mut tokens) = (0, 0);
    while batch.len() < BATCH_RECORDS && bytes + 4 * tokens < BATCH_BYTES {
        let Some(record) = records.next() else { break };
        let record = record?;
        if let Some(skipped) = &mut skipped
            && record.content.is_empty()
        {
            **skipped += 1;
            continue;
        }
        match &record.content {
            Content::Text(text) => bytes += text.len().max(1),
            Content::Pair(text, pair) => bytes += (text.len() + pair.len()).max(1),
            Content::Messages(conversation) => bytes += conversation.bytes().max(1),
            Content::Prompted(prompted) => bytes += prompted.bytes().max(1),
            Content::Ids(ids) => tokens += ids.len(),
            // The features of one are as large as a batch of texts.
            Content::None => tokens += BATCH_BYTES / 64,
        }
        if sees && may_have_pictures(&record) {
            // They are prepared one record at a time.
            tokens += BATCH_BYTES / 4;
        }
        match &record.decoder {
            Some(DecoderContent::Text(text)) => bytes += text.len().max(1),
            Some(DecoderContent::Ids(ids)) => tokens += ids.len(),
            None => {}
        }
        batch.push(record);
    }
    Ok(bytes)
}

/// An id in a message.
fn shortened(id: &str) -> String {
    match id.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &id[..end]),
        None => id.to_owned(),
    }
}

/// The token that stands in front of all tokens of a text with a picture, and how often.
fn front_of(
    raw: &RawRecord,
    tokenizer: Option<&Tokenizer>,
    max_length: Option<usize>,
) -> Result<Option<(u32, usize)>, InputError> {
    if matches!(raw.content, Content::Ids(_) | Content::None) {
        return Ok(None);
    }
    let Some((token, count)) = raw.seen.as_ref().and_then(Seen::in_front) else {
        return Ok(None);
    };
    let refused = |problem: String, hint: &str| {
        let problem = format!("record `{}`: {problem}", raw.id);
        Err(InputError::record(&raw.place, problem).with_hint(hint))
    };
    if max_length.is_some() {
        let problem = "its picture stands in front of its text, which is cut".to_owned();
        return refused(
            problem,
            "leave --max-length out, or give `input_ids` and `tensors`",
        );
    }
    match tokenizer.and_then(|tokenizer| tokenizer.id(token)) {
        Some(id) => Ok(Some((id, count))),
        None => {
            let problem = format!("the tokenizer has no `{token}`, which stands for its picture");
            refused(
                problem,
                "give `input_ids` and what the model's processor makes of it in `tensors`",
            )
        }
    }
}

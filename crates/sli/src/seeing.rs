//! Pictures of records: prepared as the model's own processor does it, and their places in the text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use sli_checkpoint::ModelFolder;
use sli_pictures::{
    DescriptionError, Files, ImageProcessor, Kept, PictureError, Placeholders, Prepared, Processor,
    Tensor,
};
use sli_spec::AskedRows;

use crate::guard::guarded;
use crate::input::{Content, Conversation, Image, InputError, Prompted, RawRecord, Tensors};
use crate::memory::Allowance;
use crate::seen::Seen;
use crate::tokenizer::Tokenizer;

/// Longest description of a processor, bytes.
const LONGEST: u64 = 16 << 20;
/// Of what a record may hold, the share of pictures that are kept for the next ones.
const KEPT_SHARE: u64 = 16;
/// Most of them, bytes.
const MOST_KEPT: u64 = 64 << 20;

/// Prepares pictures of records.
#[derive(Debug)]
pub struct PictureReader {
    images: ImageProcessor,
    placeholders: Option<Arc<Placeholders>>,
    allowance: Allowance,
    /// Pictures of the last records, which the next ones may show again.
    kept: Kept,
    /// Where the tokenizer of what is asked of pictures would be.
    questions: ModelFolder,
    /// It.
    asking: Option<Box<Tokenizer>>,
}

/// The folder of the tokenizer of what is asked of pictures, in the model's.
const QUESTIONS: &str = "qformer_tokenizer";

impl PictureReader {
    /// By the files of a model. The outer error is of reading them, the inner one says what of them is not understood.
    pub fn open(
        folder: &ModelFolder,
        allowance: Allowance,
    ) -> Result<Result<Self, DescriptionError>, sli_checkpoint::FolderError> {
        let text = |name: &str| {
            let bytes = folder.read(name, LONGEST)?;
            Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let questions = folder.inner(QUESTIONS)?;
        let preprocessor = text("preprocessor_config.json")?;
        let processor = text("processor_config.json")?;
        let object = |text: Option<String>| {
            let value = text.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
            value.unwrap_or_default()
        };
        // What is wrong with these two is for their own readers to say.
        let config = object(text("config.json")?);
        let tokenizer = object(text("tokenizer_config.json")?);
        let files = Files {
            preprocessor: preprocessor.as_deref(),
            processor: processor.as_deref(),
            tokenizer_class: tokenizer["processor_class"].as_str(),
            model_type: config["model_type"].as_str(),
        };
        let named = |name: &str| {
            let token = [&tokenizer["extra_special_tokens"][name], &tokenizer[name]];
            let token = token.into_iter().find(|token| !token.is_null())?;
            let token = token.as_str().or_else(|| token["content"].as_str());
            token.map(ToOwned::to_owned)
        };
        let read = Processor::read(files, &named);
        Ok(read.map(
            |Processor {
                 images,
                 placeholders,
             }| Self {
                kept: Kept::new((allowance.most() / KEPT_SHARE).min(MOST_KEPT)),
                images,
                placeholders: placeholders.map(Arc::new),
                questions,
                asking: None,
                allowance,
            },
        ))
    }

    /// Lets a text without pictures become what the model's processor makes of it.
    pub fn around(&self, record: &mut RawRecord) {
        if !matches!(
            record.content,
            Content::None | Content::Ids(_) | Content::Pair(..)
        ) {
            record.seen = Seen::around(self.placeholders.as_ref());
        }
    }

    /// Reads and prepares the pictures of a record: what the model reads, and what its text knows of them.
    pub fn prepare(
        &mut self,
        record: &RawRecord,
        images: &[Cow<'_, Image>],
        asked: Option<AskedRows>,
    ) -> Result<(Tensors, Seen), InputError> {
        let folder = record.place.folder();
        let beyond = |what: String, needed: u64| InputError::Budget {
            what,
            place: record.place.clone(),
            given: self.allowance.given(),
            needed,
            before_tokenizer: false,
        };
        let (mut files, mut held) = (Vec::new(), 0_u64);
        for (at, image) in images.iter().enumerate() {
            let bytes = held.saturating_add(image.file_bytes(folder));
            self.allowance
                .check(bytes)
                .map_err(|needed| beyond(format!("the file of picture {}", at + 1), needed))?;
            let file = image.read(folder);
            let file =
                file.map_err(|problem| refused(record, &format!("picture {}: {problem}", at + 1)))?;
            held += file.len() as u64;
            files.push(file);
        }
        let files: Vec<&[u8]> = files.iter().map(AsRef::as_ref).collect();
        let room = self.allowance.most().saturating_sub(held);
        // Decoders are the work of others, and files are hostile.
        let kept = &mut self.kept;
        let prepared = guarded(|| self.images.prepare_again(&files, room, kept));
        let prepared = prepared.map_err(|problem| {
            self.kept.clear();
            refused(record, &format!("a decoder failed: {problem}"))
        })?;
        let Prepared {
            mut tensors,
            pictures,
        } = prepared.map_err(|(at, error)| match error {
            PictureError::Memory { what, needed, .. } => {
                let wanted = self.allowance.check(needed.saturating_add(held));
                beyond(what, wanted.err().unwrap_or(needed))
            }
            error => {
                refused(record, &format!("picture {}: {error}", at + 1)).with_hint(error.hint())
            }
        })?;
        if let Some(asked) = asked {
            let ids = self.ask(record)?;
            let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
            tensors.push(Tensor::integers(asked.name, &[1, ids.len()], ids));
        }
        let seen = Seen::new(pictures, self.placeholders.clone());
        Ok((Tensors::Made(tensors.into()), seen))
    }
}

impl PictureReader {
    /// The tokens of the text of a record as it is asked of its pictures.
    fn ask(&mut self, record: &RawRecord) -> Result<Vec<u32>, InputError> {
        let Content::Text(text) = &record.content else {
            let problem = "what is asked of its picture is its `text`, and it has none";
            let hint =
                "give `text`, or what the model's processor makes of the record in `tensors`";
            return Err(refused(record, problem).with_hint(hint));
        };
        let failed = |problem: String| {
            let problem = format!("what is asked of its picture becomes no tokens: {problem}");
            let hint = "the folder `qformer_tokenizer` of the model holds the tokenizer of such texts; `tensors` need none";
            refused(record, &problem).with_hint(hint)
        };
        let asking = match &mut self.asking {
            Some(asking) => asking,
            none => {
                let (folder, allowance) = (self.questions.clone(), self.allowance.clone());
                let loaded = Tokenizer::load(folder, None, false, allowance);
                let loaded = loaded.map_err(|error| failed(error.to_string()))?;
                none.insert(Box::new(loaded))
            }
        };
        let encoded = asking.encode_texts(vec![text]);
        let encoded = encoded.map_err(|error| failed(error.to_string()))?;
        Ok(encoded.into_iter().flat_map(|own| own.ids).collect())
    }
}

/// The pictures of a record in the order of their places: those of a conversation's parts, and for parts without one the next of
/// `images`. Placeholders of what is left of these may be written out in the text.
pub fn images(record: &RawRecord) -> Result<Vec<Cow<'_, Image>>, InputError> {
    let mut beside = record.images.iter().map(Cow::Borrowed);
    let mut images = Vec::new();
    if let Some(conversation) = conversation(record) {
        let parts = Image::of_messages(&conversation.messages);
        for part in parts.map_err(|problem| refused(record, &problem))? {
            let image = part.map(Cow::Owned).or_else(|| beside.next());
            images.push(image.ok_or_else(|| {
                let problem = "a part of a message is a picture without `image`, `url` or `path`, and `images` has no more";
                refused(record, problem)
            })?);
        }
    }
    images.extend(beside);
    Ok(images)
}

/// The files that are pictures of records, in the order of the records; a file of several records comes once.
pub fn files(
    records: impl Iterator<Item = Result<RawRecord, InputError>>,
) -> Result<Vec<PathBuf>, InputError> {
    let (mut seen, mut files) = (HashSet::new(), Vec::new());
    for record in records {
        let record = record?;
        let folder = record.place.folder();
        // What is wrong with a record's pictures is said when they are prepared.
        for path in images(&record)
            .unwrap_or_default()
            .iter()
            .filter_map(|image| image.path(folder))
        {
            if seen.insert(path.clone()) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Whether a record may have pictures: its messages are not taken apart for that.
pub fn may_have_pictures(record: &RawRecord) -> bool {
    let kinds = ["\"image", "\"video\"", "\"audio\""];
    let in_parts = conversation(record).is_some_and(|conversation| {
        let messages = &conversation.messages;
        kinds.iter().any(|kind| messages.contains(kind))
    });
    in_parts || !record.images.is_empty()
}

/// Writes parts of messages that are addresses of pictures as pictures.
pub fn usual_parts(content: &mut Content) {
    let conversations = match content {
        Content::Messages(conversation) => vec![conversation],
        Content::Prompted(Prompted::Messages { prompt, whole }) => vec![prompt, whole],
        _ => Vec::new(),
    };
    for conversation in conversations {
        if let Some(messages) = Image::in_messages(&conversation.messages) {
            conversation.messages = messages;
        }
    }
}

/// The whole conversation of a record that is one.
fn conversation(record: &RawRecord) -> Option<&Conversation> {
    match &record.content {
        Content::Messages(conversation) => Some(conversation),
        Content::Prompted(Prompted::Messages { whole, .. }) => Some(whole),
        _ => None,
    }
}

fn refused(record: &RawRecord, problem: &str) -> InputError {
    InputError::record(&record.place, format!("record `{}`: {problem}", record.id))
}

//! The model of a class over entries that a file has.

use ::tokenizers::ModelWrapper;
use ::tokenizers::models::bpe::{BpeBuilder, Vocab};
use ::tokenizers::models::unigram::Unigram;
use ::tokenizers::models::wordpiece::WordPiece;

use crate::tokenizer::class::{Class, Model, Settings, Unknown};
use crate::tokenizer::load::{REMEMBERED_WORDS, Vocabulary};

/// Builds the model.
pub fn build(
    class: &Class,
    settings: &Settings,
    unknown: Option<&str>,
    vocabulary: Vocabulary,
    merges: Vec<(String, String)>,
) -> Result<ModelWrapper, String> {
    let text = unknown.unwrap_or_default();
    let failed = |error: ::tokenizers::Error| error.to_string();
    Ok(match class.model {
        Model::WordPiece => WordPiece::builder()
            .vocab(ids(vocabulary)?)
            .unk_token(text.to_owned())
            .build()
            .map_err(failed)?
            .into(),
        Model::Bpe {
            unknown,
            suffix,
            fuse,
            bytes,
        } => {
            let mut builder = BpeBuilder::new()
                .cache_capacity(REMEMBERED_WORDS)
                .fuse_unk(fuse)
                .byte_fallback(bytes)
                .vocab_and_merges(ids(vocabulary)?, merges);
            if unknown {
                builder = builder.unk_token(text.to_owned());
            }
            if !suffix.is_empty() {
                builder = builder.end_of_word_suffix(suffix.to_owned());
            }
            builder.build().map_err(failed)?.into()
        }
        Model::Unigram(place) => {
            let Vocabulary::Scores(entries) = vocabulary else {
                return Err(
                    "it needs entries with scores, and the file has entries with ids".into(),
                );
            };
            let id = unknown_id(place, settings, text, &entries)?;
            Unigram::from(entries, Some(id), false)
                .map_err(|error| error.to_string())?
                .into()
        }
    })
}

/// Entries by id; of two with one text the later counts.
fn ids(vocabulary: Vocabulary) -> Result<Vocab, String> {
    match vocabulary {
        Vocabulary::Ids(vocabulary) => Ok(vocabulary),
        Vocabulary::Scores(entries) => {
            let number = |(id, (entry, _)): (usize, (String, f64))| {
                let id = u32::try_from(id).map_err(|_| "its vocabulary is too large".to_owned());
                id.map(|id| (entry, id))
            };
            entries.into_iter().enumerate().map(number).collect()
        }
    }
}

fn unknown_id(
    place: Unknown,
    settings: &Settings,
    text: &str,
    entries: &[(String, f64)],
) -> Result<usize, String> {
    let zero = |(_, (entry, score)): &(usize, &(String, f64))| entry == text && *score == 0.0;
    let with_zero = |skip| {
        entries
            .iter()
            .enumerate()
            .skip(skip)
            .find(zero)
            .map(|(id, _)| id)
    };
    Ok(match place {
        Unknown::Id(id) => id,
        Unknown::Setting => settings.number("unk_id")?,
        Unknown::ScoreZeroOrSetting => match with_zero(0) {
            Some(id) => id,
            None => settings.number("unk_id")?,
        },
        Unknown::ScoreZeroOr(id) => with_zero(0).unwrap_or(id),
        Unknown::ScoreZeroAfterFirst => with_zero(1).ok_or_else(|| {
            format!("its vocabulary has no `{text}` of score 0 after the first entry")
        })?,
        Unknown::EntryOr(id) => {
            let found = entries.iter().position(|(entry, _)| entry == text);
            found.unwrap_or(id)
        }
    })
}

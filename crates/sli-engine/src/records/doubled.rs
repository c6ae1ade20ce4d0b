//! Records twice.

use std::path::Path;

use sli_spec::{ModelSpec, PictureRows, RowRule};

use super::record::Record;
use super::spool::RecordSpool;
use super::writer::RecordSpoolWriter;
use crate::results::ResultsError;

impl RecordSpool {
    /// The same records twice, each beside itself, with the sequences that the stacks of a model read, in a folder.
    pub fn doubled(&self, folder: &Path, spec: &ModelSpec) -> Result<Self, ResultsError> {
        let mut writer = RecordSpoolWriter::create(folder)?.with_sequences(spec)?;
        writer.trust_ids();
        writer.set_copies(2);
        let decoder = spec.decoder_input().is_some();
        for record in 0..self.len() {
            let own = self.whole(record)?;
            let annotation = self.annotation(record)?;
            let second = match self.second().filter(|_| decoder) {
                Some(second) => Some((second.whole(record)?, second.annotation(record)?)),
                None => None,
            };
            let pictures = self.pictures().filter(|_| spec.has_pictures_beside());
            let pictures = pictures
                .map(|pictures| pictures.whole(record))
                .transpose()?;
            for _ in 0..2 {
                writer.push_annotated(&own, &annotation)?;
                if let Some(pictures) = &pictures {
                    writer.push_pictures(pictures)?;
                }
                if let Some((record, annotation)) = &second {
                    writer.push_decoder(record, annotation)?;
                }
            }
        }
        for _ in 0..self.cut() {
            writer.count_cut();
        }
        writer.set_skipped(self.skipped());
        writer.set_prompt_tokens(self.prompt_tokens());
        writer.set_needed(self.needed());
        writer.finish()
    }

    /// A record with all that it brought along.
    fn whole(&self, record: usize) -> Result<Record, ResultsError> {
        let features = self.features(record)?;
        let own = self.read(record..record + 1)?.into_iter().next();
        Ok(Record {
            features: (!features.is_empty()).then_some(features),
            asked: self.asked(record)?,
            ..own.unwrap_or_default()
        })
    }

    /// What a record asks of each of its views.
    fn asked(&self, record: usize) -> Result<Vec<Vec<u32>>, ResultsError> {
        let mut asking = self.0.rows.iter().filter_map(|(rule, rows)| match rule {
            RowRule::Pictures(rule @ PictureRows::Asked { .. }) => Some((rule, rows)),
            _ => None,
        });
        let Some((rule, rows)) = asking.next() else {
            return Ok(Vec::new());
        };
        let own = rows.read(record..record + 1)?.into_iter().next();
        let sources = own.and_then(|own| own.inputs).unwrap_or_default();
        let views = rule.views_of(&sources).unwrap_or_default();
        Ok(views.into_iter().map(|(_, text)| text).collect())
    }

    /// The first record in whose tokens, of any sequence, two spools differ, and in what; `None`: they do not.
    pub fn difference(&self, other: &Self) -> Result<Option<(usize, String)>, ResultsError> {
        if self.len() != other.len() {
            let problem = format!("{} records and {}", self.len(), other.len());
            return Ok(Some((self.len().min(other.len()), problem)));
        }
        for record in 0..self.len() {
            let pairs = [
                Some((self, other)),
                self.second().zip(other.second()),
                self.pictures().zip(other.pictures()),
            ];
            for (own, other) in pairs.into_iter().flatten() {
                let (own, other) = (own.whole(record)?, other.whole(record)?);
                if own == other {
                    continue;
                }
                let mut tokens = own.tokens.iter().zip(&other.tokens);
                let at = tokens.position(|(own, other)| own != other);
                let at = at.unwrap_or(own.tokens.len().min(other.tokens.len()));
                let shown = |record: &Record| {
                    let token = record.tokens.get(at).map(u32::to_string);
                    token.unwrap_or_else(|| "nothing".into())
                };
                let problem = if own.tokens == other.tokens {
                    "what is beside the tokens".to_owned()
                } else {
                    format!("token {at}: {} and {}", shown(&own), shown(&other))
                };
                return Ok(Some((record, problem)));
            }
        }
        Ok(None)
    }
}

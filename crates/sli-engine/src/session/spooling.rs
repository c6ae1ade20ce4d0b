//! Token sequences become the records of a run.

use std::path::Path;

use sli_spec::DecoderInput;

use super::Session;
use crate::annotation::Annotation;
use crate::demands::Demands;
use crate::error::EngineError;
use crate::records::{Record, RecordSpool, RecordSpoolWriter};

impl Session {
    /// Puts token sequences on disk in `folder`, named by their numbers from 0; what the model cannot run is refused; they have
    /// no pictures. A decoder behind an encoder gets of them what the model's class gives it: the sequence shifted right, or nothing.
    /// [`RecordSpoolWriter`] takes records with names, token types and texts.
    pub fn spool<T: Into<Vec<u32>>>(
        &self,
        folder: &Path,
        sequences: impl IntoIterator<Item = T>,
    ) -> Result<RecordSpool, EngineError> {
        let demands = Demands::of(&self.model.spec);
        let writer = RecordSpoolWriter::create(folder)?;
        let mut writer = writer.with_sequences(&self.model.spec)?;
        let decoder = self.model.spec.decoder_input();
        for (row, tokens) in (0..).zip(sequences) {
            let record = Record {
                id: row.to_string(),
                row,
                tokens: tokens.into(),
                ..Record::default()
            };
            demands.check(&record, self.allow_long)?;
            if let Some((own, _)) = self.model.spec.scattered()
                && let Some(place) = record.tokens.iter().position(|&token| token == own.token)
            {
                return Err(EngineError::Record {
                    id: record.id,
                    problem: format!(
                        "token {} at position {place} stands for what is seen of pictures, and it has none",
                        own.token
                    ),
                });
            }
            if let Some(reason) = self.model.spec.demands_pictures()
                && !record.tokens.is_empty()
            {
                return Err(EngineError::Record {
                    id: record.id,
                    problem: format!("{reason}, and it has none"),
                });
            }
            writer.push(&record)?;
            if self.model.spec.has_pictures_beside() {
                writer.push_pictures(&Record {
                    id: record.id.clone(),
                    row,
                    ..Record::default()
                })?;
            }
            if let Some(decoder) = decoder {
                let record = decoder_part(decoder, record)?;
                writer.push_decoder(&record, &Annotation::default())?;
            }
        }
        Ok(writer.finish()?)
    }
}

/// What a decoder behind an encoder gets of a record that has nothing for it.
fn decoder_part(decoder: DecoderInput, record: Record) -> Result<Record, EngineError> {
    let labels = decoder.repeats.then_some(record.tokens);
    let tokens = match &labels {
        None => Vec::new(),
        Some(labels) => {
            let shifted = decoder.of_labels(labels.iter().copied().map(Some));
            shifted.ok_or_else(|| EngineError::Record {
                id: record.id.clone(),
                problem: "the configuration has no `decoder_start_token_id`".into(),
            })?
        }
    };
    Ok(Record {
        tokens,
        labels,
        features: None,
        asked: Vec::new(),
        inputs: None,
        token_types: None,
        id: record.id,
        row: record.row,
    })
}

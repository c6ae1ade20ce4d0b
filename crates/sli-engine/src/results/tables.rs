//! The tables of results, each with its columns.

use super::ResultsError;
use super::columns::{Columns, Kind, write_table};
use super::record_name::RecordName;
use super::rows::{RowEncoder, RowSpool};
use crate::annotation::{Annotation, Completion, bits_per_byte};
use crate::journal::OutputFolder;
use crate::records::RecordSpool;

/// `scores.parquet`: how probable every token was.
pub struct ScoresSink(RowSpool);

impl ScoresSink {
    const FILE: &str = "scores.parquet";
    const COLUMNS: &Columns<'static> = &[
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("tokens", Kind::U32),
        ("sum_logprob", Kind::F64),
        ("perplexity", Kind::OptionalF64),
        ("bits_per_byte", Kind::OptionalF64),
        ("completion_tokens", Kind::OptionalU32),
        ("completion_sum_logprob", Kind::OptionalF64),
        ("completion_perplexity", Kind::OptionalF64),
        ("completion_bits_per_byte", Kind::OptionalF64),
        ("token_ids", Kind::ListU32),
        ("logprobs", Kind::ListF32),
        ("offsets", Kind::OptionalPairs),
        ("completion_spans", Kind::OptionalPairs),
    ];

    /// Starts the table, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder) -> Result<Self, ResultsError> {
        RowSpool::open(folder, "scores", Self::FILE).map(Self)
    }

    /// Appends a record: its tokens, and the log-probability of every token but the first; of labels, of every one.
    ///
    /// `sum_logprob` is the sum in order in f64, `perplexity` is `exp(-sum / count)`, null where no token is
    /// scored. Those of the completion are of its tokens alone, but for one that is the record's first.
    pub fn push(
        &self,
        record: RecordName<'_>,
        tokens: &[u32],
        logprobs: &[f32],
        annotation: &Annotation,
    ) -> Result<(), ResultsError> {
        let unscored = tokens.len() - logprobs.len();
        debug_assert!(unscored < 2, "at most the first has none");
        let whole = Sum::of(logprobs.iter().copied());
        let text = annotation.text.as_ref();
        let completion = annotation.completion.as_ref().map(|completion| {
            let marks = completion.tokens.iter().skip(unscored);
            let own = logprobs.iter().zip(marks).filter(|(_, mark)| **mark);
            (Sum::of(own.map(|(logprob, _)| *logprob)), completion.bytes)
        });
        let spans = annotation.completion.as_ref().map(Completion::spans);
        self.0.push(|row| {
            row.named(record);
            row.u32(tokens.len() as u32);
            row.f64(whole.logprob);
            row.optional_f64(whole.perplexity());
            row.optional_f64(whole.bits_per_byte(text.map(|text| text.bytes)));
            row.optional_u32(completion.map(|(sum, _)| sum.tokens));
            row.optional_f64(completion.map(|(sum, _)| sum.logprob));
            row.optional_f64(completion.and_then(|(sum, _)| sum.perplexity()));
            row.optional_f64(completion.and_then(|(sum, bytes)| sum.bits_per_byte(bytes)));
            row.list_u32(tokens.iter().copied());
            if unscored == 0 {
                row.list_f32(logprobs.iter().copied());
            } else {
                row.list_f32_after_null(logprobs);
            }
            row.optional_pairs(text.map(|text| &text.offsets[..]));
            row.optional_pairs(spans.as_deref());
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        from_spool(folder, Self::FILE, Self::COLUMNS, &self.0)
    }
}

/// The log-probability of some tokens of a record.
#[derive(Clone, Copy, Debug)]
struct Sum {
    tokens: u32,
    logprob: f64,
}

impl Sum {
    /// In order, in f64.
    fn of(logprobs: impl Iterator<Item = f32>) -> Self {
        let none = Self {
            tokens: 0,
            logprob: 0.0,
        };
        logprobs.fold(none, |sum, logprob| Self {
            tokens: sum.tokens + 1,
            logprob: sum.logprob + f64::from(logprob),
        })
    }

    /// `exp(-sum / tokens)`; `None` of no tokens.
    fn perplexity(self) -> Option<f64> {
        (self.tokens > 0).then(|| (-self.logprob / f64::from(self.tokens)).exp())
    }

    /// Of a text of so many bytes; `None` of no tokens.
    fn bits_per_byte(self, bytes: Option<u32>) -> Option<f64> {
        let bytes = bytes.filter(|_| self.tokens > 0)?;
        bits_per_byte(self.logprob, bytes)
    }
}

/// Writes `records.parquet`: the row of the input that each tensor named by an id belongs to.
pub fn write_records(folder: &mut OutputFolder, records: &RecordSpool) -> Result<(), ResultsError> {
    /// Records whose names are read together.
    const STEP: usize = 1 << 11;
    let columns = [
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("tokens", Kind::U32),
    ];
    let mut names = Vec::new().into_iter();
    let mut next = 0;
    write_table(folder, "records.parquet", &columns, |cells| {
        if names.len() == 0 {
            let end = (next + STEP).min(records.len());
            names = records.names(next..end)?.into_iter();
        }
        let Some((row, id)) = names.next() else {
            return Ok(false);
        };
        cells.encode(|cells| {
            cells.named(RecordName { row, id: &id });
            cells.u32(records.tokens_of(next) as u32);
        });
        next += 1;
        Ok(true)
    })
}

/// The most probable next tokens at a position.
#[derive(Clone, Copy, Debug)]
pub struct BestTokens<'a> {
    /// Logit and id of each.
    pub entries: &'a [(f32, u32)],
    /// Of all logits.
    pub log_sum_exp: f64,
}

impl BestTokens<'_> {
    fn logprobs(&self) -> impl Iterator<Item = f64> {
        let log_sum_exp = self.log_sum_exp;
        self.entries
            .iter()
            .map(move |&(logit, _)| f64::from(logit) - log_sum_exp)
    }

    /// The probability of all others.
    fn tail(&self) -> f32 {
        let mass = self
            .logprobs()
            .fold(0.0, |mass, logprob| mass + logprob.exp());
        (1.0 - mass).max(0.0) as f32
    }
}

/// `topk.parquet`: the most probable next tokens at every position.
pub struct TopKSink {
    spool: RowSpool,
    k: usize,
}

impl TopKSink {
    const FILE: &str = "topk.parquet";
    const COLUMNS: &Columns<'static> = &[
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("top_ids", Kind::MatrixU32),
        ("top_logprobs", Kind::MatrixF32),
        ("logsumexp", Kind::ListF32),
        ("tail_mass", Kind::ListF32),
    ];

    /// Starts the table of `k` tokens a position, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder, k: usize) -> Result<Self, ResultsError> {
        Ok(Self {
            spool: RowSpool::open(folder, "topk", Self::FILE)?,
            k,
        })
    }

    /// Appends a record: ids and log-probabilities `[tokens, k]`, log-sum-exp of the logits and the
    /// probability outside the `k` `[tokens]`.
    pub fn push(
        &self,
        record: RecordName<'_>,
        tokens: &[BestTokens<'_>],
    ) -> Result<(), ResultsError> {
        debug_assert!(
            tokens.iter().all(|best| best.entries.len() == self.k),
            "k entries a position"
        );
        let values = tokens.len() * self.k;
        fits_a_list(record.id, values)?;
        let entries = || tokens.iter().flat_map(|best| best.entries);
        let logprobs = || tokens.iter().flat_map(BestTokens::logprobs);
        self.spool.push(|row| {
            row.named(record);
            row.matrix(self.k, values, entries().map(|(_, id)| id.to_le_bytes()));
            let logprobs = logprobs().map(|logprob| (logprob as f32).to_le_bytes());
            row.matrix(self.k, values, logprobs);
            row.list_f32(tokens.iter().map(|best| best.log_sum_exp as f32));
            row.list_f32(tokens.iter().map(BestTokens::tail));
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        from_spool(folder, Self::FILE, Self::COLUMNS, &self.spool)
    }
}

/// `embeddings.parquet`: a vector a record.
pub struct EmbeddingSink {
    spool: RowSpool,
    length: usize,
}

impl EmbeddingSink {
    const FILE: &str = "embeddings.parquet";

    /// Starts the table of vectors of `length` values, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder, length: usize) -> Result<Self, ResultsError> {
        Ok(Self {
            spool: RowSpool::open(folder, "embeddings", Self::FILE)?,
            length,
        })
    }

    /// Appends a record; one of no tokens has no vector, `None`.
    pub fn push(&self, record: RecordName<'_>, vector: Option<&[f32]>) -> Result<(), ResultsError> {
        debug_assert!(
            vector.is_none_or(|vector| vector.len() == self.length),
            "one length"
        );
        self.spool.push(|row| {
            row.named(record);
            row.vector(vector);
        })
    }

    /// Writes the Parquet file.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        let columns = [
            ("row", Kind::I64),
            ("id", Kind::Text),
            ("embedding", Kind::Vector(self.length)),
        ];
        from_spool(folder, Self::FILE, &columns, &self.spool)
    }
}

/// `router.parquet`: the experts that every token was sent to; a row a record and layer.
pub struct RouterSink {
    /// A spool a layer, because the rows of a record come layer by layer with other records between them.
    layers: Vec<(u32, RowSpool)>,
}

impl RouterSink {
    const FILE: &str = "router.parquet";
    const COLUMNS: &Columns<'static> = &[
        ("row", Kind::I64),
        ("id", Kind::Text),
        ("layer", Kind::U32),
        ("expert_ids", Kind::MatrixU32),
        ("weights", Kind::MatrixF32),
    ];

    /// Starts the table for the given layers, or continues it from the last checkpoint.
    pub fn open(folder: &OutputFolder, layers: &[u32]) -> Result<Self, ResultsError> {
        let open = |&layer: &u32| {
            Ok((
                layer,
                RowSpool::open(folder, &format!("router-{layer}"), Self::FILE)?,
            ))
        };
        Ok(Self {
            layers: layers
                .iter()
                .map(open)
                .collect::<Result<_, ResultsError>>()?,
        })
    }

    /// Appends a record's part of one of the layers: expert ids and weights `[tokens, top_k]`. Every record
    /// comes once a layer, in input order, also one of no tokens.
    pub fn push(
        &self,
        layer: u32,
        record: RecordName<'_>,
        top_k: usize,
        experts: &[u32],
        weights: &[f32],
    ) -> Result<(), ResultsError> {
        debug_assert_eq!(experts.len(), weights.len(), "a weight an expert");
        fits_a_list(record.id, experts.len())?;
        let spool = self.layers.iter().find(|&&(number, _)| number == layer);
        let (_, spool) = spool.ok_or(ResultsError::UnknownLayer { layer })?;
        spool.push(|row| {
            row.named(record);
            row.u32(layer);
            let count = experts.len();
            row.matrix(top_k, count, experts.iter().map(|id| id.to_le_bytes()));
            row.matrix(
                top_k,
                count,
                weights.iter().map(|weight| weight.to_le_bytes()),
            );
        })
    }

    /// Writes the Parquet file: records in input order, the layers of each in order.
    pub fn finish(self, folder: &mut OutputFolder) -> Result<(), ResultsError> {
        in_turn(folder, Self::FILE, Self::COLUMNS, &self.layers)
    }
}

/// Publishes the rows of spools of layers: of each record those of all layers, one behind the other.
pub(super) fn in_turn(
    folder: &mut OutputFolder,
    name: &str,
    columns: &Columns<'_>,
    layers: &[(u32, RowSpool)],
) -> Result<(), ResultsError> {
    let mut readers = Vec::new();
    for (_, spool) in layers {
        readers.push(spool.reader()?);
    }
    let mut turn = 0;
    write_table(folder, name, columns, |row| {
        let Some(reader) = readers.get_mut(turn) else {
            return Ok(false);
        };
        let there = reader.next(row)?;
        if !there && turn > 0 {
            // Another layer has more records.
            return Err(reader.damaged());
        }
        turn = (turn + 1) % layers.len();
        Ok(there)
    })
}

/// The tables whose rows are not those of records.
pub(crate) const PROFILE: &str = "profile.parquet";
pub(crate) const CHANNELS: &str = "channels.parquet";
pub(crate) const EXPERTS: &str = "experts.parquet";

/// A statistic of one place in the model, a row of `profile.parquet`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProfileRow<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The boundary; of a branch output its layer, counted from 1.
    pub layer: u32,
    /// The name of a [`sli_spec::Site`].
    pub site: &'a str,
    /// `mean`, `variance`, ...
    pub statistic: &'a str,
    /// Its value.
    pub value: f64,
}

/// The largest magnitude of every channel of one place in the model, a row of `channels.parquet`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelsRow<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The boundary; of a branch output its layer, counted from 1.
    pub layer: u32,
    /// The name of a [`sli_spec::Site`].
    pub site: &'a str,
    /// By channel.
    pub abs_max: &'a [f32],
}

/// The load of one expert, a row of `experts.parquet`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertRow<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The layer, counted from 1.
    pub layer: u32,
    /// The expert.
    pub expert: u32,
    /// Tokens that were sent to it.
    pub tokens: u64,
    /// Sum of their weights.
    pub weight_sum: f64,
}

/// Writes `profile.parquet`.
pub fn write_profile<'a>(
    folder: &mut OutputFolder,
    rows: impl IntoIterator<Item = ProfileRow<'a>>,
) -> Result<(), ResultsError> {
    let columns = [
        ("stack", Kind::Name),
        ("layer", Kind::U32),
        ("site", Kind::Name),
        ("statistic", Kind::Name),
        ("value", Kind::F64),
    ];
    from_rows(folder, PROFILE, &columns, rows, |row, cells| {
        cells.text(row.stack);
        cells.u32(row.layer);
        cells.text(row.site);
        cells.text(row.statistic);
        cells.f64(row.value);
    })
}

/// Writes `channels.parquet`.
pub fn write_channels<'a>(
    folder: &mut OutputFolder,
    rows: impl IntoIterator<Item = ChannelsRow<'a>>,
) -> Result<(), ResultsError> {
    let columns = [
        ("stack", Kind::Name),
        ("layer", Kind::U32),
        ("site", Kind::Name),
        ("abs_max", Kind::ListF32),
    ];
    from_rows(folder, CHANNELS, &columns, rows, |row, cells| {
        cells.text(row.stack);
        cells.u32(row.layer);
        cells.text(row.site);
        cells.list_f32(row.abs_max.iter().copied());
    })
}

/// Writes `experts.parquet`.
pub fn write_experts<'a>(
    folder: &mut OutputFolder,
    rows: impl IntoIterator<Item = ExpertRow<'a>>,
) -> Result<(), ResultsError> {
    let columns = [
        ("stack", Kind::Name),
        ("layer", Kind::U32),
        ("expert", Kind::U32),
        ("tokens", Kind::U64),
        ("weight_sum", Kind::F64),
    ];
    from_rows(folder, EXPERTS, &columns, rows, |row, cells| {
        cells.text(row.stack);
        cells.u32(row.layer);
        cells.u32(row.expert);
        cells.u64(row.tokens);
        cells.f64(row.weight_sum);
    })
}

pub(super) fn from_spool(
    folder: &mut OutputFolder,
    name: &str,
    columns: &Columns<'_>,
    spool: &RowSpool,
) -> Result<(), ResultsError> {
    let mut reader = spool.reader()?;
    write_table(folder, name, columns, |row| reader.next(row))
}

pub(super) fn from_rows<T>(
    folder: &mut OutputFolder,
    name: &str,
    columns: &Columns<'_>,
    rows: impl IntoIterator<Item = T>,
    encode: impl Fn(T, &mut RowEncoder<'_>),
) -> Result<(), ResultsError> {
    let mut rows = rows.into_iter();
    write_table(folder, name, columns, |row| {
        let next = rows.next();
        Ok(next
            .map(|next| row.encode(|cells| encode(next, cells)))
            .is_some())
    })
}

/// A Parquet list counts its values in 31 bits.
pub(super) fn fits_a_list(id: &str, values: usize) -> Result<(), ResultsError> {
    if i32::try_from(values).is_ok() {
        return Ok(());
    }
    let problem = "its results are more than the 2^31 values of a Parquet list";
    Err(ResultsError::Id {
        id: id.to_owned(),
        problem,
    })
}

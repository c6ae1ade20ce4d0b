//! Answers to the requests of a batch file, a line each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;
use sli_engine::results::ResultsError;
use sli_engine::{EngineError, shorten};

use super::tables::Table;
use super::{Ask, Problem, Request};
use crate::error::Error;
use crate::prepared::Prepared;
use crate::tokenizer::Tokenizer;

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    custom_id: Option<&'a str>,
    response: Response<'a>,
    error: Option<&'a Problem>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: String,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Error {
        error: &'a Problem,
    },
    Embeddings {
        object: &'static str,
        model: &'a str,
        data: Vec<Embedding>,
        usage: Usage,
    },
    Choices {
        id: String,
        object: &'static str,
        /// Nothing tells when, so that the same requests have the same answers.
        created: u64,
        model: &'a str,
        choices: Vec<Choice>,
        usage: Usage,
        #[serde(skip_serializing_if = "Option::is_none")]
        prompt_logprobs: Option<Vec<Option<BTreeMap<u32, Probability>>>>,
    },
}

#[derive(Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "members are called as the API has them"
)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "members are called as the API has them"
)]
struct Usage {
    prompt_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<usize>,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: &'static str,
}

#[derive(Default, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "members are called as the API has them"
)]
struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    text_offset: Vec<usize>,
}

#[derive(Serialize)]
struct Probability {
    logprob: f32,
    rank: Option<usize>,
    decoded_token: String,
}

/// What a record was scored as.
#[derive(Default)]
struct Scored {
    tokens: Vec<u32>,
    /// Of each token, nothing of the first.
    logprobs: Vec<Option<f32>>,
    /// In front of each token the most probable ones, nothing in front of the first.
    best: Vec<Vec<(u32, f32)>>,
}

/// Answers requests out of the results of a run over their records.
pub struct Answers {
    embeddings: Option<Table>,
    scores: Option<Table>,
    top: Option<Table>,
    tokenizer: Option<Tokenizer>,
    /// The record that comes next.
    next: u64,
    prepared: Prepared,
}

/// A request and its number in the file.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// From 0.
    pub number: u64,
    /// The request.
    pub request: &'a Request,
}

impl Answers {
    /// The results are in `folder`. Without a tokenizer tokens are called `token_id:N`.
    pub fn open(
        folder: &Path,
        tokenizer: Option<Tokenizer>,
        prepared: Prepared,
    ) -> Result<Self, ResultsError> {
        Ok(Self {
            embeddings: Table::open(folder, "embeddings.parquet")?,
            scores: Table::open(folder, "scores.parquet")?,
            top: Table::open(folder, "topk.parquet")?,
            tokenizer,
            next: 0,
            prepared,
        })
    }

    /// The line that answers the next request, and whether it refuses it. `lacking`: why it cannot be answered.
    pub fn line(
        &mut self,
        asked: Asked<'_>,
        lacking: Option<String>,
    ) -> Result<(Vec<u8>, bool), Error> {
        let Asked { number, request } = asked;
        let custom_id = Some(request.custom_id.as_str());
        let count = request.ask.records().len() as u64;
        let records = self.next..self.next + count;
        self.next = records.end;
        let problem = self.prepared.problem(records.clone());
        let is_scored = !matches!(request.ask, Ask::Embeddings { .. });
        // Vectors are of what is left; a score would be of another text.
        let is_cut = is_scored && self.prepared.is_cut(records.clone());
        let cut =
            is_cut.then(|| "the input has more tokens than the model has positions for".to_owned());
        let problem = lacking.or_else(|| problem.map(str::to_owned)).or(cut);
        if let Some(problem) = problem {
            let refusal = refusal_line(number, custom_id, &Problem::new(problem))?;
            return Ok((refusal, true));
        }
        match self.body(asked, records) {
            Ok(body) => Ok((line(number, custom_id, 200, body, None)?, false)),
            Err(Refused::Request(problem)) => {
                Ok((refusal_line(number, custom_id, &problem)?, true))
            }
            Err(Refused::Results(error)) => Err(EngineError::from(error).into()),
        }
    }

    fn body<'a>(&mut self, asked: Asked<'a>, records: Range<u64>) -> Result<Body<'a>, Refused> {
        match &asked.request.ask {
            Ask::Embeddings {
                dimensions, base64, ..
            } => self.embed(asked.request, records, (*dimensions, *base64)),
            Ask::Completions { logprobs, .. } => {
                let mut choices = Vec::new();
                let mut tokens = 0;
                for (index, record) in records.enumerate() {
                    let scored = self.scored(record, logprobs.unwrap_or(0))?;
                    tokens += scored.tokens.len();
                    choices.push(self.completion(index, asked.request, &scored, *logprobs));
                }
                Ok(choices_body(
                    "cmpl",
                    "text_completion",
                    asked,
                    choices,
                    tokens,
                ))
            }
            Ask::Chat { logprobs, .. } => {
                let scored = self.scored(records.start, *logprobs)?;
                let choice = Choice {
                    index: 0,
                    text: None,
                    message: Some(Message {
                        role: "assistant",
                        content: "",
                    }),
                    logprobs: None,
                    finish_reason: "length",
                };
                let tokens = scored.tokens.len();
                let mut body =
                    choices_body("chatcmpl", "chat.completion", asked, vec![choice], tokens);
                if let Body::Choices {
                    prompt_logprobs, ..
                } = &mut body
                {
                    *prompt_logprobs = Some(self.prompt(&scored));
                }
                Ok(body)
            }
        }
    }

    fn embed<'a>(
        &mut self,
        request: &'a Request,
        records: Range<u64>,
        (dimensions, base64): (Option<usize>, bool),
    ) -> Result<Body<'a>, Refused> {
        let mut data = Vec::new();
        let mut tokens = 0;
        for (index, record) in records.enumerate() {
            let table = self.embeddings.as_mut();
            let row = table.map(|table| table.row(record, ["embedding"]));
            let row = row.transpose()?.flatten();
            let mut vector = row.map_or_else(Vec::new, |[values]| values.floats());
            tokens += self.prepared.tokens_of(record);
            if let Some(dimensions) = dimensions {
                if dimensions > vector.len() {
                    let message = format!(
                        "`dimensions` is {dimensions}, the vectors have {}",
                        vector.len()
                    );
                    return Err(Refused::Request(Problem::of("dimensions", message)));
                }
                vector.truncate(dimensions);
                let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
                let length = square.sqrt().max(1e-12);
                for value in &mut vector {
                    *value = (f64::from(*value) / length) as f32;
                }
            }
            let embedding = if base64 {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                Vector::Base64(in_base64(&bytes))
            } else {
                Vector::Numbers(vector)
            };
            data.push(Embedding {
                object: "embedding",
                index,
                embedding,
            });
        }
        Ok(Body::Embeddings {
            object: "list",
            model: &request.model,
            data,
            usage: Usage {
                prompt_tokens: tokens,
                completion_tokens: None,
                total_tokens: tokens,
            },
        })
    }

    /// What is known of a record's tokens, and the `most` probable ones in front of each.
    fn scored(&mut self, record: u64, most: usize) -> Result<Scored, ResultsError> {
        let columns = ["token_ids", "logprobs"];
        let row = self.scores.as_mut().map(|table| table.row(record, columns));
        let Some([tokens, logprobs]) = row.transpose()?.flatten() else {
            return Ok(Scored::default());
        };
        let tokens = tokens.numbers();
        // A column of lists that begin with null.
        let logprobs = logprobs.floats().into_iter().enumerate();
        let logprobs = logprobs.map(|(index, value)| (index > 0).then_some(value));
        let mut best = Vec::new();
        let table = self.top.as_mut().filter(|_| most > 0);
        let row = table.map(|table| table.row(record, ["top_ids", "top_logprobs"]));
        if let Some([ids, values]) = row.transpose()?.flatten() {
            let both = ids
                .rows_of_numbers()
                .into_iter()
                .zip(values.rows_of_floats());
            let own = both.map(|(ids, values)| ids.into_iter().zip(values).take(most).collect());
            best = own.collect();
        }
        Ok(Scored {
            logprobs: logprobs.collect(),
            best,
            tokens,
        })
    }

    fn completion(
        &self,
        index: usize,
        request: &Request,
        scored: &Scored,
        asked: Option<usize>,
    ) -> Choice {
        let texts: Vec<String> = scored
            .tokens
            .iter()
            .map(|token| self.text(&[*token]))
            .collect();
        let given = request.ask.records().get(index);
        let given = given.and_then(|record| record["text"].as_str());
        let text = given.map_or_else(|| self.text(&scored.tokens), str::to_owned);
        let logprobs = asked.map(|most| {
            let mut logprobs = Logprobs::default();
            let mut offset = 0;
            for (place, (text, logprob)) in texts.iter().zip(&scored.logprobs).enumerate() {
                logprobs.text_offset.push(offset);
                offset += text.chars().count();
                logprobs.tokens.push(text.clone());
                logprobs.token_logprobs.push(*logprob);
                let top = logprob.filter(|_| most > 0).map(|own| {
                    let mut top = BTreeMap::new();
                    for (token, value) in scored.before(place) {
                        // Of tokens that read alike the more probable one.
                        top.entry(self.text(&[*token])).or_insert(*value);
                    }
                    top.entry(text.clone()).or_insert(own);
                    top
                });
                logprobs.top_logprobs.push(top);
            }
            logprobs
        });
        Choice {
            index,
            text: Some(text),
            message: None,
            logprobs,
            finish_reason: "length",
        }
    }

    fn prompt(&self, scored: &Scored) -> Vec<Option<BTreeMap<u32, Probability>>> {
        let tokens = scored.tokens.iter().zip(&scored.logprobs).enumerate();
        let position = |(place, (token, own)): (usize, (&u32, &Option<f32>))| {
            let own = (*own)?;
            let best = scored.before(place).iter().enumerate();
            let ranked = best.map(|(rank, (token, logprob))| (*token, *logprob, Some(rank + 1)));
            let mut all = BTreeMap::new();
            // How many are more probable than one that is none of the best is not known.
            for (token, logprob, rank) in ranked.chain([(*token, own, None)]) {
                all.entry(token).or_insert_with(|| Probability {
                    logprob,
                    rank,
                    decoded_token: self.text(&[token]),
                });
            }
            Some(all)
        };
        tokens.map(position).collect()
    }

    /// What some tokens read like.
    fn text(&self, tokens: &[u32]) -> String {
        let read = self
            .tokenizer
            .as_ref()
            .and_then(|tokenizer| tokenizer.decode(tokens));
        read.unwrap_or_else(|| {
            let names = tokens.iter().map(|token| format!("token_id:{token}"));
            names.collect()
        })
    }
}

impl Scored {
    /// The most probable tokens at a place.
    fn before(&self, place: usize) -> &[(u32, f32)] {
        let before = place
            .checked_sub(1)
            .and_then(|before| self.best.get(before));
        before.map_or(&[], Vec::as_slice)
    }
}

/// Why there is no answer.
enum Refused {
    Request(Problem),
    Results(ResultsError),
}

impl From<ResultsError> for Refused {
    fn from(error: ResultsError) -> Self {
        Self::Results(error)
    }
}

fn choices_body<'a>(
    begin: &str,
    object: &'static str,
    Asked { number, request }: Asked<'a>,
    choices: Vec<Choice>,
    tokens: usize,
) -> Body<'a> {
    Body::Choices {
        id: format!("{begin}-{}", name(number, Some(&request.custom_id))),
        object,
        created: 0,
        model: &request.model,
        choices,
        usage: Usage {
            prompt_tokens: tokens,
            completion_tokens: Some(0),
            total_tokens: tokens,
        },
        prompt_logprobs: None,
    }
}

/// The line of a request that is not answered.
pub fn refusal_line(
    number: u64,
    custom_id: Option<&str>,
    problem: &Problem,
) -> Result<Vec<u8>, Error> {
    let body = Body::Error { error: problem };
    line(number, custom_id, problem.code, body, Some(problem))
}

fn line(
    number: u64,
    custom_id: Option<&str>,
    status_code: u16,
    body: Body<'_>,
    error: Option<&Problem>,
) -> Result<Vec<u8>, Error> {
    let name = name(number, custom_id);
    let line = Line {
        id: format!("batch_req_{name}"),
        custom_id,
        response: Response {
            status_code,
            request_id: format!("req_{name}"),
            body,
        },
        error,
    };
    let mut bytes = serde_json::to_vec(&line).map_err(|error| Error::Stdout(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A name for a line, always the same.
fn name(number: u64, custom_id: Option<&str>) -> String {
    let hash = blake3::hash(format!("{number} {}", custom_id.unwrap_or_default()).as_bytes());
    shorten(&hash.to_hex())
}

/// Bytes as the API writes vectors.
fn in_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| three.get(index).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            text.push(if digit <= three.len() {
                char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::in_base64;

    #[test]
    fn bytes_become_text() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(in_base64(bytes.as_bytes()), text);
        }
    }
}

//! What tables of scores say of a record beside its tokens: where they are in its text, and which of them are
//! a completion.

/// What is known of a record beyond its tokens; nothing of one that came as tokens alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Where its tokens are, if they were made from a text.
    pub text: Option<TextSpans>,
    /// Which of its tokens are the completion, if it says so.
    pub completion: Option<Completion>,
}

/// The text that a record's tokens were made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextSpans {
    /// Bytes of UTF-8; of a text that was cut, those of the part that is left.
    pub bytes: u32,
    /// First byte of each token and the one behind its last; both 0 for tokens that are not of the text.
    pub offsets: Vec<[u32; 2]>,
}

/// The part of a record whose probability is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Which tokens belong to it, as many as the record has.
    pub tokens: Vec<bool>,
    /// Bytes of its text, where they are known.
    pub bytes: Option<u32>,
}

impl Completion {
    /// The runs of its tokens: the first of each, and the one behind its last.
    pub(crate) fn spans(&self) -> Vec<[u32; 2]> {
        let runs = self.tokens.chunk_by(|token, next| token == next);
        let ends = runs.scan(0, |end, run| {
            let start = *end;
            *end += run.len() as u32;
            Some((run[0], [start, *end]))
        });
        ends.filter_map(|(is_own, span)| is_own.then_some(span))
            .collect()
    }
}

impl Annotation {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it fits a record of so many tokens.
    pub(crate) fn fits(&self, tokens: usize) -> bool {
        let (text, completion) = (self.text.as_ref(), self.completion.as_ref());
        text.is_none_or(|text| text.offsets.len() == tokens)
            && completion.is_none_or(|completion| completion.tokens.len() == tokens)
    }
}

/// Bits for each byte of a text whose tokens have this log-probability together, in nats; `None` for none.
pub(crate) fn bits_per_byte(sum_logprob: f64, bytes: u32) -> Option<f64> {
    (bytes > 0).then(|| -sum_logprob / std::f64::consts::LN_2 / f64::from(bytes))
}

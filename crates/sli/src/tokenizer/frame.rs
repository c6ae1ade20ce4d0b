//! What a post-processor puts around a text.

use ::tokenizers::{Encoding, Token, tokenizer::Tokenizer as Backend};

use super::encoded::Encoded;

/// What the special tokens of a text are, around its own.
#[derive(Clone, Debug)]
pub struct Frame {
    /// In front of it, with their types.
    pub before: Vec<(u32, u32)>,
    /// Behind it.
    pub after: Vec<(u32, u32)>,
    /// Type of the tokens between.
    pub kind: u32,
}

impl Frame {
    /// What the post-processor puts around any text; `None` if it does anything else with it.
    pub fn of(backend: &Backend) -> Option<Self> {
        // A token that cannot be taken for a special one.
        let marker = Token::new(u32::MAX, String::new(), (0, 0));
        let one = |special| {
            let text = Encoding::from_tokens(vec![marker.clone()], 0);
            let framed = backend.post_process(text, None, special).ok()?;
            let (ids, types) = (framed.get_ids(), framed.get_type_ids());
            Some(
                ids.iter()
                    .copied()
                    .zip(types.iter().copied())
                    .collect::<Vec<_>>(),
            )
        };
        if one(false)? != [(u32::MAX, 0)] {
            return None;
        }
        let framed = one(true)?;
        let mut places = (0..framed.len()).filter(|&at| framed[at].0 == u32::MAX);
        let (at, None) = (places.next()?, places.next()) else {
            return None;
        };
        Some(Self {
            before: framed[..at].to_vec(),
            after: framed[at + 1..].to_vec(),
            kind: framed[at].1,
        })
    }

    /// A text's own tokens with the others around them.
    pub fn around(&self, ids: Vec<u32>) -> Encoded {
        let (own, kind) = (ids.len(), self.kind);
        let mut all = ids;
        all.splice(..0, self.before.iter().map(|(id, _)| *id));
        all.extend(self.after.iter().map(|(id, _)| *id));
        let before = self.before.iter().map(|(_, kind)| *kind);
        let after = self.after.iter().map(|(_, kind)| *kind);
        let mut types = before.chain(std::iter::repeat_n(kind, own)).chain(after);
        let types = types
            .clone()
            .any(|kind| kind != 0)
            .then(|| types.by_ref().collect());
        Encoded {
            ids: all,
            types,
            cut: false,
            text: None,
        }
    }
}

/// Special tokens that a text gets.
pub fn added_to(backend: &Backend) -> usize {
    let added = |processor| ::tokenizers::PostProcessor::added_tokens(processor, false);
    backend.get_post_processor().map_or(0, added)
}

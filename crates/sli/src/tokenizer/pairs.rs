//! Two texts as one record: `[CLS] a [SEP] b [SEP]`, or whatever the post-processor makes of a pair.

use ::tokenizers::{
    Encoding, PostProcessor, Token, TruncationDirection, tokenizer::Tokenizer as Backend,
};
use sli_engine::bytes::human;

use super::error::TokenizerError;
use super::patience::Patience;
use super::{Encoded, Tokenizer};
use crate::guard::guarded;
use crate::memory::WORKING_BYTES;

/// Stand for the tokens of the two texts; they cannot be taken for special ones.
const MARKERS: [u32; 2] = [u32::MAX, u32::MAX - 1];

/// What the post-processor puts around the tokens of two texts.
#[derive(Debug)]
struct PairFrame {
    /// Ids and types in front of each text, and after the second.
    special: [Vec<(u32, u32)>; 3],
    /// Type of each text's tokens.
    kinds: [u32; 2],
}

impl Tokenizer {
    /// Tokens of pairs of texts, each with the special tokens that the tokenizer gives a pair, in parallel on the
    /// current thread pool. A pair that is too long loses tokens of the longer text first.
    pub fn encode_pairs(&mut self, pairs: &[(&str, &str)]) -> Result<Vec<Encoded>, TokenizerError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        let added = self
            .backend
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(true));
        if let Some(limit) = self
            .max_length
            .filter(|&limit| limit < added.max(self.added))
        {
            let problem = format!(
                "{limit} tokens do not hold the {added} special tokens of a pair: give a larger --max-length"
            );
            return Err(TokenizerError::Failed { problem });
        }
        // The library cuts each text before it knows the other's length: how much each loses is decided here.
        let failed = |error: ::tokenizers::Error| TokenizerError::Failed {
            problem: error.to_string(),
        };
        let limit = self.max_length.take();
        let room = limit.map(|limit| limit.saturating_sub(added));
        let encoded = self
            .truncate()
            .map_err(failed)
            .and_then(|()| self.encode_whole(pairs, room));
        self.max_length = limit;
        self.truncate().map_err(failed)?;
        encoded
    }

    /// With room for as many tokens of the two texts.
    fn encode_whole(
        &self,
        pairs: &[(&str, &str)],
        room: Option<usize>,
    ) -> Result<Vec<Encoded>, TokenizerError> {
        for (text, pair) in pairs {
            self.refuse_infilling(&[text, pair])?;
            self.refuse_ends(&[text, pair])?;
        }
        let frame = guarded(|| PairFrame::of(&self.backend)).ok().flatten();
        let frame = frame.filter(|_| self.cuts.is_some());
        let mut encoded = vec![Encoded::default(); pairs.len()];
        let (mut short, mut places, mut cost) = (Vec::new(), Vec::new(), 0);
        for (index, &(text, pair)) in pairs.iter().enumerate() {
            if text.len() + pair.len() > self.piece_bytes {
                if let Some(frame) = &frame {
                    let texts = [self.own_tokens(text)?, self.own_tokens(pair)?];
                    encoded[index] = self.framed(frame, texts, room);
                    continue;
                }
                self.whole_pair_fits(text, pair)?;
            }
            let own = self.cost(text) + self.cost(pair);
            if !short.is_empty() && cost + own > WORKING_BYTES {
                self.encode_short_pairs(&mut short, &mut places, room, &mut encoded)?;
                cost = 0;
            }
            cost += own;
            short.extend([text, pair]);
            places.push(index);
        }
        self.encode_short_pairs(&mut short, &mut places, room, &mut encoded)?;
        Ok(encoded)
    }

    /// Encodes texts, two for each place.
    fn encode_short_pairs(
        &self,
        texts: &mut Vec<&str>,
        places: &mut Vec<usize>,
        room: Option<usize>,
        encoded: &mut [Encoded],
    ) -> Result<(), TokenizerError> {
        let failed = |problem| TokenizerError::Failed { problem };
        let direction = if self.truncates_left {
            TruncationDirection::Left
        } else {
            TruncationDirection::Right
        };
        let mut patience = Patience::of(texts.iter().map(|text| text.len()).sum());
        let encodings = self.encode_batch(std::mem::take(texts), false, &mut patience)?;
        let mut encodings = encodings.into_iter();
        for index in places.drain(..) {
            let (Some(mut first), Some(mut second)) = (encodings.next(), encodings.next()) else {
                return Err(failed("it lost a text".into()));
            };
            let lengths = [first.len(), second.len()];
            let kept = room.map_or(lengths, |room| longest_first(lengths, room));
            first.truncate(kept[0], 0, direction);
            second.truncate(kept[1], 0, direction);
            second.set_type_ids(vec![1; kept[1]]);
            let whole = guarded(|| self.backend.post_process(first, Some(second), true))
                .map_err(failed)?
                .map_err(|error| failed(error.to_string()))?;
            let types = whole.get_type_ids();
            encoded[index] = Encoded {
                ids: self.ids(&whole),
                types: (self.types && types.iter().any(|&kind| kind != 0)).then(|| types.to_vec()),
                cut: kept != lengths,
                // Places are those of one text.
                text: None,
            };
        }
        Ok(())
    }

    /// The tokens of two texts, cut, with the others around them.
    fn framed(&self, frame: &PairFrame, mut texts: [Vec<u32>; 2], room: Option<usize>) -> Encoded {
        let lengths = [texts[0].len(), texts[1].len()];
        let kept = room.map_or(lengths, |room| longest_first(lengths, room));
        for (ids, length) in texts.iter_mut().zip(kept) {
            if self.truncates_left {
                ids.drain(..ids.len().saturating_sub(length));
            }
            ids.truncate(length);
        }
        let framed = frame.around(texts);
        let cut = kept != lengths;
        Encoded {
            types: framed.types.filter(|_| self.types),
            cut,
            ..framed
        }
    }

    fn own_tokens(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoded = self.encode_chats(vec![text])?;
        Ok(encoded.into_iter().next().unwrap_or_default().ids)
    }

    fn whole_pair_fits(&self, text: &str, pair: &str) -> Result<(), TokenizerError> {
        let bytes = (text.len() + pair.len()) as u64;
        let cost = self.cost(text) + self.cost(pair);
        self.allowance
            .check(cost)
            .map_err(|needed| TokenizerError::Budget {
                what: format!("the tokens of {} of text that cannot be cut", human(bytes)),
                given: self.allowance.given(),
                needed,
            })
    }
}

/// How many tokens of each text stay of a pair that has room for `room`: the longer one is cut to the length of
/// the other at first, then both alike, as `LongestFirst` of tokenizers does it.
fn longest_first(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let [first, second] = lengths;
    let (shorter, longer) = (first.min(second), first.max(second));
    let (shorter, longer) = if first + second <= room {
        (shorter, longer)
    } else if shorter <= room && shorter.max(room - shorter) + shorter <= room {
        (shorter, room - shorter)
    } else {
        (room / 2, room / 2 + room % 2)
    };
    if first > second {
        [longer, shorter]
    } else {
        [shorter, longer]
    }
}

impl PairFrame {
    /// What stands around the texts of any pair; `None` if the post-processor does anything else with them.
    fn of(backend: &Backend) -> Option<Self> {
        let encoding = |which: usize| {
            let token = Token::new(MARKERS[which], String::new(), (0, 0));
            Encoding::from_tokens(vec![token], which as u32)
        };
        let framed = backend
            .post_process(encoding(0), Some(encoding(1)), true)
            .ok()?;
        let tokens = framed.get_ids().iter().zip(framed.get_type_ids());
        let mut special = [Vec::new(), Vec::new(), Vec::new()];
        let (mut kinds, mut seen) = ([0; 2], 0);
        for (&id, &kind) in tokens {
            match MARKERS.iter().position(|&marker| marker == id) {
                None => special[seen].push((id, kind)),
                Some(which) if which == seen => {
                    kinds[which] = kind;
                    seen += 1;
                }
                Some(_) => return None,
            }
        }
        (seen == 2).then_some(Self { special, kinds })
    }

    /// The tokens of two texts with the others around them.
    fn around(&self, texts: [Vec<u32>; 2]) -> Encoded {
        let [before, between, after] = &self.special;
        let (mut ids, mut types) = (Vec::new(), Vec::new());
        for ((special, own), kind) in [before, between].into_iter().zip(texts).zip(self.kinds) {
            ids.extend(special.iter().map(|(id, _)| *id));
            types.extend(special.iter().map(|(_, kind)| *kind));
            types.extend(std::iter::repeat_n(kind, own.len()));
            ids.extend(own);
        }
        ids.extend(after.iter().map(|(id, _)| *id));
        types.extend(after.iter().map(|(_, kind)| *kind));
        let types = types.iter().any(|&kind| kind != 0).then_some(types);
        Encoded {
            ids,
            types,
            cut: false,
            text: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::{Encoded, Tokenizer, longest_first};
    use crate::memory::Allowance;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers")
    }

    fn load(folder: &Path, limit: Option<usize>) -> Tokenizer {
        Tokenizer::load(folder, limit, false, Allowance::unlimited()).unwrap()
    }

    /// Pairs as AutoTokenizer of transformers encodes them (tools/records/pairs.py).
    #[test]
    fn pairs_are_those_of_the_reference() {
        let golden = fs_err::read(folder().join("pairs.json")).unwrap();
        let golden: Value = serde_json::from_slice(&golden).unwrap();
        let pairs: Vec<(String, String)> = serde_json::from_value(golden["pairs"].clone()).unwrap();
        let mut compared = 0;
        for case in golden["cases"].as_array().unwrap() {
            let name = case["tokenizer"].as_str().unwrap();
            let copy = tempfile::tempdir().unwrap();
            for entry in fs_err::read_dir(folder().join(name)).unwrap() {
                let path = entry.unwrap().path();
                fs_err::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
            let path = copy.path().join("tokenizer_config.json");
            let mut config: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
            for (key, value) in case["config"].as_object().unwrap() {
                config[key] = value.clone();
            }
            fs_err::write(&path, config.to_string()).unwrap();
            let limit = case["limit"].as_u64().map(|limit| limit as usize);
            let mut tokenizer = load(copy.path(), limit);
            for (index, (text, pair)) in pairs.iter().enumerate() {
                if pair.is_empty() {
                    continue;
                }
                let ids: Vec<u32> = serde_json::from_value(case["ids"][index].clone()).unwrap();
                let types: Option<Vec<u32>> =
                    serde_json::from_value(case["types"][index].clone()).unwrap();
                let types = types.filter(|types| types.iter().any(|&kind| kind != 0));
                let found = tokenizer.encode_pairs(&[(text, pair)]).unwrap();
                let cut = found[0].cut;
                let expected = Encoded {
                    ids,
                    types,
                    cut,
                    text: None,
                };
                assert_eq!(found, [expected], "{case}: {text:?} {pair:?}");
                compared += 1;
            }
        }
        assert!(compared > 300, "{compared}");
    }

    #[test]
    fn long_pairs_in_pieces_are_those_of_the_whole() {
        let words = "the quick dog's 23 foxes, 日本 and I'll be off. ".repeat(9);
        let texts = [&words[..], &words[..100], "a", ""];
        let mut cut = 0;
        for name in [
            "added",
            "gpt2",
            "roberta",
            "sentencepiece",
            "unigram",
            "wordpiece",
        ] {
            for limit in [None, Some(9), Some(40), Some(41)] {
                let mut tokenizer = load(&folder().join(name), limit);
                for text in texts {
                    for pair in texts {
                        tokenizer.piece_bytes = usize::MAX;
                        let whole = tokenizer.encode_pairs(&[(text, pair)]).unwrap();
                        tokenizer.piece_bytes = 20;
                        let pieces = tokenizer.encode_pairs(&[(text, pair)]).unwrap();
                        assert_eq!(pieces, whole, "{name} {limit:?}: {text:?} {pair:?}");
                    }
                }
                cut += usize::from(tokenizer.cuts.is_some());
            }
        }
        assert!(cut >= 12, "{cut}");
        let mut tokenizer = load(&folder().join("roberta"), Some(3));
        let error = tokenizer.encode_pairs(&[("a", "b")]).unwrap_err();
        assert!(error.to_string().contains("4 special tokens"), "{error}");
    }

    #[test]
    fn the_longer_text_is_cut_first() {
        for (lengths, room, expected) in [
            ([3, 4], 7, [3, 4]),
            ([3, 4], 6, [3, 3]),
            ([10, 2], 6, [4, 2]),
            ([2, 10], 7, [2, 5]),
            ([100, 50], 11, [6, 5]),
            ([50, 100], 11, [5, 6]),
            ([50, 50], 11, [5, 6]),
            ([4, 4], 0, [0, 0]),
            ([0, 9], 4, [0, 4]),
        ] {
            assert_eq!(
                longest_first(lengths, room),
                expected,
                "{lengths:?} in {room}"
            );
        }
    }
}

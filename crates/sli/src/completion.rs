//! Which tokens of a record are its completion: what `labels` do not hide, what follows a prompt, what parts of its
//! text hold.
//!
//! The first token of a record is never scored, as nothing is in front of it; the loss of transformers leaves it
//! out likewise. Everything here is about all tokens of a record, before it is cut.

use std::ops::Range;

use sli_engine::{Completion, TextSpans};

use crate::input::{Found, Labels};

/// What hides a token from the loss.
pub const HIDDEN: i64 = -100;

/// Lists beside the tokens of a record that say which of them count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenLabels {
    /// `labels`: a token, or -100 where it does not count.
    pub labels: Option<Labels>,
    /// `completion_mask` and `assistant_masks`: 1 where a token counts.
    pub masks: Vec<(&'static str, Vec<u32>)>,
}

impl TokenLabels {
    /// Whether the record has none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_none() && self.masks.is_empty()
    }

    /// Keeps what belongs to the first `kept` of `all` tokens.
    pub fn cut(&mut self, all: usize, kept: usize) {
        if let Some(labels) = self.labels.as_mut().filter(|labels| labels.count() == all) {
            labels.truncate(kept);
        }
        for (_, mask) in &mut self.masks {
            if mask.len() == all {
                mask.truncate(kept);
            }
        }
    }

    /// Whether the labels can be those of `tokens`.
    pub fn are_of(&self, tokens: &[u32]) -> bool {
        self.marks(tokens).is_ok()
    }

    /// Whether the labels are a list of something that cannot be labels of `count` tokens.
    pub fn are_about_something_else(&self, count: usize) -> bool {
        matches!(&self.labels, Some(Labels::Other { length, found, .. })
            if *length != count && *found != Found::List)
    }

    /// Which of the tokens count: those that `labels` do not hide, or without them those in all masks.
    pub fn marks(&self, tokens: &[u32]) -> Result<Option<Vec<bool>>, String> {
        let count = tokens.len();
        let labels = self
            .labels
            .as_ref()
            .filter(|_| !self.are_about_something_else(count));
        if let Some(Labels::Other { at, found, .. }) = labels {
            return Err(format!(
                "`labels` holds {found} at position {at}, not an integer"
            ));
        }
        let lists = labels.iter().map(|labels| ("labels", labels.count()));
        let masks = self.masks.iter().map(|(key, mask)| (*key, mask.len()));
        for (key, length) in lists.chain(masks) {
            if length != count {
                return Err(format!("`{key}` has {length} values for {count} tokens"));
            }
        }
        if let Some(Labels::Integers(labels)) = labels {
            // The loss does not look at the first; if that is another one, the others are hardly meant as they are.
            for (at, (&label, &token)) in labels.iter().zip(tokens).enumerate() {
                if label != HIDDEN && label != i64::from(token) {
                    return Err(format!(
                        "`labels` is {label} at position {at}, where the token is {token}"
                    ));
                }
            }
            return Ok(Some(labels.iter().map(|&label| label != HIDDEN).collect()));
        }
        let mut marks: Option<Vec<bool>> = None;
        for (key, mask) in &self.masks {
            if let Some(at) = mask.iter().position(|&mark| mark > 1) {
                return Err(format!("`{key}` is neither 0 nor 1 at position {at}"));
            }
            let marks = marks.get_or_insert_with(|| vec![true; count]);
            for (mark, &own) in marks.iter_mut().zip(mask) {
                *mark &= own == 1;
            }
        }
        Ok(marks)
    }
}

/// A completion of tokens that were labelled; its text is not known.
pub fn labelled(tokens: Vec<bool>) -> Completion {
    Completion {
        tokens,
        bytes: None,
    }
}

/// The completion of a text that begins with a prompt, by the tokens of both; and whether those of the prompt are
/// not the first of the whole.
///
/// It starts where the tokens diverge, as in TRL.
pub fn after_prompt(
    prompt: (&str, &[u32]),
    whole: (&str, &[u32]),
    spans: Option<&TextSpans>,
) -> (Completion, bool) {
    let ((prompt, first), (text, tokens)) = (prompt, whole);
    let common = first
        .iter()
        .zip(tokens)
        .take_while(|(own, other)| own == other)
        .count();
    let marks = (0..tokens.len()).map(|token| token >= common);
    let start = if text.starts_with(prompt) {
        Some(prompt.len())
    } else {
        let offsets = spans.map(|spans| &spans.offsets[common.min(spans.offsets.len())..]);
        offsets.and_then(|offsets| Some(offsets.first()?[0] as usize))
    };
    let bytes = spans.zip(start);
    let bytes = bytes.map(|(spans, start)| spans.bytes.saturating_sub(start as u32));
    let completion = Completion {
        tokens: marks.collect(),
        bytes,
    };
    (completion, common < first.len())
}

/// The completion that consists of some parts of a text, from the places of its tokens.
///
/// As the reference does it: from the token that holds the first byte of a part to the one that holds its last.
pub fn within(parts: &[Range<usize>], spans: &TextSpans) -> Completion {
    let offsets = &spans.offsets;
    let mut tokens = vec![false; offsets.len()];
    let holds = |byte: usize| {
        let byte = byte as u32;
        offsets
            .iter()
            .position(|[start, end]| (*start..*end).contains(&byte))
    };
    let end_of_text = offsets.iter().map(|[_, end]| *end).max().unwrap_or(0) as usize;
    let mut bytes = 0;
    for part in parts.iter().filter(|part| !part.is_empty()) {
        // A byte that no token holds, such as a space: what follows it counts.
        let first = holds(part.start).or_else(|| {
            offsets
                .iter()
                .position(|[start, end]| start < end && part.contains(&(*start as usize)))
        });
        let Some(first) = first else {
            continue;
        };
        let last = holds(part.end - 1).unwrap_or_else(|| {
            let before = offsets
                .iter()
                .rposition(|[start, end]| start < end && (*start as usize) < part.end);
            before.unwrap_or(first)
        });
        if let Some(marks) = tokens.get_mut(first..=last.max(first)) {
            marks.fill(true);
        }
        bytes += part.end.min(end_of_text).saturating_sub(part.start);
    }
    Completion {
        tokens,
        bytes: Some(bytes as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[i64]) -> TokenLabels {
        TokenLabels {
            labels: Some(Labels::Integers(labels.to_vec())),
            masks: Vec::new(),
        }
    }

    #[test]
    fn what_labels_hide_does_not_count() {
        let marks = labels(&[-100, 5, -100]).marks(&[4, 5, 6]).unwrap();
        assert_eq!(marks, Some(vec![false, true, false]));
        assert!(labels(&[4, 5, 6]).are_of(&[4, 5, 6]));
        for (wrong, says) in [
            (vec![-100, 5], "2 values for 3"),
            (vec![-100, 5, 7], "is 7 at position 2"),
            (vec![-100, -1, 6], "is -1 at position 1"),
            (vec![9, 5, 6], "is 9 at position 0"),
            (vec![-1, 5, 6], "is -1 at position 0"),
        ] {
            let error = labels(&wrong).marks(&[4, 5, 6]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn lists_of_something_else_are_no_labels() {
        let of = |text: &str| TokenLabels {
            labels: Labels::of(text),
            masks: vec![("completion_mask", vec![0, 1])],
        };
        for (wrong, says) in [
            ("[-100.0, 5.0]", "holds -100.0 at position 0"),
            ("[4, null]", "holds null at position 1"),
            ("[[4, 5]]", "holds a list at position 0"),
        ] {
            let error = of(wrong).marks(&[4, 5]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        // Classes; what is beside them holds.
        let classes = of("[0.0, 1.0, 0.0]");
        assert!(classes.are_about_something_else(2) && !classes.are_about_something_else(3));
        assert_eq!(classes.marks(&[4, 5]), Ok(Some(vec![false, true])));
    }

    #[test]
    fn masks_are_combined() {
        let masks = |masks: &[(&'static str, &[u32])]| TokenLabels {
            labels: None,
            masks: masks
                .iter()
                .map(|(key, mask)| (*key, mask.to_vec()))
                .collect(),
        };
        let both = masks(&[
            ("completion_mask", &[0, 1, 1]),
            ("assistant_masks", &[1, 1, 0]),
        ]);
        assert_eq!(
            both.marks(&[1, 2, 3]).unwrap(),
            Some(vec![false, true, false])
        );
        assert_eq!(masks(&[]).marks(&[1]).unwrap(), None);
        let error = masks(&[("completion_mask", &[0, 2])]).marks(&[1, 2]);
        assert!(error.unwrap_err().contains("neither 0 nor 1"));
        let mut cut = both;
        cut.cut(3, 2);
        assert!(cut.are_of(&[1, 2]));
    }

    #[test]
    fn a_completion_starts_where_the_tokens_diverge() {
        let spans = TextSpans {
            bytes: 6,
            offsets: vec![[0, 2], [2, 4], [4, 6]],
        };
        let (completion, differs) =
            after_prompt(("ab", &[1]), ("abcdef", &[1, 2, 3]), Some(&spans));
        assert_eq!(
            (completion.tokens, completion.bytes, differs),
            (vec![false, true, true], Some(4), false)
        );
        let (completion, differs) =
            after_prompt(("abc", &[1, 9]), ("abcdef", &[1, 2, 3]), Some(&spans));
        assert_eq!(
            (completion.tokens, completion.bytes, differs),
            (vec![false, true, true], Some(3), true)
        );
        // A template that renders the prompt otherwise when it is alone.
        let (completion, _) = after_prompt(("xy", &[7]), ("abcdef", &[1, 2, 3]), Some(&spans));
        assert_eq!(
            (completion.tokens, completion.bytes),
            (vec![true; 3], Some(6))
        );
    }

    #[test]
    fn parts_of_a_text_have_their_tokens() {
        let spans = TextSpans {
            bytes: 10,
            offsets: vec![[0, 0], [0, 3], [3, 3], [4, 7], [7, 10], [0, 0]],
        };
        let marks = |part: Range<usize>| {
            let tokens = within(&[part], &spans).tokens;
            (0..6).filter(|&token| tokens[token]).collect::<Vec<_>>()
        };
        assert_eq!(marks(0..3), [1]);
        assert_eq!(marks(1..5), [1, 2, 3]);
        // Nobody holds byte 3.
        assert_eq!(marks(3..7), [3]);
        assert!(marks(3..4).is_empty());
        assert_eq!(marks(4..10), [3, 4]);
        assert!(marks(10..12).is_empty());
        assert_eq!(within(&[0..3, 7..10], &spans).bytes, Some(6));
    }
}

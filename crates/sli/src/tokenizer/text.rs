//! What tokens read like, for answers that name them. The library's decoders take memory for what few runs need, so the
//! pieces themselves are read: bytes of a byte-level vocabulary, blanks of a SentencePiece model, ends of words.

use super::Tokenizer;

/// How the pieces of a vocabulary are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Each character stands for a byte.
    Bytes,
    /// Blanks are `▁`, and `<0x0A>` is a byte.
    Blanks,
    /// What goes on within a word begins with `##`.
    Words,
}

/// The blank in front of a word, in vocabularies of bytes and of SentencePiece.
const BLANKS: [&str; 2] = ["\u{120}", "\u{2581}"];

impl Tokenizer {
    /// What some tokens read like together, blanks in front of words included; bytes that are no text are replaced. `None`: one
    /// of them is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Option<String> {
        let spelling = match BLANKS.map(|blank| self.backend.token_to_id(blank)) {
            [Some(_), _] => Spelling::Bytes,
            [None, Some(_)] => Spelling::Blanks,
            [None, None] => Spelling::Words,
        };
        let mut text = Vec::new();
        for &id in ids {
            let token = self.token(id)?;
            let is_added = self
                .backend
                .get_added_vocabulary()
                .get_added_tokens_decoder()
                .contains_key(&id);
            if is_added || self.numbers.is_some() {
                text.extend(token.as_bytes());
            } else {
                spell(spelling, &token, &mut text);
            }
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn spell(spelling: Spelling, token: &str, text: &mut Vec<u8>) {
    match spelling {
        Spelling::Bytes => {
            for character in token.chars() {
                match byte_of(character) {
                    Some(byte) => text.push(byte),
                    None => text.extend(character.to_string().as_bytes()),
                }
            }
        }
        Spelling::Blanks => {
            let byte = token
                .strip_prefix("<0x")
                .and_then(|rest| rest.strip_suffix('>'));
            match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => text.push(byte),
                None => text.extend(token.replace('\u{2581}', " ").as_bytes()),
            }
        }
        Spelling::Words => text.extend(token.strip_prefix("##").unwrap_or(token).as_bytes()),
    }
}

/// The byte that a character stands for in vocabularies of bytes: those that can be printed stand for themselves, the others are
/// numbered from 256 on.
fn byte_of(character: char) -> Option<u8> {
    let prints = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let number = u32::from(character);
    if let Ok(byte) = u8::try_from(number) {
        return prints(byte).then_some(byte);
    }
    let place = usize::try_from(number.checked_sub(256)?).ok()?;
    (0..=255).filter(|byte| !prints(*byte)).nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character() {
        let found: Vec<u8> = (0..400)
            .filter_map(char::from_u32)
            .filter_map(byte_of)
            .collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..=255));
        assert_eq!(byte_of('\u{120}'), Some(b' '));
        assert_eq!(byte_of('\u{10a}'), Some(b'\n'));
    }

    #[test]
    fn pieces_are_read() {
        let read = |spelling, tokens: &[&str]| {
            let mut text = Vec::new();
            for token in tokens {
                spell(spelling, token, &mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        assert_eq!(
            read(Spelling::Bytes, &["\u{120}caf", "\u{c3}", "\u{a9}"]),
            " caf\u{e9}"
        );
        assert_eq!(
            read(Spelling::Blanks, &["\u{2581}the", "<0x0A>", "re"]),
            " the\nre"
        );
        assert_eq!(read(Spelling::Words, &["play", "##ing"]), "playing");
    }
}

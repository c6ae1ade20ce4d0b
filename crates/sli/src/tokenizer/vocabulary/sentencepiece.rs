//! SentencePiece models: `tokenizer.model`, `spiece.model`, `sentencepiece.bpe.model`, `spm.model`.

use std::collections::HashMap;

use super::protobuf::{Content, Fields};
use super::{MOST_PARTS, Merges};

/// Kind of a piece that texts are divided into.
pub const NORMAL: u64 = 1;
/// Kind of the piece of what no other is.
pub const UNKNOWN: u64 = 2;
/// Kind of a control piece.
pub const CONTROL: u64 = 3;
/// Kind of a piece that users defined.
pub const DEFINED: u64 = 4;

/// A piece of text with its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its text, [`crate::tokenizer`]'s mark for spaces.
    pub text: String,
    /// Its logarithmic likelihood, or the order of its merge.
    pub score: f32,
    /// [`NORMAL`], [`UNKNOWN`], [`CONTROL`], [`DEFINED`] or another.
    pub kind: u64,
}

/// What a model says.
#[derive(Clone, Debug)]
pub struct SentencePiece {
    /// The pieces by id.
    pub pieces: Vec<Piece>,
    /// It was trained as a unigram model, not by merging pairs.
    pub unigram: bool,
    /// Unknown characters are bytes.
    pub byte_fallback: bool,
    /// The unknown piece.
    pub unknown: (i32, String),
    /// The piece of the beginning.
    pub bos: (i32, String),
    /// The piece of the end.
    pub eos: (i32, String),
    /// The map of characters that normalises; empty: none.
    pub characters: Vec<u8>,
    /// A mark for a space is put in front of a text, runs of spaces are one, and those around a text none.
    pub usual_spaces: bool,
}

impl SentencePiece {
    /// Reads a model.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut model = Self {
            pieces: Vec::new(),
            unigram: true,
            byte_fallback: false,
            unknown: (0, "<unk>".into()),
            bos: (1, "<s>".into()),
            eos: (2, "</s>".into()),
            characters: Vec::new(),
            usual_spaces: true,
        };
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Content::Bytes(piece)) => model.pieces.push(read_piece(piece)?),
                (2, Content::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Content::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        Ok(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (3, Content::Number(kind @ 1..=4)) => self.unigram = kind == 1,
                (35, Content::Number(flag)) => self.byte_fallback = flag != 0,
                (40, Content::Number(id)) => self.unknown.0 = whole(id),
                (41, Content::Number(id)) => self.bos.0 = whole(id),
                (42, Content::Number(id)) => self.eos.0 = whole(id),
                (45, Content::Bytes(piece)) => self.unknown.1 = text(piece)?,
                (46, Content::Bytes(piece)) => self.bos.1 = text(piece)?,
                (47, Content::Bytes(piece)) => self.eos.1 = text(piece)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (2, Content::Bytes(map)) => self.characters = map.to_vec(),
                (3 | 4, Content::Number(flag)) => self.usual_spaces &= flag != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The pieces by text; of two with one text the later counts.
    pub fn ids(&self) -> HashMap<&str, usize> {
        let pieces = self.pieces.iter().enumerate();
        pieces
            .map(|(id, piece)| (piece.text.as_str(), id))
            .collect()
    }

    /// How many pairs of pieces are a piece together.
    pub fn count_merges(&self) -> Result<u64, String> {
        let parts = self
            .pieces
            .iter()
            .map(|piece| (piece.text.len() as u64).pow(2));
        if parts.fold(0, u64::saturating_add) > MOST_PARTS {
            return Err("its pieces are too long".into());
        }
        let ids = self.ids();
        let mut count = 0;
        self.each_merge(&ids, |_, _| count += 1);
        Ok(count)
    }

    /// The pairs of pieces that are a piece together, in the order of what they make.
    pub fn merges(&self) -> Merges {
        let ids = self.ids();
        let mut merges = Vec::new();
        self.each_merge(&ids, |left, right| {
            merges.push((left.to_owned(), right.to_owned()));
        });
        merges
    }

    fn each_merge<'a>(
        &'a self,
        ids: &HashMap<&str, usize>,
        mut found: impl FnMut(&'a str, &'a str),
    ) {
        for (id, piece) in self.pieces.iter().enumerate() {
            let text = piece.text.as_str();
            if ids.get(text) != Some(&id) {
                continue;
            }
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                if ids.contains_key(left) && ids.contains_key(right) {
                    found(left, right);
                }
            }
        }
    }
}

fn read_piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: NORMAL,
    };
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Content::Bytes(bytes)) => piece.text = text(bytes)?,
            (2, Content::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Content::Number(kind @ 1..=6)) => piece.kind = kind,
            _ => {}
        }
    }
    Ok(piece)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a piece is no UTF-8".to_owned())?;
    Ok(text.to_owned())
}

/// The lower half, as the format reads numbers of 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "the format cuts them off")]
fn whole(number: u64) -> i32 {
    number as i32
}

#[cfg(test)]
mod tests {
    use super::SentencePiece;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend(content);
        bytes
    }

    fn piece(text: &str) -> Vec<u8> {
        field(
            1,
            &[field(1, text.as_bytes()), vec![0x15, 0, 0, 0x80, 0xbf]].concat(),
        )
    }

    #[test]
    fn merges_in_the_order_of_what_they_make() {
        let pieces = ["<unk>", "a", "b", "ab", "ba", "aba", "abab", "ab"].map(piece);
        let model = SentencePiece::read(&pieces.concat()).unwrap();
        assert!(model.unigram && model.pieces[1].score.to_bits() == (-1.0_f32).to_bits());
        let merges = model.merges();
        let made: Vec<String> = merges.iter().map(|(a, b)| format!("{a}+{b}")).collect();
        assert_eq!(made, ["b+a", "a+ba", "ab+a", "ab+ab", "aba+b", "a+b"]);
        assert_eq!(model.count_merges(), Ok(6));
    }

    #[test]
    fn hostile_models() {
        let long = "a".repeat(1 << 15);
        let mut bytes = Vec::new();
        let mut content = vec![0x0a, 0x80, 0x80, 0x02];
        content.extend(long.as_bytes());
        bytes.extend([0x0a, 0x84, 0x80, 0x02]);
        bytes.extend(&content);
        let model = SentencePiece::read(&bytes).unwrap();
        assert!(model.count_merges().unwrap_err().contains("too long"));
        for (bytes, says) in [
            (&field(1, &field(1, &[0xff]))[..], "UTF-8"),
            (&field(1, &[0x0a, 9]), "after the end"),
            (&field(2, &[0x18]), "does not end"),
            (
                &field(3, &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
                "after the end",
            ),
            (b"IQ== 0", "after the end"),
        ] {
            let error = SentencePiece::read(bytes).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let empty = SentencePiece::read(&[]).unwrap();
        assert!(empty.pieces.is_empty() && empty.merges().is_empty());
    }
}

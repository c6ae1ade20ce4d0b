//! Vocabularies without a `tokenizer.json`: lists of words, pairs that are merged, SentencePiece models,
//! ranks of bytes. All of them are bytes from outside: every length is compared with what is there before
//! anything is kept, and what would be kept is counted first.

mod entries;
mod protobuf;
mod sentencepiece;
mod tekken;
mod tiktoken;

pub use entries::{json_entries, merge_lines, word_lines};
pub use sentencepiece::{CONTROL, DEFINED, NORMAL, Piece, SentencePiece, UNKNOWN};
pub use tekken::Tekken;
pub use tiktoken::{Ranks, byte_characters};

/// Pairs by which longer entries are built of shorter ones.
pub type Merges = Vec<(String, String)>;

/// How many comparisons of parts with entries are made before a vocabulary is refused.
const MOST_PARTS: u64 = 1 << 28;

/// `bytes` as base64.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

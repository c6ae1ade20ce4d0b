//! `vocab.txt`, and `vocab.json` with `merges.txt`, as the library reads them.

use ::tokenizers::models::bpe::Vocab;

use super::Merges;

/// Entries by line; the white space at their ends is cut off.
pub fn word_lines(bytes: &[u8]) -> Result<Vocab, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut vocabulary = Vocab::new();
    for (id, line) in text.lines().enumerate() {
        let id = u32::try_from(id).map_err(|_| "too many lines".to_owned())?;
        vocabulary.insert(line.trim_end().to_owned(), id);
    }
    Ok(vocabulary)
}

/// Entries with ids; what has none is left out.
pub fn json_entries(bytes: &[u8]) -> Result<Vocab, String> {
    let entries: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut vocabulary = Vocab::new();
    for (entry, id) in entries {
        if !id.is_number() {
            continue;
        }
        let wrong = || format!("the id of `{entry}` is none");
        let id = id
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(wrong)?;
        vocabulary.insert(entry, id);
    }
    Ok(vocabulary)
}

/// A pair a line, best first.
pub fn merge_lines(bytes: &[u8]) -> Result<Merges, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("#version") {
            continue;
        }
        let mut words = line.split(' ');
        let (Some(left), Some(right), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("line {} is not a merge of two tokens", number + 1));
        };
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}

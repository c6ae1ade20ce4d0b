//! Texts as sentence-transformers takes them, for `--take embedding`: a prompt in front, lower case, the length at
//! which they are cut.

use serde_json::json;
use sli_checkpoint::ModelFolder;
use sli_engine::{Message, TextRules};

use crate::error::Error;
use crate::input::{Content, Conversation, InputError, RawRecord};
use crate::memory::Allowance;
use crate::tokenizer::{Encoded, Reading, Tokenizer};

/// Makes of the texts of a batch what the model gets: with the prompt in front, or as messages for the chat
/// template. A record that is no text cannot have a prompt. The result says which records were texts.
pub fn prepare(rules: &TextRules, batch: &mut [RawRecord]) -> Result<Vec<bool>, Error> {
    let is_text = |record: &RawRecord| matches!(record.content, Content::Text(_));
    let texts = batch.iter().map(is_text).collect();
    for record in batch {
        let kind = match &mut record.content {
            Content::Text(text) => {
                let prompt = rules.prompt.as_ref().map(|prompt| prompt.text.as_str());
                match rules.as_message {
                    Some(form) => record.content = Content::Messages(message(form, prompt, text)),
                    None => text.insert_str(0, prompt.unwrap_or_default()),
                }
                continue;
            }
            // Whoever gives tokens gives all of them.
            Content::Ids(_) if !rules.prompt.as_ref().is_some_and(|prompt| prompt.left_out) => {
                continue;
            }
            Content::None => continue,
            Content::Ids(_) => "`input_ids`",
            Content::Messages(_) => "`messages`",
            Content::Prompted(_) => "`prompt` and `completion`",
            Content::Pair(..) => "`text` with a `text_pair`",
        };
        if let Some(prompt) = &rules.prompt {
            let problem = format!(
                "record `{}`: the prompt `{}` cannot be put in front of {kind}",
                record.id, prompt.name
            );
            return Err(InputError::record(&record.place, problem)
                .with_hint("give `text`, or switch the prompt off: --prompt ''")
                .into());
        }
    }
    Ok(texts)
}

/// A text as the message of a user, behind the prompt as that of the system.
fn message(form: Message, prompt: Option<&str>, text: &str) -> Conversation {
    let of = |role: &str, text: &str| match form {
        Message::Flat => json!({"role": role, "content": text}),
        Message::Structured => {
            json!({"role": role, "content": [{"type": "text", "text": text}]})
        }
    };
    let system = prompt.map(|prompt| of("system", prompt));
    let messages: Vec<_> = system.into_iter().chain([of("user", text)]).collect();
    Conversation {
        messages: json!(messages).to_string(),
        ..Conversation::default()
    }
}

/// What the chat template writes behind the text of a user, as tokens: the reference has it at the end of texts that
/// are cut as well. Empty where texts are no messages, or where it cannot be told.
pub fn template_end(rules: &TextRules, tokenizer: &mut Tokenizer) -> Result<Vec<u32>, Error> {
    let Some(form) = rules.as_message else {
        return Ok(Vec::new());
    };
    let prompt = rules.prompt.as_ref().map(|prompt| prompt.text.as_str());
    let mut rendered = Vec::new();
    for filler in ["0", "1 2 3 4"] {
        let conversation = message(form, prompt, filler);
        // As in the reference, what is refused has no end; the texts themselves say what is wrong.
        let Ok(chat) = tokenizer.chat_template()?.render(&conversation) else {
            return Ok(Vec::new());
        };
        rendered.push(tokenizer.whole_chat(&chat.text)?);
    }
    let [first, second] = &rendered[..] else {
        return Ok(Vec::new());
    };
    let common = first.iter().rev().zip(second.iter().rev());
    let common = common.take_while(|(a, b)| a == b).count();
    // Where they do not differ at all, nothing is known.
    let known = common < first.len().min(second.len());
    let kept = if known { common } else { 0 };
    Ok(first[first.len() - kept..].to_vec())
}

/// Refuses a conversation that is too long for a model whose texts are messages: the reference finds the end of its
/// template anew for every conversation.
pub fn check_conversation(
    rules: &TextRules,
    record: &RawRecord,
    tokens: usize,
) -> Result<(), InputError> {
    match rules.limit.filter(|_| rules.as_message.is_some()) {
        Some(limit) if tokens >= limit => {
            let problem = format!(
                "record `{}` does not fit into {limit} tokens ({}) with its chat template",
                record.id, rules.limit_from
            );
            Err(InputError::record(&record.place, problem).with_hint(
                "shorten it, give `text`, or cut it elsewhere: --max-length, --allow-long",
            ))
        }
        _ => Ok(()),
    }
}

/// Writes the end of the chat template over the last tokens of a rendered text that fills all `limit` tokens.
pub fn end_rendered(end: &[u32], limit: Option<usize>, encoded: &mut Encoded) {
    let length = encoded.ids.len();
    if limit.is_some_and(|limit| length >= limit) {
        let kept = end.len().min(length);
        encoded.ids[length - kept..].copy_from_slice(&end[end.len() - kept..]);
    }
}

/// The tokenizer of a folder, cutting at the length that the user or else the model says.
pub fn load_tokenizer(
    folder: &ModelFolder,
    max_length: Option<usize>,
    reading: &Reading,
    rules: &TextRules,
    allowance: Allowance,
) -> Result<Tokenizer, Error> {
    let mut tokenizer = Tokenizer::load(
        folder,
        max_length.or(rules.limit),
        reading.clone(),
        allowance,
    )?;
    if let Some(limit) = rules
        .limit
        .filter(|&limit| limit < tokenizer.special_tokens())
    {
        let problem = format!(
            "{} cuts texts to {limit} tokens, fewer than their special tokens",
            rules.limit_from
        );
        let hint = "give a length of your own: --max-length".into();
        return Err(Error::Usage { problem, hint });
    }
    if rules.lower_case {
        tokenizer.lower_case()?;
    }
    if let Some(left) = rules.truncate_left {
        tokenizer.cut_at_beginning(left)?;
    }
    Ok(tokenizer)
}

/// Tokens at the beginning of every record that are not pooled.
pub fn prompt_tokens(rules: &TextRules, tokenizer: &Tokenizer) -> Result<usize, Error> {
    match rules.prompt.as_ref().filter(|prompt| prompt.left_out) {
        Some(prompt) => Ok(tokenizer.prompt_tokens(&prompt.text)?),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use sli_engine::Message;

    use super::{end_rendered, message};
    use crate::tokenizer::Encoded;

    #[test]
    fn the_end_of_the_template_is_kept() {
        let of = |end: &[u32], limit| {
            let ids = vec![1, 2, 3];
            let mut encoded = Encoded {
                ids,
                ..Encoded::default()
            };
            end_rendered(end, limit, &mut encoded);
            encoded.ids
        };
        assert_eq!(of(&[8, 9], Some(3)), [1, 8, 9]);
        assert_eq!(of(&[6, 7, 8, 9], Some(3)), [7, 8, 9]);
        assert_eq!(of(&[8, 9], Some(4)), [1, 2, 3]);
        assert_eq!(of(&[8, 9], None), [1, 2, 3]);
        assert_eq!(of(&[], Some(3)), [1, 2, 3]);
    }

    #[test]
    fn texts_as_messages() {
        let flat = message(Message::Flat, None, "a \"b\"").messages;
        assert_eq!(flat, r#"[{"role":"user","content":"a \"b\""}]"#);
        let both = message(Message::Structured, Some("p"), "a").messages;
        let of = |role: &str, text: &str| {
            format!(r#"{{"role":"{role}","content":[{{"type":"text","text":"{text}"}}]}}"#)
        };
        let expected = format!("[{},{}]", of("system", "p"), of("user", "a"));
        assert_eq!(both, expected);
    }
}

//! What the assistant says in a rendered conversation whose template does not mark it.
//!
//! A message says what it adds to the conversation before it, from what asks for it to its end. Where the template
//! renders a beginning as it is in the whole, that is the difference of the two. Templates that render earlier
//! messages otherwise (without their reasoning) are rendered with a filler in place of what a message says: what
//! stands in front of the filler and behind it is in the whole text too.

use std::ops::Range;

use crate::input::Conversation;

/// A conversation whose text is known.
struct Whole<'a, R> {
    conversation: &'a Conversation,
    messages: Vec<&'a str>,
    text: &'a str,
    /// A word that occurs nowhere in it.
    filler: String,
    render: R,
}

/// What each message of the assistant says in `text`, the rendered conversation; an error says what cannot be found.
pub fn assistant_parts(
    conversation: &Conversation,
    text: &str,
    render: impl FnMut(&Conversation) -> Result<String, String>,
) -> Result<Vec<Range<usize>>, String> {
    let mut whole = Whole {
        conversation,
        messages: sli_jinja::items(&conversation.messages)?,
        text,
        filler: filler(&[text, &conversation.messages]),
        render,
    };
    let mut parts = Vec::new();
    for index in 0..whole.messages.len() {
        if role(whole.messages[index])?.as_deref() == Some("assistant") {
            let part = match whole.added(index)? {
                Some(part) => Some(part),
                None => whole.around_filler(index)?,
            };
            parts.push(part.ok_or_else(|| {
                format!(
                    "the chat template renders the messages around message {index} otherwise than they are alone, \
                     and what the assistant says in it cannot be told from the rest"
                )
            })?);
        }
    }
    Ok(parts)
}

fn role(message: &str) -> Result<Option<String>, String> {
    let members = sli_jinja::members(message)?;
    let role = members.iter().rfind(|(key, _)| key == "role");
    Ok(role.and_then(|(_, role)| serde_json::from_str(role).ok()))
}

/// A word that none of the texts has, and that templates neither trim nor look into.
fn filler(texts: &[&str]) -> String {
    let mut number = 0_u64;
    loop {
        let word = format!("filler{number}filler");
        if !texts.iter().any(|text| text.contains(&word)) {
            return word;
        }
        number += 1;
    }
}

/// A message that says something else, its other members unchanged.
fn saying(message: &str, content: &str) -> Result<String, String> {
    let others = sli_jinja::members(message)?.into_iter();
    let others = others.filter(|(key, _)| key != "content");
    let mut members: Vec<String> = others
        .map(|(key, value)| format!("{}:{value}", serde_json::Value::from(key)))
        .collect();
    members.push(format!("\"content\":{}", serde_json::Value::from(content)));
    Ok(format!("{{{}}}", members.join(",")))
}

impl<R: FnMut(&Conversation) -> Result<String, String>> Whole<'_, R> {
    /// The text of some messages in the place of all, with what asks the assistant to speak if `asks`.
    fn rendered(&mut self, messages: &[impl AsRef<str>], asks: bool) -> Result<String, String> {
        let messages: Vec<&str> = messages.iter().map(AsRef::as_ref).collect();
        let conversation = Conversation {
            messages: format!("[{}]", messages.join(",")),
            asks,
            ..self.conversation.clone()
        };
        (self.render)(&conversation)
    }

    /// The text of the first messages alone.
    fn beginning(&mut self, count: usize, asks: bool) -> Result<String, String> {
        let messages = self.messages[..count].to_vec();
        self.rendered(&messages, asks)
    }

    /// What a message adds to those before it, where all of them are rendered as they are alone.
    fn added(&mut self, index: usize) -> Result<Option<Range<usize>>, String> {
        let start = match index {
            0 => Some(self.first_answer()?),
            _ => self.end_of(index, true)?,
        };
        let end = match index + 1 {
            count if count == self.messages.len() => Some(self.text.len()),
            count => self.end_of(count, false)?,
        };
        Ok(start.zip(end).map(|(start, end)| start..end))
    }

    fn end_of(&mut self, count: usize, asks: bool) -> Result<Option<usize>, String> {
        let begun = self.beginning(count, asks)?;
        let is_there = !begun.is_empty() && self.text.starts_with(&begun);
        Ok(is_there.then_some(begun.len()))
    }

    /// Where the first message of a conversation begins, if it is the assistant's: templates do not render no message
    /// at all, so what asks for an answer is taken from the end of that message.
    fn first_answer(&mut self) -> Result<usize, String> {
        let (said, asked) = (self.beginning(1, false)?, self.beginning(1, true)?);
        let prompt = asked
            .strip_prefix(&said)
            .filter(|prompt| !prompt.is_empty());
        let start = prompt.and_then(|prompt| Some(self.text.find(prompt)? + prompt.len()));
        start.ok_or_else(|| {
            "the conversation begins with the assistant, and the chat template does not show where"
                .into()
        })
    }

    /// The text with the filler in place of what some messages say.
    fn filled(&mut self, count: usize, places: &[usize]) -> Result<String, String> {
        let mut messages: Vec<String> = Vec::with_capacity(count);
        for (index, message) in self.messages[..count].iter().enumerate() {
            messages.push(if places.contains(&index) {
                saying(message, &self.filler)?
            } else {
                (*message).to_owned()
            });
        }
        self.rendered(&messages, false)
    }

    /// What a message says, by what stands in front of a filler in its place and behind it.
    fn around_filler(&mut self, index: usize) -> Result<Option<Range<usize>>, String> {
        let filled = self.filled(self.messages.len(), &[index])?;
        let Some((before, after)) = around(&filled, &self.filler) else {
            return Ok(None);
        };
        let start = match index {
            0 => Some(self.first_answer()?),
            _ => self.start_in(index, before)?,
        };
        let end = self.end_in(index, after)?;
        Ok(start
            .zip(end)
            .filter(|(start, end)| start <= end)
            .map(|(start, end)| start..end))
    }

    /// Where a message begins, of which `before` is in front of what it says: behind what asks for it, or as much of
    /// it as there is.
    fn start_in(&mut self, index: usize, before: &str) -> Result<Option<usize>, String> {
        let (begun, asked) = (self.beginning(index, false)?, self.beginning(index, true)?);
        let Some(asking) = asked
            .strip_prefix(&begun)
            .filter(|asking| !asking.is_empty())
        else {
            return Ok(None);
        };
        let own = before.strip_prefix(&begun);
        let start = match own {
            Some(own) if own.starts_with(asking) => Some(asked.len()),
            // A template that asks for reasoning, and leaves it out of earlier messages.
            Some(own) if !own.is_empty() && asking.starts_with(own) => Some(before.len()),
            _ => self.start_behind(index, before, asking)?,
        };
        Ok(start.filter(|&start| self.text.starts_with(&before[..start])))
    }

    /// Where what asks for a message ends, if it stands between what the message before says and what it says.
    fn start_behind(
        &mut self,
        index: usize,
        before: &str,
        asking: &str,
    ) -> Result<Option<usize>, String> {
        let both = self.filled(self.messages.len(), &[index - 1, index])?;
        let filler = self.filler.clone();
        let mut pieces = both.split(filler.as_str());
        let (Some(_), Some(between), Some(_), None) =
            (pieces.next(), pieces.next(), pieces.next(), pieces.next())
        else {
            return Ok(None);
        };
        let behind = between
            .rfind(asking)
            .map(|at| &between[at + asking.len()..]);
        let start = behind.and_then(|behind| before.len().checked_sub(behind.len()));
        Ok(start.filter(|&start| {
            before
                .get(..start)
                .is_some_and(|text| text.ends_with(asking))
                && before.get(start..) == behind
        }))
    }

    /// Where a message ends, of which `after` is behind what it says: its own end is behind it also where it is the
    /// last.
    fn end_in(&mut self, index: usize, after: &str) -> Result<Option<usize>, String> {
        let rest = if index + 1 == self.messages.len() {
            ""
        } else {
            let last = self.filled(index + 1, &[index])?;
            let Some((_, own)) = around(&last, &self.filler) else {
                return Ok(None);
            };
            let Some(rest) = after.strip_prefix(own) else {
                return Ok(None);
            };
            rest
        };
        let end = self.text.strip_suffix(rest).map(str::len);
        Ok(end)
    }
}

/// What is in front of the only occurrence of a word, and behind it.
fn around<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(word)
        .filter(|(_, after)| !after.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_assistant_says_is_found() {
        let conversation = Conversation {
            messages: r#"[{"role":"user","content":"a"},{"role":"assistant","content":"bc"},{"role":"user","content":"d"},{"role":"assistant","content":""}]"#.into(),
            ..Conversation::default()
        };
        let render = |conversation: &Conversation| {
            let messages: Vec<serde_json::Value> =
                serde_json::from_str(&conversation.messages).unwrap();
            let mut text = String::new();
            for message in messages {
                let role = message["role"].as_str().unwrap();
                let content = message["content"].as_str().unwrap();
                text = format!("{text}<{role}>{content}.");
            }
            Ok(text + if conversation.asks { "<assistant>" } else { "" })
        };
        let text = render(&conversation).unwrap();
        let parts = assistant_parts(&conversation, &text, render).unwrap();
        let said: Vec<&str> = parts.iter().map(|part| &text[part.clone()]).collect();
        assert_eq!(said, ["bc.", "."]);
        for other in ["other", "<assistant>", ""] {
            let error = assistant_parts(&conversation, &text, |_| Ok(other.into())).unwrap_err();
            assert!(error.contains("message 1"), "{error}");
        }
        // Every message once more at the end.
        let twice = |conversation: &Conversation| Ok(render(conversation)?.repeat(2));
        let text = twice(&conversation).unwrap();
        let error = assistant_parts(&conversation, &text, twice).unwrap_err();
        assert!(error.contains("message 1"), "{error}");
    }
}

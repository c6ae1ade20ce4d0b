//! What becomes of a whole text, besides its placeholders.

/// What becomes of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Whole {
    /// Nothing.
    Same,
    /// LFM2-VL's: nothing, and the tokenizer adds nothing.
    Bare,
    /// PaliGemma's: the token of the beginning behind the pictures, a new line at the end; the tokenizer adds nothing.
    Prefix {
        /// The token of the beginning.
        begin: String,
    },
    /// Mllama's: the token of the beginning behind the pictures that a text begins with, if it is nowhere.
    Begin {
        /// The token of the beginning.
        begin: String,
    },
    /// Chameleon's: a token at the end.
    End {
        /// The token.
        end: String,
    },
    /// IDEFICS': the token of the beginning, texts without spaces around them, tokens around pictures; the tokenizer adds nothing.
    Interleaved {
        /// The token of the beginning.
        begin: String,
        /// The token around pictures.
        fake: String,
        /// The token behind which no picture is seen.
        end: String,
    },
    /// BLIP-2's: nothing, and a token so often in front of all that the tokenizer makes of the text of a picture.
    Front {
        /// How often.
        count: usize,
    },
    /// Idefics2's: one token between pictures side by side, and a space behind it.
    Fake {
        /// The token around pictures.
        fake: String,
    },
}

impl Whole {
    /// Whether the tokenizer adds its special tokens, where that is decided here.
    pub fn special_tokens(&self) -> Option<bool> {
        matches!(
            self,
            Self::Prefix { .. } | Self::Bare | Self::Interleaved { .. }
        )
        .then_some(false)
    }

    /// Whether what becomes of a text begins with what becomes of its beginning.
    pub fn is_local(&self) -> bool {
        !matches!(
            self,
            Self::Prefix { .. } | Self::End { .. } | Self::Interleaved { .. }
        )
    }

    /// Whether a text without pictures becomes another, or has other special tokens.
    pub fn is_of_all(&self) -> bool {
        matches!(
            self,
            Self::Bare | Self::Begin { .. } | Self::End { .. } | Self::Interleaved { .. }
        )
    }

    /// The text before its placeholders are expanded.
    pub fn before(&self, text: &str, token: &str, pictures: usize) -> String {
        match self {
            Self::Same | Self::Bare | Self::Fake { .. } | Self::Front { .. } => text.to_owned(),
            Self::End { end } => format!("{text}{end}"),
            Self::Prefix { begin } => match text.rfind(token) {
                None => format!("{}{begin}{text}\n", token.repeat(pictures)),
                Some(at) => {
                    let (front, rest) = text.split_at(at + token.len());
                    format!("{front}{begin}{rest}\n")
                }
            },
            Self::Interleaved { begin, fake, .. } => interleaved(text, token, [begin, fake]),
            Self::Begin { begin } if text.contains(begin.as_str()) => text.to_owned(),
            Self::Begin { begin } => {
                let rest = text.trim_start_matches(token);
                let front = &text[..text.len() - rest.len()];
                format!("{front}{begin}{rest}")
            }
        }
    }

    /// The text behind that.
    pub fn after(&self, text: String) -> String {
        let Self::Fake { fake } = self else {
            return text;
        };
        let single = text.replace(&format!("{fake}{fake}"), fake);
        let mut parts = single.split(fake.as_str());
        let mut spaced = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            spaced.push_str(fake);
            let next = part.chars().next();
            if next.is_some_and(|next| !next.is_whitespace() && next != '<') {
                spaced.push(' ');
            }
            spaced.push_str(part);
        }
        spaced
    }
}

/// Texts between pictures, one token between pictures side by side.
fn interleaved(text: &str, token: &str, [begin, fake]: [&String; 2]) -> String {
    let mut whole = begin.clone();
    let mut last_is_picture = false;
    for (at, part) in text.split(token).enumerate() {
        if at > 0 {
            if !last_is_picture {
                whole.push_str(fake);
            }
            whole.push_str(token);
            whole.push_str(fake);
            last_is_picture = true;
        }
        if !part.is_empty() {
            whole.push_str(part.trim_matches(' '));
            last_is_picture = false;
        }
    }
    whole
}

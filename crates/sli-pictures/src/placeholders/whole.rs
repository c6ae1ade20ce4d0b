//! What becomes of a whole text, besides its placeholders.

/// What becomes of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Whole {
    /// Nothing.
    Same,
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
    /// Idefics2's: one token between pictures side by side, and a space behind it.
    Fake {
        /// The token around pictures.
        fake: String,
    },
}

impl Whole {
    /// Whether the tokenizer adds its special tokens, where that is decided here.
    pub fn special_tokens(&self) -> Option<bool> {
        matches!(self, Self::Prefix { .. }).then_some(false)
    }

    /// Whether what becomes of a text begins with what becomes of its beginning.
    pub fn is_local(&self) -> bool {
        !matches!(self, Self::Prefix { .. } | Self::End { .. })
    }

    /// The text before its placeholders are expanded.
    pub fn before(&self, text: &str, token: &str, pictures: usize) -> String {
        match self {
            Self::Same | Self::Fake { .. } => text.to_owned(),
            Self::End { end } => format!("{text}{end}"),
            Self::Prefix { begin } => match text.rfind(token) {
                None => format!("{}{begin}{text}\n", token.repeat(pictures)),
                Some(at) => {
                    let (front, rest) = text.split_at(at + token.len());
                    format!("{front}{begin}{rest}\n")
                }
            },
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

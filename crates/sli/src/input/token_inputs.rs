//! What a record has beside its tokens: a number, or a list of numbers, for each of them.

use serde_json::Value;
use sli_spec::{InputKind, TokenInput};

use super::error::InputError;
use super::place::Place;

/// The key that marks global tokens.
pub const GLOBAL: &str = "global_attention_mask";

/// What a record has beside its tokens, as it stands in the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenInputs {
    /// Keys and JSON texts.
    pub given: Vec<(&'static str, String)>,
    /// Tokens that the record had before its padding was left out.
    pub padded: Option<usize>,
}

impl TokenInputs {
    /// Whether the record says which of its tokens are global.
    pub fn marks_global(&self) -> bool {
        self.given.iter().any(|(name, _)| *name == GLOBAL)
    }

    /// The numbers that a model reads of a record of so many tokens, side by side; `None`: the record has none of them.
    pub fn numbers(
        &self,
        wanted: &[Option<TokenInput>],
        tokens: usize,
        place: &Place,
    ) -> Result<Option<Vec<u32>>, InputError> {
        let wanted: Vec<TokenInput> = wanted.iter().copied().flatten().collect();
        let columns: usize = wanted.iter().map(|input| input.columns).sum();
        let mut numbers = vec![0; tokens * columns];
        let (mut any, mut first) = (false, 0);
        for input in wanted {
            let rows = numbers.chunks_exact_mut(columns);
            let parts = rows.map(|row| &mut row[first..first + input.columns]);
            let given = self.given.iter().find(|(name, _)| *name == input.name);
            match given {
                Some((_, text)) => {
                    any = true;
                    let lists = self.lists(input, text, tokens, place)?;
                    for (part, list) in parts.zip(lists) {
                        part.copy_from_slice(&list);
                    }
                }
                None => {
                    for (position, part) in parts.enumerate() {
                        part.fill(input.otherwise(position));
                    }
                }
            }
            first += input.columns;
        }
        Ok(any.then_some(numbers))
    }

    /// The numbers of every token.
    fn lists(
        &self,
        input: TokenInput,
        text: &str,
        tokens: usize,
        place: &Place,
    ) -> Result<Vec<Vec<u32>>, InputError> {
        let name = input.name;
        let refused = |problem: String| {
            let hint = "it has an entry for every token, special tokens included, as the model's processor makes them";
            InputError::record(place, problem).with_hint(hint)
        };
        let value: Value = serde_json::from_str(text)
            .map_err(|error| refused(format!("`{name}` cannot be read: {error}")))?;
        let list = value.as_array();
        let list = list.ok_or_else(|| refused(format!("`{name}` is no list")))?;
        if list.len() != tokens && (list.len() < tokens || self.padded != Some(list.len())) {
            let problem = format!("`{name}` has {} entries for {tokens} tokens", list.len());
            return Err(refused(problem));
        }
        let own = list.iter().take(tokens).enumerate();
        own.map(|(position, entry)| {
            numbers_of(input, entry).ok_or_else(|| {
                let expected = expected(input);
                refused(format!(
                    "`{name}` of the token at position {position} is not {expected}"
                ))
            })
        })
        .collect()
    }
}

/// What an entry has to be.
fn expected(input: TokenInput) -> String {
    match (input.kind, input.columns) {
        (InputKind::Corners, _) => "a list of 4 or 8 numbers".to_owned(),
        (InputKind::Fractions, _) => "a list of 4 numbers".to_owned(),
        (_, 1) => "a whole number".to_owned(),
        (_, columns) => format!("a list of {columns} whole numbers"),
    }
}

/// The numbers of one token.
fn numbers_of(input: TokenInput, entry: &Value) -> Option<Vec<u32>> {
    if matches!(input.kind, InputKind::Corners | InputKind::Fractions) {
        let numbers = entry.as_array()?.iter();
        let numbers = numbers.map(|number| Some((number.as_f64()? as f32).to_bits()));
        let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
        return match numbers[..] {
            // The corners of a box, around it.
            [x0, y0, x1, y1] if input.kind == InputKind::Corners => {
                Some(vec![x0, y0, x1, y0, x1, y1, x0, y1])
            }
            _ => (numbers.len() == input.columns).then_some(numbers),
        };
    }
    let whole = |number: &Value| u32::try_from(number.as_u64()?).ok();
    let numbers = match entry {
        Value::Array(numbers) => numbers.iter().map(whole).collect::<Option<Vec<u32>>>()?,
        number => vec![whole(number)?],
    };
    (numbers.len() == input.columns).then_some(numbers)
}

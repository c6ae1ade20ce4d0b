//! Masks of tokens that are in a record for the sake of its batch only.

use super::error::InputError;
use super::place::Place;

/// How many tokens a mask leaves: all before the zeros at its end.
///
/// What follows a token that a mask hides changes nothing of the others, so padding on the right is left out. In
/// front of a record, or inside of it, hidden tokens still take positions, which not all models count alike.
pub fn kept(mask: &[u32], ids: Option<&[u32]>, place: &Place) -> Result<usize, InputError> {
    let wrong =
        |problem: String, hint: &str| Err(InputError::record(place, problem).with_hint(hint));
    match ids.map(<[u32]>::len) {
        Some(tokens) if tokens != mask.len() => {
            let problem = format!(
                "`attention_mask` has {} values for {tokens} tokens",
                mask.len()
            );
            return wrong(problem, "give a value for each token, or no mask");
        }
        _ => {}
    }
    if let Some(at) = mask.iter().position(|&value| value > 1) {
        let problem = format!("`attention_mask` is {} at position {at}", mask[at]);
        return wrong(
            problem,
            "a mask holds ones, and zeros for padding at the end",
        );
    }
    let kept = mask
        .iter()
        .rposition(|&value| value == 1)
        .map_or(0, |last| last + 1);
    if let Some(at) = mask[..kept].iter().position(|&value| value == 0) {
        let problem =
            format!("`attention_mask` is 0 at position {at}, before tokens that it shows");
        let hint = "leave out the tokens that the mask hides: records need no padding, and padding in front of \
                    a record would shift its positions (tokenizer.padding_side is \"right\" for a mask that ends in zeros)";
        return wrong(problem, hint);
    }
    if ids.is_none() && kept < mask.len() {
        let problem =
            format!("`attention_mask` is 0 at position {kept}, but there are no `input_ids`");
        return wrong(problem, "remove the mask: records need no padding");
    }
    Ok(kept)
}

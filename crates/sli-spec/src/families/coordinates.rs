//! Rotations by several numbers of a token: its time, row and column.

use crate::families::blocks::Blocks;
use crate::rope::{Pairs, PositionAxis, Rope, RopeOptions};
use crate::{Config, SpecError};

/// The key that says how many pairs turn by which number.
const KEY: &str = "mrope_section";

/// Pairs turn by time, row and column, `mrope_section` of them each, or as many as the class assumes. `options` are those
/// that the rotations were read with.
pub fn turn_by_coordinates(
    config: &Config,
    (decoder, options): (&mut Blocks<'_>, &RopeOptions<'_>),
    assumed: Option<[u16; 3]>,
    pairs: fn([u16; 3]) -> Pairs,
) -> Result<(), SpecError> {
    let parameters = Rope::parameters(config, options)?;
    let told = counts_of(parameters.as_ref())?;
    let missing = || wrong(config, parameters.as_ref(), "three whole numbers");
    let counts = told.or(assumed).ok_or_else(missing)?;
    let pairs = pairs(counts);
    for rope in decoder.ropes.iter_mut().flatten() {
        // What is left over, or is not there, turns by the time where pairs take turns.
        let all: usize = counts.iter().copied().map(usize::from).sum();
        if all != rope.dims / 2 && matches!(pairs, Pairs::Chunks(_)) {
            let expected = format!("{} pairs in all", rope.dims / 2);
            return Err(wrong(config, parameters.as_ref(), &expected));
        }
        rope.axis = PositionAxis::Coordinates(pairs);
    }
    Ok(())
}

/// The numbers of pairs that an object of rotations tells.
pub fn counts_of(parameters: Option<&Config>) -> Result<Option<[u16; 3]>, SpecError> {
    let Some(parameters) = parameters else {
        return Ok(None);
    };
    parameters.ignore(&["mrope_interleaved"]);
    let Some(told) = parameters.numbers(KEY)? else {
        return Ok(None);
    };
    let counts = told.iter().map(|&count| count as u16).collect::<Vec<_>>();
    let whole = (counts.iter().zip(&told)).all(|(&count, &told)| f64::from(count) == told);
    let counts: Option<[u16; 3]> = counts.try_into().ok().filter(|_| whole);
    match counts {
        Some(counts) => Ok(Some(counts)),
        None => Err(parameters.invalid(KEY, "three whole numbers")),
    }
}

fn wrong(config: &Config, parameters: Option<&Config>, expected: &str) -> SpecError {
    match parameters {
        Some(parameters) => parameters.invalid(KEY, expected),
        None => config.missing("rope_parameters"),
    }
}

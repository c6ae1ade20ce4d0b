//! A rendering: what it may still take, and what it has made.
//!
//! It knows neither values nor templates: whatever computes for a template pays here, and writes here.

use std::ops::Range;

use chrono::NaiveDateTime;

use crate::error::{Error, Kind, Outcome, fail};
use crate::text::length;

/// Bytes that a step pays for.
const STEP_BYTES: usize = 64;
/// How deeply macros and recursive loops may call each other.
const DEEPEST_CALLS: usize = 190;

/// A template that is being rendered.
pub(crate) struct Run {
    steps: u64,
    /// Texts that are being made, the template's own first.
    outputs: Vec<String>,
    /// Characters of the template's own text.
    characters: usize,
    generation: Vec<Range<usize>>,
    calls: usize,
    /// The time of the clock on the wall.
    pub now: NaiveDateTime,
}

impl Run {
    /// A rendering of at most so many steps.
    pub fn new(steps: u64, now: NaiveDateTime) -> Self {
        Self {
            steps,
            outputs: vec![String::new()],
            characters: 0,
            generation: Vec::new(),
            calls: 0,
            now,
        }
    }

    /// Pays for so many steps.
    pub fn pay(&mut self, steps: u64) -> Outcome<()> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(Error::steps())
            }
        }
    }

    /// Pays for making so many bytes.
    pub fn pay_bytes(&mut self, bytes: usize) -> Outcome<()> {
        self.pay((bytes / STEP_BYTES) as u64)
    }

    /// Adds to the text that is being made.
    pub fn write(&mut self, text: &str) -> Outcome<()> {
        self.pay_bytes(text.len())?;
        if self.outputs.len() == 1 {
            self.characters += length(text);
        }
        if let Some(output) = self.outputs.last_mut() {
            output.push_str(text);
        }
        Ok(())
    }

    /// Adds what a `{% generation %}` block made.
    pub fn write_generation(&mut self, text: &str) -> Outcome<()> {
        let start = self.characters;
        self.generation.push(start..start + length(text));
        self.write(text)
    }

    /// What is written goes to a text of its own from here on.
    pub fn begin_text(&mut self) {
        self.outputs.push(String::new());
    }

    /// Ends the text that was begun last.
    pub fn end_text(&mut self) -> String {
        self.outputs.pop().unwrap_or_default()
    }

    /// The text, and the characters in `{% generation %}` blocks.
    pub fn end(mut self) -> (String, Vec<Range<usize>>) {
        (self.end_text(), self.generation)
    }

    /// Does what a macro or a recursive loop does, which must not be too deep.
    pub fn deeper<T>(&mut self, call: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        self.calls += 1;
        if self.calls > DEEPEST_CALLS {
            return fail(Kind::Other, "macros call each other too deeply");
        }
        let value = call(self)?;
        self.calls -= 1;
        Ok(value)
    }
}

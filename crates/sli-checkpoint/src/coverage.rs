//! Every tensor of the model is in the checkpoint, and every tensor of the checkpoint is in the
//! model: checked from headers, before any weight is read, with all that is wrong in one report.

use std::collections::BTreeSet;
use std::fmt;

use crate::problem::LeafProblem;

/// How the tensors of a checkpoint and the weights of a model meet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoverageReport {
    /// Number of tensors that the model uses.
    pub used: usize,
    /// Tensors that nothing needs.
    pub ignored: Vec<Ignored>,
    /// Tensors of the model that are not there.
    pub missing: Vec<Missing>,
    /// Tensors that the model does not know.
    pub unexpected: Vec<String>,
    /// Weights whose tensors are there and do not fit: shape, dtype, several spellings.
    pub mismatched: Vec<LeafProblem>,
    /// Optional parts of the model that the checkpoint lacks as a whole.
    pub absent_optional: BTreeSet<&'static str>,
    /// Patterns that fit the unexpected tensors and none that is used.
    pub suggested: Vec<String>,
}

/// A tensor that is there and that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its name.
    pub name: String,
    /// Its name in the file.
    pub stored_name: String,
    /// Why nothing needs it.
    pub reason: &'static str,
}

/// Tensors that the family of the model or the reference's class of it is known to leave out.
pub(crate) const OF_FAMILY: &str = "what this type's files carry beside the model";
/// Tensors that the user allowed to be left out.
pub(crate) const ALLOWED: &str = "left out as asked";

/// A tensor that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name, or the names of which one would do.
    pub names: Vec<String>,
    /// The optional part of which other tensors are there.
    pub part: Option<&'static str>,
}

/// Lines of a kind in a printed report.
const MAX_LINES: usize = 12;
/// Patterns in a hint.
const MAX_PATTERNS: usize = 4;

impl CoverageReport {
    /// Whether the checkpoint is the model's.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// Those of the patterns allowed by the user that fit none of the tensors left out.
    pub fn idle<'p>(&self, allowed: &'p [String]) -> impl Iterator<Item = &'p str> {
        let fits = |pattern: &String| {
            let mut ignored = self.ignored.iter();
            ignored.any(|tensor| {
                matches(pattern, &tensor.name) || matches(pattern, &tensor.stored_name)
            })
        };
        allowed
            .iter()
            .filter(move |pattern| !fits(pattern))
            .map(String::as_str)
    }

    /// What the user can do about a report that is not complete.
    pub fn hint(&self) -> String {
        let any = |parts: &[&str]| {
            self.unexpected
                .iter()
                .any(|name| parts.iter().any(|part| name.contains(part)))
        };
        if any(&[".lora_A.", ".lora_B."]) {
            return "this is an adapter; merge it into its base model first".to_owned();
        }
        if any(&[
            ".qweight",
            ".qzeros",
            ".scales",
            "weight_scale",
            "weight_packed",
            ".absmax",
        ]) {
            return "these are quantised weights of another kind or shape than config.json's \
                    `quantization_config` says: is the file damaged? Else use the unquantised checkpoint"
                .to_owned();
        }
        if self.unexpected.is_empty() && self.mismatched.is_empty() && !self.missing.is_empty() {
            return "the checkpoint is incomplete: is every shard there?".to_owned();
        }
        if self.missing.is_empty() && self.mismatched.is_empty() && !self.suggested.is_empty() {
            let flags = self.suggested.iter().take(MAX_PATTERNS);
            let flags: Vec<String> = flags
                .map(|pattern| format!("--allow-unused '{pattern}'"))
                .collect();
            let more = match self.suggested.len().saturating_sub(MAX_PATTERNS) {
                0 => "",
                _ => " and so on",
            };
            return format!(
                "all weights of the model are there; if what is more has no part in it: {}{more}",
                flags.join(" ")
            );
        }
        "is config.json the one that belongs to these weights?".to_owned()
    }
}

impl fmt::Display for CoverageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "missing", &self.missing)?;
        section(f, "unexpected", &self.unexpected)?;
        section(f, "mismatched", &self.mismatched)?;
        write!(f, "  {} tensors fit", self.used)
    }
}

fn section<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, all: &[T]) -> fmt::Result {
    for one in all.iter().take(MAX_LINES) {
        writeln!(f, "  {title}: {one}")?;
    }
    match all.len().saturating_sub(MAX_LINES) {
        0 => Ok(()),
        more => writeln!(f, "  {title}: and {more} more"),
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(" or "))?;
        match self.part {
            Some(part) => write!(
                f,
                " (other tensors of the optional part `{part}` are there)"
            ),
            None => Ok(()),
        }
    }
}

/// Whether `name` is as `pattern` says, where `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name) in [
            ("a.b", "a.b"),
            ("*.inv_freq", "model.layers.0.inv_freq"),
            ("model.*.bias", "model.h.0.attn.bias"),
            ("*", ""),
            ("a*a", "aa"),
            ("*ab*ab", "abab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a.b", "a.b.c"), ("a*a", "a"), ("*ab*ab", "ab"), ("", "x")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}

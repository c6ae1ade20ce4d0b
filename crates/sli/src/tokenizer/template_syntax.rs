//! Rewrites template syntax that Jinja extensions of transformers add.

/// Replaces `{% generation %}` and `{% endgeneration %}`, which mark the assistant's tokens and change no
/// text, by blocks that do nothing.
pub fn without_generation_tags(source: &str) -> String {
    with_tags(source, [" if true ", " endif "])
}

/// The same, but what they mark goes through the filter [`MARK_FILTER`]; `None` if there are none.
pub fn with_marked_generation(source: &str) -> Option<String> {
    let begin = format!(" filter {MARK_FILTER} ");
    let marked = with_tags(source, [&begin, " endfilter "]);
    marked.contains(&begin).then_some(marked)
}

/// Name of the filter that marks its text.
pub const MARK_FILTER: &str = "mark_generation";

fn with_tags(source: &str, [begin, end_of]: [&str; 2]) -> String {
    let mut output = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        output.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        rest = after;
        let inner = &tag[2..end];
        let (open, inner) = sign(inner, str::strip_prefix);
        let (close, inner) = sign(inner, str::strip_suffix);
        match inner.trim() {
            "generation" => output.extend(["{%", open, begin, close, "%}"]),
            "endgeneration" => output.extend(["{%", open, end_of, close, "%}"]),
            _ => output.push_str(tag),
        }
    }
    output.push_str(rest);
    output
}

type Strip = for<'a> fn(&'a str, &'static str) -> Option<&'a str>;

/// The white-space sign at one end of a tag.
fn sign(inner: &str, strip: Strip) -> (&'static str, &str) {
    for sign in ["-", "+"] {
        if let Some(rest) = strip(inner, sign) {
            return (sign, rest);
        }
    }
    ("", inner)
}

#[cfg(test)]
mod tests {
    use super::{with_marked_generation, without_generation_tags};

    #[test]
    fn generation_tags_become_a_filter() {
        let marked = with_marked_generation("a{%- generation -%}x{% endgeneration %}");
        let expected = "a{%- filter mark_generation -%}x{% endfilter %}";
        assert_eq!(marked.as_deref(), Some(expected));
        assert_eq!(with_marked_generation("a {{ generation }}"), None);
    }

    #[test]
    fn only_generation_tags_change() {
        for (source, expected) in [
            ("a {% if x %}b{% endif %}", "a {% if x %}b{% endif %}"),
            (
                "{%- generation -%}x{%endgeneration+%}",
                "{%- if true -%}x{% endif +%}",
            ),
            ("{% generation %}", "{% if true %}"),
            ("{% set generation = 1 %}{%", "{% set generation = 1 %}{%"),
            ("", ""),
        ] {
            assert_eq!(without_generation_tags(source), expected);
        }
    }
}

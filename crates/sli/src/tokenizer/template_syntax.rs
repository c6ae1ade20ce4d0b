//! Rewrites template syntax that Jinja extensions of transformers add.

/// Replaces `{% generation %}` and `{% endgeneration %}`, which mark the assistant's tokens and change no
/// text, by blocks that do nothing.
pub fn without_generation_tags(source: &str) -> String {
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
            "generation" => output.extend(["{%", open, " if true ", close, "%}"]),
            "endgeneration" => output.extend(["{%", open, " endif ", close, "%}"]),
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
    use super::without_generation_tags;

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

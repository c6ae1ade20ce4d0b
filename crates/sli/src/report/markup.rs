//! Text that becomes part of a page.

/// Text between tags or in quotes. What no page may hold becomes the character for what cannot be shown.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\t' | '\n' => escaped.push(' '),
            character if character.is_control() => escaped.push('\u{fffd}'),
            // Marks that turn the direction of what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

/// A text that is cut where it is long.
pub fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A cell of a table.
pub enum Cell {
    /// Text, to be escaped.
    Text(String),
    /// A number as it is shown, and by which it is sorted.
    Number(String, f64),
}

impl Cell {
    /// A number in few digits.
    pub fn short(value: f64) -> Self {
        Self::Number(super::scale::short(value), value)
    }

    /// A count.
    pub fn count(value: u64) -> Self {
        Self::Number(crate::progress::count(value), value as f64)
    }

    /// Nothing.
    pub fn none() -> Self {
        Self::Number("–".into(), f64::NAN)
    }

    fn html(&self) -> String {
        match self {
            Self::Text(text) => format!("<td>{}", escape(text)),
            Self::Number(text, value) if text.replace(',', "").parse() == Ok(*value) => {
                format!("<td class=n>{text}")
            }
            Self::Number(text, value) => format!("<td class=n data-v=\"{value}\">{}", escape(text)),
        }
    }
}

/// A table with a line of names on top.
pub fn table(names: &[&str], rows: impl IntoIterator<Item = Vec<Cell>>) -> String {
    let mut html = String::from("<div class=wide><table><thead><tr>");
    for name in names {
        html += "<th>";
        html += &escape(name);
    }
    html += "</thead><tbody>";
    for row in rows {
        html += "\n<tr>";
        html.extend(row.iter().map(Cell::html));
    }
    html + "</tbody></table></div>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_a_tag() {
        let escaped = escape("<script>alert(\"1\" & '2')</script>\u{0}\u{202e}\n");
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{0}', '\u{202e}', '\n']));
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }

    #[test]
    fn cells_are_sorted_by_their_numbers() {
        let html = table(&["a", "b"], [vec![Cell::count(1234), Cell::none()]]);
        assert!(
            html.contains("<td class=n>1,234<td class=n data-v=\"NaN\">–"),
            "{html}"
        );
    }
}

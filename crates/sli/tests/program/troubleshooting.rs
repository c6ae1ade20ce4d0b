//! docs/troubleshooting.md quotes errors that the program can print.

use std::path::{Path, PathBuf};

/// Messages of the system, not of the program.
const SYSTEM: [&str; 1] = ["File too large"];
/// Shortest piece of a message that tells anything.
const SHORTEST: usize = 5;

fn sources(folder: &Path, into: &mut String) {
    let mut entries: Vec<PathBuf> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            // Tests quote messages too; those that only they know are stale.
            if name != "tests" && name != "target" {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs"
        {
            let text = fs_err::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            into.push_str(code);
        }
    }
}

/// The code spans of a cell of a table, whatever number of backticks quotes them.
fn code_spans(cell: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut rest = cell;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|&c| c == '`').count();
        let body = &rest[start + ticks..];
        let end = body.find(&"`".repeat(ticks)).unwrap();
        spans.push(body[..end].trim().to_owned());
        rest = &body[end + ticks..];
    }
    spans
}

/// The parts of a message that are always the same: what is between names in capitals, numbers and dots.
fn fixed_parts(message: &str) -> Vec<String> {
    let spaced = message.replace("...", " \0 ").replace('`', " \0 ");
    let words = spaced.split(' ').map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let placeholder =
            !bare.is_empty() && bare.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        if placeholder { "\0" } else { word }
    });
    let joined = words.collect::<Vec<_>>().join(" ");
    joined
        .split('\0')
        .map(|part| {
            part.trim()
                .trim_end_matches([':', ',', ';'])
                .trim_start_matches([':', ';', ','])
                .trim()
        })
        .filter(|part| part.len() >= SHORTEST)
        .map(str::to_owned)
        .collect()
}

/// Whether a part of a message is in the sources, in one piece or in several: what is put into a message is
/// quoted with it.
fn is_made_of(part: &str, text: &str) -> bool {
    let ends = part
        .match_indices(' ')
        .map(|(at, _)| at)
        .chain([part.len()]);
    let mut ends: Vec<usize> = ends.collect();
    ends.reverse();
    ends.into_iter().any(|end| {
        let (piece, rest) = part.split_at(end);
        let rest = rest.trim_start();
        piece.len() >= SHORTEST
            && text.contains(piece)
            && (rest.is_empty() || is_made_of(rest, text))
    })
}

#[test]
fn every_error_quoted_there_can_be_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    for entry in fs_err::read_dir(root.join("crates")).unwrap() {
        let folder = entry.unwrap().path().join("src");
        if folder.is_dir() {
            sources(&folder, &mut code);
        }
    }
    // A string may go on in the next line; values stand in braces or backticks.
    let mut text = String::with_capacity(code.len());
    let mut goes_on = false;
    for line in code.lines() {
        let line = if goes_on { line.trim_start() } else { line };
        goes_on = line.ends_with('\\');
        text.push_str(line.strip_suffix('\\').unwrap_or(line));
        if !goes_on {
            text.push('\n');
        }
    }
    let page = fs_err::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    let (mut checked, mut stale) = (0, Vec::new());
    for row in rows {
        let cell = row.trim_start_matches('|').split(" | ").next().unwrap();
        for message in code_spans(cell) {
            checked += 1;
            for part in fixed_parts(&message) {
                let part = part.trim_start_matches("config.json: ");
                if !SYSTEM.contains(&part) && !is_made_of(part, &text) {
                    stale.push(format!("`{message}`: {part:?} is nowhere in the sources"));
                }
            }
        }
    }
    assert!(checked >= 30, "{checked} messages found");
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

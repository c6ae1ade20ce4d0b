//! The tables of `docs/pictures.md` are those of the program: `UPDATE_DOCS=1 cargo test -p sli-pictures --test docs` writes them.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

/// What stands between two marks is replaced.
fn with(text: &str, mark: &str, table: &str) -> String {
    let begin = format!("<!-- {mark} -->\n");
    let (before, rest) = text.split_once(&begin).expect(mark);
    let (_, after) = rest.split_once("<!-- end -->").expect("an end");
    format!("{before}{begin}\n{table}\n<!-- end -->{after}")
}

#[test]
fn tables_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures.md");
    let text = fs_err::read_to_string(&path).unwrap();
    let mut processors =
        "| class | model types without a file that says it |\n| --- | --- |\n".to_owned();
    for class in sli_pictures::classes() {
        let models = sli_pictures::models_of(class).join("`, `");
        writeln!(processors, "| `{class}` | `{models}` |").unwrap();
    }
    let cases: Vec<Value> = serde_json::from_str(include_str!("texts.json")).unwrap();
    let is_compared = |class: &&str| cases.iter().any(|case| case["class"] == **class);
    let names = |compared: bool| {
        let names = sli_pictures::processors().filter(|class| is_compared(class) == compared);
        names
            .map(|class| format!("`{class}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let texts = format!("{} ({})\n", names(true), names(false));
    let updated = with(&with(&text, "processors", &processors), "texts", &texts);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(&path, updated).unwrap();
    } else {
        assert_eq!(
            text, updated,
            "UPDATE_DOCS=1 cargo test -p sli-pictures --test docs"
        );
    }
}

//! `docs/formats.md` is what the formats and codes say of themselves.
//!
//! `UPDATE_DOCS=1 cargo test -p sli-checkpoint --test formats_doc` writes it anew.

use std::fmt::Write as _;

use sli_checkpoint::{CODED_FORMS, Dtype, formats};
use sli_spec::gguf::{ARCHITECTURES, REFUSED};

fn text() -> String {
    let mut text = String::from(
        "# Formats\n\n\
         Generated from the sources (`UPDATE_DOCS=1 cargo test -p sli-checkpoint --test formats_doc`). `sli inspect` shows which\n\
         files of a folder were taken, by which rule, and which were left.\n\n\
         ## Files\n\n\
         The weights of a folder are those of the first of these names that is there; other files are not looked at. A file that is\n\
         named by itself is read by its ending. A GGUF file holds configuration and tokenizer as well: nothing beside it is read.\n\n\
         | format | names, in order |\n| --- | --- |\n",
    );
    for (name, names) in formats() {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {name} | {} |", names.join(", "));
    }
    let named = |blocks: bool| {
        let types = Dtype::all().filter(|dtype| dtype.is_block() == blocks);
        let floats = types.filter(|dtype| blocks || dtype.float().is_some());
        floats.map(Dtype::name).collect::<Vec<_>>().join(", ")
    };
    let _ = write!(
        text,
        "\n## Numbers\n\nPlain: {}. Blocks of GGUF: {}.\n\n\
         Quantised forms, by `quant_method` of `quantization_config`. They are decoded in f32, scales widened first, rounded nowhere\n\
         in between; how a kernel would round activations is left out.\n\n| method | what |\n| --- | --- |\n",
        named(false),
        named(true)
    );
    for (method, what) in CODED_FORMS {
        let _ = writeln!(text, "| `{method}` | {what} |");
    }
    text.push_str(
        "\n## Architectures of GGUF files\n\n| llama.cpp | types of the reference |\n| --- | --- |\n",
    );
    for architecture in ARCHITECTURES {
        let types: Vec<String> = architecture
            .model_types
            .iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let _ = writeln!(text, "| `{}` | {} |", architecture.name, types.join(", "));
    }
    text.push_str("\nRefused by name:\n\n| llama.cpp | why |\n| --- | --- |\n");
    for (names, reason) in REFUSED {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {reason} |", names.join(", "));
    }
    text
}

#[test]
fn the_document_is_what_the_sources_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs_err::write(path, text()).expect("written");
    }
    let found = fs_err::read_to_string(path).unwrap_or_default();
    assert!(
        found == text(),
        "docs/formats.md is stale: UPDATE_DOCS=1 cargo test -p sli-checkpoint --test formats_doc"
    );
}

//! Prints the tokens of texts, for `tools/tokenizers/compare.py`: each line of standard input is
//! `{"folder": .., "literal": false, "texts": [..]}`, each line printed `{"ids": [[..], ..], "said": [..]}` or
//! `{"error": ..}`.

use std::io::{BufRead, Write};
use std::path::Path;

use serde_json::{Value, json};
use sli::memory::Allowance;
use sli::tokenizer::{Tokenizer, TokenizerError};

fn tokens(line: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let job: Value = serde_json::from_str(line)?;
    let texts = job["texts"].as_array().ok_or("no texts")?;
    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let folder = Path::new(job["folder"].as_str().ok_or("no folder")?);
    let made = || -> Result<Value, TokenizerError> {
        let literal = job["literal"] == true;
        let tokenizer = Tokenizer::load(folder, None, literal, Allowance::unlimited())?;
        let encoded = tokenizer.encode_texts(texts)?;
        let ids: Vec<Vec<u32>> = encoded.into_iter().map(|encoded| encoded.ids).collect();
        Ok(json!({"ids": ids, "said": tokenizer.warnings()}))
    };
    Ok(made().unwrap_or_else(|error| json!({"error": error.to_string()})))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    sli::guard::install_hook();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        writeln!(output, "{}", tokens(&line?)?)?;
        output.flush()?;
    }
    Ok(())
}

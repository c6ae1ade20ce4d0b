//! Renders templates: a JSON list `[template, {variables}, "YYYY-MM-DD HH:MM:SS.ffffff"]` a line on stdin, the
//! text or the error of each as a JSON list on stdout. `tools/jinja/` compares it with the reference.

use std::io::{BufRead, Write, stdin, stdout};

use chrono::NaiveDateTime;
use sli_jinja::{Template, Variables};

fn main() {
    let work = std::thread::Builder::new()
        .stack_size(1 << 30)
        .spawn(|| {
            for line in stdin().lock().lines() {
                let line = line.expect("stdin");
                let answer = answer(&line);
                writeln!(stdout().lock(), "{answer}").expect("stdout");
            }
        })
        .expect("a thread");
    work.join().expect("no panic");
}

/// `[text]` or `[null, error]`, written by the filter itself.
fn answer(line: &str) -> String {
    let mut variables = Variables::default();
    variables.set_json("case", line).expect("a case");
    let now = NaiveDateTime::default();
    let field = |at: &str, variables: Variables| {
        let template = Template::compile(at).expect("a template");
        template
            .render(variables, now, 10_000_000)
            .expect("text")
            .text
    };
    let source = field("{{ case[0] }}{{ '\n' }}", variables);
    let mut variables = Variables::default();
    variables.set_json("case", line).expect("a case");
    let given = field("{{ case[1] | tojson }}", variables);
    let mut variables = Variables::default();
    variables.set_json("case", line).expect("a case");
    let now = field("{{ case[2] }}", variables);
    let now = NaiveDateTime::parse_from_str(&now, "%Y-%m-%d %H:%M:%S%.f").expect("a time");
    let mut variables = Variables::default();
    variables.set_object(&given).expect("variables");
    // The line end that the printing of the source took with it.
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let result =
        Template::compile(source).and_then(|template| template.render(variables, now, 3_000_000));
    let mut variables = Variables::default();
    match &result {
        Ok(rendered) => {
            variables.set_text("text", &rendered.text);
            let spans: Vec<String> = rendered
                .generation
                .iter()
                .map(|span| format!("[{}, {}]", span.start, span.end))
                .collect();
            variables
                .set_json("spans", &format!("[{}]", spans.join(", ")))
                .expect("spans");
            field("{{ [text, spans] | tojson }}", variables)
        }
        Err(error) => {
            variables.set_text("text", &error.to_string());
            field("{{ [none, text] | tojson }}", variables)
        }
    }
}

//! Templates render as transformers renders them (`tools/jinja/goldens.py` wrote the cases).

use std::thread;

use chrono::{NaiveDate, NaiveDateTime};
use serde_json::Value;
use sli_jinja::{Rendered, Template, Variables};

fn render(template: &str, variables: &str, now: NaiveDateTime) -> Result<Rendered, String> {
    let mut given = Variables::default();
    given.set_object(variables)?;
    Template::compile(template)
        .and_then(|template| template.render(given, now, 3_000_000))
        .map_err(|error| error.to_string())
}

#[test]
fn templates_render_as_in_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference.json");
    let text = fs_err::read_to_string(path).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    // The variables as they are written: a JSON library would round their largest integers.
    let (contexts, _) = text.split_once("\n], \"cases\": [").unwrap();
    let contexts: Vec<String> = contexts
        .lines()
        .skip(1)
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect();
    // The time that the reference saw.
    let day = NaiveDate::from_ymd_opt(2024, 7, 6).unwrap();
    let now = day.and_hms_micro_opt(9, 5, 3, 1234).unwrap();
    let work = move || {
        let mut wrong = Vec::new();
        let cases = cases["cases"].as_array().unwrap();
        assert!(cases.len() > 1000);
        for case in cases {
            let template = case[0].as_str().unwrap();
            let context = &contexts[case[1].as_u64().unwrap() as usize];
            let ours = render(template, context, now);
            let right = match &ours {
                Err(_) => case[2].is_null(),
                Ok(rendered) => {
                    let spans = rendered.generation.iter();
                    let spans: Vec<Value> = spans
                        .map(|span| Value::from(vec![span.start, span.end]))
                        .collect();
                    case[2][0] == *rendered.text && case[2][1] == Value::from(spans)
                }
            };
            if !right {
                wrong.push(format!("{template:?}\n  {ours:?}\n  {}", case[2]));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} differ:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    };
    let thread = thread::Builder::new().stack_size(256 << 20).spawn(work);
    thread.unwrap().join().unwrap();
}

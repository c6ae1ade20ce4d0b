//! What the products are computed in, and that the program says why.

use crate::place::{Place, bert, llama};

const RUN: [&str; 7] = [
    "run", "model", "--input", "in.jsonl", "--out", "out", "--take",
];

fn place() -> Place {
    let place = Place::new();
    place.write("in.jsonl", r#"{"input_ids": [1, 2, 3]}"#);
    place
}

fn run(place: &Place, take: &str, more: &[&str]) -> String {
    let arguments: Vec<&str> = RUN
        .into_iter()
        .chain([take])
        .chain(more.iter().copied())
        .collect();
    place.sli(&arguments).success().stderr
}

#[test]
fn weights_in_f32_are_multiplied_so() {
    let place = place();
    place.write_model("model", &bert());
    let said = run(&place, "embedding", &[]);
    assert!(
        said.contains("compute  f32 (the weights are f32)"),
        "{said}"
    );
    let said = run(&place, "embedding", &["--compute", "bf16", "--fresh"]);
    assert!(said.contains("compute  bf16 (as asked)"), "{said}");
}

#[test]
fn a_run_keeps_the_precision_that_it_began_with() {
    let place = place();
    place.write_large_model("model", &llama());
    for precision in ["f32", "bf16"] {
        run(&place, "scores", &["--compute", precision, "--fresh"]);
        // Whatever would be measured now.
        let said = run(&place, "scores", &[]);
        assert!(said.contains("finished already"), "{precision}: {said}");
    }
}

#[test]
fn what_is_measured_is_remembered() {
    let place = place();
    place.write_large_model("model", &llama());
    let first = run(&place, "scores", &[]);
    let second = run(&place, "scores", &["--fresh"]);
    let compute = |said: &str| {
        let line = said.lines().find(|line| line.starts_with("compute"));
        line.map(str::to_owned)
    };
    assert!(compute(&first).is_some(), "{first}");
    assert_eq!(compute(&first), compute(&second));
}

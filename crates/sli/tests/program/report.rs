//! `sli report` and `sli run --report`.

use serde_json::{Value, json};

use crate::place::{Place, has, llama, with};

/// A decoder with experts, so that every part has something to say.
fn place() -> Place {
    let place = Place::new();
    let experts = json!({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
                         "num_experts_per_tok": 2, "max_position_embeddings": 200});
    place.write_model("model", &with(llama(), &experts));
    let record = |number: usize| {
        let id = format!("<script>alert({number})</script>\u{0}\"'&");
        json!({"id": id, "input_ids": (0..number % 90).map(|n| n * n % 19).collect::<Vec<_>>()})
    };
    let lines: Vec<String> = (0..200).map(|number| record(number).to_string()).collect();
    place.write("in.jsonl", lines.join("\n"));
    place
}

/// A page that was written, checked.
pub fn page(place: &Place, name: &str) -> String {
    let html = fs_err::read_to_string(place.path(name)).unwrap();
    check(&html);
    html
}

/// A page is whole, says nothing that is not a number, and loads nothing.
fn check(html: &str) {
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    assert!(
        !html.contains("http:") && !html.contains("https:"),
        "it points somewhere else"
    );
    assert!(!html.contains("src=") && !html.contains("<link") && !html.contains("@import"));
    for tag in [
        "svg", "section", "figure", "table", "details", "div", "p", "script", "style", "g",
    ] {
        let open =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    for path in html.split(" d=\"").skip(1) {
        let path = path.split('"').next().unwrap();
        let is_plain = |c: char| c.is_ascii_digit() || " .MLHVhvz-".contains(c);
        assert!(path.chars().all(is_plain), "{path}");
    }
}

const RUN: [&str; 4] = ["run", "model", "--input", "in.jsonl"];

#[test]
fn a_page_has_a_part_for_everything_in_the_folder() {
    let place = place();
    let run = [&RUN[..], &["--out", "out", "--report"]].concat();
    let said = place.sli(&run).success().stderr;
    assert!(said.contains("report   out/report.html"), "{said}");
    let html = page(&place, "out/report.html");
    for part in [
        "Magnitudes of the hidden state",
        "Kurtosis",
        "Root mean square",
        "Influence of a layer",
        "Distribution of the hidden state",
        "Largest channels of the hidden state",
        "Load of experts",
        "Loss by position",
        "Perplexity of records",
        "Worst records",
        "Time by layer",
        "memory budget",
        "All 194 scored records",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Ten of the records at once, and all that have a scored token in the list.
    assert!(!html.contains("<script>alert") && html.contains("&lt;script&gt;alert(89)"));
    // A result like others, but none that the run is held to.
    let manifest: Value =
        serde_json::from_slice(&fs_err::read(place.path("out/run.json")).unwrap()).unwrap();
    assert!(!manifest["files"].to_string().contains("report.html"));
    fs_err::remove_file(place.path("out/report.html")).unwrap();
    let again = place.sli(&run).success().stderr;
    assert!(
        again.contains("finished already") && has(&place.path("out"), "report.html"),
        "{again}"
    );

    // Of some takes alone.
    let embedding = [&RUN[..], &["--out", "vectors", "--take", "embedding"]].concat();
    place.sli(&embedding).success();
    place
        .sli(&["report", "vectors", "--out", "other.html"])
        .success();
    assert!(!has(&place.path("vectors"), "report.html"));
    let html = page(&place, "other.html");
    assert!(!html.contains("Kurtosis") && html.contains("Time by layer"));
}

#[test]
fn parts_that_became_one_have_a_page() {
    let place = place();
    for part in ["1/2", "2/2"] {
        let out = format!("part-{}", &part[..1]);
        place
            .sli(&[&RUN[..], &["--shard", part, "--out", &out]].concat())
            .success();
    }
    place
        .sli(&["merge", "part-1", "part-2", "--out", "merged"])
        .success();
    place.sli(&["report", "merged"]).success();
    let html = page(&place, "merged/report.html");
    assert!(html.contains("Time by layer") && html.contains("<dt>parts<dd>2"));
    place.sli(&["report", "part-1"]).success();
    page(&place, "part-1/report.html");
}

#[test]
fn what_is_no_result_is_refused() {
    let place = place();
    place
        .sli(&["report", "nowhere"])
        .failure(3, &["there is no finished run", "hint: give the folder"]);
    place.sli(&[&RUN[..], &["--out", "out"]].concat()).success();
    place
        .sli(&["report", "out", "--out", "no/such/folder/report.html"])
        .failure(5, &["the report cannot be written", "hint: "]);
    let scores = fs_err::read(place.path("out/scores.parquet")).unwrap();
    place
        .sli(&["report", "out", "--out", "out/scores.parquet"])
        .failure(
            2,
            &[
                "is there already, and no report",
                "hint: give another place",
            ],
        );
    assert!(fs_err::read(place.path("out/scores.parquet")).unwrap() == scores);
    // Bytes that lie: wherever they are, the page is made or refused.
    for at in (0..scores.len()).step_by(scores.len() / 60) {
        let mut bytes = scores.clone();
        bytes[at] ^= 0x55;
        place.write("out/scores.parquet", &bytes);
        let outcome = Place::outcome(&mut place.command(&["report", "out"]));
        assert!([0, 3].contains(&outcome.code), "{at}: {outcome:?}");
    }
    place.write("out/scores.parquet", &scores[..scores.len() / 2]);
    place
        .sli(&["report", "out"])
        .failure(3, &["scores.parquet", "hint: run `sli run` with --fresh"]);
    place.write("out/run.json", "[]");
    place
        .sli(&["report", "out"])
        .failure(3, &["run.json", "it lists no files"]);
}

//! Kills at any moment: the same command goes on, ends with the same bytes, and little is done twice.

use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::budgets::smallest;
use crate::end_to_end::{ALL, results, start};
use crate::pictures::of_pictures;
use crate::place::{Place, llama};
use crate::random::Random;

const LAYERS: usize = 6;

/// A model and a dataset that take many layer passes under a small budget.
fn prepare(place: &Place) {
    let mut config = llama();
    for (key, value) in [
        ("hidden_size", 64),
        ("intermediate_size", 256),
        ("num_hidden_layers", LAYERS),
        ("max_position_embeddings", 64),
    ] {
        config[key] = json!(value);
    }
    place.write_model("model", &config);
    let mut random = Random::new(5);
    let lines: String = (0..400)
        .map(|_| {
            let ids: Vec<usize> = (0..random.below(64)).map(|_| random.below(20)).collect();
            json!({"input_ids": ids}).to_string() + "\n"
        })
        .collect();
    place.write("in.jsonl", lines);
}

/// Kills a run a dozen times, some passes apart, lets it end, and compares its results with those of one in peace.
pub fn kill_a_dozen_times(place: &Place, run: &[&str], seed: u64) {
    place
        .sli(&[run, &["--out", "undisturbed"]].concat())
        .success();
    let (run, out) = ([run, &["--out", "out"]].concat(), place.path("out"));
    let mut random = Random::new(seed);
    for _ in 0..12 {
        let mut child = start(place, &run);
        wait_for(&out, begun(&out) + random.below(4) as u64, &mut child);
        (0..random.below(100_000)).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.sli(&run).success();
    assert!(results(&out) == results(&place.path("undisturbed")));
}

/// Layer passes that the run in a folder has begun so far, over all its processes.
fn begun(out: &Path) -> u64 {
    fs_err::metadata(out.join(".sli/passes")).map_or(0, |metadata| metadata.len())
}

/// Waits until the run has begun this many layer passes, or has ended.
fn wait_for(out: &Path, passes: u64, child: &mut Child) {
    while begun(out) < passes && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
}

fn summary(out: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(out.join("run.json")).unwrap()).unwrap()
}

#[test]
fn twenty_kills_change_no_byte_and_cost_a_pass_each() {
    const KILLS: u64 = 20;
    let place = Place::new();
    prepare(&place);
    let base = ["run", "model", "--input", "in.jsonl", "--memory", "42MiB"];
    // A checkpoint after every layer pass, so that a kill costs the pass that it ended.
    let run = [&base[..], &ALL, &["--checkpoint-interval", "0", "--out"]].concat();
    place.sli(&[&run[..], &["undisturbed"]].concat()).success();
    let expected = summary(&place.path("undisturbed"));
    let passes = expected["layer_passes_begun"].as_u64().unwrap();
    assert_eq!(expected["layer_passes"], passes);
    assert_eq!(passes % LAYERS as u64, 0);
    assert!(passes > 2 * KILLS, "{passes} passes are few for this test");

    let (run, out) = ([&run[..], &["out"]].concat(), place.path("out"));
    let mut random = Random::new(11);
    let mut killed = 0;
    for kill in 0..KILLS {
        let mut child = start(&place, &run);
        // The first die before there is any state, the others some passes, and a bit of one, later.
        let some = if kill < 3 {
            0
        } else {
            1 + random.below(4) as u64
        };
        wait_for(&out, begun(&out) + some, &mut child);
        (0..random.below(200_000)).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().code().is_none());
    }
    assert_eq!(killed, KILLS, "the run ended before the last kill");
    place.sli(&run).success();
    assert!(results(&out) == results(&place.path("undisturbed")));
    let found = summary(&out);
    assert_eq!(found["layer_passes"], passes);
    // What earlier processes spent, up to their last checkpoints, counts too.
    assert!(found["processes"].as_u64().unwrap() > 5, "{found}");
    assert!(found["roofline"].is_object() && found["stages"].is_object());
    let number = |key: &str| found[key].as_f64().unwrap();
    assert!(number("seconds_in_all") > number("seconds"));
    assert!(number("bytes_read_in_all") > number("bytes_read"));
    let begun = found["layer_passes_begun"].as_u64().unwrap();
    assert!(
        (passes..=passes + KILLS).contains(&begun),
        "{begun} passes of {passes} after {KILLS} kills"
    );
}

#[test]
fn a_killed_run_may_go_on_with_other_means() {
    let place = Place::new();
    prepare(&place);
    let base = ["run", "model", "--input", "in.jsonl"];
    kill_with_other_means(&place, &[&base[..], &ALL].concat(), 17);
}

#[test]
fn a_killed_run_over_pictures_may_go_on_with_other_means() {
    let place = of_pictures("llava", 60);
    let base = ["run", "model", "--input", "data/in.jsonl"];
    let takes = ["--take", "hidden", "--take", "scores", "--take", "profile"];
    kill_with_other_means(&place, &[&base[..], &takes].concat(), 23);
}

/// Kills a run again and again, which goes on with other means each time, and compares its end with that of one in peace.
fn kill_with_other_means(place: &Place, base: &[&str], seed: u64) {
    let undisturbed = ["--out", "undisturbed"];
    place.sli(&[base, &undisturbed].concat()).success();
    let out = place.path("out");
    let mut random = Random::new(seed);
    let (least, _) = smallest(place, &[base, &["--threads", "2"]].concat());
    for _ in 0..24 {
        let means = [
            ["--memory", random.of(&[&least, &least, "50MiB", "1GiB"])],
            ["--threads", random.of(&["1", "2"])],
            ["--spill", random.of(&["auto", "always", "never"])],
            ["--checkpoint-interval", random.of(&["0", "0.05"])],
            ["--out", "out"],
        ]
        .concat();
        let mut run = [base, &means].concat();
        if random.below(2) == 0 {
            run.push("--no-share");
        }
        let mut child = start(place, &run);
        wait_for(&out, begun(&out) + random.below(7) as u64, &mut child);
        (0..random.below(200_000)).for_each(|_| std::hint::spin_loop());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.sli(&[base, &["--out", "out"]].concat()).success();
    assert!(results(&out) == results(&place.path("undisturbed")));
}

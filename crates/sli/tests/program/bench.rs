//! `sli bench`: what the machine does, where it is remembered, and where the time of a pass goes.

use serde_json::Value;

use super::place::{Place, bert, llama};

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_is_measured_is_remembered_and_used() {
    let place = Place::with_llama();
    place.write("data.txt", "a b c\n");
    let plan = ["plan", "model", "--input", "data.txt", "--json"];
    let plan = [&plan[..], &["--threads", "1"]].concat();
    let before = parse(&place.sli(&plan).success().stdout);
    assert_eq!(before["roofline"]["operations_from"], "probe");

    let bench = place.sli(&["bench", "--threads", "1", "--json"]).success();
    let report = parse(&bench.stdout);
    let rate = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap();
    for pointer in [
        "/processor/peak_bf16",
        "/processor/peak_f32",
        "/processor/gemm_bf16",
        "/processor/gemm_f32",
        "/processor/memory",
        "/disk/buffered",
    ] {
        assert!(rate(pointer) > 1e6, "{pointer}: {report}");
    }
    assert_eq!(report["processor"]["threads"], 1);
    assert_eq!(report["pass"], Value::Null);
    let cache = report["cache"].as_str().unwrap();
    assert!(fs_err::read_dir(cache).unwrap().count() >= 2, "{cache}");

    let after = parse(&place.sli(&plan).success().stdout);
    assert_eq!(after["roofline"]["operations_from"], "bench");
    let peak = after["roofline"]["operations_per_second"].as_f64().unwrap();
    assert!(peak == rate("/processor/peak_f32") || peak == rate("/processor/peak_bf16"));

    // Of another number of threads nothing is known.
    let other = [&plan[..plan.len() - 1], &["2"]].concat();
    let other = parse(&place.sli(&other).success().stdout);
    assert_eq!(other["roofline"]["operations_from"], "probe");

    // What a run beats was measured on a busy machine.
    for file in fs_err::read_dir(cache).unwrap() {
        let path = file.unwrap().path();
        let mut entry = parse(&fs_err::read_to_string(&path).unwrap());
        if let Some(peak) = entry["ceilings"].get_mut("peak_f32") {
            *peak = 1.0.into();
            entry["ceilings"]["peak_bf16"] = 1.0.into();
            fs_err::write(&path, entry.to_string()).unwrap();
        }
    }
    let run = [
        "run",
        "model",
        "--input",
        "data.txt",
        "--out",
        "results",
        "--threads",
        "1",
    ];
    let said = place.sli(&run).success().stderr;
    assert!(said.contains("it is forgotten"), "{said}");
    let forgotten = parse(&place.sli(&plan).success().stdout);
    assert_eq!(forgotten["roofline"]["operations_from"], "probe");
    place.sli(&["bench", "--threads", "1", "--json"]).success();

    // A damaged file is said, and the run goes on.
    for file in fs_err::read_dir(cache).unwrap() {
        fs_err::write(file.unwrap().path(), "{").unwrap();
    }
    let damaged = place.sli(&plan).success();
    assert!(damaged.stderr.contains("is of no use"), "{damaged:?}");
    let damaged = parse(&damaged.stdout);
    assert_eq!(damaged["roofline"]["operations_from"], "probe");
}

#[test]
fn the_time_of_a_pass_is_divided() {
    let place = Place::with_llama();
    let bench = ["bench", "model", "--records", "3", "--tokens", "7"];
    let report = parse(
        &place
            .sli(&[&bench[..], &["--json"]].concat())
            .success()
            .stdout,
    );
    let pass = &report["pass"];
    assert_eq!(pass["records"], 3);
    assert_eq!(pass["tokens"], 21);
    assert!(pass["bytes_read"].as_u64().unwrap() > 0);
    let stage = |name: &str| pass["stages"][name].as_f64().unwrap();
    let parts = [
        "wait",
        "gemm",
        "attention",
        "norm",
        "scan",
        "rotary",
        "activation",
        "vocabulary",
        "elementwise",
        "other",
    ];
    let sum: f64 = parts.into_iter().map(stage).sum();
    let total = stage("total");
    assert!((sum / total - 1.0).abs() < 1e-6, "{sum} of {total}");
    for name in [
        "gemm",
        "attention",
        "norm",
        "rotary",
        "activation",
        "vocabulary",
    ] {
        assert!(stage(name) > 0.0, "{name}: {report}");
    }
    let fraction = pass["roofline_fraction"].as_f64().unwrap();
    assert!(fraction > 0.0, "{report}");

    place.write("data.txt", "a b c\nb\n");
    let bench_of = ["bench", "model", "--input", "data.txt", "--json"];
    let report = parse(&place.sli(&bench_of).success().stdout);
    let pass = &report["pass"];
    assert_eq!(pass["records"], 2);
    assert!(pass["stages"]["prepare"].as_f64().unwrap() > 0.0, "{pass}");
    let both = [&bench_of[..], &["--records", "3"]].concat();
    place.sli(&both).failure(2, &["--records"]);

    let text = place.sli(&bench).success().stdout;
    for said in [
        "processor",
        "bf16",
        "f32",
        "memory",
        "disk",
        "tokenise",
        "GEMM",
        "tokens/s",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
}

#[test]
fn a_machine_that_remembers_nothing_is_measured_all_the_same() {
    let place = Place::new();
    let mut command = place.command(&["bench", "--threads", "1"]);
    let output = command
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HOME")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("XDG_CACHE_HOME"), "{said}");
}

#[test]
fn what_cannot_be_timed_is_said() {
    let place = Place::new();
    place.write("model/config.json", llama().to_string());
    place
        .sli(&["bench", "model"])
        .failure(3, &["model", "hint: "]);
    place
        .sli(&["bench", "model", "--records", "0"])
        .failure(2, &["--records"]);
    place.write_model("bert", &bert());
    place
        .sli(&["bench", "bert", "--tokens", "13"])
        .failure(2, &["12 tokens", "--tokens 12"]);
}

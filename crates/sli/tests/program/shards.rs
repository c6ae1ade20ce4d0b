//! `--shard I/N` and `sli merge`: whatever the parts, together they are the run over everything, byte for byte.

use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::disks::own_mounts;
use crate::end_to_end::{ALL, results, start};
use crate::place::{Place, bert, llama, with};
use crate::random::Random;

/// A decoder with experts, so that every take has something to say.
fn mixtral() -> Value {
    let experts = json!({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
                         "num_experts_per_tok": 2, "max_position_embeddings": 200});
    with(llama(), &experts)
}

const ROUTER: [&str; 2] = ["--take", "router"];

/// Records of mixed lengths, some of no tokens, that begin alike now and then.
fn records(lengths: &[usize]) -> String {
    let mut random = Random::new(7);
    let line = |(number, &length): (usize, &usize)| {
        let token = |at: usize| if at < 6 { at } else { random.below(20) };
        let ids: Vec<usize> = (0..length).map(token).collect();
        json!({"id": format!("record {number}"), "input_ids": ids}).to_string() + "\n"
    };
    lengths.iter().enumerate().map(line).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(folder.join("run.json")).unwrap()).unwrap()
}

/// Names of the folders of `of` parts.
fn names(of: usize) -> Vec<String> {
    (1..=of)
        .map(|index| format!("part-{index}-of-{of}"))
        .collect()
}

/// Runs every part, and merges them in some order.
fn in_parts(place: &Place, run: &[&str], of: usize) {
    let mut folders = names(of);
    for (index, folder) in (1..).zip(&folders) {
        let shard = format!("{index}/{of}");
        let part = ["--shard", &shard, "--fresh", "--out", folder];
        place.sli(&[run, &part].concat()).success();
    }
    let mut random = Random::new(of as u64);
    for last in (1..folders.len()).rev() {
        folders.swap(last, random.below(last + 1));
    }
    let mut merge = vec!["merge", "--out", "merged", "--fresh"];
    merge.extend(folders.iter().map(String::as_str));
    place.sli(&merge).success();
}

/// Members of run.json that are those of one run.
const OF_DATA: [&str; 12] = [
    "sli",
    "key",
    "files",
    "records",
    "skipped",
    "tokens",
    "records_cut",
    "token_layers_alone",
    "compute",
    "isa",
    "tensor_names",
    "left_out",
];

/// Members of run.json that say what all parts did.
const OF_WORK: [&str; 7] = [
    "processes",
    "seconds_in_all",
    "bytes_read_in_all",
    "layer_passes",
    "layer_passes_begun",
    "token_layers",
    "weights",
];

/// Whether the merged folder is the one of the run over everything, but for machines and times.
#[track_caller]
fn assert_whole(place: &Place) {
    let (whole, merged) = (place.path("whole"), place.path("merged"));
    let (expected, found) = (results(&whole), results(&merged));
    assert!(expected.keys().eq(found.keys()), "{:?}", found.keys());
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
    let (whole, merged) = (manifest(&whole), manifest(&merged));
    for name in OF_DATA {
        assert_eq!(whole[name], merged[name], "{name}");
        assert!(whole.get(name).is_some(), "{name}");
    }
    for name in whole.as_object().unwrap().keys() {
        let of_work = merged.get(name).is_some() && OF_WORK.contains(&&**name);
        let of_machine = merged.get(name).is_none() && merged["parts"][0].get(name).is_some();
        let of_data = OF_DATA.contains(&&**name);
        assert!(of_data || of_work || of_machine, "{name}");
    }
    assert!(merged.get("shard").is_none() && merged["parts"].is_array());
}

/// Runs over everything and in so many parts, and compares.
pub fn compare(place: &Place, run: &[&str], parts: &[usize]) {
    place
        .sli(&[run, &["--fresh", "--out", "whole"]].concat())
        .success();
    for &of in parts {
        in_parts(place, run, of);
        assert_whole(place);
    }
    // The merged folder is the run's own.
    let again = place.sli(&[run, &["--out", "merged"]].concat()).success();
    assert!(again.stderr.contains("finished already"), "{again:?}");
}

#[test]
fn any_number_of_parts_is_the_whole() {
    let place = Place::new();
    place.write_model("model", &mixtral());
    let lengths = [3, 0, 120, 1, 1, 17, 8, 0, 30, 2, 9, 9, 64, 5, 0, 1, 12, 7];
    place.write("in.jsonl", records(&lengths));
    let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL, &ROUTER].concat();
    compare(&place, &run, &[1, 3]);
    let run = ["run", "model", "--input", "in.jsonl"];
    compare(&place, &run, &[2, 7]);
}

#[test]
fn parts_may_have_no_record() {
    let place = Place::new();
    place.write_model("model", &mixtral());
    place.write("in.jsonl", records(&[2, 90, 0]));
    let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL, &ROUTER].concat();
    compare(&place, &run, &[5]);
    let records: Vec<u64> = names(5)
        .iter()
        .map(|name| manifest(&place.path(name))["records"].as_u64().unwrap())
        .collect();
    assert_eq!(records, [1, 0, 1, 0, 1]);
}

#[test]
fn an_encoder_and_a_decoder() {
    let place = Place::new();
    let t5 = json!({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 20, "d_model": 24,
                    "d_kv": 8, "d_ff": 32, "num_heads": 3, "num_layers": 2, "num_decoder_layers": 1,
                    "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"});
    place.write_model("model", &t5);
    let lines = (0..11_usize).map(|n| {
        let decoder = vec![n % 20; n * 5 % 7];
        json!({"input_ids": vec![n; n * 7 % 9], "decoder_input_ids": decoder}).to_string() + "\n"
    });
    place.write("in.jsonl", lines.collect::<String>());
    let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
    compare(&place, &run, &[3]);
}

#[test]
fn texts_classes_and_sparse_embeddings() {
    let place = Place::new();
    place.write_model("model", &bert());
    place.write_tokenizer("model");
    // Only the first part needs the tokenizer, and a part may be of records that are left out.
    let mut lines =
        String::from("{\"text\": \"the cat sat on a mat\"}\n{\"text\": null}\n{\"text\": \"\"}\n");
    lines += &"{\"input_ids\": [3, 4, 5, 6, 7, 8]}\n".repeat(4);
    place.write("in.jsonl", lines);
    let takes = ["--take", "sparse", "--take", "profile", "--skip-empty"];
    let run = [&["run", "model", "--input", "in.jsonl"][..], &takes].concat();
    compare(&place, &run, &[2, 3]);
    assert_eq!(manifest(&place.path("merged"))["skipped"], 2);
    let classes = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"},
                         "label2id": {"a": 0, "b": 1, "c": 2}});
    place.write_model("model", &with(bert(), &classes));
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--take",
        "classes",
        "--skip-empty",
    ];
    compare(&place, &run, &[3]);
}

#[test]
fn tables_of_several_row_groups_are_cut_as_by_one_run() {
    let place = Place::new();
    let sizes = json!({"hidden_size": 512, "num_hidden_layers": 1});
    place.write_model("model", &with(llama(), &sizes));
    let line = |n: usize| json!({"input_ids": vec![n % 20; n % 3]}).to_string() + "\n";
    place.write("a.jsonl", (0..2500).map(line).collect::<String>());
    place.write("b.jsonl", (0..1500).map(line).collect::<String>());
    let run = [
        "run",
        "model",
        "--input",
        "a.jsonl",
        "--input",
        "b.jsonl",
        "--take",
        "embedding",
    ];
    compare(
        &place,
        &[&run[..], &["--hidden-dtype", "bf16", "--take", "hidden:1"]].concat(),
        &[2],
    );
}

#[test]
fn records_are_dealt_out_by_their_size_and_keep_their_rows() {
    let place = Place::with_llama();
    let mut lines = "{\"input_ids\": [3]}\n".repeat(30);
    lines += &(json!({"input_ids": vec![4; 12]}).to_string() + "\n").repeat(6);
    place.write("in.jsonl", lines);
    let run = ["run", "model", "--input", "in.jsonl", "--take", "scores"];
    let mut next = 0;
    for index in 1..=2 {
        let (shard, out) = (format!("{index}/2"), format!("out-{index}"));
        place
            .sli(&[&run[..], &["--shard", &shard, "--out", &out]].concat())
            .success();
        let said = manifest(&place.path(&out));
        let shard = &said["shard"];
        assert_eq!(
            [&shard["index"], &shard["of"], &shard["rows_in_all"]],
            [index, 2, 36]
        );
        assert_eq!(said["key"]["shard"], format!("{index} of 2"));
        assert_eq!(shard["rows"][0], next);
        next = shard["rows"][1].as_u64().unwrap();
        assert_eq!(
            said["records"].as_u64().unwrap(),
            next - shard["rows"][0].as_u64().unwrap()
        );
    }
    assert_eq!(next, 36);
    // Half of the 30 * (16 + 4) + 6 * (16 + 48) bytes.
    assert_eq!(manifest(&place.path("out-1"))["records"], 25);
    let plan = [&["plan"], &run[1..], &["--shard", "2/2", "--json"]].concat();
    let plan: Value = serde_json::from_str(&place.sli(&plan).success().stdout).unwrap();
    assert_eq!(plan["records"], 11);
    for (shard, says) in [
        ("0/2", "counted from 1"),
        ("3/2", "no part 3 of 2"),
        ("1", "expected I/N"),
    ] {
        let wrong = place.sli(&[&run[..], &["--out", "out", "--shard", shard]].concat());
        assert_eq!(wrong.code, 2, "{wrong:?}");
        assert!(wrong.stderr.contains(says), "{wrong:?}");
    }
    let other = place.sli(&[&run[..], &["--shard", "2/2", "--out", "out-1"]].concat());
    other.failure(3, &["belongs to another run; shard was 1 of 2, is 2 of 2"]);
}

#[test]
fn what_is_wrong_with_the_dataset_is_wrong_for_every_part() {
    let place = Place::with_llama();
    let run = [
        "run", "model", "--input", "in.jsonl", "--out", "out", "--shard", "1/3",
    ];
    let lines =
        "{\"id\": \"a\", \"input_ids\": [3]}\n".to_owned() + &"{\"input_ids\": [4]}\n".repeat(9);
    place.write(
        "in.jsonl",
        lines.clone() + "{\"id\": \"a\", \"input_ids\": [5]}\n",
    );
    let twice = ["line 11", "an earlier record has the same id", "line 1"];
    place.sli(&run).failure(3, &twice);
    place.write("in.jsonl", lines + "{\"input_ids\": \n");
    place.sli(&run).failure(3, &["line 11"]);
    place.write("in.jsonl", "{\"text\": \"\"}\n{\"text\": \"\"}\n");
    place
        .sli(&[&run[..], &["--skip-empty"]].concat())
        .failure(3, &["all 2 records are null or empty"]);
    assert!(!place.path("out").exists());
}

#[test]
fn only_all_parts_of_one_run_are_merged() {
    let place = Place::with_llama();
    let text = "{\"text\": \"the cat\"}\n{\"text\": \"a dog ran\"}\n{\"text\": \"sat\"}\n";
    place.write("in.jsonl", text);
    place.write("other.jsonl", text.replace("dog", "cat"));
    place.write_model("second", &with(llama(), &json!({"num_hidden_layers": 1})));
    place.write_tokenizer("second");
    let run = |model: &str, input: &str, more: &[&str]| {
        let base = ["run", model, "--input", input];
        place.sli(&[&base[..], more].concat()).success();
    };
    for index in ["1", "2", "3"] {
        let (shard, out) = (format!("{index}/3"), format!("part-{index}"));
        run("model", "in.jsonl", &["--shard", &shard, "--out", &out]);
    }
    let part = |out: &str, model: &str, input: &str, more: &[&str]| {
        run(
            model,
            input,
            &[&["--shard", "2/3", "--out", out], more].concat(),
        );
    };
    part("data", "model", "other.jsonl", &[]);
    part("weights", "second", "in.jsonl", &[]);
    part("takes", "model", "in.jsonl", &["--take", "scores"]);
    part("length", "model", "in.jsonl", &["--max-length", "2"]);
    part("copy", "model", "in.jsonl", &[]);
    run("model", "in.jsonl", &["--shard", "2/4", "--out", "of-4"]);
    run("model", "in.jsonl", &["--out", "whole"]);
    fs_err::create_dir(place.path("empty")).unwrap();
    let merge = |parts: &[&str]| place.sli(&[&["merge", "--out", "out"], parts].concat());
    for (second, says) in [
        ("data", "are not parts of one run: input was "),
        ("weights", "model config.json was "),
        ("takes", "takes was scores profile, is scores"),
        ("length", "max length was nothing, is 2"),
        ("of-4", "parts was 3, is 4"),
        ("whole", "it is of a run over a whole dataset"),
        ("empty", "there is no finished run in it"),
        ("absent", "there is no finished run in it"),
        ("part-3", "part-3 and part-3 are both part 3 of 3"),
    ] {
        merge(&["part-3", second, "part-1"]).failure(3, &[says]);
    }
    merge(&["part-1", "copy", "part-3", "part-2"])
        .failure(3, &["copy and part-2 are both part 2 of 3"]);
    merge(&["part-1"]).failure(
        3,
        &[
            "of 3 parts, these are missing: 2, 3",
            "hint: give the folders of all parts",
        ],
    );
    let mut unfinished = start(
        &place,
        &[
            "run", "model", "--input", "in.jsonl", "--shard", "2/3", "--out", "killed",
        ],
    );
    unfinished.kill().unwrap();
    unfinished.wait().unwrap();
    if !place.path("killed/run.json").exists() {
        merge(&["part-1", "killed", "part-3"])
            .failure(3, &["killed: there is no finished run in it"]);
    }
    place
        .sli(&[
            "merge", "part-1", "part-2", "part-3", "--out", "part-2", "--fresh",
        ])
        .failure(2, &["choose another --out"]);
    place
        .sli(&["merge", "part-1", "part-2", "part-3", "--out", "whole"])
        .success();
    assert_eq!(place.sli(&["merge", "--out", "out"]).code, 2);
    merge(&["copy", "part-3", "part-1"]).success();
    assert!(results(&place.path("out")) == results(&place.path("whole")));
    // What it is, it says, and it is nobody else's.
    merge(&["part-1", "part-2", "part-3"]).success();
    let scores = place.sli(&["run", "model", "--input", "other.jsonl", "--out", "out"]);
    scores.failure(3, &["belongs to another run"]);
}

#[test]
fn a_part_that_was_changed_is_refused() {
    let place = Place::with_llama();
    place.write("in.jsonl", "{\"input_ids\": [3, 4, 5]}\n".repeat(4));
    let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
    compare(&place, &run, &[2]);
    let merge = ["merge", "part-1-of-2", "part-2-of-2", "--out", "again"];
    for name in [
        "hidden/decoder.001.safetensors",
        "logits.safetensors",
        "scores.parquet",
        "profile.accumulators",
    ] {
        let path = place.path("part-2-of-2").join(name);
        let right = fs_err::read(&path).unwrap();
        for damage in [right.len() / 2, right.len() - 9] {
            let mut wrong = right.clone();
            wrong[damage] ^= 1;
            fs_err::write(&path, wrong).unwrap();
            place
                .sli(&merge)
                .failure(5, &[name, "hint: run this part again"]);
        }
        fs_err::write(&path, &right[..right.len() - 1]).unwrap();
        place.sli(&merge).failure(5, &[name, "bytes, it has "]);
        fs_err::remove_file(&path).unwrap();
        place.sli(&merge).failure(5, &[name, "it is not there"]);
        fs_err::write(&path, right).unwrap();
    }
    place.sli(&merge).success();
    assert!(results(&place.path("again")) == results(&place.path("whole")));
}

/// The lines of the documentation for a cluster, with the variables that it sets.
#[test]
fn the_lines_for_slurm_are_parts_of_a_whole() {
    let place = Place::new();
    place.write_model("MODEL", &llama());
    place.write("data.jsonl", records(&[3, 0, 9, 12, 1, 7, 2]));
    let documented = include_str!("../../../../docs/many-machines.md");
    let lines: Vec<&str> = documented
        .lines()
        .filter(|line| line.starts_with("sbatch "))
        .collect();
    let wrapped = |line: &str| {
        format!(
            "sli() {{ \"$SLI\" \"$@\"; }}; {}",
            line.split('\'').nth(1).unwrap()
        )
    };
    let [array, merge] = lines[..] else {
        panic!("{lines:?}")
    };
    assert!(array.contains("--array=1-"));
    for index in 1..=3 {
        let set = format!("SLURM_ARRAY_TASK_ID={index}; SLURM_ARRAY_TASK_COUNT=3; ");
        place.shell("", &(set + &wrapped(array))).success();
    }
    place.shell("", &wrapped(merge)).success();
    let run = ["run", "MODEL", "--input", "data.jsonl", "--out", "whole"];
    place.sli(&run).success();
    assert!(results(&place.path("results")) == results(&place.path("whole")));
}

fn die_somewhere(child: &mut Child, random: &mut Random, most: usize) {
    (0..random.below(most)).for_each(|_| std::hint::spin_loop());
    // One that has ended cannot be killed.
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn kills_of_parts_and_of_the_merge_change_no_byte() {
    let place = Place::new();
    place.write_model("model", &mixtral());
    let lengths: Vec<usize> = (0..24).map(|n| n * 37 % 90).collect();
    place.write("in.jsonl", records(&lengths));
    let run = [
        "run",
        "model",
        "--input",
        "in.jsonl",
        "--checkpoint-interval",
        "0",
    ];
    let run = [&run[..], &ALL, &ROUTER].concat();
    place
        .sli(&[&run[..], &["--out", "whole"]].concat())
        .success();
    let mut random = Random::new(21);
    let parts = names(2);
    for (index, part) in (1..).zip(&parts) {
        let shard = format!("{index}/2");
        let run = [&run[..], &["--shard", &shard, "--out", part]].concat();
        for _ in 0..3 {
            die_somewhere(&mut start(&place, &run), &mut random, 60_000_000);
        }
        place.sli(&run).success();
    }
    let merge = ["merge", &parts[1], &parts[0], "--out", "merged"];
    let mut at_work = 0;
    for _ in 0..8 {
        die_somewhere(&mut start(&place, &merge), &mut random, 6_000_000);
        at_work += u64::from(place.path("merged/.sli").exists());
        if !place.path("merged/run.json").exists() && place.path("merged/.sli/state.json").exists()
        {
            // Half a merge is no run.
            let other = place.sli(&[&run[..], &["--out", "merged"]].concat());
            other.failure(3, &["merge was of 2 parts, is nothing"]);
        }
    }
    place.sli(&merge).success();
    assert!(at_work > 0, "no merge was killed at work");
    assert_whole(&place);
    assert!(!place.path("merged/.sli").exists());
}

#[test]
fn a_full_disk_is_5_and_the_merge_goes_on_when_there_is_space() {
    let Some(unshare) = own_mounts() else {
        eprintln!("skipped: mounting a small disk is not permitted here");
        return;
    };
    let place = Place::new();
    place.write_model("model", &mixtral());
    let lengths: Vec<usize> = (0..200).map(|n| n * 37 % 90).collect();
    place.write("in.jsonl", records(&lengths));
    let run = [&["run", "model", "--input", "in.jsonl"][..], &ALL].concat();
    compare(&place, &run, &[2]);
    fs_err::create_dir(place.path("disk")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=8k none disk
        for size in 8k 64k 400k 900k; do
            mount -o remount,size=$size disk
            "$0" merge part-1-of-2 part-2-of-2 --out disk/out 2>said
            code=$?
            [ $code = 5 ] && grep -q "no space left" said && grep -q "hint: " said || { echo $size $code; cat said; exit 1; }
        done
        mount -o remount,size=64m disk
        "$0" merge part-1-of-2 part-2-of-2 --out disk/out && cp -r disk/out again
    "#;
    let mut command = Command::new(unshare[0]);
    command.args([unshare[1], "sh", "-c", script, env!("CARGO_BIN_EXE_sli")]);
    let output = command.current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(results(&place.path("again")) == results(&place.path("whole")));
}

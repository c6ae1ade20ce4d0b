//! `sli export`: hidden states in the files of other tools.

use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float32Type, Int32Type, Int64Type};
use arrow_ipc::reader::StreamReader;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sli_testing::read_tensors;

use crate::end_to_end::results;
use crate::place::Place;

/// Records of 3, no, 1 and 5 tokens.
const RECORDS: &str = "{\"id\": \"a/b\", \"input_ids\": [3, 7, 5]}
{\"id\": \"none\", \"input_ids\": []}
{\"id\": \"one\", \"input_ids\": [4]}
{\"id\": \"long\", \"input_ids\": [9, 8, 7, 6, 5], \"labels\": [-100, 8, -100, 6, 5]}
";

fn ran(place: &Place, out: &str, takes: &[&str]) {
    place.write("in.jsonl", RECORDS);
    let run = ["run", "model", "--input", "in.jsonl", "--out", out];
    let takes: Vec<&str> = takes.iter().flat_map(|take| ["--take", take]).collect();
    place.sli(&[&run[..], &takes[..]].concat()).success();
}

/// The rows of a file of a dataset.
fn rows(path: &Path) -> RecordBatch {
    let reader = StreamReader::try_new(fs_err::File::open(path).unwrap(), None).unwrap();
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// The states of a record at a boundary, as the run wrote them.
fn states(place: &Place, boundary: &str, id: &str) -> Vec<f32> {
    let name = format!("out/hidden/decoder.{boundary}.safetensors");
    read_tensors(&place.path(&name))[id].values.clone()
}

#[test]
fn speculators_have_a_file_for_each_row_of_the_dataset() {
    let place = Place::with_llama();
    ran(&place, "out", &["scores", "hidden:0,1,last"]);
    let export = [
        "export",
        "out",
        "--format",
        "speculators",
        "--out",
        "training",
    ];
    let said = place.sli(&export).success().stderr;
    assert!(
        said.contains("3 rows") && said.contains("1 records"),
        "{said}"
    );
    let first = results(&place.path("training"));
    let dataset = rows(&place.path("training/data-00000-of-00001.arrow"));
    assert_eq!(dataset.num_rows(), 3);
    let last = json(&place.path("out/run.json"))["layer_seconds"]["decoder"]
        .as_array()
        .unwrap()
        .len();
    let boundaries = ["000".to_owned(), "001".to_owned(), format!("{last:03}")];
    for (row, id) in ["a/b", "one", "long"].into_iter().enumerate() {
        let name = format!("training/hidden_states/hs_{row}.safetensors");
        let bytes = fs_err::read(place.path(&name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = file.tensor("token_ids").unwrap();
        assert_eq!(tokens.dtype(), Dtype::I64);
        let stored = tokens.data().as_chunks().0.iter();
        let stored: Vec<i64> = stored.map(|id| i64::from_le_bytes(*id)).collect();
        let ids = dataset["input_ids"].as_list::<i32>().value(row);
        let ids = ids.as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(stored, ids);
        let length = dataset["seq_len"].as_primitive::<Int64Type>().value(row);
        assert_eq!(length, ids.len() as i64);
        let mask = dataset["loss_mask"].as_list::<i32>().value(row);
        let mask = mask.as_primitive::<Int64Type>().values();
        match id {
            "long" => assert_eq!(mask, &[0, 1, 0, 1, 1]),
            _ => assert_eq!(mask, &vec![1; ids.len()][..]),
        }
        let found = file.tensor("hidden_states").unwrap();
        let columns = found.shape()[2];
        assert_eq!(found.shape(), [ids.len(), 3, columns]);
        let values = found.data().as_chunks().0.iter();
        let values: Vec<f32> = values.map(|value| f32::from_le_bytes(*value)).collect();
        for (slot, boundary) in boundaries.iter().enumerate() {
            let expected = states(&place, boundary, id);
            for (token, expected) in expected.chunks(columns).enumerate() {
                let start = (token * 3 + slot) * columns;
                assert_eq!(&values[start..start + columns], expected);
            }
        }
    }
    let state = json(&place.path("training/state.json"));
    assert_eq!(state["_format_type"], "torch");
    // What is there stays; what is missing, or was left half written, comes back as it was.
    fs_err::remove_file(place.path("training/hidden_states/hs_1.safetensors")).unwrap();
    fs_err::remove_file(place.path("training/state.json")).unwrap();
    place.write("training/hidden_states/.hs_1.safetensors.tmp", "half");
    let said = place.sli(&export).success().stderr;
    assert!(said.contains("2 files were there"), "{said}");
    assert_eq!(results(&place.path("training")), first);
}

#[test]
fn saelens_has_pieces_of_one_length() {
    let place = Place::with_llama();
    ran(&place, "out", &["scores", "hidden:0,1"]);
    let export = ["export", "out", "--format", "saelens", "--out", "pieces"];
    place
        .sli(&export)
        .failure(2, &["different lengths", "--context-size"]);
    assert!(!place.path("pieces").exists());
    let of = |size| place.sli(&[&export[..], &["--context-size", size]].concat());
    of("6").failure(2, &["no record has 6 tokens", "smaller"]);
    of("0").failure(2, &["--context-size"]);
    of("18446744073709551615").failure(2, &["no record has"]);
    let said = of("2").success().stderr;
    assert!(
        said.contains("3 rows") && said.contains("3 records"),
        "{said}"
    );
    of("1").failure(2, &["another form", "--out"]);
    for (hook, boundary) in [("0.hook_resid_pre", "000"), ("0.hook_resid_post", "001")] {
        let folder = place.path(&format!("pieces/blocks.{hook}"));
        let found = rows(&folder.join("data-00000-of-00001.arrow"));
        let states_of = &found[format!("blocks.{hook}").as_str()];
        let pieces = [("a/b", 0, [3, 7]), ("long", 0, [9, 8]), ("long", 1, [7, 6])];
        assert_eq!(found.num_rows(), pieces.len());
        for (row, (id, piece, tokens)) in pieces.into_iter().enumerate() {
            let ids = found["token_ids"].as_fixed_size_list().value(row);
            assert_eq!(ids.as_primitive::<Int32Type>().values(), &tokens);
            let all = states(&place, boundary, id);
            let own = states_of.as_list::<i32>().value(row);
            let own = own.as_list::<i32>().values().clone();
            let own = own.as_primitive::<Float32Type>();
            // Lists of a row lie behind those of the rows before it.
            let columns = own.len() / (2 * pieces.len());
            let own = &own.values()[2 * row * columns..][..2 * columns];
            assert_eq!(own, &all[2 * piece * columns..][..2 * columns]);
        }
        let features = &json(&folder.join("dataset_info.json"))["features"];
        assert_eq!(features[format!("blocks.{hook}")]["_type"], "Array2D");
        assert_eq!(
            json(&folder.join("state.json"))["_data_files"][0]["filename"],
            "data-00000-of-00001.arrow"
        );
    }
}

#[test]
fn what_cannot_be_exported_is_said() {
    let place = Place::with_llama();
    let export =
        |results, out| place.sli(&["export", results, "--format", "speculators", "--out", out]);
    export("model", "training").failure(3, &["no finished run", "hint: "]);
    ran(&place, "scores", &["scores"]);
    export("scores", "training").failure(3, &["hidden states", "--take hidden"]);
    ran(&place, "hidden", &["hidden:last"]);
    export("hidden", "training").failure(3, &["tokens", "--take scores"]);
    ran(&place, "first", &["scores", "hidden:1"]);
    export("first", "training").failure(3, &["last layer", "last"]);
    ran(&place, "out", &["scores", "hidden:last"]);
    place.write("other/file", "of somebody");
    export("out", "other").failure(2, &["no export", "--out"]);
    assert!(place.path("other/file").exists());
    // States that a disk has damaged.
    let hidden = fs_err::read_dir(place.path("out/hidden")).unwrap();
    let hidden = hidden.map(|entry| entry.unwrap().path()).next().unwrap();
    let whole = fs_err::read(&hidden).unwrap();
    let mut infinite = whole.clone();
    let end = infinite.len();
    infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs_err::write(&hidden, &infinite).unwrap();
    export("out", "training").failure(3, &["`long`", "not finite"]);
    for length in [0, 7, 60, whole.len() - 1] {
        fs_err::write(&hidden, &whole[..length]).unwrap();
        export("out", "training").failure(3, &["decoder.", "hint: "]);
    }
    for start in [0, 8, 20] {
        let mut wrong = whole.clone();
        wrong[start..start + 8].fill(0xff);
        fs_err::write(&hidden, &wrong).unwrap();
        export("out", "training").failure(3, &["decoder.", "hint: "]);
    }
    fs_err::write(&hidden, &whole).unwrap();
    export("out", "training").success();
}

//! Coverage in both directions, with everything that is wrong in one report.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use sli_checkpoint::source::{CountingSource, MemorySource};
use sli_checkpoint::{Checkpoint, CoverageReport, Dtype, LeafProblem};
use sli_spec::{Elementwise, Leaf, Source, Split};
use support::{Tensor, bind, checkpoint, leaf, safetensors};

fn examine(tensors: &[Tensor], leaves: &[Leaf], ignored: &[&str]) -> CoverageReport {
    CoverageReport::of(&checkpoint(tensors), "model.", leaves, ignored)
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor::counting(name, shape)
}

fn plain(name: &str, shape: &[usize]) -> Leaf {
    leaf(Source::tensor(name), shape)
}

fn optional(part: &'static str, name: &str, shape: &[usize]) -> Leaf {
    Leaf {
        optional: Some(part),
        ..plain(name, shape)
    }
}

fn missing(report: &CoverageReport) -> Vec<String> {
    report
        .missing
        .iter()
        .map(|missing| missing.names.join("|"))
        .collect()
}

#[test]
fn everything_wrong_is_in_one_report() {
    let integers = Tensor::new("model.ints", Dtype::I32, &[2], vec![0; 8]);
    let quantised = Tensor::new("model.fp8", Dtype::F8E4M3, &[2, 2], vec![0; 4]);
    let report = examine(
        &[
            tensor("model.a", &[2, 3]),
            tensor("extra", &[1]),
            integers,
            quantised,
        ],
        &[
            plain("model.a", &[3, 2]),
            plain("model.b", &[2]),
            leaf(
                Source::OneOf(vec![Source::tensor("c"), Source::tensor("d")]),
                &[2],
            ),
            plain("model.ints", &[2]),
            plain("model.fp8", &[2, 2]),
        ],
        &[],
    );
    assert_eq!(missing(&report), ["model.b", "c|d"]);
    assert_eq!(report.unexpected, ["extra"]);
    let kinds: Vec<&str> = report
        .mismatched
        .iter()
        .map(|problem| match problem {
            LeafProblem::Shape { name, .. } | LeafProblem::Dtype { name, .. } => &**name,
            _ => "another problem",
        })
        .collect();
    assert_eq!(kinds, ["model.a", "model.ints", "model.fp8"]);
    assert!(!report.is_complete());
    let text = report.to_string();
    for part in [
        "missing: model.b",
        "missing: c or d",
        "unexpected: extra",
        "[2, 3]",
        "I32",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert!(report.hint().contains("config.json"), "{}", report.hint());
}

#[test]
fn nothing_but_headers_is_read() {
    let file = safetensors(&[tensor("a", &[1000, 1000])]);
    let header = file.len() as u64 - 4_000_000;
    let counting = Arc::new(CountingSource::new(
        MemorySource::new().with("model.safetensors", file),
    ));
    let checkpoint = Checkpoint::open_with(Box::new(Arc::clone(&counting))).expect("sound");
    let checkpoint = Arc::new(checkpoint);
    let leaves = [plain("a", &[1000, 1000])];
    assert!(CoverageReport::of(&checkpoint, "", &leaves, &[]).is_complete());
    assert_eq!(
        (counting.bytes(), checkpoint.bytes_read()),
        (header, header)
    );
    let leaf = bind(&checkpoint, &leaves[0]).expect("there");
    leaf.read_f32(0, 10..12).expect("read");
    assert_eq!(
        (counting.bytes(), checkpoint.bytes_read()),
        (header + 8000, header + 8000)
    );
}

#[test]
fn a_layer_too_many_is_only_ignored_where_it_predicts_several_tokens() {
    let leaves = [plain("model.layers.0.a", &[2])];
    let behind = |names: &[&str]| {
        let mut tensors = vec![tensor("model.layers.0.a", &[2])];
        tensors.extend(names.iter().map(|name| tensor(name, &[2])));
        tensors
    };
    let joins = [
        "model.layers.1.a",
        "model.layers.1.eh_proj.weight",
        "model.layers.1.enorm.weight",
        "model.layers.1.hnorm.weight",
    ];
    for pattern in ["model.layers.1.*", "*model.layers.1*"] {
        let report = examine(&behind(&joins), &leaves, &[pattern]);
        assert!(report.is_complete(), "{report}");
        assert_eq!(report.ignored.len(), 4);
        let report = examine(&behind(&joins[..1]), &leaves, &[pattern]);
        assert_eq!(report.unexpected, ["model.layers.1.a"]);
        let report = examine(&behind(&joins[..3]), &leaves, &[pattern]);
        assert_eq!(report.unexpected.len(), 3);
        // Of another layer.
        let other = [
            "model.layers.1.a",
            "model.layers.11.eh_proj.weight",
            "model.layers.11.enorm.weight",
            "model.layers.11.hnorm.weight",
        ];
        let report = examine(&behind(&other), &leaves, &["model.layers.1.*"]);
        assert_eq!(report.unexpected.len(), 4);
    }
}

#[test]
fn a_bare_base_model_lacks_the_prefix() {
    let leaves = [plain("model.a", &[2]), optional("lm_head", "lm_head", &[3])];
    let ignored = ["model.*.inv_freq"];
    let full = [
        tensor("model.a", &[2]),
        tensor("model.0.inv_freq", &[1]),
        tensor("lm_head", &[3]),
    ];
    let report = examine(&full, &leaves, &ignored);
    assert!(report.is_complete() && report.absent_optional.is_empty());
    let bare = [tensor("a", &[2]), tensor("0.inv_freq", &[1])];
    let report = examine(&bare, &leaves, &ignored);
    assert!(report.is_complete(), "{report}");
    assert_eq!(report.ignored[0].name, "0.inv_freq");
    assert_eq!(report.absent_optional, BTreeSet::from(["lm_head"]));
    let both = [tensor("model.a", &[2]), tensor("a", &[2])];
    assert_eq!(examine(&both, &leaves, &ignored).unexpected, ["a"]);
}

#[test]
fn an_optional_part_is_there_as_a_whole_or_not_at_all() {
    let leaves = [
        plain("model.a", &[2]),
        optional("pooler", "pooler.weight", &[2, 2]),
        optional("pooler", "pooler.bias", &[2]),
        optional("head", "head.weight", &[2]),
    ];
    let without = [tensor("model.a", &[2])];
    let report = examine(&without, &leaves, &[]);
    assert!(report.is_complete());
    assert_eq!(report.absent_optional, BTreeSet::from(["head", "pooler"]));
    let half = [tensor("model.a", &[2]), tensor("pooler.bias", &[2])];
    let report = examine(&half, &leaves, &[]);
    assert_eq!(missing(&report), ["pooler.weight"]);
    assert_eq!(report.missing[0].part, Some("pooler"));
    assert_eq!(report.absent_optional, BTreeSet::from(["head"]));
}

#[test]
fn every_use_of_a_tied_weight_may_have_a_copy() {
    let copy = |own: &str| {
        let all = ["first", "second", "third"].map(Source::tensor).to_vec();
        let own = Box::new(Source::tensor(own));
        leaf(Source::Tied { own, all }, &[2])
    };
    let leaves = ["first", "second", "third"].map(copy);
    let stored = |names: &[&str]| {
        let tensors: Vec<_> = names.iter().map(|name| tensor(name, &[2])).collect();
        examine(&tensors, &leaves, &[])
    };
    for names in [
        &["first"][..],
        &["third"],
        &["second", "third"],
        &["first", "second", "third"],
    ] {
        assert!(stored(names).is_complete(), "{names:?}");
    }
    assert_eq!(stored(&[]).missing.len(), 3);
    assert!(!stored(&["first", "fourth"]).is_complete());
}

#[test]
fn one_of_several_spellings() {
    let names = |names: &[&str]| Source::OneOf(names.iter().copied().map(Source::tensor).collect());
    let leaves = [leaf(names(&["gamma", "weight"]), &[2])];
    assert!(examine(&[tensor("weight", &[2])], &leaves, &[]).is_complete());
    let report = examine(
        &[tensor("weight", &[2]), tensor("gamma", &[2])],
        &leaves,
        &[],
    );
    let ambiguous = LeafProblem::Ambiguous {
        names: vec!["gamma".into(), "weight".into()],
    };
    assert_eq!(report.mismatched, [ambiguous]);
    assert!(report.unexpected.is_empty());
    // One of them fits and the other is something else.
    let report = examine(
        &[tensor("weight", &[2]), tensor("gamma", &[9])],
        &leaves,
        &[],
    );
    assert!(report.mismatched.is_empty());
    assert_eq!(report.unexpected, ["gamma"]);
    // Two spellings of the same tensor.
    let same = [leaf(names(&["model.w", "w"]), &[2])];
    assert!(examine(&[tensor("model.w", &[2])], &same, &[]).is_complete());
    // A fused tensor or its parts.
    let fused = |part| {
        let fused = Source::tensor("qkv").part(Split::Rows(vec![2, 1]), part);
        Source::OneOf(vec![fused, Source::tensor(["q", "k"][part])])
    };
    let leaves = [leaf(fused(0), &[2, 3]), leaf(fused(1), &[1, 3])];
    assert!(examine(&[tensor("qkv", &[3, 3])], &leaves, &[]).is_complete());
    assert!(examine(&[tensor("q", &[2, 3]), tensor("k", &[1, 3])], &leaves, &[]).is_complete());
}

fn each(name: &str, count: usize) -> Source {
    Source::Each {
        of: Box::new(Source::tensor(name)),
        count,
    }
}

#[test]
fn every_expert_is_looked_at() {
    let leaves = [leaf(each("e.{}.w", 4), &[4, 2, 3])];
    let expert = |i: usize| tensor(&format!("e.{i}.w"), &[2, 3]);
    assert!(examine(&(0..4).map(expert).collect::<Vec<_>>(), &leaves, &[]).is_complete());
    let report = examine(
        &[expert(1), expert(3), expert(4), tensor("x", &[1])],
        &leaves,
        &[],
    );
    assert_eq!(missing(&report), ["e.0.w", "e.2.w"]);
    assert_eq!(report.unexpected, ["e.4.w", "x"]);
    let odd = [expert(0), expert(1), tensor("e.2.w", &[3, 2]), expert(3)];
    let report = examine(&odd, &leaves, &[]);
    let [LeafProblem::Shape { name, .. }] = report.mismatched.as_slice() else {
        panic!("{report}")
    };
    assert_eq!(name, "e.2.w");
    let half = Tensor::new("e.2.w", Dtype::F16, &[2, 3], vec![0; 12]);
    let report = examine(&[expert(0), expert(1), half, expert(3)], &leaves, &[]);
    assert!(
        matches!(report.mismatched.as_slice(), [LeafProblem::Dtype { .. }]),
        "{report}"
    );
    // As many experts as a configuration likes to claim.
    let report = examine(
        &[expert(0)],
        &[leaf(each("e.{}.w", 1 << 50), &[1 << 50, 2, 3])],
        &[],
    );
    assert_eq!(report.missing.len(), 1);
}

#[test]
fn weights_of_two_axes_may_be_stacks_of_vectors() {
    let stored = [
        tensor("stacked", &[3, 4]),
        tensor("b.0", &[4]),
        tensor("b.1", &[4]),
        tensor("t", &[2, 1, 1]),
    ];
    let gate = Source::tensor("stacked").part(Split::Strided { parts: 2 }, 1);
    let t = Source::Reshape(Box::new(Source::tensor("t")));
    let leaves = [
        leaf(gate, &[3, 2]),
        leaf(each("b.{}", 2), &[2, 4]),
        leaf(t, &[2]),
    ];
    let checkpoint = checkpoint(&stored);
    let report = CoverageReport::of(&checkpoint, "", &leaves, &[]);
    assert!(report.is_complete(), "{report}");
    let [gate, biases, t] = leaves.map(|leaf| bind(&checkpoint, &leaf).expect("there"));
    assert_eq!((gate.slices(), gate.rows(), gate.columns()), (1, 3, 2));
    assert_eq!(
        gate.read_all_f32().expect("read"),
        [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
    );
    assert_eq!(gate.read_f32(0, 1..2).expect("read"), [5.0, 7.0]);
    assert_eq!(
        (biases.slices(), biases.rows(), biases.columns()),
        (1, 2, 4)
    );
    assert_eq!(
        biases.read_all_f32().expect("read"),
        [0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]
    );
    let mut out = [0; 48];
    biases.gather_rows(0, &[1, 0, 1], &mut out).expect("read");
    assert_eq!((t.rows(), t.columns()), (1, 2));
}

#[test]
fn plus_one_is_added_to_numbers_and_not_to_bytes() {
    let norm = leaf(Source::tensor("w").plus_one(), &[3]);
    let norm = bind(&checkpoint(&[tensor("w", &[3])]), &norm).expect("there");
    assert_eq!(norm.elementwise(), Some(Elementwise::PlusOne));
    assert_eq!(norm.read_f32(0, 0..1).expect("read"), [1.0, 2.0, 3.0]);
    let mut raw = [0xff; 12];
    norm.read_rows(0, 0..1, &mut raw).expect("read");
    assert_eq!(raw[..8], [0, 0, 0, 0, 0, 0, 0x80, 0x3f]);
}

#[test]
fn functions_of_numbers_are_for_vectors() {
    let stored = |name: &str, values: [f32; 2]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Tensor::new(name, Dtype::F32, &[2], bytes.collect())
    };
    let made = checkpoint(&[
        stored("decay", [-1.0, -0.5]),
        stored("norm", [1.25, 0.5]),
        tensor("matrix", &[2, 2]),
    ]);
    let read = |source: Source, shape: &[usize]| {
        let bound = bind(&made, &leaf(source, shape))?;
        bound.read_all_f32()
    };
    let decay = Source::tensor("decay").by(Elementwise::LogOfNegated);
    assert_eq!(read(decay, &[2]).expect("read"), [0.0, 0.5_f32.ln()]);
    let norm = Source::tensor("norm").by(Elementwise::MinusOne);
    assert_eq!(read(norm, &[2]).expect("read"), [0.25, -0.5]);
    let matrix = Source::tensor("matrix");
    let error = read(matrix.clone().plus_one(), &[2, 2]).expect_err("a matrix");
    assert!(error.to_string().contains("matrix"), "{error}");
    // Rows in another order, seen as one list of numbers.
    let row = |at| matrix.clone().part(Split::Rows(vec![1, 1]), at);
    let turned = Source::Reshape(Box::new(Source::ConcatRows(vec![row(1), row(0)])));
    assert_eq!(read(turned, &[4]).expect("read"), [2.0, 3.0, 0.0, 1.0]);
}

#[test]
fn tied_weights_share_a_tensor() {
    let leaves = [plain("embed", &[4, 2]), plain("embed", &[4, 2])];
    let report = examine(&[tensor("embed", &[4, 2])], &leaves, &[]);
    assert!(report.is_complete());
    assert_eq!(report.used, 1);
}

#[test]
fn a_long_report_is_cut_and_the_list_is_not() {
    let leaves: Vec<Leaf> = (0..1000).map(|i| plain(&format!("t{i}"), &[1])).collect();
    let report = examine(&[tensor("x", &[1])], &leaves, &[]);
    assert_eq!(report.missing.len(), 1000);
    let text = report.to_string();
    assert!(
        text.lines().count() < 20 && text.contains("and 988 more"),
        "{text}"
    );
}

//! What a code cannot mean is refused.

use std::sync::Arc;

use serde_json::json;
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{Checkpoint, CheckpointError, Codes, CoverageReport, Dtype, LeafProblem};
use sli_spec::Source;

use crate::stored::{
    COLUMNS, ROWS, Stored, all_of, aqlm, awq, bitnet, bitsandbytes, bytes, fp8, gemv, gptq, hqq,
    int4, mlx, mxfp4, mxfp8, numbers, nvfp4, packed, quanto, torchao,
};
use crate::support::{bind, leaf, safetensors};

#[test]
fn what_lacks_a_part_says_so() {
    for (stored, part) in [
        (fp8(), "m.weight_scale_inv"),
        (gptq(4), "m.scales"),
        (gptq(4), "m.qzeros"),
        (awq(), "m.qzeros"),
        (gemv(), "m.scales"),
        (packed(4, false), "m.weight_scale"),
        (packed(4, false), "m.weight_shape"),
        (nvfp4("modelopt"), "m.weight_scale_2"),
        (nvfp4("compressed-tensors"), "m.weight_global_scale"),
        (bitsandbytes(true), "m.weight.nested_absmax"),
        (bitsandbytes(true), "m.weight.nested_quant_map"),
        (mlx(4), "m.biases"),
        (hqq(4, 1), "m.zero"),
        (hqq(4, 1), "m.shape"),
        (hqq(3, 0), "m.nbits"),
        (bitnet(), "m.weight_scale"),
        (torchao(), "m._weight_scale"),
        (int4(), "m._weight_scale"),
        (quanto(8), "m.weight._scale"),
        (quanto(4), "m.weight._shift"),
        (aqlm(2, 8), "m.codebooks"),
        (mxfp4("quark"), "m.weight_scale"),
        (mxfp8(), "m.weight_scale"),
    ] {
        let checkpoint = stored.without(part).open();
        let leaves = [leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS])];
        let report = CoverageReport::of(&checkpoint, "", &leaves, &[]);
        let missing: Vec<&String> = report.missing.iter().flat_map(|one| &one.names).collect();
        assert_eq!(missing, [part]);
        assert!(
            report.unexpected.is_empty() && report.mismatched.is_empty(),
            "{report}"
        );
    }
}

#[test]
fn a_configuration_that_disagrees_is_refused() {
    let shape = [ROWS, COLUMNS];
    for (stored, said) in [
        (gptq(4).with("bits", json!(8)), "`bits` is 8"),
        (gptq(4).with("group_size", json!(64)), "groups of 64"),
        (
            awq().with("group_size", json!(64)),
            "the model wants [3, 96]",
        ),
        (mlx(4).with("bits", json!(8)), "scales"),
        (mlx(4).with("group_size", json!(64)), "scales"),
        (
            packed(4, true).with(
                "config_groups",
                json!({"a": {"weights": {"num_bits": 8, "strategy": "channel"}}}),
            ),
            "no group of `config_groups`",
        ),
        (
            quanto(4).with("m", json!({"weights": "qint2"})),
            "groups of codes of 2 bits",
        ),
        (
            quanto(4).with("m", json!({"weights": "qint8"})),
            "no weights of 2 or 4 bits",
        ),
        (
            quanto(8).with("m", json!({"weights": "none"})),
            "no weights of 8 bits",
        ),
        (
            aqlm(2, 8).with("num_codebooks", json!(1)),
            "has 1 codebooks",
        ),
        (aqlm(2, 8).with("nbits_per_codebook", json!(9)), "I16"),
    ] {
        let text = stored.problem(&shape);
        assert!(text.contains(said), "{text}");
    }
    // So are tensors that disagree with one another.
    let instead = |stored: Stored, name: &str, dtype: Dtype, shape: &[usize]| {
        let count = shape.iter().product::<usize>() * dtype.size_bytes().unwrap_or(1);
        let data = bytes(name, count, 1, 0);
        stored.without(name).listed(name, dtype, shape, data)
    };
    let number = |stored: Stored, name: &str, number: i32| {
        let data = numbers([number]);
        stored.without(name).listed(name, Dtype::I32, &[], data)
    };
    for (stored, said) in [
        (number(hqq(4, 1), "m.nbits", 2), "rows"),
        (number(hqq(4, 1), "m.nbits", 7), "7 bits"),
        (number(hqq(4, 1), "m.axis", 2), "along axis 2"),
        (number(hqq(4, 1), "m.group_size", 0), "do not divide"),
        (number(hqq(4, 1), "m.group_size", -3), "do not divide"),
        (number(hqq(4, 1), "m.group_size", 96), "rows"),
        (number(hqq(4, 1), "m.quant_scale", 1), "coded scales"),
        (instead(hqq(4, 1), "m.shape", Dtype::I64, &[3]), "two sides"),
        (
            instead(hqq(4, 1), "m.scale", Dtype::F32, &[3, 1]),
            "480 groups",
        ),
        (instead(hqq(4, 1), "m.zero", Dtype::F16, &[480, 1]), "F32"),
        (instead(hqq(4, 1), "m.W_q", Dtype::I32, &[240, 32]), "U8"),
        (
            instead(gemv(), "m.scales", Dtype::F32, &[ROWS, 4]),
            "have 5 scales",
        ),
        (
            instead(gemv(), "m.qweight", Dtype::I32, &[ROWS, 8]),
            "the model wants",
        ),
        (
            instead(bitnet(), "m.weight_scale", Dtype::F32, &[2]),
            "one scale",
        ),
        (
            instead(bitnet(), "m.weight", Dtype::U8, &[ROWS, COLUMNS]),
            "the model wants",
        ),
        (
            instead(torchao(), "m._weight_qdata", Dtype::U8, &[ROWS, COLUMNS]),
            "order of a kernel",
        ),
        (
            instead(torchao(), "m._weight_scale", Dtype::U8, &[ROWS, 5]),
            "order of a kernel",
        ),
        (
            instead(int4(), "m._weight_qdata", Dtype::I32, &[ROWS, 20]),
            "`Int4PlainInt32Tensor`",
        ),
        (
            int4().scales("m._weight_scale_and_zero", &[1]),
            "`Int4TilePackedTo4dTensor`",
        ),
        (
            int4().scales("m._weight_group_scale", &[1]),
            "`Int4PreshuffledTensor`",
        ),
        (
            int4().scales("m._weight_act_pre_scale", &[1]),
            "inputs are multiplied",
        ),
        (
            instead(int4(), "m._weight_scale", Dtype::F32, &[3, ROWS]),
            "groups that divide",
        ),
        (
            instead(quanto(4), "m.weight._shift", Dtype::F32, &[3, 1]),
            "480 scales",
        ),
        (
            instead(aqlm(2, 8), "m.scales", Dtype::F32, &[ROWS]),
            "a scale for each of 96",
        ),
        (
            instead(aqlm(2, 8), "m.codebooks", Dtype::F32, &[2, 255, 1, 8]),
            "2 codebooks of 256 vectors",
        ),
        (
            instead(torchao(), "m._weight_scale", Dtype::F32, &[ROWS, 3]),
            "divide",
        ),
        (
            instead(torchao(), "m._weight_zero_point", Dtype::I8, &[ROWS, 1]),
            "scales have shape",
        ),
        (
            instead(mxfp4("quark"), "m.weight_scale", Dtype::U8, &[ROWS, 1]),
            "[96, 1]",
        ),
        (
            instead(mxfp8(), "m.weight_scale", Dtype::U8, &[ROWS, 1]),
            "scales",
        ),
    ] {
        let text = stored.problem(&shape);
        assert!(text.contains(said), "{said}: {text}");
    }
    // What overrides allow is taken from the tensors.
    let wanted = leaf(Source::tensor("m.weight"), &shape);
    let other = gptq(4)
        .with("bits", json!(8))
        .with("dynamic", json!({"m": {"bits": 4}}));
    let [one, other] = [gptq(4), other].map(|stored| bind(&stored.open(), &wanted).expect("there"));
    assert_eq!(all_of(&one), all_of(&other));
}

#[test]
fn both_spellings_at_once_are_refused() {
    let stored = awq().scales("m.weight", &[ROWS, COLUMNS]);
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let error = bind(&stored.open(), &wanted).expect_err("two");
    let CheckpointError::Leaf { problem, .. } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(problem, LeafProblem::Ambiguous { .. }),
        "{problem}"
    );
}

#[test]
fn what_is_no_number_is_an_error() {
    let shape = [ROWS, COLUMNS];
    let nan = |stored: &mut Stored, name: &str| {
        stored.tensor(name).bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    for (mut stored, name) in [
        (gptq(4), "m.scales"),
        (gemv(), "m.scales"),
        (packed(4, true), "m.weight_scale"),
        (mlx(4), "m.biases"),
        (bitsandbytes(false), "m.weight.absmax"),
        (hqq(4, 1), "m.scale"),
        (hqq(4, 0), "m.zero"),
        (torchao(), "m._weight_scale"),
    ] {
        nan(&mut stored, name);
        assert!(stored.fault(&shape).contains("NaN"));
    }
    let mut broken = fp8();
    broken.tensor("m.weight").bytes[1000] = 0xff;
    assert!(broken.fault(&shape).contains("NaN"));
    // A scale of zero is one where something else than zeros is lost.
    let mut lost = fp8();
    lost.tensor("m.weight_scale_inv").bytes.fill(0);
    assert!(lost.fault(&shape).contains("scale is zero"));
    lost.tensor("m.weight").bytes.fill(0);
    let wanted = leaf(Source::tensor("m.weight"), &shape);
    assert!(
        all_of(&bind(&lost.open(), &wanted).unwrap())
            .iter()
            .all(|&number| number == 0.0)
    );
    for (mut stored, name) in [
        (gptq(4), "m.scales"),
        (awq(), "m.scales"),
        (gemv(), "m.scales"),
        (packed(4, true), "m.weight_scale"),
        (nvfp4("modelopt"), "m.weight_scale_2"),
        (nvfp4("compressed-tensors"), "m.weight_global_scale"),
        (hqq(4, 1), "m.scale"),
        (hqq(4, 0), "m.scale"),
        (torchao(), "m._weight_scale"),
    ] {
        stored.tensor(name).bytes.fill(0);
        let said = stored.fault(&shape);
        assert!(said.contains("zero") && said.contains(name), "{said}");
    }
    // What divides is no zero; a power of two may be no number.
    let mut over = bitnet().with("linear_class", json!("bitlinear"));
    over.tensor("m.weight_scale").bytes.fill(0);
    assert!(over.fault(&shape).contains("zero where it divides"));
    for mut stored in [mxfp4("quark"), mxfp8()] {
        stored.tensor("m.weight_scale").bytes[7] = 255;
        assert!(stored.fault(&shape).contains("NaN"));
    }
    let mut wild = gptq(4);
    wild.tensor("m.g_idx").bytes[..4].copy_from_slice(&99_i32.to_le_bytes());
    assert!(wild.fault(&shape).contains("a group that there is not"));
}

#[test]
fn what_changes_more_than_weights_is_refused() {
    for (config, key) in [
        (
            json!({"quant_method": "awq", "version": "gemv_fast"}),
            "version",
        ),
        (json!({"quant_method": "awq", "bits": 3}), "bits"),
        (
            json!({"quant_method": "gptq", "checkpoint_format": "marlin"}),
            "checkpoint_format",
        ),
        (
            json!({"quant_method": "gptq", "is_marlin_format": true}),
            "is_marlin_format",
        ),
        (
            json!({"quant_method": "gptq", "rotation": "hadamard"}),
            "rotation",
        ),
        (
            json!({"quant_method": "gptq", "group_size": 0}),
            "group_size",
        ),
        (
            json!({"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"a": 1}}}),
            "transform_config",
        ),
        (
            json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}),
            "sparsity_config",
        ),
        (
            json!({"quant_method": "compressed-tensors", "format": "marlin-24"}),
            "format",
        ),
        (
            json!({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}),
            "quant_algo",
        ),
        (
            json!({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf5"}),
            "bnb_4bit_quant_type",
        ),
        (
            json!({"group_size": 32, "bits": 4, "mode": "mxfp9"}),
            "mode",
        ),
        (json!({"group_size": 32, "bits": 7}), "bits"),
        (
            json!({"quant_method": "bitnet", "quantization_mode": "online"}),
            "quantization_mode",
        ),
        (
            json!({"quant_method": "bitnet", "use_rms_norm": true}),
            "use_rms_norm",
        ),
        (
            json!({"quant_method": "quark", "algo_config": [{"name": "rotation"}]}),
            "algo_config",
        ),
        (
            json!({"quant_method": "quark", "export": {"weight_format": "fake_quantized"}}),
            "weight_format",
        ),
        (json!({"quant_method": "hqq", "rank": 3}), "rank"),
        (json!({"quant_method": "torchao", "bits": 4}), "bits"),
        (
            json!({"quant_method": "quanto", "weights": "int8"}),
            "weights",
        ),
        (
            json!({"quant_method": "quanto", "m": {"weights": "qint3"}}),
            "m",
        ),
        (
            json!({"quant_method": "aqlm", "nbits_per_codebook": 17}),
            "nbits_per_codebook",
        ),
        (
            json!({"quant_method": "aqlm", "in_group_size": 0}),
            "in_group_size",
        ),
        (json!({"quant_method": "vptq"}), ""),
        (json!({"quant_method": "eetq"}), ""),
    ] {
        assert_eq!(
            Codes::declared(&config).expect_err("it is not known").key,
            key,
            "{config}"
        );
    }
}

#[test]
fn columns_that_are_not_in_the_files_are_those_of_the_model() {
    let stored = quanto(4);
    let source = MemorySource::new().with("model.safetensors", safetensors(&stored.tensors));
    let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    let codes = Codes::declared(&stored.config).expect("known");
    let other = leaf(Source::tensor("m.weight"), &[ROWS, 31]);
    let codes = codes.of_leaves([&other], "");
    checkpoint.declare(&codes).expect("readable");
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let error = bind(&Arc::new(checkpoint), &wanted).expect_err("they do not fit");
    let text = error.to_string();
    assert!(text.contains("480 groups of 32"), "{text}");
}

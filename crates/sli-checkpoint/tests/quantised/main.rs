//! Weights of every code: what is read of them in pieces is what all of them hold, whatever the pieces, and what the code
//! cannot mean is refused. That they hold the right numbers is the goldens' business.

mod refused;
mod stored;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sli_checkpoint::source::MemorySource;
use sli_checkpoint::{Checkpoint, CheckpointError, CoverageReport};
use sli_spec::{Source, Split};
use stored::{COLUMNS, ROWS, Stored, all_of, awq, bytes, every_code, gemv, gptq, quark};
use support::{bind, leaf, safetensors};

#[test]
fn pieces_are_pieces_of_the_whole() {
    for (name, stored) in every_code() {
        let checkpoint = stored.open();
        let weight = Source::tensor("m.weight");
        let whole = bind(&checkpoint, &leaf(weight.clone(), &[ROWS, COLUMNS])).expect(name);
        let all = all_of(&whole);
        let row = |at: usize| &all[at * COLUMNS..(at + 1) * COLUMNS];
        for rows in [0..1, 1..2, 31..33, 5..ROWS, ROWS - 1..ROWS] {
            let found = whole.read_f32(0, rows.clone()).expect("read");
            assert_eq!(
                found,
                rows.flat_map(row).copied().collect::<Vec<_>>(),
                "{name}"
            );
        }
        let some = [7, 95, 0, 0, 33];
        let mut out = vec![0; some.len() * whole.row_bytes()];
        whole.gather_rows(0, &some, &mut out).expect("read");
        let wanted = some.into_iter().flat_map(row);
        assert_eq!(
            out,
            wanted
                .flat_map(|number| number.to_le_bytes())
                .collect::<Vec<u8>>()
        );
        // Every third row from the second on, of the half, and that transposed within a concatenation.
        let strided = weight.clone().part(Split::Strided { parts: 3 }, 1);
        let strided = bind(&checkpoint, &leaf(strided, &[ROWS / 3, COLUMNS])).expect(name);
        let wanted = (0..ROWS / 3).flat_map(|at| row(3 * at + 1)).copied();
        assert_eq!(all_of(&strided), wanted.collect::<Vec<f32>>(), "{name}");
        let half = weight.clone().part(Split::Rows(vec![40, ROWS - 40]), 1);
        let turned = half.transpose();
        let turned = bind(&checkpoint, &leaf(turned, &[COLUMNS, ROWS - 40])).expect(name);
        let wanted = (0..COLUMNS).flat_map(|column| (40..ROWS).map(move |at| (at, column)));
        let wanted: Vec<f32> = wanted.map(|(at, column)| row(at)[column]).collect();
        assert_eq!(all_of(&turned), wanted, "{name}");
        let found = turned.read_f32(0, 33..35).expect("read");
        assert_eq!(found, wanted[33 * (ROWS - 40)..35 * (ROWS - 40)], "{name}");
    }
}

#[test]
fn every_tensor_of_a_code_is_accounted_for() {
    for (name, stored) in every_code() {
        let checkpoint = stored.open();
        let leaves = [leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS])];
        let report = CoverageReport::of(&checkpoint, "", &leaves, &[]);
        assert!(report.is_complete(), "{name}: {report}");
        assert_eq!(report.used, stored.tensors.len(), "{name}");
        // What nothing needs, nothing needs as a whole.
        let report = CoverageReport::of(&checkpoint, "", &[], &["m.weight"]);
        assert!(report.is_complete(), "{name}: {report}");
    }
}

#[test]
fn codes_and_scales_may_lie_in_different_files() {
    for (name, stored) in every_code() {
        let mut source = MemorySource::new();
        let mut map = BTreeMap::new();
        for (at, tensor) in stored.tensors.iter().enumerate() {
            let file = format!("model-{at}.safetensors");
            source = source.with(&file, safetensors(std::slice::from_ref(tensor)));
            map.insert(tensor.name.clone(), file);
        }
        let index = json!({"weight_map": map}).to_string();
        let source = source.with("model.safetensors.index.json", index.into_bytes());
        let mut sharded = Checkpoint::open_with(Box::new(source)).expect("sound");
        sharded.declare(&stored.codes()).expect("readable");
        let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        let sharded = bind(&Arc::new(sharded), &wanted).expect(name);
        let whole = bind(&stored.open(), &wanted).expect(name);
        assert_eq!(all_of(&sharded), all_of(&whole), "{name}");
    }
}

#[test]
fn lists_of_modules_decide_nothing() {
    let listed = awq().with("modules_to_not_convert", json!(["m"]));
    let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
    let [one, other] = [awq(), listed].map(|stored| bind(&stored.open(), &wanted).expect("there"));
    assert_eq!(all_of(&one), all_of(&other));
}

/// Quark's `(code - zero point) * scale`, where no golden says it.
#[test]
fn integers_of_quark_are_their_formula() {
    let in_all = |stored: Stored| {
        let stored = stored.without("m.weight_scale");
        stored.scales("m.weight_quantizer.scale", &[])
    };
    for (stored, scale, zero, step) in [
        (quark(), "m.weight_scale", Some("m.weight_zero_point"), 1),
        (
            quark().without("m.weight_zero_point"),
            "m.weight_scale",
            None,
            1,
        ),
        (
            in_all(quark().without("m.weight_zero_point")),
            "m.weight_quantizer.scale",
            None,
            0,
        ),
    ] {
        let bytes = |name: &str| {
            let tensor = stored.tensors.iter().find(|tensor| tensor.name == name);
            tensor.expect("there").bytes.clone()
        };
        let (codes, scales, zeros) = (bytes("m.weight"), bytes(scale), zero.map(bytes));
        let wanted = codes.iter().enumerate().map(|(at, &code)| {
            let own = at / COLUMNS * step;
            let scale = [0, 1, 2, 3].map(|byte| scales[4 * own + byte]);
            let zero = zeros.as_ref().map_or(0, |zeros| zeros[own] as i8);
            (i32::from(code as i8) - i32::from(zero)) as f32 * f32::from_le_bytes(scale)
        });
        let wanted: Vec<f32> = wanted.collect();
        let whole = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        assert_eq!(all_of(&bind(&stored.open(), &whole).unwrap()), wanted);
    }
    // Neither groups of columns nor integers of fewer bits.
    let grouped = quark().without("m.weight_scale");
    let grouped = grouped.scales("m.weight_scale", &[ROWS, COLUMNS / 32]);
    let said = grouped.problem(&[ROWS, COLUMNS]);
    assert!(said.contains("m.weight_scale"), "{said}");
}

#[test]
fn symmetric_files_may_store_the_middle_either_way() {
    let middle = |nibbles: u8, config: &[(&str, Value)]| {
        let mut stored = gptq(4);
        for (key, value) in config {
            stored = stored.with(key, value.clone());
        }
        stored.tensor("m.qzeros").bytes.fill(nibbles);
        let wanted = leaf(Source::tensor("m.weight"), &[ROWS, COLUMNS]);
        all_of(&bind(&stored.open(), &wanted).expect("there"))
    };
    let symmetric = ("sym", json!(true));
    let wanted = middle(0x77, std::slice::from_ref(&symmetric));
    assert_eq!(middle(0x88, &[symmetric]), wanted);
    assert_eq!(
        middle(0x88, &[("checkpoint_format", json!("gptq_v2"))]),
        wanted
    );
    assert_ne!(middle(0x88, &[("sym", json!(false))]), wanted);
    // Less than zero is the largest, within the bits.
    let wrapped = middle(0xff, &[("sym", json!(false))]);
    assert_eq!(
        wrapped,
        middle(0x00, &[("checkpoint_format", json!("gptq_v2"))])
    );
}

#[test]
fn weights_behind_a_scaled_activation_are_divided() {
    for plain in [awq(), gemv()] {
        let renamed = |name: &str| name.replace("m.", "m.c_proj.");
        let mut stored = plain.clone().scales("m.act.scales", &[COLUMNS]);
        for tensor in stored
            .tensors
            .iter_mut()
            .filter(|tensor| tensor.name != "m.act.scales")
        {
            tensor.name = renamed(&tensor.name);
        }
        // The same bytes, under their other names.
        let divisors = bytes("m.act.scales", COLUMNS, 127, 0);
        let divisor = |column: usize| 1.0 + f32::from(divisors[column]) / 128.0;
        let weight = |name: &str| leaf(Source::tensor(name), &[ROWS, COLUMNS]);
        let [found, whole] = [(&stored, "m.c_proj.weight"), (&plain, "m.weight")]
            .map(|(stored, name)| bind(&stored.open(), &weight(name)).expect("there"));
        let wanted = all_of(&whole).into_iter().enumerate();
        let wanted: Vec<f32> = wanted
            .map(|(at, number)| number / divisor(at % COLUMNS))
            .collect();
        assert_eq!(all_of(&found), wanted);
        let rows = found.read_f32(0, 5..41).expect("read");
        assert_eq!(rows, wanted[5 * COLUMNS..41 * COLUMNS]);
        let leaves = [weight("m.c_proj.weight")];
        let report = CoverageReport::of(&stored.open(), "", &leaves, &[]);
        assert!(report.is_complete(), "{report}");
        // Of no scale is anything left.
        let mut lost = stored.clone();
        lost.tensor("m.act.scales").bytes[..4].fill(0);
        let lost = bind(&lost.open(), &weight("m.c_proj.weight")).expect("there");
        assert!(matches!(
            lost.read_all_f32(),
            Err(CheckpointError::Undecodable { .. })
        ));
    }
}

//! Coded weights: whatever is asked of them gives the numbers of the same weights stored as decoded floats.

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use sli_checkpoint::source::{CountingSource, MemorySource};
use sli_checkpoint::{
    BoundLeaf, Checkpoint, CheckpointError, Codes, CoverageReport, Dtype, LeafProblem,
};
use sli_spec::{Leaf, Source, Split};
use support::{Tensor, bind, checkpoint, leaf, safetensors};

/// A float of 8 bits, from its definition: sign, 4 bits of exponent with bias 7, 3 of mantissa.
fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (bits >> 3 & 15, f32::from(bits & 7) / 8.0);
    let magnitude = match exponent {
        0 => mantissa / 64.0,
        _ => (1.0 + mantissa) * 2.0_f32.powi(i32::from(exponent) - 7),
    };
    if bits >> 7 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// A matrix or a stack of matrices of codes, with its scales, and the same as floats.
struct Maker {
    block: [usize; 2],
    scales: Dtype,
    coded: Vec<Tensor>,
    plain: Vec<Tensor>,
}

impl Maker {
    fn new(block: [usize; 2], scales: Dtype) -> Self {
        Self {
            block,
            scales,
            coded: Vec::new(),
            plain: Vec::new(),
        }
    }

    fn with(mut self, name: &str, shape: &[usize]) -> Self {
        let (leading, own) = shape.split_at(shape.len() - 2);
        let grid = [
            own[0].div_ceil(self.block[0]),
            own[1].div_ceil(self.block[1]),
        ];
        let slices: usize = leading.iter().product();
        let seed = name
            .bytes()
            .fold(7_u64, |sum, byte| sum * 31 + u64::from(byte));
        let dice = |at: usize| (seed + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let count: usize = shape.iter().product();
        // Neither 0x7f nor 0xff, which are no numbers.
        let codes: Vec<u8> = (0..count).map(|at| (dice(at) as u8) & !1).collect();
        let (mut scales, mut bytes) = (Vec::new(), Vec::new());
        for at in 0..slices * grid[0] * grid[1] {
            let power = (dice(at + 1_000_000) % 9) as i32 - 4;
            let odd = 1.0 + (dice(at + 2_000_000) % 128) as f32 / 128.0;
            let (scale, stored) = match self.scales {
                Dtype::F32 => (odd * 2.0_f32.powi(power), None),
                Dtype::Bf16 => {
                    let scale = odd * 2.0_f32.powi(power);
                    (scale, Some(scale.to_le_bytes()[2..].to_vec()))
                }
                _ => (2.0_f32.powi(power), Some(vec![(power + 127) as u8])),
            };
            scales.push(scale);
            bytes.extend(stored.unwrap_or_else(|| scale.to_le_bytes().to_vec()));
        }
        let numbers = codes.iter().enumerate().flat_map(|(at, &code)| {
            let (slice, within) = (at / (own[0] * own[1]), at % (own[0] * own[1]));
            let (row, column) = (within / own[1], within % own[1]);
            let scale = (slice * grid[0] + row / self.block[0]) * grid[1] + column / self.block[1];
            (e4m3(code) * scales[scale]).to_le_bytes()
        });
        self.plain
            .push(Tensor::new(name, Dtype::F32, shape, numbers.collect()));
        let grid = [leading, &grid].concat();
        let scales = Tensor::new(&format!("{name}_scale_inv"), self.scales, &grid, bytes);
        self.coded
            .extend([Tensor::new(name, Dtype::F8E4M3, shape, codes), scales]);
        self
    }

    fn codes(&self) -> Codes {
        let config = serde_json::json!({ "quant_method": "fp8", "weight_block_size": self.block });
        Codes::declared(&config).expect("known")
    }

    /// The coded checkpoint, what it reads, and the plain one.
    fn open(
        &self,
    ) -> (
        Arc<Checkpoint>,
        Arc<CountingSource<MemorySource>>,
        Arc<Checkpoint>,
    ) {
        let file = safetensors(&self.coded);
        let source = MemorySource::new().with("model.safetensors", file);
        let counting = Arc::new(CountingSource::new(source));
        let mut coded = Checkpoint::open_with(Box::new(Arc::clone(&counting))).expect("sound");
        coded.declare(&self.codes()).expect("sound");
        (Arc::new(coded), counting, checkpoint(&self.plain))
    }

    /// Reads all of a leaf in every way from both.
    fn check(&self, wanted: &Leaf) {
        let (coded, counting, plain) = self.open();
        let [coded, plain] = [coded, plain].map(|from| bind(&from, wanted).expect("there"));
        let same = |slice: usize, rows: std::ops::Range<usize>| {
            counting.reset();
            let found = coded.read_f32(slice, rows.clone()).expect("read");
            assert_eq!(
                found,
                plain.read_f32(slice, rows.clone()).expect("read"),
                "{wanted:?} {slice} {rows:?}"
            );
            if slice == 0 {
                assert_eq!(counting.bytes(), coded.stored_bytes(rows));
            }
        };
        let rows = coded.rows();
        for slice in 0..coded.slices() {
            same(slice, 0..rows);
            same(slice, rows / 3..rows - rows / 4);
            same(slice, rows - 1..rows);
            let some: Vec<usize> = (0..rows).rev().step_by(3).chain([0, 0]).collect();
            let gathered = |leaf: &BoundLeaf| {
                let mut out = vec![0; some.len() * leaf.row_bytes()];
                leaf.gather_rows(slice, &some, &mut out).expect("read");
                out
            };
            counting.reset();
            assert_eq!(gathered(&coded), gathered(&plain));
            assert_eq!(
                counting.bytes(),
                coded.gathered_bytes(slice, &some).expect("there")
            );
        }
    }
}

fn tensor(name: &str) -> Source {
    Source::tensor(name)
}

#[test]
fn every_expression_gives_the_decoded_numbers() {
    let maker = |scales| {
        Maker::new([8, 16], scales)
            .with("a", &[24, 40])
            .with("b", &[12, 40])
            .with("thin", &[1, 40])
            .with("tall", &[30, 1])
            .with("stack", &[3, 20, 33])
            .with("e.0.w", &[20, 33])
            .with("e.1.w", &[20, 33])
    };
    let each = Source::Each {
        of: Box::new(tensor("e.{}.w")),
        count: 2,
    };
    let index = Source::Index {
        of: Box::new(tensor("stack")),
        index: 2,
    };
    let rope = Source::RopePermute {
        of: Box::new(tensor("a")),
        head_dim: 12,
    };
    let rows = Split::Rows(vec![5, 12, 7]);
    let heads = Split::PerHead { heads: 2, parts: 3 };
    let groups = Split::Grouped {
        groups: 2,
        queries: 4,
    };
    let strided = || Split::Strided { parts: 2 };
    let below = Source::ConcatRows(vec![tensor("b"), tensor("a")]);
    let beside = Source::ConcatColumns(vec![tensor("stack"), tensor("stack")]);
    for scales in [Dtype::F32, Dtype::Bf16, Dtype::F8E8M0, Dtype::U8] {
        let maker = maker(scales);
        for (source, shape) in [
            (tensor("a"), vec![24, 40]),
            (tensor("thin"), vec![1, 40]),
            (tensor("tall"), vec![30, 1]),
            (tensor("a").transpose(), vec![40, 24]),
            (tensor("thin").transpose(), vec![40, 1]),
            (tensor("tall").transpose(), vec![1, 30]),
            (tensor("stack"), vec![3, 20, 33]),
            (tensor("stack").transpose(), vec![3, 33, 20]),
            (each.clone(), vec![2, 20, 33]),
            (index.clone(), vec![20, 33]),
            (tensor("a").part(rows.clone(), 1), vec![12, 40]),
            (tensor("a").part(heads.clone(), 2), vec![8, 40]),
            (tensor("a").part(groups.clone(), 0), vec![16, 40]),
            (tensor("a").part(strided(), 1), vec![12, 40]),
            (tensor("stack").part(strided(), 1), vec![3, 10, 33]),
            (tensor("a").transpose().part(strided(), 1), vec![20, 24]),
            (tensor("a").part(strided(), 0).transpose(), vec![40, 12]),
            (rope.clone(), vec![24, 40]),
            (below.clone(), vec![36, 40]),
            (beside.clone(), vec![3, 20, 66]),
            (Source::Reshape(Box::new(tensor("a"))), vec![24, 40]),
        ] {
            maker.check(&leaf(source, &shape));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn blocks_need_not_divide_the_matrix(
        rows in 1_usize..70, columns in 1_usize..70, high in 1_usize..80, wide in 1_usize..80,
    ) {
        let maker = Maker::new([high, wide], Dtype::F32).with("w", &[rows, columns]);
        maker.check(&leaf(tensor("w"), &[rows, columns]));
        maker.check(&leaf(tensor("w").transpose(), &[columns, rows]));
    }
}

/// More than is read at a time.
#[test]
fn large_weights_are_read_in_pieces() {
    let shape = [1500, 1700];
    let maker = Maker::new([128, 128], Dtype::F32).with("w", &shape);
    maker.check(&leaf(tensor("w"), &shape));
    let (coded, counting, plain) = maker.open();
    let turned = leaf(tensor("w").transpose(), &[1700, 1500]);
    let [coded, plain] = [coded, plain].map(|from| bind(&from, &turned).expect("there"));
    counting.reset();
    assert_eq!(
        coded.read_all_f32().expect("read"),
        plain.read_all_f32().expect("read")
    );
    assert_eq!(counting.bytes(), coded.total_bytes());
}

fn problem(maker: &Maker, codes: &Codes, wanted: &Leaf) -> LeafProblem {
    let source = MemorySource::new().with("model.safetensors", safetensors(&maker.coded));
    let mut checkpoint = Checkpoint::open_with(Box::new(source)).expect("sound");
    checkpoint.declare(codes).expect("sound");
    match bind(&Arc::new(checkpoint), wanted).expect_err("it does not fit") {
        CheckpointError::Leaf { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn what_the_code_cannot_mean_is_refused() {
    let maker = Maker::new([8, 8], Dtype::F32).with("w", &[20, 20]);
    let plain = leaf(tensor("w"), &[20, 20]);
    // The configuration counts other blocks than the scales.
    let other = Maker::new([10, 10], Dtype::F32).codes();
    let text = problem(&maker, &other, &plain).to_string();
    assert!(
        text.contains("blocks of 10 x 10 have 2 x 2 scales"),
        "{text}"
    );
    let null = serde_json::json!({ "quant_method": "fp8", "weight_block_size": null });
    let text = problem(&maker, &Codes::declared(&null).unwrap(), &plain).to_string();
    assert!(text.contains("one scale"), "{text}");
    // No scales.
    let mut lacking = Maker::new([8, 8], Dtype::F32).with("w", &[20, 20]);
    lacking.coded.truncate(1);
    let missing = problem(&lacking, &lacking.codes(), &plain).to_string();
    assert!(missing.contains("w_scale_inv"), "{missing}");
    let mut integers = Maker::new([8, 8], Dtype::F32).with("w", &[20, 20]);
    integers.coded[1].dtype = Dtype::I32;
    let text = problem(&integers, &integers.codes(), &plain).to_string();
    assert!(text.contains("I32"), "{text}");
    // Other shapes than its own.
    let reshaped = leaf(Source::Reshape(Box::new(tensor("w"))), &[10, 40]);
    let text = problem(&maker, &maker.codes(), &reshaped).to_string();
    assert!(text.contains("coded"), "{text}");
    let joined = Source::Reshape(Box::new(Source::ConcatRows(vec![tensor("w"), tensor("w")])));
    let text = problem(&maker, &maker.codes(), &leaf(joined, &[20, 40])).to_string();
    assert!(text.contains("coded"), "{text}");
    // Nothing is declared.
    let text = problem(&maker, &Codes::default(), &plain).to_string();
    assert!(text.contains("F8_E4M3"), "{text}");
    let other = serde_json::json!({ "quant_method": "unheard of", "bits": 4 });
    assert!(
        Codes::declared(&other)
            .unwrap_err()
            .reason
            .contains("not read yet")
    );
}

#[test]
fn one_scale_for_all() {
    let codes =
        Codes::declared(&serde_json::json!({ "quant_method": "fp8", "weight_block_size": null }));
    let codes = codes.unwrap();
    for shape in [vec![], vec![1], vec![1, 1]] {
        let mut maker = Maker::new([20, 30], Dtype::Bf16).with("w", &[20, 30]);
        maker.coded[1].shape = shape;
        let source = MemorySource::new().with("model.safetensors", safetensors(&maker.coded));
        let mut coded = Checkpoint::open_with(Box::new(source)).expect("sound");
        coded.declare(&codes).expect("sound");
        let wanted = leaf(tensor("w"), &[20, 30]);
        let [coded, plain] = [Arc::new(coded), checkpoint(&maker.plain)]
            .map(|from| bind(&from, &wanted).expect("there"));
        assert_eq!(
            coded.read_all_f32().expect("read"),
            plain.read_all_f32().expect("read")
        );
    }
}

#[test]
fn scales_are_part_of_the_weight() {
    let maker = Maker::new([8, 8], Dtype::F32)
        .with("w", &[20, 20])
        .with("v", &[20, 20]);
    let (coded, _, _) = maker.open();
    let leaves = [leaf(tensor("w"), &[20, 20])];
    let report = CoverageReport::of(&coded, "", &leaves, &[]);
    assert_eq!(
        (report.used, report.unexpected),
        (2, vec!["v".to_owned(), "v_scale_inv".to_owned()])
    );
    assert!(report.mismatched.is_empty());
    // A changed scale is seen when the weight is read again.
    let wanted = &leaves[0];
    let ledger = |coded: &Arc<Checkpoint>, saved: Option<Vec<u8>>| {
        let ledger = coded.keep_ledger();
        assert!(saved.is_none_or(|saved| ledger.restore(&saved)));
        let read = bind(coded, wanted).and_then(|leaf| leaf.read_all_f32());
        (read.map(drop), coded.keep_ledger().save())
    };
    let (read, saved) = ledger(&coded, None);
    read.expect("read");
    let (again, _, _) = maker.open();
    ledger(&again, saved.clone()).0.expect("the same");
    let mut changed = maker;
    changed.coded[1].bytes[3] ^= 1;
    let error = ledger(&changed.open().0, saved)
        .0
        .expect_err("another scale");
    assert!(matches!(error, CheckpointError::Changed { .. }), "{error}");
}

//! The matrix product: against f64, and the same bits however it is cut.

mod reference;

use half::{bf16, f16};
use reference::{Random, all_kernels, assert_close, assert_same_bits, to_bf16};
use sli_kernels::{
    Compute, Element, Kernels, Mat, PackedActivations, PackedKind, PackedWeights, Store,
};

const KINDS: [PackedKind; 4] = [
    PackedKind::F32,
    PackedKind::F16,
    PackedKind::Bf16,
    PackedKind::Bf16Dot,
];

/// Random weights as stored bytes of `element`, and their values.
fn stored(random: &mut Random, count: usize, element: Element) -> (Vec<u8>, Vec<f64>) {
    let mut raw = Vec::new();
    let mut values = Vec::new();
    for _ in 0..count {
        let x = random.unit();
        match element {
            Element::F64 => {
                raw.extend(f64::from(x).to_le_bytes());
                values.push(f64::from(x));
            }
            Element::F32 => {
                raw.extend(x.to_le_bytes());
                values.push(f64::from(x));
            }
            Element::F16 => {
                raw.extend(f16::from_f32(x).to_le_bytes());
                values.push(f16::from_f32(x).to_f64());
            }
            Element::Bf16 => {
                raw.extend(bf16::from_f32(x).to_le_bytes());
                values.push(bf16::from_f32(x).to_f64());
            }
        }
    }
    (raw, values)
}

fn check_against_f64(kernels: &Kernels, random: &mut Random, m: usize, n: usize, k: usize) {
    for element in [Element::F64, Element::F32, Element::F16, Element::Bf16] {
        for compute in [Compute::F32, Compute::Bf16] {
            let kind = PackedKind::for_weights(element, compute);
            let (raw, values) = stored(random, n * k, element);
            let mut w = PackedWeights::new(n, k, kind);
            w.pack_rows(0, &raw, element);
            let x = random.mat(m, k);
            let bias = random.vec(n);
            let before = random.mat(m, n);
            let mut out = before.clone();
            kernels.gemm(x.view(), &w, Some(&bias), Store::Add, out.view_mut());
            let rounded = kind == PackedKind::Bf16Dot;
            for i in 0..m {
                for j in 0..n {
                    let product: f64 = (0..k)
                        .map(|l| {
                            let (a, b) = (x.row(i)[l], values[j * k + l]);
                            if rounded {
                                f64::from(to_bf16(a)) * f64::from(to_bf16(b as f32))
                            } else {
                                f64::from(a) * b
                            }
                        })
                        .sum();
                    let expected = product + f64::from(bias[j]) + f64::from(before.row(i)[j]);
                    let what =
                        format!("{kernels:?} {element:?} {kind:?} [{m}, {n}, {k}] at [{i}, {j}]");
                    assert_close(out.row(i)[j], expected, 2e-7 * (k as f64 + 8.0), &what);
                }
            }
        }
    }
}

#[test]
fn agrees_with_f64() {
    for [one, two] in all_kernels(Compute::F32) {
        let mut random = Random(1);
        for (m, n, k) in [
            (1, 1, 1),
            (1, 33, 2),
            (3, 31, 3),
            (15, 65, 77),
            (29, 100, 513),
            (0, 5, 5),
            (2, 3, 0),
        ] {
            check_against_f64(&one, &mut random, m, n, k);
        }
        for m in 1..=30 {
            let (n, k) = (1 + random.below(300), 1 + random.below(40));
            check_against_f64(&two, &mut random, m, n, k);
        }
    }
}

#[test]
fn same_bits_however_it_is_cut() {
    for [one, two] in all_kernels(Compute::F32) {
        let mut random = Random(2);
        for round in 0..24 {
            let kind = KINDS[round % 4];
            let m = 1 + random.below(if round < 12 { 40 } else { 500 });
            let (n, k) = (1 + random.below(400), 1 + random.below(1300));
            let x = random.mat(m, k);
            let w = random.mat(n, k);
            let bias = random.vec(n);
            let before = random.mat(m, n);
            let mode = random.one_of(&[Store::Set, Store::Add]);
            let what = format!("{one:?} {kind:?} {mode:?} [{m}, {n}, {k}]");

            let mut whole = PackedWeights::new(n, k, kind);
            whole.pack_rows_f32(0, w.as_slice());
            let mut expected = before.clone();
            one.gemm(x.view(), &whole, Some(&bias), mode, expected.view_mut());

            // Packed in pieces and out of order, two threads, rows and columns cut anywhere.
            let mut out = before.clone();
            for columns in random.cuts(n) {
                let mut part =
                    PackedWeights::new(1 + random.below(90), 1 + random.below(900), kind);
                part.pack_rows_f32(0, &vec![f32::NAN; part.n() * part.k()]);
                part.reset(columns.len(), k, kind);
                let mut pieces = random.cuts(columns.len());
                pieces.reverse();
                for rows in pieces {
                    let from = &w.as_slice()
                        [(columns.start + rows.start) * k..(columns.start + rows.end) * k];
                    if round % 3 == 0 {
                        two.pack_rows(
                            &mut part,
                            rows.start,
                            bytemuck::cast_slice(from),
                            Element::F32,
                        );
                    } else {
                        part.pack_rows_f32(rows.start, from);
                    }
                }
                for rows in random.cuts(m) {
                    let view = out
                        .view_mut()
                        .rows_range(rows.clone())
                        .cols_range(columns.clone());
                    two.gemm(
                        x.rows_view(rows),
                        &part,
                        Some(&bias[columns.clone()]),
                        mode,
                        view,
                    );
                }
            }
            assert_same_bits(&out, &expected, &what);

            // Row by row.
            let mut out = before.clone();
            for row in 0..m.min(20) {
                let view = out.view_mut().rows_range(row..row + 1);
                one.gemm(x.rows_view(row..row + 1), &whole, Some(&bias), mode, view);
            }
            let head =
                |mat: &Mat| Mat::from_vec(m.min(20), n, mat.as_slice()[..m.min(20) * n].to_vec());
            assert_same_bits(&head(&out), &head(&expected), &what);

            // Packed activations.
            let mut out = before.clone();
            let mut packed = PackedActivations::new();
            two.pack_activations(x.view(), kind, &mut packed);
            assert!(packed.bytes() >= PackedActivations::bytes_for(m, k, kind));
            two.gemm_packed(&packed, &whole, Some(&bias), mode, out.view_mut());
            assert_same_bits(&out, &expected, &what);
        }
    }
}

#[test]
fn exactly_representable_weights_are_packed_without_loss() {
    let mut random = Random(3);
    for (element, kind) in [
        (Element::F16, PackedKind::F16),
        (Element::Bf16, PackedKind::Bf16),
    ] {
        let (n, k) = (70, 301);
        let (raw, values) = stored(&mut random, n * k, element);
        let widened: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let x = random.mat(9, k);
        for [one, _] in all_kernels(Compute::F32) {
            let outputs = [kind, PackedKind::F32].map(|kind| {
                let mut w = PackedWeights::new(n, k, kind);
                if kind == PackedKind::F32 {
                    w.pack_rows_f32(0, &widened);
                } else {
                    // Unaligned.
                    let mut shifted = vec![0];
                    shifted.extend(&raw);
                    w.pack_rows(0, &shifted[1..], element);
                }
                let mut out = Mat::new(9, n);
                one.gemm(x.view(), &w, None, Store::Set, out.view_mut());
                out
            });
            assert_same_bits(&outputs[0], &outputs[1], "widened in the kernel or before");
        }
    }
}

#[test]
fn packing_rounds_to_the_nearest_even_bf16() {
    // The identity picks the weights out again.
    let values = [
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
        -1.001,
        3.0e38,
        f32::NAN,
    ];
    for [one, _] in all_kernels(Compute::Bf16) {
        let mut w = PackedWeights::new(values.len(), 1, PackedKind::Bf16Dot);
        w.pack_rows_f32(0, &values);
        let mut out = Mat::new(1, values.len());
        one.gemm(
            Mat::from_vec(1, 1, vec![1.0]).view(),
            &w,
            None,
            Store::Set,
            out.view_mut(),
        );
        assert_eq!(out.row(0)[..4], values.map(to_bf16)[..4]);
        assert!(out.row(0)[4].is_nan());
    }
}

#[test]
fn a_shape_of_nothing_is_only_the_bias() {
    let kernels = Kernels::new(2, Compute::F32);
    let w = PackedWeights::new(3, 0, PackedKind::F32);
    let mut out = Mat::from_vec(2, 3, vec![9.0; 6]);
    kernels.gemm(
        Mat::new(2, 0).view(),
        &w,
        Some(&[1.0, 2.0, 3.0]),
        Store::Set,
        out.view_mut(),
    );
    assert_eq!(out.as_slice(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}

#[test]
fn half_a_pair_brings_nothing_in() {
    for [one, _] in all_kernels(Compute::F32) {
        let mut random = Random(9);
        let (m, n) = (5, 40);
        for k in [1, 7, 255, 257, 511] {
            let values: Vec<f32> = (0..n * k).map(|_| to_bf16(random.unit())).collect();
            let x = random.mat(m, k);
            let product = |kind| {
                // What lies behind the activations in the reused memory would show.
                let mut out = Mat::new(m, n);
                let mut worst = Mat::new(m, k + 1);
                worst.as_mut_slice().fill(f32::NAN);
                let w = PackedWeights::new(n, k + 1, kind);
                one.gemm(worst.view(), &w, None, Store::Set, out.view_mut());
                let mut w = PackedWeights::new(n, k, kind);
                w.pack_rows_f32(0, &values);
                one.gemm(x.view(), &w, None, Store::Set, out.view_mut());
                out
            };
            // Widened exactly and multiplied in the same order.
            let what = format!("{one:?} [{m}, {n}, {k}]");
            assert_same_bits(&product(PackedKind::Bf16), &product(PackedKind::F32), &what);
        }
    }
}

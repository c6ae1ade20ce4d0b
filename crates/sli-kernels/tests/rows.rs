//! Row-wise kernels: against f64, and the same bits for any rows and threads.

mod reference;

use reference::{Random, all_kernels, assert_close, assert_same_bits};
use sli_kernels::{
    Activation, Clamped, Compute, Kernels, LSE_BLOCK, LseState, Mat, RotaryShape, RotaryStyle,
    Taps, TopK,
};

const WIDTHS: [usize; 9] = [1, 3, 7, 8, 16, 33, 64, 100, 517];

/// Runs `f` on a whole matrix with two threads and on its rows one by one, and compares the bits.
fn check_rows(
    random: &mut Random,
    kernels: &[Kernels; 2],
    cols: usize,
    f: impl Fn(&Kernels, usize, &mut Mat),
) -> Mat {
    let [one, two] = kernels;
    let rows = 1 + random.below(40);
    let input = random.mat(rows, cols);
    let mut whole = input.clone();
    f(two, 0, &mut whole);
    let mut single = Mat::new(rows, cols);
    for row in 0..rows {
        let mut part = Mat::from_vec(1, cols, input.row(row).to_vec());
        f(one, row, &mut part);
        single.row_mut(row).copy_from_slice(part.row(0));
    }
    assert_same_bits(&whole, &single, &format!("{two:?} [{rows}, {cols}]"));
    f(two, 0, &mut Mat::new(0, cols));
    input
}

#[test]
fn norms_agree_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(7);
        for cols in WIDTHS {
            for heads in [1, 3] {
                let cols = cols * heads;
                let dim = cols / heads;
                let shared = random.below(2) == 0;
                let weight = random.vec(if shared { dim } else { cols });
                let bias = random.vec(weight.len());
                let eps = 1e-3;
                for kind in 0..3 {
                    let run = |kernels: &Kernels, x: &mut Mat| match kind {
                        0 => kernels.rms_norm_heads(heads, Some(&weight), eps, x.view_mut()),
                        1 => kernels.layer_norm_heads(
                            heads,
                            Some(&weight),
                            Some(&bias),
                            eps,
                            x.view_mut(),
                        ),
                        _ => kernels.l2_norm_heads(heads, eps, x.view_mut()),
                    };
                    let input =
                        check_rows(&mut random, &kernels, cols, |kernels, _, x| run(kernels, x));
                    let mut out = input.clone();
                    run(&kernels[0], &mut out);
                    if heads == 1 {
                        let mut apart = Mat::new(input.rows(), cols);
                        match kind {
                            0 => kernels[1].rms_norm(
                                input.view(),
                                Some(&weight),
                                eps,
                                apart.view_mut(),
                            ),
                            1 => kernels[1].layer_norm(
                                input.view(),
                                Some(&weight),
                                Some(&bias),
                                eps,
                                apart.view_mut(),
                            ),
                            _ => apart = out.clone(),
                        }
                        assert_same_bits(&out, &apart, "in place or not");
                    }
                    for row in 0..input.rows() {
                        for head in 0..heads {
                            let x: Vec<f64> = input.row(row)[head * dim..(head + 1) * dim]
                                .iter()
                                .map(|&x| f64::from(x))
                                .collect();
                            let mean = x.iter().sum::<f64>() / dim as f64;
                            let square =
                                |shift: f64| x.iter().map(|x| (x - shift).powi(2)).sum::<f64>();
                            for (i, x) in x.iter().enumerate() {
                                let at = if shared { i } else { head * dim + i };
                                let (w, b) = (f64::from(weight[at]), f64::from(bias[at]));
                                let eps = f64::from(eps);
                                let expected = match kind {
                                    0 => x / (square(0.0) / dim as f64 + eps).sqrt() * w,
                                    1 => {
                                        (x - mean) / (square(mean) / dim as f64 + eps).sqrt() * w
                                            + b
                                    }
                                    _ => x / (square(0.0) + eps).sqrt(),
                                };
                                let got = out.row(row)[head * dim + i];
                                assert_close(
                                    got,
                                    expected,
                                    4e-6,
                                    &format!("norm {kind} of {cols} in {heads}"),
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The error function by its series and continued fraction.
fn erf(x: f64) -> f64 {
    let t = x.abs();
    let value = if t < 2.5 {
        let (mut term, mut sum) = (t, t);
        for n in 1..200 {
            term *= -t * t / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        1.0 - erfc(t)
    };
    value.copysign(x)
}

/// The complementary error function for `t >= 2`.
fn erfc(t: f64) -> f64 {
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (t + fraction);
    }
    (-t * t).exp() / std::f64::consts::PI.sqrt() / (t + fraction)
}

fn expected_activation(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let hard = |x: f64| (x + 3.0).clamp(0.0, 6.0) / 6.0;
    let gelu = |x: f64| {
        let z = x / std::f64::consts::SQRT_2;
        if z < -2.0 {
            0.5 * x * erfc(-z)
        } else {
            0.5 * x * (1.0 + erf(z))
        }
    };
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu2 => x.max(0.0).powi(2),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::LeakyRelu => {
            if x < 0.0 {
                x * f64::from(0.01_f32)
            } else {
                x
            }
        }
        Activation::Gelu => gelu(x),
        Activation::Gelu10 => gelu(x).clamp(-10.0, 10.0),
        Activation::GeluTanh => {
            x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3)))
        }
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => softplus(x),
        Activation::Elu => {
            if x < 0.0 {
                x.exp_m1()
            } else {
                x
            }
        }
        Activation::Mish => x * softplus(x).tanh(),
        Activation::HardSwish => x * hard(x),
        Activation::HardSigmoid => hard(x),
        Activation::Laplace => {
            0.5 * (1.0
                + erf((x - f64::from(707_107_u32) / 1e6) / (0.282_095 * std::f64::consts::SQRT_2)))
        }
        Activation::Xielu {
            alpha_p,
            alpha_n,
            beta,
            eps,
        } => {
            let [alpha_p, alpha_n, beta, eps] = [alpha_p, alpha_n, beta, eps].map(f64::from);
            if x > 0.0 {
                alpha_p * x * x + beta * x
            } else {
                (x.min(eps).exp_m1() - x) * alpha_n + beta * x
            }
        }
    }
}

#[test]
fn activations_are_accurate() {
    let names = [
        "linear",
        "relu",
        "relu2",
        "relu6",
        "leaky_relu",
        "gelu",
        "gelu_10",
        "gelu_new",
        "gelu_fast",
        "gelu_python",
        "gelu_pytorch_tanh",
        "gelu_python_tanh",
        "gelu_accurate",
        "quick_gelu",
        "silu",
        "swish",
        "sigmoid",
        "tanh",
        "softplus",
        "elu",
        "mish",
        "hardswish",
        "hardsigmoid",
        "laplace",
    ];
    let mut activations: Vec<_> = names
        .map(|name| Activation::from_name(name).unwrap())
        .to_vec();
    activations.push(Activation::Xielu {
        alpha_p: 0.8,
        alpha_n: 1.3,
        beta: 0.5,
        eps: -1e-6,
    });
    assert_eq!(Activation::from_name("gegelu"), None);
    let grid: Vec<f32> = (-4000..=4000)
        .map(|i| i as f32 * 0.005)
        .chain([-1e-6, 1e-6, -80.0, 80.0, 1e4, -1e4])
        .collect();
    for kernels in all_kernels(Compute::F32) {
        for &activation in &activations {
            let mut out = Mat::from_vec(1, grid.len(), grid.clone());
            kernels[0].activation(activation, out.view_mut());
            for (&x, &y) in grid.iter().zip(out.row(0)) {
                let expected = expected_activation(activation, f64::from(x));
                let error = (f64::from(y) - expected).abs();
                // Relative, down to where the result is nothing beside its argument.
                // The error of an exponential grows with its argument.
                let relative = 6e-7 * f64::from(1.0 + x.abs());
                let near = if matches!(activation, Activation::Gelu | Activation::Gelu10) {
                    6e-8
                } else {
                    1e-10
                };
                let bound =
                    (relative * expected.abs()).max(if x.abs() < 2.0 { 1.3e-7 } else { near });
                assert!(
                    error <= bound,
                    "{} {activation:?}({x}) = {y:e} instead of {expected:e}",
                    kernels[0].isa()
                );
            }
            let mut not = Mat::from_vec(1, 3, vec![f32::NAN, f32::INFINITY, 1.0]);
            kernels[0].activation(activation, not.view_mut());
            assert!(
                not.row(0)[0].is_nan(),
                "{} {activation:?}(NaN) = {}",
                kernels[0].isa(),
                not.row(0)[0]
            );
        }
    }
}

#[test]
fn gates_and_sums_agree_with_their_formulas() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(8);
        for cols in WIDTHS {
            let up = random.mat(50, cols);
            let of =
                |x: &Mat| Mat::from_vec(x.rows(), cols, up.as_slice()[..x.rows() * cols].to_vec());
            let shifted = |row: usize, x: &Mat| {
                let mut out = of(x);
                for i in 0..x.rows() {
                    out.row_mut(i).copy_from_slice(up.row(row + i));
                }
                out
            };
            let gate = |kernels: &Kernels, row: usize, x: &mut Mat| {
                let up = shifted(row, x);
                kernels.gated(Activation::Silu, x.view_mut(), up.view());
            };
            let input = check_rows(&mut random, &kernels, cols, gate);
            let mut out = input.clone();
            gate(&kernels[0], 0, &mut out);
            let mut sum = input.clone();
            kernels[1].add(of(&input).view(), 0.5, sum.view_mut());
            let mut clamped = input.clone();
            let form = Clamped {
                alpha: 1.702,
                limit: 0.5,
                addend: 0.25,
            };
            kernels[1].gated_clamped(form, clamped.view_mut(), of(&input).view());
            let mut soft = input.clone();
            kernels[1].gated_soft(0.7, soft.view_mut(), of(&input).view());
            let mut capped = input.clone();
            kernels[1].softcap_in_place(0.3, capped.view_mut());
            let mut scaled = input.clone();
            kernels[1].scale_in_place(3.0, scaled.view_mut());
            let mut bounded = input.clone();
            kernels[1].clamp_in_place(-0.2, 0.4, bounded.view_mut());
            let mut product = input.clone();
            kernels[1].multiply(of(&input).view(), product.view_mut());
            let mut columns = input.clone();
            kernels[1].scale_columns(up.row(0), columns.view_mut());
            kernels[1].add_bias(up.row(1), columns.view_mut());
            for row in 0..input.rows() {
                for col in 0..cols {
                    let (x, u) = (f64::from(input.row(row)[col]), f64::from(up.row(row)[col]));
                    let at = |mat: &Mat| mat.row(row)[col];
                    assert_close(at(&out), x / (1.0 + (-x).exp()) * u, 1e-6, "gated");
                    assert_close(at(&sum), x + 0.5 * u, 1e-6, "add");
                    let (g, u2) = (x.min(0.5), u.clamp(-0.5, 0.5));
                    assert_close(
                        at(&clamped),
                        g / (1.0 + (-1.702 * g).exp()) * (u2 + 0.25),
                        1e-6,
                        "gated_clamped",
                    );
                    let limit = f64::from(0.7_f32);
                    let gate = limit * (x / limit).tanh() / (1.0 + (-x).exp());
                    assert_close(at(&soft), gate * u, 1e-6, "gated_soft");
                    let cap = f64::from(0.3_f32);
                    assert_close(at(&capped), cap * (x / cap).tanh(), 1e-6, "softcap");
                    assert_close(at(&scaled), x * 3.0, 1e-6, "scale");
                    assert_close(
                        at(&bounded),
                        x.clamp(f64::from(-0.2_f32), f64::from(0.4_f32)),
                        0.0,
                        "clamp",
                    );
                    assert_close(at(&product), x * u, 1e-6, "multiply");
                    let (w, b) = (f64::from(up.row(0)[col]), f64::from(up.row(1)[col]));
                    assert_close(at(&columns), x * w + b, 1e-6, "columns");
                }
            }
        }
    }
}

#[test]
fn factors_in_front_of_a_norm_count_in_it() {
    const LONGEST: f32 = 1.5;
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(17);
        for dim in WIDTHS {
            let (heads, eps) = (2, 1e-3);
            let weight = random.vec(heads * dim);
            let scaled = |x: &[f32], at: usize| -> Vec<f64> {
                let pairs = x.iter().zip(&weight[at..]);
                pairs.map(|(x, w)| f64::from(x * w)).collect()
            };
            let squares = |y: &[f64]| y.iter().map(|y| y * y).sum::<f64>();
            let norm = |kernels: &Kernels, _: usize, x: &mut Mat| {
                kernels.rms_norm_of_scaled(Some(&weight), eps, x.view_mut());
            };
            let input = check_rows(&mut random, &kernels, heads * dim, norm);
            let mut normed = input.clone();
            norm(&kernels[0], 0, &mut normed);
            let shorten = |kernels: &Kernels, _: usize, x: &mut Mat| {
                kernels.shorten_heads(heads, Some(&weight), (LONGEST, eps), x.view_mut());
            };
            check_rows(&mut random, &kernels, heads * dim, shorten);
            let mut short = input.clone();
            shorten(&kernels[0], 0, &mut short);
            let eps = f64::from(eps);
            for row in 0..input.rows() {
                let y = scaled(input.row(row), 0);
                let root = (squares(&y) / y.len() as f64 + eps).sqrt();
                for (y, &got) in y.iter().zip(normed.row(row)) {
                    assert_close(got, y / root, 4e-6, "norm of what is scaled");
                }
                for head in 0..heads {
                    let own = head * dim..(head + 1) * dim;
                    let y = scaled(&input.row(row)[own.clone()], head * dim);
                    let factor = (f64::from(LONGEST) / (squares(&y).sqrt() + eps)).min(1.0);
                    for (y, &got) in y.iter().zip(&short.row(row)[own]) {
                        assert_close(got, y * factor, 4e-6, "at most so long");
                    }
                }
            }
        }
    }
}

#[test]
fn one_value_that_is_not_finite_is_found() {
    for kernels in all_kernels(Compute::F32).into_iter().flatten() {
        for (rows, columns) in [(1, 1), (40, 3000), (3, 0), (0, 3)] {
            let mut x = Mat::new(rows, columns);
            assert!(kernels.all_finite(x.view()));
            let places = [(0, 0), (rows / 2, columns / 3)];
            for (row, column) in places.into_iter().filter(|_| rows * columns > 0) {
                x.row_mut(row)[column] = f32::NEG_INFINITY;
                assert!(!kernels.all_finite(x.view()), "{row} {column}");
                x.row_mut(row)[column] = f32::MIN;
            }
        }
    }
}

#[test]
fn heads_narrower_than_their_rotation_turn_by_what_is_left_of_it() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(31);
        // Angles for 12 features: of these, as many as a head has, each once more from the middle on.
        for dim in [1, 2, 5, 8, 11] {
            let (cos, sin) = (random.mat(7, 6), random.mat(7, 6));
            let x = random.mat(7, 2 * dim);
            let mut out = x.clone();
            kernels[1].cut_rotary_rows(dim, cos.view(), sin.view(), out.view_mut());
            for row in 0..7 {
                for column in 0..2 * dim {
                    let (head, own) = (column / dim * dim, column % dim);
                    let other = if own < dim - dim / 2 {
                        -x.row(row)[head + own + dim / 2]
                    } else {
                        x.row(row)[head + own - (dim - dim / 2)]
                    };
                    let turn = |of: &Mat| f64::from(of.row(row)[own % 6]);
                    let expected =
                        f64::from(x.row(row)[column]) * turn(&cos) + f64::from(other) * turn(&sin);
                    assert_close(out.row(row)[column], expected, 1e-6, "a narrow head");
                }
            }
        }
    }
}

#[test]
fn rotary_rotates_the_chosen_part() {
    let inv_freq: Vec<f32> = (0..4).map(|i| 1.0 / 10_f32.powi(i)).collect();
    let turn = |position: u32, of: fn(f64) -> f64| -> Vec<f32> {
        let angles = inv_freq
            .iter()
            .map(|inverse| f64::from(inverse * position as f32));
        angles.map(|angle| of(angle) as f32 * 1.5).collect()
    };
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(9);
        for style in [RotaryStyle::Half, RotaryStyle::Interleaved] {
            let shape = RotaryShape {
                heads: 3,
                head_dim: 13,
                rotary_dim: 8,
                offset: 2,
                style,
            };
            let positions: Vec<u32> = (0..50).map(|_| random.below(100) as u32).collect();
            let input = check_rows(&mut random, &kernels, 39, |kernels, row, x| {
                let positions = &positions[row..row + x.rows()];
                let table = |of: fn(f64) -> f64| {
                    let turns = positions.iter().flat_map(|&position| turn(position, of));
                    Mat::from_vec(positions.len(), 4, turns.collect())
                };
                let (cos, sin) = (table(f64::cos), table(f64::sin));
                kernels.rotary_rows(shape, cos.view(), sin.view(), x.view_mut());
            });
            let positions = &positions[..input.rows()];
            let table = |of: fn(f64) -> f64| {
                let turns = positions.iter().flat_map(|&position| turn(position, of));
                Mat::from_vec(positions.len(), 4, turns.collect())
            };
            let (cos, sin) = (table(f64::cos), table(f64::sin));
            let mut out = input.clone();
            kernels[0].rotary_rows(shape, cos.view(), sin.view(), out.view_mut());
            for (row, &position) in positions.iter().enumerate() {
                for head in 0..3 {
                    let x = &input.row(row)[head * 13..(head + 1) * 13];
                    let mut expected: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                    for (i, frequency) in inv_freq.iter().enumerate() {
                        let (a, b) = match style {
                            RotaryStyle::Half => (2 + i, 6 + i),
                            RotaryStyle::Interleaved => (2 + 2 * i, 3 + 2 * i),
                        };
                        let (sin, cos) = f64::from(frequency * position as f32).sin_cos();
                        let (u, v) = (expected[a], expected[b]);
                        expected[a] = 1.5 * (u * cos - v * sin);
                        expected[b] = 1.5 * (v * cos + u * sin);
                    }
                    for (i, expected) in expected.into_iter().enumerate() {
                        assert_close(
                            out.row(row)[head * 13 + i],
                            expected,
                            1e-6,
                            &format!("{style:?}"),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn log_sum_exp_is_the_same_for_any_tiles() {
    for [one, two] in all_kernels(Compute::F32) {
        let mut random = Random(10);
        for cols in [1, 5, 1024, 1025, 5000] {
            let rows = 1 + random.below(9);
            let mut logits = random.mat(rows, cols);
            logits.as_mut_slice().iter_mut().for_each(|x| *x *= 30.0);
            let mut whole = vec![LseState::new(); rows];
            one.update_lse(logits.view(), &mut whole);
            let mut tiled = vec![LseState::new(); rows];
            let mut at = 0;
            while at < cols {
                let end = cols.min(at + LSE_BLOCK * (1 + random.below(3)));
                two.update_lse(logits.view().cols_range(at..end), &mut tiled);
                at = end;
            }
            assert_eq!(whole, tiled);
            for (row, state) in whole.iter().enumerate() {
                let max = logits
                    .row(row)
                    .iter()
                    .copied()
                    .fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = logits
                    .row(row)
                    .iter()
                    .map(|&x| f64::from(x - max).exp())
                    .sum();
                assert!((state.log_sum_exp() - (f64::from(max) + sum.ln())).abs() < 1e-5);
            }
        }
        let mut state = [LseState::new()];
        one.update_lse(
            Mat::from_vec(1, 2, vec![f32::NEG_INFINITY; 2]).view(),
            &mut state,
        );
        assert_eq!(state[0].log_sum_exp(), f64::NEG_INFINITY);
        one.update_lse(Mat::from_vec(1, 2, vec![f32::NAN, 1.0]).view(), &mut state);
        one.update_lse(Mat::from_vec(1, 2, vec![3.0, 1.0]).view(), &mut state);
        assert!(state[0].log_sum_exp().is_nan());
    }
}

#[test]
fn top_k_orders_by_value_then_index() {
    let mut random = Random(11);
    let kernels = Kernels::new(2, Compute::F32);
    for k in [0, 1, 4, 30] {
        let (rows, cols) = (20, 700);
        let mut logits = random.mat(rows, cols);
        for x in logits.as_mut_slice() {
            *x = (*x * 20.0).round();
            if *x == 20.0 {
                *x = f32::NAN;
            }
        }
        logits.row_mut(1).fill(f32::NAN);
        logits.row_mut(2).fill(f32::NEG_INFINITY);
        let mut state = TopK::new(rows, k);
        for range in random.cuts(cols) {
            kernels.top_k(
                logits.view().cols_range(range.clone()),
                0,
                range.start,
                &mut state,
            );
        }
        let mut halves = TopK::new(rows, k);
        for range in [0..rows / 2, rows / 2..rows] {
            let part = logits.rows_view(range.clone());
            kernels.top_k(part, range.start, 0, &mut halves);
        }
        for row in 0..rows {
            let mut all: Vec<(f32, u32)> = logits.row(row).iter().copied().zip(0..).collect();
            all.sort_by(|a, b| {
                let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
                a.0.is_nan()
                    .cmp(&b.0.is_nan())
                    .then(key(b.0).total_cmp(&key(a.0)))
                    .then(a.1.cmp(&b.1))
            });
            let bits = |entries: &[(f32, u32)]| {
                entries
                    .iter()
                    .map(|e| (e.0.to_bits(), e.1))
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(state.row(row)), bits(&all[..k]));
            assert_eq!(bits(halves.row(row)), bits(&all[..k]));
        }
    }
}

#[test]
fn neighbours_count_within_their_record() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(11);
        for (kernel, heads, dim) in [(1, 1, 3), (3, 2, 5), (9, 4, 16), (4, 3, 7)] {
            let lengths = [1, 2 + random.below(30), kernel, 1];
            let mut records = Vec::new();
            for length in lengths {
                let start = records
                    .last()
                    .map_or(0, |last: &std::ops::Range<usize>| last.end);
                records.push(start..start + length);
            }
            let (rows, columns) = (lengths.iter().sum(), heads * dim);
            let (x, before) = (random.mat(rows, columns), random.mat(rows, columns));
            let of_rows = random.mat(rows, heads * kernel);
            let of_columns = random.vec(kernel * columns);
            for own in [true, false] {
                let taps = if own {
                    Taps::OfRows {
                        factors: of_rows.view(),
                        heads,
                    }
                } else {
                    Taps::OfColumns(&of_columns)
                };
                let [one, two] = [0, 1].map(|which: usize| {
                    let mut out = before.clone();
                    let (x, out_rows) = (x.view(), out.view_mut());
                    kernels[which].add_neighbours(kernel, taps, &records, x, out_rows);
                    out
                });
                assert_same_bits(&one, &two, "threads");
                for record in &records {
                    for row in record.clone() {
                        for column in 0..columns {
                            let mut sum = f64::from(before.row(row)[column]);
                            for tap in 0..kernel {
                                let factor = if own {
                                    of_rows.row(row)[column / dim * kernel + tap]
                                } else {
                                    of_columns[tap * columns + column]
                                };
                                let place = (row + tap).wrapping_sub((kernel - 1) / 2);
                                if record.contains(&place) {
                                    sum += f64::from(factor) * f64::from(x.row(place)[column]);
                                }
                            }
                            let found = f64::from(one.row(row)[column]);
                            assert!((found - sum).abs() < 1e-4, "{found} for {sum}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn softmax_of_parts_sums_to_one() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(12);
        let parts = 3;
        let input = check_rows(&mut random, &kernels, 3 * 7, |kernels, _, x| {
            kernels.softmax_parts(parts, x.view_mut());
        });
        let mut out = input.clone();
        kernels[0].softmax_parts(parts, out.view_mut());
        for row in 0..out.rows() {
            let given = input.row(row).chunks_exact(7);
            for (given, found) in given.zip(out.row(row).chunks_exact(7)) {
                let total: f64 = given.iter().map(|&x| f64::from(x).exp()).sum();
                for (&given, &found) in given.iter().zip(found) {
                    let expected = f64::from(given).exp() / total;
                    assert!((f64::from(found) - expected).abs() < 1e-6);
                }
            }
        }
    }
}

#[test]
fn what_lies_along_a_vector_is_left_out() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(15);
        let (heads, vectors, dim) = (4, 2, 5);
        let shares = [1.0, 0.5, 0.0, -0.25];
        let mut x = random.mat(3, heads * dim);
        let mut units = random.mat(3, vectors * dim);
        kernels[0].unit_heads(vectors, 1e-12, units.view_mut());
        let given = x.clone();
        let mut again = x.clone();
        kernels[0].leave_out([heads, vectors], &shares, units.view(), x.view_mut());
        kernels[1].leave_out([heads, vectors], &shares, units.view(), again.view_mut());
        assert_eq!(x.as_slice(), again.as_slice());
        for row in 0..3 {
            for (head, share) in shares.into_iter().enumerate() {
                let unit = &units.row(row)[head / 2 * dim..][..dim];
                let along = |x: &Mat| -> f64 {
                    let own = x.row(row)[head * dim..].iter().zip(unit);
                    own.map(|(&own, &unit)| f64::from(own) * f64::from(unit))
                        .sum()
                };
                let expected = along(&given) * (1.0 - f64::from(share));
                assert_close(along(&x) as f32, expected, 1e-5, "what is left");
            }
        }
    }
}

#[test]
fn heads_become_of_length_one_and_cosines_chances_of_equal_hashes() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(14);
        let (heads, dim) = (3, 7);
        let input = check_rows(&mut random, &kernels, heads * dim, |kernels, _, x| {
            kernels.unit_heads(heads, 1e-12, x.view_mut());
        });
        let mut unit = input.clone();
        unit.row_mut(0)[..dim].fill(0.0);
        kernels[1].unit_heads(heads, 1e-12, unit.view_mut());
        assert_eq!(unit.row(0)[..dim], [0.0; 7], "no length");
        for (index, head) in unit.as_slice().chunks_exact(dim).enumerate().skip(1) {
            let given = &input.as_slice()[index * dim..(index + 1) * dim];
            let squares = given.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            for (&given, &found) in given.iter().zip(head) {
                let expected = f64::from(given) / squares.sqrt();
                assert_close(found, expected, 1e-6, "heads of length one");
            }
        }
        let mut chances = Mat::from_vec(1, 4, vec![1.000_001, 0.0, 0.5, -1.0]);
        kernels[0].equal_hashes(2, chances.view_mut());
        for (&found, expected) in chances.row(0).iter().zip([1.0, 0.25, 4.0 / 9.0, 0.0]) {
            assert_close(found, expected, 1e-6, "chances");
        }
    }
}

#[test]
fn heads_are_weighed_by_products_and_divided_by_weights() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(41);
        for (heads, dim) in [(1, 1), (3, 5), (2, 33)] {
            let cols = heads * dim;
            let [a, b] = [0; 2].map(|_| random.mat(40, cols));
            let factors = random.vec(cols);
            let one = |mat: &Mat, row: usize| Mat::from_vec(1, cols, mat.row(row).to_vec());
            let input = random.mat(1, cols);
            let weighed = |kernels: &Kernels, row: usize| {
                let (a, b) = (one(&a, row), one(&b, row));
                let mut x = input.clone();
                kernels.weigh_heads(heads, [a.view(), b.view()], &factors, x.view_mut());
                x
            };
            let x = weighed(&kernels[0], 7);
            assert_same_bits(&x, &weighed(&kernels[1], 7), "two threads");
            for column in 0..cols {
                let own = column / dim * dim..(column / dim + 1) * dim;
                let product = |at: usize| {
                    f64::from(a.row(7)[at]) * f64::from(b.row(7)[at]) * f64::from(factors[at])
                };
                let sum: f64 = own.map(product).sum();
                let expected = sum * f64::from(input.row(0)[column]);
                assert_close(x.row(0)[column], expected, 2e-5, "weighed heads");
            }
            let (read, floor) = (random.mat(3, cols + heads), random.mat(3, heads));
            let mut quotient = Mat::new(3, cols);
            kernels[1].divide_by_weights(0.5, read.view(), floor.view(), quotient.view_mut());
            for row in 0..3 {
                for column in 0..cols {
                    let (head, at) = (column / dim, column % dim);
                    let own = &read.row(row)[head * (dim + 1)..][..=dim];
                    let weight = f64::from(own[dim])
                        .abs()
                        .max(f64::from(floor.row(row)[head]));
                    let expected = f64::from(own[at]) / (weight + 0.5);
                    assert_close(quotient.row(row)[column], expected, 2e-5, "quotients");
                }
            }
        }
    }
}

#[test]
fn queries_attend_to_streams() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(31);
        for cols in WIDTHS {
            let others = [random.mat(50, cols), random.mat(50, cols)];
            let queries = random.vec(2 * cols);
            let attend = |kernels: &Kernels, first: usize, x: &mut Mat| {
                let rows = first..first + x.rows();
                let streams: Vec<_> = others
                    .iter()
                    .map(|other| other.rows_view(rows.clone()))
                    .chain([x.view()])
                    .collect();
                let mut targets = [0, 1].map(|_| Mat::new(x.rows(), cols));
                let views = targets.iter_mut().map(Mat::view_mut);
                kernels.attend_streams(&queries, 1e-3, &streams, &mut views.collect::<Vec<_>>());
                let [first, second] = targets;
                kernels.add(second.view(), 10.0, x.view_mut());
                kernels.add(first.view(), 1.0, x.view_mut());
            };
            let input = check_rows(&mut random, &kernels, cols, attend);
            let mut out = input.clone();
            attend(&kernels[0], 0, &mut out);
            for row in 0..input.rows() {
                let streams = [others[0].row(row), others[1].row(row), input.row(row)];
                let normed = streams.map(|stream| {
                    let values: Vec<f64> = stream.iter().map(|&x| f64::from(x)).collect();
                    let square = values.iter().map(|x| x * x).sum::<f64>() / cols as f64;
                    let root = (square + f64::from(1e-3_f32)).sqrt();
                    values.iter().map(|x| x / root).collect::<Vec<f64>>()
                });
                let mut expected: Vec<f64> = input.row(row).iter().map(|&x| f64::from(x)).collect();
                for (query, factor) in queries.chunks_exact(cols).zip([1.0, 10.0]) {
                    let logit = |normed: &Vec<f64>| {
                        let products = normed.iter().zip(query).map(|(x, &q)| x * f64::from(q));
                        (products.sum::<f64>() / (cols as f64).sqrt()).exp()
                    };
                    let weights: Vec<f64> = normed.iter().map(logit).collect();
                    let sum: f64 = weights.iter().sum();
                    for (weight, normed) in weights.iter().zip(&normed) {
                        for (expected, x) in expected.iter_mut().zip(normed) {
                            *expected += factor * weight / sum * x;
                        }
                    }
                }
                for (&got, expected) in out.row(row).iter().zip(expected) {
                    assert_close(got, expected, 2e-5, "attention to streams");
                }
            }
        }
    }
}

#[test]
fn columns_repeat() {
    for kernels in all_kernels(Compute::F32) {
        let x = Mat::from_vec(2, 2, vec![1.0, 2.0, 3.0, 4.0]);
        let mut out = Mat::new(2, 6);
        kernels[1].repeat_columns(3, x.view(), out.view_mut());
        assert_eq!(out.row(0), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(out.row(1), [3.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    }
}

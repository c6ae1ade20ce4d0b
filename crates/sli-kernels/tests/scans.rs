//! Convolution and scans: against f64, and the same bits however records are cut and whoever computes.

mod reference;

use std::ops::Range;

use reference::{Random, all_kernels, assert_close, assert_same_bits};
use sli_kernels::{
    BlockAttention, Compute, Decay, Forget, GatedLru, Kernels, LinearAttention, Mat, SelectiveScan,
    StateSpaceDual, Update,
};

/// A kernel along a record: changes the rows of a matrix that are given, of records that begin at the starts,
/// and the state.
type Along<'a> = &'a dyn Fn(&Kernels, Range<usize>, &[usize], &mut [f32], &mut Mat);

/// Runs records together and cut anyhow, on one thread and two, and compares the bits. Returns the input, the
/// state before it, the rows with which records begin, the outcome and the state behind it.
fn check_cuts(
    random: &mut Random,
    kernels: &[Kernels; 2],
    [rows, cols, state]: [usize; 3],
    along: Along<'_>,
) -> (Mat, Vec<f32>, Vec<usize>, Mat, Vec<f32>) {
    let input = random.mat(rows, cols);
    let before = random.vec(state);
    let mut starts: Vec<usize> = (0..random.below(4)).map(|_| random.below(rows)).collect();
    starts.sort_unstable();
    starts.dedup();
    let (mut whole, mut behind) = (input.clone(), before.clone());
    along(&kernels[1], 0..rows, &starts, &mut behind, &mut whole);
    for cuts in [
        random.cuts(rows),
        (0..rows).map(|row| row..row + 1).collect(),
    ] {
        let (mut pieces, mut handed) = (Mat::new(rows, cols), before.clone());
        for (index, cut) in cuts.into_iter().enumerate() {
            let begun = starts.iter().filter(|start| cut.contains(start));
            let begun: Vec<usize> = begun.map(|start| start - cut.start).collect();
            let mut piece = Mat::new(cut.len(), cols);
            for (row, from) in cut.clone().enumerate() {
                piece.row_mut(row).copy_from_slice(input.row(from));
            }
            along(
                &kernels[index % 2],
                cut.clone(),
                &begun,
                &mut handed,
                &mut piece,
            );
            for (row, to) in cut.enumerate() {
                pieces.row_mut(to).copy_from_slice(piece.row(row));
            }
        }
        let what = format!("{:?} {rows} rows of {cols}", kernels[1]);
        assert_same_bits(&whole, &pieces, &what);
        let states = [&behind, &handed].map(|state| Mat::from_vec(1, state.len(), state.clone()));
        assert_same_bits(&states[0], &states[1], &what);
    }
    (input, before, starts, whole, behind)
}

/// The rows of some that are given.
fn part(all: &Mat, rows: &Range<usize>) -> Mat {
    let mut part = Mat::new(rows.len(), all.cols());
    for (row, from) in rows.clone().enumerate() {
        part.row_mut(row).copy_from_slice(all.row(from));
    }
    part
}

#[test]
fn a_convolution_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(3);
        for columns in [1, 5, 16, 40, 64, 131] {
            for kernel in [1, 2, 3, 4, 7] {
                let rows = 1 + random.below(12);
                let weight = random.vec(columns * kernel);
                let bias = random.vec(columns);
                let bias = (random.below(2) == 0).then_some(&bias[..]);
                let (input, before, starts, out, _) = check_cuts(
                    &mut random,
                    &kernels,
                    [rows, columns, (kernel - 1) * columns],
                    &|kernels, _, starts, window, x| {
                        kernels.causal_convolution(&weight, bias, starts, window, x.view_mut());
                    },
                );
                for row in 0..rows {
                    let start = starts.iter().rfind(|&&start| start <= row);
                    for column in 0..columns {
                        let mut sum = bias.map_or(0.0, |bias| f64::from(bias[column]));
                        for tap in 0..kernel {
                            let weight = f64::from(weight[column * kernel + tap]);
                            let place = row + tap;
                            let x = match (start, place.checked_sub(kernel - 1)) {
                                (Some(&start), Some(row)) if row >= start => input.row(row)[column],
                                (None, Some(row)) => input.row(row)[column],
                                (None, None) => before[place * columns + column],
                                (Some(_), _) => 0.0,
                            };
                            sum += weight * f64::from(x);
                        }
                        assert_close(out.row(row)[column], sum, 2e-6, "convolution");
                    }
                }
            }
        }
    }
}

#[test]
fn weights_of_rows_are_added_to_those_of_columns() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(41);
        for (heads, dim) in [(1, 1), (2, 5), (3, 16), (2, 40)] {
            for kernel in [1, 2, 4] {
                let (rows, columns) = (1 + random.below(12), heads * dim);
                let weight = random.vec(kernel * columns);
                let own = random.mat(rows, heads * kernel);
                let (input, before, starts, out, _) = check_cuts(
                    &mut random,
                    &kernels,
                    [rows, columns, (kernel - 1) * columns],
                    &|kernels, range, starts, window, x| {
                        let own = part(&own, &range);
                        let own = (own.view(), heads);
                        let x = x.view_mut();
                        kernels.convolution_of_rows(&weight, own, 0.6, starts, window, x);
                    },
                );
                for row in 0..rows {
                    let start = starts.iter().rfind(|&&start| start <= row);
                    for column in 0..columns {
                        let mut sum = f64::from(input.row(row)[column]);
                        for lag in 0..kernel {
                            let of_row = own.row(row)[column / dim * kernel + lag];
                            let weight = f64::from(weight[lag * columns + column] + of_row);
                            let x = match (start, row.checked_sub(lag)) {
                                (Some(&start), Some(row)) if row >= start => input.row(row)[column],
                                (None, Some(row)) => input.row(row)[column],
                                (None, None) => before[(kernel - 1 + row - lag) * columns + column],
                                (Some(_), _) => 0.0,
                            };
                            sum += weight * f64::from(x);
                        }
                        let expected = sum * f64::from(0.6_f32);
                        assert_close(out.row(row)[column], expected, 4e-6, "weights of rows");
                    }
                }
            }
        }
    }
}

/// `h = exp(dt A) h + dt x B` and `C h + D x` in f64, of one channel.
struct Channel<'a> {
    state: Vec<f64>,
    decays: &'a [f32],
    skip: f32,
}

impl Channel<'_> {
    fn row(&mut self, step: f32, x: f32, b: &[f32], c: &[f32]) -> f64 {
        let (step, x) = (f64::from(step), f64::from(x));
        let mut sum = f64::from(self.skip) * x;
        for (value, state) in self.state.iter_mut().enumerate() {
            let decay = -f64::from(self.decays[value]).exp();
            *state = (step * decay).exp() * *state + step * x * f64::from(b[value]);
            sum += *state * f64::from(c[value]);
        }
        sum
    }
}

/// Time steps as they are after their softplus, some of them nearly none.
fn time_steps(random: &mut Random, rows: usize, cols: usize) -> Mat {
    let mut steps = random.mat(rows, cols);
    for step in steps.as_mut_slice() {
        *step = (*step * 3.0).exp().ln_1p() * 0.5;
    }
    steps
}

/// `ln(-A)` from hardly any decay to nothing left.
fn logarithms(random: &mut Random, len: usize) -> Vec<f32> {
    let mut logarithms = random.vec(len);
    for logarithm in &mut logarithms {
        *logarithm *= 6.0;
    }
    logarithms
}

#[test]
fn a_selective_scan_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(5);
        for (channels, groups) in [
            (1, 1),
            (9, 3),
            (16, 1),
            (40, 2),
            (64, 1),
            (200, 1),
            (288, 2),
        ] {
            for size in [1, 6, 16] {
                let rows = 1 + random.below(20);
                let steps = time_steps(&mut random, rows, channels);
                let (b, c) = (
                    random.mat(rows, groups * size),
                    random.mat(rows, groups * size),
                );
                let a_log = logarithms(&mut random, channels * size);
                let skip = random.vec(channels);
                let (input, before, starts, out, behind) = check_cuts(
                    &mut random,
                    &kernels,
                    [rows, channels, size * channels],
                    &|kernels, rows, starts, state, x| {
                        let [steps, b, c] = [&steps, &b, &c].map(|all| part(all, &rows));
                        let scan = SelectiveScan {
                            time_steps: steps.view(),
                            b: b.view(),
                            c: c.view(),
                            groups,
                            a_log: &a_log,
                            skip: &skip,
                        };
                        kernels.selective_scan(scan, starts, state, x.view_mut());
                    },
                );
                for channel in 0..channels {
                    let given = before[channel..].iter().step_by(channels);
                    let mut expected = Channel {
                        state: given.map(|&x| f64::from(x)).collect(),
                        decays: &a_log[channel * size..(channel + 1) * size],
                        skip: skip[channel],
                    };
                    let group = channel / (channels / groups);
                    let selected = group * size..(group + 1) * size;
                    for row in 0..rows {
                        if starts.contains(&row) {
                            expected.state.fill(0.0);
                        }
                        let (step, x) = (steps.row(row)[channel], input.row(row)[channel]);
                        let (b, c) = (&b.row(row)[selected.clone()], &c.row(row)[selected.clone()]);
                        let sum = expected.row(step, x, b, c);
                        assert_close(out.row(row)[channel], sum, 2e-5, "selective scan");
                    }
                    for (value, expected) in expected.state.into_iter().enumerate() {
                        let found = behind[value * channels + channel];
                        assert_close(found, expected, 2e-5, "its state");
                    }
                }
            }
        }
    }
}

#[test]
fn a_scan_of_heads_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(11);
        for (heads, groups, dim) in [
            (1, 1, 1),
            (6, 2, 5),
            (4, 1, 16),
            (4, 4, 24),
            (2, 1, 80),
            (3, 3, 64),
        ] {
            for size in [1, 6, 16] {
                let (rows, columns) = (1 + random.below(20), heads * dim);
                let steps = time_steps(&mut random, rows, heads);
                let (b, c) = (
                    random.mat(rows, groups * size),
                    random.mat(rows, groups * size),
                );
                let a_log = logarithms(&mut random, heads);
                let skip = random.one_of(&[heads, columns]);
                let skip = random.vec(skip);
                let (input, before, starts, out, behind) = check_cuts(
                    &mut random,
                    &kernels,
                    [rows, columns, size * columns],
                    &|kernels, rows, starts, state, x| {
                        let [steps, b, c] = [&steps, &b, &c].map(|all| part(all, &rows));
                        let scan = StateSpaceDual {
                            time_steps: steps.view(),
                            b: b.view(),
                            c: c.view(),
                            groups,
                            a_log: &a_log,
                            skip: &skip,
                        };
                        kernels.state_space_dual(scan, starts, state, x.view_mut());
                    },
                );
                for column in 0..columns {
                    let head = column / dim;
                    let place = |value: usize| (head * size + value) * dim + column % dim;
                    let mut expected = Channel {
                        state: (0..size)
                            .map(|value| f64::from(before[place(value)]))
                            .collect(),
                        decays: &vec![a_log[head]; size],
                        skip: if skip.len() == heads {
                            skip[head]
                        } else {
                            skip[column]
                        },
                    };
                    let group = head / (heads / groups);
                    let selected = group * size..(group + 1) * size;
                    for row in 0..rows {
                        if starts.contains(&row) {
                            expected.state.fill(0.0);
                        }
                        let (step, x) = (steps.row(row)[head], input.row(row)[column]);
                        let (b, c) = (&b.row(row)[selected.clone()], &c.row(row)[selected.clone()]);
                        let sum = expected.row(step, x, b, c);
                        assert_close(out.row(row)[column], sum, 2e-5, "scan of heads");
                    }
                    for (value, expected) in expected.state.into_iter().enumerate() {
                        assert_close(behind[place(value)], expected, 2e-5, "its state");
                    }
                }
            }
        }
    }
}

/// Numbers between 0 and 1.
fn shares(random: &mut Random, rows: usize, cols: usize) -> Mat {
    let mut shares = random.mat(rows, cols);
    for share in shares.as_mut_slice() {
        *share = 0.5 + 0.5 * *share;
    }
    shares
}

/// A head's state `[key_dim]` of one column of values, in f64.
struct Column {
    state: Vec<f64>,
}

impl Column {
    fn row(
        &mut self,
        update: &Expected<'_>,
        query: &[f32],
        key: &[f32],
        decay: &[f32],
        v: f32,
    ) -> f64 {
        let before = self.state.clone();
        for (state, &decay) in self.state.iter_mut().zip(decay) {
            *state *= f64::from(decay);
        }
        let mut v = f64::from(v);
        match update {
            Expected::Add | Expected::Bonus(_) => {}
            Expected::Delta(strength) => v = f64::from(*strength) * (v - dot(key, &self.state)),
            Expected::LowRank(from, to) => {
                let correction = dot(from, &before);
                for (state, &to) in self.state.iter_mut().zip(*to) {
                    *state += f64::from(to) * correction;
                }
            }
        }
        for (state, &key) in self.state.iter_mut().zip(key) {
            *state += f64::from(key) * v;
        }
        match update {
            Expected::Bonus(bonus) => {
                let entered = bonus.iter().zip(key).zip(&before);
                let seen = entered.map(|((&b, &k), s)| s + f64::from(b) * f64::from(k) * v);
                dot(query, &seen.collect::<Vec<_>>())
            }
            Expected::Add | Expected::Delta(_) | Expected::LowRank(..) => dot(query, &self.state),
        }
    }
}

fn dot(a: &[f32], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(&a, b)| f64::from(a) * b).sum()
}

/// What [`Update`] is to one row of a head.
enum Expected<'a> {
    Add,
    Delta(f32),
    Bonus(&'a [f32]),
    LowRank(&'a [f32], &'a [f32]),
}

#[test]
fn linear_attention_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(17);
        for (heads, key_heads, dim, value) in [
            (1, 1, 1, 1),
            (4, 2, 5, 16),
            (2, 2, 16, 70),
            (6, 2, 3, 24),
            (1, 1, 9, 130),
        ] {
            for kind in 0..8 {
                // More decays than kinds of updates, so that each meets two of them.
                let (update, decay) = (kind % 4, (kind + kind / 4) % 4);
                let key_heads = if update >= 2 { heads } else { key_heads };
                let (rows, columns) = (1 + random.below(12), heads * value);
                let [query, mut key] = [0; 2].map(|_| random.mat(rows, key_heads * dim));
                kernels[1].l2_norm_heads(key_heads, 1e-6, key.view_mut());
                let strength = shares(&mut random, rows, heads);
                let of_heads = shares(&mut random, rows, heads);
                let of_keys = shares(&mut random, rows, heads * dim);
                let bonus = random.vec(heads * dim);
                let mut from = random.mat(rows, heads * dim);
                kernels[1].l2_norm_heads(heads, 1e-6, from.view_mut());
                let to = random.mat(rows, heads * dim);
                let (input, before, starts, out, behind) = check_cuts(
                    &mut random,
                    &kernels,
                    [rows, columns, heads * dim * value],
                    &|kernels, rows, starts, state, x| {
                        let all = [&query, &key, &strength, &of_heads, &of_keys, &from, &to];
                        let [query, key, strength, of_heads, of_keys, from, to] =
                            all.map(|all| part(all, &rows));
                        let attention = LinearAttention {
                            query: query.view(),
                            key: key.view(),
                            key_heads,
                            heads,
                            decay: match decay {
                                0 => Decay::Heads(of_heads.view()),
                                1 => Decay::Keys(of_keys.view()),
                                2 => Decay::FixedHeads(&bonus[..heads]),
                                _ => Decay::FixedKeys(&bonus),
                            },
                            update: match update {
                                0 => Update::Add,
                                1 => Update::Delta(strength.view()),
                                2 => Update::Bonus(&bonus),
                                _ => Update::LowRank {
                                    from: from.view(),
                                    to: to.view(),
                                },
                            },
                            scale: 0.5,
                        };
                        kernels.linear_attention(attention, starts, state, x.view_mut());
                    },
                );
                for column in 0..columns {
                    let head = column / value;
                    let own = head * dim..(head + 1) * dim;
                    let key_head = head / (heads / key_heads);
                    let shared = key_head * dim..(key_head + 1) * dim;
                    let place = |index: usize| (head * dim + index) * value + column % value;
                    let mut expected = Column {
                        state: (0..dim)
                            .map(|index| f64::from(before[place(index)]))
                            .collect(),
                    };
                    for row in 0..rows {
                        if starts.contains(&row) {
                            expected.state.fill(0.0);
                        }
                        let decays = match decay {
                            0 => vec![of_heads.row(row)[head]; dim],
                            1 => of_keys.row(row)[own.clone()].to_vec(),
                            2 => vec![bonus[head]; dim],
                            _ => bonus[own.clone()].to_vec(),
                        };
                        let update = match update {
                            0 => Expected::Add,
                            1 => Expected::Delta(strength.row(row)[head]),
                            2 => Expected::Bonus(&bonus[own.clone()]),
                            _ => Expected::LowRank(
                                &from.row(row)[own.clone()],
                                &to.row(row)[own.clone()],
                            ),
                        };
                        let (query, key) = (
                            &query.row(row)[shared.clone()],
                            &key.row(row)[shared.clone()],
                        );
                        let sum =
                            expected.row(&update, query, key, &decays, input.row(row)[column]);
                        assert_close(out.row(row)[column], 0.5 * sum, 2e-5, "linear attention");
                    }
                    for (index, expected) in expected.state.into_iter().enumerate() {
                        assert_close(behind[place(index)], expected, 2e-5, "its state");
                    }
                }
            }
        }
    }
}

#[test]
fn attention_by_blocks_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(29);
        for (heads, dim, value, block) in [
            (1, 1, 1, 1),
            (2, 5, 16, 4),
            (2, 16, 70, 5),
            (3, 3, 24, 8),
            (1, 9, 130, 19),
            (2, 8, 8, 40),
        ] {
            let (rows, columns) = (1 + random.below(50), heads * value);
            let [query, key] = [0; 2].map(|_| random.mat(rows, heads * dim));
            let of_query = random.vec(heads * block);
            let of_key = random.vec(heads * block);
            let of_pair = random.vec(heads * block * block);
            let of_block = shares(&mut random, 1, heads).as_slice().to_vec();
            let values = BlockAttention::state_values(heads, dim, value, block);
            let (input, before, starts, out, behind) = check_cuts(
                &mut random,
                &kernels,
                [rows, columns, values],
                &|kernels, rows, starts, state, x| {
                    let [query, key] = [&query, &key].map(|all| part(all, &rows));
                    let attention = BlockAttention {
                        query: query.view(),
                        key: key.view(),
                        heads,
                        block,
                        of_query: &of_query,
                        of_key: &of_key,
                        of_pair: &of_pair,
                        of_block: &of_block,
                    };
                    kernels.block_attention(attention, starts, state, x.view_mut());
                },
            );
            let of_head = (values - 1) / heads;
            for column in 0..columns {
                let head = column / value;
                let keys = head * dim..(head + 1) * dim;
                let place = |index: usize| head * of_head + index * value + column % value;
                let mut summary: Vec<f64> = (0..dim)
                    .map(|index| f64::from(before[place(index)]))
                    .collect();
                let mut first = 0;
                for row in 0..rows {
                    if starts.contains(&row) {
                        summary.fill(0.0);
                        first = row;
                    }
                    let open = row - first;
                    let own = &query.row(row)[keys.clone()];
                    let factor = f64::from(of_query[head * block + open]);
                    let mut sum = factor * dot(own, &summary);
                    for (index, other) in (first..=row).enumerate() {
                        let pair = of_pair[(head * block + open) * block + index];
                        let seen = key.row(other)[keys.clone()]
                            .iter()
                            .map(|&key| f64::from(key));
                        let product = dot(own, &seen.collect::<Vec<_>>());
                        sum += f64::from(pair) * product * f64::from(input.row(other)[column]);
                    }
                    assert_close(out.row(row)[column], sum, 2e-5, "attention by blocks");
                    if open + 1 == block {
                        for (index, summary) in summary.iter_mut().enumerate() {
                            *summary *= f64::from(of_block[head]);
                            for (open, other) in (first..=row).enumerate() {
                                let key = f64::from(of_key[head * block + open])
                                    * f64::from(key.row(other)[head * dim + index]);
                                *summary += key * f64::from(input.row(other)[column]);
                            }
                        }
                        first = row + 1;
                    }
                }
                assert_eq!(
                    behind[values - 1],
                    (rows - first) as f32,
                    "rows of the open block"
                );
                for (index, expected) in summary.into_iter().enumerate() {
                    assert_close(behind[place(index)], expected, 2e-5, "its summary");
                }
            }
        }
    }
}

#[test]
fn what_is_left_of_a_state_agrees_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(23);
        for columns in [1, 16, 37] {
            let (rates, bias) = (shares(&mut random, 1, columns), random.vec(columns));
            let x = random.mat(5, columns);
            for form in [Forget::Softplus, Forget::Exponential, Forget::Bounded(-5.0)] {
                let mut left = x.clone();
                kernels[1].forget(form, rates.as_slice(), &bias, left.view_mut());
                for row in 0..5 {
                    for (column, &bias) in bias.iter().enumerate() {
                        let rate = f64::from(rates.as_slice()[column]);
                        let x = f64::from(x.row(row)[column] + bias);
                        let expected = match form {
                            Forget::Softplus => (-rate * x.exp().ln_1p()).exp(),
                            Forget::Exponential => (-rate * x.exp()).exp(),
                            Forget::Bounded(bound) => {
                                (f64::from(bound) / (1.0 + (-rate * x).exp())).exp()
                            }
                        };
                        assert_close(left.row(row)[column], expected, 2e-6, "forget gate");
                    }
                }
            }
        }
    }
}

#[test]
fn a_gated_linear_recurrent_unit_agrees_with_f64() {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(29);
        for channels in [1, 16, 37, 70] {
            let rows = 1 + random.below(20);
            let [input_gate, state_gate] = [0; 2].map(|_| random.mat(rows, channels));
            let rates = shares(&mut random, 1, channels);
            let (input, before, starts, out, behind) = check_cuts(
                &mut random,
                &kernels,
                [rows, channels, channels],
                &|kernels, rows, starts, state, x| {
                    let [input_gate, state_gate] =
                        [&input_gate, &state_gate].map(|all| part(all, &rows));
                    let unit = GatedLru {
                        input_gate: input_gate.view(),
                        state_gate: state_gate.view(),
                        rates: rates.as_slice(),
                    };
                    kernels.gated_lru(unit, starts, state, x.view_mut());
                },
            );
            for channel in 0..channels {
                let mut state = f64::from(before[channel]);
                for row in 0..rows {
                    let entered =
                        sigmoid(input_gate.row(row)[channel]) * f64::from(input.row(row)[channel]);
                    let forgotten = f64::from(rates.as_slice()[channel])
                        * sigmoid(state_gate.row(row)[channel]);
                    let left = (-forgotten).exp();
                    state = if starts.contains(&row) {
                        entered
                    } else {
                        left * state + (1.0 - left * left).sqrt() * entered
                    };
                    assert_close(out.row(row)[channel], state, 2e-5, "gated unit");
                }
                assert_close(behind[channel], state, 2e-5, "its state");
            }
        }
    }
}

#[test]
fn weighted_means_agree_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(31);
        for channels in [1, 16, 37, 70] {
            let rows = 1 + random.below(20);
            let mut key = random.mat(rows, channels);
            kernels[1].scale_in_place(20.0, key.view_mut());
            let decay = shares(&mut random, 1, channels);
            let decay: Vec<f32> = decay.as_slice().iter().map(|decay| -decay).collect();
            let first = random.vec(channels);
            let (input, before, starts, out, _) = check_cuts(
                &mut random,
                &kernels,
                [rows, channels, 3 * channels],
                &|kernels, rows, starts, state, x| {
                    let key = part(&key, &rows);
                    // The sum of weights is one of exponentials.
                    for weight in &mut state[channels..2 * channels] {
                        *weight = weight.abs();
                    }
                    let rates = [&decay[..], &first[..]];
                    kernels.weighted_key_values(rates, key.view(), starts, state, x.view_mut());
                },
            );
            for channel in 0..channels {
                let [sum, weight, exponent] =
                    [0, 1, 2].map(|part| f64::from(before[part * channels + channel]));
                let mut sums = [sum * exponent.exp(), weight.abs() * exponent.exp()];
                for row in 0..rows {
                    if starts.contains(&row) {
                        sums = [0.0; 2];
                    }
                    let key = f64::from(key.row(row)[channel]);
                    let value = f64::from(input.row(row)[channel]);
                    let own = (key + f64::from(first[channel])).exp();
                    let mean = (sums[0] + own * value) / (sums[1] + own);
                    assert_close(out.row(row)[channel], mean, 2e-4, "weighted mean");
                    let left = f64::from(decay[channel]).exp();
                    sums = [
                        left * sums[0] + key.exp() * value,
                        left * sums[1] + key.exp(),
                    ];
                }
            }
        }
    }
}

#[test]
fn exponential_gates_agree_with_f64() {
    for kernels in all_kernels(Compute::F32) {
        let mut random = Random(37);
        for heads in [1, 5, 16, 23] {
            let rows = 1 + random.below(12);
            let (input, before, starts, out, behind) = check_cuts(
                &mut random,
                &kernels,
                [rows, 3 * heads, heads],
                &|kernels, _, starts, state, x| {
                    kernels.scale_in_place(4.0, x.view_mut());
                    let (entered, rest) = x.view_mut().split_cols(heads);
                    let (left, floor) = rest.split_cols(heads);
                    kernels.exponential_gates(starts, state, [entered, left, floor]);
                },
            );
            for head in 0..heads {
                let mut most = f64::from(before[head]);
                for row in 0..rows {
                    if starts.contains(&row) {
                        most = 0.0;
                    }
                    let given = |part: usize| 4.0 * f64::from(input.row(row)[part * heads + head]);
                    let found = |part: usize| out.row(row)[part * heads + head];
                    let left = most - (-given(1)).exp().ln_1p();
                    most = left.max(given(0));
                    assert_close(found(0), (given(0) - most).exp(), 2e-5, "what enters");
                    assert_close(found(1), (left - most).exp(), 2e-5, "what is left");
                    assert_close(found(2), (-most).exp(), 2e-5, "the floor");
                }
                assert_close(behind[head], most, 2e-5, "the exponent");
            }
        }
    }
}

//! Attention: against f64, and the same bits however sequences are packed and queries are cut.

mod reference;

use reference::{Random, all_kernels, assert_close, assert_same_bits, to_bf16};
use sli_kernels::{
    AttentionArgs, AttentionMask, BiasSite, CommonKeys, Compute, Kernels, Mat, Running, Segment,
    Sinks,
};

/// A random problem.
struct Case {
    heads: usize,
    kv_heads: usize,
    qk_dim: usize,
    v_dim: usize,
    q: Mat,
    k: Mat,
    v: Mat,
    segments: Vec<Segment>,
    mask: AttentionMask,
    scale: f32,
    softcap: Option<f32>,
    sinks: Option<Vec<f32>>,
    alibi: Option<Vec<f32>>,
    with_bias: bool,
}

/// A bias that masks some keys, and every key of some queries.
fn bias(site: &BiasSite, logits: &mut [f32]) {
    for (key, logit) in site.keys.clone().zip(logits) {
        *logit += ((site.head * 7 + site.query * 3 + key) % 5) as f32 * 0.25;
        if (site.query + key).is_multiple_of(3) || site.query % 11 == 10 {
            *logit = f32::NEG_INFINITY;
        }
    }
}

impl Case {
    fn random(random: &mut Random, longest: usize) -> Self {
        let kv_heads = 1 + random.below(3);
        let heads = kv_heads * random.one_of(&[1, 1, 2, 5]);
        let (qk_dim, v_dim) = (1 + random.below(90), 1 + random.below(80));
        let mut segments = Vec::new();
        let (mut q_rows, mut k_rows) = (0, 0);
        for _ in 0..=random.below(4) {
            let keys = random.below(longest);
            // Sometimes the keys begin before the queries, or there are more queries than keys.
            let q_start = if random.below(2) == 0 {
                0
            } else {
                random.below(keys + 1)
            };
            let queries = if random.below(4) == 0 {
                keys + 3
            } else {
                keys - q_start
            };
            segments.push(Segment {
                q: q_rows..q_rows + queries,
                k: k_rows..k_rows + keys,
                q_start,
                prefix: random.one_of(&[0, 0, 7]),
            });
            q_rows += queries;
            k_rows += keys;
        }
        Self {
            heads,
            kv_heads,
            qk_dim,
            v_dim,
            q: random.mat(q_rows, heads * qk_dim),
            k: random.mat(k_rows, kv_heads * qk_dim),
            v: random.mat(k_rows, kv_heads * v_dim),
            segments,
            mask: random.one_of(&[
                AttentionMask::Full,
                AttentionMask::Causal,
                AttentionMask::Causal,
                AttentionMask::Window {
                    left: 5,
                    right: None,
                },
                AttentionMask::Window {
                    left: 300,
                    right: None,
                },
                AttentionMask::Window {
                    left: 20,
                    right: Some(9),
                },
                AttentionMask::Chunk(48),
                AttentionMask::Block { size: 6, shift: 0 },
                AttentionMask::Block {
                    size: 300,
                    shift: 150,
                },
                AttentionMask::Summaries(3),
            ]),
            scale: random.one_of(&[0.1, 1.0, 5.0]),
            softcap: random.one_of(&[None, None, Some(2.0)]),
            sinks: (random.below(3) == 0).then(|| random.vec(heads)),
            alibi: (random.below(3) == 0).then(|| random.vec(heads)),
            with_bias: random.below(3) == 0,
        }
    }

    fn args<'a>(
        &'a self,
        q: &'a Mat,
        k: &'a Mat,
        v: &'a Mat,
        segments: &'a [Segment],
    ) -> AttentionArgs<'a> {
        AttentionArgs {
            q: q.view(),
            k: k.view(),
            v: v.view(),
            heads: self.heads,
            kv_heads: self.kv_heads,
            qk_dim: self.qk_dim,
            v_dim: self.v_dim,
            segments,
            common: None,
            mask: self.mask,
            joined: None,
            scale: self.scale,
            softcap: self.softcap,
            sinks: self.sinks.as_deref().map(Sinks::OfHeads),
            alibi: self.alibi.as_deref(),
            bias: if self.with_bias { Some(&bias) } else { None },
            running: None,
        }
    }

    fn run(&self, kernels: &Kernels) -> Mat {
        let mut out = Mat::new(self.q.rows(), self.heads * self.v_dim);
        kernels.attention(
            &self.args(&self.q, &self.k, &self.v, &self.segments),
            out.view_mut(),
        );
        out
    }

    /// One output head by the definition, in f64.
    fn expected(
        &self,
        segment: usize,
        query: usize,
        head: usize,
        round: fn(f32) -> f32,
    ) -> Vec<f64> {
        let part = &self.segments[segment];
        let kv_head = head / (self.heads / self.kv_heads);
        let position = part.q_start + query;
        let q = &self.q.row(part.q.start + query)[head * self.qk_dim..(head + 1) * self.qk_dim];
        let mut logits: Vec<f64> = (0..part.k.len())
            .map(|key| {
                let k = &self.k.row(part.k.start + key)
                    [kv_head * self.qk_dim..(kv_head + 1) * self.qk_dim];
                let dot: f64 = q
                    .iter()
                    .zip(k)
                    .map(|(&a, &b)| f64::from(round(a)) * f64::from(round(b)))
                    .sum();
                let mut x = dot * f64::from(self.scale);
                if let Some(cap) = self.softcap {
                    x = f64::from(cap) * (x / f64::from(cap)).tanh();
                }
                if let Some(slopes) = &self.alibi {
                    x += f64::from(slopes[head]) * (key as f64 - position as f64);
                }
                x
            })
            .collect();
        if self.with_bias {
            let mut added = vec![0.0; logits.len()];
            bias(
                &BiasSite {
                    segment,
                    head,
                    query: position,
                    keys: 0..logits.len(),
                },
                &mut added,
            );
            for (x, y) in logits.iter_mut().zip(added) {
                *x += f64::from(y);
            }
        }
        for (key, x) in logits.iter_mut().enumerate() {
            if !self.mask.sees(position, key, part.prefix) {
                *x = f64::NEG_INFINITY;
            }
        }
        let sink = self
            .sinks
            .as_ref()
            .map_or(f64::NEG_INFINITY, |sinks| f64::from(sinks[head]));
        let max = logits.iter().copied().fold(sink, f64::max);
        let mut out = vec![0.0; self.v_dim];
        if max == f64::NEG_INFINITY {
            return out;
        }
        let total = logits.iter().map(|x| (x - max).exp()).sum::<f64>() + (sink - max).exp();
        for (key, x) in logits.iter().enumerate() {
            let v =
                &self.v.row(part.k.start + key)[kv_head * self.v_dim..(kv_head + 1) * self.v_dim];
            for (out, &v) in out.iter_mut().zip(v) {
                *out += (x - max).exp() / total * f64::from(round(v));
            }
        }
        out
    }
}

#[test]
fn agrees_with_f64() {
    for (compute, tolerance) in [(Compute::F32, 2e-5), (Compute::Bf16, 6e-3)] {
        for [one, two] in all_kernels(compute) {
            let mut random = Random(5);
            for round in 0..20 {
                let case = Case::random(&mut random, if round < 16 { 60 } else { 600 });
                let out = case.run(if round % 2 == 0 { &one } else { &two });
                let rounded = if compute == Compute::Bf16 {
                    to_bf16
                } else {
                    |x| x
                };
                for (index, segment) in case.segments.iter().enumerate() {
                    let step = 1 + segment.q.len() / 40;
                    for query in (0..segment.q.len()).step_by(step) {
                        for head in 0..case.heads {
                            let expected = case.expected(index, query, head, rounded);
                            let row = out.row(segment.q.start + query);
                            for (i, expected) in expected.into_iter().enumerate() {
                                let what = format!(
                                    "{one:?} {:?} case {round}: {index} {query} {head} {i}",
                                    case.mask
                                );
                                assert_close(
                                    row[head * case.v_dim + i],
                                    expected,
                                    tolerance,
                                    &what,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn same_bits_packed_alone_and_in_chunks() {
    for compute in [Compute::F32, Compute::Bf16] {
        for [one, two] in all_kernels(compute) {
            let mut random = Random(6);
            for round in 0..12 {
                let case = Case::random(&mut random, if round < 8 { 80 } else { 700 });
                let together = case.run(&two);
                for (index, segment) in case.segments.iter().enumerate() {
                    // Some of the queries, only with the keys that the last of them needs.
                    for queries in random.cuts(segment.q.len()) {
                        let last = segment.q_start + queries.end.max(1) - 1;
                        let needed = case
                            .mask
                            .visible(last, segment.prefix)
                            .end
                            .min(segment.k.len());
                        let q = part(
                            &case.q,
                            segment.q.start + queries.start..segment.q.start + queries.end,
                        );
                        let k = part(&case.k, segment.k.start..segment.k.start + needed);
                        let v = part(&case.v, segment.k.start..segment.k.start + needed);
                        let alone = [Segment {
                            q: 0..queries.len(),
                            k: 0..needed,
                            q_start: segment.q_start + queries.start,
                            prefix: segment.prefix,
                        }];
                        let mut out = Mat::new(q.rows(), together.cols());
                        one.attention(&case.args(&q, &k, &v, &alone), out.view_mut());
                        let range = segment.q.start + queries.start..segment.q.start + queries.end;
                        let what = format!("{one:?} {:?} case {round}, segment {index}", case.mask);
                        assert_same_bits(&out, &part(&together, range), &what);
                    }
                }
            }
        }
    }
}

#[test]
fn same_bits_when_keys_come_in_several_calls() {
    for compute in [Compute::F32, Compute::Bf16] {
        for [one, two] in all_kernels(compute) {
            let mut random = Random(11);
            for round in 0..2 {
                let case = Case::random(&mut random, 600);
                let together = case.run(&two);
                for (index, segment) in case.segments.iter().enumerate() {
                    let q = part(&case.q, segment.q.clone());
                    let columns = Running::columns(case.heads, case.v_dim);
                    let mut kept = Mat::new(q.rows(), columns);
                    let sums = kept.view_mut();
                    let mut out = Mat::new(q.rows(), together.cols());
                    let keys = segment.k.len();
                    let mut first = 0;
                    loop {
                        let blocks = 1 + random.below(3);
                        let end = keys.min(first + blocks * Running::KEYS);
                        let rows = segment.k.start + first..segment.k.start + end;
                        let (k, v) = (part(&case.k, rows.clone()), part(&case.v, rows));
                        let alone = [Segment {
                            q: 0..q.rows(),
                            k: 0..end - first,
                            ..segment.clone()
                        }];
                        let mut args = case.args(&q, &k, &v, &alone);
                        args.running = Some(Running {
                            sums: &sums,
                            first_key: first,
                            begins: first == 0,
                            ends: end == keys,
                        });
                        one.attention(&args, out.view_mut());
                        first = end;
                        if first == keys {
                            break;
                        }
                    }
                    let what = format!("{one:?} {:?} case {round}, segment {index}", case.mask);
                    assert_same_bits(&out, &part(&together, segment.q.clone()), &what);
                }
            }
        }
    }
}

/// Consecutive rows of `from`.
fn part(from: &Mat, rows: std::ops::Range<usize>) -> Mat {
    picked(from, &rows.collect::<Vec<_>>())
}

/// Rows of `from` picked by number.
fn picked(from: &Mat, rows: &[usize]) -> Mat {
    let mut to = Mat::new(rows.len(), from.cols());
    for (row, &source) in rows.iter().enumerate() {
        to.row_mut(row).copy_from_slice(from.row(source));
    }
    to
}

#[test]
fn same_bits_when_keys_are_common_or_earlier() {
    for compute in [Compute::F32, Compute::Bf16] {
        for [one, two] in all_kernels(compute) {
            let mut random = Random(7);
            for round in 0..12 {
                let case = Case::random(&mut random, if round < 8 { 80 } else { 700 });
                let together = case.run(&two);
                // Every sequence gives the beginning of its keys away: some of them lie among the
                // other rows, some with the earlier ones.
                let (mut near, mut far) = (Vec::new(), Vec::new());
                let mut divided = Vec::new();
                for segment in &case.segments {
                    let cut = segment.k.start + random.below(segment.k.len() + 1);
                    let places: Vec<(bool, usize)> = (segment.k.start..cut)
                        .map(|key| {
                            let away = random.below(2) == 0;
                            let rows = if away { &mut far } else { &mut near };
                            rows.push(key);
                            (away, rows.len() - 1)
                        })
                        .collect();
                    let start = near.len();
                    near.extend(cut..segment.k.end);
                    divided.push((places, start..near.len()));
                }
                let (mut rows, mut ranges, mut segments) = (Vec::new(), Vec::new(), Vec::new());
                for ((places, own), segment) in divided.into_iter().zip(&case.segments) {
                    let first = rows.len();
                    let row = |(away, row)| if away { near.len() + row } else { row } as u32;
                    rows.extend(places.into_iter().map(row));
                    ranges.push(first..rows.len());
                    let k = own;
                    segments.push(Segment {
                        k,
                        ..segment.clone()
                    });
                }
                let [k, v, earlier_k, earlier_v] = [
                    picked(&case.k, &near),
                    picked(&case.v, &near),
                    picked(&case.k, &far),
                    picked(&case.v, &far),
                ];
                let mut args = case.args(&case.q, &k, &v, &segments);
                args.common = Some(CommonKeys {
                    segments: &ranges,
                    rows: &rows,
                    earlier_k: earlier_k.view(),
                    earlier_v: earlier_v.view(),
                });
                let mut out = Mat::new(case.q.rows(), together.cols());
                one.attention(&args, out.view_mut());
                let what = format!("{one:?} {:?} case {round}", case.mask);
                assert_same_bits(&out, &together, &what);
            }
        }
    }
}

#[test]
fn no_segments_and_no_keys() {
    let kernels = Kernels::new(2, Compute::F32);
    let q = Mat::from_vec(2, 4, vec![1.0; 8]);
    let empty = Mat::new(0, 4);
    let case = |segments: &[Segment], out: &mut Mat| {
        kernels.attention(
            &AttentionArgs {
                q: q.view(),
                k: empty.view(),
                v: empty.view(),
                heads: 1,
                kv_heads: 1,
                qk_dim: 4,
                v_dim: 4,
                segments,
                common: None,
                mask: AttentionMask::Full,
                joined: None,
                scale: 1.0,
                softcap: None,
                sinks: None,
                alibi: None,
                bias: None,
                running: None,
            },
            out.view_mut(),
        );
    };
    let mut out = Mat::from_vec(2, 4, vec![9.0; 8]);
    case(&[], &mut out);
    assert_eq!(out.as_slice(), [9.0; 8]);
    case(
        &[Segment {
            q: 0..2,
            k: 0..0,
            q_start: 0,
            prefix: 0,
        }],
        &mut out,
    );
    assert_eq!(out.as_slice(), [0.0; 8]);
}

#[test]
fn a_query_has_sinks_of_its_own() {
    for kernels in all_kernels(Compute::F32).into_iter().flatten() {
        let mut random = Random(29);
        let case = Case {
            sinks: None,
            ..Case::random(&mut random, 40)
        };
        let sinks = random.mat(case.q.rows(), case.heads);
        let run = |sinks| {
            let mut out = Mat::new(case.q.rows(), case.heads * case.v_dim);
            let args = AttentionArgs {
                sinks: Some(sinks),
                ..case.args(&case.q, &case.k, &case.v, &case.segments)
            };
            kernels.attention(&args, out.view_mut());
            out
        };
        let of_rows = run(Sinks::OfRows(sinks.view()));
        for row in 0..sinks.rows() {
            let of_heads = run(Sinks::OfHeads(sinks.row(row)));
            assert_eq!(of_rows.row(row), of_heads.row(row), "row {row}");
        }
    }
}

#[test]
fn joined_positions_are_seen_beside_those_of_the_mask() {
    const KEYS: usize = 700;
    let mut random = Random(21);
    let [q, k, v] = [32, 16, 16].map(|columns| random.mat(KEYS, columns));
    let segments = [Segment::whole(0..KEYS)];
    // Runs that lie across blocks of keys.
    let runs = [0..9, 230..300, 500..KEYS];
    let joined: Vec<_> = (0..KEYS)
        .map(|row| {
            let run = runs.iter().find(|run| run.contains(&row));
            row as u32..run.map_or(row + 1, |run| run.end) as u32
        })
        .collect();
    let masks = [
        AttentionMask::Causal,
        AttentionMask::Window {
            left: 40,
            right: None,
        },
    ];
    for mask in masks {
        let hidden = |site: &BiasSite, logits: &mut [f32]| {
            for (logit, key) in logits.iter_mut().zip(site.keys.clone()) {
                let sees = mask.visible(site.query, 0).contains(&key)
                    || joined[site.query].contains(&(key as u32));
                if !sees {
                    *logit = f32::NEG_INFINITY;
                }
            }
        };
        for [one, _] in all_kernels(Compute::F32) {
            let plain = |mask| {
                let mats = [q.view(), k.view(), v.view()];
                AttentionArgs::plain(mats, [4, 2], &segments, mask, 0.3)
            };
            let [mut own, mut expected] = [0, 1].map(|_| Mat::new(KEYS, 32));
            let args = AttentionArgs {
                joined: Some(&joined),
                ..plain(mask)
            };
            one.attention(&args, own.view_mut());
            let args = AttentionArgs {
                bias: Some(&hidden),
                ..plain(AttentionMask::Full)
            };
            one.attention(&args, expected.view_mut());
            for row in 0..KEYS {
                for (own, expected) in own.row(row).iter().zip(expected.row(row)) {
                    let what = format!("{one:?} {mask:?} {row}");
                    assert_close(*own, f64::from(*expected), 1e-6, &what);
                }
            }
        }
    }
}

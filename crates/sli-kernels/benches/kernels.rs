//! Prints how fast the kernels are on this machine, as parts of what it could do at best.
//!
//! `cargo bench -p sli-kernels --bench kernels [-- WORD.. [THREADS]]` prints the tables whose name
//! contains one of the words.

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

use std::time::Instant;

use sli_kernels::{
    Activation, AttentionArgs, AttentionMask, Compute, Element, Kernels, Mat, PackedKind,
    PackedWeights, Segment, Store, measure,
};

/// The shortest time of a call, in seconds: what other work on the machine disturbs least.
fn best(mut f: impl FnMut()) -> f64 {
    f();
    let mut shortest = f64::INFINITY;
    let mut calls = 0;
    let begin = Instant::now();
    while calls < 5 || (begin.elapsed().as_secs_f64() < 0.5 && calls < 500) {
        let start = Instant::now();
        f();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    shortest
}

/// What a call reached and what the machine gave around it. Other work on the machine slows both, so
/// a limit is measured next to every call and the median of the pairs is what is printed.
struct Outcome {
    /// Seconds of a call.
    time: f64,
    /// The call's rate as a part of the limit, in percent.
    percent: f64,
}

/// `work` is in the units that `limit` gives per second.
fn beside(work: f64, limit: impl Fn() -> f64, mut call: impl FnMut()) -> Outcome {
    const PAIRS: usize = 9;
    let (mut times, mut percents) = (Vec::new(), Vec::new());
    call();
    for _ in 0..PAIRS {
        let before = limit();
        let begin = Instant::now();
        let mut calls = 0;
        while calls == 0 || begin.elapsed().as_secs_f64() < 0.03 {
            call();
            calls += 1;
        }
        let time = begin.elapsed().as_secs_f64() / f64::from(calls);
        // The mean of both sides: the load may change in between.
        let limit = f64::midpoint(before, limit());
        times.push(time);
        percents.push(work / time / limit * 100.0);
    }
    times.sort_by(f64::total_cmp);
    percents.sort_by(f64::total_cmp);
    Outcome {
        time: times[PAIRS / 2],
        percent: percents[PAIRS / 2],
    }
}

fn filled(rows: usize, cols: usize) -> Mat {
    let mut mat = Mat::new(rows, cols);
    let mut state = 1_u32;
    for x in mat.as_mut_slice() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    mat
}

fn gemm(kernels: &Kernels, kind: PackedKind, memory: &[f32]) {
    println!("\n{kind:?}: % of the register peak; up to 8 rows, of that or of a streaming read");
    println!(
        "{:>6} {:>6} {:>6} {:>10} {:>8} {:>8} {:>6}",
        "m", "n", "k", "ms", "GFLOP/s", "GB/s", "%"
    );
    for (n, k) in [(4096, 4096), (2048, 2048), (14336, 4096), (4096, 14336)] {
        let mut w = PackedWeights::new(n, k, kind);
        w.pack_rows_f32(0, filled(n, k).as_slice());
        for m in [1, 8, 64, 512, 2048] {
            let x = filled(m, k);
            let mut out = Mat::new(m, n);
            let flops = 2.0 * (m * n * k) as f64 / 1e9;
            let bytes = PackedWeights::bytes_for(n, k, kind) as f64;
            let call = || kernels.gemm(x.view(), &w, None, Store::Set, out.view_mut());
            let peak = || measure::peak_gflops(kernels);
            let outcome = if m <= 8 {
                // Whichever takes longer: eight rows of 16-bit weights in `f32` are 8 operations a byte.
                let seconds = || {
                    let reading = bytes / measure::memory_bandwidth(kernels, memory, 2);
                    reading.max(flops / peak())
                };
                beside(1.0, || 1.0 / seconds(), call)
            } else {
                beside(flops, peak, call)
            };
            let Outcome { time, percent } = outcome;
            // A weight that fits the caches is not read from memory: no limit to compare with.
            let percent = if m <= 8 && bytes < 64e6 {
                "cached".into()
            } else {
                format!("{percent:.1}")
            };
            println!(
                "{m:>6} {n:>6} {k:>6} {:>10.3} {:>8.1} {:>8.1} {percent:>6}",
                time * 1e3,
                flops / time,
                bytes / time / 1e9
            );
        }
    }
}

fn attention(kernels: &Kernels) {
    println!(
        "\nattention, {:?}: % of the register peak",
        kernels.compute()
    );
    println!(
        "{:>6} {:>6} {:>6} {:>6} {:>10} {:>8} {:>6}",
        "tokens", "heads", "kv", "dim", "ms", "GFLOP/s", "%"
    );
    for (tokens, count, heads, kv_heads, dim) in [
        (4096, 1, 32, 8, 128),
        (8192, 1, 8, 8, 64),
        (512, 8, 32, 32, 128),
        (64, 64, 12, 12, 64),
    ] {
        for mask in [AttentionMask::Causal, AttentionMask::Full] {
            let q = filled(tokens * count, heads * dim);
            let (k, v) = (
                filled(tokens * count, kv_heads * dim),
                filled(tokens * count, kv_heads * dim),
            );
            let mut out = Mat::new(tokens * count, heads * dim);
            let segments: Vec<_> = (0..count)
                .map(|i| Segment::whole(i * tokens..(i + 1) * tokens))
                .collect();
            let args = AttentionArgs {
                q: q.view(),
                k: k.view(),
                v: v.view(),
                heads,
                kv_heads,
                qk_dim: dim,
                v_dim: dim,
                segments: &segments,
                common: None,
                mask,
                joined: None,
                scale: 0.1,
                softcap: None,
                sinks: None,
                alibi: None,
                bias: None,
                running: None,
            };
            let seen = if mask == AttentionMask::Full {
                tokens * tokens
            } else {
                tokens * (tokens + 1) / 2
            };
            let flops = 4.0 * (seen * count * heads * dim) as f64 / 1e9;
            let Outcome { time, percent } = beside(
                flops,
                || measure::peak_gflops(kernels),
                || kernels.attention(&args, out.view_mut()),
            );
            println!(
                "{tokens:>6} {heads:>6} {kv_heads:>6} {dim:>6} {:>10.2} {:>8.1} {percent:>6.1}  {count} x {mask:?}",
                time * 1e3,
                flops / time
            );
        }
    }
}

fn rows(kernels: &Kernels) {
    println!("\nrow-wise on [2048, 4096], GB/s of operands (partly from the cache)");
    let x = filled(2048, 4096);
    let mut y = x.clone();
    let weight = filled(1, 4096);
    let bytes = (2048 * 4096 * 4) as f64 / 1e9;
    let mut line = |name: &str, operands: f64, f: &mut dyn FnMut(&mut Mat)| {
        let time = best(|| f(&mut y));
        println!(
            "{name:>14} {:>8.2} ms {:>8.1}",
            time * 1e3,
            operands * bytes / time
        );
    };
    line("rms_norm", 2.0, &mut |y| {
        kernels.rms_norm(x.view(), Some(weight.row(0)), 1e-6, y.view_mut());
    });
    line("layer_norm", 2.0, &mut |y| {
        kernels.layer_norm(
            x.view(),
            Some(weight.row(0)),
            Some(weight.row(0)),
            1e-6,
            y.view_mut(),
        );
    });
    line("add", 3.0, &mut |y| {
        kernels.add(x.view(), 1e-3, y.view_mut());
    });
    for (name, activation) in [
        ("silu", Activation::Silu),
        ("gelu", Activation::Gelu),
        ("gelu_tanh", Activation::GeluTanh),
    ] {
        line(name, 3.0, &mut |y| {
            kernels.gated(activation, y.view_mut(), x.view());
        });
    }
}

fn packing() {
    println!("\npacking, GB/s of stored bytes (one thread)");
    let (n, k) = (4096, 4096);
    let values = filled(n, k);
    let halves: Vec<u8> = values
        .as_slice()
        .iter()
        .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
        .collect();
    for (raw, element, kind) in [
        (
            bytemuck::cast_slice(values.as_slice()),
            Element::F32,
            PackedKind::F32,
        ),
        (
            bytemuck::cast_slice(values.as_slice()),
            Element::F32,
            PackedKind::Bf16Dot,
        ),
        (&halves, Element::Bf16, PackedKind::Bf16Dot),
        (&halves, Element::Bf16, PackedKind::Bf16),
        (&halves, Element::F16, PackedKind::Bf16Dot),
    ] {
        let mut w = PackedWeights::new(n, k, kind);
        let time = best(|| w.pack_rows(0, raw, element));
        println!(
            "{element:?} -> {kind:?}: {:.1}",
            raw.len() as f64 / time / 1e9
        );
    }
    let time = best(|| {
        std::hint::black_box(sli_kernels::first_non_finite(&halves, Element::Bf16));
    });
    println!("first_non_finite: {:.1}", halves.len() as f64 / time / 1e9);
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let threads = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let names: Vec<&String> = words
        .iter()
        .filter(|word| word.parse::<usize>().is_err())
        .collect();
    let wanted =
        |name: &str| names.is_empty() || names.iter().any(|word| name.contains(word.as_str()));
    let exact = Kernels::new(threads, Compute::F32);
    let fast = Kernels::new(threads, Compute::Bf16);
    // Four times a large last-level cache, of ones: zeros might be one shared page.
    let memory = vec![1.0_f32; 32 << 20];
    println!("{fast:?}, beside other work if there is any: percentages are medians of pairs");
    if wanted("gemm-bf16") {
        gemm(&fast, PackedKind::Bf16Dot, &memory);
    }
    if wanted("gemm-f32") {
        gemm(&exact, PackedKind::F32, &memory);
        gemm(&exact, PackedKind::Bf16, &memory);
    }
    if wanted("attention") {
        attention(&fast);
        attention(&exact);
    }
    if wanted("rows") {
        rows(&exact);
    }
    if wanted("packing") {
        packing();
    }
}

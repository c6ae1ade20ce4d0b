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

fn filled(rows: usize, cols: usize) -> Mat {
    let mut mat = Mat::new(rows, cols);
    let mut state = 1_u32;
    for x in mat.as_mut_slice() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    mat
}

fn gemm(kernels: &Kernels, kind: PackedKind, peak: f64, bandwidth: f64) {
    println!("\n{kind:?}: {peak:.0} GFLOP/s at best");
    println!(
        "{:>6} {:>6} {:>6} {:>10} {:>8} {:>6} {:>8} {:>6}",
        "m", "n", "k", "ms", "GFLOP/s", "%", "GB/s", "%"
    );
    for (n, k) in [(4096, 4096), (2048, 2048), (14336, 4096), (4096, 14336)] {
        let mut w = PackedWeights::new(n, k, kind);
        w.pack_rows_f32(0, filled(n, k).as_slice());
        for m in [1, 2, 4, 8, 16, 64, 512, 2048] {
            let x = filled(m, k);
            let mut out = Mat::new(m, n);
            let time = best(|| kernels.gemm(x.view(), &w, None, Store::Set, out.view_mut()));
            let rate = 2.0 * (m * n * k) as f64 / time / 1e9;
            let bytes = PackedWeights::bytes_for(n, k, kind) as f64 / time / 1e9;
            println!(
                "{m:>6} {n:>6} {k:>6} {:>10.3} {rate:>8.1} {:>6.1} {bytes:>8.1} {:>6.1}",
                time * 1e3,
                rate / peak * 100.0,
                bytes / bandwidth * 100.0
            );
        }
    }
}

fn attention(kernels: &Kernels, peak: f64) {
    println!(
        "\nattention, {:?}: {peak:.0} GFLOP/s at best",
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
                mask,
                scale: 0.1,
                softcap: None,
                sinks: None,
                alibi: None,
                bias: None,
            };
            let time = best(|| kernels.attention(&args, out.view_mut()));
            let seen = if mask == AttentionMask::Full {
                tokens * tokens
            } else {
                tokens * (tokens + 1) / 2
            };
            let rate = 4.0 * (seen * count * heads * dim) as f64 / time / 1e9;
            println!(
                "{:>6} {heads:>6} {kv_heads:>6} {dim:>6} {:>10.2} {rate:>8.1} {:>6.1}  {count} x {mask:?}",
                tokens,
                time * 1e3,
                rate / peak * 100.0
            );
        }
    }
}

fn rows(kernels: &Kernels, bandwidth: f64) {
    println!("\nrow-wise on [2048, 4096], GB/s of operands (memory {bandwidth:.0})");
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
    line("softmax", 2.0, &mut |y| {
        kernels.softmax_in_place(y.view_mut());
    });
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
    let (exact_peak, fast_peak) = (measure::peak_gflops(&exact), measure::peak_gflops(&fast));
    let bandwidth = measure::memory_bandwidth(&exact, 256 << 20) / 1e9;
    println!(
        "{fast:?}: f32 {exact_peak:.0}, bf16 {fast_peak:.0} GFLOP/s, memory {bandwidth:.1} GB/s"
    );
    if wanted("gemm-bf16") {
        gemm(&fast, PackedKind::Bf16Dot, fast_peak, bandwidth);
    }
    if wanted("gemm-f32") {
        gemm(&exact, PackedKind::F32, exact_peak, bandwidth);
        gemm(&exact, PackedKind::Bf16, exact_peak, bandwidth);
    }
    if wanted("attention") {
        attention(&fast, fast_peak);
        attention(&exact, exact_peak);
    }
    if wanted("rows") {
        rows(&exact, bandwidth);
    }
    if wanted("packing") {
        packing();
    }
}

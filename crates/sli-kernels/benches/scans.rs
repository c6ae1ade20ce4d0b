//! Prints how many rows a second pass the parts of a layer of Mamba and of Mamba-2 and recurrences whose states are matrices, at the
//! sizes of published models.
//!
//! `cargo bench -p sli-kernels --bench scans [-- THREADS]`

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

use std::time::{Duration, Instant};

use sli_kernels::{
    Activation, Compute, Decay, Kernels, LinearAttention, Mat, PackedKind, PackedWeights,
    SelectiveScan, StateSpaceDual, Store, Update,
};

const ROWS: usize = 1024;

/// Rows of what takes longer.
const SHORT_ROWS: usize = 128;

/// Seconds of the shortest call on `x`, which is the same before each.
fn seconds(x: &Mat, mut call: impl FnMut(&mut Mat)) -> f64 {
    let mut shortest = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.5 {
        let mut x = x.clone();
        let start = Instant::now();
        call(&mut x);
        shortest = shortest.min(start.elapsed());
    }
    shortest.as_secs_f64()
}

/// Numbers from `low` to `high`.
fn filled(rows: usize, cols: usize, low: f32, high: f32) -> Mat {
    let mut mat = Mat::new(rows, cols);
    let mut state = 1_u32;
    for x in mat.as_mut_slice() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = low + (high - low) * (state >> 8) as f32 / (1 << 24) as f32;
    }
    mat
}

/// Products of the rows with matrices of these sizes.
fn products(kernels: &Kernels, sizes: &[[usize; 2]]) -> f64 {
    let kind = match kernels.compute() {
        Compute::F32 => PackedKind::F32,
        Compute::Bf16 => PackedKind::Bf16Dot,
    };
    let product = |&[columns, features]: &[usize; 2]| {
        let mut weights = PackedWeights::new(columns, features, kind);
        weights.pack_rows_f32(0, filled(columns, features, -0.1, 0.1).as_slice());
        let mut out = Mat::new(ROWS, columns);
        seconds(&filled(ROWS, features, -1.0, 1.0), |x| {
            kernels.gemm(x.view(), &weights, None, Store::Set, out.view_mut());
        })
    };
    sizes.iter().map(product).sum()
}

fn print(what: &str, parts: &[(&str, f64)]) {
    let rate = |seconds: f64| format!("{:.0}", ROWS as f64 / seconds);
    let listed = parts
        .iter()
        .map(|&(name, seconds)| format!("{name} {}", rate(seconds)));
    let listed: Vec<String> = listed.collect();
    let all = parts.iter().map(|&(_, seconds)| seconds).sum();
    println!(
        "{what}: {} rows/s; all of them {}",
        listed.join(", "),
        rate(all)
    );
}

fn selective(kernels: &Kernels, hidden: usize, size: usize) {
    let (channels, rank) = (2 * hidden, hidden.div_ceil(16));
    let sizes = [
        [2 * channels, hidden],
        [rank + 2 * size, channels],
        [channels, rank],
        [hidden, channels],
    ];
    let x = filled(ROWS, channels, -1.0, 1.0);
    let (weight, mut window) = (vec![0.25; 4 * channels], vec![0.0; 3 * channels]);
    let convolution = seconds(&x, |x| {
        kernels.causal_convolution(&weight, None, &[0], &mut window, x.view_mut());
    });
    let silu = seconds(&x, |x| kernels.activation(Activation::Silu, x.view_mut()));
    let softplus = seconds(&x, |x| {
        kernels.activation(Activation::Softplus, x.view_mut());
    });
    let gate = seconds(&x, |gate| {
        kernels.gated(Activation::Silu, gate.view_mut(), x.view());
    });
    let steps = filled(ROWS, channels, 0.001, 0.1);
    let (b, c) = (filled(ROWS, size, -1.0, 1.0), filled(ROWS, size, -1.0, 1.0));
    let a_log = filled(1, channels * size, 0.0, 2.8);
    let skip = vec![1.0; channels];
    let mut state = vec![0.0; channels * size];
    let scan = SelectiveScan {
        time_steps: steps.view(),
        b: b.view(),
        c: c.view(),
        groups: 1,
        a_log: a_log.as_slice(),
        skip: &skip,
    };
    let scan = seconds(&x, |x| {
        kernels.selective_scan(scan, &[0], &mut state, x.view_mut());
    });
    let parts = [
        ("products", products(kernels, &sizes)),
        ("convolution", convolution),
        ("activations", silu + softplus + gate),
        ("scan", scan),
    ];
    print(&format!("Mamba, width {hidden}, state {size}"), &parts);
}

fn dual(kernels: &Kernels, hidden: usize, size: usize) {
    let (features, dim) = (2 * hidden, 64);
    let heads = features / dim;
    let sizes = [
        [2 * features + 2 * size + heads, hidden],
        [hidden, features],
    ];
    let steps = filled(ROWS, heads, 0.001, 0.1);
    let (b, c) = (filled(ROWS, size, -1.0, 1.0), filled(ROWS, size, -1.0, 1.0));
    let a_log = filled(1, heads, 0.0, 2.8);
    let skip = vec![1.0; heads];
    let mut state = vec![0.0; features * size];
    let scan = StateSpaceDual {
        time_steps: steps.view(),
        b: b.view(),
        c: c.view(),
        groups: 1,
        a_log: a_log.as_slice(),
        skip: &skip,
    };
    let x = filled(ROWS, features, -1.0, 1.0);
    let scan = seconds(&x, |x| {
        kernels.state_space_dual(scan, &[0], &mut state, x.view_mut());
    });
    let parts = [("products", products(kernels, &sizes)), ("scan", scan)];
    print(&format!("Mamba-2, width {hidden}, state {size}"), &parts);
}

/// A recurrence of `[key heads, heads, features of a key, of a value]`, and how near it is to what the vector units do: operations a
/// nanosecond.
fn matrices(
    kernels: &Kernels,
    name: &str,
    [key_heads, heads, key, value]: [usize; 4],
    kind: fn(&Numbers) -> (Decay<'_>, Update<'_>),
) {
    let scale = (key as f32).powf(-0.5);
    let numbers = Numbers {
        of_heads: filled(SHORT_ROWS, heads, 0.8, 1.0),
        of_keys: filled(SHORT_ROWS, heads * key, 0.8, 1.0),
        small: filled(SHORT_ROWS, heads * key, -scale, scale),
    };
    let [query, keys] = [0; 2].map(|_| filled(SHORT_ROWS, key_heads * key, -scale, scale));
    let (decay, update) = kind(&numbers);
    let mut state = vec![0.0; heads * key * value];
    let attention = LinearAttention {
        query: query.view(),
        key: keys.view(),
        key_heads,
        heads,
        decay,
        update,
        scale,
    };
    let x = filled(SHORT_ROWS, heads * value, -1.0, 1.0);
    let seconds = seconds(&x, |x| {
        kernels.linear_attention(attention, &[0], &mut state, x.view_mut());
    });
    let values = (SHORT_ROWS * heads * key * value) as f64;
    println!(
        "{name}, {heads} heads of {key} x {value}: {:.0} rows/s, {:.1} values of states a ns",
        SHORT_ROWS as f64 / seconds,
        values / seconds * 1e-9
    );
}

/// What rows differ by.
struct Numbers {
    of_heads: Mat,
    of_keys: Mat,
    small: Mat,
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    for compute in [Compute::F32, Compute::Bf16] {
        let kernels = Kernels::new(threads, compute);
        println!("{kernels:?}, records of {ROWS} rows");
        for hidden in [768, 1536, 2560] {
            selective(&kernels, hidden, 16);
        }
        for hidden in [768, 2560] {
            dual(&kernels, hidden, 128);
        }
        matrices(&kernels, "gated delta", [8, 16, 128, 128], |numbers| {
            let heads = numbers.of_heads.view();
            (Decay::Heads(heads), Update::Delta(heads))
        });
        matrices(
            &kernels,
            "Kimi delta attention",
            [16, 16, 128, 128],
            |numbers| {
                let (keys, heads) = (numbers.of_keys.view(), numbers.of_heads.view());
                (Decay::Keys(keys), Update::Delta(heads))
            },
        );
        matrices(
            &kernels,
            "lightning attention",
            [16, 16, 128, 128],
            |numbers| (Decay::FixedHeads(numbers.of_heads.row(0)), Update::Add),
        );
        matrices(&kernels, "matrix memory", [4, 4, 256, 513], |numbers| {
            (Decay::Heads(numbers.of_heads.view()), Update::Add)
        });
        matrices(&kernels, "RWKV 6", [32, 32, 64, 64], |numbers| {
            let keys = numbers.of_keys.view();
            (Decay::Keys(keys), Update::Bonus(numbers.small.row(0)))
        });
        matrices(&kernels, "RWKV 7", [32, 32, 64, 64], |numbers| {
            let (from, to) = (numbers.small.view(), numbers.small.view());
            let keys = numbers.of_keys.view();
            (Decay::Keys(keys), Update::LowRank { from, to })
        });
    }
}

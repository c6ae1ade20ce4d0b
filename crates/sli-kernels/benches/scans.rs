//! Prints how many rows a second the convolution and the scans pass, at the sizes of published models.
//!
//! `cargo bench -p sli-kernels --bench scans [-- THREADS]`

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]

use std::time::Instant;

use sli_kernels::{Activation, Compute, Kernels, Mat, SelectiveScan, StateSpaceDual};

const ROWS: usize = 1024;

/// Rows a second, of the shortest call.
fn rate(mut call: impl FnMut()) -> f64 {
    call();
    let mut shortest = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        call();
        shortest = shortest.min(start.elapsed().as_secs_f64());
    }
    ROWS as f64 / shortest
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

/// The parts of a Mamba layer that are no products, of this many channels.
fn selective(kernels: &Kernels, channels: usize, size: usize) {
    let (weight, mut window) = (vec![0.25; 4 * channels], vec![0.0; 3 * channels]);
    let mut x = filled(ROWS, channels, -1.0, 1.0);
    let convolution = rate(|| {
        kernels.causal_convolution(&weight, None, &[0], &mut window, x.view_mut());
    });
    let activation = rate(|| kernels.activation(Activation::Silu, x.view_mut()));
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
    let mut x = filled(ROWS, channels, -1.0, 1.0);
    let scanned = rate(|| kernels.selective_scan(scan, &[0], &mut state, x.view_mut()));
    println!(
        "selective scan, {channels} channels, state {size}: convolution {convolution:.0}, its activation \
         {activation:.0}, scan {scanned:.0} rows/s"
    );
}

/// The scan of a Mamba-2 layer.
fn dual(kernels: &Kernels, heads: usize, dim: usize, size: usize) {
    let steps = filled(ROWS, heads, 0.001, 0.1);
    let (b, c) = (filled(ROWS, size, -1.0, 1.0), filled(ROWS, size, -1.0, 1.0));
    let a_log = filled(1, heads, 0.0, 2.8);
    let skip = vec![1.0; heads];
    let mut state = vec![0.0; heads * dim * size];
    let scan = StateSpaceDual {
        time_steps: steps.view(),
        b: b.view(),
        c: c.view(),
        groups: 1,
        a_log: a_log.as_slice(),
        skip: &skip,
    };
    let mut x = filled(ROWS, heads * dim, -1.0, 1.0);
    let scanned = rate(|| kernels.state_space_dual(scan, &[0], &mut state, x.view_mut()));
    println!("state-space dual, {heads} heads of {dim}, state {size}: scan {scanned:.0} rows/s");
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let kernels = Kernels::new(threads, Compute::F32);
    println!("{kernels:?}, records of {ROWS} rows");
    for channels in [768, 1536, 5120] {
        selective(&kernels, channels, 16);
    }
    for heads in [24, 80] {
        dual(&kernels, heads, 64, 128);
    }
}

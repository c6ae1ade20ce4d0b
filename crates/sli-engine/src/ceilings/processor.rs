//! Arithmetic and memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use sli_kernels::measure::{memory_bandwidth, peak_gflops};
use sli_kernels::{Compute, Isa, Kernels, Mat, PackedKind, PackedWeights, Store};

/// Rows, output and input features of the product that is timed.
const PRODUCT: [usize; 3] = [1024, 2048, 2048];

/// Elements that memory bandwidth is measured on: several times a large last-level cache.
const STREAMED: usize = 32 << 20;

/// What some threads of this processor do at best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessorCeilings {
    /// Name of the processor.
    pub name: String,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Threads.
    pub threads: usize,
    /// Operations a second on registers, bf16 products.
    pub peak_bf16: f64,
    /// Operations a second on registers, f32 products.
    pub peak_f32: f64,
    /// Operations a second of a matrix product in bf16.
    pub gemm_bf16: f64,
    /// Operations a second of a matrix product in f32.
    pub gemm_f32: f64,
    /// Bytes a second that a streaming read gets from memory.
    pub memory: f64,
}

impl ProcessorCeilings {
    /// Measures, in about a second.
    pub fn measure(threads: usize) -> Self {
        let [exact, fast] = [Compute::F32, Compute::Bf16].map(|c| Kernels::new(threads, c));
        // Ones: zeros might be one shared page.
        let streamed = vec![1.0_f32; STREAMED];
        let memory = memory_bandwidth(&exact, &streamed, 5);
        drop(streamed);
        let peaks = || [&fast, &exact].map(|kernels| peak_gflops(kernels) * 1e9);
        let before = peaks();
        let [gemm_bf16, gemm_f32] = [&fast, &exact].map(product);
        let after = peaks();
        // Other work on the machine only ever lowers what is seen, so the largest is nearest to the truth.
        let peak = |index: usize, gemm: f64| before[index].max(after[index]).max(gemm);
        Self {
            name: name(),
            isa: exact.isa().to_string(),
            threads: exact.threads(),
            peak_bf16: peak(0, gemm_bf16),
            peak_f32: peak(1, gemm_f32),
            gemm_bf16,
            gemm_f32,
            memory,
        }
    }

    /// Operations a second on registers.
    pub fn peak(&self, compute: Compute) -> f64 {
        match compute {
            Compute::Bf16 => self.peak_bf16,
            Compute::F32 => self.peak_f32,
        }
    }

    /// Operations a second of a matrix product.
    pub fn product(&self, compute: Compute) -> f64 {
        match compute {
            Compute::Bf16 => self.gemm_bf16,
            Compute::F32 => self.gemm_f32,
        }
    }

    /// Whether every rate is one.
    pub(super) fn is_sound(&self) -> bool {
        let rates = [
            self.peak_bf16,
            self.peak_f32,
            self.gemm_bf16,
            self.gemm_f32,
            self.memory,
        ];
        rates.into_iter().all(super::disk::is_rate)
    }
}

/// Operations a second of a product of a good shape, the best of some calls.
fn product(kernels: &Kernels) -> f64 {
    let [m, n, k] = PRODUCT;
    let kind = PackedKind::for_weights(sli_kernels::Element::Bf16, kernels.compute());
    let mut weights = PackedWeights::new(n, k, kind);
    let mut values = Mat::new(n, k);
    values.as_mut_slice().fill(0.5);
    weights.pack_rows_f32(0, values.as_slice());
    let mut x = Mat::new(m, k);
    x.as_mut_slice().fill(0.25);
    let mut out = Mat::new(m, n);
    let mut best = f64::INFINITY;
    for _ in 0..6 {
        let start = Instant::now();
        kernels.gemm(x.view(), &weights, None, Store::Set, out.view_mut());
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (m * n * k) as f64 / best.max(1e-9)
}

/// Peak arithmetic alone, in some 30 ms.
pub(super) fn quick_peak(threads: usize, compute: Compute) -> f64 {
    peak_gflops(&Kernels::new(threads, compute)) * 1e9
}

/// The processor, as the system names it.
pub(super) fn name() -> String {
    let text = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

/// What the kernels run on.
pub(super) fn isa() -> String {
    Isa::detect().to_string()
}

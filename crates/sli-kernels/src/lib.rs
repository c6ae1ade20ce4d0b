//! CPU kernels: GEMM, attention, norms, rotary.

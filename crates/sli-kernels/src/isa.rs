//! Instruction sets and their run-time detection.

use std::fmt;
use std::sync::OnceLock;

use crate::simd::{Plain, Simd, SimdOp};

/// The instruction set that the kernels run on. Results are bit-identical for one instruction set
/// and [`Compute`](crate::Compute) type; they may differ between instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code without run-time detection.
    Plain,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// [`Isa::Avx512`] with native bf16 dot products.
    Avx512Bf16,
    /// 64-bit Arm.
    Neon,
}

impl Isa {
    /// Every instruction set, the plainest first.
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::Avx2,
        Self::Avx512,
        Self::Avx512Bf16,
        Self::Neon,
    ];

    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            Self::ALL
                .into_iter()
                .rfind(|isa| isa.is_available())
                .unwrap_or(Self::Plain)
        })
    }

    /// Whether this machine has the instruction set.
    pub fn is_available(self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => crate::simd::Avx2::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => crate::simd::Avx512::<false>::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => crate::simd::Avx512::<true>::new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 => false,
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => false,
        }
    }

    /// Whether bf16 dot products are single instructions.
    pub const fn has_native_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16)
    }

    /// A short name: `avx512bf16`, `avx512`, `avx2`, `neon` or `plain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Neon => "neon",
        }
    }

    /// Runs `op` compiled for this instruction set, or for the portable one if the machine lacks it.
    pub(crate) fn run<O: SimdOp>(self, op: O) -> O::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => match crate::simd::Avx2::new() {
                Some(simd) => simd.vectorize(op),
                None => Plain.vectorize(op),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => match crate::simd::Avx512::<false>::new() {
                Some(simd) => simd.vectorize(op),
                None => Plain.vectorize(op),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => match crate::simd::Avx512::<true>::new() {
                Some(simd) => simd.vectorize(op),
                None => Plain.vectorize(op),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => crate::simd::Neon.vectorize(op),
            _ => Plain.vectorize(op),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

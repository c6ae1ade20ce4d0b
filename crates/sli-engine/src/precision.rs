//! What the matrix products are computed in, and why.
//!
//! Where nothing is asked for, products are rounded to bf16 only where the weights are bf16 (f16 ones would lose three of their bits) and where
//! that was measured to be faster on this machine for products of this model's shapes: processors with bf16 products
//! exist whose f32 products are twice as fast. A run that goes on goes on as it began.

use std::fmt;

use sli_kernels::{Compute, Kernels};

use crate::ceilings::{CacheNotice, CeilingsCache, ProductRates};
use crate::model::{Model, StoredIn};

/// How much faster bf16 has to be to be worth what it rounds off.
const WORTH_ROUNDING: f64 = 1.05;

/// A precision and the reason for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Precision {
    /// What products are computed in.
    pub compute: Compute,
    /// Why.
    pub reason: Reason,
}

/// Why products are computed in what they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// `--compute` says so.
    Asked,
    /// The run began so.
    Begun,
    /// The processor has no bf16 products.
    NotNative,
    /// Most of the weights are f32.
    FullWeights,
    /// Most of the weights are f16.
    HalfWeights,
    /// Products of the model's shapes were measured.
    Measured(ProductRates),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("as asked"),
            Self::Begun => f.write_str("as the run began"),
            Self::NotNative => f.write_str("the processor has no bf16 products"),
            Self::FullWeights => f.write_str("the weights are f32"),
            Self::HalfWeights => {
                f.write_str("bf16 would round the f16 weights; --compute bf16 does it all the same")
            }
            Self::Measured(rates) => write!(
                f,
                "measured for this model's shapes: bf16 {:.0} GFLOP/s, f32 {:.0}",
                rates.bf16 / 1e9,
                rates.f32 / 1e9
            ),
        }
    }
}

impl Precision {
    /// The one that was asked for, else the one that suits the processor and the model. `notice` hears of what is damaged
    /// in the cache.
    pub(crate) fn choose(
        asked: Option<Compute>,
        model: &Model,
        threads: usize,
        cache: Option<&CeilingsCache>,
        notice: impl FnMut(CacheNotice),
    ) -> Self {
        let precision = |compute, reason| Self { compute, reason };
        if let Some(compute) = asked {
            return precision(compute, Reason::Asked);
        }
        match model.stored_in() {
            StoredIn::F32 => return precision(Compute::F32, Reason::FullWeights),
            StoredIn::F16 => return precision(Compute::F32, Reason::HalfWeights),
            StoredIn::Bf16 => {}
        }
        if !Kernels::native_bf16() {
            return precision(Compute::F32, Reason::NotNative);
        }
        let rates = ProductRates::find(cache, model, threads, notice);
        let compute = if rates.bf16 > WORTH_ROUNDING * rates.f32 {
            Compute::Bf16
        } else {
            Compute::F32
        };
        precision(compute, Reason::Measured(rates))
    }
}

/// As on the command line and in the key of a run.
pub fn compute_name(compute: Compute) -> &'static str {
    match compute {
        Compute::F32 => "f32",
        Compute::Bf16 => "bf16",
    }
}

//! What a branch computes: one file a mechanism.

pub(crate) mod attention;
pub(crate) mod attention_experts;
mod differential;
mod dynamic_mask;
pub(crate) mod experts;
pub(crate) mod feed_forward;
pub(crate) mod indexer;
pub(crate) mod latent_attention;
pub(crate) mod layer_input;
pub(crate) mod low_rank;
mod product_keys;
mod relative_buckets;
mod router;
mod select;
pub(crate) mod streams;
mod top_keys;

use sli_kernels::Activation as Kernel;
use sli_spec::Activation;

/// `ln(1 + e^x)`; `x` itself where that is all there is to see (torch's threshold).
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// The kernel of an activation.
pub(crate) fn kernel(activation: Activation) -> Kernel {
    match activation {
        Activation::Gelu => Kernel::Gelu,
        Activation::GeluTanh => Kernel::GeluTanh,
        Activation::Gelu10 => Kernel::Gelu10,
        Activation::QuickGelu => Kernel::QuickGelu,
        Activation::Relu => Kernel::Relu,
        Activation::Relu2 => Kernel::Relu2,
        Activation::Relu6 => Kernel::Relu6,
        Activation::Silu => Kernel::Silu,
        Activation::Sigmoid => Kernel::Sigmoid,
        Activation::Tanh => Kernel::Tanh,
        Activation::Softplus => Kernel::Softplus,
        Activation::Mish => Kernel::Mish,
        Activation::LeakyRelu => Kernel::LeakyRelu,
        Activation::HardSwish => Kernel::HardSwish,
        Activation::Laplace => Kernel::Laplace,
        Activation::Linear => Kernel::Identity,
    }
}

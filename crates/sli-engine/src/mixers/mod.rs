//! What a branch computes: one file a mechanism.

pub(crate) mod attention;
pub(crate) mod experts;
pub(crate) mod feed_forward;
pub(crate) mod latent_attention;
pub(crate) mod layer_input;
pub(crate) mod low_rank;
mod router;
pub(crate) mod streams;

use sli_kernels::Activation as Kernel;
use sli_spec::Activation;

/// The kernel of an activation.
pub(crate) fn kernel(activation: Activation) -> Kernel {
    match activation {
        Activation::Gelu => Kernel::Gelu,
        Activation::GeluTanh => Kernel::GeluTanh,
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
        Activation::Linear => Kernel::Identity,
    }
}

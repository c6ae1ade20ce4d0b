//! Encoders that were made to approximate attention: Nystromformer where its landmarks are all tokens, and YOSO in its
//! expectation.

use super::{dense_classifier, masked};
use crate::build::Leaves;
use crate::families::blocks::{Blocks, MixerOf, Table};
use crate::{
    BernoulliAttention, Beside, Config, Described, KeyValue, LengthLimit, Mixer, SpecError,
    ValueConvolution,
};

/// Nystromformer (Xiong et al. 2021) as its published files have it: full attention, and a convolution of the values.
pub fn nystromformer(config: &Config) -> Result<Described, SpecError> {
    const LANDMARKS: &str = "num_landmarks";
    let mut model = shifted(config)?;
    if config.size(LANDMARKS)? != config.size("segment_means_seq_len")? {
        let problem = "with fewer landmarks than `segment_means_seq_len` the reference divides by a number that depends on all records of a batch";
        return Err(config.unsupported(LANDMARKS, problem));
    }
    config.off(
        "inv_coeff_init_option",
        "the reference's class fails to read its value",
    )?;
    let kernel = odd(config, "conv_kernel_size", config.size("conv_kernel_size")?)?;
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let convolution = convolution(own, leaves, kernel);
        attention.beside = Some(Box::new(Beside::ValueConvolution(convolution)));
        Some(Mixer::Attention(Box::new(attention)))
    });
    model.build()
}

/// YOSO (Zeng et al. 2021) without hashes: what they are expected to give.
pub fn yoso(config: &Config) -> Result<Described, SpecError> {
    const EXPECTATION: &str = "use_expectation";
    config.ignore(&["use_fast_hash", "num_hash", "lsh_backward"]);
    if !config.flag(EXPECTATION)? {
        let problem = "hashes are drawn at random, and the reference has them on CUDA alone";
        return Err(config.unsupported(EXPECTATION, problem));
    }
    let mut model = shifted(config)?;
    let exponent = config.size("hash_code_len")?;
    let window = config.optional_size("conv_window")?;
    let kernel = window.map(|window| odd(config, "conv_window", window));
    let kernel = kernel.transpose()?;
    model.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let usual = own.usual_attention(leaves, layer);
        let KeyValue::Own {
            key,
            value: Some(value),
        } = usual.key_value
        else {
            return None;
        };
        Some(Mixer::BernoulliAttention(Box::new(BernoulliAttention {
            heads: own.heads,
            head_dim: own.head_dim,
            projections: [usual.query, key, value],
            output: usual.output,
            exponent,
            convolution: kernel.map(|kernel| convolution(own, leaves, kernel)),
        })))
    });
    model.build()
}

/// BERT whose positions begin behind two rows of their table.
fn shifted(config: &Config) -> Result<Blocks<'_>, SpecError> {
    const OFFSET: usize = 2;
    let mut model = masked(config)?;
    model.pooler = None;
    model.sequence_classifier = Some(dense_classifier(model.activation));
    let positions = config.size("max_position_embeddings")?;
    model.table = Some(Table::Learned {
        name: "embeddings.position_embeddings",
        offset: OFFSET,
        rows: positions + OFFSET,
        otherwise: None,
    });
    model.length_limit = Some(LengthLimit::Table(positions));
    Ok(model)
}

fn odd(config: &Config, key: &str, kernel: usize) -> Result<usize, SpecError> {
    if kernel.is_multiple_of(2) {
        return Err(config.unsupported(key, "an even kernel changes the number of rows"));
    }
    Ok(kernel)
}

/// The convolution of a layer's values.
fn convolution(own: &Blocks<'_>, leaves: &mut Leaves, kernel: usize) -> ValueConvolution {
    ValueConvolution {
        weight: leaves.flat("attention.self.conv.weight", own.heads * kernel),
        kernel,
    }
}

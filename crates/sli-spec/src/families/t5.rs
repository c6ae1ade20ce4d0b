//! T5 (Raffel et al. 2019), its version 1.1, FLAN-T5: an encoder and a decoder with relative buckets.

use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Blocks, Buckets, Cross, Names, Norms, Projections, SharedTokens, Tie, UnusedHead,
};
use crate::{
    Activation, Config, DecoderInput, Described, LengthLimit, Mask, Sequence, SpecError, Task,
};

const SHARED: SharedTokens = SharedTokens {
    name: "shared",
    tied: &[
        "*encoder.embed_tokens.weight",
        "*decoder.embed_tokens.weight",
    ],
    own: &["*shared.weight"],
};

const ENCODER: Names = Names {
    layers: "block",
    projections: Projections::Separate([
        "layer.0.SelfAttention.q",
        "layer.0.SelfAttention.k",
        "layer.0.SelfAttention.v",
    ]),
    output: "layer.0.SelfAttention.o",
    gate: "layer.1.DenseReluDense.wi_0",
    up: "layer.1.DenseReluDense.wi_1",
    down: "layer.1.DenseReluDense.wo",
    final_norm: "final_layer_norm",
    ..Names::USUAL
};

/// Behind the attention to the encoder.
const DECODER: Names = Names {
    gate: "layer.2.DenseReluDense.wi_0",
    up: "layer.2.DenseReluDense.wi_1",
    down: "layer.2.DenseReluDense.wo",
    ..ENCODER
};

/// T5.
pub fn t5(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_layers")?;
    let decoder_layers = if config.in_file("num_decoder_layers") {
        config.layers("num_decoder_layers")?
    } else {
        layers
    };
    let mut encoder = half(config, layers)?;
    (encoder.stack, encoder.names) = ("encoder", ENCODER);
    encoder.prefix.push_str("encoder.");
    encoder.masks.fill(Mask::Full);
    if !encoder.gated {
        encoder.names.up = "layer.1.DenseReluDense.wi";
    }
    encoder.arrangement = Arrangement::pre("layer.0.layer_norm", "layer.1.layer_norm");
    config.ignore(&["is_encoder_decoder", "num_decoder_layers"]);
    let start = config.token_id("decoder_start_token_id")?;
    let padding = config.token_id("pad_token_id")?;
    let scale = scale(config, encoder.hidden_size)?;
    if config.class()?.task == Task::Encoder {
        config.off(
            "is_decoder",
            "an encoder whose tokens see no later ones is not known",
        )?;
        encoder.unused_head = UnusedHead::projection(&["*decoder.*", "lm_head.weight"]);
        return encoder.build();
    }
    config.ignore(&["is_decoder"]);
    let mut decoder = half(config, decoder_layers)?;
    decoder.names = DECODER;
    decoder.prefix.push_str("decoder.");
    decoder.arrangement = Arrangement::pre("layer.0.layer_norm", "layer.2.layer_norm");
    if !decoder.gated {
        decoder.names.up = "layer.2.DenseReluDense.wi";
    }
    decoder.logit_scale = scale;
    // Shifting labels takes both tokens.
    decoder.sequence = Sequence::Decoder(DecoderInput {
        start: padding.and(start),
        repeats: false,
    });
    decoder.cross = Some(Cross {
        stack: 0,
        norms: Norms::before("layer.1.layer_norm"),
        projections: [
            "layer.1.EncDecAttention.q",
            "layer.1.EncDecAttention.k",
            "layer.1.EncDecAttention.v",
        ],
        output: "layer.1.EncDecAttention.o",
    });
    if let Some(buckets) = &mut decoder.buckets {
        buckets.looks_ahead = false;
    }
    decoder.build_behind(encoder)
}

/// One of the two stacks.
fn half(config: &Config, layers: usize) -> Result<Blocks<'_>, SpecError> {
    let heads = config.heads("num_heads")?;
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let sizes = [config.size("d_model")?, config.size("d_ff")?];
    let heads = [heads, heads, config.size("d_kv")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, heads)?;
    half.family = "t5";
    half.ignored.clear();
    half.shared_tokens = Some(SHARED);
    half.tie = Tie::UnlessStored;
    (half.activation, half.gated) = network(config)?;
    half.attention_scale = 1.0;
    half.buckets = Some(buckets(config)?);
    half.length_limit = Some(LengthLimit::None);
    half.may_look_ahead = false;
    Ok(half)
}

/// All layers look into the table of the first. The reference divides by the logarithm of what lies between the
/// exact buckets and the longest distance.
fn buckets(config: &Config) -> Result<Buckets, SpecError> {
    let buckets = config.heads("relative_attention_num_buckets")?;
    let max_distance = config.size("relative_attention_max_distance")?;
    if buckets < 4 {
        return Err(config.invalid("relative_attention_num_buckets", "at least 4"));
    }
    if max_distance <= buckets / 2 {
        let expected = format!("more than {}", buckets / 2);
        return Err(config.invalid("relative_attention_max_distance", expected));
    }
    Ok(Buckets {
        name: "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        buckets,
        looks_ahead: true,
        max_distance,
        types: 0,
    })
}

/// Activation and form of the feed-forward networks. What the class derives from `feed_forward_proj` is
/// written to files as well, and believed there.
fn network(config: &Config) -> Result<(Activation, bool), SpecError> {
    const KEY: &str = "feed_forward_proj";
    let told = config.optional_text(KEY)?;
    let told = told.ok_or_else(|| config.missing(KEY))?;
    let (gated, name) = match told.split('-').collect::<Vec<_>>()[..] {
        [name] => (false, name),
        ["gated", "gelu"] => (true, "gelu_new"),
        ["gated", name] => (true, name),
        _ => return Err(config.invalid(KEY, "`NAME` or `gated-NAME`")),
    };
    let activation = if config.in_file("dense_act_fn") {
        config.activation("dense_act_fn")?
    } else {
        let known = Activation::from_name(name);
        known.ok_or_else(|| config.unsupported(KEY, "unknown activation"))?
    };
    let gated = if config.in_file("is_gated_act") {
        config.flag("is_gated_act")?
    } else {
        gated
    };
    Ok((activation, gated))
}

/// The factor on the logits. `tie_word_embeddings` says nothing but this: the head is tied unless the
/// weights have another.
fn scale(config: &Config, hidden_size: usize) -> Result<f64, SpecError> {
    let tied = !config.in_file("tie_word_embeddings") || config.flag("tie_word_embeddings")?;
    let scaled = if config.in_file("scale_decoder_outputs") {
        config.flag("scale_decoder_outputs")?
    } else {
        tied
    };
    Ok(if scaled {
        (hidden_size as f64).powf(-0.5)
    } else {
        1.0
    })
}

//! BART (Lewis et al. 2019): an encoder and a decoder with learned positions and norms after the sums.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Cross, Norms, SharedTokens, UnusedHead};
use crate::families::gpt::BART;
use crate::{
    Config, DecoderInput, Described, Head, Mask, Sequence, Shard, Source, SpecError, Task,
};

/// The addend of the logits, which a checkpoint may lack: then it is zero.
pub const LOGITS_BIAS: &str = "final_logits_bias";

/// Rows of the position tables in front of position 0.
const OFFSET: usize = 2;

const SHARED: SharedTokens = SharedTokens {
    name: "shared",
    tied: &[
        "*encoder.embed_tokens.weight",
        "*decoder.embed_tokens.weight",
    ],
    own: &["*shared.weight"],
};

/// BART.
pub fn bart(config: &Config) -> Result<Described, SpecError> {
    // None changes which stacks a class has, or what they compute.
    config.ignore(&["is_encoder_decoder", "is_decoder", "forced_eos_token_id"]);
    let mut decoder = half(config, "decoder")?;
    decoder.unused_head = UnusedHead {
        without: &["lm_head.weight", LOGITS_BIAS],
        tied: &["lm_head.weight"],
        own: &[],
    };
    if config.class()?.task == Task::CausalLm {
        config.ignore(&[
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
        ]);
        config.ignore(&["decoder_start_token_id", "pad_token_id"]);
        // Its attention to an encoder is stored all the same.
        decoder.ignored.push("*decoder.layers.*.encoder_attn*");
        return decoder.build();
    }
    let mut encoder = half(config, "encoder")?;
    encoder.masks.fill(Mask::Full);
    let start = config.token_id("decoder_start_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput {
        // Shifting labels takes both tokens.
        start: config.token_id("pad_token_id")?.and(start),
        repeats: true,
    });
    decoder.cross = Some(Cross {
        stack: 0,
        norms: Norms::sum("encoder_attn_layer_norm"),
        projections: [
            "encoder_attn.q_proj",
            "encoder_attn.k_proj",
            "encoder_attn.v_proj",
        ],
        output: "encoder_attn.out_proj",
    });
    let outputs = config.size("vocab_size")?;
    decoder.further_head = Some(Rc::new(move |leaves, head| add_bias(leaves, head, outputs)));
    for half in [&mut encoder, &mut decoder] {
        half.shared_tokens = Some(SHARED);
    }
    decoder.build_behind(encoder)
}

/// One of the two stacks.
fn half<'c>(config: &'c Config, name: &'static str) -> Result<Blocks<'c>, SpecError> {
    let hidden_size = config.size("d_model")?;
    let key = format!("{name}_attention_heads");
    let heads = config.heads(&key)?;
    let head_dim = divided(config, &key, hidden_size, heads)?;
    let norm = NormStyle::layer(1e-5);
    let layers = config.layers(&format!("{name}_layers"))?;
    let sizes = [hidden_size, config.size(&format!("{name}_ffn_dim"))?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (half.family, half.stack, half.names) = ("bart", name, BART);
    half.prefix = format!("{}{name}.", half.prefix);
    half.arrangement = Arrangement::after_sum("self_attn_layer_norm", "final_layer_norm");
    half.ignored.clear();
    half.set_biases(true);
    half.gated = false;
    half.activation = config.activation("activation_function")?;
    half.learned_positions(
        "embed_positions",
        OFFSET,
        config.size("max_position_embeddings")?,
    );
    half.embedding_norm = Some(("layernorm_embedding", norm));
    half.final_norm = None;
    half.may_look_ahead = false;
    if config.flag("scale_embedding")? {
        half.embedding_scale = (hidden_size as f64).sqrt();
    }
    Ok(half)
}

/// The addend of the logits.
fn add_bias(leaves: &mut Leaves, head: &mut Head, outputs: usize) {
    if let Some(logits) = &mut head.logits {
        leaves.optional(Some(LOGITS_BIAS));
        let source = Source::Reshape(Box::new(leaves.tensor(LOGITS_BIAS)));
        let addend = leaves.weight(source, &[outputs], Shard::Column);
        leaves.set_buffer(addend);
        logits.projection.bias = Some(addend);
    }
}

//! MiniMax-01: lightning attention beside softmax attention, Mixtral's experts.

use super::{decoder, recurrent_layers};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Form, MixerOf, Residual};
use crate::families::mixture::{block_sparse, mix};
use crate::rope::RopeOptions;
use crate::{
    Config, DecayTables, Described, LightningAttention, Mask, Mixer, Renormalize, Shard, Source,
    SpecError, Split,
};

/// MiniMax-01. The residual stream goes on from the norms in front of the sublayers.
pub fn minimax(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, false, config.size("intermediate_size")?)?;
    // The class rotates whole heads, GGUF files say how much of them.
    let rotated = config.optional_heads("rotated_features")?;
    let part = rotated.map(|rotated| rotated as f64 / decoder.head_dim as f64);
    decoder.rotate(&RopeOptions {
        partial: part.is_some(),
        default_partial: part.unwrap_or(1.0),
        ..RopeOptions::new(decoder.head_dim)
    })?;
    decoder.arrangement =
        Arrangement::pre("input_layernorm", "post_attention_layernorm").in_form(Form::InStream);
    if let Some(window) = config.optional_size("sliding_window")? {
        decoder.masks.fill(Mask::CausalWindow(window));
    }
    let block = config.size("block_size")?;
    let layers = decoder.layers();
    let recurrent = recurrent_layers(config, layers, |layer| layer % 2 == 1)?;
    let factors = |kind: &str| {
        let [stream, output] = ["alpha", "beta"].map(|part| format!("{kind}_{part}_factor"));
        Ok::<_, SpecError>([config.number(&stream)?, config.number(&output)?])
    };
    let network = factors("mlp")?;
    let (full, linear) = (factors("full_attn")?, factors("linear_attn")?);
    let of_layer = recurrent.clone();
    decoder.differ(move |own, layer| {
        let attention = if of_layer[layer] { linear } else { full };
        own.residual = Residual::Weighed([attention, network]);
    });
    let activation = decoder.activation;
    decoder.attention_of = MixerOf::new(move |own, leaves, layer| {
        if !recurrent[layer] {
            return None;
        }
        let (heads, hidden) = (own.heads, own.hidden_size);
        let wide = heads * own.head_dim;
        let both = leaves.tensor("self_attn.qkv_proj.weight");
        let parts =
            [0, 1, 2].map(|part| both.clone().part(Split::PerHead { heads, parts: 3 }, part));
        let input = Source::ConcatRows(parts.to_vec());
        // The class leaves the norm's epsilon as it is.
        let norm = NormStyle::rms(1e-6);
        Some(Mixer::LightningAttention(Box::new(LightningAttention {
            heads,
            head_dim: own.head_dim,
            input: leaves.linear_of(input, None, [3 * wide, hidden], Shard::Column),
            activation,
            rates: rates(heads, layer, layers),
            tables: Some(tables(leaves, heads, block)),
            gate: leaves.linear(
                "self_attn.output_gate",
                [wide, hidden],
                false,
                Shard::Column,
            ),
            norm: leaves.norm("self_attn.norm", wide, norm),
            output: leaves.linear("self_attn.out_proj", [hidden, wide], false, Shard::Row),
        })))
    });
    let mut experts = block_sparse(config, &decoder)?;
    experts.renormalize = Renormalize::Sum { plus: 0.0 };
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// What files hold of a layer's decays, each table rounded by itself.
fn tables(leaves: &mut Leaves, heads: usize, block: usize) -> DecayTables {
    leaves.optional(Some(DecayTables::PART));
    let mut table = |name: &str, factors: usize| {
        let source = Source::Reshape(Box::new(leaves.tensor(&format!("self_attn.{name}"))));
        let index = leaves.weight(source, &[heads.saturating_mul(factors)], Shard::Replicate);
        leaves.set_buffer(index);
        index
    };
    let tables = DecayTables {
        block,
        rates: table("slope_rate", 1),
        of_query: table("query_decay", block),
        of_key: table("key_decay", block),
        of_pair: table("diagonal_decay", block.saturating_mul(block)),
    };
    leaves.optional(None);
    tables
}

/// How fast the states of a layer's heads decay: the slopes of `ALiBi`, less in later layers.
fn rates(heads: usize, layer: usize, layers: usize) -> Vec<f64> {
    let base = (-8.0 / heads as f64).exp2();
    let factor = 1.0 - layer as f64 / (layers as f64 - 1.0 + 1e-5) + 1e-5;
    let rate = |head: usize| base.powi(head as i32) * factor;
    (1..=heads).map(rate).collect()
}

//! RecurrentGemma (Griffin): gated linear recurrent units beside attention within windows.

use super::decoder;
use crate::build::{Leaves, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::rope::{Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Config, Described, GatedLru, LengthLimit, Linear, Mask, Mixer, Shard, Source,
    SpecError,
};

const NAMES: Names = Names {
    projections: Projections::Separate([
        "temporal_block.q_proj",
        "temporal_block.k_proj",
        "temporal_block.v_proj",
    ]),
    output: "temporal_block.o_proj",
    gate: "mlp_block.gate_proj",
    up: "mlp_block.up_proj",
    down: "mlp_block.down_proj",
    final_norm: "final_norm",
    ..Names::USUAL
};

/// Times that the pattern of layers is repeated at most.
const REPEATED: usize = 100;

/// RecurrentGemma.
pub fn recurrent_gemma(config: &Config) -> Result<Described, SpecError> {
    let inner = config.size("intermediate_size")? / 2;
    let mut model = decoder(config, true, inner)?;
    model.names = NAMES;
    model.arrangement = Arrangement::pre("temporal_pre_norm", "channel_pre_norm");
    model.length_limit = Some(LengthLimit::None);
    model.set_network_bias(true);
    model.query_key_value_bias = config.flag("attention_bias")?;
    model.output_bias = true;
    // The class keeps the factor in bf16.
    model.embedding_scale = rounded((model.hidden_size as f64).sqrt());
    model.logit_softcap = Some(config.positive("logits_soft_cap")?);
    model.rotate(&RopeOptions {
        partial: true,
        default_partial: 0.5,
        ..RopeOptions::new(model.head_dim)
    })?;
    let is_scaled = |rope: &Option<Rope>| {
        let scaling = rope.as_ref().map(|rope| &rope.scaling);
        scaling.is_some_and(|scaling| *scaling != RopeScaling::Default)
    };
    if model.ropes.iter().any(is_scaled) {
        let reason = "the class rotates plainly";
        return Err(config.unsupported("rope_parameters", reason));
    }
    let window = config.size("attention_window_size")?;
    model.masks.fill(Mask::CausalWindow(window));
    let recurrent = kinds(config, model.layers())?;
    let width = config
        .optional_size("lru_width")?
        .unwrap_or(model.hidden_size);
    divided(config, "num_attention_heads", width, model.heads)?;
    let kernel = config.size("conv1d_width")?;
    // About new weights.
    config.ignore(&["final_w_init_variance_scale", "w_init_variance_scale"]);
    model.attention_of = MixerOf::new(move |own, leaves, layer| {
        recurrent[layer].then(|| unit(own, leaves, [width, kernel]))
    });
    model.build()
}

/// Which layers have a state: a pattern, repeated.
fn kinds(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let key = "block_types";
    let pattern = config.texts(key)?.unwrap_or_default();
    if layers > REPEATED * pattern.len() {
        return Err(config.invalid(key, format!("a pattern for {layers} layers")));
    }
    let kind = |layer: usize| match pattern[layer % pattern.len()].as_str() {
        "recurrent" => Ok(true),
        "attention" => Ok(false),
        other => {
            let reason = format!("`{other}` is no kind of layer of this type");
            Err(config.unsupported(key, reason))
        }
    };
    (0..layers).map(kind).collect()
}

/// The recurrent block.
fn unit(own: &Blocks<'_>, leaves: &mut Leaves, [width, kernel]: [usize; 2]) -> Mixer {
    let hidden = own.hidden_size;
    let name = |part: &str| format!("temporal_block.{part}");
    let input = leaves.linear(&name("linear_x"), [width, hidden], true, Shard::Column);
    let shape = [width, kernel];
    let convolution = leaves.convolution(&name("conv_1d"), shape, true, Activation::Linear);
    let input_gates = squares(leaves, "input_gate", [own.heads, width]);
    let state_gates = squares(leaves, "recurrent_gate", [own.heads, width]);
    Mixer::GatedLru(Box::new(GatedLru {
        input,
        convolution,
        input_gates,
        state_gates,
        rate: leaves.flat(&name("rg_lru.recurrent_param"), width),
        gate: leaves.linear(&name("linear_y"), [width, hidden], true, Shard::Column),
        activation: own.activation,
        output: leaves.linear(&name("linear_out"), [hidden, width], true, Shard::Row),
    }))
}

/// A square for each head, stored `[heads, in, out]`.
fn squares(leaves: &mut Leaves, gate: &str, [heads, width]: [usize; 2]) -> Vec<Linear> {
    let each = width / heads;
    let part = |leaves: &Leaves, part: &str, head: usize| Source::Index {
        of: Box::new(leaves.tensor(&format!("temporal_block.rg_lru.{gate}_{part}"))),
        index: head,
    };
    let square = |head: usize| {
        let weight = part(leaves, "weight", head).transpose();
        let bias = part(leaves, "bias", head);
        leaves.linear_of(weight, Some(bias), [each; 2], Shard::Replicate)
    };
    (0..heads).map(square).collect()
}

/// To the nearest bf16.
fn rounded(number: f64) -> f64 {
    let bits = (number as f32).to_bits();
    let half = 0x7fff + (bits >> 16 & 1);
    f64::from(f32::from_bits((bits + half) & 0xffff_0000))
}

//! Rows of a table that attend to what a tower sees and to each other: resamplers.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, gated_pair, scattered};
use super::part::DescribePart;
use super::tiles::decoder;
use super::towers::{of_views, only_stack};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::{
    Activation, Config, Described, HeadTransform, Mixer, NormSpan, PictureRows, Resampled,
    Scattered, Shard, Source, SpecError, Stack,
};

/// Where Idefics 2's files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model.text_model."],
    outside: &[""],
};

/// Idefics 2 (Laurencon et al. 2024).
pub fn idefics2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part_as("vision_config", "idefics2_vision")?;
    let resampler = config.part_as("perceiver_config", "idefics2_perceiver")?;
    let text = decoder(config, "mistral")?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let hidden = text.size("hidden_size")?;
    let rule = (PictureRows::Patches { front: 0 }, hidden);
    let sizes = [tower.width(), text.size("intermediate_size")?, hidden];
    let activation = text.activation("hidden_act")?;
    let projector = Projector::new(&tower, rule, |leaves| {
        let of = "model.connector.modality_projection.";
        (None, gated(leaves, of, sizes, activation))
    });
    let latents = latents(&resampler, &text)?;
    let token = Scattered {
        stack: 2,
        ..scattered(config, "image_token_id")?
    };
    let decoder = describe(&text)?;
    let projectors = [projector, Projector::of_stack(latents)];
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, token),
    )
}

/// A gated network of these features: before, inside, behind.
fn gated(
    leaves: &mut Leaves,
    prefix: &str,
    [width, inner, out]: [usize; 3],
    activation: Activation,
) -> Vec<HeadTransform> {
    let tensor = |name: &str| Source::tensor(format!("{prefix}{name}.weight"));
    let both = [tensor("up_proj"), tensor("gate_proj")];
    let first = gated_pair(leaves, both, [inner, width], activation);
    let second = leaves.linear_of(tensor("down_proj"), None, [out, inner], Shard::Replicate);
    vec![first, HeadTransform::plain(second, Activation::Linear)]
}

/// Idefics 2's resampler, behind the tower and a projection: layers of Llama's without rotation.
fn latents(config: &Config, text: &Config) -> Result<Stack, SpecError> {
    let hidden = text.size("hidden_size")?;
    // The reference takes both from the decoder where they differ.
    let of_epsilon = if config.size("hidden_size")? == hidden {
        config
    } else {
        text
    };
    let norm = NormStyle::rms(of_epsilon.positive("rms_norm_eps")?);
    let heads = config.heads("resampler_n_heads")?;
    let kv_heads = config.heads("num_key_value_heads")?;
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let of = [heads, kv_heads, config.heads("resampler_head_dim")?];
    let sizes = [hidden, 4 * hidden];
    let mut latents = attending(config, norm, sizes, of, (1, "input_context_norm"))?;
    "model.connector.perceiver_resampler.".clone_into(&mut latents.prefix);
    latents.arrangement = Arrangement::pre("input_latents_norm", "post_attention_layernorm");
    latents.activation = config.activation("hidden_act")?;
    only_stack(config, latents)
}

/// Layers of rows of a table `latents` for every view, whose keys are of the rows of an earlier stack too, behind a norm.
fn attending<'c>(
    config: &'c Config,
    norm: NormStyle,
    sizes: [usize; 2],
    of: [usize; 3],
    (source, of_others): (usize, &'static str),
) -> Result<Blocks<'c>, SpecError> {
    let rows = config.size("resampler_n_latents")?;
    let layers = config.layers("resampler_depth")?;
    let [hidden, _] = sizes;
    let mut latents = Blocks::sized(config, norm, layers, sizes, of)?;
    of_views(&mut latents, "resampler", rows);
    latents.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let mut attention = blocks.usual_attention(leaves, layer);
        attention.merged = Some(source);
        let norm = leaves.norm(of_others, blocks.hidden_size, blocks.norm);
        attention.merged_norm = Some(norm);
        Some(Mixer::Attention(Box::new(attention)))
    });
    latents.resampled = Some(Rc::new(move |leaves| {
        Resampled::table(leaves.table("latents", rows, hidden), rows)
    }));
    Ok(latents)
}

/// The names of Idefics' resampler.
static PERCEIVER: Names = Names {
    layers: "blocks",
    projections: Projections::Separate(["0.q_proj", "0.k_proj", "0.v_proj"]),
    query_norm: "0.q_layer_norm",
    key_norm: "0.k_layer_norm",
    output: "0.output_proj",
    up: "1.fc",
    down: "1.c_proj",
    final_norm: "layer_norm",
    ..Names::USUAL
};

/// Idefics' resampler, behind the tower.
pub(super) fn perceiver(config: &Config, width: usize) -> Result<Stack, SpecError> {
    // Torch's default.
    let norm = NormStyle::layer(1e-5);
    let heads = config.heads("resampler_n_heads")?;
    let of = [heads, heads, config.heads("resampler_head_dim")?];
    let sizes = [width, 4 * width];
    let mut latents = attending(config, norm, sizes, of, (0, "0.context_layer_norm"))?;
    "model.perceiver_resampler.".clone_into(&mut latents.prefix);
    latents.names = PERCEIVER;
    latents.arrangement = Arrangement::pre("0.latents_layer_norm", "1.ln");
    latents.gated = false;
    latents.activation = Activation::Relu;
    if config.flag("qk_layer_norms_perceiver")? {
        latents.query_key_norm = Some((NormSpan::Head, norm));
    }
    only_stack(config, latents)
}

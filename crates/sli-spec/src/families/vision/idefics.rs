//! Idefics (Laurencon et al. 2023): gated layers between those of a decoder attend to pictures.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, crossed};
use super::crossing::{self, Crossing};
use super::latents::perceiver;
use super::part::DescribePart;
use crate::build::{NormStyle, divided};
use crate::families::blocks::Blocks;
use crate::rope::RopeOptions;
use crate::{Config, Described, Source, SpecError};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["model.vision_model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model."],
    outside: &[""],
};

/// Idefics.
pub fn idefics(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Of training, and of how weights begin.
    config.ignore(&[
        "alpha_initializer",
        "alphas_initializer_range",
        "freeze_lm_head",
        "freeze_text_layers",
        "freeze_text_module_exceptions",
        "freeze_vision_layers",
        "freeze_vision_module_exceptions",
    ]);
    let vision = config.part("vision_config", "idefics_vision", None, &[])?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let resampler = config.part("perceiver_config", "idefics_perciever", None, &[])?;
    resampler.ignore(&["use_resampler"]);
    let projectors = if config.flag("use_resampler")? {
        vec![Projector::of_stack(perceiver(&resampler, tower.width())?)]
    } else {
        resampler.ignore(&[
            "qk_layer_norms_perceiver",
            "resampler_depth",
            "resampler_head_dim",
            "resampler_n_heads",
            "resampler_n_latents",
        ]);
        Vec::new()
    };
    let decoder = decoder(config, [projectors.len(), tower.width()])?;
    crossed(config, (&tower, &projectors), (decoder, DECODER))
}

/// The decoder: Llama, in front of some of whose layers gated ones attend to the stack `seen`, of so many features.
fn decoder(config: &Config, [seen, width]: [usize; 2]) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    let layers = config.layers("num_hidden_layers")?;
    let interval = config.size("cross_layer_interval")?;
    if layers % interval != 0 {
        let expected = format!("a number that {layers} layers divide into");
        return Err(config.invalid("cross_layer_interval", expected));
    }
    let factors = match config.optional_text("alpha_type")?.as_deref() {
        Some("vector") => hidden,
        Some("float") => 1,
        _ => return Err(config.invalid("alpha_type", "\"vector\" or \"float\"")),
    };
    let mut places = Vec::new();
    for layer in 0..layers {
        if layer % interval == 0 {
            places.push(format!("gated_cross_attn_layers.{}", layer / interval));
        }
        places.push(format!("layers.{layer}"));
    }
    let crosses = |number: usize| number.is_multiple_of(1 + interval);
    let sizes = [hidden, config.size("intermediate_size")?];
    let of = [heads, heads, head_dim];
    let mut decoder = Blocks::sized(config, norm, places.len(), sizes, of)?;
    decoder.places = Some(places);
    decoder.rotate(&RopeOptions::new(head_dim))?;
    decoder.keep_rotation(|layer| !crosses(layer));
    decoder.activation = config.activation("hidden_act")?;
    let further = config.index("additional_vocab_size")?;
    decoder.vocab_size = Some(config.size("vocab_size")? + further);
    if further > 0 {
        decoder.stored = Some(Rc::new(|name: &str| {
            let both = |further: &str| {
                let both = [name, further].map(Source::tensor);
                Source::ConcatRows(both.into())
            };
            match name {
                "model.embed_tokens.weight" => {
                    both("model.embed_tokens.additional_embedding.weight")
                }
                "lm_head.weight" => both("lm_head.additional_fc.weight"),
                _ => Source::tensor(name),
            }
        }));
    }
    decoder.further_input = Some(Rc::new(|_, embedding| {
        let mask = crossing::mask("image_attention_mask", None);
        embedding.inputs.push(mask);
    }));
    let norms = ["cross_attn.q_layer_norm", "cross_attn.k_layer_norm"];
    let crossing = Crossing {
        stack: seen,
        width: Some(width),
        gates: (["alpha_cross_attn", "alpha_dense"], factors),
        norms: config.flag("qk_layer_norms")?.then_some(norms),
        silent: 0,
    };
    decoder.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        if !crosses(number) {
            return blocks.steps(leaves, number);
        }
        crossing.steps(blocks, leaves, number)
    }));
    decoder.build()
}

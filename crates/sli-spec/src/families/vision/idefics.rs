//! Idefics (Laurencon et al. 2023): gated layers between those of a decoder attend to pictures.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, crossed};
use super::latents::perceiver;
use super::part::DescribePart;
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Blocks, Cross, Norms};
use crate::rope::RopeOptions;
use crate::{
    Config, Described, Elementwise, Gain, HeadNorm, InputKind, Mask, Mixer, NormSpan, Shard,
    Source, SpecError, TokenInput, WeightIndex,
};

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
    let is_normed = config.flag("qk_layer_norms")?;
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
        embedding.inputs.push(TokenInput {
            name: "image_attention_mask",
            columns: 2,
            kind: InputKind::Seen { placeholder: None },
        });
    }));
    decoder.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        if !crosses(number) {
            return blocks.steps(leaves, number);
        }
        let mut own = blocks.clone();
        own.arrangement.attention = None;
        own.cross = Some(Cross {
            stack: seen,
            width: Some(width),
            norms: Norms {
                before: Some("input_layernorm"),
                ..Norms::default()
            },
            projections: [
                "cross_attn.q_proj",
                "cross_attn.k_proj",
                "cross_attn.v_proj",
            ],
            output: "cross_attn.o_proj",
        });
        let mut steps = own.steps(leaves, number);
        for (step, name) in steps.iter_mut().zip(["alpha_cross_attn", "alpha_dense"]) {
            let factor = gate(leaves, name, factors);
            for branch in &mut step.branches {
                branch.gain = Gain::Vector(factor);
                let Mixer::Attention(attention) = &mut branch.mixer else {
                    continue;
                };
                branch.of_seeing = true;
                attention.mask = Mask::Seen;
                if is_normed {
                    let [query, key] = ["q", "k"].map(|of| {
                        let name = format!("cross_attn.{of}_layer_norm");
                        Some(HeadNorm {
                            norm: leaves.norm(&name, blocks.head_dim, blocks.norm),
                            span: NormSpan::Head,
                            after_rotation: false,
                        })
                    });
                    (attention.query_norm, attention.key_norm) = (query, key);
                }
            }
        }
        steps
    }));
    decoder.build()
}

/// So many factors of a gate `NAME`, whatever its axes.
fn gate(leaves: &mut Leaves, name: &str, factors: usize) -> WeightIndex {
    let stored = Source::Reshape(Box::new(leaves.tensor(name)));
    leaves.weight(stored.by(Elementwise::Tanh), &[factors], Shard::Replicate)
}

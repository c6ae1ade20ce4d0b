//! Mistral Large 4: latents of keys and values that layers share, keys that an indexer chooses, learned frequencies.

use std::rc::Rc;

use super::indexed::own_indexers;
use super::latent::latent_decoder;
use super::shared;
use crate::build::NormStyle;
use crate::families::blocks::MixerOf;
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::{mix, sparse_layers};
use crate::rope::TurnsForm;
use crate::{Config, Described, HandedLatent, Renormalize, Source, SpecError};

const SOURCES: &str = "kv_source_layers";
const ROTATED: &str = "no_rope_layers";

/// What a layer does with latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// They are its own.
    None,
    /// Later layers use them.
    HandsOn,
    /// They are those of the last layer before, with or without rotation as this one, that hands its own on.
    Uses,
}

/// Which layers rotate: `1` where they do, else all but each fourth.
fn rotated(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let every = config.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    match config.numbers(ROTATED)? {
        None => Ok((1..=layers).map(|layer| layer % every != 0).collect()),
        Some(flags) if flags.len() < layers => {
            let expected = format!("one entry for each of {layers} layers");
            Err(config.invalid(ROTATED, expected))
        }
        Some(flags) => Ok(flags.iter().take(layers).map(|&flag| flag != 0.0).collect()),
    }
}

/// What layers share, of the numbers of the layers whose latents each of them uses.
fn sharing(config: &Config, rotated: &[bool]) -> Result<Vec<Sharing>, SpecError> {
    let layers = rotated.len();
    let Some(sources) = config.numbers(SOURCES)? else {
        return Ok(vec![Sharing::None; layers]);
    };
    if sources.len() != layers {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid(SOURCES, expected));
    }
    let own = |layer: usize| sources[layer] == layer as f64;
    let is_known = |layer: usize| {
        let source = sources[layer];
        (0.0..=layer as f64).contains(&source) && source.fract() == 0.0 && own(source as usize)
    };
    if !(0..layers).all(is_known) {
        let expected = "for each layer an earlier one, or itself, whose latents are its own";
        return Err(config.invalid(SOURCES, expected));
    }
    let sharing: Vec<Sharing> = (0..layers)
        .map(|layer| match own(layer) {
            false => Sharing::Uses,
            true if sources[layer + 1..].contains(&(layer as f64)) => Sharing::HandsOn,
            true => Sharing::None,
        })
        .collect();
    let is_left = |layer: usize| {
        let before = sharing[..layer].iter().zip(rotated);
        let mut left = before.filter(|&(&own, _)| own == Sharing::HandsOn);
        left.any(|(_, &is_rotated)| is_rotated == rotated[layer])
    };
    if (0..layers).any(|layer| sharing[layer] == Sharing::Uses && !is_left(layer)) {
        let problem =
            "a layer with rotation uses the latents of one with, one without those of one without";
        return Err(config.unsupported(SOURCES, problem));
    }
    Ok(sharing)
}

/// The attention of a layer, with or without rotation.
fn attention(common: &Latent, is_rotated: bool, sharing: Sharing, epsilon: f64) -> Latent {
    let mut own = common.clone();
    own.norm = NormStyle::rms(epsilon);
    own.head_temperature = Some("softmax_scaling");
    // Latents without rotation stand in front of those with.
    let (rank, rotated) = (own.kv_rank, common.rope_dim);
    if !is_rotated {
        own.rope = None;
        own.nope_dim += own.rope_dim;
        own.rope_dim = 0;
    }
    own.handed = (sharing != Sharing::None).then_some(HandedLatent {
        first: if is_rotated { rank } else { 0 },
        all: 2 * rank + rotated,
    });
    own.is_handed = sharing == Sharing::Uses;
    own
}

/// Other spellings of a tensor's name: the files that the class writes.
fn spellings(name: &str) -> Source {
    const WRITTEN: [(&str, &str); 10] = [
        (".self_attn.q_proj.", ".self_attn.wq."),
        (".kv_a_proj_with_mqa.", ".wkv_a_with_mqa."),
        (".kv_b_proj.", ".wkv_b."),
        (".kv_a_layernorm.", ".kv_a_norm."),
        (".softmax_scaling.scale", ".ssmax_scaling.s"),
        (".softmax_scaling.bias", ".ssmax_scaling.b"),
        (".self_attn.", ".attention."),
        (".input_layernorm.", ".attention_norm."),
        (".post_attention_layernorm.", ".ffn_norm."),
        (".mlp.", "."),
    ];
    let replaced = |name: String, (own, written): (&str, &str)| name.replace(own, written);
    let sparse = WRITTEN.into_iter().fold(name.to_owned(), replaced);
    let is_dense = ["gate_proj", "up_proj", "down_proj"]
        .iter()
        .any(|part| name.contains(&format!(".mlp.{part}.")));
    let written = if is_dense {
        name.replace(".mlp.", ".feed_forward.")
    } else {
        sparse
    };
    let names = [name.to_owned(), written];
    let distinct = if names[0] == names[1] { 1 } else { 2 };
    Source::one_of(
        names
            .into_iter()
            .take(distinct)
            .map(Source::tensor)
            .collect(),
    )
}

/// Mistral Large 4's text model.
pub fn mistral_large4_text(config: &Config) -> Result<Described, SpecError> {
    let latent = Latent::new(config, true)?;
    if latent.q_rank.is_some() {
        return Err(config.unsupported("q_lora_rank", "queries have no latent"));
    }
    let epsilon = config.positive("rms_norm_eps")?;
    let mut sizes = IndexerSizes::of_width(config, &latent, latent.hidden_size)?;
    sizes.query_norm = Some(NormStyle::layer(1e-6));
    sizes.head_temperature = Some("softmax_scaling");
    let mut decoder = latent_decoder(config, &latent)?;
    // Of the model with images, and of no consequence.
    config.ignore(&["final_logit_softcapping", "layer_types"]);
    let layers = decoder.layers();
    let own = own_indexers(config, layers)?;
    if !own[0] {
        return Err(config.invalid("indexer_types", "an indexer in the first layer"));
    }
    let rotated = rotated(config, layers)?;
    let sharing = sharing(config, &rotated)?;
    decoder.keep_rotation(|layer| rotated[layer]);
    decoder.stored_turns = Some((TurnsForm::LogFactors, &["rotary_emb.alpha"]));
    decoder.ignored.push("*rotary_emb.alpha");
    decoder.one_way = true;
    decoder.stored = Some(Rc::new(spellings));
    let first = config.index("first_k_dense_replace")?;
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    let count = if config.in_file("num_experts") {
        config.ignore(&["n_routed_experts"]);
        "num_experts"
    } else {
        "n_routed_experts"
    };
    let inner = config.size("moe_intermediate_size")?;
    let mut experts = Experts {
        tensors: ExpertTensors::Each([
            "mlp.experts.{}.w1.weight",
            "mlp.experts.{}.w3.weight",
            "mlp.experts.{}.w2.weight",
        ]),
        scale: config.number("routed_scaling_factor")?,
        renormalize: Renormalize::Sum { plus: 1e-20 },
        ..Experts::new(
            config,
            [count, "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    experts.limit_to_groups(config, 2)?;
    shared(&mut experts, config.heads("n_shared_experts")?);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let hidden_size = decoder.hidden_size;
    decoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let latent = attention(&latent, rotated[layer], sharing[layer], epsilon);
        let mut sizes = sizes.clone();
        sizes.rope.clone_from(&latent.rope);
        Some(
            latent.build(leaves, "self_attn", blocks.masks[layer], |leaves| {
                Some(sizes.selection(leaves, hidden_size, own[layer]))
            }),
        )
    });
    decoder.build()
}

//! dots.note: latent attention to chosen keys beside latent attention with a window, of other sizes.

use super::latent::latent_decoder;
use super::{shared, v3_experts};
use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{Gate, MixerOf};
use crate::families::latent::{IndexerSizes, Latent};
use crate::families::mixture::{mix, sparse_layers};
use crate::rope::{Rope, RopeOptions};
use crate::{Activation, Config, Described, Mask, SpecError};

const WINDOW: &str = "sliding_attention";
const CHOSEN: &str = "indexed_attention";
const ALL: &str = "full_attention";

/// Sizes of a layer's attention that differ from the others'.
struct Own<'c> {
    config: &'c Config,
    /// The layer's object.
    layer: Option<Config>,
    /// Published files have those of layers with a window under keys of their own.
    older: bool,
}

/// Published sizes of layers with a window, where the file says nothing.
const OLDER: [(&str, usize); 7] = [
    ("num_attention_heads", 64),
    ("num_key_value_heads", 64),
    ("q_lora_rank", 1024),
    ("kv_lora_rank", 1024),
    ("head_dim", 256),
    ("qk_nope_head_dim", 192),
    ("v_head_dim", 128),
];

impl Own<'_> {
    fn size(&self, key: &str) -> Result<usize, SpecError> {
        if let Some(own) = &self.layer
            && let Some(size) = own.optional_size(key)?
        {
            return Ok(size);
        }
        if !self.older {
            return self.config.size(key);
        }
        let own = self.config.optional_size(&format!("swa_{key}"))?;
        let usual = OLDER.iter().find(|(name, _)| *name == key);
        match own.or(usual.map(|usual| usual.1)) {
            Some(size) => Ok(size),
            // The rotated features of a head.
            None => Ok(self
                .size("head_dim")?
                .saturating_sub(self.size("qk_nope_head_dim")?)),
        }
    }

    fn latent(&self, kind: &str, norm: NormStyle) -> Result<Latent, SpecError> {
        let heads = self.size("num_attention_heads")?;
        if self.size("num_key_value_heads")? != heads {
            let problem = format!("as many as there are query heads: {heads}");
            return Err(self.config.invalid("num_key_value_heads", problem));
        }
        let hidden_size = self.config.size("hidden_size")?;
        let (q_rank, kv_rank) = (self.size("q_lora_rank")?, self.size("kv_lora_rank")?);
        let (nope_dim, rope_dim) = (
            self.size("qk_nope_head_dim")?,
            self.size("qk_rope_head_dim")?,
        );
        let head_dim = self.size("head_dim")?;
        if kind == WINDOW && head_dim != nope_dim + rope_dim {
            let expected = format!("{nope_dim} and {rope_dim} features");
            return Err(self.config.invalid("head_dim", expected));
        }
        // In GGUF files the norms hold the factors.
        let is_done =
            self.config.in_file("latents_are_scaled") && self.config.flag("latents_are_scaled")?;
        let scale = |rank: usize| {
            if is_done {
                1.0
            } else {
                (hidden_size as f64 / rank as f64).sqrt()
            }
        };
        Ok(Latent {
            hidden_size,
            heads,
            nope_dim,
            rope_dim,
            value_dim: self.size("v_head_dim")?,
            kv_rank,
            q_rank: Some(q_rank),
            bias: self.config.flag("attention_bias")?,
            norm,
            rope: Some(rope(self.config, kind, [head_dim, rope_dim])?),
            scale: ((nope_dim + rope_dim) as f64).powf(-0.5),
            temperature: None,
            head_temperature: None,
            handed: None,
            is_handed: false,
            latent_scales: [scale(q_rank), scale(kv_rank)],
            gate: Some(Gate {
                name: "self_attn.g_proj",
                per_head: true,
                bias: false,
                activation: Activation::Sigmoid,
                head_bias: None,
            }),
            gated_queries: false,
            shared_key_norm: Some("k_rope_only_layernorm"),
            sinks: None,
        })
    }
}

/// The rotation of a kind of layer.
fn rope(config: &Config, kind: &str, [head_dim, rope_dim]: [usize; 2]) -> Result<Rope, SpecError> {
    let written = config.nested("rope_parameters")?.is_some();
    if !written && config.nested("rope_scaling")?.is_none() {
        let theta = match kind {
            WINDOW => config.optional_positive("swa_rope_theta")?.unwrap_or(5e4),
            _ => config.optional_positive("rope_theta")?.unwrap_or(8e7),
        };
        return Ok(Rope {
            interleaved: true,
            ..Rope::plain(rope_dim, theta)
        });
    }
    let options = RopeOptions {
        interleaved: true,
        partial: true,
        layer_type: Some(kind),
        default_partial: rope_dim as f64 / head_dim as f64,
        ..RopeOptions::new(head_dim)
    };
    let rope = Rope::from_config(config, &options)?;
    let rope = rope.ok_or_else(|| config.missing("rope_parameters"))?;
    if rope.dims != rope_dim {
        return Err(config.invalid("qk_rope_head_dim", "the rotated part of a head"));
    }
    Ok(rope)
}

/// The kind of every layer.
fn kinds(config: &Config, layers: usize) -> Result<Vec<String>, SpecError> {
    let own = config.mentions("use_dsa");
    let chooses = if own || !config.in_file("per_layer_config") {
        Some(!own || config.flag("use_dsa")?)
    } else {
        None
    };
    let windows = !config.mentions("use_sliding_window") || config.flag("use_sliding_window")?;
    let usual = if chooses == Some(false) { ALL } else { CHOSEN };
    let kinds = layer_types(config, layers, |layer| {
        if !windows || layer < 2 || layer % 4 == 1 {
            usual
        } else {
            WINDOW
        }
    })?;
    let kind = |kind: String| match (kind.as_str(), chooses) {
        (ALL | CHOSEN, Some(true)) => Ok(CHOSEN.to_owned()),
        (ALL | CHOSEN, Some(false)) => Ok(ALL.to_owned()),
        (ALL | CHOSEN | WINDOW, _) => Ok(kind),
        _ => Err(config.unsupported("layer_types", "unknown kind of layer of this type")),
    };
    kinds.into_iter().map(kind).collect()
}

/// Which layers have experts.
fn sparse(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let first = config.optional_index("first_k_dense_replace")?.unwrap_or(1);
    let listed = match config.value("moe_layer_freq") {
        Some(serde_json::Value::Array(_)) => config.flags("moe_layer_freq")?,
        _ => None,
    };
    if listed.as_ref().is_some_and(|listed| listed.len() < layers) {
        let expected = format!("one entry for each of {layers} layers");
        return Err(config.invalid("moe_layer_freq", expected));
    }
    let every = match listed {
        Some(_) => 1,
        None => config.optional_size("moe_layer_freq")?.unwrap_or(1),
    };
    sparse_layers(config, layers, |layer| {
        let listed = listed.as_ref().map(|listed| listed[layer]);
        layer >= first && listed.unwrap_or(layer % every == 0)
    })
}

/// dots3.note.
pub fn dots3_note_text(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let kinds = kinds(config, layers)?;
    let objects = config.nested("per_layer_config")?;
    let latents = kinds.iter().enumerate().map(|(layer, kind)| {
        let object = objects.as_ref();
        let object = object.map(|objects| objects.nested(&layer.to_string()));
        let own = Own {
            config,
            layer: object.transpose()?.flatten(),
            older: objects.is_none() && kind == WINDOW,
        };
        own.latent(kind, norm)
    });
    let latents: Vec<Latent> = latents.collect::<Result<_, _>>()?;
    let mut decoder = latent_decoder(config, &latents[0])?;
    let choice = |latent: &Latent| IndexerSizes::read(config, latent);
    let indexers = latents
        .iter()
        .zip(&kinds)
        .map(|(latent, kind)| (kind == CHOSEN).then(|| choice(latent)).transpose());
    let indexers: Vec<Option<IndexerSizes>> = indexers.collect::<Result<_, _>>()?;
    let older = config.optional_size("sliding_window_size")?;
    let window = config
        .optional_size("sliding_window")?
        .or(older)
        .unwrap_or(512);
    let mask = |kind: &String| match kind.as_str() {
        WINDOW => Mask::CausalWindow(window),
        _ => Mask::Causal,
    };
    decoder.masks = kinds.iter().map(mask).collect();
    decoder.ropes = latents.iter().map(|latent| latent.rope.clone()).collect();
    decoder.one_way = true;
    let hidden_size = decoder.hidden_size;
    decoder.attention_of = MixerOf::new(move |own, leaves, layer| {
        let indexer = indexers[layer].as_ref();
        Some(
            latents[layer].build(leaves, "self_attn", own.masks[layer], |leaves| {
                Some(indexer?.selection(leaves, hidden_size, true))
            }),
        )
    });
    let sparse = sparse(config, layers)?;
    let mut experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    let older = config.optional_size("moe_shared_expert_intermediate_size")?;
    let own = config.size("shared_experts_intermediate_size")?;
    let count = config.heads("n_shared_experts")?;
    shared(&mut experts, count);
    if let Some(shared) = &mut experts.shared {
        shared.intermediate_size = older.unwrap_or(own) * count;
    }
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    // The networks of the reference's class have no addends.
    config.ignore(&["mlp_bias"]);
    decoder.build()
}

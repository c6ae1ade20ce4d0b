//! Cohere: attention and feed-forward network side by side behind one layer norm.

use crate::build::{NormStyle, head_width, layer_types};
use crate::families::blocks::{Arrangement, Blocks};
use crate::families::coordinates::counts_of;
use crate::families::experts::{Experts, SHARED_EXPERTS, Shared};
use crate::families::mixture::{mix, sparse_layers};
use crate::model_type::{ModelType, limited, row};
use crate::rope::{Pairs, PositionAxis, Rope, RopeOptions};
use crate::{Config, Described, NormSpan, Renormalize, RouterScore, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("cohere", cohere),
    row("cohere2", cohere2),
    row("cohere2_moe", cohere2_moe),
    limited(
        row("cohere_compass_text", cohere_compass),
        "text only, where the three position axes are equal",
    ),
];

fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(config.positive("layer_norm_eps")?)
    };
    let mut decoder = Blocks::new(config, norm)?;
    decoder.family = "cohere";
    decoder.activation = config.activation("hidden_act")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.arrangement = Arrangement::parallel("input_layernorm");
    decoder.logit_scale = config.optional_number("logit_scale")?.unwrap_or(1.0);
    Ok(decoder)
}

/// Cohere: interleaved rope, norms of the heads as an option.
pub fn cohere(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    if config.flag("use_qk_norm")? {
        decoder.query_key_norm = Some((NormSpan::HeadOwnWeight, decoder.norm));
    }
    decoder.build()
}

/// The second generation: the size of a head follows from the hidden size where the file has none.
fn second(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = plain(config)?;
    if !config.in_file("head_dim") {
        let (hidden, heads) = (decoder.hidden_size, decoder.heads);
        decoder.head_dim = head_width(config, hidden, heads)?;
        decoder.attention_scale = (decoder.head_dim as f64).powf(-0.5);
    }
    Ok(decoder)
}

/// Cohere 2: windows and rope on three layers of four, the others without positions.
pub fn cohere2(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = second(config)?;
    published_options(config)?;
    let interval = config.optional_size("sliding_window_pattern")?.unwrap_or(4);
    let kinds = layer_types(config, decoder.layers(), |layer| {
        if (layer + 1) % interval == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    decoder.mask_by_kinds(&kinds, config.optional_size("sliding_window")?)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    decoder.keep_rotation(|layer| kinds[layer] == "sliding_attention");
    decoder.build()
}

/// Cohere 2 with experts beside the attention: dense layers first, whose windows follow a pattern of
/// their own, shared experts added or averaged in.
pub fn cohere2_moe(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    if let Some(epsilon) = config.optional_positive("rms_norm_eps")? {
        decoder.set_norm(NormStyle::rms(epsilon));
    }
    let layers = decoder.layers();
    let first = config.optional_index("first_k_dense_replace")?.unwrap_or(0);
    let prefix_interval = config.size("prefix_dense_sliding_window_pattern")?;
    let interval = config.size("sliding_window_pattern")?;
    let kinds = layer_types(config, layers, |layer| {
        let (place, interval) = match layer.checked_sub(first) {
            Some(place) => (place, interval),
            None => (layer, prefix_interval),
        };
        if (place + 1) % interval == 0 {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    let sparse = sparse_layers(config, layers, |layer| layer >= first)?;
    decoder.mask_by_kinds(&kinds, config.optional_size("sliding_window")?)?;
    decoder.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let turned = |layer: usize| !sparse[layer] && prefix_interval == 1;
    decoder.keep_rotation(|layer| kinds[layer] == "sliding_attention" || turned(layer));
    let experts = experts(config, &decoder)?;
    let dense = config.optional_size("prefix_dense_intermediate_size")?;
    decoder.intermediate_size = dense.unwrap_or(decoder.intermediate_size);
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

fn experts(config: &Config, decoder: &Blocks<'_>) -> Result<Experts, SpecError> {
    let inner = decoder.intermediate_size;
    let keys = ["num_experts", "num_experts_per_tok"];
    let mut experts = Experts::new(config, keys, inner, decoder.activation)?;
    let renormalized = config.flag("norm_topk_prob")?;
    match config.optional_text("expert_selection_fn")?.as_deref() {
        Some("softmax") => experts.score = RouterScore::SoftmaxOfTopK,
        Some("sigmoid") => {
            experts.score = RouterScore::SigmoidOfTopK;
            if renormalized {
                experts.renormalize = Renormalize::Sum { plus: 0.0 };
            }
        }
        _ => return Err(config.unsupported("expert_selection_fn", "`softmax` or `sigmoid`")),
    }
    let key = "shared_expert_combination_strategy";
    let strategy = config.optional_text(key)?;
    let shared = config.optional_index("num_shared_experts")?.unwrap_or(0);
    if shared > 0 {
        experts.shared = Some(Shared {
            tensors: SHARED_EXPERTS,
            intermediate_size: inner * shared,
            bias: false,
            activation: decoder.activation,
            gate: None,
        });
        experts.output_scale = match strategy.as_deref() {
            Some("sum") => 1.0,
            Some("average") => 0.5,
            _ => return Err(config.unsupported(key, "`sum` or `average`")),
        };
    }
    Ok(experts)
}

/// What published files spell out, at the only values the reference knows.
fn published_options(config: &Config) -> Result<(), SpecError> {
    let fixed = |key, value: serde_json::Value| {
        config.neutral(key, &[value], "the reference knows one form of this type")
    };
    fixed("order_of_interleaved_layers", "local_attn_first".into())?;
    fixed("position_embedding_type", "rope_gptj".into())?;
    fixed("rotary_pct", 1.into())?;
    for key in [
        "use_embedding_sharing",
        "use_gated_activation",
        "use_parallel_block",
        "use_parallel_embedding",
    ] {
        // Of these two only the layout of the training program is meant.
        if !matches!(key, "use_parallel_embedding" | "use_embedding_sharing") {
            fixed(key, true.into())?;
        }
        config.ignore(&[key]);
    }
    // As long as `sliding_window_pattern`.
    config.ignore(&["layer_switch"]);
    config.off("use_qk_norm", "this type has no norms of heads")
}

/// The text model of Cohere Compass: rotations by kind of layer, and by three numbers.
pub fn cohere_compass(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = second(config)?;
    let kinds = layer_types(config, decoder.layers(), |_| "full_attention")?;
    decoder.mask_by_kinds(&kinds, config.optional_size("sliding_window")?)?;
    config.neutral("pooling", &[], "embeddings of a whole record")?;
    let parameters = config.nested("rope_parameters")?;
    if let Some(parameters) = &parameters {
        parameters.ignore(&["rope_theta", "rope_type"]);
    }
    let rotation = |kind: &'static str| -> Result<Option<Rope>, SpecError> {
        let own = match &parameters {
            Some(parameters) => parameters.nested(kind)?,
            None => None,
        };
        let counts = counts_of(own.as_ref())?.unwrap_or([24, 20, 20]);
        let rope = Rope::from_config(
            config,
            &RopeOptions {
                layer_type: Some(kind),
                ..RopeOptions::new(decoder.head_dim)
            },
        )?;
        let axis = PositionAxis::Coordinates(Pairs::ByTurns(counts));
        Ok(rope.map(|rope| Rope { axis, ..rope }))
    };
    let (full, sliding) = (rotation("full_attention")?, rotation("sliding_attention")?);
    decoder.ropes = kinds
        .iter()
        .map(|kind| match kind.as_str() {
            "sliding_attention" => sliding.clone(),
            _ => full.clone(),
        })
        .collect();
    decoder.build()
}

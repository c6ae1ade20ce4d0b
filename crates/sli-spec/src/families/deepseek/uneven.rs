//! DeepSeek-V3's experts, and attention whose sizes differ between layers.

use super::v3_experts;
use serde_json::json;

use crate::families::decoder::{Arrangement, Decoder, MixerOf};
use crate::families::experts::{Experts, Shared};
use crate::families::mixture::{amend, attention_bias, by_kind, mix, plain, sparse_layers};
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Attention, Config, Gain, KeyValue, Mask, Mixer, ModelSpec, NormSpan, OutputGate,
    Position, QueryTemperature, Renormalize, RouterScore, Shard, SpecError, Write,
};

/// Sizes of the attention of one layer, where layers differ.
#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    bias: bool,
    output_bias: bool,
}

impl Sizes {
    fn build(self, leaves: &mut crate::build::Leaves, hidden_size: usize, mask: Mask) -> Attention {
        let mut projection =
            |name: &str, out| leaves.linear(name, [out, hidden_size], self.bias, Shard::Column);
        let query = projection("self_attn.q_proj", self.heads * self.head_dim);
        let key = projection("self_attn.k_proj", self.kv_heads * self.head_dim);
        let value = projection("self_attn.v_proj", self.kv_heads * self.value_dim);
        let shape = [hidden_size, self.heads * self.value_dim];
        let output = leaves.linear("self_attn.o_proj", shape, self.output_bias, Shard::Row);
        Attention {
            value_dim: self.value_dim,
            ..Attention::plain(
                [self.heads, self.kv_heads, self.head_dim],
                query,
                KeyValue::Own {
                    key,
                    value: Some(value),
                },
                output,
                mask,
            )
        }
    }
}

fn is_window(mask: Mask) -> bool {
    matches!(mask, Mask::CausalWindow(_))
}

/// MiMo-V2-Flash: layers with windows have twice the key heads, and sinks.
pub fn mimo_v2_flash(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = match config.optional_size("sliding_window_size")? {
        Some(size) => size + 1,
        None => config.size("sliding_window")?,
    };
    let otherwise = |layer: usize| {
        if layer == 0 || (layer + 1).is_multiple_of(6) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = crate::build::layer_types(config, layers, otherwise)?;
    decoder.mask_by_layer_types(Some(window), otherwise)?;
    published_mimo(config, &decoder, &kinds)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            default_partial: 0.334,
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let theta = if kind == "full_attention" { 5e6 } else { 1e4 };
            Some(Rope::plain(
                (decoder.head_dim as f64 * 0.334) as usize,
                theta,
            ))
        };
    }
    let bias = config.flag("attention_bias")?;
    let value_dim = config.size("v_head_dim")?;
    let (hidden_size, heads, kv_heads, head_dim) = (
        decoder.hidden_size,
        decoder.heads,
        decoder.kv_heads,
        decoder.head_dim,
    );
    crate::build::divided(config, "num_key_value_heads", heads, 2 * kv_heads)?;
    let (masks, ropes) = (decoder.masks.clone(), decoder.ropes.clone());
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        let windowed = is_window(masks[layer]);
        let sizes = Sizes {
            heads,
            kv_heads: if windowed { 2 * kv_heads } else { kv_heads },
            head_dim,
            value_dim,
            bias,
            output_bias: false,
        };
        let mut attention = sizes.build(leaves, hidden_size, masks[layer]);
        attention.positions = ropes[layer]
            .clone()
            .map(Position::Rope)
            .into_iter()
            .collect();
        if windowed {
            let name = leaves.tensor("self_attn.attention_sink_bias");
            attention.sinks = Some(leaves.weight(name, &[heads], Shard::Column));
        }
        Some(Mixer::Attention(Box::new(attention)))
    });
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let experts = v3_experts(config, "n_routed_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let value_scale = config
        .optional_number("attention_value_scale")?
        .unwrap_or(1.0);
    let mut spec = decoder.build()?;
    // A factor on the values is one on the output, which has no addend.
    for layer in &mut spec.stacks[0].layers {
        for branch in layer.steps.iter_mut().flat_map(|step| &mut step.branches) {
            if value_scale != 1.0 && matches!(branch.mixer, Mixer::Attention(_)) {
                branch.gain = Gain::Constant(value_scale);
            }
        }
    }
    spec.ignored.push("model.mtp.*");
    Ok(spec)
}

/// What published files of MiMo-V2-Flash say beside what the reference's class reads: it must be what
/// that class has anyway.
fn published_mimo(
    config: &Config,
    decoder: &Decoder<'_>,
    kinds: &[String],
) -> Result<(), SpecError> {
    let (value_dim, epsilon) = (config.size("v_head_dim")?, config.number("rms_norm_eps")?);
    let windows = kinds
        .iter()
        .map(|kind| u8::from(kind == "sliding_attention"));
    let sparse = sparse_layers(config, decoder.layers(), |layer| layer > 0)?;
    let said = [
        ("rope_theta", json!(5e6)),
        ("swa_rope_theta", json!(1e4)),
        ("partial_rotary_factor", json!(0.334)),
        ("swa_num_attention_heads", json!(decoder.heads)),
        ("swa_num_key_value_heads", json!(2 * decoder.kv_heads)),
        ("swa_head_dim", json!(decoder.head_dim)),
        ("swa_v_head_dim", json!(value_dim)),
        ("layernorm_epsilon", json!(epsilon)),
        ("hybrid_layer_pattern", windows.collect()),
        ("moe_layer_freq", sparse.into_iter().map(u8::from).collect()),
        ("add_swa_attention_sink_bias", json!(true)),
        ("add_full_attention_sink_bias", json!(false)),
    ];
    for (key, value) in said {
        config.neutral(
            key,
            &[value],
            "the reference's class does not read it and has another value",
        )?;
    }
    // Other names of the window, or without a reader where each layer says its kind.
    config.ignore(&["sliding_window", "attention_chunk_size"]);
    Ok(())
}

/// Beam: norms around each sublayer, residuals scaled by depth, gated attention outputs.
pub fn beam(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    attention_bias(config, &mut decoder)?;
    decoder.arrangement = Arrangement::Sandwich {
        attention: ["input_layernorm", "post_attention_layernorm"],
        feed_forward: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
    };
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    let layers = decoder.layers();
    let otherwise = |layer: usize| {
        if (layer + 1).is_multiple_of(6) || layer + 1 == layers {
            "full_attention"
        } else {
            "sliding_attention"
        }
    };
    let kinds = crate::build::layer_types(config, layers, otherwise)?;
    let window = config.optional_size("sliding_window")?;
    decoder.mask_by_layer_types(window, otherwise)?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        // Keys beside it complete an object of the file, never the one that the class assumes.
        let theta_keys: &[&str] = if described { &["rope_theta"] } else { &[] };
        let options = RopeOptions {
            layer_type: Some(kind),
            theta_keys,
            scaled: described,
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = match kind.as_str() {
            "full_attention" if !described => None,
            _ => Rope::from_config(config, &options)?,
        };
    }
    decoder.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    let sparse = sparse_layers(config, layers, |layer| layer >= 3.min(layers))?;
    let experts = v3_experts(config, "num_experts", decoder.activation)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    let hidden_size = decoder.hidden_size;
    let mut spec = decoder.build()?;
    amend(&mut spec, |leaves, _, attention| {
        let shape = [attention.heads * attention.value_dim, hidden_size];
        let projection = leaves.linear("self_attn.gate_proj", shape, false, Shard::Column);
        let bias = leaves.tensor("self_attn.gate_bias");
        attention.gate = Some(OutputGate {
            projection,
            per_head: false,
            activation: Activation::Sigmoid,
            head_bias: Some(leaves.weight(bias, &[attention.heads], Shard::Column)),
        });
        if attention.positions.is_empty() {
            attention.query_temperature = Some(QueryTemperature::Power {
                original: 2048.0,
                exponent: 0.1,
            });
        }
    });
    let steps = spec.stacks[0]
        .layers
        .iter_mut()
        .flat_map(|layer| &mut layer.steps);
    for (index, step) in steps.enumerate() {
        let depth = (index + 2) as f64;
        step.write = Write::AddScaled(Gain::Constant(((depth - 1.0) / depth).sqrt()));
        for branch in &mut step.branches {
            branch.gain = Gain::Constant(1.0 / depth.sqrt());
        }
    }
    Ok(spec)
}

/// Laguna: a number of heads for each layer, gated attention outputs.
pub fn laguna(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = plain(config)?;
    let layers = decoder.layers();
    let window = config.optional_size("sliding_window")?;
    let kinds = crate::build::layer_types(config, layers, |_| "full_attention")?;
    decoder.mask_by_layer_types(window, |_| "full_attention")?;
    config.off(
        "use_bidirectional_attention",
        "the class has causal attention only",
    )?;
    let described = by_kind(config)?;
    for (layer, kind) in kinds.iter().enumerate() {
        let options = RopeOptions {
            partial: true,
            layer_type: Some(kind),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = if described {
            Rope::from_config(config, &options)?
        } else {
            let (theta, part) = if kind == "full_attention" {
                (5e5, 2)
            } else {
                (1e4, 1)
            };
            Some(Rope::plain(decoder.head_dim / part, theta))
        };
    }
    let counts: Vec<usize> = match config.numbers("num_attention_heads_per_layer")? {
        Some(counts) if counts.len() != layers => {
            let expected = format!("one entry for each of {layers} layers");
            return Err(config.invalid("num_attention_heads_per_layer", expected));
        }
        Some(counts) => counts.into_iter().map(|count| count as usize).collect(),
        None => vec![decoder.heads; layers],
    };
    let kv_heads = decoder.kv_heads;
    if counts
        .iter()
        .any(|&count| count == 0 || !count.is_multiple_of(kv_heads))
    {
        let expected = format!("multiples of {kv_heads}");
        return Err(config.invalid("num_attention_heads_per_layer", expected));
    }
    let per_head = match config.value("gating") {
        None | Some(serde_json::Value::Bool(true)) => true,
        Some(serde_json::Value::String(kind)) if kind == "per-head" => true,
        Some(serde_json::Value::Bool(false)) => false,
        Some(serde_json::Value::String(kind)) if kind == "per-element" => false,
        Some(_) => return Err(config.unsupported("gating", "unknown gate")),
    };
    let bias = config.flag("attention_bias")?;
    let (hidden_size, head_dim, norm) = (decoder.hidden_size, decoder.head_dim, decoder.norm);
    let (masks, ropes) = (decoder.masks.clone(), decoder.ropes.clone());
    decoder.attention_of = MixerOf::new(move |leaves, layer| {
        let heads = counts[layer];
        let sizes = Sizes {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            bias,
            output_bias: bias,
        };
        let mut attention = sizes.build(leaves, hidden_size, masks[layer]);
        attention.positions = ropes[layer]
            .clone()
            .map(Position::Rope)
            .into_iter()
            .collect();
        let mut head_norm = |name: &str| {
            Some(crate::HeadNorm {
                norm: leaves.norm(name, head_dim, norm),
                span: NormSpan::Head,
                after_rotation: false,
            })
        };
        attention.query_norm = head_norm("self_attn.q_norm");
        attention.key_norm = head_norm("self_attn.k_norm");
        let out = if per_head { heads } else { heads * head_dim };
        let shape = [out, hidden_size];
        attention.gate = Some(OutputGate {
            projection: leaves.linear("self_attn.g_proj", shape, false, Shard::Column),
            per_head,
            activation: Activation::Softplus,
            head_bias: None,
        });
        Some(Mixer::Attention(Box::new(attention)))
    });
    config.off(
        "moe_apply_router_weight_on_input",
        "not implemented by the reference",
    )?;
    let sparse = sparse_layers(config, layers, |layer| layer > 0)?;
    let inner = config.size("moe_intermediate_size")?;
    let cap = config.number("moe_router_logit_softcapping")?;
    let experts = Experts {
        score: RouterScore::Sigmoid,
        softcap: (cap > 0.0).then_some(cap),
        choice_bias: &["mlp.experts.e_score_correction_bias"],
        counted_bias: true,
        renormalize: Renormalize::Sum { plus: 0.0 },
        scale: config.number("moe_routed_scaling_factor")?,
        shared: Some(Shared {
            tensors: crate::families::experts::SHARED_EXPERT,
            intermediate_size: config.size("shared_expert_intermediate_size")?,
            bias: false,
            activation: decoder.activation,
            gate: None,
        }),
        ..Experts::new(
            config,
            ["num_experts", "num_experts_per_tok"],
            inner,
            decoder.activation,
        )?
    };
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

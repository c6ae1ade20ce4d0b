//! LFM2 and LFM3: short convolutions beside attention.

use crate::build::{NormStyle, layer_types, mask_of};
use crate::families::blocks::{Arrangement, Blocks, Gate, MixerOf, Names, Projections, Tie};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::mixture::mix;
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Config, Described, Mask, Mixer, NormSpan, Renormalize, RouterScore, Shard,
    ShortConvolution, SpecError,
};

const NAMES: Names = Names {
    projections: Projections::Separate([
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
    ]),
    query_norm: "self_attn.q_layernorm",
    key_norm: "self_attn.k_layernorm",
    output: "self_attn.out_proj",
    gate: "feed_forward.w1",
    up: "feed_forward.w3",
    down: "feed_forward.w2",
    final_norm: "embedding_norm",
    ..Names::USUAL
};

/// What the types have in common; `inner`: features inside the network.
fn lfm<'c>(config: &'c Config, inner: usize, kinds: &[String]) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::rms(config.positive("norm_eps")?);
    let mut decoder = Blocks::with_width(config, norm, inner)?;
    decoder.family = "hybrid";
    decoder.names = NAMES;
    decoder.arrangement = Arrangement::pre("operator_norm", "ffn_norm");
    decoder.activation = Activation::Silu;
    decoder.may_look_ahead = false;
    decoder.query_key_norm = Some((NormSpan::Head, norm));
    // Published files call it so, and the class goes by that.
    if config.in_file("tie_embedding") {
        config.ignore(&["tie_word_embeddings"]);
        decoder.tie = if config.flag("tie_embedding")? {
            Tie::UnlessStored
        } else {
            Tie::Always(false)
        };
    }
    let convolves: Vec<bool> = kinds.iter().map(|kind| kind == "conv").collect();
    let window = if config.declares("sliding_window") {
        config.optional_size("sliding_window")?
    } else {
        None
    };
    let mask = |kind: &String| match kind.as_str() {
        "conv" => Ok(Mask::Causal),
        kind => mask_of(config, kind, window),
    };
    decoder.masks = kinds.iter().map(mask).collect::<Result<_, _>>()?;
    let (hidden, kernel) = (decoder.hidden_size, config.size("conv_L_cache")?);
    let bias = config.flag("conv_bias")?;
    decoder.attention_of = MixerOf::new(move |_, leaves, layer| {
        convolves[layer].then(|| {
            let shape = [3 * hidden, hidden];
            let input = leaves.linear("conv.in_proj", shape, bias, Shard::Column);
            let shape = [hidden, kernel];
            Mixer::ShortConvolution(ShortConvolution {
                input,
                convolution: leaves.convolution("conv.conv", shape, bias, Activation::Linear),
                output: leaves.linear("conv.out_proj", [hidden; 2], bias, Shard::Row),
            })
        })
    });
    Ok(decoder)
}

/// LFM2: the width of the network may be adjusted.
pub fn lfm2(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let attends = config.numbers("full_attn_idxs")?;
    let kinds = layer_types(config, layers, |layer| match &attends {
        Some(attends) if !attends.contains(&(layer as f64)) => "conv",
        _ => "full_attention",
    })?;
    // The older name counts, where a file has it.
    let mut inner = if config.in_file("block_ff_dim") {
        config.ignore(&["intermediate_size"]);
        config.size("block_ff_dim")?
    } else {
        config.size("intermediate_size")?
    };
    let adjusts = config.flag("block_auto_adjust_ff_dim")?;
    let (factor, multiple) = (
        config.optional_positive("block_ffn_dim_multiplier")?,
        config.size("block_multiple_of")?,
    );
    if adjusts {
        inner = 2 * inner / 3;
        if let Some(factor) = factor {
            inner = ((factor * inner as f64) as usize).next_multiple_of(multiple);
        }
        if inner == 0 || inner > 1 << 28 {
            return Err(config.invalid("intermediate_size", "a network of some width"));
        }
    }
    let mut decoder = lfm(config, inner, &kinds)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    // The class does not read it.
    config.ignore(&[
        "conv_dim",
        "conv_dim_out",
        "block_dim",
        "block_mlp_init_scale",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_use_xavier_init",
        "num_heads",
        "use_pos_enc",
        "theta",
    ]);
    decoder.build()
}

/// LFM2 with experts behind the first layers.
pub fn lfm2_moe(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    if config.value("layer_types").is_none() {
        return Err(config.missing("layer_types"));
    }
    let kinds = layer_types(config, layers, |_| "full_attention")?;
    let mut decoder = lfm(config, config.size("intermediate_size")?, &kinds)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    let inner = config.size("moe_intermediate_size")?;
    let keys = ["num_experts", "num_experts_per_tok"];
    let mut experts = Experts {
        tensors: ExpertTensors::Each([
            "feed_forward.experts.{}.w1.weight",
            "feed_forward.experts.{}.w3.weight",
            "feed_forward.experts.{}.w2.weight",
        ]),
        router: "feed_forward.gate",
        score: RouterScore::Sigmoid,
        scale: config.number("routed_scaling_factor")?,
        ..Experts::new(config, keys, inner, Activation::Silu)?
    };
    if config.flag("use_expert_bias")? {
        experts.choice_bias = &["feed_forward.expert_bias"];
    }
    if config.flag("norm_topk_prob")? {
        experts.renormalize = Renormalize::Sum { plus: 1e-6 };
    }
    let dense = config.index("num_dense_layers")?;
    mix(&mut decoder, experts, move |layer| layer >= dense);
    decoder.build()
}

/// LFM3: norms around the sublayers, a gate for every head, windows in some layers.
pub fn lfm3(config: &Config) -> Result<Described, SpecError> {
    let layers = config.layers("num_hidden_layers")?;
    let kinds = layer_types(config, layers, |layer| match layer % 4 {
        2 => "full_attention",
        0 if layer > 0 => "sliding_attention",
        _ => "conv",
    })?;
    let mut decoder = lfm(config, config.size("intermediate_size")?, &kinds)?;
    decoder.names = Names {
        query_norm: "self_attn.q_norm",
        key_norm: "self_attn.k_norm",
        output: "self_attn.o_proj",
        ..NAMES
    };
    if config.flag("use_sandwich_norm")? {
        decoder.arrangement = Arrangement::sandwich(
            ["operator_norm", "post_operator_norm"],
            ["ffn_norm", "post_ffn_norm"],
        );
    }
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.gate = config.flag("use_attention_gate")?.then_some(Gate {
        name: "self_attn.gate_proj",
        per_head: true,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let assumed = serde_json::json!({
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {
            "rope_type": "proportional",
            "rope_theta": 1_000_000.0,
            "partial_rotary_factor": 0.5
        }
    });
    if let Some(parameters) = config.nested("rope_parameters")? {
        // A kind that no layer is counts as read.
        parameters.ignore(&["full_attention", "sliding_attention"]);
    }
    for (layer, kind) in kinds.iter().enumerate().filter(|(_, kind)| *kind != "conv") {
        let options = RopeOptions {
            layer_type: Some(kind),
            assumed: Some(&assumed),
            ..RopeOptions::new(decoder.head_dim)
        };
        decoder.ropes[layer] = Rope::from_config(config, &options)?;
    }
    decoder.build()
}

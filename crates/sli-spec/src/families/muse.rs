//! The text models of Muse: queries and keys normalised without factors, gated outputs, rotation in some layers.

use std::rc::Rc;

use serde_json::json;

use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, Gate};
use crate::families::experts::{ExpertTensors, Experts, LatentSpace, ignore_training};
use crate::families::mixture::{mix, sparse_layers};
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{
    Activation, Config, Described, Gain, HeadNorm, Mixer, NormKind, NormSpan, Renormalize,
    ResidualGate, RouterScore, Shard, SpecError, Step, Task, Write,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("muse_glimmer_text", muse_glimmer_text),
    row("muse_spark_text", muse_spark_text),
];

/// The least square of a residual's factor.
const LEAST: f64 = 1e-3;

/// A norm without factors.
fn bare(epsilon: f64) -> NormStyle {
    NormStyle {
        weight: false,
        ..NormStyle::rms(epsilon)
    }
}

/// `post_norm_eps`, which may be nothing.
fn after_epsilon(config: &Config) -> Result<f64, SpecError> {
    let epsilon = config.number("post_norm_eps")?;
    if epsilon < 0.0 {
        return Err(config.invalid("post_norm_eps", "a number that is not negative"));
    }
    Ok(epsilon)
}

/// What the types have in common.
fn plain<'c>(
    config: &'c Config,
    activation: &str,
    rotation: &RopeOptions<'_>,
) -> Result<Blocks<'c>, SpecError> {
    let epsilon = config.positive("rms_norm_eps")?;
    let norm = NormStyle {
        plus_one: true,
        ..NormStyle::rms(epsilon)
    };
    let mut model = Blocks::new(config, norm)?;
    if !model.hidden_size.is_multiple_of(model.heads) {
        let expected = format!("a divisor of {}", model.hidden_size);
        return Err(config.invalid("num_attention_heads", expected));
    }
    model.family = "muse";
    model.ignored.clear();
    model.activation = config.activation(activation)?;
    model.set_attention_bias(config.flag("attention_bias")?);
    model.token_norm = Some(("embed_tokens.embed_norm", bare(epsilon)));
    // Of GGUF files, whose norms of queries hold the factor.
    let head_norm = if config.in_file("head_norm_weights") && config.flag("head_norm_weights")? {
        config.ignore(&["qk_scale_factor"]);
        NormStyle::rms(epsilon)
    } else {
        model.attention_scale *= config.number("qk_scale_factor")?;
        bare(epsilon)
    };
    model.query_key_norm = Some((NormSpan::Head, head_norm));
    model.gate = Some(Gate {
        name: "self_attn.gate_proj",
        per_head: false,
        bias: false,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let layers = model.layers();
    // Counted from the last layer, which is one of them.
    let is_fourth = move |layer: usize| (layers - 1 - layer).is_multiple_of(4);
    let window = config.optional_size("sliding_window")?;
    model.mask_by_layer_types(window, |layer| {
        if is_fourth(layer) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    model.rotate(&RopeOptions {
        head_dim: model.head_dim,
        ..*rotation
    })?;
    // Whether a layer rotates is all that its base says.
    match config.numbers("layer_rope_theta")? {
        Some(bases) if bases.len() < layers => {
            let expected = format!("one entry for each of {layers} layers");
            return Err(config.invalid("layer_rope_theta", expected));
        }
        Some(bases) => model.keep_rotation(|layer| bases[layer] != 0.0),
        None => model.keep_rotation(|layer| !is_fourth(layer)),
    }
    model.final_norm = Some(NormStyle::rms(epsilon));
    Ok(model)
}

/// Sublayers between two norms, the second in a style of its own: `[of the attention, of the network]`.
fn layer(
    model: &Blocks<'_>,
    leaves: &mut Leaves,
    number: usize,
    after: [NormStyle; 2],
) -> Vec<Step> {
    let hidden = model.hidden_size;
    let mut step = |names: [&str; 2], style, describe: &dyn Fn(&mut Leaves) -> Mixer| Step {
        pre: Some(leaves.norm(names[0], hidden, model.norm)),
        post: Some(leaves.norm(names[1], hidden, style)),
        ..Step::residual(describe(leaves))
    };
    vec![
        step(
            ["input_layernorm", "post_attention_layernorm"],
            after[0],
            &|leaves| model.attention(leaves, number),
        ),
        step(
            ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
            after[1],
            &|leaves| model.feed_forward(leaves, number),
        ),
    ]
}

/// Muse Glimmer's text model.
pub fn muse_glimmer_text(config: &Config) -> Result<Described, SpecError> {
    let mut model = plain(config, "hidden_activation", &RopeOptions::new(0))?;
    let after = NormStyle {
        epsilon: after_epsilon(config)?,
        ..model.norm
    };
    // Of the head that the whole model has.
    model.logit_scale = config.positive("output_multiplier")?;
    model.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    model.layer_of = Some(Rc::new(move |own, leaves, number| {
        layer(own, leaves, number, [after; 2])
    }));
    model.build()
}

/// Muse Spark's text model: experts on fewer features, gates between residual and sublayer.
pub fn muse_spark_text(config: &Config) -> Result<Described, SpecError> {
    let assumed = json!({"rope_type": "default", "rope_theta": 500_000.0});
    let rotation = RopeOptions {
        assumed: Some(&assumed),
        ..RopeOptions::new(0)
    };
    let mut model = plain(config, "hidden_act", &rotation)?;
    let epsilon = after_epsilon(config)?;
    let of_scaled = NormStyle {
        kind: NormKind::RmsOfScaled,
        epsilon,
        ..model.norm
    };
    let temperature = config.positive("residual_gate_temperature")?;
    if config.class()?.task == Task::Base {
        config.ignore(&["final_logit_softcapping"]);
    } else {
        // Of the head that the whole model has.
        model.logit_scale = config.positive("output_multiplier")?;
        model.logit_softcap = config.optional_positive("final_logit_softcapping")?;
    }
    let sparse = sparse_layers(config, model.layers(), |_| true)?;
    let inner = config.size("moe_intermediate_size")?;
    let counts = ["num_local_experts", "num_experts_per_tok"];
    let plain = if sparse.contains(&true) {
        Experts::new(config, counts, inner, model.activation)?
    } else {
        // Nothing is chosen, whatever the numbers are.
        config.ignore(&counts);
        ignore_training(config);
        Experts::plain(1, 1, inner, model.activation)
    };
    let experts = Experts {
        tensors: ExpertTensors::Stacked(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        score: RouterScore::Sigmoid,
        logit_scale: config.number("output_multiplier")?,
        choice_bias: &["mlp.gate.e_score_correction_bias"],
        renormalize: Renormalize::Sum { plus: 1e-15 },
        scale: config.number("routed_scaling_factor")?,
        latent: Some(LatentSpace {
            size: config.size("moe_hidden_size")?,
            names: ["mlp.pre_expert_proj", "mlp.post_expert_proj"],
            bias: false,
        }),
        latent_norm: Some(("mlp.pre_expert_norm", model.norm)),
        output_norm: Some(("mlp.experts.post_expert_norm", of_scaled)),
        ..plain
    };
    mix(&mut model, experts, move |layer| sparse[layer]);
    let heads_norm = bare(model.norm.epsilon);
    model.layer_of = Some(Rc::new(move |own, leaves, number| {
        let mut steps = layer(own, leaves, number, [bare(epsilon), of_scaled]);
        if let Some(Mixer::Attention(attention)) = steps[0]
            .branches
            .first_mut()
            .map(|branch| &mut branch.mixer)
        {
            attention.heads_norm = Some(HeadNorm {
                norm: leaves.norm("self_attn.o_norm", own.head_dim, heads_norm),
                span: NormSpan::Head,
                after_rotation: false,
            });
        }
        let names = [
            "post_attention_residual_gate.gate",
            "post_feedforward_residual_gate.gate",
        ];
        for (step, name) in steps.iter_mut().zip(names) {
            let source = leaves.tensor(name);
            let gate = ResidualGate {
                gate: leaves.weight(source, &[own.hidden_size], Shard::Replicate),
                temperature,
                least: LEAST,
                is_residual: false,
            };
            for branch in &mut step.branches {
                branch.gain = Gain::Gate(gate);
            }
            step.write = Write::AddScaled(Gain::Gate(ResidualGate {
                is_residual: true,
                ..gate
            }));
        }
        steps
    }));
    model.build()
}

//! Nemotron-H: one mixer a layer.

use super::spelled;
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections, Tie};
use crate::families::deepseek::v3_experts;
use crate::families::experts::{ExpertTensors, Experts, LatentSpace, Shared, SharedTensors};
use crate::families::mamba::Dual;
use crate::{Config, Described, Mixer, SpecError};

/// What a layer of Nemotron-H is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scan,
    Attention,
    Network,
    Experts,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "linear_attention" | "mamba" | "M" => Self::Scan,
            "full_attention" | "attention" | "*" => Self::Attention,
            "mlp" | "-" => Self::Network,
            "moe" | "E" => Self::Experts,
            _ => return None,
        })
    }
}

/// The layers of Nemotron-H: a list, or a letter each.
fn kinds(config: &Config) -> Result<Vec<Kind>, SpecError> {
    let key = "layers_block_type";
    let listed = config.texts(key)?;
    let pattern = config.optional_text("hybrid_override_pattern")?;
    let names = match (listed, pattern) {
        (Some(names), _) => names,
        (None, Some(pattern)) => pattern.chars().map(String::from).collect(),
        (None, None) => ["M", "E", "*", "-"].map(String::from).to_vec(),
    };
    let kind = |name: &String| {
        let reason = format!("`{name}` is no kind of layer of this type");
        Kind::of(name).ok_or_else(|| config.unsupported(key, reason))
    };
    config.ignore(&["num_hidden_layers"]);
    names.iter().map(kind).collect()
}

/// The value of a key or, before it, of its older name.
fn renamed<T>(
    config: &Config,
    [key, older]: [&str; 2],
    read: impl Fn(&str) -> Result<T, SpecError>,
) -> Result<T, SpecError> {
    if config.in_file(older) {
        config.ignore(&[key]);
        return read(older);
    }
    read(key)
}

/// Nemotron-H: one mixer a layer, which is a scan of Mamba-2, attention without positions, a network without gate, or
/// experts, which may work in a space of their own.
pub fn nemotron_h(config: &Config) -> Result<Described, SpecError> {
    let kinds = kinds(config)?;
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    let head_dim = config.heads("head_dim")?;
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let sizes = [
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    ];
    let heads = [heads, kv_heads, head_dim];
    let mut model = Blocks::sized(config, norm, kinds.len(), sizes, heads)?;
    model.family = "hybrid";
    model.names = Names {
        tokens: "embeddings",
        projections: Projections::Separate(["mixer.q_proj", "mixer.k_proj", "mixer.v_proj"]),
        output: "mixer.o_proj",
        up: "mixer.up_proj",
        down: "mixer.down_proj",
        final_norm: "norm_f",
        ..Names::USUAL
    };
    model.stored = Some(spelled(&[("model.", "backbone.")]));
    model.arrangement = Arrangement::alone("norm");
    model.activation = config.activation("mlp_hidden_act")?;
    model.gated = false;
    model.set_network_bias(config.flag("mlp_bias")?);
    model.may_look_ahead = false;
    model.tie = Tie::Always(false);
    let scan = nemotron_scan(config, &model)?;
    let experts = nemotron_experts(config, &model)?;
    model.attention_of = MixerOf::new(move |own, leaves, layer| match kinds[layer] {
        Kind::Scan => Some(scan.build(leaves, "mixer")),
        Kind::Attention => None,
        Kind::Network => Some(Mixer::FeedForward(own.network(leaves))),
        Kind::Experts => Some(experts.build(leaves, own.hidden_size)),
    });
    model.build()
}

fn nemotron_scan(config: &Config, model: &Blocks<'_>) -> Result<Dual, SpecError> {
    let bias = config.flag("use_bias")?;
    renamed(config, ["chunk_size", "mamba_chunk_size"], |key| {
        config.size(key)
    })?;
    // What the classes do not read, and what is about new weights, tokens ahead or number types.
    config.ignore(&[
        "attention_bias",
        "expand",
        "mamba_dt_init_floor",
        "mamba_dt_max",
        "mamba_dt_limit",
        "mamba_expand",
        "mamba_proj_bias",
        "mamba_ssm_cache_dtype",
        "moe_shared_expert_overlap",
        "mtp_hybrid_override_pattern",
        "mtp_layers_block_type",
        "n_shared_experts",
        "num_logits_to_keep",
        "num_nextn_predict_layers",
        "rescale_prenorm_residual",
        "residual_in_fp32",
        "sliding_window",
        "time_step_floor",
        "time_step_limit",
        "time_step_max",
        "use_mamba_kernels",
    ]);
    let least = renamed(config, ["time_step_min", "mamba_dt_min"], |key| {
        config.number(key)
    })?;
    let scan = Dual {
        hidden: model.hidden_size,
        heads: config.heads("mamba_num_heads")?,
        head_dim: config.heads("mamba_head_dim")?,
        state: config.size("ssm_state_size")?,
        groups: renamed(config, ["n_groups", "mamba_n_groups"], |key| {
            config.heads(key)
        })?,
        kernel: renamed(config, ["conv_kernel", "mamba_d_conv"], |key| {
            config.size(key)
        })?,
        input_bias: bias,
        output_bias: bias,
        convolution_bias: renamed(config, ["use_conv_bias", "mamba_conv_bias"], |key| {
            config.flag(key)
        })?,
        activation: config.activation("mamba_hidden_act")?,
        // Whatever limits a file has.
        limits: Some([least, f64::INFINITY]),
        norm: Some((model.norm, false)),
        multipliers: None,
    };
    let features = scan.heads * scan.head_dim;
    scan.check(config, ["mamba_num_heads", "n_groups"], features)?;
    Ok(scan)
}

fn nemotron_experts(config: &Config, model: &Blocks<'_>) -> Result<Experts, SpecError> {
    let mut experts = v3_experts(config, "n_routed_experts", model.activation)?;
    experts.tensors = ExpertTensors::Ungated([
        "mixer.experts.{}.up_proj.weight",
        "mixer.experts.{}.down_proj.weight",
    ]);
    experts.router = "mixer.gate";
    experts.choice_bias = &["mixer.gate.e_score_correction_bias"];
    let latent = config.optional_size("moe_latent_size")?;
    experts.latent = latent.map(|size| LatentSpace {
        size,
        names: ["mixer.fc1_latent_proj", "mixer.fc2_latent_proj"],
        bias: model.up_bias,
    });
    experts.shared = Some(Shared {
        tensors: SharedTensors::Ungated([
            "mixer.shared_experts.up_proj",
            "mixer.shared_experts.down_proj",
        ]),
        intermediate_size: config.size("moe_shared_expert_intermediate_size")?,
        bias: model.up_bias,
        activation: model.activation,
        gate: None,
    });
    Ok(experts)
}

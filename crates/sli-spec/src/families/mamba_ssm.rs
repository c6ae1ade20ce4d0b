//! Mamba and Mamba-2 as their makers publish them: a `config.json` without a type, the arguments of its layers in
//! `ssm_cfg` and `attn_cfg`.

use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::families::mamba::{
    Dual, Selected, Selective, expanded, time_step_limits, time_step_rank,
};
use crate::model_type::{ModelType, row};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{Activation, Config, Described, LengthLimit, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("mamba_ssm", mamba_ssm)];

/// Arguments about new weights, and about ways to the same sums.
const IDLE: &[&str] = &[
    "A_init_range",
    "conv_init",
    "dt_init",
    "dt_init_floor",
    "dt_max",
    "dt_min",
    "dt_scale",
    "use_fast_path",
    "use_mem_eff_path",
];

/// The code's own, which files cannot change.
const EPSILON: f64 = 1e-5;

/// The scan of all layers that do not attend.
#[derive(Clone, Copy, Debug)]
enum Scan {
    Selective(Selective),
    Dual(Dual),
}

/// Mamba or Mamba-2, as `ssm_cfg` says.
pub fn mamba_ssm(config: &Config) -> Result<Described, SpecError> {
    // How sums are kept, and how they are computed.
    config.ignore(&["fused_add_norm", "residual_in_fp32"]);
    let norm = if config.flag("rms_norm")? {
        NormStyle::rms(EPSILON)
    } else {
        NormStyle::layer(EPSILON)
    };
    let hidden = config.size("d_model")?;
    // Zero: there is no network.
    let inner = config.optional_index("d_intermediate")?.unwrap_or(0);
    let inner = inner.next_multiple_of(128);
    let layers = config.layers("n_layer")?;
    let attends = attending(config, layers)?;
    let attention = config.nested("attn_cfg")?;
    let attention = attention.filter(|_| attends.contains(&true));
    let heads = match &attention {
        Some(attention) => heads(attention, hidden)?,
        None => [1; 3],
    };
    let mut model = Blocks::sized(config, norm, layers, [hidden, inner], heads)?;
    model.family = "mamba";
    let of_attention = "mixer.in_proj";
    model.names = Names {
        tokens: "embedding",
        projections: Projections::Rows(of_attention),
        output: "mixer.out_proj",
        gate_up: Some("mlp.fc1"),
        up_first: true,
        down: "mlp.fc2",
        final_norm: "norm_f",
        ..Names::USUAL
    };
    model.arrangement = match inner {
        0 => Arrangement::alone("norm"),
        _ => Arrangement::pre("norm", "norm2"),
    };
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    let multiple = config.size("pad_vocab_size_multiple")?;
    model.vocab_size = Some(config.size("vocab_size")?.next_multiple_of(multiple));
    if let Some(attention) = &attention {
        attend(&mut model, attention)?;
    }
    let scan = scan(config, hidden)?;
    model.attention_of = MixerOf::new(move |_, leaves, layer| {
        (!attends[layer]).then(|| match scan {
            Scan::Selective(scan) => scan.build(leaves, "mixer"),
            Scan::Dual(scan) => scan.build(leaves, "mixer"),
        })
    });
    model.build()
}

/// A switch that is on where the file does not say.
fn on(config: &Config, key: &str) -> Result<bool, SpecError> {
    Ok(!config.in_file(key) || config.flag(key)?)
}

/// Which layers attend.
fn attending(config: &Config, layers: usize) -> Result<Vec<bool>, SpecError> {
    let key = "attn_layer_idx";
    let named = config.numbers(key)?.unwrap_or_default();
    let is_layer = |&number: &f64| (0..layers).any(|layer| layer as f64 == number);
    if !named.iter().all(is_layer) {
        return Err(config.invalid(key, format!("numbers of {layers} layers")));
    }
    Ok((0..layers)
        .map(|layer| named.contains(&(layer as f64)))
        .collect())
}

/// `[heads, key and value heads, features of a head]` of the layers that attend.
fn heads(attention: &Config, hidden: usize) -> Result<[usize; 3], SpecError> {
    let heads = attention.heads("num_heads")?;
    let kv_heads = attention.optional_heads("num_heads_kv")?.unwrap_or(heads);
    divided(attention, "num_heads_kv", heads, kv_heads)?;
    let head_dim = match attention.optional_heads("head_dim")? {
        Some(head_dim) => head_dim,
        None => divided(attention, "num_heads", hidden, heads)?,
    };
    Ok([heads, kv_heads, head_dim])
}

/// What else `attn_cfg` says.
fn attend(model: &mut Blocks<'_>, config: &Config) -> Result<(), SpecError> {
    if !config.flag("causal")? {
        return Err(config.unsupported("causal", "the scans between see no later tokens"));
    }
    let problem = "a network beside the attention is not supported";
    config.neutral("mlp_dim", &[0.into()], problem)?;
    model.query_key_value_bias = on(config, "qkv_proj_bias")?;
    model.output_bias = on(config, "out_proj_bias")?;
    if let Some(scale) = config.optional_positive("softmax_scale")? {
        model.attention_scale = scale;
    }
    model.convolution = config
        .optional_index("d_conv")?
        .filter(|&kernel| kernel > 0)
        .map(|kernel| ("mixer.conv1d", kernel));
    let dims = config.optional_index("rotary_emb_dim")?.unwrap_or(0);
    let theta = config.optional_positive("rotary_emb_base")?;
    let interleaved = config.flag("rotary_emb_interleaved")?;
    if dims > model.head_dim || dims % 2 == 1 {
        let expected = "an even number of a head's features";
        return Err(config.invalid("rotary_emb_dim", expected));
    }
    if dims > 0 {
        model.ropes.fill(Some(Rope {
            dims,
            span: dims,
            offset: 0,
            interleaved,
            reversed: false,
            theta: theta.unwrap_or(10_000.0),
            scaling: RopeScaling::Default,
            axis: PositionAxis::Token,
        }));
    }
    Ok(())
}

/// The scan that `ssm_cfg` names, and its arguments.
fn scan(config: &Config, hidden: usize) -> Result<Scan, SpecError> {
    let empty = config.assumed("ssm_cfg", &serde_json::json!({}));
    let own = config.nested("ssm_cfg")?.unwrap_or(empty);
    own.ignore(IDLE);
    let size =
        |key: &str, usual: usize| Ok::<_, SpecError>(own.optional_size(key)?.unwrap_or(usual));
    let features = if own.in_file("expand") {
        expanded(&own, "expand", hidden)?
    } else {
        2 * hidden
    };
    let bias = own.flag("bias")?;
    let convolution_bias = on(&own, "conv_bias")?;
    let kernel = size("d_conv", 4)?;
    match own.optional_text("layer")?.as_deref().unwrap_or("Mamba1") {
        "Mamba1" => Ok(Scan::Selective(Selective {
            hidden,
            channels: features,
            state: size("d_state", 16)?,
            rank: if own.in_file("dt_rank") {
                time_step_rank(&own, "dt_rank", hidden)?
            } else {
                hidden.div_ceil(16)
            },
            kernel,
            bias,
            convolution_bias,
            activation: Activation::Silu,
            norms: Selected::Plain,
        })),
        "Mamba2" => {
            let problem = "a network beside the scan is not supported";
            own.neutral("d_ssm", &[features.into()], problem)?;
            own.off("D_has_hdim", "factors of features instead of heads")?;
            // How many rows are multiplied at a time.
            size("chunk_size", 256)?;
            let head_dim = own.optional_heads("headdim")?.unwrap_or(64);
            let heads = divided(&own, "headdim", features, head_dim)?;
            let normed = on(&own, "rmsnorm")?;
            let before_gate = own.flag("norm_before_gate")?;
            let scan = Dual {
                hidden,
                heads,
                head_dim,
                state: size("d_state", 128)?,
                groups: own.optional_heads("ngroups")?.unwrap_or(1),
                kernel,
                input_bias: bias,
                output_bias: bias,
                convolution_bias,
                activation: Activation::Silu,
                limits: if own.in_file("dt_limit") {
                    time_step_limits(&own, "dt_limit")?
                } else {
                    None
                },
                norm: normed.then_some((NormStyle::rms(EPSILON), before_gate)),
                multipliers: None,
            };
            scan.check(&own, ["headdim", "ngroups"], features)?;
            Ok(Scan::Dual(scan))
        }
        _ => Err(own.unsupported("layer", "the scans are `Mamba1` and `Mamba2`")),
    }
}

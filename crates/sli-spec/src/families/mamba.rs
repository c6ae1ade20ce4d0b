//! Mamba and Mamba-2: one scan a layer around the residual stream, and nothing else.

use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names};
use crate::{
    Activation, Config, Described, GatedNorm, LengthLimit, Mixer, SelectiveScan, Shard, SpecError,
    StateSpaceDual,
};

/// Keys by which the classes set up new weights, choose among ways to the same sums, or keep sums in another type.
const IDLE: &[&str] = &[
    "residual_in_fp32",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
];

/// What both have in common: a norm in front of one mixer.
fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    config.ignore(IDLE);
    let problem = "the class has RMS norms only";
    config.neutral("rms_norm", &[true.into()], problem)?;
    // Meant for new weights, and transformers 5.23 does it to those of a file as well, whenever it loads one.
    config.off(
        "rescale_prenorm_residual",
        "the reference divides the stored `out_proj` by the square root of the number of layers; \
         where the weights are as they were trained, it must be false",
    )?;
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let layers = config.layers("num_hidden_layers")?;
    // Neither heads nor a feed-forward network.
    let sizes = [config.size("hidden_size")?, 0];
    let mut model = Blocks::sized(config, norm, layers, sizes, [1; 3])?;
    model.family = "mamba";
    model.names = Names {
        tokens: "embeddings",
        final_norm: "norm_f",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::alone("norm");
    model.activation = config.activation("hidden_act")?;
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    Ok(model)
}

/// Sizes and switches that both have.
struct Sizes {
    hidden: usize,
    /// `expand * hidden_size`.
    expanded: usize,
    /// Values of the state of a feature.
    state: usize,
    /// Rows of the convolution.
    kernel: usize,
    bias: bool,
    convolution_bias: bool,
    /// Of the convolution.
    activation: Activation,
}

impl Sizes {
    fn new(config: &Config, model: &Blocks<'_>) -> Result<Self, SpecError> {
        let product = config.size("expand")?.checked_mul(model.hidden_size);
        let expanded = product.filter(|&product| product <= 1 << 28);
        Ok(Self {
            hidden: model.hidden_size,
            expanded: expanded.ok_or_else(|| config.invalid("expand", "a smaller number"))?,
            state: config.size("state_size")?,
            kernel: config.size("conv_kernel")?,
            bias: config.flag("use_bias")?,
            convolution_bias: config.flag("use_conv_bias")?,
            activation: model.activation,
        })
    }
}

/// Mamba.
pub fn mamba(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "time_step_init_scheme",
        "time_step_scale",
        "use_associative_scan",
        "use_mambapy",
    ]);
    let mut model = plain(config)?;
    let Sizes {
        hidden,
        expanded,
        state,
        kernel,
        bias,
        convolution_bias,
        activation,
    } = Sizes::new(config, &model)?;
    // No field of the class, which keeps what the file says all the same.
    let channels = config
        .optional_size("intermediate_size")?
        .unwrap_or(expanded);
    let rank = time_step_rank(config, hidden)?;
    model.attention_of = MixerOf::new(move |_, leaves, _| {
        Some(Mixer::SelectiveScan(Box::new(SelectiveScan {
            channels,
            state,
            groups: 1,
            time_step_rank: rank,
            input: leaves.linear("mixer.in_proj", [2 * channels, hidden], bias, Shard::Column),
            convolution: leaves.convolution(
                "mixer.conv1d",
                [channels, kernel],
                convolution_bias,
                activation,
            ),
            selection: leaves.linear(
                "mixer.x_proj",
                [rank + 2 * state, channels],
                false,
                Shard::Row,
            ),
            norms: None,
            time_step: leaves.linear("mixer.dt_proj", [channels, rank], true, Shard::Column),
            a_log: leaves.flat("mixer.A_log", channels * state),
            skip: leaves.flat("mixer.D", channels),
            gate_activation: Activation::Silu,
            output: leaves.linear("mixer.out_proj", [hidden, channels], bias, Shard::Row),
        })))
    });
    model.build()
}

/// `auto`: a sixteenth of the hidden size, rounded up.
fn time_step_rank(config: &Config, hidden_size: usize) -> Result<usize, SpecError> {
    match config.value("time_step_rank") {
        Some(value) if value == "auto" => Ok(hidden_size.div_ceil(16)),
        _ => config.size("time_step_rank"),
    }
}

/// Mamba-2.
pub fn mamba2(config: &Config) -> Result<Described, SpecError> {
    // How many rows the class multiplies at a time, and the rank of a projection that it does not have.
    config.ignore(&["chunk_size", "time_step_rank"]);
    let mut model = plain(config)?;
    let Sizes {
        hidden,
        expanded: features,
        state,
        kernel,
        bias,
        convolution_bias,
        activation,
    } = Sizes::new(config, &model)?;
    let (heads, head_dim) = (config.heads("num_heads")?, config.heads("head_dim")?);
    let problem = "the class takes hidden_size * expand instead";
    config.neutral("intermediate_size", &[features.into()], problem)?;
    if heads * head_dim != features {
        let expected = format!("{features} / head_dim, for hidden_size * expand = {features}");
        return Err(config.invalid("num_heads", expected));
    }
    let groups = config.heads("n_groups")?;
    divided(config, "n_groups", heads, groups)?;
    let limits = match config.numbers("time_step_limit")?.as_deref() {
        Some(&[least, most]) if !least.is_nan() && !most.is_nan() => [least, most],
        _ => return Err(config.invalid("time_step_limit", "two numbers")),
    };
    let norm = model.norm;
    let convolved = features + 2 * groups * state;
    model.attention_of = MixerOf::new(move |_, leaves, _| {
        Some(Mixer::StateSpaceDual(Box::new(StateSpaceDual {
            heads,
            head_dim,
            state,
            groups,
            input: leaves.linear(
                "mixer.in_proj",
                [features + convolved + heads, hidden],
                bias,
                Shard::Column,
            ),
            convolution: leaves.convolution(
                "mixer.conv1d",
                [convolved, kernel],
                convolution_bias,
                activation,
            ),
            time_step_bias: leaves.flat("mixer.dt_bias", heads),
            time_step_limits: (limits != [0.0, f64::INFINITY]).then_some(limits),
            a_log: leaves.flat("mixer.A_log", heads),
            skip: leaves.flat("mixer.D", heads),
            gate_activation: Activation::Silu,
            norm: Some(GatedNorm {
                norm: leaves.norm("mixer.norm", features, norm),
                groups,
                before_gate: false,
            }),
            output: leaves.linear("mixer.out_proj", [hidden, features], bias, Shard::Row),
        })))
    });
    model.build()
}

//! Mamba, Falcon Mamba and Mamba-2: one scan a layer around the residual stream, and nothing else. The scans
//! themselves stand in hybrids too.

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names};
use crate::model_type::{ModelType, row};
use crate::{
    Activation, Config, Described, GatedNorm, LengthLimit, Mixer, Norm, NormKind, Selection,
    SelectionNorms, SelectiveScan, Shard, SpecError, StateSpaceDual,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("falcon_mamba", falcon_mamba),
    row("mamba", mamba),
    row("mamba2", mamba2),
];

/// Keys that the classes do not read, or by which they set up new weights, choose among ways to the same sums, or keep
/// sums in another type.
const IDLE: &[&str] = &[
    "residual_in_fp32",
    // The classes have RMS norms, whatever a file says.
    "rms_norm",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
];

/// What all have in common: a norm in front of one mixer.
fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    config.ignore(IDLE);
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

/// `expand * hidden_size`.
pub fn expanded(config: &Config, expand: &str, hidden: usize) -> Result<usize, SpecError> {
    let product = config.size(expand)?.checked_mul(hidden);
    let expanded = product.filter(|&product| product <= 1 << 28);
    expanded.ok_or_else(|| config.invalid(expand, "a smaller number"))
}

/// A selective scan as data.
#[derive(Clone, Copy, Debug)]
pub struct Selective {
    /// Features of the hidden state.
    pub hidden: usize,
    /// Channels.
    pub channels: usize,
    /// Values of a channel's state.
    pub state: usize,
    /// Features that the time steps come from.
    pub rank: usize,
    /// Rows of the convolution.
    pub kernel: usize,
    /// The projections from and to the hidden state have addends.
    pub bias: bool,
    /// The convolution has one.
    pub convolution_bias: bool,
    /// Of the convolution.
    pub activation: Activation,
    /// Norms of what is selected.
    pub norms: Selected,
}

/// Norms of what the time steps come from, of `B` and of `C`.
#[derive(Clone, Copy, Debug)]
pub enum Selected {
    /// None.
    Plain,
    /// Without factors.
    Weightless(f64),
    /// With factors, by the names of their tensors.
    Named(NormStyle, [&'static str; 3]),
}

impl Selective {
    /// The mixer, its weights under `place`.
    pub fn build(&self, leaves: &mut Leaves, place: &str) -> Mixer {
        let name = |part: &str| format!("{place}.{part}");
        let (hidden, channels, state, rank) = (self.hidden, self.channels, self.state, self.rank);
        let shape = [2 * channels, hidden];
        let input = leaves.linear(&name("in_proj"), shape, self.bias, Shard::Column);
        let shape = [channels, self.kernel];
        let bias = self.convolution_bias;
        let convolution = leaves.convolution(&name("conv1d"), shape, bias, self.activation);
        let shape = [rank + 2 * state, channels];
        let selection = leaves.linear(&name("x_proj"), shape, false, Shard::Row);
        let norms = match self.norms {
            Selected::Plain => None,
            Selected::Weightless(epsilon) => Some([(); 3].map(|()| weightless(epsilon))),
            Selected::Named(style, names) => {
                let sizes = [rank, state, state];
                let mut norm = |index: usize| leaves.norm(&name(names[index]), sizes[index], style);
                Some([norm(0), norm(1), norm(2)])
            }
        };
        let norms = norms.map(|[time_step, b, c]| SelectionNorms { time_step, b, c });
        Mixer::SelectiveScan(Box::new(SelectiveScan {
            channels,
            state,
            groups: 1,
            time_step_rank: rank,
            input,
            convolution,
            selection: Selection::Whole(selection),
            norms,
            time_steps: vec![leaves.linear(
                &name("dt_proj"),
                [channels, rank],
                true,
                Shard::Column,
            )],
            a_log: leaves.flat(&name("A_log"), channels * state),
            skip: leaves.flat(&name("D"), channels),
            gate_activation: Activation::Silu,
            output: leaves.linear(&name("out_proj"), [hidden, channels], self.bias, Shard::Row),
        }))
    }
}

fn weightless(epsilon: f64) -> Norm {
    Norm {
        kind: NormKind::Rms,
        weight: None,
        bias: None,
        epsilon,
    }
}

/// The scan of Mamba-2 as data.
#[derive(Clone, Copy, Debug)]
pub struct Dual {
    /// Features of the hidden state.
    pub hidden: usize,
    /// Heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Values of a feature's state.
    pub state: usize,
    /// Groups of heads that share `B` and `C`.
    pub groups: usize,
    /// Rows of the convolution.
    pub kernel: usize,
    /// The projection from the hidden state has an addend.
    pub input_bias: bool,
    /// The one to it has one.
    pub output_bias: bool,
    /// The convolution has one.
    pub convolution_bias: bool,
    /// Of the convolution.
    pub activation: Activation,
    /// Least and most of the time steps, where they are limited.
    pub limits: Option<[f64; 2]>,
    /// In front of the output: the norm, and whether it stands in front of the gate.
    pub norm: Option<(NormStyle, bool)>,
    /// Factors on the parts of the input.
    pub multipliers: Option<[f64; 5]>,
}

impl Dual {
    /// An error about `keys` of heads and groups where the sizes do not fit `features`.
    pub fn check(
        &self,
        config: &Config,
        [heads, groups]: [&str; 2],
        features: usize,
    ) -> Result<(), SpecError> {
        if self.heads * self.head_dim != features {
            let expected = format!("{features} / head_dim");
            return Err(config.invalid(heads, expected));
        }
        divided(config, groups, self.heads, self.groups).map(|_| ())
    }

    /// The mixer, its weights under `place`.
    pub fn build(&self, leaves: &mut Leaves, place: &str) -> Mixer {
        let name = |part: &str| format!("{place}.{part}");
        let features = self.heads * self.head_dim;
        let convolved = features + 2 * self.groups * self.state;
        let shape = [features + convolved + self.heads, self.hidden];
        let input = leaves.linear(&name("in_proj"), shape, self.input_bias, Shard::Column);
        let shape = [convolved, self.kernel];
        let bias = self.convolution_bias;
        let convolution = leaves.convolution(&name("conv1d"), shape, bias, self.activation);
        let shape = [self.hidden, features];
        Mixer::StateSpaceDual(Box::new(StateSpaceDual {
            heads: self.heads,
            head_dim: self.head_dim,
            state: self.state,
            groups: self.groups,
            input,
            multipliers: self.multipliers,
            convolution,
            time_step_bias: leaves.flat(&name("dt_bias"), self.heads),
            time_step_limits: self.limits,
            a_log: leaves.flat(&name("A_log"), self.heads),
            skip: leaves.flat(&name("D"), self.heads),
            gate_activation: Activation::Silu,
            norm: self.norm.map(|(style, before_gate)| GatedNorm {
                norm: leaves.norm(&name("norm"), features, style),
                groups: self.groups,
                before_gate,
            }),
            output: leaves.linear(&name("out_proj"), shape, self.output_bias, Shard::Row),
        }))
    }
}

/// Least and most of the time steps, where they are limited.
pub fn time_step_limits(config: &Config, key: &str) -> Result<Option<[f64; 2]>, SpecError> {
    match config.numbers(key)?.as_deref() {
        Some(&[least, most]) if !least.is_nan() && !most.is_nan() => {
            let limits = [least, most];
            Ok((limits != [0.0, f64::INFINITY]).then_some(limits))
        }
        _ => Err(config.invalid(key, "two numbers")),
    }
}

/// `auto`: a sixteenth of the hidden size, rounded up.
pub fn time_step_rank(config: &Config, key: &str, hidden_size: usize) -> Result<usize, SpecError> {
    match config.value(key) {
        Some(value) if value == "auto" => Ok(hidden_size.div_ceil(16)),
        _ => config.size(key),
    }
}

/// Mamba.
pub fn mamba(config: &Config) -> Result<Described, SpecError> {
    selective(config, Selected::Plain)
}

/// Falcon Mamba: what is selected is normalised, without factors.
pub fn falcon_mamba(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["use_falcon_mambapy"]);
    let epsilon = config.positive("mixer_rms_eps")?;
    selective(config, Selected::Weightless(epsilon))
}

fn selective(config: &Config, norms: Selected) -> Result<Described, SpecError> {
    config.ignore(&[
        "time_step_init_scheme",
        "time_step_scale",
        "use_associative_scan",
        "use_mambapy",
    ]);
    let mut model = plain(config)?;
    let hidden = model.hidden_size;
    let expanded = expanded(config, "expand", hidden)?;
    // No field of the class, which keeps what the file says all the same.
    let channels = config.optional_size("intermediate_size")?;
    let scan = Selective {
        hidden,
        channels: channels.unwrap_or(expanded),
        state: config.size("state_size")?,
        rank: time_step_rank(config, "time_step_rank", hidden)?,
        kernel: config.size("conv_kernel")?,
        bias: config.flag("use_bias")?,
        convolution_bias: config.flag("use_conv_bias")?,
        activation: model.activation,
        norms,
    };
    model.attention_of = MixerOf::new(move |_, leaves, _| Some(scan.build(leaves, "mixer")));
    model.build()
}

/// Mamba-2.
pub fn mamba2(config: &Config) -> Result<Described, SpecError> {
    // How many rows the class multiplies at a time: none would be divided by.
    config.size("chunk_size")?;
    // About new weights, and the rank of a projection that the class does not have.
    config.ignore(&["A_initializer_range", "time_step_rank"]);
    let mut model = plain(config)?;
    let features = expanded(config, "expand", model.hidden_size)?;
    let problem = "the class takes hidden_size * expand instead";
    config.neutral("intermediate_size", &[features.into()], problem)?;
    let bias = config.flag("use_bias")?;
    let scan = Dual {
        hidden: model.hidden_size,
        heads: config.heads("num_heads")?,
        head_dim: config.heads("head_dim")?,
        state: config.size("state_size")?,
        groups: config.heads("n_groups")?,
        kernel: config.size("conv_kernel")?,
        input_bias: bias,
        output_bias: bias,
        convolution_bias: config.flag("use_conv_bias")?,
        activation: model.activation,
        limits: time_step_limits(config, "time_step_limit")?,
        norm: Some((model.norm, false)),
        multipliers: None,
    };
    scan.check(config, ["num_heads", "n_groups"], features)?;
    model.attention_of = MixerOf::new(move |_, leaves, _| Some(scan.build(leaves, "mixer")));
    model.build()
}

//! Mamba and Mamba-2: one scan a layer around the residual stream, and nothing else.

use crate::build::{CausalHead, Leaves, NormStyle, divided, unused_head};
use crate::{
    Activation, Config, Embedding, GatedNorm, Input, Layer, LengthLimit, Mixer, ModelSpec,
    PositionIds, SelectiveScan, Shard, SpecError, Stack, StateSpaceDual, Step,
};

/// Keys by which the classes set up new weights, choose among ways to the same sums, or keep sums in another type.
const IDLE: &[&str] = &[
    "residual_in_fp32",
    "time_step_floor",
    "time_step_max",
    "time_step_min",
];

/// What both have in common.
struct Model<'c> {
    config: &'c Config,
    base: &'static str,
    hidden_size: usize,
    vocab_size: usize,
    /// Values of the state of a feature.
    state: usize,
    kernel: usize,
    /// Of the convolution.
    activation: Activation,
    bias: bool,
    convolution_bias: bool,
    norm: NormStyle,
}

impl<'c> Model<'c> {
    fn new(config: &'c Config) -> Result<Self, SpecError> {
        config.ignore(IDLE);
        let problem = "the class has RMS norms only";
        config.neutral("rms_norm", &[true.into()], problem)?;
        // Meant for new weights, and transformers 5.23 does it to those of a file as well, whenever it loads one.
        config.off(
            "rescale_prenorm_residual",
            "the reference divides the stored `out_proj` by the square root of the number of layers; \
             where the weights are as they were trained, it must be false",
        )?;
        Ok(Self {
            config,
            base: config.row()?.base_prefix.as_str(),
            hidden_size: config.size("hidden_size")?,
            vocab_size: config.size("vocab_size")?,
            state: config.size("state_size")?,
            kernel: config.size("conv_kernel")?,
            activation: config.activation("hidden_act")?,
            bias: config.flag("use_bias")?,
            convolution_bias: config.flag("use_conv_bias")?,
            norm: NormStyle::rms(config.positive("layer_norm_epsilon")?),
        })
    }

    /// `expand * hidden_size`.
    fn expanded(&self) -> Result<usize, SpecError> {
        let expand = self.config.size("expand")?;
        let product = expand.checked_mul(self.hidden_size);
        product
            .filter(|&product| product <= 1 << 28)
            .ok_or_else(|| self.config.invalid("expand", "a smaller number"))
    }

    /// Norm and mixer of every layer.
    fn build(self, mixer: impl Fn(&mut Leaves) -> Mixer) -> Result<ModelSpec, SpecError> {
        let (config, base) = (self.config, self.base);
        let tied = config.flag("tie_word_embeddings")?;
        let head = CausalHead {
            norm: Some((format!("{base}norm_f"), self.norm)),
            projection: "lm_head",
            bias: false,
            tokens: format!("{base}embeddings.weight"),
            scale: 1.0,
            softcap: None,
        };
        let mut embedding = Leaves::new(base);
        let tokens = embedding.table("embeddings.weight", self.vocab_size, self.hidden_size);
        let layer = |index: usize| {
            let mut leaves = Leaves::new(format!("{base}layers.{index}."));
            let pre = Some(leaves.norm("norm", self.hidden_size, self.norm));
            let step = Step {
                pre,
                ..Step::residual(mixer(&mut leaves))
            };
            leaves.layer(vec![step])
        };
        let layers: Vec<Layer> = (0..config.layers("num_hidden_layers")?)
            .map(layer)
            .collect();
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "mamba",
            base_prefix: base,
            ignored: unused_head(&config.class()?, tied, &["lm_head.weight"]),
            vocab_size: self.vocab_size,
            stacks: vec![Stack {
                name: "decoder",
                hidden_size: self.hidden_size,
                sequence: crate::Sequence::Record,
                input: Input::Tokens(Embedding::of_tokens(
                    tokens,
                    self.hidden_size,
                    embedding.finish(),
                )),
                positions: PositionIds::Sequential,
                limit: LengthLimit::None,
                prompt: Vec::new(),
                layers,
                head: head.build(config, [self.vocab_size, self.hidden_size])?,
            }],
        })
    }
}

/// Mamba.
pub fn mamba(config: &Config) -> Result<ModelSpec, SpecError> {
    config.ignore(&[
        "time_step_init_scheme",
        "time_step_scale",
        "use_associative_scan",
        "use_mambapy",
    ]);
    let model = Model::new(config)?;
    let expanded = model.expanded()?;
    // No field of the class, which keeps what the file says all the same.
    let channels = config
        .optional_size("intermediate_size")?
        .unwrap_or(expanded);
    let (hidden, state, kernel) = (model.hidden_size, model.state, model.kernel);
    let (activation, bias) = (model.activation, model.bias);
    let (convolution_bias, rank) = (model.convolution_bias, time_step_rank(config, hidden)?);
    model.build(|leaves| {
        Mixer::SelectiveScan(Box::new(SelectiveScan {
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
        }))
    })
}

/// `auto`: a sixteenth of the hidden size, rounded up.
fn time_step_rank(config: &Config, hidden_size: usize) -> Result<usize, SpecError> {
    match config.value("time_step_rank") {
        Some(value) if value == "auto" => Ok(hidden_size.div_ceil(16)),
        _ => config.size("time_step_rank"),
    }
}

/// Mamba-2.
pub fn mamba2(config: &Config) -> Result<ModelSpec, SpecError> {
    // How many rows the class multiplies at a time, and the rank of a projection that it does not have.
    config.ignore(&["chunk_size", "time_step_rank"]);
    let model = Model::new(config)?;
    let (heads, head_dim) = (config.heads("num_heads")?, config.heads("head_dim")?);
    let features = model.expanded()?;
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
    let (hidden, state, kernel) = (model.hidden_size, model.state, model.kernel);
    let (activation, bias) = (model.activation, model.bias);
    let (convolution_bias, norm) = (model.convolution_bias, model.norm);
    let convolved = features + 2 * groups * state;
    model.build(|leaves| {
        Mixer::StateSpaceDual(Box::new(StateSpaceDual {
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
        }))
    })
}

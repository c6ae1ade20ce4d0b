//! Phi before it came to transformers: `mixformer-sequential` and `phi-msft`.

use crate::build::{Leaves, NormStyle, divided, pattern};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::model_type::{ModelType, row};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{
    Activation, Config, Described, FeedForward, Linear, Mixer, MixtureOfExperts, Router,
    RouterScore, Shard, Source, SpecError,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("mixformer-sequential", mixformer_sequential),
    row("phi-msft", phi_msft),
];

/// The first revision: a list of modules, the embedding first and the head last.
pub fn mixformer_sequential(config: &Config) -> Result<Described, SpecError> {
    config.neutral("embd_layer", &["default".into()], "not published")?;
    if let Some(blocks) = config.nested("architecture")? {
        blocks.neutral("block_cls", &["parallel".into()], "not published")?;
        if let Some(network) = blocks.nested("mlp")? {
            let same = ["mlp".into(), "fused_mlp".into()];
            network.neutral("mlp_cls", &same, "not published")?;
        }
    }
    config.ignore(&["phyagi_version"]);
    let last = config.layers("num_hidden_layers")? + 1;
    describe(
        config,
        &Names {
            tokens: "layers.0.wte",
            layers: "layers",
            first_layer: 1,
            final_norm: pattern(format!("layers.{last}.ln")),
            head: pattern(format!("layers.{last}.linear")),
            ..NAMES
        },
    )
}

/// The second revision.
pub fn phi_msft(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["flash_attn", "flash_rotary", "fused_dense"]);
    describe(
        config,
        &Names {
            tokens: "transformer.embd.wte",
            layers: "transformer.h",
            final_norm: "lm_head.ln",
            head: "lm_head.linear",
            ..NAMES
        },
    )
}

const NAMES: Names = Names {
    projections: Projections::Rows("mixer.Wqkv"),
    output: "mixer.out_proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    ..Names::USUAL
};

/// Attention and network side by side behind one layer norm, addends everywhere, the head's too.
fn describe(config: &Config, names: &Names) -> Result<Described, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_epsilon")?);
    let width = match config.optional_size("intermediate_size")? {
        Some(width) => width,
        None => 4 * config.size("hidden_size")?,
    };
    let mut model = Blocks::with_width(config, norm, width)?;
    model.activation = config.activation("activation_function")?;
    model.gated = false;
    model.set_biases(true);
    model.head_bias = true;
    model.prefix.clear();
    model.names = *names;
    model.arrangement = Arrangement::parallel("ln");
    let dims = config.size("rotary_dim")?.min(model.head_dim);
    if dims % 2 != 0 {
        return Err(config.invalid("rotary_dim", "an even number"));
    }
    let scaling = RopeScaling::Default;
    model.ropes.fill(Some(Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: false,
        reversed: false,
        theta: 10_000.0,
        scaling,
        axis: PositionAxis::Token,
    }));
    divided(
        config,
        "num_attention_heads",
        model.hidden_size,
        model.heads,
    )?;
    if let Some(count) = config.optional_heads("num_local_experts")? {
        let top_k = config.heads("num_experts_per_tok")?;
        if top_k > count {
            return Err(config.invalid("num_experts_per_tok", format!("at most {count}")));
        }
        let (sizes, activation) = ([model.hidden_size, width], model.activation);
        model.feed_forward_of = MixerOf::new(move |_, leaves, _| {
            Some(experts(leaves, [count, top_k], sizes, activation))
        });
    }
    model.build()
}

/// Phixtral: a weighted sum of networks, each with its addends.
fn experts(
    leaves: &mut Leaves,
    [count, top_k]: [usize; 2],
    [hidden, inner]: [usize; 2],
    activation: Activation,
) -> Mixer {
    let projection = leaves.linear("moe.gate", [count, hidden], false, Shard::Replicate);
    let mut linear = |name: &str, [rows, columns]: [usize; 2]| {
        let each = |leaves: &Leaves, parameter: &str| Source::Each {
            of: Box::new(leaves.tensor(&format!("moe.mlp.{{}}.{name}.{parameter}"))),
            count,
        };
        let (weight, bias) = (each(leaves, "weight"), each(leaves, "bias"));
        let weight = leaves.weight(weight, &[count, rows, columns], Shard::Expert);
        let bias = leaves.weight(bias, &[count, rows], Shard::Expert);
        Linear::plain(weight, Some(bias), [rows, columns])
    };
    let up = linear("fc1", [inner, hidden]);
    let down = linear("fc2", [hidden, inner]);
    let router = Router::plain(projection, RouterScore::SoftmaxOfTopK, top_k);
    let expert = FeedForward::plain(None, up, down, activation);
    Mixer::MixtureOfExperts(Box::new(MixtureOfExperts::plain(count, router, expert)))
}

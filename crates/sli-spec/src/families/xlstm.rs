//! xLSTM: a matrix memory with exponential gates and a network in every block.

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names};
use crate::model_type::{ModelType, row};
use crate::{Config, Described, LengthLimit, MatrixMemory, Mixer, Shard, Source, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("xlstm", xlstm)];

/// What the class does not read, and what chooses among ways to the same sums.
const IDLE: &[&str] = &[
    "add_out_norm",
    "autocast_kernel_dtype",
    "chunk_size",
    "chunkwise_kernel",
    "max_inference_chunksize",
    "norm_reduction_force_float32",
    "return_last_states",
    "sequence_kernel",
    "step_kernel",
];

const NAMES: Names = Names {
    tokens: "embeddings",
    layers: "blocks",
    gate: "ffn.proj_up_gate",
    up: "ffn.proj_up",
    down: "ffn.proj_down",
    final_norm: "out_norm",
    ..Names::USUAL
};

/// xLSTM.
pub fn xlstm(config: &Config) -> Result<Described, SpecError> {
    config.ignore(IDLE);
    let problem = "the class takes records of some lengths only";
    config.neutral("mode", &["inference".into()], problem)?;
    let problem = "the class rounds the states of some rows";
    config.neutral("inference_state_dtype", &["float32".into()], problem)?;
    let hidden = config.size("hidden_size")?;
    let problem = "token table and hidden state are equally wide";
    config.neutral("embedding_dim", &[hidden.into()], problem)?;
    let usual = config.layers("num_hidden_layers")?;
    let layers = match config.value("num_blocks") {
        Some(_) => config.layers("num_blocks")?,
        None => usual,
    };
    let bias = config.flag("use_bias")?;
    let out_norm = NormStyle::rms(config.positive("norm_eps")?);
    let norm = NormStyle { bias, ..out_norm };
    let sizes = [hidden, width(config, hidden)?];
    let mut model = Blocks::sized(config, norm, layers, sizes, [1; 3])?;
    model.family = "xlstm";
    model.names = NAMES;
    model.arrangement = Arrangement::pre("norm_mlstm", "norm_ffn");
    model.final_norm = Some(out_norm);
    model.ignored.clear();
    model.length_limit = Some(LengthLimit::None);
    model.may_look_ahead = false;
    model.set_network_bias(bias);
    model.logit_softcap = config.optional_positive("output_logit_soft_cap")?;
    let problem = "the class cannot be built with projections that are stored together";
    config.neutral("weight_mode", &["single".into()], problem)?;
    let memory = Memory {
        hidden,
        heads: config.heads("num_heads")?,
        keys: scaled(config, hidden, "qk_dim_factor")?,
        values: scaled(config, hidden, "v_dim_factor")?,
        bias,
        gate_softcap: config.optional_positive("gate_soft_cap")?,
        epsilon: config.number("eps")?,
        norm: NormStyle {
            bias,
            ..NormStyle::layer(norm.epsilon)
        },
    };
    for features in [memory.keys, memory.values] {
        divided(config, "num_heads", features, memory.heads)?;
    }
    model.attention_of = MixerOf::new(move |_, leaves, _| Some(memory.build(leaves)));
    model.build()
}

/// The hidden size times a factor, without its fraction.
fn scaled(config: &Config, hidden: usize, key: &str) -> Result<usize, SpecError> {
    let features = (hidden as f64 * config.positive(key)?) as usize;
    let fits = (1..=1 << 28).contains(&features);
    fits.then_some(features)
        .ok_or_else(|| config.invalid(key, "a factor that leaves at least one feature"))
}

/// Features inside the network: the hidden size times a factor, rounded up.
fn width(config: &Config, hidden: usize) -> Result<usize, SpecError> {
    let key = "ffn_proj_factor";
    let multiple = config.size("ffn_round_up_to_multiple_of")? as f64;
    let wanted = hidden as f64 * config.positive(key)?;
    // As the class reckons, with a fraction in the numerator.
    let width = ((wanted + multiple - 1.0) / multiple).floor() * multiple;
    let fits = (1.0..=f64::from(1 << 28)).contains(&width);
    fits.then_some(width as usize)
        .ok_or_else(|| config.invalid(key, "a factor that leaves at least one feature"))
}

/// A matrix memory as data.
#[derive(Clone, Copy)]
struct Memory {
    hidden: usize,
    heads: usize,
    keys: usize,
    values: usize,
    bias: bool,
    gate_softcap: Option<f64>,
    epsilon: f64,
    norm: NormStyle,
}

impl Memory {
    fn build(self, leaves: &mut Leaves) -> Mixer {
        let name = |part: &str| format!("mlstm_layer.{part}");
        let parts = |leaves: &Leaves, parts: &[&str], parameter: &str| {
            let tensor = |part: &&str| leaves.tensor(&format!("{}.{parameter}", name(part)));
            Source::ConcatRows(parts.iter().map(tensor).collect())
        };
        let inputs = ["q", "k", "v", "ogate_preact"];
        let weight = parts(leaves, &inputs, "weight");
        let bias = self.bias.then(|| parts(leaves, &inputs, "bias"));
        let shape = [2 * (self.keys + self.values), self.hidden];
        let input = leaves.linear_of(weight, bias, shape, Shard::Column);
        let gates = ["igate_preact", "fgate_preact"];
        let (weight, bias) = (
            parts(leaves, &gates, "weight"),
            Some(parts(leaves, &gates, "bias")),
        );
        let shape = [2 * self.heads, self.hidden];
        let gates = leaves.linear_of(weight, bias, shape, Shard::Replicate);
        let shape = [self.hidden, self.values];
        Mixer::MatrixMemory(Box::new(MatrixMemory {
            heads: self.heads,
            key_dim: self.keys / self.heads,
            value_dim: self.values / self.heads,
            input,
            gates,
            gate_softcap: self.gate_softcap,
            epsilon: self.epsilon,
            norm: leaves.norm(&name("multihead_norm"), self.values, self.norm),
            output: leaves.linear(&name("out_proj"), shape, self.bias, Shard::Row),
        }))
    }
}

//! Gated DeltaNet beside gated attention: Qwen3-Next, Qwen3.5, OLMo Hybrid.

use std::rc::Rc;

use super::{decoder, recurrent_layers, spelled};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Gate, MixerOf};
use crate::families::coordinates::turn_by_coordinates;
use crate::families::experts::{Experts, SHARED_EXPERT, Shared};
use crate::families::mixture::{mix, qwen_experts, qwen_layers, shared_expert};
use crate::rope::{Pairs, Rope, RopeOptions};
use crate::{
    Activation, Config, Described, Factored, ForgetGate, GatedDelta, Linear, Mixer, Norm, NormKind,
    NormSpan, Renormalize, Shard, Source, SpecError, Split,
};

/// Sizes of the gated delta rule.
#[derive(Clone, Copy)]
pub(super) struct Delta {
    /// Features of the hidden state.
    pub hidden: usize,
    /// Heads of values.
    pub heads: usize,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Features of a query or key head.
    pub key_dim: usize,
    /// Features of a value head.
    pub value_dim: usize,
    /// Rows of the convolution.
    pub kernel: usize,
    /// Of the convolution.
    pub activation: Activation,
}

/// Of query and key heads.
pub(super) const KEY_NORM: Norm = Norm {
    kind: NormKind::L2,
    weight: None,
    bias: None,
    epsilon: 1e-6,
};

impl Delta {
    /// The mechanism with the projections of Qwen3.5.
    pub fn of_parts(&self, leaves: &mut Leaves, norm: NormStyle) -> GatedDelta {
        let sources = tensors(
            leaves,
            ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"],
        );
        let norm = ("linear_attn.norm", norm);
        self.build(leaves, sources, norm, "linear_attn.out_proj")
    }

    /// The sizes by the keys of Qwen3-Next.
    pub fn new(config: &Config, decoder: &Blocks<'_>) -> Result<Self, SpecError> {
        let sizes = [
            config.heads("linear_num_value_heads")?,
            config.heads("linear_num_key_heads")?,
            config.heads("linear_key_head_dim")?,
            config.heads("linear_value_head_dim")?,
        ];
        Self::sized(config, decoder, sizes)
    }

    /// The same with `[heads, key_heads, key_dim, value_dim]` from elsewhere.
    fn sized(
        config: &Config,
        decoder: &Blocks<'_>,
        [heads, key_heads, key_dim, value_dim]: [usize; 4],
    ) -> Result<Self, SpecError> {
        divided(config, "linear_num_key_heads", heads, key_heads)?;
        Ok(Self {
            hidden: decoder.hidden_size,
            heads,
            key_heads,
            key_dim,
            value_dim,
            kernel: config.size("linear_conv_kernel_dim")?,
            activation: decoder.activation,
        })
    }

    /// Features of all queries, keys and values.
    pub fn convolved(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.values()
    }

    /// Features of all values.
    pub fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// The rows of a tensor.
    fn rows(&self, leaves: &mut Leaves, source: Source, rows: usize) -> Linear {
        leaves.linear_of(source, None, [rows, self.hidden], Shard::Column)
    }

    /// The mechanism of these projections to queries, keys and values, to the gate, and, for every head, to the
    /// strength and to what is left of the state. Names are under `linear_attn`.
    fn build(
        &self,
        leaves: &mut Leaves,
        [input, gate, strength, left]: [Source; 4],
        (norm, style): (&str, NormStyle),
        output: &str,
    ) -> GatedDelta {
        let input = self.rows(leaves, input, self.convolved());
        let columns = [self.convolved(), self.kernel];
        GatedDelta {
            heads: self.heads,
            key_heads: self.key_heads,
            key_dim: self.key_dim,
            value_dim: self.value_dim,
            input,
            convolution: leaves.convolution("linear_attn.conv1d", columns, false, self.activation),
            key_norm: KEY_NORM,
            gate: Factored::whole(self.rows(leaves, gate, self.values())),
            forget: ForgetGate {
                projection: Factored::whole(self.rows(leaves, left, self.heads)),
                bias: leaves.flat("linear_attn.dt_bias", self.heads),
                a_log: leaves.flat("linear_attn.A_log", self.heads),
                bound: None,
            },
            strength: self.rows(leaves, strength, self.heads),
            strength_scale: 1.0,
            gate_activation: Activation::Silu,
            norm: leaves.norm(norm, self.value_dim, style),
            output: leaves.linear(output, [self.hidden, self.values()], false, Shard::Row),
        }
    }
}

/// The attention that Qwen3-Next and Qwen3.5 have in common, and which layers have a state instead.
fn qwen<'c>(
    config: &'c Config,
    decoder: &mut Blocks<'c>,
    others: &'static [(&'static str, &'static str)],
) -> Result<Vec<bool>, SpecError> {
    gated_attention(config, decoder, others)?;
    let interval = config
        .optional_size("full_attention_interval")?
        .unwrap_or(4);
    recurrent_layers(config, decoder.layers(), |layer| {
        (layer + 1) % interval != 0
    })
}

/// How its rotation is read.
pub(super) fn gated_options(decoder: &Blocks<'_>) -> RopeOptions<'static> {
    RopeOptions {
        partial: true,
        default_partial: 0.25,
        ..RopeOptions::new(decoder.head_dim)
    }
}

/// Norms, rotation and gate of that attention.
pub(super) fn gated_attention<'c>(
    config: &'c Config,
    decoder: &mut Blocks<'c>,
    others: &'static [(&'static str, &'static str)],
) -> Result<(), SpecError> {
    let options = gated_options(decoder);
    if let Some(parameters) = Rope::parameters(config, &options)? {
        // The three axes of a text position are equal, which makes the rotation the plain one.
        parameters.ignore(&["mrope_section", "mrope_interleaved"]);
    }
    decoder.rotate(&options)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Head, decoder.norm));
    decoder.gate = Some(Gate {
        name: "self_attn.gate_proj",
        per_head: false,
        bias: decoder.query_key_value_bias,
        activation: Activation::Sigmoid,
        head_bias: None,
    });
    let (heads, spellings) = (decoder.heads, spelled(others));
    decoder.stored = Some(Rc::new(move |name: &str| {
        // The query of a head and its gate stand one behind the other.
        let both = |part: usize, name: &str| {
            spellings(name).part(Split::PerHead { heads, parts: 2 }, part)
        };
        match (
            name.contains(".q_proj."),
            name.contains(".self_attn.gate_proj."),
        ) {
            (true, _) => both(0, name),
            (_, true) => both(1, &name.replace(".gate_proj.", ".q_proj.")),
            _ => spellings(name),
        }
    }));
    Ok(())
}

/// Qwen3-Next: queries, keys, values and gates of a group of heads are stored together.
pub fn qwen3_next(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, true, config.size("intermediate_size")?)?;
    let recurrent = qwen(config, &mut decoder, &[])?;
    let delta = Delta::new(config, &decoder)?;
    let norm = NormStyle::rms(decoder.norm.epsilon);
    decoder.attention_of = MixerOf::new(move |_, leaves, layer| {
        recurrent[layer].then(|| Mixer::GatedDelta(Box::new(grouped(&delta, leaves, norm))))
    });
    let sparse = qwen_layers(config, decoder.layers(), &[])?;
    let mut experts = qwen_experts(config, &decoder)?;
    with_shared(config, &mut experts)?;
    mix(&mut decoder, experts, move |layer| sparse[layer]);
    decoder.build()
}

/// The mechanism with the projections of all heads of a group together.
fn grouped(delta: &Delta, leaves: &mut Leaves, norm: NormStyle) -> GatedDelta {
    let groups = delta.key_heads;
    let each = delta.heads / groups;
    let values = each * delta.value_dim;
    let of = |leaves: &Leaves, name: &str, rows: &[usize], part: usize| {
        let source = leaves.tensor(&format!("linear_attn.{name}.weight"));
        let rows = rows.to_vec();
        source.part(Split::Groups { groups, rows }, part)
    };
    let qkvz = [delta.key_dim, delta.key_dim, values, values];
    let [query, key, value, gate] =
        [0, 1, 2, 3].map(|part| of(leaves, "in_proj_qkvz", &qkvz, part));
    let [strength, left] = [0, 1].map(|part| of(leaves, "in_proj_ba", &[each, each], part));
    let input = Source::ConcatRows(vec![query, key, value]);
    let sources = [input, gate, strength, left];
    delta.build(
        leaves,
        sources,
        ("linear_attn.norm", norm),
        "linear_attn.out_proj",
    )
}

/// Qwen's always-on expert.
pub(super) fn with_shared(config: &Config, experts: &mut Experts) -> Result<(), SpecError> {
    let key = "shared_expert_intermediate_size";
    experts.shared = Some(Shared {
        gate: Some("mlp.shared_expert_gate"),
        ..shared_expert(config, SHARED_EXPERT, key, experts.activation)?
    });
    Ok(())
}

/// What Qwen3.5 with and without experts has in common.
fn qwen3_5(config: &Config, inner: usize) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = decoder(config, true, inner)?;
    // Files of the whole model call the text model `language_model`.
    let recurrent = qwen(config, &mut decoder, &[("model.", "model.language_model.")])?;
    let (options, assumed) = (gated_options(&decoder), Some([11, 11, 10]));
    turn_by_coordinates(config, (&mut decoder, &options), assumed, Pairs::ByTurns)?;
    let delta = Delta::new(config, &decoder)?;
    let norm = NormStyle::rms(decoder.norm.epsilon);
    decoder.attention_of = MixerOf::new(move |_, leaves, layer| {
        recurrent[layer].then(|| Mixer::GatedDelta(Box::new(delta.of_parts(leaves, norm))))
    });
    Ok(decoder)
}

/// The text model of Qwen3.5.
pub fn qwen3_5_text(config: &Config) -> Result<Described, SpecError> {
    qwen3_5(config, config.size("intermediate_size")?)?.build()
}

/// The text model of Qwen3.5 with experts.
pub fn qwen3_5_moe_text(config: &Config) -> Result<Described, SpecError> {
    let inner = config.size("moe_intermediate_size")?;
    let mut decoder = qwen3_5(config, inner)?;
    let keys = ["num_experts", "num_experts_per_tok"];
    let mut experts = Experts {
        renormalize: Renormalize::Sum { plus: 0.0 },
        ..Experts::new(config, keys, inner, decoder.activation)?
    };
    with_shared(config, &mut experts)?;
    mix(&mut decoder, experts, |_| true);
    decoder.build()
}

/// Norms of OLMo Hybrid's layers with a state stand in front of the sublayers, and are called otherwise in its
/// files.
const OLMO_SPELLINGS: &[(&str, &str)] = &[
    (".input_layernorm.", ".attention_layer_norm."),
    (".post_attention_layernorm.", ".feedforward_layer_norm."),
];

/// OLMo Hybrid: OLMo 3's attention, gated DeltaNet in the other layers.
pub fn olmo_hybrid(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = decoder(config, false, config.size("intermediate_size")?)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.query_key_norm = Some((NormSpan::Full, decoder.norm));
    let parameters = config.nested("rope_parameters")?;
    // The published files have no rotation, and say so.
    let is_off = |object: &Config| object.mentions("rope_theta") && !object.in_file("rope_theta");
    if let Some(object) = parameters.filter(is_off) {
        object.ignore(&["rope_theta", "rope_type"]);
    } else {
        decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    }
    let layers = decoder.layers();
    let recurrent = recurrent_layers(config, layers, |layer| {
        layer % 4 != 3 && (layers >= 4 || layer + 1 < layers)
    })?;
    if recurrent.iter().all(|&own| own == recurrent[0]) {
        return Err(config.unsupported("layer_types", "the class wants layers of both kinds"));
    }
    let spellings = spelled(OLMO_SPELLINGS);
    decoder.stored = Some(Rc::new(move |name: &str| {
        concatenated(name).unwrap_or_else(|| spellings(name))
    }));
    let of_layer = recurrent.clone();
    decoder.differ(move |own, layer| {
        if !of_layer[layer] {
            let [attention, network] = ["post_attention_layernorm", "post_feedforward_layernorm"];
            own.arrangement = Arrangement::post(attention, network);
        }
    });
    let (delta, strength_scale) = olmo_delta(config, &decoder)?;
    decoder.attention_of = MixerOf::new(move |_, leaves, layer| {
        recurrent[layer].then(|| {
            let input = tensors(leaves, ["q_proj", "k_proj", "v_proj"]);
            let [gate, strength, left] = tensors(leaves, ["g_proj", "b_proj", "a_proj"]);
            let sources = [Source::ConcatRows(input.to_vec()), gate, strength, left];
            let norm = ("linear_attn.o_norm", NormStyle::rms(1e-5));
            Mixer::GatedDelta(Box::new(GatedDelta {
                strength_scale,
                ..delta.build(leaves, sources, norm, "linear_attn.o_proj")
            }))
        })
    });
    decoder.build()
}

/// The sizes of OLMo Hybrid, those that its file leaves out derived from the attention's, and the factor on
/// strengths.
fn olmo_delta(config: &Config, decoder: &Blocks<'_>) -> Result<(Delta, f64), SpecError> {
    let heads = config.optional_heads("linear_num_value_heads")?;
    let key_heads = config.optional_heads("linear_num_key_heads")?;
    let key_heads = key_heads.unwrap_or(decoder.heads);
    let key_dim = config.optional_heads("linear_key_head_dim")?;
    let key_dim =
        key_dim.unwrap_or((0.75 * decoder.hidden_size as f64 / key_heads as f64) as usize);
    let value_dim = config.optional_heads("linear_value_head_dim")?;
    let sizes = [
        heads.unwrap_or(decoder.heads),
        key_heads,
        key_dim,
        value_dim.unwrap_or(2 * key_dim),
    ];
    if key_dim == 0 {
        return Err(config.invalid("linear_num_key_heads", "fewer heads"));
    }
    // About new weights.
    config.ignore(&[
        "linear_a_log_max",
        "linear_a_log_min",
        "linear_dt_init_floor",
        "linear_dt_max",
        "linear_dt_min",
    ]);
    let turns = config.flag("linear_allow_neg_eigval")?;
    let delta = Delta::sized(config, decoder, sizes)?;
    Ok((delta, if turns { 2.0 } else { 1.0 }))
}

/// Projections under `linear_attn`.
fn tensors<const N: usize>(leaves: &Leaves, names: [&str; N]) -> [Source; N] {
    names.map(|name| leaves.tensor(&format!("linear_attn.{name}.weight")))
}

/// The convolutions of queries, keys and values, which files have apart.
pub(super) fn concatenated(name: &str) -> Option<Source> {
    name.contains(".conv1d.").then(|| {
        let parts = [".q_conv1d.", ".k_conv1d.", ".v_conv1d."];
        let parts = parts.map(|part| Source::tensor(name.replace(".conv1d.", part)));
        Source::ConcatRows(parts.to_vec())
    })
}

//! Phi before it came to transformers: `mixformer-sequential` and `phi-msft`.

use crate::build::{Leaves, NormStyle, divided};
use crate::families::decoder::{Arrangement, Decoder, MixerOf};
use crate::families::spelling::{Place, Spelling, add_vector, decoder, fused_rows};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{
    Activation, Config, FeedForward, Linear, Mixer, MixtureOfExperts, ModelSpec, Router,
    RouterScore, Shard, Source, SpecError,
};

/// The names that files of one revision have.
struct Names {
    layers: &'static str,
    first_layer: usize,
    tokens: String,
    norm: String,
    head: String,
}

/// The first revision: a list of modules, the embedding first and the head last.
pub fn mixformer_sequential(config: &Config) -> Result<ModelSpec, SpecError> {
    config.neutral("embd_layer", &["default".into()], "not published")?;
    if let Some(blocks) = config.nested("architecture")? {
        blocks.neutral("block_cls", &["parallel".into()], "not published")?;
        if let Some(network) = blocks.nested("mlp")? {
            let same = ["mlp".into(), "fused_mlp".into()];
            network.neutral("mlp_cls", &same, "not published")?;
        }
    }
    config.ignore(&["phyagi_version"]);
    let head = config.layers("num_hidden_layers")? + 1;
    describe(
        config,
        Names {
            layers: "layers.",
            first_layer: 1,
            tokens: "layers.0.wte".into(),
            norm: format!("layers.{head}.ln"),
            head: format!("layers.{head}.linear"),
        },
    )
}

/// The second revision.
pub fn phi_msft(config: &Config) -> Result<ModelSpec, SpecError> {
    config.ignore(&["flash_attn", "flash_rotary", "fused_dense"]);
    describe(
        config,
        Names {
            layers: "transformer.h.",
            first_layer: 0,
            tokens: "transformer.embd.wte".into(),
            norm: "lm_head.ln".into(),
            head: "lm_head.linear".into(),
        },
    )
}

/// Attention and network side by side behind one layer norm, addends everywhere, the head's too.
fn describe(config: &Config, names: Names) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_epsilon")?);
    let width = match config.optional_size("intermediate_size")? {
        Some(width) => width,
        None => 4 * config.size("hidden_size")?,
    };
    let mut model = Decoder::with_width(config, norm, width)?;
    model.activation = config.activation("activation_function")?;
    model.gated = false;
    model.query_key_value_bias = true;
    model.output_bias = true;
    model.feed_forward_bias = true;
    model.arrangement = Arrangement::Parallel { norm: "ln" };
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
    let rows = [model.heads, model.kv_heads, model.kv_heads].map(|heads| heads * model.head_dim);
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
        model.feed_forward_of =
            MixerOf::new(move |leaves, _| Some(experts(leaves, [count, top_k], sizes, activation)));
    }
    let mut in_layer = fused_rows("mixer.Wqkv", rows);
    in_layer.extend([
        ("self_attn.o_proj", Place::As("mixer.out_proj")),
        ("mlp.up_proj", Place::As("mlp.fc1")),
        ("mlp.down_proj", Place::As("mlp.fc2")),
    ]);
    let spelling = Spelling {
        layers: names.layers,
        first_layer: names.first_layer,
        in_layer,
        outside: vec![
            ("embed_tokens", names.tokens),
            ("norm", names.norm),
            ("lm_head", names.head.clone()),
        ],
    };
    let mut spec = model.build()?;
    spelling.apply(&mut spec);
    let vocab_size = spec.vocab_size;
    let head = &mut decoder(&mut spec).head;
    if let Some(logits) = &mut head.logits {
        let bias = format!("{}.bias", names.head);
        let optional = head.leaves.last().and_then(|leaf| leaf.optional);
        logits.projection.bias = Some(add_vector(&mut head.leaves, bias, vocab_size, optional));
    }
    Ok(spec)
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
        Linear {
            weight: leaves.weight(weight, &[count, rows, columns], Shard::Expert),
            bias: Some(leaves.weight(bias, &[count, rows], Shard::Expert)),
            out_features: rows,
            in_features: columns,
        }
    };
    let up = linear("fc1", [inner, hidden]);
    let down = linear("fc2", [hidden, inner]);
    Mixer::MixtureOfExperts(Box::new(MixtureOfExperts {
        experts: count,
        identity_experts: 0,
        router: Router::plain(projection, RouterScore::SoftmaxOfTopK, top_k),
        expert_norm: None,
        expert: FeedForward {
            gate: None,
            up,
            down,
            activation,
            learned_activation: None,
            inner_norm: None,
            clamped: None,
        },
        shared: None,
        shared_gate: None,
        output_scale: 1.0,
        output_bias: None,
    }))
}

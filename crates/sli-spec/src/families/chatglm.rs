//! ChatGLM: the first generation with two-dimensional positions, and its successors up to GLM-4-9b,
//! which are Llama with fused projections. All call themselves `chatglm`.

use crate::build::{CausalHead, Leaves, NormStyle, divided};
use crate::families::decoder::Decoder;
use crate::families::spelling::{Place, Spelling, fused, fused_rows};
use crate::rope::{PositionAxis, Rope, RopeScaling};
use crate::{
    Activation, Attention, Config, Embedding, Gain, Identity, Input, KeyValue, Layer, LengthLimit,
    Mask, Mixer, ModelSpec, Position, PositionIds, Shard, Slot, SpecError, Split, Stack, Step,
    Write,
};

/// Any generation: only the first has two-dimensional positions.
pub fn chatglm(config: &Config) -> Result<ModelSpec, SpecError> {
    config.neutral(
        "quantization_bit",
        &[0.into()],
        "packed weights are not read",
    )?;
    config.neutral("pre_seq_len", &[0.into()], "a learned prefix is not read")?;
    config.ignore(&["prefix_projection"]);
    if config.in_file("inner_hidden_size") || config.in_file("position_encoding_2d") {
        first(config)
    } else {
        later(config)
    }
}

/// ChatGLM2, ChatGLM3, GLM-4-9b.
fn later(config: &Config) -> Result<ModelSpec, SpecError> {
    // Precision and scheduling; the scale by layer cancels; the rotation is one function of its
    // arguments, whatever `original_rope` says.
    config.ignore(&[
        "apply_query_key_layer_scaling",
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "fp32_residual_connection",
        "original_rope",
        "max_sequence_length",
    ]);
    config.off("apply_residual_connection_post_layernorm", "not published")?;
    config.neutral("post_layer_norm", &[true.into()], "not published")?;
    let epsilon = config.positive("layernorm_epsilon")?;
    let norm = if config.flag("rmsnorm")? {
        NormStyle::rms(epsilon)
    } else {
        NormStyle::layer(epsilon)
    };
    let mut model = Decoder::new(config, norm)?;
    model.feed_forward_bias = config.flag("add_bias_linear")?;
    model.output_bias = model.feed_forward_bias;
    model.query_key_value_bias = model.feed_forward_bias || config.flag("add_qkv_bias")?;
    let grouped = config.flag("multi_query_attention")?;
    if !grouped {
        model.kv_heads = model.heads;
    }
    let dims = divided(config, "kv_channels", model.head_dim, 2)?;
    let ratio = config.positive("rope_ratio")?;
    // In one repository the key divides the position; in the others it multiplies the base.
    let divides = config
        .optional_text("_name_or_path")?
        .is_some_and(|name| name.to_ascii_lowercase().contains("chatglm2"));
    let (theta, scaling) = match ratio {
        1.0 => (10_000.0, RopeScaling::Default),
        factor if divides => (10_000.0, RopeScaling::Linear { factor }),
        factor => (10_000.0 * factor, RopeScaling::Default),
    };
    let axis = PositionAxis::Token;
    let rope = Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: true,
        reversed: false,
        theta,
        scaling,
        axis,
    };
    model.ropes.fill(Some(rope));
    let mut in_layer = if grouped {
        let rows =
            [model.heads, model.kv_heads, model.kv_heads].map(|heads| heads * model.head_dim);
        fused_rows("self_attention.query_key_value", rows)
    } else {
        let split = Split::PerHead {
            heads: model.heads,
            parts: 3,
        };
        fused("self_attention.query_key_value", &split)
    };
    let halves = Split::Rows(vec![model.intermediate_size; 2]);
    in_layer.extend([
        ("self_attn.o_proj", Place::As("self_attention.dense")),
        (
            "mlp.gate_proj",
            Place::Part("mlp.dense_h_to_4h", halves.clone(), 0),
        ),
        ("mlp.up_proj", Place::Part("mlp.dense_h_to_4h", halves, 1)),
        ("mlp.down_proj", Place::As("mlp.dense_4h_to_h")),
    ]);
    let spelling = Spelling {
        layers: "transformer.encoder.layers.",
        first_layer: 0,
        in_layer,
        outside: vec![
            (
                "embed_tokens",
                "transformer.embedding.word_embeddings".into(),
            ),
            ("norm", "transformer.encoder.final_layernorm".into()),
            ("lm_head", "transformer.output_layer".into()),
        ],
    };
    let mut spec = model.build()?;
    spec.family = "chatglm";
    // The configured length is that behind any stretching.
    spec.stacks[0].limit = LengthLimit::Trained(config.size("max_position_embeddings")?);
    spelling.apply(&mut spec);
    spec.ignored.push("transformer.rotary_pos_emb.inv_freq");
    if config.flag("tie_word_embeddings")? {
        return Err(config.unsupported("tie_word_embeddings", "the published code never ties"));
    }
    Ok(spec)
}

struct First {
    hidden_size: usize,
    heads: usize,
    head_dim: usize,
    inner_size: usize,
    norm: NormStyle,
}

/// The factor on the residual: the published blocks always assume 28 layers.
const RESIDUAL: f64 = 56.0;

/// ChatGLM-6B: the residual carries the normed hidden state, the context sees all of itself, and
/// the two halves of a head turn by two positions.
fn first(config: &Config) -> Result<ModelSpec, SpecError> {
    config.neutral(
        "position_encoding_2d",
        &[true.into()],
        "one-dimensional positions are not published",
    )?;
    config.ignore(&["max_sequence_length"]);
    let token = |key: &str| config.token_id(key)?.ok_or_else(|| config.missing(key));
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let inner_size = match config.optional_size("inner_hidden_size")? {
        Some(size) => size,
        None => 4 * hidden_size,
    };
    let model = First {
        hidden_size,
        heads,
        head_dim: divided(config, "num_attention_heads", hidden_size, heads)?,
        inner_size,
        norm: NormStyle::layer(config.positive("layernorm_epsilon")?),
    };
    divided(config, "num_attention_heads", model.head_dim, 4)?;
    let vocab_size = config.size("vocab_size")?;
    let tied = !config.mentions("tie_word_embeddings") || config.flag("tie_word_embeddings")?;
    let base = config.row()?.base_prefix.as_str();
    let head = CausalHead {
        norm: Some((format!("{base}final_layernorm"), model.norm)),
        projection: "lm_head",
        bias: false,
        tokens: format!("{base}word_embeddings.weight"),
        scale: 1.0,
        softcap: None,
    };
    let mut head = head.build(config, [vocab_size, hidden_size])?;
    let mut ignored = vec!["*.rotary_emb.inv_freq"];
    if tied {
        ignored.push("lm_head.weight");
        if let Some(logits) = &head.logits {
            let index = logits.projection.weight.0 as usize;
            head.leaves[index].source =
                crate::Source::tensor(format!("{base}word_embeddings.weight"));
        }
    }
    let mut leaves = Leaves::new(base);
    let tokens = leaves.table("word_embeddings.weight", vocab_size, hidden_size);
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "chatglm",
        base_prefix: base,
        ignored,
        vocab_size,
        stacks: vec![Stack {
            name: "decoder",
            hidden_size,
            sequence: crate::Sequence::Record,
            input: Input::Tokens(Embedding::of_tokens(tokens, hidden_size, leaves.finish())),
            positions: PositionIds::Blocks {
                begin: token("bos_token_id")?,
                masks: [token("gmask_token_id")?, token("mask_token_id")?],
            },
            limit: LengthLimit::Trained(config.size("max_sequence_length")?),
            prompt: Vec::new(),
            layers: (0..config.layers("num_hidden_layers")?)
                .map(|layer| model.layer(format!("{base}layers.{layer}.")))
                .collect(),
            head,
        }],
    })
}

impl First {
    fn layer(&self, prefix: String) -> Layer {
        let mut leaves = Leaves::new(prefix);
        let alpha = Gain::Constant(RESIDUAL.sqrt());
        let normed = |leaves: &mut Leaves, name| Step {
            pre: Some(leaves.norm(name, self.hidden_size, self.norm)),
            write: Write::Set(Slot::Hidden),
            ..Step::residual(Mixer::Identity(Identity))
        };
        let scaled = |mixer| Step {
            write: Write::AddScaled(alpha.clone()),
            ..Step::residual(mixer)
        };
        let before_attention = normed(&mut leaves, "input_layernorm");
        let attention = scaled(self.attention(&mut leaves));
        let before_network = normed(&mut leaves, "post_attention_layernorm");
        let network = scaled(Mixer::FeedForward(leaves.plain_feed_forward(
            ["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"],
            [self.hidden_size, self.inner_size],
            true,
            Activation::GeluTanh,
        )));
        leaves.layer(vec![before_attention, attention, before_network, network])
    }

    fn attention(&self, leaves: &mut Leaves) -> Mixer {
        let split = Split::PerHead {
            heads: self.heads,
            parts: 3,
        };
        let width = self.hidden_size;
        let [query, key, value] = [0, 1, 2].map(|part| {
            let tensor = |parameter| {
                let name = format!("attention.query_key_value.{parameter}");
                leaves.tensor(&name).part(split.clone(), part)
            };
            let (weight, bias) = (tensor("weight"), tensor("bias"));
            leaves.linear_of(weight, Some(bias), [width, width], Shard::Column)
        });
        let output = leaves.linear("attention.dense", [width, width], true, Shard::Row);
        let dims = self.head_dim / 2;
        let rope = |offset, axis| {
            let (theta, scaling) = (10_000.0, RopeScaling::Half);
            Position::Rope(Rope {
                dims,
                span: dims,
                offset,
                interleaved: false,
                reversed: false,
                theta,
                scaling,
                axis,
            })
        };
        let sizes = [self.heads, self.heads, self.head_dim];
        let key_value = KeyValue::Own {
            key,
            value: Some(value),
        };
        Mixer::Attention(Box::new(Attention {
            positions: vec![
                rope(0, PositionAxis::Context),
                rope(dims, PositionAxis::Block),
            ],
            ..Attention::plain(sizes, query, key_value, output, Mask::CausalAfterContext)
        }))
    }
}

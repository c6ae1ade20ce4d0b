//! GPT-2: pre-norm decoder with learned positions, whose projections are stored transposed.

use crate::build::{CausalHead, Leaves, NormStyle, divided, unused_head};
use crate::{
    Attention, Config, Embedding, FeedForward, KeyValue, Layer, LengthLimit, Linear, Mask, Mixer,
    ModelSpec, PositionIds, PositionTable, Shard, SpecError, Split, Stack, Step,
};

struct Gpt2 {
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    head_dim: usize,
    norm: NormStyle,
    activation: crate::Activation,
    /// The usual `1 / sqrt(head_dim)` applies.
    scaled: bool,
    /// The scale is divided by the layer's number.
    scaled_by_layer: bool,
}

/// GPT-2.
pub fn gpt2(config: &Config) -> Result<ModelSpec, SpecError> {
    config.off("add_cross_attention", "there is no encoder to attend to")?;
    // Precision of the attention logits, and keys that no code reads any more.
    config.ignore(&[
        "reorder_and_upcast_attn",
        "n_ctx",
        "n_special",
        "predict_special_tokens",
    ]);
    let base = config.row()?.base_prefix.as_str();
    let vocab_size = config.size("vocab_size")?;
    let rows = config.size("max_position_embeddings")?;
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let model = Gpt2 {
        hidden_size,
        intermediate_size: config.optional_size("n_inner")?.unwrap_or(4 * hidden_size),
        heads,
        head_dim: divided(config, "num_attention_heads", hidden_size, heads)?,
        norm: NormStyle::layer(config.positive("layer_norm_epsilon")?),
        activation: config.activation("activation_function")?,
        scaled: config.flag("scale_attn_weights")?,
        scaled_by_layer: config.flag("scale_attn_by_inverse_layer_idx")?,
    };
    let tied = config.flag("tie_word_embeddings")?;
    let mut ignored = vec!["*.attn.bias", "*.attn.masked_bias"];
    ignored.extend(unused_head(config.class()?, tied, &["lm_head.weight"]));
    let head = CausalHead {
        norm: Some((format!("{base}ln_f"), model.norm)),
        projection: "lm_head",
        bias: false,
        tokens: format!("{base}wte.weight"),
        scale: 1.0,
        softcap: None,
    };
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "gpt2",
        base_prefix: base,
        ignored,
        vocab_size,
        length_limit: LengthLimit::Table(rows),
        positions: PositionIds::Sequential,
        stacks: vec![Stack {
            name: "decoder",
            hidden_size,
            embedding: model.embedding(base, vocab_size, rows),
            layers: (0..config.layers("num_hidden_layers")?)
                .map(|layer| model.layer(base, layer))
                .collect(),
            head: head.build(config, [vocab_size, hidden_size])?,
        }],
    })
}

impl Gpt2 {
    fn embedding(&self, base: &str, vocab_size: usize, rows: usize) -> Embedding {
        let mut leaves = Leaves::new(base);
        let tokens = leaves.table("wte.weight", vocab_size, self.hidden_size);
        let weight = leaves.table("wpe.weight", rows, self.hidden_size);
        Embedding {
            positions: Some(PositionTable::Learned {
                weight,
                offset: 0,
                rows,
            }),
            ..Embedding::of_tokens(tokens, self.hidden_size, leaves.finish())
        }
    }

    fn layer(&self, base: &str, layer: usize) -> Layer {
        let mut leaves = Leaves::new(format!("{base}h.{layer}."));
        let pre = leaves.norm("ln_1", self.hidden_size, self.norm);
        let attention = self.attention(&mut leaves, layer);
        let first = Step {
            pre: Some(pre),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let pre = leaves.norm("ln_2", self.hidden_size, self.norm);
        let [hidden, inner] = [self.hidden_size, self.intermediate_size];
        let feed_forward = FeedForward {
            gate: None,
            up: transposed(&mut leaves, "mlp.c_fc", [inner, hidden], Shard::Column),
            down: transposed(&mut leaves, "mlp.c_proj", [hidden, inner], Shard::Row),
            activation: self.activation,
            learned_activation: None,
            inner_norm: None,
            clamped: None,
        };
        let second = Step {
            pre: Some(pre),
            ..Step::residual(Mixer::FeedForward(feed_forward))
        };
        leaves.layer(vec![first, second])
    }

    fn attention(&self, leaves: &mut Leaves, layer: usize) -> Attention {
        let hidden = self.hidden_size;
        let weight = leaves.tensor("attn.c_attn.weight").transpose();
        let bias = leaves.tensor("attn.c_attn.bias");
        let split = Split::Rows(vec![hidden; 3]);
        let [query, key, value] = [0, 1, 2].map(|part| {
            leaves.linear_of(
                weight.clone().part(split.clone(), part),
                Some(bias.clone().part(split.clone(), part)),
                [hidden, hidden],
                Shard::Column,
            )
        });
        let output = transposed(leaves, "attn.c_proj", [hidden, hidden], Shard::Row);
        let plain = Attention::plain(
            [self.heads, self.heads, self.head_dim],
            query,
            KeyValue::Own {
                key,
                value: Some(value),
            },
            output,
            Mask::Causal,
        );
        let scale = if self.scaled { plain.scale } else { 1.0 };
        let divisor = if self.scaled_by_layer {
            (layer + 1) as f64
        } else {
            1.0
        };
        Attention {
            scale: scale / divisor,
            ..plain
        }
    }
}

/// A `Conv1D`: its weight is stored `[in, out]`.
fn transposed(leaves: &mut Leaves, name: &str, shape: [usize; 2], shard: Shard) -> Linear {
    let weight = leaves.tensor(&format!("{name}.weight")).transpose();
    let bias = leaves.tensor(&format!("{name}.bias"));
    leaves.linear_of(weight, Some(bias), shape, shard)
}

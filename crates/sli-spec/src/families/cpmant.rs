//! CPM-Ant: rows of a prompt in front of every record, attention both ways with learned addends by
//! distance and by kind of token, and a gated network between norms.

use crate::build::{CausalHead, Leaves, NormStyle};
use crate::{
    Activation, Attention, Config, Embedding, Input, KeyValue, Layer, LengthLimit, Mask, Mixer,
    ModelSpec, Position, PositionIds, RelativeBuckets, Shard, Source, SpecError, Stack, Step,
    TokenTypes, TypeRule,
};

/// The token that pads a batch on the left.
const PADDING: u32 = 0;
/// Kind of a record's own tokens; the prompt and padding have 0.
const OWN: u32 = 2;
/// Which of the prompts in the token table every record gets.
const PROMPT: usize = 2;

struct CpmAnt {
    base: &'static str,
    hidden_size: usize,
    heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    norm: NormStyle,
    buckets: usize,
    max_distance: usize,
    types: usize,
}

/// CPM-Ant.
pub fn cpmant(config: &Config) -> Result<ModelSpec, SpecError> {
    let model = CpmAnt {
        base: config.row()?.base_prefix.as_str(),
        hidden_size: config.size("hidden_size")?,
        heads: config.heads("num_attention_heads")?,
        head_dim: config.size("dim_head")?,
        intermediate_size: config.size("dim_ff")?,
        norm: NormStyle::rms(config.positive("eps")?),
        buckets: config.heads("position_bias_num_buckets")?,
        max_distance: config.size("position_bias_max_distance")?,
        types: config.heads("segment_types")?,
    };
    if model.buckets < 4 {
        return Err(config.invalid("position_bias_num_buckets", "at least 4"));
    }
    if model.types <= OWN as usize {
        return Err(config.invalid("segment_types", format!("more than {OWN}")));
    }
    // Every dropout is off; the head is a tensor of its own whatever the file says of ties.
    config.ignore(&["dropout_p", "init_std", "tie_word_embeddings"]);
    let vocab_size = config.size("vocab_size")?;
    let (prompts, length) = (
        config.index("prompt_types")?,
        config.index("prompt_length")?,
    );
    let rows = prompts
        .checked_mul(length)
        .and_then(|rows| rows.checked_add(vocab_size))
        .filter(|&rows| rows <= 1 << 28)
        .ok_or_else(|| config.invalid("prompt_length", "a smaller number"))?;
    if prompts <= PROMPT && length > 0 {
        return Err(config.invalid("prompt_types", format!("more than {PROMPT}")));
    }
    let first = vocab_size + PROMPT * length;
    let base = model.base;
    let head = CausalHead {
        norm: Some((format!("{base}encoder.output_layernorm"), model.norm)),
        projection: "lm_head",
        bias: false,
        tokens: format!("{base}input_embedding.weight"),
        scale: 1.0,
        softcap: None,
    };
    let mut head = head.build(config, [vocab_size, model.hidden_size])?;
    if let Some(logits) = &head.logits {
        let index = logits.projection.weight.0 as usize;
        head.leaves[index].source = Source::tensor("lm_head.weight");
    }
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "cpmant",
        base_prefix: base,
        ignored: Vec::new(),
        vocab_size,
        stacks: vec![Stack {
            name: "decoder",
            hidden_size: model.hidden_size,
            sequence: crate::Sequence::Record,
            input: Input::Tokens(model.embedding(rows)),
            positions: PositionIds::Sequential,
            // Where no bucket holds several distances, a longer one has none.
            limit: if model.max_distance > model.buckets / 4 {
                LengthLimit::None
            } else {
                LengthLimit::Table((model.buckets / 4).saturating_sub(length))
            },
            prompt: (first as u32..(first + length) as u32).collect(),
            layers: (0..config.layers("num_hidden_layers")?)
                .map(|layer| model.layer(layer))
                .collect(),
            head,
        }],
    })
}

impl CpmAnt {
    fn embedding(&self, rows: usize) -> Embedding {
        let mut leaves = Leaves::new(self.base);
        let tokens = leaves.table("input_embedding.weight", rows, self.hidden_size);
        let weight = leaves.table("segment_embedding.weight", self.types, self.hidden_size);
        Embedding {
            token_types: Some(TokenTypes {
                weight,
                types: self.types,
                rule: TypeRule::OfToken {
                    padding: PADDING,
                    other: OWN,
                },
            }),
            ..Embedding::of_tokens(tokens, self.hidden_size, leaves.finish())
        }
    }

    fn layer(&self, layer: usize) -> Layer {
        let mut leaves = Leaves::new(format!("{}encoder.layers.{layer}.", self.base));
        let norm = |leaves: &mut Leaves, name| Some(leaves.norm(name, self.hidden_size, self.norm));
        let attention = Step {
            pre: norm(&mut leaves, "self_att.layernorm_before_attention"),
            ..Step::residual(self.attention(&mut leaves))
        };
        let network = Step {
            pre: norm(&mut leaves, "ffn.layernorm_before_ffn"),
            ..Step::residual(Mixer::FeedForward(leaves.gated_feed_forward(
                ["ffn.ffn.w_in.w_0", "ffn.ffn.w_in.w_1", "ffn.ffn.w_out"],
                [self.hidden_size, self.intermediate_size],
                false,
                Activation::Gelu,
            )))
        };
        leaves.layer(vec![attention, network])
    }

    fn attention(&self, leaves: &mut Leaves) -> Mixer {
        let (hidden, width) = (self.hidden_size, self.heads * self.head_dim);
        let mut linear = |name: &str, shape, shard| {
            leaves.linear(
                &format!("self_att.self_attention.{name}"),
                shape,
                false,
                shard,
            )
        };
        let [query, key, value] = ["project_q", "project_k", "project_v"]
            .map(|name| linear(name, [width, hidden], Shard::Column));
        let output = linear("attention_out", [hidden, width], Shard::Row);
        // All layers share one table.
        let name = format!("{}position_bias.relative_attention_bias", self.base);
        let source = Source::Reshape(Box::new(Source::tensor(name)));
        let rows = self.buckets + self.types * self.types;
        let table = leaves.weight(source, &[rows * self.heads], Shard::Replicate);
        let key_value = KeyValue::Own {
            key,
            value: Some(value),
        };
        let heads = [self.heads, self.heads, self.head_dim];
        Mixer::Attention(Box::new(Attention {
            positions: vec![Position::Buckets(RelativeBuckets {
                table,
                buckets: self.buckets,
                looks_ahead: true,
                max_distance: self.max_distance,
                types: self.types,
            })],
            ..Attention::plain(
                heads,
                query,
                key_value,
                output,
                Mask::FullButPadding(PADDING),
            )
        }))
    }
}

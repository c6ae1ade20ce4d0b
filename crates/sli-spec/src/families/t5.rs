//! T5 (Raffel et al. 2019), its version 1.1, FLAN-T5: an encoder and a decoder with relative buckets.

use crate::build::{Leaves, NormStyle};
use crate::{
    Activation, Attention, Config, DecoderInput, Embedding, HEAD, Head, Input, KeyValue, Layer,
    LengthLimit, LogitsHead, Mask, Mixer, ModelSpec, Position, PositionIds, Predicts,
    RelativeBuckets, Sequence, Shard, Source, SpecError, Stack, Step, Task,
};

struct T5 {
    base: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    heads: usize,
    head_dim: usize,
    intermediate_size: usize,
    activation: Activation,
    gated: bool,
    norm: NormStyle,
    buckets: usize,
    max_distance: usize,
    /// Both tables and the head are the one table.
    tied: bool,
}

/// One of the two stacks.
#[derive(Clone, Copy)]
struct Half {
    name: &'static str,
    is_decoder: bool,
}

const ENCODER: Half = Half {
    name: "encoder",
    is_decoder: false,
};
const DECODER: Half = Half {
    name: "decoder",
    is_decoder: true,
};

/// T5.
pub fn t5(config: &Config) -> Result<ModelSpec, SpecError> {
    let task = config.class()?.task;
    let (activation, gated) = network(config)?;
    let model = T5 {
        base: config.row()?.base_prefix.as_str(),
        vocab_size: config.size("vocab_size")?,
        hidden_size: config.size("d_model")?,
        heads: config.heads("num_heads")?,
        head_dim: config.size("d_kv")?,
        intermediate_size: config.size("d_ff")?,
        activation,
        gated,
        norm: NormStyle::rms(config.positive("layer_norm_epsilon")?),
        buckets: config.heads("relative_attention_num_buckets")?,
        max_distance: config.size("relative_attention_max_distance")?,
        tied: config.always_tied(),
    };
    model.check_buckets(config)?;
    let layers = config.layers("num_layers")?;
    let decoder_layers = if config.in_file("num_decoder_layers") {
        config.layers("num_decoder_layers")?
    } else {
        layers
    };
    let scale = scale(config, model.hidden_size)?;
    config.ignore(&["is_encoder_decoder", "num_decoder_layers"]);
    let start = config.token_id("decoder_start_token_id")?;
    let padding = config.token_id("pad_token_id")?;
    let encoder = model.stack(ENCODER, layers, Sequence::Record);
    let mut stacks = vec![encoder];
    let mut ignored = Vec::new();
    if task == Task::Encoder {
        config.off(
            "is_decoder",
            "an encoder whose tokens see no later ones is not known",
        )?;
        ignored.extend(["*decoder.*", "lm_head.weight"]);
    } else {
        config.ignore(&["is_decoder"]);
        // Shifting labels takes both tokens.
        let input = DecoderInput {
            start: padding.and(start),
            repeats: false,
        };
        let mut decoder = model.stack(DECODER, decoder_layers, Sequence::Decoder(input));
        if task == Task::Base {
            ignored.push("lm_head.weight");
        } else {
            model.add_logits(&mut decoder.head, scale);
            if model.tied {
                ignored.push("lm_head.weight");
            }
        }
        stacks.push(decoder);
    }
    ignored.extend(if model.tied {
        [
            "*encoder.embed_tokens.weight",
            "*decoder.embed_tokens.weight",
        ]
        .as_slice()
    } else {
        &["*shared.weight"]
    });
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "t5",
        base_prefix: model.base,
        ignored,
        vocab_size: model.vocab_size,
        stacks,
    })
}

/// Activation and form of the feed-forward networks. What the class derives from `feed_forward_proj` is
/// written to files as well, and believed there.
fn network(config: &Config) -> Result<(Activation, bool), SpecError> {
    const KEY: &str = "feed_forward_proj";
    let told = config.optional_text(KEY)?;
    let told = told.ok_or_else(|| config.missing(KEY))?;
    let (gated, name) = match told.split('-').collect::<Vec<_>>()[..] {
        [name] => (false, name),
        ["gated", "gelu"] => (true, "gelu_new"),
        ["gated", name] => (true, name),
        _ => return Err(config.invalid(KEY, "`NAME` or `gated-NAME`")),
    };
    let activation = if config.in_file("dense_act_fn") {
        config.activation("dense_act_fn")?
    } else {
        let known = Activation::from_name(name);
        known.ok_or_else(|| config.unsupported(KEY, "unknown activation"))?
    };
    let gated = if config.in_file("is_gated_act") {
        config.flag("is_gated_act")?
    } else {
        gated
    };
    Ok((activation, gated))
}

/// The factor on the logits. `tie_word_embeddings` says nothing but this: the head is tied unless the
/// weights have another.
fn scale(config: &Config, hidden_size: usize) -> Result<f64, SpecError> {
    let tied = !config.in_file("tie_word_embeddings") || config.flag("tie_word_embeddings")?;
    let scaled = if config.in_file("scale_decoder_outputs") {
        config.flag("scale_decoder_outputs")?
    } else {
        tied
    };
    Ok(if scaled {
        (hidden_size as f64).powf(-0.5)
    } else {
        1.0
    })
}

impl T5 {
    /// The reference divides by the logarithm of what lies between the exact buckets and the longest distance.
    fn check_buckets(&self, config: &Config) -> Result<(), SpecError> {
        if self.buckets < 4 {
            return Err(config.invalid("relative_attention_num_buckets", "at least 4"));
        }
        if self.max_distance <= self.buckets / 2 {
            let expected = format!("more than {}", self.buckets / 2);
            return Err(config.invalid("relative_attention_max_distance", expected));
        }
        Ok(())
    }

    fn stack(&self, half: Half, layers: usize, sequence: Sequence) -> Stack {
        let prefix = format!("{}{}.", self.base, half.name);
        let mut leaves = Leaves::new(if self.tied { self.base } else { &prefix });
        let table = if self.tied {
            "shared.weight"
        } else {
            "embed_tokens.weight"
        };
        let tokens = leaves.table(table, self.vocab_size, self.hidden_size);
        let mut end = Leaves::new(prefix.clone());
        let norm = end.norm("final_layer_norm", self.hidden_size, self.norm);
        Stack {
            name: half.name,
            hidden_size: self.hidden_size,
            sequence,
            input: Input::Tokens(Embedding::of_tokens(
                tokens,
                self.hidden_size,
                leaves.finish(),
            )),
            positions: PositionIds::Sequential,
            limit: LengthLimit::None,
            prompt: Vec::new(),
            layers: (0..layers)
                .map(|layer| self.layer(half, &prefix, layer))
                .collect(),
            head: Head {
                leaves: end.finish(),
                norm: Some(norm),
                ..Head::default()
            },
        }
    }

    fn layer(&self, half: Half, prefix: &str, layer: usize) -> Layer {
        let mut leaves = Leaves::new(format!("{prefix}block.{layer}."));
        // All layers look into the table of the first.
        let table = format!("{prefix}block.0.layer.0.SelfAttention.relative_attention_bias.weight");
        let mut steps = vec![self.residual(&mut leaves, 0, |model, leaves| {
            model.self_attention(half, leaves, table)
        })];
        if half.is_decoder {
            steps.push(self.residual(&mut leaves, 1, Self::cross_attention));
        }
        steps.push(self.residual(&mut leaves, steps.len(), |model, leaves| {
            model.network(leaves, 1 + usize::from(half.is_decoder))
        }));
        leaves.layer(steps)
    }

    fn residual(
        &self,
        leaves: &mut Leaves,
        number: usize,
        mixer: impl FnOnce(&Self, &mut Leaves) -> Mixer,
    ) -> Step {
        let name = format!("layer.{number}.layer_norm");
        Step {
            pre: Some(leaves.norm(&name, self.hidden_size, self.norm)),
            ..Step::residual(mixer(self, leaves))
        }
    }

    fn self_attention(&self, half: Half, leaves: &mut Leaves, table: String) -> Mixer {
        let [query, key, value] =
            ["q", "k", "v"].map(|name| self.projection(leaves, "layer.0.SelfAttention", name));
        let output = self.output(leaves, "layer.0.SelfAttention");
        let source = Source::Reshape(Box::new(Source::tensor(table)));
        let table = leaves.weight(source, &[self.buckets * self.heads], Shard::Replicate);
        let key_value = KeyValue::Own {
            key,
            value: Some(value),
        };
        let mask = if half.is_decoder {
            Mask::Causal
        } else {
            Mask::Full
        };
        let positions = vec![Position::Buckets(RelativeBuckets {
            table,
            buckets: self.buckets,
            looks_ahead: !half.is_decoder,
            max_distance: self.max_distance,
            types: 0,
        })];
        Mixer::Attention(Box::new(Attention {
            positions,
            scale: 1.0,
            ..Attention::plain(self.shape(), query, key_value, output, mask)
        }))
    }

    fn cross_attention(&self, leaves: &mut Leaves) -> Mixer {
        let [query, key, value] =
            ["q", "k", "v"].map(|name| self.projection(leaves, "layer.1.EncDecAttention", name));
        let output = self.output(leaves, "layer.1.EncDecAttention");
        let key_value = KeyValue::OfStack {
            stack: 0,
            key,
            value,
        };
        Mixer::Attention(Box::new(Attention {
            scale: 1.0,
            ..Attention::plain(self.shape(), query, key_value, output, Mask::Full)
        }))
    }

    fn shape(&self) -> [usize; 3] {
        [self.heads, self.heads, self.head_dim]
    }

    fn projection(&self, leaves: &mut Leaves, place: &str, name: &str) -> crate::Linear {
        let shape = [self.heads * self.head_dim, self.hidden_size];
        leaves.linear(&format!("{place}.{name}"), shape, false, Shard::Column)
    }

    fn output(&self, leaves: &mut Leaves, place: &str) -> crate::Linear {
        let shape = [self.hidden_size, self.heads * self.head_dim];
        leaves.linear(&format!("{place}.o"), shape, false, Shard::Row)
    }

    fn network(&self, leaves: &mut Leaves, number: usize) -> Mixer {
        let name = |part: &str| format!("layer.{number}.DenseReluDense.{part}");
        let sizes = [self.hidden_size, self.intermediate_size];
        Mixer::FeedForward(if self.gated {
            let [gate, up, down] = ["wi_0", "wi_1", "wo"].map(name);
            leaves.gated_feed_forward([&gate, &up, &down], sizes, false, self.activation)
        } else {
            let [up, down] = ["wi", "wo"].map(name);
            leaves.plain_feed_forward([&up, &down], sizes, false, self.activation)
        })
    }

    fn add_logits(&self, head: &mut Head, scale: f64) {
        let mut leaves = Leaves::continued(std::mem::take(&mut head.leaves));
        leaves.optional(Some(HEAD));
        let weight = if self.tied {
            format!("{}shared.weight", self.base)
        } else {
            "lm_head.weight".to_owned()
        };
        head.logits = Some(LogitsHead {
            predicts: Predicts::Next,
            transform: None,
            projection: leaves.linear_of(
                Source::tensor(weight),
                None,
                [self.vocab_size, self.hidden_size],
                Shard::Column,
            ),
            normalized_rows: false,
            scale,
            softcap: None,
        });
        head.leaves = leaves.finish();
    }
}

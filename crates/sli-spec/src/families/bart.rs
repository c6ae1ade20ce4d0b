//! BART (Lewis et al. 2019): an encoder and a decoder with learned positions and norms after the sums.

use crate::build::{Leaves, NormStyle, divided};
use crate::{
    Activation, Attention, Config, DecoderInput, Embedding, Gain, HEAD, Head, Input, KeyValue,
    Layer, LengthLimit, Linear, LogitsHead, Mask, Mixer, ModelSpec, PositionIds, PositionTable,
    Predicts, Sequence, Shard, Source, SpecError, Stack, Step, Task, Write,
};

/// The addend of the logits, which a checkpoint may lack: then it is zero.
pub const LOGITS_BIAS: &str = "final_logits_bias";

/// Rows of the position tables in front of position 0.
const OFFSET: usize = 2;

struct Bart {
    base: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    positions: usize,
    /// Factor on the token embedding.
    scale: f64,
    activation: Activation,
    norm: NormStyle,
    tied: bool,
}

/// One of the two stacks.
struct Half {
    name: &'static str,
    layers: usize,
    heads: usize,
    intermediate_size: usize,
    mask: Mask,
    /// It reads the end of the encoder.
    crosses: bool,
}

/// BART.
pub fn bart(config: &Config) -> Result<ModelSpec, SpecError> {
    let task = config.class()?.task;
    let hidden_size = config.size("d_model")?;
    let model = Bart {
        base: config.row()?.base_prefix.as_str(),
        vocab_size: config.size("vocab_size")?,
        hidden_size,
        positions: config.size("max_position_embeddings")?,
        scale: if config.flag("scale_embedding")? {
            (hidden_size as f64).sqrt()
        } else {
            1.0
        },
        activation: config.activation("activation_function")?,
        norm: NormStyle::layer(1e-5),
        tied: config.flag("tie_word_embeddings")?,
    };
    // None changes which stacks a class has, or what they compute.
    config.ignore(&["is_encoder_decoder", "is_decoder", "forced_eos_token_id"]);
    let alone = task == Task::CausalLm;
    let decoder = model.half(config, "decoder", Mask::Causal, !alone)?;
    if alone {
        config.ignore(&[
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
        ]);
        config.ignore(&["decoder_start_token_id", "pad_token_id"]);
        return model.alone(config, &decoder);
    }
    let encoder = model.half(config, "encoder", Mask::Full, false)?;
    let start = config.token_id("decoder_start_token_id")?;
    let input = DecoderInput {
        // Shifting labels takes both tokens.
        start: config.token_id("pad_token_id")?.and(start),
        repeats: true,
    };
    let shared = |half: &Half| {
        if model.tied {
            format!("{}shared.weight", model.base)
        } else {
            format!("{}{}.embed_tokens.weight", model.base, half.name)
        }
    };
    let mut output = model.stack(&decoder, shared(&decoder), Sequence::Decoder(input));
    let mut ignored = if model.tied {
        vec![
            "*encoder.embed_tokens.weight",
            "*decoder.embed_tokens.weight",
        ]
    } else {
        vec!["*shared.weight"]
    };
    if task == Task::Base {
        ignored.extend(["lm_head.weight", LOGITS_BIAS]);
    } else {
        let weight = if model.tied {
            shared(&decoder)
        } else {
            "lm_head.weight".to_owned()
        };
        output.head = model.head(weight, true);
        ignored.extend(model.tied.then_some("lm_head.weight"));
    }
    let input = model.stack(&encoder, shared(&encoder), Sequence::Record);
    model.described(config, ignored, vec![input, output])
}

impl Bart {
    fn described(
        &self,
        config: &Config,
        ignored: Vec<&'static str>,
        stacks: Vec<Stack>,
    ) -> Result<ModelSpec, SpecError> {
        Ok(ModelSpec {
            model_type: config.model_type()?,
            family: "bart",
            base_prefix: self.base,
            ignored,
            vocab_size: self.vocab_size,
            stacks,
        })
    }

    /// The decoder without an encoder. Its attention to one is stored all the same.
    fn alone(&self, config: &Config, half: &Half) -> Result<ModelSpec, SpecError> {
        let table = format!("{}decoder.embed_tokens.weight", self.base);
        let mut stack = self.stack(half, table.clone(), Sequence::Record);
        let weight = if self.tied {
            table
        } else {
            "lm_head.weight".to_owned()
        };
        stack.head = self.head(weight, false);
        let mut ignored = vec!["*decoder.layers.*.encoder_attn*"];
        ignored.extend(self.tied.then_some("lm_head.weight"));
        self.described(config, ignored, vec![stack])
    }

    fn half(
        &self,
        config: &Config,
        name: &'static str,
        mask: Mask,
        crosses: bool,
    ) -> Result<Half, SpecError> {
        let key = format!("{name}_attention_heads");
        let heads = config.heads(&key)?;
        divided(config, &key, self.hidden_size, heads)?;
        Ok(Half {
            name,
            layers: config.layers(&format!("{name}_layers"))?,
            heads,
            intermediate_size: config.size(&format!("{name}_ffn_dim"))?,
            mask,
            crosses,
        })
    }

    fn stack(&self, half: &Half, table: String, sequence: Sequence) -> Stack {
        let prefix = format!("{}{}.", self.base, half.name);
        let (width, rows) = (self.hidden_size, self.positions + OFFSET);
        let mut leaves = Leaves::new(prefix.clone());
        let shape = [self.vocab_size, width];
        let tokens = leaves.weight(Source::tensor(table), &shape, Shard::Column);
        let weight = leaves.table("embed_positions.weight", rows, width);
        let norm = leaves.norm("layernorm_embedding", width, self.norm);
        let positions = PositionTable::Learned {
            weight,
            offset: OFFSET,
            rows,
        };
        Stack {
            name: half.name,
            hidden_size: width,
            sequence,
            input: Input::Tokens(Embedding {
                scale: self.scale,
                positions: Some(positions),
                norm: Some(norm),
                ..Embedding::of_tokens(tokens, width, leaves.finish())
            }),
            positions: PositionIds::Sequential,
            limit: LengthLimit::Table(self.positions),
            prompt: Vec::new(),
            layers: (0..half.layers)
                .map(|layer| self.layer(half, format!("{prefix}layers.{layer}.")))
                .collect(),
            head: Head::default(),
        }
    }

    fn layer(&self, half: &Half, prefix: String) -> Layer {
        let mut leaves = Leaves::new(prefix);
        let own = |key, value| KeyValue::Own {
            key,
            value: Some(value),
        };
        let attention = self.attention(half, &mut leaves, "self_attn", half.mask, own);
        let mut steps = vec![self.normed(&mut leaves, "self_attn_layer_norm", attention)];
        if half.crosses {
            let of_encoder = |key, value| KeyValue::OfStack {
                stack: 0,
                key,
                value,
            };
            let attention =
                self.attention(half, &mut leaves, "encoder_attn", Mask::Full, of_encoder);
            steps.push(self.normed(&mut leaves, "encoder_attn_layer_norm", attention));
        }
        let network = Mixer::FeedForward(leaves.plain_feed_forward(
            ["fc1", "fc2"],
            [self.hidden_size, half.intermediate_size],
            true,
            self.activation,
        ));
        steps.push(self.normed(&mut leaves, "final_layer_norm", network));
        leaves.layer(steps)
    }

    /// `norm(h + mixer(h))`.
    fn normed(&self, leaves: &mut Leaves, name: &str, mixer: Mixer) -> Step {
        let norm = leaves.norm(name, self.hidden_size, self.norm);
        Step {
            write: Write::AddNorm(norm, Gain::One),
            ..Step::residual(mixer)
        }
    }

    fn attention(
        &self,
        half: &Half,
        leaves: &mut Leaves,
        name: &str,
        mask: Mask,
        key_value: impl FnOnce(Linear, Linear) -> KeyValue,
    ) -> Mixer {
        let shape = [self.hidden_size; 2];
        let mut linear =
            |part: &str, shard| leaves.linear(&format!("{name}.{part}"), shape, true, shard);
        let [query, key, value] =
            ["q_proj", "k_proj", "v_proj"].map(|part| linear(part, Shard::Column));
        let output = linear("out_proj", Shard::Row);
        let heads = [half.heads, half.heads, self.hidden_size / half.heads];
        let attention = Attention::plain(heads, query, key_value(key, value), output, mask);
        Mixer::Attention(Box::new(attention))
    }

    fn head(&self, weight: String, has_addend: bool) -> Head {
        let mut leaves = Leaves::new("");
        leaves.optional(Some(HEAD));
        let shape = [self.vocab_size, self.hidden_size];
        let mut projection = leaves.linear_of(Source::tensor(weight), None, shape, Shard::Column);
        if has_addend {
            leaves.optional(Some(LOGITS_BIAS));
            let source = Source::Reshape(Box::new(Source::tensor(LOGITS_BIAS)));
            let addend = leaves.weight(source, &[self.vocab_size], Shard::Column);
            leaves.set_buffer(addend);
            projection.bias = Some(addend);
        }
        Head {
            leaves: leaves.finish(),
            logits: Some(LogitsHead {
                predicts: Predicts::Next,
                transform: None,
                projection,
                normalized_rows: false,
                scale: 1.0,
                softcap: None,
            }),
            ..Head::default()
        }
    }
}

//! BERT and its relatives: post-norm encoders with learned positions and a masked-LM head.

use crate::build::{Leaves, NormStyle, divided};
use crate::{
    Activation, Attention, Config, Embedding, Gain, HEAD, Head, HeadTransform, Input, KeyValue,
    Layer, LengthLimit, Linear, LogitsHead, Mask, Mixer, ModelSpec, Pooler, PositionIds,
    PositionTable, Predicts, Shard, Source, SpecError, Stack, Step, Task, TokenTypes, TypeRule,
    Write,
};

/// What differs between the relatives besides numbers.
struct Style<'a> {
    hidden_size: usize,
    intermediate_size: usize,
    heads: usize,
    layers: usize,
    norm: NormStyle,
    activation: Activation,
    mask: Mask,
    /// Position ids, and the rows of the table in front of the first one.
    positions: PositionIds,
    lead: usize,
    token_types: Option<usize>,
    pooler: bool,
    names: &'a Names<'a>,
    head: &'a HeadNames<'a>,
    /// Of the head's transform.
    head_activation: Activation,
}

/// Tensor names of the encoder under the base prefix.
struct Names<'a> {
    layer: &'a str,
    query_key_value: [&'a str; 3],
    output: &'a str,
    output_norm: &'a str,
    up: &'a str,
    down: &'a str,
    down_norm: &'a str,
}

const BERT: Names<'static> = Names {
    layer: "encoder.layer.",
    query_key_value: [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    ],
    output: "attention.output.dense",
    output_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

/// Tensor names of the masked-LM head.
struct HeadNames<'a> {
    dense: &'a str,
    norm: &'a str,
    projection: &'a str,
    /// Addend of the projection where the projection is tied.
    tied_bias: &'a str,
    /// Everything the head may be stored as.
    all: &'a [&'static str],
    /// What a tied head may be stored as beside the tensors it is tied to.
    duplicates: &'a [&'static str],
    /// Parameters that an untied head has and does not use.
    leftovers: &'a [&'static str],
}

const BERT_HEAD: HeadNames<'static> = HeadNames {
    dense: "cls.predictions.transform.dense",
    norm: "cls.predictions.transform.LayerNorm",
    projection: "cls.predictions.decoder",
    tied_bias: "cls.predictions.bias",
    all: &["cls.predictions.*"],
    duplicates: &[
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    ],
    leftovers: &["cls.predictions.bias"],
};

/// BERT, as encoder or (`is_decoder`) with a causal mask.
pub fn bert(config: &Config) -> Result<ModelSpec, SpecError> {
    let style = Style {
        pooler: true,
        ..usual(config, &BERT, &BERT_HEAD)?
    };
    let mut spec = describe(config, &style)?;
    spec.ignored.push("cls.seq_relationship.*");
    Ok(spec)
}

const ROBERTA_HEAD: HeadNames<'static> = HeadNames {
    dense: "lm_head.dense",
    norm: "lm_head.layer_norm",
    projection: "lm_head.decoder",
    tied_bias: "lm_head.bias",
    all: &["lm_head.*"],
    duplicates: &["lm_head.decoder.weight", "lm_head.decoder.bias"],
    leftovers: &["lm_head.bias"],
};

/// RoBERTa: positions are counted from behind the padding token's id.
pub fn roberta(config: &Config) -> Result<ModelSpec, SpecError> {
    let padding = config.token_id("pad_token_id")?;
    let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
    let style = Style {
        pooler: true,
        positions: PositionIds::AfterPadding { padding },
        lead: padding as usize + 1,
        head_activation: Activation::Gelu,
        ..usual(config, &BERT, &ROBERTA_HEAD)?
    };
    describe(config, &style)
}

const DISTILBERT: Names<'static> = Names {
    layer: "transformer.layer.",
    query_key_value: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    output: "attention.out_lin",
    output_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
};

const DISTILBERT_HEAD: HeadNames<'static> = HeadNames {
    dense: "vocab_transform",
    norm: "vocab_layer_norm",
    projection: "vocab_projector",
    tied_bias: "vocab_projector.bias",
    all: &[
        "vocab_transform.*",
        "vocab_layer_norm.*",
        "vocab_projector.*",
    ],
    duplicates: &["vocab_projector.weight"],
    leftovers: &[],
};

/// DistilBERT: no token types, no pooler, a fixed epsilon.
pub fn distilbert(config: &Config) -> Result<ModelSpec, SpecError> {
    // The position table is stored even where it was initialised with sines.
    config.ignore(&["sinusoidal_pos_embds", "tie_weights_"]);
    let activation = config.activation("activation")?;
    let style = Style {
        hidden_size: config.size("hidden_size")?,
        intermediate_size: config.size("hidden_dim")?,
        heads: config.heads("num_attention_heads")?,
        layers: config.layers("num_hidden_layers")?,
        norm: NormStyle::layer(1e-12),
        activation,
        mask: Mask::Full,
        positions: PositionIds::Sequential,
        lead: 0,
        token_types: None,
        pooler: false,
        names: &DISTILBERT,
        head: &DISTILBERT_HEAD,
        head_activation: activation,
    };
    describe(config, &style)
}

/// The keys as BERT spells them.
fn usual<'a>(
    config: &Config,
    names: &'a Names<'a>,
    head: &'a HeadNames<'a>,
) -> Result<Style<'a>, SpecError> {
    config.off("add_cross_attention", "there is no encoder to attend to")?;
    config.neutral(
        "position_embedding_type",
        &["absolute".into()],
        "relative positions were dropped from the reference",
    )?;
    // Left over from the original TensorFlow files; no version of the reference reads them.
    config.ignore(&[
        "directionality",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    ]);
    let activation = config.activation("hidden_act")?;
    Ok(Style {
        hidden_size: config.size("hidden_size")?,
        intermediate_size: config.size("intermediate_size")?,
        heads: config.heads("num_attention_heads")?,
        layers: config.layers("num_hidden_layers")?,
        norm: NormStyle::layer(config.positive("layer_norm_eps")?),
        activation,
        mask: if config.flag("is_decoder")? {
            Mask::Causal
        } else {
            Mask::Full
        },
        positions: PositionIds::Sequential,
        lead: 0,
        token_types: Some(config.size("type_vocab_size")?),
        pooler: false,
        names,
        head,
        head_activation: activation,
    })
}

fn describe(config: &Config, style: &Style<'_>) -> Result<ModelSpec, SpecError> {
    let base = config.row()?.base_prefix.as_str();
    let vocab_size = config.size("vocab_size")?;
    let rows = config.size("max_position_embeddings")?;
    let head_dim = divided(
        config,
        "num_attention_heads",
        style.hidden_size,
        style.heads,
    )?;
    let usable = rows.checked_sub(style.lead).filter(|&usable| usable > 0);
    let usable = usable.ok_or_else(|| {
        config.invalid(
            "max_position_embeddings",
            format!("more than {}", style.lead),
        )
    })?;
    let class = config.class()?;
    let tied = config.flag("tie_word_embeddings")?;
    let ignored = ["*embeddings.position_ids", "*embeddings.token_type_ids"];
    let unused = match (class.task, tied) {
        (Task::Base, _) => style.head.all,
        (_, true) => style.head.duplicates,
        (_, false) => style.head.leftovers,
    };
    Ok(ModelSpec {
        model_type: config.model_type()?,
        family: "bert",
        base_prefix: base,
        ignored: ignored.into_iter().chain(unused.iter().copied()).collect(),
        vocab_size,
        stacks: vec![Stack {
            name: if style.mask == Mask::Causal {
                "decoder"
            } else {
                "encoder"
            },
            hidden_size: style.hidden_size,
            sequence: crate::Sequence::Record,
            input: Input::Tokens(style.embedding(base, vocab_size, rows)),
            positions: style.positions,
            limit: LengthLimit::Table(usable),
            prompt: Vec::new(),
            layers: (0..style.layers)
                .map(|layer| style.layer(base, layer, head_dim))
                .collect(),
            head: style.head(base, vocab_size, class.task, tied),
        }],
    })
}

impl Style<'_> {
    fn embedding(&self, base: &str, vocab_size: usize, rows: usize) -> Embedding {
        let width = self.hidden_size;
        let mut leaves = Leaves::new(format!("{base}embeddings."));
        let tokens = leaves.table("word_embeddings.weight", vocab_size, width);
        let token_types = self.token_types.map(|types| TokenTypes {
            weight: leaves.table("token_type_embeddings.weight", types, width),
            types,
            rule: TypeRule::Given,
        });
        let weight = leaves.table("position_embeddings.weight", rows, width);
        let norm = leaves.norm("LayerNorm", width, self.norm);
        Embedding {
            positions: Some(PositionTable::Learned {
                weight,
                offset: 0,
                rows,
            }),
            token_types,
            norm: Some(norm),
            ..Embedding::of_tokens(tokens, width, leaves.finish())
        }
    }

    fn layer(&self, base: &str, layer: usize, head_dim: usize) -> Layer {
        let names = self.names;
        let hidden = self.hidden_size;
        let mut leaves = Leaves::new(format!("{base}{}{layer}.", names.layer));
        let [query, key, value] = names
            .query_key_value
            .map(|name| leaves.linear(name, [hidden, hidden], true, Shard::Column));
        let output = leaves.linear(names.output, [hidden, hidden], true, Shard::Row);
        let attention = Attention::plain(
            [self.heads, self.heads, head_dim],
            query,
            KeyValue::Own {
                key,
                value: Some(value),
            },
            output,
            self.mask,
        );
        let norm = leaves.norm(names.output_norm, hidden, self.norm);
        let first = Step {
            write: Write::AddNorm(norm, Gain::One),
            ..Step::residual(Mixer::Attention(Box::new(attention)))
        };
        let sizes = [hidden, self.intermediate_size];
        let feed_forward =
            leaves.plain_feed_forward([names.up, names.down], sizes, true, self.activation);
        let norm = leaves.norm(names.down_norm, hidden, self.norm);
        let second = Step {
            write: Write::AddNorm(norm, Gain::One),
            ..Step::residual(Mixer::FeedForward(feed_forward))
        };
        leaves.layer(vec![first, second])
    }

    fn head(&self, base: &str, vocab_size: usize, task: Task, tied: bool) -> Head {
        let mut leaves = Leaves::new("");
        let pooler = self.pooler.then(|| {
            leaves.optional(Some("pooler"));
            let name = format!("{base}pooler.dense");
            let dense = square(&mut leaves, &name, self.hidden_size);
            Pooler {
                dense,
                activation: Activation::Tanh,
            }
        });
        let logits = (task != Task::Base).then(|| {
            leaves.optional(Some(HEAD));
            let names = self.head;
            let dense = square(&mut leaves, names.dense, self.hidden_size);
            let norm = leaves.norm(names.norm, self.hidden_size, self.norm);
            let [weight, bias] = if tied {
                [
                    format!("{base}embeddings.word_embeddings.weight"),
                    names.tied_bias.to_owned(),
                ]
            } else {
                [
                    format!("{}.weight", names.projection),
                    format!("{}.bias", names.projection),
                ]
            };
            let projection = leaves.linear_of(
                Source::tensor(weight),
                Some(Source::tensor(bias)),
                [vocab_size, self.hidden_size],
                Shard::Column,
            );
            LogitsHead {
                predicts: match task {
                    Task::CausalLm => Predicts::Next,
                    Task::Base | Task::MaskedLm | Task::Seq2SeqLm | Task::Encoder => {
                        Predicts::Masked
                    }
                },
                transform: Some(HeadTransform {
                    dense,
                    activation: self.head_activation,
                    norm: Some(norm),
                }),
                projection,
                normalized_rows: false,
                scale: 1.0,
                softcap: None,
            }
        });
        Head {
            leaves: leaves.finish(),
            streams: Vec::new(),
            norm: None,
            output: None,
            logits,
            pooler,
        }
    }
}

fn square(leaves: &mut Leaves, name: &str, size: usize) -> Linear {
    leaves.linear(name, [size, size], true, Shard::Replicate)
}

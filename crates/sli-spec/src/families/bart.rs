//! BART (Lewis et al. 2019) and what is built like it: an encoder and a decoder, each with positions of its own.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Cross, Norms, SharedTokens, Table, UnusedHead};
use crate::families::gpt::{BART, tensor2tensor};
use crate::{
    Config, DecoderInput, Described, Head, LabelShift, LengthLimit, Mask, PositionIds, Sequence,
    Shard, ShiftStart, Sinusoidal, Source, SpecError, Task,
};

/// The addend of the logits, which a checkpoint may lack: then it is zero.
pub const LOGITS_BIAS: &str = "final_logits_bias";

const SHARED: SharedTokens = SharedTokens {
    name: "shared",
    tied: &[
        "*encoder.embed_tokens.weight",
        "*decoder.embed_tokens.weight",
    ],
    own: &["*shared.weight"],
};

/// What the types differ in.
#[derive(Clone, Copy)]
struct Style {
    /// Norms stand in front of the sublayers and behind the last layer; else behind the sums.
    pre_norm: bool,
    embedding_norm: EmbeddingNorm,
    places: Places,
    /// The logits have an addend.
    has_logits_bias: bool,
    labels: Labels,
}

/// What a decoder gets where a record does not say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    /// Nothing.
    Given,
    /// The encoder's tokens are its labels.
    Repeated,
    /// The same, and labels are shifted behind the last of them, which names the language.
    RepeatedBehindLast,
}

/// The norm of the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmbeddingNorm {
    None,
    /// Of the sum.
    Sum,
    /// Of the sum in the encoder, of the unscaled tokens in the decoder (Blenderbot Small).
    SumAndTokens,
}

/// How positions enter the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    /// A learned table, behind so many rows.
    Learned(usize),
    /// Sines and cosines, which a file may hold as a table.
    Table,
    /// fairseq's sines and cosines, of positions that leave padding out.
    BesidePadding,
}

const PLAIN: Style = Style {
    pre_norm: false,
    embedding_norm: EmbeddingNorm::Sum,
    places: Places::Learned(2),
    has_logits_bias: true,
    labels: Labels::Repeated,
};

const LANGUAGES: Style = Style {
    labels: Labels::RepeatedBehindLast,
    ..PLAIN
};

const PRE_NORM: Style = Style {
    pre_norm: true,
    embedding_norm: EmbeddingNorm::None,
    labels: Labels::Given,
    ..PLAIN
};

/// BART.
pub fn bart(config: &Config) -> Result<Described, SpecError> {
    describe(config, PLAIN)
}

/// mBART (Liu et al. 2020).
pub fn mbart(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        pre_norm: true,
        ..LANGUAGES
    };
    describe(config, style)
}

/// PLBART (Ahmad et al. 2021).
pub fn plbart(config: &Config) -> Result<Described, SpecError> {
    describe(config, LANGUAGES)
}

/// MVP (Tang et al. 2022) without its prompts.
pub fn mvp(config: &Config) -> Result<Described, SpecError> {
    config.off("use_prompt", "prompts in front of keys are not known")?;
    config.ignore(&["prompt_length", "prompt_mid_dim"]);
    describe(config, PLAIN)
}

/// Blenderbot (Roller et al. 2020).
pub fn blenderbot(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::Learned(0),
        ..PRE_NORM
    };
    describe(config, style)
}

/// Blenderbot Small.
pub fn blenderbot_small(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        embedding_norm: EmbeddingNorm::SumAndTokens,
        places: Places::Learned(0),
        labels: Labels::Given,
        ..PLAIN
    };
    describe(config, style)
}

/// Pegasus (Zhang et al. 2019).
pub fn pegasus(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::Table,
        ..PRE_NORM
    };
    describe(config, style)
}

/// Marian (Junczys-Dowmunt et al. 2018).
pub fn marian(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        embedding_norm: EmbeddingNorm::None,
        places: Places::Table,
        labels: Labels::Given,
        ..PLAIN
    };
    describe(config, style)
}

/// M2M-100 (Fan et al. 2020) and NLLB-200.
pub fn m2m_100(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::BesidePadding,
        has_logits_bias: false,
        ..PRE_NORM
    };
    describe(config, style)
}

fn describe(config: &Config, style: Style) -> Result<Described, SpecError> {
    // None changes which stacks a class has, or what they compute.
    config.ignore(&["is_encoder_decoder", "is_decoder", "forced_eos_token_id"]);
    config.ignore(&["encoder_no_repeat_ngram_size"]);
    let mut decoder = half(config, "decoder", style)?;
    let has_decoder_alone = config.class()?.task == Task::CausalLm;
    let shares = vocabularies(config, &mut decoder, has_decoder_alone)?;
    decoder.unused_head = UnusedHead {
        without: &["lm_head.weight", LOGITS_BIAS],
        tied: &["lm_head.weight"],
        own: &[],
    };
    if has_decoder_alone {
        config.ignore(&[
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
        ]);
        config.ignore(&["decoder_start_token_id", "pad_token_id"]);
        // Its attention to an encoder is stored all the same.
        decoder.ignored.push("*decoder.layers.*.encoder_attn*");
        return decoder.build();
    }
    let mut encoder = half(config, "encoder", style)?;
    encoder.masks.fill(Mask::Full);
    let padding = config.token_id("pad_token_id")?;
    let start = if style.labels == Labels::RepeatedBehindLast {
        config.ignore(&["decoder_start_token_id"]);
        Some(ShiftStart::LastLabel)
    } else {
        config
            .token_id("decoder_start_token_id")?
            .map(ShiftStart::Token)
    };
    let shift = start.zip(padding);
    decoder.sequence = Sequence::Decoder(DecoderInput {
        shift: shift.map(|(start, padding)| LabelShift { start, padding }),
        repeats: style.labels != Labels::Given,
    });
    let norm = "encoder_attn_layer_norm";
    decoder.cross = Some(Cross {
        stack: 0,
        norms: if style.pre_norm {
            Norms::before(norm)
        } else {
            Norms::sum(norm)
        },
        projections: [
            "encoder_attn.q_proj",
            "encoder_attn.k_proj",
            "encoder_attn.v_proj",
        ],
        output: "encoder_attn.out_proj",
    });
    if style.has_logits_bias {
        let outputs = decoder.vocabulary()?;
        decoder.further_head = Some(Rc::new(move |leaves, head| add_bias(leaves, head, outputs)));
    }
    if shares {
        for half in [&mut encoder, &mut decoder] {
            half.shared_tokens = Some(SHARED);
        }
    }
    decoder.build_behind(encoder)
}

/// Whether both stacks have one token table where the head is tied; else the decoder's vocabulary is its own (Marian).
fn vocabularies(
    config: &Config,
    decoder: &mut Blocks<'_>,
    is_alone: bool,
) -> Result<bool, SpecError> {
    const KEY: &str = "share_encoder_decoder_embeddings";
    const OWN: &str = "decoder_vocab_size";
    if !config.declares(KEY) {
        return Ok(true);
    }
    let shares = config.flag(KEY)?;
    if shares && !is_alone {
        config.ignore(&[OWN]);
        return Ok(true);
    }
    decoder.vocab_size = config.optional_size(OWN)?;
    if is_alone {
        decoder.outputs = Some(config.size("vocab_size")?);
    }
    Ok(false)
}

/// One of the two stacks.
fn half<'c>(config: &'c Config, name: &'static str, style: Style) -> Result<Blocks<'c>, SpecError> {
    let hidden_size = config.size("d_model")?;
    let key = format!("{name}_attention_heads");
    let heads = config.heads(&key)?;
    let head_dim = divided(config, &key, hidden_size, heads)?;
    let norm = NormStyle::layer(1e-5);
    let layers = config.layers(&format!("{name}_layers"))?;
    let sizes = [hidden_size, config.size(&format!("{name}_ffn_dim"))?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (half.family, half.stack, half.names) = ("bart", name, BART);
    half.prefix = format!("{}{name}.", half.prefix);
    let norms = ["self_attn_layer_norm", "final_layer_norm"];
    half.arrangement = if style.pre_norm {
        Arrangement::pre(norms[0], norms[1])
    } else {
        half.final_norm = None;
        Arrangement::after_sum(norms[0], norms[1])
    };
    half.ignored.clear();
    half.set_biases(true);
    half.gated = false;
    half.activation = config.activation("activation_function")?;
    half.may_look_ahead = false;
    place(&mut half, config, style.places)?;
    let is_scaled = config.flag("scale_embedding")?;
    let of_tokens = style.embedding_norm == EmbeddingNorm::SumAndTokens && name == "decoder";
    if is_scaled && !of_tokens {
        half.embedding_scale = (hidden_size as f64).sqrt();
    }
    let embedding_norm = Some(("layernorm_embedding", norm));
    match style.embedding_norm {
        EmbeddingNorm::None => {}
        EmbeddingNorm::SumAndTokens if of_tokens => half.token_norm = embedding_norm,
        EmbeddingNorm::Sum | EmbeddingNorm::SumAndTokens => half.embedding_norm = embedding_norm,
    }
    Ok(half)
}

/// How positions enter.
fn place(half: &mut Blocks<'_>, config: &Config, places: Places) -> Result<(), SpecError> {
    const NAME: &str = "embed_positions";
    let positions = config.size("max_position_embeddings")?;
    match places {
        Places::Learned(offset) => half.learned_positions(NAME, offset, positions),
        Places::Table => {
            if !half.hidden_size.is_multiple_of(2) {
                return Err(config.invalid("d_model", "an even number"));
            }
            half.learned_positions(NAME, 0, positions);
            if let Some(Table::Learned { otherwise, .. }) = &mut half.table {
                *otherwise = Some(Sinusoidal {
                    offset: 0,
                    interleaved: false,
                    denominator: (half.hidden_size / 2) as f64,
                    zero_row: None,
                });
            }
        }
        Places::BesidePadding => {
            let padding = config.token_id("pad_token_id")?;
            let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
            half.table = Some(Table::Sinusoidal(tensor2tensor(
                config,
                half.hidden_size,
                0,
                Some(padding),
            )?));
            half.position_ids = PositionIds::AfterPadding { padding };
            half.length_limit = Some(LengthLimit::Trained(positions));
            half.ignored = vec!["*embed_positions.weights", "*embed_positions._float_tensor"];
        }
    }
    Ok(())
}

/// The addend of the logits.
fn add_bias(leaves: &mut Leaves, head: &mut Head, outputs: usize) {
    if let Some(logits) = &mut head.logits {
        leaves.optional(Some(LOGITS_BIAS));
        let source = Source::Reshape(Box::new(leaves.tensor(LOGITS_BIAS)));
        let addend = leaves.weight(source, &[outputs], Shard::Column);
        leaves.set_buffer(addend);
        logits.projection.bias = Some(addend);
    }
}

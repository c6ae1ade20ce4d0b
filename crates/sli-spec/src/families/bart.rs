//! BART (Lewis et al. 2019) and what is built like it: an encoder and a decoder, each with positions of its own.

use std::rc::Rc;

use serde_json::Value;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::bert::sparse_blocks;
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, Cross, MixerOf, Norms, Projections, SharedTokens, Table,
    UnusedHead,
};
use crate::families::gpt::{BART, tensor2tensor};
use crate::model_type::{ModelType, limited, row};
use crate::{
    Activation, Config, DecoderInput, Described, Features, GlobalLocal, GlobalTokens, Head, Layout,
    LengthLimit, Mask, Mixer, PositionIds, PositionTable, Sequence, Shard, ShiftStart, Sinusoidal,
    Source, SpecError, StemStep, Task, TieOrder, TokenInput,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("bart", bart),
    row("bigbird_pegasus", bigbird_pegasus),
    row("blenderbot", blenderbot),
    row("blenderbot-small", blenderbot_small),
    row("fsmt", fsmt),
    row("led", led),
    row("m2m_100", m2m_100),
    row("marian", marian),
    row("mbart", mbart),
    limited(row("mvp", mvp), "without its prompts (`use_prompt`)"),
    row("pegasus", pegasus),
    row("pegasus_x", pegasus_x),
    row("plbart", plbart),
    limited(row("trocr", trocr), "the decoder alone, without pictures"),
    limited(
        row("whisper", whisper),
        "the decoder alone (`WhisperForCausalLM`), without sound",
    ),
];

/// The addend of the logits, which a checkpoint may lack: then it is zero.
pub const LOGITS_BIAS: &str = "final_logits_bias";

/// The table of both stacks.
pub(super) const SHARED: SharedTokens = SharedTokens {
    name: "shared",
    order: TieOrder::HeadFirst,
    tied: &[
        "*encoder.embed_tokens.weight",
        "*decoder.embed_tokens.weight",
        // Where both stacks have tables of their own.
        "*shared.weight",
    ],
    own: &["*shared.weight"],
};

pub(super) const BACKWARDS: SharedTokens = SharedTokens {
    order: TieOrder::Backwards,
    ..SHARED
};

/// What the types differ in.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Norms stand in front of the sublayers and behind the last layer; else behind the sums.
    pub pre_norm: bool,
    /// Of the embedding.
    pub embedding_norm: EmbeddingNorm,
    /// How positions enter.
    pub places: Places,
    /// The logits have an addend.
    pub has_logits_bias: bool,
    /// What else a stack differs in.
    pub differ: fn(&Config, &mut Blocks<'_>) -> Result<(), SpecError>,
    /// What the decoder gets.
    pub labels: Labels,
    /// The token table of both stacks, where the head is tied.
    pub shared: Option<SharedTokens>,
    /// The attention to the encoder: norm, queries, keys, values, output.
    pub cross: [&'static str; 5],
}

/// What a decoder gets where a record does not say it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// Nothing.
    Given,
    /// The encoder's tokens are its labels.
    Repeated,
    /// The same, and labels are shifted behind the last of them, which names the language.
    RepeatedBehindLast,
}

/// The norm of the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EmbeddingNorm {
    None,
    /// Of the sum.
    Sum,
    /// Of the sum in the encoder, of the unscaled tokens in the decoder (Blenderbot Small).
    SumAndTokens,
}

/// How positions enter the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// A learned table, behind so many rows.
    Learned(usize),
    /// Sines and cosines, which a file may hold as a table.
    Table,
    /// tensor2tensor's, which no file holds.
    Computed,
    /// fairseq's, which a file may hold as a table.
    TableBesidePadding,
    /// fairseq's sines and cosines, of positions that leave padding out.
    BesidePadding,
}

/// BART's.
pub(super) const PLAIN: Style = Style {
    pre_norm: false,
    embedding_norm: EmbeddingNorm::Sum,
    places: Places::Learned(2),
    has_logits_bias: true,
    differ: |_, _| Ok(()),
    labels: Labels::Repeated,
    shared: Some(SHARED),
    cross: [
        "encoder_attn_layer_norm",
        "encoder_attn.q_proj",
        "encoder_attn.k_proj",
        "encoder_attn.v_proj",
        "encoder_attn.out_proj",
    ],
};

const LANGUAGES: Style = Style {
    labels: Labels::RepeatedBehindLast,
    ..PLAIN
};

/// With norms in front.
pub(super) const PRE_NORM: Style = Style {
    pre_norm: true,
    embedding_norm: EmbeddingNorm::None,
    labels: Labels::Given,
    ..PLAIN
};

/// BART.
pub fn bart(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        shared: Some(BACKWARDS),
        ..PLAIN
    };
    describe(config, style)
}

/// mBART (Liu et al. 2020).
pub fn mbart(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        pre_norm: true,
        shared: Some(BACKWARDS),
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
        shared: Some(BACKWARDS),
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
        shared: Some(BACKWARDS),
        ..PLAIN
    };
    describe(config, style)
}

/// M2M-100 (Fan et al. 2020) and NLLB-200.
pub fn m2m_100(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::BesidePadding,
        has_logits_bias: false,
        shared: Some(BACKWARDS),
        ..PRE_NORM
    };
    describe(config, style)
}

/// FSMT (Ng et al. 2019): each language has a vocabulary of its own.
pub fn fsmt(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "langs",
        "early_stopping",
        "length_penalty",
        "max_length",
        "num_beams",
    ]);
    let style = Style {
        embedding_norm: EmbeddingNorm::None,
        places: Places::TableBesidePadding,
        has_logits_bias: false,
        labels: Labels::RepeatedBehindLast,
        shared: Some(SHARED_OF_DECODER),
        differ: |config, half| {
            let tied = half.stack == "decoder";
            let key = if tied {
                "tgt_vocab_size"
            } else {
                "src_vocab_size"
            };
            half.vocab_size = Some(config.size(key)?);
            if tied {
                half.names.head = "model.decoder.output_projection";
                half.unused_head = UnusedHead::projection(&["*decoder.output_projection.weight"]);
                // The reference hides them from the decoder's other tokens.
                half.refused_token = config.token_id("pad_token_id")?;
            }
            Ok(())
        },
        ..PLAIN
    };
    describe(config, style)
}

/// LED (Beltagy et al. 2020): an encoder that looks around, as far in each layer as that says.
pub fn led(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::Learned(0),
        differ: |config, half| {
            if half.stack == "encoder" {
                windows(config, half)?;
            }
            Ok(())
        },
        ..PLAIN
    };
    describe(config, style)
}

fn windows(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    const KEY: &str = "attention_window";
    let layers = encoder.layers();
    let mut windows = config.sizes(KEY)?;
    if config.value(KEY).is_some_and(Value::is_number) {
        windows = windows.repeat(layers);
    }
    if windows.len() != layers || windows.iter().any(|window| window % 2 != 0) {
        let expected = format!("an even number, or one for each of {layers} layers");
        return Err(config.invalid(KEY, expected));
    }
    encoder.masks = windows
        .iter()
        .map(|window| Mask::Window(window / 2))
        .collect();
    encoder.names.projections = Projections::Separate([
        "self_attn.longformer_self_attn.query",
        "self_attn.longformer_self_attn.key",
        "self_attn.longformer_self_attn.value",
    ]);
    encoder.names.output = "self_attn.output";
    encoder.further_input = Some(Rc::new(|_, embedding| {
        embedding.inputs.push(TokenInput::global_tokens(false));
    }));
    encoder.attention_of = MixerOf::new(|blocks, leaves, layer| {
        let names = [
            "self_attn.longformer_self_attn.query_global",
            "self_attn.longformer_self_attn.key_global",
            "self_attn.longformer_self_attn.value_global",
        ];
        let shape = [blocks.heads * blocks.head_dim, blocks.hidden_size];
        let projections = names.map(|name| leaves.linear(name, shape, true, Shard::Column));
        Some(Mixer::GlobalTokens(Box::new(GlobalTokens {
            attention: blocks.usual_attention(leaves, layer),
            projections,
        })))
    });
    Ok(())
}

/// BigBird-Pegasus (Zaheer et al. 2020).
pub fn bigbird_pegasus(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::Learned(0),
        labels: Labels::Repeated,
        differ: |config, half| {
            half.set_attention_bias(config.flag("use_bias")?);
            half.names.final_norm = "layernorm_embedding";
            if half.stack == "decoder" {
                config.ignore(&["attention_type", "block_size", "num_random_blocks"]);
                return Ok(());
            }
            half.names.projections = Projections::Separate([
                "self_attn.self.query",
                "self_attn.self.key",
                "self_attn.self.value",
            ]);
            half.names.output = "self_attn.output";
            sparse_blocks(config, half)
        },
        ..PRE_NORM
    };
    describe(config, style)
}

/// PEGASUS-X (Phang et al. 2022): an encoder that sees blocks, and rows in front of a record.
pub fn pegasus_x(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["encoder_layerdrop", "decoder_layerdrop"]);
    let style = Style {
        places: Places::Computed,
        has_logits_bias: false,
        differ: |config, half| {
            half.set_attention_bias(false);
            if half.stack == "encoder" {
                blocks_and_front(config, half)?;
            }
            Ok(())
        },
        ..PRE_NORM
    };
    describe(config, style)
}

/// Rows of a table of their own in front, and blocks that every other layer shifts by half of one.
fn blocks_and_front(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let (rows, block) = (
        config.size("num_global_tokens")?,
        config.size("block_size")?,
    );
    let shifts = config.flag("stagger_local_blocks")?;
    if shifts && block % 2 != 0 {
        return Err(config.invalid(
            "block_size",
            "an even number, as blocks shift by half of one",
        ));
    }
    // They stand in for tokens, whose rows they replace.
    encoder.prompt = vec![0; rows];
    encoder.position_ids = PositionIds::BehindPrompt(rows);
    let hidden = encoder.hidden_size;
    encoder.further_input = Some(Rc::new(move |leaves, embedding| {
        embedding.prompt = Some(leaves.table("embed_global.weight", rows, hidden));
    }));
    encoder.arrangement.attention = Some(Norms::default());
    encoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let names = ["global_self_attn_layer_norm", "self_attn_layer_norm"];
        let norms = names.map(|name| leaves.norm(name, blocks.hidden_size, blocks.norm));
        Some(Mixer::GlobalLocal(Box::new(GlobalLocal {
            attention: blocks.usual_attention(leaves, layer),
            norms,
            block,
            shift: if shifts && layer % 2 == 1 {
                block / 2
            } else {
                0
            },
        })))
    });
    Ok(())
}

/// TrOCR (Li et al. 2021): the decoder alone.
pub fn trocr(config: &Config) -> Result<Described, SpecError> {
    if !config.is_part() {
        config.ignore(&["cross_attention_hidden_size"]);
    }
    config.neutral(
        "use_learned_position_embeddings",
        &[Value::Bool(true)],
        "computed positions are not known: transformers 5.23 cannot load such a model",
    )?;
    let is_normed = config.flag("layernorm_embedding")?;
    let style = Style {
        embedding_norm: if is_normed {
            EmbeddingNorm::Sum
        } else {
            EmbeddingNorm::None
        },
        differ: |_, half| {
            half.names.head = "output_projection";
            half.unused_head = UnusedHead::projection(&["output_projection.weight"]);
            Ok(())
        },
        ..PLAIN
    };
    describe(config, style)
}

/// Whisper (Radford et al. 2022): mel frames through two convolutions to an encoder, and a decoder, which may be alone.
pub fn whisper(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["scale_embedding", "num_mel_bins", "max_source_positions"]);
    // Of sound, of training, of generation, of classification.
    config.ignore(&[
        "apply_spec_augment",
        "begin_suppress_tokens",
        "classifier_proj_size",
        "mask_feature_length",
        "mask_feature_min_masks",
        "mask_feature_prob",
        "mask_time_length",
        "mask_time_min_masks",
        "mask_time_prob",
        "median_filter_width",
        "suppress_tokens",
        "use_weighted_layer_sum",
    ]);
    let style = Style {
        places: Places::Learned(0),
        has_logits_bias: false,
        labels: Labels::Given,
        shared: None,
        differ: |config, half| {
            if half.stack == "encoder" {
                hear(config, half)?;
            }
            half.names.head = "proj_out";
            half.unused_head = UnusedHead::projection(&["proj_out.weight"]);
            half.keys_without_bias = true;
            half.embedding_scale = 1.0;
            Ok(())
        },
        ..PRE_NORM
    };
    describe(config, style)
}

/// Frames through convolutions, of which the second takes every other one.
fn hear(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let (channels, width) = (config.size("num_mel_bins")?, encoder.hidden_size);
    let rows = config.size("max_source_positions")?;
    encoder.length_limit = Some(LengthLimit::None);
    encoder.features = Some(Rc::new(move |leaves| Features {
        leaves: Vec::new(),
        name: "input_features",
        layout: Layout::Channels,
        channels,
        frames: Some(2 * rows),
        stem: [
            leaves.dense_convolution("conv1", [channels, width], [3, 1], Activation::Gelu, true),
            leaves.dense_convolution("conv2", [width; 2], [3, 2], Activation::Gelu, true),
        ]
        .map(StemStep::Convolution)
        .into(),
        scale: 1.0,
        positions: Some(PositionTable::Learned {
            weight: leaves.table("embed_positions.weight", rows, width),
            offset: 0,
            rows,
            otherwise: None,
        }),
        norm: None,
    }));
    Ok(())
}

/// What such a type is.
pub(super) fn describe(config: &Config, style: Style) -> Result<Described, SpecError> {
    describe_part(config, None, style)
}

/// The same as a part of a model whose configuration and prefix these are.
pub(super) fn describe_part<'c>(
    config: &'c Config,
    whole: Option<(&'c Config, &str)>,
    style: Style,
) -> Result<Described, SpecError> {
    // None changes which stacks a class has, or what they compute.
    config.ignore(&["is_encoder_decoder", "is_decoder", "forced_eos_token_id"]);
    config.ignore(&["encoder_no_repeat_ngram_size"]);
    let mut decoder = half(config, "decoder", style)?;
    set_whole(&mut decoder, whole);
    decoder.sequence_classifier = Some(Classifier::LAST_LABEL);
    let has_decoder_alone = config.class()?.task == Task::CausalLm;
    let shared = vocabularies(config, style, &mut decoder)?;

    if has_decoder_alone {
        config.ignore(&[
            "encoder_layers",
            "encoder_attention_heads",
            "encoder_ffn_dim",
        ]);
        config.ignore(&["decoder_start_token_id", "pad_token_id"]);
        if config.is_part() {
            const WIDTH: &str = "cross_attention_hidden_size";
            let width = config.declares(WIDTH).then(|| config.optional_size(WIDTH));
            decoder.cross = Some(Cross {
                width: width.transpose()?.flatten(),
                ..cross(style)
            });
        } else {
            // Its attention to an encoder is stored all the same.
            decoder.ignored.push("*decoder.layers.*.encoder_attn*");
        }
        return decoder.build();
    }
    let mut encoder = half(config, "encoder", style)?;
    set_whole(&mut encoder, whole);
    let padding = config.token_id("pad_token_id")?;
    let start = if style.labels == Labels::RepeatedBehindLast {
        config.ignore(&["decoder_start_token_id"]);
        Some(ShiftStart::LastLabel)
    } else {
        config
            .token_id("decoder_start_token_id")?
            .map(ShiftStart::Token)
    };
    decoder.sequence = Sequence::Decoder(DecoderInput {
        repeats: style.labels != Labels::Given,
        ..DecoderInput::shifted(start, padding)
    });
    decoder.cross = Some(cross(style));
    if style.has_logits_bias {
        let outputs = decoder.vocabulary()?;
        decoder.further_head = Some(Rc::new(move |leaves, head| add_bias(leaves, head, outputs)));
    }
    for half in [&mut encoder, &mut decoder] {
        half.shared_tokens = shared;
    }
    decoder.build_behind(encoder)
}

/// The attention to the encoder.
pub(super) fn cross(style: Style) -> Cross {
    let [norm, query, key, value, output] = style.cross;
    Cross {
        stack: 0,
        width: None,
        norms: if style.pre_norm {
            Norms::before(norm)
        } else {
            Norms::sum(norm)
        },
        projections: [query, key, value],
        output,
    }
}

fn set_whole<'c>(half: &mut Blocks<'c>, whole: Option<(&'c Config, &str)>) {
    if let Some((whole, prefix)) = whole {
        half.whole = Some(whole);
        half.prefix = format!("{prefix}{}.", half.stack);
    }
}

/// FSMT's, which is named after the decoder.
const SHARED_OF_DECODER: SharedTokens = SharedTokens {
    name: "decoder.embed_tokens",
    order: TieOrder::HeadLast,
    tied: &["*encoder.embed_tokens.weight"],
    own: &[],
};

/// The token table that both stacks have where the head is tied; none: the decoder's vocabulary is its own (Marian).
fn vocabularies(
    config: &Config,
    style: Style,
    decoder: &mut Blocks<'_>,
) -> Result<Option<SharedTokens>, SpecError> {
    const KEY: &str = "share_encoder_decoder_embeddings";
    const OWN: &str = "decoder_vocab_size";
    if !config.declares(KEY) {
        return Ok(style.shared);
    }
    let is_alone = config.class()?.task == Task::CausalLm;
    let shares = config.flag(KEY)?;
    if shares && !is_alone {
        config.ignore(&[OWN]);
        return Ok(style.shared);
    }
    decoder.vocab_size = config.optional_size(OWN)?;
    if is_alone {
        decoder.outputs = Some(config.size("vocab_size")?);
    }
    Ok(None)
}

/// One of the two stacks.
pub(super) fn half<'c>(
    config: &'c Config,
    name: &'static str,
    style: Style,
) -> Result<Blocks<'c>, SpecError> {
    let width = ["d_model", "hidden_size"];
    let width = width.into_iter().find(|key| config.declares(key));
    let hidden_size = config.size(width.unwrap_or("d_model"))?;
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
    half.unused_head = UnusedHead {
        without: &["lm_head.weight", LOGITS_BIAS],
        tied: &["lm_head.weight"],
        own: &[],
    };
    if name == "encoder" {
        half.masks.fill(Mask::Full);
    }
    (style.differ)(config, &mut half)?;
    Ok(half)
}

/// How positions enter.
fn place(half: &mut Blocks<'_>, config: &Config, places: Places) -> Result<(), SpecError> {
    const NAME: &str = "embed_positions";
    let of_stack = match half.stack {
        "encoder" => ["max_encoder_position_embeddings", "max_source_positions"],
        _ => ["max_decoder_position_embeddings", "max_target_positions"],
    };
    let mut keys = of_stack.into_iter().filter(|key| config.declares(key));
    let positions = config.size(keys.next().unwrap_or("max_position_embeddings"))?;
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
                    scale: 1.0,
                });
            }
        }
        Places::Computed => {
            let sines = tensor2tensor(config, half.hidden_size, 0, None)?;
            half.table = Some(Table::Sinusoidal(sines));
            half.length_limit = Some(LengthLimit::Trained(positions));
        }
        Places::BesidePadding | Places::TableBesidePadding => {
            let padding = config.token_id("pad_token_id")?;
            let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
            let sines = tensor2tensor(config, half.hidden_size, 0, Some(padding))?;
            half.position_ids = PositionIds::AfterPadding { padding };
            if places == Places::TableBesidePadding {
                half.table = Some(Table::Learned {
                    name: NAME,
                    offset: 0,
                    rows: positions + padding as usize + 1,
                    otherwise: Some(sines),
                });
                half.length_limit = Some(LengthLimit::Table(positions));
                return Ok(());
            }
            half.table = Some(Table::Sinusoidal(sines));
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

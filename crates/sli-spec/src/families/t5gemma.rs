//! T5Gemma (Zhang et al. 2025): two stacks of Gemma 2's layers, the second with an attention to the first; and T5Gemma 2, of
//! Gemma 3's.

use std::rc::Rc;

use crate::build::divided;
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, Cross, InFront, Judged, Norms, SharedTokens, UnusedHead,
};
use crate::families::gemma;
use crate::model_type::{ModelType, limited, row};
use crate::{
    Config, DecoderInput, Described, Mask, Sequence, Shard, ShiftStart, SpecError, Task, TieOrder,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("t5gemma", t5gemma),
    limited(row("t5gemma2", t5gemma2), "without pictures"),
    limited(
        row("t5gemma2_encoder", t5gemma2_encoder),
        "without pictures",
    ),
];

/// Whether the classes are those of the decoder behind the encoder.
const BOTH: &str = "is_encoder_decoder";
/// The type of both parts.
const MODULE: &str = "t5_gemma_module";

const ARRANGEMENT: Arrangement = Arrangement::sandwich(
    ["pre_self_attn_layernorm", "post_self_attn_layernorm"],
    ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
);

/// T5Gemma.
pub fn t5gemma(config: &Config) -> Result<Described, SpecError> {
    // What it says again of its parts.
    config.ignore(&["classifier_dropout_rate", "vocab_size"]);
    let task = config.class()?.task;
    let classifies = matches!(
        task,
        Task::SequenceClassification | Task::TokenClassification
    );
    let is_encoder = if classifies {
        // Where the file does not say, the class does: both parts.
        !config.flag(BOTH)? && config.mentions(BOTH)
    } else {
        config.ignore(&[BOTH]);
        task == Task::Encoder
    };
    let parts = ["encoder", "decoder"].map(|part| config.part(part, MODULE, None, &[]));
    let [encoder_config, decoder_config] = parts;
    let (encoder_config, decoder_config) = (encoder_config?, decoder_config?);
    let mut encoder = half(config, &encoder_config, "encoder")?;
    for mask in &mut encoder.masks {
        mask.look_ahead();
    }
    let mut decoder = half(config, &decoder_config, "decoder")?;
    if classifies {
        let padding = config.token_id("pad_token_id")?;
        if padding.is_some() && padding != encoder.refused_token {
            let reason = "the padding of the classes is another than that of the encoder";
            return Err(config.unsupported("pad_token_id", reason));
        }
    }
    if is_encoder {
        decoder_config.ignore(&["max_position_embeddings", "vocab_size"]);
        encoder.unused_head = UnusedHead::projection(&["*decoder.*", "lm_head.*"]);
        return encoder.build();
    }
    decoder.names.head = "lm_head.out_proj";
    decoder.unused_head = UnusedHead::projection(&["lm_head.out_proj.weight"]);
    let start = decoder_config.token_id("bos_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput {
        repeats: classifies,
        ..DecoderInput::shifted(start.map(ShiftStart::Token), decoder.refused_token)
    });
    decoder.cross = Some(Cross {
        stack: 0,
        width: Some(encoder.hidden_size),
        norms: Norms::around(["pre_cross_attn_layernorm", "post_cross_attn_layernorm"]),
        projections: [
            "cross_attn.q_proj",
            "cross_attn.k_proj",
            "cross_attn.v_proj",
        ],
        output: "cross_attn.o_proj",
    });
    decoder.build_behind(encoder)
}

/// One of the two stacks.
fn half<'c>(
    whole: &'c Config,
    config: &'c Config,
    name: &'static str,
) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&[
        "cross_attention_hidden_size",
        "is_decoder",
        "tie_word_embeddings",
    ]);
    let mut half = gemma::second(config)?;
    half.whole = Some(whole);
    (half.family, half.stack) = ("t5gemma", name);
    half.prefix = format!("{}{name}.", whole.row()?.base_prefix);
    half.arrangement = ARRANGEMENT;
    gemma::alternating(config, &mut half)?;
    half.refused_token = config.token_id("pad_token_id")?;
    // Records have no padding. What the decoder reads is them, shifted, so its last row stands for them.
    let of = |judged| Classifier::with_bias(judged, InFront::Nothing, &["score.out_proj"]);
    (half.sequence_classifier, half.token_classifier) =
        (Some(of(Judged::Last)), of(Judged::Tokens));
    half.may_look_ahead = false;
    Ok(half)
}

/// The table of both stacks.
const SHARED: SharedTokens = SharedTokens {
    name: "encoder.embed_tokens",
    order: TieOrder::HeadFirst,
    tied: &["*decoder.embed_tokens.*"],
    own: &[],
};

/// Of pictures.
const PICTURES: [&str; 2] = ["*vision_tower.*", "*multi_modal_projector.*"];

/// T5Gemma 2 without pictures: one softmax of the decoder's queries over its own keys and the encoder's.
pub fn t5gemma2(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["classifier_dropout_rate", "vocab_size"]);
    config.ignore(&["image_token_index", "eoi_token_index"]);
    let reason = "it has an encoder and a decoder";
    config.neutral("is_encoder_decoder", &[true.into()], reason)?;
    let outer = config.part("encoder", "t5gemma2_encoder", None, &[])?;
    outer.ignore(&["tie_word_embeddings"]);
    let text = outer.part("text_config", "t5gemma2_text", None, &[])?;
    let decoder_config = config.part("decoder", "t5gemma2_decoder", None, &[])?;
    let picture = end_of_picture(&outer)?;
    let tied = config.flag("tie_word_embeddings")?;
    let mut encoder = second_half(&text, "encoder")?;
    encoder.prefix = format!("{}encoder.", config.row()?.base_prefix);
    look_around(&text, &mut encoder)?;
    let mut decoder = second_half(&decoder_config, "decoder")?;
    decoder.prefix = format!("{}decoder.", config.row()?.base_prefix);
    if encoder.hidden_size != decoder.hidden_size {
        let expected = format!("{}, as of the encoder", encoder.hidden_size);
        return Err(decoder_config.invalid("hidden_size", expected));
    }
    for (half, prefix) in [
        (&mut encoder, "encoder."),
        (&mut decoder, if tied { "encoder." } else { "decoder." }),
    ] {
        half.whole = Some(config);
        half.shared_tokens = Some(SHARED);
        set_picture(
            half,
            picture,
            format!("{}{prefix}", config.row()?.base_prefix),
        );
    }
    decoder.merged = Some(0);
    decoder.names.head = "lm_head.out_proj";
    decoder.unused_head = UnusedHead::projection(&["lm_head.out_proj.weight"]);
    decoder.ignored.extend(PICTURES);
    let classifies = matches!(
        config.class()?.task,
        Task::SequenceClassification | Task::TokenClassification
    );
    if config.class()?.task == Task::SequenceClassification {
        // It would be the row behind the last token that is no padding.
        encoder.refused_token = config.token_id("pad_token_id")?;
    } else {
        config.ignore(&["pad_token_id"]);
    }
    let start = decoder_config.token_id("bos_token_id")?;
    let padding = decoder_config.token_id("pad_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput {
        repeats: classifies,
        ..DecoderInput::shifted(start.map(ShiftStart::Token), padding)
    });
    decoder.build_behind(encoder)
}

/// The encoder of T5Gemma 2 alone.
pub fn t5gemma2_encoder(config: &Config) -> Result<Described, SpecError> {
    let text = config.part("text_config", "t5gemma2_text", None, &[])?;
    // The class has another one than the file, unless it is a part of a whole model.
    end_of_picture(config)?;
    text.ignore(&["max_position_embeddings"]);
    let mut encoder = second_half(&text, "encoder")?;
    look_around(&text, &mut encoder)?;
    encoder.whole = Some(config);
    encoder.prefix = String::new();
    encoder.ignored.extend(PICTURES);
    set_picture(&mut encoder, Some(256_000), String::new());
    encoder.build()
}

/// The token whose input is a vector of its own, and what is read of pictures alone.
fn end_of_picture(config: &Config) -> Result<Option<u32>, SpecError> {
    config.ignore(&["vision_config", "mm_tokens_per_image", "boi_token_index"]);
    config.ignore(&["image_token_index", "initializer_range"]);
    config.token_id("eoi_token_index")
}

fn set_picture(half: &mut Blocks<'_>, token: Option<u32>, prefix: String) {
    let width = half.hidden_size;
    half.further_input = Some(Rc::new(move |leaves, embedding| {
        let source = crate::Source::tensor(format!("{prefix}embed_tokens.eoi_embedding"));
        let vector = leaves.weight(source, &[width], Shard::Replicate);
        embedding.own_vectors = token.map(|token| (token, vector)).into_iter().collect();
    }));
}

/// A window reaches as far back as ahead, or one less.
fn look_around(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let window = config.size("sliding_window")?;
    for mask in &mut encoder.masks {
        *mask = match mask {
            Mask::CausalWindow(_) => Mask::Around {
                back: window.div_ceil(2) - 1,
                ahead: window / 2,
            },
            _ => Mask::Full,
        };
    }
    Ok(())
}

/// One of the two stacks of T5Gemma 2.
fn second_half<'c>(config: &'c Config, name: &'static str) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&["tie_word_embeddings", "use_bidirectional_attention"]);
    let (mut half, kinds) = gemma::third(config)?;
    divided(config, "num_attention_heads", half.hidden_size, half.heads)?;
    half.mask_by_kinds(&kinds, config.optional_size("sliding_window")?)?;
    (half.family, half.stack) = ("t5gemma", name);
    half.arrangement = ARRANGEMENT;
    half.may_look_ahead = false;
    let of = |judged| Classifier::with_bias(judged, InFront::Nothing, &["score.out_proj"]);
    (half.sequence_classifier, half.token_classifier) =
        (Some(of(Judged::Last)), of(Judged::Tokens));
    Ok(half)
}

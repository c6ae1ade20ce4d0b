//! T5Gemma (Zhang et al. 2025): two stacks of Gemma 2's layers, the second with an attention to the first.

use crate::families::blocks::{
    Arrangement, Blocks, Classifier, Cross, InFront, Judged, Norms, UnusedHead,
};
use crate::families::gemma;
use crate::model_type::{ModelType, row};
use crate::{Config, DecoderInput, Described, LabelShift, Sequence, ShiftStart, SpecError, Task};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("t5gemma", t5gemma)];

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
        !config.flag("is_encoder_decoder")?
    } else {
        config.ignore(&["is_encoder_decoder"]);
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
    let shift = start.map(ShiftStart::Token).zip(decoder.refused_token);
    decoder.sequence = Sequence::Decoder(DecoderInput {
        shift: shift.map(|(start, padding)| LabelShift::new(start, padding)),
        repeats: classifies,
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

//! Decoders behind encoders of pictures, which are not run: their ends come with the record.

use std::rc::Rc;

use crate::build::NormStyle;
use crate::families::bart::{BACKWARDS, Labels, PLAIN, Style, cross, describe_part, half};
use crate::families::blocks::{Blocks, SharedTokens, Tie, UnusedHead};
use crate::model_type::{ModelType, limited, row};
use crate::{
    Config, DecoderInput, Described, Features, LengthLimit, Sequence, ShiftStart, Source, SpecError,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    limited(row("florence2", florence2), "without pictures"),
    limited(
        row("pp_formulanet", pp_formulanet),
        "the decoder, behind an encoder's end that the record brings along",
    ),
];

/// The name of the end of an encoder that is not run.
pub const END: &str = "encoder_hidden_states";

/// Florence-2 (Xiao et al. 2023) without pictures: BART.
pub fn florence2(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["image_token_id", "vision_config", "is_encoder_decoder"]);
    let task = config.class()?.task;
    let text = config.part("text_config", "bart", Some(task), &[])?;
    let style = Style {
        has_logits_bias: false,
        labels: Labels::Given,
        shared: Some(SharedTokens {
            name: "language_model.shared",
            own: &[],
            ..BACKWARDS
        }),
        differ: |text, half| {
            if half.stack == "decoder" {
                half.ignored = vec![
                    "*vision_tower.*",
                    "*multi_modal_projector.*",
                    "*encoder.embed_tokens.weight",
                ];
                // The part decides of its own table, the whole of the head.
                if text.flag("tie_word_embeddings")? {
                    half.ignored.push("*decoder.embed_tokens.weight");
                    half.stored = Some(Rc::new(|name| {
                        Source::tensor(name.replace("decoder.embed_tokens.", "shared."))
                    }));
                }
                return Ok(());
            }
            // Its tokens come of the table of both stacks, whatever is tied.
            half.stored = Some(Rc::new(|name| {
                Source::tensor(name.replace("encoder.embed_tokens.", "shared."))
            }));
            Ok(())
        },
        ..PLAIN
    };
    let prefix = format!("{}language_model.", config.row()?.base_prefix);
    describe_part(&text, Some((config, &prefix)), style)
}

/// PP-FormulaNet (Liu et al. 2025): mBART's decoder.
pub fn pp_formulanet(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["vision_config", "is_encoder_decoder"]);
    let text = config.part("text_config", "pp_formulanet_text", None, &[])?;
    text.ignore(&["encoder_layers", "encoder_attention_heads"]);
    text.ignore(&["is_encoder_decoder", "forced_eos_token_id"]);
    text.ignore(&["decoder_start_token_id", "tie_word_embeddings"]);
    let style = Style {
        pre_norm: true,
        has_logits_bias: false,
        shared: None,
        ..PLAIN
    };
    let mut decoder = half(&text, "decoder", style)?;
    decoder.whole = Some(config);
    decoder.prefix = format!("{}decoder.", config.row()?.base_prefix);
    decoder.tie = Tie::Always(false);
    decoder.ignored = vec!["*encoder.*"];
    decoder.unused_head = UnusedHead::projection(&["lm_head.weight"]);
    decoder.cross = Some(cross(style));
    let padding = text.token_id("pad_token_id")?;
    decoder.sequence =
        Sequence::Decoder(DecoderInput::shifted(Some(ShiftStart::LastLabel), padding));
    let width = decoder.hidden_size;
    decoder.build_behind(given(config, &text, width)?)
}

/// No layers: the record has what the decoder attends to.
fn given<'c>(whole: &'c Config, config: &'c Config, width: usize) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::layer(1e-5);
    let mut given = Blocks::sized(config, norm, 0, [width, width], [1, 1, width])?;
    (given.stack, given.whole) = ("encoder", Some(whole));
    given.final_norm = None;
    given.length_limit = Some(LengthLimit::None);
    given.features = Some(Rc::new(move |_| Features::given(END, width)));
    Ok(given)
}

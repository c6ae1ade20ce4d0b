//! Pix2Struct (Lee et al. 2022): patches of a picture, each with its row and column in front, through T5-like layers, and a
//! decoder like T5's, which may be alone.

use std::rc::Rc;

use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Blocks, Buckets, Cross, Names, Norms, Projections, UnusedHead,
};
use crate::model_type::{ModelType, row};
use crate::{
    Config, DecoderInput, Described, Features, Layout, LengthLimit, Mask, PatchPlaces, Sequence,
    Shard, ShiftStart, SpecError, StemStep,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("pix2struct", pix2struct),
    row("pix2struct_text_model", text),
];

const VISION: Names = Names {
    layers: "encoder.layer",
    projections: Projections::Separate(["attention.query", "attention.key", "attention.value"]),
    output: "attention.output",
    gate: "mlp.wi_0",
    up: "mlp.wi_1",
    down: "mlp.wo",
    final_norm: "layernorm",
    ..Names::USUAL
};

const TEXT: Names = Names {
    layers: "layer",
    projections: Projections::Separate([
        "self_attention.attention.query",
        "self_attention.attention.key",
        "self_attention.attention.value",
    ]),
    output: "self_attention.attention.output",
    gate: "mlp.DenseReluDense.wi_0",
    up: "mlp.DenseReluDense.wi_1",
    down: "mlp.DenseReluDense.wo",
    final_norm: "final_layer_norm",
    ..Names::USUAL
};

const CROSS: Cross = Cross {
    stack: 0,
    width: None,
    norms: Norms::before("encoder_decoder_attention.layer_norm"),
    projections: [
        "encoder_decoder_attention.attention.query",
        "encoder_decoder_attention.attention.key",
        "encoder_decoder_attention.attention.value",
    ],
    output: "encoder_decoder_attention.attention.output",
};

/// Pix2Struct.
pub fn pix2struct(config: &Config) -> Result<Described, SpecError> {
    // What is asked stands in the picture; the other is read of the parts.
    config.ignore(&["is_vqa", "is_encoder_decoder", "decoder_start_token_id"]);
    config.ignore(&["pad_token_id", "eos_token_id"]);
    let vision = config.part("vision_config", "pix2struct_vision_model", None, &[])?;
    let text = config.part("text_config", "pix2struct_text_model", None, &[])?;
    text.ignore(&["tie_word_embeddings"]);
    let encoder = patches(config, &vision)?;
    let mut decoder = half(&text)?;
    if encoder.hidden_size != decoder.hidden_size {
        let expected = format!("{}, as of the encoder", encoder.hidden_size);
        return Err(text.invalid("hidden_size", expected));
    }
    decoder.whole = Some(config);
    decoder.prefix = "decoder.".into();
    decoder.names.head = "decoder.lm_head";
    decoder.unused_head = UnusedHead::projection(&["decoder.lm_head.weight"]);
    let start = text.token_id("decoder_start_token_id")?;
    let mut input =
        DecoderInput::shifted(start.map(ShiftStart::Token), text.token_id("pad_token_id")?);
    if let Some(shift) = &mut input.shift {
        shift.hides_padding = true;
    }
    decoder.sequence = Sequence::Decoder(input);
    decoder.cross = Some(CROSS);
    decoder.build_behind(encoder)
}

/// Its decoder alone, which sees nothing of a picture.
pub fn text(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["decoder_start_token_id", "pad_token_id"]);
    let mut decoder = half(config)?;
    decoder.ignored.push("*encoder_decoder_attention.*");
    decoder.build()
}

fn half(config: &Config) -> Result<Blocks<'_>, SpecError> {
    config.ignore(&["is_encoder_decoder", "add_cross_attention"]);
    let reason = "a decoder whose tokens see later ones is not known";
    config.neutral("is_decoder", &[true.into()], reason)?;
    let (hidden, heads) = (config.size("hidden_size")?, config.heads("num_heads")?);
    let head_dim = config.size("d_kv")?;
    if heads.saturating_mul(head_dim) != hidden {
        return Err(config.invalid(
            "d_kv",
            format!("`hidden_size / num_heads` of {hidden} / {heads}"),
        ));
    }
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let layers = config.layers("num_layers")?;
    let sizes = [hidden, config.size("d_ff")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (half.family, half.names) = ("pix2struct", TEXT);
    half.arrangement = Arrangement::pre("self_attention.layer_norm", "mlp.layer_norm");
    half.ignored.clear();
    half.activation = config.activation("dense_act_fn")?;
    half.attention_scale = 1.0;
    // All layers look into the table of the first.
    let table = "layer.0.self_attention.attention.relative_attention_bias.weight";
    half.buckets = Some(Buckets::read(config, table, false)?);
    half.length_limit = Some(LengthLimit::None);
    half.may_look_ahead = false;
    Ok(half)
}

/// The encoder: patches that all see each other.
fn patches<'c>(whole: &'c Config, config: &'c Config) -> Result<Blocks<'c>, SpecError> {
    // Of an attention that it does not have.
    config.ignore(&[
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
    ]);
    let heads = config.heads("num_attention_heads")?;
    let norm = NormStyle::rms(config.positive("layer_norm_eps")?);
    let layers = config.layers("num_hidden_layers")?;
    let hidden = config.size("hidden_size")?;
    let sizes = [hidden, config.size("d_ff")?];
    let sizes_of_heads = [heads, heads, config.size("d_kv")?];
    let mut encoder = Blocks::sized(config, norm, layers, sizes, sizes_of_heads)?;
    (encoder.family, encoder.stack, encoder.names) = ("pix2struct", "encoder", VISION);
    encoder.whole = Some(whole);
    encoder.prefix = "encoder.".into();
    encoder.arrangement = Arrangement::pre("pre_attention_layer_norm", "pre_mlp_layer_norm");
    encoder.masks.fill(Mask::Full);
    encoder.activation = config.activation("dense_act_fn")?;
    encoder.attention_scale = 1.0;
    encoder.length_limit = Some(LengthLimit::None);
    encoder.may_look_ahead = false;
    let (inner, rows) = (
        config.size("patch_embed_hidden_size")?,
        config.size("seq_len")?,
    );
    encoder.features = Some(Rc::new(move |leaves| {
        let name = "embeddings.patch_projection";
        let projection = leaves.linear(name, [hidden, inner], true, Shard::Replicate);
        let tables = ["row", "column"]
            .map(|axis| leaves.table(&format!("embeddings.{axis}_embedder.weight"), rows, hidden));
        Features {
            layout: Layout::Frames,
            stem: vec![StemStep::Places(PatchPlaces {
                tables,
                rows,
                projection,
            })],
            ..Features::given("flattened_patches", inner + 2)
        }
    }));
    Ok(encoder)
}

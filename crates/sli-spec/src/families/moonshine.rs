//! Moonshine Streaming (2026): frames of samples through causal convolutions to an encoder that sees a window, and
//! Moonshine's decoder.

use std::rc::Rc;

use serde_json::{Value, json};

use crate::build::{NormStyle, divided, head_width};
use crate::families::blocks::Blocks;
use crate::families::speech::decoder_of_moonshine;
use crate::model_type::{ModelType, row};
use crate::rope::RopeOptions;
use crate::{
    Activation, Config, DecoderInput, DenseConvolution, Described, Features, Handed, Layout,
    LengthLimit, Mask, Norm, NormKind, NormOf, PositionTable, Sequence, Shard, ShiftStart,
    SpecError, StemStep,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("moonshine_streaming", streaming)];

/// Moonshine Streaming.
pub fn streaming(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["is_encoder_decoder", "pad_head_dim_to_multiple_of"]);
    let part = config.part("encoder_config", "moonshine_streaming_encoder", None, &[])?;
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(1e-5)
    };
    let mut decoder = half(config, config, "decoder", norm)?;
    if decoder.kv_heads != decoder.heads {
        let problem = "the reference's queries have as many heads as its keys";
        return Err(config.unsupported("num_key_value_heads", problem));
    }
    let assumed =
        json!({"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.8});
    decoder.rotate(&RopeOptions {
        interleaved: true,
        partial: true,
        assumed: Some(&assumed),
        ..RopeOptions::new(decoder.head_dim)
    })?;
    decoder_of_moonshine(&mut decoder);
    let rows = config.size("max_position_embeddings")?;
    let start = config.token_id("decoder_start_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput::shifted(
        start.map(ShiftStart::Token),
        config.token_id("pad_token_id")?,
    ));
    let encoder = encoder(config, &part, [rows, decoder.hidden_size])?;
    decoder.build_behind(encoder)
}

fn encoder<'c>(
    whole: &'c Config,
    config: &'c Config,
    [rows, read]: [usize; 2],
) -> Result<Blocks<'c>, SpecError> {
    // No encoder of it has positions.
    config.ignore(&["max_position_embeddings", "is_encoder_decoder"]);
    let norm = NormStyle {
        bias: false,
        plus_one: true,
        ..NormStyle::layer(1e-5)
    };
    let mut encoder = half(whole, config, "encoder", norm)?;
    encoder.names.norm_factor = "gamma";
    encoder.names.up = "mlp.fc1";
    encoder.names.final_norm = "final_norm";
    encoder.gated = false;
    encoder.output_bias = encoder.query_key_value_bias;
    encoder.masks = windows(config, encoder.layers())?;
    encoder.length_limit = Some(LengthLimit::Table(rows));
    let samples = config.number("sample_rate")? * config.positive("frame_ms")? / 1000.0;
    // As Python rounds.
    let frame = samples.round_ties_even();
    if !(1.0..=65536.0).contains(&frame) {
        return Err(config.invalid("frame_ms", "frames of 1 to 65536 samples"));
    }
    let (width, frame) = (encoder.hidden_size, frame as usize);
    encoder.features = Some(Rc::new(move |leaves| {
        let norm = Norm {
            kind: NormKind::Layer,
            weight: None,
            bias: None,
            epsilon: 1e-6,
        };
        let compression = leaves.scalar("embedder.comp.log_k", false);
        let silu = Activation::Silu;
        let linear = "embedder.linear";
        let mut stem = vec![
            StemStep::Norm(norm, NormOf::Rows),
            StemStep::Compression(compression),
            StemStep::Convolution(leaves.dense_convolution(
                linear,
                [frame, width],
                [1, 1],
                silu,
                false,
            )),
        ];
        for (name, sizes, activation) in [
            ("embedder.conv1", [width, 2 * width], silu),
            ("embedder.conv2", [2 * width, width], Activation::Linear),
        ] {
            stem.push(StemStep::Convolution(DenseConvolution {
                padding: [4, 0],
                ..leaves.dense_convolution(name, sizes, [5, 2], activation, true)
            }));
        }
        Features {
            layout: Layout::Samples,
            stem,
            ..Features::given("input_values", frame)
        }
    }));
    let front = encoder.prefix.replace("encoder.", "decoder.");
    encoder.further_head = Some(Rc::new(move |leaves, head| {
        let table = leaves.table(&format!("{front}pos_emb.weight"), rows, width);
        let projection = (width != read).then(|| {
            let name = format!("{front}proj");
            leaves.linear(&name, [read, width], false, Shard::Replicate)
        });
        head.handed = Some(Handed {
            positions: Some(PositionTable::Learned {
                weight: table,
                offset: 0,
                rows,
                otherwise: None,
            }),
            projection,
        });
    }));
    Ok(encoder)
}

/// How far each layer sees: itself and what is before it, so many rows; what is after it, one less than so many.
fn windows(config: &Config, layers: usize) -> Result<Vec<Mask>, SpecError> {
    const KEY: &str = "sliding_windows";
    let expected = || {
        config.invalid(
            KEY,
            format!("`[LEFT, RIGHT]` for each of {layers} layers, LEFT at least 1"),
        )
    };
    let windows = config.value(KEY).and_then(Value::as_array);
    let windows = windows.ok_or_else(expected)?;
    if windows.len() < layers {
        return Err(expected());
    }
    let window = |window: &Value| {
        let [left, right] = window.as_array()?.as_slice() else {
            return None;
        };
        let size = |value: &Value| usize::try_from(value.as_u64()?).ok();
        Some(Mask::Around {
            back: size(left)?.checked_sub(1)?,
            ahead: size(right)?.saturating_sub(1),
        })
    };
    let masks = windows.iter().take(layers).map(window);
    masks.collect::<Option<_>>().ok_or_else(expected)
}

/// What both stacks are.
fn half<'c>(
    whole: &'c Config,
    config: &'c Config,
    name: &'static str,
    norm: NormStyle,
) -> Result<Blocks<'c>, SpecError> {
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    let head_dim = match config.optional_heads("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_width(config, hidden_size, heads)?,
    };
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let layers = config.layers("num_hidden_layers")?;
    let sizes = [hidden_size, config.size("intermediate_size")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, kv_heads, head_dim])?;
    (half.family, half.stack, half.whole) = ("moonshine", name, Some(whole));
    half.prefix = format!("{}{name}.", whole.row()?.base_prefix);
    half.names.down = "mlp.fc2";
    half.query_key_value_bias = config.flag("attention_bias")?;
    half.set_network_bias(true);
    half.activation = config.activation("hidden_act")?;
    half.may_look_ahead = false;
    Ok(half)
}

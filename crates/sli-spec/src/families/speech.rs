//! Encoder-decoders of speech: what the encoder reads of sound was prepared, and comes as tensors.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, head_width};
use crate::families::bart::{Labels, PRE_NORM, Places, SHARED, Style, describe};
use crate::families::blocks::{Arrangement, Blocks, Cross, Norms, UnusedHead};
use crate::model_type::{ModelType, limited, row};
use crate::rope::RopeOptions;
use crate::{
    Activation, Config, DecoderInput, DenseConvolution, Described, Features, Layout, LengthLimit,
    Mask, NormOf, PositionIds, PositionTable, Sequence, ShiftStart, Sinusoidal, SpecError,
    StemStep,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("moonshine", moonshine),
    limited(row("seamless_m4t", seamless), "from text to text"),
    limited(row("seamless_m4t_v2", seamless), "from text to text"),
    row("speech_to_text", speech_to_text),
];

/// The parts that read and make sound.
const OF_SOUND: [&str; 3] = ["*speech_encoder.*", "*t2u_model.*", "*vocoder.*"];

/// Keys of these parts, and those that no stack of text reads.
const KEYS_OF_SOUND: [&str; 67] = [
    "activation_dropout",
    "adaptor_dropout",
    "adaptor_kernel_size",
    "adaptor_stride",
    "add_adapter",
    "attention_dropout",
    "bos_token_id",
    "char_vocab_size",
    "conv_depthwise_kernel_size",
    "decoder_layerdrop",
    "dropout",
    "encoder_layerdrop",
    "eos_token_id",
    "feature_projection_input_dim",
    "initializer_range",
    "lang_embed_dim",
    "layer_norm_eps",
    "leaky_relu_slope",
    "left_max_position_embeddings",
    "max_new_tokens",
    "max_source_positions",
    "num_adapter_layers",
    "num_conv_pos_embedding_groups",
    "num_conv_pos_embeddings",
    "position_embeddings_type",
    "resblock_dilation_sizes",
    "resblock_kernel_sizes",
    "right_max_position_embeddings",
    "rotary_embedding_base",
    "sampling_rate",
    "speech_encoder_attention_heads",
    "speech_encoder_chunk_size",
    "speech_encoder_dropout",
    "speech_encoder_hidden_act",
    "speech_encoder_intermediate_size",
    "speech_encoder_layerdrop",
    "speech_encoder_layers",
    "speech_encoder_left_chunk_num",
    "spkr_embed_dim",
    "t2u_bos_token_id",
    "t2u_decoder_attention_heads",
    "t2u_decoder_ffn_dim",
    "t2u_decoder_layers",
    "t2u_decoder_start_token_id",
    "t2u_encoder_attention_heads",
    "t2u_encoder_ffn_dim",
    "t2u_encoder_layers",
    "t2u_eos_token_id",
    "t2u_max_new_tokens",
    "t2u_max_position_embeddings",
    "t2u_pad_token_id",
    "t2u_variance_pred_dropout",
    "t2u_variance_predictor_embed_dim",
    "t2u_variance_predictor_hidden_dim",
    "t2u_variance_predictor_kernel_size",
    "t2u_vocab_size",
    "unit_embed_dim",
    "unit_hifi_gan_vocab_size",
    "upsample_initial_channel",
    "upsample_kernel_sizes",
    "upsample_rates",
    "use_cache",
    "var_pred_dropout",
    "variance_predictor_kernel_size",
    "vocoder_num_langs",
    "vocoder_num_spkrs",
    "vocoder_offset",
];

/// SeamlessM4T (Barrault et al. 2023) from text to text: NLLB's stacks.
pub fn seamless(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&KEYS_OF_SOUND);
    let style = Style {
        places: Places::BesidePadding,
        has_logits_bias: false,
        labels: Labels::Given,
        shared: Some(SHARED),
        cross: [
            "cross_attention_layer_norm",
            "cross_attention.q_proj",
            "cross_attention.k_proj",
            "cross_attention.v_proj",
            "cross_attention.out_proj",
        ],
        differ: |config, half| {
            half.prefix = half
                .prefix
                .replace(half.stack, &format!("text_{}", half.stack));
            (half.names.up, half.names.down) = ("ffn.fc1", "ffn.fc2");
            half.arrangement = Arrangement::pre("self_attn_layer_norm", "ffn_layer_norm");
            let trained = config.size("max_position_embeddings")?;
            half.length_limit = Some(LengthLimit::Trained(trained));
            half.ignored.extend(OF_SOUND);
            Ok(())
        },
        ..PRE_NORM
    };
    describe(config, style)
}

/// Speech2Text (Wang et al. 2020).
pub fn speech_to_text(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        places: Places::BesidePadding,
        has_logits_bias: false,
        labels: Labels::Given,
        shared: None,
        differ: |config, half| {
            if half.stack == "encoder" {
                subsample(config, half)?;
            }
            Ok(())
        },
        ..PRE_NORM
    };
    describe(config, style)
}

/// Frames through gated convolutions, each of which takes every other one.
fn subsample(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    const KERNELS: &str = "conv_kernel_sizes";
    let kernels = config.sizes(KERNELS)?;
    let layers = config.size("num_conv_layers")?;
    if kernels.len() != layers {
        let expected = format!("a size for each of {layers} convolutions");
        return Err(config.invalid(KERNELS, expected));
    }
    let channels = config.heads("input_feat_per_channel")? * config.heads("input_channels")?;
    let (inner, width) = (config.size("conv_channels")?, encoder.hidden_size);
    if inner % 2 != 0 {
        return Err(config.invalid("conv_channels", "an even number"));
    }
    let padding = config.token_id("pad_token_id")?;
    let padding = padding.ok_or_else(|| config.missing("pad_token_id"))? as usize;
    let scale = encoder.embedding_scale;
    encoder.position_ids = PositionIds::Sequential;
    encoder.length_limit = Some(LengthLimit::None);
    encoder.features = Some(Rc::new(move |leaves| {
        let convolution = |(index, &kernel): (usize, &usize)| {
            let name = format!("conv.conv_layers.{index}");
            let input = if index == 0 { channels } else { inner / 2 };
            let output = if index + 1 == layers {
                2 * width
            } else {
                inner
            };
            let (sizes, taps) = ([input, output], [kernel, 2]);
            StemStep::Convolution(DenseConvolution {
                gated: true,
                ..leaves.dense_convolution(&name, sizes, taps, Activation::Sigmoid, true)
            })
        };
        Features {
            leaves: Vec::new(),
            name: "input_features",
            layout: Layout::Frames,
            channels,
            frames: None,
            stem: kernels.iter().enumerate().map(convolution).collect(),
            scale,
            // The reference looks for padding among zeros that stand for frames: if it is 0, every frame is padding, whose
            // position is zero.
            positions: (padding != 0).then_some(PositionTable::Sinusoidal(Sinusoidal {
                offset: padding + 1,
                interleaved: false,
                denominator: (width / 2 - 1) as f64,
                zero_row: None,
                scale: 1.0,
            })),
            norm: None,
        }
    }));
    Ok(())
}

/// Moonshine (Jeffries et al. 2024).
pub fn moonshine(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["is_encoder_decoder", "pad_head_dim_to_multiple_of"]);
    let mut encoder = half(config, "encoder")?;
    encoder.masks.fill(Mask::Full);
    encoder.names.final_norm = "layer_norm";
    encoder.names.up = "mlp.fc1";
    encoder.gated = false;
    encoder.length_limit = Some(LengthLimit::None);
    let width = encoder.hidden_size;
    encoder.features = Some(Rc::new(move |leaves| samples(leaves, width)));
    let mut decoder = half(config, "decoder")?;
    if decoder.heads != encoder.heads {
        let problem = "the reference gives the decoder the encoder's number of heads";
        return Err(config.unsupported("decoder_num_attention_heads", problem));
    }
    decoder_of_moonshine(&mut decoder);
    let start = config.token_id("decoder_start_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput::shifted(
        start.map(ShiftStart::Token),
        config.token_id("pad_token_id")?,
    ));
    decoder.build_behind(encoder)
}

/// What its decoder calls its tensors, and the attention to the encoder.
pub(super) fn decoder_of_moonshine(decoder: &mut Blocks<'_>) {
    decoder.arrangement = Arrangement::pre("input_layernorm", "final_layernorm");
    decoder.names.gate_up = Some("mlp.fc1");
    decoder.names.up_first = true;
    decoder.names.head = "proj_out";
    decoder.unused_head = UnusedHead::projection(&["proj_out.weight"]);
    decoder.cross = Some(CROSS);
}

/// Of speech recognisers that name their decoder's layers as Llama's are.
pub(super) const CROSS: Cross = Cross {
    stack: 0,
    width: None,
    norms: Norms::before("post_attention_layernorm"),
    projections: [
        "encoder_attn.q_proj",
        "encoder_attn.k_proj",
        "encoder_attn.v_proj",
    ],
    output: "encoder_attn.o_proj",
};

/// One of the two stacks.
fn half<'c>(config: &'c Config, name: &'static str) -> Result<Blocks<'c>, SpecError> {
    let key = |key: &str| format!("{name}_{key}");
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads(&key("num_attention_heads"))?;
    let key_heads = key("num_key_value_heads");
    if config.optional_heads(&key_heads)?.unwrap_or(heads) != heads {
        let problem = "the reference's queries have as many heads as its keys";
        return Err(config.unsupported(&key_heads, problem));
    }
    let head_dim = match config.optional_heads("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_width(config, hidden_size, heads)?,
    };
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(1e-5)
    };
    let layers = config.layers(&key("num_hidden_layers"))?;
    let sizes = [hidden_size, config.size("intermediate_size")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (half.family, half.stack) = ("moonshine", name);
    half.prefix = format!("{}{name}.", half.prefix);
    half.names.down = "mlp.fc2";
    half.query_key_value_bias = config.flag("attention_bias")?;
    half.set_network_bias(true);
    half.activation = config.activation(&key("hidden_act"))?;
    half.may_look_ahead = false;
    half.rotate(&RopeOptions {
        interleaved: true,
        partial: true,
        default_partial: 0.9,
        ..RopeOptions::new(head_dim)
    })?;
    Ok(half)
}

/// Samples through convolutions.
fn samples(leaves: &mut Leaves, width: usize) -> Features {
    let mut convolution = |name, sizes, taps, activation, bias| {
        StemStep::Convolution(DenseConvolution {
            padding: [0; 2],
            ..leaves.dense_convolution(name, sizes, taps, activation, bias)
        })
    };
    let gelu = Activation::Gelu;
    let mut stem = vec![
        convolution("conv1", [1, width], [127, 64], Activation::Tanh, false),
        convolution("conv2", [width, 2 * width], [7, 3], gelu, true),
        convolution("conv3", [2 * width, width], [3, 2], gelu, true),
    ];
    let norm = leaves.norm("groupnorm", width, NormStyle::layer(1e-5));
    stem.insert(1, StemStep::Norm(norm, NormOf::All));
    Features {
        leaves: Vec::new(),
        name: "input_values",
        layout: Layout::Samples,
        channels: 1,
        frames: None,
        stem,
        scale: 1.0,
        positions: None,
        norm: None,
    }
}

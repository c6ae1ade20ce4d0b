//! Recognisers of speech behind a fast conformer (Rekesh et al. 2023): mel frames through convolutions of a plane, layers of
//! relative attention and of convolutions, and a decoder.

use std::rc::Rc;

use serde_json::Value;

use crate::build::{Leaves, NormStyle, divided, head_width};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Table, UnusedHead};
use crate::families::speech::CROSS;
use crate::model_type::{ModelType, row};
use crate::{
    Activation, Branch, Config, ConformerConvolution, DecoderInput, Described, DistanceKeys,
    DistanceTable, DistanceVectors, Features, Gain, Handed, Layout, LengthLimit, Mask, Mixer,
    PlaneConvolution, PlaneWeights, Position, QueryBiases, Sequence, Shard, ShiftStart, Sinusoidal,
    Source, SpecError, Split, StemStep, Step, Write,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[row("canary", canary), row("cohere_asr", cohere)];

const ENCODER: &str = "parakeet_encoder";

/// Canary (Puvvada et al. 2024).
pub fn canary(config: &Config) -> Result<Described, SpecError> {
    let usual = [
        ("num_hidden_layers", Value::from(32)),
        ("num_mel_bins", 128.into()),
        ("scale_input", false.into()),
    ];
    let part = config.part("encoder_config", ENCODER, None, &usual)?;
    let own = config.part("decoder_config", "canary_decoder", None, &[])?;
    own.ignore(&["pad_token_id"]);
    let mut decoder = half(config, &own)?;
    if config.size("vocab_size")? != own.size("vocab_size")? {
        let problem = "the decoder has another vocabulary";
        return Err(config.unsupported("vocab_size", problem));
    }
    let width = decoder.hidden_size;
    if width % 2 != 0 {
        return Err(own.invalid("hidden_size", "an even number"));
    }
    decoder.table = Some(Table::Sinusoidal(Sinusoidal {
        offset: 0,
        interleaved: false,
        denominator: (width / 2) as f64,
        zero_row: None,
        scale: (width as f64).powf(-0.5),
    }));
    let rows = own.size("max_position_embeddings")?;
    decoder.length_limit = Some(LengthLimit::Table(rows));
    let encoder = encoder(config, &part)?;
    if encoder.hidden_size != width {
        let expected = format!("{width}, as of the decoder");
        return Err(part.invalid("hidden_size", expected));
    }
    decoder.build_behind(encoder)
}

/// Cohere's recogniser.
pub fn cohere(config: &Config) -> Result<Described, SpecError> {
    let usual = [
        ("hidden_size", Value::from(1280)),
        ("num_hidden_layers", 48.into()),
        ("intermediate_size", 5120.into()),
        ("num_mel_bins", 128.into()),
        ("scale_input", false.into()),
    ];
    let part = config.part_over("encoder_config", ENCODER, &usual)?;
    let mut decoder = half(config, config)?;
    decoder.stored = Some(Rc::new(published));
    let rows = config.size("max_position_embeddings")?;
    decoder.learned_positions("pos_emb", 0, rows);
    let mut encoder = encoder(config, &part)?;
    encoder.stored = Some(Rc::new(published));
    let shape = [decoder.hidden_size, encoder.hidden_size];
    let name = format!("{}proj", decoder.prefix);
    encoder.further_head = Some(Rc::new(move |leaves, head| {
        head.handed = Some(Handed {
            positions: None,
            projection: Some(leaves.linear(&name, shape, true, Shard::Replicate)),
        });
    }));
    decoder.build_behind(encoder)
}

/// A tensor by either of its names: the reference writes the second, which published files have.
fn published(name: &str) -> Source {
    const OF_ENCODER: [(&str, &str); 9] = [
        (".subsampling.layers.", ".pre_encode.conv."),
        (".subsampling.linear.", ".pre_encode.out."),
        (".conv.norm.", ".conv.batch_norm."),
        (".q_proj.", ".linear_q."),
        (".k_proj.", ".linear_k."),
        (".v_proj.", ".linear_v."),
        (".o_proj.", ".linear_out."),
        (".relative_k_proj.", ".linear_pos."),
        (".bias_", ".pos_bias_"),
    ];
    const OF_DECODER: [(&str, &str); 18] = [
        ("decoder.proj.", "encoder_decoder_proj."),
        (
            "decoder.pos_emb.weight",
            "transf_decoder._embedding.position_embedding.pos_enc",
        ),
        (
            "decoder.embed_tokens.",
            "transf_decoder._embedding.token_embedding.",
        ),
        (
            "decoder.embedding_layernorm.",
            "transf_decoder._embedding.layer_norm.",
        ),
        ("decoder.norm.", "transf_decoder._decoder.final_layer_norm."),
        ("decoder.layers.", "transf_decoder._decoder.layers."),
        (".self_attn.", ".first_sub_layer."),
        (".encoder_attn.", ".second_sub_layer."),
        (".q_proj.", ".query_net."),
        (".k_proj.", ".key_net."),
        (".v_proj.", ".value_net."),
        (".o_proj.", ".out_projection."),
        (".mlp.fc1.", ".third_sub_layer.dense_in."),
        (".mlp.fc2.", ".third_sub_layer.dense_out."),
        (".input_layernorm.", ".layer_norm_1."),
        (".post_attention_layernorm.", ".layer_norm_2."),
        (".final_layernorm.", ".layer_norm_3."),
        ("proj_out.", "log_softmax.mlp.layer0."),
    ];
    let renamed = |pairs: &[(&str, &str)]| {
        let rename = |name: String, (own, other): &(&str, &str)| name.replace(own, other);
        pairs.iter().fold(name.to_owned(), rename)
    };
    let other = if name.contains("encoder.") {
        renamed(&OF_ENCODER)
    } else {
        renamed(&OF_DECODER)
    };
    Source::one_of(vec![Source::tensor(name), Source::tensor(other)])
}

/// The decoder, without its positions.
fn half<'c>(whole: &'c Config, config: &'c Config) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&["is_encoder_decoder"]);
    whole.ignore(&["is_encoder_decoder"]);
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let head_dim = match config.optional_heads("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_width(config, hidden, heads)?,
    };
    let norm = NormStyle::layer(1e-5);
    let layers = config.layers("num_hidden_layers")?;
    let sizes = [hidden, config.size("intermediate_size")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, kv_heads, head_dim])?;
    (half.family, half.whole) = ("conformer", Some(whole));
    half.prefix = format!("{}decoder.", whole.row()?.base_prefix);
    half.arrangement = Arrangement::pre("input_layernorm", "final_layernorm");
    (half.names.up, half.names.down) = ("mlp.fc1", "mlp.fc2");
    half.names.head = "proj_out";
    half.ignored = vec!["*.num_batches_tracked"];
    half.head_bias = true;
    half.unused_head = UnusedHead {
        without: &["proj_out.weight", "proj_out.bias"],
        tied: &["proj_out.weight"],
        own: &[],
    };
    half.gated = false;
    half.set_attention_bias(config.flag("attention_bias")?);
    half.set_network_bias(true);
    half.activation = config.activation("hidden_act")?;
    half.embedding_norm = Some(("embedding_layernorm", norm));
    half.may_look_ahead = false;
    half.cross = Some(CROSS);
    let start = whole.token_id("decoder_start_token_id")?;
    half.sequence = Sequence::Decoder(DecoderInput::shifted(
        start.map(ShiftStart::Token),
        whole.token_id("pad_token_id")?,
    ));
    Ok(half)
}

/// The fast conformer.
fn encoder<'c>(whole: &'c Config, config: &'c Config) -> Result<Blocks<'c>, SpecError> {
    // No table is as long; the others are of training.
    config.ignore(&["max_position_embeddings", "dropout_positions", "layerdrop"]);
    config.ignore(&["is_encoder_decoder"]);
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let head_dim = match config.optional_heads("head_dim")? {
        Some(head_dim) => head_dim,
        None => divided(config, "num_attention_heads", hidden, heads)?,
    };
    if hidden % 2 != 0 {
        return Err(config.invalid("hidden_size", "an even number"));
    }
    let norm = NormStyle::layer(1e-5);
    let layers = config.layers("num_hidden_layers")?;
    let sizes = [hidden, config.size("intermediate_size")?];
    let kv_heads = config
        .optional_heads("num_key_value_heads")?
        .unwrap_or(heads);
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let mut encoder = Blocks::sized(config, norm, layers, sizes, [heads, kv_heads, head_dim])?;
    (encoder.family, encoder.stack, encoder.whole) = ("conformer", "encoder", Some(whole));
    encoder.prefix = format!("{}encoder.", whole.row()?.base_prefix);
    encoder.final_norm = None;
    encoder.masks.fill(Mask::Full);
    encoder.gated = false;
    let bias = config.flag("attention_bias")?;
    encoder.set_biases(bias);
    encoder.activation = config.activation("hidden_act")?;
    encoder.length_limit = Some(LengthLimit::None);
    encoder.may_look_ahead = false;
    encoder.attention_of = MixerOf::new(relative_attention);
    let kernel = config.size("conv_kernel_size")?;
    if kernel % 2 == 0 {
        return Err(config.invalid("conv_kernel_size", "an odd number"));
    }
    let convolution = (kernel, config.flag("convolution_bias")?);
    encoder.layer_of = Some(Rc::new(move |own, leaves, layer| {
        steps(own, leaves, layer, convolution)
    }));
    encoder.features = Some(Rc::new(subsampling(config, hidden)?));
    Ok(encoder)
}

/// Half a network, attention, convolution, half a network; a norm of the last sum.
fn steps(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    layer: usize,
    (kernel, has_bias): (usize, bool),
) -> Vec<Step> {
    let half_network = |leaves: &mut Leaves, names: [&'static str; 2]| {
        let mut network = own.clone();
        (network.names.up, network.names.down) = (names[0], names[1]);
        Branch {
            gain: Gain::Constant(0.5),
            ..Branch::plain(Mixer::FeedForward(network.network(leaves)))
        }
    };
    let step = |leaves: &mut Leaves, norm: &str, branch: Branch| {
        let mut step = Step::residual(branch.mixer.clone());
        step.pre = Some(leaves.norm(norm, own.hidden_size, own.norm));
        step.branches = vec![branch];
        step
    };
    let first = half_network(leaves, ["feed_forward1.linear1", "feed_forward1.linear2"]);
    let first = step(leaves, "norm_feed_forward1", first);
    let attention = Branch::plain(own.attention(leaves, layer));
    let attention = step(leaves, "norm_self_att", attention);
    let convolution = convolution(own, leaves, kernel, has_bias);
    let convolution = Branch::plain(Mixer::ConformerConvolution(Box::new(convolution)));
    let convolution = step(leaves, "norm_conv", convolution);
    let last = half_network(leaves, ["feed_forward2.linear1", "feed_forward2.linear2"]);
    let mut last = step(leaves, "norm_feed_forward2", last);
    last.write = Write::AddNorm(
        leaves.norm("norm_out", own.hidden_size, own.norm),
        Gain::One,
    );
    vec![first, attention, convolution, last]
}

fn convolution(
    own: &Blocks<'_>,
    leaves: &mut Leaves,
    rows: usize,
    has_bias: bool,
) -> ConformerConvolution {
    let columns = own.hidden_size;
    let linear = |leaves: &mut Leaves, name: &str, out: usize| {
        let weight = Source::Reshape(Box::new(leaves.tensor(&format!("{name}.weight"))));
        let bias = has_bias.then(|| leaves.tensor(&format!("{name}.bias")));
        leaves.linear_of(weight, bias, [out, columns], Shard::Replicate)
    };
    let input = linear(leaves, "conv.pointwise_conv1", 2 * columns);
    let output = linear(leaves, "conv.pointwise_conv2", columns);
    let kernel = leaves.flat("conv.depthwise_conv.weight", columns * rows);
    let bias = has_bias.then(|| leaves.flat("conv.depthwise_conv.bias", columns));
    ConformerConvolution {
        input,
        kernel,
        rows,
        bias,
        columns,
        norm: leaves.stored_norm("conv.norm", columns),
        activation: own.activation,
        output,
    }
}

/// Attention with products of queries and projected sines of distances; the reference has sines and cosines by turns.
fn relative_attention(own: &Blocks<'_>, leaves: &mut Leaves, layer: usize) -> Option<Mixer> {
    let wide = own.heads * own.head_dim;
    let mut attention = own.usual_attention(leaves, layer);
    let stored = leaves.tensor("self_attn.relative_k_proj.weight");
    let every_other = |part| {
        let columns = stored.clone().transpose();
        columns.part(Split::Strided { parts: 2 }, part).transpose()
    };
    let keys = Source::ConcatColumns(vec![every_other(0), every_other(1)]);
    let keys = leaves.linear_of(keys, None, [wide, own.hidden_size], Shard::Column);
    let biases = ["bias_u", "bias_v"].map(|name| leaves.flat(&format!("self_attn.{name}"), wide));
    let table = DistanceTable::Sines { farthest: None };
    attention
        .positions
        .push(Position::Vectors(Box::new(DistanceVectors {
            keys: Some(DistanceKeys::Projected(keys)),
            query_biases: QueryBiases::Added(biases),
            ..DistanceVectors::new(table, own.hidden_size, own.attention_scale)
        })));
    Some(Mixer::Attention(Box::new(attention)))
}

/// Mel frames as a plane through convolutions that each take every other row and column.
fn subsampling(
    config: &Config,
    hidden: usize,
) -> Result<impl Fn(&mut Leaves) -> Features + '_, SpecError> {
    let factor = config.size("subsampling_factor")?;
    let layers = factor.ilog2() as usize;
    if layers == 0 {
        return Err(config.invalid("subsampling_factor", "at least 2"));
    }
    let (kernel, stride) = (
        config.size("subsampling_conv_kernel_size")?,
        config.size("subsampling_conv_stride")?,
    );
    let (bins, channels) = (
        config.size("num_mel_bins")?,
        config.size("subsampling_conv_channels")?,
    );
    let scale = if config.flag("scale_input")? {
        (hidden as f64).sqrt()
    } else {
        1.0
    };
    let plane =
        move |weights, columns, own: usize, [kernel, stride, padding]: [usize; 3], activation| {
            PlaneConvolution {
                weights,
                channels: own,
                columns,
                kernel,
                stride,
                padding,
                activation,
            }
        };
    let taps = [kernel, stride, (kernel - 1) / 2];
    let out = |columns: usize| {
        let room = (columns + 2 * taps[2]).checked_sub(kernel);
        room.map_or(0, |room| room / stride + 1)
    };
    let last = (0..layers).fold(bins, |columns, _| out(columns));
    let told = stride
        .checked_pow(layers as u32)
        .map_or(0, |all| bins / all);
    if last == 0 || last != told {
        let expected = format!("a number that {layers} convolutions divide");
        return Err(config.invalid("num_mel_bins", expected));
    }
    Ok(move |leaves: &mut Leaves| {
        let dense = |leaves: &mut Leaves, name: &str, input: usize| {
            let weight = Source::Reshape(Box::new(leaves.tensor(&format!("{name}.weight"))));
            let bias = Some(leaves.tensor(&format!("{name}.bias")));
            PlaneWeights::Dense(leaves.linear_of(weight, bias, [channels, input], Shard::Replicate))
        };
        let first = dense(leaves, "subsampling.layers.0", kernel * kernel);
        let mut stem = vec![plane(first, bins, 1, taps, Activation::Relu)];
        for layer in 0..layers - 1 {
            let columns = stem.last().map_or(0, |before| before.out(before.columns));
            let name = |number: usize| format!("subsampling.layers.{}", 2 + 3 * layer + number);
            let by_channel = {
                let mut flat = |end: &str, size| leaves.flat(&format!("{}.{end}", name(0)), size);
                let weight = flat("weight", channels * kernel * kernel);
                PlaneWeights::OfChannels(weight, flat("bias", channels))
            };
            let linear = Activation::Linear;
            let by_channel = plane(by_channel, columns, channels, taps, linear);
            let columns = by_channel.out(columns);
            stem.push(by_channel);
            let point = dense(leaves, &name(1), channels);
            stem.push(plane(point, columns, channels, [1, 1, 0], Activation::Relu));
        }
        let mut stem: Vec<StemStep> = stem.into_iter().map(StemStep::Plane).collect();
        stem.push(StemStep::ChannelsFirst { channels });
        let sizes = [channels * last, hidden];
        let name = "subsampling.linear";
        let linear = leaves.dense_convolution(name, sizes, [1, 1], Activation::Linear, true);
        stem.push(StemStep::Convolution(linear));
        Features {
            layout: Layout::Frames,
            stem,
            scale,
            ..Features::given("input_features", bins)
        }
    })
}

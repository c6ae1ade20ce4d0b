//! SpeechT5 (Ao et al. 2021) from speech to text: samples through wav2vec 2.0's convolutions to an encoder with vectors of
//! distances, and BART's decoder.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Cross, MixerOf, Names, Norms, Projections, Table, UnusedHead,
};
use crate::families::gpt::tensor2tensor;
use crate::model_type::{ModelType, limited, row};
use crate::{
    Activation, Config, DecoderInput, DenseConvolution, Described, DistanceKeys, DistanceTable,
    DistanceVectors, Features, Layout, LengthLimit, Mask, Mixer, NormOf, Position, PositionIds,
    PositionTable, Sequence, Shard, ShiftStart, Sinusoidal, Source, SpecError, StemStep,
    Surroundings,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(
    row("speecht5", speecht5),
    "from speech to text (`SpeechT5ForSpeechToText`); what its other classes give is sound",
)];

const NAMES: Names = Names {
    output: "self_attn.out_proj",
    up: "feed_forward.intermediate_dense",
    down: "feed_forward.output_dense",
    ..Names::USUAL
};

/// SpeechT5.
pub fn speecht5(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["is_encoder_decoder", "num_feat_extract_layers"]);
    // Of training, and of the classes that give sound.
    config.ignore(&[
        "apply_spec_augment",
        "feat_proj_dropout",
        "guided_attention_loss_num_heads",
        "guided_attention_loss_scale",
        "guided_attention_loss_sigma",
        "mask_feature_length",
        "mask_feature_min_masks",
        "mask_feature_prob",
        "mask_time_length",
        "mask_time_min_masks",
        "mask_time_prob",
        "max_speech_positions",
        "num_mel_bins",
        "positional_dropout",
        "reduction_factor",
        "speaker_embedding_dim",
        "speech_decoder_postnet_dropout",
        "speech_decoder_postnet_kernel",
        "speech_decoder_postnet_layers",
        "speech_decoder_postnet_units",
        "speech_decoder_prenet_dropout",
        "speech_decoder_prenet_layers",
        "speech_decoder_prenet_units",
        "use_guided_attention_loss",
    ]);
    let padding = config.token_id("pad_token_id")?;
    let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
    let encoder = encoder(config, padding)?;
    let mut decoder = half(config, "decoder")?;
    decoder.names.tokens = "prenet.embed_tokens";
    decoder.names.layers = "wrapped_decoder.layers";
    decoder.names.head = "text_decoder_postnet.lm_head";
    decoder.unused_head = UnusedHead::projection(&["text_decoder_postnet.lm_head.weight"]);
    decoder.arrangement = Arrangement::after_sum("self_attn_layer_norm", "final_layer_norm");
    if config.flag("scale_embedding")? {
        decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    }
    let sines = tensor2tensor(config, decoder.hidden_size, 0, Some(padding))?;
    decoder.table = Some(Table::Sinusoidal(sines));
    decoder.position_ids = PositionIds::AfterPadding { padding };
    let trained = config.size("max_text_positions")?;
    decoder.length_limit = Some(LengthLimit::Trained(trained));
    decoder.ignored = vec!["*masked_spec_embed"];
    decoder.cross = Some(Cross {
        stack: 0,
        width: None,
        norms: Norms::sum("encoder_attn_layer_norm"),
        projections: [
            "encoder_attn.q_proj",
            "encoder_attn.k_proj",
            "encoder_attn.v_proj",
        ],
        output: "encoder_attn.out_proj",
    });
    let start = config.token_id("decoder_start_token_id")?;
    decoder.sequence = Sequence::Decoder(DecoderInput::shifted(
        start.map(ShiftStart::Token),
        Some(padding),
    ));
    decoder.build_behind(encoder)
}

/// One of the two stacks.
fn half<'c>(config: &'c Config, name: &'static str) -> Result<Blocks<'c>, SpecError> {
    let hidden = config.size("hidden_size")?;
    let key = format!("{name}_attention_heads");
    let heads = config.heads(&key)?;
    let head_dim = divided(config, &key, hidden, heads)?;
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let layers = config.layers(&format!("{name}_layers"))?;
    let sizes = [hidden, config.size(&format!("{name}_ffn_dim"))?];
    let mut half = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    (half.family, half.stack, half.names) = ("speecht5", name, NAMES);
    half.prefix = format!("{}{name}.", half.prefix);
    half.final_norm = None;
    half.gated = false;
    half.set_biases(true);
    half.activation = config.activation("hidden_act")?;
    half.may_look_ahead = false;
    Ok(half)
}

fn encoder(config: &Config, padding: u32) -> Result<Blocks<'_>, SpecError> {
    let mut encoder = half(config, "encoder")?;
    encoder.names.layers = "wrapped_encoder.layers";
    encoder.names.projections =
        Projections::Separate(["attention.q_proj", "attention.k_proj", "attention.v_proj"]);
    encoder.names.output = "attention.out_proj";
    encoder.arrangement = Arrangement::after_sum("layer_norm", "final_layer_norm");
    encoder.masks.fill(Mask::Full);
    encoder.length_limit = Some(LengthLimit::None);
    let span = config.size("encoder_max_relative_position")?;
    encoder.attention_of = MixerOf::new(move |own: &Blocks<'_>, leaves, layer| {
        let mut attention = own.usual_attention(leaves, layer);
        let name = format!("{}wrapped_encoder.embed_positions.pe_k.weight", own.prefix);
        let source = Source::Reshape(Box::new(Source::tensor(name)));
        let weight = leaves.weight(source, &[2 * span * own.head_dim], Shard::Replicate);
        let table = DistanceTable::Learned { weight, span };
        attention
            .positions
            .push(Position::Vectors(Box::new(DistanceVectors {
                keys: Some(DistanceKeys::Plain),
                ..DistanceVectors::new(table, own.head_dim, own.attention_scale)
            })));
        Some(Mixer::Attention(Box::new(attention)))
    });
    let (hidden, norm) = (encoder.hidden_size, encoder.norm);
    if hidden % 2 != 0 {
        return Err(config.invalid("hidden_size", "an even number"));
    }
    let convolutions = Convolutions::of(config, hidden)?;
    encoder.features = Some(Rc::new(move |leaves| {
        let mut stem = convolutions.stem(leaves);
        let of_samples = convolutions.width();
        let own = leaves.norm("prenet.feature_projection.layer_norm", of_samples, norm);
        stem.push(StemStep::Norm(own, NormOf::Rows));
        let name = "prenet.feature_projection.projection";
        let sizes = [of_samples, hidden];
        let linear = leaves.dense_convolution(name, sizes, [1, 1], Activation::Linear, true);
        stem.push(StemStep::Convolution(linear));
        stem.push(StemStep::Surroundings(convolutions.surroundings(leaves)));
        Features {
            layout: Layout::Samples,
            stem,
            // The reference looks for padding among zeros: if it is 0, every row is padding, whose position is zero.
            positions: (padding != 0).then_some(PositionTable::Sinusoidal(Sinusoidal {
                offset: padding as usize + 1,
                interleaved: false,
                denominator: (hidden / 2 - 1) as f64,
                zero_row: None,
                scale: 1.0,
            })),
            norm: Some(leaves.norm("wrapped_encoder.layer_norm", hidden, norm)),
            ..Features::given("input_values", 1)
        }
    }));
    Ok(encoder)
}

/// wav2vec 2.0's.
struct Convolutions {
    /// Outputs, rows and step of each.
    layers: Vec<[usize; 3]>,
    has_bias: bool,
    /// Every one is normed, row by row; else the first one, column by column.
    normed: bool,
    activation: Activation,
    hidden: usize,
    /// Rows that say where one is, and groups of columns.
    around: [usize; 2],
}

impl Convolutions {
    fn of(config: &Config, hidden: usize) -> Result<Self, SpecError> {
        let lists = ["conv_dim", "conv_kernel", "conv_stride"].map(|key| config.sizes(key));
        let [outputs, kernels, strides] = lists;
        let (outputs, kernels, strides) = (outputs?, kernels?, strides?);
        for (key, list) in [("conv_kernel", &kernels), ("conv_stride", &strides)] {
            if list.len() != outputs.len() {
                let expected = format!("one for each of {} convolutions", outputs.len());
                return Err(config.invalid(key, expected));
            }
        }
        let sizes = outputs.into_iter().zip(kernels).zip(strides);
        let normed = match config.optional_text("feat_extract_norm")?.as_deref() {
            Some("group") => false,
            Some("layer") => true,
            _ => {
                let known = "`group` and `layer` are known";
                return Err(config.unsupported("feat_extract_norm", known));
            }
        };
        let groups = config.heads("num_conv_pos_embedding_groups")?;
        divided(config, "num_conv_pos_embedding_groups", hidden, groups)?;
        Ok(Self {
            layers: sizes
                .map(|((out, kernel), stride)| [out, kernel, stride])
                .collect(),
            has_bias: config.flag("conv_bias")?,
            normed,
            activation: config.activation("feat_extract_activation")?,
            hidden,
            around: [config.size("num_conv_pos_embeddings")?, groups],
        })
    }

    fn width(&self) -> usize {
        self.layers.last().map_or(1, |[out, ..]| *out)
    }

    fn stem(&self, leaves: &mut Leaves) -> Vec<StemStep> {
        let (mut stem, mut width) = (Vec::new(), 1);
        for (number, &[out, kernel, stride]) in self.layers.iter().enumerate() {
            let name = format!("prenet.feature_encoder.conv_layers.{number}");
            let is_normed = self.normed || number == 0;
            let activation = if is_normed {
                Activation::Linear
            } else {
                self.activation
            };
            let own = format!("{name}.conv");
            let (sizes, taps) = ([width, out], [kernel, stride]);
            stem.push(StemStep::Convolution(DenseConvolution {
                padding: [0; 2],
                ..leaves.dense_convolution(&own, sizes, taps, activation, self.has_bias)
            }));
            if is_normed {
                let style = NormStyle::layer(1e-5);
                let norm = leaves.norm(&format!("{name}.layer_norm"), out, style);
                let of = if self.normed {
                    NormOf::Rows
                } else {
                    NormOf::Columns
                };
                stem.push(StemStep::Norm(norm, of));
                stem.push(StemStep::Activation(self.activation));
            }
            width = out;
        }
        stem
    }

    fn surroundings(&self, leaves: &mut Leaves) -> Surroundings {
        let [kernel, groups] = self.around;
        let name = "prenet.pos_conv_embed.conv";
        let mut of = |spellings: [&str; 2], elements: usize| {
            let spelled = spellings.map(|end| leaves.tensor(&format!("{name}.{end}")));
            let source = Source::Reshape(Box::new(Source::one_of(spelled.into())));
            leaves.weight(source, &[elements], Shard::Replicate)
        };
        let lengths = of(["parametrizations.weight.original0", "weight_g"], kernel);
        let elements = self.hidden * (self.hidden / groups) * kernel;
        let direction = of(["parametrizations.weight.original1", "weight_v"], elements);
        Surroundings {
            direction,
            lengths,
            bias: leaves.flat(&format!("{name}.bias"), self.hidden),
            columns: self.hidden,
            groups,
            kernel,
            activation: self.activation,
        }
    }
}

//! T5 (Raffel et al. 2019), its version 1.1, FLAN-T5 and what is built like them: an encoder and a decoder with relative
//! buckets.

use std::rc::Rc;

use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Blocks, Buckets, Classifier, Cross, MixerOf, Names, Norms, Projections,
    SharedTokens, Tie, UnusedHead,
};
use crate::families::experts::{self, ExpertTensors, Experts};
use crate::families::udop;
use crate::model_type::{ModelType, limited, row};
use crate::{
    Activation, Config, DecoderInput, Described, Features, LengthLimit, Mask, Mixer, Sequence,
    ShiftStart, Source, SpecError, Task, TieOrder, TransientGlobal,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("longt5", longt5),
    row("mt5", mt5),
    limited(
        row("pop2piano", pop2piano),
        "on prepared features, the composer's row among them",
    ),
    row("switch_transformers", switch_transformers),
    row("t5", t5),
    limited(row("udop", udop), "without pictures"),
    row("umt5", umt5),
];

const SHARED: SharedTokens = SharedTokens {
    name: "shared",
    order: TieOrder::HeadLast,
    tied: &[
        "*encoder.embed_tokens.weight",
        "*decoder.embed_tokens.weight",
        // Where both stacks have tables of their own.
        "*shared.weight",
    ],
    own: &["*shared.weight"],
};

const ENCODER: Names = Names {
    layers: "block",
    projections: Projections::Separate([
        "layer.0.SelfAttention.q",
        "layer.0.SelfAttention.k",
        "layer.0.SelfAttention.v",
    ]),
    output: "layer.0.SelfAttention.o",
    gate: "layer.1.DenseReluDense.wi_0",
    up: "layer.1.DenseReluDense.wi_1",
    down: "layer.1.DenseReluDense.wo",
    final_norm: "final_layer_norm",
    ..Names::USUAL
};

/// Behind the attention to the encoder.
const DECODER: Names = Names {
    gate: "layer.2.DenseReluDense.wi_0",
    up: "layer.2.DenseReluDense.wi_1",
    down: "layer.2.DenseReluDense.wo",
    ..ENCODER
};

/// What the types differ in.
#[derive(Clone, Copy)]
struct Style {
    tie: Tie,
    scale: Scale,
    /// Every layer has a table of buckets.
    has_own_buckets: bool,
    network: Network,
    encoder: Encoder,
}

/// When the logits are divided by the square root of the hidden size.
#[derive(Clone, Copy)]
enum Scale {
    Never,
    Always,
    /// As `scale_decoder_outputs` says, or `tie_word_embeddings`, which says nothing else.
    Told,
    /// Where the head is the token table.
    Tied,
}

/// The feed-forward networks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    /// As `feed_forward_proj` says.
    Told,
    /// The same, and `gelu` is what its name says (UDOP).
    Literal,
    /// Whether they are gated, as that says; the activation by itself (Pop2Piano).
    Declared,
    /// Some layers have experts (Switch).
    Experts,
}

/// The attention of the encoder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoder {
    Full,
    /// Rows around, and what `encoder_attention_type` says.
    Local,
    /// How far tokens are apart on a page (UDOP).
    Page,
    /// All, of features in the place of tokens (Pop2Piano).
    Features,
}

const T5: Style = Style {
    tie: Tie::UnlessStored,
    scale: Scale::Told,
    has_own_buckets: false,
    network: Network::Told,
    encoder: Encoder::Full,
};

/// T5.
pub fn t5(config: &Config) -> Result<Described, SpecError> {
    describe(config, T5)
}

/// mT5 (Xue et al. 2020).
pub fn mt5(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        scale: Scale::Never,
        ..T5
    };
    describe(config, style)
}

/// umT5 (Chung et al. 2023).
pub fn umt5(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        scale: Scale::Always,
        has_own_buckets: true,
        ..T5
    };
    describe(config, style)
}

/// LongT5 (Guo et al. 2021).
pub fn longt5(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        encoder: Encoder::Local,
        ..T5
    };
    describe(config, style)
}

/// UDOP (Tang et al. 2022), without pictures.
pub fn udop(config: &Config) -> Result<Described, SpecError> {
    // Of pictures, and what its class says of every T5.
    config.ignore(&["image_size", "patch_size", "num_channels"]);
    config.ignore(&["add_cross_attention"]);
    let style = Style {
        scale: Scale::Always,
        network: Network::Literal,
        encoder: Encoder::Page,
        ..T5
    };
    describe(config, style)
}

/// Pop2Piano (Choi and Lee 2022): its encoder reads mel frames that a processor has put together.
pub fn pop2piano(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["composer_vocab_size"]);
    let style = Style {
        tie: Tie::Always(false),
        network: Network::Declared,
        encoder: Encoder::Features,
        ..T5
    };
    describe(config, style)
}

/// Features in the place of tokens.
fn hear(encoder: &mut Blocks<'_>) {
    encoder.masks.fill(Mask::Full);
    encoder.shared_tokens = None;
    let channels = encoder.hidden_size;
    encoder.features = Some(Rc::new(move |_| {
        Features::given("input_features", channels)
    }));
}

/// The decoder's table is that of both, whatever else is tied.
fn share_tokens(decoder: &mut Blocks<'_>) {
    decoder.shared_tokens = None;
    decoder.ignored.extend([
        "*mel_conditioner.*",
        "*shared.weight",
        "*encoder.embed_tokens.weight",
    ]);
    let front = decoder.prefix.trim_end_matches("decoder.").to_owned();
    decoder.stored = Some(Rc::new(move |name| {
        let own = Source::tensor(name);
        if !name.ends_with("embed_tokens.weight") {
            return own;
        }
        let others = ["shared.weight", "encoder.embed_tokens.weight"];
        let others = others.map(|name| Source::tensor(format!("{front}{name}")));
        Source::Tied {
            own: Box::new(own.clone()),
            all: others.into_iter().chain([own]).collect(),
        }
    }));
}

/// Switch Transformers (Fedus et al. 2021).
pub fn switch_transformers(config: &Config) -> Result<Described, SpecError> {
    let style = Style {
        tie: Tie::Configured,
        scale: Scale::Tied,
        network: Network::Experts,
        ..T5
    };
    config.ignore(&["add_router_probs", "router_ignore_padding_tokens"]);
    describe(config, style)
}

fn describe(config: &Config, style: Style) -> Result<Described, SpecError> {
    let layers = config.layers("num_layers")?;
    let decoder_layers = if config.in_file("num_decoder_layers") {
        config.layers("num_decoder_layers")?
    } else {
        layers
    };
    let mut encoder = half(config, style, layers, "encoder")?;
    match style.encoder {
        Encoder::Full => encoder.masks.fill(Mask::Full),
        Encoder::Local => look_around(config, &mut encoder)?,
        Encoder::Page => udop::place(config, &mut encoder)?,
        Encoder::Features => hear(&mut encoder),
    }
    encoder.arrangement = Arrangement::pre("layer.0.layer_norm", "layer.1.layer_norm");
    config.ignore(&["is_encoder_decoder", "num_decoder_layers"]);
    let start = config.token_id("decoder_start_token_id")?;
    let padding = config.token_id("pad_token_id")?;
    let scale = scale(config, style.scale, encoder.hidden_size)?;
    let task = config.class()?.task;
    if matches!(task, Task::Encoder | Task::TokenClassification) {
        config.off(
            "is_decoder",
            "an encoder whose tokens see no later ones is not known",
        )?;
        config.ignore(&["decoder_sparse_step", "num_sparse_decoder_layers"]);
        encoder.unused_head = UnusedHead::projection(&["*decoder.*", "lm_head.weight"]);
        if style.encoder == Encoder::Page {
            encoder.ignored.extend(udop::UNUSED);
        }
        return encoder.build();
    }
    config.ignore(&["is_decoder"]);
    let mut decoder = half(config, style, decoder_layers, "decoder")?;
    decoder.arrangement = Arrangement::pre("layer.0.layer_norm", "layer.2.layer_norm");
    decoder.logit_scale = scale;
    decoder.sequence_classifier = Some(Classifier::LAST_LABEL);
    decoder.sequence = Sequence::Decoder(DecoderInput {
        repeats: task == Task::SequenceClassification,
        ..DecoderInput::shifted(start.map(ShiftStart::Token), padding)
    });
    decoder.cross = Some(Cross {
        stack: 0,
        width: None,
        norms: Norms::before("layer.1.layer_norm"),
        projections: [
            "layer.1.EncDecAttention.q",
            "layer.1.EncDecAttention.k",
            "layer.1.EncDecAttention.v",
        ],
        output: "layer.1.EncDecAttention.o",
    });
    if let Some(buckets) = &mut decoder.buckets {
        buckets.looks_ahead = false;
    }
    match style.encoder {
        Encoder::Full | Encoder::Local => {}
        Encoder::Page => decoder.ignored.extend(udop::UNUSED),
        Encoder::Features => share_tokens(&mut decoder),
    }
    decoder.build_behind(encoder)
}

/// One of the two stacks.
fn half<'c>(
    config: &'c Config,
    style: Style,
    layers: usize,
    name: &'static str,
) -> Result<Blocks<'c>, SpecError> {
    let heads = config.heads("num_heads")?;
    let norm = NormStyle::rms(config.positive("layer_norm_epsilon")?);
    let sizes = [config.size("d_model")?, config.size("d_ff")?];
    let heads = [heads, heads, config.size("d_kv")?];
    let mut half = Blocks::sized(config, norm, layers, sizes, heads)?;
    (half.family, half.stack) = ("t5", name);
    half.names = if name == "encoder" { ENCODER } else { DECODER };
    half.prefix.push_str(name);
    half.prefix.push('.');
    half.ignored.clear();
    half.shared_tokens = Some(SHARED);
    half.tie = style.tie;
    match style.network {
        Network::Told | Network::Literal | Network::Declared => {
            (half.activation, half.gated) = network(config, style.network)?;
        }
        Network::Experts => experts(config, &mut half)?,
    }
    if style.network != Network::Experts && !half.gated {
        half.names.up = match name {
            "encoder" => "layer.1.DenseReluDense.wi",
            _ => "layer.2.DenseReluDense.wi",
        };
    }
    half.attention_scale = 1.0;
    let table = if style.has_own_buckets {
        "block.{}.layer.0.SelfAttention.relative_attention_bias.weight"
    } else {
        // All layers look into the table of the first.
        "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    };
    half.buckets = Some(Buckets::read(config, table, true)?);
    half.length_limit = Some(LengthLimit::None);
    half.may_look_ahead = false;
    Ok(half)
}

/// Tokens see those within a radius (`local`), and sums of all blocks (`transient-global`).
fn look_around(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    const KEY: &str = "encoder_attention_type";
    let radius = config.size("local_radius")?;
    encoder.masks.fill(Mask::Window(radius));
    let names = match config.optional_text(KEY)?.as_deref() {
        Some("local") => {
            config.ignore(&["global_block_size"]);
            LOCAL
        }
        Some("transient-global") => {
            sum_blocks(config, encoder)?;
            TRANSIENT_GLOBAL
        }
        _ => return Err(config.unsupported(KEY, "`local` and `transient-global` are known")),
    };
    let [query, key, value, output, buckets] = names;
    encoder.names.projections = Projections::Separate([query, key, value]);
    encoder.names.output = output;
    if let Some(own) = &mut encoder.buckets {
        own.name = buckets;
    }
    Ok(())
}

const LOCAL: [&str; 5] = [
    "layer.0.LocalSelfAttention.q",
    "layer.0.LocalSelfAttention.k",
    "layer.0.LocalSelfAttention.v",
    "layer.0.LocalSelfAttention.o",
    "block.0.layer.0.LocalSelfAttention.relative_attention_bias.weight",
];

const TRANSIENT_GLOBAL: [&str; 5] = [
    "layer.0.TransientGlobalSelfAttention.q",
    "layer.0.TransientGlobalSelfAttention.k",
    "layer.0.TransientGlobalSelfAttention.v",
    "layer.0.TransientGlobalSelfAttention.o",
    "block.0.layer.0.TransientGlobalSelfAttention.relative_attention_bias.weight",
];

/// Sums of blocks stand beside the keys around.
fn sum_blocks(config: &Config, encoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    let block = config.size("global_block_size")?;
    let table =
        "block.0.layer.0.TransientGlobalSelfAttention.global_relative_attention_bias.weight";
    let buckets = Buckets::read(config, table, true)?;
    encoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let name = "layer.0.TransientGlobalSelfAttention.global_input_layer_norm";
        let norm = leaves.norm(name, blocks.hidden_size, blocks.norm);
        let buckets = blocks.buckets(leaves, buckets, layer);
        Some(Mixer::TransientGlobal(Box::new(TransientGlobal {
            attention: blocks.usual_attention(leaves, layer),
            block,
            norm,
            buckets,
        })))
    });
    Ok(())
}

/// Every so many layers have experts, of which a token gets one.
fn experts(config: &Config, half: &mut Blocks<'_>) -> Result<(), SpecError> {
    let [step, sparse] = match half.stack {
        "encoder" => ["encoder_sparse_step", "num_sparse_encoder_layers"],
        _ => ["decoder_sparse_step", "num_sparse_decoder_layers"],
    };
    let step = if config.in_file(step) {
        config.ignore(&[sparse]);
        config.index(step)?
    } else {
        let sparse = config.index(sparse)?;
        half.layers().checked_div(sparse).unwrap_or(half.layers())
    };
    let (plain, tensors) = match half.stack {
        "encoder" => (
            [
                "layer.1.mlp.wi",
                "layer.1.mlp.wo",
                "layer.1.mlp.router.classifier",
            ],
            [
                "layer.1.mlp.experts.expert_{}.wi.weight",
                "layer.1.mlp.experts.expert_{}.wo.weight",
            ],
        ),
        _ => (
            [
                "layer.2.mlp.wi",
                "layer.2.mlp.wo",
                "layer.2.mlp.router.classifier",
            ],
            [
                "layer.2.mlp.experts.expert_{}.wi.weight",
                "layer.2.mlp.experts.expert_{}.wo.weight",
            ],
        ),
    };
    half.gated = false;
    half.activation = config.activation("dense_act_fn")?;
    (half.names.up, half.names.down) = (plain[0], plain[1]);
    experts::ignore_training(config);
    config.neutral(
        "router_dtype",
        &["float32".into()],
        "routers compute in f32",
    )?;
    let mut experts = Experts::plain(
        config.heads("num_experts")?,
        1,
        half.intermediate_size,
        half.activation,
    );
    experts.tensors = ExpertTensors::Ungated(tensors);
    experts.router = plain[2];
    experts.router_bias = config.flag("router_bias")?;
    experts.capacity = Some(config.size("expert_capacity")?);
    half.feed_forward_of = MixerOf::new(move |blocks, leaves, layer| {
        let is_sparse = step == 1 || step > 0 && layer % step == 1;
        is_sparse.then(|| experts.build(leaves, blocks.hidden_size))
    });
    Ok(())
}

/// Activation and form of the feed-forward networks. What the class derives from `feed_forward_proj` is
/// written to files as well, and believed there.
fn network(config: &Config, network: Network) -> Result<(Activation, bool), SpecError> {
    const KEY: &str = "feed_forward_proj";
    let told = config.optional_text(KEY)?;
    let told = told.ok_or_else(|| config.missing(KEY))?;
    let (gated, name) = match told.split('-').collect::<Vec<_>>()[..] {
        [name] => (false, name),
        ["gated", "gelu"] if network == Network::Told => (true, "gelu_new"),
        ["gated", name] => (true, name),
        _ => return Err(config.invalid(KEY, "`NAME` or `gated-NAME`")),
    };
    let activation = if config.in_file("dense_act_fn") || network == Network::Declared {
        config.activation("dense_act_fn")?
    } else {
        let known = Activation::from_name(name);
        known.ok_or_else(|| config.unsupported(KEY, "unknown activation"))?
    };
    let gated = if config.mentions("is_gated_act") {
        config.flag("is_gated_act")?
    } else {
        gated
    };
    Ok((activation, gated))
}

/// The factor on the logits.
fn scale(config: &Config, scale: Scale, hidden_size: usize) -> Result<f64, SpecError> {
    const TIED: &str = "tie_word_embeddings";
    let tied = || Ok(!config.in_file(TIED) || config.flag(TIED)?);
    let scaled = match scale {
        Scale::Told if config.mentions("scale_decoder_outputs") => {
            config.ignore(&[TIED]);
            config.flag("scale_decoder_outputs")?
        }
        Scale::Told | Scale::Tied => tied()?,
        Scale::Never | Scale::Always => {
            config.ignore(&[TIED]);
            matches!(scale, Scale::Always)
        }
    };
    Ok(if scaled {
        (hidden_size as f64).powf(-0.5)
    } else {
        1.0
    })
}

//! Pixtral (Agrawal et al. 2024) and what is built on its tower: pictures of any size, turned by rows and columns.

use std::rc::Rc;

use super::compose::{
    Places, Projector, Tower, behind, capped, dense, norm, scattered, spelled_otherwise,
};
use super::llava::{DECODER, PROJECTOR, TOWER};
use super::part::DescribePart;
use super::tiles::{decoder, given, one_layer};
use super::towers;
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Names, Projections};
use crate::rope::Pairs;
use crate::{
    Activation, BesidePlanes, Config, Described, Joining, PictureLayout, PictureRows, Pictures,
    Source, SpecError,
};

/// The names of the tower's layers.
static NAMES: Names = Names {
    layers: "transformer.layers",
    projections: Projections::Separate([
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
    ]),
    output: "attention.o_proj",
    gate: "feed_forward.gate_proj",
    up: "feed_forward.up_proj",
    down: "feed_forward.down_proj",
    ..Names::USUAL
};

/// The names that Mistral's own files have in the place of the class's.
const MISTRAL: [(&str, &str); 7] = [
    (".attention.q_proj.", ".attention.wq."),
    (".attention.k_proj.", ".attention.wk."),
    (".attention.v_proj.", ".attention.wv."),
    (".attention.o_proj.", ".attention.wo."),
    (".gate_proj.", ".w1."),
    (".up_proj.", ".w3."),
    (".down_proj.", ".w2."),
];

/// A name of the class's as Mistral's own files have it.
fn of_mistral(name: &str) -> String {
    let replaced = |name: String, (own, other): (&str, &str)| name.replace(own, other);
    MISTRAL.into_iter().fold(name.to_owned(), replaced)
}

/// The tower.
pub fn pixtral(config: &Config) -> Result<Described, SpecError> {
    tower(config, false)
}

/// The tower as Mistral's own files have it: pairs that turn stand side by side.
fn pixtral_of_mistral(config: &Config) -> Result<Described, SpecError> {
    tower(config, true)
}

fn tower(config: &Config, of_mistrals: bool) -> Result<Described, SpecError> {
    // How large pictures are made before they come here.
    config.ignore(&["image_size"]);
    let hidden = config.size("hidden_size")?;
    let inner = config.size("intermediate_size")?;
    let style = NormStyle::rms(1e-5);
    let around = Arrangement::pre("attention_norm", "ffn_norm");
    let mut tower = towers::layers(config, [hidden, inner], style, (&NAMES, around))?;
    tower.set_biases(false);
    tower.final_norm = None;
    let head_dim = tower.head_dim;
    if config
        .optional_size("head_dim")?
        .is_some_and(|own| own != head_dim)
    {
        let expected = format!("{head_dim}, the features of a head");
        return Err(config.invalid("head_dim", expected));
    }
    let turns = (Pairs::HalvesByTurns, of_mistrals, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    if of_mistrals {
        tower.stored = Some(Rc::new(|name: &str| Source::tensor(of_mistral(name))));
    }
    let sizes = towers::Sizes::read_patches(config)?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let [channels, patch] = sizes;
        let stored = (leaves.tensor("patch_conv.weight"), None);
        let projection = towers::projection(leaves, stored, hidden, [channels, patch]);
        Pictures {
            norm: Some(leaves.norm("ln_pre", hidden, style)),
            ..Pictures::new(
                PictureLayout::Planes {
                    name: "pixel_values",
                    size: None,
                    beside: BesidePlanes::Within {
                        name: "image_sizes",
                    },
                },
                [channels, patch],
                projection,
            )
        }
    }));
    tower.build()
}

/// What models of this tower differ in.
struct Whole {
    tower: Places,
    decoder: Places,
    /// What projects: a norm of patches, a layer of blocks, two more.
    projector: (&'static [&'static str], [&'static str; 4]),
    /// The type of a decoder that the file says no type of.
    text: &'static str,
    token: &'static str,
    activation: Activation,
    bias: bool,
}

/// The usual names of what projects.
const PROJECTS: [&str; 4] = ["norm", "patch_merger.merging_layer", "linear_1", "linear_2"];

/// Mistral Large 4: files of Mistral's own, logits that stay between bounds.
pub fn mistral_large4(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        tower: Places {
            base: &["vision_encoder."],
            outside: &[],
        },
        decoder: Places {
            base: &[""],
            outside: &[""],
        },
        projector: (
            &[""],
            [
                "pre_mm_projector_norm",
                "patch_merger.merging_layer",
                "vision_language_adapter.w_in",
                "vision_language_adapter.w_out",
            ],
        ),
        text: "mistral_large4_text",
        token: "image_token_index",
        activation: config.activation("projector_hidden_act")?,
        bias: config.flag("multimodal_projector_bias")?,
    };
    let decoder = |text: &Config| {
        let cap = text.positive("final_logit_softcapping")?;
        let mut decoder = spelled_otherwise(describe(text)?, &decoder_name);
        decoder.spec.ignored.push("*lerope.alpha");
        Ok(capped(decoder, cap))
    };
    merged(config, &whole, (pixtral_of_mistral, decoder))
}

/// What stands for a tensor of Mistral Large 4's text model in the whole's files.
fn decoder_name(name: &str) -> Source {
    const OWN: [(&str, &str); 4] = [
        ("embed_tokens.", "tok_embeddings."),
        ("lm_head.", "output."),
        ("rotary_emb.", "lerope."),
        (".attention.o_proj.", ".attention.wo."),
    ];
    let replaced = |name: String, (own, other): (&str, &str)| name.replace(own, other);
    let name = OWN.into_iter().fold(name.to_owned(), replaced);
    let is_network = name.contains(".feed_forward.") || name.contains(".shared_experts.");
    Source::tensor(if is_network { of_mistral(&name) } else { name })
}

/// Mistral Small 3.1.
pub fn mistral3(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        tower: TOWER,
        decoder: DECODER,
        projector: (PROJECTOR, PROJECTS),
        text: "mistral",
        token: "image_token_index",
        activation: config.activation("projector_hidden_act")?,
        bias: config.flag("multimodal_projector_bias")?,
    };
    merged(config, &whole, (describe, describe))
}

/// LightOnOCR.
pub fn lighton_ocr(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        tower: Places {
            base: &["model.vision_encoder."],
            outside: &[],
        },
        decoder: Places {
            base: &["model.language_model."],
            outside: &[""],
        },
        projector: (&["model.vision_projection."], PROJECTS),
        text: "qwen3",
        token: "image_token_id",
        activation: Activation::Gelu,
        bias: false,
    };
    merged(config, &whole, (describe, describe))
}

/// Normed patches of blocks, feature by feature, through one dense layer to a patch, and two more to a token; what describes
/// the tower and the decoder.
fn merged(
    config: &Config,
    whole: &Whole,
    (describe_tower, describe): (
        DescribePart,
        impl Fn(&Config) -> Result<Described, SpecError>,
    ),
) -> Result<Described, SpecError> {
    let vision = given(config, "vision_config", "pixtral")?;
    let text = decoder(config, whole.text)?;
    let mut tower = Tower::read(&vision, describe_tower, whole.tower)?;
    let (places, [normed, first, second, third]) = whole.projector;
    if config.declares("vision_feature_layer") {
        one_layer(config, &mut tower)?;
    }
    let style = NormStyle::rms(text.positive("rms_norm_eps")?);
    let (hidden, width) = (text.size("hidden_size")?, tower.width());
    tower.norm_end(|leaves| norm(leaves, (places, normed), width, style));
    let side = config.size("spatial_merge_size")?;
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let mut layer = |name: &str, shape, bias, activation| {
            dense(leaves, (places, name), shape, bias, activation)
        };
        let none = Activation::Linear;
        let merged = [width, side * side * width];
        let layers = vec![
            layer(first, merged, false, none),
            layer(second, [hidden, width], whole.bias, whole.activation),
            layer(third, [hidden; 2], whole.bias, none),
        ];
        (None, layers)
    })
    .joined(Joining::ByTurns);
    let token = scattered(config, whole.token)?;
    let decoder = (describe(&text)?, whole.decoder, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

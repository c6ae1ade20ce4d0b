//! Qwen2-VL (Wang et al. 2024) and what came after it: patches of pictures of any size, turned by their rows and columns,
//! blocks of them in the place of a token, and a decoder whose tokens have three positions.

use std::rc::Rc;

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, norm, scattered,
    spelled_otherwise,
};
use super::part::DescribePart;
use super::towers;
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks, Names, Patches, Projections};
use crate::rope::Pairs;
use crate::{
    Activation, Config, Described, Interpolation, Mask, PackedLimits, PictureLayout, PictureRows,
    Pictures, PlaceTable, Scattered, Shard, Source, SpecError,
};

/// Where files have the tower.
pub(super) const TOWER: Places = Places {
    base: &["model.visual.", "visual."],
    outside: &[],
};

/// Where files have the decoder.
pub(super) const DECODER: Places = Places {
    base: &["model.language_model.", "model."],
    outside: &[""],
};

/// The key of layers whose features enter the decoder.
pub(super) const DEEP: &str = "deepstack_visual_indexes";

/// The names of the tower's layers.
pub(super) static NAMES: Names = Names {
    layers: "blocks",
    projections: Projections::Rows("attn.qkv"),
    output: "attn.proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "merger.ln_q",
    ..Names::USUAL
};

/// The sizes of a tower.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub hidden: usize,
    /// Points of a patch in all channels and times, its rows and columns left out.
    channels: usize,
    pub patch: usize,
    /// Rows and columns of a block.
    side: usize,
}

impl Sizes {
    pub fn read(config: &Config, hidden: usize) -> Result<Self, SpecError> {
        // Published names of what the class calls otherwise.
        config.ignore(&["in_chans", "spatial_patch_size"]);
        let times = config.size("temporal_patch_size")?;
        Ok(Self {
            hidden,
            channels: config.size("in_channels")?.saturating_mul(times),
            patch: config.size("patch_size")?,
            side: config.size("spatial_merge_size")?,
        })
    }
}

/// The layers of a tower of so many features, heads and features inside its network.
pub(super) fn layers(
    config: &Config,
    sizes: Sizes,
    inner: usize,
    norm: NormStyle,
    window: Option<usize>,
) -> Result<Blocks<'_>, SpecError> {
    let around = Arrangement::pre("norm1", "norm2");
    let mut tower = towers::layers(config, [sizes.hidden, inner], norm, (&NAMES, around))?;
    if config.declares("num_key_value_heads") {
        tower.kv_heads = config.heads("num_key_value_heads")?;
    }
    let theta = match config.nested("rope_parameters")? {
        Some(own) => {
            own.neutral(
                "rope_type",
                &["axial".into()],
                "towers turn by rows and columns",
            )?;
            own.optional_positive("rope_theta")?
        }
        None => None,
    };
    let turns = (Pairs::Halves, false, theta.unwrap_or(10_000.0));
    towers::turn(config, "num_heads", &mut tower, turns)?;
    tower.pictures = Some(Rc::new(move |leaves| {
        let stored = (leaves.tensor("patch_embed.proj.weight"), None);
        let of = [sizes.channels, sizes.patch];
        let projection = towers::projection(leaves, stored, sizes.hidden, of);
        Pictures::new(
            PictureLayout::packed(sizes.side, window, PackedLimits::whole(sizes.side)),
            of,
            projection,
        )
    }));
    Ok(tower)
}

/// The tower of Qwen2-VL.
pub fn qwen2_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["hidden_size"]);
    let hidden = config.size("embed_dim")?;
    let sizes = Sizes::read(config, hidden)?;
    let inner = config.scaled("mlp_ratio", hidden)?;
    let mut tower = layers(config, sizes, inner, NormStyle::layer(1e-6), None)?;
    tower.gated = false;
    tower.build()
}

/// The tower of Qwen2.5-VL: gated networks, RMS norms, and layers that see windows.
pub fn qwen2_5_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it, and of films.
    config.ignore(&["out_hidden_size", "tokens_per_second"]);
    let sizes = Sizes::read(config, config.size("hidden_size")?)?;
    let span = sizes.patch.saturating_mul(sizes.side);
    let window = config.size("window_size")? / span;
    if window == 0 {
        let expected = format!("at least a block of {span} points");
        return Err(config.invalid("window_size", expected));
    }
    let inner = config.size("intermediate_size")?;
    let mut tower = layers(config, sizes, inner, NormStyle::rms(1e-6), Some(window))?;
    tower.names = Names {
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        ..NAMES
    };
    let whole = config.numbers("fullatt_block_indexes")?.unwrap_or_default();
    for (layer, mask) in tower.masks.iter_mut().enumerate() {
        if !whole.contains(&(layer as f64)) {
            *mask = Mask::Windows;
        }
    }
    tower.build()
}

/// The tower of Qwen3-VL: learned places, stretched.
pub fn qwen3_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["out_hidden_size", DEEP]);
    let sizes = Sizes::read(config, config.size("hidden_size")?)?;
    let inner = config.size("intermediate_size")?;
    let mut tower = layers(config, sizes, inner, NormStyle::layer(1e-6), None)?;
    tower.gated = false;
    tower.names = Names {
        up: "mlp.linear_fc1",
        down: "mlp.linear_fc2",
        final_norm: "merger.norm",
        ..NAMES
    };
    let rows = config.size("num_position_embeddings")?;
    let side = rows.isqrt();
    if side * side != rows {
        return Err(config.invalid("num_position_embeddings", "a square"));
    }
    biased(&mut tower, move |leaves, pictures| Pictures {
        positions: Some(PlaceTable {
            weight: leaves.table("pos_embed.weight", rows, sizes.hidden),
            first: 0,
            grid: [side; 2],
            otherwise: Interpolation::Corners,
            turned: false,
        }),
        ..pictures
    });
    tower.build()
}

/// Gives the patches of a tower an addend, and what else `further` says.
pub(super) fn biased<'c>(
    tower: &mut Blocks<'c>,
    further: impl Fn(&mut Leaves, Pictures) -> Pictures + 'c,
) {
    let hidden = tower.hidden_size;
    let plain = tower.pictures.take();
    tower.pictures = plain.map(|plain| {
        let patches = move |leaves: &mut Leaves| {
            let mut pictures = plain(leaves);
            let bias = leaves.tensor("patch_embed.proj.bias");
            pictures.projection.bias = Some(leaves.weight(bias, &[hidden], Shard::Replicate));
            further(leaves, pictures)
        };
        Rc::new(patches) as Rc<Patches<'c>>
    });
}

/// What models of these towers differ in.
struct Whole {
    /// The type of the tower, whatever files call it.
    vision: &'static str,
    /// The type of the decoder, and what older files call it.
    text: (&'static str, &'static [&'static str]),
    /// The key that says how wide the tower's merged blocks come out.
    width: &'static str,
    /// Where it is told whether the head is the token table.
    tied: Tied,
    merger: Merger,
    tower: Places,
    decoder: Places,
    /// What stands for a tensor of the decoder, where files have other names than its own type's.
    spelled: Option<fn(&str) -> Source>,
    /// Tokens have three positions.
    has_positions: bool,
}

/// As Qwen2-VL.
const WHOLE: Whole = Whole {
    vision: "qwen2_vl_vision",
    text: ("qwen2_vl_text", &[]),
    width: "hidden_size",
    tied: Tied::ByEither,
    merger: OLDER,
    tower: TOWER,
    decoder: DECODER,
    spelled: None,
    has_positions: true,
};

/// As Qwen3-VL.
const THIRD: Whole = Whole {
    vision: "qwen3_vl_vision",
    text: ("qwen3_vl_text", &[]),
    width: "out_hidden_size",
    tied: Tied::ByWhole,
    merger: NEWER,
    ..WHOLE
};

/// Qwen2-VL.
pub fn qwen2_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    merged(config, &WHOLE, describe)
}

/// Qwen2.5-VL.
pub fn qwen2_5_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen2_5_vl_vision",
        text: ("qwen2_5_vl_text", &[]),
        width: "out_hidden_size",
        ..WHOLE
    };
    merged(config, &whole, describe)
}

/// Qwen3-VL.
pub fn qwen3_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    merged(config, &THIRD, describe)
}

/// Qwen3-VL with experts.
pub fn qwen3_vl_moe(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen3_vl_moe_vision",
        text: ("qwen3_vl_moe_text", &[]),
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// Qwen3.5: nothing enters the decoder behind its first layer.
pub fn qwen3_5(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen3_5_vision",
        text: ("qwen3_5_text", &[]),
        merger: SHALLOW,
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// Qwen3.5 with experts.
pub fn qwen3_5_moe(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen3_5_moe_vision",
        text: ("qwen3_5_moe_text", &[]),
        merger: SHALLOW,
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// Qwen4-Exp: the same in front of residual streams.
pub fn qwen4_exp(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen4_exp_vision",
        text: ("qwen4_exp_text", &[]),
        merger: SHALLOW,
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// Cohere Compass: the tower of Qwen3-VL in front of a decoder of Cohere's.
pub fn cohere_compass(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "cohere_compass_vision",
        text: ("cohere_compass_text", &[]),
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// Cosmos 3, as far as it reads: Qwen3-VL without prefixes, projections by the names that Diffusers has.
pub fn cosmos3_omni(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        tower: Places {
            base: &["", "model.visual."],
            outside: &[],
        },
        decoder: Places {
            base: &["", "model.language_model."],
            outside: &[""],
        },
        spelled: Some(|name| {
            const OWN: [(&str, &str); 6] = [
                (".q_proj.", ".to_q."),
                (".k_proj.", ".to_k."),
                (".v_proj.", ".to_v."),
                (".o_proj.", ".to_out."),
                (".q_norm.", ".norm_q."),
                (".k_norm.", ".norm_k."),
            ];
            let own = OWN
                .iter()
                .fold(name.to_owned(), |name, (from, to)| name.replace(from, to));
            Source::named([own, name.to_owned()])
        }),
        ..THIRD
    };
    merged(config, &whole, describe)
}

/// EXAONE 4.5: the tower of Qwen2.5-VL in front of a decoder whose tokens have one position.
pub fn exaone4_5(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "exaone4_5_vision",
        text: ("exaone4", &["exaone4_5_text"]),
        width: "out_hidden_size",
        tied: Tied::ByWhole,
        has_positions: false,
        ..WHOLE
    };
    merged(config, &whole, describe)
}

/// HyperCLOVA X Vision 2: the same with a dense layer more.
pub fn hyperclovax_vision(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let whole = Whole {
        vision: "qwen2_5_vl_vision",
        text: ("hyperclovax", &[]),
        width: "out_hidden_size",
        tied: Tied::ByWhole,
        merger: Merger {
            behind: Some(&["model.projector", "model.vision_projector"]),
            ..OLDER
        },
        tower: Places {
            base: &["model.vision_model."],
            outside: &[],
        },
        decoder: Places {
            base: &["model.language_model.", "model.language_model.model."],
            outside: &["", "model.language_model."],
        },
        spelled: None,
        has_positions: false,
    };
    merged(config, &whole, describe)
}

/// The names of what becomes of blocks.
struct Merger {
    layers: [&'static str; 2],
    /// Those of features of earlier layers, by their number.
    deep: Option<&'static str>,
    /// A dense layer behind all, by its whole names.
    behind: Option<&'static [&'static str]>,
}

const OLDER: Merger = Merger {
    layers: ["merger.mlp.0", "merger.mlp.2"],
    deep: None,
    behind: None,
};

const NEWER: Merger = Merger {
    layers: ["merger.linear_fc1", "merger.linear_fc2"],
    deep: Some("deepstack_merger_list"),
    behind: None,
};

/// The same without earlier layers.
const SHALLOW: Merger = Merger {
    deep: None,
    ..NEWER
};

/// Blocks of a tower's end through two dense layers in the place of a token.
fn merged(config: &Config, whole: &Whole, describe: DescribePart) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
        "vision_token_id",
    ]);
    let vision = config.part_as("vision_config", whole.vision)?;
    let (own, older) = whole.text;
    let text = config.renamed("text_config", older, own);
    let text = decoder_config(&text, ("text_config", own), whole.tied)?;
    let mut tower = Tower::read(&vision, describe, whole.tower)?;
    let hidden = text.size("hidden_size")?;
    let width = vision.size(whole.width)?;
    if width != hidden && whole.merger.behind.is_none() {
        return Err(vision.invalid(whole.width, format!("{hidden}, as of the decoder")));
    }
    let side = vision.size("spatial_merge_size")?;
    let inner = side * side * tower.width();
    let rule = PictureRows::Blocks { side };
    let places = whole.tower.base;
    let through = |leaves: &mut Leaves, [first, second]: [&str; 2]| {
        vec![
            dense(leaves, (places, first), [inner; 2], true, Activation::Gelu),
            dense(
                leaves,
                (places, second),
                [width, inner],
                true,
                Activation::Linear,
            ),
        ]
    };
    let mut parts = vec![Projector::new(&tower, (rule, hidden), |leaves| {
        let mut layers = through(leaves, whole.merger.layers);
        if let Some(names) = whole.merger.behind {
            let shape = [hidden, width];
            layers.push(dense(leaves, (names, ""), shape, true, Activation::Linear));
        }
        (None, layers)
    })];
    let mut added = Vec::new();
    if let Some(deep) = whole.merger.deep {
        let layers = deep_layers(&vision, tower.layers(), &[])?;
        tower.keep_behind(&layers);
        for (number, _) in layers.iter().enumerate() {
            added.push(number);
            parts.push(Projector::of_kept(
                &tower,
                number,
                (rule, hidden),
                |leaves| {
                    let name = |part: &str| format!("{deep}.{number}.{part}");
                    let style = NormStyle::layer(1e-6);
                    let norm = norm(leaves, (places, &name("norm")), inner, style);
                    let names = [name("linear_fc1"), name("linear_fc2")];
                    (Some(norm), through(leaves, [&names[0], &names[1]]))
                },
            ));
        }
    }
    let token = Scattered {
        has_positions: whole.has_positions,
        ..scattered(config, "image_token_id")?
    };
    let mut decoder = describe(&text)?;
    if let Some(spelled) = whole.spelled {
        decoder = spelled_otherwise(decoder, &spelled);
    }
    let decoder = (decoder, whole.decoder, token);
    behind(config, (&tower, &parts, &added), decoder)
}

/// Layers (0-based) whose ends enter the decoder's first layers, one each; the usual ones where the configuration names none.
pub(super) fn deep_layers(
    config: &Config,
    layers: usize,
    usual: &[f64],
) -> Result<Vec<usize>, SpecError> {
    let numbers = config.numbers(DEEP)?.unwrap_or_else(|| usual.to_vec());
    let of = |number: &f64| {
        let fits = number.fract() == 0.0 && (0.0..layers as f64).contains(number);
        fits.then_some(*number as usize)
    };
    let found: Option<Vec<usize>> = numbers.iter().map(of).collect();
    found.ok_or_else(|| config.invalid(DEEP, format!("layers from 0 to {}", layers - 1)))
}

//! Step 3.7: a tower that turns by columns and rows, two convolutions that halve its rows and columns.

use std::rc::Rc;

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, scattered, spelled,
    spelled_otherwise,
};
use super::part::DescribePart;
use super::towers::{self, CLIP, Sizes};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::rope::Pairs;
use crate::{
    Activation, BesidePlanes, Config, Described, HeadTransform, Interpolation, Joining,
    PictureLayout, PictureRows, Pictures, PlaceTable, Scattered, Shard, Source, SpecError,
};

/// The published names of the tower's layers.
static NAMES: Names = Names {
    layers: "transformer.resblocks",
    projections: Projections::Rows("attn.in_proj_"),
    output: "attn.out_proj",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    ..CLIP
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model.", "model.vision_model."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model.", "model.language_model."],
    outside: &[""],
};

/// The tower up to its last layer, by published names: pairs that turn stand side by side.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    // How weights begin.
    config.ignore(&["layer_scale_init_value", "ls_init_value"]);
    // Whatever the file says of them, they follow from the ratio and from the size of pictures.
    config.ignore(&["intermediate_size", "max_position_embeddings"]);
    // Older names win.
    let own = config.size("hidden_size")?;
    let hidden = config.optional_size("width")?.unwrap_or(own);
    let layers = match config.optional_size("layers")? {
        Some(_) => config.layers("layers")?,
        None => config.layers("num_hidden_layers")?,
    };
    let heads = match config.optional_heads("heads")? {
        Some(heads) => heads,
        None => config.heads("num_attention_heads")?,
    };
    let [channels, patch] = Sizes::read_patches(config)?;
    let table = match config.sizes("image_size")?[..] {
        [size] if size >= patch => Sizes {
            hidden,
            channels,
            patch,
            picture: [size; 2],
        },
        _ => {
            let problem = "places are those of squares of a patch at least";
            return Err(config.unsupported("image_size", problem));
        }
    };
    let inner = config.scaled("mlp_ratio", hidden)?;
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    let widths = [hidden, inner];
    let mut tower = Blocks::sized(config, norm, layers, widths, [heads, heads, head_dim])?;
    towers::of_pictures(&mut tower, "vision");
    tower.names = NAMES;
    tower.set_biases(true);
    tower.arrangement = Arrangement::pre("ln_1", "ln_2");
    tower.activation = config.activation("hidden_act")?;
    tower.gated = false;
    tower.final_norm = None;
    let turns = (Pairs::ColumnsThenRows, true, towers::theta(config)?);
    towers::turn(config, "num_attention_heads", &mut tower, turns)?;
    // The projections of an attention are called like a module of torch's.
    tower.stored = Some(Rc::new(|name: &str| {
        Source::tensor(name.replace("in_proj_.", "in_proj_"))
    }));
    towers::scale_layers(&mut tower, ["ls_1.gamma", "ls_2.gamma"]);
    tower.pictures = Some(Rc::new(move |leaves: &mut Leaves| {
        let of_patches = (leaves.tensor("conv1.weight"), None);
        let projection = towers::projection(leaves, of_patches, hidden, [channels, patch]);
        let positions = Some(PlaceTable {
            otherwise: Interpolation::Linear,
            ..table.table(leaves, "positional_embedding", 0)
        });
        let layout = PictureLayout::Planes {
            name: "pixel_values",
            size: None,
            beside: BesidePlanes::None,
        };
        Pictures {
            positions,
            norm: Some(leaves.norm("ln_pre", hidden, norm)),
            ..Pictures::new(layout, [channels, patch], projection)
        }
    }));
    tower.build()
}

/// A convolution `NAME` of three rows and columns, whatever the axes of its weight.
fn convolution(leaves: &mut Leaves, name: &str, shape: [usize; 2]) -> HeadTransform {
    let stored = |part: &str| spelled(TOWER.base, &format!("{name}.{part}"));
    let weight = Source::Reshape(Box::new(stored("weight")));
    let linear = leaves.linear_of(weight, Some(stored("bias")), shape, Shard::Replicate);
    HeadTransform::plain(linear, Activation::Linear)
}

/// The whole, for pictures without crops beside them.
pub fn step3p7(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part_as("vision_config", "step3p5_vision")?;
    let text = config.retyped("text_config", "step3p5");
    // The class ties nothing that the whole does not say.
    let text = decoder_config(&text, ("text_config", "step3p5"), Tied::ByWhole)?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let (hidden, width) = (text.size("hidden_size")?, tower.width());
    let halving = |halved| PictureRows::Around {
        halved,
        halves: true,
    };
    let first = Projector::new(&tower, (halving(0), 2 * width), |leaves| {
        let shape = [2 * width, 9 * width];
        (None, vec![convolution(leaves, "vit_downsampler1", shape)])
    });
    let bias = config.flag("projector_bias")?;
    let second = Projector::behind((1, 2 * width), (halving(1), hidden), |leaves| {
        let shape = [4 * width, 18 * width];
        let places: &[&str] = &["vit_large_projector", "model.multi_modal_projector"];
        let layers = vec![
            convolution(leaves, "vit_downsampler2", shape),
            dense(
                leaves,
                (places, ""),
                [hidden, 4 * width],
                bias,
                Activation::Linear,
            ),
        ];
        (None, layers)
    });
    let projectors = [
        first.joined(Joining::ByTurns).named("halved"),
        second.joined(Joining::ByTurns),
    ];
    let token = Scattered {
        stack: 2,
        ..scattered(config, "image_token_id")?
    };
    let decoder = spelled_otherwise(describe(&text)?, &decoder_name);
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, token),
    )
}

/// What stands for a tensor of the text model in the whole's files.
fn decoder_name(name: &str) -> Source {
    const EXPERTS: &str = ".mlp.experts.gate_up_proj";
    let own = Source::tensor(name.to_owned());
    let published = |from: &str, to: &str| Source::tensor(name.replace(from, to));
    let other = if name.ends_with(EXPERTS) {
        // Gates of all experts, then what they let through: one behind the other in every expert.
        let parts = ["gate_proj", "up_proj"];
        let parts = parts.map(|part| published(EXPERTS, &format!(".moe.{part}.weight")));
        return Source::one_of(vec![own, Source::ConcatRows(parts.to_vec())]);
    } else if name.ends_with(".mlp.experts.down_proj") {
        published(".mlp.experts.down_proj", ".moe.down_proj.weight")
    } else if name.contains(".mlp.gate.e_score_correction_bias") {
        published(".mlp.gate.e_score_correction_bias", ".moe.router_bias")
    } else if name.contains(".mlp.gate.weight") {
        published(".mlp.gate.", ".moe.gate.")
    } else if name.contains(".mlp.shared_experts.") {
        published(".mlp.shared_experts.", ".share_expert.")
    } else {
        return own;
    };
    Source::one_of(vec![own, other])
}

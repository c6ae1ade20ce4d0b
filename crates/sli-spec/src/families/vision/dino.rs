//! DINO's towers: layers whose addends are scaled, for pictures of any size.

use std::rc::Rc;

use super::towers::{Sizes, VIT, layers, plain, scale_layers, turn};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::pooled;
use crate::rope::Pairs;
use crate::{
    Activation, BesidePlanes, Config, Described, FrontRow, Interpolation, PictureLayout, Pictures,
    PlaceTable, PooledEnd, Source, SpecError,
};

/// Keys of what takes features of several layers.
const BACKBONE: [&str; 5] = [
    "apply_layernorm",
    "out_features",
    "out_indices",
    "reshape_hidden_states",
    "stage_names",
];

/// The published names of DINO's layers.
static DINO: Names = Names {
    up: "mlp.fc1",
    down: "mlp.fc2",
    ..VIT
};

/// The names of DINOv3's layers.
static DINO3: Names = Names {
    layers: "layer",
    projections: Projections::Separate([
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
    ]),
    output: "attention.o_proj",
    final_norm: "norm",
    ..Names::USUAL
};

/// DINOv2 (Oquab et al. 2023), for pictures of any size.
pub fn dinov2(config: &Config) -> Result<Described, SpecError> {
    dino(config, 0, Interpolation::Cubic)
}

/// The same with rows that stand for no patch (Darcet et al. 2023).
pub fn dinov2_with_registers(config: &Config) -> Result<Described, SpecError> {
    let registers = config.index("num_register_tokens")?;
    dino(config, registers, Interpolation::CubicAntialiased)
}

fn dino(
    config: &Config,
    registers: usize,
    otherwise: Interpolation,
) -> Result<Described, SpecError> {
    config.ignore(&BACKBONE);
    config.ignore(&["drop_path_rate", "layerscale_value", "use_mask_token"]);
    let sizes = Sizes::read(config)?.square(config)?;
    let mut inner = config.scaled("mlp_ratio", sizes.hidden)?;
    let gated = config.flag("use_swiglu_ffn")?;
    if gated {
        inner = (inner * 2 / 3).div_ceil(8) * 8;
    }
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre("norm1", "norm2");
    let mut tower = layers(config, [sizes.hidden, inner], norm, (&DINO, arrangement))?;
    tower.query_key_value_bias = config.flag("qkv_bias")?;
    tower.gated = gated;
    if gated {
        tower.activation = Activation::Silu;
        (tower.names.gate_up, tower.names.down) = (Some("mlp.weights_in"), "mlp.weights_out");
    }
    let prefix = tower.prefix.clone();
    tower.stored = Some(Rc::new(move |name: &str| spelled_dino(name, &prefix)));
    scale_layers(&mut tower, ["layer_scale1.lambda1", "layer_scale2.lambda1"]);
    tower.ignored.push("*embeddings.mask_token");
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = sizes.class(leaves, "embeddings.cls_token");
        let mut front = vec![class];
        front.extend(sizes.registers(leaves, "embeddings.register_tokens", registers));
        let pictures = sizes.pictures(leaves, "embeddings.patch_embeddings.projection", true);
        let table = sizes.table(leaves, "embeddings.position_embeddings", 1);
        Pictures {
            layout: ANY_SIZE,
            front,
            positions: Some(PlaceTable { otherwise, ..table }),
            ..pictures
        }
    }));
    with_class_row(tower, sizes.hidden)
}

/// DINOv3 (Siméoni et al. 2025): rows turn by where they are in the picture.
pub fn dinov3_vit(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&BACKBONE);
    config.ignore(&["drop_path_rate", "layerscale_value", "pos_embed_jitter"]);
    config.ignore(&["pos_embed_rescale", "pos_embed_shift"]);
    let sizes = Sizes::read(config)?;
    let registers = config.index("num_register_tokens")?;
    let mut tower = plain(config, &DINO3, Arrangement::pre("norm1", "norm2"))?;
    tower.prefix = String::new();
    tower.gated = config.flag("use_gated_mlp")?;
    let [query, key, value] = ["query_bias", "key_bias", "value_bias"].map(|key| config.flag(key));
    let (query, key, value) = (query?, key?, value?);
    if query != value || (key && !query) {
        let problem = "addends of queries without those of values, or of keys without those";
        return Err(config.unsupported("query_bias", problem));
    }
    (tower.query_key_value_bias, tower.keys_without_bias) = (query, !key);
    tower.output_bias = config.flag("proj_bias")?;
    let network = config.flag("mlp_bias")?;
    (tower.up_bias, tower.down_bias) = (network, network);
    let turns = (Pairs::Centres, false, config.positive("rope_theta")?);
    turn(config, "num_attention_heads", &mut tower, turns)?;
    scale_layers(&mut tower, ["layer_scale1.lambda1", "layer_scale2.lambda1"]);
    if registers == 0 {
        tower.ignored.push("*embeddings.register_tokens");
    }
    tower.ignored.push("*embeddings.mask_token");
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = FrontRow {
            position: None,
            ..sizes.class(leaves, "embeddings.cls_token")
        };
        let mut front = vec![class];
        front.extend(sizes.registers(leaves, "embeddings.register_tokens", registers));
        Pictures {
            layout: ANY_SIZE,
            front,
            ..sizes.pictures(leaves, "embeddings.patch_embeddings", true)
        }
    }));
    with_class_row(tower, sizes.hidden)
}

/// Pictures of any size.
const ANY_SIZE: PictureLayout = PictureLayout::Planes {
    name: "pixel_values",
    size: None,
    beside: BesidePlanes::None,
};

/// The tower with the row of the class of every view behind it.
fn with_class_row(tower: Blocks<'_>, hidden: usize) -> Result<Described, SpecError> {
    let rule = ("pooled", pooled::VIEWS);
    let row = pooled::row_of(rule, 0, hidden, |_| None, Leaves::new(""));
    Ok(pooled::behind(tower.build()?, &row, PooledEnd::Pooler))
}

/// A tensor of DINOv2's layers as published, or as the reference's class has it.
fn spelled_dino(name: &str, prefix: &str) -> Source {
    const OTHERS: [(&str, &str); 4] = [
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
    ];
    let in_layer = name.strip_prefix(prefix).unwrap_or(name);
    if !in_layer.starts_with("encoder.layer.") || !in_layer.contains(".attention.") {
        return Source::tensor(name);
    }
    let other = OTHERS.iter().fold(name.to_owned(), |name, (own, other)| {
        name.replace(own, other)
    });
    Source::one_of(vec![Source::tensor(name), Source::tensor(other)])
}

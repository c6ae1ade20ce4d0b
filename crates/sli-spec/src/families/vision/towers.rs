//! Towers: patches of a picture through layers whose rows all see each other.

use std::rc::Rc;

use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections};
use crate::families::pooled;
use crate::rope::{Pairs, PositionAxis, Rope};
use crate::{
    BesidePlanes, Config, Described, FrontRow, Gain, Interpolation, LengthLimit, Linear, Mask,
    NormSpan, PictureLayout, PictureRows, Pictures, PlaceTable, PooledEnd, RowRule, Sequence,
    Shard, Source, SpecError, Split, Stack,
};

/// The names of CLIP's and SigLIP's layers.
pub(super) static CLIP: Names = Names {
    layers: "encoder.layers",
    output: "self_attn.out_proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "post_layernorm",
    ..Names::USUAL
};

/// The published names of ViT's layers.
pub(super) static VIT: Names = Names {
    layers: "encoder.layer",
    projections: Projections::Separate([
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
    ]),
    output: "attention.output.dense",
    up: "intermediate.dense",
    down: "output.dense",
    final_norm: "layernorm",
    ..Names::USUAL
};

/// The names of InternViT's layers.
static INTERN: Names = Names {
    layers: "encoder.layer",
    projections: Projections::Separate([
        "attention.q_proj",
        "attention.k_proj",
        "attention.v_proj",
    ]),
    query_norm: "attention.q_norm",
    key_norm: "attention.k_norm",
    output: "attention.projection_layer",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "layernorm",
    ..Names::USUAL
};

/// How files call what an InternViT is made of.
struct Intern {
    names: &'static Names,
    arrangement: Arrangement,
    /// Factors on what attention and network add.
    scales: [&'static str; 2],
    /// The row of the class, the projection of patches, the places.
    embeddings: [&'static str; 3],
}

/// As the reference's class has it.
static OWN: Intern = Intern {
    names: &INTERN,
    arrangement: Arrangement::pre("layernorm_before", "layernorm_after"),
    scales: ["lambda_1", "lambda_2"],
    embeddings: [
        "embeddings.cls_token",
        "embeddings.patch_embeddings.projection",
        "embeddings.position_embeddings",
    ],
};

/// As it is published.
static PUBLISHED: Intern = Intern {
    names: &Names {
        layers: "encoder.layers",
        projections: Projections::Rows("attn.qkv"),
        output: "attn.proj",
        query_norm: "attn.q_norm",
        key_norm: "attn.k_norm",
        ..INTERN
    },
    arrangement: Arrangement::pre("norm1", "norm2"),
    scales: ["ls1", "ls2"],
    embeddings: [
        "embeddings.class_embedding",
        "embeddings.patch_embedding",
        "embeddings.position_embedding",
    ],
};

/// The sizes of a tower's pictures.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub hidden: usize,
    pub channels: usize,
    pub patch: usize,
    /// Height and width that pictures have.
    pub picture: [usize; 2],
}

impl Sizes {
    /// Channels, and rows and columns of a patch.
    pub fn read_patches(config: &Config) -> Result<[usize; 2], SpecError> {
        let patch = match config.sizes("patch_size")?[..] {
            [size] => size,
            [height, width] if height == width => height,
            _ => return Err(config.unsupported("patch_size", "patches are squares here")),
        };
        Ok([config.size("num_channels")?, patch])
    }

    pub fn read(config: &Config) -> Result<Self, SpecError> {
        let [channels, patch] = Self::read_patches(config)?;
        let picture = match config.sizes("image_size")?[..] {
            [size] => [size; 2],
            [height, width] => [height, width],
            _ => return Err(config.invalid("image_size", "a size, or a height and a width")),
        };
        Self::checked(
            config,
            config.size("hidden_size")?,
            [channels, patch],
            picture,
        )
    }

    /// Of square pictures, where files have other names for the rest.
    pub fn of_square(config: &Config, hidden: usize, channels: usize) -> Result<Self, SpecError> {
        let (side, patch) = (config.size("image_size")?, config.size("patch_size")?);
        Self::checked(config, hidden, [channels, patch], [side; 2])
    }

    fn checked(
        config: &Config,
        hidden: usize,
        [channels, patch]: [usize; 2],
        picture: [usize; 2],
    ) -> Result<Self, SpecError> {
        if picture.into_iter().any(|side| side < patch) {
            return Err(config.invalid("image_size", format!("at least a patch of {patch}")));
        }
        Ok(Self {
            hidden,
            channels,
            patch,
            picture,
        })
    }

    /// The same of pictures that are squares, whose places are stretched to those of others.
    pub fn square(self, config: &Config) -> Result<Self, SpecError> {
        let [rows, columns] = self.grid();
        if rows != columns {
            let problem = "places of pictures that are no squares are not stretched";
            return Err(config.unsupported("image_size", problem));
        }
        Ok(self)
    }

    /// Rows `[1, rows, hidden]` that stand for no patch, without places.
    pub fn registers(self, leaves: &mut Leaves, name: &str, rows: usize) -> Vec<FrontRow> {
        let row = |number: usize| {
            let all = leaves.tensor(name).part(Split::Rows(vec![1; rows]), number);
            let stored = Source::Reshape(Box::new(all));
            FrontRow {
                weight: leaves.weight(stored, &[1, self.hidden], Shard::Column),
                position: None,
            }
        };
        (0..rows).map(row).collect()
    }

    /// Rows and columns of patches. What is left over at the edges is in none.
    pub fn grid(self) -> [usize; 2] {
        self.picture.map(|size| size / self.patch)
    }

    /// Number of patches.
    pub fn patches(self) -> usize {
        self.grid().iter().product()
    }

    /// The pictures: a projection `NAME` of patches, nothing else yet.
    pub fn pictures(self, leaves: &mut Leaves, name: &str, bias: bool) -> Pictures {
        let weight = leaves.tensor(&format!("{name}.weight"));
        let bias = bias.then(|| leaves.tensor(&format!("{name}.bias")));
        let of = [self.channels, self.patch];
        let projection = projection(leaves, (weight, bias), self.hidden, of);
        Pictures::new(
            PictureLayout::Planes {
                name: "pixel_values",
                size: Some(self.picture),
                beside: BesidePlanes::None,
            },
            [self.channels, self.patch],
            projection,
        )
    }

    /// A learned table of places behind `first` rows of others, whatever its axes.
    pub fn table(self, leaves: &mut Leaves, name: &str, first: usize) -> PlaceTable {
        self.table_around(leaves, name, [first, 0])
    }

    /// The same between rows of others.
    pub fn table_around(
        self,
        leaves: &mut Leaves,
        name: &str,
        [first, behind]: [usize; 2],
    ) -> PlaceTable {
        let stored = Source::Reshape(Box::new(leaves.tensor(name)));
        let shape = [first + self.patches() + behind, self.hidden];
        PlaceTable {
            weight: leaves.weight(stored, &shape, Shard::Column),
            first,
            grid: self.grid(),
            otherwise: Interpolation::None,
            turned: false,
        }
    }

    /// A vector in front of the patches, whatever its axes, with its row of the table of places.
    pub fn class(self, leaves: &mut Leaves, name: &str) -> FrontRow {
        let stored = Source::Reshape(Box::new(leaves.tensor(name)));
        FrontRow {
            weight: leaves.weight(stored, &[1, self.hidden], Shard::Column),
            position: Some(0),
        }
    }
}

/// Layers whose rows all see each other, addends everywhere: `[features, features inside the network]`, and its number of
/// heads by key.
pub(super) fn layers<'c>(
    config: &'c Config,
    sizes: [usize; 2],
    norm: NormStyle,
    (names, arrangement): (&Names, Arrangement),
) -> Result<Blocks<'c>, SpecError> {
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", sizes[0], heads)?;
    let layers = config.layers("num_hidden_layers")?;
    let mut tower = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    of_pictures(&mut tower, "vision");
    (tower.names, tower.arrangement) = (*names, arrangement);
    tower.set_biases(true);
    tower.activation = config.activation("hidden_act")?;
    Ok(tower)
}

/// A stack `NAME` of as many rows as there are, which all see each other and are no tokens.
pub(super) fn of_pictures(blocks: &mut Blocks<'_>, name: &'static str) {
    (blocks.family, blocks.stack) = ("vision", name);
    blocks.ignored.clear();
    blocks.masks.fill(Mask::Full);
    blocks.length_limit = Some(LengthLimit::None);
    blocks.vocab_size = Some(1);
    blocks.may_look_ahead = false;
}

/// A stack `NAME` of so many rows for every view.
pub(super) fn of_views(blocks: &mut Blocks<'_>, name: &'static str, rows: usize) {
    of_pictures(blocks, name);
    blocks.sequence = Sequence::Rows(RowRule::Pictures(PictureRows::Views { rows }));
    blocks.sequence_classifier = None;
}

/// The stack that these blocks are.
pub(super) fn only_stack(config: &Config, blocks: Blocks<'_>) -> Result<Stack, SpecError> {
    let stack = blocks.build()?.spec.stacks.pop();
    stack.ok_or_else(|| config.unsupported("model_type", "it has no stack"))
}

/// Turns heads by rows and columns; `key` says their number.
pub(super) fn turn(
    config: &Config,
    key: &str,
    tower: &mut Blocks<'_>,
    (pairs, interleaved, theta): (Pairs, bool, f64),
) -> Result<(), SpecError> {
    let head_dim = tower.head_dim;
    if !head_dim.is_multiple_of(4) {
        return Err(config.invalid(key, "heads of a multiple of 4 features"));
    }
    let speeds = match pairs {
        Pairs::HalvesByTurns => head_dim,
        _ => head_dim / 2,
    };
    let rope = Rope {
        dims: head_dim,
        interleaved,
        axis: PositionAxis::Coordinates(pairs),
        ..Rope::plain(speeds, theta)
    };
    tower.ropes.fill(Some(rope));
    Ok(())
}

/// The projection of patches, of a weight and an addend, whatever the axes of the weight.
pub(super) fn projection(
    leaves: &mut Leaves,
    (weight, bias): (Source, Option<Source>),
    hidden: usize,
    [channels, patch]: [usize; 2],
) -> Linear {
    let weight = Source::Reshape(Box::new(weight));
    let shape = [hidden, channels * patch * patch];
    leaves.linear_of(weight, bias, shape, Shard::Replicate)
}

/// The base of rotations by rows and columns.
pub(super) fn theta(config: &Config) -> Result<f64, SpecError> {
    const USUAL: f64 = 10_000.0;
    let Some(own) = config.nested("rope_parameters")? else {
        // Where older files have it.
        return Ok(config.optional_positive("rope_theta")?.unwrap_or(USUAL));
    };
    let types = ["axial".into(), "default".into()];
    own.neutral("rope_type", &types, "towers turn by rows and columns")?;
    Ok(own.optional_positive("rope_theta")?.unwrap_or(USUAL))
}

/// The same with a network without gate, sized by the usual keys.
pub(super) fn plain<'c>(
    config: &'c Config,
    names: &Names,
    arrangement: Arrangement,
) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let sizes = [
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    ];
    let mut tower = layers(config, sizes, norm, (names, arrangement))?;
    tower.gated = false;
    Ok(tower)
}

/// CLIP's (Radford et al. 2021). What it makes of a picture is the row of its class, normed.
pub fn clip(config: &Config) -> Result<Described, SpecError> {
    // Of the texts beside it.
    config.ignore(&["vocab_size"]);
    let sizes = Sizes::read(config)?;
    let mut tower = plain(
        config,
        &CLIP,
        Arrangement::pre("layer_norm1", "layer_norm2"),
    )?;
    let norm = tower.norm;
    tower.final_norm = None;
    tower.ignored.push("*embeddings.position_ids");
    // Whatever its base model is called.
    PREFIX.clone_into(&mut tower.prefix);
    let leaves = Leaves::new(PREFIX);
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = sizes.class(leaves, "embeddings.class_embedding");
        let pictures = sizes.pictures(leaves, "embeddings.patch_embedding", false);
        Pictures {
            front: vec![class],
            positions: Some(sizes.table(leaves, "embeddings.position_embedding.weight", 1)),
            norm: Some(leaves.norm("pre_layrnorm", sizes.hidden, norm)),
            ..pictures
        }
    }));
    let normed = |leaves: &mut Leaves| Some(leaves.norm("post_layernorm", sizes.hidden, norm));
    let mut row = pooled::row_of(("pooled", pooled::VIEWS), 0, sizes.hidden, normed, leaves);
    let classes = config.texts("architectures")?.unwrap_or_default();
    let projects = classes.iter().any(|name| name.ends_with("WithProjection"));
    let end = if projects {
        let weight = Source::tensor("visual_projection.weight".to_owned());
        pooled::project(&mut row, weight, None, config.size("projection_dim")?);
        PooledEnd::Embeddings
    } else {
        config.ignore(&["projection_dim"]);
        tower.ignored.push("visual_projection.weight");
        PooledEnd::Pooler
    };
    let mut described = pooled::behind(tower.build()?, &row, end);
    described.spec.base_prefix = PREFIX;
    Ok(described)
}

/// What stands in front of the names of a tower, but in files of nothing else.
const PREFIX: &str = "vision_model.";

/// InternViT (Chen et al. 2023).
pub fn internvl(config: &Config) -> Result<Described, SpecError> {
    intern(config, &OWN)
}

/// The same as it is published.
pub fn qianfan_ocr(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["drop_path_rate"]);
    intern(config, &PUBLISHED)
}

/// The same as InternVL's own code has it, whose tiles may have another size than its places are for.
pub fn intern_vit(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "dropout",
        "drop_path_rate",
        "initializer_factor",
        "use_flash_attn",
    ]);
    let table = Sizes::read(config)?.square(config)?;
    let mut tower = plain(config, PUBLISHED.names, PUBLISHED.arrangement)?;
    let epsilon = config.positive("layer_norm_eps")?;
    tower.norm = intern_norm(config, epsilon)?;
    tower.final_norm = None;
    tower.query_key_value_bias = config.flag("qkv_bias")?;
    if config.flag("qk_normalization")? {
        tower.query_key_norm = Some((NormSpan::Full, NormStyle::rms(epsilon)));
    }
    scale_layers(&mut tower, PUBLISHED.scales);
    let sizes = match config.optional_size(FORCED)? {
        Some(size) if size >= table.patch => Sizes {
            picture: [size; 2],
            ..table
        },
        Some(_) => {
            return Err(config.invalid(FORCED, format!("at least a patch of {}", table.patch)));
        }
        None => table,
    };
    tower.pictures = Some(Rc::new(move |leaves| {
        let [class, patches, places] = PUBLISHED.embeddings;
        Pictures {
            front: vec![sizes.class(leaves, class)],
            positions: Some(PlaceTable {
                otherwise: Interpolation::Cubic,
                ..table.table(leaves, places, 1)
            }),
            ..sizes.pictures(leaves, patches, true)
        }
    }));
    tower.build()
}

/// The key of the size of tiles.
pub(super) const FORCED: &str = "force_image_size";

/// The norms of InternViT's layers.
fn intern_norm(config: &Config, epsilon: f64) -> Result<NormStyle, SpecError> {
    match config.optional_text("norm_type")?.as_deref() {
        Some("layer_norm") => Ok(NormStyle::layer(epsilon)),
        Some("rms_norm") => Ok(NormStyle::rms(epsilon)),
        _ => Err(config.invalid("norm_type", "\"layer_norm\" or \"rms_norm\"")),
    }
}

fn intern(config: &Config, form: &'static Intern) -> Result<Described, SpecError> {
    config.ignore(&["layer_scale_init_value", "projection_dropout"]);
    let sizes = Sizes::read(config)?;
    if sizes.picture[0] != sizes.picture[1] {
        let problem = "the reference stretches places of pictures that are no squares";
        return Err(config.unsupported("image_size", problem));
    }
    let mut tower = plain(config, form.names, form.arrangement)?;
    let epsilon = config.positive("layer_norm_eps")?;
    tower.norm = intern_norm(config, epsilon)?;
    tower.final_norm = (!config.flag("use_mean_pooling")?).then(|| NormStyle::layer(epsilon));
    tower.query_key_value_bias = config.flag("attention_bias")?;
    if config.flag("use_qk_norm")? {
        tower.query_key_norm = Some((NormSpan::Full, NormStyle::rms(1e-6)));
    }
    scale_layers(&mut tower, form.scales);
    let has_places = config.flag("use_absolute_position_embeddings")?;
    tower.ignored.push("*embeddings.mask_token");
    config.ignore(&["use_mask_token"]);
    tower.pictures = Some(Rc::new(move |leaves| {
        let [class, patches, places] = form.embeddings;
        let class = sizes.class(leaves, class);
        let pictures = sizes.pictures(leaves, patches, true);
        let positions = has_places.then(|| sizes.table(leaves, places, 1));
        let position = class.position.filter(|_| has_places);
        Pictures {
            front: vec![FrontRow { position, ..class }],
            positions,
            ..pictures
        }
    }));
    tower.build()
}

/// What attention and network of a layer add is multiplied by these vectors.
pub(super) fn scale_layers(tower: &mut Blocks<'_>, names: [&'static str; 2]) {
    tower.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        let mut steps = blocks.steps(leaves, number);
        for (step, name) in steps.iter_mut().zip(names) {
            let source = leaves.tensor(name);
            let weight = leaves.weight(source, &[blocks.hidden_size], Shard::Replicate);
            for branch in &mut step.branches {
                branch.gain = Gain::Vector(weight);
            }
        }
        steps
    }));
}

/// ViT (Dosovitskiy et al. 2021).
pub fn vit(config: &Config) -> Result<Described, SpecError> {
    vit_with(config, &["embeddings.cls_token"], true)
}

/// DeiT (Touvron et al. 2020): a row of another class, of a teacher's.
pub fn deit(config: &Config) -> Result<Described, SpecError> {
    const FRONT: &[&str] = &["embeddings.cls_token", "embeddings.distillation_token"];
    vit_with(config, FRONT, true)
}

/// ViT-MSN (Assran et al. 2022).
pub fn vit_msn(config: &Config) -> Result<Described, SpecError> {
    vit_with(config, &["embeddings.cls_token"], false)
}

/// I-JEPA (Assran et al. 2023): no row of a class.
pub fn ijepa(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["pooler_act", "pooler_output_size"]);
    vit_with(config, &[], false)
}

/// ViT with these rows in front of the patches, and a layer behind the first of them where files have it.
fn vit_with(
    config: &Config,
    front: &'static [&'static str],
    pools: bool,
) -> Result<Described, SpecError> {
    let sizes = Sizes::read(config)?;
    // Of its decoder, which another class has.
    config.ignore(&["encoder_stride"]);
    let mut tower = plain(
        config,
        &VIT,
        Arrangement::pre("layernorm_before", "layernorm_after"),
    )?;
    tower.query_key_value_bias = config.flag("qkv_bias")?;
    tower.stored = Some(Rc::new(|name: &str| spelled(name)));
    let row = if pools {
        let width = config.optional_size("pooler_output_size")?;
        let width = width.unwrap_or(sizes.hidden);
        let activation = config.activation("pooler_act")?;
        let rule = ("pooled", pooled::VIEWS);
        let mut row = pooled::row_of(rule, 0, sizes.hidden, |_| None, Leaves::new(""));
        let tensor = |part: &str| Source::tensor(format!("{}pooler.dense.{part}", tower.prefix));
        pooled::project(&mut row, tensor("weight"), Some(tensor("bias")), width);
        pooled::optional(&mut row, "pooler", activation);
        Some(row)
    } else {
        None
    };
    tower.ignored.push("*embeddings.mask_token");
    tower.pictures = Some(Rc::new(move |leaves| {
        let own = front.iter().enumerate().map(|(number, name)| FrontRow {
            position: Some(number),
            ..sizes.class(leaves, name)
        });
        let front: Vec<FrontRow> = own.collect();
        let pictures = sizes.pictures(leaves, "embeddings.patch_embeddings.projection", true);
        let table = sizes.table(leaves, "embeddings.position_embeddings", front.len());
        Pictures {
            front,
            positions: Some(table),
            ..pictures
        }
    }));
    let described = tower.build()?;
    Ok(match row {
        Some(row) => pooled::behind(described, &row, PooledEnd::Pooler),
        None => described,
    })
}

/// A tensor of ViT's layers as published, or as the reference's class has it.
fn spelled(name: &str) -> Source {
    const OTHERS: [(&str, &str); 7] = [
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        (".output.dense", ".mlp.fc2"),
    ];
    if !name.contains("encoder.layer.") {
        return Source::tensor(name);
    }
    let other = OTHERS.iter().fold(name.to_owned(), |name, (own, other)| {
        name.replace(own, other)
    });
    Source::one_of(vec![Source::tensor(name), Source::tensor(other)])
}

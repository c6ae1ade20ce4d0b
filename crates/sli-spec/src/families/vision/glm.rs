//! GLM-4V (2025): the rows of Qwen's towers, learned places stretched by cubes, a convolution over blocks.

use super::compose::{
    Projector, Tied, Tower, behind, decoder_config, dense, gated_pair, norm, scattered,
};
use super::part::DescribePart;
use super::qwen::{self, DECODER, TOWER};
use crate::build::{Leaves, NormStyle};
use crate::families::blocks::{Blocks, Names};
use crate::{
    Activation, ClampedGate, Config, Described, HeadTransform, Interpolation, Joining, NormSpan,
    PictureRows, Pictures, PlaceTable, Scattered, Shard, Source, SpecError,
};

/// The layers of a tower with so many features inside its networks.
fn layers(config: &Config, inner: usize) -> Result<(Blocks<'_>, qwen::Sizes), SpecError> {
    // Of what stands behind it.
    config.ignore(&["out_hidden_size", "intermediate_size", "image_size"]);
    let sizes = qwen::Sizes::read(config, config.size("hidden_size")?)?;
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut tower = qwen::layers(config, sizes, inner, norm, None)?;
    tower.names = Names {
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        query_norm: "attn.q_norm",
        key_norm: "attn.k_norm",
        final_norm: "post_layernorm",
        ..qwen::NAMES
    };
    tower.set_biases(false);
    tower.query_key_value_bias = config.flag("attention_bias")?;
    Ok((tower, sizes))
}

/// The tower of GLM-4.1V and GLM-4.5V.
pub fn glm4v_tower(config: &Config) -> Result<Described, SpecError> {
    let (mut tower, sizes) = layers(config, config.size("out_hidden_size")?)?;
    let side = match config.sizes("image_size")?[..] {
        [size] => size / sizes.patch,
        _ => return Err(config.invalid("image_size", "a size")),
    };
    if side == 0 {
        let expected = format!("at least a patch of {}", sizes.patch);
        return Err(config.invalid("image_size", expected));
    }
    let (hidden, norm) = (sizes.hidden, tower.norm);
    qwen::biased(&mut tower, move |leaves, pictures| {
        let patch_norm = Some(leaves.norm("post_conv_layernorm", hidden, norm));
        let name = "embeddings.position_embedding.weight";
        let positions = Some(PlaceTable {
            weight: leaves.table(name, side * side, hidden),
            first: 0,
            grid: [side; 2],
            otherwise: Interpolation::Cubic,
            turned: false,
        });
        Pictures {
            patch_norm,
            positions,
            ..pictures
        }
    });
    tower.build()
}

/// The tower of GLM-OCR: norms of query and key heads, no learned places.
pub fn glm_ocr_tower(config: &Config) -> Result<Described, SpecError> {
    let (mut tower, _) = layers(config, config.size("intermediate_size")?)?;
    tower.set_biases(config.flag("attention_bias")?);
    tower.query_key_norm = Some((NormSpan::Head, tower.norm));
    qwen::biased(&mut tower, |_, pictures| pictures);
    tower.build()
}

/// The tower of GLM-5.3-Flash: the same with networks of limited inputs.
pub fn glm5_next_tower(config: &Config) -> Result<Described, SpecError> {
    // Of what stands behind it.
    config.ignore(&["projection_intermediate_size"]);
    let (mut tower, _) = layers(config, config.size("intermediate_size")?)?;
    tower.set_biases(config.flag("attention_bias")?);
    tower.query_key_norm = Some((NormSpan::Head, tower.norm));
    let limit = config.positive(LIMIT)?;
    tower.clamped = Some(ClampedGate::of(tower.activation, limit));
    qwen::biased(&mut tower, |_, pictures| pictures);
    tower.build()
}

/// The key of the limit of a gated network.
const LIMIT: &str = "swiglu_limit";

/// GLM-4.1V.
pub fn glm4v(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    merged(
        config,
        (["glm4v_vision", "glm4v_text"], true),
        describe,
        |vision, _| vision.size("intermediate_size"),
    )
}

/// GLM-4.5V.
pub fn glm4v_moe(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = (["glm4v_moe_vision", "glm4v_moe_text"], true);
    merged(config, parts, describe, |vision, _| {
        vision.size("intermediate_size")
    })
}

/// GLM-OCR.
pub fn glm_ocr(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = (["glm_ocr_vision", "glm_ocr_text"], true);
    merged(config, parts, describe, |vision, width| {
        Ok(vision.size("in_channels")?.saturating_mul(width))
    })
}

/// GLM-5.3-Flash: tokens have one position, which nothing reads.
pub fn glm5_next(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let parts = (["glm5_next_vision", "glm5_next_text"], false);
    merged(config, parts, describe, |vision, _| {
        vision.size("projection_intermediate_size")
    })
}

/// Blocks of a tower's end, feature by feature, through a dense layer, one with a norm and a gated network, in which
/// there are as many features as `inner` says of those of a token. Tokens have three positions or one.
fn merged(
    config: &Config,
    ([vision, text], has_positions): ([&'static str; 2], bool),
    describe: DescribePart,
    inner: fn(&Config, usize) -> Result<usize, SpecError>,
) -> Result<Described, SpecError> {
    // Films and what stands around pictures.
    config.ignore(&[
        "video_token_id",
        "image_start_token_id",
        "image_end_token_id",
        "video_start_token_id",
        "video_end_token_id",
    ]);
    let vision = config.part_as("vision_config", vision)?;
    let text = decoder_config(config, ("text_config", text), Tied::ByEither)?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let hidden = text.size("hidden_size")?;
    let told = vision.size("out_hidden_size")?;
    if told != hidden {
        let expected = format!("{hidden}, as of the decoder");
        return Err(vision.invalid("out_hidden_size", expected));
    }
    let inner = inner(&vision, hidden)?;
    let activation = vision.activation("hidden_act")?;
    let limited = vision.declares(LIMIT);
    let limit = limited.then(|| vision.positive(LIMIT)).transpose()?;
    let side = vision.size("spatial_merge_size")?;
    let rule = (PictureRows::Blocks { side }, hidden);
    let projector = Projector::new(&tower, rule, |leaves| {
        let shape = [hidden, side * side * tower.width()];
        let layers = vec![
            downsample(leaves, shape),
            HeadTransform {
                norm: Some(norm(
                    leaves,
                    (TOWER.base, "merger.post_projection_norm"),
                    hidden,
                    NormStyle::layer(1e-5),
                )),
                norm_first: true,
                ..dense(
                    leaves,
                    (TOWER.base, "merger.proj"),
                    [hidden; 2],
                    false,
                    Activation::Gelu,
                )
            },
            HeadTransform {
                limit,
                ..gated_pair(
                    leaves,
                    ["up_proj", "gate_proj"].map(|name| stored(&format!("merger.{name}.weight"))),
                    [inner, hidden],
                    activation,
                )
            },
            dense(
                leaves,
                (TOWER.base, "merger.down_proj"),
                [hidden, inner],
                false,
                Activation::Linear,
            ),
        ];
        (None, layers)
    })
    .joined(Joining::ByTurns);
    let token = Scattered {
        has_positions,
        ..scattered(config, "image_token_id")?
    };
    let decoder = (describe(&text)?, DECODER, token);
    behind(config, (&tower, &[projector], &[]), decoder)
}

/// The convolution over blocks, whose kernel is its stride: a dense layer of their features by turns.
fn downsample(leaves: &mut Leaves, shape: [usize; 2]) -> HeadTransform {
    let weight = Source::Reshape(Box::new(stored("downsample.weight")));
    let bias = Some(stored("downsample.bias"));
    let dense = leaves.linear_of(weight, bias, shape, Shard::Replicate);
    HeadTransform::plain(dense, Activation::Linear)
}

/// A tensor beside the tower's.
fn stored(name: &str) -> Source {
    let prefixes = TOWER.base.iter();
    let all = prefixes.map(|prefix| Source::tensor(format!("{prefix}{name}")));
    Source::one_of(all.collect())
}

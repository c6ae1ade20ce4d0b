//! CogVLM (Wang et al. 2023): tokens of pictures have weights of their own in every layer of the decoder.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, gated_pair, norm};
use super::part::DescribePart;
use super::towers::{CLIP, Sizes, of_pictures};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, MixerOf, Names, Projections};
use crate::rope::{Pairs, PositionAxis, Rope};
use crate::{
    Activation, Attention, ByKind, Config, Described, HeadTransform, Joining, KeyValue,
    KindProjections, Mixer, PictureRows, Pictures, Scattered, Shard, Source, SpecError, TokenKind,
};

/// The key of the heads of keys, which CogVLM 2 has.
const KEY_HEADS: &str = "num_multi_query_heads";

/// The name that the tower's configuration goes by here: files give it none.
const TOWER_TYPE: &str = "cogvlm_vision";

/// Where files have the tower and what stands behind it.
const TOWER: Places = Places {
    base: &["model.vision."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["model."],
    outside: &[""],
};

/// The names of the tower's layers.
static LAYERS: Names = Names {
    layers: "transformer.layers",
    projections: Projections::Rows("attention.query_key_value"),
    output: "attention.dense",
    ..CLIP
};

/// The names of the decoder's layers.
static LANGUAGE: Names = Names {
    projections: Projections::Rows("self_attn.language_expert_query_key_value"),
    output: "self_attn.language_expert_dense",
    gate: "mlp.language_mlp.gate_proj",
    up: "mlp.language_mlp.up_proj",
    down: "mlp.language_mlp.down_proj",
    ..Names::USUAL
};

/// The same of what they have for pictures.
static VISION: Names = Names {
    projections: Projections::Rows("self_attn.vision_expert_query_key_value"),
    output: "self_attn.vision_expert_dense",
    gate: "mlp.vision_mlp.gate_proj",
    up: "mlp.vision_mlp.up_proj",
    down: "mlp.vision_mlp.down_proj",
    ..Names::USUAL
};

/// CogVLM and, where keys have fewer heads, CogVLM 2, whose blocks of four patches become one row.
pub fn cogvlm(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    const TOKEN: &str = "pad_token_id";
    // How prompts are written.
    config.ignore(&["template_version"]);
    let kv_heads = config.optional_heads(KEY_HEADS)?;
    let vision = config.part("vision_config", TOWER_TYPE, None, &[])?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let hidden = config.size("hidden_size")?;
    let inner = config.size("intermediate_size")?;
    let width = tower.width();
    let side = if kv_heads.is_some() { 2 } else { 1 };
    let rule = PictureRows::Framed { side };
    let vectors = ["boi", "eoi"].map(|name| {
        let stored = Source::tensor(format!("{}{name}", TOWER.base[0]));
        Source::Reshape(Box::new(stored))
    });
    let projector = Projector::new(&tower, (rule, hidden), |leaves| {
        let tensor = |name: &str| Source::tensor(format!("{}{name}", TOWER.base[0]));
        let mut layers = Vec::new();
        if side > 1 {
            let weight = Source::Reshape(Box::new(tensor("conv.weight")));
            let shape = [width, side * side * width];
            let bias = Some(tensor("conv.bias"));
            let linear = leaves.linear_of(weight, bias, shape, Shard::Replicate);
            layers.push(HeadTransform::plain(linear, Activation::Linear));
        }
        let name = |name| (TOWER.base, name);
        let first = dense(
            leaves,
            name("linear_proj.linear_proj"),
            [hidden, width],
            false,
            Activation::Gelu,
        );
        let style = NormStyle::layer(1e-5);
        layers.push(HeadTransform {
            norm: Some(norm(leaves, name("linear_proj.norm1"), hidden, style)),
            norm_first: true,
            ..first
        });
        let both = ["dense_h_to_4h", "gate_proj"]
            .map(|name| tensor(&format!("linear_proj.{name}.weight")));
        layers.push(gated_pair(leaves, both, [inner, hidden], Activation::Silu));
        let last = name("linear_proj.dense_4h_to_h");
        layers.push(dense(
            leaves,
            last,
            [hidden, inner],
            false,
            Activation::Linear,
        ));
        (None, layers)
    });
    let projector = projector.with_vectors(vectors);
    let projector = match side {
        1 => projector,
        _ => projector.joined(Joining::ByTurns),
    };
    let token = config
        .token_id(TOKEN)?
        .ok_or_else(|| config.missing(TOKEN))?;
    let decoder = decoder(config, token, kv_heads)?;
    let token = Scattered {
        stack: 1,
        token,
        has_positions: true,
        inputs_of: None,
        marks: None,
        is_scaled: false,
    };
    behind(
        config,
        (&tower, &[projector], &[]),
        (decoder, DECODER, token),
    )
}

/// The decoder; the end of a picture, whose next token is none of it, is a token of the text.
fn decoder(config: &Config, token: u32, kv_heads: Option<usize>) -> Result<Described, SpecError> {
    let style = NormStyle::rms(config.positive("rms_norm_eps")?);
    let heads = config.heads("num_attention_heads")?;
    let sizes = [
        config.size("hidden_size")?,
        config.size("intermediate_size")?,
    ];
    let head_dim = divided(config, "num_attention_heads", sizes[0], heads)?;
    let theta = if kv_heads.is_some() {
        500_000.0
    } else {
        10_000.0
    };
    let has_bias = kv_heads.is_some();
    let kv_heads = kv_heads.unwrap_or(heads);
    divided(config, KEY_HEADS, heads, kv_heads)?;
    let layers = config.layers("num_hidden_layers")?;
    let of = [heads, kv_heads, head_dim];
    let mut decoder = Blocks::sized(config, style, layers, sizes, of)?;
    decoder.names = LANGUAGE;
    decoder.activation = config.activation("hidden_act")?;
    let turned = u16::try_from(head_dim / 2).ok().filter(|&pairs| pairs > 0);
    let (0, Some(turned)) = (head_dim % 2, turned) else {
        let expected = "heads of an even number of features, up to 131070";
        return Err(config.invalid("num_attention_heads", expected));
    };
    let pairs = Pairs::Chunks([turned, 0, 0]);
    decoder.ropes.fill(Some(Rope {
        axis: PositionAxis::Coordinates(pairs),
        ..Rope::plain(head_dim, theta)
    }));
    let kind = TokenKind::Run(token);
    decoder.attention_of = MixerOf::new(move |blocks, leaves, layer| {
        let attention = blocks.usual_attention(leaves, layer);
        let mut seeing = blocks.clone();
        (seeing.names, seeing.query_key_value_bias) = (VISION, has_bias);
        let Attention {
            query,
            key_value:
                KeyValue::Own {
                    key,
                    value: Some(value),
                },
            output,
            ..
        } = seeing.usual_attention(leaves, layer)
        else {
            return None;
        };
        let own = KindProjections {
            kind,
            query,
            key,
            value,
            output,
        };
        let attention = Attention {
            of_kind: Some(Box::new(own)),
            ..attention
        };
        Some(Mixer::Attention(Box::new(attention)))
    });
    decoder.feed_forward_of = MixerOf::new(move |blocks, leaves, _| {
        let mut seeing = blocks.clone();
        seeing.names = VISION;
        let networks = [blocks.network(leaves), seeing.network(leaves)];
        Some(Mixer::ByKind(Box::new(ByKind { kind, networks })))
    });
    decoder.build()
}

/// The tower: EVA-CLIP's, with norms on what its sublayers add.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["dropout_prob"]);
    let hidden = config.size("hidden_size")?;
    let sizes = Sizes::of_square(config, hidden, config.size("in_channels")?)?;
    if config.size("num_positions")? != 1 + sizes.patches() {
        let expected = format!("{}, a class and the patches", 1 + sizes.patches());
        return Err(config.invalid("num_positions", expected));
    }
    let heads = config.heads("num_heads")?;
    let head_dim = divided(config, "num_heads", hidden, heads)?;
    let style = NormStyle::layer(config.positive("layer_norm_eps")?);
    let layers = config.layers("num_hidden_layers")?;
    let widths = [hidden, config.size("intermediate_size")?];
    let mut tower = Blocks::sized(config, style, layers, widths, [heads, heads, head_dim])?;
    of_pictures(&mut tower, "vision");
    tower.names = LAYERS;
    tower.arrangement = Arrangement::post("input_layernorm", "post_attention_layernorm");
    tower.set_biases(true);
    tower.gated = false;
    tower.activation = config.activation("hidden_act")?;
    tower.final_norm = None;
    tower.pictures = Some(Rc::new(move |leaves| Pictures {
        front: vec![sizes.class(leaves, "patch_embedding.cls_embedding")],
        positions: {
            let name = "patch_embedding.position_embedding.weight";
            Some(sizes.table(leaves, name, 1))
        },
        ..sizes.pictures(leaves, "patch_embedding.proj", true)
    }));
    tower.build()
}

//! Llama 3.2 Vision: tiles of a picture that see each other, and a decoder whose layers attend to them.

use std::rc::Rc;

use serde_json::Value;

use super::compose::{Places, Projector, Tower, crossed, dense};
use super::crossing::{self, Crossing, gate};
use super::part::DescribePart;
use super::tiles::given;
use super::towers::{CLIP, Sizes, of_pictures};
use crate::build::{Leaves, NormStyle, divided, pattern};
use crate::families::blocks::{Arrangement, Blocks, Names, Tie};
use crate::rope::RopeOptions;
use crate::{
    Activation, BesidePlanes, Config, Described, Elementwise, Gain, Identity, Input, JoinedTiles,
    Joining, Mask, Mixer, PictureLayout, PictureRows, Pictures, ScaledTable, Shard, Slot, Source,
    SpecError, Step, TileRow, TileTables, Write,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model.", "model.vision_model."],
    outside: &[],
};

/// Where they have what projects its end.
const PROJECTOR: &[&str] = &["multi_modal_projector", "model.multi_modal_projector"];

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["language_model.model.", "model.language_model."],
    outside: &["language_model.", ""],
};

/// What stands in front of the names of the decoder alone.
const PREFIX: &str = "model.";

/// Llama 3.2 Vision.
pub fn mllama(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    config.ignore(&["tie_word_embeddings", "pad_token_id"]);
    let vision = given(config, "vision_config", "mllama_vision_model")?;
    if config.value("text_config").is_none() {
        return Err(config.missing("text_config"));
    }
    let task = config.class()?.task;
    let text = config.part("text_config", "mllama_text_model", Some(task), &[])?;
    let kept = kept_layers(&vision)?;
    let mut tower = Tower::read(&vision, describe, TOWER)?;
    tower.keep_behind(&kept);
    let width = (1 + kept.len()) * tower.width();
    let said = vision.size("vision_output_dim")?;
    if said != width {
        let expected = format!(
            "{width}, the features of the tower and of {} layers",
            kept.len()
        );
        return Err(vision.invalid("vision_output_dim", expected));
    }
    let hidden = text.size("hidden_size")?;
    let rule = (PictureRows::Shown, hidden);
    let projector = Projector::of_end(&tower, rule, |leaves| {
        let name = (PROJECTOR, "");
        let linear = dense(leaves, name, [hidden, width], true, Activation::Linear);
        (None, vec![linear])
    });
    let decoder = decoder(&text, config.token_id("image_token_index")?)?;
    let projector = projector.joined(Joining::KeptByTurns(kept.len()));
    crossed(config, (&tower, &[projector]), (decoder, DECODER))
}

/// The decoder alone, which sees no pictures: layers that attend to them do nothing.
pub fn text_alone(config: &Config) -> Result<Described, SpecError> {
    let mut described = decoder(config, None)?;
    let untied = described.untied.as_deref_mut();
    for spec in std::iter::once(&mut described.spec).chain(untied) {
        for stack in &mut spec.stacks {
            let crossing = stack.layers.iter_mut().filter(|layer| {
                let mut mechanisms = layer.mechanisms();
                mechanisms.any(|mechanism| mechanism.stack_end().is_some())
            });
            for layer in crossing {
                layer.steps = vec![Step {
                    write: Write::Set(Slot::Hidden),
                    ..Step::residual(Mixer::Identity(Identity))
                }];
                for leaf in std::mem::take(&mut layer.leaves) {
                    spec.unused += leaf.elements();
                    let names = leaf.source.names().into_iter();
                    spec.ignored
                        .extend(names.map(|name| pattern(name.to_owned())));
                }
            }
            if let Input::Tokens(embedding) = &mut stack.input {
                embedding.inputs.clear();
            }
        }
    }
    Ok(described)
}

/// The layers (0-based) of the tower whose features stand beside those of its end.
fn kept_layers(vision: &Config) -> Result<Vec<usize>, SpecError> {
    const KEY: &str = "intermediate_layers_indices";
    let layers = vision.layers("num_hidden_layers")?;
    let said = vision.numbers(KEY)?;
    let said = said.unwrap_or_else(|| vec![3.0, 7.0, 15.0, 23.0, 30.0]);
    let of = |&number: &f64| {
        let from_end = number < 0.0;
        let number = if from_end {
            number + layers as f64
        } else {
            number
        };
        let is_one = number >= 0.0 && number < layers as f64 && number.fract() == 0.0;
        is_one.then_some(number as usize)
    };
    let layers: Option<Vec<usize>> = said.iter().map(of).collect();
    layers
        .filter(|layers| layers.len() < usize::from(u8::MAX))
        .ok_or_else(|| vision.invalid(KEY, "numbers of layers of the tower"))
}

/// The tower: layers, then gated ones behind a norm.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["vision_output_dim", "intermediate_layers_indices"]);
    let sizes = Sizes::read(config)?;
    let sizes = sizes.square(config)?;
    let tiles = config.size("max_num_tiles")?;
    let shapes = match config.value("supported_aspect_ratios") {
        None | Some(Value::Null) => 8,
        Some(Value::Array(all)) => all.len(),
        Some(_) => {
            return Err(config.invalid("supported_aspect_ratios", "a list of shapes"));
        }
    };
    let hidden = sizes.hidden;
    let heads = config.heads("attention_heads")?;
    let head_dim = divided(config, "attention_heads", hidden, heads)?;
    let (local, global) = (
        config.layers("num_hidden_layers")?,
        config.layers("num_global_layers")?,
    );
    let norm = NormStyle::layer(config.positive("norm_eps")?);
    // Torch's default.
    let around = NormStyle::layer(1e-5);
    let inner = config.size("intermediate_size")?;
    let count = local + global;
    let of = [heads, heads, head_dim];
    let mut tower = Blocks::sized(config, norm, count, [hidden, inner], of)?;
    of_pictures(&mut tower, "vision");
    tower.names = Names {
        output: "self_attn.o_proj",
        ..CLIP
    };
    tower.arrangement = Arrangement::pre("input_layernorm", "post_attention_layernorm");
    tower.gated = false;
    tower.set_network_bias(true);
    tower.activation = config.activation("hidden_act")?;
    tower.masks.fill(Mask::BlankApart);
    tower.final_norm = None;
    let of_part = |part: &str, layers: usize| -> Vec<String> {
        let numbers = 0..layers;
        numbers
            .map(|number| format!("{part}.layers.{number}"))
            .collect()
    };
    let mut places = of_part("transformer", local);
    places.extend(of_part("global_transformer", global));
    tower.places = Some(places);
    let prefix = tower.prefix.clone();
    tower.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        let mut steps = blocks.steps(leaves, number);
        let Some(own) = number.checked_sub(local) else {
            return steps;
        };
        for (step, name) in steps.iter_mut().zip(["gate_attn", "gate_ffn"]) {
            let factor = gate(leaves, name, (Elementwise::Tanh, 1));
            for branch in &mut step.branches {
                branch.gain = Gain::Vector(factor);
            }
        }
        if own == 0 {
            let between = |leaves: &mut Leaves| between(leaves, [hidden, shapes, tiles], around);
            steps.splice(0..0, leaves.under(prefix.clone(), between));
        }
        steps
    }));
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = sizes.class(leaves, "class_embedding");
        let pictures = sizes.pictures(leaves, "patch_embedding", false);
        let of = "gated_positional_embedding";
        let table = sizes.table(leaves, &format!("{of}.embedding"), 1);
        let scaled = |leaves: &mut Leaves, [name, factor]: [&str; 2], rows: usize| ScaledTable {
            table: {
                let stored = Source::Reshape(Box::new(leaves.tensor(&format!("{name}.weight"))));
                leaves.weight(stored, &[rows, hidden], Shard::Column)
            },
            factor: gate(leaves, factor, (Elementwise::Tanh, 1)),
        };
        let own = "pre_tile_positional_embedding";
        let names = [&format!("{own}.embedding"), &format!("{own}.gate")];
        let rows = (shapes + 1) * tiles;
        let of_tiles = scaled(leaves, names.map(String::as_str), rows);
        let names = [&format!("{of}.tile_embedding"), &format!("{of}.gate")];
        let rows = rows * (1 + sizes.patches());
        let of_rows = scaled(leaves, names.map(String::as_str), rows);
        Pictures {
            layout: PictureLayout::Planes {
                name: "pixel_values",
                size: Some(sizes.picture),
                beside: BesidePlanes::Joined(JoinedTiles {
                    shapes: "aspect_ratio_ids",
                    mask: "aspect_ratio_mask",
                    tiles,
                    last_shape: shapes,
                    multiple: 8,
                }),
            },
            front: vec![class],
            positions: Some(table),
            tiles: Some(TileTables {
                of_tiles,
                of_rows,
                of_places: gate(
                    leaves,
                    &format!("{of}.gate"),
                    (Elementwise::OneMinusTanh, 1),
                ),
                tiles,
            }),
            norm: Some(leaves.norm("layernorm_pre", hidden, around)),
            ..pictures
        }
    }));
    tower.build()
}

/// The norm behind the first layers, and what is added by tile in front of the gated ones.
fn between(leaves: &mut Leaves, [hidden, shapes, tiles]: [usize; 3], norm: NormStyle) -> Vec<Step> {
    let normed = Step {
        pre: Some(leaves.norm("layernorm_post", hidden, norm)),
        write: Write::Set(Slot::Hidden),
        ..Step::residual(Mixer::Identity(Identity))
    };
    let of = "post_tile_positional_embedding";
    let stored = Source::Reshape(Box::new(leaves.tensor(&format!("{of}.embedding.weight"))));
    let table = leaves.weight(stored, &[(shapes + 1) * tiles * hidden], Shard::Replicate);
    let mut added = Step::residual(Mixer::TileRow(TileRow { table, tiles }));
    let factor = gate(leaves, &format!("{of}.gate"), (Elementwise::Tanh, 1));
    for branch in &mut added.branches {
        branch.gain = Gain::Vector(factor);
    }
    vec![normed, added]
}

/// The decoder: Llama, of which some layers attend to pictures instead of earlier tokens.
fn decoder(config: &Config, placeholder: Option<u32>) -> Result<Described, SpecError> {
    const LAYERS: &str = "cross_attention_layers";
    /// Rows of the token table behind those that have logits.
    const FURTHER: usize = 8;
    // The head is no token table: it has fewer rows.
    config.ignore(&["tie_word_embeddings"]);
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = config.heads("num_key_value_heads")?;
    divided(config, "num_key_value_heads", heads, kv_heads)?;
    let of = [
        heads,
        kv_heads,
        divided(config, "num_attention_heads", hidden, heads)?,
    ];
    let sizes = [hidden, config.size("intermediate_size")?];
    let layers = config.layers("num_hidden_layers")?;
    let mut decoder = Blocks::sized(config, norm, layers, sizes, of)?;
    // Whatever its base model is called.
    PREFIX.clone_into(&mut decoder.prefix);
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    decoder.activation = config.activation("hidden_act")?;
    decoder.tie = Tie::Always(false);
    let vocab_size = config.size("vocab_size")?;
    decoder.vocab_size = Some(vocab_size + FURTHER);
    decoder.outputs = Some(vocab_size);
    let crossed = config.numbers(LAYERS)?;
    let crossed = crossed.unwrap_or_else(|| [3, 8, 13, 18, 23, 28, 33, 38].map(f64::from).into());
    decoder.further_input = Some(Rc::new(move |_, embedding| {
        let mask = crossing::mask("cross_attention_mask", placeholder);
        embedding.inputs.push(mask);
    }));
    let crossing = Crossing {
        stack: 1,
        width: None,
        gates: (["cross_attn_attn_gate", "cross_attn_mlp_gate"], 1),
        norms: Some(["cross_attn.q_norm", "cross_attn.k_norm"]),
        silent: 1,
    };
    decoder.layer_of = Some(Rc::new(move |blocks, leaves, number| {
        if !crossed.contains(&(number as f64)) {
            return blocks.steps(leaves, number);
        }
        crossing.steps(blocks, leaves, number)
    }));
    let mut described = decoder.build()?;
    described.spec.base_prefix = PREFIX;
    Ok(described)
}

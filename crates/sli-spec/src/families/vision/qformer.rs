//! BLIP-2 (Li et al. 2023): learned rows that attend to each other and to what a tower sees, in the place of a token.

use std::rc::Rc;

use super::compose::{Places, Projector, Tower, behind, dense, scattered};
use super::part::DescribePart;
use super::towers::{CLIP, Sizes, VIT, of_views, only_stack, plain};
use crate::build::{Leaves, NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Cross, Names, Norms, Projections};
use crate::{
    Activation, AskedRows, ByKind, Config, Described, Identity, Mixer, PictureRows, Pictures,
    Resampled, Resampling, RowRule, Scattered, Sequence, Shard, Slot, Source, SpecError, Stack,
    Step, Task, TokenKind, Write,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_model."],
    outside: &[],
};

/// Where they have the language model.
const DECODER: Places = Places {
    base: &["language_model.model.", "language_model."],
    outside: &["language_model."],
};

/// The names of the tower's layers.
static VISION: Names = Names {
    projections: Projections::Rows("self_attn.qkv"),
    output: "self_attn.projection",
    ..CLIP
};

/// The names of the learned rows' layers.
static QUERIES: Names = Names {
    up: "intermediate_query.dense",
    down: "output_query.dense",
    ..VIT
};

/// BLIP-2.
pub fn blip_2(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Of the class for retrieval.
    config.ignore(&["image_text_hidden_size"]);
    let vision = config.part("vision_config", "blip_2_vision_model", None, &[])?;
    let former = config.part("qformer_config", "blip_2_qformer", None, &[])?;
    former.off(
        "use_qformer_text_input",
        "texts of questions are not known here",
    )?;
    former.ignore(&["vocab_size", "max_position_embeddings"]);
    behind_queries(config, (&vision, &former, false), describe)
}

/// InstructBLIP (Dai et al. 2023): tokens of what is asked stand beside the learned rows.
pub fn instructblip(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    let vision = config.part("vision_config", "instructblip_vision_model", None, &[])?;
    let former = config.part("qformer_config", "instructblip_qformer", None, &[])?;
    behind_queries(config, (&vision, &former, true), describe)
}

/// A language model behind learned rows, beside which tokens of what is asked may stand.
fn behind_queries(
    config: &Config,
    (vision, former, asks): (&Config, &Config, bool),
    describe: DescribePart,
) -> Result<Described, SpecError> {
    // Of how weights begin.
    config.ignore(&["initializer_factor"]);
    // Both follow from the language model.
    config.ignore(&["is_encoder_decoder", "use_decoder_only_language_model"]);
    let text = language_model(config)?;
    let tower = Tower::read(vision, describe, TOWER)?;
    let rows = config.size("num_query_tokens")?;
    former.ignore(&["encoder_hidden_size", "pad_token_id"]);
    let queries = queries(former, (rows, asks), tower.width())?;
    let hidden = text.size(if text.declares("d_model") {
        "d_model"
    } else {
        "hidden_size"
    })?;
    let rule = PictureRows::Views { rows };
    let width = queries.hidden_size;
    let projector = Projector::behind((1, width), (rule, hidden), |leaves| {
        let name: (&[&str], &str) = (&[""], "language_projection");
        let linear = dense(leaves, name, [hidden, width], true, Activation::Linear);
        (None, vec![linear])
    });
    let token = Scattered {
        stack: 2,
        ..scattered(config, "image_token_index")?
    };
    let decoder = describe(&text)?;
    let projectors = [Projector::of_stack(queries), projector];
    behind(
        config,
        (&tower, &projectors, &[]),
        (decoder, DECODER, token),
    )
}

/// The configuration of the language model: of a decoder, or of an encoder and a decoder.
fn language_model(config: &Config) -> Result<Config, SpecError> {
    let of = |task| config.part("text_config", "opt", Some(task), &[]);
    let text = of(Task::CausalLm).or_else(|_| of(Task::Seq2SeqLm))?;
    if text.declares("word_embed_proj_dim")
        && let Some(width) = text.optional_size("word_embed_proj_dim")?
        && width != text.size("hidden_size")?
    {
        let problem = "rows of pictures are as wide as the layers, not as the token table";
        return Err(text.unsupported("word_embed_proj_dim", problem));
    }
    Ok(text)
}

/// The tower of BLIP, which is that of its successors with addends of queries, keys and values.
pub fn blip_tower(config: &Config) -> Result<Described, SpecError> {
    // Of the classes for retrieval.
    config.ignore(&["projection_dim"]);
    described_tower(config, true)
}

/// The tower: BLIP-2's, InstructBLIP's.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    described_tower(config, config.flag("qkv_bias")?)
}

fn described_tower(config: &Config, has_addends: bool) -> Result<Described, SpecError> {
    let sizes = |key: &str| config.size(key);
    let side = sizes("image_size")?;
    let patch = sizes("patch_size")?;
    if side < patch {
        return Err(config.invalid("image_size", format!("at least a patch of {patch}")));
    }
    let sizes = Sizes {
        hidden: sizes("hidden_size")?,
        channels: 3,
        patch,
        picture: [side; 2],
    };
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = plain(config, &VISION, arrangement)?;
    tower.query_key_value_bias = has_addends;
    tower.pictures = Some(Rc::new(move |leaves| {
        let class = sizes.class(leaves, "embeddings.class_embedding");
        let pictures = sizes.pictures(leaves, "embeddings.patch_embedding", true);
        Pictures {
            front: vec![class],
            positions: Some(sizes.table(leaves, "embeddings.position_embedding", 1)),
            ..pictures
        }
    }));
    tower.build()
}

/// Learned rows for every view, as BERT's layers have them, some of which attend to a tower of so many features. Tokens of
/// what is asked do not, and have a network of their own.
fn queries(config: &Config, (rows, asks): (usize, bool), seen: usize) -> Result<Stack, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    let layers = config.layers("num_hidden_layers")?;
    let every = config.size("cross_attention_frequency")?;
    let sizes = [hidden, config.size("intermediate_size")?];
    let mut former = Blocks::sized(config, norm, layers, sizes, [heads, heads, head_dim])?;
    of_views(&mut former, "qformer", rows);
    former.names = QUERIES;
    "qformer.".clone_into(&mut former.prefix);
    former.arrangement =
        Arrangement::after_sum("attention.output.LayerNorm", "output_query.LayerNorm");
    former.gated = false;
    former.set_biases(true);
    former.activation = config.activation("hidden_act")?;
    former.final_norm = None;
    former.differ(move |blocks, layer| {
        if layer.is_multiple_of(every) {
            blocks.cross = Some(Cross {
                stack: 0,
                width: Some(seen),
                norms: Norms {
                    sum: Some("crossattention.output.LayerNorm"),
                    ..Norms::default()
                },
                projections: [
                    "crossattention.attention.query",
                    "crossattention.attention.key",
                    "crossattention.attention.value",
                ],
                output: "crossattention.output.dense",
            });
        }
    });
    let asked = if asks {
        former.sequence = Sequence::Rows(RowRule::Pictures(PictureRows::Asked { rows }));
        former.layer_of = Some(Rc::new(move |blocks, leaves, number| {
            of_asked(blocks, leaves, (number, rows))
        }));
        Some([
            config.size("vocab_size")?,
            config.size("max_position_embeddings")?,
        ])
    } else {
        None
    };
    former.resampled = Some(Rc::new(move |leaves| {
        let stored = Source::Reshape(Box::new(Source::tensor("query_tokens")));
        let weight = leaves.weight(stored, &[rows, hidden], Shard::Column);
        let mut table = |name: &str, rows: usize| {
            let source = leaves.tensor(&format!("embeddings.{name}.weight"));
            leaves.weight(source, &[rows, hidden], Shard::Column)
        };
        let asked = asked.map(|[vocab_size, longest]| AskedRows {
            name: "qformer_input_ids",
            mask: "qformer_attention_mask",
            tokens: table("word_embeddings", vocab_size),
            vocab_size,
            positions: table("position_embeddings", longest),
            longest,
        });
        let name = if asked.is_some() {
            "embeddings.layernorm"
        } else {
            "layernorm"
        };
        let norm = Some(leaves.norm(name, hidden, norm));
        let rule = Resampling::Table {
            weight,
            rows,
            asked,
        };
        Resampled {
            norm,
            ..Resampled::plain(rule)
        }
    }));
    only_stack(config, former)
}

/// The steps of a layer whose first rows of every view, so many, are learned ones.
fn of_asked(blocks: &Blocks<'_>, leaves: &mut Leaves, (number, rows): (usize, usize)) -> Vec<Step> {
    let kind = TokenKind::Learned(rows);
    let mut seeing = blocks.clone();
    seeing.arrangement.feed_forward = None;
    let mut steps = seeing.steps(leaves, number);
    for attended in steps.iter_mut().skip(1) {
        attended.only = Some((kind, true));
    }
    let mut texts = blocks.clone();
    texts.names = VIT;
    let networks = [texts.network(leaves), blocks.network(leaves)];
    let network = ByKind { kind, networks };
    steps.push(Step::residual(Mixer::ByKind(Box::new(network))));
    let norms = ["output.LayerNorm", "output_query.LayerNorm"];
    for (is_learned, name) in [false, true].into_iter().zip(norms) {
        steps.push(Step {
            pre: Some(leaves.norm(name, blocks.hidden_size, blocks.norm)),
            write: Write::Set(Slot::Hidden),
            only: Some((kind, is_learned)),
            ..Step::residual(Mixer::Identity(Identity))
        });
    }
    steps
}

/// Learned rows are a part of a model, which says how many they are.
pub fn alone(config: &Config) -> Result<Described, SpecError> {
    let problem = "it is a part of a model that has a tower";
    Err(config.unsupported("model_type", problem))
}

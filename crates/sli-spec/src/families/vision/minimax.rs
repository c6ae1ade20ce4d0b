//! MiniMax-M3 (2026): a tower whose heads turn in part, patches projected by themselves and then in blocks.

use std::rc::Rc;

use super::compose::{
    Places, Projector, Tied, Tower, behind, decoder_config, dense, scattered, spelled_otherwise,
};
use super::part::DescribePart;
use super::tiles::given;
use super::towers::{self, CLIP, Sizes};
use crate::build::Leaves;
use crate::families::blocks::Arrangement;
use crate::rope::{Pairs, PositionAxis, Rope};
use crate::{
    Activation, Config, Described, PackedLimits, PictureLayout, PictureRows, Pictures, Scattered,
    Source, SpecError,
};

/// Where files have the tower.
const TOWER: Places = Places {
    base: &["vision_tower.vision_model.", "model.vision_tower."],
    outside: &[],
};

/// Where they have the decoder.
const DECODER: Places = Places {
    base: &["language_model.model.", "model.language_model."],
    outside: &["language_model.", ""],
};

/// The tower, for pictures of one time.
pub fn tower(config: &Config) -> Result<Described, SpecError> {
    const HEADS: &str = "num_attention_heads";
    // Places follow from the pictures.
    config.ignore(&["image_size"]);
    let arrangement = Arrangement::pre("layer_norm1", "layer_norm2");
    let mut tower = towers::plain(config, &CLIP, arrangement)?;
    let (hidden, norm) = (tower.hidden_size, tower.norm);
    // Two numbers of a third of a head for every speed, what is left over does not turn.
    let own = 2 * (tower.head_dim / 3 / 2);
    if own == 0 {
        return Err(config.invalid(HEADS, "heads of at least 6 features"));
    }
    tower.ropes.fill(Some(Rope {
        dims: 3 * own,
        axis: PositionAxis::Coordinates(Pairs::Thirds),
        ..Rope::plain(own, towers::theta(config)?)
    }));
    tower.final_norm = None;
    // As it is published, and as the reference's class has it.
    tower.stored = Some(Rc::new(|name: &str| {
        let own = name.replace("encoder.layers.", "layers.");
        let own = own.replace("embeddings.patch_embedding.", "embeddings.proj.");
        Source::named([name.to_owned(), own])
    }));
    let [channels, patch] = Sizes::read_patches(config)?;
    let channels = channels.saturating_mul(config.size("temporal_patch_size")?);
    let side = config.size("spatial_merge_size")?;
    tower.pictures = Some(Rc::new(move |leaves: &mut Leaves| {
        let of_patches = (leaves.tensor("embeddings.patch_embedding.weight"), None);
        let projection = towers::projection(leaves, of_patches, hidden, [channels, patch]);
        let limits = PackedLimits {
            one_time: true,
            ..PackedLimits::whole(side)
        };
        Pictures {
            norm: Some(leaves.norm("pre_layrnorm", hidden, norm)),
            ..Pictures::new(
                PictureLayout::packed(side, None, limits),
                [channels, patch],
                projection,
            )
        }
    }));
    tower.build()
}

/// The whole.
pub fn minimax_m3_vl(config: &Config, describe: DescribePart) -> Result<Described, SpecError> {
    // Films, and what follows from other sizes.
    config.ignore(&["video_token_index", "merged_hidden_size"]);
    let vision = given(config, "vision_config", "minimax_m3_vl_vision")?;
    let own = ("text_config", "minimax_m3_vl_text");
    let text = decoder_config(config, own, Tied::ByEither)?;
    let tower = Tower::read(&vision, describe, TOWER)?;
    let hidden = text.size("hidden_size")?;
    let inner = config.size("projector_hidden_size")?;
    let side = vision.size("spatial_merge_size")?;
    // Two dense layers by the names of both.
    let through = |leaves: &mut Leaves, names: [&[&str]; 2], width: usize| {
        let [first, second] = names;
        vec![
            dense(leaves, (first, ""), [inner, width], true, Activation::Gelu),
            dense(
                leaves,
                (second, ""),
                [hidden, inner],
                true,
                Activation::Linear,
            ),
        ]
    };
    let rule = (PictureRows::Patches { front: 0 }, hidden);
    let first = Projector::new(&tower, rule, |leaves| {
        let names: [&[&str]; 2] = [
            &[
                "multi_modal_projector.linear_1",
                "model.multi_modal_projector.linear_1",
            ],
            &[
                "multi_modal_projector.linear_2",
                "model.multi_modal_projector.linear_2",
            ],
        ];
        (None, through(leaves, names, tower.width()))
    });
    let rule = (PictureRows::Blocks { side }, hidden);
    let second = Projector::behind((1, hidden), rule, |leaves| {
        let names: [&[&str]; 2] = [
            &[
                "patch_merge_mlp.linear_1",
                "model.multi_modal_projector.merge_linear_1",
            ],
            &[
                "patch_merge_mlp.linear_2",
                "model.multi_modal_projector.merge_linear_2",
            ],
        ];
        (None, through(leaves, names, side * side * hidden))
    });
    let token = Scattered {
        stack: 2,
        ..scattered(config, "image_token_index")?
    };
    let experts = text.heads("num_local_experts")?;
    let decoder = spelled_otherwise(describe(&text)?, &|name| published(name, experts));
    behind(
        config,
        (&tower, &[first.named("patches"), second], &[]),
        (decoder, DECODER, token),
    )
}

/// A tensor of the text model in the whole's files, as they are published and as the reference's class has it.
fn published(name: &str, experts: usize) -> Source {
    const PUBLISHED: &str = ".block_sparse_moe.";
    let own = Source::tensor(name.to_owned());
    let each = |from: &str, parts: &[&str]| {
        let of = |part: &&str| {
            let to = format!("{PUBLISHED}experts.{{}}.{part}.weight");
            Source::tensor(name.replace(from, &to))
        };
        let of: Vec<Source> = parts.iter().map(of).collect();
        Source::Each {
            of: Box::new(match of.len() {
                1 => Source::one_of(of),
                _ => Source::ConcatRows(of),
            }),
            count: experts,
        }
    };
    let gate_and_up = |name: &str| {
        let parts = ["gate_proj", "up_proj"];
        Source::ConcatRows(
            parts
                .map(|part| Source::tensor(name.replace("gate_up_proj", part)))
                .into(),
        )
    };
    let indexer = ".self_attn.indexer.";
    let other = if name.ends_with(".mlp.experts.gate_up_proj") {
        each(".mlp.experts.gate_up_proj", &["w1", "w3"])
    } else if name.ends_with(".mlp.experts.down_proj") {
        each(".mlp.experts.down_proj", &["w2"])
    } else if name.contains(".mlp.gate.e_score_correction_bias") {
        Source::tensor(name.replace(".mlp.gate.", PUBLISHED))
    } else if name.contains(".mlp.gate.") {
        Source::tensor(name.replace(".mlp.", PUBLISHED))
    } else if name.contains(".mlp.shared_experts.gate_up_proj") {
        gate_and_up(&name.replace(".mlp.", PUBLISHED))
    } else if name.contains(".mlp.shared_experts.") {
        Source::tensor(name.replace(".mlp.", PUBLISHED))
    } else if name.contains(".mlp.gate_up_proj") {
        gate_and_up(name)
    } else if name.contains(indexer) {
        Source::tensor(name.replace(indexer, ".self_attn.index_"))
    } else {
        return own;
    };
    Source::one_of(vec![own, other])
}

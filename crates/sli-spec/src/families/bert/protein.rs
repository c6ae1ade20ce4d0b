//! Language models of proteins.

use std::rc::Rc;

use super::roberta::after_padding;
use super::{BERT, dense_classifier};
use crate::build::{NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Names, Residual, Table, Tie, Transform, UnusedHead,
};
use crate::rope::{Rope, RopeOptions, TurnsForm};
use crate::{
    Activation, Config, Described, HEAD, LengthLimit, Mask, NormSpan, Shard, SpecError,
    TokenDropout,
};

/// Masked tokens in training, as a part of all: `0.15 * 0.8`.
const MASKED_IN_TRAINING: f64 = 0.15 * 0.8;

/// Older files have them in every layer, of which the reference takes the first; what it saves has a star for the layer.
const STORED_FREQUENCIES: &[&str] = &[
    "encoder.layer.0.attention.self.rotary_embeddings.inv_freq",
    "encoder.layer.*.attention.self.rotary_embeddings.inv_freq",
    "rotary_embeddings.inv_freq",
];

/// ESM-1 and ESM-2 (Rives et al. 2021, Lin et al. 2023).
pub fn esm(config: &Config) -> Result<Described, SpecError> {
    config.off("is_folding_model", "structures are not predicted")?;
    config.ignore(&["esmfold_config", "vocab_list"]);
    let names = Names {
        final_norm: "encoder.emb_layer_norm_after",
        head: "lm_head.decoder",
        ..BERT
    };
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre("attention.LayerNorm", "LayerNorm");
    let mut model = Blocks::classic(config, names, arrangement, norm)?;
    (model.family, model.stack) = ("bert", "encoder");
    model.intermediate_size = config.size("intermediate_size")?;
    model.masks.fill(Mask::Full);
    if config.flag("is_decoder")? {
        model.stack = "decoder";
        model.masks.fill(Mask::Causal);
    }
    // No class of the reference has another.
    config.ignore(&["hidden_act"]);
    model.embedding_norm = config
        .flag("emb_layer_norm_before")?
        .then_some(("embeddings.layer_norm", norm));
    set_positions(config, &mut model)?;
    if config.flag("token_dropout")? {
        let mask = config.token_id("mask_token_id")?;
        let mask = mask.ok_or_else(|| config.missing("mask_token_id"))?;
        let kept = 1.0 - MASKED_IN_TRAINING;
        let dropout = TokenDropout { mask, kept };
        model.further_input = Some(Rc::new(move |_, embedding| {
            embedding.token_dropout = Some(dropout);
        }));
    } else {
        config.ignore(&["mask_token_id"]);
    }
    model.sequence_classifier = Some(dense_classifier(Activation::Tanh));
    set_head(&mut model, config.size("vocab_size")?);
    model.build()
}

fn set_positions(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    const KEY: &str = "position_embedding_type";
    model.ignored.push("*embeddings.position_ids");
    model.ignored.push("*rotary_embeddings.inv_freq");
    match config.optional_text(KEY)?.as_deref() {
        Some("absolute") => {
            let padding = after_padding(config, model)?;
            config.ignore(&["rope_theta"]);
            let rows = config.size("max_position_embeddings")?;
            let usable = rows.checked_sub(padding + 1).filter(|&usable| usable > 0);
            let usable = usable.ok_or_else(|| {
                config.invalid(
                    "max_position_embeddings",
                    format!("more than {}", padding + 1),
                )
            })?;
            model.table = Some(Table::Learned {
                name: "embeddings.position_embeddings",
                offset: 0,
                rows,
                otherwise: None,
            });
            model.length_limit = Some(LengthLimit::Table(usable));
        }
        Some("rotary") => {
            let theta = config.positive("rope_theta")?;
            let dims = model.head_dim;
            if !dims.is_multiple_of(2) {
                let expected = "a number that gives heads an even number of features";
                return Err(config.invalid("num_attention_heads", expected));
            }
            model.ropes.fill(Some(Rope::plain(dims, theta)));
            model.stored_turns = Some((TurnsForm::Frequencies, STORED_FREQUENCIES));
            model.length_limit = Some(LengthLimit::Trained(
                config.size("max_position_embeddings")?,
            ));
        }
        _ => return Err(config.unsupported(KEY, "`absolute` and `rotary` are known")),
    }
    Ok(())
}

fn set_head(model: &mut Blocks<'_>, vocabulary: usize) {
    let width = model.hidden_size;
    model.pooler = Some("pooler.dense");
    model.transforms = vec![Transform::normed(
        "lm_head.dense",
        "lm_head.layer_norm",
        width,
        Activation::Gelu,
    )];
    model.further_head = Some(Rc::new(move |leaves, head| {
        if let Some(logits) = &mut head.logits {
            // The addend stands beside the projection, tied or not.
            leaves.optional(Some(HEAD));
            let source = leaves.tensor("lm_head.bias");
            let addend = leaves.weight(source, &[vocabulary], Shard::Column);
            leaves.optional(None);
            logits.projection.bias = Some(addend);
        }
    }));
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.*"],
        own: &[],
    };
    model.ignored.push("*contact_head.*");
}

/// ESM Cambrian (`EvolutionaryScale` 2024).
pub fn esmc(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["mask_token_id"]);
    let norm = NormStyle::layer(1e-5);
    let plain = NormStyle {
        bias: false,
        ..norm
    };
    let mut model = Blocks::new(config, norm)?;
    divided(
        config,
        "num_attention_heads",
        model.hidden_size,
        model.heads,
    )?;
    if model.kv_heads != model.heads || model.heads * model.head_dim != model.hidden_size {
        let reason =
            "this type has a key for every query head, and heads as wide as the model together";
        return Err(config.unsupported("num_key_value_heads", reason));
    }
    (model.family, model.stack) = ("esmc", "encoder");
    model.masks.fill(Mask::Full);
    model.final_norm = Some(plain);
    model.query_key_norm = Some((NormSpan::Full, plain));
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.activation = config.activation("hidden_act")?;
    model.residual = Residual::Scaled(1.0 / (model.layers() as f64 / 36.0).sqrt());
    model.may_look_ahead = false;
    model.rotate(&RopeOptions::new(model.head_dim))?;
    model.transforms = vec![Transform::normed(
        "lm_head.dense",
        "lm_head.layer_norm",
        model.hidden_size,
        Activation::Gelu,
    )];
    model.sequence_classifier = Some(dense_classifier(Activation::Tanh));
    model.names.head = "lm_head.decoder";
    model.head_bias = true;
    model.tie = Tie::Always(false);
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &[],
        own: &[],
    };
    model.build()
}

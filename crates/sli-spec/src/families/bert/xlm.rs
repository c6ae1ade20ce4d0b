//! XLM (Lample and Conneau 2019) and `FlauBERT` (Le et al. 2020): the modules of all layers side by side.

use std::rc::Rc;

use super::summary;
use crate::build::{NormStyle, divided};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, Names, Projections, UnusedHead,
};
use crate::{Activation, Config, Described, Mask, Source, SpecError, Task};

const XLM: Names = Names {
    tokens: "embeddings",
    layers: LAYERS,
    projections: Projections::Separate([
        "attentions.q_lin",
        "attentions.k_lin",
        "attentions.v_lin",
    ]),
    output: "attentions.out_lin",
    up: "ffns.lin1",
    down: "ffns.lin2",
    head: "pred_layer.proj",
    ..Names::USUAL
};

/// Stands in names for the layers, until they are put in their places.
const LAYERS: &str = "layer";

/// XLM.
pub fn xlm(config: &Config) -> Result<Described, SpecError> {
    model(config)
}

/// `FlauBERT`.
pub fn flaubert(config: &Config) -> Result<Described, SpecError> {
    config.off("pre_norm", "the reference's class fails with it")?;
    config.ignore(&["layerdrop"]);
    model(config)
}

fn model(config: &Config) -> Result<Described, SpecError> {
    config.neutral(
        "is_encoder",
        &[true.into()],
        "the reference has no other form",
    )?;
    config.off("asm", "an adaptive softmax is not implemented")?;
    // Without a language of its tokens nothing is added; tables of sines are stored.
    config.ignore(&[
        "n_langs",
        "use_lang_emb",
        "lang_id",
        "sinusoidal_embeddings",
    ]);
    config.ignore(&[
        "mask_index",
        "unk_index",
        "mask_token_id",
        "embed_init_std",
        "is_decoder",
    ]);
    config.ignore(&["asm_cutoffs", "asm_div_value", "bos_index", "eos_index"]);
    config.ignore(&["start_n_top", "end_n_top", "summary_first_dropout"]);
    config.ignore(&["id2lang", "lang2id"]);
    let hidden = config.size("emb_dim")?;
    let heads = config.heads("n_heads")?;
    let head_dim = divided(config, "n_heads", hidden, heads)?;
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let layers = config.layers("n_layers")?;
    let mut model = Blocks::sized(
        config,
        norm,
        layers,
        [hidden, 4 * hidden],
        [heads, heads, head_dim],
    )?;
    (model.family, model.stack, model.names) = ("xlm", "encoder", XLM);
    let prefix = model.prefix.clone();
    model.stored = Some(Rc::new(move |name: &str| {
        Source::tensor(stored(&prefix, name))
    }));
    model.arrangement = Arrangement::after_sum("layer_norm1", "layer_norm2");
    model.ignored = vec!["*position_ids", "*lang_embeddings.weight"];
    model.gated = false;
    model.set_biases(true);
    model.activation = if config.flag("gelu_activation")? {
        Activation::Gelu
    } else {
        Activation::Relu
    };
    if config.flag("causal")? {
        model.stack = "decoder";
    } else {
        model.masks.fill(Mask::Full);
    }
    model.embedding_norm = Some(("layer_norm_emb", norm));
    model.final_norm = None;
    model.head_bias = true;
    model.may_look_ahead = false;
    let rows = config.size("max_position_embeddings")?;
    model.learned_positions("position_embeddings", 0, rows);
    // Its place decides what is hidden, and a row without it is zero.
    model.refused_token = config.token_id("pad_token_id")?;
    model.sequence_classifier = classifier(config)?;
    model.unused_head = UnusedHead {
        without: &["pred_layer.*"],
        tied: &["pred_layer.proj.weight"],
        own: &[],
    };
    model.build()
}

/// The class for records has one projection, the summary.
fn classifier(config: &Config) -> Result<Option<Classifier>, SpecError> {
    let summary_keys = ["summary_proj_to_labels", "summary_use_proj"];
    if config.class()?.task != Task::SequenceClassification {
        config.ignore(&summary_keys);
        config.ignore(&["summary_activation", "summary_type"]);
        return Ok(None);
    }
    for key in summary_keys {
        let reason = "the logits would be features of the model";
        config.neutral(key, &[true.into()], reason)?;
    }
    let names = &["sequence_summary.summary"];
    Ok(Some(Classifier {
        activation: summary::activation(config)?,
        ..Classifier::with_bias(summary::judged(config)?, InFront::Nothing, names)
    }))
}

/// `layer.3.attentions.q_lin` is `attentions.3.q_lin`.
fn stored(prefix: &str, name: &str) -> String {
    let parts = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix(LAYERS)?.strip_prefix('.'))
        .and_then(|rest| rest.split_once('.'))
        .and_then(|(number, rest)| Some((number, rest.split_once('.')?)));
    match parts {
        Some((number, (module, rest))) => format!("{prefix}{module}.{number}.{rest}"),
        None => name.to_owned(),
    }
}

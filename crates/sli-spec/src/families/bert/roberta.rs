//! RoBERTa and its relatives: positions are counted from behind the padding token's id.

use std::rc::Rc;

use super::{BERT, dense_classifier, table, usual};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, MixerOf, Names, Tie, Transform, UnusedHead,
};
use crate::{
    Activation, Config, Described, GlobalTokens, Mask, Mixer, PositionIds, Shard, SpecError, Task,
    TokenInput,
};

/// RoBERTa, CamemBERT, XLM-RoBERTa, data2vec.
pub fn roberta(config: &Config) -> Result<Described, SpecError> {
    of_names(config, &BERT)?.build()
}

/// I-BERT in floating point: what its integers are scaled by is stored all the same.
pub fn ibert(config: &Config) -> Result<Described, SpecError> {
    config.off(
        "quant_mode",
        "only the model in floating point is implemented",
    )?;
    config.ignore(&["force_dequant"]);
    config.neutral(
        "hidden_act",
        &["gelu".into()],
        "the reference's class has no other",
    )?;
    let mut model = of_names(config, &BERT)?;
    model.ignored.extend([
        "*.act_scaling_factor",
        "*.x_max",
        "*.x_min",
        "*.weight_integer",
        "*.weight_scaling_factor",
        "*.bias_integer",
        "*.fc_scaling_factor",
        "*.LayerNorm.shift",
    ]);
    model.build()
}

/// RoBERTa with its norms in front of the sublayers.
pub fn roberta_prelayernorm(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        final_norm: "LayerNorm",
        ..BERT
    };
    let mut model = of_names(config, &names)?;
    model.arrangement = Arrangement::pre("attention.LayerNorm", "intermediate.LayerNorm");
    model.final_norm = Some(model.norm);
    model.build()
}

/// The same under other names, without a norm of the embedding (Goyal et al. 2021).
pub fn xlm_roberta_xl(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        final_norm: "encoder.LayerNorm",
        ..BERT
    };
    let mut model = of_names(config, &names)?;
    model.arrangement = Arrangement::pre("attention.self_attn_layer_norm", "LayerNorm");
    (model.embedding_norm, model.final_norm) = (None, Some(model.norm));
    model.build()
}

/// Longformer (Beltagy et al. 2020): windows, and tokens that the record marks as global.
pub fn longformer(config: &Config) -> Result<Described, SpecError> {
    const KEY: &str = "attention_window";
    // They are an encoder, whatever the file says.
    config.ignore(&[
        "is_decoder",
        "add_cross_attention",
        "onnx_export",
        "sep_token_id",
    ]);
    config.ignore(&["attention_mode", "ignore_attention_mask"]);
    let mut model = of_names(config, &BERT)?;
    model.stack = "encoder";
    let layers = model.layers();
    let windows = match config.value(KEY) {
        Some(serde_json::Value::Array(_)) => config.sizes(KEY)?,
        _ => vec![config.size(KEY)?; layers],
    };
    if windows.len() != layers || windows.iter().any(|window| window % 2 != 0) {
        let expected = format!("an even number, or one for each of {layers} layers");
        return Err(config.invalid(KEY, expected));
    }
    let masks = windows.into_iter().map(|window| Mask::Window(window / 2));
    model.masks = masks.collect();
    // The class for records makes the first token global by itself, where no other is marked.
    let first = config.class()?.task == Task::SequenceClassification;
    model.further_input = Some(Rc::new(move |_, embedding| {
        embedding.inputs.push(TokenInput::global_tokens(first));
    }));
    model.attention_of = MixerOf::new(|own, leaves, layer| {
        let shape = [own.heads * own.head_dim, own.hidden_size];
        let projections = ["query", "key", "value"].map(|name| {
            let name = format!("attention.self.{name}_global");
            leaves.linear(&name, shape, true, Shard::Column)
        });
        Some(Mixer::GlobalTokens(Box::new(GlobalTokens {
            attention: own.usual_attention(leaves, layer),
            projections,
        })))
    });
    model.build()
}

/// LUKE (Yamada et al. 2020) without entities.
pub fn luke(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["is_decoder", "add_cross_attention"]);
    config.ignore(&[
        "entity_vocab_size",
        "entity_emb_size",
        "use_entity_aware_attention",
        "cls_entity_prediction",
    ]);
    let mut model = of_names(config, &BERT)?;
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    model.tie = Tie::Always(false);
    model.sequence_classifier = Some(Classifier::POOLED);
    model.ignored.extend([
        "*.w2e_query.*",
        "*.e2w_query.*",
        "*.e2e_query.*",
        "*entity_embeddings.*",
        "entity_predictions.*",
    ]);
    model.build()
}

/// RoBERTa with these names.
pub(super) fn of_names<'c>(config: &'c Config, names: &Names) -> Result<Blocks<'c>, SpecError> {
    let names = Names {
        head: "lm_head.decoder",
        ..*names
    };
    let mut model = usual(config, &names)?;
    let padding = after_padding(config, &mut model)?;
    model.transforms = vec![Transform::normed(
        "lm_head.dense",
        "lm_head.layer_norm",
        model.hidden_size,
        Activation::Gelu,
    )];
    model.sequence_classifier = Some(dense_classifier(Activation::Tanh));
    model.tied_bias = Some("lm_head.bias");
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.weight", "lm_head.decoder.bias"],
        own: &["lm_head.bias"],
    };
    table(config, &mut model, padding + 1)?;
    Ok(model)
}

/// Positions behind the padding token's id, which is returned.
pub(super) fn after_padding(config: &Config, model: &mut Blocks<'_>) -> Result<usize, SpecError> {
    let padding = config.token_id("pad_token_id")?;
    let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
    model.position_ids = PositionIds::AfterPadding { padding };
    Ok(padding as usize)
}

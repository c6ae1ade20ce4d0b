//! BERT and its nearest relatives.

use super::jina::jina;
use super::{BERT, dense_classifier, encoder, masked, set_head, table, usual};
use crate::build::NormStyle;
use crate::families::blocks::{
    Arrangement, Buckets, Classifier, ConstantTable, Names, Projections, Transform, UnusedHead,
};
use crate::{Activation, Config, Described, Mask, PositionIds, SpecError};

/// BERT, as encoder or (`is_decoder`) with a causal mask.
pub fn bert(config: &Config) -> Result<Described, SpecError> {
    if config.optional_text("position_embedding_type")?.as_deref() == Some("alibi") {
        return jina(config);
    }
    masked(config)?.build()
}

/// Megatron-BERT (Shoeybi et al. 2019): norms in front of the sublayers.
pub fn megatron_bert(config: &Config) -> Result<Described, SpecError> {
    let mut model = masked(config)?;
    model.names.final_norm = "encoder.ln";
    model.arrangement = Arrangement::pre("attention.ln", "ln");
    (model.embedding_norm, model.final_norm) = (None, Some(model.norm));
    model.build()
}

/// ERNIE (Sun et al. 2020): an embedding of the task, which is the first one.
pub fn ernie(config: &Config) -> Result<Described, SpecError> {
    let mut model = masked(config)?;
    if config.flag("use_task_id")? {
        model.constant_rows.push(ConstantTable {
            name: "embeddings.task_type_embeddings",
            rows: config.size("task_type_vocab_size")?,
            row: 0,
        });
    } else {
        config.ignore(&["task_type_vocab_size"]);
    }
    model.build()
}

/// GIT (Wang et al. 2022) without pictures: BERT's layers, in which tokens see no later ones.
pub fn git(config: &Config) -> Result<Described, SpecError> {
    const GIT: Names = Names {
        head: "output",
        ..BERT
    };
    config.ignore(&["num_image_with_embedding", "vision_config"]);
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, &GIT, arrangement, norm)?;
    model.stack = "decoder";
    model.masks.fill(Mask::Causal);
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.ignored.extend([
        "*image_encoder.*",
        "*visual_projection.*",
        "*img_temporal_embedding.*",
    ]);
    model.unused_head = UnusedHead {
        without: &["output.weight", "output.bias"],
        tied: &["output.weight"],
        own: &[],
    };
    table(config, &mut model, 0)?;
    model.build()
}

/// Splinter (Ram et al. 2021), whose head of questions is not used.
pub fn splinter(config: &Config) -> Result<Described, SpecError> {
    // They are an encoder and have no pooler, whatever the file says.
    config.ignore(&["question_token_id", "is_decoder", "add_cross_attention"]);
    let mut model = usual(config, &BERT)?;
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    model.pooler = None;
    model.ignored.push("*splinter_qass.*");
    table(config, &mut model, 0)?;
    model.build()
}

/// `VisualBERT` (Li et al. 2019) without anything to see.
pub fn visual_bert(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "visual_embedding_dim",
        "special_visual_initialize",
        "bypass_transformer",
    ]);
    let mut model = masked(config)?;
    model
        .ignored
        .extend(["*embeddings.visual_*", "*additional_layer.*"]);
    model.build()
}

/// TAPAS (Herzig et al. 2020) without tables: every token is of the kinds 0.
pub fn tapas(config: &Config) -> Result<Described, SpecError> {
    const TABLES: [&str; 7] = [
        "embeddings.token_type_embeddings_0",
        "embeddings.token_type_embeddings_1",
        "embeddings.token_type_embeddings_2",
        "embeddings.token_type_embeddings_3",
        "embeddings.token_type_embeddings_4",
        "embeddings.token_type_embeddings_5",
        "embeddings.token_type_embeddings_6",
    ];
    // Of heads that are not used; without cells none begins anew.
    config.ignore(&[
        "aggregation_labels",
        "aggregation_loss_weight",
        "aggregation_temperature",
        "allow_empty_column_selection",
        "answer_loss_cutoff",
        "answer_loss_importance",
        "average_approximation_function",
        "average_logits_per_cell",
        "cell_selection_preference",
        "disable_per_token_loss",
        "huber_loss_delta",
        "init_cell_selection_weights_to_zero",
        "max_num_columns",
        "max_num_rows",
        "no_aggregation_label_index",
        "num_aggregation_labels",
        "positive_label_weight",
        "reset_position_index_per_cell",
        "select_one_column",
        "temperature",
        "use_answer_as_supervision",
        "use_gumbel_for_aggregation",
        "use_gumbel_for_cells",
        "use_normalized_answer_loss",
        "type_vocab_size",
    ]);
    config.ignore(&["is_decoder", "add_cross_attention"]);
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, &BERT, arrangement, norm)?;
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.pooler = Some("pooler.dense");
    model.sequence_classifier = Some(Classifier::POOLED);
    let kinds = config.sizes("type_vocab_sizes")?;
    if kinds.len() > TABLES.len() {
        return Err(config.unsupported("type_vocab_sizes", "more than seven tables of kinds"));
    }
    let zeros = TABLES.into_iter().zip(kinds);
    let zeros = zeros.map(|(name, rows)| ConstantTable { name, rows, row: 0 });
    model.constant_rows.extend(zeros);
    model.ignored.extend([
        "output_weights",
        "output_bias",
        "column_output_*",
        "aggregation_classifier.*",
    ]);
    let width = model.hidden_size;
    set_head(&mut model, width);
    table(config, &mut model, 0)?;
    model.build()
}

/// MPNet (Song et al. 2020): RoBERTa's positions, and addends by distance as T5's.
pub fn mpnet(config: &Config) -> Result<Described, SpecError> {
    /// Whatever the file says.
    const PADDING: u32 = 1;
    const BUCKETS: usize = 32;
    let names = Names {
        projections: Projections::Separate([
            "attention.attn.q",
            "attention.attn.k",
            "attention.attn.v",
        ]),
        output: "attention.attn.o",
        head: "lm_head.decoder",
        ..BERT
    };
    // It is an encoder, whatever the file says.
    config.ignore(&["is_decoder", "add_cross_attention"]);
    let arrangement = Arrangement::after_sum("attention.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, &names, arrangement, norm)?;
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.pooler = Some("pooler.dense");
    model.position_ids = PositionIds::AfterPadding { padding: PADDING };
    let rows = config.size("relative_attention_num_buckets")?;
    if rows < BUCKETS {
        let expected = format!("at least {BUCKETS}, which the class uses");
        return Err(config.invalid("relative_attention_num_buckets", expected));
    }
    model.buckets = Some(Buckets {
        name: "encoder.relative_attention_bias.weight",
        buckets: BUCKETS,
        looks_ahead: true,
        max_distance: 128,
        types: 0,
        further_rows: rows - BUCKETS,
    });
    let width = model.hidden_size;
    let transform = Transform::normed(
        "lm_head.dense",
        "lm_head.layer_norm",
        width,
        Activation::Gelu,
    );
    model.sequence_classifier = Some(dense_classifier(Activation::Tanh));
    model.transforms = vec![transform];
    model.tied_bias = Some("lm_head.bias");
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.weight", "lm_head.decoder.bias"],
        own: &["lm_head.bias"],
    };
    table(config, &mut model, PADDING as usize + 1)?;
    model.build()
}

/// The BERT of Rothe et al. (2020): no kinds of tokens, a plain head.
pub fn bert_generation(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        head: "lm_head.decoder",
        ..BERT
    };
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, &names, arrangement, norm)?;
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    if config.flag("is_decoder")? {
        model.stack = "decoder";
        model.masks.fill(Mask::Causal);
    }
    model.tied_bias = Some("lm_head.bias");
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.weight", "lm_head.decoder.bias"],
        own: &["lm_head.bias"],
    };
    table(config, &mut model, 0)?;
    model.build()
}

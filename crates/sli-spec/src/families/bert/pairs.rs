//! Text halves of models that put two things side by side: CLIP, TIPS, the two encoders of DPR.

use std::rc::Rc;

use super::{BERT, CROSS, encoder, set_head, table, usual};
use crate::build::{Leaves, NormStyle, Stored};
use crate::families::blocks::{Arrangement, Blocks, Cross, Names, Projections, Table};
use crate::families::pooled;
use crate::{
    Activation, Config, Described, LengthLimit, Mask, PooledEnd, Pooler, RowRule, Shard,
    Sinusoidal, Source, SpecError, TokenChoice,
};

/// Those of CLIP and SigLIP.
static CLIP: Names = Names {
    tokens: "embeddings.token_embedding",
    layers: "encoder.layers",
    output: "self_attn.out_proj",
    up: "mlp.fc1",
    down: "mlp.fc2",
    final_norm: "final_layer_norm",
    ..Names::USUAL
};

/// CLIP's (Radford et al. 2021).
pub fn clip_text(config: &Config) -> Result<Described, SpecError> {
    // The oldest files have another id, by which the end is the largest one.
    let end = config.token_id("eos_token_id")?;
    let choice = match end {
        Some(2) if config.model_type()? == "clip_text_model" => TokenChoice::Largest,
        Some(end) => TokenChoice::OfId(end),
        None => return Err(config.missing("eos_token_id")),
    };
    let mut model = pre_normed(config, &CLIP, ["layer_norm1", "layer_norm2"])?;
    model.prefix = String::new();
    let stored: Stored = Rc::new(beside_vision);
    model.stored = Some(Rc::clone(&stored));
    let rows = config.size("max_position_embeddings")?;
    model.learned_positions("embeddings.position_embedding", 0, rows);
    model.ignored.push("*embeddings.position_ids");
    let hidden = model.hidden_size;
    let rule = RowRule::Chosen(choice);
    let leaves = Leaves::stored("", "weight", Some(stored));
    let mut row = pooled::row_of(("pooled", rule), 0, hidden, |_| None, leaves);
    let classes = config.texts("architectures")?.unwrap_or_default();
    let projects = classes.iter().any(|name| name.ends_with("WithProjection"));
    let end = if projects {
        let weight = Source::tensor("text_projection.weight".to_owned());
        pooled::project(&mut row, weight, None, config.size("projection_dim")?);
        PooledEnd::Embeddings
    } else {
        config.ignore(&["projection_dim"]);
        model.ignored.push("text_projection.weight");
        PooledEnd::Pooler
    };
    Ok(pooled::behind(model.build()?, &row, end))
}

/// SigLIP's (Zhai et al. 2023): tokens see later ones, and the last one stands for the text.
pub fn siglip_text(config: &Config) -> Result<Described, SpecError> {
    let mut model = pre_normed(config, &CLIP, ["layer_norm1", "layer_norm2"])?;
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    let rows = config.size("max_position_embeddings")?;
    model.learned_positions("embeddings.position_embedding", 0, rows);
    model.ignored.push("*embeddings.position_ids");
    let (hidden, prefix) = (model.hidden_size, model.prefix.clone());
    let rule = RowRule::Chosen(TokenChoice::Last);
    let leaves = Leaves::new("");
    let mut row = pooled::row_of(("pooled", rule), 0, hidden, |_| None, leaves);
    let tensor = |part: &str| Source::tensor(format!("{prefix}head.{part}"));
    let width = config.optional_size("projection_size")?.unwrap_or(hidden);
    pooled::project(&mut row, tensor("weight"), Some(tensor("bias")), width);
    Ok(pooled::behind(model.build()?, &row, PooledEnd::Pooler))
}

/// Chinese CLIP's (Yang et al. 2022): BERT, whose first token stands for the text.
pub fn chinese_clip_text(config: &Config) -> Result<Described, SpecError> {
    let mut model = usual(config, &BERT)?;
    model.prefix = String::new();
    model.pooler = None;
    model.ignored.push("pooler.*");
    table(config, &mut model, 0)?;
    let (rule, hidden) = (RowRule::Chosen(TokenChoice::First), model.hidden_size);
    let row = pooled::row_of(("pooled", rule), 0, hidden, |_| None, Leaves::new(""));
    Ok(pooled::behind(model.build()?, &row, PooledEnd::Pooler))
}

/// BLIP's decoder (Li et al. 2022): BERT without kinds of tokens, each of whose layers attends to a picture.
pub fn blip_text(config: &Config) -> Result<Described, SpecError> {
    // Of training, and of the classes for retrieval.
    config.ignore(&["label_smoothing", "projection_dim"]);
    if !config.flag("is_decoder")? {
        let problem = "its class is a decoder, whose layers attend to pictures";
        return Err(config.unsupported("is_decoder", problem));
    }
    let arrangement = Arrangement::after_sum("attention.output.LayerNorm", "output.LayerNorm");
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = encoder(config, &BERT, arrangement, norm)?;
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    model.stack = "decoder";
    model.masks.fill(Mask::Causal);
    model.cross = Some(Cross {
        width: Some(config.size("encoder_hidden_size")?),
        ..CROSS
    });
    let width = model.hidden_size;
    set_head(&mut model, width);
    model.ignored.push("pooler.*");
    table(config, &mut model, 0)?;
    model.build()
}

/// A tensor of CLIP's texts, alone or beside pictures.
fn beside_vision(name: &str) -> Source {
    let both = [name.to_owned(), format!("text_model.{name}")];
    Source::one_of(both.map(Source::tensor).to_vec())
}

/// That of TIPS, version 2, under the names of its published files.
pub fn tipsv2_text(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        tokens: "token_embedding",
        layers: "transformer.resblocks",
        projections: Projections::Rows("attn.in_proj"),
        output: "attn.out_proj",
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        final_norm: "ln_final",
        ..Names::USUAL
    };
    config.ignore(&["pooling_epsilon"]);
    let mut model = pre_normed(config, &names, ["ln_1", "ln_2"])?;
    model.prefix = String::new();
    model.stored = Some(Rc::new(|name: &str| {
        Source::tensor(name.replace("attn.in_proj.", "attn.in_proj_"))
    }));
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    if config.flag("scale_sqrt_depth")? {
        model.embedding_scale = (model.hidden_size as f64).sqrt();
    }
    if model.hidden_size < 4 || model.hidden_size % 2 != 0 {
        return Err(config.invalid("hidden_size", "an even number, at least 4"));
    }
    model.table = Some(Table::Sinusoidal(Sinusoidal {
        offset: 0,
        interleaved: false,
        denominator: (model.hidden_size / 2 - 1) as f64,
        zero_row: None,
        scale: 1.0,
    }));
    let rows = config.size("max_position_embeddings")?;
    model.length_limit = Some(LengthLimit::Table(rows));
    model.ignored.push("vision_encoder*");
    model.build()
}

fn pre_normed<'c>(
    config: &'c Config,
    names: &Names,
    [attention, network]: [&'static str; 2],
) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let arrangement = Arrangement::pre(attention, network);
    let mut model = Blocks::classic(config, *names, arrangement, norm)?;
    model.family = "clip";
    model.intermediate_size = config.size("intermediate_size")?;
    model.activation = config.activation("hidden_act")?;
    Ok(model)
}

/// An encoder of DPR (Karpukhin et al. 2020): of questions, of passages, or the reader of both.
pub fn dpr(config: &Config) -> Result<Described, SpecError> {
    // It is an encoder, whatever the file says.
    config.ignore(&["is_decoder"]);
    let mut model = usual(config, &BERT)?;
    model.stack = "encoder";
    model.masks.fill(Mask::Full);
    let classes = config.texts("architectures")?.unwrap_or_default();
    let named = |ending: &str| classes.iter().any(|name| name.ends_with(ending));
    let own = if named("ContextEncoder") {
        "ctx_encoder."
    } else if named("Reader") {
        model.ignored.extend(["*qa_outputs.*", "*qa_classifier.*"]);
        "span_predictor.encoder."
    } else {
        "question_encoder."
    };
    model.prefix = format!("{own}bert_model.");
    model.pooler = None;
    model.ignored.push("*bert_model.pooler.*");
    let width = config.index("projection_dim")?;
    let hidden = model.hidden_size;
    if width > 0 {
        model.further_head = Some(Rc::new(move |leaves, head| {
            let name = format!("{own}encode_proj");
            head.pooler = Some(Pooler {
                dense: leaves.linear(&name, [width, hidden], true, Shard::Replicate),
                activation: Activation::Linear,
            });
        }));
    }
    // The classes hide padding by themselves, where no mask is given.
    model.refused_token = config.token_id("pad_token_id")?;
    table(config, &mut model, 0)?;
    model.build()
}

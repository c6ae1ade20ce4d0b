//! Text halves of models that put two things side by side: CLIP, TIPS, the two encoders of DPR.

use std::rc::Rc;

use super::{BERT, table, usual};
use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections, Table};
use crate::{
    Activation, Config, Described, LengthLimit, Mask, Pooler, Shard, Sinusoidal, Source, SpecError,
};

/// CLIP's (Radford et al. 2021).
pub fn clip_text(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        tokens: "embeddings.token_embedding",
        layers: "encoder.layers",
        output: "self_attn.out_proj",
        up: "mlp.fc1",
        down: "mlp.fc2",
        final_norm: "final_layer_norm",
        ..Names::USUAL
    };
    // Of a projection that another class has, and of what it pools.
    config.ignore(&["projection_dim"]);
    let mut model = pre_normed(config, &names, ["layer_norm1", "layer_norm2"])?;
    model.prefix = String::new();
    let rows = config.size("max_position_embeddings")?;
    model.learned_positions("embeddings.position_embedding", 0, rows);
    model
        .ignored
        .extend(["*embeddings.position_ids", "text_projection.weight"]);
    model.build()
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

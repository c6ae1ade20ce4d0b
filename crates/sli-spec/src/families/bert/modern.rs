//! Encoders with rotations: what became of BERT.

use super::dense_classifier;
use crate::build::{NormStyle, layer_types};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, Judged, Names, Projections, Tie, Transform, Types,
    UnusedHead,
};
use crate::rope::{Rope, RopeOptions};
use crate::{Activation, Config, Described, Mask, SpecError, Task, TypeRule};

const MODERN: Names = Names {
    tokens: "embeddings.tok_embeddings",
    projections: Projections::Rows("attn.Wqkv"),
    output: "attn.Wo",
    gate_up: Some("mlp.Wi"),
    down: "mlp.Wo",
    final_norm: "final_norm",
    head: "decoder",
    ..Names::USUAL
};

/// `ModernBERT` (Warner et al. 2024).
pub fn modernbert(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "deterministic_flash_attn",
        "sparse_prediction",
        "sparse_pred_ignore_index",
    ]);
    let window = window(config)?;
    let mut model = modern(config, &MODERN, ["head.dense", "head.norm"])?;
    model.stack = "encoder";
    kinds_of_layers(config, &mut model, |kind| match kind {
        "full_attention" => Some(Mask::Full),
        "sliding_attention" => Some(Mask::Window(window)),
        _ => None,
    })?;
    let mean = match config.optional_text("classifier_pooling")?.as_deref() {
        Some("cls") => false,
        Some("mean") => true,
        _ => return Err(config.invalid("classifier_pooling", "cls or mean")),
    };
    let front = front(config, &model)?;
    let of = |judged| Classifier::with_bias(judged, front, &["classifier"]);
    let judged = if mean { Judged::Mean } else { Judged::First };
    (model.sequence_classifier, model.token_classifier) = (Some(of(judged)), of(Judged::Tokens));
    model.unused_head.without = &["head.*", "decoder.*"];
    model.build()
}

/// What stands in front of the projection to classes.
fn front(config: &Config, model: &Blocks<'_>) -> Result<InFront, SpecError> {
    Ok(InFront::Dense {
        name: "head.dense",
        bias: config.flag("classifier_bias")?,
        activation: config.activation("classifier_activation")?,
        norm: Some(("head.norm", model.norm)),
    })
}

/// Its decoder.
pub fn modernbert_decoder(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        projections: Projections::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        ..MODERN
    };
    let window = window(config)?;
    let mut model = modern(config, &names, ["lm_head.dense", "lm_head.norm"])?;
    kinds_of_layers(config, &mut model, |kind| match kind {
        "full_attention" => Some(Mask::Causal),
        "sliding_attention" => Some(Mask::CausalWindow(window)),
        _ => None,
    })?;
    model.sequence_classifier = Some(Classifier {
        front: front(config, &model)?,
        names: &["classifier"],
        bias: config.flag("classifier_bias")?,
        ..Classifier::LAST_TOKEN
    });
    model.unused_head.without = &["lm_head.*", "decoder.*"];
    model.build()
}

/// Distance from a token within which it sees others; the file may say twice that.
fn window(config: &Config) -> Result<usize, SpecError> {
    let whole = config.index("local_attention")?;
    if config.in_file("sliding_window") {
        return config.index("sliding_window");
    }
    Ok(whole / 2)
}

fn modern<'c>(
    config: &'c Config,
    names: &Names,
    [dense, norm]: [&'static str; 2],
) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&["reference_compile", "repad_logits_with_grad"]);
    let style = NormStyle {
        bias: config.flag("norm_bias")?,
        ..NormStyle::layer(config.positive("norm_eps")?)
    };
    let mut model = Blocks::classic(
        config,
        *names,
        Arrangement::pre("attn_norm", "mlp_norm"),
        style,
    )?;
    model.family = "modernbert";
    model.sequence_classifier = None;
    model.intermediate_size = config.size("intermediate_size")?;
    model.gated = true;
    model.activation = config.activation("hidden_activation")?;
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.embedding_norm = Some(("embeddings.norm", style));
    model.length_limit = None;
    // The embedding is normed already.
    model.differ(|own, layer| {
        if layer == 0 {
            own.arrangement = Arrangement::pre_second("mlp_norm");
        }
    });
    model.transforms = vec![Transform {
        bias: config.flag("classifier_bias")?,
        ..Transform::normed(
            dense,
            norm,
            model.hidden_size,
            config.activation("classifier_activation")?,
        )
    }];
    model.head_bias = config.flag("decoder_bias")?;
    model.unused_head = UnusedHead {
        without: &[],
        tied: &["decoder.weight"],
        own: &[],
    };
    Ok(model)
}

/// Masks and rotations by the kinds of layers; every kind has its own base.
fn kinds_of_layers(
    config: &Config,
    model: &mut Blocks<'_>,
    mask: impl Fn(&str) -> Option<Mask>,
) -> Result<(), SpecError> {
    let every = config
        .optional_size("global_attn_every_n_layers")?
        .unwrap_or(3);
    let kinds = layer_types(config, model.layers(), |layer| {
        if layer.is_multiple_of(every) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    let rotation = |kind: &'static str, theta_key: &'static str| {
        Rope::from_config(
            config,
            &RopeOptions {
                layer_type: Some(kind),
                converted: true,
                theta_keys: &[theta_key],
                ..RopeOptions::new(model.head_dim)
            },
        )
    };
    let full = rotation("full_attention", "global_rope_theta")?;
    let sliding = rotation("sliding_attention", "local_rope_theta")?;
    set_kinds(config, model, &kinds, mask, [full, sliding])
}

/// The masks and rotations of these kinds; `[full, sliding]`.
fn set_kinds(
    config: &Config,
    model: &mut Blocks<'_>,
    kinds: &[String],
    mask: impl Fn(&str) -> Option<Mask>,
    [full, sliding]: [Option<Rope>; 2],
) -> Result<(), SpecError> {
    for (layer, kind) in kinds.iter().enumerate() {
        let unknown = || {
            let reason = format!("`{kind}` is no kind of layer of this type");
            config.unsupported("layer_types", reason)
        };
        model.masks[layer] = mask(kind).ok_or_else(unknown)?;
        model.ropes[layer] = match kind.as_str() {
            "sliding_attention" => sliding.clone(),
            _ => full.clone(),
        };
    }
    Ok(())
}

/// Nomic's BERT (Nussbaum et al. 2024), under the names of its published files.
pub fn nomic_bert(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        gate: "mlp.fc12",
        up: "mlp.fc11",
        down: "mlp.fc2",
        head: "cls.predictions.decoder",
        projections: Projections::Rows("attn.Wqkv"),
        output: "attn.out_proj",
        layers: "encoder.layers",
        ..Names::USUAL
    };
    let norms = ["norm1", "norm2"];
    let mut model = rotated(config, &names, norms, "emb_ln")?;
    model.set_biases(false);
    model.transforms = vec![Transform::normed(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.layer_norm",
        model.hidden_size,
        model.activation,
    )];
    model.tied_bias = Some("cls.predictions.bias");
    model.unused_head = super::UNUSED;
    if !config.in_file("tie_word_embeddings") {
        model.tie = Tie::UnlessStored;
    }
    pool_for_classes(config, &mut model)?;
    model.build()
}

/// Jina's embeddings, version 3 (Sturua et al. 2024), without its adapters, under the names of its published files.
pub fn jina_embeddings_v3(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        up: "mlp.fc1",
        down: "mlp.fc2",
        head: "lm_head.decoder",
        projections: Projections::Rows("mixer.Wqkv"),
        output: "mixer.out_proj",
        layers: "encoder.layers",
        ..Names::USUAL
    };
    let mut model = rotated(config, &names, ["norm1", "norm2"], "emb_ln")?;
    model.gated = false;
    model.pooler = Some("pooler.dense");
    model.sequence_classifier = Some(dense_classifier(Activation::Tanh));
    set_lm_head(&mut model, "lm_head.layer_norm");
    model.tied_bias = Some("lm_head.bias");
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.weight", "lm_head.decoder.bias"],
        own: &["lm_head.bias"],
    };
    model.build()
}

/// GTE (Zhang et al. 2024), under the names of its published files.
pub fn gte(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        gate_up: Some("mlp.up_gate_proj"),
        up_first: true,
        down: "mlp.down_proj",
        head: "lm_head.decoder",
        projections: Projections::Rows("attention.qkv_proj"),
        output: "attention.o_proj",
        layers: "encoder.layer",
        ..Names::USUAL
    };
    let norms = ["attn_ln", "mlp_ln"];
    let mut model = rotated(config, &names, norms, "embeddings.LayerNorm")?;
    model.up_bias = false;
    set_lm_head(&mut model, "lm_head.norm");
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.decoder.weight"],
        own: &[],
    };
    pool_for_classes(config, &mut model)?;
    model.build()
}

/// Only the class for records has a pooler.
fn pool_for_classes(config: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    if config.class()?.task == Task::SequenceClassification {
        model.pooler = Some("pooler.dense");
        model.sequence_classifier = Some(Classifier::POOLED);
    } else {
        model.ignored.push("*pooler.*");
    }
    Ok(())
}

fn set_lm_head(model: &mut Blocks<'_>, norm: &'static str) {
    let width = model.hidden_size;
    model.transforms = vec![Transform::normed(
        "lm_head.dense",
        norm,
        width,
        Activation::Gelu,
    )];
}

/// Norms behind the sums, one rotation in all layers, kinds of tokens.
fn rotated<'c>(
    config: &'c Config,
    names: &Names,
    [attention, network]: [&'static str; 2],
    embedding_norm: &'static str,
) -> Result<Blocks<'c>, SpecError> {
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut model = Blocks::new(config, norm)?;
    if model.kv_heads != model.heads {
        return Err(config.unsupported("num_key_value_heads", "this type has as many as heads"));
    }
    (model.family, model.stack) = ("rotated bert", "encoder");
    model.names = Names {
        tokens: "embeddings.word_embeddings",
        ..*names
    };
    model.arrangement = Arrangement::after_sum(attention, network);
    model.masks.fill(Mask::Full);
    model.set_biases(true);
    model.activation = config.activation("hidden_act")?;
    model.embedding_norm = Some((embedding_norm, norm));
    model.final_norm = None;
    model.head_bias = true;
    model.may_look_ahead = false;
    let kinds = config.index("type_vocab_size")?;
    model.types = (kinds > 0).then_some(Types {
        name: "embeddings.token_type_embeddings",
        count: kinds,
        rule: TypeRule::Given,
    });
    model.rotate(&RopeOptions::new(model.head_dim))?;
    Ok(model)
}

/// `EuroBERT` (Boizard et al. 2025): Llama that looks both ways.
pub fn eurobert(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["mask_token_id"]);
    let mut model = looking_both_ways(config)?;
    let judged = pooling(
        config,
        &[
            ("bos", Judged::First),
            ("mean", Judged::Mean),
            ("late", Judged::Each),
        ],
    )?;
    let dense = InFront::dense("dense", Activation::Gelu);
    model.sequence_classifier =
        judged.map(|judged| Classifier::with_bias(judged, dense, &["classifier"]));
    model.rotate(&RopeOptions::new(model.head_dim))?;
    model.head_bias = config.flag("mlp_bias")?;
    model.unused_head = UnusedHead {
        without: &["lm_head.*"],
        tied: &["lm_head.weight"],
        own: &[],
    };
    model.build()
}

/// The same with windows, and two layers in front of the head.
pub fn ultrabert(config: &Config) -> Result<Described, SpecError> {
    let mut model = looking_both_ways(config)?;
    let judged = pooling(config, &[("cls", Judged::First), ("mean", Judged::Mean)])?;
    let of = |judged| Classifier::with_bias(judged, InFront::Nothing, &["classifier"]);
    model.sequence_classifier = judged.map(of);
    let kinds = layer_types(config, model.layers(), |layer| {
        if (layer + 1).is_multiple_of(3) {
            "full_attention"
        } else {
            "sliding_attention"
        }
    })?;
    let rotation = |kind: &'static str| {
        let assumed = serde_json::json!({
            "sliding_attention": {"rope_theta": 10_000.0},
            "full_attention": {"rope_theta": 2_560_000.0},
        });
        Rope::from_config(
            config,
            &RopeOptions {
                layer_type: Some(kind),
                theta_keys: &[],
                assumed: Some(&assumed),
                ..RopeOptions::new(model.head_dim)
            },
        )
    };
    let rotations = [rotation("full_attention")?, rotation("sliding_attention")?];
    let window = config.index("sliding_window")?;
    let mask = |kind: &str| match kind {
        "full_attention" => Some(Mask::Full),
        "sliding_attention" => Some(Mask::Window(window)),
        _ => None,
    };
    set_kinds(config, &mut model, &kinds, mask, rotations)?;
    let activation = Activation::GeluTanh;
    let inner = config.size("prediction_head_size")?;
    let dense = |dense, width| Transform {
        dense,
        bias: false,
        width,
        activation,
        norm: None,
    };
    model.transforms = vec![
        dense("head.linear1", inner),
        dense("head.linear2", model.hidden_size),
    ];
    model.names.head = "cls";
    model.unused_head = UnusedHead {
        without: &["head.*", "cls.weight"],
        tied: &["cls.weight"],
        own: &[],
    };
    model.build()
}

/// What stands for a record in the class for records: `classifier_pooling`, which no other class reads.
fn pooling(config: &Config, known: &[(&str, Judged)]) -> Result<Option<Judged>, SpecError> {
    const KEY: &str = "classifier_pooling";
    if config.class()?.task != Task::SequenceClassification {
        config.ignore(&[KEY]);
        return Ok(None);
    }
    let told = config.optional_text(KEY)?;
    let found = known.iter().find(|(name, _)| told.as_deref() == Some(name));
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let unknown = || config.invalid(KEY, format!("one of {}", names.join(", ")));
    Ok(Some(found.ok_or_else(unknown)?.1))
}

fn looking_both_ways(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut model = Blocks::new(config, norm)?;
    crate::build::divided(
        config,
        "num_attention_heads",
        model.hidden_size,
        model.heads,
    )?;
    (model.family, model.stack) = ("rotated bert", "encoder");
    model.masks.fill(Mask::Full);
    model.set_attention_bias(config.flag("attention_bias")?);
    model.set_network_bias(config.flag("mlp_bias")?);
    model.activation = config.activation("hidden_act")?;
    model.may_look_ahead = false;
    Ok(model)
}

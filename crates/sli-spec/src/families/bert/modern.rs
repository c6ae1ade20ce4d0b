//! Encoders with rotations: what became of BERT.

use serde_json::Value;

use super::dense_classifier;
use crate::build::{NormStyle, divided, layer_types};
use crate::families::blocks::{
    Arrangement, Blocks, Classifier, InFront, Judged, Names, Projections, Tie, Transform, Types,
    UnusedHead,
};
use crate::families::experts::{ExpertTensors, Experts};
use crate::families::mixture::mix;
use crate::rope::{Rope, RopeOptions};
use crate::{
    Activation, Config, Described, LengthLimit, Mask, Renormalize, SpecError, Task, TypeRule,
};

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
    if config.in_file("moe_every_n_layers") && config.index("moe_every_n_layers")? > 0 {
        return nomic_bert_moe(config);
    }
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

/// Nomic's BERT with experts in every so many-th layer, under the keys that its published files have.
fn nomic_bert_moe(config: &Config) -> Result<Described, SpecError> {
    let (layers, heads) = (config.layers("n_layer")?, config.heads("n_head")?);
    let (hidden, inner) = (config.size("n_embd")?, config.size("n_inner")?);
    let head_dim = divided(config, "n_head", hidden, heads)?;
    nomic_published(config)?;
    let norm = NormStyle::layer(config.positive("layer_norm_epsilon")?);
    let mut model = Blocks::sized(
        config,
        norm,
        layers,
        [hidden, inner],
        [heads, heads, head_dim],
    )?;
    (model.family, model.stack) = ("rotated bert", "encoder");
    model.names = Names {
        tokens: "embeddings.word_embeddings",
        up: "mlp.fc1",
        down: "mlp.fc2",
        projections: Projections::Rows("attn.Wqkv"),
        output: "attn.out_proj",
        layers: "encoder.layers",
        head: "cls.predictions.decoder",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::after_sum("norm1", "norm2");
    model.masks.fill(Mask::Full);
    model.gated = false;
    model.activation = config.activation("activation_function")?;
    model.set_attention_bias(config.flag("qkv_proj_bias")?);
    model.up_bias = config.flag("mlp_fc1_bias")?;
    model.down_bias = config.flag("mlp_fc2_bias")?;
    model.embedding_norm = Some(("emb_ln", norm));
    model.final_norm = None;
    model.may_look_ahead = false;
    let kinds = config.index("type_vocab_size")?;
    model.types = (kinds > 0).then_some(Types {
        name: "embeddings.token_type_embeddings",
        count: kinds,
        rule: TypeRule::Given,
    });
    model.rotate(&RopeOptions {
        theta_keys: &["rotary_emb_base"],
        ..RopeOptions::new(head_dim)
    })?;
    let every = config.size("moe_every_n_layers")?;
    let mut experts = Experts::new(
        config,
        ["num_experts", "moe_top_k"],
        inner,
        model.activation,
    )?;
    experts.tensors = ExpertTensors::UngatedTall(["mlp.experts.mlp.w1", "mlp.experts.mlp.w2"]);
    experts.router = "mlp.router.layer";
    // llama.cpp's converter leaves it out.
    if !config.in_file("experts_without_addend") || !config.flag("experts_without_addend")? {
        experts.output_bias = Some("mlp.experts.bias");
    }
    if config.flag("moe_normalize_expert_weights")? {
        experts.renormalize = Renormalize::Sum { plus: 0.0 };
    }
    mix(&mut model, experts, move |layer| layer % every == 1 % every);
    model.build()
}

/// What the published code reads, and has only one value of.
fn nomic_published(config: &Config) -> Result<(), SpecError> {
    for (key, value) in [
        ("causal", Value::from(false)),
        ("prenorm", false.into()),
        ("parallel_block", false.into()),
        ("expert_choice_router", false.into()),
        ("rotary_emb_interleaved", false.into()),
        ("rotary_emb_fraction", 1.0.into()),
        ("num_shared_experts", 0.into()),
        ("ffn_div", 1.into()),
        ("scale_attn_weights", true.into()),
        ("scale_attn_by_inverse_layer_idx", false.into()),
        ("use_rms_norm", Value::Null),
        ("rotary_emb_scale_base", Value::Null),
        ("rotary_scaling_factor", Value::Null),
    ] {
        if config.in_file(key) {
            config.neutral(key, &[value], "another value is not published")?;
        }
    }
    // Of training, of how others compute it, and what the trained length is called.
    config.ignore(&[
        "add_pooling_layer",
        "dense_seq_output",
        "fused_bias_fc",
        "fused_dropout_add_ln",
        "last_layer_subset",
        "max_trained_positions",
        "moe_impl",
        "moe_resid_pdrop",
        "n_positions",
        "pad_vocab_size_multiple",
        "parallel_block_tied_norm",
        "reorder_and_upcast_attn",
        "sequence_parallel",
        "use_flash_attn",
        "use_xentropy",
    ]);
    Ok(())
}

/// `NeoBERT` (Le Breton et al. 2025): RMS norms in front, `SwiGLU`, pairs of neighbours rotate.
pub fn neobert(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("norm_eps")?);
    let (hidden, heads) = (
        config.size("hidden_size")?,
        config.heads("num_attention_heads")?,
    );
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    // Two thirds, in whole eights.
    let inner = (2 * config.size("intermediate_size")? / 3).next_multiple_of(8);
    let layers = config.layers("num_hidden_layers")?;
    let mut model = Blocks::sized(
        config,
        norm,
        layers,
        [hidden, inner],
        [heads, heads, head_dim],
    )?;
    (model.family, model.stack) = ("modernbert", "encoder");
    // Bounds of lengths and how the parameters began.
    config.ignore(&[
        "max_length",
        "embedding_init_range",
        "decoder_init_range",
        "dim_head",
    ]);
    model.masks.fill(Mask::Full);
    model.may_look_ahead = false;
    model.names = Names {
        tokens: "encoder",
        layers: "transformer_encoder",
        projections: Projections::per_head("qkv", heads),
        output: "wo",
        gate_up: Some("ffn.w12"),
        down: "ffn.w3",
        final_norm: "layer_norm",
        head: "decoder",
        ..Names::USUAL
    };
    model.arrangement = Arrangement::pre("attention_norm", "ffn_norm");
    model.head_bias = true;
    model.unused_head = UnusedHead {
        without: &["decoder.*"],
        tied: &[],
        own: &[],
    };
    model.rotate(&RopeOptions {
        interleaved: true,
        ..RopeOptions::new(head_dim)
    })?;
    model.length_limit = Some(LengthLimit::None);
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
    divided(
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

//! Variations of Llama whose code is published beside their weights, not in transformers.

use std::rc::Rc;

use crate::build::{NormStyle, divided};
use crate::families::blocks::{Arrangement, Blocks, Names, Projections, Residual, alibi};
use crate::families::vision;
use crate::model_type::{ModelType, row};
use crate::rope::{PositionAxis, Rope, RopeOptions, RopeScaling};
use crate::{Config, Described, LengthLimit, QueryTemperature, Source, SpecError, Split};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("Yi", yi),
    row("aquila", aquila),
    row("baichuan", baichuan),
    row("internlm", internlm),
    row("internlm2", internlm2),
    row("minicpm", minicpm),
    row("gpt_refact", refact),
    row("orion", orion),
    row("plamo", plamo),
    row("qwen", qwen),
    row("skywork", llama),
    row("telechat", telechat),
    row("xverse", llama),
];

/// RMS norms, rotate-half rope in all layers, `hidden_act`.
fn plain(config: &Config) -> Result<Blocks<'_>, SpecError> {
    let mut decoder = unrotated(config)?;
    decoder.rotate(&RopeOptions::new(decoder.head_dim))?;
    Ok(decoder)
}

fn unrotated(config: &Config) -> Result<Blocks<'_>, SpecError> {
    of_width(config, config.size("intermediate_size")?)
}

/// Without rotation, with this many features inside the feed-forward network.
pub(super) fn of_width(config: &Config, width: usize) -> Result<Blocks<'_>, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    let mut decoder = Blocks::with_width(config, norm, width)?;
    decoder.activation = config.activation("hidden_act")?;
    Ok(decoder)
}

/// XVERSE, Skywork: Llama under another name.
pub fn llama(config: &Config) -> Result<Described, SpecError> {
    // What the tokenizer cuts at.
    config.ignore(&["max_tokenizer_truncation"]);
    plain(config)?.build()
}

/// InternLM: `bias` on the four projections of the attention, the rotation in `rotary`.
pub fn internlm(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = unrotated(config)?;
    config.ignore(&["attn_implementation"]);
    let rotary = config.nested("rotary")?;
    let rotary = rotary.ok_or_else(|| config.missing("rotary"))?;
    let scaling = match rotary.optional_text("type")?.as_deref() {
        Some("origin") => RopeScaling::Default,
        Some("dynamic") => RopeScaling::Dynamic {
            factor: rotary.optional_positive("scaling_factor")?.unwrap_or(1.0),
            trained: config.size("max_position_embeddings")?,
        },
        _ => return Err(rotary.unsupported("type", "either `origin` or `dynamic`")),
    };
    let rope = whole_heads(decoder.head_dim, rotary.positive("base")?, scaling);
    decoder.ropes.fill(Some(rope));
    decoder.set_attention_bias(config.flag("bias")?);
    decoder.build()
}

/// InternLM2: queries, keys and values in one tensor, a key head's group after another.
pub fn internlm2(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    config.ignore(&["attn_implementation"]);
    decoder.set_attention_bias(config.flag("bias")?);
    decoder.names = Names {
        tokens: "tok_embeddings",
        projections: Projections::Grouped("attention.wqkv"),
        output: "attention.wo",
        gate: "feed_forward.w1",
        down: "feed_forward.w2",
        up: "feed_forward.w3",
        head: "output",
        ..Names::USUAL
    };
    decoder.arrangement = Arrangement::pre("attention_norm", "ffn_norm");
    decoder.build()
}

/// Baichuan: the 7B models rotate and the 13B models have ALiBi; the second generation
/// normalises the rows of its head.
pub fn baichuan(config: &Config) -> Result<Described, SpecError> {
    // Only the models that rotate have a trained length by this name.
    let rotates = config.in_file("max_position_embeddings");
    let mut decoder = if rotates {
        plain(config)?
    } else {
        unrotated(config)?
    };
    // `null` would be neither.
    config.size("max_position_embeddings")?;
    config.ignore(&["model_max_length", "z_loss_weight", "_from_model_config"]);
    decoder.normalized_head = normalizes_head(config, rotates)?;
    if !rotates {
        decoder.positions = vec![alibi(alibi_slopes(decoder.heads))];
        decoder.length_limit = Some(LengthLimit::None);
    }
    decoder.names.projections = Projections::Rows("self_attn.W_pack");
    decoder.build()
}

/// The published vocabularies tell the generations apart; for another one, the first 7B spells its
/// class differently, and only the second generation names its tokenizer beside ALiBi.
fn normalizes_head(config: &Config, rotates: bool) -> Result<bool, SpecError> {
    let first_7b = config
        .texts("architectures")?
        .is_some_and(|names| names.iter().any(|name| name.starts_with("BaiChuan")));
    Ok(match config.size("vocab_size")? {
        64_000 => false,
        125_696 => true,
        _ if first_7b => false,
        _ => rotates || config.in_file("tokenizer_class"),
    })
}

/// Slopes of ALiBi; for numbers of heads between powers of two, every second one of the doubled
/// list follows (Press et al. 2021).
pub(super) fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power = 1_usize << heads.ilog2();
    let slope = |number: usize, of: usize| 2_f64.powf(-8.0 * number as f64 / of as f64);
    let whole = (1..=power).map(|number| slope(number, power));
    let further = (0..heads - power).map(|number| slope(2 * number + 1, 2 * power));
    whole.chain(further).collect()
}

/// MiniCPM: factors on the embedding, the sublayers and the logits.
pub fn minicpm(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.embedding_scale = config.number("scale_emb")?;
    decoder.residual =
        Residual::Scaled(config.number("scale_depth")? / (decoder.layers() as f64).sqrt());
    decoder.logit_scale = config.positive("dim_model_base")? / decoder.hidden_size as f64;
    decoder.build()
}

/// Aquila: attention logits between -1024 and 1024.
pub fn aquila(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.attention_clamp = Some(1024.0);
    decoder.build()
}

/// Orion: layer norms, with `rms_norm_eps`.
pub fn orion(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.set_norm(NormStyle::layer(decoder.norm.epsilon));
    decoder.set_attention_bias(config.flag("attention_bias")?);
    decoder.build()
}

/// Yi before it became Llama: two norms have other names.
pub fn yi(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = plain(config)?;
    decoder.arrangement = Arrangement::pre("ln1", "ln2");
    decoder.build()
}

/// Qwen 1: addends on queries, keys and values; the base of the rotation grows in steps with the
/// record, and the queries' factor with their position.
pub fn qwen(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = unrotated(config)?;
    let seq_length = config.size("seq_length")?;
    let channels = config.size("kv_channels")?;
    if channels != decoder.head_dim {
        let expected = format!("{}, the features of a head", decoder.head_dim);
        return Err(config.invalid("kv_channels", expected));
    }
    // Precision and scheduling; the vocabulary is `vocab_size`, the base `rotary_emb_base`; and what
    // the first release wrote without reading it.
    config.ignore(&[
        "bf16",
        "fp16",
        "fp32",
        "onnx_safe",
        "use_flash_attn",
        "use_cache_kernel",
        "params_dtype",
        "use_cache_quantization",
        "softmax_in_fp32",
        "padded_vocab_size",
        "rope_theta",
        "emb_dropout_prob",
        "attn_dropout_prob",
        "tokenizer_type",
        "bias_dropout_fusion",
        "apply_residual_connection_post_layernorm",
        "pos_emb",
        "activation",
    ]);
    config.neutral(
        "activation",
        &["swiglu".into()],
        "only `swiglu` is published",
    )?;
    config.neutral("pos_emb", &["rotary".into()], "only `rotary` is published")?;
    config.off(
        "apply_residual_connection_post_layernorm",
        "no published code reads it",
    )?;
    config.neutral(
        "scale_attn_weights",
        &[true.into()],
        "attention without its scale",
    )?;
    // The configured width counts gate and up together.
    decoder.intermediate_size = divided(config, "intermediate_size", decoder.intermediate_size, 2)?;
    decoder.query_key_value_bias = true;
    decoder.output_bias = !config.flag("no_bias")?;
    decoder.set_network_bias(decoder.output_bias);
    decoder.rotate(&RopeOptions {
        theta_keys: &["rotary_emb_base"],
        partial: true,
        partial_keys: &["rotary_pct"],
        ..RopeOptions::new(decoder.head_dim)
    })?;
    let stepped = config.flag("use_dynamic_ntk")?;
    for rope in decoder.ropes.iter_mut().flatten().filter(|_| stepped) {
        rope.scaling = RopeScaling::SteppedNtk {
            base_length: seq_length,
            trained: None,
        };
    }
    decoder.names = Names {
        tokens: "wte",
        layers: "h",
        projections: Projections::Rows("attn.c_attn"),
        output: "attn.c_proj",
        up: "mlp.w1",
        gate: "mlp.w2",
        down: "mlp.c_proj",
        final_norm: "ln_f",
        ..Names::USUAL
    };
    decoder.arrangement = Arrangement::pre("ln_1", "ln_2");
    if config.flag("use_logn_attn")? {
        decoder.query_temperature = Some(QueryTemperature::LogN {
            trained: seq_length as f64,
        });
    }
    if config.value(vision::VISUAL).is_some() {
        return vision::qwen_vl(config, decoder.build()?);
    }
    decoder.build()
}

/// TeleChat: keys and values in one tensor, head by head; addends on the outputs of the sublayers;
/// a rotation that is stretched in steps from the start.
pub fn telechat(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = unrotated(config)?;
    // Scheduling, and what the code does not read.
    config.ignore(&[
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "masked_softmax_fusion",
        "flash_attn",
        "n_inner",
        "eos_token_id",
        "skip_bias_add",
        "n_positions",
        "seq_length",
    ]);
    config.off("apply_residual_connection_post_layernorm", "not published")?;
    config.off("logn", "not published")?;
    let sizes = ["base_seqlen", "training_seqlen"].map(|key| config.size(key));
    let [base_length, trained] = sizes;
    let scaling = RopeScaling::SteppedNtk {
        base_length: base_length?,
        trained: Some(trained?),
    };
    decoder
        .ropes
        .fill(Some(whole_heads(decoder.head_dim, 10_000.0, scaling)));
    decoder.output_bias = true;
    decoder.down_bias = true;
    decoder.names = Names {
        tokens: "word_embeddings",
        layers: "h",
        projections: Projections::KeyValue {
            query: "self_attention.query",
            key_value: "self_attention.key_value",
        },
        output: "self_attention.dense",
        final_norm: "ln_f",
        ..Names::USUAL
    };
    if decoder.kv_heads != decoder.heads {
        return Err(config.unsupported("num_key_value_heads", "TeleChat2 is another type"));
    }
    if config.flag("embed_layernorm")? {
        decoder.embedding_norm = Some(("word_embeddings_layernorm", decoder.norm));
    }
    decoder.build()
}

/// Refact: one key head with `ALiBi`, layer norms without addends, the network's width from the hidden size.
pub fn refact(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(config.positive("layer_norm_epsilon")?)
    };
    config.neutral(
        "multi_query",
        &[true.into()],
        "more key heads are not published",
    )?;
    // Where numbers are rounded to 16 bits, which is nowhere.
    config.ignore(&[
        "attention_bias_in_fp32",
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
    ]);
    // How far a mask was prepared.
    config.optional_size("max_position_embeddings")?;
    let (hidden, heads) = (
        config.size("hidden_size")?,
        config.heads("num_attention_heads")?,
    );
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    let outer = config.optional_size("n_inner")?.unwrap_or(4 * hidden);
    let width = (2 * outer / 3).next_multiple_of(256);
    let layers = config.layers("num_hidden_layers")?;
    let sizes = [heads, 1, head_dim];
    let mut decoder = Blocks::sized(config, norm, layers, [hidden, width], sizes)?;
    decoder.positions = vec![alibi(alibi_slopes(heads))];
    decoder.length_limit = Some(LengthLimit::None);
    decoder.names = Names {
        tokens: "wte",
        layers: "h",
        projections: Projections::Separate(["attn.q", "attn.k", "attn.v"]),
        output: "attn.c_proj",
        gate_up: Some("mlp.gate_up_proj"),
        down: "mlp.c_proj",
        final_norm: "ln_f",
        ..Names::USUAL
    };
    decoder.arrangement = Arrangement::pre("ln_1", "ln_2");
    decoder.stored = Some(Rc::new(move |name: &str| {
        // The norm is the head's, not the base model's.
        let name = name.replace("transformer.ln_f.", "ln_f.");
        for (part, own) in [".attn.k.", ".attn.v."].into_iter().enumerate() {
            if name.contains(own) {
                let both = Source::tensor(name.replace(own, ".attn.kv."));
                return both.part(Split::Rows(vec![head_dim; 2]), part);
            }
        }
        Source::tensor(name)
    }));
    decoder.build()
}

/// `PLaMo`: both sublayers side by side; query heads take the key heads by turns.
pub fn plamo(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle::rms(config.positive("rms_norm_eps")?);
    // The class does not read it.
    config.ignore(&["num_key_value_heads"]);
    let (hidden, heads) = (
        config.size("hidden_size")?,
        config.heads("num_attention_heads")?,
    );
    let head_dim = divided(config, "num_attention_heads", hidden, heads)?;
    let shared = config.heads("n_shared_head")?;
    let kv_heads = divided(config, "n_shared_head", heads, shared)?;
    // Files of llama.cpp have the query heads of a key head together.
    let is_grouped = config.in_file("grouped_heads") && config.flag("grouped_heads")?;
    let layers = config.layers("num_hidden_layers")?;
    let inner = config.size("intermediate_size")?;
    let sizes = [heads, kv_heads, head_dim];
    let mut decoder = Blocks::sized(config, norm, layers, [hidden, inner], sizes)?;
    decoder.rotate(&RopeOptions::new(head_dim))?;
    decoder.names.layers = "layers.layers";
    decoder.arrangement = Arrangement::parallel("norm");
    if is_grouped || shared == 1 {
        return decoder.build();
    }
    let grouped = move |of: Source| {
        let split = Split::Groups {
            groups: shared,
            rows: vec![head_dim; kv_heads],
        };
        let group = |number| of.clone().part(split.clone(), number);
        Source::ConcatRows((0..kv_heads).map(group).collect())
    };
    decoder.stored = Some(Rc::new(move |name: &str| {
        let tensor = Source::tensor(name);
        if name.contains(".q_proj.") {
            grouped(tensor)
        } else if name.contains(".o_proj.") {
            grouped(tensor.transpose()).transpose()
        } else {
            tensor
        }
    }));
    decoder.build()
}

/// Rotate-half rope on whole heads.
fn whole_heads(dims: usize, theta: f64, scaling: RopeScaling) -> Rope {
    Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: false,
        reversed: false,
        theta,
        scaling,
        axis: PositionAxis::Token,
    }
}

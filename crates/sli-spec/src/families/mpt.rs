//! MPT: in the way of transformers, whose class leaves most options unread, and in the way of the
//! code that is published beside the weights, which reads them.

use crate::build::NormStyle;
use crate::families::blocks::{Arrangement, Blocks, Names, Projections, alibi};
use crate::families::gpt::GPT2;
use crate::model_type::{ModelType, limited, row};
use crate::{Config, Described, NormSpan, SpecError};

/// The registered types.
pub const TYPES: &[ModelType] = &[limited(
    row("mpt", mpt),
    "`clip_qkv` together with `qk_ln`, prefix language models and windows are refused",
)];

const NAMES: Names = Names {
    layers: "blocks",
    projections: Projections::Rows("attn.Wqkv"),
    query_norm: "attn.q_ln",
    key_norm: "attn.k_ln",
    output: "attn.out_proj",
    up: "ffn.up_proj",
    down: "ffn.down_proj",
    final_norm: "norm_f",
    ..GPT2
};

const NORMS: Arrangement = Arrangement::pre("norm_1", "norm_2");

/// The published code's classes begin with other letters than those of transformers.
pub fn mpt(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "emb_pdrop",
        "init_config",
        "init_device",
        "tokenizer_name",
        "verbose",
    ]);
    let classes = config.texts("architectures")?.unwrap_or_default();
    if classes.iter().any(|class| class.starts_with("MPT")) {
        published(config)
    } else {
        in_transformers(config)
    }
}

/// ALiBi always, norms without addend.
fn in_transformers(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "embedding_fraction",
        "expansion_ratio",
        "fc_type",
        "ffn_config",
        "learned_pos_emb",
        "logit_scale",
        "max_seq_len",
        "no_bias",
        "norm_type",
    ]);
    let norm = NormStyle {
        bias: false,
        ..NormStyle::layer(config.positive("layer_norm_epsilon")?)
    };
    let mut decoder = Blocks::classic(config, NAMES, NORMS, norm)?;
    decoder.family = "mpt";
    decoder.set_biases(false);
    decoder.positions = vec![alibi(slopes(decoder.heads, 8.0))];
    if let Some(attention) = config.nested("attn_config")? {
        attention.ignore(&[
            "alibi",
            "alibi_bias_max",
            "attn_impl",
            "attn_type",
            "attn_uses_sequence_id",
            "prefix_lm",
            "qk_ln",
        ]);
        decoder.clip = attention
            .optional_number("clip_qkv")?
            .filter(|&clip| clip != 0.0);
        if let Some(scale) = attention.optional_number("softmax_scale")? {
            decoder.attention_scale = scale;
        }
    }
    decoder.build()
}

/// Addends, learned positions, fewer key heads, normalised queries and keys, scaled logits.
fn published(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["embedding_fraction", "layer_norm_epsilon"]);
    let norms = ["low_precision_layernorm".into(), "layernorm".into()];
    config.neutral("norm_type", &norms, "norms of another kind")?;
    let ffn = [
        serde_json::json!({"ffn_type": "mptmlp"}),
        serde_json::json!({}),
    ];
    config.neutral("ffn_config", &ffn, "networks of another kind")?;
    config.neutral("fc_type", &["torch".into()], "projections of another kind")?;
    let (Some(attention), true) = (config.nested("attn_config")?, config.in_file("no_bias")) else {
        let key = if config.in_file("no_bias") {
            "attn_config"
        } else {
            "no_bias"
        };
        return Err(config.missing(key));
    };
    let bias = !config.flag("no_bias")?;
    let norm = NormStyle {
        bias,
        ..NormStyle::layer(1e-5)
    };
    let mut model = Blocks::classic(config, NAMES, NORMS, norm)?;
    model.family = "mpt";
    if !bias {
        model.set_biases(false);
    }
    model.intermediate_size =
        (config.positive("expansion_ratio")? * model.hidden_size as f64) as usize;
    attend(config, &attention, &mut model)?;
    let by_name = matches!(config.value("logit_scale"), Some(value) if value.is_string());
    model.logit_scale = if by_name {
        config.neutral(
            "logit_scale",
            &["inv_sqrt_d_model".into()],
            "an unknown scale",
        )?;
        (model.hidden_size as f64).powf(-0.5)
    } else {
        config.optional_number("logit_scale")?.unwrap_or(1.0)
    };
    model.build()
}

/// What `attn_config` says.
fn attend(config: &Config, attention: &Config, model: &mut Blocks<'_>) -> Result<(), SpecError> {
    attention.ignore(&[
        "attn_impl",
        "attn_pdrop",
        "rope_theta",
        "rope_impl",
        "rope_dail_config",
        "rope_hf_config",
    ]);
    for key in ["prefix_lm", "attn_uses_sequence_id", "rope", "qk_gn"] {
        attention.off(
            key,
            "changes the attention in a way that no published model of this type has",
        )?;
    }
    attention.neutral("sliding_window_size", &[(-1).into()], "windows")?;
    let few = attention.optional_heads("kv_n_heads")?;
    model.kv_heads = match attention.optional_text("attn_type")?.as_deref() {
        None | Some("multihead_attention") => model.heads,
        Some("multiquery_attention") => 1,
        Some("grouped_query_attention") => few.ok_or_else(|| attention.missing("kv_n_heads"))?,
        Some(_) => return Err(attention.unsupported("attn_type", "an unknown kind of attention")),
    };
    if !model.heads.is_multiple_of(model.kv_heads) {
        return Err(attention.invalid("kv_n_heads", "a divisor of n_heads"));
    }
    let most = attention.optional_positive("alibi_bias_max")?;
    let (table, length) = (config.flag("learned_pos_emb")?, config.size("max_seq_len")?);
    if attention.flag("alibi")? {
        model.positions = vec![alibi(slopes(model.heads, most.unwrap_or(8.0)))];
    } else if table {
        model.learned_positions("wpe", 0, length);
    }
    model.clip = attention
        .optional_number("clip_qkv")?
        .filter(|&clip| clip != 0.0);
    if let Some(scale) = attention.optional_number("softmax_scale")? {
        model.attention_scale = scale;
    }
    if attention.flag("qk_ln")? {
        if model.clip.is_some() {
            return Err(
                attention.unsupported("clip_qkv", "a limit in front of the norms of `qk_ln`")
            );
        }
        model.query_key_norm = Some((NormSpan::Full, model.norm));
    }
    Ok(())
}

/// Slopes for the next higher power of two, every other one first.
fn slopes(heads: usize, most: f64) -> Vec<f64> {
    let power = heads.next_power_of_two();
    let slope = |number: usize| (-(number as f64) * most / power as f64).exp2();
    if power == heads {
        return (1..=heads).map(slope).collect();
    }
    let order = (2..=power).step_by(2).chain((1..=power).step_by(2));
    order.take(heads).map(slope).collect()
}

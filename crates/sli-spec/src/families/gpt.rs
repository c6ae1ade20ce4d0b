//! GPT-2 and its relatives: what each type changes of the plain [`Blocks`].

use serde_json::Value;

use crate::build::{NormStyle, divided, head_width};
use crate::families::blocks::{
    Arrangement, Blocks, Cross, Form, Names, Narrow, Norms, Projections, Table, alibi, alibi_slopes,
};
use crate::model_type::{ModelType, row};
use crate::rope::{PositionAxis, Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Alibi, Config, Described, LengthLimit, Mask, NormKind, NormSpan, Position,
    PositionIds, Sinusoidal, SpecError,
};

/// The registered types.
pub const TYPES: &[ModelType] = &[
    row("RefinedWeb", falcon),
    row("RefinedWebModel", falcon),
    row("biogpt", biogpt),
    row("bloom", bloom),
    row("codegen", codegen),
    row("ctrl", ctrl),
    row("falcon", falcon),
    row("gpt-sw3", gpt2),
    row("gpt2", gpt2),
    row("gpt_bigcode", gpt_bigcode),
    row("gpt_neo", gpt_neo),
    row("gpt_neox", gpt_neox),
    row("gpt_neox_japanese", gpt_neox_japanese),
    row("gptj", gptj),
    row("imagegpt", imagegpt),
    row("openai-gpt", openai_gpt),
    row("opt", opt),
    row("phi", phi),
    row("xglm", xglm),
];

/// Epsilon of a layer norm that no key sets.
const USUAL_EPSILON: f64 = 1e-5;

pub(super) const GPT2: Names = Names {
    tokens: "wte",
    layers: "h",
    projections: Projections::Rows("attn.c_attn"),
    output: "attn.c_proj",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    final_norm: "ln_f",
    ..Names::USUAL
};

const GPT2_NORMS: Arrangement = Arrangement::pre("ln_1", "ln_2");

/// Bart's names, which OPT, XGLM and BioGPT share.
pub(super) const BART: Names = Names {
    output: "self_attn.out_proj",
    up: "fc1",
    down: "fc2",
    final_norm: "layer_norm",
    ..Names::USUAL
};

const BART_NORMS: Arrangement = Arrangement::pre("self_attn_layer_norm", "final_layer_norm");

const GPTJ: Names = Names {
    projections: Projections::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
    output: "attn.out_proj",
    up: "mlp.fc_in",
    down: "mlp.fc_out",
    ..GPT2
};

/// GPT-NeoX's names; the fused projection goes head by head.
const NEOX: Names = Names {
    tokens: "embed_in",
    output: "attention.dense",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
    final_norm: "final_layer_norm",
    head: "embed_out",
    ..Names::USUAL
};

const NEOX_NORMS: Arrangement = Arrangement::pre("input_layernorm", "post_attention_layernorm");

/// Bloom's and Falcon's names.
const BLOOM: Names = Names {
    tokens: "word_embeddings",
    layers: "h",
    output: "self_attention.dense",
    final_norm: "ln_f",
    head: "lm_head",
    ..NEOX
};

/// `n_inner`, a learned table of `n_positions`, `activation_function`.
fn plain<'c>(config: &'c Config, names: &Names, norm: NormStyle) -> Result<Blocks<'c>, SpecError> {
    let mut decoder = Blocks::classic(config, *names, GPT2_NORMS, norm)?;
    decoder.learned_positions("wpe", 0, config.size("max_position_embeddings")?);
    if let Some(inner) = config.optional_size("n_inner")? {
        decoder.intermediate_size = inner;
    }
    decoder.activation = config.activation("activation_function")?;
    decoder.ignored = vec!["*.attn.bias", "*.attn.masked_bias"];
    Ok(decoder)
}

fn gpt2_like(config: &Config, norm: NormStyle) -> Result<Blocks<'_>, SpecError> {
    // Precision of the attention logits.
    config.ignore(&["reorder_and_upcast_attn"]);
    let mut decoder = plain(config, &GPT2, norm)?;
    decoder.transposed = true;
    if !config.flag("scale_attn_weights")? {
        decoder.attention_scale = 1.0;
    }
    if config.flag("scale_attn_by_inverse_layer_idx")? {
        decoder.differ(|own, layer| own.attention_scale /= (layer + 1) as f64);
    }
    Ok(decoder)
}

fn layer_norm(config: &Config) -> Result<NormStyle, SpecError> {
    Ok(NormStyle::layer(config.positive("layer_norm_epsilon")?))
}

/// GPT-2.
pub fn gpt2(config: &Config) -> Result<Described, SpecError> {
    // Keys that no code reads any more.
    config.ignore(&["n_ctx", "n_special", "predict_special_tokens"]);
    let mut decoder = gpt2_like(config, layer_norm(config)?)?;
    if config.flag("add_cross_attention")? {
        decoder.cross = Some(Cross {
            stack: 0,
            width: None,
            norms: Norms::before("ln_cross_attn"),
            projections: [
                "crossattention.q_attn",
                "crossattention.c_attn",
                "crossattention.c_attn",
            ],
            output: "crossattention.c_proj",
        });
    }
    decoder.build()
}

/// ImageGPT: RMS norms; its last token, the start of a sequence, is never predicted.
pub fn imagegpt(config: &Config) -> Result<Described, SpecError> {
    let norm = NormStyle {
        kind: NormKind::Rms,
        bias: false,
        ..layer_norm(config)?
    };
    let mut decoder = gpt2_like(config, norm)?;
    // The token that starts an image is never predicted, unless the head is the token table.
    let outputs = config.size("vocab_size")? - 1;
    if outputs == 0 && !config.flag("tie_word_embeddings")? {
        return Err(config.invalid("vocab_size", "at least 2"));
    }
    decoder.outputs = Some(outputs);
    decoder.build()
}

/// GPT-BigCode: one key/value head, or all of them fused head by head.
pub fn gpt_bigcode(config: &Config) -> Result<Described, SpecError> {
    // Precision of the softmax; how it was computed once.
    config.ignore(&[
        "attention_softmax_in_fp32",
        "scale_attention_softmax_in_fp32",
        "num_key_value_heads",
        "inference_runner",
        "max_batch_size",
        "max_sequence_length",
        "pad_key_length",
        "pre_allocate_kv_cache",
        "validate_runner_input",
    ]);
    let multi_query = config.flag("multi_query")?;
    let heads = config.heads("num_attention_heads")?;
    let names = Names {
        projections: if multi_query {
            Projections::Rows("attn.c_attn")
        } else {
            Projections::per_head("attn.c_attn", heads)
        },
        ..GPT2
    };
    let mut decoder = plain(config, &names, layer_norm(config)?)?;
    if multi_query {
        decoder.kv_heads = 1;
    }
    if !config.flag("scale_attn_weights")? {
        decoder.attention_scale = 1.0;
    }
    decoder.build()
}

/// GPT-Neo: unscaled logits, windows on some layers.
pub fn gpt_neo(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        projections: Projections::Separate([
            "attn.attention.q_proj",
            "attn.attention.k_proj",
            "attn.attention.v_proj",
        ]),
        output: "attn.attention.out_proj",
        ..GPT2
    };
    config.ignore(&["embed_dropout", "resid_dropout"]);
    let mut decoder = plain(config, &names, layer_norm(config)?)?;
    decoder.query_key_value_bias = false;
    if let Some(inner) = config.optional_size("intermediate_size")? {
        decoder.intermediate_size = inner;
    }
    decoder.attention_scale = 1.0;
    decoder.ignored = vec!["*.attn.attention.bias", "*.attn.attention.masked_bias"];
    let expanded = attention_types(config)?;
    let kinds = config.texts("attention_layers")?.unwrap_or(expanded);
    if kinds.len() != decoder.layers() {
        return Err(config.invalid(
            "attention_types",
            format!("one entry for each of {} layers", decoder.layers()),
        ));
    }
    let window = config.size("window_size")?;
    for (mask, kind) in decoder.masks.iter_mut().zip(&kinds) {
        *mask = match kind.as_str() {
            "global" => Mask::Causal,
            "local" => Mask::CausalWindow(window),
            _ => return Err(config.unsupported("attention_layers", "neither global nor local")),
        };
    }
    decoder.build()
}

/// `[[["global", "local"], 12]]` spelled out.
fn attention_types(config: &Config) -> Result<Vec<String>, SpecError> {
    fn expand(pair: &Value) -> Option<Vec<&str>> {
        let [kinds, times] = pair.as_array()?.as_slice() else {
            return None;
        };
        let kinds = kinds.as_array()?.iter();
        let kinds: Vec<&str> = kinds.map(Value::as_str).collect::<Option<_>>()?;
        let times = usize::try_from(times.as_u64()?).ok()?;
        let few = times.checked_mul(kinds.len())? <= 10_000;
        few.then(|| kinds.repeat(times))
    }
    let expected = "a list of pairs: a list of kinds, and how often it is repeated";
    let Some(value) = config.value("attention_types") else {
        return Ok(["global", "local"]
            .repeat(12)
            .into_iter()
            .map(str::to_owned)
            .collect());
    };
    let pairs = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Option<Vec<_>> = pairs.iter().map(expand).collect();
    let kinds = kinds.ok_or_else(|| config.invalid("attention_types", expected))?;
    Ok(kinds.into_iter().flatten().map(str::to_owned).collect())
}

/// The first GPT: norms behind the residual sums, none at the end.
pub fn openai_gpt(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["n_ctx", "n_special", "predict_special_tokens"]);
    let names = Names {
        tokens: "tokens_embed",
        ..GPT2
    };
    let norms = Arrangement::after_sum("ln_1", "ln_2");
    let mut decoder = Blocks::classic(config, names, norms, layer_norm(config)?)?;
    decoder.learned_positions(
        "positions_embed",
        0,
        config.size("max_position_embeddings")?,
    );
    decoder.transposed = true;
    decoder.final_norm = None;
    decoder.activation = match config.activation("afn")? {
        Activation::Gelu => Activation::GeluTanh,
        known @ (Activation::Relu | Activation::Silu) => known,
        _ => return Err(config.unsupported("afn", "this type knows relu, silu, gelu and swish")),
    };
    decoder.ignored = vec!["*.attn.bias", "*.attn.masked_bias", "*position_ids"];
    decoder.build()
}

/// BioGPT: Bart's decoder alone, pre-norm.
pub fn biogpt(config: &Config) -> Result<Described, SpecError> {
    // No norm of this type uses it.
    config.ignore(&["layer_norm_eps", "layerdrop"]);
    let names = Names {
        head: "output_projection",
        ..BART
    };
    let mut decoder = Blocks::classic(config, names, BART_NORMS, NormStyle::layer(USUAL_EPSILON))?;
    decoder.learned_positions(
        "embed_positions",
        2,
        config.size("max_position_embeddings")?,
    );
    decoder.intermediate_size = config.size("intermediate_size")?;
    decoder.activation = config.activation("hidden_act")?;
    scale_embedding(config, &mut decoder)?;
    decoder.build()
}

fn scale_embedding(config: &Config, decoder: &mut Blocks<'_>) -> Result<(), SpecError> {
    if config.flag("scale_embedding")? {
        decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    }
    Ok(())
}

/// Sines, then cosines, as tensor2tensor and fairseq have them; the row of the padding token is zero.
pub(super) fn tensor2tensor(
    config: &Config,
    width: usize,
    offset: usize,
    padding: Option<u32>,
) -> Result<Sinusoidal, SpecError> {
    if width < 4 || !width.is_multiple_of(2) {
        return Err(config.invalid("d_model", "an even number of at least 4"));
    }
    Ok(Sinusoidal {
        offset,
        interleaved: false,
        denominator: (width / 2 - 1) as f64,
        zero_row: padding.map(|id| id as usize),
        scale: 1.0,
    })
}

/// XGLM: sines and cosines, of which the row of the padding token is zero.
pub fn xglm(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["layerdrop", "init_std"]);
    let mut decoder = Blocks::classic(config, BART, BART_NORMS, NormStyle::layer(USUAL_EPSILON))?;
    decoder.intermediate_size = config.size("ffn_dim")?;
    decoder.activation = config.activation("activation_function")?;
    scale_embedding(config, &mut decoder)?;
    let padding = config.token_id("pad_token_id")?;
    let table = tensor2tensor(config, decoder.hidden_size, 2, padding)?;
    decoder.table = Some(Table::Sinusoidal(table));
    decoder.length_limit = Some(LengthLimit::Trained(
        config.size("max_position_embeddings")?,
    ));
    decoder.ignored = vec!["*embed_positions.weights"];
    decoder.build()
}

/// Kosmos-2's decoder: norms in front of the last projection of attention and of network, positions by what is no padding.
pub fn kosmos_2_text(config: &Config) -> Result<Described, SpecError> {
    const PREFIX: &str = "model.";
    const NAMES: Names = Names {
        output_norm: Some("self_attn.inner_attn_ln"),
        up: "ffn.fc1",
        down: "ffn.fc2",
        inner_norm: Some("ffn.ffn_layernorm"),
        ..BART
    };
    config.ignore(&["layerdrop", "init_std"]);
    config.off("add_cross_attention", "there is no encoder to attend to")?;
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut decoder = Blocks::classic(config, NAMES, BART_NORMS, norm)?;
    decoder.intermediate_size = config.size("ffn_dim")?;
    decoder.activation = config.activation("activation_function")?;
    scale_embedding(config, &mut decoder)?;
    let padding = config.token_id("pad_token_id")?;
    let padding = padding.ok_or_else(|| config.missing("pad_token_id"))?;
    let table = tensor2tensor(config, decoder.hidden_size, 0, Some(padding))?;
    decoder.table = Some(Table::Sinusoidal(table));
    decoder.position_ids = PositionIds::AfterPadding { padding };
    decoder.length_limit = Some(LengthLimit::Trained(
        config.size("max_position_embeddings")?,
    ));
    // The reference names no base model.
    PREFIX.clone_into(&mut decoder.prefix);
    let mut described = decoder.build()?;
    for spec in std::iter::once(&mut described.spec).chain(described.untied.as_deref_mut()) {
        spec.base_prefix = PREFIX;
    }
    Ok(described)
}

/// OPT: pre-norm, or post-norm with a narrower token table (350m).
pub fn opt(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["layerdrop", "init_std"]);
    let affine = config.flag("layer_norm_elementwise_affine")?;
    let norm = NormStyle {
        weight: affine,
        bias: affine,
        ..NormStyle::layer(USUAL_EPSILON)
    };
    let names = Names {
        final_norm: "final_layer_norm",
        ..BART
    };
    let mut decoder = Blocks::classic(config, names, BART_NORMS, norm)?;
    decoder.prefix.push_str("decoder.");
    decoder.learned_positions(
        "embed_positions",
        2,
        config.size("max_position_embeddings")?,
    );
    decoder.intermediate_size = config.size("ffn_dim")?;
    decoder.activation = config.activation("activation_function")?;
    if !config.flag("enable_bias")? {
        decoder.set_biases(false);
    }
    let pre = config.flag("do_layer_norm_before")?;
    if !pre {
        decoder.arrangement = Arrangement::after_sum("self_attn_layer_norm", "final_layer_norm");
    }
    if config.flag("_remove_final_layer_norm")? || !pre {
        decoder.final_norm = None;
    }
    let width = config
        .optional_size("word_embed_proj_dim")?
        .filter(|&width| width != decoder.hidden_size);
    decoder.narrow = width.map(|width| Narrow {
        width,
        inward: "project_in",
        bias: false,
        sum_is_narrow: false,
        trigrams: false,
        beside: 0,
        outward: Some("project_out"),
    });
    decoder.build()
}

/// CTRL: sines, then cosines; the layers' epsilon is fixed.
pub fn ctrl(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["n_ctx", "from_tf", "pruned_heads", "torchscript"]);
    let names = Names {
        tokens: "w",
        projections: Projections::Separate([
            "multi_head_attention.Wq",
            "multi_head_attention.Wk",
            "multi_head_attention.Wv",
        ]),
        output: "multi_head_attention.dense",
        up: "ffn.0",
        down: "ffn.2",
        final_norm: "layernorm",
        ..GPT2
    };
    let norms = Arrangement::pre("layernorm1", "layernorm2");
    let mut decoder = Blocks::classic(config, names, norms, NormStyle::layer(1e-6))?;
    decoder.final_norm = Some(layer_norm(config)?);
    decoder.intermediate_size = config.size("dff")?;
    decoder.activation = Activation::Relu;
    decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    if decoder.hidden_size % 2 != 0 {
        return Err(config.invalid("hidden_size", "an even number"));
    }
    decoder.table = Some(Table::Sinusoidal(Sinusoidal {
        offset: 0,
        interleaved: false,
        denominator: (decoder.hidden_size / 2) as f64,
        zero_row: None,
        scale: 1.0,
    }));
    decoder.length_limit = Some(LengthLimit::Trained(
        config.size("max_position_embeddings")?,
    ));
    decoder.head_bias = true;
    decoder.build()
}

fn gptj_like<'c>(config: &'c Config, names: &Names) -> Result<Blocks<'c>, SpecError> {
    config.ignore(&[
        "n_ctx",
        "rotary",
        "scale_attn_weights",
        "gradient_checkpointing",
    ]);
    let mut decoder = plain(config, names, layer_norm(config)?)?;
    let positions = config.size("max_position_embeddings")?;
    decoder.table = None;
    decoder.length_limit = Some(LengthLimit::Trained(positions));
    let dims = config.size("rotary_dim")?;
    if dims % 2 != 0 || dims > decoder.head_dim {
        return Err(config.invalid("rotary_dim", "even and at most the size of a head"));
    }
    decoder.ropes.fill(Some(Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: true,
        reversed: false,
        axis: PositionAxis::Token,
        theta: 10_000.0,
        scaling: RopeScaling::Default,
    }));
    decoder.set_attention_bias(false);
    decoder.arrangement = Arrangement::parallel("ln_1");
    decoder.head_bias = true;
    decoder.ignored.push("*.attn.causal_mask");
    Ok(decoder)
}

/// GPT-J: attention and network side by side, interleaved rope on a part of each head.
pub fn gptj(config: &Config) -> Result<Described, SpecError> {
    gptj_like(config, &GPTJ)?.build()
}

/// CodeGen: GPT-J whose fused projection has four blocks of queries, values and keys.
pub fn codegen(config: &Config) -> Result<Described, SpecError> {
    let names = Names {
        projections: Projections::Blocks {
            name: "attn.qkv_proj",
            blocks: 4,
            order: [0, 2, 1],
        },
        ..GPTJ
    };
    gptj_like(config, &names)?.build()
}

fn neox_like(config: &Config, usual_part: f64) -> Result<Blocks<'_>, SpecError> {
    let heads = config.heads("num_attention_heads")?;
    let names = Names {
        projections: Projections::per_head("attention.query_key_value", heads),
        ..NEOX
    };
    config.ignore(&["is_decoder"]);
    // Files that transformers 4.45 to 4.57 saved have both under the usual names too, for nobody.
    for (copy, original) in [
        ("rope_theta", "rotary_emb_base"),
        ("partial_rotary_factor", "rotary_pct"),
    ] {
        if let (true, Some(value)) = (config.in_file(original), config.value(original)) {
            let reason = format!("it is `{original}` that this type reads, and they differ");
            config.neutral(copy, std::slice::from_ref(value), &reason)?;
        }
    }
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let mut decoder = Blocks::classic(config, names, NEOX_NORMS, norm)?;
    decoder.family = "gpt_neox";
    decoder.activation = config.activation("hidden_act")?;
    rotate(
        &mut decoder,
        &RopeOptions {
            partial: true,
            theta_keys: &["rotary_emb_base"],
            partial_keys: &["rotary_pct"],
            default_partial: usual_part,
            ..RopeOptions::new(0)
        },
    )?;
    decoder.ignored = vec![
        "*.attention.bias",
        "*.attention.masked_bias",
        "*.rotary_emb.inv_freq",
    ];
    Ok(decoder)
}

/// Rope, and as long records as it was trained for.
fn rotate(decoder: &mut Blocks<'_>, options: &RopeOptions<'_>) -> Result<(), SpecError> {
    decoder.length_limit = None;
    decoder.rotate(&RopeOptions {
        head_dim: decoder.head_dim,
        ..*options
    })
}

/// GPT-NeoX: two norms side by side, rope on a quarter of each head.
pub fn gpt_neox(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = neox_like(config, 0.25)?;
    decoder.intermediate_size = config.size("intermediate_size")?;
    decoder.set_attention_bias(config.flag("attention_bias")?);
    if config.flag("use_parallel_residual")? {
        decoder.arrangement.form = Form::Parallel;
    }
    decoder.other_head = Some("lm_head");
    decoder.build()
}

/// GPT-NeoX Japanese: sequential, without addends but for the last attention's.
pub fn gpt_neox_japanese(config: &Config) -> Result<Described, SpecError> {
    let mut decoder = neox_like(config, 1.0)?;
    decoder.intermediate_size = decoder.hidden_size * config.size("intermediate_multiple_size")?;
    decoder.set_biases(false);
    let last = decoder.layers() - 1;
    decoder.differ(move |own, layer| {
        own.output_bias = layer == last;
        own.names.output_bias = Some("attention.dense_bias");
    });
    decoder.build()
}

/// Phi: attention and network side by side, addends everywhere.
pub fn phi(config: &Config) -> Result<Described, SpecError> {
    // Published files have these; the class has addends everywhere and rotates a part of each head.
    config.ignore(&["attention_bias", "rotary_dim"]);
    let names = Names {
        query_norm: "self_attn.q_layernorm",
        key_norm: "self_attn.k_layernorm",
        output: "self_attn.dense",
        up: "mlp.fc1",
        down: "mlp.fc2",
        final_norm: "final_layernorm",
        ..Names::USUAL
    };
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    // The class does not list `head_dim`, its attention takes it from the file all the same.
    let usual_width = head_width(config, hidden_size, heads)?;
    let head_dim = config.optional_heads("head_dim")?.unwrap_or(usual_width);
    let mut decoder = Blocks::classic_of(config, [hidden_size, heads, head_dim], norm)?;
    (decoder.family, decoder.names) = ("phi", names);
    if let Some(heads) = config.optional_heads("num_key_value_heads")? {
        decoder.kv_heads = heads;
    }
    divided(
        config,
        "num_key_value_heads",
        decoder.heads,
        decoder.kv_heads,
    )?;
    decoder.intermediate_size = config.size("intermediate_size")?;
    decoder.activation = config.activation("hidden_act")?;
    rotate(
        &mut decoder,
        &RopeOptions {
            partial: true,
            default_partial: 0.5,
            ..RopeOptions::new(0)
        },
    )?;
    if config.flag("qk_layernorm")? {
        if head_dim != usual_width {
            let reason = "the norms of queries and keys have the width that the hidden size gives";
            return Err(config.unsupported("head_dim", reason));
        }
        decoder.query_key_norm = Some((NormSpan::Head, norm));
    }
    decoder.arrangement = Arrangement::parallel("input_layernorm");
    decoder.head_bias = true;
    decoder.ignored = vec!["*.rotary_emb.inv_freq"];
    decoder.build()
}

/// Falcon: one key/value head (7b), groups of them (40b), or one for each query head with ALiBi (rw).
pub fn falcon(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&["apply_residual_connection_post_layernorm"]);
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = config.optional_heads("num_kv_heads")?.unwrap_or(heads);
    let grouped = config.flag("new_decoder_architecture")?;
    let parallel = config.flag("parallel_attn")?;
    let fused = "self_attention.query_key_value";
    let one_key = config.flag("multi_query")?;
    let (kv_heads, projections) = if grouped {
        (kv_heads, Projections::Grouped(fused))
    } else if one_key {
        (1, Projections::Rows(fused))
    } else if kv_heads == heads {
        (heads, Projections::per_head(fused, heads))
    } else {
        return Err(config.invalid("num_kv_heads", format!("{heads} without multi_query")));
    };
    let norms = match config.optional_size("num_ln_in_parallel_attn")? {
        Some(norms) => norms,
        None if grouped => 2,
        None => 1,
    };
    let two = norms == 2;
    if (grouped && !parallel) || (two && parallel && !grouped) || norms > 2 {
        let reason = "the reference cannot run these norms with this architecture";
        return Err(config.unsupported("num_ln_in_parallel_attn", reason));
    }
    let norm = layer_norm(config)?;
    let mut decoder = bloom_like(config, norm)?;
    decoder.family = "falcon";
    decoder.names.projections = projections;
    decoder.kv_heads = kv_heads;
    decoder.arrangement = match (parallel, two) {
        (false, _) => NEOX_NORMS,
        (true, false) => Arrangement::parallel("input_layernorm"),
        (true, true) => Arrangement::pre("ln_attn", "ln_mlp").in_form(Form::Parallel),
    };
    if !config.flag("bias")? {
        decoder.set_biases(false);
    }
    if let Some(inner) = config.optional_size("ffn_hidden_size")? {
        decoder.intermediate_size = inner;
    }
    decoder.activation = config.activation("activation")?;
    if config.flag("alibi")? {
        config.ignore(&[
            "rope_parameters",
            "rope_theta",
            "rope_scaling",
            "max_position_embeddings",
        ]);
        decoder.positions = vec![Position::Alibi(Alibi {
            slopes: alibi_slopes(heads),
            rounded_to_bf16: true,
            both_ways: false,
        })];
    } else {
        rotate(&mut decoder, &RopeOptions::new(0))?;
    }
    decoder.ignored = vec!["*.rotary_emb.inv_freq"];
    decoder.build()
}

/// Bloom's names. The oldest files say `n_embed`, which wins.
fn bloom_like(config: &Config, norm: NormStyle) -> Result<Blocks<'_>, SpecError> {
    let usual = config.size("hidden_size")?;
    let hidden_size = config.optional_size("n_embed")?.unwrap_or(usual);
    let heads = config.heads("num_attention_heads")?;
    let head_dim = divided(config, "num_attention_heads", hidden_size, heads)?;
    let mut decoder = Blocks::classic_of(config, [hidden_size, heads, head_dim], norm)?;
    decoder.names = Names {
        projections: Projections::per_head("self_attention.query_key_value", heads),
        ..BLOOM
    };
    Ok(decoder)
}

/// Bloom: ALiBi, a norm on the token embedding.
pub fn bloom(config: &Config) -> Result<Described, SpecError> {
    config.ignore(&[
        "attention_softmax_in_fp32",
        "masked_softmax_fusion",
        "offset_alibi",
        "bias_dropout_fusion",
        "seq_length",
        "skip_bias_add",
        "skip_bias_add_qkv",
        "unk_token_id",
    ]);
    let norm = layer_norm(config)?;
    let mut decoder = bloom_like(config, norm)?;
    decoder.family = "bloom";
    decoder.activation = Activation::GeluTanh;
    decoder.positions = vec![alibi(alibi_slopes(decoder.heads))];
    decoder.token_norm = Some(("word_embeddings_layernorm", norm));
    if config.flag("apply_residual_connection_post_layernorm")? {
        decoder.arrangement.form = Form::InStream;
    }
    let slices = config.size("pretraining_tp")?;
    if config.flag("slow_but_exact")? && slices > 1 {
        // The reference's sum over slices leaves the addends out.
        decoder.output_bias = false;
        decoder.down_bias = false;
        decoder.ignored = vec!["*.self_attention.dense.bias", "*.mlp.dense_4h_to_h.bias"];
    }
    decoder.build()
}

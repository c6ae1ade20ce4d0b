//! GPT-2 and its relatives: what each type changes of the plain [`Classic`].

use serde_json::Value;

use crate::build::{NormStyle, divided, head_width};
use crate::families::classic::{
    Arrangement, Classic, Names, Projections, Table, alibi, alibi_slopes,
};
use crate::rope::{PositionAxis, Rope, RopeOptions, RopeScaling};
use crate::{
    Activation, Alibi, Config, LengthLimit, Mask, ModelSpec, NormKind, Position, Sinusoidal,
    SpecError,
};

/// Epsilon of a layer norm that no key sets.
const USUAL_EPSILON: f64 = 1e-5;

pub(super) const GPT2: Names = Names {
    tokens: "wte",
    layers: "h",
    attention_norm: "ln_1",
    feed_forward_norm: "ln_2",
    projections: Projections::Fused("attn.c_attn"),
    output: "attn.c_proj",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    final_norm: "ln_f",
    head: "lm_head",
};

/// Bart's names, which OPT, XGLM and BioGPT share.
const BART: Names = Names {
    tokens: "embed_tokens",
    layers: "layers",
    attention_norm: "self_attn_layer_norm",
    feed_forward_norm: "final_layer_norm",
    projections: Projections::Separate([
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
    ]),
    output: "self_attn.out_proj",
    up: "fc1",
    down: "fc2",
    final_norm: "layer_norm",
    head: "lm_head",
};

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
    layers: "layers",
    attention_norm: "input_layernorm",
    feed_forward_norm: "post_attention_layernorm",
    projections: Projections::Fused("attention.query_key_value"),
    output: "attention.dense",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
    final_norm: "final_layer_norm",
    head: "embed_out",
};

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
fn plain(config: &Config, names: Names, norm: NormStyle) -> Result<Classic<'_>, SpecError> {
    let mut decoder = Classic::new(config, names, norm)?;
    decoder.learned_positions("wpe", 0, config.size("max_position_embeddings")?);
    if let Some(inner) = config.optional_size("n_inner")? {
        decoder.intermediate_size = inner;
    }
    decoder.activation = config.activation("activation_function")?;
    decoder.ignored = vec!["*.attn.bias", "*.attn.masked_bias"];
    Ok(decoder)
}

fn gpt2_like(config: &Config, norm: NormStyle) -> Result<Classic<'_>, SpecError> {
    // Precision of the attention logits.
    config.ignore(&["reorder_and_upcast_attn"]);
    let mut decoder = plain(config, GPT2, norm)?;
    decoder.transposed = true;
    let usual = if config.flag("scale_attn_weights")? {
        decoder.attention_scales[0]
    } else {
        1.0
    };
    let by_layer = config.flag("scale_attn_by_inverse_layer_idx")?;
    for (layer, scale) in decoder.attention_scales.iter_mut().enumerate() {
        let divisor = if by_layer { (layer + 1) as f64 } else { 1.0 };
        *scale = usual / divisor;
    }
    Ok(decoder)
}

fn layer_norm(config: &Config) -> Result<NormStyle, SpecError> {
    Ok(NormStyle::layer(config.positive("layer_norm_epsilon")?))
}

/// GPT-2.
pub fn gpt2(config: &Config) -> Result<ModelSpec, SpecError> {
    // Keys that no code reads any more.
    config.ignore(&["n_ctx", "n_special", "predict_special_tokens"]);
    gpt2_like(config, layer_norm(config)?)?.build()
}

/// ImageGPT: RMS norms; its last token, the start of a sequence, is never predicted.
pub fn imagegpt(config: &Config) -> Result<ModelSpec, SpecError> {
    let norm = NormStyle {
        kind: NormKind::Rms,
        bias: false,
        ..layer_norm(config)?
    };
    let mut decoder = gpt2_like(config, norm)?;
    // The token that starts an image is never predicted, unless the head is the token table.
    if !config.flag("tie_word_embeddings")? {
        decoder.outputs = config.size("vocab_size")? - 1;
        if decoder.outputs == 0 {
            return Err(config.invalid("vocab_size", "at least 2"));
        }
    }
    decoder.build()
}

/// GPT-BigCode: one key/value head, or all of them fused head by head.
pub fn gpt_bigcode(config: &Config) -> Result<ModelSpec, SpecError> {
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
            Projections::Fused("attn.c_attn")
        } else {
            per_head("attn.c_attn", heads)
        },
        ..GPT2
    };
    let mut decoder = plain(config, names, layer_norm(config)?)?;
    if multi_query {
        decoder.kv_heads = 1;
    }
    if !config.flag("scale_attn_weights")? {
        decoder.attention_scales.fill(1.0);
    }
    decoder.build()
}

/// `q, k, v` of every head in turn.
fn per_head(name: &'static str, heads: usize) -> Projections {
    Projections::Blocks {
        name,
        blocks: heads,
        order: [0, 1, 2],
    }
}

/// GPT-Neo: unscaled logits, windows on some layers.
pub fn gpt_neo(config: &Config) -> Result<ModelSpec, SpecError> {
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
    let mut decoder = plain(config, names, layer_norm(config)?)?;
    decoder.query_key_value_bias = false;
    if let Some(inner) = config.optional_size("intermediate_size")? {
        decoder.intermediate_size = inner;
    }
    decoder.attention_scales.fill(1.0);
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
pub fn openai_gpt(config: &Config) -> Result<ModelSpec, SpecError> {
    config.ignore(&["n_ctx", "n_special", "predict_special_tokens"]);
    let names = Names {
        tokens: "tokens_embed",
        ..GPT2
    };
    let mut decoder = Classic::new(config, names, layer_norm(config)?)?;
    decoder.learned_positions(
        "positions_embed",
        0,
        config.size("max_position_embeddings")?,
    );
    decoder.transposed = true;
    decoder.arrangement = Arrangement::Post;
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
pub fn biogpt(config: &Config) -> Result<ModelSpec, SpecError> {
    // No norm of this type uses it.
    config.ignore(&["layer_norm_eps", "layerdrop"]);
    let names = Names {
        head: "output_projection",
        ..BART
    };
    let mut decoder = Classic::new(config, names, NormStyle::layer(USUAL_EPSILON))?;
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

fn scale_embedding(config: &Config, decoder: &mut Classic<'_>) -> Result<(), SpecError> {
    if config.flag("scale_embedding")? {
        decoder.embedding_scale = (decoder.hidden_size as f64).sqrt();
    }
    Ok(())
}

/// XGLM: sines and cosines, of which the row of the padding token is zero.
pub fn xglm(config: &Config) -> Result<ModelSpec, SpecError> {
    config.ignore(&["layerdrop", "init_std"]);
    let mut decoder = Classic::new(config, BART, NormStyle::layer(USUAL_EPSILON))?;
    decoder.intermediate_size = config.size("ffn_dim")?;
    decoder.activation = config.activation("activation_function")?;
    scale_embedding(config, &mut decoder)?;
    let half = decoder.hidden_size / 2;
    if half < 2 || decoder.hidden_size % 2 != 0 {
        return Err(config.invalid("hidden_size", "an even number of at least 4"));
    }
    decoder.table = Some(Table::Sinusoidal(Sinusoidal {
        offset: 2,
        interleaved: false,
        denominator: (half - 1) as f64,
        zero_row: config.token_id("pad_token_id")?.map(|id| id as usize),
    }));
    decoder.length_limit = LengthLimit::Trained(config.size("max_position_embeddings")?);
    decoder.ignored = vec!["*embed_positions.weights"];
    decoder.build()
}

/// OPT: pre-norm, or post-norm with a narrower token table (350m).
pub fn opt(config: &Config) -> Result<ModelSpec, SpecError> {
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
    let mut decoder = Classic::new(config, names, norm)?;
    decoder.prefix = format!("{}decoder.", decoder.prefix);
    decoder.learned_positions(
        "embed_positions",
        2,
        config.size("max_position_embeddings")?,
    );
    decoder.intermediate_size = config.size("ffn_dim")?;
    decoder.activation = config.activation("activation_function")?;
    if !config.flag("enable_bias")? {
        decoder.without_biases();
    }
    let pre = config.flag("do_layer_norm_before")?;
    if !pre {
        decoder.arrangement = Arrangement::Post;
    }
    if config.flag("_remove_final_layer_norm")? || !pre {
        decoder.final_norm = None;
    }
    decoder.embedding_width = config
        .optional_size("word_embed_proj_dim")?
        .filter(|&width| width != decoder.hidden_size);
    decoder.build()
}

/// CTRL: sines, then cosines; the layers' epsilon is fixed.
pub fn ctrl(config: &Config) -> Result<ModelSpec, SpecError> {
    config.ignore(&["n_ctx", "from_tf", "pruned_heads", "torchscript"]);
    let names = Names {
        tokens: "w",
        attention_norm: "layernorm1",
        feed_forward_norm: "layernorm2",
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
    let mut decoder = Classic::new(config, names, NormStyle::layer(1e-6))?;
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
    }));
    decoder.length_limit = LengthLimit::Trained(config.size("max_position_embeddings")?);
    decoder.head_bias = true;
    decoder.build()
}

fn gptj_like(config: &Config, names: Names) -> Result<Classic<'_>, SpecError> {
    config.ignore(&[
        "n_ctx",
        "rotary",
        "scale_attn_weights",
        "gradient_checkpointing",
    ]);
    let mut decoder = plain(config, names, layer_norm(config)?)?;
    let positions = config.size("max_position_embeddings")?;
    decoder.table = None;
    decoder.length_limit = LengthLimit::Trained(positions);
    let dims = config.size("rotary_dim")?;
    if dims % 2 != 0 || dims > decoder.head_dim {
        return Err(config.invalid("rotary_dim", "even and at most the size of a head"));
    }
    decoder.positions = Some(Position::Rope(Rope {
        dims,
        span: dims,
        offset: 0,
        interleaved: true,
        reversed: false,
        axis: PositionAxis::Token,
        theta: 10_000.0,
        scaling: RopeScaling::Default,
    }));
    decoder.query_key_value_bias = false;
    decoder.output_bias = false;
    decoder.arrangement = Arrangement::Parallel;
    decoder.head_bias = true;
    decoder.ignored.push("*.attn.causal_mask");
    Ok(decoder)
}

/// GPT-J: attention and network side by side, interleaved rope on a part of each head.
pub fn gptj(config: &Config) -> Result<ModelSpec, SpecError> {
    gptj_like(config, GPTJ)?.build()
}

/// CodeGen: GPT-J whose fused projection has four blocks of queries, values and keys.
pub fn codegen(config: &Config) -> Result<ModelSpec, SpecError> {
    let names = Names {
        projections: Projections::Blocks {
            name: "attn.qkv_proj",
            blocks: 4,
            order: [0, 2, 1],
        },
        ..GPTJ
    };
    gptj_like(config, names)?.build()
}

fn neox_like(config: &Config, usual_part: f64) -> Result<Classic<'_>, SpecError> {
    let names = Names {
        projections: per_head(
            "attention.query_key_value",
            config.heads("num_attention_heads")?,
        ),
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
    let mut decoder = Classic::new(config, names, norm)?;
    decoder.family = "gpt_neox";
    decoder.activation = config.activation("hidden_act")?;
    rotate(
        config,
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

fn rotate(
    config: &Config,
    decoder: &mut Classic<'_>,
    options: &RopeOptions<'_>,
) -> Result<(), SpecError> {
    let options = RopeOptions {
        head_dim: decoder.head_dim,
        ..*options
    };
    let max = config.size("max_position_embeddings")?;
    if let Some(rope) = Rope::from_config(config, &options)? {
        decoder.length_limit = rope.length_limit(max);
        decoder.positions = Some(Position::Rope(rope));
    }
    Ok(())
}

/// GPT-NeoX: two norms side by side, rope on a quarter of each head.
pub fn gpt_neox(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = neox_like(config, 0.25)?;
    decoder.intermediate_size = config.size("intermediate_size")?;
    decoder.query_key_value_bias = config.flag("attention_bias")?;
    decoder.output_bias = decoder.query_key_value_bias;
    if config.flag("use_parallel_residual")? {
        decoder.arrangement = Arrangement::ParallelTwoNorms;
    }
    decoder.other_head = Some("lm_head");
    decoder.build()
}

/// GPT-NeoX Japanese: sequential, without addends but for the last attention's.
pub fn gpt_neox_japanese(config: &Config) -> Result<ModelSpec, SpecError> {
    let mut decoder = neox_like(config, 1.0)?;
    decoder.intermediate_size = decoder.hidden_size * config.size("intermediate_multiple_size")?;
    decoder.without_biases();
    decoder.last_output_bias = Some("attention.dense_bias");
    decoder.build()
}

/// Phi: attention and network side by side, addends everywhere.
pub fn phi(config: &Config) -> Result<ModelSpec, SpecError> {
    // Published files have these; the class has addends everywhere and rotates a part of each head.
    config.ignore(&["attention_bias", "rotary_dim"]);
    let names = Names {
        tokens: "embed_tokens",
        projections: BART.projections,
        output: "self_attn.dense",
        up: "mlp.fc1",
        down: "mlp.fc2",
        final_norm: "final_layernorm",
        head: "lm_head",
        ..NEOX
    };
    let norm = NormStyle::layer(config.positive("layer_norm_eps")?);
    let hidden_size = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    // The class does not list `head_dim`, its attention takes it from the file all the same.
    let usual_width = head_width(config, hidden_size, heads)?;
    let head_dim = config.optional_heads("head_dim")?.unwrap_or(usual_width);
    let mut decoder = Classic::of_heads(config, names, norm, [hidden_size, heads, head_dim])?;
    decoder.family = "phi";
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
        config,
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
        let names = ["self_attn.q_layernorm", "self_attn.k_layernorm"];
        decoder.query_key_norm = Some((names, norm));
    }
    decoder.arrangement = Arrangement::Parallel;
    decoder.head_bias = true;
    decoder.ignored = vec!["*.rotary_emb.inv_freq"];
    decoder.build()
}

/// Falcon: one key/value head (7b), groups of them (40b), or one for each query head with ALiBi (rw).
pub fn falcon(config: &Config) -> Result<ModelSpec, SpecError> {
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
        (1, Projections::Fused(fused))
    } else if kv_heads == heads {
        (heads, per_head(fused, heads))
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
    let mut names = Names {
        projections,
        ..BLOOM
    };
    if two && parallel {
        (names.attention_norm, names.feed_forward_norm) = ("ln_attn", "ln_mlp");
    }
    let norm = layer_norm(config)?;
    let mut decoder = Classic::of_size(config, names, norm, bloom_size(config)?)?;
    decoder.family = "falcon";
    decoder.kv_heads = kv_heads;
    decoder.arrangement = match (parallel, two) {
        (false, _) => Arrangement::Pre,
        (true, false) => Arrangement::Parallel,
        (true, true) => Arrangement::ParallelTwoNorms,
    };
    if !config.flag("bias")? {
        decoder.without_biases();
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
        decoder.positions = Some(Position::Alibi(Alibi {
            slopes: alibi_slopes(heads),
            rounded_to_bf16: true,
        }));
    } else {
        rotate(config, &mut decoder, &RopeOptions::new(0))?;
    }
    decoder.ignored = vec!["*.rotary_emb.inv_freq"];
    decoder.build()
}

/// The oldest files say `n_embed`, which wins.
fn bloom_size(config: &Config) -> Result<usize, SpecError> {
    let usual = config.size("hidden_size")?;
    Ok(config.optional_size("n_embed")?.unwrap_or(usual))
}

/// Bloom: ALiBi, a norm on the token embedding.
pub fn bloom(config: &Config) -> Result<ModelSpec, SpecError> {
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
    let heads = config.heads("num_attention_heads")?;
    let names = Names {
        projections: per_head("self_attention.query_key_value", heads),
        ..BLOOM
    };
    let norm = layer_norm(config)?;
    let mut decoder = Classic::of_size(config, names, norm, bloom_size(config)?)?;
    decoder.family = "bloom";
    decoder.activation = Activation::GeluTanh;
    decoder.positions = Some(alibi(alibi_slopes(heads)));
    decoder.embedding_norm = Some(("word_embeddings_layernorm", norm));
    if config.flag("apply_residual_connection_post_layernorm")? {
        decoder.arrangement = Arrangement::PreInStream;
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

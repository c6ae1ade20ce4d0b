//! Keys of `config.json` that do not change the forward pass in evaluation, each group with its
//! reason. A family that does use such a key reads it, which takes precedence.

use serde_json::Value;

/// Where the file came from and how it is to be loaded.
const PROVENANCE: &[&str] = &[
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "author",
    "auto_map",
    "base_model",
    "base_model_name_or_path",
    "custom_pipelines",
    "dtype",
    "language",
    "library_name",
    "license",
    "model_name",
    "model_type",
    "name_or_path",
    "pretrained_model_name_or_path",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "transformers.js_config",
    "unsloth_fixed",
    "unsloth_version",
];

/// Training only: dropout, initialisation, losses, checkpointing.
const TRAINING: &[&str] = &[
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "classifier_dropout_prob",
    "decoder_layerdrop",
    "dropout",
    "dropout_rate",
    "embd_pdrop",
    "embedding_dropout",
    "encoder_layerdrop",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "hidden_dropout",
    "hidden_dropout_prob",
    "init_std",
    "initializer_cutoff_factor",
    "initializer_factor",
    "initializer_range",
    "label_smoothing",
    "loss_type",
    "mlp_dropout",
    "neftune_noise_alpha",
    "qa_dropout",
    "recompute",
    "recompute_granularity",
    "resid_pdrop",
    "residual_dropout",
    "seq_classif_dropout",
    "summary_first_dropout",
    "tf_legacy_loss",
    "training_args",
    "use_flash_attention",
    "use_liger_kernel",
    "use_loss_kwargs",
    "use_recompute",
    "use_reentrant",
];

/// Heads for classification and summaries, which the described classes do not have.
const LABELS: &[&str] = &[
    "_num_labels",
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "summary_activation",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
];

/// What a call returns, caches or compiles; how the same sums are scheduled.
const EXECUTION: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_flash_attn_2_enabled",
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "device_map",
    "enable_flash_attn",
    "flash_attention",
    "flash_attn_version",
    "fused_mlp",
    "keys_to_ignore_at_inference",
    "low_cpu_mem_usage",
    "model_max_length",
    "model_parallel",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "padding_side",
    "parallel_output",
    "pretraining_tp",
    "return_dict",
    "return_dict_in_generate",
    "sequence_parallel",
    "tensor_parallel_degree",
    "tokenizer_padding_side",
    "torch_compile",
    "torchscript",
    "unpad_inputs",
    "use_bfloat16",
    "use_cache",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_fused_cross_entropy",
    "use_fused_mlp",
    "use_fused_rms_norm",
    "use_fused_rotary_embedding",
    "use_memory_efficient_attention",
    "use_sdpa",
    "use_xformers",
];

/// Names of special tokens: they select inputs, not arithmetic. Families whose positions or masks
/// depend on one read it.
const TOKENS: &[&str] = &[
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "mask_token_id",
    "pad_token_id",
    "sep_token_id",
    "unk_token_id",
];

/// Generation settings; transformers drops them when it loads a configuration.
const GENERATION: &[&str] = &[
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
];

/// How the weights are stored: the business of the checkpoint reader, which reads the key itself.
const STORAGE: &[&str] = &["compression_config", "quantization", "quantization_config"];

/// Switches that change the model when they are on.
const OFF: &[&str] = &[
    "add_cross_attention",
    "cross_attention_hidden_size",
    "is_decoder",
    "is_encoder_decoder",
    "tie_encoder_decoder",
    "use_mrope",
    "use_sliding_window",
];

/// Every decoder is causal unless this says otherwise, and `null` does.
pub(crate) const MASK_SWITCH: &str = "is_causal";

/// Whether a key switches on what changes a model, for every type that does not say otherwise.
pub(crate) fn is_switch(key: &str) -> bool {
    key == MASK_SWITCH || OFF.contains(&key)
}

/// Whether an unread key is known not to matter with this value. `of_class`: the type's own class
/// declares the key.
pub(crate) fn is(key: &str, value: &Value, of_class: bool) -> bool {
    if key == MASK_SWITCH {
        return *value == Value::Bool(true);
    }
    // Off, whatever it would switch on; and `null` is how a file says "not used".
    let empty = match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    if empty {
        return true;
    }
    let listed = |keys: &[&str]| keys.contains(&key);
    if [PROVENANCE, TRAINING, LABELS, EXECUTION, TOKENS, STORAGE]
        .into_iter()
        .any(listed)
    {
        return true;
    }
    // A class that declares `top_k` or `prefix` means something else by it.
    if listed(GENERATION) {
        return !of_class;
    }
    match key {
        // A causal decoder is one whether or not the file says so; and where windows would begin
        // says nothing while another key has to ask for them.
        "is_decoder" | "max_window_layers" => !of_class,
        _ => listed(OFF) && *value == Value::Bool(false),
    }
}

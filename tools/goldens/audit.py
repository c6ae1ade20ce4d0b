"""Which config values a type's goldens never vary: what the reference reads, and every golden of the type has the same value for.

    python audit.py llama granite      one line a value; what remains should have no influence on the numbers, or be a plain size
"""

import json
import sys
import tempfile
from pathlib import Path

import generate

# Plain sizes, switches of training and generation, and what the library itself looks at.
UNINTERESTING = {
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "n_embd", "n_layer", "n_head",
    "initializer_range", "use_cache", "model_type", "dtype", "torch_dtype", "architectures", "name_or_path", "return_dict",
    "output_attentions", "output_hidden_states", "output_router_logits", "problem_type", "id2label", "label2id", "num_labels",
    "chunk_size_feed_forward", "is_encoder_decoder", "bos_token_id", "eos_token_id", "transformers_version", "pretraining_tp",
    "router_aux_loss_coef", "router_z_loss_coef", "attribute_map", "sub_configs", "base_config_key", "keys_to_ignore_at_inference",
    "quantization_config", "tp_size", "has_no_defaults_at_init", "pruned_heads", "gradient_checkpointing", "max_length",
    "default_theta", "default_rope_type", "ignore_keys_at_rope_validation", "prefix", "tokenizer_class", "task_specific_params",
}
SKIP_WORDS = ("dropout", "pdrop", "_plan", "summary_", "jitter", "_implementation")


def keys_read(variant):
    """Public attributes of the config that building, loading and running the model look at."""
    read = set()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        generate.write_checkpoint(variant, folder)
        model = generate.load(variant, folder)
        kind = type(model.config)
        original = kind.__getattribute__

        def spy(config, key):
            if not key.startswith("_"):
                read.add(key)
            return original(config, key)

        config = model.config
        kind.__getattribute__ = spy
        try:
            rebuilt = generate.model_class(variant)(config).eval()
            for _, inputs in generate.records_of(variant, rebuilt):
                generate.run(rebuilt, inputs, variant)
        finally:
            kind.__getattribute__ = original
    return {key for key in read if key in vars(config) or key in getattr(config, "attribute_map", {})}, config


def flat(prefix, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(f"{prefix}.{key}", inner)
    else:
        yield prefix, value


def main():
    types = {}
    for name, variant in generate.variants().items():
        types.setdefault(generate.base_of(variant)["config"]["model_type"], []).append((name, variant))
    for model_type in sys.argv[1:] or types:
        values, count = {}, len(types[model_type])
        for _, variant in types[model_type]:
            read, config = keys_read(variant)
            for key in read:
                for path, value in flat(key, vars(config).get(config.attribute_map.get(key, key))):
                    values.setdefault(path, set()).add(json.dumps(value, default=str))
        single = {
            key: next(iter(found))
            for key, found in sorted(values.items())
            if len(found) == 1 and key not in UNINTERESTING and not any(word in key for word in SKIP_WORDS)
        }
        print(f"{model_type} ({count} goldens): " + ", ".join(f"{key}={value}" for key, value in single.items()))


if __name__ == "__main__":
    main()

"""Writes what the types of the project need to know of the reference's configuration classes.

Run from the root of the repository with the pinned transformers:

    python tools/defaults/generate.py            # write what differs
    python tools/defaults/generate.py --check    # exit 1 if a committed file is stale

Each type has a file crates/sli-spec/src/types/NAME.json: what transformers assumes for keys that a config.json
omits, and which keys of other classes its sources mention (reads.py). crates/sli-spec/src/known_keys.json has the keys of all
configuration classes.

The types are those of the lists `TYPES` in crates/sli-spec/src/families; types whose code lives outside
transformers are skipped. Field defaults are the raw ones of the class, before `__post_init__`
derives one from another: deriving is the families' business, because the file may set either.
"""

import argparse
import dataclasses
import json
import math
import re
import sys

import transformers
from transformers.models.auto import configuration_auto, modeling_auto

import reads
from classes import ALIASES, INHERITED, PARTS, SOURCES, TEXT_CLASSES, classes_of, names_of, registered_types

GLM_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [8, 12, 12]}
MROPE = {"mrope_section": [16, 24, 24], "rope_theta": 1000000.0, "rope_type": "default"}

# Keys without which the class's own defaults describe no model, with values of a published one.
EXAMPLES = {
    "deepseek_v2": {"num_experts_per_tok": 6},
    "glm4_moe": {"head_dim": 128},
    "esm": {"mask_token_id": 32, "pad_token_id": 1, "position_embedding_type": "rotary", "vocab_size": 33},
    "xmod": {"default_language": "en_XX"},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "qwen4_exp_text": {
        "indexer_budget": 2048, "indexer_compress_ratio": 16, "indexer_head_dim": 128, "indexer_kv_heads": 1, "indexer_n_heads": 4,
    },
    "qwen4_exp": {
        "text_config": {
            "model_type": "qwen4_exp_text", "indexer_budget": 2048, "indexer_compress_ratio": 16, "indexer_head_dim": 128, "indexer_kv_heads": 1, "indexer_n_heads": 4,
        },
        "vision_config": {"model_type": "qwen4_exp_vision", "out_hidden_size": 2048},
    },
    "muse_glimmer": {"text_config": {"model_type": "muse_glimmer_text"}, "vision_config": {"model_type": "muse_glimmer_vision"}},
    "muse_spark": {"text_config": {"model_type": "muse_spark_text"}, "vision_config": {"model_type": "muse_spark_vision"}},
    "granite_docling": {"text_config": {"model_type": "granite_docling_text"}, "vision_config": {"model_type": "granite_docling_vision"}},
    "embedding_gemma2": {"text_config": {"model_type": "embedding_gemma2_text"}, "vision_config": {"model_type": "gemma4_vision"}},
    "cosmos3_edge": {"text_config": {"model_type": "cosmos3_edge_text"}, "vision_config": {"model_type": "cosmos3_edge_vision"}},
    "minimax_m3_vl": {"text_config": {"model_type": "minimax_m3_vl_text"}, "vision_config": {"model_type": "minimax_m3_vl_vision"}},
    "step3p7": {"text_config": {"model_type": "step3p5"}, "vision_config": {"model_type": "step3p5_vision"}},
    "glm5_next": {"text_config": {"model_type": "glm5_next_text"}, "vision_config": {"model_type": "glm5_next_vision", "out_hidden_size": 4096}},
    "shieldgemma2": {"text_config": {"model_type": "gemma3_text"}, "vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}},
    "modernvbert": {"text_config": {"model_type": "modernbert"}, "vision_config": {"model_type": "siglip_vision_model", "image_size": 512, "patch_size": 16}},
    "ultravbert": {"text_config": {"model_type": "ultrabert"}, "vision_config": {"model_type": "siglip_vision_model", "image_size": 512, "patch_size": 16}},
    "qwen2_vl": {"text_config": {"model_type": "qwen2_vl_text", "rope_parameters": MROPE}, "vision_config": {"model_type": "qwen2_vl_vision", "hidden_size": 8192}},
    "qwen2_5_vl": {"text_config": {"model_type": "qwen2_5_vl_text", "rope_parameters": MROPE}, "vision_config": {"model_type": "qwen2_5_vl_vision", "out_hidden_size": 8192}},
    "qwen3_vl": {"text_config": {"model_type": "qwen3_vl_text"}, "vision_config": {"model_type": "qwen3_vl_vision", "out_hidden_size": 4096}},
    "fuyu": {"text_config": {"model_type": "persimmon"}},
    "janus": {"text_config": {"model_type": "llama", "hidden_size": 2048}, "vision_config": {"model_type": "janus_vision_model"}},
    "kimi_k25": {"text_config": {"model_type": "deepseek_v3"}, "vision_config": {"model_type": "kimi_k25_vision"}},
    "lfm2_vl": {"text_config": {"model_type": "lfm2"}, "vision_config": {"model_type": "siglip2_vision_model"}},
    "mistral_large4": {"text_config": {"model_type": "mistral_large4_text"}, "vision_config": {"model_type": "pixtral"}},
    "paddleocr_vl": {"text_config": {"model_type": "paddleocr_vl_text"}, "vision_config": {"model_type": "paddleocr_vl_vision"}},
    "qianfan_ocr": {"text_config": {"model_type": "qwen3"}, "vision_config": {"model_type": "qianfan_ocr_vision"}},
    "video_llama_3": {"text_config": {"model_type": "qwen2"}, "vision_config": {"model_type": "video_llama_3_vision"}},
    "gemma4": {"text_config": {"model_type": "gemma4_text"}, "vision_config": {"model_type": "gemma4_vision"}},
    "gemma4_unified": {"text_config": {"model_type": "gemma4_unified_text"}, "vision_config": {"model_type": "gemma4_unified_vision"}},
    "qwen3_vl_moe": {"text_config": {"model_type": "qwen3_vl_moe_text"}, "vision_config": {"model_type": "qwen3_vl_moe_vision", "out_hidden_size": 2048}},
    "qwen3_5": {"text_config": {"model_type": "qwen3_5_text"}, "vision_config": {"model_type": "qwen3_5_vision", "out_hidden_size": 4096}},
    "qwen3_5_moe": {"text_config": {"model_type": "qwen3_5_moe_text"}, "vision_config": {"model_type": "qwen3_5_moe_vision", "out_hidden_size": 2048}},
    "cohere_compass": {"text_config": {"model_type": "cohere_compass_text"}, "vision_config": {"model_type": "cohere_compass_vision", "out_hidden_size": 8192}},
    "exaone4_5": {"text_config": {"model_type": "exaone4"}, "vision_config": {"model_type": "exaone4_5_vision", "out_hidden_size": 4096}},
    "aria": {"text_config": {"model_type": "aria_text"}, "vision_config": {"model_type": "idefics3_vision", "image_size": 980, "patch_size": 14}},
    "blip-2": {"image_token_index": 50265},
    "instructblip": {"image_token_index": 32000},
    "idefics2": {"text_config": {"model_type": "mistral"}},
    "mllama": {"text_config": {"model_type": "mllama_text_model"}, "vision_config": {"model_type": "mllama_vision_model"}},
    "internvl": {"text_config": {"model_type": "qwen2"}, "vision_config": {"model_type": "internvl_vision"}},
    "idefics3": {"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "idefics3_vision", "image_size": 364, "patch_size": 14}},
    "smolvlm": {"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "smolvlm_vision", "image_size": 364, "patch_size": 14}},
    "aya_vision": {"text_config": {"model_type": "cohere2"}, "vision_config": {"model_type": "siglip_vision_model"}},
    "cohere2_vision": {"text_config": {"model_type": "cohere2"}, "vision_config": {"model_type": "siglip_vision_model"}},
    "deepseek_vl": {"text_config": {"model_type": "llama"}, "vision_config": {"model_type": "siglip_vision_model"}},
    "gemma3": {"text_config": {"model_type": "gemma3_text"}, "vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}},
    "cosmos3_omni": {"text_config": {"model_type": "qwen3_vl_text"}, "vision_config": {"model_type": "qwen3_vl_vision", "out_hidden_size": 4096}},
    "got_ocr2": {"text_config": {"model_type": "qwen2", "hidden_size": 1024}, "vision_config": {"model_type": "got_ocr2_vision"}},
    "ovis2": {"text_config": {"model_type": "qwen2", "hidden_size": 1536}, "vision_config": {"model_type": "ovis2_vision"}},
    "pp_chart2table": {"text_config": {"model_type": "qwen2", "hidden_size": 1024}, "vision_config": {"model_type": "pp_chart2table_vision"}},
    "paligemma": {"text_config": {"model_type": "gemma", "hidden_size": 2048}, "vision_config": {"model_type": "siglip_vision_model"}},
    "mistral3": {"text_config": {"model_type": "mistral"}, "vision_config": {"model_type": "pixtral"}},
    "lighton_ocr": {"text_config": {"model_type": "qwen3"}, "vision_config": {"model_type": "pixtral"}},
    "llama4": {"text_config": {"model_type": "llama4_text"}, "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 1408, "vision_output_dim": 4096}},
    "glm4v_text": {"rope_parameters": GLM_ROPE},
    "glm4v": {"text_config": {"rope_parameters": GLM_ROPE}},
    "glm4v_moe_text": {"head_dim": 128, "rope_parameters": GLM_ROPE},
    "glm4v_moe": {"text_config": {"head_dim": 128, "rope_parameters": GLM_ROPE}},
    "glm46v": {"text_config": {"rope_parameters": GLM_ROPE}},
    "glmga": {"text_config": {"rope_parameters": GLM_ROPE}},
    "glm_ocr": {"text_config": {"hidden_size": 1536, "head_dim": 128, "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]}}},
    "qwen2_vl_text": {"rope_parameters": MROPE},
    "qwen2_5_vl_text": {"rope_parameters": MROPE},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6},
}


def field_defaults(config_class):
    values = {}
    for field in dataclasses.fields(config_class):
        if field.name in INHERITED:
            continue
        if field.default is not dataclasses.MISSING:
            values[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = field.default_factory()
    # A file may spell a field as the class does or by its alias; the alias is the spelling here.
    spelled = {config_class.attribute_map.get(key, key): value for key, value in values.items()}
    return {key: written(value) for key, value in sorted(spelled.items()) if is_plain(value)}


def written(value):
    """Numbers that JSON lacks are written as transformers writes them."""
    if isinstance(value, (list, tuple)):
        return [written(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    return value


def is_plain(value):
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def alternatives_of(expression):
    """The regular expression without groups, once for each choice of what its groups may be."""
    expression = re.sub(r"\[(\w+)\]", lambda letters: f"(?:{'|'.join(letters[1])})", expression)
    group = re.search(r"\((?:\?:)?([^()]*)\)(\??)", expression)
    if not group:
        return [expression]
    choices = group[1].split("|") + ([""] if group[2] else [])
    before, after = expression[: group.start()], expression[group.end() :]
    return [one for choice in choices for one in alternatives_of(before + choice + after)]


def pattern_of(expression):
    """The pattern, `*` for any characters, of a regular expression that the reference searches in names."""
    front = "" if expression.startswith("^") else "*"
    end = "" if expression.endswith("$") else "*"
    text = expression.removeprefix("^").removesuffix("$").removesuffix(".*")
    text = text.replace(r"\.", "\0").replace(r"\d+", "*").replace(".*", "*").replace("\0", ".")
    if re.search(r"[\\()|\[\]+?{}^$]", text):
        raise ValueError(f"{expression}: no pattern says the same")
    return f"{front}{text}{end}"


def ignored_of(model_type):
    """What the classes of the type leave out of a checkpoint without a word."""
    patterns = set()
    for name, task in classes_of(model_type).items():
        if task in ("encoder", "token_classification"):  # leaves out the decoder, which the others need
            continue
        expressions = getattr(getattr(transformers, name, None), "_keys_to_ignore_on_load_unexpected", None)
        for expression in expressions or ():
            patterns |= {pattern_of(one) for one in alternatives_of(expression)}
    return sorted(patterns)


# Prefixes of published files that the reference gives other names while it reads them.
PUBLISHED_PREFIXES = {"ultrabert": "ultrabert", "clip_vision_model": "vision_model", "siglip_vision_model": "vision_model"}


def row_of(model_type):
    config_class = configuration_auto.CONFIG_MAPPING[model_type]
    base = names_of(modeling_auto.MODEL_MAPPING_NAMES, model_type) or list(TEXT_CLASSES.get(model_type, ()))
    base = base or [name for name, task in classes_of(model_type).items() if task == "causal_lm"]  # a decoder alone has no base class
    known = [getattr(transformers, name) for name in base if hasattr(transformers, name)]
    prefix = known[0].base_model_prefix if known else ""
    prefix = PUBLISHED_PREFIXES.get(model_type, prefix)
    return {
        "base_prefix": f"{prefix}." if prefix else "",
        "classes": classes_of(model_type),
        "attribute_map": dict(sorted(config_class.attribute_map.items())),
        "default_theta": getattr(config_class, "default_theta", None),
        "defaults": field_defaults(config_class),
        **({"ignored": ignored_of(model_type)} if ignored_of(model_type) else {}),
        **({"example": EXAMPLES[model_type]} if model_type in EXAMPLES else {}),
    }


def files():
    """Path -> text of every file that this script writes."""
    known = configuration_auto.CONFIG_MAPPING_NAMES
    found = {SOURCES / "known_keys.json": {"known": reads.KNOWN, "shared": reads.SHARED}}
    for model_type in sorted([*registered_types(), *PARTS]):
        actual = ALIASES.get(model_type, model_type)
        if actual in known:
            row = row_of(actual)
            if model_type not in PARTS:
                row["reads"] = reads.of(actual)
            found[SOURCES / f"types/{model_type}.json"] = row
    return {path: json.dumps(content, indent=1) + "\n" for path, content in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    dropped = [path for path in (SOURCES / "types").glob("*.json") if path not in wanted]
    if arguments.check:
        if stale or dropped:
            sys.exit(f"stale: {', '.join(path.name for path in stale + dropped)}; run tools/defaults/generate.py")
        return
    for path in stale:
        path.write_text(wanted[path])
    for path in dropped:
        path.unlink()


if __name__ == "__main__":
    main()

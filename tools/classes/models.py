"""Draws tiny models with a head for classes, and what the reference makes of records of theirs.

A record is its input: `input_ids` for `*ForSequenceClassification` and `*ForTokenClassification`, two texts for folders of cross-encoders."""

import json
import random
import sys
from pathlib import Path

import torch
import transformers

sys.path.append(str(Path(__file__).resolve().parent.parent / "sentences"))
from folders import TEXTS, tokenizer

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 40, "vocab_size": 48}
NARROW = {"bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.RobertaConfig(**SIZES, type_vocab_size=1, **NARROW),
    "distilbert": lambda: transformers.DistilBertConfig(dim=8, hidden_dim=12, n_layers=1, n_heads=2, max_position_embeddings=40, vocab_size=48),
    "gpt2": lambda: transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=40, n_inner=12, vocab_size=48, **NARROW),
    "opt": lambda: transformers.OPTConfig(**{k: v for k, v in SIZES.items() if k != "intermediate_size"}, ffn_dim=12, word_embed_proj_dim=4, **NARROW),
    "llama": lambda: transformers.LlamaConfig(**SIZES, num_key_value_heads=1, **NARROW),
    "mistral": lambda: transformers.MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=4, **NARROW),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=4, **NARROW),
    "eurobert": lambda: transformers.EuroBertConfig(**SIZES, num_key_value_heads=1, pad_token_id=0, **NARROW),
    "ultrabert": lambda: transformers.UltrabertConfig(**SIZES, num_key_value_heads=1, prediction_head_size=12, sliding_window=4, pad_token_id=0, **NARROW),
    "nomic_bert": lambda: transformers.NomicBertConfig(**SIZES, pad_token_id=0),
    "esmc": lambda: transformers.EsmcConfig(**SIZES, pad_token_id=0),
    "roformer": lambda: transformers.RoFormerConfig(**SIZES, embedding_size=8, pad_token_id=0),
    "modernbert-decoder": lambda: transformers.ModernBertDecoderConfig(**SIZES, local_attention=6, pad_token_id=5, cls_token_id=1, sep_token_id=2, **NARROW),
    "xlm": lambda: transformers.XLMConfig(emb_dim=8, n_layers=1, n_heads=2, max_position_embeddings=40, vocab_size=48, n_langs=1),
    "xlnet": lambda: transformers.XLNetConfig(d_model=8, n_layer=1, n_head=2, d_inner=12, vocab_size=48),
    "t5gemma": lambda: transformers.T5GemmaConfig(**{part: transformers.models.t5gemma.configuration_t5gemma.T5GemmaModuleConfig(**SIZES, num_key_value_heads=1, head_dim=4, query_pre_attn_scalar=4, sliding_window=4, pad_token_id=0, **NARROW) for part in ("encoder", "decoder")}),
    "longformer": lambda: transformers.LongformerConfig(**{**SIZES, "num_hidden_layers": 2}, attention_window=4, pad_token_id=1),
    "gemma": lambda: transformers.GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=4),
}
SEQUENCE, TOKEN = transformers.AutoModelForSequenceClassification, transformers.AutoModelForTokenClassification


def shake(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4 + ("norm" in name.lower() and name.endswith("weight")))


def save(folder, kind, auto, labels, seed, more=(), vocabulary=None):
    """A model of a type with so many classes."""
    config = CONFIGS[kind]()
    config.vocab_size = vocabulary or config.vocab_size
    config.id2label = {number: f"class {number}" for number in range(labels)}
    for key, value in dict(more).items(): setattr(config, key, value)
    model = auto.from_config(config).float()
    shake(model, seed)
    model.save_pretrained(folder)


def records(seed, pad):
    """Token ids of some records; ids of padding stand at ends and within."""
    draw = random.Random(seed)
    lengths = [1, 2, 7, 20, 33]
    found = [[draw.randrange(3, 48) for _ in range(length)] for length in lengths]
    return [*found, found[3] + [pad, pad], found[2] + [pad] + found[1], [pad, pad]]


def logits(folder, auto, records):
    model = auto.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(torch.tensor([record])).logits[0].tolist() for record in records]


def cross_encoder(folder, seed):
    """A folder of a cross-encoder; its pairs of texts are returned."""
    draw = random.Random(seed)
    kind = draw.choice(["bert", "bert", "roberta", "distilbert"])
    vocabulary = tokenizer(draw, kind, folder)
    labels = draw.choice([1, 1, 1, 3])
    said = {}
    if draw.random() < 0.6:
        name = draw.choice(["activation.Sigmoid", "linear.Identity"])
        said = draw.choice([{"sentence_transformers": {"activation_fn": f"torch.nn.modules.{name}", "version": "4.0.1"}}, {"sbert_ce_default_activation_function": f"torch.nn.modules.{name}"}])
    save(folder, kind, SEQUENCE, labels, seed, {**said, "pad_token_id": 0}, vocabulary)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 38
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    texts = [text for text in TEXTS if text.strip()]
    return [[draw.choice(texts), draw.choice(texts)] for _ in range(8)]

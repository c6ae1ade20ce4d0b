"""Writes crates/sli/tests/classes: tiny models with a head for classes, and what the reference makes of records of theirs.

    python tools/classes/goldens.py

Needs the packages of tools/goldens/requirements.txt and sentence-transformers 6.2."""

import json
import logging
import shutil
import warnings
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder

from models import SEQUENCE, TOKEN, cross_encoder, logits, records, save

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

TARGET = Path(__file__).resolve().parent.parent.parent / "crates/sli/tests/classes"
# Name, type, class, classes, padding, further keys.
MODELS = [
    ("bert-records", "bert", SEQUENCE, 3, 0, {}),
    ("roberta-records", "roberta", SEQUENCE, 1, 1, {}),
    ("distilbert-records", "distilbert", SEQUENCE, 2, 0, {"problem_type": "multi_label_classification"}),
    ("gpt2-records", "gpt2", SEQUENCE, 2, 5, {"pad_token_id": 5}),
    ("opt-records", "opt", SEQUENCE, 2, 1, {}),
    ("llama-records", "llama", SEQUENCE, 1, 5, {"problem_type": "regression"}),
    ("qwen3-records", "qwen3", SEQUENCE, 70, 5, {"pad_token_id": 5}),
    ("gemma-records", "gemma", SEQUENCE, 2, 0, {}),
    ("bert-tokens", "bert", TOKEN, 5, 0, {}),
    ("gpt2-tokens", "gpt2", TOKEN, 2, 5, {}),
    ("mistral-tokens", "mistral", TOKEN, 3, 5, {}),
    ("eurobert-late", "eurobert", SEQUENCE, 3, 5, {}),
    ("eurobert-mean", "eurobert", SEQUENCE, 1, 5, {"classifier_pooling": "mean"}),
    ("ultrabert-mean", "ultrabert", SEQUENCE, 2, 5, {"classifier_pooling": "mean"}),
    ("nomic-records", "nomic_bert", SEQUENCE, 2, 5, {}),
    ("esmc-records", "esmc", SEQUENCE, 2, 5, {}),
    ("roformer-records", "roformer", SEQUENCE, 2, 5, {}),
    ("modernbert-decoder-records", "modernbert-decoder", SEQUENCE, 3, 5, {"classifier_bias": True}),
    ("xlm-tanh", "xlm", SEQUENCE, 3, 5, {"summary_type": "mean", "summary_activation": "tanh"}),
    ("xlnet-records", "xlnet", SEQUENCE, 2, 7, {}),
    ("t5gemma-records", "t5gemma", SEQUENCE, 3, 7, {}),
    ("t5gemma-encoder", "t5gemma", SEQUENCE, 3, 7, {"is_encoder_decoder": False}),
    ("t5gemma-tokens", "t5gemma", TOKEN, 3, 7, {}),
    ("longformer-records", "longformer", SEQUENCE, 3, 1, {}),
]
CROSS_ENCODERS = range(4)


def written(values):
    return [written(value) if isinstance(value, list) else round(value, 6) for value in values]


def put(name, expected):
    folder = TARGET / name
    for path in folder.glob("*.json"): path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False) + "\n")
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False) + "\n")


def main():
    shutil.rmtree(TARGET, ignore_errors=True)
    for seed, (name, kind, auto, labels, pad, more) in enumerate(MODELS):
        folder = TARGET / name
        save(folder, kind, auto, labels, seed, more)
        inputs = records(seed, pad)
        put(name, {"records": [{"input_ids": ids} for ids in inputs], "logits": written(logits(folder, auto, inputs))})
    for seed in CROSS_ENCODERS:
        folder = TARGET / f"cross-encoder-{seed}"
        pairs = cross_encoder(folder, seed)
        model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
        scores = [model.predict([pair])[0].tolist() for pair in pairs]
        scores = [score if isinstance(score, list) else [score] for score in scores]
        put(folder.name, {"records": [{"text": a, "text_pair": b} for a, b in pairs], "scores": written(scores)})
    saved_again()


def saved_again():
    """One that says Sigmoid as version 6.2 writes it, with another activation, which is beside its configuration then."""
    folder = TARGET / "cross-encoder-saved"
    pairs = cross_encoder(folder, 2)
    CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=torch.nn.Identity()).save_pretrained(str(folder), create_model_card=False)
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    scores = [[model.predict([pair])[0].tolist()] for pair in pairs]
    put(folder.name, {"records": [{"text": a, "text_pair": b} for a, b in pairs], "scores": written(scores)})


if __name__ == "__main__": main()

#!/usr/bin/env python3
"""Writes crates/sli/tests/tokenizers/pairs.json: pairs of texts as AutoTokenizer of transformers 5.23 encodes them.

Each tokenizer of the folder, without a limit and cut to a few tokens (`truncation=True`), and one whose
configuration says which inputs its model takes."""
import json
import shutil
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

FOLDER = Path(__file__).parents[2] / "crates/sli/tests/tokenizers"
PAIRS = [
    ("the quick dog", "a fox"),
    ("", "the dog"),
    ("the dog", ""),
    ("", ""),
    ("the the the the the the the the", "dog dog dog dog dog dog dog dog dog"),
    ("dog dog dog dog dog dog dog dog dog dog dog", "the the"),
    ("Ünïcode, 日本 [SEP] </s>", " <s> 😀 x"),
]
LIMITS = [None, 4, 5, 6, 7, 9, 12]
# Keys over those of the configuration.
VARIANTS = {
    "added": [{}, {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}],
    "roberta": [{}, {"model_input_names": ["input_ids", "token_type_ids"]}],
    "wordpiece": [{}, {"model_input_names": ["input_ids"]}, {"truncation_side": "left"}],
}


def main():
    cases = []
    for folder in sorted(FOLDER.iterdir()):
        if not (folder / "tokenizer.json").exists():
            continue
        for changes in VARIANTS.get(folder.name, [{}]):
            with tempfile.TemporaryDirectory() as copy:
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                path = Path(copy) / "tokenizer_config.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
                tokenizer = AutoTokenizer.from_pretrained(copy)
            for limit in LIMITS:
                if limit is not None and limit < tokenizer.num_special_tokens_to_add(True):
                    continue
                cut = {} if limit is None else {"truncation": True, "max_length": limit}
                encoded = [tokenizer(text, pair, **cut) for text, pair in PAIRS]
                ids = [one["input_ids"] for one in encoded]
                types = [one.get("token_type_ids") for one in encoded]
                cases.append({"tokenizer": folder.name, "config": changes, "limit": limit, "ids": ids, "types": types})
    lines = ",\n".join(json.dumps(case) for case in cases)
    pairs = json.dumps(PAIRS, ensure_ascii=False)
    (FOLDER / "pairs.json").write_text(f'{{"pairs": {pairs},\n"cases": [\n{lines}\n]}}\n')


main()

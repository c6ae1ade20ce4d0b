"""Writes crates/sli/tests/tokenizers/labels.json: what AutoTokenizer makes of texts that are read, and of texts that are to be said.

Run with transformers 5.23.0: python tools/tokenizers/labels.py

The vocabularies are those of goldens.py; a case is a class, a vocabulary, its settings, and the ids of each text as
`tokenizer(text)` and as `tokenizer(text_target=text)` have them.
"""

import json
import shutil
import tempfile
from pathlib import Path

import compare

CLASSES = compare.ROOT / "crates/sli/tests/tokenizers/classes"
TARGET = compare.ROOT / "crates/sli/tests/tokenizers/labels.json"
TEXTS = ["hello world", "", "It's 12,345.678 </s> the dog", "the quick brown fox " * 9]
CASES = [
    *(("MBartTokenizer", "unigram", settings) for settings in ({}, {"tgt_lang": "ro_RO"}, {"src_lang": "de_DE", "tgt_lang": "ja_XX"})),
    *(("MBart50Tokenizer", "unigram", settings) for settings in ({}, {"tgt_lang": "ro_RO"}, {"src_lang": "de_DE"})),
    *(("NllbTokenizer", "pieces", settings) for settings in (
        {}, {"tgt_lang": "deu_Latn"}, {"src_lang": "fra_Latn", "tgt_lang": "deu_Latn"}, {"tgt_lang": "deu_Latn", "legacy_behaviour": True})),
    *(("SeamlessM4TTokenizer", "pieces", settings) for settings in ({}, {"src_lang": "the", "tgt_lang": "deu"})),
]


def main():
    from transformers import AutoTokenizer

    cases = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, vocabulary, settings in CASES:
            shutil.copy(CLASSES / f"{vocabulary}.json", Path(temporary) / "tokenizer.json")
            config = {"tokenizer_class": name, **settings}
            (Path(temporary) / "tokenizer_config.json").write_text(json.dumps(config))
            tokenizer = AutoTokenizer.from_pretrained(temporary)
            assert type(tokenizer).__name__ == name
            read = [tokenizer(text).input_ids for text in TEXTS]
            said = [tokenizer(text_target=text).input_ids for text in TEXTS]
            cases.append({"class": name, "vocabulary": vocabulary, "settings": settings, "read": read, "said": said})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    TARGET.write_text(f'{{"texts": {json.dumps(TEXTS)}, "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases")


main()

"""Writes crates/sli/tests/tokenizers/bytes.json: what the reference's tokenizers without a vocabulary, CANINE's of characters, and ESM's with its list, make of texts and
of pairs.

Run with transformers 5.23.0: python tools/tokenizers/bytes.py
"""

import json
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "crates/sli/tests/tokenizers/bytes.json"
TEXTS = [
    "hello", "", "a</s> b  <extra_id_0> c<pad>é😀", "ends</s>", "ends </s></s>", "<unk> </s> x", " [MASK] x[SEP]", "[CLS]", "<x> y<end>",
    "tab\tand\nline\u0000 <0x41>", "<extra_id_124><extra_id_2>",
    " \ue003 x\ue001\r\n\r y\ue004", "e\u0301日本 \U0001f468\u200d\U0001f469",
    "MKTAYIAKQR QISFVKSHFS<mask>RQ", "mk L  V\u001cA\u2028 G<null_1>. -",
]
PAIRS = [("ab", "c"), ("", "x y")]


def token(content, lstrip=False, rstrip=False, special=True):
    return {"content": content, "lstrip": lstrip, "rstrip": rstrip, "single_word": False, "normalized": False, "special": special}


MARKED = {"__type": "AddedToken", "content": "<end>", "lstrip": False, "rstrip": True, "single_word": False, "normalized": False, "special": True}
CASES = [
    *(("ByT5Tokenizer", settings) for settings in (
        {}, {"add_eos_token": False, "add_bos_token": True}, {"extra_ids": 3}, {"eos_token": "<end>"}, {"extra_ids": 0, "additional_special_tokens": ["<x>"]}, {"eos_token": MARKED},
        {"extra_ids": 2, "additional_special_tokens": ["<x>", "<extra_id_1>", "<extra_id_0>"]}, {"extra_ids": 0},
        {"added_tokens_decoder": {"0": token("<pad>"), "259": token("<x>", lstrip=True, special=False)}, "extra_ids": 0},
        {"added_tokens_decoder": {"1": token("</s>"), "259": token("<x>", rstrip=True)}, "additional_special_tokens": ["<x>"], "extra_ids": 0},
    )),
    *(("EsmTokenizer", settings) for settings in ({}, {"add_eos_token": False}, {"mask_token": "X"}, {"additional_special_tokens": ["<x>"]}, {"added_tokens_decoder": {"32": token("<mask>", True)}})),
    *(("CanineTokenizer", settings) for settings in (
        {}, {"sep_token": "b"}, {"additional_special_tokens": ["\ue004"]}, {"mask_token": {**MARKED, "content": "\ue003", "lstrip": True}}, {"split_special_tokens": True},
        {"added_tokens_decoder": {"0": token("\0"), "57344": token("\ue000"), "57345": token("\ue001"), "57347": token("\ue003", True, True)}},
        {"added_tokens_decoder": {"57347": token("\ue003", True)}, "split_special_tokens": True})),
    *(("PerceiverTokenizer", settings) for settings in (
        {}, {"cls_token": "<x>"}, {"additional_special_tokens": ["<x>"]}, {"sep_token": MARKED}, {"added_tokens_decoder": {"5": token("[SEP]", True, True), "262": token("<x>")}})),
]


# The list of the published models.
RESIDUES = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>".split()


def main():
    from transformers import AutoTokenizer

    cases = []
    for name, settings in CASES:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "vocab.txt").write_text("\n".join(RESIDUES))
            (Path(folder) / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name, **settings}))
            try:
                tokenizer = AutoTokenizer.from_pretrained(folder)
                read = [tokenizer(text).input_ids for text in TEXTS]
                said = [tokenizer(*pair).input_ids for pair in PAIRS]
            except Exception as error:
                print(f"the reference refuses {name} {settings}: {error}")
                continue
        cases.append({"class": name, "vocabulary": "", "settings": settings, "read": read, "said": said})
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    TARGET.write_text(f'{{"texts": {json.dumps(TEXTS)}, "list": {json.dumps(RESIDUES)}, "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases")


main()

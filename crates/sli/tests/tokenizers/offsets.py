"""Writes offsets.json: where transformers puts the tokens of hard texts, in bytes.

    python crates/sli/tests/tokenizers/offsets.py

`tokenizer(text, return_offsets_mapping=True)` counts characters; here they are counted in UTF-8.
"""

import json
import random
from pathlib import Path

from transformers import AutoTokenizer

HERE = Path(__file__).parent
NAMES = ["added", "gpt2", "legacy", "mpnet", "prefixed", "roberta", "sentencepiece", "unigram", "wordpiece"]

WRITTEN = [
    "",
    " ",
    "a",
    " a",
    "a ",
    "  a  b  ",
    "the cat sat on the mat",
    "The CAT, sat; on... the mat!",
    "don't you'll they've",
    "caf\u00e9 cafe\u0301",
    "na\u00efve \u00c5ngstr\u00f6m \ufb01ne \u00bd \u2460",
    "\u0130stanbul \u1e9e \u01c5",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 a\U0001f600b",
    "\u4f60\u597d\u4e16\u754c the cat",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\u0645\u0631\u062d\u0628\u0627",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "tab\there\nand\r\nthere\rend",
    "a\u00a0b\u2003c\u3000d",
    "zero\u200bwidth\u200djoin\ufeff",
    "\u2581a \u2581\u2581b",
    "1234567 3.14 1e-5",
    "<s> the </s> <unk> [CLS] [SEP] [MASK] <mask> <pad>",
    "x<mask> y  <mask>  z",
    "\n\u00a0<mask>\ufb03 \u3000\u00a0<mask>",
    "the\u0000cat\u0007",
    "\u00ad soft\u00adhyphen",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u0344\u0958 \u1f71 \uf900",
    "ca\u0327\u0301t \u0301\u0301",
]
# Spaces in front that are none of the text's, and what is taken for one and has two bytes.
TRIMMED = [
    "\u65e5\u672c \u00e9",
    "\u65e5\u672c \u00e9 \U0001f600",
    " \u65e5\u672c",
    "\u00dcn\u00efc\u00f6d\u00e9",
    "\u0120byte x",
    "x \u0120byte \u0120 \u0120\u0120y",
    "\u00e9",
]
PARTS = "the|cat|sat| |  |\n|\t|\u00e9|e\u0301|\u00df|\u0130|\ufb03|\u2581|\U0001f600|\U0001f1e9\U0001f1ea|\u4f60|\u597d|\uac01|\u1100\u1161|\u0e33|\u00a0|\u200d|\ufe0f|1|23|.|'|'s|!|<s>|</s>|[MASK]|<mask>|A|Z|\u01c4|\u00bc|\u3300|\u212b|\ufffd|\u0300|-"


def texts():
    state = random.Random(19)
    parts = PARTS.split("|")
    made = ["".join(state.choices(parts, k=state.randint(1, 12))) for _ in range(40)]
    return WRITTEN + made


def in_bytes(text, spans):
    starts = [0]
    for character in text:
        starts.append(starts[-1] + len(character.encode()))
    return [[starts[start], starts[end]] for start, end in spans]


def derive():
    """Tokenizers that take spaces off the places of tokens, without a token that takes the spaces beside it."""
    prefixed = json.loads((HERE / "roberta/tokenizer.json").read_text())
    for token in prefixed["added_tokens"]:
        token["lstrip"] = False
    mpnet = json.loads((HERE / "classes/wordpiece-mpnet.json").read_text())
    vocabulary = mpnet["model"]["vocab"]
    for entry in ("\u0120", "##\u0120", "\u0120b", "\u0120y", "\u0120\u0120y"):
        vocabulary.setdefault(entry, len(vocabulary))
    special = {"bos_token": "[CLS]", "cls_token": "[CLS]", "eos_token": "[SEP]", "sep_token": "[SEP]"}
    special |= {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    made = {
        "prefixed": (prefixed, {"tokenizer_class": "BartTokenizerFast", "add_prefix_space": True}),
        "mpnet": (mpnet, {"tokenizer_class": "MPNetTokenizer", "do_lower_case": False, **special}),
    }
    for name, (tokenizer, config) in made.items():
        (HERE / name).mkdir(exist_ok=True)
        compact = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
        (HERE / name / "tokenizer.json").write_text(compact)
        (HERE / name / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    derive()
    cases = {}
    for name in NAMES:
        tokenizer = AutoTokenizer.from_pretrained(HERE / name)
        cases[name] = []
        for text in texts() + TRIMMED:
            encoded = tokenizer(text, return_offsets_mapping=True)
            offsets = in_bytes(text, encoded["offset_mapping"])
            cases[name].append([text, encoded["input_ids"], [at for pair in offsets for at in pair]])
    lines = [
        json.dumps(name) + ": [\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in of) + "\n]"
        for name, of in cases.items()
    ]
    (HERE / "offsets.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

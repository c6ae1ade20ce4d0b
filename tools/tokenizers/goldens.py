"""Writes the golden tokens of every tokenizer class: crates/sli/tests/tokenizers/classes/.

Run with transformers 5.23.0, sentencepiece and tiktoken: python tools/tokenizers/goldens.py

The vocabularies are those of compare.py, stored once; a case is a class, a vocabulary in one of its layouts,
settings that contradict it, and what AutoTokenizer makes of texts and of pairs of texts. Cases that the reference
refuses are kept too: they must be refused.
"""

import json
import random
import shutil
import tempfile
from pathlib import Path

import compare

TARGET = compare.ROOT / "crates/sli/tests/tokenizers/classes"
TEXTS = [
    "",
    "The  QUICK   brown\tfox\n\njumps. ",
    "  naïve CAFÉ 日本語 😀 e\u0301 \ufb01",
    "It's 12,345.678 ``isn't'' it\u0000",
    "hello</s>world <s> the [SEP]<|im_end|> <extra> <tool> <mask> x",
    " hello world",
    "👩\u200d👩\u200d👧 ▁the line\r\n  three<|endoftext|>the<pad> <unk>",
]
PAIRS = [("the dog", "hello world"), ("CAFÉ", "")]
DRAWS = 5


def expected(folder):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = [tokenizer(text)["input_ids"] for text in TEXTS]
        pairs = [tokenizer(*pair) for pair in PAIRS]
    except BaseException:
        return {"refused": True}
    result = {"is": type(tokenizer).__name__, "ids": ids, "pairs": [pair["input_ids"] for pair in pairs]}
    if any(pair.get("token_type_ids") for pair in pairs):
        result["types"] = [pair["token_type_ids"] for pair in pairs]
    return result


def main():
    from transformers.convert_slow_tokenizer import SLOW_TO_FAST_CONVERTERS
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
    from transformers.utils import logging

    logging.set_verbosity_error()
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    cases = []
    with tempfile.TemporaryDirectory() as temporary:
        temporary = Path(temporary)
        toys = compare.Toys(temporary)
        for name, tokenizer in toys.tokenizers.items():
            tokenizer.save(str(TARGET / f"{name}.json"), pretty=False)
        for name, content in toys.files.items():
            (TARGET / f"{name}.bin").write_bytes(content)
        kinds = compare.CLASSES["kinds"].items()
        names = [name for name, kind in kinds if kind != "python" and not name.endswith("Fast")]
        # Names that stand for another class.
        names += [name for name in SLOW_TO_FAST_CONVERTERS if name not in compare.CLASSES["kinds"]]
        for name in names:
            found = tokenizer_class_from_name(name)
            kept = refused = 0
            for draw in range(60):
                rng = random.Random(f"golden {name} {draw}")
                random.seed(draw)
                options = compare.layouts(name, found)
                layout, toy = rng.choice(options)
                config, beside = compare.draw(rng, found, plain=draw % 2 == 0)
                config = {key: value for key, value in config.items() if key != "model_max_length"}
                config["tokenizer_class"] = name
                folder = temporary / "case"
                compare.write(folder, toys, layout, toy, name, config, beside, None)
                case = expected(folder)
                shutil.rmtree(folder)
                if case.get("refused"):
                    refused += 1
                    if refused > 1:
                        continue
                elif kept == DRAWS:
                    break
                else:
                    kept += 1
                case = {"class": name, "layout": layout, "vocabulary": toy, "config": config, "beside": beside} | case
                cases.append({key: value for key, value in case.items() if value != {}})
    table = {"texts": TEXTS, "pairs": PAIRS}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    head = json.dumps(table, ensure_ascii=False)[:-1]
    (TARGET / "cases.json").write_text(f'{head}, "cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases")


main()

"""Writes crates/sli/tests/seeing: records with pictures and texts, and what transformers' processors and models make of them.

    python tools/pictures/records.py [NAME...]

The models are goldens (`goldens/NAME`); here are the files of their tokenizers and processors (`cases.py`), records, pictures, and the
logarithm of the probability of every token but the first.
"""

import inspect
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cases import CASES
from goldens import drawn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools/goldens"))

import save_checkpoint

OUT = ROOT / "crates/sli/tests/seeing"
# Height and width.
SIZES = [(24, 40), (40, 20), (33, 33), (90, 14), (13, 100), (70, 61)]
WORDS = "what is this ? a cat and the other one user assistant : look at these".split()
TEMPLATE = "{% for m in messages %}{{ m.role }} : {% for part in m.content %}{% if part.type == 'image' %}@ {% else %}{{ part.text }} {% endif %}{% endfor %}{% endfor %}"


class Absent:
    """Stands for a processor of videos or sounds that is not used."""


def tokenizer(token, placeholder, further, named, front):
    usual = ["<unk>", "<s>", "</s>"]
    words = [*front, token, *usual, *further, *WORDS] if front else [*usual, token, *further, *WORDS]
    backend = Tokenizer(models.WordLevel(vocab={word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words.index("<s>"))])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>", extra_special_tokens=named)
    made.add_tokens([token, *further], special_tokens=True)
    made.chat_template = TEMPLATE.replace("@", placeholder)
    return made


def records(placeholder):
    picture = [f"../pictures/{at}.{'jpg' if at == 2 else 'png'}" for at in range(len(SIZES))]
    part = {"type": "image"}
    text = lambda text: {"type": "text", "text": text}
    return [
        {"id": "one", "text": f"what is {placeholder} this ?", "images": [picture[0]]},
        {"id": "two", "text": f"{placeholder} look at {placeholder} the other one", "images": [picture[2], picture[1]]},
        {"id": "none", "text": "what is this ?"},
        {"id": "chat", "messages": [{"role": "user", "content": [part | {"path": picture[1]}, text("what is this ?")]}, {"role": "assistant", "content": [text("a cat")]}]},
        {"id": "beside", "messages": [{"role": "user", "content": [part, text("and"), part, text("?")]}], "images": [picture[0], picture[2]]},
        {"id": "tall", "text": f"{placeholder} what is this ?", "images": [picture[3]]},
        {"id": "wide", "text": f"look at {placeholder}", "images": [picture[4]]},
        {"id": "large", "text": f"a cat {placeholder} and", "images": [picture[5]]},
    ]


def asking(folder):
    """A tokenizer of its own for what is asked of pictures, in a folder."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *reversed(WORDS)]
    backend = Tokenizer(models.WordLevel(vocab={word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    made.save_pretrained(folder)
    return made


def processor(case, words, folder):
    """The processor of a case, and that of its pictures."""
    prepare = getattr(transformers, case["images"])(**case["settings"])
    cls = getattr(transformers, case["processor"])
    # Only what is of pictures and texts is looked at.
    cls.check_argument_for_proper_class = lambda self, *args: None
    module = sys.modules[cls.__module__]
    if getattr(module, "num2words", str) is None:
        # Numbers of frames as words.
        module.num2words = str
    absent = {key: Absent() for key in ("video_processor", "feature_extractor") if key in inspect.signature(cls.__init__).parameters}
    if "qformer_tokenizer" in inspect.signature(cls.__init__).parameters:
        absent["qformer_tokenizer"] = asking(folder / "qformer_tokenizer")
    return cls(image_processor=prepare, tokenizer=words, **case.get("keys", {}), **absent), prepare


def write(name, case):
    folder = OUT / name
    folder.mkdir(exist_ok=True)
    placeholder = case.get("placeholder", case["token"])
    words = tokenizer(case["token"], placeholder, case.get("further", []), case.get("named", {}), case.get("front", []))
    words.save_pretrained(folder)
    golden = ROOT / "goldens" / name
    with tempfile.TemporaryDirectory() as saved:
        # The tokenizer that the model's type has with these files.
        shutil.copytree(folder, saved, dirs_exist_ok=True)
        shutil.copy(golden / "config.json", saved)
        words = AutoTokenizer.from_pretrained(saved)
    made, prepare = processor(case, words, folder)
    prepare.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": case["processor"], **case.get("keys", {})}))
    with tempfile.TemporaryDirectory() as saved:
        save_checkpoint.save_checkpoint(golden, Path(saved), "f32", "5GB")
        facts = json.loads((golden / "golden.json").read_text())
        model = getattr(transformers, facts["class"]).from_pretrained(saved, attn_implementation="eager").eval()
    taken = inspect.signature(model.forward).parameters
    lines, expected = [], {}
    for record in records(placeholder):
        if record["id"] in case.get("without", []):
            continue
        paths = list(record.get("images", []))
        text = record.get("text")
        if text is None:
            text = words.apply_chat_template(record["messages"], tokenize=False)
            paths += [part["path"] for message in record["messages"] for part in message["content"] if "path" in part]
        pictures = [Image.open(folder / path) for path in paths]
        if case["processor"] == "IdeficsProcessor":
            # Its class takes texts and pictures in turn.
            parts = [[part] for part in text.split(placeholder)]
            for part, picture in zip(parts[1:], pictures):
                part.insert(0, picture)
            inputs = made(text=[[part for both in parts for part in both if part != ""]], return_tensors="pt")
        else:
            inputs = made(text=[text], images=[pictures] if pictures else None, return_tensors="pt")
        inner = getattr(model, "model", None)
        if hasattr(inner, "rope_deltas"):
            inner.rope_deltas = None
        # Llama 4's pixels are of bfloat16.
        given = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items() if key in taken}
        with torch.no_grad():
            logits = model(**given, use_cache=False).logits[0]
        ids = inputs["input_ids"][0]
        found = logits[:-1].double().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        expected[record["id"]] = {"tokens": len(ids), "logprobs": [round(value, 6) for value in found.tolist()]}
        lines.append(record)
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(name, flush=True)


def main():
    (OUT / "pictures").mkdir(parents=True, exist_ok=True)
    for at, size in enumerate(SIZES):
        Image.fromarray(drawn(*size).astype("uint8")).save(OUT / f"pictures/{at}.{'jpg' if at == 2 else 'png'}")
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        write(name, CASES[name])


if __name__ == "__main__":
    main()

"""Writes crates/sli/tests/seeing: records with pictures and texts, and what transformers' processors and models make of them.

    python tools/pictures/records.py [NAME...]

The models are goldens (`goldens/NAME`); here are the files of their tokenizers and processors, records, pictures, and the logarithm
of the probability of every token but the first.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from goldens import drawn

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools/goldens"))

import save_checkpoint

OUT = ROOT / "crates/sli/tests/seeing"
SIZES = [(24, 40), (40, 20), (33, 33)]
WORDS = "what is this ? a cat and the other one user assistant : look at these".split()
# Its golden, its classes and their keys, its placeholder, further tokens of its texts, names of tokens.
CASES = {
    "llava": ("LlavaProcessor", {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}, "CLIPImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}, "<image>", [], {"image_token": "<image>"}),
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", {}, "Qwen2VLImageProcessor", {"patch_size": 4, "size": {"shortest_edge": 256, "longest_edge": 2048}}, "<|image_pad|>", ["<|video_pad|>"], {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}),
    "idefics2": ("Idefics2Processor", {"image_seq_len": 3}, "Idefics2ImageProcessor", {"size": {"longest_edge": 20, "shortest_edge": 8}, "do_image_splitting": False}, "<image>", ["<fake_token_around_image>", "<end_of_utterance>"], {}),
    "idefics3": ("Idefics3Processor", {"image_seq_len": 4}, "Idefics3ImageProcessor", {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}, "<image>", ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"] + [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)], {}),
}
TEMPLATE = "{% for m in messages %}{{ m.role }} : {% for part in m.content %}{% if part.type == 'image' %}@ {% else %}{{ part.text }} {% endif %}{% endfor %}{% endfor %}"


def tokenizer(placeholder, further, named):
    words = ["<unk>", "<s>", "</s>", placeholder, *further, *WORDS]
    backend = Tokenizer(models.WordLevel(vocab={word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>", extra_special_tokens=named)
    made.add_tokens([placeholder, *further], special_tokens=True)
    made.chat_template = TEMPLATE.replace("@", placeholder)
    return made


def records(placeholder):
    picture = [f"../pictures/{at}.png" for at in range(len(SIZES) - 1)] + ["../pictures/2.jpg"]
    part = {"type": "image"}
    text = lambda text: {"type": "text", "text": text}
    return [
        {"id": "one", "text": f"what is {placeholder} this ?", "images": [picture[0]]},
        {"id": "two", "text": f"{placeholder} look at {placeholder} the other one", "images": [picture[2], picture[1]]},
        {"id": "none", "text": "what is this ?"},
        {"id": "chat", "messages": [{"role": "user", "content": [part | {"path": picture[1]}, text("what is this ?")]}, {"role": "assistant", "content": [text("a cat")]}]},
        {"id": "beside", "messages": [{"role": "user", "content": [part, text("and"), part, text("?")]}], "images": [picture[0], picture[2]]},
    ]


def main():
    (OUT / "pictures").mkdir(parents=True, exist_ok=True)
    for at, size in enumerate(SIZES):
        Image.fromarray(drawn(*size).astype("uint8")).save(OUT / f"pictures/{at}.{'jpg' if at == 2 else 'png'}")
    for name in sys.argv[1:] or CASES:
        cls, keys, images, settings, placeholder, further, named = CASES[name]
        folder = OUT / name
        folder.mkdir(exist_ok=True)
        words = tokenizer(placeholder, further, named)
        prepare = getattr(transformers, images)(**settings)
        words.save_pretrained(folder)
        prepare.save_pretrained(folder)
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": cls, **keys}))
        cls = getattr(transformers, cls)
        # Only what is of pictures and texts is looked at.
        cls.check_argument_for_proper_class = lambda self, *args: None
        video = {"video_processor": None} if "video_processor" in cls.__init__.__code__.co_varnames else {}
        made = cls(image_processor=prepare, tokenizer=words, **keys, **video)
        with tempfile.TemporaryDirectory() as saved:
            save_checkpoint.save_checkpoint(ROOT / "goldens" / name, Path(saved), "f32", "5GB")
            facts = json.loads((ROOT / "goldens" / name / "golden.json").read_text())
            model = getattr(transformers, facts["class"]).from_pretrained(saved, attn_implementation="eager").eval()
        lines, expected = records(placeholder), {}
        for record in lines:
            paths = list(record.get("images", []))
            text = record.get("text")
            if text is None:
                text = words.apply_chat_template(record["messages"], tokenize=False)
                paths += [part["path"] for message in record["messages"] for part in message["content"] if "path" in part]
            pictures = [Image.open(folder / path) for path in paths]
            inputs = made(text=[text], images=[pictures] if pictures else None, return_tensors="pt")
            if hasattr(model.model, "rope_deltas"):
                model.model.rope_deltas = None
            with torch.no_grad():
                logits = model(**inputs, use_cache=False).logits[0]
            ids = inputs["input_ids"][0]
            found = logits[:-1].double().log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            expected[record["id"]] = {"tokens": len(ids), "logprobs": [round(value, 6) for value in found.tolist()]}
        (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        print(name)


if __name__ == "__main__":
    main()

"""Makes the tiny models of this folder, and the answers of the harness's own backend ``hf`` about them.

Needs lm_eval, torch and transformers: ``python crates/sli-python/tests/lm_eval/make.py``. The tests compare with what it wrote.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import torch
import transformers
from choices import WORDS, evaluate, text
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
#: What ``hf`` is asked with, by the name of its answers. A table of 48 positions has no row for the token behind the last one.
SETTINGS = {
    "llama": {"": {}, "no_bos": {"add_bos_token": False}, "bos": {"add_bos_token": True}, "prefix": {"prefix_token_id": 5}},
    "gpt2": {"": {"max_length": 47}},
    "t5": {"": {}},
}


def tokenizer(folder: Path, bos: bool) -> None:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([" ".join(random.Random(0).choices(WORDS, k=500))], trainer)
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=48
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def model(kind: str, folder: Path) -> None:
    torch.manual_seed(1)
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=48, max_position_embeddings=48, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip
        made = transformers.LlamaForCausalLM(config)
    elif kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=48, bos_token_id=1, eos_token_id=1)
        made = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=2)
        made = transformers.T5ForConditionalGeneration(config)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.to(torch.bfloat16).eval().save_pretrained(folder)
    tokenizer(folder, bos=kind == "llama")


def said(hf: HFLM, context: str) -> str:
    """What the model says behind a context, so that some answers are greedy."""
    if hf.backend == "seq2seq":
        return " the"
    with torch.no_grad():
        return hf.tokenizer.decode([int(hf.model(torch.tensor([hf.tok_encode(context)])).logits[0, -1].argmax())])


def pairs(hf: HFLM) -> list[tuple[str, str]]:
    draw = random.Random(7)
    made = []
    for _ in range(24):
        context = text(draw, 1, 12)
        # Choices behind one context, of one token and of several; one said by the model itself.
        made += [(context, " " + text(draw, 1, 1)), (context, " " + text(draw, 2, 6)), (context, said(hf, context))]
    made += [("", text(draw, 2, 5)), ("", "<s>" + text(draw, 2, 5)), ("the cat  ", "sat"), ("<s>the cat", " sat")]
    if hf.backend == "causal":
        made += [(text(draw, 60, 90), " " + text(draw, 3, 8))]
    return made + made[:3]


def instances(kind: str, requests: list) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=tuple(one), idx=at) for at, one in enumerate(requests)]


def main() -> None:
    draw = random.Random(8)
    texts = [(text(draw, 1, 5),), (text(draw, 50, 90),), (text(draw, 100, 120),), ("",), ("<s>" + text(draw, 3, 9),)]
    history = [{"role": "user", "content": "a cat"}, {"role": "assistant", "content": "sat"}]
    for kind, all_settings in SETTINGS.items():
        folder = HERE / kind
        model(kind, folder)
        answers = {}
        for name, settings in all_settings.items():
            named = dict(settings)
            length = named.pop("max_length", None)
            hf = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4, **named)
            hf._max_length = length
            asked = pairs(hf) if not name else [("", " the cat"), ("the", " cat sat")]
            answers[name] = {
                "settings": settings,
                "max_length": hf.max_length,
                "prefix_token_id": hf.prefix_token_id,
                "pairs": asked,
                "loglikelihood": hf.loglikelihood(instances("loglikelihood", asked), disable_tqdm=True),
            }
            if hf.backend == "causal" and not name:
                answers[name]["texts"] = texts
                rolling = instances("loglikelihood_rolling", texts)
                answers[name]["loglikelihood_rolling"] = hf.loglikelihood_rolling(rolling, disable_tqdm=True)
        if kind == "llama":
            hf = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4)
            answers[""]["chats"] = [[history[:1], True, hf.apply_chat_template(history[:1], True)], [history, False, hf.apply_chat_template(history, False)]]
            with tempfile.TemporaryDirectory() as work:
                answers[""]["evaluated"] = evaluate("lm_eval", "hf", f"pretrained={folder},dtype=float32", Path(work))
        (folder / "answers.json").write_text(json.dumps(answers, indent=1) + "\n")
        for beside in ("generation_config.json", "README.md"):
            (folder / beside).unlink(missing_ok=True)


if __name__ == "__main__":
    main()

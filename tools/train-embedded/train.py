"""Trains the embedded model: a 2.7-million-parameter llama on the text that corpus.py wrote.

    python corpus.py --out WORK
    python train.py  --work WORK --out ../../models/embedded --minutes 30

Writes `tokenizer.json`, `tokenizer_config.json`, `config.json` and `model.safetensors` (bf16). The files in `--out` are
replaced at every checkpoint (`--checkpoint-minutes`): they are usable from the first one on.
"""

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

VOCABULARY = 4096
LENGTH = 384
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|user|>", "<|assistant|>"]
BOS, EOS, PAD = 0, 1, 2
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONFIG = {
    "vocab_size": VOCABULARY,
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "tie_word_embeddings": True,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
    "attention_bias": False,
    "mlp_bias": False,
    "hidden_act": "silu",
}


def read_pages(path):
    with open(path) as lines:
        return [json.loads(line)["paragraphs"] for line in lines]


def train_tokenizer(pages, out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(("\n\n".join(page) for page in pages), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A",
        pair=f"{SPECIAL[BOS]} $A {SPECIAL[BOS]}:1 $B:1",
        special_tokens=[(SPECIAL[BOS], BOS)],
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[PAD],
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


class Windows:
    """Training sequences: BOS, then LENGTH-1 tokens of the shuffled pages from the start of a paragraph on."""

    def __init__(self, tokenizer, pages, seed):
        self.random = random.Random(seed)
        separator = tokenizer.encode("\n\n", add_special_tokens=False).ids
        self.pages = []
        for page in pages:
            encoded = tokenizer.encode_batch(page, add_special_tokens=False)
            self.pages.append([entry.ids + separator for entry in encoded])
        self.tokens = sum(len(ids) for page in self.pages for ids in page)
        self.epochs = 0

    def epoch(self):
        self.epochs += 1
        order = list(range(len(self.pages)))
        self.random.shuffle(order)
        stream, starts = [], []
        for index in order:
            for ids in self.pages[index]:
                starts.append(len(stream))
                stream.extend(ids)
            stream.append(EOS)
        stream, starts = np.array(stream, dtype=np.int64), np.array(starts)
        windows, at = [], self.random.randrange(LENGTH)
        while at + LENGTH < len(stream):
            start = int(starts[max(0, np.searchsorted(starts, at, side="right") - 1)])
            start = start if at - start < LENGTH // 2 else at
            windows.append(start)
            at = start + LENGTH - 1
        self.random.shuffle(windows)
        for start in windows:
            yield np.concatenate(([BOS], stream[start : start + LENGTH - 1]))

    def forever(self):
        while True:
            yield from self.epoch()


def save(model, out, facts):
    """The checkpoint in bf16; tied, so `lm_head.weight` is not stored."""
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    tensors.pop("lm_head.weight", None)
    temporary = out / "model.tmp"
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.chmod(0o644)
    os.replace(temporary, out / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", **CONFIG}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(json.dumps(facts), flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=Path, required=True, help="the folder corpus.py wrote")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--minutes", type=float, default=30.0)
    arguments.add_argument("--checkpoint-minutes", type=float, default=5.0)
    arguments.add_argument("--batch", type=int, default=16, help="sequences a step")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=20)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    pages = read_pages(options.work / "train.jsonl")
    tokenizer = train_tokenizer(pages, options.out)
    windows = Windows(tokenizer, pages, options.seed)
    print(json.dumps({"pages": len(pages), "tokens": windows.tokens, "vocabulary": tokenizer.get_vocab_size()}), flush=True)

    model = LlamaForCausalLM(LlamaConfig(**CONFIG, use_cache=False, attn_implementation="sdpa"))
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01, adjust_lr_fn="original"),
        torch.optim.AdamW(rest, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [[group["lr"] for group in o.param_groups] for o in optimizers]

    model.train()
    began, last, step, seen, loss_mean = time.monotonic(), 0.0, 0, 0, None
    stream = windows.forever()
    while True:
        elapsed = (time.monotonic() - began) / 60
        progress = elapsed / options.minutes
        if progress >= 1:
            break
        # Linear warm-up over 1 % of the time, constant, linear to zero over the last half.
        factor = min(1.0, max(step, 1) / 30, max(0.02, (1 - progress) / 0.5))
        for optimizer, base in zip(optimizers, rates):
            for group, rate in zip(optimizer.param_groups, base):
                group["lr"] = rate * factor
        batch = torch.from_numpy(np.stack([next(stream) for _ in range(options.batch)]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=batch).last_hidden_state[:, :-1]
            logits = model.lm_head(hidden)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + batch.numel()
        loss_mean = loss.item() if loss_mean is None else 0.95 * loss_mean + 0.05 * loss.item()
        facts = {"step": step, "minutes": round(elapsed, 1), "tokens": seen, "epochs": windows.epochs, "loss": round(loss_mean, 3)}
        if step % 20 == 0:
            print(json.dumps(facts), flush=True)
        if elapsed - last > options.checkpoint_minutes:
            last = elapsed
            save(model, options.out, {"checkpoint": facts})
    facts = {"steps": step, "minutes": options.minutes, "tokens": seen, "epochs": round(seen / windows.tokens, 2),
             "batch": options.batch, "length": LENGTH, "final_training_loss": round(loss_mean, 3),
             "perplexity_training": round(math.exp(loss_mean), 2)}
    save(model, options.out, facts)


if __name__ == "__main__":
    main()

"""Writes small tokenizers of every kind, and cases.json: what transformers makes of some texts with them.

Run with transformers 5.23.0: python crates/sli/tests/tokenizers/generate.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

FOLDER = Path(__file__).parent
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and 12 other animals watch it happen.",
    "Sequential layer ingestion reads every weight once; the memory budget decides how fast it runs.",
    "naïve café größer straße 日本語 2024 100,000.5 it's they're I'll",
] * 8
TEXTS = [
    "",
    " ",
    "the dog",
    "  The   quick brown\tfox\n\njumps. ",
    "naïve CAFÉ größer 日本語 😀 \u200b",
    "It's 12,345.678 o'clock isn't it",
    "<s> the </s> [CLS] dog [SEP] <|im_start|>x<|im_end|> <extra> <tool> <mask>",
    "e\u0301 \ufb01 \u00bd a\u00a0b\u3000c",
    "supercalifragilisticexpialidocious " * 3,
]
CHAT = [{"role": "user", "content": "the dog"}, {"role": "assistant", "content": " jumps "}]
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}"


def template(single, *tokens):
    return processors.TemplateProcessing(single=single, special_tokens=list(tokens))


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = template("[CLS] $A [SEP]", ("[CLS]", 2), ("[SEP]", 3))
    tokenizer.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(max_length=6)
    return tokenizer, {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 128}


def byte_level(special, vocab=330):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def gpt2():
    tokenizer = byte_level(["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer, {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}


def roberta():
    special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True, special=True)]
    tokenizer = byte_level(special)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    return tokenizer, {"tokenizer_class": "RobertaTokenizer", "mask_token": {"__type": "AddedToken", **mask}}


def sentencepiece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    # Merges within words only, as sentencepiece trains.
    words = [word for line in CORPUS for word in line.split()]
    tokenizer.train_from_iterator(words, trainer)
    kept = json.loads(tokenizer.to_str())
    kept["added_tokens"] = kept["added_tokens"][:3]
    tokenizer = Tokenizer.from_str(json.dumps(kept))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = template("<s> $A", ("<s>", 1))
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": False, "add_eos_token": True}
    return tokenizer, config | {"chat_template": TEMPLATE}


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = template("$A </s>", ("</s>", 1))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"}
    return tokenizer, config | {"unk_token": "<unk>", "truncation_side": "left"}


def added():
    """Tokens that only tokenizer_config.json knows."""
    tokenizer = byte_level(["<s>", "</s>"])
    tokenizer.post_processor = template("<s> $A", ("<s>", 0))
    token = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    return tokenizer, {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "added_tokens_decoder": {
            "0": {"content": "<s>", "special": True, **token},
            "1": {"content": "</s>", "special": True, **token},
            "330": {"content": "<tool>", "special": False, **token, "normalized": True},
            "331": {"content": "<extra>", "special": True, **token, "rstrip": True},
        },
        "chat_template": [{"name": "default", "template": TEMPLATE}, {"name": "other", "template": "no"}],
    }


def legacy():
    """Tokens that only special_tokens_map.json knows; special tokens are split."""
    tokenizer = byte_level(["<s>", "</s>"])
    map_ = {"bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<tool>"]}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "split_special_tokens": True}
    return tokenizer, config | {"special_tokens_map.json": map_, "chat_template.jinja": TEMPLATE}


def main():
    cases = []
    for make in (wordpiece, gpt2, roberta, sentencepiece, unigram, added, legacy):
        tokenizer, config = make()
        folder = FOLDER / make.__name__
        folder.mkdir(exist_ok=True)
        if map_ := config.pop("special_tokens_map.json", None):
            (folder / "special_tokens_map.json").write_text(json.dumps(map_, indent=1) + "\n")
        if source := config.pop("chat_template.jinja", None):
            (folder / "chat_template.jinja").write_text(source)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
        reference = AutoTokenizer.from_pretrained(folder)
        texts = [{"text": text, "ids": reference(text)["input_ids"]} for text in TEXTS]
        cut = [reference(text, truncation=True, max_length=5)["input_ids"] for text in TEXTS]
        case = {"tokenizer": make.__name__, "texts": texts, "cut_to_5": cut}
        if reference.chat_template:
            case["chat"] = reference.apply_chat_template(CHAT, tokenize=True, return_dict=False)
        cases.append(case)
    (FOLDER / "cases.json").write_text(json.dumps({"chat": CHAT, "cases": cases}, ensure_ascii=False) + "\n")


main()

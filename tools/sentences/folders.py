"""Draws sentence-transformers folders: a tiny model, a stack of modules, and a layout of one of the versions 0 to 6.

Every folder is written file by file, so that layouts of versions other than the one installed can be had; some are saved again by the version
that is installed. What a folder means is what `SentenceTransformer(folder).encode()` makes of it."""

import json
import random
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = "the cat sat on a mat hello world query passage : über größe straße i ab c d e f g h x y z 1 2 3 . , !".split()
OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
}
SWITCHES = {
    "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens", "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens", "lasttoken": "pooling_mode_lasttoken",
}
SETTINGS = ["sentence_bert_config.json"] * 4 + [
    "sentence_roberta_config.json", "sentence_distilbert_config.json", "sentence_camembert_config.json", "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json", "sentence_xlnet_config.json"]
ACTIVATIONS = ["activation.Tanh"] * 3 + ["linear.Identity"] * 3 + [f"activation.{name}" for name in
    ("ReLU", "GELU", "SiLU", "Sigmoid", "ReLU6", "Softplus", "Mish", "LeakyReLU", "Hardswish")]
TEXTS = [
    "", "the", "the cat sat", "The CAT sat on a Mat", "hello world . " * 7, "a b c d e f g h x y z 1 2 3 " * 4, "ÜBER GRÖSSE Straße İ ΟΔΟΣ", "   the   cat  ",
    "query : the cat", "[SEP] the [CLS] cat", "the cat\n sat\ton a mat", "x", "unknownword other",
]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False))


def tokenizer(draw, kind, folder):
    """A tokenizer whose class adds nothing to its file; its settings are returned."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    lower = draw.random() < 0.6
    vocabulary = special + WORDS + [w.capitalize() for w in WORDS if w.capitalize() not in WORDS]
    if kind in ("bert", "distilbert"):
        backend = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        settings = {"tokenizer_class": "BertTokenizer" if kind == "bert" else "DistilBertTokenizer", "do_lower_case": lower}
        template = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    else:
        backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
        chosen = [None, normalizers.NFC(), normalizers.Lowercase(), normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])]
        own = draw.choice(chosen)
        if own is not None: backend.normalizer = own
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        template = draw.choice([("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"), ("$A [SEP]", "$A $B [SEP]"), ("[CLS] $A", "[CLS] $A $B"), None])
    if template is not None:
        backend.post_processor = processors.TemplateProcessing(single=template[0], pair=template[1], special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    backend.add_special_tokens(special)
    settings |= {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}
    settings["model_max_length"] = draw.choice([8, 12, 20, 512, 1000000000000000019884624838656, None])
    if settings["model_max_length"] is None: del settings["model_max_length"]
    if draw.random() < 0.2: settings["truncation_side"] = "left"
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", settings)
    return len(vocabulary)


def transformer(draw, folder, kind):
    """A tiny model of a type; its width is returned."""
    vocabulary = tokenizer(draw, kind, folder)
    width = draw.choice([8, 16])
    common = {"vocab_size": vocabulary, "pad_token_id": 0}
    sizes = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64}
    match kind:
        case "bert": config = transformers.BertConfig(**common, **sizes)
        case "roberta": config = transformers.RobertaConfig(**common, **sizes, type_vocab_size=1)
        case "distilbert": config = transformers.DistilBertConfig(**common, dim=width, hidden_dim=24, n_layers=1, n_heads=2, max_position_embeddings=64)
        case "gpt2": config = transformers.GPT2Config(**common, n_embd=width, n_layer=1, n_head=2, n_positions=64, n_inner=24)
        case "llama": config = transformers.LlamaConfig(**common, **sizes, num_key_value_heads=1)
        case "mistral": config = transformers.MistralConfig(**common, **sizes, num_key_value_heads=1, sliding_window=None)
        case "qwen3": config = transformers.Qwen3Config(**common, **sizes, num_key_value_heads=1, head_dim=8)
    torch.manual_seed(draw.randrange(1 << 30))
    base = kind in ("bert", "roberta", "distilbert") or draw.random() < 0.5
    model = (transformers.AutoModel if base else transformers.AutoModelForCausalLM).from_config(config).float()
    with torch.no_grad():
        for parameter in model.parameters(): parameter.normal_(0, 0.4)
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"): parameter.add_(1)
    model.save_pretrained(folder)
    if not base and draw.random() < 0.3:
        config = json.loads((folder / "config.json").read_text())
        del config["architectures"]
        write(folder / "config.json", config)
    return width


def dense(draw, folder, width, name=None):
    out = draw.choice([width, 4, 24])
    config = {"in_features": width, "out_features": out, "bias": draw.random() < 0.6, "activation_function": "torch.nn.modules." + draw.choice(ACTIVATIONS)}
    if draw.random() < 0.1: del config["activation_function"]
    tensors = {"linear.weight": torch.randn(out, width) * 0.4}
    if config["bias"]: tensors["linear.bias"] = torch.randn(out)
    if draw.random() < 0.2:
        config["use_residual"] = True
        if out != width: tensors["residual.weight"] = torch.randn(out, width) * 0.4
    if name: config |= {"module_input_name": name} | ({"module_output_name": name} if draw.random() < 0.5 else {})
    if draw.random() < 0.3: tensors = {key: value.half() for key, value in tensors.items()}
    write(folder / "config.json", config)
    save_file(tensors, folder / "model.safetensors")
    return out


def pooling(draw, folder, width):
    modes = draw.sample(list(SWITCHES), draw.choice([1, 1, 1, 1, 2, 3]))
    config = {draw.choice(["word_embedding_dimension", "embedding_dimension"]): width}
    style = draw.choice(["old", "old", "new", "none"])
    if style == "old": config = {"word_embedding_dimension": width} | {key: mode in modes for mode, key in SWITCHES.items()}
    elif style == "new": config["pooling_mode"] = modes[0] if len(modes) == 1 else modes
    if draw.random() < 0.3: config["include_prompt"] = draw.random() < 0.4
    write(folder / "config.json", config)
    if style == "none": return width
    return width * len(modes)


def draw_folder(seed, home):
    """Writes a folder; the prompt to ask for is returned, `None` for the folder's own."""
    draw = random.Random(seed)
    kind = draw.choice(["bert", "bert", "bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen3"])
    plain = draw.random() < 0.12
    inner = home / "0_Transformer" if not plain and draw.random() < 0.25 else home
    width = transformer(draw, inner, kind)
    if plain:
        if draw.random() < 0.4: write(home / "sentence_bert_config.json", {"max_seq_length": 4, "do_lower_case": True})
        if draw.random() < 0.4: write(home / "1_Pooling/config.json", {"word_embedding_dimension": width, "pooling_mode_cls_token": True})
        return None
    settings = {"max_seq_length": draw.choice([None, 6, 10, 33, 64, 100]), "do_lower_case": draw.random() < 0.3}
    if kind == "roberta" and settings["max_seq_length"] in (64, 100): settings["max_seq_length"] = 50
    if draw.random() < 0.3: del settings["max_seq_length"]
    if draw.random() < 0.15: settings["tokenizer_args"] = {"model_max_length": draw.choice([5, 9, None]), "trust_remote_code": True}
    if draw.random() < 0.1: settings["model_args"] = {"attn_implementation": "eager"}
    if draw.random() < 0.85: write(inner / draw.choice(SETTINGS), settings)
    modules, names = [], draw.choice([OLD, NEW])

    def add(kind, path):
        style = draw.random()
        path = path if style < 0.7 else f"./{path}" if style < 0.85 else f"{path}/"
        entry = {"idx": len(modules), "name": str(len(modules)), "path": path, "type": OLD + kind if names is OLD else NEW[kind]}
        if names is OLD and kind in ("Pooling", "Transformer") and draw.random() < 0.3: entry["type"] = f"{OLD}{kind}.{kind}"
        if draw.random() < 0.1: entry["kwargs"] = []
        modules.append(entry)

    add("Transformer", "0_Transformer" if inner != home else "")
    if inner == home: modules[0]["path"] = draw.choice(["", "", "", ".", "./"])
    for _ in range(draw.choice([0, 0, 0, 0, 1, 2])):
        path = f"{len(modules)}_Tokens"
        if draw.random() < 0.6:
            width = dense(draw, home / path, width, "token_embeddings")
            add("Dense", path)
        else:
            write(home / path / "config.json", {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"})
            add("Normalize", path)
    path = f"{len(modules)}_Pooling"
    width = pooling(draw, home / path, width)
    add("Pooling", path)
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        kind = draw.choice(["Dense", "Dense", "Normalize", "Normalize", "LayerNorm", "Dropout"])
        path = f"{len(modules)}_{kind}"
        match kind:
            case "Dense": width = dense(draw, home / path, width)
            case "LayerNorm":
                write(home / path / "config.json", {"dimension": width})
                save_file({"norm.weight": torch.randn(width) + 1, "norm.bias": torch.randn(width)}, home / path / "model.safetensors")
            case "Dropout": write(home / path / "config.json", {"dropout": 0.3})
            case "Normalize":
                if draw.random() < 0.5: write(home / path / "config.json", {})
        add(kind, path)
    write(home / "modules.json", modules)
    asked = None
    if draw.random() < 0.6:
        whole = {"__version__": {"sentence_transformers": draw.choice(["2.2.2", "3.4.1", "5.1.0", "6.2.0"])}}
        if draw.random() < 0.7: whole["prompts"] = {"query": "query : ", "passage": "Passage: the ", "none": ""}
        if "prompts" in whole and draw.random() < 0.6: whole["default_prompt_name"] = draw.choice(["query", "passage", "none", None])
        if "prompts" in whole and draw.random() < 0.4: asked = draw.choice(["query", "passage", "document"])
        if draw.random() < 0.3: whole["truncate_dim"] = draw.choice([1, 3, 8, 1000, None])
        whole["similarity_fn_name"] = draw.choice(["cosine", "dot", None])
        if draw.random() < 0.5: whole["model_type"] = "SentenceTransformer"
        write(home / "config_sentence_transformers.json", whole)
    return asked

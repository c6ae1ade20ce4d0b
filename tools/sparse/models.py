"""Draws folders of models that predict masked tokens, as SPLADE models of sentence-transformers are published, and what `SparseEncoder` makes of them."""

import json
import random
import sys
from pathlib import Path

import torch
import transformers

sys.path.append(str(Path(__file__).resolve().parent.parent / "sentences"))
from folders import TEXTS, tokenizer, write

OLD = "sentence_transformers.sparse_encoder.models."
NEW = {"MLMTransformer": "sentence_transformers.sparse_encoder.modules.mlm_transformer.MLMTransformer", "SpladePooling": "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling"}


def draw_folder(seed, home):
    """Writes a folder; the prompt to ask for is returned, `None` for the folder's own."""
    draw = random.Random(seed)
    kind = draw.choice(["bert", "roberta", "distilbert"])
    vocabulary = tokenizer(draw, kind, home)
    sizes = {"vocab_size": vocabulary, "pad_token_id": 0, "max_position_embeddings": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    match kind:
        case "bert": config = transformers.BertConfig(**sizes)
        case "roberta": config = transformers.RobertaConfig(**sizes, type_vocab_size=1)
        case "distilbert": config = transformers.DistilBertConfig(vocab_size=vocabulary, pad_token_id=0, dim=8, hidden_dim=12, n_layers=1, n_heads=2, max_position_embeddings=64)
    config.tie_word_embeddings = draw.random() < 0.7
    torch.manual_seed(seed)
    model = transformers.AutoModelForMaskedLM.from_config(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.5)
            if "norm" in name.lower() and name.endswith("weight"): parameter.add_(1)
            if name.endswith("bias") and parameter.numel() == vocabulary: parameter.sub_(1.5)
    model.save_pretrained(home)
    if draw.random() < 0.2: return None
    names = draw.choice([{name: OLD + name for name in NEW}, NEW])
    write(home / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": names["MLMTransformer"]}, {"idx": 1, "name": "1", "path": "1_SpladePooling", "type": names["SpladePooling"]}])
    settings = {"max_seq_length": draw.choice([6, 10, 33, 62]), "do_lower_case": draw.random() < 0.3}
    if kind == "roberta" and settings["max_seq_length"] == 62: settings["max_seq_length"] = 50
    write(home / "sentence_bert_config.json", settings)
    pooling = {"pooling_strategy": draw.choice(["max", "max", "sum"]), "activation_function": draw.choice(["relu", "relu", "log1p_relu"]), "word_embedding_dimension": draw.choice([None, vocabulary])}
    write(home / "1_SpladePooling/config.json", pooling)
    whole = {"__version__": {"sentence_transformers": "5.0.0"}, "model_type": "SparseEncoder", "similarity_fn_name": "dot"}
    if draw.random() < 0.5: whole |= {"prompts": {"query": "query : ", "document": ""}, "default_prompt_name": draw.choice([None, "query"])}
    write(home / "config_sentence_transformers.json", whole)
    return draw.choice([None, "query"]) if "prompts" in whole else None


def reference(folder, texts, prompt):
    """(ids, weights) of each text, `None` of one without tokens."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu", local_files_only=True)
    found = []
    for text in texts:
        whole = (model._resolve_prompt(None, prompt) or "") + text
        if not model.tokenizer(whole)["input_ids"]:
            found.append(None)
            continue
        vector = model.encode([text], convert_to_sparse_tensor=False, **({"prompt_name": prompt} if prompt else {}))[0]
        ids = vector.nonzero()[:, 0]
        found.append((ids.tolist(), vector[ids].tolist()))
    return found, model


def lexical_folder(seed, home):
    """A model with the layer of BGE-M3 beside it."""
    draw = random.Random(seed)
    vocabulary = tokenizer(draw, "bert", home)
    settings = json.loads((home / "tokenizer_config.json").read_text())
    write(home / "tokenizer_config.json", settings | {"model_max_length": 60})
    torch.manual_seed(seed)
    sizes = {"vocab_size": vocabulary, "max_position_embeddings": 64, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    model = transformers.BertModel(transformers.BertConfig(**sizes)).float()
    with torch.no_grad():
        for parameter in model.parameters(): parameter.normal_(0, 0.5)
    model.save_pretrained(home)
    torch.save({"weight": torch.randn(1, 8), "bias": torch.tensor([0.7])}, home / "sparse_linear.pt")


def lexical_reference(folder, texts):
    """As `BGEM3FlagModel` of FlagEmbedding: the largest `relu(W h + b)` of every token that occurs, without beginning, end, padding and unknown ones."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    layer = torch.load(folder / "sparse_linear.pt")
    unused = {tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    found = []
    for text in texts:
        inputs = tokenizer(text, truncation=True, return_tensors="pt")
        with torch.no_grad():
            weights = torch.relu(model(**inputs).last_hidden_state[0] @ layer["weight"].T + layer["bias"])[:, 0]
        most = {}
        for token, weight in zip(inputs["input_ids"][0].tolist(), weights.tolist()):
            if token not in unused and weight > most.get(token, 0): most[token] = weight
        found.append((sorted(most), [most[token] for token in sorted(most)]))
    return found

"""What the head of tiny models says of the states between their layers, by transformers: for `--take lens`.

    python lens.py ../../crates/sli/tests/lens llama gpt2 gemma2       the committed expectations, NAME.safetensors

The states are those that the golden NAME has of the reference; its final norm and head are put on them in f64. Of record k at boundary L: `k.L.logprobs`
(of each token but the first), `k.L.entropy`, `k.L.kl` (of the last layer's distribution from this one), `k.L.top_ids`, `k.L.top_logprobs` (the best 3).
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "goldens"))
from save_checkpoint import save_checkpoint  # noqa: E402

BEST = 3


def expectations(name):
    golden = ROOT / "goldens" / name
    facts = json.loads((golden / "golden.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(golden, Path(folder), "f32", "5GB")
        model = getattr(transformers, facts["class"]).from_pretrained(folder, dtype=torch.float32).double().eval()
    norm = model.get_submodule(facts["final_norm"])
    cap = getattr(model.config, "final_logit_softcapping", None)

    def distribution(state):
        logits = model.get_output_embeddings()(norm(state.double()))
        if cap:
            logits = torch.tanh(logits / cap) * cap
        return torch.log_softmax(logits, -1)

    tensors = {}
    with safe_open(golden / "expected.safetensors", "pt") as file, torch.no_grad():
        names = sorted(file.keys())
        for key in names:
            if not key.endswith(".input_ids"):
                continue
            record = key.split(".")[0]
            tokens = file.get_tensor(key)
            prefix = f"{record}.hidden.decoder."
            layers = [own.removeprefix(prefix) for own in names if own.startswith(prefix) and own[-3:].isdigit()]
            states = {int(layer): distribution(file.get_tensor(prefix + layer)) for layer in layers}
            last = states[max(states)]
            for layer, own in states.items():
                place = f"{record}.{layer}"
                top = own.topk(BEST)
                tensors[f"{place}.logprobs"] = own[:-1].gather(1, tokens[1:, None])[:, 0]
                tensors[f"{place}.entropy"] = -(own.exp() * own).sum(-1)
                tensors[f"{place}.kl"] = (last.exp() * (last - own)).sum(-1)
                tensors[f"{place}.top_ids"] = top.indices
                tensors[f"{place}.top_logprobs"] = top.values
    return {key: value.float().contiguous() for key, value in tensors.items()}


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    for name in sys.argv[2:]:
        tensors = expectations(name)
        save_file(tensors, out / f"{name}.safetensors")
        (out / f"{name}.safetensors").chmod(0o644)
        print(name, len(tensors))


main()

"""What enters the matrices of tiny models, by transformers: sums of squares for `--take imatrix`.

    python imatrix.py ../../crates/sli/tests/imatrix llama qwen3_moe ...    the committed expectations, NAME.safetensors
    python imatrix.py --sli SLI llama qwen3_moe ...                         the program's imatrix.gguf against transformers
    python imatrix.py --sli SLI --all                                       the same for every golden that gguf has names for

The weights are those of the golden NAME, the records its own. Every product with a parameter of a layer is seen where torch does it
(`F.linear`, and the forward of a `Conv1D`); sums are of f64. Names are gguf's (`get_tensor_name_map`), which knows
nothing of the program's tables. Needs `gguf` beside what ../goldens/requirements.txt lists.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers.pytorch_utils import Conv1D

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "goldens"))
from save_checkpoint import save_checkpoint  # noqa: E402

# Architectures whose names are not those of the type.
ARCHITECTURES = {
    "mistral": "llama", "mixtral": "llama", "gpt_neox": "gptneox", "gpt_bigcode": "starcoder", "phi": "phi2", "cohere": "command-r", "glm": "chatglm",
    "gemma3_text": "gemma3", "gemma3n_text": "gemma3n", "gemma4_text": "gemma4", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe",
    "qwen3_next": "qwen3next", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "falcon_mamba": "mamba", "granitemoehybrid": "granitehybrid",
    "bamba": "granitehybrid", "granitemoeshared": "granitemoe", "olmo3": "olmo2", "llama4_text": "llama4", "hunyuan_v1_dense": "hunyuan-dense",
    "hunyuan_v1_moe": "hunyuan-moe", "modernbert": "modern-bert", "nomic_bert": "nomic-bert", "ernie4_5_moe": "ernie4_5-moe", "exaone_moe": "exaone-moe",
    "falcon_h1": "falcon-h1", "gpt_oss": "gpt-oss", "glm_moe_dsa": "glm-dsa", "ministral3": "mistral3", "minimax_m2": "minimax-m2",
}


def architecture(model_type):
    wanted = ARCHITECTURES.get(model_type, model_type)
    letters = lambda name: re.sub("[^a-z0-9]", "", name)  # noqa: E731
    for arch, name in gguf.MODEL_ARCH_NAMES.items():
        if letters(name) == letters(wanted):
            return arch
    return None


def names_of(table, parameter):
    """gguf's names of a parameter: of experts whose gate and up are one, two."""
    name = parameter if parameter.endswith(".weight") else parameter + ".weight"
    name = re.sub(r"\.experts\.(\d+)\.", ".experts.", name)
    for known in (name, name.partition(".")[2]):
        own = table.get_name(known, try_suffixes=(".weight",))
        if own is not None:
            return [own]
    # What the converter divides without a name of its own in the table.
    layer = re.search(r"\.(\d+)\.", name)
    for module, halves in (("block_sparse_moe.input_linear", "exps"), ("shared_mlp.input_linear", "shexp")):
        if module in name:
            return [f"blk.{layer[1]}.ffn_{half}_{halves}.weight" for half in ("gate", "up")]
    if "gate_up_proj" in name:
        halves = [table.get_name(name.replace("gate_up_proj", half), try_suffixes=(".weight",)) for half in ("gate_proj", "up_proj")]
        return [half for half in halves if half]
    return []


class Sums:
    """Sums of squares by parameter, of stacked ones by slice."""

    def __init__(self, model):
        self.parameters = {}
        for name, parameter in model.named_parameters():
            self.parameters[parameter.untyped_storage().data_ptr()] = (name, parameter)
        self.sums = {}

    def see(self, weight, x):
        found = self.parameters.get(weight.untyped_storage().data_ptr())
        if found is None:
            return
        name, parameter = found
        stacked = parameter.dim() == 3
        count = parameter.shape[0] if stacked else 1
        index = weight.storage_offset() // parameter[0].numel() if stacked else 0
        x = x.detach().reshape(-1, x.shape[-1]).double()
        entry = self.sums.setdefault(name, (np.zeros((count, x.shape[1])), np.zeros(count)))
        entry[0][index] += (x * x).sum(0).numpy()
        entry[1][index] += x.shape[0]


def reference(folder, facts, records):
    """By gguf's name: sums `[matrices, inputs]`, counts `[matrices]`."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config._experts_implementation = "eager"
    model = getattr(transformers, facts["class"]).from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
    arch = architecture(config.model_type)
    if arch is None:
        return None
    table = gguf.get_tensor_name_map(arch, getattr(config, "num_hidden_layers", 0) or config.n_layer)
    sums = Sums(model)
    plain = torch.nn.functional.linear

    def linear(x, weight, bias=None):
        sums.see(weight, x)
        return plain(x, weight, bias)

    def conv(module, arguments):
        sums.see(module.weight, arguments[0])

    for module in model.modules():
        if isinstance(module, Conv1D):
            module.register_forward_pre_hook(conv)
    torch.nn.functional.linear = linear
    try:
        with torch.no_grad():
            for record in records:
                model(input_ids=torch.tensor([record]), **({} if model.config.is_encoder_decoder else {"use_cache": False}))
    finally:
        torch.nn.functional.linear = plain
    found = {}
    for parameter, (squares, counts) in sums.sums.items():
        for name in names_of(table, parameter):
            if name.startswith("blk."):
                found[name] = (squares, counts)
    return found


def opened(golden):
    facts = json.loads((golden / "golden.json").read_text())
    with safe_open(golden / "expected.safetensors", "np") as file:
        names = [name for name in file.keys() if name.endswith(".input_ids")]
        names.sort(key=lambda name: int(name.split(".")[0]))
        records = [file.get_tensor(name).tolist() for name in names]
    return facts, records


def program(sli, folder, records, out):
    """What the program writes, read by gguf."""
    data = out / "in.jsonl"
    data.write_text("".join(json.dumps({"input_ids": record}) + "\n" for record in records))
    run = [sli, "run", folder, "--input", data, "--out", out / "out", "--take", "imatrix", "--compute", "f32", "--allow-long"]
    done = subprocess.run([str(part) for part in run], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    reader = gguf.GGUFReader(out / "out" / "imatrix.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["in.jsonl"]
    assert reader.fields["imatrix.chunk_count"].contents() == len(records)
    assert reader.fields["imatrix.chunk_size"].contents() == max(map(len, records))
    values = {tensor.name: np.array(tensor.data, dtype=np.float64) for tensor in reader.tensors}
    assert list(values) == sorted(values, key=lambda name: (name.rsplit(".", 1)[0], name.endswith("counts")))
    found = {}
    for name, squares in values.items():
        if name.endswith(".in_sum2"):
            counts = values[name.replace(".in_sum2", ".counts")].reshape(-1)
            found[name.removesuffix(".in_sum2")] = (squares.reshape(len(counts), -1), counts)
    return found, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sli", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    names = options.names
    out = None if options.sli else Path(names.pop(0))
    if options.all:
        names = sorted(path.parent.name for path in (ROOT / "goldens").glob("*/golden.json"))
    wrong = 0
    for name in names:
        golden = ROOT / "goldens" / name
        facts, records = opened(golden)
        if options.all and architecture(json.loads((golden / "config.json").read_text()).get("model_type", "")) is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            try:
                save_checkpoint(golden, folder / "model", "f32", "5GB")
                expected = reference(folder / "model", facts, records)
            except Exception as error:  # Of published forms the reference makes nothing.
                print(f"{name}: the reference says {str(error)[:100]!r}")
                continue
            if expected is None:
                print(f"{name}: gguf has no such architecture")
                continue
            if out is not None:
                out.mkdir(exist_ok=True)
                tensors = {}
                for key, (squares, counts) in expected.items():
                    tensors[f"{key}.in_sum2"] = squares.astype(np.float32)
                    tensors[f"{key}.counts"] = counts.astype(np.float32)
                save_file(tensors, out / f"{name}.safetensors")
                print(name, len(expected))
                continue
            found, said = program(options.sli, folder / "model", records, folder)
            if found is None:
                print(f"{name}: refused: {said[:300]}")
                wrong += 1
                continue
            problems = [f"lacks {key}" for key in sorted(expected.keys() - found.keys())]
            problems += [f"has {key}" for key in sorted(found.keys() - expected.keys())]
            worst = 0.0
            for key in expected.keys() & found.keys():
                (squares, counts), (own, rows) = expected[key], found[key]
                if squares.shape != own.shape or (counts != rows).any():
                    problems.append(f"{key}: {squares.shape} {counts} and {own.shape} {rows}")
                    continue
                scale = squares.mean(axis=1, keepdims=True) + 1e-30
                worst = max(worst, float((np.abs(squares - own) / scale).max()))
            bad = bool(problems) or worst > 1e-3
            wrong += bad
            print(f"{name}: {len(found)} matrices, worst {worst:.1e}", *(["WRONG"] if bad else []), *problems[:6], flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

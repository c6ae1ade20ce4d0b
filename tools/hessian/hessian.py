"""What enters the matrices of tiny models, by transformers: `X^T X` for `--take hessian`.

    python hessian.py ../../crates/sli-engine/tests/hessian llama mixtral ...   the committed expectations, NAME.safetensors: the first rows of each
    python hessian.py --sli SLI llama mixtral ...                        the program's files against transformers
    python hessian.py --sli SLI --all                                    the same for every golden

The weights are those of the golden NAME, the records its own. Every product with a parameter of a layer is seen where torch does it
(`F.linear`, and the forward of a `Conv1D`); sums are of f64. What the program calls a matrix is a tensor of the checkpoint, which is that of
a parameter, or of one of stacked experts. Needs what ../goldens/requirements.txt lists.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers.pytorch_utils import Conv1D

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "goldens"))
from save_checkpoint import save_checkpoint  # noqa: E402

# Rows of a matrix that are committed.
ROWS = 8


class Sums:
    """`X^T X`, rows and records by parameter; of stacked ones by slice."""

    def __init__(self, model):
        self.parameters = {}
        for name, parameter in model.named_parameters():
            self.parameters[parameter.untyped_storage().data_ptr()] = (name, parameter)
        self.sums = {}
        self.record = None

    def see(self, weight, x):
        found = self.parameters.get(weight.untyped_storage().data_ptr())
        if found is None:
            return
        name, parameter = found
        index = weight.storage_offset() // parameter[0].numel() if parameter.dim() == 3 else None
        x = x.detach().reshape(-1, x.shape[-1]).double()
        if x.shape[0] == 0:
            return
        entry = self.sums.setdefault((name, index), [0.0, 0, set()])
        entry[0] = entry[0] + (x.T @ x).numpy()
        entry[1] += x.shape[0]
        entry[2].add(self.record)


def reference(folder, facts, records):
    config = transformers.AutoConfig.from_pretrained(folder)
    config._experts_implementation = "eager"
    model = getattr(transformers, facts["class"]).from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()
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
            for sums.record, record in enumerate(records):
                model(input_ids=torch.tensor([record]), **({} if model.config.is_encoder_decoder else {"use_cache": False}))
    finally:
        torch.nn.functional.linear = plain
    return sums.sums


def named(sums, tensor):
    """The entry of a tensor of the checkpoint: of that parameter, or of the experts that it became a part of."""
    # Files of Mixtral's kind have another name for what the modules call `mlp`.
    tensor = tensor.replace(".block_sparse_moe.", ".mlp.")
    for name in (tensor, f"{tensor}.weight"):
        for base in (name, name.partition(".")[2]):
            found = [key for key in sums if key[0] == base or key[0].endswith(f".{base}")]
            if len(found) == 1 and found[0][1] is None:
                return found[0]
    parts = re.fullmatch(r"(.*)\.experts\.(\d+)\.(\w+)(\.weight)?", tensor)
    if parts is None:
        stacked = re.fullmatch(r"(.*)\.experts\.(\w+)\.(\d+)", tensor)
        if stacked is None:
            return None
        parts = (None, stacked[1], stacked[3], stacked[2])
    layer = re.search(r"\.(\d+)\.", parts[1])
    kind = "down_proj" if parts[3] in ("w2", "down_proj") else "gate_up_proj"
    for name, index in sums:
        own = re.search(r"\.(\d+)\.", name)
        if index == int(parts[2]) and own and layer and own[1] == layer[1] and re.search(rf"experts\.({kind}|{parts[3]})$", name):
            return (name, index)
    return None


def opened(golden):
    facts = json.loads((golden / "golden.json").read_text())
    with safe_open(golden / "expected.safetensors", "np") as file:
        names = [name for name in file.keys() if name.endswith(".input_ids")]
        names.sort(key=lambda name: int(name.split(".")[0]))
        records = [file.get_tensor(name).tolist() for name in names]
    return facts, records


def program(sli, folder, records, out):
    """What the program writes, by every name: products, rows, records."""
    data = out / "in.jsonl"
    data.write_text("".join(json.dumps({"input_ids": record}) + "\n" for record in records))
    run = [sli, "run", folder, "--input", data, "--out", out / "out", "--take", "hessian", "--compute", "f32", "--allow-long"]
    done = subprocess.run([str(part) for part in run], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip()
    found = {}
    for path in sorted((out / "out" / "hessian").iterdir()):
        with safe_open(path, "np") as file:
            shared = json.loads(file.metadata()["shared"])
            names = [name.removesuffix(".xtx") for name in file.keys() if name.endswith(".xtx")]
            assert len(file.keys()) == 3 * len(names), path
            for name in names + list(shared):
                own = shared.get(name, name)
                count = [int(file.get_tensor(f"{own}.{kind}")[0]) for kind in ("tokens", "sequences")]
                found[name] = (file.get_tensor(f"{own}.xtx"), *count)
    return found, ""


def compare(expected, found):
    """What differs, and by how much of the largest norms."""
    problems, worst, seen = [], 0.0, set()
    for name, (own, tokens, sequences) in found.items():
        if not np.array_equal(own, own.T):
            problems.append(f"{name} is not its own mirror image")
        key = named(expected, name)
        if key is None:
            # Names that the file has and the modules have not: by what it is.
            near = [k for k, e in expected.items() if e[0].shape == own.shape and np.abs(e[0] - own).max() <= 1e-3 * np.abs(e[0]).max() and e[1] == tokens]
            if not near:
                if tokens:
                    problems.append(f"{name} is nothing of the reference's")
                continue
            seen.update(near)
            key = near[0]
        seen.add(key)
        products, rows, records = expected[key]
        if products.shape != own.shape or rows != tokens or len(records) != sequences:
            problems.append(f"{name}: {own.shape} {tokens} {sequences}, {key}: {products.shape} {rows} {len(records)}")
            continue
        norms = np.sqrt(np.diag(products))
        worst = max(worst, float((np.abs(products - own) / (np.outer(norms, norms) + 1e-30)).max()))
    lacking = [key for key in expected if key not in seen and re.search(r"\.\d+\.", key[0])]
    problems += [f"lacks {key}" for key in lacking]
    return problems, worst


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
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            try:
                save_checkpoint(golden, folder / "model", "f32", "5GB")
                expected = reference(folder / "model", facts, records)
            except Exception as error:  # Of published forms the reference makes nothing.
                print(f"{name}: the reference says {str(error)[:100]!r}")
                continue
            if out is not None:
                out.mkdir(exist_ok=True)
                tensors = {}
                with safe_open(folder / "model" / "model.safetensors", "np") as file:
                    stored = [tensor.removesuffix(".weight") for tensor in file.keys()]
                for tensor in stored:
                    key = named(expected, tensor)
                    if key is None or not re.search(r"\.\d+\.", tensor):
                        continue
                    products, rows, seen = expected[key]
                    tensors[f"{tensor}.xtx"] = products[:ROWS].astype(np.float32)
                    tensors[f"{tensor}.tokens"] = np.array([[rows]], dtype=np.float32)
                    tensors[f"{tensor}.sequences"] = np.array([[len(seen)]], dtype=np.float32)
                save_file(tensors, out / f"{name}.safetensors")
                print(name, len(tensors) // 3)
                continue
            found, said = program(options.sli, folder / "model", records, folder)
            if found is None:
                print(f"{name}: refused: {said[:300]}", flush=True)
                wrong += 1
                continue
            problems, worst = compare(expected, found)
            bad = bool(problems) or worst > 1e-4
            wrong += bad
            print(f"{name}: {len(found)} matrices, worst {worst:.1e}", *(["WRONG"] if bad else []), *problems[:6], flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

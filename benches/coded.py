"""Coded weights against the same weights in bf16, and against llama.cpp, by turns.

    python benches/coded.py write BF16_FOLDER OUT [FORM]...    the checkpoint in further forms: q4_0 q4_k nf4 gptq fp8
    python benches/coded.py run OUT DATA.jsonl [--forms bf16,q4_0] [--memory 1GiB] [--rounds 3] [--warm] [--llama PROGRAM]
    python benches/coded.py all OUT RESULTS [--llama PROGRAM]  8 x 256, 1 x 64, and 8 x 256 through OUT/moe, to files

`write` puts `OUT/FORM` (a folder, or `OUT/FORM.gguf`) beside `OUT/bf16`, which it links to the given folder: Llama and Mixtral as
`synthetic.py` writes them. Needs gguf (q4_0, q4_k) and bitsandbytes (nf4). `q4_k` is what llama.cpp calls Q4_K_M: Q6_K for the head and for half
of the values and down projections, and Q5_0 where rows are no multiple of 256.

`run` prints what is measured on what, a JSON line a run of `sli run --take scores`, whole command, and of `PROGRAM FILE.gguf DATA.jsonl` for the GGUF files, then
medians and what they are to bf16's. The page cache is dropped before every run (as root) unless `--warm`.
"""

import argparse
import contextlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import SLI, about, drop_page_cache

FORMS = ["q4_0", "q4_k", "nf4", "gptq", "fp8"]


def write_gguf(weights, config, path, form):
    import gguf

    from coded_blocks import q4_k, q6_k

    kinds = gguf.GGMLQuantizationType
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    experts = config.get("num_local_experts")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(form)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model("none")
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])

    def add(name, tensor, fine=False):
        numbers = tensor.float().numpy()
        kind, blocks = kinds.F32, None
        if numbers.ndim > 1 and "gate_inp" not in name:
            fits = numbers.shape[-1] % 256 == 0
            if fine and fits:
                kind, blocks = kinds.Q6_K, q6_k
            elif form == "q4_k" and fits:
                kind, blocks = kinds.Q4_K, q4_k
            else:
                kind = kinds.Q5_0 if form == "q4_k" else kinds.Q4_0
                blocks = lambda numbers: gguf.quants.quantize(numbers, kind)
        writer.add_tensor(name, blocks(numbers) if blocks else numbers, raw_dtype=kind)

    def interleaved(tensor, heads):
        """Rows of a head as llama.cpp's rotation wants them."""
        rows, columns = tensor.shape
        return tensor.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)

    add("token_embd.weight", weights("model.embed_tokens.weight"))
    add("output.weight", weights("lm_head.weight"), fine=True)
    add("output_norm.weight", weights("model.norm.weight"))
    for layer in range(config["num_hidden_layers"]):
        of = lambda name: weights(f"model.layers.{layer}.{name}.weight")
        to = f"blk.{layer}"
        fine = form == "q4_k" and layer % 2 == 0
        add(f"{to}.attn_norm.weight", of("input_layernorm"))
        add(f"{to}.ffn_norm.weight", of("post_attention_layernorm"))
        add(f"{to}.attn_q.weight", interleaved(of("self_attn.q_proj"), heads))
        add(f"{to}.attn_k.weight", interleaved(of("self_attn.k_proj"), kv_heads))
        add(f"{to}.attn_v.weight", of("self_attn.v_proj"), fine)
        add(f"{to}.attn_output.weight", of("self_attn.o_proj"))
        if not experts:
            add(f"{to}.ffn_gate.weight", of("mlp.gate_proj"))
            add(f"{to}.ffn_up.weight", of("mlp.up_proj"))
            add(f"{to}.ffn_down.weight", of("mlp.down_proj"), fine)
            continue
        import torch

        add(f"{to}.ffn_gate_inp.weight", of("block_sparse_moe.gate"))
        for own, name in (("w1", "gate"), ("w3", "up"), ("w2", "down")):
            all_of = [of(f"block_sparse_moe.experts.{expert}.{own}") for expert in range(experts)]
            add(f"{to}.ffn_{name}_exps.weight", torch.stack(all_of))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def nf4(name, tensor):
    from bitsandbytes import functional

    codes, state = functional.quantize_4bit(tensor.float(), blocksize=64, compress_statistics=True, quant_type="nf4")
    return {name: codes, **{f"{name}.{end}": part for end, part in state.as_dict(packed=True).items()}}


def gptq(name, tensor):
    """Nearest integers, symmetric, groups of 128."""
    import torch

    rows, columns = tensor.shape
    groups = tensor.float().view(rows, columns // 128, 128)
    scales = groups.abs().amax(-1) / 7
    codes = (groups / scales[..., None]).round().clamp(-8, 7).add(8).to(torch.int32).view(rows, columns)
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    words = lambda codes: (codes << shifts).sum(-1, dtype=torch.int64).to(torch.int32)
    module = name.removesuffix(".weight")
    zeros = torch.full((columns // 128, rows // 8, 8), 7, dtype=torch.int32)
    return {
        f"{module}.qweight": words(codes.view(rows, columns // 8, 8)).T.contiguous(),
        f"{module}.qzeros": words(zeros),
        f"{module}.scales": scales.T.half().contiguous(),
        f"{module}.g_idx": torch.arange(columns, dtype=torch.int32) // 128,
    }


def fp8(name, tensor):
    import torch

    rows, columns = tensor.shape
    blocks = tensor.float().view(rows // 128, 128, columns // 128, 128)
    scales = blocks.abs().amax((1, 3)) / 448
    codes = (blocks / scales[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
    return {name: codes, f"{name}_scale_inv": scales}


TENSORS = {
    "nf4": (nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}),
    "fp8": (fp8, {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}),
}


def write(source, out, forms):
    from safetensors import safe_open
    from safetensors.torch import save_file

    config = json.loads((source / "config.json").read_text())
    out.mkdir(exist_ok=True)
    if not (out / "bf16").exists():
        (out / "bf16").symlink_to(source.resolve())
    with safe_open(source / "model.safetensors", "pt") as file:
        for form in forms:
            if form not in TENSORS:
                write_gguf(file.get_tensor, config, out / f"{form}.gguf", form)
                continue
            coded, said = TENSORS[form]
            tensors = {}
            for name in file.keys():
                tensor = file.get_tensor(name)
                is_coded = name.endswith("_proj.weight") or ".experts." in name
                tensors |= coded(name, tensor) if is_coded else {name: tensor}
            (out / form).mkdir(exist_ok=True)
            save_file(tensors, out / form / "model.safetensors", metadata={"format": "pt"})
            (out / form / "config.json").write_text(json.dumps({**config, "quantization_config": said}))


def timed(command, warm):
    if not warm:
        drop_page_cache()
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr[-600:]}")
    return seconds, json.loads(done.stdout.splitlines()[-1] if done.stdout.count("\n") == 1 else done.stdout)


def run(options):
    sli = str(pathlib.Path(options.sli).resolve())
    systems = []
    for form in options.forms.split(","):
        path = next(path for path in (options.out / form, options.out / f"{form}.gguf") if path.exists())
        systems.append((form, path))
        if options.llama and path.suffix == ".gguf":
            systems.append((f"llama.cpp {form}", path))
    rates = {name: [] for name, _ in systems}
    first = about(model=(options.out / "bf16").resolve().name, data=options.data.name, memory=options.memory, warm=options.warm)
    print(json.dumps(first), flush=True)
    for _ in range(options.rounds):
        for name, path in systems:
            with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
                if name.startswith("llama.cpp"):
                    seconds, said = timed([options.llama, str(path), str(options.data)], options.warm)
                    line = {"loading": said["loading"], "mean_logprob": said["mean_logprob"]}
                else:
                    command = [sli, "run", str(path), "--input", str(options.data), "--out", f"{scratch}/out", "--take", "scores"]
                    seconds, said = timed([*command, "--memory", options.memory, "--compute", "bf16", "--json"], options.warm)
                    line = {"own_seconds": round(said["seconds"], 3), "bytes_read": said["bytes_read"], "roofline_fraction": round(said["roofline_fraction"], 3)}
                    line["stages"] = {stage: round(value, 2) for stage, value in said["stages"].items()}
            rate = said["tokens"] / seconds
            rates[name].append(rate)
            print(json.dumps({"system": name, "seconds": round(seconds, 3), "tokens_per_second": round(rate, 1), **line}), flush=True)
    medians = {name: statistics.median(all_of) for name, all_of in rates.items()}
    first = medians[systems[0][0]]
    ratios = {name: round(median / first, 3) for name, median in medians.items()}
    print(json.dumps({"median": {name: round(median, 1) for name, median in medians.items()}, f"to_{systems[0][0]}": ratios}))


def every(options):
    """All that was asked for, each to a file of its own; datasets are drawn where they are not there."""
    options.results.mkdir(exist_ok=True)
    for name, forms, records, tokens in (("", FORMS, 8, 256), ("", FORMS, 1, 64), ("moe", ["q4_k"], 8, 256)):
        options.out = options.root / name
        options.forms = ",".join(["bf16", *forms])
        options.data = options.root / f"{records}x{tokens}.jsonl"
        if not options.data.exists():
            draw = random.Random(0)
            ids = lambda: [draw.randrange(32000) for _ in range(tokens)]
            options.data.write_text("".join(json.dumps({"input_ids": ids()}) + "\n" for _ in range(records)))
        file = options.results / f"coded-{'-'.join(filter(None, [name, options.data.stem]))}.jsonl"
        with file.open("w") as output, contextlib.redirect_stdout(output):
            run(options)
        print(file, file.read_text().splitlines()[-1], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    writing = commands.add_parser("write")
    writing.add_argument("source", type=pathlib.Path)
    writing.add_argument("out", type=pathlib.Path)
    writing.add_argument("forms", nargs="*", default=FORMS)
    running = commands.add_parser("run")
    running.add_argument("out", type=pathlib.Path)
    running.add_argument("data", type=pathlib.Path)
    running.add_argument("--forms", default=",".join(["bf16", *FORMS]), help="the first one is what the others are compared with")
    everything = commands.add_parser("all")
    everything.add_argument("root", type=pathlib.Path)
    everything.add_argument("results", type=pathlib.Path)
    for command in (running, everything):
        command.add_argument("--memory", default="1GiB")
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--warm", action="store_true")
        command.add_argument("--llama", help="a program that scores the records of a file by llama.cpp")
        command.add_argument("--sli", default=SLI)
        command.add_argument("--scratch", default="/var/tmp")
    options = parser.parse_args()
    if options.command == "write":
        write(options.source, options.out, options.forms)
    elif options.command == "run":
        run(options)
    else:
        every(options)


main()

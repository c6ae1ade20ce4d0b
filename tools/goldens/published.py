"""Writes the goldens of published forms whose own code transformers does not have, from the class that computes the same.

    python published.py [NAME...]  goldens/remote-{falcon-RefinedWebModel-alibi, mixtral-consolidated, mpt-remote-mqa-qkln, mamba2-attention}

The folders hold the configuration already. The first two run through transformers' Falcon and Mixtral with the tensors renamed; the others, which
transformers cannot express (MPT with one head for keys and values, norms of queries and keys, learned positions; attention among Mamba-2's scans
as state-spaces/mamba has it), through the few lines below.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

import formula

GOLDENS = Path(__file__).resolve().parent.parent.parent / "goldens"
LENGTHS = (7, 19)
torch.set_num_threads(1)


def entry(name, *shape):
    if name.endswith("bias"):
        scale, offset = 0.2, 0.0
    elif len(shape) == 1:
        scale, offset = 0.3, 1.0
    elif name.endswith(("wte.weight", "wpe.weight", "word_embeddings.weight", "tok_embeddings.weight")):
        scale, offset = 0.5, 0.0
    else:
        scale, offset = round(min(0.5, max(0.02, 1.5 / math.sqrt(shape[-1]))), 5), 0.0
    return {"name": name, "shape": list(shape), "dtype": "F32", "scale": scale, "offset": offset}


def norm(name, width):
    return [entry(f"{name}.weight", width), entry(f"{name}.bias", width)]


def linear(name, rows, columns):
    return [entry(f"{name}.weight", rows, columns), entry(f"{name}.bias", rows)]


def run_reference(model, ids, layers, end):
    """Hidden states as the goldens have them, and the logits, of a model of transformers."""
    hidden, handles = [], []
    handles.append(layers[0].register_forward_pre_hook(lambda module, args, kwargs: hidden.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True))
    for layer in layers:
        handles.append(layer.register_forward_hook(lambda module, args, output: hidden.append(output[0] if isinstance(output, tuple) else output)))
    handles.append(end.register_forward_hook(lambda module, args, output: hidden.append(output)))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return [state[0] for state in hidden], logits


def falcon(config):
    width, layers = config["hidden_size"], config["n_layer"]
    entries = [entry("transformer.word_embeddings.weight", config["vocab_size"], width)]
    for i in range(layers):
        at = f"transformer.h.{i}"
        entries += norm(f"{at}.input_layernorm", width) + norm(f"{at}.post_attention_layernorm", width)
        entries += linear(f"{at}.self_attention.query_key_value", 3 * width, width) + linear(f"{at}.self_attention.dense", width, width)
        entries += linear(f"{at}.mlp.dense_h_to_4h", 4 * width, width) + linear(f"{at}.mlp.dense_4h_to_h", width, 4 * width)
    entries += norm("transformer.ln_f", width)

    def forward(tensors, ids):
        same = transformers.FalconConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=config["n_head"], vocab_size=config["vocab_size"], alibi=True,
            bias=True, multi_query=False, parallel_attn=False, new_decoder_architecture=False, layer_norm_epsilon=config["layer_norm_epsilon"],
        )
        same._attn_implementation = "sdpa"  # the eager path adds the slopes twice
        model = transformers.FalconForCausalLM(same).eval()
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        assert set(missing) <= {"lm_head.weight"} and not unexpected, (missing, unexpected)
        model.tie_weights()
        return run_reference(model, ids, model.transformer.h, model.transformer.ln_f)

    tied = {"name": "lm_head.weight", "shape": entries[0]["shape"], "dtype": "F32", "same_as": entries[0]["name"]}
    return entries, [tied], config["vocab_size"], forward


def mixtral(params):
    width, layers, head = params["dim"], params["n_layers"], params["head_dim"]
    heads, groups, inner, experts = params["n_heads"], params["n_kv_heads"], params["hidden_dim"], params["moe"]["num_experts"]
    entries = [entry("tok_embeddings.weight", params["vocab_size"], width), entry("output.weight", params["vocab_size"], width), entry("norm.weight", width)]
    for i in range(layers):
        at = f"layers.{i}"
        entries += [entry(f"{at}.attention_norm.weight", width), entry(f"{at}.ffn_norm.weight", width)]
        entries += [entry(f"{at}.attention.wq.weight", heads * head, width), entry(f"{at}.attention.wo.weight", width, heads * head)]
        entries += [entry(f"{at}.attention.{name}.weight", groups * head, width) for name in ("wk", "wv")]
        entries.append(entry(f"{at}.feed_forward.gate.weight", experts, width))
        for e in range(experts):
            entries += [entry(f"{at}.feed_forward.experts.{e}.{name}.weight", inner, width) for name in ("w1", "w3")]
            entries.append(entry(f"{at}.feed_forward.experts.{e}.w2.weight", width, inner))

    def halves(weight, count):
        """Rows of interleaved pairs to rows of halves."""
        return weight.reshape(count, head // 2, 2, width).transpose(1, 2).reshape(count * head, width)

    def forward(tensors, ids):
        same = transformers.MixtralConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=groups, head_dim=head, intermediate_size=inner,
            vocab_size=params["vocab_size"], num_local_experts=experts, num_experts_per_tok=params["moe"]["num_experts_per_tok"],
            rms_norm_eps=params["norm_eps"], rope_parameters={"rope_type": "default", "rope_theta": params["rope_theta"]}, sliding_window=None,
        )
        same._attn_implementation = "eager"
        model = transformers.MixtralForCausalLM(same).eval()
        state = {"model.embed_tokens.weight": tensors["tok_embeddings.weight"], "lm_head.weight": tensors["output.weight"], "model.norm.weight": tensors["norm.weight"]}
        for i in range(layers):
            source, target = f"layers.{i}", f"model.layers.{i}"
            state[f"{target}.input_layernorm.weight"] = tensors[f"{source}.attention_norm.weight"]
            state[f"{target}.post_attention_layernorm.weight"] = tensors[f"{source}.ffn_norm.weight"]
            for letter, count in (("q", heads), ("k", groups)):
                state[f"{target}.self_attn.{letter}_proj.weight"] = halves(tensors[f"{source}.attention.w{letter}.weight"], count)
            for letter in "vo":
                state[f"{target}.self_attn.{letter}_proj.weight"] = tensors[f"{source}.attention.w{letter}.weight"]
            of = lambda name: torch.stack([tensors[f"{source}.feed_forward.experts.{e}.{name}.weight"] for e in range(experts)])
            state[f"{target}.mlp.gate.weight"] = tensors[f"{source}.feed_forward.gate.weight"]
            state[f"{target}.mlp.experts.gate_up_proj"] = torch.cat([of("w1"), of("w3")], dim=1)
            state[f"{target}.mlp.experts.down_proj"] = of("w2")
        model.load_state_dict(state)
        return run_reference(model, ids, model.model.layers, model.model.norm)

    return entries, [], params["vocab_size"], forward


def mpt(config):
    width, layers, heads = config["d_model"], config["n_layers"], config["n_heads"]
    head, inner = width // heads, config["expansion_ratio"] * width
    entries = [entry("transformer.wte.weight", config["vocab_size"], width), entry("transformer.wpe.weight", config["max_seq_len"], width)]
    for i in range(layers):
        at = f"transformer.blocks.{i}"
        entries += norm(f"{at}.norm_1", width) + norm(f"{at}.norm_2", width)
        entries += linear(f"{at}.attn.Wqkv", width + 2 * head, width) + linear(f"{at}.attn.out_proj", width, width)
        entries += norm(f"{at}.attn.q_ln", width) + norm(f"{at}.attn.k_ln", head)
        entries += linear(f"{at}.ffn.up_proj", inner, width) + linear(f"{at}.ffn.down_proj", width, inner)
    entries += norm("transformer.norm_f", width)

    def forward(tensors, ids):
        get = lambda name: (tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        layer_norm = lambda x, name: F.layer_norm(x, x.shape[-1:], *get(name), eps=1e-5)
        tokens = len(ids)
        x = tensors["transformer.wte.weight"][ids] + tensors["transformer.wpe.weight"][:tokens]
        hidden, mask = [x], torch.full((tokens, tokens), -math.inf).triu(1)
        for i in range(layers):
            at = f"transformer.blocks.{i}"
            q, k, v = F.linear(layer_norm(x, f"{at}.norm_1"), *get(f"{at}.attn.Wqkv")).split([width, head, head], dim=-1)
            q, k = layer_norm(q, f"{at}.attn.q_ln").reshape(tokens, heads, head), layer_norm(k, f"{at}.attn.k_ln")
            scores = torch.einsum("ihd,jd->hij", q, k) / math.sqrt(head) + mask
            mixed = torch.einsum("hij,jd->ihd", scores.softmax(-1), v).reshape(tokens, width)
            x = x + F.linear(mixed, *get(f"{at}.attn.out_proj"))
            inside = F.gelu(F.linear(layer_norm(x, f"{at}.norm_2"), *get(f"{at}.ffn.up_proj")))
            x = x + F.linear(inside, *get(f"{at}.ffn.down_proj"))
            hidden.append(x)
        hidden.append(layer_norm(x, "transformer.norm_f"))
        return hidden, F.linear(hidden[-1], tensors["transformer.wte.weight"]) / math.sqrt(width)

    return entries, [], config["vocab_size"], forward


def mamba2(config):
    width, layers, ssm, attn = config["d_model"], config["n_layer"], config["ssm_cfg"], config["attn_cfg"]
    inner, state, groups = 2 * width, ssm["d_state"], ssm["ngroups"]
    heads, multiple = inner // ssm["headdim"], config["pad_vocab_size_multiple"]
    vocabulary = -(-config["vocab_size"] // multiple) * multiple
    head, queries, keys = attn["head_dim"], attn["num_heads"], attn["num_heads_kv"]
    network = -(-config["d_intermediate"] // 128) * 128
    rows = head * (queries + 2 * keys)
    table = entry("backbone.embedding.weight", vocabulary, width) | {"scale": 0.5}
    entries = [table] + norm("backbone.norm_f", width)
    special = {"A_log": (1.4, 1.4), "D": (0.3, 1.0), "dt_bias": (1.5, -3.0)}
    for i in range(layers):
        at = f"backbone.layers.{i}"
        entries += norm(f"{at}.norm", width) + norm(f"{at}.norm2", width)
        entries += [entry(f"{at}.mlp.fc1.weight", 2 * network, width), entry(f"{at}.mlp.fc2.weight", width, network)]
        columns = rows if i in config["attn_layer_idx"] else inner + 2 * groups * state
        entries += [entry(f"{at}.mixer.conv1d.weight", columns, 1, 4), entry(f"{at}.mixer.conv1d.bias", columns)]
        if i in config["attn_layer_idx"]:
            entries += linear(f"{at}.mixer.in_proj", rows, width) + [entry(f"{at}.mixer.out_proj.weight", width, queries * head)]
            continue
        entries += [entry(f"{at}.mixer.in_proj.weight", inner + columns + heads, width), entry(f"{at}.mixer.out_proj.weight", width, inner)]
        entries += [entry(f"{at}.mixer.{name}", heads) | dict(zip(("scale", "offset"), special[name])) for name in special]
        entries.append(entry(f"{at}.mixer.norm.weight", inner))

    def forward(tensors, ids):
        tokens = len(ids)
        layer_norm = lambda x, name: F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-5)
        project = lambda x, name: F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

        def convolve(x, at):
            weight, bias = tensors[f"{at}.conv1d.weight"], tensors[f"{at}.conv1d.bias"]
            return F.conv1d(F.pad(x.T[None], (3, 0)), weight, bias, groups=x.shape[1])[0].T

        def scan(x, at):
            z, x, steps = project(x, f"{at}.in_proj").split([inner, inner + 2 * groups * state, heads], dim=-1)
            x, b, c = F.silu(convolve(x, at)).split([inner, groups * state, groups * state], dim=-1)
            steps = F.softplus(steps + tensors[f"{at}.dt_bias"])
            x = x.reshape(tokens, heads, -1)
            b, c = (part.reshape(tokens, groups, state).repeat_interleave(heads // groups, dim=1) for part in (b, c))
            h, out = torch.zeros(heads, x.shape[-1], state), []
            for t in range(tokens):
                decay = (-tensors[f"{at}.A_log"].exp() * steps[t]).exp()[:, None, None]
                h = decay * h + (steps[t][:, None] * x[t])[..., None] * b[t][:, None]
                out.append((h * c[t][:, None]).sum(-1) + tensors[f"{at}.D"][:, None] * x[t])
            y = (torch.stack(out).reshape(tokens, inner) * F.silu(z)).reshape(tokens, groups, -1)
            y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)
            return project(y.reshape(tokens, inner) * tensors[f"{at}.norm.weight"], f"{at}.out_proj")

        def attend(x, at):
            q, k, v = convolve(project(x, f"{at}.in_proj"), at).split([queries * head, keys * head, keys * head], dim=-1)
            dims = attn["rotary_emb_dim"]
            angles = torch.arange(tokens)[:, None] / 10000.0 ** (torch.arange(0, dims, 2) / dims)
            cos, sin = angles.cos()[:, None], angles.sin()[:, None]

            def turned(x):
                first, second, rest = x.split([dims // 2, dims // 2, head - dims], dim=-1)
                return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)

            q, k, v = turned(q.reshape(tokens, queries, head)), turned(k.reshape(tokens, keys, head)), v.reshape(tokens, keys, head)
            k, v = (part.repeat_interleave(queries // keys, dim=1).transpose(0, 1) for part in (k, v))
            mixed = F.scaled_dot_product_attention(q.transpose(0, 1), k, v, is_causal=True)
            return project(mixed.transpose(0, 1).reshape(tokens, queries * head), f"{at}.out_proj")

        x = tensors["backbone.embedding.weight"][ids]
        hidden = [x]
        for i in range(layers):
            at = f"backbone.layers.{i}"
            mixer = attend if i in config["attn_layer_idx"] else scan
            x = x + mixer(layer_norm(x, f"{at}.norm"), f"{at}.mixer")
            inside, gate = project(layer_norm(x, f"{at}.norm2"), f"{at}.mlp.fc1").chunk(2, dim=-1)
            x = x + project(inside * F.silu(gate), f"{at}.mlp.fc2")
            hidden.append(x)
        hidden.append(layer_norm(x, "backbone.norm_f"))
        return hidden, F.linear(hidden[-1], tensors["backbone.embedding.weight"])

    tied = {"name": "lm_head.weight", "shape": table["shape"], "dtype": "F32", "same_as": table["name"]}
    return entries, [tied], config["vocab_size"], forward


def write(name, build):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    folder = GOLDENS / name
    config = json.loads(next(folder.glob("[cp]*.json")).read_text())
    entries, tied, vocabulary, forward = build(config)
    tensors = {item["name"]: formula.tensor_of(item, None) for item in entries}
    outputs = {}
    for record, length in enumerate(LENGTHS):
        ids = formula.input_ids(record, length, vocabulary, {0, 1, 2, 3})
        hidden, logits = forward(tensors, ids)
        outputs[f"{record}.input_ids"] = torch.tensor(ids)
        for i, state in enumerate(hidden):
            outputs[f"{record}.hidden.decoder." + ("norm" if i == len(hidden) - 1 else f"{i:03}")] = state.detach().contiguous()
        outputs[f"{record}.logits"] = logits.detach().contiguous()
    lines = [json.dumps(item) for item in sorted(entries + tied, key=lambda item: item["name"])]
    (folder / "tensors.json").write_text('{"format_version": 1, "tensors": [\n' + ",\n".join(lines) + "\n]}\n")
    save_file(outputs, folder / "expected.safetensors")


write("remote-falcon-RefinedWebModel-alibi", falcon)
write("remote-mixtral-consolidated", mixtral)
write("remote-mpt-remote-mqa-qkln", mpt)
write("remote-mamba2-attention", mamba2)

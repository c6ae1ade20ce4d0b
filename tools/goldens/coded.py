"""Weights in the codes that quantisers write, drawn by formula and decoded by the libraries that define them.

A variant says `"coded": {"scheme": NAME, "tensors": PATTERN, "config": {...}, ...}`: every tensor that the pattern fits is
replaced by the stored tensors of the scheme (bytes by formula, `raw`), and the model of the reference gets what `decode` makes
of them. `decode` is a library's own function where it runs on a processor of this kind; the others are written out from the
format's own specification, and say so.

`compare_codes.py` runs all of them, in more sizes than the goldens have.
"""

import ast
import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import torch

import formula

NUMPY = {"U8": np.uint8, "I8": np.int8, "I16": np.int16, "I32": np.int32, "U32": np.uint32, "F8_E4M3": np.uint8, "F8_E5M2": np.uint8, "F8_E8M0": np.uint8}
TORCH = {
    **{"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I16": torch.int16, "I32": torch.int32, "U32": torch.uint32},
    **{"I8": torch.int8, "U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu},
}


def raw(name, shape, dtype, mask=255, bits=0):
    """A tensor whose bytes are drawn: `mask` and `bits` for each byte of an element, or one for all."""
    return {"name": name, "shape": list(shape), "dtype": dtype, "raw": {"and": np.atleast_1d(mask).tolist(), "or": np.atleast_1d(bits).tolist()}}


def drawn(name, shape, dtype, scale, offset):
    return {"name": name, "shape": list(shape), "dtype": dtype, "scale": scale, "offset": offset, "kept": True}


def listed(name, shape, dtype, values):
    return {"name": name, "shape": list(shape), "dtype": dtype, "values": np.asarray(values).flatten().tolist(), "kept": True}


def stored(entry):
    """The tensor of an entry, as the file has it."""
    shape, dtype = entry["shape"], entry["dtype"]
    if "raw" in entry:
        size = np.dtype(NUMPY[dtype]).itemsize
        count = int(np.prod(shape, dtype=np.int64)) * size
        bits = (formula.stream(entry["name"], count) >> np.uint64(40)).astype(np.uint8)
        cycle = lambda values: np.resize(np.array(values, dtype=np.uint8), count)
        data = torch.from_numpy(((bits & cycle(entry["raw"]["and"])) | cycle(entry["raw"]["or"])).view(NUMPY[dtype]).reshape(shape).copy())
        return data.view(TORCH[dtype]) if dtype.startswith("F8") else data
    if "values" in entry:
        return torch.tensor(entry["values"], dtype=TORCH[dtype]).reshape(shape)
    # Other plain values are exact in bf16.
    return formula.round_to_bf16(formula.values(entry["name"], shape, entry["scale"], entry["offset"])).to(TORCH[dtype])


def module_of(package, path):
    """One module of a package that does not import as a whole."""
    name = f"{package}_{Path(path).stem}"
    if name not in sys.modules:
        folder = list(importlib.util.find_spec(package).submodule_search_locations)[0]
        spec = importlib.util.spec_from_file_location(name, f"{folder}/{path}")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def classes_of(package, path, *names):
    """Classes and functions of a module that does not import without a compiler."""
    folder = list(importlib.util.find_spec(package).submodule_search_locations)[0]
    tree = ast.parse(Path(folder, path).read_text())
    kept = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in names]
    found = {"torch": torch, "nn": torch.nn}
    annotations = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module(annotations + kept, []), path, "exec"), found)
    return found


def share(entries):
    """Lists that are the same are listed once."""
    first = {}
    for entry in entries:
        values = tuple(entry.get("values", ()))
        if entry.get("kept") and len(values) >= 16:
            other = first.setdefault((entry["dtype"], *entry["shape"], values), entry["name"])
            if other != entry["name"]:
                del entry["values"]
                entry["same_as"] = other


SCHEMES = {}


def scheme(function):
    SCHEMES[function.__name__] = function
    return function


# A scheme gets the module's name, the shape of its weight and options, and returns entries and a function from their tensors (by the
# end of the name behind the module) to the decoded weight.


def floats_of_8_bits(name, shape, options, ends=("weight", "weight_scale"), dtype=None):
    rows, columns = shape[-2:]
    block = options.get("scales")
    if isinstance(block, str):
        block = {"channel": (1, columns), "column": (rows, 1), "single": None}[block]
    grid = list(shape[:-2]) + [math.ceil(rows / block[0]), math.ceil(columns / block[1])] if block else options.get("scale_shape", [])
    kind = options.get("scale_dtype", "F32")
    dtype = dtype or options.get("dtype", "F8_E4M3")
    mask = {"F8_E4M3": 0xBF, "F8_E5M2": 0xBF, "I8": 0xFF}[dtype]  # no NaN, below 2
    size = {"F8_E4M3": 0.15, "F8_E5M2": 0.15, "I8": 0.002}[dtype]
    scale = f"{name}.{ends[1]}"
    scales = raw(scale, grid, kind, 3, 120) if kind in ("F8_E8M0", "U8") else drawn(scale, grid, kind, size / 2, size)
    entries = [raw(f"{name}.{ends[0]}", shape, dtype, mask), scales]
    if options.get("zeros"):
        entries.append(raw(f"{name}.weight_zero_point", grid, dtype, 7))

    def decode(tensors):
        # From the formats' specification: a code times the scale of its block, in f32.
        codes, scales = tensors[ends[0]].float(), tensors[ends[1]]
        scales = torch.ldexp(torch.ones(()), scales.int() - 127) if scales.dtype == torch.uint8 else scales.float()
        spread = lambda grid: grid.reshape([-1, 1] if grid.numel() == 1 else list(grid.shape))
        if block:
            wide = lambda grid: grid.repeat_interleave(block[0], -2)[..., :rows, :].repeat_interleave(block[1], -1)[..., :columns]
        else:
            wide = spread
        zeros = wide(tensors["weight_zero_point"].float()) if options.get("zeros") else 0.0
        return (codes - zeros) * wide(scales)

    return entries, decode


@scheme
def fp8(name, shape, options):
    return floats_of_8_bits(name, shape, options, ends=("weight", options.get("end", "weight_scale_inv")))


@scheme
def compressed_bytes(name, shape, options):
    """int-quantized and float-quantized of compressed-tensors, by its own `dequantize`."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    entries, ours = floats_of_8_bits(name, shape, options)

    def decode(tensors):
        args = QuantizationArgs(**options["weights"])
        zeros = tensors.get("weight_zero_point")
        scale = tensors["weight_scale"].float()
        found = dequantize(tensors["weight"], scale, None if zeros is None else zeros, args=args, dtype=torch.float32)
        assert torch.allclose(found, ours(tensors), rtol=1e-6, atol=0), name
        return found

    return entries, decode


@scheme
def compressed_packed(name, shape, options):
    """pack-quantized of compressed-tensors, by its own `unpack_from_int32` and `dequantize`."""
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    rows, columns = shape
    weights = options["weights"]
    bits, group = weights["num_bits"], weights.get("group_size") or columns
    groups = math.ceil(columns / group)
    entries = [
        raw(f"{name}.weight_packed", [rows, math.ceil(columns * bits / 32)], "I32"),
        drawn(f"{name}.weight_scale", [rows, groups], options.get("scale_dtype", "BF16"), 0.1 / 2**bits, 0.5 / 2**bits),
        listed(f"{name}.weight_shape", [2], "I64", shape),
    ]
    if not weights.get("symmetric", True):
        entries.append(raw(f"{name}.weight_zero_point", [math.ceil(rows * bits / 32), groups], "I32"))
    if "order" in options:
        order = [-1] * columns if options["order"] == "none" else (np.random.default_rng(columns).permutation(columns) // group).tolist()
        entries.append(listed(f"{name}.weight_g_idx", [columns], "I32", order))

    def decode(tensors):
        codes = unpack_from_int32(tensors["weight_packed"], bits, torch.Size(shape))
        zeros = tensors.get("weight_zero_point")
        zeros = None if zeros is None else unpack_from_int32(zeros, bits, torch.Size([rows, groups]), packed_dim=0)
        scale = tensors["weight_scale"].float()
        order = tensors.get("weight_g_idx")
        if order is not None and (order >= 0).all():
            # The library has dropped this: its own formula, with a column's group in place of its place.
            offset = 0 if zeros is None else zeros.float()[:, order.long()]
            return (codes.float() - offset) * scale[:, order.long()]
        return dequantize(codes, scale, zeros, args=QuantizationArgs(**weights), dtype=torch.float32)

    return entries, decode


def e2m1(codes):
    """From the OCP MX specification: two numbers of a byte, the low half first."""
    table = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    table = torch.cat([table, -table])
    codes = codes.view(torch.uint8).long()
    return torch.stack([table[codes & 15], table[codes >> 4]], dim=-1).flatten(-2)


@scheme
def mxfp4_experts(name, shape, options):
    """gpt-oss: by transformers' own conversion, which rounds to bf16; the numbers are exact in it."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    experts, columns, rows = shape
    entries = [raw(f"{name}_blocks", [experts, rows, columns // 32, 16], "U8"), raw(f"{name}_scales", [experts, rows, columns // 32], "U8", 3, 120)]

    def decode(tensors):
        found = convert_moe_packed_tensors(tensors["_blocks"], tensors["_scales"], dtype=torch.bfloat16).float()
        return found if list(found.shape) == list(shape) else found.transpose(1, 2)

    return entries, decode


@scheme
def nvfp4(name, shape, options):
    """From the formats' specification: NVFP4 of Model Optimizer (`weight_scale_2` multiplies) and of compressed-tensors
    (`weight_global_scale` divides), whose own unpacking is compared."""
    from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8

    rows, columns = shape
    divides = options["writer"] == "compressed-tensors"
    codes, whole = ("weight_packed", "weight_global_scale") if divides else ("weight", "weight_scale_2")
    entries = [
        raw(f"{name}.{codes}", [rows, columns // 2], "U8"),
        raw(f"{name}.weight_scale", [rows, columns // 16], "F8_E4M3", 0x3F, 0x20),
        listed(f"{name}.{whole}", [1] if divides else [], "F32", [12.5] if divides else [0.09375]),
    ]

    def decode(tensors):
        numbers = e2m1(tensors[codes])
        assert torch.equal(numbers, unpack_fp4_from_uint8(tensors[codes], rows, columns, dtype=torch.float32))
        scale = tensors["weight_scale"].float()
        scale = scale / tensors[whole] if divides else scale * tensors[whole]
        return numbers * scale.repeat_interleave(16, -1)

    return entries, decode


@scheme
def mxfp4(name, shape, options):
    """mxfp4-pack-quantized of compressed-tensors, from the OCP MX specification."""
    rows, columns = shape
    entries = [raw(f"{name}.weight_packed", [rows, columns // 2], "U8"), raw(f"{name}.weight_scale", [rows, columns // 32], "U8", 3, 120)]

    def decode(tensors):
        scale = torch.ldexp(torch.ones(()), tensors["weight_scale"].int() - 127)
        return e2m1(tensors["weight_packed"]) * scale.repeat_interleave(32, -1)

    return entries, decode


@scheme
def gptq(name, shape, options):
    """By auto-gptq's torch path, which multiplies the identity."""
    rows, columns = shape
    bits, group = options["bits"], options.get("group") or columns
    groups = math.ceil(columns / group)
    middle = 2 ** (bits - 1)
    words = sum(1 << (bits * at) for at in range(32 // bits))
    entries = [
        raw(f"{name}.qweight", [columns * bits // 32, rows], "I32"),
        drawn(f"{name}.scales", [groups, rows], "F16", 0.1 / 2**bits, 0.5 / 2**bits),
    ]
    if "zeros" in options:  # every zero point is this
        word = words * options["zeros"]
        word -= (word >> 31) << 32
        entries.append(listed(f"{name}.qzeros", [groups, rows * bits // 32], "I32", [word] * (groups * rows * bits // 32)))
    else:
        entries.append(raw(f"{name}.qzeros", [groups, rows * bits // 32], "I32", options.get("zero_mask", 255)))
    order = np.arange(columns) // group
    if options.get("order") == "act":
        order = np.random.default_rng(columns).permutation(columns) // group
    if options.get("order") != "absent":
        entries.append(listed(f"{name}.g_idx", [columns], "I32", order))

    def decode(tensors):
        layer = module_of("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py").QuantLinear(bits, group, columns, rows, bias=False)
        layer.autogptq_cuda_available = False
        for end in ("qweight", "scales", "qzeros"):
            setattr(layer, end, tensors[end].clone())
        layer.scales = layer.scales.float()
        layer.g_idx = torch.from_numpy(order).int()
        ours = by_hand(tensors)
        wraps = options.get("version") != "gptq_v2" and (unpacked(tensors["qzeros"], bits, 1) == 2**bits - 1).any()
        if options.get("version") != "gptq_v2" and "stored_as_is" not in options and not wraps:
            found = layer(torch.eye(columns)).float().T
            assert torch.allclose(found, ours, rtol=1e-6, atol=1e-9), name
        return ours

    def unpacked(tensor, bits, axis):
        """A little-endian stream of bits along an axis."""
        words = tensor.numpy().view(np.uint32)
        words = words if axis else words.T
        stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
        codes = stream.reshape(words.shape[0], -1, bits) @ (1 << np.arange(bits))
        return torch.from_numpy((codes if axis else codes.T).copy())

    def by_hand(tensors):
        zeros = unpacked(tensors["qzeros"], bits, 1)
        if options.get("version") != "gptq_v2" and "stored_as_is" not in options:
            zeros = (zeros + 1) % 2**bits
        codes = unpacked(tensors["qweight"], bits, 0)
        place = torch.from_numpy(order)
        return ((codes - zeros[place]).float() * tensors["scales"].float()[place]).T

    return entries, decode


@scheme
def awq(name, shape, options):
    """By autoawq's `dequantize_gemm`."""
    module = module_of("awq", "utils/packing_utils.py")
    rows, columns = shape
    group = options["group"]
    entries = [
        raw(f"{name}.qweight", [columns, rows // 8], "I32"),
        raw(f"{name}.qzeros", [columns // group, rows // 8], "I32"),
        drawn(f"{name}.scales", [columns // group, rows], "F16", 0.006, 0.03),
        *scales_of_activation(name, columns, options),
    ]

    def decode(tensors):
        return module.dequantize_gemm(tensors["qweight"], tensors["qzeros"], tensors["scales"].float(), 4, group).T

    return entries, decode


def scales_of_activation(name, columns, options):
    """Those of the activation in front of a module, where there are some: `prepare` puts autoawq's own module into the model."""
    place, _, own = name.rpartition(".")
    if own != options.get("behind"):
        return []
    return [drawn(f"{place}.{options['activation']}.scales", [columns], "F16", 0.3, 1.0)]


@scheme
def awq_gemv(name, shape, options):
    """By hand; autoawq's `WQLinear_GEMV.from_linear` packs the numbers to the same words."""
    library = classes_of("awq", "modules/linear/gemv.py", "make_divisible", "calculate_zeros_width", "WQLinear_GEMV")
    rows, columns = shape
    group = options["group"]
    width = library["calculate_zeros_width"](columns, group)
    entries = [
        raw(f"{name}.qweight", [rows, columns // 8], "I32"),
        raw(f"{name}.qzeros", [rows, width], "I32"),
        drawn(f"{name}.scales", [rows, width * 8], "F16", 0.006, 0.03),
        *scales_of_activation(name, columns, options),
    ]

    def decode(tensors):
        halves = lambda words: torch.stack([words >> (4 * at) & 15 for at in range(8)], -1).flatten(-2)
        codes, zeros = halves(tensors["qweight"]), halves(tensors["qzeros"])[:, : columns // group]
        scales = tensors["scales"][:, : columns // group]
        spread = lambda numbers: numbers.float().repeat_interleave(group, -1)
        found = (codes.float() - spread(zeros)) * spread(scales)
        linear = torch.nn.Linear(columns, rows, bias=False)
        linear.weight.data = found
        packed = library["WQLinear_GEMV"].from_linear(linear, 4, group, scales=scales.float(), zeros=zeros)
        assert torch.equal(packed.qweight, tensors["qweight"]), name
        return found

    return entries, decode


@scheme
def bitsandbytes_4bit(name, shape, options):
    """By bitsandbytes' plain implementation. Its fast one for processors is wrong where blocks cross rows: there its own quantisation
    does not come back either."""
    from bitsandbytes import functional
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute

    kind, block = options["kind"], options.get("block", 64)
    count = math.prod(shape)
    blocks = math.ceil(count / block)
    table = functional.get_4bit_type(kind, device="cpu")
    state = {"quant_type": kind, "blocksize": block, "dtype": "float32", "shape": list(shape)}
    entries = [raw(f"{name}.weight", [count // 2, 1], "U8"), listed(f"{name}.weight.quant_map", [16], "F32", table.tolist())]
    if options.get("double"):
        nested = functional.create_dynamic_map()
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.171875}
        entries += [
            raw(f"{name}.weight.absmax", [blocks], "U8"),
            drawn(f"{name}.weight.nested_absmax", [math.ceil(blocks / 256)], "F32", 0.02, 0.1),
            listed(f"{name}.weight.nested_quant_map", [256], "F32", nested.tolist()),
        ]
    else:
        entries.append(drawn(f"{name}.weight.absmax", [blocks], "F32", 0.1, 0.25))
    text = json.dumps(state).encode()
    entries.append(listed(f"{name}.weight.quant_state.bitsandbytes__{kind}", [len(text)], "U8", list(text)))

    def decode(tensors):
        absmax = tensors["weight.absmax"]
        if options.get("double"):
            nested = functional.QuantState(tensors["weight.nested_absmax"], blocksize=256, code=tensors["weight.nested_quant_map"], dtype=torch.float32)
            absmax = functional.dequantize_blockwise(absmax, nested) + state["nested_offset"]
        found = _dequantize_4bit_compute(tensors["weight"].reshape(-1), absmax, tensors["weight.quant_map"], block, shape, torch.float32)
        if shape[1] % block == 0:
            quantised = functional.QuantState(absmax, shape=torch.Size(shape), code=tensors["weight.quant_map"], blocksize=block, quant_type=kind, dtype=torch.float32)
            assert torch.allclose(functional.dequantize_4bit(tensors["weight"], quantised), found, rtol=1e-6, atol=0), name
        return found

    return entries, decode


@scheme
def bitsandbytes_8bit(name, shape, options):
    """By bitsandbytes' `int8_vectorwise_dequant` on the processor."""
    from bitsandbytes import functional

    entries = [
        raw(f"{name}.weight", shape, "I8"),
        drawn(f"{name}.SCB", [shape[0]], "F32", 0.1, 0.3),
        listed(f"{name}.weight_format", [], "U8", [0]),
    ]
    return entries, lambda tensors: functional.int8_vectorwise_dequant(tensors["weight"], tensors["SCB"])


@scheme
def mlx(name, shape, options):
    """By mlx's `dequantize` on the processor."""
    import mlx.core as mx

    *leading, rows, columns = shape
    mode, bits, group = options.get("mode", "affine"), options.get("bits", 4), options.get("group", 64)
    scales = [*leading, rows, columns // group]
    entries = [raw(f"{name}.weight", [*leading, rows, columns * bits // 32], "U32")]
    if mode == "affine":
        entries += [drawn(f"{name}.scales", scales, "BF16", 0.1 / 2**bits, 0.5 / 2**bits), drawn(f"{name}.biases", scales, "BF16", 0.05, -0.25)]
    else:
        entries.append(raw(f"{name}.scales", scales, "U8", *((3, 120) if mode == "mxfp4" else (0x07, 0x10))))

    def decode(tensors):
        array = lambda tensor: mx.array(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy())
        biases = array(tensors["biases"]) if "biases" in tensors else None
        options = {"group_size": group, "bits": bits, "mode": mode}
        if mode != "affine":
            options["dtype"] = mx.float32
        found = mx.dequantize(array(tensors["weight"]), array(tensors["scales"]), biases, **options)
        return torch.from_numpy(np.array(found.astype(mx.float32)))

    return entries, decode


@scheme
def mlx_experts(name, shape, options):
    """Experts as mlx-lm stacks them: what is in `switch_mlp` is written for the first one."""
    expert = int(re.search(r"experts\.(\d+)\.", name)[1])
    stacked = re.sub(r"experts\.\d+\.", "switch_mlp.", name)
    for own, other in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
        stacked = re.sub(rf"\.{own}$", f".{other}", stacked)
    entries, decode = mlx(stacked, [options["experts"], *shape], options)

    def own(_):
        return decode({entry["name"].removeprefix(f"{stacked}."): stored(entry) for entry in entries})[expert]

    return entries if expert == 0 else [], own


@scheme
def hqq(name, shape, options):
    """By HQQ's `BitPack`, and the one line of its `Quantizer.dequantize`."""
    pack = module_of("hqq", "core/bitpack.py").BitPack
    rows, columns = shape
    bits, axis, group = options["bits"], options.get("axis", 1), options["group"]
    groups = rows * columns // group
    height, width = (groups, group) if axis == 1 else (group, groups)
    per = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}[bits]
    packing = "3bit_32" if bits == 3 else f"{bits}bit_u8"
    text = lambda text: [ord(letter) for letter in text]
    numbers = [groups, 1] if axis == 1 else [1, groups]
    entries = [
        raw(f"{name}.W_q", [math.ceil(height / per), width], "I32" if bits == 3 else "U8", *((255, 0) if bits != 3 else ([255, 255, 255, 63], 0))),
        drawn(f"{name}.scale", numbers, options.get("scale_dtype", "F16"), 0.1 / 2**bits, 0.5 / 2**bits),
        drawn(f"{name}.zero", numbers, options.get("scale_dtype", "F16"), 1.0, 2 ** (bits - 1)),
        listed(f"{name}.shape", [2], "I64", shape),
        *(listed(f"{name}.{end}", [], "I32", [value]) for end, value in (("nbits", bits), ("axis", axis), ("group_size", group))),
        *(listed(f"{name}.{end}", [], "U8", [0]) for end in ("quant_scale", "quant_zero", "view_as_float", "offload_meta", "round_zero")),
        *(listed(f"{name}.{end}", [], "U8", [1]) for end in ("encoded_state_dict", "stores_quant_config", "channel_wise", "optimize")),
        *(listed(f"{name}.{end}", [len(value)], "U8", text(value)) for end, value in (("packing", packing), ("compute_dtype", "torch.float16"), ("unpack_view_dtype", "torch.uint8"))),
    ]

    def decode(tensors):
        codes = getattr(pack, f"unpack_{packing}")(tensors["W_q"], dtype=torch.float32)[:height]
        return ((codes - tensors["zero"].float()) * tensors["scale"].float()).reshape(shape)

    return entries, decode


@scheme
def torchao(name, shape, options):
    """By torchao's `dequantize` of the tensor that its own `unflatten_tensor_state_dict` makes."""
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    rows, columns = shape
    block = [whole if side == "all" else side for side, whole in zip(options["block"], shape)]
    kind = options["kind"]
    dtype = "F8_E4M3" if kind == "Float8Tensor" else "I8"
    grid = [rows // block[0], columns // block[1]]
    size = 0.15 if dtype == "F8_E4M3" else 0.002
    entries = [
        raw(f"{name}._weight_qdata", shape, dtype, 0xBF if dtype == "F8_E4M3" else 0xFF),
        drawn(f"{name}._weight_scale", grid, options.get("scale_dtype", "F32"), size / 2, size),
    ]
    named = lambda kind, data: {"_type": kind, "_data": data}
    attributes = {"block_size": block, "dtype": named("torch.dtype", "float32")}
    if kind == "IntxUnpackedToInt8Tensor":
        entries.append(raw(f"{name}._weight_zero_point", grid, "I8", 7))
        attributes |= {"target_dtype": named("torch.dtype", "int8"), "activation_quantization": None}
    names = [entry["name"].split("._weight_")[1] for entry in entries]

    def decode(tensors):
        flat = {f"{name}.{end}": tensor.float() if tensor.dtype == torch.bfloat16 else tensor for end, tensor in tensors.items()}
        said = {"_type": kind, "_data": attributes, "_tensor_data_names": names}
        metadata = {"tensor_names": json.dumps([f"{name}.weight"]), f"{name}.weight": json.dumps(said)}
        made, left = unflatten_tensor_state_dict(flat, metadata)
        assert not left
        return made[f"{name}.weight"].dequantize().float()

    return entries, decode


@scheme
def torchao_int4(name, shape, options):
    """`Int4Tensor` of torchao, which has no way back on a processor. Written out from what makes its parts (`int4_row_quantize_zp` and
    `pack_int4` of fbgemm's gen_ai): codes with signs, the lower half of a byte first, times the scale, plus the zero point."""
    rows, columns = shape
    groups = columns // options["group"]
    kind = options.get("scale_dtype", "BF16")
    entries = [
        raw(f"{name}._weight_qdata", [rows, columns // 2], "I8"),
        drawn(f"{name}._weight_scale", [groups, rows], kind, 0.01, 0.03),
        drawn(f"{name}._weight_zero_point", [groups, rows], kind, 0.05, 0.0),
    ]

    def decode(tensors):
        bytes = tensors["_weight_qdata"].int()
        codes = torch.stack([((bytes & 15) ^ 8) - 8, bytes >> 4], dim=-1).flatten(-2)
        spread = lambda numbers: numbers.float().T.repeat_interleave(options["group"], -1)
        return codes.float() * spread(tensors["_weight_scale"]) + spread(tensors["_weight_zero_point"])

    return entries, decode


@scheme
def quanto(name, shape, options):
    """By the `dequantize` of optimum-quanto's own tensors, in f32."""
    from optimum.quanto import tensor as library

    rows, columns = shape
    kind, size = options["kind"], options.get("scale_dtype", "BF16")
    beside = [listed(f"{name}.{end}_scale", [], "F32", [1.0]) for end in ("input", "output")]
    if kind in ("qint8", "qfloat8_e4m3fn", "qfloat8_e5m2"):
        dtype = {"qint8": "I8", "qfloat8_e4m3fn": "F8_E4M3", "qfloat8_e5m2": "F8_E5M2"}[kind]
        scale = 0.002 if kind == "qint8" else 0.15
        entries = [raw(f"{name}.weight._data", shape, dtype, 0xFF if kind == "qint8" else 0xBF), drawn(f"{name}.weight._scale", [rows, 1], size, scale / 2, scale)]

        def decode(tensors):
            parts = tensors["weight._data"], tensors["weight._scale"].float()
            return library.WeightQBytesTensor(library.qtypes[kind], 0, torch.Size(shape), (columns, 1), *parts, None).dequantize()

        return entries + beside, decode

    bits = int(kind[-1])
    # As the library's modules choose it.
    group = next((size for size in (128, 96, 64, 32) if columns > 128 and columns % size == 0), None)
    width = group or columns
    groups = rows * columns // width
    numbers = [groups, 1]
    entries = [
        raw(f"{name}.weight._data._data", [math.ceil(groups * bits / 8), width], "U8"),
        drawn(f"{name}.weight._scale", numbers, size, 0.1 / 2**bits, 0.5 / 2**bits),
        drawn(f"{name}.weight._shift", numbers, size, 0.05, 0.25),
    ]

    def decode(tensors):
        packed = library.packed.PackedTensor(tensors["weight._data._data"], bits, torch.Size([groups, width]), (width, 1))
        parts = tensors["weight._scale"].float(), tensors["weight._shift"].float()
        return library.WeightQBitsTensor(library.qtypes[kind], 0, group, torch.Size(shape), (columns, 1), packed, *parts).dequantize()

    return entries + beside, decode


@scheme
def aqlm(name, shape, options):
    """By aqlm's `_dequantize_weight`, in f32."""
    unpack, dequantize = (getattr(module_of("aqlm", "utils.py"), name) for name in ("unpack_int_data", "_dequantize_weight"))
    rows, columns = shape
    (high, wide), books, bits = options.get("group", (1, 8)), options["books"], options["bits"]
    entries = [
        raw(f"{name}.codes", [rows // high, columns // wide, books], "I16" if bits > 8 else "I8"),
        drawn(f"{name}.codebooks", [books, 2**bits, high, wide], "F16", 0.2, 0.0),
        drawn(f"{name}.scales", [rows // high, 1, 1, 1], "F16", 0.3, 0.9),
    ]

    def decode(tensors):
        return dequantize(unpack(tensors["codes"], bits), tensors["codebooks"].float(), tensors["scales"].float())

    return entries, decode


@scheme
def quark_fp4(name, shape, options):
    """MXFP4 by Quark's `Pack_fp4`; its scales are powers of two (OCP MX)."""
    pack = classes_of("quark", "torch/utils/pack.py", "PackMethod", "Pack_fp4")["Pack_fp4"]("per_group", "fp4")
    rows, columns = shape
    entries = [raw(f"{name}.weight", [rows, columns // 2], "U8"), raw(f"{name}.weight_scale", [rows, columns // 32], "U8", 3, 120)]

    def decode(tensors):
        numbers = e2m1(tensors["weight"])
        assert torch.equal(numbers, pack.unpack(tensors["weight"], False)), name
        return numbers * torch.ldexp(torch.ones(()), tensors["weight_scale"].int() - 127).repeat_interleave(32, -1)

    return entries, decode


@scheme
def fp4_experts(name, shape, options):
    """Floats of 4 bits among those of 8, by the reference's own `Fp8Dequantize`."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    rows, columns = shape
    entries = [raw(f"{name}.weight", [rows, columns // 2], "I8"), raw(f"{name}.{options.get('end', 'scale')}", [rows, columns // 32], "F8_E8M0", 3, 120)]

    def decode(tensors):
        numbers = Fp8Dequantize._unpack_fp4(Fp8Dequantize.__new__(Fp8Dequantize), tensors["weight"])
        assert torch.equal(numbers, e2m1(tensors["weight"].view(torch.uint8))), name
        scales = tensors[options.get("end", "scale")].float()
        return numbers * scales.repeat_interleave(32, -1)

    return entries, decode


@scheme
def bitnet(name, shape, options):
    """By the reference's own `unpack_weights`; the module's own rounding of its inputs is what `generate.py` runs."""
    from transformers.integrations.bitnet import unpack_weights

    torch._dynamo.config.disable = True
    rows, columns = shape
    # Two bits of 0, 1 and 2 alone: never both set.
    codes = raw(f"{name}.weight", [rows // 4, columns], "U8", [0xA6, 0x59, 0x66, 0x99, 0x55, 0xAA, 0x69])
    entries = [codes, drawn(f"{name}.weight_scale", [1], options.get("scale_dtype", "BF16"), 2.0, 9.0)]

    def decode(tensors):
        unpacked = unpack_weights(tensors["weight"], torch.float32)
        scale = tensors["weight_scale"].float()
        return unpacked * scale if options.get("multiplies") else unpacked / scale

    return entries, decode


def prepare(options, model):
    """Makes the model's modules do what those of the code do beside decoding: BitNet rounds the inputs of its products, AWQ scales
    activations."""
    if "behind" in options:
        scaled = module_of("awq", "modules/act.py").ScaledActivation
        for name, module in list(model.named_modules()):
            if hasattr(module, options["behind"]) and hasattr(module, options["activation"]):
                columns = getattr(module, options["behind"]).in_features
                (entry,) = scales_of_activation(f"{name}.{options['behind']}", columns, options)
                activation = scaled(getattr(module, options["activation"]), stored(entry).float())
                # No parameter of the reference's class.
                activation.scales = activation._parameters.pop("scales").data
                setattr(module, options["activation"], activation)
    if options["scheme"] != "bitnet":
        return
    from transformers.integrations.bitnet import ActQuant

    def rounded(module, inputs):
        scaled = inputs[0] * 127 / inputs[0].abs().amax(-1, keepdim=True)
        # What lies so near to a tie may be rounded to either side by another order of additions.
        nearest = ((scaled % 1) - 0.5).abs().min().item()
        assert nearest > 3e-5 or options.get("ties"), f"an input is {nearest} from where it is rounded to the other side"
        return ActQuant.apply(inputs[0]), *inputs[1:]

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and re.search(options["tensors"], f"{name}.weight"):
            module.register_forward_pre_hook(rounded)


def coded(options, name, shape):
    """Entries in place of a tensor, and what they decode to."""
    own = options
    for pattern, more in options.get("also", {}).items():
        if re.search(pattern, name):
            own = {**options, **more}
    module = name if own["scheme"] == "mxfp4_experts" else name.removesuffix(".weight")
    shape = shape[::-1] if own.get("upright") else shape
    entries, decode = SCHEMES[own["scheme"]](module, shape, own)
    tensors = {entry["name"].removeprefix(module).removeprefix("."): stored(entry) for entry in entries}
    numbers = decode(tensors).to(torch.float32)
    assert list(numbers.shape) == list(shape), (name, numbers.shape, shape)
    return entries, (numbers.T if own.get("upright") else numbers).contiguous()

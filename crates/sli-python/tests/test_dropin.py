"""The interface of the original specification."""

from __future__ import annotations

import json
import shutil
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import sli

QUICK = {"memory": "1GiB", "compute": "f32", "progress": False}


@pytest.fixture(scope="module")
def config(model):
    return json.loads((model / "config.json").read_text())


def test_families_are_detected():
    expected = {
        "llama": ("llama", "model.layers.3."),
        "qwen2": ("llama", "model.layers.3."),
        "gpt2": ("gpt", "transformer.h.3."),
        "chatglm": ("chatglm", "transformer.encoder.layers.3."),
        "t5": ("t5", "transformer.decoder.block.3."),
        "bloom": ("bloom", "transformer.h.3."),
        "opt": ("opt", "model.decoder.layers.3."),
        "mamba": ("mamba", "backbone.layers.3."),
        "mixtral": ("moe", "model.layers.3."),
        "bert": ("encoder", "bert.encoder.layer.3."),
    }
    registry = sli.ArchitectureRegistry()
    for model_type, (family_id, prefix) in expected.items():
        for config in ({"model_type": model_type}, SimpleNamespace(model_type=model_type)):
            family = registry.detect_family(config)
            assert family.family_id == family_id
            assert family.get_layer_prefix(3, config) == prefix
            assert family.matches(config)
    assert registry.detect_family({"architectures": ["MistralForCausalLM"]}).family_id == "llama"
    named = {"architectures": ["OPTForCausalLM"]}
    assert registry.detect_family(named).get_layer_prefix(3, named) == "model.decoder.layers.3."
    rows = [row for row in sli.architectures() if row["supported"]]
    for row in rows:
        for name in row["classes"]:
            alone = {"architectures": [name]}
            family = registry.detect_family(alone)
            try:
                prefix = family.get_layer_prefix(3, alone)
            except sli.UnsupportedArchitectureError as error:
                assert "model_type" in error.hint
                continue
            prefixes = {other["layer_prefix"].format(3) for other in rows if name in other["classes"]}
            assert prefix in prefixes, name
    listed = [row["model_type"] for row in rows]
    claimed = [name for family in registry.families() for name in family.model_types]
    assert sorted(claimed) == sorted(listed)
    with pytest.raises(sli.UnsupportedArchitectureError, match="lama") as caught:
        registry.detect_family({"model_type": "lama"})
    assert "llama" in caught.value.hint
    assert isinstance(caught.value, ValueError)


def test_names_go_both_ways(config):
    mapper = sli.WeightNameMapper(sli.ArchitectureRegistry.detect_family(config), config)
    assert mapper.normalize_weight_name("model.layers.12.self_attn.q_proj.weight") == "self_attn.q_proj.weight"
    assert mapper.normalize_weight_name("model.layers.12.mlp.up_proj.weight", 1) == "model.layers.12.mlp.up_proj.weight"
    assert mapper.normalize_weight_name("lm_head.weight") == "lm_head.weight"
    assert mapper.denormalize_weight_name("mlp.up_proj.weight", 7) == "model.layers.7.mlp.up_proj.weight"
    assert mapper.layer_of("model.layers.12.mlp.up_proj.weight") == 12
    mapping = sli.UniversalLayerFactory.get_weight_mapping(config, 2)
    assert mapping["self_attn.q_proj.weight"] == "model.layers.2.self_attn.q_proj.weight"
    assert len(mapping) == 9
    assert sli.UniversalLayerFactory.get_weight_prefix(config, 2) == "model.layers.2."
    with pytest.raises(sli.UsageError):
        sli.UniversalLayerFactory.get_weight_mapping(config, 6)


def test_a_layer_is_loaded_and_run_alone(model, config, texts):
    loader = sli.UniversalWeightLoader(model)
    assert loader.discover_format() == "safetensors"
    family = sli.ArchitectureRegistry.detect_family(config)
    results = sli.run(model, texts, take="hidden", **QUICK)
    for number in (0, 3, 5):
        weights = loader.load_layer_weights(number, family)
        assert set(weights) == set(sli.UniversalLayerFactory.get_weight_mapping(config, number))
        layer = sli.UniversalLayerFactory.create_layer(config, number)
        assert layer.load_state_dict(weights) == ([], [])
        before, after = (results.hidden(place)["2"] for place in (number, number + 1))
        out = layer(before, memory="1GiB")
        assert out.shape == after.shape and out.dtype == np.float32
        assert np.abs(out - after).max() <= 1e-5 * np.abs(after).max()
    with pytest.raises(sli.UsageError, match="missing"):
        layer.load_state_dict({"mlp.up_proj.weight": weights["mlp.up_proj.weight"]})
    assert layer.load_state_dict({"other": np.zeros(1)}, strict=False)[1] == ["other"]
    with pytest.raises(sli.UsageError, match="layer 6"):
        loader.load_layer_weights(6)
    with pytest.raises(sli.UsageError, match="layer 6"):
        sli.UniversalLayerFactory.create_layer(config, 6)
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.array(before)).unsqueeze(0)
    assert torch.allclose(layer(tensor, memory="1GiB")[0], torch.from_numpy(out))


def test_experts():
    mixtral = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    handler = sli.MoEHandler(mixtral)
    assert handler.config == sli.MoEConfig(4, 2, 0, "block_sparse_moe.experts.{expert}.")
    assert handler.get_expert_weight_pattern(1, 3) == "block_sparse_moe.experts.3."
    one = [0.1, 0.5, 0.4, 0.0]
    assert [handler.should_load_expert(0, expert, one) for expert in range(4)] == [False, True, True, False]
    many = np.array([[0.9, 0.1, 0, 0], [0, 0, 0.2, 0.8]])
    assert [handler.should_load_expert(0, expert, many) for expert in range(4)] == [True] * 4
    assert not handler.should_load_expert(0, 4, one)
    with pytest.raises(sli.UsageError, match="shape"):
        handler.should_load_expert(0, 0, [0.5, 0.5])
    assert sli.MoEHandler.detect_from_config(mixtral)
    assert sli.MoEHandler.detect_from_architecture({"model_type": "qwen3_moe"})
    assert sli.MoEHandler.detect_from_weights(["model.layers.0.mlp.experts.0.up_proj.weight"])
    assert not sli.MoEHandler.is_moe({"model_type": "llama"}, ["model.layers.0.mlp.up_proj.weight"])
    with pytest.raises(sli.UsageError):
        sli.MoEHandler({"model_type": "llama"})


def test_an_integrator_runs(model, texts, tmp_path):
    with pytest.warns(sli.SLIWarning, match="cuda"):
        integrator = sli.UniversalSLIIntegrator(str(model), output_dir=str(tmp_path / "out"), **QUICK)
    results = integrator.run_sli(texts)
    assert results.path == str(tmp_path / "out")
    assert {"profile", "scores"} <= set(results.tables)
    legacy = sli.SequentialLayerIntegrator(str(model), str(tmp_path / "legacy"), device="cpu", **QUICK)
    assert legacy.run_sli(texts).scores["sum_logprob"] == results.scores["sum_logprob"]
    with pytest.warns(sli.SLIWarning, match="trust_remote_code"):
        sli.UniversalSLIIntegrator(str(model), device="cpu", trust_remote_code=True)
    other = tmp_path / "gpt"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(sli.UnsupportedArchitectureError, match="gpt"):
        sli.SequentialLayerIntegrator(str(other), device="cpu")


def rename(source, target, names):
    """A model whose weights have other names, as a model type of its own."""
    shutil.copytree(source, target)
    data = (source / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header = {names(name): entry for name, entry in header.items()}
    text = json.dumps(header).encode()
    (target / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    config = json.loads((source / "config.json").read_text())
    config.update(model_type="own_llama", architectures=["OwnForCausalLM"])
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_a_registered_family_runs(model, texts, tmp_path):
    def names(name):
        return name.replace("model.layers.", "body.block.").replace("model.embed_tokens", "words").replace("model.norm", "last")

    own = rename(model, tmp_path / "own", names)
    with pytest.raises(sli.UnsupportedArchitectureError):
        sli.UniversalSLIIntegrator(str(own), device="cpu")

    @sli.ArchitectureRegistry.register
    class Own(sli.ArchitectureFamily):
        family_id = "own"
        model_types = ("own_llama",)

        def get_layer_prefix(self, layer_idx, config=None):
            return f"body.block.{layer_idx}."

    try:
        named = {"cache_dir": str(tmp_path / "cache"), "device": "cpu", **QUICK}
        out = tmp_path / "out"
        with pytest.raises(sli.UnsupportedArchitectureError, match="own") as caught:
            sli.UniversalSLIIntegrator(str(own), str(out), **named).run_sli(texts)
        assert "weight_names" in caught.value.hint
        family = sli.ArchitectureRegistry.get_family("own")
        family.base_model_type = "llama"
        family.weight_names = {"body.block.{}.": "model.layers.{}.", "words.": "model.embed_tokens.", "last.": "model.norm."}
        results = sli.UniversalSLIIntegrator(str(own), str(out), **named).run_sli(texts)
        expected = sli.run(model, texts, **QUICK)
        assert results.scores["sum_logprob"] == expected.scores["sum_logprob"]
        weights = sli.UniversalWeightLoader(own).load_layer_weights(1)
        assert "self_attn.q_proj.weight" in weights
    finally:
        sli.ArchitectureRegistry.unregister("own")


def test_what_is_registered_overrides_only_its_own_id():
    class Other(sli.ArchitectureFamily):
        family_id = "other"
        model_types = ("llama",)

    registry = sli.ArchitectureRegistry
    registry.register(Other)
    try:
        assert registry.detect_family({"model_type": "llama"}).family_id == "llama"
        Other.family_id = "llama"
        registry.register(Other())
        assert isinstance(registry.detect_family({"model_type": "llama"}), Other)
    finally:
        registry.unregister("other")
        registry.unregister("llama")
    assert isinstance(registry.detect_family({"model_type": "llama"}), sli.LlamaFamilyHandler)
    with pytest.raises(TypeError):
        registry.register(object())


def _file(entry: dict, data: bytes) -> bytes:
    header = json.dumps({"model.layers.0.x": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x02" + bytes(7) + b"[]",
        _file({"dtype": "F32", "shape": [2]}, bytes(8)),
        _file({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, bytes(4)),
        _file({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}, bytes(8)),
        _file({"dtype": "BF16", "shape": [-2, -1], "data_offsets": [0, 4]}, bytes(8)),
        _file({"dtype": "F32", "shape": "3", "data_offsets": [0, 12]}, bytes(12)),
        _file({"dtype": 3, "shape": [1], "data_offsets": [8, 4]}, bytes(8)),
    ],
)
def test_damaged_files_are_refused(model, tmp_path, content):
    shutil.copyfile(model / "config.json", tmp_path / "config.json")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(sli.ModelError, match=r"model\.safetensors") as caught:
        sli.UniversalWeightLoader(tmp_path).load_layer_weights(0)
    assert caught.value.hint


@pytest.mark.parametrize(
    "index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": "gone"}}']
)
def test_damaged_indices_are_refused(model, tmp_path, index):
    shutil.copyfile(model / "config.json", tmp_path / "config.json")
    (tmp_path / "part.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(sli.ModelError, match="index|gone") as caught:
        sli.UniversalWeightLoader(tmp_path).load_layer_weights(0)
    assert caught.value.hint


def test_wrong_arguments_say_what_is_wanted(config, model, tmp_path):
    with pytest.raises(TypeError, match="layer_idx must be a number"):
        sli.UniversalLayerFactory.create_layer(config, "first")
    layer = sli.UniversalLayerFactory.create_layer(config, 0)
    with pytest.raises(TypeError, match="maps names to arrays"):
        layer.load_state_dict(None)
    with pytest.raises(TypeError, match="numbers are wanted"):
        layer.load_state_dict(dict.fromkeys(layer.state_dict_names(), "x"))

    class Own(sli.ArchitectureFamily):
        family_id = "own"
        model_types = ("own",)
        base_model_type = "llama"
        weight_names = {"model.layers.{}.": "model.layers.{}.{}."}

    own = tmp_path / "own"
    shutil.copytree(model, own)
    (own / "config.json").write_text(json.dumps({**config, "model_type": "own"}))
    sli.ArchitectureRegistry.register(Own)
    try:
        with pytest.raises(sli.UsageError, match="has not the places"):
            sli.UniversalSLIIntegrator(own, tmp_path / "out", tmp_path / "cache", device="cpu").run_sli(["a"])
    finally:
        sli.ArchitectureRegistry.unregister("own")


def test_every_spelling_of_a_layer_is_taken(model, config, tmp_path):
    # As a model without a head is saved.
    shutil.copytree(model, tmp_path / "base")
    header, begin = struct.unpack("<Q", (model / "model.safetensors").read_bytes()[:8])[0], 8
    content = (model / "model.safetensors").read_bytes()
    names = json.loads(content[begin : begin + header])
    renamed = json.dumps({name.removeprefix("model."): entry for name, entry in names.items()}).encode()
    path = tmp_path / "base" / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(renamed)) + renamed + content[begin + header :])
    expected = sli.UniversalWeightLoader(model).load_layer_weights(1)
    found = sli.UniversalWeightLoader(tmp_path / "base").load_layer_weights(1)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    mapper = sli.WeightNameMapper(sli.ArchitectureRegistry.detect_family(config), config)
    assert mapper.layer_of("layers.4.mlp.up_proj.weight") == mapper.layer_of("model.layers.4.mlp.up_proj.weight") == 4
    mapping = sli.UniversalLayerFactory.get_weight_mapping(config, 2)
    assert mapping["mlp.up_proj.weight"] == "model.layers.2.mlp.up_proj.weight"

    bert = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    layer = sli.UniversalLayerFactory.create_layer(bert, 1)
    names = layer.state_dict_names()
    assert len([name for name in names if "LayerNorm" in name]) == 4
    old = [name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta") for name in names]
    for spelled in (names, old):
        given = dict.fromkeys(spelled, np.zeros(8, "f4"))
        assert layer.load_state_dict(given, strict=False) == ([], [])
        first = given.popitem()[0]
        assert layer.load_state_dict(given, strict=False) == ([first], [])


def test_layers_that_cannot_stand_alone_are_refused():
    for config, says in (
        # How much a layer adds depends on how many there are.
        ({"model_type": "esmc", "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}, "layer 1 cannot stand alone"),
        ({"model_type": "t5"}, "decoder, encoder cannot stand alone"),
        ({"model_type": "whisper"}, "decoder, encoder cannot stand alone"),
    ):
        with pytest.raises(sli.UnsupportedArchitectureError, match=says) as caught:
            sli.UniversalLayerFactory.create_layer(config, 1)
        assert "take=['hidden']" in caught.value.hint

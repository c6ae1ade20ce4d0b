"""Writes the folders of crates/sli/tests/sentences/folders, and what sentence-transformers 6.2 makes of them.

    python tools/sentences/goldens.py

Of the folders that `folders.py` draws, the few that together have every layout, module and setting."""

import json
import shutil
import tempfile
from pathlib import Path

from compare import reference
from folders import TEXTS, draw_folder

FOLDERS = Path(__file__).resolve().parent.parent.parent / "crates/sli/tests/sentences/folders"
SEEDS = range(600)
MOST_BYTES = 26_000


def traits(folder, prompt):
    """What a folder shows."""
    found = {"plain"} if not (folder / "modules.json").exists() else {"modules"}
    if (folder / "0_Transformer").exists(): found.add("inner")
    inner = folder / "0_Transformer" if "inner" in found else folder
    found.add("type " + json.loads((inner / "config.json").read_text())["model_type"])
    settings = [p for p in inner.glob("sentence_*_config.json")]
    for path in settings if "modules" in found else []:
        found.add("name " + path.name)
        found |= {f"{k}" for k, v in json.loads(path.read_text()).items() if v}
    tokenizer = json.loads((inner / "tokenizer_config.json").read_text())
    if "truncation_side" in tokenizer: found.add("left")
    if tokenizer.get("model_max_length", 999) < 100 and not settings: found.add("model_max_length")
    if "plain" in found: return found | {"causal " + str("ForCausalLM" in (folder / "config.json").read_text())}
    for module in json.loads((folder / "modules.json").read_text()):
        config = folder / module["path"] / "config.json"
        config = json.loads(config.read_text()) if module["path"].strip("./") and config.exists() else {}
        kind = module["type"].split(".")[-1]
        found |= {kind, "path " + "".join(c for c in module["path"] if c in "./")}
        if kind == "Pooling": found |= {f"{k} {v}" for k, v in config.items() if v is not False and "dimension" not in k} | {f"include {config.get('include_prompt')}"}
        elif kind == "Dense": found |= {str(config.get("activation_function")), f"bias {config['bias']}", f"residual {config.get('use_residual')}", str(config.get("module_input_name"))}
    whole = folder / "config_sentence_transformers.json"
    whole = json.loads(whole.read_text()) if whole.exists() else {}
    if whole.get("truncate_dim"): found.add("truncate_dim")
    if prompt: found.add("asked " + prompt)
    elif whole.get("default_prompt_name"): found.add("default " + whole["default_prompt_name"])
    return found


def main():
    shutil.rmtree(FOLDERS, ignore_errors=True)
    drawn = {}
    with tempfile.TemporaryDirectory() as place:
        for seed in SEEDS:
            folder = Path(place) / str(seed)
            prompt = draw_folder(seed, folder)
            for path in folder.rglob("*.json"): path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False) + "\n")
            if sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= MOST_BYTES: drawn[seed] = (folder, prompt, traits(folder, prompt))
        missing = set().union(*(t for _, _, t in drawn.values()))
        missing = {trait for trait in missing if not trait.startswith("pooling_mode")} | {"pooling_mode_lasttoken True"}
        while missing:
            seed = max(drawn, key=lambda s: (len(drawn[s][2] & missing), -s))
            folder, prompt, shown = drawn.pop(seed)
            if not shown & missing: break
            try: vectors, cut, _ = reference(folder, TEXTS, prompt)
            except AssertionError as error:
                print(seed, error)
                continue
            missing -= shown
            shutil.copytree(folder, FOLDERS / f"{seed:03}" / "model")
            rounded = [v and [round(x, 6) for x in v] for v in vectors]
            (FOLDERS / f"{seed:03}" / "expected.json").write_text(json.dumps({"prompt": prompt, "cut": cut, "embeddings": rounded}) + "\n")
            print(seed, len(shown), "left", len(missing))
        print("not shown:", sorted(missing))
    (FOLDERS / "texts.json").write_text(json.dumps(TEXTS, ensure_ascii=False) + "\n")


main()

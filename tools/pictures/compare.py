"""Compares the prepared pictures of sli-pictures with those of transformers.

    cargo build --release -p sli-pictures --example prepare
    python tools/pictures/compare.py target/release/examples/prepare [CLASS...]

For every class that is prepared: its defaults and variants of them (`variants.json`), records of one picture of many sizes and of
several. A case fails where shapes or whole numbers differ, or where more than one of a thousand numbers differs by more than a
step of 8 bits.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file

from draw import picture

HERE = Path(__file__).parent
SIZES = [(97, 131), (480, 640), (640, 480), (224, 224), (31, 33), (20, 300), (700, 90), (1024, 1024), (1200, 900), (336, 672), (385, 383), (1, 1)]
SEVERAL = [[(120, 90), (90, 120)], [(300, 200), (300, 200), (64, 500)]]
# What the class returns beside tensors, for its own processor of texts.
BESIDE = {"num_crops", "num_patches", "num_tiles", "num_soft_tokens_per_image", "grids", "aspect_ratios", "rows", "cols"}
# Classes whose pictures of a record are a list of their own.
NESTED = {"Idefics2ImageProcessor", "Idefics3ImageProcessor", "SmolVLMImageProcessor", "MllamaImageProcessor", "LlavaOnevisionImageProcessor"}


def classes():
    text = (HERE.parents[1] / "crates/sli-pictures/src/ways/mod.rs").read_text()
    return [line.split('"')[1] for line in text.splitlines() if line.startswith('    ("')]


def reference(name, settings, pictures):
    """The tensors of the reference for a record, or what it says."""
    try:
        processor = getattr(transformers, name)(**settings)
        images = [Image.fromarray(picture) for picture in pictures]
        made = processor([images] if name in NESTED else images, return_tensors="pt")
    except Exception as error:
        return str(error) or repr(error)
    if isinstance(made, torch.Tensor):
        # IDEFICS' class gives nothing else.
        made = {"pixel_values": made}
    tensors = {}
    for key, value in made.items():
        if key in BESIDE:
            continue
        if not isinstance(value, torch.Tensor):
            return f"{key} is no tensor"
        tensors[key] = value.float().numpy() if value.is_floating_point() or value.dtype == torch.uint8 else value.long().numpy()
    return tensors


def step(settings, processor):
    """A step of 8 bits in what is prepared."""
    deviation = np.min(processor.image_std) if processor.do_normalize and processor.image_std is not None else 1.0
    factor = processor.rescale_factor if processor.do_rescale and processor.rescale_factor else 1.0
    return abs(factor / deviation)


def compared(name, settings, expected, path):
    """What differs, and how much at most."""
    if not path.exists():
        return None if isinstance(expected, str) else "ours refuses"
    ours = load_file(path)
    if isinstance(expected, str):
        return f"ours takes what is refused: {expected[:100]}"
    if set(ours) != set(expected):
        return f"tensors {sorted(ours)}, not {sorted(expected)}"
    limit = step(settings, getattr(transformers, name)(**settings))
    worst = 0.0
    for key, theirs in expected.items():
        mine = ours[key]
        if mine.shape != theirs.shape:
            return f"{key} is {mine.shape}, not {theirs.shape}"
        if mine.dtype == np.int64:
            if not np.array_equal(mine, theirs):
                return f"{key} differs: {mine.ravel()[:12]}, not {theirs.ravel()[:12]}"
            continue
        differences = np.abs(mine - theirs)
        if (differences > limit).mean() > 0.001:
            return f"{key}: {(differences > limit).mean():.2%} differ by more than {limit:.4f}, at most {differences.max():.4f}"
        worst = max(worst, differences.max() / limit)
    return worst


def main():
    program, *only = sys.argv[1:]
    variants = json.loads((HERE / "variants.json").read_text())
    failed, cases = 0, 0
    for name in classes():
        if only and name not in only:
            continue
        worst, refused = 0.0, 0
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            jobs = []
            for variant, settings in enumerate([{}, *variants.get(name, [])]):
                for record in [[size] for size in SIZES] + SEVERAL:
                    drawn = [picture(*size, seed=at) for at, size in enumerate(record)]
                    paths = []
                    for at, array in enumerate(drawn):
                        path = folder / f"{len(jobs)}-{at}.png"
                        Image.fromarray(array).save(path, compress_level=1)
                        paths.append(str(path))
                    jobs.append((settings, record, drawn, paths, folder / f"{len(jobs)}.safetensors"))
            lines = [
                json.dumps({"settings": settings | {"image_processor_type": name}, "pictures": paths, "out": str(out)})
                for settings, _, _, paths, out in jobs
            ]
            said = subprocess.run([program], input="\n".join(lines), text=True, capture_output=True, check=True)
            for settings, record, drawn, _, out in jobs:
                expected = reference(name, settings, drawn)
                cases += 1
                found = compared(name, settings, expected, out)
                if found is None:
                    refused += 1
                elif isinstance(found, str):
                    failed += 1
                    reason = [line for line in said.stderr.splitlines() if str(out) in line]
                    print(f"{name} {settings} {record}: {found} {reason[0].split(': ', 1)[1] if reason else ''}")
                else:
                    worst = max(worst, found)
        print(f"{name}: {len(jobs)} cases, {refused} refused by both, {worst:.6f} of a step at most", flush=True)
    print(f"{cases} cases, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

"""The images of the README: `python -m benchmarks.pictures` draws them anew into docs/images.

The photographs come with scikit-image, the scenes with muse; everything is drawn by the tokenizer that ships.
"""

import os
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from skimage import data

from muse_cli.main import main
from muse_core import api
from muse_core.data.sample import Sample
from muse_core.data.source import open_source
from muse_core.viz.grids import sample_labels, sample_strip
from muse_core.viz.maps import AttentionMap, Scene, times_uniform, with_queries
from muse_core.viz.pixels import common_end

FOLDER = Path(__file__).parents[1] / "docs" / "images"
PHOTOGRAPHS = ("chelsea", "coffee")
SCENES = 6
WIDTH = 1230
"""Pixels of the figure: a README shows fewer."""


def attention(target: Path) -> None:
    """Draw where the shipped tokenizer, the encoder it was made from and the teacher look in photographs."""
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / f"{name}.png" for name in PHOTOGRAPHS]
        for file, name in zip(files, PHOTOGRAPHS, strict=True):
            Image.fromarray(getattr(data, name)()).save(file)
        arguments = ["--checkpoint", "tiny", "--against", "tiny-encoder", "--teacher"]
        code = main(["attn-viz", *map(str, files), *arguments, "--out", str(target), "--overwrite"])
    if code:
        raise SystemExit(code)
    with Image.open(target) as drawn:
        smaller = drawn.convert("RGB").resize(
            (WIDTH, round(drawn.height * WIDTH / drawn.width)), Image.Resampling.LANCZOS
        )
    smaller.save(target, optimize=True)


def samples(target: Path) -> None:
    """Draw held-out scenes, what is rebuilt of them, and where the most decided patch and its teacher look."""
    tokenizer: Any = api.load_tokenizer("tiny")
    taken = [sample for sample in open_source(f"demo:val:{SCENES}").once() if isinstance(sample, Sample)]
    images = torch.stack([torch.tensor(sample.image) for sample in taken]).permute(0, 3, 1, 2).float() / 255
    size = (images.shape[-2], images.shape[-1])
    rebuilt = tokenizer.decode(tokenizer.encode(images).z, size).clamp(0, 1)
    seen = tokenizer.attention(images)
    taught = api.load_teacher(tokenizer)(images, seen.grid)
    rows, queries = [], []
    for image, made, own, goal in zip(images, rebuilt, seen.patches(), taught, strict=True):
        scene = with_queries(Scene(image.numpy(), (AttentionMap("tiny", own.numpy(), seen.grid),)))
        patch = scene.maps[0].patch_at(*scene.queries[0], scene.size)
        maps = (scene.maps[0], AttentionMap("teacher", goal.numpy(), seen.grid))
        queries.append(((scene.queries[0][0] + 0.5) / size[1], (scene.queries[0][1] + 0.5) / size[0]))
        rows.append([image.numpy(), made.numpy(), *(times_uniform(each, patch).reshape(seen.grid) for each in maps)])
    end = common_end([part for row in rows for part in row[2:]])
    stream = BytesIO()
    strip = sample_strip(rows, sample_labels(end), side=128, across=2, end=end, queries=queries)
    strip.save(stream, "PNG", optimize=True)
    target.write_bytes(stream.getvalue())


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    attention(FOLDER / "attention.png")
    samples(FOLDER / "samples.png")
